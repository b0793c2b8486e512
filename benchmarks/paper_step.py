"""Steps of the paper's recipe on this machine's GPU: clips per second, memory, waiting for audio.

    python benchmarks/paper_step.py [--quick] [--json]

Runs `flamlib.training.fit` itself with `configs/paper.yaml` and each of its two stages, on
synthetic sounds at 48 kHz and towers of the paper's sizes with random weights: HTS-AT base and
RoBERTa base, both learning. One process; the batch is what each of eight or four GPUs would have of
the paper's, or the whole of it with activations computed twice. The first steps of each run do not
count. *Waiting* is the share of time in which the GPU had to wait for mixtures, which
`train.n_workers` processes render. With --quick the towers are tiny and the batches small: that
works on a CPU, and says nothing.

Also: how long one process takes to make a step's batch, and how fast it is copied to the GPU.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import mixing as mixing_speed
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from flamlib import paths
from flamlib.data.batches import Batches
from flamlib.data.mixtures import mixing, recipes
from flamlib.data.mixtures.bank import Bank, build
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.experiment.config import Config, load_config
from flamlib.training import fit as training
from flamlib.training.feature_extraction import pairs_of
from flamlib.training.fit import fit
from flamlib.training.inputs import TrainInputs

CONFIGS = paths.root() / "configs"
TINY = {
    "network.audio": {
        "tower": "htsat",
        "embed": 8,
        "depths": [1, 1, 1, 1],
        "heads": [1, 2, 2, 4],
        "drop_path": 0.0,
        "drop_hidden": 0.0,
        "drop_attention": 0.0,
    }
}
# (stage, clips, pairs, other changes of `train`)
RUNS = [
    ("paper_flam", 64, 64, {"mixed_precision": "no"}),
    ("paper_flam", 64, 64, {"mixed_precision": "bf16"}),
    ("paper_flam", 64, 64, {"mixed_precision": "bf16", "checkpointing": True}),
    ("paper_flam", 128, 128, {"mixed_precision": "bf16"}),
    ("paper_flam", 512, 512, {"mixed_precision": "bf16", "checkpointing": True}),
    ("paper_flam_global", 0, 96, {"mixed_precision": "bf16"}),
    ("paper_flam_global", 0, 768, {"mixed_precision": "bf16", "checkpointing": True}),
]
SKIPPED = 3  # steps before the clock counts


def write_inputs(folder: Path, *, n_sounds: int, n_mixtures: int, quick: bool) -> None:
    """Sounds, bank, recipes, captions and random towers, where `TrainInputs` looks for them."""
    mixing_speed.write_sounds(folder, n_foregrounds=n_sounds, n_backgrounds=20)
    jobs = os.cpu_count() or 1
    settings = {"sample_rate": mixing_speed.RATE, "clip_s": mixing_speed.CLIP_S}
    settings |= {"seed": 0, "variants": mixing_speed.AS_RECORDED, "progress": False}
    build(folder, folder / "bank", **settings, n_jobs=jobs)
    drawn = mixing.draw_many(
        Bank.open(folder / "bank"),
        mixing_speed.RULES,
        seed=0,
        split="train",
        n=n_mixtures,
        n_jobs=jobs,
    )
    recipes.write(folder / "train.parquet", drawn)
    captions = [f"sound {i}" for i in range(n_sounds)]
    rows = ["caption\tfamily\tsplit\twordings\tparents"]
    rows += [f"{caption}\t{caption}\ttrain\t{caption}\t" for caption in captions]
    (folder / "captions.tsv").write_text("\n".join(rows) + "\n")

    reader = folder / "weights/roberta"
    reader.mkdir(parents=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(captions, 1000, special_tokens=special)
    trained.save_model(str(reader))
    vocab, merges = str(reader / "vocab.json"), str(reader / "merges.txt")
    RobertaTokenizer(vocab=vocab, merges=merges).save_pretrained(reader)
    shape = {"num_hidden_layers": 1} if quick else {}
    config = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, **shape
    )
    config.save_pretrained(reader)
    torch.manual_seed(0)
    tensors = RobertaModel(config).state_dict()
    save_file({k: v.contiguous() for k, v in tensors.items()}, reader / "model.safetensors")


def settings(stage: str, n_clips: int, n_pairs: int, n_steps: int, changes: dict) -> Config:
    """The paper's numbers, but for sizes."""
    overlays = [CONFIGS / "paper.yaml", CONFIGS / f"{stage}.yaml"]
    config = load_config(paths.root() / paths.PARAMS, overlays=overlays)
    train = {
        "batch_size": n_clips,
        "pair_batch_size": n_pairs,
        "n_steps": n_steps,
        "n_workers": max(1, min(14, (os.cpu_count() or 1) - 2)),
        "sync_batch_norm": False,
        "valid_every": 0,
        "save_every": 10**9,
        "log_every": 1,
        "init_from": None,
        **changes,
    }
    network = train.pop("network.audio", None)
    changes = {f"train.{name}": value for name, value in train.items()}
    return config.override(changes | ({"network.audio": network} if network else {}))


