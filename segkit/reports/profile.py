"""Plots and text of the pages Profile and Embed."""

import numpy as np
import pandas as pd
import seaborn
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, MonthLocator
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit import templates
from segkit.customers.profile import TOP_REVENUE_ITEM
from segkit.format import MISSING, capitalized, count, is_few, masked_counts, month, number, percent, suppressed_cells
from segkit.period import span_text
from segkit.reports.theme import ACCENT, SOFT, label_left, level_shade, many_panels, one_panel, style
from segkit.reports.wording import Wording, ranged
from segkit.templates import text

LABEL_MONTHS, LABEL_SHARE = 1.6, 0.06  # room of the label of a line, in units of the axes
MIN_COHORT = 50  # newcomers; a smaller month is left out
THINGS_SHOWN = 10  # of each need
MAX_EVENT_KINDS = 6  # event kinds that get a row of their own; the rarest are left to the table
ITEMS = {  # of the profile -> what pages call them
    "days of history": "History",
    "days asked for": "History needed",
    "customers with events of their own": "Customers",
    "active in the lookback": "In the segmentation",
    "seen on more than one day": "Active on more than one day",
    TOP_REVENUE_ITEM: "Revenue from the top 1%",
    "order_id": "Order number",
    "item": "Product",
    "category": "Category",
    "amount": "Amount paid",
    "quantity": "Quantity",
    "discount": "Discount",
    "private_label": "Own label or brand",
    "cost": "Cost",
    "channel": "Channel",
    "campaign": "Campaign",
    "text": "Customers' own words",
}
SECTIONS = {"history": "History", "customers": "Customers", "columns": "Share of events", "left out": "Left out"}


def plot_timeline(activity: pd.DataFrame) -> Figure:
    """Plot events and active customers by month, one row per kind of event, the most frequent first.

    `activity`: month (date), event, events, customers.
    """
    kinds = (
        activity.groupby("event")["events"].sum().sort_values(ascending=False, kind="stable").index[:MAX_EVENT_KINDS]
    )
    with style():
        figure, panels = many_panels(rows=len(kinds), columns=2, height=0.5 + 1.15 * len(kinds), sharex=True)
        for row, kind in zip(panels, kinds, strict=True):
            rows = activity[(activity["event"] == kind) & ~activity["customers"].map(is_few)]
            for axes, column, colour in zip(row, ("events", "customers"), (SOFT, ACCENT), strict=True):
                axes.bar(pd.to_datetime(rows["month"]), rows[column], width=24, color=colour)
                axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
                axes.tick_params(length=0)
                axes.set_title(f"{kind_label(str(kind))}: {column} per month")
                axes.xaxis.set_major_locator(MonthLocator(bymonth=_month_ticks(activity["month"].nunique())))
                axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False))
    return figure


def plot_retention(table: pd.DataFrame) -> Figure:
    """Plot the share of new customers who were active again, by months since their first visit: one line per cohort.

    `table`: cohort (month), newcomers, months_since, share (0-1).
    """
    large = table[(table["months_since"] > 0) & (table["newcomers"] >= MIN_COHORT)]
    with style():
        figure, axes = one_panel(height=3.2)
        cohorts = sorted(large["cohort"].unique())
        ranks = [0.75] if len(cohorts) == 1 else np.linspace(0.25, 0.75, len(cohorts))
        colours = {cohort: level_shade(rank) for cohort, rank in zip(cohorts, ranks, strict=True)}
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
        ends = large.sort_values("months_since").groupby("cohort").tail(1)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Months since they were first seen", ylabel="")
        axes.set_title(f"New customers who were active again (months with {MIN_COHORT} or more of them)")
        _label_ends(axes, ends)
    return figure


