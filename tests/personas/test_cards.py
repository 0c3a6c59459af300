"""Cards are written from facts only, and any changed figure is detected."""

import itertools
import json
import re

import pandas as pd
import pytest

from segkit.format import FLOOR
from segkit.personas.cards import CARD_PARTS, has_story, next_action, write_personas
from segkit.personas.facts import (
    PLACEHOLDER,
    CardTables,
    FactError,
    collect_facts,
    fact_table,
    facts_from_table,
    verify,
)
from segkit.personas.traits import segment_signals
from segkit.reports.personas import persona_cards_html
from segkit.tables import check
from tests.personas.helpers import ACTIVITY_LEVELS, members_of, needs_of
from tests.reports.card_texts import card_texts

NEEDS = needs_of(S01=["TEA", "GIN"], S02=["GIN", "RUM"])
NUMBER = re.compile(r"[\u2212$]?\d[\d,.]*(?:\u00a0(?:%|k|M|bn))?")


@pytest.fixture
def large(segments: pd.DataFrame) -> pd.DataFrame:
    """The three segments, above the privacy floor, with plain names."""
    return segments.assign(customers=[60, 40, 20], name=["Tea regulars", "Gin buyers", "Fading buyers"])


def rules_of(segments: pd.DataFrame, *, good: bool = True) -> pd.DataFrame:
    rows = [(s, 1, "orders", "orders", "orders", 4.0 + i, 9.0) for i, s in enumerate(segments["segment"])]
    table = pd.DataFrame(rows, columns=["segment", "condition", "item", "words", "unit", "at_least", "below"])
    rates = {"precision": 0.71, "precision_low": 0.61, "precision_high": 0.79}
    return table.assign(good=good, **rates, recall=0.66, recall_low=0.57, recall_high=0.74)


def cards_of(segments: pd.DataFrame, needs: pd.DataFrame, *, good: bool = True, **levels: str) -> tuple:
    """The cards, and the table of facts."""
    features, segment = members_of(segments)
    rules, signals = rules_of(segments, good=good), segment_signals(features, segment)
    tables = CardTables(needs=needs, rules=rules)
    facts = collect_facts(segments, features=features, segment=segment, tables=tables, horizon_days=91, currency="USD")
    table = fact_table(facts)
    check(table, name="facts")
    activity_levels = pd.Series(dict.fromkeys(segments["segment"], "often") | levels)
    cards = write_personas(segments, activity_levels=activity_levels, facts=facts, signals=signals, rules=rules)
    verify(cards, table)
    return cards.set_index("segment"), table


def test_cards_describe_size_need_forecast_and_rule(large: pd.DataFrame) -> None:
    cards, _ = cards_of(large, NEEDS)
    check(cards.reset_index(), name="personas")
    assert cards.loc["S02", "story"].startswith(
        "40 customers, 33\u00a0% of all, who bring 60\u00a0% of revenue: more than"
    )
    assert "gin and rum" in cards.loc["S02", "story"] and "30\u00a0%" in cards.loc["S02", "story"]
    assert "No single thing" in cards.loc["S13", "story"]
    assert "90\u00a0% came back within 91 days (80\u00a0% to 100\u00a0%)" in cards.loc["S01", "next"]
    assert "$20 for 3 things" in cards.loc["S01", "how_they_buy"]
    assert cards.loc["S02", "rule"].startswith("orders from 5 to below 9. Of those it picks, 71\u00a0% belong here (61")
    assert not cards.drop(columns="forms").apply(lambda column: column.str.contains("[{}]")).any().any()


def test_card_without_a_good_rule_recommends_the_model(large: pd.DataFrame) -> None:
    cards, _ = cards_of(large, NEEDS, good=False)
    assert cards["rule"].str.startswith("No short rule describes it").all()


def test_no_story_below_the_privacy_floor(large: pd.DataFrame) -> None:
    small = large.assign(customers=[FLOOR - 1, FLOOR, 60])
    cards, _ = cards_of(small, needs_of(S01=["TEA"], S02=["TEA"]))
    texts = cards.loc["S01"].drop(["name", "forms"])
    assert texts.pop("caution").startswith("Too few customers") and set(texts) == {""}
    assert cards.loc["S02", "story"] != "" and cards.loc["S02", "caution"] == ""
    assert has_story(small).tolist() == [False, True, True]


def test_unstable_segment_has_a_caution_and_no_story(large: pd.DataFrame) -> None:
    cards, _ = cards_of(large.assign(verdict=["unstable", "constructed", "natural"], stability=0.31), NEEDS)
    assert "overlap 0.31" in cards.loc["S01", "caution"]
    assert set(cards.loc["S01", list(CARD_PARTS)]) == {""} and cards.loc["S02", "story"] != ""


def test_with_short_history_the_forecast_is_not_known(large: pd.DataFrame) -> None:
    columns = [c for c in large if c.startswith(("active_share_next", "spend_next", "revenue_share"))]
    cards, _ = cards_of(large.assign(**dict.fromkeys(columns, float("nan"))), needs_of())
    assert cards["next"].str.startswith("Not known").all()
    texts = cards.drop(columns="forms")
    assert not texts.apply(lambda column: column.str.contains(r"–|\bnan\b", flags=re.IGNORECASE)).any().any()


@pytest.mark.parametrize("level", ACTIVITY_LEVELS)
@pytest.mark.parametrize("uses", [True, False])
@pytest.mark.parametrize("needs", [needs_of(), NEEDS, needs_of(S01=["TEA"])])
def test_every_activity_level_has_its_texts(level: str, uses: bool, needs: pd.DataFrame, large: pd.DataFrame) -> None:
    features, segment = members_of(large)
    tables = CardTables(needs=needs)
    facts = collect_facts(large, features=features, segment=segment, tables=tables, horizon_days=91)
    action = next_action(level, facts=facts, segment="S01")
    assert action and not action.endswith(".") and ("tea" in action) is (len(needs) > 0)
    cards = write_personas(large, activity_levels=pd.Series(level, index=large["segment"]), facts=facts, uses=uses)
    assert (cards[["story", "how_they_buy", "next", "proposition", "offer", "kpi"]] != "").all().all()


def figure_spans(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in NUMBER.finditer(text)]


def read_back(cards: pd.DataFrame, html: str) -> pd.DataFrame:
    """Read the texts from a page, and add the forms that the run stores."""
    return card_texts(html).merge(cards[["forms"]], left_on="segment", right_index=True)


def test_any_changed_figure_on_the_page_is_detected(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large, NEEDS, S13="fading")
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
    assert tried > 150


def test_any_two_swapped_figures_are_detected(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large, NEEDS)
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
    cards, facts = cards_of(large, NEEDS)
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
    cards, facts = cards_of(large, NEEDS)
    html = str(persona_cards_html(cards.reset_index(), facts=facts))
    assert '<span class="sk-fact" title="customers: members of the segment">60</span>' in html
    assert len(facts_from_table(facts)) == len(facts)


def test_names_from_the_data_are_escaped_and_read_back(large: pd.DataFrame) -> None:
    cards, facts = cards_of(large, needs_of(S01=["<b>TEA</b> & {gin} 7"]))
    html = str(persona_cards_html(cards.reset_index(), facts=facts))
    assert "<b" not in html and "&lt;b &amp; tea&lt;" in html
    verify(read_back(cards, html), facts)
