"""Facts: every figure a text may use. Texts hold placeholders, never digits; a figure that is not a fact does not
get out, and what got out is derived again and compared.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from segkit import numbers
from segkit.errors import SegkitError

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
NUMBER_WORDS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|"
    r"(twen|thir|for|fif|six|seven|eigh|nine)ty|dozens?|hundreds?|thousands?|millions?|billions?|half|halves|"
    r"(third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?|double|triple|twice|thrice|percent|per cent)\b|%",
    re.IGNORECASE,
)
CURRENCY = re.compile(r"[A-Z]{3}")
SIGNS = {"USD": "$", "GBP": "£", "EUR": "€"}
FORMS = {
    "share": numbers.share,
    "fine share": lambda value: _fine_share(value),
    "customers": numbers.count,
    "orders": numbers.number,
    "days": numbers.number,
    "money": numbers.number,
    "ratio": numbers.score,
    "score": numbers.score,
}
TINY_BELOW = 0.1  # a fine share below is shown with two figures that count
COLUMNS = ["fact", "segment", "value", "text", "unit", "how"]
FORMS_COLUMN = "forms"  # of a table of texts: JSON of column -> the text with its placeholders


class FactError(SegkitError):
    """A text holds a figure that is not a fact, or names a fact that is not there."""


@dataclass(frozen=True)
class Fact:
    """One figure, or one name from the data: `value` in its `unit`, or `text`; `how` says where it comes from."""

    name: str
    segment: str
    value: float | None
    unit: str
    how: str
    text: str | None = None

    def formatted(self) -> str:
        """The figure as people read it, with its unit's form; a name as it is."""
        if self.text is not None:
            return self.text
        if CURRENCY.fullmatch(self.unit) and not numbers.is_missing(self.value):
            return f"{SIGNS.get(self.unit, self.unit + numbers.SPACE)}{numbers.number(self.value)}"
        return FORMS.get(self.unit, numbers.number)(self.value)


def _fine_share(value: float | None) -> str:
    """A share of a tenth at most, with two figures that count.

    >>> _fine_share(0.00042), _fine_share(0.0), _fine_share(0.24)
    ('0.042\\xa0%', '0\\xa0%', '24\\xa0%')
    """
    if numbers.is_missing(value) or value >= TINY_BELOW or value <= 0:
        return numbers.share(value)
    return f"{float(f'{100 * value:.2g}'):.10f}".rstrip("0") + f"{numbers.SPACE}%"


def fact_table(facts: Iterable[Fact]) -> pd.DataFrame:
    """The facts as the table of a run: fact (segment.name), segment, value, text, unit, how."""
    rows = [(f"{f.segment}.{f.name}", f.segment, f.value, f.text, f.unit, f.how) for f in facts]
    return (
        pd.DataFrame(rows, columns=COLUMNS)
        .astype({"value": float, "text": object})
        .sort_values("fact", ignore_index=True)
    )


def facts_from(table: pd.DataFrame) -> list[Fact]:
    """The facts again, from the table of a run."""
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

    Takes  template: words and {placeholders}; facts of any segments
    Gives  the text as people read it

    Raises
    ------
    FactError : a digit, a number word or a brace stands outside a placeholder, or a placeholder names no fact of the
        segment, or one that is not known
    """
    loose = loose_figures(template)
    if loose:
        raise FactError(f"{segment}: the text '{template}' holds {loose} outside a placeholder. Make it a fact.")
    own = {f.name: f for f in facts if f.segment == segment}
    missing = sorted({name for name in PLACEHOLDER.findall(template) if name not in own})
    if missing:
        raise FactError(f"{segment}: no fact {missing} for the text '{template}'.")
    return PLACEHOLDER.sub(lambda found: own[found.group(1)].formatted(), template)


def loose_figures(template: str) -> list[str]:
    """Digits, number words and braces that stand outside a placeholder."""
    outside = PLACEHOLDER.sub("", template)
    loose = [sign for sign in outside if sign.isnumeric() or sign in "{}"]
    return loose + [m.group(0) for m in NUMBER_WORDS.finditer(outside)]


def with_forms(texts: Iterable[Mapping[str, str]], facts: Iterable[Fact]) -> pd.DataFrame:
    """Texts with placeholders as a table of texts that people read, which keeps the forms beside them.

    Takes  a mapping for each row: segment, and columns with placeholders; facts
    Gives  segment, the columns filled in, and forms (JSON)
    """
    facts = list(facts)
    rows = []
    for row in texts:
        forms = {name: form for name, form in row.items() if name != "segment"}
        filled = {name: render(form, facts, segment=row["segment"]) for name, form in forms.items()}
        rows.append({"segment": row["segment"], **filled, FORMS_COLUMN: json.dumps(forms, sort_keys=True)})
    return pd.DataFrame(rows)


def verify(texts: pd.DataFrame, facts: pd.DataFrame, *, plain: Iterable[str] = ()) -> None:
    """Derive every text again from its form and the facts, and compare.

    Takes  texts: of `with_forms`, as a run keeps it; facts: the table of the run
    Gives  nothing: every figure of every text is the fact it should be

    Parameters
    ----------
    plain : columns that hold no figure and have no form (who wrote it, why)

    Raises
    ------
    FactError : names the segment, the text, what it says and what the facts say
    """
    facts_by_segment: dict[str, list[Fact]] = {}
    for fact in facts_from(facts):
        facts_by_segment.setdefault(fact.segment, []).append(fact)
    free = {"segment", FORMS_COLUMN, *plain}
    for row in texts.to_dict("records"):
        segment, forms = row["segment"], json.loads(row[FORMS_COLUMN])
        for name in (column for column in row if column not in free):
            if name not in forms:
                raise FactError(f"{segment}: the text '{name}' has no form, so its figures cannot be traced.")
            again = render(forms[name], facts_by_segment.get(segment, []), segment=segment)
            if again != row[name]:
                raise FactError(f"{segment}: '{name}' says '{row[name]}', its facts say '{again}'. Run again.")
