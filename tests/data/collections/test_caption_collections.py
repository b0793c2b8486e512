import collection_files
import pytest

from flamlib.data.collections import caption_collections
from flamlib.data.collections.items import TEST


def test_wavcaps_is_read_from_the_files_that_are_there(tmp_path):
    contents = caption_collections.wavcaps(collection_files.wavcaps(tmp_path))
    captions = {item.source: item.caption for item in contents.items}
    assert captions == {
        "freesound:999001": "A bell rings once.",
        "freesound:999010": "Rain falls on a roof.",
        "freesound:999011": "A door closes, then a dog barks.",
        "youtube:-zYxWvUtSr0": "A dog barks.",
        "youtube:AbCdEfGh_-1": "A cow moos.",
    }
    assert contents.held_out.keys() == {"youtube:AbCdEfGh_-1", "freesound:999099"}
    skipped = [(name, why.partition("entry ")[2]) for name, why in contents.skipped]
    assert skipped == [
        ("gone", "3: no such recording"),
        ("999001", "4: its id is listed again, first as entry 0"),
    ]


def test_a_file_of_wavcaps_with_other_keys_is_refused(tmp_path):
    root = collection_files.wavcaps(tmp_path)
    path = root / "json_files/FreeSound/fsd_final.json"
    path.write_text('{"data": [{"id": "1", "text": "A bell."}]}')
    with pytest.raises(ValueError, match=r"fsd_final.json, entry 0: no caption; found \['id', 't"):
        caption_collections.wavcaps(root)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"fsd_final.json: no list `data`"):
        caption_collections.wavcaps(root)


def test_clotho_is_trained_on_but_not_its_evaluation(tmp_path):
    contents = caption_collections.clotho(collection_files.clotho(tmp_path))
    cafe, dog = contents.items
    assert cafe.caption == "Rain falls."
    assert cafe.source == "freesound:999020"
    assert "zero" in cafe.licence
    assert dog.source == ""
    assert contents.held_out["freesound:999001"][0] == TEST
    assert "clotho_metadata_validation.csv is not there" in contents.notes[0]


def test_audiocaps_is_trained_on_but_not_its_test(tmp_path):
    contents = caption_collections.audiocaps(collection_files.audiocaps(tmp_path))
    assert [item.source for item in contents.items] == [
        "youtube:AbCdEfGh_-1",
        "youtube:-zYxWvUtSr0",
    ]
    assert list(contents.held_out) == ["youtube:-zYxWvUtSr0"]
