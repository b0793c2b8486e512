"""Widgets of a notebook around `review`: ask captions of a recording, and correct what is found.

What is to be decided is decided in `review`; here is what is shown. Pictures and sounds are made
when they are looked at, so that a notebook that is saved with its widgets stays small: it holds two
pictures and one sound, however long the recording.
"""

import html
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
from matplotlib.figure import Figure

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector
from flamlib.inference.review import Review
from flamlib.models.interface import AudioTextModel
from flamlib.models.text_tower import UnknownWords
from flamlib.plots import player, spectrograms
from flamlib.sound_events.detection import Detection
from flamlib.waveforms import audio, collection

DPI = 130
MAX_SHOWN = 500  # events in the list; of more, the surest
VIEWS = {"10 s": 10.0, "30 s": 30.0, "60 s": 60.0, "5 min": 300.0}
_TOLD = (UnknownWords, audio.Repaired)  # warnings of what is heard or asked
_WIDE, _FITTING = {"width": "99%"}, {"width": "auto", "flex": "0 0 auto"}


class Explorer:
    """The widgets of one recording at a time; `box` is what a notebook shows.

    Attributes:
        review: what they show; None before a recording could be opened.
        box: all widgets.
    """

    def __init__(
        self,
        model: AudioTextModel,
        recording: str | Path,
        captions: list[str],
        config: DetectConfig,
        *,
        labels: str | Path,
    ) -> None:
        """Make the widgets and open a recording.

        Args:
            model: any model that `baselines.load` returns.
            recording: the first file; those of its folder are offered, too.
            captions: asked first.
            config: method, filter, minimum duration and gap of detection.
            labels: folder where labels are saved by default.
        """
        self._model, self._config, self._labels = model, config, Path(labels)
        self.review: Review | None = None
        self._selected: Detection | None = None
        self._listed: list[Detection] = []
        self._make(Path(recording), captions)
        self._open()

    def _make(self, recording: Path, captions: list[str]) -> None:
        beside = sorted(p for p in recording.parent.iterdir() if collection.is_named_as_audio(p))
        self.file = widgets.Combobox(
            value=str(recording), options=[str(path) for path in beside], description="file",
            placeholder="a path; what is beside the first recording is offered",
            continuous_update=False, layout=_WIDE,
        )  # fmt: skip
        self.captions = widgets.Textarea(
            value="\n".join(captions), placeholder="one caption a line", description="captions",
            continuous_update=False, layout={**_WIDE, "height": "110px"},
        )  # fmt: skip
        self.find = widgets.Button(description="Find", button_style="primary", icon="search")
        self.message = widgets.HTML()
        self.sliders = widgets.VBox(layout={"max_height": "220px", "overflow": "auto"})
        self.overview, self.near = (widgets.Image(format="webp", layout=_WIDE) for _ in range(2))
        self.length = widgets.Dropdown(options=VIEWS, value=30.0, description="show")
        self.start = widgets.FloatSlider(
            description="from (s)", step=1.0, continuous_update=False, layout=_WIDE
        )
        self.events = widgets.Select(rows=8, description="events", layout=_WIDE)
        self.sound = widgets.Audio(format="mp3", autoplay=False, controls=True)
        self.onset, self.offset = (
            widgets.FloatText(description=name, step=0.01) for name in ("onset (s)", "offset (s)")
        )
        self.caption = widgets.Dropdown(description="caption")
        self.path = widgets.Text(description="labels", layout=_WIDE, continuous_update=False)
        buttons = {
            "move": ("Move", "arrows-alt-h", self._move),
            "add": ("Add", "plus", self._add),
            "delete": ("Delete", "trash", self._delete),
            "reset": ("Undo corrections of caption", "undo", self._reset),
            "save": ("Save labels", "save", self._save),
        }
        self.buttons = {}
        for name, (text, icon, act) in buttons.items():
            button = widgets.Button(description=text, icon=icon, layout=_FITTING)
            button.on_click(lambda _, act=act: self._try(act))
            self.buttons[name] = button
        self.find.on_click(lambda _: self._try(self._ask))
        self.file.observe(lambda _: self._open(), "value")
        self.captions.observe(lambda _: self._try(self._ask), "value")
        self.events.observe(self._select, "index")
        self.start.observe(lambda _: self._draw_near(), "value")
        self.length.observe(lambda _: self._set_length(), "value")
        b = self.buttons
        self.box = widgets.VBox(
            [
                self.file,
                self.captions,
                widgets.HBox([self.find, self.message]),
                self.sliders,
                self.overview,
                widgets.HBox([self.length, self.start]),
                self.near,
                self.events,
                self.sound,
                widgets.HBox([self.onset, self.offset, self.caption]),
                widgets.HBox([b["move"], b["add"], b["delete"], b["reset"]]),
                widgets.HBox([self.path, b["save"]]),
            ]
        )

    def _open(self) -> None:
        """Embed the recording that is named, and ask the captions."""
        if self.review is not None and self.file.value == str(self.review.recording):
            return
        self._say("listening …")

        def act() -> None:
            if not (named := self.file.value.strip()):
                raise ValueError("no recording is named")
            review = Review(self._model, Path(named).expanduser(), self._config)
            self.review, self._selected = review, None
            self.path.value = str(self._labels / f"{review.recording.stem}.tsv")
            self._set_length()
            self._ask()

        self._try(act)
        if self.review is not None:  # what is named is what is shown, also if another cannot be
            self.file.value = str(self.review.recording)

    def _ask(self) -> None:
        if self.review is None:
            raise ValueError("choose a recording first")
        asked = [line for line in self.captions.value.splitlines() if line.strip()]
        self.review.ask(asked)
        self.sliders.children = [self._slider(caption) for caption in self.review.captions]
        self.caption.options = self.review.captions
        if self.review.captions:
            self.caption.index = 0
        self._refresh()

    def _slider(self, caption: str) -> widgets.FloatSlider:
        slider = widgets.FloatSlider(
            value=self.review.threshold(caption), min=0.0, max=1.0, step=0.01, description=caption,
            readout_format=".2f", continuous_update=False, layout=_WIDE,
            style={"description_width": "220px"}, disabled=self.review.is_corrected(caption),
        )  # fmt: skip

        def moved(change: dict) -> None:
            self.review.set_threshold(caption, change["new"])
            self._refresh()

        slider.observe(moved, "value")
        return slider

    def _refresh(self) -> None:
        """Show what the review holds now."""
        found = self.review.events()
        self._listed = sorted(sorted(found, key=lambda e: -e.score)[:MAX_SHOWN])
        for slider in self.sliders.children:
            slider.disabled = self.review.is_corrected(slider.description)
        selected = self._selected if self._selected in self._listed else None
        self.events.unobserve(self._select, "index")
        self.events.options = [_line(event) for event in self._listed]
        self.events.index = self._listed.index(selected) if selected else None
        self.events.observe(self._select, "index")
        if selected is None:
            self._selected, self.sound.value = None, b""
        more = f", the {MAX_SHOWN} surest are listed" if len(found) > MAX_SHOWN else ""
        seconds = self.review.duration_s
        length = f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
        if self.review.captions:
            self._say(f"{_count(len(found), 'event')} in {length}{more}")
        else:
            self._say("type what you want to find, one caption a line")
        self._draw_overview()
        self._draw_near()

    def _draw_overview(self) -> None:
        scores, start = self.review.scores(), self.start.value
        if self.review.duration_s <= self.length.value:
            self.overview.value, self.overview.layout.display = b"", "none"
            return
        self.overview.layout.display = ""
        # Of a long recording boxes would hide the scores.
        figure = spectrograms.score_map(*scores, events=[], view=(start, start + self.length.value))
        self.overview.value = _picture(figure)

    def _draw_near(self) -> None:
        if self.review is None:
            return
        stop_s = min(self.start.value + self.length.value, self.review.duration_s)
        near = detector.excerpt(self.review.scores(), self.start.value, stop_s)
        sound = audio.read(
            self.review.recording,
            start_s=float(near.frame_edges[0]),
            stop_s=float(near.frame_edges[-1]),
        )
        figure = spectrograms.score_map(
            *near, events=self._listed, selected=self._selected, sound=sound
        )
        self.near.value = _picture(figure)

    def _set_length(self) -> None:
        """Let the view move as far as the recording goes."""
        if self.review is not None:
            self.start.max = max(0.0, self.review.duration_s - self.length.value)
            self.start.disabled = self.start.max == 0
            if self.review.captions:
                self._draw_overview()
                self._draw_near()

    def _select(self, change: dict) -> None:
        """Show and play the event that is selected in the list."""
        if change["new"] is None:
            return
        self._selected = event = self._listed[change["new"]]
        self.onset.value, self.offset.value = round(event.onset, 3), round(event.offset, 3)
        self.caption.value = event.caption
        self._try(self._play)
        middle = (event.onset + event.offset - self.length.value) / 2
        start = min(max(0.0, middle), self.start.max)
        if abs(start - self.start.value) < self.length.value / 4:
            self._draw_near()
        else:
            self.start.value = start  # which draws
            self._draw_overview()

    def _play(self) -> None:
        self.sound.value = player.mp3(*self.review.listen(self._selected))

    def _move(self) -> None:
        if self._selected is None:
            raise ValueError("select an event first")
        self._selected = self.review.move(self._selected, self.onset.value, self.offset.value)
        self._play()
        self._refresh()

    def _add(self) -> None:
        if self.caption.value is None:
            raise ValueError("ask a caption first")
        self._selected = self.review.add(self.caption.value, self.onset.value, self.offset.value)
        self._play()
        self._refresh()

    def _delete(self) -> None:
        if self._selected is None:
            raise ValueError("select an event first")
        self.review.delete(self._selected)
        self._refresh()

    def _reset(self) -> None:
        if self.caption.value is not None:
            self.review.reset(self.caption.value)
            self._refresh()

    def _save(self) -> None:
        if self.review is None:
            raise ValueError("choose a recording first")
        n = self.review.save(self.path.value)
        self._say(f"{_count(n, 'label')} saved in {self.path.value}")

    def _try(self, act: Callable[[], None]) -> None:
        """Do what a widget asks for; what is wrong with it is said beside the button, and what the
        model or a decoder warns of."""
        with warnings.catch_warnings(record=True) as warned:
            for kind in _TOLD:
                warnings.simplefilter("always", kind)
            try:
                act()
            except (audio.Unreadable, ValueError, OSError) as error:
                self._say(str(error), "#b00020")
        told = [each for each in warned if issubclass(each.category, _TOLD)]
        notes = dict.fromkeys(str(each.message) for each in told)
        self.message.value += "".join(f"; {html.escape(note)}" for note in notes)
        for each in warned:
            if each not in told:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)

    def _say(self, text: str, colour: str = "inherit") -> None:
        self.message.value = f'<span style="color:{colour}">{html.escape(text)}</span>'


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _line(event: Detection) -> str:
    onset, offset = (f"{s // 60:.0f}:{s % 60:05.2f}" for s in (event.onset, event.offset))
    return f"{onset}–{offset}   {event.caption}   {event.score:.2f}"


def _picture(figure: Figure) -> bytes:
    """Render a figure as WebP, a fifth of a PNG of the same spectrogram."""
    content = io.BytesIO()
    figure.savefig(content, format="webp", dpi=DPI, pil_kwargs={"quality": 85})
    return content.getvalue()
