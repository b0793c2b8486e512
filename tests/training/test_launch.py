import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from flamlib import files
from flamlib.data.mixtures import mixing
from flamlib.models import htsat
from flamlib.models.flam import FLAM
from flamlib.training import fit, launch

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
SHARED = ROOT / "configs/paper.yaml"
STAGES = {
    "flam_global": ROOT / "configs/paper_flam_global.yaml",
    "flam": ROOT / "configs/paper_flam.yaml",
}
ACCELERATE = sorted((ROOT / "configs/accelerate").glob("*.yaml"))

each_stage = pytest.mark.parametrize("model", STAGES)
each_config = pytest.mark.parametrize("path", [pytest.param(p, id=p.stem) for p in ACCELERATE])


def write(path, **sections):
    path.write_text(yaml.safe_dump(sections))
    return path


def test_an_overlay_replaces_keys_and_leaves_the_others(tmp_path):
    base = write(tmp_path / "a.yaml", seed=0, train={"lr": 0.1, "n": {"a": 1}}, mix={"n": 3})
    over = write(tmp_path / "b.yaml", seed=1, train={"n": {"b": 2}})
    again = write(tmp_path / "c.yaml", train={"lr": 0.3})
    assert launch.read_parameters(base) == yaml.safe_load(base.read_text())
    assert launch.read_parameters(base, over, again) == {
        "seed": 1,
        "train": {"lr": 0.3, "n": {"b": 2}},
        "mix": {"n": 3},
    }


@pytest.mark.parametrize(
    ("overlay", "reason"),
    [
        ({"trian": {}}, "b.yaml: trian is no section of"),
        ({"train": {"lrr": 1}}, r"b.yaml: .* has no train\.lrr"),
    ],
)
def test_an_overlay_that_fits_nowhere_is_refused(tmp_path, overlay, reason):
    base = write(tmp_path / "a.yaml", train={"lr": 0.1})
    with pytest.raises(ValueError, match=reason):
        launch.read_parameters(base, write(tmp_path / "b.yaml", **overlay))


def test_a_file_without_sections_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match=r"a\.yaml holds no sections"):
        launch.read_parameters(tmp_path / "a.yaml")


@each_stage
def test_the_papers_recipe_fits_what_trains(model):
    """Its keys are those of params.yaml, of their types; towers and rules take what it says."""
    parameters = launch.read_parameters(PARAMS, SHARED, STAGES[model])
    notebook = files.declared_parameters(ROOT / launch.NOTEBOOK)
    sections = {name: parameters[name] for name in notebook if name in parameters}
    towers = {"network": notebook["network"]}
    files.check_parameters(ROOT / launch.NOTEBOOK, model=model, **sections | towers)
    network = parameters["network"]
    assert network.keys() == notebook["network"].keys()
    assert network.keys() <= inspect.signature(FLAM).parameters.keys()
    audio = dict(network["audio"])
    assert audio.pop("tower") == "htsat"
    inspect.signature(htsat.HTSAT).bind(**audio)
    mixing.Rules(clip_s=parameters["audio"]["clip_s"], **parameters["rules"])
    assert parameters["audio"]["sample_rate"] == htsat.SAMPLE_RATE


@each_stage
def test_the_papers_recipe_is_all_that_trains(model):
    """Nothing of ours is left in its training but how many share it, and what MGA-CLAP needs."""
    train = yaml.safe_load(SHARED.read_text())["train"]
    train |= yaml.safe_load(STAGES[model].read_text())["train"]
    ours = yaml.safe_load(PARAMS.read_text())["train"]
    # The launcher knows how many processes there are, and only MGA-CLAP has hard negatives.
    assert ours.keys() - train.keys() == {"n_processes", "hardness"}
    rules = yaml.safe_load(PARAMS.read_text())["rules"]
    assert yaml.safe_load(SHARED.read_text())["rules"].keys() == rules.keys()


def test_all_numbers_can_be_written_for_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    launch.main(["flam", "--with", str(SHARED), "--write", str(tmp_path / "all.yaml")])
    written = yaml.safe_load((tmp_path / "all.yaml").read_text())
    ours = yaml.safe_load(PARAMS.read_text())
    assert written.keys() == ours.keys()
    assert written["mix"] == ours["mix"] | {"n_train": 1_000_000}
    assert written["audio"]["sample_rate"] == 48_000


