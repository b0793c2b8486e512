"""What a model's hearing of a part is worth, in numbers.

Each is a fraction in [0, 1]:

    auroc_macro, auroc_pooled   frames ranked by score, see `metrics.frame_auroc`
    map                         average precision of the frames, mean over captions
    f1                          frame-wise F1, mean over captions, at one threshold for all of them,
                                f1_threshold, the best on the mixtures for validation
    f1_best, f1_best_threshold  the same at the best threshold on these clips, which flatters
    psds1, psds2                with DCASE's settings, exact; scores of unknown pairs are -inf and
                                their events left out, while the clip's time still counts
    psds1_mean, psds2_mean      the same but for alpha_st 0: what differs between captions is not
                                punished, and a few that are never found do not make it zero
    ece, brier                  of the probability

`_low` and `_high` bound 95 % of what other draws of as many clips would give.
"""

from collections.abc import Mapping

import numpy as np

from flamlib import detection, metrics
from flamlib.heldout import Hearing, Part
from flamlib.psds import area, psd_rocs

PSDS = {
    "psds1": dict(dtc_threshold=0.7, gtc_threshold=0.7, cttc_threshold=None, alpha_ct=0.0),
    "psds2": dict(dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5),
}


def judge(
    part: Part,
    hearing: Hearing,
    *,
    threshold: float,
    median_frames: int,
    n_thresholds: int,
    n_bins: int,
) -> dict[str, float | int]:
    """All numbers but the intervals, see the module's docstring. `threshold` is that of f1."""
    score, active, known = part.by_frame(hearing.score), part.active_by_frame, part.known_by_frame
    prob = part.by_frame(hearing.prob)[known]
    auroc = metrics.frame_auroc(score, active, known)
    curve, at = f1(part, hearing, n_thresholds=n_thresholds), np.array([threshold])
    return {
        "auroc_macro": auroc["macro"],
        "auroc_pooled": auroc["pooled"],
        "map": metrics.average_precision(score, active, known)["macro"],
        "f1": float(metrics.f1_over_thresholds(score, active, at, known)["f1_macro"][0]),
        "f1_threshold": threshold,
        "f1_best": float(curve["f1_macro"].max()),
        "f1_best_threshold": curve["best_macro"],
        **polyphonic(part, hearing, median_frames=median_frames),
        "ece": metrics.expected_calibration_error(prob, active[known], n_bins),
        "brier": metrics.brier(prob, active[known]),
        "n_clips": len(part.mixtures),
        "n_captions": len(part.captions),
        "n_skipped": auroc["n_skipped"],
        "n_unknown": int((~part.known).sum()),
    }


def f1(part: Part, hearing: Hearing, *, n_thresholds: int) -> dict:
    """`metrics.f1_over_thresholds` of the score.

    The thresholds are `n_thresholds` evenly between 0 and 1, and as many that a share of 1e-4 to 1
    of the frames exceeds: so that a model whose scores hardly differ is judged at its best, too.
    """
    score, known = part.by_frame(hearing.score), part.known_by_frame
    even = np.linspace(0, 1, n_thresholds + 2)[1:-1]
    exceeded = np.quantile(score[known], 1 - np.geomspace(1e-4, 1, n_thresholds))
    thresholds = np.unique(np.concatenate([even, exceeded]))
    return metrics.f1_over_thresholds(score, part.active_by_frame, thresholds, known)


def reliability(part: Part, hearing: Hearing, *, n_bins: int) -> dict[str, np.ndarray]:
    """`metrics.reliability` of the probability, over all known frames."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    return metrics.reliability(prob[known], part.active_by_frame[known], n_bins)


def polyphonic(part: Part, hearing: Hearing, *, median_frames: int) -> dict[str, float]:
    """psds1, psds2 and their means over captions, of the smoothed scores."""
    smooth = detection.median_filter(hearing.score, median_frames)
    smooth = np.where(part.known[:, :, None], smooth, -np.inf).transpose(0, 2, 1)
    column = {caption: j for j, caption in enumerate(part.captions)}
    truth = {
        clip: [event for event in events if known[column[event.caption]]]
        for clip, events, known in zip(part.clips, part.events, part.known, strict=True)
    }
    scores = dict(zip(part.clips, smooth, strict=True))
    durations = dict.fromkeys(part.clips, part.clip_s)
    found = {}
    for name, settings in PSDS.items():
        rocs = psd_rocs(scores, part.frame_edges, part.captions, truth, durations, **settings)
        found[name] = area(rocs, alpha_st=1.0, max_efpr=100.0)
        found[f"{name}_mean"] = area(rocs, alpha_st=0.0, max_efpr=100.0)
    return found


def bounded(
    part: Part, hearings: Mapping[str, Hearing], *, n_resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """The intervals of each model's AUROC; and of "difference", flam - flam_global, itself too.

    All models are judged on the same draws of clips.
    """
    draws = dict(n_clips=len(part.mixtures), n_resamples=n_resamples, seed=seed)
    found: dict[str, dict[str, float]] = {name: {} for name in (*hearings, "difference")}
    for kind in ("macro", "pooled"):
        statistics = {
            name: _remembering(
                metrics.clip_auroc(
                    part.by_frame(heard.score),
                    part.active_by_frame,
                    part.clip_by_frame,
                    part.known_by_frame,
                    pooled=kind == "pooled",
                )
            )
            for name, heard in hearings.items()
        }
        key = f"auroc_{kind}"
        for name, statistic in statistics.items():
            low, high = metrics.bootstrap(statistic, **draws)
            found[name] |= {f"{key}_low": low, f"{key}_high": high}
        flam, other = statistics["flam"], statistics["flam_global"]
        once = np.ones(len(part.mixtures), int)
        low, high = metrics.paired_bootstrap(flam, other, **draws)
        found["difference"] |= {
            key: flam(once) - other(once),
            f"{key}_low": low,
            f"{key}_high": high,
        }
    return found


def _remembering(statistic: metrics.ClipStatistic) -> metrics.ClipStatistic:
    """The same statistic, at no cost for a draw of clips that it has seen."""
    values: dict[bytes, float] = {}

    def remembered(times_drawn):
        key = times_drawn.tobytes()
        if key not in values:
            values[key] = statistic(times_drawn)
        return values[key]

    return remembered
