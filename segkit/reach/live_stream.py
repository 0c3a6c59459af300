"""Events as JSON lines in, changes as JSON lines out: committed in small batches, and at once when the pipe is idle."""

import json
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from segkit.errors import InputError, SegkitError
from segkit.reach.live import Live
from segkit.reach.live_events import LONGEST_LINE, read_line
from segkit.reach.live_page import write_page

MOST_EVENTS, MOST_SECONDS = 500, 0.05  # in a commit: a full pipe is committed so often
CHUNK = 1 << 18  # bytes asked of the pipe at once
PAGE_SECONDS = 5.0  # between two versions of the page


def run_live(
    run_dir: str, *, source: BinaryIO, out: BinaryIO, state: str = "", page: str = "", sync: str = "full"
) -> str:
    """Follow a stream to its end.

    Takes  a run; source: a JSON line for each event, or {"tick": time}; out: where changes go, once they are durable
    Gives  a sentence of what there is in the state at the end

    Parameters
    ----------
    state : file of the state; empty for the run's own
    page : folder of a page that is kept current; empty for none
    sync : see `live_state.State`

    Raises
    ------
    RunError : the run or the state cannot be used
    SegkitError : the state, the side file or the output cannot be written
    """
    with Live(run_dir, state=state, commit_every=10**9, sync=sync) as live:
        stream = Stream(live, out=out, page=page)
        stream.deliver()
        for lines in read_lines(source):
            stream.feed_lines(lines)
        stream.deliver(page_now=True)
        found = live.state.counts()
        return (
            f"{found['events']:,} events counted, {found['changes']:,} changes, {found['parked']:,} events waiting for "
            f"their day, {found['aside']:,} lines set aside ({stream.rejected_path})"
        )


class Stream:
    """Feeds lines to live segments, and hands out what was committed: the log and the lines set aside.

    The log in the state is the truth. A crash between commit and output repeats the last lines at the next start, under
    the same ids, so that a consumer can drop them.
    """

    def __init__(self, live: Live, *, out: BinaryIO, page: str = "") -> None:
        self._live, self._out, self._page = live, out, page
        self._open, self._since, self._page_at = 0, time.monotonic(), -PAGE_SECONDS
        self._sent = live.state.get_meta("delivered", 0)
        self.rejected_path = live.path.with_name(f"{live.path.name}.aside.jsonl")
        self._rejected_count = _whole_lines(self.rejected_path)

    def feed_lines(self, lines: list[bytes]) -> None:
        """Take lines in; none means that the pipe is idle."""
        for line in lines:
            if not self._open:
                self._since = time.monotonic()
            self._feed_line(line)
            self._open += 1
            if self._open >= MOST_EVENTS or time.monotonic() - self._since > MOST_SECONDS:
                self.deliver()
        if not lines:
            self.deliver()

    def deliver(self, *, page_now: bool = False) -> None:
        """Commit, and hand out what is new; the page follows at most every few seconds."""
        state = self._live.state
        if self._open or self._sent < self._live.last_change or page_now:
            self._live.flush()
            self._open = 0
            for line in state.changes(after=self._sent):
                self._write(line)
            self._flush_out()
            if self._sent != self._live.last_change:
                self._sent = self._live.last_change
                state.set_meta("delivered", self._sent)
            self._append_rejected()
        if page_now:
            self._live.flush()
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
                self._live.tick(event["tick"])
            else:
                self._live.feed(event)
        except InputError as error:
            if self._live.is_erased(str(event.get("customer_id", "")).strip()):
                return  # a line set aside would keep what is to be forgotten
            self._live.state.reject_line(line.decode("utf-8", "replace"), reason=str(error))

    def _write(self, line: str) -> None:
        try:
            self._out.write(line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            raise SegkitError(f"output: cannot be written ({error.strerror}). The log in the state is whole.") from None

    def _flush_out(self) -> None:
        try:
            self._out.flush()
        except OSError as error:
            raise SegkitError(f"output: cannot be written ({error.strerror}). The log in the state is whole.") from None

    def _append_rejected(self) -> None:
        new = self._live.state.rejected_lines(after=self._rejected_count)
        if not new:
            return
        try:
            with self.rejected_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                for reason, line in new:
                    file.write(json.dumps({"reason": reason, "line": line}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise SegkitError(
                f"{self.rejected_path}: cannot be written ({error.strerror}). The state is whole."
            ) from None
        self._rejected_count += len(new)


def read_lines(source: BinaryIO) -> Iterator[list[bytes]]:
    """Lines as they come, in batches; an empty batch when none has come for a moment; a huge line is cut short."""
    buffer, cut = b"", False  # cut: the rest of a huge line is being skipped
    while True:
        if not _is_ready(source, 0.0):
            yield []
            while not _is_ready(source, PAGE_SECONDS):
                yield []
        chunk = os.read(source.fileno(), CHUNK) if _has_number(source) else source.read(CHUNK)
        if not chunk:
            break
        *lines, rest = (buffer + chunk).split(b"\n")
        if cut and lines:
            lines, cut = lines[1:], False
        buffer = b"" if cut else rest
        if len(buffer) > LONGEST_LINE:
            lines, buffer, cut = [*lines, buffer[: LONGEST_LINE + 1]], b"", True
        yield lines
    yield [buffer] if buffer else []


def _is_ready(source: BinaryIO, seconds: float) -> bool:
    return not _has_number(source) or bool(select.select([source], [], [], seconds)[0])


def _has_number(source: BinaryIO) -> bool:
    try:
        source.fileno()
    except (OSError, AttributeError):
        return False
    return True


def _whole_lines(path: Path) -> int:
    """Lines of a file; what a crash left of a last one is cut off."""
    if not path.is_file():
        return 0
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
    return content.count(b"\n")
