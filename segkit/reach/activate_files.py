"""Files of an export: csv or Parquet, split where a target has limits, all of them swapped in together or none."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from segkit.data.spreadsheet import harmless
from segkit.errors import InputError
from segkit.reach.activate_target import Target

BOTH = "\r\n"  # the writer quotes a text for the signs of its own line end only
MEGABYTE = 1_000_000
KINDS = {"confidence": "float64"}  # of a field in Parquet; the others are text
ENDINGS = (".csv", ".parquet")


def place_of(out: str | Path, *, target: Target) -> tuple[Path, str]:
    """Folder and name that an export is written under: `out` is a file if it ends in .csv or .parquet, else a folder.

    Raises
    ------
    InputError : a file where the target needs one for each segment, or one that ends otherwise than its format
    """
    path = Path(out)
    if path.suffix.lower() not in ENDINGS:
        return path, target.file
    if target.by_segment:
        raise InputError(f"--out {out}: {target.name} is one file for each segment. Give a folder.")
    if path.suffix.lower() != f".{target.format}":
        raise InputError(f"--out {out}: {target.name} is written as {target.format}. End the name in .{target.format}.")
    return path.parent, path.name


def write_files(rows: pd.DataFrame, segment: pd.Series, *, target: Target, out: str | Path) -> list[tuple[Path, int]]:
    """Write the rows of a target.

    Takes  rows: header -> text; segment: of each row
    Gives  path and rows of each file; files of an earlier export of this name that are no longer needed are gone

    Parameters
    ----------
    out : a folder, or a file
    """
    folder, name = place_of(out, target=target)
    folder.mkdir(parents=True, exist_ok=True)
    groups = [(name, rows)]
    if target.by_segment:
        groups = [(name.format(segment=one), rows[segment == one]) for one in sorted(segment.dropna().unique())]
    made: list[tuple[Path, Path, int]] = []
    try:
        for file, part in groups:
            for number, (content, count) in enumerate(_contents(part, target=target)):
                path = _numbered(folder / file, number)
                temporary = path.with_name(f".{path.name}.{os.getpid()}")
                made.append((temporary, path, count))
                temporary.write_bytes(content)
    except OSError as error:
        for temporary, _, _ in made:
            temporary.unlink(missing_ok=True)
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Nothing was changed.") from None
    old = _of_before(folder, name) - {path for _, path, _ in made}
    for temporary, path, _ in made:
        os.replace(temporary, path)
    for path in old:
        path.unlink()
    return [(path, count) for _, path, count in made]


def files_of(out: str | Path, *, target: Target) -> set[Path]:
    """The files that an earlier export to this place has left."""
    return _of_before(*place_of(out, target=target))


def _contents(rows: pd.DataFrame, *, target: Target) -> Iterator[tuple[bytes, int]]:
    """The bytes and rows of each file of a group; at least one, if only with the header."""
    if target.format == "parquet":
        buffer = io.BytesIO()
        kinds = {h: KINDS.get(target.columns[h].field, "string") for h in rows}
        table = pa.Table.from_pandas(rows.astype(kinds), preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, buffer, compression="zstd")
        yield buffer.getvalue(), len(rows)
        return
    header = _line(rows.columns, target=target)
    lines, count, size = [header], 0, len(header)
    for row in rows.itertuples(index=False, name=None):
        line = _line([target.missing if cell is None else cell for cell in row], target=target)
        full = target.max_rows and count >= target.max_rows
        large = target.max_megabytes and size + len(line) > target.max_megabytes * MEGABYTE
        if count and (full or large):
            yield b"".join(lines), count
            lines, count, size = [header], 0, len(header)
        lines.append(line)
        count, size = count + 1, size + len(line)
    yield b"".join(lines), count


def _line(cells: pd.Index | list[str], *, target: Target) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=BOTH).writerow([harmless(str(cell)) for cell in cells])
    return (buffer.getvalue().removesuffix(BOTH) + target.line_end).encode(target.encoding)


def _numbered(path: Path, number: int) -> Path:
    """The first file has the plain name, the others a number."""
    return path if not number else path.with_name(f"{path.stem}_{number + 1}{path.suffix}")


def _of_before(folder: Path, name: str) -> set[Path]:
    """Files that an earlier export under this name has left."""
    plain = Path(name.replace("{segment}", "*"))
    stem = Path(name.replace("{segment}", "S[0-9]*"))
    found = set(folder.glob(stem.name)) | set(folder.glob(f"{stem.stem}_[0-9]*{stem.suffix}"))
    return {path for path in found if path.is_file() and path.suffix == plain.suffix}
