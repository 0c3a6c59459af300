"""Run folders: the only place that writes them, so that a run is read-only once done, and byte-equal when repeated."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
from segkit.data.plain import (
    npz_bytes,
    parquet_bytes,
    plain,
    read_json,
    read_npz,
    read_parquet,
    refuse_broken,
    write_bytes,
    write_json,
)
from segkit.data.sources import connect
from segkit.errors import RunError
from segkit.period import Period

FORMAT = 2  # of a run folder; another is one that this version cannot read
FIGURE_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*")
# of tables that are streamed to their file: every key of a row, so that the order is one
SORT_KEYS = ("customer_id", "day", "until", "category", "channel", "bought", "order_id")
MODEL_MAKERS = {"": "03_segments", "needs": "01_profile"}  # part of the model -> the notebook that keeps it


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
        refuse_broken(self._table_path(name), every_page=False)
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
            refuse_broken(self._table_path(name))
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
        bad = sorted(name for name in figures if not FIGURE_NAME.fullmatch(name))
        if bad:
            raise RunError(f"summary: {bad} are not flat names such as 'forward.spend_r2'. Rename them.")
        merged = {**self.summary(), **{name: plain(value) for name, value in figures.items()}}
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
        folder, maker = self.path / "model", MODEL_MAKERS[part]
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
