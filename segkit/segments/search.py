"""The search: UMAP and HDBSCAN look for segments in subsamples; one budget decides the cut; everyone is placed.

Each bag, a subsample of customers, gets its own map and its own HDBSCAN clusters. Two families of cuts are made from
what the bags found, and every number of segments within the budget is tried in both (`segments.cuts`). Where customers
form groups, joining the clusters follows them; where they are a continuum, anchored borders between the dense parts
come back more surely. The score decides: foresight on the learning window, stability between bags, and size.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from segkit.customers.outcomes import Outcomes
from segkit.errors import BudgetError
from segkit.segments.bags import Bags
from segkit.segments.cuts import FAMILIES, Cut, bag_cuts, make_cuts, without_crumbs
from segkit.segments.judge import Truth, adjusted_r2, forward_truth
from segkit.segments.place import nearest
from segkit.small_groups import FLOOR

NOISE = 0.02  # of the score: two cuts differ by as much from subsample to subsample (benchmarks/README)


@dataclass(frozen=True)
class Budget:
    """What the user asks of a segmentation: how many segments, and how small one may be (0: as it comes, for
    refits); `prefer`: a family and number of segments that stay unless another cut is better beyond noise.
    """

    min_segments: int = 12
    max_segments: int = 20
    smallest_share: float = 0.01
    families: tuple[str, ...] = FAMILIES
    prefer: tuple[str, int] | None = None


@dataclass(frozen=True)
class _Trial:
    """What cuts are tried on: everyone, those in the bags and what the bags hold; one horizon ago, and what came."""

    points: np.ndarray
    sample_points: np.ndarray
    subsamples: Bags
    training_points: np.ndarray | None
    outcomes: Truth | None


def search(
    points: np.ndarray,
    subsamples: Bags,
    *,
    in_sample: np.ndarray | None = None,
    training_points: np.ndarray | None,
    outcomes: Outcomes | None,
    budget: Budget,
) -> tuple[Cut, pd.DataFrame]:
    """Try every count within the budget in both families; choose the best in foresight and stability together.

    Takes  points: customers x axes, today; bags found in them; learning: the same axes one horizon ago; outcomes: what
           those customers did in between (the learning window: nothing after `as_of` is seen); None: not known
    Gives  the chosen Cut, and the frontier: family, segments, spend_r2, mix_r2, stability (adjusted Rand index between
           cuts made in each bag alone), smallest_share, score (mean of the three, each against the best), chosen

    Parameters
    ----------
    seen : a flag for each customer in whom the bags were looked for; by default all

    Raises
    ------
    BudgetError : no count within the budget keeps every segment large enough; says which limit binds
    """
    _refuse_budget(budget, customers=len(points))
    floor = max(FLOOR / len(points), budget.smallest_share) if budget.smallest_share > 0 else 0.0
    truth = forward_truth(outcomes) if training_points is not None and outcomes is not None else None
    own = points if in_sample is None else points[in_sample]
    trial = _Trial(
        points=points, sample_points=own, subsamples=subsamples, training_points=training_points, outcomes=truth
    )
    counts = list(range(budget.min_segments, budget.max_segments + 1))
    cuts = {family: make_cuts(own, subsamples, family=family, counts=counts) for family in budget.families}
    made = [cut for of in cuts.values() for cut, k in zip(of, counts, strict=True) if len(cut.centres) == k]
    if not made and budget.smallest_share <= 0:
        made = [cut for of in cuts.values() for cut in of if len(cut.centres) > 1]  # a refit takes what its bags hold
    frontier = _tried(trial, made)
    if not (frontier["smallest_share"] >= floor).any() and budget.smallest_share > 0:
        finer = _without_crumbs(trial, budget=budget, floor=floor)
        made, frontier = (finer, _tried(trial, finer)) if finer else (made, frontier)
    large_enough = frontier["smallest_share"] >= floor
    if not large_enough.any():
        raise BudgetError(_unmet(frontier, budget=budget, floor=floor, customers=len(points)))
    scores = frontier[["spend_r2", "mix_r2", "stability"]].clip(lower=0)
    best = scores[large_enough].max()
    frontier["score"] = (scores / best.where(best > 0, 1.0)).mean(axis=1)
    chosen = _best(frontier, large_enough, prefer=budget.prefer)
    frontier["chosen"] = frontier.index == chosen
    return made[chosen], frontier


def segment_figures(
    subsamples: Bags, segmentation: Cut, segment_number: np.ndarray, *, customers: int | None = None
) -> dict[str, float]:
    """How many segments, and how far the placed customers stand from what HDBSCAN saw, with the range over the bags.

    Takes  bags and the cut made of them; number: segment of each of their customers; customers: how many were placed
    Gives  segments.count; segments.hdbscan_ari (adjusted Rand index on those it kept) and segments.noise_share, each
           with .low, .high
    """
    aris, noise = [], []
    found = nearest(subsamples.centres, segmentation.centres)
    for bag in range(subsamples.labels.shape[1]):
        labels = subsamples.labels[:, bag]
        clustered = labels >= 0
        own = np.flatnonzero(subsamples.subsample_of == bag)
        aris.append(adjusted_rand_score(found[own][labels[clustered]], segment_number[clustered]))
        noise.append((labels == -1).sum() / (labels > -2).sum())
    figures: dict[str, float] = {
        "segments.count": len(segmentation.centres),
        "segments.customers": customers or len(segment_number),
    }
    for name, values in (("segments.hdbscan_ari", aris), ("segments.noise_share", noise)):
        figures |= {
            name: float(np.mean(values)),
            f"{name}.low": float(np.min(values)),
            f"{name}.high": float(np.max(values)),
        }
    return figures


def _refuse_budget(budget: Budget, *, customers: int) -> None:
    """A budget that no customers, or not so few, could meet."""
    if not 2 <= budget.min_segments <= budget.max_segments:
        raise BudgetError(
            f"segments: from {budget.min_segments} to {budget.max_segments} cannot be met. "
            f"Give segments_min of at least 2, and segments_max of at least segments_min."
        )
    if budget.smallest_share * budget.min_segments > 1:
        raise BudgetError(
            f"segments: {budget.min_segments} segments of at least {budget.smallest_share:.1%} are more than everyone. "
            f"Lower smallest_share to {1 / budget.min_segments:.1%} or less, or ask for fewer segments (segments_min)."
        )
    needed = budget.min_segments * FLOOR
    if customers < needed and budget.smallest_share > 0:
        raise BudgetError(
            f"segments: {customers:,} customers are too few; "
            f"{budget.min_segments} segments of {FLOOR} need {needed}. "
            f"Ask for fewer segments (segments_min), or give a longer lookback."
        )


def _without_crumbs(data: _Trial, *, budget: Budget, floor: float) -> list[Cut]:
    """For few customers: finer cuts, with their smallest segments given up until the others are large enough."""
    least, counts = int(np.ceil(floor * len(data.points))), range(budget.min_segments, 3 * budget.max_segments)
    finer = [
        cut for f in budget.families for cut in make_cuts(data.sample_points, data.subsamples, family=f, counts=counts)
    ]
    cleared = [without_crumbs(data.points, cut, min_customers=least, min_segments=budget.min_segments) for cut in finer]
    return [cut for cut in cleared if budget.min_segments <= len(cut.centres) <= budget.max_segments]


def _tried(data: _Trial, segmentations: list[Cut]) -> pd.DataFrame:
    """A row of the frontier for each cut."""
    steady = _between_bags(data, segmentations)
    rows = [_try(data, cut) | {"stability": steady[cut.family, len(cut.centres)]} for cut in segmentations]
    return pd.DataFrame(rows, columns=["family", "segments", "spend_r2", "mix_r2", "stability", "smallest_share"])


def _try(data: _Trial, segmentation: Cut) -> dict[str, object]:
    share = np.bincount(nearest(data.points, segmentation.centres), minlength=len(segmentation.centres)) / len(
        data.points
    )
    then = nearest(data.training_points, segmentation.centres) if data.outcomes is not None else None
    scores = {m: np.nan for m in ("spend", "mix")}
    for measure in scores:
        if data.outcomes is not None and measure in data.outcomes.values:
            rows, values = data.outcomes.values[measure]
            scores[measure] = float(adjusted_r2(then[rows], values)[0])
    row = {"family": segmentation.family, "segments": len(segmentation.centres), "smallest_share": float(share.min())}
    return row | {f"{measure}_r2": r2 for measure, r2 in scores.items()}


def _between_bags(data: _Trial, segmentations: list[Cut]) -> dict[tuple[str, int], float]:
    """Mean adjusted Rand index of neighbouring bags' own cuts, by family and number of segments."""
    found = {}
    for family in sorted({cut.family for cut in segmentations}):
        counts = sorted({len(cut.centres) for cut in segmentations if cut.family == family})
        of_bags = bag_cuts(data.sample_points, data.subsamples, family=family, counts=counts)
        for i, count in enumerate(counts):
            labels = [nearest(data.sample_points, of_bag[i]) for of_bag in of_bags if len(of_bag[i])]
            pairs = zip(labels, labels[1:] + labels[:1], strict=True)
            found[family, count] = float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))
    return found


def _best(frontier: pd.DataFrame, large_enough: pd.Series, *, prefer: tuple[str, int] | None) -> int:
    """The row with the highest score; the preferred cut where it is within noise of that."""
    allowed = frontier["score"].where(large_enough, -1.0)
    good = frontier[allowed >= allowed.max() - NOISE]
    same = [shape == prefer for shape in zip(good["family"], good["segments"], strict=True)]
    return int(good.index[same.index(True)] if any(same) else allowed.idxmax())


def _unmet(frontier: pd.DataFrame, *, budget: Budget, floor: float, customers: int) -> str:
    if frontier.empty:
        return (
            f"segments: HDBSCAN found fewer than {budget.min_segments} clusters. "
            f"Ask for fewer (segments_min), or give more history."
        )
    best = frontier.loc[frontier["smallest_share"].idxmax()]
    return (
        f"segments: no cut into {budget.min_segments}-{budget.max_segments} segments keeps each above {floor:.1%} "
        f"of {customers:,} customers; "
        f"the best ({best['segments']:.0f} segments) has one of {best['smallest_share']:.1%}. "
        f"Lower smallest_share, or ask for fewer segments (segments_min)."
    )
