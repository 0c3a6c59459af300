"""How a source says things: labels of categories, and its currency."""

from pathlib import Path

import pytest

from segkit.data.sources import open_source
from segkit.data.spec import LONGEST_LABEL, Source, parse_source
from segkit.errors import SourceError

SHOP = "name: shop\ntimezone: UTC\nevents: [{path: a.csv, columns: {customer_id: who, timestamp: when}}]\n"


def parsed(more: str) -> Source:
    """The small source with more lines."""
    return parse_source(SHOP + more, label="shop.yaml", base=Path())


def test_labels_and_currency_are_read_and_may_be_left_out() -> None:
    assert parsed("labels: {FRZN PIZZA: ' frozen  pizza', 7: seven up}").labels == {
        "FRZN PIZZA": "frozen pizza",
        "7": "seven up",
    }
    assert parsed("").labels == {} and parsed("").currency == "" and parsed("currency: EUR").currency == "EUR"


@pytest.mark.parametrize("value", ["[a]", "{A: ''}", "{A: }", f"{{A: {'x' * (LONGEST_LABEL + 1)}}}"])
def test_labels_that_no_name_could_hold_are_refused(value: str) -> None:
    with pytest.raises(SourceError, match="shop.yaml: labels.*: found .*, expected a text of 1 to 40 characters for"):
        parsed(f"labels: {value}")


@pytest.mark.parametrize("value", ["$", "euro", "eur", "3"])
def test_a_currency_is_three_capital_letters(value: str) -> None:
    with pytest.raises(SourceError, match="shop.yaml: currency: found .*, expected a currency code such as USD"):
        parsed(f"currency: {value}")


def test_the_built_in_source_says_its_aisles_in_plain_words() -> None:
    opened = open_source("complete_journey")
    assert opened.currency == "USD" and opened.labels["PNT BTR/JELLY/JAMS"] == "peanut butter and jam"
    assert not [label for label in opened.labels.values() if label.isupper() or "/" in label]
