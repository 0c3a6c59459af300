"""One live event held against the contract: what is missing or cannot be read is said, and nothing of it counts."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segkit.customers.orders import PURCHASE
from segkit.customers.recipe import Recipe, parts
from segkit.data.spec import NUMBER_COLUMNS
from segkit.data.values import FALSE, NO_VALUE, TRUE
from segkit.errors import InputError

LONGEST_LINE = 1_000_000  # bytes
LARGEST = 10**18  # ten-thousandths: what the decimal(18, 4) of the batch holds
FIRST_DAY, LAST_DAY = 0, 47_846  # 1970 to 2100: as in the batch, times outside cannot be read
NAMES = ("order_id", "category", "channel")
SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Event:
    """An event that can be used: `values` by the contract, its local `day`, and `line`, the same as JSON."""

    event_id: str
    customer_id: str
    day: int
    values: dict[str, Any]
    line: str


def read_line(line: str | bytes) -> dict[str, Any]:
    """A line as an object.

    Raises
    ------
    InputError : too long, not JSON, or not an object
    """
    if len(line) > LONGEST_LINE:
        raise InputError(f"line of more than {LONGEST_LINE:,} bytes")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({str(error)[:SHOWN]})") from None
    if not isinstance(found, dict):
        raise InputError(f"not a JSON object but {type(found).__name__}")
    return found


def read_event(raw: Mapping[str, Any], *, recipe: Recipe, needs: Collection[str] = (PURCHASE,)) -> Event:
    """Hold an event against the contract.

    Takes  event_id, customer_id, timestamp (ISO, UTC where it has no zone, or seconds since 1970); event (default
           purchase); of the other columns those that the run knows, what else it carries is left out

    Parameters
    ----------
    needs : kinds of event whose category shows what a customer needs

    Raises
    ------
    InputError : says which column, and what was found
    """
    event_id, who = _required(raw, "event_id"), _required(raw, "customer_id")
    kind = raw.get("event") or PURCHASE
    if not isinstance(kind, str) or kind not in recipe.measures_by_kind:
        raise InputError(f"event: unknown kind {_shown(kind)}; the source names {', '.join(sorted(recipe.kinds))}")
    time = raw.get("timestamp")
    time = time.isoformat() if isinstance(time, datetime) else time
    values: dict[str, Any] = {"timestamp": time, "event": kind}
    for name in NAMES:
        if name in recipe.columns and (value := raw.get(name)) is not None:
            values[name] = _text(value, name)
    for name in NUMBER_COLUMNS:
        if name in recipe.columns and (value := raw.get(name)) is not None:
            values[name] = _number(value, name)
    if "private_label" in recipe.columns and raw.get("private_label") is not None:
        values["private_label"] = _flag(raw["private_label"])
    if kind not in needs:
        values.pop("category", None)
    day = _day(values["timestamp"], recipe)
    return Event(event_id, who, day, values, json.dumps(values))


def _required(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    found = None if value is None else _text(value, name)
    if not found:
        raise InputError(f"{name}: missing")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: not text that can be written as UTF-8") from None
    return found


def _text(value: Any, name: str) -> str | None:
    """Text as the batch reads it: trimmed, a whole number without its .0, nothing as None."""
    if type(value) is str:
        found = value.strip()
        return found if len(found) > 4 or found.lower() not in NO_VALUE else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name}: expected text, found {_shown(value)}")
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return str(int(value)) if value == int(value) else str(value)


def _number(value: Any, name: str) -> Any:
    if isinstance(value, bool):
        raise InputError(f"{name}: expected a number, found {_shown(value)}")
    try:
        if parts(value) < LARGEST:
            return value if isinstance(value, int | float | str) else str(value)
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise InputError(f"{name}: {_shown(value)} is not an amount of zero or more")


def _flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    if word not in (*TRUE, *FALSE, *NO_VALUE):
        raise InputError(f"private_label: expected true or false, found {_shown(value)}")
    return None if word in NO_VALUE else word in TRUE


def _day(timestamp: Any, recipe: Recipe) -> int:
    try:
        if isinstance(timestamp, bool) or timestamp is None:
            raise ValueError
        day = recipe.local_day_and_hour(timestamp)[0]
    except (ValueError, TypeError, AttributeError, ArithmeticError, OSError):
        raise InputError(f"timestamp: {_shown(timestamp)} is not a time; write it as 2024-05-31T18:00:00Z") from None
    if not FIRST_DAY <= day <= LAST_DAY:
        raise InputError(f"timestamp: {_shown(timestamp)} lies outside 1970 to 2100")
    return day


def _shown(value: Any) -> str:
    return repr(value)[:SHOWN]
