"""Find segments: the UMAP map, HDBSCAN on subsamples, cuts of the space, and the search over budgets."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial import KDTree
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from segkit.customers.features import Outcomes
from segkit.errors import BudgetError, SchemaError
from segkit.format import FLOOR
from segkit.segments.model import nearest_centre
from segkit.segments.scoring import ScoringOutcomes, adjusted_r2, scoring_outcomes
from segkit.stats import hash_sample

EPOCHS = 200
INTERPOLATION_NEIGHBOURS = 3  # drawn customers that place one who is not
LARGE_SAMPLE_EPOCHS, LARGE_SAMPLE = 100, 20_000  # rows


def embed_customers(axes: pd.DataFrame, *, n_neighbors: int = 15, min_dist: float = 0.0, seed: int = 7) -> pd.DataFrame:
    """Place customers on a plane so that those with a like future lie close (UMAP, McInnes et al. 2018).

    Takes  one row per customer, indexed by customer_id; numeric columns; no nulls; more rows than n_neighbors
    Gives  x and y (no unit), same index and order. Distances far apart on the map mean little. Of very many
           customers a sample is drawn, and each of the others lies where those most like them lie

    Parameters
    ----------
    n_neighbors : larger shows broad groups, smaller shows fine ones; 2 <= n < rows
    min_dist : larger spreads the points within a group, for the eye; 0 packs them, for HDBSCAN
    seed : the same seed gives the same map on one machine

    Raises
    ------
    SchemaError : a column is not finite, or there are too few rows
    """
    points = axes.to_numpy(dtype=np.float64)
    if not np.isfinite(points).all():
        bad = sorted(axes.columns[~np.isfinite(points).all(axis=0)])
        raise SchemaError(f"anticipation: values that are not finite in {bad}. Check the source's amounts.")
    if len(points) <= n_neighbors:
        raise SchemaError(f"anticipation: {len(points)} customers are too few for {n_neighbors} neighbours.")
    epochs = LARGE_SAMPLE_EPOCHS if len(points) > LARGE_SAMPLE else EPOCHS
    drawn = hash_sample(axes.index)
    coords = np.empty((len(points), 2))
    coords[drawn] = umap_plane(points[drawn], n_neighbors=n_neighbors, min_dist=min_dist, epochs=epochs, seed=seed)
    coords[~drawn] = _interpolate(points[~drawn], sample_points=points[drawn], coords=coords[drawn])
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]).round(6)


def _interpolate(points: np.ndarray, *, sample_points: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """The middle of the places of the nearest known points: the median, which is not pulled between two islands."""
    if not len(points):
        return np.empty((0, 2))
    return np.median(coords[KDTree(sample_points).query(points, k=INTERPOLATION_NEIGHBOURS)[1]], axis=1)


def umap_plane(points: np.ndarray, *, n_neighbors: int, min_dist: float, epochs: int, seed: int) -> np.ndarray:
    """UMAP in two dimensions from exact neighbours: no compilation of NN-descent, equal across processes."""
    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(points)
    neighbours = (indices.astype(np.int32), distances.astype(np.float32), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one job because seeded, no transform, no TensorFlow: all are meant
        from umap import UMAP

        _cache_compiled()
        model = UMAP(
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            init="pca" if points.shape[1] >= 2 else "random",
            n_epochs=epochs,
            precomputed_knn=neighbours,
            random_state=seed,
            n_jobs=1,
        )
        return model.fit_transform(points.astype(np.float32)).astype(np.float64)


@cache
def _cache_compiled() -> None:
    """Let numba keep what it compiles for UMAP: six seconds in every process, a quarter of one from the second on."""
    import umap.layouts
    import umap.umap_
    from numba.core.dispatcher import Dispatcher

    for module in (umap.layouts, umap.umap_):
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                with suppress(RuntimeError):  # no folder to keep it in: it is compiled again
                    function.enable_caching()


N_SUBSAMPLES = 10
SUBSAMPLE_SHARE = 0.8
SUBSAMPLE_EPOCHS = 40  # a bag's map is for HDBSCAN alone; 80 gave the same stability
UMAP_NEIGHBOURS = 15
MIN_CLUSTER_SHARE = 0.01  # of a bag; HDBSCAN's own floor
MIN_SAMPLES = 5
MAX_SUBSAMPLE_SIZE = 4_000  # customers, of very many; larger cost more and were no steadier (benchmarks/README)


@dataclass(frozen=True)
class Subsamples:
    """Clusters of all bags: `centres` (clusters x axes), `sizes`, `bag_of`; `labels` (customers x bags: the cluster,
    -1 noise, -2 not in the bag).
    """

    centres: np.ndarray
    sizes: np.ndarray
    subsample_of: np.ndarray
    labels: np.ndarray

    @property
    def count(self) -> int:
        return self.labels.shape[1]

    def clustered_share(self) -> np.ndarray:
        """Share of the bags a customer was in, in which HDBSCAN kept them; 0 for one who was in none."""
        return (self.labels >= 0).sum(axis=1) / np.maximum((self.labels > -2).sum(axis=1), 1)

    def core(self) -> np.ndarray:
        """Customers that HDBSCAN kept in at least half of the bags they were in."""
        return self.clustered_share() >= 0.5


def cluster_subsamples(points: np.ndarray, *, n_subsamples: int = N_SUBSAMPLES, seed: int = 7) -> Subsamples:
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
    labels = np.full((len(points), n_subsamples), -2, dtype=np.int32)
    centres, sizes, bag_of = [], [], []
    for bag in range(n_subsamples):
        rng = np.random.default_rng([seed, bag])
        size = min(int(SUBSAMPLE_SHARE * len(points)), MAX_SUBSAMPLE_SIZE)
        rows = np.sort(rng.permutation(len(points))[:size])
        found = _find_clusters(points[rows], seed=seed * 1000 + bag)
        labels[rows, bag] = found
        for cluster in range(found.max() + 1):
            centres.append(points[rows][found == cluster].mean(axis=0))
            sizes.append(int((found == cluster).sum()))
            bag_of.append(bag)
    shape = (-1, points.shape[1])
    return Subsamples(
        centres=np.array(centres).reshape(shape),
        sizes=np.array(sizes, dtype=float),
        subsample_of=np.array(bag_of, dtype=np.int64),
        labels=labels,
    )


def _find_clusters(points: np.ndarray, *, seed: int) -> np.ndarray:
    import hdbscan

    plane = umap_plane(points, n_neighbors=UMAP_NEIGHBOURS, min_dist=0.0, epochs=SUBSAMPLE_EPOCHS, seed=seed)
    smallest = max(10, int(MIN_CLUSTER_SHARE * len(points)))
    finder = hdbscan.HDBSCAN(
        min_cluster_size=smallest, min_samples=MIN_SAMPLES, cluster_selection_method="leaf", core_dist_n_jobs=1
    )
    return finder.fit_predict(plane)


def _refuse_alike(points: np.ndarray) -> None:
    distinct = len(np.unique(points.round(6), axis=0))
    if distinct < 2 * UMAP_NEIGHBOURS:
        raise BudgetError(
            f"anticipation: {len(points):,} customers have only {distinct} different expectations, "
            f"so there is nothing to segment. Give a longer lookback, or more columns."
        )


FAMILIES = ("anchored", "joined")
MAX_MACRO_GROUPS = 6


@dataclass(frozen=True)
class Segmentation:
    """`centres` (segments x axes) of a segmentation, and the family it is of."""

    centres: np.ndarray
    family: str

    @property
    def shape(self) -> tuple[str, int]:
        """The family and the number of segments."""
        return self.family, len(self.centres)


def make_segmentations(
    points: np.ndarray, subsamples: Subsamples, *, family: str, counts: Sequence[int]
) -> list[Segmentation]:
    """Cuts into several numbers of segments (fewer where the bags do not hold as many), highest on the first axis
    first.

    Takes  points: customers x axes; the bags found in them; counts: of segments
    """
    if family == "joined":
        made = _join_clusters(subsamples.centres, subsamples.sizes, counts=counts)
    else:
        made = _split_customers(points, subsamples.clustered_share(), counts=counts)
    return [Segmentation(centres=c[np.argsort(-c[:, 0], kind="stable")], family=family) for c in made]


def make_segmentation(points: np.ndarray, subsamples: Subsamples, *, family: str, segments: int) -> Segmentation:
    """One such cut."""
    return make_segmentations(points, subsamples, family=family, counts=[segments])[0]


def drop_small_segments(
    points: np.ndarray, segmentation: Segmentation, *, min_customers: int, min_segments: int
) -> Segmentation:
    """Give up the smallest segments, one at a time, until each has enough customers or no more can be given up.

    Takes  points: customers x axes; a cut finer than is wanted; floor: customers; fewest: segments to be left
    """
    centres = segmentation.centres
    while len(centres) > min_segments:
        sizes = np.bincount(nearest_centre(points, centres), minlength=len(centres))
        if sizes.min() >= min_customers:
            break
        centres = np.delete(centres, int(sizes.argmin()), axis=0)
    return Segmentation(centres=centres, family=segmentation.family)


def subsample_segmentations(
    points: np.ndarray, subsamples: Subsamples, *, family: str, counts: Sequence[int]
) -> list[list[np.ndarray]]:
    """The same cuts made on each bag alone: of its clusters, or of its customers with the weights of all bags.

    Gives  for each bag the centres of the cut into each number of segments
    """
    weights, found = subsamples.clustered_share(), []
    for bag in range(subsamples.count):
        if family == "joined":
            own = subsamples.subsample_of == bag
            found.append(_join_clusters(subsamples.centres[own], subsamples.sizes[own], counts=counts))
        else:
            inside = subsamples.labels[:, bag] > -2
            found.append(_split_customers(points[inside], weights[inside], counts=counts))
    return found


def macro_groups(centres: np.ndarray, *, max_groups: int = MAX_MACRO_GROUPS) -> np.ndarray:
    """The broad bucket of each segment (0, 1, ...): Ward over the segment centres, so micro nests in macro."""
    if len(centres) <= max_groups:
        return np.arange(len(centres))
    return fcluster(linkage(centres, "ward"), max_groups, criterion="maxclust") - 1


def _join_clusters(centres: np.ndarray, sizes: np.ndarray, *, counts: Sequence[int]) -> list[np.ndarray]:
    tree = linkage(centres, "ward") if len(centres) > 1 else None
    made = []
    for segments in counts:
        if tree is None or len(centres) <= segments:
            made.append(centres)
            continue
        group = fcluster(tree, segments, criterion="maxclust") - 1
        numbers = np.arange(group.max() + 1)
        made.append(np.array([np.average(centres[group == g], axis=0, weights=sizes[group == g]) for g in numbers]))
    return made


def _split_customers(points: np.ndarray, weights: np.ndarray, *, counts: Sequence[int]) -> list[np.ndarray]:
    """Halve the part with the largest spread along one axis, at its mean, until there are enough; then the means of
    those nearest to each centre, once. A finer cut goes on from a coarser one.
    """
    weights = weights if weights.any() else np.ones(len(points))  # no structure is a finding: then all weigh the same
    seen = weights > 0
    points, weights = points[seen], weights[seen]
    parts = [np.arange(len(points))]
    spreads = [_spread(points, weights)]
    made: dict[int, np.ndarray] = {}
    for segments in sorted(set(counts)):
        while len(parts) < segments and max(s[0] for s in spreads) > 0:
            widest = int(np.argmax([s[0] for s in spreads]))
            rows, (_, axis, middle) = parts.pop(widest), spreads.pop(widest)
            low = points[rows, axis] <= middle
            for half in (rows[low], rows[~low]):
                parts.append(half)
                spreads.append(_spread(points[half], weights[half]))
        made[segments] = _weighted_means(points, weights, parts=parts)
    return [made[segments] for segments in counts]


def _weighted_means(points: np.ndarray, weights: np.ndarray, *, parts: list[np.ndarray]) -> np.ndarray:
    """The weighted means of those nearest to the weighted mean of each part."""
    number = nearest_centre(
        points, np.array([np.average(points[rows], axis=0, weights=weights[rows]) for rows in parts])
    )
    sizes = np.bincount(number, weights=weights)
    totals = np.column_stack([np.bincount(number, weights=weights * column) for column in points.T])
    present = sizes > 0
    return totals[present] / sizes[present, None]


def _spread(points: np.ndarray, weights: np.ndarray) -> tuple[float, int, float]:
    """Largest weighted sum of squares along one axis, that axis, and the mean on it."""
    mean = np.average(points, axis=0, weights=weights)
    squares = weights @ np.square(points - mean)
    axis = int(squares.argmax())
    return float(squares[axis]), axis, float(mean[axis])


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
class _SearchData:
    """What cuts are tried on: everyone, those in the bags and what the bags hold; one horizon ago, and what came."""

    points: np.ndarray
    sample_points: np.ndarray
    subsamples: Subsamples
    training_points: np.ndarray | None
    outcomes: ScoringOutcomes | None


def search(
    points: np.ndarray,
    subsamples: Subsamples,
    *,
    in_sample: np.ndarray | None = None,
    training_points: np.ndarray | None,
    outcomes: Outcomes | None,
    budget: Budget,
) -> tuple[Segmentation, pd.DataFrame]:
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
    truth = scoring_outcomes(outcomes) if training_points is not None and outcomes is not None else None
    own = points if in_sample is None else points[in_sample]
    trial = _SearchData(
        points=points, sample_points=own, subsamples=subsamples, training_points=training_points, outcomes=truth
    )
    counts = list(range(budget.min_segments, budget.max_segments + 1))
    cuts = {family: make_segmentations(own, subsamples, family=family, counts=counts) for family in budget.families}
    made = [cut for of in cuts.values() for cut, k in zip(of, counts, strict=True) if len(cut.centres) == k]
    if not made and budget.smallest_share <= 0:
        made = [cut for of in cuts.values() for cut in of if len(cut.centres) > 1]  # a refit takes what its bags hold
    frontier = _frontier(trial, made)
    if not (frontier["smallest_share"] >= floor).any() and budget.smallest_share > 0:
        finer = _finer_segmentations(trial, budget=budget, floor=floor)
        made, frontier = (finer, _frontier(trial, finer)) if finer else (made, frontier)
    large_enough = frontier["smallest_share"] >= floor
    if not large_enough.any():
        raise BudgetError(_explain_unmet(frontier, budget=budget, floor=floor, customers=len(points)))
    scores = frontier[["spend_r2", "mix_r2", "stability"]].clip(lower=0)
    best = scores[large_enough].max()
    frontier["score"] = (scores / best.where(best > 0, 1.0)).mean(axis=1)
    chosen = _select_best(frontier, large_enough, prefer=budget.prefer)
    frontier["chosen"] = frontier.index == chosen
    return made[chosen], frontier


def segment_metrics(
    subsamples: Subsamples, segmentation: Segmentation, segment_number: np.ndarray, *, customers: int | None = None
) -> dict[str, float]:
    """How many segments, and how far the placed customers stand from what HDBSCAN saw, with the range over the bags.

    Takes  bags and the cut made of them; number: segment of each of their customers; customers: how many were placed
    Gives  segments.count; segments.hdbscan_ari (adjusted Rand index on those it kept) and segments.noise_share, each
           with .low, .high
    """
    aris, noise = [], []
    found = nearest_centre(subsamples.centres, segmentation.centres)
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


def _finer_segmentations(data: _SearchData, *, budget: Budget, floor: float) -> list[Segmentation]:
    """For few customers: finer cuts, with their smallest segments given up until the others are large enough."""
    least, counts = int(np.ceil(floor * len(data.points))), range(budget.min_segments, 3 * budget.max_segments)
    finer = [
        cut
        for f in budget.families
        for cut in make_segmentations(data.sample_points, data.subsamples, family=f, counts=counts)
    ]
    cleared = [
        drop_small_segments(data.points, cut, min_customers=least, min_segments=budget.min_segments) for cut in finer
    ]
    return [cut for cut in cleared if budget.min_segments <= len(cut.centres) <= budget.max_segments]


def _frontier(data: _SearchData, segmentations: list[Segmentation]) -> pd.DataFrame:
    """A row of the frontier for each cut."""
    steady = _subsample_agreement(data, segmentations)
    rows = [
        _score_segmentation(data, cut) | {"stability": steady[cut.family, len(cut.centres)]} for cut in segmentations
    ]
    return pd.DataFrame(rows, columns=["family", "segments", "spend_r2", "mix_r2", "stability", "smallest_share"])


def _score_segmentation(data: _SearchData, segmentation: Segmentation) -> dict[str, object]:
    share = np.bincount(nearest_centre(data.points, segmentation.centres), minlength=len(segmentation.centres)) / len(
        data.points
    )
    then = nearest_centre(data.training_points, segmentation.centres) if data.outcomes is not None else None
    scores = {m: np.nan for m in ("spend", "mix")}
    for measure in scores:
        if data.outcomes is not None and measure in data.outcomes.values:
            rows, values = data.outcomes.values[measure]
            scores[measure] = float(adjusted_r2(then[rows], values)[0])
    row = {"family": segmentation.family, "segments": len(segmentation.centres), "smallest_share": float(share.min())}
    return row | {f"{measure}_r2": r2 for measure, r2 in scores.items()}


def _subsample_agreement(data: _SearchData, segmentations: list[Segmentation]) -> dict[tuple[str, int], float]:
    """Mean adjusted Rand index of neighbouring bags' own cuts, by family and number of segments."""
    found = {}
    for family in sorted({cut.family for cut in segmentations}):
        counts = sorted({len(cut.centres) for cut in segmentations if cut.family == family})
        of_bags = subsample_segmentations(data.sample_points, data.subsamples, family=family, counts=counts)
        for i, count in enumerate(counts):
            labels = [nearest_centre(data.sample_points, of_bag[i]) for of_bag in of_bags if len(of_bag[i])]
            pairs = zip(labels, labels[1:] + labels[:1], strict=True)
            found[family, count] = float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))
    return found


def _select_best(frontier: pd.DataFrame, large_enough: pd.Series, *, prefer: tuple[str, int] | None) -> int:
    """The row with the highest score; the preferred cut where it is within noise of that."""
    allowed = frontier["score"].where(large_enough, -1.0)
    good = frontier[allowed >= allowed.max() - NOISE]
    same = [shape == prefer for shape in zip(good["family"], good["segments"], strict=True)]
    return int(good.index[same.index(True)] if any(same) else allowed.idxmax())


def _explain_unmet(frontier: pd.DataFrame, *, budget: Budget, floor: float, customers: int) -> str:
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
