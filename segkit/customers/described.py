"""Describe customers while their days are written: what ``features.customer_data`` computes from the days of a run.

The sorted pass has all rows of a customer at once, so nothing is read back from files.
"""

from collections.abc import Mapping
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from segkit.customers.added_days import extend_days, reason_to_rebuild
from segkit.customers.bought import Bought, CustomerData
from segkit.customers.day_sums import Columns, run_sizes, run_starts, run_sums
from segkit.customers.days import (
    DAY_KEYS,
    MEASURES,
    PURCHASE,
    RETURN,
    TABLES,
    THINGS,
    build_days,
    load_days,
    write_days,
)
from segkit.customers.features import (
    DECIMALS,
    MAX_CHANNELS,
    MONDAY,
    PURCHASE_AGGREGATES,
    RECENT_AGGREGATES,
    WEEKS,
    Customers,
    NumpyMath,
    available_features,
    customer_data,
    customers_at,
    day_number,
)
from segkit.customers.sorted_days import write_sorted_days
from segkit.data.engine import LOCAL_ENGINES, open_engine, transfer_table
from segkit.data.runs import Run
from segkit.period import Period
from segkit.vocabulary import WEEKDAYS, channel_feature, kind_features

UNIT = 10_000  # of money
MONEY = {measure.name for measure in MEASURES if measure.column} | {"spend"} | {
    f"recent_{measure.name}" for measure in MEASURES if measure.column
}  # fmt: skip
LOG_UNIT = 10**10  # w ln w is rounded to this unit, as in the engines
NEVER = np.iinfo(np.int64).min
EXACT, EXACT_FLOAT = 2.0**62, 2.0**53  # below them, sums are exact as 64-bit integers and as floats
DENSE = 4  # times as many possible keys as rows
NAMED = {"categories": "category", "items": "item", "channels": "channel"}  # part of the days -> its column


def describe_customers(
    events: ir.Table, *, run: Run, kinds: dict[str, str], engine: str = "duckdb", items: bool = False
) -> Customers:
    """Write days to a run, and describe each customer at its date.

    Parameters
    ----------
    events
        Contract columns, before ``as_of``.
    run
        Gets the tables days, day_categories, day_items, day_channels and day_orders, the same from every engine.
    kinds
        Each kind of event -> 'customer' or 'company'.
    engine
        As for ``segkit.data.engine.open_engine``; a cluster must see the run folder under the same path.
    items
        Needs are learnt from items.

    Raises
    ------
    SourceError
        The engine cannot be used.
    """
    if engine in LOCAL_ENGINES:
        return _describe_here(events, run=run, kinds=kinds, items=items)
    server = open_engine(engine)
    try:
        with TemporaryDirectory(dir=run.path, prefix="transfer-") as folder:
            events = transfer_table(events, to=server, folder=folder, name="events")
            write_days(run, build_days(events, kinds=kinds, items=items))
        data = customer_data(load_days(run, on=server), period=run.period, kinds=kinds)
        return Customers(load_days(run), period=run.period, kinds=kinds, data=data)
    finally:
        server.disconnect()


def _describe_here(events: ir.Table, *, run: Run, kinds: dict[str, str], items: bool) -> Customers:
    """Write days in the sorted pass, and describe customers on the way; lists of categories are not part of it."""
    has_lists = any(events[name].type().is_array() for name in THINGS if name in events.columns)
    if has_lists:
        write_sorted_days(run, events, kinds=kinds, items=items)
        return customers_at(load_days(run), period=run.period, kinds=kinds)
    described = _Described(run.period, kinds=kinds)
    names = write_sorted_days(run, events, kinds=kinds, items=items, watch=described.add)
    return Customers(load_days(run), period=run.period, kinds=kinds, data=described.data(names))


