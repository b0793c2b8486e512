import dataclasses
import multiprocessing
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter1d, minimum_filter1d
from sounds import (
    BACKGROUNDS,
    RATE,
    bursts,
    mixture_config,
    noise,
    tone,
    variants_config,
    write_data,
    write_table,
)

from flamlib.data.mixtures import bank, mixing, recipes, sources
from flamlib.sound_events.events import active_frames
from flamlib.waveforms import decibels

RULES = {
    "clip_s": 10.0,
    "n_events": [1, 10],
    "max_polyphony": 3,
    "snr_db": [6, 30],
    "background_db": [-55, -40],
    "max_event_s": 6.0,
    "fragment_prob": 0.1,
    "n_fragments": [2, 3],
    "repeat_prob": 0.1,
    "n_repeats": [2, 3],
    "short_event_s": 0.4,
    "n_short_repeats": [2, 4],
    "pause_s": [0.1, 0.6],
    "fade_s": 0.01,
    "silence_dbfs": -70,
    "min_snr_db": None,
    "fill_gaps_below_s": 0.2,
    "drop_activity_below_s": 0.04,
}
SPLITS = ["train", "valid", "seen_captions", "unseen_captions"]
seeds = st.integers(0, 2**40)


def rules(**changes):
    return mixture_config(RULES, **changes)


