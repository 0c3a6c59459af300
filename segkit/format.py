"""Format numbers, shares and lists as text, and hide the counts of small groups."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from babel import Locale
from babel.dates import format_date
from babel.numbers import format_compact_decimal, format_currency, format_decimal

from segkit.texts import ENGLISH, language_of_names, phrase, spoken

MISSING = "–"  # an unknown number
LONGEST_NAME = 120  # characters of a name from the data; a longer one is cut
SPACE = "\u00a0"  # between a number and its unit: no line breaks there
MINUS = "\u2212"
CAPITAL_NOUNS = ("de", "lb")  # languages that write nouns with a capital everywhere
PROPER_NAMES = frozenset(  # words that keep their capital within a sentence
    "British Christmas Crypto Easter Edwardian Italian Korean London Mexican TV Valentine's".split()
)
CURRENCY_SIGNS = {"USD": "$", "GBP": "£", "EUR": "€"}
LARGE = ((1e9, 1e9, "bn"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from which size on, divided by what, and the unit


def is_missing(value: Any) -> bool:
    """Return whether a value cannot be shown: None, not-a-number or infinity."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float | Decimal) and not math.isfinite(value)


def share(value: float | None) -> str:
    """Format a share of 0-1 as a whole percentage; below 1 % with one decimal.

    >>> share(0.413), share(0.0042), share(0.0), share(-0.08), share(None)
    ('41%', '0.4%', '0%', '−8%', '–')
    """
    if is_missing(value):
        return MISSING
    percent = 100 * float(value)
    return f"{_fixed(percent, 1 if 0 < abs(percent) < 0.95 else 0)}{_percent_sign()}"


def percentage_points(value: float | None) -> str:
    """Format a difference of shares of 0-1 in percentage points, with one decimal.

    >>> percentage_points(0.0123), percentage_points(-0.2), percentage_points(-0.00001)
    ('1.2', '−20.0', '0.0')
    """
    return MISSING if is_missing(value) else _fixed(100 * float(value), 1)


def rate(value: float | None) -> str:
    """Format a rate of 0-1 with two or three figures: most rates of an experiment are small.

    >>> rate(0.413), rate(0.0159), rate(0.0024), rate(0.0), rate(None)
    ('41%', '1.6%', '0.24%', '0%', '–')
    """
    if is_missing(value):
        return MISSING
    percent = 100 * float(value)
    return f"{_fixed(percent, _rate_decimals(percent))}{_percent_sign()}"


def rate_points(value: float | None) -> str:
    """Format a difference of rates in percentage points.

    >>> rate_points(0.074), rate_points(-0.0064), rate_points(0.123), rate_points(0.0)
    ('7.4', '−0.64', '12.3', '0')
    """
    if is_missing(value):
        return MISSING
    return _fixed(100 * float(value), 0 if value == 0 else 1 if abs(value) >= 0.00995 else 2)


def _rate_decimals(percent: float) -> int:
    size = abs(percent)
    return 0 if size >= 19.95 or size == 0 else 1 if size >= 0.995 else 2


def number(value: float | None) -> str:
    """Format a number with about three digits; from ten thousand on it is shortened.

    >>> number(1234567), number(24189), number(2418), number(41.26), number(0.512), number(7), number(-3.5)
    ('1.2\\xa0M', '24\\xa0k', '2,418', '41.3', '0.51', '7', '−3.5')
    """
    if is_missing(value):
        return MISSING
    size = abs(float(value))
    for smallest, divisor, unit in LARGE:
        if size >= smallest:
            if spoken() != ENGLISH:
                return _compact(float(value), 1)
            divided = float(value) / divisor
            return f"{_fixed(divided, 1 if abs(divided) < 9.95 else 0)}{SPACE}{unit}"
    if float(value) == int(value) or size >= 99.5:
        return _fixed(float(value), 0)
    return _fixed(float(value), 1 if size >= 1 else 2)


def count(value: float | None) -> str:
    """Format a whole number in full, with thousands separators.

    >>> count(1469307)
    '1,469,307'
    """
    return MISSING if is_missing(value) else _fixed(float(value), 0)


def percent(value: float | None) -> str:
    """Format a share of 0-1 as it stands in a sentence, like `share`.

    >>> percent(0.413), percent(0.0042), percent(None)
    ('41%', '0.4%', '–')
    """
    return share(value)


def signed_percent(value: float | None) -> str:
    """Format a relative change with its sign.

    >>> signed_percent(0.021), signed_percent(-0.3)
    ('+2%', '−30%')
    """
    return percent(value) if is_missing(value) or round(value, 2) <= 0 else f"+{percent(value)}"


