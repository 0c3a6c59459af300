"""A tool can be left running: refreshes in a row hold memory and disk flat, and so does a live stream."""

import gc
import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from benchmarks.long_life import live_long
from segkit.data.runs import load_run
from segkit.live import book, cockpit, engine, state
from segkit.live.engine import Live
from segkit.live.page import write_page
from segkit.live.stream import Stream
from tests.live.live_runs import AS_OF, as_sent, fixed_events, make_live_run
from tests.live.test_stream import dump

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


PURCHASE = {"timestamp": "2024-03-02T12:00:00Z", "category": "bread", "amount": 12.5}
MOST_BYTES = 60  # of memory for each customer unknown to the run; it was 430
MOST_GROWTH_MB = 25  # with so many of them, of the largest resident memory; it was 43
UNKNOWN = int(os.environ.get("SEGKIT_UNKNOWN", "100000"))


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_live_run(tmp_path_factory.mktemp("live") / "run", fixed_events()).path


def strangers(count: int, *, first: int = 0) -> list[bytes]:
    """One event of each of so many customers unknown to the run."""
    numbers = range(first, first + count)
    return [json.dumps(PURCHASE | {"event_id": f"s{n}", "customer_id": f"stranger-{n}"}).encode() for n in numbers]


def feed(live: Live, lines: list[bytes]) -> None:
    stream = Stream(live, out=io.BytesIO())
    for start in range(0, len(lines), 100):
        stream.feed_lines([*lines[start : start + 100], b""])
    stream.deliver()


def test_live_memory_does_not_grow_with_unknown_customers(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_CACHED", 20), monkeypatch.setattr(book, "MAX_RECENT", 20)
    monkeypatch.setattr(cockpit, "MOST_NEW", 20)
    with Live(small_run, state=tmp_path / "state", commit_every=10**9) as live:
        feed(live, strangers(300))
        live.advance("2024-03-03T12:00:00Z")
        tracemalloc.start()
        feed(live, strangers(200, first=300))
        gc.collect()  # clears the lists of freed tuples, which the interpreter keeps for reuse
        before = tracemalloc.get_traced_memory()[0]
        feed(live, strangers(1_500, first=500))
        live.advance("2024-03-04T12:00:00Z")
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert live.flows()["customers"].sum() == len(live.table()) == 2_000 + len(live.book._row)
    assert grown < 1_500 * MOST_BYTES


def test_what_is_in_memory_changes_nothing(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps(as_sent(row)).encode() for row in fixed_events().rows if row["day"] >= AS_OF]
    lines = [line for pair in zip(strangers(len(lines)), lines, strict=True) for line in pair]
    ticks = [json.dumps({"tick": f"2024-0{month}-{day}"}).encode() for month in (3, 4) for day in (11, 25)]
    step, found = len(lines) // len(ticks), []
    ordered = [x for n, tick in enumerate(ticks) for x in [*lines[n * step : (n + 1) * step], tick]]
    for name, most in (("all", 10_000), ("few", 2)):
        monkeypatch.setattr(engine, "MAX_CACHED", most), monkeypatch.setattr(book, "MAX_RECENT", most)
        monkeypatch.setattr(state, "PAGE_ROWS", most), monkeypatch.setattr(engine, "MAX_PENDING", most)
        with Live(small_run, state=tmp_path / name, commit_every=10**9) as live:
            feed(live, ordered)
            found += [(dump(tmp_path / name), live.flows().sort_values(["begun", "now"]).to_dict("list"), live.active)]
        with Live(small_run, state=tmp_path / name) as again:
            assert again.flows().sort_values(["begun", "now"]).to_dict("list") == found[-1][1]
            assert again.active == found[-1][2] and again.book.expectation_changes() == live.book.expectation_changes()
            counted = again.table().fillna("").groupby(["begun", "now"]).size().to_dict()
            flows = again.flows().fillna("").set_index(["begun", "now"])["customers"].to_dict()
            assert counted == flows and again.table()["active"].sum() >= sum(n for s, n in again.active.items() if s)
    for name in found[0][0]:
        assert found[0][0][name] == found[1][0][name], name
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_state_much_larger_than_memory_wants_takes_no_more_memory(small_run: Path, tmp_path: Path) -> None:
    peaks = []
    for name, count in (("few", 1_000), ("many", UNKNOWN)):
        with Live(small_run, state=tmp_path / name, commit_every=10**9) as live:
            feed(live, strangers(1))
            con = live.state._con  # the others are copies of the first
            copied = {
                "events": "'s-' || n, 'stranger-x' || n, line",
                "places": "'stranger-x' || n, segment, levels, base",
            }
            for table, columns in copied.items():
                numbers = (
                    f"with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {count})"
                )
                row = f"(select * from {table} where customer_id = 'stranger-0' limit 1)"
                con.execute(f"{numbers} insert into {table} select {columns} from numbers, {row}")
        command = [sys.executable, __file__, str(small_run), str(tmp_path / name)]
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        peaks.append(float(subprocess.run(command, capture_output=True, check=True, env=here).stdout.split()[-1]))
    assert peaks[1] - peaks[0] < MOST_GROWTH_MB, peaks


def follow_and_print_peak(run: Path, path: Path) -> None:
    """Start on a state, take in events, age everyone and write the page; then print the most memory in MB."""
    with Live(run, state=path, commit_every=10**9) as live:
        feed(live, [*strangers(5_000, first=1), b'{"tick": "2024-03-05"}'])
        write_page(live, path.with_name("page"))
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) / 1024)


if __name__ == "__main__":
    follow_and_print_peak(Path(sys.argv[1]), Path(sys.argv[2]))
