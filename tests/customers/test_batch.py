"""Days that a run keeps, and later events added to them: the same as all read at once, or a reason why not."""

from datetime import date
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest

from segkit.customers.features import describe_customers, update_customers
from segkit.data.runs import Run, open_run

KINDS = {"purchase": "customer", "mail_sent": "company"}
THEN, NOW = date(2024, 3, 1), date(2024, 4, 1)
DAYS = {"lookback_days": 90, "horizon_days": 30}
ROWS = [  # event_id, customer, local day, kind, order, amount, category
    ("1", "ann", "2024-02-10", "purchase", "o1", 4.0, "tea"),
    ("2", "ann", "2024-02-29", "purchase", "o2", 6.0, "tea"),
    ("3", "bob", "2024-02-20", "mail_sent", None, None, None),
    ("4", "ann", "2024-03-02", "purchase", "o2", 2.5, "bread"),  # added to an order of before
    ("5", "bob", "2024-03-05", "purchase", "o3", 8.0, "tea"),
    ("2", "ann", "2024-03-06", "purchase", "o2", 6.0, "tea"),  # sent again: counted before
]


def _events(rows: list[tuple]) -> ir.Table:
    names = ["event_id", "customer_id", "day", "event", "order_id", "amount", "category"]
    table = pd.DataFrame(rows, columns=names).astype({"amount": float}).assign(hour=9)
    held = ibis.duckdb.connect().create_table("events", table.assign(day=pd.to_datetime(table["day"])))
    return held.mutate(day=held.day.date(), amount=held.amount.cast("decimal(18, 4)"))


def _before(rows: list[tuple], folder: Path) -> Run:
    run = open_run(folder / "then", as_of=THEN.isoformat(), **DAYS)
    events = _events(rows)
    describe_customers(events.filter(events.day < ibis.literal(THEN)), run=run, kinds=KINDS)
    return run


def test_events_added_to_kept_days_give_the_same_as_all_at_once(tmp_path: Path) -> None:
    added, whole = (open_run(tmp_path / name, as_of=NOW.isoformat(), **DAYS) for name in ("added", "whole"))
    customers, why = update_customers(_events(ROWS), run=added, previous=_before(ROWS, tmp_path), kinds=KINDS)
    wanted = describe_customers(_events(ROWS), run=whole, kinds=KINDS)
    assert why == ""
    pd.testing.assert_frame_equal(customers.data.features, wanted.data.features)
    for name in ("days", "day_categories", "day_orders"):
        pd.testing.assert_frame_equal(added.table(name), whole.table(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "late",
    [
        ("9", "bob", "2024-02-11", "purchase", "o9", 3.0, "tea"),
        ("9", "bob", "2024-02-11", "mail_sent", None, None, None),
        ("1", "ann", "2024-02-10", "purchase", "o1", 5.0, "tea"),  # the amount was put right
    ],
)
def test_history_that_changed_since_is_read_again(late: tuple, tmp_path: Path) -> None:
    held = _before(ROWS, tmp_path)
    rows = [late, *(row for row in ROWS if row[0] != late[0])]
    added, whole = (open_run(tmp_path / name, as_of=NOW.isoformat(), **DAYS) for name in ("added", "whole"))
    customers, why = update_customers(_events(rows), run=added, previous=held, kinds=KINDS)
    assert why == "the source holds other events before 2024-03-01 than the last run read"
    wanted = describe_customers(_events(rows), run=whole, kinds=KINDS)
    pd.testing.assert_frame_equal(customers.data.features, wanted.data.features)


@pytest.mark.slow
def test_kept_days_without_orders_or_of_other_kinds_are_not_built_on(tmp_path: Path) -> None:
    held = _before(ROWS, tmp_path)
    run = open_run(tmp_path / "now", as_of=NOW.isoformat(), **DAYS)
    other = {**KINDS, "visit": "customer"}
    assert (
        update_customers(_events(ROWS), run=run, previous=held, kinds=other)[1]
        == "the last run knew other kinds of event"
    )
    (held.path / "tables" / "day_orders.parquet").unlink()
    assert (
        update_customers(_events(ROWS), run=run, previous=held, kinds=KINDS)[1]
        == "the last run kept no pieces of orders"
    )
