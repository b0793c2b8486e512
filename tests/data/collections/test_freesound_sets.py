import collection_files
import pytest

from flamlib.data.collections import freesound_sets
from flamlib.data.collections.items import TEST, TRAIN, VALID


def of(contents):
    return {item.path.stem: item for item in contents.items}


def test_fsd50k_is_named_after_its_narrowest_classes(tmp_path):
    contents = freesound_sets.fsd50k(collection_files.fsd50k(tmp_path))
    found = of(contents)
    assert {name: item.caption for name, item in found.items()} == {
        "999001": "bark",
        "999002": "walk, footsteps",
        "999003": "meow",
        "999004": "bark and walk, footsteps",
        "999008": "bark",
    }
    assert found["999002"].wordings == ["walk", "footsteps"]
    assert set(found["999004"].parents) == {"bark", "dog", "animal", "walk, footsteps"}
    assert {name: item.split for name, item in found.items()} == {
        **dict.fromkeys(("999001", "999002", "999004"), TRAIN),
        "999003": VALID,
        "999008": TEST,
    }
    assert found["999001"].source == "freesound:999001"
    assert found["999002"].licence == "Sampling+"
    assert found["999004"].licence == "unknown"
    assert contents.held_out.keys() == {"freesound:999003", "freesound:999008"}


def test_what_cannot_be_used_of_fsd50k_is_listed(tmp_path):
    contents = freesound_sets.fsd50k(collection_files.fsd50k(tmp_path))
    skipped = dict(contents.skipped)
    assert skipped.keys() == {"123.wav", "999005.wav", "999006.wav", "999007.wav"}
    assert skipped["123.wav"] == "no row in dev.csv"
    assert "dev.csv, line 7: no such recording" in skipped["999006.wav"]
    assert "line 8: only Dog, of which there are narrower classes" in skipped["999007.wav"]


def test_titles_of_fsd50k_are_for_training(tmp_path):
    found = of(freesound_sets.fsd50k(collection_files.fsd50k(tmp_path), titles=True))
    assert found["999001"].caption == ""
    assert found["999001"].facts["title"] == "Small_dog_barks 03.wav"
    assert found["999001"].facts["tags"] == "dog; bark"
    assert found["999001"].family == "bark"
    assert "bark" in found["999001"].parents
    assert found["999008"].caption == "bark"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("fname,", "name,", "no column fname"),
        (",val", ",valid", "line 4: split 'valid' is none of"),
        ("999002,", "999001,", "line 3: fname '999001' is listed twice"),
        (",train\r\n", ",train,x\r\n", "line 2: 5 fields, expected 4"),
    ],
)
def test_a_table_of_fsd50k_that_is_wrong_is_refused(tmp_path, old, new, why):
    root = collection_files.fsd50k(tmp_path)
    table = root / "FSD50K.ground_truth/dev.csv"
    table.write_bytes(table.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(ValueError, match=why):
        freesound_sets.fsd50k(root)


def test_downloads_of_freesound_are_described_by_their_json_files(tmp_path):
    contents = freesound_sets.freesound(collection_files.freesound(tmp_path))
    found = of(contents)
    assert found.keys() == {"999001__nobody__metal-gate", "999002", "999003__some_body__dog-bark"}
    gate = found["999001__nobody__metal-gate"]
    assert gate.facts["title"] == "Metal gate creaks.wav"
    assert gate.licence.endswith("/by-nc/4.0/")
    assert gate.source == "freesound:999001"
    assert found["999003__some_body__dog-bark"].facts == {"title": "dog-bark"}
    skipped = dict(contents.skipped)
    assert "999004.json: not JSON" in skipped["999004.wav"]
    assert skipped["again.wav"].startswith("Freesound 999001 again, first 999001__nobody")
    assert skipped["take one.wav"].startswith("no JSON file")


@pytest.mark.parametrize("number", [None, "none", ["a"], {}, True])
def test_without_a_number_the_names_count(tmp_path, number):
    root = collection_files.freesound(tmp_path)
    info = {"id": number, "name": "a bell", "license": {"no": "text"}}
    for name in ("sub/999002", "999004", "take one"):
        collection_files.write_json(root / f"{name}.json", info)
    found = of(freesound_sets.freesound(root))
    assert found["999002"].source == "freesound:999002"
    assert found["take one"].source == ""
    assert found["take one"].licence == "unknown"


def test_metadata_without_a_recording_or_without_words_are_listed(tmp_path):
    root = collection_files.freesound(tmp_path)
    collection_files.write_json(root / "sub/999005.json", collection_files.OWL)
    collection_files.write_json(root / "take one.json", {"count": 1, "results": []})
    skipped = dict(freesound_sets.freesound(root).skipped)
    assert skipped["sub/999005.json"] == "no recording of its name beside it"
    assert skipped["take one.wav"].startswith(f"{root}/take one.json: neither name, tags nor")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "a list or value"), ('{"999001": 7}', "what it says of '999001' is no object")],
)
def test_metadata_of_another_form_are_refused_by_file(tmp_path, content, message):
    root = collection_files.fsd50k(tmp_path)
    (root / "FSD50K.metadata/dev_clips_info_FSD50K.json").write_text(content)
    with pytest.raises(ValueError, match=f"dev_clips_info_FSD50K.json: {message}"):
        freesound_sets.fsd50k(root)


def test_no_licence_is_an_unknown_one(tmp_path):
    root = collection_files.fsd50k(tmp_path)
    path = root / "FSD50K.metadata/dev_clips_info_FSD50K.json"
    path.write_text('{"999001": {"title": "a dog", "license": null}}')
    assert of(freesound_sets.fsd50k(root))["999001"].licence == "unknown"
