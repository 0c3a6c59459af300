"""Write files atomically, keep formulas out of spreadsheets, and keep secrets out of files."""

import csv
import io
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from segkit.errors import RunError

PASSWORD = re.compile(r"//([^:/@\s]+):(?!\$)[^/\s]*@")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand_variables(url: str) -> str:
    """An address with the values of the environment variables it names."""
    return os.path.expandvars(url)


def mask_secrets(text: str, *, url: str = "") -> str:
    """A text without passwords, and with the names of the variables of an address in the place of their values."""
    names = {first or second for first, second in VARIABLE.findall(url)}
    for name in sorted(names, key=lambda one: (-len(os.environ.get(one, "")), one)):
        if os.environ.get(name):
            text = text.replace(os.environ[name], f"${name}")
    return PASSWORD.sub(r"//\1:...@", text)


FORMULA = re.compile(r"'*[=+\-@\t\r\n]")  # what a cell begins with that would be run, or hidden; or was marked before
PLAIN_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")  # begins like a formula and is none: a phone, a negative amount


def escape_formula(value: str) -> str:
    """Text that a spreadsheet shows and does not run: what would begin a formula gets an apostrophe before it.

    >>> harmless("=1+1"), harmless("-12.5"), harmless("+4915112345678"), harmless("it's =fine")
    ("'=1+1", '-12.5', '+4915112345678', "it's =fine")
    """
    return f"'{value}" if FORMULA.match(value) and not PLAIN_NUMBER.fullmatch(value) else value


def unescape_formula(value: str) -> str:
    """The text that `harmless` was given.

    >>> as_given("'=1+1"), as_given("-12.5"), as_given(harmless("'=1"))
    ('=1+1', '-12.5', "'=1")
    """
    return value[1:] if value.startswith("'") and escape_formula(value[1:]) != value[1:] else value


def csv_quoting(table: pd.DataFrame) -> int:
    """How a table is quoted: all of it where a text holds \\r, a line end that pandas would let stand bare."""
    texts = table.select_dtypes(exclude="number")
    bare = any(texts[name].astype(str).str.contains("\r", regex=False).any() for name in texts)
    return csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL


DECIMALS = 6  # of floats in JSON
MAX_CHECKED_BYTES = 1 << 26  # of a table that is read where it lies; testing more would cost more than reading
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: the same arrays give the same bytes


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an npz file: names sorted, dates fixed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def to_json_value(value: Any) -> Any:
    """A value as JSON has it: floats rounded, not-a-number and infinity as None, dates as ISO text."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    number = float(value)
    return round(number, DECIMALS) if math.isfinite(number) else None


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, a mapping; a broken one is a RunError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error}). The run is broken: make a new one.") from error
    if not isinstance(found, dict):
        raise RunError(
            f"{path}: holds {type(found).__name__}, not names and values. The run is broken: make a new one."
        )
    return found


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, never a Python object; a broken one is a RunError."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise RunError(
            f"{path}: cannot be read as arrays ({_reason(error)}). The run is broken: make a new one."
        ) from None


def parquet_bytes(table: pa.Table) -> bytes:
    """The bytes of a Parquet file, with a check sum for each page."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_parquet(path: Path) -> pa.Table:
    """The rows of a Parquet file, its check sums tested; a broken one is a RunError."""
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as Parquet ({_reason(error)}). Make it anew, or give another."
        ) from None


def check_parquet(path: Path, *, every_page: bool = True) -> None:
    """Stop at a Parquet file that is cut off, or holds a page whose check sum is another.

    Parameters
    ----------
    whole : test every page, unless the file is huge, not the footer alone

    Raises
    ------
    RunError : it cannot be read
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches() if every_page and path.stat().st_size <= MAX_CHECKED_BYTES else ():
                pass
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as Parquet ({_reason(error)}). The run is broken: make it anew."
        ) from None


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with sorted keys."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
