import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import write_table

from flamlib.data.mixtures.lexicon import COLUMNS, Lexicon
from flamlib.sound_events.events import Event, active_frames

FRAMES = {"n_frames": 8, "frame_s": 0.5, "clip_s": 3.8}

# caption, family, parents; wordings and split say nothing about truth
ROWS = [
    ("a dog barks", "dog", ["an animal makes a sound"]),
    ("a dog growls", "dog", ["an animal makes a sound"]),
    ("a dog pants", "dog", []),
    ("a cow moos", "cow", ["an animal makes a sound", "a farm can be heard"]),
    ("a bell rings", "bell", []),
    ("une cloche « sonne »", "bell", ["something rings"]),
    ("rain falls", "rain", ["water is heard"]),
    ("drops fall", "drop", ["rain falls", "water is heard"]),
]
CAPTIONS = [caption for caption, _, _ in ROWS]
PARENTS = sorted({parent for _, _, parents in ROWS for parent in parents} - {*CAPTIONS})
FAMILIES = sorted({family for _, family, _ in ROWS})


def table(rows):
    return pd.DataFrame(
        [
            [caption, family, "train", f"{caption}|{caption}!|x {caption}", "|".join(parents)]
            for caption, family, parents in rows
        ],
        columns=COLUMNS,
    )


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon(table(ROWS))


def label(lexicon, clips, heard, queries):
    return lexicon.label(clips, heard, queries, **FRAMES)


def slow_label(events, heard, query):
    """(active frames, known) of one query in one clip, from the docstring's rules."""
    true_of = [c for c, _, parents in ROWS if c == query or query in parents]
    own = {family for caption, family, _ in ROWS if caption in true_of}
    family_of = {caption: family for caption, family, _ in ROWS}

    active = [False] * FRAMES["n_frames"]
    for event in events:
        if event.caption in true_of:
            same = [e for e in events if e.caption == event.caption]
            frames = active_frames(same, [event.caption], **FRAMES)[0]
            active = [a or bool(b) for a, b in zip(active, frames, strict=True)]
    parents_of = {caption: parents for caption, _, parents in ROWS}
    doubtful = [
        e
        for e in events
        if e.caption not in true_of
        and (family_of[e.caption] in own or all(e.caption in parents_of[c] for c in true_of))
    ]
    return active, not doubtful and not own & set(heard)


events = st.builds(
    lambda onset, length, caption: Event(onset, onset + length, caption),
    st.floats(0, 3.5),
    st.floats(0.05, 4),
    st.sampled_from(CAPTIONS),
)
clips = st.lists(
    st.tuples(
        st.lists(events, max_size=4), st.sets(st.sampled_from([*FAMILIES, "wind"]), max_size=2)
    ),
    max_size=3,
)


@given(clips, st.lists(st.sampled_from(CAPTIONS + PARENTS), max_size=6))
def test_labels_agree_with_the_rules(lexicon, clips, queries):
    active, known = label(lexicon, [e for e, _ in clips], [h for _, h in clips], queries)
    assert active.shape == (len(clips), len(queries), FRAMES["n_frames"])
    assert known.shape == (len(clips), len(queries))
    for i, (sounding, heard) in enumerate(clips):
        for j, query in enumerate(queries):
            expected = slow_label(sounding, heard, query)
            assert (active[i, j].tolist(), bool(known[i, j])) == expected


def test_a_caption_is_true_while_it_sounds(lexicon):
    bark = Event(1.0, 2.0, "a dog barks")
    active, known = label(lexicon, [[bark]], [[]], ["a dog barks", "a cow moos"])
    assert active[0, 0].tolist() == [False, False, True, True, False, False, False, False]
    assert not active[0, 1].any()
    assert known.all()


def test_a_parent_is_true_while_any_of_its_children_sounds(lexicon):
    clip = [Event(0.0, 0.5, "a dog barks"), Event(2.0, 2.5, "a cow moos")]
    active, known = label(lexicon, [clip], [[]], ["an animal makes a sound", "a farm can be heard"])
    assert np.flatnonzero(active[0, 0]).tolist() == [0, 4]
    assert np.flatnonzero(active[0, 1]).tolist() == [4]
    assert known.all()


def test_another_caption_of_the_family_is_neither_true_nor_false(lexicon):
    clip = [Event(0.0, 1.0, "a dog barks")]
    queries = ["a dog growls", "a dog pants", "a cow moos", "a bell rings"]
    _, known = label(lexicon, [clip], [[]], queries)
    assert known[0].tolist() == [False, False, True, True]


def test_a_parent_is_in_doubt_while_a_relative_of_its_children_sounds(lexicon):
    """Whether panting is "a sound an animal makes" the table does not say."""
    _, known = label(lexicon, [[Event(0, 1, "a dog pants")]], [[]], PARENTS)
    in_doubt = [query for query, sure in zip(PARENTS, known[0], strict=True) if not sure]
    assert in_doubt == ["an animal makes a sound"]


