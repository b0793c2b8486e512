"""The import ladder: a module of flamlib imports only from those above it."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

FLAMLIB = Path(__file__).parents[1] / "flamlib"
MODULES = {
    ".".join(path.relative_to(FLAMLIB).with_suffix("").parts)
    for path in FLAMLIB.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
}
PACKAGES = {
    ".".join(path.parent.relative_to(FLAMLIB).parts)
    for path in FLAMLIB.rglob("*/__init__.py")
    if path.parent != FLAMLIB
}


def rungs(package: str) -> list[str]:
    """The rows of a ladder are the indented lines of a package's docstring."""
    rows = re.findall(r"^    (.+)$", importlib.import_module(package).__doc__, flags=re.MULTILINE)
    return " ".join(rows).split()


def ladder(package: str = "") -> list[str]:
    """All modules in the order of their imports, `package.module` for those of a package."""
    order = []
    for name in rungs(f"flamlib.{package}".rstrip(".")):
        full = f"{package}.{name}".lstrip(".")
        order += ladder(full) if full in PACKAGES else [full]
    return order


ORDER = ladder()


def file_of(module: str) -> Path:
    return FLAMLIB.joinpath(*module.split(".")).with_suffix(".py")


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
        for name in names:
            if name.startswith("flamlib.") and name != "flamlib.FLAM":
                inside = name.removeprefix("flamlib.").split(".")
                starts = [".".join(inside[:n]) for n in range(1, len(inside) + 1)]
                found.add(next((start for start in starts if start in MODULES), name))
    return found


def test_every_module_has_its_place():
    assert len(set(ORDER)) == len(ORDER)
    assert set(ORDER) == MODULES, "place it in the docstring of its package"


def test_a_module_is_known_by_its_last_name():
    """So that `from flamlib.<package> import <module>` never hides another."""
    names = [name.split(".")[-1] for name in [*ORDER, *PACKAGES]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("module", ORDER)
def test_imports_only_go_down(module):
    above = set(ORDER[: ORDER.index(module)])
    assert imports(file_of(module)) <= above, f"{module} imports from below"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_holds_modules_and_does_nothing(package):
    [essay] = ast.parse(
        FLAMLIB.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8")
    ).body
    assert isinstance(essay, ast.Expr)


def test_flamlib_offers_the_model_and_the_reader_and_imports_them_on_demand():
    assert imports(FLAMLIB / "__init__.py") == {"models.flam", "waveforms.audio"}
    loaded = (
        "import sys, flamlib; assert 'torch' not in sys.modules; from flamlib import FLAM, audio; "
        "print(FLAM.__name__, audio.__name__)"
    )
    run = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert run.stdout == "FLAM flamlib.waveforms.audio\n"


@pytest.mark.parametrize("module", ORDER)
def test_every_module_has_its_tests(module):
    *package, name = module.split(".")
    assert Path(__file__).parent.joinpath(*package, f"test_{name}.py").exists()
