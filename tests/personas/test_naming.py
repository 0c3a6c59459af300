"""Segment names are unique and built from levels, needs and habits; labels are short and plain."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.personas.naming import (
    NO_NEED,
    activity_levels,
    distinct_terms,
    earlier_names,
    habit_names,
    label,
    level_names,
    name_segments,
    phrase_weights,
    phrases_of,
    tidy,
)


def habits_of(**features: tuple[str, float]) -> pd.DataFrame:
    rows = [(s, f, e, e - 0.1, e + 0.1) for s, (f, e) in features.items()]
    return pd.DataFrame(rows, columns=["segment", "feature", "effect", "effect_low", "effect_high"])


def names_of(levels: list[str], needs: list[str | None], **more: Any) -> pd.DataFrame:
    """The names of segments S01, S02 and so on, of these levels and needs."""
    index = [f"S{i + 1:02d}" for i in range(len(levels))]
    return name_segments(pd.Series(levels, index=index), pd.Series(needs, index=index, dtype=object), **more)


@pytest.mark.parametrize("needs", [[None] * 5, ["Tea"] * 5, ["Tea", "tea", "TEA", "", None]])
def test_names_are_unique_whatever_the_needs(needs: list[str | None]) -> None:
    named = names_of(["Top"] * 5, needs)
    assert named["name"].is_unique and named.index.tolist() == ["S01", "S02", "S03", "S04", "S05"]
    pd.testing.assert_frame_equal(named, names_of(["Top"] * 5, needs))


def test_a_name_combines_level_and_need_with_a_habit_where_names_collide() -> None:
    habits = habits_of(S03=("evening_share", 0.8), S05=("weekend_share", 0.5))
    named = names_of(
        ["Top", "Light", "Top", "Light", "Light"],
        ["Fresh produce", "TV and audio", "Fresh produce", *[None] * 2],
        habits=habits,
        people="users",
    )
    assert named["name"].tolist() == [
        "Top: fresh produce",
        "Light: TV and audio",
        "Top evening: fresh produce",
        "Light users",
        "Light weekend users",
    ]
    assert named["need_name"].tolist() == ["Fresh produce", "TV and audio", "Fresh produce", NO_NEED, NO_NEED]


def test_levels_are_named_by_their_rank_and_by_who_is_new_or_lapsing() -> None:
    segments = pd.DataFrame({"segment": ["S01", "S02", "S03", "S04"], "macro_segment": ["M1", "M2", "M10", "M10"]})
    segments = segments.assign(customers=10)
    stages = pd.DataFrame({"stage_new": 0.1, "stage_cooling": 0.2, "stage_lapsed": 0.2}, index=segments["segment"])
    assert level_names(segments, stages=stages).tolist() == ["Top", "Core", "Light", "Light"]
    lapsed = stages.assign(stage_lapsed=[0.1, 0.4, 0.6, 0.7])
    assert level_names(segments, stages=lapsed).tolist() == ["Top", "Core", "Lapsing", "Lapsing"]
    partly = stages.assign(stage_lapsed=[0.1, 0.4, 0.9, 0.3])
    assert level_names(segments, stages=partly).tolist() == ["Top", "Core", "Light", "Light"], "most of S04 are active"
    second = stages.assign(stage_lapsed=[0.9, 0.8, 0.1, 0.1])
    assert level_names(segments, stages=second).tolist() == ["Top", "Lapsing", "Light", "Light"]
    new = stages.assign(stage_new=[0.9, 0.1, 0.1, 0.1])
    assert level_names(segments, stages=new).tolist() == ["New", "Core", "Light", "Light"]


def test_names_use_habits_and_never_demographics() -> None:
    habits = habits_of(S01=("demographic: age = 65+", 2.0), S02=("weekend_share", -0.5), S03=("channel_web_share", 0.4))
    assert habit_names(habits, segment="S01") == []
    assert habit_names(habits, segment="S02") == ["weekday"] and habit_names(habits, segment="S03") == ["web"]


def test_activity_levels_are_ranks_and_fading_overrides_them() -> None:
    segments = pd.DataFrame({"segment": ["S01", "S02", "S13"], "customers": [60, 40, 20]})
    segments["active_share_next"] = [0.9, 0.8, 0.2]
    often = pd.Series([9.0, 5.0, 1.0], index=segments["segment"])
    assert activity_levels(segments, often=often).tolist() == ["often", "steady", "fading"]
    unknown = segments.assign(active_share_next=np.nan)
    assert activity_levels(unknown, often=often).tolist() == ["often", "steady", "seldom"]
    alike = activity_levels(unknown, often=pd.Series(3.0, index=segments["segment"]))
    assert alike.nunique() == 1, "equal values get equal levels"


def test_categories_are_written_in_lower_case_without_abbreviations() -> None:
    assert tidy("FRZN  MEAT/MEAT DINNERS") == "frozen meat" and tidy("soft_drinks ") == "soft drinks"
    assert tidy("VEGETABLES - ALL OTHERS") == "vegetables" and tidy("/") == "/"
    assert tidy("Toys > Games") == "toys & games"


def test_a_label_of_the_source_comes_first() -> None:
    assert label("PNT BTR", labels={"PNT BTR": "peanut butter"}) == "peanut butter"
    assert label("PNT BTR", labels={}) == "peanut butter" and label("TEA") == "tea"


@pytest.mark.parametrize(
    ("name", "included", "excluded"),
    [
        ("JUMBO BAG RED RETROSPOT", {"jumbo bag", "bag red retrospot"}, {"bag red", "red"}),
        ("HOT WATER BOTTLE TEA AND SYMPATHY", {"hot water bottle", "tea and sympathy"}, {"tea and", "and sympathy"}),
        ("SET OF 3 CAKE TINS", {"cake tins", "cake"}, {"set", "set of"}),
        ("12 / 24", set(), {"12"}),
    ],
)
def test_phrases_are_whole_product_names(name: str, included: set[str], excluded: set[str]) -> None:
    found = set(phrases_of(name))
    assert included <= found and not excluded & found


def test_weights_are_added_up_by_phrase_without_single_products() -> None:
    names = [f"JUMBO BAG {kind}" for kind in ("APPLE", "PEAR", "PLUM", "OWL", "CAT")] + ["ODD LAMP"]
    bought = sparse.csr_array([[1.0, 2, 0, 0, 0, 5], [0, 0, 0, 0, 3, 0]])
    weights, phrases = phrase_weights(bought, names)
    assert phrases == ["bag", "jumbo", "jumbo bag"]
    assert weights.toarray()[:, phrases.index("jumbo bag")].tolist() == [3.0, 3.0]


def test_distinct_terms_share_no_word() -> None:
    assert distinct_terms(["jumbo bag", "bag", "lunch bag", "clock", "jumbo clock"], most=3) == ["jumbo bag", "clock"]


def test_a_name_of_an_earlier_run_stays_while_it_is_true() -> None:
    rows = [
        ("S01", "Top: baby care", "Top", "N01", "Baby care"),
        ("S02", "Top: fuel", "Top", "N02", "Fuel"),  # an analyst names this need
        ("S03", "Drivers", "Top", "N02", "Fuel"),  # a person gave this name
        ("S04", "Core weekend buyers S04", "Core", None, NO_NEED),  # has a need today
        ("S05", "Core buyers", "Core", None, NO_NEED),
        ("S06", "Core: wine", "Core", "N03", "Wine"),  # another level today
    ]
    columns = ["segment", "name", "level", "need", "need_name"]
    earlier = pd.DataFrame(rows, columns=columns)
    now = earlier.set_index("segment").drop(columns="name")
    now.loc[["S02", "S03"], "need_name"] = "On the road"
    now.loc["S04", ["need", "need_name"]] = "N01", "Baby care"
    now.loc["S06", "level"] = "Top"
    assert set(earlier_names(earlier, now=now)) == {"S01", "S03", "S05"}
    assert earlier_names(None, now=now) == {}