def money(value: float | None, *, currency: str = "") -> str:
    """Format an amount with three figures and its currency; below ten with two decimals.

    >>> money(1834.2, currency="USD"), money(431400.2, currency="GBP"), money(1234567, currency="EUR")
    ('$1,830', '£431,000', '€1.23M')
    >>> money(37.26, currency="USD"), money(3.7, currency="CHF"), money(-12.0), money(None)
    ('$37', 'CHF\\xa03.70', '−12', '–')
    """
    if is_missing(value):
        return MISSING
    size = abs(float(value))
    if spoken() != ENGLISH:
        return _local_money(float(value), currency)
    if size >= 999_500:
        unit, divisor = ("bn", 1e9) if size >= 999.5e6 else ("M", 1e6)
        text = f"{float(f'{size / divisor:.3g}'):g}{unit}"
    elif size >= 9.995 or size == 0:
        text = _fixed(float(f"{size:.3g}") if size >= 99.5 else size, 0)
    else:
        text = _fixed(size, 2)
    sign = CURRENCY_SIGNS.get(currency, currency + SPACE if currency else "")
    return f"{MINUS if value < 0 and text.strip('0.') else ''}{sign}{text}"


def score(value: float | None) -> str:
    """Format a score of about 0-1 with two decimals.

    >>> score(0.5061), score(-0.0049)
    ('0.51', '0.00')
    """
    return MISSING if is_missing(value) else _fixed(float(value), 2)


def small_score(value: float | None) -> str:
    """Format a small score with three decimals.

    >>> small_score(0.0551)
    '0.055'
    """
    return MISSING if is_missing(value) else _fixed(float(value), 3)


def formatter_for(unit: str | None, *, currency: str = "") -> Callable[[Any], str]:
    """Return the formatter of a unit: percentages for shares, full counts for flags, amounts with their currency."""
    if unit == "money" and currency:
        return partial(money, currency=currency)
    return {"share": share, "flag": count}.get(unit or "", number)


def interval(value: float | None, low: float | None, high: float | None, *, form: Any = score) -> str:
    """Format a value with its interval, such as 0.51 [0.48, 0.54]; the value alone where the interval is unknown.

    >>> interval(0.506, 0.478, 0.541), interval(0.41, 0.38, 0.44, form=share), interval(0.5, None, None)
    ('0.51 [0.48, 0.54]', '41% [38%, 44%]', '0.50')
    """
    if is_missing(low) or is_missing(high):
        return form(value)
    return f"{form(value)} [{form(low)}, {form(high)}]"


def _fixed(value: float, decimals: int) -> str:
    """Format a number with separators, a true minus sign, and no minus zero."""
    rounded = round(value, decimals) + 0.0
    if spoken() != ENGLISH:
        return format_decimal(rounded, format=_pattern(decimals), locale=spoken()).replace("-", MINUS)
    return f"{rounded:,.{decimals}f}".replace("-", MINUS)


def _pattern(decimals: int) -> str:
    return "#,##0" + ("." + "0" * decimals if decimals else "")


def _percent_sign() -> str:
    return "%" if spoken() == ENGLISH else Locale.parse(spoken()).percent_formats[None].suffix[0]


def _compact(value: float, decimals: int) -> str:
    """Shorten a large number as a language does; one that has no short form is written in full."""
    short = format_compact_decimal(value, locale=spoken(), fraction_digits=decimals).replace("-", MINUS)
    return _fixed(float(f"{value:.3g}"), 0) if short.strip(MINUS).isdigit() else short


def _local_money(value: float, currency: str) -> str:
    """Format an amount with three figures in another language than English."""
    size, rounded = abs(value), float(f"{value:.3g}")
    if size >= 999_500:
        digits = 2 - int(math.log10(abs(rounded))) % 3
        text = _compact(rounded, digits)
    else:
        text = _fixed(rounded if size >= 99.5 else value, 0 if size >= 9.995 or size == 0 else 2)
    if not currency:
        return text
    whole = format_currency(1, currency, format=_currency_pattern(), locale=spoken(), currency_digits=False)
    return whole.replace("1", text)


def _currency_pattern() -> str:
    return Locale.parse(spoken()).currency_formats["standard"].pattern.split(";")[0].replace("#,##0.00", "0")


def day(value: Any) -> str:
    """Write a date in full: day, month and year.

    >>> from datetime import date
    >>> day(date(2018, 1, 1))
    '1 January 2018'
    """
    return f"{value.day} {value:%B %Y}" if spoken() == ENGLISH else format_date(value, "long", locale=spoken())


