"""The whole chain on very many customers, compared with the usual script: CPU, clock, memory, each step.

usage: python benchmarks/end_to_end.py [--rows 5e6 --customers 2e5 --categories 20] [--folder DIR]
       [--no-naive | --at-once]

The lines are made by ../shared/bench/generate_transactions.py, the peer is naive_pipeline.py in the
same folder; where they are missing, the script ends with the reason. Memory is of the command and its children.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import psutil

HOME = Path(__file__).resolve().parents[1]
PEERS = HOME.parent / "shared" / "bench"
SOURCE = """\
name: many
timezone: UTC
kinds: {{purchase: customer}}
events:
  - path: {lines}
    columns: {{customer_id: customer_id, timestamp: ts, category: category, channel: channel, quantity: quantity,
              amount: amount, order_id: epoch(ts), event: "'purchase'"}}
"""
EVERY = 0.5  # seconds between two looks at memory


def main() -> None:
    """Make the lines, run both, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=5e6)
    parser.add_argument("--customers", type=float, default=2e5)
    parser.add_argument("--categories", type=int, default=20, help="20, or a multiple of it")
    parser.add_argument("--folder", type=Path, default=None, help="where lines and runs are kept; by default they go")
    parser.add_argument("--no-naive", action="store_true", help="leave the peer out")
    parser.add_argument("--at-once", action="store_true", help="both at the same time: others' load is then the same")
    asked = parser.parse_args()
    if not PEERS.is_dir():
        print(f"skipped: {PEERS} is not there; it holds what makes the lines, and the peer.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        lines = _lines(folder, rows=int(asked.rows), customers=int(asked.customers), kinds=asked.categories // 20)
        commands = {"segkit run --proof quick": _segkit(folder, lines=lines)}
        if not asked.no_naive:
            commands["naive_pipeline.py"] = _naive(folder, lines=lines)
        each = [commands] if asked.at_once else [{name: command} for name, command in commands.items()]
        rows = [(name, *took) for part in each for name, took in _measured(part, folder=folder).items()]
        rows.sort(reverse=True)
        if len(rows) == 2:
            rows.append(("ratio", *(ours / theirs for ours, theirs in zip(rows[0][1:], rows[1][1:], strict=True))))
        print("| command | CPU-s | clock s | peak GB |\n|---|---|---|---|")
        for name, cpu, clock, peak in rows:
            print(f"| {name} | {cpu:.2f} | {clock:.2f} | {peak:.2f} |")
        _print_steps(folder / "run")


def _lines(folder: Path, *, rows: int, customers: int, kinds: int) -> Path:
    """Make lines of 20 categories of so many kinds; three lines of four are of the kind that the customer prefers."""
    path = folder / f"lines_{rows}_{customers}.parquet"
    if not path.is_file():
        make = [sys.executable, PEERS / "generate_transactions.py", str(rows), str(customers), path]
        subprocess.run(list(map(str, make)), check=True, capture_output=True)
    if kinds <= 1:
        return path
    of_kinds = folder / f"lines_{rows}_{customers}_{20 * kinds}.parquet"
    if not of_kinds.is_file():
        line = "hash(customer_id, epoch(ts), amount)"
        kind = f"case when {line} % 4 < 3 then hash(customer_id) % {kinds} else {line} % {kinds} end"
        query = f"select * replace (category || ' ' || ({kind}) as category) from '{path}'"
        duckdb.execute(f"copy ({query}) to '{of_kinds}' (format parquet)")
    return of_kinds


def _segkit(folder: Path, *, lines: Path) -> list[str | Path]:
    source = folder / "many.yaml"
    source.write_text(SOURCE.format(lines=lines.name), encoding="utf-8")
    options = ["--source", source, "--proof", "quick", "--previous", "none", "--out", folder / "run"]
    return [sys.executable, "-c", "from segkit.cli import main; main()", "run", *options]


def _naive(folder: Path, *, lines: Path) -> list[str | Path]:
    return [sys.executable, PEERS / "naive_pipeline.py", "--transactions", lines, "--out", folder / "naive"]


def _measured(commands: dict[str, list[str | Path]], *, folder: Path) -> dict[str, tuple[float, float, float]]:
    """CPU-seconds of commands and all that they started, seconds on the clock, and peak gigabytes; all at once."""
    start, running, peaks, found = time.perf_counter(), {}, dict.fromkeys(commands, 0), {}
    for number, (name, command) in enumerate(commands.items()):
        with (folder / f"output_{number}.log").open("wb") as output:
            running[name] = subprocess.Popen(list(map(str, command)), cwd=HOME, stdout=output, stderr=output)
    while len(found) < len(running):
        time.sleep(EVERY)
        for name, process in running.items():
            if name in found:
                continue
            peaks[name] = max(peaks[name], _resident(process.pid))
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                process.returncode = os.waitstatus_to_exitcode(status)
                found[name] = used.ru_utime + used.ru_stime, time.perf_counter() - start, peaks[name] / 2**30
                if status:
                    sys.exit(f"{name} failed: {folder}")
    return found


def _resident(pid: int) -> int:
    """Bytes of a process and its descendants that are in memory; what they share counts for each."""
    held = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        with suppress(psutil.NoSuchProcess):
            held += process.memory_info().rss
    return held


def _print_steps(run: Path) -> None:
    """Each step as the run has recorded it."""
    steps = json.loads((run / "run.json").read_text())["steps"]
    print("\n| step | CPU-s | peak MB |\n|---|---|---|")
    for name, step in steps.items():
        print(f"| {name} | {step['cpu_seconds']:.1f} | {step['peak_memory_mb']:,.0f} |")


if __name__ == "__main__":
    main()
