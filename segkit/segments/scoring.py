"""How good a segmentation is: adjusted R2 on what customers did afterwards, with intervals and paired differences."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.category_mix import common_terms, is_free_text, mix_shares
from segkit.customers.features import Outcomes
from segkit.stats import bootstrap_interval

MIX_TERMS = 300  # most common categories or words
DRAWS = 200
MEASURES = ("spend", "mix", "active")


@dataclass(frozen=True)
class ScoringOutcomes:
    """What is judged on: for each measure the rows it holds for, and outcomes centred by column."""

    values: dict[str, tuple[np.ndarray, np.ndarray]]


def scoring_outcomes(
    outcomes: Outcomes, *, terms: list[str] | None = None, words: bool | None = None
) -> ScoringOutcomes:
    """The outcomes that segments are judged on.

    Takes  outcomes of a horizon; terms: those the mix is made of, else the most common ones in the outcomes; words:
           whether terms are words of the categories, else as many categories as there are in the outcomes say
    Gives  Truth: spend log(1 + spend) of all; mix square-root shares of those who bought; active of all, any event
           of their own
    """
    everyone = np.ones(len(outcomes.totals), dtype=bool)
    values = {
        "spend": (everyone, outcomes.value[:, None]),
        "active": (everyone, outcomes.active.astype(float)[:, None]),
    }
    if outcomes.weights is not None and len(outcomes.categories):
        words = is_free_text(list(outcomes.categories)) if words is None else words
        weights, names, common = common_terms(outcomes.weights, outcomes.categories, words=words, most=MIX_TERMS)
        shares, bought = mix_shares(weights, names, terms=terms or common)
        bought &= outcomes.active
        if bought.sum() > 1:
            values["mix"] = (bought, shares[bought])
    return ScoringOutcomes(values=values)


def adjusted_r2(labels: np.ndarray, values: np.ndarray, *, draws: np.ndarray | None = None) -> np.ndarray:
    """1 - (1 - eta2)(n - 1)/(n - k), eta2 = between-group / total sum of squares; shuffled labels score 0.

    Takes  labels: group of each row; values: rows x columns; draws: resamplings x rows, how often each row was drawn
    Gives  one score for each draw; a single one for the rows as they are where no draws are given
    """
    codes, groups = pd.factorize(labels)
    centred = values - values.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(groups)))])
    draws = np.ones((1, len(values))) if draws is None else draws
    return np.array([_one_draw(c, codes, centred, squares, order=order, starts=starts) for c in draws])


def _one_draw(
    counts: np.ndarray,
    codes: np.ndarray,
    values: np.ndarray,
    squares: np.ndarray,
    *,
    order: np.ndarray,
    starts: np.ndarray,
) -> float:
    n = counts.sum()
    members = sparse.csr_array((counts[order], order, starts), shape=(len(starts) - 1, len(values)))
    group_sum = members @ values
    sizes = np.bincount(codes, weights=counts, minlength=len(starts) - 1)
    present = sizes > 0
    mean_part = np.square(group_sum.sum(axis=0)).sum() / n
    total = counts @ squares - mean_part
    between = (np.einsum("ij,ij->i", group_sum, group_sum)[present] / sizes[present]).sum() - mean_part
    if n <= present.sum():
        return float("nan")
    return float(1 - (1 - between / total) * (n - 1) / (n - present.sum())) if total > 0 else 0.0


def compare_segmentations(
    segmentations: dict[str, np.ndarray],
    outcomes: ScoringOutcomes,
    *,
    reference: str,
    draws: int = DRAWS,
    seed: int = 7,
) -> pd.DataFrame:
    """Judge segmentations on the same customers, and each against ours in pairs.

    Takes  segmentations: name -> group of each customer (missing: unknown, left out for that rival)
    Gives  one row per name and measure: baseline, measure, segments, customers, r2, low, high, and `lead`, `lead_low`,
           `lead_high`:
           ours less the rival, on the customers for whom the rival is known (95 %, customers resampled in pairs)
    """
    rows = []
    for measure, (inside, values) in outcomes.values.items():
        drawn = {}  # of ours, by the customers a rival is known for: most are known for all
        for name, labels in segmentations.items():
            is_labelled = ~pd.isna(labels[inside])
            pair = labels[inside][is_labelled], segmentations[reference][inside][is_labelled]
            head = {"baseline": name, "measure": measure}
            key = is_labelled.tobytes()
            counts = _draw_counts(int(is_labelled.sum()), draws=draws, seed=seed)
            if key not in drawn:
                drawn[key] = adjusted_r2(pair[1], values[is_labelled], draws=counts)
            theirs = drawn[key] if name == reference else adjusted_r2(pair[0], values[is_labelled], draws=counts)
            rows.append(head | _score_pair(*pair, values[is_labelled], drawn=theirs, reference_drawn=drawn[key]))
    table = pd.DataFrame(rows)
    order = {name: i for i, name in enumerate(segmentations)}
    return table.sort_values("baseline", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def lead_verdict(low: float, high: float) -> str:
    """Ahead, behind or level: where the 95 % interval of the lead lies against 0."""
    if np.isnan(low) or np.isnan(high):
        return "cannot tell"
    return "ahead" if low > 0 else "behind" if high < 0 else "level"


@lru_cache(maxsize=1)
def _draw_counts(customers: int, *, draws: int, seed: int) -> np.ndarray:
    """How often each customer is drawn in each resampling; the same for the same number of customers."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(customers, np.full(customers, 1 / customers), size=draws).astype(float)
    counts.flags.writeable = False  # it is kept: most rivals are known for the same customers
    return counts


def _score_pair(
    labels: np.ndarray, reference: np.ndarray, values: np.ndarray, *, drawn: np.ndarray, reference_drawn: np.ndarray
) -> dict[str, object]:
    score, own_score = (float(adjusted_r2(each, values)[0]) for each in (labels, reference))
    interval, lead = (
        bootstrap_interval(drawn, at=score),
        bootstrap_interval(reference_drawn - drawn, at=own_score - score),
    )
    return {
        "segments": len(pd.unique(labels)),
        "customers": len(values),
        "r2": score,
        "low": interval.low,
        "high": interval.high,
        **lead.columns("lead"),
    }
