"""The forecast: it repeats, adds up, tells people apart where it can, and says where it cannot."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segkit.customers.features import Outcomes
from segkit.forecast import model
from segkit.forecast.model import TrainingSet, forecast_customers, least_absolute, make_baselines, with_bands
from tests.forecast.training import known, lessons

Plant = Callable[..., tuple]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds for many trees holds for few."""
    monkeypatch.setitem(model.TREES, "max_iter", 6)
    monkeypatch.setitem(model.STUMPS, "max_iter", 6)


@pytest.fixture
def lesson(planted_windows: Plant) -> TrainingSet:
    return lessons(planted_windows(400)[0])[0]


def with_totals(lesson: TrainingSet, **totals: np.ndarray) -> TrainingSet:
    came = lesson.outcomes
    return replace(lesson, outcomes=Outcomes(came.totals.assign(**totals), came.weights, came.categories))


def test_same_seed_same_forecast_and_the_lesson_is_unchanged(planted_windows: Plant) -> None:
    lesson, _ = lessons(planted_windows(160)[0])
    before = lesson.snapshot.signals.features.copy()
    first, second = (forecast_customers(lesson, lesson.snapshot, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(first.now, second.now)
    pd.testing.assert_frame_equal(lesson.snapshot.signals.features, before)
    assert not first.out_of_fold.equals(forecast_customers(lesson, lesson.snapshot, seed=6).out_of_fold), (
        "the seed draws the folds"
    )


def test_means_and_chances_add_up_to_what_came(lesson: TrainingSet) -> None:
    told = forecast_customers(lesson, lesson.snapshot)
    assert told.reason == "" and told.out_of_fold["chance"].sum() == pytest.approx(
        lesson.outcomes.active.sum(), rel=0.01
    )
    for name in ("orders", "spend"):
        assert told.out_of_fold[f"{name}_mean"].sum() == pytest.approx(lesson.values(name).sum(), rel=0.02)
    assert told.now["chance"].between(0, 1).all() and (told.now.drop(columns="chance") >= 0).all().all()


def test_those_who_came_were_promised_more(lesson: TrainingSet) -> None:
    told, came = forecast_customers(lesson, lesson.snapshot).out_of_fold["chance"], lesson.outcomes.active
    assert told[came].mean() > told[~came].mean() + 0.05


@pytest.mark.parametrize("everyone", [True, False])
def test_with_one_class_only_all_have_one_chance_and_it_is_said(lesson: TrainingSet, everyone: bool) -> None:
    days = np.full(400, 3.0) if everyone else np.r_[np.ones(4), np.zeros(396)]
    told = forecast_customers(with_totals(lesson, active_days=days), lesson.snapshot)
    assert told.now["chance"].nunique() == 1 and "everyone has the same chance" in told.reason
    assert told.now["chance"].iloc[0] == pytest.approx(401 / 402 if everyone else 5 / 402)


def test_without_money_or_orders_only_activity_is_foretold(lesson: TrainingSet) -> None:
    bare = with_totals(lesson, orders=np.zeros(400))
    features = lesson.snapshot.signals.features.drop(columns="spend")
    then = replace(lesson.snapshot, signals=replace(lesson.snapshot.signals, features=features))
    bare = replace(bare, snapshot=then)
    assert bare.amounts == [] and list(forecast_customers(bare, then).now.columns) == ["chance"]


def test_weights_of_a_mixture_are_not_below_zero_and_ignore_outliers() -> None:
    members = np.column_stack([np.arange(1.0, 30), np.ones(29)])
    values = 2 * np.arange(1.0, 30)
    values[-1] = 1000.0
    assert least_absolute(members, values).tolist() == [2, 0]


def test_last_again_says_the_last_horizon(lesson: TrainingSet) -> None:
    last = make_baselines(lesson, lesson.snapshot)["last"].now
    assert last["spend"].tolist() == pytest.approx(lesson.snapshot.last["spend"].tolist())
    assert last.groupby(lesson.snapshot.last["active_days"])["chance"].nunique().max() == 1


def test_a_cell_of_the_rfm_table_has_one_forecast_and_no_cell_is_empty(lesson: TrainingSet) -> None:
    table = make_baselines(lesson, lesson.snapshot)["rfm"].now
    assert table.notna().all().all() and table["spend"].nunique() <= 125
    few = replace(lesson.snapshot, signals=lesson.snapshot.signals.select(np.arange(3)), last=lesson.snapshot.last[:3])
    few = replace(few, bgnbd=lesson.snapshot.bgnbd[:3])
    pd.testing.assert_frame_equal(make_baselines(lesson, few)["rfm"].now, table[:3])


def test_a_classic_forecast_that_could_not_be_fitted_is_no_rival(lesson: TrainingSet) -> None:
    nothing = replace(lesson.snapshot, bgnbd=lesson.snapshot.bgnbd * np.nan)
    assert set(make_baselines(replace(lesson, snapshot=nothing), nothing)) == {"last", "rfm"}
    assert forecast_customers(replace(lesson, snapshot=nothing), nothing).now.notna().all().all()


def test_bands_hold_as_many_as_they_say(planted_windows: Plant) -> None:
    windows, _ = planted_windows(1200)
    fresh = TrainingSet(known(windows.now), windows.came)  # drawn anew of the same customers
    lesson = TrainingSet(known(windows.then), windows.came)
    for told in make_baselines(lesson, known(windows.now)).values():
        table = with_bands(told, lesson)
        for name in lesson.amounts:
            low, high, values = table[f"{name}_low"], table[f"{name}_high"], fresh.values(name)
            assert ((low <= table[name]) & (table[name] <= high) & (low >= 0)).all()
            assert ((values >= low) & (values <= high)).mean() == pytest.approx(0.95, abs=0.03)
