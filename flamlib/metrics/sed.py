"""Metrics of sound event detection: frames ranked, events detected, PSDS over all thresholds.

Each metric is a fraction in [0, 1]:

    auroc_macro, auroc_pooled   of frames, see `ranking.caption_auroc`
    auroc_clip                  of frames within each clip, see `ranking.auroc_by_clip`
    map                         average precision of frames, mean over captions
    f1                          frame-wise F1, mean over captions, at one threshold for all of them,
                                of smoothed scores
    segment_f1, event_f1        F1 of segments and collar-based F1 of events, likewise
    mpauc, mpauc_mcclish        partial AUROC of segments of smoothed scores, see
                                `ranking.partial_auroc`
    psds1, psds2                with DCASE's settings, exact, of smoothed scores
    psds1_mean, psds2_mean      the same with alpha_st 0: the mean over captions, from which their
                                spread is not subtracted; a few captions that are never detected do
                                not make it zero
    psds1_raw, psds2_raw        as psds1 and psds2, of scores that are not smoothed

*Smoothed* means by `smoothing`. How unknown pairs and ends of clips count is said in
`clip_scores`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from flamlib.metrics.bootstrap import (
    ClipStatistic,
    bootstrap,
    clip_mean,
    clip_sum,
    each_draw,
    paired_test,
)
from flamlib.metrics.bootstrap_ranking import clip_auroc, clip_average_precision, clip_partial_auroc
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.f1 import event_f1, f1_of_counts, f1_of_passed, passed_thresholds, segment_f1
from flamlib.metrics.psds import PsdsSettings, area, clip_rocs, psd_rocs
from flamlib.metrics.quantiles import Blocks, quantiles
from flamlib.metrics.ranking import (
    auroc_by_clip,
    average_precision,
    caption_auroc,
    mcclish,
    mean_of_known,
    partial_auroc,
    pooled_auroc,
)
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.smoothing import Smoothing

PSDS = {
    "psds1": PsdsSettings(dtc_threshold=0.7, gtc_threshold=0.7, cttc_threshold=None, alpha_ct=0.0),
    "psds2": PsdsSettings(dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5),
}

Statistics = dict[str, Callable[[], ClipStatistic]]  # by metric; built when called


@dataclass(frozen=True)
class Criteria:
    """Settings of the metrics.

    Attributes:
        segment_s: seconds of a segment.
        max_fpr: false positive rate up to which the partial AUROC goes, in (0, 1].
        collar_s: by how many seconds the onset or offset of a detection may be off.
        collar_rate: or its offset, by this share of the event's duration if that is more.
        smoothing: of scores before events are found in them.
    """

    segment_s: float
    max_fpr: float
    collar_s: float
    collar_rate: float
    smoothing: Smoothing

    @property
    def collars(self) -> dict[str, float]:
        """The keyword arguments of `f1.event_f1`."""
        return {
            "onset_collar_s": self.collar_s,
            "offset_collar_s": self.collar_s,
            "offset_collar_rate": self.collar_rate,
        }


def compute(
    clip_scores: ClipScores, criteria: Criteria, *, threshold: float
) -> dict[str, float | int]:
    """Return all metrics, see the module's docstring; `threshold` is that of the three F1.

    Beside them: "threshold", and how many clips, captions, captions without a ranking
    ("n_skipped") and unknown pairs there are.
    """
    return compute_with_captions(clip_scores, criteria, threshold=threshold)[0]


def compute_with_captions(
    clip_scores: ClipScores, criteria: Criteria, *, threshold: float
) -> tuple[dict[str, float | int], dict[str, Float[np.ndarray, "caption"]]]:
    """Return what `compute` does, and those metrics that are means over captions, of each of them.

    They are nan for a caption that has none, such as one without events.
    """
    smooth = clip_scores.smoothed(criteria.smoothing)
    ranked = _ranked(clip_scores, smooth, criteria)
    pooled, within_clips = _across_captions(clip_scores)
    f1 = _f1(smooth, criteria, threshold)
    psds, psds_of_captions = psds_metrics(smooth)
    raw = psds if smooth is clip_scores else psds_metrics(clip_scores)[0]
    metrics = {
        "auroc_macro": mean_of_known(ranked["auroc_macro"]),
        "auroc_pooled": pooled,
        "auroc_clip": mean_of_known(within_clips),
        "map": mean_of_known(ranked["map"]),
        **{name: of["f1_macro"] for name, of in f1.items()},
        "threshold": threshold,
        "mpauc": mean_of_known(ranked["mpauc"]),
        "mpauc_mcclish": mean_of_known(ranked["mpauc_mcclish"]),
        **psds,
        **{f"{name}_raw": raw[name] for name in PSDS},
        "n_clips": len(clip_scores.clips),
        "n_captions": len(clip_scores.captions),
        "n_skipped": int(np.isnan(ranked["auroc_macro"]).sum()),
        "n_unknown": int((~clip_scores.known).sum()),
    }
    of_captions = {
        "auroc_macro": ranked["auroc_macro"],
        "map": ranked["map"],
        **{name: of["per_caption"] for name, of in f1.items()},
        "mpauc": ranked["mpauc"],
        **psds_of_captions,
    }
    return metrics, of_captions


def _ranked(
    clip_scores: ClipScores, smooth: ClipScores, criteria: Criteria
) -> dict[str, Float[np.ndarray, "caption"]]:
    """Return what is ranked within each caption, a block of captions at a time."""
    found: dict[str, list[np.ndarray]] = {}
    for columns in clip_scores.caption_blocks():
        part = clip_scores.of_captions(columns)
        smooth_part = part if smooth is clip_scores else smooth.of_captions(columns)
        frames, in_segments = part.by_frame, smooth_part.by_segment(criteria.segment_s)
        table = (frames.scores, frames.active, frames.known)
        area = partial_auroc(
            in_segments.scores, in_segments.active, in_segments.known, max_fpr=criteria.max_fpr
        )
        for name, values in {
            "auroc_macro": caption_auroc(*table),
            "map": average_precision(*table),
            "mpauc": area / criteria.max_fpr,
            "mpauc_mcclish": mcclish(area, criteria.max_fpr),
        }.items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _across_captions(clip_scores: ClipScores) -> tuple[float, Float[np.ndarray, "clip"]]:
    """Return the pooled AUROC and that within each clip, some clips at a time."""
    active, within = [], []
    for part in clip_scores.clip_blocks():
        frames = part.by_frame
        active.append(frames.scores[frames.known & frames.active])
        ranked = (frames.scores, frames.active, frames.clip, frames.known)
        within.append(auroc_by_clip(*ranked))
    inactive = (
        part.by_frame.scores[part.by_frame.known & ~part.by_frame.active]
        for part in clip_scores.clip_blocks()
    )
    return pooled_auroc(np.concatenate(active), inactive), np.concatenate(within)


def _f1(smooth: ClipScores, criteria: Criteria, threshold: float) -> dict[str, dict]:
    """Return what `f1.f1_of_counts` does of frames, segments and events, some clips at a time."""
    sums: dict[str, list[np.ndarray]] = {}
    for part in smooth.clip_blocks():
        detections = part.detections(threshold)
        for name, counts in {
            "f1": part.by_frame.counts_at(threshold),
            "segment_f1": _segment_counts(part, criteria, detections),
            "event_f1": _event_counts(part, criteria, detections),
        }.items():
            sums.setdefault(name, []).append(counts.sum(axis=0))
    return {name: f1_of_counts(np.array(of_parts)) for name, of_parts in sums.items()}


def psds_metrics(
    clip_scores: ClipScores,
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, "caption"]]]:
    """Return psds1 and psds2 and, with alpha_st 0, their means over captions; and of each caption
    psds1_mean and psds2_mean."""
    inputs, metrics, of_captions = clip_scores.psds_inputs(), {}, {}
    for name, settings in PSDS.items():
        rocs, limit = psd_rocs(inputs, settings), settings.max_efpr
        metrics[name] = area(rocs, alpha_st=1.0, max_efpr=limit)
        metrics[f"{name}_mean"] = area(rocs, alpha_st=0.0, max_efpr=limit)
        of_captions[f"{name}_mean"] = np.array(
            [
                area({c: rocs[c]}, alpha_st=0.0, max_efpr=limit) if c in rocs else np.nan
                for c in clip_scores.captions
            ]
        )
    return metrics, of_captions


def statistics(clip_scores: ClipScores, criteria: Criteria, *, threshold: float) -> Statistics:
    """Return, for each metric, a function that builds its bootstrap statistic.

    They are built one at a time, when called: each holds a sorted copy of all scores in memory.
    """
    frames, smooth = clip_scores.by_frame, clip_scores.smoothed(criteria.smoothing)
    ranked = (frames.scores, frames.active, frames.clip, frames.known)

    def f1_statistic(counts: Int[np.ndarray, "clip caption 3"]) -> ClipStatistic:
        return clip_sum(counts, lambda n: f1_of_counts(n[None])["f1_macro"])

    def partial() -> ClipStatistic:
        table = smooth.by_segment(criteria.segment_s)
        return clip_partial_auroc(
            table.scores, table.active, table.clip, table.known, max_fpr=criteria.max_fpr
        )

    def partial_mcclish() -> ClipStatistic:
        """McClish's correction is a linear function of the other normalisation."""
        macro, max_fpr = partial(), criteria.max_fpr
        return lambda times: np.asarray(mcclish(macro(times) * max_fpr, max_fpr))

    def detected_f1(counts: Callable[[ClipScores, Criteria, dict], np.ndarray]) -> ClipStatistic:
        return f1_statistic(counts(smooth, criteria, smooth.detections(threshold)))

    return {
        "auroc_macro": lambda: clip_auroc(*ranked, pooled=False),
        "auroc_pooled": lambda: clip_auroc(*ranked, pooled=True),
        "auroc_clip": lambda: clip_mean(auroc_by_clip(*ranked)),
        "map": lambda: clip_average_precision(*ranked),
        "f1": lambda: f1_statistic(smooth.by_frame.counts_at(threshold)),
        "segment_f1": lambda: detected_f1(_segment_counts),
        "event_f1": lambda: detected_f1(_event_counts),
        "mpauc": partial,
        "mpauc_mcclish": partial_mcclish,
        **{k: build for name in PSDS for k, build in _psds_statistics(smooth, name).items()},
        **{f"{name}_raw": _psds_statistics(clip_scores, name)[name] for name in PSDS},
    }


