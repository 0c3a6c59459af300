"""Every figure of a text is a fact, and facts equal figures computed by hand."""

import numpy as np
import pandas as pd
import pytest

from segkit.personas.evidence import BY_MEDIAN, MEMBER_FACTS, SEGMENT_FACTS, CardTables, claimed_needs, collect_facts
from segkit.personas.facts import (
    Fact,
    FactError,
    fact_table,
    facts_from_table,
    render,
    verify,
    with_forms,
)
from segkit.personas.naming import NO_NEED
from segkit.personas.traits import segment_traits
from segkit.tables import check
from tests.personas.helpers import PERIOD, bought_by, drinks, facts_of, members_of, needs_of

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
    assert render(text, FACTS, segment="S01") == "1,234 customers (41%) want 7 up & {rum} for 24,200."
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
def test_words_that_only_contain_a_number_word_are_allowed(text: str) -> None:
    assert render(text, FACTS, segment="S01") == text


@pytest.mark.parametrize("text", ["{Customers} of them", "{ customers }", "{customers", "only {} of them"])
def test_a_malformed_placeholder_is_refused(text: str) -> None:
    with pytest.raises(FactError, match="S01: "):
        render(text, FACTS, segment="S01")


def test_a_missing_fact_is_named_and_facts_of_others_do_not_count() -> None:
    with pytest.raises(FactError, match=r"S02: no fact \['first_need', 'share'\] for the text"):
        render("{share} of {first_need}, {customers}", FACTS, segment="S02")


def test_values_are_shown_in_the_form_of_their_unit() -> None:
    shown = {
        unit: Fact("f", "S01", 0.5, unit, "").formatted() for unit in ("share", "customers", "days", "score", "euro")
    }
    assert shown == {"share": "50%", "customers": "0", "days": "0.50", "score": "0.50", "euro": "0.50"}
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
    assert shown == {"USD": "$47", "GBP": "£47", "CHF": "CHF\u00a047", "money": "47"}


def test_facts_survive_their_table() -> None:
    again = facts_from_table(fact_table(FACTS))
    assert {f"{f.segment}.{f.name}": f.formatted() for f in again} == {
        f"{f.segment}.{f.name}": f.formatted() for f in FACTS
    }


def test_verify_finds_changed_texts_missing_forms_and_missing_facts() -> None:
    texts = with_forms([{"segment": "S01", "story": "{customers} of {share}"}], FACTS)
    verify(texts, fact_table(FACTS))
    with pytest.raises(FactError, match=r"S01: 'story' is '1,235 of 41%', by its facts '1,234 of 41%'\. Run again"):
        verify(texts.assign(story="1,235 of 41%"), fact_table(FACTS))
    with pytest.raises(FactError, match="S01: the text 'more' has no form"):
        verify(texts.assign(more="12 of them"), fact_table(FACTS))
    verify(texts.assign(more="by hand"), fact_table(FACTS), plain=["more"])
    with pytest.raises(FactError, match=r"S01: no fact \['share'\]"):
        verify(texts, fact_table([f for f in FACTS if f.name != "share"]))


def table_of(segments: pd.DataFrame, tables: CardTables, **more: object) -> pd.DataFrame:
    table = fact_table(facts_of(segments, tables, **more))
    check(table, name="facts")
    return table.set_index("fact")


def test_nouns_stand_in_the_number_of_their_figure() -> None:
    facts = [Fact("days", "S01", 1.2, "whole", ""), Fact("things", "S01", 8.4, "lines", "")]
    text = "every {days} <day|days>, {things} <thing|things>"
    assert render(text, facts, segment="S01") == "every 1 day, 8.4 things"


def test_facts_of_a_need_equal_shares_computed_by_hand(segments: pd.DataFrame) -> None:
    table = table_of(segments.assign(need=["N01", None, None]), CardTables(needs_of()), needs=drinks())
    value = table["value"]
    assert value["S01.need_share"] == pytest.approx(0.5) and value["S01.need_share_others"] == pytest.approx(0.2)
    assert value["S01.need_buyers"] == 1 and value["S01.need_lead"] == 1 and table.loc["S01.need", "text"] == "drinks"
    assert table.loc["S01.thing_list", "text"] == "tea, rum and gin"
    assert value["S01.thing_1_share"] == pytest.approx(0.25) and value["S01.thing_1_share_others"] == pytest.approx(0.1)
    assert "S02.need" not in table.index and table.loc["S02.largest_need", "text"] == "breakfast"


