"""What is asked of recordings: captions, each with its threshold, and how scores become events.

All of it is a file that is written beside the results and can be used again (`read`, `write`).
"""

import codecs
import json
from dataclasses import dataclass
from pathlib import Path

from flamlib import texts
from flamlib.experiment.parameters import ParameterError, parameter, parse, plain
from flamlib.experiment.params.trials import MAX_HYSTERESIS, MAX_MEDIAN_FRAMES, DetectConfig
from flamlib.inference import detector
from flamlib.inference.detector import Scores
from flamlib.models.interface import Method
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.smoothing import Smoothing
from flamlib.storage import files, tables

FORMAT = 1
COLUMNS = ("label", "threshold", "off_threshold", "min_duration")  # beside the caption; optional


@dataclass(frozen=True, kw_only=True)
class Question:
    """A caption and what is special about it; None: as for all captions."""

    caption: str = parameter("what is asked for")
    label: str | None = parameter("what its events are called", default=None)
    threshold: float | None = parameter("lowest score of an event", low=0, high=1, default=None)
    off_threshold: float | None = parameter(
        "lowest score of the other frames of an event", low=0, high=1, default=None
    )
    min_duration_s: float | None = parameter(
        "shorter events are dropped", unit="s", low=0, default=None
    )


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of recordings."""

    format: int = parameter("of the file; newer ones are refused", low=1, high=FORMAT)
    model: str = parameter("SHA-256 of the model.safetensors that it was asked of")
    adapter: str | None = parameter("SHA-256 of the weights of its adapter", default=None)
    captions: list[Question] = parameter("with the thresholds that were used")
    method: Method = parameter("kind of score", default=DetectConfig.method)
    median_frames: int = parameter(
        "frames of the median filter; odd", low=1, high=MAX_MEDIAN_FRAMES,
        default=DetectConfig.median_frames,
    )  # fmt: skip
    hysteresis: float = parameter(
        "of the scores, after that filter", unit="nats", low=0, high=MAX_HYSTERESIS, default=0.0
    )
    merge_gap_s: float = parameter(
        "shorter gaps between events are closed", unit="s", low=0, default=DetectConfig.merge_gap_s
    )
    top: int | None = parameter("events of each caption, at most", low=1, default=None)
    channel: int | None = parameter(
        "the only one that is heard, from 1; null: their average", low=1, default=None
    )

    def __post_init__(self):
        if self.median_frames % 2 == 0:
            raise ValueError(f"median_frames = {self.median_frames}: expected an odd number")
        if not self.captions:
            raise ValueError("captions = []: expected at least one")

    @property
    def smoothing(self) -> Smoothing:
        """How scores are smoothed."""
        return Smoothing(self.median_frames, self.hysteresis)

    @property
    def texts(self) -> list[str]:
        """The captions alone."""
        return [each.caption for each in self.captions]

    def events(self, scores: Scores) -> list[Detection]:
        """Turn the scores of these captions into events, under their labels."""
        found = detector.events(
            scores,
            threshold=[each.threshold for each in self.captions],
            off_threshold=[
                each.threshold if each.off_threshold is None else each.off_threshold
                for each in self.captions
            ],
            min_duration_s=[each.min_duration_s or 0.0 for each in self.captions],
            merge_gap_s=self.merge_gap_s,
            top=self.top,
        )
        labels = {
            caption: each.label or caption
            for caption, each in zip(scores.captions, self.captions, strict=True)
        }
        return sorted(event._replace(caption=labels[event.caption]) for event in found)


def read(path: str | Path) -> Questions:
    """Read what `write` wrote.

    Raises FileNotFoundError, and ValueError naming the file and what is wrong in it.
    """
    path = Path(path)
    try:
        found = parse(Questions, json.loads(path.read_text(encoding="utf-8")))
    except (ParameterError, AttributeError, TypeError, ValueError) as error:
        why = "; ".join(str(error).splitlines())
        raise ValueError(f"{path}: not parameters of flam detect ({why})") from error
    if missing := [each.caption for each in found.captions if each.threshold is None]:
        raise ValueError(f"{path}: {missing[0]!r} has no threshold")
    return found


def write(path: str | Path, questions: Questions) -> None:
    """Write what was asked, with every threshold."""
    files.atomic_write(path, to_text(questions))


def to_text(questions: Questions) -> str:
    """Return what `write` writes."""
    return json.dumps(plain(questions), indent=2, ensure_ascii=False) + "\n"


def read_captions(path: str | Path) -> list[Question]:
    """Read captions from a text, one a line, or from a table with a column `caption`.

        caption      label  threshold  off_threshold  min_duration
        a dog barks  dog    0.8                       0.5

    A .tsv or .csv is a table; its other columns are optional, as are their values. Blank lines do
    not count.

    Raises FileNotFoundError, and ValueError naming the file, and the line where there is one, for
    another encoding or columns, numbers out of range, a caption that stands twice, or no caption.
    """
    path = Path(path)
    if path.suffix.lower() in (".tsv", ".csv"):
        rows = tables.read(
            path, ("caption",), optional=COLUMNS, filled=("caption",), short_rows=True
        )
        found = [_question(row) for row in rows]
    else:
        lines = [texts.normal(line) for line in _text(path).splitlines()]
        found = [Question(caption=line) for line in lines if line]
    if not found:
        raise ValueError(f"{path}: no caption in it")
    detector.check_unique([each.caption for each in found], where=f"{path}: ")
    return found


def _text(path: Path) -> str:
    content = path.read_bytes()  # once: of a pipe there is no second time
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        what = "UTF-16 text" if is_utf16 else f"not UTF-8 text ({error})"
        raise ValueError(f"{path}: {what}: save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{path}: holds zero bytes, as UTF-16 text does: save it as UTF-8")
    return text


def _question(row: tables.Row) -> Question:
    def number(column: str) -> float | None:
        return row.number(column) if row.fields.get(column, "").strip() else None

    values = {
        "caption": texts.normal(row["caption"]),
        "label": texts.normal(row.fields.get("label", "")) or None,
        "threshold": number("threshold"),
        "off_threshold": number("off_threshold"),
        "min_duration_s": number("min_duration"),
    }
    try:
        return parse(Question, values)
    except ParameterError as error:
        raise ValueError(f"{row.where}: {error}") from error
