import re

import pytest
import set_files

from flamlib.data.collections import class_collections
from flamlib.data.collections.items import TEST, TRAIN, VALID


def test_the_last_fold_of_esc50_is_held_out(tmp_path):
    root = set_files.esc50(tmp_path)
    contents = class_collections.esc50(root)
    assert [(i.caption, i.split, i.source) for i in contents.items] == [
        ("dog", TRAIN, "freesound:999001"),
        ("car horn", TEST, "freesound:999002"),
    ]
    assert contents.notes == ["esc50: fold 5 is held out for the test, fold 4 for validation"]
    assert contents.held_out.keys() == {"freesound:999002"}
    [(name, why)] = contents.skipped
    assert name == "1-999001-B-0.wav"
    assert re.fullmatch(r".*esc50.csv, line \d: not found", why)


@pytest.mark.parametrize(
    ("fold", "splits"), [(5, [TEST, TRAIN]), (6, [VALID, TRAIN]), (1, [TRAIN, VALID])]
)
def test_a_fold_of_urbansound8k_is_held_out(tmp_path, fold, splits):
    contents = class_collections.urbansound8k(set_files.urbansound8k(tmp_path), test_fold=fold)
    assert [i.split for i in contents.items] == splits
    assert contents.items[0].caption == "dog bark"


def test_there_is_no_such_fold(tmp_path):
    with pytest.raises(ValueError, match="test_fold is 11, it has folds 1 to 10"):
        class_collections.urbansound8k(set_files.urbansound8k(tmp_path), test_fold=11)


def test_a_recording_without_a_row_is_listed(tmp_path):
    root = set_files.esc50(tmp_path)
    [folder] = {path.parent for path in root.rglob("*.wav")}
    set_files.write_audio(folder / "9-9-A-0.wav", 1.0)
    skipped = dict(class_collections.esc50(root).skipped)
    assert skipped["9-9-A-0.wav"] == "no row in the table"
