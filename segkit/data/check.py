"""Check a source before a run, and draft one for a table that has none."""

import codecs
import re
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ibis
import pandas as pd

from segkit.data.contract import AS_WRITTEN, column_types, sample_values, typed_view
from segkit.data.expressions import quote
from segkit.data.readers import (
    CHUNK_BYTES,
    CSV_ENDINGS,
    EXCEL_ENDINGS,
    PARQUET_ENDINGS,
    detect_encoding,
    open_file,
    resolve_paths,
)
from segkit.data.readiness import WANTED, WOULD_ADD, Facts, top_share, verdict_of
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
from segkit.data.spec import CONTRACT, FileSpec, Source
from segkit.data.values import ambiguous_date, is_number, is_time_like
from segkit.errors import SourceError
from segkit.period import Period

DRAFTED_ENDINGS = (*CSV_ENDINGS, *EXCEL_ENDINGS, *PARQUET_ENDINGS)
UNCOMPRESSED_CSV_ENDINGS = tuple(ending for ending in CSV_ENDINGS if not ending.endswith(".gz"))
MAX_KINDS = 30  # most different values of a column that can be the kind of event
NAME_HINTS = {  # words in the name of a raw column -> contract column, the surest first
    "customer_id": (
        "customerid customer custno cust client userid user member account household shopper buyer kunde "
        "contact subscriber visitor person email mail"
    ),
    "timestamp": "timestamp datetime date time created ordered when datum bestellt day at am",
    "order_id": "orderid invoice basket order receipt transaction ticket session bestell beleg bon",
    "event": "eventtype eventname event action activity type",
    "amount": "amount total revenue sales spend value paid betrag umsatz montant gross net sum",
    "price": "unitprice price preis prix",
    "quantity": "quantity qty units count menge pieces",
    "discount": "discount rebate rabatt",
    "cost": "cost cogs",
    "category": (
        "category department productgroup warengruppe kategorie description productname group feature page product"
    ),
    "item": "item sku stockcode productid article artikel ean upc",
    "channel": "channel kanal device platform store os",
    "campaign": "campaign utm promotion",
    "text": "comment review feedback message text note",
}
COMPANY_WORDS = ("sent", "send", "delivered", "shipped", "dispatched", "impression", "invoiced")
MIN_KINDS = 5  # fewest kinds of event by customers for which the kinds themselves are taken as needs
NUMBER_HINTS = ("amount", "price", "quantity", "discount", "cost")


def draft_source(path: str) -> tuple[str, Path]:
    """Write a draft of a source for one table of events.

    Parameters
    ----------
    path
        A csv, tsv, parquet or xlsx file.

    Returns
    -------
    tuple of str and Path
        The YAML and its path: the name of the table, in the same folder; an existing file is never overwritten.

    Raises
    ------
    SourceError
        No such file, a YAML file of that name exists, or no column looks like a customer or a time.
    """
    table = Path(path)
    target = table.with_suffix(".yaml")
    if target.exists():
        raise SourceError(f"{target} exists already. Run segkit check {target}, or move it away for a new draft.")
    con = connect()
    file = FileSpec(path=table.name)
    resolve_paths(file, base=table.parent.resolve())
    file = file.model_copy(update={"encoding": _encoding(table)})
    is_text = open_file(file, base=table.parent.resolve(), name="draft", con=con)
    view = typed_view("draft", text={"draft": file} if is_text else {}, con=con)
    kinds = {name: kind for name, kind in column_types(view, con=con).items() if not name.endswith(AS_WRITTEN)}
    samples = sample_values(
        {name: f"cast({quote(name)} as varchar)" for name in kinds}, view=view, where="", label=table.name, con=con
    )
    text = _draft_yaml(
        file, kinds=kinds, samples=samples, mapping=_guess(kinds, samples=samples, label=table.name), view=view, con=con
    )
    target.write_text(text, encoding="utf-8")
    return text, target


def _guess(kinds: dict[str, str], *, samples: dict[str, list[str]], label: str) -> dict[str, str]:
    """Guess the raw column of each contract column (and of price) from names and values."""
    found: dict[str, str] = {}
    for contract, named in NAME_HINTS.items():
        words = tuple(named.split())
        candidates = [
            name
            for name in kinds
            if name not in found.values() and _is_candidate(contract, name, kinds=kinds, samples=samples)
        ]
        ranked = sorted((_rank(name, hints=words), n, name) for n, name in enumerate(candidates))
        if ranked and ranked[0][0] < len(words):
            found[contract] = ranked[0][2]
    for contract, test in (("timestamp", is_time_like), ("customer_id", _has_repeats)):
        if contract not in found:
            other = [name for name in kinds if name not in found.values() and test(samples[name])]
            if not other:
                what = "a time" if contract == "timestamp" else "a customer"
                raise SourceError(
                    f"{label}: no column looks like {what}; it has {', '.join(kinds)}. Write a source by hand: "
                    "name, timezone, events with path and columns."
                )
            found[contract] = other[0]
    return found


