"""Recipe: what the events of a source carry, and how a live customer's features are made of it; worked out once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from segkit.customers.features import available
from segkit.customers.orders import PURCHASE, RETURN, Measure, count_column, measures
from segkit.customers.sums import MONDAY, RECENT, WEEKS, WITHOUT_PURCHASES
from segkit.period import RECENT_PART
from segkit.vocabulary import DAY_PARTS, WEEKDAYS

UNIT = 10_000  # parts of a currency unit in which money is counted, so that adding and taking away are exact
EPOCH = datetime(1970, 1, 1).toordinal()
SUMS_OF_DAYS = (
    *("active_days", "recent_active_days", "first_day", "last_day", "first_ever", "gap_squared", "longest_gap"),
    *("weekend_occasions", "as_of_day", "lookback_days", "recent_days"),
)
SUMS_OF_BREADTH = ("categories", "category_weight", "category_log", "top_category_weight")
Changes = list[tuple[int, int]]  # positions of sums, and what is added to them


@dataclass(frozen=True)
class Recipe:
    """Sums in the order they are kept (`day_sums` of each day, then those of lately, then occasions by weekday), the
    scale of each, and the formulas on them.
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
    recent_positions: Mapping[int, int]  # position of a day's sum -> position of the same of lately
    monday_position: int  # position of the occasions on Mondays
    hour_positions: tuple[int, ...]  # hour -> position of its part of the day
    measures_by_kind: Mapping[
        str, tuple[tuple[int, str | None, str | None], ...]
    ]  # kind -> position, column, condition
    formulas: tuple[tuple[str, Callable[[Any, Any], float]], ...]

    @property
    def counts(self) -> dict[str, int]:
        """Each further kind of event -> position of the sum that counts it."""
        return {kind: self.position[count_column(kind)] for kind in self.kinds if kind not in (PURCHASE, RETURN)}

    @property
    def recent_days(self) -> int:
        return max(1, self.lookback_days // RECENT_PART)

    def local_day_and_hour(self, timestamp: datetime | str | float) -> tuple[int, int]:
        """Local day number and hours since 1970 of a time: UTC where it has no zone; text is ISO, a number seconds."""
        return _moment(timestamp, self.timezone)

    def changes(self, event: Mapping[str, Any], kind: str) -> Changes:
        """What an event adds to the sums of its day."""
        found = []
        for position, column, only in self.measures_by_kind[kind]:
            if only is not None:
                condition = event.get(only)
                if not condition or (condition is not True and parts(condition) <= 0):
                    continue
            value = 1 if column is None else parts(event.get(column))
            if value:
                found.append((position, value))
        return found

    def weight(self, event: Mapping[str, Any], *, bought: bool) -> int:
        """What an event weighs in its category: the amount of a purchase, and one where there is no money."""
        if "amount" not in self.columns:
            return 1
        return parts(event.get("amount")) if bought else parts(1)


def recipe(
    columns: tuple[str, ...],
    *,
    kinds: Mapping[str, str],
    timezone: str = "UTC",
    lookback_days: int = 182,
    channels: tuple[str, ...] = (),
) -> Recipe:
    """Work out which features events with these columns carry.

    Takes  columns: of the events of a source, by the contract
    Gives  Recipe, for any number of customers

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company'
    timezone : of local days and hours
    lookback_days : as in the batch that the segments were made from
    channels : those with a share of their own, as in that batch
    """
    available = measures(columns, kinds=dict(kinds))
    extra = ["orders", "occasions", *(f"occasions_{part}" for part in DAY_PARTS)]
    extra += ["amount_squared"] if "amount" in columns else []
    day_aggregates = [*(m.name for m in available), *extra]
    scales = [UNIT if m.column else 1 for m in available] + [
        UNIT**2 if name == "amount_squared" else 1 for name in extra
    ]
    position = {name: i for i, name in enumerate(day_aggregates)}
    recent = [name for name in RECENT if name in position]
    names = [*day_aggregates, *(f"recent_{name}" for name in recent), *(f"occasions_{day}" for day in WEEKDAYS)]
    scales += [scales[position[name]] for name in recent] + [1] * len(WEEKDAYS)
    return Recipe(
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
        hour_positions=_parts(position),
        measures_by_kind={kind: _of_kind(kind, available, who=kinds[kind]) for kind in kinds},
        formulas=_formulas(names, columns, kinds=kinds, channels=channels),
    )


def parts(value: Any) -> int:
    """An amount in whole ten-thousandths; nothing counts as zero.

    Raises
    ------
    ValueError : not a finite number, or below zero
    """
    if value is None:
        return 0
    if isinstance(value, float):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{value} is not an amount of zero or more")
        return round(value * UNIT)
    if isinstance(value, int):
        exact = Decimal(int(value))
    else:
        exact = Decimal(str(value))
    if not exact.is_finite() or exact < 0:
        raise ValueError(f"{value} is not an amount of zero or more")
    return int((exact * UNIT).to_integral_value(ROUND_HALF_UP))


@lru_cache(maxsize=4096)
def _moment(timestamp: datetime | str | float, timezone: ZoneInfo) -> tuple[int, int]:
    """Remembered, as the lines of an order share their time."""
    if isinstance(timestamp, int | float):
        local = datetime.fromtimestamp(timestamp, timezone)
    else:
        read = datetime.fromisoformat(timestamp) if isinstance(timestamp, str) else timestamp
        local = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(timezone)
    day = local.toordinal() - EPOCH
    return day, day * 24 + local.hour


def week_day(day: int) -> int:
    """Monday is 0, from a day number."""
    return (day + WEEKS + MONDAY - 1) % 7


def _of_kind(kind: str, measures: list[Measure], *, who: str) -> tuple[tuple[int, str | None, str | None], ...]:
    """The measures that an event of a kind adds to."""
    groups = {kind}
    if kind == PURCHASE:
        groups.add("bought")
    if kind == RETURN:
        groups.add("returned")
    if who == "customer":
        groups |= {"own"} if kind in (PURCHASE, RETURN) else {"own", "other"}
    return tuple((i, m.column, m.condition) for i, m in enumerate(measures) if m.group in groups)


def _parts(position: Mapping[str, int]) -> tuple[int, ...]:
    hours = [(position[f"occasions_{part}"], start, end) for part, (start, end) in DAY_PARTS.items()]
    return tuple(next(where for where, start, end in hours if start <= hour < end) for hour in range(24))


def _formulas(
    names: list[str], columns: tuple[str, ...], *, kinds: Mapping[str, str], channels: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any, Any], float]], ...]:
    """The features whose sums there will be, as in the batch."""
    aggregates = [*names, *SUMS_OF_DAYS, *(f"last_{kind}" for kind in kinds if kind not in (PURCHASE, RETURN))]
    aggregates += ["spend"] if "amount" in columns else []
    aggregates += SUMS_OF_BREADTH if "category" in columns else ()
    aggregates += ["channel_events", *(f"channel_{name}" for name in channels)] if "channel" in columns else []
    if PURCHASE not in kinds:
        aggregates = [name for name in aggregates if name not in WITHOUT_PURCHASES]
    return tuple((f.name, f.formula) for f in available(tuple(aggregates), kinds=dict(kinds), channels=channels))
