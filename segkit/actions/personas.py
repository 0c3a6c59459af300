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
    looks: pd.Series,
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
        marks = _marks(row, look=looks[own], signals=signals, topics=topics, uses=uses)
        marks |= {f"some_{f.name}" for f in facts if f.segment == own and f.name in STAGES and f.value >= SOME}
        rule = rules[rules["segment"] == own] if rules is not None else None
        written.append({"segment": own, "name": "{name}", "need": "{need}", **_card(row, have, marks, rule=rule)})
    return with_forms(written, facts)


def next_action(look: str, *, facts: Sequence[Fact], segment: str) -> str:
    """The next best action in words."""
    have = {f.name for f in facts if f.segment == segment}
    return render(_said("offer", have, {look}), facts, segment=segment).rstrip(".")


def is_told(segments: pd.DataFrame) -> pd.Series:
    """Whether a segment gets a story: it is above the privacy floor and not unstable."""
    return (segments["customers"] >= FLOOR) & (segments["verdict"] != "unstable")


def _card(row: Mapping[str, Any], have: set[str], marks: set[str], *, rule: pd.DataFrame | None) -> dict[str, str]:
    """The parts of one card, with placeholders."""
    bars = {f"bar_{n}": f"{{bar_{n}}}: {{bar_{n}_value}} against {{bar_{n}_others}}" for n in range(1, BARS + 1)}
    empty = dict.fromkeys((*PARTS, "rule", *bars), "")
    if row["customers"] < FLOOR:
        return empty | {"need": "", "caution": _texts()["few"]}
    if row["verdict"] == "unstable":
        return empty | {"caution": _texts()["unstable"]}
    parts = {part: _said(part, have, marks) for part in PARTS}
    known = {name: form if name in have else "" for name, form in bars.items()}
    return empty | parts | known | {"rule": _rule(rule), "caution": ""}


def _rule(rule: pd.DataFrame | None) -> str:
    """The conditions of a rule and how well it finds the members."""
    if rule is None:
        return ""
    if rule.empty:
        return NO_RULE_AT_ALL
    if not bool(rule["good"].iloc[0]):
        return NO_RULE if rule["precision"].notna().all() else NO_RULE_AT_ALL
    said = [
        BOUNDS[pd.notna(each["at_least"]), pd.notna(each["below"])].format(f"rule_{each['condition']}")
        for each in rule.to_dict("records")
    ]
    return f"{'; '.join(said)}. {RATES}"


def _said(part: str, have: set[str], marks: set[str]) -> str:
    """Of each sentence the first way to say it that fits what holds and what is known."""
    fitting = (next((way["text"] for way in ways if _fits(way, have, marks)), "") for ways in _texts()[part])
    return " ".join(text for text in fitting if text)


def _fits(way: Mapping[str, Any], have: set[str], marks: set[str]) -> bool:
    return set(way.get("when", ())) <= marks and set(PLACEHOLDER.findall(way["text"])) <= have


def _marks(
    row: Mapping[str, Any], *, look: str, signals: pd.DataFrame | None, topics: pd.DataFrame | None, uses: bool
) -> set[str]:
    """What holds of a segment: what a sentence may ask for."""
    marks = {look, "uses" if uses else "buys"}
    if signals is not None:
        own = signals[signals["segment"] == row["segment"]]
        high = own[(own["effect_low"] > 0) & (own["effect"] >= CLEAR)]["feature"]
        low = own[(own["effect_high"] < 0) & (own["effect"] <= -CLEAR)]["feature"]
        marks |= {f"{name}+" for name in high} | {f"{name}-" for name in low}
    if topics is not None and topics.loc[topics["segment"] == row["segment"], "unmatched"].any():
        marks.add("wish")
    revenue, customers = row["revenue_share"], row["customer_share"]
    if pd.notna(revenue):
        marks |= {"revenue+"} if revenue > FAR * customers else {"revenue-"} if FAR * revenue < customers else set()
    return marks


@cache
def _texts() -> dict[str, Any]:
    """The sentences of cards, from the file beside this one."""
    return yaml.safe_load(resources.files("segkit.actions").joinpath("cards.yaml").read_text(encoding="utf-8"))
