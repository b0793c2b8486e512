import pytest

from flamlib.sound_events import reviews
from flamlib.storage.tables import Row


def row(answer, column="review"):
    return Row("t.tsv, line 2", {"event_label": "rain", column: answer})


@pytest.mark.parametrize(
    ("answer", "said"),
    [("yes", True), ("Y", True), ("1", True), ("no", False), (" NO ", False), ("false", False)],
)
def test_an_answer_is_yes_or_no_in_any_case(answer, said):
    for column in ("review", "Review"):
        assert reviews.decision(row(answer, column)) is said
        assert reviews.is_rejected(row(answer, column)) is not said


def test_what_nobody_looked_at_is_neither():
    assert reviews.decision(row(" ")) is None
    assert not reviews.is_rejected(row(" "))


def test_another_answer_is_no_rejection_and_refused_where_decisions_are_wanted():
    assert not reviews.is_rejected(row("maybe"))
    with pytest.raises(ValueError, match=r"t\.tsv, line 2: Review is 'maybe', expected yes, no"):
        reviews.decision(row("maybe", "Review"))


def test_a_table_without_the_column_has_no_review():
    assert reviews.column_of(["onset", "offset"]) is None
    assert reviews.column_of(["onset", "Review"]) == "Review"
    assert not reviews.is_rejected(row("no", "remark"))
