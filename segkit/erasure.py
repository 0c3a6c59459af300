"""Erase customers from every run, pilot and live state below a reports folder."""

import io
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segkit.data.id_search import (
    HOLDS,
    ID_COLUMN,
    LEFTOVER,
    MAY_HOLD,
    NOT_SEARCHED,
    file_kind,
    find_customers,
    names_any,
    search_file,
)
from segkit.data.io import (
    csv_quoting,
    has_ended,
    read_json,
    read_text_csv,
    try_lock,
    unescape_formula,
    write_bytes,
    write_json,
)
from segkit.data.privacy import ERASURE_FILE, KEY_FILE, add_to_erasure_list, find_erased
from segkit.data.runs import LIST_FOLDER, Run, load_run, load_run_privacy
from segkit.data.sources import remove_spills
from segkit.errors import InputError, RunError
from segkit.experiments.design import pilot_files
from segkit.experiments.pilot import TARGETS_FILE, UNITS_FILE
from segkit.live.state import customer_of, lock_state

RECORD_KEY = "forgotten"  # of run.json and pilot.json
# after all other tables, in this order: an interrupted erasure still finds its customers in them
PURGED_LAST = ("assignments", "days")


def remove_customers(path: Path, ids: Collection[str]) -> bytes:
    """Return the bytes of a Parquet or CSV file without the rows of some customers; other rows do not change."""
    if path.suffix == ".parquet":
        wanted, buffer, file = pa.array(sorted(ids), pa.string()), io.BytesIO(), pq.ParquetFile(path)
        with pq.ParquetWriter(buffer, file.schema_arrow, compression="zstd", write_page_checksum=True) as out:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number)
                is_erased = pc.is_in(rows[ID_COLUMN].cast(pa.string()), value_set=wanted)
                out.write_table(rows.filter(pc.invert(is_erased)))
        return buffer.getvalue()
    table = read_text_csv(path)
    rows = table[~table[ID_COLUMN].map(unescape_formula).isin(ids)]
    return rows.to_csv(index=False, lineterminator="\n", quoting=csv_quoting(rows)).encode("utf-8")


def erase_from_run(run: Run, ids: Collection[str]) -> int:
    """Remove customers from the tables of a run, finished or not; run.json records how many, never who.

    An erasure that was interrupted can be repeated: run.json records the number before and after.

    `ids`: as the tables of the run show them. Returns the number of customers found.
    """
    for leftover in (run.path / "tables").glob(".*.parquet*"):  # of a process that was killed while writing
        leftover.unlink()
    customers_by_table = {path: find_customers(path, ids) for path in table_paths(run)}
    found = set().union(*customers_by_table.values())
    entry = {"customers": 0, "pending": 0, "assignments": [], **run.record().get(RECORD_KEY, {})}
    if not found and not entry["pending"]:
        return 0
    assigned = run.path / "tables" / "assignments.parquet"
    hashes = {sha256(assigned.read_bytes()).hexdigest()} if assigned.is_file() else set()
    entry |= {"pending": max(entry["pending"], len(found)), "assignments": sorted({*entry["assignments"], *hashes})}
    run.update(**{RECORD_KEY: entry})
    for path, customers in customers_by_table.items():
        if customers:
            write_bytes(path, remove_customers(path, ids))
    run.update(**{RECORD_KEY: entry | {"customers": entry["customers"] + entry["pending"], "pending": 0}})
    return entry["pending"]


def table_paths(run: Run) -> list[Path]:
    """Return the tables of a run in the order of their erasure, `PURGED_LAST` at the end."""
    paths = {path.stem: path for path in sorted((run.path / "tables").glob("*.parquet"))}
    last = [name for name in PURGED_LAST if name in paths]
    return [path for name, path in paths.items() if name not in last] + [paths[name] for name in last]


