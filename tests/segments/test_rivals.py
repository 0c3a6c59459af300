"""The rivals: what everyone could have had from the same data."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from segkit.segments.rivals import LABELS, MOST_GROUPS, _quantiles, known_groups, rivals

Plant = Callable[..., tuple]


def test_equal_values_get_equal_scores() -> None:
    assert _quantiles(pd.Series([1.0] * 5 + [9.0] * 5)).tolist() == [1] * 5 + [3] * 5
    assert len(set(_quantiles(pd.Series([7.0] * 12)))) == 1
    values = pd.Series(np.random.default_rng(0).integers(0, 6, 200).astype(float))
    assert pd.Series(_quantiles(values)).groupby(values).nunique().max() == 1


@pytest.mark.parametrize("rows", [5, 10, 1000])
def test_distinct_values_fall_into_fifths_of_the_same_size(rows: int) -> None:
    values = pd.Series(np.random.default_rng(1).permutation(rows).astype(float))
    assert np.bincount(_quantiles(values)).tolist() == [rows // 5] * 5
    assert (np.diff(_quantiles(values)[np.argsort(values)]) >= 0).all()


def test_rivals_are_made_of_everyone_with_as_many_groups_as_ours(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    axes = windows.now.features[["orders", "spend"]]
    found = rivals(windows.now, axes=axes, count=7)
    assert set(found) <= set(LABELS) and all(len(groups) == 240 for groups in found.values())
    assert len(set(found["kmeans"])) == len(set(found["kmeans_space"])) == 7
    assert found["rfm25"].max() < 25 and found["rfm125"].max() < 125
    again = rivals(windows.now, axes=axes, count=7)
    assert all((found[name] == again[name]).all() for name in found)


def test_lately_and_often_are_the_highest_fifths(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    found = rivals(windows.now, axes=windows.now.features[["orders"]], count=2)
    best = windows.now.features.assign(cell=found["rfm25"]).sort_values("orders").iloc[-1]
    assert best["cell"] == 24


def test_a_source_without_money_or_orders_has_recency_and_activity(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    now = type(windows.now)(windows.now.features[["active_days", "recency_days"]], None, ())
    assert set(rivals(now, axes=now.features, count=3)) == {"rfm25", "kmeans", "kmeans_space"}


PEOPLE = pd.DataFrame(
    {
        "customer_id": ["a", "b", "c", "d", "e"],
        "age": ["old", "old", "young", None, "young"],
        "children": [0.0, 1.0, 3.0, None, None],
        "region": ["north", "south", None, None, "south"],
        "tier": ["gold", None, "gold", "blue", None],
        "mail": ["x@y"] * 5,
    }
)
ROLES = {
    "age": "demographic",
    "children": "demographic",
    "region": "geographic",
    "tier": "current_segment",
    "mail": "identifier",
}


def test_known_groups_leave_out_those_of_whom_nothing_is_known() -> None:
    found = known_groups(PEOPLE, roles=ROLES)
    assert list(found) == ["demographic", "geographic", "current_segment"]
    assert found["demographic"].index.tolist() == ["a", "b", "c", "e"], "d is unknown"
    assert found["geographic"].to_dict() == {"a": "north", "b": "south", "e": "south"}
    assert found["current_segment"].dropna().to_dict() == {"a": "gold", "c": "gold", "d": "blue"}


def test_many_groups_are_joined_to_a_few_and_nothing_known_is_no_rival() -> None:
    many = pd.DataFrame({"customer_id": [f"c{i}" for i in range(60)], "age": [float(i) for i in range(60)]})
    assert known_groups(many, roles={"age": "demographic"})["demographic"].nunique() == MOST_GROUPS
    assert known_groups(None, roles={}) == {}
    assert known_groups(PEOPLE[["customer_id", "mail"]], roles=ROLES) == {}