def measure(folder: Path, stage: str, n_clips: int, n_pairs: int, n_steps: int, changes: dict):
    """One run of `fit`."""
    config = settings(stage, n_clips, n_pairs, n_steps, changes)
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    out, seconds = Path(tempfile.mkdtemp(dir=folder)), []
    step = training.train_step

    def timed(*given):
        started = time.perf_counter()
        losses = step(*given)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append((started, time.perf_counter()))
        return losses

    inputs = TrainInputs(
        bank=folder / "bank",
        mixtures=folder / "train.parquet",
        valid=folder / "train.parquet",
        sets=None,
        captions=folder / "captions.tsv",
        weights=folder / "weights",
    )
    training.train_step = timed
    try:
        fit(config, stage.removeprefix("paper_"), inputs, out / "m", resume=out, curves=out / "c")
    finally:
        training.train_step = step
    computing = sum(stop - start for start, stop in seconds[SKIPPED:])
    whole = seconds[-1][1] - seconds[SKIPPED - 1][1]
    n = len(seconds) - SKIPPED
    return {
        "stage": stage,
        "clips": n_clips,
        "pairs": n_pairs,
        **changes,
        "step_s": statistics.median(stop - start for start, stop in seconds[SKIPPED:]),
        "clips_per_s": (n_clips + n_pairs) * n / whole,
        "waiting": 1 - computing / whole,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }


def measure_batches(folder: Path, n_clips: int) -> dict[str, float]:
    """Seconds in which one process makes a batch, and in which it is copied to the GPU."""
    config = settings("paper_flam", n_clips, n_clips, 10, {})
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    found = {"batch_clips": n_clips}
    inputs = {
        "bank": Bank.open(folder / "bank"),
        "mixtures": recipes.read(folder / "train.parquet"),
    }
    batches = Batches(
        **inputs,
        lexicon=Lexicon.read(folder / "captions.tsv"),
        sets=(),
        set_shares=(),
        pairs=pairs_of(config, inputs["bank"], "train"),
        mixture=config.mixture,
        train=config.train,
        seed=0,
        n_frames=32,
        frame_s=10 / 32,
        uses_mixtures=True,
        uses_pairs=True,
        rank=0,
        n_ranks=1,
    )
    batches[0]  # maps the files
    started = time.perf_counter()
    for step in range(1, 4):
        batch = batches[step]
    found["batch_s"] = (time.perf_counter() - started) / 3
    if torch.cuda.is_available():
        for name, waveform in (("", batch.audio), ("_pinned", batch.audio.pin_memory())):
            waveform.cuda()
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(5):
                waveform.cuda(non_blocking=True)
            torch.cuda.synchronize()
            size = 5 * waveform.numel() * 4 / 1e9
            found[f"copied_gb_per_s{name}"] = size / (time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny towers and batches")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--steps", type=int, default=12, help="of each run (default: 12)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of random weights
    quick, found = arguments.quick, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(
            folder,
            n_sounds=40 if quick else 1000,
            n_mixtures=64 if quick else 20_000,
            quick=quick,
        )
        batch = measure_batches(folder, 4 if quick else 128)
        for stage, n_clips, n_pairs, changes in RUNS[1:3] + RUNS[-1:] if quick else RUNS:
            # The whole of a batch takes as long as several shares.
            n_steps = SKIPPED + 3 if quick or n_clips + n_pairs > 500 else arguments.steps
            if quick:
                n_clips, n_pairs, changes = min(n_clips, 2), 2, changes | TINY
            try:
                row = measure(folder, stage, n_clips, n_pairs, n_steps, changes)
            except torch.cuda.OutOfMemoryError as error:
                row = {"stage": stage, "clips": n_clips, "pairs": n_pairs, **changes}
                row["failed"] = str(error)[:100]
            row.pop("network.audio", None)
            found.append(row)
            if not arguments.json:
                print(row, flush=True)
    if arguments.json:
        print(json.dumps({"unit": "clips and pairs a second", "runs": found} | batch))
    else:
        print(batch)


if __name__ == "__main__":
    main()
