"""The table as it is mapped, against a slow obvious one of lists."""

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.data.mixtures import source_table
from flamlib.data.mixtures.source_table import SourceTable

NUMBERS = {
    "shard": 0,
    "start": 0,
    "n_samples": 1,
    "scale": 0.5,
    "level_start": 0,
    "n_levels": 1,
    "onset": 0.0,
    "offset": 1.0,
    "level_db": -20.0,
    "peak": 0.5,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
RECORDING = st.tuples(
    st.sampled_from(["foreground", "background"]),
    st.sampled_from(["a", "é", "😀", "a b", ""]),
    st.sampled_from(["train", "valid"]),
    st.sampled_from(["", "p", "q"]),
    st.integers(1, 3),
)


def row(clip_id, variant=0, **given):
    texts = dict.fromkeys(("caption", "family", "group", "package"), "x")
    texts |= {"role": "foreground", "split": "train", "audible": []}
    return {"clip_id": clip_id, "variant": variant, **texts, **NUMBERS, **given}


def write(folder, rows):
    source_table.write(folder, pyarrow.Table.from_pylist(rows, schema=source_table.SCHEMA))
    return SourceTable.open(folder)


def twin(rows, role, split, package):
    """Rows by caption and recording, as lists."""
    found = {}
    for i in sorted(range(len(rows)), key=lambda i: [rows[i][c] for c in ORDER]):
        one = rows[i]
        if (one["role"], one["split"]) == (role, split) and package in (None, one["package"]):
            found.setdefault(one["caption"], {}).setdefault(one["clip_id"], []).append(i)
    return {caption: list(recordings.values()) for caption, recordings in found.items()}


ORDER = ("caption", "clip_id", "variant")


@given(recordings=st.dictionaries(TEXT, RECORDING, min_size=1, max_size=12))
def test_recordings_are_those_of_the_rows(tmp_path_factory, recordings):
    rows = [
        row(name, k, role=role, caption=caption, split=split, package=package)
        for name, (role, caption, split, package, n_variants) in recordings.items()
        for k in range(n_variants)
    ]
    table = write(tmp_path_factory.mktemp("table"), rows)
    for role in ("foreground", "background", "masker"):
        for split in ("train", "valid"):
            for package in (None, "", "p", "q", "none"):
                expected, found = (
                    twin(rows, role, split, package),
                    table.recordings(role, split, package),
                )
                assert list(found) == list(expected)
                as_lists = [[list(variants) for variants in of] for of in found.groups]
                assert as_lists == list(expected.values())
                flat = [variants for of in expected.values() for variants in of]
                assert [list(variants) for variants in found.groups.flat()] == flat
                assert found.groups.rows().tolist() == [i for variants in flat for i in variants]
                assert found.groups.first_rows().tolist() == [of[0][0] for of in as_lists]
                assert all([list(v) for v in found[c]] == of for c, of in expected.items())
                assert "no such caption" not in found
    for i, one in enumerate(rows):
        assert table.row(one["clip_id"], one["variant"]) == i
        assert table.row(one["clip_id"], 9) is None
        assert {name: column[i] for name, column in table.columns.items()} == one


def test_names_of_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(source_table, "_hash", lambda clip_id: len(clip_id))
    table = write(tmp_path, [row("aa"), row("bb"), row("bb", 1), row("c")])
    assert [table.row("bb", 1), table.row("aa", 0), table.row("c", 0)] == [2, 0, 3]
    assert table.row("dd", 0) is table.row("aa", 1) is table.row("none", 0) is None


def test_numbers_outside_a_group_are_refused_as_those_of_a_list(tmp_path):
    groups = write(tmp_path, [row("a"), row("b")]).recordings("foreground", "train").groups
    assert (len(groups), len(groups[0]), len(groups[0][0])) == (1, 2, 1)
    assert list(groups[-1][-1]) == [1]
    with pytest.raises(IndexError):
        groups[1]


def test_what_of_the_table_lies_in_files_takes_no_memory(tmp_path):
    """Of a hundred thousand rows: what opening and drawing allocate, in Arrow and in Python."""
    import tracemalloc

    import numpy as np

    n = 100_000
    names = [f"recording-{i:07d}" for i in range(n)]
    columns = {name: [value] * n for name, value in row("").items()}
    columns |= {"clip_id": names, "caption": [f"caption {i % 20_000}" for i in range(n)]}
    source_table.write(tmp_path, pyarrow.table(columns, schema=source_table.SCHEMA))
    del names, columns
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    table = SourceTable.open(tmp_path)
    groups = table.recordings("foreground", "train").groups
    for i in np.linspace(0, len(groups) - 1, 100).astype(int).tolist():
        name = table.columns["clip_id"][groups[i][0][0]]
        assert table.row(name, 0) == groups[i][0][0]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most + pyarrow.total_allocated_bytes() - before < 1e6
