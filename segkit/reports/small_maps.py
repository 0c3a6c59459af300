"""Draw the same map of customers several times, each in other colours."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from segkit.errors import InputError
from segkit.format import capitalized, number
from segkit.reports.map import clear_axes, point_size
from segkit.reports.theme import COLOURS, FAINT, SEQUENTIAL, WIDTH, shorten, style

MAX_KINDS = 7  # categories a small map tells apart; the rest is grey
COLOUR_QUANTILES = (0.02, 0.98)  # quantiles that end the colour scale, so that one outlier does not wash it out
MIN_LOG_RANGE = 20  # from which on a scale is logarithmic: its end over its begin


def plot_small_maps(
    assignments: pd.DataFrame, values: pd.DataFrame, *, colours: Mapping[str, str] | None = None
) -> Figure:
    """Plot the same map once per column of values, coloured by it: numbers as a scale, text as kinds.

    Parameters
    ----------
    assignments
        customer_id, x, y.
    values
        customer_id as index or column, and one to three more columns; each titles its map.
    colours
        Colour by kind; kinds without one get the next of the theme.
    """
    keyed = values.set_index("customer_id") if "customer_id" in values.columns else values
    aligned = keyed.reindex(assignments["customer_id"])
    if not 1 <= len(keyed.columns) <= 3:
        raise InputError(f"values: {len(keyed.columns)} columns to colour by; a row of small maps holds one to three.")
    with style():
        height, side = 4.2, WIDTH / 3 - 0.16  # inches; fixed places keep the maps square and equal
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasAgg(figure)
        for position, column in enumerate(keyed.columns):
            left = (position * WIDTH / 3 + 0.08) / WIDTH
            axes = figure.add_axes((left, 1 - (side + 0.35) / height, side / WIDTH, side / height))
            axes.set_title(capitalized(str(column).replace("_", " ")))
            clear_axes(axes)
            _colour_points(axes, assignments, aligned[column], colours=colours or {})
    return figure


def _colour_points(axes: Axes, assignments: pd.DataFrame, value: pd.Series, *, colours: Mapping[str, str]) -> None:
    x, y, size = assignments["x"].to_numpy(), assignments["y"].to_numpy(), point_size(len(assignments)) * 0.45
    if pd.api.types.is_numeric_dtype(value) and not pd.api.types.is_bool_dtype(value):
        low, high = value.quantile(COLOUR_QUANTILES[0]), value.quantile(COLOUR_QUANTILES[1])
        norm = LogNorm(low, high, clip=True) if 0 < MIN_LOG_RANGE * low < high else Normalize(low, high, clip=True)
        drawn = axes.scatter(x, y, c=value.to_numpy(dtype=float), s=size, cmap=SEQUENTIAL, norm=norm, linewidths=0)
        scale = axes.figure.colorbar(drawn, cax=axes.inset_axes((0.15, -0.06, 0.7, 0.03)), orientation="horizontal")
        scale.outline.set_visible(False)
        scale.ax.tick_params(which="both", length=0)
        scale.ax.xaxis.set_minor_formatter(NullFormatter())
        scale.ax.xaxis.set_major_formatter(FuncFormatter(lambda at, _: number(at)))
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
    handles, free = [], iter(COLOURS)
    for kind in kinds["kind"].head(MAX_KINDS):
        colour = colours.get(kind) or next(free)
        axes.scatter(x[text == kind], y[text == kind], c=colour, s=size, linewidths=0)
        handles.append(
            Line2D([], [], marker="o", linestyle="", color=colour, markersize=4.5, label=shorten(kind, most=24))
        )
    if len(kinds) > MAX_KINDS:
        handles.append(Line2D([], [], marker="o", linestyle="", color=FAINT, markersize=4.5, label="others"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncol=2, fontsize=7, handletextpad=0.1)
