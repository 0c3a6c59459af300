"""A signal at any moment leaves the old result or the new one, the command can be repeated, and no id is left over."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from segkit.cli import main
from segkit.data.io import list_files, read_json, write_json
from segkit.data.runs import Run
from segkit.erasure import erase
from segkit.notebook.chain import run_chain
from tests.guarantees.hashing import hashes, results
from tests.live.conftest import small_run  # noqa: F401  a fixture
from tests.live.live_runs import as_sent
from tests.live.test_stream import dump, lines_of

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
EVERYDAY, ALL = 1, int(os.environ.get("SEGKIT_SIGNALS", "6"))  # signals to each command
RUNS = int(os.environ.get("SEGKIT_SIGNALS", "3"))  # signals to a slow command, which takes half a minute each
SLOW_COMMANDS = ("place", "run")  # not every day
LEFTOVER = re.compile(r"\..+\.\d+|.+\.building-\d+|.+\.replaced|assigning-.*")
COMMANDS = ("export", "place", "pilot", "forget", "live", "run")
DOSES = [
    *[(command, EVERYDAY) for command in COMMANDS if command not in SLOW_COMMANDS],
    *[pytest.param(command, RUNS if command in SLOW_COMMANDS else ALL, marks=pytest.mark.slow) for command in COMMANDS],
]
PATIENCE = 60  # seconds for a kernel to end once its parent is gone
NUMBERS = 'run.write(pd.DataFrame({"customer_id": ["ann"], "value": [run.parameters()["seed"]]}), name="numbers")'
SHOWN = 'run.record_metrics({"value": float(run.table("numbers")["value"].sum())})\nrun.summary()'


@dataclass(frozen=True)
class Case:
    """A command, the folder in which it works, what it reads, and how its result is compared."""

    arguments: list[str]
    folder: Path
    result: Callable[[], Any]
    stdin: str = os.devnull
    cwd: str = "."


@pytest.fixture
def tiny_chain(write_notebook: Callable[..., Path], tmp_path: Path) -> Path:
    """The folder of two notebooks, which `segkit run` takes from the current folder."""
    write_notebook(tmp_path, "01_first", NUMBERS)
    return write_notebook(tmp_path, "00_overview", SHOWN).parent


@pytest.fixture
def make_case(
    shop: Path,
    small_run: tuple[Run, Any],  # noqa: F811
    small_source: Path,
    tiny_chain: Path,
    tmp_path: Path,
) -> Callable[[str, str], Case]:
    """A function that prepares a command in a new folder, with an earlier result where the command replaces one."""

    def make(command: str, name: str) -> Case:
        folder = tmp_path / name
        if command == "run":
            return _run_case(folder, source=small_source, notebooks=tiny_chain)
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


def _run_case(folder: Path, *, source: Path, notebooks: Path) -> Case:
    """`segkit run` over a good run that was made with another seed."""
    earlier = folder.with_name("earlier")
    if not earlier.exists():
        windows = {"lookback_days": 20, "horizon_days": 10, "seed": 8}
        run_chain(source=str(source), out=earlier, notebooks_dir=notebooks, **windows)
    shutil.copytree(earlier, folder / "out")
    given = ["run", "--source", str(source), "--lookback-days", "20", "--horizon-days", "10"]
    return Case([*given, "--out", str(folder / "out")], folder, result=lambda: results(folder / "out"),
                cwd=str(notebooks))  # fmt: skip


def _with_an_old_file(folder: Path) -> Path:
    (folder / "out").mkdir()
    for name in ("csv.csv", "placed.csv"):
        (folder / "out" / name).write_text("customer_id\nold\n")
        list_files({folder / "out" / name}, folder=folder / "out", name=name)
    return folder / "out"


def _finished_files(folder: Path) -> dict[str, str]:
    return {name: content for name, content in hashes(folder).items() if not LEFTOVER.fullmatch(Path(name).name)}


def _tables(run: Path) -> dict[str, str]:
    return {path.stem: pd.read_parquet(path).to_csv() for path in sorted((run / "tables").glob("*.parquet"))}


def _run(arguments: list[str], stdin: str, messages: str, folder: str, cwd: str) -> None:
    """Run a command in this process, which was forked from one that has only imported it."""
    os.environ |= {"TMPDIR": folder, "JUPYTER_RUNTIME_DIR": folder}
    tempfile.tempdir = folder
    os.chdir(cwd)
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
    context.set_forkserver_preload(["tests.guarantees.test_signals", "segkit.export.export"])
    messages, temporary = case.folder.with_name("messages"), case.folder.with_name(f"{case.folder.name}-tmp")
    temporary.mkdir(exist_ok=True)
    process = context.Process(
        target=_run, args=(case.arguments, case.stdin, str(messages), str(temporary), str(Path(case.cwd).resolve()))
    )
    process.start()
    begun = time.monotonic()
    process.join(after if sign else None)
    if sign and process.is_alive():
        os.kill(process.pid, sign)
        process.join()
    _await_end_of_kernels(temporary)
    return process.exitcode, time.monotonic() - begun, messages.read_text() if messages.exists() else ""


def _await_end_of_kernels(temporary: Path) -> None:
    """Wait until no process names a file of the temporary folder: a kernel ends soon after its parent."""
    until = time.monotonic() + PATIENCE
    while left := [p for p in psutil.process_iter(["cmdline"]) if str(temporary) in " ".join(p.info["cmdline"] or ())]:
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.1)


def leftovers(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if LEFTOVER.fullmatch(path.name)]


@pytest.mark.parametrize(("command", "signals"), DOSES)
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
        temporary = case.folder.with_name(f"{case.folder.name}-tmp")
        if sign != signal.SIGKILL:
            assert leftovers(case.folder) == [] == list(temporary.iterdir()), (status, messages)
        if command != "pilot" or case.result() != new:  # a design that is there is never overwritten
            assert run_command(case)[0] == 0
        assert case.result() == new
        if command == "run":
            assert list(temporary.iterdir()) == [], "the next run clears what a killed one left"
        erase([_anyone(case)], reports=case.folder)
        assert leftovers(case.folder) == []
        shutil.rmtree(case.folder)


def _anyone(case: Case) -> str:
    if (case.folder / "out" / "run.json").exists():
        return "ann"
    if (case.folder / "run" / "tables" / "people.parquet").exists():
        return "s01-003"
    return Run(case.folder / "run").table("assignments")["customer_id"].iloc[0]
