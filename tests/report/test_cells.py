import pytest

from flamlib.report import cells


def text(numbers, key="map", **more):
    cell = cells.number(numbers, key, is_best=False, why="nobody asked", **more)
    return cell["text"], cell["small"]


def test_a_number_is_in_percent_with_its_interval_and_its_test():
    assert text({"map": 0.8716}) == ("87.2", "")
    bounded = {"map": 0.8716, "map_low": 0.85, "map_high": 0.9}
    assert text(bounded) == ("87.2", "[85.0, 90.0]")
    assert text(bounded, test={"map": 0.1, "map_p": 0.04}) == ("87.2", "[85.0, 90.0] p = .040")
    assert text(bounded, test={"map_p": 0.0004}) == ("87.2", "[85.0, 90.0] p < .001")
    assert text(bounded, test={"f1_p": 0.0004}) == ("87.2", "[85.0, 90.0]")


def test_a_rank_is_a_rank():
    numbers = {"a2t_median_rank": 3.0, "a2t_median_rank_low": 2.5, "a2t_median_rank_high": 4.0}
    assert text(numbers, "a2t_median_rank") == ("3.0", "[2.5, 4.0]")


@pytest.mark.parametrize("numbers", [{}, {"map": None}, {"map": float("nan")}])
def test_where_there_is_no_number_a_dash_says_why(numbers):
    cell = cells.number(numbers, "map", is_best=False, why="nobody asked")
    assert (cell["text"], cell["kind"], cell["why"]) == ("–", "none", "nobody asked")


def test_the_best_is_the_highest_or_the_lowest_and_may_be_several():
    of_set = {"a": {"map": 0.5, "ece": 0.1}, "b": {"map": 0.7, "ece": 0.2}, "c": {"map": 0.7}}
    assert cells.best(of_set, "map", ["a", "b", "c", "d"]) == {"b", "c"}
    assert cells.best(of_set, "ece", ["a", "b", "c"]) == {"a"}
    assert cells.best(of_set, "map", ["b", "c"]) == set()  # they do not differ
    assert cells.best(of_set, "psds1", ["a", "b"]) == set()
    rounded = {"a": {"map": 2 / 3}, "b": {"map": 0.666667}, "c": {"map": 0.1}}
    assert cells.best(rounded, "map", ["a", "b", "c"]) == {"a", "b"}


def test_what_was_published_keeps_its_decimals():
    assert [cells.percent(value) for value in (4.0, 11.16, 9.4)] == ["4.0", "11.16", "9.4"]
    assert (cells.title("flam_global"), cells.title("laion")) == ("FLAM-Global", "laion")


def test_how_many_clips_there_are_stands_with_any_model():
    """Whatever comes first: in a report that was written as JSON, that is the differences."""
    assert cells.sizes({"difference": {"b": {}}, "a": {"n_clips": 4}}) == {"n_clips": 4}
