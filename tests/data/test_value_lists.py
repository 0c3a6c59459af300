"""Labels of categories, the currency and the needs of a source."""

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


def test_needs_are_a_mapping_or_the_kinds_alone() -> None:
    assert parsed("").needs.kinds == ("purchase",) and parsed("").needs.things is None
    kinds = "kinds: {purchase: customer, visit: customer, mail: company}\n"
    assert parsed(kinds + "needs: [visit]").needs == parsed(kinds + "needs: {kinds: visit}").needs
    found = parsed(kinds + "needs: {names: {N03: ' Afternoon  tea'}, never_offer: [wine, 7]}").needs
    assert (found.kinds, found.names, found.never_offer) == (("purchase",), {"N03": "Afternoon tea"}, ("wine", "7"))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ("5", "needs: found 5, expected a mapping such as"),
        ("[mail]", "needs: 'mail' is not a kind of event that customers do"),
        ("{from: words}", "needs: from: found 'words', expected item or category"),
        ("{from: item}", "needs: from: item is a column of no table. Add 'item: <column>' to one."),
        ("{frm: item}", "needs: unknown key 'frm'. Did you mean 'from'?"),
        ("{names: [tea]}", "needs: names: found .'tea'., expected a name of 1 to 40 characters for each need id"),
        ("{never_offer: ['']}", "needs: never_offer 1: found '', expected a list of things"),
    ],
)
def test_needs_that_cannot_be_read_are_refused_in_one_message(needs: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"shop.yaml: {message}"):
        parsed(f"kinds: {{purchase: customer, mail: company}}\nneeds: {needs}")
