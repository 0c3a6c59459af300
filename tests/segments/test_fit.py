"""One fit of the whole: same seed same segments, everyone placed, and a stand-in where history is short."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segkit.customers.features import CustomerData, customers_at
from segkit.period import Period
from segkit.segments.clustering import Budget, make_segmentation
from segkit.segments.fit import Fit, FitData, build_fit_data, fit_segments, fit_space, last_horizon_outcomes
from segkit.segments.model import assign_segments
from segkit.segments.scoring import adjusted_r2, scoring_outcomes
from tests.conftest import NEEDS

Plant = Callable[..., tuple]
BUDGET = Budget(min_segments=4, max_segments=6, smallest_share=0.05)
KINDS = {"purchase": "customer"}


def fit(windows: FitData, **options: object) -> Fit:
    return fit_segments(windows, **{"budget": BUDGET, "n_subsamples": 2, "seed": 7, **options})


def test_everyone_is_placed_and_planted_needs_come_back(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    found = fit(windows)
    placed = assign_segments(found.model, windows.now)
    assert len(found.segment_number) == 240 and found.axes.index.equals(windows.now.features.index)
    assert placed["segment"].tolist() == [found.model.segments[i] for i in found.segment_number]
    assert placed["confidence"].between(0, 1).all()
    names = dict(zip(found.needs.ids, found.needs.names, strict=True))
    led = placed["need"].notna().to_numpy()
    named = placed["need"][led].map(names).str.split().str[0]
    assert led.mean() > 0.25 and (named == np.array(NEEDS)[need][led]).mean() > 0.7
    bought, shares = scoring_outcomes(windows.outcomes, needs=found.needs).values["need"]
    assert adjusted_r2(found.segment_number[bought], shares)[0] > 0.4
    assert set(found.model.macro) == {f"M{i + 1}" for i in range(len(found.model.borders) + 1)}


def test_same_seed_same_bytes_and_the_seed_has_an_effect(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    first, again, other = fit(windows), fit(windows), fit(windows, seed=8)
    assert first.segment_number.tobytes() == again.segment_number.tobytes()
    assert first.model.centres.tobytes() == again.model.centres.tobytes()
    pd.testing.assert_frame_equal(first.frontier, again.frontier)
    assert first.model.bag_centres.tobytes() != other.model.bag_centres.tobytes()


def test_fitted_on_some_everyone_is_placed(planted_windows: Plant) -> None:
    windows, _ = planted_windows(480)
    keep = windows.now.features.index[::2]
    found = fit(windows, fit_on=keep)
    assert len(found.segment_number) == 480 and found.in_sample.sum() == 240
    wanted = FitData(*(part.select(np.arange(0, 480, 2)) for part in (windows.now, windows.then, windows.outcomes)))
    assert fit(wanted).segment_number.tobytes() == found.segment_number[::2].tobytes(), "those left out have no say"


def test_short_history_gives_segments_of_balanced_behaviour(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    found = fit(FitData(now=windows.now, then=None, outcomes=None))
    assert found.model.space.outcome_names == () and len(found.segment_number) == 240
    assert found.frontier["spend_r2"].isna().all() and found.frontier["chosen"].sum() == 1
    assert adjusted_rand_score(need, found.segment_number) > 0.3


def test_without_categories_the_columns_are_habits(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    style = np.random.default_rng(3).random((2, 240))

    def bare(part: CustomerData) -> CustomerData:
        shopped = dict(zip(("weekend_share", "gap_variation"), style, strict=True))
        return CustomerData(part.features.assign(**shopped), weights=None, categories=())

    outcomes = replace(windows.outcomes, weights=None, categories=())
    data = FitData(now=bare(windows.now), then=bare(windows.then), outcomes=outcomes)
    found = fit(data)
    assert found.needs is None and set(found.model.need) == {""} and found.model.space.needs == ()
    assert found.frontier["need_r2"].isna().all() and len(found.model.segments) >= 4
    split = make_segmentation(found.axes.to_numpy(), family="2 levels", segments=4)
    assert split.level.tolist() == [1, 1, 0, 0] and split.anchor.max() >= 0
    assert assign_segments(found.model, data.now)["need"].isna().all()


@pytest.fixture
def weekly(make_days: Callable) -> object:
    """Three customers who buy every week from the first of January on, the last until the end of June."""
    start = date(2024, 1, 1)
    stops = {"ann": 26, "bob": 26, "eve": 13}
    events = [
        (who, (start + timedelta(weeks=w)).isoformat(), "purchase", 10.0 + w, "tea")
        for who, weeks in stops.items()
        for w in range(weeks)
    ]
    return make_days(events, kinds=KINDS)


def test_windows_look_one_horizon_back_and_never_ahead(weekly: object) -> None:
    as_of = date(2024, 6, 3)  # a Monday: the events of that day are after
    customers = customers_at(weekly, period=Period(as_of, lookback_days=98, horizon_days=28), kinds=KINDS)
    windows = build_fit_data(weekly, period=customers.period, kinds=KINDS)
    assert windows.now.features.index.tolist() == ["ann", "bob", "eve"]
    assert windows.then.features.index.tolist() == ["ann", "bob", "eve"]
    assert windows.then.features.columns.tolist() == windows.now.features.columns.tolist()
    assert windows.now.features["orders"].tolist() == [14, 14, 5]
    assert windows.outcomes.totals["orders"].tolist() == [4, 4, 0]
    assert last_horizon_outcomes(customers).totals["orders"].tolist() == [4, 4, 0]


@pytest.mark.parametrize(("lookback", "known"), [(98, True), (130, True), (140, False)])
def test_the_learning_window_must_lie_within_history_but_for_a_sliver(
    weekly: object, lookback: int, known: bool
) -> None:
    period = Period(date(2024, 6, 3), lookback_days=lookback, horizon_days=28)
    windows = build_fit_data(weekly, period=period, kinds=KINDS)
    assert (windows.then is not None) is known
    assert (fit_space(windows, needs=None).outcome_names != ()) is known
