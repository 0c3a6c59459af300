"""Back-test the forecast and its baselines one horizon ago and earlier."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.features import Outcomes
from segkit.forecast.baselines import FORECASTER_LABELS, make_baselines
from segkit.forecast.model import (
    MIN_TRAINING_CUSTOMERS,
    Forecast,
    Snapshot,
    TrainingSet,
    forecast_customers,
    with_bands,
)
from segkit.segments.scoring import lead_verdict
from segkit.stats import Z95, Estimate, auc, bootstrap_interval, mean_interval, proportion_interval, quantile_edges

CALIBRATION_BINS = 10  # of equal number, in which predicted and observed are compared
BOOTSTRAP_DRAWS = 400
DECISIVE = {"active": "brier", "orders": "mae", "spend": "mae"}  # the error that chooses the forecaster of a target
BACKTEST_COLUMNS = ["target", "measure", "forecaster", "label", "customers", "origins", "value", "low", "high"]
LEADS = ["lead", "lead_low", "lead_high"]


@dataclass(frozen=True)
class BacktestOrigin:
    """Hold one origin of the back-test.

    `banded`: the forecasts with bands, for the customers of ``snapshot`` only. `groups`: of customers, whose sums show
    the season; None stands for their segments.
    """

    forecasts: dict[str, Forecast]
    banded: dict[str, pd.DataFrame]
    outcomes: Outcomes
    snapshot: Snapshot
    training: TrainingSet
    groups: np.ndarray | None = None

    def values(self, name: str) -> np.ndarray:
        """Return an outcome of each customer; net spend below zero counts as zero."""
        return TrainingSet(self.snapshot, self.outcomes).values(name)

    def observed(self, target: str) -> np.ndarray:
        """Return what each customer did: active (0 or 1), or an amount."""
        return self.outcomes.active.astype(float) if target == "active" else self.values(target)

    def predicted(self, target: str, name: str) -> np.ndarray:
        """Return what a forecaster predicted of each customer: the chance, or the mean."""
        return self.banded[name]["chance" if target == "active" else f"{target}_mean"].to_numpy()


def origins_with(origins: Sequence[BacktestOrigin], *, target: str, name: str) -> list[BacktestOrigin]:
    """Select the origins at which a forecaster predicted a target."""
    column = "chance" if target == "active" else f"{target}_mean"
    return [origin for origin in origins if column in origin.banded.get(name, ())]


def make_forecasts(
    training: TrainingSet, now: Snapshot, *, seed: int = 7, only: Collection[str] | None = None
) -> dict[str, Forecast]:
    """Forecast with the learnt model and the baselines, from the same training set, for the same customers.

    `only`: those that are wanted; None is all of them.
    """
    found = {"model": forecast_customers(training, now, seed=seed)} if only is None or "model" in only else {}
    return found if only is not None and set(only) <= set(found) else {**found, **make_baselines(training, now)}


def backtest_origins(training_sets: Sequence[TrainingSet], *, seed: int = 7) -> list[BacktestOrigin]:
    """Back-test from rolling origins: learn from each training set but the first, and predict the next one.

    `training_sets`: the latest first, one horizon apart. Returns the latest origin first; empty where history allows
    one training set only.
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
    """Score the forecasters on all origins together.

    Parameters
    ----------
    origins
        At least one.
    draws
        Resamplings of the customers; more steady the intervals.

    Returns
    -------
    pd.DataFrame
        A row for each target (active, orders, spend), measure and forecaster: ``value``, ``low``, ``high`` (95 %), and
        ``lead``, ``lead_low``, ``lead_high``: by how much the model is better, in pairs (below 0: worse). Measures:
        auc (0.5 is chance); ece (mean difference of predicted and observed in ten bins of equal number); brier (mean
        squared error of the chance); mae (of the median); total (sum of means over the observed sum, less 1);
        coverage (share of customers inside the band).
    """
    ids = np.concatenate([origin.snapshot.index.to_numpy() for origin in origins])
    codes, customers = pd.factorize(ids)
    rng = np.random.default_rng(seed)
    size = len(customers)
    drawn = [np.bincount(rng.integers(size, size=size), minlength=size) for _ in range(draws)]
    counts = np.vstack([np.ones(size), *drawn])[:, codes]  # floats: products of whole numbers are slow
    rows: list[dict[str, object]] = []
    for target, measures in _measures(origins).items():
        for measure, score in measures.items():
            scored = [name for name in origins[0].banded if all(name in origin.banded for origin in origins)]
            found = {name: score(name, counts) for name in scored}
            for name, values in found.items():
                head = {"target": target, "measure": measure, "forecaster": name, "label": FORECASTER_LABELS[name]}
                head |= {"customers": size, "origins": len(origins)}
                rows.append(
                    head
                    | _bootstrap_interval("value", values)
                    | _lead_over_baseline(measure, model=found["model"], baseline=values)
                )
    names = {"value_low": "low", "value_high": "high"}
    return pd.DataFrame(rows).rename(columns=names)[[*BACKTEST_COLUMNS, *LEADS]].round(9)


def best_forecasters(scores: pd.DataFrame) -> dict[str, str]:
    """Choose the forecaster of each target: the model, unless a baseline's error is as small or smaller."""
    found = {}
    for target, measure in DECISIVE.items():
        own = scores[(scores["target"] == target) & (scores["measure"] == measure)]
        if len(own):
            errors = own.set_index("forecaster")["value"].sort_values(kind="stable")
            beaten = (errors.drop("model") <= errors["model"]).any()
            found[target] = str(errors.drop("model").index[0]) if beaten else "model"
    return found


