"""Segment customers by the columns of their table: what goes together, which groups there are, whether they hold.

Nothing here looks at time: there is no outcome that a segment could predict. What can be tested is whether segments
come back on other samples of customers, and whether columns go together more than by chance.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm, rankdata
from sklearn.cluster import KMeans

from segkit.data.attributes import Attributes, is_heavy_tailed
from segkit.errors import BudgetError
from segkit.format import FLOOR
from segkit.segments.clustering import FEWEST_SEGMENTS, SCORE_NOISE, embed_customers, subsample_rows
from segkit.segments.fit import CORE_CONFIDENCE
from segkit.segments.model import nearest_centre
from segkit.segments.validation import (
    FEW_STABLE,
    IN_PART,
    MOST_UNSTABLE,
    NONE,
    NULL_PERCENTILE,
    STABLE_VERDICTS,
    Structure,
    best_jaccard,
    reappears_in_part,
    segment_verdict,
)
from segkit.stats import adjusted_rand, hash_sample
from segkit.vocabulary import UNSTABLE

CLIPPED = 3.0  # standard deviations, beyond which a number is no further away
NORMAL_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations
NULL_COPIES = 20  # shuffled tables whose strongest axis an axis has to beat
MOST_AXES = 10
DENSE_SHARES = (0.02, 0.05, 0.1)  # of customers in the smallest dense group; each proposes a number of segments
MIN_SAMPLES = 5
NEIGHBOURS = 15
KMEANS_STARTS = 3
FOUND_DENSE, FOUND_KMEANS = "dense groups", "k-means"
PROOFS = {"quick": 10, "full": 30}  # repetitions
GROUPS, CUTS = "groups", "cuts"


@dataclass(frozen=True)
class ColumnSpace:
    """Hold what goes together in the columns.

    Parameters
    ----------
    encoded
        Customers x indicators and scaled numbers; 0 where a value is missing.
    blocks
        The places in ``encoded`` of each column of the table.
    loadings
        Indicators x axes.
    strength
        Variance of the axes, and the largest of shuffled tables, which they had to beat.
    """

    encoded: np.ndarray
    blocks: tuple[slice, ...]
    loadings: np.ndarray
    strength: np.ndarray
    reference: float

    @property
    def points(self) -> np.ndarray:
        """Return the place of each customer on the axes."""
        return self.encoded @ self.loadings


@dataclass(frozen=True)
class ColumnSegments:
    """Hold segments by columns, and what they were chosen from.

    Parameters
    ----------
    number
        Number of the segment of each customer.
    plane
        Place of each customer on the map (UMAP).
    tried
        segments, found_by, explained (share of the differences on the axes), beyond_chance, stability, smallest_share,
        score, chosen.
    dense
        Number of the dense group of each customer of the sample (HDBSCAN), -1 in none; of the grouping nearest to the
        segments.
    sampled
        Flag of each customer of the sample that segments were found in: everyone, unless the table is large.
    """

    space: ColumnSpace
    centres: np.ndarray
    number: np.ndarray
    plane: pd.DataFrame
    tried: pd.DataFrame
    dense: np.ndarray
    sampled: np.ndarray


@dataclass(frozen=True)
class ColumnTests:
    """Hold the tests of segments by columns.

    Parameters
    ----------
    confidence
        Share of repetitions that put each customer in the same segment.
    segments
        stability with _low and _high, verdict: one row a segment.
    ari
        Agreement of each pair of repetitions.
    apart
        Whether groups stand apart, or are divisions of gradual differences.
    """

    confidence: np.ndarray
    segments: pd.DataFrame
    ari: np.ndarray
    structure: Structure
    apart: bool

    @property
    def core(self) -> np.ndarray:
        """Flag the customers who are nearly always in the same segment."""
        return self.confidence >= CORE_CONFIDENCE


def encode_columns(attributes: Attributes) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Scale the columns so that each counts as much as another, and write categories as indicators.

    Numbers are scaled by median and interquartile range, or by rank where they are spread unevenly. Indicators are
    weighted as in multiple correspondence analysis (Pagès 2004): each direction of a category has a variance of 1, as
    a number has. A missing value is the mean, so it pulls nowhere.
    """
    parts, blocks, start = [], [], 0
    for one in attributes.used:
        column = attributes.table[one.name]
        part = _scaled(column.to_numpy(dtype=float))[:, None] if one.is_number else _indicators(column)
        parts.append(part)
        blocks.append(slice(start, start + part.shape[1]))
        start += part.shape[1]
    return np.hstack(parts), tuple(blocks)


