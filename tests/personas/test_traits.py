"""How segments differ: signals, needs, unmet needs, topics, demographics and top differences."""

from collections.abc import Callable

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.features import CustomerData
from segkit.period import Period
from segkit.personas.traits import (
    MIN_BUYERS,
    SIGNAL_COLUMNS,
    UNMET_COLUMNS,
    compare_predictors,
    customer_texts,
    learn_topics,
    segment_favourites,
    segment_signals,
    segment_topics,
    segment_traits,
    unmet_needs,
)
from segkit.tables import check
from tests.personas.helpers import THINGS, drinks


@pytest.fixture
def labelled(planted_windows: Callable[..., tuple]) -> tuple:
    """Customers with four planted needs, and a segment for each need."""
    windows, need = planted_windows()
    segment = pd.Series([f"S{n + 1:02d}" for n in need], index=windows.now.features.index, name="segment")
    return windows.now, segment


def test_each_feature_is_compared_with_other_customers(labelled: tuple) -> None:
    signals, segment = labelled
    table = segment_signals(signals.features, segment)
    check(table, name="signals")
    assert table.columns.tolist() == SIGNAL_COLUMNS and len(table) == 4 * 4
    row = table.set_index(["segment", "feature"]).loc[("S04", "orders")]
    inside = segment == "S04"
    assert row["value"] == pytest.approx(signals.features.loc[inside, "orders"].mean())
    assert row["others"] == pytest.approx(signals.features.loc[~inside, "orders"].mean())
    assert row["effect_low"] < row["effect"] < row["effect_high"] and row["effect"] > 0
    assert table.groupby("segment")["effect"].apply(lambda e: e.abs().is_monotonic_decreasing).all()


def test_equal_segments_and_constant_features_have_no_signal() -> None:
    features = pd.DataFrame({"orders": [1.0, 2.0] * 10, "spend": 5.0})
    features.index = pd.Index([f"c{i:02d}" for i in range(20)], name="customer_id")
    table = segment_signals(features, pd.Series(["S01"] * 10 + ["S02"] * 10, index=features.index))
    assert table["effect"].abs().max() < 1e-9


def test_a_time_of_day_that_nobody_chose_is_no_habit() -> None:
    index = pd.Index([f"c{i:02d}" for i in range(40)], name="customer_id")
    nights = np.repeat([1.0, 0.0], 20)
    features = pd.DataFrame({"active_days": 5, "night_share": nights, "morning_share": 1 - nights}, index=index)
    features = features.assign(afternoon_share=0.0, evening_share=0.0)
    segment = pd.Series(["S01"] * 20 + ["S02"] * 20, index=index)
    assert set(segment_signals(features, segment)["feature"]) == {"active_days"}
    mixed = features.assign(evening_share=0.3, morning_share=0.7 - nights * 0.7, night_share=nights * 0.7)
    assert {"night_share", "morning_share"} < set(segment_signals(mixed, segment)["feature"])


def test_planted_needs_are_found_and_rare_ones_left_out(labelled: tuple) -> None:
    signals, segment = labelled
    needs = segment_favourites(signals, segment, most=3)
    first = needs.assign(need=needs["term"].str.split().str[0]).groupby("segment")["need"].unique()
    assert {s: list(n) for s, n in first.items()} == {
        "S01": ["bake"],
        "S02": ["grill"],
        "S03": ["clean"],
        "S04": ["dine"],
    }
    assert (needs["share"] > needs["others"]).all() and needs["buyers"].between(0, 1).all()
    members = segment.value_counts().loc[needs["segment"]].to_numpy()
    assert (needs["buyers"].to_numpy() * members >= MIN_BUYERS - 1e-6).all()
    assert needs.groupby("segment")["effect"].apply(lambda e: e.is_monotonic_decreasing).all()


def test_a_segment_with_fewer_buyers_than_the_floor_has_no_need(labelled: tuple) -> None:
    signals, segment = labelled
    few = segment.copy()
    few.iloc[: MIN_BUYERS - 1] = "S99"
    needs = segment_favourites(signals, few)
    assert "S99" not in set(needs["segment"]) and len(needs)


def test_a_segment_that_bought_nothing_has_no_need(labelled: tuple) -> None:
    signals, segment = labelled
    bought = signals.weights.toarray()
    idle = segment == "S01"
    bought[idle.to_numpy()] = 0.0
    needs = segment_favourites(CustomerData(signals.features, sparse.csr_array(bought), signals.categories), segment)
    assert set(needs["segment"]) == {"S02", "S03", "S04"} and np.isfinite(needs["effect"]).all()


def test_without_categories_there_are_no_needs_but_the_same_columns(labelled: tuple) -> None:
    signals, segment = labelled
    without = segment_favourites(CustomerData(signals.features, None, ()), segment)
    assert without.empty and without.columns.tolist() == segment_favourites(signals, segment).columns.tolist()


def test_order_of_customers_does_not_matter_and_the_input_is_unchanged(labelled: tuple) -> None:
    signals, segment = labelled
    before = signals.features.copy()
    order = np.random.default_rng(0).permutation(len(segment))
    pd.testing.assert_frame_equal(
        segment_favourites(signals, segment),
        segment_favourites(signals.select(order), segment.iloc[order]),
        check_exact=False,
    )
    pd.testing.assert_frame_equal(signals.features, before)


