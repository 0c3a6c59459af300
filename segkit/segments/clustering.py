"""Make segments, levels of how much times columns of what for; search for the best number; draw customers on a map."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from segkit.customers.needs import Needs
from segkit.customers.plane import EPOCHS, draw_plane
from segkit.errors import BudgetError, SchemaError
from segkit.format import FLOOR
from segkit.segments.model import nearest_centre
from segkit.segments.scoring import ScoringOutcomes, adjusted_r2
from segkit.stats import adjusted_rand, hash_sample

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
    coords[sampled] = draw_plane(points[sampled], n_neighbors=n_neighbors, min_dist=min_dist, epochs=epochs, seed=seed)
    if not sampled.all():  # the median, unlike the mean, is not pulled between two islands
        nearest = KDTree(points[sampled]).query(points[~sampled], k=INTERPOLATION_NEIGHBOURS)[1]
        coords[~sampled] = np.median(coords[sampled][nearest], axis=1)
    return pd.DataFrame(coords, index=axes.index, columns=["x", "y"]).round(6)


FAMILIES = {  # share of customers below each border of a level; how many of the lowest levels stay whole
    "1 level": ((), 0),
    "2 levels": ((0.5,), 0),
    "3 levels": ((0.2, 0.6), 1),
    "4 levels": ((0.2, 0.55, 0.9), 1),
    "5 levels": ((0.1, 0.3, 0.6, 0.9), 2),
    "6 levels": ((0.08, 0.25, 0.5, 0.75, 0.92), 3),
}
MIN_CEILING = 0.02  # R²; where less can be explained, nothing is to be weighed
FEWEST_COLUMNS = 2  # of a level that is split
MIN_DISTINCT = 30  # different customers; with fewer there is nothing to segment
LEVELS_ALONE = ("4 levels", "3 levels", "2 levels")  # families to try where no segments hold, the finest first
N_SUBSAMPLES = 10
SUBSAMPLE_SHARE = 0.8
MAX_SUBSAMPLE_SIZE = 4_000  # customers; larger ones cost more and were no more stable (benchmarks/README)
ENOUGH_SEGMENTS = 4  # where fewer hold than asked for, no smaller number is tried
FEWEST_SEGMENTS = 2


@dataclass(frozen=True)
class Segmentation:
    """Hold a segmentation: levels of how much, and in each level one segment or several by what for.

    Parameters
    ----------
    family
        Key of ``FAMILIES``.
    borders
        Values on the first axis between one level and the next, ascending.
    centres
        Segments x axes; the first coordinate is the same in all segments of a level.
    level
        Level of each segment, 0 the lowest.
    anchor
        Number of the need (axis less one) that a segment grew from; -1 for a whole level.
    """

    family: str
    borders: np.ndarray
    centres: np.ndarray
    level: np.ndarray
    anchor: np.ndarray

    @property
    def shape(self) -> tuple[str, int]:
        """Return the family and the number of segments."""
        return self.family, len(self.centres)

    def assign(self, points: np.ndarray) -> np.ndarray:
        """Return the number of the segment of each customer."""
        return nearest_centre(points, self.centres, borders=self.borders, level=self.level)


def make_segmentation(points: np.ndarray, *, family: str, segments: int, min_customers: int = 1) -> Segmentation:
    """Make a segmentation.

    Customers are cut into levels by the first axis. A level that is split has a column for each of the needs that lead
    for most of its customers, and an open one for the others; each customer joins the column whose mean is nearest.

    Parameters
    ----------
    points
        Coordinates, customers x axes.
    family
        Key of ``FAMILIES``.
    segments
        How many; there are fewer where a level has fewer needs, or columns would be too small.
    min_customers
        In each column; a smaller one is dissolved into the open one.

    Returns
    -------
    Segmentation
        Highest level first.
    """
    shares, whole = FAMILIES[family]
    borders = np.unique(np.quantile(points[:, 0], shares, method="higher"))  # a customer's value: no level is empty
    borders = borders[borders > points[:, 0].min()]
    level_of = np.searchsorted(borders, points[:, 0], side="right")
    columns = _columns_by_level(len(borders) + 1, shares=shares, whole=whole, segments=segments)
    centres, level, anchor = [], [], []
    for number in range(len(borders), -1, -1):
        members = points[level_of == number]
        means, needs = _make_columns(members[:, 1:], most=columns[number], min_customers=min_customers)
        centres.append(np.column_stack([np.full(len(means), members[:, 0].mean()), means]))
        level += [number] * len(means)
        anchor += needs
    return Segmentation(family, borders, np.vstack(centres), np.array(level), np.array(anchor))


def _columns_by_level(levels: int, *, shares: Sequence[float], whole: int, segments: int) -> list[int]:
    """Share the segments among the levels that are split, by their customers (largest remainders)."""
    if levels != len(shares) + 1:  # many customers have the same value: levels fell together
        return [max(FEWEST_COLUMNS, segments // levels)] * levels
    sizes = np.diff([0.0, *shares, 1.0])[whole:]
    quota = (segments - whole) * sizes / sizes.sum()
    columns = np.maximum(np.floor(quota).astype(int), FEWEST_COLUMNS)
    while columns.sum() < segments - whole:
        columns[int(np.argmax(quota - columns))] += 1
    while columns.sum() > segments - whole and columns.max() > 1:
        columns[int(np.argmax(columns - quota))] -= 1
    return [1] * whole + columns.tolist()


def _make_columns(leads: np.ndarray, *, most: int, min_customers: int) -> tuple[np.ndarray, list[int]]:
    """Return the centres of a level's columns, and the need that each grew from (-1 where no single need leads)."""
    leading = leads.argmax(axis=1) if leads.shape[1] else np.zeros(len(leads), dtype=int)
    sizes = np.bincount(leading, minlength=leads.shape[1])
    needs = [int(need) for need in np.argsort(-sizes, kind="stable") if sizes[need]]
    needs = needs if len(needs) <= most else needs[: most - 1]
    is_open = len(needs) < np.count_nonzero(sizes)
    while len(needs) > 1 or (needs and is_open):
        anchors = [*sorted(needs), *([-1] if is_open else [])]
        column = np.full(leads.shape[1], len(anchors) - 1 if is_open else -1)
        column[sorted(needs)] = np.arange(len(needs))
        inside = column[leading] == np.arange(len(anchors))[:, None]
        centres = inside.astype(float) @ leads / inside.sum(axis=1)[:, None]
        sizes = np.bincount(nearest_centre(leads, centres), minlength=len(anchors))
        if sizes.min() >= min_customers:
            return centres, anchors
        smallest = anchors[int(sizes.argmin())]
        is_open = smallest >= 0  # too few without a need of their own join the nearest column
        needs = [need for need in needs if need != smallest]
    return leads.mean(axis=0)[None], [-1]


