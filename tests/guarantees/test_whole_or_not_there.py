"""A report is whole or not there, and so is everything else that a command writes."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data import runs
from segkit.data.io import write_bytes
from segkit.data.runs import load_run, open_run
from tests.guarantees.hashing import hashes

SPARE_BYTES = 1_000_000  # left on the disk that fills up, in addition to the report


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], Path]]:
    """A function that mounts a disk of so many bytes at a folder; it needs the rights to."""
    mounted = []

    def mount(place: Path, size: int) -> Path:
        place.mkdir()
        asked = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(asked, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let a test mount a small disk")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a.json", b"old")
    monkeypatch.setattr(os, "replace", _full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "a.json", b"new")
    assert hashes(tmp_path) == hashes(tmp_path) and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


@pytest.mark.parametrize("failing", range(2))
def test_a_swap_that_stops_half_way_leaves_one_whole_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    out = tmp_path / "out"
    open_run(out, source="shop", as_of="2024-01-01").update(outcome="done", mark="old")
    good, done = hashes(out), iter(range(9))
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if next(done) == failing:
            raise OSError(errno.EIO, "stopped here")
        return real(self, target)

    with runs.stage_run(out) as building:
        open_run(building, source="shop", as_of="2024-01-01").update(outcome="done", mark="new")
        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(OSError, match="stopped here"):
            runs.publish_run(building, out)
    monkeypatch.setattr(Path, "rename", real)
    with runs.stage_run(out):  # the next run puts it right before anything else
        assert hashes(out) == good


def test_a_report_is_on_the_disk_before_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = runs._fsync
    monkeypatch.setattr(runs, "_fsync", lambda path: (flushed.append(Path(path).name), real(path)))
    removed = []
    monkeypatch.setattr(runs.shutil, "rmtree", lambda path, **_: removed.append((Path(path).name, list(flushed))))
    out = tmp_path / "out"
    with runs.stage_run(out) as building:
        open_run(building, source="shop", as_of="2024-01-01").write_text("whole", "index.html")
        runs.publish_run(building, out)
    before = dict(removed)["out.replaced"]
    assert {"run.json", "index.html", tmp_path.name} <= set(before)


@pytest.mark.parametrize("command", ["export", "pilot"])
def test_a_command_on_a_full_disk_reports_it_and_leaves_nothing(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    out = tmp_path / "out"
    largest = load_run(whole_run).table("assignments")["segment"].value_counts().idxmax()
    given = {
        "export": ["export", whole_run, "--to", "csv", "--out", out],
        "pilot": ["pilot", whole_run, "--segment", largest, "--out", out],
    }
    monkeypatch.setattr(Path, "write_bytes", _full)
    result = CliRunner().invoke(main, [str(part) for part in given[command]])
    assert result.exit_code in (1, 2) and result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert "disk is full" in result.stderr or "No space left" in result.stderr
    assert not [path for path in out.rglob("*") if path.is_file()], "half of it is there"


@pytest.mark.slow
def test_on_a_full_disk_a_run_ends_in_one_message_and_the_report_is_unchanged(
    whole_run: Path, made_up_company: Path, tmp_path: Path, small_disk: Callable[[Path, int], Path]
) -> None:
    size = sum(path.stat().st_size for path in whole_run.rglob("*") if path.is_file())
    disk = small_disk(tmp_path / "disk", int(1.2 * size) + SPARE_BYTES)
    report = Path(shutil.copytree(whole_run, disk / "run"))
    before = hashes(report)
    for steps in (["--steps", "06"], []):  # full when the good run is copied; full in the middle of a new one
        given = ["run", "--source", str(made_up_company), "--out", str(report), *steps]
        result = CliRunner().invoke(main, given)
        last = result.stderr.splitlines()[-1]
        assert result.exit_code == 1 and ("disk is full" in last or "No space left" in last), result.stderr
        assert "Traceback" not in result.stderr and hashes(report) == before


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(
    whole_run: Path, made_up_company: Path, tmp_path: Path, small_disk: Callable[[Path, int], Path]
) -> None:
    disk = small_disk(tmp_path / "disk", 60_000_000)
    report = Path(shutil.copytree(whole_run, disk / "run"))
    before = hashes(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for out in (report, disk / "other", disk / "a" / "b"):
        result = CliRunner().invoke(main, ["run", "--source", str(made_up_company), "--out", str(out)])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "Read-only file system" in result.stderr
    for command in (
        ["export", str(report), "--to", "csv", "--out", str(disk / "o")],
        ["synth", "--out", str(disk / "o")],
    ):
        result = CliRunner().invoke(main, command)
        assert (
            result.exit_code in (1, 2) and result.stderr.count("\n") == 1 and "Read-only file system" in result.stderr
        )
    assert hashes(disk) == before
