"""What a recording's volume costs: the mixtures for validation, louder and softer than they are.

    python benchmarks/volume.py [--quick] [--json]

Frame AUROC and mAP, macro, of a model (`--model`, default flam-small) on the same mixtures at
several gains, and with each brought to one RMS level, as `sox` or Audacity do it ("Normalize").
What a recording holds does not change with its volume, but YAMNet, whose log-mel spectrogram has a
floor, hears more of the background in a louder one. Needs the mixtures of `make repro`; they are
training side, so nothing that the README reports is looked at. --quick: 40 mixtures for 200.
"""

import argparse
import json

import numpy as np
import torch

from flamlib import paths
from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation.splits import EvalSplit
from flamlib.metrics.ranking import average_precision, caption_auroc, mean_of_known
from flamlib.models.flam import FLAM

GAINS_DB = (-20, -10, 0, 10, 20)
LEVELS_DB = (-40, -35, -30)
AT_ONCE = 25


def amplified(waveform: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same clips at each gain, and at each RMS level in dB re full scale."""
    rms_db = 10 * waveform.square().mean(dim=1, keepdim=True).clamp(min=1e-12).log10()
    gains = {f"{gain:+d} dB": torch.full_like(rms_db, gain) for gain in GAINS_DB}
    gains |= {f"at {level} dB": level - rms_db for level in LEVELS_DB}
    return {name: waveform * 10 ** (gain / 20) for name, gain in gains.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="flam-small")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    places, model = paths.places(small=False), FLAM.from_pretrained(args.model)
    bank = Bank.open(places.existing(paths.BANK))
    lexicon = Lexicon.read(places.existing(paths.CAPTIONS))
    drawn = recipes.read(places.existing(paths.MIXTURES) / "valid.parquet")
    mixtures = drawn[: 40 if args.quick else 200]
    split = EvalSplit.from_mixtures("valid", mixtures, bank, lexicon, frame_s=model.frame_s)
    captions = model.embed_captions(split.captions)
    scores: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(mixtures), AT_ONCE):
        clips = [recipes.render(bank, one) for one in mixtures[start : start + AT_ONCE]]
        for name, waveform in amplified(torch.from_numpy(np.stack(clips))).items():
            heard = model.embed_audio(waveform, bank.sample_rate)
            scores.setdefault(name, []).append(model.score_embeddings(heard, captions).numpy())
    found = {}
    for name, parts in scores.items():
        table = split.frame_table(np.concatenate(parts))
        ranked = (table.scores, table.active, table.known)
        found[name] = {
            "auroc": round(mean_of_known(caption_auroc(*ranked)), 4),
            "map": round(mean_of_known(average_precision(*ranked)), 4),
        }
    if args.json:
        print(json.dumps({"model": args.model, "n_clips": len(mixtures), "by_volume": found}))
        return
    print(f"{args.model}, {len(mixtures)} mixtures")
    for name, of in found.items():
        print(f"{name:>10}  AUROC {of['auroc']:.3f}  mAP {of['map']:.3f}")


if __name__ == "__main__":
    main()
