"""Keep what a back-test showed, and take it from the last run while its segments are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from segkit.customers.days import TABLES
from segkit.data.runs import Run, load_run
from segkit.forecast.backtest import BACKTEST_COLUMNS, LEADS, BacktestOrigin, origins_with
from segkit.segments.model import SegmentModel, assign_segments

MIN_SEASON_CUSTOMERS = 20  # customers of a segment whose error in a back-test counts
ERROR_BLOCKS = 20  # of customers by predicted value; the size of errors is interpolated between them
CALIBRATION = ["target", "group", "customers", "predicted", "observed", "low", "high"]
ERRORS = ["target", "block", "predicted", "error", "season"]
TESTED_AT = "forecast.tested_at"
OF_TEST = (TESTED_AT, "forecast.origins", "forecast.drift.", "forecast.next_category_hits",
           "forecast.new_category_hits")  # fmt: skip
OF_DATES = ("forecast.dates.", "forecast.due.")  # of the next order, and of the next purchase in a category
STORED = ("prediction_backtest", "calibration", "forecast_errors")


@dataclass(frozen=True)
class Backtested:
    """Hold what a back-test showed, without any single customer.

    Parameters
    ----------
    scores
        Of each forecaster, with ``chosen``; empty without a back-test.
    calibration
        Predicted and observed in ten groups.
    errors
        Of ``find_errors``: how far sums of customers are off; of a simpler model where ours has no back-test.
    metrics
        By name, as in the summary of a run.
    chosen
        The forecaster of each target.
    """

    scores: pd.DataFrame
    calibration: pd.DataFrame
    errors: pd.DataFrame
    metrics: dict[str, object]
    chosen: dict[str, str]


def untested() -> Backtested:
    """Return what is known without a back-test: nothing."""
    scores = pd.DataFrame(columns=[*BACKTEST_COLUMNS, *LEADS, "verdict"]).assign(chosen=pd.Series(dtype=bool))
    return Backtested(scores, pd.DataFrame(columns=CALIBRATION), pd.DataFrame(columns=ERRORS), metrics={}, chosen={})


def standing_test(run: Run, *, model: SegmentModel) -> Backtested | None:
    """Return what the back-test of the last run showed, where it stands; None where it must be made.

    It stands for less than a horizon after it was made, in a run that keeps the segments of the last one and adds
    events to its days. So parameters, kinds of event and earlier events are the same.

    Parameters
    ----------
    run
        The run that is being made.
    model
        Its segments, which a person may have merged since.
    """
    before = _continued_run(run)
    if before is None or not all(before.has(name) for name in STORED):
        return None
    metrics = {name: value for name, value in before.summary().items() if name.startswith(OF_TEST)}
    if not _stands(metrics.get(TESTED_AT), run) or tuple(before.load_model()[1]["segments"]) != model.segments:
        return None
    scores, calibration, errors = (before.table(name) for name in STORED)
    chosen = scores[scores["chosen"]].set_index("target")["forecaster"].to_dict()
    return Backtested(scores, calibration, errors, metrics=metrics, chosen=chosen)


def standing_dates(run: Run) -> dict[str, object]:
    """Return the metrics of the back-tests of order dates of the last run that stand, as in `standing_test`."""
    before, found = _continued_run(run), {}
    for kind in () if before is None else OF_DATES:
        own = {name: value for name, value in before.summary().items() if name.startswith(kind)}
        found |= own if _stands(own.get(f"{kind}tested_at"), run) else {}
    return found


def _continued_run(run: Run) -> Run | None:
    """Return the run whose segments are kept, if its days were added to."""
    before = load_run(run.kept) if run.kept else None
    parts = [len(each.part_paths(TABLES["rows"])) for each in (run, before) if each is not None]
    return before if len(parts) == 2 and parts[0] > parts[1] else None


def _stands(tested_at: object, run: Run) -> bool:
    """Return whether a back-test was made less than a horizon ago."""
    return bool(tested_at) and (run.period.as_of - date.fromisoformat(str(tested_at))).days < run.period.horizon_days


def find_errors(
    origins: Sequence[BacktestOrigin], *, chosen: Mapping[str, str], model: SegmentModel | None
) -> pd.DataFrame:
    """Measure how far predictions of customers, and sums of segments, were off in a back-test.

    Returns
    -------
    pd.DataFrame
        target, block (of customers by predicted value), predicted (its mean), error (root mean square of observed less
        predicted), season (root mean square of the sums of segments, observed / predicted - 1, less what chance
        explains; null where no segment was large enough); empty without a back-test.
    """
    rows = []
    for target, name in chosen.items():
        tested = origins_with(origins, target=target, name=name)
        if tested:
            season = _season_error(tested, target=target, name=name, model=model)
            predicted = np.concatenate([origin.predicted(target, name) for origin in tested])
            off = np.concatenate([origin.observed(target) for origin in tested]) - predicted
            blocks = np.array_split(np.argsort(predicted, kind="stable"), ERROR_BLOCKS)
            for number, inside in enumerate(block for block in blocks if len(block)):
                spread = np.sqrt(np.square(off[inside]).mean())
                rows.append((target, number + 1, predicted[inside].mean(), spread, season))
    return pd.DataFrame(rows, columns=ERRORS)


def _season_error(
    origins: Sequence[BacktestOrigin], *, target: str, name: str, model: SegmentModel | None
) -> float | None:
    """Measure how far segment sums were off in the back-test, beyond chance; None where none were large enough."""
    squares, weights = [], []
    for origin in origins:
        placed = origin.groups
        if placed is None:
            placed = assign_segments(model, origin.snapshot.data)["segment"].to_numpy()
        predicted, observed = origin.predicted(target, name), origin.observed(target)
        for group in [*np.unique(placed), None]:
            inside = placed == group if group is not None else np.ones(len(placed), dtype=bool)
            if inside.sum() < MIN_SEASON_CUSTOMERS or predicted[inside].sum() <= 0:
                continue
            off = observed[inside].sum() / predicted[inside].sum() - 1
            chance = np.square(observed - predicted)[inside].sum() / predicted[inside].sum() ** 2
            squares.append(off**2 - chance)
            weights.append(predicted[inside].sum())
    return float(np.sqrt(max(np.average(squares, weights=weights), 0.0))) if weights else None
