"""Placing anyone: the nearest centre, and how many bags agree."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.anticipation import learn_space
from segkit.data.runs import load_run, open_run
from segkit.segments import model as model_module
from segkit.segments.model import (
    TIE,
    Assigner,
    SegmentModel,
    assign_points,
    assign_segments,
    keep_previous_segment,
    model_from_arrays,
    model_to_arrays,
    nearest_centre,
)


@pytest.fixture
def model(planted_windows: Callable[..., tuple]) -> SegmentModel:
    """Two centres on the first of two axes, and two bags, one of which knows only the first."""
    windows, _ = planted_windows()
    return SegmentModel(
        space=learn_space(windows.then, windows.outcomes, axes=2),
        segments=("S01", "S02"),
        macro=("M1", "M2"),
        centres=np.array([[-1.0, 0.0], [1.0, 0.0]]),
        bag_centres=np.array([[-1.0, 0.0], [1.0, 0.0], [-1.1, 0.0]]),
        bag_of=np.array([0, 0, 1]),
        bag_segment=np.array([0, 1, 0]),
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
    axes = pd.DataFrame({"axis_1": [-2.0, 2.0], "axis_2": [0.0, 0.0]}, index=pd.Index(["a", "b"], name="customer_id"))
    expected = pd.DataFrame(
        {"segment": ["S01", "S02"], "macro_segment": ["M1", "M2"], "confidence": [1.0, 0.5]}, index=axes.index
    )
    pd.testing.assert_frame_equal(assign_points(model, axes), expected)


def test_confidence_is_a_share_for_any_bags(model: SegmentModel) -> None:
    rng = np.random.default_rng(1)
    points, bag_of = rng.normal(size=(50, 2)), rng.permutation([0, 0, 0, 1, 1, 4, 4, 4, 4, 9])
    bags = {"bag_centres": rng.normal(size=(10, 2)), "bag_of": bag_of, "bag_segment": rng.integers(0, 2, 10)}
    assigner = Assigner(replace(model, **bags))
    codes = rng.integers(0, 2, 50)
    share = assigner.agreement(points, codes)
    own = [np.flatnonzero(bag_of == bag) for bag in (0, 1, 4, 9)]
    went = [bags["bag_segment"][rows[nearest_centre(points, bags["bag_centres"][rows])]] for rows in own]
    np.testing.assert_array_equal(share, np.mean([each == codes for each in went], axis=0))
    assert assigner.agreement(points[:0], codes[:0]).size == 0


def test_without_bags_nothing_is_confident(model: SegmentModel) -> None:
    bare = replace(model, bag_centres=np.zeros((0, 2)), bag_of=np.zeros(0, dtype=int), bag_segment=np.zeros(0, int))
    assert Assigner(bare).agreement(np.zeros((3, 2)), np.zeros(3, dtype=int)).tolist() == [0.0, 0.0, 0.0]


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


@pytest.mark.parametrize(("at", "kept"), [(5.2, True), (5.26, False)])
def test_who_is_at_a_border_keeps_the_segment_they_had(at: float, kept: bool) -> None:
    squares = np.array([[at**2, (10 - at) ** 2, 400.0]])  # a tenth farther than the nearest: 5.238 of 10
    number = squares.argmin(axis=1)
    codes = np.array([0, 1, 0])  # the third centre was merged into the first segment
    assert keep_previous_segment(squares, number, codes=codes, previous_codes=np.array([0])).tolist() == [
        0 if kept else 1
    ]
    assert keep_previous_segment(squares, number, codes=codes, previous_codes=np.array([-1])).tolist() == [1], (
        "a newcomer has none to keep"
    )
    assert keep_previous_segment(squares, number, codes=codes, previous_codes=np.array([1])).tolist() == [1]


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
