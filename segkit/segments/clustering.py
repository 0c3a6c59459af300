"""Find segments: the UMAP map, HDBSCAN on subsamples, segmentations of two families, and the search for the best."""

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
INTERPOLATION_NEIGHBOURS = 3  # sampled customers that set another one's position
LARGE_SAMPLE_EPOCHS, LARGE_SAMPLE = 100, 20_000  # rows


def embed_customers(axes: pd.DataFrame, *, n_neighbors: int = 15, min_dist: float = 0.0, seed: int = 7) -> pd.DataFrame:
    """Draw customers on a plane so that those with similar expected behaviour lie close (UMAP, McInnes et al. 2018).

    Parameters
    ----------
    axes
        Coordinates, indexed by customer_id; finite numbers; more rows than `n_neighbors`.
    n_neighbors
        Larger shows broad groups, smaller shows fine ones; 2 <= n < rows.
    min_dist
        Larger spreads the points within a group, for the eye; 0 packs them, for HDBSCAN.
    seed
        The same seed gives the same map on one machine.

    Returns
    -------
    pandas.DataFrame
        x and y (no unit), same index and order; long distances mean little. In large data the map is made of a sample,
        and each other customer lies between the most similar ones.

    Raises
    ------
    SchemaError
        A column is not finite, or there are too few rows.
    """
    points = axes.to_numpy(dtype=np.float64)
    if not np.isfinite(points).all():
        bad = sorted(axes.columns[~np.isfinite(points).all(axis=0)])
        raise SchemaError(f"anticipation: values that are not finite in {bad}. Check the source's amounts.")
    if len(points) <= n_neighbors:
        raise SchemaError(f"anticipation: {len(points)} customers are too few for {n_neighbors} neighbours.")
    epochs = LARGE_SAMPLE_EPOCHS if len(points) > LARGE_SAMPLE else EPOCHS
    sampled = hash_sample(axes.index)
    coords = np.empty((len(points), 2))
    coords[sampled] = umap_plane(points[sampled], n_neighbors=n_neighbors, min_dist=min_dist, epochs=epochs, seed=seed)
    if not sampled.all():  # the median, unlike the mean, is not pulled between two islands
        nearest = KDTree(points[sampled]).query(points[~sampled], k=INTERPOLATION_NEIGHBOURS)[1]
        coords[~sampled] = np.median(coords[sampled][nearest], axis=1)
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]).round(6)


