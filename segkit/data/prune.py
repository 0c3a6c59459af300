"""Remove the older runs of a source."""

import os
import shutil
from pathlib import Path

from segkit.data.io import try_lock
from segkit.data.runs import finished_runs, load_run

PRUNED_SUFFIX = ".pruned"  # ending of a folder that is being removed


def prune_runs(newest: Path, *, keep: int) -> tuple[list[str], list[str]]:
    """Remove older runs of the same source in the folder of a new run, each with its live state (<run>.live).

    Only folders named by the as_of of their run are removed: not failed runs, runs being built, runs of other sources,
    copies under another name, other folders, pilots and runs in use.

    Parameters
    ----------
    newest
        A run that has just finished; it is never removed.
    keep
        Number of runs to keep, the newest by as_of.

    Returns
    -------
    tuple of list of str
        Names of the runs that were removed, and of those that were not because they are in use.
    """
    source = load_run(newest).parameters().get("source_name")
    for leftover in newest.parent.glob(f".*{PRUNED_SUFFIX}"):  # of a process that was killed while it removed one
        shutil.rmtree(leftover, ignore_errors=True)
    others = [
        (as_of, folder)
        for as_of, folder in finished_runs(newest.parent, source=source)
        if folder.name == as_of != newest.name and not folder.is_symlink()  # of another name: somebody put it there
    ]
    removed, in_use = [], []
    for _, folder in others[: max(len(others) - keep + 1, 0)]:
        (removed if _remove_if_idle(folder) else in_use).append(folder.name)
    return removed, in_use


def _remove_if_idle(folder: Path) -> bool:
    """Remove a run and its live state unless a process uses either; each is renamed first, so that it goes at once."""
    live = folder.with_name(f"{folder.name}.live")
    locks = [folder.with_name(f".{folder.name}.lock"), *sorted(live.glob("*.lock"))]
    handles = [try_lock(path) for path in locks if path.is_file()]
    try:
        if None in handles:
            return False
        for path in (live, folder):
            if path.exists():
                pruned = path.with_name(f".{path.name}{PRUNED_SUFFIX}")
                path.rename(pruned)
                shutil.rmtree(pruned, ignore_errors=True)
        return True
    finally:
        for handle in handles:
            if handle is not None:
                os.close(handle)
