"""Model repeat buying: how often customers buy, how regularly, and when they stop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import minimize
from scipy.special import betainc, betaln, digamma, gammaln, hyp2f1, logsumexp

from segkit.errors import InputError

MIN_FIT_CUSTOMERS = 20  # customers of a fit
MAX_FIT_CUSTOMERS = 5_000  # customers; of more, a fit uses a part
BOUND = 9.0  # of the logarithm of a parameter; beyond it the likelihood is flat
REGULARITIES = (2, 3, 4, 6, 9)  # shapes of the gaps tried; 1 is pure chance
UNIT_MARGIN = 1e-6  # the expectation has a removable singularity at a = 1
MOST_PURCHASES = 2_000  # days with a purchase in a horizon at most
CELLS = 4_000_000  # customers x counts of a distribution computed at once


@dataclass(frozen=True, eq=False)
class PurchaseHistory:
    """Hold the days on which each customer bought, in counts and days; one entry a customer.

    Parameters
    ----------
    repeats
        Days with a purchase after the first.
    last
        Days from the first purchase to the last.
    age
        Days from the first purchase to the end of the history.
    log_gaps
        Sum of the logarithms of the days between purchases; 0 without a repeat.
    """

    repeats: np.ndarray
    last: np.ndarray
    age: np.ndarray
    log_gaps: np.ndarray

    def __len__(self) -> int:
        return len(self.repeats)

    def __eq__(self, other: object) -> bool:
        """Compare the figures of all customers."""
        return isinstance(other, PurchaseHistory) and all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    def part(self, rows: np.ndarray | slice) -> "PurchaseHistory":
        """Return some of the customers."""
        return PurchaseHistory(self.repeats[rows], self.last[rows], self.age[rows], self.log_gaps[rows])


@dataclass(frozen=True)
class BuyingModel:
    """Hold the parameters of a model of repeat buying.

    A customer buys at gaps that are Erlang with shape ``regularity`` and a rate of Gamma(r, alpha) a day, and stops for
    good after a purchase with a chance of Beta(a, b); with ``stops_at_once`` already after the first. BG/NBD has
    regularity 1 and never stops at once (Fader, Hardie & Lee 2005); the others are MBG/CNBD-k (Reutterer, Platzer &
    Schroeder 2021).
    """

    r: float
    alpha: float
    a: float
    b: float
    regularity: int = 1
    stops_at_once: bool = False

    @property
    def name(self) -> str:
        """Return the name that the literature uses."""
        regular = "NBD" if self.regularity == 1 else f"CNBD-{self.regularity}"
        return f"{'MBG' if self.stops_at_once else 'BG'}/{regular}"


def fit_regular_model(history: PurchaseHistory) -> BuyingModel:
    """Fit MBG/CNBD-k of each regularity, and return the one of the highest likelihood.

    All have four parameters, so no penalty is needed. Gaps are made more regular until the likelihood falls.

    Raises
    ------
    InputError
        Fewer than twenty customers, or nobody bought twice.
    """
    best, highest = fit_model(history, stops_at_once=True)
    for regularity in REGULARITIES:
        found, likelihood = fit_model(history, regularity=regularity, stops_at_once=True)
        if likelihood <= highest:
            break
        best, highest = found, likelihood
    return best


def fit_model(
    history: PurchaseHistory, *, regularity: int = 1, stops_at_once: bool = False
) -> tuple[BuyingModel, float]:
    """Fit one model by maximum likelihood.

    Returns
    -------
    tuple
        The model, and its mean log-likelihood a customer, which can be compared between models of the same history.

    Raises
    ------
    InputError
        Fewer than twenty customers, or nobody bought twice.
    """
    returned = int((history.repeats > 0).sum())
    if len(history) < MIN_FIT_CUSTOMERS or not returned:
        raise InputError(
            f"A model of repeat buying: {len(history)} customers, {returned} of them with a second purchase: too few. "
            f"Fit at least {MIN_FIT_CUSTOMERS} customers, with second purchases among them."
        )
    part = history.part(fit_part(len(history)))
    unit = float(part.age.max()) / 10 or 1.0  # of time; near one for all parameters
    scaled = PurchaseHistory(
        part.repeats, part.last / unit, part.age / unit, part.log_gaps - part.repeats * np.log(unit)
    )

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        r, alpha, a, b = np.exp(logs)
        model = BuyingModel(r, alpha, a, b, regularity=regularity, stops_at_once=stops_at_once)
        value, slope = _log_likelihood(model, scaled)
        return -value, -slope * np.exp(logs)

    logs, value = lowest(cost, starts=((0.0, 0.0, 0.0, 1.0), (0.0, 1.0, -2.0, 2.0)), slope=True)
    r, alpha, a, b = (float(each) for each in np.exp(logs))
    return BuyingModel(r, alpha * unit, a, b, regularity=regularity, stops_at_once=stops_at_once), -value


def fit_part(customers: int) -> np.ndarray:
    """Pick every n-th customer, so that a fit costs no more than one of ``MAX_FIT_CUSTOMERS``."""
    return np.arange(0, customers, max(1, -(-customers // MAX_FIT_CUSTOMERS)))


def lowest(
    cost: Callable[..., object], *, starts: tuple[tuple[float, ...], ...], slope: bool = False
) -> tuple[np.ndarray, float]:
    """Minimise a cost of logarithms of parameters from each start; return the best point and its cost.

    `slope`: the cost also returns its gradient.
    """
    bounds = [(-BOUND, BOUND)] * len(starts[0])
    found = [minimize(cost, np.array(start), jac=slope, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(found, key=lambda result: result.fun)
    return best.x, float(best.fun)


def alive(model: BuyingModel, history: PurchaseHistory) -> np.ndarray:
    """Return the chance that a customer has not stopped for good."""
    stopped, going = _log_ways(model, history)
    return np.exp(going - np.logaddexp(stopped, going))


def chances_of_purchases(
    model: BuyingModel, history: PurchaseHistory, *, horizon_days: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Compute, for customers in blocks, the chance of at least one purchase in the horizon, of two, and so on.

    A customer who is still there stands in one of ``regularity`` stages of the current gap; passing stages is a Poisson
    process at a gamma rate, and each purchase may be the last.

    Yields
    ------
    tuple
        Positions of the customers, and chances, customers x counts from 1 on; the last count is negligible.
    """
    k, n = model.regularity, _trials(model, history)
    shape, rate = model.r + k * history.repeats, model.alpha + history.age
    share = horizon_days / (rate + horizon_days)
    mean = (shape + k) * horizon_days / rate / k
    most = np.ceil(mean + 6 * np.sqrt(mean * (1 + horizon_days / rate)) + 4)
    most = np.minimum(most, min(horizon_days, MOST_PURCHASES)).astype(int)
    stage, there = _stages(model, history), alive(model, history)
    order = np.argsort(most, kind="stable")
    start = 0
    while start < len(order):
        width = max(int(most[order[min(start + 1000, len(order)) - 1]]), 1)
        rows = order[start : start + min(max(CELLS // width, 1), 1000)]
        width = max(int(most[rows].max()), 1)
        count = np.arange(1, width + 1)
        passed = sum(
            stage[rows, j, None] * betainc(k * count - j, (shape + j)[rows, None], share[rows, None]) for j in range(k)
        )
        left = _still_there(model, n[rows], count - 1)
        yield rows, there[rows, None] * passed * left
        start += len(rows)


def expected_purchases(model: BuyingModel, history: PurchaseHistory, *, horizon_days: float) -> np.ndarray:
    """Return the purchases to expect of each customer in the horizon.

    Without regularity by equation 10 of Fader, Hardie & Lee 2005, in Euler's form of the hypergeometric function, which
    is finite for customers with many purchases; else as the sum of the chances of each further purchase.
    """
    if model.regularity == 1:
        return _expected_by_chance(model, history, horizon_days=horizon_days)
    found = np.zeros(len(history))
    for rows, chances in chances_of_purchases(model, history, horizon_days=horizon_days):
        found[rows] = chances.sum(axis=1)
    return found


def active_chance(model: BuyingModel, history: PurchaseHistory, *, horizon_days: float) -> np.ndarray:
    """Return the chance of any purchase in the horizon: there, and the current gap ends in it."""
    k = model.regularity
    shape, share = model.r + k * history.repeats, horizon_days / (model.alpha + history.age + horizon_days)
    stage = _stages(model, history)
    return alive(model, history) * sum(stage[:, j] * betainc(k - j, shape + j, share) for j in range(k))


def _expected_by_chance(model: BuyingModel, history: PurchaseHistory, *, horizon_days: float) -> np.ndarray:
    """Return the purchases to expect where the gaps are of pure chance and their mean is that of the model."""
    a = model.a if abs(model.a - 1) > UNIT_MARGIN else 1 + UNIT_MARGIN
    shape, rate = model.r + model.regularity * history.repeats, model.regularity * (model.alpha + history.age)
    z, c = horizon_days / (rate + horizon_days), a + model.b + _trials(model, history) - 1
    with np.errstate(over="ignore", invalid="ignore"):  # Euler's form is finite for many purchases, the other for few
        left = (1 - z) ** (a - 1) * hyp2f1(c - shape, a - 1, c, z)
        left = np.where(np.isfinite(left), left, (1 - z) ** shape * hyp2f1(shape, c + 1 - a, c, z))
    return np.maximum(c / (a - 1) * (1 - left), 0.0) * alive(model, history)


def _still_there(model: BuyingModel, trials: np.ndarray, purchases: np.ndarray) -> np.ndarray:
    """Return the chance that a customer who is there stays through more purchases, customers x purchases."""
    at = model.b + trials[:, None]
    return np.exp(betaln(model.a, at + purchases) - betaln(model.a, at))


def _trials(model: BuyingModel, history: PurchaseHistory) -> np.ndarray:
    """Count the purchases after which a customer might have stopped, and did not."""
    return history.repeats + (1 if model.stops_at_once else 0)


def _log_ways(model: BuyingModel, history: PurchaseHistory) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of the two ways of falling silent: stopped after the last purchase, or still in a gap."""
    shape, n = model.r + model.regularity * history.repeats, _trials(model, history)
    stopped = np.log(model.a / (model.b + np.maximum(n, 1) - 1)) - shape * np.log(model.alpha + history.last)
    return np.where(n > 0, stopped, -np.inf), logsumexp(_log_stages(model, history), axis=0)


def _log_stages(model: BuyingModel, history: PurchaseHistory) -> np.ndarray:
    """Return the logarithm of the likelihood of each stage of the current gap, stages x customers."""
    shape, silent = model.r + model.regularity * history.repeats, history.age - history.last
    stages = []
    for j in range(model.regularity):
        rate = gammaln(shape + j) - gammaln(shape) - (shape + j) * np.log(model.alpha + history.age)
        waited = 0.0 if j == 0 else j * np.log(np.maximum(silent, 1e-300)) - gammaln(j + 1)
        stages.append(rate + waited)
    return np.array(stages)


def _stages(model: BuyingModel, history: PurchaseHistory) -> np.ndarray:
    """Return the chance of each stage of the current gap, customers x stages."""
    logs = _log_stages(model, history)
    return np.exp(logs - logsumexp(logs, axis=0)).T


def _log_likelihood(model: BuyingModel, history: PurchaseHistory) -> tuple[float, np.ndarray]:
    """Return the mean log-likelihood a customer, and its gradient by r, alpha, a and b."""
    r, alpha, a, b, k = model.r, model.alpha, model.a, model.b, model.regularity
    shape, n = r + k * history.repeats, _trials(model, history)
    stopped, _ = _log_ways(model, history)
    stages = _log_stages(model, history)
    both = np.logaddexp(stopped, logsumexp(stages, axis=0))
    value = gammaln(shape) - gammaln(r) + r * np.log(alpha) + betaln(a, b + n) - betaln(a, b) + both
    value = value + (k - 1) * history.log_gaps - history.repeats * gammaln(k)
    gone, here = np.exp(stopped - both), np.exp(stages - both)
    j = np.arange(k)[:, None]
    by_r = digamma(shape) - digamma(r) + np.log(alpha) - gone * np.log(alpha + history.last)
    by_r = by_r + (here * (digamma(shape + j) - digamma(shape) - np.log(alpha + history.age))).sum(axis=0)
    by_alpha = r / alpha - gone * shape / (alpha + history.last)
    by_alpha = by_alpha - (here * (shape + j)).sum(axis=0) / (alpha + history.age)
    by_a = digamma(a + b) - digamma(a + b + n) + gone / a
    by_b = digamma(b + n) - digamma(a + b + n) - digamma(b) + digamma(a + b) - gone / (b + np.maximum(n, 1) - 1)
    return float(value.mean()), np.array([each.mean() for each in (by_r, by_alpha, by_a, by_b)])
