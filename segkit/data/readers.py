"""Open raw files (CSV, Parquet, workbooks) and database tables as views of DuckDB."""

import codecs
import csv
import glob
import gzip
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb
import ibis
import pandas as pd
import pyarrow as pa

from segkit.data.expressions import quote, sql_literal
from segkit.data.io import expand_variables, first_line, mask_secrets
from segkit.data.spec import FileSpec
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
CHUNK_BYTES = 1 << 20
MAX_NAME_SHOWN = 80  # characters of a name in a message
CHECK_FILE = "Check that the file is complete and that its ending matches its format."


def detect_encoding(file: FileSpec, path: Path) -> str | None:
    """Return the encoding that the source states or the first bytes show; None for UTF-8."""
    with path.open("rb") as stream:
        start = stream.read(4)
    detected = next((name for bom, name in BOMS if start.startswith(bom)), "utf-8")
    encoding = (file.encoding or detected).lower().replace("_", "-")
    return None if encoding in ("utf-8", "utf8", "utf-8-sig") else encoding


def _csv_sql(paths: Sequence[Path], *, delimiter: str | None) -> str:
    """Write SQL that reads CSV files in UTF-8 as text; columns are matched by name, names in quotes hide delimiters."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        header = _header_line(path)
        sign = delimiter or _detect_delimiter(header)
        groups.setdefault((sign, *_column_names(header, delimiter=sign, label=path.name)), []).append(path)
    reads = (_read_sql(files, names=key[1:], delimiter=key[0]) for key, files in groups.items())
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


def _read_sql(paths: Sequence[Path], *, names: Sequence[str], delimiter: str) -> str:
    """Write SQL over files with one header; a byte order mark left in the middle by joining files is removed."""
    columns = ", ".join(f"{sql_literal(name)}: 'VARCHAR'" for name in names)
    settings = "auto_detect=false, header=true, nullstr='', quote='\"', escape='\"'"
    files = "[" + ", ".join(sql_literal(str(path)) for path in paths) + "]::varchar[]"
    first = quote(names[0])
    return (
        f"select * replace (ltrim({first}, chr(65279)) as {first}) from "
        f"read_csv({files}, delim={sql_literal(delimiter)}, columns={{{columns}}}, {settings})"
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
        Whether all columns are text as written (CSV), so that their types must be detected.

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
            _open_csv(file, paths, name=name, con=con)
            return True
        if ending in PARQUET_ENDINGS:
            union = ", union_by_name=true" if len(paths) > 1 else ""
            _create_view(con, name, f"select * from read_parquet({_sql_paths(paths)}{union})")
            return False
        if ending in EXCEL_ENDINGS:
            sheets = [_read_excel(path, sheet=file.sheet) for path in paths]
            _create_table(con, name, pa.concat_tables(sheets, promote_options="permissive"))
            return False
    except (duckdb.Error, pa.ArrowException) as error:
        raise SourceError(f"{file.label}: it cannot be read ({first_line(error)}). {CHECK_FILE}") from None
    raise SourceError(
        f"{file.label}: files ending in {ending!r} are not read. Use csv, tsv, parquet or xlsx, or a database."
    )


def restrict_access(con: ibis.BaseBackend, paths: Iterable[Path]) -> None:
    """Restrict SQL on this connection to reading the given files; it can write only to temporary space."""
    con.con.execute(f"set allowed_paths = {_sql_paths(paths)}").fetchall()
    con.con.execute("set enable_external_access = false").fetchall()
    con.con.execute("set lock_configuration = true").fetchall()


def is_restricted(con: ibis.BaseBackend) -> bool:
    """Return whether the connection is already restricted to the files of one source."""
    return not con.con.execute("select current_setting('enable_external_access')").fetchall()[0][0]


def _open_csv(file: FileSpec, paths: list[Path], *, name: str, con: ibis.BaseBackend) -> None:
    encoding = detect_encoding(file, paths[0])
    if encoding is not None:
        _create_table(con, name, pa.concat_tables([_read_transcoded(p, file=file, encoding=encoding) for p in paths]))
        return
    try:
        _create_view(con, name, _csv_sql(paths, delimiter=file.delimiter))
    except duckdb.Error as error:
        raise csv_error(file.label, error) from None


def _read_excel(path: Path, *, sheet: str | None) -> pa.Table:
    chosen = 0 if sheet is None else sheet
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            header = book.parse(chosen, header=None, nrows=1, dtype=str)
            table = book.parse(chosen)
    except ValueError as error:
        raise SourceError(f"{path.name}: {first_line(error)}. State a sheet of the workbook with 'sheet:'.") from None
    except Exception as error:  # openpyxl and zipfile raise many kinds for a broken workbook
        raise SourceError(f"{path.name}: it is not a workbook ({first_line(error)}). {CHECK_FILE}") from None
    if header.empty:
        raise SourceError(f"{path.name}: the sheet is empty. Export it again with its header line.")
    _refuse_duplicate_columns([str(cell) for cell in header.iloc[0].dropna()], label=path.name)
    columns = {}
    for label in table.columns:
        values = table[label]
        if values.dtype == object:
            values = values.map(_cell_text, na_action="ignore").astype("string")
        columns[str(label)] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def _cell_text(value: object) -> str:
    return value.isoformat(sep=" ") if hasattr(value, "hour") and hasattr(value, "year") else str(value)


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
    return f"segkit_{path.stem}"


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in CSV_ENDINGS if name.endswith(ending)), path.suffix.lower())


def _sql_paths(paths: Iterable[Path]) -> str:
    return "[" + ", ".join(sql_literal(str(path)) for path in paths) + "]::varchar[]"


def _create_view(con: ibis.BaseBackend, name: str, sql: str) -> None:
    con.con.execute(f"create or replace view {quote(name)} as {sql}").fetchall()


def _create_table(con: ibis.BaseBackend, name: str, rows: object) -> None:
    con.con.register("segkit_rows", rows)
    con.con.execute(f"create or replace table {quote(name)} as select * from segkit_rows").fetchall()
    con.con.unregister("segkit_rows")
