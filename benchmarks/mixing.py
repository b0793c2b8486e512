"""How many mixtures of ten seconds does one core draw, render and write in a second?

    python benchmarks/mixing.py [--quick] [--json]

The same synthetic sounds at 48 kHz go to ours and to `dscaper`, the maintained fork of Scaper (the
reference tool for soundscapes with events, Salamon et al. 2017), in one process, with the same
numbers of events, ranges of SNR and fades, and without pitch shift or time stretch. Both make the
audio in memory; ours labels what is audible as well. dscaper reads and measures its files for every
mixture; we do that once, in `bank.build`, whose time is told separately.

Then whether two processes do twice as much, and what a set of a million needs: recipes streamed to
Parquet by two processes, and the memory that this took.
"""

import argparse
import itertools
import json
import logging
import os
import resource
import shutil
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile

from flamlib.data.mixtures import bank, mixing, recipes, shards
from flamlib.experiment.parameters import parse
from flamlib.experiment.params.sounds import MixtureConfig, VariantsConfig

RATE, CLIP_S = 48000, 10.0
RULES = parse(
    MixtureConfig,
    {
        "clip_s": CLIP_S,
        "n_events": [1, 10],
        "max_polyphony": 3,
        "snr_db": [6, 30],
        "background_db": [-55, -40],
        "max_event_s": CLIP_S,
        "fragment_prob": 0.1,
        "n_fragments": [2, 3],
        "repeat_prob": 0.1,
        "n_repeats": [2, 3],
        "short_event_s": 0.4,
        "n_short_repeats": [2, 4],
        "pause_s": [0.1, 0.6],
        "fade_s": 0.01,
        "silence_dbfs": -70,
        "min_snr_db": None,
        "fill_gaps_below_s": 0.2,
        "drop_activity_below_s": 0.04,
        "event_position": [0, 1],
        "background_prob": 1.0,
        "package_weights": None,
    },
)
AS_RECORDED = parse(
    VariantsConfig,
    {
        "n_foreground": 0,
        "n_background": 0,
        "speed": [1.0, 1.0],
        "eq_db": 0.0,
        "lowpass_prob": 0.0,
        "reverb_prob": 0.0,
        "pitch_semitones": [0, 0],
        "stretch": [1, 1],
        "rooms": None,
        "room_prob": 0,
        "codec_prob": 0,
    },
)


def write_sounds(folder: Path, *, n_foregrounds: int, n_backgrounds: int) -> None:
    """Decaying tones of 0.2 to 4 s and noise of 15 to 30 s, as a corpus and in Scaper's folders."""
    rng = np.random.default_rng(0)
    rows = ["clip_id\tpath\trole\tcaption\tfamily\tsplit\tgroup\tonset\toffset"]
    for i in range(n_foregrounds + n_backgrounds):
        role = "foreground" if i < n_foregrounds else "background"
        seconds = rng.uniform(0.2, 4) if role == "foreground" else rng.uniform(15, 30)
        t = np.arange(round(seconds * RATE)) / RATE
        waveform = 0.05 * rng.standard_normal(len(t))
        if role == "foreground":
            waveform += np.sin(2 * np.pi * rng.uniform(200, 5000) * t) * np.exp(-t)
        caption = f"sound {i}"
        path = folder / role / caption / f"{i}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, 0.4 * waveform, RATE)
        rows.append(f"{i}\t{path}\t{role}\t{caption}\t{caption}\ttrain\t{i}\t0\t{seconds}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")


