"""Needs: what customers buy together, as a few non-negative factors that can be named and read.

The factors describe (personas, pages, exports); the anticipation space does not use them and stays linear. Applied to a
customer they are linear too: a category belongs to needs by fixed shares, a need is a weighted sum of what was bought.
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
MAX_TERMS = 500  # that needs are learnt from, the most bought first
TERMS_PER_NAME = 3  # terms that name a need
MAX_ITERATIONS = 200  # of the factorisation; it is read, not optimised to the last digit
DECIMALS = 9


@dataclass(frozen=True)
class Needs:
    """`shares` (terms x needs): how much of what is spent on a term belongs to each need; a row sums to one or zero."""

    terms: tuple[str, ...]
    words: bool
    names: tuple[str, ...]
    shares: np.ndarray


def learn_needs(customers: CustomerData, *, count: int = DEFAULT_NEEDS, seed: int = 7) -> Needs | None:
    """Factorise the category mix, or the words of categories where they are free text (Lee & Seung 1999).

    Takes  signals with weights
    Gives  Needs, each named by the terms that belong to it most; None where there are fewer than two common terms

    Parameters
    ----------
    count : more needs are finer and harder to tell apart
    seed : kept for the record; the start is the singular vectors, so that nothing is drawn
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
    loads, factors = _factorise(sparse.csr_matrix(logs.multiply(idf)), count=count, seed=seed)
    part = factors * loads.mean(axis=0)[:, None]
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
    """How much of what each customer bought belongs to each need.

    Takes  needs, of `learn_needs`; signals with weights, any date; categories unknown to the needs belong to none
    Gives  by customer_id: "needs: <names of terms>", shares 0-1; zeros for customers who bought nothing; no column
           where there are no needs
    """
    if needs is None:
        return pd.DataFrame(index=customers.features.index)
    shares = category_shares(needs, list(customers.categories))
    whole = np.asarray(customers.weights.sum(axis=1)).ravel()
    values = (customers.weights @ shares) / np.where(whole > 0, whole, 1.0)[:, None]
    return pd.DataFrame(values, index=customers.features.index, columns=list(needs.names)).round(DECIMALS)


def need_table(shares: pd.DataFrame) -> pd.DataFrame:
    """What customers need, told on one page.

    Takes  shares: of `need_shares`
    Gives  need (plain words), share (mean over customers who bought), share_low, share_high (95 %), main (share of
           them whose need it is above all: the furthest above what is usual, in standard deviations), main_low,
           main_high (null where so few are of it that they could be known); largest first
    """
    buyers = shares[shares.sum(axis=1) > 0]
    above = (buyers - buyers.mean()) / buyers.std().replace(0, np.nan)
    largest = above.fillna(0.0).to_numpy().argmax(axis=1) if len(buyers.columns) else np.zeros(0, dtype=int)
    sizes = np.bincount(largest, minlength=len(buyers.columns))
    hides = suppressed_cells(sizes)
    rows = [
        (
            describe(name).label,
            *mean_interval(buyers[name]),
            *((np.nan,) * 3 if hides[i] else proportion_interval(sizes[i], len(buyers))),
        )
        for i, name in enumerate(buyers.columns)
    ]
    table = pd.DataFrame(rows, columns=["need", *_interval_columns("share"), *_interval_columns("main")])
    return table.sort_values(["share", "need"], ascending=[False, True], ignore_index=True)


def needs_to_arrays(needs: Needs) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Needs as a part of the model (arrays, meta): what `needs_from` reads back."""
    return {"shares": needs.shares}, {"terms": list(needs.terms), "words": needs.words, "names": list(needs.names)}


def needs_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> Needs:
    """The needs that a run kept."""
    return Needs(
        terms=tuple(meta["terms"]), words=bool(meta["words"]), names=tuple(meta["names"]), shares=arrays["shares"]
    )


def load_needs(run: Run) -> Needs | None:
    """The needs of a run; None where it learnt none."""
    if not (run.path / "model" / "needs.npz").is_file():
        return None
    return needs_from_arrays(*run.load_model(part="needs"))


def category_shares(needs: Needs, categories: list[str]) -> np.ndarray:
    """How much of each category belongs to each need (categories x needs); a name by its known words."""
    identity = sparse.csr_array(np.eye(len(categories)))
    split, names = term_weights(identity, categories, words=needs.words)
    matched = align_terms(split, names, to=list(needs.terms))
    count = np.asarray(matched.sum(axis=1)).ravel()
    return (matched @ needs.shares) / np.where(count > 0, count, 1.0)[:, None]


def _factorise(logs: sparse.csr_matrix, *, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Customers x needs, and needs x terms."""
    loads, factors, _rounds = non_negative_factorization(
        logs, n_components=count, init="nndsvda", random_state=seed, max_iter=MAX_ITERATIONS, tol=0.0
    )
    return loads, factors


def _interval_columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _name_needs(part: np.ndarray, shares: np.ndarray, terms: list[str]) -> tuple[str, ...]:
    """A need by the terms that are large in it and belong to it rather than to others; no name twice."""
    found: list[str] = []
    for need in range(len(part)):
        order = np.argsort(-part[need] * shares[:, need], kind="stable")[:TERMS_PER_NAME]
        name = "needs: " + ", ".join(terms[i].lower() for i in order)
        found.append(name if name not in found else f"{name} ({need + 1})")
    return tuple(found)
