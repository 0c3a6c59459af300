"""Topics: what customers say in their own words, beside what they buy; a wish that no purchase answers is unmet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis.expr.types as ir
import numpy as np
import pandas as pd
from sklearn.decomposition import non_negative_factorization
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from segkit.period import Period
from segkit.small_groups import FLOOR
from segkit.stats import Z95

TOPICS = 12
FEWEST_WRITERS = FLOOR  # of a segment; what fewer say is not told, and a word that fewer texts hold is no topic
FEWEST_TEXTS = 100
ROUNDS = 200  # of the factorisation
NAMED_BY = 3  # words that name a topic
FAINT = 0.2  # of the strongest word; a fainter one does not belong to the topic
LEAST = 0.05  # difference of shares that is worth a word
COMPLAINTS = frozenset(
    "bad broken but cannot complain difficult disappointed disappointing dont error expensive fail failed fails "
    "fix hard help improve lacking late less long lower miss missing more must need needs never no not only out please "
    "poor problem queue should slow sold stock stop too unable up wait want wants when why wish without wrong".split()
)
COLUMNS = ["segment", "topic", "share", "others", "difference", "low", "high", "writers", "wish", "unmatched"]


@dataclass(frozen=True)
class Spoken:
    """What was said: one row a text (customer_id, text), its topic (-1: none), and the words of each topic."""

    texts: pd.DataFrame
    topic: np.ndarray
    words: tuple[tuple[str, ...], ...]


def said_by(events: ir.Table, *, period: Period) -> pd.DataFrame:
    """What customers wrote in the lookback: customer_id and text, sorted; empty where events carry no text."""
    if "text" not in events.columns:
        return pd.DataFrame(columns=["customer_id", "text"])
    inside = (events.day >= period.lookback_start) & (events.day < period.as_of)
    inside = events.filter(events.text.notnull() & inside)
    table = inside.select("customer_id", "text").to_pandas()
    return table.sort_values(["customer_id", "text"], ignore_index=True)


def learn_topics(texts: pd.DataFrame, *, count: int = TOPICS, seed: int = 7) -> Spoken | None:
    """Topics of the texts: TF-IDF of words, and the factorisation that finds needs (Lee & Seung 1999).

    Takes  customer_id, text
    Gives  Spoken; None where there are too few texts to speak of

    Parameters
    ----------
    count : more topics are finer
    """
    if len(texts) < FEWEST_TEXTS:
        return None
    reader = TfidfVectorizer(
        stop_words=sorted(ENGLISH_STOP_WORDS), min_df=FEWEST_WRITERS, token_pattern=r"[^\W\d_]{3,}"
    )
    try:
        weights = reader.fit_transform(texts["text"])
    except ValueError:  # no word that so many texts hold
        return None
    count = min(count, weights.shape[1] - 1, weights.shape[0] - 1)
    if count < 2:
        return None
    loads, factors, _rounds = non_negative_factorization(
        weights, n_components=count, init="nndsvda", random_state=seed, max_iter=ROUNDS, tol=0.0
    )
    names = reader.get_feature_names_out()
    topic = np.where(loads.max(axis=1) > 0, np.round(loads, 9).argmax(axis=1), -1)
    return Spoken(texts=texts, topic=topic, words=tuple(_strong(row, names) for row in np.round(factors, 9)))


def segment_topics(
    topics: Spoken | None, segment: pd.Series, *, bought: Mapping[str, Sequence[str]] | None = None
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
        return pd.DataFrame(columns=COLUMNS)
    texts = topics.texts.assign(topic=topics.topic, segment=topics.texts["customer_id"].map(segment))
    texts = texts[texts["segment"].notna()]
    about = pd.crosstab(texts["customer_id"], texts["topic"]).gt(0).astype(float)
    of = about.index.map(segment)
    rows = []
    for name in sorted(set(of)):
        inside = np.asarray(of == name)
        if inside.sum() >= FEWEST_WRITERS and (~inside).sum() >= FEWEST_WRITERS:
            words = {w for term in (bought or {}).get(name, ()) for w in term.lower().split()}
            rows += _surest(
                name, about, inside, segment_texts=texts[texts["segment"] == name], topics=topics, bought=words
            )
    return pd.DataFrame(rows, columns=COLUMNS).astype({"wish": bool, "unmatched": bool}).round(9)


def _strong(row: np.ndarray, names: np.ndarray) -> tuple[str, ...]:
    """The words that make up a topic; one whose words all but one are faint is small talk, and has but one."""
    order = np.argsort(-row, kind="stable")[: 2 * NAMED_BY]
    return tuple(str(names[i]) for i in order if row[i] >= FAINT * row.max())


def _surest(
    name: str, about: pd.DataFrame, inside: np.ndarray, *, segment_texts: pd.DataFrame, topics: Spoken, bought: set[str]
) -> list[tuple]:
    here, there = about[inside].mean(), about[~inside].mean()
    half = Z95 * np.sqrt(here * (1 - here) / inside.sum() + there * (1 - there) / (~inside).sum())
    small_talk = [t for t in about.columns if t == -1 or len(topics.words[t]) < 2]
    low = (here - there - half).drop(small_talk).round(9)
    topic = low.idxmax() if len(low) else None
    if topic is None or low[topic] <= 0 or here[topic] - there[topic] < LEAST:
        return []
    words = topics.words[topic]
    texts = segment_texts.loc[segment_texts["topic"] == topic, "text"].str.lower().str.findall(r"[^\W\d_]+")
    wish = bool(texts.map(lambda text_words: bool(COMPLAINTS & set(text_words))).mean() > 0.5)
    gap = here[topic] - there[topic]
    matched = any(stem(word) in {stem(b) for b in bought} for word in words)
    ends = (gap, gap - half[topic], gap + half[topic], int(inside.sum()))
    return [(name, ", ".join(words[:NAMED_BY]), here[topic], there[topic], *ends, wish, wish and not matched)]


def stem(word: str) -> str:
    """A word without its plural ending, so that "invoices" meets "invoice".

    >>> stem("invoices"), stem("batteries"), stem("glass")
    ('invoice', 'battery', 'glass')
    """
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
