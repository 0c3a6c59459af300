"""Export segments to files and databases."""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from segkit.data.holdout import current_holdout
from segkit.data.io import (
    escape_formula,
    list_files,
    listed_files,
    refuse_foreign,
    refuse_in_run,
    sync_to_disk,
    uninterrupted,
    write_bytes,
)
from segkit.data.runs import Run, load_run, load_run_privacy
from segkit.data.webhook import check_webhook
from segkit.errors import InputError, RunError
from segkit.export.database import DEFAULT_TABLE, write_table
from segkit.export.people import (
    CustomerRecords,
    People,
    read_assignments,
    read_control,
    read_customer_records,
    select_exportable,
)
from segkit.export.target import NUMBER_FIELDS, Target, masked, read_target
from segkit.export.webhook import post_rows

CRLF = "\r\n"  # the writer quotes texts with the characters of its own line end only
MEGABYTE = 1_000_000
FILE_SUFFIXES = (".csv", ".parquet")


def export_location(out: str | Path, *, target: Target) -> tuple[Path, str]:
    """Return folder and file name of an export: `out` is a file if it ends in .csv or .parquet, else a folder.

    Raises `InputError`: a file where the target writes one for each segment, or a suffix that is not its format;
    or `out` is in the folder of a run.
    """
    path = Path(out)
    refuse_in_run(path)
    if path.suffix.lower() not in FILE_SUFFIXES:
        return path, target.file
    if target.by_segment:
        raise InputError(f"--out {out}: {target.name} is one file for each segment. Give a folder.")
    if path.suffix.lower() != f".{target.format}":
        raise InputError(f"--out {out}: {target.name} is written as {target.format}. End the name in .{target.format}.")
    return path.parent, path.name


def write_files(rows: pd.DataFrame, segment: pd.Series, *, target: Target, out: str | Path) -> list[tuple[Path, int]]:
    """Write the rows of a target, and delete files of an earlier export of this name that are no longer needed.

    Parameters
    ----------
    rows
        Header -> text.
    out
        A folder, or a file.

    Returns
    -------
    list
        Path and number of rows of each file.
    """
    folder, name = export_location(out, target=target)
    folder.mkdir(parents=True, exist_ok=True)
    groups = [(name, rows)]
    if target.by_segment:
        groups = [(_file_of(name, each), rows[segment == each]) for each in sorted(segment.dropna().unique())]
    made: list[tuple[Path, Path, int]] = []
    try:
        for file, part in groups:
            for number, (content, count) in enumerate(_file_contents(part, target=target)):
                path = folder / file
                path = path.with_name(f"{path.stem}_{number + 1}{path.suffix}") if number else path
                if path not in listed_files(folder, name):
                    refuse_foreign(path)
                temporary = path.with_name(f".{path.name}.{os.getpid()}")
                made.append((temporary, path, count))
                temporary.write_bytes(content)
                sync_to_disk(temporary)
    except BaseException as error:
        for temporary, _, _ in made:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Nothing was changed.") from None
    old, new = listed_files(folder, name), {path for _, path, _ in made}
    list_files(old | new, folder=folder, name=name)
    with uninterrupted():
        for temporary, path, _ in made:
            os.replace(temporary, path)
        sync_to_disk(folder)
        for path in old - new:
            path.unlink()
        list_files(new, folder=folder, name=name)
    return [(path, count) for _, path, count in made]


def _file_of(name: str, segment: str) -> str:
    """Return the file name of a segment; an id that would lead to another folder is refused."""
    file = name.replace("{segment}", segment)
    if Path(file).name != file or file in (".", "..") or "\0" in file:
        raise InputError(f"segment {segment!r} of the run cannot be part of a file name. Make the run again.")
    return file


def list_export_files(out: str | Path, *, target: Target) -> set[Path]:
    """Return the files that an earlier export to this place wrote."""
    return listed_files(*export_location(out, target=target))


