"""Personas as HTML: a card for each."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import numbers
from segkit.pages.html import chip

SIGNALS = 5  # on a card
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
