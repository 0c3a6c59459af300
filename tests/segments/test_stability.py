"""Who stays together when everything is done again, and whether data without structure would do as well."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from segkit.segments.clustering import Budget
from segkit.segments.fit import Fit, FitData, fit_levels, fit_segments
from segkit.segments.validation import (
    Stability,
    Structure,
    best_jaccard,
    segment_verdict,
    stability,
    structure,
    verdict,
)

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


def test_interval_of_equal_refits_has_no_width() -> None:
    same = Stability(ari=np.ones((4, 4)), segments=None)  # type: ignore[arg-type]
    assert [same.metrics()[f"stability.ari_mean{part}"] for part in ("", ".low", ".high")] == [1, 1, 1]


def test_the_reference_is_the_same_customers_without_structure(fitted: tuple[FitData, Fit]) -> None:
    _, fit = fitted
    found = structure(fit, pairs=3)
    assert len(found.real) == len(found.ari) == 3 and len(found.jaccard) == 3 * len(fit.segmentation.centres)
    assert found.jaccard.min() >= 0 and found.jaccard.max() <= 1
    figures = found.metrics()
    assert figures["structure.found"] is found.found
    for name in ("structure.ari", "structure.reference_ari"):
        assert figures[f"{name}.low"] <= figures[name] <= figures[f"{name}.high"]
    assert structure(fit, pairs=3).metrics() == figures and structure(fit, pairs=3, seed=8).metrics() != figures


def made(real: float) -> Structure:
    return Structure(real=np.full(5, real), ari=np.full(5, 0.4), jaccard=np.full(10, 0.7))


@pytest.mark.parametrize(
    ("jaccard", "reference", "words"),
    [
        (np.nan, made(0.9), "not tested"),
        (0.49, None, "unstable"),
        (0.5, None, "constructed"),
        (0.6, None, "reproducible"),
        (0.95, None, "reproducible"),
        (0.95, made(0.9), "natural"),
        (0.65, made(0.9), "reproducible"),
        (0.49, made(0.9), "unstable"),
        (0.95, made(0.3), "reproducible"),
    ],
)
def test_verdict_has_its_limits_and_is_natural_only_where_structure_was_found(
    jaccard: float, reference: Structure | None, words: str
) -> None:
    assert segment_verdict(jaccard, reference=reference) == words


@pytest.mark.parametrize(
    ("verdicts", "low", "found", "words"),
    [
        (["unstable"] * 4, 0.3, False, "none"),  # they dissolve, whatever they predict
        (["unstable"] * 3 + ["constructed"], 0.3, False, "none"),
        (["unstable"] * 3 + ["reproducible"], 0.3, False, "cuts"),
        (["unstable"] * 18 + ["constructed", "reproducible"], 0.3, False, "none"),  # one of twenty is none
        (["constructed"] * 4, 0.3, False, "cuts"),
        (["reproducible"] * 4, 0.0, False, "none"),  # they come back, and predict nothing
        (["unstable"] * 4, 0.0, True, "groups in part"),
        (["reproducible"] * 3 + ["unstable"], 0.3, True, "groups"),
    ],
)
def test_nothing_holds_where_segments_dissolve_or_predict_nothing(
    verdicts: list[str], low: float, found: bool, words: str
) -> None:
    segments = pd.DataFrame({"verdict": verdicts, "customer_share": 1 / len(verdicts)})
    assert verdict({"forward.spend_r2.low": low}, found=found, segments=segments) == words


def test_levels_alone_hold_everyone_once_and_speak_of_no_need(fitted: tuple[FitData, Fit]) -> None:
    levels = fit_levels(fitted[1])
    assert levels is not None and set(levels.model.need) == {""}
    assert len(levels.model.segments) == len(set(levels.model.macro)) == levels.segment_number.max() + 1 >= 2
    value = pd.Series(levels.axes.iloc[:, 0].to_numpy()).groupby(levels.segment_number)
    assert (value.min().iloc[:-1].to_numpy() >= value.max().iloc[1:].to_numpy()).all(), "the highest level first"
