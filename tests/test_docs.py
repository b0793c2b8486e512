"""The documentation: it builds, its links lead somewhere, and what it names exists."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flamlib.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "catalogue/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOLDERS = "benchmarks|catalogue|configs|docs|flamlib|notebooks|reports/figures|scripts|tests"

each_page = pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def flam_commands() -> set[str]:
    [commands] = [
        action
        for action in main._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return set(commands.choices)


def parsed_parameters() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_there_are_pages_to_check():
    assert len(PAGES) > 50


@each_page
def test_a_page_names_commands_that_exist(page):
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE)) <= make_targets()
    named = re.findall(r"(?:^|`|bin/)flam ([a-z-]+)", text, flags=re.MULTILINE)
    assert set(named) <= flam_commands()


@each_page
def test_a_page_names_files_and_modules_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]+\.\w+", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
    for module in re.findall(r"\bflamlib(?:\.[a-z_]+)+", text):
        path = ROOT.joinpath(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").exists(), f"{page.name} names {module}"


@each_page
def test_a_page_names_parameters_that_exist(page):
    parameters = parsed_parameters()
    for name in re.findall(r"`([a-z]+(?:\.[a-z_]+)+)[`:=]", page.read_text(encoding="utf-8")):
        section, *keys = name.removesuffix(".onnx").split(".")
        value = parameters.get(section)
        for key in keys if section in parameters else []:
            assert key in value, f"{page.name} names {name}"
            value = value[key]


def test_the_readme_links_to_what_exists():
    """Links of the other pages are checked by the build of the site."""
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / link).exists(), f"README.md links to {link}"


def test_the_site_builds_strictly_and_needs_no_network(tmp_path):
    """`--strict` turns a broken link, a missing anchor or an unknown reference into an error."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr[-4000:]
    pages = sorted((tmp_path / "site").rglob("*.html"))
    names = {page.relative_to(tmp_path / "site").as_posix() for page in pages}
    assert {"index.html", "parameters.html", "cli.html", "api/losses.html"} <= names
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?https?:|<link[^>]*stylesheet[^>]*https?:"
    )
    assert [page.name for page in pages if fetched.search(page.read_text("utf-8"))] == []
    assert "<math" in (tmp_path / "site/method.html").read_text("utf-8")
