"""The command of `flam` that evaluates the score tables of any system: evaluate."""

import argparse
from pathlib import Path

from flamlib.cli import outputs
from flamlib.cli.arguments import add_smoothing, number, seconds, share, smoothing, whole
from flamlib.cli.aside import say, shows_progress
from flamlib.cli.errors import UsageError, printable
from flamlib.compute import memory
from flamlib.storage import files, number_files, tables

N_RESAMPLES = 1000
MAX_FPR = 0.1  # of the partial AUROC, as DCASE has it
MAX_CAPTIONS = 40  # in the printed table; the file has all of them


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam evaluate`."""
    evaluate.description = _evaluate.__doc__
    evaluate.set_defaults(run=_evaluate, extra="evaluate")
    add = evaluate.add_argument
    add(
        "scores",
        metavar="SCORES_DIR",
        nargs="+",
        help="folder of a system's score tables, <clip>.tsv with the columns onset, offset and one "
        "for each caption; several folders are compared with the first",
    )
    add(
        "--ground-truth",
        metavar="FILE",
        required=True,
        help="table with the columns filename, onset, offset, event_label",
    )
    add(
        "--durations",
        metavar="FILE",
        required=True,
        help="table with the columns filename, duration (in seconds): the clips to evaluate",
    )
    add(
        "-o",
        "--output",
        type=outputs.file,
        metavar="FILE",
        help="also write all numbers to this file, as JSON",
    )
    add(
        "--threshold",
        metavar="X",
        type=number,
        help="score from which a frame is detected, for F1 and false spans (default: of each "
        "system the one of the best frame-wise F1 on these clips, which is too optimistic)",
    )
    add_smoothing(evaluate, "scores are taken as they are")
    add(
        "--segment",
        metavar="S",
        type=seconds,
        default=1.0,
        help="length of a segment of segment F1 and partial AUROC, in seconds "
        "(default: %(default)s)",
    )
    add(
        "--collar",
        metavar="S",
        type=seconds,
        default=0.2,
        help="by how much the ends of an event may be off for event F1, in seconds "
        "(default: %(default)s)",
    )
    add(
        "--collar-rate",
        metavar="X",
        type=share,
        default=0.2,
        help="or its offset by this share of its length, if that is more (default: %(default)s)",
    )
    add(
        "--resamples",
        metavar="N",
        type=whole,
        default=N_RESAMPLES,
        help="draws of the 95 %% bootstrap intervals over clips; 0: no intervals "
        "(default: %(default)s)",
    )


def _evaluate(args: argparse.Namespace) -> None:
    """Evaluate systems by their scores: PSDS1 and PSDS2 over every threshold, F1 of segments and
    events, AUROC, mAP, recall against false spans, and moments, with intervals over clips. Prints a
    table."""
    if args.resamples < 0 or not args.segment:
        raise UsageError("--resamples must be 0 or more, --segment more than 0 s")
    names = _names(args.scores)
    for path in map(Path, (args.ground_truth, args.durations)):
        if path.is_file() and not tables.first_line(path):
            raise UsageError(f"{path}: the file is empty")
    if args.output is not None:
        files.check_file(args.output)

    memory.hand_back_freed()
    # Imported here: SciPy and scikit-learn take a second, and --help does not need them.
    from flamlib.evaluation import score_tables, systems
    from flamlib.metrics.sed import Criteria
    from flamlib.sound_events.smoothing import Smoothing

    reference = score_tables.read_reference(args.ground_truth, args.durations)
    say(*(f"{args.ground_truth}: {line}" for line in reference.notes.lines()))
    read = {}
    for name, folder in zip(names, args.scores, strict=True):
        read[name] = score_tables.read_system(folder, reference)
        say(*(f"{folder}: {line}" for line in read[name].notes.lines()))
    notes = {name: of.notes.of for name, of in read.items()}
    aligned = score_tables.align(read, reference)
    del read  # the tables, which may be large
    result = systems.evaluate(
        aligned,
        Criteria(
            args.segment, MAX_FPR, args.collar, args.collar_rate, smoothing(args, Smoothing())
        ),
        threshold=args.threshold,
        n_resamples=args.resamples,
        progress=shows_progress(),
    )
    for name, of_system in notes.items():
        result["systems"][name]["notes"] = of_system
    result["ground_truth"] = {"notes": reference.notes.of}
    if args.output is not None:
        number_files.write_metrics(args.output, result)
    any_system = next(iter(aligned.values()))
    n_events = sum(map(len, any_system.ground_truth))
    tell = outputs.teller(args.output)
    counts = {"clip": len(any_system.clips), "caption": len(any_system.captions), "event": n_events}
    tell(", ".join(outputs.counted(n, noun) for noun, n in counts.items()))
    tell(systems.format_table(result).removesuffix("\n"))
    if len(names) == 1 and len(any_system.captions) <= MAX_CAPTIONS:
        table = systems.format_captions(result["systems"][names[0]])
        tell("\n" + table.removesuffix("\n"))


def _names(folders: list[str]) -> list[str]:
    """Name systems by their folders: by the last part of the path where that tells them apart."""
    paths = [Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UsageError("a folder of scores is given twice")
    short = [path.name for path in paths]
    return [printable(name) for name in (short if len(set(short)) == len(short) else folders)]
