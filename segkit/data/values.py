"""Parse the values of a source in SQL: ids, numbers with decimal commas or points, flags, times and time zones."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from segkit.data.expressions import sql_literal
from segkit.errors import SourceError

FIRST_YEAR, LAST_YEAR = 1970, 2101  # times outside are unreadable
STEP_DAYS = 7  # no zone changes its offset and back within this span


def _to_local(column: str, *, timezone: str) -> str:
    """Write SQL that turns a UTC timestamp column into the local time of a zone."""
    changes = [(moment, offset) for moment, _, offset in _changes(timezone)]
    return _shift(column, changes, sign="+")


def _to_utc(column: str, *, timezone: str) -> str:
    """Write SQL that turns a local timestamp column into UTC.

    An hour that occurs twice is read as the first, a skipped hour with the offset before it.
    """
    changes = [(moment + timedelta(seconds=max(before, after)), after) for moment, before, after in _changes(timezone)]
    return _shift(column, changes, sign="-")


def _shift(column: str, changes: list[tuple[datetime, int]], *, sign: str) -> str:
    if all(offset == 0 for _, offset in changes):
        return column
    return f"make_timestamp(epoch_us({column}) {sign} ({_offset_sql(column, changes)}))"


def _offset_sql(column: str, changes: list[tuple[datetime, int]]) -> str:
    """Write a balanced tree of comparisons whose leaves are offsets in microseconds."""
    if len(changes) == 1:
        return str(changes[0][1] * 1_000_000)
    half = len(changes) // 2
    moment = changes[half][0].strftime("%Y-%m-%d %H:%M:%S")
    before, after = _offset_sql(column, changes[:half]), _offset_sql(column, changes[half:])
    return f"case when {column} < timestamp '{moment}' then {before} else {after} end"


@lru_cache(maxsize=32)
def _changes(timezone: str) -> tuple[tuple[datetime, int, int], ...]:
    """List the changes of a zone's offset: the moment in UTC (naive), and the seconds before and after it."""
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
CURRENCY = "[€$£¥]"
SIGNS = "[\\s\u00a0\u202f'’€$£¥]"  # removed from a number: spaces, currency signs, Swiss thousands
SIMPLE_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+")  # 12,50 and 1.234,50
THOUSANDS_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d{1,3}(,\d{3}){2,}")  # 1,234.50
POINT_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3}){2,}")  # 1.234.567
THREE_DECIMALS = re.compile(r"[+-]?(0,\d{3,}|\d+,\d{4,}|\d{4,},\d{3})")  # after a comma
AMBIGUOUS_NUMBER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234: more than a thousand, or between 1 and 2
AMBIGUOUS_POINT = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")  # 1.234, the same
MAX_DOUBT = 20  # numbers such as 1.234 for each such as 7.25; a tenth of three decimals end in a zero, often left out
NOTATIONS = {  # of a number by its decimal sign, with groups of thousands; a number in another one is unreadable
    ",": r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?(?:[eE][+-]?\d+)?|[+-]?,\d+",
    ".": r"[+-]?(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d*)?(?:[eE][+-]?\d+)?|[+-]?\.\d+",
}
FORMULA_WITHOUT_VALUE = "#formula without a stored value"
CELL_ERRORS = ("#n/a", "#div/0!", "#ref!", "#value!", "#name?", "#num!", "#null!", FORMULA_WITHOUT_VALUE)
NO_VALUE = ("", "na", "n/a", "nan", "null", "none", "nil", "-", "<na>", "nat")
MAX_NO_VALUE = max(map(len, NO_VALUE))
ROUNDED_ID = r"\d([.,]\d+)?[eE]\+\d+"  # 1.23457E+11
SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"  # of trim
INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
TRUE = ("true", "t", "yes", "y", "1", "1.0", "private", "own")
FALSE = ("false", "f", "no", "n", "0", "0.0", "national", "brand")
INTEGER_TYPES = {sign + kind for sign in ("", "U") for kind in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")}
MIN_NUMBER_SHARE = 0.95  # of a CSV column; with fewer numbers the column is text
MIN_READABLE_SHARE = 0.5  # of a sample; with less it is the wrong column, not bad rows


def is_number(kind: str) -> bool:
    """Return whether a DuckDB type is a number."""
    return kind in INTEGER_TYPES or kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")


def id_sql(sql: str, *, kind: str) -> str:
    """Write SQL for an id as text: trimmed, with its leading zeros, 12346.0 as 12346, and an empty one as null."""
    if kind in INTEGER_TYPES:
        return f"cast({sql} as varchar)"
    if kind in ("FLOAT", "DOUBLE"):
        whole = f"cast(cast({sql} as hugeint) as varchar)"
        return (
            f"case when {sql} is null or not isfinite({sql}) then null when abs({sql}) < 1e18 and {sql} = trunc({sql}) "
            f"then {whole} else cast({sql} as varchar) end"
        )
    word = f"cast({sql} as varchar)"
    text = f"case when contains({word}, chr(9)) then trim(trim({word}), chr(9) || ' ') else trim({word}) end"
    if kind != "VARCHAR" and not kind.startswith("DECIMAL"):
        return f"nullif({text}, '')"
    return (
        f"case when {text} = '' or lower({text}) in {_sql_list(NO_VALUE + CELL_ERRORS)} then null "
        f"when regexp_full_match({text}, '[0-9]+[.]0+') then split_part({text}, '.', 1) else {text} end"
    )


def text_sql(sql: str, *, kind: str) -> str:
    """Write SQL for a text: trimmed, and an empty one or the error of a workbook's cell as null."""
    if is_number(kind):
        return id_sql(sql, kind=kind)
    text = f"trim(cast({sql} as varchar))"
    return f"case when {text} = '' or lower({text}) in {_sql_list(CELL_ERRORS)} then null else {text} end"


def read_id(value: object) -> str | None:
    """Read an id of a program as `id_sql` reads a cell; None for none.

    Raises `ValueError`: the value is neither text nor a number, or it was rounded by a spreadsheet.
    """
    if not isinstance(value, str):
        return read_text(value)
    if len(value) > MAX_NO_VALUE and value.isalnum():  # most ids
        return value
    found = value.strip(SPACES)
    if "\t" in found:
        found = found.strip("\t ")
    if "+" in found and re.fullmatch(ROUNDED_ID, found):
        raise ValueError("was rounded by a spreadsheet")
    if found[-1:] == "0" and "." in found and re.fullmatch(r"[0-9]+[.]0+", found):
        return found.partition(".")[0]
    if len(found) > MAX_NO_VALUE and found[0] != "#":
        return found
    return found if found.lower() not in NO_VALUE + CELL_ERRORS else None


def read_text(value: object) -> str | None:
    """Read a text of a program as `text_sql` reads a cell; None for none.

    Raises `ValueError`: the value is neither text nor a number.
    """
    if isinstance(value, str):
        if value.isalnum():
            return value
        found = value.strip(SPACES)
        return found if found and (found[0] != "#" or found.lower() not in CELL_ERRORS) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is neither text nor a number")
    if isinstance(value, int):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return str(int(value)) if value == int(value) and abs(value) < 1e18 else str(value)


def list_sql(sql: str) -> str:
    """Write SQL for a list of texts: each once, in alphabetical order, without empty ones; null where none is left."""
    texts = f"list_transform(cast({sql} as varchar[]), lambda x: {text_sql('x', kind='VARCHAR')})"
    texts = f"list_sort(list_distinct(list_filter({texts}, lambda x: x is not null)))"
    return f"case when len({texts}) > 0 then {texts} end"


def number_sql(sql: str, *, kind: str, sample: list[str], decimal: str | None, where: str) -> tuple[str, str]:
    """Write SQL for an exact number, and SQL that is true where a value is not a finite number.

    Parameters
    ----------
    sql, kind
        SQL of the value, and its DuckDB type.
    sample
        Values of the column, used where it is text.
    decimal
        Decimal sign that the source states, if any.

    Returns
    -------
    tuple
        SQL of type decimal(18,4), and SQL of type boolean.

    Raises
    ------
    SourceError
        The column has no numbers, or numbers whose comma is ambiguous.
    """
    if kind == "BOOLEAN":
        return f"cast({sql} as int)::{MONEY}", "false"
    if is_number(kind):
        value = f"try_cast({sql} as {MONEY})"
        is_wrong = f"({sql} is not null and {value} is null)"
        if kind in ("FLOAT", "DOUBLE"):  # as text: DuckDB takes isnan for false by the statistics of a Parquet file
            is_wrong = f"({sql} is not null and {value} is null and cast({sql} as varchar) <> 'nan')"
        return value, is_wrong
    if kind != "VARCHAR":
        raise SourceError(
            f"{where}: expected numbers, found {kind}. Name a column of numbers, or cast it in the expression."
        )
    style = number_style(sample, decimal=decimal, where=where)
    filled = [value for value in sample if value.strip().lower() not in NO_VALUE]
    wrong = sorted(value for value in filled if not _is_number(_normalize_number(value, style=style)))
    if len(wrong) > (1 - MIN_READABLE_SHARE) * len(filled):
        raise SourceError(
            f"{where}: expected numbers, found {wrong[0]!r} ({len(wrong):,} of {len(filled):,} sampled values are not "
            "numbers). Name another column, or turn it into a number in the expression."
        )
    value = f"try_cast({normalized_number_sql(sql, style=style)} as {MONEY})"
    return value, f"({sql} is not null and {value} is null and lower(trim({sql})) not in {_sql_list(NO_VALUE)})"


def normalized_number_sql(sql: str, *, style: str) -> str:
    """Write SQL for a number in the notation of SQL, null for one in another notation than ``style``.

    `style`: 'plain' or the decimal sign, from `number_style`.
    """
    if style == "plain":
        # DuckDB reads 1_0 as ten; and DuckDB 2.0 turns a bare try_cast over read_csv into a cast that fails
        return f"replace(trim({sql}), '_', '?')"
    bare = f"regexp_replace({sql}, {sql_literal(SIGNS)}, '', 'g')"
    number = f"replace(replace({bare}, '.', ''), ',', '.')" if style == "," else f"replace({bare}, ',', '')"
    return f"case when regexp_full_match({bare}, {sql_literal(NOTATIONS[style])}) then {number} end"


def refuse_currencies(sample: list[str], *, where: str) -> None:
    """Raise `SourceError` where a sample of amounts has the signs of several currencies."""
    currencies = sorted({sign for value in sample for sign in re.findall(CURRENCY, value)})
    if len(currencies) > 1:
        raise SourceError(
            f"{where}: amounts in several currencies ({', '.join(currencies)}). Convert them to one, or leave the "
            "others out with 'where'."
        )


def number_style(sample: list[str], *, decimal: str | None, where: str) -> str:
    """Detect how a sample writes numbers: 'plain' (12.5), '.' (1,234.50 or $5) or ',' (12,50).

    Raises `SourceError`: the sample mixes notations or currencies, or its commas are ambiguous.
    """
    refuse_currencies(sample, where=where)
    values = {re.sub(SIGNS, "", value) for value in sample}
    if decimal is not None:
        return decimal
    unsure = {v for v in values if AMBIGUOUS_NUMBER.fullmatch(v)}
    unsure_points = {v for v in values if AMBIGUOUS_POINT.fullmatch(v)}
    commas = {v for v in values - unsure if DECIMAL_COMMA.fullmatch(v) or POINT_GROUPS.fullmatch(v)}
    groups = {v for v in values - unsure if THOUSANDS_GROUPS.fullmatch(v)}
    points = {v for v in values - unsure_points if "." in v and SIMPLE_NUMBER.fullmatch(v)}
    if commas and (groups or points):
        raise SourceError(
            f"{where}: {min(commas)!r} has a decimal comma and {min(groups or points)!r} a decimal point. "
            "Write all numbers in one way, or split the table."
        )
    grouped = any("." in v for v in commas)
    if commas and (grouped or not unsure_points) and (not unsure or any(map(THREE_DECIMALS.fullmatch, commas))):
        return ","
    doubtful = unsure or unsure_points
    if commas or (doubtful and not groups and not points) or len(unsure_points) > MAX_DOUBT * len(points | groups) > 0:
        raise SourceError(
            f"{where}: the {'comma' if unsure else 'point'} in {min(doubtful)!r} is ambiguous, thousands or decimals "
            f"({len(doubtful)} in the sample). Add \"decimal: ','\" or \"decimal: '.'\" to this table."
        )
    return "." if groups or unsure or any(re.search(SIGNS, value) for value in sample) else "plain"


def refuse_mixed_numbers(sample: list[str], *, where: str) -> None:
    """Raise `SourceError` for a column of numbers, in whatever notation, whose notation is mixed or ambiguous."""
    values = [re.sub(SIGNS, "", value) for value in sample if value.strip().lower() not in NO_VALUE]
    patterns = (SIMPLE_NUMBER, DECIMAL_COMMA, THOUSANDS_GROUPS, AMBIGUOUS_NUMBER, POINT_GROUPS)
    numbers = sum(any(pattern.fullmatch(value) for pattern in patterns) for value in values)
    if values and numbers >= MIN_NUMBER_SHARE * len(values):
        number_style(values, decimal=None, where=where)


def flag_sql(sql: str, *, kind: str, sample: list[str], where: str) -> str:
    """Write SQL for a yes or no; a text must be one of the usual words."""
    if kind == "BOOLEAN":
        return sql
    if is_number(kind):
        return f"({sql} <> 0)"
    if kind != "VARCHAR":
        raise SourceError(f"{where}: expected yes or no, found {kind}. Write a comparison, e.g. brand = 'Private'.")
    unknown = sorted({v for v in sample if v.strip().lower() not in (*TRUE, *FALSE, *NO_VALUE)})
    if unknown:
        raise SourceError(
            f"{where}: expected yes or no, found {unknown[0]!r} ({len(unknown)} such in the sample). "
            "Write a comparison, e.g. brand = 'Private'."
        )
    word = f"lower(trim({sql}))"
    return f"case when {word} in {_sql_list(TRUE)} then true when {word} in {_sql_list(FALSE)} then false end"


def column_type(values: list[str], *, style: str) -> str | None:
    """Detect the type of texts: BIGINT, DOUBLE, or None for text; numbers with leading zeros are codes, so text."""
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
    if not re.fullmatch(NOTATIONS[style], bare):
        return ""
    return bare.replace(".", "").replace(",", ".") if style == "," else bare.replace(",", "")


def _is_number(text: str) -> bool:
    return bool(SIMPLE_NUMBER.fullmatch(text) or INFINITE.fullmatch(text))


def _sql_list(words: tuple[str, ...]) -> str:
    return "(" + ", ".join("'" + word + "'" for word in words) + ")"


UTC_OFFSET = r"(?i)[:0-9] ?(z|utc|gmt|[+-][0-9]{2}(:?[0-9]{2})?)$"
CLOCK_LAST = r"[ T][0-9]{1,2}(:[0-9]{2}){1,2}(\.[0-9]*)?$"  # a time that ends in its clock; DuckDB drops what follows
NAMED_ZONE = re.compile(r".*:\d{2}(\.\d+)? *[(\[]?(?![ap]\.?m\b)([a-z][a-z_/]{1,}|z[a-z]).*", re.IGNORECASE)
HALF_DAY = re.compile(r".*\d ?[ap]m", re.IGNORECASE)
ISO_TIME = re.compile(  # what DuckDB reads without a format
    r"(\d{4})([-/])(\d{1,2})\2(\d{1,2})"
    r"(?:(?: +|T)(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d+|$))?)?( UTC|Z|[+-]\d{2}(?::?\d{2})?)?)?"
)
TIME_FORMATS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", ", %H:%M:%S", ", %H:%M")
NUMERIC_DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
MONTH_NAME_FORMATS = set(
    "%d %b %Y|%d %B %Y|%d-%b-%Y|%d-%b-%y|%b %d, %Y|%B %d, %Y|%b %d %Y|%d %b, %Y|%d. %B %Y".split("|")
)
EPOCH = re.compile(r"(1\d{9}(\d{3}){0,3}|(19|20)\d{2}(0[1-9]|1[0-2])[0-3]\d)(\.\d+)?")  # 1709283600, 20240131
SHORT_EPOCH = re.compile(r"[1-9]\d{8}(\.\d+)?")  # 881250949, in 1997: too much like an id to be guessed
DATE_LIKE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}([./-])\d{1,2}\1\d{2}"
    r"|\d{1,2}[ .-]{1,2}[A-Za-z]{3}|[A-Z][a-z]{2,8} \d{1,2},? \d{4}"
)
MAX_TRIED_VALUES = 300  # distinct values of a sample on which formats are tried
EPOCH_SCALES = ((1e8, 1e11, 1_000_000), (1e11, 1e14, 1_000), (1e14, 1e17, 1))  # from, below, microseconds per unit


