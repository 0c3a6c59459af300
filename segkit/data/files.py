"""Open the files and database tables of a source in DuckDB, as views or tables, then shut everything else out."""

import glob
from collections.abc import Iterable
from pathlib import Path

import duckdb
import ibis
import pandas as pd
import pyarrow as pa

from segkit.data.csv_files import csv_error, csv_sql, encoding_of, first_line, refuse_twice, transcoded
from segkit.data.expressions import literal, quoted
from segkit.data.safe_yaml import nearest
from segkit.data.secrets import filled_in, hidden
from segkit.data.spec import FileSpec
from segkit.errors import SourceError

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
PARQUET_ENDINGS = (".parquet", ".pq")
DUCKDB_ENDINGS = (".duckdb", ".ddb")
CHUNK_BYTES = 1 << 20
NAME_SHOWN = 80  # characters of a name in a message


def paths_of(file: FileSpec, *, base: Path) -> list[Path]:
    """The files a path or glob stands for, sorted; SourceError names what was looked for and what lies beside it."""
    if file.path is None:
        found = _duckdb_path(file, base=base)
        return [] if found is None else [found]
    whole = str(base / Path(file.path).expanduser())
    try:
        found = [Path(whole)] if Path(whole).is_file() else [Path(name) for name in glob.glob(whole, recursive=True)]
        found = sorted(path for path in found if path.is_file())
    except OSError as error:  # a name that is too long, a loop of links, a folder that may not be read
        raise SourceError(f"{file.label[:NAME_SHOWN]}: it cannot be looked for ({error.strerror}).") from None
    if not found:
        folder = Path(whole).parent
        siblings = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        hint = (
            nearest(Path(whole).name, siblings)
            if siblings
            else f" There is no folder {folder}."
            if not folder.is_dir()
            else ""
        )
        raise SourceError(
            f"{file.path}: no such file in {base}.{hint} Paths start from the YAML file, or from --data DIR."
        )
    return [path.resolve() for path in found]


def open_file(file: FileSpec, *, base: Path, name: str, con: ibis.BaseBackend) -> bool:
    """Make one table of a source readable under a name.

    Takes  where the table is; one in a database on a server is copied
    Gives  True when every column is still text as written (CSV), so that types are ours to find

    Raises
    ------
    SourceError : missing, empty, unreadable or of an unknown kind; a header that names a column twice
    """
    if file.database is not None:
        _open_database(file, base=base, name=name, con=con)
        return False
    paths = paths_of(file, base=base)
    endings = sorted({_ending(path) for path in paths})
    ending = endings[0]
    if len(endings) > 1:
        raise SourceError(f"{file.label}: it names files of different kinds ({', '.join(endings)}). Name one kind.")
    try:
        if ending in PARQUET_ENDINGS:
            _view(
                con,
                name,
                f"select * from read_parquet({_list(paths)}{', union_by_name=true' if len(paths) > 1 else ''})",
            )
            return False
        if ending in EXCEL_ENDINGS:
            _table(
                con,
                name,
                pa.concat_tables([_excel(path, sheet=file.sheet) for path in paths], promote_options="permissive"),
            )
            return False
        if ending in CSV_ENDINGS:
            _open_csv(file, paths, name=name, con=con)
            return True
    except (duckdb.Error, pa.ArrowException) as error:
        raise SourceError(
            f"{file.label}: it cannot be read ({first_line(error)}). Is it whole, and of the kind its name says?"
        ) from None
    raise SourceError(
        f"{file.label}: files ending in {ending!r} are not read. Use csv, tsv, parquet or xlsx, or a database."
    )


def shut(con: ibis.BaseBackend, paths: Iterable[Path]) -> None:
    """Let SQL on this connection read the given files and no others, and write nowhere (temporary space aside)."""
    con.con.execute(f"set allowed_paths = {_list(paths)}").fetchall()
    con.con.execute("set enable_external_access = false").fetchall()
    con.con.execute("set lock_configuration = true").fetchall()


