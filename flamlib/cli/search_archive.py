"""The commands of `flam` that make an index of an archive and ask it: index, search."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from flamlib.cli import outputs
from flamlib.cli.arguments import (
    add_model,
    add_workers,
    caption,
    count,
    model_folder,
    usage_errors,
    warnings_in_a_line,
    workers,
)
from flamlib.cli.aside import say, shows_progress
from flamlib.cli.errors import SOME_SKIPPED, UsageError
from flamlib.sound_events import event_tables
from flamlib.waveforms import collection


def add_index(index: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam index`."""
    index.description = _index.__doc__
    index.set_defaults(run=_index, extra="search", goes_on=True)
    add = index.add_argument
    add(
        "audio",
        nargs="*",
        metavar="AUDIO",
        help="recordings, folders of them, and patterns such as 'night/**/*.flac'",
    )
    add(
        "-o",
        "--out",
        type=outputs.folder,
        metavar="INDEX",
        required=True,
        help="folder of the index",
    )
    add(
        "--remove",
        action="append",
        default=[],
        metavar="PATH",
        help="forget this file, or all files of this folder; they are not touched",
    )
    add_model(index)
    add_workers(index, what="number of processes on this machine")


def add_search(search: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam search`."""
    search.description = _search.__doc__
    search.set_defaults(run=_search, extra="search")
    add = search.add_argument
    add("index", metavar="INDEX", help="folder of the index, from `flam index`")
    add(
        "captions",
        nargs="*",
        type=caption,
        metavar="TEXT",
        help='a sound to look for, such as "glass breaking"; one or several',
    )
    add(
        "--captions",
        metavar="FILE",
        dest="caption_file",
        help="sounds to look for, one a line; or a .tsv or .csv with a column caption and, if "
        "wanted, label",
    )
    add(
        "--like",
        action="append",
        default=[],
        metavar="FILE",
        help="look for what sounds like this recording; repeat the option for more",
    )
    add("-k", type=count, default=20, metavar="N", help="moments of each (default: %(default)s)")
    add(
        "--approximate",
        action="store_true",
        help="look at a hundredth of the frames alone, of those that may be the most like: for an "
        "archive of many hundred hours in memory; misses some moments, up to one in twenty",
    )
    add(
        "--model",
        metavar="MODEL",
        help="the model that the index was made with, if it is elsewhere now",
    )
    add(
        "--format",
        choices=event_tables.JOINT,
        help="of the moments (default: by the suffix of FILE, else tsv)",
    )
    add(
        "-o",
        "--output",
        type=outputs.file,
        metavar="FILE",
        help="file to write them to (default: print them)",
    )


def _index(args: argparse.Namespace) -> int:
    """Embed an archive once, to be asked with `flam search`. Called again it embeds what is new or
    changed, by content, and forgets files of AUDIO's folders that are gone. An interrupted call
    goes on. The exit code is 1 if a recording could not be used."""
    if not args.audio and not args.remove:
        raise UsageError("nothing to do: name recordings or folders of them, or --remove some")
    how = workers(args)
    model = model_folder(_model_name(args.out) if args.model is None else args.model)
    given = [os.path.realpath(text) if os.path.exists(text) else text for text in args.audio]
    with usage_errors(FileNotFoundError):
        recordings, closed = collection.gather(given)

    from flamlib.models.weights import Fetching
    from flamlib.search import indexing

    removed = _beneath([*args.remove, *map(os.path.realpath, args.remove)])
    is_given, is_closed = _beneath(given), _beneath(closed)
    is_gone, unseen = _beneath(text for text in given if not os.path.exists(text)), set()

    def forget(path: Path) -> bool:
        if not removed(path) and is_gone(path.parent):  # a disk that is not mounted, say
            unseen.add(path)
        return removed(path) or (is_given(path) and path not in unseen and not is_closed(path))

    with warnings_in_a_line((Fetching,)):
        done = indexing.update(
            model,
            [path for path in recordings.values() if not removed(path)],
            args.out,
            forget=forget,
            model_name=args.model or model.name,
            **how,
            progress=shows_progress(),
        )
    skipped = {**closed, **done.skipped}
    for path, why in skipped.items():
        say(f"skipped {path}: {why}")
    for path, note in done.notes.items():
        say(f"note on {path}: {note}")
    if unseen:
        kept = outputs.counted(len(unseen), "file")
        say(f"kept {kept} of folders that are not there; --remove forgets them")
    embedded = outputs.counted(done.n_embedded, "recording")
    parts = [outputs.counted(done.n_files, "file"), f"{embedded} embedded"]
    parts += [f"{done.n_forgotten} forgotten"] if done.n_forgotten else []
    parts += [f"{len(skipped)} skipped"] if skipped else []
    parts += [f"{done.freed:,} bytes freed"] if done.freed > 0 else []
    print(f"{args.out}: {', '.join(parts)}")
    return SOME_SKIPPED if skipped else 0


def _search(args: argparse.Namespace) -> None:
    """Find the moments of an archive where captions sound, or that sound like an example, the
    surest first. Writes a table with the columns filename, onset, offset (both in seconds),
    event_label and score."""
    if not args.captions and not args.caption_file and not args.like:
        raise UsageError(
            "what is looked for? A TEXT, --captions FILE with one a line, or --like FILE"
        )
    if args.approximate and args.like:
        raise UsageError("--like is asked of all frames: leave --approximate out")
    kind = args.format or event_tables.format_of(args.output, event_tables.JOINT)
    outputs.check_table(args.output, kind)

    from flamlib.inference import detector, questions
    from flamlib.models import baselines
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching
    from flamlib.search import archive, coarse, indexing, query
    from flamlib.waveforms import audio

    index = archive.read(args.index)
    where = coarse.read(index.folder, index.parts) if args.approximate else None
    model = model_folder(index.about.model_name if args.model is None else args.model)
    archive.check_model(index.folder, index.about, model)
    asked = [questions.Question(caption=text) for text in args.captions]
    if args.caption_file is not None:
        asked += questions.read_captions(args.caption_file)
    captions = [each.caption for each in asked]
    detector.check_unique(captions)
    hits: list[query.Hit] = []
    with usage_errors(audio.Unreadable), warnings_in_a_line((UnknownWords, Fetching)):
        loaded = baselines.load(model)
        if asked:
            found = query.by_text(index, loaded, captions, args.k, where=where)
            for each, of_caption in zip(asked, found.values(), strict=True):
                hits += [hit.called(each.label or each.caption) for hit in of_caption]
        for path in args.like:
            frames, _, notes = indexing.embed(loaded, path)
            for note in notes:
                say(f"note on {path}: {note}")
            hits += query.by_example(index, frames, collection.printable(Path(path).name), args.k)
    # The rate is of no use in these formats.
    found = [event_tables.Found(_shown(hit.path), [hit.detection], 0) for hit in hits]
    outputs.write_table(args.output, kind, found)
    if not index.paths:
        say(f"{args.index}: nothing is indexed there")
    for path in dict.fromkeys(hit.path for hit in hits if not hit.is_there):
        say(f"{path}: no longer there; `flam index` on its folder forgets it")


def _model_name(out: str) -> str | None:
    """The model of an index that is gone on with; None: the default."""
    from flamlib.search import archive

    about = archive.read_about(Path(out))
    return None if about is None else about.model_name


def _beneath(given: Iterable[str]) -> Callable[[Path], bool]:
    """Whether a path is one of these files, or of these folders."""
    places = {Path(os.path.abspath(text)) for text in given}
    return lambda path: not places.isdisjoint((path, *path.parents))


def _shown(path: Path) -> str:
    """A path from the current folder, if it is beneath that."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
