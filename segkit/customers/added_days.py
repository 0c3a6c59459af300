"""Add later events to the days of an earlier run, as parts of their own; what that run has is not summed again."""

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from segkit.customers.days import (
    ORDERS,
    PURCHASE,
    RETURN,
    TABLES,
    THINGS,
    Days,
    aggregate_expressions,
    build_days,
    count_column,
    load_days,
    order_parts,
)
from segkit.customers.sorted_days import write_sorted_days
from segkit.data.engine import read_rows
from segkit.data.row_groups import write_rows
from segkit.data.runs import Run
from segkit.vocabulary import activity_kinds

HASHES = 1_000_003  # a sum of so small ones is exact
MOST_PARTS = 24  # of a table; then all of history is read, and written as one


def extend_days(
    run: Run, events: ir.Table, *, previous: Run, since: date, kinds: dict[str, str], items: bool = False
) -> None:
    """Write the days of an earlier run to a run, and the events from its ``as_of`` on as a further part.

    Parameters
    ----------
    run
        Gets the tables that ``write_sorted_days`` would write for all events.
    events
        Contract columns in DuckDB, before ``as_of`` of ``run``.
    previous
        The earlier run; ``reason_to_rebuild`` gives no reason against it.
    since
        Its ``as_of``.
    kinds
        Each kind of event -> 'customer' or 'company'.
    items
        Sum items, too.
    """
    for name in (*TABLES.values(), ORDERS):
        if previous.has(name):
            run.copy_table(previous, name)
    with TemporaryDirectory(dir=run.path, prefix="transfer-") as folder:
        added = _added_events(events, previous=previous, since=since, path=Path(folder) / "events.parquet")
        write_sorted_days(run, added, kinds=kinds, items=items, since=since)


def _added_events(events: ir.Table, *, previous: Run, since: date, path: Path) -> ir.Table:
    """Select the events of a day and later, each event_id once, and what earlier days have of their orders."""
    new = events.filter(events.day >= ibis.literal(since))
    if "event_id" in events.columns:  # an event that was counted before does not count again
        counted = events.filter(events.day < ibis.literal(since)).select(known_id="event_id").distinct()
        new = new.anti_join(counted, new.event_id == counted.known_id)
    write_rows(new, path)  # read several times below, and once from the source, whose engine reads its files alone
    began = previous.scan(ORDERS)
    new = read_rows(path, to=began.get_backend(), name="events_added")
    if "order_id" not in events.columns:
        return new
    orders = new.filter((new.event == PURCHASE) & new.order_id.notnull()).select("customer_id", "order_id").distinct()
    begun = began.semi_join(orders, ["customer_id", "order_id"])
    begun = begun.mutate(event=ibis.literal(PURCHASE), hour=ibis.literal(0))
    lines = {
        name: (begun[name] if name in begun.columns else ibis.null(kind)).cast(kind.copy(nullable=True))
        for name, kind in new.schema().items()
    }
    return ibis.union(new.cast({name: line.type() for name, line in lines.items()}), begun.select(**lines))


def reason_to_rebuild(
    events: ir.Table, *, previous: Run, since: date, kinds: dict[str, str], items: bool = False
) -> str:
    """Explain why the days of an earlier run cannot be extended; empty where they can.

    They can where the source's earlier events are those that these days were made of.
    """
    if not previous.has(ORDERS):
        return "the previous run has no orders"
    days, columns = load_days(previous), {kind: count_column(kind) for kind in kinds}
    if not set(columns.values()) <= set(days.rows.columns):
        return "the previous run has other kinds of event"
    if items != previous.has(TABLES["items"]):
        return "needs are learnt from other things than in the previous run"
    if _columns_of(events, kinds=kinds, items=items) != {
        name: previous.columns(name) for name in (*TABLES.values(), ORDERS) if previous.has(name)
    }:
        return "the previous run has other columns"
    if len(previous.part_paths(TABLES["rows"])) > MOST_PARTS:
        return f"days were added to {MOST_PARTS} times since all of history was read"
    return _difference(events, days, since=since, kinds=kinds)


def _columns_of(events: ir.Table, *, kinds: dict[str, str], items: bool) -> dict[str, list[str]]:
    """Return the columns of the tables that events give."""
    defined = build_days(events, kinds=kinds, items=items)
    parts = {name: getattr(defined, part) for part, name in TABLES.items()} | {ORDERS: order_parts(defined.orders)}
    return {name: list(table.columns) for name, table in parts.items() if table is not None}


def _difference(events: ir.Table, days: Days, *, since: date, kinds: dict[str, str]) -> str:
    """Say that events before a day are others than those of the days of a run; empty where they are the same.

    They are where sums are the same, and sums of hashes: of who did what on which day, of categories, of channels.
    """
    old = events.filter(events.day < ibis.literal(since))
    found = {name: sum_ for name, sum_ in aggregate_expressions(old, kinds=kinds)[0].items() if name != "slot"}
    found["event"] = _small(_hash(old.customer_id.cast("string"), old.day, old.event)).sum(
        where=old.event.isin(sorted(kinds))
    )
    own = activity_kinds(kinds)
    rows, by = days.rows, {"category": days.categories, "item": days.items, "channel": days.channels}
    stored = {name: rows[name].sum() for name in found if name in rows.columns}
    customer_id = rows.customer_id.cast("string")
    stored["event"] = sum(
        (_small(_hash(customer_id, rows.until, ibis.literal(kind))) * rows[count_column(kind)]).sum() for kind in kinds
    )
    tables = [rows.aggregate(**stored)]
    for name, table in by.items():
        if table is None or old[name].type().is_array():  # what a list divides is in the sums alone
            continue
        wanted = [kind for kind in own if name not in THINGS or kind != RETURN]
        found[name] = _small(_hash_name(old[name].cast("string"))).sum(
            where=old[name].notnull() & old.event.isin(wanted)
        )
        counted = table["lines" if name in THINGS else "own_events"]
        tables.append(table.aggregate(**{name: (_small(_hash_name(table[name].cast("string"))) * counted).sum()}))
    before, now = (
        {name: float(value or 0) for table in of for name, value in table.to_pandas().iloc[0].fillna(0).items()}
        for of in (tables, [old.aggregate(**found)])
    )
    if before != now:
        return f"the source has other events before {since} than the previous run read"
    return ""


def _small(hashed: ir.IntegerColumn) -> ir.IntegerColumn:
    """Make a hash so small that sums are exact."""
    return (hashed % HASHES).cast("int64")


@ibis.udf.scalar.builtin(name="hash")
def _hash(customer_id: str, day: date, event: str) -> dt.uint64:
    """Hash who did what when, as DuckDB does."""


@ibis.udf.scalar.builtin(name="hash")
def _hash_name(text: str) -> dt.uint64:
    """Hash a name, as DuckDB does."""
