"""Estimate the effect of a campaign: KPIs, lift with intervals, returns and verdicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import stats

from segkit.customers.days import Days
from segkit.errors import InputError
from segkit.period import Period
from segkit.stats import least_squares, usable_covariates


@dataclass(frozen=True)
class Kpi:
    """A KPI of a customer in a window: its label for people, unit, and the column of the totals it is read from."""

    name: str
    label: str
    unit: str
    column: str


KPIS = {
    "spend": Kpi("spend", "spend per customer", "money", "spend"),
    "orders": Kpi("orders", "orders per customer", "orders", "orders"),
    "active": Kpi("active", "share of active customers", "share", "active_days"),
}
LEADING_KPIS = {  # names of these KPIs in tables and on pages
    "active": "active rate",
    "orders": "orders per customer",
    "spend": "spend per customer",
}
COVARIATES = ("pre", "recent", "steady")


def main_kpi(days: Days) -> str:
    """Choose spend if the events carry money, else the share of active customers."""
    return "spend" if "amount" in days.rows.columns else "active"


def kpi_values(days: Days, *, kpi: str, start: date, window_days: int, index: pd.Index) -> pd.Series:
    """Compute a KPI of each customer over `window_days` local days from `start` on.

    Returns one number per customer, in the order of the index; zero for customers without activity. Raises
    `InputError`: the KPI is unknown, or the events do not carry it.
    """
    return kpi_spans(days, [(start, window_days)], kpi=kpi, index=index)[0]["kpi"].rename(kpi)


def kpi_spans(days: Days, spans: Sequence[tuple[date, int]], *, kpi: str, index: pd.Index) -> list[pd.DataFrame]:
    """Compute a KPI of each customer over several spans, and their active days, in one pass over the days.

    Parameters
    ----------
    spans
        First day, and number of local days.
    kpi, index
        As in `kpi_values`.

    Returns
    -------
    list of DataFrame
        By customer, for each span: ``kpi`` and ``active_days``.

    Raises
    ------
    InputError
        As in `kpi_values`.
    """
    if kpi not in KPIS:
        raise InputError(f"--kpi {kpi}: there is no such KPI. There are {', '.join(KPIS)}.")
    if kpi == "spend" and "amount" not in days.rows.columns:
        raise InputError(f"--kpi {kpi}: the events carry no amount, so there is no spend. Use --kpi orders or active.")
    column = KPIS[kpi].column
    tables = span_totals(days, spans, names=sorted({column, "active_days"}), index=index)
    values = [(one[column] > 0).astype(float) if kpi == "active" else one[column] for one in tables]
    return [one[["active_days"]].assign(kpi=value) for one, value in zip(tables, values, strict=True)]


def span_totals(
    days: Days, spans: Sequence[tuple[date, int]], *, names: Sequence[str], index: pd.Index
) -> list[pd.DataFrame]:
    """Sum what each customer did in several spans, in one pass over the days.

    Parameters
    ----------
    spans
        First day, and number of local days.
    names
        Some of spend, orders and active_days, as in the totals of `customer_outcomes`.
    index
        The customers.

    Returns
    -------
    list of DataFrame
        By customer, for each span: the names; zero without activity.
    """
    ends = [start + timedelta(days=length) for start, length in spans]
    rows, counted = days.rows, {"active_days": (days.rows.own_events > 0).cast("int64"), "orders": days.rows.orders}
    if "spend" in names:
        counted["spend"] = rows.amount + rows.other_amount - rows.return_amount
    rows = rows.select("customer_id", "day", "until", **{name: counted[name] for name in names})
    rows = rows.filter((rows.day >= ibis.literal(min(spans)[0])) & (rows.day < ibis.literal(max(ends))))
    sums = {}
    for number, ((start, _length), end) in enumerate(zip(spans, ends, strict=True)):
        inside = (rows.day >= ibis.literal(start)) & (rows.day < ibis.literal(end)) & (rows.until < ibis.literal(end))
        sums |= {f"{name}_{number}": rows[name].sum(where=inside).cast("float64") for name in names}
    table = rows.group_by("customer_id").aggregate(**sums).to_pandas().set_index("customer_id")
    table = table.reindex(index).astype(float).fillna(0.0)
    return [table[[f"{name}_{n}" for name in names]].set_axis(list(names), axis=1) for n in range(len(spans))]


def covariates(days: Days, *, kpi: str, period: Period, index: pd.Index) -> pd.DataFrame:
    """Compute what is known of each customer before `as_of` and predicts the KPI.

    Returns
    -------
    DataFrame
        By ``customer_id``: ``pre`` (the KPI over the lookback), ``recent`` (over the last horizon), ``steady`` (log of
        1 + active days).

    Raises
    ------
    InputError
        As in `kpi_values`.
    """
    return known_before(*kpi_spans(days, covariate_spans(period), kpi=kpi, index=index))


def covariate_spans(period: Period) -> list[tuple[date, int]]:
    """Return the spans that covariates are computed over: the lookback, and the last horizon."""
    recent_days = min(period.horizon_days, period.lookback_days)
    return [(period.lookback_start, period.lookback_days), (period.as_of - timedelta(days=recent_days), recent_days)]


def known_before(lookback: pd.DataFrame, recent: pd.DataFrame) -> pd.DataFrame:
    """Return the covariates from what `kpi_spans` gives for the `covariate_spans`."""
    return pd.DataFrame({"pre": lookback["kpi"], "recent": recent["kpi"], "steady": np.log1p(lookback["active_days"])})


def first_active_day(days: Days, *, before: date) -> date:
    """Find the first recorded day before a date.

    Raises `InputError`: nothing was recorded before the date.
    """
    found = days.rows.filter(days.rows.day < ibis.literal(before)).aggregate(first=days.rows.day.min()).to_pandas()
    if found["first"].isna().all():
        raise InputError(f"days: nothing was recorded before {before}. Give a later --as-of or --start.")
    return pd.Timestamp(found["first"].iloc[0]).date()


ALPHA = 0.05
FEWEST_PER_PRODUCT = 50  # customers in the smaller arm per covariate, from which on its slope may differ by arm


@dataclass(frozen=True)
class Lift:
    """The difference per customer, treated less control, with its standard error, degrees of freedom and interval.

    The means are adjusted; `explained` is the share of the variation that the covariates explain, and `skew` the
    skewness of the estimate.
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
    skew: float = 0.0
    low: float = np.nan
    high: float = np.nan


