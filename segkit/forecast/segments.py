"""Forecast customers and sum the forecasts by segment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.features import CustomerData, Customers
from segkit.forecast.backtest import (
    BACKTEST_COLUMNS,
    LEADS,
    BacktestOrigin,
    backtest_origins,
    base_rate_metrics,
    best_forecasters,
    calibration,
    make_forecasts,
    origins_with,
    score_forecasters,
    with_lead_verdicts,
)
from segkit.forecast.model import (
    AMOUNTS,
    FORECASTER_LABELS,
    MIN_TRAINING_CUSTOMERS,
    YEAR,
    Forecast,
    Snapshot,
    TrainingSet,
    known_of,
    make_training_sets,
    with_bands,
)
from segkit.forecast.offers import (
    DRIVERS,
    OFFERS,
    category_accuracy,
    churn_drivers,
    learn_categories,
    move_chances,
    next_categories,
    next_offers,
)
from segkit.segments.fit import TrainingWindows
from segkit.segments.model import SegmentModel, assign_segments
from segkit.stats import Z95, Estimate
from segkit.vocabulary import EVERYONE

MIN_SEASON_CUSTOMERS = 20  # customers of a segment, before its miss in a back-test tells of the season
ERROR_BLOCKS = 20  # of customers by what was promised, between which the size of errors is drawn


def forecast_segments(
    predictions: pd.DataFrame,
    segment: pd.Series,
    *,
    origins: Sequence[BacktestOrigin],
    chosen: Mapping[str, str],
    model: SegmentModel,
) -> pd.DataFrame:
    """What each segment, and everyone together, is expected to do in the horizon.

    The interval has two parts. Chance: customers do as they like, each by themselves; their spread is read off the
    back-test, or where there is none off the chances and bands. Season: by how much the sums of segments were missed,
    beyond chance, in the back-test: as far off, in either direction, as it was then.

    Takes  predictions: by customer_id; segment of each; trials: of the back-test, or none; model: places customers of
           earlier dates
    Gives  segment (and "all"), customers; active_share, move_share, orders, spend (sums) and value_12m (null where not
           known); each with _low, _high (95 %) and _season, the part of the variance that season is (null without a
           back-test). Of moves the interval is chance only, of value_12m there is none: a year cannot be tested
    """
    groups = {EVERYONE: segment.index} | {name: part.index for name, part in segment.groupby(segment)}
    missed = season_errors(origins, chosen=chosen, model=model)
    rows = [
        {"segment": name, "customers": len(members)} | _segment_row(predictions.loc[members], missed, origins, chosen)
        for name, members in groups.items()
    ]
    return pd.DataFrame(rows).round(6)


def season_errors(
    origins: Sequence[BacktestOrigin], *, chosen: Mapping[str, str], model: SegmentModel
) -> dict[str, float]:
    """How far sums of segments were off in the back-test, beyond chance: the root mean square of came / promised - 1,
    less what chance alone would do. Not there without a back-test.
    """
    found = {}
    for target, name in chosen.items() if origins else ():
        squares, weights = [], []
        for origin in origins_with(origins, target=target, name=name):
            placed = assign_segments(model, origin.snapshot.signals)["segment"].to_numpy()
            predicted, observed = origin.predicted(target, name), origin.observed(target)
            for group in [*np.unique(placed), None]:
                inside = placed == group if group is not None else np.ones(len(placed), dtype=bool)
                if inside.sum() < MIN_SEASON_CUSTOMERS or predicted[inside].sum() <= 0:
                    continue
                off = observed[inside].sum() / predicted[inside].sum() - 1
                chance = np.square(observed - predicted)[inside].sum() / predicted[inside].sum() ** 2
                squares.append(off**2 - chance)
                weights.append(predicted[inside].sum())
        if weights:
            found[target] = float(np.sqrt(max(np.average(squares, weights=weights), 0.0)))
    return found


def _segment_row(
    part: pd.DataFrame, missed: Mapping[str, float], origins: Sequence[BacktestOrigin], chosen: Mapping[str, str]
) -> dict[str, float]:
    row: dict[str, float] = {}
    chance = part["active_chance"]
    row |= _season_interval(
        "active_share", chance.mean(), np.sqrt((chance * (1 - chance)).sum()) / len(part), missed.get("active")
    )
    for target in (each for each in ("orders", "spend") if each in chosen):
        expected = part[f"{target}_mean"].sum(min_count=1)
        spread = _chance_spread(part, target=target, origins=origins, chosen=chosen)
        row |= _season_interval(target, expected, spread, missed.get(target))
    moves = part["move_chance"]
    row |= _season_interval("move_share", moves.mean(), np.sqrt((moves * (1 - moves)).sum()) / len(part), None)
    row["value_12m"] = part["value_12m"].sum(min_count=1)
    return row


def _chance_spread(
    part: pd.DataFrame, *, target: str, origins: Sequence[BacktestOrigin], chosen: Mapping[str, str]
) -> float:
    """Standard deviation, by chance, of a sum over customers: errors grow with the size of what is expected, so they
    are taken from the back-test's customers of the most similar expectation; without one from the bands.
    """
    origins = origins_with(origins, target=target, name=chosen[target])
    if not origins:
        return float(np.sqrt(np.square((part[f"{target}_high"] - part[f"{target}_low"]) / (2 * Z95)).sum()))
    predicted = np.concatenate([origin.predicted(target, chosen[target]) for origin in origins])
    observed = np.concatenate([trial.observed(target) for trial in origins])
    blocks = [rows for rows in np.array_split(np.argsort(predicted, kind="stable"), ERROR_BLOCKS) if len(rows)]
    at = np.array([predicted[rows].mean() for rows in blocks])
    off = np.array([np.sqrt(np.square((observed - predicted)[rows]).mean()) for rows in blocks])
    expected = part[f"{target}_mean"].to_numpy()
    beyond = np.maximum(expected / max(at[-1], 1e-12), 1.0)  # above the last block errors grow with what is expected
    return float(np.sqrt(np.square(np.interp(expected, at, off) * beyond).sum()))


def _season_interval(name: str, at: float, spread: float, season: float | None) -> dict[str, float]:
    """The figure, its interval, and the part of the half-width squared that is season; a share stays within 0 and 1."""
    if not np.isfinite(at):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_season"), np.nan)
    beyond = at * (season or 0.0)
    half = Z95 * np.hypot(spread, beyond)
    high = min(at + half, 1.0) if name.endswith("share") else at + half
    part = np.nan if season is None else beyond**2 / max(spread**2 + beyond**2, 1e-12)
    return {name: at, f"{name}_low": max(at - half, 0.0), f"{name}_high": high, f"{name}_season": part}


CUSTOMER_COLUMNS = [
    "active_chance",
    *(f"{name}{part}" for name in AMOUNTS for part in ("", "_mean", "_low", "_high")),
    "move_chance",
    "value_12m",
]
CATEGORIES = [f"{name}{part}" for name in ("next_category", "next_category_2", "next_category_3", "new_category")
              for part in ("", "_chance")]  # fmt: skip
SEGMENT_COLUMNS = [f"{name}{part}" for name in ("active_share", *AMOUNTS) for part in ("", "_low", "_high", "_season")]
SEGMENT_COLUMNS += ["move_share", "move_share_low", "move_share_high"]  # chance only: moves were seen once
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
    training_signals: TrainingWindows,
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
    now, training_sets = customers.signals, make_training_sets(customers, training_signals)
    segment = segment.reindex(now.features.index)
    why = _missing_history(training_sets, customers)
    if why:
        return _empty_prediction(now, segment, why=why)
    snapshot, training = known_of(customers), training_sets[0]
    origins = backtest_origins(training_sets, seed=seed)
    scores = with_lead_verdicts(score_forecasters(origins, seed=seed)) if origins else _empty_scores()
    forecasts = make_forecasts(training, snapshot, seed=seed)
    won = best_forecasters(scores) if origins else {}
    forecaster_by_target = {target: won.get(target, "model") for target in ("active", *training.amounts)}
    forecaster_by_target = {
        target: name if name in forecasts else "model" for target, name in forecaster_by_target.items()
    }
    stood = assign_segments(model, training.snapshot.signals)["segment"]
    people = _chosen_forecasts(forecasts, training, forecaster_by_target=forecaster_by_target)
    chance = forecasts[forecaster_by_target["active"]].out_of_fold["chance"].to_numpy()
    buys = learn_categories(training, chance=chance, segment=stood.to_numpy(), seed=seed)
    today = {"chance": people["active_chance"].to_numpy(), "segment": segment.to_numpy()}
    people = people.join(next_categories(buys, now, **today))
    people["move_chance"], moved = move_chances(model, training.snapshot.signals, now)
    people["value_12m"] = _yearly_spend(people, snapshot, horizon_days=customers.period.horizon_days)
    people = people.reindex(columns=[*CUSTOMER_COLUMNS, *CATEGORIES])
    segment_table = forecast_segments(people, segment, origins=origins, chosen=forecaster_by_target, model=model)
    return Prediction(
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=["segment", "customers", *SEGMENT_COLUMNS, "value_12m"]),
        backtest=scores.assign(
            chosen=[
                forecaster_by_target.get(t) == f for t, f in zip(scores["target"], scores["forecaster"], strict=True)
            ]
        ),
        calibration=calibration(origins, chosen=forecaster_by_target) if origins else pd.DataFrame(columns=CALIBRATION),
        drivers=churn_drivers(training, stood),
        offers=next_offers(training, stood, now=now, segment_now=segment, period=customers.period),
        chosen=forecaster_by_target,
        reasons=_missing_forecasts(forecasts["model"], training, origins),
        figures=_forecast_metrics(segment_table, scores, forecaster_by_target, origins)
        | moved
        | _category_accuracy(training_sets, origins, forecaster_by_target, model, seed=seed),
    )


def _missing_history(training_sets: list[TrainingSet], customers: Customers) -> str:
    """Why nothing can be foretold; "" where something can."""
    if not training_sets:
        first = pd.Timestamp(customers.days.rows.day.min().to_pandas()).date()
        period = customers.period
        return (
            f"learning needs {period.lookback_days + period.horizon_days} days of history (lookback and one horizon), "
            f"and there are {(period.as_of - first).days}. Give a shorter horizon_days or lookback_days"
        )
    training = training_sets[0]
    if len(training.snapshot.index) < MIN_TRAINING_CUSTOMERS:
        return f"{len(training.snapshot.index)} customers one horizon ago are too few to learn from: {MIN_TRAINING_CUSTOMERS} are needed"
    if not training.outcomes.active.any():
        return "nobody did anything in the last horizon: there is no outcome to learn. Check as_of and horizon_days"
    return ""


def _empty_prediction(now: CustomerData, segment: pd.Series, *, why: str) -> Prediction:
    """The tables without a figure in them."""
    index = now.features.index
    people = pd.DataFrame(np.nan, index=index, columns=[*CUSTOMER_COLUMNS, *CATEGORIES])
    people = people.astype({name: object for name in CATEGORIES if not name.endswith("_chance")})
    sizes = pd.concat([pd.Series({EVERYONE: len(segment)}), segment.value_counts().sort_index()])
    segment_table = pd.DataFrame({"segment": sizes.index, "customers": sizes.to_numpy()})
    return Prediction(
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=["segment", "customers", *SEGMENT_COLUMNS, "value_12m"]),
        backtest=_empty_scores().assign(chosen=pd.Series(dtype=bool)),
        calibration=pd.DataFrame(columns=CALIBRATION),
        drivers=pd.DataFrame(columns=DRIVERS),
        offers=pd.DataFrame(columns=OFFERS),
        chosen={},
        reasons=(f"Nothing is foretold: {why}.",),
        figures={"forecast.reason": why},
    )


def _empty_scores() -> pd.DataFrame:
    return pd.DataFrame(columns=[*BACKTEST_COLUMNS, *LEADS, "verdict"])


def _chosen_forecasts(
    forecasts: Mapping[str, Forecast], training: TrainingSet, *, forecaster_by_target: Mapping[str, str]
) -> pd.DataFrame:
    """By customer: each target as its chosen forecaster says it."""
    banded = {name: with_bands(forecasts[name], training) for name in sorted(set(forecaster_by_target.values()))}
    columns = {"active_chance": banded[forecaster_by_target["active"]]["chance"]}
    for target in training.amounts:
        for part in ("", "_mean", "_low", "_high"):
            columns[f"{target}{part}"] = banded[forecaster_by_target[target]][f"{target}{part}"]
    return pd.DataFrame(columns).reindex(columns=[c for c in CUSTOMER_COLUMNS if c not in ("move_chance", "value_12m")])


def _yearly_spend(people: pd.DataFrame, snapshot: Snapshot, *, horizon_days: int) -> pd.Series:
    """Twelve months of spend, extrapolated: the horizon's, as many times over as BG/NBD expects of the customer, which
    thins out as some drop away.
    """
    times = snapshot.bgnbd["horizons_a_year"].fillna(YEAR / horizon_days)
    return (people["spend_mean"] * times).round(6)


def _missing_forecasts(forecast: Forecast, training: TrainingSet, origins: list[BacktestOrigin]) -> tuple[str, ...]:
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


def _forecast_metrics(
    segment_table: pd.DataFrame,
    scores: pd.DataFrame,
    forecaster_by_target: Mapping[str, str],
    origins: list[BacktestOrigin],
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
        figures[f"forecast.{target}.forecaster"] = FORECASTER_LABELS[name]
    for row in scores.to_dict("records"):
        own = "" if row["forecaster"] == "model" else f"{row['forecaster']}."
        score = Estimate(row["value"], row["low"], row["high"])
        figures |= score.metrics(f"forecast.{own}{row['target']}.{row['measure']}")
    return figures | base_rate_metrics(origins)


def _category_accuracy(
    training_sets: list[TrainingSet],
    origins: list[BacktestOrigin],
    forecaster_by_target: Mapping[str, str],
    model: SegmentModel,
    *,
    seed: int,
) -> dict[str, float]:
    """The back-test of next categories, on the latest origin."""
    if not origins:
        return {}
    earlier = training_sets[1]
    placed = [
        assign_segments(model, each.snapshot.signals)["segment"].to_numpy() for each in (earlier, training_sets[0])
    ]
    forecast = origins[0].forecasts[forecaster_by_target["active"]]
    learnt = learn_categories(earlier, chance=forecast.out_of_fold["chance"].to_numpy(), segment=placed[0], seed=seed)
    return category_accuracy(learnt, training_sets[0], chance=forecast.now["chance"].to_numpy(), segment=placed[1])
