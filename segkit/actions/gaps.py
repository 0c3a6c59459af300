"""Unmet needs: what similar customers buy and a segment does not, measured on members who did not choose it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from segkit.actions.signals import FEWEST_BUYERS, PHRASES, TERMS, told_weights
from segkit.customers.features import Signals
from segkit.customers.terms import most_common
from segkit.small_groups import FLOOR
from segkit.stats import Z95

PEERS = 10  # nearest customers of other segments that a member is held against
MOST_OTHERS = 20_000  # of whom the peers are looked for; more cost time and change little
FEWEST_MEMBERS = 2 * FLOOR  # half of them choose, half of them measure
LEAST_GAP = 0.03  # share of buyers; a smaller gap is no reason to act
COLUMNS = ["segment", "term", "buyers", "peers", "difference", "difference_low", "difference_high", "members"]


def unmet_needs(
    signals: Signals, segment: pd.Series, *, axes: pd.DataFrame, named_needs: Mapping[str, Sequence[str]], seed: int = 7
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
        return pd.DataFrame(columns=COLUMNS)
    weights, names, words = told_weights(signals)
    terms = most_common(weights, names, max_terms=PHRASES if words else TERMS, min_buyers=FEWEST_BUYERS)
    place = {name: i for i, name in enumerate(names)}
    bought = (weights[:, [place[t] for t in terms]] > 0).astype(np.float32)
    points, labels = axes.to_numpy(), segment.to_numpy()
    rows = []
    for number, name in enumerate(sorted(set(labels))):
        inside = np.flatnonzero(labels == name)
        if len(inside) < FEWEST_MEMBERS or len(labels) - len(inside) < PEERS:
            continue
        rng = np.random.default_rng([seed, 41, number])
        lacks = _lacks(points, bought, inside=inside, others=np.flatnonzero(labels != name), rng=rng)
        named_words = (
            {word for term in named_needs.get(name, ()) for word in term.split()}
            if words
            else set(named_needs.get(name, ()))
        )
        barred = np.array([bool({*t.split()} & named_words) if words else t in named_words for t in terms])
        rows += _widest(name, terms, *lacks, barred=barred, rng=rng)
    return pd.DataFrame(rows, columns=COLUMNS).round(9)


def _lacks(
    points: np.ndarray, bought: np.ndarray, *, inside: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each member and term: whether they buy it, and the share of their peers who do."""
    others = np.sort(rng.permutation(others)[:MOST_OTHERS])
    near = NearestNeighbors(n_neighbors=PEERS, n_jobs=1).fit(points[others]).kneighbors(points[inside])[1]
    peers = sum(bought[others[near[:, k]]] for k in range(PEERS)) / PEERS
    return bought[inside].toarray(), peers.toarray()


def _widest(
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
    if sure[best] <= 0 or middle - half <= 0 or middle < LEAST_GAP:
        return []
    shares = float(own[measuring, best].mean()), float(peers[measuring, best].mean())
    return [(name, terms[best], *shares, middle, middle - half, middle + half, len(measuring))]
