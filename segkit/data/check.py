"""Check a source before a run: what was read, what is missing, and whether it can carry segments."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import ibis
import pandas as pd

from segkit.data.check_customers import check_customers
from segkit.data.csv_files import CSV_ENDINGS, describe_csv
from segkit.data.draft import draft_source
from segkit.data.holdout import Holdout
from segkit.data.readers import TABLE_ENDINGS, resolve_paths
from segkit.data.readiness import LONG_ORDERS, WANTED, WOULD_ADD, Facts, longest_order, top_share, verdict_of
from segkit.data.sources import (
    check_rejected_share,
    connect,
    count_rejected_rows,
    default_as_of,
    open_source,
    read_customers,
    read_events,
    refuse_as_of,
)
from segkit.data.spec import FileSpec, Source
from segkit.errors import SourceError
from segkit.period import Period
from segkit.vocabulary import activity_kinds

EXACT_ROWS = 5_000_000  # different values are counted up to here, and estimated beyond
LONG_ORDER = 31  # days; what spans more may be a contract rather than an order
MIN_MATCH_SHARE = 0.5  # of customers with an event; below it, ids may be written differently in the two tables
ANSWERS = {"yes": "yes", "with limits": "yes, with limits", "no": "no"}
EVENT_ID_GAIN = {"event_id": "protection against a line that was exported twice"}


@dataclass(frozen=True)
class CheckReport:
    """Findings on a source: lines for a terminal, and the exit status (0: it can carry segments, 2: not yet)."""

    lines: tuple[str, ...]
    status: int

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check_source(
    source: str,
    *,
    data_dir: str | None = None,
    as_of: str = "",
    lookback_days: int = 182,
    horizon_days: int = 91,
    remarks: Callable[[Source, ibis.Table], list[str]] | None = None,
) -> CheckReport:
    """Read a source as a run would, and report whether it can carry a segmentation.

    Parameters
    ----------
    source
        Name of a built-in source, a YAML file, or a file of events (text, JSON, Parquet or a workbook), for which a
        draft of a source is written first, next to it.
    data_dir
        Folder that relative paths start from; by default the folder of the YAML file.
    as_of
        ISO date, exclusive; "" is the default of the source.
    lookback_days, horizon_days
        Windows of the run; larger ones need more history.
    remarks
        More to say of a source and its events.

    Raises
    ------
    SourceError
        The source cannot be read.
    """
    lines, drafted = [], ""
    if source.lower().endswith(TABLE_ENDINGS):
        text, path = draft_source(source)
        lines += [
            f"Draft of a source, with each guess marked: {path}",
            "",
            *text.splitlines(),
            "",
        ]
        source = drafted = str(path)
        try:
            made = open_source(source, data_dir=data_dir)
            (read_customers if made.customers_only else read_events)(made, con=connect())
        except SourceError as error:
            raise SourceError(f"{error} The draft is in {path}: correct it there, then segkit check {path}.") from None
    opened, con = open_source(source, data_dir=data_dir), connect()
    if opened.customers_only:
        return _with_drafted(check_customers(opened, con=con, as_of=as_of), before=lines, drafted=drafted)
    events = read_events(opened, con=con)
    day = as_of or default_as_of(opened, con=con)
    period = Period.parse(day, lookback_days=lookback_days, horizon_days=horizon_days)
    refuse_as_of(opened, con=con, period=period)
    rejected = count_rejected_rows(opened, con=con)
    facts = _count_history(opened, events, period=period)
    lines += [
        *_describe_events(opened, events, span=_span(events, period=period), period=period),
        *_describe_customers(opened, events, con=con),
        *([f"  {LONG_ORDERS.format(facts.order_days)}"] if facts.order_days > LONG_ORDER else []),
        *_describe_rejected(rejected, source=opened),
        *_describe_holdout(opened, events),
    ]
    lines += [*(remarks(opened, events) if remarks else []), *_describe_missing_columns(opened), ""]
    verdict = verdict_of(facts)
    answer, reasons = verdict.answer, [] if verdict.answer == "yes" else list(verdict.reasons)
    try:
        check_rejected_share(rejected, source=opened)
    except SourceError as error:
        answer, reasons = "no", [str(error), *reasons]
    found = [f"Can it carry a segmentation? {ANSWERS[answer]}", *(f"  - {reason}" for reason in reasons)]
    return _with_drafted((found, answer != "no"), before=lines, drafted=drafted)


def _with_drafted(found: tuple[list[str], bool], *, before: list[str], drafted: str) -> CheckReport:
    """Make the report, and say what to do with a draft that can carry segments."""
    lines, carries = found
    if drafted and carries:
        lines = [*lines, "", f"Look at the guesses in {drafted}; then: segkit run --source {shlex.quote(drafted)}"]
    return CheckReport(lines=(*before, *lines), status=0 if carries else 2)


def _span(events: ibis.Table, *, period: Period) -> pd.Series:
    """Count rows and customers before as_of, with the first and last day."""
    past = events.filter(events.day < period.as_of)
    counted = {"rows": past.count(), "customers": past.customer_id.nunique()}
    return past.agg(**counted, first=past.day.min(), last=past.day.max()).execute().iloc[0]


def _count_history(source: Source, events: ibis.Table, *, period: Period) -> Facts:
    """Count what decides whether the source can carry segments, as the profile of a run does."""
    own = activity_kinds(source.kinds)
    past = events.filter((events.day < period.as_of) & events.event.isin(own))
    before = _on_first_days(past)
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
        order_days=longest_order(past),
    )


def _on_first_days(events: ibis.Table) -> ibis.Table:
    """Move the lines of an order to the day it began, as a run does."""
    if "order_id" not in events.columns:
        return events
    order = (events.event == "purchase").ifelse(events.order_id, None)
    first = events.day.min().over(ibis.window(group_by=[events.customer_id, order]))
    return events.mutate(day=order.isnull().ifelse(events.day, first))


def _describe_events(source: Source, events: ibis.Table, *, span: pd.Series, period: Period) -> list[str]:
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
    lines += [f"  {kind}: listed in kinds, but there is no such event" for kind in unseen]
    for table in source.tables:
        zone = "" if table.timezone == source.timezone else f", times in {table.timezone}"
        where = f", where {table.where}" if table.where else ""
        lines.append(f"  {table.label}{_format(table, source=source)}{zone}{where}")
        lines += [f"    {name:<14} from {text}" for name, text in table.columns.items()]
    remarks = [*_describe_ids(events), *_describe_duplicates(events), *_describe_codes(source, events)]
    return [*lines, *_describe_columns(events), *remarks, *_describe_unspent(events)]


def _format(table: FileSpec, *, source: Source) -> str:
    """Say how a file of text was read."""
    paths = [] if table.path is None else resolve_paths(table, base=source.base)
    return f" ({describe_csv(paths[0], file=table)})" if paths and paths[0].name.lower().endswith(CSV_ENDINGS) else ""


def _describe_columns(events: ibis.Table) -> list[str]:
    """Report in how many events each column is filled, and how many different values it has."""
    rows = int(events.count().execute())
    exact, about = rows <= EXACT_ROWS, "" if rows <= EXACT_ROWS else "about "
    mapped = [column for column in events.columns if column not in ("timestamp", "day", "hour")]
    filled = {column: events[column].count() for column in mapped}
    lists = [column for column in mapped if events[column].type().is_array()]
    different = {
        f"{c} ": events[c].nunique() if exact else events[c].approx_nunique() for c in mapped if c not in lists
    }
    counts = events.agg(**filled, **different).execute().iloc[0]
    for column in lists:  # of the values in the lists
        counts[f"{column} "] = events.select(value=events[column].unnest()).value.nunique().execute()
    return [
        f"  {column:<14} filled in {counts[column] / max(rows, 1):.1%} of events, {about}{int(counts[column + ' ']):,} "
        f"different {'value' if counts[column + ' '] == 1 else 'values'}"
        for column in mapped
    ]


def _describe_ids(events: ibis.Table) -> list[str]:
    """Report ids that are the same but for capitals or spaces, which count as different customers."""
    ids = events.select("customer_id").distinct()
    counts = ids.agg(all=ids.count(), alike=ids.customer_id.lower().re_replace(r"\s", "").nunique()).execute().iloc[0]
    extra = int(counts["all"] - counts["alike"])
    return (
        [
            f"  {extra:,} customer ids differ from another only by capitals or spaces, and count as customers of their "
            "own. If they are the same, write customer_id: lower(<column>)."
        ]
        if extra
        else []
    )


def _describe_duplicates(events: ibis.Table) -> list[str]:
    """Report lines that equal another one in every column, if no event_id separates them."""
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


def _describe_codes(source: Source, events: ibis.Table) -> list[str]:
    """Report that what customers come for has codes, by which needs would be called."""
    name = next((column for column in ("category", "item") if column in events.columns), None)
    if name is None or source.labels or events[name].type().is_array():
        return []
    names = events.filter(events[name].notnull()).select(name).distinct()
    word = names[name].re_search(r"\p{L}{2}")
    counts = names.agg(all=names.count(), words=word.sum().fill_null(0), first=names[name].min()).execute().iloc[0]
    if not counts["all"] or counts["words"] > counts["all"] / 2:
        return []
    return [
        f"  {name} holds codes such as {counts['first']!r}, and needs would be called by them. Look up their names in "
        "another file with 'lookups', or state 'labels'."
    ]


def _describe_unspent(events: ibis.Table) -> list[str]:
    """Report amounts that are not spend, where no purchase has one."""
    if "amount" not in events.columns:
        return []
    paid = events.filter(events.amount > 0).group_by("event").agg(rows=lambda t: t.count()).order_by("event").execute()
    if paid.empty or "purchase" in set(paid["event"]):
        return []
    kinds = ", ".join(repr(kind) for kind in paid["event"])
    return [f"  amounts are in {kinds} only, and spend is what purchases cost: call what is paid for 'purchase'."]


def _describe_customers(source: Source, events: ibis.Table, *, con: ibis.BaseBackend) -> list[str]:
    people = read_customers(source, con=con)
    if people is None:
        return ["  customers: no table; the baselines are RFM and KMeans only, without demographics"]
    rows = people.count().execute()
    seen = people.semi_join(events.select("customer_id").distinct(), "customer_id").count().execute()
    roles = ", ".join(f"{column} {role}" for column, role in source.roles.items())
    lines = [f"  customers: {rows:,} rows, {seen:,} of them with an event ({roles})"]
    if rows and seen < MIN_MATCH_SHARE * rows:
        event_id, people_id = (table.customer_id.min().execute() for table in (events, people))
        lines.append(
            f"    few match: ids look like {event_id!r} in the events and {people_id!r} in {source.customers.label}"
        )
    return lines


def _describe_rejected(rejected: pd.DataFrame, *, source: Source) -> list[str]:
    if rejected.empty:
        return ["  rejected rows: none"]
    return [
        f"  rejected rows (up to {source.allow_set_aside:.0%} is allowed):",
        *(f"    {row.table}: {row.rows:,} ({row.share:.2%}) {row.reason}" for row in rejected.itertuples()),
    ]


def _describe_holdout(source: Source, events: ibis.Table) -> list[str]:
    """Report how many customers are held out of every export and pilot, where the source states a holdout."""
    holdout = Holdout.of(source)
    if holdout is None:
        return []
    ids = events.select("customer_id").distinct().to_pandas()["customer_id"]
    return [
        f"  holdout: {len(holdout.members(ids)):,} of {len(ids):,} customers ({holdout.share:.1%}) are in no export "
        f"and no pilot from {holdout.start} to {holdout.end}"
    ]


def _describe_missing_columns(source: Source) -> list[str]:
    mapped = {column for table in source.tables for column in table.columns}
    missing = {column: gain for column, gain in (WOULD_ADD | EVENT_ID_GAIN).items() if column not in mapped}
    return (
        [
            "Columns that are not mapped, and what they would add:",
            *(f"  {column:<14} {gain}" for column, gain in missing.items()),
        ]
        if missing
        else []
    )


def _day(value: object) -> str:
    return str(value)[:10]
