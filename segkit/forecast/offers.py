"""Predict next categories, and find cross-sell and up-sell offers."""

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
from segkit.period import Period
from segkit.segments.model import SegmentModel, assign_points
from segkit.stats import Z95, auc, discoveries, logit, proportion_interval
from segkit.vocabulary import EVERYONE, describe

MIN_PER_OUTCOME = 10  # customers who came, and who did not, before anything is said of churn
MIN_SHARE_CUSTOMERS = 20  # customers that a share rests on
MAX_OFFER_TERMS = 200  # categories or words that an offer may be
FALSE_DISCOVERY_RATE = 0.05  # of what is told as a driver, expected to be chance (Benjamini & Hochberg 1995)
MAX_CORRELATION = 0.7  # rank correlation above which a second feature says the same
MAX_OFFERS = 3  # drivers, and offers of each kind, of a segment
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
    """Which habits went with not coming back in the horizon that was learnt from, within each segment.

    Members are halved by each habit at the middle of their segment; the effect is the share lost above less the share
    lost below. It goes with churn; nothing says that it makes it.

    Takes  lesson; segment: of its customers one horizon ago
    Gives  segment (and "all"), feature, words, customers, lost_above, lost_below (shares), effect, effect_low,
           effect_high (95 %, Agresti & Caffo 2000); at most three of a segment, strongest first; only those that stand
           out among all that were looked at, with at most one false in twenty
    """
    features, lost = training.snapshot.signals.features, ~training.outcomes.active
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
    training: TrainingSet, segment: pd.Series, *, now: CustomerData, segment_now: pd.Series, period: Period
) -> pd.DataFrame:
    """What members of a segment took next: what they had not bought yet, and what they bought more of.

    Takes  lesson; segment: of its customers one horizon ago; now, segment_now: today's customers
    Gives  segment, kind (cross-sell, up-sell), term, asked (members one horizon ago who had not, or had, bought it),
           share of them who then bought it, or more of it a day than before, share_low, share_high (95 %, Wilson),
           others (the same share elsewhere; null where it rests on fewer than twenty), more (surely more than that, all
           that was looked at being counted), reach (members today it could be offered to); of a kind at most three:
           those with `more` first, then by the lower end of the interval
    """
    then, outcomes = training.snapshot.signals, training.outcomes
    if then.weights is None or outcomes.weights is None:
        return pd.DataFrame(columns=OFFERS)
    terms = _terms(then)
    before, after = (bought_amounts(each, terms) for each in (then, outcomes))
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


def bought_amounts(of: CustomerData | Outcomes, terms: list[str]) -> np.ndarray:
    """What each customer bought of the terms: categories, or words where the terms came from free text."""
    return np.maximum(_terms_bought(of, terms).toarray(), 0.0)


def _terms_bought(of: CustomerData | Outcomes, terms: list[str]) -> sparse.csr_array:
    weights, names = term_weights(of.weights, list(of.categories), words=not set(terms) <= set(of.categories))
    return align_terms(weights, names, to=terms)


def _terms(signals: CustomerData) -> list[str]:
    words = is_free_text(list(signals.categories))
    return common_terms(
        signals.weights, signals.categories, words=words, most=MAX_OFFER_TERMS, rarest=MIN_SHARE_CUSTOMERS
    )[-1]


