"""The verdict on a pilot: what a contact brought after its cost, and what to do. The rule is fixed here, before any
outcome.

- scale: the lower bound of the return is above zero.
- stop: the upper bound of the return is below zero; where no cost or margin is known, that of the lift.
- go on: the lift is above zero for certain, and whether it pays is not (or its price is not known): more customers
  will say.
- cannot tell: everything else. An interval that holds both gain and loss is no finding, whichever way its middle lies.

The bounds are the simultaneous ones: in 95 of 100 pilots none of them misses, so a false "scale" in any segment is
rarer than 5 in 100.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.actions.lift import Lift
from segkit.errors import InputError

COLUMNS = ("contact", "contact_low", "contact_high", "total", "total_low", "total_high", "roi", "roi_low", "roi_high")


@dataclass(frozen=True)
class Price:
    """What a contact costs and what one unit of the KPI earns (for spend a share of it); None: not known."""

    contact_cost: float | None = None
    margin: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether a return can be stated."""
        return self.contact_cost is not None and self.margin is not None

    @property
    def break_even(self) -> float | None:
        """The lift per customer that pays for the contact."""
        return self.contact_cost / self.margin if self.is_complete else None


def price_of(contact_cost: float | None, margin: float | None, *, kpi: str) -> Price:
    """A price that makes sense.

    Raises
    ------
    InputError : a negative or endless cost; a margin that is not positive, or above one where it is a share of spend
    """
    if contact_cost is not None and not (np.isfinite(contact_cost) and contact_cost >= 0):
        raise InputError(f"--contact-cost {contact_cost}: a contact costs nothing or more. Give money per contact.")
    if margin is not None and not (np.isfinite(margin) and margin > 0):
        raise InputError(f"--margin {margin}: what a unit earns is above zero. Give a share of spend, such as 0.25.")
    if margin is not None and kpi == "spend" and margin > 1:
        raise InputError(f"--margin {margin}: of spend it is a share, 0-1. For 25 % give 0.25.")
    return Price(contact_cost=contact_cost, margin=margin)


def verdict_of(lift: Lift, *, price: Price) -> tuple[str, str]:
    """What to do in one segment, and why in a sentence.

    >>> verdict_of(Lift("S01", 90, 90, 12, 10, 2, 0.5, 178, 0.3, low=1, high=3), price=Price(0.1, 0.25))
    ('scale', 'in every case within the interval a contact earns more than it costs')
    >>> verdict_of(Lift("S01", 90, 90, 12, 10, 2, 0.5, 178, 0.3, low=-1, high=3), price=Price(0.1, 0.25))[0]
    'cannot tell'
    """
    if not np.isfinite([lift.low, lift.high]).all():
        return "cannot tell", "nothing varied, so chance cannot be told from effect"
    if price.is_complete:
        low, high = (price.margin * bound - price.contact_cost for bound in (lift.low, lift.high))
        if low > 0:
            return "scale", "in every case within the interval a contact earns more than it costs"
        if high < 0:
            return "stop", "in every case within the interval a contact costs more than it earns"
        if lift.low > 0:
            return "go on", "contact works, and whether it pays is not settled: a larger pilot will say"
    elif lift.high < 0:
        return "stop", "contact lowers the figure"
    elif lift.low > 0:
        return "go on", "contact works; give its cost and the margin, and the return can be stated"
    return "cannot tell", "the interval holds both a gain and a loss"


def returns_of(lifts: list[Lift], *, price: Price) -> pd.DataFrame:
    """What contact brought after its cost, per contact, in all and per unit of money spent, with simultaneous
    intervals.

    Gives  a row for each lift: segment, and COLUMNS (null where cost or margin is not known; roi where contact is free)
    """
    rows = []
    for one in lifts:
        if price.is_complete:
            contact = [price.margin * value - price.contact_cost for value in (one.lift, one.low, one.high)]
            total = [value * one.treated for value in contact]
            roi = [value / price.contact_cost if price.contact_cost > 0 else np.nan for value in contact]
        else:
            contact, total, roi = [np.nan] * 3, [np.nan] * 3, [np.nan] * 3
        rows.append((one.segment, *contact, *total, *roi))
    return pd.DataFrame(rows, columns=["segment", *COLUMNS])
