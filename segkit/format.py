"""Format numbers, money, dates and lists for people, and hide the counts of small groups."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

MISSING = "–"  # what stands for an unknown number
SPACE = "\u00a0"  # keeps a number and its unit on one line
MINUS = "\u2212"
LARGE = ((1e9, "bn"), (1e6, "M"), (1e4, "k"))  # from which size a number is shortened, and how
DIVIDED = {"bn": 1e9, "M": 1e6, "k": 1e3}


def is_missing(value: Any) -> bool:
    """None, not-a-number and infinity: nothing that could be shown."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float | Decimal) and not math.isfinite(value)


def share(value: float | None) -> str:
    """A share of 0-1 as a whole percentage; below 1 % with one decimal.

    >>> share(0.413), share(0.0042), share(0.0), share(-0.08), share(None)
    ('41\\xa0%', '0.4\\xa0%', '0\\xa0%', '−8\\xa0%', '–')
    """
    if is_missing(value):
        return MISSING
    percent = 100 * float(value)
    return f"{_fixed(percent, 1 if 0 < abs(percent) < 0.95 else 0)}{SPACE}%"


def percentage_points(value: float | None) -> str:
    """A difference of shares of 0-1 in points of a hundred, with one decimal.

    >>> points(0.0123), points(-0.2), points(-0.00001)
    ('1.2', '−20.0', '0.0')
    """
    return MISSING if is_missing(value) else _fixed(100 * float(value), 1)


def number(value: float | None) -> str:
    """A number with three figures that count, shortened from ten thousand on.

    >>> number(1234567), number(24189), number(2418), number(41.26), number(0.512), number(7), number(-3.5)
    ('1.2\\xa0M', '24\\xa0k', '2,418', '41.3', '0.51', '7', '−3.5')
    """
    if is_missing(value):
        return MISSING
    size = abs(float(value))
    for least, letter in LARGE:
        if size >= least:
            divided = float(value) / DIVIDED[letter]
            return f"{_fixed(divided, 1 if abs(divided) < 9.95 else 0)}{SPACE}{letter}"
    if float(value) == int(value) or size >= 99.5:
        return _fixed(float(value), 0)
    return _fixed(float(value), 1 if size >= 1 else 2)


def count(value: float | None) -> str:
    """A whole number in full, with separators.

    >>> count(1469307)
    '1,469,307'
    """
    return MISSING if is_missing(value) else _fixed(float(value), 0)


def score(value: float | None) -> str:
    """A score of about 0-1, with two decimals.

    >>> score(0.5061), score(-0.0049)
    ('0.51', '0.00')
    """
    return MISSING if is_missing(value) else _fixed(float(value), 2)


def small_score(value: float | None) -> str:
    """A small score, with three decimals.

    >>> fine(0.0551)
    '0.055'
    """
    return MISSING if is_missing(value) else _fixed(float(value), 3)


def formatter_for(unit: str | None) -> Callable[[Any], str]:
    """How figures of a unit are written: shares as percentages, flags counted in full, all others as numbers."""
    return {"share": share, "flag": count}.get(unit or "", number)


def interval(value: float | None, low: float | None, high: float | None, *, form: Any = score) -> str:
    """A value with its range: 0.51 [0.48, 0.54]; the value alone where the range is unknown.

    >>> interval(0.506, 0.478, 0.541), interval(0.41, 0.38, 0.44, form=share), interval(0.5, None, None)
    ('0.51 [0.48, 0.54]', '41\\xa0% [38\\xa0%, 44\\xa0%]', '0.50')
    """
    if is_missing(low) or is_missing(high):
        return form(value)
    return f"{form(value)} [{form(low)}, {form(high)}]"


def _fixed(value: float, decimals: int) -> str:
    """Rounded text with separators, a true minus sign, and no minus zero."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:,.{decimals}f}".replace("-", MINUS)


def joined(texts: Sequence[str]) -> str:
    """Join texts to a list within a sentence.

    >>> joined(["tea", "rum", "gin"]), joined(["tea"]), joined(["bread and rolls", "milk"])
    ('tea, rum and gin', 'tea', 'bread and rolls, and milk')
    """
    if len(texts) < 2:
        return "".join(texts)
    last = ", and " if any(" and " in t for t in texts) else " and "
    return last.join([", ".join(texts[:-1]), texts[-1]])


FLOOR = 20  # customers; fewer are persons, not a group
TOO_FEW_TEXT = "a number too small to show"


def is_few(value: Any, *, floor: int = FLOOR) -> bool:
    """Whether a number of customers is too small to be shown.

    >>> is_few(19), is_few(20), is_few(0), is_few(None)
    (True, False, False, False)
    """
    return not is_missing(value) and 0 < value < floor


def masked_count(value: Any, *, floor: int = FLOOR) -> str:
    """A number of customers that stands alone, as text.

    >>> shown(7), shown(1234), shown(0)
    ('<20', '1,234', '0')
    """
    return f"<{floor}" if is_few(value, floor=floor) else count(value)


def suppressed_cells(counts: Sequence[float] | np.ndarray | pd.Series, *, floor: int = FLOOR) -> np.ndarray:
    """Which counts of a breakdown are not shown, when their total is known.

    Takes  numbers of customers, none of them missing
    Gives  a flag for each

    >>> hidden([3, 25, 40, 900]).tolist(), hidden([3, 4, 30]).tolist(), hidden([30, 0, 40]).tolist()
    ([True, True, False, False], [True, True, True], [False, False, False])
    """
    values = np.asarray(counts, dtype=float)
    return _suppress_line(values, (values > 0) & (values < floor), floor=floor)


def masked_counts(counts: Sequence[float] | np.ndarray | pd.Series, *, floor: int = FLOOR) -> list[str]:
    """The counts of a breakdown as text: "<20" for small ones, "hidden" for those that would give them away.

    >>> shown_counts([3, 25, 900])
    ['<20', 'hidden', '900']
    """
    hides = suppressed_cells(counts, floor=floor)
    return [
        masked_count(one, floor=floor) if not hide or is_few(one, floor=floor) else "hidden"
        for one, hide in zip(np.asarray(counts), hides, strict=True)
    ]


def _suppress_line(line: np.ndarray, flag: np.ndarray, *, floor: int) -> np.ndarray:
    """A line with enough hidden, starting from what is hidden for another reason."""
    flag = flag.copy()
    order = np.argsort(line, kind="stable")
    while flag.any() and (flag.sum() < 2 or line[flag].sum() < floor):
        rest = [place for place in order if not flag[place] and line[place] > 0]
        if not rest:
            break
        flag[rest[0]] = True
    return flag
