"""CSV files as SQL that reads them as text: everything about them is stated, so that DuckDB guesses nothing."""

import codecs
import csv
import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb
import pandas as pd
import pyarrow as pa

from segkit.data.expressions import literal, quoted
from segkit.data.spec import FileSpec
from segkit.errors import SegkitError, SourceError

DELIMITERS = (",", ";", "\t", "|")  # the first wins where none stands in the header
LONGEST_LINE = 2_000_000  # bytes; DuckDB's own, above which it says so, but for a last line beyond its buffer
HEADER_SHOWN = 60  # characters of a header in a message
BOMS = (  # the longer ones first: that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(file: FileSpec, path: Path) -> str | None:
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
        alike.setdefault((sign, *_names(header, delimiter=sign, label=path.name)), []).append(path)
    return " union all by name ".join(_read_sql(files, names=key[1:], delimiter=key[0]) for key, files in alike.items())


def transcoded(path: Path, *, file: FileSpec, encoding: str) -> pa.Table:
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
    refuse_twice(names, label=path.name)
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


def refuse_twice(names: Sequence[str], *, label: str) -> None:
    """Stop at a header that names a column twice, in whatever case: it could not be told which is meant."""
    lower = [name.lower() for name in names]
    twice = sorted({name for name in names if lower.count(name.lower()) > 1})
    if twice:
        raise SourceError(
            f"{label}: the header names column {twice[0]!r} {lower.count(twice[0].lower())} times. Rename all but one."
        )


def _read_sql(paths: Sequence[Path], *, names: Sequence[str], delimiter: str) -> str:
    """SQL over files of one header; a byte order mark that files put together left in the middle is taken off."""
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    settings = "auto_detect=false, header=true, nullstr='', quote='\"', escape='\"'"
    files = "[" + ", ".join(literal(str(path)) for path in paths) + "]::varchar[]"
    first = quoted(names[0])
    return (
        f"select * replace (ltrim({first}, chr(65279)) as {first}) from "
        f"read_csv({files}, delim={literal(delimiter)}, columns={{{columns}}}, {settings})"
    )


def _header_line(path: Path) -> str:
    """The first line of a file, of which it is known that more is text and that its last line is not too long."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path.name}: the file is empty. Export it again with its header line.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            line = stream.readline(LONGEST_LINE)
            _refuse_long_end(stream, path=path)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path.name}: it cannot be unpacked ({first_line(error)}). Is it whole?") from None
    header = re.split(r"[\r\n]", line.decode("utf-8-sig", errors="replace"), maxsplit=1)[0]
    if b"\0" in line:
        raise SourceError(f"{path.name}: the header holds null bytes, so it is no text in UTF-8. Name its 'encoding:'.")
    if not header.strip():
        raise SourceError(f"{path.name}: the first line is empty. Export it again with its header line.")
    return header


def _refuse_long_end(stream: BinaryIO, *, path: Path) -> None:
    """DuckDB loses a last line that is longer than its buffer, without a word; it says so of all other long ones."""
    if path.suffix != ".gz":  # what is packed has to be read through
        stream.seek(max(stream.tell(), path.stat().st_size - 2 * LONGEST_LINE))
    end = 0  # bytes since the last line end
    while chunk := stream.read(LONGEST_LINE):
        line = chunk.rstrip(b"\r\n")
        last = max(line.rfind(b"\n"), line.rfind(b"\r"))
        end = end + len(line) if last < 0 else len(line) - last - 1
    if end > LONGEST_LINE:
        raise SourceError(f"{path.name}: its last line has more than {LONGEST_LINE:,} bytes. Is a quote never closed?")


def _delimiter(header: str) -> str:
    """The sign that parts most names of a header line; names in quotes may hold any."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _names(header: str, *, delimiter: str, label: str) -> list[str]:
    """The columns a header line names, each once; one without a name is called by its place."""
    try:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        shown = header[:HEADER_SHOWN]
        raise SourceError(f"{label}: its header {shown!r} cannot be read ({first_line(error)}).") from None
    names = [cell or f"column{place}" for place, cell in enumerate(cells, start=1)]
    refuse_twice(names, label=label)
    return names
