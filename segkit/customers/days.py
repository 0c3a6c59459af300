"""Aggregate events to one row per customer and local day."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from segkit.data.runs import Run
from segkit.vocabulary import DAY_PARTS, activity_kinds

PURCHASE = "purchase"
RETURN = "return"
PIECE_KEYS = ("customer_id", "bought", "order_id", "day")  # of a piece of an order, or of the other events of a day
DAY_KEYS = ("customer_id", "day", "until")
TABLES = {
    "rows": "days",
    "categories": "day_categories",
    "items": "day_items",
    "channels": "day_channels",
}
ORDERS = "day_orders"  # what is kept of orders
THINGS = ("category", "item")  # columns that name what was bought
PARTS, PLACE = "list_length", "list_place"  # of a category in the list of an event
MONEY_TYPE = "decimal(18, 4)"  # of a day; sums over days are wider
SQUARE_TYPE = "decimal(36, 8)"  # two of them add up within the 38 digits of the engines


@dataclass(frozen=True)
class Measure:
    """Define a sum over events: of a column, or a count, over what was bought, returned, other, own, or of one kind."""

    name: str
    group: str
    column: str | None = None
    condition: str | None = None  # a flag that is set, or an amount above zero


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
    """Name the column that counts a kind of event."""
    return f"n_{kind}"


def available_measures(columns: tuple[str, ...], *, kinds: dict[str, str]) -> list[Measure]:
    """List the sums that events with these columns allow, and the count of each kind.

    Examples
    --------
    >>> [m.name for m in available_measures(("customer_id", "amount"), kinds={"purchase": "customer"})]
    ['own_events', 'lines', 'amount', 'other_amount', 'return_amount', 'n_purchase']
    """
    available = [m for m in MEASURES if {m.column, m.condition} - {None} <= set(columns)]
    return available + [Measure(count_column(kind), kind) for kind in sorted(kinds)]


def kinds_that_add(group: str, kinds: Mapping[str, str]) -> set[str]:
    """Return the kinds of event that add to a measure.

    Examples
    --------
    >>> sorted(kinds_that_add("other", {"purchase": "customer", "visit": "customer", "mail": "company"}))
    ['visit']
    """
    own = set(activity_kinds(kinds))
    adds = {"bought": {PURCHASE}, "returned": {RETURN}, "own": own, "other": own - {PURCHASE, RETURN}}
    return adds.get(group, {group})


def count_once(events: ir.Table) -> ir.Table:
    """Select each event_id once; events without one count each time."""
    if "event_id" not in events.columns:
        return events
    order = [events[name] for name in ("day", "hour", "event", "customer_id")]
    seen = ibis.row_number().over(group_by=events.event_id, order_by=order)
    return events.mutate(seen=seen).filter(lambda t: t.event_id.isnull() | (t.seen == 0)).drop("seen")


def _order_pieces(events: ir.Table, *, kinds: dict[str, str]) -> tuple[ir.Table, ir.Table | None]:
    """Sum lines by order; events are read again only for the few orders that span several days.

    Parameters
    ----------
    events
        Contract columns, each event once.
    kinds
        Each kind of event -> 'customer' or 'company'.

    Returns
    -------
    tuple
        Orders of a single day, and the other events of a day, one row each, with sums and ``slot`` (hours since 1970 of
        the first event of the customer); and orders of several days, a row for each day (or None).
    """
    aggregates, zeros = aggregate_expressions(events, kinds=kinds)
    bought = events.event == PURCHASE
    if "order_id" not in events.columns:
        pieces = events.group_by(events.customer_id, bought.name("bought"), events.day)
        return pieces.aggregate(**aggregates).mutate(**zeros), None
    span = {"day": events.day.min(), "last_day": events.day.max()}
    no_day = ibis.null("date")
    if set(kinds) == {PURCHASE}:  # each key of a group-by over all events costs time
        keys = {"order_id": events.order_id, "own_day": events.order_id.isnull().ifelse(events.day, no_day)}
        zeros = {"bought": ibis.literal(True), **zeros}
    else:
        keys = {
            "bought": bought,
            "order_id": bought.ifelse(events.order_id, ibis.null(events.order_id.type())),
            "own_day": (~bought | events.order_id.isnull()).ifelse(events.day, no_day),
        }
    orders = events.group_by(events.customer_id, **keys).aggregate(**span, **aggregates).mutate(**zeros)
    longer = orders.filter(orders.day != orders.last_day).select("customer_id", "order_id")
    lines = events.filter((events.event == PURCHASE) & events.order_id.notnull()).semi_join(
        longer, ["customer_id", "order_id"]
    )
    aggregates, zeros = aggregate_expressions(lines, kinds=kinds)
    bought = (lines.event == PURCHASE).name("bought")
    several = (
        lines.group_by(lines.customer_id, bought, lines.order_id, lines.day).aggregate(**aggregates).mutate(**zeros)
    )
    return orders.filter(orders.day == orders.last_day).select(*several.columns), several


def _assign_first_day(pieces: ir.Table) -> ir.Table:
    """Give each piece the day its order began (``first_day``), and its part in the square of the order's amount.

    Only the first piece opens an order and is an occasion; later pieces add to its lines and amounts.
    """
    if "order_id" not in pieces.columns:
        return _assign_own_day(pieces)
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
        cross = _square(joined.amount, joined.before).fill_null(0)  # (a + b)**2 - b**2, in terms within the type
        columns["square"] = ops.Cast(_square(joined.amount, joined.amount) + cross + cross, SQUARE_TYPE).to_expr()
    return joined.mutate(**columns).drop("late_customer", "late_order", "late_day", "before")


def _assign_own_day(pieces: ir.Table) -> ir.Table:
    """Give pieces that are whole orders their own day as ``first_day``, and the square of their amount."""
    square = {"square": _square(pieces.amount, pieces.amount).fill_null(0)} if "amount" in pieces.columns else {}
    return pieces.mutate(first_day=pieces.day, **square)


def _money_sum(column: ir.NumericColumn, *, where: ir.BooleanColumn | None = None) -> ir.NumericScalar:
    """Sum exactly; zero where there is nothing."""
    return column.cast(MONEY_TYPE).sum(where=where).fill_null(0).cast(MONEY_TYPE)


def _cast_exact(total: ir.NumericScalar) -> ir.NumericScalar:
    """Cast sums of whole numbers back to them: DuckDB sums in a wider type than Ibis knows."""
    return ops.Cast(total, "int64").to_expr() if total.type().is_integer() else total.cast(MONEY_TYPE)


def aggregate_expressions(
    events: ir.Table, *, kinds: dict[str, str]
) -> tuple[dict[str, ir.Value], dict[str, ir.Value]]:
    """Build the sum of each measure, and zeros for measures that no kind of event adds to."""
    own = kinds_that_add("own", kinds)
    slot = events.day.epoch_days().cast("int64") * 24 + events.hour.cast("int64")
    aggregates, zeros = {"slot": slot.min(where=_is_kind(events, own, kinds=kinds))}, {}
    for measure in available_measures(events.columns, kinds=kinds):
        group = kinds_that_add(measure.group, kinds)
        if measure.group in ("returned", "other") and not kinds.keys() & group:
            zeros[measure.name] = ibis.literal(0).cast(MONEY_TYPE)
            continue
        condition = _is_kind(events, group, kinds=kinds)
        if measure.condition:
            flag = events[measure.condition]
            flag = (flag if flag.type().is_boolean() else flag > 0).fill_null(False)
            condition = flag if condition is None else condition & flag
        counted = measure.column is None
        aggregates[measure.name] = (
            events.count(where=condition) if counted else _money_sum(events[measure.column], where=condition)
        )
    return aggregates, zeros


def _is_kind(events: ir.Table, group: set[str], *, kinds: dict[str, str]) -> ir.BooleanColumn | None:
    """Flag events of some kinds; None where all are, as a condition on every event costs time."""
    if kinds.keys() <= group:
        return None
    return events.event.isin(sorted(group)) if len(group) != 1 else events.event == next(iter(group))


def _later_pieces(pieces: ir.Table) -> ir.Table:
    """Find the few pieces of an order after its first day, with that day and the amount ``before`` them."""
    named = pieces.filter(pieces.order_id.notnull())
    orders = named.group_by("customer_id", "order_id").aggregate(first_day=named.day.min(), pieces=named.count())
    several = orders.filter(orders.pieces > 1).drop("pieces")
    later = named.inner_join(several, ["customer_id", "order_id"])
    earlier = ibis.window(
        group_by=[later.customer_id, later.order_id], order_by=later.day, preceding=(None, 1), following=None
    )
    amount = later.amount if "amount" in pieces.columns else later.lines.cast(MONEY_TYPE)
    later = later.mutate(before=amount.sum().over(earlier).cast(MONEY_TYPE)).filter(lambda t: t.day > t.first_day)
    return later.select("customer_id", "order_id", "day", "first_day", "before")


def _square(left: ir.DecimalColumn, right: ir.DecimalColumn) -> ir.DecimalColumn:
    """Multiply exactly: two narrow operands overflow in DuckDB, two wide ones lose digits in Spark."""
    return ops.Cast(left.cast("decimal(19, 4)") * right, SQUARE_TYPE).to_expr()


@dataclass(frozen=True)
class Days:
    """Hold the state of all customers.

    Parameters
    ----------
    rows
        By customer and day.
    categories
        By customer, day and category: what was bought; None without categories.
    channels
        By customer, day and channel: their own events; None without channels.
    orders
        The pieces of orders, of which a run keeps the parts of each on a day; None for the days of a run.
    items
        By customer, day and item: what was bought, where needs are learnt from items; else None.
    """

    rows: ir.Table
    categories: ir.Table | None
    channels: ir.Table | None = None
    orders: ir.Table | None = None
    items: ir.Table | None = None

    @property
    def things(self) -> ir.Table | None:
        """What needs are learnt from: items or categories, in the column ``category``."""
        return self.categories if self.items is None else self.items.rename(category="item")

    def without_items(self) -> "Days":
        """Return the same days, for needs learnt from categories."""
        return replace(self, items=None)

    def without_things(self) -> "Days":
        """Return the same days without what was bought, for totals alone."""
        return replace(self, categories=None, items=None)


def build_days(events: ir.Table, *, kinds: dict[str, str], aggregate: bool = True, items: bool = False) -> Days:
    """Turn events into one row per customer and local day.

    Parameters
    ----------
    events
        Contract columns with ``day`` (local date) and ``hour`` (local, 0-23), in any order; an event_id counts once.
    kinds
        Each kind of event -> 'customer' or 'company' (who does it).
    aggregate
        False returns orders, categories and channels without summing them by day, for features made once.
    items
        Sum items, too: needs are learnt from them.

    Returns
    -------
    Days
        ``rows``: customer_id, day, until (day, but for later additions to an order), own_events (done by the customer),
        occasions (orders, and days with other events of their own), orders, lines, ``n_<kind>``, money in the currency
        of the source, occasions by part of day; columns that the source lacks are absent.
        ``categories``: customer_id, day (of the line), category, lines, amount (of purchases; 1 for other events). An
        event with a list of categories is a line of each, and its amount is divided among them.
        ``channels``: customer_id, day, channel, own_events.
    """
    events = count_once(events)
    single, several = _order_pieces(events, kinds=kinds)
    by_first_day = _assign_own_day(single)
    if several is not None:
        by_first_day = _union(by_first_day, _assign_first_day(several))
    return Days(
        rows=_aggregate_by_day(by_first_day, aggregate=aggregate),
        categories=_by_day_and_name(events, "category", kinds=kinds, aggregate=aggregate),
        channels=_by_day_and_name(events, "channel", kinds=kinds, aggregate=aggregate),
        orders=single if several is None else _union(single, several),
        items=_by_day_and_name(events, "item", kinds=kinds, aggregate=aggregate) if items else None,
    )


def write_days(run: Run, days: Days, *, orders: bool = True) -> None:
    """Write days to a run: days, day_categories, day_items, day_channels, day_orders.

    Parameters
    ----------
    orders
        Write the orders too, which live needs; false writes less.
    """
    if orders and days.orders is not None:
        run.write(order_parts(days.orders), ORDERS)
    for part, name in TABLES.items():
        if getattr(days, part) is not None:
            run.write(getattr(days, part), name)


def order_parts(pieces: ir.Table) -> ir.Table:
    """Select what is kept of orders: the part of each on a day, with its first hour and its amount."""
    names = [name for name in ("customer_id", "day", "order_id", "slot", "amount") if name in pieces.columns]
    named = pieces.bought & pieces.order_id.notnull() if "order_id" in pieces.columns else ibis.literal(False)
    return pieces.filter(named).select(*names)


def load_days(run: Run, *, on: ibis.BaseBackend | None = None) -> Days:
    """Load the days of a run as tables of an engine, without their orders, which are in ``day_orders``.

    Parameters
    ----------
    on
        The engine that queries them; by default a DuckDB of this process.
    """
    tables = {part: run.scan(name, on=on) if run.has(name) or part == "rows" else None for part, name in TABLES.items()}
    return Days(**tables)


def _aggregate_by_day(pieces: ir.Table, *, aggregate: bool = True) -> ir.Table:
    """Sum pieces by day, with squares of order amounts, from which their spread is computed later."""
    own, hour = pieces.slot.notnull(), pieces.slot % 24
    flags = {"orders": pieces.bought, "occasions": own}
    for part, (start, end) in DAY_PARTS.items():
        flags[f"occasions_{part}"] = own & (hour >= start) & (hour < end)
    keys = {"day": pieces.first_day, "until": pieces.day}
    summed = [name for name in pieces.columns if name not in (*PIECE_KEYS, "slot", "first_day", "square")]
    if not aggregate:
        squared = {"amount_squared": pieces["square"]} if "square" in pieces.columns else {}
        return pieces.select("customer_id", *summed, **keys, **flags, **squared)
    aggregates = {name: _cast_exact(pieces[name].sum()) for name in summed}
    aggregates |= {name: pieces.count(where=flag) for name, flag in flags.items()}
    if "square" in pieces.columns:
        aggregates["amount_squared"] = pieces["square"].sum().cast(SQUARE_TYPE)
    return pieces.group_by("customer_id", **keys).aggregate(**aggregates)


def _by_day_and_name(events: ir.Table, name: str, *, kinds: dict[str, str], aggregate: bool) -> ir.Table | None:
    """Sum what was bought by category or item, or done by channel, on each day."""
    if name not in events.columns:
        return None
    own = [kind for kind in activity_kinds(kinds) if name not in THINGS or kind != RETURN]
    rows = events if set(own) == set(kinds) else events.filter(events.event.isin(own))
    rows = one_name_a_row(rows, name)
    count = "lines" if name in THINGS else "own_events"
    money = name in THINGS and ("amount" in events.columns or PARTS in rows.columns)
    if not aggregate:
        amount = {"amount": _weight(rows, kinds=kinds)} if money else {}
        counted = ibis.literal(1).cast("int64") if name in THINGS else ibis.literal(True)
        return rows.select("customer_id", "day", name, **{count: counted}, **amount)
    amount = {"amount": _money_sum(_weight(rows, kinds=kinds))} if money else {}
    return rows.group_by("customer_id", "day", name).aggregate(**{count: rows.count()}, **amount)


def one_name_a_row(events: ir.Table, name: str) -> ir.Table:
    """Select the events with a name, in a row for each name where an event has a list of them.

    Returns
    -------
    ir.Table
        The events; of lists also ``list_length`` and ``list_place`` (from 0) of the name in its list.
    """
    rows = events.filter(events[name].notnull())
    if not rows[name].type().is_array():
        return rows
    rows = rows.mutate(**{PARTS: rows[name].length().cast("int64")})
    rows = rows.mutate(**{PLACE: ibis.range(0, rows[PARTS]).unnest().cast("int64")})
    return rows.mutate(**{name: rows[name][rows[PLACE]]})


def _weight(rows: ir.Table, *, kinds: dict[str, str]) -> ir.DecimalColumn:
    """Return the weight of an event in its category: the amount of a purchase, 1 for events without money.

    An event with several categories counts in equal parts, which add up to its weight: to the last digit up to amounts
    of 900 billion, above which a double cannot hold the digits of a part.
    """
    one = ibis.literal(1).cast(MONEY_TYPE)
    if "amount" not in rows.columns:
        weight = one
    elif set(kinds) <= {PURCHASE, RETURN}:  # returns show no needs
        weight = rows.amount.cast(MONEY_TYPE).fill_null(0)
    else:
        weight = (rows.event == PURCHASE).ifelse(rows.amount.cast(MONEY_TYPE).fill_null(0), one)
    if PARTS not in rows.columns:
        return weight
    wide = "decimal(22, 4)"  # of the largest amount in digits
    digits = ops.Cast(weight.cast(wide) * ibis.literal(Decimal(10**4), "decimal(5, 0)"), "int64").to_expr()
    count = rows[PARTS]
    over = (digits % count + count) % count  # what is left: the first categories count one digit more
    part = ((digits - over) / count).cast("int64") + (rows[PLACE] < over).ifelse(1, 0)
    digit = ibis.literal(Decimal("0.0001"), "decimal(5, 4)")
    return ops.Cast(part.cast(wide) * digit, MONEY_TYPE).to_expr()


def _union(table: ir.Table, more: ir.Table) -> ir.Table:
    """Stack two tables with the columns of the first."""
    return ibis.union(*(_nullable(part.select(*table.columns)) for part in (table, more)))


def _nullable(table: ir.Table) -> ir.Table:
    """Make all columns nullable: Ibis stacks only tables with the same constraints."""
    nullable = {name: kind.copy(nullable=True) for name, kind in table.schema().items() if not kind.nullable}
    return table.cast(nullable) if nullable else table
