"""Fit FLAM, or a baseline, to mixtures: the Accelerate loop."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Subset

from flamlib import paths
from flamlib.data.batches import Batch, Batches
from flamlib.experiment.config import Config
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.learning import TrainConfig
from flamlib.models import checkpoint, class_features
from flamlib.models.checkpoint import TRAINING
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.familiarity import Trust
from flamlib.models.flam import FLAM
from flamlib.storage import files
from flamlib.training import distributed
from flamlib.training.average import MovingAverage
from flamlib.training.init import adapt, freeze, parameter_groups, pretrained, start_from
from flamlib.training.inputs import TrainInputs, open_bank, read_steps
from flamlib.training.logbook import Clock, Logbook
from flamlib.training.objective import CaptionFeatures, Objective, check_sizes
from flamlib.training.resume import Checkpoints, Row

N_ORDINARY = 1024  # clips whose frames say what ordinary ones are like
FEW = 32  # clips in memory at a time
# Of `train`: they change no number, so a run may go on with others, as after one that ended for
# want of memory.
HOW = {"n_workers", "save_every", "keep_last"}


@dataclass(kw_only=True)
class TrainState:
    """A run between two steps.

    Attributes:
        accelerator: the processes that share the run.
        net: the model; `wrapped` is the same as Accelerate calls it.
        average: moving average of its weights, which is validated and saved.
        optimizer: AdamW, with a group each for the towers and the heads.
        peak_rates: the peak learning rate of each group.
        objective: the weighted losses.
        batches: the steps of training.
        valid_batches: the steps of validation; None: there is none.
        checkpoints: where the run's states lie.
        parameters: all that decides what the run computes; kept with the model.
    """

    config: TrainConfig
    seed: int
    accelerator: Accelerator
    net: DualEncoder
    wrapped: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    peak_rates: list[float]
    objective: Objective
    batches: Batches
    valid_batches: Batches | None
    checkpoints: Checkpoints
    parameters: dict[str, Any]


def fit(
    config: Config,
    model: str,
    inputs: TrainInputs,
    out: str | Path,
    *,
    resume: str | Path,
    curves: str | Path,
) -> None:
    """Train a model and save it; returns nothing, as processes may be forked.

        loss = clip * clip_loss + clip_sigmoid * clip_sigmoid_loss + frame * framewise_loss
             + prior * prior_loss + hard * hard_negative_loss + even * l1_l2_loss

    with the weights of `config.objectives[model]`. The gradient is that of the whole step, however
    many processes share it, but for the last two losses, which are of each process's own clips. The
    learning rates rise linearly and fall to zero by a cosine.

    Args:
        config: `seed`, `mixture`, `network`, `objectives`, `codebook` and `train` are used.
        model: a key of `config.objectives`; "mga_clap" is that architecture, all others are FLAM.
        inputs: what is read.
        out: folder of the model, whole when training has ended.
        resume: folder for the run's states, in one named after the parameters (but `HOW`) and the
            content of what is read: the same call goes on where it was stopped, another one starts
            anew.
        curves: folder for DVCLive's tables. Speeds go to the file `speeds_of(out)`.

    Raises:
        FileExistsError: `out` holds more than a saved model; before anything is read.
        FloatingPointError: the loss or its gradient is not finite in some process; the step and its
            mixtures are written beside the run's states.
        RuntimeError: other than `train.n_processes` processes take part: a forgotten launcher, and
            each would train alone; or they would go on from different steps, as where a machine
            does not see the folder of the states.
        ValueError: for what cannot be done: before anything is read where the parameters alone
            say so, before the first step where the data do.
    """
    checkpoint.check_replaceable(out)
    state = build(config, model, inputs, Path(resume))
    accelerator, train, batches = state.accelerator, state.config, state.batches
    first, history = state.checkpoints.load(
        state.net, state.optimizer, state.average, accelerator.scaler
    )
    # Else each would take its own steps, and the gradients of different ones be averaged.
    why = f"{resume}: processes find different newest states there, after steps"
    distributed.check_same(accelerator, first, why)
    logbook = Logbook(
        Path(curves),
        history,
        speeds=speeds_of(out),
        first=first,
        n_steps=train.n_steps,
        shown=accelerator.is_main_process,
    )
    loader = DataLoader(
        Subset(batches, range(first, train.n_steps)),
        batch_size=None,
        num_workers=train.n_workers,
        pin_memory=accelerator.device.type == "cuda",  # copied while the GPU computes
    )
    counts_mixtures = batches.uses_mixtures and train.batch_size
    n_clips = train.batch_size if counts_mixtures else train.pair_batch_size

    state.wrapped.train()
    clock = Clock()
    for step, batch in enumerate(loader, start=first):
        clock.lap("load")
        losses = train_step(state, step, batch)
        clock.lap("compute")

        done, row, speed = step + 1, {}, None
        if done % train.log_every == 0 or done == train.n_steps:
            row = {"loss": state.objective.total(losses)}
            row |= {f"{name}_nats": value for name, value in losses.items()}
            row["lr"] = state.optimizer.param_groups[-1]["lr"]
            speed = clock.rates(n_clips)
        if train.valid_every and (done % train.valid_every == 0 or done == train.n_steps):
            row["valid_loss"] = validate(state)
            if accelerator.is_main_process and row["valid_loss"] < state.checkpoints.best_loss():
                state.checkpoints.save_best(done, row["valid_loss"], state.average.module)
            clock.skip()
        logbook.add(done, row, speed)
        if accelerator.is_main_process and done % train.save_every == 0 and done < train.n_steps:
            state.checkpoints.save(
                done,
                logbook.history,
                state.net,
                state.optimizer,
                state.average,
                accelerator.scaler,
            )

    accelerator.wait_for_everyone()
    logbook.close()
    if accelerator.is_main_process:
        save(state, logbook.history, Path(out))


def build(config: Config, model: str, inputs: TrainInputs, resume: Path) -> TrainState:
    """Read the data, make the model and its optimiser, and check that they fit each other.

    Args:
        config: of the experiment.
        model: "flam", "flam_global" or "mga_clap".
        inputs: data and pretrained towers.
        resume: folder of states to go on from.

    Raises:
        ValueError, RuntimeError: as `fit` does.
    """
    train, objective = config.train, config.objective(model)
    check_sizes(plain(objective), train)
    accelerator = distributed.accelerator(train.mixed_precision, train.n_processes)
    if train.set_weights is None:
        inputs = replace(inputs, sets=None)
    codebook = config.codebook if model == "mga_clap" else None
    set_seed(config.seed)
    net = pretrained(inputs.weights, config.network, codebook)
    if inputs.init_from is not None:
        start_from(net, inputs.init_from)
    freeze(net, train, objective)
    # On a CPU torch makes four passes over the parameters unless it is told otherwise.
    fused = {"fused": True} if accelerator.device.type == "cpu" else {}
    optimizer = torch.optim.AdamW(
        parameter_groups(net, train), weight_decay=train.weight_decay, **fused
    )
    average = MovingAverage(net, train.ema_decay)
    adapt(net, accelerator.device, train)
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    bank = open_bank(inputs.bank, sample_rate=net.sample_rate)
    # By content: a run must not go on where another corpus, or other mixtures, have left off. After
    # all that could be refused without it, as a large bank takes minutes to read.
    sums = distributed.once(accelerator, inputs.checksums)
    given = {"bank": bank, "bank_checksum": sums["bank"]}
    batches, valid_batches = read_steps(config, objective, inputs, net, accelerator, **given)
    parameters = {
        "seed": config.seed,
        "mixture": plain(config.mixture),
        "network": plain(config.network),
        "objective": plain(objective),
        "codebook": plain(codebook),
        **plain(train),
        **sums,
        "input": "audio" if batches.features is None else net.trunk_id(),
    }
    wrapped, optimizer = accelerator.prepare(net, optimizer)
    average.to(accelerator.device)
    features = CaptionFeatures(net, batches.lexicon, accelerator.device, noise=train.caption_noise)
    same_run = {name: value for name, value in parameters.items() if name not in HOW}
    return TrainState(
        config=train,
        seed=config.seed,
        accelerator=accelerator,
        net=net,
        wrapped=wrapped,
        average=average,
        optimizer=optimizer,
        peak_rates=peak_rates,
        objective=Objective(plain(objective), features, hardness=train.hardness),
        batches=batches,
        valid_batches=valid_batches,
        checkpoints=Checkpoints(resume, same_run, n_kept=train.keep_last),
        parameters=parameters,
    )


def train_step(state: TrainState, step: int, batch: Batch) -> dict[str, float]:
    """Move the weights once; return the losses by name, in nats, means over all processes.

    Raises FloatingPointError as `fit` does.
    """
    accelerator, train = state.accelerator, state.config
    # Dropout depends on the step and not on what came before, so that a run which was stopped
    # and resumed equals one which was not.
    torch.manual_seed(_digest(state.seed, step, accelerator.process_index))
    if isinstance(state.net, FLAM):
        state.net.use_class_features = _digest(state.seed, step) >= class_features.DROPOUT * 2**63
    for group, peak in zip(state.optimizer.param_groups, state.peak_rates, strict=True):
        group["lr"] = peak * schedule(step, n_warmup=train.n_warmup, n_steps=train.n_steps)
    losses = state.objective.backward(
        accelerator,
        state.wrapped,
        _to(batch, accelerator.device),
        micro_batch=train.micro_batch,
    )
    losses = distributed.means(accelerator, losses)
    if not math.isfinite(state.objective.total(losses)):
        _refuse(state, step, losses, "loss")
    norm = accelerator.clip_grad_norm_(state.wrapped.parameters(), train.max_grad_norm)
    # Before the weights, and a state that would be saved of them, are no numbers either. In fp16 a
    # gradient overflows now and then, and the scaler leaves such a step out.
    if accelerator.scaler is None and not math.isfinite(norm):
        _refuse(state, step, losses, "gradient")
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.average.update_parameters(state.net)
    return losses


def validate(state: TrainState) -> float:
    """Return the mean loss of the averaged weights on the validation steps, in nats, without
    dropout and noise."""
    net, batches = state.average.module, state.valid_batches
    net.eval()
    total = 0.0
    for step in range(len(batches)):
        batch = _to(batches[step], state.accelerator.device)
        losses = state.objective.without_gradients(
            state.accelerator, net, batch, micro_batch=state.config.micro_batch
        )
        losses = distributed.means(state.accelerator, losses)
        total += state.objective.total(losses) / len(batches)
    return total


def save(state: TrainState, history: list[Row], out: Path) -> None:
    """Write the trained model with its history and parameters, and remove the run's states."""
    about = {"commit": paths.commit(), "parameters": state.parameters, "history": history}
    chosen = state.average.module
    if state.config.select == "best":
        chosen = state.checkpoints.load_best(type(state.net))
        about = {"saved": chosen.provenance, **about}
    known, novel = state.config.trust_known, state.config.trust_novel
    if isinstance(chosen, FLAM) and "frame" in state.objective.weights and known and novel:
        chosen.eval()
        frame_emb = ordinary_frames(state, chosen)
        chosen.set_known_captions(state.batches.all_texts(), Trust(known, novel), frame_emb)
    chosen.save_pretrained(out, provenance=about)
    state.checkpoints.remove()


