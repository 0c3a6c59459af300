"""Segment names are unique and built from needs and habits; labels are short and plain."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.personas.naming import (
    NO_NEED,
    activity_levels,
    distinct_terms,
    habit_names,
    label,
    name_segments,
    phrase_weights,
    phrases_of,
    tidy,
)
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
    levels = pd.Series("often", index=["S01", "S02", "S03", "S04", "S05"])
    named = name_segments(levels, needs)
    assert named["name"].is_unique and named.index.tolist() == levels.index.tolist()
    assert (named["need"] != "").all() and not named["name"].str.contains("/").any()
    pd.testing.assert_frame_equal(named, name_segments(levels, needs))


def test_a_name_combines_need_and_activity_with_more_where_names_collide() -> None:
    needs = needs_of(S01=["TEA", "RUM"], S02=["TEA", "GIN"], S03=["TEA"], S04=["TEA"])
    levels = pd.Series(["often", "often", "fading", "often"], index=["S01", "S02", "S03", "S04"])
    named = name_segments(levels, needs, habits=habits_of(S04=("evening_share", 0.8)))
    assert named["name"].tolist() == [
        "Tea regulars",
        "Tea and gin regulars",
        "Fading tea buyers",
        "Evening tea regulars",
    ]
    assert named["need"].tolist() == ["tea and rum", "tea and gin", "tea", "tea"]


def test_need_texts_differ_between_segments_where_possible() -> None:
    alike = ["TEA", "RUM", "GIN", "ALE", "OIL"]
    named = name_segments(pd.Series("often", index=["S01", "S02", "S03"]), needs_of(S01=alike, S02=alike, S03=alike))
    assert named["need"].is_unique


def test_names_use_labels_and_the_word_for_customers() -> None:
    levels = pd.Series(["steady", "seldom"], index=["S01", "S02"])
    named = name_segments(levels, needs_of(S01=["API_K"]), labels={"API_K": "API keys"}, people="users")
    assert named["name"].tolist() == ["API keys users", "Occasional users"] and named.loc["S02", "need"] == NO_NEED


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
