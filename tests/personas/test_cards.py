"""Cards are written from facts only, and any changed figure is detected."""

import itertools
import json
import re

import pandas as pd
import pytest

from segkit.customers.needs import Needs
from segkit.format import FLOOR
from segkit.personas.cards import CARD_PARTS, has_story, sentences, write_personas
from segkit.personas.evidence import CardTables
from segkit.personas.facts import PLACEHOLDER, FactError, fact_table, facts_from_table, loose_figures, verify
from segkit.personas.traits import segment_signals
from segkit.reports.personas import persona_cards_html
from segkit.tables import check
from segkit.texts import load_texts
from tests.personas.helpers import drinks, facts_of, members_of, needs_of
from tests.reports.card_texts import card_texts

NUMBER = re.compile(r"[\u2212$]?\d[\d,.]*(?:%|\u00a0(?:k|M|bn))?")
ODD_NAMES = ("<b>Tea</b> & {gin} 7", "\u202eחָלָב", "Снек\U0001f37f & co", "A|B <x|y>")


@pytest.fixture
def large(segments: pd.DataFrame) -> pd.DataFrame:
    """The three segments, above the privacy floor; the first comes for drinks."""
    names, needs = ["Top: drinks", "Core buyers", "Fading buyers"], ["Drinks", "no single need", "no single need"]
    return segments.assign(customers=[60, 40, 20], name=names, need=["N01", None, None], need_name=needs)


def rules_of(segments: pd.DataFrame, *, good: bool = True) -> pd.DataFrame:
    rows = [(s, 1, "orders", "orders", "orders", 4.0 + i, 9.0) for i, s in enumerate(segments["segment"])]
    table = pd.DataFrame(rows, columns=["segment", "condition", "item", "words", "unit", "at_least", "below"])
    rates = {"precision": 0.71, "precision_low": 0.61, "precision_high": 0.79}
    return table.assign(good=good, **rates, recall=0.66, recall_low=0.57, recall_high=0.74)


def cards_of(segments: pd.DataFrame, *, good: bool = True, needs: Needs | None = None, **tables: object) -> tuple:
    """The cards, and the table of facts."""
    features, segment = members_of(segments)
    rules, signals = rules_of(segments, good=good), segment_signals(features, segment)
    tables = CardTables(favourites=needs_of(), rules=rules, **tables)
    facts = facts_of(segments, tables, needs=needs or drinks(), currency="USD")
    table = fact_table(facts)
    check(table, name="facts")
    cards = write_personas(segments, facts=facts, signals=signals, rules=rules)
    verify(cards, table)
    return cards.set_index("segment"), table


def test_cards_describe_size_need_habits_forecast_and_rule(large: pd.DataFrame) -> None:
    cards, _ = cards_of(large.assign(spend_change=1.0))
    check(cards.reset_index(), name="personas")
    assert cards.loc["S02", "size"] == "40 customers (33%) bring in 60% of revenue: 1.8 times their share."
    assert cards.loc["S01", "come_for"] == (
        "50% of their spend goes on drinks (other customers: 20%), above all tea, rum and gin."
    )
    assert cards.loc["S01", "how_they_shop"].startswith("They came about every 10 days in the last 6 months (other")
    assert " An order had 3 line items for $20 (other customers: 4.4 for $30)." in cards.loc["S01", "how_they_shop"]
    assert cards.loc["S01", "next"] == (
        "We expect about $100 each from January to March ($90 to $110). That is no clear change from October "
        "to December ($100). 90% are expected to come back."
    )
    assert "($305 to $320), up from $300 (October to December). 80%" in cards.loc["S02", "next"]
    assert "down from $100 (October to December). 20% are expected to come back." in cards.loc["S13", "next"]
    usual, _ = cards_of(large.assign(spend_change=large["segment"].map({"S02": 1.06, "S13": 0.2})))
    assert "it was $300: customers who have spent little usually spend more" in usual.loc["S02", "next"]
    assert "it was $100: customers who have spent much usually spend less" in usual.loc["S13", "next"]
    assert cards.loc["S02", "rule"] == "5 to under 9 orders in 6 months: 71% of those found belong, 66% are found."
    assert not cards.drop(columns="forms").apply(lambda column: column.str.contains("[{}<>]")).any().any()