def umap_plane(points: np.ndarray, *, n_neighbors: int, min_dist: float, epochs: int, seed: int) -> np.ndarray:
    """Run UMAP in two dimensions on exact neighbours: no compilation of NN-descent, equal across processes."""
    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(points)
    neighbours = (indices.astype(np.int32), distances.astype(np.float32), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one job because seeded, no transform, no TensorFlow: all intended
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
    """Cache what numba compiles for UMAP: six seconds in every process become a quarter of one from the second on."""
    import umap.layouts
    import umap.umap_
    from numba.core.dispatcher import Dispatcher

    for module in (umap.layouts, umap.umap_):
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                with suppress(RuntimeError):  # no folder for the cache: it is compiled again
                    function.enable_caching()


N_SUBSAMPLES = 10
SUBSAMPLE_SHARE = 0.8
SUBSAMPLE_EPOCHS = 40  # a subsample's map serves HDBSCAN alone; 80 gave the same stability
UMAP_NEIGHBOURS = 15
MIN_CLUSTER_SHARE = 0.01  # of a subsample; the smallest cluster of HDBSCAN
MIN_SAMPLES = 5
MAX_SUBSAMPLE_SIZE = 4_000  # customers; larger ones cost more and were no more stable (benchmarks/README)


@dataclass(frozen=True)
class Subsamples:
    """Hold the clusters of all subsamples.

    Parameters
    ----------
    centres
        Clusters x axes.
    sizes, subsample_of
        Customers of each cluster, and its subsample.
    labels
        Customers x subsamples: the cluster; -1 noise, -2 not in the subsample.
    """

    centres: np.ndarray
    sizes: np.ndarray
    subsample_of: np.ndarray
    labels: np.ndarray

    @property
    def count(self) -> int:
        """Return the number of subsamples."""
        return self.labels.shape[1]

    def clustered_share(self) -> np.ndarray:
        """Return each customer's share of subsamples in which HDBSCAN put them in a cluster; 0 if they were in none."""
        return (self.labels >= 0).sum(axis=1) / np.maximum((self.labels > -2).sum(axis=1), 1)

    def core(self) -> np.ndarray:
        """Flag customers who were in a cluster in at least half of their subsamples."""
        return self.clustered_share() >= 0.5


def cluster_subsamples(points: np.ndarray, *, n_subsamples: int = N_SUBSAMPLES, seed: int = 7) -> Subsamples:
    """Map and cluster subsamples of customers.

    Parameters
    ----------
    points
        Coordinates, customers x axes, finite.
    n_subsamples
        More make the result more stable, and take longer.
    seed
        The same seed gives the same subsamples on one machine.

    Raises
    ------
    BudgetError
        Too few customers, or all alike.
    """
    distinct = len(np.unique(points.round(6), axis=0))
    if distinct < 2 * UMAP_NEIGHBOURS:
        raise BudgetError(
            f"anticipation: {len(points):,} customers have only {distinct} different forecasts, "
            f"so there is nothing to segment. Give a longer lookback, or more columns."
        )
    labels = np.full((len(points), n_subsamples), -2, dtype=np.int32)
    centres, sizes, subsample_of = [], [], []
    for number in range(n_subsamples):
        rng = np.random.default_rng([seed, number])
        size = min(int(SUBSAMPLE_SHARE * len(points)), MAX_SUBSAMPLE_SIZE)
        rows = np.sort(rng.permutation(len(points))[:size])
        found = _find_clusters(points[rows], seed=seed * 1000 + number)
        labels[rows, number] = found
        for cluster in range(found.max() + 1):
            centres.append(points[rows][found == cluster].mean(axis=0))
            sizes.append(int((found == cluster).sum()))
            subsample_of.append(number)
    shape = (-1, points.shape[1])
    return Subsamples(
        centres=np.array(centres).reshape(shape),
        sizes=np.array(sizes, dtype=float),
        subsample_of=np.array(subsample_of, dtype=np.int64),
        labels=labels,
    )


def _find_clusters(points: np.ndarray, *, seed: int) -> np.ndarray:
    """Cluster the map of one subsample with HDBSCAN."""
    import hdbscan

    plane = umap_plane(points, n_neighbors=UMAP_NEIGHBOURS, min_dist=0.0, epochs=SUBSAMPLE_EPOCHS, seed=seed)
    smallest = max(10, int(MIN_CLUSTER_SHARE * len(points)))
    finder = hdbscan.HDBSCAN(
        min_cluster_size=smallest, min_samples=MIN_SAMPLES, cluster_selection_method="leaf", core_dist_n_jobs=1
    )
    return finder.fit_predict(plane)


FAMILIES = ("anchored", "joined")
MAX_MACRO_GROUPS = 6


@dataclass(frozen=True)
class Segmentation:
    """Hold the centres of a segmentation (segments x axes) and its family."""

    centres: np.ndarray
    family: str

    @property
    def shape(self) -> tuple[str, int]:
        """Return the family and the number of segments."""
        return self.family, len(self.centres)


def make_segmentations(
    points: np.ndarray, subsamples: Subsamples, *, family: str, counts: Sequence[int]
) -> list[Segmentation]:
    """Make a segmentation for each number of segments, sorted by the first axis, highest first.

    Parameters
    ----------
    points
        Coordinates, customers x axes.
    subsamples
        Clusters found in these customers.
    family
        "joined" merges similar clusters; "anchored" splits customers, weighted by how often they were in a cluster.
    counts
        Numbers of segments; there are fewer where the subsamples have fewer clusters.
    """
    if family == "joined":
        made = _join_clusters(subsamples.centres, subsamples.sizes, counts=counts)
    else:
        made = _split_customers(points, subsamples.clustered_share(), counts=counts)
    return [Segmentation(centres=c[np.argsort(-c[:, 0], kind="stable")], family=family) for c in made]


def make_segmentation(points: np.ndarray, subsamples: Subsamples, *, family: str, segments: int) -> Segmentation:
    """Make one segmentation; otherwise as `make_segmentations`."""
    return make_segmentations(points, subsamples, family=family, counts=[segments])[0]


def drop_small_segments(
    points: np.ndarray, segmentation: Segmentation, *, min_customers: int, min_segments: int
) -> Segmentation:
    """Dissolve the smallest segment, repeatedly, until each has `min_customers` or only `min_segments` are left.

    Parameters
    ----------
    points
        Coordinates, customers x axes.
    segmentation
        One with more segments than wanted.
    min_customers, min_segments
        Customers in a segment, and segments to be left.
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
    """Make the same segmentations from each subsample alone.

    Returns
    -------
    list
        For each subsample the centres for each of `counts`.
    """
    weights, found = subsamples.clustered_share(), []
    for number in range(subsamples.count):
        if family == "joined":
            inside = subsamples.subsample_of == number
            found.append(_join_clusters(subsamples.centres[inside], subsamples.sizes[inside], counts=counts))
        else:
            inside = subsamples.labels[:, number] > -2
            found.append(_split_customers(points[inside], weights[inside], counts=counts))
    return found


def macro_groups(centres: np.ndarray, *, max_groups: int = MAX_MACRO_GROUPS) -> np.ndarray:
    """Return the macro segment of each segment (0, 1, ...), by Ward clustering of the centres."""
    if len(centres) <= max_groups:
        return np.arange(len(centres))
    return fcluster(linkage(centres, "ward"), max_groups, criterion="maxclust") - 1


def _join_clusters(centres: np.ndarray, sizes: np.ndarray, *, counts: Sequence[int]) -> list[np.ndarray]:
    """Merge clusters with Ward's method; a segment's centre is the mean of its clusters, weighted by size."""
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
    """Halve the part with the largest spread along one axis, at its mean, until there are enough.

    The centres are then moved once to the means of the customers nearest to each. A finer segmentation continues from a
    coarser one.
    """
    weights = weights if weights.any() else np.ones(len(points))  # without structure all weigh the same
    present = weights > 0
    points, weights = points[present], weights[present]
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
    """Return the weighted means of the customers nearest to the weighted mean of each part."""
    number = nearest_centre(
        points, np.array([np.average(points[rows], axis=0, weights=weights[rows]) for rows in parts])
    )
    sizes = np.bincount(number, weights=weights)
    totals = np.column_stack([np.bincount(number, weights=weights * column) for column in points.T])
    present = sizes > 0
    return totals[present] / sizes[present, None]


def _spread(points: np.ndarray, weights: np.ndarray) -> tuple[float, int, float]:
    """Return the largest weighted sum of squares along one axis, that axis, and the mean on it."""
    mean = np.average(points, axis=0, weights=weights)
    squares = weights @ np.square(points - mean)
    axis = int(squares.argmax())
    return float(squares[axis]), axis, float(mean[axis])


SCORE_NOISE = 0.02  # how much the score differs between subsamples (benchmarks/README)


@dataclass(frozen=True)
class Budget:
    """State how many segments are wanted, and how small one may be.

    Parameters
    ----------
    min_segments, max_segments
        Fewest and most segments.
    smallest_share
        Share of customers in the smallest segment; 0 sets no limit, for refits.
    families
        Families of segmentations to try.
    prefer
        Family and number of segments that are chosen unless another segmentation is better by more than noise.
    """

    min_segments: int = 12
    max_segments: int = 20
    smallest_share: float = 0.01
    families: tuple[str, ...] = FAMILIES
    prefer: tuple[str, int] | None = None


@dataclass(frozen=True)
class _SearchData:
    """Hold what segmentations are scored on: customers today, their subsamples, and the training window."""

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
    """Try every number of segments within the budget in both families; choose the best by R2 and stability together.

    Parameters
    ----------
    points
        Coordinates today, customers x axes.
    subsamples
        Clusters found in the sampled customers.
    in_sample
        Flag of each customer who was sampled; by default all.
    training_points
        The same axes one horizon ago; None where unknown.
    outcomes
        What those customers did in between; nothing after `as_of` is used.
    budget
        How many segments, and how small.

    Returns
    -------
    Segmentation
        The chosen one.
    pandas.DataFrame
        The frontier: family, segments, spend_r2, mix_r2, stability (adjusted Rand index between segmentations of single
        subsamples), smallest_share, score (mean of the three, each relative to the best), chosen.

    Raises
    ------
    BudgetError
        No number of segments within the budget makes every segment large enough; the message names the limit.
    """
    _refuse_budget(budget, customers=len(points))
    floor = max(FLOOR / len(points), budget.smallest_share) if budget.smallest_share > 0 else 0.0
    data = _SearchData(
        points=points,
        sample_points=points if in_sample is None else points[in_sample],
        subsamples=subsamples,
        training_points=training_points,
        outcomes=scoring_outcomes(outcomes) if training_points is not None and outcomes is not None else None,
    )
    counts = list(range(budget.min_segments, budget.max_segments + 1))
    candidates = [
        (each, count)
        for family in budget.families
        for each, count in zip(
            make_segmentations(data.sample_points, subsamples, family=family, counts=counts), counts, strict=True
        )
    ]
    made = [each for each, count in candidates if len(each.centres) == count]
    if not made and budget.smallest_share <= 0:  # a refit takes as many segments as its subsamples have
        made = [each for each, _ in candidates if len(each.centres) > 1]
    frontier = _frontier(data, made)
    if not (frontier["smallest_share"] >= floor).any() and budget.smallest_share > 0:
        finer = _finer_segmentations(data, budget=budget, floor=floor)
        made, frontier = (finer, _frontier(data, finer)) if finer else (made, frontier)
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
    """Count segments, and compare the assigned customers with the clusters of HDBSCAN.

    Parameters
    ----------
    subsamples, segmentation
        Clusters of the subsamples, and the segmentation made from them.
    segment_number
        Segment of each customer of the subsamples.
    customers
        How many were assigned; by default those of the subsamples.

    Returns
    -------
    dict
        segments.count, segments.customers; segments.hdbscan_ari (adjusted Rand index on clustered customers) and
        segments.noise_share, each with .low and .high over the subsamples.
    """
    aris, noise = [], []
    segment_of_cluster = nearest_centre(subsamples.centres, segmentation.centres)
    for number in range(subsamples.count):
        labels = subsamples.labels[:, number]
        clustered = labels >= 0
        clusters = segment_of_cluster[subsamples.subsample_of == number]
        aris.append(adjusted_rand_score(clusters[labels[clustered]], segment_number[clustered]))
        noise.append((labels == -1).sum() / (labels > -2).sum())
    metrics: dict[str, float] = {
        "segments.count": len(segmentation.centres),
        "segments.customers": customers or len(segment_number),
    }
    for name, values in (("segments.hdbscan_ari", aris), ("segments.noise_share", noise)):
        metrics[name] = float(np.mean(values))
        metrics |= {f"{name}.low": float(np.min(values)), f"{name}.high": float(np.max(values))}
    return metrics


def _refuse_budget(budget: Budget, *, customers: int) -> None:
    """Raise if no customers, or not this many, can meet the budget."""
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
    required = budget.min_segments * FLOOR
    if customers < required and budget.smallest_share > 0:
        raise BudgetError(
            f"segments: {customers:,} customers are too few; "
            f"{budget.min_segments} segments of {FLOOR} need {required}. "
            f"Ask for fewer segments (segments_min), or give a longer lookback."
        )


def _finer_segmentations(data: _SearchData, *, budget: Budget, floor: float) -> list[Segmentation]:
    """Make finer segmentations and dissolve their smallest segments until the others are large enough."""
    min_customers, counts = int(np.ceil(floor * len(data.points))), range(budget.min_segments, 3 * budget.max_segments)
    found = []
    for family in budget.families:
        for finer in make_segmentations(data.sample_points, data.subsamples, family=family, counts=counts):
            cleared = drop_small_segments(
                data.points, finer, min_customers=min_customers, min_segments=budget.min_segments
            )
            if budget.min_segments <= len(cleared.centres) <= budget.max_segments:
                found.append(cleared)
    return found


def _frontier(data: _SearchData, segmentations: list[Segmentation]) -> pd.DataFrame:
    """Score each segmentation, a row each."""
    agreement = _subsample_agreement(data, segmentations)
    rows = [_score_segmentation(data, each) | {"stability": agreement[each.shape]} for each in segmentations]
    return pd.DataFrame(rows, columns=["family", "segments", "spend_r2", "mix_r2", "stability", "smallest_share"])


def _score_segmentation(data: _SearchData, segmentation: Segmentation) -> dict[str, object]:
    """Return a segmentation's R2 on spend and mix in the training window, and the share of its smallest segment."""
    number, count = nearest_centre(data.points, segmentation.centres), len(segmentation.centres)
    share = np.bincount(number, minlength=count) / len(data.points)
    scores = {"spend": np.nan, "mix": np.nan}
    if data.outcomes is not None:
        then = nearest_centre(data.training_points, segmentation.centres)
        for measure in scores.keys() & data.outcomes.values.keys():
            rows, values = data.outcomes.values[measure]
            scores[measure] = float(adjusted_r2(then[rows], values)[0])
    row = {"family": segmentation.family, "segments": count, "smallest_share": float(share.min())}
    return row | {f"{measure}_r2": r2 for measure, r2 in scores.items()}


def _subsample_agreement(data: _SearchData, segmentations: list[Segmentation]) -> dict[tuple[str, int], float]:
    """Return the mean adjusted Rand index between consecutive subsamples' segmentations, by family and count."""
    found = {}
    for family in sorted({each.family for each in segmentations}):
        counts = sorted({len(each.centres) for each in segmentations if each.family == family})
        by_subsample = subsample_segmentations(data.sample_points, data.subsamples, family=family, counts=counts)
        for i, count in enumerate(counts):
            labels = [nearest_centre(data.sample_points, made[i]) for made in by_subsample if len(made[i])]
            pairs = zip(labels, labels[1:] + labels[:1], strict=True)
            found[family, count] = float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))
    return found


