"""Features: the same in a batch, in a warehouse and event by event; new events are merged into stored days."""

import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segkit
from segkit.customers.days import Days, build_days, load_days
from segkit.customers.described import describe_customers, update_customers
from segkit.customers.features import (
    customer_data,
    customer_features,
    dormant_customers,
    features_expression,
    load_customers,
)
from segkit.data.runs import Run, load_run, open_run, open_run_source
from segkit.live.customer import make_feature_plan
from segkit.period import Period
from segkit.vocabulary import describe
from tests import strategies as made
from tests.live.live_runs import Customers

AS_OF = date(2024, 6, 1)
WITHIN = 1e-9
FEW = settings(max_examples=int(os.environ.get("SEGKIT_EXAMPLES", "8")), deadline=None)


def _period(as_of: date, lookback_days: int) -> Period:
    return Period(as_of, lookback_days=lookback_days, horizon_days=1)


def batch(events: made.Events, *, as_of: date = AS_OF, lookback_days: int = made.LOOKBACK_DAYS) -> pd.DataFrame:
    days = build_days(events.table(), kinds=made.KINDS)
    return customer_features(days, period=_period(as_of, lookback_days), kinds=made.KINDS, channels=_channels(events))


def one_by_one(events: made.Events, *, as_of: date = AS_OF, lookback_days: int = made.LOOKBACK_DAYS) -> pd.DataFrame:
    shared = make_feature_plan(
        events.columns,
        kinds=made.KINDS,
        timezone=events.timezone,
        lookback_days=lookback_days,
        channels=_channels(events),
        weighs="amount" in events.columns or events.lists,
    )
    customers, seen = Customers(shared), set()
    for event in events.rows:
        if event.get("event_id") is None or event["event_id"] not in seen:
            customers.add(event, who=event["customer_id"])
        seen.add(event.get("event_id"))
    customers.tick(f"{as_of - timedelta(days=1)}T12:00:00+00:00")
    return customers.features()


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert list(found.index) == list(wanted.index)
    assert set(found.columns) == set(wanted.columns)
    for name in wanted.columns:
        np.testing.assert_allclose(
            found[name].astype(float), wanted[name], rtol=WITHIN, atol=1.01 * WITHIN, err_msg=f"feature {name}"
        )


@FEW
@given(made.events())
def test_event_by_event_gives_the_batch(events: made.Events) -> None:
    assert_same(one_by_one(events), batch(events))


@pytest.mark.slow
@FEW
@given(made.events(columns=made.OPTIONAL), st.randoms(use_true_random=False))
def test_the_order_in_which_events_arrive_does_not_matter(events: made.Events, random: object) -> None:
    rows = list(events.rows)
    random.shuffle(rows)
    shuffled = replace(events, rows=rows)
    pd.testing.assert_frame_equal(batch(shuffled), batch(events))
    assert_same(one_by_one(shuffled), batch(events))


@pytest.mark.slow
@FEW
@given(made.events())
def test_an_expression_in_a_warehouse_gives_the_batch(events: made.Events) -> None:
    days = build_days(events.table(), kinds=made.KINDS)
    options = {"period": _period(AS_OF, made.LOOKBACK_DAYS), "kinds": made.KINDS}
    inside = features_expression(days, **options).to_pandas().set_index("customer_id").sort_index()
    assert_same(inside, customer_features(days, **options))


@FEW
@given(made.events(), st.integers(0, made.SPAN_DAYS))
def test_nothing_at_or_after_as_of_counts(events: made.Events, day: int) -> None:
    as_of = made.FIRST.date() + timedelta(days=day)
    before = events.only([row["day"] < as_of for row in events.rows])
    options = {"period": _period(as_of, made.LOOKBACK_DAYS), "kinds": made.KINDS, "channels": _channels(events)}
    whole = features_and_amounts(build_days(events.table(), kinds=made.KINDS), **options)
    if not before.rows:
        assert whole.empty
        return
    pd.testing.assert_frame_equal(whole, features_and_amounts(build_days(before.table(), kinds=made.KINDS), **options))


def features_and_amounts(days: Days, **options: object) -> pd.DataFrame:
    features = customer_features(days, **options)
    if days.categories is None:
        return features
    customers = customer_data(days, **{k: v for k, v in options.items() if k != "channels"})
    bought = pd.DataFrame(customers.weights.toarray(), index=features.index, columns=list(customers.categories))
    return features.join(bought.add_prefix("bought "))


