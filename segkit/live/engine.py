"""Update a customer's segment and expected outcomes with each live event.

An event stays in this folder from `Live.feed` to the log of changes; outside it, only the shared feature formulas, the
segment model and the privacy rules are called. Events are computed many at once, as columns: the cost is that of the
columns, not of the customers (benchmarks/live.py), and a change is logged for each event all the same.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.days import PURCHASE
from segkit.customers.features import day_number
from segkit.data.alone import refuse_customers_only
from segkit.data.contract import MAX_NUMBER
from segkit.data.holdout import holdout_if_known
from segkit.data.privacy import ERASURE_FILE
from segkit.data.runs import list_folders, load_run, load_run_privacy, refuse_pseudonyms
from segkit.data.spec import LIST_COLUMNS, NUMBER_COLUMNS
from segkit.data.values import FALSE, NO_VALUE, SPACES, TRUE, read_id, read_text, read_time
from segkit.errors import InputError, RunError
from segkit.live.book import AssignmentBook
from segkit.live.customer import UNIT, FeaturePlan, Mark, day_and_hour, money_units
from segkit.live.explain import CustomerView, Found, LiveAssigner, Views
from segkit.live.history import feature_plan_of, fingerprint, open_history
from segkit.live.kernel import Features, Kernel
from segkit.live.since import Moment, SinceRun
from segkit.live.state import State
from segkit.segments.model import model_from_arrays

MAX_LINE_BYTES = 1_000_000  # bytes
MAX_UNITS = MAX_NUMBER * 10**4  # ten-thousandths, as in the batch
FIRST_DAY, LAST_DAY = 1, 47_846  # of 1970, and the last of 2100: as in the batch, times outside cannot be read
TEXT_COLUMNS = ("order_id", "category", "channel")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # other texts are none in the batch either
MAX_SHOWN_CHARACTERS = 60  # characters of a value in a message


@dataclass(frozen=True)
class Event:
    """An event that can be used: `values` by the contract, its local `day` number, and `line`, the same as JSON."""

    event_id: str
    customer_id: str
    day: int
    values: dict[str, Any]
    line: str


def read_line(line: str | bytes) -> dict[str, Any]:
    """Parse a line of the stream as a JSON object.

    Raises `InputError`: the line is too long, is not JSON, or is not an object.
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


def _read_event(raw: Mapping[str, Any], *, plan: FeaturePlan, needs: Collection[str] = (PURCHASE,)) -> Event:
    """Check an event against the contract and parse its values.

    Parameters
    ----------
    raw
        ``event_id``, ``customer_id`` and ``timestamp`` (ISO, UTC if it has no zone, or seconds since 1970) are
        required; ``event`` is a purchase by default. Columns that the run does not have are ignored.
    needs
        Kinds of event whose category shows what a customer needs.

    Raises
    ------
    InputError
        A column cannot be used; the message names it and its value.
    """
    event_id, customer_id = _required(raw, "event_id"), _required(raw, "customer_id")
    kind = PURCHASE if raw.get("event") is None else raw["event"]
    kind = kind.strip(SPACES) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in plan.measures_by_kind:
        raise InputError(f"event: unknown kind {_shorten(kind)}; the source names {', '.join(sorted(plan.kinds))}")
    time = _time(raw.get("timestamp"))
    values: dict[str, Any] = {"timestamp": time, "event": kind}
    for name in TEXT_COLUMNS:
        if name in plan.columns and (value := raw.get(name)) is not None:
            read = _id if name == "order_id" else _texts if name in LIST_COLUMNS and plan.weighs else _text
            values[name] = read(value, name)
    for name in NUMBER_COLUMNS:
        if name in plan.columns and not _is_missing(value := raw.get(name)):
            values[name] = _number(value, name)
    if "private_label" in plan.columns and raw.get("private_label") is not None:
        values["private_label"] = _flag(raw["private_label"])
    if kind not in needs:
        values.pop("category", None)
    day = _day(time, plan)
    return Event(event_id, customer_id, day, values, json.dumps(values))


def _required(raw: Mapping[str, Any], name: str) -> str:
    found = None if raw.get(name) is None else _id(raw[name], name)
    if not found:
        raise InputError(f"{name}: missing")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: not text that can be written as UTF-8") from None
    return found


def _id(value: Any, name: str) -> str | None:
    try:
        return read_id(value)
    except ValueError as error:
        raise InputError(f"{name}: expected text, and {_shorten(value)} {error}") from None


