"""Raw tables into the contract: the SQL views that stand behind the events and customers of a source."""

from dataclasses import dataclass

import duckdb
import ibis

from segkit.data.csv_files import csv_error, first_line
from segkit.data.expressions import bare_column, checked, columns_used, literal, quoted
from segkit.data.raw import AS_WRITTEN, columns_of, sample_of
from segkit.data.spec import FLAG_COLUMNS, ID_COLUMNS, NUMBER_COLUMNS, TEXT_COLUMNS, EventTable, Source
from segkit.data.times import time_sql
from segkit.data.values import NO_VALUE, flag_sql, id_sql, is_number, number_sql, text_sql
from segkit.errors import SourceError

NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")  # kinds of column that hold more than one value in a row
KIND_LENGTH = 40  # characters of an unknown kind of event that a reason shows


@dataclass(frozen=True)
class Mapped:
    """A table with its columns as SQL, their DuckDB types, a sample of those that are text, and what may break."""

    label: str
    where: str
    sqls: dict[str, str]
    kinds: dict[str, str]
    samples: dict[str, list[str]]
    broken: dict[str, str]
    header: str | None


def event_view(table: EventTable, *, source: Source, raw: str, name: str, con: ibis.BaseBackend) -> None:
    """Make the view of one table of events: its contract columns, and `reason`, null for a row that can be used.

    Takes  the table, and the view `raw` of its file with lookups joined

    Raises
    ------
    SourceError : an expression that does not fit the file, or values that are not what a column must hold
    """
    mapped = _map(table.columns, where=table.where, label=table.label, view=raw, con=con)
    base = ", ".join(
        [f"{sql} as {quoted(column)}" for column, sql in mapped.sqls.items()]
        + [f"{sql} as {quoted('_broken ' + column)}" for column, sql in mapped.broken.items()]
    )
    columns, reasons = _read_values(mapped, table=table)
    time = time_sql(
        "timestamp",
        kind=mapped.kinds["timestamp"],
        sample=mapped.samples.get("timestamp", []),
        where=f"{mapped.label}: column timestamp",
    )
    zone = source.timezone if mapped.kinds["timestamp"] == "DATE" else table.timezone  # a day is a day everywhere
    first, *later = time.steps(timezone=zone, source_timezone=source.timezone)
    sql = f"select {base} from {quoted(raw)}{mapped.where}"
    sql = f"select {', '.join([*columns, *first])} from ({sql})"
    for step in later:
        sql = f"select *, {', '.join(step)} from ({sql})"
    reason = _reason(mapped, source=source, reasons=reasons)
    sql = f"select {', '.join(_contract(table))}, {reason} as reason from ({sql})"
    run(f"create or replace view {quoted(name)} as {sql}", label=mapped.label, con=con)


def customer_view(source: Source, *, raw: str, name: str, con: ibis.BaseBackend) -> None:
    """Make the view of the customers: customer_id and the columns whose role is not ignore, as text or number.

    Raises
    ------
    SourceError : an expression that does not fit the file, or one customer in rows that differ
    """
    table = source.customers
    columns = {column: text for column, text in table.columns.items() if source.roles.get(column) != "ignore"}
    mapped = _map(columns, where=table.where, label=table.label, view=raw, con=con, numbers=tuple(source.roles))
    parts = [f"{id_sql(mapped.sqls['customer_id'], kind=mapped.kinds['customer_id'])} as customer_id"]
    for column, sql in mapped.sqls.items():
        if column != "customer_id":
            kind = mapped.kinds[column]
            value = (
                (f"cast({sql} as double)" if kind.startswith("DECIMAL") else sql)
                if is_number(kind)
                else text_sql(sql, kind=kind)
            )
            parts.append(f"{value} as {quoted(column)}")
    selected = f"select {', '.join(parts)} from {quoted(raw)}{mapped.where}"
    rows = f"select distinct * from ({selected}) where customer_id is not null"
    run(f"create or replace view {quoted(name)} as {rows}", label=mapped.label, con=con)
    twice = run(
        f"select customer_id, count(*) from {quoted(name)} group by 1 having count(*) > 1 order by 1",
        label=mapped.label,
        con=con,
    )
    if twice:
        raise SourceError(
            f"{mapped.label}: {len(twice):,} customers stand in several rows that differ, e.g. {twice[0][0]!r}. "
            "Keep one row for each customer, with where or in the export."
        )


def run(sql: str, *, label: str, con: ibis.BaseBackend) -> list[tuple]:
    """Run SQL over a table of the user's; what DuckDB says of it becomes a SourceError that names the table."""
    try:
        return con.con.execute(sql).fetchall()
    except duckdb.Error as error:
        of_file = ("CSV Error", "UTF-8", "unicode", "IO Error", "Parquet", "Out of Memory")
        if any(word in str(error) for word in of_file):
            raise csv_error(label, error) from None
        raise SourceError(f"{label}: {first_line(error)}. Mend the expressions of this table.") from None