def update_customers(
    events: ir.Table,
    *,
    run: Run,
    previous: Run,
    kinds: dict[str, str],
    engine: str = "duckdb",
    items: bool = False,
) -> tuple[Customers, str]:
    """Describe customers from the days of an earlier run, with the events since its ``as_of`` merged in.

    Parameters
    ----------
    events
        Contract columns, before ``as_of`` of ``run``.
    previous
        The earlier run.
    kinds, engine, items
        As for ``describe_customers``; any engine but DuckDB reads all of history.

    Returns
    -------
    tuple
        Customers, as ``describe_customers`` returns them for all events; and why all of history was read again, or
        empty where it was not.
    """
    since = previous.period.as_of
    reason = (
        f"the engine is {engine}"
        if engine not in LOCAL_ENGINES
        else reason_to_rebuild(events, previous=previous, since=since, kinds=kinds, items=items)
    )
    if reason:
        return describe_customers(events, run=run, kinds=kinds, engine=engine, items=items), reason
    extend_days(run, events, previous=previous, since=since, kinds=kinds, items=items)
    return customers_at(load_days(run), period=run.period, kinds=kinds), ""


class _Inputs(SimpleNamespace):
    """What formulas read: aggregates by attribute, or by name if the name comes from the data."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.__dict__[name]


class _Described:
    """Features and amounts of everyone with an event of their own in the lookback.

    Parameters
    ----------
    period
        Its lookback is what features see.
    kinds
        Each kind of event -> 'customer' or 'company'.
    """

    def __init__(self, period: Period, *, kinds: Mapping[str, str]) -> None:
        self._period, self._kinds = period, dict(kinds)
        self._start, self._end = day_number(period.lookback_start), day_number(period.as_of)
        self._recent = day_number(period.recent_start)
        self._features: tuple[str, ...] = ()
        self._customers, self._uses = 0, np.zeros(0)
        self._who: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._named: dict[str, list[Columns]] = {}
        self._units = dict.fromkeys(NAMED, 1)

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """Add all rows of some customers, sorted: numbers of names, days since 1970, and units of money."""
        opened = {part: _open(tables[name]) for part, name in TABLES.items() if name in tables}
        rows = opened.pop("rows")
        who, sums = self._sum_days(rows)
        low, high = (int(rows["customer_id"][i]) for i in (0, -1)) if len(rows["day"]) else (0, 0)
        places = np.full(high - low + 1, -1)
        places[who - low] = np.arange(len(who))
        for part, rows in opened.items():
            named = self._sum_names(part, rows, of=places[rows["customer_id"] - low])
            self._named.setdefault(part, []).append(named | {"of": named["of"] + self._customers})
            if part == "categories":
                sums |= _spread(named, customers=len(who))
        features = available_features(tuple(sums), kinds=self._kinds, channels=())
        values = np.empty((len(features), len(who)))
        for row, feature in zip(values, features, strict=True):
            row[:] = feature.formula(_Inputs(**sums), NumpyMath)
        self._features = tuple(feature.name for feature in features)
        self._who.append(who)
        self._values.append(values.round(DECIMALS) + 0.0)
        self._customers += len(who)

    def data(self, names: Mapping[str, pa.Array]) -> CustomerData:
        """Return what was added; ``names``: those of customers, categories, items and channels, by column."""
        ids = names["customer_id"].take(pa.array(np.concatenate(self._who))).to_pandas()
        shares = self._channel_shares(names["channel"]) if "channels" in self._named else {}
        further = {feature.name for feature in kind_features(self._kinds)}
        first = [name for name in self._features if name not in further]
        columns = [*first, *shares, *self._features[len(first) :]]
        values = np.empty((len(columns), self._customers))
        places, end = [columns.index(name) for name in self._features], self._customers
        while self._values:  # the last first, so that each is gone once it is copied
            part = self._values.pop()
            values[places, end - part.shape[1] : end] = part
            end -= part.shape[1]
        for name, share in shares.items():
            values[columns.index(name)] = share
        features = pd.DataFrame(values.T, columns=columns, index=pd.Index(ids, name="customer_id"), copy=False)
        bought = [self._weights(part, names.get(NAMED[part])) for part in ("categories", "items")]
        return CustomerData(features, *bought[0], *bought[1])

    def _sum_days(self, rows: Columns) -> tuple[np.ndarray, Columns]:
        """Sum the lookback, as ``features._customer_aggregates`` does; return the numbers of the customers, too."""
        rows = _where(rows, rows["until"] < self._end)
        own = _where(rows, rows["own_events"] > 0)
        starts = run_starts(own["customer_id"])
        began = dict(zip(("customer_id", "day"), (own[name][starts] for name in ("customer_id", "day")), strict=True))
        own, rows = (_where(part, part["day"] >= self._start) for part in (own, rows))
        sums = self._rhythm(own)
        who = sums.pop("customer_id")
        sums["first_ever"] = began["day"][np.isin(began["customer_id"], who)]
        sums |= self._totals(_where(rows, np.isin(rows["customer_id"], who)))
        if f"n_{PURCHASE}" not in rows:
            sums = {name: values for name, values in sums.items() if name not in PURCHASE_AGGREGATES}
        constants = {"as_of_day": self._end, "lookback_days": self._period.lookback_days}
        constants["recent_days"] = self._period.recent_days
        sums |= {name: np.full(len(who), value) for name, value in constants.items()}
        return who, {name: np.asarray(values, dtype=float) for name, values in sums.items()}

    def _rhythm(self, own: Columns) -> Columns:
        """Summarise the days with events of their own: how many, and the gaps between them."""
        day, starts = own["day"], run_starts(own["customer_id"])
        gap = np.diff(day, prepend=0)
        gap[starts] = 0
        opens = gap > 0
        opens[starts] = True
        return {
            "customer_id": own["customer_id"][starts],
            "active_days": run_sums(opens, starts),
            "recent_active_days": run_sums(opens & (day >= self._recent), starts),
            "first_day": day[starts],
            "last_day": day[starts + run_sizes(starts, len(day)) - 1],
            "gap_squared": run_sums(gap * gap, starts),
            "longest_gap": _largest(gap, starts),
        }

    def _totals(self, rows: Columns) -> Columns:
        """Sum the measures of the lookback, in all, over the recent days, and by weekday."""
        starts, day = run_starts(rows["customer_id"]), rows["day"]
        wanted = {name: values for name, values in rows.items() if name not in DAY_KEYS}
        recent, week = day >= self._recent, (day + WEEKS + MONDAY - 1) % len(WEEKDAYS)
        wanted |= {f"recent_{name}": np.where(recent, rows[name], 0) for name in RECENT_AGGREGATES if name in rows}
        wanted |= {f"occasions_{name}": np.where(week == i, rows["occasions"], 0) for i, name in enumerate(WEEKDAYS)}
        if "amount" in rows:
            wanted["spend"] = rows["amount"] + rows["other_amount"] - rows["return_amount"]
        sums = {name: _sum(values, starts) / (UNIT if name in MONEY else 1) for name, values in wanted.items()}
        sums["weekend_occasions"] = sums["occasions_saturday"] + sums["occasions_sunday"]
        if "amount_squared" in sums:
            sums["amount_squared"] /= UNIT**2
        for name in rows:
            if name.startswith("n_") and name not in (f"n_{PURCHASE}", f"n_{RETURN}"):
                last = _largest(np.where(rows[name] > 0, day, NEVER), starts)
                sums[f"last_{name.removeprefix('n_')}"] = np.where(last == NEVER, 0, last)
        return sums

    def _sum_names(self, part: str, rows: Columns, *, of: np.ndarray) -> Columns:
        """Sum the lookback by customer and name; weights above zero are kept, in units. ``of`` is -1 for others."""
        name, column = rows[NAMED[part]], next(name for name in ("amount", "lines", "own_events") if name in rows)
        before, weight = rows["day"] < self._end, rows[column]
        self._units[part] = UNIT if column == "amount" else 1
        if part == "channels":
            uses = np.bincount(name[before], weights=weight[before], minlength=len(self._uses)).astype(float)
            uses[: len(self._uses)] += self._uses
            self._uses = uses
        inside = np.flatnonzero(before & (rows["day"] >= self._start) & (of >= 0))
        names = int(name.max()) + 1 if len(name) else 1
        packed, sums = _sum_by_key(of[inside] * names + name[inside], weight[inside])
        packed, sums = packed[sums > 0], sums[sums > 0]
        return {"of": packed // names, "name": packed % names, "weight": sums}

    def _channel_shares(self, names: pa.Array) -> dict[str, np.ndarray]:
        """Compute the features of the channels that were most used before ``as_of``, by name."""
        rows = _joined(self._named.pop("channels"))
        total = np.bincount(rows["of"], weights=rows["weight"], minlength=self._customers)
        most = np.argsort(-self._uses, kind="stable")[:MAX_CHANNELS]
        shares = {}
        for number in sorted(most[self._uses[most] > 0].tolist()):
            used, feature = rows["name"] == number, channel_feature(names[number].as_py())
            counts = np.bincount(rows["of"][used], weights=rows["weight"][used], minlength=self._customers)
            inputs = _Inputs(**dict(zip(feature.requires, (counts, total), strict=True)))
            shares[feature.name] = feature.formula(inputs, NumpyMath).round(DECIMALS) + 0.0
        return shares

    def _weights(self, part: str, names: pa.Array | None) -> Bought:
        """Return what customers bought, and the names that occur."""
        if part not in self._named:
            return None, ()
        rows = _joined(self._named.pop(part))
        found, column = np.unique(rows["name"], return_inverse=True)
        entries = rows["weight"] / self._units[part], (rows["of"], column)
        weights = sparse.csr_array(entries, shape=(self._customers, len(found)))
        return weights, tuple(names.take(pa.array(found)).to_pylist())


def _open(table: pa.Table) -> Columns:
    """Open the columns of a table; squares of amounts beyond 64 bits as floats."""
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if not pa.types.is_decimal(column.type):
            columns[name] = column.to_numpy(zero_copy_only=False)
            continue
        words = np.frombuffer(column.buffers()[1] or b"", dtype=np.int64).reshape(-1, 2)
        low, high = words[:, 0], words[:, 1]
        columns[name] = low if (high == low >> 63).all() else high * 2.0**64 + low.astype(np.uint64)
    return columns


def _where(rows: Columns, wanted: np.ndarray) -> Columns:
    """Select rows; nothing is copied where all are wanted."""
    return rows if wanted.all() else {name: values[wanted] for name, values in rows.items()}


def _sum(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum over runs: exactly where it fits 64 bits."""
    if values.dtype.kind == "i" and np.abs(values, dtype=float).sum() < EXACT:
        return run_sums(values, starts).astype(float)
    return np.add.reduceat(values.astype(float), starts) if len(starts) else np.zeros(0)


