"""Check a table of customers alone before a run: what it gives, and what it cannot give."""

from datetime import date

import ibis
import pandas as pd

from segkit.data.attributes import read_attributes
from segkit.data.readiness import FEWEST_CUSTOMERS, SEGMENTS
from segkit.data.sources import default_as_of, read_customers
from segkit.data.spec import Source
from segkit.errors import InputError
from segkit.format import FLOOR

GIVES = (
    "It is a table of customers alone. A run gives segments of its columns, whether they hold, what sets each apart "
    "and a comparison with segments you have; no forecast, no test on later months, no money and no actions. For "
    "those, add events: orders, visits or payments."
)


def check_customers(source: Source, *, con: ibis.BaseBackend, as_of: str = "") -> tuple[list[str], bool]:
    """Describe a table of customers alone, column by column.

    Returns
    -------
    tuple of list and bool
        Lines for a terminal, and whether it can carry a segmentation.

    Raises
    ------
    InputError
        ``as_of`` is not an ISO date.
    """
    day = as_of or default_as_of(source, con=con)
    people = read_customers(source, con=con).to_pandas()
    lines = [f"{source.name}: a table of {len(people):,} customers ({source.customers.label}), as of {day}"]
    reasons = too_few_customers(len(people))
    if reasons:
        return [*lines, "", "Can it carry a segmentation? no", *(f"  - {reason}" for reason in reasons)], False
    try:
        found = read_attributes(people, roles=source.roles, as_of=_day(day))
    except InputError as error:
        return [*lines, "", "Can it carry a segmentation? no", f"  - {error}"], False
    lines += [f"  {row.column:<24} {_filled(row.filled)}{row.role}: {row.use}" for row in found.report.itertuples()]
    lines += ["", "Can it carry a segmentation? yes, with limits", f"  - {GIVES}"]
    if len(people) < SEGMENTS * FLOOR:
        most = len(people) // FLOOR
        lines.append(f"  - {len(people):,} customers are enough for {most} segments of {FLOOR} at most.")
    return lines, True


def too_few_customers(customers: int) -> list[str]:
    """Explain why there are too few customers for segments; empty where there are enough."""
    if customers >= FEWEST_CUSTOMERS:
        return []
    segments = FEWEST_CUSTOMERS // FLOOR
    return [f"{customers:,} customers; {segments} segments of {FLOOR} need {FEWEST_CUSTOMERS}. Add customers."]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"as_of: {text!r} is not a date. Write it as YYYY-MM-DD.") from None


def _filled(share: float) -> str:
    return "" if pd.isna(share) else f"known of {share:.0%}, "
