"""Terms: categories as they are, or the words of their names."""

import numpy as np
import pytest
from scipy import sparse

from segkit.customers.category_mix import MAX_CATEGORIES, align_terms, is_free_text, most_common_terms, term_weights

NAMES = ["RED MUG", "RED RED HAT 12", "blue mug"]
WEIGHTS = sparse.csr_array(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))


def test_words_count_once_per_name_in_lower_case() -> None:
    by_word, terms = term_weights(WEIGHTS, NAMES, words=True)
    assert terms == ["blue", "hat", "mug", "red"]
    np.testing.assert_array_equal(by_word.toarray(), [[2, 0, 3, 1], [0, 3, 0, 3]])


def test_categories_are_terms_without_words() -> None:
    same, terms = term_weights(WEIGHTS, NAMES, words=False)
    assert terms == NAMES
    np.testing.assert_array_equal(same.toarray(), WEIGHTS.toarray())


def test_names_without_a_word_give_no_terms() -> None:
    nothing, terms = term_weights(sparse.csr_array(np.ones((2, 2))), ["12", "7-8"], words=True)
    assert terms == [] and nothing.shape == (2, 0)


def test_align_terms_drops_unknown_terms_and_fills_missing_terms_with_zero() -> None:
    found = align_terms(WEIGHTS, ["a", "b", "c"], to=["c", "new", "a"])
    np.testing.assert_array_equal(found.toarray(), [[2, 0, 1], [0, 0, 0]])
    assert align_terms(sparse.csr_array((2, 0)), [], to=["a"]).toarray().tolist() == [[0.0], [0.0]]


def test_most_common_breaks_ties_by_name_and_leaves_rare_terms_out() -> None:
    bought = sparse.csr_array(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [5, 9, 0, 1.0]]))
    assert most_common_terms(bought, ["b", "a", "d", "c"], max_terms=9, min_buyers=1) == ["a", "b", "c", "d"]
    assert most_common_terms(bought, ["b", "a", "d", "c"], max_terms=1, min_buyers=1) == ["a"]
    assert most_common_terms(bought, ["b", "a", "d", "c"], max_terms=9, min_buyers=2) == ["a", "b"]


@pytest.mark.parametrize(("count", "free"), [(MAX_CATEGORIES, False), (MAX_CATEGORIES + 1, True)])
def test_names_are_free_text_only_above_the_limit(count: int, free: bool) -> None:
    assert is_free_text([str(i) for i in range(count)]) is free
