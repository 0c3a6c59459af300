"""Opportunities: every segment with a story has one, what may not be offered is not, and what is not known is said."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import segkit
from segkit import tables
from segkit.customers.features import customers_at
from segkit.customers.needs import load_needs
from segkit.data.runs import load_run, open_run_source
from segkit.format import FLOOR
from segkit.period import Period
from segkit.personas.action_table import Actions, condition_text, find_actions, order_text
from segkit.personas.actions import (
    Opportunity,
    Part,
    Situation,
    backtest,
    find_opportunities,
    peer_share,
    rank_backtest,
)
from segkit.personas.offerable import offerable_needs
from segkit.personas.pilots import READABLE, Pilots
from segkit.segments.fit import TrainingWindows, build_training_windows, read_training_windows
from segkit.segments.model import assign_segments, model_from_arrays


@cache
def _situation() -> Situation:
    """Return the example shop as of its run."""
    run = load_run(segkit.example_run())
    source = open_run_source(run)
    customers = segkit.load_customers(run).state
    options = {"days": customers.days, "period": customers.period, "labels": source.labels}
    needs = load_needs(run)
    return Situation(
        customers,
        read_training_windows(run),
        model_from_arrays(*run.load_model()),
        run.table("segments").assign(verdict="reproducible"),
        run.table("assignments").set_index("customer_id")["segment"].reindex(customers.index),
        needs=needs,
        offers=offerable_needs(needs, run.table("needs"), run.table("need_things"), **options),
    )


def _check(found: Actions, situation: Situation) -> None:
    """Check what holds of all opportunities."""
    tables.check(found.table, name="actions")
    tables.check(found.parts, name="action_parts")
    tables.check(found.customers, name="action_customers")
    concerned = found.customers["actions"].str.split().explode().value_counts()
    assert (concerned == found.table.set_index("action")["customers"].reindex(concerned.index)).all()
    assert {s for joined in found.table["joined"] for s in joined.split()} == set(situation.with_story)
    assert (found.table["customers"] >= FLOOR).all() and (found.parts["customers"] >= FLOOR).all()
    worth = (found.table["prize"] * found.table["chance"]).fillna(-1.0)
    assert worth.is_monotonic_decreasing
    assert not found.table["title"].str.contains(r"[{}]|\d", regex=True).any()


def test_every_segment_with_a_story_has_an_opportunity_or_none_stands_out() -> None:
    situation = _situation()
    found = find_actions(situation, currency="GBP")
    _check(found, situation)
    some = situation.with_story[0]
    assert some in found.best(some)["joined"].split()
    assert found.best("S99") is None
    assert found.table.loc[found.table["prize"].notna(), "evidence"].str.contains("£").all()
    total = found.parts.groupby("action")["prize"].sum()
    assert np.allclose(total, found.table.set_index("action")["prize"].reindex(total.index), rtol=1e-3)


def test_what_may_not_be_offered_is_not() -> None:
    situation = _situation()
    nothing = replace(situation, offers=situation.offers.assign(reason="out of season"))
    found = find_actions(nothing)
    _check(found, nothing)
    assert found.table["need"].isna().all() and found.table["offer"].isna().all()
    assert "cross_need" not in set(found.table["type"])


def test_without_history_gaps_are_listed_and_no_prize_is_made_up() -> None:
    situation = _situation()
    young = replace(situation, training=TrainingWindows(last=None, before=None))
    found = find_actions(young)
    _check(found, young)
    assert found.table["prize"].isna().all() and set(found.table["type"]) <= {"cross_need", "none"}
    assert found.table["prize_reason"].str.startswith("not estimated").all()
    bare = replace(young, needs=None, offers=None)
    _check(find_actions(bare), bare)


@pytest.mark.parametrize("in_money", [True, False])
def test_customers_who_buy_little_of_a_need_are_described_by_its_limit(
    in_money: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is said not to buy what they buy: all are below a limit, and other customers are above it."""
    situation = replace(_situation(), training=TrainingWindows(last=None, before=None), in_money=in_money)
    situation = replace(situation, segments=situation.segments.assign(macro_segment=["M1", "M2", "M2", "M2"]))
    need = situation.needs.ids[0]
    spent = situation.amounts[:, 0]
    parts = tuple(Part(name, 30, *[np.nan] * 4) for name in ("S01", "S02"))
    monkeypatch.setattr(
        "segkit.personas.action_table.find_opportunities", lambda situation: [Opportunity("cross_need", need, parts)]
    )
    found = find_actions(situation, currency="GBP")
    evidence, limit = found.table.loc[0, "evidence"], found.parts.set_index("segment")["limit"]
    others = situation.segment.isin(["S03", "S04"]).to_numpy()
    peers = found.parts.set_index("segment").loc["S02", "peers"]
    inside = situation.open_now["cross_need", need]
    assert (spent[inside & situation.members["S02"]] < limit["S02"]).all()
    assert evidence.endswith("What that is worth is not known.") and "hardly" not in evidence
    assert ("They spend less than £" in evidence and " a quarter on " in evidence) is in_money
    assert ("of other customers of their level buy more" in evidence) is not in_money
    assert peers == pytest.approx((spent[others] >= limit["S02"]).mean())


