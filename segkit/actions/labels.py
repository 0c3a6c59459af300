"""Labels: what is bought, in the words of people. From the source's own map where it has one, else tidied."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy import sparse

from segkit.customers.terms import WORD

SHORT = 24  # characters of two alternatives
WRITTEN_OUT = {  # what till systems shorten; whole words only
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
SAYS_NOTHING = re.compile(r"\s*-\s*(all others?|others?|all)$")
LINKS = frozenset("a an and as at by for from in into of on or the to with".split())  # no name starts or ends so
NO_NAME = LINKS | frozenset("set pack box large small medium big new assorted design colour color size pc pcs".split())
LONGEST_PHRASE = 3  # words
COLOURS = frozenset("red white blue pink black green ivory cream silver gold grey brown purple yellow orange".split())
NO_END = NO_NAME | COLOURS | frozenset("design vintage style retro classic mini".split())  # a thing's name goes on
FEWEST_NAMES = 5  # of products; a phrase in fewer is one product, or a piece of its name


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
    parts = [_written_out(part) for part in re.split(r"[/:|>]", term)]
    parts = [part for part in parts if part] or [term]
    joined = " & ".join(parts[:2])
    return joined if len(joined) <= SHORT else parts[0]


def phrase_weights(weights: sparse.csr_array, names: list[str]) -> tuple[sparse.csr_array, list[str]]:
    """What was bought by phrase: whole product words such as "hot water bottle", where names are free text.

    Takes  weights: customers x names of products
    Gives  customers x phrases, and the phrases, sorted: of up to three words that stand together in the names of
           several products, and end in a word that says what the thing is
    """
    split = [phrases_of(name) for name in names]
    counts = Counter(p for each in split for p in each)
    phrases = sorted(p for p, name_count in counts.items() if name_count >= FEWEST_NAMES)
    split = [[p for p in each if counts[p] >= FEWEST_NAMES] for each in split]
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
            for end in range(start + 1, min(start + LONGEST_PHRASE, len(words)) + 1):
                part = words[start:end]
                if part[0] not in NO_NAME and part[-1] not in NO_END:
                    found.add(" ".join(part).strip("'-"))
    return sorted(p for p in found if len(p) > 2)


def apart(terms: list[str], *, most: int) -> list[str]:
    """The first phrases that share no word with one before: "jumbo bag", and not "bag" beside it."""
    distinct: list[str] = []
    used_words: set[str] = set()
    for term in terms:
        words = set(term.split()) - NO_NAME
        if not words & used_words:
            distinct.append(term)
            used_words |= words
        if len(distinct) == most:
            break
    return distinct


def _written_out(part: str) -> str:
    words = SAYS_NOTHING.sub("", part.lower().replace("_", " ").replace("&", " & ").strip(" -")).split()
    return " ".join(WRITTEN_OUT.get(word.strip("."), word) for word in words)
