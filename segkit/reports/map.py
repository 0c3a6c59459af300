"""Draw the interactive map of customers."""

import base64
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from segkit import templates
from segkit.format import FLOOR, hidden_segments, suppressed_cells
from segkit.reports import theme
from segkit.reports.html import by_revenue, shown_rows
from segkit.reports.theme import (
    INK,
    QUIET,
    WIDTH,
    level_shade,
    need_colour,
    segment_styles,
    shorten,
    style,
)
from segkit.texts import phrase
from segkit.vocabulary import describe

MAX_NEIGHBOURHOODS = 800  # on a page: more would weigh more and say no more
MAX_MAP_POINTS = 20_000  # drawn; beyond that a sample
MIN_SEGMENT_POINTS = 60  # points of it in a sample, where it has so many
SIGNIFICANT_DIGITS = 4  # that count in a mean: the rest is weight
CIRCLE_FEATURES = {  # what a circle shows: label and format
    "spend": ("spend so far, each", "number"),
    "orders": ("orders so far, each", "number"),
    "order_value": ("spend per order", "number"),
    "recency_days": ("days since the last visit", "number"),
    "discount_share": ("discount, share of the price", "share"),
}
NEEDS_PREFIX = "needs: "  # begin of the features that are shares of a need
LABEL_WIDTH = 20  # characters before a name is broken
LABEL_LENGTH = 56  # characters before it is cut
LABEL_ROUNDS = 60  # of pushing labels apart; a few dozen usually suffice
LABEL_GAP = 6.0  # pixels between two labels
LEADER = 14.0  # pixels a label may stray before a line leads back to its place
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
ASPECT_RANGE = (1.15, 1.75)  # width over height of the map, at least and at most
RESTING, FADED = 0.75, 0.1  # how strong a point is, and one that was not circled


@dataclass(frozen=True)
class MapProfile:
    """What a circle on the map shows about the customers in it.

    Parameters
    ----------
    columns
        Label, format ("share" or "number") and kind ("habit" or "need") of each.
    means
        One row per neighbourhood, one column for each of ``columns``.
    neighbourhood
        Neighbourhood of each customer, by customer_id.
    """

    columns: tuple[dict[str, str], ...]
    means: np.ndarray
    everyone: np.ndarray
    neighbourhood: pd.Series