def _sum_by_key(key: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum by key; return the keys, sorted, and their sums. Where most keys occur, nothing is sorted."""
    if len(key) and key.max() < DENSE * len(key) and np.abs(values, dtype=float).sum() < EXACT_FLOAT:
        sums = np.bincount(key, weights=values)
        found = np.flatnonzero(sums)
        return found, sums[found]
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = run_starts(key)
    return key[starts], _sum(values[order], starts)


def _largest(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.maximum.reduceat(values, starts) if len(starts) else values


def _joined(parts: list[Columns]) -> Columns:
    """Join columns; the parts are gone then."""
    names = list(parts[0])
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in names}


def _spread(bought: Columns, *, customers: int) -> Columns:
    """Return the number of categories, and the sum, the sum of w ln w, and the largest of their weights."""
    starts = run_starts(bought["of"])
    weight, who = bought["weight"], bought["of"][starts]
    log = weight * np.log(weight)
    whole = np.floor(log)
    parts = np.rint((log - whole) * LOG_UNIT).astype(np.int64)
    sums = {
        "categories": run_sizes(starts, len(weight)),
        "category_weight": _sum(weight.astype(np.int64), starts),
        "category_log": run_sums(whole, starts) + run_sums(parts, starts) / LOG_UNIT,
        "top_category_weight": _largest(weight, starts),
    }
    spread = {name: np.zeros(customers) for name in sums}
    for name, values in sums.items():
        spread[name][who] = values
    return spread
