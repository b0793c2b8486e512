"""What a result was computed from, as digests of code, parameters and data.

    python -m flamlib.experiment.provenance

is the first stage of the pipeline. For each notebook it writes `artifacts/code/<name>.txt`, a line
per file: the notebook itself and each module of flamlib that it imports, directly or not, with a
digest of its syntax tree. The other stages depend on their one file, so a stage runs again when
code that it uses has changed, and not for a comment, a docstring, the description of a parameter,
the text between the cells of a notebook, or another layout of the same code.

A digest is the same in all versions of Python that read a file as the same tree. For the code here
that is so from 3.11 to 3.13; a later version may read it differently, and then stages run again.

Three things are not seen: modules that are imported by a name made up at run time (a test forbids
them), versions of other packages (they are in requirements.lock), and the drawing of figures that a
stage only shows and does not save. The last is intended: a colour does not train a model again.
"""

import ast
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from flamlib import paths
from flamlib.storage import files

FOLDER = Path(paths.CODE)
DIGESTS = ("code", "parameters", "data")
PACKAGE = "flamlib"
# A field of experiment.params is `parameter("what it means", unit=..., paper=..., low=...)`.
DECLARING, FOR_READERS = "parameter", ("unit", "paper")
# Modules of the drawing package count where a notebook itself imports one that saves figures.
DRAWING = f"{PACKAGE}.plots"
SAVING = {f"{PACKAGE}.plots.style", f"{PACKAGE}.report.document"}


def main() -> None:
    """Write the digests of all notebooks, whole or not at all."""
    root = paths.root()
    with files.atomic_folder(root / FOLDER) as folder:
        for notebook in sorted(root.glob("notebooks/*.ipynb")):
            name = notebook.stem.split("_", 1)[-1]
            (folder / f"{name}.txt").write_text(as_text(code_files(notebook, root=root)))


def code_files(notebook: str | Path, *, root: str | Path) -> dict[str, str]:
    """Find the code that a notebook runs: paths relative to the project's root, with digests.

    These are the notebook and the modules of flamlib that it imports, also within functions, with
    the `__init__` of their packages.
    """
    root, notebook = Path(root), Path(notebook)
    cells = [_read(cell) for cell in code_cells(notebook)]
    imported = {name for cell in cells for name in cell.imports}
    modules = _closure(imported, root)
    if not SAVING & imported:
        modules = {m: path for m, path in modules.items() if not _is_within(m, DRAWING)}
    found = {path: _source(path).digest for path in modules.values()}
    found[notebook] = _hash([cell.digest for cell in cells])
    return {path.relative_to(root).as_posix(): found[path] for path in sorted(found)}


def as_text(digests: Mapping[str, str]) -> str:
    """A line `path  digest` for each file."""
    return "".join(f"{path}  {digest}\n" for path, digest in digests.items())


def code_digest(notebook: str | Path, *, root: str | Path) -> str:
    """Compute one digest of all the code that a notebook runs, in 12 hexadecimal digits."""
    return _short(as_text(code_files(notebook, root=root)))


def values_digest(values: Any) -> str:
    """Compute the digest of named values, such as parameters or checksums of data; in any order."""
    return _short(json.dumps(values, sort_keys=True))


def record(
    notebook: str | Path, *, root: str | Path, parameters: Any, data: Mapping[str, str]
) -> dict[str, str | None]:
    """Record what a run of a notebook is computed from, to be kept beside its numbers.

    Args:
        notebook: the notebook that runs.
        root: the project's folder.
        parameters: all numbers that the result depends on, as JSON.
        data: name and checksum of all that is read.

    Returns:
        `commit`, which is for readers only, and the digests `code`, `parameters` and `data`.
    """
    return {
        "commit": paths.commit(),
        "code": code_digest(notebook, root=root),
        "parameters": values_digest(parameters),
        "data": values_digest(data),
    }


