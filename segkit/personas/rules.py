"""Write rules and scorecards that find a segment without the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.category_mix import align_terms, most_common_terms
from segkit.customers.features import CustomerData
from segkit.format import share
from segkit.personas.naming import label
from segkit.personas.traits import MIN_BUYERS, nameable_weights
from segkit.stats import proportion_interval
from segkit.vocabulary import block_of, describe

MAX_SCORE_ITEMS = 16  # of a score; more come closer to the space and are longer to type
MAX_POINTS = 4  # for one mark
SCORE_BANDS = 10  # marks of a figure lie between tenths of the customers
SHARE_CUTOFFS = (1 / 3, 2 / 3)  # of those who buy; the first mark is buying at all
MIN_ITEM_BUYERS = 30
MIN_ITEM_SHARE = 0.001  # of what a customer buys that counts as buying a thing at all
MIN_CORRELATION_GAIN = 0.0005  # correlation; an ingredient that adds less is left out
MAX_SCORES = 4  # axes of the space that get a score; the later ones tell little
ACTIVITY_BLOCKS = ("rfm", "rhythm", "lifecycle", "basket", "breadth")
SHARE_OF = "share: "  # before the name of a category
SCORE_COLUMNS = ["score", "words", "item", "at_least", "points"]


@dataclass(frozen=True)
class Scorecard:
    """One points card: for each item its rounded marks, and the points for each mark that is reached."""

    name: str
    words: str
    items: tuple[tuple[str, tuple[float, ...], int], ...]

    def score(self, figures: pd.DataFrame) -> np.ndarray:
        """The points of each customer, from a table that holds the items."""
        total = np.zeros(len(figures))
        for item, cutoffs, points in self.items:
            total += points * np.searchsorted(cutoffs, figures[item].to_numpy(), side="right")
        return total


def learn_scorecards(
    figures: pd.DataFrame, axes: pd.DataFrame, *, train: np.ndarray, labels: Mapping[str, str] | None = None
) -> list[Scorecard]:
    """A points card for each of the first axes of the space.

    Takes  figures: plain figures of customers, "share: <category>" among them; axes of the same customers; train: the
           customers it may be learnt on
    Gives  scores, in the order of the axes

    Parameters
    ----------
    labels : categories in plain words
    """
    seen = figures[train]
    cutoffs = {item: _cutoffs(seen[item].to_numpy(), item=item) for item in figures}
    cutoffs = {item: at for item, at in cutoffs.items() if at}
    passed = np.column_stack([np.searchsorted(at, seen[item].to_numpy(), side="right") for item, at in cutoffs.items()])
    found: list[Scorecard] = []
    for axis in list(axes.columns)[:MAX_SCORES]:
        weights = _fit_integer_weights(passed.astype(float), axes.loc[train, axis].to_numpy())
        order = [i for i in np.argsort(-np.abs(weights), kind="stable") if weights[i]]
        items = [(list(cutoffs)[i], tuple(cutoffs[list(cutoffs)[i]]), int(weights[i])) for i in order]
        if items:
            found.append(_name_scorecard(items, others=found, labels=labels))
    return found


def scorecards_to_table(scores: Sequence[Scorecard]) -> pd.DataFrame:
    """The cards as a table: score, words, item, at_least (the mark), points (for reaching it); marks add up."""
    rows = [
        (s.name, s.words, item, mark, points) for s in scores for item, cutoffs, points in s.items for mark in cutoffs
    ]
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS).astype({"at_least": float, "points": "int64"})
    return table.sort_values(["score", "item", "at_least"], ignore_index=True)


def round_cutoff(value: float, *, share: bool = False) -> float:
    """A mark that people can type, and that is shown in full: two figures that count; of a share whole hundredths,
    thousandths below one.

    >>> rounded(1234.5), rounded(12.34), rounded(0.1367, share=True), rounded(0.00367, share=True)
    (1200.0, 12.0, 0.14, 0.004)
    """
    if share:
        return round(float(value), 2 if value >= 0.0095 else 3)
    return float(f"{value:.2g}")


def is_share(item: str) -> bool:
    """Whether an item is a share of something."""
    return item.startswith(SHARE_OF) or item.endswith("_share")


def _cutoffs(values: np.ndarray, *, item: str) -> list[float]:
    """Rounded marks of a figure: between tenths of customers; of a category, buying at all and thirds of its buyers."""
    share = is_share(item)
    if not item.startswith(SHARE_OF):
        return sorted(
            {round_cutoff(q, share=share) for q in np.quantile(values, np.arange(1, SCORE_BANDS) / SCORE_BANDS)}
        )
    bought = values[values > 0]
    if len(bought) < MIN_ITEM_BUYERS:
        return []
    return sorted(
        {
            MIN_ITEM_SHARE,
            *(max(round_cutoff(q, share=True), MIN_ITEM_SHARE) for q in np.quantile(bought, SHARE_CUTOFFS)),
        }
    )


def _fit_integer_weights(passed: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Whole weights whose sum goes best with the target, one point at a time."""
    centred = passed - passed.mean(axis=0)
    y = (target - target.mean()) / max(target.std(), 1e-12)
    gram, with_y = centred.T @ centred / len(y), centred.T @ y / len(y)
    spread, weights = np.diag(gram), np.zeros(passed.shape[1])
    along, size, pull, best = 0.0, 0.0, np.zeros(len(weights)), 0.0
    while True:
        steps = []
        for sign in (1, -1):
            size_then = np.maximum(size + 2 * sign * pull + spread, 1e-12)
            full = (weights == 0) & ((weights != 0).sum() >= MAX_SCORE_ITEMS)
            barred = (np.abs(weights + sign) > MAX_POINTS) | full | (spread < 1e-12)
            steps.append(np.where(barred, -2.0, (along + sign * with_y) / np.sqrt(size_then)))
        side, i = np.unravel_index(int(np.argmax(np.round(steps, 9))), (2, len(weights)))
        if steps[side][i] < best + MIN_CORRELATION_GAIN:
            return weights
        sign, best = (1, -1)[side], steps[side][i]
        size += 2 * sign * pull[i] + spread[i]
        along, pull = along + sign * with_y[i], pull + sign * gram[:, i]
        weights[i] += sign


