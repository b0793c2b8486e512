"""The package as a stranger installs it: a wheel, in an environment that holds nothing else."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions, packages_distributions
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from sounds import RATE, noise, tone
from towers import sensitive_model, write_bert
from uv import find_uv_bin

pytestmark = pytest.mark.timeout(400)  # the first import of torch compiles all its modules

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"  # those that are released
CHECKPOINT = "artifacts/checkpoints/flam"  # as the README's example calls it


def run(*command, env=None, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, command)], env=env, cwd=cwd, capture_output=True, text=True)


def uv(*arguments, folder: Path) -> None:
    """Run uv, at first without the network: `make setup` leaves every package in uv's cache."""
    env = dict(os.environ)
    env.setdefault("UV_FIND_LINKS", ",".join(env.get("PIP_FIND_LINKS", "").split()))
    for network in (["--offline"], []):
        made = run(find_uv_bin(), *network, "--no-config", *arguments, env=env, cwd=folder)
        if made.returncode == 0:
            return
    raise AssertionError(made.stderr)


def test_every_pin_is_for_the_oldest_python_that_is_promised():
    """The first 3.11, as some have it: its packages were resolved with a later one."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = wanted.removeprefix(">=") + ".0"
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    needs = {
        f"{of.name} {of.version}": of.metadata.get("Requires-Python")
        for of in distributions()
        if canonicalize_name(of.name) in pinned and of.metadata.get("Requires-Python")
    }
    assert len(needs) > 100
    too_new = {name for name, need in needs.items() if not SpecifierSet(need).contains(oldest)}
    assert not too_new


@pytest.fixture(scope="session")
def wheel(tmp_path_factory, worker_id):
    """The wheel, built once for all processes of the test run and without network."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    source, out = shared / "install/source", shared / "install/dist"
    with FileLock(shared / "install.lock"):
        if not list(out.glob("*.whl")):
            shutil.rmtree(source, ignore_errors=True)
            # A copy, so that no older build's leftovers in the checkout get into the wheel.
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "flamlib", source / "flamlib", ignore=ignored)
            for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, source)
            if MODELS.is_dir():
                shutil.copytree(MODELS, source / "models")
            how = ["--wheel", "--no-build-isolation", "--python", sys.executable]
            uv("build", *how, "--out-dir", out, source, folder=shared)
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel):
    """The folder of commands of an environment that holds the wheel and what it requires.

    The versions are those of the lock, since these are in uv's cache; links to it, so that no run
    of the tests copies a gigabyte.
    """
    env = wheel.parents[1] / "env"
    with FileLock(env.with_suffix(".lock")):
        if not (env / "bin/flam").exists():
            uv("venv", "--clear", "--python", sys.executable, env, folder=env.parent)
            how = ["--link-mode", "symlink", "--constraints", ROOT / "requirements.lock"]
            uv("pip", "install", "--python", env, *how, wheel, folder=env.parent)
            # The locked torchaudio needs this beside the lock's CPU build of torch.
            fixed = run(env / "bin/python", ROOT / "scripts/fix_torchaudio.py")
            assert fixed.returncode == 0, fixed.stderr
    return env / "bin"


@pytest.fixture
def folder(tmp_path):
    """A folder with a recording and a tiny model, where the README's example looks for it."""
    sensitive_model(write_bert(tmp_path / "bert")).save_pretrained(tmp_path / CHECKPOINT)
    shutil.copytree(tmp_path / CHECKPOINT, tmp_path / "flam-small")
    samples = np.concatenate([noise(1.0), tone(800, 1.3), noise(1.0)])
    soundfile.write(tmp_path / "street.wav", samples, RATE)
    return tmp_path


