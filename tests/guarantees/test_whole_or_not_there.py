"""A report is whole or not there, and so is everything else that a command writes."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data import io as file_io
from segkit.data import privacy, runs
from segkit.data.io import write_bytes
from segkit.data.runs import load_run, open_run
from segkit.errors import SegkitError
from segkit.export import export
from segkit.export.database import write_table
from segkit.export.newcomers import write_newcomers
from segkit.export.target import read_target
from segkit.live import history
from segkit.live.engine import Live
from segkit.live.page import write_page
from tests.guarantees.hashing import hashes
from tests.live.conftest import small_run  # noqa: F401  a fixture

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
        monkeypatch.setattr(runs, "exchange", lambda *_: False)  # as where the system cannot
        with pytest.raises(OSError, match="stopped here"):
            runs.publish_run(building, out)
    monkeypatch.setattr(Path, "rename", real)
    with runs.stage_run(out):  # the next run puts it right before anything else
        assert hashes(out) == good


def test_a_report_is_on_the_disk_before_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = runs.sync_to_disk
    monkeypatch.setattr(runs, "sync_to_disk", lambda path: (flushed.append(Path(path).name), real(path)))
    removed = []
    monkeypatch.setattr(runs.shutil, "rmtree", lambda path, **_: removed.append((Path(path).name, list(flushed))))
    out = tmp_path / "out"
    with runs.stage_run(out) as building:
        open_run(building, source="shop", as_of="2024-01-01").write_text("whole", "index.html")
        runs.publish_run(building, out)
    before = dict(removed)["out.replaced"]
    assert {"run.json", "index.html", tmp_path.name} <= set(before)


class Disk:
    """A double that notes what is flushed, moved and removed, in order; everything is still done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, Path, Path]] = []
        for module in (file_io, runs, export, history, privacy):
            self._note(monkeypatch, module, "sync_to_disk", kind="sync")
        for name in ("replace", "rename", "link"):
            self._note(monkeypatch, os, name, kind="move")
        self._note(monkeypatch, runs, "exchange", kind="move")
        self._note(monkeypatch, runs.shutil, "rmtree", kind="remove")

    def _note(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str, *, kind: str) -> None:
        real = getattr(module, name)

        def noted(*paths: object, **options: object) -> object:
            done = real(*paths, **options)
            if done is not False:  # an exchange that the system cannot do
                self.log.append((kind, Path(paths[0]), Path(paths[-1])))
            return done

        monkeypatch.setattr(module, name, noted)

    def lost(self) -> list[str]:
        """What a power cut could leave old, empty or gone: each name comes after its content, and each removal last."""
        found = []
        for place, (kind, source, target) in enumerate(self.log):
            before = {path for how, path, _ in self.log[:place] if how == "sync"}
            after = [(how, path) for how, path, _ in self.log[place + 1 :]]
            if kind == "move" and source not in before and not target.name.endswith(".replaced"):
                found.append(f"{target.name}: its content may come later than its name")
            named = next((i for i, (how, path) in enumerate(after) if how == "sync" and path == target.parent), None)
            if kind == "move" and named is None:
                found.append(f"{target.name}: its name may be lost")
            removed = [i for i, (how, path) in enumerate(after) if how == "remove" and path == source]
            if kind == "move" and removed and removed[0] < (named or 0):
                found.append(f"{target.name}: the old one goes before the new one is safe")
        return found


@pytest.mark.parametrize("case", ["file", "swap", "swap in two steps", "export", "history", "erasure list"])
def test_after_a_power_cut_the_old_or_the_new_one_is_there(
    case: str,
    small_run: tuple[runs.Run, object],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, target = tmp_path / "out", read_target("csv")
    rows = pd.DataFrame({name: ["x"] for name in target.columns})
    open_run(out, source="shop", as_of="2024-01-01").update(outcome="done")
    if case == "swap in two steps":
        monkeypatch.setattr(runs, "exchange", lambda *_: False)
    disk = Disk(monkeypatch)
    if case == "file":
        write_bytes(out / "a.json", b"new")
    elif case == "export":
        export.write_files(rows, pd.Series(["S01"]), target=target, out=tmp_path / "export")
    elif case == "history":
        Live(small_run[0].path, state=tmp_path / "state").close()
    elif case == "erasure list":
        privacy.add_to_erasure_list(tmp_path, ["a"])
    else:
        with runs.stage_run(out) as building:
            open_run(building, source="shop", as_of="2024-01-01").write_text("whole", "index.html")
            disk.log.clear()  # files of a folder that is flushed as a whole
            runs.publish_run(building, out)
        assert (out / "index.html").is_file() and [path.name for path in tmp_path.iterdir()] == ["out"]
    assert any(kind == "move" for kind, *_ in disk.log) and disk.lost() == []


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


@pytest.mark.parametrize("spare", [4_000, 40_000])  # nothing can be written; something, and not all
@pytest.mark.parametrize("command", ["database", "place"])
def test_on_a_full_disk_the_result_is_not_there_and_neither_is_half_of_it(
    small_run: tuple[runs.Run, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_disk: Callable[[Path, int], Path],
    command: str,
    spare: int,
) -> None:
    disk = small_disk(tmp_path / "disk", 1_000_000)
    (disk / "full").write_bytes(b"0" * (996_000 - spare))
    monkeypatch.setenv("DISK", str(disk))
    with pytest.raises((SegkitError, OSError), match="No space left") as caught:
        if command == "database":
            rows = pd.DataFrame({"customer_id": [f"c{n}" for n in range(20_000)], "segment": "S01"})
            write_table(rows, url="duckdb://$DISK/x.duckdb?threads=1", as_of="2024-01-01")
        else:
            table = ibis.memtable({"customer_id": [f"{n:09}" for n in range(20_000)], "confidence": 0.5})
            write_newcomers(table, out=disk / "placed.csv")
    assert "--engine" not in str(caught.value) and [path.name for path in disk.iterdir()] == ["full"]


def test_a_key_that_cannot_be_written_leaves_no_half_of_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "sync_to_disk", _full)
    with pytest.raises(OSError, match="No space left"):
        privacy.make_key(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_live_page_that_cannot_be_written_leaves_nothing_half_done(
    small_run: tuple[runs.Run, object],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Live(small_run[0].path, state=tmp_path / "state") as live:
        monkeypatch.setattr(os, "replace", _full)
        with pytest.raises(SegkitError, match="the page cannot be written .No space left"):
            write_page(live, tmp_path / "page")
    assert list((tmp_path / "page").iterdir()) == []


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
