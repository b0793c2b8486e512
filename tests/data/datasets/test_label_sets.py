import numpy as np
import pytest
import set_files
import soundfile
from set_files import write_text

from flamlib.data.datasets import label_sets
from flamlib.waveforms import audio


def test_esc50_keeps_its_folds(tmp_path):
    found = label_sets.esc50(set_files.esc50(tmp_path))
    assert found.captions == ["car horn", "dog"]
    assert [(c.label, c.fold) for c in found.clips] == [("dog", 1), ("dog", 1), ("car horn", 5)]
    assert found.missing == ["1-999001-B-0.wav"]


def test_esc50_refuses_a_copy_with_other_names(tmp_path):
    root = set_files.esc50(tmp_path)
    header = "filename,fold,target,category,esc10,src_file,take"
    write_text(
        root / "ESC-50-master/meta/esc50.csv", header, "dog-1-999001-A-0.wav,1,0,dog,True,999001,A"
    )
    with pytest.raises(
        ValueError, match=r"esc50.csv, line 2: 'dog-1-999001-A-0.wav' is not <fold>"
    ):
        label_sets.esc50(root)


def test_esc50_refuses_a_class_of_another_number_or_name(tmp_path):
    root = set_files.esc50(tmp_path)
    table = root / "ESC-50-master/meta/esc50.csv"
    listed = table.read_text()
    table.write_text(listed.replace("43,car_horn", "43,siren"))
    with pytest.raises(ValueError, match=r"line 4: target 43 is not that of 'siren'"):
        label_sets.esc50(root)
    table.write_text(listed.replace("43,car_horn", "43,car_hron"))
    with pytest.raises(ValueError, match=r"line 4: unknown label 'car_hron'; did you mean"):
        label_sets.esc50(root)


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "MS_ADPCM", "IMA_ADPCM", "ULAW"])
def test_urbansound8k_holds_wav_files_of_many_kinds(tmp_path, subtype):
    root = set_files.urbansound8k(tmp_path)
    path = root / "audio/fold10/999003-8-1-4.wav"
    tone = 0.5 * np.sin(np.arange(8000) / 9)
    soundfile.write(path, np.stack([tone, tone], axis=1), 11025, subtype=subtype)
    clip = label_sets.urbansound8k(root).clips[2]
    assert clip.duration_s == pytest.approx(8000 / 11025, abs=0.05)  # ADPCM fills its last block
    waveform, rate = audio.read(clip.path)
    assert rate == 11025
    assert waveform[50:8000] == pytest.approx(tone[50:], abs=0.05)  # ADPCM has to find its step


def test_urbansound8k_is_found_in_its_folds(tmp_path):
    found = label_sets.urbansound8k(set_files.urbansound8k(tmp_path))
    assert [(c.label, c.fold) for c in found.clips] == [
        ("dog bark", 5),
        ("children playing", 5),
        ("siren", 10),
    ]
    assert found.missing == ["999002-2-0-117.wav"]
    assert found.clips[0].duration_s == pytest.approx(0.05)


def test_urbansound8k_is_found_whatever_its_suffix(tmp_path):
    root = set_files.urbansound8k(tmp_path)
    path = root / "audio/fold10/999003-8-1-4.wav"
    soundfile.write(path.with_suffix(".flac"), *soundfile.read(path))
    path.unlink()
    assert label_sets.urbansound8k(root).clips[2].path == path.with_suffix(".flac")


def test_urbansound8k_refuses_a_class_of_another_number(tmp_path):
    root = set_files.urbansound8k(tmp_path)
    table = root / "metadata/UrbanSound8K.csv"
    table.write_text(table.read_text().replace(",5,3,dog_bark", ",5,4,dog_bark"))
    with pytest.raises(ValueError, match=r"line 2: classID 4 is not that of 'dog_bark'"):
        label_sets.urbansound8k(root)


def test_vggsound_finds_the_split_behind_a_label_with_commas(tmp_path):
    found = label_sets.vggsound(set_files.vggsound(tmp_path))
    assert [(c.name, c.label) for c in found.clips] == [
        ("-zYxWvUtSr0_000001", "people marching"),
        ("ZZ11yY22xX3_000185", "playing marimba, xylophone"),
    ]
    assert found.captions == ["dog barking", "people marching", "playing marimba, xylophone"]
    assert not found.missing


def test_vggsound_refuses_an_id_that_is_none_and_a_clip_twice(tmp_path):
    root = set_files.vggsound(tmp_path)
    write_text(root / "vggsound.csv", "short,1,rain,test")
    with pytest.raises(ValueError, match=r"line 1: 'short' is no YouTube id"):
        label_sets.vggsound(root)
    write_text(root / "vggsound.csv", *["-zYxWvUtSr0,1,rain,test"] * 2)
    with pytest.raises(ValueError, match=r"line 2: .* is listed again"):
        label_sets.vggsound(root)
