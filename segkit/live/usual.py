"""What is usual for the customers of a run: money and orders by hour of the week, and what a week should bring."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from segkit.customers.features import day_number
from segkit.data.runs import Run
from segkit.format import COUNT_STEP
from segkit.vocabulary import DAY_PARTS

HOURS, MONDAY = 168, 72  # of a week; from the first hour of 1970, a Thursday, to that of a Monday, modulo 168
WEEKS = 8  # before the as_of of the run, from which the usual week is learnt
FEWEST_WEEKS = 3  # from which the spread of a week is learnt
POOLED_WEEKS = 4.0  # of money at the weekdays of all customers, added to those of a segment
SIGNS = {"amount": 1, "other_amount": 1, "return_amount": -1}  # of the sums of a day, in what was spent
PARTS = tuple(f"occasions_{part}" for part in DAY_PARTS)
NICE_STEPS = (1, 2, 5, 10)


class Usual:
    """The usual week by segment, and the expected one; the last row of each array is all segments together.

    Parameters
    ----------
    run
        A run with days, orders, assignments and segments.
    segments
        Ids, in the order of the rows.

    Attributes
    ----------
    orders : np.ndarray
        (168,): orders, and visits without one, of all customers by hour of the week; local time, from Monday.
    expected : np.ndarray
        (segments + 1,): what a week should bring; not-a-number without a forecast.
    customers : np.ndarray
        (segments + 1,): whose forecast that is.
    money_step : float
        What ten orders bring, rounded: amounts are shown in steps of it, as counts of customers are in tens.
    """

    def __init__(self, run: Run, *, segments: Sequence[str]) -> None:
        as_of = day_number(run.period.as_of)
        self.horizon_days = int(run.parameters()["horizon_days"])
        rows, self.has_money = _daily_rows(run, since=as_of - 7 * WEEKS)
        oldest = int((as_of - rows["day"].min() + 6) // 7) if len(rows) else 0
        self.weeks = max(1, min(WEEKS, oldest))
        rows = rows[rows["day"] >= as_of - 7 * self.weeks]
        of_day = _hours_of_day(run, rows, since=as_of - 7 * self.weeks)
        self.orders = (_by_weekday(rows, "occasions")[:, None] * of_day).ravel() / self.weeks
        known = rows[rows["segment"].isin(segments)]
        per_week = [_by_week(known[known["segment"] == s], as_of=as_of, weeks=self.weeks) for s in segments]
        per_week = np.array([*per_week, np.sum(per_week, axis=0)])
        shares = _weekday_shares(known, segments, weekly=per_week.mean(axis=1))
        self._shares = (shares[:, :, None] * of_day).reshape(len(shares), HOURS)
        self.customers, self.expected, self._surety = _expected_weeks(run, segments, days=self.horizon_days)
        self._noise = _week_noise(per_week)
        self.money_step = _nice_step(COUNT_STEP * known["money"].sum() / max(known["occasions"].sum(), 1))

    def orders_between(self, start: float, end: float) -> float:
        """Return how many orders and visits are usual between two times, in local hours since 1970."""
        return float((self.orders * _overlap(start, end)).sum())

    def whole_week(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what a whole week should bring, and half the width of its range."""
        return self.money_between(float(-MONDAY), float(HOURS - MONDAY))

    def money_between(self, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """Return what is expected between two times of a week, and half the width of its 95 % range.

        The range adds what the forecast is unsure of and how far weeks differ.
        """
        share = self._shares @ _overlap(start, end)
        half = np.hypot(share * self._surety, np.sqrt(share) * self._noise)
        return share * self.expected, half


def _daily_rows(run: Run, *, since: int) -> tuple[pd.DataFrame, bool]:
    """Sum the days of each segment: segment, day, weekday (Monday is 0), occasions in all and by part, money."""
    days, placed = run.scan("days"), run.scan("assignments")
    recent = days.mutate(number=days.day.epoch_days().cast("int64")).filter(lambda t: t.number >= since)
    has_money = "amount" in recent.columns
    money = sum(recent[name].cast("float64").fill_null(0.0) * sign for name, sign in SIGNS.items()
                if name in recent.columns)  # fmt: skip
    recent = recent.mutate(money=money if has_money else recent.number * 0.0)
    joined = recent.left_join(placed.select("customer_id", "segment"), "customer_id")
    names = [name for name in ("occasions", *PARTS, "money") if name in joined.columns]
    of_day = joined.group_by("segment", day=joined.number)
    table = of_day.aggregate(**{name: joined[name].cast("float64").sum() for name in names}).to_pandas()
    table = table.assign(weekday=(table["day"] + MONDAY // 24) % 7)
    return table.sort_values(["segment", "day"], ignore_index=True), has_money


def _hours_of_day(run: Run, rows: pd.DataFrame, *, since: int) -> np.ndarray:
    """Share of each hour in the orders of a weekday (7 x 24); by parts of the day where no order has an hour."""
    orders, found = run.scan("day_orders"), np.zeros((7, 24))
    if "slot" in orders.columns:
        slot = orders.slot.cast("int64")
        hours = orders.mutate(hour=(slot + MONDAY) % HOURS).filter(slot.notnull() & (slot >= since * 24))
        table = hours.group_by("hour").aggregate(pieces=hours.count()).to_pandas()
        found = np.bincount(table["hour"].astype(int), weights=table["pieces"], minlength=HOURS).reshape(7, 24)
    for part, (start, end) in DAY_PARTS.items() if not found.any() else ():
        found[:, start:end] = (_by_weekday(rows, f"occasions_{part}") / (end - start))[:, None]
    whole = found.sum(axis=1, keepdims=True)
    return np.divide(found, whole, out=np.full_like(found, 1 / 24), where=whole > 0)


def _by_weekday(rows: pd.DataFrame, column: str) -> np.ndarray:
    return np.bincount(rows["weekday"].astype(int), weights=rows[column].astype(float), minlength=7)


def _by_week(rows: pd.DataFrame, *, as_of: int, weeks: int) -> np.ndarray:
    number = ((as_of - 1 - rows["day"]) // 7).astype(int)
    return np.bincount(number, weights=rows["money"].astype(float), minlength=weeks)[:weeks]


def _weekday_shares(rows: pd.DataFrame, segments: Sequence[str], *, weekly: np.ndarray) -> np.ndarray:
    """Share of a week's money by weekday: of each segment, drawn towards that of all, as few orders say little."""
    pooled = np.maximum(_by_weekday(rows, "money"), 0.0)
    pooled = pooled / pooled.sum() if pooled.sum() > 0 else np.full(7, 1 / 7)
    found = []
    for segment, money in zip(segments, weekly, strict=False):
        own = np.maximum(_by_weekday(rows[rows["segment"] == segment], "money"), 0.0)
        own = own + POOLED_WEEKS * max(money, 0.0) * pooled
        found.append(own / own.sum() if own.sum() > 0 else pooled)
    return np.array([*found, pooled])


def _expected_weeks(run: Run, segments: Sequence[str], *, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale the forecast of each segment to a week: customers, money, and half the width of its range."""
    table = run.table("segments").set_index("segment").reindex(segments)
    customers = table["customers"].fillna(0).to_numpy(dtype=float)
    mean, low, high = (table[f"spend_next{end}"].to_numpy(dtype=float) * customers * 7 / days
                       for end in ("", "_low", "_high"))  # fmt: skip
    half = np.nan_to_num((high - low) / 2)
    everyone = np.nan if np.isnan(mean).all() else np.nansum(mean)
    return (
        np.append(customers, customers.sum()),
        np.append(mean, everyone),
        np.append(half, np.sqrt((half**2).sum())),
    )


def _week_noise(per_week: np.ndarray) -> np.ndarray:
    """Half the width of the 95 % range of one week around its mean, from how far recent weeks differ."""
    weeks = per_week.shape[1]
    if weeks < FEWEST_WEEKS:
        return np.abs(per_week).mean(axis=1)  # nothing is known of the spread
    return student.ppf(0.975, weeks - 1) * per_week.std(axis=1, ddof=1) * math.sqrt(1 + 1 / weeks)


def _overlap(start: float, end: float) -> np.ndarray:
    """Count how much of each hour of the week lies between two times, in hours."""
    found = np.zeros(HOURS)
    if end <= start:
        return found
    first, last = math.floor(start), math.ceil(end)
    hours = np.arange(first, last)
    parts = np.minimum(hours + 1, end) - np.maximum(hours, start)
    np.add.at(found, (hours + MONDAY) % HOURS, parts)
    return found


def _nice_step(amount: float) -> float:
    """Round an amount down to 1, 2 or 5 times a power of ten.

    >>> _nice_step(312.0), _nice_step(0.0)
    (200.0, 0.01)
    """
    if amount <= 0.01:
        return 0.01
    power = 10.0 ** math.floor(math.log10(amount))
    return max(step * power for step in NICE_STEPS if step * power <= amount * (1 + 1e-9))
