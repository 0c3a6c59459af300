"""Learn needs: groups of categories that customers buy together, found by non-negative factorisation.

Needs describe customers in personas, pages and exports; the anticipation space does not use them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import non_negative_factorization

from segkit.customers.category_mix import align_terms, common_terms, is_free_text, term_weights
from segkit.customers.features import CustomerData
from segkit.data.runs import Run
from segkit.format import FLOOR, suppressed_cells
from segkit.stats import mean_interval, proportion_interval
from segkit.vocabulary import describe

DEFAULT_NEEDS = 8
MAX_TERMS = 500  # that needs are learnt from, the most common
TERMS_PER_NAME = 3  # terms that name a need
MAX_ITERATIONS = 200  # of the factorisation; needs are read, so the last digits do not matter
DECIMALS = 9


@dataclass(frozen=True)
class Needs:
    """Hold the needs of a run.

    ``shares`` (terms x needs) is how much of the spend on a term belongs to each need; a row sums to one or zero.
    ``words`` says whether terms are words of category names.
    """

    terms: tuple[str, ...]
    words: bool
    names: tuple[str, ...]
    shares: np.ndarray


def learn_needs(customers: CustomerData, *, count: int = DEFAULT_NEEDS, seed: int = 7) -> Needs | None:
    """Learn needs by factorising the category mix, or the words of free-text categories (Lee & Seung 1999).

    Parameters
    ----------
    customers
        With amounts by category.
    count
        Larger gives finer needs, which are harder to distinguish.
    seed
        Recorded only: the start is the singular vectors, so nothing is random.

    Returns
    -------
    Needs or None
        Each named by the terms that belong to it most; None with fewer than two common terms.
    """
    if customers.weights is None:
        return None
    words = is_free_text(list(customers.categories))
    weights, names, terms = common_terms(
        customers.weights, customers.categories, words=words, most=MAX_TERMS, rarest=FLOOR
    )
    count = min(count, len(terms) - 1, weights.shape[0] - 1)
    if count < 1:
        return None
    logs = sparse.csr_matrix(align_terms(weights, names, to=terms))
    logs.data = np.log1p(logs.data)
    bought = np.asarray((logs > 0).sum(axis=0)).ravel()
    idf = np.log((1 + logs.shape[0]) / (1 + bought)) + 1
    weighted, options = sparse.csr_matrix(logs.multiply(idf)), {"max_iter": MAX_ITERATIONS, "tol": 0.0}
    loadings, factors, _ = non_negative_factorization(
        weighted, n_components=count, init="nndsvda", random_state=seed, **options
    )
    part = factors * loadings.mean(axis=0)[:, None]
    whole = part.sum(axis=0)
    shares = (part / np.where(whole > 0, whole, 1.0)).T
    order = np.argsort(-part.sum(axis=1), kind="stable")
    return Needs(
        terms=tuple(terms),
        words=words,
        names=_name_needs(part[order], shares[:, order], terms),
        shares=shares[:, order],
    )


def need_shares(needs: Needs | None, customers: CustomerData) -> pd.DataFrame:
    """Compute how much of what each customer bought belongs to each need.

    Parameters
    ----------
    needs
        Of ``learn_needs``; None gives a table without columns.
    customers
        At any date; categories unknown to the needs belong to none.

    Returns
    -------
    pd.DataFrame
        By customer_id: "needs: <names of terms>", shares 0-1; zeros for customers who bought nothing.
    """
    if needs is None:
        return pd.DataFrame(index=customers.features.index)
    shares = category_shares(needs, list(customers.categories))
    whole = np.asarray(customers.weights.sum(axis=1)).ravel()
    values = (customers.weights @ shares) / np.where(whole > 0, whole, 1.0)[:, None]
    return pd.DataFrame(values, index=customers.features.index, columns=list(needs.names)).round(DECIMALS)


def need_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Summarise needs over customers.

    Parameters
    ----------
    shares
        Of ``need_shares``.

    Returns
    -------
    pd.DataFrame
        need (label), share (mean over customers who bought), share_low, share_high (95 %), main (share of customers
        with it as main need: the furthest above average, in standard deviations), main_low, main_high (null for small
        groups); largest first.
    """
    buyers = shares[shares.sum(axis=1) > 0]
    above = (buyers - buyers.mean()) / buyers.std().replace(0, np.nan)
    largest = above.fillna(0.0).to_numpy().argmax(axis=1) if len(buyers.columns) else np.zeros(0, dtype=int)
    sizes = np.bincount(largest, minlength=len(buyers.columns))
    suppressed = suppressed_cells(sizes)
    rows = [
        (
            describe(name).label,
            *mean_interval(buyers[name]),
            *((np.nan,) * 3 if suppressed[i] else proportion_interval(sizes[i], len(buyers))),
        )
        for i, name in enumerate(buyers.columns)
    ]
    table = pd.DataFrame(rows, columns=["need", *_interval_columns("share"), *_interval_columns("main")])
    return table.sort_values(["share", "need"], ascending=[False, True], ignore_index=True)


def needs_to_arrays(needs: Needs) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return needs as arrays and metadata for the model; ``needs_from_arrays`` reads them."""
    return {"shares": needs.shares}, {"terms": list(needs.terms), "words": needs.words, "names": list(needs.names)}


def needs_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> Needs:
    """Rebuild needs from arrays and metadata."""
    return Needs(
        terms=tuple(meta["terms"]), words=bool(meta["words"]), names=tuple(meta["names"]), shares=arrays["shares"]
    )


def load_needs(run: Run) -> Needs | None:
    """Load the needs of a run; None where it learnt none."""
    if not (run.path / "model" / "needs.npz").is_file():
        return None
    return needs_from_arrays(*run.load_model(part="needs"))


def category_shares(needs: Needs, categories: list[str]) -> np.ndarray:
    """Return how much of each category belongs to each need (categories x needs), by the known words of free text."""
    identity = sparse.csr_array(np.eye(len(categories)))
    split, names = term_weights(identity, categories, words=needs.words)
    matched = align_terms(split, names, to=list(needs.terms))
    count = np.asarray(matched.sum(axis=1)).ravel()
    return (matched @ needs.shares) / np.where(count > 0, count, 1.0)[:, None]


def _interval_columns(name: str) -> tuple[str, str, str]:
    """Name the columns of a figure and its interval."""
    return name, f"{name}_low", f"{name}_high"


def _name_needs(part: np.ndarray, shares: np.ndarray, terms: list[str]) -> tuple[str, ...]:
    """Name each need by the terms that are large in it and belong to it rather than to others; no name twice."""
    found: list[str] = []
    for need in range(len(part)):
        order = np.argsort(-part[need] * shares[:, need], kind="stable")[:TERMS_PER_NAME]
        name = "needs: " + ", ".join(terms[i].lower() for i in order)
        found.append(name if name not in found else f"{name} ({need + 1})")
    return tuple(found)
