"""Sum sorted lines to pieces of orders and days, in numpy: runs of equal keys, in whole units of 0.0001.

A key holds a customer and a day in one integer: the customer's number, then ``bits`` of the day.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from segkit.customers.days import Measure, kinds_that_add
from segkit.errors import InputError
from segkit.vocabulary import DAY_PARTS

Columns = dict[str, np.ndarray]
OTHER, IN_ORDER, ALONE = range(3)  # of a line: not bought, bought in an order, bought without an order_id
NO_HOUR = np.int8(127)  # of a piece without an event of the customer
LARGEST = 10**18  # in units: a sum has 18 digits
WHOLE = 2**63  # integers of numpy are smaller
MIXER = np.uint64(0x9E3779B97F4A7C15)  # spreads numbers of customers over all bits


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """Return where runs of equal keys start.

    Examples
    --------
    >>> run_starts(np.array([4, 4, 7, 7]), np.array([1, 1, 1, 2])).tolist()
    [0, 2, 3]
    """
    changed = np.ones(len(keys[0]), dtype=bool)
    changed[1:] = keys[0][1:] != keys[0][:-1]
    for key in keys[1:]:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def run_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum whole numbers or flags over runs that follow one another from the first value on.

    Differences of running totals, which take a sixth of the time of ``reduceat`` where runs are short. A running total
    that passes 64 bits starts over, and their difference is right all the same.

    Examples
    --------
    >>> run_sums(np.array([1, 2, 3, 4]), np.array([0, 1])).tolist()
    [1, 9]
    """
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    totals = np.cumsum(values.astype(np.int64, copy=False))
    ends = totals[np.append(starts[1:], len(values)) - 1]
    ends[1:] -= ends[:-1].copy()
    return ends


def run_sizes(starts: np.ndarray, rows: int) -> np.ndarray:
    """Count the rows of each run."""
    return np.append(starts[1:], rows) - starts


