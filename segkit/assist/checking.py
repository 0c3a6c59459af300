"""Check a draft text: which of its figures are facts of the run, which are near one, and which are none."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from segkit.assist.answers import Answer, Fact
from segkit.personas.facts import NUMBER_WORDS

FACT, NEAR, NONE = "fact", "near a fact", "not a fact"
SHARE, MONEY, PLAIN, COUNT = "share", "money", "plain", "count"  # kinds of figures
COMPARED = {SHARE: {SHARE}, MONEY: {MONEY}, PLAIN: {PLAIN, MONEY}, COUNT: {PLAIN}}  # with facts of these kinds
COUNTED = re.compile(r"\s?(?:\w+ )?(?:customers|buyers|people|households|orders|segments|needs|weeks|days)\b")
NEAR_SHARE, NEAR_POINTS = 0.05, 0.01  # of the figure; of a share: one percentage point
MOST_ROUNDED = 0.005  # of an amount: three figures, as pages write it
SCALES = {"k": 1e3, "K": 1e3, "thousand": 1e3, "M": 1e6, "million": 1e6, "Mio.": 1e6, "bn": 1e9, "billion": 1e9}
FIGURE = re.compile(
    r"(?<![\w.,])(?P<sign>[−+-])?(?P<currency>[$€£¥]|[A-Z]{3}[ \u00a0])?"
    r"(?P<number>\d{1,3}(?:[,\u00a0\u202f]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"[ \u00a0\u2009]?(?P<scale>k|K|M|bn|Mio\.|thousand|million|billion)?(?!\w|[.,]\d)"
    r"[ \u00a0\u2009]?(?P<percent>%|percent(?!\w)|per cent(?!\w))?(?P<after>[ \u00a0]?[€£$])?"
)
RANGE = re.compile(r"(?<=\d)[–-](?=[$€£¥]?\d)")  # between the ends of a range
MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATES = re.compile(rf"\b\d{{4}}-\d{{2}}-\d{{2}}\b|\b(?:\d{{1,2}} )?{MONTH}(?: \d{{1,2}},)?(?: \d{{4}})?\b|\b95% (?=\w)")
YEAR = re.compile(r"(?:19|20)\d{2}")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
SUBJECT = re.compile(r"[SNA]\d{2,}")
NO_FIGURE = re.compile(rf"{FIGURE.pattern}|\b{SUBJECT.pattern}\b")  # figures that can be read, and ids
BEFORE, AFTER = "([{\"'“‘", ")]}\"'”’.,;:!?"  # a word
SIGNS = {"−": -1, "-": -1, "+": 1}


@dataclass(frozen=True)
class Checked:
    """A figure of a text: as it is written, what it is, and the nearest fact (its name, and as a page writes it)."""

    figure: str
    verdict: str
    sentence: str
    fact: str = ""
    fact_text: str = ""


@dataclass(frozen=True)
class _Figure:
    """A figure as it is written: its value, how far it may be rounded, what kind it is, and whether it has a sign."""

    text: str
    value: float
    half: float
    kind: str
    has_sign: bool


@dataclass(frozen=True)
class _Known:
    """A value that is a fact, its kind, and what it is of: the ids of segments, needs and opportunities."""

    value: float
    kind: str
    name: str
    text: str
    of: frozenset[str]


def check_figures(
    text: str, *, facts: Iterable[Fact], answers: Iterable[Answer], names: Mapping[str, str], days: Sequence[date]
) -> list[Checked]:
    """Check each figure of a text.

    Parameters
    ----------
    text
        A draft, in English.
    facts, answers
        Facts of the run, and answers, whose sentences hold figures, too.
    names
        Id -> name of segments and needs: a figure in a sentence that names some is a fact only if it is of them, or of
        all customers.
    days
        Days on which the spans of the run begin and end; their years are no figures.
    """
    answers = list(answers)
    known = _collect(facts, answers, names=names)
    years = {day.year for day in days}
    found = []
    for sentence in SENTENCE_END.split(text):
        of = _subjects(sentence, names=names)
        for one in read_figures(sentence):
            if not (YEAR.fullmatch(one.text) and int(one.text) in years):
                found.append(_check(one, known, sentence=sentence.strip(), of=of))
        found += [_check_word(word, answers, sentence=sentence.strip()) for word in _unread(sentence)]
        for word in NUMBER_WORDS.finditer(DATES.sub(" ", sentence)):
            if word.group(0) != "%" and not word.group(0).lower().startswith("per"):
                if not re.search(rf"[\d.][ \u00a0]?{word.group(0)}", sentence):  # million, after a figure
                    found.append(Checked(word.group(0), NONE, sentence.strip(), fact_text="write it as a figure"))
    return found


def read_figures(text: str) -> list[_Figure]:
    """Read the figures of a text; dates and ids are none.

    >>> [(one.text, one.value) for one in read_figures("S04 spends $1,030 (4%) since 2 May 2017, of €1.2M")]
    [('$1,030', 1030.0), ('4%', 0.04), ('€1.2M', 1200000.0)]
    """
    found, text = [], _without_dates(text)
    for match in FIGURE.finditer(text):
        digits = re.sub(r"[,\u00a0\u202f]", "", match["number"])
        scale = SCALES.get(match["scale"] or "", 1.0) * (0.01 if match["percent"] else 1.0)
        decimals = len(digits.partition(".")[2])
        zeros = 0 if decimals else min(len(digits) - len(digits.rstrip("0")), len(digits) - 1)
        value, half = float(digits) * scale, 0.5 * 10.0 ** (zeros - decimals) * scale
        if not match["percent"] and zeros:
            half = max(min(half, MOST_ROUNDED * value), 0.5)
        sign = SIGNS.get(match["sign"] or "", 0)
        written = match.group(0).strip()
        kind = SHARE if match["percent"] else MONEY if match["currency"] or match["after"] else PLAIN
        kind = COUNT if kind == PLAIN and COUNTED.match(text, match.end()) else kind
        found.append(_Figure(written, value * (sign or 1), half * 1.0001, kind, bool(sign)))
    return found


def _unread(text: str) -> list[str]:
    """List the words of a text that hold a number which is no figure that can be read, no date and no id."""
    words = NO_FIGURE.sub(" ", _without_dates(text)).split()
    return [word.lstrip(BEFORE).rstrip(AFTER) for word in words if any(sign.isnumeric() for sign in word)]


def _without_dates(text: str) -> str:
    return RANGE.sub(" to ", DATES.sub(lambda part: " " * len(part[0]), text))


def _collect(facts: Iterable[Fact], answers: Iterable[Answer], *, names: Mapping[str, str]) -> list[_Known]:
    known = []
    for fact in facts:
        of, written = _subjects(fact.name, names={}), read_figures(fact.text)
        kind = {"share": SHARE, "money": MONEY}.get(fact.unit, PLAIN)
        values = [value for value in (fact.value, fact.low, fact.high) if value is not None]
        known += [_Known(value, kind, fact.name, fact.text, of) for value in values]
        read = [(one.value, MONEY if fact.unit == "money" else _fact_kind(one)) for one in written]
        known += [_Known(value, own, fact.name, fact.text, of) for value, own in read]
    for answer in answers:
        about = _subjects(answer.sentences[0], names=names)
        for sentence in answer.sentences:
            of = _subjects(sentence, names=names) or about
            known += [
                _Known(one.value, _fact_kind(one), answer.question, sentence, of) for one in read_figures(sentence)
            ]
    return known


def _fact_kind(one: _Figure) -> str:
    return PLAIN if one.kind == COUNT else one.kind


def _subjects(sentence: str, *, names: Mapping[str, str]) -> frozenset[str]:
    found = set(SUBJECT.findall(sentence))
    return frozenset(found | {one for one, name in names.items() if name and name.lower() in sentence.lower()})


def _check(one: _Figure, known: Sequence[_Known], *, sentence: str, of: frozenset[str]) -> Checked:
    """Find the nearest fact of the same kind; one of other segments than the sentence names is none."""
    alike = [fact for fact in known if fact.kind in COMPARED[one.kind]]
    own = [fact for fact in alike if not of or not fact.of or fact.of & of]
    if not own:
        return Checked(one.text, NONE, sentence)
    nearest = min(own, key=lambda fact: (_distance(one, fact) > one.half, bool(fact.of - of), _distance(one, fact)))
    away = _distance(one, nearest)
    near = max(NEAR_POINTS if one.kind == SHARE else NEAR_SHARE * abs(one.value), one.half)
    verdict = FACT if away <= one.half else NEAR if away <= near else NONE
    if verdict != NONE:
        return Checked(one.text, verdict, sentence, nearest.name, nearest.text)
    others = [fact for fact in alike if _distance(one, fact) <= one.half]
    if others:
        return Checked(one.text, NONE, sentence, others[0].name, f"of another: {others[0].text}")
    return Checked(one.text, NONE, sentence)


def _check_word(word: str, answers: Iterable[Answer], *, sentence: str) -> Checked:
    """Find the answer that has a word with a number that cannot be read, such as one of a name; without, it is none."""
    for answer in answers:
        for text in answer.sentences:
            if word in _unread(text):
                return Checked(word, FACT, sentence, answer.question, text)
    return Checked(word, NONE, sentence, fact_text="cannot be read")


def _distance(one: _Figure, fact: _Known) -> float:
    """Compare with the sign where one is written; a text says 'fell by $10' of -10."""
    return abs(one.value - fact.value) if one.has_sign else abs(abs(one.value) - abs(fact.value))