@dataclass(frozen=True)
class TimeSql:
    """SQL of two timestamps, of which a row has at most one: ``naive`` in local time, ``instant`` in UTC."""

    naive: str
    instant: str

    def steps(self, *, timezone: str, source_timezone: str) -> list[list[str]]:
        """List columns to add step by step, up to ``_utc``, ``_local`` (in the zone of the source) and ``_no_time``."""
        utc = f"coalesce(_instant, {_to_utc('_naive', timezone=timezone)})"
        local = _to_local("_utc", timezone=source_timezone)
        if timezone == source_timezone:
            local = f"case when _instant is null then _naive else {local} end"
        moment = "coalesce(_instant, _naive)"
        if self.instant == "null":
            utc, moment = _to_utc("_naive", timezone=timezone), "_naive"
            local = "_naive" if timezone == source_timezone else local
        first, end = f"timestamp '{FIRST_YEAR}-01-02'", f"timestamp '{LAST_YEAR - 1}-12-31'"
        no_time = f"({moment} is null or {moment} < {first} or {moment} >= {end})"
        return [
            [f"cast({self.naive} as timestamp) as _naive", f"cast({self.instant} as timestamp) as _instant"],
            [f"{utc} as _utc", f"{no_time} as _no_time"],
            [f"{local} as _local"],
        ]


