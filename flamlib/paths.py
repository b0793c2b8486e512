"""Where the experiment lies: the root of the project, what is in it, and the commit of its code.

The root is the folder that holds `dvc.yaml`. It is looked for from the working directory and not
from this file, because an editable install would otherwise drag every copy of the project (a test's
temporary folder, `dvc exp run --temp`) back to the original.
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
    """The nearest folder at or above the working directory that holds `dvc.yaml`.

    Raises FileNotFoundError when there is none.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml at or above {here}: start in a folder of the project")


def commit() -> str | None:
    """Git's name for the project as it is, `-dirty` if files differ; None without git."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        told = subprocess.run(asked, cwd=root(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()
