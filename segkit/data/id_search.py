"""Find customer ids in files of any kind: tables, workbooks, texts, also compressed ones."""

import gzip
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segkit.data.io import read_text_csv, unescape_formula

ID_COLUMN = "customer_id"
HOLDS, MAY_HOLD, NOT_FOUND, NOT_SEARCHED = "holds", "may hold", "not found", "not searched"
MIN_WORD_CHARACTERS = 5  # of an id that is certain where it is a word of a text; shorter ids and numbers match too much
TEXT_SUFFIXES = frozenset(
    [".csv", ".html", ".ipynb", ".json", ".jsonl", ".log", ".md", ".ndjson", ".sql", ".svg", ".tsv", ".txt", ".xml"]
    + [".yaml", ".yml", ""]
)
QUOTING_SUFFIXES = (".csv", ".tsv")  # in which a quote within a cell is doubled
WORKBOOK_SUFFIXES = (".xlsx", ".xlsm")
LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)")  # file that a process had not finished writing
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)")  # of JSON and most other formats
BLANK_ESCAPES = "bfnrt"
MAX_NESTED_ESCAPES = 3
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def find_customers(path: Path, ids: Collection[str]) -> set[str]:
    """Return the customers with a row in a Parquet or CSV file that has a column customer_id."""
    if file_kind(path) == ".parquet":
        if ID_COLUMN not in pq.read_schema(path).names:
            return set()
        wanted, found = pa.array(sorted(ids), pa.string()), set()
        for batch in pq.ParquetFile(path).iter_batches(columns=[ID_COLUMN]):
            column = batch.column(0).cast(pa.string())
            found |= set(column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
        return found
    table = read_text_csv(path)
    return set(table[ID_COLUMN].map(unescape_formula)) & set(ids) if ID_COLUMN in table else set()


def names_any(text: str, ids: Collection[str]) -> bool:
    """Return whether a text contains an id as a separate word, as it is or with characters escaped as in JSON.

    >>> names_any(r'{"customer_id": "J\\u00fcrgen-4711"', ["Jürgen-4711"]), names_any("C10 came", ["C1"])
    (True, False)
    """
    for _ in range(MAX_NESTED_ESCAPES):
        if any(name in text and re.search(_as_word(name), text) for name in ids):
            return True
        if "\\" not in text:
            return False
        text = _unescape(text)
    return False


def search_file(path: Path, ids: Collection[str]) -> str:
    """Search a file for ids: in a column customer_id, and as a word or number anywhere else.

    Returns
    -------
    str
        ``HOLDS``; ``MAY_HOLD`` where only a number or a short id was found, which can be something else;
        ``NOT_FOUND``; or ``NOT_SEARCHED`` for a file that cannot be read, or of a kind that is not.
    """
    try:
        if file_kind(path) in (".csv", ".parquet") and find_customers(path, ids):
            return HOLDS
    except (OSError, ValueError):
        pass  # no table of this kind, but its text may name them
    certain = [name for name in ids if len(name) >= MIN_WORD_CHARACTERS and not name.isdigit()]
    uncertain = [name for name in ids if name not in certain]
    result = NOT_FOUND
    try:
        for text in _texts(path):
            if names_any(text, certain):
                return HOLDS
            if result == NOT_FOUND and names_any(text, uncertain):
                result = MAY_HOLD
    except Exception:  # noqa: BLE001  every kind of file has errors of its own
        return result if result == MAY_HOLD else NOT_SEARCHED
    return result


def file_kind(path: Path) -> str:
    """Return the suffix of a file, also of a compressed one and of one that was not finished."""
    leftover = LEFTOVER.fullmatch(path.name)
    inner = Path(leftover["name"] if leftover else path.name)
    return (inner.with_suffix("") if inner.suffix == ".gz" else inner).suffix.lower()


def _texts(path: Path) -> Iterator[str]:
    """Yield the cells of a table, or the lines of a text."""
    kind = file_kind(path)
    if kind == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches():
            for column in batch.columns:
                yield from map(_cell_text, column.to_pylist())
    elif kind in WORKBOOK_SUFFIXES:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        for sheet in book.worksheets:
            for row in sheet.iter_rows(values_only=True):
                yield from (_cell_text(cell) for cell in row if cell is not None)
    elif kind in TEXT_SUFFIXES:
        opened = gzip.open if ".gz" in path.suffixes else Path.open
        with opened(path, "rb") as file:
            start = file.read(2)
        if not kind and b"\0" in start:
            raise ValueError("not a text")
        with opened(path, "rt", encoding="utf-16" if start in UTF_16_MARKS else "utf-8", errors="replace") as lines:
            for line in lines:
                yield line.replace('""', '"') if kind in QUOTING_SUFFIXES else line
    else:
        raise ValueError("of a kind that is not searched")


def _cell_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_word(name: str) -> str:
    """Write the pattern of an id as a separate word; one of digits is not part of a longer number."""
    if name.isdigit():
        return rf"(?<![\w.]){name}(?:\.0+)?(?!\w|\.\d)"
    return rf"(?<!\w){re.escape(name)}(?!\w)"


def _unescape(text: str) -> str:
    """Replace escaped characters; one that stands for a blank becomes one, so that words stay apart."""

    def character(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return " " if found[2] in BLANK_ESCAPES else found[2]

    return ESCAPE.sub(character, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
