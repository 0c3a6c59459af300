"""Plots and text of the forecast page."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.experiments.estimate import KPIS, LEADING_KPIS
from segkit.forecast.backtest import DECISIVE
from segkit.forecast.segments import Prediction, forecast_per_customer
from segkit.forecast.tested import TESTED_AT
from segkit.format import (
    FLOOR,
    MISSING,
    capitalized,
    count,
    hidden_segments,
    is_missing,
    masked_count,
    masked_counts,
    percent,
    score,
    share_of,
)
from segkit.format import money as rounded
from segkit.reports.html import way
from segkit.reports.theme import (
    ACCENT,
    FAINT,
    INK,
    QUIET,
    WARN,
    label_left,
    many_panels,
    segment_style,
    segment_styles,
    style,
)
from segkit.reports.wording import Wording, day_text, mark, points, ranged, segment_name
from segkit.templates import text
from segkit.vocabulary import EVERYONE

CALIBRATION_TITLES = {"active": "Active customers", "orders": "Orders per customer", "spend": "Spend per customer"}
TARGET_LABELS = {"active": "activity", "orders": "orders", "spend": "spend"}
TARGET_UNITS = {"active": "share", "orders": "orders", "spend": "money"}
MAX_NEW_CATEGORIES = 10  # categories
MAX_OFFERS_SHOWN = {"cross-sell": 2, "up-sell": 1}
REGRESSION = 0.05  # rise of small spenders, in the forecast, that is explained where big ones fall
OFFER_COLUMNS = ["segment", "name", "kind", "category", "share", "others", "reach"]


def plot_calibration(calibration: pd.DataFrame, *, words: Wording) -> Figure:
    """Plot predicted against observed in ten groups of customers: one panel each for activity, orders and spend.

    `calibration`: target, predicted, observed, low, high (95 %). Points on the line are predictions that held.
    """
    targets = [target for target in CALIBRATION_TITLES if (calibration["target"] == target).any()]
    with style():
        figure, panels = many_panels(rows=1, columns=max(len(targets), 1), height=3.4)
        for axes, target in zip(panels[0], targets, strict=False):
            rows = calibration[calibration["target"] == target]
            ends = np.array([rows[["predicted", "low"]].min().min(), rows[["predicted", "high"]].max().max()])
            ends = np.array([max(ends[0], 0.0), ends[1]])
            axes.plot(ends, ends, color=QUIET, linewidth=0.9, zorder=0)
            axes.vlines(rows["predicted"], rows["low"], rows["high"], color=INK, linewidth=0.9)
            axes.scatter(rows["predicted"], rows["observed"], s=30, color=ACCENT, zorder=3)
            axes.set_title(CALIBRATION_TITLES[target])
            axes.set_xlabel("predicted")
            axes.set_ylabel("actual")
            shown = words.form(TARGET_UNITS[target])
            form = FuncFormatter(lambda value, _, shown=shown: shown(value))
            for side in (axes.xaxis, axes.yaxis):
                side.set_major_locator(MaxNLocator(4))
                side.set_major_formatter(form)
    return figure


def plot_expected_segments(table: pd.DataFrame, *, words: Wording) -> Figure:
    """Plot what is expected of each segment: active share and spend per customer, with their intervals.

    `table`: segment, name, customers, active_share and spend_each with _low and _high, spend_now (each may be null;
    drawn as a mark), in the order to be drawn.
    """
    money = table["spend_each"].notna().any()
    place = np.arange(len(table))[::-1]
    with style():
        figure, panels = many_panels(rows=1, columns=2 if money else 1, height=0.9 + 0.32 * len(table), sharey=True)
        label_left(panels[0, 0], place=place, words=table["name"])
        _ranges(panels[0, 0], table, of="active_share", place=place)
        panels[0, 0].set_title("Active customers")
        panels[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        least = table["active_share_low"].min()
        panels[0, 0].set_xlim(0 if is_missing(least) else max(least - 0.1, 0), 1.02)
        if money:
            _ranges(panels[0, 1], table, of="spend_each", place=place)
            panels[0, 1].vlines(table["spend_now"], place - 0.34, place + 0.34, color=WARN, linewidth=1.8)
            panels[0, 1].plot([], [], color=WARN, linewidth=1.8, label=words.period.last_dates)
            panels[0, 1].legend(loc="lower right", fontsize=8)
            panels[0, 1].set_title("Spend per customer")
            panels[0, 1].set_xlim(0)
            panels[0, 1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.money(value)))
            panels[0, 1].tick_params(axis="y", length=0)
            panels[0, 1].spines["left"].set_visible(False)
    return figure


def _ranges(axes: Axes, table: pd.DataFrame, *, of: str, place: np.ndarray) -> None:
    """Draw a dot in the colour and shape of each segment, with its interval as a line."""
    axes.hlines(place, 0, 1, transform=axes.get_yaxis_transform(), color=FAINT, linewidth=0.5, zorder=0)
    axes.hlines(place, table[f"{of}_low"], table[f"{of}_high"], color=QUIET, linewidth=1.3)
    for y, row in zip(place, table.to_dict("records"), strict=True):
        colour, marker = row.get("look") or segment_style(row["segment"])
        axes.scatter([row[of]], [y], s=44, color=colour, marker=marker, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def forecast_headline(found: Prediction, segments: pd.DataFrame, *, words: Wording) -> str:
    """Summarise what is expected of all customers in a sentence."""
    whole = _everyone_row(found)
    if is_missing(whole["active_share"]):
        return found.reasons[0]
    now = (segments["spend_now"] * segments["customers"]).sum(min_count=1) if "spend_now" in segments else None
    cancelled = {name: found.metrics.get(f"forecast.{name}") for name in ("cancelled", "cancelled_returned")}
    return text("forecast", "headline", whole=whole, now=now, words=words, **cancelled)


def forecast_tiles(found: Prediction, *, words: Wording) -> list[tuple[str, str, str]]:
    """Collect customers who are not expected to be active, orders and spend."""
    whole, dates = _everyone_row(found), words.period.next_dates
    if is_missing(whole["active_share"]):
        return [("Customers", count(whole["customers"]), "no forecast")]
    lost = [(1 - whole[f"active_share{p}"]) * whole["customers"] for p in ("", "_high", "_low")]
    made = [("Likely inactive", lost, count)]
    for name in ("orders", "spend"):
        if not is_missing(whole[name]):
            form = words.money if name == "spend" else rounded
            made.append((name.capitalize(), [whole[f"{name}{p}"] for p in ("", "_low", "_high")], form))
    return [(label, form(v[0]), text("forecast", "tile", v=v, form=form, dates=dates)) for label, v, form in made]


def describe_reach(found: Prediction, *, words: Wording) -> list[str]:
    """Tell in a line each what the back-test shows can be predicted, and what cannot; empty without a back-test."""
    scores = found.backtest[found.backtest["chosen"].astype(bool)]
    by = scores.set_index(["target", "measure"])["value"].to_dict()
    if not by:
        return []
    sums = {target: by[target, "total"] for target in ("orders", "spend") if (target, "total") in by}
    facts = {"auc": by.get(("active", "auc")), "sums": sums, "each": by.get(("spend", "mae")), "words": words}
    return [text("forecast", "can", **facts), text("forecast", "cannot", **facts)]


def describe_tested(metrics: Mapping[str, Any], *, words: Wording) -> list[str]:
    """Give the date of the back-test, where it is that of an earlier run; empty where it is of this one."""
    at = metrics.get(TESTED_AT)
    if not at or at == words.period.as_of.isoformat():
        return []
    return [text("forecast", "tested", at=day_text(str(at)), quarter=words.quarter)]


def describe_backtest(found: Prediction, *, words: Wording) -> list[str]:
    """Describe how the forecast did in the back-test against its baselines, and how the base rate moved."""
    sentences = []
    for target, name in found.chosen.items():
        own = found.backtest[found.backtest["target"] == target]
        if len(own):
            sentences.append(_compare_with_baselines(own, target=target, forecaster=name, words=words))
    return [*sentences, *_describe_base_rate(found.metrics, words=words), *found.reasons]


def describe_directions(found: Prediction, segments: pd.DataFrame, *, words: Wording) -> list[str]:
    """Name the segments that are likely to spend more or less than usual; nothing where spend is not known."""
    known = segments.set_index("segment")
    rows = forecast_per_customer(found.segments).join(known[["name", "spend_now"]], how="inner")
    rows = rows[~rows.index.isin(hidden_segments(segments))]
    if rows["spend_now"].isna().all() or rows["spend_next_low"].isna().all():
        return []
    ways = [(way(row), f"{row['name']} ({segment})") for segment, row in rows.to_dict("index").items()]
    up, down = ([name for one, name in ways if one == direction] for direction in ("up", "down"))
    change = rows["spend_next"] - rows["spend_now"]
    small = rows["spend_now"] < rows["spend_now"].median()
    parts = [change[part].sum() / rows.loc[part, "spend_now"].sum() for part in (small, ~small)]
    regress = bool(parts[0] > REGRESSION and parts[1] < 0)
    return [text("forecast", "directions", up=up, down=down, regress=regress, quarter=words.quarter)]


def format_segments(found: Prediction, segments: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format one row for all customers and one per segment, figures per customer first, the largest spend first."""
    table = _with_now(found.segments, segments)
    order = table["spend"].fillna(table["customers"]).where(table["segment"] != EVERYONE, np.inf)
    table = table.loc[order.sort_values(ascending=False, kind="stable").index]
    table["hidden"] = table["segment"].isin(hidden_segments(segments))
    rows, names = table.to_dict("records"), segments.set_index("segment")["name"]
    forms = {"active_share": "share", "orders_each": "orders", "spend_each": "money", "spend": "money",
             "value_12m_each": "money", "move_share": "share"}  # fmt: skip
    columns = {"active_share": "active_share_next", "spend_each": "spend_next"}
    shown = {"name": [segment_name(segment, names=names) for segment in table["segment"]]}
    sizes = dict(zip(segments["segment"], masked_counts(segments["customers"]), strict=True))
    sizes[EVERYONE] = masked_count(rows[0]["customers"])
    shown["customers"] = mark(table, table["segment"].map(sizes), "customers")
    for name, unit in forms.items():
        cells = [_cell(row, name, fact=columns.get(name, ""), words=words, unit=unit) for row in rows]
        shown[name] = cells if table[name].notna().any() else [None] * len(cells)
    now = [MISSING if row["hidden"] else words.money(row["spend_now"]) for row in rows]
    shown["spend_now"] = mark(table, pd.Series(now), "spend_now") if table["spend_now"].notna().any() else None
    return pd.DataFrame({"segment": table["segment"].to_numpy(), **shown}).dropna(axis=1, how="all")


