"""Find what tells a segment apart: signals, unmet needs, topics, and demographics compared with segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import non_negative_factorization
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from segkit.customers.category_mix import is_free_text, mix_shares, most_common_terms
from segkit.customers.features import CustomerData
from segkit.format import FLOOR
from segkit.period import Period
from segkit.personas.naming import distinct_terms, phrase_weights
from segkit.stats import Z95, proportion_interval, rank_groups
from segkit.vocabulary import block_of, describe, is_skewed

MIN_BUYERS = FLOOR  # of a segment; a need that fewer show is not told of it
MIN_TRAIT_EFFECT_SIZE = 0.2  # standard deviations (Cohen 1988); a trait that is told is at least a small effect
TRAITS = ("needs", "demographic", "geographic", "survey")  # blocks that describe, and of which no space is made
MAX_NEED_CATEGORIES, MAX_NEED_PHRASES = 300, 800  # most common categories, or product words, that a need may come from
PHRASE_BONUS = 1.3  # how much stronger a lone word must be than a whole name to be told instead
MIN_NEED_EFFECT = 0.2  # standard deviations (Cohen 1988: small); less is no need that anyone would notice
SIGNAL_COLUMNS = ["segment", "feature", "words", "unit", "value", "others", "effect", "effect_low", "effect_high"]
NEED_COLUMNS = ["segment", "term", "effect", "effect_low", "effect_high", "share", "others", "buyers"]


def segment_signals(features: pd.DataFrame, segment: pd.Series) -> pd.DataFrame:
    """Each feature of each segment against everyone else.

    Takes  features; segment: id by customer_id, the same customers
    Gives  one row per segment and feature: value and others (means, in the feature's unit), effect (difference of
           means in standard deviations, on a log scale where the feature is skewed) with its 95 % interval;
           strongest first
    """
    own = segment.reindex(features.index).to_numpy()
    members = {name: own == name for name in sorted(set(segment))}
    rows = []
    for feature in features.columns:  # one by one: of millions of customers a copy of all is too much
        description, values = describe(feature), features[feature]
        read = np.log1p(values.clip(lower=0)) if is_skewed(feature) else values
        scaled = ((read - read.mean()) / (read.std() or np.nan)).fillna(0.0)
        for name, inside in members.items():
            here, there = scaled[inside], scaled[~inside]
            effect = here.mean() - there.mean()
            half = Z95 * np.sqrt(here.var() / inside.sum() + there.var() / max((~inside).sum(), 1))
            words = description.label if effect >= 0 else description.low_label
            means = values[inside].mean(), values[~inside].mean()
            rows.append((name, feature, words, description.unit, *means, effect, effect - half, effect + half))
    table = pd.DataFrame(rows, columns=SIGNAL_COLUMNS)
    order = table.assign(size=table["effect"].abs()).sort_values(
        ["segment", "size", "feature"], ascending=[True, False, True]
    )
    return order.drop(columns="size").reset_index(drop=True).round(9)


def segment_traits(features: pd.DataFrame, segment: pd.Series, *, most: int = 2) -> pd.DataFrame:
    """What sets a segment apart beside its habits: needs (things bought together), and what is known of its members.

    Takes  features, as a run keeps them; segment: id by customer_id, the same customers
    Gives  block, and the columns of `segment_signals`: of each segment and block the traits that are surely above
           everyone else (the interval leaves zero out), by a small effect or more, and that at least twenty members
           share, strongest first; what the customer table says is compared among those of whom it is known

    Parameters
    ----------
    most : traits told of each segment and block
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
    """Columns that belong together, and of whom they are known."""
    groups: dict[str, list[str]] = {}
    for name in features.columns:
        if block_of(name) in TRAITS:
            of = "" if block_of(name) == "needs" else name.partition(": ")[2].partition(" = ")[0]
            groups.setdefault(f"missing: {of}", []).append(name)
    everyone = pd.Series(0.0, index=features.index)
    return [((features.get(missing, everyone) == 0).to_numpy(), columns) for missing, columns in groups.items()]


