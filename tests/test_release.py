import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import shelves
from heldouts import read_split, write_artifacts
from sounds import write_table

from flamlib import paths, release
from flamlib.evaluation.splits import predict_logits, write_scores
from flamlib.models import weights
from flamlib.models.flam import FLAM
from flamlib.storage import files

ROOT = Path(__file__).parents[1]
LINE = "SHA-256 of\n`models/flam-small/model.safetensors`: `not yet released`.\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a run leaves behind: data, mixtures, a model, its scores and their report."""
    root = tmp_path_factory.mktemp("run")
    write_artifacts(root)
    shelf = shelves.tower_shelf(root / "shelf")
    shutil.rmtree(root / "artifacts/weights")
    shutil.copytree(shelf.out, root / "artifacts/weights")
    shutil.copytree(shelf.catalogue, root / "catalogue")
    shutil.copy(ROOT / "params.yaml", root)
    (root / "dvc.yaml").touch()
    (root / "README.md").write_text(LINE)
    rows = [["CC0", "bells", "3", "4.5"], ["GPL-2", "horns", "2", "1.0"]]
    write_table(root / "data/licences.tsv", ["licence", "package", "n_clips", "seconds"], rows)
    (root / "reports").mkdir()
    report = {
        "flam": {"seen_captions": {"auroc_macro": 0.8765, "auroc_macro_low": 0.8, "map": None}}
    }
    (root / "reports/04_evaluate.json").write_text(json.dumps(report))

    model = shelves.trained_model(shelf)
    about = {"seed": 3, "n_steps": 7, "batch_size": 8, "network": {"caption": {"tower": "bert"}}}
    folder = root / paths.CHECKPOINTS / "flam"
    model.save_pretrained(folder, provenance={"commit": "abc123", "parameters": about})
    speeds = [["5", "4.0", "1"], ["7", "2.0", "1"]]
    columns = ["step", "clips_per_s", "compute_share"]
    write_table(folder.with_name("flam.speeds.tsv"), columns, speeds)
    split, bank, _ = read_split(root, "valid", frame_s=model.frame_s)
    logits = predict_logits(model, split, bank, batch_size=4, progress=False)
    write_scores(root / "artifacts/scores", {"valid": split}, {"valid": {"flam": logits}})
    return root, shelf


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of it, to work in."""
    root, shelf = made
    copy = shutil.copytree(root, tmp_path / "run")
    monkeypatch.chdir(copy)
    monkeypatch.setenv("FLAM_CACHE", str(root / "cache"))
    monkeypatch.setenv("FLAM_PACKAGES", str(shelf.downloads))
    return copy


def test_a_release_is_the_model_with_thresholds_card_and_digest(run):
    assert release.main([]) == 0
    folder = run / "models/flam-small"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "thresholds.json", "training.json", "README.md",
    }  # fmt: skip
    sha256 = files.sha256(folder / "model.safetensors")
    assert LINE.replace("not yet released", sha256) == (run / "README.md").read_text()
    model = FLAM.from_pretrained(folder)
    assert model.thresholds.model == sha256
    assert model.provenance["commit"] == "abc123"
    trained = FLAM.from_pretrained(run / paths.CHECKPOINTS / "flam")
    noise = np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32) / 10
    score, expected = (net.score(noise, 16_000, ["a tone"]).numpy() for net in (model, trained))
    assert score == pytest.approx(expected, abs=0.002)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in (sha256, "`abc123`, seed 3, 7 steps", "| bells | – | CC0 | 3 | 4.5 |", "0.876"):
        assert said in card
    assert release.main([]) == 0, "a second time"


def test_how_long_training_took_is_read(run):
    checkpoint = run / paths.CHECKPOINTS / "flam"
    assert release.training_s(checkpoint, {"batch_size": 8}) == 5 * 8 / 4 + 2 * 8 / 2
    assert release.training_s(checkpoint, {}) is None
    checkpoint.with_name("flam.speeds.tsv").unlink()
    assert release.training_s(checkpoint, {"batch_size": 8}) is None


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        release.main(arguments)
    assert left.value.code == 2
    assert not Path("models").exists()
    return capsys.readouterr().err


def test_scores_of_another_model_are_refused(run, made, capsys):
    other = shelves.trained_model(made[1], seed=5)
    other.save_pretrained(
        run / "other",
        provenance={"commit": "b", "parameters": {"network": {"caption": {"tower": "bert"}}}},
    )
    told = refused(capsys, "--checkpoint", "other")
    assert "artifacts/scores/flam are scores of another model" in told


def test_what_is_missing_is_named(run, capsys):
    assert "cannot name a model" in refused(capsys, "../flam")
    assert "nowhere is missing" in refused(capsys, "--checkpoint", "nowhere")
    path = run / paths.CHECKPOINTS / "flam/training.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"commit": None}))
    assert "training.json names no commit" in refused(capsys)
    path.write_text(json.dumps({"commit": "abc"}))
    assert "no packages of the tower None" in refused(capsys)
    path.write_text(json.dumps(about))
    (run / "reports/04_evaluate.json").unlink()
    assert "04_evaluate.json is not there" in refused(capsys)


def test_the_readme_has_one_place_for_the_digest(tmp_path):
    readme = tmp_path / "README.md"
    for text in ("no place", LINE + LINE):
        readme.write_text(text)
        with pytest.raises(ValueError, match=r"README.md has [02] places for the digest"):
            release.put_digest(readme, "flam-small", "0" * 64)


def test_the_project_s_readme_has_it(tmp_path):
    readme = shutil.copy(ROOT / "README.md", tmp_path)
    release.put_digest(Path(readme), "flam-small", "0" * 64)


def test_the_default_towers_have_packages():
    assert {"yamnet", "minilm"} <= weights.read_towers(ROOT / "catalogue").keys()
