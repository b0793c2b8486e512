"""A further caption on a recording that was heard: what it costs, beside numpy's plain product.

    python benchmarks/further_caption.py [--quick] [--json]

`flam-small` hears an hour of noise once (with --quick ten minutes), as `flam serve` and the review
in a notebook do. Then the captions of its validation, of three words in the mean, are asked one
after the other, each once. `ours` is the scores of all frames of an hour, smoothed. The peer is
numpy: all frames in float32 times the caption's vector, and the logistic function. Reading a
caption, `read_ms`, is the caption tower's work and the same however long a recording is; it is told
apart, alone and as one of 32 that are asked at once. `whole_ms` is what a review takes for a
caption, its threshold included, and `search_ms` what `flam search` takes for the 20 surest moments
in an index of the hour, of a byte a number. `memory_ms` is what it takes to add up as many bytes as
the weights of the caption tower's layers and the frames: no caption of a review can take less.
Seconds are of the processor, user and system, the least of several, with one thread. Fetches the
model's towers, 116 MB, if they are not there.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from threadpoolctl import threadpool_limits

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector, pieces
from flamlib.inference.review import Review
from flamlib.models import baselines
from flamlib.search import archive, indexing, query

MODEL = Path(__file__).parents[1] / "models/flam-small"
RATE, TOGETHER, K = 16_000, 32, 20


def least_ms(work: Callable[[object], object], given: Iterable[object]) -> float:
    """CPU milliseconds of the fastest call."""
    found = []
    for each in given:
        started = time.process_time()
        work(each)
        found.append(time.process_time() - started)
    return min(found[1:]) * 1000


def measure(minutes: int) -> dict[str, object]:
    torch.set_num_threads(1)
    model, rng = baselines.load(MODEL), np.random.default_rng(0)
    config = DetectConfig(recording="", captions=[], n_absent=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for _ in range(minutes):
                file.write(0.1 * rng.standard_normal(60 * RATE).astype(np.float32))
        review = Review(model, path, config)
        with pieces.cut(path, model) as opened:
            heard = [pieces.embed_whole(model, opened)]
        indexing.update(MODEL, [path], Path(folder) / "index")
        index = archive.read(Path(folder) / "index")
        captions = list(model.thresholds.captions)
        search = least_ms(lambda caption: query.by_text(index, model, [caption], K), captions)
    read = least_ms(lambda caption: detector.ask(model, [caption]), captions)
    some = [[f"{caption} {n}" for n in range(TOGETHER)] for caption in captions[:4]]
    together = least_ms(lambda each: detector.ask(model, each), some) / TOGETHER
    asked = [detector.ask(model, [caption]) for caption in captions]
    how = {"method": config.method, "smoothing": config.smoothing}
    ours = least_ms(lambda each: detector.score_embedded(model, heard, each, **how), asked)
    whole = least_ms(lambda caption: review.ask([caption]), captions)
    vectors = torch.cat([each.embeddings.caption_emb for each in asked]).numpy(force=True)
    frames = rng.standard_normal((len(review.scores().scores), vectors.shape[1]), np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    # Further threads of numpy's go on spinning after a product, which would not be counted.
    with threadpool_limits(1):
        peer = least_ms(lambda vector: 1 / (1 + np.exp(4 - 20 * (frames @ vector))), vectors)
    layers = model.caption.encoder.encoder.parameters()
    n_read = frames.size + sum(each.numel() for each in layers)
    memory = least_ms(torch.sum, [torch.ones(n_read)] * 9)
    hours = minutes / 60
    return {
        "unit": f"CPU milliseconds for {hours:.3g} hours of {frames.shape[1]} numbers a frame",
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "peer_is": "numpy: one product in float32, and the logistic function",
        "read_ms": read,
        "read_together_ms": together,
        "whole_ms": whole,
        "search_ms": search,
        "memory_ms": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    arguments = parser.parse_args()
    result = measure(10 if arguments.quick else 60)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['unit']}: {result['ours']:.1f}, by {result['peer_is']}: {result['peer']:.1f}")
    print(
        f"reading the caption: {result['read_ms']:.1f}, as one of {TOGETHER} at once "
        f"{result['read_together_ms']:.1f}; a caption in a review {result['whole_ms']:.1f}, "
        f"searched for in an index {result['search_ms']:.1f}; "
        f"adding up as many bytes {result['memory_ms']:.1f}"
    )


if __name__ == "__main__":
    main()
