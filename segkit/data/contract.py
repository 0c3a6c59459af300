"""Map raw rows to the contract of events and customers, with the reason why a row is rejected."""

import re
from dataclasses import dataclass

import duckdb
import ibis

from segkit.data.csv_files import csv_error
from segkit.data.expressions import bare_column, check_expression, columns_used, quote, sql_literal
from segkit.data.io import first_line
from segkit.data.readers import open_file
from segkit.data.spec import (
    FLAG_COLUMNS,
    ID_COLUMNS,
    LIST_COLUMNS,
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    EventTable,
    FileSpec,
    Source,
)
from segkit.data.values import (
    NO_VALUE,
    ROUNDED_ID,
    column_type,
    flag_sql,
    id_sql,
    is_number,
    list_sql,
    normalized_number_sql,
    number_sql,
    number_style,
    refuse_mixed_numbers,
    text_sql,
    time_sql,
)
from segkit.data.yaml_models import suggest
from segkit.errors import SourceError

SAMPLE_ROWS = 10_000
AS_WRITTEN = " (as written)"  # suffix of a CSV column before its numbers are read


def open_raw(source: Source, *, prefix: str, con: ibis.BaseBackend) -> dict[str, FileSpec]:
    """Open every file of a source as a view or table, and return the names and files whose columns are all text."""
    files: dict[str, FileSpec] = {}
    for number, table in enumerate(source.tables):
        files[f"{prefix}_raw_{number}"] = table
        files |= {f"{prefix}_raw_{number}_{n}": lookup for n, lookup in enumerate(table.lookups)}
    if source.customers is not None:
        files[f"{prefix}_raw_customers"] = source.customers
    return {name: file for name, file in files.items() if open_file(file, base=source.base, name=name, con=con)}


def typed_view(name: str, *, text: dict[str, FileSpec], con: ibis.BaseBackend) -> str:
    """Create a view of a raw text view whose numbers are numbers, with their text under ``NAME (as written)``."""
    if name not in text:
        return name
    file, columns = text[name], column_types(name, con=con)
    texts = {column: quote(column) for column, kind in columns.items() if kind == "VARCHAR"}
    samples = sample_values(texts, view=name, where="", label=file.label, con=con)
    parts = []
    for column in columns:
        sql = quote(column)
        kind, style = _number_type(samples.get(column, []), decimal=file.decimal)
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
    """Create a view of a raw view with its lookups joined by key; where both have a column, that of the events counts.

    Raises `SourceError`: a key column is missing, or a key is repeated in the lookup.
    """
    left = filled_view(typed_view(name, text=text, con=con), fill=table.fill, label=table.label, con=con)
    for number, lookup in enumerate(table.lookups):
        right = typed_view(f"{name}_{number}", text=text, con=con)
        left_types, right_types = column_types(left, con=con), column_types(right, con=con)
        tests, keys = [], []
        for left_name, right_name in lookup.on.items():
            a = _find_column(left_name, left_types, label=table.label)
            b = _find_column(right_name, right_types, label=lookup.label)
            as_ids = f"{_key_sql('l', a, left_types)} = {_key_sql('r', b, right_types)}"
            tests.append(f"l.{quote(a)} = r.{quote(b)}" if left_types[a] == right_types[b] else as_ids)
            keys.append(b)
        _refuse_duplicate_keys(right, keys=keys, label=lookup.label, con=con)
        present = {column.lower() for column in left_types}
        added = "".join(f", r.{quote(column)}" for column in right_types if column.lower() not in present)
        view = f"{name}_joined_{number}"
        con.con.execute(
            f"create or replace view {quote(view)} as select l.*{added} from {quote(left)} l "
            f"left join {quote(right)} r on {' and '.join(tests)}"
        ).fetchall()
        left = view
    return left


def filled_view(view: str, *, fill: dict[str, tuple[str, ...]], label: str, con: ibis.BaseBackend) -> str:
    """Create a view in which each line of an order has what only its first line holds: ``fill``, by its column.

    Raises `SourceError`: a column is missing.
    """
    present = column_types(view, con=con)
    for number, (key, names) in enumerate(fill.items()):
        key = _find_column(key, present, label=label, what="column of fill")
        found = [_find_column(name, present, label=label, what="column of fill") for name in names]
        found += [name + AS_WRITTEN for name in found if name + AS_WRITTEN in present]
        highest = ", ".join(f"max({quote(name)}) as {quote(name)}" for name in found)
        filled = ", ".join(f"coalesce(l.{quote(name)}, f.{quote(name)}) as {quote(name)}" for name in found)
        left, view = view, f"{view}_filled_{number}"
        con.con.execute(
            f"create or replace view {quote(view)} as select l.* replace ({filled}) from {quote(left)} l left join "
            f"(select {quote(key)}, {highest} from {quote(left)} group by 1) f on l.{quote(key)} = f.{quote(key)}"
        ).fetchall()
    return view


