"""Sum raw events by customer in SQL, for the second path of claims: independent of days and features."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.data.expressions import quote, sql_literal
from segkit.period import Period
from segkit.vocabulary import activity_kinds

WORD = re.compile(r"[^\W\d_]{2,}")
OVERDUE = 2.0  # usual gaps of silence, from which a customer is late
PARTS_OF_DAY = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}
DAYS_OF_WEEK = {"saturday": (6,), "sunday": (7,), "weekend": (6, 7)}


@dataclass(frozen=True)
class Shares:
    """Shares of needs or things in what customers bought.

    Parameters
    ----------
    matrix
        Customers x names; most are zero.
    names
        Of the columns.
    bought
        Which customers bought anything; the shares of others are unknown.
    total
        What each customer bought.
    """

    matrix: sparse.csc_array
    names: tuple[str, ...]
    bought: np.ndarray
    total: np.ndarray

    def amounts(self, name: str) -> np.ndarray:
        """Return what each customer bought of one name."""
        return self.matrix[:, [self.names.index(name)]].toarray().ravel() * self.total

    def of(self, name: str, *, rows: np.ndarray) -> np.ndarray:
        """Return the shares of one name, for those of some customers (a mask) who bought anything."""
        return self.matrix[:, [self.names.index(name)]].toarray().ravel()[rows & self.bought]

    def means(self, rows: np.ndarray) -> pd.Series:
        """Return the mean share of each name, over those of some customers who bought anything."""
        chosen = rows & self.bought
        return pd.Series(self.matrix.T @ chosen.astype(float) / max(chosen.sum(), 1), index=list(self.names))


@dataclass(frozen=True)
class CustomerTotals:
    """Figures of each customer, from raw events.

    Parameters
    ----------
    customers
        Habits by customer_id, by the names that facts have.
    channels
        Shares of channels in their own events; None without channels.
    needs, things
        Shares of each need and of each thing in what they bought in the lookback; None without needs.
    """

    customers: pd.DataFrame
    channels: pd.DataFrame | None = None
    needs: Shares | None = None
    things: Shares | None = None


def customer_totals(
    events: ibis.Table,
    *,
    con: ibis.BaseBackend,
    customers: pd.Index,
    period: Period,
    kinds: Mapping[str, str],
    things: pd.DataFrame | None = None,
    words: bool = False,
    items: bool = False,
) -> CustomerTotals:
    """Sum the events of customers again.

    Parameters
    ----------
    events
        As the source gives them, on a DuckDB.
    con
        Its connection.
    customers
        Whose events are summed, in the order of the result.
    period
        The period of the run.
    kinds
        Kind of event -> customer or company.
    things
        The table ``need_things``; None without needs.
    words
        Whether things are words of category names.
    items
        Whether things are items, not categories.
    """
    con.con.register("claims_of", pd.DataFrame({"customer_id": customers, "customer": np.arange(len(customers))}))
    columns = set(events.columns)
    own = ", ".join(sql_literal(kind) for kind in activity_kinds(kinds))
    for made in _lines(events, columns, own=own, period=period):
        con.con.execute(made)
    numbers = np.arange(len(customers))
    habits = _habits(con, columns, period=period).reindex(numbers)
    query = {"columns": columns, "kinds": kinds, "count": len(customers)}
    by_category = _bought(con, "category", **query)
    by_thing = _bought(con, "item", **query) if items else by_category
    parts = {} if by_thing is None else _shares(*by_thing, things=things, words=words)
    if by_category is not None:
        habits["categories"] = np.diff(by_category[0].indptr).astype(float)
    channels = _channels(con, columns, numbers=numbers)
    for made in ("view claim_events", "table claim_begun", "table claim_lines"):
        con.con.execute(f"drop {made}")
    con.con.unregister("claims_of")
    channels = None if channels is None else channels.set_axis(customers)
    return CustomerTotals(habits.set_axis(customers), channels=channels, **parts)


def _lines(events: ibis.Table, columns: set[str], *, own: str, period: Period) -> tuple[str, str, str]:
    """Make a table of each event once, one of orders of several days, and a view of the lookback with both.

    Customers and orders are numbers in it, as texts take most of the time; what lies before the lookback has no names.
    """
    view, as_of = quote(events.get_name()), sql_literal(period.as_of.isoformat())
    start = sql_literal(period.lookback_start.isoformat())
    order = "partition by event_id order by day, hour, event, customer_id"
    once = f"qualify event_id is null or row_number() over ({order}) = 1" if "event_id" in columns else ""
    wanted = ["customer_id", "day", "hour", "event = 'purchase' as bought", f"event in ({own}) as own"]
    wanted.append("event = 'return' as returned")
    for name in ("amount", "discount"):
        wanted.append(f"coalesce({name}, 0) as {name}" if name in columns else f"0 as {name}")
    wanted.append(
        "coalesce(private_label, false) as private_label" if "private_label" in columns else "false as private_label"
    )
    for name in ("category", "item", "channel"):
        wanted.append(f"case when day >= {start} then {name} end as {name}" if name in columns else f"null as {name}")
    number = "case when event = 'purchase' and order_id is not null then hash(order_id) end"
    wanted.append(f"{number if 'order_id' in columns else 'null'} as order_id")
    return (
        f"""create or replace temp table claim_lines as
            with seen as (select {", ".join(wanted)} from {view} where day < {as_of} {once})
            select seen.* exclude (customer_id), customer from seen join claims_of using (customer_id)""",
        """create or replace temp table claim_begun as
            select customer, order_id, min(day) as began from claim_lines where order_id is not null
            group by all having min(day) < max(day)""",
        f"""create or replace temp view claim_events as
            select claim_lines.*, coalesce(began, day) as first_day, coalesce(day > began, false) as late
            from claim_lines left join claim_begun using (customer, order_id) where day >= {start}""",
    )


def _habits(con: ibis.BaseBackend, columns: set[str], *, period: Period) -> pd.DataFrame:
    """Return the habits of each customer in the lookback, by their number."""
    start, recent, last = (
        sql_literal(day.isoformat()) for day in (period.lookback_start, period.recent_start, period.last_horizon_start)
    )
    slots = {f"weekday in ({', '.join(map(str, days))})": name for name, days in DAYS_OF_WEEK.items()}
    slots |= {f"slot % 24 >= {a} and slot % 24 < {b}": name for name, (a, b) in PARTS_OF_DAY.items()}
    of_day = [f"count(slot) filter ({condition}) as {name}" for condition, name in slots.items()]
    counts = [f"sum({name}) as {name}" for name in ("orders", "occasions", *slots.values())]
    net = "sum(case when bought then amount when returned then -amount when own then amount else 0 end)"
    table = con.con.execute(f"""
        with pieces as (
            select customer, bought, min(first_day) as day, isodow(min(first_day)) as weekday,
                min(datediff('day', date '1970-01-01', day) * 24 + hour) filter (own and not late) as slot
            from claim_events group by customer, bought, order_id, case when order_id is null then day end),
        by_day as (
            select customer, day, count(*) filter (bought) as orders, count(slot) as occasions, {", ".join(of_day)}
            from pieces where day >= {start} group by all),
        visits as (
            select customer, {", ".join(counts)}, count(*) filter (occasions > 0) as active_days,
                count(*) filter (occasions > 0 and day >= {recent}) as recent_days,
                min(day) filter (occasions > 0) as first_active, max(day) filter (occasions > 0) as last_active
            from by_day group by all),
        ever as (select customer, min(day) as first_ever from claim_lines where own group by all),
        sums as (
            select customer, count(*) filter (bought) as lines, sum(amount) filter (bought) as amount,
                sum(discount) filter (bought) as discount, count(*) filter (bought and discount > 0) as discounted,
                sum(amount) filter (bought and private_label) as private, {net} as spend,
                sum(amount) filter (returned) as returned
            from claim_events where first_day >= {start} group by all),
        late as (select customer, {net} as spend_last_horizon from claim_events
                 where first_day >= {last} group by all)
        select * from visits left join ever using (customer) left join sums using (customer)
            left join late using (customer)""").df()
    return _ratios(table.set_index("customer"), columns, period=period)


def _ratios(sums: pd.DataFrame, columns: set[str], *, period: Period) -> pd.DataFrame:
    """Divide sums into the figures that facts are means of."""
    days = {name: pd.to_datetime(sums.pop(name)) for name in ("first_active", "last_active", "first_ever")}
    sums = sums.astype(float).fillna(0.0)
    as_of = pd.Timestamp(period.as_of)
    span = (days["last_active"] - days["first_active"]).dt.days
    gap = _ratio(span, sums["active_days"] - 1).where(sums["active_days"] > 1, float(period.lookback_days))
    table = pd.DataFrame({"orders": sums["orders"], "active_days": sums["active_days"], "gap_days": gap})
    table["recency_days"] = (as_of - days["last_active"]).dt.days.astype(float)
    table["once_share"] = (sums["active_days"] == 1).astype(float)
    table["lines"], table["lines_per_order"] = sums["lines"], _ratio(sums["lines"], sums["orders"])
    for name in (*DAYS_OF_WEEK, *PARTS_OF_DAY):
        table[f"{name}_share"] = _ratio(sums[name], sums["occasions"])
    if "amount" in columns:
        table["spend"], table["spend_last_horizon"] = sums["spend"], sums["spend_last_horizon"]
        table["order_value"] = _ratio(sums["amount"], sums["orders"])
        table["order_spend"] = table["spend"].clip(lower=0).where(sums["orders"] > 0, 0.0)
        table["private_label_share"] = _ratio(sums["private"], sums["amount"])
        table["discount_share"] = _ratio(sums["discount"], sums["amount"] + sums["discount"])
        table["return_share"] = _ratio(sums["returned"], sums["amount"] + sums["returned"])
    table["discounted_lines_share"] = _ratio(sums["discounted"], sums["lines"])
    new = (as_of - days["first_ever"]).dt.days <= period.recent_days
    settled = (sums["recent_days"] > 0) & (sums["recent_days"] < sums["active_days"])
    late = table["recency_days"] / gap.where(gap > 0, np.inf) > OVERDUE
    table["stage_new"], table["stage_active"] = new.astype(float), (settled & ~late).astype(float)
    table["late_share"] = (settled & late).astype(float) + (sums["recent_days"] == 0).astype(float)
    return table


def _ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    return (above / below.where(below > 0)).fillna(0.0)


def _bought(
    con: ibis.BaseBackend, name: str, *, columns: set[str], kinds: Mapping[str, str], count: int
) -> tuple[sparse.csr_array, list[str]] | None:
    """Return what each customer bought of each category or item in the lookback (customers x names), and the names.

    None without such a column.
    """
    if name not in columns:
        return None
    weight = "1"
    if "amount" in columns:
        weight = "amount" if set(kinds) <= {"purchase", "return"} else "case when bought then amount else 1 end"
    rows, weight = "claim_events", f"sum({weight})"
    described = con.con.execute("select column_name, column_type from (describe claim_lines)").fetchall()
    if dict(described)[name].endswith("[]"):
        rows = f"(select * replace (unnest({name}) as {name}), len({name}) as names from claim_events)"
        weight = weight.replace("sum(", "sum(1.0 / names * (") + ")"
    con.con.execute(f"""
        create or replace temp table claim_bought as
        select customer, {name} as thing, cast({weight} as double) as weight from {rows}
        where {name} is not null and own and not returned group by all having {weight} > 0""")
    names = [thing for (thing,) in con.con.execute("select distinct thing from claim_bought order by 1").fetchall()]
    con.con.register("claims_named", pd.DataFrame({"thing": names, "place": np.arange(len(names))}))
    found = con.con.execute("select customer, place, weight from claim_bought join claims_named using (thing)").df()
    con.con.execute("drop table claim_bought")
    con.con.unregister("claims_named")
    places = found["customer"].to_numpy(), found["place"].to_numpy()
    return sparse.csr_array((found["weight"].to_numpy(), places), shape=(count, len(names))), names


def _shares(
    bought: sparse.csr_array, names: list[str], *, things: pd.DataFrame | None, words: bool
) -> dict[str, Shares]:
    """Return the shares of needs and of things in what each customer bought, which counts in full for each word."""
    if things is None:
        return {}
    place = {thing: number for number, thing in enumerate(things["thing"])}
    needs, need_of = np.unique(things["need"].to_numpy(dtype=str), return_inverse=True)
    parts = [[part for part in (_words(name) if words else [name]) if part in place] for name in names]
    rows = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    columns = np.array([place[part] for each in parts for part in each], dtype=int)
    spread = [1.0 / len(each) for each in parts for _part in each]
    total = np.asarray(bought.sum(axis=1)).ravel()
    part = sparse.diags_array(1.0 / np.where(total > 0, total, 1.0))
    scaled, shape = part @ bought, (len(names), len(place))
    by_thing = (scaled @ sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)).tocsc()
    to_need = sparse.csr_array((np.ones(len(place)), (np.arange(len(place)), need_of)))
    by_need = (scaled @ (sparse.csr_array((spread, (rows, columns)), shape=shape) @ to_need)).tocsc()
    return {
        "needs": Shares(by_need, tuple(needs), total > 0, total),
        "things": Shares(by_thing, tuple(place), total > 0, total),
    }


def _words(name: str) -> list[str]:
    return sorted({word.lower() for word in WORD.findall(name)})


def _channels(con: ibis.BaseBackend, columns: set[str], *, numbers: np.ndarray) -> pd.DataFrame | None:
    """Return the share of each channel in the own events of each customer."""
    if "channel" not in columns:
        return None
    table = con.con.execute("""
        select customer, channel, count(*) as events from claim_events
        where channel is not null and own group by all""").df()
    counts = table.pivot(index="customer", columns="channel", values="events").reindex(numbers)
    counts = counts.astype(float).fillna(0.0)
    total = counts.sum(axis=1)
    return counts.div(total.where(total > 0), axis=0).fillna(0.0)
