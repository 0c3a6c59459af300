"""Update one customer's features event by event."""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from math import log
from typing import Any
from zoneinfo import ZoneInfo

from segkit.customers.days import PURCHASE, RETURN, Measure, available_measures, count_column
from segkit.customers.features import (
    MONDAY,
    PURCHASE_AGGREGATES,
    RECENT_AGGREGATES,
    WEEKS,
    PlainMath,
    available_features,
)
from segkit.errors import InputError
from segkit.period import RECENT_PART
from segkit.vocabulary import CANCEL, DAY_PARTS, WEEKDAYS

LOG_UNIT = 10**10  # w ln w is stored as an integer in this unit, as in the batch


class WeightTally:
    """Weights by category, with their number, sum, sum of w ln w, and maximum."""

    def __init__(self) -> None:
        self.weight: dict[str, int] = {}
        self.total, self.log, self.top = 0, 0, 0
        self.changed: set[str] = set()  # categories whose weight changed; the reader that follows them clears it
        self._days: dict[int, dict[str, int]] = {}
        self._stored: list[tuple[int, str, int]] = []  # of stored days, latest first

    def load_days(self, stored: Iterable[tuple[int, str, int]]) -> None:
        """Start from day, category and weight of stored days, earliest first."""
        self._stored = list(stored)[::-1]
        weight: dict[str, int] = {}
        for _, category, value in self._stored:
            weight[category] = weight.get(category, 0) + value
        self.weight = {category: value for category, value in weight.items() if value}
        values = self.weight.values()
        self.total, self.top = sum(values), max(values, default=0)
        self.log = sum([_w_log_w(value) for value in values])
        self.changed.update(self.weight)

    def add(self, day: int, category: str, weight: int) -> None:
        """Add a weight to a category on a day of the lookback."""
        of_day = self._days.setdefault(day, {})
        of_day[category] = of_day.get(category, 0) + weight
        self._change(category, weight)

    def drop_days(self, *, before: int) -> None:
        """Subtract the days before a day."""
        while self._stored and self._stored[-1][0] < before:
            _, category, weight = self._stored.pop()
            self._change(category, -weight)
        for day in [d for d in self._days if d < before]:
            for category, weight in self._days.pop(day).items():
                self._change(category, -weight)

    def aggregates(self) -> tuple[float, float, float, float]:
        """Return categories, category_weight, category_log, top_category_weight, as the formulas read them."""
        return float(len(self.weight)), float(self.total), self.log / LOG_UNIT, float(self.top)

    def _change(self, category: str, weight: int) -> None:
        if not weight:
            return
        self.changed.add(category)
        old = self.weight.get(category, 0)
        new = old + weight
        self.total += weight
        self.log += _w_log_w(new) - _w_log_w(old)
        if new:
            self.weight[category] = new
        else:
            del self.weight[category]
        if new > self.top:
            self.top = new
        elif weight < 0 and old == self.top:
            self.top = max(self.weight.values(), default=0)


def _w_log_w(weight: int) -> int:
    return round(weight * log(weight) * LOG_UNIT) if weight > 1 else 0


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

    @property
    def counts(self) -> dict[str, int]:
        """The position of the count of each further kind of event."""
        return {kind: self.position[count_column(kind)] for kind in self.kinds if kind not in (PURCHASE, RETURN)}

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
        found = []
        for position, column, condition in self.measures_by_kind[kind]:
            if condition is not None:
                flag = event.get(condition)
                if not flag or (flag is not True and money_units(flag) <= 0):
                    continue
            value = 1 if column is None else money_units(event.get(column))
            if value:
                found.append((position, value))
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


def _weekday_of(day: int) -> int:
    """Return the weekday of a day number; Monday is 0."""
    return (day + WEEKS + MONDAY - 1) % 7


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


ORDER_OPEN_DAYS = 92  # an order that left the lookback is remembered so long, for late lines
CLEANUP_DAYS = 7  # between two cleanups of what is too old
OWN_EVENTS = 0  # position of own_events among the aggregates of a day


class _FormulaInputs:
    """What formulas read: aggregates by attribute, or by name if the name comes from the data."""

    def __init__(self, values: dict[str, float]) -> None:
        self.__dict__ = values

    def __getitem__(self, name: str) -> float:
        return self.__dict__[name]


