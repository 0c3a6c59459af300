"""Does the data still look as it did? The last two weeks beside the two-week windows before them.

What breaks in a feed looks like customers who changed: a shop that sends nothing any more, a kind of event that is no
longer recorded, categories or customers that were numbered anew. A person has to look before anything is decided.
"""

from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.period import Period

WINDOW_DAYS = 14  # whole weeks, so that each window holds the same weekdays
FEWEST_WINDOWS = 4  # to know what is usual
LEAST_PART = 0.5  # of the emptiest window before; less than that of it is a fall
ENOUGH = 10  # events in the emptiest window; none at all after so many is no chance (e to the -10)
JUMP, JUMP_TIMES = 0.1, 2.0  # a share that is so much more, and so many times more, than in any window before
NEW_CUSTOMERS, NEW_CATEGORIES = "customers never seen before", "lines in categories never seen before"
CHECKS = ["check", "item", "last", "least", "most", "windows", "broken", "words"]


def check_data(days: Days, *, period: Period, kinds: dict[str, str]) -> pd.DataFrame:
    """Hold the last two weeks before `as_of` against the lookback before them.

    Takes  days: the state; rows at or after `as_of` are not looked at
    Gives  check (events, kind, share), item, last, least and most (of the windows before), windows, broken, words;
           empty where fewer than four windows are known

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company'
    """
    as_of = period.as_of
    history_days = _history_days(days, as_of=as_of)
    count = min(period.lookback_days, history_days) // WINDOW_DAYS
    if count < FEWEST_WINDOWS + 1:
        return pd.DataFrame([], columns=CHECKS)
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    aggregates = {"events": rows.own_events.sum(), **{kind: rows[f"n_{kind}"].sum() for kind in sorted(kinds)}}
    by_window = (
        rows.mutate(window=_window(rows, as_of=as_of))
        .group_by("window")
        .aggregate(**{name: rows_sum.cast("float64") for name, rows_sum in _named(aggregates).items()})
    )
    table = by_window.to_pandas().set_index("window").reindex(range(count)).fillna(0.0)
    found = [_fall(table[name], item=item) for name, item in zip(_named(aggregates), aggregates, strict=True)]
    usable_windows = history_days // WINDOW_DAYS // 2  # of the older half of history everything is new
    for item, parts in (
        (NEW_CUSTOMERS, _new_share(rows.filter(rows.own_events > 0), "customer_id", None, as_of=as_of)),
        (NEW_CATEGORIES, _new_lines(days, as_of=as_of)),
    ):
        if parts is not None and min(count, usable_windows) > FEWEST_WINDOWS:
            found.append(_jump(parts.reindex(range(min(count, usable_windows))).fillna(0.0), item=item))
    return pd.DataFrame(found, columns=CHECKS)


def broken(checks: pd.DataFrame) -> list[str]:
    """What looks broken, a sentence each."""
    return checks.loc[checks["broken"].astype(bool), "words"].tolist()


def _named(aggregates: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """Columns that no kind of event can be called like."""
    return {f"sum_{number}": value for number, value in enumerate(aggregates.values())}


def _history_days(days: Days, *, as_of: date) -> int:
    first = days.rows.filter(days.rows.day < ibis.literal(as_of)).day.min().to_pandas()
    return 0 if pd.isna(first) else (as_of - pd.Timestamp(first).date()).days


def _window(rows: ir.Table, *, as_of: date) -> ir.Value:
    """Number of the window back from `as_of`; the last one is 0."""
    return ((ibis.literal(as_of).delta(rows.day, unit="day") - 1) // WINDOW_DAYS).cast("int64")


def _new_lines(days: Days, *, as_of: date) -> pd.Series | None:
    if days.categories is None:
        return None
    return _new_share(
        days.categories.filter(days.categories.day < ibis.literal(as_of)), "category", "lines", as_of=as_of
    )


def _new_share(rows: ir.Table, key: str, weight: str | None, *, as_of: date) -> pd.Series:
    """By window, the share of what is there that was never there before: of distinct names, or of their weight."""
    seen = rows.mutate(window=_window(rows, as_of=as_of), one=1 if weight is None else rows[weight])
    first_seen = seen.group_by("window", name=seen[key]).aggregate(weight=seen.one.sum().cast("float64")).to_pandas()
    if weight is None:
        first_seen["weight"] = 1.0
    first = first_seen.groupby("name")["window"].transform("max") == first_seen["window"]
    return (first_seen["weight"] * first).groupby(first_seen["window"]).sum() / first_seen["weight"].groupby(
        first_seen["window"]
    ).sum()


def _fall(series: pd.Series, *, item: str) -> tuple:
    last, before = float(series.iloc[0]), series.iloc[1:]
    least, most = float(before.min()), float(before.max())
    whole = item == "events"  # a kind may be rare; that customers do nothing at all is no habit
    gone = last == 0 and (most if whole else least) >= ENOUGH
    is_broken = gone or (whole and last < LEAST_PART * least)
    what = "events of customers" if whole else f"events of the kind '{item.replace('_', ' ')}'"
    words = f"The last {WINDOW_DAYS} days hold {last:,.0f} {what}; windows before held {least:,.0f} to {most:,.0f}."
    check = "events" if whole else "kind"
    return check, item, last, least, most, len(before), bool(is_broken), words


def _jump(series: pd.Series, *, item: str) -> tuple:
    last, before = float(series.iloc[0]), series.iloc[1:]
    least, most = float(before.min()), float(before.max())
    is_broken = last > most + JUMP and last > JUMP_TIMES * most
    words = (
        f"In the last {WINDOW_DAYS} days {np.round(100 * last):.0f} % are {item}; "
        f"in no window before more than {np.round(100 * most):.0f} %."
    )
    return "share", item, last, least, most, len(before), bool(is_broken), words
