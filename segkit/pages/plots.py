"""Table in, figure out. Quiet charts: bars start at zero, units on the axes, one accent for what matters."""

import numpy as np
import pandas as pd
import seaborn
from matplotlib.dates import ConciseDateFormatter, MonthLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.numbers import number, share
from segkit.pages.look import ACCENT, SOFT, many_panels, one_panel, style, words_left
from segkit.pages.maps import segment_map, small_maps
from segkit.pages.proof_plots import blocks, frontier, rivals, stability
from segkit.small_groups import is_few

__all__ = [
    "blocks",
    "foresight",
    "frontier",
    "retention",
    "rivals",
    "segment_bars",
    "segment_map",
    "small_maps",
    "stability",
    "timeline",
]

COHORT = 50  # newcomers; a smaller month is left out
KINDS = 6  # event kinds that get a row of their own; the rarest are left to the table


def timeline(activity: pd.DataFrame) -> Figure:
    """Events and active customers by month, a row for each kind of event, the most frequent first.

    Takes  activity: month (date), event, events, customers
    """
    kinds = activity.groupby("event")["events"].sum().sort_values(ascending=False, kind="stable").index[:KINDS]
    with style():
        figure, panels = many_panels(rows=len(kinds), columns=2, height=0.5 + 1.15 * len(kinds), sharex=True)
        for row, kind in zip(panels, kinds, strict=True):
            rows = activity[(activity["event"] == kind) & ~activity["customers"].map(is_few)]
            for axes, column, colour in zip(row, ("events", "customers"), (SOFT, ACCENT), strict=True):
                axes.bar(pd.to_datetime(rows["month"]), rows[column], width=24, color=colour)
                axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
                axes.tick_params(length=0)
                axes.set_title(f"{str(kind).replace('_', ' ').capitalize()}: {column} a month")
                axes.xaxis.set_major_locator(MonthLocator(bymonth=_ticks(activity["month"].nunique())))
                axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False))
    return figure


def foresight(table: pd.DataFrame) -> Figure:
    """How much of each outcome the past foretells, as bars.

    Takes  outcome (words), r2 (0-1)
    """
    with style():
        figure, axes = one_panel(height=0.7 + 0.42 * len(table))
        place = np.arange(len(table))[::-1]
        axes.barh(place, table["r2"].clip(lower=0), height=0.52, color=ACCENT)
        for y, r2 in zip(place, table["r2"], strict=True):
            axes.annotate(f"{r2:.2f}", (max(r2, 0), y), (5, 0), textcoords="offset points", va="center")
        words_left(axes, place=place, words=table["outcome"])
        top = max(table["r2"].max(), 0.1)
        axes.set_xlim(0, min(1.15 * top + 0.05, 1.1))
        axes.set_xlabel("Share of the differences between customers that is foreseen (R², 0-1)")
    return figure


def retention(table: pd.DataFrame) -> Figure:
    """Share of newcomers who came again, by months since their first visit: a line for each month of joining.

    Takes  cohort (month), newcomers, months_since, share (0-1)
    """
    large = table[(table["months_since"] > 0) & (table["newcomers"] >= COHORT)]
    with style():
        figure, axes = one_panel(height=3.2)
        cohorts = sorted(large["cohort"].unique())
        colours = {cohort: ACCENT if cohort == cohorts[-1] else SOFT for cohort in cohorts}
        seaborn.lineplot(
            large,
            x="months_since",
            y="share",
            hue="cohort",
            palette=colours,
            errorbar=None,
            marker="o",
            legend=False,
            ax=axes,
        )
        for cohort, rows in large.groupby("cohort"):
            last = rows.sort_values("months_since").iloc[-1]
            end = (last["months_since"], last["share"])
            axes.annotate(f"{cohort:%b %Y}", end, (6, -3), textcoords="offset points", fontsize=7.5)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Months since the first visit", ylabel="")
        axes.set_title(f"Share of a month's newcomers who came again (months with {COHORT} newcomers or more)")
    return figure


def segment_bars(segments: pd.DataFrame) -> Figure:
    """Share of revenue against share of customers for each segment, the largest revenue first.

    Takes  segments: segment, name, customer_share, revenue_share
    """
    ordered = segments.sort_values(["revenue_share", "segment"], ascending=[False, True])
    with style():
        figure, axes = one_panel(height=0.8 + 0.34 * len(ordered))
        place = np.arange(len(ordered))
        shares = ordered.melt("name", ["revenue_share", "customer_share"], var_name="of", value_name="share")
        colours = {"revenue_share": ACCENT, "customer_share": SOFT}
        seaborn.barplot(
            shares, y="name", x="share", hue="of", palette=colours, errorbar=None, width=0.66, saturation=1, ax=axes
        )
        for y, value in zip(place, ordered["revenue_share"], strict=True):
            axes.annotate(
                share(value),
                (value if pd.notna(value) else 0, y - 0.17),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        seaborn.move_legend(
            axes, "lower right", title=None, labels=["share of revenue", "share of customers"], fontsize=8
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.set_xlim(0)
        axes.margins(x=0.1)
        axes.set(xlabel="", ylabel="")
        words_left(axes, place=place, words=ordered["name"])
        axes.set_ylim(len(ordered) - 0.5, -0.5)
    return figure


def _ticks(months: int) -> tuple[int, ...]:
    """The months of a year that get a label; January is always one, as it carries the year."""
    return tuple(range(1, 13)) if months <= 6 else (1, 4, 7, 10) if months <= 24 else (1,)
