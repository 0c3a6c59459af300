"""Sum events to the days of a run in one sorted pass: DuckDB sorts the lines as integers, numpy sums runs of them.

It gives what ``days.build_days`` defines, to the last digit, and reads the source twice.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segkit.customers.day_sums import (
    ALONE,
    IN_ORDER,
    NO_HOUR,
    OTHER,
    Columns,
    day_rows,
    kind_flags,
    name_rows,
    piece_rows,
    run_starts,
    run_sums,
)
from segkit.customers.days import (
    MONEY_TYPE,
    ORDERS,
    PURCHASE,
    RETURN,
    TABLES,
    THINGS,
    Days,
    Measure,
    available_measures,
    build_days,
    count_once,
    order_parts,
)
from segkit.data.expressions import quote, sql_literal
from segkit.data.row_groups import NAMES, ROWS_AT_ONCE
from segkit.data.runs import Run
from segkit.vocabulary import activity_kinds

CODES = "segkit_codes"  # temporary tables: each name and its number, in the order of the names
MONEY = ("amount", "discount", "cost", "quantity")
FLAGS = {"private_label": "private_label", "discount": "discount > 0"}  # conditions of measures
PARTS = {"category": "categories", "item": "items", "channel": "channels"}  # column -> part of the days
EPOCH = date(1970, 1, 1)
UNIT = 10_000  # of the weight of an event without money


@dataclass(frozen=True)
class _Pass:
    """What the lines of a pass have in common.

    Parameters
    ----------
    kinds
        Each kind of event -> 'customer' or 'company'.
    measures
        The sums of the days.
    names
        The names in their order, by column (customer_id, and those of category, item, channel that are summed).
    first
        Days from 1970 to the first day.
    bits
        Bits of a day in a key.
    has_money
        The events have amounts.
    since
        Rows of earlier days are not written; days since 1970.
    """

    kinds: Mapping[str, str]
    measures: list[Measure]
    names: dict[str, pa.Array]
    first: int
    bits: int
    has_money: bool
    since: int

    def keys(self, of: np.ndarray) -> Columns:
        """Split keys into numbers of customers and days since 1970."""
        return {"customer_id": of >> self.bits, "day": (of & ((1 << self.bits) - 1)) + self.first}


def write_sorted_days(
    run: Run,
    events: ir.Table,
    *,
    kinds: Mapping[str, str],
    items: bool = False,
    since: date | None = None,
    watch: Callable[[dict[str, pa.Table]], None] = lambda tables: None,
) -> dict[str, pa.Array]:
    """Write the days of events in DuckDB to a run, as ``write_days(run, build_days(events))`` would.

    Parameters
    ----------
    events
        Contract columns, in any order.
    kinds
        Each kind of event -> 'customer' or 'company'.
    items
        Sum items, too.
    since
        Add the rows of this day and later ones to the tables that the run has, as a part of that name.
    watch
        Called with the rows of each slice of customers: numbers of names, days since 1970, and units of money.

    Returns
    -------
    dict
        The names in their order, by column.

    Raises
    ------
    InputError
        Amounts of a customer add up to more than 18 digits.
    """
    defined = build_days(events, kinds=dict(kinds), items=items)
    once, part = count_once(events), since.isoformat() if since else ""
    summed = [name for name in NAMES if name in once.columns and (name != "item" or items) and not _is_list(once, name)]
    con = once.get_backend().con
    plan = _plan(once, summed, con=con, kinds=kinds, since=since)
    try:
        with closing(_slices(once, plan, con=con)) as lines:
            _write_parts(run, defined, lines=lines, plan=plan, part=part, watch=watch)
    finally:
        for name in summed:
            con.execute(f"drop table if exists {CODES}_{name}")
    for name in sorted(set(THINGS) & set(once.columns) - set(summed)):
        rows = getattr(defined, PARTS[name])
        if rows is not None:
            run.write(rows.filter(rows.day >= since) if since else rows, TABLES[PARTS[name]], part=part)
    return plan.names


def _is_list(events: ir.Table, name: str) -> bool:
    return events[name].type().is_array()


def _plan(events: ir.Table, summed: list[str], *, con: object, kinds: Mapping[str, str], since: date | None) -> _Pass:
    """Give each name of each column its number, and find the first and the last day, in one reading."""
    query = ibis.to_sql(events, dialect="duckdb")
    keys = [*summed, "day"]
    listed = ", ".join(quote(name) for name in keys)
    sets = ", ".join(f"({quote(name)})" for name in keys)
    con.execute(
        f"create or replace temp table {CODES} as select {listed}, grouping({listed}) as part from ({query}) "
        f"group by grouping sets ({sets})"
    )
    low, high = con.execute(f"select min(day), max(day) from {CODES}").fetchone()
    names = {}
    for place, name in enumerate(summed):
        part = (1 << len(keys)) - 1 - (1 << (len(keys) - 1 - place))
        con.execute(
            f"create or replace temp table {CODES}_{name} as select {quote(name)} as name, "
            f"(row_number() over (order by {quote(name)}) - 1)::integer as code from {CODES} "
            f"where part = {part} and {quote(name)} is not null"
        )
        found = con.sql(f"select name from {CODES}_{name} order by code").to_arrow_table()
        names[name] = found.column("name").combine_chunks()
    con.execute(f"drop table {CODES}")
    low, high = low or EPOCH, high or EPOCH
    return _Pass(
        kinds=kinds,
        measures=available_measures(events.columns, kinds=dict(kinds)),
        names=names,
        first=(low - EPOCH).days,
        bits=max((high - low).days, 1).bit_length(),
        has_money="amount" in events.columns,
        since=((since or low) - EPOCH).days,
    )


def _sorted_lines(events: ir.Table, plan: _Pass) -> str:
    """Write the query of the lines as integers, sorted by customer, day and order."""
    bought = "true" if set(plan.kinds) == {PURCHASE} else f"event = {sql_literal(PURCHASE)}"
    has_orders = "order_id" in events.columns
    flag = f"case when not ({bought}) then {OTHER} when {'order_id is null' if has_orders else 'true'} then {ALONE} "
    low = sql_literal((EPOCH + timedelta(days=plan.first)).isoformat())
    of = f"((c0.code::bigint << {plan.bits}) | (day - date {low}))"
    columns = [f"(({of} << 2) | {flag} else {IN_ORDER} end) as key", "hour::tinyint as hour"]
    if has_orders:
        in_order = f"case when {bought} then order_id end"
        columns += [f'case when ({in_order}) is null then 0::ubigint else hash(order_id) end as "order"']
        columns += [f"{in_order} as order_id"]
    if len(plan.kinds) > 1:
        cases = " ".join(f"when {sql_literal(kind)} then {place}" for place, kind in enumerate(sorted(plan.kinds)))
        columns += [f"(case event {cases} else -1 end)::tinyint as kind"]
    joins = f"join {CODES}_customer_id c0 on e.customer_id = c0.name"
    for place, name in enumerate(list(plan.names)[1:], start=1):
        columns += [f"coalesce(c{place}.code, -1) as {name}"]
        joins += f" left join {CODES}_{name} c{place} on e.{quote(name)} = c{place}.name"
    columns += [
        f"coalesce({name}::{MONEY_TYPE}, 0)::{MONEY_TYPE} as {name}" for name in MONEY if name in events.columns
    ]
    columns += [f"coalesce({flag}, false) as {name}_set" for name, flag in FLAGS.items() if name in events.columns]
    query = ibis.to_sql(events, dialect="duckdb")
    order = 'key, "order"' if has_orders else "key"
    return f"select {', '.join(columns)} from ({query}) e {joins} order by {order}"


def _slices(events: ir.Table, plan: _Pass, *, con: object) -> Iterator[tuple[Columns, pa.Array | None]]:
    """Yield the sorted lines, with their order_id, cut between customers; the first slice is empty."""
    shift, pending = plan.bits + 2, []
    with con.sql(_sorted_lines(events, plan)).to_arrow_reader(ROWS_AT_ONCE) as rows:
        yield _as_columns(rows.schema.empty_table())
        for batch in rows:
            key = batch.column(0).to_numpy()
            cut = int(np.searchsorted(key, (key[-1] >> shift) << shift))
            if cut or (pending and pending[-1].column(0)[-1].as_py() >> shift != key[0] >> shift):
                yield _as_columns(pa.Table.from_batches([*pending, batch.slice(0, cut)]))
                pending = []
            pending.append(batch.slice(cut))
        if pending:
            yield _as_columns(pa.Table.from_batches(pending))


def _as_columns(table: pa.Table) -> tuple[Columns, pa.Array | None]:
    """Open the columns of a slice as numpy arrays, money in units; the texts of order_id stay as they are."""
    columns, order_ids = {}, None
    for name in table.column_names:
        column = _array(table.column(name))
        if name == "order_id":
            order_ids = column
        elif pa.types.is_decimal(column.type):
            words = np.frombuffer(column.buffers()[1], dtype=np.int64) if len(column) else np.empty(0, dtype=np.int64)
            columns[name] = words[2 * column.offset : 2 * (column.offset + len(column)) : 2].copy()
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    key = columns.pop("key")
    return columns | {"of": key >> 2, "flag": (key & 3).astype(np.int8)}, order_ids


def _write_parts(
    run: Run, defined: Days, *, lines: Iterator, plan: _Pass, part: str, watch: Callable[[dict[str, pa.Table]], None]
) -> None:
    """Write the tables of days slice by slice, all at once."""
    defined_by_name = {ORDERS: order_parts(defined.orders), TABLES["rows"]: defined.rows}
    defined_by_name |= {TABLES[PARTS[name]]: getattr(defined, PARTS[name]) for name in list(plan.names)[1:]}
    with ExitStack() as stack:
        files = {}
        for name, table in defined_by_name.items():
            encode = _Encoding(dict(table.schema()), plan.names).encode
            files[name] = stack.enter_context(run.write_groups(name, encode=encode, part=part))
        for columns, order_ids in lines:
            tables = dict(_tables(columns, order_ids, plan=plan))
            watch(tables)
            for name, table in tables.items():
                earlier = part and pc.less(table["until" if "until" in table.column_names else "day"], plan.since)
                files[name].write(table.filter(pc.invert(earlier)) if part else table)


def _tables(lines: Columns, order_ids: pa.Array | None, *, plan: _Pass) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows that a slice adds to each table, names as numbers and days as days since 1970."""
    keys, sums = piece_rows(lines, measures=plan.measures, kinds=plan.kinds)
    yield ORDERS, _order_table(keys, sums, order_ids, plan=plan)
    firsts, rows, squares = day_rows(keys, sums, bits=plan.bits)
    until = {"until": plan.keys(firsts["of"])["day"]}
    squared = {"amount_squared": squares} if plan.has_money else {}
    yield TABLES["rows"], pa.table({**plan.keys(firsts["first"]), **until, **rows, **squared})
    for name in list(plan.names)[1:]:
        make = _channel_table if name == "channel" else _thing_table
        yield TABLES[PARTS[name]], make(lines, name, plan=plan)


