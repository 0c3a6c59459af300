"""A signal at any moment leaves the old result or the new one, the command can be repeated, and no id is left over."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from segkit.cli import main
from segkit.data.io import read_json, write_json
from segkit.data.runs import Run
from segkit.erasure import erase
from tests.guarantees.hashing import hashes
from tests.live.conftest import small_run  # noqa: F401  a fixture
from tests.live.live_runs import as_sent
from tests.live.test_stream import dump, lines_of

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
EVERYDAY, ALL = 1, 40  # signals to each command
LEFTOVER = re.compile(r"\..+\.\d+|.+\.building-\d+|.+\.replaced|assigning-.*")
COMMANDS = ("export", "place", "pilot", "forget", "live")


@dataclass(frozen=True)
class Case:
    """A command, the folder in which it works, what it reads, and how its result is compared."""

    arguments: list[str]
    folder: Path
    result: Callable[[], Any]
    stdin: str = os.devnull


@pytest.fixture
def make_case(shop: Path, small_run: tuple[Run, Any], tmp_path: Path) -> Callable[[str, str], Case]:  # noqa: F811
    """A function that prepares a command in a new folder, with an earlier result where the command replaces one."""

    def make(command: str, name: str) -> Case:
        folder = tmp_path / name
        run = Path(shutil.copytree(small_run[0].path if command in ("live", "place") else shop / "run", folder / "run"))
        if command == "export":
            return Case(["export", str(run), "--to", "csv", "--out", str(_with_an_old_file(folder))], folder,
                        result=lambda: _finished_files(folder / "out"))  # fmt: skip
        if command == "place":
            events = pd.DataFrame([as_sent(row) for row in small_run[1].rows]).drop(columns="event_id")
            events.to_csv(tmp_path / "events.csv", index=False)
            out = _with_an_old_file(folder) / "placed.csv"
            meta = read_json(run / "model" / "model.json")
            write_json(run / "model" / "model.json", {**meta, "needs": ["purchase"]})
            given = ["place", str(run), str(tmp_path / "events.csv"), "--out", str(out), "--as-of", "2024-09-01"]
            return Case(given, folder, result=lambda: _finished_files(folder / "out"))
        if command == "pilot":
            given = ["pilot", str(run), "--segment", "S01", "--out", str(folder / "pilot")]
            return Case(given, folder, result=lambda: _finished_files(folder / "pilot"))
        if command == "forget":
            given = ["forget", "s01-001", "s02-002", "--reports", str(folder)]
            return Case(given, folder, result=lambda: _tables(run))
        (tmp_path / "in.jsonl").write_text("\n".join(lines_of(small_run[1])), encoding="utf-8")
        given = ["live", str(run), "--state", str(folder / "state.sqlite")]
        return Case(given, folder, result=lambda: dump(folder / "state.sqlite"), stdin=str(tmp_path / "in.jsonl"))

    return make


def _with_an_old_file(folder: Path) -> Path:
    (folder / "out").mkdir()
    for name in ("csv.csv", "placed.csv"):
        (folder / "out" / name).write_text("customer_id\nold\n")
    return folder / "out"


def _finished_files(folder: Path) -> dict[str, str]:
    return {name: content for name, content in hashes(folder).items() if not LEFTOVER.fullmatch(Path(name).name)}


def _tables(run: Path) -> dict[str, str]:
    return {path.stem: pd.read_parquet(path).to_csv() for path in sorted((run / "tables").glob("*.parquet"))}


def _run(arguments: list[str], stdin: str, messages: str) -> None:
    """Run a command in this process, which was forked from one that has only imported it."""
    for number, (name, flags) in enumerate([(stdin, os.O_RDONLY), (os.devnull, os.O_WRONLY)]):
        os.dup2(os.open(name, flags), number)
    os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main(arguments, prog_name="segkit")


def run_command(case: Case, *, sign: int = 0, after: float = 0.0) -> tuple[int, float, str]:
    """Run the command, with a signal after some seconds; its exit status, how long it took, and its messages."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.guarantees.test_signals", "segkit.export.export", "segkit.erasure"])
    messages = case.folder.with_name("messages")
    process = context.Process(target=_run, args=(case.arguments, case.stdin, str(messages)))
    process.start()
    begun = time.monotonic()
    process.join(after if sign else None)
    if sign and process.is_alive():
        os.kill(process.pid, sign)
        process.join()
    return process.exitcode, time.monotonic() - begun, messages.read_text() if messages.exists() else ""


def leftovers(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if LEFTOVER.fullmatch(path.name)]


@pytest.mark.parametrize(
    ("command", "signals"),
    [
        *[(command, EVERYDAY) for command in COMMANDS if command != "place"],  # the slowest, and written as the others
        *[pytest.param(command, ALL, marks=pytest.mark.slow) for command in COMMANDS],
    ],
)
def test_a_signal_leaves_the_old_or_the_new_result(
    make_case: Callable[[str, str], Case], tmp_path: Path, command: str, signals: int
) -> None:
    whole, draw = make_case(command, "whole"), random.Random(command)
    status, seconds, messages = run_command(whole)
    assert status == 0, messages
    new = whole.result()
    for number in range(signals):
        case = make_case(command, f"case{number}")
        sign = SIGNALS[(number + COMMANDS.index(command)) % len(SIGNALS)]
        old = None if command in ("live", "forget") else case.result()  # these two go on where they were
        status, _, messages = run_command(case, sign=sign, after=draw.uniform(0.0, 1.1 * seconds))
        assert status in (0, 1, -sign) and "Traceback" not in messages, messages
        if old is not None:
            assert case.result() in (old, new)
        if sign != signal.SIGKILL:
            assert leftovers(case.folder) == [], (status, messages)
        if command != "pilot" or case.result() != new:  # a design that is there is never overwritten
            assert run_command(case)[0] == 0
        assert case.result() == new
        gone = "s01-003" if (case.folder / "run" / "tables" / "people.parquet").exists() else _anyone(case)
        erase([gone], reports=case.folder)
        assert leftovers(case.folder) == []
        shutil.rmtree(case.folder)


def _anyone(case: Case) -> str:
    return Run(case.folder / "run").table("assignments")["customer_id"].iloc[0]
