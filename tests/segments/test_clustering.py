"""Segments: planted levels and needs come back, small columns dissolve, and the budget decides."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segkit.errors import BudgetError
from segkit.segments.clustering import (
    FAMILIES,
    SCORE_NOISE,
    Budget,
    SearchData,
    Segmentation,
    make_segmentation,
    search,
    subsample_rows,
)
from segkit.segments.scoring import ScoringOutcomes
from segkit.tables import check

NEEDS = 4


def planted(
    customers: int = 600, *, needs: tuple[float, ...] = (0.25,) * NEEDS, noise: float = 0.1, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customers of three levels (20, 40 and 40 %), each with one leading need; their level and need."""
    rng = np.random.default_rng(seed)
    level = np.searchsorted([0.2, 0.6], (np.arange(customers) + 0.5) / customers)
    need = rng.choice(NEEDS, customers, p=needs)
    points = np.column_stack([3.0 * level + rng.random(customers), rng.normal(0, noise, (customers, NEEDS))])
    points[np.arange(customers), 1 + need] += 1.0
    order = rng.permutation(customers)
    return points[order], level[order], need[order]


def data_of(points: np.ndarray, *, count: int = 3) -> SearchData:
    """Customers whose later spend is their value with noise, and whose needs stay."""
    rng = np.random.default_rng(5)
    everyone = np.ones(len(points), dtype=bool)
    spend = points[:, :1] + rng.normal(0, 0.5, (len(points), 1))
    outcomes = ScoringOutcomes({"spend": (everyone, spend), "need": (everyone, points[:, 1:])})
    return SearchData(points, subsample_rows(len(points), count=count), points, outcomes)


def sizes(found: Segmentation, points: np.ndarray) -> np.ndarray:
    return np.bincount(found.assign(points), minlength=len(found.centres))


def test_planted_levels_and_needs_come_back_and_the_lowest_level_is_whole() -> None:
    points, level, need = planted()
    found = make_segmentation(points, family="3 levels", segments=9)
    truth = np.where(level == 0, -1, level * NEEDS + need)
    assert adjusted_rand_score(truth, found.assign(points)) == 1.0
    assert found.level.tolist() == [2] * NEEDS + [1] * NEEDS + [0], "the highest level comes first"
    assert found.anchor.tolist() == [*range(NEEDS), *range(NEEDS), -1]
    for number in range(3):
        own = found.centres[found.level == number, 0]
        np.testing.assert_allclose(own, points[level == number, 0].mean()), "one value in all columns of a level"


def test_a_small_column_dissolves_and_its_customers_join_the_nearest() -> None:
    points, level, need = planted(needs=(0.45, 0.35, 0.17, 0.03))
    found = make_segmentation(points, family="3 levels", segments=9, min_customers=20)
    assert 3 not in found.anchor and set(found.anchor) == {0, 1, 2, -1}
    assert found.shape == ("3 levels", 7) and sizes(found, points).min() >= 20
    assert 3 in make_segmentation(points, family="3 levels", segments=9).anchor
    large = (level > 0) & (need < 3)
    assert adjusted_rand_score((level * NEEDS + need)[large], found.assign(points)[large]) == 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_its_levels_and_never_an_empty_segment(family: str) -> None:
    shares, whole = FAMILIES[family]
    points, _, _ = planted(noise=1.0)
    for segments in (12, 16, 20):
        found = make_segmentation(points, family=family, segments=segments)
        assert len(found.borders) == len(shares) and len(found.centres) <= segments
        assert [list(found.level).count(k) for k in range(whole)] == [1] * whole
        assert sizes(found, points).min() > 0 and np.isfinite(found.centres).all()
        members = np.bincount(found.level[found.assign(points)]) / len(points)
        np.testing.assert_allclose(members, np.diff([0, *shares, 1]), atol=0.01)


