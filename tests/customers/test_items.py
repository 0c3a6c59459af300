"""Needs from items: found where categories are too coarse, stored, merged and read back; categories where no better."""

from datetime import date, timedelta
from pathlib import Path

import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import build_days, load_days, write_days
from segkit.customers.features import customer_data, customer_outcomes
from segkit.customers.finest import are_items_best
from segkit.customers.needs import learn_needs, need_shares, purchases_of_customers, purchases_of_days
from segkit.data.runs import open_run
from segkit.data.sources import connect, open_source, read_events
from segkit.period import Period
from segkit.segments.fit import build_training_windows, read_training_windows, write_training_windows
from tests.customers.test_needs import GROUPS, THINGS

KINDS = {"purchase": "customer"}
PERIOD = Period(date(2024, 5, 1), lookback_days=60, horizon_days=30)
SOURCE = """\
name: shop
timezone: UTC
events: {path: lines.csv, columns: {customer_id: who, timestamp: at, item: item, category: shelf, amount: paid}}
"""


def bought(*, customers: int = 300) -> pd.DataFrame:
    """Lines of customers with five visits each: four lines of five from their own group of items."""
    rng, lines = np.random.default_rng(3), []
    for customer in range(customers):
        own = list(GROUPS.values())[customer % 4]
        for visit in range(5):
            day = date(2024, 1, 1) + timedelta(int(rng.integers(0, 20)) + 28 * visit)
            items = [*rng.choice(own, 3, replace=False), THINGS[rng.integers(0, 16)]]
            lines += [(f"c{customer:03d}", day, item, "Food", rng.integers(2, 9)) for item in items]
    table = pd.DataFrame(lines, columns=["who", "at", "item", "shelf", "paid"])
    return table.assign(shelf=np.where(table["item"].isin(GROUPS["baby"] + GROUPS["pets"]), "Other", "Food"))


def events_of(table: pd.DataFrame, folder: Path, *, more: str = "") -> ir.Table:
    """The events of a source that holds a table."""
    table.to_csv(folder / "lines.csv", index=False)
    (folder / "source.yaml").write_text(SOURCE + more, encoding="utf-8")
    return read_events(open_source(str(folder / "source.yaml")), con=connect())


def is_finest(table: pd.DataFrame, folder: Path) -> bool:
    """Whether needs are learnt from the items of a table."""
    return are_items_best(events_of(table, folder), kinds=KINDS, before=PERIOD.as_of)


def test_items_are_the_things_where_categories_are_coarse(tmp_path: Path) -> None:
    table = bought()
    assert is_finest(table, tmp_path)
    assert not is_finest(table.assign(shelf=table["item"]), tmp_path), "a tie is won by categories"
    rng = np.random.default_rng(4)
    assert not is_finest(table.assign(item=rng.permutation(table["item"])), tmp_path), "items that show nothing"
    assert not is_finest(table.assign(item=[f"P{n}" for n in range(len(table))]), tmp_path), "everything bought once"
    fine = table["item"] + " " + pd.Series(rng.integers(0, 50, len(table))).astype(str)
    assert not is_finest(table.assign(item=fine), tmp_path), "too fine: few customers buy each"
    assert not is_finest(table.head(3), tmp_path), "next to nothing"


def test_needs_of_items_are_stored_and_extended(tmp_path: Path) -> None:
    events = events_of(bought(), tmp_path)
    days = build_days(events, kinds=KINDS, items=True)
    purchases = purchases_of_days(days, before=PERIOD.as_of)
    needs = learn_needs(purchases, bags=3)
    groups = {thing: name for name, group in GROUPS.items() for thing in group}
    made_of = pd.Series([groups[thing] for thing in needs.things]).groupby(needs.need_of).nunique()
    assert made_of.tolist() == [1, 1, 1, 1] and len(needs.things) >= 15
    customers = customer_data(days, period=PERIOD, kinds=KINDS)
    assert set(customers.categories) == {"Food", "Other"} and set(customers.items) == set(THINGS[:16])
    assert set(purchases_of_customers(customers).things) == set(THINGS[:16])
    assert need_shares(needs, customers.select(np.arange(40))).max(axis=1).mean() > 0.7
    plain = customer_data(days.without_items(), period=PERIOD, kinds=KINDS)
    pd.testing.assert_frame_equal(plain.features, customers.features)

    run = open_run(tmp_path / "run", step="01_profile")
    write_days(run, days)
    again = customer_data(load_days(run), period=PERIOD, kinds=KINDS)
    np.testing.assert_array_equal(again.item_weights.toarray(), customers.item_weights.toarray())

    run = open_run(tmp_path / "run", step="02_embed")
    made = build_training_windows(load_days(run), period=PERIOD, kinds=KINDS)
    write_training_windows(run, made)
    found = read_training_windows(run)
    for one, other in ((made.last.customers, found.last.customers), (made.last.outcomes, found.last.outcomes)):
        assert one.items == other.items and one.categories == other.categories
        np.testing.assert_array_equal(one.things[0].toarray(), other.things[0].toarray())
    start = PERIOD.last_horizon_start
    outcomes = customer_outcomes(days, start=start, horizon_days=30, index=found.last.outcomes.totals.index)
    np.testing.assert_array_equal(outcomes.item_weights.toarray(), found.last.outcomes.item_weights.toarray())


@pytest.mark.parametrize("name", ["code", "words", "one", "capitals"])
def test_odd_items_give_needs_or_none(name: str, tmp_path: Path) -> None:
    table = bought(customers=240)
    rng = np.random.default_rng(5)
    odd = {
        "code": "0" + table["item"].map({item: str(n) for n, item in enumerate(THINGS)}),
        "words": table["item"].str.lower() + " no. " + pd.Series(rng.integers(0, 9**6, len(table))).astype(str),
        "one": "tea",
        "capitals": table["item"].str.upper() + " ЧАЙ",
    }
    events = events_of(table.assign(item=odd[name]), tmp_path, more="needs: {from: item}\n")
    purchases = purchases_of_days(build_days(events, kinds=KINDS, items=True), before=PERIOD.as_of)
    needs = learn_needs(purchases, bags=2)
    assert (needs is None) if name == "one" else len(needs.ids) == 4
    assert name == "one" or needs.words == (name == "words")