def test_a_segment_has_only_a_need_that_its_card_may_claim(segments: pd.DataFrame) -> None:
    _features, segment = members_of(segments)
    customers, led = bought_by(segment, S01=0.5), pd.Series({"S01": "N01", "S02": "N01", "S13": None})
    claimed = claimed_needs(led, customers, segment, needs=drinks())
    assert claimed["S01"] == "N01" and pd.isna(claimed[["S02", "S13"]]).all()
    assert claimed_needs(led, customers, segment, needs=None).equals(led)


def test_facts_equal_figures_computed_by_hand(segments: pd.DataFrame) -> None:
    table = table_of(segments, CardTables(favourites=needs_of()), currency="GBP")
    features, segment = members_of(segments)
    for name in (n for n in SEGMENT_FACTS if n in segments):
        for row in segments.itertuples():
            if not np.isnan(getattr(row, name)):
                assert table.loc[f"{row.segment}.{name}", "value"] == pytest.approx(getattr(row, name))
    names = [n for n in MEMBER_FACTS if n in features]
    for own in segments["segment"]:
        for name in names:
            by_hand = sorted(features[name][segment == own])
            here = np.median(by_hand) if name in BY_MEDIAN else sum(by_hand) / len(by_hand)
            assert table.loc[f"{own}.{name}", "value"] == pytest.approx(here)
    assert table.loc["S01.spend_now", "unit"] == "GBP" and "S01.margin" not in table.index, "unknown is left out"


def test_each_fact_records_how_it_was_computed_under_a_unique_name(segments: pd.DataFrame) -> None:
    actions = pd.DataFrame({"segment": ["S01"], "offer": ["TV and audio"], "moment": ["on Mondays"]})
    segments = segments.assign(need_name=["Hearty home cooking", *[NO_NEED] * (len(segments) - 1)])
    table = table_of(segments, CardTables(favourites=needs_of(S01=["TEA", "RUM"]), actions=actions))
    assert (table["how"].str.len() > 5).all() and table.index.is_unique
    names = {f"S01.copy_{name}": table.loc[f"S01.copy_{name}", "text"] for name in ("need", "job", "offer", "moment")}
    wanted = ["dinner ingredients", "cook the way it was always done", "TV and audio", "on Mondays"]
    assert list(names.values()) == wanted
    assert "S02.copy_need" not in table.index


def test_traits_are_facts_only_where_enough_members_have_attributes() -> None:
    index = pd.Index([f"c{i:03d}" for i in range(120)], name="customer_id")
    segment = pd.Series(np.repeat(["S01", "S02", "S03"], 40), index=index)
    known = pd.Series(np.r_[np.ones(40), np.ones(40), np.arange(40) < 15], index=index)
    old = pd.Series(np.r_[np.ones(36), np.zeros(4), np.tile([1.0, 0, 0, 0], 10), np.zeros(40)], index=index)
    features = pd.DataFrame({"active_days": 3.0, "demographic: age = 65+": old, "missing: age": 1 - known}, index=index)
    segments = pd.DataFrame({"segment": ["S01", "S02", "S03"], "customers": 40, "customer_share": 1 / 3})
    tables = CardTables(favourites=needs_of(), traits=segment_traits(features, segment))
    about = {"customers": bought_by(segment), "features": features, "segment": segment, "period": PERIOD}
    table = fact_table(collect_facts(segments, tables=tables, **about)).set_index("fact")
    assert table.loc["S01.who_1", "text"] == "Age 65+" and table.loc["S01.who_1_share", "value"] == 0.9
    assert table.loc["S02.known_share", "value"] == 1 and "S02.who_1" not in table.index
    assert "S03.known_share" not in table.index, "fifteen are below the floor"