def is_shut(con: ibis.BaseBackend) -> bool:
    """Whether the connection already belongs to the files of one source."""
    return not con.con.execute("select current_setting('enable_external_access')").fetchall()[0][0]


def _open_csv(file: FileSpec, paths: list[Path], *, name: str, con: ibis.BaseBackend) -> None:
    encoding = encoding_of(file, paths[0])
    if encoding is not None:
        _table(con, name, pa.concat_tables([transcoded(path, file=file, encoding=encoding) for path in paths]))
        return
    try:
        _view(con, name, csv_sql(paths, delimiter=file.delimiter))
    except duckdb.Error as error:
        raise csv_error(file.label, error) from None


def _excel(path: Path, *, sheet: str | None) -> pa.Table:
    chosen = 0 if sheet is None else sheet
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            header = book.parse(chosen, header=None, nrows=1, dtype=str)
            table = book.parse(chosen)
    except ValueError as error:
        raise SourceError(
            f"{path.name}: {first_line(error)}. Name a sheet that is in the workbook with 'sheet:'."
        ) from None
    except Exception as error:  # openpyxl and zipfile raise many kinds for a broken workbook
        raise SourceError(f"{path.name}: it is not a workbook that can be read ({first_line(error)}).") from None
    if header.empty:
        raise SourceError(f"{path.name}: the sheet is empty. Export it again with its header line.")
    refuse_twice([str(cell) for cell in header.iloc[0].dropna()], label=path.name)
    columns = {}
    for label in table.columns:
        values = table[label]
        if values.dtype == object:
            values = values.map(_cell, na_action="ignore").astype("string")
        columns[str(label)] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def _cell(value: object) -> str:
    return value.isoformat(sep=" ") if hasattr(value, "hour") and hasattr(value, "year") else str(value)


def _open_database(file: FileSpec, *, base: Path, name: str, con: ibis.BaseBackend) -> None:
    schema, _, table = file.table.rpartition(".")
    path = _duckdb_path(file, base=base)
    try:
        if path is not None:
            con.con.execute(
                f"attach if not exists {literal(str(path))} as {quoted(_alias(path))} (read_only)"
            ).fetchall()
            where = [quoted(_alias(path)), *([quoted(schema)] if schema else []), quoted(table)]
            _view(con, name, f"select * from {'.'.join(where)}")
            return
        backend = ibis.connect(filled_in(file.database))
        rows = backend.table(table, database=schema or None)
        _table(con, name, rows.to_pyarrow_batches())
    except SourceError:
        raise
    except Exception as error:  # every driver has a family of its own
        reason = hidden(first_line(error), url=file.database)
        raise SourceError(
            f"{file.table}: the database table cannot be read ({type(error).__name__}: {reason}). "
            "Check database, table and the rights of the user."
        ) from None


def _duckdb_path(file: FileSpec, *, base: Path) -> Path | None:
    """The file of a DuckDB database; None for any other kind."""
    text = filled_in(file.database or "")
    path = (
        text.removeprefix("duckdb://")
        if text.startswith("duckdb://")
        else text
        if text.endswith(DUCKDB_ENDINGS)
        else None
    )
    if path is None:
        return None
    whole = (base / path).resolve()
    if not whole.is_file():
        raise SourceError(
            f"{hidden(path, url=file.database)}: no such database file in {base}. Paths start from the YAML file, or "
            "from --data DIR."
        )
    return whole


def _alias(path: Path) -> str:
    return f"segkit_{path.stem}"


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in CSV_ENDINGS if name.endswith(ending)), path.suffix.lower())


def _list(paths: Iterable[Path]) -> str:
    return "[" + ", ".join(literal(str(path)) for path in paths) + "]::varchar[]"


def _view(con: ibis.BaseBackend, name: str, sql: str) -> None:
    con.con.execute(f"create or replace view {quoted(name)} as {sql}").fetchall()


def _table(con: ibis.BaseBackend, name: str, rows: object) -> None:
    con.con.register("segkit_rows", rows)
    con.con.execute(f"create or replace table {quoted(name)} as select * from segkit_rows").fetchall()
    con.con.unregister("segkit_rows")
