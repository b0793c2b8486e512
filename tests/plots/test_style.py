import warnings

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from flamlib.plots import figures, spectrograms, style


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


@pytest.mark.parametrize("caption", ["$x_$ dog", r"$\frac$", "rings $5 and $6", r"100 % $\alpha$"])
def test_a_dollar_sign_in_a_caption_is_a_letter(tmp_path, caption):
    scores = np.zeros((4, 2), np.float32)
    figure = spectrograms.heat_map(
        np.zeros(4000, np.float32), 4000, scores, np.linspace(0, 1, 5), [caption, "rain"],
        ground_truth=[],
    )  # fmt: skip
    style.save(figure, tmp_path / "a.svg")
    label = figure.axes[1].get_yticklabels()[0]
    assert (label.get_text(), label.get_parse_math()) == (caption, False)


def test_a_logarithmic_axis_has_plain_numbers(tmp_path):
    bins = {"mean_prob": np.array([0.1]), "frequency": np.array([0.1]), "count": [1, 20_000]}
    figure = figures.reliability({"flam": bins})
    style.save(figure, tmp_path / "a.svg")
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert {"10,000", "0.0001"} <= set(labels)
    assert not any("$" in label for label in labels)


def write_font(path, family, letter):
    """A font of one letter, a square."""
    pen = TTGlyphPen(None)
    for point in ((0, 0), (0, 900), (900, 900), (900, 0)):
        (pen.lineTo if pen.points else pen.moveTo)(point)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    font.setupPost()
    font.save(path)


def test_a_name_without_blanks_is_cut_and_not_left_out():
    url = "https://creativecommons.org/licenses/by/4.0/"
    assert style.shortened(url, 22) == "https://creativecommo…"
    assert style.shortened("雨" * 60, 56) == "雨" * 55 + "…"
    assert style.shortened("a dog barks", 22) == "a dog barks"
    assert style.shortened(f"a dog {url}", 22) == "a dog …"


def test_letters_that_are_not_latin_are_of_a_font_that_is_installed(tmp_path, monkeypatch):
    fonts = [
        font for font in font_manager.fontManager.ttflist if font.name not in style.OTHER_FONTS
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    assert style.families() == ["DejaVu Sans"]
    write_font(tmp_path / "dogs.ttf", style.OTHER_FONTS[-1], "犬")
    font_manager.fontManager.addfont(tmp_path / "dogs.ttf")
    monkeypatch.setitem(style.STYLE, "font.family", style.families())
    figure = spectrograms.heat_map(
        np.zeros(4000, np.float32), 4000, np.zeros((4, 2), np.float32), np.linspace(0, 1, 5),
        ["犬", "a dog barks"], ground_truth=[],
    )  # fmt: skip
    with warnings.catch_warnings(action="error"):  # of a letter that no font has
        style.save(figure, tmp_path / "a.svg")
