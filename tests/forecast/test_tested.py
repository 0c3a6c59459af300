"""A back-test of an earlier run: what is taken from it is equal to what it found, and where it must be made again."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segkit.customers.features import Customers, customers_at
from segkit.data.runs import KEPT, Run, open_run
from segkit.forecast import model as model_module
from segkit.forecast import segments as segments_module
from segkit.forecast.segments import Prediction, predict
from segkit.forecast.tested import OF_TEST, STORED, TESTED_AT, Backtested, standing_dates, standing_test
from segkit.period import Period
from segkit.segments.fit import build_training_windows
from tests.forecast.training import two_segments

AS_OF = date(2024, 12, 1)
PERIOD = Period(AS_OF, lookback_days=60, horizon_days=30)
KINDS = {"purchase": "customer"}
MODEL = SimpleNamespace(segments=("S01", "S02"))


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees are enough here."""
    monkeypatch.setitem(model_module.TREES, "max_iter", 6)
    monkeypatch.setitem(model_module.STUMPS, "max_iter", 6)


@pytest.fixture
def customers(make_days: Callable) -> Customers:
    """Customers with enough history for one back-test."""
    rng, rows = np.random.default_rng(1), []
    for i, rate in enumerate(rng.gamma(1.0, 0.06, 200)):
        for ago in np.flatnonzero(rng.random(130) < rate) + 1:
            day = (AS_OF - timedelta(days=int(ago))).isoformat()
            rows.append((f"c{i:03d}", day, "purchase", round(5 + i / 10, 2), ["tea", "rum", "ham"][(i + ago) % 3]))
    return customers_at(make_days(rows, kinds=KINDS), period=PERIOD, kinds=KINDS)


def _predict(customers: Customers, **standing: Any) -> Prediction:
    model, segment = two_segments(customers.data)
    windows = build_training_windows(customers.days, period=PERIOD, kinds=KINDS)
    return predict(customers, windows, model=model, segment=segment, **standing)


def _of(found: Prediction) -> Backtested:
    metrics = {name: value for name, value in found.metrics.items() if name.startswith(OF_TEST)}
    return Backtested(found.backtest, found.calibration, found.errors, metrics=metrics, chosen=found.chosen)


def test_what_stands_is_what_was_found_and_is_not_measured_again(
    customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _predict(customers)
    assert made.metrics[TESTED_AT] == AS_OF.isoformat() and made.metrics["forecast.origins"] == 1
    monkeypatch.setattr(segments_module, "backtest_origins", None)
    again = _predict(customers, standing=_of(made), dates_tested=made.metrics)
    for name in ("customers", "segments", "backtest", "calibration", "errors", "drivers", "offers"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(made, name))
    assert (again.chosen, again.reasons) == (made.chosen, made.reasons)
    pd.testing.assert_series_equal(pd.Series(again.metrics), pd.Series(made.metrics)[list(again.metrics)])
    assert set(again.metrics) == set(made.metrics)


def test_another_target_or_a_forecaster_that_cannot_be_had_is_tested_again(customers: Customers) -> None:
    made = _predict(customers)
    for chosen in ({"active": "model"}, made.chosen | {"spend": "gone"}):
        old = Backtested(made.backtest, made.calibration, made.errors, metrics={TESTED_AT: "2024-11-20"}, chosen=chosen)
        assert _predict(customers, standing=old).metrics[TESTED_AT] == AS_OF.isoformat()


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Run]:
    """A function that makes a run that keeps the segments of one of 10 November, with its back-test."""

    def make(as_of: str = "2024-12-01", *, acted: str = KEPT, added: bool = True, tables: tuple = STORED) -> Run:
        before = open_run(tmp_path / "before", as_of="2024-11-10", lookback_days=60, horizon_days=30)
        writer = Run(before.path, "05_predict")
        names = ("active", "auc", "last", "the last period repeated", 9, 1, 0.8, 0.7, 0.9, 0.0, 0.0, 0.0, "level", True)
        columns = ["target", "measure", "forecaster", "label", "customers", "origins", "value", "low", "high", "lead"]
        columns += ["lead_low", "lead_high", "verdict", "chosen"]
        groups = {"target": ["active"], "group": 1, "customers": 9, "predicted": 0.5, "observed": 0.5, "low": 0.1}
        errors = {"target": ["active"], "block": 1, "predicted": 0.5, "error": 0.4, "season": 0.1}
        made = (pd.DataFrame([names], columns=columns), pd.DataFrame(groups | {"high": 0.9}), pd.DataFrame(errors))
        for name, table in zip(STORED, made, strict=True):
            if name in tables:
                writer.write(table, name)
        writer.save_model({"centres": np.zeros((2, 1))}, meta={"segments": ["S01", "S02"]})
        writer.record_metrics(
            {TESTED_AT: "2024-11-05", "forecast.origins": 1, "forecast.dates.tested_at": "2024-11-05"}
        )
        after = open_run(tmp_path / "after", as_of=as_of, lookback_days=60, horizon_days=30, previous=str(before.path))
        after.update(acted=acted)
        for run, parts in ((before, ("days",)), (after, ("days", "days.2024-11-10") if added else ("days",))):
            (run.path / "tables").mkdir(exist_ok=True)
            for part in parts:
                (run.path / "tables" / f"{part}.parquet").touch()
        return after

    return make


def test_the_back_test_of_a_run_that_is_continued_stands_with_its_date(runs: Callable[..., Run]) -> None:
    run = runs()
    found = standing_test(run, model=MODEL)
    assert found.metrics == {TESTED_AT: "2024-11-05", "forecast.origins": 1} and found.chosen == {"active": "last"}
    assert found.errors["season"].tolist() == [0.1] and len(found.scores) == len(found.calibration) == 1
    assert standing_dates(run) == {"forecast.dates.tested_at": "2024-11-05"}


@pytest.mark.parametrize(
    "changed",
    [{"as_of": "2024-12-05"}, {"acted": "refitted"}, {"added": False}, {"tables": STORED[:2]}],
    ids=["a horizon later", "segments found again", "history read again", "an older version"],
)
def test_a_back_test_is_made_again_where_it_no_longer_stands(runs: Callable[..., Run], changed: dict) -> None:
    run = runs(**changed)
    assert standing_test(run, model=MODEL) is None
    if "tables" not in changed:
        assert standing_dates(run) == {}


def test_merged_segments_are_tested_again(runs: Callable[..., Run]) -> None:
    assert standing_test(runs(), model=SimpleNamespace(segments=("S01",))) is None
