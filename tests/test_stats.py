"""The shared statistics, each compared with a library that computes the same, or with a case worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from statsmodels.regression.linear_model import OLS

from segkit import stats


@pytest.mark.parametrize(("count", "of"), [(0, 10), (10, 10), (5, 10), (1, 3), (217, 4013)])
def test_the_interval_of_a_share_equals_scipy(count: int, of: int) -> None:
    expected = binomtest(count, of).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose(stats.proportion_interval(count, of)[1:], (expected.low, expected.high), atol=1e-12)


def test_intervals_at_their_limits() -> None:
    assert stats.proportion_interval(0, 10)[:2] == (0.0, 0.0)
    assert 0.999 < stats.proportion_interval(10, 10).high <= 1.0
    assert all(np.isnan(stats.proportion_interval(0, 0)))
    assert stats.mean_interval(pd.Series([1.0, 3.0])).value == 2.0
    assert np.isnan(stats.mean_interval(pd.Series([4.0])).low)
    assert all(np.isnan(stats.ratio_interval(pd.Series([1.0, 2.0]), pd.Series([0.0, 0.0]))))
    np.testing.assert_allclose(stats.ratio_interval(pd.Series([2.0, 4.0]), pd.Series([1.0, 2.0])), (2.0, 2.0, 2.0))
    np.testing.assert_allclose(stats.bootstrap_interval(np.array([4.0, 6.0]), at=1.0), (1.0, 0.05, 1.95))


def test_robust_errors_equal_statsmodels() -> None:
    rng = np.random.default_rng(1)
    treated, past = (rng.random(80) < 0.5).astype(float), rng.lognormal(0, 0.5, (80, 2))
    values = past[:, 0] * rng.lognormal(0, 0.4, 80) + treated
    expected = OLS(values, np.column_stack([np.ones(80), treated, past])).fit(cov_type="HC3")
    fit = stats.least_squares(values, treated, past)
    np.testing.assert_allclose(fit.slopes, expected.params)
    for row, error in enumerate(expected.bse):
        moved, left_out = fit.leave_one_out(row=row)
        np.testing.assert_allclose(np.sqrt(np.square(moved * left_out).sum()), error)
        np.testing.assert_allclose(left_out, expected.get_influence().resid_press)


def test_a_covariate_that_one_customer_has_leaves_errors_finite() -> None:
    values, alone = np.arange(20.0), np.zeros(20)
    alone[3] = 1.0
    moved, left_out = stats.least_squares(values, alone).leave_one_out(row=1)
    assert np.isfinite(moved).all() and np.isfinite(left_out).all()


def test_covariates_that_do_not_vary_or_are_too_many_are_not_used() -> None:
    covariates = np.column_stack([np.ones(20), np.arange(20.0), np.arange(20.0) ** 2, np.arange(20.0) ** 3])
    np.testing.assert_array_equal(stats.usable_covariates(covariates), covariates[:, 1:3])
    assert stats.usable_covariates(covariates[:9]).shape == (9, 0)


@pytest.mark.parametrize(("rows", "columns"), [(300, 40), (90, 120)])
def test_both_ridges_agree_in_the_units_of_the_values(rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    design = rng.normal(size=(rows, columns))
    design -= design.mean(axis=0)
    values = design[:, :4] + rng.normal(size=(rows, 4)) * 3
    slopes, constants = stats.ridge(design, values + 7)
    np.testing.assert_allclose(stats.ridge_from_products(design, values - values.mean(axis=0)), slopes, atol=1e-9)
    np.testing.assert_allclose(constants, 7 + values.mean(axis=0), atol=1e-9)


def test_false_discoveries_are_limited_to_the_share() -> None:
    p = np.array([0.01, 0.02, 0.03, 0.04, 0.9])
    assert stats.discoveries(p, share=0.05).tolist() == [True, True, True, True, False]
    assert not stats.discoveries(p, share=0.005).any() and stats.discoveries(np.array([]), share=0.05).size == 0


def test_a_sample_by_hash_does_not_depend_on_other_customers() -> None:
    ids = [f"c{i}" for i in range(200)]
    picked = {i for i, flag in zip(ids, stats.hash_sample(ids, most=50), strict=True) if flag}
    fewer = [i for i in ids if i in picked or i.endswith("7")]
    again = {i for i, flag in zip(fewer, stats.hash_sample(fewer, most=50), strict=True) if flag}
    assert len(picked) == 50 and picked == again


def test_equal_values_share_a_group() -> None:
    assert stats.rank_groups(pd.Series([5.0, 1.0, 1.0, 1.0, 9.0]), parts=5).tolist() == [3, 1, 1, 1, 4]


@pytest.mark.parametrize(("rows", "groups"), [(0, 1), (1, 1), (2, 2), (9, 1), (40, 4), (3000, 20)])
def test_agreement_of_groupings_equals_scikit_learn(rows: int, groups: int) -> None:
    rng = np.random.default_rng(rows)
    one = rng.integers(groups, size=rows) - 1
    for other in (one, np.where(rng.random(rows) < 0.6, one, 5), rng.permutation(one), one.astype(str).astype(object)):
        assert stats.adjusted_rand(one, other) == pytest.approx(adjusted_rand_score(one, other), abs=1e-12)


def test_auc_equals_scikit_learn_in_each_resampling() -> None:
    rng = np.random.default_rng(3)
    scores, outcomes = rng.random(60).round(1), rng.random(60) < 0.4
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=3).astype(float)
    expected = [roc_auc_score(outcomes, scores, sample_weight=each) for each in counts]
    np.testing.assert_allclose(stats.auc(scores, outcomes, counts=counts), expected)
    assert np.isnan(stats.auc(scores, np.zeros(60))[0])
