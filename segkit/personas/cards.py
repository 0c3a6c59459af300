"""Write persona cards: for each segment the sentences that are true of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
from jinja2.exceptions import UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from segkit.format import FLOOR, hidden_segments
from segkit.personas.facts import PLACEHOLDER, Fact, with_forms
from segkit.texts import load_texts
from segkit.vocabulary import LEVEL_ONLY, UNSTABLE

CLEAR_EFFECT = 0.35  # standard deviations; weaker habits are not worth a sentence
MOST_HABITS = 4  # sentences on how members shop
CARD_PARTS = ("size", "come_for", "how_they_shop", "who", "in_their_words", "next", "gap", "do", "test", "rule")
WITHOUT_STORY = {UNSTABLE: "unstable", LEVEL_ONLY: "level_only"}  # verdict -> what the card says instead
PARTS_WITHOUT_STORY = ("size", "next")
CAUTIONS = ("few", *WITHOUT_STORY.values())
NAMES = ("name", "level", "need_name")  # in the head of a card


@dataclass(frozen=True)
class Sentence:
    """A sentence that a card may use: its ``text`` with placeholders, when it is used, and what it claims."""

    part: str
    text: str
    when: str = ""
    claim: str = ""

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Return whether it may stand: its facts are known, and its claim and its condition hold."""
        known = scope.keys() >= set(PLACEHOLDER.findall(self.text))
        return known and all(evaluate(each, scope) for each in (self.claim, self.when) if each)


def evaluate(expression: str, scope: Mapping[str, Any]) -> bool:
    """Evaluate an expression over facts; it does not hold where a figure in it is unknown.

    >>> evaluate("share > 1.2 * others", {"share": 0.3, "others": 0.2}), evaluate("share > 0.1", {})
    (True, False)
    """
    try:
        return bool(_compile(expression)(**scope))
    except UndefinedError:
        return False


@cache
def _compile(expression: str) -> Any:
    return SandboxedEnvironment().compile_expression(expression, undefined_to_none=False)


def sentences(part: str) -> list[list[Sentence]]:
    """Return the places of a part, each with the sentences of which the first that may stands there."""
    places = load_texts("cards")[part]
    return [[Sentence(part=part, **each) for each in alternatives] for alternatives in places]


def write_personas(
    segments: pd.DataFrame,
    *,
    facts: Sequence[Fact],
    signals: pd.DataFrame | None = None,
    rules: pd.DataFrame | None = None,
    uses: bool = False,
) -> pd.DataFrame:
    """Write a card for each segment.

    A segment below the privacy floor gets a caution instead of a story; an unstable one its size, its forecast and a
    caution.

    Parameters
    ----------
    segments
        The segment table, with names and needs.
    facts
        Facts of all segments.
    signals
        As returned by `traits.segment_signals`; clear differences decide which habits get a sentence.
    rules
        As returned by `rules.rules_table`.
    uses
        Needs come from what customers use, not from what they buy.

    Returns
    -------
    DataFrame
        ``segment, name, level, need_name``, the parts of a card, ``caution`` and ``forms`` (the texts with
        placeholders, for `facts.verify` and `claims.check_claims`).
    """
    written, hidden = [], hidden_segments(segments)
    for row in segments.to_dict("records"):
        own = {f.name: f for f in facts if f.segment == row["segment"]}
        form = rule_form(rules, segment=row["segment"], uses=uses)
        scope = fact_scope(own.values()) | _habits(row, own, signals=signals) | {"uses": uses}
        scope |= {"rule": form, "rule_good": bool(form)}
        card = _write_card(row | {"hidden": row["segment"] in hidden}, scope)
        card["rule"] = card["rule"].replace("{rule}", form)
        named = {name: f"{{{name}}}" if name in own else "" for name in NAMES}
        written.append({"segment": row["segment"], **named, **card})
    return with_forms(written, facts)


