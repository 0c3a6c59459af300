"""How the pages of a run write money, dates, things and the figures of segments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import format as fmt
from segkit import templates
from segkit.data.runs import Run, open_run_source
from segkit.data.spec import Source
from segkit.period import Period
from segkit.personas.naming import label, tidy
from segkit.tables import titles
from segkit.vocabulary import EVERYONE

QUARTER = range(85, 98)  # days of a horizon that is called a quarter


@dataclass(frozen=True)
class Wording:
    """How the pages of a run write amounts and things.

    Parameters
    ----------
    period
        Of the run.
    currency
        Code of the currency of the source; "" where it is not known.
    labels
        Thing -> its label in the source.
    """

    period: Period
    currency: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, *, source: Source | None = None) -> "Wording":
        """Read it from a run and its source."""
        opened = source or open_run_source(run)
        return cls(run.period, currency=opened.currency, labels=opened.labels)

    @property
    def quarter(self) -> str:
        """What a horizon is called in a sentence."""
        return "quarter" if self.period.horizon_days in QUARTER else "period"

    def money(self, value: float | None) -> str:
        """Format an amount with its currency."""
        return fmt.money(value, currency=self.currency)

    def form(self, unit: str | None) -> Callable[[Any], str]:
        """Return the formatter of a unit."""
        forms = {"money": self.money, "share": fmt.percent, "flag": fmt.count, "customers": fmt.count}
        return {**forms, "rows": fmt.count, "days": fmt.number}.get(unit or "", fmt.number)

    def titles(self, table: str) -> dict[str, str]:
        """Return the titles of a table's columns, with the dates of the run in them."""
        dates = {"next": self.period.next_dates, "last": self.period.last_dates}
        return {name: title.format_map(dates) for name, title in titles(table).items()}

    def day(self, day: date) -> str:
        """Write a day."""
        return day_text(day.isoformat())

    def things(self, terms: Sequence[str]) -> list[str]:
        """Return the labels of things; those of the same label also with their own name."""
        labels = [self.thing(term) for term in terms]
        same = {label for label in labels if labels.count(label) > 1}
        own = [tidy(term) for term in terms]
        return [f"{label} ({name})" if label in same and name != label else label
                for label, name in zip(labels, own, strict=True)]  # fmt: skip

    def thing(self, term: str) -> str:
        """Return the label of a category or product."""
        return label(term, labels=self.labels)


def day_text(day: str) -> str:
    """Write an ISO date; "" stays "".

    >>> day_text("2018-01-01")
    '1 January 2018'
    """
    if not day:
        return ""
    return fmt.day(date.fromisoformat(day))


def fact(text: str, segment: str, name: str) -> Markup:
    """Mark a text as the value of a column of a segment, so that the chain can compare pages.

    >>> fact("$930", "S04", "spend_next")
    Markup('<span data-fact="S04.spend_next">$930</span>')
    """
    return templates.html("_macros", "fact", text=text, segment=segment, name=name)


def segment_name(segment: str, *, names: Mapping[str, str], marked: bool = True) -> Markup | str:
    """Write the name of a segment, with its id; marked as that of today, unless it is of an earlier run."""
    if segment == EVERYONE:
        return "All customers"
    return templates.html("_macros", "segment", segment=segment, name=names.get(segment, ""), marked=marked)


def points(value: float | None) -> str:
    """Format a difference of shares in whole percentage points.

    >>> points(-0.096), points(0.004), points(None)
    ('−10', '0.4', '–')
    """
    return fmt.percent(value).removesuffix("%")


def ranged(value: Any, low: Any, high: Any, *, form: Callable[[Any], str], fact: str = "") -> Markup | str:
    """Write a figure for a table, with its range below it; `fact` names the column of a segment that it is.

    >>> ranged(0.96, 0.95, 0.97, form=fmt.percent)
    Markup('96%<br><small>95–97%</small>')
    """
    known = not (fmt.is_missing(low) or fmt.is_missing(high)) and form(low) != form(high)
    shown = fmt.between(low, high, form=form) if known else ""
    return templates.html("_macros", "ranged", value=form(value), range=shown, fact=fact)


def mark(table: pd.DataFrame, texts: pd.Series, name: str) -> list[Markup | str]:
    """Mark a text in each row of a table as the value of a column of its segment; all customers have none."""
    marked = partial(fact, name=name)
    return [
        text if segment == EVERYONE else marked(text, segment)
        for segment, text in zip(table["segment"], texts, strict=True)
    ]
