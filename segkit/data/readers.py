"""Open raw files (CSV, Parquet, workbooks) and database tables as views of DuckDB."""

import codecs
import csv
import glob
import gzip
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import BinaryIO

import duckdb
import ibis
import openpyxl
import pandas as pd
import pyarrow as pa

from segkit.data.expressions import quote, sql_literal
from segkit.data.io import expand_variables, first_line, mask_secrets
from segkit.data.spec import FileSpec
from segkit.data.values import AMBIGUOUS_POINT, FORMULA_WITHOUT_VALUE
from segkit.data.yaml_models import suggest
from segkit.errors import SegkitError, SourceError

DELIMITERS = (",", ";", "\t", "|")  # the first counts where the header has none of them
MAX_LINE_BYTES = 2_000_000  # limit of DuckDB, which reports longer lines, but not a last one beyond its buffer
MAX_HEADER_SHOWN = 60  # characters of a header in a message
BOMS = (  # UTF-32 first, because its mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CSV_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
PARQUET_ENDINGS = (".parquet", ".pq")
DUCKDB_ENDINGS = (".duckdb", ".ddb")
GLOB_CHARACTER = re.compile(r"[*?\[]")
CHUNK_BYTES = 1 << 20
FILE_COLUMN = "segkit_file"  # the path of the file that a row is from
WORKBOOK_PART = "xl/workbook.xml"
MAX_WHOLE = 1e18  # a whole number below is written without a decimal point
MAX_NAME_SHOWN = 80  # characters of a name in a message
CHECK_FILE = "Check that the file is complete and that its ending matches its format."


def detect_encoding(file: FileSpec, path: Path) -> str | None:
    """Return the encoding that the source states or the first bytes show; None for UTF-8."""
    with path.open("rb") as stream:
        start = stream.read(4)
    detected = next((name for bom, name in BOMS if start.startswith(bom)), "utf-8")
    encoding = (file.encoding or detected).lower().replace("_", "-")
    return None if encoding in ("utf-8", "utf8", "utf-8-sig") else encoding


def _csv_sql(paths: Sequence[Path], *, delimiter: str | None, with_file: bool = False) -> str:
    """Write SQL that reads CSV files in UTF-8 as text; columns are matched by name, names in quotes hide delimiters."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        header = _header_line(path)
        sign = delimiter or _detect_delimiter(header)
        groups.setdefault((sign, *_column_names(header, delimiter=sign, label=path.name)), []).append(path)
    reads = (_read_sql(files, names=key[1:], delimiter=key[0], with_file=with_file) for key, files in groups.items())
    return " union all by name ".join(reads)


def _detect_delimiter(header: str) -> str:
    """Return the delimiter that a header has most of, not counting those in quotes."""
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", header).count)


def _read_transcoded(path: Path, *, file: FileSpec, encoding: str) -> pa.Table:
    """Read a CSV in another encoding than UTF-8 as a table of text."""
    try:
        with (
            gzip.open(path, "rt", encoding=encoding) if path.suffix == ".gz" else path.open(encoding=encoding) as lines
        ):
            header = next((line for line in lines if line.strip()), "")
        table = pd.read_csv(
            path,
            header=None,
            dtype=str,
            encoding=encoding,
            sep=file.delimiter or _detect_delimiter(header),
            keep_default_na=False,
            na_values=[""],
        )
    except LookupError:
        raise SourceError(
            f"{file.label}: unknown encoding {encoding!r}. Use a Python name such as cp1252, latin-1 or utf-16."
        ) from None
    except (ValueError, OSError, EOFError) as error:  # UnicodeError and ParserError among them
        raise SourceError(f"{file.label}: it cannot be read as {encoding} ({first_line(error)}).") from None
    names = ["" if pd.isna(cell) else cell.strip() for cell in table.iloc[0]]
    names = [name or f"column{place}" for place, name in enumerate(names, start=1)]
    _refuse_duplicate_columns(names, label=path.name)
    return pa.table({name: pa.array(table.iloc[1:, n], pa.string(), from_pandas=True) for n, name in enumerate(names)})


def csv_error(label: str, error: Exception) -> SegkitError:
    """Explain why DuckDB could not read a file: the line, what was found, and what to do."""
    text = str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return SegkitError(f"{label}: not enough memory to read it. Try fewer rows or columns at a time.")
    if "CSV" not in text and not re.search("utf-?8|unicode", text, re.IGNORECASE):
        reason = first_line(error)
        return SourceError(f"{label}: it cannot be read ({reason}). {CHECK_FILE}")
    place = re.search(r"[Ll]ine:? *(\d+)", text)
    line = f"line {int(place[1]):,}" if place else "a line"
    if re.search("not utf-8|invalid unicode", text, re.IGNORECASE):
        return SourceError(f"{label}: {line} is not UTF-8. Add 'encoding: cp1252' (or latin-1, utf-16) to this table.")
    if "RFC 4180" in text:
        return SourceError(
            f"{label}: its line ends differ, or a quote is never closed. Use the same line end throughout."
        )
    reason = next(
        (part.strip() for part in text.splitlines()[1:] if part.strip() and not part.startswith("Original")),
        first_line(error),
    )
    return SourceError(
        f"{label}: {line} does not fit the table ({reason.rstrip('.')}). Put texts that contain the delimiter in "
        "double quotes, or state the delimiter of this table with 'delimiter:'."
    )


def _refuse_duplicate_columns(names: Sequence[str], *, label: str) -> None:
    """Refuse a header with a repeated column name, in any case."""
    lower = [name.lower() for name in names]
    repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
    if repeated:
        times = lower.count(repeated[0].lower())
        raise SourceError(f"{label}: the header names column {repeated[0]!r} {times} times. Rename all but one.")


def _read_sql(paths: Sequence[Path], *, names: Sequence[str], delimiter: str, with_file: bool) -> str:
    """Write SQL over files with one header; a byte order mark left in the middle by joining files is removed."""
    columns = ", ".join(f"{sql_literal(name)}: 'VARCHAR'" for name in names)
    settings = "hive_partitioning=false, auto_detect=false, header=true, nullstr='', quote='\"', escape='\"'"
    settings += f", filename={sql_literal(FILE_COLUMN)}" if with_file else ""
    first = quote(names[0])
    return (
        f"select * replace (ltrim({first}, chr(65279)) as {first}) from "
        f"read_csv({_sql_files(paths)}, delim={sql_literal(delimiter)}, columns={{{columns}}}, {settings})"
    )


def _header_line(path: Path) -> str:
    """Return the header of a CSV; refuse a file that is empty, damaged, binary or has a last line that is too long."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path.name}: the file is empty. Export it again with its header line.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            line = stream.readline(MAX_LINE_BYTES)
            _refuse_long_last_line(stream, path=path)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path.name}: it cannot be unpacked ({first_line(error)}). {CHECK_FILE}") from None
    header = re.split(r"[\r\n]", line.decode("utf-8-sig", errors="replace"), maxsplit=1)[0]
    if b"\0" in line:
        raise SourceError(f"{path.name}: its header has null bytes, so it is not UTF-8. State its 'encoding:'.")
    if not header.strip():
        raise SourceError(f"{path.name}: the first line is empty. Export it again with its header line.")
    return header