@pytest.fixture
def call(installed, tmp_path):
    """Run a command of the environment in a folder outside the checkout, and nothing else's."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(command, *arguments):
        return run(installed / command, *arguments, env=env, cwd=tmp_path)

    return call


def test_the_wheel_holds_the_package_and_its_models_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [metadata] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        described = archive.read(metadata).decode()
    released = {path.relative_to(MODELS) for path in MODELS.rglob("*") if path.is_file()}
    own = [*ROOT.glob("flamlib/**/*.py"), *ROOT.glob("flamlib/inference/web/*")]
    assert names == {path.relative_to(ROOT).as_posix() for path in own} | {
        f"flamlib/released/{path.as_posix()}" for path in released
    }
    assert "\nDescription-Content-Type: text/markdown\n" in described


# Extras that are not in the environment of the tests, and what is imported of them.
APART_EXTRAS = ["crowsetta", "hoplite", "mteb"]
APART = {"crowsetta", "ml_collections", "mteb", "perch_hoplite"}


def test_what_the_package_imports_is_what_it_asks_for():
    """`dev` and `docs` are for a checkout; Jupyter, DVC and pip are run and not imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def asked(*extras):
        lines = chain.from_iterable(project["optional-dependencies"][extra] for extra in extras)
        named = {Requirement(line).name for line in [*project["dependencies"], *lines]}
        return {canonicalize_name(name) for name in named - {"flamlib"}}

    imported = set()
    for path in ROOT.glob("flamlib/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    imported -= sys.stdlib_module_names | {"flamlib", "compression"}  # the latter is 3.14's
    assert {canonicalize_name(name) for name in APART & imported} == asked(*APART_EXTRAS) - asked()
    imported -= APART
    providers = packages_distributions()
    found = {canonicalize_name(name) for module in imported for name in providers[module]}
    commands = ("train", "evaluate", "serve", "search", "onnx", "live")
    assert asked(*commands) - {"pip"} <= found
    assert found <= asked(*commands, "notebooks")


def test_the_base_is_small(installed):
    """Notebooks, DVC and what only training, evaluation or development use stay away."""
    [site] = installed.parent.glob("lib/python*/site-packages")
    there = {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"flamlib", "torch", "transformers", "soundfile"} <= there
    assert not there & {"datasets", "pandas", "pyarrow", "scikit_learn", "matplotlib", "dvc"}
    assert not there & {"distributed", "onnx", "jupyterlab", "pytest", "librosa", "accelerate"}


def test_help(call):
    told = call("flam", "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert re.search(r"^ +detect +\w", told.stdout, flags=re.MULTILINE)


def test_detection(call, folder):
    captions = ["a dog barks", "a bell"]
    asked = [argument for caption in captions for argument in ("-c", caption)]
    found = call("flam", "detect", "street.wav", *asked, "--threshold", 0, "--model", CHECKPOINT)
    assert found.returncode == 0, found.stderr
    header, *rows = csv.reader(found.stdout.splitlines(), delimiter="\t")
    assert header == ["filename", "onset", "offset", "event_label", "score"]
    assert [row[:3] for row in rows] == [["street.wav", "0.0", "3.3"]] * 2  # all frames reach it
    assert {row[3] for row in rows} == set(captions)


def test_models_are_listed(call):
    told = call("flam", "models")
    assert (told.returncode, told.stderr) == (0, "")
    names = {folder.name for folder in MODELS.glob("*/")}
    assert names <= set(re.findall(r"^  (\S+) ", told.stdout, flags=re.MULTILINE))
    assert "laion/clap-htsat-unfused" in told.stdout


def test_the_readme_s_example_in_python(call, folder):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    [example] = [block for block in blocks if "from flamlib import" in block]
    done = call("python", "-c", example)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("evaluate", ["thresholds", ".", "-o", "out", "--model", CHECKPOINT]),
        ("evaluate", ["adapt", ".", "-o", "out", "--model", CHECKPOINT]),
        ("evaluate", ["evaluate", ".", "--ground-truth", "a.tsv", "--durations", "b.tsv"]),
        ("onnx", ["export", CHECKPOINT, "out"]),
        ("serve", ["embed", ".", "out", "--model", CHECKPOINT]),
        ("search", ["search", "index", "a dog barks"]),
        ("train", ["mix", "out", "-n", "1"]),
        ("train", ["caption", "raw.tsv", "-o", "sounds.tsv"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_command_names_the_extra_that_it_lacks(call, tmp_path, extra, command):
    (tmp_path / CHECKPOINT).mkdir(parents=True)
    refused = call("flam", *command)
    assert (refused.returncode, refused.stdout) == (2, "")
    said = rf'flam {command[0]} needs \w+: pip install "flamlib\[{extra}\]"\n'
    assert re.fullmatch(said, refused.stderr)
    assert not (tmp_path / "out").exists()
