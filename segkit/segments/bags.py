"""Bags: subsamples of customers, each with a map of its own and the clusters that HDBSCAN sees in it (Leisch 1999)."""

from dataclasses import dataclass

import numpy as np

from segkit.errors import BudgetError
from segkit.segments.embed import umap_plane

BAGS = 10
BAG_SHARE = 0.8
BAG_EPOCHS = 40  # a bag's map is for HDBSCAN alone; 80 gave the same stability
NEIGHBOURS = 15
SMALLEST_CLUSTER = 0.01  # of a bag; HDBSCAN's own floor
MIN_SAMPLES = 5
LARGEST_BAG = 4_000  # customers, of very many; larger cost more and were no steadier (benchmarks/README)


@dataclass(frozen=True)
class Bags:
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


def find_bags(points: np.ndarray, *, n_subsamples: int = BAGS, seed: int = 7) -> Bags:
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
        size = min(int(BAG_SHARE * len(points)), LARGEST_BAG)
        rows = np.sort(rng.permutation(len(points))[:size])
        found = _clusters(points[rows], seed=seed * 1000 + bag)
        labels[rows, bag] = found
        for cluster in range(found.max() + 1):
            centres.append(points[rows][found == cluster].mean(axis=0))
            sizes.append(int((found == cluster).sum()))
            bag_of.append(bag)
    shape = (-1, points.shape[1])
    return Bags(
        centres=np.array(centres).reshape(shape),
        sizes=np.array(sizes, dtype=float),
        subsample_of=np.array(bag_of, dtype=np.int64),
        labels=labels,
    )


def _clusters(points: np.ndarray, *, seed: int) -> np.ndarray:
    import hdbscan

    plane = umap_plane(points, n_neighbors=NEIGHBOURS, min_dist=0.0, epochs=BAG_EPOCHS, seed=seed)
    smallest = max(10, int(SMALLEST_CLUSTER * len(points)))
    finder = hdbscan.HDBSCAN(
        min_cluster_size=smallest, min_samples=MIN_SAMPLES, cluster_selection_method="leaf", core_dist_n_jobs=1
    )
    return finder.fit_predict(plane)


def _refuse_alike(points: np.ndarray) -> None:
    distinct = len(np.unique(points.round(6), axis=0))
    if distinct < 2 * NEIGHBOURS:
        raise BudgetError(
            f"anticipation: {len(points):,} customers have only {distinct} different expectations, "
            f"so there is nothing to segment. Give a longer lookback, or more columns."
        )
