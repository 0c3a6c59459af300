"""Read and write files: atomic writes, broken files refused, formulas and secrets made harmless, file locks."""

import csv
import ctypes
import fcntl
import io
import json
import math
import os
import re
import signal
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from segkit.errors import InputError, RunError

# of a user, //user:password@host, or of an option, ?password=...; a $VARIABLE is none
PASSWORD = re.compile(
    r"(?P<user>//[^:/@\s]*:)(?!\$)[^\s\"']*(?=@)"
    r"|(?P<option>\b[\w.-]*(?:passw|pwd|passphrase|token|secret|api_?key|access_?key|credential)[\w.-]*=)"
    r"(?!\$)[^&;\s\"']+",
    re.IGNORECASE,
)
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand_variables(url: str) -> str:
    """Replace the environment variables in a URL by their values."""
    return os.path.expandvars(url)


def mask_secrets(text: str, *, url: str = "") -> str:
    """Remove passwords from a text, and put the names of the variables of a URL in place of their values."""
    names = {first or second for first, second in VARIABLE.findall(url)}
    for name in sorted(names, key=lambda name: (-len(os.environ.get(name, "")), name)):
        if os.environ.get(name):
            text = text.replace(os.environ[name], f"${name}")
    return PASSWORD.sub(lambda found: f"{found['user'] or found['option']}...", text)


FORMULA = re.compile(
    r"'*[=+\-@\t\r\n]"
)  # start of a cell that a spreadsheet would run or hide, or that is escaped already
PLAIN_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")  # starts like a formula and is a phone number or an amount


def escape_formula(value: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula.

    >>> escape_formula("=1+1"), escape_formula("-12.5"), escape_formula("+4915112345678"), escape_formula("it's =fine")
    ("'=1+1", '-12.5', '+4915112345678', "it's =fine")
    """
    return f"'{value}" if FORMULA.match(value) and not PLAIN_NUMBER.fullmatch(value) else value


def unescape_formula(value: str) -> str:
    """Undo `escape_formula`.

    >>> unescape_formula("'=1+1"), unescape_formula("-12.5"), unescape_formula(escape_formula("'=1"))
    ('=1+1', '-12.5', "'=1")
    """
    return value[1:] if value.startswith("'") and escape_formula(value[1:]) != value[1:] else value


def csv_quoting(table: pd.DataFrame) -> int:
    """Choose the quoting of a CSV: all texts where one of them holds \\r, which pandas would not quote."""
    texts = table.select_dtypes(exclude="number")
    has_return = any(texts[name].astype(str).str.contains("\r", regex=False).any() for name in texts)
    return csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL


def read_text_csv(path: Path) -> pd.DataFrame:
    """Read a CSV with every column as text, empty cells as empty text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def read_customer_csv(path: Path) -> pd.DataFrame:
    """Read a CSV of customers as text, with the apostrophes of `escape_formula` removed from customer_id.

    Raises `InputError`: the file cannot be read as CSV, or has no column customer_id.
    """
    try:
        table = read_text_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name}: it cannot be read as CSV ({first_line(error)}).") from None
    if "customer_id" not in table:
        raise InputError(f"{path.name}: there is no column customer_id. It has {', '.join(map(str, table.columns))}.")
    return table.assign(customer_id=table["customer_id"].map(unescape_formula))


DECIMALS = 6  # of floats in JSON
MAX_CHECKED_BYTES = 1 << 26  # of a table whose pages are all checked; checking more would cost more than reading
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2)
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip; fixed, so that the same arrays give the same bytes


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode arrays as an npz file with sorted names and fixed dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def to_json_value(value: Any) -> Any:
    """Convert a value for JSON: floats rounded, not-a-number and infinity as None, dates as ISO text."""
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
    """Read a JSON file that holds a mapping; raise RunError for a broken one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error}). The run is broken: make a new one.") from error
    if not isinstance(found, dict):
        raise RunError(
            f"{path}: it holds {type(found).__name__}, not names and values. The run is broken: make a new one."
        )
    return found


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file by name, never Python objects; raise RunError for a broken file."""
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
        MemoryError,  # a changed shape
        OverflowError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise RunError(
            f"{path}: cannot be read as arrays ({first_line(error)}). The run is broken: make a new one."
        ) from None


def parquet_bytes(table: pa.Table) -> bytes:
    """Encode a table as Parquet, with a checksum for each page."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file and verify its checksums; raise RunError for a broken file."""
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as Parquet ({first_line(error)}). Make it again, or give another file."
        ) from None