def same(kept: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether two records are of the same code, parameters and data, at whichever commit."""
    return {**kept, "commit": None} == {**about, "commit": None}


def versions(
    records: Mapping[str, Mapping[str, Any]], *, mixed: Collection[str] = ()
) -> dict[str, dict[str, list[str]]]:
    """Sort runs by what they are computed from, and refuse those that must not be compared.

    Args:
        records: what `record` returned, by the name of the run's file; a file without one has an
            empty record.
        mixed: of `code`, `parameters` and `data` those in which the runs may differ.

    Returns:
        For each of the three, the names of the files by digest.

    Raises:
        ValueError: the runs differ in something else, or a name in `mixed` is none of the three.
    """
    if unknown := set(mixed) - set(DIGESTS):
        raise ValueError(f"mixed = {sorted(unknown)}: only {', '.join(DIGESTS)} can be mixed")
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in DIGESTS}
    for name, kept in records.items():
        for kind in DIGESTS:
            found[kind].setdefault(kept.get(kind) or "not recorded", []).append(name)
    refused = {k: of for k, of in found.items() if len(of) > 1 and k not in mixed}
    if refused:
        lines = [
            f"  {kind} {digest}: {_few(names)}"
            for kind, of in refused.items()
            for digest, names in of.items()
        ]
        raise ValueError(
            "these runs differ in more than what is to be compared:\n"
            + "\n".join(lines)
            + "\nCompute the older ones again, or move them away. If you know that the difference "
            f"changes no number, allow it: mixed = {sorted({*mixed, *refused})}"
        )
    return found


def module_digest(source: str) -> str:
    """Compute the digest of a module's syntax tree, in which there are no comments, without its
    docstrings.

    >>> module_digest("x = 1  # one") == module_digest("x = (1)")
    True
    """
    return _read(source).digest


def code_cells(notebook: str | Path) -> list[str]:
    """Read the sources of a notebook's code cells."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


class _Source(NamedTuple):
    """What is to be known of a piece of code."""

    digest: str
    imports: frozenset[str]  # names of the package, `from a.b import c` as "a.b.c"
    at_once: frozenset[str]  # those that are not imported within a function


@cache
def _read(source: str) -> _Source:
    tree = ast.parse(source)
    everywhere, at_once = (_imports(tree, of_functions=within) for within in (True, False))
    return _Source(_hash(_plain(tree)), everywhere, at_once)


def _source(path: Path) -> _Source:
    return _read(path.read_text(encoding="utf-8"))


def _closure(names: set[str], root: Path) -> dict[str, Path]:
    """The modules of the package that are imported with these names, directly or not: their files.

    What a package offers on demand is imported in a function of its `__init__`: when it is asked
    for that, and not whenever one of its modules is imported.
    """
    found: dict[str, Path] = {}
    to_read, seen = set(names), set()
    while to_read:
        seen.add(name := to_read.pop())
        parts = name.split(".")
        # Importing a.b.c runs the __init__ of a and of a.b first.
        modules = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        files_of = {m: path for m in modules if (path := _file_of(m, root))}
        found |= files_of
        for path in files_of.values():
            source = _source(path)
            # The last is the package itself where a name is asked for that is no module of it.
            on_demand = not _is_package(path) or path == [*files_of.values()][-1]
            to_read |= (source.imports if on_demand else source.at_once) - seen
    return found


def _imports(tree: ast.Module, *, of_functions: bool) -> frozenset[str]:
    names = set()
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if of_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            names |= {alias.name.split(".")[0] for alias in node.names if not alias.asname}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"write `from {PACKAGE} import ...` and not a relative import")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if _is_within(name, PACKAGE))


def _is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def _file_of(module: str, root: Path) -> Path | None:
    stem = root.joinpath(*module.split("."))
    places = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in places if path.is_file()), None)


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def _plain(node: Any) -> Any:
    """A syntax tree as nested lists of names and values, without what says nothing to Python.

    Written out here, because `ast.dump` differs from version to version. Left out are positions,
    texts that stand alone (docstrings), what a parameter's declaration says for readers, and fields
    that are empty, among them those that only later versions have.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == DECLARING:
        keywords = [each for each in node.keywords if each.arg not in FOR_READERS]
        node = ast.Call(node.func, node.args[1:], keywords)
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return [type(node).__name__, *([name, value] for name, value in fields if value != [])]
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_text(item)]
    return [] if node is None else repr(node)


def _is_text(node: Any) -> bool:
    alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return alone and isinstance(node.value.value, str)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _hash(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    main()
