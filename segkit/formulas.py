"""The arithmetic behind features: on a customer's sums `a`, by the functions `m` of a runtime, once for all runtimes.

`a` holds sums over the lookback (customers.sums says which), all floating; `m` has where, sqrt, log: numpy's for a
batch, Ibis' inside a warehouse, plain Python's for one live customer.
"""

from typing import Any

COOLING = 2.0  # usual gaps of silence from which a customer cools


def ratio(m: Any, above: Any, below: Any, *, empty: float = 0.0) -> Any:
    """above / below, and `empty` where there is nothing to divide by."""
    has_base = below > 0
    return m.where(has_base, above / m.where(has_base, below, 1), empty)


def positive(m: Any, value: Any) -> Any:
    """The value, and zero where it is below."""
    return m.where(value > 0, value, 0.0)


def gap_mean(a: Any, m: Any) -> Any:
    """Days between active days; a customer seen on one day is given the whole lookback."""
    return ratio(m, a.last_day - a.first_day, a.active_days - 1, empty=1.0 * a.lookback_days)


def gap_variation(a: Any, m: Any) -> Any:
    """Standard deviation of the gaps over their mean; zero for a clockwork, about one for chance."""
    n_gap = a.active_days - 1
    mean = ratio(m, a.last_day - a.first_day, n_gap)
    variance = ratio(m, a.gap_squared, n_gap) - mean * mean
    return ratio(m, m.sqrt(positive(m, variance)), mean)


def overdue(a: Any, m: Any) -> Any:
    """Days of silence in usual gaps: above one, they should have come by now."""
    return (a.as_of_day - a.last_day) / gap_mean(a, m)


def order_variation(a: Any, m: Any) -> Any:
    """Standard deviation of order values over their mean."""
    mean = ratio(m, a.amount, a.orders)
    variance = ratio(m, a.amount_squared, a.orders) - mean * mean
    return ratio(m, m.sqrt(positive(m, variance)), mean)


def trend(recent: Any, total: Any, a: Any) -> Any:
    """Recent rate against the earlier one: -1 (stopped) to 1 (all of it recent), shrunk where little is known."""
    early = (total - recent) / (a.lookback_days - a.recent_days)
    late = recent / a.recent_days
    return (late - early) / (late + early + 1.0 / a.lookback_days)


def money_trend(recent: Any, total: Any, a: Any, m: Any) -> Any:
    """The same for money, which has no natural unit to shrink by: zero where there is none."""
    early = (total - recent) / (a.lookback_days - a.recent_days)
    late = recent / a.recent_days
    return ratio(m, late - early, late + early)


def is_new(a: Any) -> Any:
    """First seen lately."""
    return a.as_of_day - a.first_ever <= a.recent_days


def is_returned(a: Any) -> Any:
    """Known before, silent for the earlier part of the lookback, and back."""
    return (a.as_of_day - a.first_ever > a.recent_days) & (a.recent_active_days == a.active_days)


def is_lapsed(a: Any) -> Any:
    """Nothing lately."""
    return a.recent_active_days == 0


def is_cooling(a: Any, m: Any) -> Any:
    """Active lately and before, and silent for longer than twice their usual gap."""
    return _is_settled(a) & (overdue(a, m) > COOLING)


def is_active(a: Any, m: Any) -> Any:
    """Active lately and before, and not cooling."""
    return _is_settled(a) & (overdue(a, m) <= COOLING)


def _is_settled(a: Any) -> Any:
    return (a.recent_active_days > 0) & (a.recent_active_days < a.active_days)


def flag(m: Any, condition: Any) -> Any:
    """One where the condition holds, else zero."""
    return m.where(condition, 1.0, 0.0)


def entropy(a: Any, m: Any) -> Any:
    """Spread of what was bought over categories, in nats: ln W - sum(w ln w) / W (Shannon 1948)."""
    whole = m.where(a.category_weight > 0, a.category_weight, 1)
    return positive(m, m.log(whole) - a.category_log / whole)


def since(last: Any, count: Any, a: Any, m: Any) -> Any:
    """Days since something was last done; the whole lookback where it was not."""
    return m.where(count > 0, a.as_of_day - last, 1.0 * a.lookback_days)
