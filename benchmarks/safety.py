"""What safety costs: a live stream with and without it in pairs, and its share of a finished chain.

    python benchmarks/safety.py RUN [--events 4000] [--pairs 5]

Live: SQLite flushed at each commit (``full``) against never (``off``), in pairs, in CPU-seconds and by the clock.
Chain: the CPU-seconds that the lock, the flush of every file and the check of every table take on a copy of RUN, as a
share of those of its steps.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from live import events, make_run, stream

from segkit.data.io import check_parquet
from segkit.data.runs import publish_run, stage_run
from segkit.live import state as live_state

CUSTOMERS, WARM = 2_000, 1_000


def live_ratios(folder: Path, *, count: int, pairs: int) -> dict[str, list[float]]:
    live_state.SYNCS = (*live_state.SYNCS, "off")  # never flushed, only here
    run = make_run(folder, customers=CUSTOMERS)
    before, found = events(WARM, customers=CUSTOMERS, seed=99), {"CPU": [], "clock": []}
    for number in range(pairs):
        lines, spent = events(count, customers=CUSTOMERS, seed=number), {}
        for sync in ("full", "off") if number % 2 else ("off", "full"):
            spent[sync] = stream(run, lines, before=before, state=folder / f"{number}-{sync}", sync=sync)[:2]
        for place, name in enumerate(found):
            found[name].append(spent["full"][place] / spent["off"][place])
    return found


def chain_shares(run: Path, *, folder: Path, pairs: int) -> tuple[list[float], float]:
    """CPU-seconds of the safety measures, and those of the steps."""
    found, steps = [], json.loads((run / "run.json").read_text())["steps"]
    for number in range(pairs):
        out, spent = folder / f"out{number}", 0.0
        start = time.process_time()
        with stage_run(out) as building:
            spent += time.process_time() - start
            shutil.copytree(run, building, dirs_exist_ok=True)
            start = time.process_time()
            for table in building.glob("tables/*.parquet"):
                check_parquet(table)
            publish_run(building, out)
            spent += time.process_time() - start
        found.append(spent)
    return found, sum(step["cpu_seconds"] for step in steps.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    print("| safety of | measured | cost, median | least | most |\n|---|---|---|---|---|")
    with TemporaryDirectory() as name:
        seconds, whole = chain_shares(given.run, folder=Path(name), pairs=given.pairs)
        shares = [second / whole for second in seconds]
        print(f"| the chain | CPU | {median(shares):.2%} | {min(shares):.2%} | {max(shares):.2%} |")
        for measure, ratios in live_ratios(Path(name), count=given.events, pairs=given.pairs).items():
            costs = [ratio - 1 for ratio in ratios]
            print(f"| live | {measure} | {median(costs):.1%} | {min(costs):.1%} | {max(costs):.1%} |")


if __name__ == "__main__":
    main()
