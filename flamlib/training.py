"""Fit FLAM, or a baseline, to mixtures: the Accelerate loop and its curves."""

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from dvclive import Live
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from flamlib import mixing, project, recipes, strong, tags
from flamlib.bank import Bank
from flamlib.batches import Batch, Batches
from flamlib.checkpoint import TRAINING
from flamlib.lexicon import Lexicon
from flamlib.mgaclap import MGACLAP
from flamlib.model import FLAM, TwoTowers
from flamlib.objective import OF_MIXTURES, OF_PAIRS, CaptionFeatures, Objective, asks, see
from flamlib.resuming import Checkpoints, Row, checksum


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
    n_pairs: int,
    set_weights: Mapping[str, float | int] | None,
    pair_s: float,
    pair_background_share: float,
    n_parents: int,
    n_hard_negatives: int,
    wording_share: float,
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
    mixed_precision: str,
    n_processes: int,
    n_workers: int,
    save_every: int,
    n_states: int,
    valid_every: int,
    select: str,
    log_every: int,
) -> None:
    """Train a model and save it to the folder `out`; returns nothing, as processes may be forked.

    `bank`, `mixtures` and `valid` (Parquet tables of recipes), `captions` (a corpus's table),
    `weights` (folders of the pretrained towers) and those sets in the folder `sets` to which
    `set_weights` gives one (None: there are mixtures alone, see `strong.chosen`) are read;
    `network` are the other arguments of `FLAM`, and with a `codebook` (`n_codes`,
    `code_temperature`) it is MGA-CLAP that is trained; `init_from` is a saved model to start from
    instead of new heads. Every `save_every` steps the whole state goes to `resume`, in a folder
    named after the parameters and the content of what is read, and the last `n_states` of them
    stay: the same call continues where it was stopped, another one starts anew. `curves` receives
    DVCLive's tables.

        loss = objective[clip] * clip_loss + objective[frame] * framewise_loss
             + objective[prior] * prior_loss + objective[hard] * hard_negative_loss
             + objective[even] * evenness_loss

    A loss that `objective` does not name has no weight. `hardness` is that of hard negatives.
    `batch_size` mixtures and `n_pairs` captioned recordings a step, over all processes (those that
    some loss asks for: no others are rendered, and `clips_per_s` counts the pairs then), of which
    each holds `micro_batch` in memory at a time (None: its whole share); see `Objective`. The
    gradient is that of the whole step, however many share it. The learning rates rise linearly for
    `n_warmup` steps and fall to zero by a cosine; one of zero freezes its part, and `n_frozen` is
    the number of the audio tower's lowest convolutions left as they are.

    What is trained is the moving average of the weights (`ema_decay` a step); every `valid_every`
    steps (0: never) its loss on the validation mixtures and recordings is logged. What is saved is
    the one at the end if `select` is "last", the one of the lowest such loss if it is "best".

    Raises FloatingPointError, with the step and its mixtures written to `resume`, when the loss is
    not finite in any process, RuntimeError unless `n_processes` take part (one forgotten launcher,
    and each would train alone), and ValueError for what cannot be done, before anything is read.
    """
    parameters = {k: v for k, v in locals().items() if k not in ("out", "resume", "curves")}
    if select not in ("last", "best") or (select == "best" and not valid_every):
        raise ValueError(
            f'select is "last", or "best" with valid_every above 0; it is {select!r} with '
            f"valid_every {valid_every}"
        )
    if n_states < 1 or (micro_batch is not None and micro_batch < 1):
        raise ValueError(f"n_states {n_states} and micro_batch {micro_batch} are 1 at least")
    # By content: a run must not go on where another corpus, or other mixtures, have left off.
    read = ("bank", "mixtures", "valid", "captions", "weights", "init_from")
    parameters |= {k: checksum(parameters[k]) for k in read if parameters[k] is not None}
    parameters["sets"] = checksum(sets) if set_weights else None
    out, resume, curves = Path(out), Path(resume), Path(curves)
    accelerator = _accelerator(mixed_precision, n_processes)
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
    peaks = [group["lr"] for group in optimizer.param_groups]

    sources = Bank.open(bank)
    if sources.sample_rate != net.sample_rate:
        raise ValueError(
            f"{bank} holds audio of {sources.sample_rate} Hz, but the audio tower hears "
            f"{net.sample_rate} Hz: build the bank again at that rate"
        )
    strong_sets, set_shares = strong.chosen(sets, set_weights)
    others = frozenset().union(*(each.captions for each in strong_sets))
    lexicon = Lexicon(Lexicon.read(captions).table, others)
    shared = {
        "bank": sources,
        "lexicon": lexicon,
        "rules": mixing.Rules(clip_s=clip_s, **rules),
        "seed": seed,
        "batch_size": batch_size,
        "n_pairs": n_pairs,
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
        pair_background_share=pair_background_share,
        n_parents=n_parents,
        n_hard_negatives=n_hard_negatives,
        wording_share=wording_share,
        **shared,
    )
    wrapped, optimizer = accelerator.prepare(net, optimizer)
    average.to(accelerator.device)
    checkpoints = Checkpoints(resume, parameters, n_kept=n_states)
    first, history = checkpoints.load(net, optimizer, average, accelerator.scaler)

    steps = DataLoader(
        Subset(batches, range(first, n_steps)), batch_size=None, num_workers=n_workers
    )
    features = CaptionFeatures(net, lexicon, accelerator.device, noise=caption_noise)
    learning = Objective(objective, features, hardness=hardness)
    if valid_every:
        held_out = recipes.read(valid)
        plain = {"pair_background_share": 0.0, "wording_share": 0.0}
        plain |= {"n_parents": 0, "n_hard_negatives": 0, "sets": (), "set_shares": ()}
        n_valid = max(1, len(held_out) // batch_size) if batch_size else 1
        exam = Batches(mixtures=held_out, split="valid", n_steps=n_valid, **plain, **shared)
    lead = accelerator.is_main_process
    live = Live(str(curves), save_dvc_exp=False, report=None, dvcyaml=None) if lead else None
    for row in history if lead else ():
        _log(live, row)
    progress = tqdm(total=n_steps, initial=first, desc="train", disable=not lead, unit="step")

    wrapped.train()
    clock = _Clock()
    n_heard = batch_size if batches.hears_mixtures and batch_size else n_pairs
    for step, batch in enumerate(steps, start=first):
        clock.lap("load")
        # Dropout depends on the step and not on what came before, so that a run which was stopped
        # and resumed equals one which was not.
        torch.manual_seed(_digest(seed, step, accelerator.process_index))
        if isinstance(net, FLAM):
            net.asks_tags = _digest(seed, step) >= tags.DROPOUT * 2**63
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(step, n_warmup=n_warmup, n_steps=n_steps)
        here = _to(batch, accelerator.device)
        terms = learning.backward(accelerator, wrapped, here, micro_batch=micro_batch)
        terms = _means(accelerator, terms)
        loss = learning.total(terms)
        if not math.isfinite(loss):
            _refuse(accelerator, resume, step, batches, terms)
        accelerator.clip_grad_norm_(wrapped.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(net)
        clock.lap("compute")

        progress.update()
        done, row = step + 1, {}
        if done % log_every == 0 or done == n_steps:
            row = {"loss": loss} | {f"{name}_nats": value for name, value in terms.items()}
            row |= {"lr": optimizer.param_groups[-1]["lr"], **clock.rates(n_heard)}
        if valid_every and (done % valid_every == 0 or done == n_steps):
            row["valid_loss"] = valid_loss(accelerator, average.module, learning, exam)
            if lead and row["valid_loss"] < checkpoints.best_loss():
                checkpoints.save_best(done, row["valid_loss"], average.module)
            clock.skip()
        if lead and row:
            history.append({"step": done} | row)
            _log(live, history[-1])
            progress.set_postfix({k: f"{v:.2f}" for k, v in row.items() if k.endswith("loss")})
        if lead and done % save_every == 0 and done < n_steps:
            checkpoints.save(done, history, net, optimizer, average, accelerator.scaler)

    accelerator.wait_for_everyone()
    if lead:
        live.end()
        progress.close()
        about = {"commit": project.commit(), "parameters": parameters, "history": history}
        chosen = average.module
        if select == "best":
            chosen = checkpoints.load_best(type(net))
            about = {"saved": chosen.provenance, **about}
        chosen.save_pretrained(out, provenance=about)
        checkpoints.remove()


@torch.no_grad()
def valid_loss(
    accelerator: Accelerator, net: TwoTowers, learning: Objective, exam: Batches
) -> float:
    """The mean of the objective over the steps of `exam`, without dropout and noise."""
    net.eval()
    total = 0.0
    for step in range(len(exam)):
        batch = _to(exam[step], accelerator.device)
        inputs, texts = learning.inputs(batch, noisy=False)
        with accelerator.autocast():
            seen = see(net, inputs)
        terms = _means(accelerator, learning.terms(seen, batch, texts))
        total += learning.total(terms) / len(exam)
    return total


def _accelerator(mixed_precision: str, n_processes: int) -> Accelerator:
    # Unless it is told that there is nothing but CPUs, accelerate leaves each process on its own.
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), mixed_precision=precision(mixed_precision)
    )
    if accelerator.num_processes != n_processes:
        raise RuntimeError(
            f"{n_processes} processes are to share the training, but {accelerator.num_processes} "
            "take part: start it with notebook_launcher(fit, num_processes=n_processes)"
        )
    if accelerator.device.type == "cpu" and n_processes > 1:
        # Processes that fight for the cores are slower than one alone.
        share = max(1, (os.cpu_count() or 1) // n_processes)
        torch.set_num_threads(min(torch.get_num_threads(), share))
    return accelerator


def read_history(out: str | Path) -> list[Row]:
    """What `fit` logged while it trained the model in `out`: one row per `log_every` steps."""
    return json.loads((Path(out) / TRAINING).read_text(encoding="utf-8"))["history"]


def precision(name: str) -> str:
    """`auto`: bf16 where the hardware multiplies it faster than float32, which CUDA devices and
    CPUs with AMX or AVX512-BF16 do; without, autocasting on a CPU is slower than float32."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    can = torch.cpu.get_capabilities()
    return "bf16" if can.get("amx_bf16") or can.get("avx512_bf16") else "no"


def schedule(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to zero.

    >>> [round(schedule(s, n_warmup=2, n_steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1))


def pretrained(weights: Path, *, codebook: Mapping[str, Any] | None, **network: Any) -> TwoTowers:
    """A model whose towers carry the weights in `weights/<tower>/`, and whose heads are new.

    FLAM; with a `codebook` MGA-CLAP, which has no heads and whose caption tower gives words.
    """
    caption = dict(network["caption"])
    folder = weights / caption.pop("tower")
    if codebook is None:
        net = FLAM(folder, **(network | {"caption": caption}))
    else:
        shared = {name: network[name] for name in ("audio", "dim", "dropout", "temperature_init")}
        net = MGACLAP(folder, caption={"pooling": "words"}, **shared, **codebook)
    net.caption.load_weights(folder / "model.safetensors")
    audio = weights / network["audio"]["tower"]
    if (audio / "model.safetensors").exists():
        net.audio.load_weights(audio / "model.safetensors")
    else:
        warnings.warn(f"{audio} has no model.safetensors: random weights hear", stacklevel=2)
    if isinstance(net, FLAM) and net.audio.n_tags:
        net.name_tags((audio / "classes.txt").read_text(encoding="utf-8").splitlines())
    return net


def start_from(net: TwoTowers, folder: Path) -> None:
    """Take over all weights of a saved model, FLAM-Global's say, whose heads are as they began.

    Raises ValueError if it is of another shape, naming the settings in which the two differ.
    """
    other = type(net).from_pretrained(folder)
    mine, its = other.state_dict(), net.state_dict()
    if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in its.items()}:
        unlike = {k: (other.config[k], v) for k, v in net.config.items() if other.config[k] != v}
        raise ValueError(
            f"{folder} has other tensors than this network: its settings differ in {unlike}"
        )
    net.load_state_dict(mine)


def freeze(
    net: TwoTowers, *, n_frozen: int, lr_caption: float, objective: Mapping[str, float]
) -> None:
    """Mark what does not learn: it costs no backward pass and no synchronisation."""
    convolutions = [m for m in net.audio.modules() if isinstance(m, nn.Conv2d)]
    still = [*convolutions[:n_frozen]]
    still += [] if lr_caption else [net.caption]
    if isinstance(net, FLAM):
        still += [] if objective.get("frame") else [net.scale_head]
        still += [] if objective.get("prior") else [net.bias_head]
    for module in still:
        module.requires_grad_(False)
    if not (objective.get("clip") or objective.get("hard")):
        net.log_temperature.requires_grad_(False)


def parameter_groups(net: TwoTowers, *, audio: float, caption: float, heads: float) -> list[dict]:
    """The learning parameters of each tower and of the heads, with their peak learning rates.

    What a tower has beside its pretrained weights learns as fast as the heads: it starts anew too.
    """
    rates = {"audio": audio, "caption": caption}
    groups: dict[str, list] = {"audio": [], "caption": [], "heads": []}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            tower = name.split(".")[0]
            old = tower in rates and not name.startswith("audio.local.")
            groups[tower if old else "heads"].append(parameter)
    return [
        {"params": members, "lr": rates.get(name, heads)}
        for name, members in groups.items()
        if members
    ]


class _Clock:
    """Seconds spent waiting for data and computing, since the last look."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.steps += name == "compute"
        self.last = now

    def skip(self) -> None:
        """What came since the last lap is neither."""
        self.last = time.perf_counter()

    def rates(self, n_clips: int) -> dict[str, float]:
        total = sum(self.seconds.values())
        rates = {
            "clips_per_s": self.steps * n_clips / total,
            "compute_share": self.seconds["compute"] / total,
        }
        self.seconds, self.steps = {}, 0
        return rates


def _log(live: Live, row: Row) -> None:
    live.step = int(row["step"])
    for name, value in row.items():
        if name != "step":
            live.log_metric(name, value)


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(x.to(device) if isinstance(x, Tensor) else x for x in batch))


def _digest(*key: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def _means(accelerator: Accelerator, terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses, of which each process has a share: the same numbers everywhere."""
    shares = torch.stack([value.detach().float() for value in terms.values()])
    means = accelerator.reduce(shares, reduction="mean").tolist()
    return dict(zip(terms, means, strict=True))


def _refuse(
    accelerator: Accelerator,
    resume: Path,
    step: int,
    batches: Batches,
    terms: Mapping[str, float],
) -> None:
    path = resume / "not_finite.json"
    report = {
        "step": step,
        "mixtures": batches.names(step),
        "losses": {name: str(value) for name, value in terms.items()},
    }
    if accelerator.is_main_process:
        project.atomic_write(path, json.dumps(report, indent=2))
    # Or the first process to stop would end the others, and with them the report.
    accelerator.wait_for_everyone()
    raise FloatingPointError(f"the loss is not finite at step {step}: see {path} for its mixtures")
