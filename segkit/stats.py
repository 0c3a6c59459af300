"""Statistics that several chapters share: intervals, samples, ridge, covariate adjustment, groups of equal size.

A library is called where it gives the same figures; everything else cites its source.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

Z95 = 1.959963984540054  # half the width of a 95 % interval, in standard deviations of a normal distribution
LEVEL = (2.5, 97.5)  # percentiles
SAMPLE_SIZE = 20_000  # customers at one date; more take time and change nothing
PENALTIES = np.logspace(0, 5, 16)  # ridge penalties to choose from
FEWEST_PER_COVARIATE = 10  # customers for each covariate; with fewer, only the first covariates are used
AUC_GROUPS = 5_000  # different scores
LARGEST_LEVERAGE = 0.95  # of one customer on a least-squares fit
CONSTANT = 1e-12  # a covariate with at most this standard deviation does not vary


class Estimate(NamedTuple):
    """A figure and its interval, in the unit of the figure; not-a-number where the interval is unknown.

    Examples
    --------
    >>> Estimate.around(3.0, half=1.0)
    Estimate(value=3.0, low=2.0, high=4.0)
    >>> Estimate(3.0, 2.0, 4.0).columns("spend")
    {'spend': 3.0, 'spend_low': 2.0, 'spend_high': 4.0}
    >>> Estimate(3.0, 2.0, 4.0).metrics("forecast.spend")
    {'forecast.spend': 3.0, 'forecast.spend.low': 2.0, 'forecast.spend.high': 4.0}
    """

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, *, half: float) -> "Estimate":
        """Return the figure with a symmetric interval."""
        return cls(float(value), float(value - half), float(value + half))

    def columns(self, name: str, *, digits: int | None = None) -> dict[str, float]:
        """Return the cells ``name``, ``name_low`` and ``name_high`` of a row, rounded where ``digits`` are given."""
        cells = {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}
        return {key: float(cell) if digits is None else round(float(cell), digits) for key, cell in cells.items()}

    def metrics(self, name: str) -> dict[str, float]:
        """Return the three metrics of a run: ``name``, ``name.low`` and ``name.high``."""
        return {name: float(self.value), f"{name}.low": float(self.low), f"{name}.high": float(self.high)}


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def proportion_interval(count: float, of: float) -> Estimate:
    """Estimate a share (0-1) with its Wilson score interval at 95 % (Wilson 1927).

    Parameters
    ----------
    count, of
        How many of how many; of none, the share is unknown.

    Examples
    --------
    >>> [round(float(end), 4) for end in proportion_interval(5, 10)]
    [0.5, 0.2366, 0.7634]
    """
    if of == 0:
        return UNKNOWN
    # scipy.stats.binomtest gives the same to the last digit but one, and takes 300 times as long for an exact p-value
    p = count / of
    middle = (p + Z95**2 / (2 * of)) / (1 + Z95**2 / of)
    half = Z95 * np.sqrt(p * (1 - p) / of + Z95**2 / (4 * of**2)) / (1 + Z95**2 / of)
    return Estimate(p, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def mean_interval(values: pd.Series) -> Estimate:
    """Estimate a mean with its 95 % interval, by the normal approximation; the unit is that of the values."""
    if len(values) < 2:
        return Estimate(float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    return Estimate.around(values.mean(), half=Z95 * values.std() / np.sqrt(len(values)))


def ratio_interval(above: pd.Series, below: pd.Series) -> Estimate:
    """Estimate a ratio of two totals with its 95 % interval by the delta method (Cochran 1977, chapter 6).

    `above`, `below`: one value per customer, in the same order; the interval is over customers.
    """
    if len(above) < 2 or below.sum() == 0:
        return UNKNOWN
    ratio = above.sum() / below.sum()
    return Estimate.around(ratio, half=Z95 * (above - ratio * below).std() / (below.mean() * np.sqrt(len(above))))


def bootstrap_interval(draws: np.ndarray, *, at: float) -> Estimate:
    """Estimate a figure with its 95 % interval from resamplings (Efron & Tibshirani 1993).

    Only the spread of the resamplings is used, not their mean: resampling shifts an R2 upwards.
    """
    low, high = np.percentile(draws - draws.mean(), LEVEL)
    return Estimate(float(at), float(at + low), float(at + high))


def discoveries(p_values: np.ndarray, *, share: float) -> np.ndarray:
    """Flag the significant tests at a false discovery rate (Benjamini & Hochberg 1995).

    Parameters
    ----------
    p_values
        One per test, 0-1.
    share
        Expected share of false discoveries among the flagged tests, 0-1; a larger one flags more.

    Examples
    --------
    >>> discoveries(np.array([0.001, 0.5, 0.04]), share=0.05).tolist()
    [True, False, False]
    """
    from scipy.stats import false_discovery_control  # slow to import, and not needed to place a customer

    return false_discovery_control(p_values) <= share if len(p_values) else np.zeros(0, dtype=bool)


def hash_sample(ids: Iterable[str], *, most: int = SAMPLE_SIZE) -> np.ndarray:
    """Flag a sample chosen by a hash of each id, so that other customers do not change who is in it.

    Parameters
    ----------
    ids
        Distinct, in any order.
    most
        Size of the sample: the smallest hashes (BLAKE2b), or all ids where there are no more.

    Examples
    --------
    >>> hash_sample(["a", "b", "c"], most=3).tolist(), int(hash_sample(["a", "b", "c"], most=2).sum())
    ([True, True, True], 2)
    """
    given = list(ids)
    chosen = np.ones(len(given), dtype=bool)
    if len(given) > most:
        hashes = np.array([int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest()) for i in given])
        chosen[np.argsort(hashes, kind="stable")[most:]] = False
    return chosen


def ridge(design: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a ridge regression whose penalty minimises the leave-one-out error (scikit-learn ``RidgeCV``).

    Parameters
    ----------
    design
        Rows x columns.
    values
        Rows x outcomes of similar spread: they share the penalty.

    Returns
    -------
    tuple
        Coefficients (columns x outcomes) and constants (outcomes), in the unit of the values.
    """
    from sklearn.linear_model import RidgeCV  # slow to import, and not needed to place a customer

    fit = RidgeCV(PENALTIES).fit(design, values)
    return np.atleast_2d(fit.coef_).T, np.atleast_1d(fit.intercept_)


