"""What is known of customers at a date, for foretelling: their signals, their last horizon, and their whole history."""

from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd

from segkit.actions.predict_bgnbd import (
    active_chance,
    expected_orders,
    expected_value,
    fit_bgnbd,
    fit_gamma_gamma,
)
from segkit.customers.days import Days
from segkit.customers.features import Signals, customer_signals
from segkit.customers.outcomes import Outcomes, customer_outcomes
from segkit.errors import InputError
from segkit.segments.fit import reaches_back

YEAR = 365  # days
MOST_LEARNT = 20_000  # customers that models are learnt on; more cost time and teach little
AMOUNTS = ("orders", "spend")  # that can be foretold beside activity


@dataclass(frozen=True)
class Past:
    """Customers at a date: signals; `last`: their totals in the last horizon; `classic`: what BG/NBD and Gamma-Gamma
    expect of them (chance, orders, spend, and how many horizons of the next are in a year); all in one order.
    """

    signals: Signals
    last: pd.DataFrame
    classic: pd.DataFrame
    rate: float  # the horizon as a part of the lookback

    @property
    def index(self) -> pd.Index:
        return self.signals.features.index

    def rows(self, keep: np.ndarray) -> "Past":
        """The same for some customers: a boolean mask or row numbers."""
        return Past(self.signals.rows(keep), self.last.iloc[keep], self.classic.iloc[keep], self.rate)


@dataclass(frozen=True)
class Lesson:
    """What can be learnt as of a date: customers one horizon before it, and what came of them until then."""

    then: Past
    came: Outcomes

    @property
    def amounts(self) -> list[str]:
        """Of orders and spend those that the source carries and that anybody had."""
        features = self.then.signals.features
        return [name for name in AMOUNTS if name in features and self.came.totals.get(name, pd.Series([0.0])).any()]

    def values(self, name: str) -> np.ndarray:
        """An outcome of each customer; net spend counts from zero up."""
        return np.maximum(self.came.totals[name].to_numpy(dtype=float), 0.0)

    def part(self, *, most: int = MOST_LEARNT, seed: int = 7) -> "Lesson":
        """The lesson of at most so many customers, drawn at random."""
        if len(self.then.index) <= most:
            return self
        kept = np.sort(np.random.default_rng(seed).permutation(len(self.then.index))[:most])
        return Lesson(self.then.rows(kept), self.came.rows(kept))


def past_at(
    days: Days,
    *,
    as_of: date,
    lookback_days: int,
    horizon_days: int,
    kinds: dict[str, str],
    columns: pd.Index | None = None,
) -> Past:
    """What is known of everyone active in the lookback.

    Takes  days: the state; rows at or after `as_of` are not looked at
    Gives  Past

    Parameters
    ----------
    columns : features in this order, zeros where there are none (a channel that nobody used yet); all by default
    """
    signals = customer_signals(days, as_of=as_of, lookback_days=lookback_days, kinds=kinds)
    if columns is not None:
        told = signals.features.reindex(columns=columns, fill_value=0.0)
        signals = Signals(features=told, weights=signals.weights, categories=signals.categories)
    index, start = signals.features.index, as_of - timedelta(days=horizon_days)
    last = customer_outcomes(days, start=start, horizon_days=horizon_days, index=index).totals
    classic = _classic(days, as_of=as_of, horizon_days=horizon_days, index=index)
    return Past(signals=signals, last=last, classic=classic, rate=horizon_days / lookback_days)


def came_of(past: Past, days: Days, *, start: date, horizon_days: int) -> Outcomes:
    """What customers of a date did in the horizon that followed."""
    return customer_outcomes(days, start=start, horizon_days=horizon_days, index=past.index)


def learnable(days: Days, *, as_of: date, lookback_days: int, horizon_days: int) -> str:
    """Why nothing can be learnt as of a date, or "" where it can: a lookback and a horizon of history are needed."""
    start = as_of - timedelta(days=lookback_days + horizon_days)
    if reaches_back(days, start=start, span_days=lookback_days):
        return ""
    held = (as_of - pd.Timestamp(days.rows.day.min().to_pandas()).date()).days
    return (
        f"learning needs {lookback_days + horizon_days} days of history (lookback and horizon); there are {held}. "
        "Give a shorter horizon or lookback"
    )


def _classic(days: Days, *, as_of: date, horizon_days: int, index: pd.Index) -> pd.DataFrame:
    """BG/NBD on days with any activity for the chance, on orders for their number, Gamma-Gamma for their worth. Where
    it cannot be fitted, nothing is expected: not-a-number.
    """
    history = _history(days, as_of=as_of)
    names = ("chance", "orders", "spend", "horizons_a_year")
    table = pd.DataFrame(np.nan, index=history.index, columns=list(names))
    ahead = {"horizon_days": horizon_days}
    try:
        seen = _counted(history, count="active_days")
        visits = fit_bgnbd(*seen)
        table["chance"] = active_chance(visits, *seen, **ahead)
        table["horizons_a_year"] = _a_year(visits, seen, horizon_days=horizon_days)
        bought = history[history["orders"] > 0]
        seen = _counted(bought, count="orders")
        buying = fit_bgnbd(*seen)
        table.loc[bought.index, "orders"] = expected_orders(buying, *seen, **ahead)
        table.loc[bought.index, "horizons_a_year"] = _a_year(buying, seen, horizon_days=horizon_days)
        orders, value = bought["orders"].to_numpy(float), (bought["amount"] / bought["orders"]).to_numpy(float)
        worth = expected_value(fit_gamma_gamma(orders, value), orders, value)
        table.loc[bought.index, "spend"] = table.loc[bought.index, "orders"] * worth
    except InputError:
        pass  # too few customers, or no purchases: what was fitted before stays
    known = table.columns[table.notna().any()]
    table[known] = table[known].fillna(0.0)  # who never bought is not expected to
    return table.reindex(index).round(9)


def _a_year(model: object, seen: tuple[np.ndarray, ...], *, horizon_days: int) -> np.ndarray:
    """Purchases of a year over those of the horizon: less than its number of horizons, as some drop out."""
    near, far = (expected_orders(model, *seen, horizon_days=d) for d in (horizon_days, YEAR))
    return np.divide(far, near, out=np.ones_like(far), where=near > 0)


def _counted(history: pd.DataFrame, *, count: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeats, days to the last, and age, as BG/NBD reads them."""
    kind = "order" if count == "orders" else "active"
    first, last = history[f"first_{kind}"], history[f"last_{kind}"]
    counted = history[count].to_numpy(float) - 1, last - first, history["until"] - first
    return tuple(np.asarray(values, dtype=float) for values in counted)


def _history(days: Days, *, as_of: date) -> pd.DataFrame:
    """By customer since the first event: orders, active days, the first and last day of either, amount bought."""
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    own, bought, day = rows.own_events > 0, rows.orders > 0, rows.day.epoch_days().cast("int64")
    sums = {
        "orders": rows.orders.sum().cast("float64"),
        "active_days": day.nunique(where=own).cast("float64"),
        "first_active": day.min(where=own),
        "last_active": day.max(where=own),
        "first_order": day.min(where=bought),
        "last_order": day.max(where=bought),
    }
    if "amount" in rows.columns:
        sums["amount"] = rows.amount.sum().cast("float64")
    table = rows.group_by("customer_id").aggregate(**sums).to_pandas().set_index("customer_id").sort_index()
    table["until"] = (as_of - date(1970, 1, 1)).days
    if "amount" not in table:
        table["amount"] = 0.0
    return table[table["active_days"] > 0]
