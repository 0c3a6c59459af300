"""Read CSV files as text: encodings, delimiters, headers, line ends; and explain why one cannot be read."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import duckdb
import pandas as pd
import pyarrow as pa

from segkit.data.expressions import quote, sql_literal
from segkit.data.io import first_line
from segkit.data.spec import FileSpec
from segkit.data.values import is_time_like
from segkit.errors import SegkitError, SourceError

DELIMITERS = (",", ";", "\t", "|")  # the first counts where the header has none of them
SPACES = "spaces"  # a delimiter: one or more blanks
MAX_LINE_BYTES = 2_000_000  # limit of DuckDB, which reports longer lines, but not a last one beyond its buffer
MAX_HEADER_SHOWN = 60  # characters of a header in a message
BOMS = (  # UTF-32 first, because its mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PACKED_ENDINGS = (".gz", ".zst")
CSV_ENDINGS = tuple(kind + packed for kind in (".csv", ".tsv", ".txt") for packed in ("", *PACKED_ENDINGS))
GLOB_CHARACTER = re.compile(r"[*?\[]")
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
FILE_COLUMN = "segkit_file"  # the path of the file that a row is from
CHECK_FILE = "Check that the file is complete and that its ending matches its format."


@contextmanager
def open_text(path: Path, *, encoding: str, **options: Any) -> Iterator[TextIO]:
    """Open a file to read its text, unpacked where its name ends in .gz or .zst."""
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding=encoding, **options) as lines:
        yield lines


def sql_files(paths: Iterable[Path]) -> str:
    """Write a list of files to read; characters that DuckDB would match with other names are escaped."""
    return sql_list(without_glob(str(path)) for path in paths)


def without_glob(name: str) -> str:
    """Escape the characters of a name that DuckDB would match with other names."""
    return GLOB_CHARACTER.sub(r"[\g<0>]", name)


def sql_list(texts: Iterable[str]) -> str:
    """Write a list of texts in SQL."""
    return "[" + ", ".join(sql_literal(text) for text in texts) + "]::varchar[]"


def open_bytes(path: Path) -> BinaryIO:
    """Open a file to read its bytes, unpacked where its name ends in .gz or .zst."""
    packed = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
    return path.open("rb") if packed is None else io.BufferedReader(pa.input_stream(str(path), compression=packed))


def detect_encoding(file: FileSpec, path: Path) -> str | None:
    """Return the encoding that the source states or the first bytes show; None for UTF-8."""
    with path.open("rb") as stream:
        start = stream.read(4)
    detected = next((name for bom, name in BOMS if start.startswith(bom)), "utf-8")
    encoding = (file.encoding or detected).lower().replace("_", "-")
    return None if encoding in ("utf-8", "utf8", "utf-8-sig") else encoding


def csv_sql(paths: Sequence[Path], *, file: FileSpec, with_file: bool = False) -> str:
    """Write SQL that reads CSV files in UTF-8 as text; columns are matched by name, names in quotes hide delimiters."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    strict = True
    for path in paths:
        header = _header_line(path)
        sign = file.delimiter or detect_delimiter(header)
        names = _column_names(header, delimiter=sign, named=file.header, label=path.name)
        if _has_mixed_line_ends(path):
            _check_lines(path, delimiter=sign, columns=len(names))
            strict = False
        groups.setdefault((sign, *names), []).append(path)
    settings = ", ".join(
        [
            f"header={str(file.header).lower()}, strict_mode={str(strict).lower()}",
            *([f"filename={sql_literal(FILE_COLUMN)}"] if with_file else []),
        ]
    )
    reads = (_read_sql(files, names=key[1:], delimiter=key[0], settings=settings) for key, files in groups.items())
    return " union all by name ".join(reads)


