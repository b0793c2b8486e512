import av
import numpy as np
import pytest
import soundfile
from recordings import encode, noise

from flamlib.waveforms import formats


def test_every_container_that_may_be_opened_is_known_to_ffmpeg():
    from flamlib.waveforms.decoders import CONTAINERS

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


@pytest.mark.parametrize("suffix", sorted(formats.SUFFIXES))
def test_a_name_that_says_another_format_is_noted_whichever_it_says(tmp_path, suffix):
    """And every suffix that is heard says one."""
    path = tmp_path / f"a{suffix}"
    for form in ("WAV", "FLAC"):
        soundfile.write(path, noise(0.1), 44100, format=form)
        is_named = suffix in {"WAV": (".wav", ".wave", ".rf64"), "FLAC": (".flac",)}[form]
        _, notes = formats.plan(path)
        assert notes == ([] if is_named else [f"it is {form} inside, not what its name says"])


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        *((".wav", form) for form in ("WAV", "WAVEX", "RF64")),
        *(
            (f".{form.lower()}", form)
            for form in ("AIFF", "AU", "CAF", "FLAC", "MP3", "OGG", "VOC")
        ),
        *((f".{form.lower()}", form) for form in ("W64", "SVX", "NIST", "IRCAM", "PAF", "PVF")),
        *((f".{form.lower()}", form) for form in ("AVR", "SDS", "WVE", "XI")),
        *((".sph", "NIST"), (".sf", "IRCAM"), (".snd", "AU"), (".8svx", "SVX"), (".iff", "SVX")),
    ],
)
def test_a_name_that_says_what_is_in_it_is_not_noted(tmp_path, suffix, form):
    subtype = {"WVE": "ALAW", "XI": "DPCM_16"}.get(form)
    rate = 8000 if form == "WVE" else 44100
    soundfile.write(tmp_path / f"a{suffix}", noise(0.5), rate, subtype, format=form)
    _, notes = formats.plan(tmp_path / f"a{suffix}")
    assert not [note for note in notes if "name says" in note]