def segment_needs(signals: CustomerData, segment: pd.Series, *, most: int = 8) -> pd.DataFrame:
    """What each segment over-buys: categories, or product words where their names are free text, by effect size.

    Takes  signals with weights; segment: id by customer_id, in the order of the signals
    Gives  segment, term, effect (difference of mean square-root shares, in standard deviations) with its 95 % interval,
           share (mean share of what members bought), others, buyers (share of members who bought it); terms with at
           least twenty buyers and an effect that is not tiny, strongest first; product words that share no word

    Parameters
    ----------
    most : terms told of each segment
    """
    if signals.weights is None:
        return pd.DataFrame(columns=NEED_COLUMNS)
    weights, names, words = nameable_weights(signals)
    terms = most_common_terms(
        weights, names, max_terms=MAX_NEED_PHRASES if words else MAX_NEED_CATEGORIES, min_buyers=MIN_BUYERS
    )
    shares, bought = mix_shares(weights, names, terms=terms)
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
        tables.append(_strongest_terms(table, most=most, words=words)[NEED_COLUMNS])
    return pd.concat(tables, ignore_index=True).round(9) if tables else pd.DataFrame(columns=NEED_COLUMNS)


def nameable_weights(signals: CustomerData) -> tuple[sparse.csr_array, list[str], bool]:
    """What was bought by the terms a text may name: categories, or product words where names are free text."""
    names = list(signals.categories)
    if not is_free_text(names):
        return signals.weights, names, False
    return *phrase_weights(signals.weights, names), True


def _strongest_terms(table: pd.DataFrame, *, most: int, words: bool) -> pd.DataFrame:
    """The strongest terms; of product words whole names go first, and no word is told twice."""
    if not words:
        return table.sort_values(["effect", "term"], ascending=[False, True]).head(most)
    whole = table["term"].str.count(" ").clip(upper=2).map({0: 1.0, 1: PHRASE_BONUS, 2: PHRASE_BONUS + 0.05})
    ranked = table.assign(rank=table["effect"] * whole).sort_values(["rank", "term"], ascending=[False, True])
    distinct = distinct_terms(list(ranked["term"]), most=most)
    return ranked[ranked["term"].isin(distinct)]


PEERS = 10  # nearest customers of other segments that a member is held against
MAX_OTHERS = 20_000  # of whom the peers are looked for; more cost time and change little
MIN_MEMBERS = 2 * FLOOR  # half of them choose, half of them measure
MIN_PEER_GAP = 0.03  # share of buyers; a smaller gap is no reason to act
UNMET_COLUMNS = ["segment", "term", "buyers", "peers", "difference", "difference_low", "difference_high", "members"]


def unmet_needs(
    signals: CustomerData,
    segment: pd.Series,
    *,
    axes: pd.DataFrame,
    named_needs: Mapping[str, Sequence[str]],
    seed: int = 7,
) -> pd.DataFrame:
    """For each segment the thing that its peers buy and its members lack most.

    Takes  signals with weights; segment and axes of the same customers, in their order
    Gives  segment, term, buyers and peers (shares who buy it), gap (difference, members in pairs with their peers)
           with its 95 % interval, members (that it was measured on); no row where nothing is surely lacking

    Parameters
    ----------
    told : segment -> what it over-buys, which it cannot lack
    seed : of who chooses and who measures
    """
    if signals.weights is None:
        return pd.DataFrame(columns=UNMET_COLUMNS)
    weights, names, words = nameable_weights(signals)
    terms = most_common_terms(
        weights, names, max_terms=MAX_NEED_PHRASES if words else MAX_NEED_CATEGORIES, min_buyers=MIN_BUYERS
    )
    place = {name: i for i, name in enumerate(names)}
    bought = (weights[:, [place[t] for t in terms]] > 0).astype(np.float32)
    points, labels = axes.to_numpy(), segment.to_numpy()
    rows = []
    for number, name in enumerate(sorted(set(labels))):
        inside = np.flatnonzero(labels == name)
        if len(inside) < MIN_MEMBERS or len(labels) - len(inside) < PEERS:
            continue
        rng = np.random.default_rng([seed, 41, number])
        lacks = _compare_with_peers(points, bought, inside=inside, others=np.flatnonzero(labels != name), rng=rng)
        named_words = (
            {word for term in named_needs.get(name, ()) for word in term.split()}
            if words
            else set(named_needs.get(name, ()))
        )
        barred = np.array([bool({*t.split()} & named_words) if words else t in named_words for t in terms])
        rows += _largest_unmet_need(name, terms, *lacks, barred=barred, rng=rng)
    return pd.DataFrame(rows, columns=UNMET_COLUMNS).round(9)


