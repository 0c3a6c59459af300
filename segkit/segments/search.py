"""The search: UMAP and HDBSCAN find segments in subsamples; one budget decides the cut; everyone is placed.

Bagged clustering (Leisch 1999): each bag of customers gets its own map and its own HDBSCAN clusters; the centres of all
clusters, taken back into the anticipation space, are grouped by Ward's method. A segment is a group of centres that
many bags found. Placing by the nearest centre leaves nobody out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from segkit.customers.outcomes import Outcomes
from segkit.errors import BudgetError
from segkit.segments.embed import umap_plane
from segkit.segments.judge import forward_r2
from segkit.segments.place import agreement, nearest

BAGS = 10
BAG_SHARE = 0.8
BAG_EPOCHS = 80  # a bag's map is for HDBSCAN alone
NEIGHBOURS = 15
SMALLEST_CLUSTER = 0.01  # of a bag; HDBSCAN's own floor
MIN_SAMPLES = 5
PRIVACY_FLOOR = 20  # customers
MACRO_MOST = 6
KEPT = {"spend_r2": 0.98, "mix_r2": 0.95}  # of the best within the budget: more segments than that earn too little
LARGEST_BAG = 10_000  # customers; a larger base is fitted on a sample and placed


@dataclass(frozen=True)
class Budget:
    """What the user asks of a segmentation: how many segments, and how small one may be (0: as it comes, for
    refits).
    """

    fewest: int = 12
    most: int = 20
    smallest_share: float = 0.01


@dataclass(frozen=True)
class Bags:
    """Clusters of all bags: `centres` (clusters x axes), `sizes`, `bag_of`; `labels` (customers x bags: -1 noise,
    -2 not in it).
    """

    centres: np.ndarray
    sizes: np.ndarray
    bag_of: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Cut:
    """A grouping of the bags' centres: `centres` (segments x axes) and the segment of each bag centre."""

    centres: np.ndarray
    bag_segment: np.ndarray


def find_bags(points: np.ndarray, *, bags: int = BAGS, seed: int = 7) -> Bags:
    """Map and cluster subsamples of customers.

    Takes  points: customers x axes, finite
    Gives  Bags

    Parameters
    ----------
    bags : more bags steady the result, at the cost of time
    seed : the same seed gives the same bags on one machine

    Raises
    ------
    BudgetError : too few customers, or all alike
    """
    _refuse_alike(points)
    labels = np.full((len(points), bags), -2, dtype=np.int32)
    centres, sizes, bag_of = [], [], []
    for bag in range(bags):
        rng = np.random.default_rng([seed, bag])
        size = min(int(BAG_SHARE * len(points)), LARGEST_BAG)
        rows = np.sort(rng.permutation(len(points))[:size])
        found = _clusters(points[rows], seed=seed * 1000 + bag)
        labels[rows, bag] = found
        for cluster in range(found.max() + 1):
            centres.append(points[rows][found == cluster].mean(axis=0))
            sizes.append(int((found == cluster).sum()))
            bag_of.append(bag)
    return Bags(centres=np.array(centres), sizes=np.array(sizes, float), bag_of=np.array(bag_of), labels=labels)


def cut_bags(bags: Bags, *, segments: int) -> Cut:
    """Group the bags' centres into so many segments by Ward's method; a segment's centre is the mean, by size."""
    group = fcluster(linkage(bags.centres, "ward"), segments, criterion="maxclust") - 1
    numbers = np.arange(group.max() + 1)
    centres = np.array([np.average(bags.centres[group == g], axis=0, weights=bags.sizes[group == g]) for g in numbers])
    return Cut(centres=centres, bag_segment=group)


def search(
    points: np.ndarray, bags: Bags, *, learning: np.ndarray | None, outcomes: Outcomes | None, budget: Budget
) -> tuple[Cut, pd.DataFrame]:
    """Try every count within the budget; choose the fewest segments that keep nearly all of the best foresight.

    Takes  points: customers x axes, today; bags found in them; learning: the same axes one horizon ago; outcomes:
           what those
           customers did in between (the learning window: nothing after `as_of` is seen); None for both: not known
    Gives  the chosen Cut, and the frontier: segments, spend_r2, mix_r2, stability (mean agreement of bags),
           smallest_share, chosen

    Raises
    ------
    BudgetError : no count within the budget keeps every segment large enough; says which limit binds
    """
    floor = max(PRIVACY_FLOOR / len(points), budget.smallest_share) if budget.smallest_share > 0 else 0.0
    cuts = {k: cut_bags(bags, segments=k) for k in range(budget.fewest, budget.most + 1) if k <= len(bags.centres)}
    rows = [_try(points, bags, cut, learning=learning, outcomes=outcomes) for cut in cuts.values()]
    frontier = pd.DataFrame(rows)
    fits = (frontier["smallest_share"] >= floor) & (frontier["segments"] >= budget.fewest) if len(frontier) else []
    if not np.any(fits):
        raise BudgetError(_unmet(frontier, budget=budget, floor=floor, customers=len(points)))
    chosen = _fewest_that_keep(frontier[fits])
    frontier["chosen"] = frontier.index == chosen
    return list(cuts.values())[chosen], frontier


