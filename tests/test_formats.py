import av
import numpy as np
import pytest
import soundfile
from recordings import encode, noise

from flamlib import formats


def test_every_container_that_may_be_opened_is_known_to_ffmpeg():
    from flamlib.decoders import CONTAINERS

    known = {name for form in av.formats_available for name in form.split(",")}
    assert not [name for name in CONTAINERS.split(",") if name not in known]


def test_no_suffix_is_both_heard_and_not():
    assert not formats.SUFFIXES & formats.OTHER_SUFFIXES
    assert all(s == s.lower() and s.startswith(".") for s in formats.SUFFIXES)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        (".wav", "WAV"),
        (".aiff", "AIFF"),
        (".au", "AU"),
        (".caf", "CAF"),
        (".flac", "FLAC"),
        (".w64", "W64"),
        (".rf64", "RF64"),
        (".voc", "VOC"),
        (".mp3", "MP3"),
        (".ogg", "OGG"),
        (".avr", "AVR"),
        (".paf", "PAF"),
        (".svx", "SVX"),
        (".nist", "NIST"),
        (".pvf", "PVF"),
        (".ircam", "IRCAM"),
    ],
)
def test_a_sound_file_has_one_part_and_no_notes(tmp_path, suffix, form):
    assert suffix in formats.SUFFIXES
    soundfile.write(tmp_path / f"a{suffix}", noise(1.0), 44100, format=form)
    parts, notes = formats.plan(tmp_path / f"a{suffix}")
    assert len(parts) == 1
    assert not notes


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".m4a", "aac"), (".webm", "libopus"), (".wma", "wmav2"), (".mka", "ac3")]
)
def test_recordings_of_phones_and_browsers_are_heard(tmp_path, suffix, codec):
    assert suffix in formats.SUFFIXES
    container = {".wma": "asf", ".mka": "matroska"}.get(suffix)
    encode(tmp_path / f"a{suffix}", noise(1.0, 48000), 48000, codec, container=container)
    [part], notes = formats.plan(tmp_path / f"a{suffix}")
    assert not notes
    assert len(part.open().read(10**6)) == pytest.approx(48000, abs=3000)


def test_a_file_that_is_not_what_its_name_says_is_heard_with_a_note(tmp_path):
    encode(tmp_path / "a.m4a", noise(1.0), 44100, "aac")
    (tmp_path / "a.m4a").rename(tmp_path / "b.mp3")
    _, notes = formats.plan(tmp_path / "b.mp3")
    assert notes == ["it is mov inside, not what its name says"]


def test_silence_in_a_whole_file_is_no_fault(tmp_path):
    for name in ("a.flac", "a.mp3", "a.wav"):
        soundfile.write(tmp_path / name, np.zeros(441000), 44100)
        _, notes = formats.plan(tmp_path / name)
        assert not notes
