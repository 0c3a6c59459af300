"""Recut: another budget on a finished run, without fitting anything again.

A run keeps in which cluster of which bag each customer was (`subsamples`), where everyone stands (`anticipation`), and
what was known and came one horizon ago. That is all the search needs, so an analyst in JupyterLab can ask for fewer or
more segments and has them at once. Nothing is written: to keep a cut, run again with its budget.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.anticipate import anticipate
from segkit.customers.features import Signals
from segkit.data.store import Run
from segkit.errors import RunError
from segkit.segments.bags import Bags
from segkit.segments.cuts import macro_buckets
from segkit.segments.ledger import highest_id, lasting_ids
from segkit.segments.past import read_past
from segkit.segments.place import SegmentModel, model_from, nearest
from segkit.segments.search import Budget, search


@dataclass(frozen=True)
class Recut:
    """`segments`: segment, macro_segment, customers, customer_share; `assignments`: segment by customer_id, and
    `before`, that of the run; `frontier`: what the cut was chosen from.
    """

    segments: pd.DataFrame
    assignments: pd.DataFrame
    frontier: pd.DataFrame


def recut(run: Run, *, segments_min: int = 12, segments_max: int = 20, smallest_share: float = 0.01) -> Recut:
    """Cut a run's customers anew, within another budget.

    Takes  a run that holds 02_embed and 03_segments
    Gives  Recut; a segment that carries on one of the run has its id, others get numbers never used

    Parameters
    ----------
    segments_min, segments_max : fewest and most segments
    smallest_share : of customers in the smallest segment

    Raises
    ------
    RunError : the run does not hold what is needed
    BudgetError : no cut within the budget; says which limit binds
    """
    model = model_from(*run.load_model())
    axes = run.table("anticipation").set_index("customer_id").filter(regex=r"^axis_\d+$")
    points = axes.to_numpy()
    bags, seen = _bags(run, model, axes.index)
    last = read_past(run).last
    learning = None if last is None else anticipate(model.space, _with_all(last.customers, model)).axes.to_numpy()
    budget = Budget(min_segments=segments_min, max_segments=segments_max, smallest_share=smallest_share)
    outcomes = last.outcomes if last else None
    cut, frontier = search(points, bags, in_sample=seen, training_points=learning, outcomes=outcomes, budget=budget)
    number = nearest(points, cut.centres)
    before = run.table("assignments").set_index("customer_id")["segment"].reindex(axes.index)
    used = highest_id(run.table("ledger"))
    ids, _ = lasting_ids(pd.crosstab(before.to_numpy(), number), count=len(cut.centres), used=used)
    named = np.array(ids, dtype=object)[number]
    assignments = pd.DataFrame({"before": before, "segment": named}, index=axes.index)
    return Recut(_sizes(ids, number, macro_buckets(cut.centres)), assignments, frontier)


def bag_table(subsamples: Bags, customers: pd.Index) -> pd.DataFrame:
    """The cluster of each customer in each bag, as a run keeps it: -1 noise, -2 not in the bag."""
    names = [f"subsample_{i + 1:02d}" for i in range(subsamples.count)]
    return pd.DataFrame(subsamples.labels.astype("int16"), index=customers.rename("customer_id"), columns=names)


def _bags(run: Run, model: SegmentModel, customers: pd.Index) -> tuple[Bags, np.ndarray]:
    """The bags of a run, and which of its customers were in them."""
    table = run.table("subsamples").set_index("customer_id")
    seen = customers.isin(table.index)
    labels = table.reindex(customers[seen]).to_numpy(dtype=np.int32)
    counts = zip(labels.T, _found(model, labels), strict=True)
    sizes = [np.bincount(column[column >= 0], minlength=n) for column, n in counts]
    return Bags(model.bag_centres, np.concatenate(sizes).astype(float), model.bag_of, labels), seen


def _found(model: SegmentModel, labels: np.ndarray) -> list[int]:
    """How many clusters each bag holds."""
    counts = [int((model.bag_of == bag).sum()) for bag in range(labels.shape[1])]
    if any(column.max() >= n for column, n in zip(labels.T, counts, strict=True)):
        raise RunError("bags: the table is not of the model beside it. Run 03_segments on this run folder again.")
    return counts


def _with_all(customers: Signals, model: SegmentModel) -> Signals:
    """What was known one horizon ago, with zeros for features that there were none of then."""
    wanted = customers.features.reindex(columns=list(model.space.features), fill_value=0.0)
    return Signals(features=wanted, weights=customers.weights, categories=customers.categories)


def _sizes(ids: list[str], number: np.ndarray, macro: np.ndarray) -> pd.DataFrame:
    customers = np.bincount(number, minlength=len(ids))
    table = pd.DataFrame({"segment": ids, "macro_segment": [f"M{m + 1}" for m in macro], "customers": customers})
    return table.assign(customer_share=customers / len(number)).sort_values("segment", ignore_index=True)