def map_profile(
    assignments: pd.DataFrame,
    features: pd.DataFrame,
    *,
    expected: pd.Series | None = None,
    dates: str = "",
) -> MapProfile:
    """Average what customers did and are expected to do, by neighbourhood of the map.

    A neighbourhood lies in one segment: pages show means of segments too, and a segment less its neighbourhoods must
    not leave a few customers. Segments of hidden size are one neighbourhood together.

    Parameters
    ----------
    assignments
        customer_id, segment, x, y.
    features
        One row for each of those customers, by customer_id as index or column.
    expected
        Expected spend in the next horizon, by customer_id.
    dates
        The dates of that horizon, as a reader would write them.

    Returns
    -------
    MapProfile
        Without columns where there are fewer than twenty customers.
    """
    index = pd.Index(assignments["customer_id"])
    plane = assignments[["x", "y"]].to_numpy(dtype=float)
    keyed = features.set_index("customer_id") if "customer_id" in features.columns else features
    values, columns = _circle_columns(keyed.reindex(index), expected, dates=dates)
    if len(index) < FLOOR:
        values, columns = values.iloc[:, :0], ()
    least = max(FLOOR, -(-len(index) // MAX_NEIGHBOURHOODS))
    segment = _shown_segment(assignments)
    number = np.zeros(len(index), dtype=int)
    for own in np.unique(segment):
        rows = np.flatnonzero(segment == own)
        number[rows] = neighbourhoods(plane[rows], least=least) + (number.max() + 1 if own != segment.min() else 0)
    return MapProfile(
        columns=columns,
        means=_rounded(_means(values, number=number, segment=segment)),
        everyone=_rounded(values.mean().to_numpy(dtype=float)),
        neighbourhood=pd.Series(number, index=index),
    )


def _shown_segment(assignments: pd.DataFrame) -> np.ndarray:
    """Return the segment of each customer; those of hidden size are one."""
    sizes = assignments.groupby("segment").size().rename("customers").reset_index()
    segment = assignments["segment"].astype(str)
    return segment.mask(segment.isin(hidden_segments(sizes)), "").to_numpy(dtype=object)


def _means(values: pd.DataFrame, *, number: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Average by neighbourhood; missing where few customers have a value, or where a mean would give those away."""
    means, known = values.groupby(number).mean(), values.groupby(number).count()
    home = pd.Series(segment).groupby(number).first()
    for column in values:
        hides = known[column].groupby(home).transform(suppressed_cells).astype(bool)
        means[column] = means[column].mask(hides)
    return means.to_numpy(dtype=float)


def neighbourhoods(plane: np.ndarray, *, least: int = FLOOR) -> np.ndarray:
    """Divide points into neighbourhoods: halves of halves, cut at the middle of the longer side.

    This is the partition of a k-d tree (Bentley 1975).

    Parameters
    ----------
    plane
        Points (n x 2).
    least
        Each neighbourhood has ``least`` to twice as many points; all points are in one if there are fewer.

    Returns
    -------
    ndarray
        Number of the neighbourhood of each point, from 0.
    """
    found, number, open_parts = np.zeros(len(plane), dtype=int), 0, [np.arange(len(plane))]
    while open_parts:
        rows = open_parts.pop()
        if len(rows) < 2 * least:
            found[rows] = number
            number += 1
            continue
        longer = int(np.argmax(np.ptp(plane[rows], axis=0)))
        ordered = rows[np.argsort(plane[rows, longer], kind="stable")]
        open_parts += [ordered[: len(rows) // 2], ordered[len(rows) // 2 :]]
    return found


def sample_customers(assignments: pd.DataFrame, *, most: int = MAX_MAP_POINTS, seed: int = 7) -> pd.DataFrame:
    """Choose the customers to draw: all, or a sample in which small segments keep enough points.

    `assignments`: customer_id, segment.
    """
    if len(assignments) <= most:
        return assignments
    rng = np.random.default_rng(seed)
    shuffled = assignments.iloc[rng.permutation(len(assignments))]
    place = shuffled.groupby("segment").cumcount()
    share = most / len(assignments)
    wanted = shuffled.groupby("segment")["segment"].transform("size") * share
    return shuffled[place < np.maximum(wanted, MIN_SEGMENT_POINTS)].sort_index()


def _circle_columns(
    features: pd.DataFrame, expected: pd.Series | None, *, dates: str
) -> tuple[pd.DataFrame, tuple[dict[str, str], ...]]:
    """List the columns a circle shows, each with its format."""
    values, columns = pd.DataFrame(index=features.index), []
    if expected is not None and expected.notna().any():
        values["expected"] = expected.reindex(features.index)
        ahead = f", {dates}" if dates else ""
        columns.append({"words": f"likely spend, each{ahead}", "form": "number", "kind": "habit"})
    for name in (name for name in CIRCLE_FEATURES if name in features):
        values[name] = features[name]
        columns.append({"words": phrase(CIRCLE_FEATURES[name][0]), "form": CIRCLE_FEATURES[name][1], "kind": "habit"})
    for name in (name for name in features if str(name).startswith(NEEDS_PREFIX)):
        values[name] = features[name]
        columns.append({"words": describe(name).label, "form": "share", "kind": "need"})
    return values.astype(float), tuple(columns)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round to significant figures; missing values stay missing."""
    size = np.where((values == 0) | ~np.isfinite(values), 1.0, np.abs(np.nan_to_num(values, nan=1.0)))
    scale = 10.0 ** (SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(size)))
    return np.round(values * scale) / scale


def to_json_rows(values: np.ndarray) -> list[Any]:
    """Convert numbers to JSON rows; missing values are null."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in np.atleast_2d(values)]


def plot_segment_map(assignments: pd.DataFrame, segments: pd.DataFrame) -> Figure:
    """Plot customers in the colour and shape of their segment, with its name near the middle.

    Parameters
    ----------
    assignments
        segment, core, x, y; customers who are not core are fainter.
    segments
        segment, name, need, macro_segment.
    """
    with style():
        figure, axes = _bare_figure(assignments, width=WIDTH, height=6.2)
        size = point_size(len(assignments))
        names, styles = segments.set_index("segment")["name"], segment_styles(segments)
        anchors = {}
        for segment, rows in assignments.sort_values("segment").groupby("segment"):
            colour, marker = styles[segment]
            core = rows["core"].to_numpy()
            axes.scatter(rows["x"][~core], rows["y"][~core], s=size, c=colour, marker=marker, alpha=0.22, linewidths=0)
            axes.scatter(rows["x"][core], rows["y"][core], s=size, c=colour, marker=marker, alpha=0.75, linewidths=0)
            middle = rows[core] if core.any() else rows
            anchors[segment] = (middle["x"].median(), middle["y"].median())
        for segment, (x, y) in anchors.items():
            colour, marker = styles[segment]
            axes.scatter([x], [y], s=70, c=colour, marker=marker, edgecolors="white", linewidths=1.4, zorder=4)
        labels = [
            textwrap.fill(shorten(names.get(segment, segment), most=LABEL_LENGTH), LABEL_WIDTH) for segment in anchors
        ]
        place_labels(axes, anchors=list(anchors.values()), labels=labels)
    return figure


def plot_thing_map(things: pd.DataFrame, needs: pd.DataFrame) -> Figure:
    """Plot the things that customers buy, those bought by the same customers close together, in the colour of a need.

    Parameters
    ----------
    things
        thing, need, weight, x, y.
    needs
        need, name; each name stands at the middle of its things.
    """
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * 0.62))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        clear_axes(axes)
        anchors = []
        for need in needs["need"]:
            own = things[things["need"] == need]
            sizes = 18 + 260 * own["weight"]
            axes.scatter(own["x"], own["y"], s=sizes, color=need_colour(need), alpha=0.7, linewidths=0)
            anchors.append((float(own["x"].median()), float(own["y"].median())))
        axes.margins(0.08)
        place_labels(axes, anchors=anchors, labels=list(needs["name"]))
    return figure


def place_labels(
    axes: Axes, *, anchors: list[tuple[float, float]], labels: list[str], size: float = 8.5, diagonal: bool = False
) -> list[Text]:
    """Write labels near their anchors without overlap; a thin line leads back where one had to move.

    Parameters
    ----------
    axes
        Axes with their final limits.
    anchors
        Anchors in data units (n x 2).
    diagonal
        To the upper right of the anchors, as they have error bars; else above them.
    """
    outline = [withStroke(linewidth=2.6, foreground="white")]
    texts = [axes.text(0, 0, label, fontsize=size, color=INK, ha="center", va="center", zorder=6) for label in labels]
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw_without_rendering()
    boxes = np.array([[box.width, box.height] for box in (text.get_window_extent(renderer) for text in texts)])
    points = axes.transData.transform(np.array(anchors, dtype=float).reshape(-1, 2))
    frame = axes.get_window_extent(renderer)
    wanted = points + np.array([6.0 if diagonal else 0.0, 9.0]) + boxes / 2 * [diagonal, 1]
    placed = _push_apart(
        wanted, boxes=boxes, points=points, low=np.array([frame.x0, frame.y0]), high=np.array([frame.x1, frame.y1])
    )
    back = axes.transData.inverted()
    for text, position, box, point in zip(texts, placed, boxes, points, strict=True):
        text.set_position(back.transform(position))
        text.set_path_effects(outline)
        edge = np.clip(point, position - box / 2, position + box / 2)
        if np.hypot(*(edge - point)) > LEADER:
            (x0, y0), (x1, y1) = back.transform([edge, point])
            axes.add_line(Line2D([x0, x1], [y0, y1], color=QUIET, linewidth=0.6, zorder=3))
    return texts


def _push_apart(
    wanted: np.ndarray, *, boxes: np.ndarray, points: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Move centres of boxes until they overlap neither each other nor an anchor, as far as the frame allows.

    Where there is no room for both, they may cover an anchor.
    """
    centres, half = wanted.copy().tolist(), (boxes / 2).tolist()
    anchors, nearest, farthest = points.tolist(), (low + boxes / 2).tolist(), (high - boxes / 2).tolist()
    for turn in range(2 * LABEL_ROUNDS):
        moved = False
        for one, (width, height) in enumerate(half):
            for other in range(one + 1, len(half)):
                room = width + half[other][0] + LABEL_GAP, height + half[other][1] + LABEL_GAP
                moved |= _move_off(centres[one], centres[other], room=room, both=True)
            if turn < LABEL_ROUNDS:
                room = width + LABEL_GAP + 2, height + LABEL_GAP + 2
                for anchor in anchors:
                    moved |= _move_off(centres[one], anchor, room=room, both=False)
        centres = np.clip(centres, nearest, farthest).tolist()
        if not moved:
            break
    return np.array(centres).reshape(wanted.shape)


def _move_off(centre: list[float], other: list[float], *, room: tuple[float, float], both: bool) -> bool:
    """Move a centre off another where they are closer than ``room`` on both axes; with ``both``, each goes half way."""
    apart = centre[0] - other[0], centre[1] - other[1]
    missing = room[0] - abs(apart[0]), room[1] - abs(apart[1])
    if min(missing) <= 0:
        return False
    axis = 0 if missing[0] <= missing[1] else 1
    step = missing[axis] * (1 if apart[axis] >= 0 else -1) * 1.02
    centre[axis] += step / 2 if both else step
    if both:
        other[axis] -= step / 2
    return True


def _bare_figure(assignments: pd.DataFrame, *, width: float, height: float) -> tuple[Figure, Axes]:
    """Create a figure filled by one map without axes: distances on it have no unit."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    clear_axes(axes)
    for name, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low, high = float(assignments[name].min()), float(assignments[name].max())
        margin = 0.06 * (high - low) or 1.0
        limit(low - margin, high + margin)
    return figure, axes


def clear_axes(axes: Axes) -> None:
    """Take ticks and spines off: distances on a map have no unit."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def point_size(rows: int) -> float:
    """Choose the area of a point in square points: 16 for a few hundred customers, 2 for tens of thousands."""
    return float(np.clip(900 / np.sqrt(max(rows, 1)), 2, 16))


def map_html(
    assignments: pd.DataFrame,
    segments: pd.DataFrame,
    *,
    profile: MapProfile | None = None,
    alt: str,
    caption: str = "",
    cards: str = "",
    currency: str = "",
) -> Markup:
    """Render the map of customers with a list of segments next to it.

    Parameters
    ----------
    assignments
        customer_id, segment, core, x, y.
    profile
        From ``map_profile``: what a circle shows about its customers.
    cards
        Page that holds a card for each segment.
    currency
        Code of the currency of the source, or "".

    Returns
    -------
    Markup
        A still picture, and what the page's script needs to make it interactive.
    """
    hidden = hidden_segments(segments)
    drawn = sample_customers(assignments[~assignments["segment"].isin(hidden)])  # dots can be counted
    ordered = by_revenue(segments[~segments["segment"].isin(hidden)])
    still = base64.b64encode(theme.png(plot_segment_map(drawn, segments))).decode("ascii")
    document = {"segments": _anchors(drawn, ordered), **_bokeh_item(drawn, ordered, profile=profile)}
    if profile is not None and profile.columns:
        means = {"means": to_json_rows(profile.means), "everyone": to_json_rows(profile.everyone)[0]}
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
        currency=currency,
    )


def _anchors(drawn: pd.DataFrame, ordered: pd.DataFrame) -> list[dict[str, Any]]:
    """Collect each segment with its colours (by need, by level) and the place of its name: the middle of its core."""
    found, styles = [], segment_styles(ordered)
    macros = sorted(ordered["macro_segment"].unique(), key=lambda macro: (len(macro), macro), reverse=True)
    places = dict(list(drawn.groupby("segment")))
    for row in ordered.to_dict("records"):
        if row["segment"] not in places:
            continue
        rows = places[row["segment"]]
        middle = rows[rows["core"]] if rows["core"].any() else rows
        x, y = (round(float(middle[name].median()), 4) for name in ("x", "y"))
        shade = level_shade((macros.index(row["macro_segment"]) + 0.5) / len(macros))
        looks = {"colour": styles[row["segment"]][0], "shade": shade}
        found.append({"id": row["segment"], "name": row["name"], **looks, "x": x, "y": y})
    return found


def _bokeh_item(drawn: pd.DataFrame, ordered: pd.DataFrame, *, profile: MapProfile | None) -> dict[str, Any]:
    """Build the plot for BokehJS, the frame of the plane, and its shape; same customers, same bytes."""
    from bokeh.embed import json_item  # slow to import, and needed by few pages

    box, shape = _frame(drawn)
    plot = _plot(box)
    size = float(np.clip(260 / np.sqrt(max(len(drawn), 1)), 2.6, 8))
    bins = profile.neighbourhood if profile is not None else pd.Series(0, index=drawn["customer_id"])
    styles = segment_styles(ordered)
    for segment in ordered["segment"]:
        rows = drawn[drawn["segment"] == segment].sort_values(["x", "y"], kind="stable")  # no order of customers
        colour, marker = styles[segment][0], BOKEH_MARKERS[styles[segment][1]]
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
    """Create an empty Bokeh figure: nothing but the points and a lasso."""
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
    """Compute the part of the plane that is shown (x from, to, y from, to), and its width over its height."""
    low, high = drawn[["x", "y"]].min().to_numpy(dtype=float), drawn[["x", "y"]].max().to_numpy(dtype=float)
    span = np.where(high > low, high - low, 1.0) * (1 + 2 * MARGIN)
    shape = float(np.clip(span[0] / span[1], *ASPECT_RANGE))
    span = np.array([max(span[0], span[1] * shape), max(span[1], span[0] / shape)])
    middle = (low + high) / 2
    box = [middle[0] - span[0] / 2, middle[0] + span[0] / 2, middle[1] - span[1] / 2, middle[1] + span[1] / 2]
    return [round(float(value), 4) for value in box], round(shape, 3)


def _renumbered(item: Mapping[str, Any]) -> Any:
    """Renumber the ids of a Bokeh document from one: Bokeh counts on through the life of a process."""
    new_ids: dict[str, str] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {
                key: new_ids.setdefault(value, f"m{len(new_ids) + 1}") if key in ("id", "root_id") else walk(value)
                for key, value in part.items()
            }
        return [walk(one) for one in part] if isinstance(part, list) else part

    return walk(item)
