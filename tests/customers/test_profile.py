"""The profile, the datasheet, attributes, KPIs, and whether data can carry a segmentation."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest

from segkit.customers import profile
from segkit.customers.days import Days
from segkit.customers.profile import (
    DATASHEET_COLUMNS,
    attribute_features,
    common_values,
    datasheet,
    require_sufficient_history,
)
from segkit.data.privacy import PrivacyRules
from segkit.data.spec import parse_source
from segkit.errors import InputError
from segkit.period import Period
from segkit.tables import check
from segkit.vocabulary import describe

KINDS = {"purchase": "customer", "mail": "company"}
EVENTS = [
    ("ann", "2024-03-05", "purchase", 10.0, "tea"),
    ("ann", "2024-04-02", "purchase", 30.0, None),
    ("bob", "2024-04-20", "purchase", 5.0, "tea"),
    ("bob", "2024-05-31", "purchase", 15.0, "tea"),
    ("eve", "2024-05-01", "mail", None, None),
]
LATER = [
    ("ann", "2024-06-15", "purchase", 99.0, "rum"),
    ("new", "2024-07-01", "purchase", 99.0, None),
    ("eve", "2024-06-20", "mail", None, None),
]
NONE_REJECTED = pd.DataFrame(columns=["table", "reason", "rows", "share"])


def make_profile(make_days: Callable, make_events: Callable, events: list, as_of: date, **windows: int) -> pd.DataFrame:
    period = Period(as_of, **{"lookback_days": 30, "horizon_days": 20, **windows})
    days = make_days(events, kinds=KINDS)
    return profile.profile(days, events=make_events(events), rejected=NONE_REJECTED, period=period)


def test_activity_counts_events_and_customers_by_month_and_kind(make_days: Callable, midyear: date) -> None:
    table = profile.activity(make_days(EVENTS, kinds=KINDS), as_of=midyear, kinds=KINDS)
    expected = pd.DataFrame(
        {
            "month": pd.to_datetime(["2024-03-01", "2024-04-01", "2024-05-01", "2024-05-01"]),
            "event": ["purchase", "purchase", "mail", "purchase"],
            "events": [1, 2, 1, 1],
            "customers": [1, 2, 1, 1],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    check(table, name="activity")


@pytest.mark.parametrize("as_of", [date(2024, 6, 1), date(2024, 6, 15), date(2024, 6, 30)])
def test_retention_covers_every_finished_month(make_days: Callable, as_of: date) -> None:
    events = [*EVENTS, ("ann", "2024-06-10", "purchase", 1.0, None)]
    table = profile.retention(make_days(events, kinds=KINDS), as_of=as_of)
    expected = pd.DataFrame(
        {
            "cohort": pd.to_datetime(["2024-03-01", "2024-03-01", "2024-04-01", "2024-04-01"]),
            "newcomers": [1, 1, 1, 1],
            "months_since": [0, 1, 0, 1],
            "share": [1.0, 1.0, 1.0, 1.0],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_kpis_are_dated_and_count_only_active_customers(make_days: Callable, midyear: date) -> None:
    table = profile.kpis(
        make_days(EVENTS, kinds=KINDS), period=Period(midyear, lookback_days=30, horizon_days=20), kinds=KINDS
    )
    check(table, name="kpis")
    value = table.set_index("kpi")["value"]
    assert value["customers known"] == 2 and value["active rate"] == 0.5
    assert value["revenue, net of returns"] == 15 and value["value of an order"] != value["value of an order"]
    assert set(table["start"]) == {"2024-05-26"} and set(table["end"]) == {"2024-06-14"}


def test_profile_counts_days_customers_and_missing_columns(
    make_days: Callable, make_events: Callable, midyear: date
) -> None:
    table = make_profile(make_days, make_events, EVENTS, midyear)
    check(table, name="profile")
    value = table.set_index("item")["value"]
    assert value["days of history"] == 102 and value["days asked for"] == 70
    assert value["customers with events of their own"] == 2 and value["active in the lookback"] == 1
    assert value["seen on more than one day"] == 1 and value["category"] == 0.6 and value["discount"] == 0


def test_events_from_as_of_on_change_nothing(make_days: Callable, make_events: Callable, midyear: date) -> None:
    days, more = (make_days(events, kinds=KINDS) for events in (EVENTS, EVENTS + LATER))
    period = Period(midyear, lookback_days=30, horizon_days=20)
    for make in (
        lambda state: profile.activity(state, as_of=midyear, kinds=KINDS),
        lambda state: profile.retention(state, as_of=midyear),
        lambda state: profile.kpis(state, period=period, kinds=KINDS),
    ):
        pd.testing.assert_frame_equal(make(days), make(more))
    pd.testing.assert_frame_equal(
        make_profile(make_days, make_events, EVENTS, midyear),
        make_profile(make_days, make_events, EVENTS + LATER, midyear),
    )


def table_of(**changes: float) -> pd.DataFrame:
    """A profile of data that can carry a segmentation, with some changes."""
    usual = {
        "days of history": 400,
        "days asked for": 364,
        "customers with events of their own": 900,
        "active in the lookback": 900,
        "seen on more than one day": 0.8,
        profile.TOP_REVENUE_ITEM: 0.1,
        "category": 1.0,
        "amount": 1.0,
    }
    lines = {**usual, **{name.replace("_", " "): value for name, value in changes.items()}}
    section = ["columns" if name in ("category", "amount") else "customers" for name in lines]
    return pd.DataFrame({"section": section, "item": list(lines), "value": list(lines.values())})


@pytest.mark.parametrize(
    ("changes", "answer", "words"),
    [
        ({}, "yes", "are enough"),
        ({"active_in_the_lookback": 39}, "no", "39 of 900 customers were active"),
        ({"active_in_the_lookback": 239}, "with limits", "enough for 11 segments of 20 at most"),
        ({"days_of_history": 300}, "with limits", "Testing the segments on later months takes 364"),
        ({"seen_on_more_than_one_day": 0.1}, "with limits", "Only 10% of customers"),
        ({"revenue_with_the_top_hundredth": 0.6}, "with limits", "read means with care"),
        ({"amount": 0.0}, "with limits", "No amount: it would add spend"),
    ],
)
def test_the_verdict_is_yes_or_has_reasons(changes: dict[str, float], answer: str, words: str) -> None:
    verdict = profile.assess_data(table_of(**changes))
    assert verdict.answer == answer and words in " ".join(verdict.reasons)


def test_profile_metrics_are_flat(make_days: Callable, make_events: Callable, midyear: date) -> None:
    table = make_profile(make_days, make_events, EVENTS, midyear)
    metrics = profile.profile_metrics(table, verdict=profile.assess_data(table), features=pd.DataFrame({"a": [1.0]}))
    assert metrics == {
        "profile.verdict": "no",
        "profile.customers": 2,
        "profile.segmented": 1,
        "profile.features": 1,
        "profile.history_days": 102,
        "profile.rows_set_aside": 0,
    }


def test_identifiers_and_unused_columns_are_not_read(make_events: Callable) -> None:
    people = ibis.memtable({"customer_id": ["b", "a"], "age": [3, 4], "mail": ["x@y", "z@y"], "why": [0, 1]})
    attributes: Any = profile.customer_attributes(
        people, roles={"age": "demographic", "mail": "identifier", "why": "ignore"}
    )
    assert attributes.to_dict("list") == {"customer_id": ["a", "b"], "age": [4, 3]}


def test_data_without_anything_to_predict_is_refused_with_the_count() -> None:
    with pytest.raises(InputError, match="1 of 900 customers .*2 segments of 20 need 40"):
        require_sufficient_history(table_of(active_in_the_lookback=1))
    with pytest.raises(InputError, match="none of 900 customers was seen on more than one day"):
        require_sufficient_history(table_of(seen_on_more_than_one_day=0))
    with pytest.raises(InputError, match="Orders span up to 510 days"):
        require_sufficient_history(table_of(seen_on_more_than_one_day=0, days_of_the_longest_order=510))
    require_sufficient_history(table_of(active_in_the_lookback=40, seen_on_more_than_one_day=0.1))


def test_everyone_is_counted_in_their_stage_of_the_lifecycle() -> None:
    stages = ["new", "active", "active", "lapsed"]
    features = pd.DataFrame({f"stage_{s}": [float(s == own) for own in stages] for s in profile.STAGES})
    table = profile.lifecycle(features).set_index("stage")
    assert table["customers"].to_dict() == {"new": 1, "active": 2, "cooling": 0, "lapsed": 1, "returned": 0}
    assert table["share"].sum() == 1 and (table["share_low"] <= table["share"]).all()
    assert profile.lifecycle(features.head(0))["customers"].tolist() == [0] * 5


ATTRIBUTE_ROLES = {
    "age": "demographic",
    "income": "demographic",
    "region": "geographic",
    "mail": "identifier",
    "old": "current_segment",
}


def attribute_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": [f"c{i:02d}" for i in range(50)],
            "age": ["young", "old's"] * 22 + ["rare"] * 3 + [None] * 3,
            "income": [None, 10.0] * 25,
            "region": ["north"] * 25 + [None] * 25,
            "mail": "a@b.c",
            "old": "A",
        }
    )


def test_frequent_values_become_flags_and_numbers_stay_numbers() -> None:
    table = ibis.memtable(attribute_table())
    values = common_values(table, roles=ATTRIBUTE_ROLES)
    assert values == {"age": ["old's", "young"], "income": None, "region": ["north"]}
    found = attribute_features(table, roles=ATTRIBUTE_ROLES, index=pd.Index(["c49", "c00", "absent"]))
    assert list(found.columns) == [
        "demographic: age = old's",
        "demographic: age = young",
        "missing: age",
        "demographic: income",
        "missing: income",
        "geographic: region = north",
        "missing: region",
    ]
    assert found.loc["c00"].tolist() == [0, 1, 0, 0, 1, 1, 0]
    assert found.loc["c49"].tolist() == [0, 0, 1, 10, 0, 0, 1]
    assert found.loc["absent"].tolist() == [0, 0, 1, 0, 1, 0, 1]
    assert {name: describe(name).unit for name in found.columns[-4:]} == {
        "demographic: income": "value",
        "missing: income": "share",
        "geographic: region = north": "share",
        "missing: region": "share",
    }


def test_without_a_customer_table_there_are_no_attributes() -> None:
    assert attribute_features(None, roles={}, index=pd.Index(["a", "b"])).shape == (2, 0)


SOURCE = """\
name: shop
timezone: Europe/Berlin  # guess: the zone
kinds: {purchase: customer, mail: company}
events:
  - {path: lines.csv, where: paid > 0, columns: {customer_id: who, timestamp: when, amount: paid}}
