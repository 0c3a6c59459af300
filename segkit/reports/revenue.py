"""Why revenue moved, in sentences and as a table."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pandas as pd

from segkit.format import MINUS, MISSING, count, is_missing
from segkit.period import Period, dates_text
from segkit.refresh.revenue import DRIVERS, OTHER
from segkit.reports.wording import Wording
from segkit.templates import text

MOST_SEGMENTS = 3  # named in a sentence
STATES = {
    "kept": "Bought in both periods",
    "new": "New customers",
    "returned": "Customers who returned",
    "new or returned": "New customers and those who returned",
    "lost": "Bought before and not again",
}
OTHERS = "Other customers"


def signed(value: Any, *, form: Callable[[Any], str]) -> str:
    """Format a change with its sign.

    >>> signed(12.0, form=count), signed(-12.0, form=count), signed(None, form=count)
    ('+12', '−12', '–')
    """
    if is_missing(value):
        return MISSING
    shown = form(abs(float(value)))
    return f"{'+' if value > 0 else MINUS if value < 0 else ''}{shown}"


def earlier_dates(period: Period) -> str:
    """Write the horizon before the last one as a reader would."""
    start = period.last_horizon_start
    return dates_text(start - timedelta(days=period.horizon_days), start)


def describe_revenue(change: pd.DataFrame, *, names: Mapping[str, str], words: Wording) -> list[str]:
    """Say why revenue moved, a sentence each: how much, by driver, by what customers did, and in which segments.

    Parameters
    ----------
    change
        As `segkit.refresh.revenue.shown_parts` returns it.
    names
        Of segments.
    """
    write, earlier = partial(text, "revenue"), earlier_dates(words.period)
    if change.empty:
        return [write("unknown", earlier=earlier)]
    whole = change[change["part"] == "all"].iloc[0]
    form = words.money if whole["kpi"] == "spend" else count
    amounts = {name: form(abs(whole[name]) if name == "change" else whole[name]) for name in ("after", "before")}
    sentences = [
        write(
            "answer",
            kpi=whole["kpi"],
            dates=words.period.last_dates,
            earlier=earlier,
            **amounts,
            change=form(abs(whole["change"])),
            rose=None if not whole["change"] else whole["change"] > 0,
            part=abs(whole["change"] / whole["before"]) if whole["before"] > 0 else None,
        )
    ]
    if not is_missing(whole["from_customers"]):
        customers, orders, value = (signed(whole[name], form=form) for name in DRIVERS)
        has_value = whole["kpi"] == "spend"
        sentences.append(write("drivers", customers=customers, orders=orders, value=value if has_value else None))
    states = change[change["part"] == "customers"].set_index("item")["change"]
    named = [(signed(states[state], form=form), state) for state in STATES if state in states and states[state]]
    sentences += [write("states", named=named)] if named else []
    own = change[(change["part"] == "segment") & (change["item"] != OTHER) & (change["change"] != 0)]
    own = own.sort_values("change", key=abs, ascending=False, kind="stable").head(MOST_SEGMENTS)
    named = [(signed(row["change"], form=form), names.get(row["item"], row["item"])) for row in own.to_dict("records")]
    return sentences + ([write("segments", named=named)] if named else [])


def format_revenue(change: pd.DataFrame, *, names: Mapping[str, str], period: Period) -> pd.DataFrame:
    """Write the change of revenue as a table in whole units: all customers, what they did, then segments."""
    order = ["all", *STATES]
    rows = change.assign(
        place=[
            order.index(key) if key in order else len(order)
            for key in change["item"].where(change["item"] != "", "all")
        ],
        size=-change["change"].abs(),
    )
    rows = rows.sort_values(["place", "size", "item"])
    labels = {"": "All customers", OTHER: OTHERS, **STATES}
    whole = partial(signed, form=count)
    return pd.DataFrame(
        {
            "": [labels.get(item) or f"{names.get(item, '')} ({item})".strip() for item in rows["item"]],
            earlier_dates(period): rows["before"].map(count),
            period.last_dates: rows["after"].map(count),
            "Change": rows["change"].map(whole),
            "From customers": rows["from_customers"].map(whole),
            "From orders per customer": rows["from_orders"].map(whole),
            **({"From value of an order": rows["from_value"].map(whole)} if rows["from_value"].notna().any() else {}),
        }
    ).reset_index(drop=True)
