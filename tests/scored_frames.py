"""Random frames to be ranked, with all that is awkward about them."""

import numpy as np
from hypothesis import strategies as st

levels = st.sampled_from([2, 5, 10_000])  # from many ties to hardly any
seeds = st.integers(0, 2**32 - 1)


def frames(seed, n_levels, n_frames=60, n_captions=4):
    """Scores with ties, labels that the scores know something of, some of them not known."""
    rng = np.random.default_rng(seed)
    active = rng.random((n_frames, n_captions)) < rng.choice([0.0, 0.1, 0.5, 1.0], n_captions)
    scores = np.floor((rng.random(active.shape) + 0.3 * active) * n_levels) / n_levels
    return scores, active, rng.random(active.shape) < 0.8
