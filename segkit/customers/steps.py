"""Steps such as visit, cart, purchase, or open, search, export: how many days reach each, and where they end."""

from collections.abc import Mapping
from datetime import date

import ibis
import pandas as pd

from segkit.customers.days import Days
from segkit.vocabulary import activity_kinds

LAST = "purchase"
PART_OF = 0.9  # of the days with a kind of event that must hold the step before it, for the two to be steps
COLUMNS = ["step", "event", "days", "customers", "share", "onward"]


def steps(days: Days, *, kinds: Mapping[str, str], start: date, end: date) -> pd.DataFrame:
    """Find the steps of customers, each a part of the one before.

    A kind of event is a step where nearly all days with it also hold the step before, and nearly all with the last one
    hold it. The last is a purchase or, where nothing is bought, the kind with the most steps before it.

    Parameters
    ----------
    kinds
        Event kind -> who does it.
    start, end
        First day, and the day after the last.

    Returns
    -------
    pd.DataFrame
        step, event, days (of customers), customers, share (of the days of the first step), onward (share of them that
        reach the next; null for the last); no rows where there are no steps.
    """
    own = sorted(activity_kinds(kinds))
    if len(own) < 2:
        return pd.DataFrame(columns=COLUMNS)
    together, customers = _count_days(days, kinds=own, start=start, end=end)
    ends = [LAST] if LAST in own else sorted(own, key=lambda kind: (together[kind, kind], kind))
    chain = max((_chain(together, kinds=own, last=end) for end in ends), key=len)
    if not chain:
        return pd.DataFrame(columns=COLUMNS)
    reached = [int(together[kind, kind]) for kind in chain]
    rows = [
        (number + 1, kind, reached[number], customers[kind], reached[number] / reached[0])
        for number, kind in enumerate(chain)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return table.assign(onward=table["days"].shift(-1) / table["days"])


def _count_days(
    days: Days, *, kinds: list[str], start: date, end: date
) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """Count the days that hold both of two kinds of event, and the customers with each."""
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows.day < ibis.literal(end)))
    has = {kind: (rows[f"n_{kind}"] > 0).fill_null(False) for kind in kinds}
    pairs = [(a, b) for a in kinds for b in kinds if a <= b]
    wanted = {f"p{number}": (has[a] & has[b]).sum() for number, (a, b) in enumerate(pairs)}
    wanted |= {f"c{number}": rows.customer_id.nunique(where=has[kind]) for number, kind in enumerate(kinds)}
    found = rows.aggregate(**wanted).to_pandas().fillna(0).iloc[0]
    together = {pair: int(found[f"p{number}"]) for number, pair in enumerate(pairs)}
    customers = {kind: int(found[f"c{number}"]) for number, kind in enumerate(kinds)}
    return together | {(b, a): count for (a, b), count in together.items()}, customers


def _chain(together: Mapping[tuple[str, str], int], *, kinds: list[str], last: str) -> list[str]:
    """Choose the steps, the first one on most days; nothing where the last one has no step before it."""
    days = together[last, last]
    before = [kind for kind in kinds if kind != last and together[kind, kind] > days > 0]
    chain: list[str] = []
    for kind in sorted(before, key=lambda kind: (-together[kind, kind], kind)):
        follows = not chain or together[kind, chain[-1]] >= PART_OF * together[kind, kind]
        if follows and together[kind, last] >= PART_OF * days:
            chain.append(kind)
    return [*chain, last] if chain else []
