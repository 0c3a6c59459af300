"""Day one: the figures of each segment before anything is done, fixed and dated, and what their own history shows as
reachable.
"""

from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd

from segkit.actions.kpi import first_day
from segkit.customers.days import Days
from segkit.customers.outcomes import customer_outcomes
from segkit.period import Period
from segkit.stats import mean_interval, proportion_interval, ratio_interval
from segkit.vocabulary import EVERYONE, SERVICE_WORDS

HISTORY_DAYS = 28  # of a window of the history: whole weeks, so that each holds the same weekdays
FEWEST_WINDOWS = 4
REACHED = 0.75  # quantile of the past windows that counts as reachable
BASELINE = ["segment", "kpi", "value", "value_low", "value_high", "unit", "customers", "start", "end"]
KEY_RESULTS = ["segment", "kpi", "unit", "starting_value", "windows", "lowest", "highest", "reachable", "target"]
LEADING = {  # KPIs with a key result, by the figure that a pilot moves
    "active": "active rate",
    "orders": "orders per customer",
    "spend": "spend per customer",
}
OTHERS_OF_CUSTOMER = ("purchase", "return")


def baseline(days: Days, *, segment: pd.Series, period: Period, kinds: dict[str, str]) -> pd.DataFrame:
    """The KPIs of each segment over the last horizon before `as_of`, with 95 % intervals.

    Takes  days: the state; segment: by customer_id
    Gives  segment ("all" first), kpi, value, value_low, value_high, unit, customers (it is of), start, end (last day).
           Active rate; orders and spend per customer; value of an order; margin (where costs are known); came back (of
           those who came in the horizon before); response (of those who were sent something, to whom it can be told)

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company'
    """
    start, horizon_days = period.last_horizon_start, period.horizon_days
    start_before = period.one_horizon_back().last_horizon_start
    table = _totals(days, start=start, horizon_days=horizon_days, index=segment.index)
    before = _totals(days, start=start_before, horizon_days=horizon_days, index=segment.index)
    whole = first_day(days, before=period.as_of) <= start_before
    table["came_before"] = (before["active_days"] > 0) if whole else False
    table = table.join(_counts(days, start=start, end=period.as_of, kinds=kinds, index=segment.index))
    rows = []
    for name, group in [(EVERYONE, table), *table.groupby(segment, sort=True)]:
        rows += [(str(name), *line) for line in _figures(group, kinds=kinds)]
    found = pd.DataFrame(rows, columns=BASELINE[:7])
    return found.assign(start=start.isoformat(), end=period.last_day.isoformat())[BASELINE]


def key_results(days: Days, *, segment: pd.Series, period: Period, baseline: pd.DataFrame) -> pd.DataFrame:
    """What the history of each KPI shows as reachable, and the target that follows.

    The rule: the lookback is cut into windows of four weeks; reachable is the level that a quarter of them were at or
    above, as a share above their mean; the target is the baseline times one more of it. It was reached without a
    campaign: it is a level the segment knows, not a promise, and whether a campaign brings it only a holdout can say.

    Takes  segment: by customer_id; baseline: of `baseline`
    Gives  segment, kpi, unit, starting_value, windows, lowest and highest (of them, as shares of their mean, 1 is
           the mean), reachable (share above the mean), target; empty where the lookback holds too few windows
    """
    as_of = period.as_of
    history_days = min(period.lookback_days, (as_of - first_day(days, before=as_of)).days)
    count = history_days // HISTORY_DAYS
    if count < FEWEST_WINDOWS:
        return pd.DataFrame([], columns=KEY_RESULTS).astype({"windows": "int64"})
    levels = [
        _levels(days, segment=segment, start=as_of - timedelta(days=HISTORY_DAYS * n)) for n in range(count, 0, -1)
    ]
    history = pd.concat(levels, keys=range(count), names=["window"]).reset_index()
    now = baseline.set_index(["segment", "kpi"])
    rows = []
    for (name, kpi), group in history.groupby(["segment", "kpi"], sort=True):
        if (name, kpi) not in now.index:  # no order in the last horizon: there is nothing to start from
            continue
        middle, fixed = group["value"].mean(), now.loc[(name, kpi)]
        shares = group["value"] / middle if middle > 0 else pd.Series([np.nan])
        reachable = max(0.0, float(shares.quantile(REACHED)) - 1) if middle > 0 else np.nan
        target = fixed["value"] * (1 + reachable)
        target = min(target, 1.0) if fixed["unit"] == "share" else target
        rows.append((name, kpi, fixed["unit"], fixed["value"], count, shares.min(), shares.max(), reachable, target))
    return pd.DataFrame(rows, columns=KEY_RESULTS)


def reachable(key_results: pd.DataFrame, *, kpi: str) -> pd.Series:
    """The relative change that the history of each segment shows, by segment, of the KPI a pilot would move."""
    mine = key_results[key_results["kpi"] == LEADING[kpi]]
    return mine.set_index("segment")["reachable"].astype(float)