def erasable_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files of a pilot that list customers."""
    return (*pilot_files(folder), TARGETS_FILE, UNITS_FILE)


def customers_in_pilot(folder: Path, ids: Collection[str]) -> set[str]:
    """Return the customers who are in a file of a pilot."""
    return set().union(
        *(find_customers(folder / name, ids) for name in erasable_files(folder) if (folder / name).is_file())
    )


def erase_from_pilot(folder: Path, ids: Collection[str]) -> int:
    """Remove customers from a pilot; pilot.json records how many were erased since the draw.

    The hash of the units is renewed only if they are as drawn: a design that somebody changed is still refused by the
    read-out. An erasure that was interrupted can be repeated.

    Returns the number of customers found.
    """
    facts = read_json(folder / "pilot.json")
    found = customers_in_pilot(folder, ids)
    pending = facts.get("forgetting", {"customers": 0, "units": ""})
    if not found and not pending["customers"]:
        return 0
    files = {name: remove_customers(folder / name, ids) for name in erasable_files(folder) if (folder / name).is_file()}
    hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
    units = folder / UNITS_FILE
    as_drawn = units.is_file() and sha256(units.read_bytes()).hexdigest() in (
        facts["files"].get(UNITS_FILE),
        pending["units"],
    )
    pending = {"customers": max(pending["customers"], len(found)), "units": hashes[UNITS_FILE] if as_drawn else ""}
    write_json(folder / "pilot.json", {**facts, "forgetting": pending})
    for name, content in files.items():
        write_bytes(folder / name, content)
    if not as_drawn:
        hashes[UNITS_FILE] = facts["files"].get(UNITS_FILE, "")
    count = facts.get(RECORD_KEY, 0) + pending["customers"]
    facts = {name: value for name, value in facts.items() if name != "forgetting"}
    write_json(folder / "pilot.json", {**facts, "files": {**facts["files"], **hashes}, RECORD_KEY: count})
    return pending["customers"]


MAGIC = b"SQLite format 3\x00"
STATE_TABLES = {"events", "parked", "places", "changes", "aside", "told"}


def is_state(path: Path) -> bool:
    """Return whether a file is the state of live segments."""
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
    """Remove customers from a state of live segments; an erasure that was interrupted can be repeated.

    Returns the number of customers found. Raises `RunError`: another process uses the state, or it cannot be written.
    """
    handle = lock_state(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as con:
            con.execute("pragma secure_delete = on")  # overwrite freed pages with zeros
            found = _delete(con, ids)
            con.execute("vacuum")  # pages that were freed earlier, and old content of pages in use
            busy = con.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
            if busy:
                raise RunError(
                    f"{path}: another process reads this state, so its log cannot be truncated. Stop it and repeat."
                )
            _rewrite_rejected(con, path)
    except sqlite3.DatabaseError as error:
        raise RunError(f"{path}: the state cannot be written ({error}). Fix this and repeat.") from None
    finally:
        os.close(handle)
    shutil.rmtree(path.with_name(f"{path.name}.past"), ignore_errors=True)  # rebuilt from the run at the next start
    for leftover in path.parent.glob(f"{path.name}.past.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return len(found)


def customers_in_state(path: Path, ids: Collection[str]) -> set[str]:
    """Return the customers who are in a state of live segments or in the history it copied from the run."""
    con = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        found = _customers_with_rows(con, ids)
    finally:
        con.close()
    history_file = path.with_name(f"{path.name}.past") / "known.json"
    known = json.loads(history_file.read_text(encoding="utf-8"))["customers"] if history_file.is_file() else []
    return found | (set(known) & set(ids))


def _customers_with_rows(con: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    found = set()
    for customer_id in ids:
        sql = [f"select 1 from {table} where customer_id = ?" for table in _customer_tables(con)]
        sql.append("select 1 from parked where json_extract(line, '$[1]') = ?")
        if any(con.execute(f"{query} limit 1", (customer_id,)).fetchone() for query in sql):
            found.add(customer_id)
    return found


def _customer_tables(con: sqlite3.Connection) -> list[str]:
    """List the tables of a state that name customers in a column; older states have no triggers."""
    present = {row[0] for row in con.execute("select name from sqlite_master where type = 'table'")}
    return [name for name in ("events", "places", "changes", "waiting", "fired") if name in present]


def _delete(con: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    """Delete the customers from every table, and rejected lines that name them, in one transaction."""
    found = _customers_with_rows(con, ids)
    con.execute("begin immediate")
    last = con.execute("select coalesce(max(id), 0) from changes").fetchone()[0]
    numbered_row = con.execute("select value from told where name = 'numbered'").fetchone()
    # numbers of changes are never reused: consumers recognise repeats by them
    numbered = json.dumps(max(last, json.loads(numbered_row[0]) if numbered_row else 0))
    con.execute("insert or replace into told values ('numbered', ?)", (numbered,))
    for customer_id in ids:
        for table in _customer_tables(con):
            con.execute(f"delete from {table} where customer_id = ?", (customer_id,))
        con.execute("delete from parked where json_extract(line, '$[1]') = ?", (customer_id,))
    for number, reason, line in con.execute("select id, reason, line from aside").fetchall():
        if _customer_of(line) in ids or names_any(f"{reason} {line}", ids):
            con.execute("delete from aside where id = ?", (number,))
    con.execute("commit")
    return found


def _customer_of(line: str) -> str:
    """Return the customer of a rejected line, however the id is written; empty if the line cannot be read."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return customer_of(event) if isinstance(event, dict) else ""


