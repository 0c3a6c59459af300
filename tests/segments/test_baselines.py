"""The rivals: what everyone could have had from the same data."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.runs import open_run
from segkit.segments.clustering import Budget
from segkit.segments.fit import TrainingWindow, fit_segments
from segkit.segments.model import model_to_arrays
from segkit.segments.validation import (
    BASELINE_LABELS,
    MAX_GROUPS,
    RFM_NAMES,
    attribute_groups,
    baseline_segmentations,
    previous_run_baseline,
    previous_run_label,
    rfm_names,
)
from segkit.stats import rank_groups

DAY = date(2024, 4, 1)
Plant = Callable[..., tuple]


def test_equal_values_get_equal_scores() -> None:
    assert rank_groups(pd.Series([1.0] * 5 + [9.0] * 5), parts=5).tolist() == [1] * 5 + [3] * 5
    assert len(set(rank_groups(pd.Series([7.0] * 12), parts=5))) == 1
    values = pd.Series(np.random.default_rng(0).integers(0, 6, 200).astype(float))
    assert pd.Series(rank_groups(values, parts=5)).groupby(values).nunique().max() == 1


@pytest.mark.parametrize("rows", [5, 10, 1000])
def test_distinct_values_fall_into_fifths_of_the_same_size(rows: int) -> None:
    values = pd.Series(np.random.default_rng(1).permutation(rows).astype(float))
    assert np.bincount(rank_groups(values, parts=5)).tolist() == [rows // 5] * 5
    assert (np.diff(rank_groups(values, parts=5)[np.argsort(values)]) >= 0).all()


def test_baselines_are_made_of_everyone_with_as_many_groups_as_ours(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    axes = windows.now.features[["orders", "spend"]]
    before = TrainingWindow(windows.then, windows.outcomes)
    found = baseline_segmentations(windows.now, axes=axes, count=7, before=before)
    assert {"tree", "latent_classes"} < set(found) <= set(BASELINE_LABELS)
    assert all(len(groups) == 240 for groups in found.values())
    assert len(set(found["kmeans"])) == len(set(found["kmeans_space"])) == len(set(found["latent_classes"])) == 7
    assert 2 <= len(set(found["tree"])) <= 7 and np.unique(found["tree"], return_counts=True)[1].min() >= 10
    assert found["rfm25"].max() < 25 and found["rfm125"].max() < 125
    again = baseline_segmentations(windows.now, axes=axes, count=7, before=before)
    assert all((found[name] == again[name]).all() for name in found)


def test_recently_and_often_are_the_highest_fifths(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    found = baseline_segmentations(windows.now, axes=windows.now.features[["orders"]], count=2)
    best = windows.now.features.assign(cell=found["rfm25"]).sort_values("orders").iloc[-1]
    assert best["cell"] == 24


def test_a_source_without_money_or_orders_has_recency_and_activity(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    now = type(windows.now)(windows.now.features[["active_days", "recency_days"]], None, ())
    assert set(baseline_segmentations(now, axes=now.features, count=3)) == {
        "rfm11",
        "rfm25",
        "kmeans",
        "kmeans_space",
        "latent_classes",
    }


def test_the_eleven_usual_names_follow_from_recency_and_frequency() -> None:
    grid = pd.DataFrame([(-r, o) for r in range(5) for o in range(5)], columns=["recency_days", "orders"])
    named = rfm_names(grid.assign(recency_days=grid["recency_days"] * 1.0))
    assert named.reshape(5, 5).tolist() == [list(row) for row in RFM_NAMES]
    assert len(set(named)) == 11
    assert named[-1] == "Champions" and named[0] == "Lost" and named[20] == "New Customers"


def test_names_need_no_money_and_equal_customers_get_the_same_one() -> None:
    visits = pd.DataFrame({"recency_days": [3.0] * 6 + [90.0] * 6, "active_days": [9.0] * 6 + [1.0] * 6})
    assert pd.Series(rfm_names(visits)).groupby([0] * 6 + [1] * 6).nunique().max() == 1
    assert len(set(rfm_names(pd.DataFrame({"recency_days": [5.0] * 7, "active_days": [2.0] * 7})))) == 1


def test_the_last_run_is_a_baseline_and_states_what_it_saw(planted_windows: Plant, tmp_path: Path) -> None:
    windows, _ = planted_windows()
    fit = fit_segments(windows, budget=Budget(min_segments=4, max_segments=4), n_subsamples=2)
    run = open_run(tmp_path / "run", as_of="2024-05-01", lookback_days=182, horizon_days=91, source_name="shop")
    arrays, meta = model_to_arrays(fit.model)
    run.save_model(arrays, meta=meta)
    groups = previous_run_baseline(run, windows.then)["last_run"]
    assert groups.index.equals(windows.then.features.index) and set(groups) <= set(fit.model.segments)
    assert (
        previous_run_baseline(None, windows.then) == {}
        and previous_run_baseline(run, None) == {}
        and previous_run_label(None, origin=DAY) == {}
    )
    assert previous_run_label(run, origin=DAY) == {"last_run": "the run of 2024-05-01, which saw 30 of the days judged"}
    assert previous_run_label(run, origin=date(2024, 5, 1)) == {"last_run": "the run of 2024-05-01"}


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


def test_known_groups_leave_out_customers_without_attributes() -> None:
    found = attribute_groups(PEOPLE, roles=ROLES)
    assert list(found) == ["demographic", "geographic", "current_segment"]
    assert found["demographic"].index.tolist() == ["a", "b", "c", "e"], "d is unknown"
    assert found["geographic"].to_dict() == {"a": "north", "b": "south", "e": "south"}
    assert found["current_segment"].dropna().to_dict() == {"a": "gold", "c": "gold", "d": "blue"}


def test_many_groups_are_joined_to_a_few_and_nothing_known_is_no_baseline() -> None:
    many = pd.DataFrame({"customer_id": [f"c{i}" for i in range(60)], "age": [float(i) for i in range(60)]})
    assert attribute_groups(many, roles={"age": "demographic"})["demographic"].nunique() == MAX_GROUPS
    assert attribute_groups(None, roles={}) == {}
    assert attribute_groups(PEOPLE[["customer_id", "mail"]], roles=ROLES) == {}
