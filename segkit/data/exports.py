"""Recognise the tables that common programs export, and draft their columns with the right money."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import yaml

from segkit.data.contract import filled_view
from segkit.data.expressions import quote
from segkit.data.guesses import RawTable
from segkit.errors import SourceError

EXPORTS = Path(__file__).with_name("exports.yaml")
OFF = 0.005  # of the program's own total, from which on a draft says that its amounts add up to something else


@dataclass
class Draft:
    """What the YAML of a source will say: SQL by contract column, with notes on the guesses.

    ``where`` holds conditions, each with its reason; ``fill`` the columns that only the first line of an order holds;
    ``returns`` a second reading of the table, for refunds; ``remarks`` what cannot be taken into account; ``known``
    the program that wrote the table.
    """

    columns: dict[str, str]
    notes: dict[str, str] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    where: list[tuple[str, str]] = field(default_factory=list)
    fill: dict[str, list[str]] = field(default_factory=dict)
    returns: "Draft | None" = None
    remarks: list[str] = field(default_factory=list)
    known: str = ""


def known_export(table: RawTable) -> tuple[RawTable, Draft | None]:
    """Draft the columns of a table that a common program exports, recognised by its column names.

    Returns
    -------
    tuple of RawTable and Draft
        The table, in which each line of an order has what only its first line holds, and the draft; None for a table
        of no program that is known.

    Raises
    ------
    SourceError
        The table of that program cannot carry segments.
    """
    for export in yaml.safe_load(EXPORTS.read_text(encoding="utf-8")):
        if all(any(name in table.kinds for name in _listed(names)) for names in export["has"]):
            if "refuse" in export:
                raise SourceError(f"{table.file.label}: {export['refuse']}")
            return _drafted(export, table=table)
    return table, None


def _drafted(export: dict[str, Any], *, table: RawTable) -> tuple[RawTable, Draft]:
    fill = {
        key: [name for name in names if name in table.kinds and table.samples[name]]
        for key, names in export.get("fill", {}).items()
    }
    fill = {key: names for key, names in fill.items() if names}
    total = _sum(export["total"], table=table) if "total" in export else None
    table = replace(table, view=filled_view(table.view, fill=fill, label=table.file.label, con=table.con))
    draft = Draft(columns={}, known=export["name"], kinds=list(export.get("kinds", [])), fill=fill)
    draft.remarks = list(export.get("remarks", []))
    for column, sqls in export["columns"].items():
        readable = [sql for sql in _listed(sqls) if _is_readable(sql, table=table)]
        draft.columns |= {column: readable[0]} if readable else {}
        if column == "amount" and readable and total is not None:
            sums = {sql: _sum(sql, table=table) or 0.0 for sql in readable}
            nearest = min(readable, key=lambda sql: round(abs(sums[sql] - total), 1))
            draft.columns["amount"] = nearest
            if abs(sums[nearest] - total) > OFF * abs(total):
                own = f"the amounts of all lines add up to {sums[nearest]:,.2f}, and {export['total']} to {total:,.2f}"
                draft.remarks.append(f"{own}: look at the columns of money")
    if "list_price" in export and draft.columns.get("amount") != export["list_price"]:
        draft.columns["discount"] = f"{export['list_price']} - ({draft.columns['amount']})"
    for condition, why in export.get("where", {}).items():
        if _is_readable(condition, table=table):
            left_out = table.rows - table.count(condition)
            draft.where.append((condition, f"{left_out:,} of {table.rows:,} rows {why}" if left_out else ""))
    draft.returns = _returns(export.get("returns"), draft=draft, table=table)
    if draft.returns and draft.kinds:
        draft.kinds = [*draft.kinds, "return"]
    missing = [f"{what} ({name})" for name, what in export.get("wanted", {}).items() if name not in table.kinds]
    if missing:
        draft.remarks.append(f"not taken into account, as the file has no such column: {', '.join(missing)}")
    return table, draft


def _returns(export: dict[str, Any] | None, *, draft: Draft, table: RawTable) -> Draft | None:
    """Draft the second reading of a table, for refunds; None where nothing was refunded."""
    kept = [(condition, "") for condition, _ in draft.where]
    for condition in _listed(export["where"]) if export else []:
        both = " and ".join(f"({one})" for one in [condition, *(one for one, _ in kept)])
        if not _is_readable(condition, table=table) or not table.count(both):
            continue
        columns = {name: draft.columns[name] for name in ("customer_id", "order_id")} | {"event": "'return'"}
        for column, sqls in export["columns"].items():
            columns[column] = next(sql for sql in _listed(sqls) if _is_readable(sql, table=table))
        return Draft(columns=columns, notes=export.get("notes", {}), where=[(condition, ""), *kept])
    return None


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _is_readable(sql: str, *, table: RawTable) -> bool:
    """Return whether a table has all that an expression reads, and it is filled somewhere."""
    try:
        return table.count(f"({sql}) is not null") > 0
    except duckdb.Error:
        return False


def _sum(sql: str, *, table: RawTable) -> float | None:
    """Add up an expression over all rows; None where the table does not have all that it reads."""
    try:
        found = table.con.con.execute(f"select sum({sql}) from {quote(table.view)}").fetchall()[0][0]
    except duckdb.Error:
        return None
    return None if found is None else float(found)
