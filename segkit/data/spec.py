"""What a source is made of, as its YAML states it, and the words of the contract."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from segkit.data.veil import Veil

REQUIRED = ("customer_id", "timestamp")
ID_COLUMNS = ("event_id", "order_id", "item")
TEXT_COLUMNS = ("category", "channel", "campaign", "text")
NUMBER_COLUMNS = ("quantity", "amount", "discount", "cost")
FLAG_COLUMNS = ("private_label",)
OPTIONAL = ID_COLUMNS + TEXT_COLUMNS + FLAG_COLUMNS + NUMBER_COLUMNS
CONTRACT = (*REQUIRED, "event", *OPTIONAL)
ROLES = ("demographic", "geographic", "survey", "current_segment", "identifier", "consent", "ignore")
ALLOW_SET_ASIDE = 0.05  # share of rows that may be set aside when the YAML does not say


@dataclass(frozen=True)
class FileSpec:
    """Where one table is: a path or glob, or a database URL and a table; and how to read it."""

    label: str
    path: str | None = None
    database: str | None = None
    table: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class Lookup:
    """A small table joined to the events by key; `on` maps columns of the events to columns of the lookup."""

    file: FileSpec
    on: dict[str, str]


@dataclass(frozen=True)
class EventTable:
    """One table of events: contract column -> SQL expression over the raw columns."""

    file: FileSpec
    columns: dict[str, str]
    timezone: str
    where: str | None = None
    lookups: tuple[Lookup, ...] = ()


@dataclass(frozen=True)
class CustomerTable:
    """What is known of each customer: column -> SQL expression, column -> role."""

    file: FileSpec
    columns: dict[str, str]
    where: str | None = None


@dataclass(frozen=True)
class Source:
    """A source as its YAML states it; `kinds` says who does each kind of event: customer or company."""

    name: str
    timezone: str
    kinds: dict[str, str]
    roles: dict[str, str]
    tables: tuple[EventTable, ...]
    customers: CustomerTable | None
    base: Path
    default_as_of: str | None = None
    needs: tuple[str, ...] = ("purchase",)  # kinds whose categories show what customers need
    labels: dict[str, str] = field(default_factory=dict)  # category as it is in the data -> as people say it
    currency: str = ""  # of all money, as ISO 4217 has it; "" where the YAML does not say
    allow_set_aside: float = ALLOW_SET_ASIDE
    text: str = field(default="", repr=False)
    veil: Veil = field(default_factory=Veil, repr=False)  # who is left out, and whether ids are shown


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known name comes closest: " Did you mean 'amount'?", or list them all when none is close."""
    names = sorted(str(name) for name in known)
    lower = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(str(word).lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean {lower[close[0]]!r}?" if close else f" Known: {', '.join(names)}."
