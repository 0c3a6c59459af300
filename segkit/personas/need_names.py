"""Name needs by the things that customers buy together: from the lexicon, or else from the things themselves."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.category_mix import is_free_text
from segkit.format import joined, lower_first
from segkit.personas.keywords import is_code, split_camel_case, words_of
from segkit.personas.lexicon import GENERAL, OWN, Lexicon, match_strengths, read_lexicon
from segkit.personas.naming import LINKING_WORDS, NO_PHRASE_END, distinct_terms, label, phrases_of

COLUMNS = ["need", "name", "named_by", "key", "label", "job", "sensitive", "match", "runner_up"]
WORDS = re.compile(r"[^\W\d]+(?:['-][^\W\d]+)*")
PACK_SIZE = re.compile(r"[ ,(]+\d+([.,]\d+)? ?[a-z]{0,7}\)?$", re.IGNORECASE)  # 250 g, 50 bags
VAGUE_WORDS = frozenset("baking bag box decoration holder jar kit stand tin tins tray".split())  # no name by themselves
MIN_SHARE, MIN_SHARE_OTHER = 0.4, 0.6  # of a need's spend, for an entry of the data's vertical and of another one
MIN_SHARE_OF_COUNT = 0.25  # of a need's things, for a pair, and for an entry with less than MIN_SHARE_ALONE of spend
MIN_SHARE_ALONE = 0.6  # of a need's spend, below which a second entry may join the first
MIN_SHARE_IN_PAIR, MIN_SHARE_OF_PAIR = 0.15, 0.55  # of a need's spend, for each of two entries and for both
MAX_NAME_WORDS = 5
MIN_LIFT = 1.5  # times the share of the entry in all spend
OWN_FACTOR, GENERAL_FACTOR, OTHER_FACTOR = 1.2, 0.9, 0.7  # of scores, next to entries of the data's vertical
MIN_OF_BEST = 0.6  # of a need's best score, for the entry that replaces one that another need has
SENSITIVE_SHARE = 0.3  # of a need's spend on sensitive things, from which on the need is sensitive
ONE_THING_SHARE = 0.6  # of a need's spend, from which on one thing names it
MIN_SHARE_OF_THINGS = 0.25  # of a need's spend, for two things to name it; else the first stands for things like it
SIMILAR = "{} and similar things"
MAX_TERMS = 6  # things that names are made from
MIN_NAME_WORDS = 3.5  # mean words of a thing, from which on things are product names rather than categories


def name_needs(
    things: pd.DataFrame,
    *,
    lexicon: Lexicon | None = None,
    labels: Mapping[str, str] | None = None,
    background: pd.Series | None = None,
    language: str = "en",
) -> pd.DataFrame:
    """Name needs by what makes up their spend.

    Parameters
    ----------
    things
        ``need, thing, spend``: things bought for a need, with the money spent on them or how often they were used.
    lexicon
        As returned by `read_lexicon`; None for the one of the package.
    labels
        Thing -> its label in plain words; a thing that has one is matched by it.
    background
        Spend by thing of all customers, where ``things`` do not hold all of it.
    language
        Language of the names that come from the lexicon.

    Returns
    -------
    DataFrame
        One row per need: ``need, name, named_by`` (``lexicon`` or ``things``), ``key, label, job`` of the entry (empty
        where things name the need), ``sensitive, match`` (share of the need's spend on things of the entry) and
        ``runner_up`` (label of the next best entry). No two needs have the same name.
    """
    lexicon = lexicon or read_lexicon(None)
    table = things.assign(spend=things["spend"].clip(lower=0).fillna(0.0))
    table = table.groupby(["need", "thing"], as_index=False)["spend"].sum()
    total = table.groupby("thing")["spend"].sum() if background is None else background.clip(lower=0).fillna(0.0)
    names = sorted({*total.index, *table["thing"]}, key=str)
    needs = sorted(table["need"].unique(), key=str)
    rows, columns = pd.Index(needs).get_indexer(table["need"]), pd.Index(names).get_indexer(table["thing"])
    spend = sparse.csr_array((table["spend"].to_numpy(float), (rows, columns)), shape=(len(needs), len(names)))
    strength = match_strengths(names, lexicon=lexicon, labels=labels)
    scores = _score(spend, total.reindex(names).fillna(0.0).to_numpy(float), strength, verticals=lexicon.verticals)
    flagged = _flagged(strength, lexicon, vertical=scores.vertical, flag="sensitive")
    sensitive = spend @ flagged.astype(float) >= SENSITIVE_SHARE * np.maximum(spend.sum(axis=1), 1e-12)
    fallback = _names_from_things(spend, names, labels=labels)
    return _name_table(needs, scores, lexicon=lexicon, fallback=fallback, sensitive=sensitive, language=language)


def flag_things(
    things: Sequence[str], *, lexicon: Lexicon | None = None, labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Flag things that call for care: alcohol, tobacco, medicine and the like.

    Returns
    -------
    DataFrame
        ``thing, sensitive, never_offer``, in the order of ``things``; from entries of the vertical of the data.
    """
    lexicon = lexicon or read_lexicon(None)
    strength = match_strengths(things, lexicon=lexicon, labels=labels)
    spend = sparse.eye_array(len(things), format="csr")
    vertical = _best_vertical(spend, strength, lexicon.verticals)
    return pd.DataFrame(
        {
            "thing": list(things),
            **{
                flag: _flagged(strength, lexicon, vertical=vertical, flag=flag) for flag in ("sensitive", "never_offer")
            },
        }
    )


@dataclass(frozen=True)
class _Scores:
    """Needs x entries: share of the need's spend that matches, score, and whether the entry may name the need."""

    spend: np.ndarray  # needs x things
    matched: np.ndarray  # entries x things
    share: np.ndarray
    score: np.ndarray
    stands_out: np.ndarray
    fits: np.ndarray
    preferred: np.ndarray
    vertical: str


def _score(
    spend: sparse.csr_array, total: np.ndarray, strength: sparse.csr_array, *, verticals: Sequence[str]
) -> _Scores:
    """Score each entry as the name of each need.

    The score is the share of the need's spend that matches, times the root of the share of all spend on things of the
    entry that is in the need: an entry that matches things of every need names none.
    """
    matched = (strength > 0).astype(float)
    spent = np.maximum(spend.sum(axis=1), 1e-12)
    share = (spend @ matched).toarray() / spent[:, None]
    weighted = (spend @ strength).toarray()
    of_all = total @ strength
    coverage = np.clip(weighted / np.maximum(of_all, 1e-12), 0, 1)
    score = weighted / spent[:, None] * np.sqrt(coverage)
    vertical = _best_vertical(spend, strength, verticals)
    preferred = _is_preferred(verticals, vertical)
    lift = share / np.maximum(total @ matched / max(total.sum(), 1e-12), 1e-12)
    bought = (spend > 0).astype(float)
    share_of_things = (bought @ matched).toarray() / np.maximum(bought.sum(axis=1), 1)[:, None]
    enough = share >= np.where(preferred, MIN_SHARE, MIN_SHARE_OTHER)
    enough &= (share_of_things >= MIN_SHARE_OF_COUNT) | (share >= MIN_SHARE_ALONE)  # one large thing is no group
    stands_out = ((lift >= MIN_LIFT) | (len(spent) == 1)) & ~_rests_on_one_thing(matched, verticals)
    factors = {OWN: OWN_FACTOR, vertical: 1.0, GENERAL: GENERAL_FACTOR}
    score = score * [factors.get(name, OTHER_FACTOR) for name in verticals]
    return _Scores(
        spend.toarray(),
        matched.T.astype(bool).toarray(),
        share,
        score,
        stands_out,
        enough & stands_out,
        preferred,
        vertical,
    )


def _rests_on_one_thing(matched: sparse.csr_array, verticals: Sequence[str]) -> np.ndarray:
    """Return which entries are of a vertical that only one of many things speaks for, as a plan Basic does for clothes.

    The thing itself is then the better name. General entries and those of an analyst always count.
    """
    found, of = matched.toarray() > 0, np.array(verticals)
    if len(found) == 1:
        return np.zeros(len(of), dtype=bool)
    return np.array([name not in (GENERAL, OWN) and found[:, of == name].any(axis=1).sum() == 1 for name in of])


def _best_vertical(spend: sparse.csr_array, strength: sparse.csr_array, verticals: Sequence[str]) -> str:
    """Return the vertical whose best entries match most spend over all needs."""
    by_entry = (spend @ strength).toarray()
    names = sorted(set(verticals) - {GENERAL, OWN})
    matched = [by_entry[:, np.array(verticals) == name].max(axis=1).sum() for name in names]
    return names[int(np.argmax(matched))] if names else OWN


def _is_preferred(verticals: Sequence[str], vertical: str) -> np.ndarray:
    return np.isin(verticals, [vertical, GENERAL, OWN])


def _flagged(strength: sparse.csr_array, lexicon: Lexicon, *, vertical: str, flag: str) -> np.ndarray:
    """Return which things match an entry with a flag, of the data's vertical or of all."""
    has_flag = np.array([getattr(entry, flag) for entry in lexicon.entries])
    return strength @ (has_flag & _is_preferred(lexicon.verticals, vertical)).astype(float) > 0


def _assign(scores: _Scores, lexicon: Lexicon) -> dict[int, list[int]]:
    """Give each entry to the need that it fits best; a need without its best takes the next that is nearly as good.

    Where the entry leaves much of the need out, a second one joins it.
    """
    best = scores.score.max(axis=1, initial=0.0)
    pairs = np.argwhere(scores.fits & (scores.score >= MIN_OF_BEST * best[:, None]))
    narrow = [len(entry.keywords) for entry in lexicon.entries]  # of two that match the same, the more specific one
    pairs = sorted(pairs.tolist(), key=lambda pair: (-round(scores.score[*pair], 9), narrow[pair[1]], *pair))
    chosen: dict[int, list[int]] = {}
    taken: set[int] = set()
    for need, entry in pairs:
        if need not in chosen and entry not in taken:
            chosen[need] = [entry]
            taken.add(entry)
    for need in np.argsort(-best, kind="stable").tolist():
        pair = _pair(need, scores, first=chosen.get(need), taken=taken, lexicon=lexicon)
        if pair:
            chosen[need] = pair
            taken |= set(pair)
    return chosen


def _pair(need: int, scores: _Scores, *, first: list[int] | None, taken: set[int], lexicon: Lexicon) -> list[int]:
    """Return two entries that together make up most of a need where none does; empty where there are none."""
    if first and scores.share[need, first[0]] >= MIN_SHARE_ALONE:
        return []
    simple = [" and " not in f" {entry.label.replace(',', ' and ')} " for entry in lexicon.entries]
    useful = scores.preferred & simple & (scores.share[need] >= MIN_SHARE_IN_PAIR) & scores.stands_out[need]
    free = [entry for entry in np.flatnonzero(useful).tolist() if entry not in taken]
    order = sorted(free, key=lambda entry: (-round(scores.score[need, entry], 9), entry))
    firsts = [entry for entry in first or order[:1] if simple[entry]]
    for one in firsts:
        for other in order:
            both = scores.matched[[one, other]]
            of_need = scores.spend[need] / max(scores.spend[need].sum(), 1e-12)
            union, overlap = of_need @ both.max(axis=0), of_need @ both.min(axis=0)
            words = len(_pair_name([lexicon.entries[i].label for i in (one, other)], language="en").split())
            new = scores.share[need, other] - overlap >= MIN_SHARE_IN_PAIR
            is_most = (
                union >= MIN_SHARE_OF_PAIR and both.any(axis=0)[scores.spend[need] > 0].mean() >= MIN_SHARE_OF_COUNT
            )
            if other != one and new and is_most and words <= MAX_NAME_WORDS:
                return [one, other]
    return []


def _pair_name(labels: list[str], *, language: str) -> str:
    """Join the labels of the entries of a need."""
    if language == "de":
        return " und ".join(labels)
    first, *others = labels
    return " and ".join([first, *(lower_first(other) for other in others)])


def _names_from_things(
    spend: sparse.csr_array, things: list[str], *, labels: Mapping[str, str] | None
) -> list[list[str]]:
    """List names for each need from the things that make up most of it, best first."""
    names = [str((labels or {}).get(thing) or thing) for thing in things]
    terms = [name if is_code(name) else label(split_camel_case(name)).split(" & ")[0] for name in names]
    shares = spend.toarray() / np.maximum(spend.sum(axis=1), 1e-12)[:, None]
    by_thing = [_names_of_one(row, terms, shares=row) for row in shares]
    if not _are_product_names(names):
        return by_thing
    named = _names_from_phrases(shares, names)
    return [found or alone for found, alone in zip(named, by_thing, strict=True)]


def _names_from_phrases(shares: np.ndarray, names: list[str]) -> list[list[str]]:
    """List names for each need from phrases that several products of it share."""
    found = [_complete_phrases(name) for name in names]
    counts = Counter(phrase for phrases in found for phrase in phrases)
    phrases = sorted(phrase for phrase, n in counts.items() if n > 1 and phrase not in VAGUE_WORDS)
    column = {phrase: i for i, phrase in enumerate(phrases)}
    pairs = [(row, column[phrase]) for row, own in enumerate(found) for phrase in own if phrase in column]
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    has_phrase = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(phrases)))
    by_phrase = shares @ has_phrase
    weights = by_phrase * np.sqrt(by_phrase / np.maximum(by_phrase.sum(axis=0), 1e-12))  # of this need, not of all
    weights *= np.sqrt([phrase.count(" ") + 1 for phrase in phrases])  # "hot water bottle" before "bottle"
    terms = [label(phrase) for phrase in phrases]
    return [_names_of_one(row, terms, shares=own) for row, own in zip(weights, by_phrase, strict=True)]


