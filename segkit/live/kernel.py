"""Compute the features of many live customers at once, as columns: what a commit, a tick and a look share.

Sums are of whole numbers, and all else works on one customer's row, so nothing depends on who is computed together.
"""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segkit.customers.features import MONDAY, WEEKS, NumpyMath
from segkit.live.customer import (
    CATEGORY_AGGREGATES,
    NEVER,
    OWN_EVENTS,
    SQUARE_PART,
    UNIT,
    FeaturePlan,
    Mark,
    Since,
)
from segkit.live.history import RunHistory, expand

LOG_UNIT = 10**10  # w ln w is rounded to this unit, as in the batch
KEYS = 2**32  # more than there are days, categories or terms
LISTS = ("sums", "bought", "channels")
WEEK = 7  # days


class Entries(NamedTuple):
    """Additions to the days of customers: whose, on which day, to which sum, category or channel, and how much."""

    of: np.ndarray
    day: np.ndarray
    key: np.ndarray
    value: np.ndarray

    def where(self, rows: np.ndarray) -> "Entries":
        """Select by a mask."""
        return Entries(*(column[rows] for column in self))

    def __add__(self, other: "Entries") -> "Entries":
        """Join two; an empty one costs nothing."""
        if not len(other.of):
            return self
        return Entries(*map(np.concatenate, zip(self, other, strict=True))) if len(self.of) else other


class Ragged(NamedTuple):
    """Values by customer and key, sorted: those of customer i are from ``starts[i]`` to before ``starts[i + 1]``."""

    starts: np.ndarray
    key: np.ndarray
    value: np.ndarray

    @property
    def of(self) -> np.ndarray:
        """Whose each value is."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def take(self, customers: np.ndarray) -> "Ragged":
        """Return the values of some customers, in their order."""
        counts = np.diff(self.starts)[customers]
        _, rows = expand(self.starts[customers], counts)
        return Ragged(np.append(0, np.cumsum(counts)), self.key[rows], self.value[rows])

    def plus(self, entries: Entries) -> "Ragged":
        """Add to the values."""
        if not len(entries.of):
            return self
        own = Entries(self.of, self.key, self.key, self.value)
        return add_up(own + entries, customers=len(self.starts) - 1)


class Stands(NamedTuple):
    """Customers at moments, a row each.

    Parameters
    ----------
    number
        Place in the history of the run, -1 for none.
    today
        Day number of the clock, no earlier than the last event.
    first_ever
        First day with an event of their own since the run.
    added
        What events since the run add: to sums, to categories, to channels.
    """

    number: np.ndarray
    today: np.ndarray
    first_ever: np.ndarray
    added: tuple[Entries, ...]


class Steps(NamedTuple):
    """Moments that follow on stands: the stand of each, and what is added to it by then."""

    of: np.ndarray
    first_ever: np.ndarray
    added: tuple[Entries, ...]


class Features(NamedTuple):
    """Features of customers; without an event of their own in the lookback a row is zero.

    ``has`` flags those with one; ``values`` are customers x formulas; ``bought`` is whole units by number of category.
    """

    has: np.ndarray
    values: np.ndarray
    bought: Ragged


class _Base(NamedTuple):
    """What features are computed from: sums of the lookback by position, and values by day, category and channel."""

    today: np.ndarray
    first_ever: np.ndarray
    totals: np.ndarray  # customers x positions; the last is the upper part of the sum of squares
    last: np.ndarray  # customers x further kinds: the last day of each
    active: Ragged  # events of their own by day
    bought: Ragged
    channels: np.ndarray  # customers x channels, then all others


class _Inputs:
    """What formulas read: aggregates by attribute, or by name if the name comes from the data."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__ = values

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]