def targets_to_show(table: pd.DataFrame, segments: pd.DataFrame, *, kpi: str) -> pd.DataFrame:
    """Select the key results of one KPI, all customers first, without small segments."""
    rows = table[(table["kpi"] == LEADING_KPIS[kpi]) & ~table["segment"].isin(hidden_segments(segments))]
    return rows.assign(order=rows["segment"] != EVERYONE).sort_values(["order", "segment"]).drop(columns="order")


def describe_targets(rows: pd.DataFrame, *, kpi: str) -> str:
    """Count the segments that have a target; where none has one, say why."""
    own = rows[rows["segment"] != EVERYONE]
    reasons = list(dict.fromkeys(own.loc[own["reason"] != "", "reason"]))
    number = int(own["target"].notna().sum())
    return text("forecast", "targets", kpi=KPIS[kpi].label, number=number, of=len(own), reasons=reasons)


def format_targets(rows: pd.DataFrame, segments: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format the key results of one KPI: starting value, forecast, what is within reach, and the target of both."""
    form = words.form(rows["unit"].iloc[0])
    fact = {"money": "spend_next", "share": "active_share_next"}[rows["unit"].iloc[0]]
    names = segments.set_index("segment")["name"]
    cells = [_cell(row | {"hidden": False}, "expected", fact=fact, words=words, unit=row["unit"])
             for row in rows.to_dict("records")]  # fmt: skip
    return rows.assign(
        name=[segment_name(segment, names=names) for segment in rows["segment"]],
        starting_value=rows["starting_value"].map(form),
        expected=cells,
        reachable=rows["reachable"].map(lambda share: f"+{percent(share)}" if share > 0 else percent(share)),
        target=rows["target"].map(form).where(rows["reason"] == "", "no target: " + rows["reason"]),
    )[list(words.titles("key_results"))]


def segments_to_plot(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """Collect spend per customer, its value in the last horizon, and colour and marker, for the plot."""
    table = _with_now(found.segments, segments)
    table = table[~table["segment"].isin({*hidden_segments(segments), EVERYONE})]
    table = table.assign(look=table["segment"].map(segment_styles(segments)))
    return table.sort_values(["spend_each", "active_share", "segment"], ascending=[False, False, True])


def format_backtest(found: Prediction, *, words: Wording) -> pd.DataFrame:
    """Format one row per target and forecaster: discrimination, error, and the comparison with ours."""
    rows = []
    for (target, _), part in found.backtest.groupby(["target", "forecaster"], sort=False):
        by, first = part.set_index("measure"), part.iloc[0]
        forms = {"auc": score, "ece": percent, "mae": words.form(TARGET_UNITS[target]), "total": percent,
                 "coverage": percent}  # fmt: skip
        shown = {measure: _format_score(by, measure, form) for measure, form in forms.items()}
        verdict = by.loc[DECISIVE[target]]["verdict"]
        about = {"target": TARGET_LABELS[target].capitalize(), "label": capitalized(first["label"])}
        rows.append({**about, **shown, "verdict": verdict, "used": "yes" if first["chosen"] else ""})
    columns = ["target", "label", "auc", "ece", "mae", "total", "coverage", "verdict", "used"]
    return pd.DataFrame(rows, columns=columns)


def format_drivers(found: Prediction) -> pd.DataFrame:
    """Format the churn drivers of all customers, the strongest first."""
    table = found.drivers[found.drivers["segment"] == EVERYONE]
    effects = [ranged(r["effect"], r["effect_low"], r["effect_high"], form=points) for r in table.to_dict("records")]
    return table.assign(difference=effects, words=table["words"].map(capitalized))


def format_offers(
    found: Prediction, segments: pd.DataFrame, *, words: Wording, never: Collection[str] = ()
) -> pd.DataFrame:
    """Format what members clearly bought more than other customers did, the strongest first: a row each."""
    offers = found.offers[found.offers["more"].astype(bool) & ~found.offers["term"].isin(never)]
    kept = [offers[offers["kind"] == kind].groupby("segment").head(most) for kind, most in MAX_OFFERS_SHOWN.items()]
    table = _with_segment_names(pd.concat(kept).sort_values("segment", kind="stable"), segments)
    shares = [
        ranged(r["share"], r["share_low"], r["share_high"], form=lambda value, of=r["asked"]: share_of(value, of))
        for r in table.to_dict("records")
    ]
    return table.assign(
        category=table["term"].map(words.thing).map(capitalized),
        share=shares,
        others=table["others"].map(percent),
        reach=table["reach"].map(masked_count),
        kind=table["kind"].str.capitalize(),
    )[OFFER_COLUMNS]


def describe_offers(shown: pd.DataFrame, segments: pd.DataFrame) -> str:
    """Count the segments for which nothing stands out, from what ``format_offers`` shows."""
    return text("forecast", "no_offer", segments=len(segments), clear=shown["segment"].nunique())


def format_categories(found: Prediction, *, words: Wording, never: Collection[str] = ()) -> pd.DataFrame:
    """Format the likeliest category that customers have not bought yet: how many customers, how likely."""
    with_category = found.customers.dropna(subset=["new_category"])
    chances = with_category.groupby("new_category")["new_category_chance"]
    table = chances.agg(["size", "mean"]).assign(low=chances.quantile(0.05), high=chances.quantile(0.95)).reset_index()
    table = table[
        (table["size"] >= FLOOR) & ~table["new_category"].isin(never)
    ]  # the ends of a range of few would be single customers
    table = table.sort_values(["size", "new_category"], ascending=[False, True]).head(MAX_NEW_CATEGORIES)
    chance = [ranged(r["mean"], r["low"], r["high"], form=percent) for r in table.to_dict("records")]
    return table.assign(category=table["new_category"].map(words.thing).map(capitalized), chance=chance)


def describe_category_accuracy(found: Prediction, *, words: Wording) -> list[str]:
    """Describe how often the next category was predicted right in the back-test, and what names it."""
    sentences = []
    for name in ("next", "new"):
        key = f"forecast.{name}_category_hits"
        if key in found.metrics:
            lead = [found.metrics[f"{key}.lead{part}"] for part in ("", ".low", ".high")]
            hits = {"ours": found.metrics[key], "theirs": found.metrics[f"{key}.baseline"], "lead": lead}
            about = {"rule": found.metrics[f"{key}.rule"], "new": name == "new", "quarter": words.quarter}
            sentences.append(text("forecast", "hits", **hits, **about))
    return sentences


def describe_dormant(metrics: Mapping[str, Any], *, words: Wording) -> list[str]:
    """Tell what silent customers are expected to bring in total, or why that is not known; nothing where none are."""
    customers = metrics.get("forecast.dormant.customers")
    if not customers:
        return []
    facts = {name: dormant_total(metrics, name) for name in ("active", "spend")}
    return [text("forecast", "dormant", customers=customers, reason=metrics["forecast.dormant.reason"], **facts,
                 words=words)]  # fmt: skip


def describe_year(metrics: Mapping[str, Any], *, words: Wording) -> list[str]:
    """Tell what today's customers are expected to spend in twelve months, and how well that held a year ago."""
    if "forecast.year.spend" not in metrics:
        return []
    spend, lead = (
        [metrics[f"forecast.year.{name}{part}"] for part in ("", ".low", ".high")] for name in ("spend", "lead")
    )
    return [text("forecast", "year", spend=spend, off_by=metrics["forecast.year.off"], lead=lead, words=words)]


def dormant_total(metrics: Mapping[str, Any], name: str) -> list[float] | None:
    """Return a total of silent customers with its range; None where it is not known, or of a few customers."""
    values = [metrics.get(f"forecast.dormant.{name}{part}") for part in ("", ".low", ".high")]
    few = metrics.get("forecast.dormant.customers", 0) < FLOOR
    return None if few or is_missing(values[0]) else [float(value) for value in values]


def _compare_with_baselines(own: pd.DataFrame, *, target: str, forecaster: str, words: Wording) -> str:
    """Describe in a sentence how good a forecast is, and which baselines it is ahead of, level with or behind."""
    by = own[own["forecaster"] == forecaster].set_index("measure")
    errors = own[(own["measure"] == DECISIVE[target]) & (own["forecaster"] != "model")]
    return text(
        "forecast",
        "against",
        target=target,
        label=by["label"].iloc[0],
        value=by["value"].to_dict(),
        form=words.form(TARGET_UNITS[target]),
        others={verdict: list(rows) for verdict, rows in errors.groupby("verdict", sort=False)["label"]},
        replaced=forecaster != "model",
    )


def _describe_base_rate(figures: Mapping[str, Any], *, words: Wording) -> list[str]:
    if "forecast.drift.active" not in figures:
        return []
    before, after, low, high = (
        figures[f"forecast.drift.{n}"] for n in ("active_learnt", "active_observed", "active.low", "active.high")
    )
    spend = None
    if "forecast.drift.spend_observed" in figures:
        spend = [words.money(figures[f"forecast.drift.spend_{n}"]) for n in ("learnt", "observed")]
    rates = {"before": before, "after": after, "moved": low > 0 or high < 0}
    return [text("forecast", "base_rate", **rates, spend=spend, quarter=words.quarter)]


def _format_score(by: pd.DataFrame, measure: str, form: Any) -> Markup | str:
    return ranged(*by.loc[measure, ["value", "low", "high"]], form=form) if measure in by.index else MISSING


def _with_segment_names(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    names = segments.set_index("segment")["name"]
    return table.assign(name=[segment_name(segment, names=names) for segment in table["segment"]])


def _with_now(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """Add names, figures per customer, and what the segments spent per customer in the last horizon."""
    columns = [f"{of}_each{part}" for of in ("orders", "spend", "value_12m") for part in ("", "_low", "_high")]
    each = {name: table[name.replace("_each", "")] / table["customers"] for name in columns}
    known = segments.set_index("segment")
    now = table["segment"].map(known["spend_now"]).astype(float)
    whole = (known["spend_now"] * known["customers"]).sum(min_count=1) / known["customers"].sum()
    now = now.where(table["segment"] != EVERYONE, whole)
    return table.assign(name=table["segment"].map(known["name"]), **each, spend_now=now)


def _everyone_row(found: Prediction) -> dict[str, Any]:
    return found.segments[found.segments["segment"] == EVERYONE].iloc[0].to_dict()


def _cell(row: Mapping[str, Any], name: str, *, fact: str, words: Wording, unit: str) -> Markup | str:
    """Format a figure with its range below it; with `fact` it is the value of that column of the segment."""
    if row["hidden"]:
        return MISSING
    value = [row[f"{name}{p}"] for p in ("", "_low", "_high")]
    marked = f"{row['segment']}.{fact}" if fact and row["segment"] != EVERYONE else ""
    return ranged(*value, form=words.form(unit), fact=marked)
