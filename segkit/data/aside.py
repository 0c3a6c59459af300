"""Build a run beside its place and swap it in when whole, so that the last good one survives every failure."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segkit.data.store import load_run
from segkit.errors import RunError

PRUNED = ".pruned"  # ending of a folder that is being removed
ASIDE = (".failed", ".replaced", PRUNED)  # endings of folders that are no runs to count


@contextmanager
def build_aside(out: str | Path, *, marker: str = "run.json") -> Iterator[Path]:
    """Hold the place of a run and give an empty folder beside it to build in.

    Takes  the folder the run will have: missing, empty, or an earlier run
    Gives  the path of <out>.building-<process>; what is left of it at the end is removed

    Parameters
    ----------
    mark : the file by which an earlier one is known that may be replaced

    Raises
    ------
    RunError : another run is being built for the same place, or the place holds something else
    """
    out = Path(out)
    _refuse_other_content(out, marker=marker)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: its folder cannot be made ({error.strerror}). Give another --out.") from None
    with _locked(out):
        _tidy(out)
        building = out.with_name(f"{out.name}.building-{os.getpid()}")
        building.mkdir()
        try:
            yield building
        finally:
            shutil.rmtree(building, ignore_errors=True)


def swap_in(building: Path, out: Path) -> None:
    """Put a whole run in its place; the one that was there goes once the new one stands, and is on the disk."""
    for path in [*building.rglob("*"), building]:
        _settle(path)
    replaced = out.with_name(f"{out.name}.replaced")
    if out.exists():
        out.rename(replaced)
    building.rename(out)
    _settle(out.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def keep_failed(building: Path, out: Path) -> Path:
    """Keep a run that failed as <out>.failed, in place of an earlier failure; gives its path."""
    failed = out.with_name(f"{out.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    building.rename(failed)
    return failed


def latest_good(root: str | Path, *, before: str, source: str = "") -> Path | None:
    """The finished run under a folder with the latest as_of that is strictly earlier than a date.

    Takes  a folder of runs; before: ISO date
    Gives  the path of the run, or None when there is none

    Parameters
    ----------
    source : name of the source that it must be of; empty for any
    """
    found = []
    for record in sorted(Path(root).glob("*/run.json")):
        run = load_run(record.parent)
        as_of = run.parameters().get("as_of", "")
        ours = not source or run.parameters().get("source_name") == source
        if run.record().get("outcome") == "done" and ours and as_of and as_of < before:
            found.append((as_of, record.parent.name, record.parent))
    return max(found)[-1] if found else None


def prune(newest: Path, *, keep: int) -> tuple[list[str], list[str]]:
    """Remove older runs of the same source beside a new one.

    A run goes with the state of live segments that went on from it (<run>.live). What stays: runs that failed or are
    being made, runs of other sources, folders that are no run, pilots, and a run whose live state is in use.

    Takes  a run that has just been finished
    Gives  the names of the runs that were removed, and of those that are in use and were not

    Parameters
    ----------
    keep : how many runs stay, the newest by as_of; the new one is always among them
    """
    source = load_run(newest).parameters().get("source_name")
    others = []
    for left in newest.parent.glob(f".*{PRUNED}"):  # of a process that was killed while it removed one
        shutil.rmtree(left, ignore_errors=True)
    for record in sorted(newest.parent.glob("*/run.json")):
        run, folder = load_run(record.parent), record.parent
        ours = run.parameters().get("source_name") == source and run.record().get("outcome") == "done"
        if ours and not folder.is_symlink() and folder.name != newest.name and not folder.name.endswith(ASIDE):
            others.append((run.parameters().get("as_of", ""), folder))
    gone, busy = [], []
    for _, folder in sorted(others)[: max(len(others) - keep + 1, 0)]:
        (gone if _removed(folder) else busy).append(folder.name)
    return gone, busy


def _removed(folder: Path) -> bool:
    """Remove a run with its live state, unless a process is at work on either: whole and at once for who looks."""
    live = folder.with_name(f"{folder.name}.live")
    locks = [folder.with_name(f".{folder.name}.lock"), *sorted(live.glob("*.lock"))]
    handles = [os.open(path, os.O_RDWR) for path in locks if path.is_file()]
    try:
        for handle in handles:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for place in (live, folder):
            if place.exists():
                leaving = place.with_name(f".{place.name}{PRUNED}")
                place.rename(leaving)
                shutil.rmtree(leaving, ignore_errors=True)
        return True
    except BlockingIOError:
        return False
    finally:
        for handle in handles:
            os.close(handle)


def _settle(path: Path) -> None:
    """Wait until a file or folder is on the disk, where a power cut does not reach it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_other_content(out: Path, *, marker: str) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file stands where the run should go. Give another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        raise RunError(f"{out}: the folder holds files but no {marker}, so it is something else. Give another --out.")


def _tidy(out: Path) -> None:
    """Clear what a killed process left; bring back a run that was moved away and not yet replaced."""
    replaced = out.with_name(f"{out.name}.replaced")
    if replaced.exists() and not out.exists():
        replaced.rename(out)
    for left in [replaced, *out.parent.glob(f"{out.name}.building-*")]:
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold a lock that the system frees when the process ends, however it ends."""
    path = out.with_name(f".{out.name}.lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise RunError(f"{out}: it cannot be written ({error.strerror}). Give another --out.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            still_there = path.exists() and os.fstat(handle).st_ino == path.stat().st_ino
        except BlockingIOError:
            still_there = False
        if not still_there:
            raise RunError(f"{out}: another `segkit run` is building this run. Wait for it, or give another --out.")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)
