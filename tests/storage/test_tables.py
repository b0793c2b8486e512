import csv
import io
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from set_files import write_text

from flamlib.storage import tables


def test_rows_know_where_they_stand(tmp_path):
    write_text(tmp_path / "t.csv", "b,extra,a", '1,x,"two, three"', "", "4,y,5")
    rows = tables.read(tmp_path / "t.csv", ("a", "b"), delimiter=",")
    assert [(row["a"], row["b"]) for row in rows] == [("two, three", "1"), ("5", "4")]
    assert [row.where for row in rows] == [f"{tmp_path / 't.csv'}, line {n}" for n in (2, 4)]
    assert rows[1].number("b") == 4.0


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path, newline, mark):
    write_text(tmp_path / "t.tsv", f"{mark}name\tlabel", 'käfer\tein "wort"', newline=newline)
    [row] = tables.read(tmp_path / "t.tsv", ("name", "label"), delimiter="\t")
    assert row.fields == {"name": "käfer", "label": 'ein "wort"'}


def test_without_a_header_the_first_row_is_a_row(tmp_path):
    write_text(tmp_path / "t.tsv", "0.0\t1.0\train")
    [row] = tables.read(tmp_path / "t.tsv", ("on", "off", "label"), delimiter="\t", header=False)
    assert row["label"] == "rain"


def test_a_row_may_end_early_only_where_that_is_allowed(tmp_path):
    write_text(tmp_path / "t.tsv", "a\tb\tc", "1")
    [row] = tables.read(tmp_path / "t.tsv", ("a",), delimiter="\t", short_rows=True)
    assert row.fields == {"a": "1", "b": "", "c": ""}
    with pytest.raises(ValueError, match=r"t.tsv, line 2: 1 fields, expected 3"):
        tables.read(tmp_path / "t.tsv", ("a",), delimiter="\t")


def test_what_is_no_such_table_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(FileNotFoundError):
        tables.read(path, ("a",), delimiter=",")
    write_text(path, "b,c")
    with pytest.raises(ValueError, match=r"t.csv, line 1: no column a; found \['b', 'c'\]"):
        tables.read(path, ("a",), delimiter=",")
    write_text(path)
    with pytest.raises(ValueError, match=r"t.csv: the file is empty; expected columns a"):
        tables.read(path, ("a",), delimiter=",")
    write_text(path, "a", "naïve", encoding="latin-1")
    with pytest.raises(ValueError, match=r"t.csv: not UTF-8 text"):
        tables.read(path, ("a",), delimiter=",")
    assert tables.read(path, ("a",), delimiter=",", encoding="latin-1")[0]["a"] == "naïve"
    write_text(path, "a", "1", '"never closed')
    with pytest.raises(ValueError, match=r"t.csv, line 3: "):
        tables.read(path, ("a",), delimiter=",")


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1,5", "1_0"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=rf"x, line 7: onset is {text!r}, expected a number"):
        tables.Row("x, line 7", {"onset": text}).number("onset")


def test_a_text_that_may_stand_once_is_named_with_both_lines(tmp_path):
    write_text(tmp_path / "t.csv", "id,x", "a,1", "b,1", "a,2")
    assert len(tables.read(tmp_path / "t.csv", ("id",), unique=None)) == 3
    with pytest.raises(ValueError, match=r"line 4: id 'a' is listed twice, first in .*line 2"):
        tables.read(tmp_path / "t.csv", ("id",), unique="id")


def test_a_column_that_must_be_filled_is_named(tmp_path):
    write_text(tmp_path / "t.csv", "id,x", "a,1", " ,1")
    with pytest.raises(ValueError, match=r"line 3: empty id"):
        tables.read(tmp_path / "t.csv", ("id",), filled=("id",))


def test_unknown_columns_are_kept_or_refused_with_the_nearest(tmp_path):
    write_text(tmp_path / "t.tsv", "path\tlicense\t\t", "a\tCC0")
    [row] = tables.read(tmp_path / "t.tsv", ("path",))
    assert row.fields == {"path": "a", "license": "CC0"}
    with pytest.raises(
        ValueError, match="line 1: unknown column 'license'; did you mean 'licence'"
    ):
        tables.read(tmp_path / "t.tsv", ("path",), optional=("licence",))