@torch.inference_mode()
def ordinary_frames(state: TrainState, net: DualEncoder) -> Float[Tensor, "frame dim"]:
    """Embed the frames of the first N_ORDINARY clips that a run was trained on, or of all of them.

    They are the same for any number of processes.
    """
    batches = replace(state.batches, rank=0, n_ranks=1)
    n_steps = min(state.config.n_steps, math.ceil(N_ORDINARY / state.config.batch_size))
    clips = torch.cat([batches[step].audio for step in range(n_steps)])[:N_ORDINARY]
    parts = [net.encode_audio(part.to(net.device)) for part in clips.split(FEW)]
    return torch.cat([part.frame_emb for part in parts]).flatten(0, 1)


def read_history(out: str | Path) -> list[Row]:
    """Return what `fit` logged while it trained the model in `out`: a row per `log_every` steps."""
    return json.loads((Path(out) / TRAINING).read_text(encoding="utf-8"))["history"]


def speeds_of(out: str | Path) -> Path:
    """Return the file of a training's speeds: beside its model, as no two runs have the same.

    Columns are `step`, `clips_per_s` and `compute_share`, the share of time that is not spent
    waiting for audio; a row per `log_every` steps.
    """
    return Path(f"{out}.speeds.tsv")


def schedule(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then half a cosine to zero.

    >>> [round(schedule(s, n_warmup=2, n_steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1))


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(x.to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in batch))


def _digest(*key: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def _refuse(state: TrainState, step: int, losses: Mapping[str, float], what: str) -> None:
    path = state.checkpoints.folder / "not_finite.json"
    report = {
        "step": step,
        "mixtures": state.batches.names(step),
        "losses": {name: str(value) for name, value in losses.items()},
    }
    if state.accelerator.is_main_process:
        files.atomic_write(path, json.dumps(report, indent=2))
    # Or the first process to stop would end the others, and with them the report.
    state.accelerator.wait_for_everyone()
    raise FloatingPointError(
        f"the {what} is not finite at step {step}: see {path} for its mixtures"
    )
