"""Learn needs: groups of things that the same customers buy beyond what their spend explains.

A thing is a category (or a word of a free-text one) or an item. Things that are bought by the same customers, and on
the same days, lie close on a UMAP plane (McInnes et al. 2018); HDBSCAN (Campello et al. 2013) finds the dense groups in
it, in the planes of many subsamples of the customers, fine and coarse. A need is a group that these agree on: a
consensus of clusterings (Strehl & Ghosh 2002; Monti et al. 2003), whose borders likeness itself helps to draw.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from threadpoolctl import threadpool_limits

from segkit.customers.category_mix import align_terms, term_weights
from segkit.customers.features import Bought, CustomerData
from segkit.customers.likeness import likeness, likeness_without, replication
from segkit.customers.plane import FEWEST_MAPPED, draw_similar, find_dense
from segkit.customers.purchases import Purchases as Purchases
from segkit.customers.purchases import purchases_of_customers as purchases_of_customers
from segkit.customers.purchases import purchases_of_days as purchases_of_days
from segkit.data.runs import Run
from segkit.format import FLOOR, suppressed_cells
from segkit.stats import adjusted_rand, mean_interval, proportion_interval

N_BAGS, BAG_SHARE = 10, 0.8  # subsamples of the customers, each drawn on a plane
LIKENESS_WEIGHT = 0.5  # of likeness itself, against how often things are in one cluster: groups keep their borders
EARLIER_WEIGHT = 0.25  # votes of an earlier run's needs, against those of the subsamples
MAP_EPOCHS = 300  # of the plane that is shown
MIN_OWN = 0.5  # likeness to the rest of its need, against that of the need's median thing; below, a thing has no need
LARGEST_SHARE = 0.2  # of spend; a larger need counts against a number of groups
FEWEST_NEEDS, MOST_NEEDS = 5, 24  # before small ones are joined
SMALLEST_SHARE = 0.01  # of spend; a smaller group joins the one it is closest to
MIN_REPLICATION = 0.15  # correlation of the similarities in two halves of the customers; below, no need stands out
SAME_NEED = 0.5  # share of spend in common from which a group is the need of an earlier run
PREFIX = "needs: "  # begin of the features that are shares of a need
DECIMALS = 9


@dataclass(frozen=True)
class Needs:
    """Hold the needs of a run.

    Parameters
    ----------
    ids, names
        Id (N01, kept from run to run) and name of each need, the one with most spend first.
    things, words
        What they are made of, and whether these are words of names.
    need_of
        Number of the need of each thing.
    spend, buyers, stability
        By need: share of what was bought, customers who bought any of it, and how often its things came out together
        in the subsamples (0-1).
    weight
        Share of each thing in the spend on its need.
    plane
        Place of each thing on the UMAP plane (things x 2).
    agreement
        Mean adjusted Rand index between the needs and the clusters of HDBSCAN in each subsample.
    noise_share
        Mean share of things that HDBSCAN left out.
    coverage
        Share of what was bought that belongs to a need.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    things: tuple[str, ...]
    words: bool
    need_of: np.ndarray
    spend: np.ndarray
    buyers: np.ndarray
    stability: np.ndarray
    weight: np.ndarray
    plane: np.ndarray
    agreement: float
    noise_share: float
    coverage: float


def learn_needs(
    purchases: Purchases | None,
    *,
    previous: Needs | None = None,
    bags: int = N_BAGS,
    drawn: bool = True,
    seed: int = 7,
) -> Needs | None:
    """Learn needs: groups of things that subsamples of the customers agree on.

    Parameters
    ----------
    purchases
        What was bought before ``as_of``.
    previous
        Needs of an earlier run: they vote as subsamples do, and a group that continues one has its id and name.
    bags
        Subsamples; more make needs steadier, and take longer.
    drawn
        Whether the things are placed on the plane that is shown; else their places are zeros.
    seed
        The same seed gives the same needs on one machine.

    Returns
    -------
    Needs or None
        As many as the data holds, each named by its two largest things; None where nothing stands out: fewer than two
        things, or customers whose choices do not repeat from one half of them to the other.
    """
    if purchases is None or len(purchases.things) < 2 or len(purchases.customers) < 2 * FLOOR:
        return None
    with threadpool_limits(1):  # matrices are small: more threads take twice the time, and other bytes
        few = len(purchases.things) <= FEWEST_MAPPED
        if not few and replication(purchases.amounts, seed=seed) < MIN_REPLICATION:
            return None
        labels, alike = _cluster_bags(purchases, bags=bags, seed=seed)
        votes = labels if previous is None else np.vstack([labels, _earlier_votes(purchases, previous, labels=labels)])
        together = _share_together(votes, alike)
        spend = purchases.amounts.sum(axis=0)
        closeness = (1 - LIKENESS_WEIGHT) * together + LIKENESS_WEIGHT * np.clip(alike, 0.0, 1.0)
        number = _steadiest_cut(closeness, together, spend=spend)
        number = number if few else _leave_out(number, alike)
        plane = draw_similar(closeness, epochs=MAP_EPOCHS, seed=seed) if drawn else np.zeros((len(spend), 2))
        made = _needs_of_groups(purchases, number, together=together, labels=labels, plane=plane)
    return made if previous is None else _continue_needs(made, previous)


