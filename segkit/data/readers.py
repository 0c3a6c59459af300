"""Open raw files (CSV, JSON, Parquet, workbooks) and database tables as views of DuckDB."""

import glob
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from itertools import takewhile, zip_longest
from pathlib import Path

import duckdb
import ibis
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from segkit.data.csv_files import (
    CHECK_FILE,
    CSV_ENDINGS,
    FILE_COLUMN,
    PACKED_ENDINGS,
    SPACES,
    csv_error,
    csv_sql,
    detect_encoding,
    read_transcoded,
    refuse_duplicate_columns,
    sql_files,
    sql_list,
    without_glob,
)
from segkit.data.expressions import quote, sql_literal
from segkit.data.io import expand_variables, first_line, mask_secrets
from segkit.data.spec import FileSpec
from segkit.data.values import AMBIGUOUS_POINT, FORMULA_WITHOUT_VALUE
from segkit.data.yaml_models import suggest
from segkit.errors import ColumnError, SourceError

JSON_ENDINGS = tuple(kind + packed for kind in (".jsonl", ".ndjson", ".json") for packed in ("", *PACKED_ENDINGS))
EXCEL_ENDINGS = (".xlsx", ".xlsm")
PARQUET_ENDINGS = (".parquet", ".pq")
DUCKDB_ENDINGS = (".duckdb", ".ddb")
CHUNK_BYTES = 1 << 20
JSON_SETTINGS = "sample_size=-1, dateformat='no date', timestampformat='no time'"  # texts stay texts; all rows are seen
WORKBOOK_PART = "xl/workbook.xml"
TABLE_ENDINGS = (*CSV_ENDINGS, *JSON_ENDINGS, *EXCEL_ENDINGS, *PARQUET_ENDINGS)
USE_FORMATS = "Use csv, tsv, txt, jsonl or json (also as .gz or .zst), parquet or xlsx, or a database."
OTHER_FORMATS = {
    ".xls": "Save it as .xlsx.",
    ".ods": "Save it as .xlsx.",
    ".zip": "Unpack it, and name the file in it.",
}
MAX_WHOLE = 1e18  # a whole number below is written without a decimal point
MAX_NAME_SHOWN = 80  # characters of a name in a message


def resolve_paths(file: FileSpec, *, base: Path) -> list[Path]:
    """List the files of a path or glob, sorted.

    Raises `SourceError`: there is none; the message names the most similar file in the same folder.
    """
    if file.path is None:
        found = _duckdb_path(file, base=base)
        return [] if found is None else [found]
    whole = str(base / Path(file.path).expanduser())
    try:
        found = [Path(whole)] if Path(whole).is_file() else [Path(name) for name in glob.glob(whole, recursive=True)]
        found = sorted(path for path in found if path.is_file())
    except OSError as error:  # such as a name that is too long, a loop of links, an unreadable folder
        raise SourceError(f"{file.label[:MAX_NAME_SHOWN]}: it cannot be searched for ({error.strerror}).") from None
    if not found:
        folder = Path(whole).parent
        hint = f" There is no folder {folder}."
        if folder.is_dir():
            hint = suggest(Path(whole).name, [path.name for path in folder.iterdir() if path.is_file()])
        raise SourceError(
            f"{file.path}: no such file in {base}.{hint} Paths start from the YAML file, or from --data DIR."
        )
    resolved = [path.resolve() for path in found]
    for path in resolved:
        if "\ufffd" in os.fsencode(path).decode("utf-8", "replace"):
            raise SourceError(f"{file.label[:MAX_NAME_SHOWN]}: its name is not UTF-8, so it cannot be read. Rename it.")
    return resolved


