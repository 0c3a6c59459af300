"""Predict next categories and moves, and find churn drivers, cross-sell and up-sell offers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import hypergeom, norm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from segkit.customers.anticipation import coordinates
from segkit.customers.category_mix import align_terms, common_terms, is_free_text, term_weights
from segkit.customers.features import CustomerData, Outcomes
from segkit.forecast.model import TrainingSet
from segkit.format import FLOOR
from segkit.period import Period
from segkit.segments.model import SegmentModel, assign_points
from segkit.stats import Z95, auc, discoveries, logit, proportion_interval
from segkit.vocabulary import EVERYONE, describe

MIN_PER_OUTCOME = 10  # active and lost customers of a segment; with fewer, no driver is sought
MIN_SHARE_CUSTOMERS = FLOOR  # customers under a share, and over it
MAX_OFFER_TERMS = 200  # categories or words that can be offered, the most common
FALSE_DISCOVERY_RATE = 0.05  # of the drivers found, the share that chance explains (Benjamini & Hochberg 1995)
MAX_CORRELATION = 0.7  # rank correlation above which a second feature adds nothing
MAX_OFFERS = 3  # of a kind per segment; also the most drivers per segment
MAX_TERMS = 80  # categories or words that are predicted, the most common
MAX_LEARNING_CUSTOMERS = 3_000  # customers that the model learns from; each gives a row for every term
BATCH_SIZE = 20_000  # customers whose chances are in memory at a time
SHRINKAGE = 20  # weight of everyone's share in that of a segment, in customers
NEXT_CATEGORIES = 3  # per customer
LOGIT_EDGE = 1e-4  # chances are clipped to stay this far from 0 and 1 before a logit
FOLDS = 5
DRIVERS = [
    "segment",
    "feature",
    "words",
    "customers",
    "lost_above",
    "lost_below",
    "effect",
    "effect_low",
    "effect_high",
]
OFFERS = ["segment", "kind", "term", "asked", "share", "share_low", "share_high", "others", "more", "reach"]


def churn_drivers(training: TrainingSet, segment: pd.Series) -> pd.DataFrame:
    """Find the habits that go with not coming back, within each segment.

    Members are halved at the median of each habit; the effect is the share lost above it less the share lost below.
    This is an association, not a cause.

    Parameters
    ----------
    training
        Customers one horizon ago, and what they did.
    segment
        Their segment then.

    Returns
    -------
    pd.DataFrame
        segment (and "all"), feature, words, customers, lost_above, lost_below (shares), effect, effect_low, effect_high
        (95 %, Agresti & Caffo 2000); at most three of a segment, the strongest first; of all drivers
        found, one in twenty may be chance.
    """
    features, lost = training.snapshot.data.features, ~training.outcomes.active
    habits = [name for name in features.columns if not name.startswith("stage_")]
    rows = [row for name, inside in _groups(segment) for row in _compare_halves(name, features[habits], lost, inside)]
    table = pd.DataFrame(rows, columns=[*DRIVERS, "p"])
    if table.empty:
        return table[DRIVERS]
    found = table[discoveries(table["p"].to_numpy(), share=FALSE_DISCOVERY_RATE)].sort_values(
        ["segment", "p", "feature"]
    )
    ranks = features[habits].rank()
    drivers: list[pd.Series] = []
    for _, row in found.iterrows():
        own = [k["feature"] for k in drivers if k["segment"] == row["segment"]]
        if len(own) < MAX_OFFERS and all(
            abs(ranks[row["feature"]].corr(ranks[other])) < MAX_CORRELATION for other in own
        ):
            drivers.append(row)
    return pd.DataFrame(drivers, columns=DRIVERS).reset_index(drop=True)


def next_offers(
    training: TrainingSet,
    segment: pd.Series,
    *,
    now: CustomerData,
    segment_now: pd.Series,
    period: Period,
    never: frozenset[str] = frozenset(),
) -> pd.DataFrame:
    """Find what members of a segment bought next: for the first time (cross-sell), or more of (up-sell).

    Parameters
    ----------
    training
        Customers one horizon ago, and what they did.
    segment
        Their segment then.
    period
        Gives the days of lookback and horizon, to compare amounts per day.
    never
        Categories and words that are never offered.

    Returns
    -------
    pd.DataFrame
        segment, kind, term, asked (members one horizon ago who had not, or had, bought it), share of them who then
        bought it, or more a day than before, share_low, share_high (95 %, Wilson), others (the same share of other
        customers; null where fewer than twenty could have, or did), more (above others, corrected for all comparisons),
        reach (members today it can be offered to). What fewer than twenty bought, or can be offered, is left out. At
        most three of a kind: ``more`` first, then by the lower end of the interval.
    """
    then, outcomes = training.snapshot.data, training.outcomes
    if then.weights is None or outcomes.weights is None:
        return pd.DataFrame(columns=OFFERS)
    terms = _offerable_terms(then, most=MAX_OFFER_TERMS, never=never)
    before, after = (_bought_amounts(each, terms) for each in (then, outcomes))
    takes = {
        "cross-sell": (before <= 0, after > 0),
        "up-sell": (before > 0, after / period.horizon_days > before / period.lookback_days),
    }
    labels, labels_now, rows = segment.to_numpy(), segment_now.to_numpy(), []
    names, buy = sorted(set(labels_now)), _terms_bought(now, terms) > 0
    limit = 0.05 / max(len(names) * len(takes) * len(terms), 1)  # Bonferroni: some of so many are high by chance
    for name in names:
        members = labels_now == name
        buyers = np.asarray(buy[members].sum(axis=0)).ravel()
        reach = {"cross-sell": members.sum() - buyers, "up-sell": buyers}
        for kind, (asked, took) in takes.items():
            own = _strongest_offers(labels == name, terms, asked, took, reach[kind], limit=limit)
            rows += [(name, kind, *row) for row in own]
    return pd.DataFrame(rows, columns=OFFERS).round(9)


def _offerable_terms(then: CustomerData, *, most: int, never: frozenset[str]) -> list[str]:
    """Return the most common categories, or words of free-text ones, that may be offered."""
    words = is_free_text(list(then.categories))
    limits = {"most": most + len(never), "rarest": MIN_SHARE_CUSTOMERS}
    *_, common = common_terms(then.weights, then.categories, words=words, **limits)
    return [term for term in common if term not in never][:most]


def _bought_amounts(of: CustomerData | Outcomes, terms: list[str]) -> np.ndarray:
    """Return what each customer bought of the terms: categories, or words where the terms are from free text."""
    return np.maximum(_terms_bought(of, terms).toarray(), 0.0)


def _terms_bought(of: CustomerData | Outcomes, terms: list[str]) -> sparse.csr_array:
    """Return the amounts by term as a sparse matrix."""
    weights, names = term_weights(of.weights, list(of.categories), words=not set(terms) <= set(of.categories))
    return align_terms(weights, names, to=terms)


def _groups(segment: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    """Yield everyone, then each segment, with a mask of its members."""
    yield EVERYONE, np.ones(len(segment), dtype=bool)
    for name in sorted(set(segment)):
        yield name, (segment == name).to_numpy()


def _compare_halves(
    name: str, features: pd.DataFrame, lost: np.ndarray, inside: np.ndarray
) -> list[tuple[object, ...]]:
    """Return a row for each habit of a group with enough active and enough lost customers."""
    is_lost = lost[inside]
    if min(is_lost.sum(), (~is_lost).sum()) < MIN_PER_OUTCOME:
        return []
    rows = []
    for feature, values in features[inside].items():
        above = (values > values.median()).to_numpy()
        if min(above.sum(), (~above).sum()) < MIN_SHARE_CUSTOMERS:
            continue
        counts = [(is_lost[half].sum(), half.sum()) for half in (above, ~above)]
        shares = [(lost_of + 1) / (of + 2) for lost_of, of in counts]
        spread = np.sqrt(sum(s * (1 - s) / (of + 2) for s, (_, of) in zip(shares, counts, strict=True)))
        middle = shares[0] - shares[1]
        raw_shares = [lost_of / of for lost_of, of in counts]
        at = raw_shares[0] - raw_shares[1], middle - Z95 * spread, middle + Z95 * spread
        p = 2 * norm.sf(abs(middle) / spread)
        rows.append((name, feature, describe(feature).label, len(is_lost), *raw_shares, *np.round(at, 9), p))
    return rows


def _strongest_offers(
    members: np.ndarray, terms: list[str], asked: np.ndarray, took: np.ndarray, reach: np.ndarray, *, limit: float
) -> list[tuple[object, ...]]:
    """Return at most three terms of a segment; ``more`` by Fisher's exact test against everyone else."""
    inside, outside = (asked[who].sum(axis=0) for who in (members, ~members))
    yes, no = ((asked & took)[who].sum(axis=0) for who in (members, ~members))
    stands_out = hypergeom.sf(yes - 1, inside + outside, yes + no, inside) < limit
    rows = []
    few = (yes < MIN_SHARE_CUSTOMERS) | (reach < MIN_SHARE_CUSTOMERS)  # what a few bought is not named
    for i in np.flatnonzero((inside >= MIN_SHARE_CUSTOMERS) & ~few):
        other_share, more = (
            (no[i] / outside[i] if no[i] >= MIN_SHARE_CUSTOMERS else np.nan, stands_out[i])
            if outside[i] >= MIN_SHARE_CUSTOMERS
            else (np.nan, False)
        )
        at = proportion_interval(yes[i], inside[i])
        rows.append((terms[i], int(inside[i]), *at, other_share, bool(more), int(reach[i])))
    return sorted(rows, key=lambda row: (not row[6], -row[3], row[0]))[:MAX_OFFERS]