def _order_table(keys: Columns, sums: Columns, order_ids: pa.Array | None, *, plan: _Pass) -> pa.Table:
    """Select what is kept of orders, as ``days.order_parts`` does."""
    named = np.flatnonzero(keys["flag"] == IN_ORDER)
    rows, hour = plan.keys(keys["of"][named]), keys["hour"][named]
    texts = {} if order_ids is None else {"order_id": order_ids.take(pa.array(keys["start"][named]))}
    slot = pa.array(rows["day"] * 24 + hour, mask=hour == NO_HOUR)
    return pa.table({**rows, **texts, "slot": slot, **({"amount": sums["amount"][named]} if plan.has_money else {})})


def _thing_table(lines: Columns, name: str, *, plan: _Pass) -> pa.Table:
    """Sum what was bought by category or item: lines, and money where the events have it."""
    wanted = kind_flags(lines, set(activity_kinds(plan.kinds)) - {RETURN}, kinds=plan.kinds)
    use = np.flatnonzero(lines[name] >= 0 if wanted is None else wanted & (lines[name] >= 0))
    weights = None
    if plan.has_money:
        weights = lines["amount"][use]
        if not set(plan.kinds) <= {PURCHASE, RETURN}:
            weights = np.where(lines["flag"][use] == OTHER, UNIT, weights)
    of, names, counts, weights = name_rows(
        lines["of"][use], lines[name][use], None, weights, names=len(plan.names[name])
    )
    amounts = {} if weights is None else {"amount": weights}
    return pa.table({**plan.keys(of), name: names, "lines": counts, **amounts})


