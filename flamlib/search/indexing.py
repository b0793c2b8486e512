"""Bring an index up to date with its files: embed what is new, forget what is gone."""

import errno
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from flamlib.compute import parallel
from flamlib.inference import bars, pieces
from flamlib.models import baselines, checkpoint
from flamlib.models.interface import AudioTextModel
from flamlib.search import archive, archive_part, coarse, codes, hashed
from flamlib.search.archive import About, File
from flamlib.search.archive_part import Stored
from flamlib.storage import files, one_writer
from flamlib.waveforms import audio, collection

PART_FRAMES = 2**17  # about ten hours; a longer recording is a part of its own
JOB_BYTES = 256 * 2**20  # of files that are embedded one after the other, an hour or so
JOB_FILES = 256
SAVE_S = 30.0  # after so long what is embedded is stored, though its part is to grow
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Summary(NamedTuple):
    """What a call did.

    Attributes:
        n_files: Files that are indexed now.
        n_embedded: Recordings that were embedded.
        n_forgotten: Files that are not indexed any more.
        skipped: Why a file cannot be used, by path.
        notes: What is not as it should be in files that were embedded, by path.
        freed: Bytes that became free.
    """

    n_files: int
    n_embedded: int
    n_forgotten: int
    skipped: dict[str, str]
    notes: dict[str, str]
    freed: int


