"""How pages look: one accent, one typeface stack, and a colour and shape for each segment that never change."""

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ACCENT = "#1f5f8b"
INK = "#1d2733"
QUIET = "#6b7785"
SOFT = "#a9c6da"  # the accent, where it is not the point
FAINT = "#d7dde3"
WARN = "#c2571a"
# petroff10 (Petroff 2021, arXiv:2107.02270): ten colours that stay apart under colour-vision deficiencies
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # the colours repeat after ten, the shapes after seven: 70 pairs
SEQUENTIAL = "viridis"
WIDTH = 9.5  # inches: the measure of a page


def look(segment: str) -> tuple[str, str]:
    """The colour and marker of a segment, from the number in its id: the same on every page and in every run.

    Takes  an id such as S07
    Gives  (colour, marker): a hex colour, a matplotlib marker

    >>> look("S01")
    ('#3f90da', 'o')
    >>> look("S11")[0] == look("S01")[0], look("S11")[1] == look("S01")[1]
    (True, False)
    """
    digits = re.search(r"\d+", segment)
    number = int(digits[0]) - 1 if digits else 0
    return COLOURS[number % len(COLOURS)], MARKERS[
        (number % len(COLOURS) + 3 * (number // len(COLOURS))) % len(MARKERS)
    ]


@contextmanager
def style() -> Iterator[None]:
    """The seaborn style of every figure: quiet axes, no grid, text in ink, a font that matplotlib carries."""
    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": QUIET,
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "regular",
        "axes.titlelocation": "left",
        "axes.titlecolor": INK,
        "axes.axisbelow": True,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": QUIET,
        "ytick.labelcolor": QUIET,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "segkit",
    }
    base = seaborn.axes_style("white") | seaborn.plotting_context("paper")
    with matplotlib.rc_context({**base, **settings}):
        yield


def words_left(axes: Axes, *, place: np.ndarray, words: pd.Series) -> None:
    """Label bars by words at their left, without ticks or a left spine."""
    axes.set_yticks(place, [textwrap.shorten(str(word), 44, placeholder=" …") for word in words])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.7, len(place) - 0.3)


def one_panel(*, height: float) -> tuple[Figure, Axes]:
    """A figure of one set of axes, `height` inches high and as wide as a page."""
    figure, grid = many_panels(rows=1, columns=1, height=height)
    return figure, grid[0, 0]


def many_panels(
    *, rows: int, columns: int, height: float, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """A figure of the width of a page (height in inches) outside pyplot's state, and its axes as rows and columns."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)


@cache
def stylesheet(name: str) -> str:
    """The CSS beside this file: "views" for what notebooks display, "page" for the page around it."""
    return (Path(__file__).parent / f"{name}.css").read_text(encoding="utf-8")
