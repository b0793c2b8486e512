from contextlib import suppress

import pytest

from flamlib.inference.edited_tables import NAME, Tables
from flamlib.storage import files


def write(folder, name, content):
    with Tables.of(folder, is_known=False) as tables:
        return tables.write(name, content)


def test_a_table_follows_what_is_found_until_somebody_edits_it(tmp_path):
    table = tmp_path / "a.txt"
    assert write(tmp_path, "a.txt", b"one")
    assert table.read_bytes() == b"one"
    assert write(tmp_path, "a.txt", b"two")
    assert table.read_bytes() == b"two"
    table.write_bytes(b"mine")
    assert not write(tmp_path, "a.txt", b"three")
    assert table.read_bytes() == b"mine"
    table.unlink()
    assert write(tmp_path, "a.txt", b"three")
    assert table.read_bytes() == b"three"


def test_what_was_there_before_the_first_table_is_not_written_over_later(tmp_path):
    write(tmp_path, "a.txt", b"one")
    (tmp_path / "b.txt").write_bytes(b"mine")
    with Tables.of(tmp_path, is_known=True) as tables:
        assert tables.is_edited("b.txt")
        assert not tables.is_edited("a.txt")
        assert not tables.is_edited("c.txt")


def test_all_tables_of_a_folder_without_a_list_are_taken_for_unchanged(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(b"old")
    with Tables.of(tmp_path, is_known=True) as tables:
        assert tables.write("a.txt", b"new")
        assert tables.write("b.txt", b"new")
    assert (tmp_path / "b.txt").read_bytes() == b"new"


def test_a_table_in_a_folder_without_results_is_nobody_s_to_replace(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"mine")
    for is_known in (False, True):  # the second goes on with the first
        with Tables.of(tmp_path, is_known=is_known) as tables:
            assert tables.is_edited("a.txt")
            assert not tables.write("a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("at", ["_append", "atomic_write"])
def test_a_kill_between_list_and_table_leaves_nothing_that_looks_edited(tmp_path, monkeypatch, at):
    write(tmp_path, "a.txt", b"one")

    def killed(*_):
        raise KeyboardInterrupt

    with (
        monkeypatch.context() as patch,
        suppress(KeyboardInterrupt),
        Tables.of(tmp_path, is_known=True) as tables,
    ):
        patch.setattr(tables if at == "_append" else files, at, killed)
        tables.write("a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"one"
    assert write(tmp_path, "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"


def test_the_same_content_is_listed_once(tmp_path):
    for _ in range(3):
        write(tmp_path, "a.txt", b"one")
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 1
