"""Plot and text of when customers are likely to order next."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segkit.forecast.dates import OrderDates
from segkit.format import FLOOR, MISSING, capitalized, day_of_month, masked_count
from segkit.reports.theme import ACCENT, label_left, many_panels, style
from segkit.reports.wording import Wording, day_text
from segkit.templates import text

WEEK = 7  # days
SOON_WEEKS = 2
MOST_CATEGORIES = 10
MOST_WEEKS = 10  # bars


def weeks_of_next_order(dates: OrderDates, *, words: Wording) -> pd.DataFrame:
    """Count customers by the week of their likeliest next order, then all later ones, and those without a date.

    Returns label and customers; empty where there are no dates.
    """
    start, dated = pd.Timestamp(words.period.as_of), dates.customers["next_order_date"].dropna()
    if dated.empty:
        return pd.DataFrame(columns=["label", "customers"])
    sizes = np.bincount(((dated - start).dt.days // WEEK).to_numpy())
    shown = min(int(np.flatnonzero(sizes >= FLOOR).max(initial=-1)) + 1, MOST_WEEKS)
    rows = [(day_of_month(start + pd.Timedelta(days=WEEK * i)), size) for i, size in enumerate(sizes[:shown])]
    others = {"Later": sizes[shown:].sum(), "Not known": len(dates.customers) - len(dated)}
    rows += [(label, size) for label, size in others.items() if size]
    return pd.DataFrame(rows, columns=["label", "customers"])


def due_soon(dates: OrderDates, *, words: Wording, never: Collection[str] = ()) -> pd.DataFrame:
    """Count customers by a category that they are due to buy in the next two weeks; those of a few are left out."""
    end = pd.Timestamp(words.period.as_of) + pd.Timedelta(weeks=SOON_WEEKS)
    soon = dates.due[(dates.due["due"] < end) & ~dates.due["category"].isin(never)]
    table = soon["category"].value_counts().rename("customers").reset_index()
    table = table[table["customers"] >= FLOOR].sort_values(["customers", "category"], ascending=[False, True])
    return table.head(MOST_CATEGORIES).assign(label=lambda t: t["category"].map(words.thing).map(capitalized))


def plot_next_orders(weeks: pd.DataFrame, due: pd.DataFrame) -> Figure:
    """Plot customers by the week of their next order, and the categories that most are due to buy soon.

    `weeks`, `due`: label and customers, as the functions above return them; either may be empty.
    """
    shown = {"Customers by week of their next purchase": weeks, f"Due in the next {SOON_WEEKS} weeks: customers": due}
    shown = {title: table for title, table in shown.items() if len(table)}
    with style():
        figure, panels = many_panels(rows=1, columns=len(shown), height=0.9 + 0.26 * max(map(len, shown.values())))
        for axes, (title, table) in zip(panels[0], shown.items(), strict=True):
            _bars(axes, table)
            axes.set_title(title)
    return figure


def _bars(axes: Axes, table: pd.DataFrame) -> None:
    """Draw a bar for each row, the first on top, with its number at its end; of a few, less than the floor is shown."""
    place = np.arange(len(table))[::-1]
    axes.barh(place, table["customers"].where(table["customers"] >= FLOOR, 0), height=0.6, color=ACCENT)
    for y, customers in zip(place, table["customers"], strict=True):
        length = customers if customers >= FLOOR else 0
        shown = masked_count(customers) if customers else MISSING
        axes.annotate(shown, (length, y), (5, 0), textcoords="offset points", va="center")
    label_left(axes, place=place, words=table["label"])
    axes.set_xlim(0, 1.18 * max(table["customers"].max(), FLOOR))
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def describe_next_orders(metrics: Mapping[str, object], *, customers: int, words: Wording) -> list[str]:
    """Tell how well the date of the next order, and of the next purchase in a category, can be predicted, or why not.

    `customers`: of the run.
    """
    kinds = [kind for kind in ("dates", "due") if f"forecast.{kind}.customers" in metrics]
    about = {"of": customers, "quarter": words.quarter}
    return [text("forecast", "next_orders", by_category=kind == "due", **about,
                 **_facts(metrics, kind=kind, today=words.period.as_of.isoformat()))
            for kind in kinds]  # fmt: skip


def _facts(metrics: Mapping[str, object], *, kind: str, today: str) -> dict[str, object]:
    names = ("customers", "reason", "off", "off.low", "off.high", "usual_off", "inside")
    facts = {name.replace(".", "_"): metrics.get(f"forecast.{kind}.{name}") for name in names}
    tested_at = str(metrics.get(f"forecast.{kind}.tested_at") or today)
    return facts | {"earlier": "" if tested_at == today else day_text(tested_at)}
