"""The period of a run: a date, the days of history before it and the days to predict after it."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

from segkit.errors import InputError
from segkit.format import day_of_month, month
from segkit.texts import phrase

MONTH_EDGE = 3  # days off the first of a month that still count as it, in a text
DAYS_OF_MONTH = 365.25 / 12
RECENT_PART = 3  # "recent" is the last third of the lookback


MOST_WINDOWS = 2  # a back-test goes one window further back


def parse_day(text: str, *, name: str) -> date:
    """Read a date written as YYYY-MM-DD, the one form in which texts are ordered as dates are.

    Raises
    ------
    InputError
        It is none; ``name`` is what the message calls it.

    Examples
    --------
    >>> parse_day("2018-01-01", name="as_of")
    datetime.date(2018, 1, 1)
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise InputError(f"{name} {text!r} is not a date. Write it as YYYY-MM-DD.")
    return day


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
        A number of days is below 1, or leads out of the calendar.

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
        for name, room in (("lookback_days", self.as_of - date.min), ("horizon_days", date.max - self.as_of)):
            if getattr(self, name) * MOST_WINDOWS > room.days:
                raise InputError(f"{name} is {getattr(self, name)}: the calendar ends before. Give fewer days.")

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
        return cls(parse_day(as_of, name="as_of"), lookback_days=lookback_days, horizon_days=horizon_days)

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

    @property
    def next_dates(self) -> str:
        """The horizon as a reader would write it."""
        return dates_text(self.as_of, self.horizon_end)

    @property
    def last_dates(self) -> str:
        """The last horizon before ``as_of`` as a reader would write it."""
        return dates_text(self.last_horizon_start, self.as_of)

    @property
    def lookback_dates(self) -> str:
        """The lookback as a reader would write it."""
        return dates_text(self.lookback_start, self.as_of)


def dates_text(start: date, end: date, *, years: bool = True) -> str:
    """Write a span from its first day to the day before ``end``: months where it is about whole ones, else dates.

    >>> dates_text(date(2018, 1, 1), date(2018, 4, 2)), dates_text(date(2017, 12, 1), date(2018, 3, 1))
    ('January to March 2018', 'December 2017 to February 2018')
    >>> dates_text(date(2018, 1, 15), date(2018, 4, 16)), dates_text(date(2018, 1, 1), date(2018, 2, 1))
    ('15 January to 15 April 2018', 'January 2018')
    >>> dates_text(date(2017, 10, 2), date(2018, 1, 1), years=False)
    'October to December'
    """
    last, months = end - timedelta(days=1), (_nearest_first(start), _nearest_first(end))
    form = day_of_month
    if None not in months and months[0] < months[1]:
        form, start, last = partial(month, year=False), months[0], months[1] - timedelta(days=1)
    first, second = (form(day) for day in (start, last))
    if years:
        first += "" if start.year == last.year else f" {start.year}"
        second += f" {last.year}"
    alike = (start.year, form(start)) == (last.year, form(last))
    return second if alike else phrase("{first} to {last}").format(first=first, last=second)


def span_text(days: int) -> str:
    """Write a number of days as months where it is about some.

    >>> span_text(182), span_text(365), span_text(45), span_text(30), span_text(1)
    ('6 months', '12 months', '45 days', '1 month', '1 day')
    """
    months = round(days / DAYS_OF_MONTH)
    if months and abs(days - months * DAYS_OF_MONTH) <= MONTH_EDGE:
        return f"{months} {phrase('month' if months == 1 else 'months')}"
    return f"{days} {phrase('day' if days == 1 else 'days')}"


def _nearest_first(day: date) -> date | None:
    """Return the first of a month within a few days of a day; None in the middle of a month."""
    near = (day + timedelta(days=days) for days in sorted(range(-MONTH_EDGE, MONTH_EDGE + 1), key=abs))
    return next((each for each in near if each.day == 1), None)
