from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.sound_events.events import (
    Event,
    active_frames,
    count_frames,
    frame_blocks,
    frame_edges,
    merge,
    read_events,
    write_events,
)

CAPTIONS = ["a dog barks", "rain", "der Wind heult, „laut“"]
times = st.floats(0, 10).map(lambda t: round(t, 3))
events_inside = st.builds(
    lambda onset, duration, caption: Event(onset, onset + duration, caption),
    st.floats(0, 9),
    st.floats(0.001, 1),
    st.sampled_from(CAPTIONS),
)


def slow_active_frames(events, captions, n_frames, frame_s, clip_s):
    """The definition, one frame at a time."""

    def fills(event, frame):
        start, end = frame * frame_s, min((frame + 1) * frame_s, clip_s)
        overlap = min(event.offset, end) - max(event.onset, start)
        return overlap > 0 and overlap + 1e-9 >= min(end - start, event.offset - event.onset) / 2

    return [
        [any(e.caption == c and fills(e, frame) for e in events) for frame in range(n_frames)]
        for c in captions
    ]


@given(st.lists(events_inside, max_size=6), st.sampled_from([10.24, 10.0, 9.93]))
def test_it_agrees_with_the_definition(events, clip_s):
    fast = active_frames(events, CAPTIONS, n_frames=32, frame_s=0.32, clip_s=clip_s)
    assert fast.tolist() == slow_active_frames(events, CAPTIONS, 32, 0.32, clip_s)


@pytest.mark.parametrize("clip_s", [1.0, 0.97, 1.27, 1.28])
def test_what_lasts_to_the_end_of_a_clip_is_active_to_the_end(clip_s):
    event = Event(0.3, clip_s, "rain")
    n_frames = count_frames(clip_s, 0.32)
    [active] = active_frames([event], ["rain"], n_frames=n_frames, frame_s=0.32, clip_s=clip_s)
    assert active.tolist() == [False, *[True] * (n_frames - 1)]


@given(events_inside)
def test_an_event_inside_the_clip_always_fills_a_frame(event):
    assert active_frames([event], [event.caption], n_frames=32, frame_s=0.32, clip_s=10.0).any()


def test_a_frame_that_begins_before_the_end_is_counted():
    assert [count_frames(s, 0.32) for s in (10.0, 0.1, 0.64, 0.64001, 9.6)] == [32, 1, 2, 3, 30]


def test_half_a_frame_is_enough_and_less_is_not():
    active = active_frames([Event(0.5, 2.4, "rain")], ["rain"], n_frames=4, frame_s=1.0, clip_s=4.0)
    assert active.tolist() == [[True, True, False, False]]


def test_no_event_no_caption_and_no_duration_are_not_special_cases():
    frames = {"n_frames": 3, "frame_s": 1.0, "clip_s": 3.0}
    assert not active_frames([], ["rain"], **frames).any()
    assert active_frames([Event(0, 1, "rain")], [], **frames).shape == (0, 3)
    assert not active_frames([Event(1, 1, "rain")], ["rain"], **frames).any()


def test_a_caption_asked_twice_is_answered_twice():
    frames = {"n_frames": 1, "frame_s": 1.0, "clip_s": 1.0}
    active = active_frames([Event(0, 1, "rain")], ["rain", "rain"], **frames)
    assert active.all()


@given(st.lists(events_inside, max_size=8))
def test_merging_changes_no_instant(events):
    joined = merge(events)
    for instant in np.linspace(0, 10, 257):
        for caption in CAPTIONS:
            sounds = [
                any(c == caption and a <= instant < b for a, b, c in e) for e in (events, joined)
            ]
            assert sounds[0] == sounds[1]
    for caption in CAPTIONS:
        own = [e for e in joined if e.caption == caption]
        assert all(a.offset < b.onset for a, b in pairwise(own))
    assert merge(joined) == sorted(joined)  # those of equal onset may change places


def test_touching_events_of_one_caption_are_one():
    joined = merge([Event(1, 2, "rain"), Event(0, 1, "rain"), Event(1, 2, "wind")])
    assert joined == [Event(0, 2, "rain"), Event(1, 2, "wind")]


@pytest.mark.parametrize("name", ["events.tsv", "events.CSV"])
@given(st.dictionaries(st.sampled_from(["a.wav", "b, ü.wav", 'c "2"']), st.lists(events_inside)))
def test_a_table_is_read_as_it_was_written(tmp_path_factory, name, events):
    path = tmp_path_factory.mktemp("events") / name
    write_events(path, events)
    assert read_events(path) == events


