"""A small run to go on from, with a model of random numbers, made in a moment."""

import random
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd

from segkit.customers.anticipation import Space, anticipate
from segkit.customers.days import build_days, write_days
from segkit.customers.features import customer_data, load_customers
from segkit.data.runs import Run, load_run, open_run
from segkit.live.customer import FeaturePlan, Mark, Since
from segkit.live.kernel import Kernel, Stands, entries_of
from segkit.segments.model import SegmentModel, assign_segments, model_from_arrays, model_to_arrays
from segkit.vocabulary import is_in_space
from tests import strategies as made

AS_OF = date(2024, 3, 1)
SEGMENTS, SUBSAMPLES, AXES, NEEDS = 5, 3, 3, 2


def make_live_run(folder: Path, events: made.Events, *, as_of: date = AS_OF, seed: int = 1) -> Run:
    """A run of the events before `as_of`; segments are cells around random centres."""
    before = events.only([row["day"] < as_of for row in events.rows])
    metadata = {"source": "made", "source_name": "a <made> source", "as_of": as_of.isoformat(), "horizon_days": 30}
    run = open_run(folder, **metadata, lookback_days=made.LOOKBACK_DAYS, seed=seed)
    table = ibis.duckdb.connect().create_table("events", before.arrow())  # a memtable cannot be streamed to a file
    write_days(run, build_days(table, kinds=made.KINDS))
    signals = load_customers(run, kinds=made.KINDS).data
    model = random_model([f for f in signals.features.columns if is_in_space(f)], seed=seed)
    placed = assign_segments(model, signals)
    run.write(placed.assign(core=True, x=0.0, y=0.0), "assignments")
    expected = anticipate(model.space, signals)
    run.write(expected.axes.join(expected.outcomes.add_prefix("expected_log_")), "anticipation")
    run.write(_segments(sorted(set(model.segments)), customers=placed["segment"].value_counts()), "segments")
    arrays, meta = model_to_arrays(model)
    metadata = {"kinds": made.KINDS, "needs": sorted(made.KINDS), "timezone": events.timezone}
    run.save_model(arrays, meta=meta | metadata | {"lookback_days": made.LOOKBACK_DAYS})
    return load_run(folder)


def _segments(ids: list[str], *, customers: pd.Series) -> pd.DataFrame:
    """What the page reads of segments: names that must be escaped, and what was expected."""
    table = pd.DataFrame(
        {"segment": ids, "name": [f"<b>{s}</b>" for s in ids], "macro_segment": "M1", "verdict": "unstable"}
    )
    ranged = [f"{n}{part}" for n in ("stability", "active_share_next", "spend_next") for part in ("", "_low", "_high")]
    counts = dict.fromkeys(("customer_share", "orders"), 0)
    money = dict.fromkeys(("revenue", "revenue_share", "margin", "spend_now"), np.nan)
    table = table.assign(customers=customers.reindex(ids).fillna(0).astype(int).to_numpy())
    return table.assign(**counts, **money, **dict.fromkeys(ranged, 0.5), need=None, need_name="", action="")


def random_model(features: list[str], *, seed: int) -> SegmentModel:
    """Centres among random customers, so that small changes move many."""
    rng = np.random.default_rng(seed)
    terms = made.CATEGORIES[:4]
    outcomes = 2 + NEEDS
    space = Space(
        features=tuple(features),
        mean=rng.normal(size=len(features)),
        scale=rng.uniform(0.5, 3, size=len(features)),
        terms=tuple(terms),
        words=False,
        needs=tuple(f"N{i + 1:02d}" for i in range(NEEDS)),
        outcome_names=("spend", "orders"),
        behaviour_outcomes=rng.normal(size=(len(features), outcomes)) / np.sqrt(len(features)),
        log_outcomes=rng.normal(size=(len(terms), outcomes)),
        share_outcomes=rng.normal(size=(len(terms), outcomes)),
        constant_outcomes=rng.normal(size=outcomes),
        rotation=rng.normal(size=(outcomes, AXES)),
        centre=rng.normal(size=outcomes),
    )
    return SegmentModel(
        space=space,
        segments=tuple(f"S{i + 1:02d}" for i in range(SEGMENTS)),
        macro=("M1",) * SEGMENTS,
        centres=3 * rng.normal(size=(SEGMENTS, AXES)),
        bag_centres=3 * rng.normal(size=(SEGMENTS * SUBSAMPLES, AXES)),
        bag_of=np.repeat(np.arange(SUBSAMPLES), SEGMENTS),
        bag_segment=rng.integers(0, SEGMENTS, size=SEGMENTS * SUBSAMPLES),
        borders=np.array([-0.5, 1.0]),
        level=np.array([0, 1, 1, 2, 2]),
        bag_borders=np.sort(rng.normal(size=(SUBSAMPLES, 2)), axis=1),
    )


def batch_segments(run: Run, events: made.Events, *, as_of: date) -> dict[str, str]:
    """Where the batch puts everyone of all the events at a date."""
    days = build_days(events.table(), kinds=made.KINDS)
    signals = customer_data(days, period=replace(run.period, as_of=as_of), kinds=made.KINDS)
    home = run.table("assignments").set_index("customer_id")["segment"]
    return assign_segments(model_from_arrays(*run.load_model()), signals, previous_segment=home)["segment"].to_dict()


def as_sent(row: dict[str, Any]) -> dict[str, Any]:
    """An event as a queue would send it: plain JSON values."""
    event = {name: value for name, value in row.items() if name not in ("day", "hour") and value is not None}
    event["timestamp"] = f"{row['timestamp'].isoformat()}Z"
    return {name: value if isinstance(value, bool | str | list) else str(value) for name, value in event.items()}


def with_ids(events: made.Events) -> made.Events:
    """The same events, each with an id of its own where it had none."""
    rows = [{**row, "event_id": row["event_id"] or f"x{i}"} for i, row in enumerate(events.rows)]
    return replace(events, rows=rows)


def fixed_events(*, rows: int = 400, customers: int = 30, seed: int = 3) -> made.Events:
    """Events of every column, the same each time."""
    who = [f"{made.CUSTOMERS[i % len(made.CUSTOMERS)]}-{i}" for i in range(customers)]
    return with_ids(made._events(random.Random(seed).choice, rows=rows, held=set(made.OPTIONAL), who=who, lists=False))


class Customers:
    """Customers without a run, whose features the kernel computes from their events alone."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._plan, self._kernel, self._clock = plan, Kernel(plan), -(10**6)
        self._since: dict[str, Since] = {}

    def add(self, event: dict[str, Any], *, who: str = "one") -> None:
        self._since.setdefault(who, Since()).add(event, plan=self._plan, categories=self._kernel.categories)

    def tick(self, time: Any) -> None:
        self._clock = max(self._clock, self._plan.local_day_and_hour(time)[0])

    def compact(self) -> None:
        for since in self._since.values():
            since.compact()

    def features(self) -> pd.DataFrame:
        """By customer, of those who have any."""
        marks = [since.mark() for since in self._since.values()]
        parts = [(since, Mark(), mark) for since, mark in zip(self._since.values(), marks, strict=True)]
        today = np.array([max(self._clock, mark.last_day) for mark in marks], dtype=np.int64)
        first_ever = np.array([mark.first_ever for mark in marks], dtype=np.int64)
        found = self._kernel.features(Stands(np.full(len(parts), -1), today, first_ever, entries_of(parts)))
        names = [name for name, _ in self._plan.formulas]
        return pd.DataFrame(found.values, index=[*self._since], columns=names)[found.has].sort_index()
