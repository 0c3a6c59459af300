"""What an answer is: a sentence, and the facts it rests on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from segkit import format as fmt
from segkit.format import clean, is_missing


@dataclass(frozen=True)
class Fact:
    """A figure of a run, or a name, that an answer uses.

    Parameters
    ----------
    name
        Flat name, such as ``S04.spend_next``; of a metric its own, such as ``forecast.spend``.
    label
        What it is, in words.
    value, low, high
        The figure with the ends of its 95 % interval; None where it has none, or where it would show a small group.
    unit
        money, share, customers, orders, score, ... or text.
    text
        As a page writes it.
    table
        Table of the run it comes from; ``summary`` for headline numbers.
    """

    name: str
    label: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    text: str
    table: str


@dataclass(frozen=True)
class Answer:
    """The answer to a question: one or more sentences, and the facts used.

    Parameters
    ----------
    question
        Name of the question.
    sentences
        The answer in words.
    facts
        All figures in it, and some more.
    ids
        Customers, only where they were asked for.
    checked
        Of a text that was checked: its figures.
    """

    question: str
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...] = ()
    ids: tuple[str, ...] = ()
    checked: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        """The answer in words, a sentence a line."""
        return "\n".join(self.sentences)

    def fact(self, name: str) -> Fact:
        """Return a fact by its name."""
        return next(fact for fact in self.facts if fact.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as plain values, for JSON."""
        made: dict[str, Any] = {"question": self.question, "answer": self.text}
        made["facts"] = [asdict(fact) for fact in self.facts]
        made |= {"figures": [asdict(one) for one in self.checked]} if self.checked else {}
        return made | ({"ids": list(self.ids)} if self.ids else {})

    def __str__(self) -> str:
        lines = [f"- {fact.label}: {fact.text} [{fact.name}, {fact.table}]" for fact in self.facts]
        return "\n".join([*self.sentences, *lines, *self.ids])


def figure(
    name: str,
    label: str,
    row: Mapping[str, Any],
    *,
    column: str,
    unit: str,
    table: str,
    form: Callable[[Any], str],
    hidden: bool = False,
) -> Fact:
    """Make a fact of a column of a row, with its interval where the row has one.

    `hidden`: it would show a small group, so that the fact has no value.
    """
    value, low, high = (_number(row.get(f"{column}{end}")) for end in ("", "_low", "_high"))
    if hidden:
        return Fact(name, label, None, None, None, unit, fmt.TOO_FEW_TEXT, table)
    has_range = low is not None and high is not None
    text = fmt.spread(value, low, high, form=form) if has_range else form(value)
    return Fact(name, label, value, low, high, unit, text, table)


def named(name: str, label: str, text: Any, *, table: str) -> Fact:
    """Make a fact of a text."""
    return Fact(name, label, None, None, None, "text", clean(text), table)


def known(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Leave out facts that are not there; those that are hidden stay."""
    return tuple(fact for fact in facts if fact.text not in ("", fmt.MISSING))


def _number(value: Any) -> float | None:
    return None if is_missing(value) else round(float(value), 6)