def _has_mixed_line_ends(path: Path) -> bool:
    """Return whether the first part of a file ends its lines in more than one way, which DuckDB refuses."""
    with open_bytes(path) as stream:
        start = stream.read(MAX_LINE_BYTES).removesuffix(b"\r")
    both = start.count(b"\r\n")
    return 0 < both < max(start.count(b"\n"), start.count(b"\r")) or (both == 0 and b"\n" in start and b"\r" in start)


def _check_lines(path: Path, *, delimiter: str, columns: int) -> None:
    """Check that every line of a file has its columns and closes its quotes, whatever the line ends.

    Raises `SourceError` with the number of the first line that does not.
    """
    with open_text(path, encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        line = 1
        try:
            for row in rows:
                if row and len(row) != columns:
                    raise SourceError(f"{path.name}: line {line:,} has {len(row)} columns, the first line {columns}.")
                line = rows.line_num + 1
        except (csv.Error, ValueError) as error:
            raise SourceError(f"{path.name}: line {line:,} cannot be read ({first_line(error)}).") from None


def starts_with_data(path: Path, *, file: FileSpec) -> bool:
    """Return whether the first line of a CSV is data: it has a time, or numbers where the next line has numbers."""
    lines = _first_lines(path, file=file)
    if file.delimiter == SPACES:
        rows = [line.split() for line in lines]
    else:
        rows = list(csv.reader(lines, delimiter=file.delimiter or detect_delimiter(lines[0])))
    if len(rows) < 2 or any(is_time_like([cell]) and not cell.isdigit() for cell in rows[0]):
        return len(rows) > 1
    numbers = [place for place, cell in enumerate(rows[0]) if NUMBER.fullmatch(cell.strip())]
    both = [place for place in numbers if place < len(rows[1]) and NUMBER.fullmatch(rows[1][place].strip())]
    return len(both) > 1


def describe_csv(path: Path, *, file: FileSpec) -> str:
    """Say how a CSV is read: encoding, delimiter, and whether its first line names the columns."""
    lines = _first_lines(path, file=file)
    sign = file.delimiter or detect_delimiter(lines[0])
    between = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", SPACES: SPACES}.get(sign, f"{sign!r}")
    named = "named by its first line" if file.header else "called by their place, as the first line is data"
    ends = ", line ends of several kinds" if _has_mixed_line_ends(path) else ""
    encoding = (detect_encoding(file, path) or "utf-8").upper()
    return f"{encoding}, {between} between the columns, which are {named}{ends}"


def is_aligned(path: Path, *, file: FileSpec) -> bool:
    """Return whether the columns of a table are aligned by spaces, with no delimiter between them.

    Raises `SourceError`: its lines have different numbers of words, which leaves open where a column ends.
    """
    lines = _first_lines(path, file=file)
    aligned = [re.search(r"\S {2,}\S", line) and not any(sign in line for sign in DELIMITERS) for line in lines]
    if len(lines) < 2 or not all(aligned):
        return False
    with open_text(path, encoding=detect_encoding(file, path) or "utf-8-sig", errors="replace") as rows:
        _check_words(rows, label=path.name)
    return True


def _check_words(lines: Iterable[str], *, label: str) -> None:
    """Raise `SourceError` for the first line that has another number of words than the first."""
    expected = 0
    for number, line in enumerate(lines, start=1):
        words = len(line.split())
        expected = expected or words
        if words not in (0, expected):
            raise SourceError(
                f"{label}: its columns are aligned by spaces, and line {number:,} has {words} words where the first "
                f"has {expected}, which leaves open where a column ends. Export it again with a comma or a tab between "
                "the columns."
            )


def _first_lines(path: Path, *, file: FileSpec) -> list[str]:
    """Read the first lines of a CSV that are not empty, two at most."""
    encoding = detect_encoding(file, path) or "utf-8-sig"
    with open_text(path, encoding=encoding, errors="replace") as lines:
        filled = (line.rstrip("\n") for line in lines if line.strip())
        return list(islice(filled, 2)) or [""]


def detect_delimiter(header: str) -> str:
    """Return the delimiter that a first line has most of, not counting those in quotes."""
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", header).count)


def read_transcoded(path: Path, *, file: FileSpec, encoding: str) -> pa.Table:
    """Read a CSV in another encoding than UTF-8, or with spaces between the columns, as a table of text."""
    try:
        if file.delimiter == SPACES:
            with open_text(path, encoding=encoding) as lines:
                _check_words(lines, label=path.name)
        with open_text(path, encoding=encoding) as lines:
            header = next((line for line in lines if line.strip()), "")
        with open_text(path, encoding=encoding, newline="") as lines:
            sign = r"\s+" if file.delimiter == SPACES else file.delimiter or detect_delimiter(header)
            table = pd.read_csv(lines, header=None, dtype=str, sep=sign, keep_default_na=False, na_values=[""])
    except LookupError:
        raise SourceError(
            f"{file.label}: unknown encoding {encoding!r}. Use a Python name such as cp1252, latin-1 or utf-16."
        ) from None
    except (ValueError, OSError, EOFError) as error:  # UnicodeError and ParserError among them
        raise SourceError(f"{file.label}: it cannot be read as {encoding} ({first_line(error)}).") from None
    names = ["" if pd.isna(cell) or not file.header else cell.strip() for cell in table.iloc[0]]
    names = [name or f"column{place}" for place, name in enumerate(names, start=1)]
    refuse_duplicate_columns(names, label=path.name)
    rows = table.iloc[int(file.header) :]
    return pa.table({name: pa.array(rows[n], pa.string(), from_pandas=True) for n, name in enumerate(names)})


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
    if "unterminated quote" in text:
        return SourceError(f"{label}: {line} has a quote that is not closed. Close it, or double it inside a text.")
    reason = next(
        (part.strip() for part in text.splitlines()[1:] if part.strip() and not part.startswith("Original")),
        first_line(error),
    )
    return SourceError(
        f"{label}: {line} does not fit the table ({reason.rstrip('.')}). Put texts that contain the delimiter in "
        "double quotes, or state the delimiter of this table with 'delimiter:'."
    )


def refuse_duplicate_columns(names: Sequence[str], *, label: str) -> None:
    """Refuse a header with a repeated column name, in any case."""
    lower = [name.lower() for name in names]
    repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
    if repeated:
        times = lower.count(repeated[0].lower())
        raise SourceError(f"{label}: the header names column {repeated[0]!r} {times} times. Rename all but one.")


def _read_sql(paths: Sequence[Path], *, names: Sequence[str], delimiter: str, settings: str) -> str:
    """Write SQL over files with one header; a byte order mark left in the middle by joining files is removed."""
    columns = ", ".join(f"{sql_literal(name)}: 'VARCHAR'" for name in names)
    settings += ", hive_partitioning=false, auto_detect=false, nullstr='', quote='\"', escape='\"'"
    first = quote(names[0])
    return (
        f"select * replace (ltrim({first}, chr(65279)) as {first}) from "
        f"read_csv({sql_files(paths)}, delim={sql_literal(delimiter)}, columns={{{columns}}}, {settings})"
    )


def _header_line(path: Path) -> str:
    """Return the header of a CSV; refuse a file that is empty, damaged, binary or has a last line that is too long."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path.name}: the file is empty. Export it again with its header line.")
    try:
        with open_bytes(path) as stream:
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
    if path.suffix.lower() not in PACKED_ENDINGS:  # a packed file is read to its end
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


def _column_names(header: str, *, delimiter: str, named: bool, label: str) -> list[str]:
    """List the columns of a first line; a column without a name is called by its place."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        shown = header[:MAX_HEADER_SHOWN]
        raise SourceError(f"{label}: its header {shown!r} cannot be read ({first_line(error)}).") from None
    names = [cell if cell and named else f"column{place}" for place, cell in enumerate(cells, start=1)]
    refuse_duplicate_columns(names, label=label)
    return names