def check_parquet(path: Path, *, every_page: bool = True) -> None:
    """Stop at a Parquet file that is cut off or has a page with a wrong checksum.

    `every_page`: check every page of a file of up to 64 MB; otherwise the footer only. Raises `RunError`: the file
    cannot be read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches() if every_page and path.stat().st_size <= MAX_CHECKED_BYTES else ():
                pass
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as Parquet ({first_line(error)}). The run is broken: make a new one."
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error message, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write a JSON file with sorted keys; as `write_bytes`."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically: whole or not at all.

    `durable`: also after a power cut. Not needed in a folder that is flushed as a whole once it is finished.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        if durable:
            sync_to_disk(temporary)  # first the content, then the name that leads to it
        os.replace(temporary, path)
        if durable:
            sync_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_to_disk(path: Path) -> None:
    """Flush a file or folder to disk, so that it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def has_ended(process: int) -> bool:
    """Return whether a process is gone."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # of another user
        pass
    return False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until a short step is complete."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):  # not Linux
        return False
    return renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def try_lock(path: Path, *, create: bool = False) -> int | None:
    """Lock a file until its handle is closed or the process ends, however it ends.

    Returns a handle to close; None while another process has the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


RECORD = "run.json"
RECORDED = {"format", "outcome", "parameters", "tables"}  # that the record of a run has
WRITTEN = {  # the files that may be replaced, by the marker of their folder
    RECORD: (
        RECORD,
        "summary.json",
        "digest.json",
        "tables/*.parquet",
        "model/*.npz",
        "model/*.json",
        "notebooks/*.ipynb",
    ),
    "readout.json": ("readout.json", "readout.html"),  # of a pilot
    "effects.parquet": ("effects.parquet", "readout.json", "readout.html"),  # of a table with arms
}


def refuse_other_files(out: Path, *, marker: str) -> None:
    """Stop before a folder is replaced that is no run, or that holds a file which no run writes."""
    if marker == RECORD and (out / marker).is_file() and not RECORDED <= set(read_json(out / marker)):
        raise RunError(f"{out}: its {marker} is not that of a run, so it is something else. Give another --out.")
    pages = {"index.html", *(f"{path.stem}.html" for path in out.glob("notebooks/*.ipynb"))}
    written = {path for pattern in WRITTEN[marker] for path in out.glob(pattern)} | {out / page for page in pages}
    files = (path for path in out.rglob("*") if not path.is_dir() and path not in written)
    others = sorted(str(path.relative_to(out)) for path in files if not path.name.startswith("."))
    if others:
        raise RunError(
            f"{out}: {len(others):,} files in it are no part of the result and would be lost "
            f"({', '.join(others[:3])}). Move them, or give another --out."
        )


def refuse_in_run(out: str | Path) -> None:
    """Stop before something is written into the folder of a run.

    Raises `InputError`: `out` is in such a folder.
    """
    path = Path(out).resolve()
    for folder in (path, *path.parents):
        if (folder / RECORD).is_file() and set(read_json(folder / RECORD)) >= RECORDED:
            raise InputError(f"--out {out}: {folder.name} is the folder of a run, which is read-only. Give another.")


LIST_SUFFIX = ".files.json"  # of the file that lists what an export wrote


def listed_files(folder: Path, name: str) -> set[Path]:
    """Return the files that an earlier export under this name listed and that are still there."""
    listed = folder / f".{name}{LIST_SUFFIX}"
    names = read_json(listed).get("files", []) if listed.is_file() else []
    return {folder / Path(each).name for each in names if (folder / Path(each).name).is_file()}


def list_files(files: set[Path], *, folder: Path, name: str) -> None:
    """Record what an export wrote: the next one deletes these files and no others."""
    write_json(folder / f".{name}{LIST_SUFFIX}", {"files": sorted(path.name for path in files)})


def refuse_foreign(path: Path) -> None:
    """Stop before a file is replaced that no earlier export to this place wrote.

    Raises `InputError`: there is such a file.
    """
    if path.exists() and path not in listed_files(path.parent, path.name):
        raise InputError(
            f"--out {path}: this file is there already, and no export wrote it. Give another name, or move it away."
        )


def write_listed(path: Path, content: bytes) -> None:
    """Write a file that a later export to this place may replace; it is listed first, in case the process is killed."""
    listed = path.parent / f".{path.name}{LIST_SUFFIX}"
    is_new = not listed.is_file()
    list_files({path}, folder=path.parent, name=path.name)
    try:
        write_bytes(path, content)
    except BaseException:
        if is_new:
            listed.unlink(missing_ok=True)
        raise
