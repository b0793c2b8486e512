import pytest
import set_files
from set_files import query, write_audio, write_text

from flamlib.data.datasets import moment_sets

GOOD = query("a_1", "a dog barks", "a", 10, [1, 2])


def windows(dataset):
    return {query.qid: list(query.windows) for clip in dataset.clips for query in clip.queries}


def test_castella_is_repaired_and_counted(tmp_path):
    found = moment_sets.castella(set_files.castella(tmp_path))
    assert found.missing == ["gone5678901"]
    assert windows(found) == {
        "--0w1YA1Hm4_1": [(7, 9), (1, 3)],
        "--0w1YA1Hm4_2": [(2, 4), (3, 5)],  # they overlap and stay
        "-zYxWvUtSr0_1": [(0, 2)],
        "-zYxWvUtSr0_2": [(5, 12)],
        "gone5678901_1": [(0, 60)],
    }
    assert found.repairs == {"clipped": 2, "beyond": 2, "zero_length": 1}
    assert found.notes == [
        "queries left out, as no window of theirs is in the recording: 1",
        "queries that read like another one of the same recording, each judged by its own windows: "
        "1",
    ]


def test_clotho_moment_has_dots_in_its_names(tmp_path):
    found = moment_sets.clotho_moment(set_files.clotho_moment(tmp_path))
    assert [clip.path.name for clip in found.present] == [
        "Wildlife_0.0_60.0.wav",
        "Wildlife_1.0_61.0.wav",
    ]
    assert (found.repairs, found.notes) == ({}, [])
    assert found.clips[0].queries[0].caption == "water splashes."


def test_a_recording_is_over_where_its_audio_ends(tmp_path):
    write_audio(tmp_path / "audio/a.wav", 1.5)
    write_text(tmp_path / "castella_test_release.jsonl", GOOD, "", encoding="utf-8-sig")
    found = moment_sets.castella(tmp_path)
    assert windows(found) == {"a_1": [(1, 1.5)]}
    assert found.repairs == {"clipped": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'qid': 1}", "line 2: not JSON"),
        ("[" * 5000, "line 2: not JSON"),
        ("[1]", "line 2: no 'qid'"),
        ('{"qid": "b", "query": "rain", "duration": 5, "vid": "b"}', "no 'relevant_windows'"),
        (query("a_1", "rain", "b", 5, [0, 1]), r"qid 'a_1' is listed twice, first in .*line 1"),
        (query("b", " \u200b", "b", 5, [0, 1]), "line 2: an empty query"),
        (query("b", "rain", None, 5, [0, 1]), "line 2: no vid"),
        (query("b", "rain", "b", "5", [0, 1]), "a duration of '5'"),
        (query("b", "rain", "b", float("nan"), [0, 1]), "a duration of nan"),
        (query("b", "rain", "b", True, [0, 1]), "a duration of True"),
        (query("b", "rain", "b", 5), r"no relevant_windows"),
        (query("b", "rain", "b", 5, [2, 1]), r"a window \[2, 1\], expected 0 <= onset"),
        (query("b", "rain", "b", 5, [-1, 1]), r"a window \[-1, 1\], expected 0 <= onset"),
        (query("b", "rain", "b", 5, [0, 1, 2]), r"a window \[0, 1, 2\], expected \[onset"),
        (query("b", "rain", "b", 5, [0, float("inf")]), r"a window \[0, inf\]"),
        (query("a_2", "rain", "a", 5, [0, 1]), r"'a' lasts 5 s, but 10 s in .*line 1"),
        ('{"qid": "\udcff"}', "line 2: not JSON"),
    ],
)
def test_what_is_no_query_is_refused_with_its_line(tmp_path, line, message):
    path = tmp_path / "castella_test_release.jsonl"
    path.write_bytes(f"{GOOD}\n{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as refused:
        moment_sets.castella(tmp_path)
    assert str(refused.value).startswith(f"{path}, line 2")


def test_a_file_without_queries_is_refused(tmp_path):
    write_text(tmp_path / "castella_test_release.jsonl", "")
    with pytest.raises(ValueError, match="holds no query"):
        moment_sets.castella(tmp_path)
