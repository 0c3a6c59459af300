"""The command line: one message and the right status, a traceback only with --debug."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from segkit.cli import main, run_guarded
from segkit.errors import SegkitError, SourceError
from segkit.notebook import chain


def _answer(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def _failing(error: BaseException) -> Any:
    def run_chain(**_: Any) -> None:
        raise error

    return run_chain


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (SourceError("events: no column 'x'. Name one."), 2, "segkit: events: no column 'x'. Name one."),
        (SegkitError("03_segments: it broke"), 1, "segkit: 03_segments: it broke"),
        (ValueError("line one\nline two"), 1, "segkit: ValueError: line one (--debug shows where)"),
        (KeyboardInterrupt(), 1, "segkit: interrupted"),
    ],
)
def test_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    monkeypatch.setattr(chain, "run_chain", _failing(error))
    answer, debug = _answer("run"), _answer("run", "--debug")
    assert (answer.exit_code, answer.stderr, answer.stdout) == (status, f"{words}\n", "")
    assert debug.exit_code == status and "Traceback" in debug.stderr and words in debug.stderr


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_deletion_is_not_lost(capfd: pytest.CaptureFixture[str], sign: signal.Signals) -> None:
    class Deleted:
        def __del__(self) -> None:
            signal.raise_signal(sign)

    def work() -> None:
        Deleted()
        time.sleep(10)

    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as end:
            run_guarded(work, debug=False)
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    assert end.value.code == 1 and capfd.readouterr().err == "segkit: interrupted\n"


def test_options_arrive_and_the_path_is_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run_chain(**options: Any) -> Path:
        seen.update(options)
        return Path("/reports/index.html")

    monkeypatch.setattr(chain, "run_chain", run_chain)
    given = "--as-of 2018-01-01 --steps 01-04 --proof quick --data d -p floor 0.5 -p on True".split()
    answer = _answer("run", *given, "-p", "words", "a b")
    assert (answer.exit_code, answer.stdout) == (0, "/reports/index.html\n")
    assert seen == {
        "source": "complete_journey",
        "data_dir": "d",
        "as_of": "2018-01-01",
        "language": "en",
        "lookback_days": 182,
        "horizon_days": 91,
        "out": None,
        "steps": "01-04",
        "previous": None,
        "engine": "duckdb",
        "mode": "",
        "seed": 7,
        "pseudonymise": False,
        "keep": None,
        "show_code": False,
        "parameters": {"floor": 0.5, "on": True, "words": "a b", "proof": "quick"},
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--sede", "3"], "No such option"),
        (["run", "--lookback-days", "0"], "not in the range"),
        (["run", "--seed", "-1"], "not in the range"),
        (["run", "--proof", "half"], "is not one of"),
        (["run", "-p", "proof", "unknown"], "-p proof unknown: give quick or full"),
        (["run", "-p", "proof", "1"], "-p proof 1: give quick or full"),
        (["run", "--out", ""], "--out': it is blank"),
        (["export", "run", "--out", ""], "--out': it is blank"),
        (["place", "run", "events.csv", "--out", " "], "--out': it is blank"),
        (["synth", "--out", ""], "--out': it is blank"),
        (["pilot", "run", "--out", ""], "--out': it is blank"),
        (["readout", "pilot", "outcomes.csv", "--out", ""], "--out': it is blank"),
        (["forget", "--reports", "", "4711"], "--reports': it is blank"),
        (["rnu"], "No such command"),
    ],
)
def test_misspelt_options_are_refused(arguments: list[str], words: str) -> None:
    answer = _answer(*arguments)
    assert answer.exit_code == 2 and words in answer.stderr and "Traceback" not in answer.stderr


def test_missing_source_file_is_named() -> None:
    answer = _answer("run", "--source", "nowhere.yaml")
    assert answer.exit_code == 2 and "nowhere.yaml" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("sparkle", "not an engine. Use duckdb, local[2]"),
        ("spark://127.0.0.1:1", "no Spark master answers"),
        ("postgres://ann:secret@127.0.0.1:1/db", "must not contain a password"),
        ("postgres://ann@127.0.0.1:1/db", "no connection"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused_in_one_line(
    small_source: Path, tmp_path: Path, engine: str, words: str
) -> None:
    answer = _answer("run", "--source", str(small_source), "--out", str(tmp_path / "run"), "--engine", engine)
    assert answer.exit_code == 2 and words in answer.stderr and "secret" not in answer.stderr
    assert answer.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["x" * 300, "/dev/null", "/proc/x", "loop"])
def test_a_path_that_cannot_be_written_is_one_message_with_status_2(shop: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    answer = CliRunner().invoke(main, ["export", str(shop / "run"), "--to", "csv", "--out", str(tmp_path / out)])
    assert answer.exit_code == 2 and answer.stderr.count("\n") == 1 and "Give another path" in answer.stderr


def test_what_cannot_be_read_or_written_ends_in_one_message(shop: Path, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).write_bytes((shop / "events.csv").read_bytes())
    segkit = [sys.executable, "-m", "segkit"]
    with Path("/dev/full").open("w") as full:
        export = ["export", str(shop / "run"), "--to", "csv", "--out", str(tmp_path / "out")]
        done = subprocess.run([*segkit, *export], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "output: cannot be written" in done.stderr
    assert (tmp_path / "out" / "csv.csv").is_file()
    for arguments, words in (
        (["check", tmp_path / os.fsdecode(b"caf\xe9.csv")], "not UTF-8"),
        (["check", shop / "source.yaml", "--lookback-days", "1000000000"], "lookback_days is 1000000000: the calendar"),
        (["run", "--source", shop / "source.yaml", "-p", "none", "-" * 5000 + "1"], "-p none: no notebook"),
    ):
        done = subprocess.run([*segkit, *arguments], stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and words in done.stderr, done.stderr
