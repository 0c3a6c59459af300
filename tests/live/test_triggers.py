"""Triggers fire once for each occasion, also after a kill; whoever must not be contacted is left out."""

import io
import json
import os
import random
import re
import shutil
import signal
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data import webhook as webhooks
from segkit.data.holdout import Holdout
from segkit.data.runs import Run
from segkit.data.yaml_models import parse_yaml
from segkit.erasure import erase_from_state
from segkit.errors import InputError
from segkit.export.people import CustomerRecords
from segkit.live.engine import Live
from segkit.live.page import page_facts
from segkit.live.picture import draw_png
from segkit.live.stream import Stream, run_live
from segkit.live.triggers import TriggerFile
from tests import strategies as made
from tests.live.live_runs import as_sent

KILLS, STEPS, EVENTS = 8, 700, 60
BASKET = """
triggers:
  - {name: Basket left, when: {event: coupon_used, without: purchase, hours: 2}, to: left.jsonl, cooling_off_days: 0}
  - {name: Call, when: {event: support_call}, to: calls.jsonl, cooling_off_days: 3}
  - {name: Entered, when: {segment_entered: [S01, S02]}, to: left.jsonl, cooling_off_days: 0}
  - {name: Need, when: {need_started: [any]}, to: left.jsonl}
"""


@pytest.fixture(autouse=True)
def _no_consent_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = CustomerRecords(table=None, roles={})
    monkeypatch.setattr("segkit.live.triggers.read_customer_records", lambda run: everyone)
    monkeypatch.setattr(webhooks, "WAIT_SECONDS", (0, 0))


def event(number: int, who: str, at: str, kind: str = "support_call", **more: Any) -> dict[str, Any]:
    return {"event_id": f"t{number}", "customer_id": who, "timestamp": f"2024-03-{at}:00Z", "event": kind, **more}


def follow(run: Run, folder: Path, *lines: dict[str, Any], text: str = BASKET, end: bool = True) -> Stream:
    folder.mkdir(exist_ok=True)
    (folder / "triggers.yaml").write_text(text)
    with Live(run.path, state=folder / "state", commit_every=10**9, sync="normal") as live:
        stream = Stream(live, out=io.BytesIO(), triggers=str(folder / "triggers.yaml"))
        stream.feed_lines([json.dumps(line).encode() for line in lines])
        stream.feed_lines([])
        stream.deliver(page_now=end)
        stream.rows = stream._triggers.table()
        stream.facts = page_facts(stream.cockpit, triggers=stream.rows)
    return stream


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_conditions_cooling_off_and_what_a_line_holds(small_run: tuple[Run, made.Events], tmp_path: Path) -> None:
    lines = [
        {"tick": "2024-03-04T00:00:00Z"},
        event(1, "a", "04T09:00", "coupon_used"),
        event(2, "b", "04T09:10", "coupon_used"),
        event(3, "b", "04T10:00", "purchase", amount=3),
        event(4, "c", "04T10:00"),
        event(4, "c", "04T10:00"),
        event(5, "c", "05T10:00"),  # too soon
        event(6, "c", "08T10:00"),
        {"tick": "2024-03-08T11:00:00Z"},
    ]
    stream = follow(small_run[0], tmp_path / "x", *lines)
    calls, left = read(tmp_path / "x" / "calls.jsonl"), read(tmp_path / "x" / "left.jsonl")
    assert [line["occasion"] for line in calls] == ["t4", "t6"] and calls[0]["customer_id"] == "c"
    assert [line["customer_id"] for line in left if line["trigger"] == "Basket left"] == ["a"]
    entered = [line for line in left if line["trigger"] == "Entered"]
    assert all(line["segment"] in ("S01", "S02") for line in entered) and entered
    assert [row["count"] for row in stream.rows] == ["<20"] * 4, "no small group on the page"
    png = draw_png(stream.facts)
    assert png[1:4] == b"PNG" and len(png) < 200_000 and png == draw_png(stream.facts)
    with pytest.raises(InputError, match=r"Give a file that ends in \.png"):
        run_live(str(small_run[0].path), source=io.BytesIO(), out=io.BytesIO(), png=str(tmp_path / "x.jpg"))
    again = follow(small_run[0], tmp_path / "x", *lines)
    assert read(tmp_path / "x" / "calls.jsonl") == calls and read(tmp_path / "x" / "left.jsonl") == left
    assert again.rows == stream.rows


