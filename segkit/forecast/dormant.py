"""Expect in total what customers will bring who have been silent for the whole lookback."""

import ibis
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.features import Customers, customer_outcomes, day_number
from segkit.format import FLOOR
from segkit.period import Period
from segkit.stats import Z95, Estimate

MIN_RETURNED = 10  # of the silent customers of one horizon ago; with fewer, nothing is expected of today's
BAND_CUSTOMERS = 100  # of a band of silence at least
BANDS = 5  # at most
NAMES = ("active", "orders", "spend")
TOO_SHORT = "history is too short: fewer than {floor} customers were silent one horizon ago"
TOO_FEW = "fewer than {least} of the customers who were silent one horizon ago came back"


def expect_dormant(customers: Customers, *, season: dict[str, float]) -> dict[str, object]:
    """Expect how many silent customers come back in the horizon, and what they order and spend, in total.

    Customers who were as silent one horizon ago show it: means by bands of silence. The range holds chance, then and
    now, and the season of the other customers.

    Parameters
    ----------
    season
        By outcome, the standard deviation of sums of active customers beyond chance, as a share of them.

    Returns
    -------
    dict
        Metrics ``forecast.dormant.customers``, ``.reason`` (None where there is a forecast), ``.active``, ``.orders``
        and ``.spend`` with ``.low`` and ``.high``; empty where nobody is silent.
    """
    period = customers.period
    now = silent_days(customers.days, period=period)
    if now.empty:
        return {}
    found: dict[str, object] = {"forecast.dormant.customers": len(now), "forecast.dormant.reason": None}
    earlier = period.one_horizon_back()
    then = silent_days(customers.days, period=earlier)
    if len(then) < FLOOR:
        return found | {"forecast.dormant.reason": TOO_SHORT.format(floor=FLOOR)}
    outcomes = customer_outcomes(
        customers.days.without_things(), start=earlier.as_of, horizon_days=period.horizon_days, index=then.index
    ).totals.clip(lower=0)
    outcomes["active"] = (outcomes["active_days"] > 0).astype(float)
    if outcomes["active"].sum() < MIN_RETURNED:
        return found | {"forecast.dormant.reason": TOO_FEW.format(least=MIN_RETURNED)}
    edges = _edges(then)
    bands = [np.searchsorted(edges, each, side="right") for each in (then, now)]
    for name in (each for each in NAMES if each in outcomes and outcomes[each].any()):
        at = _total(outcomes[name].to_numpy(), *bands, season=season.get(name, 0.0))
        found |= at.metrics(f"forecast.dormant.{name}")
    return found


def silent_days(days: Days, *, period: Period) -> pd.Series:
    """Return the days of silence of each customer who was not active in the lookback, but before."""
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    last = rows.group_by("customer_id").aggregate(last=rows.day.max().epoch_days().cast("int64"))
    table = last.filter(last["last"] < day_number(period.lookback_start)).to_pandas()
    return day_number(period.as_of) - table.set_index("customer_id")["last"].sort_index()


def _edges(silent: pd.Series) -> np.ndarray:
    """Return the days of silence at which a further band begins, each of enough customers."""
    parts = min(BANDS, max(len(silent) // BAND_CUSTOMERS, 1))
    return np.unique(np.quantile(silent, np.arange(1, parts) / parts)) if parts > 1 else np.array([])


def _total(values: np.ndarray, then: np.ndarray, now: np.ndarray, *, season: float) -> Estimate:
    """Sum the means of the bands over today's customers, with a range; it is log-normal, as sums are not below zero."""
    expected, variance = 0.0, 0.0
    for band in np.unique(now):
        seen, customers = values[then == band], int((now == band).sum())
        seen = seen if len(seen) else values
        expected += customers * seen.mean()
        variance += customers * seen.var() + customers**2 * seen.var() / len(seen)
    share = np.hypot(np.sqrt(variance) / expected, season) if expected > 0 else 0.0
    factor = float(np.exp(Z95 * np.sqrt(np.log1p(share**2))))
    return Estimate(float(expected), float(expected / factor), float(expected * factor))
