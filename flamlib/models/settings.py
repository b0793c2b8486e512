"""What the settings of a saved model may be: checked when it is built, and so when it is read.

They are those of `config.ModelConfig`, but for the caption tower: a saved model carries it along.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flamlib.experiment.parameters import parameter, parse, plain
from flamlib.experiment.params.learning import CodebookConfig
from flamlib.experiment.params.network import HtsatConfig, ModelConfig, YamnetConfig


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """Arguments of `TextTower`."""

    pooling: Literal["mean", "pooler", "all", "words"] = parameter("how token vectors become one")


@dataclass(frozen=True, kw_only=True)
class ClapSettings:
    """Arguments of `originals.CLAP`, and those that all models share."""

    audio: YamnetConfig | HtsatConfig = parameter("the audio tower")
    caption: CaptionSettings = parameter("the caption tower")
    dim: int = parameter("dimensions of the shared embedding", low=1)
    temperature_init: float = parameter("initial temperature of the clip loss", above=0)

    def __post_init__(self):
        if self.caption.pooling == "words":
            raise ValueError('caption.pooling "words" is for MGA-CLAP: one vector is needed')


@dataclass(frozen=True, kw_only=True)
class FlamSettings(ModelConfig):
    """Arguments of `FLAM`."""

    caption: CaptionSettings = parameter("the caption tower")
    scale: Literal["per_caption", "shared", "fixed"] = parameter(
        "logit scale: predicted for each caption, one for all, or as it begins",
        default="per_caption",
    )
    bias: Literal["per_caption", "shared", "fixed"] = parameter(
        "logit bias, likewise", default="per_caption"
    )
    clip_projection: Literal["shared", "own"] = parameter(
        "projection of whole clips: that of frames, or one of its own", default="shared"
    )
    n_known: int = parameter("texts of the captions it was trained on", low=0, default=0)

    __post_init__ = ClapSettings.__post_init__


@dataclass(frozen=True, kw_only=True)
class MgaClapSettings(ClapSettings, CodebookConfig):
    """Arguments of `MGACLAP`."""

    dropout: float = parameter("dropout of the projections", low=0, high=1)
    floor: float | None = parameter("lowest affinity of a caption to a codeword", default=None)

    def __post_init__(self):
        if self.caption.pooling != "words":
            raise ValueError(f'MGA-CLAP needs caption.pooling "words", got {self.caption.pooling}')


def check(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same settings, their values of the types that the section says.

    Args:
        kind: One of the sections above.
        settings: By name; what has a default may be missing, and stays so.

    Raises:
        ParameterError: Naming every unknown name, missing name, wrong type and value out of range.
    """
    return _as_given(settings, plain(parse(kind, settings)))


def _as_given(given: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _as_given(value, checked[name]) if isinstance(value, Mapping) else checked[name]
        for name, value in given.items()
    }
