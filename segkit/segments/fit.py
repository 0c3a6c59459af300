"""Fit a segmentation: the training windows, needs, space and segments, and the sizes and outcomes of the segments."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.anticipation import Space, balanced_space, coordinates, learn_space
from segkit.customers.days import Days
from segkit.customers.features import (
    CustomerData,
    Customers,
    Outcomes,
    are_one_time,
    customer_data,
    customer_outcomes,
)
from segkit.customers.needs import N_BAGS, Needs, Purchases, learn_needs, purchases_of_customers, purchases_of_days
from segkit.data.readiness import FEWEST_CUSTOMERS
from segkit.data.runs import Run
from segkit.period import Period
from segkit.segments.clustering import (
    FAMILIES,
    LEVELS_ALONE,
    N_SUBSAMPLES,
    Budget,
    SearchData,
    Segmentation,
    make_segmentation,
    search,
    subsample_rows,
)
from segkit.segments.model import Assigner, SegmentModel
from segkit.segments.scoring import scoring_outcomes
from segkit.stats import SAMPLE_SIZE, hash_sample

MIN_HISTORY_SHARE = 0.95  # of a lookback that history must cover


CORE_CONFIDENCE = 0.8  # share of subsamples that put a customer of the core of a segment in it


@dataclass(frozen=True)
class FitData:
    """Hold what a fit learns from.

    Parameters
    ----------
    now
        Customers at `as_of`.
    then, outcomes
        The customers one horizon ago, and what they did since; None where history is too short.
    purchases
        What was bought before `as_of`, from which needs are learnt; by default from the amounts of `now`.
    """

    now: CustomerData
    then: CustomerData | None
    outcomes: Outcomes | None
    purchases: Purchases | None = None


@dataclass(frozen=True)
class Fit:
    """Hold a fitted segmentation and what it was chosen from.

    Parameters
    ----------
    model, axes, segment_number
        The model; coordinates of every customer; the number of each one's segment.
    in_sample
        Flag of each customer the segments were found in.
    needs
        The needs behind the columns; None where the data holds none.
    segmentation, frontier
        The chosen segmentation, and the scores of all that were tried.
    """

    model: SegmentModel
    axes: pd.DataFrame
    segment_number: np.ndarray
    in_sample: np.ndarray
    needs: Needs | None
    segmentation: Segmentation
    frontier: pd.DataFrame

    def core(self) -> np.ndarray:
        """Flag customers who are in the same segment in most subsamples."""
        assigner = Assigner(self.model)
        return assigner.agreement(self.axes.to_numpy(), assigner.codes[self.segment_number]) >= CORE_CONFIDENCE


def last_horizon_outcomes(customers: Customers) -> Outcomes:
    """Return what today's customers did in the last horizon before `as_of`."""
    period = customers.period
    return customer_outcomes(
        customers.days, start=period.last_horizon_start, horizon_days=period.horizon_days, index=customers.index
    )


def net_spend(customers: Customers) -> pd.Series:
    """Sum what each customer spent in the lookback, net of returns: below zero where more was returned.

    Named ``revenue``; null in a source without money. The feature ``spend`` is never below zero.
    """
    period = customers.period
    days = customers.days.without_things()
    spans = {"start": period.lookback_start, "horizon_days": period.lookback_days, "index": customers.index}
    return customer_outcomes(days, **spans).totals.get("spend", pd.Series(np.nan, customers.index)).rename("revenue")


