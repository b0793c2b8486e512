from dataclasses import replace

import numpy as np
import pytest
from heldouts import CLIP_S, RULES, read_split, write_artifacts
from sounds import mixture_config

from flamlib.data.mixtures import recipes
from flamlib.evaluation import dependency
from flamlib.evaluation.splits import EvalSplit, SplitLogits
from flamlib.experiment.params.trials import DependencyConfig

PAIR = DependencyConfig(
    frequent="a hiss",
    rare="a tone",
    frequent_share=0.8,
    rare_share=0.5,
    rare_s=0.4,
    n_train=2,
    n_test=4,
    n_thresholds=19,
    budget={},
)
N = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("dependency"))


@pytest.fixture(scope="module")
def bank(folder):
    return read_split(folder)[1]


@pytest.fixture(scope="module")
def rules():
    return mixture_config(RULES)


@pytest.fixture(scope="module")
def drawn(bank, rules):
    return [
        dependency.draw(bank, rules, PAIR, seed=0, split="seen_captions", index=i) for i in range(N)
    ]


def test_the_rare_caption_sounds_nowhere_but_over_the_frequent_one(drawn):
    rare = [r for r in drawn if any(e.caption == PAIR.rare for e in r.events)]
    both = [r for r in rare if any(e.caption == PAIR.frequent for e in r.events)]
    assert 0 < len(rare) == len(both) < N
    assert {e.caption for r in drawn for e in r.events} == {PAIR.frequent, PAIR.rare}


def test_shares_and_durations_are_those_asked_for(drawn, bank, rules):
    frequent = [r for r in drawn if any(e.caption == PAIR.frequent for e in r.events)]
    assert len(frequent) / N == pytest.approx(PAIR.frequent_share, abs=0.2)
    for recipe in frequent:
        [event] = [e for e in recipe.events if e.caption == PAIR.frequent]
        assert sum(s.n_samples for s in event.segments) == recipe.n_samples, "from end to end"
        for label in recipe.labels:
            if label.caption == PAIR.rare:
                assert label.offset - label.onset <= PAIR.rare_s + rules.fill_gaps_below_s


def test_a_clip_is_drawn_alone_as_among_others_and_renders(drawn, bank, rules):
    again = dependency.draw(bank, rules, PAIR, seed=0, split="seen_captions", index=7)
    assert again == drawn[7]
    waveform = recipes.render(bank, again)
    assert len(waveform) == round(CLIP_S * bank.sample_rate)
    assert np.abs(waveform).max() <= 1


def test_a_caption_without_recordings_is_named_with_those_that_have_some(bank, rules):
    lost = replace(PAIR, frequent="rain falls", frequent_share=1.0)
    with pytest.raises(
        ValueError, match="no recording of 'rain falls', but of a bell rings, a hiss"
    ):
        dependency.draw(bank, rules, lost, seed=0, split="seen_captions", index=0)


def test_a_caption_that_sounds_in_no_test_mixture_is_named_before_training(bank, rules, tmp_path):
    never = replace(PAIR, rare_share=0.0)
    with pytest.raises(ValueError, match=r"\['a tone'\] sounds in none of 4 mixtures"):
        dependency.write_mixtures(tmp_path, bank, rules, never, seed=0)


@pytest.fixture(scope="module")
def split(drawn, folder):
    _, bank, lexicon = read_split(folder)
    return EvalSplit.from_mixtures("seen_captions", drawn, bank, lexicon, frame_s=0.32)


def test_a_model_that_knows_the_priors_and_the_truth_is_told_so(split):
    share = split.active_share()
    log_odds = np.log(share / (1 - share))
    evidence = np.where(split.active, 6.0, -6.0)
    logits = SplitLogits(split, evidence + log_odds[:, None], log_odds)
    found = dependency.metrics_of(logits, PAIR)
    for of in found.values():
        assert of["logit_bias"] == pytest.approx(of["log_odds"])
        assert of["auroc"] == of["f1_own"] == of["f1_common"] == 1
    assert found["rare"]["log_odds"] < found["frequent"]["log_odds"]
    assert found["rare"]["score_active"] > 0.5 > found["rare"]["score_other"]
    assert found["frequent"]["score_other"] is None, "it never has to: the rare one is never alone"


def test_frames_are_counted_by_what_they_hold(split):
    logits = SplitLogits(split, np.zeros(split.active.shape), np.zeros(len(split.captions)))
    frames, table = dependency.frame_scores(logits, PAIR), logits.score_table()
    assert len(frames) == table.known.sum()
    counted = frames.groupby(["caption", "holds"]).size()
    at = split.captions.index(PAIR.rare)
    known = table.known[:, at]
    assert counted[PAIR.rare, "it sounds"] == table.active[known, at].sum()
    assert (PAIR.frequent, "the other alone") not in counted.index


def test_the_figure_has_a_panel_for_each_model_and_caption(split):
    noise = np.random.default_rng(0).normal(size=split.active.shape)
    logits = SplitLogits(split, noise, np.zeros(2))
    figure = dependency.score_densities({"per_caption": logits, "shared": logits}, PAIR)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "a hiss (frequent); bias: per caption"
    assert titles[3] == "a tone (rare); bias: shared"
