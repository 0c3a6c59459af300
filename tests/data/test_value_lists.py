"""Labels of categories and the currency of a source."""

from pathlib import Path

import pytest

from segkit.data.sources import open_source
from segkit.data.spec import LONGEST_LABEL, Source, parse_source
from segkit.errors import SourceError

SHOP = "name: shop\ntimezone: UTC\nevents: [{path: a.csv, columns: {customer_id: who, timestamp: when}}]\n"


def parsed(more: str) -> Source:
    """Parse the small source with more lines."""
    return parse_source(SHOP + more, label="shop.yaml", base=Path())


def test_labels_and_currency_are_optional() -> None:
    assert parsed("labels: {FRZN PIZZA: ' frozen  pizza', 7: seven up}").labels == {
        "FRZN PIZZA": "frozen pizza",
        "7": "seven up",
    }
    assert parsed("").labels == {} and parsed("").currency == "" and parsed("currency: EUR").currency == "EUR"


@pytest.mark.parametrize("value", ["[a]", "{A: ''}", "{A: }", f"{{A: {'x' * (LONGEST_LABEL + 1)}}}"])
def test_labels_too_long_or_empty_are_refused(value: str) -> None:
    with pytest.raises(SourceError, match="shop.yaml: labels.*: found .*, expected a text of 1 to 40 characters for"):
        parsed(f"labels: {value}")


@pytest.mark.parametrize("value", ["$", "euro", "eur", "3"])
def test_a_currency_is_three_capital_letters(value: str) -> None:
    with pytest.raises(SourceError, match="shop.yaml: currency: found .*, expected a currency code such as USD"):
        parsed(f"currency: {value}")


def test_the_built_in_source_labels_its_categories() -> None:
    opened = open_source("complete_journey")
    assert opened.currency == "USD" and opened.labels["PNT BTR/JELLY/JAMS"] == "peanut butter and jam"
    assert not [label for label in opened.labels.values() if label.isupper() or "/" in label]
