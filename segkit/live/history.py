"""Read customer histories of a run from memory-mapped arrays, those of many customers at once.

The arrays are written once per state, next to it; opening them costs next to nothing, however many customers there are.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.features import day_number
from segkit.data.io import sync_to_disk
from segkit.data.runs import Run
from segkit.live.customer import NEVER, SQUARE_PART, UNIT, FeaturePlan, make_feature_plan

CUSTOMERS_AT_ONCE = 20_000  # read into memory while the arrays are built
FORMAT_VERSION = 3
MIN_MAPPED_BYTES = 1_000
SOURCE_COLUMNS = {  # a column of the days -> the column of the contract that it comes from
    "amount": "amount",
    "discount": "discount",
    "cost": "cost",
    "units": "quantity",
    "private_amount": "private_label",
}


@dataclass(frozen=True)
class CustomerRows:
    """Rows of one table of the run, sorted by customer, with the first row of each customer."""

    starts: np.ndarray
    columns: dict[str, np.ndarray]

    def of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the place of a customer among `numbers` for each of their rows, and the rows; -1 has none."""
        known = numbers >= 0
        first = np.where(known, self.starts[numbers], 0)
        return expand(first, np.where(known, self.starts[numbers + 1] - first, 0))


def expand(first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count up from each first number; return whose each is, and the numbers.

    Examples
    --------
    >>> [column.tolist() for column in expand(np.array([10, 20]), np.array([2, 1]))]
    [[0, 0, 1], [10, 11, 20]]
    """
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of)) + (first - np.cumsum(counts) + counts)[of]


class RunHistory:
    """The customers of a run, by number in the order of their ids: their days, what they bought, and their orders."""

    def __init__(self, folder: Path) -> None:
        metadata = json.loads((folder / "known.json").read_text(encoding="utf-8"))
        self.customers: list[str] = metadata["customers"]
        self.names: dict[str, list[str]] = metadata["names"]
        self._number = {customer: i for i, customer in enumerate(self.customers)}
        self.first_ever = _open(folder, "first_ever")
        self.tables: dict[str, CustomerRows] = {}
        for table, columns in metadata["tables"].items():
            columns_by_name = {name: _open(folder, f"{table}_{name}") for name in columns}
            self.tables[table] = CustomerRows(starts=_open(folder, f"{table}_starts"), columns=columns_by_name)

    def __contains__(self, customer_id: str) -> bool:
        """Return whether the run has history of the customer."""
        return customer_id in self._number

    def number(self, customer_id: str) -> int | None:
        """Return the place of a customer among `customers`; None if the run has no history of them."""
        return self._number.get(customer_id)

    def numbers(self, customer_ids: Iterable[str]) -> np.ndarray:
        """Return the place of each customer among `customers`; -1 if the run has no history of them."""
        return np.array([self._number.get(customer_id, -1) for customer_id in customer_ids], dtype=np.int64)

    def order(self, customer_id: str, order_id: str) -> tuple[int, int | None, int] | None:
        """Look up day, slot and amount of an order in the run; None if it has no such order."""
        number = self._number.get(customer_id)
        if number is None or "day_orders" not in self.tables:
            return None
        rows, wanted = self.tables["day_orders"], _hash_text(order_id)
        first, end = rows.starts[number], rows.starts[number + 1]
        orders = rows.columns["order"][first:end]  # sorted, so that one of very many orders is found at once
        place = int(orders.searchsorted(wanted))
        if place == len(orders) or orders[place] != wanted:
            return None
        found = slice(first + place, first + orders.searchsorted(wanted, "right"))
        day, slot, amount = (rows.columns[name][found] for name in ("day", "slot", "amount"))
        first_slot = int(slot.min())
        return int(day.min()), None if first_slot == NEVER * 24 else first_slot, int(amount.sum())


def feature_plan_of(run: Run, meta: Mapping[str, Any], *, features: tuple[str, ...]) -> FeaturePlan:
    """Derive the feature plan of a run from its tables.

    `features`: features to compute; formulas of others are dropped.
    """
    day_columns = set(run.columns("days"))
    columns = [column for name, column in SOURCE_COLUMNS.items() if name in day_columns]
    columns += ["order_id"] if "order_id" in run.columns("day_orders") else []
    columns += [name for name, table in (("category", "day_categories"), ("channel", "day_channels")) if run.has(table)]
    ends = ("channel_", "_share")
    channels = [f.removeprefix(ends[0]).removesuffix(ends[1]) for f in features
                if f.startswith(ends[0]) and f.endswith(ends[1])]  # fmt: skip
    span = {"timezone": meta["timezone"], "lookback_days": int(meta["lookback_days"])}
    weighs = run.has("day_categories") and "amount" in run.columns("day_categories")
    whole = make_feature_plan(tuple(columns), kinds=meta["kinds"], channels=tuple(channels), weighs=weighs, **span)
    wanted = {*features, "active_days"}
    return replace(whole, formulas=tuple(f for f in whole.formulas if f[0] in wanted))


def fingerprint(run: Run) -> str:
    """Hash the parameters and the model of a run."""
    digest = sha256(json.dumps(run.parameters(), sort_keys=True).encode())
    for name in ("model.json", "arrays.npz"):
        digest.update((run.path / "model" / name).read_bytes())
    return digest.hexdigest()


def open_history(run: Run, folder: Path, *, plan: FeaturePlan, of_run: str) -> RunHistory:
    """Open the history arrays of a run, and build them first if they are missing or outdated.

    Parameters
    ----------
    run
        A run with the tables ``days`` and ``day_orders``.
    folder
        Folder of the arrays, next to the state.
    of_run
        Fingerprint of the run.
    """
    found = _open_stored(folder, of_run=of_run)
    if found is None:
        staging = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        _build_history(run, staging, plan=plan)
        (staging / "made.json").write_text(json.dumps([FORMAT_VERSION, of_run]), encoding="utf-8")
        for path in [*staging.iterdir(), staging]:
            sync_to_disk(path)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
        sync_to_disk(folder.parent)
    return found or RunHistory(folder)


def _open_stored(folder: Path, *, of_run: str) -> RunHistory | None:
    """Open the arrays in a folder; None where there are none of this run, or a part of them is lost."""
    try:
        if json.loads((folder / "made.json").read_text(encoding="utf-8")) == [FORMAT_VERSION, of_run]:
            return RunHistory(folder)
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        pass
    return None


def _build_history(run: Run, folder: Path, *, plan: FeaturePlan) -> None:
    as_of = day_number(run.period.as_of)
    first = run.scan("days")
    first = first.group_by("customer_id").aggregate(day=first.day.min(where=first.own_events > 0).epoch_days())
    first_days = first.to_pandas().sort_values("customer_id", ignore_index=True)
    customer_ids = pd.Index(first_days["customer_id"])
    np.save(folder / "first_ever.npy", first_days["day"].fillna(NEVER).to_numpy(dtype=np.int64))
    since = as_of - plan.lookback_days
    tables, names = {}, {}
    parts = [_day_totals(run, plan=plan, since=since, of=chunk) for chunk in _chunks(customer_ids)]
    tables["days"] = _save(folder, "days", parts, customer_ids=customer_ids)
    for table, name, weight in (("day_categories", "category", "amount"), ("day_channels", "channel", "own_events")):
        if run.has(table):
            parts = [
                _name_weights(run, table, name=name, weight=weight, since=since, of=chunk)
                for chunk in _chunks(customer_ids)
            ]
            names[table] = sorted(set().union(*(part[name].cat.categories for part in parts)))
            coded = [part.assign(name=pd.Index(names[table]).get_indexer(part[name].astype(object))) for part in parts]
            tables[table] = _save(folder, table, [part.drop(columns=name) for part in coded], customer_ids=customer_ids)
    if "order_id" in plan.columns:
        parts = [_order_amounts(run, amount="amount" in plan.columns, of=chunk) for chunk in _chunks(customer_ids)]
        tables["day_orders"] = _save(folder, "day_orders", parts, customer_ids=customer_ids)
    text = json.dumps({"customers": list(customer_ids), "names": names, "tables": tables})
    (folder / "known.json").write_text(text, encoding="utf-8")


def _day_totals(run: Run, *, plan: FeaturePlan, since: int, of: tuple[str, str]) -> pd.DataFrame:
    """Sum each customer's days in integer units; squares in two columns."""
    rows = _days_between(run, "days", of)
    rows = rows.filter(rows.day.epoch_days() >= since)
    *names, last = plan.day_aggregates
    names += [] if last == "amount_squared" else [last]
    scale = dict(zip(plan.names, plan.scales, strict=True))
    aggregates = {name: (rows[name].sum().cast("decimal(38, 4)") * scale[name]).cast("int64") for name in names}
    if last == "amount_squared":
        whole = rows[last].sum().cast("decimal(38, 8)")
        aggregates["square_high"] = (whole * (UNIT**2) / SQUARE_PART).floor().cast("int64")
        aggregates["square_low"] = ((whole * (UNIT**2)) % SQUARE_PART).cast("int64")
    table = rows.group_by("customer_id", day=rows.day.epoch_days().cast("int64")).aggregate(**aggregates)
    return table.to_pandas().sort_values(["customer_id", "day"], ignore_index=True)


def _name_weights(run: Run, table: str, *, name: str, weight: str, since: int, of: tuple[str, str]) -> pd.DataFrame:
    rows = _days_between(run, table, of)
    rows = rows.filter(rows.day.epoch_days() >= since)
    column, unit = (rows[weight], UNIT if weight == "amount" else 1) if weight in rows.columns else (rows.lines, 1)
    found = rows.select("customer_id", name, day=rows.day.epoch_days().cast("int64"), weight=column)
    found = found.mutate(weight=(found.weight.cast("decimal(38, 4)") * unit).cast("int64")).to_pandas()
    return found.sort_values(["customer_id", "day", name], ignore_index=True).astype({name: "category"})


def _order_amounts(run: Run, *, amount: bool, of: tuple[str, str]) -> pd.DataFrame:
    rows = _days_between(run, "day_orders", of)
    if "bought" in rows.columns:  # a run of format 2 also kept what was bought without an order
        rows = rows.filter(rows.bought & rows.order_id.notnull())
    paid = (rows.amount.cast("decimal(38, 4)") * UNIT).cast("int64") if amount else ibis.literal(0).cast("int64")
    slot = rows.slot.fill_null(NEVER * 24)
    found = rows.select("customer_id", "order_id", day=rows.day.epoch_days().cast("int64"), slot=slot, amount=paid)
    table = found.to_pandas()
    table["order"] = np.array([_hash_text(text) for text in table.pop("order_id")], dtype=np.int64)
    return table.sort_values(["customer_id", "order", "day"], ignore_index=True)


def _days_between(run: Run, table: str, of: tuple[str, str]) -> ir.Table:
    rows = run.scan(table)
    return rows.filter((rows.customer_id >= of[0]) & (rows.customer_id <= of[1]))


def _save(folder: Path, table: str, parts: list[pd.DataFrame], *, customer_ids: pd.Index) -> list[str]:
    """Write a table column by column, the daily sums as one matrix; return the column names."""
    number = [customer_ids.get_indexer(part["customer_id"]) for part in parts]
    starts = np.searchsorted(np.concatenate(number), np.arange(len(customer_ids) + 1))
    np.save(folder / f"{table}_starts.npy", starts.astype(np.int64))
    columns = {name: np.concatenate([part[name].to_numpy() for part in parts]) for name in parts[0].columns
               if name != "customer_id"}  # fmt: skip
    if table == "days":
        day = columns.pop("day")
        columns = {"day": day, "sums": np.column_stack(list(columns.values()))}
    for name, values in columns.items():
        np.save(folder / f"{table}_{name}.npy", values)
    return list(columns)


def _open(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    mapped = "r" if path.stat().st_size > MIN_MAPPED_BYTES else None  # an empty array cannot be mapped
    return np.asarray(np.load(path, mmap_mode=mapped, allow_pickle=False))


def _chunks(customer_ids: pd.Index) -> Iterator[tuple[str, str]]:
    for start in range(0, len(customer_ids), CUSTOMERS_AT_ONCE):
        part = customer_ids[start : start + CUSTOMERS_AT_ONCE]
        yield part[0], part[-1]


def _hash_text(text: str) -> int:
    """Hash a text to a number that is the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")
