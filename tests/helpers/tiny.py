"""A corpus of tones and two towers that are quick to train, in the layout of the real ones."""

import json
import string
from pathlib import Path

import numpy as np
import soundfile
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file, save_file
from sounds import RATE, mixture_config, noise, tone, variants_config, write_table
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertModel, BertTokenizer

from flamlib.data.mixtures import bank, mixing, recipes
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.parameters import parse, plain
from flamlib.models import weights, yamnet
from flamlib.storage import files
from flamlib.training.inputs import TrainInputs

CLIP_S = 2.56
RULES = {
    "n_events": [1, 3],
    "max_polyphony": 2,
    "snr_db": [20, 30],
    "background_db": [-50, -40],
    "max_event_s": 2.0,
    "fragment_prob": 0.1,
    "n_fragments": [2, 3],
    "repeat_prob": 0.2,
    "n_repeats": [2, 3],
    "short_event_s": 0.4,
    "n_short_repeats": [2, 4],
    "pause_s": [0.1, 0.4],
    "fade_s": 0.01,
    "silence_dbfs": -70,
    "min_snr_db": None,
    "fill_gaps_below_s": 0.2,
    "drop_activity_below_s": 0.04,
}
AS_RECORDED = {  # no variants, see `sounds.variants_config`
    "n_foreground": 0,
    "n_background": 0,
    "speed": [1.0, 1.0],
    "eq_db": 0.0,
    "lowpass_prob": 0.0,
    "reverb_prob": 0.0,
}
NETWORK = {
    "audio": {"tower": "yamnet"},  # in whose place tests put `TinyAudioTower`
    "caption": {"tower": "tiny_text", "pooling": "mean"},
    "dim": 8,
    "dropout": 0.2,
    "scale_init": 10.0,
    "bias_init": -2.0,
    "temperature_init": 0.07,
    "scale": "per_caption",
    "bias": "per_caption",
    "clip_projection": "shared",
}
OBJECTIVES = {
    "flam": {"clip": 1.0, "frame": 20.0, "prior": 1.0},
    "mga_clap": {"hard": 1.0, "even": 1.0},
}
TRAIN = {  # the section `train`
    "n_steps": 6,
    "batch_size": 4,
    "set_weights": None,
    "pair_batch_size": 4,
    "pair_s": 1.28,
    "pair_background_prob": 0.5,
    "n_pair_takes": None,
    "max_captions_per_clip": None,
    "n_hypernyms": 1,
    "n_hard_negatives": 0,
    "wording_prob": 0.5,
    "caption_noise": 0.1,
    "hardness": 0.15,
    "lr_audio": 1e-3,
    "lr_caption": 1e-3,
    "lr_heads": 1e-3,
    "n_warmup": 2,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "ema_decay": 0.9,
    "n_frozen": 0,
    "init_from": None,
    "micro_batch": None,
    "checkpointing": False,
    "compile": False,
    "sync_batch_norm": False,
    "mixed_precision": "no",
    "n_processes": 1,
    "n_workers": 0,
    "save_every": 3,
    "keep_last": 2,
    "valid_every": 0,
    "select": "last",
    "trust_known": None,
    "trust_novel": None,
    "log_every": 1,
}
TONES = {"a low tone": 250, "a middle tone": 1000, "a high tone": 4000}
CLIP_COLUMNS = ["clip_id", "path", "role", "caption", "family", "split", "group", "onset", "offset"]
CAPTION_COLUMNS = ["caption", "family", "split", "wordings", "parents"]


def config(*, seed=0, network=None, objective=None, codebook=None, **train):
    """The experiment's parameters, tiny. Sections are given whole, values of `train` by name."""
    values = plain(load_config(Path(__file__).parents[2] / "params.yaml"))
    objectives = OBJECTIVES if objective is None else dict.fromkeys(OBJECTIVES, objective)
    values |= {
        "seed": seed,
        "mixture": plain(mixture_config(RULES, clip_s=CLIP_S)),
        "network": NETWORK | (network or {}),
        "objectives": values["objectives"] | objectives,
        "codebook": values["codebook"] | (codebook or {}),
        "train": TRAIN | train,
    }
    return parse(Config, values)


