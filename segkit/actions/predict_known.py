"""What is known of customers at a date, for foretelling: their signals, their last horizon, and their whole history."""

from dataclasses import dataclass, replace
from datetime import date

import ibis
import numpy as np
import pandas as pd

from segkit.actions.predict_bgnbd import (
    BgNbd,
    active_chance,
    expected_orders,
    expected_value,
    fit_bgnbd,
    fit_gamma_gamma,
)
from segkit.customers.days import Days
from segkit.customers.features import Customers, Signals
from segkit.customers.outcomes import Outcomes
from segkit.errors import InputError
from segkit.segments.fit import last_horizon
from segkit.segments.past import Past, past_of

YEAR = 365  # days
AMOUNTS = ("orders", "spend")  # that can be foretold beside activity
ORIGINS = 3  # of the back-test at most, a horizon apart


@dataclass(frozen=True)
class Known:
    """Customers at a date: signals; `last`: their totals in the last horizon; `classic`: what BG/NBD and Gamma-Gamma
    expect of them (chance, orders, spend, and how many horizons of the next are in a year); all in one order.
    """

    signals: Signals
    last: pd.DataFrame
    bgnbd: pd.DataFrame
    rate: float  # the horizon as a part of the lookback

    @property
    def index(self) -> pd.Index:
        return self.signals.features.index


@dataclass(frozen=True)
class Lesson:
    """What can be learnt as of a date: customers one horizon before it, and what came of them until then."""

    snapshot: Known
    outcomes: Outcomes

    @property
    def amounts(self) -> list[str]:
        """Of orders and spend those that the source carries and that anybody had."""
        features = self.snapshot.signals.features
        return [name for name in AMOUNTS if name in features and self.values(name).any()]

    def values(self, name: str) -> np.ndarray:
        """An outcome of each customer; net spend counts from zero up."""
        if name not in self.outcomes.totals:
            return np.zeros(len(self.outcomes.totals))
        return np.maximum(self.outcomes.totals[name].to_numpy(dtype=float), 0.0)


def known_of(customers: Customers) -> Known:
    """What is known of customers at the date of their period; days on or after it are not looked at.

    Gives  Known, in the order of the customers
    """
    period, index = customers.period, customers.index
    classic = _classic(customers.days, as_of=period.as_of, horizon_days=period.horizon_days, index=index)
    rate = period.horizon_days / period.lookback_days
    return Known(signals=customers.signals, last=last_horizon(customers).totals, bgnbd=classic, rate=rate)


def lessons_of(customers: Customers, training_signals: Past, *, origins: int = ORIGINS) -> list[Lesson]:
    """One lesson for each horizon back that history holds: today learns from the first, back-tests from the others.

    Takes  customers: of today, whose features all are given; past: one and two horizons ago
    Gives  lessons, the latest first: customers a horizon ago and what came of them since, two horizons ago, and so on;
           none where history is too short

    Parameters
    ----------
    origins : back-tests wanted; each needs a lesson of its own, and a horizon more of history
    """
    moments, period = [training_signals.last, training_signals.before], customers.period
    if origins > 1 and training_signals.before is not None:
        further = past_of(customers.days, period=period.one_horizon_back().one_horizon_back(), kinds=customers.kinds)
        moments += [further.last, further.before]
    found = []
    for moment in moments[: origins + 1]:
        if moment is None:
            break
        period = period.one_horizon_back()
        then = replace(customers, period=period, signals=moment.customers_like(customers.signals))
        found.append(Lesson(snapshot=known_of(then), outcomes=moment.outcomes))
    return found


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
    available = table.columns[table.notna().any()]
    table[available] = table[available].fillna(0.0)  # who never bought is not expected to
    return table.reindex(index).round(9)


def _a_year(model: BgNbd, seen: tuple[np.ndarray, ...], *, horizon_days: int) -> np.ndarray:
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
    aggregates = {
        "orders": rows.orders.sum().cast("float64"),
        "active_days": day.nunique(where=own).cast("float64"),
        "first_active": day.min(where=own),
        "last_active": day.max(where=own),
        "first_order": day.min(where=bought),
        "last_order": day.max(where=bought),
    }
    if "amount" in rows.columns:
        aggregates["amount"] = rows.amount.sum().cast("float64")
    table = rows.group_by("customer_id").aggregate(**aggregates).to_pandas().set_index("customer_id").sort_index()
    table["until"] = (as_of - date(1970, 1, 1)).days
    if "amount" not in table:
        table["amount"] = 0.0
    return table[table["active_days"] > 0]
