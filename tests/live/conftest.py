"""A run of 30 customers that live events follow."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from segkit.data.runs import Run
from tests import strategies as made
from tests.live.live_runs import AS_OF, fixed_events, make_live_run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, made.Events]:
    """A run of 30 customers, and the events from its `as_of` on, in order of time; to read only."""
    events = fixed_events()
    run = make_live_run(tmp_path_factory.mktemp("live") / "run", events)
    after = events.only([row["day"] >= AS_OF for row in events.rows])
    rows = sorted(after.rows, key=lambda row: (row["timestamp"], row["event_id"]))
    return run, replace(after, rows=rows)


@pytest.fixture
def purchase() -> Callable[..., dict[str, Any]]:
    """A function that makes an event of a customer."""

    def make(event_id: str, who: str, day: str, amount: object = 12.5, **more: Any) -> dict[str, Any]:
        return {"event_id": event_id, "customer_id": who, "timestamp": f"{day}T12:00:00Z", "amount": amount, **more}

    return make
