"""Open the files and database tables of a source in DuckDB, as views or tables, then shut everything else out."""

import codecs
import csv
import glob
import gzip
import os
import re
from collections.abc import Iterable
from pathlib import Path

import duckdb
import ibis
import pandas as pd
import pyarrow as pa

from segkit.data.expressions import literal, quoted
from segkit.data.spec import FileSpec, nearest
from segkit.errors import SourceError

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
PARQUET_ENDINGS = (".parquet", ".pq")
DUCKDB_ENDINGS = (".duckdb", ".ddb")
DELIMITERS = (",", ";", "\t", "|")  # the first wins where none stands in the header
CHUNK_BYTES = 1 << 20


def paths_of(file: FileSpec, *, base: Path) -> list[Path]:
    """The files a path or glob stands for, sorted; SourceError names what was looked for and what lies beside it."""
    if file.path is None:
        found = _duckdb_path(file, base=base)
        return [] if found is None else [found]
    whole = str(base / Path(file.path).expanduser())
    found = [Path(whole)] if Path(whole).is_file() else sorted(Path(name) for name in glob.glob(whole, recursive=True))
    found = [path for path in found if path.is_file()]
    if not found:
        folder = Path(whole).parent
        beside = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        hint = (
            nearest(Path(whole).name, beside)
            if beside
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
    ending = _ending(paths[0])
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


def is_shut(con: ibis.BaseBackend) -> bool:
    """Whether the connection already belongs to the files of one source."""
    return not con.con.execute("select current_setting('enable_external_access')").fetchall()[0][0]


def first_line(error: Exception) -> str:
    """The first line of a DuckDB error, without what surrounds it."""
    return str(error).strip().splitlines()[0].rstrip(".")


def _open_csv(file: FileSpec, paths: list[Path], *, name: str, con: ibis.BaseBackend) -> None:
    encoding = (file.encoding or _encoding(paths[0])).lower().replace("_", "-")
    if encoding not in ("utf-8", "utf8", "utf-8-sig"):
        _table(con, name, pa.concat_tables([_transcoded(path, file=file, encoding=encoding) for path in paths]))
        return
    for path in paths:
        if path.stat().st_size == 0:
            raise SourceError(f"{path.name}: the file is empty. Export it again with its header line.")
    try:
        _view(con, name, " union all by name ".join(_csv_sql(path, delimiter=file.delimiter) for path in paths))
    except duckdb.Error as error:
        raise csv_error(file.label, error) from None


def _csv_sql(path: Path, *, delimiter: str | None) -> str:
    """SQL that reads a CSV as text: everything about it is stated, so that DuckDB guesses nothing from a sample."""
    header = _header_line(path)
    delimiter = delimiter or _delimiter(header)
    names = _names(header, delimiter=delimiter, label=path.name)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    settings = "auto_detect=false, header=true, nullstr='', quote='\"', escape='\"'"
    return f"select * from read_csv({_list([path])}, delim={literal(delimiter)}, columns={{{columns}}}, {settings})"


def csv_error(label: str, error: Exception) -> SourceError:
    """Say in our words why DuckDB could not read a CSV."""
    text = str(error)
    place = re.search(r"[Ll]ine:? *(\d+)", text)
    line = f"line {int(place[1]):,}" if place else "a line"
    if re.search("not utf-8|invalid unicode", text, re.IGNORECASE):
        return SourceError(f"{label}: {line} is not UTF-8. Add 'encoding: cp1252' (or latin-1, utf-16) to this table.")
    reason = next(
        (part.strip() for part in text.splitlines()[1:] if part.strip() and not part.startswith("Original")),
        first_line(error),
    )
    return SourceError(
        f"{label}: {line} does not fit the table ({reason.rstrip('.')}). Put texts that hold the delimiter in double "
        "quotes, or name the delimiter of this table with 'delimiter:'."
    )


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(4)
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"


def _transcoded(path: Path, *, file: FileSpec, encoding: str) -> pa.Table:
    try:
        table = pd.read_csv(
            path,
            dtype=str,
            encoding=encoding,
            sep=file.delimiter,
            engine="python" if file.delimiter is None else "c",
            keep_default_na=False,
            na_values=[""],
        )
    except LookupError:
        raise SourceError(
            f"{file.label}: unknown encoding {encoding!r}. Use a Python name such as cp1252, latin-1 or utf-16."
        ) from None
    except (UnicodeError, pd.errors.ParserError, csv.Error) as error:
        raise SourceError(f"{file.label}: it cannot be read as {encoding} ({first_line(error)}).") from None
    return pa.Table.from_pandas(
        table, schema=pa.schema([(str(c), pa.string()) for c in table.columns]), preserve_index=False
    )


def _header_line(path: Path) -> str:
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as stream:
        return stream.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")


def _delimiter(header: str) -> str:
    """The sign that parts most names of a header line; names in quotes may hold any."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _names(header: str, *, delimiter: str, label: str) -> list[str]:
    """The columns a header line names, each once; one without a name is called by its place."""
    cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    names = [cell or f"column{place}" for place, cell in enumerate(cells, start=1)]
    twice = sorted({name for name in names if [n.lower() for n in names].count(name.lower()) > 1})
    if twice:
        count = [n.lower() for n in names].count(twice[0].lower())
        raise SourceError(f"{label}: the header names column {twice[0]!r} {count} times. Rename all but one.")
    return names


def _excel(path: Path, *, sheet: str | None) -> pa.Table:
    try:
        table = pd.read_excel(path, sheet_name=0 if sheet is None else sheet, engine="openpyxl")
    except ValueError as error:
        raise SourceError(
            f"{path.name}: {first_line(error)}. Name a sheet that is in the workbook with 'sheet:'."
        ) from None
    except Exception as error:  # openpyxl and zipfile raise many kinds for a broken workbook
        raise SourceError(f"{path.name}: it is not a workbook that can be read ({first_line(error)}).") from None
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
        backend = ibis.connect(os.path.expandvars(file.database))
        rows = backend.table(table, database=schema or None)
        _table(con, name, rows.to_pyarrow_batches())
    except SourceError:
        raise
    except Exception as error:  # every driver has a family of its own
        raise SourceError(
            f"{file.table}: the database table cannot be read ({type(error).__name__}: {first_line(error)}). "
            "Check database, table and the rights of the user."
        ) from None


def _duckdb_path(file: FileSpec, *, base: Path) -> Path | None:
    """The file of a DuckDB database; None for any other kind."""
    text = os.path.expandvars(file.database or "")
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
            f"{path}: no such database file in {base}. Paths start from the YAML file, or from --data DIR."
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
