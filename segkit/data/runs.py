"""Run folders: read and write their tables, build them in staging, swap them in whole, lock them."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
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
from segkit.data.engine import read_rows, write_rows
from segkit.data.io import (
    check_parquet,
    npz_bytes,
    parquet_bytes,
    read_json,
    read_npz,
    read_parquet,
    to_json_value,
    write_bytes,
    write_json,
)
from segkit.data.privacy import PrivacyRules, load_privacy
from segkit.data.sources import connect, open_source, read_events
from segkit.data.spec import Source
from segkit.errors import RunError
from segkit.period import Period

FORMAT = 2  # of a run folder; another is one that this version cannot read
METRIC_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*")
# of tables that are streamed to their file: every key of a row, so that the order is one
SORT_KEYS = ("customer_id", "day", "until", "category", "channel", "bought", "order_id")
MODEL_WRITERS = {"": "03_segments", "needs": "01_profile"}  # part of the model -> the notebook that keeps it


@dataclass(frozen=True)
class Run:
    """A run folder: tables, headline numbers and the model, with what they were made from.

    Parameters
    ----------
    path : the folder; it holds run.json
    step : the notebook that writes, recorded with each table; "" for a reader
    """

    path: Path
    step: str = ""

    def record(self) -> dict[str, Any]:
        """Everything in run.json: parameters, source, previous, versions, steps, tables, outcome."""
        return read_json(self.path / "run.json")

    def parameters(self) -> dict[str, Any]:
        """What the run was made with: source, as_of (ISO date, never empty), lookback_days, horizon_days, seed, ..."""
        return dict(self.record()["parameters"])

    @property
    def period(self) -> Period:
        """The day the run looks from, its lookback and its horizon."""
        made = self.parameters()
        return Period.parse(made["as_of"], lookback_days=made["lookback_days"], horizon_days=made["horizon_days"])

    def has(self, name: str) -> bool:
        """Whether the run holds the table."""
        return self._table_path(name).is_file()

    def table(self, name: str) -> pd.DataFrame:
        """One table of the run, as it was written, with a plain index.

        Raises
        ------
        RunError : no such table; the message names the notebook that makes it
        """
        if not self.has(name):
            maker = tables.writer_of(name)
            stored = sorted(path.stem for path in (self.path / "tables").glob("*.parquet"))
            step = (
                f"Run {maker} on this run folder first" if maker else "No notebook is known to make it: check the name"
            )
            raise RunError(
                f"{self.path.name}: there is no table '{name}' (it holds {', '.join(stored) or 'none'}). {step}."
            )
        return read_parquet(self._table_path(name)).to_pandas()

    def columns(self, name: str) -> list[str]:
        """The columns of a table, without reading it."""
        check_parquet(self._table_path(name), every_page=False)
        return pq.read_schema(self._table_path(name)).names

    def scan(self, name: str, *, on: ibis.BaseBackend | None = None) -> ir.Table:
        """A table of the run to be queried where it lies, without reading it whole.

        Parameters
        ----------
        on : the engine that queries it, by default a DuckDB of this process; a cluster must see the run folder
        """
        if not self.has(name):
            self.table(name)  # says which notebook makes it
        if self.record().get("outcome") == "done":
            check_parquet(self._table_path(name))
        return read_rows(self._table_path(name).resolve(), to=on or _engine(), name=name)

    def write(self, table: pd.DataFrame | ir.Table, name: str) -> None:
        """Check a table and keep it as tables/<name>.parquet; the same rows in the same order give the same bytes.

        Takes  a table; a named index becomes columns, an unnamed one is dropped; or an Ibis expression, which is
               streamed to the file, sorted by its key columns (customer_id, day, category)

        Raises
        ------
        SchemaError : the table is not as segkit.tables declares it
        RunError : the run is finished, and so read-only
        """
        self._refuse_if_finished()
        if isinstance(table, ir.Table):
            self._write_expression(table, name)
            return
        named = [level for level in table.index.names if level is not None]
        plain = table.reset_index() if named else table.reset_index(drop=True)
        tables.check(plain, name=name)
        write_bytes(self._table_path(name), parquet_bytes(pa.Table.from_pandas(plain, preserve_index=False)))
        self.update(tables={**self.record().get("tables", {}), name: self.step})

    def record_metrics(self, figures: Mapping[str, Any]) -> None:
        """Merge headline numbers into summary.json.

        Takes  flat names to numbers, text, flags or None; not-a-number and infinity become null
        """
        self._refuse_if_finished()
        bad = sorted(name for name in figures if not METRIC_NAME.fullmatch(name))
        if bad:
            raise RunError(f"summary: {bad} are not flat names such as 'forward.spend_r2'. Rename them.")
        merged = {**self.summary(), **{name: to_json_value(value) for name, value in figures.items()}}
        write_json(self.path / "summary.json", merged)

    def summary(self) -> dict[str, Any]:
        """The headline numbers noted so far: flat names, floats rounded to six decimals."""
        path = self.path / "summary.json"
        return read_json(path) if path.is_file() else {}

    def save_model(
        self, arrays: Mapping[str, np.ndarray], *, meta: Mapping[str, Any] | None = None, part: str = ""
    ) -> None:
        """Keep what is needed to place a customer: model/arrays.npz and model/model.json; nothing executable.

        Takes  arrays of numbers, flags or fixed-width text by name; meta: what JSON can hold

        Parameters
        ----------
        part : name of another part of the model, such as needs: model/needs.npz and model/needs.json
        """
        self._refuse_if_finished()
        objects = sorted(name for name, array in arrays.items() if np.asarray(array).dtype.hasobject)
        if objects:
            raise RunError(
                f"model: the arrays {objects} hold Python objects. Give them a number or fixed-width text type."
            )
        folder = self.path / "model"
        write_bytes(folder / f"{part or 'arrays'}.npz", npz_bytes(arrays))
        write_json(folder / f"{part or 'model'}.json", dict(meta or {}))

    def load_model(self, *, part: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays by name and the meta that save_model kept, of the model or of one of its further parts.

        Raises
        ------
        RunError : the run has no such part
        """
        folder, maker = self.path / "model", MODEL_WRITERS[part]
        if not (folder / f"{part or 'arrays'}.npz").is_file():
            what = f"model of {part}" if part else "model"
            raise RunError(f"{self.path.name}: there is no {what}. Run {maker} on this run folder first.")
        return read_npz(folder / f"{part or 'arrays'}.npz"), read_json(folder / f"{part or 'model'}.json")

    def update(self, **fields: Any) -> None:
        """Replace top-level fields of run.json."""
        write_json(self.path / "run.json", {**self.record(), **fields})

    def write_text(self, text: str, name: str) -> Path:
        """Keep a page or another text file of the run (UTF-8); gives its path."""
        write_bytes(self.path / name, text.encode("utf-8"))
        return self.path / name

    def _write_expression(self, table: ir.Table, name: str) -> None:
        path = self._table_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        keys = [key for key in SORT_KEYS if key in table.columns]
        if table.get_backend().name != "duckdb":  # engines sort text differently: here it is always by its bytes
            there = path.with_name(f".{path.name}.unsorted.{os.getpid()}")
            write_rows(table, there)
            write_rows(_engine().read_parquet(there).order_by(keys), temporary)
            there.unlink()
        else:
            write_rows(table.order_by(keys), temporary)
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
    """An existing run folder, to read from.

    Raises
    ------
    RunError : the folder is not there or is not a run
    """
    path = Path(run_dir)
    if not (path / "run.json").is_file():
        raise RunError(f"{path}: not a run folder (no run.json). Make one with `segkit run`.")
    run = Run(path)
    record = run.record()
    if not isinstance(record.get("parameters"), dict):
        raise RunError(f"{path / 'run.json'}: no parameters in it, so it was not made by segkit. Make a new run.")
    if record.get("format", FORMAT) != FORMAT:
        renamed = tables.old_names(record.get("tables", {})) if record["format"] < FORMAT else []
        names = f" (names differ: {renamed[0]}{', ...' if len(renamed) > 1 else ''})" if renamed else ""
        raise RunError(
            f"{path}: its format is {record['format']}, and this segkit reads {FORMAT}: another version made it"
            f"{names}. Make it again, or remove the folder (--previous none does without)."
        )
    return run


