"""How fast are scores judged on one core, and how fast by others?

    python benchmarks/metrics.py [--quick] [--json]

Ours and each peer on the same random clips of 10 s in 32 frames with five events each, one after
the other in one process; `<name>_ratio` is how many times faster ours is, `<name>_difference` by
how much the results differ. All times are of the processor, not of the wall.

    psds             PSDS2 over all thresholds          sed_scores_eval (`ratio`), and psds_eval
                     at the 50 thresholds it is used with, whose result is another one
    auroc            frames, macro and pooled           scikit-learn; torchmetrics, exact, macro
    segment_auroc    partial, segments of a second      sed_scores_eval
    event_f1         collars                            sed_eval
    ece              of 15 bins                         torchmetrics
    retrieval        both directions                    sorting every similarity; torchmetrics
    auroc_bootstrap  200 draws of clips                 no peer

Each in a process of its own for the sake of its memory: `search`, retrieval of 50 000 clips by
50 000 captions of 512 numbers (4000 by 4000 with `--quick`); `evaluate`, the command of that name
without intervals on score tables of as much as AudioSet-Strong (17 000 clips, 407 classes), and
`intervals`, with 300 draws on a tenth of them (a hundredth of either with `--quick`); and without
`--quick` `audioset`, PSDS1 and PSDS2 of as much.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error, multilabel_auroc
from torchmetrics.functional.retrieval import retrieval_hit_rate

from flamlib.metrics import segments
from flamlib.metrics.bootstrap import bootstrap
from flamlib.metrics.bootstrap_ranking import clip_auroc
from flamlib.metrics.calibration import expected_calibration_error
from flamlib.metrics.f1 import event_f1
from flamlib.metrics.psds import PsdsInputs, PsdsSettings, area, psd_rocs
from flamlib.metrics.ranking import caption_auroc, mean_of_known, partial_auroc, pooled_auroc
from flamlib.metrics.retrieval import retrieval
from flamlib.sound_events.detection import events_from_scores
from flamlib.sound_events.events import Event, merge

with warnings.catch_warnings():  # on import, they ask for pkg_resources
    warnings.simplefilter("ignore")
    import sed_eval
    from psds_eval import PSDSEval
    from sed_scores_eval import intersection_based, segment_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe

N_FRAMES, CLIP_S = 32, 10.0
PSDS1 = {
    "dtc_threshold": 0.7,
    "gtc_threshold": 0.7,
    "cttc_threshold": None,
    "alpha_ct": 0.0,
    "alpha_st": 1.0,
}
PSDS2 = {
    "dtc_threshold": 0.1,
    "gtc_threshold": 0.1,
    "cttc_threshold": 0.3,
    "alpha_ct": 0.5,
    "alpha_st": 1.0,
}


def make_clips(n_clips: int, n_captions: int) -> tuple[dict, np.ndarray, list[str], dict, dict]:
    """Smooth random scores, raised where events are; every caption has at least one event."""
    rng = np.random.default_rng(0)
    edges = np.linspace(0.0, CLIP_S, N_FRAMES + 1)
    captions = [f"caption {i}" for i in range(n_captions)]
    scores, truth = {}, {}
    for clip in range(n_clips):
        noise = rng.normal(size=(N_FRAMES + 2, n_captions))
        score = (noise[:-2] + noise[1:-1] + noise[2:]) / 3
        events = []
        for i, column in enumerate([clip % n_captions, *rng.integers(0, n_captions, 4)]):
            onset = rng.uniform(0, CLIP_S - 1)
            offset = min(CLIP_S, onset + 0.2 + rng.exponential(2.0))
            events.append(Event(onset, offset, captions[column]))
            inside = (edges[1:] > onset) & (edges[:-1] < offset)
            score[inside, column] += 1.0 + 0.2 * i
        scores[str(clip)], truth[str(clip)] = score, merge(events)
    return scores, edges, captions, truth, dict.fromkeys(scores, CLIP_S)


def measure(work: Callable[[], Any], n_times: int = 1) -> tuple[float, float, Any]:
    """The least processor seconds of several runs, how far they raised the peak of memory in MB,
    and the result."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(n_times):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return min(seconds), (after - before) / 1024, result


