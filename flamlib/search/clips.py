"""Cut what was found out of recordings: a folder of clips for each caption.

    out/glass-breaking/0.9931_glass-breaking_0412_61.44s.wav
    out/segments.tsv      a row for each clip: its file, what it is cut from, and when
    out/skipped.tsv       what could not be cut, and why
    out/parameters.json   what decides on the clips

The name of a clip has the score, the caption, the recording, and when in it the sound begins. A
clip is mono, as a model hears it: the average of the channels, or the one that the find is of. It
has the recording's sample rate. It gets its name when it is
complete, so that a call that was stopped goes on with those that are missing; nothing in the folder
is ever removed or replaced.
"""

import hashlib
import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float

from flamlib import texts
from flamlib.search.finds import Find
from flamlib.sound_events import event_tables
from flamlib.storage import files, one_writer, tables
from flamlib.waveforms import audio

Pick = Literal["surest", "random", "balanced"]
PARAMETERS, TABLE, SKIPPED = "parameters.json", "segments.tsv", "skipped.tsv"
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
COLUMNS = ("clip", "filename", "onset", "offset", "event_label", "score", "clip_onset")
N_BINS = 10  # of scores
LONGEST = 60  # bytes of a caption, or of a recording's name, in the name of a clip


class Wanted(NamedTuple):
    """Which finds become clips.

    Attributes:
        n: How many of a caption at most; below 1 a share of them; infinity: all.
        pick: The surest; some at random; or as many from each tenth of the range that the caption's
            scores have.
        min_score: Less sure ones are left out; None: none are.
    """

    n: float
    pick: Pick
    min_score: float | None = None


class Cut(NamedTuple):
    """What a call did: how many clips were written, and kept, and why others could not be cut."""

    n_written: int
    n_kept: int
    skipped: list[tuple[Find, str]]


def choose(finds: Sequence[Find], wanted: Wanted) -> list[Find]:
    """Return the finds that are wanted, caption by caption, in the order in which they are picked.

    What is random depends on the finds alone: the same are picked again, and of more the same
    first.

    Raises:
        ValueError: Scores are needed to choose, and a find has none.
    """
    by_caption: dict[str, list[Find]] = defaultdict(list)
    spelled = texts.spellings(find.caption for find in finds)
    for find in finds:
        by_caption[spelled[find.caption]].append(find._replace(caption=spelled[find.caption]))
    chosen = []
    for caption, of_caption in sorted(by_caption.items()):
        if wanted.min_score is not None:
            _need_scores(of_caption, "a least score is asked for")
            of_caption = [find for find in of_caption if find.score >= wanted.min_score]
        n = math.ceil(wanted.n * len(of_caption)) if wanted.n < 1 else wanted.n
        if wanted.pick != "random" and n < len(of_caption):
            _need_scores(of_caption, f"{n:g} of {len(of_caption)} {caption!r} are to be chosen")
        ordered = _ORDERS[wanted.pick](of_caption)
        chosen += ordered[: None if math.isinf(n) else int(n)]
    return chosen


def write(
    finds: Sequence[Find],
    out: str | Path,
    path_of: Callable[[Find], Path | None],
    *,
    form: str = "wav",
    context_s: float = 0.0,
    progress: Callable[[int], None] = lambda n: None,
) -> Cut:
    """Write a clip of each find.

    Args:
        finds: What to cut.
        out: The folder; made if it is not there. One of the same finds is gone on with.
        path_of: Returns the recording of a find; None if it is not there.
        form: A key of `FORMATS`.
        context_s: Seconds before and after it that the clip has, too, where the recording has them.
        progress: Is called with the number of finds that are done.

    Raises:
        ValueError: The folder holds clips of other finds or of another form, or another process is
            writing there.
        OSError: It cannot be written to.
    """
    out = Path(out)
    with one_writer.lock(out, "flam segments"):
        _same_parameters(out / PARAMETERS, _parameters(finds, form, context_s))
        named, why, n_kept = list(_named(finds, form)), {}, 0
        with closing(_Recordings()) as recordings:
            for n, i in enumerate(_as_they_lie(named), start=1):
                find, name = named[i]
                begin, end = max(0.0, find.onset - context_s), find.offset + context_s
                try:
                    if (out / name).exists():
                        n_kept += 1
                    else:
                        cut = recordings.cut(find, path_of(find), begin, end)
                        _write(out / name, *cut, form)
                except audio.Unreadable as error:
                    why[i] = error.why
                progress(n)
        rows = [_row(*of, context_s) for i, of in enumerate(named) if i not in why]
        skipped = [(find, why[i]) for i, (find, _) in enumerate(named) if i in why]
        tables.write(out / TABLE, [COLUMNS, *rows])
        lost = [(find.recording, f"{find.onset:.6f}", find.caption, why) for find, why in skipped]
        if lost:
            lost = [[*map(event_tables.on_one_line, row)] for row in lost]
            tables.write(out / SKIPPED, [("filename", "onset", "event_label", "why"), *lost])
        else:
            (out / SKIPPED).unlink(missing_ok=True)
        return Cut(len(rows) - n_kept, n_kept, skipped)


def _surest(finds: Sequence[Find]) -> list[Find]:
    """The surest first; of equally sure ones in the order of what they are of."""
    return sorted(finds, key=lambda f: (-math.inf if f.score is None else -f.score, *_what(f)))


def _random(finds: Sequence[Find]) -> list[Find]:
    return sorted(finds, key=lambda find: hashlib.sha256(repr(_what(find)).encode()).digest())


