"""Turn the live events of one customer into additions to their days: which sums change, on which day, by how much."""

import math
from array import array
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from segkit.customers.days import PURCHASE, RETURN, Measure, available_measures, count_column
from segkit.customers.features import PURCHASE_AGGREGATES, RECENT_AGGREGATES, available_features
from segkit.errors import InputError
from segkit.period import RECENT_PART
from segkit.vocabulary import CANCEL, DAY_PARTS, WEEKDAYS

UNIT = 10_000  # money is counted in ten-thousandths, so that adding and subtracting are exact
EXACT, NEARLY_HALF = 10**11, 0.49  # units of a float below which its product is exact enough
EPOCH_ORDINAL = datetime(1970, 1, 1).toordinal()
DAY_AGGREGATES = (
    *("active_days", "recent_active_days", "first_day", "last_day", "first_ever", "gap_squared", "longest_gap"),
    *("weekend_occasions", "as_of_day", "lookback_days", "recent_days"),
)
CATEGORY_AGGREGATES = ("categories", "category_weight", "category_log", "top_category_weight")
Changes = list[tuple[int, int]]  # positions of aggregates, and what is added to them


@dataclass(frozen=True)
class FeaturePlan:
    """The aggregates of a customer in storage order, their scales, and the formulas on them.

    The order is: aggregates of each day, those of recent days, then occasions by weekday.
    """

    timezone: ZoneInfo
    lookback_days: int
    columns: frozenset[str]
    kinds: Mapping[str, str]
    channels: tuple[str, ...]
    day_aggregates: tuple[str, ...]
    names: tuple[str, ...]
    scales: tuple[int, ...]
    position: Mapping[str, int]
    recent_positions: Mapping[int, int]  # position of a day's aggregate -> position of its recent one
    monday_position: int  # position of the occasions on Mondays
    hour_positions: tuple[int, ...]  # hour -> position of its part of the day
    # kind -> position, column, condition
    measures_by_kind: Mapping[str, tuple[tuple[int, str | None, str | None], ...]]
    formulas: tuple[tuple[str, Callable[[Any, Any], float]], ...]
    weighs: bool  # categories are weighed in money or parts of an event, in ten-thousandths; else events are counted

    @cached_property
    def counts(self) -> dict[str, int]:
        """The position of the count of each further kind of event."""
        return {kind: self.position[count_column(kind)] for kind in self.kinds if kind not in (PURCHASE, RETURN)}

    @cached_property
    def channel_numbers(self) -> dict[str, int]:
        """The number of each channel with a share of its own; all others share the number after the last."""
        return {name: number for number, name in enumerate(self.channels)}

    @property
    def recent_days(self) -> int:
        """The length of the recent part of the lookback, in days."""
        return max(1, self.lookback_days // RECENT_PART)

    def local_day_and_hour(self, timestamp: datetime | str | float) -> tuple[int, int]:
        """Convert a time to its local day number and hours since 1970.

        Text is ISO, UTC if it has no zone; a number is in seconds.
        """
        return day_and_hour(timestamp, self.timezone)

    def changes(self, event: Mapping[str, Any], kind: str) -> Changes:
        """Compute what an event adds to the aggregates of its day."""
        found, units = [], {None: 1}
        for position, column, condition in self.measures_by_kind[kind]:
            if condition is not None:
                flag = event.get(condition)
                if not flag or (flag is not True and money_units(flag) <= 0):
                    continue
            if column not in units:
                units[column] = money_units(event.get(column))
            if units[column]:
                found.append((position, units[column]))
        return found

    def weight(self, event: Mapping[str, Any], *, bought: bool) -> int:
        """Compute the weight of an event in its category: the amount of a purchase, 1 if there is no money."""
        if not self.weighs:
            return 1
        return money_units(event.get("amount")) if bought and "amount" in self.columns else money_units(1)


def make_feature_plan(
    columns: tuple[str, ...],
    *,
    kinds: Mapping[str, str],
    timezone: str = "UTC",
    lookback_days: int = 182,
    channels: tuple[str, ...] = (),
    weighs: bool | None = None,
) -> FeaturePlan:
    """Determine the features that events with these columns allow; one plan serves any number of customers.

    Parameters
    ----------
    columns
        Columns of the source's events, by the contract.
    kinds
        'customer' or 'company' by kind of event.
    lookback_days
        As in the batch that the segments were made from.
    channels
        Channels with a share of their own, as in that batch.
    weighs
        Whether categories are weighed; by default where there is money.
    """
    available = available_measures(columns, kinds=dict(kinds))
    extra = ["orders", "occasions", *(f"occasions_{part}" for part in DAY_PARTS)]
    extra += ["amount_squared"] if "amount" in columns else []
    day_aggregates = [*(m.name for m in available), *extra]
    scales = [UNIT if m.column else 1 for m in available] + [
        UNIT**2 if name == "amount_squared" else 1 for name in extra
    ]
    position = {name: i for i, name in enumerate(day_aggregates)}
    recent = [name for name in RECENT_AGGREGATES if name in position]
    names = [*day_aggregates, *(f"recent_{name}" for name in recent), *(f"occasions_{day}" for day in WEEKDAYS)]
    scales += [scales[position[name]] for name in recent] + [1] * len(WEEKDAYS)
    return FeaturePlan(
        timezone=ZoneInfo(timezone),
        lookback_days=lookback_days,
        columns=frozenset(columns),
        kinds=dict(kinds),
        channels=tuple(channels),
        day_aggregates=tuple(day_aggregates),
        names=tuple(names),
        scales=tuple(scales),
        position=position,
        recent_positions={position[name]: len(day_aggregates) + i for i, name in enumerate(recent)},
        monday_position=len(day_aggregates) + len(recent),
        hour_positions=_day_part_positions(position),
        measures_by_kind={kind: _measures_of_kind(kind, available, done_by=kinds[kind]) for kind in kinds},
        formulas=_feature_formulas(names, columns, kinds=kinds, channels=channels),
        weighs="amount" in columns if weighs is None else weighs,
    )


def money_units(value: Any) -> int:
    """Convert an amount to whole ten-thousandths, halves away from zero as in the batch; None counts as zero.

    Raises `ValueError`: the amount is not a finite number, or is below zero.
    """
    if value is None:
        return 0
    if isinstance(value, float) and math.isfinite(value):
        units = round(value * UNIT)
        if 0 <= units < EXACT and abs(value * UNIT - units) < NEARLY_HALF:
            return units
    exact = Decimal(int(value)) if isinstance(value, int) else Decimal(str(value))
    units = int((exact * UNIT).to_integral_value(ROUND_HALF_UP)) if exact.is_finite() else -1
    if units < 0:
        raise ValueError(f"{value} is not an amount of zero or more")
    return units


@lru_cache(maxsize=4096)
def day_and_hour(timestamp: datetime | str | float, timezone: tzinfo) -> tuple[int, int]:
    """Convert a time, cached because the lines of an order share theirs."""
    if isinstance(timestamp, int | float):
        local = datetime.fromtimestamp(timestamp, timezone)
    else:
        read = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else timestamp
        local = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(timezone)
    day = local.toordinal() - EPOCH_ORDINAL
    return day, day * 24 + local.hour


def _measures_of_kind(
    kind: str, measures: list[Measure], *, done_by: str
) -> tuple[tuple[int, str | None, str | None], ...]:
    """Select the measures that an event of a kind adds to."""
    groups = {kind}
    if kind == PURCHASE:
        groups.add("bought")
    if kind == RETURN:
        groups.add("returned")
    if done_by == "customer" and kind != CANCEL:  # a cancel is no activity
        groups |= {"own"} if kind in (PURCHASE, RETURN) else {"own", "other"}
    return tuple((i, m.column, m.condition) for i, m in enumerate(measures) if m.group in groups)


def _day_part_positions(position: Mapping[str, int]) -> tuple[int, ...]:
    hours = [(position[f"occasions_{part}"], start, end) for part, (start, end) in DAY_PARTS.items()]
    return tuple(next(where for where, start, end in hours if start <= hour < end) for hour in range(24))


def _feature_formulas(
    names: list[str], columns: tuple[str, ...], *, kinds: Mapping[str, str], channels: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any, Any], float]], ...]:
    """Select the features whose aggregates are available, as in the batch."""
    aggregates = [*names, *DAY_AGGREGATES, *(f"last_{kind}" for kind in kinds if kind not in (PURCHASE, RETURN))]
    aggregates += ["spend"] if "amount" in columns else []
    aggregates += CATEGORY_AGGREGATES if "category" in columns else ()
    aggregates += ["channel_events", *(f"channel_{name}" for name in channels)] if "channel" in columns else []
    if PURCHASE not in kinds:
        aggregates = [name for name in aggregates if name not in PURCHASE_AGGREGATES]
    return tuple(
        (f.name, f.formula) for f in available_features(tuple(aggregates), kinds=dict(kinds), channels=channels)
    )


