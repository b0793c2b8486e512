import json

import jams
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamlib.sound_events.events import Event
from flamlib.sound_events.jams import write_jams

times = st.integers(0, 1000).map(lambda n: n / 100)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)
events = st.builds(
    lambda a, b, caption: Event(min(a, b), max(a, b) + 0.01, caption), times, times, texts
)


@settings(max_examples=25)
@given(st.lists(events, max_size=5))
def test_the_jams_library_reads_the_events_that_were_written(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("jams") / "0.jams"
    write_jams(path, drawn, 10.01, sandbox={})
    [annotation] = jams.load(str(path), validate=True).search(namespace="tag_open")
    read = [Event(o.time, o.time + o.duration, o.value) for o in annotation.data]
    assert sorted(e.caption for e in read) == sorted(e.caption for e in drawn)
    for one, other in zip(sorted(read), sorted(drawn), strict=True):
        assert one[:2] == pytest.approx(other[:2], abs=1e-9)


def test_the_recipe_goes_with_it(tmp_path):
    write_jams(tmp_path / "7.jams", [], 10.0, sandbox={"recipe": {"index": 7}})
    written = json.loads((tmp_path / "7.jams").read_text())
    assert written["sandbox"] == {"recipe": {"index": 7}}
    assert (written["file_metadata"]["duration"], written["file_metadata"]["title"]) == (10.0, "7")


def test_an_event_beyond_the_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"7: an event from 9.0 to 11.0 s of 10.0 s"):
        write_jams(tmp_path / "7.jams", [Event(9.0, 11.0, "rain")], 10.0, sandbox={})
    assert not (tmp_path / "7.jams").exists()
