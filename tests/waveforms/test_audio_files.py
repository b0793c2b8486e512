"""What is in a file is heard, whatever its name, its header or a decoder says."""

import io
import os
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import encode, noise, write_ogg

from flamlib.waveforms import audio, ogg

RATE = 16000
SUBTYPES = {"a.ogg": "VORBIS", "a.opus": "OPUS"}


def tone(hz, seconds=1.0, rate=RATE):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def beeps(rate, seconds=30, every=5):
    """Half a second of a tone every five, over noise that is loud for three seconds."""
    waveform = noise(seconds, rate, 0.001)
    waveform[: 3 * rate] *= 300
    for second in range(every, seconds, every):
        waveform[second * rate : second * rate + rate // 2] += 0.5 * tone(880, 0.5, rate)
    return waveform


def onsets(waveform, rate, after_s=4):
    """When the beeps begin."""
    loud = np.flatnonzero(np.abs(waveform) > 0.2)
    loud = loud[loud > after_s * rate]
    return loud[np.diff(loud, prepend=-rate) > rate / 4] / rate


EVERY_FIVE = pytest.approx(np.arange(5, 30, 5), abs=0.05)


@pytest.mark.parametrize("quality", [None, 4])
@pytest.mark.parametrize("says_length", ["0", "1"])
def test_all_of_an_mp3_is_heard(tmp_path, quality, says_length):
    options = {"quality": quality, "write_xing": says_length}
    encode(tmp_path / "a.mp3", beeps(44100), 44100, "libmp3lame", **options)
    notes = []
    waveform, rate = audio.read(tmp_path / "a.mp3", notes=notes)
    assert len(waveform) / rate == pytest.approx(30, abs=0.1)
    assert onsets(waveform, rate) == EVERY_FIVE
    assert not notes


def test_a_quiet_beginning_does_not_make_an_mp3_longer(tmp_path):
    waveform = 0.2 * noise(60)
    waveform[: 5 * 44100] = 0
    encode(tmp_path / "a.mp3", waveform, 44100, "libmp3lame", quality=4, write_xing="0")
    with audio.Recording(tmp_path / "a.mp3") as recording:
        assert recording.duration_s == pytest.approx(60, abs=0.1)
        assert len(recording.read(55, 400)) == recording.n_samples - 55 * 44100
        with pytest.raises(audio.Unreadable, match="no samples"):
            recording.read(100, 400)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.mp3"])
def test_recordings_that_are_joined_are_heard_one_after_another(tmp_path, name):
    for k in (0, 1):
        waveform = np.roll(noise(4.0, 48000), 1000 * k)
        if name == "a.mp3":
            encode(tmp_path / f"{k}{name}", waveform, 48000, "libmp3lame", quality=4)
        else:
            write_ogg(tmp_path / f"{k}{name}", waveform, 48000, SUBTYPES[name])
    parts = [(tmp_path / f"{k}{name}").read_bytes() for k in (0, 1)]
    (tmp_path / name).write_bytes(b"".join(parts))
    with pytest.warns(audio.Repaired, match="2 recordings follow each other"):
        together, _ = audio.read(tmp_path / name)
    alone = [audio.read(tmp_path / f"{k}{name}")[0] for k in (0, 1)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("name", SUBTYPES)
@pytest.mark.parametrize("damage", ["byte", "zeros", "cut", "twice"])
def test_a_hole_moves_no_later_event(tmp_path, name, damage):
    write_ogg(tmp_path / name, beeps(48000), 48000, SUBTYPES[name])
    content = bytearray((tmp_path / name).read_bytes())
    # A beep that lies in the hole is not heard, all others are, at their time.
    at, n_bytes = round(0.63 * len(content)), len(content) // 50
    if damage == "byte":
        content[at] ^= 0x40
    elif damage == "cut":
        del content[at : at + n_bytes]
    else:
        content[at : at + n_bytes] = bytes(n_bytes)
    if damage == "twice":
        content[len(content) // 5] ^= 1
    (tmp_path / name).write_bytes(content)
    notes = []
    waveform, rate = audio.read(tmp_path / name, notes=notes)
    assert len(waveform) / rate == pytest.approx(30, abs=0.01)
    heard = onsets(waveform, rate)
    assert all(np.abs(np.arange(5, 30, 5) - onset).min() < 0.02 for onset in heard[1:])
    assert len(heard) >= 3
    assert len(notes) == (2 if damage == "twice" else 1)
    assert all("silent here" in note for note in notes)


def test_a_hole_in_an_mp3_is_refused(tmp_path):
    encode(tmp_path / "a.mp3", beeps(44100), 44100, "libmp3lame", quality=4)
    content = (tmp_path / "a.mp3").read_bytes()
    half = len(content) // 2
    (tmp_path / "a.mp3").write_bytes(content[:half] + content[half + 5000 :])
    with pytest.raises(audio.Unreadable, match="a hole at about"):
        audio.read(tmp_path / "a.mp3")


@pytest.mark.parametrize("says_length", ["0", "1"])
def test_what_lies_around_an_mp3_is_not_heard(tmp_path, says_length):
    encode(tmp_path / "a.mp3", beeps(44100), 44100, "libmp3lame", quality=4, write_xing=says_length)
    right, _ = audio.read(tmp_path / "a.mp3")
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(content + bytes(5000))
    same, _ = audio.read(tmp_path / "b.mp3", notes=[])
    np.testing.assert_array_equal(same, right)
    (tmp_path / "c.mp3").write_bytes(content[5000:])  # as a recorder of web radio begins
    notes = []
    later, rate = audio.read(tmp_path / "c.mp3", notes=notes)
    assert len(right) - len(later) < 2 * rate
    assert len(onsets(later, rate)) == 5


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64", "FLAC", "MP3", "OGG"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_what_is_cut_off_is_refused_or_said(tmp_path, form, share):
    soundfile.write(tmp_path / "a", noise(5.0), 44100, format=form)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: round(share * len(content))])
    notes = []
    try:
        waveform, rate = audio.read(tmp_path / "a", notes=notes)
    except audio.Unreadable:
        return
    assert notes
    assert len(waveform) / rate == pytest.approx(5 * share, abs=0.8)  # a page of an Ogg is lost


@pytest.mark.parametrize("claimed", [1, 44100, 2**32, 2**36 - 1])
def test_a_flac_with_a_wrong_number_of_samples_is_heard_with_a_note(tmp_path, claimed):
    soundfile.write(tmp_path / "a.flac", noise(2.0), 44100)
    right, _ = audio.read(tmp_path / "a.flac")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] = content[21] & 0xF0 | claimed >> 32
    content[22:26] = (claimed & 0xFFFFFFFF).to_bytes(4, "big")
    (tmp_path / "a.flac").write_bytes(content)
    notes = []
    waveform, _ = audio.read(tmp_path / "a.flac", notes=notes)
    np.testing.assert_array_equal(waveform, right)
    assert len(notes) == 1


