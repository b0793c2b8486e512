import shutil
from dataclasses import replace

import numpy as np
import pytest
from heldouts import read_split, write_artifacts
from hypothesis import given
from hypothesis import strategies as st

from flamlib.evaluation import thresholds
from flamlib.evaluation.splits import SplitLogits, write_scores
from flamlib.metrics.f1 import f1_over_thresholds
from flamlib.sound_events.smoothing import Smoothing


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.4, 0.7]), st.booleans()), min_size=1))
def test_no_other_threshold_has_a_higher_f1(frames):
    scores, active = (np.array(column) for column in zip(*frames, strict=True))
    threshold, f1 = thresholds.best_f1(scores, active)
    if not active.any():
        assert (threshold, f1) == (1.0, 0.0)
        return
    candidates = np.unique([threshold, 0.05, 0.15, 0.3, 0.5])
    curve = f1_over_thresholds(scores[:, None], active[:, None], candidates)
    assert f1 == pytest.approx(curve["f1_macro"].max(), abs=1e-6)
    assert f1 == pytest.approx(curve["f1_macro"][candidates == threshold][0], abs=1e-6)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Scores of a split by an oracle that doubts everything a little, in the files of a run."""
    folder = tmp_path_factory.mktemp("thresholds")
    write_artifacts(folder)
    split, *_ = read_split(folder, "valid")
    logits = np.where(split.active, 2.0, -2.0).astype(np.float32)
    of = SplitLogits(split, logits, np.full(len(split.captions), -3.0, np.float32))
    write_scores(folder / "scores", {"valid": split}, {"valid": {"flam": of}})
    return folder / "scores", of


def test_scores_are_read_as_they_were_written(scored):
    folder, of = scored
    read, expected = thresholds.read_scores(folder, "flam"), of.clip_scores()
    assert (read.clips, read.captions) == (expected.clips, expected.captions)
    assert read.frame_s == pytest.approx(expected.frame_s)
    assert (read.known == expected.known).all()
    for ours, theirs in zip(read.scores, expected.scores, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert [len(events) for events in read.ground_truth] == [
        len(events) for events in expected.ground_truth
    ]


def test_a_caption_may_read_like_a_missing_value(scored, tmp_path):
    split = replace(scored[1].split, known=np.zeros_like(scored[1].split.known))
    names = dict(zip(split.captions, ["None", "nan", "NA", "null", "n/a"], strict=False))
    split = replace(
        split,
        captions=[names.get(caption, caption) for caption in split.captions],
        events=[
            [event._replace(caption=names.get(event.caption, event.caption)) for event in events]
            for events in split.events
        ],
    )
    write_scores(tmp_path, {"valid": split}, {"valid": {"flam": replace(scored[1], split=split)}})
    read = thresholds.read_scores(tmp_path, "flam")
    assert read.captions == split.captions
    assert not read.known.any()


def test_a_caption_of_few_events_has_the_fallback(scored, monkeypatch):
    folder, _ = scored
    scores = thresholds.read_scores(folder, "flam")
    known = np.ones(len(scores.captions))
    how = {"model": "0" * 64, "smoothing": Smoothing(), "n_thresholds": 50}
    made = thresholds.compute(scores, known, **how)
    assert made.novel == made.fallback, "of no novel caption"
    low, high = (np.unique(np.concatenate(scores.scores))[[0, -1]]).tolist()
    for own in made.captions.values():
        assert low < own.threshold < high
        assert own.f1 == 1
    counted = {e.caption for events in scores.ground_truth for e in events}
    assert made.captions.keys() <= counted
    assert low < made.fallback <= high
    [chosen] = made.threshold_for(["what validation does not know"])
    assert (chosen.threshold, chosen.is_own, chosen.n_events) == (made.fallback, False, 0)


def test_novel_captions_have_a_common_threshold_of_their_own(scored, monkeypatch):
    """Here the scores of every second caption are lower throughout."""
    scores = thresholds.read_scores(scored[0], "flam")
    known = (np.arange(len(scores.captions)) % 2).astype(float)
    lower = [score * np.where(known, 1.0, 0.5) for score in scores.scores]
    scores = replace(scores, scores=lower)
    how = {"model": "0" * 64, "smoothing": Smoothing(), "n_thresholds": 50}
    few = thresholds.compute(scores, known, **how)
    assert few.novel == few.fallback, "of too few captions"
    monkeypatch.setattr(thresholds, "MIN_CAPTIONS", 1)
    made = thresholds.compute(scores, known, **how)
    assert made.novel < made.fallback
    given = thresholds.compute(scores, known, novel=0.42, **how)
    assert given == replace(made, novel=0.42, criterion=given.criterion)
    assert given.criterion != made.criterion


def test_scores_of_other_clips_are_refused(scored, tmp_path):
    folder = shutil.copytree(scored[0], tmp_path / "scores")
    path = folder / "ground_truth/valid/durations.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"valid.parquet holds scores of other clips"):
        thresholds.read_scores(folder, "flam")
    with pytest.raises(FileNotFoundError):
        thresholds.read_scores(folder, "nobody")


def test_without_events_there_is_nothing_to_choose_by(scored):
    scores = thresholds.read_scores(scored[0], "flam")
    scores.known[:] = False
    known = np.ones(len(scores.captions))
    with pytest.raises(ValueError, match="no event in the mixtures for validation"):
        thresholds.compute(scores, known, model="0" * 64, smoothing=Smoothing(1), n_thresholds=9)
