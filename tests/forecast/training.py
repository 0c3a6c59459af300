"""Made-up customers, their outcomes, and a model with two segments, for the tests of the forecast."""

import numpy as np
import pandas as pd

from segkit.customers.anticipation import anticipate, balanced_space
from segkit.customers.features import CustomerData, Outcomes
from segkit.forecast.model import Snapshot, TrainingSet
from segkit.segments.fit import FitData
from segkit.segments.model import SegmentModel, assign_points

LOOKBACK_DAYS, HORIZON_DAYS = 182, 91


def snapshot_of(data: CustomerData, *, rate: float = 0.5) -> Snapshot:
    """Customers with a last horizon like their lookback, and models of repeat buying at their usual rate."""
    features = data.features
    last = features[["orders", "spend", "active_days"]] * rate
    buying = pd.DataFrame({"chance": 1 - np.exp(-last["orders"]), "orders": last["orders"], "spend": last["spend"]})
    return Snapshot(data, last, classic=buying, regular=buying, rate=rate)


def make_training(windows: FitData, *, seed: int = 3) -> tuple[TrainingSet, TrainingSet]:
    """Two training sets of the same customers, in which the less frequent are more often inactive."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(2):
        often = windows.then.features["orders"].to_numpy()
        active = rng.random(len(often)) < np.clip(often / np.median(often), 0.2, 0.95)
        totals = windows.outcomes.totals.mul(active, axis=0)
        weights = windows.outcomes.weights.multiply(active[:, None]).tocsr()
        found.append(TrainingSet(snapshot_of(windows.then), Outcomes(totals, weights, windows.outcomes.categories)))
    return found[0], found[1]


def two_segments(data: CustomerData) -> tuple[SegmentModel, pd.Series]:
    """A model of two segments, and the segment of each customer."""
    space = balanced_space(data)
    ends = np.zeros((2, space.rotation.shape[1]))
    ends[:, 0] = -0.5, 0.5
    model = SegmentModel(
        space=space,
        segments=("S01", "S02"),
        macro=("M1", "M2"),
        centres=ends,
        bag_centres=ends,
        bag_of=np.zeros(2, dtype=int),
        bag_segment=np.arange(2),
    )

    return model, assign_points(model, anticipate(space, data).axes)["segment"]
