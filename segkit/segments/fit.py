"""One fit of the whole: learn the space, find segments in it, place everyone. Proof and product run the same code."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from segkit.customers.anticipate import Space, balanced_space, coordinates, learn_space
from segkit.customers.days import Days
from segkit.customers.features import Customers, Signals
from segkit.customers.outcomes import Outcomes, customer_outcomes
from segkit.period import Period
from segkit.segments.bags import BAGS, Bags, find_bags
from segkit.segments.cuts import Cut, macro_buckets
from segkit.segments.place import SegmentModel, nearest
from segkit.segments.search import Budget, search
from segkit.stats import hash_sample

HELD = 0.95  # of a lookback must lie within the history for it to count as known


@dataclass(frozen=True)
class Windows:
    """Signals at `as_of`, and one horizon earlier with what came then; `then` is None where history is too short."""

    now: Signals
    then: Signals | None
    outcomes: Outcomes | None


@dataclass(frozen=True)
class Fit:
    """A fitted segmentation: the model, each customer's segment number, and what it was chosen from; `seen`: the
    customers (a flag each) in whom segments were looked for, in the order of the bags' rows.
    """

    model: SegmentModel
    axes: pd.DataFrame
    segment_number: np.ndarray
    in_sample: np.ndarray
    subsamples: Bags
    segmentation: Cut
    frontier: pd.DataFrame

    def core(self) -> np.ndarray:
        """Customers that HDBSCAN kept in at least half of their bags; who was in none is as the nearest who was."""
        if self.in_sample.all():
            return self.subsamples.core()
        points = self.axes.to_numpy()
        return self.subsamples.core()[KDTree(points[self.in_sample]).query(points)[1]]


def last_horizon(customers: Customers) -> Outcomes:
    """What today's customers did in the last horizon before `as_of`."""
    period = customers.period
    return customer_outcomes(
        customers.days, start=period.last_horizon_start, horizon_days=period.horizon_days, index=customers.index
    )


def reaches_back(days: Days, *, period: Period) -> bool:
    """Whether history covers the lookback of a period, but for a sliver at its beginning."""
    first, sliver = first_active_day(days), timedelta(days=int((1 - HELD) * period.lookback_days))
    return first is not None and first <= period.lookback_start + sliver


def first_active_day(days: Days) -> date | None:
    """The first day on which a customer did anything; what the company did before says nothing of them."""
    first = days.rows.filter(days.rows.own_events > 0).day.min().to_pandas()
    return None if pd.isna(first) else pd.Timestamp(first).date()


def space_for(data: Windows, *, seed: int = 7) -> Space:
    """The anticipation space where there is history to learn it from, else balanced behaviour."""
    if data.then is None or data.outcomes is None:
        return balanced_space(data.now.select(hash_sample(data.now.features.index)), seed=seed)
    return learn_space(data.then, data.outcomes, seed=seed)


def fit_segments(
    data: Windows,
    *,
    budget: Budget | None = None,
    space: Space | None = None,
    fit_on: pd.Index | None = None,
    n_subsamples: int = BAGS,
    seed: int = 7,
) -> Fit:
    """Find segments and place everyone.

    Takes  windows at one date
    Gives  Fit for every customer of `windows.now`, in their order

    Parameters
    ----------
    budget : how many segments, how small
    space : a space already learnt on these windows; learnt here by default
    keep : fit on these customers only, and place everyone; by default on all, or of very many on a sample
    bags : subsamples in which HDBSCAN looks; more are steadier
    seed : the same seed gives the same segments on one machine
    """
    budget = budget or Budget()
    everyone = data.now.features.index
    seen = hash_sample(everyone) if fit_on is None else everyone.isin(fit_on)
    learnt = data if fit_on is None else only_customers(data, fit_on)
    space = space or space_for(learnt, seed=seed)
    axes = coordinates(space, data.now)
    points = axes.to_numpy()
    found = find_bags(points[seen], n_subsamples=n_subsamples, seed=seed)
    learning = coordinates(space, learnt.then).to_numpy() if learnt.then is not None else None
    asked = (points, seen) if fit_on is None else (points[seen], None)  # those left out have no say
    cut, frontier = search(
        asked[0], found, in_sample=asked[1], training_points=learning, outcomes=learnt.outcomes, budget=budget
    )
    number = nearest(points, cut.centres)
    return Fit(
        _model(space, cut, found), axes, number, in_sample=seen, subsamples=found, segmentation=cut, frontier=frontier
    )


def _model(space: Space, segmentation: Cut, subsamples: Bags) -> SegmentModel:
    ids = tuple(f"S{i + 1:02d}" for i in range(len(segmentation.centres)))
    macro = tuple(f"M{i + 1}" for i in macro_buckets(segmentation.centres))
    return SegmentModel(
        space=space,
        segments=ids,
        macro=macro,
        centres=segmentation.centres,
        bag_centres=subsamples.centres,
        bag_of=subsamples.subsample_of,
        bag_segment=nearest(subsamples.centres, segmentation.centres),
    )


def only_customers(data: Windows, customers: pd.Index) -> Windows:
    """The same windows for some customers, by id."""
    now = data.now.select(data.now.features.index.isin(customers))
    if data.then is None or data.outcomes is None:
        return Windows(now=now, then=None, outcomes=None)
    inside = data.then.features.index.isin(customers)
    return Windows(now=now, then=data.then.select(inside), outcomes=data.outcomes.select(inside))
