"""The page of all runs of a source: forecasts and actuals, the numbers of each run, segments through time."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit import __version__, templates
from segkit.format import MISSING, between, capitalized, count, is_missing, money, number, percent, score, share
from segkit.period import dates_text
from segkit.reports.html import figure_facts, table_facts
from segkit.reports.page_files import stylesheet
from segkit.reports.theme import ACCENT, INK, QUIET, SOFT, label_left, many_panels, one_panel, style
from segkit.reports.wording import day_text
from segkit.segments.validation import IN_PART
from segkit.templates import text

MARKER = "<!-- segkit: all runs -->"  # first line of the page; a file without it is somebody else's
MOST_RUNS = 24  # shown, the latest
MOST_COLUMNS = 8  # runs side by side in the table of segments
VERDICTS = {"groups": "groups", IN_PART: "groups, in part", "cuts": "cuts", "none": "none hold"}
LIMITS = (
    "Each row shows a run as it was made. Later corrections of the data do not change it.",
    "Actual figures are the sums of what the customers of that run did next, in the data of the latest run. A period "
    "that is not over is open.",
    "A segment keeps its id for as long as it is found again. Its borders may have moved.",
)


def runs_page(
    history: pd.DataFrame, segments: pd.DataFrame, *, source: str, currency: str, horizon_days: list[int]
) -> str:
    """Render the page of all runs of a source as a whole document.

    Parameters
    ----------
    history, segments
        As `segkit.refresh.trend.run_history` and ``segment_history`` return them, for at most `MOST_RUNS` runs.
    source
        Name of the source.
    horizon_days
        Of each run, in the order of the history.
    """
    shown = history.assign(dates=[_dates(*row) for row in zip(history["as_of"], horizon_days, strict=True)])
    known, due = shown.dropna(subset=["expected"]), shown.dropna(subset=["actual"])
    kpi = str(known["kpi"].iloc[-1]) if len(known) else ""
    known, due = known[known["kpi"] == kpi], due[due["kpi"] == kpi]
    columns = sorted(segments["as_of"].unique())[-MOST_COLUMNS:]
    words = {
        "headline": _headline(shown, due, currency=currency),
        "forecasts_caption": text("runs", "forecasts_caption", kpi=kpi, due=len(due)),
        "segments_caption": text("runs", "segments_caption", left_out=segments["as_of"].nunique() - len(columns)),
        "limits": LIMITS,
        "foot": f"Source {source} · {len(history)} {templates.plural(len(history), 'run', 'runs')}",
    }
    page = templates.html(
        "runs",
        "page",
        title=text("runs", "heading", source=capitalized(source.replace("_", " "))),
        words=words,
        forecasts=figure_facts(plot_forecasts(known, kpi=kpi, currency=currency)) if len(known) else None,
        numbers=figure_facts(plot_numbers(shown, currency=currency)) if len(shown) > 1 else None,
        runs=table_facts(_runs_table(shown, currency=currency)),
        segments=_segments_table(segments, columns=columns) if len(columns) > 1 else None,
        version=__version__,
        css=stylesheet("views") + stylesheet("page"),
    )
    return f"{MARKER}\n{page}"


def plot_forecasts(history: pd.DataFrame, *, kpi: str, currency: str = "") -> Figure:
    """Plot the range that each run expected, and what came.

    `history`: dates (of the horizon), expected with _low and _high, actual (may be missing).
    """
    rows, form = history.iloc[::-1].reset_index(drop=True), _form_of(kpi, currency=currency)
    place = np.arange(len(rows))[::-1]
    with style():
        figure, axes = one_panel(height=1.2 + 0.36 * len(rows))
        wide = rows["expected_high"] - rows["expected_low"]
        axes.barh(place, wide, left=rows["expected_low"], height=0.5, color=SOFT, label="forecast range")
        axes.vlines(rows["expected"], place - 0.25, place + 0.25, color=INK, linewidth=1.4)
        if rows["actual"].notna().any():
            axes.scatter(rows["actual"], place, marker="D", s=34, color=ACCENT, zorder=3, label="actual")
        label_left(axes, place=place, words=rows["dates"])
        axes.set_xlabel("Spend" if kpi == "spend" else "Orders")
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    return figure


def plot_numbers(history: pd.DataFrame, *, currency: str = "") -> Figure:
    """Plot four numbers by the date of the run: revenue or orders, active customers, customers, stability.

    `history`: as `segkit.refresh.trend.run_history` returns it, at least two rows.
    """
    has_money = history["revenue"].notna().any()
    panels: list[tuple[str, str, Callable[[Any], str]]] = [
        ("revenue", "Revenue of the last period", partial(money, currency=currency))
        if has_money
        else ("orders_each", "Orders per active customer", number),
        ("active_share", "Active customers", percent),
        ("customers", "Customers with a segment", count),
        ("stability", "Stability of the segments (0-1)", score),
    ]
    with style():
        figure, grid = many_panels(rows=2, columns=2, height=4.4)
        for axes, (name, title, form) in zip(grid.flat, panels, strict=True):
            _trend(axes, history, of=name, form=form)
            axes.set_title(title)
    return figure


def _trend(axes: Axes, history: pd.DataFrame, *, of: str, form: Callable[[Any], str]) -> None:
    place, values = np.arange(len(history)), history[of].astype(float)
    axes.plot(place, values, color=ACCENT, linewidth=1.4, marker="o", markersize=4)
    if f"{of}_low" in history:
        ends = history[[f"{of}_low", f"{of}_high"]].astype(float)
        axes.vlines(place, ends.iloc[:, 0], ends.iloc[:, 1], color=QUIET, linewidth=1.1)
    top = float(np.nanmax(history[[c for c in (of, f"{of}_high") if c in history]].astype(float).to_numpy(), initial=0))
    axes.set(xlim=(-0.4, len(history) - 0.6), ylim=(0, (top or 1) * 1.15))
    step = max(1, -(-len(history) // 4))
    axes.set_xticks(place[::-step], [_short(day) for day in history["as_of"].iloc[::-step]])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def _headline(history: pd.DataFrame, due: pd.DataFrame, *, currency: str) -> str:
    ends = {"first": day_text(history["as_of"].iloc[0]), "last": day_text(history["as_of"].iloc[-1])}
    words = text("runs", "answer", runs=len(history), due=len(due), held=int(due["held"].sum()), **ends)
    if due.empty:
        return words
    row = due.iloc[-1]
    form = _form_of(row["kpi"], currency=currency)
    amounts = {name: form(row[name]) for name in ("expected", "actual")}
    ends = {"low": form(row["expected_low"]), "high": form(row["expected_high"])}
    change = row["actual"] / row["expected"] - 1 if row["expected"] else 0.0
    return f"{words} {text('runs', 'latest', kpi=row['kpi'], dates=row['dates'], change=change, **amounts, **ends)}"


def _runs_table(history: pd.DataFrame, *, currency: str) -> pd.DataFrame:
    """Write the numbers of each run as text, the latest first; columns of which nothing is known are left out."""
    form = {kpi: _form_of(kpi, currency=currency) for kpi in ("spend", "orders")}
    rows = []
    for row in history.iloc[::-1].to_dict("records"):
        shown, is_known = form.get(row["kpi"], number), not is_missing(row["expected"])
        rows.append(
            {
                "As of": templates.html("runs", "link", folder=f"./{quote(row['folder'])}", day=day_text(row["as_of"])),
                "Customers with a segment": count(row["customers"]),
                "Revenue of the last period": money(row["revenue"], currency=currency),
                "Active customers": percent(row["active_share"]),
                "Segments": count(row["segments"]),
                "Groups or cuts?": VERDICTS.get(row["verdict"], MISSING),
                "Forecast": shown(row["expected"]),
                "Range": between(row["expected_low"], row["expected_high"], form=shown) if is_known else MISSING,
                "Actual": "open" if is_known and is_missing(row["actual"]) else shown(row["actual"]),
            }
        )
    table = pd.DataFrame(rows)
    if history["expected"].isna().all():
        table = table.drop(columns=["Forecast", "Range", "Actual"])
    return table.loc[:, [column for column in table if not (table[column] == MISSING).all()]]


def _segments_table(segments: pd.DataFrame, *, columns: list[str]) -> dict[str, Any]:
    """Write the share of customers of each segment in each run, under its latest name."""
    names = segments.drop_duplicates("segment", keep="last").set_index("segment")["name"]
    cells = segments.pivot_table(index="segment", columns="as_of", values="customer_share", aggfunc="first")
    there = segments.pivot_table(index="segment", columns="as_of", values="customers", aggfunc="first")
    order = sorted(names.index[names.index.isin(there.index)], key=lambda segment: (len(segment), segment))
    table = pd.DataFrame({"segment": [f"{segment} {names[segment]}" for segment in order]})
    for day in columns:
        table[day] = [_cell(cells, there, segment=segment, day=day) for segment in order]
    table = table[(table[columns] != MISSING).any(axis=1)]
    return table_facts(table, columns={"segment": "Segment", **{day: day_text(day) for day in columns}})


def _cell(cells: pd.DataFrame, there: pd.DataFrame, *, segment: str, day: str) -> str:
    if is_missing(there.loc[segment].get(day)):
        return MISSING
    value = cells.loc[segment].get(day) if segment in cells.index else None
    return "few" if is_missing(value) else share(value)


def _form_of(kpi: str, *, currency: str) -> Callable[[Any], str]:
    return partial(money, currency=currency) if kpi == "spend" else count


def _dates(as_of: str, horizon_days: int) -> str:
    start = date.fromisoformat(as_of)
    return dates_text(start, start + timedelta(days=horizon_days))


def _short(day: str) -> str:
    return f"{date.fromisoformat(day).day} {date.fromisoformat(day):%b %Y}"
