"""What each kind of data adds: planted blocks are found, unknown people are left out, absent parts give the reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days, build_days
from segkit.data.sources import connect, open_source, read_customers, read_events
from segkit.data.spec import Source
from segkit.data.synth import write_scenario
from segkit.period import Period
from segkit.segments.blocks import (
    Block,
    BlockProof,
    block_designs,
    block_metrics,
    compare_blocks,
    needs_or_demographics,
    score_blocks,
)
from segkit.segments.fit import build_training_windows
from segkit.segments.scoring import MEASURES, ScoringOutcomes
from segkit.tables import check

AS_OF = date(2025, 3, 1)
PERIOD = Period(AS_OF, lookback_days=182, horizon_days=91)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Days, pd.DataFrame]:
    """A made-up shop: its source, days and people."""
    folder = tmp_path_factory.mktemp("shop")
    source = open_source(str(Path(write_scenario("retail", customers=300, out=str(folder)))))
    con = connect()
    people = read_customers(source, con=con).to_pandas()
    days = build_days(read_events(source, con=con), kinds=source.kinds)
    held = {"rows": days.rows.cache(), "categories": days.categories.cache()}
    return source, replace(days, **held), people


@pytest.fixture(scope="module")
def proof(made_up: tuple[Source, Days, pd.DataFrame]) -> BlockProof:
    source, days, people = made_up
    found = score_blocks(
        build_training_windows(days, period=PERIOD, kinds=source.kinds), people=people, roles=source.roles
    )
    assert found is not None
    return found


def planted(customers: int = 400, *, seed: int = 3) -> tuple[dict[str, Block], ScoringOutcomes, ScoringOutcomes]:
    """Needs say most of what comes, demographics a little and of half the customers, rhythm nothing."""
    rng = np.random.default_rng(seed)
    everyone, half = np.ones(customers, dtype=bool), np.arange(customers) % 2 == 0
    blocks = {name: Block(*rng.normal(size=(2, customers, 3)), everyone, everyone) for name in ("rhythm", "needs")}
    texts = rng.normal(size=(customers, 2)) * half[:, None]
    blocks["demographic"] = Block(texts, texts, half, half)

    def observed(needs: np.ndarray, shift: float) -> ScoringOutcomes:
        noise = rng.normal(size=customers)
        return ScoringOutcomes(
            values={"spend": (everyone, (shift + 2 * needs[:, 0] + 0.5 * texts[:, 0] + noise)[:, None])}
        )

    return blocks, observed(blocks["needs"].then, 0.0), observed(blocks["needs"].now, 50.0)


def test_planted_blocks_are_found_and_a_season_counts_neither_way() -> None:
    blocks, learnt, scored = planted()
    found = compare_blocks(blocks, train=learnt, test=scored)
    check(found.table, name="blocks")
    rows = found.table.set_index("block")
    assert list(rows.index) == ["all", "rhythm", "needs", "demographic"]
    assert rows["customers"].tolist() == [400, 400, 400, 200]
    assert rows.loc["all", "alone_r2"] == pytest.approx(0.77, abs=0.06)  # 4.125 of 5.125 at most
    assert rows.loc["needs", "adds_low"] > 0.6 and rows.loc["demographic", "adds_low"] > 0
    assert abs(rows.loc["rhythm", ["alone_r2", "adds"]].astype(float)).max() < 0.02
    assert (rows["alone_low"] < rows["alone_r2"]).all() and (rows["alone_r2"] < rows["alone_high"]).all()
    lead = found.leads.iloc[0]
    assert lead["customers"] == 200 and lead["lead"] == pytest.approx(lead["needs_r2"] - lead["demographic_r2"])
    assert needs_or_demographics(found, measure="spend") == ("needs", "")


def test_the_answer_follows_the_interval() -> None:
    def leaning(low: float, high: float) -> BlockProof:
        leads = pd.DataFrame({"measure": ["mix"], "lead_low": [low], "lead_high": [high]})
        return BlockProof(table=pd.DataFrame({"measure": [], "block": []}), leads=leads)

    assert needs_or_demographics(leaning(0.01, 0.2), measure="mix") == ("needs", "")
    assert needs_or_demographics(leaning(-0.2, -0.01), measure="mix") == ("demographics", "")
    answer, reason = needs_or_demographics(leaning(-0.1, 0.1), measure="mix")
    assert answer == "cannot tell" and reason == "the 95 % interval of the difference holds zero"


def test_what_is_unknown_of_those_scored_does_not_touch_the_answer() -> None:
    blocks, learnt, scored = planted()
    outcome = scored.values["spend"][1].copy()
    outcome[1::2] = 7.0  # those of whom no demographics are known
    other = ScoringOutcomes(values={"spend": (scored.values["spend"][0], outcome)})
    one, two = (compare_blocks(blocks, train=learnt, test=each) for each in (scored, other))
    pd.testing.assert_frame_equal(one.leads, two.leads)
    texts = [found.table.query("block == 'demographic'") for found in (one, two)]
    pd.testing.assert_frame_equal(*texts)


def test_same_seed_same_table_and_draws_move_the_interval_alone() -> None:
    blocks, learnt, scored = planted()
    one, two = (compare_blocks(blocks, train=learnt, test=scored, draws=50, seed=5).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    more = compare_blocks(blocks, train=learnt, test=scored, draws=80, seed=5).table
    assert one["alone_r2"].equals(more["alone_r2"]) and not one["alone_low"].equals(more["alone_low"])


def test_a_block_of_few_customers_or_an_outcome_like_for_nearly_all_is_left_out() -> None:
    blocks, learnt, scored = planted()
    few = np.arange(400) < 60
    texts = replace(blocks["demographic"], has_data_then=few, has_data_now=few)
    found = compare_blocks(blocks | {"demographic": texts}, train=learnt, test=scored)
    assert "demographic" not in set(found.table["block"]) and found.leads.empty
    answer, reason = needs_or_demographics(found, measure="spend")
    assert answer == "cannot tell" and "known of too few customers" in reason
    nearly_all = ScoringOutcomes(
        values={"active": (np.ones(400, dtype=bool), (np.arange(400) > 5).astype(float)[:, None])}
    )
    alike = compare_blocks(blocks, train=nearly_all, test=nearly_all)
    assert alike.table.empty and needs_or_demographics(alike, measure="active")[1].startswith("there is too little")
    check(alike.table, name="blocks")


def test_needs_predict_the_mix_of_a_made_up_shop(proof: BlockProof) -> None:
    check(proof.table, name="blocks")
    assert {"spend", "mix"} <= set(proof.table["measure"]) <= set(MEASURES)
    spend = proof.table[proof.table["measure"] == "spend"].set_index("block")
    assert {"all", "rfm", "lifecycle", "needs", "demographic", "geographic"} <= set(spend.index)
    assert spend.loc["all", "alone_r2"] > 0.1 and spend.loc["demographic", "customers"] < spend.loc["all", "customers"]
    mix = proof.table[proof.table["measure"] == "mix"].set_index("block")
    assert mix.loc["needs", "alone_r2"] > 0.15 and mix.loc["needs", "adds_low"] > 0
    assert needs_or_demographics(proof, measure="mix") == ("needs", "")


def test_figures_are_flat_with_intervals(proof: BlockProof) -> None:
    figures = block_metrics(proof)
    for name in ("needs.spend_r2", "needs.mix_adds", "all.mix_r2", "needs_or_demographics.mix_lead"):
        at, low, high = (figures[f"blocks.{name}{part}"] for part in ("", ".low", ".high"))
        assert low < at < high
    assert figures["blocks.needs_or_demographics.mix"] == "needs" and figures["blocks.reason"] is None
    assert "blocks.all.mix_adds" not in figures


def test_nothing_after_as_of_is_looked_at(made_up: tuple[Source, Days, pd.DataFrame], proof: BlockProof) -> None:
    source, days, people = made_up
    early = AS_OF - timedelta(days=30)
    cut = replace(days, rows=days.rows.filter(days.rows.day < early))
    if days.categories is not None:
        cut = replace(cut, categories=days.categories.filter(days.categories.day < early))
    pasts = [
        build_training_windows(each, period=replace(PERIOD, as_of=early), kinds=source.kinds) for each in (days, cut)
    ]
    one, two = (score_blocks(past, people=people, roles=source.roles, draws=20) for past in pasts)
    pd.testing.assert_frame_equal(one.table, two.table)


def test_without_categories_people_and_history(made_up: tuple[Source, Days, pd.DataFrame]) -> None:
    source, days, _ = made_up
    given = {"period": PERIOD, "kinds": source.kinds}
    bare = score_blocks(build_training_windows(replace(days, categories=None), **given), draws=20)
    assert "mix" not in set(bare.table["measure"])
    assert not {"needs", "demographic", "known"} & set(bare.table["block"])
    answer, reason = needs_or_demographics(bare, measure="spend")
    assert (answer, reason) == ("cannot tell", "needs are not known: the source has no categories")
    alone = score_blocks(build_training_windows(days, **given), draws=20)
    assert needs_or_demographics(alone, measure="mix")[1].startswith("demographics are known of too few")
    short = score_blocks(build_training_windows(days, period=replace(PERIOD, lookback_days=900), kinds=source.kinds))
    assert short is None and needs_or_demographics(short, measure="mix", reason="too short") == (
        "cannot tell",
        "too short",
    )
    figures = block_metrics(None, reason="too short")
    assert figures["blocks.reason"] == "too short" and figures["blocks.needs_or_demographics.mix"] == "cannot tell"


def test_events_without_money_are_scored_on_active_days(make_events: Callable) -> None:
    rng = np.random.default_rng(2)
    start = date(2024, 1, 1)
    events = [
        (f"c{customer:03d}", str(start + timedelta(days=int(day))), "visit", None, None)
        for customer in range(120)
        for day in np.flatnonzero(rng.random(120) < 0.01 + 0.15 * rng.random() ** 2)
    ]
    days = build_days(make_events(events).drop("amount", "category"), kinds={"visit": "customer"})
    period = Period(start + timedelta(days=120), lookback_days=60, horizon_days=30)
    past = build_training_windows(days, period=period, kinds={"visit": "customer"})
    found = score_blocks(past, draws=20)
    assert found is not None and "mix" not in set(found.table["measure"])
    assert {"all", "rhythm"} <= set(found.table.query("measure == 'spend'")["block"])


def test_people_are_indicators_of_common_values_and_numbers(planted_windows: Callable) -> None:
    windows, _ = planted_windows()
    index = windows.then.features.index
    people = pd.DataFrame({"customer_id": index[:200], "age": [float(i % 7) for i in range(200)]})
    people["home"] = ["owner", "renter", None, "owner"] * 49 + ["barge", "owner", "renter", None]
    people["mood"], people["same"] = ["good", "bad"] * 100, "yes"
    roles = {"age": "demographic", "home": "demographic", "mood": "survey", "same": "geographic"}
    before = people.copy()
    found = block_designs(windows.then, windows.now, people=people, roles=roles)
    pd.testing.assert_frame_equal(people, before)
    assert set(found) == {
        "rfm",
        "rhythm",
        "needs",
        "demographic",
        "survey",
        "known",
    }  # what is the same of all says nothing
    texts = found["demographic"]
    assert texts.then.shape == (240, 5)  # age, owner, renter, unknown, other
    assert texts.has_data_then.sum() == 200 and not texts.then[200:].any()
    assert np.abs(texts.then.mean(axis=0)).max() < 0.05
    assert found["known"].then.shape == (240, 1) and found["known"].has_data_now.all()
    assert block_designs(
        windows.then, windows.now, people=people.assign(home=None, age=np.nan), roles=roles
    ).keys() == {
        "rfm",
        "rhythm",
        "needs",
        "survey",
    }
