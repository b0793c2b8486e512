"""The catalogue: which recordings there are, what sounds in them, and their splits.

`catalogue/`, with the sounds that `own_sounds` adds, is two tables of text:

    clips     profile package version channel member role family caption licence onset offset
              group split sha256
    captions  caption family split wordings parents related

"" stands for what is not known, "|" separates the items of a list, and a column `where` (file and
line) is added for error messages.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from flamlib import texts
from flamlib.storage import tables

PROFILES = ("core", "full", "extra")  # each holds all clips of those before it
SPLITS = {
    "foreground": ("train", "valid", "seen_captions", "unseen_captions"),
    "background": ("train", "valid", "heldout"),
    "masker": ("train", "valid", "heldout"),  # speech or music that lies over a background
}
BEHIND = ("background", "masker")  # roles of recordings that are no events
OWN = "own"  # the package of the sounds that `own_sounds` adds

CLIP_COLUMNS = (
    *("profile", "package", "version", "channel", "member", "role", "family", "caption"),
    *("licence", "onset", "offset", "group", "split", "sha256"),
)
CAPTION_COLUMNS = ("caption", "family", "split", "wordings", "parents", "related")
FILE_COLUMNS = ("path", "member", "labels")


@dataclass(frozen=True)
class Catalogue:
    """The tables of a catalogue.

    Attributes:
        clips: one row per recording, `CLIP_COLUMNS` and `where`.
        captions: one row per caption, `CAPTION_COLUMNS` and `where`.
        audible: the families that can be heard in a background, by (package, member).
        left_out: what cannot be used, with `package`, `member` and `why`.
        folders: where the recordings lie of a package that is a folder, by its name; such a package
            has no version.
    """

    clips: pd.DataFrame
    captions: pd.DataFrame
    audible: dict[tuple[str, str], list[str]]
    left_out: Sequence[dict[str, str]] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)


def read(folder: str | Path) -> Catalogue:
    """Read the catalogue in a folder: clips.tsv, captions.tsv and background_families.tsv.

    Raises ValueError naming file and line for: an empty caption, family, member or group; an
    unknown role, split or profile; an offset that is not after its onset; a recording listed twice;
    a caption that captions.tsv lacks or lists with another family; captions and families that read
    the same, and a text of two families.
    """
    folder = Path(folder)
    captions = read_table(folder / "captions.tsv", CAPTION_COLUMNS)
    raise_problems(captions, _caption_problems(captions))
    raise_problems(captions, text_problems(captions))
    clips = read_table(folder / "clips.tsv", CLIP_COLUMNS)
    raise_problems(clips, _profile_problems(clips))
    raise_problems(clips, clip_problems(clips, captions))
    backgrounds = read_table(folder / "background_families.tsv", ("package", "member", "families"))
    audible = {
        (row.package, row.member): split_list(row.families)
        for row in backgrounds.itertuples(index=False)
    }
    raise_problems(backgrounds, family_problems(backgrounds["families"], captions))
    return Catalogue(clips, captions, audible)


def select(catalogue: Catalogue, profile: str, only: Collection[str] = ()) -> Catalogue:
    """Return the catalogue with the clips of a profile alone; "none" has no clips.

    `only` restricts it to these packages, if there are any; of "none" there is nothing to restrict.
    Raises ValueError for an unknown profile, and for a package that has no clips in it.
    """
    if profile not in (*PROFILES, "none"):
        raise ValueError(f"profile {profile!r} is none of {[*PROFILES, 'none']}")
    if profile == "none":
        return replace(catalogue, clips=catalogue.clips[:0])
    profiles = PROFILES[: PROFILES.index(profile) + 1]
    in_profile = catalogue.clips["profile"].isin(profiles)
    if absent := sorted(set(only) - set(catalogue.clips.loc[in_profile, "package"])):
        names = sorted(catalogue.clips.loc[in_profile, "package"].unique())
        raise ValueError(f"profile {profile!r} has no package {absent}; it has {names}")
    if only:
        in_profile &= catalogue.clips["package"].isin(list(only))
    return replace(catalogue, clips=catalogue.clips[in_profile].reset_index(drop=True))


def check_splits(clips: pd.DataFrame, captions: pd.DataFrame) -> None:
    """Raise TableError, naming the rows, if held-out material leaks into training:

    - a `group` of near duplicates is in two splits;
    - a package with clips of the split `seen_captions` also has clips in training or validation
      (a folder, such as the user's own sounds, is no package);
    - a family with clips of the split `unseen_captions` has clips in another split, or a caption
      there, or one broader than it, names it.

    Takes the tables of the catalogue as well as those of `data/`.
    """
    leaks = [
        *_leaking_groups(clips),
        *_leaking_packages(clips),
        *_leaking_families(clips, captions),
    ]
    if leaks:
        more = [f"and {len(leaks) - 10} more"] if len(leaks) > 10 else []
        raise TableError("\n  ".join(["the splits leak:", *leaks[:10], *more]))


def names_pattern(families: Collection[str]) -> re.Pattern:
    """Return a pattern that finds the name of one of these families in a text, as whole words.

    >>> pattern = names_pattern({"cat"})
    >>> pattern.search("a Cat hisses")[0], pattern.search("cats fight")
    ('Cat', None)
    """
    names = "|".join(map(re.escape, sorted(families)))
    return re.compile(rf"\b({names})\b" if names else r"(?!)", re.IGNORECASE)


def split_list(text: str) -> list[str]:
    """Return the items of a list separated by "|".

    >>> split_list("a dog barks|dog bark"), split_list("")
    (['a dog barks', 'dog bark'], [])
    """
    return [item.strip() for item in text.split("|") if item.strip()]


def caption_of_key(captions: pd.DataFrame) -> dict[str, str]:
    """Return the caption that each text of a table of captions stands for, by `texts.key`.

    A broader caption (`parents`) stands for itself.
    """
    caption_of: dict[str, str] = {}
    for column in ("caption", "wordings", "parents"):
        for caption, cell in zip(captions["caption"], captions[column], strict=True):
            for text in split_list(cell):
                caption_of.setdefault(texts.key(text), text if column == "parents" else caption)
    return caption_of


def read_table(
    path: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a .tsv or .csv file as text: these columns, and `where`, file and line of each row.

    Texts are in the form of `texts.normal`. Names of files are as they stand, without blanks around
    them and with blanks for line breaks. Raises ValueError for a missing or an unknown column, see
    `tables.read`.
    """
    names = [*columns, *optional]
    rows = tables.read(path, columns, optional=optional, short_rows=True)
    table = [
        {
            name: (_one_line if name in FILE_COLUMNS else texts.normal)(row.fields.get(name, ""))
            for name in names
        }
        | {"where": row.where}
        for row in rows
    ]
    return pd.DataFrame(table, columns=[*names, "where"])


def _one_line(name: str) -> str:
    return " ".join(re.split(r"[\t\r\n]+", name)).strip()


Problems = Iterable[tuple[int, str]]  # position of a row, and what is wrong with it


class TableError(ValueError):
    """Tables that cannot be used. A notebook shows the message without where it was found out."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]  # IPython asks for it


def raise_problems(table: pd.DataFrame, problems: Problems) -> None:
    """Raise TableError that lists the first ten problems with file and line, if there are any."""
    messages = [f"{table['where'].iloc[row]}: {why}" for row, why in problems]
    if messages:
        more = [f"and {len(messages) - 10} more"] if len(messages) > 10 else []
        raise TableError("\n".join([*messages[:10], *more]))


def _caption_problems(captions: pd.DataFrame) -> Problems:
    listed, families = set(), texts.spellings(captions["family"])
    for row, caption in enumerate(captions.itertuples(index=False)):
        if not caption.caption or not caption.family:
            yield row, "no caption, or no family"
        if texts.key(caption.caption) in listed:
            yield row, f"caption {caption.caption!r} is listed twice"
        listed.add(texts.key(caption.caption))
        if (family := families[caption.family]) != caption.family:
            yield row, f"family {caption.family!r} is spelled {family!r} elsewhere"


def text_problems(captions: pd.DataFrame) -> Problems:
    """Yield the captions with a text, themselves or a wording, that one of another family has.

    Where either sounds, the other is labelled silent; so it would be said that the text is true and
    that it is not.
    """
    first: dict[str, tuple[str, str]] = {}
    for row, caption in enumerate(captions.itertuples(index=False)):
        for text in [caption.caption, *split_list(caption.wordings)]:
            other, family = first.setdefault(texts.key(text), (caption.caption, caption.family))
            if family != caption.family:
                yield (
                    row,
                    f"{text!r} is a text of {caption.caption!r} and of {other!r}, which are of "
                    f"the families {caption.family!r} and {family!r}: it can stand for one sound "
                    "only",
                )


def _profile_problems(clips: pd.DataFrame) -> Problems:
    for row, (profile, package) in enumerate(zip(clips["profile"], clips["package"], strict=True)):
        if profile not in PROFILES:
            yield row, f"profile {profile!r} is none of {list(PROFILES)}"
        if package == OWN:
            yield row, f"package {OWN!r} is what a user's own sounds are called"


def clip_problems(clips: pd.DataFrame, captions: pd.DataFrame) -> Problems:
    """Yield what is wrong with the rows of a table of clips."""
    family_of = dict(zip(captions["caption"], captions["family"], strict=True))
    listed = {}
    for row, clip in enumerate(clips.itertuples(index=False)):
        if empty := [name for name in _NEVER_EMPTY if not getattr(clip, name)]:
            yield row, f"no {', no '.join(empty)}"
            continue
        if "|" in clip.caption:
            yield row, f"caption {clip.caption!r} holds a |, which separates the items of a list"
        if clip.role not in SPLITS:
            yield row, f"role {clip.role!r} is none of {list(SPLITS)}"
            continue
        if clip.split not in SPLITS[clip.role]:
            yield row, f"split {clip.split!r} of a {clip.role} is none of {SPLITS[clip.role]}"
        if (clip.package, clip.member) in listed:
            yield row, f"{clip.member} is listed already: {listed[clip.package, clip.member]}"
        listed[clip.package, clip.member] = clip.where
        if why := _part_problem(clip.onset, clip.offset):
            yield row, why
        if clip.role == "foreground" and family_of.get(clip.caption) != clip.family:
            other = family_of.get(clip.caption)
            yield (
                row,
                f"caption {clip.caption!r} is of family {other!r}, not {clip.family!r}"
                if other
                else f"caption {clip.caption!r} is not in captions.tsv",
            )


_NEVER_EMPTY = ("package", "member", "role", "family", "caption", "group", "split")


def _part_problem(onset: str, offset: str) -> str:
    if not onset and not offset:
        return ""
    try:
        if 0 <= float(onset or 0) < float(offset or "inf"):
            return ""
    except ValueError:
        pass
    return f"onset {onset!r} and offset {offset!r} are not 0 <= onset < offset in seconds"


def family_problems(families: pd.Series, captions: pd.DataFrame) -> Problems:
    """Yield the lists of families with one that no caption has."""
    in_captions = set(captions["family"])
    for row, names in enumerate(families):
        for family in split_list(names):
            if family not in in_captions:
                yield row, f"{family!r} is no family of captions.tsv"


def _leaking_groups(clips: pd.DataFrame) -> Iterator[str]:
    n_splits = clips.groupby("group", sort=False)["split"].nunique()
    for group in n_splits.index[n_splits > 1]:
        yield f"group {group} is in two splits: {_listed(clips[clips['group'] == group])}"


def _leaking_packages(clips: pd.DataFrame) -> Iterator[str]:
    is_held_out = (clips["split"] == "seen_captions") & (clips["version"] != "")
    held_out = set(clips.loc[is_held_out, "package"])
    trained = clips[clips["package"].isin(held_out) & clips["split"].isin(["train", "valid"])]
    for package, rows in trained.groupby("package"):
        yield f"package {package} is held out, but has clips that are not: {_listed(rows)}"


def _leaking_families(clips: pd.DataFrame, captions: pd.DataFrame) -> Iterator[str]:
    foregrounds = clips[clips["role"] == "foreground"]
    is_unseen = foregrounds["split"] == "unseen_captions"
    unseen = set(foregrounds.loc[is_unseen, "family"])
    seen = foregrounds[~is_unseen]
    for family, rows in seen[seen["family"].isin(unseen)].groupby("family"):
        yield (
            f"family {family!r} is kept for unseen_captions, so a clip of it cannot be in "
            f"another split: {_listed(rows)}"
        )
    if not unseen:
        return
    names = names_pattern(unseen)
    trained = captions[captions["caption"].isin(seen["caption"]) & ~captions["family"].isin(unseen)]
    for row in trained.itertuples(index=False):
        for text in [row.caption, *split_list(row.wordings), *split_list(row.parents)]:
            if match := names.search(text):
                rows = seen[seen["caption"] == row.caption]
                yield (
                    f"{text!r}, a text for {row.caption!r}, names the family {match[0]!r}, which "
                    f"is kept for unseen_captions: {_listed(rows)}"
                )


def _listed(rows: pd.DataFrame) -> str:
    """The first three clips, with file and line if these are known."""
    columns = ["package", "member", "split", *[c for c in ("where",) if c in rows]]
    first = [" ".join(row) for row in rows[columns].head(3).itertuples(index=False)]
    return "; ".join(first) + (f"; and {len(rows) - 3} more" if len(rows) > 3 else "")
