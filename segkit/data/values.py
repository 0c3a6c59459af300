"""Parse values: numbers, money, timestamps and time zones."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from segkit.data.expressions import sql_literal
from segkit.errors import SourceError

FIRST_YEAR, LAST_YEAR = 1970, 2101  # times outside count as unreadable
STEP_DAYS = 7  # no zone changes its offset twice within this span and back


def to_local(column: str, *, timezone: str) -> str:
    """SQL that turns a UTC timestamp column into the local time of a zone."""
    changes = [(moment, offset) for moment, _, offset in _changes(timezone)]
    return _shift(column, changes, sign="+")


def to_utc(column: str, *, timezone: str) -> str:
    """SQL of the UTC of a local timestamp column; a doubled hour is its first, a skipped one keeps the offset."""
    changes = [(moment + timedelta(seconds=max(before, after)), after) for moment, before, after in _changes(timezone)]
    return _shift(column, changes, sign="-")


def _shift(column: str, changes: list[tuple[datetime, int]], *, sign: str) -> str:
    if all(offset == 0 for _, offset in changes):
        return column
    return f"make_timestamp(epoch_us({column}) {sign} ({_tree(column, changes)}))"


def _tree(column: str, changes: list[tuple[datetime, int]]) -> str:
    """A balanced tree of comparisons whose leaves are offsets in microseconds."""
    if len(changes) == 1:
        return str(changes[0][1] * 1_000_000)
    half = len(changes) // 2
    moment = changes[half][0].strftime("%Y-%m-%d %H:%M:%S")
    before, after = _tree(column, changes[:half]), _tree(column, changes[half:])
    return f"case when {column} < timestamp '{moment}' then {before} else {after} end"


@lru_cache(maxsize=32)
def _changes(timezone: str) -> tuple[tuple[datetime, int, int], ...]:
    """Each change of a zone's offset: the moment in UTC (no zone attached), seconds before and seconds after."""
    zone = ZoneInfo(timezone)
    now, end = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR, 1, 1, tzinfo=UTC)
    start = _offset(now, zone)
    found = [(now.replace(tzinfo=None), start, start)]
    while now < end:
        later = now + timedelta(days=STEP_DAYS)
        if _offset(now, zone) != _offset(later, zone):
            moment = _first_moment(now, later, zone)
            found.append((moment.replace(tzinfo=None), _offset(now, zone), _offset(later, zone)))
        now = later
    return tuple(found)