class TinyAudioTower(nn.Module):
    """An audio tower that hears of a frame no more than its mean spectrum."""

    width = 32
    sample_rate, frame_s = yamnet.SAMPLE_RATE, yamnet.FRAME_S
    context_frames, n_tags = 0, 0
    pads_clips = False

    def __init__(self):
        super().__init__()
        self.log_mel = yamnet.LogMel()
        self.first = nn.Conv2d(1, self.width, (1, yamnet.N_MELS))
        self.second = nn.Conv2d(self.width, self.width, 1)
        self.keeps_activations = True

    def enable_checkpointing(self):
        self.keeps_activations = False

    def load_weights(self, path):
        """Those of the tower in whose place it stands do not fit it."""

    def n_frames(self, n_samples):
        return yamnet.n_frames(n_samples)

    def trunk(self, waveform):
        return self.log_mel(waveform)

    def trunk_id(self):
        return None

    def forward(self, log_mel):
        frames = log_mel.unflatten(1, (-1, yamnet.HOPS_PER_FRAME)).mean(dim=2)
        x = frames.unsqueeze(1)
        if self.keeps_activations:
            return self._convolve(x)
        return checkpoint(self._convolve, x, use_reentrant=False)

    def _convolve(self, x):
        return self.second(self.first(x).relu()).squeeze(3).transpose(1, 2)


def write_text_tower(folder, *, width=16):
    """A caption tower with random weights that spells: its tokens are letters."""
    letters = string.ascii_lowercase + string.digits
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.save_pretrained(folder)
    torch.manual_seed(0)
    tower = BertModel(config, add_pooling_layer=False)
    save_file(tower.state_dict(), folder / "model.safetensors")


def write_corpus(folder):
    """Three captions, two recordings each, on two backgrounds; as data/, bank and mixtures."""
    data = folder / "data"
    (data / "audio").mkdir(parents=True)
    clips = []
    for caption, hz in TONES.items():
        for i, seconds in enumerate((0.7, 1.3)):
            name = f"{caption.split()[1]}-{i}"
            write_clip(data, name, tone(hz * (1 + 0.05 * i), seconds))
            clips.append(
                [name, f"audio/{name}.flac", "foreground", caption, caption, "train", name]
            )
    for i in range(2):
        write_clip(data, f"noise-{i}", noise(4.0, seed=i))
        clips.append([f"noise-{i}", f"audio/noise-{i}.flac", "background", "noise", "ambience"])
        clips[-1] += ["train", f"noise-{i}"]
    write_table(data / "clips.tsv", CLIP_COLUMNS, [[*clip, "", ""] for clip in clips])
    rows = [[c, c, "train", f"{c}|{c} sounds", "a tone"] for c in TONES]
    write_table(data / "captions.tsv", CAPTION_COLUMNS, rows)

    about = {
        "seed": 0,
        "sample_rate": RATE,
        "clip_s": CLIP_S,
        "variants": variants_config(**AS_RECORDED),
    }
    bank.build(data, folder / "bank", **about, n_jobs=1, progress=False)
    sources = bank.Bank.open(folder / "bank")
    rules = mixture_config(RULES, clip_s=CLIP_S)
    for name, seed, n in (("train", 0, 24), ("valid", 1, 8)):  # of the same recordings
        drawn = mixing.draw_many(sources, rules, seed=seed, split="train", n=n, n_jobs=1)
        recipes.write(folder / f"{name}.parquet", drawn)


def write_experiment(folder):
    """The corpus, mixtures in a folder of their own, a caption tower and a YAMNet that hears."""
    write_corpus(folder)
    (folder / "mixtures").mkdir()
    for name in ("train", "valid"):
        (folder / f"{name}.parquet").rename(folder / f"mixtures/{name}.parquet")
    write_text_tower(folder / "weights/tiny_text")
    (folder / "weights/yamnet").mkdir(parents=True)
    write_lively_yamnet(folder / "weights/yamnet")


