"""Fit a segmentation and describe it."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import KDTree

from segkit.customers.anticipation import Space, balanced_space, coordinates, learn_space
from segkit.customers.days import Days
from segkit.customers.features import CustomerData, Customers, Outcomes, customer_data, customer_outcomes
from segkit.data.runs import Run
from segkit.period import Period
from segkit.segments.clustering import (
    N_SUBSAMPLES,
    Budget,
    Segmentation,
    Subsamples,
    cluster_subsamples,
    macro_groups,
    search,
)
from segkit.segments.model import SegmentModel, assign_segments, nearest_centre
from segkit.stats import SAMPLE_SIZE, hash_sample, mean_interval, proportion_interval

MIN_HISTORY_SHARE = 0.95  # of a lookback must lie within the history for it to count as known


@dataclass(frozen=True)
class FitData:
    """Signals at `as_of`, and one horizon earlier with what came then; `then` is None where history is too short."""

    now: CustomerData
    then: CustomerData | None
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
    subsamples: Subsamples
    segmentation: Segmentation
    frontier: pd.DataFrame

    def core(self) -> np.ndarray:
        """Customers that HDBSCAN kept in at least half of their bags; who was in none is as the nearest who was."""
        if self.in_sample.all():
            return self.subsamples.core()
        points = self.axes.to_numpy()
        return self.subsamples.core()[KDTree(points[self.in_sample]).query(points)[1]]


def last_horizon_outcomes(customers: Customers) -> Outcomes:
    """What today's customers did in the last horizon before `as_of`."""
    period = customers.period
    return customer_outcomes(
        customers.days, start=period.last_horizon_start, horizon_days=period.horizon_days, index=customers.index
    )


def has_history(days: Days, *, period: Period) -> bool:
    """Whether history covers the lookback of a period, but for a sliver at its beginning."""
    first, sliver = first_active_day(days), timedelta(days=int((1 - MIN_HISTORY_SHARE) * period.lookback_days))
    return first is not None and first <= period.lookback_start + sliver


def first_active_day(days: Days) -> date | None:
    """The first day on which a customer did anything; what the company did before says nothing of them."""
    first = days.rows.filter(days.rows.own_events > 0).day.min().to_pandas()
    return None if pd.isna(first) else pd.Timestamp(first).date()


def fit_space(data: FitData, *, seed: int = 7) -> Space:
    """The anticipation space where there is history to learn it from, else balanced behaviour."""
    if data.then is None or data.outcomes is None:
        return balanced_space(data.now.select(hash_sample(data.now.features.index)), seed=seed)
    return learn_space(data.then, data.outcomes, seed=seed)


