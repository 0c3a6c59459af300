"""Remove customers from the files of runs: each file is written anew, whole or not at all."""

import io
import os
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segkit.data.plain import write_bytes
from segkit.data.spreadsheet import as_given, quoting_of
from segkit.data.store import Run

WHO = "customer_id"
LAST = ("assignments", "days")  # in this order after all others: what is found in them decides what is left to do


def customers_in(path: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers who have a row in a Parquet or CSV file with a column customer_id."""
    if path.suffix == ".parquet":
        if WHO not in pq.read_schema(path).names:
            return set()
        wanted, found = pa.array(sorted(ids), pa.string()), set()
        for batch in pq.ParquetFile(path).iter_batches(columns=[WHO]):
            column = batch.column(0).cast(pa.string())
            found |= set(column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
        return found
    table = _csv(path)
    return set(table[WHO].map(as_given)) & set(ids) if WHO in table else set()


def without(path: Path, ids: Collection[str]) -> bytes:
    """The bytes of a Parquet or CSV file without the rows of some customers; the other rows as they were."""
    if path.suffix == ".parquet":
        wanted, buffer, file = pa.array(sorted(ids), pa.string()), io.BytesIO(), pq.ParquetFile(path)
        with pq.ParquetWriter(buffer, file.schema_arrow, compression="zstd", write_page_checksum=True) as out:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number)
                theirs = pc.is_in(rows[WHO].cast(pa.string()), value_set=wanted)
                out.write_table(rows.filter(pc.invert(theirs)))
        return buffer.getvalue()
    table = _csv(path)
    rows = table[~table[WHO].map(as_given).isin(ids)]
    return rows.to_csv(index=False, lineterminator="\n", quoting=quoting_of(rows)).encode("utf-8")


def purge_run(run: Run, ids: Collection[str]) -> int:
    """Remove customers from the tables of a run, and note how many they were, never who.

    Takes  a run, finished or not; ids as its tables show them
    Gives  how many were found

    What was begun and broken off can be done again: run.json says first what is to come, and last that it is done.
    """
    for left in (run.path / "tables").glob(".*.parquet*"):  # of a process that was killed while it wrote
        left.unlink()
    holding = {path: customers_in(path, ids) for path in tables_of(run)}
    found = set().union(*holding.values())
    noted = {"customers": 0, "pending": 0, "assignments": [], **run.record().get("forgotten", {})}
    if not found and not noted["pending"]:
        return 0
    assigned = run.path / "tables" / "assignments.parquet"
    drawn = {sha256(assigned.read_bytes()).hexdigest()} if assigned.is_file() else set()
    noted |= {"pending": max(noted["pending"], len(found)), "assignments": sorted({*noted["assignments"], *drawn})}
    run.update(forgotten=noted)
    for path, theirs in holding.items():
        if theirs:
            write_bytes(path, without(path, ids))
    run.update(forgotten=noted | {"customers": noted["customers"] + noted["pending"], "pending": 0})
    return noted["pending"]


def tables_of(run: Run) -> list[Path]:
    """The tables of a run, those last that tell who is in it."""
    paths = sorted((run.path / "tables").glob("*.parquet"))
    return sorted(paths, key=lambda path: (path.stem in LAST, LAST.index(path.stem) if path.stem in LAST else 0))


def stray(root: Path, *, own_folders: Collection[Path]) -> Iterator[Path]:
    """Files below a folder that are in none of our folders, sorted."""
    inside = {path.resolve() for path in own_folders}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if (Path(folder) / name).resolve() not in inside)
        yield from (Path(folder) / name for name in sorted(files))


def _csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
