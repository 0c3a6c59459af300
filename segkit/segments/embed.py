"""The map: UMAP of the anticipation space on a plane, for the eye and for HDBSCAN to find segments in."""

import warnings
from contextlib import suppress
from functools import cache

import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from sklearn.neighbors import NearestNeighbors

from segkit.errors import SchemaError
from segkit.stats import hash_sample

EPOCHS = 200
LIKEST = 3  # drawn customers that place one who is not
FEW_EPOCHS, FEW_EPOCHS_ABOVE = 100, 20_000  # rows


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
    epochs = FEW_EPOCHS if len(points) > FEW_EPOCHS_ABOVE else EPOCHS
    drawn = hash_sample(axes.index)
    coords = np.empty((len(points), 2))
    coords[drawn] = umap_plane(points[drawn], n_neighbors=n_neighbors, min_dist=min_dist, epochs=epochs, seed=seed)
    coords[~drawn] = _between(points[~drawn], sample_points=points[drawn], coords=coords[drawn])
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]).round(6)


def _between(points: np.ndarray, *, sample_points: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """The middle of the places of the nearest known points: the median, which is not pulled between two islands."""
    if not len(points):
        return np.empty((0, 2))
    return np.median(coords[KDTree(sample_points).query(points, k=LIKEST)[1]], axis=1)


def umap_plane(points: np.ndarray, *, n_neighbors: int, min_dist: float, epochs: int, seed: int) -> np.ndarray:
    """UMAP in two dimensions from exact neighbours: no compilation of NN-descent, equal across processes."""
    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(points)
    neighbours = (indices.astype(np.int32), distances.astype(np.float32), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one job because seeded, no transform, no TensorFlow: all are meant
        from umap import UMAP

        _keep_compiled()
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
def _keep_compiled() -> None:
    """Let numba keep what it compiles for UMAP: six seconds in every process, a quarter of one from the second on."""
    import umap.layouts
    import umap.umap_
    from numba.core.dispatcher import Dispatcher

    for module in (umap.layouts, umap.umap_):
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                with suppress(RuntimeError):  # no folder to keep it in: it is compiled again
                    function.enable_caching()
