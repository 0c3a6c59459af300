"""The back-test: what the forecast and its rivals would have said one horizon ago and earlier, against what came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.features import Outcomes
from segkit.forecast.model import (
    FORECASTER_LABELS,
    MIN_TRAINING_CUSTOMERS,
    Forecast,
    Snapshot,
    TrainingSet,
    forecast_customers,
    make_baselines,
    with_bands,
)
from segkit.segments.scoring import lead_verdict
from segkit.stats import Z95, Estimate, auc, bootstrap_interval, mean_interval, proportion_interval, quantile_edges

CALIBRATION_BINS = 10  # of equal number, in which promised and came are compared
BOOTSTRAP_DRAWS = 400
DECISIVE = {"active": "brier", "orders": "mae", "spend": "mae"}  # the error that decides who says a target
BACKTEST_COLUMNS = ["target", "measure", "forecaster", "label", "customers", "origins", "value", "low", "high"]
LEADS = ["lead", "lead_low", "lead_high"]


@dataclass(frozen=True)
class BacktestOrigin:
    """One origin: what each forecaster said of its customers (`told`: with bands), what came, and the lesson that was
    learnt from.
    """

    forecasts: dict[str, Forecast]
    banded: dict[str, pd.DataFrame]
    outcomes: Outcomes
    snapshot: Snapshot
    training: TrainingSet

    def values(self, name: str) -> np.ndarray:
        return TrainingSet(self.snapshot, self.outcomes).values(name)

    def observed(self, target: str) -> np.ndarray:
        """What each customer did: whether they came, or how much."""
        return self.outcomes.active.astype(float) if target == "active" else self.values(target)

    def predicted(self, target: str, name: str) -> np.ndarray:
        """What a forecaster expected of each customer, as it adds up: the chance, or the mean."""
        return self.banded[name]["chance" if target == "active" else f"{target}_mean"].to_numpy()


def origins_with(origins: Sequence[BacktestOrigin], *, target: str, name: str) -> list[BacktestOrigin]:
    """The trials in which a forecaster said a target."""
    column = "chance" if target == "active" else f"{target}_mean"
    return [origin for origin in origins if column in origin.banded.get(name, ())]


def make_forecasts(training: TrainingSet, now: Snapshot, *, seed: int = 7) -> dict[str, Forecast]:
    """The forecast and its rivals, learnt from one lesson and told of the same customers."""
    return {"model": forecast_customers(training, now, seed=seed), **make_baselines(training, now)}


def backtest_origins(training_sets: Sequence[TrainingSet], *, seed: int = 7) -> list[BacktestOrigin]:
    """Rolling origins: learn from each lesson but the first, and say what came in the one after it.

    Takes  lessons, the latest first, a horizon apart
    Gives  a Trial for each origin; none where history holds one lesson only
    """
    found = []
    for after, training in zip(training_sets[:-1], training_sets[1:], strict=True):
        if min(len(training.snapshot.index), len(after.snapshot.index)) < MIN_TRAINING_CUSTOMERS:
            break
        forecasts = make_forecasts(training, after.snapshot, seed=seed)
        banded = {name: with_bands(each, training) for name, each in forecasts.items()}
        found.append(
            BacktestOrigin(forecasts, banded, outcomes=after.outcomes, snapshot=after.snapshot, training=training)
        )
    return found


def score_forecasters(
    origins: Sequence[BacktestOrigin], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 7
) -> pd.DataFrame:
    """Judge forecasters on all origins together.

    Takes  trials, at least one
    Gives  a row for each target (active, orders, spend), measure and forecaster: value, low, high (95 %, customers
           resampled), and lead, lead_low, lead_high: by how much the forecast is better, in pairs (below zero: worse).
           Measures: auc (0.5 is chance); ece (mean gap of promised and came in ten bins of equal number); brier (mean
           squared error of the chance); mae (of the median); total (sum of means over what came, less one); coverage
           (share inside the band)

    Parameters
    ----------
    draws : resamplings of the customers
    """
    ids = np.concatenate([origin.snapshot.index.to_numpy() for origin in origins])
    codes, people = pd.factorize(ids)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    counts = np.vstack([np.ones(len(people)), drawn])[:, codes]
    rows: list[dict[str, object]] = []
    for target, measures in _measures(origins).items():
        for measure, score in measures.items():
            found = {name: score(name, counts) for name in origins[0].banded if all(name in t.banded for t in origins)}
            for name, values in found.items():
                head = {"target": target, "measure": measure, "forecaster": name, "label": FORECASTER_LABELS[name]}
                head |= {"customers": len(people), "origins": len(origins)}
                rows.append(
                    head
                    | _bootstrap_interval("value", values)
                    | _lead_over_baseline(measure, ours=found["model"], theirs=values)
                )
    names = {"value_low": "low", "value_high": "high"}
    return pd.DataFrame(rows).rename(columns=names)[[*BACKTEST_COLUMNS, *LEADS]].round(9)


def best_forecasters(scores: pd.DataFrame) -> dict[str, str]:
    """Who says each target: the forecast, unless a rival's error in the back-test is as small or smaller."""
    found = {}
    for target, measure in DECISIVE.items():
        own = scores[(scores["target"] == target) & (scores["measure"] == measure)]
        if len(own):
            errors = own.set_index("forecaster")["value"].sort_values(kind="stable")
            beaten = (errors.drop("model") <= errors["model"]).any()
            found[target] = str(errors.drop("model").index[0]) if beaten else "model"
    return found


