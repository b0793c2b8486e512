import inspect
import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import tiny
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import plain
from flamlib.models import htsat
from flamlib.models.flam import FLAM
from flamlib.training import launch

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


@each_stage
def test_the_papers_recipe_fits_what_trains(model):
    """Its names are those of params.yaml, its values what they may be, towers take what it says."""
    config = load_config(PARAMS, overlays=[SHARED, STAGES[model]])
    assert {field.name for field in fields(config.network)} <= (
        inspect.signature(FLAM).parameters.keys()
    )
    audio = plain(config.network.audio)
    assert audio.pop("tower") == "htsat"
    inspect.signature(htsat.HTSAT).bind(**audio)
    assert config.audio.sample_rate == htsat.SAMPLE_RATE


@each_stage
def test_the_papers_recipe_is_all_that_trains(model):
    """Nothing of ours is left in its training but how many share it, and what MGA-CLAP needs."""
    train = yaml.safe_load(SHARED.read_text())["train"]
    train |= yaml.safe_load(STAGES[model].read_text())["train"]
    ours = yaml.safe_load(PARAMS.read_text())["train"]
    # The launcher knows how many processes there are, and only MGA-CLAP has hard negatives.
    assert ours.keys() - train.keys() == {"n_processes", "hardness"}
    mixture = yaml.safe_load(PARAMS.read_text())["mixture"]
    assert yaml.safe_load(SHARED.read_text())["mixture"].keys() == mixture.keys()


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


def test_the_slurm_script_starts_a_launcher_with_all_cores_on_each_machine(tmp_path):
    """Of SLURM there are stand-ins here: srun starts a task for each machine."""
    script, bin = ROOT / "configs/slurm.sh", tmp_path / "bin"
    bin.mkdir()
    (tmp_path / ".venv").symlink_to(".")
    programs = {
        "scontrol": "echo first; seq 100000",  # more than a pipe holds
        "srun": 'echo "$1" >> cores; shift; for i in 0 1; do SLURM_NODEID=$i "$@"; done',
        "accelerate": 'echo "$@" >> launched',
    }
    for name, body in programs.items():
        (bin / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin / name).chmod(0o755)
    said = re.search(r"^#SBATCH --cpus-per-task=(\d+)$", script.read_text(), re.MULTILINE)[1]
    given = {"SLURM_JOB_NODELIST": "[1-2]", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": said}
    env = {"PATH": f"{bin}:{os.environ['PATH']}", **given}
    asked = ["flam", "--set", "train.n_steps=7"]
    subprocess.run(["bash", script, *asked], check=True, cwd=tmp_path, env=env)
    assert (tmp_path / "cores").read_text() == f"--cpus-per-task={said}\n"
    launched = (tmp_path / "launched").read_text().splitlines()
    for rank, line in enumerate(launched):
        assert "--config_file configs/accelerate/two_nodes.yaml" in line
        assert f"--machine_rank {rank} --main_process_ip first" in line
        assert "--num_machines 2 --num_processes 16" in line
        assert line.endswith("-m flamlib.training.launch flam --set train.n_steps=7")
    assert len(launched) == 2


@pytest.fixture(scope="module")
def tiny_project(tmp_path_factory):
    """A project whose recordings are tones and whose towers have learnt nothing."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "dvc.yaml", root)
    shutil.copy(PARAMS, root)
    tiny.write_corpus(root)
    (root / "artifacts/mixtures").mkdir(parents=True)
    (root / "bank").rename(root / "artifacts/bank")
    for name in ("train", "valid"):
        (root / f"{name}.parquet").rename(root / f"artifacts/mixtures/{name}.parquet")
    tiny.write_text_tower(root / "artifacts/weights/tiny_text")
    config = plain(tiny.config(n_steps=2, lr_caption=0.0, valid_every=2))
    write(root / "small.yaml", **{k: config[k] for k in ("mixture", "network", "train")})
    return root


def test_it_trains_what_the_notebook_would(tiny_project, monkeypatch):
    """Told of the fit alone: parameters, files and the number of processes."""
    calls = []
    monkeypatch.setattr(launch, "fit", lambda *given, **folders: calls.append((given, folders)))
    monkeypatch.chdir(tiny_project)
    monkeypatch.setenv("WORLD_SIZE", "2")
    launch.main(["flam_global", "--with", "small.yaml", "--set", "train.n_steps=7"])
    [((config, model, inputs, out), folders)] = calls
    assert model == "flam_global"
    assert out == tiny_project / "artifacts/checkpoints/flam_global"
    assert (config.train.n_processes, config.train.n_steps) == (2, 7)
    assert config.objective(model).frame == 0
    assert config.mixture.max_polyphony == tiny.RULES["max_polyphony"]
    assert inputs.mixtures == tiny_project / "artifacts/mixtures/train.parquet"
    assert folders.keys() == {"resume", "curves"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["flan"], "no model 'flan'; known: flam, flam_global"),
        (["flam", "--set", "train.n_step=7"], "no parameter train.n_step; did you mean"),
        (["flam", "--with", "absent.yaml"], "absent.yaml"),
        (["flam", "--set", "train.init_from=absent"], "absent is not there"),
        (["flam", "--write", "."], "error: "),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny_project, monkeypatch, capsys, given, why):
    monkeypatch.chdir(tiny_project)
    with pytest.raises(SystemExit, match="2"):
        launch.main([*given, "--with", "small.yaml"])
    assert why in capsys.readouterr().err


def test_more_processes_than_share_a_step_are_refused(tiny_project, monkeypatch, capsys):
    monkeypatch.chdir(tiny_project)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SystemExit, match="2"):
        launch.main(["flam", "--with", "small.yaml"])
    assert "batch_size 4 cannot be shared evenly by 3 processes" in capsys.readouterr().err