def subsample_rows(customers: int, *, count: int = N_SUBSAMPLES, seed: int = 7) -> list[np.ndarray]:
    """Draw subsamples of the customers, as sorted rows."""
    size = min(int(SUBSAMPLE_SHARE * customers), MAX_SUBSAMPLE_SIZE)
    return [np.sort(np.random.default_rng([seed, i]).permutation(customers)[:size]) for i in range(count)]


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
    families: tuple[str, ...] = tuple(FAMILIES)
    prefer: tuple[str, int] | None = None

    def min_customers(self, customers: int) -> int:
        """Return how many customers each segment needs at least."""
        return max(FLOOR, int(np.ceil(self.smallest_share * customers))) if self.smallest_share > 0 else 1


SCORE_NOISE = 0.02  # how much the score differs between subsamples (benchmarks/README)
SCORES = ("spend_r2", "need_r2", "stability")  # that are weighed; the mix stands in where there are no needs


@dataclass(frozen=True)
class SearchData:
    """Hold what segmentations are scored on: customers today, their subsamples, and the training window.

    Parameters
    ----------
    points
        Coordinates today, customers x axes.
    subsamples
        Rows of ``points`` in each subsample.
    training_points, outcomes
        The same axes one horizon ago, and what those customers did in between; None where unknown.
    """

    points: np.ndarray
    subsamples: list[np.ndarray]
    training_points: np.ndarray | None
    outcomes: ScoringOutcomes | None


def search(data: SearchData, *, budget: Budget) -> tuple[Segmentation, pd.DataFrame]:
    """Try every number of segments within the budget in each family; choose the best by R2 and stability together.

    Parameters
    ----------
    data
        Customers; nothing after ``as_of`` is used.
    budget
        How many segments, and how small.

    Returns
    -------
    Segmentation
        The chosen one; with fewer segments than asked for where no more are large enough.
    pandas.DataFrame
        The frontier: family, segments, spend_r2, need_r2, mix_r2, stability (adjusted Rand index between segmentations
        of single subsamples), smallest_share, score (mean of spend and need, each as a share of what the axes explain
        without segments, and stability),
        chosen.

    Raises
    ------
    BudgetError
        No segmentation has segments that are large enough; the message names the limit.
    """
    customers = len(data.points)
    _refuse_budget(budget, customers=customers)
    if len(np.unique(data.points.round(6), axis=0)) < MIN_DISTINCT:
        raise BudgetError(
            f"anticipation: {customers:,} customers have fewer than {MIN_DISTINCT} different forecasts, "
            f"so there is nothing to segment. Give a longer lookback, or more columns."
        )
    made = _candidates(data, budget=budget)
    if not made:
        raise BudgetError(
            f"segments: {customers:,} customers do not make {FEWEST_SEGMENTS} segments of at least "
            f"{budget.min_customers(customers)} customers. "
            f"Lower smallest_share, or give a longer lookback."
        )
    frontier = pd.DataFrame([_score_segmentation(data, each) for each in made])
    scores = frontier[list(SCORES)].clip(lower=0)
    scores["need_r2"] = scores["need_r2"].fillna(frontier["mix_r2"].clip(lower=0))
    frontier["score"] = (scores.fillna(0.0) / _ceilings(data)).mean(axis=1)
    chosen = _select_best(frontier, prefer=budget.prefer)
    frontier["chosen"] = frontier.index == chosen
    return made[chosen], frontier


