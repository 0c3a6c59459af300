"""Write persona cards and the segment table."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml

from segkit.format import FLOOR
from segkit.personas.facts import PLACEHOLDER, CardTables, Fact, collect_facts, render, with_forms
from segkit.personas.naming import member_activity_levels, name_segments
from segkit.personas.rules import MAX_DIFFERENCES
from segkit.segments.lineage import inherit_names
from segkit.segments.validation import Stability, Structure, segment_verdict

CLEAR_EFFECT = 0.35  # standard deviations; a habit that is closer to everyone else's is not worth a sentence
MIN_STAGE_SHARE = 0.01  # of the members; a stage with fewer is not told
CARD_STAGES = ("stage_active", "stage_cooling", "stage_lapsed", "stage_new")
REVENUE_RATIO = 1.5  # times; a share of revenue so far from the share of customers is worth a word
CARD_PARTS = (
    *("story", "behind", "how_they_buy", "stage", "next", "who", "value", "unmet", "own_words"),
    *("proposition", "offer", "kpi"),
)
BOUNDS = {  # which bounds a condition has -> how it is said
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
        conditions = _conditions(row, activity_level=activity_levels[own], signals=signals, topics=topics, uses=uses)
        conditions |= {
            f"some_{f.name}" for f in facts if f.segment == own and f.name in CARD_STAGES and f.value >= MIN_STAGE_SHARE
        }
        rule = rules[rules["segment"] == own] if rules is not None else None
        written.append(
            {"segment": own, "name": "{name}", "need": "{need}", **_write_card(row, have, conditions, rule=rule)}
        )
    return with_forms(written, facts)


def next_action(activity_level: str, *, facts: Sequence[Fact], segment: str) -> str:
    """The next best action in words."""
    have = {f.name for f in facts if f.segment == segment}
    return render(_write_part("offer", have, {activity_level}), facts, segment=segment).rstrip(".")


def has_story(segments: pd.DataFrame) -> pd.Series:
    """Whether a segment gets a story: it is above the privacy floor and not unstable."""
    return (segments["customers"] >= FLOOR) & (segments["verdict"] != "unstable")


def _write_card(
    row: Mapping[str, Any], available: set[str], conditions: set[str], *, rule: pd.DataFrame | None
) -> dict[str, str]:
    """The parts of one card, with placeholders."""
    difference_forms = {
        f"bar_{n}": f"{{bar_{n}}}: {{bar_{n}_value}} against {{bar_{n}_others}}" for n in range(1, MAX_DIFFERENCES + 1)
    }
    empty = dict.fromkeys((*CARD_PARTS, "rule", *difference_forms), "")
    if row["customers"] < FLOOR:
        return empty | {"need": "", "caution": _load_texts()["few"]}
    if row["verdict"] == "unstable":
        return empty | {"caution": _load_texts()["unstable"]}
    parts = {part: _write_part(part, available, conditions) for part in CARD_PARTS}
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
    return f"{'; '.join(clauses)}. {RULE_RATES}"


def _write_part(part: str, available: set[str], conditions: set[str]) -> str:
    """Of each sentence the first way to say it that fits what holds and what is known."""
    fitting = (
        next((way["text"] for way in ways if _applies(way, available, conditions)), "") for ways in _load_texts()[part]
    )
    return " ".join(text for text in fitting if text)


def _applies(way: Mapping[str, Any], available: set[str], conditions: set[str]) -> bool:
    return set(way.get("when", ())) <= conditions and set(PLACEHOLDER.findall(way["text"])) <= available


def _conditions(
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
        high = own[(own["effect_low"] > 0) & (own["effect"] >= CLEAR_EFFECT)]["feature"]
        low = own[(own["effect_high"] < 0) & (own["effect"] <= -CLEAR_EFFECT)]["feature"]
        conditions |= {f"{name}+" for name in high} | {f"{name}-" for name in low}
    if topics is not None and topics.loc[topics["segment"] == row["segment"], "unmatched"].any():
        conditions.add("wish")
    revenue, customers = row["revenue_share"], row["customer_share"]
    if pd.notna(revenue):
        conditions |= (
            {"revenue+"}
            if revenue > REVENUE_RATIO * customers
            else {"revenue-"}
            if REVENUE_RATIO * revenue < customers
            else set()
        )
    return conditions


@cache
def _load_texts() -> dict[str, Any]:
    """The sentences of cards, from the file beside this one."""
    return yaml.safe_load(resources.files("segkit.personas").joinpath("cards.yaml").read_text(encoding="utf-8"))


def make_segment_table(
    sizes: pd.DataFrame,
    *,
    expected: pd.DataFrame,
    stability: Stability | None,
    structure: Structure | None = None,
    ids: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    features: pd.DataFrame,
    segment: pd.Series,
    needs: pd.DataFrame,
    signals: pd.DataFrame | None = None,
    horizon_days: int,
    labels: Mapping[str, str] | None = None,
    people: str = "buyers",
) -> pd.DataFrame:
    """Put the segment table together.

    Takes  sizes, expected: of `segments.describe`; stability, structure: of the refits, or None; features and segment
           by customer_id; needs of `signals.segment_needs`
    Gives  the table segments, with names, needs, verdicts and next actions

    Parameters
    ----------
    ids : segment of each centre that the refits were compared on, in their order
    signals : of `signals.segment_signals`: habits that name a segment of which no need is known
    names : names that stay, by segment: of earlier runs, or decided by a person
    labels : categories in plain words, of the source
    people : what those are called who are in a segment
    """
    table = sizes.merge(expected.reset_index(), on="segment", how="left", validate="one_to_one")
    table = table.merge(_stability_by_segment(stability, ids=ids), on="segment", how="left", validate="one_to_one")
    table["verdict"] = [segment_verdict(j, reference=structure, stability=stability) for j in table["stability"]]
    activity_levels = member_activity_levels(table, features=features, segment=segment)
    named = name_segments(activity_levels, needs, habits=signals, labels=labels, people=people)
    named["name"] = named.index.map(inherit_names(named["name"].to_dict(), names or {}))
    table = table.merge(named.reset_index(), on="segment", validate="one_to_one")
    tables = CardTables(needs=needs)
    facts = collect_facts(
        table, features=features, segment=segment, tables=tables, horizon_days=horizon_days, labels=labels
    )
    table["action"] = [next_action(activity_levels[s], facts=facts, segment=s) for s in table["segment"]]
    return table


def _stability_by_segment(stability: Stability | None, *, ids: Sequence[str]) -> pd.DataFrame:
    """Stability by segment; segments that a person merged share the mean of their parts."""
    columns = ["stability", "stability_low", "stability_high"]
    if stability is None:
        return pd.DataFrame(columns=["segment", *columns]).astype(dict.fromkeys(columns, float))
    return stability.segments[columns].groupby(list(ids)).mean().rename_axis("segment").reset_index()
