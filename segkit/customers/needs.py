"""Learn needs: groups of things that the same customers buy beyond what their spend explains.

A thing is a category (or a word of a free-text one). Things that are bought by the same customers, and on the same
days, lie close on a UMAP plane; HDBSCAN finds the dense groups in it, in many subsamples of the customers; a need is a
group that the subsamples agree on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import ibis
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from segkit.customers.category_mix import align_terms, term_weights
from segkit.customers.days import Days
from segkit.customers.features import CustomerData
from segkit.customers.plane import draw_plane
from segkit.data.runs import Run
from segkit.format import FLOOR
from segkit.stats import hash_sample, mean_interval, proportion_interval

MAX_THINGS = 600  # that needs are learnt from, those with most buyers
MIN_BUYER_SHARE, MAX_MIN_BUYERS = 0.02, 100  # of customers who bought a thing; never fewer than FLOOR
MIN_COVERAGE = 0.5  # share of spend that whole categories must cover, else their words are the things
N_BAGS, BAG_SHARE = 16, 0.8  # subsamples of the customers
BASKET_WEIGHT = 0.4  # of what is bought on the same day, against what is bought by the same customer
DIRECTIONS = (12, 16, 20, 24, 28)  # eigenvectors that similarity is read in; averaged, as none is the right number
BASKET_PRIOR = 1.0  # pairs added to each observed and expected count
UMAP_NEIGHBOURS, UMAP_EPOCHS = 8, 300
CLUSTER_SHARE, MIN_CLUSTER, MIN_SAMPLES = 0.024, 3, 2  # things in the smallest cluster
FEWEST_NEEDS, MOST_NEEDS = 5, 20
SMALLEST_SHARE = 0.01  # of spend; a smaller group joins the one it is closest to
MIN_REPLICATION = 0.15  # correlation of the similarities in two halves of the customers; below, no need stands out
SAME_NEED = 0.5  # share of spend in common from which a group is the need of an earlier run
PREFIX = "needs: "  # begin of the features that are shares of a need
DECIMALS = 9


@dataclass(frozen=True)
class Purchases:
    """Hold what needs are learnt from.

    Parameters
    ----------
    customers
        Ids, in the order of the rows of ``amounts``.
    things, words
        Names of the things, and whether they are words of category names.
    amounts
        Customers x things: net amount, or lines without money.
    baskets, basket_customer
        Which things were bought on the same day (days x things, 0 or 1), and the row of the customer.
    coverage
        Share of what was bought that belongs to a thing.
    """

    customers: pd.Index
    things: tuple[str, ...]
    words: bool
    amounts: np.ndarray
    baskets: sparse.csr_array
    basket_customer: np.ndarray
    coverage: float

    def select(self, customers: pd.Index) -> "Purchases":
        """Return what some customers bought."""
        chosen = self.customers.isin(customers)
        rows = np.flatnonzero(chosen)
        inside = np.flatnonzero(chosen[self.basket_customer])
        new_row = np.cumsum(chosen) - 1
        return replace(
            self,
            customers=self.customers[rows],
            amounts=self.amounts[rows],
            baskets=self.baskets[inside],
            basket_customer=new_row[self.basket_customer[inside]],
        )


@dataclass(frozen=True)
class Needs:
    """Hold the needs of a run.

    Parameters
    ----------
    ids, names
        Id (N01, kept from run to run) and name of each need, the one with most spend first.
    things, words
        What they are made of, and whether these are words of category names.
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


