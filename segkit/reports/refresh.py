"""Plots and text of the refresh chapter."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from segkit.format import (
    FLOOR,
    MISSING,
    about_count,
    capitalized,
    count,
    is_few,
    is_missing,
    masked_count,
    masked_counts,
    percent,
    percentage_points,
    round_count,
)
from segkit.refresh.decisions import FELL_SHORT, REACHABLE
from segkit.refresh.monitor import Standing
from segkit.reports.experiments import signed
from segkit.reports.theme import (
    ACCENT,
    FAINT,
    INK,
    QUIET,
    SOFT,
    WARN,
    label_left,
    one_panel,
    shorten,
    style,
)
from segkit.reports.wording import Wording, day_text, points, ranged, segment_name
from segkit.segments.moves import customers_of_both, moves_by_cause
from segkit.templates import text
from segkit.vocabulary import EVERYONE

FLOW_STAGES = ("before", "standing", "after")
GONE = "–"  # not in that run
COLUMN_WIDTH = 0.03  # width of a column of segments; the stages are one apart
COLUMN_GAP = 0.012  # between segments, of the height
CURVE_STEPS = np.linspace(0, 1, 40)
CURVE_SHAPE = CURVE_STEPS**2 * (3 - 2 * CURVE_STEPS)  # a smooth step
MAX_FEATURES = 12
FIRST_RUN = (
    "This is the first run of this source, so there is nothing to compare it with. The next run will show what changed."
)
DECISION_TEXT = ("keep", "refit", "look")  # of a run
KPI_WORDS = {"spend": "Spend", "orders": "Orders", "active": "Active customers"}
BECAME = {"same": "Continues", "born": "New", "died": "Gone", "merged": "Merged", "split": "Split off"}
Styles = Mapping[str, tuple[str, str]]  # segment -> colour and marker
MEASURE_TITLES = {"above": "above", "short": "below", "as expected": "as expected"}


def plot_flow(
    moves: pd.DataFrame, *, names: Mapping[str, str], styles: Styles, dates: tuple[str, str], refitted: bool
) -> Figure:
    """Plot streams of customers from the segments of the last run to today's.

    Customers who changed move to the middle column; from there a new definition moves others to the right.

    Parameters
    ----------
    moves
        before, standing, after (missing: not in that run), customers.
    styles
        Segment -> colour and marker, those that no longer exist too.
    dates
        Of the last run and of this one.
    refitted
        Whether there is a new definition; without one the picture ends in the middle.
    """
    stages = FLOW_STAGES if refitted else FLOW_STAGES[:2]
    table, names = moves.assign(**{stage: moves[stage].fillna(GONE) for stage in FLOW_STAGES}), _distinct(names)
    everyone = sorted({s for stage in stages for s in table[stage]} - {GONE}) + [GONE]
    places = [
        _segment_positions(table.groupby(stage)["customers"].sum().reindex(everyone, fill_value=0)) for stage in stages
    ]
    with style():
        figure, axes = one_panel(height=1.2 + 0.36 * len(everyone))
        for position in range(len(stages) - 1):
            ends = slice(position, position + 2)
            _streams(axes, table, stages[ends], places[ends], x=position, styles=styles)
        for position, place in enumerate(places):
            _draw_column(axes, place, x=position, names=names, styles=styles, last=position == len(places) - 1)
        heads = [dates[0], f"{dates[1]}: same definition", "New definition"]
        for position in range(len(stages)):
            align, at = ("center", position) if position == 1 and refitted else ("left", position - COLUMN_WIDTH)
            axes.text(at, 1.03, heads[position], ha=align, va="bottom", fontsize=9, color=QUIET)
        axes.set(xlim=(-0.42, len(stages) - 1 + 0.62), ylim=(-0.01, 1.08))
        axes.axis("off")
    return figure


def plot_drift(table: pd.DataFrame) -> Figure:
    """Plot the features that drifted most: size as a bar, chance as a mark.

    `table`: rows of ``drift``; those of features are drawn: words, size, chance, verdict.
    """
    rows = table[table["what"] == "feature"].head(MAX_FEATURES)
    place = np.arange(len(rows))[::-1]
    colours = rows["verdict"].map({"large": WARN, "moderate": ACCENT, "small": SOFT}).fillna(FAINT)
    with style():
        figure, axes = one_panel(height=1.2 + 0.32 * max(len(rows), 1))
        axes.barh(place, rows["size"], height=0.56, color=colours)
        axes.plot(rows["chance"], place, "|", color=INK, markersize=13, markeredgewidth=1.6, label="usual by chance")
        for at, words in ((0.1, "moderate"), (0.25, "large")):
            axes.axvline(at, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(words, (at, 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                          fontsize=8, color=QUIET)  # fmt: skip
        label_left(axes, place=place, words=rows["words"].map(capitalized))
        axes.set_xlim(0, max(0.3, float(rows["size"].max() if len(rows) else 0)) * 1.05)
        axes.set_xlabel("Size of the change (population stability index; 0 is none)")
        axes.legend(loc="lower right", fontsize=8)
    return figure


def plot_shares(table: pd.DataFrame, *, names: Mapping[str, str], styles: Styles) -> Figure:
    """Plot the change of each segment's share with its interval, over the band that chance gives.

    `table`: rows of ``drift``; those of shares are drawn: item, difference with _low and _high, chance, beyond.
    """
    rows = table[table["what"] == "share"].sort_values("item", ignore_index=True)
    place = np.arange(len(rows))[::-1]
    with style():
        figure, axes = one_panel(height=1.2 + 0.34 * max(len(rows), 1))
        axes.barh(place, 2 * rows["chance"], left=-rows["chance"], height=0.72, color=FAINT, label="usual by chance")
        axes.axvline(0, color=QUIET, linewidth=0.9)
        for y, row in zip(place, rows.to_dict("records"), strict=True):
            line = INK if row["beyond"] else QUIET
            axes.plot([row["difference_low"], row["difference_high"]], [y, y], color=line, linewidth=2)
            colour, marker = styles[row["item"]]
            axes.scatter([row["difference"]], [y], s=44, color=colour, marker=marker, zorder=3)
        label_left(axes, place=place, words=rows["item"].map(_distinct(names)).fillna(rows["item"]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: points(value)))
        axes.set_xlabel("Change of the share of all customers, in percentage points, with its 95% interval")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    return figure


def _segment_positions(sizes: pd.Series) -> dict[str, tuple[float, float]]:
    """Compute top and height of each segment in a column of height one."""
    there = sizes[sizes > 0]
    scale = (1 - COLUMN_GAP * max(len(there) - 1, 0)) / max(there.sum(), 1)
    tops, found = 1.0, {}
    for segment, size in there.items():
        found[str(segment)] = (tops, size * scale)
        tops -= size * scale + COLUMN_GAP
    return found


def _streams(
    axes: Axes, table: pd.DataFrame, stages: tuple[str, ...], places: list[dict], *, x: float, styles: Styles
) -> None:
    """Draw a band for each pair of segments: pale where customers stay, coloured where they move."""
    pairs = table.groupby(list(stages))["customers"].sum()
    left, right = ({s: top for s, (top, _) in place.items()} for place in places)
    scales = [
        _scale(place, table.groupby(stage)["customers"].sum()) for place, stage in zip(places, stages, strict=True)
    ]
    for (source, into), size in pairs.items():
        heights = size * scales[0], size * scales[1]
        upper = left[source] + (right[into] - left[source]) * CURVE_SHAPE
        lower = upper - heights[0] + (heights[0] - heights[1]) * CURVE_SHAPE
        left[source], right[into] = left[source] - heights[0], right[into] - heights[1]
        if is_few(size):
            continue  # a stream of a few customers would tell of persons; its place stays empty
        moved = source != into
        colour = FAINT if not moved or GONE in (source, into) else styles[source][0]
        across = x + COLUMN_WIDTH + CURVE_STEPS * (1 - 2 * COLUMN_WIDTH)
        axes.fill_between(across, lower, upper, color=colour, alpha=0.55 if moved else 0.5,
                          linewidth=0, zorder=2 if moved else 1)  # fmt: skip


def _scale(place: dict[str, tuple[float, float]], sizes: pd.Series) -> float:
    return sum(height for _, height in place.values()) / max(float(sizes.sum()), 1.0)


def _draw_column(
    axes: Axes,
    place: dict[str, tuple[float, float]],
    *,
    x: float,
    names: Mapping[str, str],
    styles: Styles,
    last: bool,
) -> None:
    for segment, (top, height) in place.items():
        colour = FAINT if segment == GONE else styles[segment][0]
        axes.add_patch(
            Rectangle((x - COLUMN_WIDTH, top - height), 2 * COLUMN_WIDTH, height, color=colour, linewidth=0, zorder=3)
        )
        middle = top - height / 2
        if last:
            words = "no longer active" if segment == GONE else shorten(names.get(segment, segment), most=34)
            axes.text(x + COLUMN_WIDTH + 0.02, middle, words, ha="left", va="center", fontsize=8, color=INK)
        elif x == 0:
            words = "new" if segment == GONE else shorten(names.get(segment, segment), most=28)
            axes.text(x - COLUMN_WIDTH - 0.02, middle, words, ha="right", va="center", fontsize=8, color=INK)


def refresh_headline(found: Standing, moves: pd.DataFrame, drift: pd.DataFrame) -> str:
    """Summarise the decision and what moved in a sentence."""
    stayed, _ = share_stayed(moves)
    far = int(((drift["what"] == "feature") & (drift["verdict"] == "large")).sum())
    features = int((drift["what"] == "feature").sum())
    return text(
        "refresh",
        "headline",
        decision=found.decision,
        reason=_failed_tests(found),
        since=day_text(found.since),
        stayed=stayed,
        customers=customers_of_both(moves),
        far=far,
        features=features,
    )


def _failed_tests(found: Standing) -> str:
    """Return the tests that failed, in words."""
    return " ".join(found.tests.loc[found.tests["decision"] != "keep", "words"])


def describe_decisions(decisions: pd.DataFrame | None, *, as_of: str) -> list[str]:
    """Describe what the refresh decided about this run and its campaigns, one sentence each.

    `decisions`: the table ``decisions``, or None at a first run.
    """
    if decisions is None:
        return []
    rows = decisions[(decisions["as_of"] == as_of) & (decisions["scope"] != "segment")]
    named = {row["decision"]: [] for row in rows.to_dict("records")}
    for row in rows.to_dict("records"):
        named[row["decision"]].append(row["segment"])
    run = rows.loc[rows["scope"] == "run", "decision"]
    sentences = [text("refresh", "decided", decision=one) for one in run if one in DECISION_TEXT]
    others = {name: of for name, of in named.items() if name not in DECISION_TEXT}
    return sentences + [f"{name.capitalize()}: {', '.join(sorted(of))}." for name, of in sorted(others.items())]


def share_stayed(moves: pd.DataFrame) -> tuple[float, int]:
    """Compute the share of customers in both runs who keep their segment, and the number of those customers."""
    both = moves[~moves["cause"].isin(["joined", "left"])]
    return (float((both["before"] == both["standing"]).mean()) if len(both) else float("nan")), len(both)


def refresh_tiles(found: Standing, moves: pd.DataFrame, drift: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Collect the decision, customers who moved, drift beyond chance, and forecast accuracy."""
    both = moves[~moves["cause"].isin(["joined", "left"])]
    changed = int(both["cause"].isin(["customer", "both"]).sum())
    by_cause = moves_by_cause(moves)
    redefined, shown = int(by_cause["customers"]["definition"]), by_cause["shown"]
    features = drift[drift["what"] == "feature"]
    made = [
        ("Decision", found.decision.capitalize(), f"compared with {day_text(found.since)}"),
        (
            "Customers who moved",
            MISSING if is_few(changed) else percent(round_count(changed) / max(len(both), 1)),
            _about_customers(changed),
        ),
    ]
    if redefined and not by_cause["hidden"]["definition"]:
        part = percent(round_count(redefined) / max(len(both), 1))
        made.append(("Moved by definition", part, _about_customers(redefined)))
    made.append(("New / lost", f"{shown['joined']} / {shown['left']}", "customers in the segmentation"))
    beyond = int(features["beyond"].sum())
    made.append(("Habits that changed", f"{beyond} of {len(features)}", "more than chance; small changes are usual"))
    return made


