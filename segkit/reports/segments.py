"""Plots and text of the segments chapter."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.format import (
    MISSING,
    count,
    hidden_segments,
    interval,
    joined,
    masked_counts,
    number,
    score,
    share,
    small_score,
    spread,
)
from segkit.reports.map import place_labels
from segkit.reports.theme import (
    ACCENT,
    FAINT,
    INK,
    QUIET,
    SOFT,
    label_left,
    many_panels,
    one_panel,
    segment_styles,
    style,
)
from segkit.reports.wording import ranged
from segkit.segments.moves import moves_by_cause
from segkit.segments.scoring import MEASURES
from segkit.segments.validation import MIN_REPRODUCIBLE_JACCARD, MIN_STABLE_JACCARD
from segkit.tables import titles
from segkit.templates import text
from segkit.texts import phrase
from segkit.vocabulary import BLOCKS, describe

MEASURE_TITLES = {
    "spend": "Later spend predicted (R²)",
    "mix": "What is bought later (R²)",
    "active": "Who comes back (R²)",
}
MEASURE_WORDS = {"spend": "spend", "need": "needs", "mix": "mix", "active": "coming back"}
VERTICAL_TITLES = {
    "need": "What customers come for, explained (adjusted R²)",
    "active": "Who comes back, explained (adjusted R²)",
}
MOST_DIFFERENCES = 10  # features of a segment that are drawn
CAUSES = {
    "stayed": "stayed where they were",
    "customer": "moved: they changed",
    "definition": "moved: the definition changed",
    "both": "moved: both changed",
    "joined": "not in the last run",
    "left": "no longer active",
}


def plot_blocks(table: pd.DataFrame, *, measures: tuple[str, ...] = ("spend", "mix")) -> Figure:
    """Plot what each kind of data predicts alone (dark) and adds to all the others (pale), with 95 % intervals.

    The kind that predicts most alone comes first, below all of them together.

    Parameters
    ----------
    table
        Rows of ``blocks``: block, label, measure, customers, and alone_r2 and adds with their intervals.
    measures
        One panel each, of spend, mix and active; missing ones are left out.
    """
    shown = [measure for measure in measures if (table["measure"] == measure).any()]
    first = table[table["measure"].isin(shown)].drop_duplicates("block")
    first = first.assign(part=first["block"] != "all")
    ordered = first.sort_values(["part", "alone_r2", "block"], ascending=[True, False, True])
    place = np.arange(len(ordered))[::-1]
    with style():
        height = 0.9 + 0.42 * len(ordered)
        figure, panels = many_panels(rows=1, columns=max(len(shown), 1), height=height, sharey=True)
        label_left(panels[0, 0], place=place, words=_block_labels(ordered))
        for axes, measure in zip(panels[0], shown, strict=False):
            rows = table[table["measure"] == measure].set_index("block").reindex(ordered["block"])
            _draw_intervals(axes, rows, place=place + 0.19, of=("alone_r2", "alone_low", "alone_high"), dark=True)
            _draw_intervals(axes, rows, place=place - 0.19, of=("adds", "adds_low", "adds_high"), dark=False)
            axes.axvline(0, color=QUIET, linewidth=0.8)
            axes.set_title(MEASURE_TITLES[measure])
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
        panels[0, -1].legend(loc="lower right", fontsize=8)
    return figure


def plot_frontier(table: pd.DataFrame) -> Figure:
    """Plot spend, need and stability against the number of segments, the chosen one marked.

    `table`: family, segments, spend_r2, need_r2, stability, chosen.
    """
    columns = {
        "spend_r2": "Spend explained (R²)",
        "need_r2": "Need explained (R²)",
        "stability": "Stability (ARI, 0-1)",
    }
    shown = {name: title for name, title in columns.items() if table[name].notna().any()}
    with style():
        figure, panels = many_panels(rows=1, columns=max(len(shown), 1), height=2.9)
        chosen = table["chosen"].to_numpy(dtype=bool)
        markers = dict(zip(sorted(table["family"].unique()), "os^vD", strict=False))
        for axes, (name, title) in zip(panels[0], shown.items(), strict=False):
            for family, marker in markers.items():
                rows = table[table["family"] == family].sort_values("segments")
                line = {"color": SOFT, "marker": marker, "markersize": 4, "linewidth": 0.8}
                axes.plot(rows["segments"], rows[name], label=family, **line)
            axes.scatter(table["segments"][chosen], table[name][chosen], s=64, color=ACCENT, zorder=3)
            for x, y in zip(table["segments"][chosen], table[name][chosen], strict=True):
                axes.annotate("chosen", (x, y), (0, 8), textcoords="offset points", ha="center", fontsize=8)
            axes.set_title(title)
            axes.set_xlabel("Segments")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.08, y=0.25)
        lines, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=len(names), fontsize=7)
    return figure


def plot_baselines(baselines: pd.DataFrame, *, ours: str = "segkit") -> Figure:
    """Plot each segmentation as a point: spend explained to the right, need explained upwards, with 95 % intervals.

    Where no need is known, activity is drawn upwards instead.

    Parameters
    ----------
    baselines
        baseline, label, spend_r2, spend_low, spend_high, and the same of need and active.
    ours
        The row that is this run's segmentation; drawn in the accent.
    """
    up = "need" if baselines["need_r2"].notna().any() else "active"
    scored = baselines[baselines["spend_r2"].notna() & baselines[f"{up}_r2"].notna()]
    with style():
        figure, axes = one_panel(height=5.6)
        for row in scored.to_dict("records"):
            own = row["baseline"] == ours
            colour = ACCENT if own else QUIET
            x, y = row["spend_r2"], row[f"{up}_r2"]
            axes.plot(
                [row["spend_low"], row["spend_high"]], [y, y], color=colour, linewidth=1.2, alpha=1 if own else 0.45
            )
            axes.plot(
                [x, x], [row[f"{up}_low"], row[f"{up}_high"]], color=colour, linewidth=1.2, alpha=1 if own else 0.45
            )
            axes.scatter([x], [y], s=80 if own else 34, color=colour, zorder=3)
        axes.set_xlabel("Later spend explained (adjusted R²)")
        axes.set_ylabel(VERTICAL_TITLES[up])
        axes.margins(x=0.2, y=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        texts = place_labels(
            axes,
            anchors=list(zip(scored["spend_r2"], scored[f"{up}_r2"], strict=True)),
            labels=list(scored["label"]),
            size=7.5,
            diagonal=True,
        )
        for text, name in zip(texts, scored["baseline"], strict=True):
            text.set(color=ACCENT if name == ours else INK, fontweight="bold" if name == ours else "regular")
    return figure


def plot_stability(segments: pd.DataFrame) -> Figure:
    """Plot how much of each segment reappears in refits: a dot with its interval, the verdict next to it.

    `segments`: segment, name, stability, stability_low, stability_high (Jaccard, 0-1), verdict.
    """
    ordered = segments.sort_values(["stability", "segment"], ascending=[False, True])
    with style():
        figure, axes = one_panel(height=0.8 + 0.3 * len(ordered))
        place = np.arange(len(ordered))[::-1]
        for limit in (MIN_STABLE_JACCARD, MIN_REPRODUCIBLE_JACCARD):
            axes.axvline(limit, color=FAINT, linewidth=1, zorder=0)
        axes.hlines(place, ordered["stability_low"], ordered["stability_high"], color=QUIET, linewidth=1.2)
        styles = segment_styles(segments)
        for y, row in zip(place, ordered.to_dict("records"), strict=True):
            colour, marker = styles[row["segment"]]
            axes.scatter([row["stability"]], [y], s=46, color=colour, marker=marker, zorder=3)
            axes.annotate(row["verdict"], (1.02, y), va="center", fontsize=8, color=QUIET, annotation_clip=False)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.set_xlabel("Overlap with its best match when repeated on four fifths of customers")
        label_left(axes, place=place, words=ordered["name"])
    return figure


def _block_labels(ordered: pd.DataFrame) -> pd.Series:
    """Label the kinds of data; where one is not known of all customers, with the number it was scored on."""
    partly = ordered["customers"] < ordered["customers"].max()
    scored_on = ordered["label"] + " (of " + ordered["customers"].map(count) + ")"
    return ordered["label"].where(~partly, scored_on)


def _draw_intervals(axes: Axes, rows: pd.DataFrame, *, place: np.ndarray, of: tuple[str, str, str], dark: bool) -> None:
    """Draw bars from zero with intervals as lines; a missing score has none."""
    at, low, high = (rows[name].to_numpy(dtype=float) for name in of)
    label = "alone" if dark else "added to all the others"
    axes.barh(place, np.nan_to_num(at), height=0.36, color=ACCENT if dark else SOFT, label=label)
    axes.hlines(place, low, high, color=INK, linewidth=0.9)


def plot_segment_shares(segments: pd.DataFrame) -> Figure:
    """Plot share of revenue against share of customers for each segment, the largest revenue first.

    `segments`: segment, name, customer_share, revenue_share.
    """
    shown = segments[~segments["segment"].isin(hidden_segments(segments))] if "customers" in segments else segments
    ordered = shown.sort_values(["revenue_share", "segment"], ascending=[False, True])
    with style():
        figure, axes = one_panel(height=0.8 + 0.34 * len(ordered))
        place = np.arange(len(ordered))
        shares = ordered.melt("name", ["revenue_share", "customer_share"], var_name="of", value_name="share")
        colours = {"revenue_share": ACCENT, "customer_share": SOFT}
        seaborn.barplot(
            shares, y="name", x="share", hue="of", palette=colours, errorbar=None, width=0.66, saturation=1, ax=axes
        )
        for y, value in zip(place, ordered["revenue_share"], strict=True):
            axes.annotate(
                share(value),
                (value if pd.notna(value) else 0, y - 0.17),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        seaborn.move_legend(
            axes, "lower right", title=None, labels=["share of revenue", "share of customers"], fontsize=8
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        axes.set_xlim(0)
        axes.margins(x=0.1)
        axes.set(xlabel="", ylabel="")
        label_left(axes, place=place, words=ordered["name"])
        axes.set_ylim(len(ordered) - 0.5, -0.5)
    return figure


def format_traits(
    traits: pd.DataFrame, segments: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Format what sets segments apart, habits left out, each figure in its unit; attributes by their labels."""
    rows = traits.merge(segments[["segment", "name"]], on="segment")
    own = {key.replace(" = ", ": "): words for key, words in (labels or {}).items()}
    forms = [_unit_format(unit) for unit in rows["unit"]]
    return rows.assign(
        kind=rows["block"].map(BLOCKS).map(phrase),
        words=[own.get(words, words) for words in rows["words"]],
        value=[form(value) for form, value in zip(forms, rows["value"], strict=True)],
        others=[form(value) for form, value in zip(forms, rows["others"], strict=True)],
        effect=[interval(r.effect, r.effect_low, r.effect_high) for r in rows.itertuples()],
    )


