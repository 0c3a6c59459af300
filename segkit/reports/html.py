"""Render tables, tiles and figures as HTML."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from numbers import Number
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from segkit import format as fmt
from segkit import templates
from segkit.errors import InputError
from segkit.format import capitalized, hidden_segments, is_missing, masked_counts
from segkit.period import Period
from segkit.reports import theme
from segkit.reports.compare import compared_features
from segkit.reports.theme import segment_styles
from segkit.texts import phrase
from segkit.vocabulary import LEVEL_ONLY

PIXELS_PER_INCH = 96  # of the page
SEGMENTS_CAPTION = "Choose a heading to sort the segments."
VALUE_FORMATS: dict[str, Callable[[Any], str]] = {
    "share": fmt.share,
    "number": fmt.number,
    "count": fmt.count,
    "score": fmt.score,
}
FIGURE = re.compile(r"[<+±−]?([$£€]|[A-Z]{3}\xa0)?\d[\d.,]*(\xa0?(%|k|M|bn))?(?![\w-])")  # the begin of a text
DOTS = 5  # of the stability scale
HIDDEN_FIGURES = (
    "customer_share",
    "revenue",
    "margin",
    "orders",
    "spend_",
    "active_share_",
)  # of their columns, the beginning


@dataclass(frozen=True)
class Column:
    """A displayed column of a table: heading, format of its values, and whether they are right-aligned."""

    heading: str
    form: Callable[[Any], str]
    right: bool


def figure_html(figure: Figure, *, alt: str, caption: str = "") -> Markup:
    """Render a figure with an alternative text; the same figure gives the same bytes.

    Raises `InputError`: ``alt`` is empty.
    """
    if not alt.strip():
        raise InputError("figure: the alt text is empty. Say what the picture shows and what to see in it.")
    return templates.html("_macros", "figure", alt=alt, caption=caption, **figure_facts(figure))


def figure_facts(figure: Figure) -> dict[str, Any]:
    """Prepare a figure for a template: its drawing, and its width in pixels."""
    return {"drawing": theme.svg(figure), "width": round(figure.get_figwidth() * PIXELS_PER_INCH)}


def table_html(
    table: pd.DataFrame,
    *,
    caption: str = "",
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    sortable: bool = False,
) -> Markup:
    """Render a table with scoped headers: numbers right-aligned and rounded, text escaped, missing values a dash.

    On a phone each row becomes a small card.

    Parameters
    ----------
    columns
        Column to heading, in the order to show; units belong in the heading. None shows all.
    formats
        Column to "share", "number", "count", "score", or a function from a value to text.
    sortable
        Headings become buttons; without a script the order stays as given.

    Raises
    ------
    InputError
        ``columns`` or ``formats`` names a missing column or an unknown format.
    """
    facts = table_facts(table, columns=columns, formats=formats)
    return templates.html("_macros", "table", caption=caption, sortable=sortable, **facts)


def table_facts(
    table: pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
) -> dict[str, Any]:
    """Prepare a table for a template: its columns, and its rows as pairs of a column and a value."""
    headings = (
        dict(columns) if columns else {str(name): capitalized(str(name).replace("_", " ")) for name in table.columns}
    )
    chosen = dict(formats or {})
    missing = sorted((set(headings) | set(chosen)) - set(map(str, table.columns)))
    if missing:
        raise InputError(f"table: there are no columns {missing}. There are {sorted(map(str, table.columns))}.")
    columns_shown = [
        Column(heading, _choose_format(chosen.get(name), column=table[name]), _is_number(table[name]))
        for name, heading in headings.items()
    ]
    rows = [list(zip(columns_shown, row.values(), strict=True)) for row in table[list(headings)].to_dict("records")]
    return {"columns": columns_shown, "rows": rows}


def tiles_html(tiles: Iterable[tuple[Any, ...]]) -> Markup:
    """Render a row of large numbers.

    `tiles`: (label, value) or (label, value, note); a value that is not text is rounded.
    """
    made = [(label, _format_value(value), note[0] if note else "") for label, value, *note in tiles]
    return templates.html("_macros", "tiles", tiles=made)


def _is_number(column: pd.Series) -> bool:
    """Return whether a column holds numbers, or only texts of figures, which are aligned like numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return not pd.api.types.is_bool_dtype(column)
    texts = [Markup(value).striptags() for value in column if isinstance(value, str) and value]
    figures = [text for text in texts if text not in (fmt.MISSING, "hidden")]
    return bool(figures) and all(FIGURE.match(text) for text in figures)