def test_what_is_heard_in_a_background_is_in_doubt(lexicon):
    queries = ["rain falls", "water is heard", "a bell rings"]
    _, known = label(lexicon, [[]], [["rain"]], queries)
    assert known[0].tolist() == [False, False, True]


def test_a_family_that_no_caption_has_may_be_heard(lexicon):
    _, known = label(lexicon, [[]], [["wind"]], CAPTIONS)
    assert known.all()


def test_silence_is_known_to_hold_nothing(lexicon):
    active, known = label(lexicon, [[]], [[]], CAPTIONS + PARENTS)
    assert known.all()
    assert not active.any()


def test_no_clips_and_no_queries_are_no_special_case(lexicon):
    assert label(lexicon, [], [], CAPTIONS)[0].shape == (0, len(CAPTIONS), FRAMES["n_frames"])
    assert label(lexicon, [[]], [[]], [])[1].shape == (1, 0)


def test_many_children_at_once_are_still_one_truth():
    rows = [(f"sound {i}", f"family {i}", ["something"]) for i in range(256)]
    clip = [Event(0.0, 4.0, caption) for caption, _, _ in rows]
    active, _ = label(Lexicon(table(rows)), [clip], [[]], ["something"])
    assert active.all()


def test_a_caption_that_is_also_a_parent_is_true_of_both():
    rows = [("a bell rings", "bell", []), ("a church bell rings", "church", ["a bell rings"])]
    lexicon = Lexicon(table(rows))
    clips = [[Event(0, 4, caption)] for caption, _, _ in rows]
    active, known = label(lexicon, clips, [[], []], ["a bell rings", "a church bell rings"])
    assert active.all(axis=2).tolist() == [[True, False], [True, True]]
    assert known.tolist() == [[True, False], [True, True]]  # any bell may be that of a church
    assert lexicon.families("a bell rings") == {"bell", "church"}
    assert len(lexicon.wordings["a bell rings"]) == 3


@pytest.mark.parametrize("place", ["event", "query"])
def test_what_is_not_in_the_table_is_named(lexicon, place):
    clip = [Event(0, 1, "a cat meows")] if place == "event" else []
    with pytest.raises(KeyError, match="a cat meows"):
        label(lexicon, [clip], [[]], ["a cat meows"] if place == "query" else ["rain falls"])


def test_a_query_comes_first_among_its_wordings(lexicon):
    assert lexicon.wordings["rain falls"] == ["rain falls", "rain falls!", "x rain falls"]
    assert lexicon.wordings["water is heard"] == ["water is heard"]
    assert lexicon.wordings.keys() == {*CAPTIONS, *PARENTS}
    assert lexicon.parents["a cow moos"] == ["an animal makes a sound", "a farm can be heard"]
    assert lexicon.parents["a bell rings"] == []


# The file


def write(path, rows, columns=COLUMNS):
    write_table(path, columns, rows)
    return path


@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_a_table_is_read_as_it_stands(tmp_path, lexicon, prefix):
    path = write(tmp_path / "captions.tsv", table(ROWS).to_numpy().tolist())
    path.write_text(prefix + path.read_text(encoding="utf-8"), encoding="utf-8")
    pd.testing.assert_frame_equal(Lexicon.read(path).table, lexicon.table, check_dtype=False)


def test_quotation_marks_and_words_for_nothing_are_plain_text(tmp_path):
    captions = ['"stop" says a man', 'a 12" record', "null", "NA"]
    rows = [[caption, "speech", "train", caption, ""] for caption in captions]
    assert list(Lexicon.read(write(tmp_path / "captions.tsv", rows)).captions) == captions


