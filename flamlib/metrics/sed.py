"""Frames of clips of any length, judged in every way: ranked, detected, at all thresholds at once.

Each number is a fraction in [0, 1]:

    auroc_macro, auroc_pooled   frames ranked by score, see `metrics.frame_auroc`
    auroc_clip                  the same within each clip, mean over clips, see `auroc_by_clip`
    map                         average precision of the frames, mean over captions
    f1                          frame-wise F1, mean over captions, at one threshold for all of them
    segment_f1, event_f1        F1 of segments and of events by collars at the same threshold, of
                                smoothed scores
    mpauc, mpauc_mcclish        partial AUROC of segments, see `metrics.partial_auroc`
    psds1, psds2                with DCASE's settings, exact, of smoothed scores
    psds1_mean, psds2_mean      the same but for alpha_st 0: what differs between captions is not
                                punished, and a few that are never found do not make it zero
    psds1_raw, psds2_raw        as psds1 and psds2, of scores as they are

What is judged, and what counts where nothing is known, is said in `clip_scores`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from flamlib.metrics import f1, metrics
from flamlib.metrics.bootstrap import ClipStatistic, each_draw
from flamlib.metrics.clip_scores import Claims, Located
from flamlib.metrics.psds import Rule, area, clip_rocs, psd_rocs

PSDS = {
    "psds1": Rule(dtc_threshold=0.7, gtc_threshold=0.7, cttc_threshold=None, alpha_ct=0.0),
    "psds2": Rule(dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5),
}


@dataclass(frozen=True)
class Criteria:
    """How detections are judged: seconds of a segment, the highest false positive rate of a partial
    AUROC, how far off the ends of an event may be, over how many frames scores are smoothed."""

    segment_s: float
    max_fpr: float
    collar_s: float
    collar_rate: float
    median_frames: int

    @property
    def collars(self) -> dict[str, float]:
        return {
            "onset_collar_s": self.collar_s,
            "offset_collar_s": self.collar_s,
            "offset_collar_rate": self.collar_rate,
        }


def numbers(located: Located, criteria: Criteria, *, threshold: float) -> dict[str, float | int]:
    """All numbers, see the module's docstring; `threshold` is that of the three F1."""
    rows, smooth = located.by_frame, located.smoothed(criteria.median_frames)
    frames = (rows.score, rows.active, rows.known)
    auroc = metrics.frame_auroc(*frames)
    claims = smooth.claims(threshold)
    in_segments = smooth.by_segment(criteria.segment_s)
    part = metrics.partial_auroc(
        in_segments.score, in_segments.active, in_segments.known, max_fpr=criteria.max_fpr
    )
    return {
        "auroc_macro": auroc["macro"],
        "auroc_pooled": auroc["pooled"],
        "auroc_clip": metrics.auroc_by_clip(rows.score, rows.active, rows.clip, rows.known)[
            "macro"
        ],
        "map": metrics.average_precision(*frames)["macro"],
        "f1": f1.f1_of(rows.counts_at(threshold))["f1_macro"],
        "segment_f1": _segment_f1(smooth, criteria, claims)["f1_macro"],
        "event_f1": _event_f1(smooth, criteria, claims)["f1_macro"],
        "threshold": threshold,
        "mpauc": part["macro"],
        "mpauc_mcclish": part["mcclish"],
        **polyphonic(smooth),
        **{f"{name}_raw": value for name, value in polyphonic(located).items() if name in PSDS},
        "n_clips": len(located.clips),
        "n_captions": len(located.captions),
        "n_skipped": auroc["n_skipped"],
        "n_unknown": int((~located.known).sum()),
    }


def polyphonic(located: Located) -> dict[str, float]:
    """psds1, psds2 and their means over captions, of the scores as they are."""
    found, given = {}, located.as_psds
    for name, rule in PSDS.items():
        rocs = psd_rocs(given, rule)
        found[name] = area(rocs, alpha_st=1.0, max_efpr=rule.max_efpr)
        found[f"{name}_mean"] = area(rocs, alpha_st=0.0, max_efpr=rule.max_efpr)
    return found


def statistics(
    located: Located, criteria: Criteria, *, threshold: float
) -> dict[str, Callable[[], ClipStatistic]]:
    """What makes each number a statistic over draws of the clips, for intervals and tests: one
    after the other, as each keeps all scores in order."""
    rows, smooth = located.by_frame, located.smoothed(criteria.median_frames)
    frames = (rows.score, rows.active, rows.clip, rows.known)

    def drawn_f1(counts: Int[np.ndarray, "clip caption 3"]) -> ClipStatistic:
        return metrics.clip_sum(counts, lambda n: f1.f1_of(n[None])["f1_macro"])

    def partial() -> ClipStatistic:
        of = smooth.by_segment(criteria.segment_s)
        return metrics.clip_partial_auroc(
            of.score, of.active, of.clip, of.known, max_fpr=criteria.max_fpr
        )

    def standardised() -> ClipStatistic:
        """McClish's, which grows with the other as a straight line."""
        macro, chance = partial(), criteria.max_fpr**2 / 2
        return lambda times: np.asarray(
            0.5 * (1 + (macro(times) * criteria.max_fpr - chance) / (criteria.max_fpr - chance))
        )

    def claimed(count: Callable[[Located, Criteria, Claims], dict]) -> ClipStatistic:
        return drawn_f1(count(smooth, criteria, smooth.claims(threshold))["counts"])

    return {
        "auroc_macro": lambda: metrics.clip_auroc(*frames, pooled=False),
        "auroc_pooled": lambda: metrics.clip_auroc(*frames, pooled=True),
        "auroc_clip": lambda: metrics.clip_mean(metrics.auroc_by_clip(*frames)["per_clip"]),
        "map": lambda: metrics.clip_average_precision(*frames),
        "f1": lambda: drawn_f1(rows.counts_at(threshold)),
        "segment_f1": lambda: claimed(_segment_f1),
        "event_f1": lambda: claimed(_event_f1),
        "mpauc": partial,
        "mpauc_mcclish": standardised,
        **{k: of for name in PSDS for k, of in _drawn_psds(smooth, name).items()},
        **{f"{name}_raw": _drawn_psds(located, name)[name] for name in PSDS},
    }


