"""Compute each customer's features and outcomes from days."""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.days import (
    DAY_KEYS,
    PURCHASE,
    RETURN,
    Days,
    build_days,
    count_column,
    load_days,
    merge_days,
    write_days,
)
from segkit.data.engine import LOCAL_ENGINES, open_engine, transfer_table
from segkit.data.runs import Run
from segkit.period import Period
from segkit.vocabulary import FEATURES, WEEKDAYS, Feature, channel_feature, kind_features


class NumpyMath:
    """On numpy columns: a batch."""

    where = staticmethod(np.where)
    sqrt = staticmethod(np.sqrt)
    log = staticmethod(np.log)


class IbisMath:
    """On Ibis expressions: inside a warehouse."""

    @staticmethod
    def where(condition: ir.BooleanValue, yes: Any, no: Any) -> ir.FloatingValue:
        """Constants are cast in the engine: a bare 1.0 is a decimal to some and goes wrong in silence (Spark)."""
        return condition.ifelse(_floating(yes), _floating(no))

    @staticmethod
    def sqrt(value: ir.NumericValue) -> ir.FloatingValue:
        """Square root."""
        return value.sqrt()

    @staticmethod
    def log(value: ir.NumericValue) -> ir.FloatingValue:
        """Natural logarithm."""
        return value.ln()


class PlainMath:
    """On plain numbers: one live customer."""

    sqrt = staticmethod(math.sqrt)
    log = staticmethod(math.log)

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        """The one or the other; both were computed, so neither may divide by zero."""
        return yes if condition else no


def _floating(value: Any) -> ir.NumericValue:
    if isinstance(value, ir.Value):
        return value
    whole = ibis.literal(int(value)).cast("float64")
    return (
        whole if float(value) == int(value) else whole + (ibis.literal(repr(float(value) - int(value))).cast("float64"))
    )


RECENT_AGGREGATES = ("orders", "amount")  # sums that are also kept of lately
PURCHASE_AGGREGATES = ("orders", "recent_orders", "lines")  # mean nothing where no event is a purchase
MONDAY = 4  # days from the first Monday of 1970 back to its first Thursday
WEEKS = 7 * 100_000  # keeps the remainder positive before 1970
SUM_TYPE = "decimal(38, 4)"
WEIGHT_UNIT = 10_000  # a weight is counted in ten-thousandths of the currency, so that its logarithm is never negative
LOG_TYPE = "decimal(38, 10)"  # logarithms are rounded before they are added: the order of threads must not matter


def customer_aggregates(days: Days, *, period: Period, channels: tuple[str, ...] = ()) -> ir.Table:
    """Add up the lookback of everyone with an event of their own in it.

    Takes  days: the state, any span; rows on or after `as_of` are not looked at
    Gives  customer_id and one float64 column per sum, no nulls: every measure of the days; active_days, first_day,
           last_day, first_ever (days since 1970), gap_squared, longest_gap; recent_*; occasions by weekday;
           last_<kind>; of categories their number, weight, sum of w ln w and largest; channel_<name>; spend; as_of_day,
           lookback_days, recent_days

    Parameters
    ----------
    channels : those to count by
    """
    rows = days.rows.filter(
        (days.rows.day < ibis.literal(period.as_of)) & (days.rows.until < ibis.literal(period.as_of))
    )
    inside = rows.filter(rows.day >= ibis.literal(period.lookback_start))
    parts = [_first_ever(rows)]
    if days.categories is not None:
        parts.append(_category_spread(days.categories, period=period))
    if days.channels is not None and channels:
        parts.append(_by_channel(days.channels, period=period, channels=channels))
    rhythm, totals = _rhythm(inside, period=period), _totals(inside, period=period)
    table = rhythm.inner_join(totals, "customer_id")
    names = [name for name in table.columns if name != "customer_id"]
    for number, part in enumerate(parts):
        table = table.left_join(part, rhythm.customer_id == part.customer_id, rname=f"{{name}}_{number}")
        names += [name for name in part.columns if name != "customer_id"]
    if f"n_{PURCHASE}" not in days.rows.columns:
        names = [name for name in names if name not in PURCHASE_AGGREGATES]
    numbers = {name: table[name].cast("float64").fill_null(0) for name in names}
    constants = {"as_of_day": day_number(period.as_of), "lookback_days": period.lookback_days}
    constants["recent_days"] = period.recent_days
    return table.select("customer_id", **numbers, **{n: ibis.literal(v).cast("float64") for n, v in constants.items()})