@dataclass(frozen=True)
class CategoryModel:
    """Predict the chance of a purchase in each term.

    A logistic regression on how much a customer bought of it before, how likely they are to be active, and how many of
    their segment bought it next.
    """

    terms: list[str]
    segments: np.ndarray
    usual: np.ndarray  # (not bought before, bought before) x segments x terms, logits
    fit: LogisticRegression

    def chances(self, customers: CustomerData, chance: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Return the chances, customers x terms."""
        columns = _model_columns(
            _bought_amounts(customers, self.terms), chance, _codes(segment, self.segments), self.usual
        )
        return self.fit.predict_proba(columns.reshape(-1, columns.shape[2]))[:, 1].reshape(columns.shape[:2])


def learn_categories(
    training: TrainingSet,
    *,
    chance: np.ndarray,
    segment: np.ndarray,
    never: frozenset[str] = frozenset(),
    seed: int = 7,
) -> CategoryModel | None:
    """Learn who buys in which category next.

    Parameters
    ----------
    training
        Customers one horizon ago, and what they did.
    chance
        Of their being active, out of fold.
    segment
        Their segment then.
    never
        Categories and words that are never offered, and not predicted either.
    seed
        Draws the customers learnt from, where they are many.

    Returns
    -------
    CategoryModel or None
        None without two categories that at least twenty customers bought.
    """
    then, outcomes = training.snapshot.data, training.outcomes
    if then.weights is None or outcomes.weights is None:
        return None
    terms = _offerable_terms(then, most=MAX_TERMS, never=never)
    if len(terms) < 2:
        return None
    before, after = _bought_amounts(then, terms), _bought_amounts(outcomes, terms) > 0
    segments = np.unique(segment)
    codes = _codes(segment, segments)
    usual = _usual(before > 0, after, codes, count=len(segments))
    rows = np.sort(np.random.default_rng(seed).permutation(len(before))[:MAX_LEARNING_CUSTOMERS])
    if after[rows].all() or not after[rows].any():
        return None
    columns = _model_columns(before[rows], chance[rows], codes[rows], usual)
    fit = LogisticRegression(C=1.0, max_iter=300).fit(columns.reshape(-1, columns.shape[2]), after[rows].ravel())
    return CategoryModel(terms=terms, segments=segments, usual=usual, fit=fit)


def next_categories(
    model: CategoryModel | None, customers: CustomerData, *, chance: np.ndarray, segment: np.ndarray
) -> pd.DataFrame:
    """Predict the likeliest categories of each customer, and the likeliest that they have not bought yet.

    Returns by customer_id: next_category, next_category_chance, the same with _2 and _3, new_category,
    new_category_chance; null without a model.
    """
    ends = ["next_category", "next_category_2", "next_category_3", "new_category"]
    if model is None:
        empty = {e: pd.Series(None, index=customers.features.index, dtype=object) for e in ends}
        return pd.DataFrame(empty | {f"{e}_chance": np.nan for e in ends}, index=customers.features.index)
    names, parts = np.array([*model.terms, None], dtype=object), []
    for start in range(0, len(customers.features), BATCH_SIZE):
        some = slice(start, start + BATCH_SIZE)
        part = customers.select(np.arange(len(customers.features))[some])
        chances = model.chances(part, chance[some], segment[some]).round(6)
        new = np.where(_bought_amounts(part, model.terms) > 0, -1.0, chances)
        picks = [
            np.argsort(-chances, axis=1, kind="stable")[:, i : i + 1]
            for i in range(min(NEXT_CATEGORIES, chances.shape[1]))
        ]
        picks += [np.full_like(picks[0], -1)] * (NEXT_CATEGORIES - len(picks)) + [new.argmax(axis=1)[:, None]]
        at = np.hstack(picks)
        values = np.take_along_axis(
            np.hstack([chances, np.full((len(chances), 1), np.nan)]), at % (chances.shape[1] + 1), axis=1
        )
        at[:, -1] = np.where(new.max(axis=1) < 0, -1, at[:, -1])  # a customer who bought of all has no new category
        values[:, -1] = np.where(at[:, -1] < 0, np.nan, values[:, -1])
        columns = {e: names[at[:, i]] for i, e in enumerate(ends)}
        columns |= {f"{e}_chance": values[:, i] for i, e in enumerate(ends)}
        parts.append(pd.DataFrame(columns, index=part.features.index))
    return pd.concat(parts)


def category_accuracy(
    model: CategoryModel | None, training: TrainingSet, *, chance: np.ndarray, segment: np.ndarray
) -> dict[str, float]:
    """Measure how often active customers bought the category predicted, and the new one predicted.

    The baselines are the category they had spent most on, and the new one that most customers had bought.

    Parameters
    ----------
    model
        Learnt one horizon earlier.
    training
        Its customers are predicted, and compared with its outcomes.
    """
    if model is None or not training.outcomes.active.any():
        return {}
    active = training.outcomes.active
    before, after = (_bought_amounts(each, model.terms)[active] for each in (training.snapshot.data, training.outcomes))
    chances = model.chances(training.snapshot.data, chance, segment)[active]
    common = np.broadcast_to((before > 0).mean(axis=0), before.shape)
    picks = {"next": (chances, before, np.ones_like(before, dtype=bool)), "new": (chances, common, before <= 0)}
    metrics = {}
    for name, (predicted, baseline, eligible) in picks.items():
        counted = eligible.any(axis=1)
        for label, scores in (("", predicted), (".baseline", baseline)):
            pick = np.where(eligible, scores, -1.0).argmax(axis=1)
            hits = (after[np.arange(len(pick)), pick] > 0)[counted].mean()
            metrics[f"forecast.{name}_category_hits{label}"] = float(hits)
    return metrics


def move_chances(model: SegmentModel, then: CustomerData, now: CustomerData) -> tuple[pd.Series, dict[str, float]]:
    """Predict the chance that a customer is in another segment, or inactive, one horizon from now.

    One model assigns customers one horizon ago and today. A logistic regression learns who moved from the share of
    their segment that did, shrunk to everyone's, and from how near the border they were.

    `then`, `now`: customers one horizon ago and today. Returns chance by customer_id of ``now``; metrics: share that
    moved, and the AUC of the chances out of fold.
    """
    axes = [coordinates(model.space, customers) for customers in (then, now)]
    before, after = (assign_points(model, each)["segment"] for each in axes)
    moved = (before.ne(after.reindex(before.index))).to_numpy()
    share = moved.mean()
    metrics = {"forecast.moved_share": float(share)}
    if min(moved.sum(), (~moved).sum()) < MIN_SHARE_CUSTOMERS:
        return pd.Series(share, index=now.features.index), metrics
    rates = pd.Series(moved, index=before.index).groupby(before).agg(["sum", "size"])
    shrunk = (rates["sum"] + SHRINKAGE * share) / (rates["size"] + SHRINKAGE)
    designs = [
        np.column_stack(
            [logit(placed.map(shrunk).fillna(share).to_numpy(), edge=LOGIT_EDGE), _border_margin(model, position)]
        )
        for placed, position in zip((before, after), axes, strict=True)
    ]
    fit = LogisticRegression(C=1.0)
    out_of_fold = cross_val_predict(fit, designs[0], moved, cv=FOLDS, method="decision_function")
    metrics["forecast.moved_auc"] = float(auc(out_of_fold, moved)[0])
    chance = fit.fit(designs[0], moved).predict_proba(designs[1])[:, 1]
    return pd.Series(chance, index=now.features.index).round(6), metrics


def _border_margin(model: SegmentModel, axes: pd.DataFrame) -> np.ndarray:
    """Return how much farther the next segment is than the own one, over the sum of both distances: 0 on the border."""
    positions, segments = axes.to_numpy(), np.unique(model.segments)
    away = np.column_stack(
        [
            np.min(
                [
                    np.linalg.norm(positions - c, axis=1)
                    for c, s in zip(model.centres, model.segments, strict=True)
                    if s == segment
                ],
                axis=0,
            )
            for segment in segments
        ]
    )
    if away.shape[1] < 2:
        return np.ones(len(positions))
    near = np.sort(away, axis=1)[:, :2]
    return (near[:, 1] - near[:, 0]) / np.maximum(near.sum(axis=1), 1e-12)


def _usual(before: np.ndarray, after: np.ndarray, codes: np.ndarray, *, count: int) -> np.ndarray:
    """Return logits of the share that bought a term next, by segment and earlier purchase, shrunk to everyone's."""
    found = np.empty((2, count, before.shape[1]))
    for had in (0, 1):
        asked = before == bool(had)
        whole = (((asked & after).sum(axis=0)) + 1) / (asked.sum(axis=0) + 2)
        for code in range(count):
            own = codes == code
            found[had, code] = ((asked & after)[own].sum(axis=0) + SHRINKAGE * whole) / (
                asked[own].sum(axis=0) + SHRINKAGE
            )
    return logit(found, edge=LOGIT_EDGE)


def _model_columns(before: np.ndarray, chance: np.ndarray, codes: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Build the columns of the logistic regression, customers x terms x columns."""
    had = before > 0
    total = before.sum(axis=1, keepdims=True)
    share = np.sqrt(before / np.where(total > 0, total, 1.0))
    typical = np.where(had, usual[1][codes], usual[0][codes])
    likely = np.broadcast_to(logit(chance, edge=LOGIT_EDGE)[:, None], before.shape)
    size = np.broadcast_to(np.log1p(total), before.shape)
    return np.stack([typical, np.log1p(before), share, likely, size, had * size, had * likely, typical * size], axis=2)


def _codes(segment: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Return the number of each segment; one without customers in training counts as the first."""
    return np.maximum(pd.Index(segments).get_indexer(segment), 0)
