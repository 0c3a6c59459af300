"""A tool can be left running: refreshes in a row hold memory and disk flat, and only as many runs as asked for stay."""

import shutil
from pathlib import Path

import pytest

from benchmarks.long_life import live_long
from segkit.data.runs import load_run

RUNS, KEEP, SETTLED = 12, 3, 6
MOST_MEMORY = 0.1  # share that memory may grow by, once settled: what allocators keep, not what a leak adds
MOST_DISK = 0.02  # the ledger and the log of decisions grow by a few rows a run


@pytest.mark.slow
def test_refreshes_in_a_row_hold_memory_and_disk_flat(whole_run: Path, tmp_path: Path) -> None:
    as_of = load_run(whole_run).parameters()["as_of"]  # a run under another name is never pruned
    first = Path(shutil.copytree(whole_run, tmp_path / "reports" / as_of))
    table = live_long(load_run(first), runs=RUNS, keep=KEEP, root=first.parent).set_index("run")
    assert table["folders"].max() == KEEP and table["folders"].iloc[-1] == KEEP
    settled, last = table.loc[SETTLED:RUNS].iloc[:3].mean(), table.iloc[-3:].mean()
    assert last["disk_mb"] <= settled["disk_mb"] * (1 + MOST_DISK)
    assert last["memory_mb"] <= settled["memory_mb"] * (1 + MOST_MEMORY)
    assert not [path for path in first.parent.iterdir() if path.name.startswith(".")], "nothing is left lying about"
