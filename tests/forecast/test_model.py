"""The learnt model and the baselines: forecasts repeat, add up, and give a reason where they cannot differ."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segkit.customers.features import Outcomes
from segkit.forecast import model
from segkit.forecast.baselines import make_baselines
from segkit.forecast.model import BUYING, TrainingSet, forecast_customers, least_absolute, with_bands
from tests.forecast.training import make_training, snapshot_of

Plant = Callable[..., tuple]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees are enough here."""
    monkeypatch.setitem(model.TREES, "max_iter", 6)
    monkeypatch.setitem(model.STUMPS, "max_iter", 6)


@pytest.fixture
def training(planted_windows: Plant) -> TrainingSet:
    return make_training(planted_windows(400)[0])[0]


def with_totals(training: TrainingSet, **totals: np.ndarray) -> TrainingSet:
    active = training.outcomes
    return replace(training, outcomes=Outcomes(active.totals.assign(**totals), active.weights, active.categories))


def test_same_seed_same_forecast_and_the_training_set_is_unchanged(planted_windows: Plant) -> None:
    training, _ = make_training(planted_windows(160)[0])
    before = training.snapshot.data.features.copy()
    first, second = (forecast_customers(training, training.snapshot, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(first.now, second.now)
    pd.testing.assert_frame_equal(training.snapshot.data.features, before)
    assert not first.out_of_fold.equals(forecast_customers(training, training.snapshot, seed=6).out_of_fold), (
        "the seed draws the folds"
    )


def test_means_and_chances_add_up_to_what_was_observed(training: TrainingSet) -> None:
    found = forecast_customers(training, training.snapshot)
    assert found.reason == "" and found.out_of_fold["chance"].sum() == pytest.approx(
        training.outcomes.active.sum(), rel=0.01
    )
    for name in ("orders", "spend"):
        assert found.out_of_fold[f"{name}_mean"].sum() == pytest.approx(training.values(name).sum(), rel=0.02)
    assert found.now["chance"].between(0, 1).all() and (found.now.drop(columns="chance") >= 0).all().all()


def test_active_customers_had_a_higher_predicted_chance(training: TrainingSet) -> None:
    found, active = forecast_customers(training, training.snapshot).out_of_fold["chance"], training.outcomes.active
    assert found[active].mean() > found[~active].mean() + 0.05


@pytest.mark.parametrize("everyone", [True, False])
def test_too_few_active_or_inactive_customers_share_one_chance(training: TrainingSet, everyone: bool) -> None:
    days = np.full(400, 3.0) if everyone else np.r_[np.ones(4), np.zeros(396)]
    found = forecast_customers(with_totals(training, active_days=days), training.snapshot)
    assert found.now["chance"].nunique() == 1 and "everyone has the same chance" in found.reason
    assert found.now["chance"].iloc[0] == pytest.approx(401 / 402 if everyone else 5 / 402)


def test_without_money_or_orders_only_activity_is_predicted(training: TrainingSet) -> None:
    poor = with_totals(training, orders=np.zeros(400))
    features = training.snapshot.data.features.drop(columns="spend")
    then = replace(training.snapshot, data=replace(training.snapshot.data, features=features))
    poor = replace(poor, snapshot=then)
    assert poor.amounts == [] and list(forecast_customers(poor, then).now.columns) == ["chance"]


def test_weights_of_a_mixture_are_not_below_zero_and_ignore_outliers() -> None:
    members = np.column_stack([np.arange(1.0, 30), np.ones(29)])
    values = 2 * np.arange(1.0, 30)
    values[-1] = 1000.0
    assert least_absolute(members, values).tolist() == [2, 0]


def test_the_last_period_baseline_repeats_the_last_horizon(training: TrainingSet) -> None:
    last = make_baselines(training, training.snapshot)["last"].now
    assert last["spend"].tolist() == pytest.approx(training.snapshot.last["spend"].tolist())
    assert last.groupby(training.snapshot.last["active_days"])["chance"].nunique().max() == 1


def test_a_cell_of_the_rfm_table_has_one_forecast_and_no_cell_is_empty(training: TrainingSet) -> None:
    table = make_baselines(training, training.snapshot)["rfm"].now
    assert table.notna().all().all() and table["spend"].nunique() <= 125
    few = replace(training.snapshot, data=training.snapshot.data.select(np.arange(3)), last=training.snapshot.last[:3])
    few = replace(few, **{kind: getattr(few, kind)[:3] for kind in BUYING})
    pd.testing.assert_frame_equal(make_baselines(training, few)["rfm"].now, table[:3])


def test_a_model_of_repeat_buying_is_no_baseline_where_it_cannot_be_fitted(training: TrainingSet) -> None:
    nothing = replace(training.snapshot, **{kind: training.snapshot.classic * np.nan for kind in BUYING})
    assert set(make_baselines(replace(training, snapshot=nothing), nothing)) == {"last", "rfm"}
    assert forecast_customers(replace(training, snapshot=nothing), nothing).now.notna().all().all()


def test_bands_cover_the_share_they_state(planted_windows: Plant) -> None:
    windows, _ = planted_windows(1200)
    fresh = TrainingSet(snapshot_of(windows.now), windows.outcomes)  # drawn again for the same customers
    training = TrainingSet(snapshot_of(windows.then), windows.outcomes)
    for found in make_baselines(training, snapshot_of(windows.now)).values():
        table = with_bands(found, training)
        for name in training.amounts:
            low, high, values = table[f"{name}_low"], table[f"{name}_high"], fresh.values(name)
            assert ((low <= table[name]) & (table[name] <= high) & (low >= 0)).all()
            assert ((values >= low) & (values <= high)).mean() == pytest.approx(0.95, abs=0.03)