def test_an_ogg_that_claims_a_thousand_times_too_much_is_what_it_is(tmp_path):
    write_ogg(tmp_path / "a.ogg", noise(4.0), 44100)
    right, rate = audio.read(tmp_path / "a.ogg")
    content = bytearray((tmp_path / "a.ogg").read_bytes())
    last = content.rindex(b"OggS")
    content[last + 6 : last + 14] = (4000 * 44100).to_bytes(8, "little")
    content[last + 22 : last + 26] = bytes(4)
    content[last + 22 : last + 26] = ogg.checksum(bytes(content[last:])).to_bytes(4, "little")
    (tmp_path / "a.ogg").write_bytes(content)
    notes = []
    waveform, _ = audio.read(tmp_path / "a.ogg", notes=notes)
    assert len(waveform) == pytest.approx(len(right), abs=2048)
    assert "promises 4000.00 s" in notes[0]
    with audio.Recording(tmp_path / "a.ogg") as recording:
        assert recording.duration_s == len(waveform) / rate


def test_telephone_wavs_are_heard(tmp_path):
    """GSM 6.10 can only be read forward."""
    waveform = 0.3 * tone(440, 3.0, rate=8000)
    soundfile.write(tmp_path / "gsm.wav", waveform, 8000, subtype="GSM610")
    whole, rate = audio.read(tmp_path / "gsm.wav")
    assert len(whole) / rate == pytest.approx(3, abs=0.05)
    part, _ = audio.read(tmp_path / "gsm.wav", start_s=1, stop_s=2)
    np.testing.assert_array_equal(part, whole[8000:16000])


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_that_claims_no_samples_is_heard_with_a_note(tmp_path, subtype):
    """As a recorder leaves it that lost its power."""
    soundfile.write(tmp_path / "a.wav", 0.5 * tone(440), RATE, subtype=subtype)
    right, _ = audio.read(tmp_path / "a.wav")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.warns(audio.Repaired, match="its header claims no samples in"):
        waveform, _ = audio.read(tmp_path / "a.wav")
    np.testing.assert_allclose(waveform, right, atol=1e-6)


