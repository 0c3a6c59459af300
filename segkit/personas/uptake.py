"""Estimate what customers who took something up did next, compared with like customers who did not.

Three spans: before a past date, the horizon after it, in which some take something up, and the horizon after that.
The totals of the last are the outcome, so that the uptake itself is not part of it. Customers choose for themselves
what they take up: an effect is an upper bound of what an offer brings, and only a pilot shows that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from segkit.customers.anticipation import CLIP, are_skewed, unskewed
from segkit.customers.bought import Bought
from segkit.customers.features import CustomerData, Customers, Outcomes, customer_outcomes
from segkit.customers.needs import Needs, need_amounts
from segkit.segments.fit import TrainingWindow
from segkit.segments.model import SegmentModel, assign_segments
from segkit.stats import Z95, LeastSquares, least_squares, ridge, usable_covariates
from segkit.vocabulary import is_in_space

CROSS_NEED, GROW_BASKET, MORE_OFTEN = "cross_need", "grow_basket", "more_often"
LIGHT_USE = (
    1 / 3
)  # quantile of the amounts of a need's buyers at a level of value, below which a customer buys little of it
AMOUNT_DIGITS = 6  # of amounts that are compared with a limit: sums in another order are the same
MIN_GROWTH = 2.0  # times what was bought of a need before, from which on it is taken up
MORE_NEEDS = 2  # needs bought for the first time, from which on a basket is wider
MORE_VISITS = 1.25  # times the active days of before, and one more
BEGUN = 0.5  # of the uptake window, on average, lies after the uptake: so much of an effect already shows in its total
MIN_EACH = 10  # customers who took it up, and who did not, below which there is no estimate
LARGEST_OUTCOME = 0.98  # quantile at which outcomes are cut: one large order is no effect
LEAST_SPREAD = (
    0.02,
    0.01,
)  # of effects between targets and between their segments, as shares of spend: never quite none
OUTCOMES = ("spend", "orders", "active_days")  # the first that a source carries is what is to be won


@dataclass(frozen=True)
class Cohort:
    """Hold customers at a past date, what they did in the two horizons after it, and where they stood.

    Parameters
    ----------
    window, later
        Outcomes of the first horizon, in which some take something up, and of the second.
    segment, level
        Segment, and level of value, of each customer at the date.
    rate
        Horizon over lookback.
    unit
        The outcome: spend, orders or active_days.
    """

    customers: CustomerData
    window: Outcomes
    later: Outcomes
    segment: np.ndarray
    level: np.ndarray
    rate: float
    unit: str

    def amounts(self, needs: Needs) -> np.ndarray:
        """Return what each customer had bought of each need, a horizon's worth (customers x needs)."""
        return horizon_amounts(needs, self.customers.things, rate=self.rate)

    def before(self, name: str) -> np.ndarray:
        """Return a count or amount of the lookback, a horizon's worth of it."""
        return self.customers.features[name].to_numpy(dtype=float) * self.rate


def horizon_amounts(needs: Needs, bought: Bought, *, rate: float) -> np.ndarray:
    """Return what each customer bought of each need, times `rate`, as exact as it takes to compare it with a limit."""
    return np.round(need_amounts(needs, bought) * rate, AMOUNT_DIGITS)


def outcome_of(totals: pd.DataFrame) -> str:
    """Name the first of spend, orders and active days that totals of a horizon carry."""
    return next((name for name in OUTCOMES if name in totals and totals[name].any()), OUTCOMES[-1])


def make_cohort(
    customers: Customers, window: TrainingWindow | None, *, model: SegmentModel, horizons: int, unit: str
) -> Cohort | None:
    """Build the cohort of customers some horizons ago; None where history is too short.

    Parameters
    ----------
    customers
        Today's customers.
    window
        The training window of the date.
    model
        Today's segments.
    horizons
        How many horizons ago, at least two.
    unit
        The outcome, as in ``Cohort``.
    """
    if window is None:
        return None
    period = customers.period
    for _ in range(horizons - 1):
        period = period.one_horizon_back()
    then = window.customers_like(customers.data)
    later = customer_outcomes(
        customers.days.without_things(),
        start=period.as_of,
        horizon_days=period.horizon_days,
        index=then.features.index,
    )
    placed = assign_segments(model, then)
    where = [placed[column].to_numpy() for column in ("segment", "macro_segment")]
    rate = period.horizon_days / period.lookback_days
    return Cohort(then, window.outcomes, later, *where, rate=rate, unit=unit)


