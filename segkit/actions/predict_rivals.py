"""The rivals of the forecast: what anyone could have said with the same data on the same date, and bands around any."""

import numpy as np
import pandas as pd

from segkit.actions.predict_known import Known, Lesson
from segkit.actions.predict_learn import Told, plain_forecasts
from segkit.segments.rivals import FIFTHS
from segkit.stats import quantile_edges

LABELS = {
    "model": "the forecast",
    "last": "last period again",
    "rfm": "RFM table (5 x 5 x 5)",
    "classic": "BG/NBD + Gamma-Gamma",
}
FEWEST_IN_CELL = 5  # customers; a smaller cell says what its recency and frequency say
DAY_STEPS = (0, 1, 2, 4, 8, 16)  # active days of the last period, from which its share of returners is another
LEVEL = 0.95  # of the band around a customer's orders and spend
NEIGHBOURS = 12  # a band rests on a twelfth of the customers, those of the most similar forecast
FEWEST_NEAR = 100  # of them at least
ANCHORS = 40  # forecasts at which the band is computed; between them it is drawn


def rivals_of(training: Lesson, now: Known) -> dict[str, Told]:
    """The rivals, learnt from the same lesson and told of the same customers.

    Takes  lesson; now: customers at the date of the forecast
    Gives  name -> Told: last, rfm, classic (where it could be fitted); each is judged by its best: medians where it has
           them, its chance as the share that came in the lesson
    """
    baselines = {"last": _last_again(training, now), "rfm": _rfm_table(training, now)}
    if now.bgnbd["chance"].notna().any():
        baselines["classic"] = _classic(training, now)
    return baselines


def with_bands(forecast: Told, training: Lesson, *, level: float = LEVEL) -> pd.DataFrame:
    """A forecast with a band around each amount, from what was missed by forecasts of the same size.

    The band is a Mondrian conformal one (Vovk, Lindsay, Nouretdinov & Gammerman 2003): quantiles of the errors out of
    fold, on a square-root scale, of the customers whose forecast lay nearest, with the correction for their number.

    Takes  told: of any forecaster; lesson: that it was learnt from
    Gives  the forecast of today's customers, with <amount>_low and <amount>_high

    Parameters
    ----------
    level : share of customers that should lie in their band
    """
    table = forecast.now.copy()
    for name in training.amounts:
        low, high = _band(
            forecast.out_of_fold[name].to_numpy(), training.values(name), table[name].to_numpy(), level=level
        )
        table[f"{name}_low"], table[f"{name}_high"] = low.round(9), high.round(9)
    return table


def _last_again(training: Lesson, now: Known) -> Told:
    """Amounts of the last horizon again; the chance is the share that came of those as active in the one before."""
    steps = np.array(DAY_STEPS)
    then, today = (
        np.searchsorted(steps, snapshot.last["active_days"], side="right") for snapshot in (training.snapshot, now)
    )
    chance = _by_group(then, today, values=training.outcomes.active.astype(float))
    amounts = [
        {name: plain_forecasts(past, name)["last"] for name in training.amounts} for past in (training.snapshot, now)
    ]
    return _told(training, now, chance=chance, medians=amounts, means=amounts)


def _rfm_table(training: Lesson, now: Known) -> Told:
    """Share, median and mean of each cell of recency, frequency and money, cut into fifths at the earlier date."""
    then, today = _cells(training.snapshot, now)
    chance = _by_group(then, today, values=training.outcomes.active.astype(float))
    medians, means = [{}, {}], [{}, {}]
    for name in training.amounts:
        for columns, how in ((medians, "median"), (means, "mean")):
            columns[0][name], columns[1][name] = _by_group(then, today, values=training.values(name), how=how)
    return _told(training, now, chance=chance, medians=medians, means=means)


def _classic(training: Lesson, now: Known) -> Told:
    """BG/NBD and Gamma-Gamma as published: their expectation, for people and for sums."""
    snapshots = (training.snapshot, now)
    amounts = [
        {name: plain_forecasts(snapshot, name)["classic"] for name in training.amounts} for snapshot in snapshots
    ]
    chance = [past.bgnbd["chance"].fillna(0.0).to_numpy() for past in snapshots]
    return _told(training, now, chance=chance, medians=amounts, means=amounts)


def _told(training: Lesson, now: Known, *, chance: object, medians: object, means: object) -> Told:
    tables = []
    for i, index in enumerate((training.snapshot.index, now.index)):
        columns = {"chance": chance[i]} | {n: medians[i][n] for n in training.amounts}
        columns |= {f"{n}_mean": means[i][n] for n in training.amounts}
        tables.append(pd.DataFrame({k: np.asarray(v, dtype=float) for k, v in columns.items()}, index=index).round(9))
    return Told(out_of_fold=tables[0], now=tables[1])


def _cells(then: Known, now: Known) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each customer: fifths of recency, orders (or active days) and spend, where there is any."""
    found = [np.zeros(len(snapshot.index), dtype=int) for snapshot in (then, now)]
    first, second = then.signals.features, now.signals.features
    for name in ("recency_days", "orders" if "orders" in first else "active_days", "spend"):
        if name in first:
            edges = quantile_edges(first[name], parts=FIFTHS)
            for cells, features in zip(found, (first, second), strict=True):
                cells *= FIFTHS
                cells += np.searchsorted(edges, features[name], side="right")
    return found[0], found[1]


def _by_group(
    then: np.ndarray, today: np.ndarray, *, values: np.ndarray, how: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of each group; of a small one that of its fifth group up, and at last that of everyone."""
    table, wide = (pd.Series(values).groupby(cells).agg([how, "size"]) for cells in (then, then // FIFTHS))
    statistic = table[how].where(table["size"] >= FEWEST_IN_CELL)
    everyone = float(getattr(pd.Series(values), how)())

    def read(cells: np.ndarray) -> np.ndarray:
        own, wider = (pd.Series(cells).map(statistic), pd.Series(cells // FIFTHS).map(wide[how]))
        return own.fillna(wider).fillna(everyone).to_numpy()

    return read(then), read(today)


def _band(
    learnt: np.ndarray, values: np.ndarray, predicted: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(learnt, kind="stable")
    at, missed = learnt[order], (np.sqrt(values) - np.sqrt(learnt))[order]
    near = min(len(at), max(FEWEST_NEAR, len(at) // NEIGHBOURS))
    centres = np.unique(np.linspace(0, len(at) - 1, ANCHORS).astype(int))
    starts = np.clip(centres - near // 2, 0, len(at) - near)
    # the k-th smallest of n errors holds the next one with chance k / (n + 1)
    below = max(int(np.floor((1 - level) / 2 * (near + 1))), 1) - 1
    ranked = np.array([np.sort(missed[start : start + near])[[below, near - 1 - below]] for start in starts])
    middles = np.array([np.sqrt(at[start : start + near]).mean() for start in starts])
    root = np.sqrt(predicted)
    low, high = (root + np.interp(root, middles, ranked[:, i]) for i in (0, 1))
    return np.minimum(np.square(np.maximum(low, 0.0)), predicted), np.maximum(
        np.square(np.maximum(high, 0.0)), predicted
    )
