"""The sorted pass writes the same bytes as the definition of days, for any events, slices and amounts."""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from segkit.customers import described, features, sorted_days
from segkit.customers.added_days import extend_days, reason_to_rebuild
from segkit.customers.days import build_days, write_days
from segkit.customers.described import describe_customers
from segkit.customers.features import load_customers
from segkit.customers.sorted_days import write_sorted_days
from segkit.data import row_groups
from segkit.data.engine import open_engine
from segkit.data.readers import restrict_access
from segkit.data.row_groups import SORT_KEYS
from segkit.data.runs import Run, open_run
from segkit.erasure import erase_from_run
from segkit.errors import InputError
from tests import strategies as made


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(made.events(most=60), st.sampled_from([3, 1_000_000]), st.sampled_from([1, 10**9]), st.booleans())
def test_the_sorted_pass_writes_what_the_definition_gives(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, events: made.Events, at_once: int,
    times: int, items: bool
) -> None:  # fmt: skip
    for module in (sorted_days, row_groups):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", at_once)
    table = events.arrow()
    if "amount" in table.column_names:  # squares beyond 64 bits
        larger = [None if value is None else value * times for value in table.column("amount").to_pylist()]
        table = table.set_column(table.column_names.index("amount"), "amount", pa.array(larger, made.TYPES["amount"]))
    if items and "category" in table.column_names:
        table = table.append_column("item", table.column("category"))
    found, wanted = _written(table, folder=tmp_path_factory.mktemp("runs"), kinds=made.KINDS, items=items)
    assert found == wanted and len(found) >= 2


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(made.events(most=60), st.sampled_from([3, 1_000_000]), st.integers(10, 130), st.booleans())
def test_customers_described_on_the_way_are_those_of_the_days(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, events: made.Events, at_once: int,
    after: int, items: bool
) -> None:  # fmt: skip
    monkeypatch.setattr(sorted_days, "ROWS_AT_ONCE", at_once)
    for module in (described, features):
        monkeypatch.setattr(module, "MAX_CHANNELS", 2)
    table = events.arrow()
    if items and "category" in table.column_names:
        table = table.append_column("item", table.column("category"))
    run = _dated(tmp_path_factory.mktemp("runs") / "run", made.FIRST.date() + timedelta(after))
    options = {"kinds": made.KINDS, "items": items and "item" in table.column_names}
    data = describe_customers(_table(table), run=run, **options).data
    wanted = load_customers(run, kinds=made.KINDS).data
    pd.testing.assert_frame_equal(data.features, wanted.features, check_exact=True)
    assert (data.categories, data.items) == (wanted.categories, wanted.items)
    for found, other in ((data.weights, wanted.weights), (data.item_weights, wanted.item_weights)):
        assert found is None is other or not (found != other).nnz


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(made.events(least=30, most=60), st.integers(20, 130))
def test_days_added_to_a_run_are_those_of_all_events(
    tmp_path_factory: pytest.TempPathFactory, events: made.Events, after: int
) -> None:
    folder, table, since = tmp_path_factory.mktemp("runs"), _table(events.arrow()), made.FIRST.date() + timedelta(after)
    restrict_access(table.get_backend(), [])  # as the engine of a source, which reads its own files alone
    dates = {"then": since, "added": since + timedelta(500), "whole": since + timedelta(500)}
    runs = {name: _dated(folder / name, day) for name, day in dates.items()}
    write_sorted_days(runs["then"], table.filter(table.day < since), kinds=made.KINDS)
    write_sorted_days(runs["whole"], table, kinds=made.KINDS)
    assume(not reason_to_rebuild(table, previous=runs["then"], since=since, kinds=made.KINDS))
    extend_days(runs["added"], table, previous=runs["then"], since=since, kinds=made.KINDS)
    names = sorted(runs["whole"].record()["tables"])
    assert sorted(runs["added"].record()["tables"]) == names
    for name in names:
        found, wanted = (runs[run].table(name) for run in ("added", "whole"))
        keys = [key for key in (*SORT_KEYS, "order_id") if key in wanted]
        pd.testing.assert_frame_equal(*(part.sort_values(keys, ignore_index=True) for part in (found, wanted)))
        assert runs["added"].scan(name).count().to_pandas() == len(wanted)
    erase_from_run(runs["added"], [made.CUSTOMERS[0]])  # from every part
    assert not any((runs["added"].table(name)["customer_id"] == made.CUSTOMERS[0]).any() for name in names)


