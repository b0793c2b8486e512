"""Scores and truths to numbers: are captions told apart, found, ranked and believed?

Arrays in, numbers out: no function here knows a model or a file. Scores come first, truths second.
One module for each question; this one only gathers their names.

    ranking        are active frames above silent ones?      AUROC, partial AUROC, mAP
    decisions      are detections right, is nothing missed?  F1 of frames, segments, events
    psds           the same at every threshold at once       PSDS (with intersections, runs)
    calibration    do probabilities mean what they say?      reliability, ECE, Brier
    retrieval      is the right clip, or caption, found?     R@k, mAP@10, median rank
    classification is the right class the nearest one?       zero-shot accuracy
    resampling     how sure are we of a number?              intervals, paired tests
    frame_draws    and of one that ranks or counts frames?
"""

from flamlib.metrics.bootstrap import (
    ClipStatistic,
    bootstrap,
    clip_group_mean,
    clip_mean,
    clip_median,
    clip_share,
    clip_sum,
    paired_bootstrap,
    paired_test,
)
from flamlib.metrics.bootstrap_ranking import (
    clip_auroc,
    clip_average_precision,
    clip_best_f1,
    clip_partial_auroc,
)
from flamlib.metrics.calibration import brier, expected_calibration_error, reliability
from flamlib.metrics.classification import accuracy
from flamlib.metrics.f1 import event_f1, f1_of, f1_over_thresholds, segment_f1
from flamlib.metrics.psds import Detected, Rule, clip_psds, psds
from flamlib.metrics.ranking import auroc_by_clip, average_precision, frame_auroc, partial_auroc
from flamlib.metrics.retrieval import retrieval

__all__ = [
    "ClipStatistic",
    "Detected",
    "Rule",
    "accuracy",
    "auroc_by_clip",
    "average_precision",
    "bootstrap",
    "brier",
    "clip_auroc",
    "clip_average_precision",
    "clip_best_f1",
    "clip_group_mean",
    "clip_mean",
    "clip_median",
    "clip_partial_auroc",
    "clip_psds",
    "clip_share",
    "clip_sum",
    "event_f1",
    "expected_calibration_error",
    "f1_of",
    "f1_over_thresholds",
    "frame_auroc",
    "paired_bootstrap",
    "paired_test",
    "partial_auroc",
    "psds",
    "reliability",
    "retrieval",
    "segment_f1",
]
