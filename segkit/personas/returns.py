"""Estimate what it is worth when customers who may stay away buy again: new, bought once, overdue, or gone quiet."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from segkit.personas.uptake import LARGEST_OUTCOME, MIN_EACH, fit_chances
from segkit.stats import Z95, usable_covariates

ONBOARD, SECOND_PURCHASE, PROTECT, WIN_BACK = "onboard", "second_purchase", "protect", "win_back"
MOSTLY = 0.5  # of a segment's customers who bought once, from which on a second purchase is its matter
TOP_WORTH = 1.5  # times what the average customer brings, from which on a level of value is worth protecting


@dataclass(frozen=True)
class Return:
    """Hold what a return is worth: the share who buy again by themselves, and what they then bring."""

    customers: int
    share: float
    value: float
    low: float
    high: float


def value_of_return(features: pd.DataFrame, outcome: np.ndarray, *, state: np.ndarray) -> Return | None:
    """Estimate what customers in a state bring within a horizon if they buy, as those who did not would have.

    Customers who bought are weighted to resemble those who did not (inverse odds), so that the best of them do not
    speak for all.

    Parameters
    ----------
    features
        Of all customers at a date.
    outcome
        What each did in the horizon after it.
    state
        Who is in the state.

    Returns
    -------
    Return or None
        With a 95 % interval; None where too few bought, or too few did not.
    """
    values, own = outcome[state], features[state]
    bought = values > 0
    if min(bought.sum(), (~bought).sum()) < MIN_EACH:
        return None
    names = [n for n in ("spend", "orders", "recency_days", "gap_days") if n in own]
    columns = usable_covariates(np.log1p(own[names].clip(lower=0).to_numpy(dtype=float)))
    chance = np.full(len(bought), bought.mean())
    if columns.shape[1]:
        columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
        with threadpool_limits(1):
            chance = fit_chances(columns, bought)
    weight = ((1 - chance) / chance)[bought]
    paid = np.minimum(values[bought], np.quantile(values[bought], LARGEST_OUTCOME))
    mean = float(np.average(paid, weights=weight))
    half = Z95 * float(np.sqrt((weight**2 * (paid - mean) ** 2).sum()) / weight.sum())
    return Return(len(values), float(bought.mean()), mean, max(mean - half, 0.0), mean + half)


def customer_states(
    features: pd.DataFrame, *, segment: np.ndarray, level: np.ndarray, once: Collection[str], top: Collection[str]
) -> dict[str, np.ndarray]:
    """Return who is new, bought once, stopped coming, or is a top customer who is overdue; each is in one at most.

    Parameters
    ----------
    features
        Of customers at a date.
    segment, level
        Segment and level of value of each.
    once
        Segments whose customers mostly bought once.
    top
        Levels of value that are worth protecting.
    """

    def flag(name: str) -> np.ndarray:
        return (features[name] == 1).to_numpy() if name in features else np.zeros(len(features), dtype=bool)

    new, lapsed = flag("stage_new"), flag("stage_lapsed")
    single = flag("orders") & np.isin(segment, list(once)) & ~new
    valuable = np.isin(level, list(top)) & ~single & ~new
    return {
        ONBOARD: new,
        SECOND_PURCHASE: single,
        PROTECT: valuable & (lapsed | flag("stage_cooling")),
        WIN_BACK: lapsed & ~valuable & ~single & ~new,
    }


def once_segments(features: pd.DataFrame, segment: pd.Series) -> list[str]:
    """List the segments most of whose customers bought once."""
    if "orders" not in features:
        return []
    share = (features["orders"] == 1).groupby(segment).mean()
    return share.index[share >= MOSTLY].tolist()


def top_levels(segments: pd.DataFrame) -> list[str]:
    """List the levels of value whose customers bring far more than the average one; without money, by orders."""
    sums = segments.groupby("macro_segment")[["revenue", "orders", "customers"]].sum(min_count=1).astype(float)
    value = sums["revenue"] if sums["revenue"].notna().all() and sums["revenue"].sum() > 0 else sums["orders"]
    worth = value / sums["customers"]
    return worth.index[worth >= TOP_WORTH * value.sum() / sums["customers"].sum()].tolist()