def purchases_of_days(days: Days, *, before: date, customers: pd.Index | None = None) -> Purchases | None:
    """Collect what was bought before a date; None without categories, or with fewer than two common things.

    Parameters
    ----------
    days
        Any span; rows on or after ``before`` are not read.
    before
        The ``as_of`` of the customers.
    customers
        Whose purchases are read; by default a sample of all.
    """
    if days.categories is None:
        return None
    rows = days.categories.filter((days.categories.day < ibis.literal(before)) & (days.categories.lines > 0))
    if customers is None:
        ids = sorted(rows.select("customer_id").distinct().to_pandas()["customer_id"])
        customers = pd.Index(ids, name="customer_id")[hash_sample(ids)]
    wanted = ibis.memtable(pd.DataFrame({"customer_id": customers}))
    weight = rows.amount if "amount" in rows.columns else rows.lines
    table = rows.semi_join(wanted, "customer_id").select(
        "customer_id", "day", "category", weight=weight.cast("float64")
    )
    bought = table.to_pandas().sort_values(["customer_id", "day", "category"], ignore_index=True)
    if bought.empty:
        return None
    category = pd.Categorical(bought["category"])
    basket = bought.groupby(["customer_id", "day"], sort=True).ngroup().to_numpy()
    row = pd.Index(customers).get_indexer(bought["customer_id"])
    first = np.unique(basket, return_index=True)[1]
    shape = int(basket.max()) + 1, len(category.categories)
    amounts = sparse.csr_array((bought["weight"].clip(lower=0), (row, category.codes)), (len(customers), shape[1]))
    baskets = sparse.csr_array((np.ones(len(bought)), (basket, category.codes)), shape)
    return _common_things(pd.Index(customers), amounts, baskets, row[first], names=list(category.categories))


def purchases_of_customers(customers: CustomerData) -> Purchases | None:
    """Collect what customers bought from their amounts by category, where days are not at hand."""
    if customers.weights is None:
        return None
    empty = sparse.csr_array((0, len(customers.categories)))
    amounts = sparse.csr_array(customers.weights)
    names, rows = list(customers.categories), np.zeros(0, dtype=int)
    return _common_things(customers.features.index, amounts, empty, rows, names=names)


def _common_things(
    customers: pd.Index, amounts: sparse.csr_array, baskets: sparse.csr_array, row: np.ndarray, *, names: list[str]
) -> Purchases | None:
    """Choose the things: whole categories where the common ones cover what is bought, else their words."""
    rarest = int(np.clip(MIN_BUYER_SHARE * len(customers), FLOOR, MAX_MIN_BUYERS))
    total = amounts.sum()
    for words in (False, True):
        by_thing, terms = term_weights(amounts, names, words=words)
        buyers = np.asarray((by_thing > 0).sum(axis=0)).ravel()
        order = np.lexsort((terms, -buyers))[:MAX_THINGS]
        common = np.sort(order[buyers[order] >= rarest])
        covered = float(amounts[:, _any_term(names, terms, common, words=words)].sum() / total) if total > 0 else 0.0
        if covered >= MIN_COVERAGE or words:
            break
    if len(common) < 2:
        return None
    in_baskets = term_weights(baskets, names, words=words)[0][:, common]
    in_baskets.data[:] = 1.0
    things, matrix = tuple(terms[i] for i in common), np.maximum(by_thing[:, common].toarray(), 0.0)
    return Purchases(customers, things, words, matrix, sparse.csr_array(in_baskets), row, covered)


def _any_term(names: list[str], terms: list[str], common: np.ndarray, *, words: bool) -> np.ndarray:
    """Flag the categories that are, or hold, a common thing."""
    if not words:
        return np.isin(np.arange(len(names)), common)
    split = term_weights(sparse.csr_array(np.eye(len(names))), names, words=True)[0]
    return np.asarray(split[:, common].sum(axis=1)).ravel() > 0


