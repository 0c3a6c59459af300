"""Compute each customer's features and outcomes from days."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.bought import Bought as Bought
from segkit.customers.bought import CustomerData as CustomerData
from segkit.customers.bought import Outcomes as Outcomes
from segkit.customers.days import DAY_KEYS, PURCHASE, RETURN, Days, load_days
from segkit.data.runs import Run
from segkit.period import Period
from segkit.vocabulary import DAY_PARTS, FEATURES, WEEKDAYS, Feature, channel_feature, is_from_days, kind_features

TIMES_OF_DAY = tuple(f"{part}_share" for part in DAY_PARTS)
OFTEN, ALWAYS, AUTOMATIC = 3, 0.999, 0.75  # active days; share of visits; share of customers with so many of both
ONE_TIME = 0.8  # share of customers with a single active day, from which on a business is one of one-time buyers
MAX_CHANNELS = 12  # channels with a feature of their own, the most used
DECIMALS = 9  # of features
RECENT_AGGREGATES = ("orders", "amount")  # also summed over the recent days
PURCHASE_AGGREGATES = ("orders", "recent_orders", "lines")  # absent where no event is a purchase
MONDAY = 4  # days from the first Monday of 1970 back to its first Thursday
WEEKS = 7 * 100_000  # makes the remainder positive before 1970
SUM_TYPE = "decimal(38, 4)"
WEIGHT_UNIT = 10_000  # a weight is counted in ten-thousandths of the currency, so that its logarithm is never negative
LOG_TYPE = (
    "decimal(38, 10)"  # logarithms are rounded before they are summed, so that the order of threads does not matter
)


class NumpyMath:
    """Compute formulas on numpy columns, for a batch and for live customers."""

    where = staticmethod(np.where)
    sqrt = staticmethod(np.sqrt)
    log = staticmethod(np.log)


class _IbisMath:
    """Compute formulas as Ibis expressions, inside a warehouse."""

    @staticmethod
    def where(condition: ir.BooleanValue, yes: Any, no: Any) -> ir.FloatingValue:
        """Choose by condition, with constants cast in the engine: Spark reads 1.0 as a decimal and miscalculates."""
        return condition.ifelse(_floating(yes), _floating(no))

    @staticmethod
    def sqrt(value: ir.NumericValue) -> ir.FloatingValue:
        """Return the square root."""
        return value.sqrt()

    @staticmethod
    def log(value: ir.NumericValue) -> ir.FloatingValue:
        """Return the natural logarithm."""
        return value.ln()


def _floating(value: Any) -> ir.NumericValue:
    """Cast a constant to float64 in the engine, exactly."""
    if isinstance(value, ir.Value):
        return value
    whole = ibis.literal(int(value)).cast("float64")
    return (
        whole if float(value) == int(value) else whole + (ibis.literal(repr(float(value) - int(value))).cast("float64"))
    )


def _customer_aggregates(days: Days, *, period: Period, channels: tuple[str, ...] = ()) -> ir.Table:
    """Sum the lookback of everyone with an event of their own in it.

    Parameters
    ----------
    days
        Any span; rows on or after ``period.as_of`` are not read.
    period
        The lookback to sum.
    channels
        Channels to count by.

    Returns
    -------
    ir.Table
        customer_id and one float64 column per sum, no nulls: every measure of the days; active_days, first_day,
        last_day, first_ever (days since 1970), gap_squared, longest_gap; recent_*; occasions by weekday; last_<kind>;
        of categories their number, weight, sum of w ln w and largest; channel_<name>; spend; as_of_day, lookback_days,
        recent_days.
    """
    rows = days.rows.filter(
        (days.rows.day < ibis.literal(period.as_of)) & (days.rows.until < ibis.literal(period.as_of))
    )
    inside = rows.filter(rows.day >= ibis.literal(period.lookback_start))
    first = rows.filter(rows.own_events > 0).group_by("customer_id")
    parts = [first.aggregate(first_ever=rows.day.min().epoch_days())]
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
    """Sum what each customer bought by category from ``start`` to the day before ``end``.

    Returns
    -------
    ir.Table
        customer_id, category, weight (amount, or lines without money) above 0.
    """
    inside = _in_window(categories, start=start, end=end)
    weight = inside.amount if "amount" in inside.columns else inside.lines
    totals = inside.group_by("customer_id", "category").aggregate(weight=weight.sum().cast(SUM_TYPE))
    return totals.filter(totals.weight > 0)


def are_one_time(features: pd.DataFrame) -> bool:
    """Return whether nearly all customers came on a single day, so that what comes next is who comes again at all."""
    return len(features) > 0 and float((features["active_days"] == 1).mean()) >= ONE_TIME


def come_at_fixed_hours(features: pd.DataFrame) -> bool:
    """Return whether most regular customers always come at one time of day, as where payments are automatic."""
    often = features[features["active_days"] >= OFTEN] if set(TIMES_OF_DAY) < set(features) else features.iloc[:0]
    return len(often) > 0 and float((often[list(TIMES_OF_DAY)].max(axis=1) > ALWAYS).mean()) >= AUTOMATIC


def day_number(day: date) -> int:
    """Count the days since 1970-01-01.

    Examples
    --------
    >>> day_number(date(1970, 1, 2))
    1
    """
    return day.toordinal() - date(1970, 1, 1).toordinal()


def weekday(number: ir.IntegerValue) -> ir.IntegerValue:
    """Return the weekday of a day number, Monday 0; by arithmetic, as engines define weeks differently."""
    return (number + (WEEKS + MONDAY - 1)) % 7


def _totals(rows: ir.Table, *, period: Period) -> ir.Table:
    """Sum the measures of the lookback, in all, over the recent days, and by weekday."""
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


def _rhythm(rows: ir.Table, *, period: Period) -> ir.Table:
    """Summarise the days with events of their own: how many, and the gaps between them.

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
    """Return the number of categories, and the sum, the sum of w ln w, and the largest of their weights."""
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
    """Count own events in all and by channel."""
    inside = _in_window(table, start=period.lookback_start, end=period.as_of)
    aggregates = {f"channel_{name}": _sum(inside, "own_events", where=inside.channel == name) for name in channels}
    return inside.group_by("customer_id").aggregate(channel_events=_sum(inside, "own_events"), **aggregates)


