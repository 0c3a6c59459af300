"""Facts: figures and names that a text may use; fill them in, and check that every figure in a text is one."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from segkit import format as fmt
from segkit.errors import SegkitError

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
NOUN = re.compile(r"\{([a-z][a-z0-9_]*)\} <([^<>|{}]*)\|([^<>|{}]*)>")  # a figure, and its noun: {days} <day|days>
NUMBER_WORDS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|"
    r"(twen|thir|for|fif|six|seven|eigh|nine)ty|dozens?|hundreds?|thousands?|millions?|billions?|half|halves|"
    r"(third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?|double|triple|twice|thrice|percent|per cent)\b|%",
    re.IGNORECASE,
)
CURRENCY = re.compile(r"[A-Z]{3}")
ROUGH = "rough"  # before a unit: shown with two figures
FACT_COLUMNS = ["fact", "segment", "value", "text", "unit", "how"]
FORMS_COLUMN = "forms"  # in a table of texts: JSON of column -> the text with its placeholders


class FactError(SegkitError):
    """A text holds a figure that is not a fact, or uses a fact that does not exist."""


@dataclass(frozen=True)
class Fact:
    """A figure (``value`` in its ``unit``) or a name (``text``) that a text may use; ``how`` it was computed."""

    name: str
    segment: str
    value: float | None
    unit: str
    how: str
    text: str | None = None

    def formatted(self) -> str:
        """Format the figure for people, by its unit; a name is returned unchanged."""
        if self.text is not None:
            return self.text
        unit, value = self.unit.removeprefix(ROUGH).strip(), self.value
        if self.unit.startswith(ROUGH) and not fmt.is_missing(value):
            value = float(f"{value:.2g}")
        if unit == "money" or CURRENCY.fullmatch(unit):
            return fmt.money(value, currency="" if unit == "money" else unit)
        return UNIT_FORMS.get(unit, fmt.number)(value)


UNIT_FORMS = {  # every other unit is shown as a number
    "share": fmt.percent,
    "customers": fmt.count,
    "score": fmt.score,
    "whole": fmt.count,
}


def fact_table(facts: Iterable[Fact]) -> pd.DataFrame:
    """Return the facts as the table of a run: fact (segment.name), segment, value, text, unit, how."""
    rows = [(f"{f.segment}.{f.name}", f.segment, f.value, f.text, f.unit, f.how) for f in facts]
    table = pd.DataFrame(rows, columns=FACT_COLUMNS).astype({"value": float, "text": object})
    return table.sort_values("fact", ignore_index=True)


def facts_from_table(table: pd.DataFrame) -> list[Fact]:
    """Read the facts from the table of a run."""
    return [
        Fact(
            name=row["fact"].partition(".")[2],
            segment=row["segment"],
            value=None if pd.isna(row["value"]) else float(row["value"]),
            unit=row["unit"],
            how=row["how"],
            text=None if pd.isna(row["text"]) else str(row["text"]),
        )
        for row in table.to_dict("records")
    ]


def render(template: str, facts: Iterable[Fact], *, segment: str) -> str:
    """Fill the placeholders of a text with the facts of one segment.

    Parameters
    ----------
    template
        Text with {placeholders}.
    facts
        Facts of any segments.
    segment
        Segment whose facts are used.

    Raises
    ------
    FactError
        A digit, a number word or a brace is outside a placeholder, or the segment has no fact of that name.
    """
    return _filled(template, {f.name: f for f in facts if f.segment == segment}, segment=segment)


def _by_segment(facts: Iterable[Fact]) -> dict[str, dict[str, Fact]]:
    """Return the facts of each segment by name."""
    found: dict[str, dict[str, Fact]] = {}
    for fact in facts:
        found.setdefault(fact.segment, {})[fact.name] = fact
    return found


def _filled(template: str, own: Mapping[str, Fact], *, segment: str) -> str:
    """Fill the placeholders of a text with the facts of its segment, by name."""
    loose = loose_figures(template)
    if loose:
        raise FactError(f"{segment}: the text '{template}' holds {loose} outside a placeholder. Make it a fact.")
    return "".join(piece if isinstance(piece, str) else piece.formatted() for piece in pieces(template, own, segment))


def pieces(template: str, own: Mapping[str, Fact], segment: str) -> list[str | Fact]:
    """Split a text into its words and the facts between them; nouns stand in the number of their figures.

    Parameters
    ----------
    template
        Text with {placeholders}.
    own
        Facts of the segment by name.
    segment
        Named in the error.
    """
    missing = sorted({name for name in PLACEHOLDER.findall(template) if name not in own})
    if missing:
        raise FactError(f"{segment}: no fact {missing} for the text '{template}'. Collect it, or change the text.")
    chosen = NOUN.sub(lambda m: f"{{{m[1]}}} {m[2] if own[m[1]].formatted() == '1' else m[3]}", template)
    parts = PLACEHOLDER.split(chosen)  # words, name, words, name, ..., words
    return [own[part] if number % 2 else part for number, part in enumerate(parts)]


def loose_figures(template: str) -> list[str]:
    """List digits, number words and braces outside placeholders."""
    outside = PLACEHOLDER.sub("", template)
    loose = [sign for sign in outside if sign.isnumeric() or sign in "{}"]
    return loose + [match.group(0) for match in NUMBER_WORDS.finditer(outside)]


def with_forms(texts: Iterable[Mapping[str, str]], facts: Iterable[Fact]) -> pd.DataFrame:
    """Fill in texts, and store their forms next to them so that `verify` can check them.

    Parameters
    ----------
    texts
        For each row: ``segment``, and columns of text with placeholders.
    facts
        Facts of all segments.

    Returns
    -------
    DataFrame
        ``segment``, the columns filled in, and ``forms`` (JSON).
    """
    by_segment = _by_segment(facts)
    rows = []
    for row in texts:
        own, forms = row["segment"], {name: form for name, form in row.items() if name != "segment"}
        filled = {name: _filled(form, by_segment.get(own, {}), segment=own) for name, form in forms.items()}
        rows.append({"segment": row["segment"], **filled, FORMS_COLUMN: json.dumps(forms, sort_keys=True)})
    return pd.DataFrame(rows)


def verify(texts: pd.DataFrame, facts: pd.DataFrame, *, plain: Iterable[str] = ()) -> None:
    """Derive every text again from its form and the facts, and compare.

    Parameters
    ----------
    texts
        As returned by `with_forms` and stored in a run.
    facts
        The table of facts of the run.
    plain
        Columns without figures or forms, such as who wrote the text.

    Raises
    ------
    FactError
        A text has no form, or differs from its facts.
    """
    by_segment = _by_segment(facts_from_table(facts))
    unchecked = {"segment", FORMS_COLUMN, *plain}
    for row in texts.to_dict("records"):
        segment, forms = row["segment"], json.loads(row[FORMS_COLUMN])
        for name in (column for column in row if column not in unchecked):
            if name not in forms:
                raise FactError(
                    f"{segment}: the text '{name}' has no form, so its figures cannot be traced. Run again."
                )
            expected = _filled(forms[name], by_segment.get(segment, {}), segment=segment)
            if expected != row[name]:
                raise FactError(f"{segment}: '{name}' is '{row[name]}', by its facts '{expected}'. Run again.")
