"""Update segments with each live event."""

import json
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.days import PURCHASE
from segkit.customers.features import day_number
from segkit.data.runs import Run, load_run, load_run_privacy, refuse_pseudonyms
from segkit.data.spec import NUMBER_COLUMNS
from segkit.data.values import FALSE, NO_VALUE, TRUE
from segkit.errors import InputError, RunError
from segkit.live.customer import UNIT, Customer, FeaturePlan, money_units
from segkit.live.explain import LEVELS, Assignment, CustomerView, LiveAssigner
from segkit.live.history import fingerprint, open_history, recipe_of
from segkit.live.state import State
from segkit.segments.model import model_from_arrays

MAX_LINE_BYTES = 1_000_000  # bytes
MAX_NUMBER = 10**18  # ten-thousandths: what the decimal(18, 4) of the batch holds
FIRST_DAY, LAST_DAY = 0, 47_846  # 1970 to 2100: as in the batch, times outside cannot be read
TEXT_COLUMNS = ("order_id", "category", "channel")
MAX_SHOWN_CHARACTERS = 60  # characters of a value in a message


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
    if len(line) > MAX_LINE_BYTES:
        raise InputError(f"line of more than {MAX_LINE_BYTES:,} bytes")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({str(error)[:MAX_SHOWN_CHARACTERS]})") from None
    if not isinstance(found, dict):
        raise InputError(f"not a JSON object but {type(found).__name__}")
    return found


def read_event(raw: Mapping[str, Any], *, recipe: FeaturePlan, needs: Collection[str] = (PURCHASE,)) -> Event:
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
        raise InputError(f"event: unknown kind {_short_repr(kind)}; the source names {', '.join(sorted(recipe.kinds))}")
    time = raw.get("timestamp")
    time = time.isoformat() if isinstance(time, datetime) else time
    values: dict[str, Any] = {"timestamp": time, "event": kind}
    for name in TEXT_COLUMNS:
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
        raise InputError(f"{name}: expected text, found {_short_repr(value)}")
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return str(int(value)) if value == int(value) else str(value)


def _number(value: Any, name: str) -> Any:
    if isinstance(value, bool):
        raise InputError(f"{name}: expected a number, found {_short_repr(value)}")
    try:
        if money_units(value) < MAX_NUMBER:
            return value if isinstance(value, int | float | str) else str(value)
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise InputError(f"{name}: {_short_repr(value)} is not an amount of zero or more")


def _flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    if word not in (*TRUE, *FALSE, *NO_VALUE):
        raise InputError(f"private_label: expected true or false, found {_short_repr(value)}")
    return None if word in NO_VALUE else word in TRUE


def _day(timestamp: Any, recipe: FeaturePlan) -> int:
    try:
        if isinstance(timestamp, bool) or timestamp is None:
            raise ValueError
        day = recipe.local_day_and_hour(timestamp)[0]
    except (ValueError, TypeError, AttributeError, ArithmeticError, OSError):
        raise InputError(
            f"timestamp: {_short_repr(timestamp)} is not a time; write it as 2024-05-31T18:00:00Z"
        ) from None
    if not FIRST_DAY <= day <= LAST_DAY:
        raise InputError(f"timestamp: {_short_repr(timestamp)} lies outside 1970 to 2100")
    return day


def _short_repr(value: Any) -> str:
    return repr(value)[:MAX_SHOWN_CHARACTERS]


