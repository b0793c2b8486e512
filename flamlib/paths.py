"""The root folder of the project, the paths of its files, and the commit of its code.

The root is the folder with `dvc.yaml`. It is searched from the working directory and not from this
file: with an editable install, a copy of the project (a test's temporary folder, `dvc exp run
--temp`) would otherwise use the files of the original.
"""

import subprocess
from pathlib import Path

# Relative to the root; dvc.yaml and the notebooks name the same.
PARAMS = "params.yaml"
CAPTIONS = "data/captions.tsv"
WEIGHTS = "artifacts/weights"  # a folder for each pretrained tower
BANK = "artifacts/bank"
MIXTURES = "artifacts/mixtures"
STRONG = "artifacts/strong"
CHECKPOINTS = "artifacts/checkpoints"  # a folder for each model
RESUME = "artifacts/resume"  # states of training to go on from
ABLATION = "artifacts/ablation"
DEPENDENCY = "artifacts/dependency"
CODE = "artifacts/code"  # digests of the code of each stage
CACHE = "artifacts/cache"  # of the library `datasets`
CURVES = "reports/curves"


def root() -> Path:
    """Return the nearest folder with a `dvc.yaml`, from the working directory upwards.

    Raises FileNotFoundError if there is none.
    """
    start = Path.cwd().resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml at or above {start}: start in a folder of the project")


def commit() -> str | None:
    """Return the git commit of the project, with `-dirty` if files differ; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=root(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
