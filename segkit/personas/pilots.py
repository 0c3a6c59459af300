"""What a pilot of some customers could show."""

from dataclasses import dataclass

import pandas as pd

from segkit.customers.days import Days
from segkit.errors import InputError
from segkit.experiments.design import History, kpi_by_weeks, smallest_effect, spread_of
from segkit.format import FLOOR
from segkit.period import Period

WEEKS = (4, 8, 13)  # tried in turn
FEWEST_SHOWN = 0.005  # relative change; a KPI of which less would show hardly varies: all come anyway
READABLE = 0.15  # relative change; a pilot that shows no smaller one is not worth its while


@dataclass(frozen=True)
class PilotSize:
    """A pilot, half held out: customers, weeks, the smallest relative change of the KPI that it shows, and its mean."""

    customers: int
    weeks: int
    detectable: float
    mean: float

    @property
    def is_readable(self) -> bool:
        """Return whether it shows a change worth having."""
        return round(self.detectable, 2) <= READABLE  # as it is shown


@dataclass(frozen=True)
class Pilots:
    """Hold the KPI of each customer by weeks, and what was known before: enough to size a pilot of any of them."""

    kpi: str
    history: dict[int, History]

    @classmethod
    def of(cls, days: Days, *, kpi: str, index: pd.Index, period: Period) -> "Pilots":
        """Read the KPI of customers; windows for which the history is too short are left out."""
        try:
            return cls(kpi, kpi_by_weeks(days, kpi=kpi, index=index, period=period, weeks=WEEKS))
        except InputError:  # nothing was recorded before the date
            return cls(kpi, {})

    def size(self, customers: pd.Index) -> PilotSize | None:
        """Return the shortest pilot of some customers that can be read, or else the longest; None if unknown."""
        sizes = [s for s in (self._size(customers, weeks) for weeks in self.history) if s is not None]
        return next((s for s in sizes if s.is_readable), sizes[-1] if sizes else None)

    def _size(self, customers: pd.Index, weeks: int) -> PilotSize | None:
        values, before = self.history[weeks]
        if len(customers) < 2 * FLOOR:
            return None
        one = spread_of("together", values=values[customers], before=before.loc[customers])
        effect = smallest_effect(one, treated=len(customers) - len(customers) // 2, control=len(customers) // 2)
        shown = effect / one.mean if one.mean > 0 else 0.0
        return PilotSize(len(customers), weeks, detectable=shown, mean=one.mean) if shown >= FEWEST_SHOWN else None
