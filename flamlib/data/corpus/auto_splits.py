"""Share a user's recordings out among the splits, and say what a corpus lacks.

A row of own sounds with the split `auto` gets one of `catalogue.SPLITS` by its group, so that near
duplicates stay together:

- the group of a recording that has a split already, in the table or the catalogue, is in that one;
- a family of which something is in `unseen_captions` is there as a whole. If there is none, one
  family in ten is, at least one where three are there: those with the fewest groups;
- of every caption, and of the backgrounds, a quarter of the groups is held out, so of four one. It
  is for the test (`seen_captions`, `heldout`) and for validation in turn;
- where test or validation would have nothing, one group of whatever has most is moved there, if
  another is left to train on.

Everything else is trained on. Captions and groups come in the order of a hash of their names, so
the choice is the same on every machine, and the next recording of a caption moves at most one other
out of the training or into it.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from flamlib.data.corpus.catalogue import SPLITS, TableError, split_list

AUTO = "auto"
MIN_TRAIN_FOREGROUNDS = 10  # fewer cannot tell one caption from another
HELD_OUT_SHARE = 4  # of so many groups of a caption one is held out
UNSEEN_SHARE = 10  # of so many families one is kept for unseen_captions
TEST = {"foreground": "seen_captions", "background": "heldout", "masker": "heldout"}
NEEDED = {  # role and split: what it is for
    ("foreground", "train"): "to train on",
    ("foreground", "valid"): "for the validation loss",
    ("foreground", "seen_captions"): "for the test of captions that are trained on",
    ("foreground", "unseen_captions"): "for the test of captions that are not trained on",
    ("background", "train"): "to train on",
    ("background", "valid"): "for the validation loss",
    ("background", "heldout"): "for both tests",
}


def share_out(clips: pd.DataFrame, others: pd.DataFrame, captions: pd.DataFrame) -> list[str]:
    """Return the splits of a user's clips, with those that are `AUTO` replaced.

    Args:
        clips: of the user, with the columns of `catalogue.CLIP_COLUMNS`; a recording without a
            checksum is not there, so it counts for nothing.
        others: the clips of the catalogue.
        captions: of both.
    """
    is_auto = (clips["split"] == AUTO) & clips["role"].isin(list(SPLITS))
    fixed = pd.concat([others, clips[~is_auto]])
    auto = _Auto(clips[is_auto & (clips["sha256"] != "")], fixed)
    in_use = captions["caption"].isin([*clips["caption"], *others["caption"]])
    auto.keep_families_unseen(captions[in_use])
    auto.hold_out()
    auto.fill()
    chosen = [
        auto.split_of.get(group, "train") if choose else split
        for group, split, choose in zip(clips["group"], clips["split"], is_auto, strict=True)
    ]
    return ["train" if split == AUTO else split for split in chosen]


def find_missing(clips: pd.DataFrame) -> Iterator[str]:
    """Yield what a corpus lacks for training and evaluation: what, how many, how many at least."""
    n_of = clips.groupby(["role", "split"]).size()
    for (role, split), purpose in NEEDED.items():
        n = int(n_of.get((role, split), 0))
        least = MIN_TRAIN_FOREGROUNDS if (role, split) == ("foreground", "train") else 1
        if n < least:
            yield f"{role}s of the split {split}, {purpose}: {n}, at least {least}"
    trained = clips[(clips["role"] == "foreground") & (clips["split"] == "train")]
    if (n := trained["caption"].nunique()) < 2:
        yield f"captions to train on: {n}, at least 2"


def check_enough(
    clips: pd.DataFrame, skipped: Sequence[Mapping[str, str]], own_sounds: str | Path | None
) -> None:
    """Raise TableError that says all that is missing for training and evaluation at once."""
    missing = list(find_missing(clips))
    if not missing:
        return
    n = clips[clips["split"] == "train"]["role"].value_counts()
    reasons = [f"{row['package']} {row['member']}: {row['why']}" for row in skipped]
    more = [f"and {len(reasons) - 10} more"] if len(reasons) > 10 else []
    source = "the catalogue" if own_sounds is None else f"{own_sounds} and the packages"
    advice = (
        "more packages, or sounds of your own"
        if own_sounds is None
        else "more recordings; `auto` in the column split, which shares them out by group (a "
        "caption needs two for one to be held out); source.profile: core, which adds the packaged "
        "recordings"
    )
    raise TableError(
        f"{n.get('foreground', 0)} foregrounds and {n.get('background', 0)} backgrounds of "
        f"{source} are left to train on; training and evaluation lack"
        + "\n  ".join([":", *missing])
        + f"\nWhat helps: {advice}.\nSkipped: "
        + ("\n  ".join(["", *reasons[:10], *more]) if reasons else "nothing")
    )


Key = tuple[str, str]  # role and caption; the backgrounds are like recordings of one caption


class _Auto:
    """The groups to share out: which captions they have, and which split they have so far."""

    def __init__(self, clips: pd.DataFrame, fixed: pd.DataFrame):
        self._fixed = fixed
        self._families = _sets(clips["group"], clips["family"])
        self._keys = _sets(clips["group"], _keys(clips))
        groups = _sets(_keys(clips), clips["group"])
        self._groups = {key: sorted(groups[key], key=_hash) for key in sorted(groups)}
        split_of = dict(zip(fixed["group"], fixed["split"], strict=True))
        self.split_of = {group: split_of[group] for group in self._keys if group in split_of}
        trained = fixed[fixed["split"] == "train"]
        in_training = _sets(_keys(trained), trained["group"])
        for group, keys in self._keys.items():
            for key in keys if self.split_of.get(group, "train") == "train" else ():
                in_training[key].add(group)
        self._n_trained = {key: len(in_training[key]) for key in self._groups}

    def keep_families_unseen(self, captions: pd.DataFrame) -> None:
        """Give whole families to `unseen_captions`, if there are enough and it has none."""
        seen = self._fixed[self._fixed["role"] == "foreground"]
        unseen = set(seen.loc[seen["split"] == "unseen_captions", "family"])
        unseen = unseen or self._choose_unseen(set(seen["family"]), captions)
        for group, families in self._families.items():
            if families & unseen and group not in self.split_of:
                self._assign(group, "unseen_captions")

    def _choose_unseen(self, others: set[str], captions: pd.DataFrame) -> set[str]:
        groups_of: dict[str, list[str]] = defaultdict(list)
        for group, keys in self._keys.items():
            if any(role == "foreground" for role, _ in keys):
                for family in self._families[group]:
                    groups_of[family].append(group)
        texts = [
            (row.family, text)
            for row in captions.itertuples(index=False)
            for text in [row.caption, *split_list(row.wordings), *split_list(row.parents)]
        ]

        texts_of = _texts_of_words(texts)

        def stands_alone(family: str) -> bool:
            """Whether no other recording has to go with it, and no other caption names it."""
            name = re.compile(rf"\b{re.escape(family)}\b", re.IGNORECASE)
            # A text that names it has its first word; to look at all of them would take hours.
            first = re.match(r"\w+", family) if family.isascii() else None
            near = texts_of[first[0].lower()] + texts_of[""] if first else texts
            return (
                family not in others
                and all(self._families[group] == {family} for group in groups_of[family])
                and not any(group in self.split_of for group in groups_of[family])
                and not any(other != family and name.search(text) for other, text in near)
            )

        n_families = len(others | groups_of.keys())
        n_unseen = max(0, min(max(1, n_families // UNSEEN_SHARE), n_families - 2))
        ordered = sorted(groups_of, key=lambda family: (len(groups_of[family]), _hash(family)))
        return set(islice(filter(stands_alone, ordered), n_unseen))

    def hold_out(self) -> None:
        """Hold out a quarter of the groups of every caption, for test and validation in turn."""
        turn = dict.fromkeys(TEST, 0)
        for (role, _), groups in sorted(self._groups.items(), key=lambda of: _hash(of[0][1])):
            splits = [self.split_of.get(group, "train") for group in groups]
            n_held = sum(split not in ("train", "unseen_captions") for split in splits)
            n = len(groups) // HELD_OUT_SHARE - n_held
            for group in groups:
                if n > 0 and self._may_be_held_out(group):
                    self._assign(group, (TEST[role], "valid")[turn[role] % 2])
                    n, turn[role] = n - 1, turn[role] + 1

    def fill(self) -> None:
        """Give something to a split for test or validation that would have nothing."""
        for role, test in TEST.items():
            of_role = [key for key in self._groups if key[0] == role]
            for split in (test, "valid"):
                given = set(self._fixed.loc[self._fixed["role"] == role, "split"])
                given |= {self.split_of.get(g) for key in of_role for g in self._groups[key]}
                if split in given:
                    continue
                for key in sorted(of_role, key=lambda key: (-self._n_trained[key], _hash(key[1]))):
                    spare = list(filter(self._may_be_held_out, self._groups[key]))
                    if spare:
                        self._assign(spare[0], split)
                        break

    def _may_be_held_out(self, group: str) -> bool:
        # With foregrounds and backgrounds it cannot be in a test, which has two names for them.
        return (
            group not in self.split_of
            and len({role for role, _ in self._keys[group]}) == 1
            and all(self._n_trained[key] > 1 for key in self._keys[group])
        )

    def _assign(self, group: str, split: str) -> None:
        self.split_of[group] = split
        for key in self._keys[group]:
            self._n_trained[key] -= 1


def _texts_of_words(texts: Sequence[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The (family, text) of each word in lower case; "" has those with letters beyond ASCII."""
    of_word = defaultdict(list)
    for family, text in texts:
        for word in set(re.findall(r"\w+", text.lower())) if text.isascii() else [""]:
            of_word[word].append((family, text))
    return of_word


def _keys(clips: pd.DataFrame) -> list[Key]:
    captions = clips["caption"].where(clips["role"] == "foreground", "")
    return list(zip(clips["role"], captions, strict=True))


def _sets(keys: Iterable, values: Iterable) -> dict:
    """The set of values that stand beside each key."""
    sets = defaultdict(set)
    for key, value in zip(keys, values, strict=True):
        sets[key].add(value)
    return sets


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