def category_totals(categories: ir.Table, *, start: date, end: date) -> ir.Table:
    """What each customer bought by category from `start` to the day before `end`: customer_id, category, weight
    (amount, or lines) above 0.
    """
    inside = _in_window(categories, start=start, end=end)
    weight = inside.amount if "amount" in inside.columns else inside.lines
    totals = inside.group_by("customer_id", "category").aggregate(weight=weight.sum().cast(SUM_TYPE))
    return totals.filter(totals.weight > 0)


def day_number(day: date) -> int:
    """Days since 1970-01-01.

    >>> day_number(date(1970, 1, 2))
    1
    """
    return day.toordinal() - date(1970, 1, 1).toordinal()


def weekday(number: ir.IntegerValue) -> ir.IntegerValue:
    """Monday is 0, from a day number: by arithmetic, as engines do not agree on what a week is."""
    return (number + (WEEKS + MONDAY - 1)) % 7


def _totals(rows: ir.Table, *, period: Period) -> ir.Table:
    recent = rows.day >= ibis.literal(period.recent_start)
    of_week = weekday(rows.day.epoch_days().cast("int64"))
    aggregates = {name: _sum(rows, name).cast("decimal(38, 8)" if name == "amount_squared" else SUM_TYPE)
            for name in rows.columns if name not in DAY_KEYS}  # fmt: skip
    aggregates["weekend_occasions"] = _sum(rows, "occasions", where=of_week >= 5)
    aggregates |= {
        f"recent_{name}": _sum(rows, name, where=recent) for name in RECENT_AGGREGATES if name in rows.columns
    }
    aggregates |= {f"occasions_{name}": _sum(rows, "occasions", where=of_week == i) for i, name in enumerate(WEEKDAYS)}
    for name in rows.columns:
        if name.startswith("n_") and name not in (f"n_{PURCHASE}", f"n_{RETURN}"):
            aggregates[f"last_{name.removeprefix('n_')}"] = rows.day.max(where=rows[name] > 0).epoch_days()
    if "amount" in rows.columns:
        net = rows.amount.sum() + rows.other_amount.sum() - rows.return_amount.sum()
        aggregates["spend"] = net
    return rows.group_by("customer_id").aggregate(**aggregates)


def _first_ever(rows: ir.Table) -> ir.Table:
    return rows.filter(rows.own_events > 0).group_by("customer_id").aggregate(first_ever=rows.day.min().epoch_days())


def _rhythm(rows: ir.Table, *, period: Period) -> ir.Table:
    """Of those with any: days with events of their own; of the gaps between them the sum of squares and the longest.

    A day may have several rows: all but its first have a gap of zero, which adds nothing.
    """
    number = rows.day.epoch_days().cast("int64")
    days = rows.filter(rows.own_events > 0).select("customer_id", number=number)
    before = days.number.lag().over(group_by=days.customer_id, order_by=days.number)
    with_gap = days.mutate(gap=days.number - before)
    first = with_gap.gap.isnull() | (with_gap.gap > 0)
    return with_gap.group_by("customer_id").aggregate(
        active_days=with_gap.count(where=first),
        recent_active_days=with_gap.count(where=first & (with_gap.number >= day_number(period.recent_start))),
        first_day=with_gap.number.min(),
        last_day=with_gap.number.max(),
        gap_squared=(with_gap.gap * with_gap.gap).sum(),
        longest_gap=with_gap.gap.max(),
    )


def _category_spread(categories: ir.Table, *, period: Period) -> ir.Table:
    """Number of categories, and of their weights the sum, the sum of w ln w, and the largest."""
    totals = category_totals(categories, start=period.lookback_start, end=period.as_of)
    unit = WEIGHT_UNIT if "amount" in categories.columns else 1
    weights = totals.mutate(weight=(totals.weight.cast("float64") * unit).round().cast("float64"))
    log = (weights.weight * weights.weight.ln()).cast(LOG_TYPE)
    return weights.group_by("customer_id").aggregate(
        categories=weights.count(),
        category_weight=weights.weight.cast("int64").sum(),
        category_log=log.sum(),
        top_category_weight=weights.weight.max(),
    )


def _by_channel(table: ir.Table, *, period: Period, channels: tuple[str, ...]) -> ir.Table:
    inside = _in_window(table, start=period.lookback_start, end=period.as_of)
    aggregates = {f"channel_{name}": _sum(inside, "own_events", where=inside.channel == name) for name in channels}
    return inside.group_by("customer_id").aggregate(channel_events=_sum(inside, "own_events"), **aggregates)


