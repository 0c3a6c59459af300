"""Uplift: whether some gain more from being contacted than others, so that contacting only those would pay better.

Each customer is scored by the lift of customers of their own stratum, measured in the other folds only. Customers are
then contacted in thought from the highest score down: the Qini curve (Radcliffe 2007) is what that brings, beside
contacting the same number by lot.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.actions.holdout import TREATMENT

FOLDS = 5
RESAMPLES = 500
LEAST_SIGNAL = 0.1  # of the noise: how much real difference between strata is always allowed for
POINTS = 21  # of the curve that is kept


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
    def found(self) -> bool:
        """Whether the order is better than chance."""
        return self.low > 0


def qini(units: pd.DataFrame, adjusted: pd.Series, *, seed: int = 7) -> Qini | None:
    """How much better than by lot the customers can be ordered by what contact adds.

    Takes  units: by customer_id; segment, stratum, arm; adjusted: the outcome less what the past foretold, same index
    Gives  Qini; None where a fold lacks treated or control in every stratum

    Parameters
    ----------
    seed : of the resampling of customers that gives the interval
    """
    ordered = units.sort_index()
    y = adjusted.reindex(ordered.index).to_numpy(dtype=float)
    treated = (ordered["arm"] == TREATMENT).to_numpy()
    score = _scores(ordered, y, treated=treated)
    if np.isnan(score).any():
        return None
    share = ordered["arm"].eq(TREATMENT).groupby(ordered["segment"]).transform("mean").to_numpy()
    weight = np.where(treated, 1 / np.maximum(share, 1e-9), 1 / np.maximum(1 - share, 1e-9))
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    arms = (y[order], treated[order], weight[order], ends)
    gain = _curve(*arms, times=np.ones(len(y)))
    rng = np.random.default_rng(seed)
    again = [_area(*_curve(*arms, times=_resample(treated[order], rng=rng))) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(again, [0.025, 0.975])
    share_at = np.linspace(0, 1, POINTS)
    curve = pd.DataFrame({"share": share_at, "gain": np.interp(share_at, *gain), "by_lot": share_at * gain[1][-1]})
    return Qini(value=_area(*gain), low=float(low), high=float(high), curve=curve)


def _scores(units: pd.DataFrame, y: np.ndarray, *, treated: np.ndarray) -> np.ndarray:
    """The lift of each customer's stratum in the other folds, pulled towards the mean where it is little known."""
    fold = units.groupby(["stratum", "arm"], sort=True).cumcount().to_numpy() % FOLDS
    score = np.full(len(units), np.nan)
    for k in range(FOLDS):
        seen = fold != k
        cells = pd.DataFrame({"stratum": units["stratum"].to_numpy()[seen], "treated": treated[seen], "y": y[seen]})
        table = cells.groupby(["stratum", "treated"])["y"].agg(["mean", "var", "count"]).unstack("treated")
        if not {("count", True), ("count", False)} <= set(table.columns):
            return score
        effect = table["mean"][True] - table["mean"][False]
        noise = table["var"][True] / table["count"][True] + table["var"][False] / table["count"][False]
        pulled = _pulled(effect, noise)
        score[~seen] = units["stratum"].map(pulled).to_numpy()[~seen]
    return score


def _pulled(effect: pd.Series, noise: pd.Series) -> pd.Series:
    """Effects drawn towards their mean by how noisy they are (empirical Bayes; Efron & Morris 1975)."""
    known = effect.notna() & noise.notna() & (noise > 0)
    if not known.any():
        return pd.Series(0.0, index=effect.index)
    middle = float(np.average(effect[known], weights=1 / noise[known]))
    signal = max(float(effect[known].var(ddof=0) - noise[known].mean()), LEAST_SIGNAL * float(noise[known].mean()))
    return (middle + (effect - middle) * signal / (signal + noise)).where(known, middle).round(9)


def _curve(
    y: np.ndarray, treated: np.ndarray, weight: np.ndarray, ends: np.ndarray, *, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share contacted and gain per customer of all, at the ends of equal scores; `times`: how often each was drawn."""
    w = weight * times
    up, down = np.cumsum(w * treated)[ends], np.cumsum(w * ~treated)[ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        lift = np.cumsum(w * treated * y)[ends] / up - np.cumsum(w * ~treated * y)[ends] / down
    contacted = np.cumsum(times)[ends] / times.sum()
    gain = np.where((up > 0) & (down > 0), lift * contacted, 0.0)
    return np.append(0.0, contacted), np.append(0.0, gain)


def _area(contacted: np.ndarray, gain: np.ndarray) -> float:
    return float(np.trapezoid(gain, contacted) - gain[-1] / 2)


def _resample(treated: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """How often each customer is drawn, treated and control each to their own number."""
    times = np.zeros(len(treated))
    for arm in (treated, ~treated):
        places = np.flatnonzero(arm)
        times[places] = np.bincount(rng.integers(len(places), size=len(places)), minlength=len(places))
    return times
