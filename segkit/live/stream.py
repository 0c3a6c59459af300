"""Read a stream of live events, write changes, and refresh the live page."""

import json
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import NormalDist
from types import FrameType
from typing import Any, BinaryIO

import pandas as pd

from segkit import format as fmt
from segkit import templates
from segkit.data.io import write_bytes
from segkit.errors import InputError, SegkitError
from segkit.format import COUNT_STEP, FLOOR, about_count, masked_counts, round_count, suppressed_cells
from segkit.live.engine import MAX_LINE_BYTES, Live, read_line
from segkit.live.state import customer_of
from segkit.stats import Z95, proportion_interval

MAX_MOVES = 10
ALL_ALERTS = 0.05  # chance that any segment is marked as changed by chance alone (Bonferroni)
FEW = f"<{FLOOR}"
RELOAD_SECONDS = 5


def write_page(live: Live, folder: str | Path) -> Path:
    """Write index.html atomically; it loads nothing and reloads itself from any file server.

    Raises `SegkitError`: the folder cannot be written.
    """
    path = Path(folder) / "index.html"
    text = str(templates.html("live", "page", **_page_facts(live), reload=RELOAD_SECONDS))
    try:
        write_bytes(path, text.encode("utf-8", "replace"), durable=False)
    except OSError as error:
        raise SegkitError(f"{path}: the page cannot be written ({error.strerror}). The state is safe.") from None
    return path


def _page_facts(live: Live) -> dict[str, Any]:
    """Collect all that the page shows, as text."""
    flows, segments = live.flows(), live.run.table("segments").set_index("segment")
    names = {s: f"{segments['name'].get(s, s)} ({s})" for s in live.segments}
    horizon = int(live.run.parameters()["horizon_days"])
    beyond = NormalDist().inv_cdf(1 - ALL_ALERTS / 2 / len(live.segments))  # so that all segments together stay at 5 %
    rows = [_segment(s, flows, segments, seen=live.active[s], name=names[s], beyond=beyond) for s in live.segments]
    _write_counts(rows)
    shown_rows = sorted((row for row in rows if row["at_run"] or row["now"]), key=lambda row: -round_count(row["now"]))
    first = max((row for row in shown_rows if row["beyond"]), key=lambda row: abs(row["net"]), default=None)
    moved = flows[(flows["begun"] != flows["now"]) & ~(flows["begun"].isna() & flows["now"].isna())]
    count = int(moved["customers"].sum())
    counts, epoch = live.state.counts(), date(1970, 1, 1)
    return {
        "source": live.run.parameters().get("source_name", ""),
        "as_of": (epoch + timedelta(days=live.as_of)).isoformat(),
        "clock": (epoch + timedelta(days=live.clock)).isoformat() if live.clock >= live.as_of else "no tick yet",
        "horizon": horizon,
        "elapsed": max(0, min(horizon, live.clock - live.as_of + 1)),
        "answer": templates.text(
            "live", "answer", moved=count, customers=int(flows["customers"].sum()), first=first, about=about_count
        ),
        "tiles": _tiles(flows, moved=count, events=counts["events"]),
        "widest": max((max(row["at_run"], row["now"]) for row in shown_rows), default=1) or 1,
        "segments": shown_rows,
        "moves": _moves(moved, names=names),
        "alerts": _alerts(shown_rows, live=live, counts=counts),
        "few": FEW,
        "held": live.holdout is not None,
    }