def test_a_line_with_nothing_to_report_is_left_out(large: pd.DataFrame) -> None:
    cards, _ = cards_of(large, good=False)
    assert (cards["rule"] == "").all() and (cards[["who", "gap", "do", "in_their_words"]] == "").all(axis=None)
    unknown = [c for c in large if c.startswith(("active_share_next", "spend_next", "revenue_share", "spend_now"))]
    cards, _ = cards_of(large.assign(**dict.fromkeys(unknown, float("nan"))))
    assert (cards["next"] == "").all() and cards.loc["S02", "size"] == "40 customers, 33% of all."
    texts = cards.drop(columns="forms")
    assert not texts.apply(lambda column: column.str.contains(r"–|\bnan\b", flags=re.IGNORECASE)).any().any()


def test_a_need_is_claimed_only_where_members_spend_a_real_share_on_it(large: pd.DataFrame) -> None:
    features, segment = members_of(large)
    facts = facts_of(large, needs=drinks())
    for share, others, lead, claimed in [
        (0.16, 0.1, 0.9, True),
        (0.16, 0.15, 0.9, False),  # others do the same
        (0.06, 0.03, 0.9, True),
        (0.04, 0.01, 0.9, False),  # too little of spend
        (0.3, 0.1, 0.4, False),  # a few members spend it all
    ]:
        values = {"need_share": share, "need_share_others": others, "need_lead": lead, "need_buyers": 0.9}
        changed = [f if f.segment != "S01" or f.name not in values else type(f)(
            f.name, f.segment, values[f.name], f.unit, f.how) for f in facts]  # fmt: skip
        card = write_personas(large, facts=changed).set_index("segment").loc["S01"]
        assert ("goes on drinks" in card["come_for"]) is claimed


def test_an_action_and_a_gap_stand_on_the_card_where_there_are_any(large: pd.DataFrame) -> None:
    gap = {"segment": ["S02"], "term": ["Breakfast"], "level": [0.1], "all_buyers": [0.31], "peers": [0.62]}
    action = {"segment": ["S02"], "title": ["Offer a bundle"], "type": ["cross_need"], "customers": [40]}
    action |= {"prize": [4130.0], "prize_low": [1200.0], "prize_high": [7000.0], "prize_unit": ["spend"]}
    action |= {"test": ["Split them in two."], "moment": ["on Mondays"], "condition": ["one in ten takes it up"]}
    action |= {"own": [30], "rest": [10], "need_name": ["Drinks"], "spoken": ["Tea"], "peers": [0.7]}
    cards, _ = cards_of(large, unmet_needs=pd.DataFrame(gap), actions=pd.DataFrame(action))
    assert cards.loc["S02", "gap"] == (
        "62% of similar customers put at least 10% of their spend into breakfast; only 31% of these do."
    )
    assert cards.loc["S02", "do"] == (
        "Offer a bundle, best on Mondays. "
        "70% of other customers of their level buy more tea than 30 of them do. "
        "Worth about $4,100 from January to March ($1,200 to $7,000) if one in ten takes it up, of 40 customers in all."
    )
    assert cards.loc["S02", "test"] == (
        "The idea is for 30 of these customers and 10 of other segments. Split them in two."
    )
    action |= {"need_name": ["Breakfast"], "spends_below": [30.0], "per": ["a quarter"]}
    cards, _ = cards_of(large, unmet_needs=pd.DataFrame(gap), actions=pd.DataFrame(action))
    assert "30 of them spend less than $30 a quarter on tea; 70% of other customers" in cards.loc["S02", "do"]
    assert cards.loc["S02", "gap"] == "", "the same need is not said twice"


def test_no_story_below_the_privacy_floor_and_one_of_twenty(large: pd.DataFrame) -> None:
    small = large.assign(customers=[FLOOR - 1, FLOOR, 60])
    cards, _ = cards_of(small)
    texts = cards.loc["S01"].drop(["name", "forms"])
    assert texts.pop("caution") == "Too few customers to describe: fewer than 20." and set(texts) == {""}
    assert cards.loc["S02", "size"] == "" and "would reveal" in cards.loc["S02", "caution"]
    assert cards.loc["S13", "size"] != "" and cards.loc["S13", "caution"] == ""
    assert has_story(small).tolist() == [False, False, True]


def test_unstable_segment_has_a_caution_and_no_story(large: pd.DataFrame) -> None:
    cards, _ = cards_of(large.assign(verdict=["unstable", "constructed", "natural"], stability=0.31))
    assert "overlap 31%" in cards.loc["S01", "caution"]
    others = set(CARD_PARTS) - {"size", "next"}
    assert set(cards.loc["S01", sorted(others)]) == {""} and "" not in set(cards.loc["S01", ["size", "next"]])


