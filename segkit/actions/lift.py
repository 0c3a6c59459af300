"""Lift: what a treatment added, per customer, with an interval that holds for all segments at once.

Customers were drawn to be treated or not, so the difference of the two is the treatment's, but for chance. The part of
the outcome that their own past foretells is taken away first (CUPED, Deng et al. 2013): what is left is quieter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from segkit.stats import least_squares, usable_covariates

ALPHA = 0.05


@dataclass(frozen=True)
class Lift:
    """A difference per customer, treated less control: its standard error, degrees of freedom and interval, the
    means (adjusted) it lies between, and the share of the spread that the past explained.
    """

    segment: str
    treated: int
    control: int
    treated_mean: float
    control_mean: float
    lift: float
    se: float
    df: float
    explained: float
    low: float = np.nan
    high: float = np.nan


def lift_of(values: np.ndarray, *, treated: np.ndarray, covariate_values: np.ndarray, segment: str = "all") -> Lift:
    """The lift in one group of customers, without its interval yet.

    Takes  values: the outcome of each customer; treated: flags; past: customers x columns known before the treatment
    Gives  Lift by least squares of the outcome on treatment and past, with the heteroscedastic HC3 variance (MacKinnon
           & White 1985) and Satterthwaite's degrees of freedom; one that is not known where nothing varies
    """
    values, treated = np.asarray(values, dtype=float), np.asarray(treated, dtype=bool)
    used = _used(covariate_values, rows=len(values))
    fit = least_squares(values, treated.astype(float), used)
    spread, left_out = fit.robust()
    counts = (int(treated.sum()), int((~treated).sum()))
    parts = [
        np.mean(left_out[arm] ** 2) / n if n else np.nan for arm, n in zip((treated, ~treated), counts, strict=True)
    ]
    explained = _explained(values, fit.residuals, treated=treated)
    se = max(float(np.sqrt(spread[1, 1])), _least_se(values, treated=treated, explained=explained))
    middle, added = values.mean() - fit.slopes[1] * treated.mean(), float(fit.slopes[1])
    return Lift(
        segment=segment,
        treated=counts[0],
        control=counts[1],
        treated_mean=float(middle + added),
        control_mean=float(middle),
        lift=added,
        se=se if se > 0 else np.nan,
        df=_satterthwaite(parts, counts=counts, columns=used.shape[1]),
        explained=explained,
    )


def lifts_of(units: pd.DataFrame, values: pd.Series, *, columns: Iterable[str]) -> list[Lift]:
    """The lift of each segment, and of all together where there are several, with simultaneous 95 % intervals.

    Takes  units: indexed by customer_id; segment, arm (treatment or control) and the columns of the past; values: the
           outcome by customer_id
    Gives  Lifts by segment, "all" last; the intervals hold together in 95 of 100 pilots (Bonferroni; Dunn 1961)
    """
    outcome = values.reindex(units.index).to_numpy(dtype=float)
    treated = (units["arm"] == "treatment").to_numpy()
    covariate_values = units[list(columns)].to_numpy(dtype=float)
    found = []
    for segment in sorted(units["segment"].unique()):
        mine = (units["segment"] == segment).to_numpy()
        found.append(
            lift_of(outcome[mine], treated=treated[mine], covariate_values=covariate_values[mine], segment=segment)
        )
    if len(found) > 1:
        found.append(_together(found))
    return simultaneous(found)


def simultaneous(lifts: list[Lift], *, alpha: float = ALPHA) -> list[Lift]:
    """The same lifts with intervals that hold all at once: each at 1 - alpha over their number (Dunn 1961).

    Parameters
    ----------
    alpha : chance that any of the intervals misses; smaller widens them
    """
    each = alpha / max(len(lifts), 1)
    return [
        replace(one, low=one.lift - half, high=one.lift + half)
        for one in lifts
        for half in [stats.t.ppf(1 - each / 2, one.df) * one.se]
    ]


def _together(lifts: list[Lift]) -> Lift:
    """All segments as one: each weighs as its customers, so that a different share of treated bends nothing."""
    sizes = np.array([one.treated + one.control for one in lifts], dtype=float)
    weights = sizes / sizes.sum()
    variances = (weights * [one.se for one in lifts]) ** 2
    total = float(np.sum(variances))
    df = total**2 / float(np.sum(variances**2 / [one.df for one in lifts])) if total > 0 else np.nan
    return Lift(
        segment="all",
        treated=sum(one.treated for one in lifts),
        control=sum(one.control for one in lifts),
        treated_mean=float(np.sum(weights * [one.treated_mean for one in lifts])),
        control_mean=float(np.sum(weights * [one.control_mean for one in lifts])),
        lift=float(np.sum(weights * [one.lift for one in lifts])),
        se=float(np.sqrt(total)),
        df=df,
        explained=float(np.sum(weights * [one.explained for one in lifts])),
    )


def _used(covariate_values: np.ndarray, *, rows: int) -> np.ndarray:
    """The columns of the past that vary, centred and scaled; fewer where there are few customers."""
    varying = usable_covariates(np.asarray(covariate_values, dtype=float).reshape(rows, -1))
    return (varying - varying.mean(axis=0)) / varying.std(axis=0) if varying.shape[1] else varying


def _explained(values: np.ndarray, residuals: np.ndarray, *, treated: np.ndarray) -> float:
    """Share of the spread within treated and control that the past took away."""
    means = np.where(treated, values[treated].mean() if treated.any() else 0, values[~treated].mean())
    total = np.sum((values - means) ** 2)
    return float(np.clip(1 - np.sum(residuals**2) / total, 0, 1)) if total > 0 else 0.0


def _least_se(values: np.ndarray, *, treated: np.ndarray, explained: float) -> float:
    """A floor for shares: a group in which all came is not known without error (Agresti & Caffo 2000)."""
    if not np.isin(values, (0.0, 1.0)).all() or not values.any():
        return 0.0
    total = 0.0
    for arm in (treated, ~treated):
        share = (values[arm].sum() + 1) / (arm.sum() + 2)
        total += share * (1 - share) / (arm.sum() + 2)
    return float(np.sqrt(total * (1 - explained)))


def _satterthwaite(parts: list[float], *, counts: tuple[int, int], columns: int) -> float:
    """Degrees of freedom of two groups of unlike spread (Satterthwaite 1946), less one for each column of the past."""
    below = sum(part**2 / max(n - 1, 1) for part, n in zip(parts, counts, strict=True))
    return max(sum(parts) ** 2 / below - columns, 1.0) if below > 0 else float(max(sum(counts) - 2 - columns, 1))