def test_segments_that_come_for_a_need_are_no_measure_for_others() -> None:
    situation = _situation()
    need, all_of_it = situation.needs.ids[0], situation.segments["segment"].tolist()
    table = situation.segments.assign(need=need)
    assert peer_share(replace(situation, segments=table), need, segments=all_of_it[:1]) is None


def test_the_order_and_the_condition_are_in_words() -> None:
    table = pd.DataFrame({"type": ["cross_need", "cross_need", "none"], "prize": [9.0, np.nan, np.nan]})
    assert "may bring most" in order_text(table) and "worth is not known" in order_text(table)
    assert "may bring" not in order_text(table.assign(prize=np.nan)) and order_text(table.iloc[1:]) == ""
    row = {"type": "second_purchase", "customers": 854, "adopters": 47.6}
    assert condition_text(row) == "48 more buy again"
    assert condition_text(row | {"type": "cross_need", "adopters": 85.4}) == "one in ten takes it up"


def test_an_estimate_is_compared_with_what_followed_where_history_allows() -> None:
    situation = _situation()
    period = Period(situation.customers.period.as_of, lookback_days=120, horizon_days=60)
    customers = customers_at(situation.customers.days, period=period, kinds=situation.customers.kinds)
    training = build_training_windows(customers.days, period=period, kinds=customers.kinds)
    segment = assign_segments(situation.model, customers.data)["segment"]
    longer = replace(situation, customers=customers, training=training, segment=segment)
    assert longer.backtest_period == period
    assert longer.missing_days(horizons=3) == 0 and np.isnan(rank_backtest(longer))  # of two effects: too few to rank
    before, since = longer.estimates_twice
    row = since.merge(before[["type", "need", "segment"]]).iloc[0]
    one = Opportunity(row["type"], row["need"], (Part(row["segment"], 50, 1.0, 1.0, 5.0, 0.7),))
    compared = backtest(longer, one)
    assert compared.observed == pytest.approx(row["effect"]) and np.isfinite(compared.before)
    assert backtest(situation, one).missing_days > 0


def test_types_that_earlier_tests_showed_to_work_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    situation = _situation()
    part = Part(situation.with_story[0], 100, 10.0, 5.0, 10.0, 0.9, {"then": 100, "taken": 10, "returned": 20})
    given = [Opportunity(type_, "", (part,)) for type_ in ("protect", "win_back", "onboard")]
    monkeypatch.setattr("segkit.personas.action_table.find_opportunities", lambda situation: given)
    row = {"kpi": "spend", "tests": 3, "effect_low": 0.02, "effect_high": 0.05}
    tested = [row | {"type": "onboard", "verdict": "works"}, row | {"type": "protect", "verdict": "does not work"}]
    found = find_actions(situation, tested=pd.DataFrame(tested)).table
    assert found["type"].tolist()[:3] == ["onboard", "win_back", "protect"]
    words = "3 earlier tests of this kind changed spend per customer by +2–5%, so it comes first."
    assert found["evidence"].iloc[0].endswith(words) and "earlier test" not in found["evidence"].iloc[1]


def test_segments_ask_for_one_thing_and_join_where_it_is_the_same() -> None:
    found = [o for o in find_opportunities(_situation()) if o.type in ("cross_need", "grow_basket", "more_often")]
    asked = [segment for one in found for segment in one.segments]
    assert len(asked) == len(set(asked))
    parts = tuple(Part(f"S0{i}", 100, 10.0, 5.0, 10.0, 0.9) for i in (1, 2))
    both = Opportunity("cross_need", "N01", parts)
    assert both.prize[0] == 200 and both.customers == 200 and both.chance == pytest.approx(0.977, abs=0.001)


def test_a_pilot_of_more_customers_shows_less() -> None:
    situation = _situation()
    period = situation.customers.period
    index, segment = situation.customers.index, situation.segment.to_numpy()
    pilots = Pilots.of(situation.customers.days, kpi="spend", index=index, period=period)
    sizes = situation.segments.set_index("segment")["customers"]
    everyone = index[np.isin(segment, situation.with_story)]
    alone, together = pilots.size(index[segment == sizes.idxmax()]), pilots.size(everyone)
    assert together.customers > alone.customers and together.weeks <= alone.weeks
    assert together.is_readable and together.detectable <= READABLE + 0.005
    assert pilots.size(index[:FLOOR]) is None  # too few customers to hold half of them out
    assert Pilots("spend", {}).size(everyone) is None