def _ceilings(data: SearchData) -> pd.Series:
    """Return what the axes without any segments explain of each outcome (least squares); 1 for stability."""
    ceilings = pd.Series(1.0, index=list(SCORES))
    for measure in ("spend", "need"):
        if data.outcomes is not None and measure in data.outcomes.values:
            rows, values = data.outcomes.values[measure]
            design = np.column_stack([np.ones(int(rows.sum())), data.training_points[rows]])
            rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
            total = np.square(values - values.mean(axis=0)).sum()
            ceilings[f"{measure}_r2"] = max(1.0 - np.square(rest).sum() / total, MIN_CEILING) if total > 0 else 1.0
    return ceilings


def _candidates(data: SearchData, *, budget: Budget) -> list[Segmentation]:
    """Make every segmentation within the budget; those with most segments where there are fewer."""
    smallest = budget.min_customers(len(data.points))
    found: dict[tuple[str, int], Segmentation] = {}
    for family in budget.families:
        for segments in range(budget.max_segments, 1, -1):
            each = make_segmentation(data.points, family=family, segments=segments, min_customers=smallest)
            sizes = np.bincount(each.assign(data.points), minlength=len(each.centres))
            if sizes.min() >= smallest and each.shape not in found:
                found[each.shape] = each
            if segments <= budget.min_segments and len(each.centres) >= min(ENOUGH_SEGMENTS, budget.min_segments):
                break
    within = [each for each in found.values() if budget.min_segments <= len(each.centres) <= budget.max_segments]
    most = max((len(each.centres) for each in found.values()), default=0)
    return within or [each for each in found.values() if len(each.centres) == most >= FEWEST_SEGMENTS]


def _score_segmentation(data: SearchData, segmentation: Segmentation) -> dict[str, object]:
    """Return a segmentation's R2 in the training window, its stability, and the share of its smallest segment."""
    number = segmentation.assign(data.points)
    share = np.bincount(number, minlength=len(segmentation.centres)) / len(data.points)
    scores: dict[str, float] = dict.fromkeys(("spend", "need", "mix"), np.nan)
    if data.outcomes is not None:
        then = segmentation.assign(data.training_points)
        for measure in scores.keys() & data.outcomes.values.keys():
            rows, values = data.outcomes.values[measure]
            scores[measure] = float(adjusted_r2(then[rows], values)[0])
    family, segments = segmentation.shape
    again = [
        make_segmentation(data.points[rows], family=family, segments=segments).assign(data.points)
        for rows in data.subsamples
    ]
    pairs = list(pairwise([*again, again[0]])) if again else []
    row = {"family": family, "segments": segments}
    row |= {f"{measure}_r2": r2 for measure, r2 in scores.items()}
    row["stability"] = float(np.mean([adjusted_rand(a, b) for a, b in pairs])) if pairs else np.nan
    return row | {"smallest_share": float(share.min())}


def _select_best(frontier: pd.DataFrame, *, prefer: tuple[str, int] | None) -> int:
    """Return the row with the highest score, or the preferred shape where it is within noise of it."""
    within_noise = frontier[frontier["score"] >= frontier["score"].max() - SCORE_NOISE]
    same = [shape == prefer for shape in zip(within_noise["family"], within_noise["segments"], strict=True)]
    return int(within_noise.index[same.index(True)] if any(same) else frontier["score"].idxmax())


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
    required = FEWEST_SEGMENTS * FLOOR
    if customers < required and budget.smallest_share > 0:
        raise BudgetError(
            f"segments: {customers:,} customers are too few; "
            f"{FEWEST_SEGMENTS} segments of {FLOOR} need {required}. Give a longer lookback."
        )


def segment_metrics(
    segmentation: Segmentation, needs: Needs | None, *, customers: int, asked: int
) -> dict[str, object]:
    """Count segments and needs, and compare the needs with the clusters that HDBSCAN found.

    Parameters
    ----------
    segmentation, needs
        Those of the fit.
    customers
        How many were assigned.
    asked
        Fewest segments of the budget.

    Returns
    -------
    dict
        segments.count, segments.asked, segments.customers; needs.count, needs.stability; segments.hdbscan_ari (adjusted
        Rand index of the needs with the clusters of things in each subsample) and segments.noise_share (of things).
    """
    return {
        "segments.count": len(segmentation.centres),
        "segments.asked": asked,
        "segments.customers": customers,
        "needs.count": 0 if needs is None else len(needs.ids),
        "needs.stability": None if needs is None else float(np.average(needs.stability, weights=needs.spend)),
        "segments.hdbscan_ari": None if needs is None else needs.agreement,
        "segments.noise_share": None if needs is None else needs.noise_share,
    }
