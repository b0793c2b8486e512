"""dvc.yaml, the notebooks, params.yaml and the imports of flamlib agree with each other.

DVC runs what is out of date and notebooks get what is in params.yaml; nobody checks that we
told them the truth. A dependency left out, a section renamed or a number that YAML reads as text
would show as a stale or a wrong result, long after the change. Here they fail in a second.
"""

import ast
import itertools
import json
import re
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import papermill
import pytest
import yaml
from dvc.repo import Repo
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from flamlib import paths, run_notebook
from flamlib.evaluation import ablation
from flamlib.experiment import provenance
from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import plain

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Notebooks of the ablation study: `flamlib.evaluation.run_study` runs them, and not `dvc repro`.
STUDY = [ROOT / f"notebooks/{name}.ipynb" for name in ("06_ablate", "07_compare", "08_dependency")]
# Of no stage: it makes nothing that the experiment reports.
ALONE = [ROOT / "notebooks/10_search.ipynb"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
DATA = yaml.safe_load((ROOT / "data.dvc").read_text())


class Stage(NamedTuple):
    """A stage, or one cell of a stage's matrix; paths as strings relative to the root."""

    name: str
    chosen: dict[str, str | int]  # the cell's place in the matrix; empty for a plain stage
    cmd: str
    deps: list[str]
    params: list[str]
    outs: dict[str, dict]  # path: options, metrics and plots included

    @property
    def notebook(self) -> Path:
        return ROOT / re.search(r"notebooks/\S+", self.cmd)[0]


def stages() -> list[Stage]:
    """Every stage of dvc.yaml that runs a notebook, a matrix written out."""
    found = []
    for name, entry in PIPELINE.items():
        if "notebooks/" not in entry["cmd"]:
            continue
        axes = entry.get("matrix", {})
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            text = json.dumps(entry)
            for axis, value in chosen.items():
                text = text.replace(f"${{item.{axis}}}", str(value))
            filled = json.loads(text)
            outs = {}
            for out in itertools.chain(*(filled.get(k, []) for k in ("outs", "metrics", "plots"))):
                outs |= out if isinstance(out, dict) else {out: {}}
            found.append(
                Stage(
                    "@".join([name, "-".join(map(str, values))]) if chosen else name,
                    chosen, filled["cmd"], filled["deps"], filled["params"], outs,
                )
            )  # fmt: skip
    return found


STAGES = stages()
each_stage = pytest.mark.parametrize(
    "stage", [pytest.param(s, id=s.name) for s in STAGES if s.notebook.exists()]
)
each_notebook = pytest.mark.parametrize("path", [pytest.param(n, id=n.stem) for n in NOTEBOOKS])


@cache
def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every syntax node of a notebook's code; a line of `%magic` would be a SyntaxError."""
    return [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell))]


def test_every_notebook_has_one_stage_or_is_of_the_study_or_alone():
    assert NOTEBOOKS, "no notebooks found"
    of_stages = {stage.name.split("@")[0]: stage.notebook for stage in STAGES}
    assert sorted([*of_stages.values(), *STUDY, *ALONE]) == NOTEBOOKS
    assert PIPELINE.keys() - of_stages == {"code"}


def test_dvc_accepts_the_pipeline():
    Repo(ROOT).index.check_graph()


@each_stage
def test_a_command_has_the_one_form(stage):
    """So that a reader who knows one stage knows them all."""
    number, name = stage.notebook.stem.split("_", 1)
    assert re.fullmatch(r"\d\d[a-z]?", number)
    assert name == stage.name.split("@")[0]
    choices = [str(value) for value in stage.chosen.values()]
    report = "_".join([stage.notebook.stem, *choices])
    declared = run_notebook.declared_parameters(stage.notebook)
    given = {"small": False} if "small" in declared else {}
    choice = "".join(f" -p {name} {value}" for name, value in (given | stage.chosen).items())
    paths = f"notebooks/{stage.notebook.name} reports/{report}.ipynb"
    assert stage.cmd == f"python -m flamlib.run_notebook {paths}{choice}"
    assert {*given, *stage.chosen} <= declared.keys()
    assert f"reports/{report}.ipynb" in stage.outs, "DVC keeps the executed notebook"
    assert f"reports/{report}.json" in stage.outs, "each stage says what came out, in numbers"


