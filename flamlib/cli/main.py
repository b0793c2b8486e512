"""flam: find the events in a recording that a caption describes.

    flam detect AUDIO -c CAPTION [-c CAPTION …] [--model MODEL] [-o FILE] …

writes a table `filename onset offset event_label score`, times in seconds, or an Audacity label
track.

    flam models [--get NAME]

lists the models that are at hand, and fetches one of others that is asked for.

    flam embed AUDIO_FOLDER OUT [--model MODEL] [--jobs 8 | --scheduler ADDRESS]

writes embeddings of a collection of recordings, to be searched with `datasets`.

    flam export MODEL OUT

writes a model as ONNX and prints how far onnxruntime is from torch.

    flam import-openflam CKPT OUT --tokenizer FOLDER_OR_HUB_ID
    flam import-clap FOLDER_OR_HUB_ID OUT
    flam import-baseline CKPT OUT --tokenizer FOLDER_OR_HUB_ID
    flam import-htsat CKPT OUT

convert published checkpoints to models; the last one to an audio tower to train from.

    flam mix FOLDER -n 1000000 [--form webdataset] [--jobs 8 | --scheduler ADDRESS] …

renders the project's mixtures to files for any data loader.

    flam caption TABLE -o sounds.tsv [--url http://localhost:11434/v1 --model NAME | --local FOLDER]

writes captions for recordings with known tags or titles.

    flam verify FOLDER

compares the files of `flam mix` or `flam embed` with their checksums.

The exit code is 0, also if no event was found; 2 if an argument or a file is invalid, or an
optional package is missing; 130 after Ctrl-C; 141 if the pipe it prints to is closed.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from flamlib import memory
from flamlib.cli import ask, import_models, list_models, make
from flamlib.cli.arguments import UsageError, printable

_DESCRIPTION = "Find the events in a recording that a caption describes."
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
CLOSED = 141  # and if nobody reads what is printed, as of `flam detect … | head -1`
_UNFIT = (
    "torchaudio cannot be loaded beside this torch: one is built for the CPU, the other for "
    "CUDA? Install both of one kind, see docs/install.md"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `flam`, by default with the arguments of the command line; return the exit code."""
    args = _parser().parse_args(arguments)
    memory.keep_freed()
    try:
        args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tells it, too
        return CLOSED
    except KeyboardInterrupt:
        print(
            "flam: interrupted; embed, mix and caption continue when called again", file=sys.stderr
        )
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if args.extra is None:  # not an optional package: the installation is broken
            raise
        needed = f'flam {args.command} needs {error.name}: pip install "flamlib[{args.extra}]"'
        print(needed, file=sys.stderr)
        return 2
    except (UsageError, OSError, ValueError) as error:
        print(f"flam: {_sentence(error)}", file=sys.stderr)
        return 2
    return 0


def _sentence(error: Exception) -> str:
    """What an error says, on one line, with letters only that a terminal can show."""
    if isinstance(error, OSError) and "torchaudio" in str(error):
        return _UNFIT
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"{error.strerror}: what is printed, or a temporary file? TMPDIR names their folder"
    return printable(text) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flam", description=_DESCRIPTION)
    parser.set_defaults(extra=None)
    parser.add_argument("--version", action="version", version=f"flam {version('flamlib')}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for part in (ask, list_models, import_models, make):
        part.add(commands)
    return parser