def revenue_shares(revenue: pd.Series) -> pd.Series:
    """Divide the revenue of segments by that of all; a segment that returned more than it bought has a share of zero.

    Null where nothing is left of the revenue of all.

    >>> revenue_shares(pd.Series([30.0, 10.0, -5.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    earned = revenue.clip(lower=0)
    return earned / earned.sum() if revenue.sum() > 0 else pd.Series(np.nan, revenue.index)


def has_history(days: Days, *, period: Period) -> bool:
    """Return whether history covers the lookback of a period, up to a few days at its beginning."""
    first, sliver = first_active_day(days), timedelta(days=int((1 - MIN_HISTORY_SHARE) * period.lookback_days))
    return first is not None and first <= period.lookback_start + sliver


def first_active_day(days: Days) -> date | None:
    """Return the first day on which a customer did anything; earlier events of the company do not count as history."""
    first = days.rows.filter(days.rows.own_events > 0).day.min().to_pandas()
    return None if pd.isna(first) else pd.Timestamp(first).date()


def fit_needs(data: FitData, *, previous: Needs | None = None, bags: int = N_BAGS, seed: int = 7) -> Needs | None:
    """Learn needs from what was bought before `as_of`, without a map of them; see `learn_needs`."""
    bought = data.purchases or purchases_of_customers(data.now)
    return learn_needs(bought, previous=previous, bags=bags, drawn=False, seed=seed)


def fit_space(data: FitData, *, needs: Needs | None, seed: int = 7) -> Space:
    """Learn the space where there is history to learn from, else use what customers did in the lookback."""
    if data.then is None or data.outcomes is None:
        return balanced_space(data.now.select(hash_sample(data.now.features.index)), needs=needs, seed=seed)
    return learn_space(data.then, data.outcomes, needs=needs, seed=seed)


def fit_segments(
    data: FitData,
    *,
    budget: Budget | None = None,
    needs: Needs | None = None,
    fit_on: pd.Index | None = None,
    n_subsamples: int = N_SUBSAMPLES,
    bags: int = N_BAGS,
    seed: int = 7,
) -> Fit:
    """Find segments and assign every customer.

    Parameters
    ----------
    data
        Features now and one horizon ago, with outcomes, and what was bought.
    budget
        How many segments, and how small.
    needs
        Needs learnt from these data; by default they are learnt here.
    fit_on
        Customers to fit on; by default all, or a sample of very many. Everyone is assigned.
    n_subsamples
        Subsamples of customers by which segmentations and the confidence of each customer are rated.
    bags
        Subsamples from which needs are learnt.
    seed
        The same seed gives the same segments on one machine.

    Returns
    -------
    Fit
        Every customer of `data.now`, in their order.
    """
    budget = budget or Budget()
    everyone = data.now.features.index
    in_sample = hash_sample(everyone) if fit_on is None else everyone.isin(fit_on)
    training = data if fit_on is None else select_customers(data, fit_on)
    needs = needs or fit_needs(training, bags=bags, seed=seed)
    space = fit_space(training, needs=needs, seed=seed)
    axes = coordinates(space, data.now)
    points = axes.to_numpy()
    sampled = points[in_sample]
    subsamples = subsample_rows(len(sampled), count=n_subsamples, seed=seed)
    known = training.then is not None and training.outcomes is not None
    segmentation, frontier = search(
        SearchData(
            points=sampled,
            subsamples=subsamples,
            training_points=coordinates(space, training.then).to_numpy() if known else None,
            outcomes=scoring_outcomes(training.outcomes, needs=needs) if known else None,
        ),
        budget=budget,
    )
    return Fit(
        segment_model(space, segmentation, subsamples=[sampled[rows] for rows in subsamples]),
        axes,
        segmentation.assign(points),
        in_sample=in_sample,
        needs=needs,
        segmentation=segmentation,
        frontier=frontier,
    )


def fit_levels(fit: Fit, *, seed: int = 7) -> Fit | None:
    """Cut the customers of a fit into levels of value alone; None where they do not make two that are large enough.

    Parameters
    ----------
    fit
        Segments that do not hold, whose space is kept.
    seed
        The same seed gives the same levels on one machine.
    """
    points = fit.axes.to_numpy()
    sampled, smallest = points[fit.in_sample], Budget().min_customers(len(points))
    for family in LEVELS_ALONE:
        levels = make_segmentation(sampled, family=family, segments=len(FAMILIES[family][0]) + 1)
        number = levels.assign(points)
        whole = len(levels.centres) == len(levels.borders) + 1  # else levels fell together, and were split again
        if whole and len(levels.borders) and np.bincount(number, minlength=len(levels.centres)).min() >= smallest:
            subsamples = [sampled[rows] for rows in subsample_rows(len(sampled), seed=seed)]
            model = segment_model(fit.model.space, levels, subsamples=subsamples)
            return replace(fit, model=model, segment_number=number, segmentation=levels)
    return None


def segment_model(space: Space, segmentation: Segmentation, *, subsamples: list[np.ndarray]) -> SegmentModel:
    """Return the model of a segmentation, with ids in the order of its centres, rated by subsamples of the points."""
    family, segments = segmentation.shape
    again = [make_segmentation(points, family=family, segments=segments) for points in subsamples]
    borders = np.full((len(again), len(segmentation.borders)), np.inf)
    for row, each in zip(borders, again, strict=True):
        row[:] = each.borders if len(each.borders) == len(row) else segmentation.borders
    bag_centres = np.vstack([each.centres for each in again]) if again else segmentation.centres[:0]
    return SegmentModel(
        space=space,
        segments=tuple(f"S{i + 1:02d}" for i in range(len(segmentation.centres))),
        macro=tuple(f"M{segmentation.level.max() - level + 1}" for level in segmentation.level),
        centres=segmentation.centres,
        bag_centres=bag_centres,
        bag_of=np.repeat(np.arange(len(again)), [len(each.centres) for each in again]),
        bag_segment=segmentation.assign(bag_centres) if again else np.zeros(0, dtype=np.int64),
        borders=segmentation.borders,
        level=segmentation.level,
        bag_borders=borders,
        need=tuple(space.needs[i] if i >= 0 and space.needs else "" for i in segmentation.anchor),
    )


def select_customers(data: FitData, customers: pd.Index) -> FitData:
    """Return the same data for some customers, by id."""
    now = data.now.select(data.now.features.index.isin(customers))
    purchases = data.purchases.select(customers) if data.purchases else None
    if data.then is None or data.outcomes is None:
        return FitData(now=now, then=None, outcomes=None, purchases=purchases)
    inside = data.then.features.index.isin(customers)
    return FitData(now, data.then.select(inside), data.outcomes.select(inside), purchases=purchases)


TRAINING_TABLES = (
    "training_features",
    "training_bought",
    "training_items",
    "training_outcomes",
    "training_outcomes_bought",
    "training_outcomes_items",
)


@dataclass(frozen=True)
class TrainingWindow:
    """One date in the past: the customers as they were then, and their outcomes in the horizon that followed."""

    customers: CustomerData
    outcomes: Outcomes

    def customers_like(self, now: CustomerData) -> CustomerData:
        """Return the customers with today's features; a channel that nobody used yet is zero."""
        return replace(
            self.customers, features=self.customers.features.reindex(columns=now.features.columns, fill_value=0.0)
        )


