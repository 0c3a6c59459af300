"""Needs: planted groups of things bought together are found, named, and kept."""

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


def test_planted_needs_are_found_and_named_by_what_belongs_to_them(days: Days) -> None:
    needs = learn_needs(customer_data(days, period=PERIOD, kinds=KINDS), count=3)
    found = {frozenset(name.removeprefix("needs: ").split(", ")) for name in needs.names}
    assert found == {frozenset(group) for group in GROUPS.values()}
    assert (needs.shares >= 0).all() and np.allclose(needs.shares.sum(axis=1), 1)


def test_shares_sum_to_one_and_are_the_same_from_needs_that_a_run_kept(days: Days, tmp_path: Path) -> None:
    signals = customer_data(days, period=PERIOD, kinds=KINDS)
    needs = learn_needs(signals, count=3)
    shares = need_shares(needs, signals)
    assert np.allclose(shares.sum(axis=1), 1) and (shares.max(axis=1) > 0.8).all()
    run = open_run(tmp_path / "run", step="01_profile", source="x")
    with pytest.raises(RunError, match="no model of needs. Run 01_profile"):
        run.load_model(part="needs")
    arrays, meta = needs_to_arrays(needs)
    run.save_model(arrays, meta=meta, part="needs")
    pd.testing.assert_frame_equal(need_shares(needs_from_arrays(*run.load_model(part="needs")), signals), shares)


def test_main_needs_are_told_by_size_with_whom_they_are_above_all(days: Days) -> None:
    signals = customer_data(days, period=PERIOD, kinds=KINDS)
    told = need_table(need_shares(learn_needs(signals, count=3), signals))
    assert told["share"].sum() == pytest.approx(1) and told["share"].is_monotonic_decreasing
    assert told["main"].sum() == pytest.approx(1) and (told["main"].between(told["main_low"], told["main_high"])).all()
    assert set(told["need"].str.split(", ").explode()) == set(sum(GROUPS.values(), []))


def test_unknown_categories_belong_to_no_need(days: Days) -> None:
    needs = learn_needs(customer_data(days, period=PERIOD, kinds=KINDS), count=3)
    assert category_shares(needs, ["anvil"]).tolist() == [[0.0, 0.0, 0.0]]


def test_without_categories_or_with_one_there_are_no_needs(make_days: object) -> None:
    one = make_days([(f"c{i}", "2024-05-01", "purchase", 1.0, "tea") for i in range(9)], kinds=KINDS)
    assert learn_needs(customer_data(one, period=PERIOD, kinds=KINDS)) is None
    none = Days(rows=one.rows, categories=None)
    signals = customer_data(none, period=PERIOD, kinds=KINDS)
    assert learn_needs(signals) is None and need_shares(None, signals).shape == (9, 0)
