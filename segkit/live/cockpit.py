"""The cockpit of live segments: money of this week by segment, the feed, and why customers move.

Everything but rejected lines is counted again from the state when it is opened, so that a kill changes no other figure.
"""

import json
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from segkit.customers.days import PURCHASE, RETURN
from segkit.data.runs import Run, open_run_source
from segkit.data.values import read_time
from segkit.errors import SourceError
from segkit.format import FLOOR
from segkit.live.customer import EPOCH_ORDINAL, UNIT, money_units
from segkit.live.engine import Event, Live
from segkit.live.usual import HOURS, MONDAY, Usual
from segkit.vocabulary import CANCEL, describe

SILENT_ORDERS = 10.0  # usual in a silence before it is an alarm: at random, none come once in 20,000 times
AHEAD_HOURS = 1.0  # that an event may lie after the latest tick, if ticks come more often
RECENT_LINES, MANY_REJECTED, FEW_REJECTED = 1_000, 0.05, 20  # lines; share and number from which they are an alarm
KEPT_HOURS = 15 * 24  # of money and events in memory
MOST_NEW = FLOOR  # new customers of a week that are counted: whether they are enough for their money to be shown
CAUSES = {  # what a person would say of a feature that rose, and of one that fell
    "recency_days": ("longer without a visit", "visited again"),
    "orders": ("more orders", "fewer orders"),
    "spend": ("higher spend", "lower spend"),
    "active_days": ("more active days", "fewer active days"),
    "gap_days": ("longer between visits", "shorter between visits"),
    "longest_gap_days": ("a longer break", "no long break any more"),
    "orders_recent": ("more recent orders", "fewer recent orders"),
    "spend_recent": ("higher recent spend", "lower recent spend"),
    "order_value": ("larger orders", "smaller orders"),
    "lines_per_order": ("larger baskets", "smaller baskets"),
    "categories": ("more categories", "fewer categories"),
}
LATEST_TICK = "latest_tick"  # in the state: local hours, and hours since the tick before


@dataclass(frozen=True)
class Money:
    """Money of a span of a week by segment; the last row of each array is all segments together.

    Parameters
    ----------
    start, end
        Local hours since 1970.
    expected, half
        What the forecast and the usual week say, and half the width of the 95 % range; not-a-number where unknown.
    actual
        What customers who were in the segment at the run spent, net of returns.
    buyers, customers
        How many of them bought, and how many there are.
    new_actual, new_buyers
        The same of customers who are in no segment of the run; they are counted to 20 only.
    """

    start: float
    end: float
    expected: np.ndarray
    half: np.ndarray
    actual: np.ndarray
    buyers: np.ndarray
    customers: np.ndarray
    new_actual: float
    new_buyers: int


@dataclass(frozen=True)
class Silence:
    """Hours without an event in which many are usual; `ended` is False while it lasts."""

    start: float
    end: float
    usual: float
    ended: bool


