"""Random event tables for laws: any optional column, both sides of midnight, daylight saving, leap days, odd names."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from hypothesis import strategies as st

KINDS = {
    "purchase": "customer",
    "return": "customer",
    "email öffnen 'x\" y": "customer",
    "support_call": "customer",
    "coupon_used": "customer",
    "cancel": "customer",
    "campaign": "company",
}
CUSTOMERS = ["7", "007", "Ünal, O'Brien", '"quoted"']
CATEGORIES = ["bread", "pain au chocolat", "l'eau", '"x"', "汤"]
LISTS = [None, ["bread"], sorted(CATEGORIES[1:3]), sorted(CATEGORIES[:3]), sorted(CATEGORIES)]
CHANNELS = ["web", "store", "app"]
ZONES = ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
SPAN_DAYS = 150
LOOKBACK_DAYS = 60
ORDER_SPAN_DAYS = 30  # an order's lines may lie so far apart
TYPES = {
    "customer_id": pa.string(),
    "timestamp": pa.timestamp("us"),
    "day": pa.date32(),
    "hour": pa.int32(),
    "event": pa.string(),
    "event_id": pa.string(),
    "order_id": pa.string(),
    "category": pa.string(),
    "private_label": pa.bool_(),
    "quantity": pa.decimal128(18, 4),
    "amount": pa.decimal128(18, 4),
    "discount": pa.decimal128(18, 4),
    "cost": pa.decimal128(18, 4),
    "channel": pa.string(),
}
OPTIONAL = ("order_id", "category", "private_label", "quantity", "amount", "discount", "cost", "channel")
MINUTES = [range(1440), [0, 1, 239, 240, 299, 300, 1438, 1439]]  # of a day; local midnights are likely
Choose = Callable[[Sequence[Any]], Any]
ALWAYS = ("customer_id", "timestamp", "day", "hour", "event")


@dataclass(frozen=True)
class Events:
    """Events in the order they arrive, and what is known of them; `table` is what a source would give."""

    rows: list[dict[str, Any]]
    columns: tuple[str, ...]
    timezone: str
    lists: bool = False  # an event has a list of categories

    def table(self) -> ir.Table:
        return ibis.memtable(self.arrow())

    def arrow(self) -> pa.Table:
        return pa.Table.from_pylist(
            [{name: row[name] for name in self.columns} for row in self.rows],
            schema=pa.schema(
                [(n, pa.list_(TYPES[n]) if self.lists and n == "category" else TYPES[n]) for n in self.columns]
            ),
        )

    def _type(self, name: str) -> pa.DataType:
        return pa.list_(TYPES[name]) if self.lists and name == "category" else TYPES[name]

    def only(self, keep: list[bool]) -> "Events":
        rows = [row for row, kept in zip(self.rows, keep, strict=True) if kept]
        return replace(self, rows=rows)

    def last_day(self) -> date:
        return max(row["day"] for row in self.rows)


@st.composite
def events(draw: st.DrawFn, *, least: int = 1, most: int = 25, columns: tuple[str, ...] | None = None) -> Events:
    """Event tables in arrival order: times out of order, some events twice, with any of the optional columns.

    Parameters
    ----------
    columns : the optional ones; drawn where not given
    """
    held = draw(st.sets(st.sampled_from(OPTIONAL))) if columns is None else set(columns)
    return _events(
        lambda options: draw(st.sampled_from(options)), rows=draw(st.integers(least, most)), held=held, who=CUSTOMERS
    )


@st.composite
def large_events(draw: st.DrawFn, *, rows: int = 600, customers: int = 40) -> Events:
    """One large table of every column, for engines that are slow to start; only its seed is drawn."""
    seed = draw(st.integers(0, 10**6))
    who = [f"{CUSTOMERS[i % len(CUSTOMERS)]}-{i}" for i in range(customers)]
    return _events(random.Random(seed).choice, rows=rows, held=set(OPTIONAL), who=who, lists=True)


def _events(choose: Choose, *, rows: int, held: set[str], who: list[str], lists: bool | None = None) -> Events:
    zone, lists = choose(ZONES), choose([False, False, True]) if lists is None else lists
    found = [_event(choose, zone=zone, number=i, who=who, lists=lists) for i in range(rows)]
    twice = [choose(found) for _ in range(choose(range(4)))]
    names = (*ALWAYS, "event_id", *(name for name in OPTIONAL if name in held))
    return Events(rows=found + [row for row in twice if row["event_id"]], columns=names, timezone=zone, lists=lists)


def _event(choose: Choose, *, zone: str, number: int, who: list[str], lists: bool) -> dict[str, Any]:
    time = FIRST + timedelta(days=choose(range(SPAN_DAYS)), minutes=choose(choose(MINUTES)))
    local, customer = time.astimezone(ZoneInfo(zone)), choose(who)
    order = choose([None, None, "o1", "O'2"])
    return {
        "customer_id": customer,
        "timestamp": time.replace(tzinfo=None),
        "day": local.date(),
        "hour": local.hour,
        "event": choose(["purchase", "purchase", *KINDS]),
        "event_id": choose([None, f"e{number}"]),
        "order_id": order and f"{customer} {order} {(time - FIRST).days // ORDER_SPAN_DAYS}",
        "category": choose(LISTS) if lists else choose([None, *CATEGORIES]),
        "private_label": choose([None, True, False]),
        "quantity": Decimal(choose(range(6))),
        "amount": _money(choose),
        "discount": _money(choose),
        "cost": _money(choose),
        "channel": choose([None, *CHANNELS]),
    }


def _money(choose: Choose) -> Decimal | None:
    """Nothing, zero, cents, or four decimals."""
    unit = choose([None, 0, 100, 10_000])
    return None if unit is None else Decimal(0) if unit == 0 else Decimal(choose(range(1, 300_000))) / unit
