"""The live page: an HTML file that is written again and again while events come in."""

import math
from datetime import date, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pandas as pd

from segkit import format as fmt
from segkit import templates
from segkit.data.io import write_bytes
from segkit.errors import SegkitError
from segkit.format import COUNT_STEP, FLOOR, about_count, masked_counts, round_count, suppressed_cells
from segkit.live.engine import Live
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
