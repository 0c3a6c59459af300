"""Cuts: two ways to make segments of what HDBSCAN saw in the bags.

"joined": the clusters of all bags are grouped by Ward's method; follows groups where there are any.
"anchored": the customers, weighted by how often HDBSCAN kept them, are halved again and again along the axis on which
they differ most, at its mean (divisive partitioning, Su & Dy 2007); in a continuum its borders come back more surely.
"""

from collections.abc import Iterator
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


def make_cut(points: np.ndarray, bags: Bags, *, family: str, segments: int) -> Cut:
    """One cut into so many segments (fewer where the bags do not hold as many), highest on the first axis first.

    Takes  points: customers x axes; the bags found in them
    """
    if family == "joined":
        centres = _joined(bags.centres, bags.sizes, segments=segments)
    else:
        centres = _anchored(points, bags.kept(), segments=segments)
    return Cut(centres=centres[np.argsort(-centres[:, 0], kind="stable")], family=family)


def without_crumbs(points: np.ndarray, cut: Cut, *, floor: int, fewest: int) -> Cut:
    """Give up the smallest segments, one at a time, until each has enough customers or no more can be given up.

    Takes  points: customers x axes; a cut finer than is wanted; floor: customers; fewest: segments to be left
    """
    centres = cut.centres
    while len(centres) > fewest:
        sizes = np.bincount(nearest(points, centres), minlength=len(centres))
        if sizes.min() >= floor:
            break
        centres = np.delete(centres, int(sizes.argmin()), axis=0)
    return Cut(centres=centres, family=cut.family)


def bag_cuts(points: np.ndarray, bags: Bags, *, family: str, segments: int) -> Iterator[Cut]:
    """The same cut made on each bag alone: of its clusters, or of its customers with the weights of all bags."""
    kept = bags.kept()
    for bag in range(bags.count):
        if family == "joined":
            own = bags.bag_of == bag
            yield Cut(centres=_joined(bags.centres[own], bags.sizes[own], segments=segments), family=family)
        else:
            inside = bags.labels[:, bag] > -2
            yield Cut(centres=_anchored(points[inside], kept[inside], segments=segments), family=family)


def macro_buckets(centres: np.ndarray, *, most: int = MACRO_MOST) -> np.ndarray:
    """The broad bucket of each segment (0, 1, ...): Ward over the segment centres, so micro nests in macro."""
    if len(centres) <= most:
        return np.arange(len(centres))
    return fcluster(linkage(centres, "ward"), most, criterion="maxclust") - 1


def _joined(centres: np.ndarray, sizes: np.ndarray, *, segments: int) -> np.ndarray:
    if len(centres) <= segments:
        return centres
    group = fcluster(linkage(centres, "ward"), segments, criterion="maxclust") - 1
    numbers = np.arange(group.max() + 1)
    return np.array([np.average(centres[group == g], axis=0, weights=sizes[group == g]) for g in numbers])


def _anchored(points: np.ndarray, kept: np.ndarray, *, segments: int) -> np.ndarray:
    """Halve the part with the largest spread along one axis, at its mean, until there are enough; then the means of
    those nearest to each centre, once.
    """
    kept = kept if kept.any() else np.ones(len(points))  # no structure is a finding: then all weigh the same
    seen = kept > 0
    points, kept = points[seen], kept[seen]
    parts = [np.arange(len(points))]
    spreads = [_spread(points, kept)]
    while len(parts) < segments and max(s[0] for s in spreads) > 0:
        widest = int(np.argmax([s[0] for s in spreads]))
        rows, (_, axis, middle) = parts.pop(widest), spreads.pop(widest)
        low = points[rows, axis] <= middle
        for half in (rows[low], rows[~low]):
            parts.append(half)
            spreads.append(_spread(points[half], kept[half]))
    centres = np.array([np.average(points[rows], axis=0, weights=kept[rows]) for rows in parts])
    number = nearest(points, centres)
    present = np.unique(number)
    return np.array([np.average(points[number == g], axis=0, weights=kept[number == g]) for g in present])


def _spread(points: np.ndarray, kept: np.ndarray) -> tuple[float, int, float]:
    """Largest weighted sum of squares along one axis, that axis, and the mean on it."""
    mean = np.average(points, axis=0, weights=kept)
    squares = kept @ np.square(points - mean)
    axis = int(squares.argmax())
    return float(squares[axis]), axis, float(mean[axis])
