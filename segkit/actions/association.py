"""Campaigns that were not drawn by lot: shown as association, beside a matched comparison, and never called an effect.

Whoever was sent a campaign was chosen, and those who are chosen buy more anyway. Customers with a like chance of having
been chosen, by what they did before, are compared (strata of the propensity score; Rosenbaum & Rubin 1984), weighted
as those who were sent it. What the score does not know stays in the difference.
"""

from dataclasses import replace

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression

from segkit.actions.kpi import COVARIATES, covariates, first_day, kpi_values
from segkit.customers.days import Days
from segkit.period import Period
from segkit.small_groups import FLOOR

STRATA = 10
FEWEST = 2  # customers of each group in a stratum
UNLIKE = 0.1  # standardised difference above which groups are not alike (Austin 2009)
COLUMNS = [
    "campaign", "sent", "others", "kpi", "unit", "difference", "difference_low", "difference_high",
    "matched", "matched_low", "matched_high", "matched_sent", "worst_before", "worst_after", "alike",
]  # fmt: skip
BALANCE = ["campaign", "column", "before", "after"]


def sent_campaigns(events: ir.Table, *, kinds: dict[str, str], period: Period) -> pd.DataFrame:
    """Who was sent what in the last horizon: customer_id, campaign (kind, and type where the source names it), each
    once.

    Takes  events by the contract; kinds: each kind of event -> 'customer' or 'company'
    """
    start, end = period.last_horizon_start, period.as_of
    by_company = sorted(kind for kind, by in kinds.items() if by == "company")
    rows = events.filter(events.event.isin(by_company) & (events.day >= start) & (events.day < end))
    columns = ["customer_id", "event"] + (["campaign"] if "campaign" in events.columns else [])
    if not by_company:
        return pd.DataFrame({"customer_id": pd.Series(dtype=object), "campaign": pd.Series(dtype=object)})
    table = rows.select(*columns).distinct().to_pandas()
    words = table["event"].str.replace("_", " ")
    if "campaign" in table:
        words = words + table["campaign"].map(lambda one: "" if pd.isna(one) else f": {one}")
    found = pd.DataFrame({"customer_id": table["customer_id"], "campaign": words}).drop_duplicates()
    return found.sort_values(["campaign", "customer_id"], ignore_index=True)


def associations(
    days: Days, *, sent: pd.DataFrame, kpi: str, index: pd.Index, period: Period
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each campaign of the last horizon: those it was sent to beside the others, as they are and matched on the time
    before.

    Takes  sent: of `sent_campaigns`; index: the customers compared
    Gives  a row a campaign (COLUMNS; differences per customer over the horizon, with 95 % intervals), and the balance:
           campaign, column, before, after (standardised differences). Campaigns with too few of either group are left
           out

    Parameters
    ----------
    kpi : spend, orders or active
    """
    before = period.one_horizon_back()
    history_days = (before.as_of - first_day(days, before=period.as_of)).days
    if sent.empty or history_days < 1:
        return pd.DataFrame([], columns=COLUMNS), pd.DataFrame([], columns=BALANCE)
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
        weight, used = _matched(covariate_table, reached)
        before = _differences(covariate_table, reached, weight=np.ones(len(index)))
        after = _differences(covariate_table, reached, weight=weight)
        plain = _difference(values, reached)
        matched = _in_strata(values, reached, used=used)
        worst = (float(before.abs().max()), float(after.abs().max()))
        counts = (int(reached.sum()), int((~reached).sum()))
        rows.append(
            (
                campaign,
                *counts,
                kpi,
                unit,
                *plain,
                *matched,
                int((reached & (used >= 0)).sum()),
                *worst,
                worst[1] < UNLIKE,
            )
        )
        balances += [(campaign, name, before[name], after[name]) for name in COVARIATES]
    return pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(balances, columns=BALANCE)


def _matched(covariate_table: pd.DataFrame, reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights that make the others like those reached, and the stratum of each (-1: nobody like them in the other
    group).
    """
    x = (covariate_table - covariate_table.mean()) / covariate_table.std().replace(0, 1)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(x.to_numpy(), reached)
    score = np.round(model.decision_function(x.to_numpy()), 9)
    edges = np.unique(np.quantile(score[reached], np.arange(1, STRATA) / STRATA))
    stratum = np.searchsorted(edges, score, side="left")
    weight = np.zeros(len(score))
    for number in np.unique(stratum):
        mine = stratum == number
        ours, theirs = int((mine & reached).sum()), int((mine & ~reached).sum())
        if min(ours, theirs) < FEWEST:
            stratum[mine] = -1
            continue
        weight[mine & reached], weight[mine & ~reached] = 1.0, ours / theirs
    return weight, stratum


def _in_strata(values: np.ndarray, reached: np.ndarray, *, used: np.ndarray) -> tuple[float, float, float]:
    """The mean of the differences within strata, weighted by those reached, with its 95 % interval."""
    total, variance, ours = 0.0, 0.0, int((reached & (used >= 0)).sum())
    if ours == 0:
        return np.nan, np.nan, np.nan
    for number in np.unique(used[used >= 0]):
        a, b = values[(used == number) & reached], values[(used == number) & ~reached]
        share = len(a) / ours
        total += share * (a.mean() - b.mean())
        variance += share**2 * (a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    return float(total), float(total - half), float(total + half)


def _difference(values: np.ndarray, reached: np.ndarray) -> tuple[float, float, float]:
    return _in_strata(values, reached, used=np.zeros(len(values), dtype=int))


def _differences(covariate_table: pd.DataFrame, reached: np.ndarray, *, weight: np.ndarray) -> pd.Series:
    """Standardised differences of weighted means, in standard deviations of those reached."""
    ours = covariate_table[reached & (weight > 0)].mean()
    others, parts = covariate_table[~reached & (weight > 0)], weight[~reached & (weight > 0)]
    if not len(parts):
        return pd.Series(np.nan, index=covariate_table.columns)
    theirs = pd.Series(np.average(others, axis=0, weights=parts), index=covariate_table.columns)
    return (ours - theirs) / covariate_table[reached].std().replace(0, 1)