def _sum(rows: ir.Table, name: str, *, where: ir.BooleanColumn | None = None) -> ir.NumericScalar:
    """Sum a column; flags of days that are not summed are counted, which is cheaper."""
    column = rows[name]
    if not column.type().is_boolean():
        return column.sum(where=where)
    return rows.count(where=column if where is None else column & where)


def _in_window(table: ir.Table, *, start: date, end: date) -> ir.Table:
    """Select the rows from ``start`` to the day before ``end``."""
    return table.filter((table.day >= ibis.literal(start)) & (table.day < ibis.literal(end)))


@dataclass(frozen=True)
class Customers:
    """Hold the customers of a source at the date of a period.

    Parameters
    ----------
    days
        The state of all customers; what lies after ``period.as_of`` is not read.
    period
        The date, the lookback before it and the horizon after it.
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
        """Return the ids of the customers who were active in the lookback, sorted."""
        return self.data.features.index


def customers_at(days: Days, *, period: Period, kinds: dict[str, str]) -> Customers:
    """Describe the customers at the date of a period."""
    return Customers(days, period=period, kinds=kinds, data=customer_data(days, period=period, kinds=kinds))


def load_customers(run: Run, *, kinds: dict[str, str]) -> Customers:
    """Load the customers of a run, at its date, from its days and, once they are written, its features."""
    days, period = load_days(run), run.period
    if not run.has("features"):
        return customers_at(days, period=period, kinds=kinds)
    table = run.table("features").set_index("customer_id")
    features = table[[name for name in table if is_from_days(name)]]
    bought = _bought(days, start=period.lookback_start, end=period.as_of, index=features.index)
    return Customers(days, period=period, kinds=kinds, data=CustomerData(features, *bought))


def customer_data(days: Days, *, period: Period, kinds: dict[str, str]) -> CustomerData:
    """Compute features and amounts by category of everyone active in the lookback; see ``customer_features``."""
    features = customer_features(days, period=period, kinds=kinds)
    return CustomerData(features, *_bought(days, start=period.lookback_start, end=period.as_of, index=features.index))


def customer_features(
    days: Days, *, period: Period, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Compute the features of everyone with an event of their own in the lookback.

    Parameters
    ----------
    days
        Any span; rows on or after ``period.as_of`` are not read.
    period
        Its lookback is what features see.
    kinds
        Each kind of event -> 'customer' or 'company'.
    channels
        Channels with a feature of their own; by default the most used before ``as_of``.

    Returns
    -------
    pd.DataFrame
        One row per customer, sorted and indexed by customer_id; numeric columns, explained in ``vocabulary``. Features
        that need an absent column of the source are absent, not zero.
    """
    channels = _most_used(days, as_of=period.as_of) if channels is None else channels
    aggregates = (
        _customer_aggregates(days, period=period, channels=channels).to_pandas().set_index("customer_id").sort_index()
    )
    available = available_features(aggregates.columns, kinds=kinds, channels=channels)
    columns = {feature.name: np.asarray(feature.formula(aggregates, NumpyMath), dtype=float) for feature in available}
    return pd.DataFrame(columns, index=aggregates.index).round(DECIMALS) + 0.0


