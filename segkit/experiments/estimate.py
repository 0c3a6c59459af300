"""Estimate the effect of a campaign: KPIs, lift with intervals, verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import stats

from segkit.customers.days import Days
from segkit.customers.features import customer_outcomes
from segkit.errors import InputError
from segkit.period import Period
from segkit.stats import least_squares, usable_covariates


@dataclass(frozen=True)
class Kpi:
    """A figure of a customer in a window: `words` for people, `unit`, and the column of the totals it is read from."""

    name: str
    words: str
    unit: str
    column: str


KPIS = {
    "spend": Kpi("spend", "spend per customer, net of returns", "money", "spend"),
    "orders": Kpi("orders", "orders per customer", "orders", "orders"),
    "active": Kpi("active", "share of customers who came", "share", "active_days"),
}
COVARIATES = ("pre", "recent", "steady")


def main_kpi(days: Days) -> str:
    """Spend where the events carry money, else whether they came."""
    return "spend" if "amount" in days.rows.columns else "active"


def kpi_values(days: Days, *, kpi: str, start: date, window_days: int, index: pd.Index) -> pd.Series:
    """A KPI of each customer over `window_days` local days from `start` on.

    Gives  numbers by customer_id, in the order of the index; who did nothing has zero

    Raises
    ------
    InputError : an unknown KPI, or one that these events do not carry
    """
    totals = customer_outcomes(_without_categories(days), start=start, horizon_days=window_days, index=index).totals
    return _read_kpi(totals, kpi=kpi)


def covariates(days: Days, *, kpi: str, period: Period, index: pd.Index) -> pd.DataFrame:
    """What is known of each customer before `as_of` and foretells the KPI.

    Gives  by customer_id: pre (the KPI over the lookback), recent (over the last horizon), steady (log of 1 + active
           days)

    Raises
    ------
    InputError : as kpi_values
    """
    start, length = period.lookback_start, period.lookback_days
    recent_days = min(period.horizon_days, length)
    recent_start = period.as_of - timedelta(days=recent_days)
    recent = kpi_values(days, kpi=kpi, start=recent_start, window_days=recent_days, index=index)
    totals = customer_outcomes(_without_categories(days), start=start, horizon_days=length, index=index).totals
    pre = _read_kpi(totals, kpi=kpi)
    return pd.DataFrame({"pre": pre, "recent": recent, "steady": np.log1p(totals["active_days"])}, index=index)


def first_active_day(days: Days, *, before: date) -> date:
    """The first day with something in it, before a date.

    Raises
    ------
    InputError : there is none
    """
    found = days.rows.filter(days.rows.day < ibis.literal(before)).aggregate(first=days.rows.day.min()).to_pandas()
    if found["first"].isna().all():
        raise InputError(f"days: nothing was recorded before {before}. Give a later --as-of or --start.")
    return pd.Timestamp(found["first"].iloc[0]).date()


def _without_categories(days: Days) -> Days:
    """Days without what was bought: totals need none of it."""
    return Days(rows=days.rows, categories=None)


def _read_kpi(totals: pd.DataFrame, *, kpi: str) -> pd.Series:
    if kpi not in KPIS:
        raise InputError(f"--kpi {kpi}: there is no such KPI. There are {', '.join(KPIS)}.")
    column = KPIS[kpi].column
    if column not in totals:
        raise InputError(f"--kpi {kpi}: the events carry no amount, so there is no spend. Use --kpi orders or active.")
    values = totals[column]
    return ((values > 0).astype(float) if kpi == "active" else values).rename(kpi)


ALPHA = 0.05


@dataclass(frozen=True)
class Lift:
    """A difference per customer, treated less control: its standard error, degrees of freedom and interval, the
    means (adjusted) it lies between, and the share of the spread that the past explained.
    """

    segment: str
    treated: int
    control: int
    treated_mean: float
    control_mean: float
    lift: float
    se: float
    df: float
    explained: float
    low: float = np.nan
    high: float = np.nan


def estimate_lift(
    values: np.ndarray, *, treated: np.ndarray, covariate_values: np.ndarray, segment: str = "all"
) -> Lift:
    """The lift in one group of customers, without its interval yet.

    Takes  values: the outcome of each customer; treated: flags; past: customers x columns known before the treatment
    Gives  Lift by least squares of the outcome on treatment and past, with the heteroscedastic HC3 variance (MacKinnon
           & White 1985) and Satterthwaite's degrees of freedom; one that is not known where nothing varies
    """
    values, treated = np.asarray(values, dtype=float), np.asarray(treated, dtype=bool)
    used = _prepare_covariates(covariate_values, rows=len(values))
    fit = least_squares(values, treated.astype(float), used)
    spread, left_out = fit.robust()
    counts = (int(treated.sum()), int((~treated).sum()))
    parts = [
        np.mean(left_out[arm] ** 2) / n if n else np.nan for arm, n in zip((treated, ~treated), counts, strict=True)
    ]
    explained = _explained(values, fit.residuals, treated=treated)
    se = max(float(np.sqrt(spread[1, 1])), _min_standard_error(values, treated=treated, explained=explained))
    middle, added = values.mean() - fit.slopes[1] * treated.mean(), float(fit.slopes[1])
    return Lift(
        segment=segment,
        treated=counts[0],
        control=counts[1],
        treated_mean=float(middle + added),
        control_mean=float(middle),
        lift=added,
        se=se if se > 0 else np.nan,
        df=_satterthwaite(parts, counts=counts, columns=used.shape[1]),
        explained=explained,
    )


def estimate_lifts(units: pd.DataFrame, values: pd.Series, *, columns: Iterable[str]) -> list[Lift]:
    """The lift of each segment, and of all together where there are several, with simultaneous 95 % intervals.

    Takes  units: indexed by customer_id; segment, arm (treatment or control) and the columns of the past; values: the
           outcome by customer_id
    Gives  Lifts by segment, "all" last; the intervals hold together in 95 of 100 pilots (Bonferroni; Dunn 1961)
    """
    outcome = values.reindex(units.index).to_numpy(dtype=float)
    treated = (units["arm"] == "treatment").to_numpy()
    covariate_values = units[list(columns)].to_numpy(dtype=float)
    found = []
    for segment in sorted(units["segment"].unique()):
        mine = (units["segment"] == segment).to_numpy()
        found.append(
            estimate_lift(
                outcome[mine], treated=treated[mine], covariate_values=covariate_values[mine], segment=segment
            )
        )
    if len(found) > 1:
        found.append(_pool_lifts(found))
    return with_simultaneous_intervals(found)


def with_simultaneous_intervals(lifts: list[Lift], *, alpha: float = ALPHA) -> list[Lift]:
    """The same lifts with intervals that hold all at once: each at 1 - alpha over their number (Dunn 1961).

    Parameters
    ----------
    alpha : chance that any of the intervals misses; smaller widens them
    """
    each = alpha / max(len(lifts), 1)
    return [
        replace(one, low=one.lift - half, high=one.lift + half)
        for one in lifts
        for half in [stats.t.ppf(1 - each / 2, one.df) * one.se]
    ]


def _pool_lifts(lifts: list[Lift]) -> Lift:
    """All segments as one: each weighs as its customers, so that a different share of treated bends nothing."""
    sizes = np.array([one.treated + one.control for one in lifts], dtype=float)
    weights = sizes / sizes.sum()
    variances = (weights * [one.se for one in lifts]) ** 2
    total = float(np.sum(variances))
    df = total**2 / float(np.sum(variances**2 / [one.df for one in lifts])) if total > 0 else np.nan
    return Lift(
        segment="all",
        treated=sum(one.treated for one in lifts),
        control=sum(one.control for one in lifts),
        treated_mean=float(np.sum(weights * [one.treated_mean for one in lifts])),
        control_mean=float(np.sum(weights * [one.control_mean for one in lifts])),
        lift=float(np.sum(weights * [one.lift for one in lifts])),
        se=float(np.sqrt(total)),
        df=df,
        explained=float(np.sum(weights * [one.explained for one in lifts])),
    )


def _prepare_covariates(covariate_values: np.ndarray, *, rows: int) -> np.ndarray:
    """The columns of the past that vary, centred and scaled; fewer where there are few customers."""
    varying = usable_covariates(np.asarray(covariate_values, dtype=float).reshape(rows, -1))
    return (varying - varying.mean(axis=0)) / varying.std(axis=0) if varying.shape[1] else varying


def _explained(values: np.ndarray, residuals: np.ndarray, *, treated: np.ndarray) -> float:
    """Share of the spread within treated and control that the past took away."""
    means = np.where(treated, values[treated].mean() if treated.any() else 0, values[~treated].mean())
    total = np.sum((values - means) ** 2)
    return float(np.clip(1 - np.sum(residuals**2) / total, 0, 1)) if total > 0 else 0.0


def _min_standard_error(values: np.ndarray, *, treated: np.ndarray, explained: float) -> float:
    """A floor for shares: a group in which all came is not known without error (Agresti & Caffo 2000)."""
    if not np.isin(values, (0.0, 1.0)).all() or not values.any():
        return 0.0
    total = 0.0
    for arm in (treated, ~treated):
        share = (values[arm].sum() + 1) / (arm.sum() + 2)
        total += share * (1 - share) / (arm.sum() + 2)
    return float(np.sqrt(total * (1 - explained)))


def _satterthwaite(parts: list[float], *, counts: tuple[int, int], columns: int) -> float:
    """Degrees of freedom of two groups of unlike spread (Satterthwaite 1946), less one for each column of the past."""
    below = sum(part**2 / max(n - 1, 1) for part, n in zip(parts, counts, strict=True))
    return max(sum(parts) ** 2 / below - columns, 1.0) if below > 0 else float(max(sum(counts) - 2 - columns, 1))


RETURN_COLUMNS = (
    "contact",
    "contact_low",
    "contact_high",
    "total",
    "total_low",
    "total_high",
    "roi",
    "roi_low",
    "roi_high",
)


@dataclass(frozen=True)
class Price:
    """What a contact costs and what one unit of the KPI earns (for spend a share of it); None: not known."""

    contact_cost: float | None = None
    margin: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether a return can be stated."""
        return self.contact_cost is not None and self.margin is not None

    @property
    def break_even(self) -> float | None:
        """The lift per customer that pays for the contact."""
        return self.contact_cost / self.margin if self.is_complete else None


