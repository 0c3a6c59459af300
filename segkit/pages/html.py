"""Pieces of a page as HTML: figures, tables and tiles. Everything that comes in is escaped."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from numbers import Number
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from segkit import numbers, templates
from segkit.errors import InputError
from segkit.pages import drawing

PIXELS_PER_INCH = 96  # of the page
FORMATS: dict[str, Callable[[Any], str]] = {
    "share": numbers.share,
    "number": numbers.number,
    "count": numbers.count,
    "score": numbers.score,
}


@dataclass(frozen=True)
class Column:
    """A column of a table as it is shown: its heading, how its values are written, and whether they stand right."""

    heading: str
    form: Callable[[Any], str]
    right: bool


def figure_html(figure: Figure, *, alt: str, caption: str = "") -> Markup:
    """A figure with a text for those who cannot see it; the same figure gives the same bytes.

    Raises
    ------
    InputError : alt is empty
    """
    if not alt.strip():
        raise InputError("figure: the alt text is empty. Say what the picture shows and what to see in it.")
    return templates.html("_macros", "figure", alt=alt, caption=caption, **figure_facts(figure))


def figure_facts(figure: Figure) -> dict[str, Any]:
    """Prepare a figure for a template: its drawing, and its width in pixels."""
    return {"drawing": drawing.svg(figure), "width": round(figure.get_figwidth() * PIXELS_PER_INCH)}


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
    facts = table_facts(table, columns=columns, formats=formats)
    return templates.html("_macros", "table", caption=caption, sortable=sortable, **facts)


def table_facts(
    table: pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
) -> dict[str, Any]:
    """Prepare a table for a template: its columns, and its rows as pairs of a column and a value.

    Parameters
    ----------
    table
        Any table.
    columns, formats
        As in ``table_html``.
    """
    headings = (
        dict(columns) if columns else {str(name): str(name).replace("_", " ").capitalize() for name in table.columns}
    )
    chosen = dict(formats or {})
    missing = sorted((set(headings) | set(chosen)) - set(map(str, table.columns)))
    if missing:
        raise InputError(f"table: there are no columns {missing}. There are {sorted(map(str, table.columns))}.")
    columns_shown = [
        Column(heading, _form(chosen.get(name), column=table[name]), _is_number(table[name]))
        for name, heading in headings.items()
    ]
    rows = [list(zip(columns_shown, row.values(), strict=True)) for row in table[list(headings)].to_dict("records")]
    return {"columns": columns_shown, "rows": rows}


def tiles_html(tiles: Iterable[tuple[Any, ...]]) -> Markup:
    """A row of large numbers.

    Takes  (label, value) or (label, value, note); a value that is not text is rounded
    """
    made = [(label, _plain(value), note[0] if note else "") for label, value, *note in tiles]
    return templates.html("_macros", "tiles", tiles=made)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


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