def train_inputs(folder, **others):
    """What a training reads of what `write_corpus` or `write_experiment` wrote, if not `others`."""
    mixtures = folder / "mixtures" if (folder / "mixtures").is_dir() else folder
    given = {
        "bank": folder / "bank",
        "mixtures": mixtures / "train.parquet",
        "valid": mixtures / "valid.parquet",
        "sets": None,
        "captions": folder / "data/captions.tsv",
        "weights": folder / "weights",
    }
    return TrainInputs(**given | others)


def forget_processes():
    """That there has been an Accelerator."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def write_lively_yamnet(folder):
    """A YAMNet with random weights whose output depends on what it hears."""
    write_yamnet(folder)
    tensors = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    for tensor in tensors.values():
        if tensor.ndim == 4:
            nn.init.kaiming_normal_(tensor)
    save_file(tensors, folder / "model.safetensors")


def write_clip(data, name, samples):
    soundfile.write(data / f"audio/{name}.flac", np.asarray(samples), RATE)


SEEN = ("red", "blue", "green", "brown", "white", "grey", "pink", "gold", "violet")
UNSEEN = ("black", "silver", "orange")


def write_own_sounds(folder):
    """A folder for `own_sounds.add`: tones of many colours in every split, on noise."""
    folder.mkdir()
    rows = []

    def add(name, samples, *columns):
        soundfile.write(folder / f"{name}.wav", np.asarray(samples), RATE)
        rows.append([f"{name}.wav", *columns])

    for i, color in enumerate((*SEEN, *UNSEEN)):
        caption, hz = f"a {color} tone sounds", 200 * 1.3**i
        splits = ["train"] * 3 + ["valid", "seen_captions"] * (i < 4)
        for j, split in enumerate(splits if color in SEEN else ["unseen_captions"] * 2):
            add(
                f"{color}-{j}",
                tone(hz * (1 + 0.02 * j), 0.4 + 0.2 * j),
                caption,
                "foreground",
                split,
            )
    for i, split in enumerate(("train", "train", "valid", "heldout")):
        add(f"noise-{i}", noise(8.0, seed=i), "noise", "background", split)
    write_table(folder / "sounds.tsv", ["path", "caption", "role", "split"], rows)


def write_weights(folder, catalogue):
    """What `weights.build` would find complete: a YAMNet that learnt nothing, and the reader."""
    for tower, made_from in weights.read_towers(catalogue).items():
        (folder / tower).mkdir(parents=True)
        if tower == "yamnet":
            write_yamnet(folder / tower)
        else:
            write_text_tower(folder / tower)
        sums = {path.name: files.sha256(path) for path in (folder / tower).iterdir()}
        about = {"origin": weights.origin(made_from), "files": sums}
        (folder / tower / weights.PROVENANCE).write_text(json.dumps(about))


def write_yamnet(folder):
    torch.manual_seed(0)
    tensors = yamnet.YAMNet().state_dict() | {
        "classifier.weight": torch.randn(yamnet.N_CLASSES, yamnet.WIDTH),
        "classifier.bias": torch.zeros(yamnet.N_CLASSES),
    }
    wanted = {k: v for k, v in tensors.items() if k.startswith(("layers.", "classifier."))}
    save_file({k: v.contiguous() for k, v in wanted.items()}, folder / "model.safetensors")
    names = [f"sound {i}" for i in range(yamnet.N_CLASSES)]
    (folder / "classes.txt").write_text("\n".join(names) + "\n")


def write_inputs(root):
    """What the record of a run of the ablation study looks at, with nothing in it."""
    (root / "dvc.yaml").touch()
    (root / "data").mkdir()
    (root / "data/captions.tsv").write_text("caption\n")
    for name in ("bank", "mixtures", "strong", "weights/yamnet", "weights/tiny_text"):
        (root / "artifacts" / name).mkdir(parents=True)
    (root / "notebooks").mkdir()
    for name in ("06_ablate", "08_dependency"):
        cell = {"cell_type": "code", "source": [f"name = '{name}'"]}
        (root / f"notebooks/{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
