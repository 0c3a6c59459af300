"""Live segments: events one by one, and what they change; the same placing as the batch at the same moment.

    with Live("reports/my_shop/2024-06-01") as live:
        for change in live.feed({"event_id": "e1", "customer_id": "7", "timestamp": "2024-06-01T18:00:00Z"}):
            print(change["customer_id"], change["from"], change["to"], change["because"])
        live.tick("2024-06-02T00:00:00Z")

A customer's clock is the later of the last tick and of their own last event. A tick ages everyone, also the silent.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from segkit.customers.recipe import UNIT
from segkit.customers.single import Customer
from segkit.customers.sums import day_number
from segkit.data.run_source import refuse_pseudonyms, veil_of
from segkit.data.store import load_run
from segkit.errors import InputError, RunError
from segkit.reach.live_book import Book
from segkit.reach.live_events import Event, read_event
from segkit.reach.live_past import fingerprint, open_past, recipe_of
from segkit.reach.live_place import Look, Places
from segkit.reach.live_state import State
from segkit.segments.place import model_from

MOST_HOT = 4_000  # customers kept in memory, the latest seen; the others are read again when they come
AHEAD_DAYS = 1  # after the clock; an event that claims to lie further ahead waits for its day


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
        self._privacy = veil_of(self.run)
        arrays, meta = self.run.load_model()
        lacking = [t for t in ("days", "day_orders", "assignments", "anticipation") if not self.run.has(t)]
        if lacking or "timezone" not in meta:
            raise RunError(
                f"{self.run.path}: no {', '.join(lacking) or 'timezone'} in it. Make it anew by `segkit run`."
            )
        model = model_from(arrays, meta)
        self.recipe = recipe_of(self.run, meta, features=model.space.features)
        self.segments, self._needs = tuple(dict.fromkeys(model.segments)), frozenset(meta["needs"])
        self.path = Path(state) if state else self.run.path.with_name(f"{self.run.path.name}.live") / "state.sqlite"
        unit = UNIT if "amount" in self.recipe.columns else 1
        self._assigner = Places(model, lookback_days=self.recipe.lookback_days, unit=unit)
        self._every, self._fed = commit_every, 0
        self._pending: list[tuple[str, Look, Look, dict[int, int], dict[str, Any]]] = []
        self._unreported: list[dict[str, Any]] = []
        of_run = fingerprint(self.run)
        self.state = State(self.path, of_run=of_run, sync=sync)
        try:
            self._history = open_past(
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
        for line in self.state.unpark(until=day + AHEAD_DAYS):
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

    def inspect(self, customer_id: str) -> Look:
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
        self.book = Book(self.run, outcomes=self._assigner.outcomes, changed=self.state.assignments())
        self._with_events = self.state.customers()
        self._next, self._cache = self.state.last_change() + 1, OrderedDict()

    def _accept(self, event: Event) -> None:
        if event.day < self.as_of:
            raise InputError(
                "timestamp: before the run's as_of, so it counts as in the run already; what came late comes in "
                "with the next run"
            )
        if event.day > self.clock + (AHEAD_DAYS if self.clock >= self.as_of else self.recipe.lookback_days):
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

    def _cached_customer(self, who: str, *, but: str) -> tuple[Customer, Look]:
        """A customer in memory and how they were last seen; read from run and state where they are not there."""
        if who in self._cache:
            self._cache.move_to_end(who)
            return self._cache[who]
        if len(self._cache) >= MOST_HOT:
            self._cache.popitem(last=False)
        return self._load(who, today=self.clock, but=but)

    def _load(self, who: str, *, today: int, but: str = "") -> tuple[Customer, Look]:
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

    def _record_changes(self, who: str, before: Look, now: Look, *, undo: dict[int, int], told: dict[str, Any]) -> None:
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