@each_stage
def test_a_stage_depends_on_the_digests_of_its_code_and_not_on_the_files(stage):
    name = stage.name.split("@")[0]
    assert f"artifacts/code/{name}.txt" in stage.deps
    assert [dep for dep in stage.deps if dep.startswith(("flamlib", "notebooks"))] == []


def test_the_first_stage_writes_the_digests():
    code = PIPELINE["code"]
    assert code["cmd"] == "python -m flamlib.experiment.provenance"
    assert code["deps"] == ["flamlib", "notebooks"]
    assert code["outs"] == [str(provenance.FOLDER)]


@each_stage
def test_a_stage_depends_only_on_what_exists_or_is_made(stage):
    made = {out for other in STAGES for out in other.outs} | {DATA["outs"][0]["path"]}
    made.add(str(provenance.FOLDER))
    for dep in stage.deps:
        whole = {dep, *map(str, PurePosixPath(dep).parents)}  # a file of a folder that is made
        parts = [out for out in made if PurePosixPath(dep) in PurePosixPath(out).parents]
        assert (ROOT / dep).exists() or whole & made or parts, f"nothing makes {dep}"
        # An executed notebook differs every time: what depends on it is never up to date.
        is_executed = dep.startswith("reports/") and dep.endswith(".ipynb")
        assert not is_executed, "executed notebooks are read by people only"


@each_stage
def test_results_to_review_are_in_git_and_the_rest_in_dvc(stage):
    for out, options in stage.outs.items():
        assert out.startswith(("artifacts/", "reports/")), f"{out}: data/ is what was given"
        in_git = out.startswith("reports/") and not out.endswith((".ipynb", ".html"))
        too_large = out == paths.FEATURES  # as quickly made again as copied
        assert options.get("cache", True) == (not in_git and not too_large), out


def test_a_fresh_clone_can_make_data_itself():
    assert "frozen" not in DATA, "a frozen import is never made, only pulled"
    assert DATA["outs"][0]["path"] == "data"
    assert DATA["deps"][0]["path"] in {out for stage in STAGES for out in stage.outs}


def test_whoever_makes_the_corpus_copies_it_at_once():
    """Or `dvc exp run` takes a copy of an earlier one for it: see test_data_folder.py.

    DVC restores no stage with an output that persists from an earlier run, without running it.
    """
    assert DATA["deps"][0]["path"] == paths.SOURCE
    assert paths.is_copy_of_source(ROOT)
    [corpus] = [stage for stage in STAGES if paths.SOURCE in stage.outs]
    assert "data_folder.refresh(places)" in "".join(code_cells(corpus.notebook))
    assert any(options.get("persist") for options in corpus.outs.values())


def test_every_section_is_used():
    of_study = {"ablate", "dependency"}
    used = {name.split(".")[0] for stage in STAGES for name in stage.params}
    assert set(PARAMS) == used | of_study


@pytest.mark.parametrize("arm", PARAMS["ablate"]["arms"])
def test_an_arm_changes_what_it_names(arm):
    config = load_config(ROOT / "params.yaml")
    changes = ablation.changes(arm, config.ablate)
    model, changed = ablation.configured(config, changes)
    assert model in config.objectives
    for name, value in changes.items():
        if name != "model":
            section, *keys = name.split(".")
            place = plain(getattr(changed, section))
            for key in keys:
                place = place[key]
            assert place == value, f"{arm}: {name}"


def test_the_experiment_does_not_wait_for_the_study():
    of_study = ("06_", "07_", "08_")
    for stage in STAGES:
        assert [dep for dep in stage.deps if Path(dep).name.startswith(of_study)] == []