def _about_customers(size: int) -> str:
    return f"about {about_count(size)} customers" if size >= FLOOR else f"{masked_count(size)} customers"


def list_next_steps(found: Standing, decisions: pd.DataFrame, *, names: Mapping[str, str], acted: str) -> list[str]:
    """List what to do, the most important first, one sentence each."""
    doing = acted if acted or found.decision == "keep" else None
    sentences = [text("refresh", "to_do", decision=found.decision, reason=_failed_tests(found), acted=doing)]
    campaigns = decisions[decisions["scope"] == "campaign"]
    order = {"start a pilot": 0, "stop": 1, "fell short": 2}
    for row in sorted(campaigns.to_dict("records"), key=lambda row: order.get(row["decision"], 3)):
        if row["measure"] == REACHABLE and not row["acted"]:  # the overview ranks what to test
            continue
        segment = _segment_label(row["segment"], names=names)
        sentences.append(text("refresh", "campaign", decision=row["decision"], segment=segment, reason=row["reason"]))
    if found.decision != "look" and not campaigns["decision"].eq(FELL_SHORT).any():
        sentences.append(text("refresh", "no_shortfall"))
    for decision in ("look", "refit"):
        rows = decisions[(decisions["scope"] == "segment") & (decisions["decision"] == decision)]
        if len(rows):
            called = [_segment_label(segment, names=names) for segment in rows["segment"]]
            sentences.append(text("refresh", "segments", decision=decision, segments=called))
    return sentences


