"""Decide whether needs are learnt from items or from categories, by what the purchases hold."""

from collections.abc import Mapping
from datetime import date

import ibis
import ibis.expr.types as ir

from segkit.customers.days import build_days, one_name_a_row
from segkit.customers.likeness import replication
from segkit.customers.needs import MIN_REPLICATION
from segkit.customers.plane import FEWEST_MAPPED
from segkit.customers.purchases import MAX_THINGS, MIN_COVERAGE, Purchases, purchases_of_days, rarest_thing

SAME_COVERAGE = 0.95  # of what categories cover, which items have to cover


def are_items_best(events: ir.Table, *, kinds: Mapping[str, str], before: date, seed: int = 7) -> bool:
    """Decide whether needs are learnt from items; categories win where items are no better.

    Items are better where those that enough customers buy are more than the categories but not too many, cover as much
    of what is bought, and are bought together in one half of the customers as in the other half at least as clearly.

    Parameters
    ----------
    events
        Contract columns with category and item.
    kinds
        Each kind of event -> 'customer' or 'company' (who does it).
    before
        Events on or after this day are not read.
    seed
        Of the halves.
    """
    events = events.filter(events.day < ibis.literal(before))
    items, covered = _common(events, "item")
    if items >= MAX_THINGS or covered < MIN_COVERAGE:
        return False
    categories, usual = _common(events, "category")
    if items <= categories or covered < SAME_COVERAGE * usual:
        return False
    days = build_days(events, kinds=dict(kinds), items=True)
    fine = purchases_of_days(days, before=before)
    coarse = purchases_of_days(days.without_items(), before=before)
    return _repeats(fine, seed=seed) >= max(_repeats(coarse, seed=seed), MIN_REPLICATION)


def _common(events: ir.Table, name: str) -> tuple[int, float]:
    """Return how many things enough customers bought, and the share of what was bought that they make up."""
    rows = one_name_a_row(events, name)
    weight = rows.amount.cast("float64").fill_null(1.0).sum() if "amount" in rows.columns else rows.count()
    pairs = rows.group_by(name, "customer_id").aggregate(weight=weight).cache()  # raw events are read once
    customers = int(pairs.customer_id.nunique().to_pandas())
    things = pairs.group_by(name).aggregate(buyers=pairs.count(), weight=pairs.weight.sum()).to_pandas()
    common = things[things["buyers"] >= rarest_thing(customers)].nlargest(MAX_THINGS, ["buyers", "weight"])
    total = float(things["weight"].sum())
    return len(common), float(common["weight"].sum()) / total if total > 0 else 0.0


def _repeats(purchases: Purchases | None, *, seed: int) -> float:
    """Return how well halves of the customers agree; 0 where there is too little to compare."""
    if purchases is None or len(purchases.things) <= FEWEST_MAPPED:
        return 0.0
    return replication(purchases.amounts, seed=seed)