def features_expression(
    days: Days, *, period: Period, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> ir.Table:
    """Build the same features as one Ibis expression, to be computed in a warehouse or a cluster.

    Returns
    -------
    ir.Table
        customer_id and the features (float64, not rounded), unsorted.
    """
    channels = _most_used(days, as_of=period.as_of) if channels is None else channels
    aggregates = _customer_aggregates(days, period=period, channels=channels)
    features = available_features(aggregates.columns, kinds=kinds, channels=channels)
    return aggregates.select(
        "customer_id", **{f.name: f.formula(aggregates, _IbisMath).cast("float64") for f in features}
    )


def available_features(
    columns: pd.Index | tuple[str, ...], *, kinds: dict[str, str], channels: tuple[str, ...]
) -> list[Feature]:
    """List the features whose sums are available, in the order of the vocabulary; those named from the data last."""
    available = [*FEATURES, *(channel_feature(name) for name in channels), *kind_features(kinds)]
    return [feature for feature in available if set(feature.requires) <= set(columns)]


def _bought(days: Days, *, start: date, end: date, index: pd.Index) -> tuple:
    """Compute what customers bought by category, and by item where needs are learnt from them.

    Returns matrix and names of the categories, then of the items; None and no names where there are none.
    """
    span = {"start": start, "end": end, "index": index}
    categories = (None, ()) if days.categories is None else _category_weights(days.categories, **span)
    return (*categories, *((None, ()) if days.items is None else _category_weights(days.things, **span)))


def _category_weights(categories: ir.Table, *, start: date, end: date, index: pd.Index) -> Bought:
    """Compute what each customer bought by category from ``start`` to the day before ``end``.

    Parameters
    ----------
    categories
        By customer, day and category.
    start, end
        Local days.
    index
        Ids of the customers wanted, in order.

    Returns
    -------
    tuple
        Matrix (customers x categories) of net amounts, or of lines without money; the sorted category names.
    """
    totals = category_totals(categories, start=start, end=end)
    table = totals.mutate(weight=totals.weight.cast("float64")).to_pyarrow()
    if not len(table):
        return sparse.csr_array((len(index), 0)), ()
    ids, kinds = (table[name].dictionary_encode().combine_chunks() for name in ("customer_id", "category"))  # each once
    row = index.get_indexer(ids.dictionary.to_pylist())[ids.indices.to_numpy()]
    wanted = row >= 0
    number, found = kinds.indices.to_numpy()[wanted], kinds.dictionary.to_pylist()
    names = sorted(found[i] for i in np.unique(number))
    places = row[wanted], pd.Index(names).get_indexer(found)[number]
    return sparse.csr_array((table["weight"].to_numpy()[wanted], places), shape=(len(index), len(names))), tuple(names)


def dormant_customers(days: Days, *, period: Period) -> pd.DataFrame:
    """List customers of earlier days who were inactive for the whole lookback.

    Returns
    -------
    pd.DataFrame
        customer_id, last_day, silent_days, bought_most (the category they spent most on, if any), sorted by id.
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    last = rows.group_by("customer_id").aggregate(last_day=rows.day.max()).to_pandas()
    last["last_day"] = pd.to_datetime(last["last_day"])
    last["silent_days"] = (pd.Timestamp(period.as_of) - last["last_day"]).dt.days
    dormant = last[last["silent_days"] > period.lookback_days].sort_values("customer_id", ignore_index=True)
    dormant["bought_most"] = pd.Series([None] * len(dormant), dtype=object)
    if days.categories is not None and len(dormant):
        bought = days.categories.semi_join(ibis.memtable(dormant[["customer_id"]]), "customer_id")
        totals = category_totals(bought, start=date(1970, 1, 1), end=period.as_of)
        order = [ibis.desc(totals.weight), totals.category]
        ranked = totals.mutate(rank=ibis.row_number().over(group_by=totals.customer_id, order_by=order))
        most = ranked.filter(ranked.rank == 0).select("customer_id", "category").to_pandas()
        dormant["bought_most"] = dormant["customer_id"].map(most.set_index("customer_id")["category"])
    return dormant


def _most_used(days: Days, *, as_of: date) -> tuple[str, ...]:
    """Name the most used channels before ``as_of``, sorted."""
    if days.channels is None:
        return ()
    before = days.channels.filter(days.channels.day < ibis.literal(as_of))
    used = before.group_by("channel").aggregate(uses=before.own_events.cast("int64").sum().cast("float64")).to_pandas()
    most = used.sort_values(["uses", "channel"], ascending=[False, True])["channel"].head(MAX_CHANNELS)
    return tuple(sorted(most))


def customer_outcomes(days: Days, *, start: date, horizon_days: int, index: pd.Index) -> Outcomes:
    """Sum what the given customers did from ``start`` on, for ``horizon_days`` local days.

    Parameters
    ----------
    days
        Reaching to the end of the horizon.
    index
        Ids of the customers, in the order wanted.

    Returns
    -------
    Outcomes
        In that order; a customer without events in the horizon has zeros.
    """
    end = start + timedelta(days=horizon_days)
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows.day < ibis.literal(end)))
    rows = rows.filter(rows.until < ibis.literal(end))
    aggregates = {"orders": rows.orders.sum(), "active_days": (rows.own_events > 0).ifelse(1, 0).sum()}
    if "amount" in rows.columns:
        aggregates["spend"] = rows.amount.sum() + rows.other_amount.sum() - rows.return_amount.sum()
    if "cost" in rows.columns and "amount" in rows.columns:
        aggregates |= {"amount": rows.amount.sum(), "cost": rows.cost.sum()}
    aggregates = {name: total.cast("float64") for name, total in aggregates.items()}  # decimals are slow in Python
    totals = rows.group_by("customer_id").aggregate(**aggregates).to_pandas().set_index("customer_id")
    totals = totals.reindex(index).astype(float).fillna(0.0)
    return Outcomes(totals, *_bought(days, start=start, end=end, index=index))
