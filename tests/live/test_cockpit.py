"""The cockpit: money equals the batch, a dead feed is seen at once, and no cause is something that the company did."""

import io
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from segkit.data.runs import Run
from segkit.live.cockpit import Cockpit, Money
from segkit.live.engine import Live
from segkit.live.page import page_facts, write_page
from segkit.live.stream import Stream
from segkit.live.usual import HOURS, MONDAY
from tests import strategies as made
from tests.live.live_runs import AS_OF, as_sent, batch_segments, fixed_events

SIGN = {"return": -1, "cancel": 0}  # of what is paid
Purchase = Callable[..., dict[str, Any]]


@pytest.fixture
def stream(small_run: tuple[Run, made.Events], tmp_path: Path) -> Any:
    with Live(small_run[0].path, state=tmp_path / "state.sqlite", commit_every=10**9, sync="normal") as live:
        yield Stream(live, out=io.BytesIO())


def send(stream: Stream, *lines: dict[str, Any]) -> None:
    stream.feed_lines([json.dumps(line).encode() for line in lines])
    stream.feed_lines([])


def test_a_month_replayed_minute_by_minute_equals_the_batch(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    """Ticks every minute and events as they come; segments and the money of each week are those of the whole table."""
    run, later = small_run
    zone, end = ZoneInfo(later.timezone), AS_OF + timedelta(days=31)
    everything = fixed_events()
    known = everything.only([row["day"] < end for row in everything.rows])
    month = [row for row in later.rows if row["day"] < end]
    start, stop = (datetime.combine(day, time(), tzinfo=zone).astimezone(UTC) for day in (AS_OF, end))
    lines = [(row["timestamp"].replace(tzinfo=UTC), 1, json.dumps(as_sent(row)).encode()) for row in month]
    for minute in range(int((stop - start).total_seconds() / 60)):
        at = start + timedelta(minutes=minute)
        lines.append((at, 0, b'{"tick": "%s"}' % at.isoformat().encode()))
    with Live(run.path, state=tmp_path / "state", commit_every=10**9, sync="normal") as live:
        stream = Stream(live, out=io.BytesIO())
        stream.feed_lines([line for *_, line in sorted(lines)])
        stream.feed_lines([])
        wanted = batch_segments(run, known, as_of=end)
        assert {who: live.segment(who) for who in live.customers() if live.segment(who)} == wanted
        home = run.table("assignments").set_index("customer_id")["segment"]
        weeks = sorted({monday(row["day"]) for row in month}, reverse=True)
        assert monday(end - timedelta(days=1)) == weeks[0] and len(weeks) >= 4
        check_weeks(stream.cockpit, live, rows=month, weeks=weeks[:2], home=home.to_dict())
        again = page_facts(Cockpit(live))
        assert again == page_facts(stream.cockpit), "a restart changes nothing"


def check_weeks(
    cockpit: Cockpit, live: Live, *, rows: list[dict[str, Any]], weeks: list[date], home: dict[str, str]
) -> None:
    """This week and the last, against sums over the rows."""
    for ago, week in enumerate(weeks):
        sums: Counter[str | None] = Counter()
        buyers: dict[str | None, set[str]] = {}
        seen: set[str] = set()
        for row in sorted(rows, key=lambda row: (row["timestamp"], row["event_id"])):
            if monday(row["day"]) != week or row["event_id"] in seen or made.KINDS[row["event"]] != "customer":
                continue
            seen.add(row["event_id"])
            segment = home.get(row["customer_id"])
            sums[segment] += SIGN.get(row["event"], 1) * round(float(row["amount"] or 0) * 10_000)
            if row["event"] == "purchase":
                buyers.setdefault(segment, set()).add(row["customer_id"])
        found: Money = cockpit.money(weeks_ago=ago)
        assert found.actual[:-1] * 10_000 == pytest.approx([sums[s] for s in live.segments])
        assert found.new_actual * 10_000 == pytest.approx(sums[None])
        assert found.buyers[:-1].tolist() == [len(buyers.get(s, ())) for s in live.segments]
        assert found.actual[-1] == pytest.approx(found.actual[:-1].sum())


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def test_a_dead_feed_is_alarmed_at_the_first_tick_at_which_it_is_unusual(stream: Stream, purchase: Purchase) -> None:
    cockpit = stream.cockpit
    cockpit.usual.orders = np.tile(np.repeat([0.0, 20.0], [8, 16]), 7)  # closed until eight
    send(stream, {"tick": "2024-03-01T00:00:00Z"}, *(
        purchase(f"e{hour}", "a", "2024-03-01") | {"timestamp": f"2024-03-01T{hour:02}:10:00+00:00"}
        for hour in range(24)))  # fmt: skip
    zone, alarmed = cockpit.live.plan.timezone, None
    last = cockpit.feed().last
    for minute in range(0, 24 * 60):
        at = datetime(2024, 3, 1, 23, 10, tzinfo=UTC) + timedelta(minutes=minute)
        send(stream, {"tick": at.isoformat()})
        local = at.astimezone(zone)
        usual = cockpit.usual.orders_between(last, last + minute / 60)
        assert cockpit.feed().is_dead == (usual >= 10 - 1e-9), local
        if cockpit.feed().is_dead:
            alarmed = at
            break
    facts = page_facts(cockpit)
    assert alarmed is not None and facts["tone"] == "bad" and facts["alerts"][0].startswith("No events for")
    send(stream, purchase("back", "a", "2024-03-02") | {"timestamp": alarmed.isoformat()})
    facts = page_facts(cockpit)
    assert not cockpit.feed().is_dead and "The feed jumped from" not in facts["alerts"][:1]


def test_a_feed_that_jumps_ahead_or_is_broken_is_named_and_changes_no_money(stream: Stream, purchase: Purchase) -> None:
    stream.cockpit.usual.orders = np.full(HOURS, 20.0)
    ticks = [{"tick": f"2024-03-05T{hour:02}:00:00Z"} for hour in (9, 10)]
    send(stream, *ticks, purchase("now", "a", "2024-03-05") | {"timestamp": "2024-03-05T10:00:30Z"})
    before = stream.cockpit.money()
    send(stream, purchase("ahead", "a", "2024-03-06"), purchase("far", "a", "2024-03-19"))
    feed, after = stream.cockpit.feed(), stream.cockpit.money()
    assert (feed.ahead, feed.parked) == (1, 1) and after.new_actual == before.new_actual == 12.5
    send(stream, *({"event_id": f"x{n}", "customer_id": "a", "timestamp": f"soon {n}"} for n in range(30)))
    words = " ".join(page_facts(stream.cockpit)["alerts"])
    assert "1 event lies ahead of the clock" in words and "dated more than a day ahead" in words
    assert "30 of the latest lines were rejected" in words and "mostly for timestamp" in words


def test_an_hour_counts_in_one_week_only_also_the_first_of_a_week(stream: Stream, purchase: Purchase) -> None:
    cockpit, day = stream.cockpit, "2024-03-04"  # a Monday, which begins at five in UTC
    send(stream, {"tick": f"{day}T05:00:00Z"}, purchase("e1", "new", "2024-03-03", amount=5),
         purchase("e2", "new", day, amount=10) | {"timestamp": f"{day}T05:00:00Z"})  # fmt: skip
    assert [cockpit.money(weeks_ago=ago).new_actual for ago in (0, 1)] == [10, 5]
    send(stream, purchase("e3", "new", day, amount=20) | {"timestamp": f"{day}T05:30:00Z"})
    assert [cockpit.money(weeks_ago=ago).new_actual for ago in (0, 1)] == [30, 5]


def test_the_feed_counts_no_table_but_that_of_waiting_events(stream: Stream) -> None:
    asked: list[str] = []
    stream.cockpit.live.state._con.set_trace_callback(asked.append)
    stream.cockpit.feed()
    assert asked == ["select count(*) from parked"]


def test_a_jump_without_ticks_is_a_gap(stream: Stream, purchase: Purchase) -> None:
    stream.cockpit.usual.orders = np.full(HOURS, 20.0)
    send(stream, purchase("e1", "a", "2024-03-05"), purchase("e2", "a", "2024-03-06"))
    first, gap = sorted(stream.cockpit.feed().silences, key=lambda one: one.start)
    assert gap.ended and gap.usual == pytest.approx(480) and first.start == stream.cockpit.live.as_of * 24


def test_what_the_company_sent_is_never_a_reason(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    run, later = small_run
    company = [kind for kind, done_by in made.KINDS.items() if done_by == "company"]
    with Live(run.path, state=tmp_path / "state", commit_every=10**9, sync="normal") as live:
        assert any(f"{kind}_count" in live._assigner._map.features for kind in company), "it is in the space"
        for row in later.rows:
            live.feed(as_sent(row))
        live.commit()
        changes = [json.loads(line) for line in live.state.changes()]
    assert changes and not [
        reason for change in changes for reason in change["why"] if reason["feature"] in {f"{k}_count" for k in company}
    ]


def test_the_page_shows_no_small_group_and_its_figures_add_up(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    run, later = small_run
    with Live(run.path, state=tmp_path / "state", commit_every=10**9, sync="normal") as live:
        stream = Stream(live, out=io.BytesIO())
        send(stream, *(as_sent(row) for row in later.rows[:200]))
        facts = page_facts(stream.cockpit)
        for row in [*facts["week"]["rows"], facts["week"]["total"]]:
            assert row["actual_shown"] == "–" or int(row["buyers"].replace(",", "")) >= 20
        expected, _ = stream.cockpit.usual.whole_week()
        table = run.table("segments").set_index("segment").loc[list(live.segments)]
        assert expected[:-1] == pytest.approx((table["spend_next"] * table["customers"] * 7 / 30).to_numpy())
        assert stream.cockpit.usual.money_between(-MONDAY, 24 - MONDAY)[0].sum() < expected.sum()
        page = write_page(live, tmp_path / "page", cockpit=stream.cockpit).read_text()
    assert "<b>S0" not in page and "What to do now" in page
