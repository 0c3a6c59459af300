"""SQL that reads a time however written: timestamps, ISO texts with or without a zone, day or month first, epochs."""

import re
from dataclasses import dataclass
from datetime import datetime

from segkit.data.clock import FIRST_YEAR, LAST_YEAR, to_local, to_utc
from segkit.data.expressions import literal
from segkit.data.values import NO_VALUE, is_number
from segkit.errors import SourceError

OFFSET = r"[:0-9] ?([zZ]|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)$"
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", ", %H:%M:%S", ", %H:%M")
PARTS = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
NAMED = ("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d %b, %Y", "%d. %B %Y")
EPOCH = re.compile(
    r"(1\d{9}(\d{3}){0,3}|(19|20)\d{2}(0[1-9]|1[0-2])[0-3]\d)(\.\d+)?"
)  # 1709283600 and the like, 20240131
LOOKS = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}([./-])\d{1,2}\1\d{2}"
    r"|\d{1,2}[ .-]{1,2}[A-Za-z]{3}|[A-Z][a-z]{2,8} \d{1,2},? \d{4}"
)
TRIED_VALUES = 300  # different values of a sample on which formats are tried
EPOCH_SCALES = (
    (1e8, 1e11, 1_000_000),
    (1e11, 1e14, 1_000),
    (1e14, 1e17, 1),
)  # from, below, microseconds in one: s, ms, us


@dataclass(frozen=True)
class TimeSql:
    """SQL of two timestamps, of which a row has at most one: `naive` by the clock on the wall, `instant` in UTC."""

    naive: str
    instant: str

    def steps(self, *, timezone: str, source_timezone: str) -> list[list[str]]:
        """Columns to add one after another, ending in _utc, _local (the zone of the source) and _no_time (a flag)."""
        utc = f"coalesce(_instant, {to_utc('_naive', timezone=timezone)})"
        local = to_local("_utc", timezone=source_timezone)
        if timezone == source_timezone:
            local = f"case when _instant is null then _naive else {local} end"
        moment = "coalesce(_instant, _naive)"
        if self.instant == "null":
            utc, moment = to_utc("_naive", timezone=timezone), "_naive"
            local = "_naive" if timezone == source_timezone else local
        first, end = f"timestamp '{FIRST_YEAR}-01-02'", f"timestamp '{LAST_YEAR - 1}-12-31'"
        no_time = f"({moment} is null or {moment} < {first} or {moment} >= {end})"
        return [
            [f"cast({self.naive} as timestamp) as _naive", f"cast({self.instant} as timestamp) as _instant"],
            [f"{utc} as _utc", f"{no_time} as _no_time"],
            [f"{local} as _local"],
        ]


def time_sql(sql: str, *, kind: str, sample: list[str], where: str) -> TimeSql:
    """Read a time.

    Takes  SQL of a value, its DuckDB type, and for text a sample of its values
    Gives  TimeSql; a value that cannot be read gives null in both. An offset in a text, and an epoch, make an instant

    Raises
    ------
    SourceError : not times, or a day and month that cannot be told apart
    """
    if kind in ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"):
        return TimeSql(naive=sql, instant="null")
    if kind == "TIMESTAMP WITH TIME ZONE" or kind.startswith("TIMESTAMPTZ"):  # the latter of whatever unit
        return TimeSql(naive="null", instant=f"timezone('UTC', cast({sql} as timestamptz))")
    if is_number(kind):
        return _from_number(sql)
    if kind != "VARCHAR":
        raise SourceError(
            f"{where}: expected a date or time, found {kind}. Name another column, or build one, e.g. "
            "make_timestamp(...), in the expression."
        )
    values = [value.strip() for value in sample if value.strip().lower() not in NO_VALUE]
    if values and sum(bool(EPOCH.fullmatch(value)) for value in values) > len(values) / 2:
        return _from_number(f"try_cast(trim({sql}) as double)")
    return _from_text(f"trim({sql})", values=values, where=where)


