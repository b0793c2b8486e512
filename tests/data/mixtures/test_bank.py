import hashlib
import json
import multiprocessing
import pickle

import numpy as np
import pytest
import soundfile
from sounds import (
    BACKGROUNDS,
    COLUMNS,
    FOREGROUNDS,
    RATE,
    noise,
    silence,
    tone,
    variants_config,
    write_data,
    write_table,
)

from flamlib.data.mixtures import bank, sources
from flamlib.waveforms import audio, decibels

SETTINGS = {
    "seed": 0,
    "sample_rate": RATE,
    "clip_s": 10.0,
    "variants": variants_config(),
    "n_jobs": 1,
    "progress": False,
}
TONE = {"tone": (tone(440, 1.0), "a tone", "tone", "train", "1")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("bank") / "bank"
    bank.build(data, out, **SETTINGS)
    return bank.Bank.open(out)


def build(tmp_path, foregrounds, backgrounds, **settings):
    write_data(tmp_path / "data", foregrounds, backgrounds)
    bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS | settings)
    return bank.Bank.open(tmp_path / "bank")


def fingerprints(opened):
    """What each source sounds like and how it was measured, by name."""
    found = {}
    for i, row in opened.sources.drop(columns=["shard", "start", "level_start"]).iterrows():
        content = opened.integers(i).tobytes() + opened.levels(i).tobytes()
        measured = json.dumps(row.to_dict(), default=list)
        found[row.clip_id, row.variant] = hashlib.sha256(content + measured.encode()).hexdigest()
    return found


def fingerprints_of_unpickled(pickled):
    return fingerprints(pickle.loads(pickled))


def test_the_first_variant_is_the_recording(whole, data):
    for clip_id in FOREGROUNDS:
        i = whole.row(clip_id, 0)
        recording, _ = audio.read(data / f"audio/{clip_id}.flac")
        starts = np.flatnonzero(np.abs(recording) > 0)[0]
        heard = whole[i][np.flatnonzero(whole[i])[0] :]
        np.testing.assert_allclose(
            heard, recording[starts : starts + len(heard)], atol=1.01 * whole.get(i, "scale")
        )


def test_a_foreground_is_cut_to_what_sounds(whole):
    for clip_id, (samples, *_) in FOREGROUNDS.items():
        i = whole.row(clip_id, 0)
        seconds = len(samples) / RATE
        if clip_id != "bell":  # its tail falls below the range
            assert whole.get(i, "offset") - whole.get(i, "onset") == pytest.approx(
                seconds, abs=0.08
            )
        assert len(whole[i]) / RATE <= seconds + 2 * sources.MARGIN_S + 0.05
        assert whole.get(i, "onset") <= sources.MARGIN_S + 0.05


def test_every_source_uses_all_sixteen_bits(whole):
    for i in range(len(whole)):
        assert np.abs(whole.integers(i)).max() == 32767
        assert whole.peak(i) == pytest.approx(whole.get(i, "peak"))


def test_levels_are_those_of_the_recording(whole):
    for i in range(len(whole)):
        np.testing.assert_array_equal(whole.levels(i), decibels.a_weighted_db(whole[i], RATE))
    loud, quiet = (whole.get(whole.row(name, 0), "level_db") for name in ("tone-b", "tone-c"))
    assert loud - quiet == pytest.approx(20 * np.log10(0.5 / 0.1), abs=0.1)


def test_a_part_has_the_levels_and_peak_of_that_part(whole):
    i = whole.row("bursts", 0)
    assert whole.levels(i, 3 * 400, 400).tolist() == whole.levels(i)[3:4].tolist()
    assert whole.levels(i, 3 * 400 + 1, 400).tolist() == whole.levels(i)[3:5].tolist()
    hop = round(sources.HOP_S * RATE)
    assert whole.peak(i, hop, 3 * hop) == np.abs(whole[i][hop : 4 * hop]).max()
    assert whole.peak(i, hop + 7, 3 * hop) == np.abs(whole[i][hop : 5 * hop]).max()


def test_only_training_recordings_have_variants(whole):
    variants = whole.sources.groupby(["role", "split"])["variant"].max().to_dict()
    assert variants.pop(("foreground", "train")) == 2
    assert variants.pop(("background", "train")) == 1
    assert set(variants.values()) == {0}


