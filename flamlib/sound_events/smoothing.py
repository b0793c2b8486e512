"""What scores go through before events are found in them: a median filter, and hysteresis.

Hysteresis is that an event begins only where its score reaches a threshold, but goes on while the
score is nearly there. Here it is a filter of scores, so that it holds at every threshold at once,
and whatever counts frames, runs or thresholds of filtered scores needs to know nothing of it: a
frame's new score is the highest threshold at which an event that goes on while its odds are at
least exp(-hysteresis) times those of the threshold holds the frame,

    new[l] = max over frames k of min(score[k], min over frames m from k to l of raised[m])

    raised[m] = score[m] whose odds, score / (1 - score), are exp(hysteresis) times as high

In image analysis this is the reconstruction of `score` under `raised` by dilation (Vincent 1993,
doi:10.1109/83.217222); in one dimension two passes of doubled steps compute it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Smoothing:
    """How scores are smoothed; first the median filter.

    Attributes:
        median_frames: Length of the median filter in frames, odd; 1: none.
        hysteresis: An event goes on while its odds are at least exp(-hysteresis) times those of its
            threshold, in nats; 0: none.

    Raises:
        ValueError: For numbers that these cannot be.
    """

    median_frames: int = 1
    hysteresis: float = 0.0

    def __post_init__(self) -> None:
        _check_odd(self.median_frames)
        if not 0 <= self.hysteresis < np.inf:
            raise ValueError(f"hysteresis = {self.hysteresis}: expected 0 or more nats")

    def __str__(self) -> str:
        """Say it in a few words."""
        median = f"a median of {self.median_frames} frames"
        held = f"a hysteresis of {self.hysteresis:g}"
        parts = [median] * (self.median_frames > 1) + [held] * (self.hysteresis > 0)
        return " and ".join(parts) or "no smoothing"

    def __call__(
        self, scores: Float[np.ndarray, "*batch frame"]
    ) -> Float[np.ndarray, "*batch frame"]:
        """Return scores that were smoothed along the last axis.

        Raises ValueError for scores that are NaN or, with hysteresis, outside of [0, 1].
        """
        return hold(median_filter(scores, self.median_frames), self.hysteresis)


def median_filter(
    scores: Float[np.ndarray, "*batch frame"], n_frames: int
) -> Float[np.ndarray, "*batch frame"]:
    """Replace each score by the median of the `n_frames` (odd) around it, along the last axis.

    Peaks and gaps shorter than half the window vanish. Beyond its ends a clip is continued by its
    mirror image, the last frame repeated first (scipy's "reflect").

    >>> median_filter(np.array([0.1, 0.9, 0.1, 0.8, 0.9]), 3)
    array([0.1, 0.1, 0.8, 0.8, 0.9])
    """
    _check_odd(n_frames)
    if np.isnan(scores).any():
        raise ValueError("scores contain NaN, of which there is no median")
    if n_frames == 1:
        return scores.copy()
    if n_frames == 3:  # the usual one
        padded = np.concatenate([scores[..., :1], scores, scores[..., -1:]], axis=-1)
        left, middle, right = padded[..., :-2], padded[..., 1:-1], padded[..., 2:]
        lower, upper = np.minimum(left, middle), np.maximum(left, middle)
        return np.maximum(lower, np.minimum(upper, right))
    # Imported here: scipy takes a third of a second.
    from scipy.ndimage import median_filter as scipy_median_filter

    size = (1,) * (scores.ndim - 1) + (n_frames,)
    return scipy_median_filter(scores, size=size, mode="reflect")


def _check_odd(n_frames: int) -> None:
    if n_frames < 1 or n_frames % 2 == 0:
        raise ValueError(f"a median filter needs an odd number of frames, found {n_frames}")


def hold(
    scores: Float[np.ndarray, "*batch frame"], hysteresis: float
) -> Float[np.ndarray, "*batch frame"]:
    """Give frames the score of the events that go on in them, along the last axis.

    Args:
        scores: In [0, 1].
        hysteresis: In nats, 0 or more.

    >>> hold(np.array([0.1, 0.9, 0.8, 0.9, 0.2]), 1.0).round(2)
    array([0.23, 0.9 , 0.9 , 0.9 , 0.4 ])
    """
    if not hysteresis:
        return scores
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError("hysteresis needs scores between 0 and 1: odds are of those alone")
    raised = raise_odds(scores, hysteresis)
    before = _carry(scores[..., ::-1], raised[..., ::-1])[..., ::-1]
    return np.maximum(before, _carry(scores, raised))


def raise_odds(scores: Float[np.ndarray, "*any"], hysteresis: float) -> Float[np.ndarray, "*any"]:
    """Return scores whose odds are exp(hysteresis) times as high, never lower than they were."""
    if not hysteresis:
        return scores
    against = (1 - scores) * scores.dtype.type(np.exp(-hysteresis))
    whole = scores + against
    # Nothing is divided by nothing where a score of 0 meets a hysteresis too large for its type.
    raised = np.divide(scores, whole, out=np.zeros_like(scores), where=whole > 0)
    return np.maximum(raised, scores)


def _carry(
    scores: Float[np.ndarray, "*batch frame"], raised: Float[np.ndarray, "*batch frame"]
) -> Float[np.ndarray, "*batch frame"]:
    """Carry scores to earlier frames, over frames that are raised as high.

    Returns max over k >= l of min(scores[k], min over m from l to k of raised[m]). `found` is that
    of the `step` frames from l on, `lowest` the lowest that is raised in them: twice as many at a
    time, until no score could be carried further. Beyond the end there is nothing to be carried.
    """
    found, lowest, step = scores.copy(), raised.copy(), 1
    while (lowest[..., :-step] > found[..., :-step]).any():
        carried = np.minimum(lowest[..., :-step], found[..., step:])
        np.maximum(found[..., :-step], carried, out=found[..., :-step])
        # numpy copies what overlaps with its result first.
        np.minimum(lowest[..., :-step], lowest[..., step:], out=lowest[..., :-step])
        lowest[..., -step:] = 0
        step *= 2
    return found