def test_a_table_from_windows_is_read(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_bytes(
        b"\xef\xbb\xbffilename\tonset\toffset\tevent_label\r\na.wav\t0.5\t1\train\r\nb.wav\r\n\r\n"
    )
    assert read_events(path) == {"a.wav": [Event(0.5, 1.0, "rain")], "b.wav": []}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav\tone\t2\train", "line 2.*seconds"),
        ("a.wav\t2\t1\train", "line 2.*onset < offset"),
        ("a.wav\tnan\t1\train", "line 2.*onset < offset"),
        ("a.wav\t0\t1", "line 2.*without a caption"),
        ("a.wav\t0\t1\t ", "line 2.*without a caption"),
    ],
)
def test_a_broken_row_is_named(tmp_path, row, message):
    path = tmp_path / "events.tsv"
    path.write_text(f"filename\tonset\toffset\tevent_label\n{row}\n")
    with pytest.raises(ValueError, match=message):
        read_events(path)


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("file\tstart\tend\n")
    with pytest.raises(ValueError, match="line 1: no column filename, onset"):
        read_events(path)


@pytest.mark.parametrize("caption", ["two\tcolumns", "two\nlines", "two\u2028lines", "a  b", ""])
@pytest.mark.parametrize("name", ["events.tsv", "events.csv"])
def test_what_could_not_be_read_back_is_not_written(tmp_path, caption, name):
    with pytest.raises(ValueError, match=r"events\..*'a.wav': "):
        write_events(tmp_path / name, {"a.wav": [Event(0, 1, caption)]})
    with pytest.raises(ValueError, match=r"a file without a name"):
        write_events(tmp_path / name, {" ": []})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\u00a0"]
)
def test_a_separator_inside_a_caption_is_a_blank(tmp_path, separator):
    path = tmp_path / "events.tsv"
    row = f"a.wav\t0\t1\tdog{separator}bark\n"
    path.write_text("filename\tonset\toffset\tevent_label\n" + row, encoding="utf-8")
    assert read_events(path) == {"a.wav": [Event(0.0, 1.0, "dog bark")]}


def test_labels_and_names_that_read_the_same_are_one(tmp_path):
    path = tmp_path / "events.tsv"
    rows = [
        "filename\tonset\toffset\tevent_label",
        "caf\u00e9.wav\t0\t1\tDog bark",
        "cafe\u0301.wav\t2\t3\tdog  bark",
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    expected = [Event(0.0, 1.0, "Dog bark"), Event(2.0, 3.0, "Dog bark")]
    assert read_events(path) == {"caf\u00e9.wav": expected}


@pytest.mark.parametrize("end", ["\t", "\t\t", "\t \t"])
def test_the_empty_last_column_of_a_spreadsheet_is_none(tmp_path, end):
    path = tmp_path / "events.tsv"
    rows = ["filename\tonset\toffset\tevent_label", "a.wav\t0\t1\train", "b.wav\t\t\t"]
    path.write_text("".join(f"{row}{end}\n" for row in rows))
    assert read_events(path) == {"a.wav": [Event(0.0, 1.0, "rain")], "b.wav": []}


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("filename\tonset\toffset\tevent_label\tevent_label\n")
    with pytest.raises(ValueError, match="line 1: column 'event_label' stands twice"):
        read_events(path)


@given(st.floats(0, 200), st.sampled_from([0.32, 0.3125, 0.078125, 0.5]), st.integers(1, 40))
def test_blocks_are_all_frames_in_order_and_the_last_is_not_a_sliver(duration_s, frame_s, size):
    blocks = frame_blocks(duration_s, frame_s, size)
    assert [frame for block in blocks for frame in block] == [*range(blocks[-1].stop)]
    assert blocks[-1].stop == count_frames(duration_s, frame_s)
    assert all(len(block) == size for block in blocks[:-1])
    assert 1 <= len(blocks[-1]) <= size + 1
    if len(blocks) > 1:
        assert duration_s - blocks[-1].start * frame_s >= frame_s / 2 - 1e-9


def test_the_last_frame_ends_with_the_clip():
    edges = frame_edges(10.0, 0.32)
    assert len(edges) == count_frames(10.0, 0.32) + 1
    assert edges[:3].tolist() == [0.0, 0.32, 0.64]
    assert edges[-2:] == pytest.approx([9.92, 10.0])
    assert frame_edges(9.6, 0.32)[-1] == pytest.approx(9.6)
    assert (np.diff(frame_edges(0.0, 0.32)) > 0).all()
