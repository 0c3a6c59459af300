"""Hold what customers did since the run: in memory for those seen last, read again from the state for others."""

import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segkit.live.customer import FeaturePlan, Mark, Since
from segkit.live.history import RunHistory
from segkit.live.kernel import Kernel, Stands, Steps, entries_of
from segkit.live.state import State

START = Mark()


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
        found = {customer_id: self._cache.get(customer_id) or Since() for customer_id in customer_ids}
        missing = [each for each in found if each not in self._cache and self._may_have_events(each)]
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

    def stands(self, moments: Sequence[Moment]) -> Stands:
        """Return customers at moments as columns."""
        return Stands(
            self._history.numbers(moment.customer_id for moment in moments),
            np.array([moment.today for moment in moments], dtype=np.int64),
            np.array([moment.mark.first_ever for moment in moments], dtype=np.int64),
            entries_of([(moment.since, START, moment.mark) for moment in moments]),
        )

    def steps(self, moments: Sequence[Moment], before: Mapping[str, Mark]) -> tuple[Stands, Steps | None]:
        """Return moments that follow on each other as columns: what they begin with, once for each customer and day.

        `before`: how far each customer had come at the beginning.
        """
        places: dict[tuple[str, int], int] = {}
        of = [places.setdefault((moment.customer_id, moment.today), len(places)) for moment in moments]
        if len(places) == len(moments):
            return self.stands(moments), None
        first = {place: moment for place, moment in zip(reversed(of), reversed(moments), strict=True)}
        begun = [first[place] for place in range(len(places))]
        stands = self.stands([moment._replace(mark=before[moment.customer_id]) for moment in begun])
        added = entries_of([(moment.since, before[moment.customer_id], moment.mark) for moment in moments])
        first_ever = np.array([moment.mark.first_ever for moment in moments], dtype=np.int64)
        today = np.array([moment.today for moment in begun], dtype=np.int64)
        return stands._replace(today=today), Steps(np.array(of, dtype=np.int64), first_ever, added)

    def _may_have_events(self, customer_id: str) -> bool:
        number = self._history.number(customer_id)
        return number is None or bool(self._has_events[number])
