"""Look up and record the assignment of each customer; what live events changed is in the state, not in memory."""

import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import pandas as pd

from segkit.data.runs import Run
from segkit.live.explain import LEVELS, LiveAssignment
from segkit.live.state import State

MAX_RECENT = 10_000  # changed assignments in memory, those recorded or read last
Flows = Counter[tuple[str | None, str | None]]


class AssignmentBook:
    """The segment and expected outcomes of each customer: of the run in memory, changed by live events in the state.

    Memory grows with the customers of the run, however many others the events name.
    """

    def __init__(self, run: Run, *, outcomes: tuple[str, ...], state: State) -> None:
        """Load the assignments of a run and count the live changes of the state."""
        placed = run.table("assignments").set_index("customer_id")
        predictions = run.table("anticipation").set_index("customer_id").reindex(placed.index)
        self._outcomes, self._state = outcomes, state
        self._row = {customer_id: i for i, customer_id in enumerate(placed.index)}
        self._segment_in_run = placed["segment"].to_numpy(dtype=object)
        self._expected_in_run = predictions[[f"expected_log_{name}" for name in outcomes]].to_numpy(dtype=float)
        self._has_changed = np.zeros(
            len(self._row), dtype=bool
        )  # by row of the run: whether the state has an assignment
        self._recent: OrderedDict[str, LiveAssignment] = OrderedDict()
        self._missing = ""  # the customer looked up last and found in neither; they are looked up again at once
        self._flows: Flows = Counter((segment, segment) for segment in self._segment_in_run)
        self._levels: Counter[tuple[int, int]] = Counter()  # outcome, level
        for customer_id, segment, levels in state.assigned_segments():
            row = self._row.get(customer_id)
            if row is not None:
                self._has_changed[row] = True
                self._flows[(self._segment_in_run[row],) * 2] -= 1
            self._count(customer_id, segment, _parse_levels(levels), by=1)

    def __contains__(self, customer_id: str) -> bool:
        """Return whether the run assigns the customer to a segment."""
        return customer_id in self._row

    def __len__(self) -> int:
        """Return how many customers the run assigns."""
        return len(self._row)

    def place(self, customer_id: str) -> int | None:
        """Return the place of a customer among those that the run assigns; None for others."""
        return self._row.get(customer_id)

    def segments_in_run(self) -> np.ndarray:
        """Return the segment of each customer that the run assigns, by place."""
        return self._segment_in_run

    def assignment(self, customer_id: str) -> LiveAssignment:
        """Look up the current assignment of a customer."""
        return self._changed_assignment(customer_id) or self._assignment_in_run(customer_id)

    def segment_in_run(self, customer_id: str) -> str | None:
        """Look up a customer's segment in the run; None if the run does not have the customer."""
        row = self._row.get(customer_id)
        return None if row is None else self._segment_in_run[row]

    def unchanged(self, customer_ids: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Find customers whose assignment is that of the run.

        Returns whether each is one, and what the run expects of each (customers x outcomes; 0 for others).
        """
        rows = np.array([self._row.get(customer_id, -1) for customer_id in customer_ids], dtype=np.int64)
        same = (rows >= 0) & ~np.append(self._has_changed, True)[rows]
        expected = np.zeros((len(rows), len(self._outcomes)))
        expected[same] = self._expected_in_run[rows[same]]
        return same, expected

    def record(self, customer_id: str, assignment: LiveAssignment) -> None:
        """Store the current assignment of a customer."""
        before, row = self._changed_assignment(customer_id), self._row.get(customer_id)
        if before is not None or row is not None:
            segment, levels, _ = before or self._assignment_in_run(customer_id)
            self._count(customer_id, segment, levels, by=-1)
        segment, levels, base = assignment
        self._count(customer_id, segment, levels, by=1)
        if row is not None:
            self._has_changed[row] = True
        self._state.set_assignment(customer_id, segment, levels=levels, base=base)
        self._keep(customer_id, assignment)

    def read_ahead(self, first: str, last: str) -> None:
        """Read the changed assignments of customers who are looked up next, in the order of their ids."""
        for customer_id, *assignment in self._state.assignments(first=first, last=last):
            self._keep(customer_id, tuple(assignment))

    def table(self, *, active: Iterator[str]) -> pd.DataFrame:
        """List every customer who is or was in a segment.

        Returns by ``customer_id``: ``begun`` (segment in the run), ``now`` (None: in none), ``active`` (has live
        events).
        """
        now, new = self._segment_in_run.copy(), {}
        for customer_id, segment, _ in self._state.assigned_segments():
            row = self._row.get(customer_id)
            if row is None:
                new[customer_id] = segment
            else:
                now[row] = segment
        index = pd.Index([*self._row, *new], name="customer_id")
        begun = np.append(self._segment_in_run, np.full(len(new), None))
        now = np.append(now, np.array([*new.values()], dtype=object))
        return pd.DataFrame({"begun": begun, "now": now, "active": index.isin(list(active))}, index=index)

    def flows(self) -> pd.DataFrame:
        """Count ``customers`` by segment in the run (``begun``) and now; None is no segment."""
        rows = [(begun, now, customers) for (begun, now), customers in self._flows.items() if customers]
        return pd.DataFrame(rows, columns=["begun", "now", "customers"]).astype({"begun": object, "now": object})

    def expectation_changes(self) -> Counter[tuple[str, str]]:
        """Count the customers whose expectation of each outcome has halved or doubled since the run."""
        named = {(self._outcomes[i], LEVELS[level]): count for (i, level), count in self._levels.items() if count}
        return Counter(named)

    def _changed_assignment(self, customer_id: str) -> LiveAssignment | None:
        found = self._recent.get(customer_id)
        if found is not None:
            return found
        row = self._row.get(customer_id)
        if customer_id == self._missing or (row is not None and not self._has_changed[row]):
            return None
        found = self._state.assignment(customer_id)
        if found is None:
            self._missing = customer_id
        else:
            self._keep(customer_id, found)
        return found

    def _assignment_in_run(self, customer_id: str) -> LiveAssignment:
        row, levels = self._row.get(customer_id), [0] * len(self._outcomes)
        if row is None:
            return None, levels, None
        return self._segment_in_run[row], levels, self._expected_in_run[row].tolist()

    def _keep(self, customer_id: str, assignment: LiveAssignment) -> None:
        if customer_id == self._missing:
            self._missing = ""
        self._recent[customer_id] = assignment
        self._recent.move_to_end(customer_id)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    def _count(self, customer_id: str, segment: str | None, levels: list[int], *, by: int) -> None:
        self._flows[self.segment_in_run(customer_id), segment] += by
        if segment is not None:
            for outcome, level in enumerate(levels):
                if level:
                    self._levels[outcome, level] += by


@lru_cache(maxsize=1024)
def _parse_levels(text: str) -> list[int]:
    return json.loads(text)
