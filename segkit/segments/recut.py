"""Segment a finished run's customers again, into another number of segments."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from segkit.customers.anticipation import anticipate
from segkit.customers.features import Outcomes
from segkit.data.runs import Run
from segkit.errors import RunError
from segkit.segments.clustering import Budget, Subsamples, macro_groups, search
from segkit.segments.fit import read_training_windows
from segkit.segments.lineage import highest_id, inherit_ids
from segkit.segments.model import SegmentModel, model_from_arrays, nearest_centre


@dataclass(frozen=True)
class Recut:
    """Hold another segmentation of a run's customers.

    Parameters
    ----------
    segments
        segment, macro_segment, customers, customer_share.
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
    subsamples, in_sample = _load_subsamples(run, model, axes.index)
    training_points, outcomes = _training_points(run, model)
    budget = Budget(min_segments=segments_min, max_segments=segments_max, smallest_share=smallest_share)
    segmentation, frontier = search(
        points, subsamples, in_sample=in_sample, training_points=training_points, outcomes=outcomes, budget=budget
    )
    number = nearest_centre(points, segmentation.centres)
    before = run.table("assignments").set_index("customer_id")["segment"].reindex(axes.index)
    count, used = len(segmentation.centres), highest_id(run.table("ledger"))
    ids, _ = inherit_ids(pd.crosstab(before.to_numpy(), number), count=count, used=used)
    sizes = np.bincount(number, minlength=count)
    macro = [f"M{group + 1}" for group in macro_groups(segmentation.centres)]
    table = pd.DataFrame({"segment": ids, "macro_segment": macro, "customers": sizes})
    table = table.assign(customer_share=sizes / len(number)).sort_values("segment", ignore_index=True)
    segment = np.array(ids, dtype=object)[number]
    return Recut(table, pd.DataFrame({"before": before, "segment": segment}, index=axes.index), frontier)


def subsample_table(subsamples: Subsamples, customers: pd.Index) -> pd.DataFrame:
    """Return each customer's cluster in each subsample, as a run stores it: -1 noise, -2 not in the subsample."""
    names = [f"subsample_{i + 1:02d}" for i in range(subsamples.count)]
    return pd.DataFrame(subsamples.labels.astype("int16"), index=customers.rename("customer_id"), columns=names)


def _load_subsamples(run: Run, model: SegmentModel, customers: pd.Index) -> tuple[Subsamples, np.ndarray]:
    """Return the subsamples of a run, and a flag for each customer in them."""
    table = run.table("subsamples").set_index("customer_id")
    in_sample = customers.isin(table.index)
    labels = table.reindex(customers[in_sample]).to_numpy(dtype=np.int32)
    sizes = []
    for number, column in enumerate(labels.T):
        clusters = int((model.bag_of == number).sum())
        if column.max() >= clusters:
            raise RunError("subsamples: the table does not belong to the model of this run. Run 03_segments again.")
        sizes.append(np.bincount(column[column >= 0], minlength=clusters))
    return Subsamples(model.bag_centres, np.concatenate(sizes).astype(float), model.bag_of, labels), in_sample


def _training_points(run: Run, model: SegmentModel) -> tuple[np.ndarray | None, Outcomes | None]:
    """Return coordinates one horizon ago and the outcomes since; features that did not exist then are zero."""
    last = read_training_windows(run).last
    if last is None:
        return None, None
    features = last.customers.features.reindex(columns=list(model.space.features), fill_value=0.0)
    return anticipate(model.space, replace(last.customers, features=features)).axes.to_numpy(), last.outcomes
