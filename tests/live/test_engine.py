"""Live segments: the same as the batch at the same moment, whatever the order; each change with its reasons."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from segkit.data.runs import Run
from segkit.errors import InputError, RunError
from segkit.live import customer
from segkit.live.engine import Live
from segkit.vocabulary import activity_kinds
from tests import strategies as made
from tests.live.live_runs import AS_OF, as_sent, batch_segments, fixed_events, make_live_run, with_ids

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example costs seconds: no shrinking
FEW = settings(max_examples=int(os.environ.get("SEGKIT_EXAMPLES", "3")), deadline=None, phases=PHASES)
Purchase = Callable[..., dict[str, Any]]


@pytest.fixture
def live(small_run: tuple[Run, made.Events], tmp_path: Path) -> Any:
    with Live(small_run[0].path, state=tmp_path / "state.sqlite") as found:
        yield found


@FEW
@given(made.events(least=8, most=40), st.randoms(use_true_random=False), st.integers(0, 1000))
def test_live_segments_equal_the_batch_at_the_same_tick(events: made.Events, random: Any, seed: int) -> None:
    events = with_ids(events)
    before = {row["event_id"] for row in events.rows if row["day"] < AS_OF}
    assume(any(row["day"] < AS_OF and row["event"] in activity_kinds(made.KINDS) for row in events.rows))
    later = [row for row in events.rows if row["event_id"] not in before]
    random.shuffle(later)
    with TemporaryDirectory() as folder:
        run = make_live_run(Path(folder) / "run", events, seed=seed)
        halfway = AS_OF + timedelta(days=45)  # a tick moves the clock by one lookback at most
        for day in sorted({AS_OF, halfway, *(random.choice(events.rows)["day"] for _ in range(2)), events.last_day()}):
            if day < AS_OF:
                continue
            with Live(run.path, commit_every=7) as live:  # each day goes on from the state of the day before
                for row in later:
                    live.feed(as_sent(row))
                live.tick(f"{day}T12:00:00Z")
                day = AS_OF + timedelta(days=live.clock - live.as_of)
                known = events.only([row["day"] <= day for row in events.rows])
                wanted = batch_segments(run, known, as_of=day + timedelta(days=1))
                ahead = {row["customer_id"] for row in later if row["day"] > day}
                for who in set(live.customers()) - ahead:
                    assert live.segment(who) == wanted.get(who), who
                    assert live.inspect(who).segment == wanted.get(who), who


def test_live_segments_start_from_the_assignments_of_the_run(live: Live, small_run: tuple[Run, made.Events]) -> None:
    placed = small_run[0].table("assignments").set_index("customer_id")["segment"]
    assert {who: live.segment(who) for who in placed.index} == placed.to_dict()
    assert {who: live.inspect(who).segment for who in placed.index} == placed.to_dict()
    assert live.segment("nobody") is None


def test_an_unknown_customer_gets_a_segment_from_the_first_event_with_low_confidence(
    live: Live, purchase: Purchase
) -> None:
    first, *_ = live.feed(purchase("e1", "newcomer", "2024-03-02"))
    assert (first["kind"], first["from"], first["to"]) == ("segment", None, live.segment("newcomer"))
    assert first["confidence"] <= 1 / 3 and first["cause"] == "event" and first["event_id"] == "e1"
    assert first["because"] and len(first["why"]) <= 3


def test_an_event_id_counts_once_whatever_its_values(live: Live, purchase: Purchase) -> None:
    assert live.feed(purchase("e1", "newcomer", "2024-03-02"))
    assert live.feed(purchase("e1", "newcomer", "2024-03-02", 9_999)) == []
    assert live.inspect("newcomer").features["spend"] == 12.5
    assert live.feed(purchase("e1", "another", "2024-03-02")) == [] and live.segment("another") is None


def test_silence_ages_everyone_and_the_silent_leave(live: Live) -> None:
    with pytest.raises(InputError, match="more than the 60 days of the lookback after the clock"):
        live.tick("2205-01-01")
    changes = [change for day in ("2024-04-20", "2024-06-10", "2024-08-01") for change in live.tick(f"{day}T00:00:00Z")]
    changes = [change for change in changes if change["to"] is None]
    assert {c["to"] for c in changes} == {None} and {c["cause"] for c in changes} == {"tick"}
    assert all(c["because"] == "nothing of their own in 60 days" for c in changes)
    assert {live.segment(who) for who in live.customers()} == {None}
    assert live.tick("2024-07-01T00:00:00Z") == [], "time does not go back"


def test_an_event_of_the_future_waits_for_its_day(live: Live, purchase: Purchase) -> None:
    live.tick("2024-03-05T12:00:00Z")
    assert live.feed(purchase("e1", "newcomer", "2024-03-20")) == []
    assert live.segment("newcomer") is None and live.state.counts()["parked"] == 1
    live.tick("2024-03-18T12:00:00Z")
    assert live.segment("newcomer") is None
    (change,) = [c for c in live.tick("2024-03-19T12:00:00Z") if c["customer_id"] == "newcomer"]
    assert change["to"] == live.segment("newcomer") and live.state.counts()["parked"] == 0


def test_an_unknown_category_counts_in_breadth_but_not_in_the_mix(live: Live, purchase: Purchase) -> None:
    live.feed(purchase("e1", "a", "2024-03-02", category="never seen"))
    live.feed(purchase("e2", "b", "2024-03-02", category="another one"))
    assert live.segment("a") == live.segment("b") and live.inspect("a").features["categories"] == 1


def test_an_event_before_the_run_is_refused_as_counted_already(live: Live, purchase: Purchase) -> None:
    with pytest.raises(InputError, match="before the run's as_of"):
        live.feed(purchase("e1", "newcomer", "2024-02-20"))


def test_an_expectation_that_halves_or_doubles_is_reported_once(live: Live, small_run: tuple[Run, made.Events]) -> None:
    found = [change for row in small_run[1].rows for change in live.feed(as_sent(row))]
    changes = [c for c in found if c["kind"] == "prediction"]
    assert changes and all(c["from"] != c["to"] and c["because"] for c in changes)
    for who, outcome in {(c["customer_id"], c["outcome"]) for c in changes}:
        mine = [c for c in changes if (c["customer_id"], c["outcome"]) == (who, outcome)]
        assert mine[0]["from"] == "as before"
        assert all(a["to"] == b["from"] for a, b in zip(mine, mine[1:], strict=False)), "each goes on from the last"
    large = [c for c in changes if c["to"] == "doubled"]
    assert all(1 + c["expected"] >= 1.99 * (1 + c["expected_at_run"]) for c in large)


def test_the_log_holds_every_change_under_ids_that_rise_by_one(live: Live, small_run: tuple[Run, made.Events]) -> None:
    changes = [change for row in small_run[1].rows for change in live.feed(as_sent(row))]
    assert [c["id"] for c in changes] == list(range(1, len(changes) + 1))
    assert len([*live.state.changes()]) == len(changes) == live.last_change
    last = {c["customer_id"]: c["to"] for c in changes if c["kind"] == "segment"}
    assert {who: live.segment(who) for who in last} == last


def test_closed_and_opened_again_nothing_is_different(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    run, later = small_run
    half = len(later.rows) // 2
    with Live(run.path, state=tmp_path / "once.sqlite") as once:
        changes = [change for row in later.rows for change in once.feed(as_sent(row))]
        stands = {who: (once.segment(who), once.inspect(who).features) for who in once.customers()}
    with Live(run.path, state=tmp_path / "twice.sqlite") as first:
        again = [change for row in later.rows[:half] for change in first.feed(as_sent(row))]
    with Live(run.path, state=tmp_path / "twice.sqlite") as second:
        again += [change for row in later.rows for change in second.feed(as_sent(row))]
        assert {who: (second.segment(who), second.inspect(who).features) for who in second.customers()} == stands
    assert again == changes


def test_one_customer_with_half_of_all_lines_and_ids_of_200_bytes_are_as_in_the_batch_and_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer, "COMPACT_AFTER", 20)
    events, who = fixed_events(rows=300, customers=12), "half of all lines " + "é" * 91
    rows = [{**row, "event_id": f"{i:0200d}"} for i, row in enumerate(events.rows)]
    events = replace(events, rows=[row | {"customer_id": who} if i % 2 else row for i, row in enumerate(rows)])
    run = make_live_run(tmp_path / "run", events)
    later = sorted((row for row in events.rows if row["day"] >= AS_OF), key=lambda row: row["timestamp"])
    with Live(run.path, state=tmp_path / "once", commit_every=10**9) as once:
        for row in later:
            once.feed(as_sent(row))
        changes = once.flush()
        wanted = batch_segments(run, events, as_of=events.last_day() + timedelta(days=1))
        for day in (AS_OF + timedelta(days=45), events.last_day()):
            once.tick(f"{day}T12:00:00Z")
        assert {name: once.segment(name) for name in once.customers()} == {n: wanted.get(n) for n in once.customers()}
    with Live(run.path, state=tmp_path / "each") as each:
        assert [change for row in later for change in each.feed(as_sent(row))] == changes
        assert len(changes) > 3 and each.segment(who) is not None


def test_two_writers_at_once_and_the_state_of_another_run_are_refused(
    live: Live, small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="another process writes this state"):
        Live(small_run[0].path, state=tmp_path / "state.sqlite")
    other = make_live_run(tmp_path / "other", small_run_events(), seed=2)
    live.close()
    with pytest.raises(RunError, match="goes on from another run"):
        Live(other.path, state=tmp_path / "state.sqlite")
    (tmp_path / "text").write_text("not a database, but long enough to be read as one " * 20)
    with pytest.raises(RunError, match="not a state of live segments"):
        Live(small_run[0].path, state=tmp_path / "text")
    live.state = Live(small_run[0].path, state=tmp_path / "third.sqlite").state  # for the fixture to close


def small_run_events() -> made.Events:
    return fixed_events(rows=60, customers=8)


YEAR, ZONE = 366, "America/New_York"  # daylight saving from 10 March to 3 November 2024
CLOCKS = {
    "daily": lambda day, draw: [day],
    "sparse": lambda day, draw: [day] if day % 13 == 0 else [],
    "jumpy": lambda day, draw: [day, day - draw.randrange(1, 50), day + draw.randrange(2), day, max(0, day - 1)],
    "stops": lambda day, draw: [day] if day % 60 < 30 else [],
}


def a_year_of_events() -> made.Events:
    """Events of a year, many of them in the hours in which the clock is put forward or back."""
    base, rows = replace(fixed_events(rows=150, customers=12), timezone=ZONE), []
    switches = [datetime(2024, 3, 10, 6, 30), datetime(2024, 11, 3, 4, 30)]  # UTC, half an hour before
    for number in range(4):
        for i, row in enumerate(base.rows):
            time = row["timestamp"] + timedelta(days=100 * number)
            if i % 9 == 0:
                time = switches[number % 2] + timedelta(minutes=15 * (i // 9 % 16))
            local = time.replace(tzinfo=UTC).astimezone(ZoneInfo(ZONE))
            order = row["order_id"] and f"{row['order_id']} {number}"
            new = {"timestamp": time, "day": local.date(), "hour": local.hour, "order_id": order}
            rows.append({**row, **new, "event_id": f"{row['event_id']}-{number}"})
    return replace(base, rows=sorted(rows, key=lambda row: row["timestamp"]))


@pytest.fixture(scope="module")
def year_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, made.Events]:
    events = a_year_of_events()
    return make_live_run(tmp_path_factory.mktemp("year") / "run", events), events


SLOW_CLOCKS = [pytest.param(name, marks=pytest.mark.slow) for name in ("daily", "sparse", "stops")]


@pytest.mark.parametrize("clock", ["jumpy", *SLOW_CLOCKS])
def test_a_year_of_ticks_equals_the_batch_however_the_clock_goes(
    clock: str, year_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    run, events = year_run
    later, draw, checked, waited = [row for row in events.rows if row["day"] >= AS_OF], random.Random(4), 0, 0
    with Live(run.path, state=tmp_path / "state", commit_every=10**9) as live:
        for day in range(YEAR):
            date = AS_OF + timedelta(days=day)
            for row in [row for row in later if row["day"] == date]:
                live.feed(as_sent(row))
            for tick in CLOCKS[clock](day, draw):
                before = live.clock
                midnight = datetime.combine(AS_OF + timedelta(days=tick), time(0, 5), ZoneInfo(ZONE))
                live.tick(midnight.isoformat() if draw.random() < 0.5 else midnight.timestamp())
                assert live.clock == max(before, live.as_of + tick), "the clock never goes back"
            waited = max(waited, live.state.counts()["parked"])
            if day % 90 == 20 and live.clock >= live.as_of + day - 1:
                today = AS_OF + timedelta(days=live.clock - live.as_of)
                known = events.only([row["day"] <= today for row in events.rows])
                wanted = batch_segments(run, known, as_of=today + timedelta(days=1))
                fed = {row["customer_id"] for row in later if today < row["day"] <= date}
                silent = {row["customer_id"] for row in later if date < row["day"] <= today}
                for who in set(live.customers()) - fed - silent:
                    assert live.segment(who) == live.inspect(who).segment == wanted.get(who), (who, today)
                    checked += 1
    assert checked > 20 or clock in ("sparse", "stops")
    end = datetime(2025, 3, 1, 12, tzinfo=UTC)
    with Live(run.path, state=tmp_path / "state") as live:
        while live.clock < live.as_of + YEAR - 1:
            live.tick(min(datetime.fromtimestamp((live.clock + 50.5) * 86400, UTC), end).isoformat())
        sent = events.only([row["day"] < AS_OF + timedelta(days=YEAR) for row in events.rows])
        wanted = batch_segments(run, sent, as_of=AS_OF + timedelta(days=live.clock - live.as_of + 1))
        assert all(live.segment(who) == wanted.get(who) for who in live.customers())
        assert live.state.counts()["parked"] == 0 and (waited > 0) == (clock in ("sparse", "stops"))
