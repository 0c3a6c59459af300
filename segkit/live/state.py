"""Store the state of live segments in one SQLite file in WAL mode; a kill at any moment loses and duplicates nothing.

One transaction covers the counted events (their ids identify repeats), the changed segments, the log of changes, the
rejected lines and the clock. Everything else is in the run, which is read-only.
SQLite and not DuckDB: a commit of one event takes a tenth of the CPU, one of 500 half (benchmarks/live.py).
"""

import json
import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from segkit.data.io import try_lock
from segkit.data.values import read_id
from segkit.errors import InputError, RunError, SegkitError

SYNCS = ("full", "normal")
MAX_REJECTED_CHARACTERS = 1_000  # characters stored of a rejected line
CUSTOMER = re.compile(r'"customer_id"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^\s,}\]]+)')
PAGE_ROWS = 1_000  # rows in memory at once
PAGES_IN_WAL = 4_000  # of 4 KB, before they go into the main file
CREATE_TABLES = """
create table if not exists told (name text primary key, value text) without rowid;
create table if not exists events (event_id text primary key, customer_id text, line text) without rowid;
create index if not exists events_of on events (customer_id);
create table if not exists parked (event_id text primary key, day int, line text) without rowid;
create table if not exists places (customer_id text primary key, segment text, levels text, base text) without rowid;
create table if not exists changes (id integer primary key, customer_id text, line text);
create table if not exists waiting (name text, customer_id text, event_id text, at real, due real,
    primary key (name, customer_id)) without rowid;
create table if not exists fired (id integer primary key autoincrement, name text, customer_id text, occasion text,
    at real, left_out text, line text, sent int, unique (name, occasion));
create index if not exists fired_of on fired (customer_id);
create table if not exists aside (id integer primary key, line_hash text unique, reason text, line text);
"""


