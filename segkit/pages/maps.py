"""The map of customers: segments with direct labels, and small maps that show why neighbours are neighbours."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from segkit.errors import InputError
from segkit.pages.look import COLOURS, FAINT, INK, QUIET, SEQUENTIAL, WIDTH, look, shortened, style

LABEL_WIDTH = 20  # characters before a name is broken
LABEL_LENGTH = 56  # characters before it is cut
ROUNDS = 400  # of pushing labels apart; a few dozen usually suffice
GAP = 6.0  # pixels between two labels
LEADER = 14.0  # pixels a label may stray before a line leads back to its place
KINDS = 7  # categories a small map tells apart; the rest is grey
ROBUST = (0.02, 0.98)  # quantiles that end the colour scale, so that one outlier does not wash it out


def segment_map(assignments: pd.DataFrame, segments: pd.DataFrame) -> Figure:
    """Customers as points in the colour and shape of their segment, its name beside the middle.

    Takes  assignments (segment, core, x, y); segments (segment, name)
    Gives  a figure; customers who are not core are fainter
    """
    with style():
        figure, axes = _bare_figure(assignments, width=WIDTH, height=6.2)
        size = _point_size(len(assignments))
        names = segments.set_index("segment")["name"]
        anchors = {}
        for segment, rows in assignments.sort_values("segment").groupby("segment"):
            colour, marker = look(str(segment))
            core = rows["core"].to_numpy()
            axes.scatter(rows["x"][~core], rows["y"][~core], s=size, c=colour, marker=marker, alpha=0.22, linewidths=0)
            axes.scatter(rows["x"][core], rows["y"][core], s=size, c=colour, marker=marker, alpha=0.75, linewidths=0)
            middle = rows[core] if core.any() else rows
            anchors[segment] = (middle["x"].median(), middle["y"].median())
        for segment, (x, y) in anchors.items():
            colour, marker = look(str(segment))
            axes.scatter([x], [y], s=70, c=colour, marker=marker, edgecolors="white", linewidths=1.4, zorder=4)
        labels = [
            textwrap.fill(shortened(names.get(segment, segment), most=LABEL_LENGTH), LABEL_WIDTH) for segment in anchors
        ]
        place_labels(axes, anchors=list(anchors.values()), labels=labels)
    return figure


def small_maps(assignments: pd.DataFrame, values: pd.DataFrame) -> Figure:
    """The same map once for each column of values, coloured by it: numbers as a scale, text as kinds.

    Takes  assignments (customer_id, x, y); values: customer_id as index or column, and one to three more columns
    Gives  a figure with a map for each column, titled by its name
    """
    keyed = values.set_index("customer_id") if "customer_id" in values.columns else values
    aligned = keyed.reindex(assignments["customer_id"])
    if not 1 <= len(keyed.columns) <= 3:
        raise InputError(f"values: {len(keyed.columns)} columns to colour by; a row of small maps holds one to three.")
    with style():
        height, side = 3.9, WIDTH / 3 - 0.16  # inches; fixed places keep the maps square and equal
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasAgg(figure)
        for position, column in enumerate(keyed.columns):
            left = (position * WIDTH / 3 + 0.08) / WIDTH
            axes = figure.add_axes((left, 1 - (side + 0.35) / height, side / WIDTH, side / height))
            axes.set_title(str(column).replace("_", " ").capitalize())
            _clear(axes)
            _colour_points(axes, assignments, aligned[column])
    return figure


def place_labels(axes: Axes, *, anchors: list[tuple[float, float]], labels: list[str], size: float = 8.5) -> list[Text]:
    """Write labels near their anchors without overlap, inside the axes; a thin line leads back where one had to move.

    Takes  axes whose limits are final; anchors in data units, and a label for each
    Gives  the texts, moved
    """
    outline = [withStroke(linewidth=2.6, foreground="white")]
    texts = [axes.text(0, 0, label, fontsize=size, color=INK, ha="center", va="center", zorder=6) for label in labels]
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw_without_rendering()
    boxes = np.array([[box.width, box.height] for box in (text.get_window_extent(renderer) for text in texts)])
    points = axes.transData.transform(np.array(anchors, dtype=float).reshape(-1, 2))
    frame = axes.get_window_extent(renderer)
    wanted = points + np.array([0, 9.0]) + np.column_stack([np.zeros(len(boxes)), boxes[:, 1] / 2])
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
    """Centres of boxes moved until they overlap neither each other nor an anchor, as far as the frame allows."""
    centres = wanted.copy()
    half = boxes / 2
    for _ in range(ROUNDS):
        moved = False
        for one in range(len(centres)):
            moved |= _leave(centres, one, others=one + 1, need=half[one] + half[one + 1 :] + GAP)
            moved |= _leave(centres, one, points=points, need=half[one] + GAP + 2)
        centres = np.clip(centres, low + half, high - half)
        if not moved:
            break
    return centres


def _leave(
    centres: np.ndarray, box: int, *, need: np.ndarray, others: int = 0, points: np.ndarray | None = None
) -> bool:
    """Move a box off what it overlaps, one after the other: fixed points, or the boxes from number `others` on, which
    move as far the other way.
    """
    fixed = points is not None
    things = points if fixed else centres[others:]  # a view: boxes that moved are seen where they are
    start, moved = 0, False
    while start < len(things):
        apart = centres[box] - things[start:]
        depth = (need if fixed else need[start:]) - np.abs(apart)
        hits = np.flatnonzero((depth > 0).all(axis=1))
        if not len(hits):
            break
        hit = int(hits[0])
        axis = int(np.argmin(depth[hit]))
        step = depth[hit, axis] * (1 if apart[hit, axis] >= 0 else -1) * 1.02
        centres[box, axis] += step if fixed else step / 2
        if not fixed:
            things[start + hit, axis] -= step / 2
        start, moved = start + hit + 1, True
    return moved


def _colour_points(axes: Axes, assignments: pd.DataFrame, value: pd.Series) -> None:
    x, y, size = assignments["x"].to_numpy(), assignments["y"].to_numpy(), _point_size(len(assignments)) * 0.45
    if pd.api.types.is_numeric_dtype(value) and not pd.api.types.is_bool_dtype(value):
        low, high = value.quantile(ROBUST[0]), value.quantile(ROBUST[1])
        drawn = axes.scatter(
            x, y, c=value.to_numpy(dtype=float), s=size, cmap=SEQUENTIAL, vmin=low, vmax=high, linewidths=0
        )
        scale = axes.figure.colorbar(drawn, cax=axes.inset_axes((0.15, -0.06, 0.7, 0.03)), orientation="horizontal")
        scale.outline.set_visible(False)
        scale.ax.tick_params(length=0)
        return
    text = value.astype("object").where(value.notna(), "unknown").astype(str).to_numpy()
    kinds = (
        pd.Series(text)
        .value_counts()
        .rename_axis("kind")
        .reset_index()
        .sort_values(["count", "kind"], ascending=[False, True])
    )
    axes.scatter(x, y, c=FAINT, s=size, linewidths=0)
    handles = []
    for kind, colour in zip(kinds["kind"].head(KINDS), COLOURS, strict=False):
        axes.scatter(x[text == kind], y[text == kind], c=colour, s=size, linewidths=0)
        handles.append(
            Line2D([], [], marker="o", linestyle="", color=colour, markersize=4.5, label=shortened(kind, most=24))
        )
    if len(kinds) > KINDS:
        handles.append(Line2D([], [], marker="o", linestyle="", color=FAINT, markersize=4.5, label="others"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncol=2, fontsize=7, handletextpad=0.1)


def _bare_figure(assignments: pd.DataFrame, *, width: float, height: float) -> tuple[Figure, Axes]:
    """A figure filled by one map without axes: distances on it have no unit."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    _clear(axes)
    for name, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low, high = float(assignments[name].min()), float(assignments[name].max())
        margin = 0.06 * (high - low) or 1.0
        limit(low - margin, high + margin)
    return figure, axes


def _clear(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _point_size(rows: int) -> float:
    """Area of a point in square points: 16 for a few hundred customers, 2 for tens of thousands."""
    return float(np.clip(900 / np.sqrt(max(rows, 1)), 2, 16))
