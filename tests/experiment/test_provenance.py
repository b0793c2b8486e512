"""Digests of code: text changes none, a number changes those that use it, and DVC acts on them."""

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from test_layers import FLAMLIB, MODULES, PACKAGES, file_of, imports
from test_pipeline import NOTEBOOKS, ROOT, code_cells, nodes

from flamlib.experiment import provenance

DRAWN_ONLY = {"corpus", "mix", "features", "train", "search"}  # these show figures and save none


def name_of(notebook):
    return notebook.stem.split("_", 1)[1]


@pytest.fixture
def project(tmp_path):
    """A copy of the code alone."""
    shutil.copytree(FLAMLIB, tmp_path / "flamlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return tmp_path


def digests(project):
    """`{stage: {path: digest}}`"""
    notebooks = sorted(project.glob("notebooks/*.ipynb"))
    return {name_of(n): provenance.code_files(n, root=project) for n in notebooks}


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def imported(notebook, tmp_path):
    """The modules that a notebook imports, found in another way: by the rules of test_layers."""
    script = tmp_path / "notebook.py"
    script.write_text("\n".join(code_cells(notebook)), encoding="utf-8")
    found, to_read = set(), imports(script)
    while to_read:
        found |= to_read
        to_read = set().union(*(imports(file_of(module)) for module in to_read)) - found
    return found


@pytest.mark.parametrize("notebook", [pytest.param(n, id=n.stem) for n in NOTEBOOKS])
def test_the_files_are_those_that_are_imported(notebook, tmp_path):
    modules = imported(notebook, tmp_path)
    if name_of(notebook) in DRAWN_ONLY:
        modules = {module for module in modules if not module.startswith("plots.")}
    packages = {p for p in PACKAGES if any(m.startswith(f"{p}.") for m in modules)}
    expected = {f"notebooks/{notebook.name}", "flamlib/__init__.py"}
    expected |= {f"flamlib/{module.replace('.', '/')}.py" for module in modules}
    expected |= {f"flamlib/{package.replace('.', '/')}/__init__.py" for package in packages}
    assert provenance.code_files(notebook, root=ROOT).keys() == expected


@pytest.mark.parametrize("module", sorted(MODULES))
def test_text_in_a_module_is_no_part_of_its_digest(module):
    source = file_of(module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    documented = [
        tree,
        *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)),
    ]
    for node in documented:
        if ast.get_docstring(node) is not None:
            node.body[0].value.value = "Otherwise."
    rewritten = ast.unparse(tree)  # in another layout, and without comments
    assert rewritten != source
    assert provenance.module_digest(rewritten) == provenance.module_digest(source)


def test_the_description_of_a_parameter_is_no_part_of_its_digest():
    digest = provenance.module_digest
    old = "x: int = parameter('steps', unit='s', low=1, paper='3')"
    assert digest(old) == digest("x: int = parameter('optimiser steps', low=1)")
    assert digest(old) != digest("x: int = parameter('steps', unit='s', low=2, paper='3')")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "y = 1"),
        ("def f(a, b=None): pass", "def f(a, b): pass"),
        ("f(*a)", "f(a)"),
        ("x = None", "x = 'None'"),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("x = {**a, b: 1}", "x = {a: b, **1}"),
        ("f('text')", "f('other')"),
        ("x: int", "x: float"),
    ],
)
def test_anything_else_is(old, new):
    assert provenance.module_digest(old) != provenance.module_digest(new)


def test_a_changed_number_changes_the_stages_that_use_it_and_no_other(project):
    before = digests(project)
    path = "flamlib/data/mixtures/levels.py"
    text = (project / path).read_text(encoding="utf-8")
    number = re.search(r"\b\d+\.\d+\b(?!.*\"\"\")", text.split('"""', 2)[2])[0]
    edit(project / path, number, number + "1")
    after = digests(project)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if path in before[name]}
    assert changed
    assert changed != set(before)
    for name in changed:
        different = before[name].items() ^ after[name].items()
        assert {file for file, _ in different} == {path}


def test_a_colour_trains_nothing_again(project):
    before = digests(project)
    style = project / "flamlib/plots/style.py"
    edit(style, "#", "#0") if '= "#' not in style.read_text() else edit(style, '= "#', '= "#0')
    after = digests(project)
    same = {name for name in before if before[name] == after[name]}
    assert same == DRAWN_ONLY | {"ablate"}


