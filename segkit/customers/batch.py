"""The batch: a source's events become days and signals on the engine asked for; the rest of the chain goes on here."""

from datetime import date
from tempfile import TemporaryDirectory

import ibis
import ibis.expr.types as ir

from segkit.customers.days import build_days, load_days, merge_days, write_days
from segkit.customers.features import Customers, customer_signals, load_customers
from segkit.customers.orders import count_column
from segkit.data.engine import HERE, carry, open_engine
from segkit.data.store import Run


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
    if engine in HERE:
        write_days(run, build_days(events, kinds=kinds))
        return load_customers(run, kinds=kinds)
    there = open_engine(engine)
    try:
        with TemporaryDirectory(dir=run.path, prefix="carried-") as folder:
            write_days(run, build_days(carry(events, to=there, folder=folder, name="events"), kinds=kinds))
        signals = customer_signals(load_days(run, on=there), period=run.period, kinds=kinds)
        return Customers(load_days(run), period=run.period, kinds=kinds, signals=signals)
    finally:
        there.disconnect()


def add_customers(
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
        if engine not in HERE
        else _other_history(events, previous=previous, since=since, kinds=kinds)
    )
    if why:
        return describe_customers(events, run=run, kinds=kinds, engine=engine), why
    new = events.filter(events.day >= ibis.literal(since))
    if "event_id" in events.columns:  # one that was counted before does not count again
        old = events.filter(events.day < ibis.literal(since)).select(known_id="event_id").distinct()
        new = new.anti_join(old, new.event_id == old.known_id)
    days = load_days(previous)
    with TemporaryDirectory(dir=run.path, prefix="carried-") as folder:  # they are read several times: once from afar
        new = carry(new, to=days.rows.get_backend(), folder=folder, name="events")
        write_days(run, merge_days(days, build_days(new, kinds=kinds)))
    return load_customers(run, kinds=kinds), ""


def _other_history(events: ir.Table, *, previous: Run, since: date, kinds: dict[str, str]) -> str:
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
