"""Features: formulas over a customer's days in the lookback before `as_of`; nothing at or after it counts."""

from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.days import PURCHASE, RETURN, Days
from segkit.vocabulary import FEATURES, Feature, kind_feature

RECENT_PART = 3  # "lately" is the last third of the lookback
WEEKEND_FROM = 5  # Saturday, where Monday is 0
ADDED_UP = "decimal(38, 4)"


@dataclass(frozen=True)
class Window:
    """Half-open span of local days: the lookback ends the day before `as_of`."""

    as_of: date
    lookback_days: int

    @property
    def start(self) -> date:
        return self.as_of - timedelta(days=self.lookback_days)

    @property
    def recent_days(self) -> int:
        return max(1, self.lookback_days // RECENT_PART)

    @property
    def recent_start(self) -> date:
        return self.as_of - timedelta(days=self.recent_days)


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


class NumpyMath:
    """The functions that formulas may use, on numpy columns."""

    log1p = staticmethod(np.log1p)
    sqrt = staticmethod(np.sqrt)
    where = staticmethod(np.where)


def customer_signals(days: Days, *, as_of: date, lookback_days: int, kinds: dict[str, str]) -> Signals:
    """Features, and amounts by category, of everyone with an event of their own in the lookback; see
    `customer_features`.
    """
    features = customer_features(days, as_of=as_of, lookback_days=lookback_days, kinds=kinds)
    if days.categories is None:
        return Signals(features=features, weights=None, categories=())
    weights, names = category_weights(days, as_of=as_of, lookback_days=lookback_days, index=features.index)
    return Signals(features=features, weights=weights, categories=tuple(names))


def customer_features(days: Days, *, as_of: date, lookback_days: int, kinds: dict[str, str]) -> pd.DataFrame:
    """Describe everyone with an event of their own in the lookback.

    Takes  days: the state of all customers, any span
    Gives  one row per customer, sorted and indexed by customer_id; numeric columns named and explained in `vocabulary`;
           what an absent column of the source would carry is absent, not zero

    Parameters
    ----------
    as_of : exclusive end of the lookback, a local date
    lookback_days : a longer lookback sees rarer habits and reacts later
    kinds : each kind of event -> 'customer' or 'company'
    """
    window = Window(as_of=as_of, lookback_days=lookback_days)
    sums = customer_sums(days, window=window)
    columns = {
        feature.name: np.asarray(feature.formula(sums, NumpyMath), dtype=float)
        for feature in available(sums.columns, kinds=kinds)
    }
    return pd.DataFrame(columns, index=sums.index).round(9)


def available(columns: pd.Index, *, kinds: dict[str, str]) -> list[Feature]:
    """The features whose sums are there, in the order of the vocabulary; further kinds of event at the end."""
    further = [kind for kind in sorted(kinds) if kind not in (PURCHASE, RETURN)]
    asked = [*FEATURES, *(kind_feature(kind, by_customer=kinds[kind] == "customer") for kind in further)]
    return [feature for feature in asked if set(feature.needs) <= set(columns)]


def customer_sums(days: Days, *, window: Window) -> pd.DataFrame:
    """Sums over the lookback for everyone active in it: what the formulas are written on."""
    rows = days.rows.filter(days.rows.day < ibis.literal(window.as_of))
    table = _sums(rows.filter(rows.day >= ibis.literal(window.start)), window=window)
    parts = [_first_ever(rows), _gaps(rows, window=window)]
    if days.categories is not None:
        parts.append(_breadth(days.categories, window=window))
    for part in parts:
        table = table.left_join(part, "customer_id").drop("customer_id_right")
    sums = _as_numbers(_as_floats(table).to_pandas())
    if "amount" in sums:
        sums["spend"] = sums["amount"] + sums["other_amount"] - sums["return_amount"]
    if not (sums.get("n_purchase", pd.Series(dtype=float)) > 0).any():
        sums = sums.drop(columns=["orders", "recent_orders", "lines"], errors="ignore")
    return sums.assign(
        as_of_day=_number(window.as_of), lookback_days=window.lookback_days, recent_days=window.recent_days
    )


def category_weights(
    days: Days, *, as_of: date, lookback_days: int, index: pd.Index
) -> tuple[sparse.csr_array, list[str]]:
    """What each customer bought by category in the lookback.

    Takes  days with categories; index: the customers wanted, in order
    Gives  matrix (customers x categories) of net amounts, or of lines where there is no money; the category names,
           sorted
    """
    window = Window(as_of=as_of, lookback_days=lookback_days)
    table = _as_floats(_category_totals(days.categories, window=window)).to_pandas()
    table = table[table["customer_id"].isin(index)]
    names = sorted(table["category"].unique())
    row = index.get_indexer(table["customer_id"])
    column = pd.Index(names).get_indexer(table["category"])
    values = table["weight"].to_numpy()
    return sparse.csr_array((values, (row, column)), shape=(len(index), len(names))), names


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
        totals = _category_totals(days.categories, window=ever)
        totals = totals.filter(totals.customer_id.isin(silent["customer_id"].tolist())).to_pandas()
        totals = totals.sort_values(["customer_id", "weight", "category"], ascending=[True, False, True])
        most = totals.drop_duplicates("customer_id").set_index("customer_id")["category"]
        silent["bought_most"] = silent["customer_id"].map(most)
    return silent


def _sums(rows: ir.Table, *, window: Window) -> ir.Table:
    own = rows.own_events > 0
    recent = rows.day >= ibis.literal(window.recent_start)
    kept = [name for name in rows.columns if name not in ("customer_id", "day")]
    weekend = rows.day.day_of_week.index() >= WEEKEND_FROM
    sums = {name: rows[name].sum().cast(ADDED_UP) for name in kept}
    sums |= {
        "active_days": own.ifelse(1, 0).sum(),
        "first_day": rows.day.min(where=own).epoch_days(),
        "last_day": rows.day.max(where=own).epoch_days(),
        "recent_active_days": (own & recent).ifelse(1, 0).sum(),
        "recent_orders": rows.orders.sum(where=recent).fill_null(0),
        "weekend_occasions": rows.occasions.sum(where=weekend).fill_null(0),
    }
    if "amount" in rows.columns:
        sums["recent_amount"] = rows.amount.sum(where=recent).fill_null(0).cast(ADDED_UP)
    table = rows.group_by("customer_id").aggregate(**sums)
    return table.filter(table.active_days > 0)


def _first_ever(rows: ir.Table) -> ir.Table:
    return rows.filter(rows.own_events > 0).group_by("customer_id").aggregate(first_ever=rows.day.min().epoch_days())


def _gaps(rows: ir.Table, *, window: Window) -> ir.Table:
    """Squares and the longest of the gaps between active days."""
    own = rows.filter((rows.own_events > 0) & (rows.day >= ibis.literal(window.start)))
    number = own.select("customer_id", number=own.day.epoch_days().cast("int64"))
    before = number.number.lag().over(group_by=number.customer_id, order_by=number.number)
    gaps = number.mutate(gap=number.number - before)
    return gaps.group_by("customer_id").aggregate(
        gap_squared=(gaps.gap * gaps.gap).sum().fill_null(0), longest_gap=gaps.gap.max().fill_null(0)
    )


def _category_totals(categories: ir.Table, *, window: Window) -> ir.Table:
    inside = categories.filter(
        (categories.day >= ibis.literal(window.start)) & (categories.day < ibis.literal(window.as_of))
    )
    weight = inside.amount if "amount" in inside.columns else inside.lines
    totals = inside.group_by("customer_id", "category").aggregate(weight=weight.sum().cast(ADDED_UP))
    return totals.filter(totals.weight > 0)


def _as_floats(table: ir.Table) -> ir.Table:
    """Exact sums become floats in the engine: a column of decimals costs pandas a Python object for each value."""
    exact = {name: table[name].cast("float64") for name, kind in table.schema().items() if kind.is_numeric()}
    return table.mutate(**exact)


def _breadth(categories: ir.Table, *, window: Window) -> ir.Table:
    """Number of categories, entropy of the mix (nats) and the share of the main one; each term rounded to a decimal."""
    totals = _category_totals(categories, window=window)
    whole = totals.weight.sum().over(group_by=totals.customer_id)
    shares = totals.mutate(share=totals.weight.cast("float64") / whole.cast("float64"))
    term = (-shares.share * shares.share.ln()).cast("decimal(38, 12)")
    return shares.group_by("customer_id").aggregate(
        categories=shares.count(), category_entropy=term.sum(), top_category_share=shares.share.max()
    )


def _as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Decimals become floats once, after they were added up exactly; a customer without categories has none."""
    table = table.set_index("customer_id").sort_index()
    return table.astype(float).fillna(0.0)


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days