def column_types(view: str, *, con: ibis.BaseBackend) -> dict[str, str]:
    """Return the columns of a view with their DuckDB types."""
    return {row[0]: row[1] for row in con.con.execute(f"describe {quote(view)}").fetchall()}


def sample_values(
    sqls: dict[str, str], *, view: str, where: str, label: str, con: ibis.BaseBackend
) -> dict[str, list[str]]:
    """Sample the values of text expressions in the first rows of a view, without nulls."""
    if not sqls:
        return {}
    parts = ", ".join(f"{sql} as {quote(name)}" for name, sql in sqls.items())
    try:
        rows = con.con.execute(f"select {parts} from {quote(view)}{where} limit {SAMPLE_ROWS}").fetchall()
    except duckdb.Error as error:
        raise csv_error(label, error) from None
    return {name: [row[n] for row in rows if row[n] is not None] for n, name in enumerate(sqls)}


def _number_type(sample: list[str], *, decimal: str | None) -> tuple[str | None, str]:
    """Detect the number type of a text column and how its numbers are written; no type for text or unclear numbers."""
    values = [value for value in sample if value.strip().lower() not in NO_VALUE]
    try:
        style = number_style(values, decimal=decimal, where="")
    except SourceError:
        return None, "plain"
    return column_type(values, style=style), style


def _find_column(name: str, columns: dict[str, str], *, label: str, what: str = "key column of a lookup") -> str:
    found = next((column for column in columns if column.lower() == name.lower()), None)
    if found is None:
        known = [column for column in columns if not column.endswith(AS_WRITTEN)]
        raise SourceError(f"{label}: no column {name!r} in the file, a {what}.{suggest(name, known)}")
    return found


def _key_sql(alias: str, name: str, columns: dict[str, str]) -> str:
    """Write a key as an id, so that keys of different types compare."""
    name = name + AS_WRITTEN if name + AS_WRITTEN in columns else name
    return id_sql(f"{alias}.{quote(name)}", kind=columns[name])


def _refuse_duplicate_keys(view: str, *, keys: list[str], label: str, con: ibis.BaseBackend) -> None:
    names = ", ".join(quote(key) for key in keys)
    repeated = con.con.execute(
        f"select {names} from {quote(view)} where {quote(keys[0])} is not null group by {names} "
        f"having count(*) > 1 order by all"
    ).fetchall()
    if repeated:
        raise SourceError(
            f"{label}: repeated keys in {', '.join(keys)} ({len(repeated):,} in all, e.g. {repeated[0][0]!r}). "
            "A lookup needs one row for each key."
        )


LIST = "VARCHAR[]"
NESTED = ("STRUCT", "MAP", "UNION", "VARIANT")  # types with more than one value in a row
MAX_NUMBER = 10**10  # of an amount or a quantity; sums of larger ones would not be exact
KIND_LENGTH = 40  # characters of an unknown kind of event in a reason


@dataclass(frozen=True)
class _MappedTable:
    """A table with its columns as SQL and their DuckDB types.

    ``samples`` has values of text columns, ``broken`` the SQL that flags unreadable numbers in expressions, and
    ``header`` the column of the customer ids, in which a repeated header line shows.
    """

    label: str
    where: str
    sqls: dict[str, str]
    kinds: dict[str, str]
    samples: dict[str, list[str]]
    broken: dict[str, str]
    header: str | None