def open_file(file: FileSpec, *, base: Path, name: str, con: ibis.BaseBackend) -> bool:
    """Open one table of a source under a name; a table on a database server is copied.

    Parameters
    ----------
    file, base
        The table, and the folder that relative paths start from.
    name, con
        Name of the view or table to create, and the connection to create it on.

    Returns
    -------
    bool
        Whether texts are as written (CSV, JSON, workbooks), so that their types must be detected.

    Raises
    ------
    SourceError
        The file is missing, empty, unreadable or of an unknown kind, or its header repeats a column.
    """
    if file.database is not None:
        _open_database(file, base=base, name=name, con=con)
        return False
    paths = resolve_paths(file, base=base)
    endings = sorted({file_ending(path) for path in paths})
    ending = endings[0]
    if len(endings) > 1:
        raise SourceError(f"{file.label}: it names files of different kinds ({', '.join(endings)}). Name one kind.")
    try:
        if ending in CSV_ENDINGS:
            _open_csv(file, paths, base=base, name=name, con=con)
            return True
        if ending in PARQUET_ENDINGS or ending in JSON_ENDINGS:
            folders = _folder_columns(file, paths, base=base)
            settings = "hive_partitioning=false"
            settings += ", union_by_name=true" if len(paths) > 1 else ""
            settings += f", filename={sql_literal(FILE_COLUMN)}" if folders else ""
            read = "read_parquet" if ending in PARQUET_ENDINGS else "read_json"
            settings += "" if ending in PARQUET_ENDINGS else f", {JSON_SETTINGS}"
            sql = f"select * from {read}({sql_files(paths)}, {settings})"
            if ending in JSON_ENDINGS:  # types are stated, or else each query reads all rows twice
                types = con.con.execute(f"describe {sql}").fetchall()
                columns = ", ".join(
                    f"{sql_literal(name)}: {sql_literal(kind)}" for name, kind, *_ in types if name != FILE_COLUMN
                )
                sql = f"select * from read_json({sql_files(paths)}, {settings}, columns={{{columns}}})"
            _create_file_view(name, sql, folders=folders, con=con)
            for path in paths if ending in PARQUET_ENDINGS else ():  # DuckDB would read the first of two as the column
                refuse_duplicate_columns(pq.read_schema(path).names, label=file.label)
            return ending in JSON_ENDINGS
        if ending in EXCEL_ENDINGS:
            sheets = [_read_excel(path, sheet=file.sheet) for path in paths]
            _create_table(con, name, pa.concat_tables(sheets, promote_options="permissive"))
            return True
    except (duckdb.Error, pa.ArrowException) as error:
        reason = re.sub(r'file "[^"]*"', "the file", first_line(error)).strip().rstrip(".")
        raise SourceError(f"{file.label}: it cannot be read ({reason}). {CHECK_FILE}") from None
    raise SourceError(f"{file.label}: {not_read(ending)}")


def not_read(ending: str) -> str:
    """Say that files of an ending are not read, and what to do."""
    what = f"ending in {ending!r}" if ending else "without an ending"
    return f"files {what} are not read. {OTHER_FORMATS.get(ending, USE_FORMATS)}"


def restrict_access(con: ibis.BaseBackend, paths: Iterable[Path]) -> None:
    """Restrict SQL on this connection to reading the given files; it can write only to temporary space."""
    names = [str(path) for path in paths]
    names += [without_glob(name) for name in names]  # as `sql_files` writes them
    con.con.execute(f"set allowed_paths = {sql_list(dict.fromkeys(names))}").fetchall()
    con.con.execute("set enable_external_access = false").fetchall()
    con.con.execute("set lock_configuration = true").fetchall()


def is_restricted(con: ibis.BaseBackend) -> bool:
    """Return whether the connection is already restricted to the files of one source."""
    return not con.con.execute("select current_setting('enable_external_access')").fetchall()[0][0]


def _open_csv(file: FileSpec, paths: list[Path], *, base: Path, name: str, con: ibis.BaseBackend) -> None:
    encoding = detect_encoding(file, paths[0])
    if encoding is not None or file.delimiter == SPACES:
        texts = [read_transcoded(p, file=file, encoding=encoding or "utf-8-sig") for p in paths]
        _create_table(con, name, pa.concat_tables(texts))
        return
    try:
        folders = _folder_columns(file, paths, base=base)
        sql = csv_sql(paths, file=file, with_file=bool(folders))
        _create_file_view(name, sql, folders=folders, con=con)
    except duckdb.Error as error:
        raise csv_error(file.label, error) from None