def describe_moves(moves: pd.DataFrame, *, names: Mapping[str, str], most: int = 3) -> list[str]:
    """Describe the moves: how many for which reason, and the largest streams."""
    by_cause = moves_by_cause(moves).query("customers > 0 or hidden")
    sentences = [text("refresh", "causes", causes=list(zip(by_cause["shown"], by_cause.index, strict=True)))]
    moved = moves.dropna(subset=["before", "standing"])
    moved = moved[moved["before"] != moved["standing"]]
    shown_pairs = set()
    for (source, into), size in _largest(moved, "before", "standing", most=2 * most):
        if (into, source) in shown_pairs or len(shown_pairs) == most:
            continue
        shown_pairs.add((source, into))
        back = int(((moved["before"] == into) & (moved["standing"] == source)).sum())
        way = {"source": _segment_label(source, names=names), "into": _segment_label(into, names=names)}
        sentences.append(text("refresh", "changed", customers=size, back=back, **way))
    taken = moves.dropna(subset=["standing", "after"])
    taken = taken[taken["standing"] != taken["after"]]
    for (source, into), size in _largest(taken, "standing", "after", most=most):
        way = {"source": _segment_label(source, names=names), "into": _segment_label(into, names=names)}
        sentences.append(text("refresh", "redefined", customers=size, **way))
    return sentences


