"""Facts: every figure a text may use. Texts hold placeholders, never digits; a figure that is not a fact does not
get out.
"""

import re
from collections.abc import Iterable
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
FORMS = {
    "share": numbers.share,
    "customers": numbers.count,
    "orders": numbers.number,
    "days": numbers.number,
    "money": numbers.number,
    "ratio": numbers.score,
    "score": numbers.score,
}
COLUMNS = ["fact", "segment", "value", "text", "unit", "how"]


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

    def shown(self) -> str:
        """The figure as people read it, with its unit's form; a name as it is."""
        return self.text if self.text is not None else FORMS.get(self.unit, numbers.number)(self.value)


def fact_table(facts: Iterable[Fact]) -> pd.DataFrame:
    """The facts as the table of a run: fact (segment.name), segment, value, text, unit, how."""
    rows = [(f"{f.segment}.{f.name}", f.segment, f.value, f.text, f.unit, f.how) for f in facts]
    return (
        pd.DataFrame(rows, columns=COLUMNS)
        .astype({"value": float, "text": object})
        .sort_values("fact", ignore_index=True)
    )


def render(template: str, facts: Iterable[Fact], *, segment: str) -> str:
    """Fill the placeholders of a text with the facts of one segment.

    Takes  template: words and {placeholders}; facts of any segments
    Gives  the text as people read it

    Raises
    ------
    FactError : a digit, a number word or a brace stands outside a placeholder, or a placeholder names no fact of the
        segment
    """
    outside = PLACEHOLDER.sub("", template)
    loose = [sign for sign in outside if sign.isnumeric() or sign in "{}"]
    loose += [m.group(0) for m in NUMBER_WORDS.finditer(outside)]
    if loose:
        raise FactError(f"{segment}: the text '{template}' holds {loose} outside a placeholder. Make it a fact.")
    own = {f.name: f for f in facts if f.segment == segment}
    missing = sorted({name for name in PLACEHOLDER.findall(template) if name not in own})
    if missing:
        raise FactError(f"{segment}: no fact {missing} for the text '{template}'.")
    return PLACEHOLDER.sub(lambda found: own[found.group(1)].shown(), template)
