"""The search: UMAP and HDBSCAN look for segments in subsamples; one budget decides the cut; everyone is placed.

Each bag, a subsample of customers, gets its own map and its own HDBSCAN clusters. Two families of cuts are made from
what the bags found, and every number of segments within the budget is tried in both (`segments.cuts`). Where customers
form groups, joining the clusters follows them; where they are a continuum, anchored borders between the dense parts
come back more surely. The score decides: foresight on the learning window, stability between bags, and size.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from segkit.customers.outcomes import Outcomes
from segkit.errors import BudgetError
from segkit.segments.bags import Bags
from segkit.segments.cuts import FAMILIES, Cut, bag_cuts, make_cut, without_crumbs
from segkit.segments.judge import forward_r2
from segkit.segments.place import nearest

PRIVACY_FLOOR = 20  # customers


@dataclass(frozen=True)
class Budget:
    """What the user asks of a segmentation: how many segments, and how small one may be (0: as it comes, for
    refits).
    """

    fewest: int = 12
    most: int = 20
    smallest_share: float = 0.01
    families: tuple[str, ...] = FAMILIES


def search(
    points: np.ndarray, bags: Bags, *, learning: np.ndarray | None, outcomes: Outcomes | None, budget: Budget
) -> tuple[Cut, pd.DataFrame]:
    """Try every count within the budget in both families; choose the best in foresight and stability together.

    Takes  points: customers x axes, today; bags found in them; learning: the same axes one horizon ago; outcomes: what
           those customers did in between (the learning window: nothing after `as_of` is seen); None: not known
    Gives  the chosen Cut, and the frontier: family, segments, spend_r2, mix_r2, stability (adjusted Rand index between
           cuts made in each bag alone), smallest_share, score (mean of the three, each against the best), chosen

    Raises
    ------
    BudgetError : no count within the budget keeps every segment large enough; says which limit binds
    """
    needed = budget.fewest * PRIVACY_FLOOR
    if len(points) < needed and budget.smallest_share > 0:
        raise BudgetError(
            f"segments: {len(points):,} customers are too few; "
            f"{budget.fewest} segments of {PRIVACY_FLOOR} need {needed}. "
            f"Ask for fewer segments (segments_min), or give a longer lookback."
        )
    floor = max(PRIVACY_FLOOR / len(points), budget.smallest_share) if budget.smallest_share > 0 else 0.0
    asked = [(family, k) for family in budget.families for k in range(budget.fewest, budget.most + 1)]
    cuts = [make_cut(points, bags, family=family, segments=k) for family, k in asked]
    made = [cut for cut, (_, k) in zip(cuts, asked, strict=True) if len(cut.centres) == k]
    if not made and budget.smallest_share <= 0:
        made = [cut for cut in cuts if len(cut.centres) > 1]  # a refit takes what its bags hold
    frontier = pd.DataFrame([_try(points, bags, cut, learning=learning, outcomes=outcomes) for cut in made])
    fits = frontier["smallest_share"] >= floor if len(frontier) else pd.Series(dtype=bool)
    if not fits.any() and budget.smallest_share > 0:
        finer = _without_crumbs(points, bags, budget=budget, floor=floor)
        if finer:
            made = finer
            frontier = pd.DataFrame([_try(points, bags, cut, learning=learning, outcomes=outcomes) for cut in made])
            fits = frontier["smallest_share"] >= floor
    if not fits.any():
        raise BudgetError(_unmet(frontier, budget=budget, floor=floor, customers=len(points)))
    scores = frontier[["spend_r2", "mix_r2", "stability"]].clip(lower=0)
    best = scores[fits].max()
    frontier["score"] = (scores / best.where(best > 0, 1.0)).mean(axis=1)
    chosen = int(frontier["score"].where(fits, -1.0).idxmax())
    frontier["chosen"] = frontier.index == chosen
    return made[chosen], frontier


def segment_figures(bags: Bags, cut: Cut, number: np.ndarray) -> dict[str, float]:
    """How many segments, and how far the placed customers stand from what HDBSCAN saw, with the range over the bags.

    Gives  segments.count; segments.hdbscan_ari (adjusted Rand index on those it kept) and segments.noise_share, each
           with .low, .high
    """
    aris, noise = [], []
    found = nearest(bags.centres, cut.centres)
    for bag in range(bags.labels.shape[1]):
        labels = bags.labels[:, bag]
        kept = labels >= 0
        own = np.flatnonzero(bags.bag_of == bag)
        aris.append(adjusted_rand_score(found[own][labels[kept]], number[kept]))
        noise.append((labels == -1).sum() / (labels > -2).sum())
    figures: dict[str, float] = {"segments.count": len(cut.centres), "segments.customers": len(number)}
    for name, values in (("segments.hdbscan_ari", aris), ("segments.noise_share", noise)):
        figures |= {
            name: float(np.mean(values)),
            f"{name}.low": float(np.min(values)),
            f"{name}.high": float(np.max(values)),
        }
    return figures


def _without_crumbs(points: np.ndarray, bags: Bags, *, budget: Budget, floor: float) -> list[Cut]:
    """For few customers: finer cuts, with their smallest segments given up until the others are large enough."""
    most, least = 3 * budget.most, int(np.ceil(floor * len(points)))
    finer = [make_cut(points, bags, family=f, segments=k) for f in budget.families for k in range(budget.fewest, most)]
    cleared = [without_crumbs(points, cut, floor=least, fewest=budget.fewest) for cut in finer]
    return [cut for cut in cleared if budget.fewest <= len(cut.centres) <= budget.most]


def _try(
    points: np.ndarray, bags: Bags, cut: Cut, *, learning: np.ndarray | None, outcomes: Outcomes | None
) -> dict[str, object]:
    number = nearest(points, cut.centres)
    share = np.bincount(number, minlength=len(cut.centres)) / len(points)
    known = learning is not None and outcomes is not None
    scores = forward_r2(nearest(learning, cut.centres), outcomes) if known else {}
    return {
        "family": cut.family,
        "segments": len(cut.centres),
        "spend_r2": scores.get("spend", np.nan),
        "mix_r2": scores.get("mix", np.nan),
        "stability": _between_bags(points, bags, cut),
        "smallest_share": float(share.min()),
    }


def _between_bags(points: np.ndarray, bags: Bags, cut: Cut) -> float:
    """Mean adjusted Rand index of neighbouring bags' own cuts, on everyone."""
    own = bag_cuts(points, bags, family=cut.family, segments=len(cut.centres))
    labels = [nearest(points, one.centres) for one in own if len(one.centres)]
    pairs = zip(labels, labels[1:] + labels[:1], strict=True)
    return float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))


def _unmet(frontier: pd.DataFrame, *, budget: Budget, floor: float, customers: int) -> str:
    if frontier.empty:
        return (
            f"segments: HDBSCAN found fewer than {budget.fewest} clusters. "
            f"Ask for fewer (segments_min), or give more history."
        )
    best = frontier.loc[frontier["smallest_share"].idxmax()]
    return (
        f"segments: no cut into {budget.fewest}-{budget.most} segments keeps each above {floor:.1%} "
        f"of {customers:,} customers; "
        f"the best ({best['segments']:.0f} segments) has one of {best['smallest_share']:.1%}. "
        f"Lower smallest_share, or ask for fewer segments (segments_min)."
    )
