"""Measure how alike things are: bought by the same customers beyond what their spend explains, and on the same days."""

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

BASKET_WEIGHT = 0.5  # of what is bought on the same day, against what is bought by the same customer
BASKET_PRIOR = 5.0  # pairs added to each observed and expected count
DIRECTIONS, DIRECTION_POWER = 60, 0.75  # eigenvectors that likeness is read in, times their values to this power
HALVED_THINGS, FEWEST_HALVINGS, MOST_HALVINGS = 1000, 2, 20  # halves of the customers are compared more often with few


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
    """Return how well one half of the customers shows what the other half shows, beyond chance (1 at most).

    Correlations of things repeat by chance as well: common and costly things take from each other in everyone's total.
    The same purchases given to other customers at random say how much.
    """
    rng = np.random.default_rng([seed, 99])
    halvings = int(np.clip(HALVED_THINGS // amounts.shape[1], FEWEST_HALVINGS, MOST_HALVINGS))
    return float(np.mean([_repeat(amounts, rng) - _repeat(_deal(amounts, rng), rng) for _ in range(halvings)]))


def _deal(amounts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal things, with their amounts, to customers who bought as many."""
    customer, thing = np.nonzero(amounts)
    order = rng.permutation(len(thing))
    dealt = np.zeros_like(amounts)
    np.add.at(dealt, (customer, thing[order]), amounts[customer[order], thing[order]])
    return dealt


def _repeat(amounts: np.ndarray, rng: np.random.Generator) -> float:
    """Correlate the correlations of things in two halves of the customers."""
    order = rng.permutation(len(amounts))
    one, other = (correlate_choices(amounts[np.sort(half)]) for half in (order[::2], order[1::2]))
    above = np.triu_indices(len(one), 1)
    both = np.array([one[above], other[above]])
    return float(np.corrcoef(both)[0, 1]) if (both.std(axis=1) > 0).all() else 0.0


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