def event_view(table: EventTable, *, source: Source, raw: str, name: str, con: ibis.BaseBackend) -> None:
    """Create the view of one table of events: contract columns, and the ``reason`` why a row is rejected, or null.

    Raises `SourceError`: an expression does not fit the file, or the values do not fit their column.
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
    zone = (
        source.timezone if mapped.kinds["timestamp"] == "DATE" else table.timezone
    )  # a date is the same day in every zone
    first, *later = time.steps(timezone=zone, source_timezone=source.timezone)
    sql = f"select {base} from {quote(raw)}{mapped.where}"
    sql = f"select {', '.join([*columns, *first])} from ({sql})"
    for step in later:
        sql = f"select *, {', '.join(step)} from ({sql})"
    reason = _rejection_reason(mapped, source=source, reasons=reasons)
    optional = [column for column in table.columns if column not in ("customer_id", "timestamp", "event")]
    time_parts = "_utc as timestamp, cast(_local as date) as day, cast(hour(_local) as integer) as hour"
    sql = f"select {', '.join(['customer_id', time_parts, 'event', *optional])}, {reason} as reason from ({sql})"
    run_sql(f"create or replace view {quote(name)} as {sql}", label=mapped.label, con=con)


def customer_view(source: Source, *, raw: str, name: str, con: ibis.BaseBackend) -> None:
    """Create the view of the customers: ``customer_id`` and the columns with a role other than ignore, text or number.

    Raises `SourceError`: an expression does not fit the file, or the rows of a customer differ.
    """
    table = source.customers
    columns = {column: text for column, text in table.columns.items() if source.roles.get(column) != "ignore"}
    mapped = _map_columns(columns, where=table.where, label=table.label, view=raw, con=con, numbers=tuple(source.roles))
    parts = [f"{id_sql(mapped.sqls['customer_id'], kind=mapped.kinds['customer_id'])} as customer_id"]
    for column, sql in mapped.sqls.items():
        if column != "customer_id":
            kind = mapped.kinds[column]
            value = sql if is_number(kind) else text_sql(sql, kind=kind)
            value = f"cast({sql} as double)" if kind.startswith("DECIMAL") else value
            parts.append(f"{value} as {quote(column)}")
    selected = f"select {', '.join(parts)} from {quote(raw)}{mapped.where}"
    rows = f"select distinct * from ({selected}) where customer_id is not null"
    run_sql(f"create or replace view {quote(name)} as {rows}", label=mapped.label, con=con)
    differing = run_sql(
        f"select customer_id, count(*) from {quote(name)} group by 1 having count(*) > 1 order by 1",
        label=mapped.label,
        con=con,
    )
    if differing:
        raise SourceError(
            f"{mapped.label}: rows of the same customer differ ({len(differing):,} in all, e.g. {differing[0][0]!r}). "
            "Keep one row for each customer, with where or in the export."
        )


def run_sql(sql: str, *, label: str, con: ibis.BaseBackend) -> list[tuple]:
    """Run SQL over a table of the user; an error of DuckDB becomes a SourceError that names the table."""
    try:
        return con.con.execute(sql).fetchall()
    except duckdb.Error as error:
        of_file = ("CSV Error", "UTF-8", "unicode", "IO Error", "Parquet", "Out of Memory")
        if any(word in str(error) for word in of_file):
            raise csv_error(label, error) from None
        raise SourceError(f"{label}: {first_line(error)}. Fix the expressions of this table.") from None


def _map_columns(
    columns: dict[str, str],
    *,
    where: str | None,
    label: str,
    view: str,
    con: ibis.BaseBackend,
    numbers: tuple[str, ...] = (),
) -> _MappedTable:
    """Check every expression against the file and find its type; the columns ``numbers`` are read as numbers."""
    present = column_types(view, con=con)
    names = [name for name in present if not name.endswith(AS_WRITTEN)]
    sqls, broken = {}, {}
    for column, text in columns.items():
        sql = check_expression(text, columns=names, where=f"{label}: column {column}")
        bare = bare_column(text, columns=names)
        written = bare is not None and bare + AS_WRITTEN in present and column not in numbers
        sqls[column] = quote(bare + AS_WRITTEN) if written else sql if bare is not None else f"try({sql})"
        for used in columns_used(text, columns=names) if bare is None else []:
            if used + AS_WRITTEN in present:
                raw = quote(used + AS_WRITTEN)
                broken[used] = f"{quote(used)} is null and {raw} is not null and lower(trim({raw})) not in {NO_VALUE}"
    condition = "" if where is None else f" where {check_expression(where, columns=names, where=f'{label}: where')}"
    calculated = {
        used
        for column, text in columns.items()
        if column in numbers or bare_column(text, columns=names) is None
        for used in columns_used(text, columns=names)
        if present[used] == "VARCHAR"
    }
    _refuse_mixed_numbers(sorted(calculated), view=view, where=condition, label=label, con=con)
    kinds = {}
    for column, sql in sqls.items():
        found = _value_type(sql, view=view, where=f"{label}: column {column}", column=column, con=con)
        kinds[column] = "VARCHAR" if found.strip('"') == "NULL" or found.startswith("ENUM") else found
        sqls[column] = f"cast({sql} as varchar)" if kinds[column] != found else sql
    run_sql(f"select 1 from {quote(view)}{condition} limit 1", label=label, con=con)
    samples = sample_values(
        {c: sql for c, sql in sqls.items() if kinds[c] == "VARCHAR"}, view=view, where=condition, label=label, con=con
    )
    key = bare_column(columns["customer_id"], columns=names)
    return _MappedTable(
        label=label,
        where=condition,
        sqls=sqls,
        kinds=kinds,
        samples=samples,
        broken=broken,
        header=key if kinds["customer_id"] == "VARCHAR" else None,
    )


def _value_type(sql: str, *, view: str, where: str, column: str, con: ibis.BaseBackend) -> str:
    """Return the DuckDB type of an expression; refuse one with several values in a row, unless it may be a list."""
    found = run_sql(f"describe select {sql} as v from {quote(view)}", label=where, con=con)[0][1]
    if column in LIST_COLUMNS and found.endswith("[]") and found.count("[") == 1 and not found.startswith(NESTED):
        return LIST
    if found.endswith("]") or found.startswith(NESTED):
        raise SourceError(
            f"{where}: expected one value in each row, found {found[:KIND_LENGTH]}. Take one part of it in the "
            "expression, or unnest it in the export."
        )
    return found


def _refuse_mixed_numbers(columns: list[str], *, view: str, where: str, label: str, con: ibis.BaseBackend) -> None:
    """Refuse text columns that are numbers in more than one notation, where an expression calculates with them."""
    samples = sample_values({c: quote(c) for c in columns}, view=view, where=where, label=label, con=con)
    for column, sample in samples.items():
        refuse_mixed_numbers(sample, where=f"{label}: column {column}")


def _read_values(mapped: _MappedTable, *, table: EventTable) -> tuple[list[str], dict[str, str]]:
    """Write the SELECT parts that type each contract column, and the tests of numbers with their rejection reasons."""
    parts = [f"{quote('_broken ' + column)}" for column in mapped.broken]
    reasons = {}
    for column in mapped.sqls:
        kind, sample, where = mapped.kinds[column], mapped.samples.get(column, []), f"{mapped.label}: column {column}"
        if column in ("customer_id", *ID_COLUMNS):
            _refuse_rounded(sample, where=where)
            parts.append(f"{id_sql(column, kind=kind)} as {column}")
            if kind == "VARCHAR":  # beyond the sample
                rounded = f"contains({column}, '+') and regexp_full_match(trim({column}), '{ROUNDED_ID}')"
                parts.append(f"case when {rounded} then true else false end as _rounded_{column}")
                reasons[f"_rounded_{column}"] = f"{column} was rounded by a spreadsheet"
        elif kind == LIST:
            parts.append(f"{list_sql(column)} as {column}")
        elif column in ("event", *TEXT_COLUMNS):
            parts.append(f"{text_sql(column, kind=kind)} as {column}")
        elif column in FLAG_COLUMNS:
            parts.append(f"{flag_sql(column, kind=kind, sample=sample, where=where)} as {column}")
        elif column in NUMBER_COLUMNS:
            value, bad = number_sql(column, kind=kind, sample=sample, decimal=table.decimal, where=where)
            parts += [f"{value} as {column}", f"{bad} as _bad_{column}"]
            reasons |= {f"_bad_{column}": f"{column} is not a finite number", f"{column} < 0": f"negative {column}"}
            reasons |= {f"{column} >= {MAX_NUMBER}": f"{column} of {MAX_NUMBER:,} or more"}
    if "event" not in mapped.sqls:
        parts.append("'purchase' as event")
    return parts, reasons


def _rejection_reason(mapped: _MappedTable, *, source: Source, reasons: dict[str, str]) -> str:
    """Write a CASE that gives the first reason to reject a row."""
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


def _refuse_rounded(sample: list[str], *, where: str) -> None:
    rounded = [value for value in sample if re.fullmatch(ROUNDED_ID, value.strip())]
    if rounded:
        raise SourceError(
            f"{where}: ids such as {rounded[0]!r} were rounded by a spreadsheet ({len(rounded):,} in the sample), so "
            "different customers or orders share an id. Export them again as text."
        )
