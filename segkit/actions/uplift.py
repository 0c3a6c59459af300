"""Uplift: whether some gain more from being contacted than others, so that contacting only those would pay better.

Each customer is scored by the lift of customers of their own stratum, measured in the other folds only. Customers are
then contacted in thought from the highest score down: the Qini curve (Radcliffe 2007) is what that brings, beside
contacting the same number by lot.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.actions.holdout import TREATMENT
from segkit.stats import Z95

FOLDS = 5
RESAMPLES = 300
WIDER = 2**0.5  # each pair of folds counts twice, once to score and once to be scored: without any difference between
# strata that doubles the variance which resampling under fixed scores sees
LEAST_SIGNAL = 0.1  # of the noise: how much real difference between strata is always allowed for
GRID = np.linspace(0, 1, 21)  # shares contacted at which the curve is kept


@dataclass(frozen=True)
class Qini:
    """The area between the curve and contacting by lot, in the KPI's unit per customer, with its 95 % interval;
    `curve`: share contacted, gain (per customer of all), by_lot.
    """

    value: float
    low: float
    high: float
    curve: pd.DataFrame

    @property
    def is_better_than_chance(self) -> bool:
        """Whether the order is better than chance."""
        return self.low > 0


def qini(units: pd.DataFrame, adjusted: pd.Series, *, seed: int = 7) -> Qini | None:
    """How much better than by lot the customers can be ordered by what contact adds.

    Customers are ordered within their fold only, and the folds' curves averaged: a fold that did well by chance has low
    scores from the others, so an order across folds would look worse than by lot.

    Takes  units: by customer_id; segment, stratum, arm; adjusted: the outcome less what the past foretold, same index
    Gives  Qini; None where there are too few treated or held out to score every fold

    Parameters
    ----------
    seed : of the resampling of customers that gives the interval
    """
    ordered = units.sort_index()
    y = adjusted.reindex(ordered.index).to_numpy(dtype=float)
    treated = (ordered["arm"] == TREATMENT).to_numpy()
    share = pd.Series(treated, index=ordered.index).groupby(ordered["segment"]).transform("mean").to_numpy()
    weight = np.where(treated, 1 / np.maximum(share, 1e-9), 1 / np.maximum(1 - share, 1e-9))
    fold = ordered.groupby(["stratum", "arm"], sort=True).cumcount().to_numpy() % FOLDS
    parts = []
    for k in range(FOLDS):
        score = _scores(ordered["stratum"], y, treated=treated, seen=fold != k)
        if score is None or not treated[fold == k].any() or treated[fold == k].all():
            return None
        order = np.flatnonzero(fold == k)[np.argsort(-score[fold == k], kind="stable")]
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        parts.append((y[order], treated[order], weight[order], ends))
    gain = _mean_curve(parts, rng=None)
    rng = np.random.default_rng(seed)
    half = WIDER * Z95 * float(np.std([_area(_mean_curve(parts, rng=rng)) for _ in range(RESAMPLES)]))
    value = _area(gain)
    curve = pd.DataFrame({"share": GRID, "gain": gain, "by_lot": GRID * gain[-1]})
    return Qini(value=value, low=value - half, high=value + half, curve=curve)


def _scores(stratum: pd.Series, y: np.ndarray, *, treated: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """The lift of each customer's stratum among those seen, pulled towards the mean where it is little known."""
    cells = pd.DataFrame({"stratum": stratum.to_numpy()[seen], "treated": treated[seen], "y": y[seen]})
    table = cells.groupby(["stratum", "treated"])["y"].agg(["mean", "var", "count"]).unstack("treated")
    if not {("count", True), ("count", False)} <= set(table.columns):
        return None
    effect = table["mean"][True] - table["mean"][False]
    noise = table["var"][True] / table["count"][True] + table["var"][False] / table["count"][False]
    pulled = _pulled(effect, noise)
    return stratum.map(pulled).fillna(pulled.mean()).to_numpy()


def _pulled(effect: pd.Series, noise: pd.Series) -> pd.Series:
    """Effects drawn towards their mean by how noisy they are (empirical Bayes; Efron & Morris 1975)."""
    estimable = effect.notna() & noise.notna() & (noise > 0)
    if not estimable.any():
        return pd.Series(0.0, index=effect.index)
    middle = float(np.average(effect[estimable], weights=1 / noise[estimable]))
    signal = max(
        float(effect[estimable].var(ddof=0) - noise[estimable].mean()), LEAST_SIGNAL * float(noise[estimable].mean())
    )
    return (middle + (effect - middle) * signal / (signal + noise)).where(estimable, middle).round(9)


def _mean_curve(parts: list[tuple[np.ndarray, ...]], *, rng: np.random.Generator | None) -> np.ndarray:
    """The gain per customer at each share of GRID, averaged over folds; customers drawn anew where a generator is
    given.
    """
    curves = []
    for y, treated, weight, ends in parts:
        times = np.ones(len(y)) if rng is None else _resample(treated, rng=rng)
        curves.append(np.interp(GRID, *_curve(y, treated, weight, ends, times=times)))
    return np.mean(curves, axis=0)


def _curve(
    y: np.ndarray, treated: np.ndarray, weight: np.ndarray, ends: np.ndarray, *, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share contacted and gain per customer, at the ends of equal scores; `times`: how often each was drawn."""
    w = weight * times
    up, down = np.cumsum(w * treated)[ends], np.cumsum(w * ~treated)[ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        lift = np.cumsum(w * treated * y)[ends] / up - np.cumsum(w * ~treated * y)[ends] / down
    contacted = np.cumsum(times)[ends] / times.sum()
    gain = np.where((up > 0) & (down > 0), lift * contacted, 0.0)
    return np.append(0.0, contacted), np.append(0.0, gain)


def _area(gain: np.ndarray) -> float:
    return float(np.trapezoid(gain, GRID) - gain[-1] / 2)


def _resample(treated: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """How often each customer is drawn, treated and control each to their own number."""
    times = np.zeros(len(treated))
    for arm in (treated, ~treated):
        places = np.flatnonzero(arm)
        times[places] = np.bincount(rng.integers(len(places), size=len(places)), minlength=len(places))
    return times
