"""Cards of the overview: what to do first, and each segment in a few words that lead to its persona."""

from collections.abc import Iterable

import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.pages.overview import FirstAction
from segkit.pages.segment_table import shown_rows


def first_html(actions: Iterable[FirstAction], *, cards: str = "") -> Markup:
    """What to do first, a numbered card each.

    Parameters
    ----------
    cards : the page that holds a card for each segment; a name links to its own
    """
    return templates.html("overview", "first", actions=actions, cards=cards)


def minis_html(segments: pd.DataFrame, *, cards: str = "") -> Markup:
    """Each segment as a small card, largest revenue first: name, size and need."""
    return templates.html("overview", "minis", rows=shown_rows(segments), cards=cards)


def links_html(links: Iterable[tuple[str, str, str]]) -> Markup:
    """Where to read on: (page, its name, what it answers) each."""
    return templates.html("overview", "links", links=links)
