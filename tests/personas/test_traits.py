"""Gaps, topics, sides and bars: what is missing, what is said, and what demographics would have told."""

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.features import CustomerData
from segkit.period import Period
from segkit.personas.rules import top_differences
from segkit.personas.traits import (
    UNMET_COLUMNS,
    compare_predictors,
    customer_texts,
    learn_topics,
    segment_signals,
    segment_topics,
    unmet_needs,
)
from segkit.tables import check
from tests.personas.helpers import needs_of


@pytest.fixture
def shop() -> tuple[CustomerData, pd.Series, pd.DataFrame]:
    """240 customers alike but for one thing: S02 does not buy candles, which everyone else often does."""
    rng = np.random.default_rng(5)
    index = pd.Index([f"c{i:03d}" for i in range(240)], name="customer_id")
    segment = pd.Series(np.repeat(["S01", "S02"], 120), index=index)
    bought = rng.random((240, 4)) < [0.9, 0.5, 0.5, 0.7]
    bought[segment.eq("S02"), 3] &= rng.random(120) < 0.3
    features = pd.DataFrame({"spend": rng.random(240), "orders": rng.integers(1, 9, 240).astype(float)}, index=index)
    signals = CustomerData(features, sparse.csr_array(10.0 * bought), ("BREAD", "MILK", "RUM", "CANDLES"))
    return signals, segment, pd.DataFrame({"axis_1": rng.normal(size=240)}, index=index)


def test_what_similar_customers_buy_and_a_segment_does_not_is_found_and_measured(shop: tuple) -> None:
    signals, segment, axes = shop
    table = unmet_needs(signals, segment, axes=axes, named_needs={})
    check(table, name="unmet_needs")
    row = table.set_index("segment").loc["S02"]
    assert (
        row["term"] == "CANDLES"
        and row["difference_low"] > 0.2
        and row["difference_low"] < row["difference"] < row["difference_high"]
    )
    assert row["difference"] == pytest.approx(row["peers"] - row["buyers"]) and row["members"] == 60
    pd.testing.assert_frame_equal(table, unmet_needs(signals, segment, axes=axes, named_needs={}))


def test_what_a_segment_over_buys_is_not_what_it_lacks_and_chance_is_no_gap(shop: tuple) -> None:
    signals, segment, axes = shop
    assert "CANDLES" not in set(unmet_needs(signals, segment, axes=axes, named_needs={"S02": ["CANDLES"]})["term"])
    drawn = pd.Series(np.random.default_rng(0).permutation(segment.to_numpy()), index=segment.index)
    assert len(unmet_needs(signals, drawn, axes=axes, named_needs={})) <= 1
    without = CustomerData(signals.features, None, ())
    assert unmet_needs(without, segment, axes=axes, named_needs={}).columns.tolist() == UNMET_COLUMNS


def texts_of(segment: pd.Series) -> pd.DataFrame:
    """S02 writes of late parcels, S01 of friendly people; both say a few words more."""
    said = {"S01": "friendly people at the desk, {}", "S02": "parcels never come on time, {}"}
    small = ["good morning", "kind regards", "see you"]
    rows = [(c, said[s].format(small[i % 3])) for i, (c, s) in enumerate(segment.items())]
    return pd.DataFrame(rows, columns=["customer_id", "text"])


def test_topics_of_a_segment_are_found_and_a_wish_that_no_purchase_answers_is_unmet(shop: tuple) -> None:
    _signals, segment, _axes = shop
    spoken = learn_topics(texts_of(segment), count=3)
    table = segment_topics(spoken, segment, bought={"S01": ["desk lamps"], "S02": ["bread"]}).set_index("segment")
    check(table.reset_index(), name="topics")
    assert "parcels" in table.loc["S02", "topic"] and table.loc["S02", "unmatched"]
    assert not table.loc["S01", "unmatched"] and table.loc["S02", "low"] > 0
    matched = segment_topics(spoken, segment, bought={"S02": ["parcel service"]}).set_index("segment")
    assert not matched.loc["S02", "unmatched"]


def test_few_texts_or_few_writers_tell_nothing(shop: tuple) -> None:
    _signals, segment, _axes = shop
    assert learn_topics(texts_of(segment).head(50)) is None and segment_topics(None, segment).empty
    spoken = learn_topics(texts_of(segment), count=3)
    few = segment.where(segment.index < "c225", "S09")
    assert "S09" not in set(segment_topics(spoken, few)["segment"])


def test_only_what_was_said_in_the_window_counts() -> None:
    days = pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"]).date
    table = pd.DataFrame({"customer_id": ["a", "b", "c"], "day": days, "text": ["old", "now", "later"]})
    period = Period.parse("2024-03-01", lookback_days=40, horizon_days=1)
    assert customer_texts(ibis.memtable(table), period=period)["text"].tolist() == ["now"]
    assert customer_texts(ibis.memtable(table.drop(columns="text")), period=period).empty


def test_groups_that_know_nothing_read_no_better_than_chance_and_segments_do(shop: tuple) -> None:
    signals, segment, _axes = shop
    rng = np.random.default_rng(2)
    needs = pd.DataFrame(rng.random((240, 2)) * 0.2, index=segment.index, columns=["needs: tea", "needs: rum"])
    needs.loc[segment.eq("S01"), "needs: tea"] += 0.5
    needs.loc[segment.eq("S02"), "needs: rum"] += 0.5
    group = pd.Series(rng.choice(["young", "old"], 240), index=segment.index).where(rng.random(240) < 0.8)
    table = compare_predictors(signals, segment, {"demographic": group}, needs=needs)
    check(table, name="comparison")
    row = table[table["reading"] == "need"].set_index("grouping")
    assert row.loc["ours", "wrong"] < 0.05 and row.loc["demographic", "wrong"] > 0.3
    assert row.loc["demographic", "fewer_low"] > 0.2 and (row["customers"] < 110).all()
    assert compare_predictors(signals, segment, {}, needs=needs).empty
    assert compare_predictors(signals, segment, {"demographic": group.where(group.index < "c030")}, needs=needs).empty


def test_bars_are_the_largest_differences_two_of_them_needs_and_none_twice() -> None:
    rng = np.random.default_rng(1)
    index = pd.Index([f"c{i:03d}" for i in range(80)], name="customer_id")
    segment = pd.Series(np.repeat(["S01", "S02"], 40), index=index)
    at = segment.eq("S02").to_numpy() * 1.0
    columns = {
        n: rng.normal(size=80) + 5 + 2 * at for n in ("orders", "spend", "order_value", "weekend_share", "gap_days")
    }
    signals = segment_signals(pd.DataFrame(columns, index=index), segment)
    needs = needs_of(S02=["TEA", "GREEN TEA", "RUM"])
    bars = top_differences(signals, needs, labels={"TEA": "tea", "GREEN TEA": "tea"})
    own = bars[bars["segment"] == "S02"]
    assert own["words"].tolist().count("share of tea") == 1 and "share of rum" in set(own["words"])
    assert len(own) == 5 and own["effect"].abs().is_monotonic_decreasing and own["bar"].tolist() == [1, 2, 3, 4, 5]
    assert len({"orders", "spend"} & set(own["words"])) == 1, "one of those that say the same"
