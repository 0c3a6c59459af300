"""The date of the next order: ahead of the usual gap, inside its range, or a reason."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from segkit.customers.days import Days
from segkit.customers.features import customers_at
from segkit.forecast import dates as dates_module
from segkit.forecast.dates import NO_ORDERS, TOO_SHORT, OrderDates, predict_order_dates
from segkit.period import Period

AS_OF = date(2024, 12, 1)
PERIOD = Period(AS_OF, lookback_days=120, horizon_days=60)
AHEAD = 60  # days after the date, which only the test reads
Make = Callable[..., Days]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees are enough here."""
    monkeypatch.setitem(dates_module.TREES, "max_iter", 30)


def predicted(days: Days, *, kinds: dict[str, str] | None = None) -> OrderDates:
    return predict_order_dates(customers_at(days, period=PERIOD, kinds=kinds or {"purchase": "customer"}))


def orders(*, customers: int = 240, days: int = 330, seed: int = 2) -> list[tuple[Any, ...]]:
    """Orders of customers with a gap of their own, one in six of them leaves; seven in ten orders are bread."""
    rng, rows = np.random.default_rng(seed), []
    for i, gap in enumerate(rng.uniform(6, 25, customers)):
        times = np.cumsum(rng.gamma(1.5, gap / 1.5, 70))
        times = times[times < (days + AHEAD if i % 6 else rng.integers(60, days))].astype(int)
        for time in np.unique(times):
            when = (AS_OF - timedelta(days=days - int(time))).isoformat()
            rows.append((f"c{i:03d}", when, "purchase", 9.0, "bread" if rng.random() < 0.7 else "tea"))
    return rows


def test_dates_beat_the_usual_gap_and_most_orders_come_in_their_range(make_days: Make) -> None:
    rows = orders()
    found = predicted(make_days(rows, kinds={"purchase": "customer"}))
    past = predicted(make_days([row for row in rows if row[1] < AS_OF.isoformat()], kinds={"purchase": "customer"}))
    assert found.customers.equals(past.customers)  # nothing of the future is read
    assert found.due.equals(past.due)
    dated = found.customers.dropna(subset="next_order_date")
    assert len(dated) > 150
    assert (dated["next_order_reason"] == "").all()
    assert set(found.customers.loc[found.customers["next_order_date"].isna(), "next_order_reason"]) != {""}
    assert (dated["next_order_low"] <= dated["next_order_date"]).all()
    assert (dated["next_order_date"] <= dated["next_order_high"]).all()
    assert found.metrics["forecast.dates.lead.low"] > 0
    first = {who: min(row[1] for row in rows if row[0] == who and row[1] >= AS_OF.isoformat())
             for who in dated.index if any(row[0] == who and row[1] >= AS_OF.isoformat() for row in rows)}  # fmt: skip
    inside = [str(dated.loc[who, "next_order_low"])[:10] <= first.get(who, "") <= str(dated.loc[who, "next_order_high"])
              for who in dated.index]  # fmt: skip
    assert 0.7 < np.mean(inside) < 0.95
    assert found.due.groupby("customer_id").size().max() <= 2
    assert "bread" in set(found.due["category"])


@pytest.mark.parametrize(
    ("rows", "kinds", "reason"),
    [
        (orders(customers=40), {"purchase": "customer"}, TOO_SHORT),
        ([row for row in orders() if row[1] > "2024-10-15"], {"purchase": "customer"}, TOO_SHORT),
        ([(f"c{i}", "2024-11-01", "use", None, "tea") for i in range(120)], {"use": "customer"}, NO_ORDERS),
        ([(f"c{i}", "2024-11-01", "purchase", 9.0, "tea") for i in range(120)], {"purchase": "customer"}, TOO_SHORT),
    ],
    ids=["few customers", "short history", "no orders", "one order each, on one day"],
)
def test_without_enough_history_there_is_a_reason(
    make_days: Make, rows: list[tuple[Any, ...]], kinds: dict[str, str], reason: str
) -> None:
    found = predicted(make_days(rows, kinds=kinds), kinds=kinds)
    assert found.customers["next_order_date"].isna().all()
    assert set(found.customers["next_order_reason"]) <= {reason, "fewer than 4 days with an order"}
    assert found.due.empty
