"""Measure how alike things are: bought by the same customers beyond what their spend explains, and on the same days."""

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

BASKET_WEIGHT = 0.5  # of what is bought on the same day, against what is bought by the same customer
BASKET_PRIOR = 5.0  # pairs added to each observed and expected count
DIRECTIONS, DIRECTION_POWER = 60, 0.75  # eigenvectors that likeness is read in, times their values to this power
HALVINGS = 3  # pairs of halves of the customers


def likeness(amounts: np.ndarray, baskets: sparse.csr_array) -> np.ndarray:
    """Return how alike things are (-1 to 1).

    Parameters
    ----------
    amounts
        Customers x things: what each bought.
    baskets
        Days of customers x things, 0 or 1; none, where only customers are known.
    """
    by_customer, by_day = _smooth(correlate_choices(amounts)), _basket_lift(baskets)
    return by_customer if by_day is None else (1 - BASKET_WEIGHT) * by_customer + BASKET_WEIGHT * _smooth(by_day)


def correlate_choices(amounts: np.ndarray) -> np.ndarray:
    """Correlate log(1 + amount) of things, less what a customer's total explains (a quadratic in its log)."""
    logs, total = np.log1p(amounts), np.log1p(amounts.sum(axis=1))
    design = np.column_stack([np.ones_like(total), total, np.square(total)])
    rest = logs - design @ np.linalg.lstsq(design, logs, rcond=None)[0]
    with np.errstate(divide="ignore", invalid="ignore"):  # all buy the same of a thing: like no other
        return np.nan_to_num(np.corrcoef(rest, rowvar=False))


def replication(amounts: np.ndarray, *, seed: int) -> float:
    """Return the correlation between what one half of the customers shows and what the other half shows (-1 to 1)."""
    rng, found = np.random.default_rng([seed, 99]), []
    for _ in range(HALVINGS):
        order = rng.permutation(len(amounts))
        one, other = (correlate_choices(amounts[np.sort(half)]) for half in (order[::2], order[1::2]))
        above = np.triu_indices(len(one), 1)
        if one[above].std() > 0 and other[above].std() > 0:
            found.append(np.corrcoef(one[above], other[above])[0, 1])
    return float(np.mean(found)) if found else 0.0


def _smooth(matrix: np.ndarray) -> np.ndarray:
    """Return the cosines between things in the main directions of a matrix, the widest weighing most."""
    count = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[count - min(DIRECTIONS, max(2, count // 2)), count - 1])
    scaled = vectors * np.maximum(values, 0.0) ** DIRECTION_POWER
    unit = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def _basket_lift(baskets: sparse.csr_array) -> np.ndarray | None:
    """Return the log of observed over expected pairs on one day, each day of equal weight; None without pairs."""
    sizes = np.asarray(baskets.sum(axis=1)).ravel()
    baskets, sizes = baskets[sizes >= 2], sizes[sizes >= 2]
    if not len(sizes):
        return None
    pairs = (baskets.T @ sparse.diags_array(1.0 / (sizes - 1)) @ baskets).toarray()
    np.fill_diagonal(pairs, 0.0)
    margin = pairs.sum(axis=1)
    expected = np.outer(margin, margin) / margin.sum()
    lift = np.log((pairs + BASKET_PRIOR) / (expected + BASKET_PRIOR))
    np.fill_diagonal(lift, 0.0)
    return lift