def _rank(name: str, *, hints: tuple[str, ...]) -> int:
    """Return the position of the first hint in the name of a column; the number of hints if there is none."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    parts = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return next((n for n, word in enumerate(hints) if word in parts or (len(word) > 3 and word in letters)), len(hints))


def _is_candidate(contract: str, name: str, *, kinds: dict[str, str], samples: dict[str, list[str]]) -> bool:
    values = samples[name]
    if contract == "timestamp":
        return is_time_like(values) and (not is_number(kinds[name]) or kinds[name] == "BIGINT")
    if contract in NUMBER_HINTS:
        return is_number(kinds[name])
    if contract == "event":
        return not is_number(kinds[name]) and len(set(values)) <= MAX_KINDS
    if contract in ("category", "channel", "campaign", "text"):
        return kinds[name] == "VARCHAR" and not is_time_like(values)
    if kinds[name] == "VARCHAR" and is_time_like(values):
        return False
    return kinds[name] != "DOUBLE" or all(value.endswith(".0") for value in values)


def _has_repeats(values: list[str]) -> bool:
    return 1 < len(set(values)) < len(values)


def _encoding(table: Path) -> str | None:
    """Return cp1252 for a CSV that is not UTF-8, and None where no encoding has to be named."""
    file = FileSpec(path=table.name)
    if not table.name.lower().endswith(UNCOMPRESSED_CSV_ENDINGS) or detect_encoding(file, table) is not None:
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with table.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return None


def _draft_yaml(
    file: FileSpec,
    *,
    kinds: dict[str, str],
    samples: dict[str, list[str]],
    mapping: dict[str, str],
    view: str,
    con: ibis.BaseBackend,
) -> str:
    columns, notes, events = _draft_columns(mapping, samples=samples)
    if "event" in mapping:
        rows = con.con.execute(
            f"select distinct trim({quote(mapping['event'])}) from {quote(view)} order by 1 limit {MAX_KINDS}"
        ).fetchall()
        events = [row[0] for row in rows if row[0]]
    company_kinds = [event for event in events if set(re.findall(r"[a-z]+", event.lower())) & set(COMPANY_WORDS)]
    empty = con.con.execute(
        f"select count(*) filter (where {quote(mapping['customer_id'])} is null), count(*) from {quote(view)}"
    ).fetchall()[0]
    table = Path(file.label)
    ascii_name = unicodedata.normalize("NFKD", table.name.split(".")[0]).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_name).strip("_") or "source"
    lines = [
        f"# A draft for {table.name}. Look at each line marked 'guess'; then: segkit check "
        f"{shlex.quote(table.with_suffix('.yaml').name)}",
        f"name: {name}",
        "timezone: UTC  # guess: the zone of the times in the file, e.g. Europe/London",
        "kinds:  # guess: who does each: customer or company",
        *(f"  {_yaml_scalar(event)}: {'company' if event in company_kinds else 'customer'}" for event in events),
        *_draft_needs(events, company_kinds=company_kinds, columns=columns, notes=notes, event=mapping.get("event")),
        "events:",
        f"  - path: {_yaml_scalar(table.name)}",
        *([f"    encoding: {file.encoding}  # guess: the file is not UTF-8"] if file.encoding else []),
        "    columns:",
    ]
    lines += [
        f"      {contract}: {_yaml_scalar(columns[contract])}  # guess{notes.get(contract, '')}"
        for contract in CONTRACT
        if contract in columns
    ]
    if empty[0]:
        lines.append(
            f"    where: {_yaml_scalar(quote(mapping['customer_id']) + ' is not null')}  # guess: {empty[0]:,} of "
            f"{empty[1]:,} rows have no customer"
        )
    used = set(mapping.values())
    left = [column for column in kinds if column not in used]
    return "\n".join([*lines, *([f"# not used: {', '.join(left)}"] if left else []), ""])


def _draft_needs(
    events: list[str], *, company_kinds: list[str], columns: dict[str, str], notes: dict[str, str], event: str | None
) -> list[str]:
    """Draft the kinds of event that show needs, for a source without purchases.

    Without a category, the kinds themselves become the categories if customers do enough kinds of things.
    """
    own = [kind for kind in events if kind not in company_kinds]
    if event is None or not own:
        return []
    if "category" in columns and "purchase" in own:
        return []
    if "category" not in columns:
        if len(own) < MIN_KINDS:
            return []
        columns["category"], notes["category"] = columns["event"], ": what customers do shows what they need"
    return [f"needs: [{', '.join(_yaml_scalar(kind) for kind in own)}]  # guess: kinds whose categories are needs"]


def _draft_columns(
    mapping: dict[str, str], *, samples: dict[str, list[str]]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return SQL and a note on the guess by contract column, and the kinds of event."""
    columns = {
        contract: quote(raw) if not re.fullmatch(r"\w+", raw) else raw
        for contract, raw in mapping.items()
        if contract != "price"
    }
    notes: dict[str, str] = {}
    sign = next(
        (
            quote(mapping[c])
            for c in ("quantity", "amount")
            if c in mapping and any(v.startswith("-") for v in samples[mapping[c]])
        ),
        None,
    )
    if "amount" not in mapping and "price" in mapping:
        columns["amount"] = (
            f"{quote(mapping['quantity'])} * {quote(mapping['price'])}"
            if "quantity" in mapping
            else quote(mapping["price"])
        )
    unclear = ambiguous_date(samples[mapping["timestamp"]])
    if unclear:
        separator, year = re.search(r"[./-]", unclear)[0], "Y" if re.search(r"\d{4}$", unclear) else "y"
        clock = _time_format(samples[mapping["timestamp"]][0])
        columns["timestamp"] = f"strptime({quote(mapping['timestamp'])}, '%d{separator}%m{separator}%{year}{clock}')"
        notes["timestamp"] = ": the day comes first"
    if "event" in mapping:
        return columns, notes, []
    if sign is not None:
        columns |= {c: f"abs({columns[c]})" for c in ("quantity", "amount") if c in columns}
        columns["event"] = f"case when {sign} < 0 then 'return' else 'purchase' end"
        return columns, notes | {"event": ": negative numbers are returns"}, ["purchase", "return"]
    kind = "purchase" if {"amount", "order_id", "quantity"} & set(columns) else "visit"
    return columns | {"event": f"'{kind}'"}, notes, [kind]