def _groups(segment: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    yield EVERYONE, np.ones(len(segment), dtype=bool)
    for name in sorted(set(segment)):
        yield name, (segment == name).to_numpy()


def _compare_halves(
    name: str, features: pd.DataFrame, lost: np.ndarray, inside: np.ndarray
) -> list[tuple[object, ...]]:
    """A row for each feature of a group of which enough came and enough did not."""
    gone = lost[inside]
    if min(gone.sum(), (~gone).sum()) < MIN_PER_OUTCOME:
        return []
    rows = []
    for feature, values in features[inside].items():
        above = (values > values.median()).to_numpy()
        if min(above.sum(), (~above).sum()) < MIN_SHARE_CUSTOMERS:
            continue
        counts = [(gone[half].sum(), half.sum()) for half in (above, ~above)]
        shares = [(lost_of + 1) / (of + 2) for lost_of, of in counts]
        spread = np.sqrt(sum(s * (1 - s) / (of + 2) for s, (_, of) in zip(shares, counts, strict=True)))
        middle = shares[0] - shares[1]
        plain = [lost_of / of for lost_of, of in counts]
        at = plain[0] - plain[1], middle - Z95 * spread, middle + Z95 * spread
        p = 2 * norm.sf(abs(middle) / spread)
        rows.append((name, feature, describe(feature).label, len(gone), *plain, *np.round(at, 9), p))
    return rows


def _strongest_offers(
    members: np.ndarray, terms: list[str], asked: np.ndarray, took: np.ndarray, reach: np.ndarray, *, limit: float
) -> list[tuple[object, ...]]:
    """At most three terms of a segment; `more` by Fisher's exact test against everyone else."""
    inside, outside = (asked[who].sum(axis=0) for who in (members, ~members))
    yes, no = ((asked & took)[who].sum(axis=0) for who in (members, ~members))
    stands_out = hypergeom.sf(yes - 1, inside + outside, yes + no, inside) < limit
    rows = []
    for i in np.flatnonzero((inside >= MIN_SHARE_CUSTOMERS) & (reach >= 1)):
        other_share, more = (
            (no[i] / outside[i], stands_out[i]) if outside[i] >= MIN_SHARE_CUSTOMERS else (np.nan, False)
        )
        at = proportion_interval(yes[i], inside[i])
        rows.append((terms[i], int(inside[i]), *at, other_share, bool(more), int(reach[i])))
    return sorted(rows, key=lambda row: (not row[6], -row[3], row[0]))[:MAX_OFFERS]


MAX_TERMS = 80  # categories or words whose chance is said, the most common
MAX_LEARNING_CUSTOMERS = 3_000  # customers of the model of categories; each is a row for every term
BATCH_SIZE = 20_000  # customers whose chances are in memory together
SHRINKAGE = 20  # customers' worth of everyone's share in the share of a segment
NEXT_CATEGORIES = 3  # likely categories of a customer
LOGIT_EDGE = 1e-4  # chances are kept off zero and one before their logarithm is taken
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

    def chances(self, signals: CustomerData, chance: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Customers x terms."""
        columns = _model_columns(
            bought_amounts(signals, self.terms), chance, _codes(segment, self.segments), self.usual
        )
        return self.fit.predict_proba(columns.reshape(-1, columns.shape[2]))[:, 1].reshape(columns.shape[:2])


def learn_categories(
    training: TrainingSet, *, chance: np.ndarray, segment: np.ndarray, seed: int = 7
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
    words = is_free_text(list(then.categories))
    *_, terms = common_terms(then.weights, then.categories, words=words, most=MAX_TERMS, rarest=MIN_SHARE_CUSTOMERS)
    if len(terms) < 2:
        return None
    before, after = bought_amounts(then, terms), bought_amounts(outcomes, terms) > 0
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
    model: CategoryModel | None, signals: CustomerData, *, chance: np.ndarray, segment: np.ndarray
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
    for start in range(0, len(signals.features), BATCH_SIZE):
        some = slice(start, start + BATCH_SIZE)
        part = signals.select(np.arange(len(signals.features))[some])
        chances = model.chances(part, chance[some], segment[some]).round(6)
        new = np.where(bought_amounts(part, model.terms) > 0, -1.0, chances)
        picks = [
            np.argsort(-chances, axis=1, kind="stable")[:, i : i + 1]
            for i in range(min(NEXT_CATEGORIES, chances.shape[1]))
        ]
        picks += [np.full_like(picks[0], -1)] * (NEXT_CATEGORIES - len(picks)) + [new.argmax(axis=1)[:, None]]
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


def category_accuracy(
    model: CategoryModel | None, training: TrainingSet, *, chance: np.ndarray, segment: np.ndarray
) -> dict[str, float]:
    """How often the likeliest category, and the likeliest new one, was bought by those who came; beside it how often
    the one they had spent most on was, and the new one that most had bought.

    Takes  model learnt one horizon earlier; lesson: its customers are told of and what came is judged; their chances
           and segments
    """
    if model is None or not training.outcomes.active.any():
        return {}
    active = training.outcomes.active
    before, after = (
        bought_amounts(each, model.terms)[active] for each in (training.snapshot.signals, training.outcomes)
    )
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


def move_chances(model: SegmentModel, then: CustomerData, now: CustomerData) -> tuple[pd.Series, dict[str, float]]:
    """Chance of standing in another segment, or in none for want of activity, one horizon from now.

    Customers are placed by one model one horizon ago and today. A logistic regression learns from who moved: the share
    of their segment that did, drawn towards everyone's, and how near the border they stood.

    Takes  model; then, now: signals one horizon ago and today
    Gives  chance by customer_id of `now`; figures: share that moved, and the AUC of the chances out of fold
    """
    axes = [coordinates(model.space, signals) for signals in (then, now)]
    stood, stand = (assign_points(model, each)["segment"] for each in axes)
    moved = (stood.ne(stand.reindex(stood.index))).to_numpy()
    share = moved.mean()
    figures = {"forecast.moved_share": float(share)}
    if min(moved.sum(), (~moved).sum()) < MIN_SHARE_CUSTOMERS:
        return pd.Series(share, index=now.features.index), figures
    rates = pd.Series(moved, index=stood.index).groupby(stood).agg(["sum", "size"])
    shrunk = (rates["sum"] + SHRINKAGE * share) / (rates["size"] + SHRINKAGE)
    designs = [
        np.column_stack(
            [logit(placed.map(shrunk).fillna(share).to_numpy(), edge=LOGIT_EDGE), _border_margin(model, points)]
        )
        for placed, points in zip((stood, stand), axes, strict=True)
    ]
    fit = LogisticRegression(C=1.0)
    out_of_fold = cross_val_predict(fit, designs[0], moved, cv=FOLDS, method="decision_function")
    figures["forecast.moved_auc"] = float(auc(out_of_fold, moved)[0])
    chance = fit.fit(designs[0], moved).predict_proba(designs[1])[:, 1]
    return pd.Series(chance, index=now.features.index).round(6), figures


def _border_margin(model: SegmentModel, axes: pd.DataFrame) -> np.ndarray:
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
            found[had, code] = ((asked & after)[own].sum(axis=0) + SHRINKAGE * whole) / (
                asked[own].sum(axis=0) + SHRINKAGE
            )
    return logit(found, edge=LOGIT_EDGE)


def _model_columns(before: np.ndarray, chance: np.ndarray, codes: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """customers x terms x columns of the logistic regression."""
    had = before > 0
    total = before.sum(axis=1, keepdims=True)
    share = np.sqrt(before / np.where(total > 0, total, 1.0))
    typical = np.where(had, usual[1][codes], usual[0][codes])
    likely = np.broadcast_to(logit(chance, edge=LOGIT_EDGE)[:, None], before.shape)
    size = np.broadcast_to(np.log1p(total), before.shape)
    return np.stack([typical, np.log1p(before), share, likely, size, had * size, had * likely, typical * size], axis=2)


def _codes(segment: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Number of each segment; one that nobody stood in then counts as the first."""
    return np.maximum(pd.Index(segments).get_indexer(segment), 0)
