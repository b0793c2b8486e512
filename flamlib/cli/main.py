"""The console script `flam`: when does a recording sound like a sentence?

    flam detect AUDIO -c CAPTION [-c CAPTION …] [--model FOLDER] [-o FILE] …

writes a table, `onset offset event_label score` in seconds, or Audacity's labels.

    flam import-openflam CKPT OUT --tokenizer FOLDER_OR_HUB_ID
    flam import-clap FOLDER_OR_HUB_ID OUT
    flam import-baseline CKPT OUT --tokenizer FOLDER_OR_HUB_ID
    flam import-htsat CKPT OUT

make models, and the last a tower to train from, out of what others published.

    flam export MODEL OUT

writes a model as ONNX and says how far onnxruntime is from torch.

    flam embed AUDIO_FOLDER OUT [--model FOLDER] [--jobs 8 | --scheduler ADDRESS]

hears a collection once, and writes embeddings for `datasets` to search.

    flam mix FOLDER -n 1000000 [--form webdataset] [--jobs 8 | --scheduler ADDRESS] …

renders the project's mixtures to files for any loader.

    flam caption TABLE -o sounds.tsv [--url http://localhost:11434/v1 --model NAME | --local FOLDER]

writes captions for recordings of which tags or titles are known. Exit code 0, also if nothing was
found; 2 if the call or a file is no good, or an optional package is missing.
"""

import argparse
import sys
from collections.abc import Sequence

from flamlib.cli import ask, import_models, make
from flamlib.cli.arguments import UsageError

_UNFIT = (
    "flam: torchaudio cannot be loaded beside this torch: one is built for the CPU, the other for "
    "CUDA? Install both of one kind, see docs/install.md"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `flam` with these arguments, by default those of the command line."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except UsageError as error:
        print(f"flam: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if args.extra is None:  # a fault of the installation: what the command needs is no option
            raise
        needed = f'flam {args.command} needs {error.name}: pip install "flamlib[{args.extra}]"'
        print(needed, file=sys.stderr)
        return 2
    except OSError as error:
        if "torchaudio" not in str(error):
            raise
        print(_UNFIT, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flam", description=__doc__.splitlines()[0])
    parser.set_defaults(extra=None)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for part in (ask, import_models, make):
        part.add(commands)
    return parser
