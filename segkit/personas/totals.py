"""Sum raw events by customer in SQL, for the second path of claims: independent of days and features."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from segkit.data.expressions import quote, sql_literal
from segkit.period import Period
from segkit.vocabulary import activity_kinds

WORD = re.compile(r"[^\W\d_]{2,}")
OVERDUE = 2.0  # usual gaps of silence, from which a customer is late
PARTS_OF_DAY = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}
DAYS_OF_WEEK = {"saturday": (6,), "sunday": (7,), "weekend": (6, 7)}


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
        Shares of each need and of each thing in what they bought in the lookback, not-a-number for those who bought
        nothing; None without needs.
    """

    customers: pd.DataFrame
    channels: pd.DataFrame | None = None
    needs: pd.DataFrame | None = None
    things: pd.DataFrame | None = None


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
    con.con.register("claims_of", pd.DataFrame({"customer_id": customers}))
    columns = set(events.columns)
    own = ", ".join(sql_literal(kind) for kind in activity_kinds(kinds))
    con.con.execute(f"create or replace temp table claim_lines as {_lines(events, columns, own=own, period=period)}")
    habits = _habits(con, columns, period=period).reindex(customers)
    query = {"columns": columns, "own": own, "kinds": kinds, "period": period}
    by_category = _bought(con, "category", **query)
    by_thing = _bought(con, "item", **query) if items else by_category
    parts = {} if by_thing is None else _shares(by_thing, customers=customers, things=things, words=words)
    if by_category is not None:
        habits["categories"] = by_category.groupby("customer_id").size().reindex(customers).fillna(0.0)
    channels = _channels(con, columns, period=period, customers=customers)
    con.con.execute("drop table claim_lines")
    con.con.unregister("claims_of")
    return CustomerTotals(habits, channels=channels, **parts)


def _lines(events: ibis.Table, columns: set[str], *, own: str, period: Period) -> str:
    """Select each event once, with the day its order began."""
    view, as_of = quote(events.get_name()), sql_literal(period.as_of.isoformat())
    order = "partition by event_id order by day, hour, event, customer_id"
    once = f"qualify event_id is null or row_number() over ({order}) = 1" if "event_id" in columns else ""
    wanted = ["customer_id", "day", "hour", "event", "event = 'purchase' as bought", f"event in ({own}) as own"]
    for name in ("amount", "discount", "quantity"):
        wanted.append(f"coalesce({name}, 0) as {name}" if name in columns else f"0 as {name}")
    wanted.append(
        "coalesce(private_label, false) as private_label" if "private_label" in columns else "false as private_label"
    )
    wanted += [name if name in columns else f"null as {name}" for name in ("category", "item", "channel")]
    wanted.append(
        "case when event = 'purchase' then order_id end as order_id" if "order_id" in columns else "null as order_id"
    )
    return f"""
        with seen as (select {", ".join(wanted)} from {view} where day < {as_of} {once}),
        mine as (select * from seen semi join claims_of using (customer_id)),
        begun as (select customer_id, order_id, min(day) as began from mine where order_id is not null
                  group by all having min(day) < max(day))
        select mine.*, coalesce(begun.began, mine.day) as first_day, coalesce(mine.day > begun.began, false) as late
        from mine left join begun using (customer_id, order_id)"""


