"""Picture and text of journeys: what comes next, before a need starts and before a customer leaves."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segkit.forecast.journeys import ALL, FIRST, LEAVE, NEXT, START
from segkit.format import capitalized, percent
from segkit.reports.profile import kind_label
from segkit.reports.theme import ACCENT, FAINT, INK, QUIET, WARN, need_colour, one_panel, shorten, style
from segkit.reports.wording import ranged, segment_name
from segkit.templates import text

MOST_ROWS = 5  # of a question, in the picture
MOST_LETTERS = 32  # of a name in the picture
TITLES = {NEXT: "What comes next", START: "Before a need starts", LEAVE: "Before a customer stays away"}
TOUCH, THEN, BARS, END = 0.0, 0.29, 0.55, 1.0  # where the parts of a row begin, as shares of the width
LEAVES = "Stays away"


def journeys_to_show(journeys: pd.DataFrame) -> pd.DataFrame:
    """Return what is shown of all customers: of each question the rows furthest above chance."""
    rows = journeys[journeys["segment"] == ALL]
    shown = [rows[rows["about"] == about].head(MOST_ROWS) for about in TITLES]
    return pd.concat(shown).reset_index(drop=True)


def journey_name(label: str, *, needs: Mapping[str, str], touch: str = "") -> str:
    """Write a need or a kind of event; of a first or last touch, with which it is.

    >>> journey_name("support_call", needs={}, touch="last"), journey_name("N01", needs={"N01": "Pet care"})
    ('Last: support call', 'Pet care')
    """
    name = LEAVES if not label else needs.get(label) or kind_label(label)
    return f"{capitalized(touch)}: {name[:1].lower()}{name[1:]}" if touch else name


def describe_journeys(journeys: pd.DataFrame, *, needs: Mapping[str, str]) -> list[str]:
    """Write the journey furthest above chance of each question in a sentence."""
    rows = journeys_to_show(journeys).drop_duplicates("about").to_dict("records")
    return [
        text(
            "forecast",
            f"journey_{row['about']}",
            before=journey_name(row["before"], needs=needs),
            after=journey_name(row["after"], needs=needs),
            is_first=row["touch"] == FIRST,
            share=row["share"],
            expected=row["expected"],
            customers=row["customers"],
        )
        for row in rows
    ]


def format_journeys(journeys: pd.DataFrame, *, needs: Mapping[str, str], names: Mapping[str, str]) -> pd.DataFrame:
    """Format the journeys of segments, the furthest above chance first; `names`: of segments."""
    rows = journeys[journeys["segment"] != ALL]
    lead = (rows["share"] - rows["expected"]).rename("lead")
    rows = rows.assign(lead=lead).sort_values(["segment", "lead"], ascending=[True, False]).to_dict("records")
    return pd.DataFrame(
        {
            "name": [segment_name(row["segment"], names=names) for row in rows],
            "first": [journey_name(row["before"], needs=needs, touch=row["touch"]) for row in rows],
            "then": [journey_name(row["after"], needs=needs) for row in rows],
            "customers": [row["customers"] for row in rows],
            "observed": [ranged(row["share"], row["share_low"], row["share_high"], form=percent) for row in rows],
            "chance": [percent(row["expected"]) for row in rows],
        }
    )


def plot_journeys(journeys: pd.DataFrame, *, needs: Mapping[str, str]) -> Figure:
    """Plot each journey as an arrow from what comes first to what follows, with its share over that of chance.

    `journeys`: as `journeys_to_show` returns them.
    """
    heads = journeys["about"].ne(journeys["about"].shift())
    height = 0.34 * (len(journeys) + 1.2 * heads.sum()) + 0.15
    most = 2.0 * journeys[["share", "expected"]].to_numpy().max()
    with style():
        figure, axes = one_panel(height=height)
        y = 0.0
        for row, is_head in zip(journeys.to_dict("records"), heads, strict=True):
            if is_head:
                y += 0.4 if y else 0.0
                axes.text(TOUCH, y, TITLES[row["about"]], weight="bold", va="center", color=INK)
                y += 0.8
            _draw_row(axes, row, y=y, most=most, needs=needs)
            y += 1.0
        axes.set_xlim(0, END)
        axes.set_ylim(y - 0.3, -0.6)
        axes.set_axis_off()
    return figure


def _draw_row(axes: Axes, row: Mapping[str, object], *, y: float, most: float, needs: Mapping[str, str]) -> None:
    """Draw what comes first, an arrow, what follows, and a bar over that of chance, with both shares."""
    for label, touch, x in ((row["before"], row["touch"], TOUCH), (row["after"], "", THEN)):
        colour = need_colour(label) if label in needs else WARN if not label else QUIET
        axes.plot([x + 0.008], [y], marker="o", markersize=7, color=colour)
        name = shorten(journey_name(label, needs=needs, touch=touch), most=MOST_LETTERS)
        axes.text(x + 0.02, y, name, va="center", color=INK)
    arrow = {"arrowstyle": "-|>", "color": QUIET, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (THEN - 0.01, y), (THEN - 0.045, y), arrowprops=arrow)
    width = (END - BARS) / most
    axes.barh(y, row["expected"] * width, left=BARS, height=0.72, color=FAINT)
    axes.barh(y, row["share"] * width, left=BARS, height=0.34, color=ACCENT)
    words = f"{percent(row['share'])}, by chance {percent(row['expected'])}"
    axes.text(BARS + row["share"] * width + 0.008, y, words, va="center", fontsize=8, color=INK)