def with_lead_verdicts(scores: pd.DataFrame) -> pd.DataFrame:
    """Add ``verdict``: the model against each baseline, where the 95 % interval of its lead decides."""
    verdicts = [lead_verdict(low, high) for low, high in zip(scores["lead_low"], scores["lead_high"], strict=True)]
    return scores.assign(verdict=np.where(scores["forecaster"] == "model", "", verdicts))


def calibration(origins: Sequence[BacktestOrigin], *, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Compare predicted and observed in ten groups of equal number, by predicted value.

    Returns target, group, customers, predicted, observed, low, high (95 %); means per customer.
    """
    rows = []
    for target, name in chosen.items():
        with_target = origins_with(origins, target=target, name=name)
        if not with_target:
            continue
        predicted = np.concatenate([origin.predicted(target, name) for origin in with_target])
        observed = np.concatenate([origin.observed(target) for origin in with_target])
        for group, inside in enumerate(_equal_bins(predicted)):
            part = observed[inside]
            at = proportion_interval(part.sum(), len(part)) if target == "active" else mean_interval(pd.Series(part))
            rows.append((target, group + 1, len(part), predicted[inside].mean(), *at))
    columns = ["target", "group", "customers", "predicted", "observed", "low", "high"]
    return pd.DataFrame(rows, columns=columns).round(9)


def base_rate_metrics(origins: Sequence[BacktestOrigin]) -> dict[str, float]:
    """Report how the base rate moved at the latest origin, from the training horizon to the one predicted.

    Nothing for a model that learns from no horizon.
    """
    if not origins or origins[0].groups is not None:
        return {}
    latest = origins[0]
    before, after = latest.training.outcomes.active, latest.outcomes.active
    metrics = {}
    for name, observed in (("learnt", before), ("observed", after)):
        metrics |= proportion_interval(observed.sum(), len(observed)).metrics(f"forecast.drift.active_{name}")
    half = Z95 * np.sqrt(sum(active.mean() * (1 - active.mean()) / len(active) for active in (before, after)))
    metrics |= Estimate.around(after.mean() - before.mean(), half=half).metrics("forecast.drift.active")
    for target in latest.training.amounts:
        for name, values in (("learnt", latest.training.values(target)), ("observed", latest.values(target))):
            metrics |= mean_interval(pd.Series(values)).metrics(f"forecast.drift.{target}_{name}")
    return metrics


def _measures(origins: Sequence[BacktestOrigin]) -> dict[str, dict[str, object]]:
    """Map target and measure to a function of a forecaster and resampling counts, which returns a score per row."""

    def predictions(name: str, column: str) -> np.ndarray:
        return np.concatenate([origin.banded[name][column].to_numpy() for origin in origins])

    active = np.concatenate([origin.outcomes.active for origin in origins]).astype(float)
    found: dict[str, dict[str, object]] = {
        "active": {
            "auc": lambda name, counts: auc(predictions(name, "chance"), active, counts=counts),
            "ece": lambda name, counts: _expected_calibration_error(predictions(name, "chance"), active, counts),
            "brier": lambda name, counts: _weighted_mean(np.square(predictions(name, "chance") - active), counts),
        }
    }
    for target in set.intersection(*(set(origin.training.amounts) for origin in origins)):
        found[target] = _amount_measures(
            predictions, target, np.concatenate([origin.values(target) for origin in origins])
        )
    return {target: found[target] for target in DECISIVE if target in found}


def _amount_measures(predicted: object, target: str, observed: np.ndarray) -> dict[str, object]:
    """Map the measures of an amount to their functions, as ``_measures`` does."""

    def inside(name: str) -> np.ndarray:
        return (predicted(name, f"{target}_low") <= observed) & (observed <= predicted(name, f"{target}_high"))

    return {
        "mae": lambda name, counts: _weighted_mean(np.abs(predicted(name, target) - observed), counts),
        "total": lambda name, counts: (
            (counts @ predicted(name, f"{target}_mean")) / np.maximum(counts @ observed, 1e-9) - 1
        ),
        "coverage": lambda name, counts: _weighted_mean(inside(name).astype(float), counts),
    }


def _weighted_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of the values in each resampling."""
    return (counts @ values) / counts.sum(axis=1)


def _equal_bins(predicted: np.ndarray) -> list[np.ndarray]:
    """Group rows in equal numbers by prediction, the lowest first; equal values share a group."""
    edges = np.unique(quantile_edges(predicted, parts=CALIBRATION_BINS))
    group = np.searchsorted(edges, predicted, side="right")
    return [np.flatnonzero(group == g) for g in np.unique(group)]


def _expected_calibration_error(predicted: np.ndarray, observed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the expected calibration error (Naeini, Cooper & Hauskrecht 2015), in bins of equal number."""
    differences = [np.abs(counts[:, rows] @ (predicted - observed)[rows]) for rows in _equal_bins(predicted)]
    return np.sum(differences, axis=0) / counts.sum(axis=1)


def _bootstrap_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """Return a value and its interval as columns; the first value is of all customers, the others of resamplings."""
    return bootstrap_interval(values[1:], at=values[0]).columns(name)


def _lead_over_baseline(measure: str, *, model: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
    """Return by how much the model is better: AUC up, errors and sizes of totals down; coverage has no better."""
    if measure == "coverage" or model is baseline:
        return dict.fromkeys(LEADS, float("nan"))
    if measure == "total":
        model, baseline = np.abs(model), np.abs(baseline)
    return _bootstrap_interval("lead", model - baseline if measure == "auc" else baseline - model)