def _choose_format(chosen: str | Callable[[Any], str] | None, *, column: pd.Series) -> Callable[[Any], str]:
    if callable(chosen):
        return chosen
    if chosen is not None and chosen not in VALUE_FORMATS:
        raise InputError(f"table: there is no format '{chosen}'. There are {', '.join(VALUE_FORMATS)}.")
    if chosen:
        return VALUE_FORMATS[chosen]
    return fmt.count if pd.api.types.is_integer_dtype(column) else _format_value


def _format_value(value: Any) -> str:
    """Format any value: dates as ISO, flags as words, numbers rounded."""
    if fmt.is_missing(value):
        return fmt.MISSING
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
    return value if isinstance(value, str) else fmt.number(value) if isinstance(value, Number) else str(value)


def segment_table_html(
    segments: pd.DataFrame,
    *,
    caption: str = SEGMENTS_CAPTION,
    currency: str = "",
    cards: str = "",
    signals: pd.DataFrame | None = None,
    period: Period | None = None,
) -> Markup:
    """Render the segments, largest revenue first; on a page they can be filtered, sorted and compared in pairs.

    Parameters
    ----------
    segments
        The table ``segments``. Columns without any value (margin without cost) are left out; where there is no
        money, the active share replaces spend.
    currency
        Code of the currency of the source, or "".
    cards
        Page that holds a card for each segment; a name links to its own.
    signals
        The table ``signals``, whose features two segments are compared by too.
    period
        Of the run, whose dates then stand below the table.
    """
    shown = ("revenue_share", "margin", "spend_next", "action")
    has_values = {name: bool(segments[name].notna().any()) for name in shown}
    has_values["margin"] = segments["margin"].map(fmt.percent).nunique() > 1  # else it tells segments not apart
    return templates.html(
        "segments",
        "table",
        rows=shown_rows(segments),
        known={
            **has_values,
            "active": not has_values["spend_next"] and bool(segments["active_share_next"].notna().any()),
        },
        most=float(segments["revenue_share"].max()) if has_values["revenue_share"] else 0.0,
        caption=phrase(caption),
        currency=currency,
        cards=cards,
        period=period,
        features=[] if signals is None else compared_features(segments, signals),
    )


def shown_rows(segments: pd.DataFrame) -> list[dict[str, Any]]:
    """Prepare the rows of the segment table for a template, largest revenue first.

    Returns each row without what a small segment may not show, with its size as text (``size``), whether that is
    ``hidden``, its colour and marker (``look``), where its spend
    goes (``way``) and the filled ones of five dots for its stability (``dots``).
    """
    styles, hidden = segment_styles(segments), hidden_segments(segments)
    sizes = dict(zip(segments["segment"], masked_counts(segments["customers"]), strict=True))
    rows = []
    for row in by_revenue(segments).to_dict("records"):
        own = row["segment"]
        rows.append(_shown_row({**row, "size": sizes[own], "hidden": own in hidden}, look=styles[own]))
    return rows


def _shown_row(row: Mapping[str, Any], *, look: tuple[str, str]) -> dict[str, Any]:
    hides = HIDDEN_FIGURES if row["hidden"] else ()
    row = {name: None if name.startswith(hides) else value for name, value in row.items()}
    dots = None if is_missing(row["stability"]) else round(min(max(float(row["stability"]), 0), 1) * DOTS)
    return {**row, "look": look, "way": way(row), "dots": dots}


def by_revenue(segments: pd.DataFrame) -> pd.DataFrame:
    """Sort segments as on every page: largest revenue first, or most customers."""
    columns = ["revenue_share", "customers", "segment"]
    return segments.sort_values(columns, ascending=[False, False, True], na_position="last")


def way(row: Mapping[str, Any]) -> str:
    """Classify where the spend of a segment goes, beyond what chance and season did one horizon ago.

    Small spenders drift up and large ones down by chance alone. Up or down only where the whole interval lies on one
    side of both the present spend and that spend changed as it usually does.

    Returns "up", "down" or "level"; "" where the present spend or the interval is missing.
    """
    now, low, high = row["spend_now"], row["spend_next_low"], row["spend_next_high"]
    if is_missing(now) or is_missing(low) or is_missing(high):
        return ""
    change = row.get("spend_change")
    if row.get("verdict") == LEVEL_ONLY or is_missing(change):  # chance put customers there: spend returns to the mean
        return "level"
    usual = now * change
    return "down" if high < min(now, usual) else "up" if low > max(now, usual) else "level"
