"""Run a notebook as a stage of the pipeline, with its output in the terminal while it runs.

    python -m flamlib.run_notebook notebooks/03_train.ipynb reports/03_train_flam.ipynb \\
        -p small False -p model flam

This is papermill with four differences. What the kernel prints, progress bars included, is shown
at once and not only kept in the executed notebook. `-p train.n_steps 3` puts another value in the
place of that of params.yaml. A parameter that is unknown is an error before anything runs. A
failure is reported once, with where the executed notebook is and how to continue.
"""

import argparse
import ast
import difflib
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TextIO

import papermill
import yaml
from jupyter_client.manager import KernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from flamlib import paths
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.overrides import read_overrides, read_value

LOG_EVERY_S = "30"  # between two lines of a progress bar, where there is no terminal to redraw it
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours and movements of the cursor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebook named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flamlib.run_notebook", description=__doc__.splitlines()[0]
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path, help="where the executed notebook is written")
    parser.add_argument(
        "-p",
        dest="pairs",
        metavar=("NAME", "VALUE"),
        nargs=2,
        action="append",
        default=[],
        help="one parameter of the notebook, VALUE in Python (False, 3, None) or else text; or of "
        "params.yaml by its dotted name, VALUE as there",
    )
    given = parser.parse_args(arguments)
    try:
        parameters = choose(given.notebook, dict(given.pairs))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", LOG_EVERY_S)
    # Threads that wait for others sleep instead of counting: they would take the core from those
    # that work, where it is shared, and double the CPU time of a training step.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return run(given.notebook, given.out, parameters)


def choose(notebook: str | Path, pairs: Mapping[str, str]) -> dict[str, Any]:
    """Read the values of parameters that are given as text.

    Those of params.yaml, `train.n_steps` or a section `train` with some of its values, become the
    notebook's `overrides`.

    Raises ValueError for one that neither the notebook declares nor params.yaml has, with the
    nearest name that there is.
    """
    declared = declared_parameters(notebook)
    changes: dict[str, Any] = {}
    for name, text in pairs.items():
        if name in declared:
            continue
        section = name.split(".")[0]
        if "overrides" not in declared or section not in Config.__dataclass_fields__:
            raise ValueError(_unknown(notebook, name, declared))
        value = read_value(text)
        whole = "." not in name and isinstance(value, dict)
        changes |= {f"{name}.{key}": of for key, of in value.items()} if whole else {name: value}
    chosen = {name: _value(text) for name, text in pairs.items() if name in declared}
    if changes:
        changes = {**read_overrides(chosen.get("overrides")), **changes}
        load_config(small=chosen.get("small", False), overrides=changes)  # refuses what is wrong
        chosen["overrides"] = changes
    return chosen


