"""How good a segmentation is: adjusted R2, intervals and paired differences."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.features import Outcomes
from segkit.segments.scoring import ScoringOutcomes, adjusted_r2, compare_segmentations, lead_verdict, scoring_outcomes
from segkit.stats import bootstrap_interval


def test_hand_made_score() -> None:
    """Groups (1, 3) and (5, 7): total 20, between 16, so eta2 is 0.8 and the score 1 - 0.2 * 3 / 2."""
    assert adjusted_r2(np.array(["a", "a", "b", "b"]), np.array([[1.0], [3.0], [5.0], [7.0]]))[0] == pytest.approx(0.7)


def test_perfect_labels_score_one_and_one_group_zero() -> None:
    values = np.repeat([[1.0, 0.0], [5.0, 2.0]], 4, axis=0)
    assert adjusted_r2(np.repeat([0, 1], 4), values)[0] == pytest.approx(1.0)
    assert adjusted_r2(np.zeros(8), values)[0] == pytest.approx(0.0)


def test_shuffled_labels_score_zero_however_fine_the_cut() -> None:
    rng = np.random.default_rng(3)
    values = rng.lognormal(size=(600, 3))
    for groups in (2, 20, 120):
        scores = [adjusted_r2(rng.integers(0, groups, 600), values)[0] for _ in range(30)]
        assert abs(np.mean(scores)) < 0.02


def test_constant_values_score_zero_and_as_many_groups_as_rows_cannot_be_scored() -> None:
    assert adjusted_r2(np.array([0, 0, 1, 1]), np.ones((4, 1)))[0] == 0.0
    assert np.isnan(adjusted_r2(np.arange(4), np.arange(4.0)[:, None])[0])


def test_a_draw_counts_each_row_as_often_as_it_was_drawn() -> None:
    rng = np.random.default_rng(4)
    labels, values = rng.integers(0, 3, 12), rng.normal(size=(12, 2))
    counts = np.array([[2, 0, 1, 3, 1, 0, 0, 1, 2, 1, 1, 0], np.ones(12)])
    repeated = np.repeat(np.arange(12), counts[0].astype(int))
    weighted, plain = adjusted_r2(labels, values, draws=counts)
    assert weighted == pytest.approx(adjusted_r2(labels[repeated], values[repeated])[0])
    assert plain == pytest.approx(adjusted_r2(labels, values)[0])


def test_names_of_groups_and_order_of_rows_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    labels, values, order = rng.integers(0, 4, 40), rng.normal(size=(40, 2)), rng.permutation(40)
    named = np.array(["north", "east", "south", "west"])[labels]
    assert adjusted_r2(named[order], values[order])[0] == pytest.approx(adjusted_r2(labels, values)[0])


def outcomes(**columns: list[float]) -> Outcomes:
    totals = pd.DataFrame(columns).astype(float)
    weights = sparse.csr_array(np.array([[1.0, 3.0], [0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
    return Outcomes(totals=totals, weights=weights, categories=("tea", "rum"))


def test_truth_is_log_spend_of_all_activity_of_all_and_the_mix_of_those_who_bought() -> None:
    observed = outcomes(spend=[np.e - 1, -2, 0, 1], orders=[1, 0, 1, 1], active_days=[1, 0, 2, 1])
    values = scoring_outcomes(observed, terms=["rum", "tea"]).values
    assert sorted(values) == ["active", "mix", "spend"]
    np.testing.assert_allclose(values["spend"][1].ravel(), [1, 0, 0, np.log(2)])
    np.testing.assert_array_equal(values["active"][1].ravel(), [1, 0, 1, 1])
    assert values["mix"][0].tolist() == [True, False, True, True]
    np.testing.assert_allclose(values["mix"][1], [[np.sqrt(0.75), 0.5], [0, 1], [1, 0]])


def test_a_source_without_categories_has_no_mix_and_without_money_counts_days() -> None:
    observed = Outcomes(totals=pd.DataFrame({"active_days": [0.0, 1.0, 2.0, 3.0]}), weights=None, categories=())
    values = scoring_outcomes(observed).values
    assert list(values) == ["spend", "active"]
    assert adjusted_r2(np.array([0, 0, 1, 1]), values["spend"][1])[0] > 0.5


def test_comparison_is_in_pairs_on_the_customers_a_baseline_knows() -> None:
    rng = np.random.default_rng(6)
    best = np.repeat([0, 1, 2], 60)
    truth = ScoringOutcomes(values={"spend": (np.ones(180, dtype=bool), best[:, None] + rng.normal(0, 0.3, (180, 1)))})
    halves = (best > 0).astype(object)
    halves[:30] = None
    labels = {"ours": best, "same": best + 10, "halves": halves, "random": rng.integers(0, 3, 180)}
    table = compare_segmentations(labels, truth, reference="ours", seed=1).set_index("baseline")
    assert table.loc["same", ["lead", "lead_low", "lead_high"]].tolist() == [0, 0, 0]
    assert table.loc["halves", "customers"] == 150 and table.loc["halves", "segments"] == 2
    assert (table.loc[["halves", "random"], "lead_low"] > 0).all()
    assert table.loc["random", "low"] < 0 < table.loc["random", "high"] and abs(table.loc["random", "r2"]) < 0.05
    pd.testing.assert_frame_equal(
        table, compare_segmentations(labels, truth, reference="ours", seed=1).set_index("baseline")
    )
    assert not table.equals(compare_segmentations(labels, truth, reference="ours", seed=2).set_index("baseline"))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.2, "ahead"),
        (-0.2, -0.01, "behind"),
        (-0.1, 0.1, "level"),
        (0.0, 0.1, "level"),
        (np.nan, 1, "cannot tell"),
    ],
)
def test_ahead_only_where_the_interval_leaves_zero_out(low: float, high: float, words: str) -> None:
    assert lead_verdict(low, high) == words


def test_interval_stands_around_the_figure_itself() -> None:
    _, low, high = bootstrap_interval(np.linspace(0.5, 0.7, 101), at=0.4)
    assert (low + high) / 2 == pytest.approx(0.4) and low == pytest.approx(0.305)