def _name_scorecard(
    items: list[tuple[str, tuple[float, ...], int]], *, others: list[Scorecard], labels: Mapping[str, str] | None
) -> Scorecard:
    """What a score is called: activity where figures of activity weigh most, else what it sets against what."""
    active = sum(abs(p) for item, _m, p in items if not item.startswith(SHARE_OF) and block_of(item) in ACTIVITY_BLOCKS)
    if active > sum(abs(p) for _i, _m, p in items) / 2 and not any(s.name == "activity" for s in others):
        return Scorecard(name="activity", words="activity points", items=tuple(items))
    bought = [each for each in items if each[0].startswith(SHARE_OF)] or items
    more, less = ([_item_label(i, labels=labels) for i, _m, p in bought if (p > 0) is up][:2] for up in (True, False))
    words = (
        "points for " + ", ".join(more) + (" over " if more and less else "little " if less else "") + ", ".join(less)
    )
    return Scorecard(name=f"taste_{1 + sum(s.name != 'activity' for s in others)}", words=words, items=tuple(items))


def _item_label(item: str, *, labels: Mapping[str, str] | None) -> str:
    if item.startswith(SHARE_OF):
        return label(item.removeprefix(SHARE_OF), labels=labels)
    return item.replace("_", " ").removesuffix(" share")


