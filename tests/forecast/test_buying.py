"""Models of repeat buying and of order value: parameters are recovered, and forecasts match what customers do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import hyp2f1

from segkit.errors import InputError
from segkit.forecast import buying
from segkit.forecast.buying import (
    BuyingModel,
    PurchaseHistory,
    active_chance,
    alive,
    chances_of_purchases,
    expected_purchases,
    fit_model,
    fit_regular_model,
)
from segkit.forecast.order_value import GammaGamma, expected_value, fit_gamma_gamma

CLASSIC = BuyingModel(r=0.8, alpha=20.0, a=0.9, b=3.0)
REGULAR = BuyingModel(r=2.0, alpha=15.0, a=0.6, b=3.0, regularity=3, stops_at_once=True)
WORTH = GammaGamma(p=6.0, q=4.0, gamma=15.0)
AHEAD = 90


def buyers(model: BuyingModel, count: int = 4000, *, seed: int = 1) -> tuple[PurchaseHistory, np.ndarray]:
    """Customers who buy as the model assumes, and their purchases in the days ahead."""
    rng = np.random.default_rng(seed)
    rate, stop = rng.gamma(model.r, 1 / model.alpha, count), rng.beta(model.a, model.b, count)
    age = rng.integers(100, 365, count).astype(float)
    repeats, last, gaps, ahead = np.zeros((4, count))
    for i in range(count):
        time, stopped = 0.0, model.stops_at_once and rng.random() < stop[i]
        while not stopped:
            gap = rng.gamma(model.regularity, 1 / rate[i])
            time += gap
            if time > age[i] + AHEAD:
                break
            if time <= age[i]:
                repeats[i], last[i], gaps[i] = repeats[i] + 1, time, gaps[i] + np.log(gap)
            else:
                ahead[i] += 1
            stopped = rng.random() < stop[i]
    return PurchaseHistory(repeats, last, age, gaps), ahead


def one(repeats: float, last: float, age: float) -> PurchaseHistory:
    return PurchaseHistory(*(np.array([each], dtype=float) for each in (repeats, last, age, 0.0)))


@pytest.mark.parametrize("model", [CLASSIC, REGULAR], ids=lambda model: model.name)
def test_parameters_are_recovered_and_forecasts_match_simulated_customers(model: BuyingModel) -> None:
    history, ahead = buyers(model)
    found = fit_model(history)[0] if model is CLASSIC else fit_regular_model(history)
    assert (found.name, found.regularity) == (model.name, model.regularity)
    assert found.r == pytest.approx(model.r, rel=0.15) and found.alpha == pytest.approx(model.alpha, rel=0.2)
    assert found.a / (found.a + found.b) == pytest.approx(model.a / (model.a + model.b), rel=0.15)
    expected = expected_purchases(model, history, horizon_days=AHEAD)
    chance = active_chance(model, history, horizon_days=AHEAD)
    assert expected.mean() == pytest.approx(ahead.mean(), rel=0.06)
    for group in np.array_split(np.argsort(chance), 5):
        assert chance[group].mean() == pytest.approx((ahead[group] > 0).mean(), abs=0.04)
    for rows, chances in chances_of_purchases(model, history, horizon_days=AHEAD):
        assert chances[:, 0] == pytest.approx(chance[rows]) and chances.sum(axis=1) == pytest.approx(expected[rows])
        for least in (2, 4):
            assert chances[:, least - 1].mean() == pytest.approx((ahead[rows] >= least).mean(), abs=0.05)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    history, _ = buyers(REGULAR, 200)
    at = np.array([0.7, 12.0, 0.8, 2.5])
    for model in (CLASSIC, REGULAR):

        def value(given: np.ndarray, model: BuyingModel = model) -> float:
            return buying._log_likelihood(
                replace(model, **dict(zip("r alpha a b".split(), given, strict=True))), history
            )[0]

        r, alpha, a, b = at
        slope = buying._log_likelihood(replace(model, r=r, alpha=alpha, a=a, b=b), history)[1]
        assert slope == pytest.approx(approx_fprime(at, value, 1e-6), abs=1e-4)


def test_expected_purchases_are_those_of_the_paper() -> None:
    history = PurchaseHistory(np.array([0.0, 2, 6]), np.array([0.0, 20, 60]), np.array([80.0, 50, 70]), np.zeros(3))
    x, t_x, t = history.repeats, history.last, history.age
    r, alpha, a, b = CLASSIC.r, CLASSIC.alpha, 1.7, CLASSIC.b
    shrink = ((alpha + t) / (alpha + t + AHEAD)) ** (r + x)
    first = (a + b + x - 1) / (a - 1)
    first *= 1 - shrink * hyp2f1(r + x, b + x, a + b + x - 1, AHEAD / (alpha + t + AHEAD))
    gone = np.where(x > 0, a / (b + np.maximum(x, 1) - 1) * ((alpha + t) / (alpha + t_x)) ** (r + x), 0)
    found = expected_purchases(replace(CLASSIC, a=a), history, horizon_days=AHEAD)
    assert found == pytest.approx(first / (1 + gone))


@given(st.integers(0, 400), st.integers(0, 300), st.integers(0, 300), st.sampled_from([CLASSIC, REGULAR]))
def test_chances_are_chances_and_grow_with_time(repeats: int, last: int, more: int, model: BuyingModel) -> None:
    history = one(repeats, last, last + more)
    near, far = (active_chance(model, history, horizon_days=days)[0] for days in (30, 300))
    assert 0 <= near <= far <= 1 and 0 <= alive(model, history)[0] <= 1
    few, many = (expected_purchases(model, history, horizon_days=days)[0] for days in (30, 300))
    assert 0 <= few <= many < np.inf and near <= few + 1e-9, "a chance is at most the number expected"


def test_only_a_model_that_stops_at_once_gives_up_on_a_first_purchase() -> None:
    assert alive(CLASSIC, one(0, 0, 900)).tolist() == [1]
    assert alive(REGULAR, one(0, 0, 900))[0] < 0.6


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
    history, _ = buyers(CLASSIC, 30)
    with pytest.raises(InputError, match="3 customers, "):
        fit_model(history.part(np.arange(3)))
    with pytest.raises(InputError, match="0 of them with a second purchase"):
        fit_model(PurchaseHistory(np.zeros(30), np.zeros(30), np.full(30, 9.0), np.zeros(30)))
    with pytest.raises(InputError, match="1 customers with an order of some value"):
        fit_gamma_gamma(np.array([1.0, 0.0, 3.0]), np.array([9.0, 9.0, 0.0]))