def _text(value: Any, name: str) -> str | None:
    try:
        return read_text(value)
    except ValueError as error:
        raise InputError(f"{name}: expected text, and {_shorten(value)} {error}") from None


def _texts(value: Any, name: str) -> str | list[str] | None:
    """Normalise a text, or a list of texts as the batch does: each once, in order, without empty ones."""
    if not isinstance(value, list | tuple):
        return _text(value, name)
    found = sorted({text for each in value if each is not None and (text := _text(each, name))})
    return found or None


def _is_missing(value: Any) -> bool:
    """Return whether the batch reads a value as none, such as an empty text or not-a-number."""
    return value is None or value != value or (isinstance(value, str) and value.strip().lower() in NO_VALUE)


def _number(value: Any, name: str) -> Any:
    if isinstance(value, bool):
        raise InputError(f"{name}: expected a number, found {_shorten(value)}")
    try:
        is_number = not isinstance(value, str) or NUMBER.fullmatch(value.strip())
        if is_number and money_units(value) < MAX_UNITS:
            return value if isinstance(value, int | float | str) else str(value)
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise InputError(f"{name}: {_shorten(value)} is not an amount of zero or more")


def _flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    if word not in (*TRUE, *FALSE, *NO_VALUE):
        raise InputError(f"private_label: expected true or false, found {_shorten(value)}")
    return None if word in NO_VALUE else word in TRUE


def _time(timestamp: Any) -> str | float:
    try:
        return read_time(timestamp.isoformat() if isinstance(timestamp, datetime) else timestamp)
    except (ValueError, OverflowError):
        raise InputError(f"timestamp: {_shorten(timestamp)} is not a time; write it as 2024-05-31T18:00:00Z") from None


def _day(time: str | float, plan: FeaturePlan) -> int:
    try:
        day = plan.local_day_and_hour(time)[0]
        near = not FIRST_DAY + 1 < day < LAST_DAY - 1
        is_outside = near and not FIRST_DAY <= day_and_hour(time, UTC)[0] < LAST_DAY
    except (ValueError, ArithmeticError, OSError):
        is_outside = True
    if is_outside:
        raise InputError(f"timestamp: {_shorten(time)} lies outside 1970 to 2100")
    return day


def _shorten(value: Any) -> str:
    return repr(value)[:MAX_SHOWN_CHARACTERS]