@dataclass(frozen=True)
class _Uptake:
    """Hold something that customers can take up: who had not, and who of them did.

    Parameters
    ----------
    type, need
        Type of the action, and the need it is about, or "".
    open
        Customers who could take it up, and who did (``taken``).
    """

    type: str
    need: str
    open: np.ndarray
    taken: np.ndarray


def light_use(amounts: np.ndarray, level: np.ndarray) -> dict[str, np.ndarray]:
    """Return by level of value the amount of each need below which a customer buys little of it.

    `amounts`: customers x needs, a horizon's worth. Zero where nobody of the level buys the need.
    """
    found = {}
    for name in sorted(set(level)):
        own = amounts[level == name]
        buyers = [column[column > 0] for column in own.T]
        found[name] = np.array([_nice(np.quantile(b, LIGHT_USE)) if len(b) else 0.0 for b in buyers])
    return found


def _nice(value: float) -> float:
    """Round an amount to one or two digits: 1, 1.5, 2, 3, 4, 5, 6, 8, 10 and so on."""
    if value <= 0:
        return 0.0
    size = 10.0 ** np.floor(np.log10(value))
    steps = np.array([1, 1.5, 2, 3, 4, 5, 6, 8, 10])
    return float(steps[np.argmin(np.abs(np.log(steps * size / value)))] * size)


def thresholds(limits: dict[str, np.ndarray], level: np.ndarray) -> np.ndarray:
    """Return the limit of each customer's level (customers x needs); without one, nothing is open to them."""
    needs = len(next(iter(limits.values())))
    number, names = pd.factorize(level)
    return np.array([limits.get(name, np.zeros(needs)) for name in names]).reshape(-1, needs)[number]


def open_to(
    customers: CustomerData,
    amounts: np.ndarray | None,
    *,
    limit: np.ndarray | None,
    needs: Needs | None,
) -> dict[tuple[str, str], np.ndarray]:
    """Return who could take something up: each need, a wider basket, more visits.

    Parameters
    ----------
    customers
        At any date.
    amounts, limit
        What each bought of each need, and below what that is little (customers x needs); None without needs.

    Returns
    -------
    dict
        A mask of customers by type and need; the need is "" where none is meant.
    """
    found = {(MORE_OFTEN, ""): (customers.features["active_days"] > 1).to_numpy()}
    if amounts is None or limit is None or needs is None:
        return found
    light = amounts < limit
    found[GROW_BASKET, ""] = light.sum(axis=1) >= MORE_NEEDS
    return found | {(CROSS_NEED, need): light[:, i] for i, need in enumerate(needs.ids)}


def _uptakes(cohort: Cohort, needs: Needs | None, *, limits: dict[str, np.ndarray]) -> Iterator[_Uptake]:
    """Yield what customers of a cohort could take up."""
    visits, days = cohort.before("active_days"), cohort.window.totals["active_days"].to_numpy()
    then = now = limit = None
    taken = {(MORE_OFTEN, ""): days >= np.maximum(MORE_VISITS * visits, visits + 1)}
    if needs is not None and cohort.customers.things[0] is not None:
        then, limit = cohort.amounts(needs), thresholds(limits, cohort.level)
        now = need_amounts(needs, cohort.window.things)
        new = (now >= np.maximum(limit, MIN_GROWTH * then)) & (then < limit)
        taken[GROW_BASKET, ""] = new.sum(axis=1) >= MORE_NEEDS
        taken |= {(CROSS_NEED, need): new[:, i] for i, need in enumerate(needs.ids)}
    for key, can in open_to(cohort.customers, then, limit=limit, needs=needs).items():
        yield _Uptake(*key, can, taken[key])