def format_customer_changes(changes: pd.DataFrame) -> pd.DataFrame:
    """Format the changes of level and need that enough customers have in common."""
    rows = changes[changes["customers"] >= FLOOR]
    return pd.DataFrame({"words": rows["words"].map(capitalized), "customers": rows["customers"].map(count)})


def format_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """Format the tests of the run."""
    return pd.DataFrame(
        {
            "Test": tests["words"],
            "Found": [_test_figure(row) for row in tests.to_dict("records")],
            "Limit": [_test_value(row["limit"], of=row["measure"]) for row in tests.to_dict("records")],
            "Result": tests["decision"].map({"keep": "Passed"}).fillna(tests["decision"].map(capitalized)),
        }
    )


def plot_accuracy(accuracy: pd.DataFrame, *, names: Mapping[str, str], styles: Styles) -> Figure:
    """Plot how far each segment was from its forecast, as a share of it, with 95 % intervals.

    `accuracy`: rows of one KPI of ``forecast_accuracy``: segment, predicted, gap with _low and _high.
    """
    rows = accuracy[accuracy["predicted"] > 0].reset_index(drop=True)
    place = np.arange(len(rows))[::-1]
    with style():
        figure, axes = one_panel(height=1.2 + 0.32 * max(len(rows), 1))
        axes.axvline(0, color=INK, linewidth=0.9, label="the forecast")
        for y, row in zip(place, rows.to_dict("records"), strict=True):
            low, middle, high = (row[f"gap{part}"] / row["predicted"] for part in ("_low", "", "_high"))
            colour, marker = (INK, "D") if row["segment"] == EVERYONE else styles[row["segment"]]
            axes.plot([low, high], [y, y], color=QUIET, linewidth=1.6)
            axes.scatter([middle], [y], s=44, color=colour, marker=marker, zorder=3)
        label_left(axes, place=place, words=rows["segment"].map({**_distinct(names), EVERYONE: "All customers"}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: signed(value)))
        axes.set_xlabel("Actual against forecast, per customer")
    return figure