def learn_needs(
    purchases: Purchases | None, *, previous: Needs | None = None, bags: int = N_BAGS, seed: int = 7
) -> Needs | None:
    """Learn needs: groups of things that subsamples of the customers agree on.

    Parameters
    ----------
    purchases
        What was bought before ``as_of``.
    previous
        Needs of an earlier run; a group that continues one has its id and name.
    bags
        Subsamples; more make needs steadier, and take longer.
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
    count = len(purchases.things)
    if count > MIN_CLUSTER * 2 and not _replicates(purchases, seed=seed):
        return None
    labels, similarity = _cluster_bags(purchases, bags=bags, seed=seed)
    together = _share_together(labels, similarity)
    tree = linkage(squareform(1.0 - together, checks=False), "average")
    number = _steadiest_cut(tree, labels, count=count)
    number = _join_small(number, together, spend=purchases.amounts.sum(axis=0))
    made = _needs_of_groups(purchases, number, together=together, labels=labels, similarity=similarity, seed=seed)
    return made if previous is None else _continue_needs(made, previous, purchases=purchases)


def _cluster_bags(purchases: Purchases, *, bags: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the things in each subsample; return labels (bags x things, -1 noise) and the mean similarity."""
    customers, things = len(purchases.customers), len(purchases.things)
    labels, total = np.empty((bags, things), dtype=int), np.zeros((things, things))
    for bag in range(bags):
        rng = np.random.default_rng([seed, bag])
        rows = np.sort(rng.permutation(customers)[: int(BAG_SHARE * customers)])
        similarity = _similarity(purchases, rows)
        total += similarity
        labels[bag] = _dense_groups(similarity, seed=1000 * seed + bag)
    return labels, total / bags