def _rewrite_rejected(con: sqlite3.Connection, path: Path) -> None:
    """Write the file of rejected lines again, from the state."""
    rejected = path.with_name(f"{path.name}.aside.jsonl")
    if not rejected.is_file():
        return
    rows = con.execute("select reason, line from aside order by id").fetchall()
    lines = [json.dumps({"reason": reason, "line": line}, ensure_ascii=False) for reason, line in rows]
    text = "".join(f"{line}\n" for line in lines)
    write_bytes(rejected, text.encode("utf-8", "backslashreplace"))


STAGING_FOLDER = re.compile(r".+\.building-\d+")
UNFINISHED_SUFFIXES = (".csv", ".html", ".json", ".npz", ".parquet", ".sql", ".yaml")  # of files that segkit writes
MAX_LISTED_FILES = 20  # files of others that contain an id, by name
OWN_SUFFIXES = (".html", ".ipynb", ".json", ".png")  # in the folder of a run or pilot: pages without ids
TECHNICAL_SUFFIXES = ("-shm", "-wal", ".lock", ".gitignore")  # empty, or a part of a state
LIMITS_NOTE = (
    "Existing pages, figures and models contain no ids, but their totals still include these customers: run "
    "`segkit run` again to make them without.",
    "Out of reach: exports, files sent to others, changes and triggers that `segkit live` has delivered, copies and "
    "backups, live states in other folders (--reports FOLDER erases there too), and the source itself. Delete the "
    "customers there.",
)


@dataclass(frozen=True)
class ErasureScope:
    """What is below a folder: runs, pilots, live states, remains of killed processes, other files, unread links."""

    runs: tuple[Run, ...]
    pilots: tuple[Path, ...]
    states: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    others: tuple[Path, ...]
    links: tuple[Path, ...]


def erase(ids: Collection[str], *, reports: Path) -> list[str]:
    """Remove customers from all runs, pilots and live states below a folder, and exclude them from later runs.

    Parameters
    ----------
    reports
        The folder; its erasure list (keyed hashes, no ids) applies to all runs below it.

    Returns
    -------
    list of str
        What was done, in lines without ids.

    Raises
    ------
    InputError
        A customer is not found anywhere; nothing was changed.
    RunError
        A run is being built, or a state is in use.
    """
    wanted = sorted({customer_id.strip() for customer_id in ids})
    if not reports.is_dir():
        raise InputError(f"--reports {reports}: no such folder.")
    _refuse_busy(reports, again=False)
    remove_spills()
    scope = _find_scope(reports)
    unknown = sorted(set(wanted) - _stored_customers(scope, wanted) - find_erased(reports, wanted))
    if unknown:
        more = f" (of {len(wanted)} given)" if len(wanted) > 1 else ""
        raise InputError(
            f"{', '.join(unknown)}: not found in any run, pilot or live state below {reports}{more}. Nothing was "
            "changed. Give ids as in the source, or another --reports."
        )
    add_to_erasure_list(reports, wanted)  # first, so that new runs exclude them
    _refuse_busy(reports, again=True)
    lines = [f"{place}: {count:,} removed" for place, count in _erase_everywhere(scope, wanted, root=reports)]
    lines += _describe_others(scope, wanted, root=reports)
    customers = "1 customer is" if len(wanted) == 1 else f"{len(wanted):,} customers are"
    return [*lines, f"{customers} erased below {reports}; {ERASURE_FILE} excludes them from later runs.", *LIMITS_NOTE]


def _describe_others(scope: ErasureScope, ids: Collection[str], *, root: Path) -> Iterator[str]:
    """Name the files of the user that contain an id, or may, and what was not searched."""
    own_folders = {*(run.path for run in scope.runs), *(run.path / "notebooks" for run in scope.runs), *scope.pilots}
    found: dict[str, list[str]] = {HOLDS: [], MAY_HOLD: []}
    unread: set[str] = set()
    for path in scope.others:
        result, made_here = search_file(path, ids), path.parent in own_folders and path.suffix in OWN_SUFFIXES
        if result == HOLDS or (result == MAY_HOLD and not made_here):
            found[result].append(str(path.relative_to(root)))
        elif result == NOT_SEARCHED and not made_here and not path.name.endswith(TECHNICAL_SUFFIXES):
            unread.add(file_kind(path) or path.name)
    if found[HOLDS]:
        yield f"Files of yours that still contain an id: {_listed(found[HOLDS])}. Delete or correct them."
    if found[MAY_HOLD]:
        names = _listed(found[MAY_HOLD])
        yield f"Files of yours that may contain an id (a number or a short word): {names}. Check them."
    if unread:
        yield f"Files of these kinds were not searched: {_listed(sorted(unread))}. Check them."
    if scope.links:
        links = _listed([str(path.relative_to(root)) for path in scope.links])
        yield f"Links that were not followed, because they lead to a folder above: {links}."


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED_FILES:,} more" if len(names) > MAX_LISTED_FILES else ""
    return ", ".join(names[:MAX_LISTED_FILES]) + more


