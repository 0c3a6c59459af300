"""Power: the smallest effect that a pilot can see, and how many customers and weeks a given effect would take.

Seen means: found in 80 of 100 pilots at a chance of 5 % of finding what is not there, two-sided. The spread is the
data's own: the KPI of the same customers over windows that are past, less what the time before foretold of it.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import normal_sample_size_one_tail

from segkit.actions.kpi import COVARIATES, KPIS, covariates, first_day, kpi_values
from segkit.actions.lift import ALPHA
from segkit.customers.days import Days
from segkit.errors import InputError
from segkit.period import Period
from segkit.small_groups import FLOOR
from segkit.stats import least_squares, usable_covariates
from segkit.vocabulary import EVERYONE

POWER = 0.8
WEEKS = (2, 4, 6, 8, 13, 26)  # tried in turn
SHOWN_WEEKS = (4, 8, 13)
CANDIDATES = (
    "segment",
    "customers",
    "kpi",
    "unit",
    "mean",
    "smallest_effect",
    "smallest_share",
    "share_4",
    "share_8",
    "share_13",
    "reachable",
    "size_needed",
    "weeks_needed",
)


@dataclass(frozen=True)
class Spread:
    """One segment's KPI over a past window: customers, mean, standard deviation, and the same less what was
    foretold.
    """

    segment: str
    customers: int
    mean: float
    sd: float
    residual_sd: float


def spreads(days: Days, *, kpi: str, segment: pd.Series, period: Period, together: bool = False) -> list[Spread]:
    """The spread of a KPI in each segment, over the last horizon before `as_of`, foretold from the lookback before it.

    Takes  segment: by customer_id
    Gives  Spreads by segment

    Parameters
    ----------
    period : its horizon is as long as the pilot
    together : adds one of all customers, called "all"

    Raises
    ------
    InputError : the history does not hold the horizon and as much again before it
    """
    window_days, before = period.horizon_days, period.one_horizon_back()
    history_days = (period.as_of - first_day(days, before=period.as_of)).days
    if history_days < 2 * window_days:
        raise InputError(
            f"a window of {window_days} days needs {2 * window_days} days of history to be sized; there are {history_days}. "
            f"Give fewer --weeks ({history_days // 14} at most)."
        )
    values = kpi_values(days, kpi=kpi, start=before.as_of, window_days=window_days, index=segment.index)
    before = replace(before, lookback_days=min(period.lookback_days, history_days - window_days))
    past = covariates(days, kpi=kpi, period=before, index=segment.index)
    found = [_spread(str(name), values[rows.index], past.loc[rows.index]) for name, rows in segment.groupby(segment)]
    return [*found, _spread(EVERYONE, values, past)] if together else found


def smallest_effect(spread: Spread, *, treated: int, control: int, compared: int = 1) -> float:
    """The smallest lift per customer that a pilot of this size sees.

    Parameters
    ----------
    compared : how many segments are read at once (Bonferroni); more need a larger effect
    """
    if min(treated, control) < 2:
        return np.nan
    df = treated + control - 2
    reach = stats.t.ppf(1 - ALPHA / (2 * compared), df) + stats.t.ppf(POWER, df)
    return float(reach * spread.residual_sd * np.sqrt(1 / treated + 1 / control))


def size_needed(spread: Spread, *, effect: float, share_control: float = 0.5, compared: int = 1) -> int | None:
    """Customers, treated and control together, that seeing an effect takes; None where there is no effect to see."""
    if not effect > 0 or not np.isfinite(effect):
        return None
    each = normal_sample_size_one_tail(effect, POWER, ALPHA / (2 * compared), std_null=spread.residual_sd)
    return int(np.ceil(each / (share_control * (1 - share_control))))


def weeks_table(days: Days, *, kpi: str, segment: pd.Series, period: Period) -> pd.DataFrame:
    """The smallest relative effect that each segment, and all together, can show by weeks, half of it held out.

    Gives  segment, weeks, mean, smallest_effect (per customer), smallest_share (of the mean; null where that is zero);
           windows that the history cannot size are left out
    """
    history_days = (period.as_of - first_day(days, before=period.as_of)).days
    rows = []
    for weeks in [w for w in WEEKS if 14 * w <= history_days]:
        long = replace(period, horizon_days=7 * weeks)
        for one in spreads(days, kpi=kpi, segment=segment, period=long, together=True):
            control = one.customers // 2
            effect = smallest_effect(one, treated=one.customers - control, control=control)
            rows.append((one.segment, weeks, one.mean, effect, effect / one.mean if one.mean > 0 else np.nan))
    return pd.DataFrame(rows, columns=["segment", "weeks", "mean", "smallest_effect", "smallest_share"])


def weeks_needed(table: pd.DataFrame, *, wanted: pd.Series) -> pd.Series:
    """The fewest weeks at which a segment can show the relative effect wanted.

    Takes  weeks_table; wanted: share of the mean by segment
    Gives  weeks by segment; missing where none of the windows tried is enough
    """
    enough = table[table["smallest_share"] <= table["segment"].map(wanted)]
    return enough.groupby("segment")["weeks"].min().reindex(wanted.index)


def candidates(
    days: Days,
    *,
    kpi: str,
    segment: pd.Series,
    reachable: pd.Series,
    period: Period,
) -> pd.DataFrame:
    """What a pilot of each segment alone, and of all together, could show, half of it held out.

    Takes  segment: by customer_id; reachable: relative change by segment that the history shows ("all" among them)
    Gives  segment ("all" last), customers, kpi, unit, mean, smallest_effect, smallest_share, the same in 4, 8 and 13
           weeks (share_4, ...), reachable, size_needed (customers, to show the reachable), weeks_needed (missing: none
           of the windows tried); nulls where the history cannot size a window or an arm would be below the floor
    """
    history_days = (period.as_of - first_day(days, before=period.as_of)).days
    sizes = pd.concat([segment.value_counts().sort_index(), pd.Series({EVERYONE: len(segment)})])
    table = sizes.rename("customers").rename_axis("segment").reset_index()
    table = table.assign(reachable=lambda t: t["segment"].map(reachable).astype(float))
    asked = {"kpi": kpi, "segment": segment, "period": period}
    found = spreads(days, together=True, **asked) if history_days >= 2 * period.horizon_days else []
    by_segment = {one.segment: one for one in found if one.customers >= 2 * FLOOR}
    rows = [_candidate(by_segment.get(name), reachable=w) for name, w in table[["segment", "reachable"]].to_numpy()]
    table[["mean", "smallest_effect", "smallest_share", "size_needed"]] = np.array(rows, dtype=float).reshape(-1, 4)
    tried = weeks_table(days, **asked)
    tried = tried[tried["segment"].isin(by_segment)]
    table["weeks_needed"] = weeks_needed(tried, wanted=table.set_index("segment")["reachable"]).to_numpy(dtype=float)
    for weeks in SHOWN_WEEKS:
        of = tried[tried["weeks"] == weeks].set_index("segment")["smallest_share"]
        table[f"share_{weeks}"] = table["segment"].map(of).astype(float)
    return table.assign(kpi=kpi, unit=KPIS[kpi].unit)[list(CANDIDATES)]


def _candidate(spread: Spread | None, *, reachable: float) -> tuple[float, float, float, float]:
    """Mean, smallest effect, the same as a share of the mean, and the customers that showing the reachable takes."""
    if spread is None:
        return (np.nan,) * 4
    control = spread.customers // 2
    effect = smallest_effect(spread, treated=spread.customers - control, control=control)
    needed = size_needed(spread, effect=reachable * spread.mean)
    share = effect / spread.mean if spread.mean > 0 else np.nan
    return spread.mean, effect, share, np.nan if needed is None else float(needed)


def _spread(name: str, values: pd.Series, before: pd.DataFrame) -> Spread:
    y = values.to_numpy(dtype=float)
    fit = least_squares(y, usable_covariates(before[list(COVARIATES)].to_numpy(dtype=float)))
    free = len(y) - len(fit.slopes)
    left = np.sqrt(np.sum(fit.residuals**2) / free) if free > 0 else np.nan
    return Spread(name, len(y), float(y.mean()), float(y.std(ddof=1)) if len(y) > 1 else np.nan, float(left))