def _complete_phrases(name: str) -> list[str]:
    """List the phrases that end what a name says.

    >>> _complete_phrases("EDWARDIAN PARASOL BLACK")
    ['edwardian parasol', 'parasol']
    """
    words = WORDS.findall(name.lower())
    while words and (words[-1] in NO_PHRASE_END or len(words[-1]) < 2):
        words.pop()
    return [phrase for phrase in phrases_of(name) if words[-len(phrase.split()) :] == phrase.split()]


def _are_product_names(names: list[str]) -> bool:
    """Return whether things are products with long names, of which no two make a name."""
    return is_free_text(names) or sum(len(words_of(name)) for name in names) >= MIN_NAME_WORDS * max(len(names), 1)


def _names_of_one(weights: np.ndarray, terms: list[str], *, shares: np.ndarray) -> list[str]:
    """List the first two things, then the first with each other one; the first alone where it makes up most."""
    order = [i for i in np.argsort(-weights, kind="stable")[: 5 * MAX_TERMS] if weights[i] > 0]
    share = {terms[i]: shares[i] for i in reversed(order)}
    found = list(dict.fromkeys(terms[i] for i in order))
    plain = distinct_terms([term for term in found if not is_code(term)], most=MAX_TERMS)
    if not plain:
        return [joined([*found[:2], "similar"] if len(found) > 2 else found)] if found else []
    first, *others = plain
    names = [first] if share[first] >= ONE_THING_SHARE or len(found) == 1 else []
    for other in others:
        pair = [first, other]
        if len(joined(pair).split()) > MAX_NAME_WORDS:
            pair = [_shortened(term) for term in pair]
        if share[first] + share[other] >= MIN_SHARE_OF_THINGS:
            names.append(joined(pair))
        else:  # no two things say what it is
            names += [SIMILAR.format(thing) for thing in pair]
    names = names or [SIMILAR.format(first)]
    return list(dict.fromkeys(name[:1].upper() + name[1:] for name in names))


