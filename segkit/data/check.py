"""What `segkit check` says: what a source was understood to hold, what would help, and if it can carry segments."""

from dataclasses import dataclass
from datetime import date

import ibis
import pandas as pd

from segkit.data.draft import DRAFTED_ENDINGS, draft_source
from segkit.data.sources import (
    connect,
    default_as_of,
    open_source,
    read_customers,
    read_events,
    refuse_as_of,
    refuse_set_aside,
    rows_set_aside,
)
from segkit.data.spec import Source
from segkit.errors import SourceError
from segkit.period import Period
from segkit.small_groups import FLOOR

SEGMENTS_MIN = 12  # fewest segments of a report
REPEAT_LOW = 0.2  # below this share of customers with a second day, most of the future is unseen
MATCH_LOW = 0.5  # below this share of known customers with an event, the ids of the two tables may differ
WOULD_ADD = {
    "order_id": "baskets: their number, size and what goes together (without it, a day counts as one)",
    "amount": "money: spend, revenue share, expected spend (without it, segments rest on activity alone)",
    "category": "needs: what customers look for, and what they will look for next",
    "item": "variety and loyalty to single products",
    "cost": "profit margin of each segment",
    "discount": "price sensitivity",
    "quantity": "size of purchases, and stocking up",
    "private_label": "choice of own brands",
    "channel": "where customers buy, and how that shifts",
    "campaign": "response to campaigns",
    "text": "needs in the customers' own words",
    "event_id": "protection against a line that was exported twice",
}


@dataclass(frozen=True)
class Check:
    """The findings on a source: lines for a terminal, and the exit status (0: it can carry segments, 2: not yet)."""

    lines: tuple[str, ...]
    status: int

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check_source(
    source: str, *, data_dir: str | None = None, as_of: str = "", lookback_days: int = 182, horizon_days: int = 91
) -> Check:
    """Look at a source as a run would, and say what it can carry. A table without a YAML gets a draft beside it first.

    Takes  the name of a built-in source, a YAML file, or a csv, tsv, parquet or xlsx file of events
    Gives  Check; print it, end with its status

    Parameters
    ----------
    data_dir : folder that relative paths start from; without it, that of the YAML file
    as_of : ISO date, exclusive; "" takes the source's default
    lookback_days, horizon_days : what a run would be asked for; larger ones need more history

    Raises
    ------
    SourceError : the source cannot be read at all
    """
    lines = []
    if source.lower().endswith(DRAFTED_ENDINGS):
        text, path = draft_source(source)
        lines += [
            f"Draft of a source: {path} (each guess is marked; mend what is wrong, then run segkit check {path})",
            "",
            *text.splitlines(),
            "",
        ]
        source = str(path)
    opened, con = open_source(source, data_dir=data_dir), connect()
    events = read_events(opened, con=con)
    day = as_of or default_as_of(opened, con=con)
    period = Period.parse(day, lookback_days=lookback_days, horizon_days=horizon_days)
    refuse_as_of(opened, con=con, as_of=period.as_of)
    aside = rows_set_aside(opened, con=con)
    facts = _facts(events, period=period)
    lines += [
        *_understood(opened, events, facts=facts, period=period),
        *_customers(opened, events, con=con),
        *_aside(aside, source=opened),
    ]
    lines += [*_would_add(opened), ""]
    stops, limits = _verdict(facts, period=period)
    try:
        refuse_set_aside(aside, source=opened)
    except SourceError as error:
        stops.append(str(error))
    verdict = "no" if stops else "yes, with limits" if limits else "yes"
    lines += [f"Can it carry a segmentation? {verdict}", *(f"  - {reason}" for reason in [*stops, *limits])]
    return Check(lines=tuple(lines), status=2 if stops else 0)


def _facts(events: ibis.Table, *, period: Period) -> pd.Series:
    """Counts before as_of: rows, customers, span, customers active in the lookback, and those with two days in it."""
    past = events.filter(events.day < period.as_of)
    recent = past.filter(past.day >= period.lookback_start)
    days = recent.group_by("customer_id").agg(first=recent.day.min(), last=recent.day.max())
    wide = past.agg(rows=past.count(), customers=past.customer_id.nunique(), first=past.day.min(), last=past.day.max())
    near = days.agg(active=days.count(), repeat=(days.first < days.last).ifelse(1, 0).sum().fill_null(0))
    return pd.concat([wide.execute().iloc[0], near.execute().iloc[0]])


