"""The segment table: who, how many, how much of the revenue, what is expected, how firm it is, what to do."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from segkit import numbers
from segkit.pages.html import Cell, bar, chip, rows_html
from segkit.small_groups import is_few, shown
from segkit.tables import titles

DOTS = 5  # of the stability scale
FIGURES = (
    "customer_share",
    "revenue",
    "margin",
    "orders",
    "spend_",
    "active_share_",
)  # of their columns, the beginning
NUMBERS = ("customers", "revenue_share", "margin", "change", "active", "stability")


def segment_table_html(
    segments: pd.DataFrame, *, caption: str = "", horizon_days: int | None = None, cards: str = ""
) -> Markup:
    """The segments, largest revenue first; on the page each heading sorts.

    Takes  the table segments; columns that are unknown throughout (margin without cost) are left out; who comes back
           stands in for spend where there is no money

    Parameters
    ----------
    horizon_days : how far is looked ahead, for the heading
    cards : the page that holds a card for each segment; a name links to its own
    """
    ordered = by_revenue(segments)
    most = float(segments["revenue_share"].max()) if segments["revenue_share"].notna().any() else 0.0
    rows = [_row(row, most=most, cards=cards) for row in ordered.to_dict("records")]
    known = {"margin": segments["margin"].notna().any(), "revenue_share": segments["revenue_share"].notna().any()}
    known["change"] = segments["spend_next"].notna().any()
    known["active"] = not known["change"] and segments["active_share_next"].notna().any()
    headings = {name: heading for name, heading in titles("segments").items() if known.get(name, True)}
    for name in {"change", "active"} & set(headings) if horizon_days else ():
        headings[name] += f" {horizon_days} days"
    right = dict.fromkeys(set(NUMBERS) - {"stability"}, True)
    return rows_html(rows, headings=headings, right=right, caption=caption, sortable=True)


def by_revenue(segments: pd.DataFrame) -> pd.DataFrame:
    """The order of segments on every page: largest revenue first, or largest number of customers."""
    columns = ["revenue_share", "customers", "segment"]
    return segments.sort_values(columns, ascending=[False, False, True], na_position="last")


def without_figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """A segment as it may be shown: one below the privacy floor without its money and its future."""
    hides = FIGURES if is_few(row["customers"]) else ()
    return {name: None if name.startswith(hides) else value for name, value in row.items()}


def name_html(row: Mapping[str, Any], *, cards: str = "") -> Markup:
    """The name of a segment with its chip and id; a link to its card where there is a page of cards."""
    link = Markup('<a href="{}#{}" dir="auto">{}</a>').format(cards, row["segment"], row["name"])
    name = link if cards else Markup('<span dir="auto">{}</span>').format(row["name"])
    return Markup('{} <b>{}</b> <small class="sk-id">{}</small>').format(chip(row["segment"]), name, row["segment"])


def change_html(row: Mapping[str, Any]) -> Markup:
    """Expected against present spend per customer: an arrow up or down only where the whole range lies on one side."""
    now, low, high = row["spend_now"], row["spend_next_low"], row["spend_next_high"]
    text = numbers.number(row["spend_next"])
    if numbers.is_missing(low) or numbers.is_missing(high):
        return escape(text)
    word = "level" if numbers.is_missing(now) or low <= now <= high else "up" if low > now else "down"
    arrow = {"level": "→", "up": "↗", "down": "↘"}[word]
    form = (
        '<span class="sk-{}"><span aria-hidden="true">{}</span><span class="sk-said">{},</span> {}</span>'
        "<br><small>{} to {}{}</small>"
    )
    before = f"; now {numbers.number(now)}" if not numbers.is_missing(now) else ""
    return Markup(form).format(word, arrow, word, text, numbers.number(low), numbers.number(high), before)


def active_html(row: Mapping[str, Any]) -> Markup:
    """The share of customers who are expected to come back, with its range."""
    low, high = (numbers.share(row[f"active_share_next_{side}"]) for side in ("low", "high"))
    return Markup("{}<br><small>{} to {}</small>").format(numbers.share(row["active_share_next"]), low, high)


def dots_html(value: float | None, *, verdict: str) -> Markup:
    """A score of 0-1 as filled dots of five, with the number and the verdict in words."""
    if numbers.is_missing(value):
        return escape(verdict)
    full = round(min(max(float(value), 0), 1) * DOTS)
    form = (
        '<span class="sk-firm"><span class="sk-dots" aria-hidden="true">{}<i>{}</i></span> {}</span>'
        "<br><small>{}</small>"
    )
    return Markup(form).format("●" * full, "○" * (DOTS - full), numbers.score(value), verdict)


def _row(row: Mapping[str, Any], *, most: float, cards: str) -> dict[str, Any]:
    row = without_figures(row)
    need = Markup('<br><span class="sk-need" dir="auto">{}</span>').format(row["need"])
    texts = {
        "customers": shown(row["customers"]),
        "revenue_share": bar(row["revenue_share"], most=most),
        "margin": numbers.number(row["margin"]),
        "change": change_html(row),
        "active": active_html(row),
        "stability": dots_html(row["stability"], verdict=row["verdict"]),
    }
    values = {**row, "change": row["spend_next"], "active": row["active_share_next"]}
    cells = {name: Cell(texts[name], values[name]) for name in NUMBERS}
    action = Markup('<span dir="auto">{}</span>').format(row["action"])
    return {"name": name_html(row, cards=cards) + need, **cells, "action": action}