def _sum(rows: ir.Table, name: str, *, where: ir.BooleanColumn | None = None) -> ir.NumericScalar:
    """A sum; of flags, which days that are not kept have, a count: it is cheaper."""
    column = rows[name]
    if not column.type().is_boolean():
        return column.sum(where=where)
    return rows.count(where=column if where is None else column & where)


def _in_window(table: ir.Table, *, start: date, end: date) -> ir.Table:
    return table.filter((table.day >= ibis.literal(start)) & (table.day < ibis.literal(end)))


MAX_CHANNELS = 12  # with a share of their own; the most used first
DECIMALS = 9  # features are rounded before they are compared, clustered or stored


@dataclass(frozen=True)
class CustomerData:
    """All that is known of customers at one date: their features, and what they bought (customers x categories,
    or None).
    """

    features: pd.DataFrame
    weights: sparse.csr_array | None
    categories: tuple[str, ...]

    def select(self, keep: np.ndarray) -> "CustomerData":
        """The same for some customers: a boolean mask or row numbers."""
        weights = None if self.weights is None else self.weights[keep]
        return CustomerData(features=self.features.iloc[keep], weights=weights, categories=self.categories)


@dataclass(frozen=True)
class Customers:
    """The customers of a source at the date of a period, and what everything else is made from.

    Parameters
    ----------
    days
        The state of all customers, which may reach beyond ``period.as_of``; what lies beyond it is not looked at.
    period
        The day they are described at, the lookback before it and the horizon after it.
    kinds
        Each kind of event -> 'customer' or 'company' (who does it).
    data
        Features and amounts by category of everyone active in the lookback, one row per customer.
    """

    days: Days
    period: Period
    kinds: dict[str, str]
    data: CustomerData

    @property
    def index(self) -> pd.Index:
        """The ids of the customers who were active in the lookback, sorted."""
        return self.data.features.index


def customers_at(days: Days, *, period: Period, kinds: dict[str, str]) -> Customers:
    """Describe the customers at the date of a period."""
    return Customers(days, period=period, kinds=kinds, data=customer_data(days, period=period, kinds=kinds))


def load_customers(run: Run, *, kinds: dict[str, str]) -> Customers:
    """The customers of a run, at its date, from the days that it holds."""
    return customers_at(load_days(run), period=run.period, kinds=kinds)


def customer_data(days: Days, *, period: Period, kinds: dict[str, str]) -> CustomerData:
    """Features, and amounts by category, of everyone active in the lookback; see `customer_features`."""
    features = customer_features(days, period=period, kinds=kinds)
    if days.categories is None:
        return CustomerData(features=features, weights=None, categories=())
    weights, names = category_weights(days, start=period.lookback_start, end=period.as_of, index=features.index)
    return CustomerData(features=features, weights=weights, categories=tuple(names))


