"""The segment table: who, how many, how much of the revenue, what is expected, how firm it is, what to do."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.numbers import is_missing
from segkit.pages.look import look
from segkit.small_groups import is_few

DOTS = 5  # of the stability scale
FIGURES = (
    "customer_share",
    "revenue",
    "margin",
    "orders",
    "spend_",
    "active_share_",
)  # of their columns, the beginning


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
    has_values = {name: bool(segments[name].notna().any()) for name in ("revenue_share", "margin", "spend_next")}
    return templates.html(
        "segments",
        "table",
        rows=shown_rows(segments),
        known={
            **has_values,
            "active": not has_values["spend_next"] and bool(segments["active_share_next"].notna().any()),
        },
        most=float(segments["revenue_share"].max()) if has_values["revenue_share"] else 0.0,
        caption=caption,
        horizon_days=horizon_days,
        cards=cards,
    )


def shown_rows(segments: pd.DataFrame) -> list[dict[str, Any]]:
    """Prepare the rows of the segment table for a template, largest revenue first.

    Parameters
    ----------
    segments
        The table segments.

    Returns
    -------
    list of dict
        Each row without what a small segment may not show, with its colour and marker (``look``), where its spend
        goes (``way``) and the filled ones of five dots for its stability (``dots``).
    """
    return [shown_row(row) for row in by_revenue(segments).to_dict("records")]


def shown_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Prepare one row of the segment table for a template, as ``shown_rows`` does."""
    hides = FIGURES if is_few(row["customers"]) else ()
    row = {name: None if name.startswith(hides) else value for name, value in row.items()}
    dots = None if is_missing(row["stability"]) else round(min(max(float(row["stability"]), 0), 1) * DOTS)
    return {**row, "look": look(row["segment"]), "way": way(row), "dots": dots}


def by_revenue(segments: pd.DataFrame) -> pd.DataFrame:
    """The order of segments on every page: largest revenue first, or largest number of customers."""
    columns = ["revenue_share", "customers", "segment"]
    return segments.sort_values(columns, ascending=[False, False, True], na_position="last")


def way(row: Mapping[str, Any]) -> str:
    """Where the spend of a segment goes: up or down only where the whole range lies on one side, else level.

    Parameters
    ----------
    row
        A row of the segment table.

    Returns
    -------
    str
        "up", "down" or "level"; "" where the present spend or the range of the next is not known.
    """
    now, low, high = row["spend_now"], row["spend_next_low"], row["spend_next_high"]
    if is_missing(now) or is_missing(low) or is_missing(high):
        return ""
    return "down" if high < now else "up" if low > now else "level"
