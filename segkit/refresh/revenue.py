"""Why revenue moved: the last horizon against the one before, split so that the parts add up to the cent.

Everything here is counted, not estimated: the sums are those of all customers, so that no part has an interval.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import permutations
from math import prod

import numpy as np
import pandas as pd

from segkit.customers.days import Days, load_days
from segkit.customers.features import customer_outcomes
from segkit.data.runs import Run
from segkit.format import FLOOR, hidden_segments
from segkit.period import Period

TABLE = "revenue_change"
DRIVERS = ("from_customers", "from_orders", "from_value")
REVENUE_COLUMNS = [
    *("part", "item", "kpi", "customers_before", "customers_after", "orders_before", "orders_after"),
    *("before", "after", "change", *DRIVERS),
]
NEW, KEPT, RETURNED, LOST = "new", "kept", "returned", "lost"
NEW_OR_RETURNED, OTHER = "new or returned", "other"  # joined, as one of them is too small to show
LATE_DAYS = 7  # after the start of the earlier horizon; where events begin later, it is not whole


def revenue_change(days: Days, *, period: Period, segment: pd.Series) -> pd.DataFrame:
    """Split the change of revenue from the horizon before the last one to the last one.

    Parameters
    ----------
    days
        All customers by day.
    segment
        Segment by customer_id; customers without one, who did something in either horizon, are one more row.

    Returns
    -------
    DataFrame
        ``part`` (all, customers, segment), ``item`` (new, kept, returned, lost; a segment id or other), ``kpi`` (spend,
        or orders where there is no money), customers who bought or returned things, and orders, before and after;
        ``before, after, change``; and what of the change comes ``from_customers, from_orders`` (a customer) and
        ``from_value`` (of an order): the mean over all orders in which the three can change (Shapley 1953), so that no
        order is preferred. Missing where nobody bought before or after. No rows where events begin too late.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> table = load_revenue_change(run).set_index("part")
    >>> bool(round(table.loc["segment", "change"].sum() - table.loc["all", "change"], 2) == 0)
    True
    """
    start, length = period.last_horizon_start, timedelta(days=period.horizon_days)
    rows = days.rows.filter((days.rows.own_events > 0) & (days.rows.day < period.as_of))
    first = rows.group_by("customer_id").aggregate(first=rows.day.min()).to_pandas().set_index("customer_id")["first"]
    first = pd.to_datetime(first).sort_index()
    if first.empty or first.min().date() > start - length + timedelta(days=LATE_DAYS):
        return pd.DataFrame([], columns=REVENUE_COLUMNS)
    totals = [
        customer_outcomes(
            Days(rows=days.rows, categories=None), start=day, horizon_days=period.horizon_days, index=first.index
        ).totals
        for day in (start - length, start)
    ]
    kpi = "spend" if "spend" in totals[0] else "orders"
    each = pd.DataFrame(index=first.index)
    for when, total in zip(("before", "after"), totals, strict=True):
        own = total.where(total["active_days"] > 0, 0.0)
        each[when], each[f"orders_{when}"] = own[kpi], own["orders"]
        each[f"customers_{when}"] = ((own["orders"] > 0) | (own[kpi] != 0)).astype(int)
    each = each[(each["customers_before"] + each["customers_after"]) > 0]
    if not each["customers_before"].any():
        return pd.DataFrame([], columns=REVENUE_COLUMNS)
    is_new = (first.reindex(each.index) >= pd.Timestamp(start)).to_numpy()
    parts = {"customers": _states(each, is_new=is_new), "segment": segment.reindex(each.index).fillna(OTHER)}
    return _add_up(each, parts=parts, kpi=kpi)


def _states(each: pd.DataFrame, *, is_new: np.ndarray) -> pd.Series:
    before, after = each["customers_before"] > 0, each["customers_after"] > 0
    states = np.select([before & after, before, is_new], [KEPT, LOST, NEW], default=RETURNED)
    return pd.Series(states, index=each.index)


def _add_up(each: pd.DataFrame, *, parts: dict[str, pd.Series], kpi: str) -> pd.DataFrame:
    """Sum customers by part in whole cents (or orders), which add up to those of all."""
    steps = 100 if kpi == "spend" else 1
    counts = ["customers_before", "customers_after", "orders_before", "orders_after"]
    whole = each[counts].sum().to_frame().T.assign(part="all", item="")
    for when in ("before", "after"):
        whole[when] = round(each[when].sum() * steps)
    tables = [whole]
    for part, item in parts.items():
        table = each.groupby(item.to_numpy())[counts + ["before", "after"]].sum()
        for when in ("before", "after"):
            table[when] = whole_parts(table[when] * steps, total=int(whole[when].iloc[0]))
        tables.append(table.rename_axis("item").reset_index().assign(part=part))
    table = pd.concat(tables, ignore_index=True).assign(kpi=kpi)
    table["change"] = table["after"] - table["before"]
    table[list(DRIVERS)] = [_drivers(row, has_value=kpi == "spend") for row in table.to_dict("records")]
    money = ["before", "after", "change", *DRIVERS]
    table[money] = table[money].astype(float) / steps
    return table.astype(dict.fromkeys(counts, "int64"))[REVENUE_COLUMNS]


def whole_parts(values: pd.Series, *, total: int) -> pd.Series:
    """Round values to whole numbers that sum to a total: the largest remainders are rounded up.

    >>> whole_parts(pd.Series([1.4, 1.4, 1.2]), total=4).tolist()
    [2, 1, 1]
    """
    down = np.floor(values).astype(int)
    order = (down - values).sort_values(kind="stable").index
    short = total - int(down.sum())
    each, rest = divmod(short, len(values))
    return down + each + pd.Series(np.arange(len(values)) < rest, index=order).reindex(values.index).astype(int)


def _drivers(row: dict[str, float], *, has_value: bool) -> list[float]:
    """Split the change of one row among customers, orders a customer and value of an order, in whole steps."""
    ends = []
    for when in ("before", "after"):
        customers, orders, amount = (row[name] for name in (f"customers_{when}", f"orders_{when}", when))
        if not customers or not orders:
            return [np.nan] * len(DRIVERS)
        ends.append((customers, orders / customers, amount / orders))
    shares = pd.Series(_shapley(*ends))
    whole = whole_parts(shares[:2] if not has_value else shares, total=int(row["change"]))
    return [*whole, *([] if has_value else [np.nan])]


def _shapley(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """Return how much of the change of a product comes from each factor, on average over all orders of change."""
    found, orders = [0.0] * len(before), list(permutations(range(len(before))))
    for order in orders:
        now = list(before)
        for factor in order:
            old = prod(now)
            now[factor] = after[factor]
            found[factor] += (prod(now) - old) / len(orders)
    return found


def load_revenue_change(run: Run) -> pd.DataFrame:
    """Read why revenue moved from a run; computed from its days where 07_refresh has not written it."""
    if run.has(TABLE):
        return run.table(TABLE)
    segment = run.table("assignments").set_index("customer_id")["segment"]
    return revenue_change(load_days(run), period=run.period, segment=segment)


def shown_parts(change: pd.DataFrame, *, segments: pd.DataFrame) -> pd.DataFrame:
    """Join the rows that would give a small group of customers away.

    Parameters
    ----------
    change
        As returned by `revenue_change`.
    segments
        Segment and customers of the run: a segment whose size is shown nowhere is joined with others, too.

    Returns
    -------
    DataFrame
        The same columns. New and returned customers are one row where one of them is small; no rows of customers where
        that does not help. Small segments are joined as ``other`` with the smallest of the rest, until that is no
        small group.
    """
    rows = [change[change["part"] == "all"]]
    states = change[change["part"] == "customers"]
    if _is_small(states).any():
        states = _join(states, states["item"].isin([NEW, RETURNED]), item=NEW_OR_RETURNED)
    if not _is_small(states).any():
        rows.append(states)
    own = change[change["part"] == "segment"]
    small = _is_small(own) | own["item"].isin([*hidden_segments(segments), OTHER])
    order = own[~small].sort_values(["customers_after", "item"]).index
    joined = _join(own, small, item=OTHER)
    while _is_small(joined).any() and len(order):
        small = small | (own.index == order[0])
        order, joined = order[1:], _join(own, small, item=OTHER)
    return pd.concat([*rows, joined[~_is_small(joined)]], ignore_index=True)


def _is_small(rows: pd.DataFrame) -> pd.Series:
    counts = rows[["customers_before", "customers_after"]]
    return ((counts > 0) & (counts < FLOOR)).any(axis=1)


def _join(rows: pd.DataFrame, chosen: pd.Series, *, item: str) -> pd.DataFrame:
    """Add the chosen rows up into one, the last; its drivers are the sums of theirs, where all are known."""
    if not chosen.any():
        return rows
    sums: dict[str, Callable | str] = dict.fromkeys(REVENUE_COLUMNS[3:], lambda values: values.sum(skipna=False))
    whole = rows[chosen].agg(sums).to_frame().T
    whole = whole.assign(part=rows["part"].iloc[0], item=item, kpi=rows["kpi"].iloc[0])
    return pd.concat([rows[~chosen], whole.round(2)], ignore_index=True).astype(rows.dtypes.to_dict())
