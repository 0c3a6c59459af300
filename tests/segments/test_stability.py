"""Who stays together when everything is done again, and whether data without structure would do as well."""

from collections.abc import Callable

import numpy as np
import pytest

from segkit.segments.clustering import Budget
from segkit.segments.fit import Fit, FitData, fit_segments
from segkit.segments.validation import Stability, Structure, best_jaccard, segment_verdict, stability, structure

Plant = Callable[..., tuple]


@pytest.fixture
def fitted(planted_windows: Plant) -> tuple[FitData, Fit]:
    windows, _ = planted_windows()
    return windows, fit_segments(
        windows, budget=Budget(min_segments=4, max_segments=4, smallest_share=0.05), n_subsamples=2
    )


def test_hand_made_overlap_with_the_best_match() -> None:
    number, other = np.array([0, 0, 0, 1, 1, 2]), np.array([7, 7, 9, 9, 9, 9])
    np.testing.assert_allclose(best_jaccard(number, other), [2 / 3, 2 / 4, 1 / 4])


def test_the_same_groups_by_other_names_overlap_wholly() -> None:
    number = np.random.default_rng(0).integers(0, 5, 60)
    np.testing.assert_array_equal(best_jaccard(number, 10 - number), np.ones(5))
    assert (best_jaccard(number, np.zeros(60)) == np.bincount(number) / 60).all()


def test_refits_give_figures_in_range_and_repeat(fitted: tuple[FitData, Fit]) -> None:
    windows, fit = fitted
    found = stability(windows, fit, n_refits=3)
    table, figures = found.segments, found.metrics()
    assert (
        len(table) == len(np.unique(fit.segment_number)) and table.to_numpy().min() >= 0 and table.to_numpy().max() <= 1
    )
    assert ((table["stability_low"] <= table["stability"]) & (table["stability"] <= table["stability_high"])).all()
    assert figures["stability.ari_mean.low"] <= figures["stability.ari_mean"] <= figures["stability.ari_mean.high"]
    assert figures["stability.ari_mean"] > 0.2, "planted needs come back"
    assert stability(windows, fit, n_refits=3).metrics() == figures
    assert stability(windows, fit, n_refits=3, seed=8).metrics() != figures


def test_interval_of_equal_refits_has_no_width() -> None:
    same = Stability(ari=np.ones((4, 4)), segments=None)  # type: ignore[arg-type]
    assert [same.metrics()[f"stability.ari_mean{part}"] for part in ("", ".low", ".high")] == [1, 1, 1]


def test_the_reference_is_data_without_structure(fitted: tuple[FitData, Fit]) -> None:
    _, fit = fitted
    reference = structure(fit, nulls=2, n_subsamples=2)
    assert reference is not None and len(reference.ari) == 2
    assert reference.jaccard.min() >= 0 and reference.jaccard.max() <= 1
    assert reference.ari.tobytes() == structure(fit, nulls=2, n_subsamples=2).ari.tobytes()  # type: ignore[union-attr]
    assert structure(fit, nulls=0) is None


def made(ari: float) -> Stability:
    return Stability(ari=np.full((3, 3), ari), segments=None)  # type: ignore[arg-type]


REFERENCE = Structure(ari=np.full(10, 0.4), jaccard=np.full(10, 0.7))


@pytest.mark.parametrize(
    ("jaccard", "ari", "tested", "words"),
    [
        (np.nan, 0.9, True, "not tested"),
        (0.49, 0.9, False, "unstable"),
        (0.5, 0.9, False, "constructed"),
        (0.6, 0.9, False, "reproducible"),
        (0.95, 0.9, False, "reproducible"),
        (0.95, 0.9, True, "natural"),
        (0.65, 0.9, True, "reproducible"),
        (0.49, 0.9, True, "unstable"),
        (0.95, 0.3, True, "constructed"),
    ],
)
def test_verdict_has_its_limits_and_is_natural_only_where_structure_was_found(
    jaccard: float, ari: float, tested: bool, words: str
) -> None:
    given = {"reference": REFERENCE, "stability": made(ari)} if tested else {}
    assert segment_verdict(jaccard, **given) == words
