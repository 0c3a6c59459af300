"""Placing anyone: the nearest centre, and how many bags agree."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.anticipation import Space, learn_space
from segkit.customers.features import CustomerData
from segkit.data.runs import load_run, open_run
from segkit.segments import model as model_module
from segkit.segments.model import (
    LEVEL_BORDER,
    TIE,
    Assigner,
    SegmentModel,
    assign_points,
    assign_segments,
    model_from_arrays,
    model_to_arrays,
    nearest_centre,
)


def space_of_axes(width: int = 2) -> Space:
    """A space whose axes are the features themselves."""
    names = tuple(f"channel_{i}_share" for i in range(width))
    nothing = np.zeros((0, width))
    return Space(
        features=names,
        mean=np.zeros(width),
        scale=np.ones(width),
        terms=(),
        words=False,
        needs=(),
        outcome_names=("spend",),
        behaviour_outcomes=np.eye(width),
        log_outcomes=nothing,
        share_outcomes=nothing,
        constant_outcomes=np.zeros(width),
        rotation=np.eye(width),
        centre=np.zeros(width),
    )


def customers_at(points: list[list[float]]) -> CustomerData:
    """Customers with these coordinates."""
    index = pd.Index([f"c{i:02d}" for i in range(len(points))], name="customer_id")
    names = [f"channel_{i}_share" for i in range(len(points[0]))]
    return CustomerData(pd.DataFrame(points, index=index, columns=names), None, ())


@pytest.fixture
def model(planted_windows: Callable[..., tuple]) -> SegmentModel:
    """Two centres on the first of three axes, and two bags, one of which knows only the first."""
    windows, _ = planted_windows()
    ends = np.zeros((3, 3))
    ends[:, 0] = -1.0, 1.0, -1.1
    return SegmentModel(
        space=learn_space(windows.then, windows.outcomes),
        segments=("S01", "S02"),
        macro=("M1", "M2"),
        centres=ends[:2],
        bag_centres=ends,
        bag_of=np.array([0, 0, 1]),
        bag_segment=np.array([0, 1, 0]),
    )


@pytest.fixture
def levels() -> SegmentModel:
    """A high level of two needs above 1.0, and a low one that is whole; two bags with borders of their own."""
    return SegmentModel(
        space=space_of_axes(),
        segments=("S01", "S02", "S03"),
        macro=("M1", "M1", "M2"),
        centres=np.array([[2.0, -1.0], [2.0, 1.0], [0.0, 0.0]]),
        bag_centres=np.array([[2.0, -1.0], [2.0, 1.0], [0.0, 0.0]] * 2),
        bag_of=np.repeat([0, 1], 3),
        bag_segment=np.array([0, 1, 2] * 2),
        borders=np.array([1.0]),
        level=np.array([1, 1, 0]),
        bag_borders=np.array([[1.0], [1.5]]),
        need=("N02", "N01", ""),
    )


def test_nearest_centre_wins_and_of_equally_near_ones_the_first() -> None:
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    points = np.array([[0.9, 0.0], [1.0, 5.0], [1.1, 0.0], [0.0, 0.0]])
    assert nearest_centre(points, centres).tolist() == [0, 0, 1, 0]


def test_distances_that_differ_by_less_than_a_tie_go_to_the_first() -> None:
    centres = np.array([[0.0, 0.0], [2.0, 0.0]])
    points = np.array([[1.0 + TIE / 10, 0.0], [1.0 + TIE, 0.0], [1.0 - TIE, 0.0]])
    assert nearest_centre(points, centres).tolist() == [0, 1, 0]


def test_distances_in_slices_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points, centres = rng.normal(size=(23, 3)), rng.normal(size=(5, 3))
    whole = nearest_centre(points, centres)
    monkeypatch.setattr(model_module, "CELLS_AT_ONCE", 20)
    np.testing.assert_array_equal(nearest_centre(points, centres), whole)
    assert nearest_centre(points[:0], centres).tolist() == []


def test_confidence_is_the_share_of_bags_that_agree(model: SegmentModel) -> None:
    axes = pd.DataFrame(
        0.0, index=pd.Index(["a", "b"], name="customer_id"), columns=[f"axis_{i + 1}" for i in range(3)]
    )
    found = assign_points(model, axes.assign(axis_1=[-2.0, 2.0]))
    assert found["segment"].tolist() == ["S01", "S02"] and found["macro_segment"].tolist() == ["M1", "M2"]
    assert found["need"].isna().all() and found["confidence"].tolist() == [1.0, 0.5]


def test_confidence_is_a_share_for_any_bags(model: SegmentModel) -> None:
    rng = np.random.default_rng(1)
    points, bag_of = rng.normal(size=(50, 3)), rng.permutation([0, 0, 0, 1, 1, 4, 4, 4, 4, 9])
    bags = {"bag_centres": rng.normal(size=(10, 3)), "bag_of": bag_of, "bag_segment": rng.integers(0, 2, 10)}
    assigner = Assigner(replace(model, **bags))
    codes = rng.integers(0, 2, 50)
    share = assigner.agreement(points, codes)
    own = [np.flatnonzero(bag_of == bag) for bag in (0, 1, 4, 9)]
    went = [bags["bag_segment"][rows[nearest_centre(points, bags["bag_centres"][rows])]] for rows in own]
    np.testing.assert_array_equal(share, np.mean([each == codes for each in went], axis=0))
    assert assigner.agreement(points[:0], codes[:0]).size == 0


def test_without_bags_nothing_is_confident(model: SegmentModel) -> None:
    bare = replace(model, bag_centres=np.zeros((0, 3)), bag_of=np.zeros(0, dtype=int), bag_segment=np.zeros(0, int))
    assert Assigner(bare).agreement(np.zeros((3, 3)), np.zeros(3, dtype=int)).tolist() == [0.0, 0.0, 0.0]


def test_model_comes_back_from_a_run_folder_and_places_the_same(
    model: SegmentModel, planted_windows: Callable[..., tuple], tmp_path: Path
) -> None:
    run = open_run(tmp_path / "run", step="03_segments")
    arrays, meta = model_to_arrays(model)
    run.save_model(arrays, meta=meta)
    back = model_from_arrays(*load_run(tmp_path / "run").load_model())
    new, _ = planted_windows(60, seed=9)
    pd.testing.assert_frame_equal(assign_segments(back, new.now), assign_segments(model, new.now))
    again_arrays, again_meta = model_to_arrays(back)
    assert again_meta == meta and list(again_arrays) == list(arrays)
    assert all(again_arrays[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_further_values_in_the_model_file_are_no_hindrance(model: SegmentModel, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", step="03_segments")
    arrays, meta = model_to_arrays(model)
    run.save_model(arrays, meta=meta | {"kinds": {"purchase": "customer"}, "lookback_days": 182, "source": "s"})
    assert model_from_arrays(*run.load_model()).segments == model.segments


def test_one_customer_is_placed_as_among_many(model: SegmentModel, planted_windows: Callable[..., tuple]) -> None:
    windows, _ = planted_windows()
    together = assign_segments(model, windows.now)
    alone = pd.concat([assign_segments(model, windows.now.select(np.array([i]))) for i in range(5)])
    pd.testing.assert_frame_equal(alone, together.iloc[:5])


def test_a_level_comes_first_then_the_nearest_need_in_it(levels: SegmentModel) -> None:
    axes = pd.DataFrame({"axis_1": [1.0, 1.0, 1.0 - 1e-5, 1.4, 1.6, 0.0], "axis_2": [0.2, -0.2, 1.0, 0.9, 0.9, 9.0]})
    expected = pd.DataFrame(
        {
            "segment": ["S02", "S01", "S03", "S02", "S02", "S03"],
            "macro_segment": ["M1", "M1", "M2", "M1", "M1", "M2"],
            "need": ["N01", "N02", None, "N01", "N01", None],
            "confidence": [0.5, 0.5, 1.0, 0.5, 1.0, 1.0],  # the second bag's border lies at 1.5
        }
    )
    pd.testing.assert_frame_equal(assign_points(levels, axes), expected)


def test_batch_and_single_agree_at_a_border_whatever_they_round(levels: SegmentModel) -> None:
    at = [1.0, np.nextafter(1.0, 0), np.nextafter(1.0, 2), 1.0 - 1e-9, 1.0 - 1e-5, 1.5, np.nextafter(1.5, 0)]
    many = customers_at([[value, 1.0] for value in at])
    wanted = assign_segments(levels, many)
    assert wanted["segment"].tolist() == ["S02"] * 4 + ["S03"] + ["S02"] * 2
    assert wanted["confidence"].tolist() == [0.5] * 4 + [1.0] * 3
    assigner = Assigner(levels)
    ones = [assigner.assign_one(features) for features in many.features.to_dict("records")]
    assert [(one.segment, one.confidence) for one in ones] == list(
        wanted[["segment", "confidence"]].itertuples(index=False, name=None)
    )


@pytest.mark.parametrize(
    ("point", "before", "after"),
    [
        ([1.0 + LEVEL_BORDER - 0.01, 1.0], "S03", "S03"),  # just above the low level
        ([1.0 + LEVEL_BORDER + 0.01, 1.0], "S03", "S02"),
        ([1.0 - LEVEL_BORDER + 0.01, 1.0], "S02", "S02"),  # just below the high one
        ([1.0 - LEVEL_BORDER - 0.01, 1.0], "S02", "S03"),
        ([2.0, 0.11], "S01", "S01"),  # 1.11 / 0.89 is below 1.25
        ([2.0, 0.12], "S01", "S02"),
        ([9.0, 0.12], "S01", "S02"),  # far above the middle of the level the margin is the same
        ([1.0 - LEVEL_BORDER + 0.01, 0.2], "S01", "S03"),  # near its level, and too far from its need
        ([1.0 - LEVEL_BORDER + 0.01, 0.0], "S99", "S03"),  # a segment that is gone
    ],
)
def test_who_is_just_beyond_a_border_keeps_the_segment_they_had_and_farther_does_not(
    levels: SegmentModel, point: list[float], before: str, after: str
) -> None:
    many = customers_at([point])
    found = assign_segments(levels, many, previous_segment=pd.Series([before], index=many.features.index))
    assert found["segment"].tolist() == [after]


def test_a_merged_segment_is_kept_at_its_nearest_centre(levels: SegmentModel) -> None:
    merged = replace(levels, segments=("S03", "S02", "S03"))
    many = customers_at([[2.0, 0.11], [2.0, 0.12], [1.1, 1.0], [1.2, 1.0]])
    home = pd.Series("S03", index=many.features.index)
    found = assign_segments(merged, many, previous_segment=home)
    assert found["segment"].tolist() == ["S03", "S02", "S03", "S02"]
    assert found["macro_segment"].tolist() == ["M1", "M1", "M2", "M1"]


def test_only_customers_with_a_segment_of_before_stay_and_slices_are_the_same(
    model: SegmentModel, planted_windows: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = planted_windows()[0].now
    plain = assign_segments(model, now)
    home = pd.Series(np.roll(plain["segment"].to_numpy(), 1), index=plain.index)
    found = assign_segments(model, now, previous_segment=home)
    stayed = found["segment"] != plain["segment"]
    assert (found["segment"][stayed] == home[stayed]).all()
    monkeypatch.setattr(model_module, "CELLS_AT_ONCE", 7)
    pd.testing.assert_frame_equal(assign_segments(model, now, previous_segment=home), found)
    nobody = pd.Series(["S99"], index=["not there"])
    pd.testing.assert_frame_equal(assign_segments(model, now, previous_segment=nobody), plain)
