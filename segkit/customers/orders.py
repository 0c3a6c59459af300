"""Orders: the lines of events put together in pieces that merge by key; each adds to the day its order began.

An order belongs to the day of its first line. What is added to it on a later day is a piece of its own, under that
first day, with `until`, the day it was added on: a window that ends between the two does not see it.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

PURCHASE = "purchase"
RETURN = "return"
PIECE_KEYS = ("customer_id", "bought", "order_id", "day")  # of a piece of an order, or of the other events of a day
MONEY = "decimal(18, 4)"  # of a day; sums of days are wider
SQUARED = "decimal(36, 8)"  # two of them add up within the 38 digits that engines have


@dataclass(frozen=True)
class Measure:
    """One sum over events: of a column, or a count; of what was bought, returned, other, own, or of one kind."""

    name: str
    group: str
    column: str | None = None
    condition: str | None = None  # a flag that must be set, or an amount above zero


MEASURES = (
    Measure("own_events", "own"),
    Measure("lines", "bought"),
    Measure("amount", "bought", "amount"),
    Measure("discount", "bought", "discount"),
    Measure("cost", "bought", "cost"),
    Measure("units", "bought", "quantity"),
    Measure("private_amount", "bought", "amount", condition="private_label"),
    Measure("discounted_lines", "bought", condition="discount"),
    Measure("other_amount", "other", "amount"),
    Measure("return_amount", "returned", "amount"),
)


def count_column(kind: str) -> str:
    """The name of the column that counts a kind of event."""
    return f"n_{kind}"


def measures(columns: tuple[str, ...], *, kinds: dict[str, str]) -> list[Measure]:
    """The sums that events with these columns carry, and the count of each kind.

    >>> [m.name for m in measures(("customer_id", "amount"), kinds={"purchase": "customer"})]
    ['own_events', 'lines', 'amount', 'other_amount', 'return_amount', 'n_purchase']
    """
    available = [m for m in MEASURES if {m.column, m.condition} - {None} <= set(columns)]
    return available + [Measure(count_column(kind), kind) for kind in sorted(kinds)]


def pieces_of(events: ir.Table, *, kinds: dict[str, str]) -> tuple[ir.Table, ir.Table | None]:
    """Put lines together: the events are read once, and again only for the few orders that go on for days.

    Takes  events: contract columns, each event once
    Gives  orders that began and ended on one day, and the other events of a day: one row each, with sums and `slot`
           (hours
           since 1970 of the first event of their own); and orders of several days, a row for each day (or None)
    """
    aggregates, never = _sums(events, kinds=kinds)
    bought = events.event == PURCHASE
    if "order_id" not in events.columns:
        pieces = events.group_by(events.customer_id, bought.name("bought"), events.day)
        return pieces.aggregate(**aggregates).mutate(**never), None
    span = {"day": events.day.min(), "last_day": events.day.max()}
    no_day = ibis.null("date")
    if set(kinds) == {PURCHASE}:  # every key of a group-by of all events costs
        keys = {"order_id": events.order_id, "own_day": events.order_id.isnull().ifelse(events.day, no_day)}
        never = {"bought": ibis.literal(True), **never}
    else:
        keys = {
            "bought": bought,
            "order_id": bought.ifelse(events.order_id, ibis.null(events.order_id.type())),
            "own_day": (~bought | events.order_id.isnull()).ifelse(events.day, no_day),
        }
    whole = events.group_by(events.customer_id, **keys).aggregate(**span, **aggregates).mutate(**never)
    longer = whole.filter(whole.day != whole.last_day).select("customer_id", "order_id")
    lines = events.filter((events.event == PURCHASE) & events.order_id.notnull()).semi_join(
        longer, ["customer_id", "order_id"]
    )
    aggregates, never = _sums(lines, kinds=kinds)
    bought = (lines.event == PURCHASE).name("bought")
    several = (
        lines.group_by(lines.customer_id, bought, lines.order_id, lines.day).aggregate(**aggregates).mutate(**never)
    )
    return whole.filter(whole.day == whole.last_day).select(*several.columns), several


def under_first_day(pieces: ir.Table) -> ir.Table:
    """Give each piece the day its order began (`first_day`), and its part in the square of the order's amount.

    Only the first piece opens an order and is an occasion; what comes later adds to its lines and amounts.
    """
    if "order_id" not in pieces.columns:
        return of_one_day(pieces)
    later = _later_pieces(pieces).rename(late_customer="customer_id", late_order="order_id", late_day="day")
    keys = [
        pieces.customer_id == later.late_customer,
        pieces.order_id == later.late_order,
        pieces.day == later.late_day,
    ]
    joined = pieces.left_join(later, keys)
    late = joined.late_day.notnull()
    columns = {
        "first_day": joined.first_day.coalesce(joined.day),
        "bought": joined.bought & ~late,
        "own_events": late.ifelse(0, joined.own_events),
        "slot": late.ifelse(ibis.null("int64"), joined.slot),
    }
    if "amount" in pieces.columns:
        cross = _square(joined.amount, joined.before).fill_null(0)  # (a + b)**2 - b**2, in terms that fit
        columns["square"] = ops.Cast(_square(joined.amount, joined.amount) + cross + cross, SQUARED).to_expr()
    return joined.mutate(**columns).drop("late_customer", "late_order", "late_day", "before")


def of_one_day(pieces: ir.Table) -> ir.Table:
    """The same for pieces that are whole orders."""
    square = {"square": _square(pieces.amount, pieces.amount).fill_null(0)} if "amount" in pieces.columns else {}
    return pieces.mutate(first_day=pieces.day, **square)


def sum_of(column: ir.NumericColumn, *, where: ir.BooleanColumn | None = None) -> ir.NumericScalar:
    """An exact sum, zero where there is nothing."""
    return column.cast(MONEY).sum(where=where).fill_null(0).cast(MONEY)


def exactly(total: ir.NumericScalar) -> ir.NumericScalar:
    """Whole numbers as such: DuckDB adds them up in a wider type than Ibis knows of, so the cast must stay."""
    return ops.Cast(total, "int64").to_expr() if total.type().is_integer() else total.cast(MONEY)


def _sums(events: ir.Table, *, kinds: dict[str, str]) -> tuple[dict[str, ir.Value], dict[str, ir.Value]]:
    """The sums of each measure, and zeros for those that no kind of event adds to."""
    own = {kind for kind, who in kinds.items() if who == "customer"}
    adds = {"bought": {PURCHASE}, "returned": {RETURN}, "own": own, "other": own - {PURCHASE, RETURN}}
    slot = events.day.epoch_days().cast("int64") * 24 + events.hour.cast("int64")
    aggregates, never = {"slot": slot.min(where=_is_of(events, own, kinds=kinds))}, {}
    for measure in measures(events.columns, kinds=kinds):
        of = adds.get(measure.group, {measure.group})
        if measure.group in ("returned", "other") and not kinds.keys() & of:
            never[measure.name] = ibis.literal(0).cast(MONEY)
            continue
        condition = _is_of(events, of, kinds=kinds)
        if measure.condition:
            only = events[measure.condition]
            only = (only if only.type().is_boolean() else only > 0).fill_null(False)
            condition = only if condition is None else condition & only
        counted = measure.column is None
        aggregates[measure.name] = (
            events.count(where=condition) if counted else sum_of(events[measure.column], where=condition)
        )
    return aggregates, never


def _is_of(events: ir.Table, of: set[str], *, kinds: dict[str, str]) -> ir.BooleanColumn | None:
    """Whether an event is of some kinds; None where all are: a condition on every event costs."""
    if kinds.keys() <= of:
        return None
    return events.event.isin(sorted(of)) if len(of) != 1 else events.event == next(iter(of))


def _later_pieces(pieces: ir.Table) -> ir.Table:
    """The few pieces that an order got after its first day: that day, and the amount `before` them."""
    named = pieces.filter(pieces.order_id.notnull())
    orders = named.group_by("customer_id", "order_id").aggregate(first_day=named.day.min(), pieces=named.count())
    several = orders.filter(orders.pieces > 1).drop("pieces")
    later = named.inner_join(several, ["customer_id", "order_id"])
    earlier = ibis.window(
        group_by=[later.customer_id, later.order_id], order_by=later.day, preceding=(None, 1), following=None
    )
    amount = later.amount if "amount" in pieces.columns else later.lines.cast(MONEY)
    later = later.mutate(before=amount.sum().over(earlier).cast(MONEY)).filter(lambda t: t.day > t.first_day)
    return later.select("customer_id", "order_id", "day", "first_day", "before")


def _square(left: ir.DecimalColumn, right: ir.DecimalColumn) -> ir.DecimalColumn:
    """A wide operand makes a wide product: two narrow ones overflow in DuckDB, two wide ones lose digits in Spark."""
    return ops.Cast(left.cast("decimal(19, 4)") * right, SQUARED).to_expr()
