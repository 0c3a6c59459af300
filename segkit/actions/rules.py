"""Rule cards: a segment as a few conditions on figures that a CRM can compute, with how well they find its members.

Conditions are searched by beam over conjunctions (PRIM's boxes, Friedman & Fisher 1999; beam as in CN2, Clark & Niblett
1989) on part of the customers; precision and recall are counted on the others, which nothing was learnt on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.actions.labels import label
from segkit.actions.points import SHARE_OF, Score, is_share, rounded
from segkit.actions.signals import FEWEST_BUYERS, told_weights
from segkit.customers.features import Signals
from segkit.customers.terms import aligned, most_common
from segkit.stats import proportion_interval
from segkit.vocabulary import describe

TRAIN_SHARE = 0.7
MOST_TRAINED = 6_000  # customers; more make the search slow and the rules no better
CONDITIONS = 3  # figures that a rule may look at; from and below count as one
STEPS = 6  # bounds that a rule may have
WIDTH = 40  # rules kept at each step
RECALL_ASKED = 0.66  # on the customers it is learnt on; a little is lost on others
GOOD_PRECISION, GOOD_RECALL = 0.5, 0.5  # on the others; below, no short rule describes the segment
BETTER = 0.01  # precision; a further bound that brings less is left out
SCORE_COST = 0.01  # precision that a score must bring more than a plain figure, which is easier to type
TERMS = 200  # most common categories whose shares are figures
CUTS = np.linspace(0.04, 0.96, 24)
WORDS = {  # figure -> in a rule
    "recency_days": "days since they last came",
    "orders": "orders",
    "spend": "spend",
    "active_days": "active days",
    "gap_days": "days between visits",
    "age_days": "days since first seen",
    "orders_recent": "orders lately",
    "spend_recent": "spend lately",
    "order_value": "value of an order",
    "lines_per_order": "things in an order",
    "items_per_line": "pieces of the same thing at once",
    "line_value": "price of a thing",
    "discounted_lines_share": "things bought at a discount",
    "private_label_share": "own label in what they buy",
    "return_share": "value sent back",
    "weekend_share": "visits at the weekend",
    "morning_share": "visits in the morning",
    "afternoon_share": "visits in the afternoon",
    "evening_share": "visits in the evening",
    "categories": "different things bought",
    "top_category_share": "their largest category in what they buy",
}
COLUMNS = ["segment", "condition", "item", "words", "unit", "at_least", "below", "good"]
RATES = [f"{rate}{part}" for rate in ("precision", "recall") for part in ("", "_low", "_high")]


@dataclass(frozen=True)
class Rule:
    """Conditions (item, at least, below; infinite where there is no bound), and how they did on held-out customers:
    precision and recall, each with low and high.
    """

    segment: str
    conditions: tuple[tuple[str, float, float], ...]
    precision: tuple[float, float, float]
    recall: tuple[float, float, float]

    @property
    def is_good(self) -> bool:
        """Whether it describes the segment."""
        return bool(self.conditions) and self.precision[0] >= GOOD_PRECISION and self.recall[0] >= GOOD_RECALL

    def matches(self, figures: pd.DataFrame) -> np.ndarray:
        """Which customers it picks, from a table that holds its items."""
        picked = np.ones(len(figures), dtype=bool)
        for item, low, high in self.conditions:
            values = figures[item].to_numpy()
            picked &= (values >= low) & (values < high)
        return picked


def split(count: int, *, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Which customers a rule is learnt on, and which it is judged on."""
    order = np.random.default_rng([seed, 31]).permutation(count)
    train = np.zeros(count, dtype=bool)
    train[order[: min(int(TRAIN_SHARE * count), MOST_TRAINED)]] = True
    judged = np.zeros(count, dtype=bool)
    judged[order[int(TRAIN_SHARE * count) :]] = True
    return train, judged


def learn_rules(
    figures: pd.DataFrame,
    segment: pd.Series,
    *,
    scores: Sequence[Score],
    own: Mapping[str, Sequence[str]],
    train: np.ndarray,
    test: np.ndarray,
) -> list[Rule]:
    """A rule for each segment.

    Takes  figures: plain figures, "share: <category>" among them; segment: id of the same customers, in their order;
           scores: of `points.learn_scores`; own: segment -> categories whose shares its rule may use; train, judged: of
           `split`
    Gives  rules by segment; whether one is good is for `Rule.good` to say
    """
    columns = with_scores(figures, scores)
    shared = [n for n in WORDS if n in columns] + [s.name for s in scores]
    shared += [n for n in columns if n.startswith("channel_") and n.endswith("_share")]
    names = [s.name for s in scores]
    found = []
    for name in sorted(set(segment)):
        items = [*shared, *(SHARE_OF + t for t in own.get(name, ()) if SHARE_OF + t in columns)]
        inside = segment.eq(name).to_numpy()
        conditions = _search(columns[train], inside[train], items=items, costly_items=names)
        found.append(_judged(name, conditions, columns[test], inside[test]))
    return found


def with_scores(figures: pd.DataFrame, scores: Sequence[Score]) -> pd.DataFrame:
    """The figures, and the points of each score beside them."""
    return figures.assign(**{score.name: score.score(figures) for score in scores})


def figures_for(signals: Signals) -> pd.DataFrame:
    """The figures that a rule may look at: those of `WORDS`, shares by channel, and shares of the common categories
    ("share: <category>") in what each customer buys.
    """
    plain = [n for n in signals.features if n in WORDS or (n.startswith("channel_") and n.endswith("_share"))]
    table = signals.features[plain]
    if signals.weights is None:
        return table
    weights, names, _words = told_weights(signals)
    terms = most_common(weights, names, max_terms=TERMS, min_buyers=FEWEST_BUYERS)
    whole = np.asarray(signals.weights.sum(axis=1)).ravel()
    shares = aligned(weights, names, to=terms).toarray() / np.where(whole > 0, whole, 1.0)[:, None]
    return table.join(pd.DataFrame(shares, index=table.index, columns=[SHARE_OF + t for t in terms]))


