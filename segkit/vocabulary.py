"""Each feature of a customer: name, block, unit, plain words, and the one formula behind it.

A formula is arithmetic on a customer's sums over the lookback (`a.orders`, `a.active_days`, ...: see
`customers.features.SUMS`), written with operators and the few functions of `m` (log1p, sqrt, where), so that the same
line serves numpy columns, an Ibis expression in a warehouse, and a single customer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BLOCKS = {
    "rfm": "recency, frequency, money",
    "rhythm": "rhythm of coming back",
    "lifecycle": "lifecycle",
    "basket": "basket",
    "price": "price and brand",
    "time": "time of day and week",
    "breadth": "breadth of the range",
    "engagement": "engagement and response",
    "needs": "needs",
    "demographic": "demographics",
}


@dataclass(frozen=True)
class Feature:
    """One feature: `words` complete the sentence "they are high on ..."; `low` is said of the other end."""

    name: str
    block: str
    unit: str
    words: str
    low: str
    formula: Callable[[Any, Any], Any]
    needs: tuple[str, ...] = ()
    skewed: bool = False


def ratio(m: Any, above: Any, below: Any, *, empty: float = 0.0) -> Any:
    """above / below, and `empty` where there is nothing to divide by."""
    known = below > 0
    return m.where(known, above / m.where(known, below, 1), empty)


def _gap_mean(a: Any, m: Any) -> Any:
    """Days between active days; a customer seen on one day is given the whole lookback."""
    return ratio(m, a.last_day - a.first_day, a.active_days - 1, empty=1.0 * a.lookback_days)


def _gap_variation(a: Any, m: Any) -> Any:
    gaps = a.active_days - 1
    mean = ratio(m, a.last_day - a.first_day, gaps)
    variance = ratio(m, a.gap_squared, gaps) - mean * mean
    return ratio(m, m.sqrt(m.where(variance > 0, variance, 0.0)), mean)


def _order_variation(a: Any, m: Any) -> Any:
    mean = ratio(m, a.amount, a.orders)
    variance = ratio(m, a.amount_squared, a.orders) - mean * mean
    return ratio(m, m.sqrt(m.where(variance > 0, variance, 0.0)), mean)


def _trend(recent: Any, whole: Any, a: Any, m: Any) -> Any:
    """Recent rate against the earlier one: -1 (stopped) to 1 (all of it recent), shrunk where little is known."""
    early = (whole - recent) / (a.lookback_days - a.recent_days)
    late = recent / a.recent_days
    return (late - early) / (late + early + 1.0 / a.lookback_days)


FEATURES: tuple[Feature, ...] = (
    Feature("recency_days", "rfm", "days", "days since they last came", "came lately",
            lambda a, m: 1.0 * (a.as_of_day - a.last_day), ("last_day",), True),
    Feature("orders", "rfm", "orders", "number of orders", "few orders", lambda a, m: 1.0 * a.orders, ("orders",), True),
    Feature("spend", "rfm", "money", "spend, net of returns", "little spend",
            lambda a, m: m.where(a.spend > 0, a.spend, 0.0), ("spend",), True),
    Feature("active_days", "rhythm", "days", "days with something done", "few active days",
            lambda a, m: 1.0 * a.active_days, ("active_days",), True),
    Feature("gap_days", "rhythm", "days", "days between visits", "come back soon", _gap_mean, ("gap_squared",), True),
    Feature("gap_variation", "rhythm", "ratio", "irregular rhythm", "regular rhythm", _gap_variation, ("gap_squared",)),
    Feature("longest_gap_days", "rhythm", "days", "longest silence", "no long silence",
            lambda a, m: 1.0 * a.longest_gap, ("longest_gap",), True),
    Feature("age_days", "lifecycle", "days", "days since first seen", "newly seen",
            lambda a, m: 1.0 * (a.as_of_day - a.first_ever), ("first_ever",), True),
    Feature("activity_trend", "lifecycle", "-1 to 1", "activity lately growing", "activity lately fading",
            lambda a, m: _trend(a.recent_active_days, a.active_days, a, m), ("recent_active_days",)),
    Feature("orders_trend", "lifecycle", "-1 to 1", "orders lately growing", "orders lately fading",
            lambda a, m: _trend(a.recent_orders, a.orders, a, m), ("recent_orders",)),
    Feature("orders_recent", "lifecycle", "orders", "orders lately", "few orders lately",
            lambda a, m: 1.0 * a.recent_orders, ("recent_orders",), True),
    Feature("spend_recent", "lifecycle", "money", "spend lately", "little spend lately",
            lambda a, m: m.where(a.recent_amount > 0, a.recent_amount, 0.0), ("recent_amount",), True),
    Feature("order_value", "basket", "money", "value of an order", "small orders",
            lambda a, m: ratio(m, a.amount, a.orders), ("amount",), True),
    Feature("order_variation", "basket", "ratio", "orders of very different size", "orders of one size",
            _order_variation, ("amount_squared",)),
    Feature("lines_per_order", "basket", "lines", "different things in an order", "few things in an order",
            lambda a, m: ratio(m, a.lines, a.orders), ("lines", "orders"), True),
    Feature("items_per_line", "basket", "items", "several of the same thing", "one of each thing",
            lambda a, m: ratio(m, a["items"], a.lines), ("items",), True),
    Feature("line_value", "basket", "money", "price of what they take", "cheap things",
            lambda a, m: ratio(m, a.amount, a.lines), ("amount", "lines"), True),
    Feature("discount_share", "price", "share", "share of the price saved by discounts", "pay the full price",
            lambda a, m: ratio(m, a.discount, a.amount + a.discount), ("discount", "amount")),
    Feature("discounted_lines_share", "price", "share", "lines bought at a discount", "rarely buy at a discount",
            lambda a, m: ratio(m, a.discounted_lines, a.lines), ("discounted_lines",)),
    Feature("private_label_share", "price", "share", "share of own-label goods", "prefer known brands",
            lambda a, m: ratio(m, a.private_amount, a.amount), ("private_amount",)),
    Feature("return_share", "price", "share", "share of value returned", "return nothing",
            lambda a, m: ratio(m, a.return_amount, a.amount + a.return_amount), ("n_return", "return_amount")),
    Feature("weekend_share", "time", "share", "come at the weekend", "come on weekdays",
            lambda a, m: ratio(m, a.weekend_occasions, a.occasions), ("weekend_occasions",)),
    Feature("morning_share", "time", "share", "come in the morning", "not in the morning",
            lambda a, m: ratio(m, a.occasions_morning, a.occasions), ("occasions_morning",)),
    Feature("afternoon_share", "time", "share", "come in the afternoon", "not in the afternoon",
            lambda a, m: ratio(m, a.occasions_afternoon, a.occasions), ("occasions_afternoon",)),
    Feature("evening_share", "time", "share", "come in the evening", "not in the evening",
            lambda a, m: ratio(m, a.occasions_evening, a.occasions), ("occasions_evening",)),
    Feature("categories", "breadth", "categories", "number of categories", "few categories",
            lambda a, m: 1.0 * a.categories, ("categories",), True),
    Feature("category_entropy", "breadth", "nats", "spread over categories", "keep to a few categories",
            lambda a, m: a.category_entropy, ("category_entropy",)),
    Feature("top_category_share", "breadth", "share", "share of the main category", "no main category",
            lambda a, m: a.top_category_share, ("top_category_share",)),
)  # fmt: skip


def kind_feature(kind: str, *, by_customer: bool) -> Feature:
    """A count of one kind of event other than purchase and return."""
    words = kind.replace("_", " ")
    column = f"n_{kind}"
    return Feature(
        name=f"{kind}_count",
        block="engagement",
        unit="events",
        words=f"number of: {words}" + ("" if by_customer else " (sent to them)"),
        low=f"few: {words}",
        formula=lambda a, m: 1.0 * a[column],
        needs=(column,),
        skewed=True,
    )


def is_skewed(name: str) -> bool:
    """Whether a feature is read on a log scale: counts and amounts are."""
    return describe(name).skewed


def block_of(name: str) -> str:
    """The block of a feature; counts of further kinds of event are engagement."""
    return describe(name).block


def describe(name: str) -> Feature:
    """The feature of that name; a count of a further kind of event is described from its name."""
    return _BY_NAME[name] if name in _BY_NAME else kind_feature(name.removesuffix("_count"), by_customer=True)


_BY_NAME = {feature.name: feature for feature in FEATURES}