def declared_parameters(notebook: str | Path) -> dict[str, Any]:
    """Return what the one cell tagged `parameters` assigns.

    Only literals, because papermill replaces the values after that cell has run, so anything
    computed in it would be stale.

    Raises ValueError for what is no notebook, or one with no such cell, with two, or with anything
    but literals.
    """
    try:
        cells = json.loads(Path(notebook).read_bytes())["cells"]
        assignments = ["".join(cell["source"]) for cell in cells if _is_tagged(cell)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{notebook}: not a notebook of Jupyter (.ipynb, format 4)") from None
    if len(assignments) != 1:
        raise ValueError(
            f"{notebook}: {len(assignments)} cells are tagged `parameters`, expected one"
        )
    declared = {}
    for line in ast.parse(assignments[0]).body:
        try:
            [name] = line.targets
            declared[name.id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError):
            text = ast.unparse(line)
            raise ValueError(f"{notebook}: `{text}` is not of the form name = literal") from None
    return declared


def _is_tagged(cell: Mapping[str, Any]) -> bool:
    return "parameters" in cell["metadata"].get("tags", [])


def run(notebook: str | Path, out: str | Path, parameters: Mapping[str, Any]) -> int:
    """Run a notebook with these parameters, write it to `out` executed, and report how it went.

    Returns 0, or 1 after an error in a cell and 130 after an interruption, which it explains.
    """
    notebook, out = Path(notebook), Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    name, begun = _stage(notebook), time.monotonic()
    _say(f"── {name} · {notebook}{_summary(parameters)}")
    try:
        with _kernel() as kernel:
            papermill.execute_notebook(
                str(notebook),
                str(out),
                parameters=dict(parameters),
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr if sys.stderr.isatty() else _Lines(sys.stderr),
                coalesce_streams=True,  # of a progress bar the notebook keeps the last state
                kernel_name=kernel.kernel_name,
                km=kernel,
            )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            _say(f"── {name} interrupted after {_since(begun)}; executed so far: {out}")
            _say(f"── {_advice()}")
            return 130
        text = "\n".join(error.traceback) or f"{error.ename}: {error.evalue}"
        _say(f"── {name} failed after {_since(begun)}, in cell [{error.exec_count}] of {out}:\n")
        _say(text if sys.stdout.isatty() else ANSI.sub("", text))
        _say(f"\n── {_advice()}")
        return 1
    except DeadKernelError:
        _say(
            f"── {name} failed after {_since(begun)}: its kernel died, by lack of memory or killed"
        )
        _say(f"── Executed so far: {out}\n── {_advice()}")
        return 1
    _say(f"── {name} done in {_since(begun)} · {out}")
    return 0


@contextmanager
def _kernel() -> Iterator[KernelManager]:
    """A kernel to be started, which Ctrl-C interrupts; a second time it ends this process at once.

    The kernel is in a process group of its own, so the terminal does not interrupt it. Messages are
    encrypted, with keys made for this kernel: otherwise it warns at every start that they are not.
    """
    kernel = KernelManager(kernel_name="python3", transport_encryption="auto")

    def interrupt(*_) -> None:
        signal.signal(signal.SIGINT, usual)
        print(flush=True)  # the terminal is in the middle of a progress bar
        if kernel.has_kernel:
            kernel.interrupt_kernel()
        else:
            raise KeyboardInterrupt

    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        yield kernel
    finally:
        signal.signal(signal.SIGINT, usual)
        if kernel.has_kernel:
            kernel.shutdown_kernel()


class _Lines:
    """A text file in which every state of a progress bar is a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._at_start = True  # of a line

    def write(self, text: str) -> None:
        for part in re.split("([\r\n])", ANSI.sub("", text)):
            if part and not (part == "\r" and self._at_start):
                self._file.write(part.replace("\r", "\n"))
                self._at_start = part in "\r\n"

    def flush(self) -> None:
        self._file.flush()


def _unknown(notebook: str | Path, name: str, declared: Mapping[str, Any]) -> str:
    """What to say of a parameter that is not there."""
    near = difflib.get_close_matches(name, declared, n=1)
    sections = (of for of in fields(Config) if is_dataclass(of.type))
    full = [f"{of.name}.{name}" for of in sections if name in of.type.__dataclass_fields__]
    meant = full if full and "overrides" in declared else near
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    known = ", ".join(declared) or "none"
    return f"{notebook} has no parameter {name}; {hint}its parameters: {known}"


def _say(text: str) -> None:
    print(text, flush=True)


def _value(text: str) -> Any:
    """What a text says in Python, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _stage(notebook: Path) -> str:
    """The name of the stage that DVC runs, and which of how many it is; else the notebook's."""
    name = os.environ.get("DVC_STAGE")
    if name is None:
        return notebook.stem
    stages = _names(yaml.safe_load((paths.root() / "dvc.yaml").read_text(encoding="utf-8")))
    return f"{name} (stage {stages.index(name) + 1} of {len(stages)})" if name in stages else name


def _names(pipeline: Mapping[str, Any]) -> list[str]:
    """The names of a dvc.yaml's stages in the order in which they run, a matrix written out."""
    names = []
    for name, stage in pipeline["stages"].items():
        cells = itertools.product(*stage.get("matrix", {}).values())
        names += ["@".join([name, *filter(None, ["-".join(map(str, cell))])]) for cell in cells]
    return names


def _summary(parameters: Mapping[str, Any]) -> str:
    """Single values with what they are, sections by name."""
    shown = [
        name if isinstance(value, dict) else f"{name} = {value}"
        for name, value in parameters.items()
    ]
    return f" · {', '.join(shown)}" if shown else ""


def _since(begun: float) -> str:
    minutes, seconds = divmod(round(time.monotonic() - begun), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _advice() -> str:
    """How to continue."""
    again = "`make repro`" if "DVC_STAGE" in os.environ else "the same command again"
    return (
        f"To continue, run {again}: stages that are done are not repeated, and training continues "
        "from its last saved state."
    )


if __name__ == "__main__":
    sys.exit(main())
