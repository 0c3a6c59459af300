"""Model what an order is worth: Gamma-Gamma."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from segkit.errors import InputError
from segkit.forecast.buying import MIN_FIT_CUSTOMERS, fit_part, lowest


@dataclass(frozen=True)
class GammaGamma:
    """Hold the parameters of order value: Gamma(p, v) within a customer, v ~ Gamma(q, gamma) between customers."""

    p: float
    q: float
    gamma: float


def fit_gamma_gamma(orders: np.ndarray, value: np.ndarray) -> GammaGamma:
    """Fit order values by maximum likelihood (Fader & Hardie 2013, "The Gamma-Gamma model of monetary value").

    Parameters
    ----------
    value
        Mean value of these orders; customers without value are left out.

    Returns
    -------
    GammaGamma
        With ``q`` above 1, so that the mean exists.

    Raises
    ------
    InputError
        Fewer than twenty customers with an order of some value.
    """
    with_value = (orders > 0) & (value > 0)
    if with_value.sum() < MIN_FIT_CUSTOMERS:
        raise InputError(
            f"Gamma-Gamma: {int(with_value.sum())} customers with an order of some value: too few to fit. "
            f"Use at least {MIN_FIT_CUSTOMERS} of them."
        )
    x, m = orders[with_value].astype(float), value[with_value].astype(float)
    part, unit = fit_part(len(x)), float(np.median(m))
    x, m = x[part], m[part] / unit

    def cost(logs: np.ndarray) -> float:
        p, q, g = np.exp(logs[0]), 1 + np.exp(logs[1]), np.exp(logs[2])
        shape = p * x
        parts = gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(g)
        return -float((parts + (shape - 1) * np.log(m) + shape * np.log(x) - (shape + q) * np.log(g + m * x)).mean())

    (p, q, g), _ = lowest(cost, starts=((0.5, 0.5, 0.5), (1.5, 1.0, 1.0)))
    p, q, g = np.exp((p, q, g))
    return GammaGamma(p=float(p), q=float(1 + q), gamma=float(g * unit))


def expected_value(model: GammaGamma, orders: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the expected order value: a customer's own mean, shrunk to the overall mean when orders are few."""
    return (model.gamma + orders * np.maximum(value, 0.0)) * model.p / (model.p * orders + model.q - 1)
