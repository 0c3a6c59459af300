"""Live segments: events a second with durability on, the time of a commit, the start, and two stores compared.

    python benchmarks/live.py [--customers 100000] [--events 40000] [--folder DIR]

A made-up shop of so many customers, 20 purchases each, and a model of random centres in a balanced space; then events
of the day after: of few customers who come often, and of anyone. CPU-seconds are of this process, one core.
"""

import argparse
import io
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from segkit.customers.anticipation import anticipate, balanced_space
from segkit.customers.days import build_days, write_days
from segkit.customers.features import load_customers
from segkit.data.runs import open_run
from segkit.live.engine import Live
from segkit.live.stream import MAX_BATCH_EVENTS, Stream, rare_collection
from segkit.segments.model import SegmentModel, assign_points, model_to_arrays

AS_OF, LOOKBACK, EACH = date(2024, 7, 1), 182, 20
KINDS = {"purchase": "customer"}
SEGMENTS, BAGS, CATEGORIES, FEW, SMALL = 16, 20, 60, 2_000, 25


def make_run(folder: Path, *, customers: int, seed: int = 7) -> Path:
    rng, rows = np.random.default_rng(seed), customers * EACH
    day = AS_OF.toordinal() - date(1970, 1, 1).toordinal() - 1 - rng.integers(0, LOOKBACK, rows)
    lines = pd.DataFrame({"customer_id": [f"c{i:07d}" for i in rng.integers(0, customers, rows)]})
    lines = lines.assign(day=day.astype("datetime64[D]").astype("datetime64[s]"), hour=rng.integers(6, 22, rows))
    lines = lines.assign(event="purchase", order_id=[f"o{i // 2}" for i in range(rows)], timestamp=lines["day"])
    lines = lines.assign(category=[f"category {i}" for i in rng.integers(0, CATEGORIES, rows)])
    lines = lines.assign(amount=rng.lognormal(2, 1, rows).round(2))
    table = ibis.duckdb.connect().create_table("lines", pa.Table.from_pandas(lines, preserve_index=False))
    table = table.mutate(
        day=table.day.date(), hour=table.hour.cast("int32"), amount=table.amount.cast("decimal(18, 4)")
    )
    run = open_run(folder / "run", source="made", as_of=AS_OF.isoformat(), horizon_days=91, lookback_days=LOOKBACK)
    write_days(run, build_days(table, kinds=KINDS))
    signals = load_customers(run, kinds=KINDS).data
    space = balanced_space(signals.select(np.arange(min(5_000, len(signals.features)))))
    axes = anticipate(space, signals).axes
    drawn = axes.to_numpy()[rng.integers(0, len(axes), SEGMENTS * (BAGS + 1))]
    ids = tuple(f"S{i + 1:02d}" for i in range(SEGMENTS))
    model = SegmentModel(space, ids, ("M1",) * SEGMENTS, drawn[:SEGMENTS], drawn[SEGMENTS:],
                         np.repeat(np.arange(BAGS), SEGMENTS), np.tile(np.arange(SEGMENTS), BAGS))  # fmt: skip
    run.write(assign_points(model, axes).assign(core=True, x=0.0, y=0.0), "assignments")
    run.write(axes, "anticipation")
    arrays, meta = model_to_arrays(model)
    metadata = {"kinds": KINDS, "needs": ["purchase"], "timezone": "Europe/Berlin", "lookback_days": LOOKBACK}
    run.save_model(arrays, meta=meta | metadata)
    return run.path