@pytest.mark.parametrize("header", ["path\tpath", "path\tx\tx", "path\tcaption\tcaption "])
@pytest.mark.parametrize("optional", [None, ("caption", "x")])
def test_a_column_that_stands_twice_is_refused(tmp_path, header, optional):
    write_text(tmp_path / "t.tsv", header, "a\tb\tc")
    with pytest.raises(ValueError, match=r"line 1: column '.*' stands twice"):
        tables.read(tmp_path / "t.tsv", ("path",), optional=optional)


def test_columns_without_a_name_may_be_several(tmp_path):
    write_text(tmp_path / "t.csv", ",,path,", "0,0,a,")
    [row] = tables.read(tmp_path / "t.csv", ("path",))
    assert row["path"] == "a"


@pytest.mark.parametrize(
    ("name", "header", "hint"),
    [
        ("t.tsv", "path,caption", "separated by commas, not tabs"),
        ("t.csv", "path;caption", "separated by semicolons, not commas"),
    ],
)
def test_other_separators_are_named(tmp_path, name, header, hint):
    write_text(tmp_path / name, header)
    with pytest.raises(ValueError, match=hint):
        tables.read(tmp_path / name, ("path", "caption"))


@pytest.mark.parametrize("name", ["t.tsv", "t.csv"])
@given(field=st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\t\r\n",')))
def test_a_row_ends_at_line_ends_and_nowhere_else(tmp_path_factory, name, field):
    path = tmp_path_factory.mktemp("table") / name
    for end in ("\n", "\r\n", "\r"):
        lines = ["a,b".replace(",", tables.delimiter_of(path))]
        lines += [f"x{tables.delimiter_of(path)}{field}"] * 2
        path.write_bytes(end.join([*lines, ""]).encode())
        assert [row.fields for row in tables.read(path, ("a", "b"))] == [{"a": "x", "b": field}] * 2


@pytest.mark.parametrize(
    ("name", "line"), [("t.csv", "1,2"), ("t.CSV", "1,2"), ("t.tsv", "1\t2"), ("t.csv", "1\t2")]
)
def test_the_separator_follows_the_suffix_or_is_a_tab(tmp_path, name, line):
    write_text(tmp_path / name, line.replace("1", "a").replace("2", "b"), line)
    assert tables.read(tmp_path / name, ("a", "b"))[0].fields == {"a": "1", "b": "2"}


def test_a_file_is_found_however_its_name_is_composed_and_its_folders_are_separated(tmp_path):
    forms = [
        unicodedata.normalize(form, "T\u00fcr/caf\u00e9 \u2013 1.wav") for form in ("NFC", "NFD")
    ]
    (tmp_path / forms[1]).parent.mkdir()
    (tmp_path / forms[1]).write_bytes(b"")
    finder = tables.FileFinder(tmp_path)
    for name in [*forms, *(form.replace("/", "\\") for form in forms), f"./{forms[0]}"]:
        assert finder.find(name) == tmp_path / forms[1]
    # What is there by that very name is meant.
    for name in (forms[0], "Tu\u0308r\\a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
        assert tables.FileFinder(tmp_path).find(name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "x.wav", "b\\x.wav", "../out.wav", "..\\out.wav", "é" * 5000, "x" * 5000, "a\0"],
)
def test_what_is_not_in_the_folder_is_not_found(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.wav").write_bytes(b"")
    os.symlink("nowhere", tmp_path / "in/x.wav")
    assert tables.FileFinder(tmp_path / "in").find(name) is None
    assert tables.FileFinder(tmp_path / "nowhere").find(name) is None
    assert tables.FileFinder(tmp_path / "in").find(str(tmp_path / "out.wav")) is None


def test_a_link_is_followed_out_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.wav").write_bytes(b"")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/sub")
    assert tables.FileFinder(tmp_path / "in").find("sub/a.wav") == tmp_path / "in/sub/a.wav"


def test_one_text_in_two_spellings_is_listed_twice_where_texts_are_compared(tmp_path):
    write_text(tmp_path / "t.tsv", "name", "caf\u00e9", "cafe\u0301")
    with pytest.raises(ValueError, match=r"line 3: name .* is listed twice, first in .*line 2"):
        tables.read(tmp_path / "t.tsv", ("name",), unique="name")


def test_the_first_line_is_known_by_its_fields(tmp_path):
    write_text(tmp_path / "t.csv", "", '"file name","a, b",c\u00a0')
    assert tables.first_fields(tmp_path / "t.csv") == ["file name", "a, b", "c"]
    write_text(tmp_path / "t.tsv", '"a\tb"')
    assert tables.first_fields(tmp_path / "t.tsv") == ['"a', 'b"']
    write_text(tmp_path / "t.csv", "x" * 200_000)
    with pytest.raises(ValueError, match=r"t\.csv, line 1: field larger"):
        tables.first_fields(tmp_path / "t.csv")


def test_blank_lines_do_not_count_but_are_counted(tmp_path):
    write_text(tmp_path / "t.tsv", "", "a\tb", "\t", " ", "1\t2")
    [row] = tables.read(tmp_path / "t.tsv", ("a", "b"))
    assert row.where.endswith("line 5")


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        (['"a dog, barking"', "rain"], ["a dog, barking", "rain"]),  # as Excel saves them
        (['"say ""hi"""', '"rain; wind"'], ['say "hi"', "rain; wind"]),
        (['"on two\nlines"', "rain"], ["on two\nlines", "rain"]),
        (['"a 5"" nail"', '"""quoted"""'], ['a 5" nail', '"quoted"']),
        (['5"', "rain"], ['5"', "rain"]),  # as they are typed
        (['5"', '"a dog, barking"'], ['5"', '"a dog, barking"']),
        (['"hi" and "ho"', "rain"], ['"hi" and "ho"', "rain"]),
        (['"hi', 'ho"'], ['"hi', 'ho"']),
        (['"hi"', "rain"], ['"hi"', "rain"]),
        (['"', '""'], ['"', '""']),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
def test_quotes_of_a_spreadsheet_are_no_letters(tmp_path, fields, read, end, header):
    lines = ["path\tcaption"] * header + [f"a\t{field}" for field in fields]
    (tmp_path / "t.tsv").write_bytes(end.join([*lines, ""]).encode())
    rows = tables.read(tmp_path / "t.tsv", ("path", "caption"), header=header)
    assert [row["caption"] for row in rows] == read


def test_quotes_around_every_text_are_no_letters(tmp_path):
    write_text(tmp_path / "t.tsv", '"path"\t"caption"\t"onset"', '"a.wav"\t"rain"\t0.5')
    assert tables.first_fields(tmp_path / "t.tsv") == ["path", "caption", "onset"]
    [row] = tables.read(tmp_path / "t.tsv", ("path",))
    assert row.fields == {"path": "a.wav", "caption": "rain", "onset": "0.5"}


@given(
    st.lists(st.lists(st.text('", ;a'), min_size=2, max_size=2), min_size=1, max_size=4),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, rows, header):
    path = tmp_path_factory.mktemp("table") / "t.tsv"
    rows = [row for row in rows if any(field.strip() for field in row)]
    tables.write(path, [["x", "y"]] * header + rows)
    found = tables.read(path, ("x", "y"), header=header, short_rows=True)
    assert [list(row.fields.values()) for row in found] == rows


@given(st.lists(st.text('", ;a', min_size=1), min_size=1, max_size=4))
def test_other_readers_have_the_same_fields(texts):
    """Those that take quotation marks for quotes where a field begins, as pandas does."""
    rows = [["file", "label"], *(["a.wav", text] for text in texts)]
    lines = io.StringIO(tables.to_text(rows, "\t"))
    assert list(csv.reader(lines, delimiter="\t")) == rows


@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff"])
def test_a_file_with_nothing_in_it_is_called_empty(tmp_path, content):
    (tmp_path / "a.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a.tsv: the file is empty; expected columns id, x"):
        tables.read(tmp_path / "a.tsv", ("id", "x"))
    assert tables.read(tmp_path / "a.tsv", ("id", "x"), header=False) == []