def _walk(root: Path, *, links: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below a root with its file names, sorted; links are followed, each folder is visited once.

    `links`: receives those that are not followed, because they lead to a folder that contains the root.
    """
    top, visited = root.resolve(), set()
    for name, folders, files in os.walk(root, followlinks=True):
        folder, real = Path(name), Path(name).resolve()
        leads_above = folder != root and folder.is_symlink() and top.is_relative_to(real)
        is_inside = folder != root and folder.is_symlink() and real.is_relative_to(top)
        links += [folder] if leads_above else []
        if leads_above or is_inside or real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        yield folder, sorted(files)


def _find_scope(root: Path) -> ErasureScope:
    """Sort everything below a folder into runs, pilots, states, remains of killed processes and other files."""
    links: list[Path] = []
    runs, pilots, files, leftovers = [], [], [], []
    for folder, names in _walk(root, links=links):
        if STAGING_FOLDER.fullmatch(folder.name) or folder.parent in leftovers:
            leftovers.append(folder)  # no process holds its lock, see `_refuse_busy`
            continue
        runs += [load_run(folder)] if "run.json" in names else []
        pilots += [folder] if "pilot.json" in names else []
        leftovers += [folder / name for name in names if _is_leftover(name)]
        if not (folder.name in ("tables", "model") and (folder.parent / "run.json").is_file()):
            files += [folder / name for name in names if (folder / name).is_file() and not _is_leftover(name)]
    states = tuple(path for path in files if is_state(path))
    own_files = {folder / name for folder in pilots for name in erasable_files(folder)}
    own_files |= {path.with_name(f"{path.name}.aside.jsonl") for path in states}
    history_folders = {path.with_name(f"{path.name}.past") for path in states}
    others = [
        path
        for path in files
        if path not in own_files | {*states}
        and not history_folders & set(path.parents)
        and path.name not in (KEY_FILE, ERASURE_FILE)
    ]
    return ErasureScope(
        tuple(runs), tuple(pilots), states, leftovers=tuple(leftovers), others=tuple(others), links=tuple(links)
    )


def _is_leftover(name: str) -> bool:
    """Return whether a file is what a process that is gone had not finished writing."""
    found = LEFTOVER.fullmatch(name)
    return found is not None and Path(found["name"]).suffix in UNFINISHED_SUFFIXES and has_ended(int(found["process"]))


def _stored_customers(scope: ErasureScope, ids: Collection[str]) -> set[str]:
    """Return the customers who are in a run, a pilot or a state."""
    found: set[str] = set()
    for run in scope.runs:
        pseudonyms = _pseudonyms(run, ids)
        for path in table_paths(run):
            found |= {pseudonyms[shown_id] for shown_id in find_customers(path, pseudonyms)}
    for folder in scope.pilots:
        found |= customers_in_pilot(folder, ids)
    for path in scope.states:
        found |= customers_in_state(path, ids)
    for path in scope.leftovers:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            found |= {name for name in ids if file.is_file() and search_file(file, [name]) in (HOLDS, MAY_HOLD)}
    return found


def _erase_everywhere(scope: ErasureScope, ids: Collection[str], *, root: Path) -> Iterator[tuple[str, int]]:
    """Remove customers from each run, pilot and state; yield its path and their number where any were found."""
    for path in scope.leftovers:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for run in scope.runs:
        if not run.path.resolve().is_relative_to(root.resolve()):  # behind a link: no path leads up to the list
            run.update(**{LIST_FOLDER: str(root.absolute())})
        yield from _report_count(run.path, erase_from_run(run, _pseudonyms(run, ids)), root=root)
    for folder in scope.pilots:
        yield from _report_count(folder, erase_from_pilot(folder, ids), root=root)
    for path in scope.states:
        yield from _report_count(path, erase_from_state(path, ids), root=root)


def _report_count(path: Path, count: int, *, root: Path) -> Iterator[tuple[str, int]]:
    if count:
        yield str(path.relative_to(root)), count


def _pseudonyms(run: Run, ids: Collection[str]) -> dict[str, str]:
    """Return the customers by the id that the tables of a run show."""
    privacy = load_run_privacy(run)
    return {privacy.displayed_id(customer_id): customer_id for customer_id in ids}


def _refuse_busy(root: Path, *, again: bool) -> None:
    """Stop while a run, a pilot or a state is being written: erased customers could come back with it."""
    for path in [folder / name for folder, names in _walk(root, links=[]) for name in names]:
        if not (path.name.startswith(".") and path.name.endswith(".lock") or path.name.endswith(".sqlite.lock")):
            continue
        handle = try_lock(path)
        if handle is None:
            done = "The customers are on the erasure list already" if again else "Nothing was changed"
            raise RunError(f"{path}: another process is working there. {done}; try again when it has ended.")
        os.close(handle)
