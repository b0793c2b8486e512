import handmade
import numpy as np
import pytest
import soundfile
from bad_files import GOOD, write_bad_files
from handmade import tone
from hypothesis import given
from hypothesis import strategies as st

from flamlib.data.corpus import recordings
from flamlib.waveforms import decibels

ROW = {**handmade.clip(), "onset": "", "offset": "", "sha256": ""}


@pytest.fixture
def store(tmp_path):
    """Write a file, store it, and give back its row and the samples that were stored."""
    (tmp_path / "audio").mkdir()

    def store(waveform, rate, name="source.wav", subtype=None, **fields):
        soundfile.write(tmp_path / name, waveform, rate, subtype=subtype)
        row = recordings.store(ROW | fields, tmp_path / name, tmp_path)
        return row, None if isinstance(row, str) else soundfile.read(tmp_path / row["path"])[0]

    return store


def test_sixteen_bits_are_stored_as_they_are(store):
    noise = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    row, stored = store(noise, 22050, subtype="PCM_16")
    assert row["sample_rate"] == 22050
    assert row["duration_s"] == "0.227"
    np.testing.assert_array_equal(np.round(stored * 32768), noise)


@pytest.mark.parametrize(
    ("rate", "n_channels", "kept_rate", "subtype", "name"),
    [
        (8000, 1, 8000, "PCM_U8", "eight bits.wav"),
        (11025, 2, 11025, "ALAW", "telephone.wav"),
        (44100, 2, 44100, "VORBIS", "x.ogg"),
        (48000, 6, 48000, "PCM_24", "5.1.flac"),
        (96000, 2, 48000, "FLOAT", "studio.wav"),
        (44100, 2, 44100, "MPEG_LAYER_III", "x.mp3"),
    ],
)
def test_whatever_libsndfile_reads_becomes_mono_of_at_most_48_khz(
    store, rate, n_channels, kept_rate, subtype, name
):
    waveform = np.stack([tone(rate=rate)] * n_channels, axis=1)
    row, stored = store(waveform, rate, name=name, subtype=subtype)
    assert row["sample_rate"] == kept_rate
    assert stored.ndim == 1
    assert float(row["duration_s"]) == pytest.approx(0.5, abs=0.06)  # mp3 pads
    assert np.abs(stored).max() == pytest.approx(0.5, abs=0.1)


def test_stereo_in_opposite_phase_is_not_cancelled(store):
    _, stored = store(np.stack([tone(), -tone()], axis=1), 16000)
    np.testing.assert_allclose(stored, tone(), atol=1e-4)


def test_what_overshoots_is_turned_down_and_keeps_its_shape(store):
    _, stored = store(tone(amplitude=4.0), 16000, subtype="FLOAT")
    np.testing.assert_allclose(stored, tone(amplitude=1.0), atol=1e-4)


def test_silence_an_empty_file_and_text_are_refused_with_a_reason(store, tmp_path):
    assert "silent" in store(np.zeros(1000), 16000)[0]
    assert "silent" in store(1e-5 * tone(), 16000, subtype="FLOAT")[0]
    assert "sample" in store(np.zeros(0), 16000)[0]
    (tmp_path / "text.wav").write_text("no sound")
    why = recordings.store(ROW, tmp_path / "text.wav", tmp_path)
    assert isinstance(why, str)
    assert str(tmp_path) not in why  # the same on every machine
    assert list((tmp_path / "audio").iterdir()) == []


def test_of_bad_files_each_is_refused_with_a_reason(tmp_path):
    (tmp_path / "audio").mkdir()
    bad = write_bad_files(tmp_path / "sounds")
    kept = recordings.store(ROW, tmp_path / "sounds" / GOOD, tmp_path)
    assert kept["notes"] == []
    for name in bad:
        why = recordings.store(ROW | {"member": name}, tmp_path / "sounds" / name, tmp_path)
        assert isinstance(why, str), name
        assert why, name
        assert str(tmp_path) not in why


def test_what_is_cut_off_is_stored_with_a_note(tmp_path):
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    [note] = recordings.store(ROW, tmp_path / "a.wav", tmp_path)["notes"]
    assert "cut off" in note


def test_a_part_that_is_given_is_kept_within_the_recording(store):
    assert store(tone(), 16000, onset="0.1", offset="0.3")[0]["offset"] == "0.300"
    assert store(tone(), 16000, onset="0.1", offset="9")[0]["offset"] == "0.500"
    assert "onset at 0.7 s" in store(tone(), 16000, onset="0.7", offset="9")[0]