@each_notebook
def test_parameters_are_read_before_any_work(path):
    """All in one cell, after that of the parameters; no other cell reads them again."""
    sections, parameters, first, *rest = code_cells(path)
    assert sections.endswith("globals().update(sections())")
    declared = run_notebook.declared_parameters(path)
    known = {"model", "arm", "seed", "small", "overrides", "only", "mixed"}
    if path in ALONE:
        known |= {"model_folder", "recordings", "most", "sentences", "example", "k"}
    assert declared.keys() <= known
    assert declared.get("small", True), "Run All is the quick run"
    assert set(declared) == {
        target.id for line in ast.parse(parameters).body for target in line.targets
    }, "the cell of parameters is the second"
    assert "places = paths.places(small=" in first
    assert "config = load_config(" in first
    assert "given=vars())" in first, "sections that papermill was given"
    for name in declared.keys() & {"small", "overrides"}:
        assert f"{name}={name}" in first
    assert not [cell for cell in rest if "load_config" in cell]


@each_notebook
def test_all_places_are_those_of_the_run(path):
    """A path of the project that does not go through `places` would be the whole run's."""
    text = "\n".join(code_cells(path))
    assert "paths.root(" not in text
    folders = set(re.findall(r"(?:root|places) / \"?(\w+)", text))
    assert folders <= {"catalogue", "downloads", "chosen"}, "what every run reads"


@each_notebook
def test_a_name_of_a_section_is_a_section(path):
    """`load_config(given=vars())` would take a dict of that name for values of the section."""
    for node in nodes(path):
        if isinstance(node, ast.Assign):
            for name in ast.walk(ast.Tuple(node.targets)):
                if isinstance(name, ast.Name) and name.id in PARAMS and name.id != "seed":
                    assert "config." in ast.unparse(node.value)


def numbers_of(path: Path) -> set[str]:
    if path.suffix == ".json":
        return set(re.findall(r'"(\w+)":', path.read_text(encoding="utf-8")))
    return {path.stem}


def test_no_file_in_git_holds_speeds():
    """They are others at each run: a clone would not stay clean."""
    listed = ["git", "ls-files", "-z", "--", "reports"]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        if (path := ROOT / name).is_file():
            speeds = {n for n in numbers_of(path) if n.endswith("_per_s")} | {"compute_share"}
            assert not speeds & numbers_of(path), name


@each_notebook
def test_papermill_knows_every_parameter(path, caplog):
    """It reads the cell line by line, and takes none with two `=` for an assignment."""
    known = papermill.inspect_notebook(str(path))
    assert known.keys() == run_notebook.declared_parameters(path).keys()
    assert caplog.text == ""


@each_notebook
def test_papermill_sets_what_params_yaml_has_by_its_name(path):
    """-p network.audio.tags False, as it is injected after the cell of the parameters."""
    given = {"network.audio.tags": False, "detect.captions": "[a dog barks, rain]", "seed": 4}
    notebook = parameterize_notebook(
        load_notebook_node(str(path)), given | {"train": {"n_steps": 3}}
    )
    names = {}
    for cell in [cell for cell in notebook.cells if cell.cell_type == "code"][:3]:
        exec(cell.source, names)
    config = load_config(ROOT / "params.yaml", given=names)
    assert (config.network.audio.tags, config.seed, config.train.n_steps) == (False, 4, 3)
    assert config.detect.captions == ["a dog barks", "rain"]


@each_notebook
def test_a_notebook_calls_and_defines_nothing(path):
    defines = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    assert [ast.unparse(node) for node in nodes(path) if isinstance(node, defines)] == []


@each_notebook
def test_a_notebook_in_git_has_not_been_run(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "language_info" not in notebook["metadata"], "strip it: make format"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "strip it: make format"
            assert cell["execution_count"] is None, "strip it: make format"


@each_notebook
def test_a_notebook_begins_with_its_title_and_purpose(path):
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    number = path.stem.split("_")[0].removeprefix("0")
    title = rf"# {number} · .+\n> .+"
    assert first["cell_type"] == "markdown"
    assert re.match(title, "".join(first["source"])), f"expected {title}"
