"""What a run begins with: pretrained towers, new heads, what of it learns, and how it computes."""

import warnings
from pathlib import Path

import torch
from torch import nn

from flamlib.compute import memory
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.learning import CodebookConfig, LossWeights, TrainConfig
from flamlib.experiment.params.network import ModelConfig
from flamlib.models import checkpoint, dual_encoder
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.flam import FLAM
from flamlib.models.mga_clap import MGACLAP
from flamlib.models.yamnet import read_class_names


def pretrained(
    weights: Path, network: ModelConfig, codebook: CodebookConfig | None = None
) -> DualEncoder:
    """Make a model whose towers carry the weights in `weights/<tower>/`, and whose heads are new.

    FLAM; with a `codebook` MGA-CLAP, which has no heads and whose caption tower gives words.
    """
    folder = weights / network.caption.tower
    if codebook is None:
        caption = {"pooling": network.caption.pooling}
        net = FLAM(folder, **(plain(network) | {"caption": caption}))
    else:
        settings = plain(network)
        shared = {name: settings[name] for name in ("audio", "dim", "dropout", "temperature_init")}
        net = MGACLAP(folder, caption={"pooling": "words"}, **shared, **plain(codebook))
    net.caption.load_weights(folder / "model.safetensors")
    audio = weights / network.audio.tower
    _load(net.audio, audio)
    if isinstance(net, FLAM) and net.audio.n_tags:
        net.set_class_names(read_class_names(audio))
    return net


def pretrained_audio_tower(weights: Path, network: ModelConfig) -> nn.Module:
    """Make the audio tower alone, with the weights in `weights/<tower>/`."""
    tower = dual_encoder.audio_tower(**plain(network.audio))
    _load(tower, weights / network.audio.tower)
    return tower


def _load(tower: nn.Module, folder: Path) -> None:
    path = folder / "model.safetensors"
    if path.exists():
        tower.load_weights(path)
    else:
        warnings.warn(
            f"{folder} has no model.safetensors: the audio tower keeps random weights", stacklevel=3
        )


def start_from(net: DualEncoder, folder: Path) -> None:
    """Take over all weights of a saved model, FLAM-Global's say, whose heads are as they began.

    A FLAM is none of MGA-CLAP's to start from: that begins with the pretrained towers, and says so,
    so that `train.init_from` holds for all models of an experiment.

    Raises ValueError if it is of another shape, naming the settings in which the two differ, or,
    where those are the same, the tensors; and if its numbers began elsewhere (`scale_init`, ...):
    they are taken over, so this network's would be forgotten.
    """
    if isinstance(net, MGACLAP) and checkpoint.read_kind(folder) == FLAM.kind:
        print(f"{folder} is a FLAM, from which MGA-CLAP cannot start: it has the pretrained towers")
        return
    other = type(net).from_pretrained(folder)
    if isinstance(other, FLAM):
        other.forget_captions()  # of this run other captions will be known
    begun = {k: (other.config[k], v) for k, v in net.config.items() if k.endswith("_init")}
    if unlike := {k: both for k, both in begun.items() if both[0] != both[1]}:
        raise ValueError(
            f"{folder} began with other numbers, which would be taken over: {unlike}; set these of "
            "`network` to the saved model's"
        )
    found = {name: [*tensor.shape] for name, tensor in other.state_dict().items()}
    wanted = {name: [*tensor.shape] for name, tensor in net.state_dict().items()}
    if found != wanted:
        both = {k: (other.config.get(k), v) for k, v in net.config.items()}
        unlike = {k: pair for k, pair in both.items() if pair[0] != pair[1]}
        if not unlike:  # the caption tower's shape is no setting: it lies beside the weights
            names = sorted(found.keys() | wanted.keys())
            both = {k: (found.get(k), wanted.get(k)) for k in names}
            unlike = {k: shapes for k, shapes in both.items() if shapes[0] != shapes[1]}
            few = dict(list(unlike.items())[:3])
            raise ValueError(
                f"{folder} has other tensors than this network, of the same settings: "
                f"{len(unlike)} differ in shape or are missing (None), such as {few}"
            )
        raise ValueError(
            f"{folder} has other tensors than this network: its settings differ in {unlike}"
        )
    net.load_state_dict(other.state_dict())


def freeze(net: DualEncoder, train: TrainConfig, objective: LossWeights) -> None:
    """Mark what does not learn: it costs no backward pass and no synchronisation.

    These are the `train.n_frozen` lowest convolutions of the audio tower, the caption tower if
    `train.lr_caption` is 0, and whatever no loss of the objective depends on.
    """
    convolutions = [m for m in net.audio.modules() if isinstance(m, nn.Conv2d)]
    still = [*convolutions[: train.n_frozen]]
    still += [] if train.lr_caption else [net.caption]
    if isinstance(net, FLAM):
        still += [] if objective.frame else [net.scale_head]
        still += [] if objective.prior or objective.frame else [net.bias_head]
        own, of_clips = net.clip_projection, objective.clip or objective.clip_sigmoid
        still += [] if own is None or of_clips else [own]
    for module in still:
        module.requires_grad_(False)
    if not (objective.clip or objective.clip_sigmoid or objective.hard):
        net.log_temperature.requires_grad_(False)


def parameter_groups(net: DualEncoder, train: TrainConfig) -> list[dict]:
    """Return the learning parameters of each tower and of the heads, with their peak rates.

    What a tower has beside its pretrained weights learns as fast as the heads: it starts anew too.
    """
    rates = {"audio": train.lr_audio, "caption": train.lr_caption}
    groups: dict[str, list] = {"audio": [], "caption": [], "heads": []}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            tower = name.split(".")[0]
            old = tower in rates and not name.startswith("audio.local.")
            groups[tower if old else "heads"].append(parameter)
    return [
        {"params": members, "lr": rates.get(name, train.lr_heads)}
        for name, members in groups.items()
        if members
    ]


def adapt(net: DualEncoder, device: torch.device, train: TrainConfig) -> None:
    """Compute the same in another way; the names of the weights stay as they are.

    `checkpointing`: towers that learn keep the input of each block and compute the rest again in
    the backward pass. `compile`: the towers go through `torch.compile`, the audio tower anew for
    each shape that it meets. `sync_batch_norm`: layers that normalise by the batch do so by that of
    all processes, of as many clips as each holds at a time. On a CPU the memory of a step's
    activations is kept for the next step.

    Raises ValueError where that is impossible: torch synchronises on accelerators only, and most
    networks have no layer that normalises by the batch.
    """
    if device.type == "cpu":
        memory.keep_freed()
    if train.sync_batch_norm:
        if device.type == "cpu":
            raise ValueError("sync_batch_norm: torch cannot do so on a CPU; set it to false")
        if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()):
            raise ValueError("sync_batch_norm: no layer of this network normalises by the batch")
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    learning = [t for t in (net.audio, net.caption) if any(p.requires_grad for p in t.parameters())]
    for tower in learning if train.checkpointing else ():
        tower.enable_checkpointing()
    if train.compile:
        net.audio.compile(dynamic=False)
        if net.caption in learning:  # one that does not learn is asked only once
            net.caption.encoder.compile()