def time_sql(sql: str, *, kind: str, sample: list[str], where: str) -> TimeSql:
    """Write SQL that reads a time; a text with an offset and an epoch are instants, all others local times.

    Parameters
    ----------
    sql, kind
        SQL of the value, and its DuckDB type.
    sample
        Values of the column, used where it is text.

    Returns
    -------
    TimeSql
        Both null for a value that cannot be read.

    Raises
    ------
    SourceError
        The column has no times, or dates whose day and month are ambiguous.
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
    if values and sum(bool(EPOCH.fullmatch(v) or SHORT_EPOCH.fullmatch(v)) for v in values) > len(values) / 2:
        return _from_number(f"try_cast(trim({sql}) as double)")
    return _from_text(f"trim({sql})", values=values, where=where)


def read_time(value: object) -> object:
    """Read a time of a program as `time_sql` reads a cell: text becomes ISO text, an epoch seconds since 1970.

    Raises `ValueError`: the value is no time.
    """
    if isinstance(value, str):
        return _read_iso_time(value.strip(SPACES))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no time")
    if FIRST_YEAR * 10_000 + 101 <= value <= LAST_YEAR * 10_000 + 101:
        return datetime.strptime(str(round(value)), "%Y%m%d").date().isoformat()
    for low, high, microseconds in (*EPOCH_SCALES, (1e17, 9e18, 0.001)):
        if low <= value < high:
            return value if microseconds == 1_000_000 else value * microseconds / 1_000_000
    raise ValueError("no epoch")


@lru_cache(maxsize=4096)
def _read_iso_time(text: str) -> str:
    """Read ISO text, cached because the lines of an order share theirs."""
    found = ISO_TIME.fullmatch(text)
    if found is None:
        raise ValueError("no ISO time")
    year, _, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        datetime.fromisoformat(text)
    except ValueError:
        whole = int(hour or 0) == 24 and not any(map(int, (minute, second or 0, fraction or 0)))
        date = datetime(int(year), int(month), int(day)) + timedelta(days=whole)
        clock = f"{0 if whole else int(hour or 0):02d}:{minute or '00'}:{second or '00'}.{(fraction or '')[:6]:0<6}"
        text = f"{date:%Y-%m-%d}T{clock}{(offset or '').replace(' UTC', 'Z')}"
        datetime.fromisoformat(text)
    return text


def is_time_like(values: list[str]) -> bool:
    """Return whether most texts of a sample are probably dates or times."""
    filled = [value for value in values if value.strip().lower() not in NO_VALUE]
    matches = sum(bool(DATE_LIKE.match(value.strip()) or EPOCH.fullmatch(value.strip())) for value in filled)
    return bool(filled) and matches > len(filled) / 2


def ambiguous_date(values: list[str]) -> str | None:
    """Return a date whose day and month stay ambiguous over the whole sample, or None."""
    found = [match for match in map(NUMERIC_DATE.match, values) if match]
    return found[0][0] if found and not any(int(m[1]) > 12 or int(m[3]) > 12 for m in found) else None


def _from_text(text: str, *, values: list[str], where: str) -> TimeSql:
    zones = [value for value in values if NAMED_ZONE.fullmatch(value) and not re.search(UTC_OFFSET, value)]
    if len(zones) > len(values) / 2:
        raise SourceError(
            f"{where}: the time zone in {zones[0]!r} is not an offset. Write offsets such as +02:00, or leave the zone "
            "out and state it with timezone."
        )
    formats = _formats(values, where=where)
    whole = f"(not contains({text}, ':') or regexp_matches({text}, {sql_literal(CLOCK_LAST)}))"
    naive = f"case when {whole} then try_cast({text} as timestamp) end"
    if formats:
        naive = f"coalesce(try_strptime({text}, [{', '.join(sql_literal(f) for f in formats)}]), {naive})"
    offset = f"(contains({text}, ':') and regexp_matches({text}, {sql_literal(UTC_OFFSET)}))"
    joined = f"regexp_replace({text}, ' ([+-][0-9:]+)$', '\\1')"  # DuckDB reads no blank before an offset
    return TimeSql(
        naive=f"case when not {offset} then {naive} end",
        instant=f"case when {offset} then timezone('UTC', try_cast({joined} as timestamptz)) end",
    )


def _from_number(sql: str) -> TimeSql:
    """Read epochs by their size (seconds to nanoseconds), and days such as 20170131."""
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
    """List the formats other than ISO that a sample needs; ambiguous dates are refused."""
    found = [match for match in map(NUMERIC_DATE.match, values) if match]
    day_first = [m for m in found if int(m[1]) > 12]
    month_first = [m for m in found if int(m[3]) > 12]
    if day_first and month_first:
        raise SourceError(
            f"{where}: {day_first[0][0]!r} has the day first and {month_first[0][0]!r} the month. "
            "Split the table by date format."
        )
    for sign in sorted({m[2] for m in found} - {m[2] for m in day_first + month_first}):
        unclear = [m for m in found if m[2] == sign]  # another sign may come with another order
        raise SourceError(
            f"{where}: day and month are ambiguous in {unclear[0][0]!r}, as in the whole sample ({len(unclear):,}). "
            f"State their order with an expression, e.g. strptime(column, '%d{sign}%m{sign}%Y')."
        )
    _refuse_year_first(day_first, where=where)
    order = ("d", "m") if day_first else ("m", "d")
    dates = {f"%{order[0]}{m[2]}%{order[1]}{m[2]}%{'Y' if len(m[4]) == 4 else 'y'}" for m in found}
    dates |= {"%Y-%m-%d"} if any(HALF_DAY.fullmatch(value) for value in values) else set()
    dates |= MONTH_NAME_FORMATS if any(re.search(r"[A-Za-z]{3}", value) for value in values) else set()
    return _most_used_first(sorted(dates), values=list(dict.fromkeys(values))[:MAX_TRIED_VALUES])


def _refuse_year_first(found: list[re.Match], *, where: str) -> None:
    """Refuse dates that may begin with a year of two digits: their last part varies as days do, not as years do."""
    for sign in sorted({m[2] for m in found}):
        short = [m for m in found if m[2] == sign and len(m[4]) == 2]
        year_last = any(int(m[4]) > 31 for m in short) or len({m[1] for m in short}) > len({m[4] for m in short})
        if short and not year_last:
            raise SourceError(
                f"{where}: {short[0][0]!r} may begin with its day or with its year. State their order with an "
                f"expression, e.g. strptime(column, '%y{sign}%m{sign}%d')."
            )


def _most_used_first(dates: list[str], *, values: list[str]) -> list[str]:
    """List formats of date and time for the dates that occur, the most frequent first: each row tries them in turn."""
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
