"""The data sheet of a run: what was used of whom, what was left out, what is kept where, and what is a guess.

After "Datasheets for Datasets" (Gebru et al. 2021), as far as a run can answer by itself.
"""

import ibis
import pandas as pd

from segkit.customers.consent import consent_columns
from segkit.customers.days import Days
from segkit.customers.known import FEATURE_ROLES
from segkit.data.spec import CustomerTable, EventTable, Source
from segkit.period import Period
from segkit.small_groups import shown

GUESS = "# guess"  # how a drafted source marks a line nobody has confirmed
COLUMNS = ["about", "item", "value", "words"]
ROLE_USE = {
    **dict.fromkeys(FEATURE_ROLES, "a feature; shown for groups of at least twenty"),
    "current_segment": "a rival that the segments are held against; never a feature",
    "identifier": "not read for a run; an export reads it from the source",
    "consent": "says who may be in a pilot or an export; never a feature",
    "ignore": "not read",
}
KEPT = (
    ("tables/", "one row a customer and day, and what is made of it; ids", "for the analyst: share pages, not tables"),
    ("model/", "the segments as numbers, and names of categories; no customers", "places whom the run has not seen"),
    ("pages and notebooks", "figures of groups of at least twenty; no ids", "may be passed on"),
)

Line = tuple[str, str, str, str]


def datasheet(
    source: Source, days: Days, *, rejected: pd.DataFrame, period: Period, pseudonyms: bool = False
) -> pd.DataFrame:
    """What a run was made of.

    Takes  source: as the run reads it; days: the state; set_aside: rows refused, by table and reason
    Gives  about, item, value, words: all text, in the order of the page

    Parameters
    ----------
    period : of the run
    pseudonyms : whether ids are shown as hashes
    """
    lines = _period(days, source=source, period=period)
    for table in source.tables:
        lines += _events(table)
    lines += _customers(source.customers, roles=source.roles) if source.customers else []
    lines += _left_out(source, rejected=rejected)
    lines += _consent(source.roles)
    lines.append(("ids", "customers are told by", "hashes" if pseudonyms else "the ids of the source", "in tables/"))
    lines += [("kept", *item) for item in KEPT]
    guesses = [line.split("#")[0].strip() for line in source.text.splitlines() if GUESS in line]
    lines += [("guess", one, "of the draft", "confirm it in the source, and take the mark away") for one in guesses]
    return pd.DataFrame(lines, columns=COLUMNS)


def _period(days: Days, *, source: Source, period: Period) -> list[Line]:
    rows = days.rows.filter(days.rows.day < ibis.literal(period.as_of))
    counts = {f"n_{kind}": rows[f"n_{kind}"].sum() for kind in sorted(source.kinds)}
    found = rows.aggregate(**counts, first=rows.day.min(), last=rows.day.max()).to_pandas().iloc[0]
    span = f"{pd.Timestamp(found['first']).date()} to {pd.Timestamp(found['last']).date()}"
    events = ", ".join(
        f"{int(found[f'n_{kind}'] or 0):,} {kind} (by the {who})" for kind, who in sorted(source.kinds.items())
    )
    return [
        ("period", "days used", span, f"local to {source.timezone}; nothing on or after {period.as_of}"),
        ("period", "what describes a customer", f"{period.lookback_start} to {period.last_day}", "the lookback"),
        ("events", "used", events, "after those set aside"),
    ]


def _events(table: EventTable) -> list[Line]:
    words = f"only where {table.where}" if table.where else "all rows"
    lookups = ", ".join(lookup.label for lookup in table.lookups)
    words += f"; beside it {lookups}" if lookups else ""
    return [
        (
            "events",
            table.label,
            ", ".join(n if n == sql else f"{n} ({sql})" for n, sql in table.columns.items()),
            words,
        )
    ]


def _customers(table: CustomerTable, *, roles: dict[str, str]) -> list[Line]:
    return [("customers", name, roles[name], ROLE_USE[roles[name]]) for name in sorted(table.columns) if name in roles]


def _left_out(source: Source, *, rejected: pd.DataFrame) -> list[Line]:
    lines = [
        ("left out", f"{r.table}: {r.reason}", f"{int(r.rows):,} rows", "cannot be used") for r in rejected.itertuples()
    ]
    erased = sum(len(hashes) for _, hashes in source.privacy.lists)
    if erased:
        lines.append(("left out", "the forgotten", shown(erased), "named by a list of marks, on their request"))
    return lines or [("left out", "rows", "none", "all could be used")]


def _consent(roles: dict[str, str]) -> list[Line]:
    asked = consent_columns(roles)
    words = "without a clear yes nobody is contacted; segments are made of all" if asked else "the source asks for none"
    return [("consent", "columns", ", ".join(asked) or "none", words)]