def _balanced(finds: Sequence[Find]) -> list[Find]:
    """One at random of each tenth of the scores' range, from the surest down, again and again."""
    scores = [find.score or 0.0 for find in finds]
    lowest, width = min(scores, default=0.0), (max(scores, default=0.0) - min(scores, default=0.0))
    tenths: dict[int, list[Find]] = defaultdict(list)
    for find in _random(finds):
        place = ((find.score or 0.0) - lowest) / width if width else 0.0
        tenths[min(int(N_BINS * place), N_BINS - 1)].append(find)
    turns = ((turn, -tenth, find) for tenth, of in tenths.items() for turn, find in enumerate(of))
    return [find for _, _, find in sorted(turns, key=lambda each: each[:2])]


def _what(find: Find) -> tuple[str, float, float, str]:
    """What a find is of, wherever its recording lies."""
    return Path(find.recording).name, find.onset, find.offset, find.caption


def _need_scores(finds: Sequence[Find], why: str) -> None:
    for find in finds:
        if find.score is None:
            raise ValueError(f"{find.where}: has no score, and {why}; take all, or some at random")


def _named(finds: Sequence[Find], form: str) -> Iterator[tuple[Find, str]]:
    """Yield each find and the path of its clip in the folder; no two are the same."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for find in finds:
        if find.caption not in folders:
            folders[find.caption] = _free(_slug(find.caption), taken)
        caption = folders[find.caption]
        score = "" if find.score is None else f"{find.score:.4f}_"
        recording = _slug(Path(find.recording).stem)
        name = f"{caption}/{score}{caption}_{recording}_{find.onset:.2f}s"
        yield find, f"{_free(name, taken)}.{form}"


def _slug(text: str) -> str:
    """A text as part of a file's name: letters and digits of any script, others as `-`.

    >>> _slug("A dog barks; far away!")
    'A-dog-barks-far-away'
    """
    name = re.sub(r"[^\w.]+", "-", texts.composed(text)).strip("-.")
    return name.encode()[:LONGEST].decode(errors="ignore") or "-"


def _free(name: str, taken: set[str]) -> str:
    """Take a name, with a number behind it if another has it, in whatever case."""
    free, n = name, 1
    while free.casefold() in taken:
        n += 1
        free = f"{name}-{n}"
    taken.add(free.casefold())
    return free


def _as_they_lie(named: Sequence[tuple[Find, str]]) -> list[int]:
    """The finds by recording, channel and time."""
    finds = [find for find, _ in named]
    return sorted(
        range(len(finds)),
        key=lambda i: (finds[i].recording, finds[i].channel or 0, finds[i].onset),
    )


def _row(find: Find, name: str, context_s: float) -> list[str]:
    score = "" if find.score is None else f"{find.score:.4f}"
    begin = max(0.0, find.onset - context_s)
    onset, offset, begin = (f"{at:.6f}" for at in (find.onset, find.offset, begin))
    row = name, find.recording, onset, offset, texts.normal(find.caption), score, begin
    return [*map(event_tables.on_one_line, row)]


class _Recordings:
    """Recordings that are opened once for finds that come as they lie in them.

    To open a FLAC or an MP3 all of it is looked through, and to go to a place in an MP3 all before
    that is decoded: for each find anew that would be hours for a recording of a day.
    """

    def __init__(self) -> None:
        self._place: tuple[Path, int | None] | None = None
        self._opened: audio.Recording | audio.Unreadable | None = None

    def cut(
        self, find: Find, path: Path | None, begin_s: float, end_s: float
    ) -> tuple[Float[np.ndarray, "sample"], int]:
        """Return mono samples and their rate. Raises Unreadable if there is no sound."""
        if path is None:
            raise audio.Unreadable(find.recording, "no such recording")
        if (path, find.channel) != self._place:
            self.close()
            self._place = path, find.channel
            try:
                self._opened = audio.Recording(path, channel=find.channel)
            except audio.Unreadable as error:
                self._opened = error
        if isinstance(self._opened, audio.Unreadable):
            raise self._opened
        try:
            return self._opened.cut(begin_s, end_s), self._opened.sample_rate
        except audio.Unreadable:
            self.close()  # where a decoder stands after that is not known
            raise

    def close(self) -> None:
        if isinstance(self._opened, audio.Recording):
            self._opened.close()
        self._place = self._opened = None


def _write(place: Path, waveform: Float[np.ndarray, "sample"], rate: int, form: str) -> None:
    """Write a clip, whole or not at all. Raises Unreadable if the format has no such rate."""
    content = io.BytesIO()
    try:
        soundfile.write(content, waveform.clip(-1, 1), rate, FORMATS[form], format=form.upper())
    except soundfile.LibsndfileError as error:
        raise audio.Unreadable(place, f"{rate} Hz as {form}: {error.error_string}") from error
    files.make_folder(place.parent)
    files.atomic_write(place, content.getvalue())


def _parameters(finds: Sequence[Find], form: str, context_s: float) -> dict[str, str | float]:
    of_finds = [(*_what(find), find.score, *filter(None, [find.channel])) for find in finds]
    digest = hashlib.sha256(repr(of_finds).encode()).hexdigest()
    return {"finds": digest, "n_finds": len(finds), "format": form, "context_s": context_s}


def _same_parameters(path: Path, parameters: Mapping[str, str | float]) -> None:
    """Write what decides on the clips; raise ValueError if the folder has those of another call."""
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != parameters:
            raise ValueError(
                f"{path.parent}: holds clips of other finds, or cut in another way; name another "
                "folder, or give the finds and options that it was made with"
            )
    files.atomic_write(path, json.dumps(dict(parameters), indent=2) + "\n")


_ORDERS = {"surest": _surest, "random": _random, "balanced": _balanced}