@pytest.mark.parametrize("kinds", [{"purchase": "customer"}, {"visit": "customer"}])
def test_one_kind_of_event_and_no_events_at_all(kinds: dict[str, str], tmp_path: Path) -> None:
    kind = next(iter(kinds))
    row = {"day": made.FIRST.date(), "hour": 9, "event": kind, "channel": "web", "category": "a", "quantity": 2}
    row |= {"private_label": True, "amount": 1.5, "discount": 0.1}
    table = pa.Table.from_pylist([row | {"customer_id": i % 3, "order_id": i % 2} for i in range(9)])
    for name, part in (("some", table), ("none", table.slice(0, 0))):
        found, wanted = _written(part, folder=tmp_path / name, kinds=kinds)
        assert found == wanted and set(found) == {"days", "day_categories", "day_channels", "day_orders"}


ODD = """
    select case when i % 2 = 0 then '0' else repeat('x', 190) || lpad((hash(i // 4) % 3000)::text, 10, '0') end
            as customer_id,
        case when i % 3 = 0 then date '2024-05-05' else date '2024-01-01' + (hash(i // 3) % 140)::int end as day,
        case when i % 3 = 0 then 12 else (hash(i, 1) % 24)::int end as hour, 'purchase' as event,
        'c' || (hash(i, 2) % 50000) as category, 'o' || (i // 5) as order_id, (hash(i, 3) % 100000) / 100.0 as amount
    from range(100000) t(i)
"""  # half of the lines of one customer, ids of 200 bytes, one moment for a third, 50,000 categories, long orders


def test_no_byte_depends_on_memory_threads_or_slices_however_odd_the_customers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit, threads, at_once in (("2GB", 4, 1_000_000), ("90MB", 1, 10_000)):
        con = _odd().get_backend()
        for setting in (
            f"memory_limit = '{limit}'",
            f"threads = {threads}",
            f"temp_directory = '{tmp_path / 'spill'}'",
        ):
            con.raw_sql(f"set {setting}")
        monkeypatch.setattr(sorted_days, "ROWS_AT_ONCE", at_once)
        run = _dated(tmp_path / f"run_{threads}", made.FIRST.date() + timedelta(150))
        data = describe_customers(con.table("odd"), run=run, kinds={"purchase": "customer"}).data
        found.append((_bytes(run), data.features.to_json(double_precision=15), data.weights.indices.tobytes()))
    assert found[0] == found[1]
    wanted = open_run(tmp_path / "wanted", step="01_profile", source="x")
    write_days(wanted, build_days(_odd(), kinds={"purchase": "customer"}))
    assert found[0][0] == _bytes(wanted)
    assert len(found[0][0]) == 3 and data.weights.shape[1] > 30_000


def test_amounts_beyond_18_digits_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    row = {"customer_id": "a", "day": made.FIRST.date(), "hour": 9, "event": "purchase", "amount": Decimal("9e13")}
    run = open_run(tmp_path / "run", step="01_profile", source="x")
    with pytest.raises(InputError, match="more than 10"):
        write_sorted_days(run, _table(pa.Table.from_pylist([row, row])), kinds={"purchase": "customer"})
    assert not list((run.path / "tables").iterdir())


def _odd() -> ibis.Table:
    con = open_engine("duckdb")
    con.raw_sql(f"create table odd as {ODD}")
    return con.table("odd")


def _dated(folder: Path, as_of: date) -> Run:
    span = {"lookback_days": made.LOOKBACK_DAYS, "horizon_days": 91}
    return open_run(folder, step="01_profile", as_of=as_of.isoformat(), **span)


def _table(table: pa.Table) -> ibis.Table:
    return open_engine("duckdb").create_table("events", table)


def _written(table: pa.Table, *, folder: Path, kinds: dict[str, str], items: bool = False) -> tuple[dict, dict]:
    runs = [open_run(folder / name, step="01_profile", source="x") for name in ("found", "wanted")]
    events = _table(table)
    items = items and "item" in table.column_names
    write_sorted_days(runs[0], events, kinds=kinds, items=items)
    write_days(runs[1], build_days(events, kinds=kinds, items=items))
    return _bytes(runs[0]), _bytes(runs[1])


def _bytes(run: Run) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in run.path.glob("tables/*")}
