"""Triggers: a file or a webhook is notified when a customer does something, once for each occasion.

An occasion is stored in the transaction that stores its event, so a kill neither loses nor repeats it. A file gets each
line once. A webhook that was killed while it answered may get a line again, under the same id.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from pydantic import Field

from segkit.customers.profile import may_contact
from segkit.data.io import mask_secrets, refuse_in_run
from segkit.data.webhook import check_webhook, is_url, post_json
from segkit.data.yaml_models import Text, YamlModel, parse_yaml, read_utf8, suggest
from segkit.errors import SegkitError, SourceError
from segkit.export.people import read_customer_records
from segkit.format import about_count, clean
from segkit.live.cockpit import Cockpit, local_hours, when
from segkit.live.engine import Event
from segkit.live.page import feed_alerts

ANY = "any"  # of the needs
FEED = "feed"  # name under which alerts of the feed are stored
SEEN = "triggers_seen"  # in the state: the last change that was looked at
MOST_POSTED = 100  # lines in one post
CHECK_HOURS = 1 / 6  # between two looks at the feed, at ticks that come faster than they can be delivered
RETRY_SECONDS = 60.0  # after a webhook did not take a post
TAIL_BYTES = 1 << 20  # of a file, in which its last line is
LEFT_OUT = ("holdout", "no consent", "cooling off")


class Condition(YamlModel):
    """When a trigger fires: one of an event, a segment that is entered, and a need that starts."""

    event: Text | None = Field(None, description="a kind of event of the source")
    category: list[Text] = Field([], description="categories of the event")
    channel: list[Text] = Field([], description="channels of the event")
    without: Text | None = Field(None, description="a kind of event that has not followed")
    hours: float | None = Field(None, gt=0, le=24 * 60, description="hours to wait for it, above 0 and at most 1440")
    segment_entered: list[Text] = Field([], description="ids of segments, e.g. [S04]")
    need_started: list[Text] = Field([], description="ids of needs, e.g. [N03], or [any]")


class Trigger(YamlModel):
    """One trigger."""

    name: Text = Field(min_length=1, max_length=80, description="a name of at most 80 characters")
    when: Condition = Field(description="a condition, e.g. {event: basket, without: purchase, hours: 2}")
    to: Text = Field(description="a file such as calls.jsonl, or https://...")
    segments: list[Text] = Field([], description="ids of segments; only customers in them")
    needs: list[Text] = Field([], description="ids of needs; only customers in segments that these lead")
    cooling_off_days: float = Field(7, ge=0, description="days, 0 or more")


class TriggerFile(YamlModel):
    """A file of triggers."""

    hint = " The keys of triggers.yaml are in docs/live.md."
    triggers: list[Trigger] = Field(min_length=1, description="a list of triggers")
    feed_alerts: Text | None = Field(None, description="a file or https://..., for alerts of the feed")
    cooling_off_days: float = Field(0, ge=0, description="days between any two triggers of a customer, 0 or more")


def read_triggers(path: str | Path, *, cockpit: Cockpit) -> TriggerFile:
    """Read a file of triggers and check it against the run.

    Raises
    ------
    SourceError
        There is no such file, it does not fit, or it names what the run does not have; one message.
    """
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"--triggers {path}: there is no such file.")
    found = parse_yaml(read_utf8(file), TriggerFile, label=file.name)
    live, names = cockpit.live, [trigger.name for trigger in found.triggers]
    needs = {one for one in live.run.table("segments")["need"] if isinstance(one, str)}
    twice = sorted({name for name in names if names.count(name) > 1} | ({FEED} & set(names)))
    if twice:
        raise SourceError(f"{file.name}: the name {twice[0]!r} is taken. Give each trigger a name of its own.")
    for trigger in found.triggers:
        problem = _problem(trigger, kinds=live.plan.kinds, segments=live.segments, needs=needs)
        if problem:
            raise SourceError(f"{file.name}: {clean(trigger.name)}: {problem}")
    for target in _targets(found):
        _check_target(target, file=file)
    return found


def _problem(trigger: Trigger, *, kinds: Mapping[str, str], segments: Sequence[str], needs: set[str]) -> str:
    """Say what is wrong with a trigger; empty if nothing is."""
    found = trigger.when
    given = [bool(found.event), bool(found.segment_entered), bool(found.need_started)]
    if sum(given) != 1:
        return "when: give one of event, segment_entered and need_started."
    if bool(found.without) != bool(found.hours) or (found.without and not found.event):
        return "when: without and hours belong together, next to event."
    if (found.category or found.channel) and not found.event:
        return "when: category and channel belong to an event."
    for what, words, known in (
        ("kind of event", [each for each in (found.event, found.without) if each], kinds),
        ("segment", [*found.segment_entered, *trigger.segments], segments),
        ("need", [*found.need_started, *trigger.needs], {*needs, ANY}),
    ):
        for word in words:
            if word not in known:
                return f"unknown {what} {clean(word)!r}.{suggest(word, known)}"
    return ""


def _targets(found: TriggerFile) -> list[str]:
    return list(dict.fromkeys([*(t.to for t in found.triggers), *([found.feed_alerts] if found.feed_alerts else [])]))


def _check_target(target: str, *, file: Path) -> None:
    if is_url(target):
        return check_webhook(target, what=file.name)
    path = _path(target, file=file)
    if not path.parent.is_dir() or path.is_dir():
        raise SourceError(f"{file.name}: {clean(target)}: there is no folder for this file. Make it first.")
    return refuse_in_run(path.parent.absolute())


def _path(target: str, *, file: Path) -> Path:
    return file.parent / target


class Triggers:
    """The triggers of a live stream.

    Parameters
    ----------
    path
        The YAML file.
    cockpit
        Of the live segments; its clock is that of the triggers.

    Raises
    ------
    InputError
        The file cannot be used, or the consent of customers cannot be read.
    """

    def __init__(self, path: str | Path, *, cockpit: Cockpit) -> None:
        self._file, self._cockpit, self._live = Path(path), cockpit, cockpit.live
        self._state, self._zone = cockpit.live.state, cockpit.live.plan.timezone
        self._given = read_triggers(path, cockpit=cockpit)
        self._by_name = {trigger.name: trigger for trigger in self._given.triggers}
        table = self._live.run.table("segments").set_index("segment")["need"]
        self._need_of = {segment: need for segment, need in table.items() if isinstance(need, str)}
        self._consent_day, self._records = self._live.clock, read_customer_records(self._live.run)
        if self._state.get_meta(SEEN, None) is None:
            self._state.set_meta(SEEN, self._live.last_change)
        self._run = str(self._state.get_meta("run", ""))[:12]
        self._settled = 0.0  # local hours at which the feed was looked at last
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._posting: dict[str, tuple[Future[str], list[int]]] = {}
        self._problem: dict[str, tuple[float, str]] = {}  # target -> when it may be tried again, and why it failed
        for target in _targets(self._given):
            if not is_url(target):
                self._recover(target)
        self._live.listeners.append(self._see)

    def settle(self) -> None:
        """Store what changes of segment and the passing of time have triggered; the caller commits."""
        now = self._cockpit.now
        if now is None:
            return
        self._settled = now
        seen, last = self._state.get_meta(SEEN, 0), self._live.last_change
        if seen < last:
            for line in self._state.changes(after=seen):
                self._see_change(json.loads(line))
            self._state.set_meta(SEEN, last)
        due = "select name, customer_id, event_id, due from waiting where due <= ? order by due, name, customer_id"
        for name, customer_id, event_id, at in self._state.execute(due, now):
            self._state.execute("delete from waiting where name = ? and customer_id = ?", name, customer_id)
            if name in self._by_name:
                self._fire(self._by_name[name], customer_id, occasion=event_id, at=at)
        if self._given.feed_alerts:
            self._see_feed(now)

    def settle_tick(self) -> None:
        """Settle at a tick of a feed that is read faster than it came, so that no silence in it is overlooked."""
        now = self._cockpit.now
        if self._given.feed_alerts and now is not None and now >= self._settled + CHECK_HOURS:
            self._live.commit()  # the events before the tick count
            self.settle()

    def send(self, *, wait: bool = False) -> None:
        """Deliver what is committed: lines to files at once, posts to webhooks next to the stream.

        `wait`: until each webhook has taken everything or has failed.

        Raises `SegkitError`: a file cannot be written.
        """
        for target in _targets(self._given):
            if not is_url(target):
                self._append(target, self._unsent(target))
                continue
            self._collect(target, wait=wait)
            while self._post(target) and wait:
                self._collect(target, wait=True)
                if target in self._problem:
                    break
        if wait:
            for pool in self._pools.values():
                pool.shutdown(wait=False)
            self._pools.clear()

    def table(self) -> list[dict[str, str]]:
        """Describe each trigger for the page; counts are of customers, rounded to tens."""
        sql = "select left_out = '', count(distinct customer_id) from fired where name = ? group by 1"
        rows = []
        for trigger in self._given.triggers:
            counts = dict(self._state.execute(sql, trigger.name))
            problem = self._problem.get(trigger.to)
            rows.append(
                {
                    "name": clean(trigger.name),
                    "to": self._host(trigger.to),
                    "count": about_count(counts.get(1, 0)),
                    "held": about_count(counts.get(0, 0)),
                    "state": f"not delivered: {problem[1]}" if problem else "delivered",
                }
            )
        return rows

    def _see(self, event: Event) -> None:
        """Look at an event that was counted, in its transaction."""
        kind = event.values["event"]
        for trigger in self._given.triggers:
            found = trigger.when
            if found.without == kind:
                at = local_hours(event.values["timestamp"], self._zone)
                sql = "delete from waiting where name = ? and customer_id = ? and at <= ?"
                self._state.execute(sql, trigger.name, event.customer_id, at)
            if found.event != kind or not _matches(found, event.values):
                continue
            at = local_hours(event.values["timestamp"], self._zone)
            if found.hours:
                self._wait(trigger, event, at=at)
            else:
                self._fire(trigger, event.customer_id, occasion=event.event_id, at=at)

    def _wait(self, trigger: Trigger, event: Event, *, at: float) -> None:
        """Wait for what may follow an event, unless it has come already or a later event waits for it."""
        due = at + trigger.when.hours
        sql = "select json_extract(line, '$.timestamp') from events where customer_id = ?"
        sql += " and json_extract(line, '$.event') = ?"
        times = self._state.execute(sql, event.customer_id, trigger.when.without)
        if any(at <= local_hours(time, self._zone) <= due for (time,) in times):
            return
        sql = (
            "insert into waiting values (?, ?, ?, ?, ?) on conflict (name, customer_id) do update "
            "set event_id = excluded.event_id, at = excluded.at, due = excluded.due where excluded.at > at"
        )
        self._state.execute(sql, trigger.name, event.customer_id, event.event_id, at, due)

    def _see_change(self, change: dict[str, Any]) -> None:
        if change["kind"] != "segment" or change["to"] is None:
            return
        at = local_hours(change["when"], self._zone)
        started = change["need"] if change["need"] != self._need_of.get(change["from"]) else None
        for trigger in self._given.triggers:
            wanted = trigger.when.need_started
            is_need = started is not None and (started in wanted or ANY in wanted)
            if is_need or change["to"] in trigger.when.segment_entered:
                self._fire(
                    trigger, change["customer_id"], occasion=f"change {change['id']}", at=at, segment=change["to"]
                )

    def _see_feed(self, now: float) -> None:
        """Store an alert for each new trouble of the feed."""
        feed, day = self._cockpit.feed(), int(now // 24)
        troubles = [f"silence {one.start:.3f}" for one in sorted(feed.silences, key=lambda o: (o.ended, -o.start))]
        troubles += [f"{what} {day}" for what in ("ahead", "parked", "rejected") if getattr(feed, what)]
        for occasion, words in zip(troubles, feed_alerts(feed), strict=True):
            line = {"trigger": FEED, "when": when(now).isoformat(), "text": words}
            self._store(FEED, "", occasion=occasion, at=now, left_out="", line=line)

    def _fire(
        self, trigger: Trigger, customer_id: str, *, occasion: str, at: float, segment: str | None = None
    ) -> None:
        """Store that a trigger fired, unless the customer is not meant; who may not be contacted is left out.

        `segment`: of the customer then; by default the current one.
        """
        if self._live.is_erased(customer_id):
            return
        segment = segment or self._live.book.assignment(customer_id)[0]
        need = self._need_of.get(segment)
        if (trigger.segments and segment not in trigger.segments) or (trigger.needs and need not in trigger.needs):
            return
        line = {"trigger": trigger.name, "customer_id": customer_id, "when": when(at).isoformat()}
        line |= {"segment": segment, "need": need, "occasion": occasion}
        left_out = self._left_out(trigger, customer_id, at=at)
        self._store(trigger.name, customer_id, occasion=occasion, at=at, left_out=left_out, line=line)

    def _left_out(self, trigger: Trigger, customer_id: str, *, at: float) -> str:
        holdout, records = self._live.holdout, self._contacts()
        if holdout is not None and holdout.members([customer_id]):
            return LEFT_OUT[0]
        if not may_contact(records.table, roles=records.roles, index=pd.Index([customer_id])).iloc[0]:
            return LEFT_OUT[1]
        sql = "select count(*) from fired where customer_id = ? and left_out = '' and (at > ? or (name = ? and at > ?))"
        days = self._given.cooling_off_days, trigger.cooling_off_days
        any_since, own_since = (at - 24 * each if each else float("inf") for each in days)
        return LEFT_OUT[2] if self._state.execute(sql, customer_id, any_since, trigger.name, own_since)[0][0] else ""

    def _contacts(self) -> Any:
        """Return the consent of customers, read again on each day of the clock."""
        if self._consent_day != self._live.clock:
            self._consent_day, self._records = self._live.clock, read_customer_records(self._live.run)
        return self._records

    def _store(
        self, name: str, customer_id: str, *, occasion: str, at: float, left_out: str, line: dict[str, Any]
    ) -> None:
        sql = (
            "insert or ignore into fired (name, customer_id, occasion, at, left_out, line, sent) "
            "values (?, ?, ?, ?, ?, ?, 0)"
        )
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
        self._state.execute(sql, name, customer_id, occasion, at, left_out, text)

    def _unsent(self, target: str) -> Iterator[tuple[int, dict[str, Any]]]:
        names = [t.name for t in self._given.triggers if t.to == target]
        names += [FEED] if self._given.feed_alerts == target else []
        marks = ", ".join("?" * len(names))
        sql = "select id, customer_id, line from fired where sent = 0 and left_out = ''"
        sql = f"{sql} and name in ({marks}) order by id"
        for number, customer_id, line in self._state.execute(sql, *names):
            if not (customer_id and self._live.is_erased(customer_id)):
                yield number, {"id": number, "run": self._run, **json.loads(line)}

    def _mark(self, ids: Sequence[int]) -> None:
        for number in ids:
            self._state.execute("update fired set sent = 1 where id = ?", number)
        self._live.commit()

    def _append(self, target: str, rows: Iterator[tuple[int, dict[str, Any]]]) -> None:
        found = list(rows)
        if not found:
            return
        path = _path(target, file=self._file)
        try:
            with path.open("ab") as file:
                file.write(b"".join(_as_bytes(line) for _, line in found))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SegkitError(f"{path}: cannot be written ({error.strerror}). The state is safe.") from None
        self._mark([number for number, _ in found])

    def _recover(self, target: str) -> None:
        """Mark as sent what a killed process had written, and remove half a line of it; all else in the file stays."""
        path = _path(target, file=self._file)
        if not path.is_file():
            return
        with path.open("rb+") as file:
            size = path.stat().st_size
            file.seek(max(0, size - TAIL_BYTES))
            *whole, half = file.read().split(b"\n")
            if half and any(_as_bytes(line).startswith(half) for _, line in self._unsent(target)):
                file.truncate(size - len(half))
            elif half:  # a line of somebody else
                file.write(b"\n")
        try:
            last = json.loads(whole[-1])
            written = int(last["id"]) if last.get("run") == self._run else 0
        except (IndexError, ValueError, KeyError, TypeError, AttributeError):
            return
        self._mark([number for number, _ in self._unsent(target) if number <= written])

    def _post(self, target: str) -> bool:
        """Start to post what is pending; return whether there was anything."""
        if target in self._posting or self._problem.get(target, (0.0, ""))[0] > time.monotonic():
            return False
        rows = [row for row, _ in zip(self._unsent(target), range(MOST_POSTED), strict=False)]
        if not rows:
            return False
        counts: dict[str, int] = {}
        for _, line in rows:
            name = line["text"] if line["trigger"] == FEED else line["trigger"]
            counts[name] = counts.get(name, 0) + 1
        words = [clean(name) if name not in self._by_name else f"{clean(name)}: {n}" for name, n in counts.items()]
        text = "; ".join(words).replace("<", "‹").replace(">", "›")  # a chat would read <!channel> as an instruction
        payload = {"text": text, "triggers": [line for _, line in rows]}
        pool = self._pools.setdefault(target, ThreadPoolExecutor(max_workers=1))
        self._posting[target] = pool.submit(post_json, target, payload), [number for number, _ in rows]
        return True

    def _collect(self, target: str, *, wait: bool) -> None:
        """Mark what a webhook has taken."""
        if target not in self._posting or not (wait or self._posting[target][0].done()):
            return
        future, ids = self._posting.pop(target)
        try:
            future.result()
        except SegkitError as error:
            self._problem[target] = time.monotonic() + RETRY_SECONDS, clean(mask_secrets(str(error), url=target))
        else:
            self._problem.pop(target, None)
            self._mark(ids)

    def _host(self, target: str) -> str:
        return clean(urlsplit(target).hostname if is_url(target) else Path(target).name)


def _as_bytes(line: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(line, ensure_ascii=False)}\n".encode("utf-8", "backslashreplace")


def _matches(found: Condition, values: Mapping[str, Any]) -> bool:
    """Return whether an event has one of the categories and channels that a condition names."""
    for name in ("category", "channel"):
        wanted, given = getattr(found, name), values.get(name)
        if wanted and not set(wanted) & set(given if isinstance(given, list) else [given]):
            return False
    return True