def estimate_lift(
    values: np.ndarray, *, treated: np.ndarray, covariate_values: np.ndarray, segment: str = "all"
) -> Lift:
    """Estimate the lift in one group of customers, without its interval yet; see `lift_with_influence`."""
    return lift_with_influence(values, treated=treated, covariate_values=covariate_values, segment=segment)[0]


def lift_with_influence(
    values: np.ndarray,
    *,
    treated: np.ndarray,
    covariate_values: np.ndarray,
    segment: str = "all",
    cluster: np.ndarray | None = None,
) -> tuple[Lift, np.ndarray]:
    """Estimate the lift in one group of customers, and how much each of them moves it.

    Least squares of the outcome on treatment, centred covariates and, in groups that are large enough, their products
    (Lin 2013), with the heteroscedastic HC3 variance (MacKinnon & White 1985) and Satterthwaite's degrees of freedom.

    Parameters
    ----------
    covariate_values
        Customers x columns, known before the treatment.
    cluster
        Number from 0 of the household of each customer; None where each counts for one.

    Returns
    -------
    tuple
        The lift, without its interval and with a missing standard error where nothing varies; and its influence:
        a number for each customer or cluster, whose squares add up to the variance.
    """
    values, treated = np.asarray(values, dtype=float), np.asarray(treated, dtype=bool)
    used = _prepare_covariates(covariate_values, rows=len(values))
    counts = (int(treated.sum()), int((~treated).sum()))
    has_products = min(counts) >= FEWEST_PER_PRODUCT * used.shape[1]
    products = used * treated[:, None] if has_products else used[:, :0]
    fit = least_squares(values, treated.astype(float), used, products)
    weights, left_out = fit.leave_one_out(row=1)
    influence = weights * left_out
    if has_products:
        influence = influence + used @ fit.slopes[2 + used.shape[1] :] / len(values)
    if cluster is not None:
        influence = np.bincount(cluster, weights=influence)
    parts = [
        np.mean(left_out[arm] ** 2) / n if n else np.nan for arm, n in zip((treated, ~treated), counts, strict=True)
    ]
    explained = _explained(values, fit.residuals, treated=treated)
    spread = float(np.sqrt(np.square(influence).sum()))
    se = max(spread, _min_standard_error(values, treated=treated, explained=explained))
    added = float(fit.slopes[1])
    middle = float(fit.slopes[0] if has_products else values.mean() - added * treated.mean())
    found = Lift(
        segment=segment,
        treated=counts[0],
        control=counts[1],
        treated_mean=middle + added,
        control_mean=middle,
        lift=added,
        se=se if se > 0 else np.nan,
        df=_satterthwaite(parts, counts=counts, columns=used.shape[1]),
        explained=explained,
        skew=float(np.power(influence, 3).sum() / spread**3) if spread > 0 else 0.0,
    )
    return found, influence


