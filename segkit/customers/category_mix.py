"""Describe what customers buy: amounts and shares of categories, or of the words in their names."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from segkit.customers.features import CustomerData

MAX_CATEGORIES = 500  # distinct names; more are free text, and needs are learnt from their words
MIN_BUYERS = 5  # customers of a term; with fewer, it is noise
MAX_COMPONENTS = 40  # directions of the logs, and of the shares
MIX_SPREAD = 3.0  # standard deviation of the widest direction, next to z-scores of behaviour
WORD = re.compile(r"[^\W\d_]{2,}")


def is_free_text(names: list[str]) -> bool:
    """Return whether there are so many distinct categories that they are better read word by word."""
    return len(names) > MAX_CATEGORIES


def split_words(name: str) -> list[str]:
    """Return the distinct words of a category's name, in lower case, sorted.

    Examples
    --------
    >>> split_words("RED wine, 2 x red")
    ['red', 'wine']
    """
    return sorted({word.lower() for word in WORD.findall(name)})


def term_weights(weights: sparse.csr_array, names: list[str], *, words: bool) -> tuple[sparse.csr_array, list[str]]:
    """Sum what was bought by category into what was bought by term.

    Parameters
    ----------
    weights
        Customers x categories.
    names
        Of the categories.
    words
        Split names into their words; a product counts for each word of its name.

    Returns
    -------
    tuple
        Customers x terms, and the sorted terms; the categories themselves where ``words`` is false.
    """
    if not words:
        return weights, list(names)
    split = [split_words(name) for name in names]
    terms = sorted({word for found in split for word in found})
    position = {term: i for i, term in enumerate(terms)}
    rows = np.repeat(np.arange(len(names)), [len(s) for s in split])
    columns = np.array([position[word] for found in split for word in found], dtype=int)
    spread = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(terms)))
    return weights @ spread, terms


def align_terms(weights: sparse.csr_array, terms: list[str], *, to: list[str]) -> sparse.csr_array:
    """Return the matrix with the columns of ``to``: other terms are dropped, and absent ones are zero."""
    position = {term: i for i, term in enumerate(to)}
    coo = weights.tocoo()
    column = np.array([position.get(t, -1) for t in terms], dtype=int)[coo.col] if len(terms) else coo.col
    matched = column >= 0
    return sparse.csr_array((coo.data[matched], (coo.row[matched], column[matched])), shape=(weights.shape[0], len(to)))


def common_terms(
    weights: sparse.csr_array, categories: Sequence[str], *, words: bool, most: int, rarest: int = MIN_BUYERS
) -> tuple[sparse.csr_array, list[str], list[str]]:
    """Return what was bought by term, all terms, and the most common ones.

    Parameters
    ----------
    weights
        Customers x categories.
    categories
        Their names.
    words
        Split names into words, as ``term_weights`` does.
    most
        Largest number of common terms.
    rarest
        Fewest customers who bought a common term.
    """
    by_term, names = term_weights(weights, list(categories), words=words)
    return by_term, names, most_common_terms(by_term, names, max_terms=most, min_buyers=rarest)


def most_common_terms(
    weights: sparse.csr_array, terms: list[str], *, max_terms: int, min_buyers: int = MIN_BUYERS
) -> list[str]:
    """Return the terms that most customers bought, the most common first; ties by name."""
    counts = np.asarray((weights > 0).sum(axis=0)).ravel()
    order = sorted((i for i in range(len(terms)) if counts[i] >= min_buyers), key=lambda i: (-counts[i], terms[i]))
    return [terms[i] for i in order[:max_terms]]


@dataclass(frozen=True)
class MixBasis:
    """Hold the main directions of the category mix, terms x components.

    ``logs`` is for log amounts (weighted by inverse document frequency), ``shares`` for square-root shares; ``words``
    says whether terms are words.
    """

    terms: tuple[str, ...]
    words: bool
    logs: np.ndarray
    shares: np.ndarray


def learn_mix_basis(customers: CustomerData, *, seed: int = 7) -> MixBasis:
    """Learn the directions in which the category mix varies most (truncated SVD); none with fewer than two terms."""
    words = customers.weights is not None and is_free_text(list(customers.categories))
    empty = MixBasis(terms=(), words=words, logs=np.zeros((0, 0)), shares=np.zeros((0, 0)))
    if customers.weights is None:
        return empty
    terms = sorted(common_terms(customers.weights, customers.categories, words=words, most=sys.maxsize)[-1])
    if len(terms) < 2:
        return empty
    logs, shares = mix_features(customers, terms=terms, words=words)
    bought = np.asarray((logs > 0).sum(axis=0)).ravel()
    idf = np.log((1 + logs.shape[0]) / (1 + bought)) + 1
    return MixBasis(
        terms=tuple(terms),
        words=words,
        logs=_directions(logs, weights=idf, seed=seed),
        shares=_directions(shares, weights=np.ones(len(terms)), seed=seed),
    )


def mix_features(
    customers: CustomerData, *, terms: Sequence[str], words: bool
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return log(1 + amount) and square-root shares of the terms, each customers x terms."""
    if customers.weights is None or not len(terms):
        nothing = sparse.csr_array((len(customers.features), len(terms)))
        return nothing, nothing
    weights, names = term_weights(customers.weights, list(customers.categories), words=words)
    amounts = align_terms(weights, names, to=list(terms))
    amounts.data = np.maximum(amounts.data, 0.0)
    total = np.asarray(amounts.sum(axis=1)).ravel()
    shares = sparse.csr_array(sparse.diags_array(1.0 / np.sqrt(np.where(total > 0, total, 1.0))) @ amounts.sqrt())
    return amounts.log1p(), shares


def mix_shares(weights: sparse.csr_array, names: list[str], *, terms: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return square roots of the shares of the terms in what was bought (Hellinger), and a flag of who bought any."""
    amounts = align_terms(weights, names, to=terms).toarray()
    total = amounts.sum(axis=1)
    bought = total > 0
    return np.sqrt(amounts / np.where(bought, total, 1.0)[:, None]), bought


def _directions(values: sparse.csr_array, *, weights: np.ndarray, seed: int) -> np.ndarray:
    """Return the scaled directions of a matrix, terms x components."""
    from sklearn.decomposition import TruncatedSVD  # slow to import, and not needed to assign a customer

    n_components = min(MAX_COMPONENTS, values.shape[1] - 1)
    weighted = sparse.csr_matrix(values.multiply(weights))
    with np.errstate(divide="ignore", invalid="ignore"):  # identical customers have no variance to explain
        components = TruncatedSVD(n_components, random_state=seed).fit(weighted).components_.T * weights[:, None]
    spread = (values @ components).std(axis=0).max()
    return components * (MIX_SPREAD / spread if spread > 0 else 1.0)