def test_a_phones_recording_is_heard_whatever_its_name(tmp_path):
    encode(tmp_path / "a.m4a", beeps(44100), 44100, "aac")
    waveform, rate = audio.read(tmp_path / "a.m4a")
    assert len(waveform) / rate == pytest.approx(30, abs=0.05)
    assert onsets(waveform, rate) == EVERY_FIVE
    (tmp_path / "a.m4a").rename(tmp_path / "b.mp3")
    with pytest.warns(audio.Repaired, match="not what its name says"):
        same, _ = audio.read(tmp_path / "b.mp3")
    np.testing.assert_array_equal(same, waveform)


@pytest.mark.parametrize("scale", [32767, 3e38])
def test_floats_on_the_scale_of_integers_are_refused(tmp_path, scale):
    samples = (scale * tone(440)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(audio.Unreadable, match="1 is full scale"):
        audio.read(tmp_path / "a.wav")


def test_loud_floats_are_heard(tmp_path):
    soundfile.write(tmp_path / "a.wav", 8 * tone(440), RATE, subtype="FLOAT")
    waveform, _ = audio.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(waveform, 8 * tone(440))


@pytest.mark.parametrize("name", ["folder.wav", "pipe.wav", "link.wav", "bytes.wav", "x.raw", "\0"])
def test_what_is_no_file_of_audio_is_unreadable(tmp_path, name):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")  # nobody writes to it
    (tmp_path / "link.wav").symlink_to("nowhere.wav")
    (tmp_path / "bytes.wav").write_bytes(b"")
    (tmp_path / "x.raw").write_bytes(bytes(10000))
    for read in (audio.read, audio.Recording):
        with pytest.raises(audio.Unreadable):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.m4a"])
def test_a_file_that_may_not_be_opened_is_unreadable(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"sound")

    def denied(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(audio.Unreadable, match="Permission denied"):
        audio.read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_parts_in_any_order_are_those_of_the_whole(tmp_path, name):
    """Two channels that cancel each other in the whole, and not in each part."""
    left = noise(6.0, RATE)
    right = -left
    right[: 2 * RATE] = left[: 2 * RATE]
    soundfile.write(tmp_path / name, np.stack([left, right], axis=1), RATE)
    whole, _ = audio.read(tmp_path / name)
    with audio.Recording(tmp_path / name) as recording:
        assert recording.n_samples == len(whole)
        for start_s, stop_s in [(0, 1), (1, 2), (1.5, 3.25), (3, None), (0.25, 0.5), (5, 100)]:
            part = recording.read(start_s, stop_s)
            stop = len(whole) if stop_s is None else round(stop_s * RATE)
            np.testing.assert_array_equal(part, whole[round(start_s * RATE) : stop])


def written(form, subtype):
    content = io.BytesIO()
    soundfile.write(content, 0.1 * tone(440, 0.5, 8000), 8000, format=form, subtype=subtype)
    return content.getvalue()


WHOLE = {
    f"{form} {subtype}": written(form, subtype)
    for form, subtype in [
        ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"),
        ("WAV", "GSM610"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
        ("W64", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("SVX", "PCM_16"),
        ("VOC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
    ]
}  # fmt: skip


@settings(max_examples=300)
@given(
    encoding=st.sampled_from(sorted(WHOLE)),
    places=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    value=st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff"]),
    share=st.sampled_from([1.0, 1.0, 0.5]),
)
def test_a_damaged_header_costs_no_more_than_the_file(
    tmp_path_factory, encoding, places, value, share
):
    """Samples that are there, or Unreadable: no other error, no memory for what is claimed."""
    content = WHOLE[encoding]
    damaged = bytearray(content[: round(share * len(content))])
    for place in places:
        damaged[place : place + len(value)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    notes = []
    tracemalloc.start()
    try:
        waveform, rate = audio.read(path, notes=notes)
        with audio.Recording(path) as recording:
            assert recording.n_samples == len(waveform)
        assert 100 <= rate <= 2_000_000
        assert len(waveform) <= 320 * len(damaged)
    except audio.Unreadable:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 50e6
