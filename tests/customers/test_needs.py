"""Needs: planted groups of things bought together are found, named, and equal inside a warehouse."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.customers.features import customer_signals
from segkit.customers.needs import category_shares, learn_needs, need_expression, need_shares

AS_OF, KINDS = date(2024, 6, 1), {"purchase": "customer"}
GROUPS = {
    "breakfast": ["bread", "jam", "tea"],
    "party": ["beer", "crisps", "ice"],
    "baby": ["nappies", "wipes", "milk"],
}


@pytest.fixture
def days(make_days: object) -> Days:
    """Ninety customers, each buying from one group and now and then from another."""
    rng, rows = np.random.default_rng(3), []
    for i in range(90):
        own = list(GROUPS.values())[i % 3]
        rows += [(f"c{i:02d}", "2024-05-01", "purchase", float(rng.integers(5, 20)), name) for name in own]
        rows.append((f"c{i:02d}", "2024-05-02", "purchase", 1.0, str(rng.choice(sum(GROUPS.values(), [])))))
    return make_days(rows, kinds=KINDS)


def test_planted_needs_are_found_and_named_by_what_belongs_to_them(days: Days) -> None:
    needs = learn_needs(customer_signals(days, as_of=AS_OF, lookback_days=60, kinds=KINDS), count=3)
    found = {frozenset(name.removeprefix("needs: ").split(", ")) for name in needs.names}
    assert found == {frozenset(group) for group in GROUPS.values()}
    assert (needs.shares >= 0).all() and np.allclose(needs.shares.sum(axis=1), 1)


def test_shares_sum_to_one_and_the_same_inside_a_warehouse(days: Days) -> None:
    signals = customer_signals(days, as_of=AS_OF, lookback_days=60, kinds=KINDS)
    needs = learn_needs(signals, count=3)
    shares = need_shares(needs, signals)
    assert np.allclose(shares.sum(axis=1), 1) and (shares.max(axis=1) > 0.8).all()
    inside = (
        need_expression(needs, days, as_of=AS_OF, lookback_days=60).to_pandas().set_index("customer_id").sort_index()
    )
    pd.testing.assert_frame_equal(inside[shares.columns], shares, atol=1e-9, rtol=0, check_names=False)


def test_unknown_categories_belong_to_no_need(days: Days) -> None:
    needs = learn_needs(customer_signals(days, as_of=AS_OF, lookback_days=60, kinds=KINDS), count=3)
    assert category_shares(needs, ["anvil"]).tolist() == [[0.0, 0.0, 0.0]]


def test_without_categories_or_with_one_there_are_no_needs(make_days: object) -> None:
    one = make_days([(f"c{i}", "2024-05-01", "purchase", 1.0, "tea") for i in range(9)], kinds=KINDS)
    assert learn_needs(customer_signals(one, as_of=AS_OF, lookback_days=60, kinds=KINDS)) is None
    none = Days(rows=one.rows, categories=None)
    assert learn_needs(customer_signals(none, as_of=AS_OF, lookback_days=60, kinds=KINDS)) is None
