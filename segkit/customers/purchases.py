"""Collect what needs are learnt from: which customer bought how much of which thing, and what on the same day."""

from dataclasses import dataclass, replace
from datetime import date

import ibis
import numpy as np
import pandas as pd
from scipy import sparse

from segkit.customers.category_mix import term_weights
from segkit.customers.days import Days
from segkit.customers.features import CustomerData
from segkit.format import FLOOR
from segkit.stats import hash_sample

MAX_THINGS = 600  # that needs are learnt from, those with most buyers
MIN_BUYER_SHARE, MAX_MIN_BUYERS = 0.02, 100  # of customers who bought a thing; never fewer than FLOOR
MIN_COVERAGE = 0.5  # share of spend that whole categories must cover, else their words are the things


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
    things = days.things
    if things is None:
        return None
    rows = things.filter((things.day < ibis.literal(before)) & (things.lines > 0))
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


def names_of_things(days: Days, *, before: date) -> list[str]:
    """List the categories, and the items where needs are learnt from them, that were bought before a date."""
    found = set()
    for table in (days.categories, days.things):
        if table is not None:
            rows = table.filter(table.day < ibis.literal(before)).select("category").distinct()
            found |= set(rows.to_pandas()["category"])
    return sorted(found)


def purchases_of_customers(customers: CustomerData) -> Purchases | None:
    """Collect what customers bought from their amounts by category or item, where days are not at hand."""
    weights, things = customers.things
    if weights is None:
        return None
    empty, amounts = sparse.csr_array((0, len(things))), sparse.csr_array(weights)
    names, rows = list(things), np.zeros(0, dtype=int)
    return _common_things(customers.features.index, amounts, empty, rows, names=names)


def _common_things(
    customers: pd.Index, amounts: sparse.csr_array, baskets: sparse.csr_array, row: np.ndarray, *, names: list[str]
) -> Purchases | None:
    """Choose the things: whole names where the common ones cover what is bought, else their words if these do more."""
    rarest, total, found = rarest_thing(len(customers)), amounts.sum(), []
    for words in (False, True):
        by_thing, terms = term_weights(amounts, names, words=words)
        buyers = np.asarray((by_thing > 0).sum(axis=0)).ravel()
        order = np.lexsort((terms, -buyers))[:MAX_THINGS]
        common = np.sort(order[buyers[order] >= rarest])
        covered = float(amounts[:, _any_term(names, common, words=words)].sum() / total) if total > 0 else 0.0
        found.append((covered, words, by_thing, terms, common))
        if covered >= MIN_COVERAGE:
            break
    covered, words, by_thing, terms, common = max(found, key=lambda one: one[0])
    if len(common) < 2:
        return None
    in_baskets = term_weights(baskets, names, words=words)[0][:, common]
    in_baskets.data[:] = 1.0
    things, matrix = tuple(terms[i] for i in common), np.maximum(by_thing[:, common].toarray(), 0.0)
    return Purchases(customers, things, words, matrix, sparse.csr_array(in_baskets), row, covered)


def rarest_thing(customers: int) -> int:
    """Return how many of the customers have to buy a thing for needs to be learnt from it."""
    return int(np.clip(MIN_BUYER_SHARE * customers, FLOOR, MAX_MIN_BUYERS))


def _any_term(names: list[str], common: np.ndarray, *, words: bool) -> np.ndarray:
    """Flag the categories that are, or hold, a common thing."""
    if not words:
        return np.isin(np.arange(len(names)), common)
    split = term_weights(sparse.csr_array(sparse.eye_array(len(names))), names, words=True)[0]
    return np.asarray(split[:, common].sum(axis=1)).ravel() > 0