def test_customers_who_bought_once_are_described_by_that(large: pd.DataFrame) -> None:
    features, segment = members_of(large)
    once = [f for f in facts_of(large) if not f.name.startswith("once_share")]
    once += [type(once[0])("once_share", s, 0.83, "share", "mean") for s in large["segment"]]
    cards = write_personas(large, facts=once)
    assert (cards["how_they_shop"] == "83% came only once in the last 6 months.").all()


def test_each_sentence_has_a_claim_and_no_loose_figure() -> None:
    for part in CARD_PARTS:
        for each in itertools.chain.from_iterable(sentences(part)):
            assert each.claim and not loose_figures(each.text), each
    assert {"headings", "page", "few", "unstable", "rule_conditions"} <= set(load_texts("cards"))


def figure_spans(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in NUMBER.finditer(text)]


def read_back(cards: pd.DataFrame, html: str) -> pd.DataFrame:
    """Read the texts from a page, and add the forms that the run stores."""
    return card_texts(html).merge(cards[["forms"]], left_on="segment", right_index=True)


def test_any_changed_figure_on_the_page_is_detected(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large)
    html = str(persona_cards_html(cards.reset_index(), facts=facts))
    page = read_back(cards, html)
    verify(page, facts)
    columns = [c for c in page if c not in ("segment", "forms")]
    tried = 0
    for row, column in itertools.product(range(len(page)), columns):
        text = page.loc[row, column]
        for start, end in figure_spans(text):
            at = next(i for i in range(start, end) if text[i].isdigit())
            for other in ("1" if text[at] != "1" else "2", ""):
                changed = page.copy()
                changed.loc[row, column] = text[:at] + other + text[at + 1 :]
                tried += 1
                with pytest.raises(FactError):
                    verify(changed, facts)
    assert tried > 120


def test_any_two_swapped_figures_are_detected(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large)
    page = read_back(cards, str(persona_cards_html(cards.reset_index(), facts=facts)))
    spots = [
        (row, column, span)
        for row, column in itertools.product(range(len(page)), [c for c in page if c not in ("segment", "forms")])
        for span in figure_spans(page.loc[row, column])
    ]
    shown = lambda spot: page.loc[spot[0], spot[1]][slice(*spot[2])]  # noqa: E731
    pairs = [(a, b) for a, b in itertools.combinations(spots, 2) if shown(a) != shown(b)]
    for first, second in pairs[:: max(1, len(pairs) // 250)]:
        changed = page.copy()
        for (row, column, (start, end)), figure in sorted(
            ((first, shown(second)), (second, shown(first))), key=lambda each: each[0][2], reverse=True
        ):
            text = changed.loc[row, column]
            changed.loc[row, column] = text[:start] + figure + text[end:]
        with pytest.raises(FactError):
            verify(changed, facts)


def test_any_changed_or_missing_fact_is_detected(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large)
    forms = {s: " ".join(json.loads(f).values()) for s, f in cards["forms"].items()}
    used = {f"{s}.{name}" for s, text in forms.items() for name in PLACEHOLDER.findall(text)}
    whole = cards.reset_index()
    for row in facts[facts["fact"].isin(used)].itertuples():
        with pytest.raises(FactError):
            verify(whole, facts.drop(row.Index))
        changed = facts.copy()
        if isinstance(row.text, str):
            changed.loc[row.Index, "text"] = "something else"
        else:
            changed.loc[row.Index, "value"] = 3 * row.value + 1
        with pytest.raises(FactError):
            verify(whole, changed)


def test_a_figure_on_the_page_shows_how_it_was_computed(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large)
    html = str(persona_cards_html(cards.reset_index(), facts=facts))
    assert '<span class="sk-fact" data-fact="S01.customers" title="members of the segment">60</span>' in html
    assert len(facts_from_table(facts)) == len(facts)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_from_the_data_are_escaped_and_read_back(name: str, large: pd.DataFrame) -> None:
    odd = large.assign(need_name=[name, "no single need", "no single need"], name=[f"Top: {name}", "A", "B"])
    cards, facts = cards_of(odd, needs=drinks(names=(name, "Breakfast")))
    html = str(persona_cards_html(cards.reset_index(), facts=facts))
    assert "<b>" not in html and "<x" not in html and "50% of their spend goes on" in cards.loc["S01", "come_for"]
    verify(read_back(cards, html), facts)