class AssignmentBook:
    """The run's segments and expectations as they are, and on top of them what changed."""

    def __init__(self, run: Run, *, outcomes: tuple[str, ...], changed: Iterable[tuple]) -> None:
        """Open the book.

        Takes  a run; changed: customer_id, segment, level of each expectation, expectations at first
        """
        placed = run.table("assignments").set_index("customer_id")
        predictions = run.table("anticipation").set_index("customer_id").reindex(placed.index)
        self._outcomes = outcomes
        self._row = {who: i for i, who in enumerate(placed.index)}
        self._begun = placed["segment"].to_numpy(dtype=object)
        self._base = predictions[[f"expected_log_{name}" for name in outcomes]].to_numpy(dtype=float)
        self._now: dict[str, Assignment] = {who: (segment, levels, base) for who, segment, levels, base in changed}

    def __contains__(self, customer_id: str) -> bool:
        """Whether the run has the customer in a segment."""
        return customer_id in self._row

    def assignment(self, customer_id: str) -> Assignment:
        """Where a customer stands now."""
        found = self._now.get(customer_id)
        if found is not None:
            return found
        row = self._row.get(customer_id)
        if row is None:
            return None, [0] * len(self._outcomes), None
        return self._begun[row], [0] * len(self._outcomes), self._base[row].tolist()

    def segment_in_run(self, customer_id: str) -> str | None:
        """The segment of a customer in the run; None for one it does not hold."""
        row = self._row.get(customer_id)
        return None if row is None else self._begun[row]

    def record(self, customer_id: str, standing: Assignment) -> None:
        """Write down where a customer stands now."""
        self._now[customer_id] = standing

    def table(self, *, active: Iterable[str]) -> pd.DataFrame:
        """Everyone who is or was in a segment.

        Takes  active: customers with an event since
        Gives  by customer_id: begun (segment in the run), now (None: in none), active (had an event since)
        """
        new = [who for who in self._now if who not in self._row]
        index = pd.Index([*self._row, *new], name="customer_id")
        begun = np.append(self._begun, np.full(len(new), None))
        now = begun.copy()
        place = self._row | {who: len(self._row) + i for i, who in enumerate(new)}
        for who, (segment, _, _) in self._now.items():
            now[place[who]] = segment
        return pd.DataFrame({"begun": begun, "now": now, "active": index.isin(list(active))}, index=index)

    def count_expectation_changes(self) -> Counter[tuple[str, str]]:
        """How many customers' expectation of each outcome has halved or doubled since the run."""
        found: Counter[tuple[str, str]] = Counter()
        for segment, levels, _ in self._now.values():
            for outcome, level in zip(self._outcomes, levels, strict=True):
                if segment is not None and level:
                    found[outcome, LEVELS[level]] += 1
        return found


MAX_CACHED = 4_000  # customers kept in memory, the latest seen; the others are read again when they come
MAX_AHEAD_DAYS = 1  # after the clock; an event that claims to lie further ahead waits for its day


