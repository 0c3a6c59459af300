"""The book of live segments: where everyone stood in the run, and where those stand who changed since."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from segkit.data.store import Run
from segkit.reach.live_place import LEVELS, Standing


class Book:
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
        self._now: dict[str, Standing] = {who: (segment, levels, base) for who, segment, levels, base in changed}

    def __contains__(self, customer_id: str) -> bool:
        """Whether the run has the customer in a segment."""
        return customer_id in self._row

    def assignment(self, customer_id: str) -> Standing:
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

    def record(self, customer_id: str, standing: Standing) -> None:
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
