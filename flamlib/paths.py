"""The project's root folder, where each kind of run reads and writes, and the commit of the code.

The root is the folder with `dvc.yaml`. It is searched from the working directory and not from this
file: with an editable install, a copy of the project (a test's temporary folder, `dvc exp run
--temp`) would otherwise use the files of the original.

A small run, which is what *Run All* does, has folders of its own, so that it replaces no result of
the whole experiment:

    whole run        small run
    artifacts/X      artifacts/small/X
    reports/X        reports/small/X
    data/            artifacts/small/source, of the packages that a small run takes
    artifacts/weights, which are the same in both

What belongs to no project, because it is fetched once and used by all, is in the user's cache.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Relative to the root; dvc.yaml and the notebooks name the same.
PARAMS = "params.yaml"
DATA = "data"
SOURCE = "artifacts/source"
CAPTIONS = "data/captions.tsv"
WEIGHTS = "artifacts/weights"  # a folder for each pretrained tower
BANK = "artifacts/bank"
MIXTURES = "artifacts/mixtures"
STRONG = "artifacts/strong"
FEATURES = "artifacts/features"  # what a frozen trunk made of the clips
CHECKPOINTS = "artifacts/checkpoints"  # a folder for each model
RESUME = "artifacts/resume"  # states of training to go on from
ABLATION = "artifacts/ablation"
DEPENDENCY = "artifacts/dependency"
CODE = "artifacts/code"  # digests of the code of each stage
CACHE = "artifacts/cache"  # of the library `datasets`
CURVES = "reports/curves"

PACKAGES = "FLAM_PACKAGES"  # the variable of a folder of downloaded packages
USER_CACHE = "FLAM_CACHE"  # and of the user's cache

SMALL = "small"
MADE_BY = {  # which notebook makes what others read
    "data": "01_corpus",
    "artifacts/source": "01_corpus",
    "artifacts/weights": "01_corpus",
    "artifacts/bank": "02_mix",
    "artifacts/mixtures": "02_mix",
    "artifacts/strong": "02_mix",
    "artifacts/features": "02b_features",
    "artifacts/checkpoints": "03_train",
    "artifacts/scores": "04_evaluate",
    "reports/04_evaluate.json": "04_evaluate",
    "reports/figures/04_evaluate": "04_evaluate",
    "reports/06_ablate": "06_ablate",
}


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    Attributes:
        root: the project's root.
        small: whether it is a small run, with folders of its own.
        is_fallback: whether it is one only because there is no trained model yet.
    """

    root: Path
    small: bool = False
    is_fallback: bool = False

    def path(self, name: str | Path) -> Path:
        """Return where this run has what the whole experiment has at `name`.

        Args:
            name: a path relative to the root, or an absolute one, which stays as it is.
        """
        first, *rest = PurePosixPath(name).parts or ("",)
        if self.small and str(name) != WEIGHTS and not str(name).startswith(f"{WEIGHTS}/"):
            if first == DATA and is_copy_of_source(self.root):
                return self.root.joinpath("artifacts", SMALL, "source", *rest)
            if first in ("artifacts", "reports") and rest[:1] != [SMALL]:
                return self.root.joinpath(first, SMALL, *rest)
        return self.root / name

    def existing(self, name: str | Path) -> Path:
        """Return `path(name)`.

        Raises FileNotFoundError if nothing is there, with the notebook that makes it.
        """
        path = self.path(name)
        if path.exists():
            return path
        maker = _maker(PurePosixPath(name))
        if maker is None:
            raise FileNotFoundError(f"{path} is not there")
        if self.small:
            whole = " (or `make repro`, for the whole experiment)" if self.is_fallback else ""
            raise FileNotFoundError(f"{path} is not there: run {maker}small = True first{whole}")
        raise FileNotFoundError(
            f"{path} is not there: `make repro` makes it, or run {maker}small = False first"
        )


def places(*, small: bool | None) -> Places:
    """Return the places of a run in this project.

    Args:
        small: whether it is a small run; None: a run that uses the trained model, or where there is
            none yet, that of a small run.
    """
    found = root()
    if small is None:
        small = not (found / CHECKPOINTS / "flam").exists()
        return Places(found, small, is_fallback=small)
    return Places(found, small)


def is_copy_of_source(root: Path) -> bool:
    """Whether `data/` is a copy of what notebook 01 makes, by `data.dvc`, or data of your own."""
    file = root / f"{DATA}.dvc"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return re.search(rf"^- path: {SOURCE}$", text, flags=re.MULTILINE) is not None


def _maker(name: PurePosixPath) -> str | None:
    """The notebook that makes what is at a name, with its parameter where it has one."""
    for place in (name, *name.parents):
        if notebook := MADE_BY.get(str(place)):
            model = name.relative_to(place).parts[:1] if str(place) == CHECKPOINTS else ()
            return f"notebook {notebook} with " + "".join(f"model = {m!r}, " for m in model)
    return None


def root() -> Path:
    """Return the nearest folder with a `dvc.yaml`, from the working directory upwards.

    Raises FileNotFoundError if there is none.
    """
    start = Path.cwd().resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml at or above {start}: start in a folder of the project")


def user_cache() -> Path:
    """Return the folder for what is fetched once: FLAM_CACHE, else `flam` in the user's cache."""
    if given := os.environ.get(USER_CACHE):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flam"


MADE = ("reports", "dvc.lock", "data.dvc")  # tracked by git, and written by the pipeline


def commit() -> str | None:
    """Return the git commit of the project, with `-dirty` if files differ; None without git.

    What the pipeline writes while it runs, `MADE`, may differ.
    """
    others = [".", *(f":(exclude){name}" for name in MADE)]
    head = ["git", "rev-parse", "--short=12", "HEAD"]
    changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", *others]
    try:
        how = {"cwd": root(), "capture_output": True, "text": True, "check": True}
        found, changed = (subprocess.run(each, **how).stdout.strip() for each in (head, changes))
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("-dirty" if changed else "")
