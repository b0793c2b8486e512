"""A public function of more than three parameters documents each of them under `Args:`."""

import ast
import re
from pathlib import Path

import pytest

FLAMLIB = Path(__file__).parents[1] / "flamlib"
MODULES = sorted(
    ".".join(path.relative_to(FLAMLIB).with_suffix("").parts)
    for path in FLAMLIB.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
N_UNDOCUMENTED = 3  # a function of at most so many parameters may do without


def public_functions(body, name=""):
    """(name, function, its docstring) of public functions and methods; a class speaks for its
    `__init__`."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{name}{node.name}.")
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    text = "\n".join(filter(None, map(ast.get_docstring, (node, method))))
                    yield f"{name}{node.name}", method, text
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{name}{node.name}", node, ast.get_docstring(node) or ""


def parameters(function, *, is_method):
    listed = [*function.args.posonlyargs, *function.args.args]
    static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
    listed = listed[1:] if is_method and not static else listed
    listed += function.args.kwonlyargs
    if function.args.kwarg is not None and function.args.kwarg.arg != "kwargs":
        listed.append(function.args.kwarg)
    return [a.arg for a in listed if not a.arg.startswith("_")]


def documented(text):
    """The names under `Args:`, `a, b:` counting as two."""
    section = re.search(r"^Args:\n((?:^ .*\n|^\n)*)", text + "\n", flags=re.MULTILINE)
    if section is None:
        return set()
    heads = re.findall(
        r"^ {4}((?:\*{0,2}\w+(?:, )?)+)(?: \(.*?\))?:", section[1], flags=re.MULTILINE
    )
    return {name.strip("* ") for head in heads for name in head.split(",")}


def undocumented(module):
    """`function: parameters` for every function that owes some."""
    path = FLAMLIB.joinpath(*module.split(".")).with_suffix(".py")
    for name, function, text in public_functions(ast.parse(path.read_text("utf-8")).body):
        asked = parameters(function, is_method="." in name or function.name == "__init__")
        missing = [p for p in asked if p not in documented(text)]
        if len(asked) > N_UNDOCUMENTED and missing:
            yield f"{name}: {', '.join(missing)}"


@pytest.mark.parametrize("module", MODULES)
def test_every_parameter_of_a_public_function_is_documented(module):
    assert list(undocumented(module)) == []


DOCUMENTED = """
def f(a, b, c, *, d):
    '''F.

    Args:
        a, b: two.
        d (float): one.
    '''
"""


def test_a_forgotten_parameter_is_found():
    [(_, function, docstring)] = public_functions(ast.parse(DOCUMENTED).body)
    assert documented(docstring) == {"a", "b", "d"}
    assert parameters(function, is_method=False) == ["a", "b", "c", "d"]
