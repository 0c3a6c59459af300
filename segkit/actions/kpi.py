"""The three figures that a pilot can move, by customer: spend, orders, and whether they came at all.

What a customer did before a pilot says much of what they will do in it. These are the columns that a read-out takes the
foreseeable part away by (CUPED, Deng et al. 2013), and that a pilot is sized with.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.outcomes import customer_outcomes
from segkit.errors import InputError
from segkit.period import Period


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
    totals = customer_outcomes(_rows_only(days), start=start, horizon_days=window_days, index=index).totals
    return _read_off(totals, kpi=kpi)


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
    totals = customer_outcomes(_rows_only(days), start=start, horizon_days=length, index=index).totals
    pre = _read_off(totals, kpi=kpi)
    return pd.DataFrame({"pre": pre, "recent": recent, "steady": np.log1p(totals["active_days"])}, index=index)


def first_day(days: Days, *, before: date) -> date:
    """The first day with something in it, before a date.

    Raises
    ------
    InputError : there is none
    """
    found = days.rows.filter(days.rows.day < ibis.literal(before)).aggregate(first=days.rows.day.min()).to_pandas()
    if found["first"].isna().all():
        raise InputError(f"days: nothing was recorded before {before}. Give a later --as-of or --start.")
    return pd.Timestamp(found["first"].iloc[0]).date()


def _rows_only(days: Days) -> Days:
    """Days without what was bought: totals need none of it."""
    return Days(rows=days.rows, categories=None)


def _read_off(totals: pd.DataFrame, *, kpi: str) -> pd.Series:
    if kpi not in KPIS:
        raise InputError(f"--kpi {kpi}: there is no such KPI. There are {', '.join(KPIS)}.")
    column = KPIS[kpi].column
    if column not in totals:
        raise InputError(f"--kpi {kpi}: the events carry no amount, so there is no spend. Use --kpi orders or active.")
    values = totals[column]
    return ((values > 0).astype(float) if kpi == "active" else values).rename(kpi)
