"""How many frame scores does one core judge in a second, exactly?

    python benchmarks/metrics.py [--quick] [--json]

PSDS2 over all thresholds, ours and sed_scores_eval's, on the same random clips of 10 s in 32 frames
with five events each, one after the other in one process. Then frame AUROC against scikit-learn,
retrieval against sorting every similarity, and the bootstrap of AUROC, which has no peer.
`ratio` is how many times faster ours is. All times are of the processor, not of the wall.
"""

import argparse
import json
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from flamlib import metrics
from flamlib.events import Event, merge

N_FRAMES, CLIP_S = 32, 10.0
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


def measure_psds(n_clips: int, n_captions: int) -> dict[str, Any]:
    data = scores, edges, captions, truth, durations = make_clips(n_clips, n_captions)
    n_scores = n_clips * n_captions * N_FRAMES
    ours_s, ours_mb, ours = measure(lambda: metrics.psds(*data, **PSDS2), 3)
    result = {
        "unit": f"frame scores per core-second: PSDS2 of {n_clips} clips, {n_captions} captions",
        "ours": n_scores / ours_s,
        "ours_s": ours_s,
        "ours_mb": ours_mb,
    }
    try:
        with warnings.catch_warnings():  # on import, it asks for pkg_resources
            warnings.simplefilter("ignore")
            from sed_scores_eval import intersection_based
            from sed_scores_eval.base_modules.scores import create_score_dataframe
    except ImportError as error:
        return result | {"peer": None, "ratio": None, "peer_is": f"not installed ({error})"}
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


def measure_auroc(n_clips: int, n_captions: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    active = rng.random((n_clips * N_FRAMES, n_captions)) < 0.02
    scores = (rng.normal(size=active.shape) + active).astype(np.float32)
    clip_of_frame = np.repeat(np.arange(n_clips), N_FRAMES)
    ours_s, _, ours = measure(lambda: metrics.frame_auroc(scores, active), 3)
    # Macro and pooled, as ours.
    peer_s, _, peer = measure(
        lambda: [roc_auc_score(active, scores), roc_auc_score(active.ravel(), scores.ravel())]
    )

    def interval() -> tuple[float, float]:
        statistic = metrics.clip_auroc(scores, active, clip_of_frame, pooled=False)
        return metrics.bootstrap(statistic, n_clips, n_resamples=200, seed=0)

    return {
        "auroc_s": ours_s,
        "auroc_peer_s": peer_s,
        "auroc_ratio": peer_s / ours_s,
        "auroc_difference": abs(ours["macro"] - peer[0]) + abs(ours["pooled"] - peer[1]),
        "auroc_bootstrap_200_s": measure(interval)[0],
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

    ours_s, _, ours = measure(lambda: metrics.retrieval(clip_emb, caption_emb, clip_of_caption))
    peer_s, _, peer = measure(by_sorting)
    return {
        "retrieval_s": ours_s,
        "retrieval_argsort_s": peer_s,
        "retrieval_ratio": peer_s / ours_s,
        "retrieval_difference": abs(ours["t2a_r1"] - peer[0]) + abs(ours["a2t_r1"] - peer[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    arguments = parser.parse_args()

    n_captions, n_retrieved = (60, 1000) if arguments.quick else (100, 3000)
    result = measure_psds(300, n_captions)
    result |= measure_auroc(400, n_captions)
    result |= measure_retrieval(n_retrieved)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22}  {value if isinstance(value, str | None) else f'{value:.4g}'}")


if __name__ == "__main__":
    main()