def month(value: Any, *, year: bool = True) -> str:
    """Write a month.

    >>> from datetime import date
    >>> month(date(2018, 1, 1)), month(date(2018, 1, 1), year=False)
    ('January 2018', 'January')
    """
    if spoken() == ENGLISH:
        return f"{value:%B %Y}" if year else f"{value:%B}"
    return format_date(value, "LLLL yyyy" if year else "LLLL", locale=spoken())


def day_of_month(value: Any) -> str:
    """Write a day without its year.

    >>> from datetime import date
    >>> day_of_month(date(2018, 1, 15))
    '15 January'
    """
    if spoken() == ENGLISH:
        return f"{value.day} {value:%B}"
    pattern = re.sub(r"\W*y+\W*", "", Locale.parse(spoken()).date_formats["long"].pattern)
    return format_date(value, pattern, locale=spoken())


def spread(value: float | None, low: float | None, high: float | None, *, form: Callable[[Any], str] = number) -> str:
    """Format a value with its range as a reader would say it; the value alone where the range is unknown or a point.

    >>> spread(0.96, 0.95, 0.97, form=percent), spread(-0.1, -0.11, -0.08, form=percent), spread(7, None, None)
    ('96% (95–97%)', '−10% (−11% to −8%)', '7')
    >>> spread(930, 850, 1010, form=lambda value: money(value, currency="USD")), spread(1.0, 0.999, 1.0, form=percent)
    ('$930 ($850–1,010)', '100%')
    """
    shown = form(value)
    if is_missing(low) or is_missing(high) or form(low) == form(high):
        return shown
    return f"{shown} ({between(low, high, form=form)})"


def between(low: float | None, high: float | None, *, form: Callable[[Any], str] = number) -> str:
    """Format a range, its unit once.

    >>> between(0.95, 0.97, form=percent), between(850, 1010, form=lambda value: money(value, currency="USD"))
    ('95–97%', '$850–1,010')
    """
    first, last = form(low), form(high)
    if MINUS in first + last or MISSING in (first, last):
        return phrase("{first} to {last}").format(first=first, last=last)
    sign = re.match(r"\D*", first)[0]
    units = [re.search(r"[^\d.,]*$", text)[0] for text in (first, last)]
    first = first[: -len(units[0])] if units[0] and units[0] == units[1] else first
    return f"{first}–{last.removeprefix(sign)}"


def joined(texts: Sequence[str]) -> str:
    """Join texts to a list in a sentence.

    >>> joined(["tea", "rum", "gin"]), joined(["tea"]), joined(["bread and rolls", "milk"])
    ('tea, rum and gin', 'tea', 'bread and rolls, and milk')
    """
    if len(texts) < 2:
        return "".join(texts)
    word = phrase(" and ")
    last = phrase(", and ") if any(word in t for t in texts) else word
    return last.join([", ".join(texts[:-1]), texts[-1]])


def clean(name: Any) -> str:
    """Return a name from the data on one line, without control characters and not too long.

    >>> clean("Fresh" + chr(10) + "fruit"), clean(None)
    ('Fresh fruit', '')
    """
    if is_missing(name):
        return ""
    text = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in str(name))
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def capitalized(text: str) -> str:
    """Write the first letter large.

    >>> capitalized("an RFM table"), capitalized("")
    ('An RFM table', '')
    """
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """Write the first letter small, unless the word is an abbreviation or a name.

    >>> lower_first("Fresh produce"), lower_first("TV and audio"), lower_first("Christmas decorations")
    ('fresh produce', 'TV and audio', 'Christmas decorations')
    """
    keeps = text[:2].isupper() or text.split(" ")[0] in PROPER_NAMES or language_of_names() in CAPITAL_NOUNS
    return text if keeps else text[:1].lower() + text[1:]


FLOOR = 20  # customers; a smaller group could give away a person
FEWEST_POSSIBLE = 3  # values that a hidden count could have, at least, given all that is shown
COUNT_STEP = 10  # customers, to which a count is rounded that would give another one away
SHARE_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)  # to which an observed share is rounded
COUNTS_OF_A_SHARE = 3  # customers that a step covers: so two counts or more have the same share
TOO_FEW_TEXT = "a number too small to show"


def is_few(value: Any, *, floor: int = FLOOR) -> bool:
    """Return whether a number of customers is too small to be shown.

    >>> is_few(19), is_few(20), is_few(0), is_few(None)
    (True, False, False, False)
    """
    return not is_missing(value) and 0 < value < floor


