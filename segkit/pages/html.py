"""Pieces of a page as HTML: figures, tables and tiles. Everything that comes in is escaped."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from numbers import Number
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from segkit import numbers
from segkit.errors import InputError
from segkit.pages import drawing
from segkit.pages.look import look

PIXELS_PER_INCH = 96  # of the page
LONGEST_WORD = 20  # characters that a table keeps together
LONG_PART = re.compile(rf"[^_./:-]{{1,{LONGEST_WORD}}}[_./:-]*|[_./:-]{{1,{LONGEST_WORD}}}")
FORMATS: dict[str, Callable[[Any], str]] = {
    "share": numbers.share,
    "number": numbers.number,
    "count": numbers.count,
    "score": numbers.score,
}
SHAPES = {  # the matplotlib markers, drawn in a square of 12
    "o": '<circle cx="6" cy="6" r="4.6"/>',
    "s": '<rect x="1.8" y="1.8" width="8.4" height="8.4"/>',
    "^": '<path d="M6 1 11 10.4H1z"/>',
    "v": '<path d="M6 11 1 1.6h10z"/>',
    "D": '<path d="M6 .6 11.4 6 6 11.4.6 6z"/>',
    "P": '<path d="M4 1h4v3h3v4H8v3H4V8H1V4h3z"/>',
    "X": '<path d="M3.4 1 6 3.6 8.6 1 11 3.4 8.4 6 11 8.6 8.6 11 6 8.4 3.4 11 1 8.6 3.6 6 1 3.4z"/>',
}


class Cell(NamedTuple):
    """What a cell of a table shows, and the number it is sorted by."""

    shown: Any
    value: float | None


def figure_html(figure: Figure, *, alt: str, caption: str = "") -> Markup:
    """A figure with a text for those who cannot see it; the same figure gives the same bytes.

    Raises
    ------
    InputError : alt is empty
    """
    if not alt.strip():
        raise InputError("figure: the alt text is empty. Say what the picture shows and what to see in it.")
    width = round(figure.get_figwidth() * PIXELS_PER_INCH)
    foot = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    form = (
        '<figure class="sk-figure"><div class="sk-drawing" role="img" tabindex="0" aria-label="{}" '
        'style="max-width:{}px">{}</div>{}</figure>'
    )
    return Markup(form).format(alt, width, Markup(drawing.svg(figure)), foot)


def table_html(
    table: pd.DataFrame,
    *,
    caption: str = "",
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    sortable: bool = False,
) -> Markup:
    """A table with scope headers: numbers right and rounded, text escaped, unknown as a dash.

    Takes  a table; its index is not shown
    Gives  HTML; on a phone each row becomes a small card

    Parameters
    ----------
    columns : column -> heading, in the order to show; units belong in the heading. None shows all
    formats : column -> "share", "number", "count", "score", or a function from a value to text
    sortable : headings become buttons on the page; without a script the order stays as given

    Raises
    ------
    InputError : columns or formats name a column that is not there, or an unknown format
    """
    headings = (
        dict(columns) if columns else {str(name): str(name).replace("_", " ").capitalize() for name in table.columns}
    )
    chosen = dict(formats or {})
    missing = sorted((set(headings) | set(chosen)) - set(map(str, table.columns)))
    if missing:
        raise InputError(f"table: there are no columns {missing}. There are {sorted(map(str, table.columns))}.")
    forms = {name: _form(chosen.get(name), column=table[name]) for name in headings}
    right = {
        name: pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name])
        for name in headings
    }
    keyed = {name for name in headings if sortable and right[name]}
    rows = (
        {n: Cell(forms[n](value), value) if n in keyed else forms[n](value) for n, value in row.items()}
        for row in table[list(headings)].to_dict("records")
    )
    return rows_html(rows, headings=headings, right=right, caption=caption, sortable=sortable)


def rows_html(
    rows: Iterable[Mapping[str, Any]],
    *,
    headings: Mapping[str, str],
    right: Mapping[str, bool],
    caption: str = "",
    sortable: bool = False,
) -> Markup:
    """A table of ready cells (text; Markup, kept as it is; or a Cell); the first column names the row."""
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(_class(right.get(name)), heading)
        for name, heading in headings.items()
    )
    body = Markup("\n").join(_row(row, headings=headings, right=right) for row in rows)
    title = Markup("<caption>{}</caption>").format(caption) if caption else ""
    form = (
        '<div class="sk-scroll" tabindex="0" role="group" aria-label="{}"><table class="sk-table">{}'
        "<thead><tr>{}</tr></thead><tbody>\n{}\n</tbody></table></div>"
    )
    made = Markup(form).format(caption or "Table", title, head, body)
    return Markup('<div class="sk-sort">{}</div>').format(made) if sortable else made


def tiles_html(tiles: Iterable[tuple[Any, ...]]) -> Markup:
    """A row of large numbers.

    Takes  (label, value) or (label, value, note); a value that is not text is rounded
    """
    form = Markup('<div class="sk-tile"><dt>{}</dt><dd><strong>{}</strong>{}</dd></div>')
    made = [
        form.format(label, _plain(value), Markup("<span>{}</span>").format(note[0]) if note and note[0] else "")
        for label, value, *note in tiles
    ]
    return Markup('<dl class="sk-tiles">{}</dl>').format(Markup("").join(made))


def chip(segment: str) -> Markup:
    """The colour and shape of a segment as a small picture; the name beside it says what it is."""
    colour, marker = look(segment)
    form = '<svg class="sk-chip" viewBox="0 0 12 12" width="12" height="12" fill="{}" aria-hidden="true">{}</svg>'
    return Markup(form).format(colour, Markup(SHAPES[marker]))


def bar(value: float | None, *, most: float) -> Markup:
    """A share as a bar with its number; most is the share that fills the cell."""
    if numbers.is_missing(value):
        return escape(numbers.NOTHING)
    width = 100 * min(max(float(value), 0) / most, 1) if most > 0 else 0
    return Markup('<span class="sk-bar"><i style="width:{}%"></i></span> <span>{}</span>').format(
        f"{width:.0f}", numbers.share(value)
    )


def _row(row: Mapping[str, Any], *, headings: Mapping[str, str], right: Mapping[str, bool]) -> Markup:
    cells = []
    for position, (name, heading) in enumerate(headings.items()):
        tag = Markup('th scope="row"') if position == 0 else Markup("td")
        shown, key = row[name], Markup("")
        if isinstance(shown, Cell):
            value = "" if numbers.is_missing(shown.value) else f"{float(shown.value):.6g}"
            shown, key = shown.shown, Markup(' data-value="{}"').format(value)
        form = Markup('<{}{} data-label="{}"{}>{}</{}>')
        text = shown if isinstance(shown, Markup) else breakable(str(shown))
        cells.append(form.format(tag, _class(right.get(name)), heading, key, text, Markup(tag[:2])))
    return Markup("<tr>{}</tr>").format(Markup("").join(cells))


def breakable(text: str) -> Markup:
    """Text in which only very long words may break, best behind a sign: names of files, of columns, of products.

    >>> breakable("campaign_descriptions.parquet is short")
    Markup('campaign_<wbr>descriptions.<wbr>parquet is short')
    """
    words = [LONG_PART.findall(word) if len(word) > LONGEST_WORD else [word] for word in text.split(" ")]
    return Markup(" ").join(Markup("<wbr>").join(word) for word in words)


def _class(right: bool | None) -> Markup:
    return Markup(' class="sk-number"') if right else Markup("")


def _form(chosen: str | Callable[[Any], str] | None, *, column: pd.Series) -> Callable[[Any], str]:
    if callable(chosen):
        return chosen
    if chosen is not None and chosen not in FORMATS:
        raise InputError(f"table: there is no format '{chosen}'. There are {', '.join(FORMATS)}.")
    if chosen:
        return FORMATS[chosen]
    return numbers.count if pd.api.types.is_integer_dtype(column) else _plain


def _plain(value: Any) -> str:
    """Any value as text: dates as ISO, flags as words, numbers rounded."""
    if numbers.is_missing(value):
        return numbers.NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return (
            value.date().isoformat()
            if value.time() == datetime.min.time()
            else value.isoformat(sep=" ", timespec="minutes")
        )
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) else numbers.number(value) if isinstance(value, Number) else str(value)