def events(count: int, *, customers: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    who, paid = rng.integers(0, customers, count), rng.lognormal(2, 1, count).round(2)
    return [
        json.dumps(
            {"event_id": f"{seed}-{i}", "customer_id": f"c{who[i]:07d}", "timestamp": "2024-07-01T10:15:00Z",
             "order_id": f"n{seed}-{i // 2}", "category": f"category {i % CATEGORIES}", "amount": float(paid[i])}
        ).encode()
        for i in range(count)
    ]  # fmt: skip


def stream(
    run: Path, lines: list[bytes], *, before: list[bytes], state: Path, sync: str, commit: int
) -> tuple[float, float, np.ndarray, int]:
    """CPU-seconds, clock seconds, the clock seconds of each commit with its events, and the changes.

    `before` comes first and is not counted: of few customers all are in memory then, as in a stream that runs on.
    """
    with Live(run, state=state, commit_every=10**9, sync=sync) as live, rare_collection() as collect:
        follow, each = Stream(live, out=io.BytesIO()), []
        follow.feed_lines(before)
        follow.deliver()
        changes, cpu, clock = live.last_change, time.process_time(), time.perf_counter()
        for first in range(0, len(lines), commit):
            start = time.perf_counter()
            follow.feed_lines(lines[first : first + commit])
            follow.deliver()
            each.append(time.perf_counter() - start)
            collect()
        return time.process_time() - cpu, time.perf_counter() - clock, np.array(each), live.last_change - changes


def sqlite_alone(lines: list[bytes], *, path: Path, sync: str, commit: int = MAX_BATCH_EVENTS) -> float:
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("pragma journal_mode = wal")
    con.execute(f"pragma synchronous = {sync}")
    con.execute("create table e (event_id text primary key, line text) without rowid")
    start = time.process_time()
    for first in range(0, len(lines), commit):
        con.execute("begin")
        con.executemany("insert into e values (?, ?)", [(f"{first + i}", line) for i, line in enumerate(lines[first : first + commit])])  # fmt: skip # noqa: E501
        con.execute("commit")
    return time.process_time() - start


def duckdb_alone(lines: list[bytes], *, path: Path, commit: int = MAX_BATCH_EVENTS) -> float:
    con = duckdb.connect(str(path), config={"threads": 1})
    con.execute("create table e (event_id text primary key, line text)").fetchall()
    start = time.process_time()
    for first in range(0, len(lines), commit):
        part = lines[first : first + commit]
        ids = [f"{first + i}" for i in range(len(part))]
        rows = pa.table({"event_id": ids, "line": [line.decode() for line in part]})
        con.register("rows", rows)
        con.execute("insert into e select * from rows").fetchall()
        con.unregister("rows")
    return time.process_time() - start


def started(run: Path, *, state: Path) -> tuple[float, float]:
    """Clock and CPU-seconds of `segkit live` on an empty input: a process from start to end."""
    code = (
        "import resource, sys; from segkit.cli import main\ntry: main()\nfinally: print(resource.getrusage(0).ru_utime)"
    )
    command = [sys.executable, "-c", code, "live", str(run), "--state", str(state)]
    start = time.perf_counter()
    done = subprocess.run(command, input=b"", capture_output=True, check=True)
    return time.perf_counter() - start, float(done.stdout)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.folder or None) as name:
        folder = Path(name)
        run, state = make_run(folder, customers=given.customers), folder / "state"
        print("| start | CPU s | clock s |\n|---|---|---|")
        for label in ("first: the days are laid out", "again"):
            clock, cpu = started(run, state=state)
            print(f"| {label} | {cpu:.2f} | {clock:.2f} |")
        print("\n| events of | sync | in a commit | events a CPU s | a clock s | changes | p50 ms | p99 ms | "
              "times a bare insert |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
        runs = [(FEW, "full", MAX_BATCH_EVENTS), (FEW, "full", SMALL), (FEW, "normal", SMALL)]
        runs += [(given.customers, "full", MAX_BATCH_EVENTS), (given.customers, "full", SMALL)]
        for seed, (customers, sync, commit) in enumerate(runs):
            lines = events(given.events, customers=customers, seed=seed)
            before = events(5 * FEW, customers=customers, seed=99) if customers == FEW else []
            cpu, clock, each, changes = stream(run, lines, before=before, state=folder / f"live-{seed}", sync=sync,
                                               commit=commit)  # fmt: skip
            bare = sqlite_alone(lines, path=folder / f"bare-{seed}", sync=sync, commit=commit)
            p50, p99 = np.percentile(each, [50, 99]) * 1e3
            rates = f"{len(lines) / cpu:,.0f} | {len(lines) / clock:,.0f}"
            print(f"| {customers:,} customers | {sync} | {commit} | {rates} | "
                  f"{changes:,} | {p50:.2f} | {p99:.2f} | {cpu / bare:.1f} |")  # fmt: skip
        with Live(run, state=folder / f"live-{len(runs) - 1}") as live:
            cpu, clock = timed(lambda: live.tick("2024-07-02T12:00:00Z"))
        print(f"\nA tick that ages {given.customers:,} customers: {cpu:.1f} CPU-s, {clock:.1f} s by the clock.")
        print("\n| bare inserts, events in a commit | SQLite, CPU-µs an event | DuckDB |\n|---|---|---|")
        for commit in (1, 20, MAX_BATCH_EVENTS):
            lines = events(min(given.events, 400 * commit), customers=given.customers, seed=commit)
            lite = sqlite_alone(lines, path=folder / f"lite-{commit}", sync="full", commit=commit)
            duck = duckdb_alone(lines, path=folder / f"duck-{commit}", commit=commit)
            print(f"| {commit} | {1e6 * lite / len(lines):.1f} | {1e6 * duck / len(lines):.1f} |")


if __name__ == "__main__":
    main()
