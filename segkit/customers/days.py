"""Days: all that is kept of a customer, one small row per local day, its orders and categories beside.

The raw events are read once: lines become pieces of orders (one per order and day), pieces become days. Pieces, and so
days, merge by key: any split of the events gives the same days, and new events are added without a rescan of the old.
Money stays decimal: sums of decimals do not depend on the order in which threads finish.

An order belongs to the day of its first line. What is added to it on a later day is kept in a row of its own under that
first day, with `until`, the day it was added on: a window that ends between the two does not see it.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir

from segkit.data.store import Run
from segkit.errors import InputError
from segkit.vocabulary import DAY_PARTS

PURCHASE = "purchase"
RETURN = "return"
PART_KEYS = ("customer_id", "bought", "order_id", "day")  # of a piece of an order, or of the other events of a day
DAY_KEYS = ("customer_id", "day", "until")
MONEY = "decimal(18, 4)"  # of a day; sums of days are wider
SQUARED = "decimal(36, 8)"  # two of them add up within the 38 digits that engines have
TABLES = {"rows": "days", "categories": "day_categories", "channels": "day_channels", "orders": "day_orders"}


@dataclass(frozen=True)
class Measure:
    """One sum over events: of a column, or a count; of what was bought, returned, other, own, or of one kind."""

    name: str
    of: str
    column: str | None = None
    only: str | None = None  # a flag that must be set, or an amount above zero


MEASURES = (
    Measure("own_events", "own"),
    Measure("lines", "bought"),
    Measure("amount", "bought", "amount"),
    Measure("discount", "bought", "discount"),
    Measure("cost", "bought", "cost"),
    Measure("units", "bought", "quantity"),
    Measure("private_amount", "bought", "amount", only="private_label"),
    Measure("discounted_lines", "bought", only="discount"),
    Measure("other_amount", "other", "amount"),
    Measure("return_amount", "returned", "amount"),
)


@dataclass(frozen=True)
class Days:
    """The state of all customers: `rows` by customer and day; beside them, by customer, day and name, what was bought
    in `categories` and done by `channels`; and the pieces of `orders`, which only merging needs (None: not there).
    """

    rows: ir.Table
    categories: ir.Table | None
    channels: ir.Table | None = None
    orders: ir.Table | None = None


def build_days(events: ir.Table, *, kinds: dict[str, str], to_keep: bool = True) -> Days:
    """Turn events into one row per customer and local day.

    Takes  events: contract columns with `day` (local date) and `hour` (local, 0-23), any order; an event_id counts once
    Gives  Days.rows: customer_id, day, until (day, but for later additions to an order), own_events (done by the
           customer), occasions (orders, and days with other events of their own), orders, lines, `n_<kind>`, money
           in the currency of the source, occasions by part of day; what an absent column would carry is absent
           Days.categories: customer_id, day, category, lines, amount (where known: of purchases, one for all else);
           by the day of the line
           Days.channels: customer_id, day, channel, own_events

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company' (who does it)
    to_keep : false leaves orders, categories and channels as they come, not added up by day: quicker for features made once
    """
    events = _counted_once(events)
    pieces = _pieces(events, kinds=kinds)
    return Days(
        rows=_by_day(pieces, to_keep=to_keep),
        categories=_beside(events, "category", kinds=kinds, to_keep=to_keep),
        channels=_beside(events, "channel", kinds=kinds, to_keep=to_keep),
        orders=pieces,
    )


def merge_days(days: Days, more: Days) -> Days:
    """Add days to days by key; the raw events of neither are read again.

    Takes  two states of one engine, in either order; an order may have lines in both
    Gives  the state that all their events together would have given

    Raises
    ------
    InputError : a state without the pieces of its orders
    """
    if days.orders is None or more.orders is None:
        raise InputError(
            "days: merging needs the pieces of orders. Build them with build_days, or keep them by write_days."
        )
    pieces = _added(days.orders, more.orders, keys=PART_KEYS)
    return Days(
        rows=_by_day(pieces),
        categories=_added(days.categories, more.categories, keys=("customer_id", "day", "category")),
        channels=_added(days.channels, more.channels, keys=("customer_id", "day", "channel")),
        orders=pieces,
    )


def write_days(run: Run, days: Days, *, orders: bool = False) -> None:
    """Keep days in a run: days, day_categories, day_channels.

    Parameters
    ----------
    orders : keep the pieces of orders too (day_orders), so that later events can be merged in
    """
    for part, name in TABLES.items():
        table = getattr(days, part)
        if table is not None and (part != "orders" or orders):
            run.write(table, name)


def load_days(run: Run) -> Days:
    """The days that a run holds, to be queried where they lie."""
    held = {part: run.scan(name) if run.has(name) or part == "rows" else None for part, name in TABLES.items()}
    return Days(**held)


def count_column(kind: str) -> str:
    """The name of the column that counts a kind of event."""
    return f"n_{kind}"


def measures(columns: tuple[str, ...], *, kinds: dict[str, str]) -> list[Measure]:
    """The sums that events with these columns carry, and the count of each kind.

    >>> [m.name for m in measures(("customer_id", "amount"), kinds={"purchase": "customer"})]
    ['own_events', 'lines', 'amount', 'other_amount', 'return_amount', 'n_purchase']
    """
    held = [m for m in MEASURES if {m.column, m.only} - {None} <= set(columns)]
    return held + [Measure(count_column(kind), kind) for kind in sorted(kinds)]


def _counted_once(events: ir.Table) -> ir.Table:
    """Events without repeats of an event_id: the earliest stays."""
    if "event_id" not in events.columns:
        return events
    order = [events[name] for name in ("day", "hour", "event", "customer_id")]
    seen = ibis.row_number().over(group_by=events.event_id, order_by=order)
    return events.mutate(seen=seen).filter(lambda t: t.event_id.isnull() | (t.seen == 0)).drop("seen")


def _pieces(events: ir.Table, *, kinds: dict[str, str]) -> ir.Table:
    """One row per order and day, and per customer and day for other events; `slot`: hours to the first of their own."""
    bought = events.event == PURCHASE
    own = events.event.isin([kind for kind, who in kinds.items() if who == "customer"])
    keys = [events.customer_id, bought.name("bought")]
    if "order_id" in events.columns:
        keys.append(bought.ifelse(events.order_id, ibis.null(events.order_id.type())).name("order_id"))
    slot = events.day.epoch_days().cast("int64") * 24 + events.hour.cast("int64")
    returned = events.event == RETURN
    of = {"bought": bought, "returned": returned, "own": own, "other": own & ~bought & ~returned}
    who = {"returned": {RETURN}, "other": {k for k, v in kinds.items() if v == "customer"} - {PURCHASE, RETURN}}
    sums, never = {}, {}
    for measure in measures(events.columns, kinds=kinds):
        if measure.of in ("other", "returned") and not kinds.keys() & who[measure.of]:
            never[measure.name] = ibis.literal(0).cast(MONEY)
            continue
        condition = of[measure.of] if measure.of in of else events.event == measure.of
        if measure.only:
            only = events[measure.only]
            condition &= only.fill_null(False) if only.type().is_boolean() else (only > 0).fill_null(False)
        sums[measure.name] = (
            events.count(where=condition) if measure.column is None else _sum(events[measure.column], condition)
        )
    return events.group_by([*keys, events.day]).aggregate(slot=slot.min(where=own), **sums).mutate(**never)


def _by_day(pieces: ir.Table, *, to_keep: bool = True) -> ir.Table:
    """Add pieces up to days; squares of order amounts are kept so that their spread can be read later."""
    pieces = _under_first_day(pieces)
    own, hour = pieces.slot.notnull(), pieces.slot % 24
    flags = {"orders": pieces.bought, "occasions": own}
    for part, (start, end) in DAY_PARTS.items():
        flags[f"occasions_{part}"] = own & (hour >= start) & (hour < end)
    keys = {"day": pieces.first_day, "until": pieces.day}
    summed = [name for name in pieces.columns if name not in (*PART_KEYS, "slot", "first_day", "square")]
    if not to_keep:
        counts = {name: flag.ifelse(1, 0).cast("int64") for name, flag in flags.items()}
        squared = {"amount_squared": pieces["square"]} if "square" in pieces.columns else {}
        return pieces.select("customer_id", *summed, **keys, **counts, **squared)
    sums = {name: _exactly(pieces[name].sum()) for name in summed}
    sums |= {name: pieces.count(where=flag) for name, flag in flags.items()}
    if "square" in pieces.columns:
        sums["amount_squared"] = pieces["square"].sum().cast(SQUARED)
    return pieces.group_by("customer_id", **keys).aggregate(**sums)


def _under_first_day(pieces: ir.Table) -> ir.Table:
    """Give each piece the day its order began (`first_day`), and its part in the square of the order's amount.

    Only the first piece opens an order and is an occasion; what comes later adds to its lines and amounts.
    """
    money = "amount" in pieces.columns
    if "order_id" not in pieces.columns:
        square = {"square": _square(pieces.amount, pieces.amount).fill_null(0)} if money else {}
        return pieces.mutate(first_day=pieces.day, **square)
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
    if money:
        cross = _square(joined.amount, joined.before).fill_null(0)  # (a + b)**2 - b**2, in terms that fit
        columns["square"] = ops.Cast(_square(joined.amount, joined.amount) + cross + cross, SQUARED).to_expr()
    return joined.mutate(**columns).drop("late_customer", "late_order", "late_day", "before")


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


def _beside(events: ir.Table, name: str, *, kinds: dict[str, str], to_keep: bool) -> ir.Table | None:
    """What was bought by category, or done by channel, on each day."""
    if name not in events.columns:
        return None
    own = [kind for kind, who in kinds.items() if who == "customer" and (name != "category" or kind != RETURN)]
    rows = events.filter(events.event.isin(own) & events[name].notnull())
    count, money = "lines" if name == "category" else "own_events", name == "category" and "amount" in events.columns
    if not to_keep:
        amount = {"amount": _weight(rows)} if money else {}
        return rows.select("customer_id", "day", name, **{count: ibis.literal(1).cast("int64")}, **amount)
    amount = {"amount": _sum(_weight(rows), None)} if money else {}
    return rows.group_by("customer_id", "day", name).aggregate(**{count: rows.count()}, **amount)


def _weight(rows: ir.Table) -> ir.DecimalColumn:
    """What an event weighs in its category: the amount of a purchase, and one for what is done without money."""
    return (rows.event == PURCHASE).ifelse(rows.amount.cast(MONEY).fill_null(0), ibis.literal(1).cast(MONEY))


def _added(table: ir.Table | None, more: ir.Table | None, *, keys: tuple[str, ...]) -> ir.Table | None:
    """Rows of the same key added up; what one of the two lacks is zero there (an absent key: null)."""
    if table is None or more is None:
        return more if table is None else table
    schema = dict(more.schema()) | dict(table.schema())
    both = ibis.union(*(_aligned(part, schema=schema, keys=keys) for part in (table, more)))
    kept = [key for key in keys if key in schema]
    sums = {name: _exactly(both[name].sum()) for name in schema if name not in (*kept, "slot")}
    if "slot" in schema:
        sums = {"slot": both["slot"].min(), **sums}
    return both.group_by(kept).aggregate(**sums)


def _aligned(table: ir.Table, *, schema: dict[str, dt.DataType], keys: tuple[str, ...]) -> ir.Table:
    lacks = {name: kind for name, kind in schema.items() if name not in table.columns}
    filled = {n: ibis.null(k) if n in (*keys, "slot") else ibis.literal(0).cast(k) for n, k in lacks.items()}
    return table.mutate(**filled).select(*schema)


def _sum(column: ir.NumericColumn, condition: ir.BooleanColumn | None) -> ir.NumericScalar:
    return column.cast(MONEY).sum(where=condition).fill_null(0).cast(MONEY)


def _square(left: ir.DecimalColumn, right: ir.DecimalColumn) -> ir.DecimalColumn:
    """A wide operand makes a wide product: two narrow ones overflow in DuckDB, two wide ones lose digits in Spark."""
    return ops.Cast(left.cast("decimal(19, 4)") * right, SQUARED).to_expr()


def _exactly(total: ir.NumericScalar) -> ir.NumericScalar:
    """Whole numbers as such: DuckDB adds them up in a wider type than Ibis knows of, so the cast must stay."""
    return ops.Cast(total, "int64").to_expr() if total.type().is_integer() else total.cast(MONEY)
