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
    [table] = paper_tables.paper_tables(
        name, RESULTS, ["flam", "theirs"], {"clotho": "1000 of 1045"}
    )
    columns = table["columns"]
    named = {
        row["cells"][0]["text"]: dict(zip(columns, row["cells"], strict=True))
        for row in table["rows"]
        if not row["group"]
    }
    return table, named


@pytest.mark.parametrize(("name", "testset"), [("sed", "held_out"), ("retrieval", "clotho")])
def test_published_rows_stand_above_ours(name, testset):
    table, named = rows(name)
    known = [m for m, values in PUBLISHED[name].items() if any(t == testset for t, _ in values)]
    kinds = [row.get("kind") for row in table["rows"]]
    assert kinds == [None, *["published"] * len(known), None, "published", "first", ""]
    assert [m for m in named if m.endswith(", published")] == [f"{m}, published" for m in known]


def test_a_number_stands_in_its_column_with_its_coverage_above_it():
    _, named = rows("retrieval")
    column = "Clotho T→A R@1"
    assert named["MGA-CLAP*, published"][column]["text"] == "13.4"
    assert named["clips evaluated"][column]["text"] == "1000 of 1045"
    assert (named["theirs"][column]["text"], named["theirs"][column]["kind"]) == ("30.0", "best")
    _, named = rows("sed")
    assert named["clips evaluated"]["Held-out, seen AUROC"]["text"] == "6"


def test_a_set_that_was_not_evaluated_has_no_column():
    table, _ = rows("retrieval")
    assert table["columns"][1:] == [
        "Clotho T→A R@1", "Clotho T→A R@5", "Clotho A→T R@1", "Clotho A→T R@5"
    ]  # fmt: skip
    assert "left out" in table["notes"][-1]
    assert paper_tables.paper_tables("zero_shot", RESULTS, ["flam"], {}) == []


def test_captions_that_clips_share_are_told_beside_what_is_published():
    assert not any("words of another clip" in note for note in rows("retrieval")[0]["notes"])
    sizes = {"n_clips": 9, "n_captions": 45}
    flam = {"t2a_r1": 0.5, "n_shared": 4, "t2a_r1_own": 0.25, "a2t_r1_own": 0.4, **sizes}
    results = {"audiocaps": {"flam": flam, "difference": {}}}
    [table] = paper_tables.paper_tables("retrieval", results, ["flam", "theirs"], {})
    [note] = [note for note in table["notes"] if "words of another clip" in note]
    assert note.startswith("AudioCaps: 4 of 45 captions")
    assert note.endswith("FLAM 25.0 and 40.0.")


def test_the_recordings_of_the_paper_s_authors_stay_beside_ours():
    table, named = rows("sed")
    assert table["columns"][1:] == ["Held-out, seen AUROC", "Held-out (paper's) AUROC"]
    assert named["FLAM, published"]["Held-out (paper's) AUROC"]["text"] == "91.0"
    assert "the paper's own recordings" in named["theirs"]["Held-out (paper's) AUROC"]["why"]