TRAIN_SHARE = 0.7
MAX_TRAINED = 6_000  # customers; more make the search slow and the rules no better
MAX_CONDITIONS = 3  # figures that a rule may look at; from and below count as one
SEARCH_STEPS = 6  # bounds that a rule may have
BEAM_WIDTH = 40  # rules kept at each step
MIN_RECALL = 0.66  # on the customers it is learnt on; a little is lost on others
MIN_GOOD_PRECISION, MIN_GOOD_RECALL = 0.5, 0.5  # on the others; below, no short rule describes the segment
MIN_PRECISION_GAIN = 0.01  # precision; a further bound that brings less is left out
SCORE_COST = 0.01  # precision that a score must bring more than a plain figure, which is easier to type
MAX_RULE_TERMS = 200  # most common categories whose shares are figures
QUANTILES = np.linspace(0.04, 0.96, 24)
ITEM_WORDS = {  # figure -> in a rule
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
        return bool(self.conditions) and self.precision[0] >= MIN_GOOD_PRECISION and self.recall[0] >= MIN_GOOD_RECALL

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
    train[order[: min(int(TRAIN_SHARE * count), MAX_TRAINED)]] = True
    judged = np.zeros(count, dtype=bool)
    judged[order[int(TRAIN_SHARE * count) :]] = True
    return train, judged


def learn_rules(
    figures: pd.DataFrame,
    segment: pd.Series,
    *,
    scores: Sequence[Scorecard],
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
    columns = add_scores(figures, scores)
    shared = [n for n in ITEM_WORDS if n in columns] + [s.name for s in scores]
    shared += [n for n in columns if n.startswith("channel_") and n.endswith("_share")]
    names = [s.name for s in scores]
    found = []
    for name in sorted(set(segment)):
        items = [*shared, *(SHARE_OF + t for t in own.get(name, ()) if SHARE_OF + t in columns)]
        inside = segment.eq(name).to_numpy()
        conditions = _beam_search(columns[train], inside[train], items=items, costly_items=names)
        found.append(_score_rule(name, conditions, columns[test], inside[test]))
    return found


def add_scores(figures: pd.DataFrame, scores: Sequence[Scorecard]) -> pd.DataFrame:
    """The figures, and the points of each score beside them."""
    return figures.assign(**{score.name: score.score(figures) for score in scores})


def rule_features(signals: CustomerData) -> pd.DataFrame:
    """The figures that a rule may look at: those of `WORDS`, shares by channel, and shares of the common categories
    ("share: <category>") in what each customer buys.
    """
    plain = [n for n in signals.features if n in ITEM_WORDS or (n.startswith("channel_") and n.endswith("_share"))]
    table = signals.features[plain]
    if signals.weights is None:
        return table
    weights, names, _words = nameable_weights(signals)
    terms = most_common_terms(weights, names, max_terms=MAX_RULE_TERMS, min_buyers=MIN_BUYERS)
    whole = np.asarray(signals.weights.sum(axis=1)).ravel()
    shares = align_terms(weights, names, to=terms).toarray() / np.where(whole > 0, whole, 1.0)[:, None]
    return table.join(pd.DataFrame(shares, index=table.index, columns=[SHARE_OF + t for t in terms]))


def rules_table(
    rules: Sequence[Rule], *, scores: Sequence[Scorecard], labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The rules as a table: a row for each condition, with how the whole rule did.

    Gives  segment, condition (1, 2, ...), item, words, unit, at_least and below (missing: no bound), good, precision
           and recall with _low and _high (95 %)
    """
    score_words = {score.name: score.words for score in scores}
    rows = []
    for rule in rules:
        rates = dict(zip(RATE_COLUMNS, (*rule.precision, *rule.recall), strict=True))
        for number, (item, low, high) in enumerate(rule.conditions, start=1):
            bounds = {"at_least": low if np.isfinite(low) else np.nan, "below": high if np.isfinite(high) else np.nan}
            description = {
                "words": score_words.get(item) or _item_words(item, labels=labels),
                "unit": _item_unit(item, score_words),
            }
            named = {"segment": rule.segment, "condition": number, "item": item}
            rows.append({**named, **description, **bounds, "good": rule.is_good, **rates})
    return pd.DataFrame(rows, columns=[*RULE_COLUMNS, *RATE_COLUMNS]).round(9)


def _item_words(item: str, *, labels: Mapping[str, str] | None) -> str:
    if item.startswith(SHARE_OF):
        return f"share of {label(item.removeprefix(SHARE_OF), labels=labels)}"
    if item.startswith("channel_"):
        return f"visits through {item.removeprefix('channel_').removesuffix('_share').replace('_', ' ')}"
    return ITEM_WORDS[item]


def _item_unit(item: str, scores: Mapping[str, str]) -> str:
    return "points" if item in scores else "share" if is_share(item) else describe(item).unit


def _beam_search(
    figures: pd.DataFrame, inside: np.ndarray, *, items: Sequence[str], costly_items: Sequence[str]
) -> tuple[tuple[str, float, float], ...]:
    """The bounds with the best precision among those that keep enough of the members."""
    bounds, passes = _candidate_bounds(figures, items)
    if not bounds or not inside.any():
        return ()
    of_item = np.array([item for item, _mark, _up in bounds])
    cost = np.isin(of_item, costly_items) * SCORE_COST
    wide = passes.astype(np.float32)
    beam: list[tuple[tuple[int, ...], np.ndarray]] = [((), np.ones(len(inside), dtype=bool))]
    best: tuple[float, tuple[int, ...]] = (float(inside.mean()), ())
    for _step in range(SEARCH_STEPS):
        pool: dict[tuple[int, ...], float] = {}
        for chosen, covered in beam:
            scored = _gain(wide, inside, covered, cost=cost + sum(cost[i] for i in chosen))
            used = {of_item[i] for i in chosen}
            if len(used) >= MAX_CONDITIONS:
                scored[~np.isin(of_item, list(used))] = -1.0
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


def _gain(wide: np.ndarray, inside: np.ndarray, covered: np.ndarray, *, cost: np.ndarray) -> np.ndarray:
    """Precision, less what it costs to type, of each bound added to a rule; below zero where too few stay."""
    members_left = wide @ (inside & covered).astype(np.float32)
    taken = wide @ covered.astype(np.float32)
    precision = members_left / np.maximum(taken, 1) - cost
    return np.where(members_left >= MIN_RECALL * inside.sum(), np.round(precision, 6), -1.0)


def _candidate_bounds(figures: pd.DataFrame, items: Sequence[str]) -> tuple[list[tuple[str, float, bool]], np.ndarray]:
    """Every bound that a rule may be built of (item, rounded mark, at least or below), and who passes it."""
    bounds, passes = [], []
    for item in items:
        values = figures[item].to_numpy()
        for mark in sorted({round_cutoff(q, share=is_share(item)) for q in np.quantile(values, QUANTILES)}):
            over = values >= mark
            if over.any() and not over.all():
                bounds += [(item, mark, True), (item, mark, False)]
                passes += [over, ~over]
    return bounds, np.array(passes)


def _merge_bounds(bounds: Sequence[tuple[str, float, bool]]) -> tuple[tuple[str, float, float], ...]:
    """Bounds on one item as one condition, in the order of the items' names."""
    found: dict[str, list[float]] = {}
    for item, mark, up in bounds:
        low, high = found.setdefault(item, [-np.inf, np.inf])
        found[item] = [max(low, mark), high] if up else [low, min(high, mark)]
    return tuple((item, low, high) for item, (low, high) in sorted(found.items()))


def _score_rule(segment: str, conditions: tuple, figures: pd.DataFrame, inside: np.ndarray) -> Rule:
    nothing = (float("nan"),) * 3
    rule = Rule(segment=segment, conditions=conditions, precision=nothing, recall=nothing)
    picked = rule.matches(figures) if conditions else np.zeros(len(figures), dtype=bool)
    right = int((picked & inside).sum())
    precision, recall = proportion_interval(right, int(picked.sum())), proportion_interval(right, int(inside.sum()))
    return Rule(segment=segment, conditions=conditions, precision=precision, recall=recall)


MAX_DIFFERENCES = 5  # on a card
MAX_NEED_DIFFERENCES = 2  # of them
COVERED_BLOCKS = ("needs", "demographic", "geographic", "survey", "missing", "engagement")  # blocks told in sentences
HARD_TO_READ = (
    "items_per_line",
    "active_days",
    "overdue",
    "gap_days",
    "recency_days",
    "category_entropy",
    "gap_variation",
    "order_variation",
)  # no unit one could picture, or said by another
BLOCK_FAMILIES = {"rfm": "how much", "lifecycle": "how much"}  # blocks that say much the same
TINY_SHARE = 0.001  # a share that a whole percentage would show as nothing
DIFFERENCE_COLUMNS = ["segment", "bar", "words", "unit", "value", "others", "effect", "effect_low", "effect_high"]


def top_differences(
    signals: pd.DataFrame, needs: pd.DataFrame, *, labels: Mapping[str, str] | None = None, most: int = MAX_DIFFERENCES
) -> pd.DataFrame:
    """The bars of each segment.

    Takes  signals of `signals.segment_signals`, needs of `signals.segment_needs`
    Gives  segment, bar (1, 2, ...), words, unit, value, others, effect with its 95 % interval: up to two needs, and the
           habits that are surely above or below everyone else, one of each block; strongest first

    Parameters
    ----------
    labels : categories in plain words
    most : bars of a segment
    """
    tables = []
    for segment in sorted(set(signals["segment"])):
        own = needs[needs["segment"] == segment]
        words = [f"share of {label(t, labels=labels)}" for t in own["term"]]
        unit = share_units(own["share"], own["others"])
        bought = (
            own.assign(words=words, unit=unit, value=own["share"]).drop_duplicates("words").head(MAX_NEED_DIFFERENCES)
        )
        habits = _top_habits(signals[signals["segment"] == segment]).head(most - len(bought))
        table = pd.concat([t for t in (bought.reindex(columns=DIFFERENCE_COLUMNS), habits) if len(t)] or [habits])
        table = table.sort_values("effect", key=np.abs, ascending=False, kind="stable")
        tables.append(table.assign(segment=segment, bar=range(1, len(table) + 1))[DIFFERENCE_COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=DIFFERENCE_COLUMNS)


def share_units(here: Iterable[float], there: Iterable[float]) -> list[str]:
    """The unit of shares held against each other: a finer one where either is tiny or both would look alike."""
    pairs = zip(here, there, strict=True)
    return ["fine share" if min(a, b) < TINY_SHARE or share(a) == share(b) else "share" for a, b in pairs]


def _top_habits(own: pd.DataFrame) -> pd.DataFrame:
    """The surest habit of each block that no sentence tells, the strongest first."""
    clear = own[(own["effect_low"] > 0) | (own["effect_high"] < 0)]
    clear = clear.assign(block=clear["feature"].map(block_of))
    clear = clear.assign(family=clear["block"].map(BLOCK_FAMILIES).fillna(clear["block"]))
    readable = clear[~clear["block"].isin(COVERED_BLOCKS) & ~clear["feature"].str.startswith("stage_")]
    readable = readable[~readable["feature"].isin(HARD_TO_READ)]
    order = readable.sort_values("effect", key=np.abs, ascending=False, kind="stable")
    strongest = order.drop_duplicates("family")
    words = strongest["feature"].map(ITEM_WORDS).fillna(strongest["words"].str.removeprefix("number of: "))
    return strongest.assign(words=words).reindex(columns=DIFFERENCE_COLUMNS)
