"""Short rules that find the members of a segment without the model, from figures that a CRM has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from segkit.customers.category_mix import align_terms, most_common_terms
from segkit.customers.features import CustomerData
from segkit.customers.needs import PREFIX, Needs, need_shares
from segkit.format import lower_first
from segkit.personas.naming import label
from segkit.personas.traits import MIN_BUYERS, nameable_weights
from segkit.stats import proportion_interval
from segkit.vocabulary import describe

SHARE_OF = "share: "  # prefix of a category among the items, where there are no needs
TRAIN_SHARE = 0.7
MAX_TRAINED = 6_000  # customers; more make the search slow and the rules no better
MAX_TESTED = 20_000  # customers; more take memory and tell precision no better
COUNTED = ("orders", "active_days", "recency_days")  # items that are whole numbers
MAX_CONDITIONS = 3  # items per rule; a lower and an upper bound of one item are one condition
SEARCH_STEPS = 6  # bounds per rule
BEAM_WIDTH = 40  # candidate rules that go on to the next step
RECALL_GOALS = (0.7, 0.65, 0.6, 0.55)  # on the training customers; a little is lost on others
MIN_TRAIN_PRECISION = 0.6  # of a rule that reaches a goal; below, the next goal is tried
MIN_GOOD_PRECISION, MIN_GOOD_RECALL = 0.5, 0.5  # on test customers; below, no short rule describes the segment
MIN_PRECISION_GAIN = 0.01  # a further bound that adds less precision is left out
MAX_RULE_TERMS = 200  # the most common categories, whose shares may be items
QUANTILES = np.linspace(0.04, 0.96, 24)
ITEM_WORDS = {  # item, a figure that a CRM has -> its words in a rule
    "recency_days": "days since the last order",
    "orders": "orders",
    "active_days": "active days",
    "spend": "spend",
    "order_value": "value of an order",
    "lines_per_order": "line items of an order",
    "discounted_lines_share": "line items bought at a discount",
    "discount_share": "discounts, of the full price",
}
RULE_COLUMNS = ["segment", "condition", "item", "words", "unit", "at_least", "below", "good"]
RATE_COLUMNS = [f"{rate}{part}" for rate in ("precision", "recall") for part in ("", "_low", "_high")]


@dataclass(frozen=True)
class Rule:
    """Conditions that pick the members of a segment.

    ``conditions`` are (item, at least, below), infinite where there is no bound; ``precision`` and ``recall``, measured
    on test customers, are (value, low, high).
    """

    segment: str
    conditions: tuple[tuple[str, float, float], ...]
    precision: tuple[float, float, float]
    recall: tuple[float, float, float]

    @property
    def is_good(self) -> bool:
        """Return whether the rule describes the segment well enough to be used."""
        return bool(self.conditions) and self.precision[0] >= MIN_GOOD_PRECISION and self.recall[0] >= MIN_GOOD_RECALL

    def matches(self, figures: pd.DataFrame) -> np.ndarray:
        """Return which customers the rule picks, from a table with its items as columns."""
        picked = np.ones(len(figures), dtype=bool)
        for item, low, high in self.conditions:
            values = figures[item].to_numpy()
            picked &= (values >= low) & (values < high)
        return picked


def split(count: int, *, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Split customers at random into those a rule is learnt on and those it is tested on (two masks).

    Of very many, a sample is in either.
    """
    order = np.random.default_rng([seed, 31]).permutation(count)
    train = np.zeros(count, dtype=bool)
    train[order[: min(int(TRAIN_SHARE * count), MAX_TRAINED)]] = True
    test = np.zeros(count, dtype=bool)
    test[order[int(TRAIN_SHARE * count) :][:MAX_TESTED]] = True
    return train, test


def learn_rules(
    figures: pd.DataFrame,
    segment: pd.Series,
    *,
    own: Mapping[str, Sequence[str]],
    train: np.ndarray,
    test: np.ndarray,
) -> list[Rule]:
    """Learn a short rule for each segment by beam search.

    Parameters
    ----------
    figures
        One row per customer, as returned by `rule_features`.
    segment
        Segment id of the same customers, in their order.
    own
        Segment -> needs or categories whose shares its rule may use.
    train, test
        Masks as returned by `split`.

    Returns
    -------
    list of Rule
        One per segment, with precision and recall on the test customers.
    """
    shared = [name for name in ITEM_WORDS if name in figures]
    shared = [name for name in shared if name != "active_days"] if "orders" in shared else shared
    learnt, tested = figures[train], figures[test]
    bounds, rules = {}, []
    with threadpool_limits(1):  # matrices are small: more threads take twice the time
        for name in sorted(set(segment)):
            shares = [prefix + term for term in own.get(name, ()) for prefix in (PREFIX, SHARE_OF)]
            items = [*shared, *(share for share in shares if share in figures)]
            bounds |= {item: _candidate_bounds(learnt[item].to_numpy(), item) for item in items if item not in bounds}
            inside = segment.eq(name).to_numpy()
            conditions = _best_conditions([bounds[item] for item in items], inside[train])
            rules.append(_score_rule(name, conditions, tested, inside[test]))
    return rules


