"""Measure the KPIs of each segment, and compare campaigns that were not randomised."""

from dataclasses import replace
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from segkit.customers.days import Days
from segkit.customers.features import customer_outcomes
from segkit.experiments.estimate import COVARIATES, LEADING_KPIS, covariates, first_active_day, kpi_values
from segkit.format import FLOOR
from segkit.period import Period
from segkit.stats import mean_interval, proportion_interval, ratio_interval
from segkit.vocabulary import EVERYONE, SERVICE_WORDS

STRATA = 10
MIN_IN_STRATUM = 2  # customers of each group in a stratum
MAX_IMBALANCE = 0.1  # standardised difference above which groups differ (Austin 2009)
MAX_AUC = 0.95  # above which what they did before tells recipients from others: nobody is comparable
RISK_OF_DIFFERENCE = 0.91  # log risk ratio of a standardised difference of 1 (VanderWeele & Ding 2017)
ASSOCIATION_COLUMNS = [
    "campaign", "sent", "others", "kpi", "unit", "difference", "difference_low", "difference_high",
    "matched", "matched_low", "matched_high", "matched_sent", "worst_before", "worst_after", "auc", "e_value", "alike",
]  # fmt: skip
BALANCE = ["campaign", "column", "before", "after"]


def sent_campaigns(events: ir.Table, *, kinds: dict[str, str], period: Period) -> pd.DataFrame:
    """List which campaigns each customer was sent in the last horizon.

    `kinds`: 'customer' or 'company' by kind of event. Returns ``customer_id``, ``campaign`` (kind, and type if the
    source names it), each pair once.
    """
    start, end = period.last_horizon_start, period.as_of
    by_company = sorted(kind for kind, by in kinds.items() if by == "company")
    rows = events.filter(events.event.isin(by_company) & (events.day >= start) & (events.day < end))
    columns = ["customer_id", "event"] + (["campaign"] if "campaign" in events.columns else [])
    if not by_company:
        return pd.DataFrame({"customer_id": pd.Series(dtype=object), "campaign": pd.Series(dtype=object)})
    table = rows.select(*columns).distinct().to_pandas()
    names = table["event"].str.replace("_", " ")
    if "campaign" in table:
        names = names + table["campaign"].map(lambda one: "" if pd.isna(one) else f": {one}")
    found = pd.DataFrame({"customer_id": table["customer_id"], "campaign": names}).drop_duplicates()
    return found.sort_values(["campaign", "customer_id"], ignore_index=True)


