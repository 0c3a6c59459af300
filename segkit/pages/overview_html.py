"""Cards of the overview: what to do first, and each segment in a few words that lead to its persona."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import numbers
from segkit.pages.overview import FirstAction
from segkit.pages.segment_table import by_revenue, name_html


def first_html(actions: Iterable[FirstAction], *, cards: str = "") -> Markup:
    """What to do first, a numbered card each.

    Parameters
    ----------
    cards : the page that holds a card for each segment; a name links to its own
    """
    form = (
        '<li><p class="sk-why">{}</p><p class="sk-who">{}</p><p>{}</p><p class="sk-do"><b>Do:</b> <span dir="auto">{}'
        '</span></p><p class="sk-proof">{}</p></li>'
    )
    made = [
        Markup(form).format(one.why, name_html(one.row, cards=cards), one.size, one.do, one.proof) for one in actions
    ]
    return Markup('<ol class="sk-first">{}</ol>').format(Markup("\n").join(made))


def minis_html(segments: pd.DataFrame, *, cards: str = "") -> Markup:
    """Each segment as a small card, largest revenue first: name, size and need."""
    made = [_mini(row, cards=cards) for row in by_revenue(segments).to_dict("records")]
    return Markup('<ul class="sk-minis">{}</ul>').format(Markup("\n").join(made))


def links_html(links: Iterable[tuple[str, str, str]]) -> Markup:
    """Where to read on: (page, its name, what it answers) each."""
    made = [Markup('<li><a href="{}">{}</a>: {}</li>').format(*link) for link in links]
    return Markup('<ul class="sk-list">{}</ul>').format(Markup("").join(made))


def _mini(row: Mapping[str, Any], *, cards: str) -> Markup:
    size = f"{numbers.share(row['customer_share'])} of customers"
    if not numbers.is_missing(row["revenue_share"]):
        size += f", {numbers.share(row['revenue_share'])} of revenue"
    form = '<li><p>{}</p><p class="sk-id">{}</p><p class="sk-need" dir="auto">{}</p></li>'
    return Markup(form).format(name_html(row, cards=cards), size, row["need"])
