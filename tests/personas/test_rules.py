"""Rules find segments without the model, from figures that a CRM has, scored on customers they were not learnt on."""

import numpy as np
import pandas as pd
import pytest

from segkit.personas.rules import (
    MAX_CONDITIONS,
    MAX_TESTED,
    MAX_TRAINED,
    SHARE_OF,
    Rule,
    learn_rules,
    round_cutoff,
    rules_table,
    split,
)
from segkit.tables import check


@pytest.fixture
def world() -> tuple[pd.DataFrame, pd.Series]:
    """Figures of 600 customers, and four segments: often or seldom, tea or rum."""
    rng = np.random.default_rng(3)
    index = pd.Index([f"c{i:04d}" for i in range(600)], name="customer_id")
    busy, taste = rng.normal(size=600), rng.normal(size=600)
    noise = rng.normal(scale=0.15, size=(4, 600))
    figures = {
        "orders": np.round(np.exp(busy + noise[0]) * 10),
        "spend": np.exp(busy + noise[1]) * 200,
        "discount_share": rng.random(600),
        "weekend_share": rng.random(600),
        "needs: Tea": np.clip(taste + noise[2], 0, None) / 4,
        f"{SHARE_OF}RUM": np.clip(noise[3] - taste, 0, None) / 4,
    }
    segment = pd.Series(np.where(busy > 0, "S0", "S1"), index=index) + np.where(taste > 0, "1", "2")
    return pd.DataFrame(figures, index=index), segment.rename("segment")


def learnt(world: tuple) -> tuple[list[Rule], np.ndarray, np.ndarray]:
    figures, segment = world
    train, test = split(len(figures))
    own = dict.fromkeys(set(segment), ["Tea", "RUM"])
    return learn_rules(figures, segment, own=own, train=train, test=test), train, test


def test_segments_are_found_by_short_rules_of_figures_that_a_crm_has(world: tuple) -> None:
    rules, _train, _test = learnt(world)
    assert all(r.is_good and 0 < len(r.conditions) <= MAX_CONDITIONS for r in rules)
    assert min(r.precision[0] for r in rules) > 0.7 and min(r.recall[0] for r in rules) > 0.5
    assert all(r.precision[1] <= r.precision[0] <= r.precision[2] + 1e-9 for r in rules)
    assert "weekend_share" not in {item for r in rules for item, _low, _high in r.conditions}


def test_precision_and_recall_are_measured_on_test_customers(world: tuple) -> None:
    figures, segment = world
    rules, train, test = learnt(world)
    assert not (train & test).any() and (train | test).all()
    inside, picked = segment[test].eq("S01").to_numpy(), rules[0].matches(figures[test])
    assert rules[0].precision[0] == pytest.approx((picked & inside).sum() / picked.sum())
    assert rules[0].recall[0] == pytest.approx((picked & inside).sum() / inside.sum())
    again, *_ = learnt((figures.assign(orders=np.where(test, 0.0, figures["orders"])), segment))
    assert [r.conditions for r in again] == [r.conditions for r in rules], "test customers do not change a rule"


def test_of_very_many_customers_samples_are_learnt_and_tested_on() -> None:
    train, test = split(100_000)
    assert (train.sum(), test.sum()) == (MAX_TRAINED, MAX_TESTED) and not (train & test).any()


def test_a_random_segment_has_no_good_rule(world: tuple) -> None:
    figures, segment = world
    drawn = pd.Series(np.random.default_rng(1).permutation(segment.to_numpy()), index=segment.index)
    rules, *_ = learnt((figures, drawn))
    assert not any(r.is_good for r in rules)
    table = rules_table(rules)
    check(table, name="rules")
    assert not table["good"].any()


def test_rules_are_rebuilt_from_their_table(world: tuple) -> None:
    figures, _segment = world
    rules, *_ = learnt(world)
    table = rules_table(rules)
    check(table, name="rules")
    for rule in rules:
        picked = np.ones(len(figures), dtype=bool)
        for row in table[table["segment"] == rule.segment].itertuples():
            values = figures[row.item].to_numpy()
            picked &= (values >= (-np.inf if pd.isna(row.at_least) else row.at_least)) & ~(values >= row.below)
        assert (picked == rule.matches(figures)).all()


def test_cutoffs_are_rounded_to_be_typed() -> None:
    assert (
        round_cutoff(1234.5) == 1200
        and round_cutoff(0.0371, share=True) == 0.04
        and round_cutoff(0.0062, share=True) == 0.006
    )


def test_constant_figures_give_no_rule() -> None:
    figures = pd.DataFrame({"orders": [3.0] * 40}, index=[f"c{i}" for i in range(40)])
    train, test = split(40)
    segment = pd.Series(["S01"] * 20 + ["S02"] * 20, index=figures.index)
    rules = learn_rules(figures, segment, own={}, train=train, test=test)
    assert [r.conditions for r in rules] == [(), ()] and not any(r.is_good for r in rules)
    assert rules_table(rules).empty
