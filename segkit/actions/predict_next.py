"""What a customer buys in next, and whether they will stand in another segment: small models on counts of others."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from segkit.actions.predict_known import Lesson
from segkit.actions.predict_offers import FEWEST, amounts_of
from segkit.customers.anticipate import coordinates
from segkit.customers.features import Signals
from segkit.customers.terms import are_free_text, common_terms
from segkit.segments.place import SegmentModel, place_points
from segkit.stats import auc, logit

TERMS = 80  # categories or words whose chance is said, the most common
LEARNT_FROM = 3_000  # customers of the model of categories; each is a row for every term
AT_ONCE = 20_000  # customers whose chances are in memory together
SHRUNK = 20  # customers' worth of everyone's share in the share of a segment
TOLD = 3  # likely categories of a customer
EDGE = 1e-4  # chances are kept off zero and one before their logarithm is taken
FOLDS = 5


@dataclass(frozen=True)
class CategoryModel:
    """Chance of a purchase in each term: a logistic regression on how much was bought of it before, how likely the
    customer comes at all, and how many of their segment, having bought it before or not, bought it next.
    """

    terms: list[str]
    segments: np.ndarray
    usual: np.ndarray  # (not bought before, bought before) x segments x terms, logits
    fit: LogisticRegression

    def chances(self, signals: Signals, chance: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Customers x terms."""
        columns = _columns(amounts_of(signals, self.terms), chance, _codes(segment, self.segments), self.usual)
        return self.fit.predict_proba(columns.reshape(-1, columns.shape[2]))[:, 1].reshape(columns.shape[:2])


def learn_categories(
    training: Lesson, *, chance: np.ndarray, segment: np.ndarray, seed: int = 7
) -> CategoryModel | None:
    """Learn who buys in which category next.

    Takes  lesson; chance of coming at all, out of fold, and segment of its customers then
    Gives  CategoryModel; None without categories that at least twenty bought

    Parameters
    ----------
    seed : of the customers learnt from, where they are many
    """
    then, outcomes = training.snapshot.signals, training.outcomes
    if then.weights is None or outcomes.weights is None:
        return None
    words = are_free_text(list(then.categories))
    *_, terms = common_terms(then.weights, then.categories, words=words, most=TERMS, rarest=FEWEST)
    if len(terms) < 2:
        return None
    before, after = amounts_of(then, terms), amounts_of(outcomes, terms) > 0
    segments = np.unique(segment)
    codes = _codes(segment, segments)
    usual = _usual(before > 0, after, codes, count=len(segments))
    rows = np.sort(np.random.default_rng(seed).permutation(len(before))[:LEARNT_FROM])
    if after[rows].all() or not after[rows].any():
        return None
    columns = _columns(before[rows], chance[rows], codes[rows], usual)
    fit = LogisticRegression(C=1.0, max_iter=300).fit(columns.reshape(-1, columns.shape[2]), after[rows].ravel())
    return CategoryModel(terms=terms, segments=segments, usual=usual, fit=fit)


