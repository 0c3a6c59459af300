"""Days: one row per customer and local day; an order belongs to the day of its first line; days merge by key."""

from datetime import date
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from segkit.customers.days import Days, build_days
from segkit.customers.features import customer_features
from segkit.period import Period

KINDS = {"purchase": "customer", "return": "customer", "open": "customer", "mail": "company"}


def table(rows: list[tuple[str, str, int, str, str | None, float | None]]) -> ir.Table:
    """Events: customer, local day, hour, kind, order, amount."""
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "hour", "event", "order_id", "amount"])
    events = ibis.memtable(frame.astype({"order_id": object, "amount": float}))
    return events.mutate(day=events.day.cast("date"), order_id=events.order_id.cast("string"))


def sorted_rows(days: ir.Table, *names: str) -> list[tuple[Any, ...]]:
    found = days.order_by(["customer_id", "day", "until"]).to_pandas()
    for name in ("day", "until"):
        found[name] = found[name].astype(str).str[5:10]
    return [tuple(row) for row in found[list(names)].itertuples(index=False)]


def features(days: Days, *, as_of: date) -> pd.Series:
    return customer_features(days, period=Period(as_of, lookback_days=60, horizon_days=1), kinds=KINDS).loc["a"]


def test_a_day_is_one_row_with_its_orders_and_counts() -> None:
    days = build_days(
        table(
            [
                ("a", "2024-05-01", 9, "purchase", "1", 2.5),
                ("a", "2024-05-01", 9, "purchase", "1", 1.5),
                ("a", "2024-05-01", 19, "purchase", "2", 10.0),
                ("a", "2024-05-01", 20, "open", None, None),
                ("a", "2024-05-01", 8, "mail", None, None),
                ("a", "2024-05-02", 7, "mail", None, None),
                ("a", "2024-05-03", 11, "return", None, 1.5),
            ]
        ),
        kinds=KINDS,
    )
    names = ("day", "own_events", "orders", "occasions", "lines", "amount", "amount_squared", "return_amount", "n_mail")
    assert sorted_rows(days.rows, *names) == [
        ("05-01", 4, 2, 3, 3, Decimal("14"), Decimal("116"), 0, 1),
        ("05-02", 0, 0, 0, 0, 0, 0, 0, 1),
        ("05-03", 1, 0, 1, 0, 0, 0, Decimal("1.5"), 0),
    ]
    assert sorted_rows(days.rows, "occasions_morning", "occasions_evening")[0] == (1, 2)


def test_an_order_belongs_to_the_day_of_its_first_line() -> None:
    late = [("a", "2024-05-01", 23, "purchase", "1", 3.0), ("a", "2024-05-02", 0, "purchase", "1", 4.0)]
    days = build_days(table(late), kinds=KINDS)
    assert sorted_rows(days.rows, "day", "until", "orders", "lines", "amount", "amount_squared") == [
        ("05-01", "05-01", 1, 1, 3, 9),
        ("05-01", "05-02", 0, 1, 4, 40),  # 7 squared less 3 squared
    ]
    whole = features(days, as_of=date(2024, 5, 3))
    assert (whole["orders"], whole["order_value"], whole["active_days"], whole["recency_days"]) == (1, 7, 1, 2)
    before_midnight = features(days, as_of=date(2024, 5, 2))
    assert (before_midnight["orders"], before_midnight["order_value"]) == (1, 3)


def test_an_event_id_counts_once_and_a_missing_id_each_time() -> None:
    events = table([("a", "2024-05-01", 9, "purchase", None, 2.0)] * 4)
    ids = ibis.memtable(pd.DataFrame({"event_id": ["x", "x", None, None], "amount": [2.0] * 4, "hour": 9}))
    events = ids.mutate(
        customer_id=ibis.literal("a"), day=ibis.literal("2024-05-01").cast("date"), event=ibis.literal("purchase")
    )
    assert sorted_rows(build_days(events, kinds=KINDS).rows, "lines", "amount") == [(3, 6)]


def test_money_is_added_exactly() -> None:
    days = build_days(table([("a", "2024-05-01", 9, "purchase", None, 0.1)] * 3), kinds=KINDS)
    assert sorted_rows(days.rows, "amount") == [(Decimal("0.3000"),)]