def update(
    model: str | Path,
    recordings: Iterable[Path],
    out: str | Path,
    *,
    forget: Callable[[Path], bool] = lambda path: False,
    model_name: str = "",
    n_jobs: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Summary:
    """Bring an index up to date.

    Frames are stored by content. A file of the same size and time of change as before is taken for
    unchanged; every other is known by its SHA-256, and embedded if that is new.

    The next call goes on from where one was stopped. After an exception, KeyboardInterrupt among
    them, every recording that this process had embedded can be found at once, and those of other
    processes but for the last `SAVE_S` seconds. After a kill all but the last `SAVE_S` seconds are
    stored, and found when the next call is done.

    Args:
        model: Folder of a saved model that `baselines.load` reads.
        recordings: Files to be indexed, beside those that are.
        out: Folder of the index; made if there is none.
        forget: Whether a file that is indexed, and is not among `recordings`, is to be forgotten.
        model_name: What the model is called, so that it need not be named again.
        n_jobs: Processes on this machine.
        scheduler: Address or file of a dask scheduler whose workers do the work instead.
        progress: Whether to show progress bars.

    Raises:
        OSError: A file of the index cannot be written, as on a full disk.
        ValueError: The index is of another model, is damaged, or another process is writing to it.
    """
    model, out = Path(model).resolve(), Path(out)
    with one_writer.lock(out, "flam index"), hashed.kept(out) as (read, note):
        _check_model(model, out, model_name or str(model))
        before, given = archive.read_files(out), {str(path): path for path in recordings}
        kept = {p: f for p, f in before.items() if p in given or not forget(Path(p))}
        stored = _stored(out)
        found, skipped = _identify(given, before, read, note, n_jobs=n_jobs, progress=progress)
        kept = {path: f for path, f in kept.items() if path not in skipped} | found
        usable = {path: file for path, file in found.items() if path not in skipped}
        first_of = {file.sha256: path for path, file in reversed(sorted(usable.items()))}
        new = [first_of[sha256] for sha256 in first_of.keys() - stored]
        n_embedded, notes = 0, {}
        try:
            jobs = _jobs({path: found[path] for path in sorted(new)})
            sizes = [found[path].n_bytes for path in new]
            with bars.by_bytes("index", sizes, shown=progress) as bar:
                is_here = n_jobs == 1 and scheduler is None  # where each recording can be told
                tick = (lambda path: bar.update(found[path].n_bytes)) if is_here else None
                parts = (out / archive.PARTS).absolute()  # workers may be in other folders
                work = partial(_embed_all, model, parts, tick=tick)
                how = {"n_jobs": n_jobs, "scheduler": scheduler, "progress": False}
                for job, done in parallel.each(work, jobs, **how):
                    n_embedded += done["n_stored"]
                    skipped |= done["skipped"]
                    notes |= done["notes"]
                    bar.update(0 if is_here else sum(found[path].n_bytes for path in job["files"]))
        finally:  # whatever stopped it: what is embedded can be found
            stored = _stored(out)  # also by jobs that are not done
            kept = {path: file for path, file in kept.items() if file.sha256 in stored}
            archive.write_files(out, kept)
        for path, file in usable.items():  # copies of a file that cannot be used
            if (first := first_of[file.sha256]) in skipped:
                skipped[path] = skipped[first]
        freed = archive.drop_unused(out, {file.sha256 for file in kept.values()})
        coarse.update(out, list(archive.read_parts(out)))
    n_forgotten = len(before.keys() - kept.keys() - skipped.keys())
    return Summary(len(kept), n_embedded, n_forgotten, skipped, notes, freed)


def _stored(out: Path) -> set[str]:
    """The contents whose frames an index has."""
    return {r.sha256 for part in archive.read_parts(out) for r in part.recordings}


def _check_model(model: Path, out: Path, name: str) -> None:
    """Write what a new index is of. Raises ValueError for one of another model."""
    if about := archive.read_about(out):
        archive.check_model(out, about, model)
        return
    if (out / archive.PARTS).exists():
        raise ValueError(
            f"{out}: holds parts of an index, but nothing says of which model ({archive.ABOUT} is "
            "missing); choose another folder, or delete this one"
        )
    if (out / archive.RECORDINGS).exists():
        raise ValueError(
            f"{out}: no index, but its {archive.RECORDINGS} is of something else, as `flam detect` "
            "writes one; choose another folder"
        )
    opened, sha256 = _open(model), checkpoint.digest(model)
    dim = pieces.width(opened)
    about = About(format=1, model=sha256, model_name=name, frame_s=opened.frame_s, dim=dim)
    archive.write_about(out, about)


def _identify(
    given: Mapping[str, Path],
    before: Mapping[str, File],
    read: Mapping[str, File],
    note: hashed.Note,
    *,
    n_jobs: int,
    progress: bool,
) -> tuple[dict[str, File], dict[str, str]]:
    """Return the files as they are now, and why some cannot be read.

    One that is there, but cannot be read today, is also returned as it was. Those of `read` are
    known from a stopped call, those that are read now are noted.
    """
    found, skipped, unknown = {}, {}, []

    def skip(name: str, error: Exception) -> None:
        skipped[name] = audio.reason(error)
        if name in before and getattr(error, "errno", None) not in (None, *_GONE):
            found[name] = before[name]

    for name, path in given.items():
        try:
            if not collection.has_usable_name(path):
                raise OSError("its name is not in UTF-8, which tables hold: rename it")
            size = _stamp(path)  # first: from Python 3.14 on `is_file` hides why it cannot be read
            if not path.is_file():
                raise OSError("not a file")
        except FileNotFoundError:
            skip(name, OSError("no such file"))
            continue
        except (OSError, ValueError) as error:
            skip(name, error)
            continue
        for known in (before, read):
            if name in known and known[name][1:] == size:
                found[name] = known[name]
                break
        else:
            unknown.append(name)
    work = parallel.each(
        _hash, unknown, n_jobs=n_jobs, threads=True, progress=progress, what="read"
    )
    for name, file in work:
        if isinstance(file, File):
            found[name] = file
            note(name, file)
        else:
            skip(name, file)
    return found, skipped


def _hash(name: str) -> File | OSError:
    """What a file is; or why it cannot be read."""
    try:
        stamp = _stamp(Path(name))  # before it is read: what is changed later is read again
        return File(files.sha256(name), *stamp)
    except OSError as error:
        return error


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _jobs(new: Mapping[str, File]) -> list[dict[str, Any]]:
    """What is embedded by one process in one go: neighbours, of an hour of audio or so."""
    jobs: list[dict[str, Any]] = []
    room = 0
    for path, file in new.items():
        if not jobs or file.n_bytes > room or len(jobs[-1]["files"]) == JOB_FILES:
            jobs.append({"name": path, "files": {}})
            room = JOB_BYTES
        jobs[-1]["files"][path] = file.sha256
        room -= file.n_bytes
    return jobs


def _embed_all(
    model: Path, parts: Path, job: Mapping[str, Any], *, tick: Callable[[str], object] | None
) -> dict[str, Any]:
    """Write the frames of some files; return how many were stored, what was skipped and noted.

    `tick` is called with the path of each when it is done.
    """
    opened = _open(model)
    n_stored, skipped, notes = 0, {}, {}
    part = _Growing(parts)
    try:
        for path, sha256 in job["files"].items():
            try:
                frames, duration_s, told = embed(opened, path)
            except (audio.Unreadable, OSError, ValueError) as error:
                skipped[path] = audio.reason(error)
                continue
            finally:
                if tick is not None:
                    tick(path)
            if told:
                notes[path] = "; ".join(told)
            if part.n_frames + len(frames) > PART_FRAMES:
                part.save()
                part = _Growing(parts)
            part.add(Stored(sha256, duration_s, len(frames)), frames)
            n_stored += 1
    finally:  # whatever stopped it, the recordings before it are complete
        part.save()
    return {"n_stored": n_stored, "skipped": skipped, "notes": notes}


class _Growing:
    """A part of an index, as long as recordings are added to it.

    It is written now and then, so that a kill costs little, each time in the place of the one
    before: an index is to have few large parts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[tuple[Stored, Float[np.ndarray, "frame dim"]]] = []
        self._n_saved, self._path, self._saved_at = 0, None, time.monotonic()

    @property
    def n_frames(self) -> int:
        return sum(recording.n_frames for recording, _ in self._held)

    def add(self, recording: Stored, frames: Float[np.ndarray, "frame dim"]) -> None:
        self._held.append((recording, frames))  # in one step: a signal may come after any
        if time.monotonic() - self._saved_at >= SAVE_S:
            self.save()

    def save(self) -> None:
        if len(self._held) == self._n_saved:
            return
        recordings, blocks = zip(*self._held, strict=True)
        before = self._path
        self._path = archive_part.write(self._folder, recordings, codes.encode(blocks))
        self._n_saved, self._saved_at = len(recordings), time.monotonic()
        if before is not None:
            before.unlink(missing_ok=True)


def embed(
    model: AudioTextModel, path: str | Path
) -> tuple[Float[np.ndarray, "frame dim"], float, Sequence[str]]:
    """Return the frames of a recording in half precision, its duration in seconds, and notes.

    They are those that `detector.score` scores. Raises audio.Unreadable or ValueError for what
    cannot be heard.
    """
    notes: list[str] = []
    with pieces.cut(path, model, notes=notes) as opened:
        blocks = [
            piece.frame_emb[0].numpy(force=True).astype(np.float16)
            for piece in pieces.embed(model, opened)
        ]
    return np.concatenate(blocks), opened.duration_s, notes


@lru_cache(maxsize=1)
def _open(model: Path) -> AudioTextModel:
    return baselines.load(model)
