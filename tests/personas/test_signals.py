"""Signals: what sets a segment apart, in behaviour and in what its customers buy."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from segkit.personas.traits import MIN_BUYERS, SIGNAL_COLUMNS, segment_needs, segment_signals, segment_traits
from segkit.tables import check

Plant = Callable[..., tuple]


@pytest.fixture
def labelled(planted_windows: Plant) -> tuple:
    """Signals of customers with four planted needs, and each need's segment."""
    windows, need = planted_windows()
    segment = pd.Series([f"S{n + 1:02d}" for n in need], index=windows.now.features.index, name="segment")
    return windows.now, segment


def test_every_feature_of_every_segment_stands_against_the_others(labelled: tuple) -> None:
    now, segment = labelled
    table = segment_signals(now.features, segment)
    check(table, name="signals")
    assert table.columns.tolist() == SIGNAL_COLUMNS and len(table) == 4 * 4
    row = table.set_index(["segment", "feature"]).loc[("S04", "orders")]
    inside = segment == "S04"
    assert row["value"] == pytest.approx(now.features.loc[inside, "orders"].mean())
    assert row["others"] == pytest.approx(now.features.loc[~inside, "orders"].mean())
    assert row["effect_low"] < row["effect"] < row["effect_high"] and row["effect"] > 0
    assert table.groupby("segment")["effect"].apply(lambda e: e.abs().is_monotonic_decreasing).all()


def test_alike_segments_have_no_signal_and_a_constant_feature_none_at_all() -> None:
    features = pd.DataFrame({"orders": [1.0, 2.0] * 10, "spend": 5.0})
    features.index = pd.Index([f"c{i:02d}" for i in range(20)], name="customer_id")
    table = segment_signals(features, pd.Series(["S01"] * 10 + ["S02"] * 10, index=features.index))
    assert table["effect"].abs().max() < 1e-9


def test_planted_needs_are_found_and_rare_ones_are_not_told(labelled: tuple) -> None:
    now, segment = labelled
    needs = segment_needs(now, segment, most=3)
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
    now, segment = labelled
    few = segment.copy()
    few.iloc[: MIN_BUYERS - 1] = "S99"
    needs = segment_needs(now, few)
    assert "S99" not in set(needs["segment"]) and len(needs)


def test_a_segment_of_whom_nobody_bought_has_no_need(labelled: tuple) -> None:
    now, segment = labelled
    bought = now.weights.toarray()
    idle = segment == "S01"
    bought[idle.to_numpy()] = 0.0
    from scipy import sparse

    needs = segment_needs(type(now)(now.features, sparse.csr_array(bought), now.categories), segment)
    assert set(needs["segment"]) == {"S02", "S03", "S04"} and np.isfinite(needs["effect"]).all()


def test_without_categories_there_are_no_needs_but_the_same_columns(labelled: tuple) -> None:
    now, segment = labelled
    without = segment_needs(type(now)(now.features, None, ()), segment)
    assert without.empty and without.columns.tolist() == segment_needs(now, segment).columns.tolist()


def test_signals_are_not_changed_and_order_of_customers_does_not_matter(labelled: tuple) -> None:
    now, segment = labelled
    before = now.features.copy()
    order = np.random.default_rng(0).permutation(len(segment))
    pd.testing.assert_frame_equal(
        segment_needs(now, segment), segment_needs(now.select(order), segment.iloc[order]), check_exact=False
    )
    pd.testing.assert_frame_equal(now.features, before)


def test_traits_are_what_is_surely_above_among_those_of_whom_it_is_known() -> None:
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
