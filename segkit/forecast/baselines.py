"""Forecast with the baselines: the last period again, an RFM table, models of repeat buying."""

import numpy as np
import pandas as pd

from segkit.forecast.model import BUYING, Forecast, Snapshot, TrainingSet, simple_forecasts
from segkit.segments.validation import FIFTHS
from segkit.stats import quantile_edges

FORECASTER_LABELS = {
    "model": "the forecast",
    "last": "the last period repeated",
    "rfm": "an RFM table",
    "classic": "the BG/NBD model",
    "regular": "the MBG/CNBD-k model",
}
MIN_IN_CELL = 5  # customers; a smaller cell takes the figure of its recency and frequency
DAY_STEPS = (0, 1, 2, 4, 8, 16)  # active days in the last period at which a new group begins


def make_baselines(training: TrainingSet, now: Snapshot) -> dict[str, Forecast]:
    """Forecast with each baseline, from the same training set and for the same customers as the learnt model.

    Parameters
    ----------
    training
        Customers one horizon earlier, and what they did.

    Returns
    -------
    dict
        ``last``, ``rfm``, ``classic`` and ``regular`` (where BG/NBD and MBG/CNBD-k can be fitted). Each forecasts in
        its best form: medians where it has them, and the observed share as the chance.
    """
    baselines = {"last": _last_period_baseline(training, now), "rfm": _rfm_baseline(training, now)}
    for kind in BUYING:
        if getattr(now, kind)["chance"].notna().any():
            baselines[kind] = _buying_baseline(training, now, kind=kind)
    return baselines


def _last_period_baseline(training: TrainingSet, now: Snapshot) -> Forecast:
    """Repeat the amounts of the last horizon; the chance is that of customers with as many active days then."""
    steps, snapshots = np.array(DAY_STEPS), (training.snapshot, now)
    then, today = (np.searchsorted(steps, snapshot.last["active_days"], side="right") for snapshot in snapshots)
    chance = _group_statistic(then, today, values=training.outcomes.active.astype(float))
    amounts = [{name: simple_forecasts(snapshot, name)["last"] for name in training.amounts} for snapshot in snapshots]
    return _make_forecast(training, now, chance=chance, medians=amounts, means=amounts)


def _rfm_baseline(training: TrainingSet, now: Snapshot) -> Forecast:
    """Forecast share, median and mean of each cell of recency, frequency and money (fifths at the training date)."""
    then, today = _rfm_cells(training.snapshot, now)
    chance = _group_statistic(then, today, values=training.outcomes.active.astype(float))
    medians, means = [{}, {}], [{}, {}]
    for name in training.amounts:
        for columns, how in ((medians, "median"), (means, "mean")):
            columns[0][name], columns[1][name] = _group_statistic(then, today, values=training.values(name), how=how)
    return _make_forecast(training, now, chance=chance, medians=medians, means=means)


def _buying_baseline(training: TrainingSet, now: Snapshot, *, kind: str) -> Forecast:
    """Forecast with a model of repeat buying and Gamma-Gamma as published: expectations are both median and mean."""
    snapshots = (training.snapshot, now)
    amounts = [{name: simple_forecasts(snapshot, name)[kind] for name in training.amounts} for snapshot in snapshots]
    chance = [getattr(snapshot, kind)["chance"].fillna(0.0).to_numpy() for snapshot in snapshots]
    return _make_forecast(training, now, chance=chance, medians=amounts, means=amounts)


def _make_forecast(training: TrainingSet, now: Snapshot, *, chance: object, medians: object, means: object) -> Forecast:
    """Build a forecast from chances, medians and means of the training customers and of those now."""
    tables = []
    for i, index in enumerate((training.snapshot.index, now.index)):
        columns = {"chance": chance[i]} | {n: medians[i][n] for n in training.amounts}
        columns |= {f"{n}_mean": means[i][n] for n in training.amounts}
        tables.append(pd.DataFrame({k: np.asarray(v, dtype=float) for k, v in columns.items()}, index=index).round(9))
    return Forecast(out_of_fold=tables[0], now=tables[1])


def _rfm_cells(then: Snapshot, now: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell number of each customer: fifths of recency, orders (or active days) and any spend."""
    found = [np.zeros(len(snapshot.index), dtype=int) for snapshot in (then, now)]
    first, second = then.data.features, now.data.features
    for name in ("recency_days", "orders" if "orders" in first else "active_days", "spend"):
        if name in first:
            edges = quantile_edges(first[name], parts=FIFTHS)
            for cells, features in zip(found, (first, second), strict=True):
                cells *= FIFTHS
                cells += np.searchsorted(edges, features[name], side="right")
    return found[0], found[1]


def _group_statistic(
    then: np.ndarray, today: np.ndarray, *, values: np.ndarray, how: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a statistic of each group; a small group takes that of its wider group, else of everyone."""
    table, wide = (pd.Series(values).groupby(cells).agg([how, "size"]) for cells in (then, then // FIFTHS))
    statistic = table[how].where(table["size"] >= MIN_IN_CELL)
    everyone = float(getattr(pd.Series(values), how)())

    def read(cells: np.ndarray) -> np.ndarray:
        own, wider = (pd.Series(cells).map(statistic), pd.Series(cells // FIFTHS).map(wide[how]))
        return own.fillna(wider).fillna(everyone).to_numpy()

    return read(then), read(today)
