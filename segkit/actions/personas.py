"""Personas: a card for each segment, written from facts alone; where a story would mislead the card says so."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml

from segkit.actions.bars import BARS
from segkit.actions.facts import PLACEHOLDER, Fact, render, with_forms
from segkit.small_groups import FLOOR

CLEAR = 0.35  # standard deviations; a habit that is closer to everyone else's is not worth a sentence
SOME = 0.01  # of the members; a stage with fewer is not told
STAGES = ("stage_active", "stage_cooling", "stage_lapsed", "stage_new")
FAR = 1.5  # times; a share of revenue so far from the share of customers is worth a word
PARTS = (
    *("story", "behind", "how_they_buy", "stage", "next", "who", "value", "unmet", "own_words"),
    *("proposition", "offer", "kpi"),
)
BOUNDS = {  # which bounds a condition has -> how it is said
    (True, True): "{{{0}}} from {{{0}_low}} to below {{{0}_high}}",
    (True, False): "{{{0}}} at least {{{0}_low}}",
    (False, True): "{{{0}}} below {{{0}_high}}",
}
RATES = (
    "Of those it picks, {rule_precision} belong here ({rule_precision_low} to {rule_precision_high}); it finds "
    "{rule_recall} of them ({rule_recall_low} to {rule_recall_high}), counted on customers it was not learnt on."
)
NO_RULE = (
    "No short rule describes it: of those whom the best one picks, {rule_precision} belong here, and it finds "
    "{rule_recall} of them. Use the model."
)
NO_RULE_AT_ALL = "No short rule describes it. Use the model."


def write_personas(
    segments: pd.DataFrame,
    *,
    activity_levels: pd.Series,
    facts: Sequence[Fact],
    signals: pd.DataFrame | None = None,
    rules: pd.DataFrame | None = None,
    topics: pd.DataFrame | None = None,
    uses: bool = False,
) -> pd.DataFrame:
    """A card for each segment; one below the privacy floor, or unstable, says so and tells no story.

    Takes  segments with names and needs; looks; facts of all segments
    Gives  segment, name, need, the parts of a card, rule, bar_1 to bar_5, caution, and forms: the texts with their
           placeholders, from which `facts.verify` derives all of them again

    Parameters
    ----------
    signals : as `signals.segment_signals`; what is surely above or below others decides what is worth a sentence
    rules : of `rules.rules_table`
    topics : of `topics.segment_topics`
    uses : needs come from what customers use, not from what they buy
    """
    written = []
    for row in segments.to_dict("records"):
        own = row["segment"]
        have = {f.name for f in facts if f.segment == own}
        conditions = _marks(row, activity_level=activity_levels[own], signals=signals, topics=topics, uses=uses)
        conditions |= {f"some_{f.name}" for f in facts if f.segment == own and f.name in STAGES and f.value >= SOME}
        rule = rules[rules["segment"] == own] if rules is not None else None
        written.append({"segment": own, "name": "{name}", "need": "{need}", **_card(row, have, conditions, rule=rule)})
    return with_forms(written, facts)


def next_action(activity_level: str, *, facts: Sequence[Fact], segment: str) -> str:
    """The next best action in words."""
    have = {f.name for f in facts if f.segment == segment}
    return render(_said("offer", have, {activity_level}), facts, segment=segment).rstrip(".")


def is_told(segments: pd.DataFrame) -> pd.Series:
    """Whether a segment gets a story: it is above the privacy floor and not unstable."""
    return (segments["customers"] >= FLOOR) & (segments["verdict"] != "unstable")


def _card(
    row: Mapping[str, Any], available: set[str], conditions: set[str], *, rule: pd.DataFrame | None
) -> dict[str, str]:
    """The parts of one card, with placeholders."""
    difference_forms = {
        f"bar_{n}": f"{{bar_{n}}}: {{bar_{n}_value}} against {{bar_{n}_others}}" for n in range(1, BARS + 1)
    }
    empty = dict.fromkeys((*PARTS, "rule", *difference_forms), "")
    if row["customers"] < FLOOR:
        return empty | {"need": "", "caution": _texts()["few"]}
    if row["verdict"] == "unstable":
        return empty | {"caution": _texts()["unstable"]}
    parts = {part: _said(part, available, conditions) for part in PARTS}
    shown_differences = {name: form if name in available else "" for name, form in difference_forms.items()}
    return empty | parts | shown_differences | {"rule": _rule(rule), "caution": ""}


def _rule(rule: pd.DataFrame | None) -> str:
    """The conditions of a rule and how well it finds the members."""
    if rule is None:
        return ""
    if rule.empty:
        return NO_RULE_AT_ALL
    if not bool(rule["good"].iloc[0]):
        return NO_RULE if rule["precision"].notna().all() else NO_RULE_AT_ALL
    clauses = [
        BOUNDS[pd.notna(each["at_least"]), pd.notna(each["below"])].format(f"rule_{each['condition']}")
        for each in rule.to_dict("records")
    ]
    return f"{'; '.join(clauses)}. {RATES}"


def _said(part: str, available: set[str], conditions: set[str]) -> str:
    """Of each sentence the first way to say it that fits what holds and what is known."""
    fitting = (next((way["text"] for way in ways if _fits(way, available, conditions)), "") for ways in _texts()[part])
    return " ".join(text for text in fitting if text)


def _fits(way: Mapping[str, Any], available: set[str], conditions: set[str]) -> bool:
    return set(way.get("when", ())) <= conditions and set(PLACEHOLDER.findall(way["text"])) <= available


def _marks(
    row: Mapping[str, Any],
    *,
    activity_level: str,
    signals: pd.DataFrame | None,
    topics: pd.DataFrame | None,
    uses: bool,
) -> set[str]:
    """What holds of a segment: what a sentence may ask for."""
    conditions = {activity_level, "uses" if uses else "buys"}
    if signals is not None:
        own = signals[signals["segment"] == row["segment"]]
        high = own[(own["effect_low"] > 0) & (own["effect"] >= CLEAR)]["feature"]
        low = own[(own["effect_high"] < 0) & (own["effect"] <= -CLEAR)]["feature"]
        conditions |= {f"{name}+" for name in high} | {f"{name}-" for name in low}
    if topics is not None and topics.loc[topics["segment"] == row["segment"], "unmatched"].any():
        conditions.add("wish")
    revenue, customers = row["revenue_share"], row["customer_share"]
    if pd.notna(revenue):
        conditions |= (
            {"revenue+"} if revenue > FAR * customers else {"revenue-"} if FAR * revenue < customers else set()
        )
    return conditions


@cache
def _texts() -> dict[str, Any]:
    """The sentences of cards, from the file beside this one."""
    return yaml.safe_load(resources.files("segkit.actions").joinpath("cards.yaml").read_text(encoding="utf-8"))