@dataclass(frozen=True)
class Feed:
    """The state of the feed; times in local hours since 1970, None before the first event or tick.

    Parameters
    ----------
    now, last
        The latest tick or event; the latest event of a customer's own.
    usual_hour
        Orders and visits that are usual in this hour of the week.
    silences
        Of the last seven days.
    ahead, latest
        How many events lie after the clock, and the latest of them.
    parked
        How many wait for their day.
    rejected, rejected_share, reason
        Of the latest lines: how many are rejected, and which column is wrong most often; 0 where that is no alarm.
    """

    now: float | None
    last: float | None
    usual_hour: float
    silences: tuple[Silence, ...]
    ahead: int
    latest: float
    parked: int
    rejected: int
    rejected_share: float
    reason: str

    @property
    def is_dead(self) -> bool:
        """Whether nothing comes although much is usual."""
        return any(not one.ended for one in self.silences)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with the feed now."""
        return not (self.silences or self.ahead or self.parked or self.rejected)


class Cockpit:
    """Count live events by hour and segment, next to the engine, and compare them with what is usual.

    Parameters
    ----------
    live
        Live segments; each event that they count from now on is counted here.
    """

    def __init__(self, live: Live) -> None:
        self.live, self._has_money = live, "amount" in live.plan.columns
        self._zone, self._codes = live.plan.timezone, {s: i for i, s in enumerate(live.segments)}
        self._signs = {kind: 1 for kind, by in live.plan.kinds.items() if by == "customer" and kind != CANCEL}
        self._signs |= {RETURN: -1}
        self._money: dict[int, list[int]] = {}  # local hour -> ten-thousandths by segment, the last of new customers
        self._events: Counter[int] = Counter()  # by local hour, of customers' own
        self._latest: dict[int, float] = {}  # local hour -> latest event in it
        self._bought = [
            array("i", bytes(4 * len(live.book))) for _ in range(2)
        ]  # week of the latest purchase, even and odd weeks
        self._segment_of = array("i", [self._codes.get(s, -1) for s in live.book.segments_in_run()])
        self._new_buyers: tuple[int, set[str]] = (0, set())  # of the latest week
        self._causes: dict[str, tuple[str | None, str]] = {}  # customer of the run -> segment moved to, and why
        self._causes_until, self._recent = 0, deque(maxlen=RECENT_LINES)
        self._tick, self._step = live.state.get_meta(LATEST_TICK, [None, 24.0])
        for customer_id, line in live.state.counted_events():
            self._count(customer_id, json.loads(line))
        live.listeners.append(self.count)

    def count(self, event: Event) -> None:
        """Count an event that the engine counted."""
        self._recent.append("")
        self._count(event.customer_id, event.values)

    def see_tick(self, time: Any) -> None:
        """Take notice of a tick that the engine took; one that goes back changes nothing."""
        at = local_hours(read_time(time), self._zone)
        if at >= self.live.as_of * 24 and (self._tick is None or at > self._tick):
            self._step = min(24.0, at - self._tick) if self._tick is not None else 24.0
            self._tick = at
            self.live.state.set_meta(LATEST_TICK, [self._tick, self._step])

    def see_rejected(self, reason: str) -> None:
        """Take notice of a line that was rejected."""
        self._recent.append(reason.partition(":")[0])

    @cached_property
    def usual(self) -> Usual:
        """What is usual, read from the run when it is first asked for."""
        return Usual(self.live.run, segments=self.live.segments)

    @cached_property
    def currency(self) -> str:
        """The currency of the run's source; empty where it is not known any more."""
        return currency_of(self.live.run)

    @property
    def now(self) -> float | None:
        """The latest tick, or the latest event that does not lie ahead of it; local hours since 1970."""
        limit = self._limit()
        events = [at for at in self._latest.values() if at <= limit]
        return max([*events, *([] if self._tick is None else [self._tick])], default=None)

    def money(self, *, weeks_ago: int = 0) -> Money:
        """Add up a week from Monday, or from the as_of of the run, until now; of an earlier week, all of it."""
        now = self.now if self.now is not None else float(self.live.as_of * 24)
        week = int(now + MONDAY) // HOURS - weeks_ago
        start = max(float(week * HOURS - MONDAY), float(self.live.as_of * 24))
        end = max(start, min(now, float((week + 1) * HOURS - MONDAY)))
        expected, half = self.usual.money_between(start, end)
        if self.live.as_of * 24 + self.usual.horizon_days * 24 < end:
            expected = expected * np.nan  # the forecast is over
        stop = min(int(now) + 1, (week + 1) * HOURS - MONDAY)  # the hour of now counts, the first of next week does not
        of_hours = [money for hour, money in self._money.items() if start <= hour < stop]
        sums = np.array(of_hours, dtype=np.int64).reshape(-1, len(self._codes) + 1).sum(axis=0)
        *of_segments, new = (sums / UNIT).tolist()
        segment_of, bought = np.asarray(self._segment_of), np.asarray(self._bought[week % 2])
        buyers = np.bincount(segment_of[(bought == week) & (segment_of >= 0)], minlength=len(self._codes))
        return Money(
            start=start,
            end=end,
            expected=expected,
            half=half,
            actual=np.append(of_segments, sums[:-1].sum() / UNIT),
            buyers=np.append(buyers, buyers.sum()),
            customers=self.usual.customers,
            new_actual=new,
            new_buyers=len(self._new_buyers[1]) if self._new_buyers[0] == week else 0,
        )

    def feed(self) -> Feed:
        """Describe the feed now."""
        now, limit = self.now, self._limit()
        counted = {hour: at for hour, at in self._latest.items() if at <= limit}
        rejected = [reason for reason in self._recent if reason]
        share = len(rejected) / max(len(self._recent), 1)
        many = len(rejected) >= FEW_REJECTED and share > MANY_REJECTED
        return Feed(
            now=now,
            last=max(counted.values(), default=None),
            usual_hour=0.0 if now is None else self.usual.orders_between(int(now), int(now) + 1),
            silences=() if now is None else tuple(self._silences(now, counted)),
            ahead=sum(n for hour, n in self._events.items() if hour not in counted),
            latest=max(self._latest.values(), default=0.0),
            parked=self.live.state.count("parked"),
            rejected=len(rejected) if many else 0,
            rejected_share=share,
            reason=Counter(rejected).most_common(1)[0][0] if many else "",
        )

    def causes(self) -> dict[tuple[str | None, str | None], Counter[str]]:
        """Count why customers of the run moved, by segment at the run and now; of each, their latest move."""
        last = self.live.last_change
        for line in self.live.state.changes(after=self._causes_until) if self._causes_until < last else ():
            change = json.loads(line)
            if change["kind"] == "segment" and change["customer_id"] in self.live.book:
                self._causes[change["customer_id"]] = change["to"], _cause(change)
        self._causes_until = last
        found: dict[tuple[str | None, str | None], Counter[str]] = {}
        for customer_id, (to, cause) in self._causes.items():
            begun = self.live.book.segment_in_run(customer_id)
            if begun != to:
                found.setdefault((begun, to), Counter())[cause] += 1
        return found

    def _count(self, customer_id: str, values: dict[str, Any]) -> None:
        sign = self._signs.get(values["event"], 0)
        if not sign:
            return
        at = local_hours(values["timestamp"], self._zone)
        hour = int(at)
        if hour not in self._latest:
            self._forget(hour)
        self._events[hour] += 1
        self._latest[hour] = max(at, self._latest.get(hour, at))
        place, week = self.live.book.place(customer_id), (hour + MONDAY) // HOURS
        if values["event"] == PURCHASE:
            if place is not None:
                bought = self._bought[week % 2]
                bought[place] = max(week, bought[place])
            elif week >= self._new_buyers[0]:
                self._new_buyers = self._new_buyers if week == self._new_buyers[0] else (week, set())
                if len(self._new_buyers[1]) < MOST_NEW:
                    self._new_buyers[1].add(customer_id)
        if self._has_money and values.get("amount") is not None:
            if hour not in self._money:
                self._money[hour] = [0] * (len(self._codes) + 1)
            self._money[hour][-1 if place is None else self._segment_of[place]] += sign * money_units(values["amount"])

    def _forget(self, hour: int) -> None:
        """Drop hours that no week shown needs any more."""
        for old in [each for each in self._latest if each < hour - KEPT_HOURS]:
            for table in (self._latest, self._events, self._money):
                table.pop(old, None)

    def _limit(self) -> float:
        """Return the time after which an event lies ahead of the clock."""
        return float("inf") if self._tick is None else self._tick + max(self._step, AHEAD_HOURS)

    def _silences(self, now: float, counted: dict[int, float]) -> Iterator[Silence]:
        """Find hours without events in the last seven days, in which many are usual."""
        begin = max(self.live.as_of * 24.0, now - HOURS)
        times = sorted(at for at in counted.values() if at > begin)
        before = max((at for at in counted.values() if at <= begin), default=begin)
        starts, ends = [before, *times], [*(int(at) for at in times), now]
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            usual = self.usual.orders_between(start, end) if end > start + 1 / 60 else 0.0
            if usual >= SILENT_ORDERS:
                yield Silence(start, end, usual, ended=number < len(times))


