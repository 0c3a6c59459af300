"""Collect the facts of each segment: what its card may use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.category_mix import term_weights
from segkit.customers.features import CustomerData
from segkit.customers.needs import Needs, need_amounts
from segkit.customers.profile import FEATURE_ROLES
from segkit.format import FLOOR, joined, lower_first
from segkit.period import Period, dates_text, span_text
from segkit.personas.cards import may_claim_need
from segkit.personas.facts import Fact
from segkit.personas.lexicon import charges, read_lexicon, spoken_needs
from segkit.personas.naming import NO_NEED, label
from segkit.templates import sentence
from segkit.texts import name_phrase
from segkit.vocabulary import describe

MIN_TRAIT_EFFECT = 0.3  # standard deviations; weaker traits are not worth a sentence
EXAMPLE_OF = "what members spend most on beyond others, of the need: "
EXAMPLES, MIN_EXAMPLE_SHARE = 3, 0.05  # things that a need is shown by; each takes at least this share of it
ENDS = (("", ""), ("_low", ", low end of 95 %"), ("_high", ", high end of 95 %"))
LEAD_FACTS = {  # fact of the need that leads -> how it was computed
    "need_share": "mean share of what members bought: the need that leads",
    "need_share_others": "the same for everyone else: the need that leads",
    "need_buyers": "members who bought any of it",
    "need_lead": "members who spend a larger share on it than others' mean",
}
SEGMENT_FACTS = {  # column of the table segments -> unit, and how it was computed
    "customers": ("customers", "members of the segment"),
    "customer_share": ("share", "members / everyone segmented"),
    "revenue_share": ("share", "their spend in the lookback / all spend in it"),
    "margin": ("share", "(amount - cost) / amount of their purchases in the last horizon"),
    "stability": ("share", "mean Jaccard with the best match in refits"),
    "spend_now": ("money", "mean spend of the members in the last horizon"),
    **{f"active_share_next{part}": ("share", f"members forecast to be active{end}") for part, end in ENDS},
    **{f"spend_next{part}": ("money", f"forecast spend of a member{end}") for part, end in ENDS},
}
MEMBER_FACTS = (
    *("orders", "active_days", "gap_days", "recency_days", "categories"),
    *("saturday_share", "sunday_share", "weekend_share"),
    *("evening_share", "morning_share", "afternoon_share", "night_share"),
    *("discount_share", "discounted_lines_share", "private_label_share", "return_share"),
    *("stage_new", "stage_active", "stage_cooling", "stage_lapsed", "stage_returned"),
)
BY_MEDIAN = ("gap_days", "recency_days")  # one visit means a gap as long as the lookback: the mean would mislead
WHOLE = ("gap_days", "categories")  # shown without decimals, as are numbers of items that are not small
SMALL = 4.95
YOU = {"one": "you", "one's": "your", "oneself": "yourself"}
MONEY = ("spend", "margin")  # units of a prize
ROW_FACTS = {  # table of CardTables -> column -> (fact, unit, how)
    "unmet_needs": {
        "term": ("gap_need", "name", "the need that similar customers come for and members lack most"),
        "level": ("gap_level", "share", "half the mean share of it over all customers, rounded"),
        "peers": ("gap_peers", "share", "customers of other segments most like members, who reach that share"),
        "all_buyers": ("gap_buyers", "share", "members who reach it"),
    },
    "topics": {
        "topic": ("topic", "name", "the topic that stands out in what members wrote"),
        "share": ("topic_share", "share", "members who wrote, and wrote of it"),
        "others": ("topic_others", "share", "the same for everyone else"),
    },
    "actions": {
        "title": ("action_title", "name", "the first row of the segment in the table actions"),
        "type": ("action_type", "name", "its type"),
        "channel": ("action_channel", "name", "the channel that they use more than other customers"),
        "moment": ("action_moment", "name", "when they come more than other customers"),
        "test": ("action_test", "name", "the test that would prove it"),
        "command": ("action_command", "name", "the command that sets the test up"),
        "customers": ("action_customers", "customers", "who it is for, in all segments that share it"),
        "prize": ("prize", "rough money", "what it is worth in the next horizon"),
        "prize_low": ("prize_low", "rough money", "low end of its range"),
        "prize_high": ("prize_high", "rough money", "high end of its range"),
        "prize_unit": ("prize_unit", "name", "what the prize is counted in"),
        "condition": ("action_condition", "name", "how many must take it up for that"),
        "own": ("action_own", "customers", "members it is for"),
        "rest": ("action_rest", "customers", "customers of other segments it is for"),
        "need_name": ("action_need", "name", "the need that is offered"),
        "spoken": ("action_offer", "name", "the need that is offered, as a sentence speaks of it"),
        "spends_below": ("action_limit", "money", "lower third of what buyers of it at this level spent, rounded"),
        "per": ("action_per", "name", "the length of the horizon"),
        "peers": ("action_peers", "share", "others at this level, of segments that do not come for it, who buy more"),
    },
}
OWN_PART = (  # columns of CardTables.actions that the table actions has not: about one segment
    *("own", "rest", "condition", "need_name", "spoken", "limit", "spends_below", "per", "peers"),
)
IN_SENTENCES = ("gap_need", "action_need", "action_offer")  # names that stand within a sentence
PER_ORDER = {"order_value": "spend net of returns", "lines_per_order": "lines"}  # divided by all orders, as KPIs are


@dataclass(frozen=True)
class CardTables:
    """The tables behind the cards, each with a column segment; None where a step has not made one."""

    favourites: pd.DataFrame
    traits: pd.DataFrame | None = None
    unmet_needs: pd.DataFrame | None = None
    topics: pd.DataFrame | None = None
    rules: pd.DataFrame | None = None
    actions: pd.DataFrame | None = None


def collect_facts(
    segments: pd.DataFrame,
    *,
    customers: CustomerData,
    features: pd.DataFrame,
    segment: pd.Series,
    tables: CardTables,
    period: Period,
    needs: Needs | None = None,
    labels: Mapping[str, str] | None = None,
    currency: str = "",
) -> list[Fact]:
    """Collect every figure and every name that a card may use.

    Parameters
    ----------
    segments
        The segment table.
    customers
        What customers bought, in the order of ``segment``.
    features, segment
        Features and segment id by ``customer_id``.
    tables
        What else is known about the segments.
    period
        The period of the run.
    needs
        Needs of the run, by which those of segments are described.
    labels
        Category -> label.
    currency
        Three letters, for all amounts of money; "" where unknown.

    Returns
    -------
    list of Fact
        Named within their segment; unknown figures are left out.
    """
    facts = _segment_facts(segments, period=period) + _member_facts(features, segment)
    facts += _need_facts(segments, customers, segment, needs=needs, labels=labels)
    facts += _copy_facts(segments, tables) + _trait_facts(tables.traits, features, segment, labels=labels)
    facts += [fact for name in ROW_FACTS for fact in _row_facts(getattr(tables, name), name)]
    facts += _rule_facts(tables.rules)
    known = [f for f in facts if f.text is not None or not pd.isna(f.value)]
    return [replace(f, unit=f.unit.replace("money", currency)) if currency else f for f in known]


def _segment_facts(segments: pd.DataFrame, *, period: Period) -> list[Fact]:
    """Collect the figures, name and need of each segment from the segment table, and the spans of time."""
    spans = {
        "span": (span_text(period.lookback_days), "the lookback"),
        "next_span": (dates_text(period.as_of, period.horizon_end, years=False), "the next horizon"),
        "last_span": (dates_text(period.last_horizon_start, period.as_of, years=False), "the last horizon"),
    }
    margin, facts = margin_of_all(segments), []
    for row in segments.to_dict("records"):
        own = row["segment"]
        facts.append(Fact("margin_all", own, margin, "share", "mean margin of the segments, weighted by revenue"))
        facts += [Fact(name, own, row[name], *about) for name, about in SEGMENT_FACTS.items() if name in row]
        facts += [Fact(name, own, None, "name", how, text=text) for name, (text, how) in spans.items()]
        usual = row.get("spend_now", np.nan) * row.get("spend_change", np.nan)
        facts.append(Fact("spend_usual", own, usual, "money", "spend_now, changed as usual for such customers"))
        facts.append(Fact("floor", own, FLOOR, "customers", "the smallest group that is described"))
        if row.get("revenue_share", 0) > 0:
            times = row["revenue_share"] / row["customer_share"]
            facts.append(Fact("revenue_times", own, times, "times", "share of revenue / share of customers"))
        for name in ("name", "level", "need_name"):
            if isinstance(row.get(name), str):
                facts.append(Fact(name, own, None, "name", f"{name} in the table segments", text=row[name]))
    return facts


def margin_of_all(segments: pd.DataFrame) -> float:
    """Return the margin over all segments, weighted by revenue; not-a-number where it is not known of all."""
    if not {"margin", "revenue"} <= set(segments) or segments["margin"].isna().any() or segments["revenue"].sum() <= 0:
        return np.nan
    return float(np.average(segments["margin"].astype(float), weights=segments["revenue"].clip(lower=0)))


def _member_facts(features: pd.DataFrame, segment: pd.Series) -> list[Fact]:
    """Collect habits of members and of other customers, lifecycle stages, and the channel used most."""
    wanted = [name for name in features if name in (*MEMBER_FACTS, *PER_ORDER, "spend") or name.startswith("channel_")]
    members = features.loc[segment.index, wanted]
    if {"stage_cooling", "stage_lapsed"} <= set(members):
        members = members.assign(late_share=members["stage_cooling"] + members["stage_lapsed"])
    if "active_days" in members:
        members = members.assign(once_share=(members["active_days"] == 1).astype(float))
    channels = [n for n in members if n.startswith("channel_") and n.endswith("_share")]
    facts = []
    columns = {
        name: members[name].to_numpy() for name in (*MEMBER_FACTS, "late_share", "once_share") if name in members
    }
    for own in sorted(set(segment)):
        inside = segment.eq(own).to_numpy()
        facts += _order_facts(own, members, inside)
        for name, values in columns.items():
            take = "median" if name in BY_MEDIAN else "mean"
            unit = "share" if name.startswith("stage_") or name.endswith("_share") else describe(name).unit
            value, others = (float(getattr(np, take)(values[rows])) for rows in (inside, ~inside))
            unit = "whole" if name in WHOLE else unit
            facts.append(Fact(name, own, value, unit, f"{take} of {name} over the members"))
            facts.append(Fact(f"{name}_others", own, others, unit, f"{take} of {name} over everyone else"))
        if channels:
            top = members.loc[inside, channels].mean().round(9).idxmax()
            words = top.removeprefix("channel_").removesuffix("_share").replace("_", " ")
            facts.append(Fact("channel", own, None, "name", "the channel with most of their visits", text=words))
            for part, rows in (("", inside), ("_others", ~inside)):
                about = f"mean of {top} over {'everyone else' if part else 'the members'}"
                facts.append(Fact(f"channel_share{part}", own, float(members.loc[rows, top].mean()), "share", about))
    return facts


def _order_facts(own: str, members: pd.DataFrame, inside: np.ndarray) -> list[Fact]:
    """Divide spend and lines of all orders of members, and of everyone else, by the number of these orders."""
    facts = []
    for name, words in PER_ORDER.items():
        if not {name, "orders"} <= set(members) or (name == "order_value" and "spend" not in members):
            continue
        buys = members["orders"] > 0
        sums = members["spend"] if name == "order_value" else members[name] * members["orders"]
        pair = [
            float(sums[who].sum() / members.loc[who, "orders"].sum()) if who.any() else np.nan
            for who in (buys & inside, buys & ~inside)
        ]
        whole = name == "lines_per_order" and min(pair) > SMALL
        for end, value, who in zip(("", "_others"), pair, ("members", "everyone else"), strict=True):
            unit = "whole" if whole else describe(name).unit
            facts.append(Fact(f"{name}{end}", own, value, unit, f"{words} of {who} / their orders"))
    return facts


def _need_facts(
    segments: pd.DataFrame,
    customers: CustomerData,
    segment: pd.Series,
    *,
    needs: Needs | None,
    labels: Mapping[str, str] | None,
) -> list[Fact]:
    """Collect how much of what members buy is the need that leads, with examples; else the largest need."""
    weights, bought_things = customers.things
    if needs is None or weights is None:
        return []
    segment = segment.reindex(customers.features.index)
    shares, whole = _shares_of_buyers(customers, needs=needs)
    by_thing, names = term_weights(weights, list(bought_things), words=needs.words)
    facts = []
    for own, led in segments.set_index("segment")["need"].items():
        inside = segment.eq(own).to_numpy()
        if not np.isfinite(whole[inside]).any() or not np.isfinite(whole[~inside]).any():
            continue
        means, others = np.nanmean(shares[inside], axis=0), np.nanmean(shares[~inside], axis=0)
        largest = int(np.argmax(np.round(means, 9)))
        facts += _figures("largest", own, means[largest], others[largest], what="the largest need")
        facts.append(_name("largest_need", own, lower_first(needs.names[largest]), "the need with most of spend"))
        if led not in needs.ids:
            continue
        number = needs.ids.index(led)
        facts.append(_name("need", own, lower_first(needs.names[number]), "the need that leads"))
        led_by = _lead_figures(shares[:, number], inside)
        facts += [Fact(name, own, value, "share", LEAD_FACTS[name]) for name, value in led_by.items()]
        wanted = _things(needs, number) - charges(_things(needs, number), labels=labels)
        things = [i for i, name in enumerate(names) if name in wanted]
        amounts = by_thing[:, things].toarray() / whole
        common = (amounts[inside] > 0).sum(axis=0) >= FLOOR  # what a few bought is not named
        things, amounts = [thing for thing, named in zip(things, common, strict=True) if named], amounts[:, common]
        average = np.nanmean(amounts[inside], axis=0), np.nanmean(amounts[~inside], axis=0)
        facts += _example_facts(own, [names[i] for i in things], *average, least=means[number], labels=labels)
    return facts


def claimed_needs(led: pd.Series, customers: CustomerData, segment: pd.Series, *, needs: Needs | None) -> pd.Series:
    """Return the need of each segment where a card may claim it, and null where it may not.

    Parameters
    ----------
    led
        Id of the need that each segment grew from, by segment; null where there is none.
    customers, segment
        What customers bought, and the segment id of each.
    needs
        Needs of the run.
    """
    if needs is None or customers.things[0] is None:
        return led
    segment = segment.reindex(customers.features.index)
    shares, _whole = _shares_of_buyers(customers, needs=needs)
    claimed = {}
    for own, need in led.items():
        inside = segment.eq(own).to_numpy()
        figures = _lead_figures(shares[:, needs.ids.index(need)], inside) if need in needs.ids else {}
        claimed[own] = need if figures and may_claim_need(figures) else None
    return pd.Series(claimed, index=led.index, dtype=object)


def _shares_of_buyers(customers: CustomerData, *, needs: Needs) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each need in what each customer bought, and all that they bought; null for nothing."""
    weights, _things = customers.things
    whole = np.asarray(weights.sum(axis=1)).ravel()
    whole = np.where(whole > 0, whole, np.nan)[:, None]
    return need_amounts(needs, customers.things) / whole, whole


