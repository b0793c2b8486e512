"""Searching an archive of made-up frames, beside numpy and perch-hoplite, at equal tasks.

    python benchmarks/search.py [--quick] [--json] [--hours N] [--dim N]
    python benchmarks/search.py --index INDEX [--json]

An index of N hours (100; with --quick 10) of 512 numbers a frame, in recordings of ten minutes with
20 planted moments of one caption, is asked for 20 moments, from the cosines of all frames to onset
and offset. The peers find the 20 highest frames, which are no moments yet: numpy by one product of
all frames in float32 with the caption, perch-hoplite, where it is installed, by its exact search
with threads, frames being its windows. All have their data in memory, where there is room: numpy
has at most 100 hours and perch-hoplite ten, and what more would take is extrapolated. A thousand
hours are 6 GB in the folder for temporary files and in memory; of fewer, too, what a thousand would
take is extrapolated, and said to be. The speed of memory is that of adding up the same bytes as
64-bit numbers by as many threads, in the same run. Seconds are of wall clock, the least of several
calls, and so are worth something on a quiet machine only; CPU seconds, user and system, stand
beside them. The approximate search is asked for the same; what it finds of 20 moments in real sound
is what --index tells: of an index of flam-small, by the captions that the model has thresholds for,
the exact search being what is right.
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

from flamlib.models import baselines
from flamlib.models.interface import CaptionEmbeddings, CosineScoring
from flamlib.search import archive, archive_part, coarse, indexing, kernel, query
from flamlib.search.archive import About, File, Index
from flamlib.search.archive_part import Part, Stored
from flamlib.search.codes import Coded

FRAME_S, RECORDING_S, K, N_CALLS = 0.32, 600, 20, 7
N_FRAMES = round(RECORDING_S / FRAME_S)  # of a recording
N_THREADS = len(os.sched_getaffinity(0))
PEER_HOURS, HOPLITE_HOURS = 100, 10


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
    coarse.update(folder, list(archive.read_parts(folder)))
    return archive.read(folder), [(f"/{r}.flac", at) for r, at in planted.items()]


def timed(*works: Callable[[], object]) -> list[tuple[float, float]]:
    """Wall seconds of the fastest of some calls, and the least CPU seconds; of several in turn."""
    for work in works:
        work()
    seconds = np.empty((N_CALLS, len(works), 2))
    for of_call in seconds:
        for each, work in zip(of_call, works, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            each[:] = time.perf_counter() - wall, time.process_time() - cpu
    return [(float(wall), float(cpu)) for wall, cpu in seconds.min(axis=0)]


def read_all(index: Index) -> None:
    """Add up all bytes of the codes, as 64-bit numbers."""
    blocks = [part.coded.codes.reshape(-1) for part in index.parts]
    cut = [half for block in blocks for half in np.array_split(block, N_THREADS)]
    words = [block[: len(block) // 8 * 8].view(np.int64) for block in cut]
    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(np.sum, words))


def hours_of(parts: list[Part]) -> float:
    return sum(len(part.recordings) for part in parts) * RECORDING_S / 3600


def first_hours(index: Index, hours: int) -> Index:
    part = index.parts[0]
    n_recordings = hours * 3600 // RECORDING_S
    n = n_recordings * N_FRAMES
    coded = Coded(part.coded.codes[:n], part.coded.scale[:n], part.coded.mean)
    short = part._replace(recordings=part.recordings[:n_recordings], coded=coded)
    return index._replace(parts=[short])


def by_hoplite(index: Index, vector: np.ndarray, hours: int) -> float | None:
    """Wall seconds of perch-hoplite's exact search of some hours; None if it is not installed."""
    try:
        from perch_hoplite.db import brutalism, in_mem_impl, score_functions
    except ImportError:
        return None
    db = in_mem_impl.InMemoryGraphSearchDB.create(embedding_dim=len(vector))
    place = db.insert_deployment(name="made up", project="made up")
    recording = db.insert_recording(filename="made up", deployment_id=place)
    part = first_hours(index, hours).parts[0]
    for n, (codes, scale) in enumerate(zip(part.coded.codes, part.coded.scale, strict=True)):
        times, frame = [n * FRAME_S, (n + 1) * FRAME_S], codes * scale
        db.insert_window(recording, times, frame, handle_duplicates="allow")
    score = score_functions.get_score_fn("dot")
    [(wall, _)] = timed(
        lambda: brutalism.threaded_brute_search(db, vector, K, score, max_workers=N_THREADS)
    )
    return wall


