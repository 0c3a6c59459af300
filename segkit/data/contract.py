"""Bring raw rows to the contract of events and customers, and count what had to be rejected."""

from dataclasses import dataclass

import duckdb
import ibis

from segkit.data.expressions import bare_column, check_expression, columns_used, quote, sql_literal
from segkit.data.readers import csv_error, first_line, open_file
from segkit.data.spec import FLAG_COLUMNS, ID_COLUMNS, NUMBER_COLUMNS, TEXT_COLUMNS, EventTable, FileSpec, Source
from segkit.data.values import (
    NO_VALUE,
    column_type,
    flag_sql,
    id_sql,
    is_number,
    normalized_number_sql,
    number_sql,
    number_style,
    text_sql,
    time_sql,
)
from segkit.data.yaml_models import nearest
from segkit.errors import SourceError

SAMPLE_ROWS = 10_000
AS_WRITTEN = " (as written)"  # marks a column of a CSV before its numbers were read


def open_raw(source: Source, *, prefix: str, con: ibis.BaseBackend) -> dict[str, FileSpec]:
    """Open every file of a source as a view or table; gives the names and files of those whose columns are all text."""
    files: dict[str, FileSpec] = {}
    for number, table in enumerate(source.tables):
        files[f"{prefix}_raw_{number}"] = table
        files |= {f"{prefix}_raw_{number}_{n}": lookup for n, lookup in enumerate(table.lookups)}
    if source.customers is not None:
        files[f"{prefix}_raw_customers"] = source.customers
    return {name: file for name, file in files.items() if open_file(file, base=source.base, name=name, con=con)}


def typed_view(name: str, *, text: dict[str, FileSpec], con: ibis.BaseBackend) -> str:
    """For a raw view that is all text, one whose columns of numbers are numbers, their text under NAME (as written)."""
    if name not in text:
        return name
    file, columns = text[name], column_types(name, con=con)
    samples = sample_values(
        {column: quote(column) for column in columns}, view=name, where="", label=file.label, con=con
    )
    parts = []
    for column in columns:
        sql = quote(column)
        kind, style = _number_type(samples[column], decimal=file.decimal)
        if kind is None:
            parts.append(sql)
        else:
            parts += [
                f"try_cast({normalized_number_sql(sql, style=style)} as {kind}) as {sql}",
                f"{sql} as {quote(column + AS_WRITTEN)}",
            ]
    con.con.execute(
        f"create or replace view {quote(name + '_typed')} as select {', '.join(parts)} from {quote(name)}"
    ).fetchall()
    return f"{name}_typed"


def joined_view(table: EventTable, *, name: str, text: dict[str, FileSpec], con: ibis.BaseBackend) -> str:
    """A raw view with its lookups joined by key; a column that both have is that of the events.

    Raises
    ------
    SourceError : a key column that is not there, or a key that stands twice in the lookup
    """
    left = typed_view(name, text=text, con=con)
    for number, lookup in enumerate(table.lookups):
        right = typed_view(f"{name}_{number}", text=text, con=con)
        ours, theirs = column_types(left, con=con), column_types(right, con=con)
        pairs = [
            (_column(a, ours, label=table.label), _column(b, theirs, label=lookup.label)) for a, b in lookup.on.items()
        ]
        _refuse_duplicate_keys(right, keys=[b for _, b in pairs], label=lookup.label, con=con)
        have = {column.lower() for column in ours}
        added = "".join(f", r.{quote(column)}" for column in theirs if column.lower() not in have)
        test = " and ".join(_equal(a, b, left=ours, right=theirs) for a, b in pairs)
        view = f"{name}_joined_{number}"
        con.con.execute(
            f"create or replace view {quote(view)} as select l.*{added} from {quote(left)} l "
            f"left join {quote(right)} r on {test}"
        ).fetchall()
        left = view
    return left


def column_types(view: str, *, con: ibis.BaseBackend) -> dict[str, str]:
    """Names and DuckDB types of a view's columns."""
    return {row[0]: row[1] for row in con.con.execute(f"describe {quote(view)}").fetchall()}


def sample_values(
    sqls: dict[str, str], *, view: str, where: str, label: str, con: ibis.BaseBackend
) -> dict[str, list[str]]:
    """Values of some text expressions in the first rows of a view, nulls left out."""
    if not sqls:
        return {}
    parts = ", ".join(f"{sql} as {quote(name)}" for name, sql in sqls.items())
    try:
        rows = con.con.execute(f"select {parts} from {quote(view)}{where} limit {SAMPLE_ROWS}").fetchall()
    except duckdb.Error as error:
        raise csv_error(label, error) from None
    return {name: [row[n] for row in rows if row[n] is not None] for n, name in enumerate(sqls)}