def measure_associations(
    days: Days, *, sent: pd.DataFrame, kpi: str, index: pd.Index, period: Period
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare recipients of each campaign of the last horizon with other customers, unadjusted and matched.

    Customers are matched on the time before the horizon; campaigns with too few customers in either group are left out.

    Parameters
    ----------
    sent
        As from `sent_campaigns`.
    kpi
        spend, orders or active.

    Returns
    -------
    tuple of DataFrame
        One row per campaign (`ASSOCIATION_COLUMNS`; differences per customer over the horizon, with 95 % intervals);
        and the balance: ``campaign``, ``column``, ``before``, ``after`` (standardised differences).
    """
    before = period.one_horizon_back()
    history_days = (before.as_of - first_active_day(days, before=period.as_of)).days
    if sent.empty or history_days < 1:
        return pd.DataFrame([], columns=ASSOCIATION_COLUMNS), pd.DataFrame([], columns=BALANCE)
    values = kpi_values(days, kpi=kpi, start=before.as_of, window_days=before.horizon_days, index=index).to_numpy()
    before = replace(
        before,
        lookback_days=min(before.lookback_days, history_days),
        horizon_days=min(before.horizon_days, history_days),
    )
    covariate_table = covariates(days, kpi=kpi, period=before, index=index)
    covariate_table = covariate_table.assign(
        **{f"log {name}": np.log1p(covariate_table[name].clip(lower=0)) for name in ("pre", "recent")}
    )
    unit = {"spend": "money", "orders": "orders", "active": "share"}[kpi]
    rows, balances = [], []
    for campaign, group in sent.groupby("campaign", sort=True):
        reached = index.isin(group["customer_id"])
        if min(reached.sum(), (~reached).sum()) < FLOOR:
            continue
        weight, used, auc = _match_weights(covariate_table, reached)
        before = _standardised_differences(covariate_table, reached, weight=np.ones(len(index)))
        after = _standardised_differences(covariate_table, reached, weight=weight)
        unadjusted = _stratified_difference(values, reached, used=np.zeros(len(index), dtype=int))
        matched = _stratified_difference(values, reached, used=used)
        worst = (float(before.abs().max()), float(after.abs().max()))
        counts = (int(reached.sum()), int((~reached).sum()))
        in_strata = int((reached & (used >= 0)).sum())
        e_value = _e_value(*matched[1:], sd=float(values[~reached].std(ddof=1)))
        if auc >= MAX_AUC:
            unadjusted = matched = (np.nan,) * 3
            e_value = np.nan
        alike = worst[1] < MAX_IMBALANCE and auc < MAX_AUC
        rows.append((campaign, *counts, kpi, unit, *unadjusted, *matched, in_strata, *worst, auc, e_value, alike))
        balances += [(campaign, name, before[name], after[name]) for name in COVARIATES]
    return pd.DataFrame(rows, columns=ASSOCIATION_COLUMNS), pd.DataFrame(balances, columns=BALANCE)


def _e_value(low: float, high: float, *, sd: float) -> float:
    """Compute how strong a hidden cause must be to explain a difference away (E-value; VanderWeele & Ding 2017).

    It must go along with both the campaign and the outcome at least by this risk ratio, for the end of the interval
    nearest to zero; 1 where the interval includes zero.
    """
    if not np.isfinite([low, high]).all() or not sd > 0:
        return np.nan
    nearest = max(low, -high, 0.0) / sd
    ratio = float(np.exp(RISK_OF_DIFFERENCE * nearest))
    return ratio + float(np.sqrt(ratio * (ratio - 1)))


def _match_weights(covariate_table: pd.DataFrame, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weight the other customers to resemble the recipients by strata of the propensity score.

    The second array is the stratum of each customer; -1 where one of the groups is too small. The number is the AUC of
    the score: 0.5 where recipients were like others before, 1 where it separates them.
    """
    x = (covariate_table - covariate_table.mean()) / covariate_table.std().replace(0, 1)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(x.to_numpy(), reached)
    score = np.round(model.decision_function(x.to_numpy()), 9)
    edges = np.unique(np.quantile(score[reached], np.arange(1, STRATA) / STRATA))
    stratum = np.searchsorted(edges, score, side="left")
    weight = np.zeros(len(score))
    for number in np.unique(stratum):
        in_stratum = stratum == number
        treated, others = int((in_stratum & reached).sum()), int((in_stratum & ~reached).sum())
        if min(treated, others) < MIN_IN_STRATUM:
            stratum[in_stratum] = -1
            continue
        weight[in_stratum & reached], weight[in_stratum & ~reached] = 1.0, treated / others
    return weight, stratum, float(roc_auc_score(reached, score))


def _stratified_difference(values: np.ndarray, reached: np.ndarray, *, used: np.ndarray) -> tuple[float, float, float]:
    """Average the differences within strata, weighted by recipients, with a 95 % interval."""
    total, variance, matched = 0.0, 0.0, int((reached & (used >= 0)).sum())
    if matched == 0:
        return np.nan, np.nan, np.nan
    for number in np.unique(used[used >= 0]):
        a, b = values[(used == number) & reached], values[(used == number) & ~reached]
        share = len(a) / matched
        total += share * (a.mean() - b.mean())
        variance += share**2 * (a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    return float(total), float(total - half), float(total + half)


def _standardised_differences(covariate_table: pd.DataFrame, reached: np.ndarray, *, weight: np.ndarray) -> pd.Series:
    """Compute differences of weighted means, in standard deviations of the recipients."""
    reached_means = covariate_table[reached & (weight > 0)].mean()
    others, parts = covariate_table[~reached & (weight > 0)], weight[~reached & (weight > 0)]
    if not len(parts):
        return pd.Series(np.nan, index=covariate_table.columns)
    other_means = pd.Series(np.average(others, axis=0, weights=parts), index=covariate_table.columns)
    return (reached_means - other_means) / covariate_table[reached].std().replace(0, 1)


BASELINE = ["segment", "kpi", "value", "value_low", "value_high", "unit", "customers", "start", "end"]
CUSTOMER_KINDS = ("purchase", "return")


def baseline(days: Days, *, segment: pd.Series, period: Period, kinds: dict[str, str]) -> pd.DataFrame:
    """Measure the KPIs of each segment over the last horizon before `as_of`, with 95 % intervals.

    KPIs: active rate; orders and spend per customer; value of an order; margin (if costs are known); response (of those
    who were sent something).

    Parameters
    ----------
    segment
        By ``customer_id``.
    kinds
        'customer' or 'company' by kind of event.

    Returns
    -------
    DataFrame
        ``segment`` ("all" first), ``kpi``, ``value``, ``value_low``, ``value_high``, ``unit``, ``customers`` (that it
        is based on), ``start``, ``end`` (last day).
    """
    start, horizon_days = period.last_horizon_start, period.horizon_days
    table = _customer_totals(days, start=start, horizon_days=horizon_days, index=segment.index)
    table = table.join(_event_counts(days, start=start, end=period.as_of, kinds=kinds, index=segment.index))
    rows = []
    for name, group in [(EVERYONE, table), *table.groupby(segment, sort=True)]:
        rows += [(str(name), *line) for line in _group_kpis(group, kinds=kinds)]
    found = pd.DataFrame(rows, columns=BASELINE[:7])
    return found.assign(start=start.isoformat(), end=period.last_day.isoformat())[BASELINE]


def measure_metrics(baseline: pd.DataFrame, candidates: pd.DataFrame, *, experiment: pd.DataFrame) -> dict[str, object]:
    """Collect the headline numbers of the page."""
    everyone = baseline[baseline["segment"] == EVERYONE].set_index("kpi")
    figures: dict[str, object] = {
        "measure.start": baseline["start"].min(),
        "measure.end": baseline["end"].max(),
    }
    for kpi in LEADING_KPIS.values():
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


def _customer_totals(days: Days, *, start: date, horizon_days: int, index: pd.Index) -> pd.DataFrame:
    rows = Days(rows=days.rows, categories=None)
    return customer_outcomes(rows, start=start, horizon_days=horizon_days, index=index).totals


def _event_counts(days: Days, *, start: date, end: date, kinds: dict[str, str], index: pd.Index) -> pd.DataFrame:
    """Count the events of each kind by customer in a window."""
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows.day < ibis.literal(end)))
    counts = {f"n_{kind}": rows[f"n_{kind}"].sum().cast("float64") for kind in sorted(kinds)}
    return (
        rows.group_by("customer_id").aggregate(**counts).to_pandas().set_index("customer_id").reindex(index).fillna(0)
    )