def _folder_columns(file: FileSpec, paths: Sequence[Path], *, base: Path) -> dict[str, str]:
    """Write SQL for each column that folders below a wildcard hold, such as month in ``month=*/sales.csv``.

    Folders that the path names without a wildcard, and all above them, are no columns.
    """
    whole = base / Path(file.path).expanduser()
    if whole.is_file():
        return {}
    root = Path(*takewhile(lambda part: not glob.has_magic(part), whole.parts)).resolve()
    held = [
        dict(folder.split("=", 1) for folder in path.relative_to(root).parts[:-1] if "=" in folder)
        for path in paths
        if path.is_relative_to(root)
    ]
    columns = {}
    for name in held[0] if len(held) == len(paths) else ():
        if all(name in folders for folders in held):
            values = [folders[name] for folders in held]
            folder = sql_literal(f"/{re.escape(name)}=([^/]*)/")
            value = f"url_decode(regexp_extract({quote(FILE_COLUMN)}, {folder}, 1))"
            columns[name] = f"cast({value} as {_folder_type(values)})"
    return columns


def _folder_type(values: list[str]) -> str:
    if all(re.fullmatch(r"\d{1,18}", value) for value in values):
        return "bigint"
    return "date" if all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) for value in values) else "varchar"


def _create_file_view(name: str, sql: str, *, folders: dict[str, str], con: ibis.BaseBackend) -> None:
    """Create the view of files; a column of their own counts before one that is the name of a folder."""
    if folders:
        present = {row[0].lower() for row in con.con.execute(f"describe {sql}").fetchall()}
        added = [f"{value} as {quote(column)}" for column, value in folders.items() if column.lower() not in present]
        sql = f"select {', '.join([f'* exclude ({quote(FILE_COLUMN)})', *added])} from ({sql})"
    _create_view(con, name, sql)


@contextmanager
def naming_sheets(file: FileSpec, *, base: Path) -> Iterator[None]:
    """Add the sheets of a workbook to the message that a column is missing in the one that was read."""
    try:
        yield
    except ColumnError as error:
        titles: list[str] = []
        for path in resolve_paths(file, base=base) if file_ending(Path(file.label)) in EXCEL_ENDINGS else ():
            book = openpyxl.load_workbook(path, read_only=True)
            titles += [title for title in book.sheetnames if title not in titles]
            book.close()
        if len(titles) < 2:
            raise
        raise SourceError(
            f"{error} The workbook has the sheets {', '.join(titles)}: state one with 'sheet:' in a source, or save it "
            "as a file of its own."
        ) from None


def _read_excel(path: Path, *, sheet: str | None) -> pa.Table:
    """Read a sheet of a workbook, by default the first that is not hidden; a text of digits stays a text."""
    try:
        rows = _sheet_rows(path, sheet=sheet, data_only=True)
        _mark_formulas(rows, path=path, sheet=sheet)
    except SourceError:
        raise
    except Exception as error:  # openpyxl and zipfile raise many kinds for a broken workbook
        raise SourceError(f"{path.name}: it is not a workbook ({first_line(error)}). {CHECK_FILE}") from None
    while rows and all(value is None for value in rows[-1]):
        rows.pop()
    if not rows:
        raise SourceError(f"{path.name}: the sheet is empty. Export it again with its header line.")
    columns = list(zip_longest(*rows))
    while columns and all(value is None for value in columns[-1]):
        columns.pop()
    refuse_duplicate_columns([str(header) for header, *_ in columns if header is not None], label=path.name)
    names = [f"column{n}" if column[0] is None else str(column[0]) for n, column in enumerate(columns, start=1)]
    return pa.table({name: _cell_array(column[1:]) for name, column in zip(names, columns, strict=True)})


def _sheet_rows(path: Path, *, sheet: str | None, data_only: bool) -> list[list[object]]:
    """Read the cells of a sheet: their values, or whether each is a formula."""
    book = openpyxl.load_workbook(path, read_only=True, data_only=data_only, keep_links=False)
    try:
        sheets = {each.title: each for each in book.worksheets}
        shown = [name for name, each in sheets.items() if each.sheet_state == "visible"]
        chosen = sheet or next(iter(shown), None)
        if chosen not in sheets:
            what = "all sheets are hidden." if sheet is None else f"there is no sheet {sheet!r}."
            raise SourceError(f"{path.name}: {what} State one of its sheets with 'sheet:': {', '.join(sheets)}.")
        sheets[chosen].reset_dimensions()  # what programs state there is often wrong
        if data_only:
            return [[None if value == "" else value for value in row] for row in sheets[chosen].values]
        return [[cell.data_type == "f" for cell in row] for row in sheets[chosen].iter_rows()]
    finally:
        book.close()