def _refuse_long_last_line(stream: BinaryIO, *, path: Path) -> None:
    """Refuse a last line longer than the buffer of DuckDB, which drops it silently."""
    if path.suffix != ".gz":  # a compressed file is read to its end
        stream.seek(max(stream.tell(), path.stat().st_size - 2 * MAX_LINE_BYTES))
    end = 0  # bytes since the last line end
    while chunk := stream.read(MAX_LINE_BYTES):
        line = chunk.rstrip(b"\r\n")
        last = max(line.rfind(b"\n"), line.rfind(b"\r"))
        end = end + len(line) if last < 0 else len(line) - last - 1
    if end > MAX_LINE_BYTES:
        raise SourceError(
            f"{path.name}: its last line has more than {MAX_LINE_BYTES:,} bytes. Check for an open quote."
        )


def _column_names(header: str, *, delimiter: str, label: str) -> list[str]:
    """List the columns of a header; a column without a name is called by its place."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        shown = header[:MAX_HEADER_SHOWN]
        raise SourceError(f"{label}: its header {shown!r} cannot be read ({first_line(error)}).") from None
    names = [cell or f"column{place}" for place, cell in enumerate(cells, start=1)]
    _refuse_duplicate_columns(names, label=label)
    return names


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
    return [path.resolve() for path in found]


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
        Whether texts are as written (CSV, workbooks), so that their types must be detected.

    Raises
    ------
    SourceError
        The file is missing, empty, unreadable or of an unknown kind, or its header repeats a column.
    """
    if file.database is not None:
        _open_database(file, base=base, name=name, con=con)
        return False
    paths = resolve_paths(file, base=base)
    endings = sorted({_ending(path) for path in paths})
    ending = endings[0]
    if len(endings) > 1:
        raise SourceError(f"{file.label}: it names files of different kinds ({', '.join(endings)}). Name one kind.")
    try:
        if ending in CSV_ENDINGS:
            _open_csv(file, paths, base=base, name=name, con=con)
            return True
        if ending in PARQUET_ENDINGS:
            folders = _folder_columns(file, paths, base=base)
            more = ", union_by_name=true" if len(paths) > 1 else ""
            more += f", filename={sql_literal(FILE_COLUMN)}" if folders else ""
            sql = f"select * from read_parquet({_sql_files(paths)}, hive_partitioning=false{more})"
            _create_file_view(name, sql, folders=folders, con=con)
            return False
        if ending in EXCEL_ENDINGS:
            sheets = [_read_excel(path, sheet=file.sheet) for path in paths]
            _create_table(con, name, pa.concat_tables(sheets, promote_options="permissive"))
            return True
    except (duckdb.Error, pa.ArrowException) as error:
        raise SourceError(f"{file.label}: it cannot be read ({first_line(error)}). {CHECK_FILE}") from None
    raise SourceError(
        f"{file.label}: files ending in {ending!r} are not read. Use csv, tsv, parquet or xlsx, or a database."
    )