def test_text_of_a_notebook_changes_nothing_and_its_code_only_its_own_stage(project):
    before = digests(project)
    notebook = project / "notebooks/03_train.ipynb"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"][0]["source"] = ["# 3 · Otherwise"]
    content["cells"].insert(1, {"cell_type": "markdown", "metadata": {}, "source": ["More."]})
    first = next(c for c in content["cells"] if c["cell_type"] == "code")
    first["source"] = ["# a comment\n", *first["source"]]
    first |= {"execution_count": 3, "id": "other"}
    notebook.write_text(json.dumps(content), encoding="utf-8")
    assert digests(project) == before
    first["source"] = [*first["source"], "\nmore = 1"]
    notebook.write_text(json.dumps(content), encoding="utf-8")
    after = digests(project)
    assert {name for name in before if before[name] != after[name]} == {"train"}


def test_what_a_package_offers_on_demand_counts_where_it_is_asked_for(tmp_path):
    for path, source in {
        "flamlib/__init__.py": "def __getattr__(name):\n    from flamlib.deep import X",
        "flamlib/deep.py": "import json, flamlib.deeper",
        "flamlib/deeper.py": "",
        "flamlib/other.py": "def f():\n    from flamlib import deeper",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)
    for source, expected in {
        "from flamlib import X": {"__init__", "deep", "deeper"},
        "import flamlib": {"__init__", "deep", "deeper"},
        "from flamlib import other": {"__init__", "other", "deeper"},
        "from flamlib.deeper import *": {"__init__", "deeper"},
        "import json": set(),
    }.items():
        notebook = tmp_path / "a.ipynb"
        notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [source]}]}))
        found = provenance.code_files(notebook, root=tmp_path)
        assert {Path(path).stem for path in found} == expected | {"a"}, source


def test_no_module_is_imported_by_a_name_made_at_run_time():
    """The digests would not see it."""
    by_name = r"(.*\.)?(import_module|__import__|run_module|run_path)|exec|eval"
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FLAMLIB.rglob("*.py")]
    everything = [node for tree in trees for node in ast.walk(tree)]
    everything += [node for notebook in NOTEBOOKS for node in nodes(notebook)]
    calls = [ast.unparse(node.func) for node in everything if isinstance(node, ast.Call)]
    assert [call for call in calls if re.fullmatch(by_name, call)] == []


PIPELINE = """
stages:
  code:
    cmd: python -m flamlib.experiment.provenance
    deps: [flamlib, notebooks]
    outs: [artifacts/code]
  one: {cmd: echo one >> ran, deps: [artifacts/code/one.txt]}
  two: {cmd: echo two >> ran, deps: [artifacts/code/two.txt]}
"""


def test_dvc_runs_a_stage_again_when_its_code_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for module in ("experiment.provenance", "storage.files", "paths"):
        copied = tmp_path / file_of(module).relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file_of(module), copied)
    (tmp_path / "flamlib/__init__.py").touch()
    (tmp_path / "flamlib/work.py").write_text("'''Work.'''\nn = 1\n")
    notebooks = {"01_one": "from flamlib import work", "02_two": "x = 1"}
    for name, source in notebooks.items():
        cells = [
            {"cell_type": "markdown", "source": ["# Title"]},
            {"cell_type": "code", "source": [source]},
        ]
        (tmp_path / f"notebooks/{name}.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    repo = Repo.init(no_scm=True)

    def ran():
        (tmp_path / "ran").unlink(missing_ok=True)
        reproduced = [stage.addressing for stage in repo.reproduce()]
        told = (tmp_path / "ran").read_text().split() if (tmp_path / "ran").exists() else []
        assert [name for name in reproduced if name != "code"] == told
        assert repo.status() == {}
        return reproduced

    assert ran() == ["code", "one", "two"]
    (tmp_path / "flamlib/__pycache__").mkdir(exist_ok=True)
    (tmp_path / "flamlib/__pycache__/new.pyc").touch()
    assert ran() == []
    edit(tmp_path / "flamlib/work.py", "Work.", "Work, as it was.")
    edit(tmp_path / "notebooks/02_two.ipynb", "Title", "Another title")
    assert ran() == ["code"]
    edit(tmp_path / "flamlib/work.py", "n = 1", "n = 2  # more")
    assert ran() == ["code", "one"]
    edit(tmp_path / "notebooks/02_two.ipynb", "x = 1", "x = 2")
    assert ran() == ["code", "two"]
    (tmp_path / "flamlib/unused.py").touch()
    assert ran() == ["code"]