def _version(path: str) -> tuple[int, int] | None:
    """Return what changes with a file, at the cost of a system call; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


MAX_CACHED = 4_000  # customers whose events are in memory, those seen last; others are read with their next event
MAX_PENDING = 500  # events whose segments are computed together
FEW_MOMENTS = 100  # so few are compared with what was before in one go, as a call costs more than they do
MAX_AGED = 2_000  # customers who are aged together in a tick
MAX_AHEAD_DAYS = 1  # after the clock; an event further ahead is parked until its day


class Live:
    """The customers of a run, updated event by event from its `as_of` on, with a durable state.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> with segkit.Live(run.path, state=run.path.with_name("live.sqlite")) as live:
    ...     live.table().columns.tolist()[:2]
    ['begun', 'now']
    """

    def __init__(
        self, run_dir: str | Path, *, state: str | Path = "", commit_every: int = 1, sync: str = "full"
    ) -> None:
        """Open the live state of a finished run, or create it.

        Parameters
        ----------
        run_dir
            Folder of a finished run with a model and days.
        state
            File of the state; empty for ``<run>.live/state.sqlite`` next to the run.
        commit_every
            Events per commit. More are faster, but events that are not committed at a crash have to be fed again.
        sync
            ``full`` or ``normal``, see `segkit.live.state.State`.

        Raises
        ------
        RunError
            The run has no model or days, or the state belongs to another run or is in use.
        """
        self.run = load_run(run_dir)
        refuse_customers_only(self.run, what="segkit live")
        refuse_pseudonyms(self.run, what="live events carry the ids of customers")
        self.holdout = holdout_if_known(self.run)
        self._lists: dict[str, tuple[int, int] | None] = {}
        self._load_privacy()
        arrays, meta = self.run.load_model()
        missing = [t for t in ("days", "day_orders", "assignments", "anticipation") if not self.run.has(t)]
        if missing or "timezone" not in meta:
            raise RunError(
                f"{self.run.path}: no {', '.join(missing) or 'timezone'} in it. Make the run again with `segkit run`."
            )
        model = model_from_arrays(arrays, meta)
        self.plan = feature_plan_of(self.run, meta, features=model.space.features)
        self.segments, self._needs = tuple(dict.fromkeys(model.segments)), frozenset(meta["needs"])
        self.path = Path(state) if state else self.run.path.with_name(f"{self.run.path.name}.live") / "state.sqlite"
        self._every, self._fed = commit_every, 0
        self._pending: list[Event] = []
        self.listeners: list[Callable[[Event], None]] = []  # called with each event that is counted
        of_run = fingerprint(self.run)
        self.state = State(self.path, of_run=of_run, sync=sync)
        try:
            self._history = open_history(
                self.run, self.path.with_name(f"{self.path.name}.past"), plan=self.plan, of_run=of_run
            )
            self._kernel = Kernel(self.plan, history=self._history)
            self._assigner = LiveAssigner(
                model,
                formulas=[name for name, _ in self.plan.formulas],
                categories=self._kernel.categories,
                lookback_days=self.plan.lookback_days,
                unit=UNIT if self.plan.weighs else 1,
                kinds=self.plan.kinds,
            )
            self._restore()
        except BaseException:
            self.state.close()
            raise

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Process one event; an ``event_id`` that was counted before changes nothing.

        Parameters
        ----------
        event
            An event by the contract; ``event_id`` and ``customer_id`` are required.

        Returns
        -------
        list of dict
            The changes that became durable with this event; empty if no commit was due.

        Raises
        ------
        InputError
            The event cannot be used; nothing is changed.
        SegkitError
            The state cannot be written.
        """
        found = _read_event(event, plan=self.plan, needs=self._needs)
        if self.is_erased(found.customer_id):
            return []
        self._accept(found)
        self._fed += 1
        return self.flush() if self._fed >= self._every else []

    def is_erased(self, customer_id: str) -> bool:
        """Return whether a customer is on the erasure list; their events are neither stored nor counted."""
        return bool(self._privacy.lists) and self._privacy.is_erased(customer_id)

    def tick(self, time: str | float) -> list[dict[str, Any]]:
        """Advance the clock for all customers and return what changed.

        `time`: a moment, written like an event's timestamp; one on or before the day of the clock changes nothing.
        Parked events whose day is now near are processed first.

        Raises `InputError`: no time, or one more than a lookback after the clock, at which everyone would be silent.
        """
        return self.flush() if self.advance(time) else []

    def advance(self, time: str | float) -> bool:
        """Advance the clock as `tick` does, without a commit; return whether its day changed."""
        try:
            day = self.plan.local_day_and_hour(read_time(time))[0]
        except (ValueError, TypeError, ArithmeticError, OSError, AttributeError):
            raise InputError(f"tick: {time!r} is not a time; write it as 2024-05-31T18:00:00Z") from None
        if day <= self.clock:
            return False
        if day > self.clock + self.plan.lookback_days:
            raise InputError(
                f"tick: {time!r} is more than the {self.plan.lookback_days} days of the lookback after the clock. Send "
                "ticks in shorter steps, or make a new run"
            )
        for line in self.state.unpark(until=day + MAX_AHEAD_DAYS):
            event_id, customer_id, of_day, values = json.loads(line)
            if not self.is_erased(customer_id):
                self._apply(Event(event_id, customer_id, of_day, values, json.dumps(values)))
        self._assign_pending()
        old, self.clock = self.clock, day  # only now: parked events are processed as on their day
        self.state.set_meta("clock", day)
        for customer_ids in _chunks(self._iter_customers(), size=MAX_AGED):
            self.book.read_ahead(customer_ids[0], customer_ids[-1])
            self._age([each for each in customer_ids if not self.is_erased(each)], old=old, time=time)
        return True

    def segment(self, customer_id: str) -> str | None:
        """Return a customer's current segment; None if unknown, or silent for the whole lookback."""
        self._assign_pending()
        return self.book.assignment(customer_id)[0]

    def inspect(self, customer_id: str) -> CustomerView:
        """Return a customer's current features, coordinates and segment without changing anything."""
        self._assign_pending()
        features = self._features(self._since.moments([customer_id], clock=self.clock), begun={})
        views = self._assigner.views(features, previous_codes=self._codes_in_run([customer_id]))
        return self._assigner.view(views, 0, features=features)

    def customers(self) -> list[str]:
        """List all customers with history in the run or a live event, sorted."""
        self._assign_pending()
        return list(self._iter_customers())

    def table(self) -> pd.DataFrame:
        """List every customer who is or was in a segment, see `AssignmentBook.table`."""
        self._assign_pending()
        return self.book.table(active=self.state.customers())

    def flows(self) -> pd.DataFrame:
        """Count customers by segment in the run and now, see `AssignmentBook.flows`."""
        self._assign_pending()
        return self.book.flows()

    @property
    def last_change(self) -> int:
        """The number of the latest change in the log."""
        return self._next - 1

    def flush(self) -> list[dict[str, Any]]:
        """Commit the events fed so far and return the changes since the last commit."""
        self.commit()
        reported, self._reported = self._reported, self.last_change
        lines = self.state.changes(after=reported) if reported < self._reported else []
        return [json.loads(line) for line in self.deliverable(lines)]

    def deliverable(self, lines: Iterable[str]) -> Iterable[str]:
        """Leave out changes of customers who are held out of the whole programme: nobody may act on them."""
        if self.holdout is None:
            return lines
        return (line for line in lines if not self.holdout.members([json.loads(line)["customer_id"]]))

    def commit(self) -> None:
        """Commit the events fed so far; their changes are in the log of the state."""
        self._assign_pending()
        self.state.commit()
        self._fed = 0
        self._load_privacy()

    def close(self) -> None:
        """Commit what is pending and close the state."""
        try:
            self.commit()
        finally:
            self.state.close()

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, InputError):  # an interrupt may come in the middle of a tick
            self.close()
        else:
            self.state.close()

    def _load_privacy(self) -> None:
        """Read the erasure lists again where one is new or has changed; a state in another folder is erased there."""
        if self._lists and [_version(path) for path in self._lists] == list(self._lists.values()):
            return
        places = {folder for each in list_folders(self.run) for folder in (each, *each.parents)}
        paths = [self.run.path / "run.json", *sorted(place / ERASURE_FILE for place in places)]
        self._lists = {str(path): _version(str(path)) for path in paths}  # before they are read
        self._privacy = load_run_privacy(self.run)

    def _restore(self) -> None:
        """Load the clock, the assignments and the customers with events from the run and the state."""
        self.as_of = day_number(self.run.period.as_of)
        self.clock = self.state.get_meta("clock", self.as_of - 1)
        self.book = AssignmentBook(self.run, outcomes=self._assigner.outcomes, state=self.state)
        self._since = SinceRun(self.plan, history=self._history, state=self.state, kernel=self._kernel, most=MAX_CACHED)
        self.active: Counter[str | None] = Counter()  # customers of the run with live events, by segment in the run
        for customer_id in self.state.customers():
            self._mark_active(customer_id)
        self._reported = self.state.last_change()
        self._next = self._reported + 1

    def _mark_active(self, customer_id: str) -> None:
        if self._since.is_first_event(customer_id):
            self.active[self.book.segment_in_run(customer_id)] += 1

    def _iter_customers(self) -> Iterator[str]:
        """Iterate over all customers with history in the run or a live event, sorted."""
        for customer_id, _ in groupby(merge(self._history.customers, self.state.customers())):
            yield customer_id

    def _accept(self, event: Event) -> None:
        if event.day < self.as_of:
            raise InputError(
                "timestamp: before the run's as_of, so the run counts it already; an event that arrives late counts in "
                "the next run"
            )
        if event.day > self.clock + (MAX_AHEAD_DAYS if self.clock >= self.as_of else self.plan.lookback_days):
            row = [event.event_id, event.customer_id, event.day, event.values]
            if event.event_id not in self._pending_ids() and not self.state.counted([event.event_id]):
                self.state.park(event.event_id, day=event.day, line=json.dumps(row))
            return
        self._apply(event)

    def _pending_ids(self) -> set[str]:
        return {event.event_id for event in self._pending}

    def _apply(self, event: Event) -> None:
        """Keep an event to be counted with others; nothing is durable before a commit anyway."""
        self._pending.append(event)
        if len(self._pending) >= MAX_PENDING:
            self._assign_pending()

    def _assign_pending(self) -> None:
        """Count the events since the last time, assign their customers, and log the changes in the order of events."""
        events = self._take_uncounted()
        if not events:
            return
        sinces, before, moments = self._since.read({event.customer_id for event in events}, keep=True), [], []
        self.state.add_events((event.event_id, event.customer_id, event.line) for event in events)
        for since in sinces.values():
            since.compact()
        begun = {customer_id: since.mark() for customer_id, since in sinces.items()}
        latest = dict(begun)
        for event in events:
            customer_id, since = event.customer_id, sinces[event.customer_id]
            self._since.add(since, customer_id, event.values)
            self._mark_active(customer_id)
            for listener in self.listeners:
                listener(event)
            before.append(Moment(customer_id, since, latest[customer_id], self.clock))
            latest[customer_id] = since.mark()
            moments.append(Moment(customer_id, since, latest[customer_id], self.clock))
        self._compare(before.__getitem__, moments, begun=begun, cause=lambda row: _cause(events[row]))

    def _take_uncounted(self) -> list[Event]:
        """Return the pending events whose id was not counted yet, each id once."""
        pending, self._pending = self._pending, []
        events = {event.event_id: event for event in reversed(pending)}
        counted = self.state.counted(events)
        return [event for event in pending if events[event.event_id] is event and event.event_id not in counted]

    def _age(self, customer_ids: list[str], *, old: int, time: str | float) -> None:
        """Advance customers to the clock and log what changed."""
        moments = self._since.moments(customer_ids, clock=self.clock)
        self._compare(
            lambda row: moments[row]._replace(clock=old),
            moments,
            begun={},
            cause=lambda row: {"when": time, "cause": "tick"},
        )

    def _codes_in_run(self, customer_ids: Iterable[str]) -> np.ndarray:
        return self._assigner.codes(self.book.segment_in_run(customer_id) for customer_id in customer_ids)

    def _features(self, moments: Sequence[Moment], *, begun: Mapping[str, Mark]) -> Features:
        stands, steps = self._since.columns(moments, begun=begun)
        return self._kernel.features(stands, steps=steps)

    def _compare(
        self,
        before: Callable[[int], Moment],
        moments: Sequence[Moment],
        *,
        begun: Mapping[str, Mark],
        cause: Callable[[int], dict[str, Any]],
    ) -> None:
        """Assign customers at moments, and log what changed since each was last compared, in order.

        Parameters
        ----------
        before
            Gives the moment that reasons compare a moment with.
        moments
            A customer may occur more than once.
        begun
            How far such customers had come before all of the moments.
        cause
            Gives what led to a moment.
        """
        customer_ids = [moment.customer_id for moment in moments]
        codes, few = self._codes_in_run(customer_ids), len(moments) <= FEW_MOMENTS
        asked = [*moments, *map(before, range(len(moments)))] if few else moments
        features = self._features(asked, begun=begun)
        views = self._assigner.views(features, previous_codes=np.append(codes, codes) if few else codes)
        same, base = self.book.unchanged(customer_ids)
        same &= self._assigner.are_as_before(views, codes=codes, base=base)
        changed: set[str] = set()
        found: list[Found] = []
        for row, (customer_id, is_same) in enumerate(zip(customer_ids, same.tolist(), strict=True)):
            if is_same and customer_id not in changed:
                continue
            changes, assignment = self._assigner.changes(self.book.assignment(customer_id), views, row=row)
            if changes:
                changed.add(customer_id)
                self.book.record(customer_id, assignment)
                found.append(Found(row, row + len(moments) if few else len(found), changes))
        if found:
            then = views
            if not few:
                then = self._assigner.views(self._features([before(one.row) for one in found], begun=begun))
            self._log_changes(found, moments, views, then=then, cause=cause)

    def _log_changes(
        self,
        found: Sequence[Found],
        moments: Sequence[Moment],
        views: Views,
        *,
        then: Views,
        cause: Callable[[int], dict[str, Any]],
    ) -> None:
        """Log the changes found in `views`, with reasons, which compare with `then`."""
        reasons = iter(self._assigner.reasons(found, then, views))
        in_run = np.array([moments[one.row].customer_id in self.book for one in found])
        confidence = self._assigner.confidence(views, [one.row for one in found], in_run=in_run).tolist()
        lines = []
        for one, sure in zip(found, confidence, strict=True):
            customer_id, led = moments[one.row].customer_id, cause(one.row)
            for kind, moved, towards in one.changes:
                if kind == "segment":
                    moved["confidence"] = sure
                why = [] if towards is None else next(reasons)
                because = self._assigner.because(why, silent=towards is None)
                head = {"id": self._next, "kind": kind, "customer_id": customer_id}
                line = json.dumps(head | moved | {"because": because, "why": why} | led, ensure_ascii=False)
                # half a character pair becomes its escape in JSON
                lines.append((self._next, customer_id, line.encode("utf-8", "backslashreplace").decode()))
                self._next += 1
        self.state.add_changes(lines)


def _cause(event: Event) -> dict[str, Any]:
    return {"when": event.values["timestamp"], "cause": "event", "event_id": event.event_id}


def _chunks(customer_ids: Iterator[str], *, size: int) -> Iterator[list[str]]:
    while chunk := list(islice(customer_ids, size)):
        yield chunk
