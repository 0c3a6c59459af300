"""The batch: a source's events become days and signals on the engine asked for; the rest of the chain goes on here."""

from datetime import date
from tempfile import TemporaryDirectory

import ibis.expr.types as ir

from segkit.customers.days import build_days, load_days, write_days
from segkit.customers.features import Signals, customer_signals
from segkit.data.engine import HERE, carry, open_engine
from segkit.data.store import Run


def describe_customers(
    events: ir.Table, *, run: Run, kinds: dict[str, str], as_of: date, lookback_days: int, engine: str = "duckdb"
) -> Signals:
    """Keep days in a run, and say what is known of each customer.

    Takes  events: contract columns, before `as_of`
    Gives  Signals at `as_of`; the run holds days, day_categories and day_channels, the same from every engine

    Parameters
    ----------
    as_of, lookback_days, kinds : as `customer_features`
    engine : as `segkit.data.engine.open_engine`; a cluster must see the run folder under the same path

    Raises
    ------
    SourceError : the engine cannot be used
    """
    asked = {"as_of": as_of, "lookback_days": lookback_days, "kinds": kinds}
    if engine in HERE:
        write_days(run, build_days(events, kinds=kinds))
        return customer_signals(load_days(run), **asked)
    there = open_engine(engine)
    try:
        with TemporaryDirectory(dir=run.path, prefix="carried-") as folder:
            write_days(run, build_days(carry(events, to=there, folder=folder, name="events"), kinds=kinds))
        return customer_signals(load_days(run, on=there), **asked)
    finally:
        there.disconnect()
