"""Rules and scorecards find segments without the model, scored on customers they were not learnt on."""

import numpy as np
import pandas as pd
import pytest

from segkit.personas.rules import (
    MAX_CONDITIONS,
    SHARE_OF,
    Rule,
    Scorecard,
    add_scores,
    learn_rules,
    learn_scorecards,
    round_cutoff,
    rules_table,
    scorecards_to_table,
    split,
)
from segkit.tables import check


@pytest.fixture
def world() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Figures of 600 customers, their position on two axes, and the four quarters as segments."""
    rng = np.random.default_rng(3)
    index = pd.Index([f"c{i:04d}" for i in range(600)], name="customer_id")
    busy, taste = rng.normal(size=600), rng.normal(size=600)
    noise = rng.normal(scale=0.15, size=(4, 600))
    figures = {
        "orders": np.round(np.exp(busy + noise[0]) * 10),
        "spend": np.exp(busy + noise[1]) * 200,
        "weekend_share": rng.random(600),
        f"{SHARE_OF}TEA": np.clip(taste + noise[2], 0, None) / 4,
        f"{SHARE_OF}RUM": np.clip(noise[3] - taste, 0, None) / 4,
    }
    axes = pd.DataFrame({"axis_1": busy, "axis_2": taste}, index=index)
    segment = pd.Series(np.where(busy > 0, "S0", "S1"), index=index) + np.where(taste > 0, "1", "2")
    return pd.DataFrame(figures, index=index), axes, segment.rename("segment")


def learnt(world: tuple) -> tuple[list[Rule], list[Scorecard], np.ndarray, np.ndarray]:
    figures, axes, segment = world
    train, test = split(len(figures))
    scores = learn_scorecards(figures, axes, train=train)
    own = dict.fromkeys(set(segment), ["TEA", "RUM"])
    return learn_rules(figures, segment, scores=scores, own=own, train=train, test=test), scores, train, test


def test_quarters_of_a_plane_are_found_by_short_rules(world: tuple) -> None:
    rules, scores, _train, _test = learnt(world)
    assert [s.name for s in scores] == ["activity", "taste_1"]
    assert all(r.is_good and 0 < len(r.conditions) <= MAX_CONDITIONS for r in rules)
    assert min(r.precision[0] for r in rules) > 0.8 and min(r.recall[0] for r in rules) > 0.5
    assert all(r.precision[1] <= r.precision[0] <= r.precision[2] + 1e-9 for r in rules)


def test_precision_and_recall_are_measured_on_test_customers(world: tuple) -> None:
    figures, _axes, segment = world
    rules, scores, train, test = learnt(world)
    assert not (train & test).any() and (train | test).all()
    figures_scored = add_scores(figures, scores)[test]
    inside = segment[test].eq("S01").to_numpy()
    picked = rules[0].matches(figures_scored)
    assert rules[0].precision[0] == pytest.approx((picked & inside).sum() / picked.sum())
    assert rules[0].recall[0] == pytest.approx((picked & inside).sum() / inside.sum())


def test_test_customers_do_not_change_a_rule(world: tuple) -> None:
    figures, axes, segment = world
    rules, scores, train, test = learnt(world)
    other = figures.copy()
    other.loc[test, "orders"] = 0.0
    again = learn_rules(
        other, segment, scores=learn_scorecards(other, axes, train=train),
        own=dict.fromkeys(set(segment), ["TEA", "RUM"]), train=train, test=test,
    )  # fmt: skip
    assert [r.conditions for r in again] == [r.conditions for r in rules]
    assert [r.precision for r in again] != [r.precision for r in rules]


def test_a_random_segment_has_no_good_rule(world: tuple) -> None:
    figures, axes, segment = world
    drawn = pd.Series(np.random.default_rng(1).permutation(segment.to_numpy()), index=segment.index)
    rules, *_ = learnt((figures, axes, drawn))
    assert not any(r.is_good for r in rules)
    table = rules_table(rules, scores=[])
    check(table, name="rules")
    assert not table["good"].any()


def test_rules_and_scorecards_are_rebuilt_from_their_tables(world: tuple) -> None:
    figures, *_ = world
    rules, scores, *_ = learnt(world)
    table, scorecards = rules_table(rules, scores=scores), scorecards_to_table(scores)
    check(table, name="rules")
    check(scorecards, name="scores")
    stored = []
    for (name, words), rows in scorecards.groupby(["score", "words"]):
        items = [(item, tuple(r["at_least"]), int(r["points"].iloc[0])) for item, r in rows.groupby("item")]
        stored.append(Scorecard(name=name, words=words, items=tuple(items)))
    again = add_scores(figures, stored)
    for rule in rules:
        rows = table[table["segment"] == rule.segment]
        picked = np.ones(len(figures), dtype=bool)
        for row in rows.itertuples():
            values = again[row.item].to_numpy()
            picked &= (values >= (-np.inf if pd.isna(row.at_least) else row.at_least)) & ~(values >= row.below)
        assert (picked == rule.matches(add_scores(figures, scores))).all()


def test_points_add_up_by_cutoff() -> None:
    score = Scorecard(name="activity", words="activity points", items=(("orders", (2.0, 5.0), 2), ("gap", (9.0,), -1)))
    figures = pd.DataFrame({"orders": [1, 2, 5, 8], "gap": [3, 9, 10, 2]})
    assert score.score(figures).tolist() == [0, 1, 3, 4]


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
    rules = learn_rules(figures, segment, scores=[], own={}, train=train, test=test)
    assert [r.conditions for r in rules] == [(), ()] and not any(r.is_good for r in rules)
    assert rules_table(rules, scores=[]).empty
