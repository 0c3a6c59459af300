"""Every feature of a customer: its label, block, unit and formula.

A formula gets the aggregates of the lookback (``a``) and the mathematics of an engine (``m``), so that a batch in
DuckDB, a cluster in Spark and one live event compute the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

COOLING_FACTOR = 2.0  # a customer cools when silent for more than this many usual gaps


def ratio(m: Any, above: Any, below: Any, *, empty: float = 0.0) -> Any:
    """Divide, and return ``empty`` where there is nothing to divide by."""
    has_base = below > 0
    return m.where(has_base, above / m.where(has_base, below, 1), empty)


def positive(m: Any, value: Any) -> Any:
    """Return the value, or zero where it is negative."""
    return m.where(value > 0, value, 0.0)


def gap_mean(a: Any, m: Any) -> Any:
    """Average the days between active days; a customer with one active day gets the whole lookback."""
    return ratio(m, a.last_day - a.first_day, a.active_days - 1, empty=1.0 * a.lookback_days)


def _gap_variation(a: Any, m: Any) -> Any:
    """Divide the standard deviation of the gaps by their mean: 0 is a regular rhythm, about 1 is chance."""
    n_gap = a.active_days - 1
    mean = ratio(m, a.last_day - a.first_day, n_gap)
    variance = ratio(m, a.gap_squared, n_gap) - mean * mean
    return ratio(m, m.sqrt(positive(m, variance)), mean)


def _overdue(a: Any, m: Any) -> Any:
    """Measure the silence in usual gaps: above 1, the customer is late."""
    return (a.as_of_day - a.last_day) / gap_mean(a, m)


def _order_variation(a: Any, m: Any) -> Any:
    """Divide the standard deviation of order values by their mean."""
    mean = ratio(m, a.amount, a.orders)
    variance = ratio(m, a.amount_squared, a.orders) - mean * mean
    return ratio(m, m.sqrt(positive(m, variance)), mean)


def _trend(recent: Any, total: Any, a: Any) -> Any:
    """Compare the recent rate with the earlier one: -1 (stopped) to 1 (all recent), shrunk where events are few."""
    early = (total - recent) / (a.lookback_days - a.recent_days)
    late = recent / a.recent_days
    return (late - early) / (late + early + 1.0 / a.lookback_days)


def _money_trend(recent: Any, total: Any, a: Any, m: Any) -> Any:
    """Compare rates of money, which has no natural unit to shrink by: zero where there is none."""
    early = (total - recent) / (a.lookback_days - a.recent_days)
    late = recent / a.recent_days
    return ratio(m, late - early, late + early)


def _is_new(a: Any) -> Any:
    """Flag customers first seen in the recent days."""
    return a.as_of_day - a.first_ever <= a.recent_days


def _is_returned(a: Any) -> Any:
    """Flag earlier customers who were silent for the first part of the lookback and are back."""
    return (a.as_of_day - a.first_ever > a.recent_days) & (a.recent_active_days == a.active_days)


def _is_lapsed(a: Any) -> Any:
    """Flag customers with nothing in the recent days."""
    return a.recent_active_days == 0


def _is_cooling(a: Any, m: Any) -> Any:
    """Flag customers active in the recent days and before, now silent for over twice their usual gap."""
    return _is_settled(a) & (_overdue(a, m) > COOLING_FACTOR)


def _is_active(a: Any, m: Any) -> Any:
    """Flag customers active in the recent days and before, and not cooling."""
    return _is_settled(a) & (_overdue(a, m) <= COOLING_FACTOR)


def _is_settled(a: Any) -> Any:
    return (a.recent_active_days > 0) & (a.recent_active_days < a.active_days)


def flag(m: Any, condition: Any) -> Any:
    """Return 1 where the condition is true, else 0."""
    return m.where(condition, 1.0, 0.0)


def entropy(a: Any, m: Any) -> Any:
    """Measure how widely purchases spread over categories, in nats: ln W - sum(w ln w) / W (Shannon 1948)."""
    total = m.where(a.category_weight > 0, a.category_weight, 1)
    return positive(m, m.log(total) - a.category_log / total)


def _since(last: Any, count: Any, a: Any, m: Any) -> Any:
    """Count the days since an event; the whole lookback where there was none."""
    return m.where(count > 0, a.as_of_day - last, 1.0 * a.lookback_days)


BLOCKS = {
    "rfm": "recency, frequency, money",
    "rhythm": "visit rhythm",
    "lifecycle": "lifecycle",
    "basket": "basket",
    "price": "price and brand",
    "returns": "returns",
    "time": "time of day and week",
    "channel": "channels",
    "breadth": "range of categories",
    "engagement": "engagement and response",
    "service": "service contacts",
    "needs": "needs",
    "demographic": "demographics",
    "geographic": "geography",
    "survey": "survey answers",
    "missing": "missing data",
}
EVERYONE = "all"  # segment of the row of all customers
IN_PART, NONE = "groups in part", "none"  # verdicts on segments of which some hold, or none
KEEP, REFIT, LOOK, PILOT = "keep", "refit", "look", "start a pilot"  # decisions on a run and on its segments
UNSTABLE, LEVEL_ONLY = "unstable", "level only"  # verdicts of segments that are not described
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_PARTS = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}
CANCEL = "cancel"  # kind of event that ends a contract
SERVICE_WORDS = ("support", "service", "ticket", "complaint", "call", "chat", "help")  # in kinds of service contact
COUPON_WORDS = ("coupon", "voucher", "promo")  # in kinds that use an offer


@dataclass(frozen=True)
class Feature:
    """One feature of a customer.

    Parameters
    ----------
    name, block, unit
        Column name; kind of data, a key of ``BLOCKS``; unit of the values.
    label, low_label
        What a high and a low value mean.
    formula
        The value from aggregates and an engine's mathematics; None for a column that is read as it is.
    requires
        Aggregates of the formula; without them there is no such feature.
    skewed
        Whether it is read on a log scale.
    direction
        1 where more is good for the business, -1 where it is bad, 0 where it is neither.
    in_space
        Whether the anticipation space is learnt on it; the other features only describe, as they repeat or add noise.
    """

    name: str
    block: str
    unit: str
    label: str
    low_label: str
    formula: Callable[[Any, Any], Any] | None = None
    requires: tuple[str, ...] = ()
    skewed: bool = False
    direction: int = 0
    in_space: bool = True


def _share(name: str, block: str, label: str, low_label: str, above: str, below: str, **more: Any) -> Feature:
    """Make a feature that is one aggregate as a share of another."""
    return Feature(
        name, block, "share", label, low_label, lambda a, m: ratio(m, a[above], a[below]), (above, below), **more
    )


def _stage(name: str, label: str, condition: Callable[[Any, Any], Any], *, direction: int = 0) -> Feature:
    """Make the flag of a stage of the lifecycle; every customer is in exactly one."""
    return Feature(
        f"stage_{name}", "lifecycle", "flag", label, f"not {label}", lambda a, m: flag(m, condition(a, m)),
        ("first_ever", "recent_active_days"), False, direction, in_space=False,
    )  # fmt: skip


FEATURES: tuple[Feature, ...] = (
    Feature("recency_days", "rfm", "days", "days since the last visit", "visited recently",
            lambda a, m: 1.0 * (a.as_of_day - a.last_day), ("last_day",), True, -1),
    Feature("orders", "rfm", "orders", "number of orders", "few orders",
            lambda a, m: 1.0 * a.orders, ("orders",), True, 1),
    Feature("spend", "rfm", "money", "spend", "low spend",
            lambda a, m: positive(m, a.spend), ("spend",), True, 1),
    Feature("active_days", "rhythm", "days", "active days", "few active days",
            lambda a, m: 1.0 * a.active_days, ("active_days",), True, 1),
    Feature("gap_days", "rhythm", "days", "days between visits", "short time between visits",
            gap_mean, ("gap_squared",), True, -1),
    Feature("gap_variation", "rhythm", "ratio", "irregular rhythm", "regular rhythm",
            _gap_variation, ("gap_squared",)),
    Feature("longest_gap_days", "rhythm", "days", "longest break between visits", "no long break between visits",
            lambda a, m: 1.0 * a.longest_gap, ("longest_gap",), True, -1),
    Feature("overdue", "rhythm", "ratio", "overdue by their usual pace", "on time by their usual pace",
            _overdue, ("gap_squared",), True, -1, in_space=False),
    Feature("age_days", "lifecycle", "days", "days since first seen", "new customers",
            lambda a, m: 1.0 * (a.as_of_day - a.first_ever), ("first_ever",), True, in_space=False),
    Feature("activity_trend", "lifecycle", "-1 to 1", "growing activity", "falling activity",
            lambda a, m: _trend(a.recent_active_days, a.active_days, a), ("recent_active_days",), False, 1),
    Feature("orders_trend", "lifecycle", "-1 to 1", "growing orders", "falling orders",
            lambda a, m: _trend(a.recent_orders, a.orders, a), ("recent_orders",), False, 1),
    Feature("spend_trend", "lifecycle", "-1 to 1", "growing spend", "falling spend",
            lambda a, m: _money_trend(a.recent_amount, a.amount, a, m), ("recent_amount",), False, 1, in_space=False),
    Feature("orders_recent", "lifecycle", "orders", "recent orders", "few recent orders",
            lambda a, m: 1.0 * a.recent_orders, ("recent_orders",), True, 1),
    Feature("spend_recent", "lifecycle", "money", "recent spend", "low recent spend",
            lambda a, m: positive(m, a.recent_amount), ("recent_amount",), True, 1),
    _stage("new", "new", lambda a, m: _is_new(a)),
    _stage("active", "active", _is_active, direction=1),
    _stage("cooling", "cooling: overdue by their usual pace", _is_cooling, direction=-1),
    _stage("lapsed", "lapsed: no recent activity", lambda a, m: _is_lapsed(a), direction=-1),
    _stage("returned", "back after a long break", lambda a, m: _is_returned(a), direction=1),
    Feature("order_value", "basket", "money", "large orders by value", "small orders by value",
            lambda a, m: ratio(m, a.amount, a.orders), ("amount", "orders"), True, 1),
    Feature("order_variation", "basket", "ratio", "orders of very different value", "orders of similar value",
            _order_variation, ("amount_squared", "orders")),
    Feature("lines_per_order", "basket", "lines", "large baskets", "small baskets",
            lambda a, m: ratio(m, a.lines, a.orders), ("lines", "orders"), True, 1),
    Feature("items_per_line", "basket", "items", "several items of the same product", "one item of each product",
            lambda a, m: ratio(m, a.units, a.lines), ("units", "lines"), True),
    Feature("line_value", "basket", "money", "expensive items", "inexpensive items",
            lambda a, m: ratio(m, a.amount, a.lines), ("amount", "lines"), True),
    Feature("margin_share", "basket", "share", "margin on what they buy", "low margin on what they buy",
            lambda a, m: ratio(m, a.amount - a.cost, a.amount), ("cost", "amount"), False, 1, in_space=False),
    Feature("discount_share", "price", "share", "share of the price saved by discounts", "full prices paid",
            lambda a, m: ratio(m, a.discount, a.amount + a.discount), ("discount", "amount"), False, -1),
    _share("discounted_lines_share", "price", "share of lines on discount", "few lines on discount",
           "discounted_lines", "lines", direction=-1),
    _share("private_label_share", "price", "share of own-label products", "mostly brands",
           "private_amount", "amount"),
    Feature("return_share", "returns", "share", "share of value returned", "few returns by value",
            lambda a, m: ratio(m, a.return_amount, a.amount + a.return_amount),
            ("n_return", "return_amount"), False, -1),
    Feature("returns_per_order", "returns", "returns", "returned lines per order", "few returned lines per order",
            lambda a, m: ratio(m, a.n_return, a.orders), ("n_return", "orders"), True, -1, in_space=False),
    _share("weekend_share", "time", "weekend visits", "weekday visits", "weekend_occasions", "occasions"),
    _share("morning_share", "time", "morning visits", "few morning visits", "occasions_morning", "occasions"),
    _share("afternoon_share", "time", "afternoon visits", "few afternoon visits",
           "occasions_afternoon", "occasions"),
    _share("evening_share", "time", "evening visits", "few evening visits", "occasions_evening", "occasions"),
    _share("night_share", "time", "night visits", "few night visits", "occasions_night", "occasions", in_space=False),
    *(
        _share(f"{day}_share", "time", f"{day.capitalize()} visits", f"few {day.capitalize()} visits",
               f"occasions_{day}", "occasions", in_space=False)
        for day in WEEKDAYS
    ),
    Feature("categories", "breadth", "categories", "many categories", "few categories",
            lambda a, m: 1.0 * a.categories, ("categories",), True, 1),
    Feature("category_entropy", "breadth", "nats", "spend spread over many categories", "spend on few categories",
            entropy, ("category_log", "category_weight"), False, 1),
    _share("top_category_share", "breadth", "one main category", "no main category",
           "top_category_weight", "category_weight"),
)  # fmt: skip


def activity_kinds(kinds: Mapping[str, str]) -> list[str]:
    """List the kinds of event that count as activity of a customer: their own, but for a cancel, which ends it.

    >>> activity_kinds({"purchase": "customer", "cancel": "customer", "email": "company"})
    ['purchase']
    """
    return [kind for kind, who in kinds.items() if who == "customer" and kind != CANCEL]


def kind_features(kinds: dict[str, str]) -> list[Feature]:
    """List the features of all kinds of event but purchase and return.

    Parameters
    ----------
    kinds
        Kind of event to who does it: ``customer`` or ``company``.

    Returns
    -------
    list
        Count and recency of each kind; uses of an offer per order; and response rates, which are events of the customer
        per event of the company, such as coupons redeemed per campaign received.
    """
    further = [kind for kind in sorted(kinds) if kind not in ("purchase", "return")]
    sent = [kind for kind in further if kinds[kind] == "company"]
    found = [_kind_count(kind, by_customer=kinds[kind] == "customer") for kind in further]
    found += [_kind_recency(kind) for kind in further]
    for kind in further:
        if kinds[kind] == "customer":
            found += [_per_order(kind)] if _mentions(kind, COUPON_WORDS) else []
            found += [_response(kind, to=other) for other in sent]
    return found


def _kind_count(kind: str, *, by_customer: bool) -> Feature:
    """Make the count of one kind of event."""
    words, column = kind.replace("_", " "), f"n_{kind}"
    return Feature(
        f"{kind}_count",
        _kind_block(kind),
        "events",
        f"{words} events" + ("" if by_customer else " (sent to them)"),
        f"few {words} events",
        lambda a, m: 1.0 * a[column],
        (column,),
        True,
    )


def channel_feature(channel: str) -> Feature:
    """Make the share of a customer's own events that used one channel."""
    above = f"channel_{channel}"
    words = f"use of {channel.replace('_', ' ')}"
    return _share(
        f"channel_{channel}_share",
        "channel",
        words,
        f"little use of {channel.replace('_', ' ')}",
        above,
        "channel_events",
    )


