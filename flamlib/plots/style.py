"""The one style of all figures, and how they are written.

Colours are those of Okabe and Ito, which a colour-blind reader can tell apart; no distinction hangs
on colour alone. A `Figure` is made without pyplot, so that a notebook shows it once, as the value
of its cell. Sizes are those of a paper's column and page: text is 7 or 8 points there. Letters are
DejaVu's, which comes with Matplotlib; those that it lacks are of a font that is installed.
"""

import io
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib
from matplotlib import font_manager, pyplot
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from flamlib.storage import files

# A notebook shows a Figure once its backend is loaded, which pyplot would put off until it draws.
pyplot.switch_backend(matplotlib.get_backend())

COLUMN, PAGE = 3.5, 7.2  # inches
INK, GREY, PALE = "#222222", "#8c8c8c", "#e6e6e6"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SCORE, TRUTH = "#a9cfe8", "#f8dfae"  # blue and orange in water: areas behind lines

# Of Chinese, Japanese and Korean, on Linux, Windows and macOS.
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC"),
    *("Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Noto Sans TC", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "NanumGothic", "UnDotum"),
    *("Microsoft YaHei", "SimHei", "Microsoft JhengHei", "Yu Gothic", "Meiryo", "MS Gothic"),
    *("Malgun Gothic", "PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Heiti TC"),
    *("Apple SD Gothic Neo", "Arial Unicode MS", "Unifont"),
)


def families() -> list[str]:
    """Return the fonts of figures: DejaVu, then those of `OTHER_FONTS` that are installed.

    A letter is drawn in the first of them that has it.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)]


STYLE = {
    "font.family": families(),
    "font.size": 8,
    "text.parse_math": False,  # captions are of users: a $ is a letter like any other
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "lines.solid_capstyle": "butt",
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.02,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make a function draw in this style, whatever the notebook's own."""

    @wraps(draw)
    def draw_styled(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many letters, cut between words, or in one that is too long.

    >>> shortened("a dog barks", 9), shortened("https://creativecommons.org", 9)
    ('a dog …', 'https://…')
    """
    short = textwrap.shorten(text, width, placeholder=" …")
    return f"{text.strip()[: width - 1]}…" if short == "…" else short


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with numbers, as powers of ten would be formulas."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_above(axes: Axes, handles: list) -> None:
    """Draw a legend in one line, above the right end of the axes."""
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles),
        borderaxespad=0.2, handlelength=1.4, columnspacing=1.2,
    )  # fmt: skip


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of the suffix; the same figure gives the same bytes.

    Letters become outlines, so that it looks the same where a font is missing.
    """
    path, content = Path(path), io.BytesIO()
    kind = path.suffix.lstrip(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "flam", "svg.fonttype": "path"}):
        figure.savefig(content, format=kind, metadata=undated)
    files.atomic_write(path, content.getvalue())
