"""The files of a source as raw views: numbers of a CSV found, lookups joined, samples taken."""

import duckdb
import ibis

from segkit.data.csv_files import csv_error
from segkit.data.expressions import quoted
from segkit.data.files import open_file
from segkit.data.safe_yaml import nearest
from segkit.data.spec import EventTable, FileSpec, Source
from segkit.data.values import NO_VALUE, column_type, id_sql, number_style, plain_sql
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
    file, columns = text[name], columns_of(name, con=con)
    samples = sample_of({column: quoted(column) for column in columns}, view=name, where="", label=file.label, con=con)
    parts = []
    for column in columns:
        sql = quoted(column)
        kind, style = _number_type(samples[column], decimal=file.decimal)
        if kind is None:
            parts.append(sql)
        else:
            parts += [
                f"try_cast({plain_sql(sql, style=style)} as {kind}) as {sql}",
                f"{sql} as {quoted(column + AS_WRITTEN)}",
            ]
    con.con.execute(
        f"create or replace view {quoted(name + '_typed')} as select {', '.join(parts)} from {quoted(name)}"
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
        ours, theirs = columns_of(left, con=con), columns_of(right, con=con)
        pairs = [
            (_column(a, ours, label=table.label), _column(b, theirs, label=lookup.label)) for a, b in lookup.on.items()
        ]
        _refuse_twice(right, keys=[b for _, b in pairs], label=lookup.label, con=con)
        have = {column.lower() for column in ours}
        added = "".join(f", r.{quoted(column)}" for column in theirs if column.lower() not in have)
        test = " and ".join(_equal(a, b, left=ours, right=theirs) for a, b in pairs)
        view = f"{name}_joined_{number}"
        con.con.execute(
            f"create or replace view {quoted(view)} as select l.*{added} from {quoted(left)} l "
            f"left join {quoted(right)} r on {test}"
        ).fetchall()
        left = view
    return left


def columns_of(view: str, *, con: ibis.BaseBackend) -> dict[str, str]:
    """Names and DuckDB types of a view's columns."""
    return {row[0]: row[1] for row in con.con.execute(f"describe {quoted(view)}").fetchall()}


def sample_of(
    sqls: dict[str, str], *, view: str, where: str, label: str, con: ibis.BaseBackend
) -> dict[str, list[str]]:
    """Values of some text expressions in the first rows of a view, nulls left out."""
    if not sqls:
        return {}
    parts = ", ".join(f"{sql} as {quoted(name)}" for name, sql in sqls.items())
    try:
        rows = con.con.execute(f"select {parts} from {quoted(view)}{where} limit {SAMPLE_ROWS}").fetchall()
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
        return f"l.{quoted(left_name)} = r.{quoted(right_name)}"
    return f"{_as_id('l', left_name, left)} = {_as_id('r', right_name, right)}"


def _as_id(side: str, name: str, columns: dict[str, str]) -> str:
    name = name + AS_WRITTEN if name + AS_WRITTEN in columns else name
    return id_sql(f"{side}.{quoted(name)}", kind=columns[name])


def _refuse_twice(view: str, *, keys: list[str], label: str, con: ibis.BaseBackend) -> None:
    names = ", ".join(quoted(key) for key in keys)
    twice = con.con.execute(
        f"select {names} from {quoted(view)} where {quoted(keys[0])} is not null group by {names} "
        f"having count(*) > 1 order by all"
    ).fetchall()
    if twice:
        raise SourceError(
            f"{label}: {len(twice):,} keys of {', '.join(keys)} stand in more than one row, e.g. {twice[0][0]!r}. A "
            "lookup "
            "needs one row for each key."
        )