def _shortened(term: str) -> str:
    """Keep the last two words before the size of a pack, where the thing itself stands in English.

    >>> _shortened("earl grey tea 50 bags"), _shortened("5 litre oil")
    ('grey tea', 'litre oil')
    """
    words = PACK_SIZE.sub("", term).split() or term.split()
    return term if LINKING_WORDS & set(words) else " ".join(words[-2:])


def _name_table(
    needs: list, scores: _Scores, *, lexicon: Lexicon, fallback: list[list[str]], sensitive: np.ndarray, language: str
) -> pd.DataFrame:
    """Make the table of names; what a name from things repeats gets the id of its need."""
    chosen = _assign(scores, lexicon)
    rows, taken = [], set()
    for need in range(len(needs)):
        found = chosen.get(need, [])
        rows.append(_entry_row(need, scores, found=found, lexicon=lexicon, language=language))
        taken.add(rows[-1]["name"].lower())
    for row, need, names, is_sensitive in zip(rows, needs, fallback, sensitive, strict=True):
        row["need"], row["sensitive"] = need, bool(is_sensitive or row["sensitive"])
        if not row["name"]:
            free = [name for name in names if name.lower() not in taken]
            row["name"] = free[0] if free else " ".join([*(names[:1] or ["Need"]), str(need)])
            taken.add(row["name"].lower())
    return pd.DataFrame(rows, columns=COLUMNS)


def _entry_row(need: int, scores: _Scores, *, found: list[int], lexicon: Lexicon, language: str) -> dict:
    """Describe a need by its entries; empty texts where it has none."""
    entries = [lexicon.entries[i] for i in found]
    labels = [(e.label_de or e.label) if language == "de" else e.label for e in entries]
    of_need = scores.spend[need] / max(scores.spend[need].sum(), 1e-12)
    nearly = scores.fits[need] | (
        scores.preferred & scores.stands_out[need] & (scores.share[need] >= MIN_SHARE_IN_PAIR)
    )
    others = [i for i in np.argsort(-scores.score[need], kind="stable") if nearly[i] and i not in found]
    return {
        "name": _pair_name(labels, language=language) if labels else "",
        "named_by": "lexicon" if entries else "things",
        "key": "+".join(e.key for e in entries),
        "label": _pair_name([e.label for e in entries], language="en") if entries else "",
        "job": " and ".join(e.job for e in entries),
        "sensitive": any(e.sensitive for e in entries),
        "match": min(1.0, float(of_need @ scores.matched[found].max(axis=0))) if found else 0.0,
        "runner_up": lexicon.entries[others[0]].label if others else "",
    }
