"""Targets: what is expected if nothing changes, plus what the history of a segment shows as within reach."""

from datetime import timedelta

import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.experiments.estimate import KPIS, LEADING_KPIS, first_active_day, span_totals
from segkit.period import Period
from segkit.vocabulary import EVERYONE

HISTORY_DAYS = 28  # length of a window of the history: whole weeks, so that all have the same weekdays
MIN_WINDOWS = 4
TARGET_QUANTILE = 0.75  # quantile of the past windows that counts as reachable
LEVELS = ["segment", "kpi", "starting_value", "windows", "lowest", "highest", "reachable"]
KEY_RESULTS = [
    "segment", "kpi", "unit", "starting_value", "expected", "expected_low", "expected_high",
    "windows", "lowest", "highest", "reachable", "target", "reason",
]  # fmt: skip
NO_FORECAST = "no forecast"
TOO_WIDE = "the range of the forecast is too wide to plan with"
LEAST_REACHABLE = 0.01  # share of what is expected; less of it is no target
NOT_REACHED = "less than 1% is within reach"


def reached_levels(days: Days, *, segment: pd.Series, period: Period) -> pd.DataFrame:
    """Measure which levels each KPI has reached in the history, without a campaign of ours.

    The lookback is cut into windows of four weeks. Reachable is the level that a quarter of them were at or above, as a
    share above their mean. It is no forecast: only a holdout shows whether a campaign brings it.

    Parameters
    ----------
    segment
        By ``customer_id``.

    Returns
    -------
    DataFrame
        ``segment``, ``kpi``, ``starting_value`` (of the last horizon), ``windows``, ``lowest`` and ``highest`` (of
        them, as shares of their mean), ``reachable`` (share above the mean); empty if the lookback has too few windows.
    """
    as_of = period.as_of
    history_days = min(period.lookback_days, (as_of - first_active_day(days, before=as_of)).days)
    count = history_days // HISTORY_DAYS
    if count < MIN_WINDOWS:
        return pd.DataFrame([], columns=LEVELS).astype({"windows": "int64"})
    spans = [(as_of - timedelta(days=HISTORY_DAYS * n), HISTORY_DAYS) for n in range(count, 0, -1)]
    spans.append((period.last_horizon_start, period.horizon_days))
    names = ["active_days", "orders", *(["spend"] if "amount" in days.rows.columns else [])]
    *history, last = [
        _levels(one, segment=segment) for one in span_totals(days, spans, names=names, index=segment.index)
    ]
    values = pd.concat(history).groupby(["segment", "kpi"])["value"]
    mean = values.mean().where(lambda level: level > 0)
    table = pd.DataFrame({"windows": count, "lowest": values.min() / mean, "highest": values.max() / mean})
    table["reachable"] = (values.quantile(TARGET_QUANTILE) / mean - 1).clip(lower=0)
    starting = last.set_index(["segment", "kpi"])["value"].rename("starting_value")
    return table.join(starting, how="inner").reset_index()[LEVELS]


def key_results(levels: pd.DataFrame, *, predicted: pd.DataFrame) -> pd.DataFrame:
    """Derive a target for each KPI: what is expected if nothing changes, raised by what its history shows as reachable.

    Parameters
    ----------
    levels
        As from `reached_levels`.
    predicted
        Forecast by segment, "all" included, as in the table ``predicted_segments``.

    Returns
    -------
    DataFrame
        `KEY_RESULTS`: ``expected`` with its range is the forecast per customer; where there is no ``target``, a
        ``reason`` stands instead.
    """
    table = levels.merge(_expected(predicted), on=["segment", "kpi"], how="left")
    table["unit"] = table["kpi"].map({LEADING_KPIS[name]: KPIS[name].unit for name in LEADING_KPIS})
    most = (1 / table["expected"] - 1).where(table["unit"] == "share", np.inf)  # a share ends at 1
    table["reachable"] = table["reachable"].clip(upper=most)
    width = table["expected_high"] - table["expected_low"]
    table["reason"] = np.select(
        [table["expected"].isna() | width.isna(), width > table["expected"], ~(table["reachable"] >= LEAST_REACHABLE)],
        [NO_FORECAST, TOO_WIDE, NOT_REACHED],
        default="",
    )
    target = table["expected"] * (1 + table["reachable"])
    return table.assign(target=target.where(table["reason"] == ""))[KEY_RESULTS]


def _expected(predicted: pd.DataFrame) -> pd.DataFrame:
    """Compute the forecast per customer, a row for each segment and KPI."""
    parts = [predicted[["segment"]].assign(kpi=kpi) for kpi in LEADING_KPIS.values()]
    for part, name in zip(parts, ("active_share", "orders", "spend"), strict=True):
        of = 1 if name == "active_share" else predicted["customers"]
        for end in ("", "_low", "_high"):
            part[f"expected{end}"] = predicted[f"{name}{end}"].astype(float) / of
    return pd.concat(parts)


def reachable(levels: pd.DataFrame, *, kpi: str) -> pd.Series:
    """Select the reachable relative change by segment, for the KPI that a pilot moves."""
    mine = levels[levels["kpi"] == LEADING_KPIS[kpi]]
    return mine.set_index("segment")["reachable"].astype(float)


def _levels(table: pd.DataFrame, *, segment: pd.Series) -> pd.DataFrame:
    """Compute the leading KPIs of each segment and of all customers from their totals in one window of the history."""
    values = pd.DataFrame({"active rate": (table["active_days"] > 0).astype(float)})
    if table["orders"].any():
        values["orders per customer"] = table["orders"]
    if "spend" in table:
        values["spend per customer"] = table["spend"]
    means = pd.concat([values.groupby(segment).mean(), values.mean().to_frame(EVERYONE).T])
    return means.rename_axis("segment").reset_index().melt("segment", var_name="kpi", value_name="value")