def _cluster_bags(purchases: Purchases, *, bags: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the things in each subsample; return labels (clusterings x things, -1 noise) and the mean likeness."""
    customers, labels, total = len(purchases.customers), [], 0.0
    dealt = (np.random.default_rng([seed, bag]).permutation(customers) for bag in range(bags))
    subsamples = likeness_without(
        purchases.amounts,
        purchases.baskets,
        purchases.basket_customer,
        left_out=(rows[int(BAG_SHARE * customers) :] for rows in dealt),
    )
    for bag, alike in enumerate(subsamples):
        total = total + alike
        labels += find_dense(alike, seed=10000 * seed + bag)
    return np.array(labels), total / bags


def _earlier_votes(purchases: Purchases, previous: Needs, *, labels: np.ndarray) -> np.ndarray:
    """Return the needs of an earlier run as clusterings (-1 for new things), a share of all votes."""
    known = dict(zip(previous.things, previous.need_of.tolist(), strict=True))
    earlier = np.array([known.get(thing, -1) for thing in purchases.things])
    return np.tile(earlier, (max(1, round(EARLIER_WEIGHT * len(labels))), 1))


def _share_together(labels: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Return the share of subsamples in which two things are in one cluster, of those in which both are in any."""
    inside = (labels >= 0).astype(float)
    both = inside.T @ inside
    same = sum((row[:, None] == row[None, :]) & (row >= 0)[:, None] for row in labels).astype(float)
    together = np.where(both > 0, same / np.maximum(both, 1.0), np.clip(similarity, 0.0, 1.0))
    together = (together + together.T) / 2
    np.fill_diagonal(together, 1.0)
    return together


def _steadiest_cut(closeness: np.ndarray, together: np.ndarray, *, spend: np.ndarray) -> np.ndarray:
    """Cut a tree of things into the number of groups that agrees best with what comes out together."""
    most = min(MOST_NEEDS, len(spend))
    tree = linkage(squareform(1.0 - closeness, checks=False), "average")
    best, highest = np.zeros(len(spend), dtype=int), -np.inf
    for groups in range(min(FEWEST_NEEDS, most), most + 1):
        number = _join_small(fcluster(tree, groups, criterion="maxclust") - 1, closeness, spend=spend)
        largest = np.bincount(number, weights=spend).max() / max(spend.sum(), 1e-12)
        score = round(_pair_agreement(number, together) - max(largest - LARGEST_SHARE, 0.0), 6)
        if score > highest:
            best, highest = number, score
    return best


def _pair_agreement(number: np.ndarray, together: np.ndarray) -> float:
    """Return the adjusted Rand index between groups and shares of subsamples in which two things are together."""
    above = np.triu_indices(len(number), 1)
    own, voted = (number[:, None] == number[None, :])[above].astype(float), together[above]
    expected, most = own.sum() * voted.mean(), (own.sum() + voted.sum()) / 2
    return float((own @ voted - expected) / max(most - expected, 1e-12))


def _agreement(number: np.ndarray, votes: np.ndarray) -> float:
    """Return the mean adjusted Rand index between groups and clusterings, over the things that are in a cluster."""
    return float(np.mean([adjusted_rand(number[row >= 0], row[row >= 0]) for row in votes]))


def _join_small(number: np.ndarray, together: np.ndarray, *, spend: np.ndarray) -> np.ndarray:
    """Join groups that take too little of the spend to the group their things come out with most often."""
    while True:
        number = np.unique(number, return_inverse=True)[1]
        share = np.bincount(number, weights=spend) / max(spend.sum(), 1e-12)
        smallest = int(share.argmin())
        if share[smallest] >= SMALLEST_SHARE or len(share) <= 2:
            return number
        own = number == smallest
        near = [together[np.ix_(own, number == g)].mean() if g != smallest else -1.0 for g in range(len(share))]
        number = np.where(own, int(np.argmax(near)), number)


def _leave_out(number: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Put things outside all needs (-1) that are alone, or far less like the rest of theirs than the median thing."""
    same = (number[:, None] == number[None, :]) & ~np.eye(len(number), dtype=bool)
    own = (alike * same).sum(axis=1) / np.maximum(same.sum(axis=1), 1)
    median = np.array([np.median(own[number == g]) for g in range(number.max() + 1)])[number]
    inside = np.where(same.any(axis=1) & (own >= MIN_OWN * median), number, -1)
    kept, again = np.unique(inside, return_inverse=True)
    return again - int(kept[0] < 0)


def _needs_of_groups(
    purchases: Purchases, number: np.ndarray, *, together: np.ndarray, labels: np.ndarray, plane: np.ndarray
) -> Needs:
    """Put together the needs of groups of things, largest spend first; -1 belongs to none."""
    kept, noise_share = np.flatnonzero(number >= 0), float((labels < 0).mean())
    amounts, labels, together = purchases.amounts[:, kept], labels[:, kept], together[np.ix_(kept, kept)]
    things, by_thing = tuple(purchases.things[i] for i in kept), amounts.sum(axis=0)
    coverage = float(purchases.coverage * by_thing.sum() / max(purchases.amounts.sum(), 1e-12))
    total = np.bincount(number[kept], weights=by_thing)
    order = np.argsort(-total, kind="stable")
    number, total = np.argsort(order)[number[kept]], total[order]
    inside = [np.flatnonzero(number == g) for g in range(len(total))]
    pairs = [together[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)] for rows in inside]
    largest = [rows[np.argsort(-by_thing[rows], kind="stable")[:2]] for rows in inside]
    return Needs(
        ids=tuple(f"N{g + 1:02d}" for g in range(len(total))),
        names=tuple(", ".join(things[i].lower() for i in rows) for rows in largest),
        things=things,
        words=purchases.words,
        need_of=number,
        spend=total / max(total.sum(), 1e-12) * coverage,
        buyers=np.array([(amounts[:, rows] > 0).any(axis=1).sum() for rows in inside]),
        stability=np.array([pair.mean() if len(pair) else 1.0 for pair in pairs]),
        weight=by_thing / np.maximum(total, 1e-12)[number],
        plane=plane[kept],
        agreement=_agreement(number, labels),
        noise_share=noise_share,
        coverage=coverage,
    )


def needs_without_hdbscan(purchases: Purchases, needs: Needs) -> Needs:
    """Return as many groups by average linkage of the same likeness, without UMAP and HDBSCAN: an ablation."""
    position = pd.Index(purchases.things).get_indexer(list(needs.things))
    amounts = np.where(position >= 0, purchases.amounts[:, position], 0.0)
    distance = 1.0 - likeness(amounts, purchases.baskets[:, position])
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.maximum(distance, 0.0), checks=False), "average")
    return _regrouped(needs, fcluster(tree, len(needs.ids), criterion="maxclust") - 1)


def shuffled_needs(needs: Needs, *, seed: int) -> Needs:
    """Return groups of the same sizes with things at random: an ablation."""
    return _regrouped(needs, np.random.default_rng([seed, 77]).permutation(needs.need_of))


def _regrouped(needs: Needs, need_of: np.ndarray) -> Needs:
    """Return needs with their things in other groups."""
    count = int(need_of.max()) + 1
    return replace(needs, ids=needs.ids[:count], names=needs.names[:count], need_of=need_of)


def _continue_needs(needs: Needs, previous: Needs) -> Needs:
    """Give needs that continue earlier ones their ids and names; others get unused ids."""
    known = dict(zip(previous.things, previous.need_of, strict=True))
    earlier = np.array([known.get(thing, -1) for thing in needs.things])
    spend = needs.weight * needs.spend[needs.need_of]
    shared = np.zeros((len(needs.ids), len(previous.ids)))
    inside = earlier >= 0
    np.add.at(shared, (needs.need_of[inside], earlier[inside]), spend[inside])
    union = shared.sum(axis=1)[:, None] + shared.sum(axis=0)[None, :] - shared
    overlap = shared / np.maximum(union, 1e-12)
    used = max(int(i[1:]) for i in previous.ids)
    ids, names = [""] * len(needs.ids), list(needs.names)
    for new, old in sorted(np.argwhere(overlap >= SAME_NEED).tolist(), key=lambda pair: -overlap[pair[0], pair[1]]):
        if not ids[new] and previous.ids[old] not in ids:
            ids[new], names[new] = previous.ids[old], previous.names[old]
    for new in range(len(ids)):
        if not ids[new]:
            used += 1
            ids[new] = f"N{used:02d}"
    return replace(needs, ids=tuple(ids), names=tuple(names))


def category_shares(needs: Needs, categories: list[str]) -> np.ndarray:
    """Return how much of each category belongs to each need (categories x needs), by the known words of free text."""
    split, names = term_weights(sparse.csr_array(sparse.eye_array(len(categories))), categories, words=needs.words)
    matched = align_terms(split, names, to=list(needs.things))
    to_need = np.zeros((len(needs.things), len(needs.ids)))
    to_need[np.arange(len(needs.things)), needs.need_of] = 1.0
    count = np.asarray(matched.sum(axis=1)).ravel()
    return (matched @ to_need) / np.where(count > 0, count, 1.0)[:, None]


def need_amounts(needs: Needs, bought: Bought) -> np.ndarray:
    """Sum what was bought by thing into what was bought by need (customers x needs); other things are left out."""
    weights, things = bought
    return np.maximum(weights @ category_shares(needs, list(things)), 0.0)


def need_shares(needs: Needs | None, customers: CustomerData) -> pd.DataFrame:
    """Compute the share of each need in what each customer bought.

    Parameters
    ----------
    needs
        Of ``learn_needs``; None gives a table without columns.
    customers
        At any date; categories unknown to the needs belong to none.

    Returns
    -------
    pd.DataFrame
        By customer_id: "needs: <name>", shares 0-1 of everything bought; zeros for customers who bought nothing.
    """
    if needs is None or customers.things[0] is None:
        return pd.DataFrame(index=customers.features.index)
    whole = np.asarray(customers.things[0].sum(axis=1)).ravel()
    values = need_amounts(needs, customers.things) / np.where(whole > 0, whole, 1.0)[:, None]
    columns = [PREFIX + name for name in needs.names]
    return pd.DataFrame(values, index=customers.features.index, columns=columns).round(DECIMALS)


def need_table(needs: Needs, shares: pd.DataFrame) -> pd.DataFrame:
    """Describe needs, as a run stores them.

    Parameters
    ----------
    needs
        Of ``learn_needs``.
    shares
        Of ``need_shares``, for the customers of today.

    Returns
    -------
    pd.DataFrame
        need, name, things (number), spend_share, buyers, stability, share (mean over customers who bought) with
        share_low and share_high (95 %), main (share of customers whose largest lead it is; null
        where they are few) with main_low and main_high.
    """
    bought = shares[shares.sum(axis=1) > 0]
    leads = (np.sqrt(bought) - np.sqrt(bought).mean()).to_numpy()
    largest = leads.argmax(axis=1) if len(leads) else np.zeros(0, dtype=int)
    sizes = np.bincount(largest, minlength=len(needs.ids))
    hides, hidden = suppressed_cells(sizes), (np.nan,) * 3
    table = pd.DataFrame({"need": needs.ids, "name": needs.names})
    table["things"] = np.bincount(needs.need_of, minlength=len(needs.ids))
    table["spend_share"], table["buyers"] = needs.spend.round(6), needs.buyers
    table["stability"] = needs.stability.round(6)
    for name, found in (
        ("share", [mean_interval(bought[column]) for column in bought]),
        (
            "main",
            [hidden if hide else proportion_interval(n, len(bought)) for n, hide in zip(sizes, hides, strict=True)],
        ),
    ):
        for part, values in zip(("", "_low", "_high"), zip(*found, strict=True), strict=True):
            table[name + part] = np.round(values, 6)
    return table


def thing_table(needs: Needs) -> pd.DataFrame:
    """List the things of each need: thing, need, weight (share of the need's spend), and x and y on the map."""
    table = pd.DataFrame({"thing": needs.things, "need": np.array(needs.ids, dtype=object)[needs.need_of]})
    table["weight"] = needs.weight.round(6)
    table["x"], table["y"] = needs.plane.round(6).T
    return table.sort_values(["need", "weight", "thing"], ascending=[True, False, True], ignore_index=True)


ARRAYS = ("need_of", "spend", "buyers", "stability", "weight", "plane")


def needs_to_arrays(needs: Needs) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return needs as arrays and metadata for the model; ``needs_from_arrays`` reads them."""
    meta = {name: value for name, value in vars(needs).items() if name not in ARRAYS}
    return {name: getattr(needs, name) for name in ARRAYS}, {
        name: list(value) if isinstance(value, tuple) else value for name, value in meta.items()
    }


def needs_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> Needs:
    """Rebuild needs from arrays and metadata."""
    texts = {name: tuple(meta[name]) for name in ("ids", "names", "things")}
    figures = {name: float(meta[name]) for name in ("agreement", "noise_share", "coverage")}
    return Needs(**texts, **figures, words=bool(meta["words"]), **{name: arrays[name] for name in ARRAYS})


def load_needs(run: Run) -> Needs | None:
    """Load the needs of a run; None where it learnt none."""
    if not (run.path / "model" / "needs.npz").is_file():
        return None
    return needs_from_arrays(*run.load_model(part="needs"))