class Customer:
    """One customer, event by event: `add` events in any order, `tick` to advance time, `features` at any moment.

    The features equal those of the batch with `as_of` on the day after the clock's, so today counts. The clock is the
    latest time seen. An event_id counts once; an event older than the lookback only changes the customer's age.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan = plan
        self._today = -(10**7)
        self._last_cleanup = self._today
        self._first_ever = 10**7
        self._aggregates = [0] * len(plan.names)
        self._rows: dict[int, list[int]] = {}  # day -> its aggregates, within the lookback
        self._days: list[int] = []  # of the rows, ascending
        self._active: list[int] = []  # days with events of their own, ascending
        self._recent_active = 0
        self._gap_aggregates: tuple[int, int] | None = (0, 0)  # sum of squares, longest; None: to be recomputed
        # key -> [slot of the first own event, day, aggregates by position]
        self._orders: dict[Hashable, list[Any]] = {}
        self._last: dict[str, int] = {}  # kind -> last day of it
        self._seen: dict[Hashable, int] = {}  # event_id -> day
        self._category_tally, self._channel_tally = WeightTally(), WeightTally()

    @classmethod
    def from_days(
        cls,
        plan: FeaturePlan,
        *,
        today: int,
        first_ever: int,
        rows: Mapping[int, list[int]],
        bought: Iterable[tuple[int, str, int]] = (),
        by_channel: Iterable[tuple[int, str, int]] = (),
    ) -> "Customer":
        """Build a customer from stored days, as if their events had been added.

        Parameters
        ----------
        today
            Day number of the clock.
        first_ever
            First day with an event of their own in all of the history.
        bought, by_channel
            Day, name and weight (whole units), ordered by day.
        """
        customer = cls(plan)
        customer._today = customer._last_cleanup = today
        customer._first_ever = first_ever
        recent_start, occasions = today - plan.recent_days + 1, plan.position["occasions"]
        customer._days = days = sorted(rows)
        customer._rows = dict(rows)
        aggregates = [sum(column) for column in zip(*rows.values(), strict=True)] or [0] * len(plan.day_aggregates)
        recent_rows = [rows[day] for day in days if day >= recent_start]
        customer._aggregates = aggregates + [0] * (len(plan.names) - len(aggregates))
        for i, j in plan.recent_positions.items():
            customer._aggregates[j] = sum([row[i] for row in recent_rows])
        for day in days:
            customer._aggregates[plan.monday_position + _weekday_of(day)] += rows[day][occasions]
        customer._active = [day for day in days if rows[day][OWN_EVENTS] > 0]
        customer._recent_active, customer._gap_aggregates = sum([row[OWN_EVENTS] > 0 for row in recent_rows]), None
        for kind, i in plan.counts.items():
            customer._last[kind] = max((day for day in days if rows[day][i] > 0), default=0)
        customer._category_tally.load_days(bought)
        customer._channel_tally.load_days(by_channel)
        return customer

    def knows_order(self, order_id: Hashable) -> bool:
        """Return whether a line of the order was added, or the order was opened."""
        return order_id in self._orders

    def open_order(self, order_id: Hashable, *, day: int, slot: int | None, amount: int) -> None:
        """Register an order of the stored days, so that a late line is added to its first day."""
        position = self._plan.position.get("amount")
        self._orders[order_id] = [slot, day, {} if position is None else {position: amount}]

    @property
    def category_tally(self) -> WeightTally:
        """What they bought in the lookback by category, in whole units."""
        return self._category_tally

    def add(self, event: Mapping[str, Any]) -> bool:
        """Add an event; return False if its event_id was seen before.

        `event`: an event by the contract: timestamp, event (default purchase), and the columns of the plan that it has.
        Raises `InputError`: the source does not name the kind of event, or a time or number cannot be read.
        """
        plan, kind = self._plan, event.get("event") or PURCHASE
        if kind not in plan.measures_by_kind:
            raise InputError(f"event: unknown kind {kind!r}. The source names {', '.join(sorted(plan.kinds))}.")
        try:
            day, slot = plan.local_day_and_hour(event["timestamp"])
            changes = plan.changes(event, kind)
        except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
            raise InputError(
                f"event: its time or a number cannot be read ({error!r}). Send it as the contract describes."
            ) from None
        identity = event.get("event_id")
        if identity is not None:
            if identity in self._seen:
                return False
            self._seen[identity] = day
        if day > self._today:
            self._advance(day)
        bought, own = kind == PURCHASE, plan.kinds[kind] == "customer" and kind != CANCEL
        order_id = event.get("order_id") if bought and "order_id" in plan.columns else None
        key = (bought, day) if order_id is None else order_id
        self.add_piece(key, bought=bought, day=day, slot=slot if own else None, changes=changes)
        if not bought and day > self._last.get(kind, day - 1):
            self._last[kind] = day
        self._add_category_and_channel(event, bought=bought, own=own, day=day)
        return True

    def tick(self, time: datetime | str | float) -> None:
        """Advance the clock to a moment; an earlier one changes nothing."""
        day, _ = self._plan.local_day_and_hour(time)
        if day > self._today:
            self._advance(day)

    def features(self) -> dict[str, float]:
        """Compute the features by name; empty without an event of their own in the lookback."""
        if not self._active:
            return {}
        inputs = self._formula_inputs()
        return {name: formula(inputs, PlainMath) for name, formula in self._plan.formulas}

    def add_piece(self, key: Hashable, *, bought: bool, day: int, slot: int | None, changes: Changes) -> None:
        """Add to an order, or to the other events of a day; an earlier line moves the whole order to its day.

        Parameters
        ----------
        day
            Local day number.
        slot
            Hours since 1970 of the first event of their own; None if there is none.
        """
        position, parts = self._plan.position, self._plan.hour_positions
        order = self._orders.get(key)
        if order is None:
            order = self._orders[key] = [None, day, {}]
            changes = [*changes, (position["orders"], 1)] if bought else list(changes)
        elif day < order[1]:
            self._add_to_day(order[1], [(i, -value) for i, value in order[2].items()])
            order[1] = day
            self._add_to_day(day, list(order[2].items()))
        if slot is not None and (order[0] is None or slot < order[0]):
            if order[0] is None:
                changes = [*changes, (position["occasions"], 1)]
            else:
                changes = [*changes, (parts[order[0] % 24], -1)]
            changes.append((parts[slot % 24], 1))
            order[0] = slot
        order_totals, amount = order[2], position.get("amount")
        if bought and amount is not None:
            before, more = order_totals.get(amount, 0), sum([value for i, value in changes if i == amount])
            changes = [*changes, (position["amount_squared"], (2 * before + more) * more)]
        for i, value in changes:
            order_totals[i] = order_totals.get(i, 0) + value
        self._add_to_day(order[1], changes)
        if slot is not None and order[1] < self._first_ever:
            self._first_ever = order[1]

    def _add_to_day(self, day: int, changes: Changes) -> None:
        """Add to a day and, if it is in the lookback, to the aggregates."""
        plan, aggregates = self._plan, self._aggregates
        if day <= self._today - plan.lookback_days:
            return
        row = self._rows.get(day)
        if row is None:
            row = self._rows[day] = [0] * len(plan.day_aggregates)
            insort(self._days, day)
        own = row[OWN_EVENTS]
        is_recent = day > self._today - plan.recent_days
        recent, occasions = plan.recent_positions, plan.position["occasions"]
        for i, value in changes:
            row[i] += value
            aggregates[i] += value
            if is_recent and i in recent:
                aggregates[recent[i]] += value
            if i == occasions:
                aggregates[plan.monday_position + _weekday_of(day)] += value
        if (own > 0) != (row[OWN_EVENTS] > 0):
            self._set_active(day, recent=is_recent, on=own == 0)

    def _set_active(self, day: int, *, recent: bool, on: bool) -> None:
        """Mark a day as active or inactive."""
        active = self._active
        self._recent_active += (1 if on else -1) if recent else 0
        if not on:
            del active[bisect_left(active, day)]
            self._gap_aggregates = None
        elif active and day > active[-1] and self._gap_aggregates is not None:
            gap = day - active[-1]
            self._gap_aggregates = self._gap_aggregates[0] + gap * gap, max(self._gap_aggregates[1], gap)
            active.append(day)
        else:
            insort(active, day)
            self._gap_aggregates = None

    def _advance(self, today: int) -> None:
        """Move the clock: drop days from the recent part and from the lookback."""
        plan, days, rows, aggregates = self._plan, self._days, self._rows, self._aggregates
        old, self._today = self._today, today
        start, recent = today - plan.lookback_days + 1, today - plan.recent_days + 1
        for day in days[bisect_left(days, old - plan.recent_days + 1) : bisect_left(days, recent)]:
            for i, j in plan.recent_positions.items():
                aggregates[j] -= rows[day][i]
            self._recent_active -= rows[day][OWN_EVENTS] > 0
        expired = bisect_left(days, start)
        for day in days[:expired]:
            row = rows.pop(day)
            for i, value in enumerate(row):
                aggregates[i] -= value
            aggregates[plan.monday_position + _weekday_of(day)] -= row[plan.position["occasions"]]
            if row[OWN_EVENTS] > 0:
                self._drop_first_active_day()
        del days[:expired]
        self._category_tally.drop_days(before=start)  # a line of an order of several days has no row on its own day
        self._channel_tally.drop_days(before=start)
        if today >= self._last_cleanup + CLEANUP_DAYS:
            self._drop_expired(before=start - ORDER_OPEN_DAYS)

    def _drop_first_active_day(self) -> None:
        active = self._active
        first = active.pop(0)
        gap = active[0] - first if active else 0
        if self._gap_aggregates is not None:
            self._gap_aggregates = (
                None
                if gap and gap == self._gap_aggregates[1]
                else (self._gap_aggregates[0] - gap * gap, self._gap_aggregates[1])
            )

    def _drop_expired(self, *, before: int) -> None:
        """Drop orders and ids that are too old to appear again."""
        self._last_cleanup = self._today
        self._orders = {key: order for key, order in self._orders.items() if order[1] >= before}
        self._seen = {identity: day for identity, day in self._seen.items() if day >= before}

    def _add_category_and_channel(self, event: Mapping[str, Any], *, bought: bool, own: bool, day: int) -> None:
        plan = self._plan
        if day <= self._today - plan.lookback_days:
            return
        needed = own and (event.get("event") or PURCHASE) != RETURN
        if needed and "category" in plan.columns and event.get("category") is not None:
            names, weight = event["category"], plan.weight(event, bought=bought)
            if isinstance(names, str):
                self._category_tally.add(day, names, weight)
            else:  # equal parts that add up to the weight
                least, more = divmod(weight, len(names))
                for place, name in enumerate(names):
                    self._category_tally.add(day, name, least + (place < more))
        if own and "channel" in plan.columns and event.get("channel") is not None:
            self._channel_tally.add(day, event["channel"], 1)

    def _formula_inputs(self) -> _FormulaInputs:
        plan, active, today = self._plan, self._active, self._today
        values = dict(zip(plan.names, [s / u for s, u in zip(self._aggregates, plan.scales, strict=True)], strict=True))
        if self._gap_aggregates is None:
            gap_days = [later - day for day, later in zip(active, active[1:], strict=False)]
            self._gap_aggregates = sum([gap * gap for gap in gap_days]), max(gap_days, default=0)
        values["gap_squared"], values["longest_gap"] = self._gap_aggregates
        values["active_days"], values["recent_active_days"] = len(active), self._recent_active
        values["first_day"], values["last_day"], values["first_ever"] = active[0], active[-1], self._first_ever
        values["as_of_day"], values["lookback_days"], values["recent_days"] = (
            today + 1,
            plan.lookback_days,
            plan.recent_days,
        )
        values["weekend_occasions"] = values["occasions_saturday"] + values["occasions_sunday"]
        if "amount" in values:
            net, i = self._aggregates, plan.position
            values["spend"] = (net[i["amount"]] + net[i["other_amount"]] - net[i["return_amount"]]) / UNIT
        for kind in plan.kinds:
            values[f"last_{kind}"] = self._last.get(kind, 0)
        values.update(zip(CATEGORY_AGGREGATES, self._category_tally.aggregates(), strict=True))
        values["channel_events"] = self._channel_tally.total
        for channel in plan.channels:
            values[f"channel_{channel}"] = self._channel_tally.weight.get(channel, 0)
        return _FormulaInputs(values)
