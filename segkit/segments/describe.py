"""The segment table: how many, how much, and what those who stood in the same place one horizon ago did next."""

import numpy as np
import pandas as pd

from segkit.customers.outcomes import Outcomes
from segkit.segments.fit import Windows
from segkit.segments.place import SegmentModel, place
from segkit.stats import mean_interval, proportion_interval

FEWEST_SEEN = 20  # customers; with fewer in the learning window nothing is said of a segment's future


def segment_sizes(assigned: pd.DataFrame, features: pd.DataFrame, *, outcomes: Outcomes) -> pd.DataFrame:
    """Customers, revenue and orders of each segment over the lookback.

    Takes  placed: segment and macro_segment by customer_id; features of the same customers; last: outcomes of the
           last horizon
    Gives  segment, macro_segment, customers, customer_share, revenue, revenue_share, margin (null without cost),
           orders,
           spend_now (mean spend in the last horizon, per customer); sorted by segment
    """
    joined = assigned[["segment", "macro_segment"]].join(features)
    groups = joined.groupby("segment", sort=True)
    money = "spend" in features
    revenue = groups["spend"].sum() if money else pd.Series(np.nan, index=groups.size().index)
    spent = outcomes.totals["spend"] if "spend" in outcomes.totals else pd.Series(np.nan, index=outcomes.totals.index)
    often = "orders" if "orders" in features else "active_days"
    table = pd.DataFrame(
        {
            "macro_segment": groups["macro_segment"].first(),
            "customers": groups.size(),
            "customer_share": groups.size() / len(joined),
            "revenue": revenue.round(2),
            "revenue_share": (revenue / revenue.sum()).round(9) if money and revenue.sum() > 0 else np.nan,
            "margin": _margin(outcomes, assigned["segment"]),
            "orders": groups[often].sum().round().astype("int64"),
            "spend_now": spent.groupby(assigned["segment"]).mean().round(6),
        }
    )
    return table.reset_index()


def _margin(last: Outcomes, segment: pd.Series) -> pd.Series | float:
    """Share of the purchases' amount that was left after their cost, in the last horizon; null without cost."""
    if "cost" not in last.totals:
        return np.nan
    totals = last.totals[["amount", "cost"]].groupby(segment).sum()
    return ((totals["amount"] - totals["cost"]) / totals["amount"].where(totals["amount"] > 0)).round(6)


def expected_next(model: SegmentModel, data: Windows) -> pd.DataFrame:
    """What customers of each segment are expected to do in the next horizon, from those who stood there one horizon
    ago.

    Takes  model; windows, whose `then` and `came` are the learning window
    Gives  indexed by segment: active_share_next and spend_next (mean per customer), each with _low and _high (95 %);
           null
           where fewer than twenty stood there, or nothing is known
    """
    names = [f"{n}{part}" for n in ("active_share_next", "spend_next") for part in ("", "_low", "_high")]
    empty = pd.DataFrame(np.nan, index=pd.Index(sorted(set(model.segments)), name="segment"), columns=names)
    if data.then is None or data.outcomes is None:
        return empty
    stood = place(model, data.then)["segment"]
    totals = data.outcomes.totals
    for segment, members in stood.groupby(stood):
        if len(members) < FEWEST_SEEN:
            continue
        members_totals = totals.loc[members.index]
        empty.loc[segment, names[:3]] = proportion_interval(
            (members_totals["active_days"] > 0).sum(), len(members_totals)
        )
        if "spend" in members_totals:
            middle, low, high = mean_interval(members_totals["spend"])
            empty.loc[segment, names[3:]] = middle, max(low, min(middle, 0.0)), high  # nobody spends less than nothing
    return empty.round(6)
