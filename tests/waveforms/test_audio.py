import pickle
import tracemalloc

import numpy as np
import pytest
import soundfile
from sounds import write_endless

from flamlib.waveforms import audio, decoders

RATE = 16000


def tone(hz, seconds=1.0, rate=RATE):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_file_is_read_as_it_was_written(tmp_path, subtype):
    soundfile.write(tmp_path / "tone.wav", 0.5 * tone(440), RATE, subtype=subtype)
    waveform, rate = audio.read(tmp_path / "tone.wav")
    assert rate == RATE
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, 0.5 * tone(440), atol=2**-15)


def test_a_part_is_the_part_of_the_whole(tmp_path):
    soundfile.write(tmp_path / "tone.flac", 0.5 * tone(440), RATE)
    whole, _ = audio.read(tmp_path / "tone.flac")
    part, _ = audio.read(tmp_path / "tone.flac", start_s=0.25, stop_s=0.5)
    np.testing.assert_array_equal(part, whole[4000:8000])


def test_a_resampled_tone_is_the_tone(tmp_path):
    soundfile.write(tmp_path / "tone.wav", 0.5 * tone(440, rate=44100), 44100, subtype="FLOAT")
    waveform, rate = audio.read(tmp_path / "tone.wav", sample_rate=RATE)
    assert rate == RATE
    assert len(waveform) == RATE
    np.testing.assert_allclose(waveform[500:-500], 0.5 * tone(440)[500:-500], atol=2e-3)


@pytest.mark.parametrize(
    ("left", "right", "heard"),
    [(1, 1, 1), (1, -1, 1), (-0.5, 1, 1), (1, 0, 0.5), (0, 1, 0.5), (0, 0, 0)],
)
def test_stereo_is_averaged_unless_that_cancels_it(left, right, heard):
    channels = np.stack([left * tone(440), right * tone(440)], axis=1)
    np.testing.assert_allclose(audio.mono(channels), heard * tone(440), atol=1e-6)


@pytest.mark.parametrize("name", ["missing.wav", "empty.wav", "text.wav", "nan.wav"])
def test_what_cannot_be_used_is_named(tmp_path, name):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no sound at all")
    with pytest.raises(audio.Unreadable, match=name) as error:
        audio.read(tmp_path / name)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_file_that_does_not_say_how_long_it_is_is_heard_to_its_end(tmp_path):
    write_endless(tmp_path / "streamed.flac", 0.5 * tone(440))
    with pytest.warns(audio.Repaired, match="does not say how long"):
        waveform, _ = audio.read(tmp_path / "streamed.flac")
    np.testing.assert_allclose(waveform, 0.5 * tone(440), atol=2**-15)
    notes = []
    part, _ = audio.read(tmp_path / "streamed.flac", start_s=0.25, stop_s=0.5, notes=notes)
    np.testing.assert_array_equal(part, waveform[4000:8000])
    assert len(notes) == 1


def test_a_part_beyond_the_end_is_unreadable(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(440), RATE)
    with pytest.raises(audio.Unreadable, match="no samples from"):
        audio.read(tmp_path / "tone.wav", start_s=2.0)


def write_tracks(path, *tracks):
    soundfile.write(path, np.stack(tracks, axis=1), RATE, subtype="FLOAT")


@pytest.mark.parametrize("offset", [0.02, 0.5])
def test_an_offset_or_a_rumble_hides_no_opposite_phase(tmp_path, offset):
    rumble = offset * np.sin(2 * np.pi * 10 * np.arange(RATE) / RATE)
    for name, common in (("offset", offset), ("rumble", rumble)):
        write_tracks(tmp_path / f"{name}.wav", 0.3 * tone(440) + common, common - 0.3 * tone(440))
        with audio.Recording(tmp_path / f"{name}.wav") as recording:
            waveform = recording.read()
            notes = recording.notes
        assert abs(np.dot(waveform, tone(440))) / RATE > 0.1
        assert "only channel" in notes[0]
        np.testing.assert_array_equal(waveform, audio.read(tmp_path / f"{name}.wav")[0])