def best_threshold(clip_scores: ClipScores, *, n_thresholds: int) -> tuple[float, float]:
    """Return the threshold of the highest frame-wise F1 on these clips, and that F1.

    One threshold serves all captions. An F1 at a threshold chosen on the same clips is too
    optimistic. See `candidate_thresholds` for those that are tried.
    """

    def known_scores() -> Iterator[Float[np.ndarray, "_"]]:
        for part in clip_scores.clip_blocks():
            pairs = zip(part.scores, part.known, strict=True)
            yield np.concatenate([score[:, known].ravel() for score, known in pairs])

    thresholds, passed = _candidates(known_scores, n_thresholds), []
    for columns in clip_scores.caption_blocks():
        frames = clip_scores.of_captions(columns).by_frame
        table = (frames.scores, frames.active, thresholds, frames.known)
        passed.append(passed_thresholds(*table))
    curve = f1_of_passed(np.concatenate(passed), thresholds)
    return curve["best_macro"], float(np.max(curve["f1_macro"]))


def candidate_thresholds(
    scores: Float[np.ndarray, "frame"], n_thresholds: int
) -> Float[np.ndarray, "threshold"]:
    """Return `n_thresholds` evenly spaced between 0 and 1, and as many quantiles of the scores.

    The quantiles are those exceeded by a share of 1e-4 to 1 of the frames, so that a model whose
    scores hardly differ is given its best threshold, too.
    """
    return _candidates(lambda: [scores.copy()], n_thresholds)


