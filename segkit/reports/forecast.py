"""Plots and text of the forecast chapter."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.forecast.backtest import DECISIVE
from segkit.forecast.segments import Prediction
from segkit.format import FLOOR, MISSING, count, interval, is_few, is_missing, masked_count, number, score, share
from segkit.personas.naming import tidy
from segkit.reports.theme import ACCENT, FAINT, INK, QUIET, WARN, label_left, many_panels, segment_style, style
from segkit.templates import text
from segkit.vocabulary import EVERYONE

CALIBRATION_TITLES = {
    "active": "Share who came",
    "orders": "Orders of a customer, mean",
    "spend": "Spend of a customer, mean",
}
TARGET_LABELS = {"active": "who comes", "orders": "orders", "spend": "spend"}
TOP_SHARE = 0.1  # of customers, by value
MAX_NEW_CATEGORIES = 10  # categories
MAX_OFFERS_SHOWN = {"cross-sell": 2, "up-sell": 1}


def plot_calibration(calibration: pd.DataFrame) -> Figure:
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
            axes.set_ylabel("observed")
            form = FuncFormatter(lambda value, _, form=share if target == "active" else number: form(value))
            for side in (axes.xaxis, axes.yaxis):
                side.set_major_locator(MaxNLocator(4))
                side.set_major_formatter(form)
    return figure


def plot_expected_segments(table: pd.DataFrame) -> Figure:
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
        panels[0, 0].set_title("Expected to come")
        panels[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: share(value)))
        panels[0, 0].set_xlim(0, 1.03)
        if money:
            _ranges(panels[0, 1], table, of="spend_each", place=place)
            panels[0, 1].vlines(table["spend_now"], place - 0.34, place + 0.34, color=WARN, linewidth=1.8)
            panels[0, 1].plot([], [], color=WARN, linewidth=1.8, label="last horizon")
            panels[0, 1].legend(loc="lower right", fontsize=8)
            panels[0, 1].set_title("Expected spend of a customer")
            panels[0, 1].set_xlim(0)
            panels[0, 1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            panels[0, 1].tick_params(axis="y", length=0)
            panels[0, 1].spines["left"].set_visible(False)
    return figure


def _ranges(axes: Axes, table: pd.DataFrame, *, of: str, place: np.ndarray) -> None:
    """Draw a dot in the colour and shape of each segment, with its interval as a line."""
    axes.hlines(place, 0, 1, transform=axes.get_yaxis_transform(), color=FAINT, linewidth=0.5, zorder=0)
    axes.hlines(place, table[f"{of}_low"], table[f"{of}_high"], color=QUIET, linewidth=1.3)
    for y, row in zip(place, table.to_dict("records"), strict=True):
        colour, marker = segment_style(row["segment"])
        axes.scatter([row[of]], [y], s=44, color=colour, marker=marker, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def forecast_headline(found: Prediction, *, horizon_days: int) -> str:
    """Summarise what is expected of all customers in a sentence."""
    whole = _everyone_row(found)
    if is_missing(whole["active_share"]):
        return found.reasons[0]
    return text("forecast", "headline", whole=whole, horizon_days=horizon_days)


def forecast_tiles(found: Prediction, *, horizon_days: int) -> list[tuple[str, str, str]]:
    """Collect expected activity, orders, spend, and 12-month value."""
    whole, ahead = _everyone_row(found), f"next {horizon_days} days"
    if is_missing(whole["active_share"]):
        return [("Customers", count(whole["customers"]), "nothing is predicted for them")]
    lost = [(1 - whole[f"active_share{p}"]) * whole["customers"] for p in ("", "_high", "_low")]
    made = [
        ("Not coming", count(lost[0]), f"{count(lost[1])} to {count(lost[2])} of {count(whole['customers'])}, {ahead}")
    ]
    for name, label in (("orders", "Orders"), ("spend", "Spend")):
        if not is_missing(whole[name]):
            note = f"{number(whole[f'{name}_low'])} to {number(whole[f'{name}_high'])}, {ahead}"
            made.append((label, number(whole[name]), note))
    if not is_missing(whole["value_12m"]):
        made.append(
            ("Spend in 12 months", number(whole["value_12m"]), "an extrapolation: no range, as it is not tested")
        )
    return made


def describe_backtest(found: Prediction) -> list[str]:
    """Describe how the forecast did in the back-test against its baselines, and how the base rate moved."""
    sentences = []
    for target, name in found.chosen.items():
        own = found.backtest[found.backtest["target"] == target]
        if len(own):
            sentences.append(_compare_with_baselines(own, target=target, forecaster=name))
    return [*sentences, *_describe_base_rate(found.metrics), *found.reasons]


def format_segments(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """Format one row for all customers and one per segment, with intervals as text, the largest spend first."""
    table = _with_segment_names(found.segments, segments)
    order = table["spend"].fillna(table["customers"]).where(table["segment"] != EVERYONE, np.inf)
    table = table.loc[order.sort_values(ascending=False, kind="stable").index]
    forms = {"active_share": share, "orders": number, "spend": number, "move_share": share}
    few = table["customers"].map(is_few)
    interval_texts = {
        n: [_format_interval(row, n, form) for row in table.to_dict("records")] for n, form in forms.items()
    }
    interval_texts = {n: pd.Series(words, index=table.index).mask(few, MISSING) for n, words in interval_texts.items()}
    sizes = {"customers": table["customers"].map(masked_count), "value_12m": table["value_12m"].mask(few)}
    return table[["segment", "name"]].assign(**sizes, **interval_texts)


def segments_to_plot(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """Collect spend per customer and its value in the last horizon, for the plot."""
    table = _with_segment_names(found.segments, segments).query("segment != @EVERYONE and customers >= @FLOOR")
    each = {f"spend_each{p}": table[f"spend{p}"] / table["customers"] for p in ("", "_low", "_high")}
    table = table.assign(**each, spend_now=table["segment"].map(segments.set_index("segment")["spend_now"]))
    return table.sort_values(["spend_each", "active_share", "segment"], ascending=[False, False, True])


def format_backtest(found: Prediction) -> pd.DataFrame:
    """Format one row per target and forecaster: discrimination, error, and the comparison with ours."""
    rows = []
    for (target, _), part in found.backtest.groupby(["target", "forecaster"], sort=False):
        by, first = part.set_index("measure"), part.iloc[0]
        decisive = by.loc[DECISIVE[target]]
        shown = {m: _format_score(by, m, form) for m, form in (("auc", score), ("ece", share), ("mae", number))}
        shown |= {"total": _format_score(by, "total", share), "coverage": _format_score(by, "coverage", share)}
        chosen_text = "chosen" if first["chosen"] else ""
        rows.append(
            {
                "target": TARGET_LABELS[target],
                "label": first["label"],
                **shown,
                "verdict": decisive["verdict"],
                "said": chosen_text,
            }
        )
    columns = ["target", "label", "auc", "ece", "mae", "total", "coverage", "verdict", "said"]
    return pd.DataFrame(rows, columns=columns)


def format_drivers(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """Format the churn drivers, with segment names."""
    table = _with_segment_names(found.drivers, segments)
    effects = [interval(r.effect, r.effect_low, r.effect_high, form=share) for r in table.itertuples()]
    table = table.assign(difference=effects, everyone=table["segment"] != EVERYONE)
    return table.sort_values(["everyone", "segment"], kind="stable")


def format_offers(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """Format one row per segment: what its members bought next, the strongest first."""
    rows = []
    for name, part in found.offers.groupby("segment"):
        row: dict[str, Any] = {"segment": name}
        for kind, most in MAX_OFFERS_SHOWN.items():
            row[kind.replace("-", "_")] = _format_offers(part[part["kind"] == kind], most=most)
        rows.append(row)
    return _with_segment_names(pd.DataFrame(rows, columns=["segment", "cross_sell", "up_sell"]), segments)


def format_categories(found: Prediction) -> pd.DataFrame:
    """Format the likeliest category that customers have not bought yet: how many customers, how likely."""
    with_category = found.customers.dropna(subset=["new_category"])
    chances = with_category.groupby("new_category")["new_category_chance"]
    table = chances.agg(["size", "mean"]).assign(low=chances.quantile(0.05), high=chances.quantile(0.95)).reset_index()
    table = table[table["size"] >= FLOOR]  # the ends of a range of few would be single customers
    table = table.sort_values(["size", "new_category"], ascending=[False, True]).head(MAX_NEW_CATEGORIES)
    words = [
        f"{share(r['mean'])} (nine in ten: {share(r['low'])} to {share(r['high'])})" for r in table.to_dict("records")
    ]
    return table.assign(category=table["new_category"].map(tidy), chance=words)


def describe_value(found: Prediction) -> list[str]:
    """Describe how 12-month value is spread over customers, and what the figure is not."""
    value = found.customers["value_12m"].dropna().sort_values(ascending=False)
    if value.empty or value.sum() <= 0:
        return [text("forecast", "no_value")]
    top = value.head(max(int(len(value) * TOP_SHARE), 1)).sum() / value.sum()
    return [
        text("forecast", "value_spread", top=top, median=value.median()),
        text("forecast", "value_limits"),
    ]


def describe_category_accuracy(found: Prediction) -> list[str]:
    """Describe how often the next category was predicted right in the back-test."""
    sentences = []
    for name in ("next", "new"):
        ours, theirs = (found.metrics.get(f"forecast.{name}_category_hits{p}") for p in ("", ".baseline"))
        if ours is not None:
            sentences.append(text("forecast", "hits", ours=ours, theirs=theirs, new=name == "new"))
    return sentences


def _compare_with_baselines(own: pd.DataFrame, *, target: str, forecaster: str) -> str:
    """Describe in a sentence how good a forecast is, and which baselines it is ahead of, level with or behind."""
    by = own[own["forecaster"] == forecaster].set_index("measure")
    errors = own[(own["measure"] == DECISIVE[target]) & (own["forecaster"] != "model")]
    return text(
        "forecast",
        "against",
        target=target,
        words=TARGET_LABELS[target],
        label=by["label"].iloc[0],
        value=by["value"].to_dict(),
        others=errors.to_dict("records"),
        replaced=forecaster != "model",
    )


def _describe_base_rate(figures: Mapping[str, Any]) -> list[str]:
    if "forecast.drift.active" not in figures:
        return []
    before, after, low, high = (
        figures[f"forecast.drift.{n}"] for n in ("active_learnt", "active_observed", "active.low", "active.high")
    )
    spend = None
    if "forecast.drift.spend_observed" in figures:
        spend = [figures[f"forecast.drift.spend_{n}"] for n in ("learnt", "observed")]
    return [text("forecast", "base_rate", before=before, after=after, low=low, high=high, spend=spend)]


def _format_offers(offers: pd.DataFrame, *, most: int) -> str:
    """Format the offers above chance; where there is none, the first one with that remark."""
    if offers.empty:
        return MISSING
    more = offers[offers["more"]].head(most)
    if len(more):
        return "; ".join(_format_offer(row) for row in more.to_dict("records"))
    return f"no more than other customers: {_format_offer(offers.iloc[0].to_dict())}"


def _format_offer(row: Mapping[str, Any]) -> str:
    return text("forecast", "offer", term=tidy(row["term"]), row=row)


def _format_score(by: pd.DataFrame, measure: str, form: Any) -> str:
    return interval(*by.loc[measure, ["value", "low", "high"]], form=form) if measure in by.index else MISSING


def _with_segment_names(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    names = segments.set_index("segment")["name"]
    return table.assign(
        name=table["segment"].map(names).fillna("Everyone").where(table["segment"] != EVERYONE, "Everyone")
    )


def _everyone_row(found: Prediction) -> dict[str, Any]:
    return found.segments[found.segments["segment"] == EVERYONE].iloc[0].to_dict()


def _format_interval(row: Mapping[str, Any], name: str, form: Any) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], form=form)