def measure(hours: int, dim: int) -> dict[str, object]:
    rng = np.random.default_rng(1)
    vector = rng.standard_normal(dim).astype(np.float32)
    vector /= np.linalg.norm(vector)
    model = OneCaption(vector)
    with tempfile.TemporaryDirectory() as name:
        index, planted = made_up(Path(name), hours, vector)
        n_bytes = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
        n_codes = sum(part.coded.codes.nbytes for part in index.parts)

        where = coarse.read(index.folder, index.parts)

        def search(index: Index = index, where: coarse.Coarse | None = None) -> list[query.Hit]:
            return query.by_text(index, model, ["caption"], K, where=where)["caption"]

        def found(hits: list[query.Hit]) -> float:
            onsets = {(str(hit.path), round(hit.detection.onset / FRAME_S)) for hit in hits}
            return len(onsets & set(planted)) / K

        recall, recall_approximate = found(search()), found(search(where=where))
        hour = first_hours(index, 1)
        (ours, ours_cpu), (some_s, some_cpu), (scan, _), (memory, _), (_, hour_cpu) = timed(
            search,
            lambda: search(where=where),
            lambda: kernel.products(index.parts, vector[None]),
            lambda: read_all(index),
            lambda: search(hour),
        )
        hoplite_hours = min(hours, HOPLITE_HOURS)
        hoplite = by_hoplite(index, vector, hoplite_hours)
        some = index.parts[: max(1, int(PEER_HOURS // hours_of(index.parts[:1])))]
        peer_hours = hours_of(some)
        frames = np.concatenate([part.coded.codes * part.coded.scale[:, None] for part in some])

        def product() -> np.ndarray:
            cosine = frames @ vector
            highest = np.argpartition(cosine, -K)[-K:]
            return highest[np.argsort(-cosine[highest])]

        [seconds] = timed(product)
        peer, peer_cpu = (each * hours / peer_hours for each in seconds)
    return {
        "unit": f"wall seconds for {hours} hours of {dim} numbers a frame, {N_THREADS} threads",
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "peer_is": "numpy: one product in float32, and the highest frames",
        "peer_hours": peer_hours,
        "ours_cpu_s": ours_cpu,
        "peer_cpu_s": peer_cpu,
        "hoplite": None if hoplite is None else hoplite * hours / hoplite_hours,
        "hoplite_ratio": None if hoplite is None else hoplite * hours / hoplite_hours / ours,
        "hoplite_hours": hoplite_hours,
        "recall_at_20": recall,
        "approximate": some_s,
        "approximate_cpu_s": some_cpu,
        "approximate_recall_at_20": recall_approximate,
        "scan_s": scan,
        "scan_gb_s": n_codes / scan / 1e9,
        "memory_gb_s": n_codes / memory / 1e9,
        "share_of_memory": memory / scan,
        "thousand_hours_s": ours / hours * 1000,
        "thousand_hours_gb": n_bytes / hours * 1000 / 1e9,
        "one_hour_cpu_ms": hour_cpu * 1000,
    }


def of_real_sound(folder: str) -> dict[str, object]:
    """What the approximate search of an index of flam-small finds of what the exact one does."""
    index = archive.read(folder)
    model = baselines.load(Path(__file__).parents[1] / "models/flam-small")
    captions = list(model.thresholds.captions)
    exact, found = (
        query.by_text(index, model, captions, K, where=where)
        for where in (None, coarse.read(index.folder, index.parts))
    )

    def times(hits: list[query.Hit]) -> set[tuple]:
        return {(hit.path, *hit.detection[:2]) for hit in hits}

    shares = [
        len(times(hits) & times(found[caption])) / len(hits)
        for caption, hits in exact.items()
        if hits
    ]
    n_frames = sum(len(part.coded.codes) for part in index.parts)
    return {
        "hours": n_frames * index.about.frame_s / 3600,
        "captions": len(shares),
        "approximate_recall_at_20": float(np.mean(shares)),
        "lowest_recall_at_20": min(shares),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 hours")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--hours", type=int, metavar="N", help="from 4")
    parser.add_argument("--dim", type=int, default=512, metavar="N", help="numbers a frame")
    parser.add_argument("--index", metavar="INDEX", help="of flam-small, of real sound")
    arguments = parser.parse_args()
    if arguments.index:
        print(json.dumps(of_real_sound(arguments.index), indent=None if arguments.json else 2))
        return
    result = measure(arguments.hours or (10 if arguments.quick else 100), arguments.dim)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['unit']}: {result['ours']:.4f}, by {result['peer_is']}: {result['peer']:.4f}")
    print(
        f"ratio {result['ratio']:.1f}; CPU {result['ours_cpu_s']:.3f}, {result['peer_cpu_s']:.3f}"
        f"; numpy has {result['peer_hours']:g} hours, the rest is extrapolated"
    )
    if result["hoplite"] is None:
        print('perch-hoplite is not installed: pip install "flamlib[hoplite]"')
    else:
        print(
            f"by perch-hoplite: {result['hoplite']:.2f}, ratio {result['hoplite_ratio']:.0f}; it "
            f"has {result['hoplite_hours']} hours, the rest is extrapolated"
        )
    print(f"of {K} planted moments {result['recall_at_20']:.0%} are found, onset included")
    print(
        f"approximately: {result['approximate']:.4f}, CPU {result['approximate_cpu_s']:.3f}; "
        f"{result['approximate_recall_at_20']:.0%} are found"
    )
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
