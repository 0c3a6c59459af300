"""The starting value of each segment, and key results from its own history."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days, load_days
from segkit.data.runs import Run
from segkit.errors import InputError
from segkit.experiments import design, observational
from segkit.experiments.estimate import kpi_values
from segkit.period import Period
from segkit.tables import check

KINDS = {"purchase": "customer", "coupon_used": "customer", "mail_sent": "company"}
AS_OF = date(2024, 6, 29)
PERIOD = Period(AS_OF, lookback_days=60, horizon_days=35)
OF_SHOP = Period(date(2024, 10, 1), lookback_days=182, horizon_days=91)
EVENTS = [
    ("ann", "2024-06-01", "purchase", 10.0, None),
    ("ann", "2024-06-10", "purchase", 30.0, None),
    ("ann", "2024-05-05", "purchase", 5.0, None),
    ("bob", "2024-06-02", "mail_sent", None, None),
    ("bob", "2024-05-04", "purchase", 7.0, None),
    ("eve", "2024-06-03", "mail_sent", None, None),
    ("eve", "2024-06-04", "coupon_used", None, None),
    ("eve", "2024-04-10", "purchase", 7.0, None),
    ("eve", "2024-07-01", "purchase", 999.0, None),
]
SEGMENT = pd.Series({"ann": "S01", "bob": "S01", "eve": "S02"}).rename_axis("customer_id")


@pytest.fixture
def days(make_days: Callable[..., Days]) -> Days:
    return make_days(EVENTS, kinds=KINDS)


@pytest.fixture
def shop_days(shop_run: Run) -> tuple[Days, pd.Series]:
    assigned = shop_run.table("assignments").set_index("customer_id")["segment"].sort_index()
    return load_days(shop_run), assigned


def test_baseline_is_of_the_last_horizon_and_nothing_later(days: Days) -> None:
    table = observational.baseline(days, segment=SEGMENT, period=PERIOD, kinds=KINDS)
    check(table, name="starting_values")
    value = table.set_index(["segment", "kpi"])["value"]
    assert value["all", "active rate"] == pytest.approx(2 / 3) and value["S02", "active rate"] == 1
    assert value["S01", "spend per customer"] == 20 and value["S01", "orders per customer"] == 1
    assert value["all", "response: coupon used after mail sent"] == 0.5
    assert (table["start"] == "2024-05-25").all() and (table["end"] == "2024-06-28").all()
    with_interval = table.dropna(subset=["value_low"])
    assert (with_interval["value_low"] <= with_interval["value"]).all() and (
        with_interval["value"] <= with_interval["value_high"]
    ).all()


def test_later_events_change_no_baseline(days: Days, make_days: Callable[..., Days]) -> None:
    asked = {"segment": SEGMENT, "period": PERIOD, "kinds": KINDS}
    known = make_days([event for event in EVENTS if event[1] < AS_OF.isoformat()], kinds=KINDS)
    pd.testing.assert_frame_equal(observational.baseline(days, **asked), observational.baseline(known, **asked))


def test_candidates_have_the_smallest_effect_that_each_segment_shows(shop_days: tuple[Days, pd.Series]) -> None:
    days, segment = shop_days
    wanted = pd.Series({"S01": 5.0, "S02": 0.0001, "S03": 0.1, "all": 0.1})
    table = design.candidate_pilots(days, kpi="spend", segment=segment, reachable=wanted, period=OF_SHOP).set_index(
        "segment"
    )
    assert table.index.tolist() == ["S01", "S02", "S03", "all"] and table["customers"].tolist() == [120, 100, 30, 250]
    assert table.loc["all", "smallest_share"] < table.loc["S01", "smallest_share"]
    assert table.loc["S03", ["smallest_share", "share_8", "weeks_needed"]].isna().all(), "an arm below the floor"
    assert table.loc["S01", "weeks_needed"] == 2 and np.isnan(table.loc["S02", "weeks_needed"])
    assert table.loc["S02", "size_needed"] > 100_000
    assert table.loc["S01", "share_13"] < table.loc["S01", "share_4"]
    long = replace(OF_SHOP, horizon_days=200)
    short = design.candidate_pilots(days, kpi="active", segment=segment, reachable=wanted, period=long)
    assert short["smallest_share"].isna().all()
    with pytest.raises(InputError, match="needs 400 days of history, and there are"):
        design.spreads(days, kpi="active", segment=segment, period=long)


def test_matching_removes_most_of_the_selection_of_recipients() -> None:
    rng = np.random.default_rng(1)
    before = rng.lognormal(3, 0.7, 600)
    reached = rng.random(600) < 1 / (1 + np.exp(-(np.log(before) - 3)))  # those who spend more are chosen
    observed = before + rng.normal(0, 5, 600)  # and nobody is moved by it
    past = pd.DataFrame({"pre": before, "log pre": np.log(before)})
    weight, used, auc = observational._match_weights(past, reached)
    assert 0.55 < auc < 0.9
    unadjusted = observational._stratified_difference(observed, reached, used=np.zeros(600, dtype=int))
    matched = observational._stratified_difference(observed, reached, used=used)
    assert unadjusted[1] > 3 and abs(matched[0]) < 0.35 * unadjusted[0]
    largest = [
        observational._standardised_differences(past, reached, weight=one).abs().max() for one in (np.ones(600), weight)
    ]
    assert largest[1] < 0.35 * largest[0]


def test_a_clear_difference_takes_a_strong_hidden_cause_and_an_open_one_none() -> None:
    assert observational._e_value(-1.0, 3.0, sd=2.0) == 1
    assert (
        observational._e_value(0.5, 1.5, sd=1.0)
        == pytest.approx(2.529, abs=0.001)
        == observational._e_value(-1.5, -0.5, sd=1.0)
    )


def test_each_campaign_of_the_window_is_compared_and_balanced(
    shop_days: tuple[Days, pd.Series], make_events: Callable[..., object]
) -> None:
    days, segment = shop_days
    reached = segment.index[:90]
    lines = [(customer, "2024-08-01", "mail_sent", None, None) for customer in [*reached, *reached]]
    lines += [(customer, "2024-05-01", "mail_sent", None, None) for customer in segment.index]
    lines += [("s01-001", "2024-08-02", "purchase", 1.0, None)]
    sent = observational.sent_campaigns(make_events(lines), kinds=KINDS, period=OF_SHOP)
    assert len(sent) == 90 and set(sent["campaign"]) == {"mail sent"}
    asked = {"kpi": "spend", "period": OF_SHOP, "index": segment.index}
    table, balance = observational.measure_associations(days, sent=sent, **asked)
    row = table.iloc[0]
    assert (row["sent"], row["others"]) == (90, 160) and row["matched_low"] < row["matched"] < row["matched_high"]
    assert set(balance["column"]) == {"pre", "recent", "steady"}
    assert 0.4 < row["auc"] < 0.95 and row["e_value"] >= 1
    before = kpi_values(days, kpi="spend", start=date(2024, 1, 2), window_days=182, index=segment.index)
    richest = pd.DataFrame({"customer_id": before.nlargest(60).index, "campaign": "to the best"})
    selected = observational.measure_associations(days, sent=richest, **asked)[0].iloc[0]
    assert (
        selected["auc"] > observational.MAX_AUC
        and not selected["alike"]
        and np.isnan([selected["matched"], selected["difference"]]).all()
    )
    few = observational.measure_associations(days, sent=sent.head(5), **asked)[0]
    none = observational.sent_campaigns(make_events(lines), kinds={"purchase": "customer"}, period=OF_SHOP)
    assert few.empty and none.empty and observational.measure_associations(days, sent=none, **asked)[0].empty
