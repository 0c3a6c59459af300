"""Needs: planted groups of things are found, named, kept from run to run and stored; noise gives none."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.days import Days
from segkit.customers.features import customer_data
from segkit.customers.likeness import likeness, likeness_without
from segkit.customers.needs import (
    Needs,
    Purchases,
    category_shares,
    learn_needs,
    need_shares,
    need_table,
    needs_from_arrays,
    needs_to_arrays,
    needs_without_hdbscan,
    purchases_of_customers,
    purchases_of_days,
    shuffled_needs,
    thing_table,
)
from segkit.period import Period

KINDS = {"purchase": "customer"}
PERIOD = Period(date(2024, 6, 1), lookback_days=60, horizon_days=30)
GROUPS = {
    "breakfast": ["Bread", "Jam", "Tea", "Honey"],
    "party": ["Beer", "Crisps", "Ice", "Limes"],
    "baby": ["Nappies", "Wipes", "Formula", "Bibs"],
    "pets": ["Dog Food", "Cat Food", "Litter", "Leads"],
}
THINGS = [thing for group in GROUPS.values() for thing in group] + ["Salt"]  # salt is for everyone


@pytest.fixture(scope="module")
def purchases() -> Purchases:
    """Three hundred customers on three days each: four lines of five from their own group."""
    return _buy(np.random.default_rng(3), customers=300)


@pytest.fixture(scope="module")
def needs(purchases: Purchases) -> Needs:
    """The needs of these customers."""
    return learn_needs(purchases, bags=4)


def test_planted_groups_are_found_and_named_by_their_two_largest_things(purchases: Purchases, needs: Needs) -> None:
    assert {frozenset(_of(needs, i)) for i in range(4)} == {frozenset(group) for group in GROUPS.values()}
    assert "Salt" not in needs.things and needs.spend.sum() == pytest.approx(needs.coverage) and needs.coverage < 1
    spend = dict(zip(purchases.things, purchases.amounts.sum(axis=0), strict=True))
    for i, name in enumerate(needs.names):
        assert name == ", ".join(sorted(_of(needs, i), key=spend.get)[:-3:-1]).lower()
    assert list(needs.spend) == sorted(needs.spend, reverse=True) and (needs.stability > 0.9).all()
    assert np.bincount(needs.need_of, weights=needs.weight) == pytest.approx(1)


def test_the_same_purchases_give_the_same_bytes_and_arrays_bring_needs_back(purchases: Purchases, needs: Needs) -> None:
    for other in (learn_needs(purchases, bags=4), needs_from_arrays(*needs_to_arrays(needs))):
        for name, value in vars(needs).items():
            again = getattr(other, name)
            assert value.tobytes() == again.tobytes() if isinstance(value, np.ndarray) else value == again


def test_needs_keep_ids_and_names_from_run_to_run_and_new_ones_get_unused_ids(
    purchases: Purchases, needs: Needs
) -> None:
    kept = np.flatnonzero(needs.need_of > 0)
    earlier = Needs(
        **{
            **vars(needs),
            "ids": ("N09", "N03", "N05"),
            "names": ("one", "two", "three"),
            "things": tuple(needs.things[i] for i in kept),
            "need_of": needs.need_of[kept] - 1,
        }
    )
    later = learn_needs(purchases, previous=earlier, bags=4)
    assert dict(zip(later.ids, later.names, strict=True)) == {
        "N10": needs.names[0],
        "N09": "one",
        "N03": "two",
        "N05": "three",
    }


def test_earlier_needs_that_the_data_speaks_against_are_given_up(purchases: Purchases, needs: Needs) -> None:
    later = learn_needs(purchases, previous=shuffled_needs(needs, seed=1), bags=4)
    assert {frozenset(_of(later, i)) for i in range(len(later.ids))} == {frozenset(g) for g in GROUPS.values()}


def test_likeness_without_some_customers_is_that_of_the_others(purchases: Purchases) -> None:
    left_out = [np.arange(0, 300, 4), np.arange(299)]
    found = likeness_without(purchases.amounts, purchases.baskets, purchases.basket_customer, left_out=left_out)
    for rows, alike in zip(left_out, found, strict=True):
        others = purchases.select(purchases.customers.delete(rows))
        if len(others.customers) > 1:
            assert alike == pytest.approx(likeness(others.amounts, others.baskets), abs=1e-9)
        assert np.isfinite(alike).all()


def test_refits_do_not_draw_the_things(purchases: Purchases, needs: Needs) -> None:
    found = learn_needs(purchases, bags=4, drawn=False)
    assert not found.plane.any() and needs.plane.any() and (found.need_of == needs.need_of).all()


def test_choices_at_random_have_no_needs(purchases: Purchases) -> None:
    rng = np.random.default_rng(5)
    shuffled = np.column_stack([column[rng.permutation(len(column))] for column in purchases.amounts.T])
    assert learn_needs(_purchases(shuffled, purchases.things)) is None
    once = np.zeros((200, 20))
    once[np.arange(200), rng.integers(0, 20, 200)] = 5.0
    assert learn_needs(_purchases(once, [f"item {i:02d}" for i in range(20)])) is None


def test_without_categories_or_with_one_there_are_no_needs(make_days: object) -> None:
    one = make_days([(f"c{i:02d}", "2024-05-01", "purchase", 1.0, "tea") for i in range(50)], kinds=KINDS)
    assert learn_needs(purchases_of_days(one, before=PERIOD.as_of)) is None
    none = Days(rows=one.rows, categories=None)
    customers = customer_data(none, period=PERIOD, kinds=KINDS)
    assert purchases_of_days(none, before=PERIOD.as_of) is None and purchases_of_customers(customers) is None
    assert learn_needs(None) is None and need_shares(None, customers).shape == (50, 0)


def test_a_few_categories_are_a_need_each_though_everyone_buys_one() -> None:
    rng = np.random.default_rng(2)
    amounts = np.column_stack([np.full(100, 9.0), *(rng.random((3, 100)) < 0.5) * 4.0])
    needs = learn_needs(_purchases(amounts, ["bags", "hats", "socks", "ties"]), bags=2)
    assert set(needs.names) == {"bags", "hats", "socks", "ties"}
    assert needs.buyers.max() == 100 and needs.plane.shape == (4, 2)


def test_of_fifty_thousand_names_the_words_are_the_things() -> None:
    rng, rows, names = np.random.default_rng(4), [], []
    for customer in range(250):
        for _ in range(200):
            own = list(GROUPS.values())[customer % 4]
            rows.append(customer)
            names.append(f"{rng.choice(own).lower()} {rng.choice(own).lower()} no. {len(names)}")
    weights = sparse.csr_array((np.full(50_000, 2.0), (rows, np.arange(50_000))), shape=(250, 50_000))
    customers = _Customers(weights, tuple(names), pd.DataFrame(index=[f"c{i:03d}" for i in range(250)]))
    purchases = purchases_of_customers(customers)
    assert purchases.words and "jam" in purchases.things and purchases.coverage == pytest.approx(1)
    needs = learn_needs(purchases, bags=3)
    shares = category_shares(needs, ["JAM 7", "beer, crisps", "anvil"])
    assert shares[0].max() == 1 and shares[1].max() == 1 and shares[0].argmax() != shares[1].argmax()
    assert shares[2].max() == 0
    assert need_shares(needs, customers).max(axis=1).mean() > 0.8


def test_tables_of_needs_and_things(purchases: Purchases, needs: Needs) -> None:
    weights = sparse.csr_array(purchases.amounts)
    customers = _Customers(weights, purchases.things, pd.DataFrame(index=purchases.customers))
    shares = need_shares(needs, customers)
    assert list(shares) == ["needs: " + name for name in needs.names] and shares.sum(axis=1).max() < 1.000001
    table = need_table(needs, shares)
    assert table["main"].sum() == pytest.approx(1) and table["main"].between(table.main_low, table.main_high).all()
    assert list(table["things"]) == [4, 4, 4, 4]
    listed = thing_table(needs)
    assert len(listed) == 16 and listed.groupby("need")["weight"].sum().to_numpy() == pytest.approx(1, abs=1e-5)


def test_ablations_have_as_many_groups_of_the_same_things(purchases: Purchases, needs: Needs) -> None:
    mixed = shuffled_needs(needs, seed=7)
    assert sorted(mixed.need_of) == sorted(needs.need_of) and (mixed.need_of != needs.need_of).any()
    plain = needs_without_hdbscan(purchases, needs)
    assert plain.things == needs.things and len(plain.need_of) == len(needs.need_of) and len(plain.ids) == 4


class _Customers:
    """What the functions read of the data of customers."""

    def __init__(self, weights: sparse.csr_array, categories: Sequence[str], features: pd.DataFrame) -> None:
        self.weights, self.categories, self.features = weights, tuple(categories), features
        self.things = self.weights, self.categories


def _buy(rng: np.random.Generator, *, customers: int) -> Purchases:
    baskets = np.zeros((3 * customers, len(THINGS)))
    for row, basket in enumerate(baskets):
        own = 4 * (row // 3 % 4)
        basket[rng.choice(4, 3, replace=False) + own] = 1
        basket[rng.integers(0, 16)] = 1
        basket[16] = rng.random() < 0.5
    price = rng.uniform(2, 9, len(THINGS))
    amounts = (baskets * price).reshape(customers, 3, -1).sum(axis=1)
    return _purchases(amounts, THINGS, baskets=baskets)


def _purchases(amounts: np.ndarray, things: Sequence[str], *, baskets: np.ndarray | None = None) -> Purchases:
    held = sparse.csr_array((0, len(things)) if baskets is None else baskets)
    customers = pd.Index([f"c{i:03d}" for i in range(len(amounts))], name="customer_id")
    return Purchases(customers, tuple(things), False, amounts, held, np.arange(held.shape[0]) // 3, 1.0)


def _of(needs: Needs, number: int) -> list[str]:
    return [thing for thing, own in zip(needs.things, needs.need_of, strict=True) if own == number]
