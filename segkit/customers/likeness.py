"""Measure how alike things are: bought by the same customers beyond what their spend explains, and on the same days."""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

BASKET_WEIGHT = 0.5  # of what is bought on the same day, against what is bought by the same customer
BASKET_PRIOR = 5.0  # pairs added to each observed and expected count
DIRECTIONS, DIRECTION_POWER = 60, 0.75  # eigenvectors that likeness is read in, times their values to this power
EXPLAINING = 3  # columns: a constant, the log of a customer's total and its square
NO_SPREAD = 1e-9  # of a total, or left of a thing
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
    columns = _explained_columns(amounts)
    return _mix(columns.T @ columns, _count_pairs(*_shared_days(baskets)[:2]))


def likeness_without(
    amounts: np.ndarray, baskets: sparse.csr_array, basket_customer: np.ndarray, *, left_out: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield how alike things are to all customers but some: all it takes are sums, less those of who is left out.

    Parameters
    ----------
    amounts, baskets
        As for ``likeness``.
    basket_customer
        Row in ``amounts`` of the customer of each day.
    left_out
        Rows of the customers to leave out, a set at a time.
    """
    columns, (days, weighted, kept) = _explained_columns(amounts), _shared_days(baskets)
    products, pairs, customer = columns.T @ columns, _count_pairs(days, weighted), basket_customer[kept]
    for rows in left_out:
        gone = np.zeros(len(amounts), dtype=bool)
        gone[rows] = True
        theirs = np.flatnonzero(gone[customer])
        yield _mix(products - columns[rows].T @ columns[rows], pairs - _count_pairs(days[theirs], weighted[theirs]))


def _mix(products: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return likeness from sums over customers and over their days."""
    by_customer = _smooth(_correlate(products))
    if pairs.sum() < 1:  # nothing is known of days: a single one with two things counts two
        return by_customer
    return (1 - BASKET_WEIGHT) * by_customer + BASKET_WEIGHT * _smooth(_basket_lift(pairs))


def correlate_choices(amounts: np.ndarray) -> np.ndarray:
    """Correlate log(1 + amount) of things, less what a customer's total explains (a quadratic in its log)."""
    columns = _explained_columns(amounts)
    return _correlate(columns.T @ columns)


def _explained_columns(amounts: np.ndarray) -> np.ndarray:
    """Return what explains a customer's purchases (1, log of the total, its square), and log(1 + amount) of things."""
    total = np.log1p(amounts.sum(axis=1))
    total = (total - total.mean()) / max(total.std(), NO_SPREAD)
    return np.column_stack([np.ones_like(total), total, np.square(total), np.log1p(amounts)])


def _correlate(products: np.ndarray) -> np.ndarray:
    """Correlate what is left of things, from the sums of the products of all columns."""
    (known, both), own = np.split(products[:EXPLAINING], [EXPLAINING], axis=1), products[EXPLAINING:, EXPLAINING:]
    rest = own - both.T @ np.linalg.lstsq(known, both, rcond=None)[0]
    left = np.diag(rest)
    spread = np.sqrt(np.where(left > NO_SPREAD * np.diag(own), left, np.inf))  # all buy the same of it: like no other
    return rest / spread[:, None] / spread


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
    cell = customer * amounts.shape[1] + thing[order]
    dealt = np.bincount(cell, weights=amounts[customer[order], thing[order]], minlength=amounts.size)
    return dealt.reshape(amounts.shape)


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


def _shared_days(baskets: sparse.csr_array) -> tuple[sparse.csr_array, sparse.csr_array, np.ndarray]:
    """Return the days with two things or more, the same so weighted that each counts equally, and which they are."""
    sizes = np.asarray(baskets.sum(axis=1)).ravel()
    kept = np.flatnonzero(sizes >= 2)
    days = sparse.csr_array(baskets[kept])
    return days, sparse.csr_array(sparse.diags_array(1.0 / (sizes[kept] - 1)) @ days), kept


def _count_pairs(days: sparse.csr_array, weighted: sparse.csr_array) -> np.ndarray:
    """Return the pairs of things bought on one day."""
    pairs = (days.T @ weighted).toarray()
    np.fill_diagonal(pairs, 0.0)
    return pairs


def _basket_lift(pairs: np.ndarray) -> np.ndarray:
    """Return the log of observed over expected pairs."""
    margin = pairs.sum(axis=1)
    expected = np.outer(margin, margin) / margin.sum()
    lift = np.log((pairs + BASKET_PRIOR) / (expected + BASKET_PRIOR))
    np.fill_diagonal(lift, 0.0)
    return lift
