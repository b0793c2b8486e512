import pytest
from jinja2 import UndefinedError

from flamlib.report import page


def cell(text, **changes):
    return {
        "text": text,
        "kind": "",
        "small": "",
        "why": "",
        "share": None,
        "audio": None,
    } | changes


def content(**changes):
    table = {
        "title": "T",
        "columns": ["", "a <b>"],
        "rows": [
            {"group": "All"},
            {"group": None, "kind": "", "cells": [cell("x"), cell("1 & 2")]},
        ],
        "notes": ["n"],
        "left": False,
    }
    section = dict(id="one", title="One", texts=["<i>no</i>"], tables=[table], figures=[], clips=[])
    given = dict(title="Title", lead="", cards=[], sections=[section], foot="foot")
    return given | changes


def test_text_is_shown_as_it_is_and_figures_are_drawn():
    html = page.render(**content())
    assert "&lt;i&gt;no&lt;/i&gt;" in html
    assert "1 &amp; 2" in html
    figure = dict(svg="<svg></svg>", title="<b>", caption="<", is_wide=False)
    section = content()["sections"][0] | {"figures": [figure]}
    html = page.render(**content(sections=[section]))
    assert "<svg></svg>" in html
    assert "<h4>&lt;b&gt;</h4>" in html
    assert "<figcaption>&lt;</figcaption>" in html


def test_the_page_asks_no_other_machine_for_anything():
    html = page.render(**content())
    assert "http://" not in html
    assert "https://" not in html


def test_what_was_forgotten_is_named():
    given = content()
    del given["foot"]
    with pytest.raises(UndefinedError, match="foot"):
        page.render(**given)
