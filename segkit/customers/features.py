"""Features: formulas over a customer's days in the lookback before `as_of`; nothing at or after it counts."""

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.days import Days
from segkit.customers.maths import IbisMath, NumpyMath
from segkit.customers.sums import Window, category_totals, customer_sums
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

    def rows(self, keep: np.ndarray) -> "Signals":
        """The same for some customers: a boolean mask or row numbers."""
        weights = None if self.weights is None else self.weights[keep]
        return Signals(features=self.features.iloc[keep], weights=weights, categories=self.categories)


def customer_signals(days: Days, *, as_of: date, lookback_days: int, kinds: dict[str, str]) -> Signals:
    """Features, and amounts by category, of everyone active in the lookback; see `customer_features`."""
    features = customer_features(days, as_of=as_of, lookback_days=lookback_days, kinds=kinds)
    if days.categories is None:
        return Signals(features=features, weights=None, categories=())
    weights, names = category_weights(days, as_of=as_of, lookback_days=lookback_days, index=features.index)
    return Signals(features=features, weights=weights, categories=tuple(names))


def customer_features(
    days: Days, *, as_of: date, lookback_days: int, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Describe everyone with an event of their own in the lookback.

    Takes  days: the state of all customers, any span
    Gives  one row per customer, sorted and indexed by customer_id; numeric columns named and explained in `vocabulary`;
           what an absent column of the source would carry is absent, not zero

    Parameters
    ----------
    as_of : exclusive end of the lookback, a local date
    lookback_days : a longer lookback sees rarer habits and reacts later
    kinds : each kind of event -> 'customer' or 'company'
    channels : those with a share of their own; by default the most used before `as_of`
    """
    window, channels = _window(days, as_of=as_of, lookback_days=lookback_days, channels=channels)
    sums = customer_sums(days, window=window, channels=channels).to_pandas().set_index("customer_id").sort_index()
    asked = available(sums.columns, kinds=kinds, channels=channels)
    columns = {feature.name: np.asarray(feature.formula(sums, NumpyMath), dtype=float) for feature in asked}
    return pd.DataFrame(columns, index=sums.index).round(DECIMALS) + 0.0


def features_expression(
    days: Days, *, as_of: date, lookback_days: int, kinds: dict[str, str], channels: tuple[str, ...] | None = None
) -> ir.Table:
    """The same features as one Ibis expression, to be computed and kept where the days are (a warehouse, a cluster).

    Takes  as `customer_features`
    Gives  customer_id and the features (float64, not rounded), unsorted
    """
    window, channels = _window(days, as_of=as_of, lookback_days=lookback_days, channels=channels)
    sums = customer_sums(days, window=window, channels=channels)
    asked = available(sums.columns, kinds=kinds, channels=channels)
    return sums.select("customer_id", **{f.name: f.formula(sums, IbisMath).cast("float64") for f in asked})


def available(
    columns: pd.Index | tuple[str, ...], *, kinds: dict[str, str], channels: tuple[str, ...]
) -> list[Feature]:
    """The features whose sums are there, in the order of the vocabulary; those named from the data at the end."""
    asked = [*FEATURES, *(channel_feature(name) for name in channels), *kind_features(kinds)]
    return [feature for feature in asked if set(feature.needs) <= set(columns)]


def category_weights(
    days: Days, *, as_of: date, lookback_days: int, index: pd.Index
) -> tuple[sparse.csr_array, list[str]]:
    """What each customer bought by category in the lookback.

    Takes  days with categories; index: the customers wanted, in order
    Gives  matrix (customers x categories) of net amounts, or of lines without money; the sorted category names
    """
    totals = category_totals(days.categories, window=Window(as_of=as_of, lookback_days=lookback_days))
    table = totals.mutate(weight=totals.weight.cast("float64")).to_pandas()
    row = index.get_indexer(table["customer_id"])
    table, row = table[row >= 0], row[row >= 0]
    names = sorted(table["category"].unique())
    column = pd.Index(names).get_indexer(table["category"])
    return sparse.csr_array((table["weight"].to_numpy(), (row, column)), shape=(len(index), len(names))), names


def dormant_customers(days: Days, *, as_of: date, lookback_days: int) -> pd.DataFrame:
    """Those known before, and silent for the whole lookback.

    Gives  customer_id, last_day, silent_days, bought_most (the category they spent most on, where known), sorted
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.own_events > 0))
    last = rows.group_by("customer_id").aggregate(last_day=rows.day.max()).to_pandas()
    last["last_day"] = pd.to_datetime(last["last_day"])
    last["silent_days"] = (pd.Timestamp(as_of) - last["last_day"]).dt.days
    silent = last[last["silent_days"] > lookback_days].sort_values("customer_id", ignore_index=True)
    silent["bought_most"] = pd.Series([None] * len(silent), dtype=object)
    if days.categories is not None and len(silent):
        ever = Window(as_of=as_of, lookback_days=(as_of - date(1970, 1, 1)).days)
        theirs = days.categories.semi_join(ibis.memtable(silent[["customer_id"]]), "customer_id")
        totals = category_totals(theirs, window=ever)
        order = [ibis.desc(totals.weight), totals.category]
        ranked = totals.mutate(place=ibis.row_number().over(group_by=totals.customer_id, order_by=order))
        most = ranked.filter(ranked.place == 0).select("customer_id", "category").to_pandas()
        silent["bought_most"] = silent["customer_id"].map(most.set_index("customer_id")["category"])
    return silent


def _window(
    days: Days, *, as_of: date, lookback_days: int, channels: tuple[str, ...] | None
) -> tuple[Window, tuple[str, ...]]:
    """The window, and the channels to count by: those given, or the most used before `as_of`."""
    window = Window(as_of=as_of, lookback_days=lookback_days)
    if channels is not None or days.channels is None:
        return window, channels or ()
    before = days.channels.filter(days.channels.day < ibis.literal(as_of))
    used = before.group_by("channel").aggregate(uses=before.own_events.cast("int64").sum().cast("float64")).to_pandas()
    most = used.sort_values(["uses", "channel"], ascending=[False, True])["channel"].head(MOST_CHANNELS)
    return window, tuple(sorted(most))
