"""Describe segments without the model: short rules, scorecards, and the top differences on a card."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from segkit.customers.category_mix import align_terms, most_common_terms
from segkit.customers.features import CustomerData
from segkit.format import share
from segkit.personas.naming import label
from segkit.personas.traits import MIN_BUYERS, nameable_weights
from segkit.stats import proportion_interval
from segkit.vocabulary import block_of, describe

MAX_SCORE_ITEMS = 16  # per scorecard; more are closer to the axis and longer to type
MAX_POINTS = 4  # for one cutoff
SCORE_BANDS = 10  # cutoffs of a feature are its deciles
SHARE_CUTOFFS = (1 / 3, 2 / 3)  # quantiles among the buyers of a category; its first cutoff is buying it at all
MIN_ITEM_BUYERS = 30
MIN_ITEM_SHARE = 0.001  # of what a customer buys, from which they count as buyers of a category
MIN_CORRELATION_GAIN = 0.0005  # an item that adds less correlation is left out
MAX_SCORES = 4  # axes that get a scorecard; later axes carry little
ACTIVITY_BLOCKS = ("rfm", "rhythm", "lifecycle", "basket", "breadth")
SHARE_OF = "share: "  # prefix of a category among the items
SCORE_COLUMNS = ["score", "words", "item", "at_least", "points"]


@dataclass(frozen=True)
class Scorecard:
    """One scorecard: each item with its rounded cutoffs and the points added for each cutoff reached."""

    name: str
    words: str
    items: tuple[tuple[str, tuple[float, ...], int], ...]

    def score(self, figures: pd.DataFrame) -> np.ndarray:
        """Add up the points of each customer, from a table with the items as columns."""
        total = np.zeros(len(figures))
        for item, cutoffs, points in self.items:
            total += points * np.searchsorted(cutoffs, figures[item].to_numpy(), side="right")
        return total


def learn_scorecards(
    figures: pd.DataFrame, axes: pd.DataFrame, *, train: np.ndarray, labels: Mapping[str, str] | None = None
) -> list[Scorecard]:
    """Approximate each of the first axes by a scorecard of rounded cutoffs and whole points.

    Parameters
    ----------
    figures
        One row per customer, as returned by `rule_features`.
    axes
        Position of the same customers: what they are likely to do next.
    train
        Mask of the customers to learn from.
    labels
        Category -> label.

    Returns
    -------
    list of Scorecard
        In the order of the axes.
    """
    training = figures[train]
    cutoffs = {item: _cutoffs(training[item].to_numpy(), item=item) for item in figures}
    cutoffs = {item: values for item, values in cutoffs.items() if values}
    passed = np.column_stack(
        [np.searchsorted(values, training[item].to_numpy(), side="right") for item, values in cutoffs.items()]
    )
    scores: list[Scorecard] = []
    for axis in list(axes.columns)[:MAX_SCORES]:
        weights = _fit_integer_weights(passed.astype(float), axes.loc[train, axis].to_numpy())
        names = [list(cutoffs)[i] for i in np.argsort(-np.abs(weights), kind="stable") if weights[i]]
        points = dict(zip(cutoffs, weights, strict=True))
        items = [(item, tuple(cutoffs[item]), int(points[item])) for item in names]
        if items:
            scores.append(_name_scorecard(items, others=scores, labels=labels))
    return scores


def scorecards_to_table(scores: Sequence[Scorecard]) -> pd.DataFrame:
    """Return the scorecards as a table: one row per cutoff (at_least) with its points, which add up."""
    rows = [
        (score.name, score.words, item, cutoff, points)
        for score in scores
        for item, cutoffs, points in score.items
        for cutoff in cutoffs
    ]
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS).astype({"at_least": float, "points": "int64"})
    return table.sort_values(["score", "item", "at_least"], ignore_index=True)


def round_cutoff(value: float, *, share: bool = False) -> float:
    """Round a cutoff so that it is short to type and shown in full.

    Two significant figures; shares are rounded to hundredths, below one hundredth to thousandths.

    >>> round_cutoff(1234.5), round_cutoff(12.34), round_cutoff(0.1367, share=True), round_cutoff(0.00367, share=True)
    (1200.0, 12.0, 0.14, 0.004)
    """
    if share:
        return round(float(value), 2 if value >= 0.0095 else 3)
    return float(f"{value:.2g}")


def is_share(item: str) -> bool:
    """Return whether an item is a share."""
    return item.startswith(SHARE_OF) or item.endswith("_share")


def _cutoffs(values: np.ndarray, *, item: str) -> list[float]:
    """Return rounded cutoffs: deciles of a feature; for a category, buying it at all and thirds of its buyers."""
    if not item.startswith(SHARE_OF):
        deciles = np.quantile(values, np.arange(1, SCORE_BANDS) / SCORE_BANDS)
        return sorted({round_cutoff(q, share=is_share(item)) for q in deciles})
    bought = values[values > 0]
    if len(bought) < MIN_ITEM_BUYERS:
        return []
    rounded = [round_cutoff(q, share=True) for q in np.quantile(bought, SHARE_CUTOFFS)]
    return sorted({MIN_ITEM_SHARE, *(max(cutoff, MIN_ITEM_SHARE) for cutoff in rounded)})


def _fit_integer_weights(passed: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Find whole weights whose sum correlates best with the target, one point at a time."""
    centred = passed - passed.mean(axis=0)
    y = (target - target.mean()) / max(target.std(), 1e-12)
    gram, with_y = centred.T @ centred / len(y), centred.T @ y / len(y)
    spread, weights = np.diag(gram), np.zeros(passed.shape[1])
    covariance, size, pull, best = 0.0, 0.0, np.zeros(len(weights)), 0.0
    while True:
        steps = []
        for sign in (1, -1):
            size_then = np.maximum(size + 2 * sign * pull + spread, 1e-12)
            full = (weights == 0) & ((weights != 0).sum() >= MAX_SCORE_ITEMS)
            excluded = (np.abs(weights + sign) > MAX_POINTS) | full | (spread < 1e-12)
            steps.append(np.where(excluded, -2.0, (covariance + sign * with_y) / np.sqrt(size_then)))
        row, i = np.unravel_index(int(np.argmax(np.round(steps, 9))), (2, len(weights)))
        if steps[row][i] < best + MIN_CORRELATION_GAIN:
            return weights
        sign, best = (1, -1)[row], steps[row][i]
        size += 2 * sign * pull[i] + spread[i]
        covariance, pull = covariance + sign * with_y[i], pull + sign * gram[:, i]
        weights[i] += sign