@pytest.mark.parametrize("weekday", range(7))
def test_every_weekday_has_its_share(weekday: int) -> None:
    day = date(2024, 2, 26) + timedelta(days=weekday)  # a Monday, and the week of a leap day
    event = {"timestamp": f"{day}T12:00:00", "event": "purchase", "amount": 2.5}
    customers = Customers(make_feature_plan(("amount",), kinds={"purchase": "customer"}))
    customers.add(event)
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    table = ibis.memtable(pd.DataFrame({"customer_id": ["a"], "day": [day], "hour": [12], "event": ["purchase"]}))
    days = build_days(table.mutate(day=table.day.cast("date")), kinds={"purchase": "customer"})
    options = {"period": _period(day + timedelta(days=1), 60), "kinds": {"purchase": "customer"}}
    for found in (customers.features().loc["one"], customer_features(days, **options).loc["a"]):
        assert [found[f"{name}_share"] for name in names] == [float(i == weekday) for i in range(7)]
        assert found["weekend_share"] == float(weekday >= 5)


def test_features_of_an_absent_column_are_absent() -> None:
    table = ibis.memtable(
        pd.DataFrame({"customer_id": ["a"], "day": [date(2024, 5, 1)], "hour": [9], "event": "visit"})
    )
    days = build_days(table.mutate(day=table.day.cast("date")), kinds={"visit": "customer"})
    found = customer_features(days, period=_period(AS_OF, 60), kinds={"visit": "customer"})
    blocks = {describe(name).block for name in found.columns}
    assert blocks == {"rfm", "rhythm", "lifecycle", "time", "engagement"}
    assert "orders" not in found and "spend" not in found and found.loc["a", "visit_count"] == 1


def test_one_event_and_zero_amounts_give_numbers() -> None:
    row = {
        "customer_id": "a",
        "day": date(2024, 2, 29),
        "hour": 9,
        "event": "purchase",
        "category": "x",
        "channel": "y",
    }
    row |= {name: 0.0 for name in ("quantity", "amount", "discount", "cost")} | {"private_label": True}
    table = ibis.memtable(pd.DataFrame([row]))
    days = build_days(table.mutate(day=table.day.cast("date")), kinds={"purchase": "customer"})
    found = customer_features(days, period=_period(AS_OF, 182), kinds={"purchase": "customer"}).loc["a"]
    assert np.isfinite(found).all() and found["orders"] == 1 and found["spend"] == found["order_value"] == 0
    assert found["recency_days"] == 93 and found["gap_days"] == 182  # the leap day counts


def test_ten_thousand_categories_and_giant_amounts() -> None:
    rows = pd.DataFrame(
        {"customer_id": "a", "day": date(2024, 5, 1), "hour": 9, "event": "purchase"}, index=range(10_000)
    )
    rows = rows.assign(category=[f"c{i}" for i in range(10_000)], amount=1e6)
    table = ibis.memtable(rows)
    days = build_days(table.mutate(day=table.day.cast("date")), kinds={"purchase": "customer"})
    found = customer_features(days, period=_period(AS_OF, 60), kinds={"purchase": "customer"}).loc["a"]
    assert found["categories"] == 10_000 and found["spend"] == 1e10
    assert found["category_entropy"] == pytest.approx(np.log(10_000), abs=1e-9)


def test_everyone_is_in_one_stage_of_the_lifecycle(make_days: object) -> None:
    visits = {
        "new": ["2024-05-20"],
        "active": ["2024-03-10", "2024-03-30", "2024-04-20", "2024-05-10", "2024-05-28"],
        "cooling": ["2024-04-01", "2024-04-05", "2024-04-09", "2024-04-13"],
        "lapsed": ["2024-01-10", "2024-01-20"],
        "returned": ["2023-06-01", "2024-05-20"],
    }
    rows = [(who, day, "purchase", 1.0, "x") for who, days in visits.items() for day in days]
    kinds = {"purchase": "customer"}
    found = customer_features(make_days(rows, kinds=kinds), period=_period(AS_OF, 182), kinds=kinds)
    stages = found[[f"stage_{who}" for who in visits]]
    assert (stages.sum(axis=1) == 1).all()
    assert {who: stages.loc[who].idxmax().removeprefix("stage_") for who in visits} == {who: who for who in visits}


def test_dormant_customers_have_the_category_they_bought_most(make_days: object) -> None:
    rows = [("old", "2023-01-01", "purchase", 5.0, "bread"), ("old", "2023-01-02", "purchase", 9.0, "tea")]
    rows += [("here", "2024-05-01", "purchase", 1.0, "tea")]
    found = dormant_customers(make_days(rows, kinds={"purchase": "customer"}), period=_period(AS_OF, 182))
    assert found[["customer_id", "silent_days", "bought_most"]].to_numpy().tolist() == [["old", 516, "tea"]]


def _channels(events: made.Events) -> tuple[str, ...]:
    return tuple(made.CHANNELS) if "channel" in events.columns else ()


