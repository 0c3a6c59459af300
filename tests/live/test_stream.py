"""The stream: bad lines are rejected, a kill at any moment loses and duplicates nothing, a full disk is one message."""

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.holdout import Holdout
from segkit.data.runs import Run
from segkit.errors import SegkitError
from segkit.live.engine import Live
from segkit.live.stream import Stream, read_lines
from tests import strategies as made
from tests.live.live_runs import as_sent

MOST_LINES = 140  # of a stream that is killed again and again
STEPS = 500  # about as many as it takes to the end
KILLS = int(os.environ.get("SEGKIT_KILLS", "20"))
TABLES = ("events", "parked", "places", "changes", "aside")


def lines_of(later: made.Events) -> list[str]:
    """The events with a tick each fortnight, and what is no event among them."""
    sent = [json.dumps(as_sent(row)) for row in later.rows]
    bad = ["not json", json.dumps([1]), json.dumps({"customer_id": "x"}), json.dumps({"tick": "soon"})]
    ticks = [json.dumps({"tick": f"2024-0{month}-{day}T12:00:00Z"}) for month in (3, 4, 5) for day in (10, 24)]
    step = max(1, len(sent) // len(ticks))
    found = []
    for i, line in enumerate(sent):
        found += [line] + ([ticks[i // step]] if i % step == step - 1 and i // step < len(ticks) else [])
        found += [bad[i // 20 % 4]] if i % 20 == 0 else []
    return found


def dump(path: Path) -> dict[str, list[tuple]]:
    with sqlite3.connect(path) as con:
        found = {table: con.execute(f"select * from {table} order by 1").fetchall() for table in TABLES}
        found["clock"] = con.execute("select value from told where name = 'clock'").fetchall()
    con.close()
    return found


def follow(run: Run, text: str, **options: Any) -> Any:
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return CliRunner().invoke(main, ["live", str(run.path), *arguments], input=text)


def test_the_page_of_somebody_else_stays(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<h1>Mine</h1>", encoding="utf-8")
    answer = follow(small_run[0], "", state=tmp_path / "state", page=tmp_path)
    assert answer.exit_code == 2 and "another page" in answer.stderr
    assert page.read_text(encoding="utf-8") == "<h1>Mine</h1>"
    page.unlink()
    assert [follow(small_run[0], "", state=tmp_path / "state", page=tmp_path).exit_code for _ in range(2)] == [0, 0]


def test_changes_come_out_as_json_lines_and_bad_lines_are_rejected(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    run, later = small_run
    text = "\n".join([*lines_of(later), "", '{"event_id": "huge", "text": "' + "x" * 2_000_000 + '"}', ""])
    answer = follow(run, text, state=tmp_path / "state", page=tmp_path / "page")
    assert answer.exit_code == 0, answer.output
    changes = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [c["id"] for c in changes] == list(range(1, len(changes) + 1)) and changes
    rejected = [json.loads(line) for line in (tmp_path / "state.aside.jsonl").read_text().splitlines()]
    reasons = " | ".join(row["reason"] for row in rejected)
    for words in (
        "not JSON",
        "not a JSON object",
        "event_id: missing",
        "tick: 'soon' is not a time",
        "1,000,000 bytes",
    ):
        assert words in reasons
    assert len(rejected) == 5 and max(len(row["line"]) for row in rejected) <= 1_000
    assert f"{len(changes)} changes" in answer.stderr and "5 lines rejected" in answer.stderr
    again = follow(run, text, state=tmp_path / "state")
    assert again.stdout == "" and len((tmp_path / "state.aside.jsonl").read_text().splitlines()) == 5


def test_no_change_of_the_holdout_is_written_and_the_page_names_it(
    small_run: tuple[Run, made.Events], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, later = small_run
    held = Holdout(0.5, start=date(2024, 1, 1), end=date(2024, 12, 31))
    text = "\n".join(lines_of(later))
    everyone = [json.loads(line)["customer_id"] for line in follow(run, text, state=tmp_path / "a").stdout.splitlines()]
    monkeypatch.setattr("segkit.live.engine.holdout_if_known", lambda run: held)
    answer = follow(run, text, state=tmp_path / "b", page=tmp_path / "page")
    written = [json.loads(line)["customer_id"] for line in answer.stdout.splitlines()]
    assert held.members(everyone) and written == [one for one in everyone if not held.members([one])]
    assert "Their changes are not written" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"event_id": "e", "timestamp": "2024-03-02"}, "customer_id: missing"),
        ({"event_id": True, "customer_id": "a"}, "event_id: expected text"),
        ({"event_id": "e", "customer_id": "a", "timestamp": "soon"}, "'soon' is not a time"),
        ({"event_id": "e", "customer_id": "a"}, "timestamp: None is not a time"),
        ({"event_id": "e", "customer_id": "a", "timestamp": 10**19}, "is not a time"),
        ({"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "event": "dance"}, "unknown kind 'dance'"),
        ({"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "amount": "1_0"}, "'1_0' is not an amount"),
        ({"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "amount": "\u0663"}, "is not an amount"),
        ({"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "amount": -1}, "amount: -1 is not"),
        ({"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "amount": 10**20}, "is not an amount"),
        (
            {"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "category": [{"x": 1}]},
            "category: expected text",
        ),
        ({"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "private_label": "maybe"}, "true or false"),
        ({"event_id": "\ud800", "customer_id": "a", "timestamp": "2024-03-02"}, "UTF-8"),
    ],
)
def test_an_event_against_the_contract_is_rejected_with_its_reason(
    line: dict[str, Any], words: str, small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    with Live(small_run[0].path, state=tmp_path / "state") as live:
        Stream(live, out=io.BytesIO()).feed_lines([json.dumps(line).encode(), b""])
        ((reason, _),) = live.state.rejected_lines()
        assert words in reason and live.state.counts()["events"] == 0


@pytest.mark.parametrize("amount", ["", " NaN ", float("nan"), None, "-"])
def test_an_event_with_a_missing_amount_counts_as_in_the_batch(
    amount: object, small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    line = {"event_id": "e", "customer_id": "a", "timestamp": "2024-03-02", "amount": amount}
    with Live(small_run[0].path, state=tmp_path / "state") as live:
        Stream(live, out=io.BytesIO()).feed_lines([json.dumps(line).encode(), b""])
        assert live.state.rejected_lines() == [] and live.state.counts()["events"] == 1


def test_a_lost_history_is_made_again_and_an_emptied_state_is_refused(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    run, later = small_run
    wanted = follow(run, "\n".join(lines_of(later)), state=tmp_path / "whole").stdout
    for number, (name, content) in enumerate([("made.json", "{"), ("known.json", ""), ("days_day.npy", "x")]):
        state = tmp_path / f"state{number}"
        follow(run, "", state=state)
        (tmp_path / f"state{number}.past" / name).write_text(content)
        assert follow(run, "\n".join(lines_of(later)), state=state).stdout == wanted, name
    state.write_bytes(b"")
    answer = follow(run, "", state=state)
    assert answer.exit_code == 2 and "the state is empty, so its events are lost" in answer.stderr


def test_half_a_character_does_not_end_the_stream(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    odd = '{"event_id":"s","customer_id":"N","timestamp":"2024-03-02 10:00:00","category":"\\ud800"}'
    bad = odd.replace("2 10", "2\\ud80010")
    lines = [odd, bad, '{"tick":"2024-09-01\\ud80010:00:00"}', *lines_of(small_run[1])[-1:]]
    answer = follow(small_run[0], "\n".join(lines), state=tmp_path / "state")
    assert answer.exit_code == 0, answer.output
    assert [json.loads(line) for line in answer.stdout.splitlines()]
    assert "2 lines rejected" in answer.stderr


def test_lines_are_read_whole_in_any_pieces_and_huge_ones_cut() -> None:
    assert [x for lines in read_lines(io.BytesIO(b"a\n\nb")) for x in lines] == [b"a", b"", b"b"]
    read, write = os.pipe()
    huge = b"x" * 3_000_000
    if os.fork() == 0:
        for part in (b"a\nb", b"b\n", huge, b"\nc"):
            os.write(write, part)
            time.sleep(0.02)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = [x for lines in read_lines(pipe) for x in lines]
    assert [x[:2] for x in found] == [b"a", b"bb", b"xx", b"c"] and 1_000_000 < len(found[2]) < 1_300_000
    os.wait()


def run_and_kill(run: Run, text: Path, *, state: Path, seconds: float | None) -> bytes:
    """Follow the whole input from its beginning in a process, killed after a while; gives what came out."""
    command = [
        sys.executable,
        "-c",
        "from segkit.cli import main; main()",
        "live",
        str(run.path),
        "--state",
        str(state),
    ]
    with text.open("rb") as source, (state.parent / "out").open("wb") as out:
        process = subprocess.Popen(command, stdin=source, stdout=out, stderr=subprocess.PIPE)
        try:
            _, errors = process.communicate(timeout=seconds)
            assert process.returncode == 0, errors
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    return (state.parent / "out").read_bytes()


def test_a_kill_at_any_moment_loses_and_duplicates_nothing(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    """A fork kills itself at a drawn step (a statement, a write); then it starts again from the top."""
    run, later = small_run
    lines = lines_of(later)[:MOST_LINES]
    wanted_out = follow(run, "\n".join(lines), state=tmp_path / "whole" / "state").stdout.splitlines()
    wanted, draw, killed = dump(tmp_path / "whole" / "state"), random.Random(5), 0
    for number in range(KILLS):
        state, seen = tmp_path / str(number) / "state", []
        shutil.copytree(tmp_path / "whole" / "state.past", state.with_name("state.past"))  # no DuckDB in a fork
        killed += die_somewhere(run, lines, state=state, after=draw.randrange(STEPS), seen=seen) == signal.SIGKILL
        assert die_somewhere(run, lines, state=state, after=10**9, seen=seen) == 0
        assert dump(state) == wanted
        assert list(dict.fromkeys(seen)) == wanted_out, "each change comes out, in order; repeats under the same id"
        shutil.rmtree(state.parent)
    assert killed > KILLS / 2


def die_somewhere(run: Run, lines: list[str], *, state: Path, after: int, seen: list[str]) -> int:
    """Follow the stream in a fork that kills itself after so many steps; its exit status, 0 when it got to the end."""
    out = state.parent / "out"
    child = os.fork()
    if child == 0:
        steps = iter(range(after))

        def step(*_: Any) -> None:
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        with out.open("wb") as file, Live(run.path, state=state, commit_every=10**9, sync="normal") as live:
            stream = Stream(live, out=Dying(file, step))
            live.state._con.set_trace_callback(step)  # each statement, so also between the parts of a commit
            for start in range(0, len(lines), 20):
                stream.feed_lines([line.encode() for line in lines[start : start + 20]])
                stream.feed_lines([])
            stream.deliver()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seen += out.read_bytes().decode().splitlines() if out.exists() else []
    return status


class Dying:
    """An output that may kill the process between two lines."""

    def __init__(self, file: Any, step: Any) -> None:
        self._file, self._step = file, step

    def write(self, text: bytes) -> None:
        self._step()
        self._file.write(text)
        self._file.flush()

    def flush(self) -> None:
        self._step()


@pytest.mark.slow
def test_a_process_killed_from_outside_goes_on_where_it_was(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    run, later = small_run
    text = tmp_path / "in.jsonl"
    text.write_text("\n".join(lines_of(later)) + "\n")
    (tmp_path / "whole").mkdir(), (tmp_path / "killed").mkdir()
    run_and_kill(run, text, state=tmp_path / "whole" / "state", seconds=None)
    for seconds in (0.5, 1.0, 1.5, 2.0):
        run_and_kill(run, text, state=tmp_path / "killed" / "state", seconds=seconds)
    run_and_kill(run, text, state=tmp_path / "killed" / "state", seconds=None)
    assert dump(tmp_path / "killed" / "state") == dump(tmp_path / "whole" / "state")


@pytest.mark.slow
def test_an_interrupt_loses_nothing_that_waits_for_its_day(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    """Many events wait for their day, and a tick that counts them is interrupted; then it starts again from the top."""
    run, later = small_run
    row = as_sent(later.rows[0])
    waiting = [
        {**row, "event_id": f"w{n}", "customer_id": f"w{n % 60}", "timestamp": "2024-04-10T12:00:00Z"}
        for n in range(600)
    ]
    lines = [{"tick": "2024-03-05T12:00:00Z"}, *waiting, {"tick": "2024-04-10T12:00:00Z"}]
    text = tmp_path / "lines"
    text.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    (tmp_path / "whole").mkdir()
    run_and_kill(run, text, state=tmp_path / "whole" / "state", seconds=None)
    wanted, stopped = dump(tmp_path / "whole" / "state"), 0
    for number, kind in enumerate([signal.SIGINT, signal.SIGTERM]):
        state = tmp_path / str(number) / "state"
        state.parent.mkdir()
        shutil.copytree(tmp_path / "whole" / "state.past", state.with_name("state.past"))
        stopped += interrupt_the_tick(run, text, state=state, kind=kind)
        run_and_kill(run, text, state=state, seconds=None)
        assert dump(state) == wanted
    assert stopped


def interrupt_the_tick(run: Run, text: Path, *, state: Path, kind: int) -> bool:
    """Send a signal while the last tick counts what waited; return whether the process was still at work."""
    code = (
        "import signal\nfrom segkit.cli import main\nfrom segkit.live.engine import Live\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background of some shells
        "apply, calls = Live._apply, iter(range(200))\n"
        "def slow(self, event):\n"
        "    if next(calls, None) is None: print('tick', file=__import__('sys').stderr, flush=True)\n"
        "    return apply(self, event)\n"
        "Live._apply = slow\nmain()"
    )
    command = [sys.executable, "-c", code, "live", str(run.path), "--state", str(state)]
    with text.open("rb") as source:
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        process.stderr.readline()
        process.send_signal(kind)
        process.communicate(timeout=60)
    return process.returncode == 1


def test_a_full_disk_is_one_message_with_status_1_and_the_state_is_whole(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    run, later = small_run
    with Live(run.path, state=tmp_path / "state"):
        pass  # the past is made while there is room
    text, limit = "\n".join(lines_of(later)), 120_000
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    code += "from segkit.live import state; state.PAGES_IN_WAL = 20; from segkit.cli import main; main()"
    command = [sys.executable, "-c", code, "live", str(run.path), "--state", str(tmp_path / "state")]
    done = subprocess.run(command, input=text * 3, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (message,) = done.stderr.splitlines()
    assert "cannot be written" in message and "make room" in message.lower() and "Traceback" not in message
    follow(run, text, state=tmp_path / "state")
    follow(run, text, state=tmp_path / "whole")
    assert dump(tmp_path / "state") == dump(tmp_path / "whole")


def test_a_closed_output_ends_the_stream_and_its_changes_are_written_again_at_the_next_start(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    class Closed(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    run, later = small_run
    lines = [line.encode() for line in lines_of(later)]
    with Live(run.path, state=tmp_path / "state", commit_every=10**9) as live:
        with pytest.raises(SegkitError, match="output: cannot be written"):
            Stream(live, out=Closed()).feed_lines(lines)
            Stream(live, out=Closed()).feed_lines([])  # the pipe is idle
    out = io.BytesIO()
    with Live(run.path, state=tmp_path / "state", commit_every=10**9) as live:
        Stream(live, out=out).deliver()
        assert out.getvalue().decode().splitlines() == [*live.state.changes()] != []


def test_the_second_writer_is_refused_with_status_2(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    with Live(small_run[0].path, state=tmp_path / "state"):
        answer = follow(small_run[0], "", state=tmp_path / "state")
    assert answer.exit_code == 2 and "another process writes this state" in answer.stderr


def test_a_far_tick_is_rejected_and_the_stream_goes_on_and_a_mark_of_the_encoding_is_no_part_of_it(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    lines = lines_of(small_run[1])
    far = [json.dumps({"tick": "2205-01-01"}), json.dumps({"tick": "1969-01-01"}), *lines]
    assert follow(small_run[0], "\ufeff" + "\n".join(far), state=tmp_path / "far").exit_code == 0
    assert follow(small_run[0], "\n".join(lines), state=tmp_path / "near").exit_code == 0
    found, wanted = dump(tmp_path / "far"), dump(tmp_path / "near")
    reasons = [row[2] for row in found.pop("aside")]
    assert "more than the 60 days of the lookback" in reasons[0] and len(reasons) == len(wanted.pop("aside")) + 1
    assert found == wanted
