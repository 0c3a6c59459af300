"""Segment a finished run's customers again, into another number of segments."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from segkit.customers.anticipation import coordinates
from segkit.customers.needs import load_needs
from segkit.data.runs import Run
from segkit.segments.clustering import Budget, SearchData, search, subsample_rows
from segkit.segments.fit import read_training_windows
from segkit.segments.lineage import highest_id, inherit_ids
from segkit.segments.model import SegmentModel, model_from_arrays
from segkit.segments.scoring import ScoringOutcomes, scoring_outcomes
from segkit.stats import hash_sample


@dataclass(frozen=True)
class Recut:
    """Hold another segmentation of a run's customers.

    Parameters
    ----------
    segments
        segment, macro_segment, need, customers, customer_share.
    assignments
        segment by customer_id, and `before`, that of the run.
    frontier
        Scores of all that were tried.
    """

    segments: pd.DataFrame
    assignments: pd.DataFrame
    frontier: pd.DataFrame


def recut(run: Run, *, segments_min: int = 12, segments_max: int = 20, smallest_share: float = 0.01) -> Recut:
    """Segment a run's customers again, within another budget.

    Parameters
    ----------
    run
        A run with the steps 02_embed and 03_segments.
    segments_min, segments_max
        Fewest and most segments.
    smallest_share
        Share of customers in the smallest segment.

    Returns
    -------
    Recut
        A segment that continues one of the run has its id; others get unused numbers.

    Raises
    ------
    RunError
        The run lacks a table that is needed.
    BudgetError
        No segmentation within the budget; the message names the limit.
    """
    model = model_from_arrays(*run.load_model())
    axes = run.table("anticipation").set_index("customer_id").filter(regex=r"^axis_\d+$")
    points = axes.to_numpy()
    sampled = points[hash_sample(axes.index)]
    training_points, outcomes = _training_points(run, model)
    budget = Budget(min_segments=segments_min, max_segments=segments_max, smallest_share=smallest_share)
    seed = int(run.parameters().get("seed", 7))
    segmentation, frontier = search(
        SearchData(
            sampled,
            subsample_rows(len(sampled), seed=seed),
            training_points,
            outcomes,
        ),
        budget=budget,
    )
    number = segmentation.assign(points)
    before = run.table("assignments").set_index("customer_id")["segment"].reindex(axes.index)
    count, used = len(segmentation.centres), highest_id(run.table("ledger"))
    ids, _ = inherit_ids(pd.crosstab(before.to_numpy(), number), count=count, used=used)
    sizes = np.bincount(number, minlength=count)
    macro = [f"M{segmentation.level.max() - level + 1}" for level in segmentation.level]
    need = [model.space.needs[i] if i >= 0 and model.space.needs else None for i in segmentation.anchor]
    table = pd.DataFrame({"segment": ids, "macro_segment": macro, "need": need, "customers": sizes})
    table = table.assign(customer_share=sizes / len(number)).sort_values("segment", ignore_index=True)
    segment = np.array(ids, dtype=object)[number]
    return Recut(table, pd.DataFrame({"before": before, "segment": segment}, index=axes.index), frontier)


def _training_points(run: Run, model: SegmentModel) -> tuple[np.ndarray | None, ScoringOutcomes | None]:
    """Return coordinates one horizon ago and the outcomes since; features that did not exist then are zero."""
    last = read_training_windows(run).last
    if last is None:
        return None, None
    features = last.customers.features.reindex(columns=list(model.space.features), fill_value=0.0)
    points = coordinates(model.space, replace(last.customers, features=features)).to_numpy()
    return points, scoring_outcomes(last.outcomes, needs=load_needs(run))