def open_run(run_dir: str | Path, *, step: str = "", outcome: str = "scratch", **parameters: Any) -> Run:
    """A run folder to write to: made when missing, emptied of tables when they were made with other parameters.

    Takes  a folder; the parameters that decide what the tables hold (source, as_of, lookback_days, ...)
    Gives  Run, which holds only tables made with these parameters

    Parameters
    ----------
    step : the notebook that writes
    outcome : "scratch" (may be overwritten) or "building" (part of a chain); kept when the run exists

    Raises
    ------
    RunError : the run is finished, or the folder holds something else
    """
    path = Path(run_dir)
    if not (path / "run.json").is_file():
        if path.is_dir() and any(path.iterdir()):
            raise RunError(f"{path}: the folder holds files but no run.json, so it is not a run. Give another folder.")
        empty = {"parameters": parameters, "tables": {}, "steps": {}}
        write_json(path / "run.json", {**empty, "format": FORMAT, "outcome": outcome})
    run = Run(path, step)
    run._refuse_if_finished()
    stored = run.parameters()
    if any(stored.get(name) != value for name, value in parameters.items()):
        empty_run(run)
        run.update(parameters={**stored, **parameters})
    return run


def empty_run(run: Run) -> None:
    """Remove what this module writes into an unfinished run, and nothing else."""
    run._refuse_if_finished()
    for pattern in ("tables/*.parquet", "model/*.npz", "model/*.json", "summary.json"):
        for file in run.path.glob(pattern):
            file.unlink()
    run.update(tables={}, steps={})


