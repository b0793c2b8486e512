"""Folds of the training recordings, for choices that must not be made on what is reported.

Packages are dealt to the folds, and each family of captions to a fold in which a package of it is
held out. A fold is a bank and a lexicon of their own, with the splits of the whole experiment:

    seen_captions     recordings of the fold's packages, of captions that it trains on
    unseen_captions   recordings of the fold's packages, of the fold's families
    train, valid      recordings of other packages and of other families

What is in none of them is left out, so what a fold is tested on shares neither package nor family,
or no package, with what it trains on. Recordings that are held out of the whole experiment are in
no fold. Of the backgrounds, those of the fold's packages and every n-th of the others are held out:
there are too few for packages alone. Of maskers, every n-th group of a caption is: a speaker, a
composer.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow

from flamlib.data.mixtures import source_table
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon

SHARED = ("*.bin", "bank.json", "skipped.tsv")  # files of the whole bank


class Folds(NamedTuple):
    """In which fold each package, and each family of captions, is held out, from 0."""

    packages: dict[str, int]
    families: dict[str, int]


def deal(sources: pd.DataFrame, n_folds: int) -> Folds:
    """Deal packages and families to folds, so that all have about as many captions.

    It depends on the recordings that are trained on or validated alone, and on nothing random.

    Args:
        sources: of a bank.
        n_folds: how many.

    Raises:
        ValueError: there are fewer packages than folds.
    """
    own = _foreground(sources)
    captions = own.groupby("package")["caption"].nunique()
    if len(captions) < n_folds:
        raise ValueError(
            f"{n_folds} folds need recordings of as many packages to train on, but there are "
            f"{len(captions)}: take more packages or recordings"
        )
    packages: dict[str, int] = {}
    sizes = [0] * n_folds
    for package in sorted(captions.index, key=lambda name: (-captions[name], name)):
        fold = int(np.argmin(sizes))
        packages[package] = fold
        sizes[fold] += int(captions[package])

    places = {
        family: sorted({packages[p] for p in of["package"]}) for family, of in own.groupby("family")
    }
    families: dict[str, int] = {}
    counts: Counter[int] = Counter()
    for family in sorted(places, key=lambda name: (len(places[name]), name)):
        fold = min(places[family], key=lambda place: (counts[place], place))
        families[family] = fold
        counts[fold] += 1
    return Folds(packages, families)


def splits(sources: pd.DataFrame, lexicon: Lexicon, *, fold: int, n_folds: int) -> pd.Series:
    """Return the split of each source in a fold; "" for what is left out.

    Args:
        sources: of a bank.
        lexicon: a caption that is a parent of one that is trained on is not unseen.
        fold: which one, from 0.
        n_folds: of how many.
    """
    dealt = deal(sources, n_folds)
    package, family = (
        sources[column].map(of).fillna(-1).astype(int) == fold
        for column, of in (("package", dealt.packages), ("family", dealt.families))
    )
    ours = sources["split"].isin(["train", "valid"])
    whole = sources["variant"] == 0  # what is tested is heard as it was recorded
    split = pd.Series("", index=sources.index)

    front = ours & (sources["role"] == "foreground")
    tested = set(sources.loc[front & package, "group"])
    fits = front & ~package & ~family & ~sources["group"].isin(tested)
    split[fits] = sources.loc[fits, "split"]
    trained = set(sources.loc[split == "train", "caption"])
    queries = trained | {parent for caption in trained for parent in lexicon.parents[caption]}
    split[front & package & ~family & whole & sources["caption"].isin(trained)] = "seen_captions"
    split[front & package & family & whole & ~sources["caption"].isin(queries)] = "unseen_captions"

    behind = ours & (sources["role"] == "background")
    groups = sorted(set(sources.loc[behind & ~package, "group"]))
    held_out = behind & (package | sources["group"].isin(groups[fold::n_folds]))
    split[held_out & whole] = "heldout"
    split[behind & ~held_out] = sources.loc[behind & ~held_out, "split"]
    _validate_some(sources, split, behind & ~held_out)

    over = ours & (sources["role"] == "masker")
    for _, of_caption in sources[over].groupby("caption"):
        groups = sorted(set(of_caption["group"]))
        chosen = groups[fold::n_folds] or [groups[fold % len(groups)]]
        held = of_caption["group"].isin(chosen if len(groups) > 1 else [])
        split[of_caption.index] = of_caption["split"].mask(held, "heldout")
    _validate_some(sources, split, over & (split != "heldout"))
    return split


def _validate_some(sources: pd.DataFrame, split: pd.Series, rows: pd.Series) -> None:
    """Give the last group of some rows to validation, if there is none of them."""
    left = sources[rows]
    if len(left) and "valid" not in set(left["split"]):
        split[rows & (sources["group"] == left["group"].iloc[-1])] = "valid"


def write(bank: Bank, captions: str | Path, out: str | Path, *, fold: int, n_folds: int) -> None:
    """Write a fold's bank and table of captions, `out/bank` and `out/captions.tsv`.

    The bank has the samples of the whole one by links.

    Args:
        bank: the whole one.
        captions: the whole table of captions.
        out: an empty folder.
        fold: which one, from 0.
        n_folds: of how many.
    """
    out, lexicon = Path(out), Lexicon.read(captions)
    split = splits(bank.sources, lexicon, fold=fold, n_folds=n_folds)
    own = bank.sources.assign(split=split)[split != ""].reset_index(drop=True)
    (out / "bank").mkdir()
    for pattern in SHARED:
        for path in bank.folder.glob(pattern):
            (out / "bank" / path.name).symlink_to(path.resolve())
    source_table.write(out / "bank", pyarrow.Table.from_pandas(own, preserve_index=False))
    trained = set(own.loc[(own["split"] == "train") & (own["role"] == "foreground"), "caption"])
    table = lexicon.table
    is_ours = (table["split"] == "train") & ~table["caption"].isin(trained)
    table.assign(split=table["split"].mask(is_ours, "unseen")).to_csv(
        out / "captions.tsv", sep="\t", index=False
    )


def _foreground(sources: pd.DataFrame) -> pd.DataFrame:
    """The recordings of sounds that are trained on or validated, one row each."""
    ours = (sources["role"] == "foreground") & sources["split"].isin(["train", "valid"])
    return sources[ours & (sources["variant"] == 0)]