def main_accuracy(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Select the KPI that counts most: spend, else orders, else active customers."""
    kpi = next((kpi for kpi in KPI_WORDS if (accuracy["kpi"] == kpi).any()), "")
    return accuracy[accuracy["kpi"] == kpi]


def describe_accuracy(accuracy: pd.DataFrame, *, names: Mapping[str, str], words: Wording) -> list[str]:
    """Summarise the forecast of each KPI against what customers did."""
    sentences = []
    for kpi in KPI_WORDS:
        rows = accuracy[accuracy["kpi"] == kpi].set_index("segment")
        if EVERYONE not in rows.index:
            continue
        whole, parts = rows.loc[EVERYONE].to_dict(), rows.drop(EVERYONE)
        missed = {
            verdict: [_segment_label(segment, names=names) for segment in parts.index[parts["verdict"] == verdict]]
            for verdict in ("above", "short")
        }
        form = words.form(whole["unit"])
        sentences.append(text("refresh", "accuracy", kpi=kpi, whole=whole, form=form, segments=len(parts), **missed))
    return sentences


def format_accuracy(accuracy: pd.DataFrame, *, names: Mapping[str, str], words: Wording) -> pd.DataFrame:
    """Format predicted and observed values per customer: all of the main KPI, of others what was not as expected."""
    main = accuracy.index.isin(main_accuracy(accuracy).index)
    accuracy = accuracy[main | (accuracy["verdict"] != "as expected") | (accuracy["segment"] == EVERYONE)]
    rows = accuracy.to_dict("records")
    return pd.DataFrame(
        {
            "Segment": [segment_name(r["segment"], names=names) for r in rows],
            "Per customer": [KPI_WORDS[r["kpi"]] for r in rows],
            "Predicted": [_range(r, "predicted", words=words) for r in rows],
            "Actual": [_range(r, "observed", words=words) for r in rows],
            "Compared with all customers": [
                ranged(r["against_all"], r["against_all_low"], r["against_all_high"], form=signed) for r in rows
            ],
            "Verdict": [MEASURE_TITLES.get(r["verdict"], r["verdict"]).capitalize() for r in rows],
        }
    )


def accuracy_caption(accuracy: pd.DataFrame) -> str:
    """Describe which part of the horizon has passed."""
    if accuracy.empty:
        return ""
    return text("refresh", "accuracy_caption", part=accuracy["part"].iloc[0], days=accuracy["days"].iloc[0])


def format_segment_decisions(decisions: pd.DataFrame, *, names: Mapping[str, str]) -> pd.DataFrame:
    """Format the decision on each segment that is not kept as it is."""
    rows = decisions[(decisions["scope"] == "segment") & (decisions["decision"] != "keep")].sort_values("segment")
    return pd.DataFrame(
        {
            "Segment": [segment_name(s, names=names) for s in rows["segment"]],
            "Decision": rows["decision"].map(capitalized),
            "Reason": rows["reason"],
        }
    )


def describe_kept(decisions: pd.DataFrame) -> str:
    """Count the segments that are kept as they are."""
    rows = decisions[decisions["scope"] == "segment"]
    kept = int((rows["decision"] == "keep").sum())
    return text("refresh", "unchanged", segments=kept, whole=kept == len(rows))


def format_changes(changes: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format what changed in each persona."""
    rows = changes.to_dict("records")
    form = percent if (changes["kpi"] == "active rate").any() else words.money
    sizes = [masked_counts(changes[f"customers_{moment}"]) for moment in ("before", "after")]
    return pd.DataFrame(
        {
            "Segment": [segment_name(r["segment"], names={r["segment"]: r["name"]}, marked=False) for r in rows],
            "Now": [BECAME.get(r["became"], capitalized(r["became"])) for r in rows],
            "Customers": [f"{before} → {after}" for before, after in zip(*sizes, strict=True)],
            "Before, per customer": [_side(r, "kpi_before", form=form) for r in rows],
            "Now, per customer": [_side(r, "kpi_after", form=form) for r in rows],
            "What changed": [r["words"] for r in rows],
        }
    )


def format_decision_log(decisions: pd.DataFrame) -> pd.DataFrame:
    """Format the log of decisions on runs and campaigns, latest run first."""
    rows = decisions[decisions["scope"] != "segment"].sort_values("as_of", ascending=False, kind="stable")
    rows = rows.assign(
        as_of=rows["as_of"].map(day_text),
        segment=rows["segment"].replace(EVERYONE, "All"),
        decision=rows["decision"].map(capitalized),
        acted=rows["acted"].replace("", "–"),
    )
    return rows[["as_of", "segment", "decision", "reason", "acted"]].rename(
        columns={
            "as_of": "Run",
            "segment": "Segment",
            "decision": "Decision",
            "reason": "Reason",
            "acted": "Done automatically",
        }
    )


def _side(row: Mapping[str, Any], name: str, *, form: Callable[[Any], str]) -> Markup | str:
    return ranged(row[name], row[f"{name}_low"], row[f"{name}_high"], form=form)


def _range(row: Mapping[str, Any], name: str, *, words: Wording) -> Markup | str:
    ends = [row[f"{name}_low"], row[f"{name}_high"]]
    if row["unit"] == "share":
        ends = [min(max(end, 0.0), 1.0) for end in ends]
    return ranged(row[name], *ends, form=words.form(row["unit"]))


def _test_figure(row: Mapping[str, Any]) -> str:
    shown = _test_value(row["value"], of=row["measure"])
    if is_missing(row["low"]):
        return shown
    return f"{shown} ({_test_value(row['low'], of=row['measure'])} to {_test_value(row['high'], of=row['measure'])})"


def _test_value(value: float, *, of: str) -> str:
    if of.startswith(("share", "customers in")):
        return percent(value)
    return f"{percentage_points(value)} points" if of.startswith("change") else count(value)


def _largest(moves: pd.DataFrame, source: str, into: str, *, most: int) -> list[tuple[tuple[str, str], int]]:
    sizes = moves.groupby([source, into]).size()
    return sorted(sizes[sizes >= FLOOR].items(), key=lambda one: (-one[1], one[0]))[:most]


def _segment_label(segment: str, *, names: Mapping[str, str]) -> str:
    if segment == EVERYONE:
        return "all customers"
    return f"{names[segment]} ({segment})" if segment in names else segment


def _distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Add the id to names that several segments have, such as one that is gone and one of today."""
    known = list(names.values())
    return {segment: f"{name} ({segment})" if known.count(name) > 1 else name for segment, name in names.items()}
