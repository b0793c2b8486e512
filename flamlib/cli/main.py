"""flam: find the events in a recording that a caption describes.

    flam detect AUDIO … -c CAPTION [-c CAPTION …] [--model MODEL] [-o FILE_OR_FOLDER] …

writes a table `filename onset offset event_label score`, times in seconds, or the formats of other
tools, of one recording or of any number of them.

    flam listen [-] -c CAPTION [-c CAPTION …] [--pcm s16le:16000:1] …

prints the events in sound as it comes, each as it is over.

    flam thresholds LABELS [LABELS …] -o thresholds.json [--audio FOLDER] [--precision 0.9] …

chooses thresholds by caption on labelled recordings, for `flam detect --thresholds FILE`.

    flam evaluate SCORES_DIR [SCORES_DIR …] --ground-truth FILE --durations FILE [-o FILE.json] …

prints PSDS, F1, AUROC, mAP and more of the score tables of any system, with intervals.

    flam adapt LABELS [LABELS …] -o FOLDER [--level thresholds|scale|heads] …

fits captions to labelled recordings, for `flam detect --adapter FOLDER`.

    flam models [--get NAME]

lists the models that are at hand, and fetches one of others that is asked for.

    flam embed AUDIO_FOLDER OUT [--model MODEL] [--jobs 8 | --scheduler ADDRESS]

writes embeddings of a collection of recordings, to be searched with `datasets`.

    flam index AUDIO [AUDIO …] --out INDEX [--remove PATH] [--jobs 8 | --scheduler ADDRESS]
    flam search INDEX TEXT [TEXT …] [-k 20] [-o FILE]

embed an archive once, and find the moments in it that a sentence describes.

    flam serve [--index INDEX] [--port 8000]

shows a page on which recordings are heard, asked and reviewed, and answers over HTTP.

    flam segments FINDS [FINDS …] -o FOLDER [-n 100] [--pick surest|random|balanced] …

cuts what was found, by `flam detect`, `flam search` or another tool, out of the recordings.

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

Every command takes --quiet: on standard error there are errors alone, and what it prints or writes
is the same.

The exit code is 0, also if no event was found; 1 if `flam detect`, `flam index` or `flam segments`
could not use some of several recordings; 2 if an argument or a file is invalid, or an optional
package is missing; 130 after Ctrl-C, 143 after SIGTERM, 129 if the terminal is closed; 141 if the
pipe it prints to is closed.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from types import ModuleType

from flamlib.cli import aside, stop
from flamlib.cli.errors import UsageError, printable
from flamlib.compute import memory

_DESCRIPTION = "Find the events in a recording that a caption describes."
_EPILOG = (
    'For example: flam detect street.wav -c "a dog barks". flam COMMAND --help tells all of a '
    "command. The exit code is 0, also if no event was found; 1 if some of several recordings "
    "could not be used; 2 if an argument or a file is invalid, or an optional package is missing; "
    "after Ctrl-C, or another signal that ends it, 128 and the number of the signal."
)
# The module of each command, which has a function `add_COMMAND` for its arguments, and what it is
# for. Only the module of the command that is called is imported: --help is to be there at once.
_COMMANDS = {
    "detect": ("detect", "find the events in a recording that captions describe"),
    "listen": ("listen", "find events in sound as it comes, from a pipe or a microphone"),
    "thresholds": ("choose_thresholds", "choose thresholds by caption on labelled recordings"),
    "evaluate": ("evaluate_scores", "evaluate the score tables of any system, and compare systems"),
    "adapt": ("adapt", "adapt captions to labelled recordings"),
    "models": ("list_models", "list the models that are at hand or to be had"),
    "embed": ("ask", "write embeddings of a folder of recordings"),
    "index": ("search_archive", "embed an archive, to be searched"),
    "search": ("search_archive", "find the moments of an archive that a sentence describes"),
    "segments": ("cut_segments", "cut what was found out as clips, a folder for each caption"),
    "serve": ("serve_page", "see, hear, ask and review recordings on a page, or over HTTP"),
    "export": ("ask", "export a model to ONNX, in float32 and int8"),
    "import-openflam": ("import_models", "import the FLAM authors' checkpoint (OpenFLAM)"),
    "import-clap": ("import_models", "import a CLAP checkpoint of transformers"),
    "import-baseline": (
        "import_models",
        "import a checkpoint of LAION-CLAP, CompA-CLAP or MGA-CLAP in its authors' format",
    ),
    "import-htsat": (
        "import_models",
        "import an HTS-AT checkpoint as an audio tower to train from",
    ),
    "mix": ("make", "render training mixtures to files"),
    "caption": ("make", "write captions for recordings that have none"),
    "verify": ("make", "compare the files of `flam mix` or `flam embed` with their checksums"),
}
SIGNAL = 128  # and the number of the signal that ended it: the exit code, as shells have it
CLOSED = 141  # and if nobody reads what is printed, as of `flam detect … | head -1`
_TAKEN_BACK = "ignore::UserWarning:multiprocessing.resource_tracker"
_KEPT = "; what was done is kept, and the same call goes on from there"
_EXTRAS = {"pyarrow": "serve"}  # of packages that not only commands of one extra can need
_UNFIT = (
    "torchaudio cannot be loaded beside this torch: one is built for the CPU, the other for "
    "CUDA? Install both of one kind, see docs/install.md"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `flam`, by default with the arguments of the command line; return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # No option before the command has a value.
    command = next((text for text in arguments if not text.startswith("-")), "")
    parser = _parser(command)
    if command and command not in _COMMANDS and command == arguments[0]:
        parser.error(f"no command {command}{_meant(command, _COMMANDS)} (flam --help lists them)")
    args = parser.parse_args(arguments)
    memory.keep_freed()
    # Threads that wait sleep: while they count, they take the core of those that work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # What processes that were ended had of the system is taken back; nobody need be told of it.
    usual = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"{usual},{_TAKEN_BACK}" if usual else _TAKEN_BACK
    try:
        with stop.raised(), aside.silenced(args.quiet):
            code = args.run(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tells it, too
        return CLOSED
    except KeyboardInterrupt as error:
        with suppress(OSError):  # there is nobody to be told when the terminal is closed
            print(f"flam: stopped{_KEPT if args.goes_on else ''}", file=sys.stderr)
        return SIGNAL + (error.number if isinstance(error, stop.Stopped) else signal.SIGINT)
    except ModuleNotFoundError as error:
        if args.extra is None:  # not an optional package: the installation is broken
            raise
        extra = _EXTRAS.get(error.name, args.extra)
        needed = f'flam {args.command} needs {error.name}: pip install "flamlib[{extra}]"'
        print(needed, file=sys.stderr)
        return 2
    except (UsageError, OSError, ValueError) as error:
        print(f"flam: {_sentence(error)}", file=sys.stderr)
        return 2
    return code or 0


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


def _parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser, with the arguments of one command alone, or of all of them."""
    parser = _Parser(prog="flam", description=_DESCRIPTION, epilog=_EPILOG)
    parser.set_defaults(extra=None, goes_on=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, (module, purpose) in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if only in (None, name):
            add = f"add_{name.replace('-', '_')}"
            getattr(_module(module), add)(command)
            command.add_argument(
                "-q", "--quiet", action="store_true", help="no notes, no progress: errors alone"
            )
    return parser


def _module(name: str) -> ModuleType:
    """Import a module of commands; by its name in the code, so that who reads imports sees it."""
    match name:
        case "adapt":
            from flamlib.cli import adapt as module
        case "ask":
            from flamlib.cli import ask as module
        case "choose_thresholds":
            from flamlib.cli import choose_thresholds as module
        case "cut_segments":
            from flamlib.cli import cut_segments as module
        case "detect":
            from flamlib.cli import detect as module
        case "evaluate_scores":
            from flamlib.cli import evaluate_scores as module
        case "import_models":
            from flamlib.cli import import_models as module
        case "list_models":
            from flamlib.cli import list_models as module
        case "listen":
            from flamlib.cli import listen as module
        case "make":
            from flamlib.cli import make as module
        case "search_archive":
            from flamlib.cli import search_archive as module
        case "serve_page":
            from flamlib.cli import serve_page as module
    return module


class _Parser(argparse.ArgumentParser):
    """Of `flam`, and of each command: what it does not know is told with its own usage.

    argparse leaves it to the parser of `flam`, which knows no option of any command.
    """

    def parse_known_args(self, args=None, namespace=None):
        if self._subparsers is None:
            self._check_files(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if options := [text for text in unknown if text.startswith("-")]:
            self.error("; ".join(map(self._no_option, options)))
        if unknown:  # behind an option that is unknown they are its values
            self.error(
                f"unexpected {' '.join(unknown)}: files stand together, not among options, and an "
                "option has one value: repeat it for more"
            )
        return namespace, unknown

    def _check_files(self, args: Sequence[str]) -> None:
        """Refuse names of files that would be taken for options, as -o.wav for -o with .wav."""
        options = self._option_string_actions
        for text in takewhile(lambda text: text != "--", args):
            if text.startswith("-") and text not in ("-", *options) and os.path.lexists(text):
                self.error(f"{text} is taken for an option; the file of this name is ./{text}")

    def _no_option(self, text: str) -> str:
        name = text.split("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        return f"no option {name}{_meant(name, known)}"


def _meant(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1, 0.7)
    return f"; did you mean {close[0]}?" if close else ""


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"flam {version('flamlib')}")
        parser.exit()
