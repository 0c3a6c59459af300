"""The live page: segments now against those of the run and what was expected of them, movers, alerts; counts only."""

import math
import os
from datetime import date, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pandas as pd

from segkit import numbers, templates
from segkit.errors import SegkitError
from segkit.reach.live import Live
from segkit.small_groups import FLOOR, hidden, is_few, shown, shown_counts
from segkit.stats import Z95, proportion_interval

MOST_MOVES = 10
ALL_ALERTS = 0.05  # chance that any segment is called changed where only chance is at work (Bonferroni)
FEW, HIDDEN = f"<{FLOOR}", "hidden"
RELOAD_SECONDS = 5


def write_page(live: Live, folder: str | Path) -> Path:
    """Write index.html whole or not at all; it loads nothing and reloads itself from any file server.

    Raises
    ------
    SegkitError : the folder cannot be written
    """
    path = Path(folder) / "index.html"
    text = str(templates.html("live", "page", **page_facts(live), reload=RELOAD_SECONDS))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="replace")
        os.replace(temporary, path)
    except OSError as error:
        raise SegkitError(f"{path}: the page cannot be written ({error.strerror}). The state is whole.") from None
    return path


def page_facts(live: Live) -> dict[str, Any]:
    """All that the page shows, as text."""
    table, segments = live.table(), live.run.table("segments").set_index("segment")
    names = {s: f"{segments['name'].get(s, s)} ({s})" for s in live.segments}
    horizon = int(live.run.parameters()["horizon_days"])
    beyond = NormalDist().inv_cdf(1 - ALL_ALERTS / 2 / len(live.segments))  # so that all segments together stay at 5 %
    rows = [_segment(s, table, segments, name=names[s], beyond=beyond) for s in live.segments]
    _write_counts(rows)
    shown_rows = sorted((row for row in rows if row["at_run"] or row["now"]), key=lambda row: -row["now"])
    moved = table[(table["begun"] != table["now"]) & ~(table["begun"].isna() & table["now"].isna())]
    counts, before = live.state.counts(), date(1970, 1, 1)
    return {
        "source": live.run.parameters().get("source_name", ""),
        "as_of": (before + timedelta(days=live.as_of)).isoformat(),
        "clock": (before + timedelta(days=live.clock)).isoformat() if live.clock >= live.as_of else "no tick yet",
        "horizon": horizon,
        "elapsed": max(0, min(horizon, live.clock - live.as_of + 1)),
        "answer": _answer(shown_rows, moved=len(moved), customers=len(table)),
        "tiles": _tiles(table, moved=len(moved), events=counts["events"]),
        "widest": max((max(row["at_run"], row["now"]) for row in shown_rows), default=1),
        "segments": shown_rows,
        "moves": _moves(moved, names=names),
        "alerts": _alerts(shown_rows, live=live, counts=counts),
        "few": FEW,
    }


def _segment(segment: str, table: pd.DataFrame, segments: pd.DataFrame, *, name: str, beyond: float) -> dict[str, Any]:
    begun, now = table["begun"] == segment, table["now"] == segment
    joined, left = int((now & ~begun).sum()), int((begun & ~now).sum())
    net, width = joined - left, Z95 * math.sqrt(joined + left)
    description = segments.loc[segment] if segment in segments.index else pd.Series(dtype=object)
    expected = [description.get(f"active_share_next{part}") for part in ("", "_low", "_high")]
    seen = int((begun & table["active"]).sum())
    return {
        "name": name,
        "at_run": int(begun.sum()),
        "now": int(now.sum()),
        "came": shown(joined) if not is_few(left) or is_few(joined) else HIDDEN,  # the one would tell the other
        "left": shown(left) if not is_few(joined) or is_few(left) else HIDDEN,
        "change": _net(net, width) if joined + left >= FLOOR else f"{FEW} moved",
        "beyond": joined + left >= FLOOR and abs(net) > beyond * math.sqrt(joined + left),
        "net": net,
        "expected": numbers.interval(
            *(None if numbers.is_missing(v) else float(v) for v in expected), form=numbers.share
        ),
        "so_far": _share_of(seen, int(begun.sum())),
    }


def _write_counts(rows: list[dict[str, Any]]) -> None:
    """The sizes of segments as text and as bars: the total of them is shown, so no hidden one may follow from it."""
    for side in ("at_run", "now"):
        sizes = [row[side] for row in rows]
        for row, text, hide in zip(rows, shown_counts(sizes), hidden(sizes), strict=True):
            row |= {f"{side}_shown": text, f"{side}_bar": 0 if hide else row[side]}


def _answer(rows: list[dict[str, Any]], *, moved: int, customers: int) -> str:
    first = max((row for row in rows if row["beyond"]), key=lambda row: abs(row["net"]), default=None)
    return templates.text("live", "answer", moved=moved, customers=customers, first=first)


def _tiles(table: pd.DataFrame, *, moved: int, events: int) -> list[tuple[str, str]]:
    return [
        ("customers in a segment now", shown(int(table["now"].notna().sum()))),
        ("stand elsewhere than at the run", shown(moved)),
        ("new, or back from silence", shown(int((table["begun"].isna() & table["now"].notna()).sum()))),
        ("gone silent for a whole lookback", shown(int((table["begun"].notna() & table["now"].isna()).sum()))),
        ("events counted", numbers.count(events)),
    ]


def _moves(moved: pd.DataFrame, *, names: dict[str, str]) -> list[tuple[str, str, str]]:
    """The largest flows, and how many moved otherwise."""
    pairs = moved.fillna({"begun": "", "now": ""}).groupby(["begun", "now"]).size().reset_index(name="customers")
    pairs = pairs.sort_values(["customers", "begun", "now"], ascending=[False, True, True])
    large = pairs[pairs["customers"] >= FLOOR].head(MOST_MOVES)
    while is_few(pairs["customers"].sum() - large["customers"].sum()) and len(large):
        large = large.iloc[:-1]  # the total is known: the rest has to be large enough too
    found = [
        (names.get(b, "new or back"), names.get(n, "silent"), numbers.count(c))
        for b, n, c in large.itertuples(index=False)
    ]
    rest = int(pairs["customers"].sum() - large["customers"].sum())
    return [*found, ("all others", "", shown(rest))] if rest else found


def _alerts(rows: list[dict[str, Any]], *, live: Live, counts: dict[str, int]) -> list[str]:
    found = [templates.text("live", "alert_segment", row=row) for row in rows if row["beyond"]]
    for (outcome, level), customers in sorted(live.book.count_expectation_changes().items()):
        if customers >= FLOOR:
            found.append(templates.text("live", "alert_crossed", outcome=outcome, level=level, customers=customers))
    lines = counts["aside"]
    if lines:
        part = lines / max(lines + counts["events"], 1)
        found.append(templates.text("live", "alert_rejected", lines=lines, part=part))
    if counts["parked"]:
        found.append(templates.text("live", "alert_parked", events=counts["parked"]))
    return found


def _net(net: int, width: float) -> str:
    low, high = net - width, net + width
    return f"{_signed(net)} [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    text = numbers.count(round(value))
    return f"+{text}" if round(value) > 0 else text


def _share_of(part: int, whole: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    if whole < FLOOR:
        return numbers.NOTHING
    return numbers.interval(*proportion_interval(part, whole), form=numbers.share)
