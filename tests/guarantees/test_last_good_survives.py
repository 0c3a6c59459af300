"""The last good report survives any failure: kill -9 in every step, two runs at once, no memory; the next run works."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from segkit.data.runs import load_run
from segkit.notebook.steps import find_steps
from tests.guarantees.hashing import hashes

STEPS = [step.name for step in find_steps()]
KILLED = STEPS if "SEGKIT_EXAMPLES" in os.environ else STEPS[1::3]  # three in CI
PATIENCE = 300  # seconds for a kernel to start on a busy machine, and to end once its parent is gone
GIGABYTE = 2**30
pytestmark = pytest.mark.slow


@pytest.fixture
def report(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the good run, to run into again."""
    return Path(shutil.copytree(whole_run, tmp_path / "reports" / "run"))


def begin(source: Path, out: Path, *arguments: str, **options: object) -> subprocess.Popen:
    given = ["run", "--source", str(source), "--out", str(out), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "segkit", *given], **pipes, **options)


def kernel_of(process: subprocess.Popen) -> psutil.Process:
    """The process that executes the notebooks, once it is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):  # one that has just ended
                if "ipykernel" in " ".join(child.cmdline()):
                    return child
        time.sleep(0.05)
    raise AssertionError(f"no kernel: {process.communicate()}")


def test_kill_9_in_every_step_leaves_the_report_and_the_next_run_works(report: Path, made_up_company: Path) -> None:
    before, chance = hashes(report), random.Random(7)
    took = {name: step["seconds"] for name, step in load_run(report).record()["steps"].items()}
    for step in KILLED:
        process = begin(made_up_company, report, "--steps", step[:2])
        kernel = kernel_of(process)
        time.sleep(chance.uniform(0.2, min(took[step], 8.0)))
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)
        process.communicate()
        assert hashes(report) == before or process.returncode == 0, step
        before = hashes(report)
        psutil.wait_procs([kernel], timeout=PATIENCE)
        assert not kernel.is_running(), f"{step}: the kernel goes on without its parent"
        assert load_run(report).record()["outcome"] == "done"
    process = begin(made_up_company, report, "--steps", "07")
    out, messages = process.communicate()
    assert process.returncode == 0, messages
    assert out.splitlines()[-1] == str(report / "index.html")
    assert [path.name for path in report.parent.iterdir()] == ["run"], "what the killed left is cleared"


def test_of_two_runs_at_once_one_makes_the_report_and_one_is_refused(report: Path, made_up_company: Path) -> None:
    both = [begin(made_up_company, report, "--steps", "07") for _ in range(2)]
    messages = [process.communicate()[1] for process in both]
    status = sorted(process.returncode for process in both)
    assert status == [0, 2], messages
    message = next(text for process, text in zip(both, messages, strict=True) if process.returncode == 2)
    assert "another `segkit run` is building this run" in message and message.count("\n") == 1
    assert load_run(report).record()["outcome"] == "done" and (report / "index.html").is_file()
    assert [path.name for path in report.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("gigabytes", [1.0, 2.0])  # with less, OpenBLAS waits for memory for ever while it is loaded
def test_without_memory_a_run_ends_in_a_message_and_the_report_is_unchanged(
    report: Path, made_up_company: Path, gigabytes: float
) -> None:
    before, most = hashes(report), int(gigabytes * GIGABYTE)
    process = begin(made_up_company, report, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)))
    messages = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode != 0 and hashes(report) == before, messages
    if process.returncode not in (1, 2):
        return  # so little that the interpreter itself was stopped by the system, before it could print anything
    last = messages.splitlines()[-1]
    assert last.startswith("segkit: ") or "MemoryError" in last or "failed to map segment" in last, messages