def _habits(con: ibis.BaseBackend, columns: set[str], *, period: Period) -> pd.DataFrame:
    """Return the habits of each customer in the lookback."""
    start, recent, last = (
        sql_literal(day.isoformat()) for day in (period.lookback_start, period.recent_start, period.last_horizon_start)
    )
    slots = [
        f"count(slot) filter (weekday in ({', '.join(map(str, days))})) as {name}"
        for name, days in DAYS_OF_WEEK.items()
    ]
    slots += [f"count(slot) filter (slot % 24 >= {a} and slot % 24 < {b}) as {n}" for n, (a, b) in PARTS_OF_DAY.items()]
    net = "sum(case when bought then amount when event = 'return' then -amount when own then amount else 0 end)"
    table = con.con.execute(f"""
        with pieces as (
            select customer_id, bought, min(first_day) as day, isodow(min(first_day)) as weekday,
                min(datediff('day', date '1970-01-01', day) * 24 + hour) filter (own and not late) as slot
            from claim_lines group by customer_id, bought, order_id, case when order_id is null then day end),
        visits as (
            select customer_id, count(*) filter (bought) as orders, count(slot) as occasions, {", ".join(slots)},
                count(distinct day) filter (slot is not null) as active_days,
                count(distinct day) filter (slot is not null and day >= {recent}) as recent_days,
                min(day) filter (slot is not null) as first_active, max(day) filter (slot is not null) as last_active
            from pieces where day >= {start} group by all),
        ever as (select customer_id, min(day) as first_ever from pieces where slot is not null group by all),
        sums as (
            select customer_id, count(*) filter (bought) as lines, sum(amount) filter (bought) as amount,
                sum(discount) filter (bought) as discount, count(*) filter (bought and discount > 0) as discounted,
                sum(amount) filter (bought and private_label) as private, {net} as spend,
                sum(amount) filter (event = 'return') as returned
            from claim_lines where first_day >= {start} group by all),
        late as (select customer_id, {net} as spend_last_horizon from claim_lines
                 where first_day >= {last} group by all)
        select * from visits left join ever using (customer_id) left join sums using (customer_id)
            left join late using (customer_id)""").df()
    return _ratios(table.set_index("customer_id"), columns, period=period)


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
    table["lines_per_order"] = _ratio(sums["lines"], sums["orders"])
    for name in (*DAYS_OF_WEEK, *PARTS_OF_DAY):
        table[f"{name}_share"] = _ratio(sums[name], sums["occasions"])
    if "amount" in columns:
        table["spend"], table["spend_last_horizon"] = sums["spend"].clip(lower=0), sums["spend_last_horizon"]
        table["order_value"] = _ratio(sums["amount"], sums["orders"])
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
    con: ibis.BaseBackend, name: str, *, columns: set[str], own: str, kinds: Mapping[str, str], period: Period
) -> pd.DataFrame | None:
    """Return what each customer bought of each category or item in the lookback; None without such a column."""
    if name not in columns:
        return None
    weight = "1"
    if "amount" in columns:
        weight = "amount" if set(kinds) <= {"purchase", "return"} else "case when bought then amount else 1 end"
    rows, weight = "claim_lines", f"sum({weight})"
    if dict(con.con.execute("select column_name, column_type from (describe claim_lines)").fetchall())[name].endswith(
        "[]"
    ):
        rows = f"(select * replace (unnest({name}) as {name}), len({name}) as names from claim_lines)"
        weight = weight.replace("sum(", "sum(1.0 / names * (") + ")"
    start = sql_literal(period.lookback_start.isoformat())
    return con.con.execute(f"""
        select customer_id, {name} as thing, cast({weight} as double) as weight from {rows}
        where {name} is not null and own and event <> 'return' and day >= {start}
        group by all having {weight} > 0 order by customer_id, thing""").df()


def _shares(
    bought: pd.DataFrame, *, customers: pd.Index, things: pd.DataFrame | None, words: bool
) -> dict[str, pd.DataFrame]:
    """Return the shares of needs and of things in what each customer bought."""
    if things is None:
        return {}
    need_of = dict(zip(things["thing"], things["need"], strict=True))
    parts = [(name, part) for name in bought["thing"].unique() for part in (_words(name) if words else [name])]
    spread = pd.DataFrame([pair for pair in parts if pair[1] in need_of], columns=["thing", "part"])
    spread["share"] = 1.0 / spread.groupby("thing")["part"].transform("size")
    total = bought.groupby("customer_id")["weight"].sum().reindex(customers)
    joined = bought.merge(spread, on="thing")
    by_need = (joined["weight"] * joined["share"]).groupby([joined["customer_id"], joined["part"].map(need_of)]).sum()
    by_thing = joined.groupby(["customer_id", "part"])["weight"].sum()
    made = {}
    for name, sums, wanted in (("needs", by_need, sorted(set(need_of.values()))), ("things", by_thing, list(need_of))):
        table = sums.unstack(fill_value=0.0).reindex(index=customers, columns=wanted).astype(float).fillna(0.0)
        made[name] = table.div(total.where(total > 0), axis=0)
    return made


def _words(name: str) -> list[str]:
    return sorted({word.lower() for word in WORD.findall(name)})


def _channels(con: ibis.BaseBackend, columns: set[str], *, period: Period, customers: pd.Index) -> pd.DataFrame | None:
    """Return the share of each channel in the own events of each customer."""
    if "channel" not in columns:
        return None
    start = sql_literal(period.lookback_start.isoformat())
    table = con.con.execute(f"""
        select customer_id, channel, count(*) as events from claim_lines
        where channel is not null and own and day >= {start} group by all""").df()
    counts = table.pivot(index="customer_id", columns="channel", values="events").reindex(customers)
    counts = counts.astype(float).fillna(0.0)
    total = counts.sum(axis=1)
    return counts.div(total.where(total > 0), axis=0).fillna(0.0)
