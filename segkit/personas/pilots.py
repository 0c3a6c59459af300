"""What a pilot of one segment, or of several together, could show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.errors import InputError
from segkit.experiments.design import Spread, smallest_effect, spreads
from segkit.format import FLOOR
from segkit.period import Period

WEEKS = (4, 8, 13)  # tried in turn
FEWEST_SHOWN = 0.005  # relative change; a KPI of which less would show hardly varies: all come anyway
READABLE = 0.15  # relative change; a pilot that shows no smaller one is not worth its while


@dataclass(frozen=True)
class PilotSize:
    """A pilot, half held out: customers, weeks, and the smallest relative change of the KPI that it shows."""

    customers: int
    weeks: int
    detectable: float

    @property
    def is_readable(self) -> bool:
        """Return whether it shows a change worth having."""
        return round(self.detectable, 2) <= READABLE  # as it is shown


@dataclass(frozen=True)
class Pilots:
    """Hold how a KPI varies in each segment, by weeks: enough to size a pilot of any of them together."""

    kpi: str
    spreads: dict[int, dict[str, Spread]]

    @classmethod
    def of(cls, days: Days, *, kpi: str, segment: pd.Series, period: Period) -> "Pilots":
        """Measure the spread of the KPI in each segment; windows for which the history is too short are left out."""
        found = {}
        for weeks in WEEKS:
            window = replace(period, horizon_days=7 * weeks)
            try:
                found[weeks] = {one.segment: one for one in spreads(days, kpi=kpi, segment=segment, period=window)}
            except InputError:
                break
        return cls(kpi, found)

    def size(self, segments: Sequence[str]) -> PilotSize | None:
        """Return the shortest pilot of some segments that can be read, or else the longest; None if unknown."""
        sizes = [s for s in (self._size(segments, weeks) for weeks in self.spreads) if s is not None]
        return next((s for s in sizes if s.is_readable), sizes[-1] if sizes else None)

    def _size(self, segments: Sequence[str], weeks: int) -> PilotSize | None:
        own = [self.spreads[weeks][name] for name in segments if name in self.spreads[weeks]]
        customers = sum(one.customers for one in own)
        if customers < 2 * FLOOR:
            return None
        share = np.array([one.customers for one in own]) / customers
        mean = float(share @ [one.mean for one in own])
        residual = float(np.sqrt(share @ np.square([one.residual_sd for one in own])))
        together = Spread("together", customers, mean, residual, residual)
        effect = smallest_effect(together, treated=customers - customers // 2, control=customers // 2)
        shown = effect / mean if mean > 0 else 0.0
        return PilotSize(customers, weeks, shown) if shown >= FEWEST_SHOWN else None
