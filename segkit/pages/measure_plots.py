"""Figures of measuring: what a segment's KPI has done by itself, what a pilot could show, what it showed, and whom to
contact.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.numbers import number, share
from segkit.pages.look import ACCENT, FAINT, INK, QUIET, SOFT, WARN, look, one_panel, style, words_left

VERDICT_COLOURS = {"scale": ACCENT, "go on": ACCENT, "stop": WARN, "cannot tell": QUIET}
MOST_SHARE = 1.0  # of an effect that is drawn in full; a larger one runs off the picture, as its number says
UNITS = {"money": "money per customer", "orders": "orders per customer", "share": "share of customers"}


def candidates(table: pd.DataFrame) -> Figure:
    """The smallest relative effect that a pilot in each segment can show, beside what its history shows as reachable.

    Takes  candidates: segment, name, smallest_share, reachable (shares of the baseline; may be null)
    """
    ordered = table.sort_values(["smallest_share", "segment"], na_position="last")
    place = np.arange(len(ordered))[::-1]
    with style():
        figure, axes = one_panel(height=1.0 + 0.34 * len(ordered))
        drawn = ordered["smallest_share"].clip(upper=MOST_SHARE).fillna(0)
        axes.barh(place, drawn, height=0.56, color=SOFT, label="smallest effect a pilot of this segment can show")
        for y, end, value in zip(place, drawn, ordered["smallest_share"], strict=True):
            effect_text = "too few customers" if pd.isna(value) else f"±{share(value)}"
            axes.annotate(effect_text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
        has_reachable = ordered["reachable"].notna()
        axes.plot(ordered.loc[has_reachable, "reachable"], place[has_reachable.to_numpy()], "D", color=ACCENT, markersize=5,
                  label="reached before, by itself (above its mean)")  # fmt: skip
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.set_xlim(0, max(float(drawn.max()), float(ordered["reachable"].max() or 0), 0.1) * 1.15)
        axes.set_xlabel("Change of the figure per customer")
        words = ordered["name"].where(ordered["segment"] == "all", ordered["segment"] + "  " + ordered["name"])
        words_left(axes, place=place, words=words)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
    return figure


def lifts(table: pd.DataFrame, *, break_even: float | None = None) -> Figure:
    """What contact added in each segment, with simultaneous 95 % intervals, and the lift that would pay for it.

    Takes  experiment: segment, name, lift, lift_low, lift_high, unit, verdict

    Parameters
    ----------
    break_even : lift per customer that pays for a contact; None where its price is not known
    """
    place = np.arange(len(table))[::-1]
    with style():
        figure, axes = one_panel(height=1.0 + 0.42 * len(table))
        axes.axvline(0, color=INK, linewidth=0.9)
        if break_even:
            axes.axvline(break_even, color=WARN, linewidth=1.1, linestyle=(0, (4, 3)), label="pays for the contact")
            axes.legend(loc="lower right", fontsize=8)
        for y, row in zip(place, table.to_dict("records"), strict=True):
            colour = VERDICT_COLOURS.get(row["verdict"], QUIET)
            axes.plot([row["lift_low"], row["lift_high"]], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            marker = "D" if row["segment"] == "all" else look(row["segment"])[1]
            axes.plot([row["lift"]], [y], marker, color=colour, markersize=7)
            end = (row["lift_high"], y)
            axes.annotate(
                row["verdict"], end, (7, 0), textcoords="offset points", va="center", fontsize=8, color=colour
            )
        words_left(
            axes, place=place, words=table["segment"].where(table["segment"] != "all", "") + "  " + table["name"]
        )
        axes.margins(x=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        as_share = table["unit"].iloc[0] == "share"
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value) if as_share else number(value)))
        axes.set_xlabel(f"Treated less held out, {UNITS[table['unit'].iloc[0]]}")
    return figure


def qini(curve: pd.DataFrame, *, unit: str) -> Figure:
    """What contacting the most promising first would gain, beside contacting as many by lot.

    Takes  curve: share (contacted), gain, by_lot (per customer of all)
    """
    with style():
        figure, axes = one_panel(height=3.0)
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.plot(curve["share"], curve["by_lot"], color=QUIET, linestyle=(0, (4, 3)), label="by lot")
        axes.plot(curve["share"], curve["gain"], color=ACCENT, linewidth=2, label="the most promising first")
        axes.legend(loc="upper left", fontsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: share(value) if unit == "share" else number(value))
        )
        axes.set_xlim(0, 1)
        axes.set(xlabel="Share of customers contacted", ylabel="")
        axes.set_title(f"Gain, {UNITS[unit]} (of all customers)")
    return figure


def associations(table: pd.DataFrame) -> Figure:
    """Those who were sent a campaign less the others: as they are (pale), and matched on the time before (dark).

    Takes  association: campaign, unit, difference and matched with _low and _high
    """
    place = np.arange(len(table))[::-1]
    with style():
        figure, axes = one_panel(height=1.0 + 0.5 * len(table))
        axes.axvline(0, color=INK, linewidth=0.9)
        for name, shift, colour, label in (
            ("difference", 0.14, SOFT, "as they are"),
            ("matched", -0.14, ACCENT, "matched"),
        ):
            for y, row in zip(place, table.to_dict("records"), strict=True):
                axes.plot([row[f"{name}_low"], row[f"{name}_high"]], [y + shift] * 2, color=colour, linewidth=2)
            axes.plot(table[name], place + shift, "o", color=colour, markersize=6, label=label)
        words_left(axes, place=place, words=table["campaign"])
        axes.legend(loc="best", fontsize=8)
        axes.set_xlabel(f"Sent it less not sent it, {UNITS[table['unit'].iloc[0]]} over the horizon")
        as_share = table["unit"].iloc[0] == "share"
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value) if as_share else number(value)))
    return figure