def _segment(
    segment: str, flows: pd.DataFrame, segments: pd.DataFrame, *, seen: int, name: str, beyond: float
) -> dict[str, Any]:
    begun, now = flows["begun"] == segment, flows["now"] == segment
    at_run, joined, left = (_sum(flows, rows) for rows in (begun, now & ~begun, begun & ~now))
    net = joined - left
    description = segments.loc[segment] if segment in segments.index else pd.Series(dtype=object)
    expected = [description.get(f"active_share_next{part}") for part in ("", "_low", "_high")]
    return {
        "name": name,
        "at_run": at_run,
        "now": at_run + net,
        "came": about_count(joined),
        "left": about_count(left),
        "change": _net_text(joined, left),
        "beyond": joined + left >= FLOOR and abs(net) > beyond * math.sqrt(joined + left),
        "net": net,
        "expected": fmt.interval(*(None if fmt.is_missing(v) else float(v) for v in expected), form=fmt.share),
        "so_far": _share_of(seen, at_run),
    }


def _sum(flows: pd.DataFrame, rows: pd.Series) -> int:
    return int(flows.loc[rows, "customers"].sum())


def _write_counts(rows: list[dict[str, Any]]) -> None:
    """Add segment sizes as text and as bars; the total is shown, so no masked size may follow from it."""
    for moment in ("at_run", "now"):
        sizes = [row[moment] for row in rows]
        for row, text, hide in zip(rows, masked_counts(sizes), suppressed_cells(sizes), strict=True):
            if moment == "now" and not hide:
                text = about_count(row[moment])
            row |= {f"{moment}_shown": text, f"{moment}_bar": 0 if hide else round_count(row[moment])}


def _tiles(flows: pd.DataFrame, *, moved: int, events: int) -> list[tuple[str, str]]:
    begun, now = flows["begun"].notna(), flows["now"].notna()
    return [
        ("customers in a segment now", about_count(_sum(flows, now))),
        ("in another segment than at the run", about_count(moved)),
        ("new, or back from silence", about_count(_sum(flows, ~begun & now))),
        ("gone silent for a whole lookback", about_count(_sum(flows, begun & ~now))),
        ("events counted", fmt.count(events)),
    ]


def _moves(moved: pd.DataFrame, *, names: dict[str, str]) -> list[tuple[str, str, str]]:
    """List the largest flows, and how many other customers moved."""
    pairs = moved.fillna({"begun": "", "now": ""})
    pairs = pairs.sort_values(["customers", "begun", "now"], ascending=[False, True, True])
    large = pairs[pairs["customers"] >= FLOOR].head(MAX_MOVES)
    found = [
        (names.get(b, "new or back"), names.get(n, "silent"), about_count(c))
        for b, n, c in large.itertuples(index=False)
    ]
    rest = int(pairs["customers"].sum() - large["customers"].sum())
    return [*found, ("all others", "", about_count(rest))] if rest else found


def _alerts(rows: list[dict[str, Any]], *, live: Live, counts: dict[str, int]) -> list[str]:
    found = [templates.text("live", "alert_segment", row=row) for row in rows if row["beyond"]]
    for (outcome, level), customers in sorted(live.book.expectation_changes().items()):
        if customers >= FLOOR:
            shown = about_count(customers)
            found.append(templates.text("live", "alert_crossed", outcome=outcome, level=level, customers=shown))
    lines = counts["rejected"]
    if lines:
        part = lines / max(lines + counts["events"], 1)
        found.append(templates.text("live", "alert_rejected", lines=lines, part=part))
    if counts["parked"]:
        found.append(templates.text("live", "alert_parked", events=counts["parked"]))
    return found


def _net_text(joined: int, left: int) -> str:
    """Format a net change; without an interval where few came or few left, as its width would tell how many."""
    net = joined - left
    if min(joined, left) >= FLOOR:
        return _net(round_count(joined), round_count(left))
    return f"{FEW} net" if abs(net) < FLOOR else f"about {_signed(round_count(abs(net)) * (1 if net > 0 else -1))}"


def _net(joined: int, left: int) -> str:
    """Format a net change with its interval, from rounded counts only."""
    net, width = joined - left, Z95 * math.sqrt(joined + left)
    low, high = net - width, net + width
    return f"{_signed(net)} [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    text = fmt.count(round(value))
    return f"+{text}" if round(value) > 0 else text


