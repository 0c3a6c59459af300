"""Facts: every figure of a text comes from one, and nothing else gets out."""

import numpy as np
import pytest

from segkit.personas.facts import Fact, FactError, fact_table, facts_from_table, render, verify, with_forms
from segkit.tables import check

FACTS = [
    Fact("customers", "S01", 1234.0, "customers", "members"),
    Fact("share", "S01", 0.413, "share", "members / everyone"),
    Fact("first_need", "S01", None, "name", "by effect size", text="7 up & {rum}"),
    Fact("spend", "S01", 24189.4, "money", "mean"),
    Fact("customers", "S02", 9.0, "customers", "members"),
    Fact("unknown", "S02", float("nan"), "share", "not known"),
]


def test_placeholders_are_filled_with_the_facts_of_the_segment() -> None:
    text = "{customers} customers ({share}) want {first_need} for {spend}."
    assert render(text, FACTS, segment="S01") == "1,234 customers (41\u00a0%) want 7 up & {rum} for 24\u00a0k."
    assert render("{customers} customers", FACTS, segment="S02") == "9 customers"
    assert render("no figure at all", [], segment="S09") == "no figure at all"


@pytest.mark.parametrize(
    "text",
    [
        "they buy 3 things",
        "S01 grows",
        "two of {customers}",
        "Twice as much",
        "a dozen {first_need}",
        "half of them",
        "up by {share}%",
        "ten percent",
        "twenty orders",
        "ninety-nine of them",
        "a fifth of revenue",
        "several billions",
        "in ٣ weeks",
        "½ of them",
    ],
)
def test_digits_and_number_words_outside_a_placeholder_are_refused(text: str) -> None:
    with pytest.raises(FactError, match=r"S01: the text '.*' holds \[.+\] outside a placeholder\. Make it a fact\."):
        render(text, FACTS, segment="S01")


@pytest.mark.parametrize("text", ["Often, soft wooden tents", "someone weighty attends", "the tenth"[:5]])
def test_words_that_only_contain_a_number_word_are_let_through(text: str) -> None:
    assert render(text, FACTS, segment="S01") == text


@pytest.mark.parametrize("text", ["{Customers} of them", "{ customers }", "{customers", "only {} of them"])
def test_a_placeholder_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(FactError, match="S01: "):
        render(text, FACTS, segment="S01")


def test_a_missing_fact_is_named_and_facts_of_others_do_not_count() -> None:
    with pytest.raises(FactError, match=r"S02: no fact \['first_need', 'share'\] for the text"):
        render("{share} of {first_need}, {customers}", FACTS, segment="S02")


def test_values_are_shown_in_the_form_of_their_unit() -> None:
    shown = {
        unit: Fact("f", "S01", 0.5, unit, "").formatted() for unit in ("share", "customers", "days", "score", "euro")
    }
    assert shown == {"share": "50\u00a0%", "customers": "0", "days": "0.50", "score": "0.50", "euro": "0.50"}
    assert Fact("f", "S01", None, "share", "").formatted() == "–"


def test_table_of_facts_is_sorted_and_named_by_segment() -> None:
    table = fact_table(FACTS)
    check(table, name="facts")
    assert table["fact"].tolist() == [
        "S01.customers",
        "S01.first_need",
        "S01.share",
        "S01.spend",
        "S02.customers",
        "S02.unknown",
    ]
    assert table.set_index("fact").loc["S01.first_need", "text"] == "7 up & {rum}"
    assert np.isnan(table.set_index("fact").loc["S01.first_need", "value"])


def test_money_carries_the_currency_of_the_source() -> None:
    shown = {unit: Fact("f", "S01", 47.3, unit, "").formatted() for unit in ("USD", "GBP", "CHF", "money")}
    assert shown == {"USD": "$47.3", "GBP": "£47.3", "CHF": "CHF\u00a047.3", "money": "47.3"}


def test_facts_come_back_from_their_table() -> None:
    again = facts_from_table(fact_table(FACTS))
    assert {f"{f.segment}.{f.name}": f.formatted() for f in again} == {
        f"{f.segment}.{f.name}": f.formatted() for f in FACTS
    }


def test_texts_are_derived_again_and_a_form_is_asked_of_each() -> None:
    texts = with_forms([{"segment": "S01", "story": "{customers} of {share}"}], FACTS)
    verify(texts, fact_table(FACTS))
    with pytest.raises(FactError, match=r"S01: 'story' is '1,235 of 41.%', by its facts '1,234 of 41.%'\. Run again"):
        verify(texts.assign(story="1,235 of 41\u00a0%"), fact_table(FACTS))
    with pytest.raises(FactError, match="S01: the text 'more' has no form"):
        verify(texts.assign(more="12 of them"), fact_table(FACTS))
    verify(texts.assign(more="by hand"), fact_table(FACTS), plain=["more"])
    with pytest.raises(FactError, match=r"S01: no fact \['share'\]"):
        verify(texts, fact_table([f for f in FACTS if f.name != "share"]))
