"""Searching an archive of made-up frames, beside numpy's product of float32, at equal tasks.

    python benchmarks/search.py [--quick] [--json] [--hours N] [--dim N]

An index of N hours (100; with --quick 10) of 512 numbers a frame, in recordings of ten minutes with
20 planted moments of one caption, is asked for 20 moments, from the cosines of all frames to onset
and offset. The peer is one product of all frames in float32 with the caption and its 20 highest
frames, which are no moments yet. Both have their data in memory. A thousand hours do not fit the
memory of a small machine: what they would take is extrapolated, and said to be. The speed of memory
is that of adding up the same bytes as 64-bit numbers by as many threads, in the same run. Seconds
are of wall clock, the least of several calls, and so are worth something on a quiet machine only;
CPU seconds, user and system, stand beside them.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from flamlib.models.interface import CaptionEmbeddings, CosineScoring
from flamlib.search import archive, archive_part, indexing, kernel, query
from flamlib.search.archive import About, File, Index
from flamlib.search.archive_part import Stored
from flamlib.search.codes import Coded

FRAME_S, RECORDING_S, K, N_CALLS = 0.32, 600, 20, 7
N_FRAMES = round(RECORDING_S / FRAME_S)  # of a recording
N_THREADS = len(os.sched_getaffinity(0))


class OneCaption(CosineScoring):
    """A model that knows one caption by heart."""

    def __init__(self, vector: np.ndarray) -> None:
        self.vector = torch.from_numpy(vector)

    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        n = len(captions)
        return CaptionEmbeddings(self.vector.expand(n, -1), torch.ones(n), torch.zeros(n))


def made_up(folder: Path, hours: int, vector: np.ndarray) -> tuple[Index, list[tuple[str, int]]]:
    """An index, and where moments of the vector were planted: recording and frame."""
    rng, dim = np.random.default_rng(0), len(vector)
    n_recordings = hours * 3600 // RECORDING_S
    chosen = rng.choice(n_recordings, K, replace=False)
    planted = {int(r): int(rng.integers(5, N_FRAMES - 5)) for r in chosen}
    about = About(format=1, model="none", model_name="none", frame_s=FRAME_S, dim=dim)
    archive.write_about(folder, about)
    per_part = indexing.PART_FRAMES // N_FRAMES
    for first in range(0, n_recordings, per_part):
        of = range(first, min(first + per_part, n_recordings))
        codes = rng.integers(-127, 128, (len(of) * N_FRAMES, dim), dtype=np.int8)
        for i, recording in enumerate(of):
            if recording in planted:
                at = i * N_FRAMES + planted[recording]
                codes[at : at + 3] = np.rint(vector * 127 / np.abs(vector).max())
        norm = np.sqrt(np.einsum("ld,ld->l", codes, codes, dtype=np.float32))
        stored = [Stored(f"{recording:064d}", RECORDING_S, N_FRAMES) for recording in of]
        coded = Coded(codes, 1 / norm, np.zeros(dim, np.float32))
        archive_part.write(folder / archive.PARTS, stored, coded)
    files = {f"/{r}.flac": File(f"{r:064d}", 0, 0) for r in range(n_recordings)}
    archive.write_files(folder, files)
    return archive.read(folder), [(f"/{r}.flac", at) for r, at in planted.items()]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds of the fastest of some calls, and the CPU seconds of one on average."""
    work()
    walls, cpu = [], time.process_time()
    for _ in range(N_CALLS):
        started = time.perf_counter()
        work()
        walls.append(time.perf_counter() - started)
    return min(walls), (time.process_time() - cpu) / N_CALLS


def read_all(index: Index) -> None:
    """Add up all bytes of the codes, as 64-bit numbers."""
    blocks = [part.coded.codes.reshape(-1) for part in index.parts]
    cut = [half for block in blocks for half in np.array_split(block, N_THREADS)]
    words = [block[: len(block) // 8 * 8].view(np.int64) for block in cut]
    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(np.sum, words))


def first_hour(index: Index) -> Index:
    part = index.parts[0]
    n_recordings = 3600 // RECORDING_S
    n = n_recordings * N_FRAMES
    coded = Coded(part.coded.codes[:n], part.coded.scale[:n], part.coded.mean)
    short = part._replace(recordings=part.recordings[:n_recordings], coded=coded)
    return index._replace(parts=[short])


def measure(hours: int, dim: int) -> dict[str, object]:
    rng = np.random.default_rng(1)
    vector = rng.standard_normal(dim).astype(np.float32)
    vector /= np.linalg.norm(vector)
    model = OneCaption(vector)
    with tempfile.TemporaryDirectory() as name:
        index, planted = made_up(Path(name), hours, vector)
        n_bytes = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
        n_codes = sum(part.coded.codes.nbytes for part in index.parts)

        def search(index: Index = index) -> list[query.Hit]:
            return query.by_text(index, model, ["caption"], K)["caption"]

        hits = search()
        onsets = {(str(hit.path), round(hit.detection.onset / FRAME_S)) for hit in hits}
        recall = len(onsets & set(planted)) / K
        ours, ours_cpu = timed(search)
        scan, _ = timed(lambda: kernel.products(index.parts, vector[None]))
        memory, _ = timed(lambda: read_all(index))
        _, hour_cpu = timed(lambda: search(first_hour(index)))
        frames = np.concatenate(
            [part.coded.codes * part.coded.scale[:, None] for part in index.parts]
        )

        def product() -> np.ndarray:
            cosine = frames @ vector
            highest = np.argpartition(cosine, -K)[-K:]
            return highest[np.argsort(-cosine[highest])]

        peer, peer_cpu = timed(product)
    return {
        "unit": f"wall seconds for {hours} hours of {dim} numbers a frame, {N_THREADS} threads",
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "peer_is": "numpy: one product in float32, and the highest frames",
        "ours_cpu_s": ours_cpu,
        "peer_cpu_s": peer_cpu,
        "recall_at_20": recall,
        "scan_s": scan,
        "scan_gb_s": n_codes / scan / 1e9,
        "memory_gb_s": n_codes / memory / 1e9,
        "share_of_memory": memory / scan,
        "thousand_hours_s": ours / hours * 1000,
        "thousand_hours_gb": n_bytes / hours * 1000 / 1e9,
        "one_hour_cpu_ms": hour_cpu * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 hours")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--hours", type=int, metavar="N", help="from 4")
    parser.add_argument("--dim", type=int, default=512, metavar="N", help="numbers a frame")
    arguments = parser.parse_args()
    result = measure(arguments.hours or (10 if arguments.quick else 100), arguments.dim)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['unit']}: {result['ours']:.4f}, by {result['peer_is']}: {result['peer']:.4f}")
    print(
        f"ratio {result['ratio']:.1f}; CPU {result['ours_cpu_s']:.3f}, {result['peer_cpu_s']:.3f}"
    )
    print(f"of {K} planted moments {result['recall_at_20']:.0%} are found, onset included")
    print(
        f"all frames at {result['scan_gb_s']:.1f} GB/s, {result['share_of_memory']:.0%} of the "
        f"{result['memory_gb_s']:.1f} GB/s of adding them up"
    )
    print(
        f"a thousand hours, extrapolated: {result['thousand_hours_s']:.2f} s, "
        f"{result['thousand_hours_gb']:.1f} GB"
    )
    print(f"an hour: {result['one_hour_cpu_ms']:.1f} ms of CPU")


if __name__ == "__main__":
    main()
