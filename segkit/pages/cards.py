"""Segments and personas as HTML: the segment table of the overview, and a card for each persona."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from segkit import numbers
from segkit.pages.html import bar, chip, rows_html

DOTS = 5  # of the stability scale
SIGNALS = 5  # on a card
HEADINGS = {
    "name": "Segment",
    "customers": "Customers",
    "revenue_share": "Share of revenue",
    "margin": "Margin",
    "change": "Expected spend, next period",
    "stability": "Stability",
    "action": "Next action",
}
CARD_LINES = {  # column of personas -> what stands before it
    "how_they_buy": "How they buy",
    "next": "What they will do next",
    "value": "What they are worth",
    "offer": "What to offer",
    "copy": "What to say",
    "kpi": "What to watch",
    "rule": "How to tell them",
    "caution": "Careful",
}


def segment_table_html(segments: pd.DataFrame, *, caption: str = "") -> Markup:
    """The segments, largest revenue first: need, size, revenue as a bar, expected change, stability, next action.

    Takes  the table segments; columns that are unknown throughout (margin without cost) are left out
    """
    ordered = segments.sort_values(
        ["revenue_share", "customers", "segment"], ascending=[False, False, True], na_position="last"
    )
    most = float(segments["revenue_share"].max()) if segments["revenue_share"].notna().any() else 0.0
    rows = [_segment_row(row, most=most) for row in ordered.to_dict("records")]
    known = {"margin": segments["margin"].notna().any(), "revenue_share": segments["revenue_share"].notna().any()}
    known["change"] = segments["spend_next"].notna().any()
    headings = {name: heading for name, heading in HEADINGS.items() if known.get(name, True)}
    right = dict.fromkeys(("customers", "revenue_share", "margin", "change"), True)
    return rows_html(rows, headings=headings, right=right, caption=caption)


def persona_cards_html(
    personas: pd.DataFrame, *, signals: pd.DataFrame | None = None, segments: pd.DataFrame | None = None
) -> Markup:
    """A card for each persona, in the order given; two a page when printed.

    Takes  personas: text columns, already rendered; signals and segments add the bars and the size
    """
    shares = segments.set_index("segment")["customer_share"].to_dict() if segments is not None else {}
    drawn = dict(list(signals.groupby("segment"))) if signals is not None else {}
    cards = [
        _card(row, share=shares.get(row["segment"]), signals=drawn.get(row["segment"]))
        for row in personas.to_dict("records")
    ]
    return Markup('<div class="sk-cards">\n{}\n</div>').format(Markup("\n").join(cards))


def _segment_row(row: Mapping[str, Any], *, most: float) -> dict[str, Any]:
    name = Markup('{} <b>{}</b> <small class="sk-id">{}</small><br><span class="sk-need">{}</span>')
    return {
        "name": name.format(chip(row["segment"]), row["name"], row["segment"], row["need"]),
        "customers": numbers.count(row["customers"]),
        "revenue_share": bar(row["revenue_share"], most=most),
        "margin": numbers.number(row["margin"]),
        "change": _change(row),
        "stability": _dots(row["stability"], verdict=row["verdict"]),
        "action": row["action"],
    }


def _change(row: Mapping[str, Any]) -> Markup:
    """Expected against present spend per customer: an arrow only where the whole range lies on one side."""
    now, low, high = row["spend_now"], row["spend_next_low"], row["spend_next_high"]
    text = numbers.number(row["spend_next"])
    if numbers.is_missing(low) or numbers.is_missing(high):
        return escape(text)
    arrow, word = (
        ("→", "level") if numbers.is_missing(now) or low <= now <= high else ("↗", "up") if low > now else ("↘", "down")
    )
    form = '<span class="sk-{}"><span aria-hidden="true">{}</span> {}</span><br><small>{} to {}, {}</small>'
    before = f"now {numbers.number(now)}" if not numbers.is_missing(now) else word
    return Markup(form).format(word, arrow, text, numbers.number(low), numbers.number(high), before)


def _dots(value: float | None, *, verdict: str) -> Markup:
    """A score of 0-1 as filled dots of five, with the number and the verdict in words."""
    if numbers.is_missing(value):
        return escape(verdict)
    full = round(min(max(float(value), 0), 1) * DOTS)
    form = '<span class="sk-dots" aria-hidden="true">{}<i>{}</i></span>&nbsp;{}<br><small>{}</small>'
    return Markup(form).format("●" * full, "●" * (DOTS - full), numbers.score(value), verdict)


def _card(row: Mapping[str, Any], *, share: float | None, signals: pd.DataFrame | None) -> Markup:
    lines = [
        Markup("<dt>{}</dt><dd>{}</dd>").format(label, row[name])
        for name, label in CARD_LINES.items()
        if name in row and isinstance(row[name], str) and row[name].strip()
    ]
    size = Markup(" &middot; {} of customers").format(numbers.share(share)) if share is not None else ""
    story = Markup("<p>{}</p>").format(row["story"]) if isinstance(row.get("story"), str) else ""
    form = (
        '<article class="sk-card" id="{}"><header><h3>{} {}</h3><p class="sk-id">{}{}</p></header>'
        '<p class="sk-need">{}</p>{}{}<dl>{}</dl></article>'
    )
    bars = _signal_bars(signals) if signals is not None and len(signals) else ""
    segment = row["segment"]
    return Markup(form).format(
        segment, chip(segment), row["name"], segment, size, row.get("need", ""), bars, story, Markup("").join(lines)
    )


def _signal_bars(signals: pd.DataFrame) -> Markup:
    """The strongest signals as diverging bars: right of the middle means more than everyone else."""
    strongest = signals.sort_values("effect", key=abs, ascending=False, kind="stable").head(SIGNALS)
    most = float(strongest["effect"].abs().max()) or 1.0
    rows = []
    for row in strongest.to_dict("records"):
        width = 50 * abs(row["effect"]) / most
        left = 50.0 if row["effect"] >= 0 else 50 - width
        side = "more" if row["effect"] >= 0 else "less"
        values = f"{numbers.number(row['value'])} against {numbers.number(row['others'])}"
        form = (
            '<li><span>{}</span><span class="sk-diverge"><i class="sk-{}" style="left:{}%;width:{}%"></i></span>'
            "<small>{}</small></li>"
        )
        rows.append(Markup(form).format(row["words"], side, f"{left:.1f}", f"{width:.1f}", values))
    return Markup('<ul class="sk-signals" aria-label="Against all others">{}</ul>').format(Markup("").join(rows))