def _channel_table(lines: Columns, name: str, *, plan: _Pass) -> pa.Table:
    """Count what customers did by channel; lines of an order mostly have one, and are counted together first."""
    wanted = kind_flags(lines, set(activity_kinds(plan.kinds)), kinds=plan.kinds)
    own = lines[name] >= 0 if wanted is None else wanted & (lines[name] >= 0)
    starts = run_starts(lines["of"], lines[name])
    counts = run_sums(own, starts)
    starts, counts = starts[counts > 0], counts[counts > 0]
    of, names, counts, _ = name_rows(
        lines["of"][starts], lines[name][starts], counts, None, names=len(plan.names[name])
    )
    return pa.table({**plan.keys(of), name: names, "own_events": counts})


@dataclass(frozen=True)
class _Encoding:
    """Turn numbers of names, days and units of money into the columns of a table of days."""

    types: dict
    names: dict[str, pa.Array]

    def encode(self, table: pa.Table) -> pa.Table:
        """Encode a group of rows."""
        return pa.table({name: self._encode(_array(table.column(name)), name) for name in self.types})

    def _encode(self, column: pa.Array, name: str) -> pa.Array:
        kind = self.types[name]
        if name in self.names:
            return _dictionary(column.to_numpy(), self.names[name])
        if kind.is_date():
            return pa.array(column.to_numpy().astype(np.int32)).view(pa.date32())
        if kind.is_decimal() and pa.types.is_integer(column.type):
            units = column.to_numpy()
            return pa.Array.from_buffers(pa.decimal64(18, 4), len(units), [None, pa.py_buffer(units)])
        return column


def _array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, without a copy where it is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _dictionary(codes: np.ndarray, names: pa.Array) -> pa.Array:
    """Make a dictionary of the names that occur, in the order of their first row."""
    low = int(codes.min()) if len(codes) else 0
    first = np.full((int(codes.max()) - low + 1) if len(codes) else 0, len(codes), dtype=np.int64)
    first[codes[::-1] - low] = np.arange(len(codes))[::-1]  # of repeated places, the last value stays
    present = np.flatnonzero(first < len(codes))
    present = present[np.argsort(first[present])]
    rank = np.empty(len(first), dtype=np.int32)
    rank[present] = np.arange(len(present), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank[codes - low]), pc.take(names, pa.array(present + low)))
