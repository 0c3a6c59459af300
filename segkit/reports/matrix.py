"""The matrix of segments: how much customers are worth in rows, what they come for in columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.format import FLOOR, is_missing
from segkit.reports.html import shown_rows
from segkit.reports.theme import level_shade

LARGEST = 23.0  # radius of the mark of the largest segment, in units of its drawing of 48 x 48
SMALLEST = 5.0
MOST_LETTERS = 100  # of the longest word of a heading times the columns, that fit next to each other
OPEN = ""  # column of segments without a single need


@dataclass(frozen=True)
class Level:
    """A row of the matrix.

    Parameters
    ----------
    name
        Top, Core, Light and so on.
    customer_share, revenue_share
        Of all customers, and of all revenue; null where there is no money, or a small segment would be given away.
    cells
        Column (a need id, or "" for no single need) -> segments; a level that is whole has one, in no column.
    whole
        The segment of a level that is not divided by needs, or None.
    """

    name: str
    customer_share: float
    revenue_share: float
    cells: Mapping[str, list[Mapping[str, Any]]]
    whole: Mapping[str, Any] | None


def matrix_html(segments: pd.DataFrame, *, currency: str = "", cards: str = "") -> Markup:
    """Render the segments as a matrix of levels and needs.

    Parameters
    ----------
    segments
        The table ``segments``.
    currency
        Code of the currency of the source, or "".
    cards
        Page that holds a card for each segment.
    """
    columns = matrix_columns(segments)
    return templates.html(
        "matrix",
        "matrix",
        columns=columns,
        upright=_are_upright([name for _, name in columns]),
        bare=all(column == OPEN for column, _ in columns),
        levels=matrix_levels(segments),
        money=bool(segments["revenue_share"].notna().any()),
        currency=currency,
        cards=cards,
    )


def matrix_columns(segments: pd.DataFrame) -> list[tuple[str, str]]:
    """List the columns, most customers first: (need id, name) each; segments without a single need come last."""
    split = segments[~_is_whole(segments)]
    needs = split.dropna(subset=["need"]).groupby("need").agg(name=("need_name", "first"), size=("customers", "sum"))
    ordered = needs.sort_values(["size"], ascending=False, kind="stable")
    columns = list(zip(ordered.index, ordered["name"], strict=True))
    return [*columns, *([(OPEN, "")] if split["need"].isna().any() else [])]


def matrix_levels(segments: pd.DataFrame) -> list[Level]:
    """List the levels, highest first, with the segments of each."""
    rows = pd.DataFrame(_marked(segments))
    levels = []
    for macro in sorted(segments["macro_segment"].unique(), key=_order):
        own = rows[rows["macro_segment"] == macro]
        cells: dict[str, list[Mapping[str, Any]]] = {}
        for row in own.to_dict("records"):
            cells.setdefault(row["need"] if isinstance(row["need"], str) else OPEN, []).append(row)
        whole = own.iloc[0].to_dict() if len(own) == 1 else None
        names = own["level"] if "level" in own else own["macro_segment"]
        revenue = own["revenue_share"].astype(float)
        shares = float(own["customer_share"].sum()), float(revenue.sum()) if revenue.notna().any() else np.nan
        if own["hidden"].any():  # a sum would give the small one away
            shares = np.nan, np.nan
        levels.append(Level(str(names.iloc[0]), *shares, cells=cells, whole=whole))
    return levels


def _are_upright(names: list[str]) -> bool:
    """Return whether headings have words that are too long for their columns, and so are written upwards."""
    longest = max((len(word) for name in names for word in name.split()), default=0)
    return len(names) * longest > MOST_LETTERS


def _is_whole(segments: pd.DataFrame) -> pd.Series:
    return segments.groupby("macro_segment")["segment"].transform("size") == 1


def _order(macro: str) -> tuple[int, str]:
    digits = macro[1:]
    return (int(digits) if digits.isdigit() else 0), macro


def _marked(segments: pd.DataFrame) -> list[dict[str, Any]]:
    """Add to each row the radius of its mark (people as area) and its shade (money a customer)."""
    largest = float(segments["customers"].max())
    worth = (segments["revenue"].astype(float) / segments["customers"]).rank(pct=True)
    ranks, rows = dict(zip(segments["segment"], worth, strict=True)), []
    shown = {row["segment"]: row for row in shown_rows(segments)}
    for own in segments["segment"]:
        row = shown[own]
        rank = np.nan if row["hidden"] else ranks[own]
        size = float(FLOOR) if row["hidden"] else float(row["customers"])
        radius = max(LARGEST * np.sqrt(min(size / largest, 1.0)), SMALLEST)
        # by day and by night, when more stands out as lighter
        shades = None if is_missing(rank) else (level_shade(float(rank)), level_shade(1.0 - float(rank)))
        rows.append({**row, "radius": round(radius, 1), "shades": shades})
    return rows
