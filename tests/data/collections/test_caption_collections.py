import json

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
    for entry, key in (('{"id": "1", "text": "A bell."}', "caption"), ('{"caption": "A"}', "id")):
        path.write_text(f'{{"data": [{entry}]}}')
        with pytest.raises(ValueError, match=rf"fsd_final.json: no entry has a key '{key}'.*first"):
            caption_collections.wavcaps(root)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"fsd_final.json: no list `data`"):
        caption_collections.wavcaps(root)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda entry: entry.pop("id"), "no id"),
        (lambda entry: entry.update(id=None), "no id"),
        (lambda entry: entry.pop("caption"), "no caption"),
        (lambda entry: entry.update(caption=None), "no caption"),
        (lambda entry: entry.update(caption=[" "]), "no caption"),
    ],
)
def test_one_entry_of_wavcaps_that_says_too_little_is_listed(tmp_path, change, why):
    root = collection_files.wavcaps(tmp_path)
    path = root / "json_files/FreeSound/fsd_final.json"
    content = json.loads(path.read_text())
    change(content["data"][1])
    path.write_text(json.dumps(content))
    contents = caption_collections.wavcaps(root)
    assert len(contents.items) == 4
    assert f"{path}, entry 1: {why}" in dict(contents.skipped).values()


def test_a_row_without_audio_is_listed_by_its_line(tmp_path):
    clotho, audiocaps = tmp_path / "clotho", tmp_path / "audiocaps"
    (collection_files.clotho(clotho) / "development/dog.wav").unlink()
    (collection_files.audiocaps(audiocaps) / "audio/train/YAbCdEfGh_-1.wav").unlink()
    missing = dict(caption_collections.clotho(clotho).skipped)
    assert missing == {"dog.wav": f"{clotho}/clotho_captions_development.csv, line 3: not found"}
    missing = dict(caption_collections.audiocaps(audiocaps).skipped)
    assert missing == {"AbCdEfGh_-1": f"{audiocaps}/dataset/train.csv, line 2: not found"}


def test_of_a_file_twice_in_the_metadata_of_clotho_the_first_row_counts(tmp_path):
    root = collection_files.clotho(tmp_path)
    path = root / "clotho_metadata_development.csv"
    path.write_bytes(path.read_bytes() + b"dog.wav,dog,999021,,,someone,CC0\n")
    contents = caption_collections.clotho(root)
    assert contents.notes[0] == f"{path}, line 4: 'dog.wav' again; its first row counts"
    assert [(item.licence, item.source) for item in contents.items][1] == ("unknown", "")


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