def restrict_access(con: ibis.BaseBackend, paths: Iterable[Path]) -> None:
    """Restrict SQL on this connection to reading the given files; it can write only to temporary space."""
    names = [str(path) for path in paths]
    names += [_without_glob(name) for name in names]  # as `_sql_files` writes them
    con.con.execute(f"set allowed_paths = {_sql_list(dict.fromkeys(names))}").fetchall()
    con.con.execute("set enable_external_access = false").fetchall()
    con.con.execute("set lock_configuration = true").fetchall()


def is_restricted(con: ibis.BaseBackend) -> bool:
    """Return whether the connection is already restricted to the files of one source."""
    return not con.con.execute("select current_setting('enable_external_access')").fetchall()[0][0]


def _open_csv(file: FileSpec, paths: list[Path], *, base: Path, name: str, con: ibis.BaseBackend) -> None:
    encoding = detect_encoding(file, paths[0])
    if encoding is not None:
        _create_table(con, name, pa.concat_tables([_read_transcoded(p, file=file, encoding=encoding) for p in paths]))
        return
    try:
        folders = _folder_columns(file, paths, base=base)
        sql = _csv_sql(paths, delimiter=file.delimiter, with_file=bool(folders))
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
    _refuse_duplicate_columns([str(header) for header, *_ in columns if header is not None], label=path.name)
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


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in CSV_ENDINGS if name.endswith(ending)), path.suffix.lower())


def _sql_files(paths: Iterable[Path]) -> str:
    """Write a list of files to read; characters that DuckDB would match with other names are escaped."""
    return _sql_list(_without_glob(str(path)) for path in paths)


def _without_glob(name: str) -> str:
    return GLOB_CHARACTER.sub(r"[\g<0>]", name)


def _sql_list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(sql_literal(text) for text in texts) + "]::varchar[]"


def _create_view(con: ibis.BaseBackend, name: str, sql: str) -> None:
    con.con.execute(f"create or replace view {quote(name)} as {sql}").fetchall()


def _create_table(con: ibis.BaseBackend, name: str, rows: object) -> None:
    con.con.register("segkit_rows", rows)
    con.con.execute(f"create or replace table {quote(name)} as select * from segkit_rows").fetchall()
    con.con.unregister("segkit_rows")