def estimate_lifts(units: pd.DataFrame, values: pd.Series, *, columns: Iterable[str]) -> list[Lift]:
    """Estimate the lift of each segment, and of all together if there are several, with simultaneous 95 % intervals.

    Parameters
    ----------
    units
        By ``customer_id``: ``segment``, ``arm`` (control or another) and the covariates.
    values
        The outcome by ``customer_id``.

    Returns
    -------
    list of Lift
        By segment, "all" last; all intervals hold together in 95 of 100 pilots (Bonferroni; Dunn 1961).
    """
    outcome = values.reindex(units.index).to_numpy(dtype=float)
    treated = (units["arm"] != "control").to_numpy()
    covariate_values = units[list(columns)].to_numpy(dtype=float)
    lifts = []
    for segment in sorted(units["segment"].unique()):
        in_segment = (units["segment"] == segment).to_numpy()
        lifts.append(
            estimate_lift(
                outcome[in_segment],
                treated=treated[in_segment],
                covariate_values=covariate_values[in_segment],
                segment=segment,
            )
        )
    if len(lifts) > 1:
        lifts.append(_pool_lifts(lifts))
    return with_simultaneous_intervals(lifts)


def with_simultaneous_intervals(lifts: list[Lift], *, alpha: float = ALPHA) -> list[Lift]:
    """Add intervals that hold simultaneously: each at 1 - alpha over their number (Dunn 1961).

    `alpha`: chance that any of the intervals misses; smaller widens them.
    """
    return [with_interval(one, alpha=alpha / max(len(lifts), 1)) for one in lifts]


def with_interval(lift: Lift, *, alpha: float) -> Lift:
    """Add the interval at 1 - alpha: Student's, on each side at least as wide as the skewness of the estimate asks for.

    The skewness counts to the first order (Hall 1992); it is large for spend, where few customers make most of it.
    """
    quantile = stats.norm.isf(alpha / 2)
    shift = lift.skew / 6 * (2 * quantile**2 + 1)
    student = stats.t.isf(alpha / 2, lift.df)
    below, above = max(student, quantile - shift), max(student, quantile + shift)
    return replace(lift, low=lift.lift - below * lift.se, high=lift.lift + above * lift.se)


def _pool_lifts(lifts: list[Lift]) -> Lift:
    """Pool all segments, each weighted by its customers, so that unequal treated shares cause no bias."""
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
        skew=float(np.nansum([w**3 * one.skew * one.se**3 for w, one in zip(weights, lifts, strict=True)]))
        / max(total, 1e-300) ** 1.5,
    )


def _prepare_covariates(covariate_values: np.ndarray, *, rows: int) -> np.ndarray:
    """Centre and scale the covariates that vary; fewer if there are few customers."""
    varying = usable_covariates(np.asarray(covariate_values, dtype=float).reshape(rows, -1))
    return (varying - varying.mean(axis=0)) / varying.std(axis=0) if varying.shape[1] else varying


