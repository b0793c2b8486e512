"""Ten minutes of audio against 50 captions by `flam detect`'s way, and by the naive one.

    python benchmarks/detect.py [--quick] [--json] [--clone FOLDER --clone-model FOLDER]

The naive way takes cuts of ten seconds and embeds the captions anew for each. Both use the default
model, flam-small, and are asked to agree where a cut does not end before they are timed. Also: how
long `flam --help` and `flam detect` on ten seconds take, imports and loading included, and the peak
memory on a recording and on one six times as long. With --clone the same two calls by another
checkout, an older one, say, with a model that it reads. Seconds are of CPU time, user and system,
but where "wall" is said. With --quick a minute of audio. OMP_NUM_THREADS=1 asks for one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import soundfile

RATE, CUT_S = 16_000, 10
THINGS = ("dog", "door", "bell", "engine", "crowd", "bird", "rain drop", "siren", "clock", "violin")
DOINGS = ("is heard far away", "sounds twice", "grows louder", "stops at once", "echoes in a hall")
CAPTIONS = [f"a {thing} {doing}" for thing in THINGS for doing in DOINGS]


def write_noise(path: Path, seconds: int) -> None:
    """A recording whose level changes every few seconds."""
    random = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(seconds):
            file.write(random.standard_normal(RATE) * 0.3 * random.random() ** 3)


def cpu_s(work) -> tuple[float, object]:
    """Seconds that all threads of this process were computing, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def naive(model, path: Path) -> np.ndarray:
    """Scores `[caption, frame]` by cuts, captions included each time."""
    waveform, rate = soundfile.read(path, dtype="float32")
    cuts = [waveform[at : at + CUT_S * rate] for at in range(0, len(waveform), CUT_S * rate)]
    scores = [model.score(cut, rate, CAPTIONS)[0].numpy() for cut in cuts]
    return np.concatenate(scores, axis=1)


def whole(model, path: Path) -> np.ndarray:
    """The scores of all frames, not smoothed, `[caption, frame]`."""
    from flamlib.inference import detector
    from flamlib.sound_events.smoothing import Smoothing

    return detector.score(model, path, CAPTIONS, method="unbiased", smoothing=Smoothing()).scores.T


def check_agreement(model, path: Path) -> None:
    """Raise AssertionError if the two differ in the middle of the first cut."""
    ours = whole(model, path)
    middle = round(CUT_S / 2 / model.frame_s)
    np.testing.assert_allclose(ours[:, middle], naive(model, path)[:, middle], atol=1e-3)


def called(arguments: list[str], clone: Path | None = None) -> dict[str, float]:
    """What a call of `flam` takes: CPU and wall seconds, and its peak memory in GB."""
    environment, root = dict(os.environ), Path(__file__).parents[1]
    if clone is not None:
        environment, root = environment | {"PYTHONPATH": str(clone)}, clone
    # By its own entry point, which was elsewhere once.
    scripts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = scripts["scripts"]["flam"].split(":")
    start = f"import sys; from {module} import {function} as flam; sys.exit(flam())"
    started = time.monotonic()
    call = subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        env=environment,
        cwd=clone,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    told = call.stderr.read()
    _, status, used = os.wait4(call.pid, 0)
    if status:
        sys.exit(f"flam {arguments[0]} failed: {told.decode()}")
    return {
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": time.monotonic() - started,
        "peak_gb": used.ru_maxrss / 2**20,
    }


def measure(quick: bool, clone: Path | None, clone_model: Path | None) -> dict[str, object]:
    seconds = 60 if quick else 600
    asked = [word for caption in CAPTIONS for word in ("-c", caption)]
    with tempfile.TemporaryDirectory() as name:
        short, path, long = (Path(name) / f"{k}.wav" for k in ("short", "path", "long"))
        for file, length in ((short, CUT_S), (path, seconds), (long, 6 * seconds)):
            write_noise(file, length)
        # First, while this process is small: the system counts its memory as that of its children.
        calls = {
            "help": called(["--help"]),
            "short": called(["detect", str(short), *asked]),
            "call": called(["detect", str(path), *asked]),
            "long": called(["detect", str(long), *asked]),
        }
        if clone is not None:
            chosen = ["--model", str(clone_model)]
            calls["clone"] = {
                "short": called(["detect", str(short), *asked, *chosen], clone),
                "call": called(["detect", str(path), *asked, *chosen], clone),
            }

        from flamlib.models import baselines, released

        model = baselines.load(released.find(released.SMALL))
        check_agreement(model, short)
        ours, _ = cpu_s(lambda: whole(model, path))
        peer, _ = cpu_s(lambda: naive(model, path))
    return {
        "unit": f"CPU seconds for {seconds} s of audio and {len(CAPTIONS)} captions",
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "peer_is": f"cuts of {CUT_S} s, captions embedded anew for each",
        **calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute of audio")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--clone", type=Path, metavar="FOLDER", help="another checkout to compare")
    parser.add_argument("--clone-model", type=Path, metavar="FOLDER", help="a model that it reads")
    arguments = parser.parse_args()
    if (arguments.clone is None) != (arguments.clone_model is None):
        parser.error("--clone and --clone-model need each other")
    result = measure(arguments.quick, arguments.clone, arguments.clone_model)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['unit']}: {result['ours']:.2f}, by {result['peer_is']}: {result['peer']:.2f}")
    print(f"ratio {result['ratio']:.1f}")
    calls = {name: result[name] for name in ("help", "short", "call", "long")}
    calls |= {f"clone: {name}": of for name, of in result.get("clone", {}).items()}
    for name, of in calls.items():
        print(
            f"{name:12s} {of['cpu_s']:6.2f} s, wall {of['wall_s']:6.2f} s, {of['peak_gb']:.2f} GB"
        )


if __name__ == "__main__":
    main()