def is_skewed(name: str) -> bool:
    """Return whether a feature is read on a log scale, as counts and amounts are."""
    return describe(name).skewed


def block_of(name: str) -> str:
    """Return the block of a feature, a key of ``BLOCKS``."""
    return describe(name).block


def is_in_space(name: str) -> bool:
    """Return whether the anticipation space is learnt on a feature."""
    return describe(name).in_space


def is_from_days(name: str) -> bool:
    """Return whether a feature is summed from days, unlike shares of needs and attributes of the customer table.

    >>> is_from_days("orders"), is_from_days("needs: Fresh fruit"), is_from_days("missing: age")
    (True, False, False)
    """
    block, _, rest = name.partition(": ")
    return not rest or block not in BLOCKS


def describe(name: str) -> Feature:
    """Return the feature of a name; one that comes from the data is read from its name.

    >>> describe("email_open_count").label, describe("channel_web_share").block, describe("survey: size = 3").label
    ('email open events', 'channel', 'size: 3')
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if not is_from_days(name):
        role, _, rest = name.partition(": ")
        unit = "share" if role in ("needs", "missing") or " = " in rest else "value"
        return Feature(name, role, unit, rest.replace(" = ", ": "),
                       f"not {rest.replace(' = ', ': ')}", in_space=False)  # fmt: skip
    if name.startswith("channel_") and name.endswith("_share"):
        return channel_feature(name.removeprefix("channel_").removesuffix("_share"))
    if name.endswith("_recency_days"):
        return _kind_recency(name.removesuffix("_recency_days"))
    if name.endswith("_per_order"):
        return _per_order(name.removesuffix("_per_order"))
    if "_per_" in name and not name.endswith("_count"):
        kind, _, other = name.partition("_per_")
        return _response(kind, to=other)
    return _kind_count(name.removesuffix("_count"), by_customer=True)


def _kind_block(kind: str) -> str:
    return "service" if _mentions(kind, SERVICE_WORDS) else "price" if _mentions(kind, COUPON_WORDS) else "engagement"


def _mentions(kind: str, words: tuple[str, ...]) -> bool:
    return any(word in kind.lower() for word in words)


def _kind_recency(kind: str) -> Feature:
    words, last, count = kind.replace("_", " "), f"last_{kind}", f"n_{kind}"
    return Feature(f"{kind}_recency_days", _kind_block(kind), "days", f"days since the last {words} event",
                   f"recent {words} events",
                   lambda a, m: _since(a[last], a[count], a, m), (last, count), True, in_space=False)  # fmt: skip


def _per_order(kind: str) -> Feature:
    words, column = kind.replace("_", " "), f"n_{kind}"
    return Feature(f"{kind}_per_order", _kind_block(kind), "events", f"{words} per order", f"little {words} per order",
                   lambda a, m: ratio(m, a[column], a.orders), (column, "orders"), True, in_space=False)  # fmt: skip


def _response(kind: str, *, to: str) -> Feature:
    words, above, below = f"{kind} per {to}".replace("_", " "), f"n_{kind}", f"n_{to}"
    return Feature(f"{kind}_per_{to}", "engagement", "events", f"response rate: {words}", f"low response rate: {words}",
                   lambda a, m: ratio(m, a[above], a[below]), (above, below), True, 1, in_space=False)  # fmt: skip


_BY_NAME = {feature.name: feature for feature in FEATURES}