MAILED_KINDS = {"purchase": "customer", "mail_sent": "company"}
PREVIOUS_AS_OF, UPDATE_AS_OF = date(2024, 3, 1), date(2024, 4, 1)
WINDOWS = {"lookback_days": 90, "horizon_days": 30}
UPDATE_ROWS = [  # event_id, customer, local day, kind, order, amount, category
    ("1", "ann", "2024-02-10", "purchase", "o1", 4.0, "tea"),
    ("2", "ann", "2024-02-29", "purchase", "o2", 6.0, "tea"),
    ("3", "bob", "2024-02-20", "mail_sent", None, None, None),
    ("4", "ann", "2024-03-02", "purchase", "o2", 2.5, "bread"),  # added to an order of before
    ("5", "bob", "2024-03-05", "purchase", "o3", 8.0, "tea"),
    ("2", "ann", "2024-03-06", "purchase", "o2", 6.0, "tea"),  # sent again: counted before
]


def _events(rows: list[tuple]) -> ir.Table:
    names = ["event_id", "customer_id", "day", "event", "order_id", "amount", "category"]
    frame = pd.DataFrame(rows, columns=names).astype({"amount": float}).assign(hour=9)
    table = ibis.duckdb.connect().create_table("events", frame.assign(day=pd.to_datetime(frame["day"])))
    return table.mutate(day=table.day.date(), amount=table.amount.cast("decimal(18, 4)"))


def _before(rows: list[tuple], folder: Path) -> Run:
    run = open_run(folder / "then", as_of=PREVIOUS_AS_OF.isoformat(), **WINDOWS)
    events = _events(rows)
    describe_customers(events.filter(events.day < ibis.literal(PREVIOUS_AS_OF)), run=run, kinds=MAILED_KINDS)
    return run


def test_merging_new_events_gives_the_same_as_reading_all(tmp_path: Path) -> None:
    added, whole = (open_run(tmp_path / name, as_of=UPDATE_AS_OF.isoformat(), **WINDOWS) for name in ("added", "whole"))
    customers, reason = update_customers(
        _events(UPDATE_ROWS), run=added, previous=_before(UPDATE_ROWS, tmp_path), kinds=MAILED_KINDS
    )
    wanted = describe_customers(_events(UPDATE_ROWS), run=whole, kinds=MAILED_KINDS)
    assert reason == ""
    pd.testing.assert_frame_equal(customers.data.features, wanted.data.features)
    for name in ("days", "day_categories", "day_orders"):
        pd.testing.assert_frame_equal(added.table(name), whole.table(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "late",
    [
        ("9", "bob", "2024-02-11", "purchase", "o9", 3.0, "tea"),
        ("9", "bob", "2024-02-11", "mail_sent", None, None, None),
        ("1", "ann", "2024-02-10", "purchase", "o1", 5.0, "tea"),  # the amount was put right
        ("1", "bob", "2024-02-10", "purchase", "o1", 4.0, "tea"),  # it was bob's
        ("1", "ann", "2024-02-10", "purchase", "o1", 4.0, "wine"),  # it was no tea
        ("1", "ann", "2024-02-11", "purchase", "o1", 4.0, "tea"),  # a day later
    ],
)
def test_changed_history_is_read_again(late: tuple, tmp_path: Path) -> None:
    previous = _before(UPDATE_ROWS, tmp_path)
    rows = [late, *(row for row in UPDATE_ROWS if row[0] != late[0])]
    added, whole = (open_run(tmp_path / name, as_of=UPDATE_AS_OF.isoformat(), **WINDOWS) for name in ("added", "whole"))
    customers, reason = update_customers(_events(rows), run=added, previous=previous, kinds=MAILED_KINDS)
    assert reason == "the source has other events before 2024-03-01 than the previous run read"
    wanted = describe_customers(_events(rows), run=whole, kinds=MAILED_KINDS)
    pd.testing.assert_frame_equal(customers.data.features, wanted.data.features)


@pytest.mark.slow
def test_days_without_orders_or_with_other_kinds_are_not_extended(tmp_path: Path) -> None:
    previous = _before(UPDATE_ROWS, tmp_path)
    run = open_run(tmp_path / "now", as_of=UPDATE_AS_OF.isoformat(), **WINDOWS)
    other = {**MAILED_KINDS, "visit": "customer"}
    assert (
        update_customers(_events(UPDATE_ROWS), run=run, previous=previous, kinds=other)[1]
        == "the previous run has other kinds of event"
    )
    (previous.path / "tables" / "day_orders.parquet").unlink()
    assert (
        update_customers(_events(UPDATE_ROWS), run=run, previous=previous, kinds=MAILED_KINDS)[1]
        == "the previous run has no orders"
    )


def test_customers_of_a_run_are_read_from_its_features_and_are_those_of_its_days() -> None:
    run = load_run(segkit.example_run())
    kinds = open_run_source(run).kinds
    read, summed = load_customers(run, kinds=kinds).data, customer_data(load_days(run), period=run.period, kinds=kinds)
    pd.testing.assert_frame_equal(read.features, summed.features, check_exact=True)
    assert (read.weights != summed.weights).nnz == 0 and read.categories == summed.categories