def _file_contents(rows: pd.DataFrame, *, target: Target) -> Iterator[tuple[bytes, int]]:
    """Yield bytes and number of rows of each file of a group; at least one, if only with the header."""
    if target.format == "parquet":
        buffer = io.BytesIO()
        kinds = {h: "float64" if target.columns[h].field in NUMBER_FIELDS else "string" for h in rows}
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
    """Return one line of a CSV file, with formulas escaped."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=CRLF).writerow([escape_formula(str(cell)) for cell in cells])
    return (buffer.getvalue().removesuffix(CRLF) + target.line_end).encode(target.encoding)


PREVIEW_ROWS = 5  # of a dry run's report
NOTHING_NEW = "no changes since the last export: no file was written, existing files remain"
REMOVED_ONLY = (
    "no changes since the last export, but its file was written again without customers "
    "who may no longer be contacted ({:,})"
)
STATE_SUFFIX = ".exported.parquet"  # of the file that records the last export: customers and digests, no addresses


@dataclass(frozen=True)
class Export:
    """Hold what was exported, or would be.

    Parameters
    ----------
    rows
        Header -> text, by customer_id.
    customers
        Number in the run, of the chosen segments.
    left_out, notes
        Reason -> customers; further remarks.
    written
        Path, or table, and number of rows of each.
    """

    target: Target
    rows: pd.DataFrame
    customers: int
    left_out: dict[str, int]
    notes: tuple[str, ...]
    written: tuple[tuple[str, int], ...] = ()
    dry: bool = False

    def __str__(self) -> str:
        """Return the report, in lines."""
        lines = [f"{self.target.title or self.target.name}: {len(self.rows):,} rows from {self.customers:,} customers"]
        lines += [f"  left out: {count:,} {reason}" for reason, count in self.left_out.items()]
        lines += [f"  note: {note}" for note in self.notes]
        if self.dry:
            return "\n".join(
                [*lines, "  first rows, masked:", *self._preview_rows(), "nothing was written (--dry-run)"]
            )
        return "\n".join([*lines, *(f"{place} ({count:,} rows)" for place, count in self.written)])

    def _preview_rows(self) -> list[str]:
        table = [list(self.rows.columns)]
        for row in self.rows.head(PREVIEW_ROWS).itertuples(index=False, name=None):
            table.append(
                [self._preview_cell(header, cell) for header, cell in zip(self.rows.columns, row, strict=True)]
            )
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        return ["    " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]

    def _preview_cell(self, header: str, value: str | None) -> str:
        column = self.target.columns[header]
        if value is None:
            return self.target.missing or "-"
        return masked(value, forms=column.forms) if column.is_personal else " ".join(escape_formula(value).split())


@dataclass(frozen=True)
class PreviousExport:
    """Hold what the target already has.

    `digests`: digest of each row, by customer_id.
    """

    digests: pd.Series = field(default_factory=lambda: pd.Series(dtype=object))
    origin: str = ""
    last_file: frozenset[str] = frozenset()


def export_segments(
    run_dir: str | Path,
    *,
    to: str,
    out: str,
    segments: tuple[str, ...] = (),
    since: str = "",
    pilots: tuple[str, ...] = (),
    named: Mapping[str, str] | None = None,
    country_code: str = "",
    table: str = DEFAULT_TABLE,
    source: str = "",
    data_dir: str = "",
    dry_run: bool = False,
) -> Export:
    """Export the segments of a run.

    Parameters
    ----------
    to
        Name of a target, or its YAML file.
    out
        A folder or a file; for a table the URL of a database, for a webhook its address with secrets as ``$NAME``.
    segments
        Only these, by id; all by default.
    since
        An earlier run: a target of changed rows gets those that differ from it; by default from the last export.
    pilots
        Folders of pilots whose control groups are left out.
    named
        Field -> identifier column of the source, where their names do not match.
    country_code
        Default country code for phone numbers without one, such as 49.
    source, data_dir
        Where the source is now; by default as the run was made.
    dry_run
        Report what would be done, and write nothing.

    Returns
    -------
    Export
        Its text (`str`) is a report.

    Raises
    ------
    InputError
        The target cannot be filled from this source, or `out` cannot be written; nothing was changed.
    ExportError
        A webhook did not take all.
    """
    target, run = read_target(to), _load_finished_run(run_dir)
    if target.format == "webhook":
        check_webhook(out, what="--out")
    if country_code and not (country_code.isdigit() and int(country_code) in COUNTRY_CODE_TO_REGION_CODE):
        raise InputError(f"--country-code {country_code}: no country has this code. Give digits only, such as 49.")
    records = read_customer_records(run, source=source, data_dir=data_dir)
    control_group = frozenset().union(*(read_control(pilot) for pilot in pilots))
    place = {"source": source, "data_dir": data_dir}
    held = {"control_group": control_group, "holdout": current_holdout(run, **place)}
    given = {"target": target, "named": named, "country_code": country_code, **held}
    everyone = read_assignments(run, **place)
    chosen = _filter_segments(everyone, segments)
    before = (
        _previous_export(target, records, out=out, since=since, place=place, given=given)
        if target.changed_only
        else PreviousExport()
    )
    left, privacy = before.digests.index.difference(everyone.index), load_run_privacy(run)
    left = left[[not privacy.is_erased(customer_id) for customer_id in left]]  # not even that they left is exported
    people = select_exportable(chosen, records, left=left, **given)
    made = Export(target, people.rows, len(chosen), people.left_out, people.notes, dry=dry_run)
    if target.changed_only:
        return _export_changed_rows(made, people, before=before, out=out)
    if dry_run:
        return made
    if target.format == "webhook":
        return replace(made, written=post_rows(made.rows, target=target, url=out))
    if target.format == "table":
        counts = write_table(made.rows, url=out, name=table, as_of=run.parameters()["as_of"])
        return replace(made, written=tuple((f"{table}: {change}", count) for change, count in counts.items()))
    files = write_files(made.rows, people.segment, target=target, out=out)
    return replace(made, written=tuple((str(path), count) for path, count in files))


def _export_changed_rows(made: Export, people: People, *, before: PreviousExport, out: str) -> Export:
    """Export the rows that differ from what the target has; if none does, the last file remains.

    A header alone in its place would lose rows that nobody has uploaded yet. Only customers who may no longer be
    contacted are removed from it.
    """
    target, digests = made.target, _digests(people.rows, target=made.target)
    new = digests != before.digests.reindex(digests.index)
    nothing_new = bool(before.origin) and not new.any()
    in_last_file = pd.Series(digests.index.isin(before.last_file), index=digests.index)
    excluded = len(before.last_file) - int(in_last_file.sum()) if list_export_files(out, target=target) else 0
    unchanged = {f"unchanged since {before.origin}": int((~new).sum())} if before.origin else {}
    notes = () if before.origin else ("no earlier export is known here: every row counts as changed",)
    if nothing_new:
        notes = (REMOVED_ONLY.format(excluded) if excluded else NOTHING_NEW,)
    result = replace(made, rows=people.rows[new], left_out=made.left_out | unchanged, notes=(*made.notes, *notes))
    if made.dry:
        return result
    last = in_last_file if nothing_new else new
    written: list[tuple[Path, int]] = []
    if excluded or not nothing_new:
        written = write_files(people.rows[last], people.segment[last], target=target, out=out)
    _save_state(digests, last=last, remembered=last | people.segment.notna(), path=_state(target, out=out))
    return replace(result, written=tuple((str(path), count) for path, count in written))


def _load_finished_run(run_dir: str | Path) -> Run:
    """Open a run, and raise if it is not finished."""
    run = load_run(run_dir)
    outcome = run.record().get("outcome")
    if outcome not in ("done", "scratch"):
        raise RunError(f"{run.path.name}: the run is {outcome or 'unfinished'}. Export a finished one.")
    return run


def _filter_segments(table: pd.DataFrame, segments: tuple[str, ...]) -> pd.DataFrame:
    """Return the customers of the chosen segments."""
    segment_ids = sorted(table["segment"].unique())
    unknown = sorted(set(segments) - set(segment_ids))
    if unknown:
        raise InputError(f"--segment {', '.join(unknown)}: not in this run. It has {', '.join(segment_ids)}.")
    return table[table["segment"].isin(segments)] if segments else table


def _previous_export(
    target: Target,
    records: CustomerRecords,
    *,
    out: str,
    since: str,
    place: Mapping[str, str],
    given: Mapping[str, object],
) -> PreviousExport:
    """Return what the target already has: rows of an earlier run, or those of the last export to this place."""
    path = _state(target, out=out)
    state = pd.read_parquet(path, partitioning=None).set_index("customer_id") if path.is_file() else None
    last = frozenset() if state is None else frozenset(state.index[state["last"]])
    if since:
        people = select_exportable(read_assignments(_load_finished_run(since), **place), records, **given)
        return PreviousExport(_digests(people.rows, target=target), f"run {Path(since).name}", last)
    return PreviousExport() if state is None else PreviousExport(state["digest"], "the last export", last)


def _save_state(digests: pd.Series, *, last: pd.Series, remembered: pd.Series, path: Path) -> None:
    """Write what the target has from now on; customers who left the run only while they are in the last file."""
    table = pd.DataFrame({"digest": digests, "last": last})[remembered].rename_axis("customer_id").reset_index()
    write_bytes(path, table.to_parquet(index=False))


def _state(target: Target, *, out: str) -> Path:
    """Return the path of the file that records the last export."""
    folder, name = export_location(out, target=target)
    return folder / (Path(name).stem + STATE_SUFFIX)


def _digests(rows: pd.DataFrame, *, target: Target) -> pd.Series:
    """Return a digest of each row without the dates of the run, which change with every run."""
    headers = [header for header in rows if target.columns[header].field not in ("as_of", "expected_until")]
    texts = ("\x1f".join("" if cell is None else cell for cell in row) for row in rows[headers].itertuples(index=False))
    digests = [hashlib.sha256(text.encode("utf-8")).hexdigest() for text in texts]
    return pd.Series(digests, index=rows.index, name="digest", dtype=object)