def test_the_holdout_and_customers_without_consent_are_left_out(
    small_run: tuple[Run, made.Events], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = [f"c{n}" for n in range(20)]
    held = Holdout(0.5, start=date(2024, 1, 1), end=date(2024, 12, 31))
    asked = pd.DataFrame({"customer_id": who, "mail": ["yes", "no"] * 10})
    records = CustomerRecords(table=asked, roles={"mail": "consent"})
    monkeypatch.setattr("segkit.live.engine.holdout_if_known", lambda run: held)
    monkeypatch.setattr("segkit.live.triggers.read_customer_records", lambda run: records)
    lines = [{"tick": "2024-03-04T00:00:00Z"}, *(event(n, one, "04T09:00") for n, one in enumerate(who))]
    follow(small_run[0], tmp_path / "x", *lines, event(99, "unknown", "04T09:00"))
    allowed = sorted(set(who[::2]) - held.members(who))
    assert sorted(line["customer_id"] for line in read(tmp_path / "x" / "calls.jsonl")) == allowed != []


def test_a_kill_at_any_moment_neither_loses_nor_repeats_a_line(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    run, later = small_run
    lines = [{"tick": "2024-03-01T12:00:00Z"}, *(as_sent(row) for row in later.rows[:EVENTS])]
    lines += [{"tick": "2024-04-20T12:00:00Z"}]
    follow(run, tmp_path / "whole", *lines)
    wanted = [read(tmp_path / "whole" / name) for name in ("calls.jsonl", "left.jsonl")]
    assert all(wanted)
    draw, killed = random.Random(3), 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copytree(tmp_path / "whole" / "state.past", folder / "state.past")  # no DuckDB in a fork
        killed += die_somewhere(run, lines, folder=folder, after=draw.randrange(STEPS)) == signal.SIGKILL
        assert die_somewhere(run, lines, folder=folder, after=10**9) == 0
        found = [read(folder / name) for name in ("calls.jsonl", "left.jsonl")]
        for one, other in zip(found, wanted, strict=True):
            assert sorted(map(_as_key, one)) == sorted(map(_as_key, other)), number
    assert killed > KILLS / 2


def test_what_others_wrote_into_a_file_stays_and_only_half_a_line_of_a_killed_process_goes(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    calls = tmp_path / "x" / "calls.jsonl"
    calls.write_text("Ann: call back")
    follow(small_run[0], tmp_path / "x", {"tick": "2024-03-04T12:00:00Z"}, event(1, "a", "04T09:00"))
    note, line, end = calls.read_text().split("\n")
    assert note == "Ann: call back" and json.loads(line)["occasion"] == "t1" and end == ""
    with sqlite3.connect(tmp_path / "x" / "state") as con:
        con.execute("update fired set sent = 0")
    calls.write_text(f"{note}\n{line[:40]}")
    follow(small_run[0], tmp_path / "x")
    assert calls.read_text() == f"{note}\n{line}\n"


def test_events_out_of_order_leave_nothing_waiting_that_has_come(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    lines = [
        event(1, "a", "04T10:00", "purchase", amount=3),
        event(2, "a", "04T09:00", "coupon_used"),  # the purchase came within two hours of it
        event(3, "b", "04T10:00", "coupon_used"),
        event(4, "b", "04T08:30", "coupon_used"),  # older than the one that waits
        event(5, "b", "04T10:30", "purchase", amount=3),
        event(6, "c", "04T08:00", "purchase", amount=3),  # before
        event(7, "c", "04T09:00", "coupon_used"),
    ]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "triggers.yaml").write_text(BASKET)
    with Live(small_run[0].path, state=tmp_path / "x" / "state", commit_every=10**9, sync="normal") as live:
        stream = Stream(live, out=io.BytesIO(), triggers=str(tmp_path / "x" / "triggers.yaml"))
        for line in [{"tick": "2024-03-04T08:00:00Z"}, *lines, {"tick": "2024-03-04T13:00:00Z"}]:
            stream.feed_lines([json.dumps(line).encode()])
            stream.feed_lines([])
    left = [line for line in read(tmp_path / "x" / "left.jsonl") if line["trigger"] == "Basket left"]
    assert [line["occasion"] for line in left] == ["t7"]


def _as_key(line: dict[str, Any]) -> tuple:
    return line["trigger"], line["customer_id"], line["occasion"]


def die_somewhere(run: Run, lines: list[dict[str, Any]], *, folder: Path, after: int) -> int:
    (folder / "triggers.yaml").write_text(BASKET)
    child = os.fork()
    if child == 0:
        steps = iter(range(after))

        def step(*_: Any) -> None:
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        with Live(run.path, state=folder / "state", commit_every=10**9, sync="normal") as live:
            live.state._con.set_trace_callback(step)
            stream = Stream(live, out=io.BytesIO(), triggers=str(folder / "triggers.yaml"))
            for start in range(0, len(lines), 7):
                stream.feed_lines([json.dumps(line).encode() for line in lines[start : start + 7]])
                stream.feed_lines([])
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_webhook_that_fails_is_tried_later_and_named_on_the_page(
    small_run: tuple[Run, made.Events], tmp_path: Path, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "sesame")
    target = f"http://127.0.0.1:{webhook.server_port}/$HOOK_SECRET"
    name = "Call <!channel> {{7*7}}"
    text = f"triggers: [{{name: '{name}', when: {{event: support_call}}, to: {target}}}]\nfeed_alerts: {target}\n"
    lines = [{"tick": "2024-03-04T00:00:00Z"}, event(1, "zed", "04T09:00"), event(2, "b", "19T09:00")]
    webhook.statuses = [500, 500, 500]
    stream = follow(small_run[0], tmp_path / "x", *lines, text=text)
    assert stream.rows[0]["state"] == "not delivered: 127.0.0.1 (it answered 500)" and len(webhook.got) == 3
    webhook.statuses = [302]
    stream = follow(small_run[0], tmp_path / "x", text=text)
    assert "leads to another address" in stream.rows[0]["state"] and "sesame" not in str(stream.rows)
    webhook.statuses = [204, 204]
    stream = follow(small_run[0], tmp_path / "x", text=text)
    path, body = webhook.got[-1]
    of_calls = [line for line in body["triggers"] if line["trigger"] == name]
    assert path == "/sesame" and [line["customer_id"] for line in of_calls] == ["zed"] and "zed" not in body["text"]
    assert (
        "<" not in body["text"]
        and "dated more than a day ahead" in body["text"]
        and stream.rows[0]["state"] == "delivered"
    )
    sent = len(webhook.got)
    follow(small_run[0], tmp_path / "x", text=text)
    assert len(webhook.got) == sent, "nothing is sent again"


def test_no_error_in_a_post_stops_the_stream(
    small_run: tuple[Run, made.Events], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise UnicodeError

    monkeypatch.setattr(webhooks, "_post", fail)
    text = "triggers: [{name: Call, when: {event: support_call}, to: 'http://localhost/x'}]"
    stream = follow(small_run[0], tmp_path / "x", event(1, "a", "04T09:00"), text=text)
    assert stream.rows[0]["state"] == "not delivered: localhost (UnicodeError)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("triggers: []", "expected a list of triggers"),
        ("[", "not valid YAML"),
        ("triggers: [{name: A, when: {event: dance}, to: a.jsonl}]", "unknown kind of event 'dance'"),
        ("triggers: [{name: A, when: {event: purchase, hours: 2}, to: a.jsonl}]", "without and hours belong together"),
        ("triggers: [{name: A, when: {}, to: a.jsonl}]", "give one of event, segment_entered and need_started"),
        ("triggers: [{name: A, when: {segment_entered: [S99]}, to: a.jsonl}]", "unknown segment 'S99'"),
        ("triggers: [{name: A, when: {event: purchase}, to: no/a.jsonl}]", "there is no folder"),
        ("triggers: [{name: A, when: {event: purchase}, to: 'http://x.example/h'}]", "without encryption"),
        ("triggers: [{name: A, when: {event: purchase}, to: 'https://x.example/$NOT_SET'}]", "NOT_SET is not set"),
        ("triggers: [{name: A, when: {event: purchase}, to: 'https://x..example/h'}]", "no address of a webhook"),
        ("triggers: [{name: A, wen: {event: purchase}, to: a.jsonl}]", "unknown key 'wen'"),
    ],
)
def test_a_bad_file_is_one_message_with_status_2(
    text: str, words: str, small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    (tmp_path / "triggers.yaml").write_text(text)
    options = ["--state", str(tmp_path / "state"), "--triggers", str(tmp_path / "triggers.yaml")]
    answer = CliRunner().invoke(main, ["live", str(small_run[0].path), *options], input="")
    assert answer.exit_code == 2 and words in answer.stderr and "Traceback" not in answer.stderr, answer.stderr
    assert answer.stderr.count("\n") == 1


def test_an_erased_customer_leaves_the_triggers_and_the_example_of_the_docs_is_one(
    small_run: tuple[Run, made.Events], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(small_run[0], tmp_path / "x", {"tick": "2024-03-04T12:00:00Z"}, event(1, "gone", "04T09:00"))
    with monkeypatch.context() as broken:
        opened: list[sqlite3.Connection] = []
        connect = sqlite3.connect
        broken.setattr(sqlite3, "connect", lambda *given, **more: opened.append(connect(*given, **more)) or opened[-1])
        broken.setattr("segkit.erasure._delete", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erase_from_state(tmp_path / "x" / "state", {"gone"})
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            opened[0].execute("select 1")
    assert erase_from_state(tmp_path / "x" / "state", {"gone"}) == 1
    with sqlite3.connect(tmp_path / "x" / "state") as con:
        assert not con.execute("select * from fired where customer_id = 'gone'").fetchall()
    text = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(parse_yaml(example, TriggerFile, label="docs").triggers) == 5


def test_a_dead_feed_is_notified_at_the_first_tick_also_in_a_replay(
    small_run: tuple[Run, made.Events], tmp_path: Path
) -> None:
    text = "feed_alerts: feed.jsonl\ntriggers: [{name: A, when: {event: support_call}, to: calls.jsonl}]\n"
    (tmp_path / "triggers.yaml").write_text(text)
    with Live(small_run[0].path, state=tmp_path / "state", commit_every=10**9, sync="normal") as live:
        stream = Stream(live, out=io.BytesIO(), triggers=str(tmp_path / "triggers.yaml"))
        stream.cockpit.usual.orders[:] = 20.0
        lines = [{"tick": "2024-03-04T12:00:00Z"}, event(1, "a", "04T12:10")]
        lines += [{"tick": f"2024-03-04T{hour}:{minute:02}:00Z"} for hour in (12, 13, 14) for minute in range(20, 60)]
        stream.feed_lines([json.dumps(line).encode() for line in lines])
        stream.deliver(page_now=True)
    alerts = [line for line in read(tmp_path / "feed.jsonl") if "No events for" in line["text"]]
    assert [line["when"][11:16] for line in alerts][-1] == "07:40", "half an hour after the event, in New York"
