"""What the page of the forecast says: sentences and tables, computed from the forecast."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from segkit.actions.labels import tidy
from segkit.actions.predict import Prediction
from segkit.actions.predict_backtest import DECISIVE
from segkit.numbers import NOTHING, count, interval, is_missing, number, score, share
from segkit.small_groups import FLOOR, is_few, shown
from segkit.templates import text
from segkit.vocabulary import EVERYONE

TARGETS = {"active": "who comes", "orders": "orders", "spend": "spend"}
RICHEST = 0.1  # of customers, by value
NEW_TOLD = 10  # categories
OFFERS_TOLD = {"cross-sell": 2, "up-sell": 1}


def headline(found: Prediction, *, horizon_days: int) -> str:
    """What is expected of everyone, in a sentence."""
    whole = _whole(found)
    if is_missing(whole["active_share"]):
        return found.reasons[0]
    return text("forecast", "headline", whole=whole, horizon_days=horizon_days)


def tiles(found: Prediction, *, horizon_days: int) -> list[tuple[str, str, str]]:
    """Who is expected back, orders, spend, and a year ahead."""
    whole, ahead = _whole(found), f"next {horizon_days} days"
    if is_missing(whole["active_share"]):
        return [("Customers", count(whole["customers"]), "nothing is foretold of them")]
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


def trust(found: Prediction) -> list[str]:
    """How the forecast did in the back-test, against its rivals, and how far the base rate moved."""
    sentences = []
    for target, name in found.chosen.items():
        own = found.backtest[found.backtest["target"] == target]
        if len(own):
            sentences.append(_against(own, target=target, forecaster=name))
    return [*sentences, *_drift(found.figures), *found.reasons]


def segments_shown(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """A row for everyone and for each segment, with ranges as text, the largest spend first."""
    table = _named(found.segments, segments)
    order = table["spend"].fillna(table["customers"]).where(table["segment"] != EVERYONE, np.inf)
    table = table.loc[order.sort_values(ascending=False, kind="stable").index]
    forms = {"active_share": share, "orders": number, "spend": number, "move_share": share}
    few = table["customers"].map(is_few)
    interval_texts = {n: [_ranged(row, n, form) for row in table.to_dict("records")] for n, form in forms.items()}
    interval_texts = {n: pd.Series(words, index=table.index).mask(few, NOTHING) for n, words in interval_texts.items()}
    sizes = {"customers": table["customers"].map(shown), "value_12m": table["value_12m"].mask(few)}
    return table[["segment", "name"]].assign(**sizes, **interval_texts)


def segments_drawn(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """The same for the picture: spend of each customer, and what it was in the last horizon."""
    table = _named(found.segments, segments).query("segment != @EVERYONE and customers >= @FLOOR")
    each = {f"spend_each{p}": table[f"spend{p}"] / table["customers"] for p in ("", "_low", "_high")}
    table = table.assign(**each, spend_now=table["segment"].map(segments.set_index("segment")["spend_now"]))
    return table.sort_values(["spend_each", "active_share", "segment"], ascending=[False, False, True])


def backtest_shown(found: Prediction) -> pd.DataFrame:
    """A row for each target and forecaster: how it told people apart, how far off it was, and how we did against it."""
    rows = []
    for (target, _), part in found.backtest.groupby(["target", "forecaster"], sort=False):
        by, first = part.set_index("measure"), part.iloc[0]
        decisive = by.loc[DECISIVE[target]]
        shown = {m: _scored(by, m, form) for m, form in (("auc", score), ("ece", share), ("mae", number))}
        shown |= {"total": _scored(by, "total", share), "coverage": _scored(by, "coverage", share)}
        chosen_text = "chosen" if first["chosen"] else ""
        rows.append(
            {
                "target": TARGETS[target],
                "label": first["label"],
                **shown,
                "verdict": decisive["verdict"],
                "said": chosen_text,
            }
        )
    columns = ["target", "label", "auc", "ece", "mae", "total", "coverage", "verdict", "said"]
    return pd.DataFrame(rows, columns=columns)


def drivers_shown(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """What goes with not coming back, with names."""
    table = _named(found.drivers, segments)
    effects = [interval(r.effect, r.effect_low, r.effect_high, form=share) for r in table.itertuples()]
    table = table.assign(difference=effects, everyone=table["segment"] != EVERYONE)
    return table.sort_values(["everyone", "segment"], kind="stable")


def offers_shown(found: Prediction, segments: pd.DataFrame) -> pd.DataFrame:
    """A row for each segment: what its members took next, surest first."""
    rows = []
    for name, part in found.offers.groupby("segment"):
        row: dict[str, Any] = {"segment": name}
        for kind, most in OFFERS_TOLD.items():
            row[kind.replace("-", "_")] = _told(part[part["kind"] == kind], most=most)
        rows.append(row)
    return _named(pd.DataFrame(rows, columns=["segment", "cross_sell", "up_sell"]), segments)


def categories_shown(found: Prediction) -> pd.DataFrame:
    """The likeliest category that customers have not bought yet: of how many, and how likely."""
    with_category = found.customers.dropna(subset=["new_category"])
    chances = with_category.groupby("new_category")["new_category_chance"]
    table = chances.agg(["size", "mean"]).assign(low=chances.quantile(0.05), high=chances.quantile(0.95)).reset_index()
    table = table[table["size"] >= FLOOR]  # the ends of a range of few would be single customers
    table = table.sort_values(["size", "new_category"], ascending=[False, True]).head(NEW_TOLD)
    words = [
        f"{share(r['mean'])} (nine in ten: {share(r['low'])} to {share(r['high'])})" for r in table.to_dict("records")
    ]
    return table.assign(category=table["new_category"].map(tidy), chance=words)


def value_said(found: Prediction) -> list[str]:
    """How a year ahead is spread over customers, and what the figure is not."""
    value = found.customers["value_12m"].dropna().sort_values(ascending=False)
    if value.empty or value.sum() <= 0:
        return [text("forecast", "no_value")]
    top = value.head(max(int(len(value) * RICHEST), 1)).sum() / value.sum()
    return [
        text("forecast", "value_spread", top=top, median=value.median()),
        text("forecast", "value_limits"),
    ]


def hits_said(found: Prediction) -> list[str]:
    """How often next categories were right in the back-test."""
    sentences = []
    for name in ("next", "new"):
        ours, theirs = (found.figures.get(f"forecast.{name}_category_hits{p}") for p in ("", ".baseline"))
        if ours is not None:
            sentences.append(text("forecast", "hits", ours=ours, theirs=theirs, new=name == "new"))
    return sentences


def _against(own: pd.DataFrame, *, target: str, forecaster: str) -> str:
    """One sentence: how good, and against whom ahead, level or behind."""
    by = own[own["forecaster"] == forecaster].set_index("measure")
    errors = own[(own["measure"] == DECISIVE[target]) & (own["forecaster"] != "model")]
    return text(
        "forecast",
        "against",
        target=target,
        words=TARGETS[target],
        label=by["label"].iloc[0],
        value=by["value"].to_dict(),
        others=errors.to_dict("records"),
        replaced=forecaster != "model",
    )


def _drift(figures: Mapping[str, Any]) -> list[str]:
    if "forecast.drift.active" not in figures:
        return []
    before, after, low, high = (
        figures[f"forecast.drift.{n}"] for n in ("active_learnt", "active_observed", "active.low", "active.high")
    )
    spend = None
    if "forecast.drift.spend_observed" in figures:
        spend = [figures[f"forecast.drift.spend_{n}"] for n in ("learnt", "observed")]
    return [text("forecast", "base_rate", before=before, after=after, low=low, high=high, spend=spend)]


def _told(offers: pd.DataFrame, *, most: int) -> str:
    """The offers that members surely took more than others did; where there is none, the first with that said."""
    if offers.empty:
        return NOTHING
    more = offers[offers["more"]].head(most)
    if len(more):
        return "; ".join(_offer(row) for row in more.to_dict("records"))
    return f"no more than elsewhere: {_offer(offers.iloc[0].to_dict())}"


def _offer(row: Mapping[str, Any]) -> str:
    return text("forecast", "offer", term=tidy(row["term"]), row=row)


def _scored(by: pd.DataFrame, measure: str, form: Any) -> str:
    return interval(*by.loc[measure, ["value", "low", "high"]], form=form) if measure in by.index else NOTHING


def _ranged(row: Mapping[str, Any], name: str, form: Any) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], form=form)


def _named(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    names = segments.set_index("segment")["name"]
    return table.assign(
        name=table["segment"].map(names).fillna("Everyone").where(table["segment"] != EVERYONE, "Everyone")
    )


def _whole(found: Prediction) -> dict[str, Any]:
    return found.segments[found.segments["segment"] == EVERYONE].iloc[0].to_dict()
