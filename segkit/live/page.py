"""The live page: an HTML file that is written again and again while events come in."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from segkit import format as fmt
from segkit import templates
from segkit.data.io import write_bytes
from segkit.errors import InputError, SegkitError
from segkit.format import COUNT_STEP, FLOOR, about_count, clean, masked_counts, round_count, suppressed_cells
from segkit.live.cockpit import Cockpit, Feed, Money, when
from segkit.live.engine import Live
from segkit.stats import Z95, proportion_interval

MAX_MOVES = 10
ALL_ALERTS = 0.05  # chance that any segment is marked as changed by chance alone (Bonferroni)
FEW = f"<{FLOOR}"
GENERATOR, MOST_HEAD = b'content="segkit live"', 1000  # of the first bytes of the page
RELOAD_SECONDS = 5
MAX_REASONS, MOST_MONEY_ALERTS = 5, 4
FEW_BUYERS = fmt.MISSING
Names = dict[str, str]
Causes = dict[tuple[str | None, str | None], Counter[str]]
TriggerRows = Sequence[dict[str, str]]  # of each trigger: name, to, count, held, state


def refuse_other_page(folder: str | Path) -> None:
    """Stop before the page of somebody else is replaced.

    Raises `InputError`: the folder has an ``index.html`` that is no page of live segments, as that of a run.
    """
    path = Path(folder) / "index.html"
    if path.is_file() and GENERATOR not in path.read_bytes()[:MOST_HEAD]:
        raise InputError(f"--page {clean(str(folder))}: its index.html is another page. Give another folder.")


def write_page(live: Live, folder: str | Path, *, cockpit: Cockpit | None = None, triggers: TriggerRows = ()) -> Path:
    """Write index.html atomically; it loads nothing and reloads itself from any file server.

    Parameters
    ----------
    cockpit
        The cockpit of these live segments; a new one by default.
    triggers
        What `segkit.live.triggers.Triggers.table` returns.

    Raises
    ------
    SegkitError
        The folder cannot be written.
    """
    path = Path(folder) / "index.html"
    facts = page_facts(cockpit or Cockpit(live), triggers=triggers)
    try:
        text = str(templates.html("live", "page", facts=facts, reload=RELOAD_SECONDS))
        write_bytes(path, text.encode("utf-8", "replace"), durable=False)
    except OSError as error:
        raise SegkitError(f"{path}: the page cannot be written ({error.strerror}). The state is safe.") from None
    return path


def write_png(cockpit: Cockpit, path: str | Path) -> None:
    """Write the picture of the cockpit atomically.

    Raises `SegkitError`: the file cannot be written.
    """
    from segkit.live.picture import draw_png  # matplotlib takes a second, and few ask for a picture

    try:
        write_bytes(Path(path), draw_png(page_facts(cockpit)), durable=False)
    except OSError as error:
        raise SegkitError(f"{path}: the picture cannot be written ({error.strerror}). The state is safe.") from None


def page_facts(cockpit: Cockpit, *, triggers: TriggerRows = ()) -> dict[str, Any]:
    """Collect all that the page and the picture show, as text."""
    live = cockpit.live
    flows, segments = live.flows(), live.run.table("segments").set_index("segment")
    names = {s: f"{clean(segments['name'].get(s, s))} ({s})" for s in live.segments}
    beyond = NormalDist().inv_cdf(1 - ALL_ALERTS / 2 / len(live.segments))  # so that all segments together stay at 5 %
    rows = [_segment(s, flows, segments, seen=live.active[s], name=names[s], beyond=beyond) for s in live.segments]
    _write_counts(rows)
    shown_rows = sorted((row for row in rows if row["at_run"] or row["now"]), key=lambda row: -row["at_run"])
    moved = flows[(flows["begun"] != flows["now"]) & ~(flows["begun"].isna() & flows["now"].isna())]
    week, feed = describe_week(cockpit, names=names, beyond=beyond), cockpit.feed()
    to_do = _to_do(week, feed, segments=segments)
    return {
        "source": fmt.capitalized(clean(live.run.parameters().get("source_name", "")).replace("_", " ")),
        "as_of": fmt.day(live.run.period.as_of),
        "clock": "no event yet" if feed.now is None else moment(feed.now),
        "horizon": cockpit.usual.horizon_days,
        "elapsed": max(0, min(cockpit.usual.horizon_days, live.clock - live.as_of + 1)),
        "headline": _headline(week, feed),
        "week": week,
        "feed": {"state": feed_state(feed)},
        "to_do": to_do,
        "tone": "bad" if feed.is_dead else "look" if not feed.is_sound or _is_short(week) else "",
        "tiles": _tiles(flows, moved=int(moved["customers"].sum()), counts=live.state.counts()),
        "widest": max((max(row["at_run"], row["now"]) for row in shown_rows), default=1) or 1,
        "segments": shown_rows,
        "moves": _moves(moved, cockpit=cockpit, segments=segments, names=names),
        "reasons": _reasons(sum(cockpit.causes().values(), Counter()), most=MAX_REASONS),
        "alerts": [*feed_alerts(feed), *_week_alerts(week), *_alerts(shown_rows)],
        "expectations": _expectations(live),
        "triggers": triggers,
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


def _tiles(flows: pd.DataFrame, *, moved: int, counts: dict[str, int]) -> list[tuple[str, str]]:
    begun, now = flows["begun"].notna(), flows["now"].notna()
    return [
        ("customers in a segment now", about_count(_sum(flows, now))),
        ("in another segment than at the run", about_count(moved)),
        ("new, or back from silence", about_count(_sum(flows, ~begun & now))),
        ("gone silent for a whole lookback", about_count(_sum(flows, begun & ~now))),
        ("events counted", fmt.count(counts["events"])),
        ("lines rejected", fmt.count(counts["rejected"])),
    ]


def _moves(moved: pd.DataFrame, *, cockpit: Cockpit, segments: pd.DataFrame, names: Names) -> list[dict[str, str]]:
    """List the largest flows with their reasons and worth, and how many others moved.

    Where no flow between two segments is large enough to be shown, those between levels of value are.
    """
    causes, levels = cockpit.causes(), {None: None} | segments.get("level", segments["macro_segment"]).to_dict()
    worth = {None: 0.0} | (segments["spend_next"] * 7 / cockpit.usual.horizon_days).fillna(0.0).to_dict()
    pairs = [(b or None, n or None, c) for b, n, c in moved.fillna({"begun": "", "now": ""}).itertuples(index=False)]
    found = _sum_flows(pairs, causes, worth, name=lambda one: names.get(one, one))
    if not any(flow["customers"] >= FLOOR for flow in found):
        found = _sum_flows(pairs, causes, worth, name=lambda one: levels.get(one, one))
    large = [flow for flow in found if flow["customers"] >= FLOOR][:MAX_MOVES]
    step, form = cockpit.usual.money_step, partial(fmt.money, currency=cockpit.currency)
    rows = []
    for flow in large:
        begun, now = clean(flow["from"]) or "new or back", clean(flow["to"]) or "silent"
        rows.append(
            {
                "from": begun,
                "to": "the same level, for another need" if now == begun else now,
                "customers": about_count(flow["customers"]),
                "worth": _signed_money(_round(flow["worth"], step), form=form),
                "why": _reasons(flow["why"], most=2) if flow["from"] else "first events",
            }
        )
    rest = sum(c for *_, c in pairs) - sum(flow["customers"] for flow in large)
    more = {"from": "all others", "to": "", "customers": about_count(rest), "worth": "", "why": ""}
    return [*rows, more] if rest else rows


def _sum_flows(
    pairs: list[tuple], causes: Causes, worth: dict[str | None, float], *, name: Callable[[str | None], str | None]
) -> list[dict[str, Any]]:
    """Add up flows that have the same name at both ends, the largest first."""
    found: dict[tuple[str | None, str | None], dict[str, Any]] = {}
    for begun, now, customers in pairs:
        ends = name(begun), name(now)
        flow = found.setdefault(ends, {"from": ends[0], "to": ends[1], "customers": 0, "worth": 0.0, "why": Counter()})
        flow["customers"] += customers
        flow["worth"] += customers * (worth.get(now, 0.0) - worth.get(begun, 0.0))
        flow["why"] += causes.get((begun, now), Counter())
    return sorted(found.values(), key=lambda flow: (-flow["customers"], str(flow["from"]), str(flow["to"])))


def _signed_money(value: float, *, form: Callable[[Any], str]) -> str:
    return f"+{form(value)}" if value > 0 else form(value)


def _reasons(causes: Counter[str], *, most: int) -> str:
    """Name the commonest reasons with their counts, none of fewer than 20 customers."""
    listed = [
        (clean(cause), n) for cause, n in sorted(causes.items(), key=lambda each: (-each[1], each[0])) if n >= FLOOR
    ]
    return "; ".join(f"{cause} (about {about_count(n)})" for cause, n in listed[:most]) or "many different reasons"


def _alerts(rows: list[dict[str, Any]]) -> list[str]:
    return [templates.text("live", "alert_segment", row=row) for row in rows if row["beyond"]]


def _expectations(live: Live) -> list[str]:
    """Say of how many customers the forecast has changed a lot."""
    changes = sorted(live.book.expectation_changes().items())
    return [
        templates.text("live", "crossed", outcome=outcome, level=level, customers=about_count(customers))
        for (outcome, level), customers in changes
        if customers >= FLOOR
    ]


def feed_alerts(feed: Feed) -> list[str]:
    """Say what is wrong with the feed, the worst first."""
    found = [
        templates.text("live", "alert_silent" if not one.ended else "alert_gap", start=moment(one.start),
                       end=moment(one.end), hours=one.end - one.start, usual=one.usual)
        for one in sorted(feed.silences, key=lambda one: (one.ended, -one.start))
    ]  # fmt: skip
    if feed.ahead:
        found.append(templates.text("live", "alert_ahead", events=feed.ahead, latest=moment(feed.latest)))
    if feed.parked:
        found.append(templates.text("live", "alert_parked", events=feed.parked))
    if feed.rejected:
        reason = clean(feed.reason)
        found.append(
            templates.text("live", "alert_rejected", lines=feed.rejected, part=feed.rejected_share, reason=reason)
        )
    return found


def feed_state(feed: Feed) -> str:
    """Return dead, look, sound or empty."""
    return "dead" if feed.is_dead else "look" if not feed.is_sound else "empty" if feed.now is None else "sound"


def _headline(week: dict[str, Any], feed: Feed) -> list[dict[str, str]]:
    """Write the four figures that are read from across a room."""
    total, state = week["total"] or {}, feed_state(feed)
    words = {"dead": "silent", "look": "look", "sound": "sound", "empty": "not begun"}
    tone = {"dead": "bad", "look": "look", "sound": "good", "empty": ""}
    last = "No event yet" if feed.last is None else f"Last event {moment(feed.last, short=True)}"
    gap = total.get("gap") or fmt.MISSING
    gap_tone = "" if gap == fmt.MISSING else "bad" if total["outside"] and total["sign"] < 0 else "good"
    since = f"since {week['start']}" if total else ""
    tiles = [
        ("Expected by now", total.get("expected", fmt.MISSING), f"{total.get('range', '')} {since}".strip(), ""),
        ("Actual", total.get("actual_shown", fmt.MISSING), f"{total['buyers']} customers bought" if total else "", ""),
        ("Gap", gap, templates.text("live", "verdict", week=week), gap_tone),
        ("Feed", words[state], f"{last}. {templates.text('live', 'usual_hour', orders=feed.usual_hour)}.", tone[state]),
    ]
    return [dict(zip(("label", "value", "more", "tone"), tile, strict=True)) for tile in tiles]


def describe_week(cockpit: Cockpit, *, names: dict[str, str], beyond: float) -> dict[str, Any]:
    """Write the money of this week as text, in steps that hide single baskets; None without money.

    `beyond`: standard deviations from which on a gap of one segment is an alert.
    """
    if not cockpit.usual.has_money:
        return {"has_money": False, "has_forecast": False, "rows": [], "total": None}
    found, step = cockpit.money(), cockpit.usual.money_step
    weekly, spread = cockpit.usual.whole_week()
    tops = np.nan_to_num(weekly + spread)  # right ends of the gauges, of the whole week: they fill as it goes
    buyers = found.buyers[:-1]
    hidden = suppressed_cells(np.maximum(buyers, 1)) | (buyers < FLOOR)
    customers = masked_counts(found.customers[:-1])
    form = partial(fmt.money, currency=cockpit.currency)
    rows = [
        _money_row(found, i, name=names[s], step=step, form=form, hidden=bool(hidden[i]), beyond=beyond / Z95)
        | {"customers": customers[i], "segment": s, "scale": float(tops[i])}
        for i, s in enumerate(names)
    ]
    total = _money_row(
        found, -1, name="All segments", step=step, form=form, hidden=found.buyers[-1] < FLOOR, beyond=1.0
    )
    rows = [rows[i] for i in np.argsort(-np.nan_to_num(cockpit.usual.expected[:-1]), kind="stable")]
    last = cockpit.money(weeks_ago=1)
    is_over = last.end > last.start and last.buyers[-1] >= FLOOR
    return {
        "has_money": True,
        "has_forecast": bool(np.isfinite(found.expected[-1])),
        "start": day_name(found.start),
        "rows": [row for row in rows if row["customers"] != "0"],
        "total": total | {"customers": fmt.count(found.customers[-1]), "scale": float(tops[-1])},
        "whole": form(_round(weekly[-1], step)),
        "new": form(_round(found.new_actual, step)) if found.new_buyers >= FLOOR else "",
        "last": (form(_round(last.actual[-1], step)), form(_round(last.expected[-1], step))) if is_over else None,
        "step": form(step),
    }


def _money_row(
    found: Money, i: int, *, name: str, step: float, form: Callable[[Any], str], hidden: bool, beyond: float
) -> dict[str, Any]:
    """Write one row of money; all its figures are multiples of the step, so that they add up."""
    expected, half = (_round(float(value), step) for value in (found.expected[i], found.half[i]))
    actual = None if hidden else _round(float(found.actual[i]), step)
    is_known = actual is not None and not fmt.is_missing(expected)
    gap = actual - expected if is_known else None
    exact = float(found.actual[i] - found.expected[i])
    low, high = max(0.0, expected - half), expected + half
    return {
        "name": name,
        "expected": form(expected),
        "range": "" if fmt.is_missing(expected) else fmt.between(low, high, form=form),
        "low": 0.0 if fmt.is_missing(expected) else low,
        "high": 0.0 if fmt.is_missing(expected) else high,
        "middle": 0.0 if fmt.is_missing(expected) else expected,
        "actual": actual,
        "actual_shown": FEW_BUYERS if hidden else form(actual),
        "gap": "" if gap is None else _signed_money(gap, form=form),
        "sign": 0 if gap is None else (gap > 0) - (gap < 0),
        "outside": is_known and abs(exact) > float(found.half[i]),
        "beyond": is_known and abs(exact) > float(found.half[i]) * beyond,
        "size": 0.0 if gap is None else abs(exact),
        "buyers": about_count(found.buyers[i] // COUNT_STEP * COUNT_STEP),  # rounded down: never more than there are
    }


def _round(value: float, step: float) -> float:
    return value if fmt.is_missing(value) else round(value / step) * step


def _week_alerts(week: dict[str, Any]) -> list[str]:
    far = sorted((row for row in week["rows"] if row["beyond"]), key=lambda row: -row["size"])
    return [templates.text("live", "alert_money", row=row) for row in far[:MOST_MONEY_ALERTS]]


def _is_short(week: dict[str, Any]) -> bool:
    """Return whether a segment, or all of them, bring less than the range."""
    total = week["total"] or {"outside": False, "sign": 0}
    far = [row for row in week["rows"] if row["beyond"]] + ([total] if total["outside"] else [])
    return any(row["sign"] < 0 for row in far)


def _to_do(week: dict[str, Any], feed: Feed, *, segments: pd.DataFrame) -> list[str]:
    """Say what to do now, at most three things, the most urgent first."""
    if feed.now is None:
        return [templates.text("live", "do_wait")]
    found = []
    if feed.is_dead or not feed.is_sound:
        found.append(templates.text("live", "do_feed", dead=feed.is_dead))
    short = [row for row in week["rows"] if row["beyond"] and row["sign"] < 0]
    for row in sorted(short, key=lambda row: -row["size"])[: 2 if not feed.is_dead else 0]:
        action = segments["action"].get(row["segment"]) if "action" in segments else None
        found.append(templates.text("live", "do_segment", row=row, action=clean(action)))
    total = week["total"]
    if not found and total is not None and total["outside"]:
        found.append(templates.text("live", "do_total", total=total))
    return found or [templates.text("live", "do_nothing")]


def moment(hours: float, *, short: bool = False) -> str:
    """Write a local time with its weekday.

    >>> moment(9.5), moment(9.5, short=True)
    ('Thursday 1 January 1970, 09:30', 'Thu 09:30')
    """
    time = when(hours)
    return f"{time:%a %H:%M}" if short else f"{time:%A} {fmt.day(time)}, {time:%H:%M}"


def day_name(hours: float) -> str:
    """Write the day of a local time, such as Monday 3 March."""
    time = when(hours)
    return f"{time:%A} {fmt.day_of_month(time)}"


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
