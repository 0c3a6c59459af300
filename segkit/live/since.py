"""Hold what customers did since the run: in memory for those seen last, read again from the state for others."""

import json
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segkit.live.customer import FeaturePlan, Mark, Since
from segkit.live.history import RunHistory
from segkit.live.kernel import Kernel, Stands, Steps, entries_of
from segkit.live.state import State

START, NOTHING = Mark(), Since()  # of customers without an event since the run
MOST_COPIES = 2  # moments of a customer and day that are computed each by itself, as that is cheap for few


class Moment(NamedTuple):
    """A customer at a moment: what they did since the run, how far, and the day number of the clock."""

    customer_id: str
    since: Since
    mark: Mark
    clock: int

    @property
    def today(self) -> int:
        """The customer's own day: an event may be a little ahead of the clock."""
        return max(self.clock, self.mark.last_day)


class SinceRun:
    """What customers did since the run, as columns for the kernel.

    Parameters
    ----------
    plan, history, state
        What an event adds, the customers of the run, and the events.
    kernel
        Numbers the categories.
    most
        Customers in memory.
    """

    def __init__(self, plan: FeaturePlan, *, history: RunHistory, state: State, kernel: Kernel, most: int) -> None:
        self._plan, self._history, self._state, self._kernel, self._most = plan, history, state, kernel, most
        self._cache: OrderedDict[str, Since] = OrderedDict()
        self._has_events = bytearray(len(history.customers))  # others are looked up in the state

    def is_first_event(self, customer_id: str) -> bool:
        """Note that a customer has an event, and return whether it is the first of a customer of the run."""
        number = self._history.number(customer_id)
        if number is None or self._has_events[number]:
            return False
        self._has_events[number] = 1
        return True

    def read(self, customer_ids: Collection[str], *, keep: bool = False) -> dict[str, Since]:
        """Return what each customer did since the run; `keep`: for more events, so they stay in memory."""
        missing = [each for each in customer_ids if each not in self._cache and self._may_have_events(each)]
        found = {each: self._cache.get(each) or (Since() if keep else NOTHING) for each in customer_ids}
        found |= {each: Since() for each in missing}
        for customer_id, line in self._state.events_of(missing):
            self.add(found[customer_id], customer_id, json.loads(line))
        for customer_id in found if keep else ():
            self._cache[customer_id] = found[customer_id]
            self._cache.move_to_end(customer_id)
        while len(self._cache) > self._most:
            self._cache.popitem(last=False)
        return found

    def add(self, since: Since, customer_id: str, values: Mapping[str, Any]) -> None:
        """Add an event to what a customer did; a late line of an order of the run is added to that."""
        order_id = values.get("order_id")
        if order_id is not None and order_id not in since.orders:
            found = self._history.order(customer_id, order_id)
            if found is not None:
                since.open_order(order_id, day=found[0], slot=found[1], amount=found[2], plan=self._plan)
        since.add(values, plan=self._plan, categories=self._kernel.categories)

    def moments(self, customer_ids: Collection[str], *, clock: int) -> list[Moment]:
        """Return customers as they are at a day of the clock."""
        found = self.read(customer_ids)
        marks = {customer_id: since.mark() for customer_id, since in found.items() if since is not NOTHING}
        return [Moment(each, found[each], marks.get(each, START), clock) for each in customer_ids]

    def columns(self, moments: Sequence[Moment], *, begun: Mapping[str, Mark]) -> tuple[Stands, Steps | None]:
        """Return customers at moments as columns; what several of one customer and day begin with is there once.

        `begun`: how far a customer with several moments had come before all of them.
        """
        places: dict[tuple[str, int], int] = {}
        of = [places.setdefault((each.customer_id, each.today), len(places)) for each in moments]
        if max(Counter(of).values(), default=0) <= MOST_COPIES:
            return self._stands(moments), None
        first = np.unique(of, return_index=True)[1].tolist()
        stands = self._stands([moments[row]._replace(mark=begun[moments[row].customer_id]) for row in first])
        today = np.array([moments[row].today for row in first], dtype=np.int64)
        added = entries_of([(each.since, begun[each.customer_id], each.mark) for each in moments])
        first_ever = np.array([each.mark.first_ever for each in moments], dtype=np.int64)
        return stands._replace(today=today), Steps(np.array(of, dtype=np.int64), first_ever, added)

    def _stands(self, moments: Sequence[Moment]) -> Stands:
        return Stands(
            self._history.numbers(each.customer_id for each in moments),
            np.array([each.today for each in moments], dtype=np.int64),
            np.array([each.mark.first_ever for each in moments], dtype=np.int64),
            entries_of([(each.since, START, each.mark) for each in moments]),
        )

    def _may_have_events(self, customer_id: str) -> bool:
        number = self._history.number(customer_id)
        return number is None or bool(self._has_events[number])
