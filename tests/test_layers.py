"""The import ladder: a module of flamlib imports only from those above it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import flamlib

FLAMLIB = Path(__file__).parents[1] / "flamlib"

# The rows of the ladder are the indented lines of the package's docstring.
ORDER = " ".join(re.findall(r"^    (.+)$", flamlib.__doc__, flags=re.MULTILINE)).split()


def imports(path: Path) -> set[str]:
    """The modules of flamlib that a file imports itself, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path.name}: write `from flamlib import ...`, not a relative one"
            )
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("flamlib.")}
    return found


def test_every_module_has_its_place():
    assert len(set(ORDER)) == len(ORDER)
    modules = {path.stem for path in FLAMLIB.glob("*.py")} - {"__init__"}
    assert modules <= set(ORDER), "place it in the docstring of flamlib/__init__.py"


def test_imports_only_go_down():
    for i, module in enumerate(ORDER):
        path = FLAMLIB / f"{module}.py"
        if path.exists():
            assert imports(path) <= set(ORDER[:i]), f"{module} imports from below"


def test_the_package_offers_the_model_and_imports_it_on_demand():
    assert imports(FLAMLIB / "__init__.py") == {"model"}
    loaded = "import sys, flamlib; assert 'torch' not in sys.modules; print(flamlib.FLAM.__name__)"
    run = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert run.stdout == "FLAM\n"


def test_every_module_has_its_tests():
    modules = {path.stem for path in FLAMLIB.glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert modules <= tests, f"no tests/test_<module>.py for {sorted(modules - tests)}"
