import public_sets
import pytest
from public_sets import write_text

from flamlib import label_sets


def test_esc50_keeps_its_folds(tmp_path):
    found = label_sets.esc50(public_sets.esc50(tmp_path))
    assert found.captions == ["car horn", "dog"]
    assert [(c.label, c.fold) for c in found.clips] == [("dog", 1), ("dog", 1), ("car horn", 5)]
    assert found.missing == ["1-999001-B-0.wav"]


def test_esc50_refuses_a_copy_with_other_names(tmp_path):
    root = public_sets.esc50(tmp_path)
    header = "filename,fold,target,category,esc10,src_file,take"
    write_text(
        root / "ESC-50-master/meta/esc50.csv", header, "dog-1-999001-A-0.wav,1,0,dog,True,999001,A"
    )
    with pytest.raises(
        ValueError, match=r"esc50.csv, line 2: 'dog-1-999001-A-0.wav' is not <fold>"
    ):
        label_sets.esc50(root)


def test_urbansound8k_is_found_in_its_folds(tmp_path):
    found = label_sets.urbansound8k(public_sets.urbansound8k(tmp_path))
    assert [(c.label, c.fold) for c in found.clips] == [
        ("dog bark", 5),
        ("children playing", 5),
        ("siren", 10),
    ]
    assert found.missing == ["999002-2-0-117.wav"]
    assert found.clips[0].duration_s == pytest.approx(0.05)


def test_urbansound8k_refuses_a_class_of_another_number(tmp_path):
    root = public_sets.urbansound8k(tmp_path)
    table = root / "metadata/UrbanSound8K.csv"
    table.write_text(table.read_text().replace(",5,3,dog_bark", ",5,4,dog_bark"))
    with pytest.raises(ValueError, match=r"line 2: classID 4 is not that of 'dog_bark'"):
        label_sets.urbansound8k(root)


def test_vggsound_finds_the_split_behind_a_label_with_commas(tmp_path):
    found = label_sets.vggsound(public_sets.vggsound(tmp_path))
    assert [(c.name, c.label) for c in found.clips] == [
        ("-zYxWvUtSr0_000001", "people marching"),
        ("ZZ11yY22xX3_000185", "playing marimba, xylophone"),
    ]
    assert found.captions == ["dog barking", "people marching", "playing marimba, xylophone"]
    assert not found.missing


def test_vggsound_refuses_an_id_that_is_none_and_a_clip_twice(tmp_path):
    root = public_sets.vggsound(tmp_path)
    write_text(root / "vggsound.csv", "short,1,rain,test")
    with pytest.raises(ValueError, match=r"line 1: 'short' is no YouTube id"):
        label_sets.vggsound(root)
    write_text(root / "vggsound.csv", *["-zYxWvUtSr0,1,rain,test"] * 2)
    with pytest.raises(ValueError, match=r"line 2: .* is listed again"):
        label_sets.vggsound(root)