def _share_of(part: int, whole: int) -> str:
    """Format a share with its 95 % interval (Wilson 1927), in steps of ten customers or more."""
    if whole < FLOOR:
        return fmt.MISSING
    step = max(0.01, COUNT_STEP / whole)
    rounded = min(round(part / whole / step) * step, 1.0)
    return fmt.interval(*proportion_interval(rounded * whole, whole), form=fmt.share)


MAX_BATCH_EVENTS, MAX_BATCH_SECONDS = 500, 0.05  # per commit, when the pipe is full
CHUNK_BYTES = 1 << 18  # read from the pipe at once
PAGE_SECONDS = 5.0  # between two versions of the page


def run_live(
    run_dir: str, *, source: BinaryIO, out: BinaryIO, state: str = "", page: str = "", sync: str = "full"
) -> str:
    """Process a stream to its end and return a summary of the state.

    Parameters
    ----------
    source
        One JSON line per event, or {"tick": time}.
    out
        Receives the changes once they are durable.
    state
        File of the state; empty for the run's own.
    page
        Folder of a page that is refreshed; empty for none.
    sync
        See `segkit.live.state.State`.

    Raises
    ------
    RunError
        The run or the state cannot be used.
    SegkitError
        The state, the file of rejected lines, or the output cannot be written.
    KeyboardInterrupt
        SIGINT or SIGTERM came; the lines up to then are counted, and the rest has to be fed again.
    """
    with _interrupts() as stop, Live(run_dir, state=state, commit_every=10**9, sync=sync) as live:
        stream = Stream(live, out=out, page=page)
        stream.deliver()
        for lines in read_lines(source, stop=stop):
            stream.feed_lines(lines, stop=stop)
        stream.deliver(page_now=True)
        if stop.asked:
            raise KeyboardInterrupt
        found = live.state.counts()
        return (
            f"{found['events']:,} events counted, {found['changes']:,} changes, {found['parked']:,} events waiting for "
            f"their day, {found['rejected']:,} lines rejected ({stream.rejected_path})"
        )


