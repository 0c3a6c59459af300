"""The lexicon: needs that marketers know, with the words by which things show them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field
from scipy import sparse

from segkit.data.yaml_models import OneOrMore, Text, YamlModel, parse_yaml, read_utf8
from segkit.errors import SourceError
from segkit.personas.keywords import KeywordIndex, words_of
from segkit.texts import has_texts, load_texts

GENERAL = "general"  # vertical of entries that fit any data
OWN = "own"  # vertical of an analyst's entries
MAX_LABEL_WORDS = 4
WORD_STRENGTH = 0.8  # of one word within a longer name; a phrase or the whole name counts 1


def _at_most_four_words(text: str) -> str:
    if not 1 <= len(text.split()) <= MAX_LABEL_WORDS:
        raise ValueError(f"{text!r} has {len(text.split())} words. Write 1 to {MAX_LABEL_WORDS}.")
    return " ".join(text.split())


def _keyword(text: str) -> str:
    if not words_of(text):
        raise ValueError(f"{text!r} has no letters. Write a word or phrase that occurs in names of things.")
    if "*" in text and (len(words_of(text)) > 1 or "*" in text[1:-1] or text.count("*") > 1):
        raise ValueError(f"{text!r}: a star stands at the start or the end of one word. Write it so, or leave it out.")
    return text


Label = Annotated[Text, AfterValidator(_at_most_four_words)]
Keyword = Annotated[Text, AfterValidator(_keyword)]


class NeedEntry(YamlModel):
    """A need that a lexicon can name."""

    key: Text = Field(pattern=r"^[a-z][a-z0-9_]*$", description="a key of small letters, digits and '_'")
    label: Label = Field(description=f"the name of the need in at most {MAX_LABEL_WORDS} words")
    label_de: Label | None = Field(None, description=f"the German name in at most {MAX_LABEL_WORDS} words")
    job: Text = Field(min_length=1, description="what customers want to get done, e.g. put dinner on the table")
    keywords: Annotated[tuple[Keyword, ...], OneOrMore] = Field(
        min_length=1, description="a list of words or phrases that occur in names of things"
    )
    excluded: Annotated[tuple[Keyword, ...], OneOrMore] = Field(
        (), alias="not", description="a list of words that a thing of this need does not have"
    )
    sensitive: bool = Field(False, description="true or false")
    never_offer: bool = Field(False, description="true or false")
    charge: bool = Field(False, description="true for what is paid but not come for, such as postage")


class LexiconFile(YamlModel):
    """A file of needs."""

    hint = " Write needs as in segkit/personas/needs/grocery.yaml."
    needs: list[NeedEntry] = Field(min_length=1, description="a list of needs, each with key, label, job, keywords")


@dataclass(frozen=True)
class Lexicon:
    """Needs with names, and an index of their keywords.

    Parameters
    ----------
    entries
        The needs.
    verticals
        Vertical of each entry, such as grocery; ``own`` for those of the analyst.
    """

    entries: tuple[NeedEntry, ...]
    verticals: tuple[str, ...]

    @cached_property
    def included(self) -> KeywordIndex:
        """Index of the keywords."""
        return KeywordIndex.of([entry.keywords for entry in self.entries])

    @cached_property
    def excluded(self) -> KeywordIndex:
        """Index of the words that a thing of the entry does not have."""
        return KeywordIndex.of([entry.excluded for entry in self.entries])

    def strengths(self, name: str) -> dict[int, float]:
        """Return how strongly the name of a thing speaks for each entry, up to 1.

        A keyword within a longer one does not count: "hot water bottle" says nothing about water.
        """
        words = words_of(name)
        spans = self.included.find(words)
        widest = [
            s for s in spans if not any(o[0] <= s[0] and s[1] <= o[1] and o[1] - o[0] > s[1] - s[0] for o in spans)
        ]
        excluded = {entry for _, _, entry in self.excluded.find(words)}
        found: dict[int, float] = {}
        for start, end, entry in widest:
            if entry not in excluded:
                strength = 1.0 if end - start > 1 or len(words) == 1 else WORD_STRENGTH
                found[entry] = max(found.get(entry, 0.0), strength)
        return found


def spoken_needs() -> dict[str, dict[str, Any]]:
    """Return how texts speak of needs, by label in small letters: a ``name``, and lists of lines for parts of the copy.

    Empty in a language that has no such texts.
    """
    written = load_texts("need_lines") if has_texts("need_lines") else {}
    return {entry.label.lower(): written[entry.key] for entry in read_lexicon(None).entries if entry.key in written}


def charges(things: Iterable[str], *, labels: Mapping[str, str] | None = None) -> set[str]:
    """Return the things that are paid for but not come for, such as postage."""
    lexicon = read_lexicon(None)
    entries = {number for number, entry in enumerate(lexicon.entries) if entry.charge}
    found = set()
    for thing in things:
        strengths = lexicon.strengths((labels or {}).get(thing) or thing)
        if strengths and max(strengths, key=strengths.__getitem__) in entries:
            found.add(thing)
    return found


def vertical_of(names: Iterable[str]) -> str:
    """Return the vertical that most names of needs are of; "" where none is of one.

    >>> vertical_of(["Fresh fruit", "Fuel", "Jeans and denim", "Presents"]), vertical_of(["Blue things"])
    ('grocery', '')
    """
    lexicon = read_lexicon(None)
    known = {entry.label.lower(): of for entry, of in zip(lexicon.entries, lexicon.verticals, strict=True)}
    found = Counter(known[name.lower()] for name in names if known.get(name.lower(), GENERAL) != GENERAL)
    return min(found, key=lambda vertical: (-found[vertical], vertical), default="")


def read_lexicon(path: Path | None) -> Lexicon:
    """Read the lexicon of the package, and one of the analyst.

    Parameters
    ----------
    path
        A YAML file of needs; they are preferred, and replace those of the package that have the same key.

    Raises
    ------
    SourceError
        The file is missing, or an entry of it cannot be used; the message names all problems.
    """
    if path is None:
        return _package_lexicon()
    if not path.is_file():
        raise SourceError(f"{path.name}: there is no such file. Give the path of a YAML file of needs.")
    return combine(_package_lexicon(), parse_lexicon(read_utf8(path), label=path.name, vertical=OWN))


def parse_lexicon(text: str, *, label: str, vertical: str, of_package: bool = False) -> Lexicon:
    """Parse the text of one file of needs; ``label`` is its name in messages."""
    needs = parse_yaml(text, LexiconFile, label=label, of_package=of_package).needs
    for what in ("key", "label"):
        values = [getattr(entry, what) for entry in needs]
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise SourceError(f"{label}: two needs have the {what} {repeated[0]!r}. Rename one of them.")
    return Lexicon(tuple(needs), (vertical,) * len(needs))


def combine(first: Lexicon, second: Lexicon) -> Lexicon:
    """Join two lexicons; where both have a key or a label, the second is right."""
    taken = {entry.key for entry in second.entries} | {entry.label for entry in second.entries}
    pairs = zip(first.entries, first.verticals, strict=True)
    kept = [(e, v) for e, v in pairs if e.key not in taken and e.label not in taken]
    pairs = [*kept, *zip(second.entries, second.verticals, strict=True)]
    return Lexicon(tuple(e for e, _ in pairs), tuple(v for _, v in pairs))


@lru_cache(maxsize=1)
def _package_lexicon() -> Lexicon:
    entries, verticals = [], []
    files = [file for file in resources.files("segkit.personas").joinpath("needs").iterdir()]
    for file in sorted((f for f in files if f.name.endswith(".yaml")), key=lambda f: f.name):
        text, vertical = file.read_text(encoding="utf-8"), file.name.split(".")[0]
        found = parse_lexicon(text, label=file.name, vertical=vertical, of_package=True)
        entries += found.entries
        verticals += found.verticals
    return Lexicon(tuple(entries), tuple(verticals))


def match_strengths(
    things: Iterable[str], *, lexicon: Lexicon, labels: Mapping[str, str] | None = None
) -> sparse.csr_array:
    """Return how strongly each thing speaks for each entry: things x entries, 0 to 1."""
    found = [lexicon.strengths((labels or {}).get(thing) or str(thing)) for thing in things]
    rows = np.repeat(np.arange(len(found)), [len(entries) for entries in found])
    columns = np.array([entry for entries in found for entry in entries], dtype=int)
    values = np.array([value for entries in found for value in entries.values()], dtype=float)
    return sparse.csr_array((values, (rows, columns)), shape=(len(found), len(lexicon.entries)))
