"""Names: unique, from what segments do, and needs that no two share where it can be helped."""

import numpy as np
import pandas as pd
import pytest

from segkit.format import joined
from segkit.personas.naming import NO_NEED, activity_levels, habit_names, name_segments
from tests.personas.helpers import needs_of


def habits_of(**features: tuple[str, float]) -> pd.DataFrame:
    rows = [(s, f, e, e - 0.1, e + 0.1) for s, (f, e) in features.items()]
    return pd.DataFrame(rows, columns=["segment", "feature", "effect", "effect_low", "effect_high"])


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


def test_a_name_is_the_need_and_how_they_come_and_as_much_more_as_sets_it_apart() -> None:
    needs = needs_of(S01=["TEA", "RUM"], S02=["TEA", "GIN"], S03=["TEA"], S04=["TEA"])
    looks = pd.Series(["often", "often", "fading", "often"], index=["S01", "S02", "S03", "S04"])
    named = name_segments(looks, needs, habits=habits_of(S04=("evening_share", 0.8)))
    assert named["name"].tolist() == [
        "Tea regulars",
        "Tea and gin regulars",
        "Fading tea buyers",
        "Evening tea regulars",
    ]
    assert named["need"].tolist() == ["tea and rum", "tea and gin", "tea", "tea"]


def test_needs_of_two_segments_differ_where_there_is_another_to_tell() -> None:
    alike = ["TEA", "RUM", "GIN", "ALE", "OIL"]
    named = name_segments(pd.Series("often", index=["S01", "S02", "S03"]), needs_of(S01=alike, S02=alike, S03=alike))
    assert named["need"].is_unique


def test_labels_and_what_people_are_called() -> None:
    looks = pd.Series(["steady", "seldom"], index=["S01", "S02"])
    named = name_segments(looks, needs_of(S01=["API_K"]), labels={"API_K": "API keys"}, people="users")
    assert named["name"].tolist() == ["API keys users", "Occasional users"] and named.loc["S02", "need"] == NO_NEED


def test_a_name_holds_habits_and_never_who_they_are() -> None:
    habits = habits_of(S01=("demographic: age = 65+", 2.0), S02=("weekend_share", -0.5), S03=("channel_web_share", 0.4))
    assert habit_names(habits, segment="S01") == []
    assert habit_names(habits, segment="S02") == ["weekday"] and habit_names(habits, segment="S03") == ["web"]


def test_looks_are_ranks_of_how_often_and_fading_goes_first() -> None:
    segments = pd.DataFrame({"segment": ["S01", "S02", "S13"], "customers": [60, 40, 20]})
    segments["active_share_next"] = [0.9, 0.8, 0.2]
    often = pd.Series([9.0, 5.0, 1.0], index=segments["segment"])
    assert activity_levels(segments, often=often).tolist() == ["often", "steady", "fading"]
    unknown = segments.assign(active_share_next=np.nan)
    assert activity_levels(unknown, often=often).tolist() == ["often", "steady", "seldom"]
    alike = activity_levels(unknown, often=pd.Series(3.0, index=segments["segment"]))
    assert alike.nunique() == 1, "equal values get equal looks"


def test_lists_read_well() -> None:
    assert joined([]) == "" and joined(["milk and cream", "tea"]) == "milk and cream, and tea"
