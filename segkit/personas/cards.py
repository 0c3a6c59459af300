"""Write persona cards."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml

from segkit.format import FLOOR
from segkit.personas.facts import PLACEHOLDER, Fact, render, with_forms
from segkit.personas.rules import MAX_DIFFERENCES

CLEAR_EFFECT = 0.35  # standard deviations; weaker habits are not worth a sentence
MIN_STAGE_SHARE = 0.01  # of members; a lifecycle stage with fewer is left out
CARD_STAGES = ("stage_active", "stage_cooling", "stage_lapsed", "stage_new")
REVENUE_RATIO = 1.5  # share of revenue / share of customers, from which (or its inverse) it is mentioned
CARD_PARTS = (
    *("story", "behind", "how_they_buy", "stage", "next", "who", "value", "unmet", "own_words"),
    *("proposition", "offer", "kpi"),
)
BOUNDS = {  # whether a condition has a lower and an upper bound -> its form
    (True, True): "{{{0}}} from {{{0}_low}} to below {{{0}_high}}",
    (True, False): "{{{0}}} at least {{{0}_low}}",
    (False, True): "{{{0}}} below {{{0}_high}}",
}
RULE_RATES = (
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
    """Write a card for each segment.

    A segment below the privacy floor, or an unstable one, gets a caution instead of a story.

    Parameters
    ----------
    segments
        The segment table, with names and needs.
    activity_levels
        Activity level by segment.
    facts
        Facts of all segments.
    signals
        As returned by `traits.segment_signals`; clear differences decide which habits get a sentence.
    rules
        As returned by `rules.rules_table`.
    topics
        As returned by `traits.segment_topics`.
    uses
        Needs come from what customers use, not from what they buy.

    Returns
    -------
    DataFrame
        ``segment, name, need_name``, the parts of a card, ``rule``, ``bar_1`` to ``bar_5`` (top differences),
        ``caution`` and ``forms`` (the texts with placeholders, for `facts.verify`).
    """
    written = []
    for row in segments.to_dict("records"):
        own = row["segment"]
        available = {f.name: f for f in facts if f.segment == own}
        conditions = _conditions(row, signals=signals, topics=topics)
        conditions |= {activity_levels[own], "uses" if uses else "buys"}
        conditions |= {f"some_{s}" for s in CARD_STAGES if s in available and available[s].value >= MIN_STAGE_SHARE}
        rule = rules[rules["segment"] == own] if rules is not None else None
        card = _write_card(row, set(available), conditions, rule=rule)
        written.append({"segment": own, "name": "{name}", "need_name": "{need_name}", **card})
    return with_forms(written, facts)


def next_action(activity_level: str, *, facts: Sequence[Fact], segment: str) -> str:
    """Write the next action for a segment."""
    available = {f.name for f in facts if f.segment == segment}
    return render(_write_part("offer", available, {activity_level}), facts, segment=segment).rstrip(".")


def has_story(segments: pd.DataFrame) -> pd.Series:
    """Return which segments get a story: at or above the privacy floor, and not unstable."""
    return (segments["customers"] >= FLOOR) & (segments["verdict"] != "unstable")


def _write_card(
    row: Mapping[str, Any], available: set[str], conditions: set[str], *, rule: pd.DataFrame | None
) -> dict[str, str]:
    """Write the parts of one card, with placeholders."""
    differences = [f"bar_{number}" for number in range(1, MAX_DIFFERENCES + 1)]
    empty = dict.fromkeys((*CARD_PARTS, "rule", *differences), "")
    if row["customers"] < FLOOR:
        return empty | {"need_name": "", "caution": _load_texts()["few"]}
    if row["verdict"] == "unstable":
        return empty | {"caution": _load_texts()["unstable"]}
    parts = {part: _write_part(part, available, conditions) for part in CARD_PARTS}
    parts |= {n: f"{{{n}}}: {{{n}_value}} against {{{n}_others}}" for n in differences if n in available}
    return empty | parts | {"rule": _write_rule(rule), "caution": ""}


def _write_rule(rule: pd.DataFrame | None) -> str:
    """Write the conditions of a rule with its precision and recall."""
    if rule is None:
        return ""
    if rule.empty:
        return NO_RULE_AT_ALL
    if not bool(rule["good"].iloc[0]):
        return NO_RULE if rule["precision"].notna().all() else NO_RULE_AT_ALL
    clauses = [
        BOUNDS[pd.notna(row["at_least"]), pd.notna(row["below"])].format(f"rule_{row['condition']}")
        for row in rule.to_dict("records")
    ]
    return f"{'; '.join(clauses)}. {RULE_RATES}"


def _write_part(part: str, available: set[str], conditions: set[str]) -> str:
    """For each sentence use the first alternative whose conditions hold and whose facts are available."""
    sentences = []
    for alternatives in _load_texts()[part]:
        usable = (
            each["text"]
            for each in alternatives
            if conditions.issuperset(each.get("when", ())) and available.issuperset(PLACEHOLDER.findall(each["text"]))
        )
        sentences.append(next(usable, ""))
    return " ".join(sentence for sentence in sentences if sentence)


def _conditions(row: Mapping[str, Any], *, signals: pd.DataFrame | None, topics: pd.DataFrame | None) -> set[str]:
    """Return the conditions that hold for a segment, as used by ``when`` in the texts."""
    conditions = set()
    if signals is not None:
        own = signals[signals["segment"] == row["segment"]]
        high = own[(own["effect_low"] > 0) & (own["effect"] >= CLEAR_EFFECT)]["feature"]
        low = own[(own["effect_high"] < 0) & (own["effect"] <= -CLEAR_EFFECT)]["feature"]
        conditions |= {f"{name}+" for name in high} | {f"{name}-" for name in low}
    if topics is not None and topics.loc[topics["segment"] == row["segment"], "unmatched"].any():
        conditions.add("wish")
    revenue, customers = row["revenue_share"], row["customer_share"]
    if pd.notna(revenue) and revenue > REVENUE_RATIO * customers:
        conditions.add("revenue+")
    elif pd.notna(revenue) and REVENUE_RATIO * revenue < customers:
        conditions.add("revenue-")
    return conditions


@cache
def _load_texts() -> dict[str, Any]:
    """Load the sentences of cards from cards.yaml."""
    return yaml.safe_load(resources.files("segkit.personas").joinpath("cards.yaml").read_text(encoding="utf-8"))