def test_of_many_microphones_all_are_heard(tmp_path):
    """However many there are, and whatever the loudest one hears."""
    rng = np.random.default_rng(0)
    hiss = [0.05 * rng.standard_normal(RATE) for _ in range(5)]
    hum = 0.9 * np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE)
    for k in (2, 5):
        tracks = [*hiss[:k], hum]
        tracks[1] = tracks[1] + 0.3 * tone(440)
        write_tracks(tmp_path / "many.wav", *tracks)
        with audio.Recording(tmp_path / "many.wav") as recording:
            waveform = recording.read()
            assert recording.notes == []
        np.testing.assert_allclose(waveform, np.mean(tracks, axis=0), atol=1e-6)


def test_one_channel_of_a_recording_is_heard_where_it_is_asked_for(tmp_path):
    left, right = np.full(4000, 0.25), np.full(4000, -0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    for channel, level in ((1, 0.25), (2, -0.5)):
        with audio.Recording(tmp_path / "a.wav", channel=channel) as recording:
            assert np.unique(recording.read(0.0, 0.2)).tolist() == [level]
    for channel in (0, 3):
        with pytest.raises(audio.Unreadable, match=f"no channel {channel}: it has 2"):
            audio.Recording(tmp_path / "a.wav", channel=channel)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (audio.Unreadable("night.wav", "holds no samples"), "holds no samples"),
        (
            FileNotFoundError(2, "No such file or directory", "night.wav"),
            "No such file or directory",
        ),
        (ValueError("too long"), "too long"),
    ],
)
def test_the_reason_of_an_error_does_not_name_the_file_again(error, reason):
    assert audio.reason(error) == reason


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_a_part_is_cut_as_of_a_file_of_its_own_in_whatever_order(tmp_path, suffix):
    path, channels = tmp_path / f"a{suffix}", np.stack([tone(440, 9), tone(600, 9)], axis=1)
    channels[4 * RATE :, 1] = -channels[4 * RATE :, 0]  # from here on they cancel each other
    soundfile.write(path, 0.5 * channels, RATE)
    with audio.Recording(path) as recording:
        for start_s, stop_s in [(1, 3), (1.5, 2), (1.5, 5), (4.5, 8), (0, 2), (8, 99), (6, None)]:
            expected, _ = audio.read(path, start_s=start_s, stop_s=stop_s)
            np.testing.assert_array_equal(recording.cut(start_s, stop_s), expected)
        whole = recording.read()
        for start_s, stop_s in [(1, 3), (2, 5)]:
            part = recording.read(start_s, stop_s)
            np.testing.assert_array_equal(part, whole[start_s * RATE : stop_s * RATE])
            recording.cut(start_s, stop_s)


@pytest.mark.parametrize("n_channels", [2, 16])
def test_of_many_channels_no_more_is_held_than_of_one(tmp_path, monkeypatch, n_channels):
    monkeypatch.setattr(audio, "KEPT", 0)
    monkeypatch.setattr(decoders, "PIECE", 2**12)
    rng = np.random.default_rng(0)
    samples = rng.integers(-9999, 9999, (20 * RATE, n_channels), dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    with audio.Recording(tmp_path / "a.wav") as recording:
        assert recording.duration_s == 20.0
        tracemalloc.start()
        try:
            waveform = recording.read()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    np.testing.assert_allclose(waveform, samples.mean(axis=1) / 2**15, atol=1e-6)
    assert most < 3 * waveform.nbytes


def test_a_part_is_cut_of_the_channel_that_was_asked_for(tmp_path):
    channels = np.stack([tone(440, 2), tone(600, 2)], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, RATE, "FLOAT")
    with audio.Recording(tmp_path / "a.wav", channel=2) as recording:
        for _ in range(2):
            np.testing.assert_array_equal(recording.cut(0.5, 1), recording.read(0.5, 1))