@dataclass(frozen=True)
class TrainingWindows:
    """Training windows one horizon ago (`last`) and two (`before`); None where history is too short."""

    last: TrainingWindow | None
    before: TrainingWindow | None

    def fit_data(self, now: CustomerData, *, days: Days | None = None, period: Period | None = None) -> FitData:
        """Return today's customers with the last horizon to learn from, and what was bought before `as_of`."""
        return _fit_data(now, self.last, days=days, before=period.as_of if period else None)

    def earlier_fit_data(self, *, days: Days | None = None, period: Period | None = None) -> FitData | None:
        """Return the data for the fit one horizon ago, which the backtest scores; None where history is too short."""
        if not self.last or not self.before:
            return None
        before = period.last_horizon_start if period else None
        return _fit_data(self.last.customers, self.before, days=days, before=before)


def build_training_windows(
    days: Days, *, period: Period, kinds: dict[str, str], max_customers: int = SAMPLE_SIZE
) -> TrainingWindows:
    """Build the training windows one and two horizons ago.

    Parameters
    ----------
    days
        Days of all customers; rows on or after `period.as_of` are not used.
    period
        Date, lookback and horizon.
    kinds
        Event kind -> who does it.
    max_customers
        Customers at each date; of more, those whose ids have the smallest hashes.
    """
    last = period.one_horizon_back()
    return TrainingWindows(
        *(
            build_training_window(days, period=each, kinds=kinds, max_customers=max_customers)
            for each in (last, last.one_horizon_back())
        )
    )


