"""What a bank of very many recordings takes: to open, in memory, and for a mixture.

    python benchmarks/large_bank.py [--quick] [--json]

Banks of made-up recordings of 20 ms, written by `bank.write`. Each is opened in a process of its
own, which draws and renders mixtures from all of it; memory is what the process has of its own
(the files' pages belong to the system). A million take 1.5 GB of disk and half a minute.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES, QUICK = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)
RATE, CLIP_S = 8000, 0.02
N_MIXTURES = 50


def make(number: dict) -> list:
    """The one source of a recording, by its number."""
    i = number["number"]
    samples = np.random.default_rng(i).integers(-9999, 9999, round(RATE * CLIP_S), dtype=np.int16)
    is_background = i % 10 == 0
    row = {
        "clip_id": number["clip_id"],
        "variant": 0,
        "role": "background" if is_background else "foreground",
        "caption": f"the sound of thing number {i % (1 + i // 5)}",
        "family": f"thing {i % (1 + i // 5)}",
        "split": "train",
        "group": f"freesound:{i}",
        "package": "made_up",
        "audible": [],
        "n_samples": len(samples),
        "scale": 1e-4,
        "n_levels": 1,
        "onset": 0.0,
        "offset": CLIP_S,
        "level_db": -20.0,
        "peak": 0.9,
    }
    return [(row, samples, np.full(1, -20.0), np.full(1, 9999))]


def write(folder: Path, n: int) -> float:
    """Write a bank of n recordings; return CPU seconds."""
    from flamlib.data.mixtures import bank

    clips = [{"clip_id": f"made_up-{i:09d}", "path": "", "number": i} for i in range(n)]
    start = time.process_time()
    parameters = {"sample_rate": RATE, "clip_s": CLIP_S, "seed": 0}
    bank.write(folder, clips, make, parameters=parameters, n_jobs=1, progress=False)
    return time.process_time() - start


def use(folder: Path) -> dict[str, float]:
    """Open a bank and draw mixtures from it: CPU seconds, and MB that it added to this process."""
    from flamlib.data.mixtures import bank, mixing, recipes
    from flamlib.experiment.config import load_config

    rules = load_config(overrides={"mixture.clip_s": CLIP_S, "mixture.masker_prob": 0.0}).mixture
    before, start = private_mb(), time.process_time()
    opened = bank.Bank.open(folder)
    open_s, open_mb = time.process_time() - start, private_mb() - before
    start = time.process_time()
    recipes.render(opened, mixing.draw(opened, rules, seed=0, split="train", index=0))
    first_s = time.process_time() - start
    start = time.process_time()
    for index in range(N_MIXTURES):
        recipe = mixing.draw(opened, rules, seed=0, split="train", index=index)
        recipes.render(opened, recipe)
    return {
        "open_s": open_s,
        "open_mb": open_mb,
        "first_s": first_s,
        "mixture_ms": (time.process_time() - start) / N_MIXTURES * 1e3,
        "used_mb": private_mb() - before,
    }


def private_mb() -> float:
    """Memory of this process that no file is behind."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="without the largest")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--use", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.use:
        print(json.dumps(use(args.use)))
        return
    results = {}
    for n in QUICK if args.quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write_s = write(Path(folder), n)
            command = [sys.executable, __file__, "--use", folder]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            written = {"write_s": write_s, "write_peak_mb": peak_mb}
            results[n] = written | json.loads(run.stdout)
        if not args.json:
            print(f"{n:>9,}  " + "  ".join(f"{k} {v:.3g}" for k, v in results[n].items()))
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
