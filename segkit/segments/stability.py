"""Stability: who stays together when everything is done again on other customers."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from segkit.segments.fit import Fit, Windows, fit_segments
from segkit.segments.search import Budget
from segkit.stats import Z95, Estimate

FITS = {"quick": 5, "full": 20}  # refits
SUBSAMPLE = 0.8


@dataclass(frozen=True)
class Stability:
    """Agreement of refits: `ari` (fits x fits); per segment the mean Jaccard with its best match, low and high over
    the refits.
    """

    ari: np.ndarray
    segments: pd.DataFrame

    @property
    def mean(self) -> float:
        """Mean adjusted Rand index over the pairs of refits."""
        return _mean_of_pairs(self.ari)

    def metrics(self) -> dict[str, float]:
        """stability.ari_mean with its 95 % interval (jackknife over refits), and the number of refits."""
        n_refits = len(self.ari)
        left_out = np.array([_mean_of_pairs(np.delete(np.delete(self.ari, i, 0), i, 1)) for i in range(n_refits)])
        half = Z95 * np.sqrt((n_refits - 1) / n_refits * np.square(left_out - left_out.mean()).sum())
        return Estimate.around(self.mean, half=half).metrics("stability.ari_mean") | {"stability.fits": n_refits}


def stability(data: Windows, fit: Fit, *, n_refits: int = FITS["quick"], seed: int = 7) -> Stability:
    """Refit everything on subsamples of the customers in whom segments were looked for, place them all, and compare.

    Takes  windows; fit: the segmentation in question; its family and count are kept
    Gives  Stability: adjusted Rand index of refits; Jaccard of each segment with its best match in each refit

    Parameters
    ----------
    fits : refits, three or more; more narrow the interval
    """
    count = len(fit.segmentation.centres)
    budget = Budget(min_segments=count, max_segments=count, smallest_share=0.0, families=(fit.segmentation.family,))
    data = Windows(data.now.select(fit.in_sample), data.then, data.outcomes)
    everyone = data.now.features.index
    if data.then is not None:
        everyone = everyone.union(data.then.features.index)
    labels = []
    for i in range(n_refits):
        rng = np.random.default_rng([seed, 1000 + i])
        keep = everyone[np.sort(rng.permutation(len(everyone))[: int(SUBSAMPLE * len(everyone))])]
        labels.append(fit_segments(data, fit_on=keep, budget=budget, seed=seed + 101 * (i + 1)).segment_number)
    ari = np.eye(n_refits)
    for i, j in combinations(range(n_refits), 2):
        ari[i, j] = ari[j, i] = adjusted_rand_score(labels[i], labels[j])
    best = np.array([best_jaccard(fit.segment_number[fit.in_sample], other) for other in labels])
    table = pd.DataFrame(
        {"stability": best.mean(axis=0), "stability_low": best.min(axis=0), "stability_high": best.max(axis=0)}
    )
    return Stability(ari=ari, segments=table)


def best_jaccard(number: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each group, intersection over union with the group of another segmentation that matches it best.

    >>> best_jaccard(np.array([0, 0, 1, 1]), np.array([5, 5, 5, 9])).round(2).tolist()
    [0.67, 0.5]
    """
    table = pd.crosstab(number, other).to_numpy()
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None, :] - table
    return (table / union).max(axis=1)


def _mean_of_pairs(ari: np.ndarray) -> float:
    return float(ari[np.triu_indices(len(ari), 1)].mean())
