"""Name segments, and write category and product names as labels."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.category_mix import WORD
from segkit.customers.features import are_one_time
from segkit.format import PROPER_NAMES, lower_first
from segkit.texts import name_phrase

MAX_LABEL_CHARACTERS = 24  # a label of two alternatives may be this long
ABBREVIATIONS = {  # of till systems; whole words only
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
    "hldr": "holder",
    "bkry": "bakery",
    "pkgd": "packaged",
    "api": "API",
    "tv": "TV",
    **{name.lower(): name for name in PROPER_NAMES},
}
EMPTY_SUFFIX = re.compile(r"\s*-\s*(all others?|others?|all)$")
LINKING_WORDS = frozenset("a an and as at by for from in into of on or the to with".split())
GENERIC_WORDS = LINKING_WORDS | frozenset(  # no phrase starts with one
    "set pack box large small medium big new assorted design colour color size pc pcs".split()
)
MAX_PHRASE_WORDS = 3
COLOURS = frozenset("red white blue pink black green ivory cream silver gold grey brown purple yellow orange".split())
NO_PHRASE_END = GENERIC_WORDS | COLOURS | frozenset("design vintage style retro classic mini diner".split())
MIN_PHRASE_NAMES = 5  # product names; a phrase in fewer is one product or part of its name


def label(term: str, *, labels: Mapping[str, str] | None = None) -> str:
    """Return the label of a category: the source's own, else the tidied name.

    >>> label("FRZN PIZZA", labels={"FRZN PIZZA": "frozen pizza"}), label("PNT BTR/JELLY/JAMS")
    ('frozen pizza', 'peanut butter & jelly')
    """
    return (labels or {}).get(term) or tidy(term)


def tidy(term: str) -> str:
    """Write a category in lower case without abbreviations.

    Of alternatives, keep the first two where they are short, else the first.

    >>> tidy("COUPON/MISC ITEMS"), tidy("BAKED BREAD/BUNS/ROLLS"), tidy("HOUSEHOLD CLEANG NEEDS/CARE"), tidy("/")
    ('coupon & other items', 'baked bread & buns', 'household cleaning needs', '/')
    """
    parts = [_expand_abbreviations(part) for part in re.split(r"[/:|>]", term)]
    parts = [part for part in parts if part] or [term]
    both = " & ".join(parts[:2])
    return both if len(both) <= MAX_LABEL_CHARACTERS else parts[0]


def phrase_weights(weights: sparse.csr_array, names: list[str]) -> tuple[sparse.csr_array, list[str]]:
    """Add up what was bought by phrase, such as "hot water bottle", where product names are free text.

    Parameters
    ----------
    weights
        Customers x product names.
    names
        The product names, in the order of the columns.

    Returns
    -------
    tuple
        Customers x phrases, and the phrases, sorted: up to three words that appear next to each other in the names of
        several products and end in a word for the product itself.
    """
    by_name = [phrases_of(name) for name in names]
    counts = Counter(phrase for phrases in by_name for phrase in phrases)
    common = sorted(phrase for phrase, name_count in counts.items() if name_count >= MIN_PHRASE_NAMES)
    column = {phrase: i for i, phrase in enumerate(common)}
    pairs = [(row, column[p]) for row, phrases in enumerate(by_name) for p in phrases if p in column]
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    membership = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(common)))
    return weights @ membership, common


def phrases_of(name: str) -> list[str]:
    """List the phrases of a product name.

    >>> phrases_of("SET OF 3 CAKE TINS"), phrases_of("BAG, HOT")
    (['cake', 'cake tins', 'tins'], ['bag', 'hot'])
    """
    phrases = set()
    for run in re.split(r"[^\w\s'-]|\d+", name.lower()):
        words = [w for w in run.split() if WORD.search(w)]
        for start in range(len(words)):
            for end in range(start + 1, min(start + MAX_PHRASE_WORDS, len(words)) + 1):
                part = words[start:end]
                if part[0] not in GENERIC_WORDS and part[-1] not in NO_PHRASE_END:
                    phrases.add(" ".join(part).strip("'-"))
    return sorted(phrase for phrase in phrases if len(phrase) > 2)


def distinct_terms(terms: list[str], *, most: int) -> list[str]:
    """Select the first phrases that share no word with an earlier one: "jumbo bag", then not "bag"."""
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


OFTEN, SELDOM = 2 / 3, 1 / 3  # segments ranked by active days: the upper third is "often", the lower "seldom"
FADING_BELOW = 0.75  # times the expected active share of all customers
NO_NEED = "no single need"
LEVEL_NAMES = {  # levels of value -> their names, highest first
    1: ("All",),
    2: ("Top", "Light"),
    3: ("Top", "Core", "Light"),
    4: ("Top", "Core", "Light", "Occasional"),
    5: ("Top", "Strong", "Core", "Light", "Occasional"),
    6: ("Top", "Strong", "Core", "Light", "Occasional", "Rare"),
}
ONCE = "once"  # activity level of one-time buyers
MOST = 0.5  # of members who are new, or have fallen silent, from which on it is called so
HABITS = {  # feature -> words in a name where it is high, and where it is low
    "order_value": ("big-order", "small-order"),
    "lines_per_order": ("full-basket", "small-basket"),
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
    """Return the activity level of each segment, from the features of its members; see `activity_levels`.

    One-time buyers are neither often here nor away for long.
    """
    if are_one_time(features):
        return pd.Series(ONCE, index=segments["segment"])
    return activity_levels(segments, often=features["active_days"].groupby(segment).mean())


def activity_levels(segments: pd.DataFrame, *, often: pd.Series) -> pd.Series:
    """Rate how active each segment is: often, steady, seldom, or fading where few members are expected to come back.

    Parameters
    ----------
    segments
        ``segment, customers, active_share_next``.
    often
        Mean active days by segment.

    Returns
    -------
    Series
        Activity level by segment.
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


