"""What a month costs on Complete Journey: a full run, a refresh with all its pages, and the decision alone.

usage: python benchmarks/refresh.py [--before 2017-12-01] [--as-of 2018-01-01] [--lookback-days 182] [--keep DIR]
CPU-seconds of each command and all that it started, and of its steps, from run.json. The run before is made first, in
full; with --keep the runs stay in DIR, and one that is there already is not made again.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from segkit.data.runs import load_run

HOME = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print a row for each command, then a row for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="2017-12-01")
    parser.add_argument("--as-of", default="2018-01-01")
    parser.add_argument("--lookback-days", default="182")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = (given.keep or Path(folder)).resolve()
        before, lookback = place / given.before, ("--lookback-days", given.lookback_days)
        if not (before / "run.json").is_file():
            _segkit("--as-of", given.before, *lookback, "--out", before, "--previous", "none")
        asked = ("--as-of", given.as_of, *lookback, "--previous", before)
        full = _segkit(*asked, "--out", place / "full")
        auto = _segkit(*asked, "--auto", "--out", place / "auto")
        only = _segkit(*asked, "--dry-run", "--out", place / "none")
        steps = {name: load_run(place / name).record()["steps"] for name in ("full", "auto")}
        acted = load_run(place / "auto").record()["acted"]
    print("| command | CPU-s | of a full run |\n|---|---|---|")
    rows = (("segkit run", full), (f"segkit run --auto: {acted}", auto), ("segkit run --dry-run", only))
    for name, cpu in rows:
        print(f"| {name} | {cpu:.1f} | {cpu / full:.2f} |")
    print("\n| step | full | --auto |\n|---|---|---|")
    for step in sorted({*steps["full"], *steps["auto"]}):
        print(f"| {step} | {_cpu(steps['full'], step)} | {_cpu(steps['auto'], step)} |")


def _cpu(steps: dict, step: str) -> str:
    return f"{steps[step]['cpu_seconds']:.1f}" if step in steps else ""


def _segkit(*options: str | Path) -> float:
    """CPU-seconds of a run and all that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "segkit", "run", *map(str, options)]
    subprocess.run(command, check=True, capture_output=True, cwd=HOME, env=os.environ | {"PYTHONPATH": str(HOME)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
