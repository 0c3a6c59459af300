"""The map to touch: Bokeh draws it where a page is opened; a still picture stands in for print, mail and no script."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.pages import drawing
from segkit.pages.lasso import Profile, plain_rows, sample_of
from segkit.pages.look import look
from segkit.pages.maps import segment_map
from segkit.pages.segment_table import by_revenue, shown_rows

BOKEH_MARKERS = {  # of the matplotlib markers of `look`
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "X": "x",
}
LARGER = {"plus": 1.25, "x": 1.25, "diamond": 1.3, "triangle": 1.15, "inverted_triangle": 1.15}  # to look as large
THIN = ("plus", "x")  # markers that are lines
MARGIN = 0.05  # of the plane, around the outermost customers
SHAPES = (1.15, 1.75)  # width over height of the map, at least and at most
RESTING, FADED = 0.75, 0.1  # how strong a point is, and one that was not circled


def map_html(
    assignments: pd.DataFrame,
    segments: pd.DataFrame,
    *,
    profile: Profile | None = None,
    alt: str,
    caption: str = "",
    cards: str = "",
) -> Markup:
    """The map of customers with a list of segments beside it.

    Takes  assignments (customer_id, segment, core, x, y); the table segments
    Gives  a figure: a still picture, and what the page's script makes a map to touch of

    Parameters
    ----------
    profile : of `lasso.map_profile`: what customers that were circled are told by
    cards : the page that holds a card for each segment
    """
    drawn = sample_of(assignments)
    ordered = by_revenue(segments)
    still = base64.b64encode(drawing.png(segment_map(drawn, segments))).decode("ascii")
    document = {"segments": _anchors(drawn, ordered), **_bokeh_item(drawn, ordered, profile=profile)}
    if profile is not None and profile.columns:
        means = {"means": plain_rows(profile.means), "everyone": plain_rows(profile.everyone)[0]}
        document["profile"] = {"columns": list(profile.columns), **means}
    return templates.html(
        "map",
        "figure",
        still=still,
        document=document,
        rows=shown_rows(segments),
        drawn=len(drawn),
        customers=len(assignments),
        alt=alt,
        caption=caption,
        cards=cards,
    )


def _anchors(drawn: pd.DataFrame, ordered: pd.DataFrame) -> list[dict[str, Any]]:
    """Each segment with its colour, and where its name stands: the middle of its core."""
    found = []
    places = dict(list(drawn.groupby("segment")))
    for row in ordered.to_dict("records"):
        if row["segment"] not in places:
            continue
        rows = places[row["segment"]]
        middle = rows[rows["core"]] if rows["core"].any() else rows
        x, y = (round(float(middle[name].median()), 4) for name in ("x", "y"))
        colour = look(row["segment"])[0]
        found.append({"id": row["segment"], "name": row["name"], "colour": colour, "x": x, "y": y})
    return found


def _bokeh_item(drawn: pd.DataFrame, ordered: pd.DataFrame, *, profile: Profile | None) -> dict[str, Any]:
    """The plot as BokehJS reads it, the frame of the plane, and its shape; the same customers give the same bytes."""
    from bokeh.embed import json_item  # slow to import, and needed by few pages

    box, shape = _frame(drawn)
    plot = _plot(box)
    size = float(np.clip(260 / np.sqrt(max(len(drawn), 1)), 2.6, 8))
    bins = profile.neighbourhood if profile is not None else pd.Series(0, index=drawn["customer_id"])
    for segment in ordered["segment"]:
        rows = drawn[drawn["segment"] == segment].sort_values(["x", "y"], kind="stable")  # no order of customers
        colour, marker = look(segment)[0], BOKEH_MARKERS[look(segment)[1]]
        data = {name: rows[name].to_numpy(dtype=np.float32) for name in ("x", "y")}
        data["bin"] = bins.reindex(rows["customer_id"]).fillna(0).to_numpy(dtype=np.uint16)
        line = {"line_color": colour, "line_width": size / 4} if marker in THIN else {"line_color": None}
        plot.scatter(
            *("x", "y"),
            source=data,
            name=segment,
            marker=marker,
            size=size * LARGER.get(marker, 1),
            fill_color=colour,
            alpha=RESTING,
            nonselection_alpha=FADED,
            **line,
        )
    item = json_item(plot, "map")
    return {"item": _renumbered(item), "box": box, "shape": shape}


def _plot(box: list[float]) -> Any:
    """An empty Bokeh figure: nothing but the points and a lasso."""
    from bokeh.models import LassoSelectTool, Range1d
    from bokeh.plotting import figure

    plot = figure(
        tools="",
        toolbar_location=None,
        sizing_mode="stretch_both",
        x_range=Range1d(box[0], box[1]),
        y_range=Range1d(box[2], box[3]),
        min_border=0,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        stylesheets=[":host .bk-events { touch-action: var(--sk-touch, pan-y) !important; }"],
    )
    plot.axis.visible = False
    plot.grid.visible = False
    plot.add_tools(LassoSelectTool(continuous=False))
    return plot


def _frame(drawn: pd.DataFrame) -> tuple[list[float], float]:
    """The part of the plane that is shown (x from, to, y from, to), and its width over its height."""
    low, high = drawn[["x", "y"]].min().to_numpy(dtype=float), drawn[["x", "y"]].max().to_numpy(dtype=float)
    span = np.where(high > low, high - low, 1.0) * (1 + 2 * MARGIN)
    shape = float(np.clip(span[0] / span[1], *SHAPES))
    span = np.array([max(span[0], span[1] * shape), max(span[1], span[0] / shape)])
    middle = (low + high) / 2
    box = [middle[0] - span[0] / 2, middle[0] + span[0] / 2, middle[1] - span[1] / 2, middle[1] + span[1] / 2]
    return [round(float(value), 4) for value in box], round(shape, 3)


def _renumbered(item: Mapping[str, Any]) -> Any:
    """The same document with ids counted from one: Bokeh counts on through the life of a process."""
    new_ids: dict[str, str] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {
                key: new_ids.setdefault(value, f"m{len(new_ids) + 1}") if key in ("id", "root_id") else walk(value)
                for key, value in part.items()
            }
        return [walk(one) for one in part] if isinstance(part, list) else part

    return walk(item)
