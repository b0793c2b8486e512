"""The thresholds of a saved model, one for each caption that validation knows: thresholds.json.

`flamlib.evaluation.thresholds` computes them. A caption of too few events in validation, and one
that validation does not know, has a common threshold by how well the model knows it from training:

    known * fallback + (1 - known) * novel,  known in [0, 1], see `familiarity`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from flamlib import texts
from flamlib.experiment.parameters import ParameterError, parameter, parse, plain
from flamlib.experiment.params.trials import MAX_HYSTERESIS, MAX_MEDIAN_FRAMES
from flamlib.models.checkpoint import THRESHOLDS, WEIGHTS, read_json, write_json
from flamlib.sound_events.smoothing import Smoothing
from flamlib.storage import files

FORMAT = 2  # of 1 there is no hysteresis


class Chosen(NamedTuple):
    """The threshold of a caption.

    Attributes:
        caption: The caption, as it was asked for.
        threshold: Lowest score of an active frame.
        is_own: Whether it is the caption's own, and not a common one.
        n_events: Number of the caption's events in validation, 0 for one that it does not know.
    """

    caption: str
    threshold: float
    is_own: bool
    n_events: int


@dataclass(frozen=True, kw_only=True)
class OwnThreshold:
    """What validation says of a caption."""

    threshold: float = parameter("lowest score of an active frame", low=0, high=1)
    n_events: int = parameter("events of the caption in validation", low=0)
    f1: float = parameter("F1 of its frames there, at the threshold", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class CaptionThresholds:
    """Content of a thresholds.json. Scores are smoothed before they are compared."""

    format: int = parameter("of the file; newer ones are refused", low=1, high=FORMAT)
    model: str = parameter("SHA-256 of the model.safetensors that they are of")
    method: Literal["unbiased", "biased", "approximate"] = parameter("kind of score")
    median_frames: int = parameter("frames of the median filter", low=1, high=MAX_MEDIAN_FRAMES)
    hysteresis: float = parameter(
        "of the scores", unit="nats", low=0, high=MAX_HYSTERESIS, default=0.0
    )
    criterion: str = parameter("how a threshold was chosen")
    min_events: int = parameter("events from which on a caption has its own", low=0)
    fallback: float = parameter("of other captions that were trained on", low=0, high=1)
    novel: float = parameter("of captions unlike all that were trained on", low=0, high=1)
    captions: dict[str, OwnThreshold] = parameter("by caption")

    @property
    def smoothing(self) -> Smoothing:
        """How the scores are smoothed that the thresholds are for."""
        return Smoothing(self.median_frames, self.hysteresis)

    def threshold_for(
        self, captions: Sequence[str], known: Sequence[float] | None = None
    ) -> list[Chosen]:
        """Return the threshold of each caption; spelling is compared as in `texts.key`.

        Args:
            captions: Any.
            known: How well each is known from training, 0 to 1; None: all are.
        """
        known = [1.0] * len(captions) if known is None else known
        return [self._chosen(*each) for each in zip(captions, known, strict=True)]

    def _chosen(self, caption: str, known: float) -> Chosen:
        own = self._by_key.get(texts.key(caption))
        if own is not None and own.n_events >= self.min_events:
            return Chosen(caption, own.threshold, True, own.n_events)
        common = known * self.fallback + (1 - known) * self.novel
        return Chosen(caption, common, False, own.n_events if own else 0)

    @cached_property
    def _by_key(self) -> dict[str, OwnThreshold]:
        return {texts.key(caption): own for caption, own in self.captions.items()}


def read(folder: str | Path) -> CaptionThresholds | None:
    """Read the thresholds beside a saved model, None if there are none.

    Raises ValueError, naming the file, for thresholds of another model or another layout.
    """
    path = Path(folder) / THRESHOLDS
    if not path.exists():
        return None
    found = _parse(path)
    if found.model != (sha256 := files.sha256(path.with_name(WEIGHTS))):
        raise ValueError(
            f"{path}: thresholds of another model ({found.model[:12]}…) than {WEIGHTS} beside it "
            f"({sha256[:12]}…): compute them for this one, or remove the file"
        )
    return found


def read_file(
    path: str | Path,
    weights: str | Path,
    *,
    method: str | None = None,
) -> CaptionThresholds:
    """Read thresholds that lie elsewhere than the model that they are of.

    Args:
        path: the thresholds.
        weights: the file of the model's weights.
        method: kind of the scores that they are wanted for; None: any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the file, for thresholds of another model, other scores or another
            layout.
    """
    found = _parse(Path(path))
    if method not in (None, found.method):
        raise ValueError(
            f"{path}: thresholds of {found.method} scores, not of {method} ones: choose them again "
            "with `flam thresholds`, or detect as they were chosen"
        )
    if found.model != files.sha256(weights):
        raise ValueError(
            f"{path}: thresholds of another model than {weights}: compute them again with "
            "`flam thresholds`, or pass the model that they are of with --model"
        )
    return found


def _parse(path: Path) -> CaptionThresholds:
    try:
        return parse(CaptionThresholds, read_json(path))
    except ParameterError as error:
        raise ValueError(f"{path}: {'; '.join(str(error).splitlines())}") from error


def write(folder: str | Path, thresholds: CaptionThresholds) -> None:
    """Write thresholds beside the saved model that they are of.

    Raises ValueError if the folder's model is another.
    """
    folder = Path(folder)
    if thresholds.model != files.sha256(folder / WEIGHTS):
        raise ValueError(f"{folder / WEIGHTS} is not the model that the thresholds are of")
    write_json(folder / THRESHOLDS, plain(thresholds))