def _select_best(frontier: pd.DataFrame, large_enough: pd.Series, *, prefer: tuple[str, int] | None) -> int:
    """Return the row with the highest score, or the preferred shape where it is within noise of it."""
    allowed = frontier["score"].where(large_enough, -1.0)
    within_noise = frontier[allowed >= allowed.max() - SCORE_NOISE]
    same = [shape == prefer for shape in zip(within_noise["family"], within_noise["segments"], strict=True)]
    return int(within_noise.index[same.index(True)] if any(same) else allowed.idxmax())


def _explain_unmet(frontier: pd.DataFrame, *, budget: Budget, floor: float, customers: int) -> str:
    """Explain which limit of the budget cannot be met."""
    if frontier.empty:
        return (
            f"segments: HDBSCAN found fewer than {budget.min_segments} clusters. "
            f"Ask for fewer (segments_min), or give more history."
        )
    best = frontier.loc[frontier["smallest_share"].idxmax()]
    return (
        f"segments: no segmentation into {budget.min_segments}-{budget.max_segments} segments has each above "
        f"{floor:.1%} of {customers:,} customers; "
        f"the best ({best['segments']:.0f} segments) has one of {best['smallest_share']:.1%}. "
        f"Lower smallest_share, or ask for fewer segments (segments_min)."
    )
