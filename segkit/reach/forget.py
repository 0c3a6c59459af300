"""`segkit forget`: customers out of everything that lies below a folder, and out of all that is made there later."""

import fcntl
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from segkit.actions.pilot_forget import FILES, in_pilot, purge_pilot
from segkit.data.purge import customers_in, purge_run, stray, tables_of
from segkit.data.run_source import veil_of
from segkit.data.store import Run, load_run
from segkit.data.veil import KEY_FILE, LIST, listed, put_on_list
from segkit.errors import InputError, RunError
from segkit.reach.live_forget import in_state, is_state, names_any, purge_state

TOLD = 20  # files that may still hold an id, by name
SHORTEST_WORD = 5  # of an id looked for in texts: a shorter one, or a bare number, stands there for other things
TEXTS = {".csv", ".html", ".ipynb", ".json", ".jsonl", ".md", ".tsv", ".txt", ".yaml", ".yml"}
TABLES = {".csv", ".parquet"}
NOT_REACHED = (
    "Pages, figures and models made before hold no ids, and still count these customers among others: run `segkit run` "
    "again to make them without.",
    "Not ours to reach: what was exported or sent out, changes that `segkit live` has printed, copies and backups, and "
    "the source itself. Delete the customers there too.",
)


@dataclass(frozen=True)
class Places:
    """What lies below a folder: runs, pilots, states of live segments, all other files."""

    runs: tuple[Run, ...]
    pilots: tuple[Path, ...]
    states: tuple[Path, ...]
    others: tuple[Path, ...]


def forget(ids: Collection[str], *, reports: Path) -> list[str]:
    """Remove customers from all runs, pilots and live states below a folder, and keep them out of later ones.

    Takes  ids of customers, as the source has them
    Gives  what was done, in lines; no id stands in them

    Parameters
    ----------
    reports : the folder; its list of the forgotten (marks, no ids) holds for all runs below it

    Raises
    ------
    InputError : a customer of whom nothing is known there; nothing was changed
    RunError : a run is being made or a state is in use; nothing was changed
    """
    wanted = sorted({one.strip() for one in ids})
    if not reports.is_dir():
        raise InputError(f"--reports {reports}: there is no such folder.")
    _refuse_busy(reports, again=False)
    scope = _places(reports)
    unknown = sorted(set(wanted) - _known(scope, wanted) - listed(reports, wanted))
    if unknown:
        more = f" (of {len(wanted)} given)" if len(wanted) > 1 else ""
        raise InputError(
            f"{', '.join(unknown)}: not known in any run, pilot or live state below {reports}{more}. Nothing was "
            "changed. Give ids as the source has them, or another --reports."
        )
    put_on_list(reports, wanted)  # first: what is made from here on is made without them
    _refuse_busy(reports, again=True)
    lines = [f"{place}: {count:,} removed" for place, count in _purge(scope, wanted, root=reports)]
    holding = [str(path.relative_to(reports)) for path in scope.others if _holds(path, wanted)]
    if holding:
        more = f" and {len(holding) - TOLD:,} more" if len(holding) > TOLD else ""
        lines.append(f"Files of yours that still hold an id: {', '.join(holding[:TOLD])}{more}. Delete or mend them.")
    who = "1 customer is" if len(wanted) == 1 else f"{len(wanted):,} customers are"
    return [*lines, f"{who} forgotten below {reports}, and kept out by {LIST}.", *NOT_REACHED]


def _places(root: Path) -> Places:
    """Everything below a folder, by what it is."""
    runs = tuple(load_run(path.parent) for path in sorted(root.rglob("run.json")))
    pilots = tuple(path.parent for path in sorted(root.rglob("pilot.json")))
    inside = [run.path / part for run in runs for part in ("tables", "model")]
    files = [path for path in stray(root, own_folders=inside) if path.is_file() and not path.is_symlink()]
    states = tuple(path for path in files if is_state(path))
    ours = {folder / name for folder in pilots for name in FILES}
    ours |= {path.with_name(f"{path.name}.aside.jsonl") for path in states}
    history_folders = {path.with_name(f"{path.name}.past") for path in states}
    others = [
        path for path in files if path not in ours and not history_folders & set(path.parents) and path.name != KEY_FILE
    ]
    return Places(runs=runs, pilots=pilots, states=states, others=tuple(others))


def _known(scope: Places, ids: Collection[str]) -> set[str]:
    """Those of the customers of whom anything is kept."""
    found: set[str] = set()
    for run in scope.runs:
        shown = _shown(run, ids)
        for path in tables_of(run):
            found |= {shown[one] for one in customers_in(path, shown)}
    for folder in scope.pilots:
        found |= in_pilot(folder, ids)
    for path in scope.states:
        found |= in_state(path, ids)
    return found


def _purge(scope: Places, ids: Collection[str], *, root: Path) -> Iterator[tuple[str, int]]:
    """Remove customers place by place; gives each place they were in, and how many they were."""
    for run in scope.runs:
        yield from _told(run.path, purge_run(run, _shown(run, ids)), root=root)
    for folder in scope.pilots:
        yield from _told(folder, purge_pilot(folder, ids), root=root)
    for path in scope.states:
        yield from _told(path, purge_state(path, ids), root=root)


def _told(path: Path, count: int, *, root: Path) -> Iterator[tuple[str, int]]:
    if count:
        yield str(path.relative_to(root)), count


def _shown(run: Run, ids: Collection[str]) -> dict[str, str]:
    """The customers by the id that the tables of a run show."""
    privacy = veil_of(run)
    return {privacy.displayed_id(one): one for one in ids}


def _holds(path: Path, ids: Collection[str]) -> bool:
    """Whether another file still holds an id: as a customer_id of a table, or as a word of a text."""
    try:
        if path.suffix in TABLES and customers_in(path, ids):
            return True
        words = [one for one in ids if len(one) >= SHORTEST_WORD and not one.isdigit()]
        return bool(words) and path.suffix in TEXTS and names_any(path.read_text("utf-8", errors="replace"), words)
    except (OSError, ValueError):
        return False  # not a table that can be read


def _refuse_busy(root: Path, *, again: bool) -> None:
    """Stop while a run or a pilot is being made, or a state is written: what is forgotten could come back with it."""
    for path in sorted([*root.rglob(".*.lock"), *root.rglob("*.sqlite.lock")]):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            done = "The customers are on the list already; forget again" if again else "Nothing was changed. Forget"
            raise RunError(f"{path}: another process is at work there. {done} when it has ended.") from None
        finally:
            os.close(handle)