def ridge_from_products(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fit a ridge regression whose penalty is chosen by generalised cross-validation (Golub, Heath & Wahba 1979).

    It needs only the products of the columns: 20,000 rows take a tenth of the time of `ridge`. The penalty is usually,
    but not always, the same.

    `design`, `values`: rows x columns and rows x outcomes, all of them centred. Returns coefficients, columns x
    outcomes.
    """
    squares, vectors = np.linalg.eigh(design.T @ design)
    squares = np.maximum(squares, 0.0)
    along = vectors.T @ (design.T @ values)
    strength = np.square(along).sum(axis=1)
    shrunk = squares + PENALTIES[:, None]
    left = np.square(values).sum() - ((squares + 2 * PENALTIES[:, None]) / np.square(shrunk)) @ strength
    free = len(values) - 1 - (squares / shrunk).sum(axis=1)
    return vectors @ (along / shrunk[np.argmin(left / np.square(free))][:, None])


@dataclass(frozen=True)
class LeastSquares:
    """A least-squares fit: the design (rows x columns), a slope per column and a residual per row."""

    design: np.ndarray
    slopes: np.ndarray
    residuals: np.ndarray

    def leave_one_out(self, *, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return how much the outcome of each row moves one slope, and the leave-one-out residuals.

        The sum of the squares of their products is the HC3 variance of the slope (MacKinnon & White 1985). The
        leverage of a row is capped. Without the cap (as in statsmodels), a customer with a covariate that nobody
        shares would mean zero divided by zero.

        `row`: number of the slope, 0 for the constant.
        """
        inverse = np.linalg.pinv(self.design.T @ self.design)
        leverage = (self.design @ inverse * self.design).sum(axis=1)
        return self.design @ inverse[row], self.residuals / (1 - np.minimum(leverage, LARGEST_LEVERAGE))


def least_squares(values: np.ndarray, *parts: np.ndarray) -> LeastSquares:
    """Fit values by least squares on a constant and the given columns, in their order.

    `parts`: columns (rows) or tables (rows x columns) of the design, after its constant.
    """
    design = np.column_stack([np.ones(len(values)), *parts])
    slopes, *_ = np.linalg.lstsq(design, values, rcond=None)
    return LeastSquares(design=design, slopes=slopes, residuals=values - design @ slopes)


def usable_covariates(covariates: np.ndarray) -> np.ndarray:
    """Return the covariates (rows x columns) that vary; where rows are few, only the first of them."""
    return covariates[:, covariates.std(axis=0) > CONSTANT][:, : len(covariates) // FEWEST_PER_COVARIATE]


def rank_groups(values: pd.Series, *, parts: int) -> np.ndarray:
    """Assign each value to a group of equal size by rank, from 0; equal values share a group.

    Examples
    --------
    >>> rank_groups(pd.Series([10.0, 20.0, 30.0, 30.0]), parts=2).tolist()
    [0, 0, 1, 1]
    """
    rank = values.rank(method="average").to_numpy() - 0.5
    return (rank * parts / len(values)).astype(int)


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """Measure how well two groupings of rows agree: 1 if they are the same, 0 by chance (Hubert & Arabie 1985).

    Examples
    --------
    >>> adjusted_rand(np.array([0, 0, 1, 1]), np.array(["b", "b", "a", "a"]))
    1.0
    """
    # scikit-learn's adjusted_rand_score gives the same, and takes ten times as long for checks of its input
    (first, names), (second, others) = pd.factorize(one), pd.factorize(other)
    cells = np.bincount(first * len(others) + second, minlength=len(names) * len(others))
    table = cells.reshape(len(names), len(others)).astype(float)
    both, own, theirs = (float((sizes * (sizes - 1)).sum()) for sizes in (table, table.sum(axis=1), table.sum(axis=0)))
    pairs = float(len(first)) * (len(first) - 1)
    expected = own * theirs / pairs if pairs else 0.0
    most = (own + theirs) / 2
    return 1.0 if own == theirs == both else (both - expected) / (most - expected)


def quantile_edges(values: np.ndarray | pd.Series, *, parts: int) -> np.ndarray:
    """Return the limits between groups of equal size, to be learnt on one table and applied to another.

    Examples
    --------
    >>> quantile_edges(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), parts=2).tolist()
    [3.0]
    """
    return np.quantile(values, np.arange(1, parts) / parts)


def logit(chance: np.ndarray, *, edge: float) -> np.ndarray:
    """Return the log odds of probabilities, which are first clipped ``edge`` away from 0 and 1."""
    inside = np.clip(chance, edge, 1 - edge)
    return np.log(inside / (1 - inside))


def auc(scores: np.ndarray, outcomes: np.ndarray, *, counts: np.ndarray | None = None) -> np.ndarray:
    """Compute the area under the ROC curve in each resampling; ties count half (Hanley & McNeil 1982).

    The same as scikit-learn's ``roc_auc_score``, for all resamplings at once; more than 5,000 different scores are
    compared in groups of the nearest.

    Parameters
    ----------
    scores
        One per row; a larger one means that the outcome is more likely.
    outcomes
        1 where the outcome occurred, else 0.
    counts
        Resamplings x rows: how often each row was drawn. Without it each row counts once.

    Returns
    -------
    numpy.ndarray
        One area (0-1; 0.5 is chance) per resampling; not-a-number where all outcomes are equal.

    Examples
    --------
    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])).tolist()
    [0.875]
    """
    counts = np.ones((1, len(scores))) if counts is None else counts
    outcomes = np.asarray(outcomes, dtype=float)
    group = np.unique(scores, return_inverse=True)[1].ravel()
    if len(group) and group.max() >= AUC_GROUPS:
        group = group * AUC_GROUPS // (group.max() + 1)
    rows, size = np.arange(len(scores)), (len(scores), int(group.max(initial=-1)) + 1)
    sides = (sparse.csr_array((side, (rows, group)), shape=size) for side in (outcomes, 1 - outcomes))
    positive, negative = ((side.T @ counts.T).T for side in sides)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide((positive * below).sum(axis=1), pairs, out=np.full(len(counts), np.nan), where=pairs > 0)
