"""Lists of categories: an event counts in equal parts in each, the parts add up exactly, and totals stay the same."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segkit.customers.days import build_days
from segkit.customers.features import category_totals
from segkit.data.check import check_source
from segkit.data.sources import connect, open_source, read_events
from segkit.errors import SourceError
from segkit.period import Period
from segkit.personas.totals import customer_totals
from tests import strategies as made

ROWS = [  # customer, genres as they are written, genres as they count, amount
    ("ann", "Drama|Crime|War", ["Crime", "Drama", "War"], "10.00"),
    ("ann", " War |War|", ["War"], "0.01"),
    ("bob", "", [], "5.00"),
    ("bob", None, [], "2.50"),
    ("bob", "Comedy", ["Comedy"], "7.35"),
]
SHARES = {
    ("ann", "Crime"): "3.3334",
    ("ann", "Drama"): "3.3333",
    ("ann", "War"): "3.3433",
    ("bob", "Comedy"): "7.3500",
}


def source(folder: Path, *tables: str) -> Path:
    """A source whose tables are given as YAML, each with the same further columns."""
    common = "customer_id: who, timestamp: at, amount: paid"
    events = "\n".join(f"  - {{{table.replace('COMMON', common)}}}" for table in tables)
    (folder / "source.yaml").write_text(f"name: films\ntimezone: UTC\nevents:\n{events}\n", encoding="utf-8")
    return folder / "source.yaml"


def lines(rows: list[tuple[str, str | None, list[str], str]]) -> list[dict[str, object]]:
    return [
        {
            "who": who,
            "at": f"2024-05-0{n + 1}",
            "genres": None if text is None else text.split("|"),
            "text": text,
            "paid": float(paid),
        }
        for n, (who, text, _, paid) in enumerate(rows)
    ]


def weights(path: Path) -> dict[tuple[str, str], str]:
    events = read_events(open_source(str(path)), con=connect())
    days = build_days(events, kinds={"purchase": "customer"})
    found = days.categories.group_by("customer_id", "category").aggregate(amount=ibis._.amount.sum()).to_pandas()
    return {(row.customer_id, row.category): str(row.amount) for row in found.itertuples()}


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(made.large_events(rows=200), st.sampled_from(["", "amount", "order_id"]))
def test_the_parts_add_up_and_totals_do_not_change(events: made.Events, lacking: str) -> None:
    events = replace(events, columns=tuple(name for name in events.columns if name != lacking))
    days = build_days(events.table(), kinds=made.KINDS)
    seen: dict[str, dict] = {row["event_id"] or str(n): row for n, row in enumerate(events.rows)}
    expected: dict[str, Decimal] = {}
    for row in seen.values():
        if row["category"] and row["event"] not in ("return", "campaign", "cancel"):
            bought = row["event"] == "purchase" and "amount" in events.columns
            amount = (row["amount"] or Decimal(0)) if bought else Decimal(1)
            expected[row["customer_id"]] = expected.get(row["customer_id"], Decimal(0)) + amount
    found = days.categories.group_by("customer_id").aggregate(amount=ibis._.amount.sum()).to_pandas()
    assert dict(zip(found["customer_id"], found["amount"], strict=True)) == expected
    without = replace(events, columns=tuple(name for name in events.columns if name != "category"))
    order = ["customer_id", "day", "until"]
    rows = [build_days(each.table(), kinds=made.KINDS).rows.order_by(order).to_pandas() for each in (events, without)]
    pd.testing.assert_frame_equal(*rows)


@pytest.mark.parametrize("written", ["parquet", "json lines", "text", "two tables"])
def test_every_way_to_write_a_list_counts_the_same(tmp_path: Path, written: str) -> None:
    columns, rows = "columns: {COMMON, category: genres}", lines(ROWS)
    text = "columns: {COMMON, category: \"string_split(text, '|')\"}"
    if written == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        path = source(tmp_path, f"path: a.parquet, {columns}")
    elif written == "json lines":
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        path = source(tmp_path, f"path: a.jsonl, {columns}")
    elif written == "text":
        pd.DataFrame(rows).drop(columns="genres").to_csv(tmp_path / "a.csv", index=False)
        path = source(tmp_path, f"path: a.csv, {text}")
    else:
        pq.write_table(pa.Table.from_pylist(rows[:4]), tmp_path / "a.parquet")
        pd.DataFrame(rows[4:]).drop(columns="genres").to_csv(tmp_path / "b.csv", index=False)
        path = source(tmp_path, f"path: a.parquet, {columns}", "path: b.csv, columns: {COMMON, category: text}")
    assert weights(path) == SHARES
    assert "category       filled in 60.0% of events, 4 different values" in str(check_source(str(path)))


def test_the_second_path_of_claims_finds_the_same(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(lines(ROWS)), tmp_path / "a.parquet")
    path = source(tmp_path, "path: a.parquet, columns: {COMMON, category: genres}")
    period = Period(date(2024, 6, 1), lookback_days=60, horizon_days=30)
    con, kinds = connect(), {"purchase": "customer"}
    events = read_events(open_source(str(path)), con=con)
    totals = category_totals(build_days(events, kinds=kinds).categories, start=period.lookback_start, end=period.as_of)
    table = totals.to_pandas()
    things = pd.DataFrame({"thing": sorted(set(table["category"])), "need": ["N1", "N2", "N3", "N4"]})
    found = customer_totals(
        events, con=con, customers=pd.Index(["ann", "bob"]), period=period, kinds=kinds, things=things
    )
    shares = table.assign(weight=table["weight"].astype(float)).pivot_table("weight", "customer_id", "category")
    shares = shares.fillna(0.0).div(shares.sum(axis=1), axis=0)[list(things["thing"])]
    assert found.things.matrix.toarray() == pytest.approx(shares.to_numpy(), abs=1e-4)
    assert found.customers["categories"].tolist() == [3, 1]


def test_other_columns_are_not_lists(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(lines(ROWS)), tmp_path / "a.parquet")
    path = source(tmp_path, "path: a.parquet, columns: {COMMON, item: genres}")
    with pytest.raises(SourceError, match=r"a.parquet: column item: expected one value in each row, found VARCHAR\[\]"):
        read_events(open_source(str(path)), con=connect())


@pytest.mark.parametrize("amount", ["770590000000.0001", "-770590000000.0001", "-0.0001"])
def test_the_largest_amounts_are_divided_exactly(amount: str) -> None:
    day = date(2024, 1, 1)
    row = {
        "customer_id": "c1",
        "timestamp": datetime(2024, 1, 1, tzinfo=UTC),
        "day": day,
        "hour": 0,
        "event": "purchase",
    }
    columns = (*made.ALWAYS, "category", "amount")
    events = made.Events(
        [{**row, "category": ["cake", "jam", "tea"], "amount": Decimal(amount)}], columns, "UTC", lists=True
    )
    found = build_days(events.table(), kinds=made.KINDS).categories.to_pandas()
    assert len(found) == 3 and sum(found["amount"]) == Decimal(amount)
    largest = replace(events, rows=[events.rows[0] | {"amount": Decimal("99999999999999.9999")}])
    assert len(build_days(largest.table(), kinds=made.KINDS).categories.to_pandas()) == 3