def estimate_uptakes(cohort: Cohort, needs: Needs | None, *, limits: dict[str, np.ndarray]) -> pd.DataFrame:
    """Estimate for each segment and each thing to take up what it went with in the horizon after.

    Returns
    -------
    DataFrame
        type, need, segment, open (customers), taken (of them), typical (mean outcome of the open ones), effect and se
        (per customer who took it up, in the unit of the outcome).
    """
    with threadpool_limits(1):  # many small fits: threads take longer, and give other bytes
        rows = _estimate_each(cohort, needs, limits=limits)
    return pd.DataFrame(rows, columns=["type", "need", "segment", "open", "taken", "typical", "effect", "se"])


def _estimate_each(
    cohort: Cohort, needs: Needs | None, *, limits: dict[str, np.ndarray]
) -> list[tuple[str, str, str, int, int, float, float, float]]:
    later = np.maximum(cohort.later.totals[cohort.unit].to_numpy(dtype=float), 0.0)
    covariates, rows = _covariates(cohort, later), []
    repeats = np.clip(least_squares(later, covariates).slopes[1], 0.0, 1.0)  # of the window's total, in the next one
    seen = 1.0 - BEGUN * repeats  # share of an effect that is left when the total of the window is the same
    for uptake in _uptakes(cohort, needs, limits=limits):
        for segment in sorted(set(cohort.segment)):
            own = (cohort.segment == segment) & uptake.open
            taken = uptake.taken[own]
            if min(taken.sum(), (~taken).sum()) < MIN_EACH:
                continue
            at = effect_of_uptake(later[own], taken, covariates[own])
            at = [value / seen for value in at]
            rows.append((uptake.type, uptake.need, segment, len(taken), int(taken.sum()), later[own].mean(), *at))
    return rows


def _covariates(cohort: Cohort, later: np.ndarray) -> np.ndarray:
    """Return what else predicts the outcome, the most telling first.

    The total of the uptake window, a prognostic score (Hansen 2008): the outcome as a ridge regression expects it from
    all features before the date, the visits of the window, and a horizon's worth of the lookback.
    """
    features, unit, window = cohort.customers.features, cohort.unit, cohort.window.totals
    names = [name for name in features if is_in_space(name)]
    columns = unskewed(features[names].to_numpy(dtype=float), skewed=are_skewed(names))
    spread = columns.std(axis=0)
    design = np.clip((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0), -CLIP, CLIP)
    slopes, constant = ridge(design, np.sqrt(later)[:, None])
    expected = np.square(np.maximum(design @ slopes[:, 0] + constant[0], 0.0))
    seen = [window[name].to_numpy(dtype=float) for name in (unit, "active_days")]
    return np.column_stack([np.maximum(seen[0], 0.0), expected, seen[1], cohort.before(unit)])


def effect_of_uptake(later: np.ndarray, taken: np.ndarray, covariates: np.ndarray) -> tuple[float, float]:
    """Estimate the difference of an outcome between customers who took something up and like ones who did not.

    Overlap weights (Li, Morgan & Zaslavsky 2018) make both alike in what is known of them, and least squares removes
    what is left; the standard error is robust (HC3).

    Parameters
    ----------
    later
        The outcome of each customer.
    taken
        Whether they took it up.
    covariates
        Customers x columns: what predicts the outcome, the most telling first; of few customers only the first count.

    Returns
    -------
    tuple
        Effect per customer, and its standard error.
    """
    columns = usable_covariates(covariates)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0) if columns.shape[1] else columns
    chance = np.full(len(taken), taken.mean())
    if columns.shape[1]:
        chance = fit_chances(columns, taken)
    weight = np.sqrt(np.where(taken, 1.0 - chance, chance))[:, None]
    outcome = np.minimum(later, np.quantile(later, LARGEST_OUTCOME)) * weight[:, 0]
    design = np.column_stack([np.ones(len(taken)), taken.astype(float), columns]) * weight
    slopes, *_ = np.linalg.lstsq(design, outcome, rcond=None)
    fit = LeastSquares(design, slopes=slopes, residuals=outcome - design @ slopes)
    moved, left_out = fit.leave_one_out(row=1)
    return float(slopes[1]), float(np.sqrt(np.square(moved * left_out).sum()))


