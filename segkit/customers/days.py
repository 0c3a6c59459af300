"""Days: all that is kept of a customer, one small row per local day, its orders and categories beside.

The raw events are read once: lines become pieces of orders (one per order and day), pieces become days. Pieces, and so
days, merge by key: any split of the events gives the same days, and new events are added without a rescan of the old.
Money stays decimal: sums of decimals do not depend on the order in which threads finish.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from segkit.customers.orders import (
    MONEY,
    PIECE_KEYS,
    PURCHASE,
    RETURN,
    SQUARED,
    exactly,
    of_one_day,
    pieces_of,
    sum_of,
    under_first_day,
)
from segkit.data.store import Run
from segkit.errors import InputError
from segkit.vocabulary import DAY_PARTS

DAY_KEYS = ("customer_id", "day", "until")
TABLES = {"rows": "days", "categories": "day_categories", "channels": "day_channels", "orders": "day_orders"}


@dataclass(frozen=True)
class Days:
    """The state of all customers: `rows` by customer and day; beside them, by customer, day and name, what was bought
    in `categories` and done by `channels`; and the pieces of `orders`, which only merging needs (None: not there).
    """

    rows: ir.Table
    categories: ir.Table | None
    channels: ir.Table | None = None
    orders: ir.Table | None = None


def build_days(events: ir.Table, *, kinds: dict[str, str], aggregate: bool = True) -> Days:
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
    to_keep : false leaves orders, categories and channels as they come, not added up by day: for features made once
    """
    events = _counted_once(events)
    single, several = pieces_of(events, kinds=kinds)
    placed = of_one_day(single)
    if several is not None:
        placed = _union(placed, under_first_day(several))
    return Days(
        rows=_by_day(placed, aggregate=aggregate),
        categories=_beside(events, "category", kinds=kinds, aggregate=aggregate),
        channels=_beside(events, "channel", kinds=kinds, aggregate=aggregate),
        orders=single if several is None else _union(single, several),
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
    pieces = _added(days.orders, more.orders, keys=PIECE_KEYS)
    return Days(
        rows=_by_day(under_first_day(pieces)),
        categories=_added(days.categories, more.categories, keys=("customer_id", "day", "category")),
        channels=_added(days.channels, more.channels, keys=("customer_id", "day", "channel")),
        orders=pieces,
    )


def write_days(run: Run, days: Days, *, orders: bool = True) -> None:
    """Keep days in a run: days, day_categories, day_channels, day_orders.

    Parameters
    ----------
    orders : keep the pieces of orders too, so that later events can be merged in; false writes less
    """
    rows = days.rows
    if orders and days.orders is not None:
        run.write(days.orders, TABLES["orders"])
        if rows.get_backend().name == "duckdb":  # from the pieces just kept: the events are not added up again
            rows = _by_day(under_first_day(run.scan(TABLES["orders"])))
    for part, table in (("rows", rows), ("categories", days.categories), ("channels", days.channels)):
        if table is not None:
            run.write(table, TABLES[part])


def load_days(run: Run, *, on: ibis.BaseBackend | None = None) -> Days:
    """The days that a run holds, to be queried where they lie.

    Parameters
    ----------
    on : the engine that queries them, by default a DuckDB of this process
    """
    tables = {part: run.scan(name, on=on) if run.has(name) or part == "rows" else None for part, name in TABLES.items()}
    return Days(**tables)


def _counted_once(events: ir.Table) -> ir.Table:
    """Events without repeats of an event_id: the earliest stays."""
    if "event_id" not in events.columns:
        return events
    order = [events[name] for name in ("day", "hour", "event", "customer_id")]
    seen = ibis.row_number().over(group_by=events.event_id, order_by=order)
    return events.mutate(seen=seen).filter(lambda t: t.event_id.isnull() | (t.seen == 0)).drop("seen")


def _by_day(pieces: ir.Table, *, aggregate: bool = True) -> ir.Table:
    """Add pieces up to days; squares of order amounts are kept so that their spread can be read later."""
    own, hour = pieces.slot.notnull(), pieces.slot % 24
    flags = {"orders": pieces.bought, "occasions": own}
    for part, (start, end) in DAY_PARTS.items():
        flags[f"occasions_{part}"] = own & (hour >= start) & (hour < end)
    keys = {"day": pieces.first_day, "until": pieces.day}
    summed = [name for name in pieces.columns if name not in (*PIECE_KEYS, "slot", "first_day", "square")]
    if not aggregate:
        squared = {"amount_squared": pieces["square"]} if "square" in pieces.columns else {}
        return pieces.select("customer_id", *summed, **keys, **flags, **squared)
    aggregates = {name: exactly(pieces[name].sum()) for name in summed}
    aggregates |= {name: pieces.count(where=flag) for name, flag in flags.items()}
    if "square" in pieces.columns:
        aggregates["amount_squared"] = pieces["square"].sum().cast(SQUARED)
    return pieces.group_by("customer_id", **keys).aggregate(**aggregates)


def _beside(events: ir.Table, name: str, *, kinds: dict[str, str], aggregate: bool) -> ir.Table | None:
    """What was bought by category, or done by channel, on each day."""
    if name not in events.columns:
        return None
    own = [kind for kind, who in kinds.items() if who == "customer" and (name != "category" or kind != RETURN)]
    rows = events.filter(events[name].notnull())
    rows = rows if set(own) == set(kinds) else rows.filter(rows.event.isin(own))
    count, money = "lines" if name == "category" else "own_events", name == "category" and "amount" in events.columns
    if not aggregate:
        amount = {"amount": _weight(rows, kinds=kinds)} if money else {}
        one = ibis.literal(1).cast("int64") if name == "category" else ibis.literal(True)
        return rows.select("customer_id", "day", name, **{count: one}, **amount)
    amount = {"amount": sum_of(_weight(rows, kinds=kinds))} if money else {}
    return rows.group_by("customer_id", "day", name).aggregate(**{count: rows.count()}, **amount)


def _weight(rows: ir.Table, *, kinds: dict[str, str]) -> ir.DecimalColumn:
    """What an event weighs in its category: the amount of a purchase, and one for what is done without money."""
    if set(kinds) <= {PURCHASE, RETURN}:  # returns show no needs
        return rows.amount.cast(MONEY).fill_null(0)
    return (rows.event == PURCHASE).ifelse(rows.amount.cast(MONEY).fill_null(0), ibis.literal(1).cast(MONEY))


def _added(table: ir.Table | None, more: ir.Table | None, *, keys: tuple[str, ...]) -> ir.Table | None:
    """Rows of the same key added up; what one of the two lacks is zero there (an absent key: null)."""
    if table is None or more is None:
        return more if table is None else table
    table, more = _nullable(table), _nullable(more)
    schema = dict(more.schema()) | dict(table.schema())
    both = ibis.union(*(_aligned(part, schema=schema, keys=keys) for part in (table, more)))
    present_keys = [key for key in keys if key in schema]
    aggregates = {name: exactly(both[name].sum()) for name in schema if name not in (*present_keys, "slot")}
    if "slot" in schema:
        aggregates = {"slot": both["slot"].min(), **aggregates}
    return both.group_by(present_keys).aggregate(**aggregates)


def _union(table: ir.Table, more: ir.Table) -> ir.Table:
    return ibis.union(*(_nullable(part.select(*table.columns)) for part in (table, more)))


def _aligned(table: ir.Table, *, schema: dict[str, dt.DataType], keys: tuple[str, ...]) -> ir.Table:
    lacks = {name: kind for name, kind in schema.items() if name not in table.columns}
    filled = {n: ibis.null(k) if n in (*keys, "slot") else ibis.literal(0).cast(k) for n, k in lacks.items()}
    return _nullable(table.mutate(**filled).select(*schema))


def _nullable(table: ir.Table) -> ir.Table:
    """A database may promise that a column has no nulls; Ibis unites only tables that promise the same."""
    nullable = {name: kind.copy(nullable=True) for name, kind in table.schema().items() if not kind.nullable}
    return table.cast(nullable) if nullable else table
