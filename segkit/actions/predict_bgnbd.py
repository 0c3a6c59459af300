"""BG/NBD with Gamma-Gamma: buying as a coin that is thrown after each purchase, fitted by maximum likelihood.

The classic rival of any forecast of customers (Fader, Hardie & Lee 2005): it knows of a customer only how many orders
they made, when the first and the last one was, and what an order was worth.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, gammaln, hyp2f1

from segkit.errors import InputError

FEWEST = 20  # customers that a fit is made on
MOST = 20_000  # customers; above that a fit is made on a part of them
BOUND = 9.0  # of the logarithm of a parameter: beyond it the likelihood is flat
NOT_ONE = 1e-6  # the expectation has a removable gap at a = 1


@dataclass(frozen=True)
class BgNbd:
    """Parameters of the rate of buying, Gamma(r, alpha) by day, and of dropping out after a purchase, Beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True)
class GammaGamma:
    """Parameters of the worth of an order: Gamma(p, v) within a customer, v ~ Gamma(q, gamma) between them."""

    p: float
    q: float
    gamma: float


def fit_bgnbd(repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> BgNbd:
    """Fit by maximum likelihood (Fader, Hardie & Lee 2005, "Counting your customers" the easy way, eq. 6).

    Takes  by customer: purchases after the first; days from the first to the last; days from the first to the end
    Gives  BgNbd, in days

    Raises
    ------
    InputError : fewer than twenty customers, or nobody came twice
    """
    if len(repeats) < FEWEST or not (repeats > 0).any():
        raise InputError(f"BG/NBD: {len(repeats)} customers, {int((repeats > 0).sum())} of whom came twice: too few.")
    unit = float(age.max()) / 10 or 1.0  # of time; near one for all parameters
    part = _part(len(repeats))
    x, t_x, t = repeats[part].astype(float), last[part] / unit, age[part] / unit

    def cost(logs: np.ndarray) -> float:
        return -float(_log_likelihood(np.exp(logs), x=x, t_x=t_x, t=t).mean())

    r, alpha, a, b = np.exp(_least(cost, starts=((0.0, 0.0, 0.0, 1.0), (0.0, 1.0, -2.0, 2.0))))
    return BgNbd(r=float(r), alpha=float(alpha * unit), a=float(a), b=float(b))


def expected_orders(
    model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, horizon_days: float
) -> np.ndarray:
    """Purchases in the days ahead, given the past (eq. 10, in Euler's form of the hypergeometric function, which stays
    finite for customers of many purchases).
    """
    a = model.a if abs(model.a - 1) > NOT_ONE else 1 + NOT_ONE
    z = horizon_days / (model.alpha + age + horizon_days)
    c = a + model.b + repeats - 1
    left = (1 - z) ** (a - 1) * hyp2f1(a + model.b - 1 - model.r, a - 1, c, z)
    return np.maximum(c / (a - 1) * (1 - left), 0.0) * alive(model, repeats, last, age)


def alive(model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Chance of not having dropped out yet; one for those who never came again, as the coin was not thrown."""
    x = np.maximum(repeats, 1)
    odds = np.log(model.a / (model.b + x - 1))  # of having dropped out
    odds = odds + (model.r + repeats) * np.log((model.alpha + age) / (model.alpha + last))
    return np.where(repeats > 0, expit(-odds), 1.0)


def active_chance(
    model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, horizon_days: float
) -> np.ndarray:
    """Chance of any purchase in the days ahead: alive, and not silent at a rate that is Gamma(r + x, alpha + T)."""
    silent = ((model.alpha + age) / (model.alpha + age + horizon_days)) ** (model.r + repeats)
    return alive(model, repeats, last, age) * (1 - silent)


def fit_gamma_gamma(orders: np.ndarray, value: np.ndarray) -> GammaGamma:
    """Fit the worth of an order by maximum likelihood (Fader & Hardie 2013, "The Gamma-Gamma model of monetary value").

    Takes  by customer: number of orders, and their mean value; those without value are left out
    Gives  GammaGamma, with q above one so that the mean exists

    Raises
    ------
    InputError : fewer than twenty customers with an order of some value
    """
    worth = (orders > 0) & (value > 0)
    if worth.sum() < FEWEST:
        raise InputError(f"Gamma-Gamma: {int(worth.sum())} customers with an order of some value: too few.")
    x, m = orders[worth].astype(float), value[worth].astype(float)
    part, unit = _part(len(x)), float(np.median(m))
    x, m = x[part], m[part] / unit

    def cost(logs: np.ndarray) -> float:
        p, q, g = np.exp(logs[0]), 1 + np.exp(logs[1]), np.exp(logs[2])
        shape = p * x
        parts = gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(g)
        return -float((parts + (shape - 1) * np.log(m) + shape * np.log(x) - (shape + q) * np.log(g + m * x)).mean())

    p, q, g = np.exp(_least(cost, starts=((0.5, 0.5, 0.5), (1.5, 1.0, 1.0))))
    return GammaGamma(p=float(p), q=float(1 + q), gamma=float(g * unit))


def expected_value(model: GammaGamma, orders: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Mean worth of a customer's orders: their own mean, drawn towards everyone's by how few orders it rests on."""
    return (model.gamma + orders * np.maximum(value, 0.0)) * model.p / (model.p * orders + model.q - 1)


def _log_likelihood(parameters: np.ndarray, *, x: np.ndarray, t_x: np.ndarray, t: np.ndarray) -> np.ndarray:
    r, alpha, a, b = parameters
    rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    coin = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    still = -(r + x) * np.log(alpha + t)
    gone = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + t_x)
    return rate + coin + np.where(x > 0, np.logaddexp(still, gone), still)


def _least(cost: object, *, starts: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """The best of a few searches, in logarithms of the parameters."""
    found = [
        minimize(cost, np.array(start), method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * len(start)) for start in starts
    ]
    return min(found, key=lambda one: one.fun).x


def _part(customers: int) -> np.ndarray:
    """Every so many-th customer, so that a fit never costs more than one on twenty thousand."""
    return np.arange(0, customers, max(1, -(-customers // MOST)))