def measure_figures(baseline: pd.DataFrame, candidates: pd.DataFrame, *, experiment: pd.DataFrame) -> dict[str, object]:
    """The headline numbers of the page, flat.

    Takes  baseline, candidates and experiment, as they are kept
    """
    everyone = baseline[baseline["segment"] == EVERYONE].set_index("kpi")
    figures: dict[str, object] = {
        "measure.start": baseline["start"].min(),
        "measure.end": baseline["end"].max(),
    }
    for kpi in LEADING.values():
        if kpi in everyone.index:
            name = f"measure.{kpi.replace(' ', '_')}"
            row = everyone.loc[kpi]
            figures |= {name: row["value"], f"{name}.low": row["value_low"], f"{name}.high": row["value_high"]}
    alone = candidates[candidates["segment"] != EVERYONE]
    figures["measure.pilots_ready"] = int(alone["weeks_needed"].notna().sum())
    figures["measure.smallest_share"] = alone["smallest_share"].min()
    figures["measure.smallest_share_all"] = candidates.set_index("segment")["smallest_share"].get(EVERYONE)
    for verdict in ("scale", "go on", "stop", "cannot tell"):
        counted = experiment[(experiment["verdict"] == verdict) & (experiment["segment"] != EVERYONE)]
        figures[f"measure.verdict_{verdict.replace(' ', '_')}"] = len(counted)
    return figures


def _totals(days: Days, *, start: date, horizon_days: int, index: pd.Index) -> pd.DataFrame:
    rows = Days(rows=days.rows, categories=None)
    return customer_outcomes(rows, start=start, horizon_days=horizon_days, index=index).totals


def _counts(days: Days, *, start: date, end: date, kinds: dict[str, str], index: pd.Index) -> pd.DataFrame:
    """Events of each kind by customer in a window."""
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows.day < ibis.literal(end)))
    counts = {f"n_{kind}": rows[f"n_{kind}"].sum().cast("float64") for kind in sorted(kinds)}
    return (
        rows.group_by("customer_id").aggregate(**counts).to_pandas().set_index("customer_id").reindex(index).fillna(0)
    )


def _figures(table: pd.DataFrame, *, kinds: dict[str, str]) -> list[tuple[str, float, float, float, str, int]]:
    """KPI lines of one group: kpi, value, low, high, unit, customers."""
    people, was_active = len(table), table["active_days"] > 0
    rows = [("active rate", *proportion_interval(int(was_active.sum()), people), "share", people)]
    back = int(table["came_before"].sum())
    if back:
        rows.append(
            ("came back", *proportion_interval(int((was_active & table["came_before"]).sum()), back), "share", back)
        )
    if table["orders"].any():
        rows.append(("orders per customer", *mean_interval(table["orders"]), "orders", people))
    if "spend" in table:
        buyers = table[table["orders"] > 0]
        rows.append(("spend per customer", *mean_interval(table["spend"]), "money", people))
        rows.append(("value of an order", *ratio_interval(buyers["spend"], buyers["orders"]), "money", len(buyers)))
    if "cost" in table and table["cost"].any():
        buyers = table[table["amount"] > 0]
        earned = buyers["amount"] - buyers["cost"]
        rows.append(("margin", *ratio_interval(earned, buyers["amount"]), "share", len(buyers)))
    return rows + _responses(table, kinds=kinds)


def _responses(table: pd.DataFrame, *, kinds: dict[str, str]) -> list[tuple[str, float, float, float, str, int]]:
    """Of those who were sent something in the window, the share who did each other thing in it."""
    rows = []
    for sent in sorted(kind for kind, by in kinds.items() if by == "company"):
        reached = table[table[f"n_{sent}"] > 0]
        for kind in sorted(kind for kind, by in kinds.items() if by == "customer"):
            if kind in OTHERS_OF_CUSTOMER or any(word in kind.lower() for word in SERVICE_WORDS) or reached.empty:
                continue
            words = f"response: {kind} after {sent}".replace("_", " ")
            rows.append(
                (
                    words,
                    *proportion_interval(int((reached[f"n_{kind}"] > 0).sum()), len(reached)),
                    "share",
                    len(reached),
                )
            )
    return rows


def _levels(days: Days, *, segment: pd.Series, start: date) -> pd.DataFrame:
    """The leading KPIs of each segment and of all in one window of the history."""
    table = _totals(days, start=start, horizon_days=HISTORY_DAYS, index=segment.index)
    per = pd.DataFrame({"active rate": (table["active_days"] > 0).astype(float)})
    if table["orders"].any():
        per["orders per customer"] = table["orders"]
    if "spend" in table:
        per["spend per customer"] = table["spend"]
    means = pd.concat([per.groupby(segment).mean(), per.mean().to_frame(EVERYONE).T])
    return means.rename_axis("segment").reset_index().melt("segment", var_name="kpi", value_name="value")