def rule_features(signals: CustomerData, *, needs: Needs | None = None) -> pd.DataFrame:
    """Select the figures that a rule may use.

    Returns
    -------
    DataFrame
        The features of ``ITEM_WORDS``, and the share of each need in what each customer buys ("needs: <name>"); where
        there are no needs, the shares of the most common categories ("share: <category>").
    """
    table = signals.features[[name for name in signals.features if name in ITEM_WORDS]]
    if needs is not None:
        return table.join(need_shares(needs, signals))
    if signals.weights is None:
        return table
    weights, names, _are_phrases = nameable_weights(signals)
    terms = most_common_terms(weights, names, max_terms=MAX_RULE_TERMS, min_buyers=MIN_BUYERS)
    total = np.asarray(signals.weights.sum(axis=1)).ravel()
    shares = align_terms(weights, names, to=terms).toarray() / np.where(total > 0, total, 1.0)[:, None]
    return table.join(pd.DataFrame(shares, index=table.index, columns=[SHARE_OF + t for t in terms]))


def rules_table(rules: Sequence[Rule], *, labels: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the rules as a table with one row per condition.

    Returns
    -------
    DataFrame
        ``segment, condition`` (1, 2, ...), ``item, words, unit, at_least, below`` (missing: no bound), ``good``, and
        ``precision`` and ``recall`` of the whole rule with ``_low`` and ``_high`` (95 %).
    """
    rows = []
    for rule in rules:
        rates = dict(zip(RATE_COLUMNS, (*rule.precision, *rule.recall), strict=True))
        for number, (item, low, high) in enumerate(rule.conditions, start=1):
            bounds = {"at_least": low if np.isfinite(low) else np.nan, "below": high if np.isfinite(high) else np.nan}
            row = {"segment": rule.segment, "condition": number, "item": item, "words": item_words(item, labels=labels)}
            row["unit"] = "share" if is_share(item) else describe(item).unit
            rows.append(row | bounds | {"good": rule.is_good} | rates)
    return pd.DataFrame(rows, columns=[*RULE_COLUMNS, *RATE_COLUMNS]).round(9)


def item_words(item: str, *, labels: Mapping[str, str] | None = None) -> str:
    """Return the words of an item of a rule; of a share, what it is a share of.

    >>> item_words("orders"), item_words("needs: Quick family meals"), item_words("share: FRZN PIZZA")
    ('orders', 'quick family meals', 'frozen pizza')
    """
    if item.startswith(PREFIX):
        return lower_first(item.removeprefix(PREFIX))
    return label(item.removeprefix(SHARE_OF), labels=labels) if item.startswith(SHARE_OF) else ITEM_WORDS[item]


def is_share(item: str) -> bool:
    """Return whether an item is a share."""
    return item.startswith((PREFIX, SHARE_OF)) or item.endswith("_share")


def round_cutoff(value: float, *, share: bool = False) -> float:
    """Round a cutoff so that it is short to type and shown in full.

    Two significant figures; shares are rounded to hundredths, below one hundredth to thousandths.

    >>> round_cutoff(1234.5), round_cutoff(12.34), round_cutoff(0.1367, share=True), round_cutoff(0.00367, share=True)
    (1200.0, 12.0, 0.14, 0.004)
    """
    if share:
        return round(float(value), 2 if value >= 0.0095 else 3)
    return float(f"{value:.2g}")


@dataclass(frozen=True)
class _Bounds:
    """Bounds of an item, as (item, cutoff, whether it is a lower bound), and who passes each (bounds x people)."""

    bounds: list[tuple[str, float, bool]]
    passes: np.ndarray


class _Counter:
    """Count the customers of rules with each further bound, and the members among them; each rule is counted once."""

    def __init__(self, passes: np.ndarray, inside: np.ndarray) -> None:
        self.passes, self.inside, self.size = passes, inside, int(inside.sum())
        self.people = passes.astype(np.float32)
        self.members = self.people[:, inside]
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def precisions(self, rules: Sequence[tuple[int, ...]], *, min_recall: float) -> np.ndarray:
        """Return the precision of each rule (rows) with each further bound; below 0 where recall is too low."""
        new = [rule for rule in rules if rule not in self.known]
        if new:
            covered = np.array([self.passes[list(rule)].all(axis=0) for rule in new]).astype(np.float32)
            counts = np.stack([covered[:, self.inside] @ self.members.T, covered @ self.people.T], axis=1)
            self.known.update(zip(new, counts, strict=True))
        members, picked = np.moveaxis(np.array([self.known[rule] for rule in rules]), 1, 0)
        return np.where(members >= min_recall * self.size, np.round(members / np.maximum(picked, 1), 6), -1.0)


def _best_conditions(candidates: Sequence[_Bounds], inside: np.ndarray) -> tuple[tuple[str, float, float], ...]:
    """Find the conditions that reach the highest goal of recall with enough precision; else those of the lowest.

    `candidates`: the bounds of each item.
    """
    candidates = [one for one in candidates if one.bounds]
    if not candidates or not inside.any():
        return ()
    bounds = [bound for one in candidates for bound in one.bounds]
    item_of = np.repeat(np.arange(len(candidates)), [len(one.bounds) for one in candidates])
    counter = _Counter(np.vstack([one.passes for one in candidates]), inside)
    chosen: tuple[int, ...] = ()
    for goal in RECALL_GOALS:
        precision, chosen = _beam_search(counter, item_of, min_recall=goal)
        if precision >= MIN_TRAIN_PRECISION:
            break
    return _merge_bounds([bounds[i] for i in chosen])


def _beam_search(counter: _Counter, item_of: np.ndarray, *, min_recall: float) -> tuple[float, tuple[int, ...]]:
    """Find the bounds with the best precision among those with enough recall, and return that precision too.

    `item_of`: number of the item of each bound.
    """
    beam: list[tuple[int, ...]] = [()]
    best: tuple[float, tuple[int, ...]] = (float(counter.inside.mean()), ())
    for _step in range(SEARCH_STEPS):
        scores = counter.precisions(beam, min_recall=min_recall)
        used = np.zeros((len(beam), item_of[-1] + 1), dtype=bool)
        for row, rule in enumerate(beam):
            used[row, item_of[list(rule)]] = True
        scores[(used.sum(axis=1) >= MAX_CONDITIONS)[:, None] & ~used[:, item_of]] = -1.0
        top = _longer_rules(beam, scores)
        if not top:
            break
        beam = [rule for rule, _score in top]
        if top[0][1] > best[0] + MIN_PRECISION_GAIN:
            best = (top[0][1], top[0][0])
    return best


def _longer_rules(beam: Sequence[tuple[int, ...]], scores: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
    """Return the best rules with one bound more, and their precision; equal ones in the order of their bounds.

    `scores`: precision of each rule (rows) with each further bound.
    """
    top = np.argsort(-scores, axis=1, kind="stable")[:, :BEAM_WIDTH]
    values = np.take_along_axis(scores, top, axis=1)
    rows, places = np.nonzero(values > 0)
    found: dict[tuple[int, ...], float] = {}
    last = 0.0
    for each in np.argsort(-values[rows, places], kind="stable"):
        score = float(values[rows[each], places[each]])
        if len(found) >= BEAM_WIDTH and score < last:
            break
        rule, bound = beam[rows[each]], int(top[rows[each], places[each]])
        if bound not in rule:
            found[tuple(sorted((*rule, bound)))] = last = score
    return sorted(found.items(), key=lambda each: (-each[1], each[0]))[:BEAM_WIDTH]


def _candidate_bounds(values: np.ndarray, item: str) -> _Bounds:
    """List every bound of an item, and which customers pass it."""
    cutoffs = np.quantile(values, QUANTILES)
    if item in COUNTED:  # "at least 4 orders", not "at least 3.9"
        cutoffs = np.ceil(cutoffs)
    bounds, passes = [], []
    for cutoff in sorted({round_cutoff(q, share=is_share(item)) for q in cutoffs}):
        above = values >= cutoff
        if above.any() and not above.all():
            bounds += [(item, cutoff, True), (item, cutoff, False)]
            passes += [above, ~above]
    return _Bounds(bounds, np.array(passes))


def _merge_bounds(bounds: Sequence[tuple[str, float, bool]]) -> tuple[tuple[str, float, float], ...]:
    """Merge the bounds of each item into one condition, ordered by item."""
    ranges: dict[str, tuple[float, float]] = {}
    for item, cutoff, is_lower in bounds:
        low, high = ranges.get(item, (-np.inf, np.inf))
        ranges[item] = (max(low, cutoff), high) if is_lower else (low, min(high, cutoff))
    return tuple((item, low, high) for item, (low, high) in sorted(ranges.items()))


def _score_rule(segment: str, conditions: tuple, figures: pd.DataFrame, inside: np.ndarray) -> Rule:
    """Measure precision and recall of a rule on test customers."""
    unknown = (float("nan"),) * 3
    rule = Rule(segment=segment, conditions=conditions, precision=unknown, recall=unknown)
    picked = rule.matches(figures) if conditions else np.zeros(len(figures), dtype=bool)
    correct = int((picked & inside).sum())
    precision = proportion_interval(correct, int(picked.sum()))
    return replace(rule, precision=precision, recall=proportion_interval(correct, int(inside.sum())))
