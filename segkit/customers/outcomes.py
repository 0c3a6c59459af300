"""Outcomes: what customers did in a horizon; the only place that looks past the end of a lookback."""

from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.days import Days
from segkit.customers.features import category_weights


@dataclass(frozen=True)
class Outcomes:
    """What each customer did: `totals` by customer (spend net of returns, orders, active_days), `weights` by
    category.
    """

    totals: pd.DataFrame
    weights: sparse.csr_array | None
    categories: tuple[str, ...]

    def select(self, keep: np.ndarray) -> "Outcomes":
        """The same for some customers: a boolean mask or row numbers."""
        weights = None if self.weights is None else self.weights[keep]
        return Outcomes(totals=self.totals.iloc[keep], weights=weights, categories=self.categories)

    @property
    def active(self) -> np.ndarray:
        return (self.totals["active_days"] > 0).to_numpy()

    @property
    def value(self) -> np.ndarray:
        """log(1 + spend); log(1 + active days) where the source carries no money."""
        column = "spend" if "spend" in self.totals else "active_days"
        return np.log1p(self.totals[column].clip(lower=0).to_numpy())


def customer_outcomes(days: Days, *, start: date, horizon_days: int, index: pd.Index) -> Outcomes:
    """Add up what the given customers did from `start` on, for `horizon_days` local days.

    Takes  days: the state, reaching to the end of the horizon; index: customers, in the order wanted
    Gives  Outcomes in that order; a customer with nothing in the horizon has zeros
    """
    end = start + timedelta(days=horizon_days)
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows.day < ibis.literal(end)))
    rows = rows.filter(rows.until < ibis.literal(end))
    aggregates = {"orders": rows.orders.sum(), "active_days": (rows.own_events > 0).ifelse(1, 0).sum()}
    if "amount" in rows.columns:
        aggregates["spend"] = rows.amount.sum() + rows.other_amount.sum() - rows.return_amount.sum()
    if "cost" in rows.columns and "amount" in rows.columns:
        aggregates |= {"amount": rows.amount.sum(), "cost": rows.cost.sum()}
    aggregates = {name: total.cast("float64") for name, total in aggregates.items()}  # decimals of Python are slow
    totals = rows.group_by("customer_id").aggregate(**aggregates).to_pandas().set_index("customer_id")
    totals = totals.reindex(index).astype(float).fillna(0.0)
    if days.categories is None:
        return Outcomes(totals=totals, weights=None, categories=())
    weights, names = category_weights(days, start=start, end=end, index=index)
    return Outcomes(totals=totals, weights=weights, categories=tuple(names))