def test_traits_are_clear_differences_among_customers_with_a_value() -> None:
    rows = 80
    even = np.arange(rows) % 2 == 0
    features = pd.DataFrame(
        {
            "orders": np.arange(rows) * 1.0,
            "needs: tea": np.where(even, 0.5, 0.1) + 0.01 * (np.arange(rows) % 5),
            "demographic: age = old": 1.0 * (np.arange(rows) % 4 < 2),  # half of each segment
            "missing: age": np.r_[np.zeros(60), np.ones(20)],
            "geographic: region = north": (np.arange(rows) < 20) * 1.0 * even,  # of ten members
            "missing: region": 0.0,
        },
        index=pd.Index([f"c{i:02d}" for i in range(rows)], name="customer_id"),
    )
    segment = pd.Series(np.where(even, "S01", "S02"), index=features.index, name="segment")
    table = segment_traits(features, segment)
    assert table[["segment", "block", "feature"]].to_numpy().tolist() == [["S01", "needs", "needs: tea"]]
    known = segment_traits(features.assign(**{"demographic: age = old": 1.0 * even}), segment)
    row = known.set_index("feature").loc["demographic: age = old"]
    assert (row["value"], row["others"], row["segment"]) == (1.0, 0.0, "S01")
    assert segment_traits(features[["orders"]], segment).empty


@pytest.fixture
def two_segments() -> tuple[CustomerData, pd.Series, pd.DataFrame]:
    """240 customers alike but for one thing: S02 hardly spends on drinks, on which everyone else often does."""
    rng = np.random.default_rng(5)
    index = pd.Index([f"c{i:03d}" for i in range(240)], name="customer_id")
    segment = pd.Series(np.repeat(["S01", "S02"], 120), index=index)
    bought = rng.random((240, 5)) < [0.5, 0.5, 0.5, 0.9, 0.9]
    bought[segment.eq("S02"), :3] &= rng.random((120, 3)) < 0.1
    features = pd.DataFrame({"spend": rng.random(240), "orders": rng.integers(1, 9, 240).astype(float)}, index=index)
    signals = CustomerData(features, sparse.csr_array(10.0 * bought), THINGS)
    return signals, segment, pd.DataFrame({"axis_1": rng.normal(size=240)}, index=index)


def test_an_unmet_need_is_found_and_measured(two_segments: tuple) -> None:
    signals, segment, axes = two_segments
    options = {"axes": axes, "needs": drinks(), "named_needs": {}}
    table = unmet_needs(signals, segment, **options)
    check(table, name="unmet_needs")
    row = table.set_index("segment").loc["S02"]
    assert row["term"] == "Drinks" and 0.2 < row["difference_low"] < row["difference"] < row["difference_high"]
    assert row["difference"] == pytest.approx(row["peers"] - row["buyers"]) and row["members"] == 60
    assert 0.01 <= row["level"] < 0.3
    pd.testing.assert_frame_equal(table, unmet_needs(signals, segment, **options))


def test_a_named_or_sensitive_need_or_chance_is_no_unmet_need(two_segments: tuple) -> None:
    signals, segment, axes = two_segments
    options = {"axes": axes, "needs": drinks(), "named_needs": {}}
    for more in ({"named_needs": {"S02": ["Drinks"]}}, {"sensitive": ["Drinks"]}):
        assert "S02" not in set(unmet_needs(signals, segment, **(options | more))["segment"])
    drawn = pd.Series(np.random.default_rng(0).permutation(segment.to_numpy()), index=segment.index)
    assert unmet_needs(signals, drawn, **options).empty
    without = CustomerData(signals.features, None, ())
    assert unmet_needs(without, segment, **options).columns.tolist() == UNMET_COLUMNS


def texts_of(segment: pd.Series) -> pd.DataFrame:
    """S02 writes of late parcels, S01 of friendly people; both add small talk."""
    texts = {"S01": "friendly people at the desk, {}", "S02": "parcels never come on time, {}"}
    small = ["good morning", "kind regards", "see you"]
    rows = [(c, texts[s].format(small[i % 3])) for i, (c, s) in enumerate(segment.items())]
    return pd.DataFrame(rows, columns=["customer_id", "text"])


def test_topics_are_found_and_a_wish_without_a_purchase_is_unmatched(two_segments: tuple) -> None:
    _signals, segment, _axes = two_segments
    topics = learn_topics(texts_of(segment), count=3)
    table = segment_topics(topics, segment, bought={"S01": ["desk lamps"], "S02": ["bread"]}).set_index("segment")
    check(table.reset_index(), name="topics")
    assert "parcels" in table.loc["S02", "topic"] and table.loc["S02", "unmatched"]
    assert not table.loc["S01", "unmatched"] and table.loc["S02", "low"] > 0
    matched = segment_topics(topics, segment, bought={"S02": ["parcel service"]}).set_index("segment")
    assert not matched.loc["S02", "unmatched"]


def test_few_texts_or_few_writers_give_no_topic(two_segments: tuple) -> None:
    _signals, segment, _axes = two_segments
    assert learn_topics(texts_of(segment).head(50)) is None and segment_topics(None, segment).empty
    topics = learn_topics(texts_of(segment), count=3)
    few = segment.where(segment.index < "c225", "S09")
    assert "S09" not in set(segment_topics(topics, few)["segment"])


def test_only_texts_in_the_lookback_count() -> None:
    days = pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"]).date
    table = pd.DataFrame({"customer_id": ["a", "b", "c"], "day": days, "text": ["old", "now", "later"]})
    period = Period.parse("2024-03-01", lookback_days=40, horizon_days=1)
    assert customer_texts(ibis.memtable(table), period=period)["text"].tolist() == ["now"]
    assert customer_texts(ibis.memtable(table.drop(columns="text")), period=period).empty


def test_segments_predict_needs_and_random_groups_do_not(two_segments: tuple) -> None:
    signals, segment, _axes = two_segments
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