def build_fit_data(days: Days, *, period: Period, kinds: dict[str, str]) -> FitData:
    """Build the data for a fit at `period.as_of`; parameters as in `build_training_windows`."""
    window = build_training_window(days, period=period.one_horizon_back(), kinds=kinds)
    return _fit_data(customer_data(days, period=period, kinds=kinds), window, days=days, before=period.as_of)


def write_training_windows(run: Run, training: TrainingWindows) -> None:
    """Write the windows to a run as the tables training_*, with the column `moment` (last, before)."""
    moments = {name: moment for name, moment in vars(training).items() if moment is not None}
    if not moments:
        return
    parts = {
        "training_features": {name: m.customers.features for name, m in moments.items()},
        "training_outcomes": {name: m.outcomes.totals for name, m in moments.items()},
        "training_bought": {name: _weights_to_rows(m.customers) for name, m in moments.items()},
        "training_outcomes_bought": {name: _weights_to_rows(m.outcomes) for name, m in moments.items()},
        "training_items": {name: _weights_to_rows(m.customers, items=True) for name, m in moments.items()},
        "training_outcomes_items": {name: _weights_to_rows(m.outcomes, items=True) for name, m in moments.items()},
    }
    for table, by_moment in parts.items():
        found = {name: part for name, part in by_moment.items() if part is not None}
        if found:
            run.write(pd.concat(found, names=["moment"]).reset_index(), table)


def read_training_windows(run: Run) -> TrainingWindows:
    """Read the training windows of a run; both are None where its history was too short."""
    if not run.has("training_features"):
        return TrainingWindows(last=None, before=None)
    tables = {name: run.table(name) for name in TRAINING_TABLES if run.has(name)}
    return TrainingWindows(*(_read_training_window(tables, name) for name in ("last", "before")))


def build_training_window(
    days: Days, *, period: Period, kinds: dict[str, str], max_customers: int = SAMPLE_SIZE
) -> TrainingWindow | None:
    """Build the training window at the date of a period; parameters as in `build_training_windows`.

    Returns
    -------
    TrainingWindow or None
        None where history does not cover its lookback, or too few customers were active in it.
    """
    if not has_history(days, period=period):
        return None
    sample = _sample_days(days, start=period.lookback_start, end=period.as_of, max_customers=max_customers)
    customers = customer_data(sample, period=period, kinds=kinds)
    if len(customers.features) < FEWEST_CUSTOMERS:
        return None
    outcomes = customer_outcomes(
        sample, start=period.as_of, horizon_days=period.horizon_days, index=customers.features.index
    )
    return TrainingWindow(customers, outcomes)


def _sample_days(days: Days, *, start: date, end: date, max_customers: int) -> Days:
    """Return the days of a sample of the customers active in a window; all days where they are few."""
    rows = days.rows
    active = rows.filter((rows.day >= ibis.literal(start)) & (rows.until < ibis.literal(end)) & (rows.own_events > 0))
    ids = sorted(active.select("customer_id").distinct().to_pandas()["customer_id"])
    if len(ids) <= max_customers:
        return days
    sample = ibis.memtable(pd.DataFrame({"customer_id": ids})[hash_sample(ids, most=max_customers)])
    parts = {name: table.semi_join(sample, "customer_id") for name, table in vars(days).items() if table is not None}
    return Days(**{**vars(days), **parts})


def _fit_data(now: CustomerData, window: TrainingWindow | None, *, days: Days | None, before: date | None) -> FitData:
    """Combine today's customers with a training window, and with what was bought before a date."""
    purchases = None if days is None or before is None else purchases_of_days(days, before=before)
    if window is None:
        return FitData(now=now, then=None, outcomes=None, purchases=purchases)
    return FitData(now=now, then=window.customers_like(now), outcomes=window.outcomes, purchases=purchases)


