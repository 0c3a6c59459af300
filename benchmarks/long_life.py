"""A hundred refreshes in a row with --keep: does memory grow, does the disk?

    python benchmarks/long_life.py                 # a made-up shop of 400 customers, 100 days, a refresh a day
    python benchmarks/long_life.py --runs 20

The first run is the chain as far as the segments. A refresh is what `segkit run --auto` does up to the decision, in
this one process: new events merged into stored days, every customer assigned under the previous segments, the results
written into a run that is built in staging and swapped in, older runs pruned. Drawing and rendering are left out: they
end with their kernel.
"""

import argparse
import gc
import os
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import psutil

from segkit.customers.described import update_customers
from segkit.customers.needs import load_needs, need_shares, needs_to_arrays
from segkit.data import sources
from segkit.data.prune import prune_runs
from segkit.data.runs import Run, load_run, open_run, open_run_source, publish_run, stage_run
from segkit.data.synth import write_scenario
from segkit.notebook.chain import run_chain
from segkit.segments import lineage
from segkit.segments.fit import build_training_windows, write_training_windows
from segkit.segments.lineage import read_overrides

MEGABYTE = 1024**2
COLUMNS = ["run", "memory_mb", "disk_mb", "cpu_seconds", "folders"]
UNCHANGED = (
    "segments",
    "frontier",
    "needs",
    "need_things",
    "ablation",
    "favourites",
    "signals",
)  # tables that a refresh takes over or makes alike


def refresh_once(before: Run, place: Path, *, as_of: date, keep: int) -> Run:
    """A run of `as_of` that goes on from another, in its place; older ones are gone."""
    held = before.parameters()
    with stage_run(place) as building:
        asked = held | {"as_of": as_of.isoformat(), "previous": str(before.path)}
        run = open_run(building, step="03_segments", outcome="building", **asked)
        opened = open_run_source(run)
        events = sources.read_events(opened, con=sources.connect())
        events = events.filter(events.day < as_of)
        customers, _ = update_customers(events, run=run, previous=before, kinds=opened.kinds)
        now = customers.data
        past = build_training_windows(customers.days, period=run.period, kinds=opened.kinds)
        kept = lineage.assign_with_previous_model(before, now, overrides=read_overrides(""), as_of=as_of.isoformat())
        bought = load_needs(before)
        run.write(now.features.join(need_shares(bought, now)), "features")
        write_training_windows(run, past)
        run.write(kept.expected.axes.join(kept.expected.outcomes.add_prefix("expected_log_")), "anticipation")
        run.write(kept.coords, "map")
        assignments = kept.assigned.assign(core=kept.core).join(kept.coords)
        run.write(assignments[["segment", "macro_segment", "need", "confidence", "core", "x", "y"]], "assignments")
        for name in filter(before.has, UNCHANGED):
            run.write(before.table(name), name)
        run.write(kept.ledger, "ledger")
        run.write(kept.moves, "moves")
        if bought is not None:
            arrays, meta = needs_to_arrays(bought)
            run.save_model(arrays, meta=meta, part="needs")
        arrays, meta = lineage.reassigned_model_arrays(kept, before)
        run.save_model(arrays, meta=meta)
        run.update(outcome="done")
        publish_run(building, place)
    prune_runs(place, keep=keep)
    return load_run(place)


def live_long(first: Run, *, runs: int, keep: int, root: Path, shown: bool = False) -> pd.DataFrame:
    """So many refreshes, a day apart: run, resident memory and disk in MB, CPU seconds, run folders on the disk."""
    process, run, rows = psutil.Process(os.getpid()), first, []
    for number in range(1, runs + 1):
        began = time.process_time()
        as_of = run.period.as_of + timedelta(days=1)
        run = refresh_once(run, root / as_of.isoformat(), as_of=as_of, keep=keep)
        gc.collect()
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        folders = len(list(root.glob("*/run.json")))
        memory = process.memory_info().rss / MEGABYTE
        rows.append((number, memory, size / MEGABYTE, time.process_time() - began, folders))
        if shown and (number % 10 == 0 or number in (1, 5)):
            print("| " + " | ".join(f"{value:.2f}".removesuffix(".00") for value in rows[-1]) + " |", flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def make_first(folder: Path, *, customers: int, days: int) -> Run:
    """A made-up shop, and its first run, so many days before the shop's events end."""
    source = write_scenario("retail", customers=customers, out=str(folder / "shop"))
    opened = sources.open_source(source)
    last = date.fromisoformat(sources.default_as_of(opened, con=sources.connect()))
    as_of = (last - timedelta(days=days)).isoformat()
    run_chain(source=source, as_of=as_of, out=folder / "reports" / as_of, steps="01-03")
    return load_run(folder / "reports" / as_of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--customers", type=int, default=400)
    parser.add_argument("--keep", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = make_first(Path(folder), customers=asked.customers, days=asked.runs)
        print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
        root = Path(folder) / "reports"
        table = live_long(first, runs=asked.runs, keep=asked.keep, root=root, shown=True)
    print(f"{table['cpu_seconds'].mean():.2f} CPU-seconds a refresh")


if __name__ == "__main__":
    main()