def _understood(source: Source, events: ibis.Table, *, facts: pd.Series, period: Period) -> list[str]:
    kinds = (
        events.group_by("event")
        .agg(rows=events.count(), customers=events.customer_id.nunique())
        .order_by("event")
        .execute()
    )
    lines = [
        f"{source.name}: {facts['rows']:,} events of {facts['customers']:,} customers, {_day(facts['first'])} to "
        f"{_day(facts['last'])} "
        f"({source.timezone}), as of {period.as_of}"
    ]
    lines += [
        f"  {row.event}: {row.rows:,} events of {row.customers:,} customers, done by the {source.kinds[row.event]}"
        for row in kinds.itertuples()
    ]
    unseen = sorted(set(source.kinds) - set(kinds["event"]))
    lines += [f"  {kind}: named in kinds, but no such event" for kind in unseen]
    mapped = [column for column in events.columns if column not in ("timestamp", "day", "hour")]
    filled = events.agg(
        **{column: events[column].count() for column in mapped},
        **{f"{column} ": events[column].approx_nunique() for column in mapped},
    )
    shares = filled.execute().iloc[0]
    for table in source.tables:
        zone = "" if table.timezone == source.timezone else f", times in {table.timezone}"
        lines.append(f"  {table.label}{zone}" + (f", where {table.where}" if table.where else ""))
        lines += [f"    {name:<14} from {text}" for name, text in table.columns.items()]
    lines += [
        f"  {column:<14} filled in {shares[column] / max(shares['customer_id'], 1):.1%} of events, about "
        f"{int(shares[column + ' ']):,} different values"
        for column in mapped
    ]
    return [*lines, *_repeated(events)]


def _repeated(events: ibis.Table) -> list[str]:
    """Say how many lines are equal to another in everything, when no event_id tells them apart."""
    if "event_id" in events.columns:
        return []
    lines = events.mutate(
        line=ibis.literal("|").join([events[column].cast("string").fill_null("") for column in events.columns]).hash()
    )
    counts = lines.agg(rows=lines.count(), different=lines.line.nunique()).execute().iloc[0]
    extra = int(counts["rows"] - counts["different"])
    return (
        [
            f"  {extra:,} lines equal another in every column; they are kept (two of the same item look like this). "
            "If they were exported twice, map event_id."
        ]
        if extra
        else []
    )


def _customers(source: Source, events: ibis.Table, *, con: ibis.BaseBackend) -> list[str]:
    people = read_customers(source, con=con)
    if people is None:
        return ["  customers: no table; the rivals are RFM and KMeans alone, and nothing is said of demographics"]
    known = people.count().execute()
    seen = people.semi_join(events.select("customer_id").distinct(), "customer_id").count().execute()
    roles = ", ".join(f"{column} {role}" for column, role in source.roles.items())
    lines = [f"  customers: {known:,} rows, {seen:,} of them with an event ({roles})"]
    if known and seen < MATCH_LOW * known:
        ours, theirs = (table.customer_id.min().execute() for table in (events, people))
        lines.append(f"    few match: ids look like {ours!r} in the events and {theirs!r} in {source.customers.label}")
    return lines


def _aside(aside: pd.DataFrame, *, source: Source) -> list[str]:
    if aside.empty:
        return ["  rows set aside: none"]
    return [
        f"  rows set aside (up to {source.allow_set_aside:.0%} is allowed):",
        *(f"    {row.table}: {row.rows:,} ({row.share:.2%}) {row.reason}" for row in aside.itertuples()),
    ]


def _would_add(source: Source) -> list[str]:
    mapped = {column for table in source.tables for column in table.columns}
    missing = {column: gain for column, gain in WOULD_ADD.items() if column not in mapped}
    return (
        ["What columns not mapped would add:", *(f"  {column:<14} {gain}" for column, gain in missing.items())]
        if missing
        else []
    )


def _verdict(facts: pd.Series, *, period: Period) -> tuple[list[str], list[str]]:
    """Reasons against a segmentation, and limits to it."""
    stops, limits = [], []
    least = SEGMENTS_MIN * FLOOR
    lookback, horizon = period.lookback_days, period.horizon_days
    if facts["active"] < least:
        stops.append(
            f"{int(facts['active']):,} customers have an event in the {lookback} days before {period.as_of}; "
            f"{SEGMENTS_MIN} segments of "
            f"{FLOOR} need {least}. Use a longer lookback, or more customers."
        )
    history = (period.as_of - date.fromisoformat(_day(facts["first"]))).days
    if _day(facts["first"]) == _day(facts["last"]):
        stops.append(
            f"all events are on one day ({_day(facts['first'])}); what customers do next cannot be seen. Check the "
            "timestamp column."
        )
    elif history < lookback + horizon:
        limits.append(
            f"{history} days of history; to learn what comes next takes lookback + horizon = "
            f"{lookback + horizon}. Segments "
            "will rest on behaviour alone, and forward figures are empty. Shorten lookback or horizon."
        )
    elif history < lookback + 2 * horizon:
        limits.append(
            f"{history} days of history; the proof takes lookback + 2 horizons = {lookback + 2 * horizon}. "
            "Forward figures "
            "are empty. Shorten lookback or horizon to have them."
        )
    share = facts["repeat"] / facts["active"] if facts["active"] else 0.0
    if facts["active"] and share < REPEAT_LOW:
        limits.append(
            f"{share:.0%} of customers have events on more than one day of the lookback; little can be foreseen of "
            "the rest."
        )
    return stops, limits


def _day(value: object) -> str:
    return str(value)[:10]