customers: {path: people.csv, columns: {customer_id: id, age: age, mail: mail, ok: ok},
            roles: {age: demographic, mail: identifier, ok: consent}}
"""
SOURCE_EVENTS = [("ann", "2024-01-02", "purchase", 3.0, None), ("bob", "2024-02-01", "mail", None, None),
          ("bob", "2024-07-01", "purchase", 9.0, None)]  # fmt: skip


def test_the_datasheet_lists_what_was_used_and_left_out_without_customers(
    make_days: Callable[..., Days], tmp_path: Path
) -> None:
    source = parse_source(SOURCE, label="shop.yaml", base=tmp_path)
    days = make_days(SOURCE_EVENTS, kinds=source.kinds)
    rejected = pd.DataFrame({"table": ["lines.csv"], "reason": ["no customer"], "rows": [1234], "share": [0.01]})
    options = {"period": Period(date(2024, 6, 1), lookback_days=100, horizon_days=50)}
    table = datasheet(source, days, rejected=rejected, **options)
    assert table.columns.tolist() == DATASHEET_COLUMNS and table.map(lambda cell: isinstance(cell, str)).all().all()
    values = {(row.about, row.item): row.value for row in table.itertuples()}
    assert values["period", "days used"] == "2024-01-02 to 2024-02-01", "nothing on or after as_of"
    assert values["events", "used"] == "1 mail (by the company), 1 purchase (by the customer)"
    assert values["events", "lines.csv"] == "customer_id (who), timestamp (when), amount (paid)"
    assert values["left out", "lines.csv: no customer"] == "1,234 rows"
    assert values["consent", "columns"] == "ok" and values["ids", "customers are identified by"] == "ids of the source"
    assert values["customers", "mail"] == "identifier"
    assert values["guess", "timezone: Europe/Berlin"] == "of the draft"
    assert not {"ann", "bob"} & {word for cell in table.to_numpy().ravel() for word in cell.split()}
    privacy = PrivacyRules(lists=(("key", frozenset({"mark"})),))
    table = datasheet(
        source.model_copy(update={"privacy": privacy}), days, rejected=rejected[:0], pseudonyms=True, **options
    )
    values = {(row.about, row.item): row.value for row in table.itertuples()}
    assert values["left out", "erased customers"] == "<20" and values["ids", "customers are identified by"] == "hashes"
