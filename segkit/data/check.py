"""What `segkit check` says: what a source was understood to hold, what would help, and if it can carry segments."""

from dataclasses import dataclass

import ibis
import pandas as pd

from segkit.data.draft import DRAFTED_ENDINGS, draft_source
from segkit.data.readiness import WANTED, WOULD_ADD, Facts, top_share, verdict_of
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

MATCH_LOW = 0.5  # below this share of known customers with an event, the ids of the two tables may differ
TWICE = {"event_id": "protection against a line that was exported twice"}


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
    rejected = rows_set_aside(opened, con=con)
    facts = _facts(opened, events, period=period)
    lines += [
        *_understood(opened, events, span=_span(events, period=period), period=period),
        *_customers(opened, events, con=con),
        *_aside(rejected, source=opened),
    ]
    lines += [*_would_add(opened), ""]
    verdict = verdict_of(facts)
    answer, reasons = verdict.answer, [] if verdict.answer == "yes" else list(verdict.reasons)
    try:
        refuse_set_aside(rejected, source=opened)
    except SourceError as error:
        answer, reasons = "no", [str(error), *reasons]
    said = "yes, with limits" if answer == "with limits" else answer
    lines += [f"Can it carry a segmentation? {said}", *(f"  - {reason}" for reason in reasons)]
    return Check(lines=tuple(lines), status=2 if answer == "no" else 0)


def _span(events: ibis.Table, *, period: Period) -> pd.Series:
    """Rows, customers, and the first and last day, before as_of."""
    past = events.filter(events.day < period.as_of)
    counted = {"rows": past.count(), "customers": past.customer_id.nunique()}
    return past.agg(**counted, first=past.day.min(), last=past.day.max()).execute().iloc[0]


def _facts(source: Source, events: ibis.Table, *, period: Period) -> Facts:
    """What decides whether the source can carry segments, as the profile of a run counts it."""
    own = [kind for kind, by in source.kinds.items() if by == "customer"]
    before = events.filter((events.day < period.as_of) & events.event.isin(own))
    spend = {"spend": before.amount.cast("float64").sum().fill_null(0)} if "amount" in events.columns else {}
    each = before.group_by("customer_id").agg(first=before.day.min(), last=before.day.max(), **spend).execute()
    first, last = pd.to_datetime(each["first"]), pd.to_datetime(each["last"])
    return Facts(
        customers=len(each),
        active=int((last >= pd.Timestamp(period.lookback_start)).sum()),
        repeat_share=float((first < last).mean()) if len(each) else 0.0,
        history_days=(pd.Timestamp(period.as_of) - first.min()).days if len(each) else 0,
        proof_days=period.lookback_days + 2 * period.horizon_days,
        learning_days=period.lookback_days + period.horizon_days,
        top_share=top_share(each["spend"]) if spend else 0.0,
        missing=tuple(name for name in WANTED if name not in events.columns),
    )


def _understood(source: Source, events: ibis.Table, *, span: pd.Series, period: Period) -> list[str]:
    kinds = (
        events.group_by("event")
        .agg(rows=events.count(), customers=events.customer_id.nunique())
        .order_by("event")
        .execute()
    )
    lines = [
        f"{source.name}: {span['rows']:,} events of {span['customers']:,} customers, {_day(span['first'])} to "
        f"{_day(span['last'])} "
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
    rows = people.count().execute()
    seen = people.semi_join(events.select("customer_id").distinct(), "customer_id").count().execute()
    roles = ", ".join(f"{column} {role}" for column, role in source.roles.items())
    lines = [f"  customers: {rows:,} rows, {seen:,} of them with an event ({roles})"]
    if rows and seen < MATCH_LOW * rows:
        ours, theirs = (table.customer_id.min().execute() for table in (events, people))
        lines.append(f"    few match: ids look like {ours!r} in the events and {theirs!r} in {source.customers.label}")
    return lines


def _aside(rejected: pd.DataFrame, *, source: Source) -> list[str]:
    if rejected.empty:
        return ["  rows set aside: none"]
    return [
        f"  rows set aside (up to {source.allow_set_aside:.0%} is allowed):",
        *(f"    {row.table}: {row.rows:,} ({row.share:.2%}) {row.reason}" for row in rejected.itertuples()),
    ]


def _would_add(source: Source) -> list[str]:
    mapped = {column for table in source.tables for column in table.columns}
    missing = {column: gain for column, gain in (WOULD_ADD | TWICE).items() if column not in mapped}
    return (
        ["What columns not mapped would add:", *(f"  {column:<14} {gain}" for column, gain in missing.items())]
        if missing
        else []
    )


def _day(value: object) -> str:
    return str(value)[:10]
