"""Describe how segments differ: signals, needs, unmet needs, topics, and a comparison with demographics."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import non_negative_factorization
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from segkit.customers.category_mix import is_free_text, mix_shares, most_common_terms
from segkit.customers.features import TIMES_OF_DAY, CustomerData, come_at_fixed_hours
from segkit.customers.needs import Needs, need_amounts
from segkit.format import FLOOR
from segkit.period import Period
from segkit.personas.naming import distinct_terms, phrase_weights
from segkit.stats import Z95, proportion_interval, rank_groups
from segkit.vocabulary import block_of, describe, is_skewed

MIN_BUYERS = FLOOR  # members of a segment; a need that fewer members show is left out
MIN_TRAIT_EFFECT_SIZE = 0.2  # standard deviations: a small effect (Cohen 1988)
TRAITS = ("needs", "demographic", "geographic", "survey")  # blocks that describe segments and never define them
MAX_NEED_CATEGORIES, MAX_NEED_PHRASES = 300, 800  # the most common categories or phrases; only these may be a need
PHRASE_BONUS = 1.3  # a single word needs an effect this much larger than a phrase to rank before it
MIN_NEED_EFFECT = 0.2  # standard deviations: a small effect (Cohen 1988)
MIN_NEED_SHARE, MIN_LARGE_LIFT = 0.15, 1.2  # of what members buy, and times others' share
MIN_LIFTED_SHARE, MIN_NEED_LIFT = 0.05, 1.5  # the same for a smaller one
SIGNAL_COLUMNS = ["segment", "feature", "words", "unit", "value", "others", "effect", "effect_low", "effect_high"]
FAVOURITE_COLUMNS = ["segment", "term", "effect", "effect_low", "effect_high", "share", "others", "buyers"]


def segment_signals(features: pd.DataFrame, segment: pd.Series) -> pd.DataFrame:
    """Compare each feature of each segment with all other customers.

    Parameters
    ----------
    features
        One row per customer, indexed by ``customer_id``.
    segment
        Segment id of the same customers, by ``customer_id``.

    Returns
    -------
    DataFrame
        One row per segment and feature, largest effect first: ``value`` and ``others`` (means, in the feature's unit)
        and ``effect`` (difference of means in standard deviations, on a log scale where the feature is skewed) with its
        95 % interval. The time of day is left out where it is not chosen by customers.
    """
    number, names = pd.factorize(segment.reindex(features.index), sort=True)
    sizes = np.bincount(number[number >= 0], minlength=len(names))
    rows, given = [], set(TIMES_OF_DAY if come_at_fixed_hours(features) else ())
    chosen = [name for name in features.columns if name not in given]
    for feature in chosen:  # one by one, as a copy of all features of millions of customers is too large
        description, values = describe(feature), features[feature].to_numpy(dtype=float)
        comparable = np.log1p(np.maximum(values, 0.0)) if is_skewed(feature) else values
        spread = comparable.std(ddof=1) if len(comparable) > 1 else 0.0
        scaled = (comparable - comparable.mean()) / spread if spread > 0 else np.zeros(len(comparable))
        (own, variance), (others, variance_of_others) = _moments(scaled, number, sizes=sizes)
        effect, half = own - others, Z95 * np.sqrt(variance / sizes + variance_of_others / (len(number) - sizes))
        words = np.where(effect >= 0, description.label, description.low_label)
        means = [moments[0] for moments in _moments(values, number, sizes=sizes)]
        rows += zip(
            names, repeat(feature), words, repeat(description.unit), *means, effect, effect - half, effect + half
        )
    table = pd.DataFrame(rows, columns=SIGNAL_COLUMNS)
    order = table.assign(size=table["effect"].abs()).sort_values(
        ["segment", "size", "feature"], ascending=[True, False, True]
    )
    return order.drop(columns="size").reset_index(drop=True).round(9)


def _moments(
    values: np.ndarray, number: np.ndarray, *, sizes: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance of values by segment, of its customers and of all others.

    `number`, `sizes`: the segment of each customer, below 0 for none; customers by segment.
    """
    inside = number >= 0
    sums, squares = (np.bincount(number[inside], v[inside], len(sizes)) for v in (values, np.square(values)))
    found = []
    for count, total, square in (
        (sizes, sums, squares),
        (len(values) - sizes, values.sum() - sums, np.square(values).sum() - squares),
    ):
        with np.errstate(invalid="ignore", divide="ignore"):  # of none or one customer not known
            mean = total / count
            found.append((mean, np.maximum(square - count * mean**2, 0.0) / (count - 1)))
    return found[0], found[1]


def segment_traits(features: pd.DataFrame, segment: pd.Series, *, most: int = 2) -> pd.DataFrame:
    """Find the needs and the demographic, geographic and survey traits that are stronger in a segment.

    Attributes of the customer table are compared among the customers with a value.

    Parameters
    ----------
    features
        Features as stored in a run, by ``customer_id``.
    segment
        Segment id of the same customers, by ``customer_id``.
    most
        Traits per segment and block.

    Returns
    -------
    DataFrame
        ``block`` and the columns of `segment_signals`, strongest first: traits whose interval lies above 0, with at
        least a small effect and at least 20 members who share them.
    """
    parts = []
    for has_value, columns in _trait_columns(features):
        table = segment_signals(features.loc[has_value, columns], segment[has_value])
        sharing = (features.loc[has_value, columns] > 0).groupby(segment[has_value]).sum().stack()
        table["sharing"] = sharing.reindex(pd.MultiIndex.from_frame(table[["segment", "feature"]])).to_numpy()
        parts.append(table)
    table = pd.concat(parts) if parts else pd.DataFrame(columns=[*SIGNAL_COLUMNS, "sharing"])
    table.insert(0, "block", pd.Categorical(table["feature"].map(block_of), categories=TRAITS, ordered=True))
    traits = table[
        (table["effect_low"] > 0) & (table["effect"] >= MIN_TRAIT_EFFECT_SIZE) & (table["sharing"] >= FLOOR)
    ].drop(columns="sharing")
    traits = traits.sort_values(["segment", "block", "effect", "feature"], ascending=[True, True, False, True])
    traits = traits.groupby(["segment", "block"], observed=True, sort=False).head(most)
    return traits.astype({"block": object}).reset_index(drop=True)


def _trait_columns(features: pd.DataFrame) -> list[tuple[np.ndarray, list[str]]]:
    """Group the trait columns by attribute, each group with a mask of the customers who have a value."""
    groups: dict[str, list[str]] = {}
    for name in features.columns:
        if block_of(name) in TRAITS:
            attribute = "" if block_of(name) == "needs" else name.partition(": ")[2].partition(" = ")[0]
            groups.setdefault(f"missing: {attribute}", []).append(name)
    everyone = pd.Series(0.0, index=features.index)
    return [((features.get(missing, everyone) == 0).to_numpy(), columns) for missing, columns in groups.items()]


def segment_favourites(
    signals: CustomerData, segment: pd.Series, *, needs: Needs | None = None, most: int = 8
) -> pd.DataFrame:
    """Find what each segment over-buys: needs; without any, categories, or phrases where product names are free text.

    Parameters
    ----------
    signals
        Customers with ``weights`` (what they bought).
    segment
        Segment id by ``customer_id``, in the order of the signals.
    needs
        Needs of the run. One is named only where it takes a real share of what members buy, above others':
        `MIN_NEED_SHARE`, or `MIN_NEED_LIFT` times others' share and `MIN_LIFTED_SHARE`.
    most
        Rows per segment.

    Returns
    -------
    DataFrame
        ``segment, term``, ``effect`` (difference of mean square-root shares, in standard deviations) with its 95 %
        interval, ``share`` (mean share of what members bought), ``others`` (the same for other customers) and
        ``buyers`` (share of members who bought it). Terms have at least 20 buyers and at least a small effect,
        strongest first; phrases share no word.
    """
    if (signals.weights if needs is None else signals.things[0]) is None:
        return pd.DataFrame(columns=FAVOURITE_COLUMNS)
    terms, shares, bought, are_phrases = _favourite_shares(signals, needs=needs)
    spread = shares[bought].std(axis=0)
    labels = segment.to_numpy()
    tables = []
    for name in sorted(set(labels)):
        inside, outside = bought & (labels == name), bought & (labels != name)
        if not inside.any() or not outside.any():
            continue
        effect = (shares[inside].mean(axis=0) - shares[outside].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        half = Z95 * np.sqrt(shares[inside].var(axis=0) / inside.sum() + shares[outside].var(axis=0) / outside.sum())
        half = half / np.where(spread > 0, spread, 1.0)
        bought_by = (shares[inside] > 0).sum(axis=0)
        table = pd.DataFrame({"segment": name, "term": terms, "effect": effect, "buyers": bought_by / inside.sum()})
        table["effect_low"], table["effect_high"] = effect - half, effect + half
        table["share"] = np.square(shares[inside]).mean(axis=0)
        table["others"] = np.square(shares[outside]).mean(axis=0)
        table = table[(bought_by >= MIN_BUYERS) & (table["effect"] >= MIN_NEED_EFFECT) & (effect > half)]
        if needs is not None:
            lifted = (table["share"] >= MIN_NEED_LIFT * table["others"]) & (table["share"] >= MIN_LIFTED_SHARE)
            large = (table["share"] >= MIN_NEED_SHARE) & (table["share"] >= MIN_LARGE_LIFT * table["others"])
            table = table[lifted | large]
        tables.append(_strongest_terms(table, most=most, are_phrases=are_phrases)[FAVOURITE_COLUMNS])
    return pd.concat(tables, ignore_index=True).round(9) if tables else pd.DataFrame(columns=FAVOURITE_COLUMNS)


def _favourite_shares(signals: CustomerData, *, needs: Needs | None) -> tuple[list[str], np.ndarray, np.ndarray, bool]:
    """Return names, square-root shares (customers x names), who bought anything, and whether names are phrases."""
    if needs is not None:
        whole = np.asarray(signals.things[0].sum(axis=1)).ravel()
        amounts = need_amounts(needs, signals.things)
        return list(needs.names), np.sqrt(amounts / np.where(whole > 0, whole, 1.0)[:, None]), whole > 0, False
    weights, names, are_phrases = nameable_weights(signals)
    max_terms = MAX_NEED_PHRASES if are_phrases else MAX_NEED_CATEGORIES
    terms = most_common_terms(weights, names, max_terms=max_terms, min_buyers=MIN_BUYERS)
    return terms, *mix_shares(weights, names, terms=terms), are_phrases


def nameable_weights(signals: CustomerData) -> tuple[sparse.csr_array, list[str], bool]:
    """Return what was bought by category, or by phrase where product names are free text.

    Returns
    -------
    tuple
        Customers x terms, the terms, and whether these are phrases.
    """
    names = list(signals.categories)
    if not is_free_text(names):
        return signals.weights, names, False
    return *phrase_weights(signals.weights, names), True


def _strongest_terms(table: pd.DataFrame, *, most: int, are_phrases: bool) -> pd.DataFrame:
    """Select the strongest terms; among phrases, longer ones rank first and no word is repeated."""
    if not are_phrases:
        return table.sort_values(["effect", "term"], ascending=[False, True]).head(most)
    bonus = table["term"].str.count(" ").clip(upper=2).map({0: 1.0, 1: PHRASE_BONUS, 2: PHRASE_BONUS + 0.05})
    ranked = table.assign(rank=table["effect"] * bonus).sort_values(["rank", "term"], ascending=[False, True])
    distinct = distinct_terms(list(ranked["term"]), most=most)
    return ranked[ranked["term"].isin(distinct)]


PEERS = 10  # nearest customers of other segments that each member is compared with
MAX_OTHERS = 20_000  # customers to search for peers; more cost time and change little
MAX_MEMBERS = 5_000  # of a segment who are compared with their peers; the same
MIN_MEMBERS = 2 * FLOOR  # one half selects the need, the other half measures it
SMALLEST_LEVEL = 0.01  # share of what a customer buys, from which they are a buyer of a need
MIN_PEER_DIFFERENCE = 0.1  # share of buyers; a smaller difference is no reason to act
UNMET_COLUMNS = [
    *("segment", "term", "level", "buyers", "peers"),
    *("difference", "difference_low", "difference_high", "members", "all_buyers"),
]


def unmet_needs(
    signals: CustomerData,
    segment: pd.Series,
    *,
    axes: pd.DataFrame,
    needs: Needs | None,
    named_needs: Mapping[str, Sequence[str]],
    sensitive: Collection[str] = (),
    seed: int = 7,
) -> pd.DataFrame:
    """Find the need that similar customers come for and the members of a segment lack most.

    Half of the members select the need and the other half measure it, so that the difference is not inflated by the
    choice.

    Parameters
    ----------
    signals
        Customers with ``weights`` (what they bought).
    segment, axes
        Segment id and position of the same customers, in their order.
    needs
        Needs of the run; None gives a table without rows.
    named_needs
        Segment -> what it over-buys; these needs are left out.
    sensitive
        Names of needs that no one is reminded of.
    seed
        Decides who selects and who measures.

    Returns
    -------
    DataFrame
        At most one row per segment: ``segment, term`` (name of the need), ``level`` (share of what a customer buys,
        from which they count as its buyer: half the mean), ``buyers`` and ``peers`` (shares who reach it),
        ``difference`` (each member paired with their peers) with its 95 % interval, ``members`` (how many were
        measured) and ``all_buyers`` (of all members). A segment without a clear difference has no row.
    """
    if needs is None or signals.things[0] is None:
        return pd.DataFrame(columns=UNMET_COLUMNS)
    whole = np.asarray(signals.things[0].sum(axis=1)).ravel()[:, None]
    shares = need_amounts(needs, signals.things) / np.where(whole > 0, whole, 1.0)
    level = np.maximum(np.round(shares.mean(axis=0) / 2, 2), SMALLEST_LEVEL)
    bought = (shares >= level).astype(np.float32)
    positions, labels = axes.to_numpy(), segment.to_numpy()
    rows = []
    for number, name in enumerate(sorted(set(labels))):
        inside = np.flatnonzero(labels == name)
        if len(inside) < MIN_MEMBERS or len(labels) - len(inside) < PEERS:
            continue
        rng = np.random.default_rng([seed, 41, number])
        everyone = inside
        if len(inside) > MAX_MEMBERS:
            inside = np.sort(np.random.default_rng([seed, 43, number]).permutation(inside)[:MAX_MEMBERS])
        others = np.sort(rng.permutation(np.flatnonzero(labels != name))[:MAX_OTHERS])
        nearest = NearestNeighbors(n_neighbors=PEERS, n_jobs=1).fit(positions[others])
        near = others[nearest.kneighbors(positions[inside])[1]]
        peers = sum(bought[near[:, k]] for k in range(PEERS)) / PEERS
        excluded = [need in {*named_needs.get(name, ()), *sensitive} for need in needs.names]
        found = _largest_unmet_need(name, list(needs.names), bought[inside], peers, excluded=excluded, rng=rng)
        for own, term, *figures in found:
            need = needs.names.index(term)
            rows.append((own, term, level[need], *figures, float(bought[everyone, need].mean())))
    return pd.DataFrame(rows, columns=UNMET_COLUMNS).round(9)


def _largest_unmet_need(
    name: str, terms: list[str], own: np.ndarray, peers: np.ndarray, *, excluded: list[bool], rng: np.random.Generator
) -> list[tuple]:
    """Select the clearest difference in one half of the members and measure it in the other half."""
    order = rng.permutation(len(own))
    selection, measurement = order[: len(own) // 2], order[len(own) // 2 :]
    mean, spread = (peers - own)[selection].mean(axis=0), (peers - own)[selection].std(axis=0)
    low = np.where(excluded, -1.0, mean - Z95 * spread / np.sqrt(len(selection)))
    best = int(np.argmax(np.round(low, 9)))
    differences = (peers - own)[measurement, best].astype(float)
    middle, half = differences.mean(), Z95 * differences.std(ddof=1) / np.sqrt(len(differences))
    if low[best] <= 0 or middle - half <= 0 or middle < MIN_PEER_DIFFERENCE:
        return []
    shares = float(own[measurement, best].mean()), float(peers[measurement, best].mean())
    return [(name, terms[best], *shares, middle, middle - half, middle + half, len(measurement))]


TOPICS = 12
MIN_WRITERS = FLOOR  # customers of a segment who wrote; also the fewest texts that a word must appear in
MIN_TEXTS = 100
FACTORISATION_ROUNDS = 200
TOPIC_NAME_WORDS = 3  # words in the name of a topic
MIN_WORD_WEIGHT = 0.2  # times the strongest word; a weaker word does not belong to the topic
MIN_TOPIC_DIFFERENCE = 0.05  # difference of shares of writers
COMPLAINTS = frozenset(
    "bad broken but cannot complain difficult disappointed disappointing dont error expensive fail failed fails "
    "fix hard help improve lacking late less long lower miss missing more must need needs never no not only out please "
    "poor problem queue should slow sold stock stop too unable up wait want wants when why wish without wrong".split()
)
TOPIC_COLUMNS = ["segment", "topic", "share", "others", "difference", "low", "high", "writers", "wish", "unmatched"]


@dataclass(frozen=True)
class TextTopics:
    """Customer texts (customer_id, text), the topic of each (-1: none), and the words of each topic."""

    texts: pd.DataFrame
    topic: np.ndarray
    words: tuple[tuple[str, ...], ...]


def customer_texts(events: ir.Table, *, period: Period) -> pd.DataFrame:
    """Read what customers wrote in the lookback: customer_id and text, sorted; empty where events have no text."""
    if "text" not in events.columns:
        return pd.DataFrame(columns=["customer_id", "text"])
    inside = (events.day >= period.lookback_start) & (events.day < period.as_of)
    inside = events.filter(events.text.notnull() & inside)
    table = inside.select("customer_id", "text").to_pandas()
    return table.sort_values(["customer_id", "text"], ignore_index=True)


def learn_topics(texts: pd.DataFrame, *, count: int = TOPICS, seed: int = 7) -> TextTopics | None:
    """Find topics in texts by TF-IDF and non-negative matrix factorisation (Lee & Seung 1999).

    Parameters
    ----------
    texts
        ``customer_id, text``.
    count
        More topics are finer.

    Returns
    -------
    TextTopics or None
        None where there are too few texts.
    """
    if len(texts) < MIN_TEXTS:
        return None
    vectorizer = TfidfVectorizer(
        stop_words=sorted(ENGLISH_STOP_WORDS | EMPTY_WORDS), min_df=MIN_WRITERS, token_pattern=r"[^\W\d_]{3,}"
    )
    try:
        weights = vectorizer.fit_transform(texts["text"])
    except ValueError:  # no word appears in enough texts
        return None
    count = min(count, weights.shape[1] - 1, weights.shape[0] - 1)
    if count < 2:
        return None
    loads, factors, _rounds = non_negative_factorization(
        weights, n_components=count, init="nndsvda", random_state=seed, max_iter=FACTORISATION_ROUNDS, tol=0.0
    )
    names = vectorizer.get_feature_names_out()
    topic = np.where(loads.max(axis=1) > 0, np.round(loads, 9).argmax(axis=1), -1)
    return TextTopics(texts=texts, topic=topic, words=tuple(_topic_words(row, names) for row in np.round(factors, 9)))


def segment_topics(
    topics: TextTopics | None, segment: pd.Series, *, bought: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Find the topic that each segment writes about more than other customers.

    Parameters
    ----------
    topics
        As returned by `learn_topics`; None gives a table without rows.
    segment
        Segment id by ``customer_id``.
    bought
        Segment -> what it over-buys, as labels.

    Returns
    -------
    DataFrame
        At most one row per segment: ``topic`` (its words), ``share`` (of the segment's writers), ``others``,
        ``difference`` with its 95 % interval, ``writers``, ``wish`` (most of these texts ask or complain) and
        ``unmatched`` (a wish that names nothing the segment over-buys).
    """
    if topics is None:
        return pd.DataFrame(columns=TOPIC_COLUMNS)
    texts = topics.texts.assign(topic=topics.topic, segment=topics.texts["customer_id"].map(segment))
    texts = texts[texts["segment"].notna()]
    mentions = pd.crosstab(texts["customer_id"], texts["topic"]).gt(0).astype(float)
    labels = mentions.index.map(segment)
    rows = []
    for name in sorted(set(labels)):
        inside = np.asarray(labels == name)
        if inside.sum() >= MIN_WRITERS and (~inside).sum() >= MIN_WRITERS:
            words = {w for term in (bought or {}).get(name, ()) for w in term.lower().split()}
            rows += _strongest_topic(
                name, mentions, inside, segment_texts=texts[texts["segment"] == name], topics=topics, bought=words
            )
    return pd.DataFrame(rows, columns=TOPIC_COLUMNS).astype({"wish": bool, "unmatched": bool}).round(9)


def _topic_words(row: np.ndarray, names: np.ndarray) -> tuple[str, ...]:
    """Return the strongest words of a topic; a topic with a single strong word is small talk."""
    order = np.argsort(-row, kind="stable")[: 2 * TOPIC_NAME_WORDS]
    return tuple(str(names[i]) for i in order if row[i] >= MIN_WORD_WEIGHT * row.max())


def _strongest_topic(
    name: str,
    mentions: pd.DataFrame,
    inside: np.ndarray,
    *,
    segment_texts: pd.DataFrame,
    topics: TextTopics,
    bought: set[str],
) -> list[tuple]:
    """Return the row of the topic that stands out most clearly in a segment, or no row."""
    own, others = mentions[inside].mean(), mentions[~inside].mean()
    half = Z95 * np.sqrt(own * (1 - own) / inside.sum() + others * (1 - others) / (~inside).sum())
    small_talk = [t for t in mentions.columns if t == -1 or len(topics.words[t]) < 2]
    low = (own - others - half).drop(small_talk).round(9)
    topic = low.idxmax() if len(low) else None
    if topic is None or low[topic] <= 0 or own[topic] - others[topic] < MIN_TOPIC_DIFFERENCE:
        return []
    words = topics.words[topic]
    texts = segment_texts.loc[segment_texts["topic"] == topic, "text"].str.lower().str.findall(r"[^\W\d_]+")
    wish = bool(texts.map(lambda text_words: bool(COMPLAINTS & set(text_words))).mean() > 0.5)
    difference = own[topic] - others[topic]
    unmatched = wish and not {stem(word) for word in words} & {stem(word) for word in bought}
    figures = (own[topic], others[topic], difference, difference - half[topic], difference + half[topic])
    return [(name, ", ".join(words[:TOPIC_NAME_WORDS]), *figures, int(inside.sum()), wish, unmatched)]


def stem(word: str) -> str:
    """Remove the plural ending of a word, so that "invoices" matches "invoice".

    >>> stem("invoices"), stem("batteries"), stem("glass")
    ('invoice', 'battery', 'glass')
    """
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


GROUPING_LABELS = {"ours": "micro-segment", "demographic": "who they are"}
MIN_PREDICTED = 2 * FLOOR  # customers with a demographic group: one half trains, the other half tests
MAX_PREDICTED_TERMS = 100  # the most common categories; a customer's need is the one they over-buy most
SPEND_TIERS = 3  # low, middle, high
EMPTY_WORDS = frozenset("want need like just really please".split())  # they say nothing of a topic
PREDICTED_TARGETS = {"need": "what they come for most", "spend": "low, middle or high spend"}
PREDICTOR_COLUMNS = [
    *("grouping", "label", "reading", "words", "groups", "distinct_readings", "customers"),
    *("wrong", "wrong_low", "wrong_high", "chance", "fewer_wrong", "fewer_low", "fewer_high"),
]


def compare_predictors(
    signals: CustomerData,
    segment: pd.Series,
    groups: Mapping[str, pd.Series],
    *,
    needs: pd.DataFrame | None,
    seed: int = 7,
) -> pd.DataFrame:
    """Compare how well segments and demographics predict a customer's main need and spend.

    Each group predicts the most frequent value among half of its customers; the other half is the test set.

    Parameters
    ----------
    signals
        Customers with features and what they bought.
    segment
        Segment id by ``customer_id``.
    groups
        ``"demographic"`` -> group by ``customer_id``; customers without a group are left out of both.
    needs
        Shares of need groups by ``customer_id``; None to use categories.

    Returns
    -------
    DataFrame
        One row per grouping and target (column ``reading``): ``wrong`` (share of wrong predictions, 95 % interval),
        ``chance`` (the share when everyone gets the most frequent value), ``distinct_readings`` (different predictions
        among the groups) and, for demographics, ``fewer_wrong`` (by how much segments are less often wrong, paired, 95
        % interval).
    """
    group = groups.get("demographic")
    if group is None:
        return pd.DataFrame(columns=PREDICTOR_COLUMNS)
    index = signals.features.index
    has_group = group.reindex(index).notna().to_numpy()
    if has_group.sum() < MIN_PREDICTED:
        return pd.DataFrame(columns=PREDICTOR_COLUMNS)
    ours, demographic = segment.reindex(index).to_numpy(), group.reindex(index).astype(str).to_numpy()
    rows = []
    for name, target in _target_values(signals, needs=needs).items():
        usable = has_group & (target != "")
        train = np.random.default_rng([seed, 53]).permutation(usable.sum()) % 2 == 0
        row, errors = _predict_from_group("ours", name, ours[usable], target[usable], train=train)
        baseline_row, baseline_errors = _predict_from_group(
            "demographic", name, demographic[usable], target[usable], train=train
        )
        fewer = baseline_errors.astype(float) - errors
        middle, half = fewer.mean(), Z95 * fewer.std(ddof=1) / np.sqrt(len(fewer))
        baseline_row |= {"fewer_wrong": middle, "fewer_low": middle - half, "fewer_high": middle + half}
        rows += [row, baseline_row]
    return pd.DataFrame(rows).reindex(columns=PREDICTOR_COLUMNS).round(9)


def _target_values(signals: CustomerData, *, needs: pd.DataFrame | None) -> dict[str, np.ndarray]:
    """Return the values to predict for each customer; "" where there is none."""
    targets = {}
    if needs is not None:
        targets["need"] = _main_term(needs.to_numpy(), np.array([n.removeprefix("needs: ") for n in needs]))
    elif signals.weights is not None:
        weights, names, _are_phrases = nameable_weights(signals)
        terms = most_common_terms(weights, names, max_terms=MAX_PREDICTED_TERMS, min_buyers=MIN_BUYERS)
        if len(terms) > 1:
            targets["need"] = _main_term(mix_shares(weights, names, terms=terms)[0], np.array(terms))
    if "spend" in signals.features:
        targets["spend"] = np.array(["low", "middle", "high"])[
            rank_groups(signals.features["spend"], parts=SPEND_TIERS)
        ]
    return targets


def _main_term(shares: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the term that each customer over-buys most."""
    spread = shares.std(axis=0)
    over = np.round((shares - shares.mean(axis=0)) / np.where(spread > 0, spread, 1.0), 9)
    return np.where(shares.sum(axis=1) > 0, names[over.argmax(axis=1)], "")


def _predict_from_group(
    grouping: str, target_name: str, group: np.ndarray, target: np.ndarray, *, train: np.ndarray
) -> tuple[dict[str, object], np.ndarray]:
    """Score one grouping on the test set; return its row and whether each prediction is wrong."""
    training = pd.DataFrame({"group": group[train], "target": target[train]})
    most_frequent = _mode(training["target"])
    by_group = training.groupby("group")["target"].agg(_mode)
    predicted = pd.Series(group[~train]).map(by_group).fillna(most_frequent).to_numpy()
    wrong = predicted != target[~train]
    share, low, high = proportion_interval(int(wrong.sum()), len(wrong))
    row = {
        "grouping": grouping,
        "label": GROUPING_LABELS[grouping],
        "reading": target_name,
        "words": PREDICTED_TARGETS[target_name],
        "groups": len(by_group),
        "distinct_readings": by_group.nunique(),
        "customers": len(wrong),
        "wrong": share,
        "wrong_low": low,
        "wrong_high": high,
        "chance": float((target[~train] != most_frequent).mean()),
    }
    return row, wrong


def _mode(values: pd.Series) -> str:
    """Return the most frequent value; among equally frequent ones the first in the alphabet."""
    counts = values.value_counts()
    return str(min(counts.index[counts == counts.max()]))
