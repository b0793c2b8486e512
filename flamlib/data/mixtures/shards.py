"""Write mixtures with their audio to shards of a thousand or so, for any data loader.

    out/manifest.json          parameters, and the range and checksum of each shard
    out/train-00000.parquet    `recipes.MASKED` and a column `audio`: FLAC, as `datasets` has it
    out/train-00000.tar        or WebDataset: 00000000.flac, 00000000.json (the recipe) and so on

`datasets` 4 and later decodes audio by torchcodec and FFmpeg alone. Without them, the bytes:

    rows = datasets.load_dataset("parquet", data_files="out/*.parquet", split="train")
    rows = rows.cast_column("audio", datasets.Audio(decode=False))
    samples, sample_rate = soundfile.read(io.BytesIO(rows[0]["audio"]["bytes"]))

and of tar files, whose rows have the recipe under `json` (the package webdataset needs neither):

    rows = datasets.load_dataset(
        "webdataset", data_files="out/*.tar", split="train", features=shards.TAR_FEATURES
    )
    samples, sample_rate = soundfile.read(io.BytesIO(rows[0]["flac"]))

A shard depends on the bank, the rules, the seed, the split and its range alone: any process on any
machine writes the same bytes.
"""

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from flamlib.data.mixtures import mixing, mixture_files, recipes, source_table
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Recipe
from flamlib.experiment.params.sounds import MixtureConfig
from flamlib.storage import manifest
from flamlib.waveforms import audio, decibels

FORMS = {"parquet": "parquet", "webdataset": "tar"}  # file format, and suffix of its files
ROWS = 100  # of a row group in Parquet
TAR_FEATURES = datasets.Features(
    {
        "__key__": datasets.Value("string"),
        "__url__": datasets.Value("string"),
        "flac": datasets.Value("binary"),
        "json": dict(datasets.Features.from_arrow_schema(recipes.MASKED)),
    }
)
PER_CORE_S = 145  # mixtures that a processor core renders in a second, see docs/EXPERIMENTS.md
COMPRESSION = 0.0  # level of FLAC: the fastest of libsndfile


def write(
    bank: str | Path,
    rules: MixtureConfig,
    out: str | Path,
    *,
    seed: int,
    split: str,
    n: int,
    shard_size: int,
    form: str,
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Render the mixtures 0 to n - 1 of a split into the folder `out`; return its manifest.

    Shards that an earlier call with the same parameters has finished are kept, see
    `manifest.fill`; `flam verify` compares them with their checksums.

    Args:
        bank: folder of the bank.
        rules: how mixtures are made.
        out: the folder to fill.
        seed: of the mixtures.
        split: of the recordings.
        n: number of mixtures.
        shard_size: mixtures in a shard; the last may have fewer.
        form: "parquet" or "webdataset".
        n_jobs: processes.
        scheduler: of a dask cluster, see `parallel.each`.
        progress: show a progress bar.

    Raises:
        ValueError: the bank does not hold what mixtures of the split need, or an argument is out of
            range, such as more mixtures than the disk could ever hold; also what `manifest.split`
            and `manifest.fill` raise.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {sorted(FORMS)}, got {form!r}")
    ranges = manifest.split(n, shard_size)
    bank = Path(bank).resolve()
    opened = Bank.open(bank)
    mixing.check(opened, rules, split=split)
    _check_size(Path(out), n, round(rules.clip_s * opened.sample_rate))
    parameters = {
        "seed": seed,
        "split": split,
        "n": n,
        "shard_size": shard_size,
        "form": form,
        "sample_rate": opened.sample_rate,
        "rules": asdict(rules),
        "bank": _digest(bank),
    }
    jobs = [
        {"name": f"{split}-{k:05d}.{FORMS[form]}", "first": of.start, "stop": of.stop}
        for k, of in enumerate(ranges)
    ]
    return manifest.fill(
        out,
        parameters,
        jobs,
        partial(_render_shard, bank, rules, seed, split),
        n_jobs=n_jobs,
        scheduler=scheduler,
        progress=progress,
    )


def _check_size(out: Path, n: int, n_samples: int) -> None:
    """Refuse what could never fit: more than the whole disk even if FLAC made it a tenth."""
    needed = n * n_samples * 2 // 10
    there = next(folder for folder in [out, *out.resolve().parents] if folder.exists())
    disk = shutil.disk_usage(there).total
    if needed > disk:
        raise ValueError(
            f"{n:,} mixtures are at least {needed / 1e9:,.0f} GB and, at some {PER_CORE_S} per "
            f"second, {n / PER_CORE_S / 3600:,.0f} hours of a processor core; the disk of {out} "
            f"holds {disk / 1e9:,.0f} GB"
        )


def _render_shard(bank, rules, seed, split, path, job):
    """Write one shard."""
    opened = _open(bank)
    mixtures = [
        mixing.draw(opened, rules, seed=seed, split=split, index=i)
        for i in range(job["first"], job["stop"])
    ]
    _WRITERS[Path(job["name"]).suffix](path, opened, mixtures)
    return {}


def _write_parquet(path, opened, mixtures):
    # In the metadata, so that `datasets` decodes the column as it does its own audio folders.
    features = datasets.Features.from_arrow_schema(recipes.MASKED)
    features["audio"] = datasets.Audio(sampling_rate=opened.sample_rate)
    audio = pyarrow.field("audio", pyarrow.struct({"bytes": "binary", "path": "string"}))
    schema = recipes.MASKED.append(audio).with_metadata(features.arrow_schema.metadata)
    # In row groups of a hundred: no more of the audio is in memory at once, here or in a reader.
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, len(mixtures), ROWS):
            group = mixtures[first : first + ROWS]
            files = [
                {"bytes": flac(opened, recipe), "path": f"{recipe.index:08d}.flac"}
                for recipe in group
            ]
            table = recipes.to_table(group, recipes.MASKED).append_column(
                audio, pyarrow.array(files, type=audio.type)
            )
            writer.write_table(table.cast(schema))


def _write_tar(path, opened, mixtures):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for recipe in mixtures:
            row = json.dumps(_tar_row(recipe), ensure_ascii=False).encode()
            for suffix, content in (("flac", flac(opened, recipe)), ("json", row)):
                entry = tarfile.TarInfo(f"{recipe.index:08d}.{suffix}")  # no time and no owner
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def _tar_row(recipe: Recipe) -> dict[str, Any]:
    """The recipe with silence as a background of its own: `datasets` takes the types of all rows
    from the first five, and null has none."""
    silence = {"clip_id": "", "variant": 0, "start": 0, "gain": 0.0, "level_db": decibels.FLOOR_DB}
    row = recipe.as_row()
    return row | {"background": row["background"] or silence, "masker": row.get("masker", silence)}


_WRITERS = {".parquet": _write_parquet, ".tar": _write_tar}


def flac(bank: Bank, recipe: Recipe) -> bytes:
    """Return the audio of a recipe as the bytes of a FLAC file, mono, 16 bit."""
    samples = mixture_files.to_int16(recipes.render(bank, recipe))
    return audio.flac(samples, recipe.sample_rate, level=COMPRESSION)


@lru_cache(maxsize=1)
def _open(bank: Path) -> Bank:
    return Bank.open(bank)


def _digest(bank: Path) -> str:
    """A checksum of the parameters of a bank and its table of sources, not of its samples."""
    content = (bank / "bank.json").read_bytes() + (bank / source_table.TABLE).read_bytes()
    return hashlib.sha256(content).hexdigest()
