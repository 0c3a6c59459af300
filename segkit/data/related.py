"""Find tables in the same folder that a key joins to a table of events, such as orders and their lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import ibis

from segkit.data.contract import AS_WRITTEN, column_types, joined_view, typed_view
from segkit.data.expressions import quote
from segkit.data.readers import open_file
from segkit.data.spec import EventTable, FileSpec, Lookup
from segkit.errors import SegkitError

MAX_TABLES = 20  # tables that are looked at
MIN_FOUND = 0.9  # share of rows that must find their key in the other table
KEY_WORDS = ("id", "no", "nr", "key", "code", "sku", "number", "nummer", "email")


@dataclass(frozen=True)
class Related:
    """A table that can be looked up: its key, the columns it adds, whether rows share its lines, and why it fits."""

    path: str
    key: str
    adds: tuple[str, ...]
    shared: bool
    why: str


@dataclass
class Lookups:
    """Tables that can be looked up, all columns they add, those whose values several rows share, and remarks."""

    found: list[Related] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def look_up_related(
    view: str,
    *,
    others: Sequence[Path],
    file_spec: Callable[[Path], FileSpec],
    label: str,
    con: ibis.BaseBackend,
) -> tuple[str, Lookups]:
    """Join the tables that have one row for a key of a view.

    Parameters
    ----------
    view
        Name of the view of the events.
    others
        Files in the same folder.
    file_spec
        Describes a file.
    label
        Name of the table of events, for remarks.
    con
        Connection of the view.

    Returns
    -------
    tuple of str and Lookups
        The joined view, and the tables in it in the order in which they were joined.
    """
    lookups, left = Lookups(), list(others)[:MAX_TABLES]
    while left:
        lookups.notes.clear()  # of the pass before, in which a table was joined that may be the key to others
        for path in left:
            fit = _fit(view, path, file_spec=file_spec, label=label, con=con)
            if isinstance(fit, Related):
                break
            lookups.notes += [fit] if fit else []
        else:
            break
        view = _join(view, fit, spec=file_spec(path), base=path.parent, con=con, number=len(lookups.found))
        lookups.found.append(fit)
        lookups.columns |= set(fit.adds)
        lookups.shared |= set(fit.adds) if fit.shared else set()
        left.remove(path)
    return view, lookups


def _fit(
    view: str,
    path: Path,
    *,
    file_spec: Callable[[Path], FileSpec],
    label: str,
    con: ibis.BaseBackend,
) -> Related | str | None:
    """Return how a table fits: looked up by a key, a remark, or not at all."""
    name = "related"
    try:
        spec = file_spec(path)
        is_text = open_file(spec, base=path.parent, name=name, con=con)
        other = typed_view(name, text={name: spec} if is_text else {}, con=con)
        here, there = _columns(view, con=con), _columns(other, con=con)
        if len({name.lower() for name in here} & {name.lower() for name in there}) > len(there) / 2:
            return None  # the same table once more
        for key in here:
            found = next((column for column in there if column.lower() == key.lower()), None)
            if found is None or not key.lower().endswith(KEY_WORDS):
                continue
            fit = _fit_key(view, other, key=key, found=found, path=path, here=here, there=there, label=label, con=con)
            if fit:
                return fit
    except (SegkitError, duckdb.Error):  # a file of another kind is nothing to speak of
        pass
    return None


def _columns(view: str, *, con: ibis.BaseBackend) -> list[str]:
    return [name for name in column_types(view, con=con) if not name.endswith(AS_WRITTEN)]


def _fit_key(
    view: str,
    other: str,
    *,
    key: str,
    found: str,
    path: Path,
    here: list[str],
    there: list[str],
    label: str,
    con: ibis.BaseBackend,
) -> Related | str | None:
    """Return how a table fits by one key that both have."""
    k, f = f"cast({quote(key)} as varchar)", f"cast({quote(found)} as varchar)"
    rows, values = con.con.execute(f"select count({f}), count(distinct {f}) from {quote(other)}").fetchall()[0]
    share, repeats = con.con.execute(
        f"select avg(case when {k} in (select {f} from {quote(other)}) then 1 else 0 end), "
        f"count({k}) > count(distinct {k}) from {quote(view)} where {quote(key)} is not null"
    ).fetchall()[0]
    if not rows or (share or 0) < MIN_FOUND:
        return None
    if rows == values:
        present = {name.lower() for name in here}
        adds = tuple(name for name in there if name.lower() not in present)
        why = f"one line for each {key}; {share:.0%} of the lines find theirs"
        return Related(path=path.name, key=key, adds=adds, shared=bool(repeats), why=why) if adds else None
    if not repeats:
        return f"{path.name} has several lines for each {key} of {label}: segkit check {path.name} looks up both"
    return None


def _join(view: str, fit: Related, *, spec: FileSpec, base: Path, con: ibis.BaseBackend, number: int) -> str:
    """Join one table to a view; return the name of the joined view."""
    name = f"drafted_{number}"
    con.con.execute(f"create or replace view {quote(name)} as select * from {quote(view)}").fetchall()
    text = {f"{name}_0": spec} if open_file(spec, base=base, name=f"{name}_0", con=con) else {}
    lookup = Lookup(path=fit.path, on={fit.key: fit.key})
    table = EventTable.model_construct(path=fit.path, table=None, lookups=(lookup,))
    return joined_view(table, name=name, text=text, con=con)
