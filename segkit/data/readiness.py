"""Decide whether data can carry a segmentation, by the same thresholds in `segkit check` and in a run."""

from dataclasses import dataclass

import ibis.expr.types as ir
import pandas as pd

from segkit.errors import InputError
from segkit.format import FLOOR

SEGMENTS = 12  # fewest segments of a report
FEW_CUSTOMERS = SEGMENTS * FLOOR
FEWEST_CUSTOMERS = 2 * FLOOR  # fewer do not make two segments, and a run stops
SHORTEST_HISTORY = 28  # days; fewer show no habit
LOW_REPEAT = 0.2  # share of customers with more than one active day
CONCENTRATED = 0.5  # share of revenue from the top 1% of customers
WOULD_ADD = {  # contract column -> what it would add
    "order_id": "orders within a day",
    "item": "single products",
    "category": "needs: what they buy, not only how much",
    "amount": "spend, order value, revenue shares",
    "quantity": "how many of each thing",
    "discount": "sensitivity to price",
    "private_label": "own label versus brands",
    "cost": "margin",
    "channel": "where they buy",
    "campaign": "response by campaign",
    "text": "what customers say in their own words",
}
LONG_ORDERS = (
    "Orders span up to {:,.0f} days, and each counts on its first day: give order_id only where it names one order."
)
SHORTEN = "Set fewer --lookback-days or --horizon-days."
WANTED = ("category", "amount")  # without them a report shows much less


@dataclass(frozen=True)
class Facts:
    """What the decision rests on, counted before `as_of` from the customers' own events.

    Attributes
    ----------
    customers, active
        All customers, and those active in the lookback.
    repeat_share
        Share of customers (0-1) seen on more than one day.
    proof_days, learning_days
        Days of history that the proof out of time, and learning what comes next, need (0: not required).
    top_share
        Share of revenue (0-1) from the top 1% of customers.
    order_days
        Days from the first to the last line of the longest order.
    """

    customers: int
    active: int
    repeat_share: float
    history_days: int
    proof_days: int
    learning_days: int = 0
    top_share: float = 0.0
    missing: tuple[str, ...] = ()
    order_days: int = 0


@dataclass(frozen=True)
class Verdict:
    """The answer (yes, with limits, or no) and its reasons, a sentence each."""

    answer: str
    reasons: tuple[str, ...]


def verdict_of(facts: Facts) -> Verdict:
    """Decide whether data can carry a segmentation; a run accepts whatever is not answered "no"."""
    stops = _stops(facts)
    limits = []
    if not stops and facts.active < FEW_CUSTOMERS:
        limits.append(
            f"{facts.active:,.0f} of {facts.customers:,.0f} customers were active in the days read: enough for "
            f"{facts.active // FLOOR:,.0f} segments of {FLOOR} at most, and few differences between them will be "
            f"certain. {SEGMENTS} need {FEW_CUSTOMERS}; read more days (--lookback-days), or add customers."
        )
    if facts.history_days < SHORTEST_HISTORY:
        limits.append(
            f"There are only {facts.history_days:,.0f} days of history. Wait until there are at least "
            f"{SHORTEST_HISTORY}, better a few months: so few days cannot show how often customers return, who has "
            "stopped, what they come for regularly, or a season, and no forecast can be tested. Segments show the last "
            "orders, not habits."
        )
    elif facts.history_days < facts.learning_days:
        limits.append(
            f"There are {facts.history_days:,.0f} days of history. Learning what comes next takes "
            f"{facts.learning_days:,.0f}: the days that describe a customer, and the days to forecast. So segments "
            f"rest on past behaviour alone, and a simpler model makes the forecast. {SHORTEN}"
        )
    elif facts.history_days < facts.proof_days:
        limits.append(
            f"There are {facts.history_days:,.0f} days of history. Testing the segments on later months takes "
            f"{facts.proof_days:,.0f}. So they are not tested. {SHORTEN}"
        )
    if 0 < facts.repeat_share < LOW_REPEAT:
        limits.append(f"Only {facts.repeat_share:.0%} of customers were active on more than one day.")
    if facts.customers >= 100 and facts.top_share > CONCENTRATED:  # with fewer, the top 1% is one customer
        limits.append("More than half of the revenue comes from 1% of the customers: read means with care.")
    limits += [f"No {name}: it would add {WOULD_ADD[name]}." for name in WANTED if name in facts.missing]
    answer = "no" if stops else "with limits" if limits else "yes"
    return Verdict(
        answer=answer, reasons=(*stops, *limits) or ("There are enough customers, history and repeat visits.",)
    )


def top_share(spend: pd.Series) -> float:
    """Return the share of revenue (0-1) from the top 1% of customers, given the spend of each customer."""
    ordered = spend.fillna(0).sort_values(ascending=False)
    return float(ordered.head(max(1, len(ordered) // 100)).sum() / ordered.sum()) if ordered.sum() > 0 else 0.0


def longest_order(events: ir.Table) -> int:
    """Count the days from the first to the last line of the longest order; 0 where lines have no order."""
    if "order_id" not in events.columns:
        return 0
    named = events.filter((events.event == "purchase") & events.order_id.notnull())
    orders = named.group_by("customer_id", "order_id").aggregate(first=named.day.min(), last=named.day.max())
    longest = orders.aggregate(days=orders["last"].delta(orders["first"], unit="day").max()).to_pandas()["days"].iloc[0]
    return 0 if pd.isna(longest) else int(longest)


def refuse_insufficient(facts: Facts) -> None:
    """Stop where nothing can be predicted.

    Raises `InputError`: fewer active customers than two segments need, or no customer was seen on a second day.
    """
    for reason in _stops(facts):
        raise InputError(f"events: {reason}")


def _stops(facts: Facts) -> list[str]:
    """Explain why no report can be made; empty where one can."""
    stops = []
    if facts.active < FEWEST_CUSTOMERS:
        stops.append(
            f"{facts.active:,.0f} of {facts.customers:,.0f} customers were active in the days read; "
            f"{FEWEST_CUSTOMERS // FLOOR} segments of {FLOOR} need {FEWEST_CUSTOMERS}. Read more days "
            "(--lookback-days), or add customers."
        )
    if facts.repeat_share <= 0:
        hint = (
            "Check the timestamp column, or give a longer history. If the table has one line for each customer, bring "
            "the table of what they did: orders, visits or payments."
        )
        stops.append(
            f"none of {facts.customers:,.0f} customers was seen on more than one day, so no habits can be learnt. "
            f"{LONG_ORDERS.format(facts.order_days) if facts.order_days else hint}"
        )
    return stops