NEVER = 10**7  # first day of a customer without an event of their own
SQUARE_PART = 10**12  # the sum of squares is kept in two numbers, as one would not hold it
OWN_EVENTS = 0  # position of own_events among the aggregates of a day
COMPACT_AFTER = 600  # additions of a customer, from which on those to the same sum of a day are added up


class Mark(NamedTuple):
    """How far a customer had come: the length of each array of `Since`, the first day ever and the last one."""

    sums: int = 0
    bought: int = 0
    channels: int = 0
    first_ever: int = NEVER
    last_day: int = -NEVER


class Since:
    """What one customer did since the run, as additions to days that may come in any order.

    Three flat arrays hold a day, a number and a value for each addition, one after the other: ``sums`` by position of
    an aggregate (the upper part of a square after the last one), ``bought`` by number of a category, ``channels`` by
    number of a channel. They only grow, so that a `Mark` tells what was known at an earlier event.
    """

    __slots__ = ("_compact", "bought", "channels", "first_ever", "last_day", "orders", "sums")

    def __init__(self) -> None:
        self.sums, self.bought, self.channels = array("d"), array("d"), array("d")  # whole numbers, exact up to 2**53
        self.first_ever, self.last_day, self._compact = NEVER, -NEVER, COMPACT_AFTER
        # key -> slot of the first own event, day, aggregates by position
        self.orders: dict[Hashable, list[Any]] = {}

    def mark(self) -> Mark:
        """Return how far the customer has come."""
        return Mark(len(self.sums), len(self.bought), len(self.channels), self.first_ever, self.last_day)

    def compact(self) -> None:
        """Add up what adds to the same sum, so that a customer of very many events stays small; marks are void then."""
        if len(self.sums) + len(self.bought) <= 3 * self._compact:
            return
        self.sums, self.bought, self.channels = map(_add_up, (self.sums, self.bought, self.channels))
        self._compact = max(COMPACT_AFTER, 2 * (len(self.sums) + len(self.bought)) // 3)

    def open_order(self, order_id: Hashable, *, day: int, slot: int | None, amount: int, plan: FeaturePlan) -> None:
        """Register an order of the run, so that a late line is added to its first day."""
        position = plan.position.get("amount")
        self.orders[order_id] = [slot, day, {} if position is None else {position: amount}]

    def add(self, event: Mapping[str, Any], *, plan: FeaturePlan, categories: dict[str, int]) -> None:
        """Add an event.

        Parameters
        ----------
        event
            By the contract: timestamp, event (default purchase), and the columns of the plan that it has.
        categories
            Gives the number of each category, a new one too.

        Raises
        ------
        InputError
            The source does not name the kind of event, or a time or number cannot be read; nothing is changed.
        """
        kind = event.get("event") or PURCHASE
        if kind not in plan.measures_by_kind:
            raise InputError(f"event: unknown kind {kind!r}. The source names {', '.join(sorted(plan.kinds))}.")
        try:
            day, slot = plan.local_day_and_hour(event["timestamp"])
            changes = plan.changes(event, kind)
        except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
            raise InputError(
                f"event: its time or a number cannot be read ({error!r}). Send it as the contract describes."
            ) from None
        self.last_day = max(self.last_day, day)
        bought, own = kind == PURCHASE, plan.kinds[kind] == "customer" and kind != CANCEL
        order_id = event.get("order_id") if bought and "order_id" in plan.columns else None
        key = (bought, day) if order_id is None else order_id
        self._add_piece(key, bought=bought, day=day, slot=slot if own else None, changes=changes, plan=plan)
        if own and kind != RETURN and "category" in plan.columns and event.get("category") is not None:
            weight = plan.weight(event, bought=bought)
            self._add_categories(event["category"], day=day, weight=weight, numbers=categories)
        if own and "channel" in plan.columns and event.get("channel") is not None:
            number = plan.channel_numbers.get(event["channel"], len(plan.channels))
            self.channels.extend((day, number, 1))

    def _add_piece(
        self, key: Hashable, *, bought: bool, day: int, slot: int | None, changes: Changes, plan: FeaturePlan
    ) -> None:
        """Add to an order, or to the other events of a day; an earlier line moves the whole order to its day.

        Parameters
        ----------
        day
            Local day number.
        slot
            Hours since 1970 of the first event of their own; None if there is none.
        """
        position, parts = plan.position, plan.hour_positions
        order = self.orders.get(key)
        if order is None:
            order = self.orders[key] = [None, day, {}]
            if bought:
                changes.append((position["orders"], 1))
        elif day < order[1]:
            self._put(order[1], [(i, -value) for i, value in order[2].items()], plan=plan)
            order[1] = day
            self._put(day, list(order[2].items()), plan=plan)
        if slot is not None and (order[0] is None or slot < order[0]):
            if order[0] is None:
                changes.append((position["occasions"], 1))
            else:
                changes.append((parts[order[0] % 24], -1))
            changes.append((parts[slot % 24], 1))
            order[0] = slot
        order_totals, amount = order[2], position.get("amount")
        if bought and amount is not None:
            before, more = order_totals.get(amount, 0), sum([value for i, value in changes if i == amount])
            changes.append((position["amount_squared"], (2 * before + more) * more))
        for i, value in changes:
            order_totals[i] = order_totals.get(i, 0) + value
        self._put(order[1], changes, plan=plan)
        if slot is not None and order[1] < self.first_ever:
            self.first_ever = order[1]

    def _put(self, day: int, changes: Changes, *, plan: FeaturePlan) -> None:
        square = plan.position.get("amount_squared")
        for i, value in changes:
            if i == square:
                high, value = divmod(value, SQUARE_PART)
                if high:
                    self.sums.extend((day, len(plan.names), high))
            self.sums.extend((day, i, value))

    def _add_categories(self, names: Any, *, day: int, weight: int, numbers: dict[str, int]) -> None:
        if isinstance(names, str):
            self.bought.extend((day, numbers[names], weight))
            return
        least, more = divmod(weight, len(names))  # equal parts that add up to the weight
        for place, name in enumerate(names):
            self.bought.extend((day, numbers[name], least + (place < more)))


def _add_up(entries: array) -> array:
    """Add up the values of the same day and number."""
    found: dict[tuple[float, float], float] = {}
    for day, number, value in zip(entries[::3], entries[1::3], entries[2::3], strict=True):
        found[day, number] = found.get((day, number), 0.0) + value
    return array("d", [each for (day, number), value in found.items() if value for each in (day, number, value)])