def masked_count(value: Any, *, floor: int = FLOOR) -> str:
    """Format a number of customers on its own; a small one is masked.

    >>> masked_count(7), masked_count(1234), masked_count(0)
    ('<20', '1,234', '0')
    """
    return f"<{floor}" if is_few(value, floor=floor) else count(value)


def round_count(value: float) -> int:
    """Round a number of customers to tens.

    >>> round_count(25), round_count(34), round_count(0)
    (30, 30, 0)
    """
    return COUNT_STEP * int(value / COUNT_STEP + 0.5)


def about_count(value: float) -> str:
    """Format a rounded number of customers, from which other counts do not follow; a small one, or none, is masked.

    >>> about_count(1234), about_count(19), about_count(0)
    ('1,230', '<20', '<20')
    """
    return f"<{FLOOR}" if value < FLOOR else count(round_count(value))


def suppressed_cells(
    counts: Sequence[float] | np.ndarray | pd.Series, *, floor: int = FLOOR, also: Sequence[bool] = ()
) -> np.ndarray:
    """Flag the counts of a breakdown that must be hidden when their total is known.

    Small counts are hidden, and then the next smallest, until at least two cells and ``floor`` customers are, and each
    small one could have several values: it is known which cells are small, and that the smallest are hidden.

    Parameters
    ----------
    counts
        Numbers of customers, none of them missing.
    floor
        A count below it is small.
    also
        Counts that are hidden for another reason.

    Examples
    --------
    >>> suppressed_cells([3, 25, 40, 900]).tolist(), suppressed_cells([3, 4, 30]).tolist()
    ([True, True, False, False], [True, True, True])
    >>> suppressed_cells([30, 0, 40]).tolist(), suppressed_cells([19, 20, 20, 500]).tolist()
    ([False, False, False], [True, True, True, False])
    """
    values = np.asarray(counts, dtype=float)
    hidden = (values > 0) & (values < floor)
    hidden |= np.asarray(also, dtype=bool) if len(also) else False
    order = np.argsort(values, kind="stable")
    while hidden.any() and (
        hidden.sum() < 2 or values[hidden].sum() < floor or _is_pinned(values, hidden, floor=floor)
    ):
        shown = [cell for cell in order if not hidden[cell] and values[cell] > 0]
        if not shown:
            break
        hidden[shown[0]] = True
    return hidden


def _is_pinned(values: np.ndarray, hidden: np.ndarray, *, floor: int) -> bool:
    """Return whether a small count has hardly more than one possible value, as the sum of the hidden ones is known."""
    whole, small = values[hidden].sum(), int((values[hidden] < floor).sum())
    large, shown = int(hidden.sum()) - small, values[~hidden & (values > 0)]
    most = large * (shown.min() if len(shown) else whole) + (small - 1) * (floor - 1)  # that the other ones could be
    low = max(1, whole - most)
    high = min(floor - 1, whole - large * floor - (small - 1))
    return bool(high - low + 1 < min(FEWEST_POSSIBLE, floor - 1))


def hidden_segments(segments: pd.DataFrame) -> set[str]:
    """Return the segments whose size is shown on no page, as it is small or would give a small one away.

    `segments`: segment, customers; how many customers there are in all is shown.
    """
    return set(segments["segment"][suppressed_cells(segments["customers"])])


def share_of(value: float | None, customers: float) -> str:
    """Format an observed share of so many customers, rounded so that the number behind it does not follow.

    >>> share_of(1 / 31, 31), share_of(0.043, 23), share_of(0.414, 60), share_of(0.414, 900), share_of(0.004, 247)
    ('0%', '0%', '40%', '41%', '0%')
    >>> share_of(0.0042, 5000), share_of(None, 50)
    ('0.4%', '–')
    """
    if is_missing(value) or is_missing(customers):
        return share(value)
    step = next((step for step in SHARE_STEPS if step * customers >= COUNTS_OF_A_SHARE), SHARE_STEPS[-1])
    is_fine = customers >= 1_000 * COUNTS_OF_A_SHARE  # below 1 %, `share` has one decimal
    return share(value) if is_fine else share(round(value / step) * step)


def masked_counts(counts: Sequence[float] | np.ndarray | pd.Series, *, floor: int = FLOOR) -> list[str]:
    """Format the counts of a breakdown: "<20" for a small one, "hidden" for one that would give it away.

    >>> masked_counts([3, 25, 900])
    ['<20', 'hidden', '900']
    """
    return [
        "hidden" if is_hidden and not is_few(value, floor=floor) else masked_count(value, floor=floor)
        for value, is_hidden in zip(np.asarray(counts), suppressed_cells(counts, floor=floor), strict=True)
    ]
