"""Fit FLAM to mixtures: the Accelerate loop, its checkpoints and its curves."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from dvclive import Live
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm

from flamlib import losses, mixing, project, recipes
from flamlib.bank import Bank
from flamlib.batches import Batch, Batches
from flamlib.checkpoint import TRAINING
from flamlib.lexicon import Lexicon
from flamlib.model import FLAM

STATE = "state.json"
TENSORS = "state.safetensors"

Row = dict[str, int | float]  # what is logged of a step


def fit(
    out: str | Path,
    *,
    bank: str | Path,
    mixtures: str | Path,
    captions: str | Path,
    weights: str | Path,
    resume: str | Path,
    curves: str | Path,
    seed: int,
    clip_s: float,
    rules: Mapping[str, Any],
    network: Mapping[str, Any],
    objective: Mapping[str, float],
    n_steps: int,
    batch_size: int,
    n_pairs: int,
    pair_s: float,
    pair_background_share: float,
    n_parents: int,
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
    mixed_precision: str,
    n_processes: int,
    n_workers: int,
    save_every: int,
    log_every: int,
) -> None:
    """Train a model and save it to the folder `out`; returns nothing, as processes may be forked.

    `bank`, `mixtures` (a Parquet table of recipes), `captions` (a corpus's table) and `weights`
    (folders of the pretrained towers) are read; `network` are the other arguments of `FLAM`. Every
    `save_every` steps the whole state goes to `resume`, in a folder named after the parameters and
    the content of what is read: the same call continues where it was stopped, another one starts
    anew. `curves` receives DVCLive's tables.

        loss = objective[clip] * clip_loss + objective[frame] * framewise_loss
             + objective[prior] * prior_loss

    `batch_size` mixtures and `n_pairs` captioned recordings a step, over all processes. The
    learning rates rise linearly for `n_warmup` steps and fall to zero by a cosine; one of zero
    freezes its part, and `n_frozen` is the number of the audio tower's lowest convolutions left as
    they are. What is saved is the moving average of the weights (`ema_decay` a step).

    Raises FloatingPointError, with the step and its mixtures written to `resume`, when the loss is
    not finite, and RuntimeError unless `n_processes` take part (one forgotten launcher, and each
    would train alone).
    """
    parameters = {k: v for k, v in locals().items() if k not in ("out", "resume", "curves")}
    # By content: a run must not go on where another corpus, or other mixtures, have left off.
    parameters |= {k: checksum(parameters[k]) for k in ("bank", "mixtures", "captions", "weights")}
    out, resume, curves = Path(out), Path(resume), Path(curves)
    accelerator = _accelerator(mixed_precision, n_processes)
    set_seed(seed)

    net = pretrained(Path(weights), **network)
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
    lexicon = Lexicon.read(captions)
    batches = Batches(
        bank=sources,
        lexicon=lexicon,
        mixtures=recipes.read(mixtures),
        rules=mixing.Rules(clip_s=clip_s, **rules),
        seed=seed,
        n_steps=n_steps,
        batch_size=batch_size,
        n_pairs=n_pairs,
        pair_s=pair_s,
        pair_background_share=pair_background_share,
        n_parents=n_parents,
        wording_share=wording_share,
        n_frames=net.audio.n_frames(round(clip_s * sources.sample_rate)),
        frame_s=net.frame_s,
        rank=accelerator.process_index,
        n_ranks=accelerator.num_processes,
    )
    wrapped, optimizer = accelerator.prepare(net, optimizer)
    average.to(accelerator.device)
    checkpoints = Checkpoints(resume, parameters)
    first, history = checkpoints.load(net, optimizer, average)

    steps = DataLoader(
        Subset(batches, range(first, n_steps)), batch_size=None, num_workers=n_workers
    )
    features = CaptionFeatures(net, lexicon, accelerator.device, noise=caption_noise)
    lead = accelerator.is_main_process
    live = Live(str(curves), save_dvc_exp=False, report=None, dvcyaml=None) if lead else None
    for row in history if lead else ():
        _log(live, row)
    progress = tqdm(total=n_steps, initial=first, desc="train", disable=not lead, unit="step")

    wrapped.train()
    clock = _Clock()
    for step, batch in enumerate(steps, start=first):
        clock.lap("load")
        # Dropout depends on the step and not on what came before, so that a run which was stopped
        # and resumed equals one which was not.
        torch.manual_seed(_digest(seed, step, accelerator.process_index))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(step, n_warmup=n_warmup, n_steps=n_steps)
        with accelerator.autocast():
            terms = objective_terms(wrapped, _to(batch, accelerator.device), features, objective)
            loss = sum(objective[name] * value for name, value in terms.items())
        if not torch.isfinite(loss):
            _refuse(resume, step, batches, terms)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(wrapped.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(net)
        clock.lap("compute")

        progress.update()
        if lead and ((step + 1) % log_every == 0 or step + 1 == n_steps):
            row = {"step": step + 1, "loss": loss.item()}
            row |= {f"{name}_nats": value.item() for name, value in terms.items()}
            row |= {"lr": optimizer.param_groups[-1]["lr"], **clock.rates(batch_size)}
            history.append(row)
            _log(live, row)
            progress.set_postfix(loss=f"{row['loss']:.2f}")
        if lead and (step + 1) % save_every == 0 and step + 1 < n_steps:
            checkpoints.save(step + 1, history, net, optimizer, average)

    accelerator.wait_for_everyone()
    if lead:
        live.end()
        progress.close()
        about = {"commit": project.commit(), "parameters": parameters, "history": history}
        average.module.save_pretrained(out, provenance=about)
        shutil.rmtree(resume, ignore_errors=True)


def checksum(path: str | Path) -> str:
    """Of a file's content, or of the names and contents of all files in a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_dir():
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
            digest.update(str(file.relative_to(path)).encode())
    return digest.hexdigest()[:16]


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
    CPUs with AMX do; without, autocasting on a CPU is slower than plain float32."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu.get_capabilities().get("amx_bf16") else "no"


def schedule(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to zero.

    >>> [round(schedule(s, n_warmup=2, n_steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1))


def pretrained(weights: Path, **network: Any) -> FLAM:
    """A model whose towers carry the weights in `weights/<tower>/`, and whose heads are new."""
    caption = dict(network["caption"])
    folder = weights / caption.pop("tower")
    net = FLAM(folder, **(network | {"caption": caption}))
    net.caption.load_weights(folder / "model.safetensors")
    audio = weights / network["audio"]["tower"] / "model.safetensors"
    if audio.exists():
        net.audio.load_weights(audio)
    return net


def freeze(net: FLAM, *, n_frozen: int, lr_caption: float, objective: Mapping[str, float]) -> None:
    """Mark what does not learn: it costs no backward pass and no synchronisation."""
    convolutions = [m for m in net.audio.modules() if isinstance(m, nn.Conv2d)]
    still = [*convolutions[:n_frozen]]
    still += [] if lr_caption else [net.caption]
    still += [] if objective["frame"] else [net.scale_head]
    still += [] if objective["prior"] else [net.bias_head]
    for module in still:
        module.requires_grad_(False)
    if not objective["clip"]:
        net.log_temperature.requires_grad_(False)


def parameter_groups(net: FLAM, *, audio: float, caption: float, heads: float) -> list[dict]:
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


class CaptionFeatures:
    """Texts -> what the model's caption tower makes of them.

    A frozen tower reads every wording of the corpus once; a learning one reads each text anew, in
    the model's own forward pass. `noise` blurs a frozen tower's features by that share of their
    spread: a few hundred captions are points in a space in which the model must answer everywhere.
    """

    def __init__(self, net: FLAM, lexicon: Lexicon, device: torch.device, *, noise: float) -> None:
        self.learns = any(p.requires_grad for p in net.caption.parameters())
        self.tokenize, self.device = net.caption.tokenize, device
        if not self.learns:
            net.caption.eval()  # dropout in a tower that does not learn is only noise
            texts = sorted({t for wordings in lexicon.wordings.values() for t in wordings})
            self.row = {text: i for i, text in enumerate(texts)}
            self.features = net.caption.embed(texts).to(device)
            self.noise = noise * self.features.std()

    def __call__(self, texts: list[str]) -> Tensor | dict[str, Tensor]:
        if self.learns:
            return {name: tokens.to(self.device) for name, tokens in self.tokenize(texts).items()}
        features = self.features[[self.row[text] for text in texts]]
        return features + self.noise * torch.randn_like(features)


def objective_terms(
    net: nn.Module, batch: Batch, features: CaptionFeatures, objective: Mapping[str, float]
) -> dict[str, Tensor]:
    """The losses that have a weight, by name, in nats.

    The frame-wise loss sees the prior's log-odds but does not move them; the prior loss alone does.
    """
    wanted = {name for name, weight in objective.items() if weight}
    sed = wanted & {"frame", "prior"}
    heard, captions, pair_heard, pair_captions, log_temperature = net(
        batch.waveform if sed else None,
        features(batch.queries) if sed else None,
        batch.pair_waveform if "clip" in wanted else None,
        features(batch.pair_captions) if "clip" in wanted else None,
    )
    terms = {}
    if "frame" in wanted:
        logits = losses.frame_logits(
            heard.frame_emb,
            captions.caption_emb,
            captions.logit_scale,
            captions.logit_bias.detach(),
        )
        terms["frame"] = losses.framewise_loss(logits, batch.active, batch.known)
    if "prior" in wanted:
        terms["prior"] = losses.prior_loss(captions.logit_bias, batch.active, batch.known)
    if "clip" in wanted:
        terms["clip"] = losses.clip_loss(
            pair_heard.clip_emb, pair_captions.caption_emb, log_temperature
        )
    return terms


class Checkpoints:
    """The state of a run that was stopped, in a folder named after the run's parameters.

    Tensors are safetensors and the rest is JSON: nothing in a checkpoint is ever executed. Older
    states are removed once a newer one is whole.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        self.parameters = json.loads(json.dumps(parameters, default=str))
        key = json.dumps(self.parameters, sort_keys=True).encode()
        self.folder = folder / hashlib.sha256(key).hexdigest()[:12]

    def save(
        self,
        step: int,
        history: list[Row],
        net: FLAM,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel,
    ) -> None:
        moments = optimizer.state_dict()["state"]
        tensors = {f"model.{k}": v for k, v in net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
        tensors |= {
            f"optimizer.{i}.{k}": torch.as_tensor(v)
            for i, m in moments.items()
            for k, v in m.items()
        }
        with project.atomic_folder(self.folder) as folder:
            # Copies, because safetensors refuses tensors that share memory.
            save_file({k: v.detach().cpu().clone() for k, v in tensors.items()}, folder / TENSORS)
            state = {"step": step, "history": history, "parameters": self.parameters}
            (folder / STATE).write_text(json.dumps(state))

    def load(
        self, net: FLAM, optimizer: torch.optim.Optimizer, average: AveragedModel
    ) -> tuple[int, list[Row]]:
        """Put everything back; returns the number of steps done (0 for a fresh start) and the log.

        Raises ValueError if the state was made with other parameters, naming one of them.
        """
        if not (self.folder / STATE).exists():
            return 0, []
        state = json.loads((self.folder / STATE).read_text())
        for name, value in self.parameters.items():
            if state["parameters"].get(name) != value:
                raise ValueError(
                    f"{self.folder} was made with {name} = {state['parameters'].get(name)!r}, not "
                    f"{value!r}: remove it to start anew"
                )
        tensors = load_file(self.folder / TENSORS)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        net.load_state_dict(part("model."))
        average.load_state_dict(part("average."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            i, name = key.split(".")
            moments.setdefault(int(i), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return state["step"], state["history"]


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

    def rates(self, batch_size: int) -> dict[str, float]:
        total = sum(self.seconds.values())
        rates = {
            "clips_per_s": self.steps * batch_size / total,
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


def _refuse(resume: Path, step: int, batches: Batches, terms: Mapping[str, Tensor]) -> None:
    report = {
        "step": step,
        "mixtures": batches.rows(step),
        "losses": {name: str(value.item()) for name, value in terms.items()},
    }
    path = resume / "not_finite.json"
    project.atomic_write(path, json.dumps(report, indent=2))
    raise FloatingPointError(f"the loss is not finite at step {step}: see {path} for its mixtures")
