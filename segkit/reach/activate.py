"""Exports: the segments of a run into the tools of marketing. One writer; each target is a small YAML mapping."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from segkit.data.plain import write_bytes
from segkit.data.run_source import veil_of
from segkit.data.spreadsheet import harmless
from segkit.data.store import Run, load_run
from segkit.errors import InputError, RunError
from segkit.reach.activate_files import files_of, place_of, write_files
from segkit.reach.activate_people import Known, People, assigned, exportable, read_control, read_known
from segkit.reach.activate_table import NAME, write_table
from segkit.reach.activate_target import Target, read_target
from segkit.reach.activate_values import masked

FIRST_ROWS = 5  # that a dry run shows
NOTHING_NEW = "nothing changed: no file was written, and those of an earlier export stay as they are"
LESS = "nothing changed, but {:,} in the last file may not be reached any more: it was written again without them"
STATE = ".exported.parquet"  # ending of the file that remembers the last export: customers and digests, no addresses


@dataclass(frozen=True)
class Export:
    """What was exported, or would be.

    Parameters
    ----------
    rows : header -> text, by customer_id
    customers : in the run, of the segments asked for
    left_out : reason -> customers
    written : path, or table, and rows of each
    """

    target: Target
    rows: pd.DataFrame
    customers: int
    left_out: dict[str, int]
    notes: tuple[str, ...]
    written: tuple[tuple[str, int], ...] = ()
    dry: bool = False

    def __str__(self) -> str:
        """The report, in lines."""
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
        for row in self.rows.head(FIRST_ROWS).itertuples(index=False, name=None):
            table.append(
                [self._preview_cell(header, cell) for header, cell in zip(self.rows.columns, row, strict=True)]
            )
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        return ["    " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]

    def _preview_cell(self, header: str, value: str | None) -> str:
        column = self.target.columns[header]
        if value is None:
            return self.target.missing or "-"
        return masked(value, forms=column.forms) if column.is_personal else " ".join(harmless(value).split())


@dataclass(frozen=True)
class Before:
    """What the target holds: digest of each row by customer, where it is known from, and who is in the last file."""

    digests: pd.Series = field(default_factory=lambda: pd.Series(dtype=object))
    origin: str = ""
    last_file: frozenset[str] = frozenset()


def export(
    run_dir: str | Path,
    *,
    to: str,
    out: str,
    segments: tuple[str, ...] = (),
    since: str = "",
    pilots: tuple[str, ...] = (),
    named: Mapping[str, str] | None = None,
    country_code: str = "",
    table: str = NAME,
    source: str = "",
    data_dir: str = "",
    dry_run: bool = False,
) -> Export:
    """Export the segments of a run.

    Takes  the folder of a run
    Gives  Export; str() of it is a report

    Parameters
    ----------
    to : name of a target, or the YAML file of one
    out : a folder or a file; for a table the URL of a database
    segments : only these, by id; all by default
    since : an earlier run: a target of changed rows gets those that differ from it; by default from the last export
    pilots : folders of pilots whose control groups are left out
    named : field -> identifier column of the source, where their names do not tell
    country_code : of phone numbers that name none, such as 49
    table : name of the table, for a database
    source, data_dir : where the source is now; by default as the run was made
    dry_run : say what would be done, and write nothing

    Raises
    ------
    InputError : the target cannot be filled from this source, or `out` cannot be written; nothing was changed
    """
    target, run = read_target(to), _finished(run_dir)
    if country_code and not (country_code.isdigit() and int(country_code) in COUNTRY_CODE_TO_REGION_CODE):
        raise InputError(f"--country-code {country_code}: no country has this code. Give digits only, such as 49.")
    records = read_known(run, source=source, data_dir=data_dir)
    control_group = frozenset().union(*(read_control(pilot) for pilot in pilots))
    given = {"target": target, "held_out": control_group, "named": named, "country_code": country_code}
    place = {"source": source, "data_dir": data_dir}
    everyone = assigned(run, **place)
    chosen = _of_segments(everyone, segments)
    before = (
        _before(target, records, out=out, since=since, place=place, given=given) if target.changed_only else Before()
    )
    left, privacy = before.digests.index.difference(everyone.index), veil_of(run)
    left = left[
        [not privacy.is_erased(one) for one in left]
    ]  # of the forgotten nothing goes out, not even that they left
    people = exportable(chosen, records, left=left, **given)
    made = Export(target, people.rows, len(chosen), people.left_out, people.notes, dry=dry_run)
    if target.changed_only:
        return _export_changes(made, people, before=before, out=out)
    if dry_run:
        return made
    return replace(made, written=_written(made, people.segment, out=out, table=table, as_of=run.parameters()["as_of"]))


def _export_changes(made: Export, people: People, *, before: Before, out: str) -> Export:
    """Export the rows that differ from what the target holds; where none does, the last file stays.

    A header alone in its place would lose rows that nobody has uploaded yet. Only people who may no longer be reached
    are taken out of it.
    """
    target, digests = made.target, _digests(people.rows, target=made.target)
    new = digests != before.digests.reindex(digests.index)
    nothing_new = bool(before.origin) and not new.any()
    in_last_file = pd.Series(digests.index.isin(before.last_file), index=digests.index)
    barred = len(before.last_file) - int(in_last_file.sum()) if files_of(out, target=target) else 0
    unchanged = {f"unchanged since {before.origin}": int((~new).sum())} if before.origin else {}
    notes = () if before.origin else ("no earlier export is known here: every row counts as changed",)
    if nothing_new:
        notes = (LESS.format(barred) if barred else NOTHING_NEW,)
    result = replace(made, rows=people.rows[new], left_out=made.left_out | unchanged, notes=(*made.notes, *notes))
    if made.dry:
        return result
    last = in_last_file if nothing_new else new
    written: list[tuple[Path, int]] = []
    if barred or not nothing_new:
        written = write_files(people.rows[last], people.segment[last], target=target, out=out)
    _remember(digests, last=last, remembered=last | people.segment.notna(), path=_state(target, out=out))
    return replace(result, written=tuple((str(path), count) for path, count in written))


def _finished(run_dir: str | Path) -> Run:
    run = load_run(run_dir)
    outcome = run.record().get("outcome")
    if outcome not in ("done", "scratch"):
        raise RunError(f"{run.path.name}: the run is {outcome or 'unfinished'}. Export a finished one.")
    return run


def _of_segments(table: pd.DataFrame, segments: tuple[str, ...]) -> pd.DataFrame:
    segment_ids = sorted(table["segment"].unique())
    strange = sorted(set(segments) - set(segment_ids))
    if strange:
        raise InputError(f"--segment {', '.join(strange)}: not in this run. It has {', '.join(segment_ids)}.")
    return table[table["segment"].isin(segments)] if segments else table


def _written(made: Export, segment: pd.Series, *, out: str, table: str, as_of: str) -> tuple[tuple[str, int], ...]:
    if made.target.format != "table":
        files = write_files(made.rows, segment, target=made.target, out=out)
        return tuple((str(path), count) for path, count in files)
    counts = write_table(made.rows, url=out, name=table, as_of=as_of)
    return tuple((f"{table}: {what}", count) for what, count in counts.items())


def _before(
    target: Target, records: Known, *, out: str, since: str, place: Mapping[str, str], given: Mapping[str, object]
) -> Before:
    """What the target holds already: rows of an earlier run, or those that the last export to this place left."""
    path = _state(target, out=out)
    state = pd.read_parquet(path).set_index("customer_id") if path.is_file() else None
    last = frozenset() if state is None else frozenset(state.index[state["last"]])
    if since:
        people = exportable(assigned(_finished(since), **place), records, **given)
        return Before(_digests(people.rows, target=target), f"run {Path(since).name}", last)
    return Before() if state is None else Before(state["digest"], "the last export", last)


def _remember(digests: pd.Series, *, last: pd.Series, remembered: pd.Series, path: Path) -> None:
    """Keep what the target holds from now on: who left the run, only as long as the last file tells it."""
    table = pd.DataFrame({"digest": digests, "last": last})[remembered].rename_axis("customer_id").reset_index()
    write_bytes(path, table.to_parquet(index=False))


def _state(target: Target, *, out: str) -> Path:
    folder, name = place_of(out, target=target)
    return folder / (Path(name).stem + STATE)


def _digests(rows: pd.DataFrame, *, target: Target) -> pd.Series:
    """A digest of each row without its date, which changes with every run."""
    headers = [header for header in rows if target.columns[header].field != "as_of"]
    texts = ("\x1f".join("" if cell is None else cell for cell in row) for row in rows[headers].itertuples(index=False))
    digests = [hashlib.sha256(text.encode("utf-8")).hexdigest() for text in texts]
    return pd.Series(digests, index=rows.index, name="digest", dtype=object)
