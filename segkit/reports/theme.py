"""Colours, typefaces, CSS and SVG of every page."""

import base64
import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from PIL import Image

ACCENT = "#1f5f8b"
INK = "#1d2733"
QUIET = "#6b7785"
SOFT = "#a9c6da"  # the accent, where it is not the point
FAINT = "#d7dde3"
WARN = "#c2571a"
# seven colours found by search to stay apart, on white and on dark paper, for people who confuse red and green too
# (Machado et al. 2009; tests/reports/test_theme.py measures it); beyond seven no set does, so shapes and names go on
COLOURS = ("#12a2e3", "#b9710a", "#a21cfd", "#a6bc3a", "#a43e48", "#1dbca5", "#4a60a4")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # with each round of the colours they move on by one: 49 pairs
# viridis (van der Walt & Smith 2015) without its darkest third, which is lost on dark paper
SEQUENTIAL = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.3, 0.97, 256)), name="segkit")
TONES = (
    ("#ffffff", 0.0),
    ("#18265f", 0.38),
    ("#e8f8fd", 0.42),
)  # what the colours of needs are mixed with, and how much
WIDTH = 9.5  # inches: the measure of a page
DPI = 160  # of pixels: sharp on a dense screen
MAX_VECTOR_POINTS = 300  # points from which on they are kept as pixels
VARIABLES = {
    INK: "ink",
    "#000000": "ink",
    "#262626": "ink",  # seaborn's black
    QUIET: "quiet",
    FAINT: "line",
    "#ffffff": "paper",
    ACCENT: "accent",
    SOFT: "accent-soft",
    WARN: "warn",
}
HALO = "halo"  # the group of a text that is outlined in the colour of the paper
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
TAG = re.compile(r"<(?!/)[^>]*>")


def segment_style(segment: str) -> tuple[str, str]:
    """Choose the colour and marker of a segment from the number in its id: the same on every page and in every run.

    Returns
    -------
    tuple of str
        Hex colour and matplotlib marker.

    Examples
    --------
    >>> segment_style("S01")
    ('#12a2e3', 'o')
    >>> segment_style("S08")[0] == segment_style("S01")[0], segment_style("S08")[1] == segment_style("S01")[1]
    (True, False)
    """
    digits = re.search(r"\d+", segment)
    turn, colour = divmod(max(int(digits[0]) - 1, 0) if digits else 0, len(COLOURS))
    return COLOURS[colour], MARKERS[(colour + turn) % len(MARKERS)]


def need_colour(need: str) -> str:
    """Choose the colour of a need from the number in its id: the same on every page of a run.

    The first seven are `COLOURS`; the next ones are their dark and their light tones.

    Examples
    --------
    >>> need_colour("N01"), need_colour("N08"), need_colour("N15")
    ('#12a2e3', '#1473b1', '#6cc6ee')
    """
    digits = re.search(r"\d+", need)
    turn, number = divmod(max(int(digits[0]) - 1, 0) if digits else 0, len(COLOURS))
    paper, part = TONES[turn % len(TONES)]
    mixed = (1 - part) * np.array(to_rgb(COLOURS[number])) + part * np.array(to_rgb(paper))
    return str(to_hex(mixed))


LEVEL_SHADES = LinearSegmentedColormap.from_list("levels", ["#cfe0ec", "#7fb0d0", ACCENT, "#0d3550"])


def segment_styles(segments: pd.DataFrame, *, gone: pd.DataFrame | None = None) -> dict[str, tuple[str, str]]:
    """Choose the colour of each segment by its need and its marker by its level: one need, one colour.

    Parameters
    ----------
    segments
        segment, macro_segment, need; segments without a single need are grey.
    gone
        Segments of an earlier run; those that no longer exist get the colour and marker of their need and level.

    Returns
    -------
    dict
        Segment -> hex colour and matplotlib marker.
    """
    parts = [segments] if gone is None else [segments, gone[~gone["segment"].isin(segments["segment"])]]
    rows = [row for part in parts for row in part.to_dict("records")]
    macros: dict[str, None] = {}  # those of today first: they keep their markers
    for part in parts:
        macros |= dict.fromkeys(sorted(part["macro_segment"].unique(), key=lambda macro: (len(macro), macro)))
    markers = {macro: MARKERS[number % len(MARKERS)] for number, macro in enumerate(macros)}
    return {
        row["segment"]: (QUIET if pd.isna(row["need"]) else need_colour(row["need"]), markers[row["macro_segment"]])
        for row in rows
    }


