"""Cuts: two ways to make segments of what HDBSCAN saw in the bags.

"joined": the clusters of all bags are grouped by Ward's method; follows groups where there are any.
"anchored": the customers, weighted by how often HDBSCAN kept them, are halved again and again along the axis on which
they differ most, at its mean (divisive partitioning, Su & Dy 2007); in a continuum its borders come back more surely.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from segkit.segments.bags import Bags
from segkit.segments.place import nearest

FAMILIES = ("anchored", "joined")
MACRO_MOST = 6


@dataclass(frozen=True)
class Cut:
    """`centres` (segments x axes) of a segmentation, and the family it is of."""

    centres: np.ndarray
    family: str

    @property
    def shape(self) -> tuple[str, int]:
        """The family and the number of segments."""
        return self.family, len(self.centres)


def make_cuts(points: np.ndarray, subsamples: Bags, *, family: str, counts: Sequence[int]) -> list[Cut]:
    """Cuts into several numbers of segments (fewer where the bags do not hold as many), highest on the first axis
    first.

    Takes  points: customers x axes; the bags found in them; counts: of segments
    """
    if family == "joined":
        made = _joined(subsamples.centres, subsamples.sizes, counts=counts)
    else:
        made = _anchored(points, subsamples.clustered_share(), counts=counts)
    return [Cut(centres=c[np.argsort(-c[:, 0], kind="stable")], family=family) for c in made]


def make_cut(points: np.ndarray, subsamples: Bags, *, family: str, segments: int) -> Cut:
    """One such cut."""
    return make_cuts(points, subsamples, family=family, counts=[segments])[0]


def without_crumbs(points: np.ndarray, segmentation: Cut, *, min_customers: int, min_segments: int) -> Cut:
    """Give up the smallest segments, one at a time, until each has enough customers or no more can be given up.

    Takes  points: customers x axes; a cut finer than is wanted; floor: customers; fewest: segments to be left
    """
    centres = segmentation.centres
    while len(centres) > min_segments:
        sizes = np.bincount(nearest(points, centres), minlength=len(centres))
        if sizes.min() >= min_customers:
            break
        centres = np.delete(centres, int(sizes.argmin()), axis=0)
    return Cut(centres=centres, family=segmentation.family)


def bag_cuts(points: np.ndarray, subsamples: Bags, *, family: str, counts: Sequence[int]) -> list[list[np.ndarray]]:
    """The same cuts made on each bag alone: of its clusters, or of its customers with the weights of all bags.

    Gives  for each bag the centres of the cut into each number of segments
    """
    weights, found = subsamples.clustered_share(), []
    for bag in range(subsamples.count):
        if family == "joined":
            own = subsamples.subsample_of == bag
            found.append(_joined(subsamples.centres[own], subsamples.sizes[own], counts=counts))
        else:
            inside = subsamples.labels[:, bag] > -2
            found.append(_anchored(points[inside], weights[inside], counts=counts))
    return found


def macro_buckets(centres: np.ndarray, *, max_groups: int = MACRO_MOST) -> np.ndarray:
    """The broad bucket of each segment (0, 1, ...): Ward over the segment centres, so micro nests in macro."""
    if len(centres) <= max_groups:
        return np.arange(len(centres))
    return fcluster(linkage(centres, "ward"), max_groups, criterion="maxclust") - 1


def _joined(centres: np.ndarray, sizes: np.ndarray, *, counts: Sequence[int]) -> list[np.ndarray]:
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


def _anchored(points: np.ndarray, weights: np.ndarray, *, counts: Sequence[int]) -> list[np.ndarray]:
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
        made[segments] = _means(points, weights, parts=parts)
    return [made[segments] for segments in counts]


def _means(points: np.ndarray, weights: np.ndarray, *, parts: list[np.ndarray]) -> np.ndarray:
    """The weighted means of those nearest to the weighted mean of each part."""
    number = nearest(points, np.array([np.average(points[rows], axis=0, weights=weights[rows]) for rows in parts]))
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