def _label_ends(axes: Axes, ends: pd.DataFrame) -> None:
    """Write the month of each line at its end, the longest first; one that would touch another label is left out."""
    taken: list[tuple[float, float]] = []
    for end in ends.sort_values("months_since", ascending=False).to_dict("records"):
        at = (end["months_since"], end["share"])
        if all(abs(at[0] - x) > LABEL_MONTHS or abs(at[1] - y) > LABEL_SHARE for x, y in taken):
            taken.append(at)
            outline = [withStroke(linewidth=2.4, foreground="white")]
            words = month(end["cohort"])
            axes.annotate(words, at, (6, -3), textcoords="offset points", fontsize=7.5, path_effects=outline)


def _month_ticks(months: int) -> tuple[int, ...]:
    """Choose the months that get a label; January always, as it carries the year."""
    return tuple(range(1, 13)) if months <= 6 else (1, 4, 7, 10) if months <= 24 else (1,)


def kind_label(kind: str) -> str:
    """Write a kind of event in words.

    >>> kind_label("coupon_redeemed")
    'Coupon redeemed'
    """
    return capitalized(kind.replace("_", " "))


def profile_headline(answer: str) -> str:
    """Answer in a sentence whether the data can carry a segmentation."""
    return text("profile", "headline", answer=answer)


def profile_tiles(profile: pd.DataFrame, kpis: pd.DataFrame, *, words: Wording) -> list[tuple[str, str, str]]:
    """Collect the size of the data, and how active customers are."""
    value, figure = profile.set_index("item")["value"], kpis.set_index("kpi").loc["active rate"]
    days = int(value["days of history"])
    return [
        ("Customers", count(value["customers with events of their own"]), text("profile", "known", words=words)),
        ("In the segmentation", count(value["active in the lookback"]), text("profile", "active", words=words)),
        ("History", capitalized(span_text(days)), f"{count(days)} days"),
        (
            f"Active in the last {words.quarter}",
            percent(figure["value"]),
            text("profile", "recent", figure=figure, words=words),
        ),
    ]


def format_kpis(kpis: pd.DataFrame, *, words: Wording, returns: bool = True) -> pd.DataFrame:
    """Format the KPIs, each value with its interval; `returns`: customers can return things."""
    kpis = kpis if returns else kpis.assign(kpi=kpis["kpi"].str.removesuffix(", net of returns"))
    rows = kpis.to_dict("records")
    shown = [ranged(r["value"], r["value_low"], r["value_high"], form=words.form(r["unit"])) for r in rows]
    return kpis.assign(shown=shown, kpi=kpis["kpi"].map(capitalized))