@dataclass
class Interrupt:
    """A signal to stop, which is looked at between lines; a second one stops at once, without a commit."""

    asked: bool = False
    waiting: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked or self.waiting:
            self.asked = True
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def _interrupts() -> Iterator[Interrupt]:
    """Handle SIGINT and SIGTERM by an `Interrupt`, where they are not ignored."""
    stop, before = Interrupt(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stream:
    """Feed lines to live segments, and deliver what was committed: the log and the rejected lines.

    The log in the state is authoritative. A crash between commit and output repeats the last lines at the next start,
    under the same ids, so that a consumer can drop them. Changes of customers in the holdout of the source are in the
    log and on the page, which counts only, but are not delivered.
    """

    def __init__(self, live: Live, *, out: BinaryIO, page: str = "") -> None:
        self._live, self._out, self._page = live, out, page
        self._open, self._since, self._page_at = 0, time.monotonic(), -PAGE_SECONDS
        self._sent = live.state.get_meta("delivered", 0)
        self.rejected_path = live.path.with_name(f"{live.path.name}.aside.jsonl")
        self._rejected_count, self._has_rejected = _whole_lines(self.rejected_path), True

    def feed_lines(self, lines: list[bytes], *, stop: Interrupt | None = None) -> None:
        """Process lines, up to an interrupt; an empty list means that the pipe is idle."""
        for line in lines:
            if stop is not None and stop.asked:
                return
            if not self._open:
                self._since = time.monotonic()
            self._feed_line(line)
            self._open += 1
            if self._open >= MAX_BATCH_EVENTS or time.monotonic() - self._since > MAX_BATCH_SECONDS:
                self.deliver()
        if not lines:
            self.deliver()

    def deliver(self, *, page_now: bool = False) -> None:
        """Commit, and write what is new; the page is refreshed at most every few seconds."""
        state = self._live.state
        if self._open or self._sent < self._live.last_change or page_now:
            self._live.commit()
            self._open = 0
            self._write(self._live.deliverable(state.changes(after=self._sent)))
            if self._sent != self._live.last_change:
                self._sent = self._live.last_change
                state.set_meta("delivered", self._sent)
            self._append_rejected()
        if page_now:
            self._live.commit()
        if self._page and (page_now or time.monotonic() - self._page_at >= PAGE_SECONDS):
            write_page(self._live, self._page)
            self._page_at = time.monotonic()

    def _feed_line(self, line: bytes) -> None:
        if not line.strip():
            return
        event: dict[str, Any] = {}
        try:
            event = read_line(line)
            if "tick" in event and "event_id" not in event:
                if self._live.advance(event["tick"]):
                    self._live.commit()
            else:
                self._live.feed(event)
        except InputError as error:
            if self._live.is_erased(customer_of(event)):
                return  # a rejected line would store data of an erased customer
            self._live.state.reject_line(line.decode("utf-8", "replace"), reason=str(error))
            self._has_rejected = True

    def _write(self, lines: Iterable[str]) -> None:
        try:
            for line in lines:
                self._out.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._out.flush()
        except OSError as error:
            raise SegkitError(f"output: cannot be written ({error.strerror}). The log in the state is safe.") from None

    def _append_rejected(self) -> None:
        new = self._live.state.rejected_lines(after=self._rejected_count) if self._has_rejected else []
        self._has_rejected = False
        if not new:
            return
        try:
            with self.rejected_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                for reason, line in new:
                    file.write(json.dumps({"reason": reason, "line": line}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise SegkitError(
                f"{self.rejected_path}: cannot be written ({error.strerror}). The state is safe."
            ) from None
        self._rejected_count += len(new)


def read_lines(source: BinaryIO, *, stop: Interrupt | None = None) -> Iterator[list[bytes]]:
    """Read lines in batches as they arrive, until the input ends or an interrupt comes.

    A batch is empty when nothing arrived for a moment; a huge line is truncated.
    """
    stop = stop or Interrupt()
    buffer, skipping = b"", False  # skipping: the rest of a huge line
    while not stop.asked:
        if not _is_ready(source, 0.0):
            yield []
            while not stop.asked and not _wait(source, stop=stop):
                yield []
        if stop.asked:
            return
        chunk = os.read(source.fileno(), CHUNK_BYTES) if _has_descriptor(source) else source.read(CHUNK_BYTES)
        if not chunk:
            break
        *lines, rest = (buffer + chunk).split(b"\n")
        if skipping and lines:
            lines, skipping = lines[1:], False
        buffer = b"" if skipping else rest
        if len(buffer) > MAX_LINE_BYTES:
            lines, buffer, skipping = [*lines, buffer[: MAX_LINE_BYTES + 1]], b"", True
        yield lines
    if buffer and not stop.asked:
        yield [buffer]


def _wait(source: BinaryIO, *, stop: Interrupt) -> bool:
    """Wait for input, and stop waiting at an interrupt."""
    stop.waiting = True
    try:
        return _is_ready(source, PAGE_SECONDS)
    except KeyboardInterrupt:
        return False
    finally:
        stop.waiting = False


def _is_ready(source: BinaryIO, seconds: float) -> bool:
    return not _has_descriptor(source) or bool(select.select([source], [], [], seconds)[0])


def _has_descriptor(source: BinaryIO) -> bool:
    try:
        source.fileno()
    except (OSError, AttributeError):
        return False
    return True


def _whole_lines(path: Path) -> int:
    """Count the lines of a file; an incomplete last line, left by a crash, is removed."""
    if not path.is_file():
        return 0
    count, end = 0, 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                count, end = count + 1, end + len(line)
    if end < path.stat().st_size:
        os.truncate(path, end)
    return count
