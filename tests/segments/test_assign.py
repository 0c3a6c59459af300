"""One customer at a time: the same segment and confidence as the batch, quickly."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse

from segkit.customers.features import CustomerData
from segkit.errors import RunError
from segkit.segments.clustering import Budget
from segkit.segments.fit import FitData, fit_segments
from segkit.segments.model import Assigner, SegmentModel, assign_segments


@pytest.fixture
def fitted(planted_windows: Callable[..., tuple[FitData, np.ndarray]]) -> tuple[SegmentModel, CustomerData]:
    """A model fitted on planted customers, and customers it has not seen."""
    windows, _ = planted_windows(400)
    model = fit_segments(windows, budget=Budget(min_segments=4, max_segments=8), n_subsamples=3).model
    return model, planted_windows(150, seed=9)[0].now


def _nothing_bought(signals: CustomerData) -> CustomerData:
    return CustomerData(
        features=signals.features, weights=sparse.csr_array(signals.weights.shape), categories=signals.categories
    )


def _one_by_one(assigner: Assigner, signals: CustomerData) -> list[tuple[str, str, str | None, float]]:
    dense = signals.weights.toarray()
    features = signals.features.to_dict("records")
    found = [
        assigner.assign_one(f, weights=dict(zip(signals.categories, w, strict=True)))
        for f, w in zip(features, dense, strict=True)
    ]
    return [(p.segment, p.macro_segment, p.need, p.confidence) for p in found]


def test_one_by_one_is_what_the_batch_states(fitted: tuple[SegmentModel, CustomerData]) -> None:
    model, new = fitted
    for signals in (new, _nothing_bought(new)):
        wanted = assign_segments(model, signals)
        assert _one_by_one(Assigner(model), signals) == list(wanted.itertuples(index=False, name=None))


def test_one_placement_takes_far_less_than_a_millisecond(fitted: tuple[SegmentModel, CustomerData]) -> None:
    model, new = fitted
    assigner, features = Assigner(model), new.features.iloc[0].to_dict()
    weights = dict(zip(new.categories, new.weights.toarray()[0], strict=True))
    assigner.assign_one(features, weights=weights)
    start = time.process_time()
    for _ in range(200):
        assigner.assign_one(features, weights=weights)
    assert (time.process_time() - start) / 200 < 0.0005


def test_a_missing_feature_is_named(fitted: tuple[SegmentModel, CustomerData]) -> None:
    with pytest.raises(RunError, match="no 'orders', which the model reads"):
        Assigner(fitted[0]).assign_one({"spend": 1.0, "active_days": 1.0, "recency_days": 3.0})


def test_unknown_categories_and_returns_count_for_nothing(fitted: tuple[SegmentModel, CustomerData]) -> None:
    model, new = fitted
    assigner, features = Assigner(model), new.features.iloc[0].to_dict()
    odd = {"never seen": 5.0, new.categories[0]: -1.0}
    np.testing.assert_array_equal(assigner.axes(features, weights=odd), assigner.axes(features))