def format_profile(profile: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format each value of the profile in its unit."""
    values = [
        f"{count(r.value)} days" if r.unit == "days" else words.form(r.unit)(r.value) for r in profile.itertuples()
    ]
    labels = {"section": profile["section"].map(SECTIONS), "item": profile["item"].map(ITEMS).fillna(profile["item"])}
    return profile.assign(shown=values, words=profile["words"].map(capitalized), **labels)


def format_lifecycle(lifecycle: pd.DataFrame) -> pd.DataFrame:
    """Format customers by stage; small groups are hidden."""
    hides = suppressed_cells(lifecycle["customers"])
    shares = [ranged(r["share"], r["share_low"], r["share_high"], form=percent) for r in lifecycle.to_dict("records")]
    shares = [MISSING if hide else shown for hide, shown in zip(hides, shares, strict=True)]
    return lifecycle.assign(
        customers=masked_counts(lifecycle["customers"]), share=shares, stage=lifecycle["stage"].map(capitalized)
    )


def format_steps(steps: pd.DataFrame) -> pd.DataFrame:
    """Format the steps; a step of few customers shows no figures."""
    few = steps["customers"].map(is_few)
    shown = {"days": steps["days"].map(count), **{name: steps[name].map(percent) for name in ("share", "onward")}}
    shown = {
        name: texts.mask(few | (few.shift(-1, fill_value=False) & (name == "onward")), MISSING)
        for name, texts in shown.items()
    }
    return steps.assign(step=steps["event"].map(kind_label), customers=masked_counts(steps["customers"]), **shown)


def describe_steps(steps: pd.DataFrame) -> str:
    """Name the step after which the largest share of days stops; "" without steps, or where one is of few customers."""
    if steps.empty or steps["customers"].map(is_few).any():
        return ""
    names, worst = steps["event"].map(kind_label).tolist(), int(steps["onward"].argmin())
    lost = 1 - steps["onward"].iloc[worst]
    return text("profile", "largest_loss", step=names[worst], onward=names[worst + 1], lost=lost)


def plot_steps(steps: pd.DataFrame) -> Figure:
    """Plot the days that reach each step as a share of the days of the first, with the share that goes on between them.

    `steps`: event, customers, share (0-1); steps of few customers are left out.
    """
    shown = steps[~steps["customers"].map(is_few)]
    with style():
        figure, axes = one_panel(height=0.5 + 0.42 * len(shown))
        bars = axes.barh(shown["event"].map(kind_label), shown["share"], height=0.66, color=ACCENT)
        axes.bar_label(bars, [percent(share) for share in shown["share"]], padding=4)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.08)
        axes.xaxis.set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(f"Days that reach each step, as a share of the days with “{kind_label(shown['event'].iloc[0])}”")
    return figure


def format_needs(needs: pd.DataFrame, things: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format needs: name and job, the things that make up most of it with their shares, and its size."""
    largest = things.sort_values(["weight", "thing"], ascending=[False, True]).groupby("need").head(THINGS_SHOWN)
    parts = {need: _need_things(own, words=words) for need, own in largest.groupby("need")}
    rows = needs.to_dict("records")
    return pd.DataFrame(
        {
            "name": [templates.html("profile", "need", row=row) for row in rows],
            "examples": [parts.get(row["need"], "") for row in rows],
            "spend_share": needs["spend_share"].map(percent),
            "buyers": needs["buyers"].map(count),
            "main": [ranged(r["main"], r["main_low"], r["main_high"], form=percent) for r in rows],
            "stability": needs["stability"].map(percent),
        }
    )


def _need_things(own: pd.DataFrame, *, words: Wording) -> Markup:
    names = words.things(list(own["thing"]))
    return templates.html("profile", "things", things=list(zip(names, own["weight"].map(percent), strict=True)))


def describe_reading(since: str, reread_reason: str) -> list[str]:
    """Describe how the days of an earlier run were continued; nothing where they were not."""
    return [text("profile", "read_again", since=since, reason=reread_reason)] if since else []


def plot_predictability(table: pd.DataFrame) -> Figure:
    """Plot how much of each outcome can be predicted, as bars.

    `table`: rows of ``predictability``: outcome, r2 (0-1).
    """
    with style():
        figure, axes = one_panel(height=0.7 + 0.42 * len(table))
        place = np.arange(len(table))[::-1]
        axes.barh(place, table["r2"].clip(lower=0), height=0.52, color=ACCENT)
        for y, r2 in zip(place, table["r2"], strict=True):
            axes.annotate(percent(r2), (max(r2, 0), y), (5, 0), textcoords="offset points", va="center")
        label_left(axes, place=place, words=table["outcome"].map(capitalized))
        top = max(table["r2"].max(), 0.1)
        axes.set_xlim(0, min(1.15 * top + 0.05, 1.1))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.set_xlabel("Share of the differences between customers that can be predicted (R²)")
    return figure


def predictability_headline(table: pd.DataFrame) -> str:
    """Summarise what can be predicted in a sentence."""
    return text("profile", "predictability", outcomes=table.to_dict("records"))


def format_axes(axes: pd.DataFrame) -> pd.DataFrame:
    """Format the axes of the space: what they measure, and how far customers differ on them."""
    axes = axes.sort_values("share", ascending=False, kind="stable", ignore_index=True)
    shown = axes["name"].str.removeprefix("how much: ").map(capitalized)
    return axes.assign(name=shown, share=axes["share"].map(percent))


def describe_kept_map(found: str) -> str:
    """Say from which day a map is that was kept."""
    return text("profile", "kept_map", found=found)
