import pytest

from flamlib.report import paper_tables
from flamlib.report.published import PUBLISHED

RESULTS = {
    "seen_captions": {"flam": {"auroc_macro": 0.9, "n_clips": 6}},
    "clotho": {
        "flam": {"t2a_r1": 0.2, "n_clips": 1000},
        "theirs": {"t2a_r1": 0.3, "n_clips": 1000},
        "difference": {},
    },
}


def rows(name):
    table = paper_tables.paper_table(
        name, RESULTS, ["flam", "theirs"], {"esc50": "no folder given"}, {"clotho": "1000 of 1045"}
    )
    columns = table["columns"]
    named = {
        row["cells"][0]["text"]: dict(zip(columns, row["cells"], strict=True))
        for row in table["rows"]
        if not row["group"]
    }
    return table, named


@pytest.mark.parametrize("name", paper_tables.TABLES)
def test_published_rows_stand_above_ours(name):
    table, _ = rows(name)
    kinds = [row.get("kind") for row in table["rows"]]
    assert kinds == [None, *["published"] * len(PUBLISHED[name]), None, "published", "first", ""]


def test_a_number_stands_in_its_column_with_its_coverage_above_it():
    _, named = rows("retrieval")
    column = "Clotho T→A R@1"
    assert named["MGA-CLAP*"][column]["text"] == "13.4"
    assert named["clips evaluated"][column]["text"] == "1000 of 1045"
    assert named["clips evaluated"]["ASFX T→A R@1"]["text"] == "–"
    assert (named["theirs"][column]["text"], named["theirs"][column]["kind"]) == ("30.0", "best")
    _, named = rows("sed")
    assert named["clips evaluated"]["Held-out, seen AUROC"]["text"] == "6"


def test_a_set_that_was_skipped_says_why():
    _, named = rows("zero_shot")
    assert named["theirs"]["ESC-50"]["why"] == "no folder given"
    assert named["theirs"]["VGGSound"]["why"] == "not evaluated"
    assert "cannot be shared" in rows("sed")[1]["theirs"]["Held-out (paper's) AUROC"]["why"]