def compare_needs_and_demographics(summary: Mapping[str, Any]) -> list[str]:
    """Describe whether needs or demographics predict more, for each measure, with the lead and its interval."""
    sentences = []
    for measure, of in (("spend", "how much is spent"), ("mix", "what is bought")):
        name = f"blocks.needs_or_demographics.{measure}"
        known = summary.get(f"{name}_lead") is not None
        sentences.append(
            text(
                "segments",
                "needs_or_demographics",
                of=of,
                verdict=summary[name] if known else "",
                lead=format_metric(summary, f"{name}_lead") if known else "",
                reason=summary.get(f"{name}.reason") or summary.get("blocks.reason"),
            )
        )
    return sentences


def format_ledger(ledger: pd.DataFrame, segments: pd.DataFrame, *, as_of: str) -> pd.DataFrame:
    """Format the ledger's rows of one run, with segment names."""
    rows = ledger[ledger["as_of"] == as_of].sort_values("segment", ignore_index=True)
    rows = rows.assign(
        name=rows["segment"].map(segments.set_index("segment")["name"]).fillna(""),
        overlap=rows["overlap"].map(score),
        customers_after=masked_counts(rows["customers_after"].fillna(0)),
    )
    headings = titles("ledger")
    return rows[list(headings)].rename(columns=headings)


