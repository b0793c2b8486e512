import collection_files
import pytest
from set_files import write_audio

from flamlib.data.collections import libraries
from flamlib.data.collections.items import AUTO, VALID


def test_folders_say_what_sounds(tmp_path):
    for name in ("animals/Dog_barking/a.wav", "valid/rain/b.flac", "c.wav", "2019/d.wav"):
        write_audio(tmp_path / name)
    (tmp_path / "rain.wma").write_bytes(b"x")
    contents = libraries.folder(tmp_path)
    assert [(i.caption, i.parents, i.split) for i in contents.items] == [
        ("dog barking", ("animals",), AUTO),
        ("rain", (), VALID),
    ]
    assert {name for name, _ in contents.skipped} >= {"c.wav", "2019/d.wav"}


def test_a_library_of_ucs_is_named_by_its_files(tmp_path):
    root = collection_files.ucs(tmp_path)
    contents = libraries.ucs(root, categories=root / "ucs.csv")
    found = {item.path.name.split("_")[0]: item for item in contents.items}
    lid, door = found["METLImpt-MINE"], found["DOORWood"]
    assert (lid.caption, lid.family, lid.parents) == ("pot lid drop", "metal: impact", ("metal",))
    assert lid.wordings == ("A lid drops on a table",)
    assert door.caption == "wooden door creak"
    assert len({item.group for item in contents.items}) == 2, "takes are one group"
    skipped = dict(contents.skipped)
    assert "did you mean 'DOORWood'?" in skipped["DOORWod_Knock_NB_Attic.wav"]
    assert "CatID_FXName" in skipped["take 3.wav"]


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_the_list_may_be_one_of_excel_with_semicolons(tmp_path, start):
    root = collection_files.ucs(tmp_path)
    table = root / "ucs.csv"
    with_commas = libraries.ucs(root, categories=table)
    rows = "Category;SubCategory;CatID;Explanations\r\nDOORS;WOOD;DOORWood;Doors, of wood\r\n"
    table.write_text(f"{start}{rows}METAL;IMPACT;METLImpt;\r\n", encoding="utf-8", newline="")
    assert libraries.ucs(root, categories=table) == with_commas


def test_without_the_list_of_categories_every_name_counts(tmp_path):
    contents = libraries.ucs(collection_files.ucs(tmp_path))
    assert len(contents.items) == 4
    assert {item.family for item in contents.items} == {"doorwood", "doorwod", "metlimpt"}


def test_a_list_with_other_columns_is_refused(tmp_path):
    root = collection_files.ucs(tmp_path)
    (root / "ucs.csv").write_text("Category,Sub,CatID\nA,B,C\n")
    with pytest.raises(ValueError, match=r"ucs.csv, line 1: no column SubCategory"):
        libraries.ucs(root, categories=root / "ucs.csv")


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"RIFF\xff\xff\xff\xffWAVEbext\xff\xff\xff\xffhi"]
)
def test_a_description_that_is_cut_off_is_what_is_there(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert libraries.description(path) in ("", "hi")


def test_a_description_may_be_ixml(tmp_path):
    path = tmp_path / "a.wav"
    text = b"<BWFXML><BEXT><BWF_DESCRIPTION>Gate  creaks</BWF_DESCRIPTION></BEXT></BWFXML>"
    path.write_bytes(b"RIFF\0\0\0\0WAVEiXML" + len(text).to_bytes(4, "little") + text)
    assert libraries.description(path) == "Gate creaks"
