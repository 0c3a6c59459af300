"""Does the memory of `segkit live` grow with unknown customers?

    python benchmarks/live_memory.py [--customers 10000 100000 1000000] [--folder DIR]

A run of 2,000 customers, then one event of each of so many others: resident memory as they arrive, and the peak of a
process that starts on that state, counts for its page and ages everyone by a tick.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from live import CATEGORIES, make_run

from segkit.live.engine import Live
from segkit.live.stream import MAX_BATCH_EVENTS, Stream

MEGABYTE = 1024**2
TICK = "2024-07-02T12:00:00Z"
RUN_CUSTOMERS = 2_000


def unknown(first: int, end: int) -> Iterator[list[bytes]]:
    """One event of each customer, in batches."""
    for start in range(first, end, MAX_BATCH_EVENTS):
        numbers = range(start, min(start + MAX_BATCH_EVENTS, end))
        event = {"timestamp": "2024-07-01T10:15:00Z"}
        yield [
            json.dumps({"event_id": f"u{i}", "customer_id": f"unknown-{i:09d}", "order_id": f"u{i}",
                        "category": f"category {i % CATEGORIES}", "amount": 5 + i % 90, **event}).encode()
            for i in numbers
        ]  # fmt: skip


def peak() -> float:
    """The most memory that this process had, in MB; `resource` would count its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def restart(run: Path, state: Path) -> None:
    """Print the CPU-seconds of start, page and tick in this process, and its peak of resident memory; nothing stays."""
    spent, at = [], time.process_time()
    live = Live(run, state=state, commit_every=10**9)
    for work in (lambda: None, live.flows, lambda: live.advance(TICK)):
        work()
        spent.append(time.process_time() - at)
        at = time.process_time()
    print(json.dumps([*spent, peak()]), flush=True)
    os._exit(0)  # without a commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", default="")
    parser.add_argument("--restart", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.restart:
        restart(*given.restart)
    process = psutil.Process()
    with TemporaryDirectory(dir=given.folder or None) as name:
        state = Path(name) / "state"
        run, done = make_run(Path(name), customers=RUN_CUSTOMERS), 0
        print("| unknown customers | resident MB | CPU s | again: start CPU s | page CPU s | tick CPU s | peak MB |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for customers in given.customers:
            start = time.process_time()
            with Live(run, state=state, commit_every=10**9) as live:
                stream = Stream(live, out=io.BytesIO())
                stream._write = lambda lines: [None for _ in lines]  # a consumer on another machine
                for lines in unknown(done, customers):
                    stream.feed_lines(lines)
                stream.deliver()
                resident, spent, done = process.memory_info().rss / MEGABYTE, time.process_time() - start, customers
            command = [sys.executable, __file__, "--restart", str(run), str(state)]
            again = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            columns = [f"{customers:,}", f"{resident:.0f}", f"{spent:.0f}", *(f"{value:.1f}" for value in again[:3])]
            print(f"| {' | '.join(columns)} | {again[3]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
