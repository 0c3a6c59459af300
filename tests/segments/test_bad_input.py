"""What may come in: customers all alike, features that say nothing, giants, copies; each is told or does no harm."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segkit.errors import BudgetError, SchemaError
from segkit.segments.clustering import Budget
from segkit.segments.fit import Fit, FitData, fit_segments

Plant = Callable[..., tuple[FitData, np.ndarray]]
BUDGET = Budget(min_segments=4, max_segments=6, smallest_share=0.05)


def fit(windows: FitData) -> Fit:
    return fit_segments(windows, budget=BUDGET, n_subsamples=2)


def with_features(windows: FitData, change: Callable[[pd.DataFrame], pd.DataFrame]) -> FitData:
    """The same windows with other features at both dates."""
    now, then = (replace(each, features=change(each.features.copy())) for each in (windows.now, windows.then))
    return replace(windows, now=now, then=then)


def test_customers_all_alike_are_reported_that_there_is_nothing_to_segment(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    alike = np.zeros(240, dtype=int)
    same = FitData(*(part.select(alike) for part in (windows.now, windows.then, windows.outcomes)))
    with pytest.raises(BudgetError, match=r"240 customers have fewer than 30 different forecasts.*nothing to segment"):
        fit(same)


def test_a_constant_feature_changes_nothing(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    constant = with_features(windows, lambda f: f.assign(lines=7.0))
    assert (fit(constant).segment_number == fit(windows).segment_number).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_feature_that_is_no_number_is_reported_by_name_and_rows(planted_windows: Plant, value: float) -> None:
    windows, _ = planted_windows()
    spoilt = with_features(windows, lambda f: f.assign(spend=f["spend"].where(f.index > "c0002", value)))
    with pytest.raises(
        SchemaError, match=r"missing or not finite in \['spend'\] \(3 of 240 rows\)\. Check the amounts"
    ):
        fit(spoilt)


def test_a_feature_that_is_there_no_more_is_reported_by_name(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    lacking = replace(windows.now, features=windows.now.features.drop(columns="spend"))
    with pytest.raises(SchemaError, match=r"no \['spend'\] \(1 missing\), which the model was learnt from"):
        fit(replace(windows, now=lacking))


def test_one_giant_customer_leaves_the_others_where_they_were(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    giant = with_features(windows, lambda f: f.assign(spend=f["spend"].where(f.index > "c0000", 1e12)))
    before, after = fit(windows), fit(giant)
    assert np.isfinite(after.axes.to_numpy()).all() and np.bincount(after.segment_number).min() >= 12
    assert adjusted_rand_score(before.segment_number[1:], after.segment_number[1:]) > 0.7


def test_a_thousand_copies_of_one_customer_share_a_segment(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    rows = np.concatenate([np.arange(240), np.zeros(1000, dtype=int)])
    index = pd.Index([f"c{i:05d}" for i in range(len(rows))], name="customer_id")

    def copied(part: object) -> object:
        taken = part.select(rows)
        name = "totals" if hasattr(taken, "totals") else "features"
        return replace(taken, **{name: getattr(taken, name).set_axis(index)})

    found = fit_segments(
        FitData(*(copied(part) for part in (windows.now, windows.then, windows.outcomes))),
        budget=Budget(min_segments=2, max_segments=6, smallest_share=0.01),
        n_subsamples=2,
    )
    assert len(set(found.segment_number[240:])) == 1 and np.bincount(found.segment_number).min() >= 20
