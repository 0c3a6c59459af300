"""The vocabulary: every feature has a name, a block, a unit, a direction and words; each is made of sums that exist."""

import re

import pytest

from segkit.vocabulary import BLOCKS, FEATURES, describe, is_in_space, kind_features

KINDS = {"purchase": "customer", "coupon_used": "customer", "support_call": "customer", "mail": "company"}
ALL = [*FEATURES, *kind_features(KINDS)]


@pytest.mark.parametrize("feature", ALL, ids=lambda feature: feature.name)
def test_each_feature_is_told_in_plain_words(feature: object) -> None:
    assert feature.block in BLOCKS and feature.unit and feature.words and feature.low
    assert feature.direction in (-1, 0, 1) and feature.needs and feature.formula
    assert not re.search(r"[_\d]", feature.words + feature.low), "words, not names or figures"
    told = describe(feature.name)
    assert (told.name, told.block, told.unit, told.skewed) == (
        feature.name,
        feature.block,
        feature.unit,
        feature.skewed,
    )


def test_names_are_distinct() -> None:
    assert len({feature.name for feature in ALL}) == len(ALL)


def test_kinds_of_event_find_their_block() -> None:
    blocks = {feature.name: feature.block for feature in kind_features(KINDS)}
    assert blocks == {
        "coupon_used_count": "price",
        "mail_count": "engagement",
        "support_call_count": "service",
        "coupon_used_recency_days": "price",
        "mail_recency_days": "engagement",
        "support_call_recency_days": "service",
        "coupon_used_per_order": "price",
        "coupon_used_per_mail": "engagement",
        "support_call_per_mail": "engagement",
    }


def test_what_is_known_of_customers_and_needs_describe_and_do_not_enter_the_space() -> None:
    for name, block in (
        ("demographic: age = 45-54", "demographic"),
        ("missing: age", "missing"),
        ("needs: tea", "needs"),
    ):
        assert describe(name).block == block and not is_in_space(name)
