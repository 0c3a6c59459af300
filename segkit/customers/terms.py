"""Terms: the categories customers buy in, or the words of their names where there are too many to count."""

import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

MOST_CATEGORIES = 500  # more distinct names than this are free text: needs come from their words
RAREST = 5  # customers; a term that fewer bought says nothing that would hold
WORD = re.compile(r"[^\W\d_]{2,}")


def are_free_text(names: list[str]) -> bool:
    """Whether there are so many distinct categories that they are better read word by word."""
    return len(names) > MOST_CATEGORIES


def words_of(name: str) -> list[str]:
    """The distinct words of a category's name, in lower case, sorted.

    >>> words_of("RED wine, 2 x red")
    ['red', 'wine']
    """
    return sorted({word.lower() for word in WORD.findall(name)})


def term_weights(weights: sparse.csr_array, names: list[str], *, words: bool) -> tuple[sparse.csr_array, list[str]]:
    """Sum what was bought by category into what was bought by term.

    Takes  weights: customers x categories; names: of the categories
    Gives  customers x terms, and the terms, sorted; the categories themselves where `words` is false

    Parameters
    ----------
    words : split names into their distinct lower-case words; a product counts for each word of its name
    """
    if not words:
        return weights, list(names)
    split = [words_of(name) for name in names]
    terms = sorted({word for found in split for word in found})
    position = {term: i for i, term in enumerate(terms)}
    rows = np.repeat(np.arange(len(names)), [len(s) for s in split])
    columns = np.array([position[word] for found in split for word in found], dtype=int)
    spread = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(terms)))
    return weights @ spread, terms


def aligned(weights: sparse.csr_array, terms: list[str], *, to: list[str]) -> sparse.csr_array:
    """The same matrix with the columns of `to`: unknown terms are dropped, terms nobody bought are zero."""
    position = {term: i for i, term in enumerate(to)}
    coo = weights.tocoo()
    column = np.array([position.get(t, -1) for t in terms], dtype=int)[coo.col] if len(terms) else coo.col
    matched = column >= 0
    return sparse.csr_array((coo.data[matched], (coo.row[matched], column[matched])), shape=(weights.shape[0], len(to)))


def common_terms(
    weights: sparse.csr_array, categories: Sequence[str], *, words: bool, most: int, rarest: int = RAREST
) -> tuple[sparse.csr_array, list[str], list[str]]:
    """What was bought by term, all terms, and those that most customers bought.

    Parameters
    ----------
    weights
        Customers x categories.
    categories
        Their names.
    words
        Split names into words, as `term_weights` does.
    most, rarest
        How many common terms at most, and by how many customers each is bought at least.
    """
    by_term, names = term_weights(weights, list(categories), words=words)
    return by_term, names, most_common(by_term, names, max_terms=most, min_buyers=rarest)


def most_common(weights: sparse.csr_array, terms: list[str], *, max_terms: int, min_buyers: int = RAREST) -> list[str]:
    """The terms that most customers bought, most common first; equal counts by name."""
    counts = np.asarray((weights > 0).sum(axis=0)).ravel()
    order = sorted((i for i in range(len(terms)) if counts[i] >= min_buyers), key=lambda i: (-counts[i], terms[i]))
    return [terms[i] for i in order[:max_terms]]
