"""The forecast of a run: sums, reasons, poor sources, and nothing from the future."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.customers.features import customers_at
from segkit.forecast import model as model_module
from segkit.forecast.segments import Prediction, forecast_segments, predict
from segkit.forecast.tested import untested
from segkit.forecast.year import TOO_SHORT
from segkit.period import Period
from segkit.segments.fit import build_training_windows
from segkit.stats import Z95
from segkit.tables import check
from segkit.vocabulary import EVERYONE
from tests.forecast.training import two_segments

AS_OF = date(2024, 12, 1)
PERIOD = Period(AS_OF, lookback_days=60, horizon_days=30)
KINDS = {"purchase": "customer"}
Make = Callable[..., Days]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees are enough here."""
    monkeypatch.setitem(model_module.TREES, "max_iter", 6)
    monkeypatch.setitem(model_module.STUMPS, "max_iter", 6)


def events(*, days: int = 130, customers: int = 130, seed: int = 1, money: bool = True) -> list[tuple[Any, ...]]:
    """Visits of customers of all habits over some days before `AS_OF`; the category is known with the money."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, rate in enumerate(rng.gamma(1.0, 0.06, customers)):
        for day in np.flatnonzero(rng.random(days) < rate + (i % 5 == 0) * 0.01):
            when = (AS_OF - timedelta(days=int(days - day))).isoformat()
            sort = ["tea", "rum", "ham"][(i + rng.integers(2)) % 3]
            rows.append((f"c{i:03d}", when, "purchase", round(5 + i / 10, 2) if money else None, sort))
    return rows


def forecast(built: Days, *, kinds: dict[str, str] | None = None) -> Prediction:
    asked = {"period": PERIOD, "kinds": kinds or KINDS}
    customers = customers_at(built, **asked)
    model, segment = two_segments(customers.data)
    return predict(customers, build_training_windows(built, **asked), model=model, segment=segment)


def check_tables(found: Prediction) -> None:
    tables = {
        "predictions": found.customers.reset_index(),
        "predicted_segments": found.segments,
        "prediction_backtest": found.backtest,
        "drivers": found.drivers,
        "offers": found.offers,
        "replenishment": found.dates.due,
    }
    for name, table in tables.items():
        check(table, name=name)


@pytest.mark.slow
def test_customers_add_up_to_segments_and_nothing_of_the_future_counts(make_days: Make) -> None:
    past = events()
    later = [(f"c{i:03d}", "2024-12-02", "purchase", 900.0, "tea") for i in range(130)]
    found = forecast(make_days(past, kinds=KINDS))
    check_tables(found)
    pd.testing.assert_frame_equal(found.customers, forecast(make_days(past + later, kinds=KINDS)).customers)
    sums = found.segments.set_index("segment")
    parts = sums.drop(index=EVERYONE)
    for name in ("customers", "orders", "spend"):
        assert parts[name].sum() == pytest.approx(sums.loc[EVERYONE, name], abs=0.01)
    assert sums.loc[EVERYONE, "spend"] == pytest.approx(found.customers["spend_mean"].sum(), abs=0.01)
    for name in ("active_share", "orders", "spend", "move_share"):
        assert ((sums[f"{name}_low"] <= sums[name]) & (sums[name] <= sums[f"{name}_high"])).all()
    assert found.customers["value_12m"].isna().all() and found.metrics["forecast.year.reason"] == TOO_SHORT
    assert found.metrics["forecast.origins"] == 1 and set(found.chosen) == {"active", "orders", "spend"}


def test_too_little_history_to_learn_from_leaves_a_model_of_repeat_buying(make_days: Make) -> None:
    past = events(days=70, customers=220)
    later = [(f"c{i:03d}", "2024-12-02", "purchase", 900.0, "tea") for i in range(130)]
    found = forecast(make_days(past, kinds=KINDS))
    assert "needs 90 days of history" in found.reasons[0] and "NBD" in found.reasons[0]
    assert found.metrics["forecast.reason"] is None and found.metrics["forecast.origins"] == 1
    people, sums = found.customers, found.segments.set_index("segment")
    assert people["active_chance"].between(0, 1).all() and sums.loc[EVERYONE, "spend_low"] > 0
    assert ((people["orders_low"] <= people["orders"]) & (people["orders"] <= people["orders_high"])).all()
    assert set(found.backtest["forecaster"]) == {"model", "regular"} and sums["spend_season"].notna().all()
    assert people[["move_chance", "value_12m"]].isna().all().all() and found.offers.empty
    pd.testing.assert_frame_equal(people, forecast(make_days(past + later, kinds=KINDS)).customers)
    check_tables(found)


def test_less_than_a_horizon_of_history_has_the_ranges_of_the_model(make_days: Make) -> None:
    found = forecast(make_days(events(days=35), kinds=KINDS))
    assert "There is no back-test" in found.reasons[1] and found.backtest.empty
    people = found.customers
    assert ((people["spend_low"] <= people["spend_median"]) & (people["spend_median"] <= people["spend_high"])).all()
    check_tables(found)


def test_one_horizon_of_history_is_a_forecast_with_the_errors_of_a_simpler_one(make_days: Make) -> None:
    found = forecast(make_days(events(days=95), kinds=KINDS))
    assert any("as wide as the errors of BG/NBD" in reason for reason in found.reasons)
    assert found.customers["active_chance"].between(0, 1).all() and found.backtest.empty
    assert found.segments["spend_season"].notna().all()
    check_tables(found)


def odd() -> list[tuple[Any, ...]]:
    """Refunds above purchases, a shop that closed for a month, and a customer with very many orders."""
    rows = events()
    rows += [(who, day, "return", 3 * paid, sort) for who, day, _, paid, sort in rows]
    rows = [row for row in rows if not "2024-10-01" <= row[1] < "2024-11-01"]
    many = [(AS_OF - timedelta(days=1 + i % 90)).isoformat() for i in range(20_000)]
    return [*rows, *(("c000", day, "purchase", 1.0, "tea") for day in many)]


@pytest.mark.parametrize("rows", [odd(), [row for row in events(customers=300) if row[1] >= "2024-11-10"]],
                         ids=["odd", "all customers new"])  # fmt: skip
def test_odd_histories_have_finite_forecasts_with_ranges(make_days: Make, rows: list[tuple[Any, ...]]) -> None:
    kinds = KINDS | {"return": "customer"}
    found = forecast(make_days(rows, kinds=kinds), kinds=kinds)
    check_tables(found)
    people, sums = found.customers, found.segments.set_index("segment").loc[EVERYONE]
    assert people["active_chance"].between(0, 1).all()
    for name in ("orders", *(["spend"] if people["spend_mean"].notna().any() else [])):
        assert 0 <= sums[f"{name}_low"] <= sums[name] <= sums[f"{name}_high"] < np.inf
    assert "spend" in found.chosen or "more than was returned" in " ".join(found.reasons)
    assert people["next_order_reason"].notna().all()
    assert ((people["next_order_reason"] == "") == people["next_order_date"].notna()).all()


def test_a_horizon_without_activity_is_a_reason(make_days: Make) -> None:
    end = (AS_OF - timedelta(days=31)).isoformat()
    silent = [row for row in events() if row[1] < end]
    assert "nobody did anything in the last horizon" in forecast(make_days(silent, kinds=KINDS)).reasons[0]


def test_too_few_customers_are_a_reason(make_days: Make) -> None:
    found = forecast(make_days(events(customers=40), kinds=KINDS))
    assert "are too few to learn from" in found.reasons[0] and found.customers["active_chance"].notna().all()


def test_without_money_purchases_and_categories_only_activity_is_predicted(make_days: Make) -> None:
    visits = [(who, day, "visit", None, None) for who, day, *_ in events(money=False)]
    built = make_days(visits, kinds={"visit": "customer"})
    bare = Days(rows=built.rows.drop("amount", "other_amount", "return_amount", "amount_squared"), categories=None,
                channels=None, orders=None) if "amount" in built.rows.columns else built  # fmt: skip
    found = forecast(bare, kinds={"visit": "customer"})
    assert set(found.chosen) == {"active"} and found.customers["active_chance"].between(0, 1).all()
    assert found.customers[["orders", "spend_mean", "value_12m"]].isna().all().all()
    assert not any("orders" in reason or "spend" in reason for reason in found.reasons), "the source has neither"
    check_tables(found)


def test_without_a_back_test_intervals_of_sums_come_from_customers() -> None:
    people = pd.DataFrame(
        {"active_chance": [0.5] * 4, "move_chance": 0.5, "orders_mean": 2.0, "orders_low": 0.0, "orders_high": 4.0}
        | {"spend_mean": 10.0, "spend_low": 10.0, "spend_high": 10.0},
        index=list("abcd"),
    )
    chosen = {"active": "model", "orders": "model", "spend": "model"}
    segment = pd.Series(["S01", "S01", "S01", "S02"], index=people.index)
    table = forecast_segments(people, segment, errors=untested().errors, chosen=chosen).set_index("segment")
    assert table.loc[EVERYONE, ["active_share", "orders", "spend"]].tolist() == [0.5, 8.0, 40.0]
    low, high = table.loc[EVERYONE, ["orders_low", "orders_high"]]
    factor = np.exp(Z95 * np.sqrt(np.log1p((2 * 4**0.5 / Z95 / 8) ** 2)))
    assert high == pytest.approx(8 * factor), "errors of customers partly cancel"
    assert low == pytest.approx(8 / factor), "a wide range does not reach down to nothing"
    assert table.loc["S02", ["spend_low", "spend_high"]].tolist() == [10, 10]
    assert table.loc["S02", ["active_share_low", "active_share_high"]].tolist() == [0, 1]


@pytest.mark.slow
def test_who_cancelled_is_gone_until_they_buy_again(make_days: Make) -> None:
    rng, rows = np.random.default_rng(2), []
    for i in range(400):
        start, end = (int(rng.integers(120, 240)), int(rng.integers(20, 110))) if i % 2 else (240, 0)
        for ago in range(start, end, -9):
            rows.append((f"c{i:03d}", (AS_OF - timedelta(days=ago)).isoformat(), "purchase", 9.0, "power"))
        if end:  # on the day after a payment, so that silence says nothing yet
            rows.append((f"c{i:03d}", (AS_OF - timedelta(days=end)).isoformat(), "cancel", None, None))
    found = forecast(make_days(rows, kinds=KINDS | {"cancel": "customer"}), kinds=KINDS | {"cancel": "customer"})
    gone = found.customers.index.str[1:].astype(int) % 2 == 1
    chance = found.customers["active_chance"]
    assert chance[gone].mean() < 0.1 < 0.85 < chance[~gone].mean()
    assert found.metrics["forecast.cancelled"] == gone.sum() and found.metrics["forecast.cancelled_returned"] < 0.05


def test_spend_that_is_new_is_not_forecast_from_a_time_without_it(make_days: Make) -> None:
    late = (AS_OF - timedelta(days=30)).isoformat()
    rows = [
        (who, day, kind, paid if day >= late else 0.0, sort)
        for who, day, kind, paid, sort in events(days=70, customers=220)
    ]
    found = forecast(make_days(rows, kinds=KINDS))
    assert found.customers["orders_mean"].notna().all() and "NBD" in found.reasons[0]
    check_tables(found)