def add_up(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum units of money over runs, exactly.

    Raises `InputError`: a sum has more than 18 digits.
    """
    total = run_sums(values, starts)
    if len(values) and _largest(values) * _longest(starts, len(values)) >= LARGEST:
        about = np.abs(np.add.reduceat(values.astype(float), starts))
        if about.max() > 0.999999 * LARGEST:
            raise InputError(
                "events: amounts of one customer and day add up to more than 10**14. Check the amounts, or give them "
                "in thousands."
            )
    return total


def piece_rows(lines: Columns, *, measures: list[Measure], kinds: Mapping[str, str]) -> tuple[Columns, Columns]:
    """Sum lines to pieces of orders: one for each customer, day and order, and for the other events of a day.

    Parameters
    ----------
    lines
        ``of`` (customer and day), ``flag``, ``order`` (a hash; where the source has orders), ``hour``, ``kind`` (number
        among the sorted kinds; where there are several), and the columns of the measures; sorted by the first three.

    Returns
    -------
    tuple
        Keys (``start`` in the lines, ``of``, ``flag``, ``order``, ``hour`` of the first event of the customer or
        ``NO_HOUR``), and the sum of each measure.
    """
    starts = run_starts(*(lines[name] for name in ("of", "flag", "order") if name in lines))
    keys = {"start": starts} | {name: lines[name][starts] for name in ("of", "flag", "order") if name in lines}
    own = _flags(lines, "own", kinds=kinds)
    hours = lines["hour"] if own is None else np.where(own, lines["hour"], NO_HOUR)
    keys["hour"] = np.minimum.reduceat(hours, starts)
    sums, found = {}, {}
    for measure in measures:
        wanted = (frozenset(kinds_that_add(measure.group, kinds)), measure.column, measure.condition)
        if wanted not in found:
            found[wanted] = _measure_sum(lines, starts, measure=measure, kinds=kinds)
        sums[measure.name] = found[wanted]
    return keys, sums


def day_rows(keys: Columns, sums: Columns, *, bits: int) -> tuple[Columns, Columns, pa.Array]:
    """Sum pieces by the day on which their order began, as ``days._aggregate_by_day`` does.

    Returns
    -------
    tuple
        Keys (``first``: customer and first day, ``of``: customer and day), the sums with ``orders``, ``occasions`` and
        those by part of day, and the sum of squares of the amounts.
    """
    first, of, bought, hour = keys["of"], keys["of"], keys["flag"] != OTHER, keys["hour"]
    before = np.zeros(len(of), dtype=np.int64)
    late, began, paid = _late_pieces(keys, sums, bits=bits)
    if len(late):
        first, hour, own, before = first.copy(), hour.copy(), sums["own_events"].copy(), before
        first[late], hour[late], own[late], bought[late], before[late] = began, NO_HOUR, 0, False, paid
        order = np.lexsort((of, first))
        first, of, bought, hour, before = (each[order] for each in (first, of, bought, hour, before))
        sums = {name: values[order] for name, values in (sums | {"own_events": own}).items()}
    starts = run_starts(first, of)
    totals = {id(values): add_up(values, starts) for values in sums.values()}
    rows = {name: totals[id(values)] for name, values in sums.items()}
    rows["orders"], rows["occasions"] = run_sums(bought, starts), run_sums(hour != NO_HOUR, starts)
    for part, (start, end) in DAY_PARTS.items():
        rows[f"occasions_{part}"] = run_sums((hour >= start) & (hour < end), starts)
    squares = _square_sums(sums["amount"] if "amount" in sums else before, before, starts)
    return {"first": first[starts], "of": of[starts]}, rows, squares


def name_rows(
    of: np.ndarray, name: np.ndarray, counts: np.ndarray | None, weights: np.ndarray | None, *, names: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Sum lines by customer, day and name.

    Parameters
    ----------
    of, name
        Customer and day, and the number of the name, of each line.
    counts
        What each line counts; None for one.
    weights
        Units of money of each line; None without.
    names
        Number of names.

    Returns
    -------
    tuple
        ``of``, ``name``, counts and weights of the rows, sorted.
    """
    packed = of * names + name
    order = np.argsort(packed, kind="stable")  # quick where rows are nearly sorted, as by day here
    packed = packed[order]
    starts = run_starts(packed)
    rows = packed[starts]
    lines = run_sizes(starts, len(packed)) if counts is None else run_sums(counts[order], starts)
    return rows // names, rows % names, lines, None if weights is None else add_up(weights[order], starts)


def kind_flags(lines: Columns, wanted: set[str], *, kinds: Mapping[str, str]) -> np.ndarray | None:
    """Flag the lines of some kinds of event; None where all lines are."""
    if kinds.keys() <= wanted:
        return None
    if not kinds.keys() & wanted:
        return np.zeros(len(lines["of"]), dtype=bool)
    chosen = np.array([kind in wanted for kind in sorted(kinds)])
    return chosen[lines["kind"]]


def _flags(lines: Columns, group: str, *, kinds: Mapping[str, str]) -> np.ndarray | None:
    return kind_flags(lines, kinds_that_add(group, kinds), kinds=kinds)


def _measure_sum(lines: Columns, starts: np.ndarray, *, measure: Measure, kinds: Mapping[str, str]) -> np.ndarray:
    """Sum one measure over runs of lines."""
    counted = _flags(lines, measure.group, kinds=kinds)
    if measure.condition:
        flag = lines[f"{measure.condition}_set"]
        counted = flag if counted is None else counted & flag
    if measure.column is None:
        return run_sizes(starts, len(lines["of"])) if counted is None else run_sums(counted, starts)
    values = lines[measure.column]
    return add_up(values if counted is None else np.where(counted, values, 0), starts)


def _late_pieces(keys: Columns, sums: Columns, *, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pieces of an order after its first day, with that day and the amount before them."""
    none = np.empty(0, dtype=np.int64)
    if "order" not in keys:
        return none, none, none
    named = np.flatnonzero(keys["flag"] == IN_ORDER)
    who, order = keys["of"][named] >> bits, keys["order"][named]
    mixed = order ^ (who.astype(np.uint64) * MIXER)
    ordered = np.sort(mixed)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return none, none, none
    several = np.isin(mixed, twice)
    named, who, order = named[several], who[several], order[several]
    sorting = np.lexsort((keys["of"][named], order, who))
    named, who, order = named[sorting], who[sorting], order[sorting]
    starts = run_starts(who, order)
    sizes = run_sizes(starts, len(named))
    amount = sums["amount"][named] if "amount" in sums else np.zeros(len(named), dtype=np.int64)
    before = np.cumsum(amount) - amount
    before -= np.repeat(before[starts], sizes)
    late = np.ones(len(named), dtype=bool)
    late[starts] = False
    return named[late], np.repeat(keys["of"][named[starts]], sizes)[late], before[late]


def _square_sums(amount: np.ndarray, before: np.ndarray, starts: np.ndarray) -> pa.Array:
    """Sum (a + b)**2 - b**2 over runs, exactly; in Python where 64 bits might not hold it."""
    largest, longest = _largest(amount), _longest(starts, len(amount))
    if largest * (largest + 2 * _largest(before)) * longest < WHOLE:
        low = run_sums(amount * (amount + 2 * before), starts)
        high = low >> 63
    else:
        paid = amount.astype(object)
        total = np.add.reduceat(paid * (paid + 2 * before.astype(object)), starts)
        low = np.array([int(value) & (2**64 - 1) for value in total], dtype=np.uint64).view(np.int64)
        high = np.array([int(value) >> 64 for value in total], dtype=np.int64)
    words = np.column_stack([low, high])
    return pa.Array.from_buffers(pa.decimal128(36, 8), len(words), [None, pa.py_buffer(words)])


def _largest(values: np.ndarray) -> int:
    return max(int(values.max()), -int(values.min())) if len(values) else 0


def _longest(starts: np.ndarray, rows: int) -> int:
    return int(run_sizes(starts, rows).max()) if rows else 0
