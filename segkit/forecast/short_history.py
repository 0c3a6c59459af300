"""Forecast without a horizon to learn from: models of repeat buying, back-tested on whatever history there is."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from segkit.customers.features import CustomerData, Customers, customer_outcomes
from segkit.forecast.backtest import BacktestOrigin
from segkit.forecast.model import AMOUNTS, BUYING, MIN_TRAINING_CUSTOMERS, Forecast, Snapshot, TrainingSet, with_bands
from segkit.forecast.parametric import EXPECTATIONS, BuyingForecast, buying_history, forecast_buying
from segkit.segments.fit import first_active_day

STANDARD = "classic"  # BG/NBD, where no back-test says otherwise
GROUPS = 5  # of customers by predicted activity, whose sums show the season
MIN_HISTORY_SHARE = 0.5  # of a horizon, before the origin of a back-test


@dataclass(frozen=True)
class BuyingForecasts:
    """Hold the forecasts of the models of repeat buying, with bands, by model.

    Parameters
    ----------
    banded
        Of today's customers: chance, and for each amount median, mean, low and high.
    origins
        One back-test, one horizon ago, of everyone seen until then; empty where history is too short for it.
    models
        The name of each model, with its regularity.
    """

    banded: dict[str, pd.DataFrame]
    origins: list[BacktestOrigin]
    models: dict[str, str]


def forecast_from_buying(customers: Customers, *, seed: int = 7) -> BuyingForecasts:
    """Forecast today's customers with each model of repeat buying that can be fitted.

    Bands hold the errors of the back-test; without one they are those of the model.
    """
    period, amounts = customers.period, [name for name in AMOUNTS if name in customers.data.features]
    history = buying_history(customers.days, as_of=period.as_of)
    fitted = _fit_all(history, horizon_days=period.horizon_days)
    banded = {name: _as_table(each, customers.index, amounts=amounts, seed=seed) for name, each in fitted.items()}
    models = {name: each.activity.name for name, each in fitted.items()}
    origins = [origin for origin in buying_backtest(customers, seed=seed) if _is_alike(origin, banded)]
    for origin in origins:
        for name, now in banded.items():
            banded[name] = with_bands(Forecast(out_of_fold=origin.banded[name], now=now), origin.training)
    return BuyingForecasts(banded, origins, models)


def _is_alike(origin: BacktestOrigin, banded: dict[str, pd.DataFrame]) -> bool:
    """Return whether a back-test has the models and the amounts that are forecast now."""
    return set(origin.banded) == set(banded) and all(
        set(origin.training.amounts) <= set(table) for table in banded.values()
    )


def buying_backtest(customers: Customers, *, seed: int | None = 7) -> list[BacktestOrigin]:
    """Back-test the models of repeat buying one horizon ago; empty where history or customers are too few.

    `seed`: of the bands; None leaves medians and bands out.
    """
    period, first = customers.period, first_active_day(customers.days)
    at = period.as_of - timedelta(days=period.horizon_days)
    if first is None or (at - first).days < MIN_HISTORY_SHARE * period.horizon_days:
        return []
    history = buying_history(customers.days, as_of=at)
    if len(history) < MIN_TRAINING_CUSTOMERS:
        return []
    index, amounts = history.index, [name for name in AMOUNTS if name in customers.data.features]
    outcomes = customer_outcomes(
        customers.days.without_things(), start=at, horizon_days=period.horizon_days, index=index
    )
    fitted = _fit_all(history, horizon_days=period.horizon_days)
    banded = {name: _as_table(found, index, amounts=amounts, seed=seed) for name, found in fitted.items()}
    if "model" not in banded:
        return []
    known = set.intersection(*(set(table) for table in banded.values()))
    unknown = pd.DataFrame(np.nan, index=index, columns=list(EXPECTATIONS))
    has = CustomerData(outcomes.totals[[n for n in amounts if n in known]], weights=None, categories=())  # names only
    snapshot = Snapshot(has, last=outcomes.totals, **dict.fromkeys(BUYING, unknown), rate=1.0)
    forecasts = {name: Forecast(table, table) for name, table in banded.items()}
    groups = pd.qcut(banded["model"]["chance"].rank(method="first"), GROUPS, labels=False).to_numpy()
    training = TrainingSet(snapshot, outcomes)
    return [BacktestOrigin(forecasts, banded, outcomes=outcomes, snapshot=snapshot, training=training, groups=groups)]


def expect_buying(history: pd.DataFrame, *, horizon_days: int, index: pd.Index) -> dict[str, pd.DataFrame]:
    """Return what each model of repeat buying expects of some customers, by model; fitted on all of the history."""
    return {name: each.of(index) for name, each in _fit_all(history, horizon_days=horizon_days).items()}


def _fit_all(history: pd.DataFrame, *, horizon_days: int) -> dict[str, BuyingForecast]:
    """Fit each model; the standard one is called ``model``, as it stands for the forecast."""
    found = {
        "model" if name == STANDARD else name: forecast_buying(history, horizon_days=horizon_days, regular=regular)
        for name, regular in zip(BUYING, (False, True), strict=True)
    }
    return {name: each for name, each in found.items() if each.activity is not None}


def _as_table(found: BuyingForecast, index: pd.Index, *, amounts: list[str], seed: int | None) -> pd.DataFrame:
    """Return chance, and median, mean and band of each amount, as forecasts are written."""
    expected = found.of(index)
    table = expected[["chance"]].fillna(0.0)
    if seed is None:
        return table.assign(**{f"{name}_mean": expected[name].fillna(0.0) for name in amounts})
    bands = found.bands(index, seed=seed)
    for name in (each for each in amounts if each in bands):
        table[f"{name}_mean"] = expected[name].fillna(0.0)
        columns = [name, f"{name}_low", f"{name}_high"]
        table[columns] = bands[columns].to_numpy()
    return table
