"""Fit the BG/NBD model of purchases and the Gamma-Gamma model of order value."""

from dataclasses import dataclass
from datetime import date

import ibis
import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, gammaln, hyp2f1

from segkit.customers.days import Days
from segkit.errors import InputError

YEAR = 365  # days
MIN_FIT_CUSTOMERS = 20  # customers of a fit
MAX_FIT_CUSTOMERS = 20_000  # customers; of more, a fit uses a part
BOUND = 9.0  # of the logarithm of a parameter; beyond it the likelihood is flat
UNIT_MARGIN = 1e-6  # the expectation has a removable singularity at a = 1


@dataclass(frozen=True)
class BgNbd:
    """Hold the parameters of BG/NBD: purchase rate ~ Gamma(r, alpha) per day, dropout ~ Beta(a, b) after a purchase."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True)
class GammaGamma:
    """Hold the parameters of order value: Gamma(p, v) within a customer, v ~ Gamma(q, gamma) between customers."""

    p: float
    q: float
    gamma: float


def fit_bgnbd(repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> BgNbd:
    """Fit BG/NBD by maximum likelihood (Fader, Hardie & Lee 2005, "Counting your customers" the easy way, eq. 6).

    Parameters
    ----------
    last
        Days from the first purchase to the last.
    age
        Days from the first purchase to the end of the history.

    Raises
    ------
    InputError
        Fewer than twenty customers, or nobody bought twice.
    """
    if len(repeats) < MIN_FIT_CUSTOMERS or not (repeats > 0).any():
        raise InputError(
            f"BG/NBD: {len(repeats)} customers, {int((repeats > 0).sum())} of them with a second purchase: too few. "
            f"Fit at least {MIN_FIT_CUSTOMERS} customers who bought more than once."
        )
    unit = float(age.max()) / 10 or 1.0  # of time; near one for all parameters
    part = _subsample(len(repeats))
    x, t_x, t = repeats[part].astype(float), last[part] / unit, age[part] / unit

    def cost(logs: np.ndarray) -> float:
        return -float(_log_likelihood(np.exp(logs), x=x, t_x=t_x, t=t).mean())

    r, alpha, a, b = np.exp(_minimise(cost, starts=((0.0, 0.0, 0.0, 1.0), (0.0, 1.0, -2.0, 2.0))))
    return BgNbd(r=float(r), alpha=float(alpha * unit), a=float(a), b=float(b))


def expected_orders(
    model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, horizon_days: float
) -> np.ndarray:
    """Predict the purchases of the next ``horizon_days``, given each customer's history.

    Equation 10 of Fader, Hardie & Lee 2005, in Euler's form of the hypergeometric function, finite for
    customers with many purchases. Arguments as in ``fit_bgnbd``.
    """
    a = model.a if abs(model.a - 1) > UNIT_MARGIN else 1 + UNIT_MARGIN
    z = horizon_days / (model.alpha + age + horizon_days)
    c = a + model.b + repeats - 1
    left = (1 - z) ** (a - 1) * hyp2f1(a + model.b - 1 - model.r, a - 1, c, z)
    return np.maximum(c / (a - 1) * (1 - left), 0.0) * alive(model, repeats, last, age)


def alive(model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return the chance that a customer has not dropped out; 1 without a repeat purchase, as dropout follows one."""
    x = np.maximum(repeats, 1)
    odds = np.log(model.a / (model.b + x - 1))  # of having dropped out
    odds = odds + (model.r + repeats) * np.log((model.alpha + age) / (model.alpha + last))
    return np.where(repeats > 0, expit(-odds), 1.0)


def active_chance(
    model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, horizon_days: float
) -> np.ndarray:
    """Return the chance of any purchase in the next ``horizon_days``.

    A customer must be alive, and not silent at a rate that is Gamma(r + repeats, alpha + age).
    """
    silent = ((model.alpha + age) / (model.alpha + age + horizon_days)) ** (model.r + repeats)
    return alive(model, repeats, last, age) * (1 - silent)


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
    part, unit = _subsample(len(x)), float(np.median(m))
    x, m = x[part], m[part] / unit

    def cost(logs: np.ndarray) -> float:
        p, q, g = np.exp(logs[0]), 1 + np.exp(logs[1]), np.exp(logs[2])
        shape = p * x
        parts = gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(g)
        return -float((parts + (shape - 1) * np.log(m) + shape * np.log(x) - (shape + q) * np.log(g + m * x)).mean())

    p, q, g = np.exp(_minimise(cost, starts=((0.5, 0.5, 0.5), (1.5, 1.0, 1.0))))
    return GammaGamma(p=float(p), q=float(1 + q), gamma=float(g * unit))


