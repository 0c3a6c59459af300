"""Personas: a name, a need and a card for each segment, written from facts alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from segkit.actions.facts import PLACEHOLDER, Fact, render
from segkit.vocabulary import block_of, describe

OFTEN, SELDOM = 2 / 3, 1 / 3  # of the segments, ranked: the upper third comes often, the lower seldom
FADING_BELOW = 0.75  # expected active share, of that of all customers
PRIVACY_FLOOR = 20  # customers; a smaller segment gets no story
TERMS_TOLD = 3
PLAIN = "broad range"
SAID_OTHERWISE = ("rfm", "rhythm", "lifecycle")  # blocks of features that a look tells already
SHORT = 24  # characters of two alternatives
TOO_FEW = "Too few customers to tell a story of."
UNSTABLE = (
    "This segment often dissolves when the search is repeated (stability {stability}): test before you build on it."
)
LOOKS = ("often", "seldom", "fading", "steady")
RHYTHM_WORDS = {"often": "Frequent", "seldom": "Occasional", "fading": "Fading", "steady": "Steady"}
ACTIONS = {
    "often": "Keep them: reward {first_need} and add {gap_need}",
    "steady": "Grow them: offer {gap_need} beside {first_need}",
    "seldom": "Give them a reason to come sooner: {first_need}",
    "fading": "Win them back with {first_need} before they are gone",
}
NO_NEED_ACTIONS = {
    "often": "Keep them: reward what they do",
    "steady": "Grow them: show what else there is",
    "seldom": "Give them a reason to come sooner",
    "fading": "Win them back before they are gone",
}


SEGMENT_FACTS = {  # column of the table segments -> unit, and how it was computed
    "customers": ("customers", "members of the segment"),
    "customer_share": ("share", "members / everyone segmented"),
    "revenue_share": ("share", "their spend in the lookback / all spend in it"),
    "stability": ("score", "mean Jaccard with the best match in refits"),
    "active_share_next": ("share", "active in the horizon after standing here one horizon ago"),
    "spend_next": ("money", "mean spend in the horizon after standing here one horizon ago"),
    "spend_now": ("money", "mean spend of the members in the last horizon"),
}
MEMBER_FACTS = (
    "orders",
    "active_days",
    "gap_days",
    "recency_days",
    "order_value",
    "lines_per_order",
    "weekend_share",
    "evening_share",
    "morning_share",
    "discount_share",
    "private_label_share",
)


def tidy(term: str) -> str:
    """A category as people would say it: lower case, two of its alternatives where they are short, else the first.

    >>> tidy("COUPON/MISC ITEMS"), tidy("BAKED BREAD/BUNS/ROLLS"), tidy("HOUSEHOLD CLEANING NEEDS/CARE"), tidy("/")
    ('coupon & misc items', 'baked bread & buns', 'household cleaning needs', '/')
    """
    parts = [" ".join(part.lower().replace("_", " ").split()) for part in term.split("/")]
    parts = [part for part in parts if part] or [term]
    joined = " & ".join(parts[:2])
    return joined if len(joined) <= SHORT else parts[0]


def looks_of(segments: pd.DataFrame, *, features: pd.DataFrame, segment: pd.Series) -> pd.Series:
    """How each segment comes, from the features of its customers; see `segment_looks`."""
    often = features["orders" if "orders" in features else "active_days"].groupby(segment).mean()
    return segment_looks(segments, often=often)


def segment_looks(segments: pd.DataFrame, *, often: pd.Series) -> pd.Series:
    """How each segment comes: often, steady, seldom, or fading where few of them are expected back.

    Takes  segments: segment, customers, active_share_next; often: mean orders (or active days) by segment
    Gives  look by segment
    """
    rank = often.rank(pct=True, method="average")
    looks = pd.Series(np.where(rank > OFTEN, "often", np.where(rank <= SELDOM, "seldom", "steady")), index=often.index)
    active = segments.set_index("segment")["active_share_next"].reindex(often.index)
    weights = segments.set_index("segment")["customers"].reindex(often.index)
    known = active.notna()
    if known.any():
        usual = np.average(active[known], weights=weights[known])
        looks[active < FADING_BELOW * usual] = "fading"
    return looks


def name_segments(looks: pd.Series, needs: pd.DataFrame, *, habits: pd.DataFrame | None = None) -> pd.DataFrame:
    """A short, unique name and the need in a few words for each segment; no demographics, no judgement.

    Takes  looks by segment; needs as `signals.segment_needs`
    Gives  indexed by segment: name, need

    Parameters
    ----------
    habits : as `signals.segment_signals`; what sets a segment apart names it where no need is known of it
    """
    told = (
        needs.groupby("segment")["term"].apply(lambda t: list(dict.fromkeys(tidy(x) for x in t))) if len(needs) else {}
    )
    rows, taken = {}, set()
    for segment in looks.index:
        terms = (told.get(segment, []) if len(needs) else []) or _habits(habits, segment=segment)
        name = _unique(RHYTHM_WORDS[looks[segment]], terms, taken=taken, segment=segment)
        rows[segment] = (name, _joined(terms[:TERMS_TOLD]) or PLAIN)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["name", "need"]).rename_axis("segment")


def segment_facts(
    segments: pd.DataFrame, *, features: pd.DataFrame, segment: pd.Series, needs: pd.DataFrame, horizon_days: int
) -> list[Fact]:
    """Every figure and every name that a card may use.

    Takes  segments: the table so far; features and segment by customer_id; needs
    Gives  facts, named within their segment
    """
    facts = []
    for row in segments.to_dict("records"):
        own = row["segment"]
        members = features[segment.eq(own).reindex(features.index, fill_value=False)]
        facts += [Fact(name, own, row[name], unit, how) for name, (unit, how) in SEGMENT_FACTS.items()]
        facts.append(Fact("horizon", own, horizon_days, "days", "the horizon of the run"))
        for name in MEMBER_FACTS:
            if name in members:
                how = f"mean of {name} over the members"
                facts.append(Fact(name, own, float(members[name].mean()), describe(name).unit, how))
        facts += _need_facts(own, needs)
    return facts


def write_personas(segments: pd.DataFrame, *, looks: pd.Series, facts: Sequence[Fact]) -> pd.DataFrame:
    """A card for each segment; one below the privacy floor or unstable gets a caution and no story.

    Takes  segments with names and needs; looks; facts of all segments
    Gives  segment, name, need, story, how_they_buy, next, value, offer, kpi, caution
    """
    cards = []
    for row in segments.to_dict("records"):
        own = row["segment"]
        have = _known(facts, own)
        texts = {part: _first_fitting(templates, have) for part, templates in _templates(looks[own]).items()}
        if row["customers"] < PRIVACY_FLOOR:
            texts = dict.fromkeys(texts, "") | {"caution": TOO_FEW}
        elif row["verdict"] == "unstable":
            texts["caution"] = UNSTABLE
        shown = {part: render(text, facts, segment=own) for part, text in texts.items()}
        cards.append({"segment": own, "name": row["name"], "need": row["need"], **shown})
    return pd.DataFrame(cards)


def next_action(look: str, *, facts: Sequence[Fact], segment: str) -> str:
    """The next best action in words."""
    template = _first_fitting((ACTIONS[look], NO_NEED_ACTIONS[look]), _known(facts, segment))
    return render(template, facts, segment=segment)


def _templates(look: str) -> dict[str, tuple[str, ...]]:
    """For each part of a card its texts, the fullest first: the first whose facts are all known is used."""
    size, again = "{customers} customers ({customer_share} of all", "came back within {horizon} days"
    habit = "{orders} orders in the lookback, {gap_days} days apart, {order_value} each with {lines_per_order} things"
    return {
        "story": (
            size
            + ", {revenue_share} of revenue) who come for {need_list}; {first_need} makes up {first_share} of what "
            "they buy, against {first_others} elsewhere.",
            size + ", {revenue_share} of revenue).",
            size + ").",
        ),
        "how_they_buy": (
            habit + "; {weekend_share} at the weekend, {evening_share} in the evening; {discount_share} of the price "
            "saved by discounts.",
            habit + ".",
            "{active_days} active days in the lookback, {gap_days} days apart.",
        ),
        "next": (
            "Of customers like them, {active_share_next} " + again + " and spent {spend_next} on average (they spent "
            "{spend_now} in the last {horizon} days).",
            "Of customers like them, {active_share_next} " + again + ".",
            "Not known: history is too short to have seen it.",
        ),
        "offer": (ACTIONS[look] + ".", NO_NEED_ACTIONS[look] + "."),
        "kpi": (
            "Share active within {horizon} days; the baseline is {active_share_next}.",
            "Share active within {horizon} days.",
        ),
        "caution": ("",),
    }


def _known(facts: Sequence[Fact], segment: str) -> set[str]:
    own = (f for f in facts if f.segment == segment)
    return {f.name for f in own if f.text is not None or (f.value is not None and np.isfinite(f.value))}


def _first_fitting(templates: Sequence[str], have: set[str]) -> str:
    return next((t for t in templates if set(PLACEHOLDER.findall(t)) <= have), "")


def _need_facts(segment: str, needs: pd.DataFrame) -> list[Fact]:
    own = needs[needs["segment"] == segment]
    if own.empty:
        return []
    terms = list(dict.fromkeys(tidy(t) for t in own["term"]))
    first = own.iloc[0]
    how = "what members over-buy most, by effect size"
    gaps = own.sort_values(["buyers", "term"])["term"].map(tidy)
    gap = next((g for g in gaps if g != terms[0]), terms[0])
    return [
        Fact("first_need", segment, None, "name", how, text=terms[0]),
        Fact("need_list", segment, None, "name", how, text=_joined(terms[:TERMS_TOLD])),
        Fact("gap_need", segment, None, "name", "of what the segment over-buys, what fewest members buy yet", text=gap),
        Fact("first_share", segment, first["share"], "share", "mean share of the first need in what members bought"),
        Fact("first_others", segment, first["others"], "share", "the same for everyone else"),
    ]


def _habits(signals: pd.DataFrame | None, *, segment: str) -> list[str]:
    """The strongest habits of a segment in words; how much and how often is in the name already."""
    if signals is None:
        return []
    own = signals[(signals["segment"] == segment) & ~signals["feature"].map(block_of).isin(SAID_OTHERWISE)]
    clear = own[(own["effect_low"] > 0) | (own["effect_high"] < 0)]
    return list(dict.fromkeys(clear["words"]))[:TERMS_TOLD]


def _joined(terms: Sequence[str]) -> str:
    return " and ".join([", ".join(terms[:-1]), terms[-1]]) if len(terms) > 1 else "".join(terms)


def _unique(rhythm: str, terms: Sequence[str], *, taken: set[str], segment: str) -> str:
    """The rhythm and as few needs as set it apart; at last the id."""
    words = [f"{rhythm} {t}" for t in terms] + [f"{rhythm} {_joined(terms[:n])}" for n in range(2, len(terms) + 1)]
    for name in (words[:1] or [f"{rhythm} {PLAIN}"]) + words[len(terms) :] + words[1 : len(terms)]:
        if name not in taken:
            taken.add(name)
            return name
    taken.add(f"{rhythm} {PLAIN} {segment}")
    return f"{rhythm} {PLAIN} {segment}"