def member_stages(features: pd.DataFrame, segment: pd.Series) -> pd.DataFrame:
    """Return the share of members of each segment in each stage of the lifecycle, such as ``stage_new``.

    One-time buyers have no stages: they do not lapse.
    """
    stages = features.loc[segment.index].filter(like="stage_").groupby(segment).mean()
    return stages * 0.0 if are_one_time(features) else stages


def level_names(segments: pd.DataFrame, *, stages: pd.DataFrame) -> pd.Series:
    """Name the level of value of each segment: Top, Core, Light and so on; New or Lapsing where its members are.

    Parameters
    ----------
    segments
        ``segment, macro_segment, customers``; macro segments are levels, M1 the highest.
    stages
        As returned by `member_stages`. A level is "New" where most of its members are. The lowest in which each
        segment has mostly members who have fallen silent is "Lapsing", but never the highest.
    """
    macros = sorted(segments["macro_segment"].unique(), key=lambda macro: int(macro[1:]))
    names = dict(zip(macros, LEVEL_NAMES.get(len(macros), macros), strict=True))
    table = segments.set_index("segment").join(stages.reindex(columns=["stage_new", "stage_lapsed"], fill_value=0.0))
    silent = table.groupby("macro_segment")["stage_lapsed"].min() > MOST
    lapsing = [macro for macro in macros[1:] if silent[macro]][-1:]
    for macro, own in table.groupby("macro_segment"):
        if np.average(own["stage_new"], weights=own["customers"]) >= MOST:
            names[macro] = "New"
        elif macro in lapsing:
            names[macro] = "Lapsing"
    return table["macro_segment"].map(names).map(name_phrase)


def name_segments(
    levels: pd.Series, needs: pd.Series, *, habits: pd.DataFrame | None = None, people: str = "buyers"
) -> pd.DataFrame:
    """Give each segment a short, unique name: its level of value and its need.

    Parameters
    ----------
    levels
        Name of the level of value by segment, as returned by `level_names`.
    needs
        Name of the need by segment; null where no single one leads.
    habits
        As returned by `traits.segment_signals`; a habit sets names apart where needs do not.
    people
        Word for customers in a name: buyers, users.

    Returns
    -------
    DataFrame
        ``name`` and ``need_name`` by segment.
    """
    rows, names = {}, set()
    for segment, level in levels.items():
        need = needs.get(segment)
        has_need = isinstance(need, str)
        words = [word for word in habit_names(habits, segment=segment) if word.lower() != level.lower()]
        if has_need:
            candidates = [f"{level}: {lower_first(need)}", *(f"{level} {word}: {lower_first(need)}" for word in words)]
        else:
            candidates = [f"{level} {people}", *(f"{level} {word} {people}" for word in words)]
        name = next((n for n in candidates if n not in names), f"{candidates[0]} {segment}")
        names.add(name)
        rows[segment] = (name, need if has_need else name_phrase(NO_NEED))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["name", "need_name"]).rename_axis("segment")


def earlier_names(earlier: pd.DataFrame | None, *, now: pd.DataFrame, people: str = "buyers") -> dict[str, str]:
    """Return the names of the previous run that still say what a segment is, by segment.

    A name that segkit made ends where the level or the need of its segment is another, or where an analyst has given
    the need a name; one that does not mention the need was given by a person, and stays.

    Parameters
    ----------
    earlier
        The segment table of the previous run; None in a first run.
    now
        level, need and need_name by segment.
    people
        Word for customers in a name.
    """
    if earlier is None:
        return {}
    table = earlier.set_index("segment").reindex(columns=["name", "level", "need", "need_name"])
    table = table[table.index.isin(now.index)]
    then, today = table.drop(columns="name").fillna(""), now.loc[table.index, table.columns[1:]].fillna("")
    same = (then["need"] == today["need"]) & ((then["need"] == "") | (then["need_name"] == today["need_name"]))
    same &= (then["level"] == "") | (then["level"] == today["level"])
    ends = [lower_first(name) if need else people for need, name in then[["need", "need_name"]].to_numpy()]
    names = table["name"].str.replace(r" S\d+$", "", regex=True)
    given = [not name.endswith(end) for name, end in zip(names, ends, strict=True)]
    return table.loc[same | np.array(given, dtype=bool), "name"].to_dict()


def need_labels(needs: pd.DataFrame, *, labels: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Return the labels of what each segment over-buys, strongest first, without repeats."""
    groups = needs.groupby("segment")["term"] if len(needs) else ()
    return {s: list(dict.fromkeys(label(t, labels=labels) for t in terms)) for s, terms in groups}


def habit_names(habits: pd.DataFrame | None, *, segment: str) -> list[str]:
    """Return words for the clear habits of a segment, strongest first."""
    if habits is None:
        return []
    own = habits[habits["segment"] == segment]
    clear = own[(own["effect_low"] > 0) | (own["effect_high"] < 0)]
    effects = list(zip(clear["feature"], clear["effect"], strict=True))
    words = [name_phrase(HABITS.get(feature, ("", ""))[0 if effect > 0 else 1]) for feature, effect in effects]
    words += [
        name_phrase("{channel}").format(
            channel=feature.removeprefix("channel_").removesuffix("_share").replace("_", " ")
        )
        for feature, effect in effects
        if feature.startswith("channel_") and effect > 0
    ]
    return list(dict.fromkeys(word for word in words if word))
