"""What a notebook shows: each function displays one thing where it is called, in JupyterLab and on the page alike."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, display
from markupsafe import Markup
from matplotlib.figure import Figure

from segkit import templates
from segkit.pages import cards, html, overview_html
from segkit.pages.lasso import map_profile
from segkit.pages.map_html import map_html
from segkit.pages.overview import FirstAction
from segkit.pages.segment_table import segment_table_html


def show(figure: Figure, *, alt: str, caption: str = "") -> None:
    """Display a figure.

    Parameters
    ----------
    alt : what the picture shows, for those who cannot see it; never empty
    caption : what to see in it, in a sentence
    """
    _display(html.figure_html(figure, alt=alt, caption=caption))


def table(
    table: pd.DataFrame,
    *,
    caption: str = "",
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    sortable: bool = False,
) -> None:
    """Display a table: numbers right and rounded, text escaped, unknown as a dash; the index is not shown.

    Parameters
    ----------
    columns : column -> heading with unit, in the order to show; None shows all
    formats : column -> "share", "number", "count", "score", or a function from a value to text
    sortable : on the page, a heading sorts by its column
    """
    _display(html.table_html(table, caption=caption, columns=columns, formats=formats, sortable=sortable))


def tiles(tiles: Iterable[tuple[Any, ...]]) -> None:
    """Display a row of large numbers: (label, value) or (label, value, note) each; numbers are rounded."""
    _display(html.tiles_html(tiles))


def headline(text: str) -> None:
    """Display the answer of a page in a sentence, computed from the run."""
    _display(templates.html("_macros", "headline", text=text))


def note(text: str, *, warn: bool = False) -> None:
    """Display a remark in a quiet box; warn makes it stand out."""
    _display(templates.html("_macros", "note", text=text, warn=warn))


def bullets(items: Iterable[str], *, numbered: bool = False) -> None:
    """Display a list of sentences, numbered where the order counts."""
    _display(templates.html("_macros", "bullets", items=items, numbered=numbered))


def segment_table(
    segments: pd.DataFrame, *, caption: str = "", horizon_days: int | None = None, cards: str = ""
) -> None:
    """Display the table segments: need, size, revenue share as a bar, expected change, stability, next action.

    Parameters
    ----------
    horizon_days : how far is looked ahead, for the heading
    cards : the page that holds a card for each segment; a name links to its own
    """
    _display(segment_table_html(segments, caption=caption, horizon_days=horizon_days, cards=cards))


def segment_map(
    assignments: pd.DataFrame,
    segments: pd.DataFrame,
    *,
    features: pd.DataFrame | None = None,
    expected: pd.Series | None = None,
    horizon_days: int | None = None,
    alt: str,
    caption: str = "",
    cards: str = "",
) -> None:
    """Display the map of customers: on the page one to touch, in a notebook, in print and in mail a still picture.

    Parameters
    ----------
    features : what circled customers are told by, as means of neighbourhoods of at least twenty
    expected : what each is expected to spend, by customer_id; None is what their segment is expected to
    cards : the page that holds a card for each segment
    """
    profile = None
    if features is not None:
        if expected is None:
            expected = assignments.set_index("customer_id")["segment"].map(segments.set_index("segment")["spend_next"])
        profile = map_profile(assignments, features, expected=expected, horizon_days=horizon_days)
    _display(map_html(assignments, segments, profile=profile, alt=alt, caption=caption, cards=cards))


def first_actions(actions: Iterable[FirstAction], *, cards: str = "") -> None:
    """Display what to do first, a numbered card each; cards is the page that a name links to."""
    _display(overview_html.first_html(actions, cards=cards))


def segment_minis(segments: pd.DataFrame, *, cards: str = "") -> None:
    """Display each segment as a small card: name, size, need; cards is the page that a name links to."""
    _display(overview_html.minis_html(segments, cards=cards))


def links(links: Iterable[tuple[str, str, str]]) -> None:
    """Display where to read on: (page, its name, what it answers) each."""
    _display(overview_html.links_html(links))


def persona_cards(
    personas: pd.DataFrame,
    *,
    differences: pd.DataFrame | None = None,
    facts: pd.DataFrame | None = None,
    copy: pd.DataFrame | None = None,
) -> None:
    """Display a card for each persona; bars draw the differences, facts say how figures were made, copy what to say."""
    _display(cards.persona_cards_html(personas, differences=differences, facts=facts, copy=copy))


def _display(markup: Markup) -> None:
    display(HTML(str(markup)))
