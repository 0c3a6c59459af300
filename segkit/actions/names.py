"""Names: short, unique, from what sets a segment apart in what it does; no demographics, no judgement of people."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from segkit.actions.labels import label
from segkit.numbers import joined

OFTEN, SELDOM = 2 / 3, 1 / 3  # of the segments, ranked: the upper third comes often, the lower seldom
FADING_BELOW = 0.75  # expected active share, of that of all customers
TERMS_TOLD = 3
NO_NEED = "no need stands out"
FORMS = {  # look -> how a name is built of what they come for and what they are called
    "often": "{need} regulars",
    "steady": "{need} {people}",
    "seldom": "Occasional {need} {people}",
    "fading": "Fading {need} {people}",
}
HABITS = {  # feature -> what customers high on it are called, and those low on it
    "order_value": ("big-order", "small-order"),
    "lines_per_order": ("full-basket", "few-items"),
    "line_value": ("costly-items", "low-price"),
    "categories": ("wide-range", "narrow-range"),
    "top_category_share": ("one-category", "mixed-basket"),
    "discounted_lines_share": ("on-offer", "full-price"),
    "discount_share": ("on-offer", "full-price"),
    "private_label_share": ("own-label", "known-brand"),
    "weekend_share": ("weekend", "weekday"),
    "morning_share": ("morning", "later-in-the-day"),
    "afternoon_share": ("afternoon", ""),
    "evening_share": ("evening", ""),
    "night_share": ("late-night", ""),
    "return_share": ("often-returning-goods", ""),
    "stage_new": ("new", ""),
    "stage_returned": ("returning", ""),
}


def looks_of(segments: pd.DataFrame, *, features: pd.DataFrame, segment: pd.Series) -> pd.Series:
    """How each segment comes, from the features of its customers; see `segment_looks`."""
    return segment_looks(segments, often=features["active_days"].groupby(segment).mean())


def segment_looks(segments: pd.DataFrame, *, often: pd.Series) -> pd.Series:
    """How each segment comes: often, steady, seldom, or fading where few of them are expected back.

    Takes  segments: segment, customers, active_share_next; often: mean active days by segment
    Gives  look by segment
    """
    rank = often.rank(pct=True, method="average")
    levels = pd.Series(np.where(rank > OFTEN, "often", np.where(rank <= SELDOM, "seldom", "steady")), index=often.index)
    active = segments.set_index("segment")["active_share_next"].reindex(often.index)
    weights = segments.set_index("segment")["customers"].reindex(often.index)
    has_forecast = active.notna()
    if has_forecast.any():
        usual = np.average(active[has_forecast], weights=weights[has_forecast])
        levels[active < FADING_BELOW * usual] = "fading"
    return levels


def name_segments(
    levels: pd.Series,
    needs: pd.DataFrame,
    *,
    habits: pd.DataFrame | None = None,
    labels: Mapping[str, str] | None = None,
    people: str = "buyers",
) -> pd.DataFrame:
    """A short, unique name and the need in a few words for each segment.

    Takes  looks by segment; needs as `signals.segment_needs`
    Gives  indexed by segment: name, need (no two alike where the needs can be helped)

    Parameters
    ----------
    habits : as `signals.segment_signals`; what sets a segment apart names it where its need does not
    labels : categories in plain words
    people : what those are called who are in a segment: buyers, users
    """
    labels_by_segment = told_terms(needs, labels=labels)
    rows, names, texts = {}, set(), set()
    for segment in levels.index:
        terms = labels_by_segment.get(segment, [])
        ways = [*_by_need(terms), *_by_habit(terms, called(habits, segment=segment))]
        form = FORMS[levels[segment]]
        built = [_upper(" ".join(form.format(need=way, people=people).split())) for way in ways]
        name = next((n for n in built if n not in names), f"{built[0]} {segment}")
        need = next((t for t in _texts(terms) if t not in texts), joined(terms[:TERMS_TOLD]) or NO_NEED)
        names.add(name)
        texts.add(need)
        rows[segment] = (name, need)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["name", "need"]).rename_axis("segment")


def told_terms(needs: pd.DataFrame, *, labels: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """What each segment over-buys in plain words, strongest first, none twice."""
    groups = needs.groupby("segment")["term"] if len(needs) else ()
    return {s: list(dict.fromkeys(label(t, labels=labels) for t in terms)) for s, terms in groups}


def called(habits: pd.DataFrame | None, *, segment: str) -> list[str]:
    """What customers of a segment may be called by the strongest of their habits that are surely theirs."""
    if habits is None:
        return []
    own = habits[habits["segment"] == segment]
    clear = own[(own["effect_low"] > 0) | (own["effect_high"] < 0)]
    found = [HABITS.get(f, ("", ""))[0 if e > 0 else 1] for f, e in zip(clear["feature"], clear["effect"], strict=True)]
    found += [
        feature.removeprefix("channel_").removesuffix("_share").replace("_", " ")
        for feature, effect in zip(clear["feature"], clear["effect"], strict=True)
        if feature.startswith("channel_") and effect > 0
    ]
    return list(dict.fromkeys(word for word in found if word))


def _by_need(terms: Sequence[str]) -> list[str]:
    """The first need; else the first and one more; no need, no words."""
    return [*terms[:1], *(joined([terms[0], other]) for other in terms[1:] if " and " not in terms[0] + other)]


def _by_habit(terms: Sequence[str], words: Sequence[str]) -> list[str]:
    """A habit before the first need, or alone."""
    first = terms[0] if terms else ""
    return [f"{word} {first}".strip() for word in words] + ([] if terms else [""])


def _texts(terms: Sequence[str]) -> list[str]:
    """The first three needs; else the first two with one of the others."""
    head = list(terms[: TERMS_TOLD - 1])
    return [joined(list(terms[:TERMS_TOLD])), *(joined([*head, t]) for t in terms[TERMS_TOLD:])] if terms else [NO_NEED]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
