"""The profile: what the data holds, whether it can carry a segmentation, and the baseline."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd
import pytest

from segkit.customers import profile
from segkit.customers.profile import require_sufficient_history
from segkit.errors import InputError
from segkit.period import Period
from segkit.tables import check

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
NONE_ASIDE = pd.DataFrame(columns=["table", "reason", "rows", "share"])


def make_profile(make_days: Callable, make_events: Callable, events: list, as_of: date, **windows: int) -> pd.DataFrame:
    period = Period(as_of, **{"lookback_days": 30, "horizon_days": 20, **windows})
    days = make_days(events, kinds=KINDS)
    return profile.profile(days, events=make_events(events), rejected=NONE_ASIDE, period=period)


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
def test_retention_holds_every_month_that_is_over(make_days: Callable, as_of: date) -> None:
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


def test_baseline_is_dated_and_counts_only_customers_who_did_something(make_days: Callable, midyear: date) -> None:
    table = profile.kpis(make_days(EVENTS, kinds=KINDS), period=Period(midyear, lookback_days=30, horizon_days=20))
    check(table, name="kpis")
    value = table.set_index("kpi")["value"]
    assert value["customers known"] == 2 and value["active rate"] == 0.5
    assert value["revenue, net of returns"] == 15 and value["value of an order"] != value["value of an order"]
    assert set(table["start"]) == {"2024-05-26"} and set(table["end"]) == {"2024-06-14"}


def test_profile_says_how_long_how_many_and_what_is_missing(
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
        lambda state: profile.kpis(state, period=period),
    ):
        pd.testing.assert_frame_equal(make(days), make(more))
    pd.testing.assert_frame_equal(
        make_profile(make_days, make_events, EVENTS, midyear),
        make_profile(make_days, make_events, EVENTS + LATER, midyear),
    )


def table_of(**changes: float) -> pd.DataFrame:
    """A profile of data that can carry a segmentation, but for the changes."""
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
        ({"active_in_the_lookback": 239}, "no", "239 of 900 customers were active"),
        ({"days_of_history": 300}, "with limits", "the proof needs lookback + 2 horizons = 364"),
        ({"seen_on_more_than_one_day": 0.1}, "with limits", "Only 10% of customers"),
        ({"revenue_with_the_top_hundredth": 0.6}, "with limits", "read means with care"),
        ({"amount": 0.0}, "with limits", "No amount: it would add spend"),
    ],
)
def test_verdict_says_yes_or_why_not(changes: dict[str, float], answer: str, words: str) -> None:
    verdict = profile.assess_data(table_of(**changes))
    assert verdict.answer == answer and words in " ".join(verdict.reasons)


def test_figures_of_the_profile_are_flat(make_days: Callable, make_events: Callable, midyear: date) -> None:
    table = make_profile(make_days, make_events, EVENTS, midyear)
    figures = profile.profile_metrics(table, verdict=profile.assess_data(table), features=pd.DataFrame({"a": [1.0]}))
    assert figures == {
        "profile.verdict": "no",
        "profile.customers": 2,
        "profile.segmented": 1,
        "profile.features": 1,
        "profile.history_days": 102,
        "profile.rows_set_aside": 0,
    }


def test_identifiers_and_columns_without_a_use_stay_in_the_source(make_events: Callable) -> None:
    import ibis

    people = ibis.memtable({"customer_id": ["b", "a"], "age": [3, 4], "mail": ["x@y", "z@y"], "why": [0, 1]})
    shown: Any = profile.customer_attributes(
        people, roles={"age": "demographic", "mail": "identifier", "why": "ignore"}
    )
    assert shown.to_dict("list") == {"customer_id": ["a", "b"], "age": [4, 3]}


def test_nothing_to_foresee_is_refused_with_the_count() -> None:
    with pytest.raises(InputError, match="1 of 900 customers .*12 segments of 20 need 240"):
        require_sufficient_history(table_of(active_in_the_lookback=1))
    with pytest.raises(InputError, match="none of 900 customers was seen on more than one day"):
        require_sufficient_history(table_of(seen_on_more_than_one_day=0))
    require_sufficient_history(table_of(active_in_the_lookback=40, seen_on_more_than_one_day=0.1))


def test_everyone_is_counted_in_their_stage_of_life() -> None:
    stages = ["new", "active", "active", "lapsed"]
    features = pd.DataFrame({f"stage_{s}": [float(s == own) for own in stages] for s in profile.STAGES})
    table = profile.lifecycle(features).set_index("stage")
    assert table["customers"].to_dict() == {"new": 1, "active": 2, "cooling": 0, "lapsed": 1, "returned": 0}
    assert table["share"].sum() == 1 and (table["share_low"] <= table["share"]).all()
    assert profile.lifecycle(features.head(0))["customers"].tolist() == [0] * 5
