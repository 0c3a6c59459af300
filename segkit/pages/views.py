"""What a notebook shows: each function displays one thing where it is called, in JupyterLab and on the page alike."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, display
from markupsafe import Markup
from matplotlib.figure import Figure

from segkit.pages import cards, html
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
    _display(Markup('<p class="sk-headline">{}</p>').format(text))


def note(text: str, *, warn: bool = False) -> None:
    """Display a remark in a quiet box; warn makes it stand out."""
    _display(Markup('<p class="sk-note{}">{}</p>').format(" sk-warn" if warn else "", text))


def bullets(items: Iterable[str], *, numbered: bool = False) -> None:
    """Display a list of sentences, numbered where the order counts."""
    tag = Markup("ol" if numbered else "ul")
    made = Markup("").join(Markup("<li>{}</li>").format(item) for item in items)
    _display(Markup('<{} class="sk-list">{}</{}>').format(tag, made, tag))


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


def persona_cards(
    personas: pd.DataFrame, *, signals: pd.DataFrame | None = None, segments: pd.DataFrame | None = None
) -> None:
    """Display a card for each persona; the tables signals and segments add the bars and the size."""
    _display(cards.persona_cards_html(personas, signals=signals, segments=segments))


def _display(markup: Markup) -> None:
    display(HTML(str(markup)))