def reads_as_time(values: list[str]) -> bool:
    """Whether most texts of a sample look like dates or times."""
    filled = [value for value in values if value.strip().lower() not in NO_VALUE]
    matches = sum(bool(LOOKS.match(value.strip()) or EPOCH.fullmatch(value.strip())) for value in filled)
    return bool(filled) and matches > len(filled) / 2


def unclear_dates(values: list[str]) -> str | None:
    """A date of which no value of the sample says which part is the day; None when there is no doubt."""
    found = [match for match in map(PARTS.match, values) if match]
    return found[0][0] if found and not any(int(m[1]) > 12 or int(m[3]) > 12 for m in found) else None


def _from_text(text: str, *, values: list[str], where: str) -> TimeSql:
    formats = _formats(values, where=where)
    naive = f"try_cast({text} as timestamp)"
    if formats:
        naive = f"coalesce(try_strptime({text}, [{', '.join(literal(f) for f in formats)}]), {naive})"
    offset = f"(contains({text}, ':') and regexp_matches({text}, {literal(OFFSET)}))"
    return TimeSql(
        naive=f"case when not {offset} then {naive} end",
        instant=f"case when {offset} then timezone('UTC', try_cast({text} as timestamptz)) end",
    )


def _from_number(sql: str) -> TimeSql:
    """Epochs by their size (seconds to nanoseconds), and days written 20170131."""
    cases = " ".join(
        f"when {sql} >= {low:.0f} and {sql} < {high:.0f} then make_timestamp(cast({sql} * {scale} as bigint))"
        for low, high, scale in EPOCH_SCALES
    )
    nano = f"when {sql} >= 1e17 and {sql} < 9e18 then make_timestamp(cast({sql} / 1000 as bigint))"
    day = f"try_strptime(cast(cast({sql} as bigint) as varchar), '%Y%m%d')"
    return TimeSql(
        naive=f"case when {sql} between {FIRST_YEAR}0101 and {LAST_YEAR}0101 then {day} end",
        instant=f"case {cases} {nano} end",
    )


def _formats(values: list[str], *, where: str) -> list[str]:
    """The formats beside ISO that a sample needs; each date must say which part is its day."""
    found = [match for match in map(PARTS.match, values) if match]
    day_first = [m for m in found if int(m[1]) > 12]
    month_first = [m for m in found if int(m[3]) > 12]
    if day_first and month_first:
        raise SourceError(
            f"{where}: {day_first[0][0]!r} has the day first and {month_first[0][0]!r} the month. "
            "Split the table by how it writes dates."
        )
    if found and not day_first and not month_first:
        raise SourceError(
            f"{where}: day and month cannot be told apart in {found[0][0]!r} (nor in any of {len(found):,} sampled). "
            "Say which "
            f"with an expression, e.g. strptime(column, '%d{found[0][2]}%m{found[0][2]}%Y')."
        )
    order = ("d", "m") if day_first else ("m", "d")
    dates = {f"%{order[0]}{m[2]}%{order[1]}{m[2]}%{'Y' if len(m[4]) == 4 else 'y'}" for m in found}
    dates |= set(NAMED) if any(re.search(r"[A-Za-z]{3}", value) for value in values) else set()
    return _by_use(sorted(dates), values=list(dict.fromkeys(values))[:TRIED_VALUES])


def _by_use(dates: list[str], *, values: list[str]) -> list[str]:
    """Formats of whole times for the dates that occur, the most frequent first, as each row tries them in turn."""
    matches = {date + clock: sum(_reads(value, date + clock) for value in values) for date in dates for clock in CLOCKS}
    used = [date for date in dates if any(matches[date + clock] for clock in CLOCKS)]
    return sorted((date + clock for date in used for clock in CLOCKS), key=lambda text: (-matches[text], text))


def _reads(value: str, text: str) -> bool:
    try:
        datetime.strptime(value, text)
    except ValueError:
        return False
    return True