def fact_scope(facts: Iterable[Fact]) -> dict[str, Any]:
    """Return facts as the values that expressions are evaluated on."""
    return rounded({fact.name: fact.value if fact.text is None else fact.text for fact in facts})


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Round figures, so that a claim at its limit does not depend on the order in which they were summed."""
    return {name: float(f"{v:.7g}") if isinstance(v, float) else v for name, v in values.items()}


def may_claim_need(figures: Mapping[str, float]) -> bool:
    """Return whether a card may claim the need that leads: what its first sentence on needs claims, holds.

    >>> may_claim_need({"need_share": 0.3, "need_share_others": 0.1, "need_buyers": 0.9, "need_lead": 0.8})
    True
    >>> may_claim_need({"need_share": 0.04, "need_share_others": 0.01, "need_buyers": 0.9, "need_lead": 0.8})
    False
    """
    return evaluate(sentences("come_for")[0][0].claim, rounded(figures))


def has_story(segments: pd.DataFrame) -> pd.Series:
    """Return which segments get a story: at or above the privacy floor, and not unstable."""
    return ~segments["segment"].isin(hidden_segments(segments)) & ~segments["verdict"].isin(WITHOUT_STORY)


def _write_card(row: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, str]:
    """Write the parts of one card, with placeholders."""
    empty = dict.fromkeys((*CARD_PARTS, "caution"), "")
    texts = load_texts("cards")
    if row["hidden"]:
        return empty | {"need_name": "", "caution": texts["few" if row["customers"] < FLOOR else "hidden"]}
    if row["verdict"] in WITHOUT_STORY:
        parts = {part: " ".join(_choose(part, scope)) for part in PARTS_WITHOUT_STORY}
        return empty | parts | {"caution": texts[WITHOUT_STORY[row["verdict"]]]}
    parts = {}
    for part in CARD_PARTS:
        found = list(_choose(part, scope))
        parts[part] = " ".join(found[:MOST_HABITS] if part == "how_they_shop" else found)
    return empty | parts


def _choose(part: str, scope: Mapping[str, Any]) -> Iterator[str]:
    """For each place of a part, choose the first sentence that may stand there."""
    for alternatives in sentences(part):
        usable = (each.text for each in alternatives if each.holds(scope))
        yield from [text for text in [next(usable, "")] if text]


def _habits(row: Mapping[str, Any], own: Mapping[str, Fact], *, signals: pd.DataFrame | None) -> dict[str, bool]:
    """Return which habits are clearly above (_high) or below (_low) other customers'."""
    if signals is None:
        return {}
    rows = signals[signals["segment"] == row["segment"]]
    high = rows[(rows["effect_low"] > 0) & (rows["effect"] >= CLEAR_EFFECT)]["feature"]
    low = rows[(rows["effect_high"] < 0) & (rows["effect"] <= -CLEAR_EFFECT)]["feature"]
    habits = {f"{name}_high": True for name in high} | {f"{name}_low": True for name in low}
    channel = own["channel"].text.replace(" ", "_") if "channel" in own else ""
    return habits | {"channel_high": f"channel_{channel}_share_high" in habits}


def rule_form(rules: pd.DataFrame | None, *, segment: str, uses: bool = False) -> str:
    """Write the conditions of a rule with placeholders; "" where no rule is good enough.

    Parameters
    ----------
    rules
        As returned by `rules.rules_table`.
    uses
        Shares are of what customers use.
    """
    own = rules[rules["segment"] == segment] if rules is not None else ()
    if not len(own) or not bool(own["good"].iloc[0]):
        return ""
    phrases, clauses = load_texts("cards")["rule_conditions"], []
    for row in own.to_dict("records"):
        bounds = {(True, True): "between", (True, False): "above", (False, True): "below"}
        item = row["item"] if row["item"] in phrases else "uses" if uses else "need"
        phrase = phrases[item][bounds[pd.notna(row["at_least"]), pd.notna(row["below"])]]
        name = f"rule_{row['condition']}"
        for word, fact in (("{what}", name), ("{low}", f"{name}_low"), ("{high}", f"{name}_high")):
            phrase = phrase.replace(word, f"{{{fact}}}")
        clauses.append(phrase)
    *first, last = clauses
    link = f" {load_texts('cards')['and']} "
    text = link.join([", ".join(first), last]) if first else last
    return text[:1].upper() + text[1:]
