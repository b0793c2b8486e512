"""Fit FLAM, or a baseline, to mixtures: the Accelerate loop."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset

from flamlib import files, paths
from flamlib.data.batches import Batch, Batches
from flamlib.data.mixtures import mixing, recipes, strong
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.models import class_features
from flamlib.models.checkpoint import TRAINING
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.flam import FLAM
from flamlib.training import distributed
from flamlib.training.init import adapt, freeze, parameter_groups, pretrained, start_from
from flamlib.training.logbook import Clock, Logbook
from flamlib.training.objective import OF_MIXTURES, OF_PAIRS, CaptionFeatures, Objective, asks
from flamlib.training.resume import Checkpoints, Row, checksum

# Arguments of `fit` that are files or folders which it reads.
READ = ("bank", "mixtures", "valid", "captions", "weights", "init_from", "sets")


def fit(
    out: str | Path,
    *,
    bank: str | Path,
    mixtures: str | Path,
    valid: str | Path,
    sets: str | Path,
    captions: str | Path,
    weights: str | Path,
    resume: str | Path,
    curves: str | Path,
    seed: int,
    clip_s: float,
    rules: Mapping[str, Any],
    network: Mapping[str, Any],
    codebook: Mapping[str, Any] | None,
    objective: Mapping[str, float],
    hardness: float,
    n_steps: int,
    batch_size: int,
    pair_batch_size: int,
    set_weights: Mapping[str, float | int] | None,
    pair_s: float,
    pair_background_prob: float,
    max_captions_per_clip: int | None,
    n_hypernyms: int,
    n_hard_negatives: int,
    wording_prob: float,
    caption_noise: float,
    lr_audio: float,
    lr_caption: float,
    lr_heads: float,
    n_warmup: int,
    weight_decay: float,
    max_grad_norm: float,
    ema_decay: float,
    n_frozen: int,
    init_from: str | Path | None,
    micro_batch: int | None,
    checkpointing: bool,
    compile: bool,
    sync_batch_norm: bool,
    mixed_precision: str,
    n_processes: int,
    n_workers: int,
    save_every: int,
    keep_last: int,
    valid_every: int,
    select: str,
    log_every: int,
) -> None:
    """Train a model and save it to the folder `out`; returns nothing, as processes may be forked.

    `bank`, `mixtures` and `valid` (Parquet tables of recipes), `captions` (a corpus's table),
    `weights` (folders of the pretrained towers) and those sets in the folder `sets` to which
    `set_weights` gives one (None: there are mixtures alone, see `strong.select_sets`) are read;
    `network` are the other arguments of `FLAM`, and with a `codebook` (`n_codes`,
    `code_temperature`) it is MGA-CLAP that is trained; `init_from` is a saved model to start from
    instead of new heads. Every `save_every` steps the whole state goes to `resume`, in a folder
    named after the parameters and the content of what is read, and the last `keep_last` of them
    stay: the same call continues where it was stopped, another one starts anew. `curves` receives
    DVCLive's tables.

        loss = objective[clip] * clip_loss + objective[frame] * framewise_loss
             + objective[prior] * prior_loss + objective[hard] * hard_negative_loss
             + objective[even] * l1_l2_loss

    A loss that `objective` does not name has no weight. `hardness` is that of hard negatives.
    `batch_size` mixtures and `pair_batch_size` captioned recordings a step, over all processes
    (those that some loss asks for: no others are rendered, and `clips_per_s` counts the pairs
    then), of which each holds `micro_batch` in memory at a time (None: its whole share); see `Objective`. The
    gradient is that of the whole step, however many share it. `checkpointing`, `compile` and
    `sync_batch_norm` are ways to compute it: see `initialising.adapt`. The learning rates rise
    linearly for `n_warmup` steps and fall to zero by a cosine; one of zero freezes its part, and
    `n_frozen` is the number of the audio tower's lowest convolutions left as they are.

    What is trained is the moving average of the weights (`ema_decay` a step); every `valid_every`
    steps (0: never) its loss on the validation mixtures and recordings is logged. What is saved is
    the one at the end if `select` is "last", the one of the lowest such loss if it is "best".

    Raises FloatingPointError, with the step and its mixtures written beside the run's states, when
    the loss is not finite in any process, RuntimeError unless `n_processes` take part (one
    forgotten launcher, and each would train alone), and ValueError for what cannot be done: before
    anything is read where the settings alone say so, before the first step where the data do.
    """
    parameters = {k: v for k, v in locals().items() if k not in ("out", "resume", "curves")}
    if select not in ("last", "best") or (select == "best" and not valid_every):
        raise ValueError(
            f'select is "last", or "best" with valid_every above 0; it is {select!r} with '
            f"valid_every {valid_every}"
        )
    if keep_last < 1 or (micro_batch is not None and micro_batch < 1):
        raise ValueError(f"keep_last {keep_last} and micro_batch {micro_batch} are 1 at least")
    if not set_weights:
        parameters["sets"] = None  # not read
    out, resume, curves = Path(out), Path(resume), Path(curves)
    accelerator = distributed.accelerator(mixed_precision, n_processes)
    # By content: a run must not go on where another corpus, or other mixtures, have left off.
    read = [path for path in READ if parameters[path] is not None]
    sums = distributed.once(accelerator, lambda: [checksum(parameters[path]) for path in read])
    parameters |= dict(zip(read, sums, strict=True))
    set_seed(seed)

    net = pretrained(Path(weights), codebook=codebook, **network)
    if init_from is not None:
        start_from(net, Path(init_from))
    freeze(net, n_frozen=n_frozen, lr_caption=lr_caption, objective=objective)
    optimizer = torch.optim.AdamW(
        parameter_groups(net, audio=lr_audio, caption=lr_caption, heads=lr_heads),
        weight_decay=weight_decay,
    )
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
    how = {"checkpointing": checkpointing, "compile": compile, "sync_batch_norm": sync_batch_norm}
    adapt(net, accelerator.device, **how)
    peaks = [group["lr"] for group in optimizer.param_groups]

    sources = Bank.open(bank)
    if sources.sample_rate != net.sample_rate:
        raise ValueError(
            f"{bank} holds audio of {sources.sample_rate} Hz, but the audio tower hears "
            f"{net.sample_rate} Hz: build the bank again at that rate"
        )
    strong_sets, set_shares = strong.select_sets(sets, set_weights)
    others = frozenset().union(*(each.captions for each in strong_sets))
    lexicon = Lexicon(Lexicon.read(captions).table, others)
    shared = {
        "bank": sources,
        "lexicon": lexicon,
        "rules": mixing.Rules(clip_s=clip_s, **rules),
        "seed": seed,
        "batch_size": batch_size,
        "pair_batch_size": pair_batch_size,
        "pair_s": pair_s,
        "n_frames": net.audio.n_frames(round(clip_s * sources.sample_rate)),
        "frame_s": net.frame_s,
        "hears_mixtures": asks(objective, OF_MIXTURES),
        "hears_pairs": asks(objective, OF_PAIRS),
        "rank": accelerator.process_index,
        "n_ranks": accelerator.num_processes,
    }
    batches = Batches(
        mixtures=recipes.read(mixtures),
        sets=strong_sets,
        set_shares=set_shares,
        split="train",
        n_steps=n_steps,
        pair_background_prob=pair_background_prob,
        max_captions_per_clip=max_captions_per_clip,
        n_hypernyms=n_hypernyms,
        n_hard_negatives=n_hard_negatives,
        wording_prob=wording_prob,
        **shared,
    )
    uneven = batches.hears_pairs and batches.n_pairs_drawn % accelerator.num_processes
    if uneven and sync_batch_norm and micro_batch:
        raise ValueError(
            f"{batches.n_pairs_drawn} captioned recordings a step cannot be shared evenly by "
            f"{accelerator.num_processes} processes. With sync_batch_norm all wait for each other "
            "in every part of a micro_batch, so they need as many: choose another pair_batch_size"
        )
    wrapped, optimizer = accelerator.prepare(net, optimizer)
    average.to(accelerator.device)
    checkpoints = Checkpoints(resume, parameters, n_kept=keep_last)
    first, history = checkpoints.load(net, optimizer, average, accelerator.scaler)

    steps = DataLoader(
        Subset(batches, range(first, n_steps)), batch_size=None, num_workers=n_workers
    )
    features = CaptionFeatures(net, lexicon, accelerator.device, noise=caption_noise)
    learning = Objective(objective, features, hardness=hardness)
    if valid_every:
        held_out = recipes.read(valid)
        plain = {"pair_background_prob": 0.0, "wording_prob": 0.0}
        plain |= {"max_captions_per_clip": None, "n_hypernyms": 0, "n_hard_negatives": 0}
        plain |= {"sets": (), "set_shares": ()}
        n_valid = max(1, len(held_out) // batch_size) if batch_size else 1
        exam = Batches(mixtures=held_out, split="valid", n_steps=n_valid, **plain, **shared)
    lead = accelerator.is_main_process
    book = Logbook(curves, history, first=first, n_steps=n_steps, shown=lead)

    wrapped.train()
    clock = Clock()
    n_heard = batch_size if batches.hears_mixtures and batch_size else pair_batch_size
    for step, batch in enumerate(steps, start=first):
        clock.lap("load")
        # Dropout depends on the step and not on what came before, so that a run which was stopped
        # and resumed equals one which was not.
        torch.manual_seed(_digest(seed, step, accelerator.process_index))
        if isinstance(net, FLAM):
            net.use_class_features = _digest(seed, step) >= class_features.DROPOUT * 2**63
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(step, n_warmup=n_warmup, n_steps=n_steps)
        here = _to(batch, accelerator.device)
        terms = learning.backward(accelerator, wrapped, here, micro_batch=micro_batch)
        terms = distributed.means(accelerator, terms)
        loss = learning.total(terms)
        if not math.isfinite(loss):
            _refuse(accelerator, checkpoints.folder, step, batches, terms)
        accelerator.clip_grad_norm_(wrapped.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(net)
        clock.lap("compute")

        done, row = step + 1, {}
        if done % log_every == 0 or done == n_steps:
            row = {"loss": loss} | {f"{name}_nats": value for name, value in terms.items()}
            row |= {"lr": optimizer.param_groups[-1]["lr"], **clock.rates(n_heard)}
        if valid_every and (done % valid_every == 0 or done == n_steps):
            row["valid_loss"] = valid_loss(
                accelerator, average.module, learning, exam, micro_batch=micro_batch
            )
            if lead and row["valid_loss"] < checkpoints.best_loss():
                checkpoints.save_best(done, row["valid_loss"], average.module)
            clock.skip()
        book.add(done, row)
        if lead and done % save_every == 0 and done < n_steps:
            checkpoints.save(done, book.history, net, optimizer, average, accelerator.scaler)

    accelerator.wait_for_everyone()
    book.close()
    if lead:
        about = {"commit": paths.commit(), "parameters": parameters, "history": book.history}
        chosen = average.module
        if select == "best":
            chosen = checkpoints.load_best(type(net))
            about = {"saved": chosen.provenance, **about}
        chosen.save_pretrained(out, provenance=about)
        checkpoints.remove()


def valid_loss(
    accelerator: Accelerator,
    net: DualEncoder,
    learning: Objective,
    exam: Batches,
    *,
    micro_batch: int | None,
) -> float:
    """The mean of the objective over the steps of `exam`, without dropout and noise."""
    net.eval()
    total = 0.0
    for step in range(len(exam)):
        batch = _to(exam[step], accelerator.device)
        terms = learning.without_gradients(accelerator, net, batch, micro_batch=micro_batch)
        total += learning.total(distributed.means(accelerator, terms)) / len(exam)
    return total


def read_history(out: str | Path) -> list[Row]:
    """What `fit` logged while it trained the model in `out`: one row per `log_every` steps."""
    return json.loads((Path(out) / TRAINING).read_text(encoding="utf-8"))["history"]


def schedule(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to zero.

    >>> [round(schedule(s, n_warmup=2, n_steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1))


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(x.to(device) if isinstance(x, Tensor) else x for x in batch))


def _digest(*key: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def _refuse(
    accelerator: Accelerator,
    folder: Path,
    step: int,
    batches: Batches,
    terms: Mapping[str, float],
) -> None:
    path = folder / "not_finite.json"
    report = {
        "step": step,
        "mixtures": batches.names(step),
        "losses": {name: str(value) for name, value in terms.items()},
    }
    if accelerator.is_main_process:
        files.atomic_write(path, json.dumps(report, indent=2))
    # Or the first process to stop would end the others, and with them the report.
    accelerator.wait_for_everyone()
    raise FloatingPointError(f"the loss is not finite at step {step}: see {path} for its mixtures")
