"""Forecasters that others use: Pareto/NBD with Gamma-Gamma, the own past, and boosting on aggregates."""

import numpy as np
import pandas as pd
from scipy.special import gammaln, hyp2f1, roots_genlaguerre
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from segkit.forecast.buying import PurchaseHistory, fit_part, lowest
from segkit.forecast.model import Snapshot, TrainingSet
from segkit.forecast.order_value import expected_value, fit_gamma_gamma

NODES = 24  # of the quadrature over a rate


class ParetoNbd:
    """Pareto/NBD: rate ~ Gamma(r, alpha), lifetime rate ~ Gamma(s, beta) (Schmittlein, Morrison & Colombo 1987)."""

    def __init__(self, history: PurchaseHistory) -> None:
        part = history.part(fit_part(len(history)))
        unit = float(part.age.max()) / 10
        x, t_x, t = part.repeats, part.last / unit, part.age / unit

        def cost(logs: np.ndarray) -> float:
            with np.errstate(all="ignore"):  # far from any sensible parameters
                value = -float(self._log_likelihood(np.exp(logs), x=x, t_x=t_x, t=t).mean())
            return value if np.isfinite(value) else 1e6

        logs, _ = lowest(cost, starts=((0.0, 0.0, 0.0, 1.0), (0.0, 1.0, -1.0, 2.0)))
        r, alpha, s, beta = np.exp(logs)
        self.r, self.alpha, self.s, self.beta = r, alpha * unit, s, beta * unit

    @staticmethod
    def _log_gone(given: tuple[float, ...], *, x: np.ndarray, t_x: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The logarithm of A0 of Fader & Hardie (2005), A note on deriving the Pareto/NBD model."""
        r, alpha, s, beta = given
        most, apart, second = max(alpha, beta), abs(alpha - beta), (s + 1 if alpha >= beta else r + x)
        total = r + s + x

        def log_part(at: np.ndarray) -> np.ndarray:
            z = apart / (most + at)  # Pfaff: all terms are above zero and bounded
            found = hyp2f1(total + 1 - total, second, total + 1, z / (z - 1))
            return np.log(found) - second * np.log1p(-z) - total * np.log(most + at)

        near, far = log_part(t_x), log_part(t)
        return near + np.log(-np.expm1(np.minimum(far - near, -1e-15)))

    def _log_likelihood(self, given: np.ndarray, *, x: np.ndarray, t_x: np.ndarray, t: np.ndarray) -> np.ndarray:
        r, alpha, s, beta = given
        start = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta)
        here = -(r + x) * np.log(alpha + t) - s * np.log(beta + t)
        return start + np.logaddexp(here, np.log(s / (r + s + x)) + self._log_gone(given, x=x, t_x=t_x, t=t))

    def alive(self, history: PurchaseHistory) -> np.ndarray:
        given, x, t = (self.r, self.alpha, self.s, self.beta), history.repeats, history.age
        gone = self._log_gone(given, x=x, t_x=history.last, t=t) + np.log(self.s / (self.r + self.s + x))
        return 1 / (1 + np.exp(gone + (self.r + x) * np.log(self.alpha + t) + self.s * np.log(self.beta + t)))

    def purchases(self, history: PurchaseHistory, *, horizon_days: float) -> np.ndarray:
        s, end = self.s, self.beta + history.age
        over = (1 - (end / (end + horizon_days)) ** (s - 1)) / (s - 1)
        return self.alive(history) * (self.r + history.repeats) * end / (self.alpha + history.age) * over

    def active(self, history: PurchaseHistory, *, horizon_days: float) -> np.ndarray:
        """The chance of any purchase, by quadrature over the lifetime rate; the buying rate is integrated by hand."""
        nodes, weights = roots_genlaguerre(NODES, self.s - 1)
        lifetime = nodes[None, :] / (self.beta + history.age)[:, None]
        times, steps = np.polynomial.legendre.leggauss(NODES)
        times, steps = (times + 1) / 2 * horizon_days, steps / 2 * horizon_days
        shape, rate = (self.r + history.repeats)[:, None], (self.alpha + history.age)[:, None]
        # a first purchase at time t: still there, and none before
        density = shape / rate * (1 + times / rate) ** (-shape - 1)
        there = np.einsum("n,cnt->ct", weights / weights.sum(), np.exp(-lifetime[:, :, None] * times))
        return self.alive(history) * (density * there * steps).sum(axis=1)


def pareto_table(history: pd.DataFrame, index: pd.Index, *, horizon_days: int) -> pd.DataFrame:
    """Chance, orders and spend of customers by Pareto/NBD and Gamma-Gamma, from the table of `buying_history`."""
    from segkit.forecast.parametric import _as_history, _day_values, _orders_a_day

    table = pd.DataFrame(0.0, index=history.index, columns=["chance", "orders", "spend"])
    active = _as_history(history, kind="active")
    table["chance"] = ParetoNbd(active).active(active, horizon_days=horizon_days)
    buyers = history[history["order_days"] > 0]
    bought = _as_history(buyers, kind="order")
    purchases = ParetoNbd(bought).purchases(bought, horizon_days=horizon_days)
    table.loc[buyers.index, "orders"] = purchases * _orders_a_day(buyers, of=buyers)
    value = expected_value(fit_gamma_gamma(*_day_values(buyers)), *_day_values(buyers))
    table.loc[buyers.index, "spend"] = purchases * value
    return table.reindex(index).fillna(0.0)


def own_past(snapshot: Snapshot) -> pd.DataFrame:
    """The usual rate of a customer goes on; the chance is that of a Poisson count at this rate."""
    features = snapshot.data.features
    table = pd.DataFrame({n: features[n].clip(lower=0) * snapshot.rate for n in ("orders", "spend") if n in features})
    return table.assign(chance=1 - np.exp(-features["active_days"] * snapshot.rate))


def boosted(training: TrainingSet, now: Snapshot, *, seed: int = 7) -> pd.DataFrame:
    """Gradient boosting, as the library sets it, on all aggregates; means and medians learnt apart."""
    then, today = training.snapshot.data.features, now.data.features
    options = {"random_state": seed, "early_stopping": True}
    model = HistGradientBoostingClassifier(**options).fit(then, training.outcomes.active)
    table = pd.DataFrame({"chance": model.predict_proba(today)[:, 1]}, index=today.index)
    for name in training.amounts:
        for column, loss in ((f"{name}_mean", "squared_error"), (name, "absolute_error")):
            fitted = HistGradientBoostingRegressor(loss=loss, **options).fit(then, training.values(name))
            table[column] = fitted.predict(today).clip(0)
    return table
