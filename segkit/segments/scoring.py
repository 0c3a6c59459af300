"""Score segmentations out of time: adjusted R2 on later outcomes, with intervals and paired differences."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.anticipation import root_shares
from segkit.customers.category_mix import common_terms, is_free_text, mix_shares
from segkit.customers.features import Outcomes
from segkit.customers.needs import Needs, need_amounts
from segkit.stats import bootstrap_interval

MIX_TERMS = 300  # most common categories or words
DRAWS = 200
MEASURES = ("spend", "need", "mix", "active")


@dataclass(frozen=True)
class ScoringOutcomes:
    """Hold what segmentations are scored on: by measure the rows it exists for (a flag each) and their values."""

    values: dict[str, tuple[np.ndarray, np.ndarray]]


def scoring_outcomes(
    outcomes: Outcomes, *, needs: Needs | None = None, terms: list[str] | None = None, words: bool | None = None
) -> ScoringOutcomes:
    """Compute the outcomes that segmentations are scored on.

    Parameters
    ----------
    outcomes
        What customers did in a horizon.
    needs
        Needs learnt before `as_of`; None leaves the measure out.
    terms
        The categories or words of the mix; by default the most common ones in the outcomes.
    words
        Whether terms are words of category names; by default decided from the outcomes.

    Returns
    -------
    ScoringOutcomes
        `spend`: log(1 + spend), all customers; `need` and `mix`: square-root shares of the needs, and of the most
        common categories, customers who bought; `active`: any event of their own, all customers.
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
    if outcomes.things[0] is not None and needs is not None:
        shares, bought = root_shares(need_amounts(needs, outcomes.things))
        bought &= outcomes.active
        if bought.sum() > 1:
            values["need"] = (bought, shares[bought])
    return ScoringOutcomes(values=values)


def adjusted_r2(labels: np.ndarray, values: np.ndarray, *, draws: np.ndarray | None = None) -> np.ndarray:
    """Compute 1 - (1 - eta2)(n - 1)/(n - k), eta2 = between-group / total sum of squares; shuffled labels score 0.

    Parameters
    ----------
    labels
        Group of each row.
    values
        Rows x columns.
    draws
        Resamplings x rows: how often each row was drawn.

    Returns
    -------
    numpy.ndarray
        A score for each draw; a single one for the rows as they are without draws.
    """
    codes, groups = pd.factorize(labels)
    centred = values - values.mean(axis=0)
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(groups)))])
    draws = np.ones((1, len(values))) if draws is None else draws
    members = sparse.csr_array((np.ones(len(order)), order, starts), shape=(len(groups), len(values)))
    n, sizes = draws.sum(axis=1), (members @ draws.T).T
    mean_part = np.square(draws @ centred).sum(axis=1) / n
    total = draws @ np.einsum("ij,ij->i", centred, centred) - mean_part
    between = np.empty(len(draws))
    for i, counts in enumerate(draws):
        members.data[:] = counts[order]
        sums = members @ centred
        between[i] = (np.einsum("ij,ij->i", sums, sums) / np.maximum(sizes[i], 1.0)).sum() - mean_part[i]
    freedom = n - (sizes > 0).sum(axis=1)
    ratio = 1 - np.divide(between, total, out=np.ones_like(total), where=total > 0)
    score = 1 - np.divide(ratio * (n - 1), freedom, out=np.full(len(n), np.nan), where=freedom > 0)
    return np.where((total > 0) | (freedom <= 0), score, 0.0)


def compare_segmentations(
    segmentations: dict[str, np.ndarray],
    outcomes: ScoringOutcomes,
    *,
    reference: str,
    draws: int = DRAWS,
    seed: int = 7,
) -> pd.DataFrame:
    """Score segmentations on the same customers, and compare the reference with each in pairs.

    Parameters
    ----------
    segmentations
        Name -> group of each customer; missing where unknown, which leaves the customer out for that baseline.
    outcomes
        What they are scored on.
    reference
        Name of the segmentation that the others are compared with.
    draws
        Resamplings of the customers; more narrow the error of the intervals.
    seed
        Seed of the resamplings.

    Returns
    -------
    pandas.DataFrame
        A row for each name and measure: baseline, measure, segments, customers, r2, low, high, and `lead`, `lead_low`,
        `lead_high`: reference less baseline, on customers whose baseline is known (95 %, resampled in pairs).
    """
    rows = []
    for measure, (inside, values) in outcomes.values.items():
        reference_draws = {}  # by the customers whose baseline is known, mostly all of them
        for name, labels in segmentations.items():
            is_labelled = ~pd.isna(labels[inside])
            pair = labels[inside][is_labelled], segmentations[reference][inside][is_labelled]
            head = {"baseline": name, "measure": measure}
            key = is_labelled.tobytes()
            counts = _draw_counts(int(is_labelled.sum()), draws=draws, seed=seed)
            if key not in reference_draws:
                reference_draws[key] = adjusted_r2(pair[1], values[is_labelled], draws=counts)
            baseline_draws = (
                reference_draws[key] if name == reference else adjusted_r2(pair[0], values[is_labelled], draws=counts)
            )
            rows.append(
                head
                | _score_pair(*pair, values[is_labelled], drawn=baseline_draws, reference_drawn=reference_draws[key])
            )
    table = pd.DataFrame(rows)
    order = {name: i for i, name in enumerate(segmentations)}
    return table.sort_values("baseline", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def lead_verdict(low: float, high: float) -> str:
    """Return ahead, behind or level: where the 95 % interval of the lead lies relative to 0."""
    if np.isnan(low) or np.isnan(high):
        return "cannot tell"
    return "ahead" if low > 0 else "behind" if high < 0 else "level"


@lru_cache(maxsize=1)
def _draw_counts(customers: int, *, draws: int, seed: int) -> np.ndarray:
    """Return how often each customer is drawn in each resampling; the same for the same number of customers."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(customers, np.full(customers, 1 / customers), size=draws).astype(float)
    counts.flags.writeable = False  # cached: most baselines are known for the same customers
    return counts


def _score_pair(
    labels: np.ndarray, reference: np.ndarray, values: np.ndarray, *, drawn: np.ndarray, reference_drawn: np.ndarray
) -> dict[str, object]:
    """Return the score of one segmentation and the lead of the reference over it, with intervals."""
    score, reference_score = (float(adjusted_r2(each, values)[0]) for each in (labels, reference))
    interval, lead = (
        bootstrap_interval(drawn, at=score),
        bootstrap_interval(reference_drawn - drawn, at=reference_score - score),
    )
    return {
        "segments": len(pd.unique(labels)),
        "customers": len(values),
        "r2": score,
        "low": interval.low,
        "high": interval.high,
        **lead.columns("lead"),
    }