def fit_segments(
    data: FitData,
    *,
    budget: Budget | None = None,
    space: Space | None = None,
    fit_on: pd.Index | None = None,
    n_subsamples: int = N_SUBSAMPLES,
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
    learnt = data if fit_on is None else select_customers(data, fit_on)
    space = space or fit_space(learnt, seed=seed)
    axes = coordinates(space, data.now)
    points = axes.to_numpy()
    found = cluster_subsamples(points[seen], n_subsamples=n_subsamples, seed=seed)
    learning = coordinates(space, learnt.then).to_numpy() if learnt.then is not None else None
    asked = (points, seen) if fit_on is None else (points[seen], None)  # those left out have no say
    cut, frontier = search(
        asked[0], found, in_sample=asked[1], training_points=learning, outcomes=learnt.outcomes, budget=budget
    )
    number = nearest_centre(points, cut.centres)
    return Fit(
        _segment_model(space, cut, found),
        axes,
        number,
        in_sample=seen,
        subsamples=found,
        segmentation=cut,
        frontier=frontier,
    )


def _segment_model(space: Space, segmentation: Segmentation, subsamples: Subsamples) -> SegmentModel:
    ids = tuple(f"S{i + 1:02d}" for i in range(len(segmentation.centres)))
    macro = tuple(f"M{i + 1}" for i in macro_groups(segmentation.centres))
    return SegmentModel(
        space=space,
        segments=ids,
        macro=macro,
        centres=segmentation.centres,
        bag_centres=subsamples.centres,
        bag_of=subsamples.subsample_of,
        bag_segment=nearest_centre(subsamples.centres, segmentation.centres),
    )


def select_customers(data: FitData, customers: pd.Index) -> FitData:
    """The same windows for some customers, by id."""
    now = data.now.select(data.now.features.index.isin(customers))
    if data.then is None or data.outcomes is None:
        return FitData(now=now, then=None, outcomes=None)
    inside = data.then.features.index.isin(customers)
    return FitData(now=now, then=data.then.select(inside), outcomes=data.outcomes.select(inside))


TRAINING_TABLES = ("training_features", "training_bought", "training_outcomes", "training_outcomes_bought")


@dataclass(frozen=True)
class TrainingWindow:
    """One date in the past: `known` of the customers then, and what they did in the horizon that followed."""

    customers: CustomerData
    outcomes: Outcomes

    def customers_like(self, now: CustomerData) -> CustomerData:
        """What was known with the features of today: a channel that nobody used yet is zero."""
        return replace(
            self.customers, features=self.customers.features.reindex(columns=now.features.columns, fill_value=0.0)
        )


@dataclass(frozen=True)
class TrainingWindows:
    """One horizon ago (`last`) and two (`before`); None where history does not reach so far."""

    last: TrainingWindow | None
    before: TrainingWindow | None

    def fit_data(self, now: CustomerData) -> FitData:
        """Today's customers, with the last horizon to learn from."""
        return _fit_data(now, self.last)

    def earlier_fit_data(self) -> FitData | None:
        """The windows one horizon ago, which the proof makes segments on; None where there is nothing to learn from."""
        return _fit_data(self.last.customers, self.before) if self.last and self.before else None


def build_training_windows(
    days: Days, *, period: Period, kinds: dict[str, str], max_customers: int = SAMPLE_SIZE
) -> TrainingWindows:
    """Look back one and two horizons.

    Takes  days: the state; rows on or after `period.as_of` are not looked at
    Gives  Past

    Parameters
    ----------
    most : customers at each date; of more, those whose ids have the smallest hashes
    """
    last = period.one_horizon_back()
    return TrainingWindows(
        *(
            _training_window(days, period=each, kinds=kinds, max_customers=max_customers)
            for each in (last, last.one_horizon_back())
        )
    )


def build_fit_data(days: Days, *, period: Period, kinds: dict[str, str]) -> FitData:
    """What is known of everyone at `period.as_of`, with the last horizon to learn from; for one date alone.

    Takes  days: the state; rows on or after `period.as_of` are not looked at
    Gives  Windows
    """
    now = customer_data(days, period=period, kinds=kinds)
    return _fit_data(
        now, _training_window(days, period=period.one_horizon_back(), kinds=kinds, max_customers=SAMPLE_SIZE)
    )


def write_training_windows(run: Run, training: TrainingWindows) -> None:
    """Keep the past in a run, by moment (last, before), as the tables training_*."""
    moments = {name: moment for name, moment in vars(training).items() if moment is not None}
    if not moments:
        return
    parts = {
        "training_features": {name: m.customers.features for name, m in moments.items()},
        "training_outcomes": {name: m.outcomes.totals for name, m in moments.items()},
        "training_bought": {name: _weights_to_rows(m.customers) for name, m in moments.items()},
        "training_outcomes_bought": {name: _weights_to_rows(m.outcomes) for name, m in moments.items()},
    }
    for table, by_moment in parts.items():
        found = {name: part for name, part in by_moment.items() if part is not None}
        if found:
            run.write(pd.concat(found, names=["moment"]).reset_index(), table)


def read_training_windows(run: Run) -> TrainingWindows:
    """The past that a run holds; nothing where its history was too short."""
    if not run.has("training_features"):
        return TrainingWindows(last=None, before=None)
    tables = {name: run.table(name) for name in TRAINING_TABLES if run.has(name)}
    return TrainingWindows(*(_read_training_window(tables, name) for name in ("last", "before")))


def _training_window(days: Days, *, period: Period, kinds: dict[str, str], max_customers: int) -> TrainingWindow | None:
    if not has_history(days, period=period):
        return None
    few = _sample_days(days, start=period.lookback_start, end=period.as_of, max_customers=max_customers)
    customers = customer_data(few, period=period, kinds=kinds)
    came = customer_outcomes(few, start=period.as_of, horizon_days=period.horizon_days, index=customers.features.index)
    return TrainingWindow(customers, came)


def _sample_days(days: Days, *, start: date, end: date, max_customers: int) -> Days:
    """The days of a sample of those with an event of their own in a window; of all where they are few."""
    rows = days.rows
    seen = rows.filter((rows.day >= ibis.literal(start)) & (rows.until < ibis.literal(end)) & (rows.own_events > 0))
    ids = sorted(seen.select("customer_id").distinct().to_pandas()["customer_id"])
    if len(ids) <= max_customers:
        return days
    sample = ibis.memtable(pd.DataFrame({"customer_id": ids})[hash_sample(ids, most=max_customers)])
    parts = {name: table.semi_join(sample, "customer_id") for name, table in vars(days).items() if table is not None}
    return Days(**{**vars(days), **parts})


def _fit_data(now: CustomerData, window: TrainingWindow | None) -> FitData:
    if window is None:
        return FitData(now=now, then=None, outcomes=None)
    return FitData(now=now, then=window.customers_like(now), outcomes=window.outcomes)


def _weights_to_rows(data: CustomerData | Outcomes) -> pd.DataFrame | None:
    """What was bought as rows: customer_id, category, weight."""
    if data.weights is None:
        return None
    index = (data.features if isinstance(data, CustomerData) else data.totals).index
    entries = data.weights.tocoo()
    categories = pd.Categorical.from_codes(entries.col, categories=list(data.categories))
    columns = {
        "customer_id": index.to_numpy()[entries.row],
        "category": categories.astype(object),
        "weight": entries.data,
    }
    return pd.DataFrame(columns).set_index("customer_id")


def _read_training_window(tables: dict[str, pd.DataFrame], name: str) -> TrainingWindow | None:
    own = {table: part[part["moment"] == name].drop(columns="moment") for table, part in tables.items()}
    if own["training_features"].empty:
        return None
    features = own["training_features"].set_index("customer_id").dropna(axis=1, how="all")
    totals = own["training_outcomes"].set_index("customer_id")
    bought = _rows_to_weights(own.get("training_bought"), index=features.index)
    outcome_weights = _rows_to_weights(own.get("training_outcomes_bought"), index=totals.index)
    return TrainingWindow(CustomerData(features, *bought), Outcomes(totals, *outcome_weights))


def _rows_to_weights(table: pd.DataFrame | None, *, index: pd.Index) -> tuple[sparse.csr_array | None, tuple[str, ...]]:
    if table is None:
        return None, ()
    names = sorted(table["category"].unique())
    place = index.get_indexer(table["customer_id"]), pd.Index(names).get_indexer(table["category"])
    return sparse.csr_array((table["weight"].to_numpy(), place), shape=(len(index), len(names))), tuple(names)


MIN_TRAINING_CUSTOMERS = 20  # customers; with fewer in the learning window nothing is said of a segment's future


def segment_sizes(assigned: pd.DataFrame, features: pd.DataFrame, *, outcomes: Outcomes) -> pd.DataFrame:
    """Customers, revenue and orders of each segment over the lookback.

    Takes  placed: segment and macro_segment by customer_id; features of the same customers; last: outcomes of the
           last horizon
    Gives  segment, macro_segment, customers, customer_share, revenue, revenue_share, margin (null without cost),
           orders,
           spend_now (mean spend in the last horizon, per customer); sorted by segment
    """
    joined = assigned[["segment", "macro_segment"]].join(features)
    groups = joined.groupby("segment", sort=True)
    money = "spend" in features
    revenue = groups["spend"].sum() if money else pd.Series(np.nan, index=groups.size().index)
    spent = outcomes.totals["spend"] if "spend" in outcomes.totals else pd.Series(np.nan, index=outcomes.totals.index)
    often = "orders" if "orders" in features else "active_days"
    table = pd.DataFrame(
        {
            "macro_segment": groups["macro_segment"].first(),
            "customers": groups.size(),
            "customer_share": groups.size() / len(joined),
            "revenue": revenue.round(2),
            "revenue_share": (revenue / revenue.sum()).round(9) if money and revenue.sum() > 0 else np.nan,
            "margin": _margin(outcomes, assigned["segment"]),
            "orders": groups[often].sum().round().astype("int64"),
            "spend_now": spent.groupby(assigned["segment"]).mean().round(6),
        }
    )
    return table.reset_index()


def _margin(last: Outcomes, segment: pd.Series) -> pd.Series | float:
    """Share of the purchases' amount that was left after their cost, in the last horizon; null without cost."""
    if "cost" not in last.totals:
        return np.nan
    totals = last.totals[["amount", "cost"]].groupby(segment).sum()
    return ((totals["amount"] - totals["cost"]) / totals["amount"].where(totals["amount"] > 0)).round(6)


def expected_outcomes(model: SegmentModel, data: FitData) -> pd.DataFrame:
    """What customers of each segment are expected to do in the next horizon, from those who stood there one horizon
    ago.

    Takes  model; windows, whose `then` and `came` are the learning window
    Gives  indexed by segment: active_share_next and spend_next (mean per customer), each with _low and _high (95 %);
           null
           where fewer than twenty stood there, or nothing is known
    """
    names = [f"{n}{part}" for n in ("active_share_next", "spend_next") for part in ("", "_low", "_high")]
    empty = pd.DataFrame(np.nan, index=pd.Index(sorted(set(model.segments)), name="segment"), columns=names)
    if data.then is None or data.outcomes is None:
        return empty
    stood = assign_segments(model, data.then)["segment"]
    totals = data.outcomes.totals
    for segment, members in stood.groupby(stood):
        if len(members) < MIN_TRAINING_CUSTOMERS:
            continue
        members_totals = totals.loc[members.index]
        empty.loc[segment, names[:3]] = proportion_interval(
            (members_totals["active_days"] > 0).sum(), len(members_totals)
        )
        if "spend" in members_totals:
            middle, low, high = mean_interval(members_totals["spend"])
            empty.loc[segment, names[3:]] = middle, max(low, min(middle, 0.0)), high  # nobody spends less than nothing
    return empty.round(6)