def _number_type(sample: list[str], *, decimal: str | None) -> tuple[str | None, str]:
    """The number type of a column of text and how its numbers are written; (None, ...) for text or what is unclear."""
    values = [value for value in sample if value.strip().lower() not in NO_VALUE]
    try:
        style = number_style(values, decimal=decimal, where="")
    except SourceError:
        return None, "plain"
    return column_type(values, style=style), style


def _column(name: str, columns: dict[str, str], *, label: str) -> str:
    found = next((column for column in columns if column.lower() == name.lower()), None)
    if found is None:
        raise SourceError(
            f"{label}: no column {name!r} to look up "
            f"by.{nearest(name, [c for c in columns if not c.endswith(AS_WRITTEN)])}"
        )
    return found


def _equal(left_name: str, right_name: str, *, left: dict[str, str], right: dict[str, str]) -> str:
    if left[left_name] == right[right_name]:
        return f"l.{quote(left_name)} = r.{quote(right_name)}"
    return f"{_as_id('l', left_name, left)} = {_as_id('r', right_name, right)}"


def _as_id(side: str, name: str, columns: dict[str, str]) -> str:
    name = name + AS_WRITTEN if name + AS_WRITTEN in columns else name
    return id_sql(f"{side}.{quote(name)}", kind=columns[name])


def _refuse_duplicate_keys(view: str, *, keys: list[str], label: str, con: ibis.BaseBackend) -> None:
    names = ", ".join(quote(key) for key in keys)
    twice = con.con.execute(
        f"select {names} from {quote(view)} where {quote(keys[0])} is not null group by {names} "
        f"having count(*) > 1 order by all"
    ).fetchall()
    if twice:
        raise SourceError(
            f"{label}: {len(twice):,} keys of {', '.join(keys)} stand in more than one row, e.g. {twice[0][0]!r}. A "
            "lookup "
            "needs one row for each key."
        )


NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")  # kinds of column that hold more than one value in a row
KIND_LENGTH = 40  # characters of an unknown kind of event that a reason shows