def expected_value(model: GammaGamma, orders: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the expected order value: a customer's own mean, shrunk to the overall mean when orders are few."""
    return (model.gamma + orders * np.maximum(value, 0.0)) * model.p / (model.p * orders + model.q - 1)


def _log_likelihood(parameters: np.ndarray, *, x: np.ndarray, t_x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return the log-likelihood of each customer under BG/NBD."""
    r, alpha, a, b = parameters
    rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    dropout = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    alive_part = -(r + x) * np.log(alpha + t)
    dropped_part = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + t_x)
    return rate + dropout + np.where(x > 0, np.logaddexp(alive_part, dropped_part), alive_part)


def _minimise(cost: object, *, starts: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Return the best of a few searches, in logarithms of the parameters."""
    found = [
        minimize(cost, np.array(start), method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * len(start)) for start in starts
    ]
    return min(found, key=lambda result: result.fun).x


def _subsample(customers: int) -> np.ndarray:
    """Pick every n-th customer, so that a fit costs no more than one of ``MAX_FIT_CUSTOMERS``."""
    return np.arange(0, customers, max(1, -(-customers // MAX_FIT_CUSTOMERS)))


def bgnbd_forecasts(days: Days, *, as_of: date, horizon_days: int, index: pd.Index) -> pd.DataFrame:
    """Forecast chance and orders with BG/NBD, and spend with Gamma-Gamma.

    The chance is fitted on days with any activity, the number of orders on orders.

    Returns ``chance``, ``orders``, ``spend`` and ``horizons_a_year`` (how many times the horizon's purchases are
    expected in a year), in the order of ``index``; null where the model cannot be fitted.
    """
    history = _purchase_history(days, as_of=as_of)
    names = ("chance", "orders", "spend", "horizons_a_year")
    table = pd.DataFrame(np.nan, index=history.index, columns=list(names))
    ahead = {"horizon_days": horizon_days}
    try:
        counts = _count_history(history, count="active_days")
        activity_model = fit_bgnbd(*counts)
        table["chance"] = active_chance(activity_model, *counts, **ahead)
        table["horizons_a_year"] = _yearly_ratio(activity_model, counts, horizon_days=horizon_days)
        buyers = history[history["orders"] > 0]
        counts = _count_history(buyers, count="orders")
        order_model = fit_bgnbd(*counts)
        table.loc[buyers.index, "orders"] = expected_orders(order_model, *counts, **ahead)
        table.loc[buyers.index, "horizons_a_year"] = _yearly_ratio(order_model, counts, horizon_days=horizon_days)
        orders, value = buyers["orders"].to_numpy(float), (buyers["amount"] / buyers["orders"]).to_numpy(float)
        value_of_order = expected_value(fit_gamma_gamma(orders, value), orders, value)
        table.loc[buyers.index, "spend"] = table.loc[buyers.index, "orders"] * value_of_order
    except InputError:
        pass  # too few customers, or no purchases: the columns fitted so far are used
    available = table.columns[table.notna().any()]
    table[available] = table[available].fillna(0.0)  # no purchase is expected of customers who never bought
    return table.reindex(index).round(9)


def _yearly_ratio(model: BgNbd, counts: tuple[np.ndarray, ...], *, horizon_days: int) -> np.ndarray:
    """Divide the purchases of a year by those of the horizon: some drop out, so it is below the number of horizons."""
    near, far = (expected_orders(model, *counts, horizon_days=d) for d in (horizon_days, YEAR))
    return np.divide(far, near, out=np.ones_like(far), where=near > 0)


def _count_history(history: pd.DataFrame, *, count: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return repeats, days to the last purchase, and age, as ``fit_bgnbd`` takes them."""
    kind = "order" if count == "orders" else "active"
    first, last = history[f"first_{kind}"], history[f"last_{kind}"]
    counts = history[count].to_numpy(float) - 1, last - first, history["until"] - first
    return tuple(np.asarray(values, dtype=float) for values in counts)


def _purchase_history(days: Days, *, as_of: date) -> pd.DataFrame:
    """Count orders and active days of each customer, with their first and last days and the amount bought."""
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    own, bought, day = rows.own_events > 0, rows.orders > 0, rows.day.epoch_days().cast("int64")
    aggregates = {
        "orders": rows.orders.sum().cast("float64"),
        "active_days": day.nunique(where=own).cast("float64"),
        "first_active": day.min(where=own),
        "last_active": day.max(where=own),
        "first_order": day.min(where=bought),
        "last_order": day.max(where=bought),
    }
    if "amount" in rows.columns:
        aggregates["amount"] = rows.amount.sum().cast("float64")
    table = rows.group_by("customer_id").aggregate(**aggregates).to_pandas().set_index("customer_id").sort_index()
    table["until"] = (as_of - date(1970, 1, 1)).days
    if "amount" not in table:
        table["amount"] = 0.0
    return table[table["active_days"] > 0]
