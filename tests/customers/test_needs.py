"""Needs: planted groups of categories are found, named and stored."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.customers.features import customer_data
from segkit.customers.needs import (
    category_shares,
    learn_needs,
    need_shares,
    need_table,
    needs_from_arrays,
    needs_to_arrays,
)
from segkit.data.runs import open_run
from segkit.errors import RunError
from segkit.period import Period

KINDS = {"purchase": "customer"}
PERIOD = Period(date(2024, 6, 1), lookback_days=60, horizon_days=30)
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


def test_planted_needs_are_found_and_named_by_their_categories(days: Days) -> None:
    needs = learn_needs(customer_data(days, period=PERIOD, kinds=KINDS), count=3)
    found = {frozenset(name.removeprefix("needs: ").split(", ")) for name in needs.names}
    assert found == {frozenset(group) for group in GROUPS.values()}
    assert (needs.shares >= 0).all() and np.allclose(needs.shares.sum(axis=1), 1)


def test_need_shares_sum_to_one_and_survive_a_run(days: Days, tmp_path: Path) -> None:
    customers = customer_data(days, period=PERIOD, kinds=KINDS)
    needs = learn_needs(customers, count=3)
    shares = need_shares(needs, customers)
    assert np.allclose(shares.sum(axis=1), 1) and (shares.max(axis=1) > 0.8).all()
    run = open_run(tmp_path / "run", step="01_profile", source="x")
    with pytest.raises(RunError, match="no model of needs. Run 01_profile"):
        run.load_model(part="needs")
    arrays, meta = needs_to_arrays(needs)
    run.save_model(arrays, meta=meta, part="needs")
    pd.testing.assert_frame_equal(need_shares(needs_from_arrays(*run.load_model(part="needs")), customers), shares)


def test_the_table_of_needs_is_sorted_and_its_shares_sum_to_one(days: Days) -> None:
    customers = customer_data(days, period=PERIOD, kinds=KINDS)
    table = need_table(need_shares(learn_needs(customers, count=3), customers))
    assert table["share"].sum() == pytest.approx(1) and table["share"].is_monotonic_decreasing
    assert (
        table["main"].sum() == pytest.approx(1) and (table["main"].between(table["main_low"], table["main_high"])).all()
    )
    assert set(table["need"].str.split(", ").explode()) == set(sum(GROUPS.values(), []))


def test_unknown_categories_belong_to_no_need(days: Days) -> None:
    needs = learn_needs(customer_data(days, period=PERIOD, kinds=KINDS), count=3)
    assert category_shares(needs, ["anvil"]).tolist() == [[0.0, 0.0, 0.0]]


def test_with_fewer_than_two_categories_there_are_no_needs(make_days: object) -> None:
    one = make_days([(f"c{i}", "2024-05-01", "purchase", 1.0, "tea") for i in range(9)], kinds=KINDS)
    assert learn_needs(customer_data(one, period=PERIOD, kinds=KINDS)) is None
    none = Days(rows=one.rows, categories=None)
    customers = customer_data(none, period=PERIOD, kinds=KINDS)
    assert learn_needs(customers) is None and need_shares(None, customers).shape == (9, 0)
