"""Find keywords in names of things: any case, plurals, German and English, abbreviations of till systems."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from segkit.personas.naming import ABBREVIATIONS

CODE_WORDS = frozenset("sku item items product prod art article artikel nr no id code cat category kat pos ref".split())


@dataclass(frozen=True)
class KeywordIndex:
    """Which entries have a keyword.

    Parameters
    ----------
    exact
        Stems of a keyword -> positions of the entries.
    starts, ends
        Start or end of a word -> positions of the entries.
    longest
        Words of the longest keyword.
    by_word
        Word -> entries by its start and end, kept once looked up.
    """

    exact: dict[tuple[str, ...], list[int]]
    starts: dict[str, list[int]]
    ends: dict[str, list[int]]
    longest: int
    by_word: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, keywords_by_entry: Sequence[Sequence[str]]) -> "KeywordIndex":
        """Index the keywords of each entry; a star stands for the rest of a word."""
        exact: dict[tuple[str, ...], list[int]] = {}
        starts: dict[str, list[int]] = {}
        ends: dict[str, list[int]] = {}
        for entry, keywords in enumerate(keywords_by_entry):
            for keyword in keywords:
                words = words_of(keyword)
                if keyword.endswith("*"):
                    starts.setdefault(words[0], []).append(entry)
                elif keyword.startswith("*"):
                    ends.setdefault(words[0], []).append(entry)
                else:
                    exact.setdefault(tuple(map(stem, words)), []).append(entry)
        return cls(exact, starts, ends, max(map(len, exact), default=0))

    def find(self, words: Sequence[str]) -> list[tuple[int, int, int]]:
        """List where keywords occur: first word, word after the last, entry."""
        stems = tuple(map(stem, words))
        spans = []
        for start in range(len(words)):
            for end in range(start + 1, min(start + self.longest, len(words)) + 1):
                spans += [(start, end, entry) for entry in self.exact.get(stems[start:end], ())]
            spans += [(start, start + 1, entry) for entry in self._by_part(words[start])]
        return spans

    def _by_part(self, word: str) -> list[int]:
        if word not in self.by_word:
            found = [entry for part, entries in self.starts.items() if word.startswith(part) for entry in entries]
            found += [entry for part, entries in self.ends.items() if word.endswith(part) for entry in entries]
            self.by_word[word] = found
        return self.by_word[word]


def words_of(name: str) -> list[str]:
    """Split a name into words: small letters without accents, abbreviations of till systems written out.

    >>> words_of("FRZN MEAT/MEAT DINNERS"), words_of("Käse 45% i.Tr."), words_of("apiKey_created2")
    (['frozen', 'meat', 'meat', 'dinners'], ['kaese', 'i', 'tr'], ['api', 'key', 'created'])
    """
    lower = split_camel_case(str(name)).casefold()
    german = lower.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    bare = "".join(c for c in unicodedata.normalize("NFKD", german) if not unicodedata.combining(c))
    words = re.findall(r"[^\W\d_]+", bare)
    return [part.casefold() for word in words for part in ABBREVIATIONS.get(word, word).split()]


def split_camel_case(name: str) -> str:
    """Part words that only capitals part, as in names of events.

    >>> split_camel_case("PhoneService")
    'Phone Service'
    """
    return re.sub(r"(?<=[a-zß-ÿ])(?=[A-Z])", " ", name)


def stem(word: str) -> str:
    """Cut the plural of an English word, and the plural in n of a German one.

    >>> [stem(word) for word in ("berries", "dishes", "tomatoes", "glass", "windeln", "cookie")]
    ['berry', 'dish', 'tomato', 'glass', 'windel', 'cooky']
    """
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 3:
        word = re.sub(r"ie$", "y", word)
        word = re.sub(r"(ss|sh|ch|x|z|o)e$", r"\1", word)
    return word[:-1] if len(word) > 5 and word.endswith(("en", "ln", "rn")) else word


def is_code(name: str) -> bool:
    """Return whether the name of a thing is a code, which says nothing to a reader.

    >>> is_code("SKU 12"), is_code("A17"), is_code("00412"), is_code("tea"), is_code("Чай")
    (True, True, True, False, False)
    """
    return not any(len(word) > 1 and word not in CODE_WORDS for word in words_of(name))