def customer_features(
    days: Days, *, period: Period, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Describe everyone with an event of their own in the lookback.

    Takes  days: the state of all customers, any span
    Gives  one row per customer, sorted and indexed by customer_id; numeric columns named and explained in `vocabulary`;
           what an absent column of the source would carry is absent, not zero

    Parameters
    ----------
    period : whose lookback features see
    kinds : each kind of event -> 'customer' or 'company'
    channels : those with a share of their own; by default the most used before `as_of`
    """
    channels = _most_used(days, as_of=period.as_of) if channels is None else channels
    aggregates = (
        customer_aggregates(days, period=period, channels=channels).to_pandas().set_index("customer_id").sort_index()
    )
    asked = available_features(aggregates.columns, kinds=kinds, channels=channels)
    columns = {feature.name: np.asarray(feature.formula(aggregates, NumpyMath), dtype=float) for feature in asked}
    return pd.DataFrame(columns, index=aggregates.index).round(DECIMALS) + 0.0


def features_expression(
    days: Days, *, period: Period, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> ir.Table:
    """The same features as one Ibis expression, to be computed and kept where the days are (a warehouse, a cluster).

    Takes  as `customer_features`
    Gives  customer_id and the features (float64, not rounded), unsorted
    """
    channels = _most_used(days, as_of=period.as_of) if channels is None else channels
    aggregates = customer_aggregates(days, period=period, channels=channels)
    asked = available_features(aggregates.columns, kinds=kinds, channels=channels)
    return aggregates.select("customer_id", **{f.name: f.formula(aggregates, IbisMath).cast("float64") for f in asked})


def available_features(
    columns: pd.Index | tuple[str, ...], *, kinds: dict[str, str], channels: tuple[str, ...]
) -> list[Feature]:
    """The features whose sums are there, in the order of the vocabulary; those named from the data at the end."""
    asked = [*FEATURES, *(channel_feature(name) for name in channels), *kind_features(kinds)]
    return [feature for feature in asked if set(feature.requires) <= set(columns)]


def category_weights(days: Days, *, start: date, end: date, index: pd.Index) -> tuple[sparse.csr_array, list[str]]:
    """What each customer bought by category from `start` to the day before `end`.

    Takes  days with categories; index: the customers wanted, in order
    Gives  matrix (customers x categories) of net amounts, or of lines without money; the sorted category names
    """
    totals = category_totals(days.categories, start=start, end=end)
    table = totals.mutate(weight=totals.weight.cast("float64")).to_pandas()
    row = index.get_indexer(table["customer_id"])
    table, row = table[row >= 0], row[row >= 0]
    names = sorted(table["category"].unique())
    column = pd.Index(names).get_indexer(table["category"])
    return sparse.csr_array((table["weight"].to_numpy(), (row, column)), shape=(len(index), len(names))), names


def dormant_customers(days: Days, *, period: Period) -> pd.DataFrame:
    """Those known before, and silent for the whole lookback.

    Gives  customer_id, last_day, silent_days, bought_most (the category they spent most on, where known), sorted
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    last = rows.group_by("customer_id").aggregate(last_day=rows.day.max()).to_pandas()
    last["last_day"] = pd.to_datetime(last["last_day"])
    last["silent_days"] = (pd.Timestamp(period.as_of) - last["last_day"]).dt.days
    silent = last[last["silent_days"] > period.lookback_days].sort_values("customer_id", ignore_index=True)
    silent["bought_most"] = pd.Series([None] * len(silent), dtype=object)
    if days.categories is not None and len(silent):
        theirs = days.categories.semi_join(ibis.memtable(silent[["customer_id"]]), "customer_id")
        totals = category_totals(theirs, start=date(1970, 1, 1), end=period.as_of)
        order = [ibis.desc(totals.weight), totals.category]
        ranked = totals.mutate(place=ibis.row_number().over(group_by=totals.customer_id, order_by=order))
        most = ranked.filter(ranked.place == 0).select("customer_id", "category").to_pandas()
        silent["bought_most"] = silent["customer_id"].map(most.set_index("customer_id")["category"])
    return silent


def _most_used(days: Days, *, as_of: date) -> tuple[str, ...]:
    """The channels used most before `as_of`, sorted."""
    if days.channels is None:
        return ()
    before = days.channels.filter(days.channels.day < ibis.literal(as_of))
    used = before.group_by("channel").aggregate(uses=before.own_events.cast("int64").sum().cast("float64")).to_pandas()
    most = used.sort_values(["uses", "channel"], ascending=[False, True])["channel"].head(MAX_CHANNELS)
    return tuple(sorted(most))


@dataclass(frozen=True)
class Outcomes:
    """What each customer did: `totals` by customer (spend net of returns, orders, active_days), `weights` by
    category.
    """

    totals: pd.DataFrame
    weights: sparse.csr_array | None
    categories: tuple[str, ...]

    def select(self, keep: np.ndarray) -> "Outcomes":
        """The same for some customers: a boolean mask or row numbers."""
        weights = None if self.weights is None else self.weights[keep]
        return Outcomes(totals=self.totals.iloc[keep], weights=weights, categories=self.categories)

    @property
    def active(self) -> np.ndarray:
        return (self.totals["active_days"] > 0).to_numpy()

    @property
    def value(self) -> np.ndarray:
        """log(1 + spend); log(1 + active days) where the source carries no money."""
        column = "spend" if "spend" in self.totals else "active_days"
        return np.log1p(self.totals[column].clip(lower=0).to_numpy())


def customer_outcomes(days: Days, *, start: date, horizon_days: int, index: pd.Index) -> Outcomes:
    """Add up what the given customers did from `start` on, for `horizon_days` local days.

    Takes  days: the state, reaching to the end of the horizon; index: customers, in the order wanted
    Gives  Outcomes in that order; a customer with nothing in the horizon has zeros
    """
    end = start + timedelta(days=horizon_days)
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows.day < ibis.literal(end)))
    rows = rows.filter(rows.until < ibis.literal(end))
    aggregates = {"orders": rows.orders.sum(), "active_days": (rows.own_events > 0).ifelse(1, 0).sum()}
    if "amount" in rows.columns:
        aggregates["spend"] = rows.amount.sum() + rows.other_amount.sum() - rows.return_amount.sum()
    if "cost" in rows.columns and "amount" in rows.columns:
        aggregates |= {"amount": rows.amount.sum(), "cost": rows.cost.sum()}
    aggregates = {name: total.cast("float64") for name, total in aggregates.items()}  # decimals of Python are slow
    totals = rows.group_by("customer_id").aggregate(**aggregates).to_pandas().set_index("customer_id")
    totals = totals.reindex(index).astype(float).fillna(0.0)
    if days.categories is None:
        return Outcomes(totals=totals, weights=None, categories=())
    weights, names = category_weights(days, start=start, end=end, index=index)
    return Outcomes(totals=totals, weights=weights, categories=tuple(names))