def best_threshold(located: Located, *, n_thresholds: int) -> tuple[float, float]:
    """The common threshold of the highest frame F1 on these clips, and that F1, which flatters.

    The thresholds are `n_thresholds` evenly between 0 and 1, and as many that a share of 1e-4 to 1
    of the frames exceeds: so that a model whose scores hardly differ is judged at its best, too.
    """
    rows = located.by_frame
    thresholds = candidate_thresholds(rows.score[rows.known], n_thresholds)
    found = metrics.f1_over_thresholds(rows.score, rows.active, thresholds, rows.known)
    return found["best_macro"], float(np.max(found["f1_macro"]))


def candidate_thresholds(
    scores: Float[np.ndarray, "frame"], n_thresholds: int
) -> Float[np.ndarray, "threshold"]:
    """See `best_threshold`."""
    even = np.linspace(0, 1, n_thresholds + 2)[1:-1]
    exceeded = np.quantile(scores, 1 - np.geomspace(1e-4, 1, n_thresholds))
    return np.unique(np.concatenate([even, exceeded]))


def intervals(
    of: Mapping[str, Mapping[str, Callable[[], ClipStatistic]]],
    n_clips: int,
    *,
    against: Sequence[tuple[str, str]],
    n_resamples: int,
    seed: int,
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The intervals of each model's numbers, `<name>_low` and `<name>_high`; and for each pair of
    models in `against`, as "one - other", the paired test of each number: the difference by the
    number's name, beside it its `_low`, `_high` and `_p`, the p-value of `metrics.paired_test`.

    `of[model]` is what `statistics` returns, perhaps with more: a number that only some models have
    is theirs alone. All models are judged on the same draws of clips.
    """
    bounds: dict[str, dict[str, float]] = {model: {} for model in of}
    tests: dict[str, dict[str, float]] = {f"{a} - {b}": {} for a, b in against}
    draws = {"n_resamples": n_resamples, "seed": seed}
    for name in dict.fromkeys(name for makers in of.values() for name in makers):
        made = {model: _remembering(of[model][name]()) for model in of if name in of[model]}
        for model, statistic in made.items():
            low, high = metrics.bootstrap(statistic, n_clips, **draws)
            bounds[model] |= {f"{name}_low": low, f"{name}_high": high}
        for one, other in against:
            if one not in made or other not in made:
                continue
            test = metrics.paired_test(made[one], made[other], n_clips, **draws)
            tests[f"{one} - {other}"] |= {
                name: test["difference"],
                f"{name}_low": test["low"],
                f"{name}_high": test["high"],
                f"{name}_p": test["p_value"],
            }
    return bounds, tests


def _segment_f1(smooth: Located, criteria: Criteria, claims: Claims) -> dict:
    durations = dict(zip(smooth.clips, smooth.durations, strict=True))
    return f1.segment_f1(
        claims, smooth.known_truth, smooth.captions, durations, segment_s=criteria.segment_s
    )


def _event_f1(smooth: Located, criteria: Criteria, claims: Claims) -> dict:
    return f1.event_f1(claims, smooth.known_truth, smooth.captions, **criteria.collars)


def _drawn_psds(located: Located, name: str) -> dict[str, Callable[[], ClipStatistic]]:
    """PSDS and its mean over captions. Both need the same staircases of a draw: whichever is asked
    of it first works out the two, and only numbers are kept for the other."""
    areas: dict[bytes, tuple[float, float]] = {}

    def maker(which: int) -> ClipStatistic:
        rocs = cache(lambda: clip_rocs(located.as_psds, PSDS[name]))

        def of_draw(times_drawn: Int[np.ndarray, "clip"]) -> float:
            key = times_drawn.tobytes()
            if key not in areas:
                found = rocs()(times_drawn)
                areas[key] = tuple(
                    area(found, alpha_st=alpha_st, max_efpr=PSDS[name].max_efpr)
                    for alpha_st in (0.0, 1.0)
                )
            return areas[key][which]

        return each_draw(of_draw)

    return {f"{name}_mean": lambda: maker(0), name: lambda: maker(1)}


def _remembering(statistic: ClipStatistic) -> ClipStatistic:
    """The same statistic, at no cost for draws of clips that it has seen."""
    values: dict[bytes, np.ndarray] = {}

    def remembered(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        key = times_drawn.tobytes()
        if key not in values:
            values[key] = statistic(times_drawn)
        return values[key]

    return remembered