def _similarity(purchases: Purchases, rows: np.ndarray) -> np.ndarray:
    """Return how alike things are (-1 to 1): bought by the same customers, and on the same days."""
    parts = [(1.0, _correlations(purchases.amounts[rows]))]
    chosen = np.zeros(len(purchases.customers), dtype=bool)
    chosen[rows] = True
    lift = _basket_lift(purchases.baskets[np.flatnonzero(chosen[purchases.basket_customer])])
    if lift is not None:
        parts = [(1 - BASKET_WEIGHT, parts[0][1]), (BASKET_WEIGHT, lift)]
    total = np.zeros_like(parts[0][1])
    for weight, matrix in parts:
        values, vectors = np.linalg.eigh(matrix)
        scaled = vectors * np.sqrt(np.maximum(values, 0.0))
        for width in DIRECTIONS:
            used = scaled[:, -min(width, max(2, len(matrix) // 2)) :]
            unit = used / np.maximum(np.linalg.norm(used, axis=1, keepdims=True), 1e-12)
            total += weight / len(DIRECTIONS) * (unit @ unit.T)
    return total


def _correlations(amounts: np.ndarray) -> np.ndarray:
    """Return the correlations between what customers bought of each thing beyond what their total explains."""
    return _correlate(_residuals(amounts))


def _correlate(values: np.ndarray) -> np.ndarray:
    """Return the correlations of columns; 0 with a constant one."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.corrcoef(values, rowvar=False))


def _residuals(amounts: np.ndarray) -> np.ndarray:
    """Return log(1 + amount) of each thing less what a customer's total explains (a quadratic), standardised."""
    logs, total = np.log1p(amounts), np.log1p(amounts.sum(axis=1))
    design = np.column_stack([np.ones_like(total), total, np.square(total)])
    rest = logs - design @ np.linalg.lstsq(design, logs, rcond=None)[0]
    spread = rest.std(axis=0)
    return rest / np.where(spread > 0, spread, 1.0)


def _basket_lift(baskets: sparse.csr_array) -> np.ndarray | None:
    """Return the log of observed over expected pairs on one day, each day of equal weight; None without pairs."""
    sizes = np.asarray(baskets.sum(axis=1)).ravel()
    baskets, sizes = baskets[sizes >= 2], sizes[sizes >= 2]
    if not len(sizes):
        return None
    pairs = (baskets.T @ sparse.diags_array(1.0 / (sizes - 1)) @ baskets).toarray()
    np.fill_diagonal(pairs, 0.0)
    margin = pairs.sum(axis=1)
    expected = np.outer(margin, margin) / margin.sum()
    lift = np.log((pairs + BASKET_PRIOR) / (expected + BASKET_PRIOR))
    np.fill_diagonal(lift, 0.0)
    return lift


def _dense_groups(similarity: np.ndarray, *, seed: int) -> np.ndarray:
    """Return the HDBSCAN cluster of each thing on a UMAP plane; each thing alone where they are few."""
    import hdbscan

    things = len(similarity)
    if things <= 2 * MIN_CLUSTER:
        return np.arange(things)
    plane = _thing_plane(similarity, seed=seed)
    smallest = max(MIN_CLUSTER, round(CLUSTER_SHARE * things))
    finder = hdbscan.HDBSCAN(
        min_cluster_size=smallest, min_samples=MIN_SAMPLES, cluster_selection_method="leaf", core_dist_n_jobs=1
    )
    return finder.fit_predict(plane)


def _thing_plane(similarity: np.ndarray, *, seed: int) -> np.ndarray:
    """Draw things on a plane, close where they are alike."""
    values, vectors = np.linalg.eigh(similarity)
    neighbours = int(np.clip(len(similarity) // 5, 2, UMAP_NEIGHBOURS))
    return draw_plane(vectors * np.sqrt(np.maximum(values, 0.0)), n_neighbors=neighbours, epochs=UMAP_EPOCHS, seed=seed)


def _replicates(purchases: Purchases, *, seed: int) -> bool:
    """Return whether the similarities of one half of the customers repeat in the other half."""
    rng, found = np.random.default_rng([seed, 99]), []
    for _ in range(3):
        order = rng.permutation(len(purchases.customers))
        halves = np.sort(order[::2]), np.sort(order[1::2])
        one, other = (_correlations(purchases.amounts[h]) for h in halves)
        above = np.triu_indices(len(one), 1)
        found.append(_correlate(np.column_stack([one[above], other[above]]))[0, 1])
    return bool(np.mean(found) >= MIN_REPLICATION)


def _share_together(labels: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Return the share of subsamples in which two things are in one cluster, of those in which both are in any."""
    inside = (labels >= 0).astype(float)
    both = inside.T @ inside
    same = sum((row[:, None] == row[None, :]) & (row >= 0)[:, None] for row in labels).astype(float)
    together = np.where(both > 0, same / np.maximum(both, 1.0), np.clip(similarity, 0.0, 1.0))
    together = (together + together.T) / 2
    np.fill_diagonal(together, 1.0)
    return together


def _steadiest_cut(tree: np.ndarray, labels: np.ndarray, *, count: int) -> np.ndarray:
    """Cut the tree into the number of groups that agrees best with the clusters of the subsamples."""
    most = min(MOST_NEEDS, count)
    cuts = [fcluster(tree, groups, criterion="maxclust") - 1 for groups in range(min(FEWEST_NEEDS, most), most + 1)]
    scores = [np.mean([adjusted_rand_score(cut[row >= 0], row[row >= 0]) for row in labels]) for cut in cuts]
    return cuts[int(np.argmax(np.round(scores, 6)))]


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


def _needs_of_groups(
    purchases: Purchases,
    number: np.ndarray,
    *,
    together: np.ndarray,
    labels: np.ndarray,
    similarity: np.ndarray,
    seed: int,
) -> Needs:
    """Put together the needs of groups of things, largest spend first."""
    by_thing = purchases.amounts.sum(axis=0)
    total = np.bincount(number, weights=by_thing)
    order = np.argsort(-total, kind="stable")
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    number, total = rank[number], total[order]
    inside = [np.flatnonzero(number == g) for g in range(len(total))]
    pairs = [together[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)] for rows in inside]
    names = [", ".join(purchases.things[i].lower() for i in _largest(rows, by_thing, most=2)) for rows in inside]
    return Needs(
        ids=tuple(f"N{g + 1:02d}" for g in range(len(total))),
        names=tuple(names),
        things=purchases.things,
        words=purchases.words,
        need_of=number,
        spend=total / max(total.sum(), 1e-12) * purchases.coverage,
        buyers=np.array([(purchases.amounts[:, rows] > 0).any(axis=1).sum() for rows in inside]),
        stability=np.array([pair.mean() if len(pair) else 1.0 for pair in pairs]),
        weight=by_thing / np.maximum(total, 1e-12)[number],
        plane=_thing_plane(similarity, seed=seed) if len(number) > 2 * MIN_CLUSTER else np.zeros((len(number), 2)),
        agreement=float(np.mean([adjusted_rand_score(number[row >= 0], row[row >= 0]) for row in labels])),
        noise_share=float((labels < 0).mean()),
        coverage=purchases.coverage,
    )


def _largest(rows: np.ndarray, spend: np.ndarray, *, most: int) -> np.ndarray:
    """Return the rows with most spend, the largest first."""
    return rows[np.argsort(-spend[rows], kind="stable")[:most]]


def needs_without_hdbscan(purchases: Purchases, needs: Needs) -> Needs:
    """Return as many groups by average linkage of the same similarities, without UMAP and HDBSCAN: an ablation."""
    distance = 1.0 - _similarity(purchases, np.arange(len(purchases.customers)))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.maximum(distance, 0.0), checks=False), "average")
    groups = fcluster(tree, len(needs.ids), criterion="maxclust") - 1
    return _regrouped(needs, groups)


def shuffled_needs(needs: Needs, *, seed: int) -> Needs:
    """Return groups of the same sizes with things at random: an ablation."""
    return _regrouped(needs, np.random.default_rng([seed, 77]).permutation(needs.need_of))


def _regrouped(needs: Needs, need_of: np.ndarray) -> Needs:
    """Return needs with their things in other groups."""
    count = int(need_of.max()) + 1
    return replace(needs, ids=needs.ids[:count], names=needs.names[:count], need_of=need_of)


def _continue_needs(needs: Needs, previous: Needs, *, purchases: Purchases) -> Needs:
    """Give needs that continue earlier ones their ids and names; others get unused ids."""
    known = dict(zip(previous.things, previous.need_of, strict=True))
    earlier = np.array([known.get(thing, -1) for thing in needs.things])
    spend = purchases.amounts.sum(axis=0)
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
    split, names = term_weights(sparse.csr_array(np.eye(len(categories))), categories, words=needs.words)
    matched = align_terms(split, names, to=list(needs.things))
    to_need = np.zeros((len(needs.things), len(needs.ids)))
    to_need[np.arange(len(needs.things)), needs.need_of] = 1.0
    count = np.asarray(matched.sum(axis=1)).ravel()
    return (matched @ to_need) / np.where(count > 0, count, 1.0)[:, None]


def need_amounts(needs: Needs, weights: sparse.csr_array, categories: tuple[str, ...]) -> np.ndarray:
    """Sum what was bought by category into what was bought by need (customers x needs); other things are left out."""
    return np.maximum(weights @ category_shares(needs, list(categories)), 0.0)


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
    if needs is None or customers.weights is None:
        return pd.DataFrame(index=customers.features.index)
    whole = np.asarray(customers.weights.sum(axis=1)).ravel()
    values = need_amounts(needs, customers.weights, customers.categories) / np.where(whole > 0, whole, 1.0)[:, None]
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
        share_low and share_high (95 %), main (share of customers whose largest lead it is) with main_low and main_high.
    """
    bought = shares[shares.sum(axis=1) > 0]
    leads = (np.sqrt(bought) - np.sqrt(bought).mean()).to_numpy()
    largest = leads.argmax(axis=1) if len(leads) else np.zeros(0, dtype=int)
    sizes = np.bincount(largest, minlength=len(needs.ids))
    table = pd.DataFrame({"need": needs.ids, "name": needs.names})
    table["things"] = np.bincount(needs.need_of, minlength=len(needs.ids))
    table["spend_share"], table["buyers"] = needs.spend.round(6), needs.buyers
    table["stability"] = needs.stability.round(6)
    for name, found in (
        ("share", [mean_interval(bought[column]) for column in bought]),
        ("main", [proportion_interval(size, len(bought)) for size in sizes]),
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
