"""A table does not drift from itself, real changes are beyond chance, and row order does not matter."""

import numpy as np
import pandas as pd
import pytest

from segkit.refresh.drift import confidence_drift, feature_drift, share_drift

PEOPLE = [f"c{n:03d}" for n in range(200)]


@pytest.fixture
def features() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    columns = {name: rng.lognormal(1, 0.6, len(PEOPLE)) for name in ("orders", "spend", "active_days")}
    return pd.DataFrame(columns, index=pd.Index(PEOPLE, name="customer_id"))


@pytest.fixture
def placed() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    columns = {"segment": rng.choice(["S01", "S02", "S03"], len(PEOPLE)), "confidence": rng.uniform(0.4, 0.8, 200)}
    return pd.DataFrame(columns, index=pd.Index(PEOPLE, name="customer_id"))


def test_a_table_does_not_drift_from_itself(features: pd.DataFrame, placed: pd.DataFrame) -> None:
    tables = [feature_drift(features, features), share_drift(placed["segment"], placed["segment"])]
    for table in [*tables, confidence_drift(placed, placed)]:
        assert (table["size"] == 0).all() and (table["verdict"] == "as chance").all() and not table["beyond"].any()


def test_only_the_feature_that_changed_drifts(features: pd.DataFrame) -> None:
    rng = np.random.default_rng(5)
    after = features * rng.lognormal(0, 0.2, features.shape)
    after["spend"] *= 2.5
    table = feature_drift(features, after)
    assert table["item"].iloc[0] == "spend" and table["verdict"].tolist() == ["large", "as chance", "as chance"]
    spend = table.iloc[0]
    assert spend["difference_low"] < spend["difference"] < spend["difference_high"] and spend["difference_low"] > 0
    assert spend["difference"] == pytest.approx(after["spend"].mean() - features["spend"].mean())


def test_customers_who_swap_segments_are_no_drift_of_shares() -> None:
    before = pd.Series(["S01"] * 100 + ["S02"] * 100, index=PEOPLE)
    after = pd.Series(["S02"] * 30 + ["S01"] * 70 + ["S01"] * 30 + ["S02"] * 70, index=PEOPLE)
    assert share_drift(before, after)["verdict"].tolist() == ["as chance", "as chance"]


def test_a_segment_that_loses_a_third_of_its_customers_drifts() -> None:
    before = pd.Series(["S01"] * 100 + ["S02"] * 100, index=PEOPLE)
    table = share_drift(before, pd.Series(["S02"] * 33 + ["S01"] * 67 + ["S02"] * 100, index=PEOPLE))
    assert table.set_index("item")["verdict"].to_dict() == {"S01": "large", "S02": "large"}
    assert table["difference"].tolist() == pytest.approx([-0.165, 0.165])


def test_customers_who_join_and_leave_at_random_are_no_drift(features: pd.DataFrame, placed: pd.DataFrame) -> None:
    assert not feature_drift(features.iloc[10:], features.iloc[:190])["beyond"].any()
    assert not share_drift(placed["segment"].iloc[10:], placed["segment"].iloc[:190])["beyond"].any()


def test_lower_confidence_is_reported_overall_and_by_segment(placed: pd.DataFrame) -> None:
    table = confidence_drift(placed, placed.assign(confidence=placed["confidence"] - 0.1)).set_index("item")
    assert table.index.tolist() == ["all", "S01", "S02", "S03"] and (table["verdict"] == "large").all()
    assert table["difference"].tolist() == pytest.approx([-0.1] * 4)


def test_order_of_rows_does_not_matter_and_the_input_is_unchanged(features: pd.DataFrame) -> None:
    after = features * 1.1
    original = features.copy()
    reordered = feature_drift(features.iloc[::-1], after.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(reordered, feature_drift(features, after))
    pd.testing.assert_frame_equal(features, original)


def test_the_seed_decides_the_permutations(features: pd.DataFrame) -> None:
    after = features * 1.02
    first, again, other = (feature_drift(features, after, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert (first["size"] == other["size"]).all() and (first["chance"] != other["chance"]).any()


def test_unknown_values_are_a_bin_of_their_own(features: pd.DataFrame) -> None:
    after = features.assign(spend=features["spend"].where(np.arange(200) % 2 == 0))
    assert feature_drift(features, after).set_index("item").loc["spend", "verdict"] == "large"
