"""Collections of one class a recording with folds: ESC-50 and UrbanSound8K.

Recordings of one source are in one fold, so a fold is held out as a whole: `test_fold` for the
test, the one before it for validation, and the others are trained on.
"""

from collections.abc import Callable
from pathlib import Path

from flamlib.data.collections.items import TEST, TRAIN, VALID, Contents, Item
from flamlib.data.datasets import label_sets
from flamlib.data.datasets.annotations import AnnotatedSet, Clip

ESC_FOLDS, URBAN_FOLDS = 5, 10
CC_BY_NC = "CC BY-NC"


def esc50(root: Path, *, test_fold: int | None = None) -> Contents:
    """Read ESC-50; fold 5 is the test unless said otherwise."""
    # <fold>-<number of its Freesound recording>-<take>-<target>.wav
    return _by_folds(
        label_sets.esc50(root), ESC_FOLDS, test_fold, lambda clip: clip.name.split("-")[1]
    )


def urbansound8k(root: Path, *, test_fold: int | None = None) -> Contents:
    """Read UrbanSound8K; fold 10 is the test unless said otherwise."""
    # <number of its Freesound recording>-<class>-<occurrence>-<slice>.wav
    return _by_folds(
        label_sets.urbansound8k(root), URBAN_FOLDS, test_fold, lambda clip: clip.name.split("-")[0]
    )


def _by_folds(
    dataset: AnnotatedSet, n_folds: int, test_fold: int | None, number_of: Callable[[Clip], str]
) -> Contents:
    test = n_folds if test_fold is None else test_fold
    if not 1 <= test <= n_folds:
        raise ValueError(f"{dataset.name}: test_fold is {test}, it has folds 1 to {n_folds}")
    valid = (test - 2) % n_folds + 1
    split_of = {test: TEST, valid: VALID}
    note = f"{dataset.name}: fold {test} is held out for the test, fold {valid} for validation"
    contents = Contents(notes=[note])
    for clip in dataset.clips:
        if clip.fold in split_of:
            why = (split_of[clip.fold], f"{dataset.name}, {clip.name}")
            contents.held_out[f"freesound:{number_of(clip)}"] = why

    def make(clip: Clip) -> Item:
        return Item(
            clip.path,
            clip.where,
            caption=clip.label,
            split=split_of.get(clip.fold, TRAIN),
            licence=CC_BY_NC,
            source=f"freesound:{number_of(clip)}",
            duration_s=clip.duration_s,
        )

    contents.add_all_of(dataset, make, table="the table")
    return contents
