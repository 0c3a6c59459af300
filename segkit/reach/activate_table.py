"""An export into a table of a database: inserted or updated by key in one transaction; who is gone is marked."""

from collections.abc import Callable
from datetime import date
from typing import Any

import ibis
import pandas as pd

from segkit.data.engine import open_engine
from segkit.errors import InputError

TYPES = {"confidence": "double precision", "as_of": "date"}  # of columns that are not text
KEY, LEFT = "customer_id", "left_on"
STAGE = "segkit_stage"
NAME = "segkit_segments"
KNOWN = ("postgres", "duckdb")


def write_table(
    rows: pd.DataFrame, *, url: str, name: str = NAME, as_of: str, before_commit: Callable[[], None] | None = None
) -> dict[str, int]:
    """Bring a table up to date.

    Takes  rows: customer_id and other columns, as text
    Gives  how many rows were new, updated, and marked as gone

    Parameters
    ----------
    url : an Ibis URL, such as postgres://user@host/database or duckdb://file.duckdb
    name : of the table, made where there is none; schema.table is understood
    as_of : date that is written to `left_on` of customers who are not among the rows
    before_commit : called when all is ready; for tests

    Raises
    ------
    InputError : no connection, no rights, a table with other columns; the table is as it was
    """
    con = open_engine(url)
    if con.name not in KNOWN:
        raise InputError(f"--out: a table can be kept up to date in {', '.join(KNOWN)}. For others export parquet.")
    try:
        run = _run_on(con)
        run("begin")
        counts = _bring_up_to_date(run, _loader(con), rows, name=name, as_of=date.fromisoformat(as_of))
        if before_commit is not None:
            before_commit()
        run("commit")
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
    finally:
        con.disconnect()
    return counts


def _bring_up_to_date(
    run: Callable[..., list[tuple]], load: Callable[[pd.DataFrame], None], rows: pd.DataFrame, *, name: str, as_of: date
) -> dict[str, int]:
    columns = list(rows.columns)
    table = ".".join(_quoted(part) for part in name.split("."))
    typed = [f"{_quoted(c)} {TYPES.get(c, 'text')}" for c in columns]
    made = ", ".join([*typed, f"{_quoted(LEFT)} date", f"primary key ({_quoted(KEY)})"])
    run(f"create table if not exists {table} ({made})")
    _refuse_other_columns(run, table=table, name=name, columns=[*columns, LEFT])
    run(f"create temporary table {STAGE} ({', '.join(typed)})")
    load(rows)
    listed = ", ".join(_quoted(c) for c in columns)
    there = f"exists (select 1 from {STAGE} s where s.{_quoted(KEY)} = t.{_quoted(KEY)})"
    updated = run(f"select count(*) from {table} t where {there}")[0][0]
    gone = run(f"select count(*) from {table} t where t.{_quoted(LEFT)} is null and not {there}")[0][0]
    changes = ", ".join(f"{_quoted(c)} = excluded.{_quoted(c)}" for c in columns if c != KEY)
    run(
        f"insert into {table} ({listed}) select {listed} from {STAGE} where true "
        f"on conflict ({_quoted(KEY)}) do update set {changes}, {_quoted(LEFT)} = null"
    )
    run(f"update {table} as t set {_quoted(LEFT)} = date '{as_of}' where t.{_quoted(LEFT)} is null and not {there}")
    run(f"drop table {STAGE}")
    return {"new": len(rows) - updated, "updated": updated, "gone": gone}


def _refuse_other_columns(run: Callable[..., list[tuple]], *, table: str, name: str, columns: list[str]) -> None:
    """The table that is there must be one of ours."""
    found = run(f"select * from {table} where false", names=True)
    found_columns = [row[0] for row in found]
    if sorted(found_columns) != sorted(columns):
        missing, more = sorted(set(columns) - set(found_columns)), sorted(set(found_columns) - set(columns))
        raise InputError(
            f"table {name}: it has other columns (missing: {', '.join(missing) or 'none'}; unknown: "
            f"{', '.join(more) or 'none'}). It was not touched. Give another --table."
        )


def _run_on(con: ibis.BaseBackend) -> Callable[..., list[tuple]]:
    """A function that runs SQL on the one connection; gives rows, or the names of columns."""

    def run(sql: str, *, names: bool = False) -> list[tuple]:
        cursor = con.con.cursor() if con.name == "postgres" else con.con
        result = cursor.execute(sql)
        if names:
            return [(column[0],) for column in result.description]
        return result.fetchall() if result.description else []

    return run


def _loader(con: ibis.BaseBackend) -> Callable[[pd.DataFrame], None]:
    """A function that fills the staging table."""

    def load(rows: pd.DataFrame) -> None:
        plain = rows.astype(object).where(rows.notna(), None)
        if con.name == "duckdb":
            con.con.register("segkit_rows", plain)
            con.con.execute(f"insert into {STAGE} select * from segkit_rows")
            con.con.unregister("segkit_rows")
            return
        with con.con.cursor().copy(f"copy {STAGE} from stdin") as copy:
            for row in plain.itertuples(index=False, name=None):
                copy.write_row(row)

    return load


def _roll_back(con: Any) -> None:
    """Undo; a connection that is gone has been undone by the server."""
    try:
        _run_on(con)("rollback")
    except Exception:  # noqa: BLE001  the error that led here is the one to tell
        return


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