def test_recordings_are_told_apart_by_caption_and_clip(whole):
    tones = whole.recordings("foreground", "train")["a tone"]
    assert [whole.get(rows[0], "clip_id") for rows in tones] == ["tone-a", "tone-b", "tone-c"]
    assert [[whole.get(i, "variant") for i in rows] for rows in tones] == [[0, 1, 2]] * 3
    assert whole.recordings("foreground", "nowhere") == {}


def test_a_background_is_never_shorter_than_a_clip(whole):
    lengths = whole.sources.set_index("clip_id").query("role == 'background'")["n_samples"]
    assert lengths.min() >= 10 * RATE
    assert (lengths["short-rain"] == 20 * RATE).all()


def test_families_heard_in_a_background_are_known(whole):
    assert list(whole.get(whole.row("sirens", 0), "audible")) == ["siren"]
    assert list(whole.get(whole.row("rain", 0), "audible")) == []


def test_order_and_processes_change_nothing(whole, data, tmp_path):
    header, *rows = (data / "clips.tsv").read_text().splitlines()
    (tmp_path / "audio").symlink_to(data / "audio")
    families = (data / "background_families.tsv").read_text()
    (tmp_path / "background_families.tsv").write_text(families)
    (tmp_path / "clips.tsv").write_text("\r\n".join([header, *rows[::-1]]) + "\r\n")
    bank.build(tmp_path, tmp_path / "bank", **SETTINGS | {"n_jobs": 2})
    assert fingerprints(bank.Bank.open(tmp_path / "bank")) == fingerprints(whole)


def test_another_seed_gives_other_variants_of_the_same_recording(tmp_path):
    first = build(tmp_path / "a", TONE, {})
    other = build(tmp_path / "b", TONE, {}, seed=1)
    assert (first[0] == other[0]).all()
    assert len(first[1]) != len(other[1])


def test_a_worker_maps_the_same_files(whole):
    pickled = pickle.dumps(whole)
    assert len(pickled) < 1000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(fingerprints_of_unpickled, [pickled]) == fingerprints(whole)


def test_speed_moves_pitch_and_time_together(tmp_path):
    only_speed = {"eq_db": 0.0, "lowpass_prob": 0.0, "reverb_prob": 0.0}
    opened = build(tmp_path, TONE, {}, variants=variants_config(**only_speed, n_foreground=5))
    cycles = []
    for i in range(len(opened)):
        hz = np.argmax(np.abs(np.fft.rfft(opened[i], RATE)))
        cycles.append(hz * (opened.get(i, "offset") - opened.get(i, "onset")))
    np.testing.assert_allclose(cycles, 440, rtol=0.08)
    assert len({len(opened[i]) for i in range(len(opened))}) == 6


def test_the_tail_of_a_room_belongs_to_the_sound(tmp_path):
    rooms = {"speed": [1.0, 1.0], "eq_db": 0.0, "lowpass_prob": 0.0}
    rooms |= {"reverb_prob": 1.0, "n_foreground": 5}
    opened = build(tmp_path, TONE, {}, variants=variants_config(**rooms))
    offsets = [opened.get(i, "offset") for i in range(len(opened))]
    assert max(offsets[1:]) > offsets[0] + 0.1


def test_labels_follow_the_stretch(tmp_path):
    plain = {"speed": [1.0, 1.0], "eq_db": 0.0, "lowpass_prob": 0.0}
    plain |= {"reverb_prob": 0.0, "n_foreground": 1, "stretch": [2.0, 2.0]}
    opened = build(tmp_path, TONE, {}, variants=variants_config(**plain))
    once, twice = (opened.get(i, "offset") - opened.get(i, "onset") for i in (0, 1))
    assert twice == pytest.approx(2 * once, abs=0.08)


@pytest.mark.parametrize(
    ("wave", "why"),
    [
        (np.full(RATE, np.nan), "NaN"),
        (np.zeros(0), "no samples"),
    ],
)
def test_what_holds_no_sound_is_skipped_with_the_reason(tmp_path, wave, why):
    write_data(tmp_path / "data", TONE | {"bad": (tone(300, 1.0), "x", "x", "train", "2")}, {})
    path = tmp_path / "data/audio/bad.flac"
    soundfile.write(path, wave, RATE, format="WAV", subtype="FLOAT")
    bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS)
    assert set(bank.Bank.open(tmp_path / "bank").sources["clip_id"]) == {"tone"}
    assert why in (tmp_path / "bank/skipped.tsv").read_text()