def core_customers(bags: Bags) -> np.ndarray:
    """Customers that HDBSCAN kept in at least half of the bags they were in."""
    return (bags.labels >= 0).sum(axis=1) * 2 >= np.maximum((bags.labels > -2).sum(axis=1), 1)


def segment_figures(bags: Bags, cut: Cut, number: np.ndarray) -> dict[str, float]:
    """How many segments, and how far the placed customers stand from what HDBSCAN saw, with the range over the bags.

    Gives  segments.count; segments.hdbscan_ari (adjusted Rand index on those it kept) and segments.noise_share, each
           with .low, .high
    """
    aris, noise = [], []
    for bag in range(bags.labels.shape[1]):
        labels = bags.labels[:, bag]
        kept = labels >= 0
        own = np.flatnonzero(bags.bag_of == bag)
        aris.append(adjusted_rand_score(cut.bag_segment[own][labels[kept]], number[kept]))
        noise.append((labels == -1).sum() / (labels > -2).sum())
    figures: dict[str, float] = {"segments.count": len(cut.centres), "segments.customers": len(number)}
    for name, values in (("segments.hdbscan_ari", aris), ("segments.noise_share", noise)):
        figures |= {
            name: float(np.mean(values)),
            f"{name}.low": float(np.min(values)),
            f"{name}.high": float(np.max(values)),
        }
    return figures


def macro_buckets(centres: np.ndarray, *, most: int = MACRO_MOST) -> np.ndarray:
    """The broad bucket of each segment (0, 1, ...): Ward over the segment centres, so micro nests in macro."""
    if len(centres) <= most:
        return np.arange(len(centres))
    return fcluster(linkage(centres, "ward"), most, criterion="maxclust") - 1


def _clusters(points: np.ndarray, *, seed: int) -> np.ndarray:
    import hdbscan

    plane = umap_plane(points, n_neighbors=NEIGHBOURS, min_dist=0.0, epochs=BAG_EPOCHS, seed=seed)
    smallest = max(10, int(SMALLEST_CLUSTER * len(points)))
    finder = hdbscan.HDBSCAN(
        min_cluster_size=smallest, min_samples=MIN_SAMPLES, cluster_selection_method="leaf", core_dist_n_jobs=1
    )
    return finder.fit_predict(plane)


def _try(
    points: np.ndarray, bags: Bags, cut: Cut, *, learning: np.ndarray | None, outcomes: Outcomes | None
) -> dict[str, float]:
    number = nearest(points, cut.centres)
    share = np.bincount(number, minlength=len(cut.centres)) / len(points)
    agreed = agreement(points, number, bag_centres=bags.centres, bag_of=bags.bag_of, bag_segment=cut.bag_segment)
    known = learning is not None and outcomes is not None
    scores = forward_r2(nearest(learning, cut.centres), outcomes) if known else {}
    return {
        "segments": len(cut.centres),
        "spend_r2": scores.get("spend", np.nan),
        "mix_r2": scores.get("mix", np.nan),
        "stability": float(agreed.mean()),
        "smallest_share": float(share.min()),
    }


def _fewest_that_keep(frontier: pd.DataFrame) -> int:
    """Row of the fewest segments that keep nearly all of the foresight; of the steadiest ones where none is known."""
    scores = frontier[["spend_r2", "mix_r2"]].clip(lower=0).dropna(axis=1)
    if scores.empty or not (scores > 0).any(axis=None):
        return int(frontier["stability"].idxmax())
    kept = pd.Series(KEPT)[scores.columns]
    keeps = (scores >= scores.max() * kept).all(axis=1)
    return int(keeps.idxmax() if keeps.any() else scores.sum(axis=1).idxmax())


def _refuse_alike(points: np.ndarray) -> None:
    distinct = len(np.unique(points.round(6), axis=0))
    if distinct < 2 * NEIGHBOURS:
        raise BudgetError(
            f"anticipation: {len(points):,} customers have only {distinct} different expectations, "
            f"so there is nothing to segment. Give a longer lookback, or more columns."
        )


def _unmet(frontier: pd.DataFrame, *, budget: Budget, floor: float, customers: int) -> str:
    if frontier.empty:
        return (
            f"segments: HDBSCAN found fewer than {budget.fewest} clusters. "
            f"Ask for fewer (segments_min), or give more history."
        )
    best = frontier.loc[frontier["smallest_share"].idxmax()]
    return (
        f"segments: no cut into {budget.fewest}-{budget.most} segments keeps each above {floor:.1%} "
        f"of {customers:,} customers; "
        f"the best ({best['segments']:.0f} segments) has one of {best['smallest_share']:.1%}. "
        f"Lower smallest_share, or ask for fewer segments (segments_min)."
    )
