import pickle

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sounds import write_endless

from flamlib import audio

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


@pytest.mark.parametrize(
    ("hz", "expected_db"), [(63, -26.2), (125, -16.1), (1000, 0.0), (4000, 1.0), (8000, -1.1)]
)
def test_a_tone_is_weighted_as_the_standard_says(hz, expected_db):
    """Table 3 of IEC 61672-1; a sine of amplitude one has an RMS of -3.01 dB.

    The curve is steep at 63 Hz, where a window of 50 ms sees 20 Hz to either side.
    """
    levels = audio.a_weighted_db(tone(hz, rate=48000), 48000)
    np.testing.assert_allclose(levels[5:-5], expected_db - 3.01, atol=0.6)


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_the_hops_powers_add_up_to_the_whole(rate):
    noise = np.random.default_rng(0).normal(size=3 * rate).astype(np.float32)
    spectrum = np.fft.rfft(noise)
    gain = audio.a_weighting(np.fft.rfftfreq(len(noise), 1 / rate))
    power = 2 * np.sum(np.abs(gain * spectrum) ** 2) / len(noise) ** 2
    levels = audio.a_weighted_db(noise, rate)
    assert len(levels) == 120
    assert audio.mean_db(levels) == pytest.approx(10 * np.log10(power), abs=0.1)


def test_hops_do_not_drift_at_odd_rates():
    """A hop of 25 ms is 275.625 samples at 11025 Hz; after a minute the click is still in place."""
    waveform = np.zeros(60 * 11025, np.float32)
    waveform[round(59.0125 * 11025)] = 1
    levels = audio.a_weighted_db(waveform, 11025)
    assert len(levels) == 2400
    assert np.argmax(levels) == 2360  # [59, 59.025) s


def test_a_click_is_heard_only_by_windows_that_reach_it():
    waveform = np.zeros(RATE, np.float32)
    waveform[4200] = 1  # the middle of hop 10, [4000, 4400)
    levels = audio.a_weighted_db(waveform, RATE)
    assert np.argmax(levels) == 10
    assert levels[10] > -35
    assert (np.delete(levels, [9, 10, 11]) == audio.FLOOR_DB).all()


@pytest.mark.parametrize("n_samples", [1, 10, 399, 400, 401])
def test_short_and_silent_sounds_have_levels_too(n_samples):
    levels = audio.a_weighted_db(np.zeros(n_samples, np.float32), RATE)
    assert levels.tolist() == [audio.FLOOR_DB] * -(-n_samples // 400)


def test_it_agrees_with_a_filter_in_time():
    """The A curve as an analogue filter, made digital at 8 times the rate, then windowed."""
    rate, factor = RATE, 8
    noise = np.random.default_rng(0).normal(size=rate).astype(np.float32)
    noise *= np.linspace(0, 1, rate, dtype=np.float32)
    poles = (
        -2 * np.pi * np.array([20.598997, 20.598997, 107.65265, 737.86223, 12194.217, 12194.217])
    )
    gain = 1 / np.abs(scipy.signal.freqs_zpk([0] * 4, poles, 1, worN=[2 * np.pi * 1000])[1][0])
    zeros, poles, gain = scipy.signal.bilinear_zpk([0] * 4, poles, gain, rate * factor)
    fine = scipy.signal.resample_poly(noise, factor, 1)
    filtered = scipy.signal.sosfilt(scipy.signal.zpk2sos(zeros, poles, gain), fine)[::factor]
    slow = [
        10 * np.log10(np.mean((filtered[h * 400 - 200 : h * 400 + 600] * window) ** 2) * 2)
        for h in range(1, 39)
        for window in [np.sin(np.pi * (np.arange(800) + 0.5) / 800)]
    ]
    np.testing.assert_allclose(audio.a_weighted_db(noise, rate)[1:39], slow, atol=0.7)


@pytest.mark.parametrize("rate", [11025, 16000, 48000])
def test_hops_that_are_not_asked_for_change_nothing_of_the_others(rate):
    """Also in the second of the blocks in which a long sound is measured."""
    for seconds in (0.001, 0.06, 0.125, 5.0):
        waveform = np.random.default_rng(0).normal(0, 0.1, max(1, round(seconds * rate)))
        waveform = waveform.astype(np.float32)
        whole = audio.a_weighted_db(waveform, rate)
        for first, n in ((0, 1), (1, 2), (38, 7), (60, 1000)):
            if first < len(whole):
                some = audio.a_weighted_db(waveform, rate, first=first, n_hops=n)
                np.testing.assert_allclose(some, whole[first : first + n], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    ("hz", "within_db"), [(5, 2), (10, 2), (20, 2), (50, 0.6), (1000, 0.1), (3500, 0.1)]
)
def test_the_level_of_a_tone_is_that_of_the_curve(rate, hz, within_db):
    """Whole seconds of a tone, whose mean power the windows do not change."""
    curve_db = 20 * np.log10(audio.a_weighting(np.array([float(hz)]))[0])
    levels = audio.a_weighted_db(tone(hz, 4.0, rate), rate)
    assert audio.mean_db(levels[40:-40]) == pytest.approx(curve_db - 3.01, abs=within_db)


@given(
    st.floats(-1, 1), st.floats(0, 0.1), st.integers(1, 5000), st.sampled_from([8000, 11025, 44100])
)
def test_a_constant_is_silence_and_changes_no_level(constant, amplitude, n_samples, rate):
    noise = np.random.default_rng(n_samples).uniform(-amplitude, amplitude, n_samples)
    levels = audio.a_weighted_db(noise.astype(np.float32), rate)
    moved = audio.a_weighted_db((noise + constant).astype(np.float32), rate)
    np.testing.assert_allclose(moved, levels, atol=0.1 if amplitude > 1e-3 else 30)
    alone = np.full(n_samples, constant, np.float32)
    assert (audio.a_weighted_db(alone, rate) == audio.FLOOR_DB).all()


RUMBLES = {"constant": (0.0, 0.01), "10 Hz": (10.0, 0.05), "5 Hz": (5.0, 0.1)}


@pytest.mark.parametrize("phase", [0.0, 0.7, np.pi / 2, 4.0])
@pytest.mark.parametrize("rumble", RUMBLES)
def test_a_rumble_that_begins_and_ends_with_the_recording_is_no_sound(rumble, phase):
    """40 dB below a tone of amplitude 0.02, as the curve has it, also at its two ends."""
    hz, amplitude = RUMBLES[rumble]
    t = np.arange(3 * RATE) / RATE
    low = amplitude * (np.cos(2 * np.pi * hz * t + phase) if hz else np.ones_like(t))
    assert audio.a_weighted_db(low.astype(np.float32), RATE).max() < -37 - 40


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