def measure_ours(folder: Path, n_mixtures: int) -> dict[str, float]:
    started = time.process_time()
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": CLIP_S, "variants": AS_RECORDED}
    bank.build(folder, folder / "bank", **settings, n_jobs=1, progress=False)
    build_s = time.process_time() - started

    opened = bank.Bank.open(folder / "bank")
    key = {"seed": 0, "split": "train"}
    recipes.render(opened, mixing.draw(opened, RULES, **key, index=0))  # maps the files

    started = time.process_time()
    drawn = [mixing.draw(opened, RULES, **key, index=i) for i in range(n_mixtures)]
    drawing_s = time.process_time() - started
    started = time.process_time()
    for recipe in drawn:
        recipes.render(opened, recipe)
    rendering_s = time.process_time() - started
    started = time.process_time()
    for recipe in drawn[: n_mixtures // 4]:
        shards.flac(opened, recipe)
    flac_s = 4 * (time.process_time() - started)
    return {
        "ours": n_mixtures / (drawing_s + rendering_s),
        "recipes_per_core_second": n_mixtures / drawing_s,
        "rendered_per_core_second": n_mixtures / rendering_s,
        "flac_per_core_second": n_mixtures / (drawing_s + flac_s),
        "events_per_mixture": float(np.mean([len(recipe.events) for recipe in drawn])),
        "bank_build_s": build_s,
    }


def render_some(folder: Path, indices: range) -> None:
    opened = bank.Bank.open(folder / "bank")
    for i in indices:
        recipes.render(opened, mixing.draw(opened, RULES, seed=0, split="train", index=i))


def measure_scaling(folder: Path, n: int) -> dict[str, float]:
    """How many times as much two processes draw and render as one does, by the clock."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        def seconds(n_jobs: int, n: int) -> float:
            started = time.perf_counter()
            jobs = [range(i * n, (i + 1) * n) for i in range(n_jobs)]
            list(pool.map(render_some, [folder] * n_jobs, jobs))
            return time.perf_counter() - started

        seconds(2, 10)  # both have imported what they need
        return {"two_processes_ratio": 2 * seconds(1, n) / seconds(2, n)}


def measure_million(folder: Path, n: int) -> dict[str, float]:
    """A file of `n` recipes by two processes: seconds, and the largest process in MB."""
    opened = bank.Bank.open(folder / "bank")
    before = time.perf_counter()
    tables = mixing.draw_many(opened, RULES, seed=0, split="train", n=n, n_jobs=2)
    first = next(tables)  # by then the processes have imported what they need
    started = time.perf_counter()
    recipes.write(folder / "train.parquet", itertools.chain([first], tables))
    seconds = time.perf_counter() - started
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "written": n,
        "written_s": seconds,
        "started_s": started - before,
        "million_in_minutes": 1e6 / (n - 2 * mixing.BLOCK) * seconds / 60,
        "peak_memory_mb": peak / 1024,
    }


def measure_dscaper(folder: Path, counts: list[int]) -> tuple[float | None, str]:
    """dscaper's mixtures per core-second and its version; None where it is not installed."""
    try:
        import dscaper
    except ImportError as error:
        return None, f"dscaper is not installed here ({error})"
    if not shutil.which("sox"):
        return None, "dscaper needs the program sox (Debian, Ubuntu: apt-get install sox)"
    logging.disable(logging.WARNING)  # it has the same to say about each event
    for seed, n_events in enumerate([counts[0], *counts]):
        if seed == 1:
            started = cpu_s()  # what its first mixture has to import does not count
        maker = dscaper.Scaper(
            CLIP_S, str(folder / "foreground"), str(folder / "background"), random_state=seed
        )
        maker.sr, maker.ref_db, maker.n_channels = RATE, -40, 1
        maker.fade_in_len = maker.fade_out_len = 0.01
        maker.add_background(
            label=("choose", []), source_file=("choose", []), source_time=("uniform", 0, 5)
        )
        for _ in range(n_events):
            maker.add_event(
                label=("choose", []),
                source_file=("choose", []),
                source_time=("const", 0),
                event_time=("uniform", 0, CLIP_S - 4),
                event_duration=("uniform", 0.2, 4),
                snr=("uniform", 6, 30),
                pitch_shift=None,
                time_stretch=None,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of events longer than their source
            maker.generate(audio_path=None, jams_path=None, disable_instantiation_warnings=True)
    return len(counts) / (cpu_s() - started), f"dscaper {dscaper.__version__}"


def cpu_s() -> float:
    """Seconds that this process and those it waited for were computing: dscaper calls sox."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    arguments = parser.parse_args()

    n_ours, n_peer, n_written = (300, 4, 10_000) if arguments.quick else (3000, 60, 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sounds(folder, n_foregrounds=40, n_backgrounds=5)
        result = {"unit": "mixtures of 10 s at 48 kHz, drawn and rendered, per core-second"}
        result |= measure_ours(folder, n_ours)
        # As many events as ours have, in each.
        first = [
            mixing.draw(bank.Bank.open(folder / "bank"), RULES, seed=0, split="train", index=i)
            for i in range(n_peer)
        ]
        peer, peer_is = measure_dscaper(folder, [len(recipe.events) for recipe in first])
        result |= {"peer": peer, "ratio": peer and result["ours"] / peer, "peer_is": peer_is}
        result |= measure_scaling(folder, 3 * n_ours)
        result |= measure_million(folder, n_written)

    if arguments.json:
        print(json.dumps(result))
        return
    print(f"drawn     {result['recipes_per_core_second']:8.0f} recipes per core-second")
    print(f"rendered  {result['rendered_per_core_second']:8.0f} mixtures per core-second")
    print(f"both      {result['ours']:8.0f} mixtures per core-second")
    print(f"as FLAC   {result['flac_per_core_second']:8.0f} mixtures per core-second, drawn too")
    print(f"peer      {peer:8.1f} ({peer_is})" if peer else f"peer      absent: {peer_is}")
    if peer:
        print(f"ratio     {result['ratio']:8.0f}")
    print(f"two processes make {result['two_processes_ratio']:.2f} times as much as one")
    print(
        f"a million recipes to Parquet: {result['million_in_minutes']:.1f} minutes with two "
        f"processes, none above {result['peak_memory_mb']:.0f} MB (by {result['written']})"
    )


if __name__ == "__main__":
    main()
