"""Labels: categories and product names in words that people use."""

import pytest
from scipy import sparse

from segkit.personas.naming import distinct_terms, label, phrase_weights, phrases_of, tidy


def test_names_of_categories_are_said_as_people_say_them() -> None:
    assert tidy("FRZN  MEAT/MEAT DINNERS") == "frozen meat" and tidy("soft_drinks ") == "soft drinks"
    assert tidy("VEGETABLES - ALL OTHERS") == "vegetables" and tidy("/") == "/"
    assert tidy("Toys > Games") == "toys & games"


def test_a_label_of_the_source_comes_first() -> None:
    assert label("PNT BTR", labels={"PNT BTR": "peanut butter"}) == "peanut butter"
    assert label("PNT BTR", labels={}) == "peanut butter" and label("TEA") == "tea"


@pytest.mark.parametrize(
    ("name", "held", "not_held"),
    [
        ("JUMBO BAG RED RETROSPOT", {"jumbo bag", "bag red retrospot"}, {"bag red", "red"}),
        ("HOT WATER BOTTLE TEA AND SYMPATHY", {"hot water bottle", "tea and sympathy"}, {"tea and", "and sympathy"}),
        ("SET OF 3 CAKE TINS", {"cake tins", "cake"}, {"set", "set of"}),
        ("12 / 24", set(), {"12"}),
    ],
)
def test_phrases_are_whole_things(name: str, held: set[str], not_held: set[str]) -> None:
    found = set(phrases_of(name))
    assert held <= found and not not_held & found


def test_what_was_bought_is_added_up_by_phrase_and_single_products_are_left_out() -> None:
    names = [f"JUMBO BAG {kind}" for kind in ("APPLE", "PEAR", "PLUM", "OWL", "CAT")] + ["ODD LAMP"]
    bought = sparse.csr_array([[1.0, 2, 0, 0, 0, 5], [0, 0, 0, 0, 3, 0]])
    weights, phrases = phrase_weights(bought, names)
    assert phrases == ["bag", "jumbo", "jumbo bag"]
    assert weights.toarray()[:, phrases.index("jumbo bag")].tolist() == [3.0, 3.0]


def test_no_word_is_told_twice() -> None:
    assert distinct_terms(["jumbo bag", "bag", "lunch bag", "clock", "jumbo clock"], most=3) == ["jumbo bag", "clock"]
