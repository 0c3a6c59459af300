"""Name segments, and write categories in plain words."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.category_mix import WORD
from segkit.format import joined

MAX_LABEL_CHARACTERS = 24  # characters of two alternatives
ABBREVIATIONS = {  # what till systems shorten; whole words only
    "frzn": "frozen",
    "refrgratd": "chilled",
    "refrig": "chilled",
    "bkd": "baked",
    "btr": "butter",
    "pnt": "peanut",
    "mxs": "mixes",
    "mx": "mix",
    "drnks": "drinks",
    "drnk": "drink",
    "wtr": "water",
    "jce": "juice",
    "veg": "vegetables",
    "dsh": "dish",
    "hshld": "household",
    "cleang": "cleaning",
    "tiss": "tissues",
    "choc": "chocolate",
    "misc": "other",
    "bev": "beverages",
    "bkfst": "breakfast",
    "brkfst": "breakfast",
    "sndwch": "sandwich",
    "sald": "salad",
    "drsng": "dressing",
    "acc": "accessories",
    "asst": "assorted",
}
EMPTY_SUFFIX = re.compile(r"\s*-\s*(all others?|others?|all)$")
LINKING_WORDS = frozenset(
    "a an and as at by for from in into of on or the to with".split()
)  # no name starts or ends so
GENERIC_WORDS = LINKING_WORDS | frozenset(
    "set pack box large small medium big new assorted design colour color size pc pcs".split()
)
MAX_PHRASE_WORDS = 3  # words
COLOURS = frozenset("red white blue pink black green ivory cream silver gold grey brown purple yellow orange".split())
NO_PHRASE_END = (
    GENERIC_WORDS | COLOURS | frozenset("design vintage style retro classic mini".split())
)  # a thing's name goes on
MIN_PHRASE_NAMES = 5  # of products; a phrase in fewer is one product, or a piece of its name


def label(term: str, *, labels: Mapping[str, str] | None = None) -> str:
    """A category as people say it: by the source's map, else tidied.

    >>> label("FRZN PIZZA", labels={"FRZN PIZZA": "frozen pizza"}), label("PNT BTR/JELLY/JAMS")
    ('frozen pizza', 'peanut butter & jelly')
    """
    return (labels or {}).get(term) or tidy(term)


def tidy(term: str) -> str:
    """A category in lower case, abbreviations written out; two of its alternatives where they are short, else the
    first.

    >>> tidy("COUPON/MISC ITEMS"), tidy("BAKED BREAD/BUNS/ROLLS"), tidy("HOUSEHOLD CLEANG NEEDS/CARE"), tidy("/")
    ('coupon & other items', 'baked bread & buns', 'household cleaning needs', '/')
    """
    parts = [_expand_abbreviations(part) for part in re.split(r"[/:|>]", term)]
    parts = [part for part in parts if part] or [term]
    joined = " & ".join(parts[:2])
    return joined if len(joined) <= MAX_LABEL_CHARACTERS else parts[0]


def phrase_weights(weights: sparse.csr_array, names: list[str]) -> tuple[sparse.csr_array, list[str]]:
    """What was bought by phrase: whole product words such as "hot water bottle", where names are free text.

    Takes  weights: customers x names of products
    Gives  customers x phrases, and the phrases, sorted: of up to three words that stand together in the names of
           several products, and end in a word that says what the thing is
    """
    split = [phrases_of(name) for name in names]
    counts = Counter(p for each in split for p in each)
    phrases = sorted(p for p, name_count in counts.items() if name_count >= MIN_PHRASE_NAMES)
    split = [[p for p in each if counts[p] >= MIN_PHRASE_NAMES] for each in split]
    position = {phrase: i for i, phrase in enumerate(phrases)}
    rows = np.repeat(np.arange(len(names)), [len(each) for each in split])
    columns = np.array([position[p] for each in split for p in each], dtype=int)
    spread = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(phrases)))
    return weights @ spread, phrases


def phrases_of(name: str) -> list[str]:
    """The phrases of a product's name.

    >>> phrases_of("SET OF 3 CAKE TINS"), phrases_of("BAG, HOT")
    (['cake', 'cake tins', 'tins'], ['bag', 'hot'])
    """
    found = set()
    for run in re.split(r"[^\w\s'-]|\d+", name.lower()):
        words = [w for w in run.split() if WORD.search(w)]
        for start in range(len(words)):
            for end in range(start + 1, min(start + MAX_PHRASE_WORDS, len(words)) + 1):
                part = words[start:end]
                if part[0] not in GENERIC_WORDS and part[-1] not in NO_PHRASE_END:
                    found.add(" ".join(part).strip("'-"))
    return sorted(p for p in found if len(p) > 2)


def distinct_terms(terms: list[str], *, most: int) -> list[str]:
    """The first phrases that share no word with one before: "jumbo bag", and not "bag" beside it."""
    distinct: list[str] = []
    used_words: set[str] = set()
    for term in terms:
        words = set(term.split()) - GENERIC_WORDS
        if not words & used_words:
            distinct.append(term)
            used_words |= words
        if len(distinct) == most:
            break
    return distinct


def _expand_abbreviations(part: str) -> str:
    words = EMPTY_SUFFIX.sub("", part.lower().replace("_", " ").replace("&", " & ").strip(" -")).split()
    return " ".join(ABBREVIATIONS.get(word.strip("."), word) for word in words)


OFTEN, SELDOM = 2 / 3, 1 / 3  # of the segments, ranked: the upper third comes often, the lower seldom
FADING_BELOW = 0.75  # expected active share, of that of all customers
MAX_NEED_TERMS = 3
NO_NEED = "no need stands out"
NAME_FORMS = {  # look -> how a name is built of what they come for and what they are called
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


def member_activity_levels(segments: pd.DataFrame, *, features: pd.DataFrame, segment: pd.Series) -> pd.Series:
    """How each segment comes, from the features of its customers; see `segment_looks`."""
    return activity_levels(segments, often=features["active_days"].groupby(segment).mean())


def activity_levels(segments: pd.DataFrame, *, often: pd.Series) -> pd.Series:
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
    labels_by_segment = need_labels(needs, labels=labels)
    rows, names, texts = {}, set(), set()
    for segment in levels.index:
        terms = labels_by_segment.get(segment, [])
        ways = [*_need_names(terms), *_habit_need_names(terms, habit_names(habits, segment=segment))]
        form = NAME_FORMS[levels[segment]]
        built = [_upper(" ".join(form.format(need=way, people=people).split())) for way in ways]
        name = next((n for n in built if n not in names), f"{built[0]} {segment}")
        need = next((t for t in _need_texts(terms) if t not in texts), joined(terms[:MAX_NEED_TERMS]) or NO_NEED)
        names.add(name)
        texts.add(need)
        rows[segment] = (name, need)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["name", "need"]).rename_axis("segment")


def need_labels(needs: pd.DataFrame, *, labels: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """What each segment over-buys in plain words, strongest first, none twice."""
    groups = needs.groupby("segment")["term"] if len(needs) else ()
    return {s: list(dict.fromkeys(label(t, labels=labels) for t in terms)) for s, terms in groups}


def habit_names(habits: pd.DataFrame | None, *, segment: str) -> list[str]:
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


def _need_names(terms: Sequence[str]) -> list[str]:
    """The first need; else the first and one more; no need, no words."""
    return [*terms[:1], *(joined([terms[0], other]) for other in terms[1:] if " and " not in terms[0] + other)]


def _habit_need_names(terms: Sequence[str], words: Sequence[str]) -> list[str]:
    """A habit before the first need, or alone."""
    first = terms[0] if terms else ""
    return [f"{word} {first}".strip() for word in words] + ([] if terms else [""])


def _need_texts(terms: Sequence[str]) -> list[str]:
    """The first three needs; else the first two with one of the others."""
    head = list(terms[: MAX_NEED_TERMS - 1])
    return (
        [joined(list(terms[:MAX_NEED_TERMS])), *(joined([*head, t]) for t in terms[MAX_NEED_TERMS:])]
        if terms
        else [NO_NEED]
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
