"""Figures: each fact is what the tables say, counted here in another way."""

import numpy as np
import pandas as pd
import pytest

from segkit.personas.facts import BY_MEDIAN, MEMBER_FACTS, SEGMENT_FACTS, CardTables, collect_facts, fact_table
from segkit.personas.traits import segment_traits
from segkit.tables import check
from tests.personas.helpers import members_of, needs_of


def facts_of(segments: pd.DataFrame, told: CardTables, **more: object) -> pd.DataFrame:
    features, segment = members_of(segments)
    table = fact_table(
        collect_facts(segments, features=features, segment=segment, tables=told, horizon_days=91, **more)
    )
    check(table, name="facts")
    return table.set_index("fact")


def test_facts_of_segments_and_members_are_what_the_tables_say(segments: pd.DataFrame) -> None:
    table = facts_of(segments, CardTables(needs=needs_of()), currency="GBP")
    features, segment = members_of(segments)
    for name in (n for n in SEGMENT_FACTS if n in segments):
        for row in segments.itertuples():
            if not np.isnan(getattr(row, name)):
                assert table.loc[f"{row.segment}.{name}", "value"] == pytest.approx(getattr(row, name))
    held = [n for n in MEMBER_FACTS if n in features]
    for own in segments["segment"]:
        for name in held:
            by_hand = sorted(features[name][segment == own])
            here = np.median(by_hand) if name in BY_MEDIAN else sum(by_hand) / len(by_hand)
            assert table.loc[f"{own}.{name}", "value"] == pytest.approx(here)
    assert table.loc["S01.spend_now", "unit"] == "GBP" and "S01.margin" not in table.index, "not known is no fact"


def test_each_fact_says_how_it_was_computed_and_names_are_unique(segments: pd.DataFrame) -> None:
    table = facts_of(segments, CardTables(needs=needs_of(S01=["TEA", "RUM"], S02=["RUM"])), labels={"TEA": "green tea"})
    assert (table["how"].str.len() > 5).all() and table.index.is_unique
    assert (
        table.loc["S01.need_1_cap", "text"] == "Green tea" and table.loc["S01.need_list", "text"] == "green tea and rum"
    )
    assert table.loc["S01.need_1_share", "value"] == 0.3 and "S13.need_1" not in table.index


def test_who_they_are_is_told_only_where_enough_are_known() -> None:
    index = pd.Index([f"c{i:03d}" for i in range(120)], name="customer_id")
    segment = pd.Series(np.repeat(["S01", "S02", "S03"], 40), index=index)
    known = pd.Series(np.r_[np.ones(40), np.ones(40), np.arange(40) < 15], index=index)
    old = pd.Series(np.r_[np.ones(36), np.zeros(4), np.tile([1.0, 0, 0, 0], 10), np.zeros(40)], index=index)
    features = pd.DataFrame({"active_days": 3.0, "demographic: age = 65+": old, "missing: age": 1 - known}, index=index)
    segments = pd.DataFrame({"segment": ["S01", "S02", "S03"], "customers": 40, "customer_share": 1 / 3})
    told = CardTables(needs=needs_of(), traits=segment_traits(features, segment))
    table = fact_table(collect_facts(segments, features=features, segment=segment, tables=told, horizon_days=91))
    table = table.set_index("fact")
    assert table.loc["S01.who_1", "text"] == "age: 65+" and table.loc["S01.who_1_share", "value"] == 0.9
    assert table.loc["S02.known", "value"] == 40 and "S02.who_1" not in table.index
    assert "S03.known" not in table.index, "fifteen are below the floor"