def fit_chances(columns: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """Return the chance of each customer by a logistic regression on a few standardised columns."""
    fit = LogisticRegression(C=1.0, solver="newton-cholesky").fit(columns, happened)
    return fit.predict_proba(columns)[:, 1]


def shrink(found: pd.DataFrame, *, repeated: Sequence[pd.DataFrame] = ()) -> pd.DataFrame:
    """Shrink effects towards none, so that of many estimates the noisiest does not win (empirical Bayes).

    Effects are shares of the typical outcome. Those of one target (type and need) vary between segments around its
    mean, and the means of targets around zero. Both spreads are estimated from all effects (DerSimonian & Laird 1986),
    and are no larger than what repeats in two cohorts.

    Parameters
    ----------
    found
        Of ``estimate_uptakes``.
    repeated
        The same of two cohorts that do not share an outcome.

    Returns
    -------
    DataFrame
        The same rows with effect, effect_low and effect_high (95 %) after shrinkage, and chance, the probability that
        the effect is above zero.
    """
    table = found[(found["typical"] > 0) & (found["se"] > 0)].reset_index(drop=True)
    if table.empty:
        return table.assign(effect_low=np.nan, effect_high=np.nan, chance=np.nan)
    share, se = (table["effect"] / table["typical"]).to_numpy(), (table["se"] / table["typical"]).to_numpy()
    most = _repeated_spreads(repeated) if len(repeated) == 2 else (np.inf, np.inf)
    target = table.groupby(["type", "need"], sort=True).ngroup().to_numpy()
    mean, _ = _target_means(share, se, target)
    within = min(_spread_beyond(share - mean[target], se, lost=len(mean)), most[1])
    mean, error = _target_means(share, np.hypot(se, max(within, LEAST_SPREAD[1])), target)
    between = min(_spread_beyond(mean, error, lost=0), most[0])
    between, within = np.maximum([between, within], LEAST_SPREAD)
    kept = between**2 / (between**2 + error**2)
    middle, variance = (kept * mean)[target], (kept * error**2)[target]
    own = within**2 / (within**2 + se**2)
    after = middle + own * (share - middle)
    spread = np.sqrt(own * se**2 + (1 - own) ** 2 * variance)
    typical = table["typical"].to_numpy()
    ends = {f"effect_{end}": (after + sign * Z95 * spread) * typical for end, sign in (("low", -1), ("high", 1))}
    return table.assign(effect=after * typical, **ends, chance=ndtr(after / spread))


def _target_means(share: np.ndarray, se: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of each target's effects, and its standard error."""
    weights = np.bincount(target, 1 / se**2)
    return np.bincount(target, share / se**2) / weights, np.sqrt(1 / weights)


def _repeated_spreads(cohorts: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Return the spread of effects between targets, and between their segments, that two cohorts have in common.

    Errors of two cohorts are independent, so the mean product of their effects is the variance of what is real.
    """
    keys = ["type", "need", "segment"]
    both = cohorts[0].merge(cohorts[1], on=keys, suffixes=("_0", "_1"))
    both = both[(both[["typical_0", "typical_1", "se_0", "se_1"]] > 0).all(axis=1)]
    if both.empty:
        return 0.0, 0.0
    target = both.groupby(["type", "need"], sort=True).ngroup().to_numpy()
    shares = [(both[f"effect_{i}"] / both[f"typical_{i}"]).to_numpy() for i in (0, 1)]
    errors = [(both[f"se_{i}"] / both[f"typical_{i}"]).to_numpy() for i in (0, 1)]
    means = [_target_means(s, e, target) for s, e in zip(shares, errors, strict=True)]
    left = [share - mean[target] for share, (mean, _) in zip(shares, means, strict=True)]
    between = np.average(means[0][0] * means[1][0], weights=1 / (means[0][1] * means[1][1]) ** 2)
    within = np.average(left[0] * left[1], weights=1 / (errors[0] * errors[1]) ** 2)
    return float(np.sqrt(max(between, 0.0))), float(np.sqrt(max(within, 0.0)))


def _spread_beyond(values: np.ndarray, se: np.ndarray, *, lost: int) -> float:
    """Return the standard deviation of effects beyond their standard errors, by the method of moments."""
    weight = 1 / se**2
    excess = (weight * values**2).sum() - (len(values) - lost)
    scale = weight.sum() - (weight**2).sum() / weight.sum() * (lost > 0)
    return float(np.sqrt(max(excess, 0.0) / max(scale, 1e-12)))
