"""Pages of the site that are generated: each fact is written once, in the code or in a table.

    index.md             README.md
    parameters.md        the dataclasses of flamlib.experiment.params
    cli.md               the parser of `flam`
    api/*.md             the docstrings, a page for each package
    catalogue.md         catalogue/README.md
    decisions/index.md   the records in docs/decisions
    figures/             those of reports/figures

MkDocs calls the functions whose names begin with `on_`.
"""

import argparse
import ast
import dataclasses
import html
import re
import types
import typing
from pathlib import Path

import yaml
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FLAMLIB = ROOT / "flamlib"


def on_config(config):
    """List the pages of the packages in the navigation."""
    pages = [
        {f"flamlib.{name}".removesuffix(".flamlib"): f"api/{name}.md"}
        for name in (uri.removeprefix("api/").removesuffix(".md") for uri in api_pages())
        if name != "index"
    ]
    config.nav.append({"API": ["api/index.md", *pages]})
    return config


def on_files(files: Files, config) -> Files:
    """Add the generated pages and the figures."""
    pages = {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "catalogue.md": (ROOT / "catalogue/README.md").read_text(encoding="utf-8"),
        "parameters.md": parameters_page(),
        "cli.md": cli_page(),
        "decisions/index.md": decisions_page(),
        **api_pages(),
    }
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    figures = ROOT / "reports/figures"
    for path in sorted(figures.rglob("*.svg")):
        uri = f"figures/{path.relative_to(figures).as_posix()}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Point links that are right in the repository to where the same thing is in the site."""
    if page.file.src_uri == "index.md":
        markdown = re.sub(r"\]\(docs/decisions/?\)", "](decisions/index.md)", markdown)
        markdown = re.sub(r"\]\(docs/([\w/.-]+\.md)", r"](\1", markdown)
        markdown = markdown.replace("](catalogue/README.md", "](catalogue.md")
        return markdown.replace("](reports/figures/", "](figures/")
    markdown = markdown.replace("](../catalogue/README.md", "](catalogue.md")
    return markdown.replace("](../reports/figures/", "](figures/")


def on_page_content(html_text: str, **_) -> str:
    """Write equations as MathML, which browsers draw by themselves."""
    html_text = re.sub(
        r'<span class="arithmatex">\\\((.*?)\\\)</span>',
        lambda found: convert(html.unescape(found[1])),
        html_text,
        flags=re.DOTALL,
    )
    return re.sub(
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>',
        lambda found: convert(html.unescape(found[1]), display="block"),
        html_text,
        flags=re.DOTALL,
    )


def decisions_page() -> str:
    """Return the list of the records, newest last."""
    rows = ["| record | date | status |", "|---|---|---|"]
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        [title] = re.findall(r"^# (.+)$", text, flags=re.MULTILINE)
        [date] = re.findall(r"^- \*\*Date:\*\* (\S+)", text, flags=re.MULTILINE)
        [status] = re.findall(r"^- \*\*Status:\*\* (.+)$", text, flags=re.MULTILINE)
        rows.append(f"| [{title}]({path.name}) | {date} | {status} |")
    about = (
        "What was decided, when and why. A record is not rewritten when a later one replaces it: "
        "its status says by which. Measurements are in [Experiments](../EXPERIMENTS.md)."
    )
    return "\n".join(["# Decisions", "", about, "", *rows, ""])


def cli_page() -> str:
    """Return the commands of `flam` with all their arguments, from the parser."""
    from flamlib.cli.main import _parser as parser

    lines = ["# Command line", "", parser().description, ""]
    [commands] = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        usage = command.format_usage().removeprefix("usage: ").replace("\n       ", "\n")
        lines += [f"## flam {name}", "", " ".join((command.description or "").split()), ""]
        lines += ["```text", usage.rstrip(), "```", "", "| argument | meaning |", "|---|---|"]
        lines += [_argument(a) for a in command._actions if a.dest != "help"] + [""]
    return "\n".join(lines)


def _argument(action: argparse.Action) -> str:
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    values = [action.metavar] if action.metavar else action.choices or []
    meaning = (action.help or "") % {**vars(action), "prog": "flam"}
    if action.required and action.option_strings:
        meaning += " (required)"
    value = " or ".join(f"`{value}`" for value in values)
    return f"| {_cell(f'{names} {value}')} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def parameters_page() -> str:
    """Return a table for each section of params.yaml, from the dataclasses."""
    from flamlib.experiment.config import Config, load_config

    lines = [
        "# Parameters",
        "",
        "The values are in `params.yaml`, a section for each table below; names are joined by a "
        "dot, as in `dvc exp run -S train.n_steps=1000`. *Paper* is the value of "
        "[Wu et al., 2025](https://arxiv.org/abs/2505.05335), where it is known; "
        "`configs/paper.yaml` sets them, `configs/small.yaml` the sizes of a quick run. Where the "
        "type is a distribution, any of [these forms](formats.md#distributions) may be given.",
        "",
        *_section("", Config, load_config(ROOT / "params.yaml")),
    ]
    return "\n".join(lines)