@given(
    st.integers(4000, 48000), st.floats(0, 0.2), st.floats(0.01, 0.2), st.sampled_from([0, 0.3, 9])
)
def test_a_sound_of_one_s_own_that_is_shortened_has_a_note(
    tmp_path_factory, rate, start_s, length_s, beyond_s
):
    folder = tmp_path_factory.mktemp("own")
    (folder / "audio").mkdir()
    soundfile.write(folder / "a.wav", tone(rate=rate), rate)
    length_s = 0.5 - start_s + beyond_s if beyond_s else length_s
    row = ROW | {"package": "own", "version": "", "onset": "0.0", "offset": repr(length_s)}
    for part in ({"start_s": start_s, "stop_s": start_s + length_s}, {}):
        notes = recordings.store(row, folder / "a.wav", folder, **part)["notes"]
        is_short = part.get("start_s", 0) + length_s > 0.5001
        assert len(notes) == is_short
        assert all("but the recording ends at" in note for note in notes)


def test_a_part_that_is_not_given_is_found(store):
    silence = np.zeros(3200)
    row, _ = store(np.concatenate([silence, tone(), silence]), 16000)
    assert (row["onset"], row["offset"]) == ("0.200", "0.700")


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
@pytest.mark.parametrize(("level_db", "counts"), [(-37, True), (-43, False)])
def test_what_is_40_db_below_the_loudest_frame_is_no_sound(rate, level_db, counts):
    faint = tone(seconds=0.3, rate=rate) * 10 ** (level_db / 20)
    onset, offset = recordings.active_range(np.concatenate([faint, tone(rate=rate), faint]), rate)
    assert onset == pytest.approx(0.0 if counts else 0.3, abs=0.011)
    assert offset == pytest.approx(1.1 if counts else 0.8, abs=0.011)


@pytest.mark.parametrize(("hz", "amplitude"), [(0.0, 0.01), (10.0, 0.05), (5.0, 0.1)])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_neither_a_constant_nor_a_rumble_is_a_sound(rate, hz, amplitude):
    t = np.arange(3 * rate) / rate
    beep = np.where((t >= 1.0) & (t < 1.2), 0.02 * np.sin(2 * np.pi * 1000 * t), 0)
    low = amplitude * (np.sin(2 * np.pi * hz * t) if hz else np.ones_like(t))
    found = recordings.active_range((beep + low).astype(np.float32), rate)
    assert found == pytest.approx((1.0, 1.2), abs=0.021)
    assert recordings.active_range(low.astype(np.float32), rate) is None


def mean_power_db(waveform):
    return 10 * np.log10(np.mean(np.square(waveform, dtype=float)) + 1e-30)


def slow_active_range(waveform, rate):
    """The definition, one frame at a time."""
    n = round(0.01 * rate)
    levels = [
        min(mean_power_db(weighted[i : i + n]), mean_power_db(waveform[i : i + n]) + 1.29)
        for weighted in [decibels.a_weighted(waveform, rate)]
        for i in range(0, len(waveform), n)
    ]
    sounding = [i for i, level in enumerate(levels) if level >= max(levels) - 40]
    return sounding[0] * n / rate, min((sounding[-1] + 1) * n, len(waveform)) / rate


@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 44100]), st.integers(0, 2**32 - 1))
def test_the_active_range_agrees_with_its_definition(n_samples, rate, seed):
    rng = np.random.default_rng(seed)
    gain = 10 ** (rng.uniform(-4, 0, 1 + n_samples // 200)).repeat(200)[:n_samples]
    waveform = (gain * rng.uniform(-1, 1, n_samples)).astype(np.float32)
    found = recordings.active_range(waveform, rate)
    if found is not None:  # not so faint that it counts as silence
        assert found == pytest.approx(slow_active_range(waveform, rate))


def test_a_clip_id_is_a_file_name_on_any_system_and_no_other_clips():
    members = ["a/Bell Toll.wav", "b/Bell Toll.wav", "x.cat!18", "Ährenfeld – 日本.ogg", "日本.ogg"]
    members += ["日光.ogg", "a" * 500, "CON.wav", "a/b!c/../x.wav"]
    ids = [recordings.clip_id({"package": "wesnoth-1.16-data", "member": m}) for m in members]
    assert len({name.lower() for name in ids}) == len(members)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in ids)
    assert all(len(name) < 100 for name in ids)
    assert ids[0].startswith("wesnoth-1_16-data-bell_toll-")
    assert "/" not in recordings.clip_id({"package": "@scope/name", "member": "a.wav"})


def test_the_same_recording_gives_the_same_bytes(store):
    first, _ = store(tone(), 44100, name="a.ogg", subtype="VORBIS")
    second, _ = store(tone(), 44100, name="b.ogg", subtype="VORBIS")
    assert first["sha256"] == second["sha256"]
