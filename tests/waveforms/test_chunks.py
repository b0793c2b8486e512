import numpy as np
import pytest
import soundfile
from recordings import encode, noise

from flamlib.waveforms import audio, chunks

FORMS = [".wav", ".rf64", ".w64", ".aiff", ".au", ".caf", ".m4a", ".wma", ".tta"]
OTHERS = {".m4a": ("aac", None), ".wma": ("wmav2", "asf"), ".tta": ("tta", "tta")}


def write(path, seconds):
    if path.suffix in OTHERS:
        codec, container = OTHERS[path.suffix]
        encode(path, noise(seconds, 48000), 48000, codec, container=container)
    else:
        soundfile.write(path, noise(seconds), 44100, format=path.suffix[1:].upper())
    return path.read_bytes()


def heard(path):
    notes = []
    waveform, _ = audio.read(path, notes=notes)
    return waveform, notes


@pytest.mark.parametrize("suffix", FORMS)
def test_a_whole_file_ends_where_it_says(tmp_path, suffix):
    content = write(tmp_path / f"a{suffix}", 1.0)
    end = chunks.end(tmp_path / f"a{suffix}")
    assert len(content) - 128 <= end <= len(content)  # FFmpeg puts a tag behind a TTA
    assert heard(tmp_path / f"a{suffix}")[1] == []


@pytest.mark.parametrize("suffix", FORMS)
def test_of_joined_files_the_first_is_heard_and_the_rest_is_counted(tmp_path, suffix):
    one, two = write(tmp_path / f"a{suffix}", 1.0), write(tmp_path / f"b{suffix}", 2.0)
    right, _ = heard(tmp_path / f"a{suffix}")
    end = chunks.end(tmp_path / f"a{suffix}")
    (tmp_path / f"c{suffix}").write_bytes(one + two)
    waveform, [note] = heard(tmp_path / f"c{suffix}")
    np.testing.assert_array_equal(waveform, right)
    assert f"its last {len(one + two) - end} bytes" in note
    assert "not heard" in note


@pytest.mark.parametrize("suffix", [s for s in FORMS if s != ".w64"])
def test_other_bytes_behind_the_sound_are_counted(tmp_path, suffix):
    content = write(tmp_path / f"a{suffix}", 1.0)
    right, _ = heard(tmp_path / f"a{suffix}")
    end = chunks.end(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").write_bytes(content + bytes(range(128, 256)) * 40)
    waveform, [note] = heard(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(waveform, right)
    assert f"its last {len(content) + 5120 - end} bytes" in note


@pytest.mark.parametrize("suffix", [".wav", ".w64", ".aiff", ".au", ".caf", ".wma"])
def test_what_is_cut_off_ends_behind_the_end_of_the_file(tmp_path, suffix):
    content = write(tmp_path / f"a{suffix}", 1.0)
    (tmp_path / f"a{suffix}").write_bytes(content[: len(content) * 2 // 3])
    assert chunks.end(tmp_path / f"a{suffix}") > len(content) * 2 // 3
    [note] = heard(tmp_path / f"a{suffix}")[1]
    assert "cut off?" in note


@pytest.mark.parametrize("magic", [b"RIFF", b"FORM", b"caff", b"riff", b".snd", b"TTA1"])
@pytest.mark.parametrize("rest", [b"", bytes(3000)])
def test_a_header_that_says_nothing_has_no_end(tmp_path, magic, rest):
    (tmp_path / "a").write_bytes(magic + rest)
    assert chunks.end(tmp_path / "a") is None
