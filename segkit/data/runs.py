"""Run folders: read and write their tables, build runs in staging, publish and prune them."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from segkit import tables
from segkit.data.engine import read_rows
from segkit.data.io import (
    RECORD,
    check_parquet,
    exchange,
    npz_bytes,
    parquet_bytes,
    read_json,
    read_npz,
    read_parquet,
    refuse_other_files,
    sync_to_disk,
    to_json_value,
    try_lock,
    uninterrupted,
    write_bytes,
    write_json,
)
from segkit.data.privacy import PrivacyRules, load_privacy
from segkit.data.row_groups import SORT_KEYS, RowGroups, write_by_key
from segkit.data.sources import connect, open_source, read_customers, read_events, remove_spills
from segkit.data.spec import Source
from segkit.errors import RunError
from segkit.period import Period
from segkit.texts import ENGLISH

FORMAT = 3  # of a run folder: tables may have further parts
READABLE = (2, FORMAT)  # formats of runs that are read
METRIC_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*")
MODEL_WRITERS = {"": "03_segments", "needs": "01_profile"}  # part of the model -> the notebook that writes it
LIST_FOLDER = "erasure_lists"  # in the record of a run behind a link: the folder that it is used from
KEPT = "kept"  # in the record of a run, as ``acted``: the segments of the last run are used again


@dataclass(frozen=True)
class Run:
    """A run folder: tables, headline numbers and the model, with the record of what they were made from.

    Parameters
    ----------
    path
        The folder; it holds run.json.
    step
        The notebook that writes, recorded with each table; "" for a reader.
    erased
        Customers who are excluded from the tables that are read, as an earlier run in another folder may have them.
    """

    path: Path
    step: str = ""
    erased: PrivacyRules = PrivacyRules()

    def record(self) -> dict[str, Any]:
        """Read run.json: parameters, source, previous, versions, steps, tables, outcome."""
        return read_json(self.path / "run.json")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the run: source, as_of (ISO date, never empty), lookback_days, seed, ..."""
        return dict(self.record()["parameters"])

    @property
    def language(self) -> str:
        """The language of its names and first pages."""
        return self.parameters().get("language", ENGLISH)

    @property
    def kept(self) -> str:
        """Folder of the earlier run whose segments this one keeps; empty where it finds its own."""
        return self.parameters().get("previous", "") if self.record().get("acted") == KEPT else ""

    @property
    def period(self) -> Period:
        """The as_of of the run with its lookback and horizon."""
        parameters = self.parameters()
        return Period.parse(
            parameters["as_of"], lookback_days=parameters["lookback_days"], horizon_days=parameters["horizon_days"]
        )

    def has(self, name: str) -> bool:
        """Return whether the run has the table."""
        return self._table_path(name).is_file()

    def table(self, name: str) -> pd.DataFrame:
        """Read a table of the run, with a default index.

        Raises `RunError`: no such table; the message names the notebook that writes it.
        """
        if not self.has(name):
            maker = tables.writer_of(name)
            stored = sorted(path.stem for path in (self.path / "tables").glob("*.parquet"))
            step = f"Run {maker} on this run folder first" if maker else "No notebook writes it: check the name"
            if self.record().get("outcome") == "done" and name in self.record().get("tables", {}):
                step = "The run is finished and has lost it: restore the file, or make the run again"
            raise RunError(
                f"{self.path.name}: there is no table '{name}' (it holds {', '.join(stored) or 'none'}). {step}."
            )
        parts = [read_parquet(path) for path in self.part_paths(name)]
        table = pa.concat_tables(parts).to_pandas()
        if len(parts) > 1:
            table = table.sort_values([key for key in SORT_KEYS if key in table], ignore_index=True, kind="stable")
        if self.erased.lists and "customer_id" in table:
            table = table[~table["customer_id"].map(self.erased.is_erased)].reset_index(drop=True)
        return table

    def columns(self, name: str) -> list[str]:
        """Return the columns of a table, without reading its rows."""
        check_parquet(self._table_path(name), every_page=False)
        return pq.read_schema(self._table_path(name)).names

    def scan(self, name: str, *, on: ibis.BaseBackend | None = None) -> ir.Table:
        """Return a table of the run as an Ibis expression, without reading it.

        `on`: the engine that queries it; by default a DuckDB of this process. A cluster must see the run folder.
        """
        if not self.has(name):
            self.table(name)  # raises, naming the notebook that writes it
        paths = self.part_paths(name)
        for path in paths if self.record().get("outcome") == "done" else ():
            check_parquet(path)
        parts = [read_rows(path.resolve(), to=on or _engine(), name=path.stem.replace(".", "_")) for path in paths]
        return ibis.union(*parts) if len(parts) > 1 else parts[0]

    def part_paths(self, name: str) -> list[Path]:
        """List the files of a table: the first, and those that later events were added in."""
        path = self._table_path(name)
        return [path, *sorted(path.parent.glob(f"{name}.*.parquet"))]

    def copy_table(self, previous: "Run", name: str) -> None:
        """Copy a table of an earlier run, so that a part can be added to it."""
        for path in previous.part_paths(name):
            check_parquet(path, every_page=False)
            with self._new_file(name, part=path.name.removeprefix(f"{name}.").removesuffix("parquet").strip(".")) as to:
                shutil.copyfile(path, to)

    def write(self, table: pd.DataFrame | ir.Table, name: str, *, part: str = "") -> None:
        """Check a table and write it to tables/<name>.parquet; the same rows in the same order give the same bytes.

        Parameters
        ----------
        table
            A named index becomes columns, an unnamed one is dropped. An Ibis expression is streamed to the file,
            sorted by its key columns (customer_id, day, category).
        part
            Of an expression: add the rows to the table as another file, of this name, such as a date.

        Raises
        ------
        SchemaError
            The table is not as segkit.tables declares it.
        RunError
            The run is finished, and so read-only.
        """
        if isinstance(table, ir.Table):
            with self._new_file(name, part=part) as path:
                write_by_key(table, path, local=_engine())
            return
        self._refuse_if_finished()
        named = any(level is not None for level in table.index.names)
        table = table.reset_index() if named else table.reset_index(drop=True)
        tables.check(table, name=name)
        content = parquet_bytes(pa.Table.from_pandas(table, preserve_index=False))
        write_bytes(self._table_path(name), content, durable=False)
        self.update(tables={**self.record().get("tables", {}), name: self.step})

    def complete(self, name: str, columns: pd.DataFrame) -> None:
        """Fill columns of a table that an earlier notebook wrote; rows without a value become null.

        Parameters
        ----------
        columns
            Indexed by the key of the table.
        """
        maker, table = self.record().get("tables", {}).get(name, self.step), self.table(name)
        keyed = table.set_index(columns.index.name)
        filled = keyed.assign(**{column: columns[column].reindex(keyed.index) for column in columns})
        Run(self.path, maker).write(filled.reset_index()[list(table)], name)

    def record_metrics(self, figures: Mapping[str, Any]) -> None:
        """Merge headline numbers into summary.json.

        `figures`: numbers, text, flags or None by flat name; not-a-number and infinity become null.
        """
        self._refuse_if_finished()
        bad = sorted(name for name in figures if not METRIC_NAME.fullmatch(name))
        if bad:
            raise RunError(f"summary: {bad} are not flat names such as 'forward.spend_r2'. Rename them.")
        merged = {**self.summary(), **{name: to_json_value(value) for name, value in figures.items()}}
        write_json(self.path / "summary.json", merged, durable=False)

    def summary(self) -> dict[str, Any]:
        """Read the headline numbers recorded so far, by flat name; floats have six decimals."""
        path = self.path / "summary.json"
        return read_json(path) if path.is_file() else {}

    def save_model(
        self, arrays: Mapping[str, np.ndarray], *, meta: Mapping[str, Any] | None = None, part: str = ""
    ) -> None:
        """Write the model that assigns customers to model/arrays.npz and model/model.json; nothing executable.

        Parameters
        ----------
        arrays
            Numbers, flags or fixed-width text by name.
        meta
            Values that JSON can hold.
        part
            Name of another part of the model, such as needs: model/needs.npz and model/needs.json.
        """
        self._refuse_if_finished()
        objects = sorted(name for name, array in arrays.items() if np.asarray(array).dtype.hasobject)
        if objects:
            raise RunError(
                f"model: the arrays {objects} hold Python objects. Give them a number or fixed-width text type."
            )
        folder = self.path / "model"
        write_bytes(folder / f"{part or 'arrays'}.npz", npz_bytes(arrays), durable=False)
        write_json(folder / f"{part or 'model'}.json", dict(meta or {}), durable=False)

    def load_model(self, *, part: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Read the arrays and the meta that `save_model` wrote.

        Raises `RunError`: the run has no such part of the model.
        """
        folder, maker = self.path / "model", MODEL_WRITERS[part]
        if not (folder / f"{part or 'arrays'}.npz").is_file():
            what = f"model of {part}" if part else "model"
            raise RunError(f"{self.path.name}: there is no {what}. Run {maker} on this run folder first.")
        return read_npz(folder / f"{part or 'arrays'}.npz"), read_json(folder / f"{part or 'model'}.json")

    def update(self, **fields: Any) -> None:
        """Replace top-level fields of run.json."""
        record = self.record()
        is_finished = record.get("outcome") == "done"  # otherwise the folder is flushed when it is published
        write_json(self.path / "run.json", {**record, **fields}, durable=is_finished)

    def write_text(self, text: str, name: str) -> Path:
        """Write a page or another text file of the run (UTF-8) and return its path."""
        write_bytes(self.path / name, text.encode("utf-8"), durable=False)
        return self.path / name

    @contextmanager
    def write_groups(self, name: str, *, encode: Callable[[pa.Table], pa.Table], part: str = "") -> Iterator[RowGroups]:
        """Open a table that is written in pieces; `encode`: as in `RowGroups`, `part`: as in `write`."""
        with self._new_file(name, part=part) as path, RowGroups(path, encode=encode) as groups:
            yield groups

    @contextmanager
    def _new_file(self, name: str, *, part: str = "") -> Iterator[Path]:
        """Yield where a table is written first; it belongs to the run once it is whole."""
        self._refuse_if_finished()
        path = self._table_path(name)
        path = path.with_name(f"{name}.{part}.parquet") if part else path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        yield temporary
        os.replace(temporary, path)
        self.update(tables={**self.record().get("tables", {}), name: self.step})

    def _table_path(self, name: str) -> Path:
        if not TABLE_NAME.fullmatch(name):
            raise RunError(f"'{name}' is not a table name: lower-case letters, digits and _ only.")
        return self.path / "tables" / f"{name}.parquet"

    def _refuse_if_finished(self) -> None:
        if self.record().get("outcome") == "done":
            raise RunError(
                f"{self.path.name}: the run is finished, and so read-only. Give another run_dir, or `segkit run` again."
            )


def load_run(run_dir: str | Path) -> Run:
    """Open an existing run folder for reading.

    Raises `RunError`: no such folder, or it is not a run, or a run of another format.
    """
    path = Path(run_dir)
    if not (path / "run.json").is_file():
        raise RunError(f"{path}: not a run folder (no run.json). Make one with `segkit run`.")
    run = Run(path)
    record = run.record()
    made = record.get("parameters")
    if not isinstance(made, dict) or not isinstance(made.get("as_of", ""), str):
        raise RunError(f"{path / 'run.json'}: no parameters in it, so it was not made by segkit. Make a new run.")
    if record.get("format", FORMAT) not in READABLE:
        renamed = tables.old_names(record.get("tables", {})) if record["format"] < FORMAT else []
        names = f" (names differ: {renamed[0]}{', ...' if len(renamed) > 1 else ''})" if renamed else ""
        raise RunError(
            f"{path}: its format is {record['format']}, and this segkit reads {READABLE[0]} and {FORMAT}: "
            f"another version made it{names}. Make it again, or remove the folder (--previous none works without it)."
        )
    return run


def open_run(run_dir: str | Path, *, step: str = "", outcome: str = "scratch", **parameters: Any) -> Run:
    """Open a run folder for writing; create it if missing, and empty it if it was made with other parameters.

    Parameters
    ----------
    outcome
        Of a new run: "scratch" (may be overwritten) or "building" (part of a chain).
    **parameters
        What decides the content of the tables: source, as_of, lookback_days, ...

    Raises
    ------
    RunError
        The run is finished, or the folder holds something else.
    """
    path = Path(run_dir)
    if not (path / "run.json").is_file():
        if path.is_dir() and any(path.iterdir()):
            raise RunError(f"{path}: the folder holds files but no run.json, so it is not a run. Give another folder.")
        empty = {"parameters": parameters, "tables": {}, "steps": {}}
        write_json(path / "run.json", {**empty, "format": FORMAT, "outcome": outcome}, durable=False)
    run = Run(path, step)
    run._refuse_if_finished()
    stored = run.parameters()
    if any(stored.get(name) != value for name, value in parameters.items()):
        empty_run(run)
        run.update(parameters={**stored, **parameters})
    return run


def empty_run(run: Run) -> None:
    """Remove tables, model and headline numbers of an unfinished run, and nothing else."""
    run._refuse_if_finished()
    for pattern in ("tables/*.parquet", "model/*.npz", "model/*.json", "summary.json"):
        for file in run.path.glob(pattern):
            file.unlink()
    run.update(tables={}, steps={})


@cache
def _engine() -> ibis.BaseBackend:
    """Return the DuckDB connection that reads the tables of runs."""
    return connect()


STAGING_NAME = re.compile(r"(?P<out>.+)\.(?P<kind>building-\d+|replaced)")  # folders next to a run while it is made


@contextmanager
def stage_run(out: str | Path, *, marker: str = RECORD, copied: bool = False) -> Iterator[Path]:
    """Lock the folder of a run and create a staging folder next to it; remove the staging folder at the end.

    Parameters
    ----------
    out
        Folder of the run: missing, empty, or an earlier run.
    marker
        File that an earlier run has, so that it may be replaced.
    copied
        The earlier run is copied into the new one, and so are other files in its folder.

    Yields
    ------
    Path
        ``<out>.building-<process>``, an empty folder.

    Raises
    ------
    RunError
        Another process builds this run, or the folder holds something else.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file stands where the run should go. Give another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        raise RunError(f"{out}: the folder holds files but no {marker}, so it is something else. Give another --out.")
    if out.is_dir() and not copied:
        refuse_other_files(out, marker=marker)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: its folder cannot be made ({error.strerror}). Give another --out.") from None
    with _locked(out):
        _recover(out)
        _recover_others(out)
        remove_spills()
        building = out.with_name(f"{out.name}.building-{os.getpid()}")
        building.mkdir()
        try:
            yield building
        finally:
            shutil.rmtree(building, ignore_errors=True)


def publish_run(building: Path, out: Path) -> None:
    """Move a finished run into place, and remove the run it replaces once the new one is safely on disk.

    Where the system can exchange two folders, there is no moment without a report.
    """
    for path in [*building.rglob("*"), building]:
        sync_to_disk(path)
    replaced = out.with_name(f"{out.name}.replaced")
    with uninterrupted():
        if out.exists() and exchange(building, out):
            replaced = building
        else:
            if out.exists():
                out.rename(replaced)
            building.rename(out)
        sync_to_disk(out.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def save_failed_run(building: Path, out: Path) -> Path:
    """Move a failed run to <out>.failed, replacing an earlier failure, and return its path."""
    failed = out.with_name(f"{out.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    building.rename(failed)
    return failed


def latest_finished_run(root: str | Path, *, before: str, source: str = "") -> Path | None:
    """Find the finished run in a folder with the latest as_of before an ISO date; None when there is none.

    `source`: as in `finished_runs`.
    """
    found = [path for as_of, path in finished_runs(root, source=source) if as_of < before]
    return found[-1] if found else None


def finished_runs(root: str | Path, *, source: str = "") -> list[tuple[str, Path]]:
    """List the as_of and the folder of the finished runs in a folder, the earliest first.

    `source`: name of the source of the runs; empty for any.
    """
    found = []
    for record in Path(root).glob("*/run.json"):
        run = load_run(record.parent)
        made = run.parameters()
        is_wanted = not source or made.get("source_name") == source
        if run.record().get("outcome") == "done" and is_wanted and made.get("as_of"):
            found.append((made["as_of"], record.parent))
    return sorted(found)


def _recover(out: Path) -> None:
    """Clean up after a killed process, and restore a run that was moved away and not replaced."""
    replaced = out.with_name(f"{out.name}.replaced")
    if replaced.exists() and not out.exists():
        replaced.rename(out)
    for leftover in out.parent.iterdir():
        found = STAGING_NAME.fullmatch(leftover.name)
        if leftover == replaced or (found and found["out"] == out.name and "building" in found["kind"]):
            shutil.rmtree(leftover, ignore_errors=True)


def _recover_others(out: Path) -> None:
    """Clean up after killed processes that made other runs in this folder and may never be started again."""
    names = {found["out"] for path in out.parent.iterdir() if (found := STAGING_NAME.fullmatch(path.name))}
    for other in sorted(out.with_name(name) for name in names - {out.name}):
        lock = other.with_name(f".{other.name}.lock")
        handle = try_lock(lock) if lock.is_file() else None
        if handle is None:  # in use; or not from here, as a killed process leaves its lock
            continue
        try:
            _recover(other)
            lock.unlink(missing_ok=True)
        finally:
            os.close(handle)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock the folder of a run while it is being built."""
    path = out.with_name(f".{out.name}.lock")
    busy = f"{out}: another `segkit run` is building this run. Wait for it, or give another --out."
    try:
        handle = try_lock(path, create=True)
    except OSError as error:
        raise RunError(f"{out}: it cannot be written ({error.strerror}). Give another --out.") from None
    if handle is None:
        raise RunError(busy)
    try:
        if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:  # removed by the run before
            raise RunError(busy)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def open_run_source(run: Run, *, source: str = "", data_dir: str = "", source_ids: bool = False) -> Source:
    """Open the source that a run was made from.

    Parameters
    ----------
    source, data_dir
        Where the source is now; by default where it was when the run was made.
    source_ids
        Ids as in the source, also where the tables of the run show pseudonyms.

    Raises
    ------
    SourceError
        The source is missing or invalid.
    RunError
        The key of an erasure list or of the pseudonyms is missing.
    """
    parameters = run.parameters()
    opened = open_source(source or parameters["source"], data_dir=(data_dir or parameters.get("data_dir")) or None)
    privacy = load_run_privacy(run)
    return opened.model_copy(update={"privacy": replace(privacy, key="") if source_ids else privacy})


def load_run_privacy(run: Run) -> PrivacyRules:
    """Load the privacy rules of a run: which customers are erased, and how ids are shown.

    Raises `RunError`: the key of an erasure list or of the pseudonyms is missing.
    """
    folder, *others = list_folders(run)
    return load_privacy(folder, also=tuple(others), pseudonyms=run.parameters().get("pseudonyms", ""))


def list_folders(run: Run) -> tuple[Path, ...]:
    """Return the folders whose erasure lists hold for a run: its own, and those of the links that lead to it."""
    recorded = run.record().get(LIST_FOLDER, "")
    return (run.path.resolve().parent, run.path.absolute().parent, *([Path(recorded)] if recorded else []))


def source_ids(run: Run, source: Source) -> pd.Series:
    """Map the pseudonyms in the tables of a run to the ids in the source.

    `source`: the source of the run, opened with ``source_ids=True``. Returns ids in the source, indexed by id in the
    run.
    """
    privacy, con = load_run_privacy(run), connect()
    rows = (read_customers if source.customers_only else read_events)(source, con=con)
    ids = rows.select("customer_id").distinct().to_pandas()["customer_id"]
    return pd.Series(ids.to_numpy(), index=[privacy.displayed_id(customer_id) for customer_id in ids], dtype=object)


def refuse_pseudonyms(run: Run, *, what: str) -> None:
    """Stop work that needs the ids of the source.

    Raises `RunError`: the tables of the run show pseudonyms.
    """
    if run.parameters().get("pseudonyms"):
        raise RunError(
            f"{run.path.name}: its ids are hashes (--pseudonymise), and {what}. Make a run without --pseudonymise in "
            "another --out for it."
        )
