"""The back-test: scores, baselines that win, and a base rate that moves."""

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
from segkit.forecast.baselines import make_baselines
from segkit.forecast.model import Forecast, Snapshot, TrainingSet
from segkit.tables import check
from tests.forecast.training import make_training

Plant = Callable[..., tuple]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learnt model is slow and has tests of its own: a scaled baseline stands for it."""

    def stand_in(training: TrainingSet, now: Snapshot, *, seed: int) -> dict[str, Forecast]:
        found = make_baselines(training, now)
        return {"model": Forecast(found["classic"].out_of_fold * 0.9, found["classic"].now * 0.9), **found}

    monkeypatch.setattr(backtest, "make_forecasts", stand_in)


@pytest.fixture
def origins(planted_windows: Plant) -> list[BacktestOrigin]:
    return backtest_origins(make_training(planted_windows(300)[0]))


def test_perfect_predictions_have_no_calibration_error() -> None:
    active = np.array([1.0, 0.0] * 20)
    assert _expected_calibration_error(active, active, np.ones((1, 40)))[0] == 0
    assert _expected_calibration_error(np.full(40, 0.8), active, np.ones((1, 40)))[0] == pytest.approx(0.3)


def test_every_target_and_forecaster_is_scored_and_the_table_passes_its_schema(origins: list[BacktestOrigin]) -> None:
    scores = with_lead_verdicts(score_forecasters(origins, draws=50))
    check(scores.assign(verdict="", chosen=True), name="prediction_backtest")
    assert set(scores["target"]) == {"active", "orders", "spend"}
    assert set(scores["forecaster"]) == {"model", "last", "rfm", "classic", "regular"}
    assert ((scores["low"] <= scores["value"]) & (scores["value"] <= scores["high"])).all()
    assert scores.loc[scores["forecaster"] == "model", "lead"].isna().all()
    pd.testing.assert_frame_equal(scores, with_lead_verdicts(score_forecasters(origins, draws=50)))


def test_a_baseline_that_is_not_beaten_is_chosen(origins: list[BacktestOrigin]) -> None:
    perfect = origins[0].banded["last"].assign(spend=origins[0].values("spend"))
    fixed = [replace(origins[0], banded=origins[0].banded | {"last": perfect})]
    chosen = best_forecasters(score_forecasters(fixed, draws=20))
    assert chosen["spend"] == "last" and set(chosen) == {"active", "orders", "spend"}
    tie = [replace(origins[0], banded={"model": perfect, "last": perfect})]
    assert best_forecasters(score_forecasters(tie, draws=20))["spend"] == "last", "a tie goes to the baseline"


def test_calibration_groups_include_every_customer(origins: list[BacktestOrigin]) -> None:
    table = calibration(origins, chosen={"active": "model", "spend": "rfm"})
    assert table.groupby("target")["customers"].sum().tolist() == [300, 300]
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()
    assert table.groupby("target")["predicted"].is_monotonic_increasing.all()


def test_drift_of_the_base_rate_is_measured_and_zero_without_change(planted_windows: Plant) -> None:
    later, earlier = make_training(planted_windows(300)[0])
    totals = later.outcomes.totals.assign(active_days=0.0)
    gone = replace(later, outcomes=Outcomes(totals, later.outcomes.weights, later.outcomes.categories))
    figures = base_rate_metrics(backtest_origins([gone, earlier]))
    assert figures["forecast.drift.active_observed"] == 0 and figures["forecast.drift.active.high"] < 0
    same = base_rate_metrics(backtest_origins([earlier, earlier]))
    assert same["forecast.drift.active"] == 0 and base_rate_metrics([]) == {}


def test_one_training_set_is_no_back_test(planted_windows: Plant) -> None:
    later, earlier = make_training(planted_windows(300)[0])
    assert backtest_origins([later]) == [] and backtest_origins([]) == []
    assert len(backtest_origins([later, earlier, earlier])) == 2
