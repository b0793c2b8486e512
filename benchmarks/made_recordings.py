"""False events a minute on recordings made of held-out sounds, at 90 % recall, by caption.

    python benchmarks/made_recordings.py [--quick] [--json] [--bank FOLDER]

Minutes of background noise with sounds of some captions at known times, among decoys: sounds of
other captions, which nobody asks for. Sounds, decoys and backgrounds are held out of training and
of every choice. An event is found if a detection of its caption overlaps it; a detection is false
if it overlaps no event of its caption.

    peer     one threshold for all captions and no smoothing, as `flam detect` had it at first
    ours     as `flam detect` does: the model's thresholds by caption, chosen on validation, and its
             smoothing
    adapted  the same of a model that `flam adapt` fitted to recordings made of other sources of the
             captions: held out like those of the test, and none of them

At 90 % recall (mean over captions): thresholds are moved alike, in log-odds, until so many events
are found. All are scores of one model, so that what better training has brought is not in the
ratio. Two kinds of captions: trained on, from other sources ("seen"), and of families that were not
("unseen"). Needs the bank (`make repro`, stage bank). With --quick a quarter of the audio.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit, logit

from flamlib import paths
from flamlib.adaptation import adapter, learn
from flamlib.adaptation.choose import EPSILON, Criterion
from flamlib.adaptation.own_labels import LabelledFrames
from flamlib.data.mixtures.bank import Bank
from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector
from flamlib.models import released
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel
from flamlib.sound_events.events import Event
from flamlib.sound_events.smoothing import Smoothing

MINUTES, SLOT_S = 2, 15  # of a recording; a sound is put in each slot
N_CAPTIONS = 10  # asked for, of each kind
N_TEST, N_FITTED = 16, 8  # recordings to test on, and to adapt on
SNR_DB = (5.0, 20.0)
WANTED = 0.9  # recall
OLD_THRESHOLD = 0.5
STEPS = np.arange(8.0, -8.01, -0.1)  # of log-odds, by which thresholds are moved, highest first


Scored = Sequence[tuple[detector.Scores, "Made"]]


class Made(NamedTuple):
    """A recording that was made, and when what is asked for sounds in it."""

    waveform: np.ndarray
    events: list[Event]


def make(
    bank: Bank, split: str, captions: Sequence[str], *, n: int, seed: int, half: int
) -> Iterator[Made]:
    """Make recordings: half of the sounds are asked for, half are decoys.

    Args:
        bank: recordings of sounds and backgrounds.
        split: of the sounds.
        captions: that are asked for; the sounds of all others are decoys.
        n: how many.
        seed: of what is drawn.
        half: 0 or 1, which half of each caption's recordings, and of the backgrounds.
    """
    rng, rate = np.random.default_rng(seed), bank.sample_rate
    sounds = bank.recordings("foreground", split)
    asked = {caption: [rows[0] for rows in sounds[caption]][half::2] for caption in captions}
    decoys = [rows[0] for name, of in sounds.items() if name not in captions for rows in of]
    backgrounds = [rows[0] for rows in bank.flat("background", "heldout")][half::2]
    length = SLOT_S * rate
    for _ in range(n):
        behind = int(rng.choice(backgrounds))
        waveform, events = np.resize(bank[behind], MINUTES * 60 * rate), []
        order = rng.permutation(len(captions))  # so that each is asked for about as often
        for slot in range(MINUTES * 60 // SLOT_S):
            caption = captions[order[slot // 2 % len(order)]] if slot % 2 else None
            row = int(rng.choice(asked[caption] if caption else decoys))
            onset, offset = (round(bank.get(row, at) * rate) for at in ("onset", "offset"))
            sound = bank[row][onset:offset][: length * 2 // 3]
            start = slot * length + int(rng.integers(length - len(sound)))
            db = bank.get(behind, "level_db") + rng.uniform(*SNR_DB) - bank.get(row, "level_db")
            waveform[start : start + len(sound)] += sound * np.float32(10 ** (db / 20))
            if caption:
                events.append(Event(start / rate, (start + len(sound)) / rate, caption))
        yield Made(waveform * np.float32(min(1.0, 0.9 / np.abs(waveform).max())), events)


def count(scored: Scored, thresholds: np.ndarray) -> tuple[float, float]:
    """Recall, and false events a minute, each a mean over captions, at some thresholds."""
    captions = scored[0][0].captions
    found, events, false = (np.zeros(len(captions)) for _ in range(3))
    for scores, made in scored:
        detected = detector.events(
            scores,
            threshold=thresholds,
            min_duration_s=DetectConfig.min_duration_s,
            merge_gap_s=DetectConfig.merge_gap_s,
        )
        for j, caption in enumerate(captions):
            true = [event for event in made.events if event.caption == caption]
            ours = [d for d in detected if d.caption == caption]
            overlaps = np.array(
                [[d.onset < e.offset and e.onset < d.offset for e in true] for d in ours]
            ).reshape(len(ours), len(true))
            events[j] += len(true)
            found[j] += overlaps.any(axis=0).sum()
            false[j] += (~overlaps.any(axis=1)).sum()
    has = events > 0
    minutes = MINUTES * len(scored)
    return float((found[has] / events[has]).mean()), float(false.mean() / minutes)


def measure(test: Scored, thresholds: np.ndarray) -> dict[str, float]:
    """What thresholds have, and what they have when they find as much as is wanted."""
    recall, false = count(test, thresholds)
    odds = logit(np.clip(thresholds, EPSILON, 1 - EPSILON))
    found = (count(test, expit(odds + step)) for step in STEPS)
    at = next((false for recall, false in found if recall >= WANTED), float("nan"))
    named = {"recall": recall, "false_per_minute": false, "false_at_wanted_recall": at}
    return {name: round(value, 4) for name, value in named.items()}


def score(
    model: AudioTextModel, made: Sequence[Made], rate: int, captions: list[str], smooth: Smoothing
) -> Scored:
    """Score recordings as `flam detect` does."""
    how = {"method": "unbiased", "smoothing": smooth}
    return [(detector.score(model, (m.waveform, rate), captions, **how), m) for m in made]


def adapt(model: FLAM, made: Sequence[Made], rate: int, captions: list[str]) -> adapter.Adapted:
    """Adapt a model to recordings."""
    smooth = detector.smoothing_of(model)
    recordings = []
    for number, each in enumerate(made):
        frames = model.embed_audio(each.waveform, rate).frame_emb[0].numpy(force=True)
        length_s = len(each.waveform) / rate
        recordings.append(
            LabelledFrames(Path(str(number)), sorted(each.events), None, length_s, frames)
        )
    start, bias = learn.start_of(model.embed_captions(captions))
    own = detector.choose_thresholds(model, captions, method="unbiased", smoothing=smooth)
    examples = learn.Examples(recordings, captions, model.frame_s, smooth, start, bias, own)
    rows = range(len(recordings))
    chosen = learn.thresholds_of(examples, rows, "heads", Criterion("f1"))
    weights = torch.from_numpy(learn.fit(examples, rows, "heads")).float()
    return adapter.Adapted(model, captions, weights), np.array([c.threshold for c in chosen])


def run(bank: Bank, model, split: str, part: int) -> dict[str, dict[str, float]]:
    """Measure all three on one kind of captions, on one part in `part` of the audio."""
    sounds = bank.recordings("foreground", split)
    several = [caption for caption in sounds if len(sounds[caption]) > 1]
    captions = sorted(sorted(several, key=lambda c: (-len(sounds[c]), c))[:N_CAPTIONS])
    rate, smooth = bank.sample_rate, detector.smoothing_of(model)
    test = list(make(bank, split, captions, n=N_TEST // part, seed=0, half=1))
    others = list(make(bank, split, captions, n=N_FITTED // part, seed=1, half=0))
    own = detector.choose_thresholds(model, captions, method="unbiased", smoothing=smooth)
    adapted, fitted = adapt(model, others, rate, captions)

    def of(by: AudioTextModel, thresholds: np.ndarray, smooth: Smoothing) -> dict[str, float]:
        return measure(score(by, test, rate, captions, smooth), thresholds)

    return {
        "peer": of(model, np.full(len(captions), OLD_THRESHOLD), Smoothing()),
        "ours": of(model, np.array([c.threshold for c in own]), smooth),
        "adapted": of(adapted, fitted, smooth),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bank", default=None, help="default: the project's")
    args = parser.parse_args()
    folder = Path(args.bank or paths.root() / "artifacts/bank")
    if not folder.is_dir():
        parser.exit(0, f"{folder}: no bank, so nothing is measured; `make repro` makes one\n")
    bank = Bank.open(folder)
    model = adapter.base_of(released.find(released.SMALL))
    kinds = {
        kind: run(bank, model, f"{kind}_captions", 4 if args.quick else 1)
        for kind in ("seen", "unseen")
    }
    means = {
        who: round(float(np.mean([of[who]["false_at_wanted_recall"] for of in kinds.values()])), 4)
        for who in kinds["seen"]
    }
    found = means | {"ratio": round(means["ours"] / means["peer"], 4), "kinds": kinds}
    if args.json:
        print(json.dumps(found))
        return
    print("false events a minute and caption at 90 % recall; and at the thresholds as they are")
    for kind, of in kinds.items():
        for who, values in of.items():
            as_it_is = f"{values['false_per_minute']:8.2f} at {values['recall']:.0%}"
            print(f"{kind:8}{who:9}{values['false_at_wanted_recall']:8.2f}{as_it_is}")
    print(f"ours / peer: {found['ratio']:.2f}")


if __name__ == "__main__":
    main()