def _compare_with_peers(
    points: np.ndarray, bought: np.ndarray, *, inside: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each member and term: whether they buy it, and the share of their peers who do."""
    others = np.sort(rng.permutation(others)[:MAX_OTHERS])
    near = NearestNeighbors(n_neighbors=PEERS, n_jobs=1).fit(points[others]).kneighbors(points[inside])[1]
    peers = sum(bought[others[near[:, k]]] for k in range(PEERS)) / PEERS
    return bought[inside].toarray(), peers.toarray()


def _largest_unmet_need(
    name: str, terms: list[str], own: np.ndarray, peers: np.ndarray, *, barred: np.ndarray, rng: np.random.Generator
) -> list[tuple]:
    """The term with the surest gap in one half of the members, as the other half shows it."""
    order = rng.permutation(len(own))
    choosing, measuring = order[: len(own) // 2], order[len(own) // 2 :]
    gap, spread = (peers - own)[choosing].mean(axis=0), (peers - own)[choosing].std(axis=0)
    sure = np.where(barred, -1.0, gap - Z95 * spread / np.sqrt(len(choosing)))
    best = int(np.argmax(np.round(sure, 9)))
    each = (peers - own)[measuring, best].astype(float)
    middle, half = each.mean(), Z95 * each.std(ddof=1) / np.sqrt(len(each))
    if sure[best] <= 0 or middle - half <= 0 or middle < MIN_PEER_GAP:
        return []
    shares = float(own[measuring, best].mean()), float(peers[measuring, best].mean())
    return [(name, terms[best], *shares, middle, middle - half, middle + half, len(measuring))]


TOPICS = 12
MIN_WRITERS = FLOOR  # of a segment; what fewer say is not told, and a word that fewer texts hold is no topic
MIN_TEXTS = 100
FACTORISATION_ROUNDS = 200  # of the factorisation
TOPIC_NAME_WORDS = 3  # words that name a topic
MIN_WORD_WEIGHT = 0.2  # of the strongest word; a fainter one does not belong to the topic
MIN_TOPIC_DIFFERENCE = 0.05  # difference of shares that is worth a word
COMPLAINTS = frozenset(
    "bad broken but cannot complain difficult disappointed disappointing dont error expensive fail failed fails "
    "fix hard help improve lacking late less long lower miss missing more must need needs never no not only out please "
    "poor problem queue should slow sold stock stop too unable up wait want wants when why wish without wrong".split()
)
TOPIC_COLUMNS = ["segment", "topic", "share", "others", "difference", "low", "high", "writers", "wish", "unmatched"]


@dataclass(frozen=True)
class TextTopics:
    """What was said: one row a text (customer_id, text), its topic (-1: none), and the words of each topic."""

    texts: pd.DataFrame
    topic: np.ndarray
    words: tuple[tuple[str, ...], ...]


def customer_texts(events: ir.Table, *, period: Period) -> pd.DataFrame:
    """What customers wrote in the lookback: customer_id and text, sorted; empty where events carry no text."""
    if "text" not in events.columns:
        return pd.DataFrame(columns=["customer_id", "text"])
    inside = (events.day >= period.lookback_start) & (events.day < period.as_of)
    inside = events.filter(events.text.notnull() & inside)
    table = inside.select("customer_id", "text").to_pandas()
    return table.sort_values(["customer_id", "text"], ignore_index=True)


def learn_topics(texts: pd.DataFrame, *, count: int = TOPICS, seed: int = 7) -> TextTopics | None:
    """Topics of the texts: TF-IDF of words, and the factorisation that finds needs (Lee & Seung 1999).

    Takes  customer_id, text
    Gives  Spoken; None where there are too few texts to speak of

    Parameters
    ----------
    count : more topics are finer
    """
    if len(texts) < MIN_TEXTS:
        return None
    reader = TfidfVectorizer(stop_words=sorted(ENGLISH_STOP_WORDS), min_df=MIN_WRITERS, token_pattern=r"[^\W\d_]{3,}")
    try:
        weights = reader.fit_transform(texts["text"])
    except ValueError:  # no word that so many texts hold
        return None
    count = min(count, weights.shape[1] - 1, weights.shape[0] - 1)
    if count < 2:
        return None
    loads, factors, _rounds = non_negative_factorization(
        weights, n_components=count, init="nndsvda", random_state=seed, max_iter=FACTORISATION_ROUNDS, tol=0.0
    )
    names = reader.get_feature_names_out()
    topic = np.where(loads.max(axis=1) > 0, np.round(loads, 9).argmax(axis=1), -1)
    return TextTopics(texts=texts, topic=topic, words=tuple(_topic_words(row, names) for row in np.round(factors, 9)))


def segment_topics(
    topics: TextTopics | None, segment: pd.Series, *, bought: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """What each segment speaks of more than everyone else.

    Takes  spoken; segment: id by customer_id
    Gives  segment, topic (its words), share of the segment's writers who speak of it, others (the same elsewhere),
           difference with its 95 % interval, writers, wish (whether those texts ask or complain), unmatched (whether it
           is a wish that names nothing the segment over-buys): the surest topic of each segment with enough writers

    Parameters
    ----------
    bought : segment -> what it over-buys, in words
    """
    if topics is None:
        return pd.DataFrame(columns=TOPIC_COLUMNS)
    texts = topics.texts.assign(topic=topics.topic, segment=topics.texts["customer_id"].map(segment))
    texts = texts[texts["segment"].notna()]
    about = pd.crosstab(texts["customer_id"], texts["topic"]).gt(0).astype(float)
    of = about.index.map(segment)
    rows = []
    for name in sorted(set(of)):
        inside = np.asarray(of == name)
        if inside.sum() >= MIN_WRITERS and (~inside).sum() >= MIN_WRITERS:
            words = {w for term in (bought or {}).get(name, ()) for w in term.lower().split()}
            rows += _strongest_topic(
                name, about, inside, segment_texts=texts[texts["segment"] == name], topics=topics, bought=words
            )
    return pd.DataFrame(rows, columns=TOPIC_COLUMNS).astype({"wish": bool, "unmatched": bool}).round(9)


def _topic_words(row: np.ndarray, names: np.ndarray) -> tuple[str, ...]:
    """The words that make up a topic; one whose words all but one are faint is small talk, and has but one."""
    order = np.argsort(-row, kind="stable")[: 2 * TOPIC_NAME_WORDS]
    return tuple(str(names[i]) for i in order if row[i] >= MIN_WORD_WEIGHT * row.max())


def _strongest_topic(
    name: str,
    about: pd.DataFrame,
    inside: np.ndarray,
    *,
    segment_texts: pd.DataFrame,
    topics: TextTopics,
    bought: set[str],
) -> list[tuple]:
    here, there = about[inside].mean(), about[~inside].mean()
    half = Z95 * np.sqrt(here * (1 - here) / inside.sum() + there * (1 - there) / (~inside).sum())
    small_talk = [t for t in about.columns if t == -1 or len(topics.words[t]) < 2]
    low = (here - there - half).drop(small_talk).round(9)
    topic = low.idxmax() if len(low) else None
    if topic is None or low[topic] <= 0 or here[topic] - there[topic] < MIN_TOPIC_DIFFERENCE:
        return []
    words = topics.words[topic]
    texts = segment_texts.loc[segment_texts["topic"] == topic, "text"].str.lower().str.findall(r"[^\W\d_]+")
    wish = bool(texts.map(lambda text_words: bool(COMPLAINTS & set(text_words))).mean() > 0.5)
    gap = here[topic] - there[topic]
    matched = any(stem(word) in {stem(b) for b in bought} for word in words)
    ends = (gap, gap - half[topic], gap + half[topic], int(inside.sum()))
    return [(name, ", ".join(words[:TOPIC_NAME_WORDS]), here[topic], there[topic], *ends, wish, wish and not matched)]


def stem(word: str) -> str:
    """A word without its plural ending, so that "invoices" meets "invoice".

    >>> stem("invoices"), stem("batteries"), stem("glass")
    ('invoice', 'battery', 'glass')
    """
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


GROUPING_LABELS = {"ours": "micro-segment", "demographic": "who they are"}
MIN_PREDICTED = 2 * FLOOR  # customers who are known; half of them teach, half of them are read
MAX_PREDICTED_TERMS = 100  # most common things; each customer's need is the one they over-buy most
SPEND_TIERS = 3  # of spend: low, middle, high
PREDICTED_TARGETS = {"need": "what they over-buy most", "spend": "spend: low, middle or high"}
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
    """How often a customer is read wrong when the persona of their group is taken for them.

    The reading of a group is what is most frequent in it among half of the customers; the other half is read.

    Takes  signals; segment and groups ("demographic") by customer_id: those without a group are left out of both;
           needs: shares by customer_id, as `needs.need_shares` gives them, or None for the things themselves
    Gives  a row for each grouping and reading: wrong (share read wrong, 95 %), chance (the share wrong when everyone
           gets the most frequent reading), distinct_readings (different readings among the groups), and of the groups
           fewer_wrong (how much less often the segment is wrong, in pairs, 95 %)
    """
    group = groups.get("demographic")
    if group is None:
        return pd.DataFrame(columns=PREDICTOR_COLUMNS)
    index = signals.features.index
    has_group = group.reindex(index).notna().to_numpy()
    if has_group.sum() < MIN_PREDICTED:
        return pd.DataFrame(columns=PREDICTOR_COLUMNS)
    ours, theirs = segment.reindex(index).to_numpy()[has_group], group.reindex(index).astype(str).to_numpy()[has_group]
    rows = []
    for reading, truth in _target_values(signals, needs=needs).items():
        truth = truth[has_group]
        has_target = truth != ""
        teach = np.random.default_rng([seed, 53]).permutation(has_target.sum()) % 2 == 0
        own = _predict_from_group("ours", reading, ours[has_target], truth[has_target], train=teach)
        other = _predict_from_group("demographic", reading, theirs[has_target], truth[has_target], train=teach)
        rows += [own[0], {**other[0], **_error_difference(other[1].astype(float) - own[1])}]
    return pd.DataFrame(rows).reindex(columns=PREDICTOR_COLUMNS).round(9)


def _target_values(signals: CustomerData, *, needs: pd.DataFrame | None) -> dict[str, np.ndarray]:
    """What is to be read of each customer; "" where nothing is there to read."""
    found = {}
    if needs is not None:
        found["need"] = _main_term(needs.to_numpy(), np.array([n.removeprefix("needs: ") for n in needs]))
    elif signals.weights is not None:
        weights, names, _words = nameable_weights(signals)
        terms = most_common_terms(weights, names, max_terms=MAX_PREDICTED_TERMS, min_buyers=20)
        if len(terms) > 1:
            found["need"] = _main_term(mix_shares(weights, names, terms=terms)[0], np.array(terms))
    if "spend" in signals.features:
        found["spend"] = np.array(["low", "middle", "high"])[rank_groups(signals.features["spend"], parts=SPEND_TIERS)]
    return found


def _main_term(shares: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The thing each customer has most of, against what is usual of it."""
    spread = shares.std(axis=0)
    over = np.round((shares - shares.mean(axis=0)) / np.where(spread > 0, spread, 1.0), 9)
    return np.where(shares.sum(axis=1) > 0, names[over.argmax(axis=1)], "")


def _predict_from_group(
    grouping: str, target_name: str, group: np.ndarray, target: np.ndarray, *, train: np.ndarray
) -> tuple[dict[str, object], np.ndarray]:
    """How one grouping reads, and for each customer read whether it was wrong."""
    taught = pd.DataFrame({"group": group[train], "truth": target[train]})
    usual = _mode(taught["truth"])
    predicted_by_group = taught.groupby("group")["truth"].agg(_mode)
    read = pd.Series(group[~train]).map(predicted_by_group).fillna(usual).to_numpy()
    wrong = read != target[~train]
    share, low, high = proportion_interval(int(wrong.sum()), len(wrong))
    row = {
        "grouping": grouping,
        "label": GROUPING_LABELS[grouping],
        "reading": target_name,
        "words": PREDICTED_TARGETS[target_name],
    }
    row |= {
        "groups": len(predicted_by_group),
        "distinct_readings": predicted_by_group.nunique(),
        "customers": len(wrong),
    }
    row |= {"wrong": share, "wrong_low": low, "wrong_high": high, "chance": float((target[~train] != usual).mean())}
    return row, wrong


def _mode(values: pd.Series) -> str:
    """The most frequent value; of equally frequent ones the first by name."""
    counts = values.value_counts()
    return str(min(counts.index[counts == counts.max()]))


def _error_difference(difference: np.ndarray) -> dict[str, float]:
    middle, half = difference.mean(), Z95 * difference.std(ddof=1) / np.sqrt(len(difference))
    return {"fewer_wrong": float(middle), "fewer_low": float(middle - half), "fewer_high": float(middle + half)}