def _group_kpis(table: pd.DataFrame, *, kinds: dict[str, str]) -> list[tuple[str, float, float, float, str, int]]:
    """Compute the KPI rows of one group: kpi, value, low, high, unit, customers."""
    customers, was_active = len(table), table["active_days"] > 0
    rows = [("active rate", *proportion_interval(int(was_active.sum()), customers), "share", customers)]
    if table["orders"].any():
        rows.append(("orders per customer", *mean_interval(table["orders"]), "orders", customers))
    if "spend" in table:
        buyers = table[table["orders"] > 0]
        rows.append(("spend per customer", *mean_interval(table["spend"]), "money", customers))
        rows.append(("value of an order", *ratio_interval(buyers["spend"], buyers["orders"]), "money", len(buyers)))
    if "cost" in table and table["cost"].any():
        buyers = table[table["amount"] > 0]
        earned = buyers["amount"] - buyers["cost"]
        rows.append(("margin", *ratio_interval(earned, buyers["amount"]), "share", len(buyers)))
    return rows + _responses(table, kinds=kinds)


def _responses(table: pd.DataFrame, *, kinds: dict[str, str]) -> list[tuple[str, float, float, float, str, int]]:
    """Compute the share of recipients in the window who did each other kind of thing in it."""
    rows = []
    for sent in sorted(kind for kind, by in kinds.items() if by == "company"):
        reached = table[table[f"n_{sent}"] > 0]
        for kind in sorted(kind for kind, by in kinds.items() if by == "customer"):
            if kind in CUSTOMER_KINDS or any(word in kind.lower() for word in SERVICE_WORDS) or reached.empty:
                continue
            label = f"response: {kind} after {sent}".replace("_", " ")
            rows.append(
                (
                    label,
                    *proportion_interval(int((reached[f"n_{kind}"] > 0).sum()), len(reached)),
                    "share",
                    len(reached),
                )
            )
    return rows
