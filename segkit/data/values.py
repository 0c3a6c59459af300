"""SQL that reads numbers, ids, flags and words as people write them, having looked at a sample."""

import re

from segkit.data.expressions import literal
from segkit.errors import SourceError

MONEY = "decimal(18,4)"
SIGNS = "[\\s\u00a0\u202f'’€$£¥]"  # taken out of a number: spaces, currency signs, Swiss thousands
PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+")  # 12,50 and 1.234,50
GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?|[+-]?\d{1,3}(,\d{3}){2,}")  # 1,234.50
UNSURE = re.compile(r"[+-]?\d{1,3},\d{3}")  # 1,234: one thousand, or one and a bit
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
NUMBERS_SHARE = 0.95  # of a column of a CSV that must be numbers for the rest to count as broken ones
READABLE_SHARE = 0.5  # a sample of which less than this can be read means the wrong column, not bad rows


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
        f"case when {text} = '' or lower({text}) in {_words(NO_VALUE)} then null when regexp_full_match({text}, "
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
        [_plain(value, style=style) for value in sample],
        test=_is_number_text,
        sample=sample,
        what="numbers",
        where=where,
    )
    value = f"try_cast({plain_sql(sql, style=style)} as {MONEY})"
    return value, f"({sql} is not null and {value} is null and lower(trim({sql})) not in {_words(NO_VALUE)})"


def plain_sql(sql: str, *, style: str) -> str:
    """SQL that writes a number as SQL expects it; style is 'plain', or the decimal sign."""
    if style == "plain":
        # 1_0 is ten to DuckDB alone; and its 2.0 turns a bare try_cast over read_csv into a cast that fails
        return f"replace(trim({sql}), '_', '?')"
    bare = f"regexp_replace({sql}, {literal(SIGNS)}, '', 'g')"
    return f"replace(replace({bare}, '.', ''), ',', '.')" if style == "," else f"replace({bare}, ',', '')"


def number_style(sample: list[str], *, decimal: str | None, where: str) -> str:
    """How a sample writes numbers: 'plain' (12.5), '.' (1,234.50 or $5) or ',' (12,50); unclear ones are refused."""
    values = {re.sub(SIGNS, "", value) for value in sample}
    if decimal is not None:
        return decimal
    commas = [v for v in values if COMMA.fullmatch(v) and not UNSURE.fullmatch(v)]
    groups = [v for v in values if GROUPS.fullmatch(v) and not UNSURE.fullmatch(v)]
    unsure = [v for v in values if UNSURE.fullmatch(v)]
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
    return f"case when {word} in {_words(TRUE)} then true when {word} in {_words(FALSE)} then false end"


def column_type(values: list[str], *, style: str) -> str | None:
    """The number type that texts stand for: BIGINT, DOUBLE, or None for text (also where zeros lead, as in codes)."""
    plain = [_plain(value, style=style) for value in values]
    numbers = [value for value in plain if PLAIN.fullmatch(value)]
    if (
        not numbers
        or len(numbers) < NUMBERS_SHARE * len(values)
        or any(re.match(r"[+-]?0\d", value) for value in numbers)
    ):
        return None
    return "BIGINT" if all(re.fullmatch(r"[+-]?\d{1,18}", value) for value in numbers) else "DOUBLE"


def _plain(value: str, *, style: str) -> str:
    if style == "plain":
        return value.strip()
    bare = re.sub(SIGNS, "", value)
    return bare.replace(".", "").replace(",", ".") if style == "," else bare.replace(",", "")


def _is_number_text(value: str) -> bool:
    return bool(PLAIN.fullmatch(value) or INFINITE.fullmatch(value))


def _refuse_wrong_type(values: list[str], *, test: object, sample: list[str], what: str, where: str) -> None:
    pairs = [(value, raw) for value, raw in zip(values, sample, strict=True) if raw.strip().lower() not in NO_VALUE]
    wrong = sorted(raw for value, raw in pairs if not test(value))
    if pairs and len(wrong) > (1 - READABLE_SHARE) * len(pairs):
        raise SourceError(
            f"{where}: expected {what}, found {wrong[0]!r} ({len(wrong):,} of {len(pairs):,} values in the sample "
            "are none). "
            "Name another column, or turn it into a number in the expression."
        )


def _words(words: tuple[str, ...]) -> str:
    return "(" + ", ".join("'" + word + "'" for word in words) + ")"
