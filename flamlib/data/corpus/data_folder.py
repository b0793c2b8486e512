"""`data/`, the copy of the corpus that the pipeline reads.

`data.dvc` has DVC import `data/` from `artifacts/source`, and `dvc repro` does so. But `dvc exp
run` first records dependency and copy of every `.dvc` file as they are, so a copy of an earlier
corpus would pass for one of this corpus. Whoever makes a corpus therefore copies it at once.
"""

import shutil

from flamlib import paths
from flamlib.paths import Places
from flamlib.storage import files


def refresh(places: Places) -> None:
    """Make `data/` what `artifacts/source` is now.

    Nothing is done in a small run, which reads its source itself, and where `data.dvc` says that
    `data/` is data of your own.
    """
    source, data = places.path(paths.SOURCE), places.path(paths.DATA)
    if places.small or not paths.is_copy_of_source(places.root):
        return
    with files.atomic_folder(data) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
