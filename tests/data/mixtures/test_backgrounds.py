import json
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import BACKGROUNDS, FOREGROUNDS, MASKERS, RATE, mixture_config, variants_config
from sounds import write_data as write

from flamlib.data.mixtures import backgrounds, bank, mixing, recipes, shards, source_table
from flamlib.waveforms import decibels

RULES = {
    "clip_s": 10.0,
    "max_event_s": 6.0,
    "fragment_prob": 0.1,
    "repeat_prob": 0.1,
    "min_snr_db": -10,
}
SPLITS = ["train", "valid", "seen_captions", "unseen_captions"]
seeds = st.integers(0, 2**40)


def rules(**changes):
    return mixture_config(RULES, **changes)


def make_bank(folder, maskers=MASKERS, foregrounds=FOREGROUNDS):
    write(folder / "data", foregrounds, BACKGROUNDS, maskers)
    how = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(folder / "data", folder / "bank", **how, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return make_bank(tmp_path_factory.mktemp("maskers"))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return make_bank(tmp_path_factory.mktemp("without"), maskers=None)


def draw(sounds, index=0, split="train", seed=0, **changes):
    return mixing.draw(sounds, rules(**changes), seed=seed, split=split, index=index)


def draw_masked(sounds, index=0, split="train", seed=0, **changes):
    plain = draw(sounds, index, split, seed, **changes)
    return backgrounds.mask(sounds, rules(**changes), plain, seed=seed, prob=1.0)


@settings(max_examples=30)
@given(seeds, st.sampled_from(SPLITS))
def test_a_masker_lies_over_the_same_mixture(sounds, seed, split):
    plain = draw(sounds, seed=seed, split=split)
    masked = draw_masked(sounds, seed=seed, split=split)
    assert plain.masker is None
    assert masked.masker is not None
    assert masked._replace(masker=None) == plain
    stems = recipes.render_stems(sounds, masked)
    assert len(stems) == len(plain.events) + 2
    both = recipes.render(sounds, plain) + stems[-1]
    np.testing.assert_array_equal(recipes.render(sounds, masked), both)


@settings(max_examples=20)
@given(seeds, st.floats(-6, 15))
def test_its_level_over_the_background_is_exact(sounds, seed, over_db):
    given = {"background_db": [-50, -40], "snr_db": [-6, 6], "masker_db": over_db}
    masked = draw_masked(sounds, seed=seed, **given)
    assert masked.masker.level_db - masked.background.level_db == pytest.approx(over_db, abs=1e-6)
    heard = recipes.render_stems(sounds, masked)[-1]
    level_db = decibels.mean_db(decibels.a_weighted_db(heard, RATE))
    assert level_db == pytest.approx(masked.masker.level_db, abs=0.2)


@settings(max_examples=20)
@given(seeds, st.sampled_from(SPLITS))
def test_no_masked_mixture_clips(sounds, seed, split):
    loud = {"background_db": [-10, 0], "snr_db": [-50, 60], "masker_db": [-60, 60]}
    masked = draw_masked(sounds, seed=seed, split=split, **loud)
    assert np.abs(recipes.render(sounds, masked)).max() <= 1 + 1e-6


def test_one_that_finds_no_room_is_given_up(sounds):
    loud = {"background_db": 0, "masker_db": 60}
    assert draw_masked(sounds, **loud).masker is None
    assert draw_masked(sounds, **loud | {"masker_db": [-60, 60]}).masker is not None


def test_recordings_that_no_event_is_made_of_change_no_mixture(sounds, without):
    for split in SPLITS:
        for index in range(5):
            assert draw(sounds, index, split) == draw(without, index, split)
    rows = sounds.sources.iloc[: len(without)].drop(columns="audible")
    pd.testing.assert_frame_equal(rows, without.sources.drop(columns="audible"))
    for i in range(len(without)):
        assert np.array_equal(sounds.integers(i), without.integers(i))


def test_a_share_of_the_mixtures_has_one_half_of_them_music(sounds):
    masked = [draw(sounds, i, masker_prob=0.3, n_events=1).masker for i in range(600)]
    counts = Counter(masker and masker.clip_id for masker in masked)
    assert counts[None] == pytest.approx(420, abs=45)
    assert counts["chirps"] == pytest.approx(counts["chords"], abs=45)
    assert set(counts) == {None, "chirps", "chords"}


def test_a_split_has_maskers_of_its_own(sounds):
    for split, own in zip(SPLITS[1:], ("valid", "heldout", "heldout"), strict=True):
        masked = [draw_masked(sounds, i, split).masker.clip_id for i in range(5)]
        assert set(masked) == {f"{own}-chords"}


def test_what_can_be_heard_in_it_is_unknown(sounds):
    masked = draw_masked(sounds, 0, "seen_captions")
    assert recipes.audible_families(sounds, masked) == {"tone"}
    assert recipes.audible_families(sounds, masked._replace(masker=None)) == set()


def test_silence_may_lie_under_it(sounds):
    masked = draw_masked(sounds, background_prob=0)
    assert masked.background is None
    assert np.abs(recipes.render_stems(sounds, masked)[0]).max() == 0
    assert masked.masker.level_db > -60


def test_a_corpus_without_maskers_does_without(without):
    mixing.check(without, rules(masker_prob=1), split="train")
    drawn = [
        mixing.draw(without, rules(masker_prob=p), seed=0, split="train", index=0) for p in (0, 1)
    ]
    assert drawn[0] == drawn[1]


def test_maskers_of_other_splits_alone_are_refused(sounds, tmp_path):
    splits = sounds.sources["split"].mask(sounds.sources["role"] == "masker", "heldout")
    rows = pyarrow.Table.from_pandas(sounds.sources.assign(split=splits))
    source_table.write(tmp_path, rows)
    other = source_table.SourceTable.open(tmp_path)
    with pytest.raises(
        ValueError, match=r"no masker of split 'train'.*masker_prob: 0 does without"
    ):
        mixing.check(replace(sounds, table=other), rules(masker_prob=0.1), split="train")


def test_mixtures_for_validation_and_test_have_none(sounds):
    for split in SPLITS[1:]:
        assert draw(sounds, 0, split, masker_prob=1) == draw(sounds, 0, split)
    assert draw(sounds, masker_prob=1) == draw_masked(sounds)


def test_tables_with_and_without_maskers_are_read(sounds, tmp_path):
    how = {"seed": 0, "n": 4, "n_jobs": 1, "progress": False}
    for split, prob, schema in (
        ("train", 0, recipes.SCHEMA),
        ("train", 0.5, recipes.MASKED),
        ("valid", 0.5, recipes.SCHEMA),
    ):
        drawn = [draw(sounds, i, split, masker_prob=prob) for i in range(4)]
        tables = list(mixing.draw_many(sounds, rules(masker_prob=prob), split=split, **how))
        assert [table.schema for table in tables] == [schema]
        recipes.write(tmp_path / "drawn.parquet", tables)
        assert list(recipes.read(tmp_path / "drawn.parquet")) == drawn


def test_held_out_parts_are_written_once_more_under_maskers(sounds, without, tmp_path):
    plain = {}
    for split in SPLITS[2:]:
        plain[split] = [draw(sounds, i, split) for i in range(5)]
        recipes.write(tmp_path / f"{split}.parquet", recipes.to_table(plain[split]))
    written = backgrounds.mask_parts(sounds, rules(), tmp_path, seed=0)
    for name, split in backgrounds.MASKED.items():
        assert [recipe._replace(masker=None) for recipe in written[name]] == plain[split]
        assert list(written[name]) == [draw_masked(sounds, i, split) for i in range(5)]
        assert list(recipes.read(tmp_path / f"{name}.parquet")) == list(written[name])
    assert backgrounds.mask_parts(without, rules(), tmp_path, seed=0) == {}
    assert sorted(path.stem for path in tmp_path.glob("*.parquet")) == SPLITS[2:]


def test_shards_hold_maskers_too(sounds, tmp_path):
    given, drawn = rules(masker_prob=0.5), [draw(sounds, i, masker_prob=0.5) for i in range(6)]
    assert 0 < sum(recipe.masker is not None for recipe in drawn) < 6
    how = {"seed": 0, "split": "train", "n": 6, "shard_size": 6, "n_jobs": 1, "progress": False}
    for form in ("parquet", "webdataset"):
        shards.write(sounds.folder, given, tmp_path / form, form=form, **how)
    table = pyarrow.parquet.read_table(tmp_path / "parquet/train-00000.parquet")
    rows = table.drop_columns(["audio"]).to_pylist()
    with tarfile.open(tmp_path / "webdataset/train-00000.tar") as tar:
        texts = [tar.extractfile(name).read() for name in tar.getnames() if name.endswith("json")]
    for read in (rows, list(map(json.loads, texts))):
        assert [recipes.Recipe.from_row(row) for row in read] == drawn
