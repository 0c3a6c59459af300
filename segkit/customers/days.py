"""Days: all that is kept of a customer, one small row per local day with something in it.

Orders are made from their lines first, days from orders, so the raw events are read once. Rows of the same key add
up, so any window can be read from them and new days can be added without a rescan. Money stays decimal: sums of
decimals do not depend on the order in which threads finish.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from segkit.data.store import Run

PURCHASE = "purchase"
RETURN = "return"
DAY_PARTS = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}
MONEY = ("amount", "discount", "cost")


@dataclass(frozen=True)
class Days:
    """The state of all customers: `rows` by customer and day, `categories` by customer, day and category (or None)."""

    rows: ir.Table
    categories: ir.Table | None


def build_days(events: ir.Table, *, kinds: dict[str, str]) -> Days:
    """Turn events into one row per customer and local day.

    Takes  events: contract columns with `day` (local date) and `hour` (local, 0-23), any order
    Gives  Days.rows: customer_id, day, own_events (done by the customer), occasions (orders, and days with other events of
           their own), orders, lines, `n_<kind>`, money in the source's currency, occasions by part of day
           Days.categories: customer_id, day, category, lines, amount (where known); purchases only

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company' (who does it)
    """
    occasions = _occasions(_marked(events, kinds=kinds), kinds=kinds)
    return Days(rows=_by_day(occasions), categories=_by_category(events))


def load_days(run: Run) -> Days:
    """The days that a run holds, to be queried where they lie."""
    return Days(rows=run.scan("days"), categories=run.scan("day_categories") if run.has("day_categories") else None)


def count_column(kind: str) -> str:
    """The name of the column that counts a kind of event."""
    return f"n_{kind}"


def _marked(events: ir.Table, *, kinds: dict[str, str]) -> ir.Table:
    """Mark purchases and own events; an order is known by its id, or else by its day."""
    bought = events.event == PURCHASE
    order_id = events.order_id if "order_id" in events.columns else ibis.null("string")
    by_id = bought & order_id.notnull()
    return events.mutate(
        bought=bought,
        own=events.event.isin([kind for kind, who in kinds.items() if who == "customer"]),
        key_order=by_id.ifelse(order_id, ibis.null("string")),
        key_day=by_id.ifelse(ibis.null("date"), events.day),
        slot=events.day.epoch_days().cast("int64") * 24 + events.hour.cast("int64"),
    )


def _occasions(events: ir.Table, *, kinds: dict[str, str]) -> ir.Table:
    """One row per order, and per day of other events; the day and hour are those of the first line."""
    returned = events.event == RETURN
    sums = {
        "lines": events.bought.ifelse(1, 0).sum(),
        "own_events": events.own.ifelse(1, 0).sum(),
        **{count_column(kind): (events.event == kind).ifelse(1, 0).sum() for kind in sorted(kinds)},
    }
    for money in MONEY:
        if money in events.columns:
            sums[money] = _sum_where(events[money], events.bought)
    if "amount" in events.columns:
        other = ~events.bought & ~returned
        sums["other_amount"] = _sum_where(events.amount, other & events.own)
        sums["return_amount"] = _sum_where(events.amount, returned)
        if "private_label" in events.columns:
            sums["private_amount"] = _sum_where(events.amount, events.bought & events.private_label.fill_null(False))
    if "discount" in events.columns:
        sums["discounted_lines"] = (events.bought & (events.discount > 0)).ifelse(1, 0).sum()
    if "quantity" in events.columns:
        sums["items"] = _sum_where(events.quantity, events.bought)
    first = events.slot.min(where=events.own)
    grouped = events.group_by("customer_id", "bought", "key_order", "key_day")
    return grouped.aggregate(first_slot=first, any_day=events.day.min(), **sums)


def _by_day(occasions: ir.Table) -> ir.Table:
    """Add occasions up to days; squares of order amounts are kept so that their spread can be read later."""
    own = occasions.first_slot.notnull()
    hour = occasions.first_slot % 24
    keys = {"customer_id", "bought", "key_order", "key_day", "first_slot", "any_day"}
    sums = {name: occasions[name].sum() for name in occasions.columns if name not in keys}
    sums["orders"] = occasions.bought.ifelse(1, 0).sum()
    sums["occasions"] = own.ifelse(1, 0).sum()
    for part, (start, end) in DAY_PARTS.items():
        sums[f"occasions_{part}"] = (own & (hour >= start) & (hour < end)).ifelse(1, 0).sum()
    if "amount" in occasions.columns:
        cents = occasions.amount.cast("decimal(18, 2)")
        sums["amount_squared"] = occasions.bought.ifelse(cents * cents, None).sum().fill_null(0).cast("decimal(38, 4)")
    grouped = occasions.mutate(day=occasions.any_day).group_by("customer_id", "day")
    return grouped.aggregate(**sums)


def _by_category(events: ir.Table) -> ir.Table | None:
    if "category" not in events.columns:
        return None
    bought = events.filter((events.event == PURCHASE) & events.category.notnull())
    sums = {"lines": bought.count()}
    if "amount" in events.columns:
        sums["amount"] = bought.amount.sum().fill_null(0).cast("decimal(38, 4)")
    return bought.group_by("customer_id", "day", "category").aggregate(**sums)


def _sum_where(column: ir.NumericColumn, condition: ir.BooleanColumn) -> ir.NumericScalar:
    return column.sum(where=condition).fill_null(0).cast("decimal(38, 4)")
