from hypothesis import example, given
from hypothesis import strategies as st

from flamlib.sound_events import raw_events
from flamlib.sound_events.raw_events import RawEvent

times = st.floats(0, 20, allow_subnormal=False)
raw = st.builds(
    lambda a, b, caption: RawEvent("line", min(a, b), max(a, b), caption),
    times,
    times,
    st.sampled_from(["rain", "wind"]),
)


@given(st.lists(raw, max_size=6), st.floats(0.1, 20))
@example(
    [RawEvent("", 0, 1, "rain"), RawEvent("", 0, 1.5, "wind"), RawEvent("", 1, 2, "rain")], 9.0
)
def test_what_is_repaired_is_within_the_recording_and_needs_no_other_repair(drawn, duration_s):
    events, repairs = raw_events.repair(drawn, duration_s)
    assert all(0 <= onset < offset <= duration_s for onset, offset, _ in events)
    assert sum(repairs.values()) >= len(drawn) - len(events)
    again, none = raw_events.repair([RawEvent("again", *event) for event in events], duration_s)
    assert (again, none) == (events, {})
