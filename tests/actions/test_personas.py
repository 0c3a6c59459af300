"""Personas: names that are unique, and cards written from facts alone."""

import re

import pandas as pd
import pytest

from segkit.actions.facts import fact_table
from segkit.actions.personas import (
    ACTIONS,
    LOOKS,
    NO_NEED_ACTIONS,
    PRIVACY_FLOOR,
    TOO_FEW,
    name_segments,
    next_action,
    segment_facts,
    segment_looks,
    tidy,
    write_personas,
)
from segkit.schema import check


def needs_of(**terms: list[str]) -> pd.DataFrame:
    """Needs of segments, strongest first."""
    rows = [
        {"segment": s, "term": t, "effect": 1.0 - i / 10, "share": 0.3, "others": 0.1, "buyers": 0.9 - i / 10}
        for s, names in terms.items()
        for i, t in enumerate(names)
    ]
    return pd.DataFrame(rows, columns=["segment", "term", "effect", "share", "others", "buyers"])


def members(segments: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Features of the customers of the segments, and the segment of each."""
    segment = segments["segment"].repeat(segments["customers"]).reset_index(drop=True)
    segment.index = pd.Index([f"c{i:03d}" for i in range(len(segment))], name="customer_id")
    features = {"orders": 4.0, "gap_days": 9.5, "order_value": 20.0, "lines_per_order": 3.0, "weekend_share": 0.4}
    return pd.DataFrame(features | {"active_days": 4.0}, index=segment.index), segment


@pytest.fixture
def large(segments: pd.DataFrame) -> pd.DataFrame:
    """The three segments, above the privacy floor."""
    return segments.assign(customers=[60, 40, 20])


def cards_of(segments: pd.DataFrame, needs: pd.DataFrame, **looks: str) -> pd.DataFrame:
    features, segment = members(segments)
    facts = segment_facts(segments, features=features, segment=segment, needs=needs, horizon_days=91)
    check(fact_table(facts), name="facts")
    chosen = pd.Series(dict.fromkeys(segments["segment"], "often") | looks)
    return write_personas(segments, looks=chosen, facts=facts)


@pytest.mark.parametrize(
    "needs",
    [
        needs_of(),
        needs_of(S01=["TEA"], S02=["TEA"], S03=["TEA"], S04=["TEA"]),
        needs_of(S01=["TEA", "RUM"], S02=["TEA", "RUM"], S03=["RUM", "TEA"], S04=["TEA/GREEN", "tea"]),
    ],
)
def test_names_are_unique_whatever_the_needs(needs: pd.DataFrame) -> None:
    looks = pd.Series("often", index=["S01", "S02", "S03", "S04", "S05"])
    named = name_segments(looks, needs)
    assert named["name"].is_unique and named.index.tolist() == looks.index.tolist()
    assert (named["need"] != "").all() and not named["name"].str.contains("/").any()
    pd.testing.assert_frame_equal(named, name_segments(looks, needs))


def test_a_name_is_the_rhythm_and_as_few_needs_as_set_it_apart() -> None:
    needs = needs_of(S01=["TEA", "RUM"], S02=["TEA", "GIN"], S03=["TEA"])
    named = name_segments(pd.Series(["often", "often", "fading"], index=["S01", "S02", "S03"]), needs)
    assert named["name"].tolist() == ["Frequent tea", "Frequent tea and gin", "Fading tea"]
    assert named["need"].tolist() == ["tea and rum", "tea and gin", "tea"]


def test_looks_are_ranks_of_how_often_and_fading_goes_first(large: pd.DataFrame) -> None:
    often = pd.Series([9.0, 5.0, 1.0], index=large["segment"])
    assert segment_looks(large, often=often).tolist() == ["often", "steady", "fading"]
    unknown = large.assign(active_share_next=float("nan"))
    assert segment_looks(unknown, often=often).tolist() == ["often", "steady", "seldom"]
    alike = segment_looks(unknown, often=pd.Series(3.0, index=large["segment"]))
    assert alike.nunique() == 1, "equal values get equal looks"


def test_cards_tell_size_need_and_what_comes_next(large: pd.DataFrame) -> None:
    cards = cards_of(large, needs_of(S01=["TEA"], S02=["GIN", "RUM"])).set_index("segment")
    check(cards.reset_index(), name="personas")
    assert cards.loc["S02", "story"].startswith("40 customers (33\u00a0% of all, 60\u00a0% of revenue)")
    assert "gin and rum" in cards.loc["S02", "story"] and "30\u00a0%" in cards.loc["S02", "story"]
    assert cards.loc["S13", "story"] == "20 customers (17\u00a0% of all, 10\u00a0% of revenue)."
    assert "90\u00a0% came back within 91 days" in cards.loc["S01", "next"]
    assert "4 orders" in cards.loc["S01", "how_they_buy"]
    assert not cards.apply(lambda column: column.str.contains("[{}]")).any().any()


def test_no_story_below_the_privacy_floor(large: pd.DataFrame) -> None:
    small = large.assign(customers=[PRIVACY_FLOOR - 1, PRIVACY_FLOOR, 60])
    cards = cards_of(small, needs_of(S01=["TEA"], S02=["TEA"])).set_index("segment")
    texts = cards.drop(columns=["name", "need"])
    assert texts.loc["S01"].to_dict() == dict.fromkeys(texts.columns, "") | {"caution": TOO_FEW}
    assert cards.loc["S02", "story"] != "" and cards.loc["S02", "caution"] == ""


def test_an_unstable_segment_carries_a_caution_with_its_stability(large: pd.DataFrame) -> None:
    cards = cards_of(large.assign(verdict="unstable", stability=0.31), needs_of()).set_index("segment")
    assert cards["caution"].str.contains("stability 0.31").all()


def test_with_short_history_the_next_horizon_is_not_known(large: pd.DataFrame) -> None:
    unknown = large.assign(active_share_next=float("nan"), spend_next=float("nan"), revenue_share=float("nan"))
    cards = cards_of(unknown, needs_of())
    assert cards["next"].str.startswith("Not known").all() and cards["story"].str.endswith("of all).").all()
    assert not cards.apply(lambda column: column.str.contains("–|nan", flags=re.IGNORECASE)).any().any()


def test_every_look_has_its_actions_and_every_action_renders(large: pd.DataFrame) -> None:
    features, segment = members(large)
    assert set(ACTIONS) == set(NO_NEED_ACTIONS) == set(LOOKS)
    for needs in (needs_of(), needs_of(S01=["TEA", "RUM"])):
        facts = segment_facts(large, features=features, segment=segment, needs=needs, horizon_days=91)
        told = [next_action(look, facts=facts, segment="S01") for look in LOOKS]
        assert len(set(told)) == len(LOOKS) and all("tea" in t for t in told) is (len(needs) > 0)


def test_names_of_categories_are_said_as_people_say_them() -> None:
    assert tidy("FRZN  MEAT/MEAT DINNERS") == "frzn meat & meat dinners" and tidy("soft_drinks ") == "soft drinks"
    assert tidy("/") == "/"
