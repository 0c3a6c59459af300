"""Features: formulas over a customer's days in the lookback before `as_of`; nothing at or after it counts."""

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.days import Days, load_days
from segkit.customers.maths import IbisMath, NumpyMath
from segkit.customers.sums import category_totals, customer_sums
from segkit.data.store import Run
from segkit.period import Period
from segkit.vocabulary import FEATURES, Feature, channel_feature, kind_features

MOST_CHANNELS = 12  # with a share of their own; the most used first
DECIMALS = 9  # features are rounded before they are compared, clustered or stored


@dataclass(frozen=True)
class Signals:
    """All that is known of customers at one date: their features, and what they bought (customers x categories,
    or None).
    """

    features: pd.DataFrame
    weights: sparse.csr_array | None
    categories: tuple[str, ...]

    def select(self, keep: np.ndarray) -> "Signals":
        """The same for some customers: a boolean mask or row numbers."""
        weights = None if self.weights is None else self.weights[keep]
        return Signals(features=self.features.iloc[keep], weights=weights, categories=self.categories)


@dataclass(frozen=True)
class Customers:
    """The customers of a source at the date of a period, and what everything else is made from.

    Parameters
    ----------
    days
        The state of all customers, which may reach beyond ``period.as_of``; what lies beyond it is not looked at.
    period
        The day they are described at, the lookback before it and the horizon after it.
    kinds
        Each kind of event -> 'customer' or 'company' (who does it).
    signals
        Features and amounts by category of everyone active in the lookback, one row per customer.
    """

    days: Days
    period: Period
    kinds: dict[str, str]
    signals: Signals

    @property
    def index(self) -> pd.Index:
        """The ids of the customers who were active in the lookback, sorted."""
        return self.signals.features.index


def customers_at(days: Days, *, period: Period, kinds: dict[str, str]) -> Customers:
    """Describe the customers at the date of a period."""
    return Customers(days, period=period, kinds=kinds, signals=customer_signals(days, period=period, kinds=kinds))


def load_customers(run: Run, *, kinds: dict[str, str]) -> Customers:
    """The customers of a run, at its date, from the days that it holds."""
    return customers_at(load_days(run), period=run.period, kinds=kinds)


def customer_signals(days: Days, *, period: Period, kinds: dict[str, str]) -> Signals:
    """Features, and amounts by category, of everyone active in the lookback; see `customer_features`."""
    features = customer_features(days, period=period, kinds=kinds)
    if days.categories is None:
        return Signals(features=features, weights=None, categories=())
    weights, names = category_weights(days, start=period.lookback_start, end=period.as_of, index=features.index)
    return Signals(features=features, weights=weights, categories=tuple(names))


def customer_features(
    days: Days, *, period: Period, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Describe everyone with an event of their own in the lookback.

    Takes  days: the state of all customers, any span
    Gives  one row per customer, sorted and indexed by customer_id; numeric columns named and explained in `vocabulary`;
           what an absent column of the source would carry is absent, not zero

    Parameters
    ----------
    period : whose lookback features see
    kinds : each kind of event -> 'customer' or 'company'
    channels : those with a share of their own; by default the most used before `as_of`
    """
    channels = _most_used(days, as_of=period.as_of) if channels is None else channels
    aggregates = customer_sums(days, period=period, channels=channels).to_pandas().set_index("customer_id").sort_index()
    asked = available(aggregates.columns, kinds=kinds, channels=channels)
    columns = {feature.name: np.asarray(feature.formula(aggregates, NumpyMath), dtype=float) for feature in asked}
    return pd.DataFrame(columns, index=aggregates.index).round(DECIMALS) + 0.0


def features_expression(
    days: Days, *, period: Period, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> ir.Table:
    """The same features as one Ibis expression, to be computed and kept where the days are (a warehouse, a cluster).

    Takes  as `customer_features`
    Gives  customer_id and the features (float64, not rounded), unsorted
    """
    channels = _most_used(days, as_of=period.as_of) if channels is None else channels
    aggregates = customer_sums(days, period=period, channels=channels)
    asked = available(aggregates.columns, kinds=kinds, channels=channels)
    return aggregates.select("customer_id", **{f.name: f.formula(aggregates, IbisMath).cast("float64") for f in asked})


def available(
    columns: pd.Index | tuple[str, ...], *, kinds: dict[str, str], channels: tuple[str, ...]
) -> list[Feature]:
    """The features whose sums are there, in the order of the vocabulary; those named from the data at the end."""
    asked = [*FEATURES, *(channel_feature(name) for name in channels), *kind_features(kinds)]
    return [feature for feature in asked if set(feature.requires) <= set(columns)]


def category_weights(days: Days, *, start: date, end: date, index: pd.Index) -> tuple[sparse.csr_array, list[str]]:
    """What each customer bought by category from `start` to the day before `end`.

    Takes  days with categories; index: the customers wanted, in order
    Gives  matrix (customers x categories) of net amounts, or of lines without money; the sorted category names
    """
    totals = category_totals(days.categories, start=start, end=end)
    table = totals.mutate(weight=totals.weight.cast("float64")).to_pandas()
    row = index.get_indexer(table["customer_id"])
    table, row = table[row >= 0], row[row >= 0]
    names = sorted(table["category"].unique())
    column = pd.Index(names).get_indexer(table["category"])
    return sparse.csr_array((table["weight"].to_numpy(), (row, column)), shape=(len(index), len(names))), names


def dormant_customers(days: Days, *, period: Period) -> pd.DataFrame:
    """Those known before, and silent for the whole lookback.

    Gives  customer_id, last_day, silent_days, bought_most (the category they spent most on, where known), sorted
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    last = rows.group_by("customer_id").aggregate(last_day=rows.day.max()).to_pandas()
    last["last_day"] = pd.to_datetime(last["last_day"])
    last["silent_days"] = (pd.Timestamp(period.as_of) - last["last_day"]).dt.days
    silent = last[last["silent_days"] > period.lookback_days].sort_values("customer_id", ignore_index=True)
    silent["bought_most"] = pd.Series([None] * len(silent), dtype=object)
    if days.categories is not None and len(silent):
        theirs = days.categories.semi_join(ibis.memtable(silent[["customer_id"]]), "customer_id")
        totals = category_totals(theirs, start=date(1970, 1, 1), end=period.as_of)
        order = [ibis.desc(totals.weight), totals.category]
        ranked = totals.mutate(place=ibis.row_number().over(group_by=totals.customer_id, order_by=order))
        most = ranked.filter(ranked.place == 0).select("customer_id", "category").to_pandas()
        silent["bought_most"] = silent["customer_id"].map(most.set_index("customer_id")["category"])
    return silent


def _most_used(days: Days, *, as_of: date) -> tuple[str, ...]:
    """The channels used most before `as_of`, sorted."""
    if days.channels is None:
        return ()
    before = days.channels.filter(days.channels.day < ibis.literal(as_of))
    used = before.group_by("channel").aggregate(uses=before.own_events.cast("int64").sum().cast("float64")).to_pandas()
    most = used.sort_values(["uses", "channel"], ascending=[False, True])["channel"].head(MOST_CHANNELS)
    return tuple(sorted(most))
