"""Remove customers from a state of live segments: from its tables, its log, its freed pages and its side file."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Collection
from pathlib import Path

from segkit.data.plain import write_bytes
from segkit.errors import RunError
from segkit.reach.live_state import locked

MAGIC = b"SQLite format 3\x00"
OURS = {"events", "parked", "places", "changes", "aside", "told"}


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
    return table_names >= OURS


def purge_state(path: Path, ids: Collection[str]) -> int:
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
        _write_aside(con, path)
        con.close()
    except sqlite3.DatabaseError as error:
        raise RunError(f"{path}: the state cannot be written ({error}). Mend that, and forget again.") from None
    finally:
        os.close(handle)
    shutil.rmtree(path.with_name(f"{path.name}.past"), ignore_errors=True)  # made anew from the run at the next start
    for left in path.parent.glob(f"{path.name}.past.*"):
        shutil.rmtree(left, ignore_errors=True)
    return len(found)


def in_state(path: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers of whom a state, or what it has taken from the run, knows."""
    con = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        found = _theirs(con, ids)
    finally:
        con.close()
    history_file = path.with_name(f"{path.name}.past") / "known.json"
    begun = json.loads(history_file.read_text(encoding="utf-8"))["customers"] if history_file.is_file() else []
    return found | (set(begun) & set(ids))


def _theirs(con: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    found = set()
    for one in ids:
        sql = [f"select 1 from {table} where customer_id = ?" for table in ("events", "places", "changes")]
        sql.append("select 1 from parked where json_extract(line, '$[1]') = ?")
        if any(con.execute(f"{query} limit 1", (one,)).fetchone() for query in sql):
            found.add(one)
    return found


def _delete(con: sqlite3.Connection, ids: Collection[str]) -> set[str]:
    """One transaction: rows of the customers in every table, and lines set aside that name them."""
    found = _theirs(con, ids)
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


def _write_aside(con: sqlite3.Connection, path: Path) -> None:
    """The side file anew, from what the state still holds."""
    side = path.with_name(f"{path.name}.aside.jsonl")
    if not side.is_file():
        return
    rows = con.execute("select reason, line from aside order by id").fetchall()
    lines = [json.dumps({"reason": reason, "line": line}, ensure_ascii=False) for reason, line in rows]
    text = "".join(f"{line}\n" for line in lines)
    write_bytes(side, text.encode("utf-8", "backslashreplace"))
