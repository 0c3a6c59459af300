"""Predict next categories and moves, and find cross-sell and up-sell offers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from segkit.customers.anticipation import coordinates
from segkit.customers.category_mix import align_terms, common_terms, is_free_text, term_weights
from segkit.customers.features import CustomerData, Outcomes
from segkit.forecast.model import TrainingSet
from segkit.format import FLOOR
from segkit.period import Period
from segkit.segments.model import SegmentModel, assign_points
from segkit.stats import auc, logit, mean_interval, proportion_interval

MIN_SHARE_CUSTOMERS = FLOOR  # customers under a share, and over it
MAX_OFFER_TERMS = 200  # categories or words that can be offered, the most common
MAX_OFFERS = 3  # of a kind per segment
MAX_TERMS = 80  # categories or words that are predicted, the most common
MAX_LEARNING_CUSTOMERS = 3_000  # customers that the model learns from; each gives a row for every term
BATCH_SIZE = 20_000  # customers whose chances are in memory at a time
SHRINKAGE = 20  # weight of everyone's share in that of a segment, in customers
NEXT_CATEGORIES = 3  # per customer
LOGIT_EDGE = 1e-4  # chances are clipped to stay this far from 0 and 1 before a logit
FOLDS = 5
OFFERS = ["segment", "kind", "term", "asked", "share", "share_low", "share_high", "others", "more", "reach"]


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


def _strongest_offers(
    members: np.ndarray, terms: list[str], asked: np.ndarray, took: np.ndarray, reach: np.ndarray, *, limit: float
) -> list[tuple[object, ...]]:
    """Return at most three terms of a segment; ``more`` by Fisher's exact test against everyone else."""
    from scipy.stats import hypergeom  # slow to import, and not needed to read a run

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
    fit = LogisticRegression(C=1.0, solver="newton-cholesky")  # few columns, very many rows
    fit.fit(columns.reshape(-1, columns.shape[2]), after[rows].ravel())
    return CategoryModel(terms=terms, segments=segments, usual=usual, fit=fit)


def next_categories(
    model: CategoryModel | None,
    customers: CustomerData,
    *,
    chance: np.ndarray,
    segment: np.ndarray,
    rules: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Name the likeliest categories of each customer, and the likeliest that they have not bought yet.

    Parameters
    ----------
    rules
        For ``next`` and ``new``: ``model``, ``favourite`` or ``popular``, of ``category_rules``; by default the model.

    Returns
    -------
    pd.DataFrame
        By customer_id: next_category, next_category_chance, the same with _2 and _3, new_category, new_category_chance;
        null without a model.
    """
    ends = ["next_category", "next_category_2", "next_category_3", "new_category"]
    if model is None:
        empty = {e: pd.Series(None, index=customers.features.index, dtype=object) for e in ends}
        return pd.DataFrame(empty | {f"{e}_chance": np.nan for e in ends}, index=customers.features.index)
    names, parts, rules = np.array([*model.terms, None], dtype=object), [], rules or {}
    popular = np.asarray((_terms_bought(customers, model.terms) > 0).mean(axis=0)).ravel()
    for start in range(0, len(customers.features), BATCH_SIZE):
        some = slice(start, start + BATCH_SIZE)
        part = customers.select(np.arange(len(customers.features))[some])
        chances, before = model.chances(part, chance[some], segment[some]).round(6), _bought_amounts(part, model.terms)
        scores = _category_scores(chances, before, popular=popular)
        order = np.argsort(-scores[rules.get("next", "model")], axis=1, kind="stable")[:, :NEXT_CATEGORIES]
        at = np.hstack([order, np.full((len(order), NEXT_CATEGORIES - order.shape[1]), -1), np.zeros((len(order), 1))])
        new = np.where(before > 0, -1.0, scores[rules.get("new", "model")])
        at = at.astype(int)
        at[:, -1] = np.where(new.max(axis=1) < 0, -1, new.argmax(axis=1))  # who bought of all has no new category
        chances = np.hstack([chances, np.full((len(chances), 1), np.nan)])
        values = np.take_along_axis(chances, at % chances.shape[1], axis=1)
        columns = {e: names[at[:, i]] for i, e in enumerate(ends)}
        columns |= {f"{e}_chance": values[:, i] for i, e in enumerate(ends)}
        parts.append(pd.DataFrame(columns, index=part.features.index))
    return pd.concat(parts)


def _category_scores(chances: np.ndarray, before: np.ndarray, *, popular: np.ndarray) -> dict[str, np.ndarray]:
    """Score the categories of customers by each rule; a favourite is what they spent most on, else what most buy."""
    most = np.broadcast_to(popular, before.shape)
    return {"model": chances, "favourite": np.where(before > 0, 1 + before, most), "popular": most}


def category_accuracy(
    model: CategoryModel | None, training: TrainingSet, *, chance: np.ndarray, segment: np.ndarray
) -> dict[str, float | str]:
    """Measure how often active customers bought the category predicted, and the new one predicted.

    The baselines are the category they had spent most on, and the one that most customers had bought (of those they had
    not); the lead is over the better of them, customers in pairs.

    Parameters
    ----------
    model
        Learnt one horizon earlier.
    training
        Its customers are predicted, and compared with its outcomes.

    Returns
    -------
    dict
        For ``next`` and ``new``: ``forecast.<name>_category_hits``, ``.baseline``, ``.lead`` with ``.low`` and
        ``.high``, and ``.rule``: which to use, ``model`` only where the lead lies above 0.
    """
    if model is None or not training.outcomes.active.any():
        return {}
    active = training.outcomes.active
    before, after = (_bought_amounts(each, model.terms)[active] for each in (training.snapshot.data, training.outcomes))
    chances = model.chances(training.snapshot.data, chance, segment)[active]
    scores = _category_scores(chances, before, popular=(before > 0).mean(axis=0))
    metrics: dict[str, float | str] = {}
    for name, eligible in (("next", np.ones_like(before, dtype=bool)), ("new", before <= 0)):
        counted = eligible.any(axis=1)
        if not counted.any():
            continue
        rules = scores if name == "next" else {rule: scores[rule] for rule in ("model", "popular")}
        picks = {rule: np.where(eligible, each, -1.0).argmax(axis=1) for rule, each in rules.items()}
        hits = {rule: (after[np.arange(len(pick)), pick] > 0)[counted].astype(float) for rule, pick in picks.items()}
        best = max((rule for rule in hits if rule != "model"), key=lambda rule, hits=hits: hits[rule].mean())
        lead, key = mean_interval(pd.Series(hits["model"] - hits[best])), f"forecast.{name}_category_hits"
        metrics |= {key: float(hits["model"].mean()), f"{key}.baseline": float(hits[best].mean())}
        metrics |= lead.metrics(f"{key}.lead") | {f"{key}.rule": "model" if lead.low > 0 else best}
    return metrics


def category_rules(metrics: Mapping[str, object]) -> dict[str, str]:
    """Return what names the next and the new category; without a back-test, what customers and all buy most."""
    usual = {"next": "favourite", "new": "popular"}
    return {name: str(metrics.get(f"forecast.{name}_category_hits.rule", rule)) for name, rule in usual.items()}


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
