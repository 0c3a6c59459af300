"""What happens next if nothing is done: each customer and each segment over the horizon, with the proof of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.actions.predict_backtest import (
    COLUMNS,
    LEADS,
    Trial,
    best_forecasters,
    calibration,
    drift_figures,
    forecasts_of,
    leads_shown,
    score_trials,
    trials_of,
)
from segkit.actions.predict_known import AMOUNTS, YEAR, Known, Lesson, known_of, lessons_of
from segkit.actions.predict_learn import FEWEST, Told
from segkit.actions.predict_next import category_hits, learn_categories, move_chances, next_categories
from segkit.actions.predict_offers import DRIVERS, OFFERS, churn_drivers, next_offers
from segkit.actions.predict_rivals import LABELS, with_bands
from segkit.actions.predict_segments import segment_sums
from segkit.customers.features import Customers, Signals
from segkit.segments.past import Past
from segkit.segments.place import SegmentModel, place
from segkit.stats import Estimate
from segkit.vocabulary import EVERYONE

PEOPLE = [
    "active_chance",
    *(f"{name}{part}" for name in AMOUNTS for part in ("", "_mean", "_low", "_high")),
    "move_chance",
    "value_12m",
]
CATEGORIES = [f"{name}{part}" for name in ("next_category", "next_category_2", "next_category_3", "new_category")
              for part in ("", "_chance")]  # fmt: skip
SUMS = [f"{name}{part}" for name in ("active_share", *AMOUNTS) for part in ("", "_low", "_high", "_season")]
SUMS += ["move_share", "move_share_low", "move_share_high"]  # chance only: moves were seen once
CALIBRATION = ["target", "group", "customers", "predicted", "observed", "low", "high"]
MEDIAN = {"spend": "spend_median"}  # of the table of customers, beside spend_mean


@dataclass(frozen=True)
class Prediction:
    """The forecast: tables of customers, segments, back-test, calibration, drivers and offers; who said each target;
    what could not be said, and why; headline numbers.
    """

    customers: pd.DataFrame
    segments: pd.DataFrame
    backtest: pd.DataFrame
    calibration: pd.DataFrame
    drivers: pd.DataFrame
    offers: pd.DataFrame
    chosen: dict[str, str]
    reasons: tuple[str, ...]
    figures: dict[str, object]


def predict(
    customers: Customers,
    training_signals: Past,
    *,
    model: SegmentModel,
    segment: pd.Series,
    seed: int = 7,
) -> Prediction:
    """Foretell the horizon after `as_of`.

    Takes  customers: of today, nothing on or after `as_of` is looked at; past: one and two horizons ago; model,
           segment: the segments of the run, and that of each customer
    Gives  Prediction; where nothing can be learnt its tables are there and say nothing, and `reasons` says why

    Parameters
    ----------
    seed : of folds and resamplings
    """
    now, training_sets = customers.signals, lessons_of(customers, training_signals)
    segment = segment.reindex(now.features.index)
    why = _hopeless(training_sets, customers)
    if why:
        return _nothing(now, segment, why=why)
    snapshot, training = known_of(customers), training_sets[0]
    origins = trials_of(training_sets, seed=seed)
    scores = leads_shown(score_trials(origins, seed=seed)) if origins else _no_scores()
    forecasts = forecasts_of(training, snapshot, seed=seed)
    won = best_forecasters(scores) if origins else {}
    forecaster_by_target = {target: won.get(target, "model") for target in ("active", *training.amounts)}
    forecaster_by_target = {
        target: name if name in forecasts else "model" for target, name in forecaster_by_target.items()
    }
    stood = place(model, training.snapshot.signals)["segment"]
    people = _amounts(forecasts, training, forecaster_by_target=forecaster_by_target)
    chance = forecasts[forecaster_by_target["active"]].out_of_fold["chance"].to_numpy()
    buys = learn_categories(training, chance=chance, segment=stood.to_numpy(), seed=seed)
    today = {"chance": people["active_chance"].to_numpy(), "segment": segment.to_numpy()}
    people = people.join(next_categories(buys, now, **today))
    people["move_chance"], moved = move_chances(model, training.snapshot.signals, now)
    people["value_12m"] = _a_year(people, snapshot, horizon_days=customers.period.horizon_days)
    people = people.reindex(columns=[*PEOPLE, *CATEGORIES])
    segment_table = segment_sums(people, segment, origins=origins, chosen=forecaster_by_target, model=model)
    return Prediction(
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=["segment", "customers", *SUMS, "value_12m"]),
        backtest=scores.assign(
            chosen=[
                forecaster_by_target.get(t) == f for t, f in zip(scores["target"], scores["forecaster"], strict=True)
            ]
        ),
        calibration=calibration(origins, chosen=forecaster_by_target) if origins else pd.DataFrame(columns=CALIBRATION),
        drivers=churn_drivers(training, stood),
        offers=next_offers(training, stood, now=now, segment_now=segment, period=customers.period),
        chosen=forecaster_by_target,
        reasons=_reasons(forecasts["model"], training, origins),
        figures=_figures(segment_table, scores, forecaster_by_target, origins)
        | moved
        | _hits(training_sets, origins, forecaster_by_target, model, seed=seed),
    )


def _hopeless(training_sets: list[Lesson], customers: Customers) -> str:
    """Why nothing can be foretold; "" where something can."""
    if not training_sets:
        first = pd.Timestamp(customers.days.rows.day.min().to_pandas()).date()
        period = customers.period
        return (
            f"learning needs {period.lookback_days + period.horizon_days} days of history (lookback and one horizon), "
            f"and there are {(period.as_of - first).days}. Give a shorter horizon_days or lookback_days"
        )
    training = training_sets[0]
    if len(training.snapshot.index) < FEWEST:
        return (
            f"{len(training.snapshot.index)} customers one horizon ago are too few to learn from: {FEWEST} are needed"
        )
    if not training.outcomes.active.any():
        return "nobody did anything in the last horizon: there is no outcome to learn. Check as_of and horizon_days"
    return ""


def _nothing(now: Signals, segment: pd.Series, *, why: str) -> Prediction:
    """The tables without a figure in them."""
    index = now.features.index
    people = pd.DataFrame(np.nan, index=index, columns=[*PEOPLE, *CATEGORIES])
    people = people.astype({name: object for name in CATEGORIES if not name.endswith("_chance")})
    sizes = pd.concat([pd.Series({EVERYONE: len(segment)}), segment.value_counts().sort_index()])
    segment_table = pd.DataFrame({"segment": sizes.index, "customers": sizes.to_numpy()})
    return Prediction(
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=["segment", "customers", *SUMS, "value_12m"]),
        backtest=_no_scores().assign(chosen=pd.Series(dtype=bool)),
        calibration=pd.DataFrame(columns=CALIBRATION),
        drivers=pd.DataFrame(columns=DRIVERS),
        offers=pd.DataFrame(columns=OFFERS),
        chosen={},
        reasons=(f"Nothing is foretold: {why}.",),
        figures={"forecast.reason": why},
    )


def _no_scores() -> pd.DataFrame:
    return pd.DataFrame(columns=[*COLUMNS, *LEADS, "verdict"])


def _amounts(
    forecasts: Mapping[str, Told], training: Lesson, *, forecaster_by_target: Mapping[str, str]
) -> pd.DataFrame:
    """By customer: each target as its chosen forecaster says it."""
    banded = {name: with_bands(forecasts[name], training) for name in sorted(set(forecaster_by_target.values()))}
    columns = {"active_chance": banded[forecaster_by_target["active"]]["chance"]}
    for target in training.amounts:
        for part in ("", "_mean", "_low", "_high"):
            columns[f"{target}{part}"] = banded[forecaster_by_target[target]][f"{target}{part}"]
    return pd.DataFrame(columns).reindex(columns=[c for c in PEOPLE if c not in ("move_chance", "value_12m")])


def _a_year(people: pd.DataFrame, snapshot: Known, *, horizon_days: int) -> pd.Series:
    """Twelve months of spend, extrapolated: the horizon's, as many times over as BG/NBD expects of the customer, which
    thins out as some drop away.
    """
    times = snapshot.bgnbd["horizons_a_year"].fillna(YEAR / horizon_days)
    return (people["spend_mean"] * times).round(6)


def _reasons(forecast: Told, training: Lesson, origins: list[Trial]) -> tuple[str, ...]:
    """What could not be said, and why."""
    found = [f"Chances: {forecast.reason}."] if forecast.reason else []
    if "orders" not in training.amounts:
        found.append("No orders are foretold: nothing the source holds was bought in the horizon that is learnt from.")
    elif "spend" not in training.amounts:
        found.append("No spend is foretold: the source carries no money.")
    if training.snapshot.signals.weights is None:
        found.append("No next category is foretold: the source carries no categories.")
    if not origins:
        found.append(
            "There is no back-test: it needs a lookback and two horizons of history. Intervals hold chance only, "
            "and whether the forecast beats a plain one is not known."
        )
    return tuple(found)


def _figures(
    segment_table: pd.DataFrame, scores: pd.DataFrame, forecaster_by_target: Mapping[str, str], origins: list[Trial]
) -> dict[str, object]:
    """The headline numbers: predict.active_share, predict.spend, ... with .low and .high; the back-test of who was
    chosen (predict.active.auc, ...) and of each rival (predict.classic.active.auc, ...); drift.
    """
    figures: dict[str, object] = {"forecast.reason": None, "forecast.origins": len(origins)}
    whole = segment_table.set_index("segment").loc[EVERYONE]
    for name in ("active_share", *AMOUNTS):
        total = Estimate(*(whole.get(f"{name}{p}", np.nan) for p in ("", "_low", "_high")))
        figures |= total.metrics(f"forecast.{name}")
    figures["forecast.value_12m"] = whole["value_12m"]
    for target, name in forecaster_by_target.items():
        figures[f"forecast.{target}.forecaster"] = LABELS[name]
    for row in scores.to_dict("records"):
        own = "" if row["forecaster"] == "model" else f"{row['forecaster']}."
        score = Estimate(row["value"], row["low"], row["high"])
        figures |= score.metrics(f"forecast.{own}{row['target']}.{row['measure']}")
    return figures | drift_figures(origins)


def _hits(
    training_sets: list[Lesson],
    origins: list[Trial],
    forecaster_by_target: Mapping[str, str],
    model: SegmentModel,
    *,
    seed: int,
) -> dict[str, float]:
    """The back-test of next categories, on the latest origin."""
    if not origins:
        return {}
    earlier = training_sets[1]
    placed = [place(model, each.snapshot.signals)["segment"].to_numpy() for each in (earlier, training_sets[0])]
    forecast = origins[0].forecasts[forecaster_by_target["active"]]
    learnt = learn_categories(earlier, chance=forecast.out_of_fold["chance"].to_numpy(), segment=placed[0], seed=seed)
    return category_hits(learnt, training_sets[0], chance=forecast.now["chance"].to_numpy(), segment=placed[1])
