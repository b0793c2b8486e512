"""What a reader is told about the project is true: its tree, its commands, its environment."""

import hashlib
import json
import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def lines_of(name: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def lock() -> dict[str, str]:
    return dict(line.split("==") for line in lines_of("requirements.lock"))


def tree_paths(text: str) -> list[str]:
    """The paths of a tree drawn with ├── and └──, four columns to a level."""
    paths, parents = [], []
    for line in text.splitlines():
        if drawn := re.match(r"((?:│   |    )*)[├└]── (\S+)", line):
            depth, name = len(drawn[1]) // 4, drawn[2].rstrip("/")
            parents = [*parents[:depth], name]
            paths.append("/".join(parents))
    return paths


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_the_readme_draws_the_tree_as_it_is():
    """Packages, not modules: those are listed by their docstrings on the API page."""
    paths = tree_paths((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    packages = {f"flamlib/{path.parent.name}" for path in ROOT.glob("flamlib/*/__init__.py")}
    assert packages <= set(paths), "the tree leaves packages out"


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_command_says_what_it_is_for():
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make ([a-z]+) +\S", told.stdout, flags=re.MULTILINE)) == (
        make_targets()
    )


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


APART = {"crowsetta", "hoplite", "mteb"}  # extras that `all` and the lock are without


def test_the_lock_pins_what_every_extra_asks_for():
    locked = lock()
    groups = project()["optional-dependencies"]
    for extra in APART:
        del groups[extra]
    for wanted in map(Requirement, [*project()["dependencies"], *chain(*groups.values())]):
        if wanted.name == "flamlib":
            assert wanted.extras <= groups.keys()
        else:
            assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), wanted


def test_all_is_every_extra():
    groups = project()["optional-dependencies"]
    [everything] = map(Requirement, groups["all"])
    assert everything.extras == groups.keys() - {"all"} - APART


def test_the_lock_serves_machines_with_and_without_a_gpu():
    """A local version such as 2.13.0+cpu resolves nowhere else; CUDA's libraries follow torch."""
    locked = lock()
    assert not [f"{name}=={v}" for name, v in locked.items() if "+" in v or name == "triton"]
    assert not [name for name in locked if re.match(r"nvidia-(?!ml-py)|cuda-", name)]


def test_conda_installs_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    [python] = [entry for entry in conda if entry.startswith("python=")]
    assert project()["requires-python"] == ">=" + python.removeprefix("python=")


def test_the_licence_is_mit_and_ours():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License")
    assert "FLAM contributors" in licence


def test_no_file_knows_the_machine_it_was_written_on():
    home = re.compile(rb"(?<![\w.~$}/:-])/(?:home|Users|root|tmp|work|workspace|mnt)/\w")
    knowing = [path for path in tracked() if path != Path(__file__)]
    knowing = [path for path in knowing if home.search(path.read_bytes())]
    assert [str(path.relative_to(ROOT)) for path in knowing] == []


def test_git_holds_no_recordings_or_large_files_and_no_weights_but_those_released():
    heavy = {"wav", "flac", "ogg", "mp3", "npz", "npy", "pt", "pth", "ckpt", "pkl", "safetensors"}
    released = ROOT.glob("models/*/model.safetensors")
    others = set(tracked()) - set(released)
    assert [p.name for p in others if p.suffix[1:] in heavy] == []
    assert [p.name for p in others if p.stat().st_size > 2**20] == []


def test_released_models_are_small_and_whole_and_named_by_their_digests():
    """The README, the card and config.json give the SHA-256 of the weights that are there."""
    for config in ROOT.glob("models/*/config.json"):
        folder = config.parent
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 12e6
        sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert json.loads(config.read_text(encoding="utf-8"))["sha256"] == sha256
        thresholds = json.loads((folder / "thresholds.json").read_text(encoding="utf-8"))
        assert thresholds["model"] == sha256
        for page in (folder / "README.md", ROOT / "README.md"):
            assert sha256 in page.read_text(encoding="utf-8"), f"{page}: another digest"


def test_dvc_reports_nothing_to_anyone():
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "check_update = false" in config


def test_torchaudio_imports_beside_this_torch():
    """Beside a CPU torch it does so only after scripts/fix_torchaudio.py; transformers needs it."""
    torchaudio = pytest.importorskip("torchaudio", exc_type=ModuleNotFoundError)
    assert torchaudio.functional is not None
