"""What the map of a page may know: neighbourhoods of twenty or more, and no customer alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.format import FLOOR
from segkit.reports.map import map_profile, neighbourhoods, sample_customers

PLANE = np.random.default_rng(3).normal(size=(400, 2))


def placed(rows: int) -> pd.DataFrame:
    """Customers in two segments on a plane, the second with one in ten."""
    plane = np.random.default_rng(rows).normal(size=(rows, 2))
    segment = np.where(np.arange(rows) % 10 == 0, "S02", "S01")
    ids = [f"c{number:05d}" for number in range(rows)]
    return pd.DataFrame({"customer_id": ids, "segment": segment, "x": plane[:, 0], "y": plane[:, 1]})


@given(rows=st.integers(1, 300), least=st.integers(1, 60), kinds=st.integers(1, 5))
def test_no_neighbourhood_is_smaller_than_its_floor(rows: int, least: int, kinds: int) -> None:
    plane = PLANE[:rows].round(kinds % 2)  # with ties and without
    sizes = np.bincount(neighbourhoods(plane, least=least))
    assert sizes.sum() == rows and (sizes.min() >= least or len(sizes) == 1) and sizes.max() < max(2 * least, rows + 1)


def test_neighbours_stand_close() -> None:
    number = neighbourhoods(PLANE)
    assert all(np.ptp(PLANE[number == one], axis=0).max() < np.ptp(PLANE, axis=0).max() for one in set(number))


def test_profile_holds_means_of_neighbourhoods() -> None:
    customers = placed(100)
    features = pd.DataFrame({"customer_id": customers["customer_id"], "spend": np.arange(100.0), "needs: tea": 0.25})
    profile = map_profile(customers, features.sample(frac=1, random_state=1), dates="May")
    assert [one["words"] for one in profile.columns] == ["spend so far, each", "tea"]
    assert [one["kind"] for one in profile.columns] == ["habit", "need"]
    spend = pd.Series(np.arange(100.0), index=customers["customer_id"])
    expected = spend.groupby(profile.neighbourhood).mean()
    assert profile.means[:, 0] == pytest.approx(expected, rel=1e-3) and profile.everyone == pytest.approx([49.5, 0.25])
    assert profile.neighbourhood.value_counts().min() >= FLOOR


def test_too_few_customers_are_not_described() -> None:
    customers = placed(FLOOR - 1)
    profile = map_profile(customers, pd.DataFrame({"spend": 1.0}, index=customers["customer_id"]))
    assert profile.columns == () and profile.means.size == 0


def test_sample_keeps_small_segments_and_repeats() -> None:
    customers = placed(2000)
    drawn = sample_customers(customers, most=400)
    assert len(drawn) == pytest.approx(400, abs=40) and (drawn["segment"] == "S02").sum() == 60
    assert drawn.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(drawn, sample_customers(customers, most=400))
    assert sample_customers(customers) is customers