def format_moves(moves: pd.DataFrame) -> pd.DataFrame:
    """Format how many customers stayed, moved because they changed, or because the definition did."""
    table = moves_by_cause(moves).rename_axis("cause").reset_index()
    parts = (table["customers"] / max(len(moves), 1)).map(share)
    table = table.assign(share=parts.mask(table["hidden"], MISSING), customers=table["shown"])
    table = table[["cause", "customers", "share"]]
    table["cause"] = table["cause"].map(CAUSES)
    return table.rename(columns=str.capitalize)


def describe_kept_segments(moves: pd.DataFrame, *, found: str) -> list[str]:
    """Describe segments that were kept, one sentence each."""
    both = moves[~moves["cause"].isin(("joined", "left"))]
    stayed = (both["cause"] == "stayed").mean() if len(both) else None
    return [
        text("segments", "kept", found=found),
        text("segments", "stayed", customers=len(both), part=stayed),
    ]


def format_baselines(baselines: pd.DataFrame) -> pd.DataFrame:
    """Format the baselines, each score with its interval."""
    shown = {
        m: [
            ranged(v, low, high, form=small_score if m in ("need", "mix") else score)
            for v, low, high in zip(baselines[f"{m}_r2"], baselines[f"{m}_low"], baselines[f"{m}_high"], strict=True)
        ]
        for m in MEASURES
    }
    return baselines.assign(**shown, verdict=[_joined_verdicts(row) for row in baselines.to_dict("records")])


