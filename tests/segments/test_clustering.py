"""The search: bags, cuts, and the budget that decides."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segkit.errors import BudgetError
from segkit.segments.clustering import (
    FAMILIES,
    SCORE_NOISE,
    Budget,
    Subsamples,
    cluster_subsamples,
    macro_groups,
    make_segmentation,
    make_segmentations,
    search,
    segment_metrics,
    subsample_segmentations,
)
from segkit.segments.model import nearest_centre
from segkit.tables import check

PLANTED = 6


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Customers in six clear groups of different size, and the group of each."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(PLANTED), [50, 60, 70, 80, 90, 100])
    return rng.normal(0, 5, (PLANTED, 4))[group] + rng.normal(0, 0.4, (450, 4)), group


@pytest.fixture(scope="module")
def blob_bags(blobs: tuple[np.ndarray, np.ndarray]) -> Subsamples:
    return cluster_subsamples(blobs[0], n_subsamples=3, seed=7)


def unknown(points: np.ndarray, bags: Subsamples, budget: Budget) -> tuple:
    return search(points, bags, training_points=None, outcomes=None, budget=budget)


def test_planted_groups_are_found(blobs: tuple, blob_bags: Subsamples) -> None:
    points, group = blobs
    cut, _ = unknown(points, blob_bags, Budget(min_segments=PLANTED, max_segments=PLANTED))
    assert adjusted_rand_score(group, nearest_centre(points, cut.centres)) > 0.98


@pytest.mark.parametrize(("fewest", "most", "smallest"), [(4, 6, 0.1), (6, 6, 0.01), (2, 9, 0.06)])
def test_chosen_cut_keeps_the_budget(
    blobs: tuple, blob_bags: Subsamples, fewest: int, most: int, smallest: float
) -> None:
    points, _ = blobs
    cut, frontier = unknown(points, blob_bags, Budget(min_segments=fewest, max_segments=most, smallest_share=smallest))
    shares = np.bincount(nearest_centre(points, cut.centres), minlength=len(cut.centres)) / len(points)
    assert fewest <= len(cut.centres) <= most and shares.min() >= smallest and len(points) * shares.min() >= 20
    check(frontier, name="frontier")
    chosen = frontier[frontier["chosen"]]
    assert len(chosen) == 1 and chosen["segments"].item() == len(cut.centres) and chosen["family"].item() == cut.family


def test_no_segment_is_below_the_privacy_floor_however_small_a_share_is_asked(
    blobs: tuple, blob_bags: Subsamples
) -> None:
    points, _ = blobs
    cut, frontier = unknown(points, blob_bags, Budget(min_segments=3, max_segments=12, smallest_share=0.001))
    assert np.bincount(nearest_centre(points, cut.centres)).min() >= 20
    assert frontier.loc[frontier["chosen"], "smallest_share"].item() * len(points) >= 20


def test_same_seed_same_bags_another_seed_others(blobs: tuple, blob_bags: Subsamples) -> None:
    points, _ = blobs
    again, other = (
        cluster_subsamples(points, n_subsamples=3, seed=7),
        cluster_subsamples(points, n_subsamples=3, seed=8),
    )
    assert again.labels.tobytes() == blob_bags.labels.tobytes()
    assert again.centres.tobytes() == blob_bags.centres.tobytes()
    assert other.labels.tobytes() != blob_bags.labels.tobytes()
    assert cluster_subsamples(points, n_subsamples=2, seed=7).count == 2


def test_all_alike_cannot_be_segmented() -> None:
    with pytest.raises(BudgetError, match=r"400 customers have only 1 different .* nothing to segment\. Give a longer"):
        cluster_subsamples(np.ones((400, 4)))


def test_too_few_customers_are_reported_which_limit_binds(blobs: tuple) -> None:
    points = blobs[0][::3]
    with pytest.raises(BudgetError, match=r"150 customers are too few; 12 segments of 20 need 240\. Ask for fewer"):
        unknown(points, cluster_subsamples(points, n_subsamples=2), Budget())


def test_a_smallest_share_that_cannot_be_met_is_reported(blobs: tuple, blob_bags: Subsamples) -> None:
    with pytest.raises(BudgetError, match=r"above 12\.0% of 450 customers; the best \(\d+ segments\) has one of \d"):
        unknown(blobs[0], blob_bags, Budget(min_segments=8, max_segments=9, smallest_share=0.12))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_continuum_still_gives_segments_within_the_budget(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(size=(600, 3))
    cut, _ = unknown(
        points, cluster_subsamples(points, n_subsamples=3, seed=seed), Budget(min_segments=6, max_segments=9)
    )
    assert 6 <= len(cut.centres) <= 9 and np.bincount(nearest_centre(points, cut.centres)).min() >= 20


def bags_of(points: np.ndarray, labels: list[np.ndarray]) -> Subsamples:
    """Bags with given clusters, -1 noise."""
    found = [(b, own, points[own == c]) for b, own in enumerate(labels) for c in range(own.max() + 1)]
    centres = [members.mean(axis=0) for (b, own, _), members in zip(found, _members(points, labels), strict=True)]
    return Subsamples(
        centres=np.array(centres).reshape(-1, points.shape[1]),
        sizes=np.array([len(m) for m in _members(points, labels)], dtype=float),
        subsample_of=np.array([b for b, _, _ in found], dtype=np.int64),
        labels=np.column_stack(labels).astype(np.int32),
    )


def _members(points: np.ndarray, labels: list[np.ndarray]) -> list[np.ndarray]:
    return [points[own == c] for own in labels for c in range(own.max() + 1)]


def test_bags_in_which_nothing_was_found_are_no_hindrance(blobs: tuple) -> None:
    points, group = blobs
    noise = np.full(len(points), -1)
    bags = bags_of(points, [group, noise, group])
    cut, frontier = unknown(points, bags, Budget(min_segments=4, max_segments=PLANTED))
    assert 4 <= len(cut.centres) <= PLANTED and frontier["stability"].notna().all()
    assert segment_metrics(bags, cut, nearest_centre(points, cut.centres))["segments.noise_share.high"] == 1.0


def test_no_cluster_in_any_bag_still_gives_segments(blobs: tuple) -> None:
    points, _ = blobs
    bags = bags_of(points, [np.full(len(points), -1)] * 2)
    cut, _ = unknown(points, bags, Budget(min_segments=4, max_segments=6))
    assert 4 <= len(cut.centres) <= 6


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_cuts_as_asked_on_all_and_on_each_bag(blobs: tuple, blob_bags: Subsamples, family: str) -> None:
    points, group = blobs
    cut = make_segmentation(points, blob_bags, family=family, segments=PLANTED)
    assert cut.centres.shape == (PLANTED, 4) and cut.family == family
    own = subsample_segmentations(points, blob_bags, family=family, counts=[PLANTED])
    assert len(own) == blob_bags.count
    assert all(adjusted_rand_score(group, nearest_centre(points, centres)) > 0.6 for (centres,) in own)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_cuts_at_once_are_those_made_one_by_one(blobs: tuple, blob_bags: Subsamples, family: str) -> None:
    points, counts = blobs[0], [9, 4, 6]
    several = make_segmentations(points, blob_bags, family=family, counts=counts)
    singly = [make_segmentation(points, blob_bags, family=family, segments=k) for k in counts]
    assert [cut.centres.tobytes() for cut in several] == [cut.centres.tobytes() for cut in singly]


def test_micro_segments_nest_in_at_most_six_buckets() -> None:
    centres = np.random.default_rng(0).normal(size=(15, 4))
    buckets = macro_groups(centres)
    assert len(buckets) == 15 and set(buckets) == set(range(buckets.max() + 1)) and buckets.max() < 6
    assert macro_groups(centres[:4]).tolist() == [0, 1, 2, 3]


def test_core_is_what_was_kept_in_half_of_the_bags_one_was_in() -> None:
    labels = np.array([[0, 0, 0], [0, -1, -2], [-1, -1, 0], [-2, -2, -2], [-1, 1, -1]])
    bags = Subsamples(centres=np.zeros((2, 1)), sizes=np.ones(2), subsample_of=np.array([0, 1]), labels=labels)
    np.testing.assert_allclose(bags.clustered_share(), [1, 0.5, 1 / 3, 0, 1 / 3])
    assert bags.core().tolist() == [True, True, False, False, False]


def test_figures_carry_the_range_over_the_bags(blobs: tuple, blob_bags: Subsamples) -> None:
    points, _ = blobs
    cut, _ = unknown(points, blob_bags, Budget(min_segments=PLANTED, max_segments=PLANTED))
    figures = pd.Series(segment_metrics(blob_bags, cut, nearest_centre(points, cut.centres)))
    assert figures["segments.count"] == PLANTED and figures["segments.customers"] == 450
    for name in ("segments.hdbscan_ari", "segments.noise_share"):
        assert 0 <= figures[f"{name}.low"] <= figures[name] <= figures[f"{name}.high"] <= 1
    assert figures["segments.hdbscan_ari"] > 0.9


def test_a_refit_takes_what_its_bags_hold(blobs: tuple, blob_bags: Subsamples) -> None:
    one_bag = blob_bags.subsample_of == 0
    few = Subsamples(
        centres=blob_bags.centres[one_bag],
        sizes=blob_bags.sizes[one_bag],
        subsample_of=blob_bags.subsample_of[one_bag],
        labels=blob_bags.labels[:, :1],
    )
    count = int(one_bag.sum()) + 5
    cut, _ = unknown(
        blobs[0], few, Budget(min_segments=count, max_segments=count, smallest_share=0.0, families=("joined",))
    )
    assert len(cut.centres) == one_bag.sum()


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            Budget(min_segments=12, smallest_share=0.1),
            r"12 segments of at least 10\.0% are more than everyone.*to 8\.3% or",
        ),
        (
            Budget(min_segments=9, max_segments=5),
            r"from 9 to 5 cannot be met\. Give segments_min of at least 2, and segments_max",
        ),
        (Budget(min_segments=1, max_segments=5), r"from 1 to 5 cannot be met"),
    ],
)
def test_a_budget_that_nobody_could_meet_states_which_limit_binds(
    blobs: tuple, blob_bags: Subsamples, budget: Budget, words: str
) -> None:
    with pytest.raises(BudgetError, match=words):
        unknown(blobs[0], blob_bags, budget)


def test_a_preferred_cut_stays_within_noise_and_not_beyond_it(blobs: tuple, blob_bags: Subsamples) -> None:
    free, frontier = unknown(blobs[0], blob_bags, Budget(min_segments=3, max_segments=9))
    allowed = frontier[frontier["smallest_share"] * len(blobs[0]) >= 20]
    kept = 0
    for row in allowed.to_dict("records"):
        budget = Budget(min_segments=3, max_segments=9, prefer=(row["family"], row["segments"]))
        within = row["score"] >= allowed["score"].max() - SCORE_NOISE
        kept += within
        cut, _ = unknown(blobs[0], blob_bags, budget)
        assert cut.shape == (budget.prefer if within else free.shape)
    assert 0 < kept < len(allowed)
    assert (
        unknown(blobs[0], blob_bags, Budget(min_segments=3, max_segments=9, prefer=("anchored", 30)))[0].shape
        == free.shape
    )
