import matplotlib
import pytest
from matplotlib.figure import Figure

from flamlib.plots import style


@style.styled
def line(xs):
    """A line."""
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot(xs)
    return figure


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_figure_drawn_again_is_the_same_file(tmp_path, kind):
    for name in ("first", "second"):
        style.save(line([1, 3, 2]), tmp_path / f"{name}.{kind}")
    first, second = (tmp_path / f"{name}.{kind}" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 500


def test_letters_are_outlines(tmp_path):
    style.save(line([1, 2]), tmp_path / "figure.svg")
    assert "<text" not in (tmp_path / "figure.svg").read_text()


def test_the_style_is_not_left_behind(tmp_path):
    before = matplotlib.rcParams.copy()
    style.save(line([1, 2]), tmp_path / "figure.svg")
    assert matplotlib.rcParams == before
    assert line.__doc__ == "A line."


def test_the_style_is_used():
    [axes] = line([1, 2]).axes
    assert not axes.spines["top"].get_visible()


def test_no_figure_is_open_afterwards():
    """An open one would appear a second time under the cell of a notebook."""
    line([1, 2])
    assert matplotlib.pyplot.get_fignums() == []


def test_the_colours_can_be_told_apart_without_red_and_green():
    """As a reader without red receptors sees them (Vienot et al., 1999), they differ in lightness
    or in blue."""
    seen = {}
    for name in ("BLUE", "ORANGE", "GREEN", "RED"):
        red, green, blue = matplotlib.colors.to_rgb(getattr(style, name))
        yellow = 0.11 * red**2.2 + 0.89 * green**2.2
        seen[name] = (round(yellow ** (1 / 2.2), 3), round(blue, 3))
    pairs = [(a, b) for a in seen for b in seen if a < b]
    for a, b in pairs:
        assert max(abs(x - y) for x, y in zip(seen[a], seen[b], strict=True)) > 0.15, (a, b)
