"""Read a stream of live events, write changes, and refresh the live page."""

import gc
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from segkit.errors import InputError, SegkitError
from segkit.format import clean
from segkit.live.cockpit import Cockpit
from segkit.live.engine import MAX_LINE_BYTES, Live, read_line
from segkit.live.page import refuse_other_page, write_page, write_png
from segkit.live.state import customer_of
from segkit.live.triggers import Triggers

MAX_BATCH_EVENTS, MAX_BATCH_SECONDS = 500, 0.05  # per commit, when the pipe is full
CHUNK_BYTES = 1 << 18  # read from the pipe at once
PAGE_SECONDS = 5.0  # between two versions of the page
PNG_SECONDS = 60.0  # between two versions of the picture


def run_live(
    run_dir: str,
    *,
    source: BinaryIO,
    out: BinaryIO,
    state: str = "",
    page: str = "",
    png: str = "",
    triggers: str = "",
    sync: str = "full",
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
    png
        File of a picture for chat, drawn again each minute; empty for none.
    triggers
        YAML file of triggers; empty for none.
    sync
        See `segkit.live.state.State`.

    Raises
    ------
    InputError
        The file of a picture does not end in .png, or the folder of the page has another page.
    RunError
        The run or the state cannot be used.
    SourceError
        The file of triggers cannot be used.
    SegkitError
        The state, the file of rejected lines, or the output cannot be written.
    KeyboardInterrupt
        SIGINT or SIGTERM came; the lines up to then are counted, and the rest has to be fed again.
    """
    if png and Path(png).suffix.lower() != ".png":
        raise InputError(f"--png {clean(png)}: the picture is a PNG. Give a file that ends in .png.")
    if page:
        refuse_other_page(page)
    with (
        _interrupts() as stop,
        Live(run_dir, state=state, commit_every=10**9, sync=sync) as live,
        rare_collection() as collect,
    ):
        stream = Stream(live, out=out, page=page, png=png, triggers=triggers)
        stream.deliver()
        for lines in read_lines(source, stop=stop):
            stream.feed_lines(lines, stop=stop)
            collect()
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


@contextmanager
def rare_collection() -> Iterator[Callable[[], None]]:
    """Keep the collector of cycles out of commits, which it would delay; the function given collects now and then.

    What is open at the beginning is never searched, and what is new at most every `PAGE_SECONDS`.
    """
    was_on, last = gc.isenabled(), time.monotonic()

    def collect() -> None:
        nonlocal last
        if time.monotonic() - last >= PAGE_SECONDS:
            gc.collect()
            last = time.monotonic()

    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield collect
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


class Stream:
    """Feed lines to live segments, and deliver what was committed: the log and the rejected lines.

    The log in the state is authoritative. A crash between commit and output repeats the last lines at the next start,
    under the same ids, so that a consumer can drop them. Changes of customers in the holdout of the source are in the
    log and on the page, which counts only, but are not delivered.
    """

    def __init__(self, live: Live, *, out: BinaryIO, page: str = "", png: str = "", triggers: str = "") -> None:
        self._live, self._out, self._page, self.cockpit = live, out, page, Cockpit(live)
        self._triggers = Triggers(triggers, cockpit=self.cockpit) if triggers else None
        self._png, self._png_at = png, -PNG_SECONDS
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
        if self._triggers is not None:
            self._triggers.settle()
            self._live.commit()
            self._triggers.send(wait=page_now)
        if self._page and (page_now or time.monotonic() - self._page_at >= PAGE_SECONDS):
            rows = () if self._triggers is None else self._triggers.table()
            write_page(self._live, self._page, cockpit=self.cockpit, triggers=rows)
            self._page_at = time.monotonic()
        if self._png and (page_now or time.monotonic() - self._png_at >= PNG_SECONDS):
            write_png(self.cockpit, self._png)
            self._png_at = time.monotonic()

    def _feed_line(self, line: bytes) -> None:
        if not line.strip():
            return
        event: dict[str, Any] = {}
        try:
            event = read_line(line)
            if "tick" in event and "event_id" not in event:
                if self._live.advance(event["tick"]):
                    self._live.commit()
                self.cockpit.see_tick(event["tick"])
                if self._triggers is not None:
                    self._triggers.settle_tick()
            else:
                self._live.feed(event)
        except InputError as error:
            if self._live.is_erased(customer_of(event)):
                return  # a rejected line would store data of an erased customer
            self._live.state.reject_line(line.decode("utf-8", "replace"), reason=str(error))
            self.cockpit.see_rejected(str(error))
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
