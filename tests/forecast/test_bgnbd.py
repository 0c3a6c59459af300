"""BG/NBD and Gamma-Gamma: parameters are recovered, and predictions match what customers do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import hyp2f1

from segkit.errors import InputError
from segkit.forecast.bgnbd import (
    BgNbd,
    GammaGamma,
    active_chance,
    alive,
    expected_orders,
    expected_value,
    fit_bgnbd,
    fit_gamma_gamma,
)

TRUE = BgNbd(r=0.8, alpha=20.0, a=0.9, b=3.0)
WORTH = GammaGamma(p=6.0, q=4.0, gamma=15.0)
AHEAD = 90


def buyers(count: int, *, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Repeats, days to the last, age, and purchases in the days ahead, of customers who buy as the model assumes."""
    rng = np.random.default_rng(seed)
    rate, stop = rng.gamma(TRUE.r, 1 / TRUE.alpha, count), rng.beta(TRUE.a, TRUE.b, count)
    age = rng.integers(100, 365, count).astype(float)
    repeats, last, ahead = np.zeros((3, count))
    for i in range(count):
        time = rng.exponential(1 / rate[i])
        while time <= age[i] + AHEAD:
            repeats[i], ahead[i] = repeats[i] + (time <= age[i]), ahead[i] + (time > age[i])
            last[i] = time if time <= age[i] else last[i]
            if rng.random() < stop[i]:
                break
            time += rng.exponential(1 / rate[i])
    return repeats, last, age, ahead


def test_parameters_are_recovered() -> None:
    repeats, last, age, _ = buyers(4000)
    found = fit_bgnbd(repeats, last, age)
    assert found.r == pytest.approx(TRUE.r, rel=0.15) and found.alpha == pytest.approx(TRUE.alpha, rel=0.2)
    assert found.a / (found.a + found.b) == pytest.approx(TRUE.a / (TRUE.a + TRUE.b), rel=0.15)
    assert found == fit_bgnbd(repeats, last, age), "nothing is drawn"


def test_predicted_orders_and_chances_match_simulated_customers() -> None:
    repeats, last, age, ahead = buyers(4000, seed=2)
    expected = expected_orders(TRUE, repeats, last, age, horizon_days=AHEAD)
    chance = active_chance(TRUE, repeats, last, age, horizon_days=AHEAD)
    assert expected.mean() == pytest.approx(ahead.mean(), rel=0.06)
    for group in np.array_split(np.argsort(chance), 5):
        assert chance[group].mean() == pytest.approx((ahead[group] > 0).mean(), abs=0.04)


def test_expected_orders_are_those_of_the_paper() -> None:
    x, t_x, t = np.array([0.0, 2.0, 6.0]), np.array([0.0, 20.0, 60.0]), np.array([80.0, 50.0, 70.0])
    r, alpha, a, b = TRUE.r, TRUE.alpha, 1.7, TRUE.b
    shrink = ((alpha + t) / (alpha + t + AHEAD)) ** (r + x)
    first = (a + b + x - 1) / (a - 1)
    first *= 1 - shrink * hyp2f1(r + x, b + x, a + b + x - 1, AHEAD / (alpha + t + AHEAD))
    gone = np.where(x > 0, a / (b + np.maximum(x, 1) - 1) * ((alpha + t) / (alpha + t_x)) ** (r + x), 0)
    found = expected_orders(BgNbd(r, alpha, a, b), x, t_x, t, horizon_days=AHEAD)
    assert found == pytest.approx(first / (1 + gone))


@given(st.integers(0, 400), st.integers(0, 300), st.integers(0, 300))
def test_chances_are_chances_and_grow_with_time(repeats: int, last: int, more: int) -> None:
    given_ = (np.array([float(repeats)]), np.array([float(last)]), np.array([float(last + more)]))
    near, far = (active_chance(TRUE, *given_, horizon_days=d)[0] for d in (30, 300))
    assert 0 <= near <= far <= 1 and 0 <= alive(TRUE, *given_)[0] <= 1
    few, many = (expected_orders(TRUE, *given_, horizon_days=d)[0] for d in (30, 300))
    assert 0 <= few <= many < np.inf and near <= few + 1e-9, "a chance is at most the number expected"


def test_customers_without_a_repeat_have_not_dropped_out() -> None:
    assert alive(TRUE, np.zeros(2), np.zeros(2), np.array([1.0, 900.0])).tolist() == [1, 1]


def test_order_value_is_recovered_and_shrunk_to_the_mean() -> None:
    rng = np.random.default_rng(3)
    orders = rng.integers(1, 12, 4000).astype(float)
    scale = rng.gamma(WORTH.q, 1 / WORTH.gamma, 4000)
    value = rng.gamma(WORTH.p * orders, 1 / scale) / orders
    found = fit_gamma_gamma(orders, value)
    assert found.q == pytest.approx(WORTH.q, rel=0.1) and found.p == pytest.approx(WORTH.p, rel=0.4)
    assert found.p * found.gamma == pytest.approx(WORTH.p * WORTH.gamma, rel=0.1), "what data pin down is their product"
    once, often = (expected_value(WORTH, np.array([n]), np.array([100.0]))[0] for n in (1.0, 50.0))
    usual = WORTH.p * WORTH.gamma / (WORTH.q - 1)
    assert usual < once < often < 100


def test_too_few_customers_are_refused_with_the_count() -> None:
    with pytest.raises(InputError, match="3 customers, 1 of them with a second purchase"):
        fit_bgnbd(np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 3.0]), np.full(3, 9.0))
    with pytest.raises(InputError, match="0 of them with a second purchase"):
        fit_bgnbd(np.zeros(30), np.zeros(30), np.full(30, 9.0))
    with pytest.raises(InputError, match="1 customers with an order of some value"):
        fit_gamma_gamma(np.array([1.0, 0.0, 3.0]), np.array([9.0, 9.0, 0.0]))
