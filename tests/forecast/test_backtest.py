"""The back-test: scores as others compute them, rivals that win, and the base rate that moved."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segkit.customers.features import Outcomes
from segkit.forecast import backtest
from segkit.forecast.backtest import (
    BacktestOrigin,
    _expected_calibration_error,
    backtest_origins,
    base_rate_metrics,
    best_forecasters,
    calibration,
    score_forecasters,
    with_lead_verdicts,
)
from segkit.forecast.model import Forecast, Snapshot, TrainingSet, make_baselines
from segkit.tables import check
from tests.forecast.training import lessons

Plant = Callable[..., tuple]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast takes its time, and is tested elsewhere: here half of a rival stands for it."""

    def stand_in(lesson: TrainingSet, now: Snapshot, *, seed: int) -> dict[str, Forecast]:
        found = make_baselines(lesson, now)
        return {"model": Forecast(found["classic"].out_of_fold * 0.9, found["classic"].now * 0.9), **found}

    monkeypatch.setattr(backtest, "forecasts_of", stand_in)


@pytest.fixture
def trials(planted_windows: Plant) -> list[BacktestOrigin]:
    return backtest_origins(lessons(planted_windows(300)[0]))


def test_kept_promises_have_no_calibration_error() -> None:
    came = np.array([1.0, 0.0] * 20)
    assert _expected_calibration_error(came, came, np.ones((1, 40)))[0] == 0
    assert _expected_calibration_error(np.full(40, 0.8), came, np.ones((1, 40)))[0] == pytest.approx(0.3)


def test_every_target_and_forecaster_is_scored_and_the_table_fits_its_schema(trials: list[BacktestOrigin]) -> None:
    scores = with_lead_verdicts(score_forecasters(trials, draws=50))
    check(scores.assign(verdict="", chosen=True), name="prediction_backtest")
    assert set(scores["target"]) == {"active", "orders", "spend"}
    assert set(scores["forecaster"]) == {"model", "last", "rfm", "classic"}
    assert ((scores["low"] <= scores["value"]) & (scores["value"] <= scores["high"])).all()
    assert scores.loc[scores["forecaster"] == "model", "lead"].isna().all()
    pd.testing.assert_frame_equal(scores, with_lead_verdicts(score_forecasters(trials, draws=50)))


def test_a_rival_that_is_not_beaten_says_the_target(trials: list[BacktestOrigin]) -> None:
    prophet = trials[0].banded["last"].assign(spend=trials[0].values("spend"))
    fixed = [replace(trials[0], banded=trials[0].banded | {"last": prophet})]
    who = best_forecasters(score_forecasters(fixed, draws=20))
    assert who["spend"] == "last" and set(who) == {"active", "orders", "spend"}
    level = [replace(trials[0], banded={"model": prophet, "last": prophet})]
    assert best_forecasters(score_forecasters(level, draws=20))["spend"] == "last", "level is not beaten"


def test_promises_are_compared_in_groups_that_are_everyone(trials: list[BacktestOrigin]) -> None:
    table = calibration(trials, chosen={"active": "model", "spend": "rfm"})
    assert table.groupby("target")["customers"].sum().tolist() == [300, 300]
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()
    assert table.groupby("target")["predicted"].is_monotonic_increasing.all()


def test_a_season_is_measured_and_none_is_not_found(planted_windows: Plant) -> None:
    later, earlier = lessons(planted_windows(300)[0])
    totals = later.outcomes.totals.assign(active_days=0.0)
    gone = replace(later, outcomes=Outcomes(totals, later.outcomes.weights, later.outcomes.categories))
    figures = base_rate_metrics(backtest_origins([gone, earlier]))
    assert figures["forecast.drift.active_observed"] == 0 and figures["forecast.drift.active.high"] < 0
    same = base_rate_metrics(backtest_origins([earlier, earlier]))
    assert same["forecast.drift.active"] == 0 and base_rate_metrics([]) == {}


def test_one_lesson_is_no_back_test(planted_windows: Plant) -> None:
    later, earlier = lessons(planted_windows(300)[0])
    assert backtest_origins([later]) == [] and backtest_origins([]) == []
    assert len(backtest_origins([later, earlier, earlier])) == 2