def _joined_verdicts(row: Mapping[str, Any]) -> str:
    """Join the verdicts of a row that are the same: "ahead on spend and need; level on active"."""
    of: dict[str, list[str]] = {}
    for measure in MEASURES if " on " in row["verdict"] else ():  # else it is a word on all
        if isinstance(row[f"{measure}_verdict"], str) and row[f"{measure}_verdict"]:
            of.setdefault(row[f"{measure}_verdict"], []).append(MEASURE_WORDS[measure])
    return "; ".join(f"{verdict} on {joined(words)}" for verdict, words in of.items()) or row["verdict"]


def format_metric(summary: Mapping[str, Any], name: str, *, form: Callable[[float], str] = score) -> str:
    """Format a headline number with its interval."""
    return spread(summary[name], summary.get(f"{name}.low"), summary.get(f"{name}.high"), form=form)


def _unit_format(unit: str) -> Any:
    return {"share": share, "customers": count, "rows": count}.get(unit, number)


def plot_feature(values: pd.Series, segment: pd.Series, *, label: str, segments: pd.DataFrame) -> Figure:
    """Draw how a feature is spread in each segment: the middle half as a bar, the median as a mark.

    Parameters
    ----------
    segment
        Of the same customers, in any order.
    label
        What the feature is, with its unit.
    segments
        The table ``segments``: those to show, in their order from the top.
    """
    names, styles = dict(zip(segments["segment"], segments["name"], strict=True)), segment_styles(segments)
    spread = values.groupby(segment.reindex(values.index)).quantile([0.25, 0.5, 0.75]).unstack().reindex(list(names))
    with style():
        figure, axes = one_panel(height=0.8 + 0.3 * len(spread))
        place = np.arange(len(spread))[::-1]
        for y, (own, row) in zip(place, spread.iterrows(), strict=True):
            colour, marker = styles[str(own)]
            axes.plot([row[0.25], row[0.75]], [y, y], color=SOFT, linewidth=6, solid_capstyle="butt")
            axes.scatter([row[0.5]], [y], s=46, color=colour, marker=marker, zorder=3)
        axes.axvline(values.median(), color=FAINT, linewidth=1, zorder=0)
        axes.set_xlabel(f"{label}: median and middle half of each segment; line: median of all customers")
        label_left(axes, place=place, words=pd.Series([f"{name} ({own})" for own, name in names.items()]))
    return figure


def plot_differences(signals: pd.DataFrame) -> Figure:
    """Draw what sets one segment apart most: each difference from other customers with its 95 % interval.

    `signals`: feature, effect, effect_low, effect_high, in standard deviations.
    """
    size = signals["effect"].abs().sort_values(ascending=False, kind="stable").dropna().head(MOST_DIFFERENCES)
    chosen = signals.loc[size.index]
    with style():
        figure, axes = one_panel(height=0.8 + 0.3 * len(chosen))
        place = np.arange(len(chosen))[::-1]
        axes.hlines(place, chosen["effect_low"], chosen["effect_high"], color=SOFT, linewidth=6)
        axes.scatter(chosen["effect"], place, s=46, color=ACCENT, zorder=3)
        axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
        axes.set_xlabel("Less than other customers (left) or more (right), in standard deviations; bar: 95 % interval")
        label_left(axes, place=place, words=chosen["feature"].map(lambda name: describe(name).label))
    return figure
