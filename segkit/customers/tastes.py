"""Tastes: what a customer buys, as log amounts and as square-root shares of terms, and the directions they vary in."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from segkit.customers.features import Signals
from segkit.customers.terms import aligned, are_free_text, common_terms, term_weights

COMPONENTS = 40  # directions kept of the logs, and of the shares
SPREAD = 3.0  # of the widest direction, beside z-scores of behaviour


@dataclass(frozen=True)
class Basis:
    """Directions of taste: terms x components, for log amounts (weighted by inverse document frequency) and shares."""

    terms: tuple[str, ...]
    words: bool
    logs: np.ndarray
    shares: np.ndarray


def learn_basis(customers: Signals, *, seed: int = 7) -> Basis:
    """The directions in which tastes vary most (truncated SVD).

    Takes  signals; without categories, or with fewer than two terms in common, the basis is empty
    """
    words = customers.weights is not None and are_free_text(list(customers.categories))
    empty = Basis(terms=(), words=words, logs=np.zeros((0, 0)), shares=np.zeros((0, 0)))
    if customers.weights is None:
        return empty
    terms = sorted(common_terms(customers.weights, customers.categories, words=words, most=sys.maxsize)[-1])
    if len(terms) < 2:
        return empty
    logs, shares = tastes(customers, terms=terms, words=words)
    bought = np.asarray((logs > 0).sum(axis=0)).ravel()
    idf = np.log((1 + logs.shape[0]) / (1 + bought)) + 1
    return Basis(
        terms=tuple(terms),
        words=words,
        logs=_directions(logs, weights=idf, seed=seed),
        shares=_directions(shares, weights=np.ones(len(terms)), seed=seed),
    )


def tastes(customers: Signals, *, terms: Sequence[str], words: bool) -> tuple[sparse.csr_array, sparse.csr_array]:
    """log(1 + amount) of each term, and square roots of the shares of the terms, customers x terms."""
    if customers.weights is None or not len(terms):
        nothing = sparse.csr_array((len(customers.features), len(terms)))
        return nothing, nothing
    weights, names = term_weights(customers.weights, list(customers.categories), words=words)
    amounts = aligned(weights, names, to=list(terms))
    amounts.data = np.maximum(amounts.data, 0.0)
    total = np.asarray(amounts.sum(axis=1)).ravel()
    shares = sparse.csr_array(sparse.diags_array(1.0 / np.sqrt(np.where(total > 0, total, 1.0))) @ amounts.sqrt())
    return amounts.log1p(), shares


def mix_shares(weights: sparse.csr_array, names: list[str], *, terms: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the shares of the terms in what was bought (Hellinger), and who bought any of them."""
    amounts = aligned(weights, names, to=terms).toarray()
    total = amounts.sum(axis=1)
    bought = total > 0
    return np.sqrt(amounts / np.where(bought, total, 1.0)[:, None]), bought


def _directions(values: sparse.csr_array, *, weights: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD  # slow to import, and not needed to place a customer

    n_components = min(COMPONENTS, values.shape[1] - 1)
    weighted = sparse.csr_matrix(values.multiply(weights))
    with np.errstate(divide="ignore", invalid="ignore"):  # customers all alike have no variance to be explained
        components = TruncatedSVD(n_components, random_state=seed).fit(weighted).components_.T * weights[:, None]
    spread = (values @ components).std(axis=0).max()
    return components * (SPREAD / spread if spread > 0 else 1.0)