def test_other_columns_and_short_rows_are_no_matter(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("note\t" + "\t".join(COLUMNS) + "\nx\train\train\ttrain\n")
    lexicon = Lexicon.read(path)
    assert lexicon.wordings == {"rain": ["rain"]}
    assert lexicon.parents == {"rain": []}


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_missing_column_is_named(tmp_path, missing):
    columns = [column for column in COLUMNS if column != missing]
    path = write(tmp_path / "captions.tsv", [], columns)
    with pytest.raises(ValueError, match=rf"captions.tsv, line 1: no column {missing}"):
        Lexicon.read(path)


def test_a_file_that_holds_nothing_is_called_empty(tmp_path):
    (tmp_path / "captions.tsv").write_text("")
    with pytest.raises(ValueError, match=r"captions.tsv: the file is empty; expected .* caption"):
        Lexicon.read(tmp_path / "captions.tsv")


def test_a_table_of_no_captions_is_one(tmp_path):
    lexicon = Lexicon.read(write(tmp_path / "captions.tsv", []))
    assert lexicon.captions == lexicon.wordings == lexicon.parents == {}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([" ", "dog", "train", "", ""], r"captions.tsv, line 3: empty caption"),
        (["a dog", "", "train", "", ""], r"captions.tsv, line 3: empty family"),
        (["rain", "dog", "train", "", ""], r"captions.tsv, line 3: caption 'rain' is listed twice"),
        (["RAIN\u00a0", "dog", "train", "", ""], r"line 3: caption 'RAIN.*' is listed twice"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, why):
    path = write(tmp_path / "captions.tsv", [["rain", "rain", "train", "", ""], row])
    with pytest.raises(ValueError, match=why):
        Lexicon.read(path)


def test_a_row_of_too_many_cells_is_refused(tmp_path):
    rows = [["rain", "rain", "train", "", ""], ["a", "b", "c", "d", "e", "f"]]
    with pytest.raises(ValueError, match=r"captions.tsv, line 3: 6 fields, expected 5"):
        Lexicon.read(write(tmp_path / "captions.tsv", rows))


ALIKE = pd.DataFrame(
    [
        ["a dog barks", "dog", "train", "", "an animal"],
        ["a small dog barking", "dog", "train", "", "an animal"],
        ["bark is stripped from a tree", "tree", "train", "", ""],
        ["hum", "hum", "train", "", ""],
        ["a fox barks", "fox", "unseen_captions", "", "an animal"],
    ],
    columns=COLUMNS,
)


def test_what_is_worded_alike_but_means_another_sound_resembles():
    book = Lexicon(ALIKE)
    assert book.resembling("a dog barks", 5) == ["bark is stripped from a tree"]
    assert set(book.resembling("bark is stripped from a tree", 5)) == {
        "a dog barks",
        "a small dog barking",
    }
    assert len(book.resembling("bark is stripped from a tree", 1)) == 1
    assert book.resembling("hum", 5) == []


def test_a_text_that_reads_the_same_is_no_hard_negative():
    rows = [
        ["a zither hums", "zither", "train", "a zither hums|Humming\u00a0strings", ""],
        ["A zither\u2028hums", "music", "train", "", ""],
        ["humming strings", "strings", "train", "", ""],
        ["a zither is tuned", "tuning", "train", "", ""],
    ]
    book = Lexicon(pd.DataFrame(rows, columns=COLUMNS))
    assert book.resembling(rows[0][0], 10) == ["a zither is tuned"]
    assert "a zither is tuned" in book.resembling(rows[1][0], 10)


def test_captions_of_other_sets_are_queries_of_which_nothing_is_known_here(lexicon):
    wider = Lexicon(lexicon.table, frozenset({"speech", "a dog barks", "an animal makes a sound"}))
    queries = [*CAPTIONS, *PARENTS]
    clips = [[Event(0.0, 1.0, "a dog barks")], [Event(1.0, 2.0, "a cow moos")]]
    heard = [[], ["rain"]]
    for one, other in zip(
        label(wider, clips, heard, queries), label(lexicon, clips, heard, queries), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    active, known = label(wider, clips, heard, ["speech", "a dog barks"])
    assert not active[:, 0].any()
    assert known.tolist() == [[False, True], [False, True]]
    assert label(wider, clips, heard, [])[1].shape == (2, 0)
    with pytest.raises(KeyError, match="nobody says this"):
        label(wider, clips, heard, ["nobody says this"])


def test_a_caption_of_another_set_that_reads_the_same_is_known_here(lexicon):
    wider = Lexicon(lexicon.table, frozenset({"A Dog\u00a0barks", "speech"}))
    clips = [[Event(0.0, 1.0, "a dog barks")], [Event(1.0, 2.0, "a cow moos")]]
    expected = label(lexicon, clips, [[], []], ["a dog barks"])
    found = label(wider, clips, [[], []], ["A Dog\u00a0barks"])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_caption_of_another_set_has_itself_for_a_wording_and_no_kin(lexicon):
    wider = Lexicon(lexicon.table, frozenset({"speech", "a dog barks"}))
    assert wider.wordings == lexicon.wordings | {"speech": ["speech"]}
    assert wider.parents == lexicon.parents | {"speech": []}
    assert wider.resembling("speech", 10) == []
    assert wider.resembling("a dog barks", 10) == lexicon.resembling("a dog barks", 10)


def test_labels_cost_what_is_asked_for_and_not_what_there_is():
    """A million captions, as many as the paper has, are not compared with every query."""
    n, rows = 20_000, [("a bell rings", "bell", [])]
    rows += [(f"sound {i}", f"family {i}", []) for i in range(n)]
    lexicon, queries = Lexicon(table(rows)), [f"sound {i}" for i in range(1000)]
    clips = [[Event(0.0, 1.0, f"sound {i}")] for i in range(3)]
    label(lexicon, clips, [[]] * 3, queries)  # what is kept is made here
    tracemalloc.start()
    try:
        active, known = label(lexicon, clips, [["family 7"]] * 3, queries)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(queries) * n / 4
    assert active.sum(axis=2).nonzero()[1].tolist() == [0, 1, 2]
    assert (~known).nonzero()[1].tolist() == [7, 7, 7]
