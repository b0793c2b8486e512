"""The command of `flam` that cuts finds out of recordings: segments."""

import argparse
import os
from pathlib import Path

from tqdm import tqdm

from flamlib import texts
from flamlib.cli import outputs, pipes
from flamlib.cli.arguments import count, seconds, share
from flamlib.cli.aside import say, shows_progress
from flamlib.cli.errors import SOME_SKIPPED, UsageError

FORMATS = ("wav", "flac", "ogg", "mp3")
_MOST_SHOWN = 20


def add_segments(segments: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam segments`."""
    segments.description = _segments.__doc__
    segments.set_defaults(run=_segments, extra="serve", goes_on=True)
    add = segments.add_argument
    add(
        "finds",
        nargs="+",
        metavar="FINDS",
        help="a folder of `flam detect -o`; a table of flam detect or flam search; a label file of "
        "Audacity, Raven, BirdNET, JAMS or DCASE, or a folder of them; - for a table from standard "
        "input",
    )
    add(
        "-o",
        "--out",
        type=outputs.folder,
        metavar="FOLDER",
        required=True,
        help="folder of the clips; other finds, another -n or another option need another folder",
    )
    add(
        "--audio",
        metavar="FOLDER",
        help="where the recordings are that tables name (default: here, or beside the table)",
    )
    add(
        "-n",
        type=_how_many,
        default=100.0,
        metavar="N|P%|all",
        help="clips of each caption at most; or a share of its finds, such as 20%%; or all "
        "(default: 100)",
    )
    add(
        "--pick",
        choices=("surest", "random", "balanced"),
        default="surest",
        help="which of them: the surest; some at random; or as many of each tenth of the range of "
        "the caption's scores (default: %(default)s)",
    )
    add("--min-score", type=share, metavar="X", help="leave out what is less sure")
    add(
        "--join",
        type=seconds,
        metavar="S",
        help="make one of those of a caption that are at most S seconds apart",
    )
    add(
        "--context",
        type=seconds,
        default=0.0,
        metavar="S",
        help="seconds before and after, where the recording has them (default: none)",
    )
    add("--format", choices=FORMATS, default="wav", help="of the clips (default: %(default)s)")


def _segments(args: argparse.Namespace) -> int:
    """Cut what was found in recordings out as clips, a folder for each caption. The name of a clip
    has its score, its caption, its recording and when it begins there; segments.tsv lists all. An
    interrupted call goes on; no clip is ever replaced. The exit code is 1 if some could not be
    cut."""
    if args.audio is not None and not Path(args.audio).is_dir():
        raise UsageError(f"{args.audio}: no such folder; --audio is where the recordings are")

    from flamlib.search import clips, finds
    from flamlib.sound_events import labels

    recordings, once, file_of, name_of = finds.Recordings(args.audio), {}, {}, {}
    for given in dict.fromkeys(args.finds):
        with pipes.on_disk(given) as path:
            for find in finds.read(path):
                at = recordings.find(find.recording, find.table)
                named = find.recording or labels.stem(find.table)
                # Another table may say the same, as of BirdNET's that of each recording and of all,
                # and call the recording otherwise.
                where = named if at is None else os.path.abspath(at)
                name = name_of.setdefault(where, named if at is None else str(at))
                find = find._replace(recording=name)
                file_of[name] = at
                times = round(find.onset, 3), round(find.offset, 3)
                what = (where, find.channel, *times, texts.key(find.caption))
                if once.setdefault(what, find).score is None:
                    once[what] = find
    found = list(once.values())
    if args.join is not None:
        found = finds.join(found, args.join)
    chosen = clips.choose(found, clips.Wanted(args.n, args.pick, args.min_score))
    if not chosen:
        of_these = ", and none of them is asked for" if found else f" in {', '.join(args.finds)}"
        raise UsageError(f"nothing to cut: {outputs.counted(len(found), 'find')}{of_these}")
    with tqdm(total=len(chosen), desc="segments", disable=not shows_progress()) as bar:
        done = clips.write(
            chosen,
            args.out,
            lambda find: file_of[find.recording],
            form=args.format,
            context_s=args.context,
            progress=lambda n: bar.update(n - bar.n),
        )
    for find, why in done.skipped[:_MOST_SHOWN]:
        say(f"skipped {find.recording}, {find.onset:.2f} s, {find.caption}: {why}")
    if (n_more := len(done.skipped) - _MOST_SHOWN) > 0:
        say(f"and {n_more} more, in {Path(args.out) / clips.SKIPPED}")
    if args.audio is None and any(file_of[find.recording] is None for find, _ in done.skipped):
        say("recordings were looked for here and beside the table; --audio names their folder")
    kept = f", {done.n_kept} as they were" if done.n_kept else ""
    skipped = f", {len(done.skipped)} skipped" if done.skipped else ""
    written = outputs.counted(done.n_written, "clip")
    of_captions = outputs.counted(len({find.caption for find in chosen}), "caption")
    print(f"{args.out}: {written} of {of_captions}{kept}{skipped}")
    return SOME_SKIPPED if done.skipped else 0


def _how_many(text: str) -> float:
    """Parse a number of clips, a share of finds below 1, or all."""
    if text == "all":
        return float("inf")
    if not text.endswith("%"):
        return float(count(text))
    try:
        percent = texts.number(text[:-1])
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a share above 0 and up to 100%")
    return float("inf") if percent == 100 else percent / 100