@cache
def _engine() -> ibis.BaseBackend:
    """The DuckDB connection that reads the tables of runs."""
    return connect()


PRUNED_SUFFIX = ".pruned"  # ending of a folder that is being removed
NON_RUN_SUFFIXES = (".failed", ".replaced", PRUNED_SUFFIX)  # endings of folders that are no runs to count


@contextmanager
def stage_run(out: str | Path, *, marker: str = "run.json") -> Iterator[Path]:
    """Hold the place of a run and give an empty folder beside it to build in.

    Takes  the folder the run will have: missing, empty, or an earlier run
    Gives  the path of <out>.building-<process>; what is left of it at the end is removed

    Parameters
    ----------
    mark : the file by which an earlier one is known that may be replaced

    Raises
    ------
    RunError : another run is being built for the same place, or the place holds something else
    """
    out = Path(out)
    _refuse_other_content(out, marker=marker)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: its folder cannot be made ({error.strerror}). Give another --out.") from None
    with _locked(out):
        _recover(out)
        building = out.with_name(f"{out.name}.building-{os.getpid()}")
        building.mkdir()
        try:
            yield building
        finally:
            shutil.rmtree(building, ignore_errors=True)


def publish_run(building: Path, out: Path) -> None:
    """Put a whole run in its place; the one that was there goes once the new one stands, and is on the disk."""
    for path in [*building.rglob("*"), building]:
        _fsync(path)
    replaced = out.with_name(f"{out.name}.replaced")
    if out.exists():
        out.rename(replaced)
    building.rename(out)
    _fsync(out.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def save_failed_run(building: Path, out: Path) -> Path:
    """Keep a run that failed as <out>.failed, in place of an earlier failure; gives its path."""
    failed = out.with_name(f"{out.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    building.rename(failed)
    return failed


def latest_finished_run(root: str | Path, *, before: str, source: str = "") -> Path | None:
    """The finished run under a folder with the latest as_of that is strictly earlier than a date.

    Takes  a folder of runs; before: ISO date
    Gives  the path of the run, or None when there is none

    Parameters
    ----------
    source : name of the source that it must be of; empty for any
    """
    found = []
    for record in sorted(Path(root).glob("*/run.json")):
        run = load_run(record.parent)
        as_of = run.parameters().get("as_of", "")
        ours = not source or run.parameters().get("source_name") == source
        if run.record().get("outcome") == "done" and ours and as_of and as_of < before:
            found.append((as_of, record.parent.name, record.parent))
    return max(found)[-1] if found else None


def prune_runs(newest: Path, *, keep: int) -> tuple[list[str], list[str]]:
    """Remove older runs of the same source beside a new one.

    A run goes with the state of live segments that went on from it (<run>.live). What stays: runs that failed or are
    being made, runs of other sources, folders that are no run, pilots, and a run whose live state is in use.

    Takes  a run that has just been finished
    Gives  the names of the runs that were removed, and of those that are in use and were not

    Parameters
    ----------
    keep : how many runs stay, the newest by as_of; the new one is always among them
    """
    source = load_run(newest).parameters().get("source_name")
    others = []
    for left in newest.parent.glob(f".*{PRUNED_SUFFIX}"):  # of a process that was killed while it removed one
        shutil.rmtree(left, ignore_errors=True)
    for record in sorted(newest.parent.glob("*/run.json")):
        run, folder = load_run(record.parent), record.parent
        ours = run.parameters().get("source_name") == source and run.record().get("outcome") == "done"
        if (
            ours
            and not folder.is_symlink()
            and folder.name != newest.name
            and not folder.name.endswith(NON_RUN_SUFFIXES)
        ):
            others.append((run.parameters().get("as_of", ""), folder))
    gone, busy = [], []
    for _, folder in sorted(others)[: max(len(others) - keep + 1, 0)]:
        (gone if _remove_if_idle(folder) else busy).append(folder.name)
    return gone, busy


def _remove_if_idle(folder: Path) -> bool:
    """Remove a run with its live state, unless a process is at work on either: whole and at once for who looks."""
    live = folder.with_name(f"{folder.name}.live")
    locks = [folder.with_name(f".{folder.name}.lock"), *sorted(live.glob("*.lock"))]
    handles = [os.open(path, os.O_RDWR) for path in locks if path.is_file()]
    try:
        for handle in handles:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for place in (live, folder):
            if place.exists():
                leaving = place.with_name(f".{place.name}{PRUNED_SUFFIX}")
                place.rename(leaving)
                shutil.rmtree(leaving, ignore_errors=True)
        return True
    except BlockingIOError:
        return False
    finally:
        for handle in handles:
            os.close(handle)


def _fsync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where a power cut does not reach it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_other_content(out: Path, *, marker: str) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file stands where the run should go. Give another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        raise RunError(f"{out}: the folder holds files but no {marker}, so it is something else. Give another --out.")


def _recover(out: Path) -> None:
    """Clear what a killed process left; bring back a run that was moved away and not yet replaced."""
    replaced = out.with_name(f"{out.name}.replaced")
    if replaced.exists() and not out.exists():
        replaced.rename(out)
    for left in [replaced, *out.parent.glob(f"{out.name}.building-*")]:
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold a lock that the system frees when the process ends, however it ends."""
    path = out.with_name(f".{out.name}.lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise RunError(f"{out}: it cannot be written ({error.strerror}). Give another --out.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            still_there = path.exists() and os.fstat(handle).st_ino == path.stat().st_ino
        except BlockingIOError:
            still_there = False
        if not still_there:
            raise RunError(f"{out}: another `segkit run` is building this run. Wait for it, or give another --out.")
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
    source, data_dir : where the source is now; by default as the run was made
    as_they_are : ids as the source has them, also where the run shows them as hashes

    Raises
    ------
    SourceError : the source is not there, or cannot be understood
    RunError : the key of the forgotten or of the pseudonyms is not there
    """
    parameters = run.parameters()
    opened = open_source(source or parameters["source"], data_dir=(data_dir or parameters.get("data_dir")) or None)
    privacy = load_run_privacy(run)
    return opened.model_copy(update={"privacy": replace(privacy, key="") if source_ids else privacy})


def load_run_privacy(run: Run) -> PrivacyRules:
    """Who is left out of a run, and how it shows ids.

    Raises
    ------
    RunError : the key of the forgotten or of the pseudonyms is not there
    """
    return load_privacy(run.path.resolve().parent, pseudonyms=run.parameters().get("pseudonyms", ""))


def source_ids(run: Run, source: Source) -> pd.Series:
    """The id in the source of each id in the tables of a run whose ids are hashes.

    Takes  the run; its source, ids as they are
    Gives  id of the source, by id of the run
    """
    privacy, con = load_run_privacy(run), connect()
    ids = read_events(source, con=con).select("customer_id").distinct().to_pandas()["customer_id"]
    return pd.Series(ids.to_numpy(), index=[privacy.displayed_id(one) for one in ids], dtype=object)


def refuse_pseudonyms(run: Run, *, what: str) -> None:
    """Stop what needs the ids that customers have in the source.

    Raises
    ------
    RunError : the ids in the tables of the run are hashes
    """
    if run.parameters().get("pseudonyms"):
        raise RunError(
            f"{run.path.name}: its ids are hashes (--pseudonymise), and {what}. Make a run without --pseudonymise in "
            "another --out for it."
        )