def _section(name: str, section: type, value) -> list[str]:
    """Document a dataclass: a table of its plain fields, then the dataclasses in it."""
    rows, inner = [], []
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        dotted = f"{name}.{field.name}".lstrip(".")
        kind = hints[field.name]
        now = getattr(value, field.name, dataclasses.MISSING)
        found = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k)]
        found = [k for k in found if k.__name__ != "Distribution"]
        for each in found:
            title = f"{dotted}.MODEL" if isinstance(now, dict) else dotted
            if len(found) > 1:
                title += f", {each.__name__.removesuffix('Config')}"
            inner += _section(title, each, now if isinstance(now, each) else None)
        if not found:
            rows.append(_row(field, kind, now if value is not None else dataclasses.MISSING))
    title = [f"## {name}", "", _plain(section.__doc__), ""] if name else []
    head = ["| name | meaning | type, unit, range | value | paper |", "|---|---|---|---|---|"]
    return [*title, *head, *rows, "", *inner]


def _row(field: dataclasses.Field, kind, value) -> str:
    about = field.metadata
    bounds = [
        f"{sign}\u00a0{about[bound]}"
        for bound, sign in (("above", ">"), ("low", "≥"), ("high", "≤"))
        if about[bound] is not None
    ]
    cells = [
        f"`{field.name}`",
        about["doc"],
        ", ".join(filter(None, [_type(kind), about["unit"], *bounds])),
        "" if value is dataclasses.MISSING else f"`{_value(value)}`",
        about["paper"],
    ]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _type(kind) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{_value(each)}`" for each in typing.get_args(kind))
    if isinstance(kind, types.UnionType):
        return " or ".join(_type(each) for each in typing.get_args(kind))
    names = {types.NoneType: "null", str: "text", float: "number", int: "whole number"}
    names |= {bool: "true or false"}
    origin = typing.get_origin(kind)
    if origin in (dict, list, tuple):
        return {dict: "mapping", list: "list", tuple: "two numbers"}[origin]
    return names.get(kind, kind.__name__.lower())


def _value(value) -> str:
    """A value as YAML writes it, on one line and not too long."""
    from flamlib.experiment.parameters import plain

    text = yaml.safe_dump(plain(value), default_flow_style=True, width=1000).removesuffix("...\n")
    text = " ".join(text.split())
    return text if len(text) <= 40 else "see params.yaml"


def _plain(docstring: str) -> str:
    return " ".join(docstring.split())


def api_pages() -> dict[str, str]:
    """Return a page for each package and one that lists all modules."""
    pages, index = {}, ["# API", "", "Generated from the docstrings.", ""]
    for package, modules in _packages().items():
        uri = f"{package.removeprefix('flamlib').lstrip('.') or 'flamlib'}.md"
        text = [f"# {package}", "", _essay(package), ""]
        index += [f"## [{package}]({uri})", "", _first_line(package), ""]
        index += ["| module | |", "|---|---|"]
        for module in modules:
            index.append(f"| [`{module}`]({uri}#{module}) | {_cell(_first_line(module))} |")
            text += [f"## `{module}` {{#{module}}}", "", f"::: {module}", ""]
        index.append("")
        pages[f"api/{uri}"] = "\n".join(text)
    pages["api/index.md"] = "\n".join(index)
    return pages


def _packages() -> dict[str, list[str]]:
    """Modules by package, in the order of the lists in the packages' docstrings."""
    found = {}
    for init in sorted(FLAMLIB.rglob("__init__.py")):
        package = ".".join(init.parent.relative_to(ROOT).parts)
        names = {path.stem for path in init.parent.glob("*.py")} - {"__init__", "__main__"}
        listed = re.findall(r"^    (.+)$", _docstring(package), flags=re.MULTILINE)
        order = [name for name in " ".join(listed).split() if name in names]
        found[package] = [f"{package}.{name}" for name in [*order, *sorted(names - {*order})]]
    return {package: modules for package, modules in found.items() if modules}


def _docstring(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _first_line(module: str) -> str:
    """The first sentence of a docstring, which may go on over a line."""
    return " ".join(_docstring(module).split("\n\n")[0].split())


def _essay(package: str) -> str:
    return _docstring(package)