class State:
    """The state file, open in one process at a time; nothing is durable before `commit`."""

    def __init__(self, path: Path, *, of_run: str, sync: str = "full") -> None:
        """Open a state file, or create it.

        Parameters
        ----------
        of_run
            Fingerprint of the run that the state belongs to.
        sync
            ``full``: a commit is on the disk when it returns, so a power cut loses nothing. ``normal``: it is with the
            system, so kill -9 loses nothing and a power cut the last moments (the file stays whole).

        Raises
        ------
        RunError
            The file is in use by another process, belongs to another run, or is no state.
        """
        if sync not in SYNCS:
            raise InputError(f"sync {sync!r} is unknown. Give {' or '.join(SYNCS)}.")
        self.path = path
        with _translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock_state(path)
            try:
                self._refuse_emptied()
                self._con = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                self._con.execute("pragma journal_mode = wal")
                self._con.execute(f"pragma synchronous = {sync}")
                self._con.execute(f"pragma wal_autocheckpoint = {PAGES_IN_WAL}")
                self._con.executescript(CREATE_TABLES)
                self._con.execute("begin immediate")
                self._require_run(of_run)
            except BaseException:
                os.close(self._lock)
                raise

    def add_events(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Store events: id, customer and line; an id that is already stored stays as it is."""
        with _translate_errors(self.path):
            self._con.executemany("insert or ignore into events values (?, ?, ?)", rows)

    def counted(self, event_ids: Collection[str]) -> set[str]:
        """Return which events were counted."""
        return {row[0] for row in self._rows_in("select event_id from events where event_id in ({})", event_ids)}

    def events_of(self, customer_ids: Collection[str]) -> Iterator[tuple[str, str]]:
        """Iterate over the events of customers: customer and line, those of each in the order of their ids."""
        sql = "select customer_id, line from events where customer_id in ({}) order by customer_id, event_id"
        return self._rows_in(sql, customer_ids)

    def counted_events(self) -> Iterator[tuple[str, str]]:
        """Iterate over the customer and the line of every event, by event id."""
        sql = "select event_id, customer_id, line from events where event_id > ? order by event_id limit ?"
        return (row[1:] for row in self._pages(sql, after=""))

    def customers(self) -> Iterator[str]:
        """Iterate over the customers with an event, sorted."""
        sql = "select distinct customer_id from events where customer_id > ? order by customer_id limit ?"
        return (row[0] for row in self._pages(sql, after=""))

    def park(self, event_id: str, *, day: int, line: str) -> None:
        """Store an event of the future until its day."""
        with _translate_errors(self.path):
            self._con.execute("insert or ignore into parked values (?, ?, ?)", (event_id, day, line))

    def unpark(self, *, until: int) -> Iterator[str]:
        """Remove and yield the parked events up to a day, ordered by day and id."""
        sql = "select event_id, line from parked where day <= ? order by day, event_id limit ?"
        while rows := self._rows(sql, until, PAGE_ROWS):
            with _translate_errors(self.path):
                self._con.executemany("delete from parked where event_id = ?", [row[:1] for row in rows])
            yield from (row[1] for row in rows)

    def set_assignment(
        self, customer_id: str, segment: str | None, *, levels: list[int], base: list[float] | None
    ) -> None:
        """Store the current assignment of a customer."""
        row = (customer_id, segment, json.dumps(levels), json.dumps(base))
        with _translate_errors(self.path):
            self._con.execute("insert or replace into places values (?, ?, ?, ?)", row)

    def assignment(self, customer_id: str) -> tuple[str | None, list[int], list[float] | None] | None:
        """Look up the assignment of a customer; None where it does not differ from the run."""
        found = next(self.assignments(first=customer_id, last=customer_id), None)
        return found and found[1:]

    def assignments(self, *, first: str, last: str) -> Iterator[tuple[str, str | None, list[int], list[float] | None]]:
        """Iterate over customers between two ids whose assignment differs from the run, or who are not in it."""
        for customer_id, segment, levels, base in self._rows(
            "select * from places where customer_id between ? and ?", first, last
        ):
            yield customer_id, segment, json.loads(levels), json.loads(base)

    def assigned_segments(self) -> Iterator[tuple[str, str | None, str]]:
        """Iterate over all of these customers: id, segment, and the levels of their expectations as JSON."""
        sql = "select customer_id, segment, levels from places where customer_id > ? order by customer_id limit ?"
        return self._pages(sql, after="")

    def add_changes(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Append changes to the log: number, customer and line."""
        with _translate_errors(self.path):
            self._con.executemany("insert into changes values (?, ?, ?)", rows)

    def changes(self, *, after: int = 0) -> Iterator[str]:
        """Iterate over the log after a number, one JSON line per change."""
        sql = "select id, line from changes where id > ? order by id limit ?"
        return (row[1] for row in self._pages(sql, after=after))

    def last_change(self) -> int:
        """Return the number of the latest change; 0 if there is none."""
        with _translate_errors(self.path):
            last_id = self._con.execute("select coalesce(max(id), 0) from changes").fetchone()[0]
            return max(last_id, self.get_meta("numbered", 0))  # the last may be of an erased customer

    def reject_line(self, line: str, *, reason: str) -> None:
        """Store a line that cannot be used, once."""
        kept = line[:MAX_REJECTED_CHARACTERS]
        if len(line) > len(kept):  # whose line it is must be known when that customer is erased
            kept = " … ".join([kept, *dict.fromkeys(CUSTOMER.findall(line))])
        row = (sha256(line.encode("utf-8", "replace")).hexdigest(), reason, kept)
        with _translate_errors(self.path):
            self._con.execute("insert or ignore into aside (line_hash, reason, line) values (?, ?, ?)", row)

    def rejected_lines(self, *, after: int = 0) -> list[tuple[str, str]]:
        """Read reason and text of the rejected lines, skipping the first `after`."""
        with _translate_errors(self.path):
            sql = "select reason, line from aside order by id limit -1 offset ?"
            return self._con.execute(sql, (after,)).fetchall()

    def counts(self) -> dict[str, int]:
        """Count events, parked events, changes and rejected lines."""
        tables = {"events": "events", "parked": "parked", "changes": "changes", "rejected": "aside"}
        return {name: self.count(table) for name, table in tables.items()}

    def count(self, table: str) -> int:
        """Count the rows of one table."""
        return self._rows(f"select count(*) from {table}")[0][0]

    def set_meta(self, name: str, value: Any) -> None:
        """Store a named value, such as the clock."""
        with _translate_errors(self.path):
            self._con.execute("insert or replace into told values (?, ?)", (name, json.dumps(value)))

    def get_meta(self, name: str, default: Any) -> Any:
        """Read a named value, or return the default."""
        with _translate_errors(self.path):
            row = self._con.execute("select value from told where name = ?", (name,)).fetchone()
            return default if row is None else json.loads(row[0])

    def _pages(self, sql: str, *, after: str | int) -> Iterator[tuple]:
        """Iterate over rows by a key in the first column; other statements and commits may come in between."""
        while rows := self._rows(sql, after, PAGE_ROWS):
            yield from rows
            after = rows[-1][0]

    def _rows_in(self, sql: str, values: Collection[str]) -> Iterator[tuple]:
        """Iterate over the rows of a statement with a list of values, so many at once."""
        wanted = list(values)
        for start in range(0, len(wanted), PAGE_ROWS):
            part = wanted[start : start + PAGE_ROWS]
            yield from self._rows(sql.format(", ".join("?" * len(part))), *part)

    def _rows(self, sql: str, *values: Any) -> list[tuple]:
        with _translate_errors(self.path):
            return self._con.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> list[tuple]:
        """Run a statement on the tables of triggers, in the open transaction."""
        return self._rows(sql, *values)

    def commit(self) -> None:
        """Make everything since the last commit durable, all or nothing."""
        with _translate_errors(self.path):
            self._con.execute("commit")
            self._con.execute("begin immediate")

    def close(self) -> None:
        """Close the file; what was not committed is discarded."""
        try:
            self._con.close()
        finally:
            os.close(self._lock)

    def _refuse_emptied(self) -> None:
        history = self.path.with_name(f"{self.path.name}.past")  # made after the first commit of the state
        if self.path.is_file() and not self.path.stat().st_size and history.exists():
            raise RunError(
                f"{self.path}: the state is empty, so its events are lost. Restore it from a backup, or remove the "
                "file to begin again."
            )

    def _require_run(self, of_run: str) -> None:
        recorded_run = self.get_meta("run", None)
        if recorded_run is None:
            self.set_meta("run", of_run)
            self.commit()
        elif recorded_run != of_run:
            raise RunError(f"{self.path}: this state goes on from another run. Give another --state, or that run.")


def customer_of(event: Mapping[str, Any]) -> str:
    """Return the customer of an event that may be unusable; empty where it names none."""
    try:
        return read_id(event.get("customer_id", "")) or ""
    except ValueError:
        return ""


def lock_state(path: Path) -> int:
    """Lock a state and return the handle of its lock file, which the caller closes."""
    handle = try_lock(path.with_name(f"{path.name}.lock"), create=True)
    if handle is None:
        raise RunError(f"{path}: another process writes this state. Stop it, or give another --state.")
    return handle


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite or the disk into one message."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error) or "malformed" in str(error):
            raise RunError(f"{path}: not a state of live segments ({error}). Give another --state.") from None
        raise SegkitError(
            f"{path}: the state cannot be written ({error}). What was committed is safe: make room, and start again "
            "with the same input."
        ) from None
    except OSError as error:
        raise SegkitError(
            f"{path}: the state cannot be written ({error.strerror}). Make room, or fix the permissions."
        ) from None
