"""How many mixtures of ten seconds does one core draw and render in a second?

    python benchmarks/mixing.py [--quick] [--json]

The same synthetic sounds go to ours and, where it is installed, to Scaper (the reference tool for
soundscapes with events, Salamon et al. 2017), with the same ranges of SNR, events and fades, and
without pitch shift or time stretch. Both make the audio in memory. Scaper reads and measures its
files for every mixture; we do that once, in `bank.build`, whose time is told separately.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from flamlib import bank, mixing, recipes

RATE, CLIP_S = 16000, 10.0
RULES = mixing.Rules(
    clip_s=CLIP_S,
    n_events=[1, 10],
    max_polyphony=3,
    snr_db=[6, 30],
    background_db=[-55, -40],
    max_event_s=CLIP_S,
    split_share=0.1,
    n_fragments=[2, 3],
    repeat_share=0.1,
    n_repeats=[2, 3],
    short_event_s=0.4,
    n_short_repeats=[2, 4],
    between_s=[0.1, 0.6],
    fade_s=0.01,
    inactive_db=-70,
    audible_db=None,
    gap_s=0.2,
    spike_s=0.04,
)
AS_RECORDED = {
    "n_foreground": 0,
    "n_background": 0,
    "speed": [1.0, 1.0],
    "eq_db": 0.0,
    "lowpass_share": 0.0,
    "reverb_share": 0.0,
}


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
    return {
        "ours": n_mixtures / (drawing_s + rendering_s),
        "recipes_per_core_second": n_mixtures / drawing_s,
        "rendered_per_core_second": n_mixtures / rendering_s,
        "events_per_mixture": float(np.mean([len(recipe.events) for recipe in drawn])),
        "bank_build_s": build_s,
    }


def measure_scaper(folder: Path, n_mixtures: int) -> tuple[float | None, str]:
    """Scaper's mixtures per core-second and its version; None where it is not installed."""
    try:
        import scaper
    except ImportError as error:
        return None, f"scaper is not installed here ({error})"
    np.inf = np.inf  # a name that NumPy 2 dropped and Scaper 1.6.5 uses
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 10, size=n_mixtures, endpoint=True)
    started = time.process_time()
    for seed, n_events in enumerate(counts):
        maker = scaper.Scaper(
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
        maker.generate(audio_path=None, jams_path=None, disable_instantiation_warnings=True)
    return n_mixtures / (time.process_time() - started), f"scaper {scaper.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    arguments = parser.parse_args()

    n_ours, n_peer = (500, 10) if arguments.quick else (5000, 100)
    with tempfile.TemporaryDirectory() as folder:
        write_sounds(Path(folder), n_foregrounds=40, n_backgrounds=5)
        result = {"unit": "mixtures of 10 s at 16 kHz, drawn and rendered, per core-second"}
        result |= measure_ours(Path(folder), n_ours)
        peer, peer_is = measure_scaper(Path(folder), n_peer)
    result |= {"peer": peer, "ratio": peer and result["ours"] / peer, "peer_is": peer_is}

    if arguments.json:
        print(json.dumps(result))
        return
    print(f"drawn     {result['recipes_per_core_second']:8.0f} recipes per core-second")
    print(f"rendered  {result['rendered_per_core_second']:8.0f} mixtures per core-second")
    print(f"both      {result['ours']:8.0f} mixtures per core-second")
    print(f"peer      {peer:8.1f} ({peer_is})" if peer else f"peer      absent: {peer_is}")
    if peer:
        print(f"ratio     {result['ratio']:8.0f}")


if __name__ == "__main__":
    main()
