"""Erase customers from every run, pilot and live state below a reports folder."""

import fcntl
import io
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segkit.data.io import csv_quoting, read_json, unescape_formula, write_bytes, write_json
from segkit.data.privacy import ERASURE_FILE, KEY_FILE, add_to_erasure_list, find_erased
from segkit.data.runs import Run, load_run, load_run_privacy
from segkit.errors import InputError, RunError
from segkit.experiments.design import PILOT_FILES
from segkit.experiments.pilot import TARGETS_FILE, UNITS_FILE
from segkit.live.state import locked

ID_COLUMN = "customer_id"
PURGED_LAST = (
    "assignments",
    "days",
)  # in this order after all others: what is found in them decides what is left to do


def find_customers(path: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers who have a row in a Parquet or CSV file with a column customer_id."""
    if path.suffix == ".parquet":
        if ID_COLUMN not in pq.read_schema(path).names:
            return set()
        wanted, found = pa.array(sorted(ids), pa.string()), set()
        for batch in pq.ParquetFile(path).iter_batches(columns=[ID_COLUMN]):
            column = batch.column(0).cast(pa.string())
            found |= set(column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
        return found
    table = _read_csv(path)
    return set(table[ID_COLUMN].map(unescape_formula)) & set(ids) if ID_COLUMN in table else set()


def remove_customers(path: Path, ids: Collection[str]) -> bytes:
    """The bytes of a Parquet or CSV file without the rows of some customers; the other rows as they were."""
    if path.suffix == ".parquet":
        wanted, buffer, file = pa.array(sorted(ids), pa.string()), io.BytesIO(), pq.ParquetFile(path)
        with pq.ParquetWriter(buffer, file.schema_arrow, compression="zstd", write_page_checksum=True) as out:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number)
                theirs = pc.is_in(rows[ID_COLUMN].cast(pa.string()), value_set=wanted)
                out.write_table(rows.filter(pc.invert(theirs)))
        return buffer.getvalue()
    table = _read_csv(path)
    rows = table[~table[ID_COLUMN].map(unescape_formula).isin(ids)]
    return rows.to_csv(index=False, lineterminator="\n", quoting=csv_quoting(rows)).encode("utf-8")


def erase_from_run(run: Run, ids: Collection[str]) -> int:
    """Remove customers from the tables of a run, and note how many they were, never who.

    Takes  a run, finished or not; ids as its tables show them
    Gives  how many were found

    What was begun and broken off can be done again: run.json says first what is to come, and last that it is done.
    """
    for left in (run.path / "tables").glob(".*.parquet*"):  # of a process that was killed while it wrote
        left.unlink()
    holding = {path: find_customers(path, ids) for path in table_paths(run)}
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
            write_bytes(path, remove_customers(path, ids))
    run.update(forgotten=noted | {"customers": noted["customers"] + noted["pending"], "pending": 0})
    return noted["pending"]


def table_paths(run: Run) -> list[Path]:
    """The tables of a run, those last that tell who is in it."""
    paths = sorted((run.path / "tables").glob("*.parquet"))
    return sorted(
        paths,
        key=lambda path: (path.stem in PURGED_LAST, PURGED_LAST.index(path.stem) if path.stem in PURGED_LAST else 0),
    )


def files_outside(root: Path, *, own_folders: Collection[Path]) -> Iterator[Path]:
    """Files below a folder that are in none of our folders, sorted."""
    inside = {path.resolve() for path in own_folders}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if (Path(folder) / name).resolve() not in inside)
        yield from (Path(folder) / name for name in sorted(files))


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")


ERASABLE_PILOT_FILES = (*PILOT_FILES, TARGETS_FILE, UNITS_FILE)


def customers_in_pilot(folder: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers who are in a file of a pilot."""
    return set().union(
        *(find_customers(folder / name, ids) for name in ERASABLE_PILOT_FILES if (folder / name).is_file())
    )


def erase_from_pilot(folder: Path, ids: Collection[str]) -> int:
    """Remove customers from a pilot, and note in pilot.json how many were forgotten since the draw.

    Takes  the folder of a pilot
    Gives  how many were found

    The hash of the units is renewed only where they were as they were drawn: a design that somebody changed stays one
    that no read-out takes. What was begun and broken off can be done again.
    """
    facts = read_json(folder / "pilot.json")
    theirs = customers_in_pilot(folder, ids)
    noted = facts.get("forgetting", {"customers": 0, "units": ""})
    if not theirs and not noted["customers"]:
        return 0
    files = {name: remove_customers(folder / name, ids) for name in ERASABLE_PILOT_FILES if (folder / name).is_file()}
    hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
    units = folder / UNITS_FILE
    drawn = units.is_file() and sha256(units.read_bytes()).hexdigest() in (
        facts["files"].get(UNITS_FILE),
        noted["units"],
    )
    noted = {"customers": max(noted["customers"], len(theirs)), "units": hashes[UNITS_FILE] if drawn else ""}
    write_json(folder / "pilot.json", {**facts, "forgetting": noted})
    for name, content in files.items():
        write_bytes(folder / name, content)
    if not drawn:
        hashes[UNITS_FILE] = facts["files"].get(UNITS_FILE, "")
    count = facts.get("forgotten", 0) + noted["customers"]
    done = {name: value for name, value in facts.items() if name != "forgetting"}
    write_json(folder / "pilot.json", {**done, "files": {**facts["files"], **hashes}, "forgotten": count})
    return noted["customers"]


MAGIC = b"SQLite format 3\x00"
STATE_TABLES = {"events", "parked", "places", "changes", "aside", "told"}


def is_state(path: Path) -> bool:
    """Whether a file is a state of live segments, wherever it lies."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
    con = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        table_names = {row[0] for row in con.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.DatabaseError:
        return False
    finally:
        con.close()
    return table_names >= STATE_TABLES


def erase_from_state(path: Path, ids: Collection[str]) -> int:
    """Remove customers from a state; it is whole at any moment, and what was broken off can be done again.

    Takes  the file of a state; ids of customers
    Gives  how many of them it knew of

    Raises
    ------
    RunError : a process is writing the state, or it cannot be written
    """
    handle = locked(path)
    try:
        con = sqlite3.connect(path, isolation_level=None)
        con.execute("pragma secure_delete = on")  # what is freed is overwritten with zeros
        found = _delete(con, ids)
        con.execute("vacuum")  # what was freed before, and what lay in pages that are still in use
        busy = con.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
        if busy:
            raise RunError(f"{path}: another process reads this state, so its log cannot be cut. Stop it, and again.")
        _rewrite_rejected(con, path)
        con.close()
    except sqlite3.DatabaseError as error:
        raise RunError(f"{path}: the state cannot be written ({error}). Mend that, and forget again.") from None
    finally:
        os.close(handle)
    shutil.rmtree(path.with_name(f"{path.name}.past"), ignore_errors=True)  # made anew from the run at the next start
    for left in path.parent.glob(f"{path.name}.past.*"):
        shutil.rmtree(left, ignore_errors=True)
    return len(found)


def customers_in_state(path: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers of whom a state, or what it has taken from the run, knows."""
    con = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        found = _customers_with_rows(con, ids)
    finally:
        con.close()
    history_file = path.with_name(f"{path.name}.past") / "known.json"
    begun = json.loads(history_file.read_text(encoding="utf-8"))["customers"] if history_file.is_file() else []
    return found | (set(begun) & set(ids))


def _customers_with_rows(con: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    found = set()
    for one in ids:
        sql = [f"select 1 from {table} where customer_id = ?" for table in ("events", "places", "changes")]
        sql.append("select 1 from parked where json_extract(line, '$[1]') = ?")
        if any(con.execute(f"{query} limit 1", (one,)).fetchone() for query in sql):
            found.add(one)
    return found


def _delete(con: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    """One transaction: rows of the customers in every table, and lines set aside that name them."""
    found = _customers_with_rows(con, ids)
    con.execute("begin immediate")
    last = con.execute("select coalesce(max(id), 0) from changes").fetchone()[0]
    numbered_row = con.execute("select value from told where name = 'numbered'").fetchone()
    # numbers of changes are never given twice: a consumer tells repeats by them
    numbered = json.dumps(max(last, json.loads(numbered_row[0]) if numbered_row else 0))
    con.execute("insert or replace into told values ('numbered', ?)", (numbered,))
    for one in ids:
        for table in ("events", "places", "changes"):
            con.execute(f"delete from {table} where customer_id = ?", (one,))
        con.execute("delete from parked where json_extract(line, '$[1]') = ?", (one,))
    for number, reason, line in con.execute("select id, reason, line from aside").fetchall():
        if _customer_of(line) in ids or names_any(f"{reason} {line}", ids):
            con.execute("delete from aside where id = ?", (number,))
    con.execute("commit")
    return found


def _customer_of(line: str) -> str:
    """The customer a line set aside tells of, however it spells the id; empty where it cannot be read."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return str(event.get("customer_id", "")).strip() if isinstance(event, dict) else ""


def names_any(text: str, ids: Collection[str]) -> bool:
    """Whether an id stands in a text as a word of its own."""
    return any(one in text and re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text) for one in ids)


def _rewrite_rejected(con: sqlite3.Connection, path: Path) -> None:
    """The side file anew, from what the state still holds."""
    side = path.with_name(f"{path.name}.aside.jsonl")
    if not side.is_file():
        return
    rows = con.execute("select reason, line from aside order by id").fetchall()
    lines = [json.dumps({"reason": reason, "line": line}, ensure_ascii=False) for reason, line in rows]
    text = "".join(f"{line}\n" for line in lines)
    write_bytes(side, text.encode("utf-8", "backslashreplace"))


MAX_LISTED_FILES = 20  # files that may still hold an id, by name
MIN_WORD_CHARACTERS = 5  # of an id looked for in texts: a shorter one, or a bare number, stands there for other things
TEXT_SUFFIXES = {".csv", ".html", ".ipynb", ".json", ".jsonl", ".md", ".tsv", ".txt", ".yaml", ".yml"}
TABLE_SUFFIXES = {".csv", ".parquet"}
LIMITS_NOTE = (
    "Pages, figures and models made before hold no ids, and still count these customers among others: run `segkit run` "
    "again to make them without.",
    "Not ours to reach: what was exported or sent out, changes that `segkit live` has printed, copies and backups, and "
    "the source itself. Delete the customers there too.",
)


@dataclass(frozen=True)
class ErasureScope:
    """What lies below a folder: runs, pilots, states of live segments, all other files."""

    runs: tuple[Run, ...]
    pilots: tuple[Path, ...]
    states: tuple[Path, ...]
    others: tuple[Path, ...]


def erase(ids: Collection[str], *, reports: Path) -> list[str]:
    """Remove customers from all runs, pilots and live states below a folder, and keep them out of later ones.

    Takes  ids of customers, as the source has them
    Gives  what was done, in lines; no id stands in them

    Parameters
    ----------
    reports : the folder; its list of the forgotten (marks, no ids) holds for all runs below it

    Raises
    ------
    InputError : a customer of whom nothing is known there; nothing was changed
    RunError : a run is being made or a state is in use; nothing was changed
    """
    wanted = sorted({one.strip() for one in ids})
    if not reports.is_dir():
        raise InputError(f"--reports {reports}: there is no such folder.")
    _refuse_busy(reports, again=False)
    scope = _find_scope(reports)
    unknown = sorted(set(wanted) - _stored_customers(scope, wanted) - find_erased(reports, wanted))
    if unknown:
        more = f" (of {len(wanted)} given)" if len(wanted) > 1 else ""
        raise InputError(
            f"{', '.join(unknown)}: not known in any run, pilot or live state below {reports}{more}. Nothing was "
            "changed. Give ids as the source has them, or another --reports."
        )
    add_to_erasure_list(reports, wanted)  # first: what is made from here on is made without them
    _refuse_busy(reports, again=True)
    lines = [f"{place}: {count:,} removed" for place, count in _erase_everywhere(scope, wanted, root=reports)]
    holding = [str(path.relative_to(reports)) for path in scope.others if _contains_id(path, wanted)]
    if holding:
        more = f" and {len(holding) - MAX_LISTED_FILES:,} more" if len(holding) > MAX_LISTED_FILES else ""
        lines.append(
            f"Files of yours that still hold an id: {', '.join(holding[:MAX_LISTED_FILES])}{more}. Delete or mend them."
        )
    who = "1 customer is" if len(wanted) == 1 else f"{len(wanted):,} customers are"
    return [*lines, f"{who} forgotten below {reports}, and kept out by {ERASURE_FILE}.", *LIMITS_NOTE]


def _find_scope(root: Path) -> ErasureScope:
    """Everything below a folder, by what it is."""
    runs = tuple(load_run(path.parent) for path in sorted(root.rglob("run.json")))
    pilots = tuple(path.parent for path in sorted(root.rglob("pilot.json")))
    inside = [run.path / part for run in runs for part in ("tables", "model")]
    files = [path for path in files_outside(root, own_folders=inside) if path.is_file() and not path.is_symlink()]
    states = tuple(path for path in files if is_state(path))
    ours = {folder / name for folder in pilots for name in ERASABLE_PILOT_FILES}
    ours |= {path.with_name(f"{path.name}.aside.jsonl") for path in states}
    history_folders = {path.with_name(f"{path.name}.past") for path in states}
    others = [
        path for path in files if path not in ours and not history_folders & set(path.parents) and path.name != KEY_FILE
    ]
    return ErasureScope(runs=runs, pilots=pilots, states=states, others=tuple(others))


def _stored_customers(scope: ErasureScope, ids: Collection[str]) -> set[str]:
    """Those of the customers of whom anything is kept."""
    found: set[str] = set()
    for run in scope.runs:
        shown = _pseudonyms(run, ids)
        for path in table_paths(run):
            found |= {shown[one] for one in find_customers(path, shown)}
    for folder in scope.pilots:
        found |= customers_in_pilot(folder, ids)
    for path in scope.states:
        found |= customers_in_state(path, ids)
    return found


def _erase_everywhere(scope: ErasureScope, ids: Collection[str], *, root: Path) -> Iterator[tuple[str, int]]:
    """Remove customers place by place; gives each place they were in, and how many they were."""
    for run in scope.runs:
        yield from _report_count(run.path, erase_from_run(run, _pseudonyms(run, ids)), root=root)
    for folder in scope.pilots:
        yield from _report_count(folder, erase_from_pilot(folder, ids), root=root)
    for path in scope.states:
        yield from _report_count(path, erase_from_state(path, ids), root=root)


def _report_count(path: Path, count: int, *, root: Path) -> Iterator[tuple[str, int]]:
    if count:
        yield str(path.relative_to(root)), count


def _pseudonyms(run: Run, ids: Collection[str]) -> dict[str, str]:
    """The customers by the id that the tables of a run show."""
    privacy = load_run_privacy(run)
    return {privacy.displayed_id(one): one for one in ids}


def _contains_id(path: Path, ids: Collection[str]) -> bool:
    """Whether another file still holds an id: as a customer_id of a table, or as a word of a text."""
    try:
        if path.suffix in TABLE_SUFFIXES and find_customers(path, ids):
            return True
        words = [one for one in ids if len(one) >= MIN_WORD_CHARACTERS and not one.isdigit()]
        return (
            bool(words) and path.suffix in TEXT_SUFFIXES and names_any(path.read_text("utf-8", errors="replace"), words)
        )
    except (OSError, ValueError):
        return False  # not a table that can be read


def _refuse_busy(root: Path, *, again: bool) -> None:
    """Stop while a run or a pilot is being made, or a state is written: what is forgotten could come back with it."""
    for path in sorted([*root.rglob(".*.lock"), *root.rglob("*.sqlite.lock")]):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            done = "The customers are on the list already; forget again" if again else "Nothing was changed. Forget"
            raise RunError(f"{path}: another process is at work there. {done} when it has ended.") from None
        finally:
            os.close(handle)
