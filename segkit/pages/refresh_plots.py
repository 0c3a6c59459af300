"""Figures of the refresh: where customers went and why, and what drifted beside what chance gives."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from segkit.numbers import share
from segkit.pages.look import ACCENT, FAINT, INK, QUIET, SOFT, WARN, look, one_panel, shortened, style, words_left
from segkit.small_groups import is_few

STAGES = ("before", "standing", "after")
GONE = "–"  # not in that run
BAR = 0.03  # width of a column of segments; the stages are one apart
GAP = 0.012  # between segments, of the height
STEPS = np.linspace(0, 1, 40)
BEND = STEPS**2 * (3 - 2 * STEPS)  # a smooth step
MOST_FEATURES = 12


def flow(moves: pd.DataFrame, *, names: dict[str, str], dates: tuple[str, str], refitted: bool) -> Figure:
    """Streams of customers from the segments of the last run to today's: those who changed to the middle column, and
    from there to the right those whom a new definition took.

    Takes  flow: before, standing, after (missing: not there), customers

    Parameters
    ----------
    names : by segment; dates : of the last run and of this one
    refitted : whether there is a new definition; without one the picture ends in the middle
    """
    stages = STAGES if refitted else STAGES[:2]
    table = moves.assign(**{stage: moves[stage].fillna(GONE) for stage in STAGES})
    everyone = sorted({s for stage in stages for s in table[stage]} - {GONE}) + [GONE]
    places = [_places(table.groupby(stage)["customers"].sum().reindex(everyone, fill_value=0)) for stage in stages]
    with style():
        figure, axes = one_panel(height=1.2 + 0.36 * len(everyone))
        for position in range(len(stages) - 1):
            _streams(axes, table, stages[position : position + 2], places[position : position + 2], x=position)
        for position, place in enumerate(places):
            _column(axes, place, x=position, names=names, last=position == len(places) - 1)
        heads = [f"Then, {dates[0]}", f"Now, {dates[1]}: same definition", "Now: new definition"]
        for position in range(len(stages)):
            align, at = ("center", position) if position == 1 and refitted else ("left", position - BAR)
            axes.text(at, 1.03, heads[position], ha=align, va="bottom", fontsize=9, color=QUIET)
        axes.set(xlim=(-0.42, len(stages) - 1 + 0.62), ylim=(-0.01, 1.08))
        axes.axis("off")
    return figure


def drift(table: pd.DataFrame) -> Figure:
    """The features that drifted most: their size as a bar, and what chance gives as a mark.

    Takes  drift, of which the rows of features are drawn: words, size, chance, verdict
    """
    rows = table[table["what"] == "feature"].head(MOST_FEATURES)
    place = np.arange(len(rows))[::-1]
    colours = rows["verdict"].map({"large": WARN, "moderate": ACCENT, "small": SOFT}).fillna(FAINT)
    with style():
        figure, axes = one_panel(height=1.2 + 0.32 * max(len(rows), 1))
        axes.barh(place, rows["size"], height=0.56, color=colours)
        axes.plot(rows["chance"], place, "|", color=INK, markersize=13, markeredgewidth=1.6, label="what chance gives")
        for at, words in ((0.1, "moderate"), (0.25, "large")):
            axes.axvline(at, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(words, (at, 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                          fontsize=8, color=QUIET)  # fmt: skip
        words_left(axes, place=place, words=rows["words"])
        axes.set_xlim(0, max(0.3, float(rows["size"].max() if len(rows) else 0)) * 1.05)
        axes.set_xlabel("Stability index: 0 is the same distribution")
        axes.legend(loc="lower right", fontsize=8)
    return figure


def shares(table: pd.DataFrame, *, names: dict[str, str]) -> Figure:
    """The change of each segment's share with its interval, over the band that chance gives.

    Takes  drift, of which the rows of shares are drawn: item, difference with _low and _high, chance, beyond
    """
    rows = table[table["what"] == "share"].sort_values("item", ignore_index=True)
    place = np.arange(len(rows))[::-1]
    with style():
        figure, axes = one_panel(height=1.2 + 0.34 * max(len(rows), 1))
        axes.barh(place, 2 * rows["chance"], left=-rows["chance"], height=0.72, color=FAINT, label="what chance gives")
        axes.axvline(0, color=QUIET, linewidth=0.9)
        for y, row in zip(place, rows.to_dict("records"), strict=True):
            colour = ACCENT if row["beyond"] else QUIET
            axes.plot([row["difference_low"], row["difference_high"]], [y, y], color=colour, linewidth=2)
            axes.plot([row["difference"]], [y], look(row["item"])[1], color=colour, markersize=6)
        words_left(axes, place=place, words=rows["item"] + "  " + rows["item"].map(names).fillna(""))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.set_xlabel("Change of the share of customers (points of all), with its 95 % interval")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    return figure


def _places(sizes: pd.Series) -> dict[str, tuple[float, float]]:
    """Top and height of each segment in a column that is one high."""
    there = sizes[sizes > 0]
    scale = (1 - GAP * max(len(there) - 1, 0)) / max(there.sum(), 1)
    tops, found = 1.0, {}
    for segment, size in there.items():
        found[str(segment)] = (tops, size * scale)
        tops -= size * scale + GAP
    return found


def _streams(axes: Axes, table: pd.DataFrame, stages: tuple[str, ...], places: list[dict], *, x: float) -> None:
    """A band for each pair of segments: pale where customers stay, in the colour they come from where they move."""
    pairs = table.groupby(list(stages))["customers"].sum()
    left, right = ({s: top for s, (top, _) in place.items()} for place in places)
    scales = [
        _scale(place, table.groupby(stage)["customers"].sum()) for place, stage in zip(places, stages, strict=True)
    ]
    for (source, into), size in pairs.items():
        heights = size * scales[0], size * scales[1]
        upper = left[source] + (right[into] - left[source]) * BEND
        lower = upper - heights[0] + (heights[0] - heights[1]) * BEND
        left[source], right[into] = left[source] - heights[0], right[into] - heights[1]
        if is_few(size):
            continue  # a stream of a few customers would tell of persons; its place stays empty
        moved = source != into
        colour = FAINT if not moved or GONE in (source, into) else look(source)[0]
        axes.fill_between(x + BAR + STEPS * (1 - 2 * BAR), lower, upper, color=colour, alpha=0.55 if moved else 0.5,
                          linewidth=0, zorder=2 if moved else 1)  # fmt: skip


def _scale(place: dict[str, tuple[float, float]], sizes: pd.Series) -> float:
    return sum(height for _, height in place.values()) / max(float(sizes.sum()), 1.0)


def _column(axes: Axes, place: dict[str, tuple[float, float]], *, x: float, names: dict[str, str], last: bool) -> None:
    for segment, (top, height) in place.items():
        colour = FAINT if segment == GONE else look(segment)[0]
        axes.add_patch(Rectangle((x - BAR, top - height), 2 * BAR, height, color=colour, linewidth=0, zorder=3))
        middle = top - height / 2
        if last:
            words = (
                "no longer active" if segment == GONE else f"{segment}  {shortened(names.get(segment, ''), most=30)}"
            )
            axes.text(x + BAR + 0.02, middle, words, ha="left", va="center", fontsize=8, color=INK)
        elif x == 0:
            words = "not there then" if segment == GONE else f"{segment}  {shortened(names.get(segment, ''), most=24)}"
            axes.text(x - BAR - 0.02, middle, words, ha="right", va="center", fontsize=8, color=INK)