def _lead_figures(share: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Compute what a claim of a need rests on, from its share in what each customer bought; empty where unknown."""
    members, others = share[inside & np.isfinite(share)], share[~inside & np.isfinite(share)]
    if not len(members) or not len(others):
        return {}
    values = members.mean(), others.mean(), (members > 0).mean(), (members > others.mean()).mean()
    return dict(zip(LEAD_FACTS, map(float, values), strict=True))


def _things(needs: Needs, number: int) -> set[str]:
    return {thing for thing, of in zip(needs.things, needs.need_of, strict=True) if of == number}


def _example_facts(
    own: str, things: list[str], share: np.ndarray, others: np.ndarray, *, least: float, labels: Mapping | None
) -> list[Fact]:
    """Choose the things that members spend most on beyond what others do, and that make up a real part of the need."""
    facts, listed = [], []
    for i in np.argsort(-np.round(share - others, 9), kind="stable"):
        text = label(things[i], labels=labels)
        if share[i] <= others[i] or share[i] < MIN_EXAMPLE_SHARE * least or text in listed or len(listed) == EXAMPLES:
            continue
        listed.append(text)
        name = f"thing_{len(listed)}"
        facts.append(_name(name, own, text, EXAMPLE_OF + things[i]))
        facts += _figures(name, own, share[i], others[i], what=f"{text} ({things[i]})")
    list_how = "what members spend most on beyond others, of the need"
    return [*facts, _name("thing_list", own, joined(listed), list_how)] if len(listed) > 1 else facts


def _figures(name: str, segment: str, value: float, others: float, *, what: str) -> list[Fact]:
    """Return the mean share of something in what members bought, and in what others did."""
    return [
        Fact(f"{name}_share", segment, float(value), "share", f"mean share of what members bought: {what}"),
        Fact(f"{name}_share_others", segment, float(others), "share", f"the same for everyone else: {what}"),
    ]


def _name(name: str, segment: str, text: str, how: str) -> Fact:
    return Fact(name, segment, None, "name", how, text=text)


def _copy_facts(segments: pd.DataFrame, tables: CardTables) -> list[Fact]:
    """Collect the names that copy may use: the need, lines on it, its job, the need of the best action, and when."""
    facts, entries = [], {entry.label.lower(): entry for entry in read_lexicon(None).entries}
    spoken = spoken_needs()
    for row in segments.to_dict("records"):
        need = row.get("need_name")
        if isinstance(need, str) and need != name_phrase(NO_NEED):
            words = spoken.get(need.lower(), {"name": lower_first(need)})
            facts += _both_cases(
                "copy_need", row["segment"], words["name"], "the need that leads, in the table segments"
            )
            facts += _line_facts("copy_", row["segment"], words, "a line on this need, in need_lines")
            job = entries[need.lower()].job if need.lower() in entries else ""
            if job and need.lower() not in job:  # which would repeat itself in a sentence
                words = re.sub(r"\bone('s|self)?\b", lambda found: YOU[found[0]], job)
                facts.append(_name("copy_job", row["segment"], words, "what this need is for, in the lexicon"))
    led = dict(zip(segments["segment"], segments.get("need_name", segments["segment"]), strict=True))
    if tables.actions is not None:
        like_things = sentence("actions", "like_things", things="").rstrip() + " "
        for row in tables.actions.drop_duplicates("segment").to_dict("records"):
            if isinstance(row.get("offer"), str) and row["offer"] != led.get(row["segment"]):
                offer = row["offer"].removeprefix(like_things)
                words = spoken.get(offer.lower(), {"name": lower_first(offer)})
                facts += _both_cases("copy_offer", row["segment"], words["name"], "the need of the best action")
                facts += _line_facts("copy_offer_", row["segment"], words, "a line on this need, in need_lines")
            if isinstance(row.get("moment"), str):
                facts.append(_name("copy_moment", row["segment"], row["moment"], "when they come more than others"))
    return facts


def _line_facts(prefix: str, segment: str, words: Mapping[str, Any], how: str) -> list[Fact]:
    """Return the lines that need_lines has on a need: copy_push_1 and so on."""
    kinds = {kind: lines for kind, lines in words.items() if kind != "name"}
    return [
        _name(f"{prefix}{kind}_{number}", segment, line, how)
        for kind, lines in kinds.items()
        for number, line in enumerate(lines, start=1)
    ]


def _both_cases(name: str, segment: str, text: str, how: str) -> list[Fact]:
    """Return a name as it stands within a sentence, and at its start."""
    return [
        _name(name, segment, text, how),
        _name(f"{name}_cap", segment, text[:1].upper() + text[1:], how),
    ]


def _trait_facts(
    traits: pd.DataFrame | None, features: pd.DataFrame, segment: pd.Series, *, labels: Mapping[str, str] | None
) -> list[Fact]:
    """Collect what sets members apart in the customer table, where enough of them are in it."""
    if traits is None:
        return []
    missing = features.loc[segment.index, [name for name in features if name.startswith("missing: ")]]
    has_attributes = missing.eq(0).any(axis=1)
    clear = traits[(traits["effect"] >= MIN_TRAIT_EFFECT) & traits["block"].isin(FEATURE_ROLES)]
    facts = []
    for own in sorted(set(segment)):
        inside = segment.eq(own)
        count = int(has_attributes[inside].sum())
        if count < FLOOR:
            continue
        facts.append(Fact("known_share", own, count / inside.sum(), "share", "members with attributes / members"))
        for number, row in enumerate(_distinct(clear[clear["segment"] == own]).head(2).to_dict("records"), start=1):
            words = trait_words(row["feature"].partition(": ")[2], labels=labels)
            name, unit = f"who_{number}", row["unit"] if row["unit"] == "share" else "value"
            facts.append(_name(name, own, words, row["feature"]))
            facts.append(Fact(f"{name}_share", own, row["value"], unit, f"mean over the members: {words}"))
            facts.append(Fact(f"{name}_others", own, row["others"], unit, f"mean over everyone else: {words}"))
    return facts


def trait_words(trait: str, *, labels: Mapping[str, str] | None = None) -> str:
    """Write an attribute and its value: by its label in the source, else as they are.

    >>> trait_words("home_size = 3+"), trait_words("kids = 3+", labels={"kids = 3+": "3 or more kids"})
    ('Home size 3+', '3 or more kids')
    """
    words = trait.replace(" = ", " ").replace("_", " ")
    return (labels or {}).get(trait) or words[:1].upper() + words[1:]


def _distinct(traits: pd.DataFrame) -> pd.DataFrame:
    """Return the traits without a second one of the same attribute."""
    attribute = traits["feature"].str.split(" = ").str[0]
    return traits[~attribute.duplicated()].drop_duplicates(["value", "others"])


def _row_facts(table: pd.DataFrame | None, name: str) -> list[Fact]:
    """Collect the names and figures of the first row of each segment in a table."""
    facts = []
    for row in table.drop_duplicates("segment").to_dict("records") if table is not None else []:
        for column, (fact, unit, how) in ROW_FACTS[name].items():
            value = row.get(column)
            if unit != "name":
                counted = unit == "rough money" and row.get("prize_unit") not in MONEY
                facts.append(Fact(fact, row["segment"], value, "rough" if counted else unit, how))
            elif isinstance(value, str) and value:
                text = lower_first(value) if fact in IN_SENTENCES else value
                facts.append(_name(fact, row["segment"], text, how))
    return facts


def _rule_facts(rules: pd.DataFrame | None) -> list[Fact]:
    """Collect the conditions of each rule, its precision and its recall."""
    facts = []
    for row in rules.to_dict("records") if rules is not None else []:
        own, name = row["segment"], f"rule_{row['condition']}"
        facts.append(_name(name, own, row["words"], f"a figure that the rule looks at: {row['item']}"))
        facts.append(Fact(f"{name}_low", own, row["at_least"], row["unit"], "the rule's lower bound"))
        facts.append(Fact(f"{name}_high", own, row["below"], row["unit"], "the rule's upper bound, exclusive"))
        if row["condition"] == 1:
            for rate, how in (("precision", "of those it picks, members"), ("recall", "of the members, picked")):
                facts += [
                    Fact(f"rule_{rate}{p}", own, row[rate + p], "share", f"{how}; on held-out customers{e}")
                    for p, e in ENDS
                ]
    return facts