class Numbers(dict[str, int]):
    """Numbers of names; a new name gets the next one."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


def entries_of(parts: Sequence[tuple[Since, Mark, Mark]]) -> tuple[Entries, ...]:
    """Collect what was added to each customer between two marks; `of` counts the parts."""
    return tuple(_entries(parts, name=name) for name in LISTS)


def _entries(parts: Sequence[tuple[Since, Mark, Mark]], *, name: str) -> Entries:
    place, flat, counts = LISTS.index(name), array("d"), []
    for since, first, end in parts:
        if first[place] < end[place]:
            flat += getattr(since, name)[first[place] : end[place]]
        counts.append(end[place] - first[place])
    table = np.frombuffer(flat).reshape(-1, 3) if flat else np.zeros((0, 3))
    whole = table[:, :2].astype(np.int64)
    return Entries(
        np.repeat(np.arange(len(counts)), np.array(counts, dtype=np.int64) // 3), whole[:, 0], whole[:, 1], table[:, 2]
    )


def add_up(entries: Entries, *, customers: int) -> Ragged:
    """Add up what has the same customer and key; days are ignored, and sums of zero or less left out."""
    packed = entries.of * KEYS + entries.key
    order = packed.argsort(kind="stable")
    packed = packed[order]
    first = np.flatnonzero(np.append(True, packed[1:] != packed[:-1]))[: len(packed)]
    value = np.add.reduceat(entries.value[order], first) if len(first) else entries.value
    packed, value = packed[first][value > 0], value[value > 0]
    of, key = packed // KEYS, packed % KEYS
    return Ragged(of.searchsorted(np.arange(customers + 1)), key, value)


def weekday_of(day: np.ndarray) -> np.ndarray:
    """Return the weekday of day numbers; Monday is 0."""
    return (day + WEEKS + MONDAY - 1) % WEEK


class Kernel:
    """Features of customers of a run with live events, any number at once.

    Parameters
    ----------
    plan
        The aggregates and formulas.
    history
        The customers of the run; None for none.
    """

    def __init__(self, plan: FeaturePlan, *, history: RunHistory | None = None) -> None:
        self._plan = plan
        self._tables = history.tables if history else {}
        self._first_ever = np.append(history.first_ever if history else [], NEVER).astype(np.int64)
        names = history.names if history else {}
        self.categories = Numbers((name, i) for i, name in enumerate(names.get("day_categories", [])))
        others = len(plan.channels)
        channels = [plan.channel_numbers.get(name, others) for name in names.get("day_channels", [])]
        self._channel_of = np.array(channels, dtype=np.int64)
        self._width = len(plan.names) + 1
        self._recent = np.full(self._width, -1)
        self._recent[list(plan.recent_positions)] = list(plan.recent_positions.values())
        self._kinds = {position: number for number, position in enumerate(plan.counts.values())}
        self._scales = np.array(plan.scales, dtype=float)

    def features(self, stands: Stands, *, steps: Steps | None = None) -> Features:
        """Compute the features of stands, or of the steps that follow on them."""
        base = self._base(stands)
        return self._compute(base if steps is None else self._follow(base, steps))

    def _base(self, stands: Stands) -> _Base:
        plan, customers = self._plan, len(stands.number)
        start = stands.today - plan.lookback_days + 1
        sums, bought, channels = (entries.where(entries.day >= start[entries.of]) for entries in stands.added)
        totals, last = np.zeros((customers, self._width)), np.zeros((customers, len(self._kinds)), dtype=np.int64)
        active = self._add_history(stands, totals, last, start=start)
        self._add(sums, totals, last, today=stands.today)
        own = sums.where(sums.key == OWN_EVENTS)
        bought = self._named("day_categories", stands.number, start=start) + bought
        channels = self._named("day_channels", stands.number, start=start) + channels
        return _Base(
            stands.today,
            np.minimum(self._first_ever[stands.number], stands.first_ever),
            totals,
            last,
            add_up(active + own._replace(key=own.day), customers=customers),
            add_up(bought, customers=customers),
            self._by_channel(channels, customers=customers),
        )

    def _follow(self, base: _Base, steps: Steps) -> _Base:
        """Return the base of steps: that of their stands, and what was added."""
        today, totals, last = base.today[steps.of], base.totals[steps.of], base.last[steps.of]
        start = today - self._plan.lookback_days + 1
        sums, bought, channels = (entries.where(entries.day >= start[entries.of]) for entries in steps.added)
        self._add(sums, totals, last, today=today)
        own = sums.where(sums.key == OWN_EVENTS)
        return _Base(
            today,
            np.minimum(base.first_ever[steps.of], steps.first_ever),
            totals,
            last,
            base.active.take(steps.of).plus(own._replace(key=own.day)),
            base.bought.take(steps.of).plus(bought),
            base.channels[steps.of] + self._by_channel(channels, customers=len(today)),
        )

    def _add_history(self, stands: Stands, totals: np.ndarray, last: np.ndarray, *, start: np.ndarray) -> Entries:
        """Add the days of the run to totals and last days; return the events of their own by day."""
        nothing = np.zeros(0, dtype=np.int64)
        if "days" not in self._tables:
            return Entries(nothing, nothing, nothing, np.zeros(0))
        plan, days, customers = self._plan, self._tables["days"], len(stands.number)
        of, rows = days.of(stands.number)
        day = days.columns["day"][rows]
        inside = day >= start[of]
        of, day, sums = of[inside], day[inside], days.columns["sums"][rows[inside]]
        own = sums[:, OWN_EVENTS]
        if not len(of):
            return Entries(of, day, day, own)
        counts = np.bincount(of, minlength=customers)
        has = counts > 0
        whole = np.add.reduceat(sums, (np.cumsum(counts) - counts)[has], axis=0)
        squares = plan.day_aggregates[-1] == "amount_squared"
        width = len(plan.day_aggregates) - squares
        totals[has, :width] = whole[:, :width]
        if squares:
            totals[has, -1], totals[has, width] = whole[:, width], whole[:, width + 1]
        recent = day >= (stands.today - plan.recent_days + 1)[of]
        for i, j in plan.recent_positions.items():
            totals[:, j] = np.bincount(of[recent], weights=sums[recent, i], minlength=customers)
        week = np.bincount(
            of * WEEK + weekday_of(day), weights=sums[:, plan.position["occasions"]], minlength=customers * WEEK
        )
        totals[:, plan.monday_position : plan.monday_position + WEEK] = week.reshape(-1, WEEK)
        for i, kind in self._kinds.items():
            counted = sums[:, i] > 0
            np.maximum.at(last[:, kind], of[counted], day[counted])
        return Entries(of, day, day, own)

    def _add(self, entries: Entries, totals: np.ndarray, last: np.ndarray, *, today: np.ndarray) -> None:
        """Add entries within the lookback to totals and last days."""
        if not len(entries.of):
            return
        plan, (of, day, key, value) = self._plan, entries
        recent = (self._recent[key] >= 0) & (day >= (today - plan.recent_days + 1)[of])
        occasion = key == plan.position["occasions"]
        where = np.concatenate([key, self._recent[key[recent]], plan.monday_position + weekday_of(day[occasion])])
        whose = np.concatenate([of, of[recent], of[occasion]]) * self._width
        values = np.concatenate([value, value[recent], value[occasion]])
        totals += np.bincount(whose + where, weights=values, minlength=totals.size).reshape(totals.shape)
        for i, kind in self._kinds.items():
            counted = (key == i) & (value > 0)
            np.maximum.at(last[:, kind], of[counted], day[counted])

    def _named(self, table: str, number: np.ndarray, *, start: np.ndarray) -> Entries:
        """Return what the run has by day and name, within the lookback."""
        if table not in self._tables:
            nothing = np.zeros(0, dtype=np.int64)
            return Entries(nothing, nothing, nothing, np.zeros(0))
        columns = self._tables[table].columns
        of, rows = self._tables[table].of(number)
        inside = columns["day"][rows] >= start[of]
        of, rows = of[inside], rows[inside]
        key = columns["name"][rows] if table == "day_categories" else self._channel_of[columns["name"][rows]]
        return Entries(of, key, key, columns["weight"][rows].astype(float))  # the day is no longer needed

    def _by_channel(self, entries: Entries, *, customers: int) -> np.ndarray:
        width = len(self._plan.channels) + 1
        found = np.bincount(entries.of * width + entries.key, weights=entries.value, minlength=customers * width)
        return found.reshape(customers, width)

    def _compute(self, base: _Base) -> Features:
        """Compute every formula over the customers with an event of their own."""
        has = np.diff(base.active.starts) > 0
        values = np.zeros((len(has), len(self._plan.formulas)))
        if has.any():
            inputs = _Inputs(self._sums(base, has) | self._rhythm(base, has) | _spread(base.bought, has))
            columns = np.empty((len(self._plan.formulas), np.count_nonzero(has)))
            for column, (_, formula) in zip(columns, self._plan.formulas, strict=True):
                column[:] = formula(inputs, NumpyMath)
            values[has] = columns.T
        return Features(has, values, base.bought)

    def _sums(self, base: _Base, has: np.ndarray) -> dict[str, Any]:
        plan, totals = self._plan, base.totals[has]
        values: dict[str, Any] = dict(zip(plan.names, (totals[:, :-1] / self._scales).T, strict=True))
        values["weekend_occasions"] = values["occasions_saturday"] + values["occasions_sunday"]
        if "amount" in plan.position:
            i = plan.position
            net = totals[:, i["amount"]] + totals[:, i["other_amount"]] - totals[:, i["return_amount"]]
            values["spend"] = net / UNIT
            values["amount_squared"] = totals[:, -1] * (SQUARE_PART / UNIT**2) + values["amount_squared"]
        values |= {f"last_{kind}": base.last[has, number] for number, kind in enumerate(plan.counts)}
        channels = base.channels[has]
        values["channel_events"] = channels.sum(axis=1)
        return values | {f"channel_{name}": channels[:, number] for name, number in plan.channel_numbers.items()}

    def _rhythm(self, base: _Base, has: np.ndarray) -> dict[str, Any]:
        """Summarise the days with events of their own: how many, and the gaps between them."""
        plan, today, day = self._plan, base.today[has], base.active.key
        first, end = base.active.starts[:-1][has], base.active.starts[1:][has]
        gap = np.diff(day, prepend=0)
        gap[first] = 0
        recent = day >= np.repeat(today - plan.recent_days + 1, end - first)
        return {
            "active_days": end - first,
            "recent_active_days": np.add.reduceat(recent.astype(np.int64), first),
            "first_day": day[first],
            "last_day": day[end - 1],
            "first_ever": base.first_ever[has],
            "gap_squared": np.add.reduceat(gap * gap, first),
            "longest_gap": np.maximum.reduceat(gap, first),
            "as_of_day": today + 1,
            "lookback_days": plan.lookback_days,
            "recent_days": plan.recent_days,
        }


def _spread(bought: Ragged, has: np.ndarray) -> dict[str, Any]:
    """Return the number of categories, and the sum, the sum of w ln w, and the largest of their weights."""
    counts = np.diff(bought.starts)
    some, found = counts > 0, np.zeros((len(CATEGORY_AGGREGATES), len(counts)))
    if some.any():
        first, weight = bought.starts[:-1][some], bought.value
        log = weight * np.log(weight)
        whole = np.floor(log)  # in two parts, whose sums do not depend on the order
        parts = np.rint((log - whole) * LOG_UNIT)
        found[0], found[1, some] = counts, np.add.reduceat(weight, first)
        found[2, some] = np.add.reduceat(whole, first) + np.add.reduceat(parts, first) / LOG_UNIT
        found[3, some] = np.maximum.reduceat(weight, first)
    return dict(zip(CATEGORY_AGGREGATES, found[:, has], strict=True))