@dataclass(frozen=True)
class MappedTable:
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
    mapped = _map_columns(table.columns, where=table.where, label=table.label, view=raw, con=con)
    base = ", ".join(
        [f"{sql} as {quote(column)}" for column, sql in mapped.sqls.items()]
        + [f"{sql} as {quote('_broken ' + column)}" for column, sql in mapped.broken.items()]
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
    sql = f"select {base} from {quote(raw)}{mapped.where}"
    sql = f"select {', '.join([*columns, *first])} from ({sql})"
    for step in later:
        sql = f"select *, {', '.join(step)} from ({sql})"
    reason = _rejection_reason(mapped, source=source, reasons=reasons)
    sql = f"select {', '.join(_contract_columns(table))}, {reason} as reason from ({sql})"
    run_sql(f"create or replace view {quote(name)} as {sql}", label=mapped.label, con=con)


def customer_view(source: Source, *, raw: str, name: str, con: ibis.BaseBackend) -> None:
    """Make the view of the customers: customer_id and the columns whose role is not ignore, as text or number.

    Raises
    ------
    SourceError : an expression that does not fit the file, or one customer in rows that differ
    """
    table = source.customers
    columns = {column: text for column, text in table.columns.items() if source.roles.get(column) != "ignore"}
    mapped = _map_columns(columns, where=table.where, label=table.label, view=raw, con=con, numbers=tuple(source.roles))
    parts = [f"{id_sql(mapped.sqls['customer_id'], kind=mapped.kinds['customer_id'])} as customer_id"]
    for column, sql in mapped.sqls.items():
        if column != "customer_id":
            kind = mapped.kinds[column]
            value = (
                (f"cast({sql} as double)" if kind.startswith("DECIMAL") else sql)
                if is_number(kind)
                else text_sql(sql, kind=kind)
            )
            parts.append(f"{value} as {quote(column)}")
    selected = f"select {', '.join(parts)} from {quote(raw)}{mapped.where}"
    rows = f"select distinct * from ({selected}) where customer_id is not null"
    run_sql(f"create or replace view {quote(name)} as {rows}", label=mapped.label, con=con)
    twice = run_sql(
        f"select customer_id, count(*) from {quote(name)} group by 1 having count(*) > 1 order by 1",
        label=mapped.label,
        con=con,
    )
    if twice:
        raise SourceError(
            f"{mapped.label}: {len(twice):,} customers stand in several rows that differ, e.g. {twice[0][0]!r}. "
            "Keep one row for each customer, with where or in the export."
        )


def run_sql(sql: str, *, label: str, con: ibis.BaseBackend) -> list[tuple]:
    """Run SQL over a table of the user's; what DuckDB says of it becomes a SourceError that names the table."""
    try:
        return con.con.execute(sql).fetchall()
    except duckdb.Error as error:
        of_file = ("CSV Error", "UTF-8", "unicode", "IO Error", "Parquet", "Out of Memory")
        if any(word in str(error) for word in of_file):
            raise csv_error(label, error) from None
        raise SourceError(f"{label}: {first_line(error)}. Mend the expressions of this table.") from None


def _map_columns(
    columns: dict[str, str],
    *,
    where: str | None,
    label: str,
    view: str,
    con: ibis.BaseBackend,
    numbers: tuple[str, ...] = (),
) -> MappedTable:
    """Check every expression against the file and find its type; `numbers`: columns read as typed, not as written."""
    present = column_types(view, con=con)
    names = [name for name in present if not name.endswith(AS_WRITTEN)]
    sqls, broken = {}, {}
    for column, text in columns.items():
        sql, bare = (
            check_expression(text, columns=names, where=f"{label}: column {column}"),
            bare_column(text, columns=names),
        )
        written = bare is not None and bare + AS_WRITTEN in present and column not in numbers
        sqls[column] = quote(bare + AS_WRITTEN) if written else sql if bare is not None else f"try({sql})"
        for used in columns_used(text, columns=names) if bare is None else []:
            if used + AS_WRITTEN in present:
                raw = quote(used + AS_WRITTEN)
                broken[used] = f"{quote(used)} is null and {raw} is not null and lower(trim({raw})) not in {NO_VALUE}"
    condition = "" if where is None else f" where {check_expression(where, columns=names, where=f'{label}: where')}"
    kinds = {}
    for column, sql in sqls.items():
        found = run_sql(f"describe select {sql} as v from {quote(view)}", label=f"{label}: column {column}", con=con)[
            0
        ][1]
        if found.endswith("]") or found.startswith(NESTED):
            raise SourceError(
                f"{label}: column {column}: expected one value in each row, found {found[:KIND_LENGTH]}. Take a "
                "part of it in the expression, or unnest it in the export."
            )
        kinds[column] = "VARCHAR" if found.strip('"') == "NULL" or found.startswith("ENUM") else found
        sqls[column] = f"cast({sql} as varchar)" if kinds[column] != found else sql
    run_sql(f"select 1 from {quote(view)}{condition} limit 1", label=label, con=con)
    samples = sample_values(
        {c: sql for c, sql in sqls.items() if kinds[c] == "VARCHAR"}, view=view, where=condition, label=label, con=con
    )
    key = bare_column(columns["customer_id"], columns=names)
    return MappedTable(
        label=label,
        where=condition,
        sqls=sqls,
        kinds=kinds,
        samples=samples,
        broken=broken,
        header=key if kinds["customer_id"] == "VARCHAR" else None,
    )


def _read_values(mapped: MappedTable, *, table: EventTable) -> tuple[list[str], dict[str, str]]:
    """SELECT parts that give each contract column its type, and for numbers the reasons a row may be set aside for."""
    parts = [f"{quote('_broken ' + column)}" for column in mapped.broken]
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


def _rejection_reason(mapped: MappedTable, *, source: Source, reasons: dict[str, str]) -> str:
    """A CASE that names the first thing wrong with a row."""
    kinds = ", ".join(sql_literal(kind) for kind in source.kinds)
    unknown = f"'kind of event ' || coalesce(left(event, {KIND_LENGTH}), 'null') || ' that kinds does not name'"
    cases = [f"when customer_id = {sql_literal(mapped.header)} then 'header line repeated'"] if mapped.header else []
    cases += ["when customer_id is null then 'no customer'", "when _no_time then 'no readable time'"]
    cases += [
        f"when {quote('_broken ' + column)} then {sql_literal(column + ' is not a number')}" for column in mapped.broken
    ]
    cases += [f"when {test} then {sql_literal(reason)}" for test, reason in reasons.items()]
    cases += [f"when event is null or event not in ({kinds}) then {unknown}"]
    if "event_id" in mapped.sqls:
        cases += [
            "when event_id is not null and row_number() over (partition by event_id order by _utc, customer_id) > 1 "
            "then 'event_id seen before'"
        ]
    return f"case {' '.join(cases)} end"


def _contract_columns(table: EventTable) -> list[str]:
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
