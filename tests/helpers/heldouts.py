"""Mixtures of tones to be judged on, three models and the pretrained towers, everything random."""

import tiny
import torch
import towers
from safetensors.torch import save_file
from sounds import (
    RATE,
    bell,
    bursts,
    mixture_config,
    noise,
    tone,
    variants_config,
    write_data,
    write_table,
)
from transformers import AutoConfig, AutoModel

from flamlib.data.mixtures import backgrounds, bank, mixing, recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation.splits import EvalSplit
from flamlib.models import yamnet
from flamlib.models.checkpoint import WEIGHTS
from flamlib.models.flam import FLAM
from flamlib.models.mga_clap import MGACLAP

CLIP_S, FRAME_S, N_FRAMES = 2.56, 0.32, 8
RULES = tiny.RULES | {
    "clip_s": CLIP_S,
    "snr_db": [10, 20],
    "fragment_prob": 0.0,
    "short_event_s": 0.0,
}
VARIANTS = variants_config(**tiny.AS_RECORDED)
EVALUATE = {  # the section of this name, small
    "n_clips": 8,
    "batch_size": 3,
    "median_frames": 1,
    "hysteresis": 0.0,
    "n_thresholds": 19,
    "novel_threshold": None,
    "n_bins": 10,
    "segment_s": 1.0,
    "max_fpr": 0.1,
    "collar_s": 0.2,
    "collar_rate": 0.2,
    "n_resamples": 20,
}
# caption: (samples, family, parent). A hiss and a rattle cannot be told apart for certain, and
# whenever a bell rings, a tone is heard.
SOUNDS = {
    "a tone": (tone(440, 0.8), "tone", ""),
    "a hiss": (noise(0.6), "noise", ""),
    "a rattle": (bursts(), "noise", ""),
    "a bell rings": (bell(), "bell", "a tone"),
}
UNSEEN = {"a wobble": (tone(900, 0.7), "wobble", ""), "a buzz": (tone(120, 1.1), "buzz", "")}
CLASSES = ["Bell", "Rain", "Tone", "Bark", "Silence"]
CLASSES += [f"Rain {i}" for i in range(yamnet.N_CLASSES - len(CLASSES))]


def write_artifacts(folder, n=12):
    """data/, and in artifacts/ what the stages before the evaluation make."""
    clips, rows = {}, []
    parts = {"valid": SOUNDS, "seen_captions": SOUNDS, "unseen_captions": UNSEEN}
    for split, sounds in parts.items():
        for caption, (samples, family, parent) in sounds.items():
            name = f"{split}-{caption.split()[1]}"
            clips[name] = (samples, caption, family, split, name)
            if split != "valid":
                rows.append([caption, family, split, caption, parent])
    behind = {
        name: (noise(4.0, 0.05, seed=i), "rain", "ambience", name, f"rain {i}")
        for i, name in enumerate(["valid", "heldout"])
    }
    over = {"hymn": (tone(300, 4.0), "music plays", "music", "heldout", "hymn")}
    write_data(folder / "data", clips, behind, over)
    columns = ["caption", "family", "split", "wordings", "parents"]
    write_table(folder / "data/captions.tsv", columns, rows)

    out = folder / "artifacts"
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": CLIP_S, "variants": VARIANTS}
    bank.build(folder / "data", out / "bank", **settings, n_jobs=1, progress=False)
    rules = mixture_config(RULES)
    for split in parts:
        drawn = mixing.draw_many(Bank.open(out / "bank"), rules, seed=0, split=split, n=n, n_jobs=1)
        recipes.write(out / f"mixtures/{split}.parquet", drawn)
    backgrounds.mask_parts(Bank.open(out / "bank"), rules, out / "mixtures", seed=0)
    for i, name in enumerate(["flam", "flam_global"]):
        write_model(out / "checkpoints" / name, seed=i)
    write_mga_clap(out / "checkpoints/mga_clap")
    write_weights(out / "weights")
    return folder


def read_split(folder, name="seen_captions", *, frame_s=FRAME_S, n=None):
    """A split of `write_artifacts`, its first n mixtures or all, with its bank and lexicon."""
    sources = Bank.open(folder / "artifacts/bank")
    lexicon = Lexicon.read(folder / "data/captions.tsv")
    drawn = recipes.read(folder / f"artifacts/mixtures/{name}.parquet")[:n]
    return EvalSplit.from_mixtures(name, drawn, sources, lexicon, frame_s=frame_s), sources, lexicon


def write_model(folder, seed=0):
    """A FLAM that has learned nothing."""
    torch.manual_seed(seed)
    reader = towers.write_bert(folder.parent / f".{folder.name}-reader")
    FLAM(reader, **towers.SETTINGS).save_pretrained(folder)


def write_mga_clap(folder):
    """An MGA-CLAP that has learned nothing."""
    torch.manual_seed(2)
    reader = towers.write_bert(folder.parent / f".{folder.name}-reader")
    MGACLAP(reader, **towers.MGA_CLAP).save_pretrained(folder)


def write_weights(folder):
    """What `weights.build` makes, with random numbers in it."""
    torch.manual_seed(2)
    towers.write_bert(folder / "minilm")
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder / "minilm"))
    save_file(encoder.state_dict(), folder / "minilm" / WEIGHTS)
    state = yamnet.YAMNet().state_dict()
    state["classifier.weight"] = torch.randn(len(CLASSES), yamnet.WIDTH)
    state["classifier.bias"] = torch.randn(len(CLASSES))
    (folder / "yamnet").mkdir()
    save_file(state, folder / "yamnet" / WEIGHTS)
    (folder / "yamnet/classes.txt").write_text("\n".join(CLASSES) + "\n")