def _weights_to_rows(data: CustomerData | Outcomes, *, items: bool = False) -> pd.DataFrame | None:
    """Return purchases as rows: customer_id, category (or item), weight."""
    weights, things = (data.item_weights, data.items) if items else (data.weights, data.categories)
    if weights is None:
        return None
    index = (data.features if isinstance(data, CustomerData) else data.totals).index
    entries = weights.tocoo()
    categories = pd.Categorical.from_codes(entries.col, categories=list(things))
    columns = {
        "customer_id": index.to_numpy()[entries.row],
        "item" if items else "category": categories.astype(object),
        "weight": entries.data,
    }
    return pd.DataFrame(columns).set_index("customer_id")


def _read_training_window(tables: dict[str, pd.DataFrame], name: str) -> TrainingWindow | None:
    """Read one window from the tables of a run."""
    rows = {table: part[part["moment"] == name].drop(columns="moment") for table, part in tables.items()}
    if rows["training_features"].empty:
        return None
    features = rows["training_features"].set_index("customer_id").dropna(axis=1, how="all")
    totals = rows["training_outcomes"].set_index("customer_id")
    bought, took = (
        [part for table in names for part in _rows_to_weights(rows.get(table), index=index)]
        for names, index in (
            (("training_bought", "training_items"), features.index),
            (("training_outcomes_bought", "training_outcomes_items"), totals.index),
        )
    )
    return TrainingWindow(CustomerData(features, *bought), Outcomes(totals, *took))


def _rows_to_weights(table: pd.DataFrame | None, *, index: pd.Index) -> tuple[sparse.csr_array | None, tuple[str, ...]]:
    """Return purchases as a matrix (customers x categories) and the names of its categories."""
    if table is None:
        return None, ()
    thing = "item" if "item" in table else "category"
    names = sorted(table[thing].unique())
    cells = index.get_indexer(table["customer_id"]), pd.Index(names).get_indexer(table[thing])
    return sparse.csr_array((table["weight"].to_numpy(), cells), shape=(len(index), len(names))), tuple(names)


MIN_TRAINING_CUSTOMERS = 20  # in the training window; with fewer a segment has no forecast


def segment_sizes(
    assigned: pd.DataFrame, features: pd.DataFrame, *, revenue: pd.Series, outcomes: Outcomes
) -> pd.DataFrame:
    """Compute customers, revenue and orders of each segment over the lookback.

    Parameters
    ----------
    assigned
        segment and macro_segment by customer_id.
    features
        Features of the same customers.
    revenue
        What they spent in the lookback, as from `net_spend`.
    outcomes
        What they did in the last horizon.

    Returns
    -------
    pandas.DataFrame
        segment, macro_segment, customers, customer_share, revenue, revenue_share, margin (share of the last horizon's
        amount left after cost; null without cost), orders, spend_now (mean spend per customer in the last horizon;
        null for one-time buyers, who are here because they bought);
        sorted by segment.
    """
    joined = assigned[["segment", "macro_segment"]].join(features)
    groups = joined.groupby("segment", sort=True)
    revenue = revenue.groupby(assigned["segment"]).sum(min_count=1)
    spent = outcomes.totals["spend"] if "spend" in outcomes.totals else pd.Series(np.nan, index=outcomes.totals.index)
    frequency = "orders" if "orders" in features else "active_days"
    margin: pd.Series | float = np.nan
    if "cost" in outcomes.totals:
        totals = outcomes.totals[["amount", "cost"]].groupby(assigned["segment"]).sum()
        margin = ((totals["amount"] - totals["cost"]) / totals["amount"].where(totals["amount"] > 0)).round(6)
    table = pd.DataFrame(
        {
            "macro_segment": groups["macro_segment"].first(),
            "customers": groups.size(),
            "customer_share": groups.size() / len(joined),
            "revenue": revenue.round(2),
            "revenue_share": revenue_shares(revenue).round(9),
            "margin": margin,
            "orders": groups[frequency].sum().round().astype("int64"),
            "spend_now": np.nan if are_one_time(features) else spent.groupby(assigned["segment"]).mean().round(6),
        }
    )
    return table.reset_index()
