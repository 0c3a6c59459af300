"""Measure what the whole programme brought, against the customers who are held out of it."""

from dataclasses import replace
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from scipy import stats

from segkit.customers.days import Days
from segkit.data.holdout import Holdout
from segkit.experiments.design import POWER
from segkit.experiments.estimate import (
    ALPHA,
    COVARIATES,
    KPIS,
    Lift,
    covariates,
    estimate_lift,
    kpi_values,
    with_simultaneous_intervals,
)
from segkit.format import FLOOR
from segkit.period import Period
from segkit.stats import least_squares, usable_covariates
from segkit.vocabulary import EVERYONE

GAIN, LOSS, UNCLEAR, FEW, EARLY = "gain", "loss", "cannot tell", "too few", "too early"
PROGRAMME = (
    "window",
    "start",
    "end",
    "customers",
    "held_out",
    "kpi",
    "unit",
    "mean",
    "held_out_mean",
    "lift",
    "lift_low",
    "lift_high",
    "total",
    "total_low",
    "total_high",
    "smallest_effect",
    "verdict",
)


def measure_programme(
    days: Days, *, holdout: Holdout | None, kpi: str, period: Period, source_ids: pd.Series | None = None
) -> pd.DataFrame:
    """Compare the customers who may be contacted with those held out, in each full horizon since the holdout began.

    Everyone counts as drawn, whoever was contacted in the end, and only customers who were active in the lookback
    before the holdout began: who came later could be there because of a contact. What is known of them before it
    reduces the variance.

    Parameters
    ----------
    source_ids
        Id in the source by id in the run, where the run shows pseudonyms; None where they are the same.
    kpi
        spend, orders or active.

    Returns
    -------
    DataFrame
        `PROGRAMME`: a row for each full horizon and, of several, one for the whole time; one row with the verdict "too
        early" before the first is over, and none without a holdout. All intervals hold together in 95 of 100
        programmes.
    """
    if holdout is None:
        return empty_programme([])
    at_start = replace(period, as_of=holdout.start)
    known = _known_customers(days, period=at_start)
    own = known if source_ids is None else pd.Index(source_ids.reindex(known).fillna("").astype(str))
    held = np.asarray(own.isin(holdout.members(own)))
    counts = {"customers": int((~held).sum()), "held_out": int(held.sum()), "kpi": kpi, "unit": KPIS[kpi].unit}
    windows = _full_windows(holdout, period=period)
    if not windows:
        first = {"window": "1", "start": holdout.start, "end": at_start.horizon_end - timedelta(days=1)}
        return empty_programme([first | counts | {"verdict": EARLY}])
    if min(counts["customers"], counts["held_out"]) < FLOOR:
        rows = [_dates(name, *span) | counts | {"verdict": FEW} for name, span in windows.items()]
        return empty_programme(rows)
    before = covariates(days, kpi=kpi, period=at_start, index=known)[list(COVARIATES)].to_numpy(dtype=float)
    lifts = []
    for name, (start, length) in windows.items():
        values = kpi_values(days, kpi=kpi, start=start, window_days=length, index=known).to_numpy(dtype=float)
        lifts.append(lift_over_holdout(values, held=held, covariate_values=before, segment=name))
    found = with_simultaneous_intervals(lifts)
    return empty_programme([_dates(one.segment, *windows[one.segment]) | counts | _result(one) for one in found])


def lift_over_holdout(
    values: np.ndarray, *, held: np.ndarray, covariate_values: np.ndarray, segment: str = EVERYONE
) -> Lift:
    """Estimate how much more all others did than the few who are held out, without its interval yet.

    The few rarely hold one of those who spend most, and then look less varied than they are. So the standard error and
    the skewness are at least those that follow if they vary as all others do, who are many.
    """
    found = estimate_lift(values, treated=~held, covariate_values=covariate_values, segment=segment)
    others = least_squares(values[~held], usable_covariates(covariate_values[~held])).residuals
    few, many = int(held.sum()), int((~held).sum())
    moments = [float(np.mean(others**power)) for power in (2, 3)]
    se = float(np.sqrt(moments[0] * (1 / few + 1 / many)))
    if not se > 0 or (np.isfinite(found.se) and found.se > se):
        return found
    return replace(found, se=se, skew=moments[1] * (1 / many**2 - 1 / few**2) / se**3)


def empty_programme(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Build the typed table of a programme from rows."""
    table = pd.DataFrame(rows, columns=list(PROGRAMME))
    text = {name: object for name in ("window", "start", "end", "kpi", "unit", "verdict")}
    kinds = {name: "int64" if name in ("customers", "held_out") else float for name in PROGRAMME} | text
    return table.assign(start=table["start"].map(str), end=table["end"].map(str)).astype(kinds)


def programme_metrics(table: pd.DataFrame) -> dict[str, object]:
    """Collect what the programme brought over its whole time."""
    if table.empty:
        return {}
    whole = table.iloc[-1]
    figures = {"programme.held_out": int(whole["held_out"]), "programme.verdict": whole["verdict"]}
    if np.isfinite(whole["lift"]):
        figures |= {f"programme.{name.replace('_', '.')}": whole[name] for name in ("lift", "lift_low", "lift_high")}
    return figures


def _known_customers(days: Days, *, period: Period) -> pd.Index:
    """List the customers with an event of their own in the lookback before the holdout began."""
    rows = days.rows
    inside = (rows.day >= ibis.literal(period.lookback_start)) & (rows.day < ibis.literal(period.as_of))
    found = rows.filter(inside & (rows.own_events > 0)).select("customer_id").distinct().to_pandas()
    return pd.Index(sorted(found["customer_id"]), name="customer_id")


def _full_windows(holdout: Holdout, *, period: Period) -> dict[str, tuple[date, int]]:
    """Return start and days of each full horizon of the holdout that is over, and of all of them together."""
    last = min(holdout.end + timedelta(days=1), period.as_of)
    count = max((last - holdout.start).days // period.horizon_days, 0)
    starts = [holdout.start + timedelta(days=n * period.horizon_days) for n in range(count)]
    found = {str(n + 1): (start, period.horizon_days) for n, start in enumerate(starts)}
    return found | ({EVERYONE: (holdout.start, count * period.horizon_days)} if count > 1 else {})


def _dates(name: str, start: date, length: int) -> dict[str, object]:
    return {"window": name, "start": start, "end": start + timedelta(days=length - 1)}


def _result(one: Lift) -> dict[str, object]:
    """Return means, difference, what it comes to over all who may be contacted, and the verdict."""
    reach = stats.t.ppf(1 - ALPHA / 2, one.df) + stats.t.ppf(POWER, one.df)
    verdict = GAIN if one.low > 0 else LOSS if one.high < 0 else UNCLEAR
    lift = {"lift": one.lift, "lift_low": one.low, "lift_high": one.high}
    total = {name.replace("lift", "total"): value * one.treated for name, value in lift.items()}
    means = {"mean": one.treated_mean, "held_out_mean": one.control_mean}
    return {**means, **lift, **total, "smallest_effect": reach * one.se, "verdict": verdict}
