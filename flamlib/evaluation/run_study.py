"""Run the ablation study: every arm and seed that is not done yet, then the notebooks about them.

    python -m flamlib.evaluation.run_study --jobs 2

A run is notebook 06 with one arm and one seed, in a process of its own and with one thread. It is
done when its file in `reports/06_ablate` carries the digests of the code, parameters and data as
they are now (see `flamlib.experiment.provenance`). The order is by seed, so that every arm has one
run before any has two. When stopped, the same command continues; a training continues from its last
state.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from flamlib import paths, run_notebook, texts
from flamlib.compute import parallel
from flamlib.evaluation import ablation, dependency
from flamlib.experiment import provenance
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.parameters import ParameterError
from flamlib.paths import Places

SEEDS = (0, 1, 2)
QUICK = ("flam", "no_bias", "no_scale", "flam_global")
TRAINING = 0.8  # of a run's time; the rest is evaluation
EVERY_S = 2.0  # between two states of the bar in a terminal
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
INTERRUPTED = 130  # exit status after Ctrl-C
AGAIN = "To continue, run the same command again: runs that are done are not repeated."


class Cell(NamedTuple):
    """One run of the study."""

    seed: int
    arm: str

    @property
    def name(self) -> str:
        return f"{self.seed}_{self.arm}"


def check_changes(config: Config) -> None:
    """Raise ParameterError, naming the arm, for changes that fit no parameter.

    Asked before the first run: the arm may be the last of hours.
    """
    runs = {
        f"ablate.arms.{arm}": ablation.changes(arm, config.ablate) for arm in config.ablate.arms
    }
    for name, changes in {"dependency.budget": config.dependency.budget, **runs}.items():
        try:
            model, _ = ablation.configured(config, changes)
            config.objective(model)
        except ValueError as error:
            raise ParameterError(f"{name}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not done yet; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flamlib.evaluation.run_study", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--jobs", type=texts.count, default=os.cpu_count() or 1, help="runs at a time"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"one seed of {', '.join(QUICK)}, without notebook 08"
    )
    given = parser.parse_args(arguments)
    try:
        places = paths.places(small=False)
        os.chdir(places.root)
        config = load_config()
        check_changes(config)
        cells = study_cells(config.ablate.arms, quick=given.quick)
        todo = unfinished(places, config, cells)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    root = places.root
    jobs = max(min(given.jobs, len(todo)), 1)
    print(f"{len(cells)} runs, of which {len(cells) - len(todo)} are done", flush=True)
    if todo:
        print(f"{jobs} at a time; what they print: artifacts/ablation/<seed>_<arm>.log", flush=True)
    work = functools.partial(run, root)
    try:
        with _shown(root, todo) as done:
            for cell, _ in parallel.each(work, todo, n_jobs=jobs, threads=True, progress=False):
                done.add(cell)
    except (subprocess.CalledProcessError, KeyboardInterrupt) as error:
        status = getattr(error, "returncode", INTERRUPTED)
        print(f"{'Interrupted' if status == INTERRUPTED else error}. {AGAIN}")
        return status
    about = dependency.record(places, config)
    if not given.quick and not _is_done(root / "reports/08_dependency.json", about):
        status = run_notebook.main([*_files("08_dependency"), "-p", "small", "False"])
        if status:
            return status
    # Runs of an earlier study that lie beside them may be of other code or data.
    only = repr([cell.name for cell in cells])
    return run_notebook.main([*_files("07_compare"), "-p", "only", only])


def study_cells(arms: Iterable[str], *, quick: bool) -> list[Cell]:
    """List all runs in their order; with `quick` those of one seed of the first four arms."""
    seeds = SEEDS[:1] if quick else SEEDS
    return [Cell(seed, arm) for seed in seeds for arm in arms if arm in QUICK or not quick]


def unfinished(places: Places, config: Config, cells: Iterable[Cell]) -> list[Cell]:
    """Choose the runs without a file, or with one of other code, parameters or data than now."""
    of_all = ablation.record_of_all(places, config)
    todo = []
    for cell in cells:
        about = of_all | {"arm": ablation.arm_digest(places, config, cell.arm)}
        if not _is_done(places.path(f"reports/06_ablate/{cell.name}.json"), about):
            todo.append(cell)
    return todo


def run(root: Path, cell: Cell) -> None:
    """Run one cell in a process of its own; what it prints goes to a file.

    Raises CalledProcessError if it fails, with the end of that file printed.
    """
    log = _log(root, cell)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flamlib.run_notebook"]
    command += _files("06_ablate", f"06_ablate_{cell.name}")
    command += ["-p", "small", "False", "-p", "seed", str(cell.seed), "-p", "arm", cell.arm]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    if done.returncode not in (0, INTERRUPTED):
        print(log.read_text(encoding="utf-8")[-3000:], file=sys.stderr, flush=True)
    done.check_returncode()


def trained(log: Path) -> tuple[int, int]:
    """Return the last step that a training shows in its log, and of how many; (0, 1) before."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    shown = re.findall(r"^train:.*\| *(\d+)/(\d+) \[", text, flags=re.MULTILINE)
    return tuple(map(int, shown[-1])) if shown else (0, 1)


@contextmanager
def _shown(root: Path, todo: Sequence[Cell]) -> Iterator[set[Cell]]:
    """Show how far all runs are, by their logs, until the block ends; yield the set of those done.

    A run counts in parts, or the time left would be unknown until the first is done.
    """
    done: set[Cell] = set()
    ended = threading.Event()
    for cell in todo:
        _log(root, cell).unlink(missing_ok=True)  # of a run that was stopped

    def show() -> None:
        at = {cell.name: trained(_log(root, cell)) for cell in todo if cell not in done}
        bar.n = len(done) + sum(TRAINING * step / n for step, n in at.values())
        steps = (f"{name} {step}/{n}" for name, (step, n) in at.items() if step)
        bar.set_postfix_str(", ".join(steps))

    def keep_showing() -> None:
        while not ended.wait(EVERY_S if sys.stderr.isatty() else float(run_notebook.LOG_EVERY_S)):
            show()

    with tqdm(total=len(todo), desc="runs", bar_format=BAR, disable=not todo) as bar:
        watcher = threading.Thread(target=keep_showing)
        watcher.start()
        try:
            yield done
        finally:
            ended.set()
            watcher.join()
            show()


def _log(root: Path, cell: Cell) -> Path:
    return root / f"artifacts/ablation/{cell.name}.log"


def _files(notebook: str, report: str | None = None) -> list[str]:
    return [f"notebooks/{notebook}.ipynb", f"reports/{report or notebook}.ipynb"]


def _is_done(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file of numbers was computed from what is recorded, at whichever commit."""
    if not path.exists():
        return False
    kept = json.loads(path.read_text(encoding="utf-8")).get("provenance", {})
    return provenance.same(kept, record)


if __name__ == "__main__":
    sys.exit(main())
