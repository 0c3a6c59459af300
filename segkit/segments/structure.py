"""Structure: are there groups at all, or would the same pipeline find as much in data that has none?

The reference keeps what each axis looks like and takes away how the axes hang together: every axis is shuffled by
itself (Dolnicar & Leisch 2010; the null of Tibshirani et al. 2001 with the margins kept). What comes back as surely
there is an effect of the method, not of the customers.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score

from segkit.segments.bags import BAGS, find_bags
from segkit.segments.cuts import make_cut
from segkit.segments.fit import Fit
from segkit.segments.place import nearest
from segkit.segments.stability import SUBSAMPLE, Stability, best_jaccard

LEVEL = 95  # percentile of the reference that structure has to beat
NULLS = {"quick": 0, "full": 10}  # shuffled copies
UNSTABLE_BELOW, REPRODUCIBLE_FROM = 0.5, 0.6  # Jaccard (Hennig 2007; Dolnicar & Leisch 2010)


@dataclass(frozen=True)
class Structure:
    """The reference: adjusted Rand index and each segment's Jaccard between refits of data without structure."""

    ari: np.ndarray
    jaccard: np.ndarray

    def has_structure(self, stability: Stability) -> bool:
        """Whether the segments as a whole come back more surely than the reference does."""
        return bool(stability.mean > np.percentile(self.ari, LEVEL))

    def metrics(self, stability: Stability) -> dict[str, object]:
        """structure.found, and the reference it had to beat."""
        return {
            "structure.found": self.has_structure(stability),
            "structure.reference_ari": float(np.percentile(self.ari, LEVEL)),
            "structure.reference_ari.low": float(self.ari.min()),
            "structure.reference_ari.high": float(self.ari.max()),
            "structure.reference_jaccard": float(np.percentile(self.jaccard, LEVEL)),
        }


def structure(fit: Fit, *, nulls: int = NULLS["full"], n_subsamples: int = BAGS, seed: int = 7) -> Structure | None:
    """Run the search on data with the same margins and no structure, and see how surely its segments come back.

    Takes  fit: the segmentation in question; its family and count are used
    Gives  Structure, or None where no copies are asked for

    Parameters
    ----------
    nulls : shuffled copies; more of them firm up the percentile
    """
    if nulls < 1:
        return None
    points = fit.axes.to_numpy()[fit.in_sample]
    aris, jaccards = [], []
    for i in range(nulls):
        rng = np.random.default_rng([seed, 2000 + i])
        shuffled = np.column_stack([rng.permutation(column) for column in points.T])
        pair = [
            _refit(shuffled, fit, rng=rng, n_subsamples=n_subsamples, seed=seed + 977 * (2 * i + j)) for j in range(2)
        ]
        aris.append(adjusted_rand_score(*pair))
        jaccards.append(best_jaccard(*pair))
    return Structure(ari=np.array(aris), jaccard=np.concatenate(jaccards))


def segment_verdict(jaccard: float, *, reference: Structure | None = None, stability: Stability | None = None) -> str:
    """Unstable, constructed, reproducible or natural (DESIGN; Dolnicar & Leisch 2010, 2017).

    Takes  jaccard: mean overlap of the segment with its best match in refits
    Gives  "not tested" without it; natural only where the structure test was made and this segment beats the reference

    Parameters
    ----------
    reference, stability : the structure test and the refits it is held against; None where it was not made
    """
    if np.isnan(jaccard):
        return "not tested"
    if reference is not None and stability is not None and not reference.has_structure(stability):
        return "constructed"
    if jaccard < UNSTABLE_BELOW:
        return "unstable"
    if jaccard < REPRODUCIBLE_FROM:
        return "constructed"
    if reference is not None and jaccard > np.percentile(reference.jaccard, LEVEL):
        return "natural"
    return "reproducible"


def _refit(points: np.ndarray, fit: Fit, *, rng: np.random.Generator, n_subsamples: int, seed: int) -> np.ndarray:
    rows = np.sort(rng.permutation(len(points))[: int(SUBSAMPLE * len(points))])
    found = find_bags(points[rows], n_subsamples=n_subsamples, seed=seed)
    cut = make_cut(points[rows], found, family=fit.segmentation.family, segments=len(fit.segmentation.centres))
    return nearest(points, cut.centres)
