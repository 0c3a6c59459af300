"""Export segments to a table of a database, in one transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pandas as pd

from segkit.data.engine import open_engine
from segkit.data.expressions import quote
from segkit.data.io import expand_variables
from segkit.errors import InputError, SourceError
from segkit.export.target import NUMBER_FIELDS

DATES = ("as_of", "expected_until", "next_order", "next_order_from", "next_order_to")
SQL_TYPES = dict.fromkeys(NUMBER_FIELDS, "double precision") | dict.fromkeys(DATES, "date")  # all others are text
KEY, LEFT = "customer_id", "left_on"
STAGING = "segkit_stage"
DEFAULT_TABLE = "segkit_segments"
SUPPORTED_DATABASES = ("postgres", "duckdb")


def write_table(
    rows: pd.DataFrame,
    *,
    url: str,
    name: str = DEFAULT_TABLE,
    as_of: str,
    before_commit: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Update a database table in one transaction.

    Parameters
    ----------
    rows
        customer_id and other columns, as text.
    url
        An Ibis URL, such as postgres://user@host/database or duckdb://file.duckdb.
    name
        Name of the table, created if missing; schema.table is understood.
    as_of
        Date written to `left_on` of customers who are not among the rows.
    before_commit
        Called when everything is ready; for tests.

    Returns
    -------
    dict
        How many rows were new, updated, and marked as gone.

    Raises
    ------
    InputError
        No connection, no rights, or a table with other columns; the table is unchanged.
    """
    with _new_database_removed_on_failure(url):
        con = _connect(url)
        try:
            return _update_table(con, rows, name=name, as_of=as_of, before_commit=before_commit)
        finally:
            con.disconnect()


@contextmanager
def _new_database_removed_on_failure(url: str) -> Iterator[None]:
    """Remove the file of a DuckDB database that was not there before, if what is done with it fails."""
    file = Path(expand_variables(url).removeprefix("duckdb://").partition("?")[0])
    is_new = url.startswith("duckdb://") and not file.exists()
    try:
        yield
    except BaseException:
        for path in (file, file.with_name(f"{file.name}.wal")) if is_new else ():
            path.unlink(missing_ok=True)  # an empty database that nobody had
        raise


def _connect(url: str) -> ibis.BaseBackend:
    """Open a database that tables can be written to."""
    try:
        con = open_engine(url)
    except SourceError as error:
        raise InputError(str(error).replace("--engine ", "--out ", 1)) from None
    if con.name not in SUPPORTED_DATABASES:
        raise InputError(
            f"--out: a table can be updated in {', '.join(SUPPORTED_DATABASES)}. For others export parquet."
        )
    return con


def _update_table(
    con: ibis.BaseBackend, rows: pd.DataFrame, *, name: str, as_of: str, before_commit: Callable[[], None] | None
) -> dict[str, int]:
    try:
        run = _run_on(con)
        run("begin")
        counts = _merge_staging(run, _loader(con), rows, name=name, as_of=date.fromisoformat(as_of))
        if before_commit is not None:
            before_commit()
        run("commit")
        return counts
    except InputError:
        _roll_back(con)
        raise
    except Exception as error:  # every database has errors of its own
        _roll_back(con)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"table {name}: {reason}. Nothing was written: the table is as it was. Check the connection, and the "
            "rights of this user on the table and its schema, and export again."
        ) from None


def _merge_staging(
    run: Callable[..., list[tuple]], load: Callable[[pd.DataFrame], None], rows: pd.DataFrame, *, name: str, as_of: date
) -> dict[str, int]:
    """Load the rows into a staging table and merge it; return the counts of `write_table`."""
    columns = list(rows.columns)
    table = ".".join(quote(part) for part in name.split("."))
    typed = [f"{quote(c)} {SQL_TYPES.get(c, 'text')}" for c in columns]
    made = ", ".join([*typed, f"{quote(LEFT)} date", f"primary key ({quote(KEY)})"])
    run(f"create table if not exists {table} ({made})")
    _add_columns(run, table=table, name=name, columns=[*columns, LEFT])
    run(f"create temporary table {STAGING} ({', '.join(typed)})")
    load(rows)
    listed = ", ".join(quote(c) for c in columns)
    there = f"exists (select 1 from {STAGING} s where s.{quote(KEY)} = t.{quote(KEY)})"
    updated = run(f"select count(*) from {table} t where {there}")[0][0]
    gone = run(f"select count(*) from {table} t where t.{quote(LEFT)} is null and not {there}")[0][0]
    changes = ", ".join(f"{quote(c)} = excluded.{quote(c)}" for c in columns if c != KEY)
    run(
        f"insert into {table} ({listed}) select {listed} from {STAGING} where true "
        f"on conflict ({quote(KEY)}) do update set {changes}, {quote(LEFT)} = null"
    )
    run(f"update {table} as t set {quote(LEFT)} = date '{as_of}' where t.{quote(LEFT)} is null and not {there}")
    run(f"drop table {STAGING}")
    return {"new": len(rows) - updated, "updated": updated, "gone": gone}


def _add_columns(run: Callable[..., list[tuple]], *, table: str, name: str, columns: list[str]) -> None:
    """Add the columns that a table of an older export lacks; raise if the table is none of an export."""
    found = [row[0] for row in run(f"select * from {table} where false", names=True)]
    missing, more = sorted(set(columns) - set(found)), sorted(set(found) - set(columns))
    if more or not {KEY, LEFT} <= set(found):
        raise InputError(
            f"table {name}: it has other columns (missing: {', '.join(missing) or 'none'}; unknown: "
            f"{', '.join(more) or 'none'}). It was not touched. Give another --table."
        )
    for column in missing:
        run(f"alter table {table} add column {quote(column)} {SQL_TYPES.get(column, 'text')}")


def _run_on(con: ibis.BaseBackend) -> Callable[..., list[tuple]]:
    """Return a function that runs SQL on the one connection and returns rows, or names of columns."""

    def run(sql: str, *, names: bool = False) -> list[tuple]:
        cursor = con.con.cursor() if con.name == "postgres" else con.con
        result = cursor.execute(sql)
        if names:
            return [(column[0],) for column in result.description]
        return result.fetchall() if result.description else []

    return run


def _loader(con: ibis.BaseBackend) -> Callable[[pd.DataFrame], None]:
    """Return a function that fills the staging table."""

    def load(rows: pd.DataFrame) -> None:
        plain = rows.astype(object).where(rows.notna(), None)
        if con.name == "duckdb":
            con.con.register("segkit_rows", plain)
            con.con.execute(f"insert into {STAGING} select * from segkit_rows")
            con.con.unregister("segkit_rows")
            return
        with con.con.cursor().copy(f"copy {STAGING} from stdin") as copy:
            for row in plain.itertuples(index=False, name=None):
                copy.write_row(row)

    return load


def _roll_back(con: Any) -> None:
    """Roll back; a lost connection is rolled back by the server."""
    try:
        _run_on(con)("rollback")
    except Exception:  # noqa: BLE001  the error that led here is reported
        return