def level_shade(rank: float) -> str:
    """Return the shade of a level or of an amount: dark is much.

    Parameters
    ----------
    rank
        0 (least) to 1 (most).
    """
    return to_hex(LEVEL_SHADES(rank))


@contextmanager
def style() -> Iterator[None]:
    """Apply the seaborn style of every figure: quiet axes, no grid, a font that matplotlib brings."""
    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,  # a name with two dollar signs is no formula
        "axes.edgecolor": FAINT,
        "axes.labelcolor": QUIET,
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "regular",
        "axes.titlelocation": "left",
        "axes.titlecolor": INK,
        "axes.axisbelow": True,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": QUIET,
        "ytick.labelcolor": QUIET,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "segkit",  # names inside a drawing come from what is drawn, not from chance
        "svg.fonttype": "none",  # text stays text: it is searched, enlarged and recoloured as the page is
    }
    import seaborn  # the machinery that only needs a colour does without: it takes seconds

    base = seaborn.axes_style("white") | seaborn.plotting_context("paper")
    with matplotlib.rc_context({**base, **settings}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # an emoji in a name: the browser has it, a picture a box
        yield


def label_left(axes: Axes, *, place: np.ndarray, words: pd.Series) -> None:
    """Label bars by words at their left, without ticks or a left spine."""
    axes.set_yticks(place, [shorten(word, most=44) for word in words])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.7, len(place) - 0.3)


def shorten(words: object, *, most: int) -> str:
    """Shorten a text to so many characters; one that is cut ends in an ellipsis.

    Examples
    --------
    >>> shorten("Frequent domestic wine", most=16), shorten("Donaudampfschiff", most=10)
    ('Frequent …', 'Donaudamp…')
    """
    text = " ".join(str(words).split())
    whole = textwrap.shorten(text, most, placeholder=" …")
    return whole if whole.strip(" …") else f"{text[: most - 1]}…"


def one_panel(*, height: float) -> tuple[Figure, Axes]:
    """Create a figure with one set of axes, ``height`` inches high and as wide as a page."""
    figure, grid = many_panels(rows=1, columns=1, height=height)
    return figure, grid[0, 0]


def many_panels(
    *, rows: int, columns: int, height: float, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """Create a figure as wide as a page (height in inches), outside pyplot's state, and its grid of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)


def svg(figure: Figure) -> str:
    """Render a figure as an <svg> element without size or background; the same figure gives the same bytes."""
    halos = _prepare_figure(figure)
    drawn = io.StringIO()
    try:
        with style():
            figure.savefig(
                drawn, format="svg", dpi=DPI, transparent=True, metadata={"Date": None, "Creator": None, "Type": None}
            )
    finally:
        for text, effects in halos.items():
            text.set_path_effects(effects)
            text.set_gid(None)
    return _clean_svg(drawn.getvalue())


def png(figure: Figure) -> bytes:
    """Render a PNG without date or software name in at most 256 colours: a third of the weight."""
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return _compress_image(image)


def _prepare_figure(figure: Figure) -> dict[Text, list]:
    """Rasterise many points and mark outlined texts: as paths, each letter would be a drawing."""
    for collection in figure.findobj(Collection):
        collection.set_rasterized(len(collection.get_offsets()) > MAX_VECTOR_POINTS)
    halos = {text: text.get_path_effects() for text in figure.findobj(Text) if text.get_path_effects()}
    for text, effects in halos.items():
        if any(isinstance(effect, withStroke) for effect in effects):
            text.set_path_effects([])
            text.set_gid(HALO)
    return halos


def _clean_svg(text: str) -> str:
    """Reduce an SVG to the drawing: no metadata or unused names, two decimals, variables for colours."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, flags=re.DOTALL)
    body = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", body, count=1)
    body = body.replace(f'id="{HALO}"', 'class="sk-halo"').replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    body = PNG.sub(lambda found: f"data:image/png;base64,{_compress_encoded(found[1])}", body)
    body = TAG.sub(lambda found: _tag(found[0]), body)
    return re.sub(r">\s+<", "><", body).strip()


def _tag(tag: str) -> str:
    if "base64" in tag:
        return tag
    short = re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", tag)).replace("font-family: 'DejaVu Sans'; ", "")
    for colour, name in VARIABLES.items():
        short = short.replace(colour, f"var(--sk-{name},{colour})")
    return short


def _compress_encoded(encoded: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    return base64.b64encode(_compress_image(image.quantize(256, method=Image.Quantize.FASTOCTREE))).decode("ascii")


def _compress_image(image: Image.Image) -> bytes:
    light = io.BytesIO()
    image.save(light, format="png", optimize=True)
    return light.getvalue()