def _scaled(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    filled = values[known]
    if is_heavy_tailed(pd.Series(filled)):
        scores = norm.ppf((rankdata(filled) - 0.5) / len(filled))
    else:
        quarter, middle, three = np.quantile(filled, [0.25, 0.5, 0.75])
        scores = np.clip((filled - middle) / (three - quarter) * NORMAL_IQR, -CLIPPED, CLIPPED)
    made = np.zeros(len(values))
    made[known] = (scores - scores.mean()) / (scores.std() or 1.0)
    return made


def _indicators(column: pd.Series) -> np.ndarray:
    known = column.notna().to_numpy()
    levels = sorted(column.dropna().unique())
    is_level = np.column_stack([(column == level).to_numpy() for level in levels]).astype(float)
    shares = is_level[known].mean(axis=0)
    if len(levels) == 2:  # the second says the same
        return np.where(known, (is_level[:, 1] - shares[1]) / np.sqrt(shares[0] * shares[1]), 0.0)[:, None]
    return np.where(known[:, None], (is_level - shares) / np.sqrt(shares), 0.0)


def learn_space(attributes: Attributes, *, seed: int = 7) -> ColumnSpace:
    """Find the axes along which columns go together more than they would by chance.

    They are the principal components of the encoded table whose variance is larger than that of the first one of every
    shuffled table (parallel analysis, Horn 1965). No axis is left where columns do not go together.
    """
    encoded, blocks = encode_columns(attributes)
    sampled = hash_sample(attributes.table.index)
    encoded_sample, rng = encoded[sampled], np.random.default_rng([seed, 1])
    reference = max(
        _components(_shuffled(encoded_sample, blocks=blocks, rng=rng), most=1)[1][0] for _ in range(NULL_COPIES)
    )
    loadings, strength = _components(encoded_sample, most=MOST_AXES)
    kept = strength > reference
    return ColumnSpace(encoded, blocks, loadings[:, kept], strength[kept], float(reference))


def _shuffled(encoded: np.ndarray, *, blocks: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """Give each column of the table to other customers: the same values, and nothing goes together."""
    return np.hstack([encoded[rng.permutation(len(encoded)), block] for block in blocks])


def _components(encoded: np.ndarray, *, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the loadings and variances of the first principal components, each with its largest loading above 0."""
    centred = encoded - encoded.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    vectors, variances = vectors[:, ::-1][:, :most], variances[::-1][:most]
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])]), variances


def find_segments(
    space: ColumnSpace,
    *,
    index: pd.Index,
    most: int = 20,
    smallest_share: float = 0.01,
    seed: int = 7,
) -> ColumnSegments:
    """Draw customers on a plane, find the dense groups there, and choose the number of segments.

    HDBSCAN on the UMAP plane proposes numbers of segments with their centres; k-means with every other number stands
    next to them. The best mean of what segments explain beyond chance and of their stability wins; within noise of
    it, what HDBSCAN proposed.

    Parameters
    ----------
    space
        With at least one axis.
    index
        Ids of the customers.
    most, smallest_share
        Most segments, and the smallest share of customers in one.

    Raises
    ------
    BudgetError
        No number of segments has segments that are large enough.
    """
    names = [f"axis_{n + 1}" for n in range(space.loadings.shape[1])]
    axes = pd.DataFrame(space.points, index=index, columns=names)
    plane = embed_customers(axes, n_neighbors=min(NEIGHBOURS, len(axes) - 1), seed=seed)
    sampled = hash_sample(index)
    points = axes.to_numpy()[sampled]
    smallest = max(FLOOR, int(np.ceil(smallest_share * len(points))))
    dense = _dense_groups(plane.to_numpy()[sampled], smallest=smallest)
    made = _candidates(points, dense=dense, most=min(most, len(points) // smallest), seed=seed)
    parts = {"rows": subsample_rows(len(points), seed=seed), "gradual": _gradual(space, rows=sampled, seed=seed)}
    tried = pd.DataFrame(
        [_score(points, centres, by=by, **parts, seed=seed) for _, (by, centres) in sorted(made.items())]
    )
    tried = tried[tried["smallest_share"] * len(points) >= smallest].reset_index(drop=True)
    if tried.empty:
        raise BudgetError(
            f"customers: {len(points):,} customers do not make {FEWEST_SEGMENTS} segments of at least {smallest:,}. "
            "Lower smallest_share."
        )
    tried["chosen"] = tried.index == _best(tried)
    centres = _by_size(points, made[int(tried.loc[tried["chosen"], "segments"].iloc[0])][1])
    number = nearest_centre(axes.to_numpy(), centres)
    nearest = max(dense, key=partial(_agreement, number[sampled]), default=np.full(len(points), -1))
    return ColumnSegments(space, centres, number, plane, tried, nearest, sampled)


def _candidates(
    points: np.ndarray, *, dense: list[np.ndarray], most: int, seed: int
) -> dict[int, tuple[str, np.ndarray]]:
    """Return how each number of segments was found, and its centres: of k-means from dense groups or other starts."""
    made: dict[int, tuple[str, np.ndarray]] = {}
    starts = {int(groups.max()) + 1: groups for groups in reversed(dense)}
    for count in range(FEWEST_SEGMENTS, most + 1):
        made[count] = FOUND_KMEANS, _kmeans(points, count, seed=seed)
        if count in starts:
            means = np.array([points[starts[count] == own].mean(axis=0) for own in range(count)])
            either = (made[count][1], _kmeans(points, count, start=means, seed=seed))
            made[count] = FOUND_DENSE, max(either, key=lambda each: _explained(points, nearest_centre(points, each)))
    return made


def _dense_groups(plane: np.ndarray, *, smallest: int) -> list[np.ndarray]:
    """Find the HDBSCAN clusters (Campello et al. 2013) on the plane, once for each size of the smallest."""
    import hdbscan  # slow to import

    found = []
    for share in DENSE_SHARES:
        size = max(smallest, round(share * len(plane)))
        if 2 * size <= len(plane):
            finder = hdbscan.HDBSCAN(min_cluster_size=size, min_samples=MIN_SAMPLES, core_dist_n_jobs=1)
            found.append(finder.fit_predict(plane))
    return found


def _agreement(number: np.ndarray, groups: np.ndarray) -> float:
    """Return the adjusted Rand index of segments and dense groups, over the customers who are in one."""
    inside = groups >= 0
    return adjusted_rand(number[inside], groups[inside]) if inside.any() else -1.0


def _kmeans(points: np.ndarray, count: int, *, start: np.ndarray | None = None, seed: int) -> np.ndarray:
    """Return the centres of k-means, from given ones or the best of several starts."""
    given = {"init": start, "n_init": 1} if start is not None else {"n_init": KMEANS_STARTS}
    return KMeans(count, random_state=seed, **given).fit(points).cluster_centers_


def _explained(points: np.ndarray, number: np.ndarray) -> float:
    """Return the share of the squared distances from the mean that segments explain, adjusted for their number."""
    total = ((points - points.mean(axis=0)) ** 2).sum()
    rest = sum(((own - own.mean(axis=0)) ** 2).sum() for own in (points[number == n] for n in np.unique(number)))
    freedom = (len(points) - 1) / max(len(points) - len(np.unique(number)), 1)
    return float(1 - rest / total * freedom) if total > 0 else 0.0


def _gradual(space: ColumnSpace, *, rows: np.ndarray, copies: int = 3, seed: int) -> list[np.ndarray]:
    """Make customers with the same values in each column and the same spread on each axis, but without groups.

    Shuffled tables are put on the same axes and stretched to their spread: what segments explain there comes from
    the values alone, such as a yes or no that divides customers in two.
    """
    rng, points, made = np.random.default_rng([seed, 3]), space.points[rows], []
    for _ in range(copies):
        copy = _shuffled(space.encoded[rows], blocks=space.blocks, rng=rng) @ space.loadings
        made.append((copy - copy.mean(axis=0)) / copy.std(axis=0) * points.std(axis=0))
    return made


def _score(
    points: np.ndarray, centres: np.ndarray, *, by: str, rows: list[np.ndarray], gradual: list[np.ndarray], seed: int
) -> dict[str, object]:
    """Score segments: what they explain beyond chance (as the gap statistic, Tibshirani et al. 2001), and stability."""
    number, count = nearest_centre(points, centres), len(centres)
    again = [nearest_centre(points, _kmeans(points[part], count, seed=seed + 1)) for part in rows]
    stability = float(np.mean([adjusted_rand(a, b) for a, b in pairwise([*again, again[0]])]))
    explained = _explained(points, number)
    chance = float(np.mean([_explained(copy, _cut(copy, count, seed=seed)) for copy in gradual]))
    beyond = 1 - (1 - explained) / (1 - chance) if chance < 1 else 0.0
    return {
        "segments": count,
        "found_by": by,
        "explained": explained,
        "beyond_chance": beyond,
        "stability": stability,
        "smallest_share": float(np.bincount(number, minlength=count).min() / len(points)),
        "score": (max(beyond, 0.0) + max(stability, 0.0)) / 2,
    }


def _cut(points: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    return nearest_centre(points, _kmeans(points, count, seed=seed))


def _best(tried: pd.DataFrame) -> int:
    """Return the row with the highest score; within noise of it, the best that dense groups proposed."""
    near = tried[(tried["score"] >= tried["score"].max() - SCORE_NOISE) & (tried["found_by"] == FOUND_DENSE)]
    return int((near if len(near) else tried)["score"].idxmax())


def _by_size(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Order the centres by the size of their segments, the largest first."""
    sizes = np.bincount(nearest_centre(points, centres), minlength=len(centres))
    return centres[np.argsort(-sizes, kind="stable")]


def validate_columns(found: ColumnSegments, *, repetitions: int = PROOFS["quick"], seed: int = 7) -> ColumnTests:
    """Repeat the analysis on four fifths of the customers, and on shuffled tables in which nothing goes together.

    The number of axes and of segments stays; axes and centres are found again each time.

    Parameters
    ----------
    repetitions
        Of each kind; more narrow the ranges.
    """
    encoded, count, axes = found.space.encoded, len(found.centres), found.space.loadings.shape[1]
    again = partial(_segment_again, count=count, axes=axes)
    rows = subsample_rows(len(encoded), count=repetitions, seed=seed + 1)
    labels = [again(encoded, rows=part, seed=seed + n) for n, part in enumerate(rows)]
    ari, jaccard = [], []
    for n in range(repetitions):
        copy = _shuffled(encoded, blocks=found.space.blocks, rng=np.random.default_rng([seed, 2, n]))
        pair = [again(copy, rows=rows[i], seed=seed + i) for i in (n, (n + 1) % repetitions)]
        ari.append(adjusted_rand(*pair))
        jaccard.append(best_jaccard(*pair))
    real = [adjusted_rand(a, b) for a, b in pairwise([*labels, labels[0]])]
    structure = Structure(np.array(real), np.array(ari), np.concatenate(jaccard))
    overlap = np.array([best_jaccard(found.number, other) for other in labels])
    segments = pd.DataFrame(
        {
            "stability": overlap.mean(axis=0),
            "stability_low": overlap.min(axis=0),
            "stability_high": overlap.max(axis=0),
        }
    )
    segments["verdict"] = [segment_verdict(mean, reference=structure) for mean in segments["stability"]]
    pairs = [adjusted_rand(a, b) for n, a in enumerate(labels) for b in labels[:n]]
    same = np.mean([_matched(found.number, other, count=count) == found.number for other in labels], axis=0)
    return ColumnTests(same, segments, np.array(pairs), structure, _stand_apart(found, seed=seed))


def _segment_again(encoded: np.ndarray, *, rows: np.ndarray, count: int, axes: int, seed: int) -> np.ndarray:
    """Find axes and segments in some of the rows, and assign all of them."""
    loadings, _ = _components(encoded[rows], most=axes)
    points = encoded @ loadings
    return nearest_centre(points, _kmeans(points[rows], count, seed=seed))


def _matched(number: np.ndarray, other: np.ndarray, *, count: int) -> np.ndarray:
    """Give each segment of a repetition the number of the one that it shares most customers with."""
    shared = np.zeros((count, count))
    np.add.at(shared, (other, number), 1)
    return linear_sum_assignment(-shared)[1][other]


def _stand_apart(found: ColumnSegments, *, seed: int) -> bool:
    """Return whether segments explain more than they nearly always do where customers differ gradually."""
    count = len(found.centres)
    rows = np.flatnonzero(found.sampled)
    rows = rows[subsample_rows(len(rows), count=1, seed=seed)[0]]
    points = found.space.points[rows]
    copies = _gradual(found.space, rows=rows, copies=NULL_COPIES, seed=seed)
    gradual = [_explained(copy, _cut(copy, count, seed=seed)) for copy in copies]
    return bool(_explained(points, _cut(points, count, seed=seed)) > np.percentile(gradual, NULL_PERCENTILE))


def column_verdict(tests: ColumnTests, *, share: np.ndarray) -> str:
    """Return groups, groups in part, cuts or none, by the same limits as for segments of what customers do.

    `share`: of customers in each segment.
    """
    unstable = share[(tests.segments["verdict"] == UNSTABLE).to_numpy()].sum()
    stable = share[tests.segments["verdict"].isin(STABLE_VERDICTS).to_numpy()].sum()
    if (unstable > MOST_UNSTABLE and stable < FEW_STABLE) or not tests.structure.found:
        return NONE
    if not tests.apart:
        return CUTS
    return IN_PART if reappears_in_part(tests.segments) else GROUPS


def column_metrics(found: ColumnSegments | None, tests: ColumnTests | None, *, verdict: str) -> dict[str, object]:
    """Collect the headline numbers; those of tests that were not made are null."""
    if found is None or tests is None:
        return {"segments.verdict": verdict, "stability.ari_mean": None, "structure.found": False}
    placed = found.dense >= 0
    return {
        "segments.verdict": verdict,
        "segments.hdbscan_ari": _agreement(found.number[found.sampled], found.dense) if placed.any() else None,
        "segments.noise_share": float(1 - placed.mean()),
        "stability.ari_mean": float(tests.ari.mean()),
        "stability.ari_mean.low": float(tests.ari.min()),
        "stability.ari_mean.high": float(tests.ari.max()),
        "structure.apart": tests.apart,
        **tests.structure.metrics(),
    }