def next_categories(
    model: CategoryModel | None, signals: Signals, *, chance: np.ndarray, segment: np.ndarray
) -> pd.DataFrame:
    """The likeliest categories of each customer, and the likeliest they have not bought yet.

    Gives  by customer_id: next_category, next_category_chance, and the same with _2 and _3; new_category,
           new_category_chance; null without a model
    """
    ends = ["next_category", "next_category_2", "next_category_3", "new_category"]
    if model is None:
        empty = {e: pd.Series(None, index=signals.features.index, dtype=object) for e in ends}
        return pd.DataFrame(empty | {f"{e}_chance": np.nan for e in ends}, index=signals.features.index)
    names, parts = np.array([*model.terms, None], dtype=object), []
    for start in range(0, len(signals.features), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        part = signals.select(np.arange(len(signals.features))[some])
        chances = model.chances(part, chance[some], segment[some]).round(6)
        new = np.where(amounts_of(part, model.terms) > 0, -1.0, chances)
        picks = [np.argsort(-chances, axis=1, kind="stable")[:, i : i + 1] for i in range(min(TOLD, chances.shape[1]))]
        picks += [np.full_like(picks[0], -1)] * (TOLD - len(picks)) + [new.argmax(axis=1)[:, None]]
        at = np.hstack(picks)
        values = np.take_along_axis(
            np.hstack([chances, np.full((len(chances), 1), np.nan)]), at % (chances.shape[1] + 1), axis=1
        )
        at[:, -1] = np.where(new.max(axis=1) < 0, -1, at[:, -1])  # who bought of everything has nothing new
        values[:, -1] = np.where(at[:, -1] < 0, np.nan, values[:, -1])
        columns = {e: names[at[:, i]] for i, e in enumerate(ends)}
        columns |= {f"{e}_chance": values[:, i] for i, e in enumerate(ends)}
        parts.append(pd.DataFrame(columns, index=part.features.index))
    return pd.concat(parts)


def category_hits(
    model: CategoryModel | None, training: Lesson, *, chance: np.ndarray, segment: np.ndarray
) -> dict[str, float]:
    """How often the likeliest category, and the likeliest new one, was bought by those who came; beside it how often
    the one they had spent most on was, and the new one that most had bought.

    Takes  model learnt one horizon earlier; lesson: its customers are told of and what came is judged; their chances
           and segments
    """
    if model is None or not training.outcomes.active.any():
        return {}
    active = training.outcomes.active
    before, after = (amounts_of(each, model.terms)[active] for each in (training.snapshot.signals, training.outcomes))
    chances = model.chances(training.snapshot.signals, chance, segment)[active]
    common = np.broadcast_to((before > 0).mean(axis=0), before.shape)
    picks = {"next": (chances, before, np.ones_like(before, dtype=bool)), "new": (chances, common, before <= 0)}
    figures = {}
    for name, (ours, theirs, open_) in picks.items():
        who = open_.any(axis=1)
        for label, scores in (("", ours), (".baseline", theirs)):
            pick = np.where(open_, scores, -1.0).argmax(axis=1)
            hits = (after[np.arange(len(pick)), pick] > 0)[who].mean()
            figures[f"forecast.{name}_category_hits{label}"] = float(hits)
    return figures


def move_chances(model: SegmentModel, then: Signals, now: Signals) -> tuple[pd.Series, dict[str, float]]:
    """Chance of standing in another segment, or in none for want of activity, one horizon from now.

    Customers are placed by one model one horizon ago and today. A logistic regression learns from who moved: the share
    of their segment that did, drawn towards everyone's, and how near the border they stood.

    Takes  model; then, now: signals one horizon ago and today
    Gives  chance by customer_id of `now`; figures: share that moved, and the AUC of the chances out of fold
    """
    axes = [coordinates(model.space, signals) for signals in (then, now)]
    stood, stand = (place_points(model, each)["segment"] for each in axes)
    moved = (stood.ne(stand.reindex(stood.index))).to_numpy()
    share = moved.mean()
    figures = {"forecast.moved_share": float(share)}
    if min(moved.sum(), (~moved).sum()) < FEWEST:
        return pd.Series(share, index=now.features.index), figures
    rates = pd.Series(moved, index=stood.index).groupby(stood).agg(["sum", "size"])
    shrunk = (rates["sum"] + SHRUNK * share) / (rates["size"] + SHRUNK)
    designs = [
        np.column_stack([logit(placed.map(shrunk).fillna(share).to_numpy(), edge=EDGE), _margin(model, points)])
        for placed, points in zip((stood, stand), axes, strict=True)
    ]
    fit = LogisticRegression(C=1.0)
    out_of_fold = cross_val_predict(fit, designs[0], moved, cv=FOLDS, method="decision_function")
    figures["forecast.moved_auc"] = float(auc(out_of_fold, moved)[0])
    chance = fit.fit(designs[0], moved).predict_proba(designs[1])[:, 1]
    return pd.Series(chance, index=now.features.index).round(6), figures


def _margin(model: SegmentModel, axes: pd.DataFrame) -> np.ndarray:
    """How much farther the next segment is than the own one, as a part of both distances: 0 on the border."""
    points, segments = axes.to_numpy(), np.unique(model.segments)
    away = np.column_stack(
        [
            np.min(
                [
                    np.linalg.norm(points - c, axis=1)
                    for c, s in zip(model.centres, model.segments, strict=True)
                    if s == segment
                ],
                axis=0,
            )
            for segment in segments
        ]
    )
    if away.shape[1] < 2:
        return np.ones(len(points))
    near = np.sort(away, axis=1)[:, :2]
    return (near[:, 1] - near[:, 0]) / np.maximum(near.sum(axis=1), 1e-12)


def _usual(before: np.ndarray, after: np.ndarray, codes: np.ndarray, *, count: int) -> np.ndarray:
    """Logits of the share that bought a term next, by segment and by whether they had before, drawn to everyone's."""
    found = np.empty((2, count, before.shape[1]))
    for had in (0, 1):
        asked = before == bool(had)
        whole = (((asked & after).sum(axis=0)) + 1) / (asked.sum(axis=0) + 2)
        for code in range(count):
            own = codes == code
            found[had, code] = ((asked & after)[own].sum(axis=0) + SHRUNK * whole) / (asked[own].sum(axis=0) + SHRUNK)
    return logit(found, edge=EDGE)


def _columns(before: np.ndarray, chance: np.ndarray, codes: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """customers x terms x columns of the logistic regression."""
    had = before > 0
    total = before.sum(axis=1, keepdims=True)
    share = np.sqrt(before / np.where(total > 0, total, 1.0))
    typical = np.where(had, usual[1][codes], usual[0][codes])
    likely = np.broadcast_to(logit(chance, edge=EDGE)[:, None], before.shape)
    size = np.broadcast_to(np.log1p(total), before.shape)
    return np.stack([typical, np.log1p(before), share, likely, size, had * size, had * likely, typical * size], axis=2)


def _codes(segment: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Number of each segment; one that nobody stood in then counts as the first."""
    return np.maximum(pd.Index(segments).get_indexer(segment), 0)