class Live:
    """The customers of a run from its `as_of` on, event by event; all of it durable."""

    def __init__(
        self, run_dir: str | Path, *, state: str | Path = "", commit_every: int = 1, sync: str = "full"
    ) -> None:
        """Go on from a run, or from where an earlier process left off.

        Takes  a finished run

        Parameters
        ----------
        state : the file to keep; empty for <run>.live/state.sqlite beside the run
        commit_every : events; more are faster, and what is not committed at a crash has to be fed again
        sync : full or normal, see `live_state.State`

        Raises
        ------
        RunError : not a run with a model and days, or the state is of another run or in use
        """
        self.run = load_run(run_dir)
        refuse_pseudonyms(self.run, what="live events come with the ids of customers")
        self._privacy = load_run_privacy(self.run)
        arrays, meta = self.run.load_model()
        lacking = [t for t in ("days", "day_orders", "assignments", "anticipation") if not self.run.has(t)]
        if lacking or "timezone" not in meta:
            raise RunError(
                f"{self.run.path}: no {', '.join(lacking) or 'timezone'} in it. Make it anew by `segkit run`."
            )
        model = model_from_arrays(arrays, meta)
        self.recipe = recipe_of(self.run, meta, features=model.space.features)
        self.segments, self._needs = tuple(dict.fromkeys(model.segments)), frozenset(meta["needs"])
        self.path = Path(state) if state else self.run.path.with_name(f"{self.run.path.name}.live") / "state.sqlite"
        unit = UNIT if "amount" in self.recipe.columns else 1
        self._assigner = LiveAssigner(model, lookback_days=self.recipe.lookback_days, unit=unit)
        self._every, self._fed = commit_every, 0
        self._pending: list[tuple[str, CustomerView, CustomerView, dict[int, int], dict[str, Any]]] = []
        self._unreported: list[dict[str, Any]] = []
        of_run = fingerprint(self.run)
        self.state = State(self.path, of_run=of_run, sync=sync)
        try:
            self._history = open_history(
                self.run, self.path.with_name(f"{self.path.name}.past"), recipe=self.recipe, of_run=of_run
            )
            self._restore()
        except BaseException:
            self.state.close()
            raise

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take an event in; a repeat of an event_id changes nothing.

        Takes  an event by the contract; event_id and customer_id are required
        Gives  what became durable with it: the changes since the last commit, none where it is not yet time for one

        Raises
        ------
        InputError : the event cannot be used; nothing of it counts
        SegkitError : the state cannot be written
        """
        found = read_event(event, recipe=self.recipe, needs=self._needs)
        if self.is_erased(found.customer_id):
            return []
        self._accept(found)
        self._fed += 1
        return self.flush() if self._fed >= self._every else []

    def is_erased(self, customer_id: str) -> bool:
        """Whether a customer was forgotten: nothing of theirs is kept or counted, whatever comes in."""
        return bool(self._privacy.lists) and self._privacy.is_erased(customer_id)

    def tick(self, time: str | float) -> list[dict[str, Any]]:
        """Let time pass for everyone, and say what that changed; a moment before the last tick changes nothing.

        Takes  a moment, as the timestamp of an event; events of the future whose day is near are taken in first
        """
        try:
            day = self.recipe.local_day_and_hour(time)[0]
        except (ValueError, TypeError, ArithmeticError, OSError, AttributeError):
            raise InputError(f"tick: {time!r} is not a time; write it as 2024-05-31T18:00:00Z") from None
        if day <= self.clock:
            return []
        for line in self.state.unpark(until=day + MAX_AHEAD_DAYS):
            event_id, who, of_day, values = json.loads(line)
            self._apply(Event(event_id, who, of_day, values, json.dumps(values)))
        self._assign_pending()
        old, self.clock = self.clock, day  # only now: what waited is taken in as it would have been on its day
        self.state.set_meta("clock", day)
        for who in self.customers():
            self._age_customer(who, old=old, time=time)
        return self.flush()

    def segment(self, customer_id: str) -> str | None:
        """Where a customer stands now; None for the unknown, and those silent for the whole lookback."""
        self._assign_pending()
        return self.book.assignment(customer_id)[0]

    def inspect(self, customer_id: str) -> CustomerView:
        """What is seen of a customer: features, coordinates, segment; nothing is changed."""
        self._assign_pending()
        return (
            self._cache[customer_id][1] if customer_id in self._cache else self._load(customer_id, today=self.clock)[1]
        )

    def customers(self) -> list[str]:
        """Everyone with a past in the run or an event since, sorted."""
        return sorted({*self._history.customers, *self._with_events})

    def table(self) -> pd.DataFrame:
        """Everyone who is or was in a segment, see `live_book.Book.table`."""
        self._assign_pending()
        return self.book.table(active=self._with_events)

    @property
    def last_change(self) -> int:
        """The number of the latest change in the log."""
        return self._next - 1

    def flush(self) -> list[dict[str, Any]]:
        """Make what was fed durable; gives what changed since the last time."""
        self._assign_pending()
        self.state.commit()
        self._fed, changes, self._unreported = 0, self._unreported, []
        return changes

    def close(self) -> None:
        """Flush, and let the state go."""
        try:
            self.flush()
        finally:
            self.state.close()

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, InputError | KeyboardInterrupt):
            self.close()
        else:
            self.state.close()

    def _restore(self) -> None:
        """What stands in the run, and in the state on top of it."""
        self.as_of = day_number(self.run.period.as_of)
        self.clock = self.state.get_meta("clock", self.as_of - 1)
        self.book = AssignmentBook(self.run, outcomes=self._assigner.outcomes, changed=self.state.assignments())
        self._with_events = self.state.customers()
        self._next, self._cache = self.state.last_change() + 1, OrderedDict()

    def _accept(self, event: Event) -> None:
        if event.day < self.as_of:
            raise InputError(
                "timestamp: before the run's as_of, so it counts as in the run already; what came late comes in "
                "with the next run"
            )
        if event.day > self.clock + (MAX_AHEAD_DAYS if self.clock >= self.as_of else self.recipe.lookback_days):
            row = [event.event_id, event.customer_id, event.day, event.values]
            if not self.state.has_event(event.event_id):
                self.state.park(event.event_id, day=event.day, line=json.dumps(row))
            return
        self._apply(event)

    def _apply(self, event: Event) -> None:
        """Let an event count; where the customer then stands is worked out for many at once."""
        who = event.customer_id
        if not self.state.add_event(event.event_id, customer_id=who, line=event.line):
            return
        customer, before = self._cached_customer(who, but=event.event_id)
        self._add_event(customer, who, event.values)
        self._with_events.add(who)
        undo = before.taste.follow(customer.category_tally)
        now = self._assigner.observe(customer, before.taste, home=self.book.segment_in_run(who))
        self._cache[who] = customer, now
        metadata = {"when": event.values["timestamp"], "cause": "event", "event_id": event.event_id}
        self._pending.append((who, before, now, undo, metadata))

    def _assign_pending(self) -> None:
        """Place those who were seen since the last time, in the order of their events, and log what changed."""
        pending, self._pending = self._pending, []
        self._assigner.assign([now for _, _, now, _, _ in pending])
        for i, (who, before, now, undo, metadata) in enumerate(pending):
            if self._assigner.has_changed(self.book.assignment(who), now):
                later: dict[int, int] = {}  # what was bought since goes back to what it was
                for other, _, _, more, _ in reversed(pending[i + 1 :]):
                    later |= more if other == who else {}
                self._record_changes(who, before, replace(now, undo=later), undo=later | undo, told=metadata)

    def _age_customer(self, who: str, *, old: int, time: str | float) -> None:
        """Let time pass for one customer."""
        before, undo = None, {}
        if who in self._cache:
            customer, before = self._cache[who]
            customer.tick(time)
            undo = before.taste.follow(customer.bought)
            now = self._assigner.assign_one(customer, before.taste, home=self.book.segment_in_run(who))
            self._cache[who] = customer, now
        else:
            now = self._load(who, today=self.clock)[1]
        if self._assigner.has_changed(self.book.assignment(who), now):
            before = before or self._load(who, today=old)[1]
            self._record_changes(who, before, now, undo=undo, told={"when": time, "cause": "tick"})

    def _cached_customer(self, who: str, *, but: str) -> tuple[Customer, CustomerView]:
        """A customer in memory and how they were last seen; read from run and state where they are not there."""
        if who in self._cache:
            self._cache.move_to_end(who)
            return self._cache[who]
        if len(self._cache) >= MAX_CACHED:
            self._cache.popitem(last=False)
        return self._load(who, today=self.clock, but=but)

    def _load(self, who: str, *, today: int, but: str = "") -> tuple[Customer, CustomerView]:
        customer = self._history.customer(who, today=today)
        if who in self._with_events:
            for event_id, line in self.state.events_of(who):
                if event_id != but:
                    self._add_event(customer, who, json.loads(line))
        taste = self._assigner.new_category_mix()
        taste.follow(customer.category_tally)
        return customer, self._assigner.assign_one(customer, taste, home=self.book.segment_in_run(who))

    def _add_event(self, customer: Customer, who: str, values: Mapping[str, Any]) -> None:
        order_id = values.get("order_id")
        if order_id is not None and not customer.knows_order(order_id):
            found = self._history.order(who, order_id)
            if found is not None:
                customer.open_order(order_id, day=found[0], slot=found[1], amount=found[2])
        customer.add(values)

    def _record_changes(
        self, who: str, before: CustomerView, now: CustomerView, *, undo: dict[int, int], told: dict[str, Any]
    ) -> None:
        """Log what changed since the customer was last compared."""
        standing = self.book.assignment(who)
        before = replace(before, segment=standing[0], undo=undo)
        changes, standing = self._assigner.describe_changes(standing, before, now, known=who in self.book)
        self.book.record(who, standing)
        segment, levels, base = standing
        self.state.set_assignment(who, segment, levels=levels, base=base)
        for change in changes:
            self._log_change({"kind": change.pop("kind"), "customer_id": who, **change, **told})

    def _log_change(self, change: dict[str, Any]) -> None:
        change = {"id": self._next, **change}
        self._next += 1
        self.state.add_change(
            change["id"], customer_id=change["customer_id"], line=json.dumps(change, ensure_ascii=False)
        )
        self._unreported.append(change)