def rules_table(
    rules: Sequence[Rule], *, scores: Sequence[Score], labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The rules as a table: a row for each condition, with how the whole rule did.

    Gives  segment, condition (1, 2, ...), item, words, unit, at_least and below (missing: no bound), good, precision
           and recall with _low and _high (95 %)
    """
    score_words = {score.name: score.words for score in scores}
    rows = []
    for rule in rules:
        rates = dict(zip(RATES, (*rule.precision, *rule.recall), strict=True))
        for number, (item, low, high) in enumerate(rule.conditions, start=1):
            bounds = {"at_least": low if np.isfinite(low) else np.nan, "below": high if np.isfinite(high) else np.nan}
            description = {
                "words": score_words.get(item) or _words(item, labels=labels),
                "unit": _unit(item, score_words),
            }
            named = {"segment": rule.segment, "condition": number, "item": item}
            rows.append({**named, **description, **bounds, "good": rule.is_good, **rates})
    return pd.DataFrame(rows, columns=[*COLUMNS, *RATES]).round(9)


def _words(item: str, *, labels: Mapping[str, str] | None) -> str:
    if item.startswith(SHARE_OF):
        return f"share of {label(item.removeprefix(SHARE_OF), labels=labels)}"
    if item.startswith("channel_"):
        return f"visits through {item.removeprefix('channel_').removesuffix('_share').replace('_', ' ')}"
    return WORDS[item]


def _unit(item: str, scores: Mapping[str, str]) -> str:
    return "points" if item in scores else "share" if is_share(item) else describe(item).unit


def _search(
    figures: pd.DataFrame, inside: np.ndarray, *, items: Sequence[str], costly_items: Sequence[str]
) -> tuple[tuple[str, float, float], ...]:
    """The bounds with the best precision among those that keep enough of the members."""
    bounds, passes = _bounds(figures, items)
    if not bounds or not inside.any():
        return ()
    of_item = np.array([item for item, _mark, _up in bounds])
    cost = np.isin(of_item, costly_items) * SCORE_COST
    wide = passes.astype(np.float32)
    beam: list[tuple[tuple[int, ...], np.ndarray]] = [((), np.ones(len(inside), dtype=bool))]
    best: tuple[float, tuple[int, ...]] = (float(inside.mean()), ())
    for _step in range(STEPS):
        pool: dict[tuple[int, ...], float] = {}
        for chosen, covered in beam:
            scored = _gain(wide, inside, covered, cost=cost + sum(cost[i] for i in chosen))
            used = {of_item[i] for i in chosen}
            if len(used) >= CONDITIONS:
                scored[~np.isin(of_item, list(used))] = -1.0
            for i in np.argsort(-scored, kind="stable")[:WIDTH]:
                if scored[i] > 0 and i not in chosen:
                    pool[tuple(sorted((*chosen, int(i))))] = float(scored[i])
        top = sorted(pool.items(), key=lambda each: (-each[1], each[0]))[:WIDTH]
        if not top:
            break
        beam = [(chosen, passes[list(chosen)].all(axis=0)) for chosen, _score in top]
        if top[0][1] > best[0] + BETTER:
            best = (top[0][1], top[0][0])
    return _conditions([bounds[i] for i in best[1]])


def _gain(wide: np.ndarray, inside: np.ndarray, covered: np.ndarray, *, cost: np.ndarray) -> np.ndarray:
    """Precision, less what it costs to type, of each bound added to a rule; below zero where too few stay."""
    members_left = wide @ (inside & covered).astype(np.float32)
    taken = wide @ covered.astype(np.float32)
    precision = members_left / np.maximum(taken, 1) - cost
    return np.where(members_left >= RECALL_ASKED * inside.sum(), np.round(precision, 6), -1.0)


def _bounds(figures: pd.DataFrame, items: Sequence[str]) -> tuple[list[tuple[str, float, bool]], np.ndarray]:
    """Every bound that a rule may be built of (item, rounded mark, at least or below), and who passes it."""
    bounds, passes = [], []
    for item in items:
        values = figures[item].to_numpy()
        for mark in sorted({rounded(q, share=is_share(item)) for q in np.quantile(values, CUTS)}):
            over = values >= mark
            if over.any() and not over.all():
                bounds += [(item, mark, True), (item, mark, False)]
                passes += [over, ~over]
    return bounds, np.array(passes)


def _conditions(bounds: Sequence[tuple[str, float, bool]]) -> tuple[tuple[str, float, float], ...]:
    """Bounds on one item as one condition, in the order of the items' names."""
    found: dict[str, list[float]] = {}
    for item, mark, up in bounds:
        low, high = found.setdefault(item, [-np.inf, np.inf])
        found[item] = [max(low, mark), high] if up else [low, min(high, mark)]
    return tuple((item, low, high) for item, (low, high) in sorted(found.items()))


def _judged(segment: str, conditions: tuple, figures: pd.DataFrame, inside: np.ndarray) -> Rule:
    nothing = (float("nan"),) * 3
    rule = Rule(segment=segment, conditions=conditions, precision=nothing, recall=nothing)
    picked = rule.matches(figures) if conditions else np.zeros(len(figures), dtype=bool)
    right = int((picked & inside).sum())
    precision, recall = proportion_interval(right, int(picked.sum())), proportion_interval(right, int(inside.sum()))
    return Rule(segment=segment, conditions=conditions, precision=precision, recall=recall)
