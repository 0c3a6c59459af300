"""Draw points on a plane with UMAP (McInnes et al. 2018) and find what is dense there; same input, same bytes."""

import warnings
from contextlib import suppress
from functools import cache

import numpy as np

from segkit.imports import import_umap

EPOCHS = 200
NEGATIVES, SIMILAR_NEGATIVES = 5, 3  # pushes for each pull; fewer are faster, and as steady where they were tried
SIMILAR_EPOCHS, SIMILAR_NEIGHBOURS = 150, 8
CLUSTER_SHARES = (0.012, 0.024, 0.036)  # of points in the smallest cluster; all count, as none is the right size
MIN_CLUSTER, MIN_SAMPLES = 3, 2
FEWEST_MAPPED = 2 * MIN_CLUSTER  # no more points than these are not drawn


def draw_plane(
    points: np.ndarray, *, n_neighbors: int, min_dist: float = 0.0, epochs: int = EPOCHS, seed: int = 7
) -> np.ndarray:
    """Run UMAP in two dimensions on exact neighbours: no compilation of NN-descent, equal across processes.

    Parameters
    ----------
    points
        Finite coordinates, rows x columns, more rows than ``n_neighbors``.
    n_neighbors
        Larger shows broad groups, smaller shows fine ones.
    min_dist
        Larger spreads the points within a group, for the eye; 0 packs them, for HDBSCAN.
    epochs
        Steps of the optimisation.
    seed
        The same seed gives the same plane on one machine.

    Returns
    -------
    numpy.ndarray
        Rows x 2; no unit.
    """
    from sklearn.neighbors import NearestNeighbors  # slow to import, and not needed to place a customer

    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(points)
    return _run_umap(points, indices, distances, min_dist=min_dist, epochs=epochs, seed=seed)


def draw_similar(similarity: np.ndarray, *, epochs: int = SIMILAR_EPOCHS, seed: int = 7) -> np.ndarray:
    """Draw points that are known by how alike they are.

    Parameters
    ----------
    similarity
        Symmetric, 1 for the same.
    epochs, seed
        As for ``draw_plane``.

    Returns
    -------
    numpy.ndarray
        Rows x 2; no unit; zeros for fewer points than make two clusters.
    """
    if len(similarity) <= FEWEST_MAPPED:
        return np.zeros((len(similarity), 2))
    n_neighbors = int(np.clip(len(similarity) // 4, 3, SIMILAR_NEIGHBOURS))
    distances = np.sqrt(np.maximum(2.0 - 2.0 * similarity, 0.0))  # as between vectors of unit length
    np.fill_diagonal(distances, -1.0)  # each is its own nearest
    indices = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    near = np.maximum(np.take_along_axis(distances, indices, axis=1), 0.0)
    return _run_umap(similarity, indices, near, min_dist=0.0, epochs=epochs, seed=seed, negatives=SIMILAR_NEGATIVES)


def find_dense(similarity: np.ndarray, *, seed: int = 7) -> list[np.ndarray]:
    """Find the HDBSCAN clusters (Campello et al. 2013) of points on their plane.

    Parameters
    ----------
    similarity, seed
        As for ``draw_similar``.

    Returns
    -------
    list of numpy.ndarray
        A cluster number for each point (-1 in none), once for each size of the smallest cluster, fine to coarse; each
        point alone where they are few.
    """
    import hdbscan  # slow to import

    if len(similarity) <= FEWEST_MAPPED:
        return [np.arange(len(similarity))]
    plane, found = draw_similar(similarity, seed=seed), []
    for share in CLUSTER_SHARES:
        finder = hdbscan.HDBSCAN(
            min_cluster_size=max(MIN_CLUSTER, round(share * len(similarity))),
            min_samples=MIN_SAMPLES,
            cluster_selection_method="leaf",
            core_dist_n_jobs=1,
        )
        found.append(finder.fit_predict(plane))
    return found


def _run_umap(
    points: np.ndarray,
    indices: np.ndarray,
    distances: np.ndarray,
    *,
    min_dist: float,
    epochs: int,
    seed: int,
    negatives: int = NEGATIVES,
) -> np.ndarray:
    """Run UMAP on known neighbours from the first two principal components."""
    neighbours = (indices.astype(np.int32), distances.astype(np.float32), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one job because seeded, no transform, no TensorFlow: all intended
        _cache_compiled()
        model = import_umap().UMAP(
            n_neighbors=indices.shape[1],
            min_dist=min_dist,
            init="pca" if points.shape[1] >= 2 else "random",
            n_epochs=epochs,
            negative_sample_rate=negatives,
            precomputed_knn=neighbours,
            random_state=seed,
            n_jobs=1,
        )
        drawn = model.fit_transform(points.astype(np.float32)).astype(np.float64)
    return np.nan_to_num(drawn)  # where all points are the same there is nothing to scale


@cache
def _cache_compiled() -> None:
    """Cache what numba compiles for UMAP: six seconds in every process become a quarter of one from the second on."""
    from numba.core.dispatcher import Dispatcher

    umap = import_umap()
    for module in (umap.layouts, umap.umap_):
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                with suppress(RuntimeError):  # no folder for the cache: it is compiled again
                    function.enable_caching()
