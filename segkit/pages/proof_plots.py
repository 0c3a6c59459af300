"""Figures of the proof: what each kind of data adds, the rivals, the cuts to choose from, and how firm segments are."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segkit.numbers import count
from segkit.pages.look import ACCENT, FAINT, INK, QUIET, SOFT, look, many_panels, one_panel, style, words_left
from segkit.pages.maps import place_labels
from segkit.segments.structure import REPRODUCIBLE_FROM, UNSTABLE_BELOW

MEASURES = {"spend": "Next spend foreseen (R²)", "mix": "Next mix foreseen (R²)", "active": "Active next foreseen (R²)"}
UPWARDS = {"mix": "Next mix explained (adjusted R²)", "active": "Who is active next, explained (adjusted R²)"}


def blocks(table: pd.DataFrame, *, measures: tuple[str, ...] = ("spend", "mix")) -> Figure:
    """What each kind of data says alone (dark) and adds to all the others (pale), with 95 % intervals; the one that
    says most alone of the first measure comes first, below all of them together.

    Takes  blocks: block, label, measure, customers, alone_r2, alone_low, alone_high, adds, adds_low, adds_high

    Parameters
    ----------
    measures : a panel each, of spend, mix and active; those not in the table are left out
    """
    shown = [measure for measure in measures if (table["measure"] == measure).any()]
    first = table[table["measure"].isin(shown)].drop_duplicates("block")
    first = first.assign(part=first["block"] != "all")
    ordered = first.sort_values(["part", "alone_r2", "block"], ascending=[True, False, True])
    place = np.arange(len(ordered))[::-1]
    with style():
        height = 0.9 + 0.42 * len(ordered)
        figure, panels = many_panels(rows=1, columns=max(len(shown), 1), height=height, sharey=True)
        words_left(panels[0, 0], place=place, words=_with_judged(ordered))
        for axes, measure in zip(panels[0], shown, strict=False):
            rows = table[table["measure"] == measure].set_index("block").reindex(ordered["block"])
            _ranged_bars(axes, rows, place=place + 0.19, of=("alone_r2", "alone_low", "alone_high"), dark=True)
            _ranged_bars(axes, rows, place=place - 0.19, of=("adds", "adds_low", "adds_high"), dark=False)
            axes.axvline(0, color=QUIET, linewidth=0.8)
            axes.set_title(MEASURES[measure])
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
        panels[0, -1].legend(loc="lower right", fontsize=8)
    return figure


def frontier(table: pd.DataFrame) -> Figure:
    """What more or fewer segments would bring: spend, mix and stability against their number, the chosen cut marked.

    Takes  segments, spend_r2, mix_r2, stability, chosen
    """
    columns = {"spend_r2": "Spend explained (R²)", "mix_r2": "Mix explained (R²)", "stability": "Stability (ARI, 0-1)"}
    shown = {name: title for name, title in columns.items() if table[name].notna().any()}
    with style():
        figure, panels = many_panels(rows=1, columns=max(len(shown), 1), height=2.7)
        chosen = table["chosen"].to_numpy(dtype=bool)
        families = table["family"] if "family" in table else pd.Series("", index=table.index)
        markers = dict(zip(sorted(families.unique()), "os^", strict=False))
        for axes, (name, title) in zip(panels[0], shown.items(), strict=False):
            for family, marker in markers.items():
                rows = table[(families == family) & ~chosen]
                axes.scatter(rows["segments"], rows[name], s=22, color=SOFT, marker=marker, linewidths=0, label=family)
            axes.scatter(table["segments"][chosen], table[name][chosen], s=64, color=ACCENT, zorder=3)
            for x, y in zip(table["segments"][chosen], table[name][chosen], strict=True):
                axes.annotate("chosen", (x, y), (0, 8), textcoords="offset points", ha="center", fontsize=8)
            axes.set_title(title)
            axes.set_xlabel("Segments")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.margins(x=0.08, y=0.25)
    return figure


def rivals(baselines: pd.DataFrame, *, ours: str = "segkit") -> Figure:
    """Each segmentation as a point: spend explained to the right, mix explained upwards, with 95 % intervals. Where no
    mix is known, who is active at all is drawn upwards instead.

    Takes  rivals: baseline, label, spend_r2, spend_low, spend_high, and the same of mix and active

    Parameters
    ----------
    ours : the rival that is this run's segments; drawn in the accent
    """
    up = "mix" if baselines["mix_r2"].notna().any() else "active"
    scored = baselines[baselines["spend_r2"].notna() & baselines[f"{up}_r2"].notna()]
    with style():
        figure, axes = one_panel(height=4.4)
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
        axes.set_xlabel("Next spend explained (adjusted R²)")
        axes.set_ylabel(UPWARDS[up])
        axes.margins(0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        texts = place_labels(
            axes, anchors=list(zip(scored["spend_r2"], scored[f"{up}_r2"], strict=True)), labels=list(scored["label"])
        )
        for text, rival in zip(texts, scored["baseline"], strict=True):
            text.set(color=ACCENT if rival == ours else INK, fontweight="bold" if rival == ours else "regular")
    return figure


def stability(segments: pd.DataFrame) -> Figure:
    """How surely each segment comes back when everything is refitted: a dot with its interval, the verdict beside it.

    Takes  segments: segment, name, stability, stability_low, stability_high (Jaccard, 0-1), verdict
    """
    ordered = segments.sort_values(["stability", "segment"], ascending=[False, True])
    with style():
        figure, axes = one_panel(height=0.8 + 0.3 * len(ordered))
        place = np.arange(len(ordered))[::-1]
        for limit in (UNSTABLE_BELOW, REPRODUCIBLE_FROM):
            axes.axvline(limit, color=FAINT, linewidth=1, zorder=0)
        axes.hlines(place, ordered["stability_low"], ordered["stability_high"], color=QUIET, linewidth=1.2)
        for y, row in zip(place, ordered.to_dict("records"), strict=True):
            colour, marker = look(row["segment"])
            axes.scatter([row["stability"]], [y], s=46, color=colour, marker=marker, zorder=3)
            axes.annotate(row["verdict"], (1.02, y), va="center", fontsize=8, color=QUIET, annotation_clip=False)
        axes.set_xlim(0, 1)
        axes.set_xlabel("Overlap with its best match after refitting on four fifths of customers (Jaccard, 0-1)")
        words_left(axes, place=place, words=ordered["name"])
    return figure


def _with_judged(ordered: pd.DataFrame) -> pd.Series:
    """The labels; where a block is not known of all customers, with the number it was judged on."""
    partly = ordered["customers"] < ordered["customers"].max()
    judged = ordered["label"] + " (of " + ordered["customers"].map(count) + ")"
    return ordered["label"].where(~partly, judged)


def _ranged_bars(axes: Axes, rows: pd.DataFrame, *, place: np.ndarray, of: tuple[str, str, str], dark: bool) -> None:
    """Bars from zero with the interval of each as a line; a score that is not there has none."""
    at, low, high = (rows[name].to_numpy(dtype=float) for name in of)
    label = "alone" if dark else "added to all the others"
    axes.barh(place, np.nan_to_num(at), height=0.36, color=ACCENT if dark else SOFT, label=label)
    axes.hlines(place, low, high, color=INK, linewidth=0.9)
