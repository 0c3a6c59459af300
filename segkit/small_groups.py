"""Small groups are not shown: counts below the floor, and those from which one of them could be worked out.

A count in a breakdown whose total is known tells the one that is left out. So where a count is hidden, the next
smallest is too, until the hidden ones are two or more and hold the floor together (complementary suppression,
Willenborg & de Waal 2001). Nothing is hidden of nobody: a zero tells of no person.

Tables on disk, for the analyst, keep their detail; pages, pictures, texts and prompts are made through here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from segkit.numbers import count, is_missing

FLOOR = 20  # customers; fewer are persons, not a group
FEW_WORDS = "a number too small to show"


def is_few(value: Any, *, floor: int = FLOOR) -> bool:
    """Whether a number of customers is too small to be shown.

    >>> is_few(19), is_few(20), is_few(0), is_few(None)
    (True, False, False, False)
    """
    return not is_missing(value) and 0 < value < floor


def shown(value: Any, *, floor: int = FLOOR) -> str:
    """A number of customers that stands alone, as text.

    >>> shown(7), shown(1234), shown(0)
    ('<20', '1,234', '0')
    """
    return f"<{floor}" if is_few(value, floor=floor) else count(value)


def hidden(counts: Sequence[float] | np.ndarray | pd.Series, *, floor: int = FLOOR) -> np.ndarray:
    """Which counts of a breakdown are not shown, when their total is known.

    Takes  numbers of customers, none of them missing
    Gives  a flag for each

    >>> hidden([3, 25, 40, 900]).tolist(), hidden([3, 4, 30]).tolist(), hidden([30, 0, 40]).tolist()
    ([True, True, False, False], [True, True, True], [False, False, False])
    """
    values = np.asarray(counts, dtype=float)
    return _covered(values, (values > 0) & (values < floor), floor=floor)


def shown_counts(counts: Sequence[float] | np.ndarray | pd.Series, *, floor: int = FLOOR) -> list[str]:
    """The counts of a breakdown as text: "<20" for small ones, "hidden" for those that would give them away.

    >>> shown_counts([3, 25, 900])
    ['<20', 'hidden', '900']
    """
    hides = hidden(counts, floor=floor)
    return [
        shown(one, floor=floor) if not hide or is_few(one, floor=floor) else "hidden"
        for one, hide in zip(np.asarray(counts), hides, strict=True)
    ]


def _covered(line: np.ndarray, flag: np.ndarray, *, floor: int) -> np.ndarray:
    """A line with enough hidden, starting from what is hidden for another reason."""
    flag = flag.copy()
    order = np.argsort(line, kind="stable")
    while flag.any() and (flag.sum() < 2 or line[flag].sum() < floor):
        rest = [place for place in order if not flag[place] and line[place] > 0]
        if not rest:
            break
        flag[rest[0]] = True
    return flag
