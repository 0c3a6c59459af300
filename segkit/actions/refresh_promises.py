"""Promises: what the last run expected of its segments, beside what came since; of the whole horizon or of its part.

Expected is what the run's forecast says, or where it has none, what members of the segment did one horizon before it.
Of a horizon that is not over, orders and spend are expected in proportion to its days, which supposes that it is even.
Who comes at all cannot be divided so: who comes weekly comes in any part of it. That is read when it is over.
"""

from datetime import date

import numpy as np
import pandas as pd

from segkit.actions.kpi import KPIS, kpi_values
from segkit.customers.days import Days
from segkit.data.store import Run
from segkit.small_groups import FLOOR
from segkit.stats import Estimate, mean_interval
from segkit.vocabulary import EVERYONE

DIGITS = 6
SEEN_DAYS = 7  # fewest days that anything is read from
SUMS = {"active": "active_share", "orders": "orders", "spend": "spend"}
PROMISES = [
    "segment",
    "kpi",
    "unit",
    "customers",
    "days",
    "part",
    *(f"{name}{part}" for name in ("predicted", "observed", "gap", "against_all") for part in ("", "_low", "_high")),
    "verdict",
]


def promises(days: Days, *, previous: Run, as_of: date) -> pd.DataFrame:
    """Hold what the last run expected against what its customers did between it and `as_of`.

    Takes  days: the state of today; previous: a finished run with assignments and segments
    Gives  segment ("all" first), kpi, unit, customers, days and part (of the horizon that has passed), predicted,
           observed and gap (observed less predicted; per customer) with 95 % intervals, against_all (observed over
           predicted, less the same of all customers: what is left when a season moves everyone), verdict (short,
           above, as expected); empty where less than a week has passed, or nothing was expected
    """
    start, horizon_days = previous.period.as_of, previous.period.horizon_days
    passed = min((as_of - start).days, horizon_days)
    expected = _expected(previous)
    if passed < SEEN_DAYS or expected.empty:
        return pd.DataFrame([], columns=PROMISES)
    segment = previous.table("assignments").set_index("customer_id")["segment"].sort_index()
    rows = []
    for kpi in expected["kpi"].unique():
        if (kpi == "spend" and "amount" not in days.rows.columns) or (kpi == "active" and passed < horizon_days):
            continue
        observed = kpi_values(days, kpi=kpi, start=start, window_days=passed, index=segment.index)
        expected_by_segment = expected[expected["kpi"] == kpi].set_index("segment")
        rows += _of_kpi(observed, segment, expected_by_segment, kpi=kpi, part=passed / horizon_days)
    table = pd.DataFrame(rows)
    return table.assign(days=passed, part=round(passed / horizon_days, DIGITS)).reindex(columns=PROMISES)


def _expected(previous: Run) -> pd.DataFrame:
    """What was expected of a customer: segment ("all" among them), kpi, value, low, high."""
    if previous.has("predicted_segments"):
        table = previous.table("predicted_segments").set_index("segment")
        parts = {kpi: _columns(table, name) for kpi, name in SUMS.items() if name in table}
        for kpi in set(parts) - {"active"}:
            parts[kpi] = parts[kpi].div(table["customers"], axis=0)
        if parts and any(part["value"].notna().any() for part in parts.values()):
            return _long(parts)
    table = previous.table("segments").set_index("segment")
    names = {"active": "active_share_next", "spend": "spend_next"}
    parts = {kpi: _columns(table, name) for kpi, name in names.items() if name in table}
    weights = table["customers"] / table["customers"].sum()
    for kpi, part in parts.items():
        whole = part.mul(weights, axis=0).sum(min_count=len(part)).to_frame(EVERYONE).T  # of one mind: no narrower
        parts[kpi] = pd.concat([whole, part])
    return _long(parts)


def _columns(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.DataFrame({"value": table[name], "low": table[f"{name}_low"], "high": table[f"{name}_high"]})


def _long(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat({kpi: parts[kpi] for kpi in KPIS if kpi in parts}, names=["kpi", "segment"])
    return table.reset_index().dropna(subset=["value"])


def _of_kpi(
    observed: pd.Series, segment: pd.Series, expected_by_segment: pd.DataFrame, *, kpi: str, part: float
) -> list[dict]:
    groups = {EVERYONE: observed} | {name: values for name, values in observed.groupby(segment)}
    rows = []
    for name, values in groups.items():
        if name not in expected_by_segment.index or len(values) < FLOOR:
            continue
        expected = [expected_by_segment.loc[name, side] * part for side in ("value", "low", "high")]
        at, low, high = mean_interval(values)
        spread = np.hypot((high - low) / 2, (expected[2] - expected[1]) / 2 if np.isfinite(expected[1]) else 0.0)
        row = {"segment": name, "kpi": kpi, "unit": KPIS[kpi].unit, "customers": len(values)}
        row |= Estimate(*expected).columns("predicted", digits=DIGITS)
        row |= Estimate(at, max(low, min(at, 0.0)), high).columns("observed", digits=DIGITS)
        gap = at - expected[0]
        row |= Estimate.around(gap, half=spread).columns("gap", digits=DIGITS)
        row["verdict"] = "short" if gap + spread < 0 else "above" if gap - spread > 0 else "as expected"
        rows.append(row | {"_spread": spread})
    return _against_all(rows)


def _against_all(rows: list[dict]) -> list[dict]:
    """Came over expected, less the same of all: what a season that moves everyone does not explain. The interval takes
    a segment and all customers for independent, which makes it a little wide.
    """
    whole = next((row for row in rows if row["segment"] == EVERYONE), None)
    for row in rows:
        spread = row.pop("_spread")
        row["_kept"] = (row["observed"] / row["predicted"], spread / row["predicted"]) if row["predicted"] > 0 else None
    for row in rows:
        if row is not whole and whole and row["_kept"] and whole["_kept"]:
            lead, half = row["_kept"][0] - whole["_kept"][0], float(np.hypot(row["_kept"][1], whole["_kept"][1]))
            row |= Estimate.around(lead, half=half).columns("against_all", digits=DIGITS)
    return [{name: value for name, value in row.items() if name != "_kept"} for row in rows]
