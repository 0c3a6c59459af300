"""Figures of the forecast: promised against came, and what is expected of each segment."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.numbers import number, share
from segkit.pages.look import ACCENT, FAINT, INK, QUIET, WARN, look, many_panels, style, words_left

TITLES = {
    "active": "Share who came",
    "orders": "Orders of a customer, mean",
    "spend": "Spend of a customer, mean",
}


def promised_came(calibration: pd.DataFrame) -> Figure:
    """What was promised, to the right, against what came, upwards, in ten groups of customers: a panel each of
    activity, orders and spend. On the line, promises were kept.

    Takes  target, predicted, observed, low, high (95 %)
    """
    targets = [target for target in TITLES if (calibration["target"] == target).any()]
    with style():
        figure, panels = many_panels(rows=1, columns=max(len(targets), 1), height=3.4)
        for axes, target in zip(panels[0], targets, strict=False):
            rows = calibration[calibration["target"] == target]
            ends = np.array([rows[["predicted", "low"]].min().min(), rows[["predicted", "high"]].max().max()])
            ends = np.array([max(ends[0], 0.0), ends[1]])
            axes.plot(ends, ends, color=QUIET, linewidth=0.9, zorder=0)
            axes.vlines(rows["predicted"], rows["low"], rows["high"], color=INK, linewidth=0.9)
            axes.scatter(rows["predicted"], rows["observed"], s=30, color=ACCENT, zorder=3)
            axes.set_title(TITLES[target])
            axes.set_xlabel("predicted")
            axes.set_ylabel("observed")
            form = FuncFormatter(lambda value, _, form=share if target == "active" else number: form(value))
            for side in (axes.xaxis, axes.yaxis):
                side.set_major_locator(MaxNLocator(4))
                side.set_major_formatter(form)
    return figure


def expected_segments(table: pd.DataFrame) -> Figure:
    """What is expected of each segment: the share that comes, and spend of each customer, with their ranges; a mark
    where the spend of the last horizon was.

    Takes  segment, name, customers, active_share, active_share_low, active_share_high, spend_each and its range,
           spend_now (each may be null), in the order to be drawn
    """
    money = table["spend_each"].notna().any()
    place = np.arange(len(table))[::-1]
    with style():
        figure, panels = many_panels(rows=1, columns=2 if money else 1, height=0.9 + 0.32 * len(table), sharey=True)
        words_left(panels[0, 0], place=place, words=table["name"])
        _ranges(panels[0, 0], table, of="active_share", place=place)
        panels[0, 0].set_title("Expected to come")
        panels[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        panels[0, 0].set_xlim(0, 1.03)
        if money:
            _ranges(panels[0, 1], table, of="spend_each", place=place)
            panels[0, 1].vlines(table["spend_now"], place - 0.34, place + 0.34, color=WARN, linewidth=1.8)
            panels[0, 1].plot([], [], color=WARN, linewidth=1.8, label="last horizon")
            panels[0, 1].legend(loc="lower right", fontsize=8)
            panels[0, 1].set_title("Expected spend of a customer")
            panels[0, 1].set_xlim(0)
            panels[0, 1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            panels[0, 1].tick_params(axis="y", length=0)
            panels[0, 1].spines["left"].set_visible(False)
    return figure


def _ranges(axes: Axes, table: pd.DataFrame, *, of: str, place: np.ndarray) -> None:
    """A dot in the colour and shape of each segment, with its range as a line."""
    axes.hlines(place, 0, 1, transform=axes.get_yaxis_transform(), color=FAINT, linewidth=0.5, zorder=0)
    axes.hlines(place, table[f"{of}_low"], table[f"{of}_high"], color=QUIET, linewidth=1.3)
    for y, row in zip(place, table.to_dict("records"), strict=True):
        colour, marker = look(row["segment"])
        axes.scatter([row[of]], [y], s=44, color=colour, marker=marker, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(5))
