"""Sums: what the formulas of features are written on, one row per customer, as an Ibis expression over their days."""

from datetime import date

import ibis
import ibis.expr.types as ir

from segkit.customers.days import DAY_KEYS, Days
from segkit.customers.orders import PURCHASE, RETURN
from segkit.period import Period
from segkit.vocabulary import WEEKDAYS

RECENT = ("orders", "amount")  # sums that are also kept of lately
WITHOUT_PURCHASES = ("orders", "recent_orders", "lines")  # mean nothing where no event is a purchase
MONDAY = 4  # days from the first Monday of 1970 back to its first Thursday
WEEKS = 7 * 100_000  # keeps the remainder positive before 1970
ADDED_UP = "decimal(38, 4)"
WEIGHT_UNIT = 10_000  # a weight is counted in ten-thousandths of the currency, so that its logarithm is never negative
LOG_EXACT = "decimal(38, 10)"  # logarithms are rounded before they are added: the order of threads must not matter


def customer_sums(days: Days, *, period: Period, channels: tuple[str, ...] = ()) -> ir.Table:
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
        parts.append(_breadth(days.categories, period=period))
    if days.channels is not None and channels:
        parts.append(_by_channel(days.channels, period=period, channels=channels))
    rhythm, totals = _rhythm(inside, period=period), _totals(inside, period=period)
    table = rhythm.inner_join(totals, "customer_id")
    names = [name for name in table.columns if name != "customer_id"]
    for number, part in enumerate(parts):
        table = table.left_join(part, rhythm.customer_id == part.customer_id, rname=f"{{name}}_{number}")
        names += [name for name in part.columns if name != "customer_id"]
    if f"n_{PURCHASE}" not in days.rows.columns:
        names = [name for name in names if name not in WITHOUT_PURCHASES]
    numbers = {name: table[name].cast("float64").fill_null(0) for name in names}
    constants = {"as_of_day": day_number(period.as_of), "lookback_days": period.lookback_days}
    constants["recent_days"] = period.recent_days
    return table.select("customer_id", **numbers, **{n: ibis.literal(v).cast("float64") for n, v in constants.items()})


def category_totals(categories: ir.Table, *, start: date, end: date) -> ir.Table:
    """What each customer bought by category from `start` to the day before `end`: customer_id, category, weight
    (amount, or lines) above 0.
    """
    inside = _inside(categories, start=start, end=end)
    weight = inside.amount if "amount" in inside.columns else inside.lines
    totals = inside.group_by("customer_id", "category").aggregate(weight=weight.sum().cast(ADDED_UP))
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
    aggregates = {name: _sum(rows, name).cast("decimal(38, 8)" if name == "amount_squared" else ADDED_UP)
            for name in rows.columns if name not in DAY_KEYS}  # fmt: skip
    aggregates["weekend_occasions"] = _sum(rows, "occasions", where=of_week >= 5)
    aggregates |= {f"recent_{name}": _sum(rows, name, where=recent) for name in RECENT if name in rows.columns}
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


def _breadth(categories: ir.Table, *, period: Period) -> ir.Table:
    """Number of categories, and of their weights the sum, the sum of w ln w, and the largest."""
    totals = category_totals(categories, start=period.lookback_start, end=period.as_of)
    unit = WEIGHT_UNIT if "amount" in categories.columns else 1
    weights = totals.mutate(weight=(totals.weight.cast("float64") * unit).round().cast("float64"))
    log = (weights.weight * weights.weight.ln()).cast(LOG_EXACT)
    return weights.group_by("customer_id").aggregate(
        categories=weights.count(),
        category_weight=weights.weight.cast("int64").sum(),
        category_log=log.sum(),
        top_category_weight=weights.weight.max(),
    )


def _by_channel(table: ir.Table, *, period: Period, channels: tuple[str, ...]) -> ir.Table:
    inside = _inside(table, start=period.lookback_start, end=period.as_of)
    aggregates = {f"channel_{name}": _sum(inside, "own_events", where=inside.channel == name) for name in channels}
    return inside.group_by("customer_id").aggregate(channel_events=_sum(inside, "own_events"), **aggregates)


def _sum(rows: ir.Table, name: str, *, where: ir.BooleanColumn | None = None) -> ir.NumericScalar:
    """A sum; of flags, which days that are not kept have, a count: it is cheaper."""
    column = rows[name]
    if not column.type().is_boolean():
        return column.sum(where=where)
    return rows.count(where=column if where is None else column & where)


def _inside(table: ir.Table, *, start: date, end: date) -> ir.Table:
    return table.filter((table.day >= ibis.literal(start)) & (table.day < ibis.literal(end)))