def _first_moment(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    while after - before > timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        before, after = (middle, after) if _offset(middle, zone) == _offset(before, zone) else (before, middle)
    return after


def _offset(moment: datetime, zone: ZoneInfo) -> int:
    return int(moment.astimezone(zone).utcoffset().total_seconds())


MONEY = "decimal(18,4)"
SIGNS = "[\\s\u00a0\u202f'’€$£¥]"  # taken out of a number: spaces, currency signs, Swiss thousands
SIMPLE_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+")  # 12,50 and 1.234,50
THOUSANDS_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d{1,3}(,\d{3}){2,}")  # 1,234.50
AMBIGUOUS_NUMBER = re.compile(r"[+-]?\d{1,3},\d{3}")  # 1,234: one thousand, or one and a bit
NO_VALUE = ("", "na", "n/a", "nan", "null", "none", "nil", "-", "<na>", "nat")
INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
TRUE = ("true", "t", "yes", "y", "1", "1.0", "private", "own")
FALSE = ("false", "f", "no", "n", "0", "0.0", "national", "brand")
NUMBER_TYPES = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
MIN_NUMBER_SHARE = 0.95  # of a column of a CSV that must be numbers for the rest to count as broken ones
MIN_READABLE_SHARE = 0.5  # a sample of which less than this can be read means the wrong column, not bad rows


def is_integer(kind: str) -> bool:
    """Whether a DuckDB type is a whole number."""
    return kind in NUMBER_TYPES


def is_number(kind: str) -> bool:
    """Whether a DuckDB type is a number."""
    return is_integer(kind) or kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")


def id_sql(sql: str, *, kind: str) -> str:
    """SQL for an id as text: trimmed, leading zeros kept, 12346.0 as 12346, nothing as null."""
    if is_integer(kind):
        return f"cast({sql} as varchar)"
    if kind in ("FLOAT", "DOUBLE"):
        whole = f"cast(cast({sql} as hugeint) as varchar)"
        return (
            f"case when {sql} is null or not isfinite({sql}) then null when abs({sql}) < 1e18 and {sql} = trunc({sql}) "
            f"then {whole} else cast({sql} as varchar) end"
        )
    word = f"cast({sql} as varchar)"
    text = f"case when contains({word}, chr(9)) then trim(trim({word}), chr(9) || ' ') else trim({word}) end"
    return (
        f"case when {text} = '' or lower({text}) in {_sql_list(NO_VALUE)} then null when regexp_full_match({text}, "
        "'[0-9]+[.]0+') "
        f"then split_part({text}, '.', 1) else {text} end"
        if kind == "VARCHAR" or kind.startswith("DECIMAL")
        else f"nullif({text}, '')"
    )


def text_sql(sql: str, *, kind: str) -> str:
    """SQL for words: trimmed, nothing as null."""
    return id_sql(sql, kind=kind) if is_number(kind) else f"nullif(trim(cast({sql} as varchar)), '')"


def number_sql(sql: str, *, kind: str, sample: list[str], decimal: str | None, where: str) -> tuple[str, str]:
    """SQL for an exact number, and SQL that is true where there was something that is not a finite number.

    Takes  SQL of a value, its DuckDB type, and for text a sample of its values
    Gives  (SQL of type decimal(18,4), SQL of type boolean)

    Raises
    ------
    SourceError : not numbers, or numbers whose comma could mean either thing
    """
    if kind == "BOOLEAN":
        return f"cast({sql} as int)::{MONEY}", "false"
    if is_number(kind):
        value = f"try_cast({sql} as {MONEY})"
        return value, f"({sql} is not null and {value} is null)"
    if kind != "VARCHAR":
        raise SourceError(
            f"{where}: expected numbers, found {kind}. Name a column of numbers, or cast it in the expression."
        )
    style = number_style(sample, decimal=decimal, where=where)
    _refuse_wrong_type(
        [_normalize_number(value, style=style) for value in sample],
        test=_is_number_text,
        sample=sample,
        what="numbers",
        where=where,
    )
    value = f"try_cast({normalized_number_sql(sql, style=style)} as {MONEY})"
    return value, f"({sql} is not null and {value} is null and lower(trim({sql})) not in {_sql_list(NO_VALUE)})"


def normalized_number_sql(sql: str, *, style: str) -> str:
    """SQL that writes a number as SQL expects it; style is 'plain', or the decimal sign."""
    if style == "plain":
        # 1_0 is ten to DuckDB alone; and its 2.0 turns a bare try_cast over read_csv into a cast that fails
        return f"replace(trim({sql}), '_', '?')"
    bare = f"regexp_replace({sql}, {sql_literal(SIGNS)}, '', 'g')"
    return f"replace(replace({bare}, '.', ''), ',', '.')" if style == "," else f"replace({bare}, ',', '')"


def number_style(sample: list[str], *, decimal: str | None, where: str) -> str:
    """How a sample writes numbers: 'plain' (12.5), '.' (1,234.50 or $5) or ',' (12,50); unclear ones are refused."""
    values = {re.sub(SIGNS, "", value) for value in sample}
    if decimal is not None:
        return decimal
    commas = [v for v in values if DECIMAL_COMMA.fullmatch(v) and not AMBIGUOUS_NUMBER.fullmatch(v)]
    groups = [v for v in values if THOUSANDS_GROUPS.fullmatch(v) and not AMBIGUOUS_NUMBER.fullmatch(v)]
    unsure = [v for v in values if AMBIGUOUS_NUMBER.fullmatch(v)]
    if commas and groups:
        raise SourceError(
            f"{where}: {min(commas)!r} has a decimal comma and {min(groups)!r} a decimal point. "
            "Write all numbers one way, or split the table."
        )
    if commas:
        return ","
    if unsure and not groups and not any("." in v for v in values):
        raise SourceError(
            f"{where}: {min(unsure)!r} can be a thousand or a decimal comma ({len(unsure)} such values in the sample). "
            "Add \"decimal: ','\" or \"decimal: '.'\" to this table."
        )
    return "." if groups or unsure or any(re.search(SIGNS, value) for value in sample) else "plain"


def flag_sql(sql: str, *, kind: str, sample: list[str], where: str) -> str:
    """SQL for a yes or no; text must be one of the usual words."""
    if kind == "BOOLEAN":
        return sql
    if is_number(kind):
        return f"({sql} <> 0)"
    if kind != "VARCHAR":
        raise SourceError(f"{where}: expected yes or no, found {kind}. Write a comparison, e.g. brand = 'Private'.")
    strange = sorted({v for v in sample if v.strip().lower() not in (*TRUE, *FALSE, *NO_VALUE)})
    if strange:
        raise SourceError(
            f"{where}: expected yes or no, found {strange[0]!r} ({len(strange)} such values in the sample). "
            "Write a comparison, e.g. brand = 'Private'."
        )
    word = f"lower(trim({sql}))"
    return f"case when {word} in {_sql_list(TRUE)} then true when {word} in {_sql_list(FALSE)} then false end"


def column_type(values: list[str], *, style: str) -> str | None:
    """The number type that texts stand for: BIGINT, DOUBLE, or None for text (also where zeros lead, as in codes)."""
    plain = [_normalize_number(value, style=style) for value in values]
    numbers = [value for value in plain if SIMPLE_NUMBER.fullmatch(value)]
    if (
        not numbers
        or len(numbers) < MIN_NUMBER_SHARE * len(values)
        or any(re.match(r"[+-]?0\d", value) for value in numbers)
    ):
        return None
    return "BIGINT" if all(re.fullmatch(r"[+-]?\d{1,18}", value) for value in numbers) else "DOUBLE"


def _normalize_number(value: str, *, style: str) -> str:
    if style == "plain":
        return value.strip()
    bare = re.sub(SIGNS, "", value)
    return bare.replace(".", "").replace(",", ".") if style == "," else bare.replace(",", "")


def _is_number_text(value: str) -> bool:
    return bool(SIMPLE_NUMBER.fullmatch(value) or INFINITE.fullmatch(value))


def _refuse_wrong_type(values: list[str], *, test: object, sample: list[str], what: str, where: str) -> None:
    pairs = [(value, raw) for value, raw in zip(values, sample, strict=True) if raw.strip().lower() not in NO_VALUE]
    wrong = sorted(raw for value, raw in pairs if not test(value))
    if pairs and len(wrong) > (1 - MIN_READABLE_SHARE) * len(pairs):
        raise SourceError(
            f"{where}: expected {what}, found {wrong[0]!r} ({len(wrong):,} of {len(pairs):,} values in the sample "
            "are none). "
            "Name another column, or turn it into a number in the expression."
        )


def _sql_list(words: tuple[str, ...]) -> str:
    return "(" + ", ".join("'" + word + "'" for word in words) + ")"


UTC_OFFSET = r"[:0-9] ?([zZ]|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)$"
TIME_FORMATS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", ", %H:%M:%S", ", %H:%M")
NUMERIC_DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
MONTH_NAME_FORMATS = (
    "%d %b %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%d %b, %Y",
    "%d. %B %Y",
)
EPOCH = re.compile(
    r"(1\d{9}(\d{3}){0,3}|(19|20)\d{2}(0[1-9]|1[0-2])[0-3]\d)(\.\d+)?"
)  # 1709283600 and the like, 20240131
DATE_LIKE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}([./-])\d{1,2}\1\d{2}"
    r"|\d{1,2}[ .-]{1,2}[A-Za-z]{3}|[A-Z][a-z]{2,8} \d{1,2},? \d{4}"
)
MAX_TRIED_VALUES = 300  # different values of a sample on which formats are tried
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


