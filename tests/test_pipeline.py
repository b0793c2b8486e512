"""dvc.yaml, the notebooks, params.yaml and the imports of flamlib agree with each other.

DVC runs what is out of date and notebooks get what is in params.yaml; nobody checks that we
told them the truth. A dependency left out, a section renamed or a number that YAML reads as text
would show as a stale or a wrong result, long after the change. Here they fail in a second.
"""

import ast
import itertools
import json
import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest
import yaml
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

from flamlib import files, provenance
from flamlib.evaluation import ablation

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
# Two files, so that `dvc repro` in the root makes the experiment and not the ablations of it.
MAIN, STUDY = (
    yaml.safe_load((ROOT / path).read_text())["stages"]
    for path in ("dvc.yaml", "ablations/dvc.yaml")
)
PIPELINE = MAIN | STUDY
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


def test_every_notebook_has_one_stage():
    assert NOTEBOOKS, "no notebooks found"
    of_stages = {stage.name.split("@")[0]: stage.notebook for stage in STAGES}
    assert sorted(of_stages.values()) == NOTEBOOKS
    assert PIPELINE.keys() - of_stages == {"code"}


def test_dvc_accepts_the_pipeline():
    Repo(ROOT).index.check_graph()


@each_stage
def test_a_command_has_the_one_form(stage):
    """So that a reader who knows one stage knows them all."""
    number, name = stage.notebook.stem.split("_", 1)
    assert re.fullmatch(r"\d\d", number)
    assert name == stage.name.split("@")[0]
    choices = [str(value) for value in stage.chosen.values()]
    report = "_".join([stage.notebook.stem, *choices])
    choice = "".join(f" -p {axis} {value}" for axis, value in stage.chosen.items())
    given = f"notebooks/{stage.notebook.name} reports/{report}.ipynb -f params.yaml{choice}"
    if stage.name.split("@")[0] in MAIN:
        assert stage.cmd == f"python -m flamlib.run_notebook {given}"
    else:
        assert stage.cmd == f"papermill {given} -k python3 --no-progress-bar"
    assert f"reports/{report}.ipynb" in stage.outs, "DVC keeps the executed notebook"
    # The many of a study have a folder of their own.
    numbers = report.replace("_ablate_", "_ablate/")
    assert f"reports/{numbers}.json" in stage.outs, "each stage says what came out, in numbers"


@each_stage
def test_a_stage_depends_on_the_digests_of_its_code_and_not_on_the_files(stage):
    name = stage.name.split("@")[0]
    assert f"artifacts/code/{name}.txt" in stage.deps
    assert [dep for dep in stage.deps if dep.startswith(("flamlib", "notebooks"))] == []


def test_the_first_stage_writes_the_digests():
    code = MAIN["code"]
    assert code["cmd"] == "python -m flamlib.provenance"
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
        assert options.get("cache", True) == (not in_git), out


def test_a_fresh_clone_can_make_data_itself():
    assert "frozen" not in DATA, "a frozen import is never made, only pulled"
    assert DATA["outs"][0]["path"] == "data"
    assert DATA["deps"][0]["path"] in {out for stage in STAGES for out in stage.outs}


@each_stage
def test_params_fit_the_notebook(stage):
    """The sections a stage declares are the notebook's parameters: names, keys and types."""
    sections = {section: PARAMS[section] for section in map(section_of, stage.params)}
    files.check_parameters(stage.notebook, **stage.chosen, **sections)


def section_of(name):
    """A stage may depend on a part of a section: on one arm of the study, say."""
    section, *keys = name.split(".")
    place = PARAMS[section]
    for key in keys:
        place = place[key]
    return section


def test_every_section_is_used():
    assert set(PARAMS) == {section_of(name) for stage in STAGES for name in stage.params}


def test_the_study_runs_every_arm_and_no_other():
    matrix = STUDY["ablate"]["matrix"]
    assert matrix["arm"] == list(PARAMS["ablate"]["arms"])
    assert len(set(matrix["seed"])) >= 3
    [stage, *_] = [s for s in STAGES if s.name.startswith("ablate@")]
    for name, changes in PARAMS["ablate"]["arms"].items():
        chosen = ablation.changes(name, **PARAMS["ablate"])
        arm = ablation.changed({"model": "flam", **PARAMS}, chosen)
        arm = {k: v for k, v in arm.items() if k in files.declared_parameters(stage.notebook)}
        files.check_parameters(stage.notebook, arm=name, **arm)
        assert set(changes) <= set(chosen)


def test_the_experiment_does_not_wait_for_the_study():
    studied = {out for s in STAGES if s.name.split("@")[0] in STUDY for out in s.outs}
    for stage in STAGES:
        if stage.name.split("@")[0] in MAIN:
            assert not studied & set(stage.deps)


def test_no_number_is_secretly_text():
    """PyYAML, which papermill uses, reads 1e-4 as text; DVC reads it as a number."""
    assert load_yaml(ROOT / "params.yaml") == PARAMS

    def texts(value):
        children = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            return list(itertools.chain(*map(texts, children)))
        return [value] if isinstance(value, str) else []

    for text in texts(PARAMS):
        assert not re.fullmatch(r"[-+.\d][-+.\deE_]*", text), f"write {text} as YAML 1.1 has it"


@each_notebook
def test_no_name_of_a_section_is_used_otherwise(path):
    """papermill injects every section, so an undeclared one works there and nowhere else."""
    declared = files.declared_parameters(path).keys()
    for node in nodes(path):
        if isinstance(node, ast.Name):
            known = node.id not in PARAMS or node.id in declared
            assert known, f"{node.id} is not in the parameters cell"
        if isinstance(node, ast.alias):
            name = node.asname or node.name
            assert name not in declared, f"importing {name} hides the parameter {name}"


@each_notebook
def test_parameters_are_checked_before_any_work(path):
    parameters, first = code_cells(path)[:2]
    assert set(files.declared_parameters(path)) == {
        target.id for line in ast.parse(parameters).body for target in line.targets
    }, "the cell of parameters is the first"
    calls = [node for node in ast.walk(ast.parse(first)) if isinstance(node, ast.Call)]
    [check] = [c for c in calls if ast.unparse(c.func) == "files.check_parameters"]
    assert f"notebooks/{path.name}" in ast.unparse(check.args[0])
    checked = {keyword.arg: ast.unparse(keyword.value) for keyword in check.keywords}
    assert checked == {name: name for name in files.declared_parameters(path)}


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
    title = rf"# {int(path.stem[:2])} · .+\n> .+"
    assert first["cell_type"] == "markdown"
    assert re.match(title, "".join(first["source"])), f"expected {title}"