def _name_scorecard(
    items: list[tuple[str, tuple[float, ...], int]], *, others: list[Scorecard], labels: Mapping[str, str] | None
) -> Scorecard:
    """Name a scorecard: activity if activity features carry most points, else the categories it contrasts."""
    total = sum(abs(points) for _item, _cutoffs, points in items)
    active = sum(
        abs(points)
        for item, _cutoffs, points in items
        if not item.startswith(SHARE_OF) and block_of(item) in ACTIVITY_BLOCKS
    )
    if active > total / 2 and not any(s.name == "activity" for s in others):
        return Scorecard(name="activity", words="activity points", items=tuple(items))
    named = [each for each in items if each[0].startswith(SHARE_OF)] or items
    more, less = (
        [_item_label(item, labels=labels) for item, _cutoffs, points in named if (points > 0) is up][:2]
        for up in (True, False)
    )
    link = " over " if more and less else "little " if less else ""
    words = f"points for {', '.join(more)}{link}{', '.join(less)}"
    return Scorecard(name=f"taste_{1 + sum(s.name != 'activity' for s in others)}", words=words, items=tuple(items))


def _item_label(item: str, *, labels: Mapping[str, str] | None) -> str:
    if item.startswith(SHARE_OF):
        return label(item.removeprefix(SHARE_OF), labels=labels)
    return item.replace("_", " ").removesuffix(" share")