@pytest.mark.parametrize("counts", [(102, 0, 0), (60, 42, 0), (21, 60, 21), (21, 41, 40), (1, 100, 1)])
def test_ties_in_value_join_levels_and_leave_none_empty(counts: tuple[int, int, int]) -> None:
    points, _, _ = planted(sum(counts))
    points[:, 0] = np.repeat([0.0, 1.0, 2.0], counts)
    for family in FAMILIES:
        found = make_segmentation(points, family=family, segments=6)
        assert np.isfinite(found.centres).all() and sizes(found, points).min() > 0
        assert len(found.borders) < np.count_nonzero(counts)
        by_value = pd.Series(found.level[found.assign(points)]).groupby(points[:, 0]).nunique()
        assert (by_value == 1).all(), "equal values are in one level"


def test_what_is_chosen_keeps_the_budget_and_the_frontier_fits_its_table() -> None:
    points, _, _ = planted(noise=0.6)
    budget = Budget(min_segments=6, max_segments=10, smallest_share=0.04)
    found, frontier = search(data_of(points), budget=budget)
    check(frontier, name="frontier")
    assert 6 <= len(found.centres) <= 10 and sizes(found, points).min() >= 24
    chosen = frontier[frontier["chosen"]]
    assert len(chosen) == 1 and (chosen["family"].item(), chosen["segments"].item()) == found.shape
    assert frontier["segments"].between(6, 10).all() and (frontier["smallest_share"] >= 0.04).all()
    assert not frontier.duplicated(["family", "segments"]).any()
    assert (frontier[["spend_r2", "need_r2", "stability"]] > 0).all().all() and frontier["mix_r2"].isna().all()
    again, table = search(data_of(points), budget=budget)
    assert again.centres.tobytes() == found.centres.tobytes() and table.equals(frontier)


def test_without_outcomes_stability_decides() -> None:
    points, _, _ = planted()
    data = replace(data_of(points), training_points=None, outcomes=None)
    found, frontier = search(data, budget=Budget(min_segments=5, max_segments=9))
    check(frontier, name="frontier")
    assert frontier["spend_r2"].isna().all() and frontier["score"].idxmax() == frontier.index[frontier["chosen"]]
    assert 5 <= len(found.centres) <= 9


def test_a_preferred_shape_stays_within_noise_and_not_beyond_it() -> None:
    points, _, _ = planted(noise=0.6)
    data, kept = data_of(points), 0
    free, frontier = search(data, budget=Budget(min_segments=3, max_segments=10))
    for row in frontier.to_dict("records"):
        prefer = (row["family"], row["segments"])
        within = row["score"] >= frontier["score"].max() - SCORE_NOISE
        kept += within
        found, _ = search(data, budget=Budget(min_segments=3, max_segments=10, prefer=prefer))
        assert found.shape == (prefer if within else free.shape)
    assert 0 < kept < len(frontier)


def test_fewer_segments_are_made_where_no_more_are_large_enough() -> None:
    points, _, _ = planted(260)
    found, frontier = search(data_of(points), budget=Budget())
    check(frontier, name="frontier")
    assert 4 <= len(found.centres) < 12 and sizes(found, points).min() >= 20
    assert (frontier["segments"] == len(found.centres)).all()


@pytest.mark.parametrize(
    ("customers", "budget", "words"),
    [
        (600, Budget(smallest_share=0.1), r"12 segments of at least 10\.0% are more than everyone.*to 8\.3% or"),
        (600, Budget(min_segments=9, max_segments=5), r"from 9 to 5 cannot be met\. Give segments_min of at least 2"),
        (600, Budget(min_segments=1, max_segments=5), r"from 1 to 5 cannot be met"),
        (39, Budget(), r"39 customers are too few; 2 segments of 20 need 40\. Give a longer lookback"),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused_with_what_to_do(customers: int, budget: Budget, words: str) -> None:
    points, _, _ = planted(customers, needs=(1.0, 0.0, 0.0, 0.0))
    with pytest.raises(BudgetError, match=words):
        search(data_of(points), budget=budget)


def test_customers_all_alike_are_refused_whatever_the_budget() -> None:
    for budget in (Budget(), Budget(min_segments=2, max_segments=3)):
        with pytest.raises(BudgetError, match=r"400 customers have fewer than 30 different .* nothing to segment"):
            search(data_of(np.ones((400, 1 + NEEDS))), budget=budget)
