"""A picture of the cockpit for chat: what is expected, what came, and the feed."""

import io
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, QUIET, LINE, ACCENT, SOFT = "#1d2733", "#5b6773", "#d7dde3", "#1f5f8b", "#a9c6da"
TONES = {"bad": "#b3261e", "look": "#b34d14", "good": "#1d7a46", "": INK}
WIDTH, DPI = 9.0, 110  # inches, pixels an inch
MOST_SEGMENTS, MOST_LETTERS, MOST_WORDS = 12, 40, 124  # in the picture; letters of a name and of a sentence
ROW, HEAD = 0.34, 2.1  # inches: of a segment, and of what stands above


def draw_png(facts: dict[str, Any]) -> bytes:
    """Draw the facts of the live page as a PNG of less than 200 KB; the same facts give the same bytes.

    `facts`: as `segkit.live.page.page_facts` returns them.
    """
    rows = facts["week"]["rows"][:MOST_SEGMENTS]
    height = HEAD + ROW * len(rows) + 0.3
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    with rc_context({"font.family": "DejaVu Sans", "text.parse_math": False}):
        _write_head(figure, facts, height=height)
        _draw_rows(figure, rows, height=height)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return drawn.getvalue()


def _write_head(figure: Figure, facts: dict[str, Any], *, height: float) -> None:
    def place(inches: float) -> float:
        return 1 - inches / height

    title = f"{_shorten(facts['source'], most=MOST_LETTERS)}, live"
    figure.text(0.03, place(0.35), title, size=13, weight="bold", color=INK)
    figure.text(0.97, place(0.35), facts["clock"], size=10, color=QUIET, ha="right")
    for number, tile in enumerate(facts["headline"]):
        left = 0.03 + 0.24 * number
        figure.text(left, place(0.75), tile["label"], size=9, color=QUIET)
        figure.text(
            left,
            place(1.15),
            tile["value"],
            size=19,
            weight="bold",
            color=INK if tile["tone"] == "good" else TONES[tile["tone"]],
        )
    lines = [*facts["to_do"][:1], *facts["alerts"][:1]]
    for number, line in enumerate(lines):
        words, tone = _shorten(line, most=MOST_WORDS), INK if number == 0 else QUIET
        figure.text(0.03, place(1.55 + 0.27 * number), words, size=9.5, color=tone)


def _draw_rows(figure: Figure, rows: list[dict[str, Any]], *, height: float) -> None:
    if not rows:
        return
    axes = figure.add_axes((0.36, 0.1 / height, 0.36, ROW * len(rows) / height))
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.axis("off")
    for y, row in enumerate(rows):
        scale = max(row["scale"], row["actual"] or 0.0) or 1.0
        axes.plot([0, 1], [y, y], color=LINE, linewidth=1)
        axes.plot([row["low"] / scale, row["high"] / scale], [y, y], color=SOFT, linewidth=8, solid_capstyle="butt")
        axes.plot([row["middle"] / scale] * 2, [y - 0.3, y + 0.3], color=ACCENT, linewidth=1.5)
        tone = TONES["" if not row["outside"] else "bad" if row["sign"] < 0 else "good"]
        if row["actual"] is not None:
            axes.plot([max(row["actual"], 0.0) / scale], [y], "o", color=tone, markersize=7)
        axes.text(-0.02, y, _shorten(row["name"], most=MOST_LETTERS), ha="right", va="center", size=9, color=INK)
        words = f"{row['actual_shown']} of {row['expected']}"
        axes.text(1.03, y, words, va="center", size=9, color=INK)
        axes.text(1.7, y, row["gap"], ha="right", va="center", size=9, weight="bold", color=tone)


def _shorten(text: str, *, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
