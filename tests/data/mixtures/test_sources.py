import json

import numpy as np
import pytest
from sounds import COLUMNS, RATE, noise, silence, tone, write_table

from flamlib.data.mixtures import sources
from flamlib.waveforms import audio, decibels

CLIP = dict.fromkeys(["clip_id", "path", "caption", "family", "split", "group", "package"], "x")
CLIP |= {"role": "background", "audible": []}


def test_a_source_is_its_samples_measured_hop_by_hop():
    waveform = np.concatenate([noise(0.5, 0.3), silence(0.2), tone(440, 0.31)]).astype(np.float32)
    row, integers, levels_db, peaks = sources.make_source(CLIP, 0, waveform, RATE)
    heard = integers * np.float32(row["scale"])
    np.testing.assert_allclose(heard, waveform, atol=row["scale"])
    np.testing.assert_array_equal(levels_db, decibels.a_weighted_db(heard, RATE))
    hop = round(sources.HOP_S * RATE)
    slow = [np.abs(integers[at : at + hop].astype(int)).max() for at in range(0, len(heard), hop)]
    assert peaks.tolist() == slow
    assert (row["n_samples"], row["n_levels"]) == (len(integers), len(slow))
    json.dumps(row)  # plain numbers, as a table wants them


def test_of_a_foreground_the_silence_around_is_cut_off():
    around = np.concatenate([silence(1.0), tone(440, 0.5), silence(2.0)]).astype(np.float32)
    whole = sources.make_source(CLIP, 0, around, RATE)
    cut = sources.make_source(CLIP | {"role": "foreground"}, 0, around, RATE)
    assert len(whole.integers) == len(around)
    assert len(cut.integers) / RATE == pytest.approx(0.6, abs=0.06)


RUMBLES = {"constant": (0.0, 0.01), "10 Hz": (10.0, 0.05), "5 Hz": (5.0, 0.1)}


@pytest.mark.parametrize("rumble", RUMBLES)
def test_what_nobody_hears_is_no_part_of_a_foreground(rumble):
    hz, amplitude = RUMBLES[rumble]
    t = np.arange(3 * RATE) / RATE
    beep = np.where((t >= 1.0) & (t < 1.2), 0.02 * np.sin(2 * np.pi * 1000 * t), 0)
    low = amplitude * (np.sin(2 * np.pi * hz * t) if hz else np.ones_like(t))
    clip = CLIP | {"role": "foreground"}
    row, integers, _, _ = sources.make_source(clip, 0, (beep + low).astype(np.float32), RATE)
    assert len(integers) / RATE == pytest.approx(0.325, abs=0.03)
    assert row["offset"] - row["onset"] == pytest.approx(0.2, abs=0.06)


def test_silence_is_no_source():
    with pytest.raises(audio.Unreadable, match="silent"):
        sources.make_source(CLIP, 0, silence(1.0).astype(np.float32), RATE)


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (COLUMNS[:-1], ["a"] * 8, "no column.*offset"),
        (COLUMNS, ["a", "a", "both", "a", "a", "train", "1", "0", "1"], "line 2: role is 'both'"),
        (
            COLUMNS,
            ["a", "a", "foreground", "a", "a", "train", "1", "now", "1"],
            "line 2: onset is 'now', expected a number",
        ),
    ],
)
def test_a_broken_clip_table_is_named(tmp_path, columns, row, message):
    write_table(tmp_path / "clips.tsv", columns, [row])
    with pytest.raises(ValueError, match=message):
        sources.read_clips(tmp_path)