def psds(*data: Any, alpha_st: float, **settings: float | None) -> float:
    counted = PsdsSettings(**settings)
    rocs = psd_rocs(PsdsInputs(*data), counted)
    return area(rocs, alpha_st=alpha_st, max_efpr=counted.max_efpr)


def measure_psds(n_clips: int, n_captions: int) -> dict[str, Any]:
    data = scores, edges, captions, truth, durations = make_clips(n_clips, n_captions)
    n_scores = n_clips * n_captions * N_FRAMES
    ours_s, ours_mb, ours = measure(lambda: psds(*data, **PSDS2), 3)
    result = {
        "unit": f"frame scores per core-second: PSDS2 of {n_clips} clips, {n_captions} captions",
        "ours": n_scores / ours_s,
        "ours_s": ours_s,
        "ours_mb": ours_mb,
    }
    tables = {
        clip: create_score_dataframe(score, edges, captions) for clip, score in scores.items()
    }
    peer_s, peer_mb, peer = measure(
        lambda: intersection_based.psds(tables, truth, durations, **PSDS2)[0]
    )
    return result | {
        "peer": n_scores / peer_s,
        "peer_s": peer_s,
        "peer_mb": peer_mb,
        "ratio": peer_s / ours_s,
        "peer_is": "sed_scores_eval.intersection_based.psds",
        "difference": abs(ours - peer),
    }


def measure_psds_eval(n_clips: int, n_captions: int, n_thresholds: int = 50) -> dict[str, float]:
    """At evenly spaced thresholds, as it is used; ours is exact."""
    data = scores, edges, captions, truth, durations = make_clips(n_clips, n_captions)
    ours_s, _, ours = measure(lambda: psds(*data, **PSDS2), 3)
    rows = [(clip, *event) for clip, events in truth.items() for event in events]
    columns = ["filename", "onset", "offset", "event_label"]
    frames = pd.DataFrame({"filename": list(durations), "duration": list(durations.values())})
    stacked = np.concatenate(list(scores.values()))
    thresholds = np.linspace(stacked.min(), stacked.max(), n_thresholds + 2)[1:-1]

    def by_thresholds() -> float:
        judge = PSDSEval(
            dtc_threshold=0.1,
            gtc_threshold=0.1,
            cttc_threshold=0.3,
            ground_truth=pd.DataFrame(rows, columns=columns),
            metadata=frames,
        )
        for threshold in thresholds:
            claims = [
                (clip, *claim[:3])
                for clip, score in scores.items()
                for claim in claims_of(score, edges, captions, threshold)
            ]
            judge.add_operating_point(pd.DataFrame(claims, columns=columns))
        return judge.psds(alpha_ct=0.5, alpha_st=1.0, max_efpr=100).value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer_s, _, peer = measure(by_thresholds)
    return {
        "psds_eval_ours_s": ours_s,
        "psds_eval_s": peer_s,
        "psds_eval_ratio": peer_s / ours_s,
        "psds_eval_below_exact": ours - peer,
    }


def claims_of(
    score: np.ndarray, edges: np.ndarray, captions: list[str], threshold: float
) -> list[tuple]:
    kept = {"min_duration_s": 0.0, "merge_gap_s": 0.0}
    return events_from_scores(score, edges, captions, threshold=threshold, **kept)


