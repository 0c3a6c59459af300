"""Twelve months of spend: where two years of history show that it can be forecast, else not."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.customers.features import customer_outcomes, customers_at
from segkit.forecast.year import NOT_BETTER, TOO_SHORT, forecast_year
from segkit.period import Period

START, AS_OF = date(2021, 1, 1), date(2024, 1, 1)
PERIOD = Period(AS_OF, lookback_days=180, horizon_days=90)
KINDS = {"purchase": "customer"}
Make = Callable[..., Days]


def orders(*, customers: int = 500, stop: float = 0.1, seed: int = 5) -> list[tuple[Any, ...]]:
    """Four years of orders: customers start in the first three, buy by chance at their own rate, and leave."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(customers):
        day, worth, gap = float(rng.integers(0, 1090)), rng.gamma(4.0, 10.0), rng.lognormal(np.log(30), 0.8)
        while day < 1461:
            when = (START + timedelta(days=int(day))).isoformat()
            rows.append((f"c{i:03d}", when, "purchase", round(worth * rng.gamma(4.0, 0.25), 2), None))
            day += rng.exponential(gap) if rng.random() > stop else 9e9
    return rows


@pytest.fixture(scope="module")
def shop() -> list[tuple[Any, ...]]:
    return orders()


def test_a_year_is_forecast_where_the_year_before_shows_how_well(make_days: Make, shop: list[tuple[Any, ...]]) -> None:
    known = [row for row in shop if row[1] < AS_OF.isoformat()]
    found = forecast_year(customers_at(make_days(known, kinds=KINDS), period=PERIOD, kinds=KINDS))
    assert found.metrics["forecast.year.reason"] is None
    assert 0 < found.metrics["forecast.year.lead.low"] < found.metrics["forecast.year.lead"]
    days = make_days(shop, kinds=KINDS).without_things()
    before, observed = (
        customer_outcomes(days, start=start, horizon_days=365, index=found.spend.index).totals["spend"]
        for start in (AS_OF - timedelta(days=365), AS_OF)
    )
    assert found.spend.sum() == pytest.approx(observed.sum(), rel=0.15)
    assert (found.spend - observed).abs().mean() < 0.9 * (before - observed).abs().mean()


def test_without_two_years_or_a_lead_there_is_a_reason(make_days: Make, shop: list[tuple[Any, ...]]) -> None:
    def found(rows: list[tuple[Any, ...]]) -> tuple[object, pd.Series]:
        customers = customers_at(make_days(rows, kinds=KINDS), period=PERIOD, kinds=KINDS)
        year = forecast_year(customers)
        return year.metrics.get("forecast.year.reason"), year.spend

    reason, spend = found([row for row in shop if "2022-02-01" < row[1] < "2024-01-01"])
    assert reason == TOO_SHORT and spend.isna().all()
    steady = [(f"c{i:03d}", (START + timedelta(days=30 * k)).isoformat(), "purchase", 10.0 + i % 7, None)
              for i in range(150) for k in range(36)]  # fmt: skip
    reason, spend = found(steady)
    assert reason == NOT_BETTER and spend.isna().all()
    assert found([(*row[:3], None, None) for row in shop])[0] is None  # no money, and nothing to say