def _map(
    columns: dict[str, str],
    *,
    where: str | None,
    label: str,
    view: str,
    con: ibis.BaseBackend,
    numbers: tuple[str, ...] = (),
) -> Mapped:
    """Check every expression against the file and find its type; `numbers`: columns read as typed, not as written."""
    present = columns_of(view, con=con)
    names = [name for name in present if not name.endswith(AS_WRITTEN)]
    sqls, broken = {}, {}
    for column, text in columns.items():
        sql, bare = checked(text, columns=names, where=f"{label}: column {column}"), bare_column(text, columns=names)
        written = bare is not None and bare + AS_WRITTEN in present and column not in numbers
        sqls[column] = quoted(bare + AS_WRITTEN) if written else sql if bare is not None else f"try({sql})"
        for used in columns_used(text, columns=names) if bare is None else []:
            if used + AS_WRITTEN in present:
                raw = quoted(used + AS_WRITTEN)
                broken[used] = f"{quoted(used)} is null and {raw} is not null and lower(trim({raw})) not in {NO_VALUE}"
    condition = "" if where is None else f" where {checked(where, columns=names, where=f'{label}: where')}"
    kinds = {}
    for column, sql in sqls.items():
        found = run(f"describe select {sql} as v from {quoted(view)}", label=f"{label}: column {column}", con=con)[0][1]
        if found.endswith("]") or found.startswith(NESTED):
            raise SourceError(
                f"{label}: column {column}: expected one value in each row, found {found[:KIND_LENGTH]}. Take a "
                "part of it in the expression, or unnest it in the export."
            )
        kinds[column] = "VARCHAR" if found.strip('"') == "NULL" or found.startswith("ENUM") else found
        sqls[column] = f"cast({sql} as varchar)" if kinds[column] != found else sql
    run(f"select 1 from {quoted(view)}{condition} limit 1", label=label, con=con)
    samples = sample_of(
        {c: sql for c, sql in sqls.items() if kinds[c] == "VARCHAR"}, view=view, where=condition, label=label, con=con
    )
    key = bare_column(columns["customer_id"], columns=names)
    return Mapped(
        label=label,
        where=condition,
        sqls=sqls,
        kinds=kinds,
        samples=samples,
        broken=broken,
        header=key if kinds["customer_id"] == "VARCHAR" else None,
    )


def _read_values(mapped: Mapped, *, table: EventTable) -> tuple[list[str], dict[str, str]]:
    """SELECT parts that give each contract column its type, and for numbers the reasons a row may be set aside for."""
    parts = [f"{quoted('_broken ' + column)}" for column in mapped.broken]
    reasons = {}
    for column in mapped.sqls:
        kind, sample, where = mapped.kinds[column], mapped.samples.get(column, []), f"{mapped.label}: column {column}"
        if column in ("customer_id", *ID_COLUMNS):
            _refuse_rounded(sample, where=where)
            parts.append(f"{id_sql(column, kind=kind)} as {column}")
        elif column in ("event", *TEXT_COLUMNS):
            parts.append(f"{text_sql(column, kind=kind)} as {column}")
        elif column in FLAG_COLUMNS:
            parts.append(f"{flag_sql(column, kind=kind, sample=sample, where=where)} as {column}")
        elif column in NUMBER_COLUMNS:
            value, bad = number_sql(column, kind=kind, sample=sample, decimal=table.decimal, where=where)
            parts += [f"{value} as {column}", f"{bad} as _bad_{column}"]
            reasons |= {f"_bad_{column}": f"{column} is not a finite number", f"{column} < 0": f"negative {column}"}
    if "event" not in mapped.sqls:
        parts.append("'purchase' as event")
    return parts, reasons


def _reason(mapped: Mapped, *, source: Source, reasons: dict[str, str]) -> str:
    """A CASE that names the first thing wrong with a row."""
    kinds = ", ".join(literal(kind) for kind in source.kinds)
    unknown = f"'kind of event ' || coalesce(left(event, {KIND_LENGTH}), 'null') || ' that kinds does not name'"
    cases = [f"when customer_id = {literal(mapped.header)} then 'header line repeated'"] if mapped.header else []
    cases += ["when customer_id is null then 'no customer'", "when _no_time then 'no readable time'"]
    cases += [
        f"when {quoted('_broken ' + column)} then {literal(column + ' is not a number')}" for column in mapped.broken
    ]
    cases += [f"when {test} then {literal(reason)}" for test, reason in reasons.items()]
    cases += [f"when event is null or event not in ({kinds}) then {unknown}"]
    if "event_id" in mapped.sqls:
        cases += [
            "when event_id is not null and row_number() over (partition by event_id order by _utc, customer_id) > 1 "
            "then 'event_id seen before'"
        ]
    return f"case {' '.join(cases)} end"


def _contract(table: EventTable) -> list[str]:
    optional = [column for column in table.columns if column not in ("customer_id", "timestamp", "event")]
    return [
        "customer_id",
        "_utc as timestamp",
        "cast(_local as date) as day",
        "cast(hour(_local) as integer) as hour",
        "event",
        *optional,
    ]


def _refuse_rounded(sample: list[str], *, where: str) -> None:
    rounded = [
        value
        for value in sample
        if "E+" in value.upper() and value.upper().replace("E+", "").replace(".", "").isdigit()
    ]
    if rounded:
        raise SourceError(
            f"{where}: ids such as {rounded[0]!r} were rounded by a spreadsheet ({len(rounded):,} in the sample), so "
            "customers or orders have become one. Export them again as text."
        )