def _candidates(scores: Blocks, n_thresholds: int) -> Float[np.ndarray, "threshold"]:
    """Return `candidate_thresholds` of the scores in all blocks."""
    even = np.linspace(0, 1, n_thresholds + 2)[1:-1]
    shares = 1 - np.geomspace(1e-4, 1, n_thresholds)
    return np.unique(np.concatenate([even, quantiles(scores, shares)]))


def confidence_intervals(
    statistics: Mapping[str, Statistics],
    n_clips: int,
    *,
    against: Sequence[tuple[str, str]],
    n_resamples: int,
    seed: int,
    progress: str | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Return bootstrap intervals of each model's metrics, and paired tests between models.

    All models are evaluated on the same draws of clips.

    Args:
        statistics: of each model what `statistics` returns, possibly with more; a metric that only
            some models have is theirs alone.
        n_clips: how many clips the statistics are of.
        against: pairs of models to be tested.
        n_resamples: number of draws.
        seed: of the draws.
        progress: title of a progress bar; None: no bar.

    Returns:
        Of each model `<metric>_low` and `<metric>_high`, the ends of the 95 % interval; and of each
        pair, as "one - other", the difference by the metric's name and its `_low`, `_high` and
        `_p`, see `bootstrap.paired_test`.
    """
    bounds: dict[str, dict[str, float]] = {model: {} for model in statistics}
    tests: dict[str, dict[str, float]] = {f"{a} - {b}": {} for a, b in against}
    draws = {"n_resamples": n_resamples, "seed": seed}
    names = list(dict.fromkeys(name for of_model in statistics.values() for name in of_model))
    for name in tqdm(names, progress, unit="metric", disable=progress is None):
        built = {
            model: _cached(of_model[name]())
            for model, of_model in statistics.items()
            if name in of_model
        }
        for model, statistic in built.items():
            low, high = bootstrap(statistic, n_clips, **draws)
            bounds[model] |= {f"{name}_low": low, f"{name}_high": high}
        for one, other in against:
            if one not in built or other not in built:
                continue
            test = paired_test(built[one], built[other], n_clips, **draws)
            tests[f"{one} - {other}"] |= {
                name: test["difference"],
                f"{name}_low": test["low"],
                f"{name}_high": test["high"],
                f"{name}_p": test["p_value"],
            }
    return bounds, tests


def _segment_counts(
    smooth: ClipScores, criteria: Criteria, detections: dict[str, list[Detection]]
) -> Int[np.ndarray, "clip caption 3"]:
    durations = dict(zip(smooth.clips, smooth.durations, strict=True))
    return segment_f1(
        detections, smooth.known_events(), smooth.captions, durations, segment_s=criteria.segment_s
    )["counts"]


def _event_counts(
    smooth: ClipScores, criteria: Criteria, detections: dict[str, list[Detection]]
) -> Int[np.ndarray, "clip caption 3"]:
    judged = event_f1(detections, smooth.known_events(), smooth.captions, **criteria.collars)
    return judged["counts"]


def _psds_statistics(clip_scores: ClipScores, name: str) -> Statistics:
    """Return the builders of PSDS and of its mean over captions.

    Both need the same curves of a draw: whichever is asked for it first computes both areas, and
    only these are kept for the other.
    """
    areas: dict[bytes, tuple[float, float]] = {}

    def build(which: int) -> ClipStatistic:
        rocs = cache(lambda: clip_rocs(clip_scores.psds_inputs(), PSDS[name]))

        def of_draw(times_drawn: Int[np.ndarray, "clip"]) -> float:
            key = times_drawn.tobytes()
            if key not in areas:
                of_captions = rocs()(times_drawn)
                areas[key] = tuple(
                    area(of_captions, alpha_st=alpha_st, max_efpr=PSDS[name].max_efpr)
                    for alpha_st in (0.0, 1.0)
                )
            return areas[key][which]

        return each_draw(of_draw)

    return {f"{name}_mean": lambda: build(0), name: lambda: build(1)}


def _cached(statistic: ClipStatistic) -> ClipStatistic:
    """Return the same statistic, which remembers its value of each array of draws."""
    values: dict[bytes, np.ndarray] = {}

    def cached(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        key = times_drawn.tobytes()
        if key not in values:
            values[key] = statistic(times_drawn)
        return values[key]

    return cached