@pytest.mark.parametrize("path", [SHARED, *STAGES.values()], ids=lambda path: path.stem)
def test_every_value_of_the_recipe_says_where_it_comes_from(path):
    values = re.findall(r"^  [a-z_]+: .*$", path.read_text(), flags=re.MULTILINE)
    assert values
    for line in values:
        assert re.search(r"# (paper|code|clap|unknown)", line), line


@each_config
def test_accelerate_reads_its_settings(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == {"one_gpu": 1, "eight_gpus": 8, "two_nodes": 16}[path.stem]
    assert config.num_machines == 1 + (path.stem == "two_nodes")
    assert "NO" not in str(config.distributed_type) or path.stem == "one_gpu"


def test_the_slurm_script_is_a_script():
    script = ROOT / "configs/slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert "configs/accelerate/two_nodes.yaml" in script.read_text()


@pytest.fixture(scope="module")
def tiny_project(tmp_path_factory):
    """A project whose recordings are tones and whose towers have learnt nothing."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "dvc.yaml", root)
    shutil.copy(PARAMS, root)
    (root / "notebooks").mkdir()
    shutil.copy(ROOT / launch.NOTEBOOK, root / "notebooks")
    tiny.write_corpus(root)
    (root / "artifacts/mixtures").mkdir(parents=True)
    (root / "bank").rename(root / "artifacts/bank")
    for name in ("train", "valid"):
        (root / f"{name}.parquet").rename(root / f"artifacts/mixtures/{name}.parquet")
    tiny.write_text_tower(root / "artifacts/weights/tiny_text")
    small = {k: tiny.TRAINING[k] for k in yaml.safe_load(PARAMS.read_text())["train"]}
    small |= {"n_steps": 2, "lr_caption": 0.0, "valid_every": 2}
    write(
        root / "small.yaml",
        audio={"clip_s": tiny.CLIP_S},
        rules=tiny.RULES,
        network={
            "audio": {"tower": "yamnet", "dropout": 0.0},
            "caption": {"tower": "tiny_text", "pooling": "mean"},
            "dim": 8,
        },
        train=small,
    )
    return root


def test_it_trains_what_the_notebook_would(tiny_project, monkeypatch):
    """Told of the fit alone: files, numbers and the number of processes."""
    told, wanted = {}, inspect.signature(fit.fit).parameters
    monkeypatch.setattr(fit, "fit", lambda out, **given: told.update(given, out=out))
    monkeypatch.chdir(tiny_project)
    monkeypatch.setenv("WORLD_SIZE", "3")
    launch.main(["flam_global", "--with", "small.yaml"])
    assert told["out"] == tiny_project / "artifacts/checkpoints/flam_global"
    assert told["n_processes"] == 3
    assert told["objective"]["frame"] == 0
    assert told["rules"]["max_polyphony"] == tiny.RULES["max_polyphony"]
    assert told.keys() == wanted.keys()


def test_a_model_without_an_objective_is_refused(tiny_project, monkeypatch, capsys):
    monkeypatch.chdir(tiny_project)
    with pytest.raises(SystemExit):
        launch.main(["flan", "--with", "small.yaml"])
    assert "no model 'flan'; there are flam, flam_global" in capsys.readouterr().err


@pytest.mark.timeout(400)
def test_accelerate_launches_it_on_two_cpus(tiny_project):
    """With the settings for eight GPUs, but for the number of processes."""
    config = ROOT / "configs/accelerate/eight_gpus.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command = ["--num_processes", "2", "--main_process_port", "0", "-m", "flamlib.training.launch"]
    given = ["flam", "--with", "small.yaml"]
    told = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*launcher, *command, *given], cwd=tiny_project, env=os.environ | told, check=True
    )
    folder = tiny_project / "artifacts/checkpoints/flam"
    about = json.loads((folder / "training.json").read_text())
    assert about["parameters"]["n_processes"] == 2
    assert [row["step"] for row in about["history"]] == [1, 2]
    assert FLAM.from_pretrained(folder).config["dim"] == 8