def _mark_formulas(rows: list[list[object]], *, path: Path, sheet: str | None) -> None:
    """Put an error in the place of formulas that no spreadsheet program has calculated yet."""
    with zipfile.ZipFile(path) as archive:
        book = archive.read(WORKBOOK_PART) if WORKBOOK_PART in archive.namelist() else b""
    stale = re.search(rb"fullCalcOnLoad=.(1|true)", book) is not None  # as programs that cannot calculate ask for
    if not stale and all(value is not None for row in rows for value in row):
        return
    formulas = _sheet_rows(path, sheet=sheet, data_only=False)
    for column in range(max(map(len, formulas), default=0)):
        cells = [row for row, row_formulas in enumerate(formulas) if row_formulas[column : column + 1] == [True]]
        if stale or all(rows[row][column] is None for row in cells):  # otherwise a formula whose value is empty
            for row in cells:
                rows[row][column] = FORMULA_WITHOUT_VALUE


def _cell_array(values: Sequence[object]) -> pa.Array:
    """Make a column of the cells of a sheet: numbers, times, flags, or else texts."""
    filled = [value for value in values if value is not None]
    for kind in (bool, datetime, int | float):
        if all(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for value in filled):
            try:
                return pa.array(values)
            except (pa.ArrowException, OverflowError):
                break
    return pa.array([None if value is None else _cell_text(value) for value in values], pa.string())


def _cell_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if not isinstance(value, float):
        return str(value)
    text = str(int(value)) if value.is_integer() and abs(value) < MAX_WHOLE else str(value)
    return f"{text}0" if AMBIGUOUS_POINT.fullmatch(text) else text  # in a text, 1.234 might be thousands


def _open_database(file: FileSpec, *, base: Path, name: str, con: ibis.BaseBackend) -> None:
    schema, _, table = file.table.rpartition(".")
    path = _duckdb_path(file, base=base)
    try:
        if path is not None:
            con.con.execute(
                f"attach if not exists {sql_literal(str(path))} as {quote(_alias(path))} (read_only)"
            ).fetchall()
            where = [quote(_alias(path)), *([quote(schema)] if schema else []), quote(table)]
            _create_view(con, name, f"select * from {'.'.join(where)}")
            return
        backend = ibis.connect(expand_variables(file.database))
        rows = backend.table(table, database=schema or None)
        _create_table(con, name, rows.to_pyarrow_batches())
    except SourceError:
        raise
    except Exception as error:  # each driver has its own family
        reason = mask_secrets(first_line(error), url=file.database)
        raise SourceError(
            f"{file.table}: the database table cannot be read ({type(error).__name__}: {reason}). "
            "Check database, table and the rights of the user."
        ) from None


def _duckdb_path(file: FileSpec, *, base: Path) -> Path | None:
    """Return the file of a DuckDB database; None for another database."""
    text = expand_variables(file.database or "")
    if not text.startswith("duckdb://") and not text.endswith(DUCKDB_ENDINGS):
        return None
    path = text.removeprefix("duckdb://")
    whole = (base / path).resolve()
    if not whole.is_file():
        raise SourceError(
            f"{mask_secrets(path, url=file.database)}: no such database file in {base}. Paths start from the YAML "
            "file, or from --data DIR."
        )
    return whole


def _alias(path: Path) -> str:
    return f"segkit_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"


def file_ending(path: Path) -> str:
    """Return the ending of a file in small letters, with that of what it is packed in."""
    name = path.name.lower()
    return next((ending for ending in (*CSV_ENDINGS, *JSON_ENDINGS) if name.endswith(ending)), path.suffix.lower())


def _create_view(con: ibis.BaseBackend, name: str, sql: str) -> None:
    con.con.execute(f"create or replace view {quote(name)} as {sql}").fetchall()


def _create_table(con: ibis.BaseBackend, name: str, rows: object) -> None:
    con.con.register("segkit_rows", rows)
    con.con.execute(f"create or replace table {quote(name)} as select * from segkit_rows").fetchall()
    con.con.unregister("segkit_rows")