def measure_auroc(n_clips: int, n_captions: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    active = rng.random((n_clips * N_FRAMES, n_captions)) < 0.02
    scores = (rng.normal(size=active.shape) + active).astype(np.float32)
    clip_of_frame = np.repeat(np.arange(n_clips), N_FRAMES)
    ours_s, _, (macro, pooled) = measure(
        lambda: (
            mean_of_known(caption_auroc(scores, active)),
            pooled_auroc(scores[active], [scores[~active]]),
        ),
        3,
    )
    # Macro and pooled, as ours.
    peer_s, _, peer = measure(
        lambda: [roc_auc_score(active, scores), roc_auc_score(active.ravel(), scores.ravel())]
    )

    torch_s, _, by_torch = measure(
        lambda: multilabel_auroc(
            torch.sigmoid(torch.from_numpy(scores).double()),
            torch.from_numpy(active).long(),
            n_captions,
            average="macro",
        )
    )

    def interval() -> tuple[float, float]:
        statistic = clip_auroc(scores, active, clip_of_frame, pooled=False)
        return bootstrap(statistic, n_clips, n_resamples=200, seed=0)

    return {
        "auroc_s": ours_s,
        "auroc_peer_s": peer_s,
        "auroc_ratio": peer_s / ours_s,
        "auroc_difference": abs(macro - peer[0]) + abs(pooled - peer[1]),
        "auroc_torchmetrics_s": torch_s,
        "auroc_torchmetrics_ratio": torch_s / ours_s,
        "auroc_torchmetrics_difference": abs(macro - float(by_torch)),
        "auroc_bootstrap_200_s": measure(interval)[0],
    }


def measure_segments(n_clips: int, n_captions: int) -> dict[str, float]:
    scores, edges, captions, truth, durations = make_clips(n_clips, n_captions)
    tables = {
        clip: create_score_dataframe(score, edges, captions) for clip, score in scores.items()
    }
    n = int(CLIP_S)

    def ours_of() -> float:
        of = {"n_segments": n, "segment_s": 1.0}
        score = [segments.segment_scores(s, edges, **of) for s in scores.values()]
        active = [segments.active_segments(e, captions, **of) for e in truth.values()]
        area = partial_auroc(np.concatenate(score), np.concatenate(active), max_fpr=0.1)
        return mean_of_known(area / 0.1)

    ours_s, _, ours = measure(ours_of)
    peer_s, _, peer = measure(
        lambda: segment_based.auroc(tables, truth, durations, segment_length=1.0, max_fpr=0.1)[0]
    )
    return {
        "segment_auroc_s": ours_s,
        "segment_auroc_peer_s": peer_s,
        "segment_auroc_ratio": peer_s / ours_s,
        "segment_auroc_difference": abs(ours - peer["mean"]),
    }


def measure_events(n_clips: int, n_captions: int) -> dict[str, float]:
    scores, edges, captions, truth, _ = make_clips(n_clips, n_captions)
    claims = {clip: claims_of(score, edges, captions, 1.5) for clip, score in scores.items()}
    collars = {"onset_collar_s": 0.2, "offset_collar_s": 0.2, "offset_collar_rate": 0.2}
    ours_s, _, ours = measure(lambda: event_f1(claims, truth, captions, **collars))

    def as_lists(events: list) -> list[dict]:
        return [
            {"event_onset": on, "event_offset": off, "event_label": caption, "file": "clip"}
            for on, off, caption, *_ in events
        ]

    def by_sed_eval() -> float:
        judge = sed_eval.sound_event.EventBasedMetrics(
            captions, t_collar=0.2, percentage_of_length=0.2
        )
        for clip in truth:
            judge.evaluate(as_lists(truth[clip]), as_lists(claims[clip]))
        return judge.results_overall_metrics()["f_measure"]["f_measure"]

    peer_s, _, peer = measure(by_sed_eval)
    return {
        "event_f1_s": ours_s,
        "event_f1_peer_s": peer_s,
        "event_f1_ratio": peer_s / ours_s,
        "event_f1_difference": abs(ours["f1_pooled"] - peer),
    }


def measure_calibration(n: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    prob = rng.random(n)
    active = rng.random(n) < prob**2
    ours_s, _, ours = measure(lambda: expected_calibration_error(prob, active, 15), 3)
    given = torch.from_numpy(prob), torch.from_numpy(active).long()
    peer_s, _, peer = measure(lambda: binary_calibration_error(*given, n_bins=15), 3)
    return {
        "ece_s": ours_s,
        "ece_peer_s": peer_s,
        "ece_ratio": peer_s / ours_s,
        "ece_difference": abs(ours - float(peer)),
    }


def measure_retrieval(n_clips: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    clip_of_caption = np.arange(5 * n_clips) // 5
    clip_emb = rng.normal(size=(n_clips, 128))
    caption_emb = clip_emb[clip_of_caption] + 3 * rng.normal(size=(5 * n_clips, 128))
    clip_emb, caption_emb = (
        (emb / np.linalg.norm(emb, axis=1, keepdims=True)).astype(np.float32)
        for emb in (clip_emb, caption_emb)
    )

    def by_sorting() -> tuple[float, float]:
        similarity = caption_emb @ clip_emb.T
        by_caption = np.argsort(-similarity, axis=1)
        by_clip = np.argsort(-similarity.T, axis=1)
        t2a = by_caption[:, 0] == clip_of_caption
        a2t = clip_of_caption[by_clip[:, 0]] == np.arange(n_clips)
        return t2a.mean(), a2t.mean()

    def by_torchmetrics() -> float:
        similarity = torch.from_numpy(caption_emb @ clip_emb.T + 2)  # it drops what is below zero
        right = torch.from_numpy(clip_of_caption[:, None] == np.arange(n_clips))
        hits = [retrieval_hit_rate(s, r, top_k=1) for s, r in zip(similarity, right, strict=True)]
        return float(torch.stack(hits).mean())

    ours_s, _, ours = measure(lambda: retrieval(clip_emb, caption_emb, clip_of_caption))
    peer_s, _, peer = measure(by_sorting)
    torch_s, _, by_torch = measure(by_torchmetrics)
    return {
        "retrieval_torchmetrics_t2a_s": torch_s,
        "retrieval_torchmetrics_ratio": torch_s / ours_s,
        "retrieval_torchmetrics_difference": abs(ours["t2a_r1"] - by_torch),
        "retrieval_s": ours_s,
        "retrieval_argsort_s": peer_s,
        "retrieval_ratio": peer_s / ours_s,
        "retrieval_difference": abs(ours["t2a_r1"] - peer[0]) + abs(ours["a2t_r1"] - peer[1]),
    }


def audioset_sized(n_clips: int, n_captions: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    edges = np.linspace(0.0, CLIP_S, N_FRAMES + 1)
    captions = [f"caption {i}" for i in range(n_captions)]
    scores, truth = {}, {}
    for clip in range(n_clips):
        score = rng.standard_normal((N_FRAMES, n_captions), dtype=np.float32)
        score[1:] += score[:-1]
        events = []
        for column in [clip % n_captions, *rng.integers(0, n_captions, 7)]:
            onset = rng.uniform(0, CLIP_S - 1)
            offset = min(CLIP_S, onset + 0.2 + rng.exponential(2.0))
            events.append(Event(onset, offset, captions[column]))
            score[(edges[1:] > onset) & (edges[:-1] < offset), column] += 2
        scores[str(clip)], truth[str(clip)] = score, merge(events)
    data = scores, edges, captions, truth, dict.fromkeys(scores, CLIP_S)
    psds1_s, _, _ = measure(lambda: psds(*data, **PSDS1))
    psds2_s, _, _ = measure(lambda: psds(*data, **PSDS2))
    return {"audioset_psds1_s": psds1_s, "audioset_psds2_s": psds2_s, "audioset_gb": peak_gb()}


def evaluate_sized(n_clips: int, n_captions: int, n_draws: int) -> dict[str, float]:
    """Write score tables, 1.6 GB for all of AudioSet-Strong, and evaluate them, with intervals of
    so many draws."""
    rng = np.random.default_rng(0)
    edges = np.linspace(0.0, CLIP_S, N_FRAMES + 1)
    captions = [f"caption {i}" for i in range(n_captions)]
    texts = np.array([f"{i / 1e4:.4f}" for i in range(10_001)], dtype=object)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scores").mkdir()
        truth, durations = ["filename\tonset\toffset\tevent_label"], ["filename\tduration"]
        for clip in range(n_clips):
            score = rng.standard_normal((N_FRAMES, n_captions), dtype=np.float32)
            score[1:] += score[:-1]
            for column in [clip % n_captions, *rng.integers(0, n_captions, 7)]:
                onset = rng.uniform(0, CLIP_S - 1)
                offset = min(CLIP_S, onset + 0.2 + rng.exponential(2.0))
                truth.append(f"{clip}\t{onset:.3f}\t{offset:.3f}\t{captions[column]}")
                score[(edges[1:] > onset) & (edges[:-1] < offset), column] += 2
            rows = texts[np.rint(1e4 / (1 + np.exp(-score))).astype(int)]
            lines = ["\t".join(["onset", "offset", *captions])]
            lines += [
                "\t".join([f"{edges[i]:g}", f"{edges[i + 1]:g}", *row])
                for i, row in enumerate(rows)
            ]
            (folder / "scores" / f"{clip}.tsv").write_text("\n".join(lines) + "\n")
            durations.append(f"{clip}\t{CLIP_S:g}")
        for table, lines in {"truth": truth, "durations": durations}.items():
            (folder / f"{table}.tsv").write_text("\n".join(lines) + "\n")
        command = [
            sys.executable,
            "-m",
            "flamlib",
            "evaluate",
            "scores",
            "--resamples",
            str(n_draws),
        ]
        command += ["--ground-truth", "truth.tsv", "--durations", "durations.tsv"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    name = "intervals" if n_draws else "evaluate"
    return {
        f"{name}_clips": n_clips,
        f"{name}_s": used.ru_utime + used.ru_stime,
        f"{name}_gb": used.ru_maxrss / 2**20,
    }


def search_sized(n: int, dim: int) -> dict[str, float]:
    """As many captions as clips, unit vectors; `mb` is the memory above that of the imports."""
    rng = np.random.default_rng(0)
    clip_emb = rng.standard_normal((n, dim), dtype=np.float32)
    caption_emb = clip_emb + 6 * rng.standard_normal((n, dim), dtype=np.float32)
    for emb in (clip_emb, caption_emb):
        emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    seconds, mb, found = measure(lambda: retrieval(clip_emb, caption_emb, np.arange(n)))
    return {
        "search_n": n,
        "search_s": seconds,
        "search_mb": mb,
        "search_gb": peak_gb(),
        "search_t2a_r1": found["t2a_r1"],
    }


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def alone(work: Callable[..., dict], *arguments: int) -> dict[str, float]:
    """In a fresh process, whose peak of memory is of this work alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    n_captions, n_retrieved = (60, 500) if arguments.quick else (100, 3000)
    result = measure_psds(300, n_captions)
    result |= measure_psds_eval(*((30, 10) if arguments.quick else (200, 30)))
    result |= measure_auroc(400, n_captions)
    result |= measure_segments(60 if arguments.quick else 300, 20)
    result |= measure_events(60 if arguments.quick else 300, 20)
    result |= measure_calibration(1_000_000)
    result |= measure_retrieval(n_retrieved)
    if not arguments.quick:
        result |= alone(audioset_sized, 17_000, 407)
    result |= alone(evaluate_sized, 170 if arguments.quick else 17_000, 407, 0)
    result |= alone(evaluate_sized, 170 if arguments.quick else 1_700, 407, 300)
    result |= alone(search_sized, 4000 if arguments.quick else 50_000, 512)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:34}  {value if isinstance(value, str | None) else f'{value:.4g}'}")


if __name__ == "__main__":
    main()