def describe_customers(events: ir.Table, *, run: Run, kinds: dict[str, str], engine: str = "duckdb") -> Customers:
    """Keep days in a run, and describe each customer at its date.

    Takes  events: contract columns, before `as_of`
    Gives  Customers at the date of the run, which then holds days, day_categories and day_channels, the same from
           every engine

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company'
    engine : as `segkit.data.engine.open_engine`; a cluster must see the run folder under the same path

    Raises
    ------
    SourceError : the engine cannot be used
    """
    if engine in LOCAL_ENGINES:
        write_days(run, build_days(events, kinds=kinds))
        return load_customers(run, kinds=kinds)
    there = open_engine(engine)
    try:
        with TemporaryDirectory(dir=run.path, prefix="carried-") as folder:
            write_days(run, build_days(transfer_table(events, to=there, folder=folder, name="events"), kinds=kinds))
        data = customer_data(load_days(run, on=there), period=run.period, kinds=kinds)
        return Customers(load_days(run), period=run.period, kinds=kinds, data=data)
    finally:
        there.disconnect()


def update_customers(
    events: ir.Table,
    *,
    run: Run,
    previous: Run,
    kinds: dict[str, str],
    engine: str = "duckdb",
) -> tuple[Customers, str]:
    """The same from the days that an earlier run holds, and the events since its `as_of` merged into them.

    Takes  events: contract columns, before `as_of`; held: the earlier run
    Gives  Customers, as `describe_customers` gives them of all events; and why all of history was put together
           anew, "" where it was not

    Parameters
    ----------
    kinds, engine : as `describe_customers`; any engine but DuckDB reads all of history
    """
    since = previous.period.as_of
    why = (
        f"the engine is {engine}"
        if engine not in LOCAL_ENGINES
        else _reason_to_rebuild(events, previous=previous, since=since, kinds=kinds)
    )
    if why:
        return describe_customers(events, run=run, kinds=kinds, engine=engine), why
    new = events.filter(events.day >= ibis.literal(since))
    if "event_id" in events.columns:  # one that was counted before does not count again
        old = events.filter(events.day < ibis.literal(since)).select(known_id="event_id").distinct()
        new = new.anti_join(old, new.event_id == old.known_id)
    days = load_days(previous)
    with TemporaryDirectory(dir=run.path, prefix="carried-") as folder:  # they are read several times: once from afar
        new = transfer_table(new, to=days.rows.get_backend(), folder=folder, name="events")
        write_days(run, merge_days(days, build_days(new, kinds=kinds)))
    return load_customers(run, kinds=kinds), ""


def _reason_to_rebuild(events: ir.Table, *, previous: Run, since: date, kinds: dict[str, str]) -> str:
    """Why days that were kept cannot be built on; "" where the events before them are those they were made of, by
    number and money of each kind.
    """
    if not previous.has("day_orders"):
        return "the last run kept no pieces of orders"
    days = load_days(previous).rows
    columns = {kind: count_column(kind) for kind in kinds}
    if not set(columns.values()) <= set(days.columns):
        return "the last run knew other kinds of event"
    if ("amount" in events.columns) != ("amount" in days.columns):
        return "the last run knew other columns"
    old = events.filter(events.day < ibis.literal(since))
    found = {name: old.count(where=old.event == kind) for kind, name in columns.items()}
    then = {name: days[name].sum() for name in columns.values()}
    if "amount" in days.columns:
        own = [kind for kind, who in kinds.items() if who == "customer"]
        found["money"] = old.amount.sum(where=old.event.isin(own))
        then["money"] = days.amount.sum() + days.other_amount.sum() + days.return_amount.sum()
    totals = [
        table.aggregate(**{name: sum_.cast("float64") for name, sum_ in of.items()}).to_pandas().iloc[0].fillna(0.0)
        for table, of in ((old, found), (days, then))
    ]
    if (totals[0] - totals[1]).abs().max() > 1e-4:
        return f"the source holds other events before {since} than the last run read"
    return ""
