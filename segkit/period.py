"""The period of a run: a date, the days of history before it and the days to predict after it."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

from segkit.errors import InputError

RECENT_PART = 3  # "recent" is the last third of the lookback


@dataclass(frozen=True)
class Period:
    """A date with the lookback before it and the horizon after it, in whole local days.

    The lookback runs from ``lookback_start`` to the day before ``as_of``, the horizon from ``as_of`` to the day before
    ``horizon_end``: the first day of a span counts, its end does not.

    Parameters
    ----------
    as_of
        Exclusive end of the history: nothing on or after this day is used to describe customers.
    lookback_days
        Days of history that features see. A longer lookback shows rarer habits and reacts later.

    Raises
    ------
    InputError
        A number of days is below 1.

    Examples
    --------
    >>> period = segkit.Period.parse("2024-07-01", lookback_days=182, horizon_days=91)
    >>> period.lookback_start.isoformat(), period.horizon_end.isoformat()
    ('2024-01-01', '2024-09-30')
    >>> period.one_horizon_back().as_of.isoformat()
    '2024-04-01'
    """

    as_of: date
    lookback_days: int
    horizon_days: int

    def __post_init__(self) -> None:
        for name in ("lookback_days", "horizon_days"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a whole number of days of at least 1.")

    @classmethod
    def parse(cls, as_of: str, *, lookback_days: int, horizon_days: int) -> "Period":
        """Read the date from text.

        Raises
        ------
        InputError
            ``as_of`` is not an ISO date, or a number of days is below 1.

        Examples
        --------
        >>> Period.parse("2018-01-01", lookback_days=182, horizon_days=91).last_day
        datetime.date(2017, 12, 31)
        """
        try:
            day = date.fromisoformat(as_of)
        except ValueError:
            raise InputError(f"as_of {as_of!r} is not a date. Write it as YYYY-MM-DD.") from None
        return cls(day, lookback_days=lookback_days, horizon_days=horizon_days)

    @property
    def last_day(self) -> date:
        """The last day of the history, the day before ``as_of``."""
        return self.as_of - timedelta(days=1)

    @property
    def lookback_start(self) -> date:
        """The first day of the lookback."""
        return self.as_of - timedelta(days=self.lookback_days)

    @property
    def horizon_end(self) -> date:
        """The end of the horizon, exclusive."""
        return self.as_of + timedelta(days=self.horizon_days)

    @property
    def last_horizon_start(self) -> date:
        """The first day of the last horizon before ``as_of``; its outcomes are known."""
        return self.as_of - timedelta(days=self.horizon_days)

    @property
    def recent_days(self) -> int:
        """Days at the end of the lookback that count as recent."""
        return max(1, self.lookback_days // RECENT_PART)

    @property
    def recent_start(self) -> date:
        """The first of the recent days."""
        return self.as_of - timedelta(days=self.recent_days)

    def one_horizon_back(self) -> "Period":
        """Return the same spans one horizon earlier, to train on: the outcomes of its horizon are known."""
        return replace(self, as_of=self.last_horizon_start)