def price_of(contact_cost: float | None, margin: float | None, *, kpi: str) -> Price:
    """A price that makes sense.

    Raises
    ------
    InputError : a negative or endless cost; a margin that is not positive, or above one where it is a share of spend
    """
    if contact_cost is not None and not (np.isfinite(contact_cost) and contact_cost >= 0):
        raise InputError(f"--contact-cost {contact_cost}: a contact costs nothing or more. Give money per contact.")
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise InputError(f"--margin {margin}: what a unit earns is above zero. Give a share of spend, such as 0.25.")
    if margin is not None and kpi == "spend" and margin > 1:
        raise InputError(f"--margin {margin}: of spend it is a share, 0-1. For 25 % give 0.25.")
    return Price(contact_cost=contact_cost, margin=margin)


def verdict_of(lift: Lift, *, price: Price) -> tuple[str, str]:
    """What to do in one segment, and why in a sentence.

    >>> verdict_of(Lift("S01", 90, 90, 12, 10, 2, 0.5, 178, 0.3, low=1, high=3), price=Price(0.1, 0.25))
    ('scale', 'in every case within the interval a contact earns more than it costs')
    >>> verdict_of(Lift("S01", 90, 90, 12, 10, 2, 0.5, 178, 0.3, low=-1, high=3), price=Price(0.1, 0.25))[0]
    'cannot tell'
    """
    if not np.isfinite([lift.low, lift.high]).all():
        return "cannot tell", "nothing varied, so chance cannot be told from effect"
    if price.is_complete:
        low, high = (price.margin * bound - price.contact_cost for bound in (lift.low, lift.high))
        if low > 0:
            return "scale", "in every case within the interval a contact earns more than it costs"
        if high < 0:
            return "stop", "in every case within the interval a contact costs more than it earns"
        if lift.low > 0:
            return "go on", "contact works, and whether it pays is not settled: a larger pilot will say"
    elif lift.high < 0:
        return "stop", "contact lowers the figure"
    elif lift.low > 0:
        return "go on", "contact works; give its cost and the margin, and the return can be stated"
    return "cannot tell", "the interval holds both a gain and a loss"


def returns_of(lifts: list[Lift], *, price: Price) -> pd.DataFrame:
    """What contact brought after its cost, per contact, in all and per unit of money spent, with simultaneous
    intervals.

    Gives  a row for each lift: segment, and COLUMNS (null where cost or margin is not known; roi where contact is free)
    """
    rows = []
    for one in lifts:
        if price.is_complete:
            contact = [price.margin * value - price.contact_cost for value in (one.lift, one.low, one.high)]
            total = [value * one.treated for value in contact]
            roi = [value / price.contact_cost if price.contact_cost > 0 else np.nan for value in contact]
        else:
            contact, total, roi = [np.nan] * 3, [np.nan] * 3, [np.nan] * 3
        rows.append((one.segment, *contact, *total, *roi))
    return pd.DataFrame(rows, columns=["segment", *RETURN_COLUMNS])
