"""Read raw files of any kind (CSV, Parquet, workbooks, JSON lines) into DuckDB."""

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
from segkit.data.io import expand_variables, mask_secrets
from segkit.data.spec import FileSpec
from segkit.data.yaml_models import nearest
from segkit.errors import SegkitError, SourceError

DELIMITERS = (",", ";", "\t", "|")  # the first wins where none stands in the header
MAX_LINE_BYTES = 2_000_000  # bytes; DuckDB's own, above which it says so, but for a last line beyond its buffer
MAX_HEADER_SHOWN = 60  # characters of a header in a message
BOMS = (  # the longer ones first: that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(file: FileSpec, path: Path) -> str | None:
    """The encoding that a file states, or shows by its first bytes; None for UTF-8."""
    with path.open("rb") as stream:
        start = stream.read(4)
    shown = next((name for mark, name in BOMS if start.startswith(mark)), "utf-8")
    encoding = (file.encoding or shown).lower().replace("_", "-")
    return None if encoding in ("utf-8", "utf8", "utf-8-sig") else encoding


def csv_sql(paths: Sequence[Path], *, delimiter: str | None) -> str:
    """SQL that reads CSV files in UTF-8 as text; columns are matched by name.

    Raises
    ------
    SourceError : a file that is empty, no text, or cut off; a header that names a column twice
    """
    alike: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        header = _header_line(path)
        sign = delimiter or _delimiter(header)
        alike.setdefault((sign, *_column_names(header, delimiter=sign, label=path.name)), []).append(path)
    return " union all by name ".join(_read_sql(files, names=key[1:], delimiter=key[0]) for key, files in alike.items())


def read_transcoded(path: Path, *, file: FileSpec, encoding: str) -> pa.Table:
    """A CSV in another encoding than UTF-8, as a table of text.

    Raises
    ------
    SourceError : an encoding that does not exist, or that the file is not written in
    """
    try:
        table = pd.read_csv(
            path,
            header=None,
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
    except (ValueError, csv.Error, OSError, EOFError) as error:  # UnicodeError and ParserError among them
        raise SourceError(f"{file.label}: it cannot be read as {encoding} ({first_line(error)}).") from None
    names = ["" if pd.isna(cell) else cell.strip() for cell in table.iloc[0]]
    names = [name or f"column{place}" for place, name in enumerate(names, start=1)]
    refuse_duplicate_columns(names, label=path.name)
    return pa.table({name: pa.array(table.iloc[1:, n], pa.string(), from_pandas=True) for n, name in enumerate(names)})


def csv_error(label: str, error: Exception) -> SegkitError:
    """Say in our words why DuckDB could not read a file."""
    text = str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return SegkitError(f"{label}: memory ran out while reading it. Try fewer rows or columns at a time.")
    if "CSV" not in text and not re.search("utf-?8|unicode", text, re.IGNORECASE):
        reason = first_line(error)
        return SourceError(f"{label}: it cannot be read ({reason}). Is it whole, and of the kind its name says?")
    place = re.search(r"[Ll]ine:? *(\d+)", text)
    line = f"line {int(place[1]):,}" if place else "a line"
    if re.search("not utf-8|invalid unicode", text, re.IGNORECASE):
        return SourceError(f"{label}: {line} is not UTF-8. Add 'encoding: cp1252' (or latin-1, utf-16) to this table.")
    if "RFC 4180" in text:
        return SourceError(
            f"{label}: lines end in different ways, or a quote is never closed. Write all line ends one way."
        )
    reason = next(
        (part.strip() for part in text.splitlines()[1:] if part.strip() and not part.startswith("Original")),
        first_line(error),
    )
    return SourceError(
        f"{label}: {line} does not fit the table ({reason.rstrip('.')}). Put texts that hold the delimiter in double "
        "quotes, or name the delimiter of this table with 'delimiter:'."
    )


def first_line(error: Exception) -> str:
    """The first line of an error, without what surrounds it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def refuse_duplicate_columns(names: Sequence[str], *, label: str) -> None:
    """Stop at a header that names a column twice, in whatever case: it could not be told which is meant."""
    lower = [name.lower() for name in names]
    twice = sorted({name for name in names if lower.count(name.lower()) > 1})
    if twice:
        raise SourceError(
            f"{label}: the header names column {twice[0]!r} {lower.count(twice[0].lower())} times. Rename all but one."
        )


def _read_sql(paths: Sequence[Path], *, names: Sequence[str], delimiter: str) -> str:
    """SQL over files of one header; a byte order mark that files put together left in the middle is taken off."""
    columns = ", ".join(f"{sql_literal(name)}: 'VARCHAR'" for name in names)
    settings = "auto_detect=false, header=true, nullstr='', quote='\"', escape='\"'"
    files = "[" + ", ".join(sql_literal(str(path)) for path in paths) + "]::varchar[]"
    first = quote(names[0])
    return (
        f"select * replace (ltrim({first}, chr(65279)) as {first}) from "
        f"read_csv({files}, delim={sql_literal(delimiter)}, columns={{{columns}}}, {settings})"
    )


def _header_line(path: Path) -> str:
    """The first line of a file, of which it is known that more is text and that its last line is not too long."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path.name}: the file is empty. Export it again with its header line.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            line = stream.readline(MAX_LINE_BYTES)
            _refuse_long_last_line(stream, path=path)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path.name}: it cannot be unpacked ({first_line(error)}). Is it whole?") from None
    header = re.split(r"[\r\n]", line.decode("utf-8-sig", errors="replace"), maxsplit=1)[0]
    if b"\0" in line:
        raise SourceError(f"{path.name}: the header holds null bytes, so it is no text in UTF-8. Name its 'encoding:'.")
    if not header.strip():
        raise SourceError(f"{path.name}: the first line is empty. Export it again with its header line.")
    return header


def _refuse_long_last_line(stream: BinaryIO, *, path: Path) -> None:
    """DuckDB loses a last line that is longer than its buffer, without a word; it says so of all other long ones."""
    if path.suffix != ".gz":  # what is packed has to be read through
        stream.seek(max(stream.tell(), path.stat().st_size - 2 * MAX_LINE_BYTES))
    end = 0  # bytes since the last line end
    while chunk := stream.read(MAX_LINE_BYTES):
        line = chunk.rstrip(b"\r\n")
        last = max(line.rfind(b"\n"), line.rfind(b"\r"))
        end = end + len(line) if last < 0 else len(line) - last - 1
    if end > MAX_LINE_BYTES:
        raise SourceError(
            f"{path.name}: its last line has more than {MAX_LINE_BYTES:,} bytes. Is a quote never closed?"
        )


def _delimiter(header: str) -> str:
    """The sign that parts most names of a header line; names in quotes may hold any."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _column_names(header: str, *, delimiter: str, label: str) -> list[str]:
    """The columns a header line names, each once; one without a name is called by its place."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        shown = header[:MAX_HEADER_SHOWN]
        raise SourceError(f"{label}: its header {shown!r} cannot be read ({first_line(error)}).") from None
    names = [cell or f"column{place}" for place, cell in enumerate(cells, start=1)]
    refuse_duplicate_columns(names, label=label)
    return names


CSV_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
PARQUET_ENDINGS = (".parquet", ".pq")
DUCKDB_ENDINGS = (".duckdb", ".ddb")
CHUNK_BYTES = 1 << 20
MAX_NAME_SHOWN = 80  # characters of a name in a message


def resolve_paths(file: FileSpec, *, base: Path) -> list[Path]:
    """The files a path or glob stands for, sorted; SourceError names what was looked for and what lies beside it."""
    if file.path is None:
        found = _duckdb_path(file, base=base)
        return [] if found is None else [found]
    whole = str(base / Path(file.path).expanduser())
    try:
        found = [Path(whole)] if Path(whole).is_file() else [Path(name) for name in glob.glob(whole, recursive=True)]
        found = sorted(path for path in found if path.is_file())
    except OSError as error:  # a name that is too long, a loop of links, a folder that may not be read
        raise SourceError(f"{file.label[:MAX_NAME_SHOWN]}: it cannot be looked for ({error.strerror}).") from None
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
    paths = resolve_paths(file, base=base)
    endings = sorted({_ending(path) for path in paths})
    ending = endings[0]
    if len(endings) > 1:
        raise SourceError(f"{file.label}: it names files of different kinds ({', '.join(endings)}). Name one kind.")
    try:
        if ending in PARQUET_ENDINGS:
            _create_view(
                con,
                name,
                f"select * from read_parquet({_sql_paths(paths)}{', union_by_name=true' if len(paths) > 1 else ''})",
            )
            return False
        if ending in EXCEL_ENDINGS:
            _create_table(
                con,
                name,
                pa.concat_tables([_read_excel(path, sheet=file.sheet) for path in paths], promote_options="permissive"),
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


def restrict_access(con: ibis.BaseBackend, paths: Iterable[Path]) -> None:
    """Let SQL on this connection read the given files and no others, and write nowhere (temporary space aside)."""
    con.con.execute(f"set allowed_paths = {_sql_paths(paths)}").fetchall()
    con.con.execute("set enable_external_access = false").fetchall()
    con.con.execute("set lock_configuration = true").fetchall()


def is_restricted(con: ibis.BaseBackend) -> bool:
    """Whether the connection already belongs to the files of one source."""
    return not con.con.execute("select current_setting('enable_external_access')").fetchall()[0][0]


def _open_csv(file: FileSpec, paths: list[Path], *, name: str, con: ibis.BaseBackend) -> None:
    encoding = detect_encoding(file, paths[0])
    if encoding is not None:
        _create_table(
            con, name, pa.concat_tables([read_transcoded(path, file=file, encoding=encoding) for path in paths])
        )
        return
    try:
        _create_view(con, name, csv_sql(paths, delimiter=file.delimiter))
    except duckdb.Error as error:
        raise csv_error(file.label, error) from None


def _read_excel(path: Path, *, sheet: str | None) -> pa.Table:
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
    refuse_duplicate_columns([str(cell) for cell in header.iloc[0].dropna()], label=path.name)
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
    except Exception as error:  # every driver has a family of its own
        reason = mask_secrets(first_line(error), url=file.database)
        raise SourceError(
            f"{file.table}: the database table cannot be read ({type(error).__name__}: {reason}). "
            "Check database, table and the rights of the user."
        ) from None


def _duckdb_path(file: FileSpec, *, base: Path) -> Path | None:
    """The file of a DuckDB database; None for any other kind."""
    text = expand_variables(file.database or "")
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
            f"{mask_secrets(path, url=file.database)}: no such database file in {base}. Paths start from the YAML file, or "
            "from --data DIR."
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
