"""What silent customers bring: as those did who were as silent before, or a reason."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from segkit.customers.days import Days
from segkit.customers.features import customers_at
from segkit.forecast.dormant import expect_dormant
from segkit.period import Period

AS_OF = date(2024, 12, 1)
PERIOD = Period(AS_OF, lookback_days=60, horizon_days=30)
KINDS = {"purchase": "customer"}
Make = Callable[..., Days]


def orders(*, back: float, customers: int = 900) -> list[tuple[Any, ...]]:
    """Orders on one day, 61 to 250 days ago; some come back in each 30 days after 60 of silence, with 20 each."""
    rng, rows = np.random.default_rng(4), []
    for i, first in enumerate(rng.integers(61, 250, customers)):
        rows.append((f"c{i:03d}", (AS_OF - timedelta(days=int(first))).isoformat(), "purchase", 9.0, None))
        if first > 91 and rng.random() < back:
            rows.append((f"c{i:03d}", (AS_OF - timedelta(days=int(rng.integers(1, 31)))).isoformat(), "purchase", 20.0,
                         None))  # fmt: skip
    return rows


def test_silent_customers_bring_what_as_silent_ones_did(make_days: Make) -> None:
    customers = customers_at(make_days(orders(back=0.2), kinds=KINDS), period=PERIOD, kinds=KINDS)
    found = expect_dormant(customers, season={})
    assert found["forecast.dormant.reason"] is None
    active, spend = (found[f"forecast.dormant.{name}"] for name in ("active", "spend"))
    assert active == pytest.approx(0.2 * found["forecast.dormant.customers"], rel=0.3)
    assert spend == pytest.approx(20 * active)
    assert found["forecast.dormant.spend.low"] < spend < found["forecast.dormant.spend.high"]
    wider = expect_dormant(customers, season={"spend": 0.5})
    assert wider["forecast.dormant.spend.low"] < found["forecast.dormant.spend.low"]


def test_there_is_a_reason_where_it_is_not_known(make_days: Make) -> None:
    def reason(rows: list[tuple[Any, ...]]) -> object:
        built = make_days(rows, kinds=KINDS)
        customers = customers_at(built, period=PERIOD, kinds=KINDS)
        return expect_dormant(customers, season={}).get("forecast.dormant.reason", "nobody is silent")

    assert "came back" in str(reason(orders(back=0.0)))
    assert "too short" in str(reason([row for row in orders(back=0.2) if row[1] > "2024-09-15"]))
    assert reason([(f"c{i}", "2024-11-20", "purchase", 9.0, None) for i in range(50)]) == "nobody is silent"