def _time_format(value: str) -> str:
    found = re.search(r"[ T](\d{1,2}:\d{2}(:\d{2})?)$", value.strip())
    return "" if not found else " %H:%M:%S" if found[2] else " %H:%M"


def _yaml_scalar(text: str) -> str:
    """Write text as a YAML scalar, quoted where YAML would read something else."""
    return (
        text
        if re.fullmatch(r"[A-Za-z_][\w.-]*( [\w.-]+)*", text) and text.lower() not in ("true", "false", "null")
        else "'" + text.replace("'", "''") + "'"
    )


MIN_MATCH_SHARE = 0.5  # of customers with an event; below it, ids may be written differently in the two tables
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
        Name of a built-in source, a YAML file, or a csv, tsv, parquet or xlsx file of events, for which a draft of a
        source is written first, next to it.
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
    lines = []
    if source.lower().endswith(DRAFTED_ENDINGS):
        text, path = draft_source(source)
        lines += [
            f"Draft of a source: {path} (each guess is marked; correct it where needed, then run segkit check {path})",
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
    rejected = count_rejected_rows(opened, con=con)
    facts = _count_history(opened, events, period=period)
    lines += [
        *_describe_events(opened, events, span=_span(events, period=period), period=period),
        *_describe_customers(opened, events, con=con),
        *_describe_rejected(rejected, source=opened),
    ]
    lines += [*(remarks(opened, events) if remarks else []), *_describe_missing_columns(opened), ""]
    verdict = verdict_of(facts)
    answer, reasons = verdict.answer, [] if verdict.answer == "yes" else list(verdict.reasons)
    try:
        check_rejected_share(rejected, source=opened)
    except SourceError as error:
        answer, reasons = "no", [str(error), *reasons]
    label = "yes, with limits" if answer == "with limits" else answer
    lines += [f"Can it carry a segmentation? {label}", *(f"  - {reason}" for reason in reasons)]
    return CheckReport(lines=tuple(lines), status=2 if answer == "no" else 0)


def _span(events: ibis.Table, *, period: Period) -> pd.Series:
    """Count rows and customers before as_of, with the first and last day."""
    past = events.filter(events.day < period.as_of)
    counted = {"rows": past.count(), "customers": past.customer_id.nunique()}
    return past.agg(**counted, first=past.day.min(), last=past.day.max()).execute().iloc[0]


def _count_history(source: Source, events: ibis.Table, *, period: Period) -> Facts:
    """Count what decides whether the source can carry segments, as the profile of a run does."""
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
    return [*lines, *_describe_duplicates(events)]


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
