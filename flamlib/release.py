"""Release a model: its light form, its thresholds and its card, in models/NAME.

    python -m flamlib.release [NAME] [--checkpoint FOLDER]     (make release)

takes the checkpoint of a run, the scores and the report of its evaluation and the licences of its
recordings, and writes all that `flam detect` needs. It scores some mixtures again: scores that were
not made by this checkpoint are refused, and the card says how much the smaller form changes. The
digest of the weights goes into the project's README, into the line that names the model.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flamlib import paths, release_card
from flamlib.data.corpus import packages
from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.evaluation import thresholds
from flamlib.experiment.config import load_config
from flamlib.metrics.clip_scores import ClipScores
from flamlib.models import caption_thresholds, light, released, weights
from flamlib.models.checkpoint import CARD, WEIGHTS
from flamlib.models.flam import FLAM
from flamlib.paths import Places
from flamlib.storage import files, tables

MODEL = "flam"  # of the scores and of the report
README = "README.md"
N_CLIPS = 8  # that are scored again
TOLERANCE = 0.02  # of a score, far above what rounding does and below what another model has
MAX_MB = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Release the model of a run; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flamlib.release", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "name", nargs="?", default=released.SMALL, help="of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--checkpoint",
        default=f"{paths.CHECKPOINTS}/{MODEL}",
        metavar="FOLDER",
        help="the run's model (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    try:
        places = paths.places(small=False)
        if (downloads := places.root / "downloads").is_dir():  # the towers' packages are there
            os.environ.setdefault(paths.PACKAGES, str(downloads))
        folder = release(places, given.name, checkpoint=places.path(given.checkpoint))
        sha256 = files.sha256(folder / WEIGHTS)
        put_digest(places.root / README, given.name, sha256)
    except (OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {n_bytes / 1e6:.1f} MB; SHA-256 of {WEIGHTS}: {sha256}, also in {README}")
    return 0


def release(places: Places, name: str, *, checkpoint: Path) -> Path:
    """Write models/NAME and return this folder.

    Args:
        places: Of the run; its scores, report, mixtures, bank and towers are read.
        name: Of the model.
        checkpoint: Folder of the run's model.

    Raises:
        FileNotFoundError: Something of the run is not there.
        ValueError: Another name than a folder can have; a checkpoint of no known commit; scores of
            another model; a model of more than `MAX_MB`.
    """
    if not released.is_name(name):
        raise ValueError(f"{name!r} cannot name a model: letters, digits, '.', '_' and '-' can")
    config = load_config(places.root / paths.PARAMS)
    model = FLAM.from_pretrained(checkpoint)
    about = dict(model.provenance or {})
    if not about.get("commit"):
        raise ValueError(f"{checkpoint}: training.json names no commit: how was it made?")
    scores = thresholds.read_scores(places.existing("artifacts/scores"), MODEL)
    metrics = json.loads(places.existing("reports/04_evaluate.json").read_text(encoding="utf-8"))
    licences = tables.read(
        places.existing(f"{paths.DATA}/licences.tsv"), ("licence", "package", "n_clips", "seconds")
    )
    catalogue = places.root / "catalogue"
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / name
        about["release"] = {"flamlib": version("flamlib"), "commit": paths.commit()}
        about["release"]["checkpoint"] = files.sha256(checkpoint / WEIGHTS)
        towers = _save(model, made, places, about)
        sha256 = files.sha256(made / WEIGHTS)
        small = FLAM.from_pretrained(made)
        changes = compare(small, scores, places)
        of_model = thresholds.compute(
            scores,
            small.known(scores.captions).numpy(force=True),
            model=sha256,
            smoothing=config.detect.smoothing,
            n_thresholds=config.evaluate.n_thresholds,
            novel=config.evaluate.novel_threshold if small.familiarity is not None else None,
        )
        caption_thresholds.write(made, of_model)
        card = release_card.text(
            name,
            about,
            sha256=sha256,
            changes=changes,
            metrics=metrics.get(MODEL, {}),
            thresholds=of_model,
            licences=[row.fields for row in licences],
            sources={p.name: p for p in packages.read_packages(catalogue / "packages.tsv")},
            towers=towers,
            frame_s=model.frame_s,
            seconds=training_s(checkpoint, about.get("parameters", {})),
        )
        (made / CARD).write_text(card, encoding="utf-8")
        n_bytes = sum(path.stat().st_size for path in made.iterdir())
        if n_bytes > MAX_MB * 1e6:
            raise ValueError(f"{name} has {n_bytes / 1e6:.1f} MB, more than {MAX_MB}: not released")
        out = places.root / released.FOLDER / name
        with files.atomic_folder(out) as folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
    return out


def compare(
    model: FLAM, scores: ClipScores, places: Places, *, n_clips: int = N_CLIPS
) -> dict[str, float]:
    """Score the first clips of validation again; return the largest and the mean change.

    Args:
        model: The model.
        scores: Those of the run's evaluation.
        places: Of the run; its mixtures and bank are read.
        n_clips: How many clips.

    Raises:
        ValueError: A score changes by more than `TOLERANCE`.
    """
    bank = Bank.open(places.existing(paths.BANK))
    mixtures = recipes.read(places.existing(f"{paths.MIXTURES}/valid.parquet"))[:n_clips]
    waveform = np.stack([recipes.render(bank, recipe) for recipe in mixtures])
    found = model.score(torch.from_numpy(waveform), bank.sample_rate, list(scores.captions))
    expected = np.stack(scores.scores[: len(mixtures)]).transpose(0, 2, 1)
    change = np.abs(found.numpy(force=True) - expected)
    if change.max() > TOLERANCE:
        raise ValueError(
            f"artifacts/scores/{MODEL} are scores of another model: one differs by "
            f"{change.max():.3f} from this checkpoint's; run notebook 04 again"
        )
    return {"largest": float(change.max()), "mean": float(change.mean())}


def training_s(checkpoint: Path, parameters: Mapping[str, Any]) -> float | None:
    """Return how long the training steps took, in seconds; None if it is not known."""
    path = checkpoint.with_name(f"{checkpoint.name}.speeds.tsv")
    if not path.is_file() or "batch_size" not in parameters:
        return None
    rows = tables.read(path, ("step", "clips_per_s"))
    steps = [row.number("step") for row in rows]
    return sum(
        n_steps * parameters["batch_size"] / row.number("clips_per_s")
        for n_steps, row in zip(np.diff([0, *steps]), rows, strict=True)
    )


def put_digest(readme: Path, name: str, sha256: str) -> None:
    """Write the digest of a model's weights into the line of a README that names them.

    Raises ValueError if there is no such line.
    """
    text = readme.read_text(encoding="utf-8")
    line = rf"(`{released.FOLDER}/{re.escape(name)}/{re.escape(WEIGHTS)}`:\s+)`[^`]*`"
    changed, n = re.subn(line, rf"\g<1>`{sha256}`", text)
    if n != 1:
        raise ValueError(
            f"{readme} has {n} places for the digest, expected one, of the form "
            f"`{released.FOLDER}/{name}/{WEIGHTS}`: `digest`"
        )
    files.atomic_write(readme, changed)


def _save(model: FLAM, folder: Path, places: Places, about: dict[str, Any]) -> list[weights.Tower]:
    """Save the light form; return the towers that it goes with."""
    caption = about.get("parameters", {}).get("network", {}).get("caption", {}).get("tower")
    names = {"audio": model.config["audio"]["tower"], "caption": caption}
    known = weights.read_towers(places.root / "catalogue")
    if strange := [name for name in names.values() if name not in known]:
        raise ValueError(f"catalogue/weights.tsv lists no packages of the tower {strange[0]!r}")
    light.save(
        model,
        folder,
        towers={part: known[name] for part, name in names.items()},
        weights={part: places.existing(f"{paths.WEIGHTS}/{n}") for part, n in names.items()},
        provenance=about,
        card="",
    )
    return [known[name] for name in names.values()]


if __name__ == "__main__":
    sys.exit(main())