def with_lead_verdicts(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with `verdict`: the forecast against that rival, where the 95 % interval of its lead says."""
    verdicts = [lead_verdict(low, high) for low, high in zip(scores["lead_low"], scores["lead_high"], strict=True)]
    return scores.assign(verdict=np.where(scores["forecaster"] == "model", "", verdicts))


def calibration(origins: Sequence[BacktestOrigin], *, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Promised against came, in ten groups of equal number by what was promised.

    Takes  trials; chosen: who says each target
    Gives  target, group, customers, predicted, observed, low, high (95 %); of orders and spend, means of customers
    """
    rows = []
    for target, name in chosen.items():
        tested = origins_with(origins, target=target, name=name)
        if not tested:
            continue
        predicted = np.concatenate([origin.predicted(target, name) for origin in tested])
        observed = np.concatenate([trial.observed(target) for trial in tested])
        for group, inside in enumerate(_equal_bins(predicted)):
            part = observed[inside]
            at = proportion_interval(part.sum(), len(part)) if target == "active" else mean_interval(pd.Series(part))
            rows.append((target, group + 1, len(part), predicted[inside].mean(), *at))
    columns = ["target", "group", "customers", "predicted", "observed", "low", "high"]
    return pd.DataFrame(rows, columns=columns).round(9)


def base_rate_metrics(origins: Sequence[BacktestOrigin]) -> dict[str, float]:
    """How the base rate moved at the latest origin: what came in the horizon learnt from, and in the one judged."""
    if not origins:
        return {}
    latest = origins[0]
    before, after = latest.training.outcomes.active, latest.outcomes.active
    figures = {}
    for name, observed in (("learnt", before), ("observed", after)):
        figures |= proportion_interval(observed.sum(), len(observed)).metrics(f"forecast.drift.active_{name}")
    gap = after.mean() - before.mean()
    half = Z95 * np.sqrt(sum(came.mean() * (1 - came.mean()) / len(came) for came in (before, after)))
    figures |= Estimate.around(gap, half=half).metrics("forecast.drift.active")
    for target in latest.training.amounts:
        for name, values in (("learnt", latest.training.values(target)), ("observed", latest.values(target))):
            figures |= mean_interval(pd.Series(values)).metrics(f"forecast.drift.{target}_{name}")
    return figures


def _measures(origins: Sequence[BacktestOrigin]) -> dict[str, dict[str, object]]:
    """target -> measure -> function of a forecaster's name and the counts, which gives a score for each row of them."""

    def predictions(name: str, column: str) -> np.ndarray:
        return np.concatenate([origin.banded[name][column].to_numpy() for origin in origins])

    active = np.concatenate([trial.outcomes.active for trial in origins]).astype(float)
    found: dict[str, dict[str, object]] = {
        "active": {
            "auc": lambda name, counts: auc(predictions(name, "chance"), active, counts=counts),
            "ece": lambda name, counts: _expected_calibration_error(predictions(name, "chance"), active, counts),
            "brier": lambda name, counts: _mean(np.square(predictions(name, "chance") - active), counts),
        }
    }
    for target in set.intersection(*(set(trial.training.amounts) for trial in origins)):
        found[target] = _amount_measures(
            predictions, target, np.concatenate([trial.values(target) for trial in origins])
        )
    return {target: found[target] for target in DECISIVE if target in found}


def _amount_measures(predicted: object, target: str, observed: np.ndarray) -> dict[str, object]:
    def inside(name: str) -> np.ndarray:
        return (predicted(name, f"{target}_low") <= observed) & (observed <= predicted(name, f"{target}_high"))

    return {
        "mae": lambda name, counts: _mean(np.abs(predicted(name, target) - observed), counts),
        "total": lambda name, counts: (
            (counts @ predicted(name, f"{target}_mean")) / np.maximum(counts @ observed, 1e-9) - 1
        ),
        "coverage": lambda name, counts: _mean(inside(name).astype(float), counts),
    }


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return (counts @ values) / counts.sum(axis=1)


def _equal_bins(predicted: np.ndarray) -> list[np.ndarray]:
    """Rows in groups of equal number by what was said, the lowest first; equal values stay together."""
    edges = np.unique(quantile_edges(predicted, parts=CALIBRATION_BINS))
    group = np.searchsorted(edges, predicted, side="right")
    return [np.flatnonzero(group == g) for g in np.unique(group)]


def _expected_calibration_error(predicted: np.ndarray, observed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Expected calibration error (Naeini, Cooper & Hauskrecht 2015), in bins of equal number."""
    differences = [np.abs(counts[:, rows] @ (predicted - observed)[rows]) for rows in _equal_bins(predicted)]
    return np.sum(differences, axis=0) / counts.sum(axis=1)


def _bootstrap_interval(name: str, values: np.ndarray) -> dict[str, float]:
    return bootstrap_interval(values[1:], at=values[0]).columns(name)


def _lead_over_baseline(measure: str, *, ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """By how much we are better: more is better of the AUC, less of errors; sizes of totals; coverage has no better."""
    if measure == "coverage" or ours is theirs:
        return dict.fromkeys(LEADS, float("nan"))
    if measure == "total":
        ours, theirs = np.abs(ours), np.abs(theirs)
    return _bootstrap_interval("lead", ours - theirs if measure == "auc" else theirs - ours)