def test_a_pair_in_opposite_phase_is_heard(tmp_path):
    write_data(tmp_path / "data", TONE, {})
    path = tmp_path / "data/audio/tone.flac"
    waveform, _ = soundfile.read(path)
    soundfile.write(path, np.stack([waveform, -waveform], axis=1), RATE)
    bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS)
    opened = bank.Bank.open(tmp_path / "bank")
    assert opened.get(0, "peak") == pytest.approx(np.abs(waveform).max(), abs=1e-3)


def test_a_clipped_recording_is_mixed_without_clipping_again(tmp_path):
    square = np.clip(tone(440, 1.0, level=20.0), -1, 1)
    opened = build(tmp_path, {"square": (square, "a buzz", "b", "train", "1")}, {})
    assert opened.get(0, "peak") == pytest.approx(1, abs=1e-3)
    assert np.abs(opened.integers(0)).max() == 32767


def test_an_offset_of_the_microphone_is_no_sound(tmp_path):
    """A-weighting is deaf to 0 Hz: the active part is the tone's, and its level too."""
    with_offset = {"tone": (tone(440, 1.0, 0.1) + 0.5, "a tone", "tone", "train", "1")}
    without = {"tone": (tone(440, 1.0, 0.1), "a tone", "tone", "train", "1")}
    plain = {"n_foreground": 0}
    heard = build(tmp_path / "a", with_offset, {}, variants=variants_config(**plain))
    expected = build(tmp_path / "b", without, {}, variants=variants_config(**plain))
    assert heard.get(0, "level_db") == pytest.approx(expected.get(0, "level_db"), abs=0.5)


def test_what_cannot_be_used_is_skipped_and_named(tmp_path):
    nothing = silence(1)
    write_data(tmp_path / "data", TONE | {"nothing": (nothing, "x", "x", "train", "2")}, {})
    rows = [line.split("\t") for line in (tmp_path / "data/clips.tsv").read_text().splitlines()]
    rows += [["gone", "audio/gone.flac", "foreground", "x", "x", "train", "3", "0", "1"]]
    rows += [["late", "audio/tone.flac", "foreground", "x", "x", "train", "3", "90", "91"]]
    write_table(tmp_path / "data/clips.tsv", COLUMNS, rows[1:])
    bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS)
    assert set(bank.Bank.open(tmp_path / "bank").sources["clip_id"]) == {"tone"}
    skipped = (tmp_path / "bank/skipped.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in skipped] == ["clip_id", "nothing", "gone", "late"]
    assert "silent" in skipped[1]


def test_a_bank_of_nothing_is_an_error_and_leaves_the_old_one(tmp_path):
    old = fingerprints(build(tmp_path, TONE, {}))
    (tmp_path / "data/audio/tone.flac").unlink()
    with pytest.raises(ValueError, match=r"none of 1 recordings could be used.*tone"):
        bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS)
    assert fingerprints(bank.Bank.open(tmp_path / "bank")) == old


def test_a_clip_without_times_is_used_whole(tmp_path):
    write_data(tmp_path / "data", TONE, {})
    row = ["tone", "audio/tone.flac", "foreground", "a tone", "tone", "train", "1", "", ""]
    write_table(tmp_path / "data/clips.tsv", COLUMNS, [row])
    bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS)
    assert bank.Bank.open(tmp_path / "bank").get(0, "offset") == pytest.approx(1.05, abs=0.06)


def test_what_is_no_bank_is_named(tmp_path, whole):
    with pytest.raises(FileNotFoundError, match=r"no bank\.json"):
        bank.Bank.open(tmp_path)
    with pytest.raises(KeyError, match="another bank"):
        whole.row("tone-a", 99)


def test_another_rate_is_the_same_sound(tmp_path):
    at_8k = build(tmp_path, TONE, {"rain": BACKGROUNDS["rain"]}, sample_rate=8000)
    assert at_8k.sample_rate == 8000
    assert np.argmax(np.abs(np.fft.rfft(at_8k[0], 8000))) == 440
    assert at_8k.get(0, "level_db") == pytest.approx(
        decibels.gated_db(decibels.a_weighted_db(tone(440, 1.0).astype(np.float32), RATE)), abs=0.3
    )


def test_the_quiet_does_not_count_towards_a_level():
    burst = np.concatenate([noise(0.5), silence(2.0)]).astype(np.float32)
    once = decibels.gated_db(decibels.a_weighted_db(burst[: RATE // 2], RATE))
    assert decibels.gated_db(decibels.a_weighted_db(burst, RATE)) == pytest.approx(once, abs=0.3)


def test_a_folder_without_recordings_says_what_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="make data"):
        bank.build(tmp_path / "data", tmp_path / "bank", **SETTINGS)