TRAIN_SHARE = 0.7
MAX_TRAINED = 6_000  # customers; more make the search slow and the rules no better
MAX_CONDITIONS = 3  # items per rule; a lower and an upper bound of one item are one condition
SEARCH_STEPS = 6  # bounds per rule
BEAM_WIDTH = 40  # candidate rules that go on to the next step
MIN_RECALL = 0.66  # on the training customers; a little is lost on others
MIN_GOOD_PRECISION, MIN_GOOD_RECALL = 0.5, 0.5  # on test customers; below, no short rule describes the segment
MIN_PRECISION_GAIN = 0.01  # a further bound that adds less precision is left out
SCORE_COST = 0.01  # extra precision asked of a scorecard, as a plain feature is easier to type
MAX_RULE_TERMS = 200  # the most common categories, whose shares may be items
QUANTILES = np.linspace(0.04, 0.96, 24)
ITEM_WORDS = {  # item -> its words in a rule
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
    """Split customers at random into those a rule is learnt on and those it is tested on (two masks)."""
    order = np.random.default_rng([seed, 31]).permutation(count)
    train = np.zeros(count, dtype=bool)
    train[order[: min(int(TRAIN_SHARE * count), MAX_TRAINED)]] = True
    test = np.zeros(count, dtype=bool)
    test[order[int(TRAIN_SHARE * count) :]] = True
    return train, test


def learn_rules(
    figures: pd.DataFrame,
    segment: pd.Series,
    *,
    scores: Sequence[Scorecard],
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
    scores
        Scorecards whose points a rule may use.
    own
        Segment -> categories whose shares its rule may use.
    train, test
        Masks as returned by `split`.

    Returns
    -------
    list of Rule
        One per segment, with precision and recall on the test customers.
    """
    columns = add_scores(figures, scores)
    score_names = [score.name for score in scores]
    shared = [name for name in ITEM_WORDS if name in columns] + score_names
    shared += [name for name in columns if name.startswith("channel_") and name.endswith("_share")]
    rules = []
    for name in sorted(set(segment)):
        items = [*shared, *(SHARE_OF + t for t in own.get(name, ()) if SHARE_OF + t in columns)]
        inside = segment.eq(name).to_numpy()
        conditions = _beam_search(columns[train], inside[train], items=items, costly_items=score_names)
        rules.append(_score_rule(name, conditions, columns[test], inside[test]))
    return rules


def add_scores(figures: pd.DataFrame, scores: Sequence[Scorecard]) -> pd.DataFrame:
    """Add the points of each scorecard as a column."""
    return figures.assign(**{score.name: score.score(figures) for score in scores})


def rule_features(signals: CustomerData) -> pd.DataFrame:
    """Select the figures that a rule may use.

    Returns
    -------
    DataFrame
        The features of ``ITEM_WORDS``, shares by channel, and shares of the most common categories in what each
        customer buys ("share: <category>").
    """
    plain = [n for n in signals.features if n in ITEM_WORDS or (n.startswith("channel_") and n.endswith("_share"))]
    table = signals.features[plain]
    if signals.weights is None:
        return table
    weights, names, _are_phrases = nameable_weights(signals)
    terms = most_common_terms(weights, names, max_terms=MAX_RULE_TERMS, min_buyers=MIN_BUYERS)
    total = np.asarray(signals.weights.sum(axis=1)).ravel()
    shares = align_terms(weights, names, to=terms).toarray() / np.where(total > 0, total, 1.0)[:, None]
    return table.join(pd.DataFrame(shares, index=table.index, columns=[SHARE_OF + t for t in terms]))


def rules_table(
    rules: Sequence[Rule], *, scores: Sequence[Scorecard], labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return the rules as a table with one row per condition.

    Returns
    -------
    DataFrame
        ``segment, condition`` (1, 2, ...), ``item, words, unit, at_least, below`` (missing: no bound), ``good``, and
        ``precision`` and ``recall`` of the whole rule with ``_low`` and ``_high`` (95 %).
    """
    score_words = {score.name: score.words for score in scores}
    rows = []
    for rule in rules:
        rates = dict(zip(RATE_COLUMNS, (*rule.precision, *rule.recall), strict=True))
        for number, (item, low, high) in enumerate(rule.conditions, start=1):
            bounds = {"at_least": low if np.isfinite(low) else np.nan, "below": high if np.isfinite(high) else np.nan}
            row = {"segment": rule.segment, "condition": number, "item": item}
            row["words"] = score_words.get(item) or _item_words(item, labels=labels)
            row["unit"] = "points" if item in score_words else "share" if is_share(item) else describe(item).unit
            rows.append(row | bounds | {"good": rule.is_good} | rates)
    return pd.DataFrame(rows, columns=[*RULE_COLUMNS, *RATE_COLUMNS]).round(9)


def _item_words(item: str, *, labels: Mapping[str, str] | None) -> str:
    if item.startswith(SHARE_OF):
        return f"share of {label(item.removeprefix(SHARE_OF), labels=labels)}"
    if item.startswith("channel_"):
        return f"visits through {item.removeprefix('channel_').removesuffix('_share').replace('_', ' ')}"
    return ITEM_WORDS[item]


def _beam_search(
    figures: pd.DataFrame, inside: np.ndarray, *, items: Sequence[str], costly_items: Sequence[str]
) -> tuple[tuple[str, float, float], ...]:
    """Find the bounds with the best precision among those with enough recall."""
    bounds, passes = _candidate_bounds(figures, items)
    if not bounds or not inside.any():
        return ()
    bound_items = np.array([item for item, _cutoff, _is_lower in bounds])
    cost = np.isin(bound_items, costly_items) * SCORE_COST
    passes_float = passes.astype(np.float32)
    beam: list[tuple[tuple[int, ...], np.ndarray]] = [((), np.ones(len(inside), dtype=bool))]
    best: tuple[float, tuple[int, ...]] = (float(inside.mean()), ())
    for _step in range(SEARCH_STEPS):
        pool: dict[tuple[int, ...], float] = {}
        for chosen, covered in beam:
            scored = _gain(passes_float, inside, covered, cost=cost + sum(cost[i] for i in chosen))
            used = {bound_items[i] for i in chosen}
            if len(used) >= MAX_CONDITIONS:
                scored[~np.isin(bound_items, list(used))] = -1.0
            for i in np.argsort(-scored, kind="stable")[:BEAM_WIDTH]:
                if scored[i] > 0 and i not in chosen:
                    pool[tuple(sorted((*chosen, int(i))))] = float(scored[i])
        top = sorted(pool.items(), key=lambda each: (-each[1], each[0]))[:BEAM_WIDTH]
        if not top:
            break
        beam = [(chosen, passes[list(chosen)].all(axis=0)) for chosen, _score in top]
        if top[0][1] > best[0] + MIN_PRECISION_GAIN:
            best = (top[0][1], top[0][0])
    return _merge_bounds([bounds[i] for i in best[1]])


def _gain(passes: np.ndarray, inside: np.ndarray, covered: np.ndarray, *, cost: np.ndarray) -> np.ndarray:
    """Return the precision of a rule with each further bound, less its cost; below 0 where recall is too low."""
    members = passes @ (inside & covered).astype(np.float32)
    picked = passes @ covered.astype(np.float32)
    precision = members / np.maximum(picked, 1) - cost
    return np.where(members >= MIN_RECALL * inside.sum(), np.round(precision, 6), -1.0)


def _candidate_bounds(figures: pd.DataFrame, items: Sequence[str]) -> tuple[list[tuple[str, float, bool]], np.ndarray]:
    """List every bound (item, cutoff, whether it is a lower bound) and which customers pass it."""
    bounds, passes = [], []
    for item in items:
        values = figures[item].to_numpy()
        for cutoff in sorted({round_cutoff(q, share=is_share(item)) for q in np.quantile(values, QUANTILES)}):
            above = values >= cutoff
            if above.any() and not above.all():
                bounds += [(item, cutoff, True), (item, cutoff, False)]
                passes += [above, ~above]
    return bounds, np.array(passes)


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


MAX_DIFFERENCES = 5  # on a card
MAX_NEED_DIFFERENCES = 2  # needs among the differences on a card
COVERED_BLOCKS = (
    "needs",
    "demographic",
    "geographic",
    "survey",
    "missing",
    "engagement",
)  # covered by sentences of the card
HARD_TO_READ = (  # no unit that readers can picture, or much the same as another feature
    *("items_per_line", "active_days", "overdue", "gap_days", "recency_days"),
    *("category_entropy", "gap_variation", "order_variation"),
)
BLOCK_FAMILIES = {"rfm": "how much", "lifecycle": "how much"}  # blocks of which one feature is enough
TINY_SHARE = 0.001  # a share that would round to 0 %
DIFFERENCE_COLUMNS = ["segment", "bar", "words", "unit", "value", "others", "effect", "effect_low", "effect_high"]


def top_differences(
    signals: pd.DataFrame, needs: pd.DataFrame, *, labels: Mapping[str, str] | None = None, most: int = MAX_DIFFERENCES
) -> pd.DataFrame:
    """Find the largest differences of each segment from other customers, for its card.

    Parameters
    ----------
    signals
        As returned by `traits.segment_signals`.
    needs
        As returned by `traits.segment_favourites`.
    labels
        Category -> label.
    most
        Differences per segment.

    Returns
    -------
    DataFrame
        ``segment, bar`` (1, 2, ...), ``words, unit, value, others``, ``effect`` with its 95 % interval, strongest
        first: up to two needs, and one clear habit per block.
    """
    tables = []
    for segment in sorted(set(signals["segment"])):
        own = needs[needs["segment"] == segment]
        words = [f"share of {label(term, labels=labels)}" for term in own["term"]]
        bought = own.assign(words=words, unit=share_units(own["share"], own["others"]), value=own["share"])
        bought = bought.drop_duplicates("words").head(MAX_NEED_DIFFERENCES)
        habits = _top_habits(signals[signals["segment"] == segment]).head(most - len(bought))
        table = pd.concat([t for t in (bought.reindex(columns=DIFFERENCE_COLUMNS), habits) if len(t)] or [habits])
        table = table.sort_values("effect", key=np.abs, ascending=False, kind="stable")
        tables.append(table.assign(segment=segment, bar=range(1, len(table) + 1))[DIFFERENCE_COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=DIFFERENCE_COLUMNS)


def share_units(values: Iterable[float], others: Iterable[float]) -> list[str]:
    """Return the unit of two shares shown together: a finer one where either is tiny or both round alike."""
    pairs = zip(values, others, strict=True)
    return ["fine share" if min(a, b) < TINY_SHARE or share(a) == share(b) else "share" for a, b in pairs]


def _top_habits(own: pd.DataFrame) -> pd.DataFrame:
    """Select the clearest habit of each block that no sentence of the card covers, strongest first."""
    clear = own[(own["effect_low"] > 0) | (own["effect_high"] < 0)]
    clear = clear.assign(block=clear["feature"].map(block_of))
    clear = clear.assign(family=clear["block"].map(BLOCK_FAMILIES).fillna(clear["block"]))
    readable = clear[~clear["block"].isin(COVERED_BLOCKS) & ~clear["feature"].str.startswith("stage_")]
    readable = readable[~readable["feature"].isin(HARD_TO_READ)]
    order = readable.sort_values("effect", key=np.abs, ascending=False, kind="stable")
    strongest = order.drop_duplicates("family")
    words = strongest["feature"].map(ITEM_WORDS).fillna(strongest["words"].str.removesuffix(" events"))
    return strongest.assign(words=words).reindex(columns=DIFFERENCE_COLUMNS)
