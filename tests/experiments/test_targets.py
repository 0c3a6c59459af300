"""Targets: what is expected, plus what is within reach."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.experiments.targets import NO_FORECAST, NOT_REACHED, TOO_WIDE, key_results, reached_levels
from segkit.period import Period
from segkit.tables import check
from segkit.vocabulary import EVERYONE

AS_OF = date(2024, 6, 29)
PERIOD = Period(AS_OF, lookback_days=140, horizon_days=28)
LEVELS = {"ann": [80.0, 100.0, 120.0, 120.0, 80.0], "bob": [100.0] * 5}


@pytest.fixture
def levels(make_days: Callable[..., Days]) -> pd.DataFrame:
    starts = [AS_OF - timedelta(days=28 * n) for n in range(5, 0, -1)]
    lines = [
        (who, day.isoformat(), "purchase", paid, None)
        for who, of in LEVELS.items()
        for day, paid in zip(starts, of, strict=True)
    ]
    days = make_days(lines, kinds={"purchase": "customer"})
    segment = pd.Series({"ann": "S01", "bob": "S02"}).rename_axis("customer_id")
    assert reached_levels(days, segment=segment, period=replace(PERIOD, lookback_days=84)).empty
    return reached_levels(days, segment=segment, period=PERIOD)


def predicted(spend: float, *, half: float) -> pd.DataFrame:
    table = pd.DataFrame({"segment": [EVERYONE, "S01", "S02"], "customers": [20, 10, 10]})
    for name, value in {"active_share": 0.9, "orders": 10.0, "spend": spend}.items():
        table = table.assign(**{name: value, f"{name}_low": value - half, f"{name}_high": value + half})
    return table


def spend_of(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["kpi"] == "spend per customer"].set_index("segment")


def test_within_reach_is_what_a_quarter_of_the_windows_reached(levels: pd.DataFrame) -> None:
    row = spend_of(levels).loc["S01"]
    assert (row["windows"], row["lowest"], row["highest"]) == (5, 0.8, 1.2)
    assert row["reachable"] == pytest.approx(0.2) and row["starting_value"] == 80


def test_a_target_lies_above_what_is_expected_if_nothing_changes(levels: pd.DataFrame) -> None:
    found = key_results(levels, predicted=predicted(1500.0, half=0.1))
    check(found, name="key_results")
    table = spend_of(found)
    assert table.loc["S01", ["expected", "target"]].tolist() == pytest.approx([150.0, 180.0])
    assert pd.isna(table.loc["S02", "target"]) and table.loc["S02", "reason"] == NOT_REACHED
    assert (found["target"].dropna() > found.loc[found["target"].notna(), "expected"]).all()


def test_without_a_forecast_to_plan_with_there_is_no_target(levels: pd.DataFrame) -> None:
    wide = key_results(levels, predicted=predicted(1500.0, half=800.0))
    none = key_results(levels, predicted=predicted(1500.0, half=0.1).iloc[:0])
    assert set(spend_of(wide)["reason"]) == {TOO_WIDE} and set(none["reason"]) == {NO_FORECAST}
    assert wide["target"].isna().all() and none["target"].isna().all()
