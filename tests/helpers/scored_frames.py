"""Random frames to be ranked, with all that is awkward about them."""

import numpy as np
from hypothesis import strategies as st
from oracles import random_clips

from flamlib.metrics import ranking
from flamlib.metrics.clip_scores import ClipScores

levels = st.sampled_from([2, 5, 10_000])  # from many ties to hardly any
seeds = st.integers(0, 2**32 - 1)


def frames(seed, n_levels, n_frames=60, n_captions=4):
    """Scores with ties, labels that the scores know something of, some of them not known."""
    rng = np.random.default_rng(seed)
    active = rng.random((n_frames, n_captions)) < rng.choice([0.0, 0.1, 0.5, 1.0], n_captions)
    scores = np.floor((rng.random(active.shape) + 0.3 * active) * n_levels) / n_levels
    return scores, active, rng.random(active.shape) < 0.8


def pooled_auroc(scores, active, known=True):
    """The AUROC over pairs of known frames of any two captions."""
    return ranking.pooled_auroc(scores[known & active], [scores[known & ~active]])


def clip_scores(seed=0, n_clips=6, **changes):
    """Clips of 10 s in 32 frames, but for one of 6.1 s in 20."""
    scores, _, captions, truth, durations = random_clips(seed, n_clips=n_clips)
    durations["1"], scores["1"] = 6.1, scores["1"][:20]
    truth["1"] = [e._replace(offset=min(e.offset, 6.1)) for e in truth["1"] if e.onset < 6]
    of = dict(
        clips=list(scores),
        captions=captions,
        frame_s=10 / 32,
        durations=list(durations.values()),
        ground_truth=list(truth.values()),
        scores=list(scores.values()),
        known=np.ones((n_clips, len(captions)), dtype=bool),
    )
    return ClipScores(**of | changes)