def _explained(values: np.ndarray, residuals: np.ndarray, *, treated: np.ndarray) -> float:
    """Compute the share of the variation within treated and control that the covariates explain."""
    means = np.where(treated, values[treated].mean() if treated.any() else 0, values[~treated].mean())
    total = np.sum((values - means) ** 2)
    return float(np.clip(1 - np.sum(residuals**2) / total, 0, 1)) if total > 0 else 0.0


def _min_standard_error(values: np.ndarray, *, treated: np.ndarray, explained: float) -> float:
    """Compute the least error of a share, which is not zero if all are active (Agresti & Caffo 2000)."""
    if not np.isin(values, (0.0, 1.0)).all() or not values.any():
        return 0.0
    total = 0.0
    for arm in (treated, ~treated):
        share = (values[arm].sum() + 1) / (arm.sum() + 2)
        total += share * (1 - share) / (arm.sum() + 2)
    return float(np.sqrt(total * (1 - explained)))


def _satterthwaite(parts: list[float], *, counts: tuple[int, int], columns: int) -> float:
    """Compute degrees of freedom for unequal variances (Satterthwaite 1946), less one per covariate."""
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
    """The cost of a contact and the margin of one unit of the KPI (for spend a share of it); None: not known."""

    contact_cost: float | None = None
    margin: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether a return can be computed."""
        return self.contact_cost is not None and self.margin is not None

    @property
    def break_even(self) -> float | None:
        """The lift per customer that pays for the contact."""
        return self.contact_cost / self.margin if self.is_complete else None


def price_of(contact_cost: float | None, margin: float | None, *, kpi: str) -> Price:
    """Check the cost of a contact and the margin, and combine them.

    Raises `InputError`: the cost is negative or infinite; the margin is not positive, or above 1 for spend.
    """
    if contact_cost is not None and not (np.isfinite(contact_cost) and contact_cost >= 0):
        raise InputError(f"--contact-cost {contact_cost}: below zero or not a number. Give the cost of one contact.")
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise InputError(
            f"--margin {margin}: not above zero. Give what one unit of the KPI earns; of spend a share, such as 0.25."
        )
    if margin is not None and kpi == "spend" and margin > 1:
        raise InputError(f"--margin {margin}: above 1, and of spend it is a share. For 25 % give 0.25.")
    return Price(contact_cost=contact_cost, margin=margin)


def verdict_of(lift: Lift, *, price: Price) -> tuple[str, str]:
    """Decide what to do in one segment, with the reason.

    >>> verdict_of(Lift("S01", 90, 90, 12, 10, 2, 0.5, 178, 0.3, low=1, high=3), price=Price(0.1, 0.25))
    ('scale', 'even at the low end of the range, a contact earns more than it costs')
    >>> verdict_of(Lift("S01", 90, 90, 12, 10, 2, 0.5, 178, 0.3, low=-1, high=3), price=Price(0.1, 0.25))[0]
    'cannot tell'
    """
    if not np.isfinite([lift.low, lift.high]).all():
        return "cannot tell", "no customer differed, so chance and effect cannot be separated"
    if price.is_complete:
        low, high = (price.margin * bound - price.contact_cost for bound in (lift.low, lift.high))
        if low > 0:
            return "scale", "even at the low end of the range, a contact earns more than it costs"
        if high < 0:
            return "stop", "even at the high end of the range, a contact costs more than it earns"
        if lift.low > 0:
            return "go on", "contact works, but it is open whether it pays"
    elif lift.high < 0:
        return "stop", "contact lowers the figure"
    elif lift.low > 0:
        return "go on", "contact works; to see whether it pays, give its cost and the margin"
    return "cannot tell", "the range includes both a gain and a loss"


def returns_of(lifts: list[Lift], *, price: Price) -> pd.DataFrame:
    """Compute the return after the cost of contact, with simultaneous intervals.

    Returns one row per lift: ``segment`` and `RETURN_COLUMNS`, per contact, in total and per unit of money spent; null
    if cost or margin is not known, ``roi`` also if contact is free.
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