def make_bank(folder, foregrounds=None, backgrounds=None, **changes):
    given = {"foregrounds": foregrounds, "backgrounds": backgrounds}
    write_data(folder / "data", **{k: v for k, v in given.items() if v is not None})
    settings = {
        "seed": 0,
        "sample_rate": RATE,
        "clip_s": 10.0,
        "variants": variants_config(**changes),
    }
    bank.build(folder / "data", folder / "bank", **settings, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return make_bank(tmp_path_factory.mktemp("mixing"))


def one_sound(folder, samples, n=1, split="train"):
    """A bank of one foreground (as n recordings) and one background."""
    clips = {f"clip-{i}": (samples, "a sound", "sound", split, str(i)) for i in range(n)}
    return make_bank(folder, clips, {"rain": BACKGROUNDS["rain"]}, n_foreground=0)


def polyphony(recipe):
    """The largest number of segments that sound at once, counted sample by sample."""
    count = np.zeros(recipe.n_samples + 1, int)
    for event in recipe.events:
        for onset, _, n in event.segments:
            count[onset] += 1
            count[onset + n] -= 1
    return np.cumsum(count).max()


def a_weighted_power(waveform):
    """Power at each sample after an A-weighting filter of zero phase, over the whole waveform."""
    f2 = np.fft.rfftfreq(len(waveform), 1 / RATE) ** 2
    gain = 1.2589 * 12194**2 * f2**2
    gain /= (f2 + 20.6**2) * (f2 + 12194**2) * np.sqrt((f2 + 107.7**2) * (f2 + 737.9**2))
    return np.fft.irfft(np.fft.rfft(waveform) * gain, len(waveform)) ** 2


def slow_level_db(waveform, *, step_s=0.001):
    """A-weighted level in the 50 ms around each millisecond."""
    window = np.full(round(0.05 * RATE), 1 / round(0.05 * RATE))
    power = np.convolve(a_weighted_power(waveform), window, mode="same")
    return 10 * np.log10(np.maximum(power[:: round(step_s * RATE)], 1e-12))


@settings(max_examples=60)
@given(seeds, st.sampled_from(SPLITS), st.integers(1, 4))
def test_every_recipe_keeps_the_rules(sounds, seed, split, max_polyphony):
    recipe = mixing.draw(
        sounds, rules(max_polyphony=max_polyphony), seed=seed, split=split, index=0
    )
    assert 1 <= len(recipe.events) <= 10
    assert polyphony(recipe) <= max_polyphony
    groups = [sounds.get(sounds.row(e.clip_id, e.variant), "group") for e in recipe.events]
    assert len(set(groups)) == len(groups)
    for event in recipe.events:
        assert 6 <= event.snr_db <= 30 + 1e-9
        source = sounds.row(event.clip_id, event.variant)
        for (onset, start, n), after in zip(
            event.segments, [*event.segments[1:], (recipe.n_samples, 0, 0)], strict=True
        ):
            assert 0 <= onset < onset + n <= after[0]
            assert 0 <= start < start + n <= sounds.get(source, "n_samples")
    for label in recipe.labels:
        assert 0 <= label.onset < label.offset <= 10
        assert label.caption in {event.caption for event in recipe.events}


@settings(max_examples=20)
@given(seeds, st.sampled_from(SPLITS))
def test_no_mixture_clips(sounds, seed, split):
    loud = rules(background_db=[-10, 0], snr_db=[-50, 60])
    recipe = mixing.draw(sounds, loud, seed=seed, split=split, index=0)
    stems = recipes.render_stems(sounds, recipe)
    assert np.abs(recipes.render(sounds, recipe)).max() <= 1
    assert np.abs(stems[0]).max() <= 0.1 + 1e-6
    assert np.abs(stems[1:]).max() <= 0.3 + 1e-6


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_sounds_only_like_itself(sounds, split):
    for index in range(30):
        recipe = mixing.draw(sounds, rules(), seed=0, split=split, index=index)
        for event in recipe.events:
            assert sounds.get(sounds.row(event.clip_id, event.variant), "split") == split
        behind = sounds.row(recipe.background.clip_id, recipe.background.variant)
        expected = split if split in ("train", "valid") else "heldout"
        assert sounds.get(behind, "split") == expected


def test_what_the_background_holds_is_not_put_on_it(sounds):
    drawn = [mixing.draw(sounds, rules(), seed=0, split="train", index=i) for i in range(150)]
    with_sirens = {
        recipe.background.clip_id for recipe in drawn for e in recipe.events if e.family == "siren"
    }
    assert {recipe.background.clip_id for recipe in drawn} == {"rain", "short-rain", "sirens"}
    assert with_sirens == {"rain", "short-rain"}


def test_captions_are_drawn_evenly(tmp_path):
    """One caption with eight recordings, four with one: each caption gets a fifth."""
    clips = {f"many-{i}": (tone(440, 0.5), "many", "m", "train", f"m{i}") for i in range(8)}
    clips |= {f"one-{i}": (tone(440, 0.5), f"one {i}", "o", "train", f"o{i}") for i in range(4)}
    opened = make_bank(tmp_path, clips, {"rain": BACKGROUNDS["rain"]})
    counts, recordings = Counter(), Counter()
    for index in range(1000):
        single = rules(n_events=[1, 1], snr_db=[6, 7])
        recipe = mixing.draw(opened, single, seed=0, split="train", index=index)
        counts[recipe.events[0].caption] += 1
        recordings[recipe.events[0].clip_id, recipe.events[0].variant] += 1
    chi_square = sum((n - 200) ** 2 / 200 for n in counts.values())
    assert len(counts) == 5
    assert chi_square < 18.5  # one in a thousand, 4 degrees of freedom
    assert len(recordings) == 12 * 3


def test_the_snr_is_what_the_stems_say(tmp_path):
    """Level of what sounds, without the pause inside, over that of the whole excerpt behind it."""
    opened = one_sound(tmp_path, 0.2 * bursts(), n=3)
    for index in range(10):
        recipe = mixing.draw(opened, rules(), seed=0, split="train", index=index)
        behind, *stems = recipes.render_stems(opened, recipe)
        behind_db = 10 * np.log10(a_weighted_power(behind).mean())
        assert recipe.background.level_db == pytest.approx(behind_db, abs=0.1)
        for event, stem in zip(recipe.events, stems, strict=True):
            sounding = stem != 0
            event_db = 10 * np.log10(a_weighted_power(stem)[sounding].mean())
            assert event.snr_db == pytest.approx(event_db - behind_db, abs=0.6)


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_what_the_events_alone_measure(sounds, split):
    """Within one hop, at every millisecond, by another measurement of the rendered stem."""
    plain = rules(fill_gaps_below_s=0.0, drop_activity_below_s=0.0)
    checked = 0
    for index in range(12):
        recipe = mixing.draw(sounds, plain, seed=1, split=split, index=index)
        stems = recipes.render_stems(sounds, recipe)[1:]
        for caption in {event.caption for event in recipe.events}:
            own = [
                stem
                for event, stem in zip(recipe.events, stems, strict=True)
                if event.caption == caption
            ]
            heard = np.any([slow_level_db(stem) > -70 for stem in own], axis=0)
            time = np.arange(len(heard)) / 1000
            labels = [label for label in recipe.labels if label.caption == caption]
            labelled = np.any([(time >= a) & (time < b) for a, b, _ in labels], axis=0)
            # What sounds up to the end of the clip stops with it.
            changes = np.flatnonzero(np.diff(heard, prepend=False, append=False)) / 1000
            for wrong in time[heard != labelled]:
                assert np.abs(changes - wrong).min() <= sources.HOP_S + 0.002
            checked += heard.any()
    assert checked > 10


@settings(max_examples=20)
@given(
    seeds,
    st.sampled_from(SPLITS),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.sampled_from([0.1, 0.9]),
    st.sampled_from([None, -10.0]),
)
def test_labels_and_frames_are_true_of_the_stems_by_any_rule(
    sounds, seed, split, fade_s, fragment_prob, min_snr_db
):
    """The slow measurement, a boxcar each millisecond where ours has a sine window each hop.

    The two may differ by a hop in time and by 4 dB in level, and by nothing else: they differ most
    (3.6 dB) at a hard cut through a hum of 30 Hz, on the steep side of the A curve.
    """
    given_rules = rules(
        fill_gaps_below_s=0.0,
        drop_activity_below_s=0.0,
        fade_s=fade_s,
        fragment_prob=fragment_prob,
        min_snr_db=min_snr_db,
        repeat_prob=0.1,
    )  # fmt: skip
    recipe = mixing.draw(sounds, given_rules, seed=seed, split=split, index=0)
    floor_db = -70
    if min_snr_db is not None:
        floor_db = max(floor_db, recipe.background.level_db + min_snr_db)
    stems = recipes.render_stems(sounds, recipe)[1:]
    hops = 2 * round(1000 * sources.HOP_S) + 5  # milliseconds, a hop and the edge to either side
    for caption in {event.caption for event in recipe.events}:
        own = [s for e, s in zip(recipe.events, stems, strict=True) if e.caption == caption]
        level_db = np.max([slow_level_db(stem) for stem in own], axis=0)
        nearby_max, nearby_min = maximum_filter1d(level_db, hops), minimum_filter1d(level_db, hops)
        time = np.arange(len(level_db)) / 1000
        spans = [label[:2] for label in recipe.labels if label.caption == caption]
        labelled = np.any(
            [np.zeros(len(time)), *((time >= a) & (time < b) for a, b in spans)], axis=0
        )
        assert (nearby_max[labelled] > floor_db - 4).all()
        assert (nearby_min[~labelled] < floor_db + 4).all()

        frame_s = 0.32
        n_frames = round(recipe.n_samples / RATE / frame_s)
        sizes = {"n_frames": n_frames, "frame_s": frame_s, "clip_s": recipe.n_samples / RATE}
        [frames] = active_frames(recipe.labels, [caption], **sizes)
        for frame, active in enumerate(frames):
            inside = (time >= frame * frame_s) & (time < (frame + 1) * frame_s)
            if not (nearby_max[inside] > floor_db - 4).any():
                assert not active
            if (nearby_min[inside] > floor_db + 4).all():
                assert active


def test_pauses_are_not_labelled_unless_they_are_short(tmp_path):
    opened = one_sound(tmp_path, bursts())
    single = {"n_events": [1, 1], "fragment_prob": 0.0, "repeat_prob": 0.0}
    recipe = mixing.draw(opened, rules(**single), seed=0, split="train", index=0)
    assert [b - a for a, b, _ in recipe.labels] == pytest.approx([0.5, 0.5], abs=0.08)
    filled = mixing.draw(
        opened, rules(**single, fill_gaps_below_s=0.7), seed=0, split="train", index=0
    )
    assert [b - a for a, b, _ in filled.labels] == pytest.approx([1.6], abs=0.08)


def test_spikes_go_unless_there_is_nothing_else(tmp_path):
    opened = one_sound(tmp_path, np.concatenate([noise(0.03), np.zeros(RATE), noise(0.5)]))
    single = {"n_events": [1, 1], "fragment_prob": 0.0, "repeat_prob": 0.0}
    for drop_activity_below_s, expected in ((0.0, 2), (0.15, 1), (9.0, 2)):
        recipe = mixing.draw(
            opened,
            rules(**single, drop_activity_below_s=drop_activity_below_s),
            seed=0,
            split="train",
            index=0,
        )
        assert len(recipe.labels) == expected


def test_a_tail_below_the_background_can_be_left_out(sounds):
    """A bell that decays by 60 dB a second: ten decibels less are a sixth of a second."""
    alone = {"n_events": [1, 1], "snr_db": [6, 6], "background_db": [-40, -40]}
    bells = sounds.recordings("foreground", "train")["une cloche sonne – « ding »"]
    lengths = {
        min_snr_db: mixing.draw_single_event(
            sounds,
            rules(**alone, min_snr_db=min_snr_db, pause_s=[5, 5]),
            seed=0,
            split="train",
            index=0,
            source=bells[0][0],
            background=True,
        ).labels[0]
        for min_snr_db in (None, -20, -10, 0)
    }
    seconds = [label.offset - label.onset for label in lengths.values()]
    assert -np.diff(seconds) == pytest.approx([10 / 60, 10 / 60, 10 / 60], abs=0.03)


@settings(max_examples=15)
@given(seeds, st.sampled_from(SPLITS))
def test_the_stems_add_up_to_the_mixture(sounds, seed, split):
    recipe = mixing.draw(sounds, rules(), seed=seed, split=split, index=0)
    mixture = recipes.render(sounds, recipe)
    assert mixture.dtype == np.float32
    stems = recipes.render_stems(sounds, recipe)
    assert np.array_equal(np.add.accumulate(stems)[-1], mixture)


def test_no_segment_clicks(tmp_path):
    """A low tone cut anywhere stays a low tone: nothing above 2 kHz, which a hard cut would add."""
    opened = one_sound(tmp_path, tone(200, 8.0, 0.5))
    cut = rules(n_events=[1, 1], fragment_prob=1.0, repeat_prob=0.0, max_event_s=3.0)
    hard = dataclasses.replace(cut, fade_s=0.0)

    def high_db(given):
        recipe = mixing.draw(opened, given, seed=0, split="train", index=0)
        stem = recipes.render_stems(opened, recipe)[1]
        power = np.abs(np.fft.rfft(stem)) ** 2
        return 10 * np.log10(power[2000 * 10 :].sum() / power.sum())

    assert high_db(cut) < -75
    assert high_db(hard) > high_db(cut) + 20


def render_digest(opened, given, index):
    recipe = mixing.draw(opened, given, seed=3, split="train", index=index)
    return recipe, recipes.render(opened, recipe).tobytes()


def test_another_process_makes_the_same_samples(sounds):
    arguments = [(sounds, rules(), index) for index in range(4)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(render_digest, arguments)
    assert there == [render_digest(*a) for a in arguments]


def test_any_row_is_drawn_again_alone(sounds):
    [table] = mixing.draw_many(sounds, rules(), seed=3, split="train", n=20, n_jobs=1)
    for index in (19, 0, 7):
        alone = mixing.draw(sounds, rules(), seed=3, split="train", index=index)
        assert recipes.Recipe.from_row(table.slice(index, 1).to_pylist()[0]) == alone


def test_processes_draw_the_table_of_one(sounds, monkeypatch):
    monkeypatch.setattr(mixing, "BLOCK", 20)
    one, two = (
        pyarrow.concat_tables(
            mixing.draw_many(sounds, rules(), seed=3, split="valid", n=61, n_jobs=n)
        )
        for n in (1, 2)
    )
    assert one.equals(two)
    assert one["index"].to_pylist() == list(range(61))


def test_seed_split_and_index_each_make_another_mixture(sounds):
    keys = [(0, "train", 0), (1, "train", 0), (0, "valid", 0), (0, "train", 1)]
    starts = {mixing.draw(sounds, rules(), seed=a, split=b, index=c).background for a, b, c in keys}
    assert len(starts) == 4


def test_no_mixtures_are_no_tables(sounds):
    assert list(mixing.draw_many(sounds, rules(), seed=0, split="train", n=0, n_jobs=1)) == []


def test_short_events_come_in_runs(sounds):
    clicks = [
        event
        for index in range(80)
        for event in mixing.draw(sounds, rules(), seed=0, split="train", index=index).events
        if event.family == "click"
    ]
    assert len(clicks) > 20
    assert {len(event.segments) for event in clicks} >= {2, 3, 4}
    single = [event for event in clicks if len(event.segments) == 1]
    assert len(single) < 0.25 * len(clicks)  # those drawn to be split, too short for it


def test_shares_of_splits_and_repeats_are_kept(tmp_path):
    opened = one_sound(tmp_path, tone(440, 1.0))
    single = rules(n_events=[1, 1])
    drawn = [mixing.draw(opened, single, seed=0, split="train", index=i) for i in range(600)]
    segments = [recipe.events[0].segments for recipe in drawn]
    repeated = sum(len(s) > 1 and s[0][1:] == s[1][1:] for s in segments)
    fragmented = sum(len(s) > 1 and s[0][1:] != s[1][1:] for s in segments)
    assert repeated == pytest.approx(60, abs=25)
    assert fragmented == pytest.approx(55, abs=25)  # a few cuts fall too near an end


def test_a_long_recording_is_cut(sounds):
    lengths = [
        segment.n_samples
        for index in range(100)
        for event in mixing.draw(sounds, rules(), seed=0, split="train", index=index).events
        for segment in event.segments
        if event.family == "siren"
    ]
    assert max(lengths) == 6 * RATE


def test_a_bank_of_one_recording_mixes(tmp_path):
    opened = one_sound(tmp_path, tone(440, 0.002))  # also shorter than two fades
    recipe = mixing.draw(opened, rules(), seed=0, split="train", index=0)
    assert len(recipe.events) == 1
    assert np.isfinite(recipes.render(opened, recipe)).all()
    assert recipe.labels


def test_a_sound_that_never_gets_loud_enough_leaves_the_background(tmp_path):
    opened = one_sound(tmp_path, tone(25, 1.0))
    recipe = mixing.draw(
        opened, rules(snr_db=[30, 30], background_db=[-40, -40]), seed=0, split="train", index=0
    )
    assert recipe.events == recipe.labels == ()
    assert recipes.render(opened, recipe).any()


def test_silence_behind_is_not_blown_up(tmp_path):
    half = np.concatenate([noise(1.0, 0.05), np.zeros(30 * RATE)])
    opened = make_bank(
        tmp_path,
        {"tone": (tone(440, 1.0), "a tone", "tone", "train", "1")},
        {"half": (half, "rain", "ambience", "train", "2")},
    )
    for index in range(5):
        recipe = mixing.draw(opened, rules(), seed=0, split="train", index=index)
        assert recipe.background.gain < 100
        assert np.isfinite(recipes.render(opened, recipe)).all()


@pytest.mark.parametrize("behind", [True, False])
def test_alone_a_sound_fills_the_clip(sounds, behind):
    given = {"seed": 0, "split": "train", "index": 0, "background": behind}
    tone_a = sounds.row("tone-a", 0)
    recipe = mixing.draw_single_event(sounds, rules(), **given, source=tone_a)
    assert {e.clip_id for e in recipe.events} == {"tone-a"}
    assert 6 <= len(recipe.events[0].segments) <= 10
    assert sum(b - a for a, b, _ in recipe.labels) > 5
    mixture = recipes.render(sounds, recipe)
    assert len(mixture) == 10 * RATE
    assert (recipe.background is None) == (not behind)
    assert mixture.any()


def test_alone_a_long_sound_is_cut_to_the_clip(sounds):
    recipe = mixing.draw_single_event(
        sounds,
        rules(),
        seed=0,
        split="train",
        index=0,
        source=sounds.row("siren", 0),
        background=False,
    )
    assert [segment.n_samples for segment in recipe.events[0].segments] == [10 * RATE]


def test_what_stands_in_the_way_is_said_before_anything_is_drawn(sounds, tmp_path):
    mixing.check(sounds, rules(), split="train")
    with pytest.raises(ValueError, match="no foreground of split 'test'"):
        mixing.check(sounds, rules(), split="test")
    with pytest.raises(ValueError, match="build it again"):
        mixing.draw_many(sounds, rules(clip_s=20.0), seed=0, split="train", n=1, n_jobs=1)
    attic = "no foreground of split 'train' of package 'attic'.* out of mixture.package_weights"
    with pytest.raises(ValueError, match=attic):
        mixing.check(sounds, rules(package_weights={"attic": 1}), split="train")
    lonely = one_sound(tmp_path, tone(440, 1.0), split="valid")
    with pytest.raises(ValueError, match="no background of split 'valid', which 'valid' needs"):
        mixing.check(lonely, rules(), split="valid")
    mixing.check(lonely, rules(background_prob=0.0), split="valid")
    why = ["b.wav: silent", "c.wav: cut off"]
    pd.DataFrame({"clip_id": ["b", "c"], "path": ["b.wav", "c.wav"], "why": why}).to_csv(
        lonely.folder / "skipped.tsv", sep="\t", index=False
    )
    with pytest.raises(ValueError, match=r"2 recordings cannot be used, such as b\.wav: silent"):
        mixing.check(lonely, rules(), split="valid")


def test_without_backgrounds_events_sound_as_loud_as_over_one(tmp_path):
    opened = make_bank(tmp_path, {"tone": (tone(440, 1.0), "a tone", "tone", "train", "1")}, {})
    quiet = rules(background_prob=0.0, background_db=[-50, -50], snr_db=12.0)
    recipe = mixing.draw(opened, quiet, seed=0, split="train", index=0)
    assert recipe.background is None
    mixture = recipes.render(opened, recipe)
    level_db = decibels.gated_db(decibels.a_weighted_db(mixture, RATE))
    assert level_db == pytest.approx(-50 + 12, abs=0.5)


def test_a_share_of_mixtures_has_no_background(sounds):
    some = rules(background_prob=0.5)
    drawn = [mixing.draw(sounds, some, seed=0, split="train", index=i) for i in range(200)]
    assert 70 < sum(recipe.background is None for recipe in drawn) < 130


def test_packages_sound_as_often_as_they_weigh(tmp_path):
    """Four fifths from one package of two captions, a fifth from one of many captions."""
    clips = {f"{i}": (tone(440, 0.5), f"sound {i}", "s", "train", str(i)) for i in range(10)}
    write_data(tmp_path / "data", clips, {"rain": BACKGROUNDS["rain"]})
    rows = [line.split("\t") for line in (tmp_path / "data/clips.tsv").read_text().splitlines()]
    packages = ["package", "effects", "effects", *["general"] * 9]
    rows = [[*row, package] for row, package in zip(rows, packages, strict=True)]
    write_table(tmp_path / "data/clips.tsv", rows[0], rows[1:])
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(tmp_path / "data", tmp_path / "bank", **settings, n_jobs=1, progress=False)
    opened = bank.Bank.open(tmp_path / "bank")
    weighted = rules(n_events=1, package_weights={"effects": 0.8, "general": 0.2})
    drawn = [mixing.draw(opened, weighted, seed=0, split="train", index=i) for i in range(1000)]
    counts = Counter(recipe.events[0].caption for recipe in drawn)
    assert counts["sound 0"] + counts["sound 1"] == pytest.approx(800, abs=50)
    assert set(counts) == {f"sound {i}" for i in range(10)}


def test_what_is_held_out_is_of_other_packages_than_those_with_a_weight(sounds):
    """Of `sounds` each recording is of the package "": none with a weight is in any split."""
    weighted, plain = rules(package_weights={"attic": 1}), rules()
    for split in ("valid", "seen_captions", "unseen_captions"):
        mixing.check(sounds, weighted, split=split)
        drawn = mixing.draw(sounds, weighted, seed=0, split=split, index=0)
        assert drawn == mixing.draw(sounds, plain, seed=0, split=split, index=0)


@pytest.mark.parametrize(
    "form", [6.0, {"choice": [8, 20]}, {"normal": [12.0, 4.0], "within": [6.0, 30.0]}]
)
def test_any_distribution_of_the_snr_is_kept(sounds, form):
    given = rules(snr_db=form, background_db=[-55, -55])
    drawn = [mixing.draw(sounds, given, seed=0, split="train", index=i) for i in range(40)]
    found = np.array([event.snr_db for recipe in drawn for event in recipe.events])
    assert len(found) > 100
    low, high = given.snr_db.lowest, given.snr_db.highest
    assert low - 1e-6 <= found.min() <= found.max() <= high + 1e-6
    if isinstance(form, dict) and "choice" in form:
        assert np.mean(np.isclose(found, 8) | np.isclose(found, 20)) > 0.8


def test_events_can_be_placed_early(sounds):
    early = rules(event_position={"choice": [0.0]}, n_events=1)
    for index in range(20):
        recipe = mixing.draw(sounds, early, seed=0, split="train", index=index)
        assert recipe.events[0].segments[0].onset == 0


def test_the_background_has_the_level_that_was_asked_for(sounds):
    exact = rules(background_db=[-45, -45])
    recipe = mixing.draw(sounds, exact, seed=0, split="valid", index=0)
    behind = recipes.render_stems(sounds, recipe)[0]
    assert decibels.mean_db(decibels.a_weighted_db(behind, RATE)) == pytest.approx(-45, abs=0.1)


def test_labels_do_not_depend_on_the_rate(sounds, tmp_path):
    """At 11025 Hz a hop is 275.625 samples long; ten seconds later it is still in place."""
    settings = {"seed": 0, "sample_rate": 11025, "clip_s": 10.0, "variants": variants_config()}
    folder = sounds.folder.parent
    bank.build(folder / "data", tmp_path / "bank", **settings, n_jobs=1, progress=False)
    given = {"seed": 0, "split": "train", "index": 0, "background": False}
    labels = []
    for opened in (sounds, bank.Bank.open(tmp_path / "bank")):
        source = opened.row("tone-a", 0)
        steady = rules(pause_s=[0.5, 0.5])
        labels.append(mixing.draw_single_event(opened, steady, **given, source=source).labels)
    for here, there in zip(*labels, strict=True):
        assert here[:2] == pytest.approx(there[:2], abs=0.03)
