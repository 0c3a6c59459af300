"""Forecast customers and sum the forecasts by segment."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from segkit.customers.features import CustomerData, Customers, customer_outcomes
from segkit.data.readiness import FEWEST_CUSTOMERS
from segkit.forecast.backtest import (
    BacktestOrigin,
    backtest_origins,
    base_rate_metrics,
    best_forecasters,
    calibration,
    make_forecasts,
    score_forecasters,
    with_lead_verdicts,
)
from segkit.forecast.baselines import FORECASTER_LABELS
from segkit.forecast.dates import OrderDates, predict_order_dates
from segkit.forecast.dormant import expect_dormant
from segkit.forecast.drivers import DRIVERS, churn_drivers
from segkit.forecast.model import (
    AMOUNTS,
    MIN_TRAINING_CUSTOMERS,
    ORIGINS,
    Forecast,
    Snapshot,
    TrainingSet,
    make_snapshot,
    make_training_sets,
    with_bands,
)
from segkit.forecast.offers import (
    OFFERS,
    category_accuracy,
    category_rules,
    learn_categories,
    move_chances,
    next_categories,
    next_offers,
)
from segkit.forecast.short_history import buying_backtest, forecast_from_buying
from segkit.forecast.tested import MIN_SEASON_CUSTOMERS, TESTED_AT, Backtested, find_errors, untested
from segkit.forecast.year import forecast_year
from segkit.format import FLOOR, joined
from segkit.segments.fit import TrainingWindows, first_active_day, has_history
from segkit.segments.model import SegmentModel, assign_segments
from segkit.stats import Z95, Estimate
from segkit.vocabulary import EVERYONE

CUSTOMER_COLUMNS = [
    "active_chance",
    *(f"{name}{part}" for name in AMOUNTS for part in ("", "_mean", "_low", "_high")),
    "move_chance",
    "value_12m",
]
CATEGORIES = [f"{name}{part}" for name in ("next_category", "next_category_2", "next_category_3", "new_category")
              for part in ("", "_chance")]  # fmt: skip
SEGMENT_COLUMNS = [f"{name}{part}" for name in ("active_share", *AMOUNTS) for part in ("", "_low", "_high", "_season")]
SEGMENT_COLUMNS += ["move_share", "move_share_low", "move_share_high"]  # chance only: moves are observed once
YEAR_VALUE = [f"value_12m{part}" for part in ("", "_low", "_high")]
SEGMENT_TABLE = ["segment", "customers", *SEGMENT_COLUMNS, "spend_change", *YEAR_VALUE]
NOBODY_ACTIVE = "nobody did anything in the last horizon: there is no outcome to learn. Check as_of and horizon_days"
MEDIAN = {"spend": "spend_median"}  # in the table of customers, next to spend_mean


def forecast_segments(
    predictions: pd.DataFrame, segment: pd.Series, *, errors: pd.DataFrame, chosen: Collection[str]
) -> pd.DataFrame:
    """Predict what each segment, and everyone together, does in the horizon.

    The interval has two parts. Chance: customers act independently; the size of their errors comes from the back-test,
    or without one from the chances and bands. Season: the error of segment sums beyond chance in the back-test.

    Parameters
    ----------
    predictions
        By customer_id.
    errors
        Of `find_errors`; empty without a back-test.
    chosen
        The targets that are predicted.

    Returns
    -------
    pd.DataFrame
        segment (and "all"), customers; active_share, move_share, orders and spend (sums; null where not known); each
        with _low, _high (95 %) and _season, the share of the variance that is season (null without a back-test).
        Intervals of moves are chance only.
    """
    groups = {EVERYONE: segment.index} | {name: part.index for name, part in segment.groupby(segment)}
    by_target = {str(target): rows for target, rows in errors.groupby("target")}
    rows = [
        {"segment": name, "customers": len(members)} | _segment_row(predictions.loc[members], by_target, chosen)
        for name, members in groups.items()
    ]
    return pd.DataFrame(rows).round(6)


def usual_change(training: TrainingSet, segment: pd.Series, *, customers: Customers) -> pd.Series:
    """Measure how spend changed from one horizon to the next for customers of each segment, one horizon ago.

    Small spenders drift up and large ones down by chance alone, and a season moves all: only what goes beyond this is
    a trend.

    Parameters
    ----------
    training
        Customers one horizon ago, and what they did since.
    segment
        Their segment then.
    customers
        Today's, with all their days.

    Returns
    -------
    pd.Series
        Spend in the horizon / spend in the horizon before it, by segment; null where fewer than twenty were in it.
    """
    after = training.outcomes.totals
    if "spend" not in after:
        return pd.Series(dtype=float)
    period = customers.period.one_horizon_back()
    dates = {"start": period.last_horizon_start, "horizon_days": period.horizon_days}
    before = customer_outcomes(customers.days.without_things(), **dates, index=after.index).totals
    sums = pd.DataFrame({"before": before["spend"], "after": after["spend"]}).groupby(segment).sum()
    enough = (segment.value_counts().reindex(sums.index) >= MIN_SEASON_CUSTOMERS) & (sums["before"] > 0)
    return (sums["after"] / sums["before"]).where(enough).round(6)


def forecast_per_customer(segments: pd.DataFrame) -> pd.DataFrame:
    """Turn the forecast of segments into that of one of their customers: the columns that it fills in ``segments``.

    Parameters
    ----------
    segments
        As returned by `forecast_segments`.

    Returns
    -------
    pd.DataFrame
        active_share_next and spend_next, each with _low and _high, and spend_change, by segment.
    """
    table = segments[segments["segment"] != EVERYONE].set_index("segment")
    columns = {}
    for part in ("", "_low", "_high"):
        columns[f"active_share_next{part}"] = table[f"active_share{part}"]
        columns[f"spend_next{part}"] = (table[f"spend{part}"] / table["customers"]).round(6)
    return pd.DataFrame({**columns, "spend_change": table["spend_change"]})


def _segment_row(part: pd.DataFrame, errors: Mapping[str, pd.DataFrame], chosen: Collection[str]) -> dict[str, float]:
    """Sum the forecasts of one segment, with intervals."""
    season = {target: None if (at := rows["season"].iloc[0]) != at else at for target, rows in errors.items()}
    row: dict[str, float] = {}
    chance = part["active_chance"]
    row |= _season_interval(
        "active_share", chance.mean(), np.sqrt((chance * (1 - chance)).sum()) / len(part), season.get("active")
    )
    for target in (each for each in ("orders", "spend") if each in chosen):
        expected = part[f"{target}_mean"].sum(min_count=1)
        spread = _chance_spread(part, target=target, errors=errors.get(target))
        row |= _season_interval(target, expected, spread, season.get(target))
    moves = part["move_chance"]
    row |= _season_interval("move_share", moves.mean(), np.sqrt((moves * (1 - moves)).sum()) / len(part), None)
    return row


def _chance_spread(part: pd.DataFrame, *, target: str, errors: pd.DataFrame | None) -> float:
    """Return the standard deviation, by chance, of a sum over customers.

    Errors grow with the prediction, so they are those of the back-test's customers with similar predictions; without a
    back-test they come from the bands.
    """
    if errors is None:
        return float(np.sqrt(np.square((part[f"{target}_high"] - part[f"{target}_low"]) / (2 * Z95)).sum()))
    at, off = errors["predicted"].to_numpy(), errors["error"].to_numpy()
    expected = part[f"{target}_mean"].to_numpy()
    beyond = np.maximum(expected / max(at[-1], 1e-12), 1.0)  # above the last block, errors grow with the prediction
    return float(np.sqrt(np.square(np.interp(expected, at, off) * beyond).sum()))


def _season_interval(name: str, at: float, spread: float, season: float | None) -> dict[str, float]:
    """Return a value, its interval, and the season's share of the variance.

    Shares stay within 0 and 1. Amounts are off by a factor, so their interval is that of a log-normal value: a wide one
    does not reach down to nothing.
    """
    if not np.isfinite(at):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_season"), np.nan)
    beyond = at * (season or 0.0)
    deviation = np.hypot(spread, beyond)
    if name.endswith("share") or at <= 0:
        low, high = max(at - Z95 * deviation, 0.0), min(at + Z95 * deviation, 1.0)
    else:
        factor = np.exp(Z95 * np.sqrt(np.log1p((deviation / at) ** 2)))
        low, high = at / factor, at * factor
    part = np.nan if season is None else beyond**2 / max(spread**2 + beyond**2, 1e-12)
    return {name: at, f"{name}_low": low, f"{name}_high": high, f"{name}_season": part}


@dataclass(frozen=True)
class Prediction:
    """Hold the forecast: its tables, the chosen forecaster of each target, and metrics.

    ``reasons`` lists what could not be predicted, and why; ``errors`` is what ``find_errors`` gives.
    """

    customers: pd.DataFrame
    segments: pd.DataFrame
    backtest: pd.DataFrame
    calibration: pd.DataFrame
    drivers: pd.DataFrame
    offers: pd.DataFrame
    chosen: dict[str, str]
    reasons: tuple[str, ...]
    metrics: dict[str, object]
    dates: OrderDates | None = None
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)


def predict(
    customers: Customers,
    training_windows: TrainingWindows,
    *,
    model: SegmentModel,
    segment: pd.Series,
    never: frozenset[str] = frozenset(),
    seed: int = 7,
    standing: Backtested | None = None,
    dates_tested: Mapping[str, object] | None = None,
) -> Prediction:
    """Predict the horizon after ``as_of``.

    Parameters
    ----------
    customers
        Today's customers; nothing on or after ``as_of`` is read.
    training_windows
        Customers one and two horizons ago.
    never
        Categories and words that are never offered.
    standing
        What the back-test of the last run showed, where it stands; by default it is made.
    dates_tested
        The same of order dates, as metrics.

    Returns
    -------
    Prediction
        Where nothing can be learnt, its tables have no figures, and ``reasons`` says why.
    """
    options = {"model": model, "segment": segment, "never": never, "seed": seed}
    found = _predict_horizon(customers, training_windows, **options, standing=standing)
    dates = predict_order_dates(customers, never=never, seed=seed, tested=dates_tested)
    dormant = expect_dormant(customers, season=_seasons(found.segments))
    found = replace(found, metrics=found.metrics | dates.metrics | dormant, dates=dates)
    return _with_year(replace(found, customers=found.customers.join(dates.customers)), customers, segment, model=model)


def _with_year(found: Prediction, customers: Customers, segment: pd.Series, *, model: SegmentModel) -> Prediction:
    """Add the spend of twelve months, by customer and by segment; at least that of the horizon."""
    year = forecast_year(customers)
    found = replace(found, metrics=found.metrics | year.metrics)
    if not year.origins:
        return found
    spend = np.fmax(year.spend, found.customers["spend_mean"]).round(6)
    people = pd.DataFrame({"spend_mean": spend, "active_chance": np.nan, "move_chance": np.nan})
    chosen = {"active": year.model, "spend": year.model}
    errors = find_errors(year.origins, chosen=chosen, model=model)
    sums = forecast_segments(people, segment.reindex(spend.index), errors=errors, chosen=chosen).set_index("segment")
    table = found.segments.assign(
        **{name: found.segments["segment"].map(sums[name.replace("value_12m", "spend")]) for name in YEAR_VALUE}
    )
    whole = Estimate(*sums.loc[EVERYONE, ["spend", "spend_low", "spend_high"]].astype(float))
    return replace(
        found,
        customers=found.customers.assign(value_12m=spend),
        segments=table,
        metrics=found.metrics | whole.metrics("forecast.year.spend"),
    )


def _seasons(segments: pd.DataFrame) -> dict[str, float]:
    """Return by outcome the standard deviation, by season, of what silent customers bring, as a share of it.

    A season multiplies the odds of coming, which are nearly the chance itself where chances are small; amounts move at
    least as much.
    """
    whole = segments.set_index("segment").loc[EVERYONE].astype(float)
    found = {}
    for name in AMOUNTS:
        if whole[f"{name}_low"] > 0:
            spread = np.log(whole[f"{name}_high"] / whole[f"{name}_low"]) / (2 * Z95)
            found[name] = float(np.sqrt(np.expm1(spread**2) * np.nan_to_num(whole[f"{name}_season"])))
    share = whole["active_share"]
    if 0 < share < 1:
        spread = (whole["active_share_high"] - whole["active_share_low"]) / (2 * Z95)
        found["active"] = float(spread / (share * (1 - share)) * np.sqrt(np.nan_to_num(whole["active_share_season"])))
    return {name: max(own, found.get("active", 0.0)) for name, own in found.items()}


def _predict_horizon(
    customers: Customers,
    training_windows: TrainingWindows,
    *,
    model: SegmentModel,
    segment: pd.Series,
    never: frozenset[str],
    seed: int,
    standing: Backtested | None,
) -> Prediction:
    """Predict activity and amounts of the horizon, what is bought in it, and who changes segment."""
    now, period, options = customers.data, customers.period, {"model": model, "never": never, "seed": seed}
    training_sets = make_training_sets(customers, training_windows, origins=0 if standing else ORIGINS)
    segment = segment.reindex(now.features.index)
    why = _missing_history(training_sets, customers)
    if training_sets and not training_sets[0].outcomes.active.any():
        return _empty_prediction(now, segment, why=NOBODY_ACTIVE)
    if why:
        return _predict_from_buying(customers, segment, model=model, why=why, seed=seed)
    snapshot, training = make_snapshot(customers), training_sets[0]
    forecasts = make_forecasts(training, snapshot, seed=seed, only=standing.chosen.values() if standing else None)
    if standing and not _stands(standing, forecasts, training):
        return _predict_horizon(customers, training_windows, segment=segment, standing=None, **options)
    tested = standing or _test(training_sets, forecasts, customers, **options)
    chosen, chance = tested.chosen, forecasts[tested.chosen["active"]].out_of_fold["chance"].to_numpy()
    earlier_segment = assign_segments(model, training.snapshot.data)["segment"]
    people = _chosen_forecasts(forecasts, training, forecaster_by_target=chosen)
    learning = {"segment": earlier_segment.to_numpy(), "never": never, "seed": seed}
    category_model = learn_categories(training, chance=chance, **learning)
    today = {"chance": people["active_chance"].to_numpy(), "segment": segment.to_numpy()}
    people = people.join(next_categories(category_model, now, **today, rules=category_rules(tested.metrics)))
    people["move_chance"], moved = move_chances(model, training.snapshot.data, now)
    people = people.reindex(columns=[*CUSTOMER_COLUMNS, *CATEGORIES])
    segment_table = forecast_segments(people, segment, errors=tested.errors, chosen=chosen)
    change = usual_change(training, earlier_segment, customers=customers)
    segment_table["spend_change"] = segment_table["segment"].map(change).astype(float)
    return Prediction(
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=SEGMENT_TABLE),
        backtest=tested.scores,
        calibration=tested.calibration,
        drivers=churn_drivers(training, earlier_segment),
        offers=next_offers(training, earlier_segment, now=now, segment_now=segment, period=period, never=never),
        chosen=chosen,
        reasons=_missing_forecasts(forecasts, training, tested),
        metrics=_forecast_metrics(segment_table, tested) | (moved | _cancelled(snapshot, training)),
        errors=tested.errors,
    )


def _stands(standing: Backtested, forecasts: Mapping[str, Forecast], training: TrainingSet) -> bool:
    """Return whether today has the targets of an earlier back-test, and the forecasters that it chose."""
    return set(standing.chosen.values()) <= set(forecasts) and set(standing.chosen) == {"active", *training.amounts}


def _test(
    training_sets: list[TrainingSet],
    forecasts: Mapping[str, Forecast],
    customers: Customers,
    *,
    model: SegmentModel,
    never: frozenset[str],
    seed: int,
) -> Backtested:
    """Back-test the forecast and its baselines, choose one for each target, and measure its errors."""
    origins = backtest_origins(training_sets, seed=seed)
    scores = with_lead_verdicts(score_forecasters(origins, seed=seed)) if origins else untested().scores
    best = {target: name for target, name in best_forecasters(scores).items() if name in forecasts}
    chosen = {target: best.get(target, "model") for target in ("active", *training_sets[0].amounts)}
    metrics = {"forecast.origins": len(origins)} | base_rate_metrics(origins)
    if origins:
        metrics |= {TESTED_AT: customers.period.as_of.isoformat()}
        metrics |= _category_accuracy(training_sets, origins, chosen, model, never=never, seed=seed)
    tested = origins or buying_backtest(customers, seed=seed)  # the error of a simpler model stands for ours
    return Backtested(
        scores.assign(chosen=scores["target"].map(chosen) == scores["forecaster"]),
        calibration(origins, chosen=chosen) if origins else untested().calibration,
        find_errors(tested, chosen=chosen, model=model),
        metrics=metrics,
        chosen=chosen,
    )


def _cancelled(now: Snapshot, training: TrainingSet) -> dict[str, float]:
    """Count who has cancelled and bought nothing since, and how many of such customers came back a horizon ago."""
    if now.cancelled is None or not now.cancelled.any():
        return {}
    then = training.snapshot.cancelled
    returned = float(training.outcomes.active[then].mean()) if then.sum() >= FLOOR else np.nan
    return {"forecast.cancelled": int(now.cancelled.sum()), "forecast.cancelled_returned": returned}


def _missing_history(training_sets: list[TrainingSet], customers: Customers) -> str:
    """Explain why nothing can be predicted; empty where something can."""
    period = customers.period
    if not training_sets and has_history(customers.days, period=period.one_horizon_back()):
        return (
            f"fewer than {FEWEST_CUSTOMERS} customers one horizon ago are too few to learn from: "
            f"{MIN_TRAINING_CUSTOMERS} are needed"
        )
    if not training_sets:
        first = first_active_day(customers.days)
        return (
            f"learning needs {period.lookback_days + period.horizon_days} days of history (lookback and one horizon), "
            f"and there are {(period.as_of - first).days}"
        )
    training = training_sets[0]
    if len(training.snapshot.index) < MIN_TRAINING_CUSTOMERS:
        return (
            f"{len(training.snapshot.index)} customers one horizon ago are too few to learn from: "
            f"{MIN_TRAINING_CUSTOMERS} are needed"
        )
    return ""


def _predict_from_buying(
    customers: Customers, segment: pd.Series, *, model: SegmentModel, why: str, seed: int
) -> Prediction:
    """Predict with a model of repeat buying, where nothing can be learnt."""
    empty = _empty_prediction(customers.data, segment, why=why)
    found = forecast_from_buying(customers, seed=seed)
    if "model" not in found.banded:
        return empty
    scores = with_lead_verdicts(score_forecasters(found.origins, seed=seed)) if found.origins else untested().scores
    scores["label"] = scores["forecaster"].map(found.models)
    best = best_forecasters(scores)
    targets = [each for each in ("active", *AMOUNTS) if each == "active" or each in found.banded["model"]]
    chosen = {target: best.get(target, "model") for target in targets}
    people = _columns_of(found.banded, chosen=chosen)
    people = empty.customers.rename(columns={after: before for before, after in MEDIAN.items()}).assign(**people)
    tested = Backtested(
        scores.assign(chosen=scores["target"].map(chosen) == scores["forecaster"]),
        calibration(found.origins, chosen=chosen) if found.origins else empty.calibration,
        find_errors(found.origins, chosen=chosen, model=model),
        metrics={"forecast.origins": len(found.origins)} | base_rate_metrics(found.origins),
        chosen=chosen,
    )
    segment_table = forecast_segments(people, segment, errors=tested.errors, chosen=chosen)
    used = joined(sorted({found.models[name] for name in chosen.values()}))
    return replace(
        empty,
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=SEGMENT_TABLE),
        backtest=tested.scores,
        calibration=tested.calibration,
        chosen=chosen,
        reasons=_short_history_reasons(used, why=why, tested=bool(found.origins)),
        metrics=_forecast_metrics(segment_table, tested, labels=found.models),
        errors=tested.errors,
    )


def _short_history_reasons(used: str, *, why: str, tested: bool) -> tuple[str, ...]:
    """Name the model that made the forecast, and what is missing."""
    first = f"This forecast is {used}, a standard model of repeat buying: {why}."
    if tested:
        return (first,)
    return first, (
        "There is no back-test: it needs more than one horizon of history. Ranges are those of the model, so a change "
        "of season can leave them."
    )


def _empty_prediction(now: CustomerData, segment: pd.Series, *, why: str) -> Prediction:
    """Return the tables without figures."""
    index = now.features.index
    people = pd.DataFrame(np.nan, index=index, columns=[*CUSTOMER_COLUMNS, *CATEGORIES])
    people = people.astype({name: object for name in CATEGORIES if not name.endswith("_chance")})
    sizes = pd.concat([pd.Series({EVERYONE: len(segment)}), segment.value_counts().sort_index()])
    segment_table = pd.DataFrame({"segment": sizes.index, "customers": sizes.to_numpy()})
    return Prediction(
        customers=people.rename(columns=MEDIAN),
        segments=segment_table.reindex(columns=SEGMENT_TABLE),
        backtest=untested().scores,
        calibration=untested().calibration,
        drivers=pd.DataFrame(columns=DRIVERS),
        offers=pd.DataFrame(columns=OFFERS),
        chosen={},
        reasons=(f"Nothing is predicted: {why}.",),
        metrics={"forecast.reason": why},
    )


def _chosen_forecasts(
    forecasts: Mapping[str, Forecast], training: TrainingSet, *, forecaster_by_target: Mapping[str, str]
) -> pd.DataFrame:
    """Take each target from its chosen forecaster, by customer."""
    banded = {name: with_bands(forecasts[name], training) for name in sorted(set(forecaster_by_target.values()))}
    columns = _columns_of(banded, chosen=forecaster_by_target)
    return pd.DataFrame(columns).reindex(columns=[c for c in CUSTOMER_COLUMNS if c not in ("move_chance", "value_12m")])


def _columns_of(banded: Mapping[str, pd.DataFrame], *, chosen: Mapping[str, str]) -> dict[str, pd.Series]:
    """Return the columns of each target from its chosen forecaster."""
    columns = {"active_chance": banded[chosen["active"]]["chance"]}
    for target in (each for each in AMOUNTS if each in chosen):
        for part in ("", "_mean", "_low", "_high"):
            columns[f"{target}{part}"] = banded[chosen[target]][f"{target}{part}"]
    return columns


def _missing_forecasts(forecasts: Mapping[str, Forecast], training: TrainingSet, tested: Backtested) -> tuple[str, ...]:
    """List what could not be predicted, and why; errors without a back-test are those of a simpler model."""
    reason = forecasts["model"].reason if "model" in forecasts else ""
    found = [f"Chances: {reason}."] if reason else []
    features = training.snapshot.data.features
    if "orders" not in training.amounts and "orders" in features:
        found.append("No orders are predicted: nobody bought anything in the horizon that is learnt from.")
    elif "spend" not in training.amounts and "orders" in features:
        refunded = "nobody spent more than was returned in the horizon that is learnt from"
        found.append(f"No spend is predicted: {refunded if 'spend' in features else 'the source carries no money'}.")
    if training.snapshot.data.weights is None:
        found.append("No next category is predicted: the source carries no categories.")
    if tested.scores.empty:
        found.append(
            "There is no back-test: it needs a lookback and two horizons of history, so whether the forecast beats a "
            "simple one is not known. Ranges "
            + ("hold chance only." if tested.errors.empty else "are as wide as the errors of BG/NBD one horizon ago.")
        )
    return tuple(found)


def _forecast_metrics(
    segment_table: pd.DataFrame, tested: Backtested, *, labels: Mapping[str, str] = FORECASTER_LABELS
) -> dict[str, object]:
    """Collect the metrics of the forecast.

    ``forecast.active_share``, ``forecast.spend``, ... with ``.low`` and ``.high``; the scores of the model
    (``forecast.active.auc``) and of each baseline (``forecast.classic.active.auc``); those of the back-test.
    """
    metrics: dict[str, object] = {"forecast.reason": None}
    whole = segment_table.set_index("segment").loc[EVERYONE]
    for name in ("active_share", *AMOUNTS):
        total = Estimate(*(whole.get(f"{name}{p}", np.nan) for p in ("", "_low", "_high")))
        metrics |= total.metrics(f"forecast.{name}")
    for target, name in tested.chosen.items():
        metrics[f"forecast.{target}.forecaster"] = labels[name]
    for row in tested.scores.to_dict("records"):
        own = "" if row["forecaster"] == "model" else f"{row['forecaster']}."
        score = Estimate(row["value"], row["low"], row["high"])
        metrics |= score.metrics(f"forecast.{own}{row['target']}.{row['measure']}")
    return metrics | tested.metrics


def _category_accuracy(
    training_sets: list[TrainingSet],
    origins: list[BacktestOrigin],
    forecaster_by_target: Mapping[str, str],
    model: SegmentModel,
    *,
    never: frozenset[str],
    seed: int,
) -> dict[str, float | str]:
    """Back-test the next categories at the latest origin."""
    earlier = training_sets[1]
    placed = [assign_segments(model, each.snapshot.data)["segment"].to_numpy() for each in (earlier, training_sets[0])]
    forecast = origins[0].forecasts[forecaster_by_target["active"]]
    chance = forecast.out_of_fold["chance"].to_numpy()
    learnt = learn_categories(earlier, chance=chance, segment=placed[0], never=never, seed=seed)
    return category_accuracy(learnt, training_sets[0], chance=forecast.now["chance"].to_numpy(), segment=placed[1])