def currency_of(run: Run) -> str:
    """Return the currency of a run's source; empty where it is not known any more."""
    try:
        return open_run_source(run).currency
    except SourceError:
        return ""


def when(hours: float) -> datetime:
    """Convert local hours since 1970 to a local time, without a zone.

    >>> when(25.5)
    datetime.datetime(1970, 1, 2, 1, 30)
    """
    return datetime.combine(date(1970, 1, 1), datetime.min.time()) + timedelta(minutes=round(hours * 60))


@lru_cache(maxsize=4096)
def local_hours(time: str | float, zone: tzinfo) -> float:
    """Convert a time, ISO text or seconds since 1970, to local hours since 1970.

    >>> local_hours("1970-01-02T01:30:00Z", UTC)
    25.5
    """
    if isinstance(time, str):
        read = datetime.fromisoformat(time)
        local = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(zone)
    else:
        local = datetime.fromtimestamp(time, zone)
    return (local.toordinal() - EPOCH_ORDINAL) * 24 + local.hour + local.minute / 60 + local.second / 3600


def _cause(change: dict[str, Any]) -> str:
    """Name the strongest reason of a change in a few words."""
    if change["to"] is None:
        return change["because"]
    if not change["why"]:
        return "small changes near a border"
    first = change["why"][0]
    more, words = first["before"] is None or first["now"] > first["before"], first["words"]
    if words.startswith("bought: "):
        return f"{'more' if more else 'less'} {words.removeprefix('bought: ')}"
    feature = describe(first["feature"])
    return CAUSES.get(feature.name, (feature.label, feature.low_label))[0 if more else 1]
