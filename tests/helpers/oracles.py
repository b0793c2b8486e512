"""The evaluation tools of others, imported without their noise, and scored clips to give them."""

import warnings

import numpy as np

from flamlib.sound_events.events import Event, merge

with warnings.catch_warnings():  # on import, they ask for pkg_resources
    warnings.simplefilter("ignore")
    import sed_eval
    from sed_scores_eval import segment_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe

__all__ = ["create_score_dataframe", "random_clips", "sed_eval", "segment_based"]


def random_clips(seed, n_clips=5, n_captions=3, n_frames=32, clip_s=10.0):
    """Scores and edges, captions, truth, durations: smoothed noise, raised where events are."""
    rng = np.random.default_rng(seed)
    edges = np.linspace(0.0, clip_s, n_frames + 1)
    captions = [f"caption {i}" for i in range(n_captions)]
    scores, truth = {}, {}
    for clip in map(str, range(n_clips)):
        score, events = rng.normal(size=(n_frames, n_captions)), []
        for _ in range(rng.integers(0, 6)):
            # Never exactly a collar away from a frame's edge, where sed_eval rounds by luck.
            onset = round(rng.uniform(0, 0.8 * clip_s), 3) + 0.0003
            offset = round(min(clip_s, onset + 0.3 + rng.exponential(1.5)), 3)
            column = rng.integers(n_captions)
            events.append(Event(onset, offset, captions[column]))
            score[(edges[1:] > onset) & (edges[:-1] < offset), column] += 1.5
        scores[clip], truth[clip] = score.round(rng.integers(1, 4)), merge(events)
    for j, caption in enumerate(captions):  # sed_scores_eval refuses a caption that never sounds
        if not any(e.caption == caption for of in truth.values() for e in of):
            truth["0"] = merge([*truth["0"], Event(0.5 + j, 1.25 + j, caption)])
    return scores, edges, captions, truth, dict.fromkeys(scores, clip_s)