def is_time_like(values: list[str]) -> bool:
    """Whether most texts of a sample look like dates or times."""
    filled = [value for value in values if value.strip().lower() not in NO_VALUE]
    matches = sum(bool(DATE_LIKE.match(value.strip()) or EPOCH.fullmatch(value.strip())) for value in filled)
    return bool(filled) and matches > len(filled) / 2


def ambiguous_date(values: list[str]) -> str | None:
    """A date of which no value of the sample says which part is the day; None when there is no doubt."""
    found = [match for match in map(NUMERIC_DATE.match, values) if match]
    return found[0][0] if found and not any(int(m[1]) > 12 or int(m[3]) > 12 for m in found) else None


def _from_text(text: str, *, values: list[str], where: str) -> TimeSql:
    formats = _formats(values, where=where)
    naive = f"try_cast({text} as timestamp)"
    if formats:
        naive = f"coalesce(try_strptime({text}, [{', '.join(sql_literal(f) for f in formats)}]), {naive})"
    offset = f"(contains({text}, ':') and regexp_matches({text}, {sql_literal(UTC_OFFSET)}))"
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
    found = [match for match in map(NUMERIC_DATE.match, values) if match]
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
    dates |= set(MONTH_NAME_FORMATS) if any(re.search(r"[A-Za-z]{3}", value) for value in values) else set()
    return _most_used_first(sorted(dates), values=list(dict.fromkeys(values))[:MAX_TRIED_VALUES])


def _most_used_first(dates: list[str], *, values: list[str]) -> list[str]:
    """Formats of whole times for the dates that occur, the most frequent first, as each row tries them in turn."""
    matches = {
        date + clock: sum(_parses(value, date + clock) for value in values) for date in dates for clock in TIME_FORMATS
    }
    used = [date for date in dates if any(matches[date + clock] for clock in TIME_FORMATS)]
    return sorted((date + clock for date in used for clock in TIME_FORMATS), key=lambda text: (-matches[text], text))


def _parses(value: str, text: str) -> bool:
    try:
        datetime.strptime(value, text)
    except ValueError:
        return False
    return True
