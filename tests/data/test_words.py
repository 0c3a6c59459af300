"""How a source says things: labels of categories, and its currency."""

import pytest

from segkit.data.sources import open_source
from segkit.data.words import LONGEST, currency_of, labels_of
from segkit.errors import SourceError


def test_labels_and_currency_are_read_and_may_be_left_out() -> None:
    assert labels_of({"FRZN PIZZA": " frozen  pizza", 7: "seven up"}, where="x") == {
        "FRZN PIZZA": "frozen pizza",
        "7": "seven up",
    }
    assert (
        labels_of(None, where="x") == {}
        and currency_of(None, where="x") == ""
        and currency_of("EUR", where="x") == "EUR"
    )


@pytest.mark.parametrize("value", [["a"], {"A": ""}, {"A": None}, {"A": "x" * (LONGEST + 1)}])
def test_labels_that_no_name_could_hold_are_refused(value: object) -> None:
    with pytest.raises(SourceError, match="shop.yaml: (labels maps|the labels of)"):
        labels_of(value, where="shop.yaml")


@pytest.mark.parametrize("value", ["$", "euro", "eur", 3])
def test_a_currency_is_three_capital_letters(value: object) -> None:
    with pytest.raises(SourceError, match="shop.yaml: currency .* is not a code such as USD"):
        currency_of(value, where="shop.yaml")


def test_the_built_in_source_says_its_aisles_in_plain_words() -> None:
    opened = open_source("complete_journey")
    assert opened.currency == "USD" and opened.labels["PNT BTR/JELLY/JAMS"] == "peanut butter and jam"
    assert not [label for label in opened.labels.values() if label.isupper() or "/" in label]
