"""Figures: the facts of each segment, gathered from the tables that hold them, each with how it was computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from segkit.actions.bars import fine_share
from segkit.actions.facts import Fact
from segkit.actions.labels import label
from segkit.actions.names import TERMS_TOLD, told_terms
from segkit.customers.known import FEATURE_ROLES
from segkit.numbers import joined
from segkit.small_groups import FLOOR
from segkit.vocabulary import describe

LEAST_TRAIT = 0.3  # standard deviations; a smaller trait describes nobody
CLEARLY_MORE = 1.25  # times elsewhere; a need behind what is bought has to be so much larger
STILL_FEW = 0.6  # of the members; what more of them buy already is no idea for an offer
SEGMENT_FACTS = {  # column of the table segments -> unit, and how it was computed
    "customers": ("customers", "members of the segment"),
    "customer_share": ("share", "members / everyone segmented"),
    "revenue_share": ("share", "their spend in the lookback / all spend in it"),
    "margin": ("share", "(amount - cost) / amount of their purchases in the last horizon"),
    "stability": ("score", "mean Jaccard with the best match in refits"),
    "spend_now": ("money", "mean spend of the members in the last horizon"),
    **{
        f"active_share_next{part}": ("share", f"active in the horizon after standing here one horizon ago{end}")
        for part, end in (("", ""), ("_low", ", 95 % low"), ("_high", ", 95 % high"))
    },
    **{
        f"spend_next{part}": ("money", f"mean spend in the horizon after standing here one horizon ago{end}")
        for part, end in (("", ""), ("_low", ", 95 % low"), ("_high", ", 95 % high"))
    },
}
MEMBER_FACTS = (
    *("orders", "active_days", "gap_days", "recency_days", "order_value", "lines_per_order", "line_value"),
    *("weekend_share", "evening_share", "morning_share", "afternoon_share", "night_share"),
    *("discount_share", "private_label_share", "return_share", "categories"),
    *("stage_new", "stage_active", "stage_cooling", "stage_lapsed", "stage_returned"),
)
BY_MEDIAN = ("gap_days", "recency_days")  # one who came once has the whole lookback as a gap: the mean would mislead
ROW_FACTS = {  # part of Told -> column -> (fact, unit, how)
    "gaps": {
        "peers": ("lack_peers", "share", "customers of other segments nearest in the space, who buy it"),
        "buyers": ("lack_buyers", "share", "members who buy it, those who did not choose it"),
        "difference": ("lack_gap", "share", "the difference, members in pairs with their peers"),
        "difference_low": ("lack_low", "share", "95 % low"),
        "difference_high": ("lack_high", "share", "95 % high"),
    },
    "topics": {
        "share": ("topic_share", "share", "members who wrote, and wrote of it"),
        "others": ("topic_others", "share", "the same for everyone else"),
        "writers": ("topic_writers", "customers", "members who wrote anything in the lookback"),
    },
}
WORDS_OF = {"gaps": ("term", "lack"), "topics": ("topic", "topic")}  # part -> column with a name, fact that holds it


@dataclass(frozen=True)
class Told:
    """Tables that a card may draw on, each with a column segment; None where a step has not made it."""

    needs: pd.DataFrame
    top_differences: pd.DataFrame | None = None
    traits: pd.DataFrame | None = None
    unmet_needs: pd.DataFrame | None = None
    topics: pd.DataFrame | None = None
    rules: pd.DataFrame | None = None


def segment_facts(
    segments: pd.DataFrame,
    *,
    features: pd.DataFrame,
    segment: pd.Series,
    tables: Told,
    horizon_days: int,
    labels: Mapping[str, str] | None = None,
    currency: str = "",
) -> list[Fact]:
    """Every figure and every name that a card may use.

    Takes  segments: the table so far; features and segment by customer_id; told: what else is known of the segments
    Gives  facts, named within their segment; a figure that is not known is no fact

    Parameters
    ----------
    labels : categories in plain words
    currency : of all money, three letters; "" where it is not known
    """
    format_term = lambda term: label(term, labels=labels)  # noqa: E731
    facts = _of_segments(segments, horizon_days=horizon_days) + _of_members(features, segment)
    facts += _of_needs(tables.needs, labels=labels)
    facts += _of_bars(tables.top_differences) + _of_traits(tables.traits, features, segment, labels=labels)
    facts += [
        f for part in ROW_FACTS for f in _of_rows(getattr(tables, part), part, format_term=format_term)
    ] + _of_rules(tables.rules)
    available = [f for f in facts if f.text is not None or not pd.isna(f.value)]
    return [replace(f, unit=currency) if f.unit == "money" and currency else f for f in available]


def _of_segments(segments: pd.DataFrame, *, horizon_days: int) -> list[Fact]:
    facts = []
    for row in segments.to_dict("records"):
        own = row["segment"]
        available = {name: about for name, about in SEGMENT_FACTS.items() if name in row}
        facts += [Fact(name, own, row[name], unit, how) for name, (unit, how) in available.items()]
        facts.append(Fact("horizon", own, horizon_days, "days", "the horizon of the run"))
        for name in ("name", "need"):
            if name in row:
                facts.append(Fact(name, own, None, "name", f"{name} in the table segments", text=row[name]))
    return facts


def _of_members(features: pd.DataFrame, segment: pd.Series) -> list[Fact]:
    """Habits of the members and of everyone else, stages of the lifecycle, and the channel used most."""
    members = features.loc[segment.index]
    channels = [n for n in members if n.startswith("channel_") and n.endswith("_share")]
    facts = []
    for own in sorted(set(segment)):
        inside = segment.eq(own).to_numpy()
        for name in [n for n in MEMBER_FACTS if n in members]:
            take = "median" if name in BY_MEDIAN else "mean"
            unit = "share" if name.startswith("stage_") else describe(name).unit
            here, there = (getattr(members.loc[rows, name], take)() for rows in (inside, ~inside))
            facts.append(Fact(name, own, float(here), unit, f"{take} of {name} over the members"))
            facts.append(Fact(f"{name}_others", own, float(there), unit, f"{take} of {name} over everyone else"))
        if channels:
            top = members.loc[inside, channels].mean().round(9).idxmax()
            words = top.removeprefix("channel_").removesuffix("_share").replace("_", " ")
            facts.append(Fact("channel", own, None, "name", "the channel with most of their visits", text=words))
            for part, rows in (("", inside), ("_others", ~inside)):
                about = f"mean of {top} over {'everyone else' if part else 'the members'}"
                facts.append(Fact(f"channel_share{part}", own, float(members.loc[rows, top].mean()), "share", about))
    return facts


def _of_needs(needs: pd.DataFrame, *, labels: Mapping[str, str] | None) -> list[Fact]:
    facts = []
    for own, terms in told_terms(needs, labels=labels).items():
        rows = needs[needs["segment"] == own]
        rows = rows.assign(said=[label(t, labels=labels) for t in rows["term"]]).drop_duplicates("said")
        how = "what members over-buy, by effect size"
        facts.append(Fact("need_list", own, None, "name", how, text=joined(terms[:TERMS_TOLD])))
        for number, row in enumerate(rows.head(TERMS_TOLD).to_dict("records"), start=1):
            at = f"{how}: number {number}"
            facts.append(Fact(f"need_{number}", own, None, "name", at, text=row["said"]))
            facts.append(
                Fact(f"need_{number}_cap", own, None, "name", at, text=row["said"][:1].upper() + row["said"][1:])
            )
            unit = fine_share([row["share"]], [row["others"]])[0]
            facts += [
                Fact(f"need_{number}_share", own, row["share"], unit, "mean share of it in what members bought"),
                Fact(f"need_{number}_others", own, row["others"], unit, "the same for everyone else"),
                Fact(f"need_{number}_buyers", own, row["buyers"], "share", "members who bought it"),
            ]
        rest = rows.iloc[1:]
        if len(rest):
            idea = rest[rest["buyers"] <= STILL_FEW].head(1) if (rest["buyers"] <= STILL_FEW).any() else rest.head(1)
            how = "of what the segment over-buys, the first that many members do not buy yet"
            facts.append(Fact("add_need", own, None, "name", how, text=idea.iloc[0]["said"]))
    return facts


def _of_bars(differences: pd.DataFrame | None) -> list[Fact]:
    facts = []
    for row in differences.to_dict("records") if differences is not None else []:
        name, own, how = f"bar_{row['bar']}", row["segment"], "one of the largest differences from everyone else"
        facts += [
            Fact(name, own, None, "name", how, text=row["words"]),
            Fact(f"{name}_value", own, row["value"], row["unit"], f"mean over the members: {row['words']}"),
            Fact(f"{name}_others", own, row["others"], row["unit"], f"mean over everyone else: {row['words']}"),
        ]
    return facts


def _of_traits(
    traits: pd.DataFrame | None, features: pd.DataFrame, segment: pd.Series, *, labels: Mapping[str, str] | None
) -> list[Fact]:
    """The need behind what is bought, and who they are where enough of them are known."""
    if traits is None:
        return []
    lower = {category.lower(): words for category, words in (labels or {}).items()}
    missing = features[[n for n in features if n.startswith("missing: ")]]
    has_attributes = (missing.eq(0).any(axis=1) if len(missing.columns) else pd.Series(False, index=features.index))[
        segment.index
    ]
    clear = traits[traits["effect"] >= LEAST_TRAIT]
    facts = []
    for own in sorted(set(segment)):
        rows = clear[clear["segment"] == own]
        needs = rows[(rows["block"] == "needs") & (rows["value"] >= CLEARLY_MORE * rows["others"])].head(1)
        how = "the group of things bought together that is furthest above everyone else"
        for row in needs.to_dict("records"):
            words = joined(list(dict.fromkeys(lower.get(t) or label(t) for t in row["words"].split(", "))))
            facts += _pair("behind", own, words, row, how=how)
        inside = segment.eq(own)
        count = int(has_attributes[inside].sum())
        if count >= FLOOR:
            facts.append(Fact("known", own, count, "customers", "members of whom the customer table says anything"))
            facts.append(Fact("known_share", own, count / inside.sum(), "share", "the same / members"))
            for number, row in enumerate(rows[rows["block"].isin(FEATURE_ROLES)].head(2).to_dict("records"), start=1):
                words = row["words"].replace("_", " ")
                facts += _pair(f"who_{number}", own, words, row, how="what is known of members, where it is known")
    return facts


def _pair(name: str, segment: str, words: str, row: Mapping, *, how: str) -> list[Fact]:
    """A name, and how much of it there is here and elsewhere."""
    return [
        Fact(name, segment, None, "name", how, text=words),
        Fact(f"{name}_share", segment, row["value"], row["unit"], f"mean over the members: {words}"),
        Fact(f"{name}_others", segment, row["others"], row["unit"], f"mean over everyone else: {words}"),
    ]


def _of_rows(table: pd.DataFrame | None, part: str, *, format_term: Callable[[str], str]) -> list[Fact]:
    """One row a segment: a name and its figures."""
    column, fact = WORDS_OF[part]
    facts = []
    for row in table.to_dict("records") if table is not None else []:
        words = format_term(row[column]) if part == "gaps" else row[column]
        facts.append(Fact(fact, row["segment"], None, "name", f"the first row of the table {part}", text=words))
        facts += [Fact(name, row["segment"], row[c], unit, how) for c, (name, unit, how) in ROW_FACTS[part].items()]
    return facts


def _of_rules(rules: pd.DataFrame | None) -> list[Fact]:
    facts = []
    for row in rules.to_dict("records") if rules is not None else []:
        own, name = row["segment"], f"rule_{row['condition']}"
        facts.append(Fact(name, own, None, "name", "a figure that the rule looks at", text=row["words"]))
        facts.append(Fact(f"{name}_low", own, row["at_least"], row["unit"], "the rule's lower bound"))
        facts.append(Fact(f"{name}_high", own, row["below"], row["unit"], "the rule's upper bound, exclusive"))
        if row["condition"] == 1:
            for rate, how in (("precision", "of those it picks, members"), ("recall", "of the members, picked")):
                ends = (("", ""), ("_low", ", 95 % low"), ("_high", ", 95 % high"))
                facts += [
                    Fact(f"rule_{rate}{p}", own, row[rate + p], "share", f"{how}; on held-out customers{e}")
                    for p, e in ends
                ]
    return facts
