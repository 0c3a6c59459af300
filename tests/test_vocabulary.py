"""The vocabulary: every feature has a distinct name, a block, a unit, a direction, labels and a formula."""

import re

import pytest

from segkit.vocabulary import BLOCKS, FEATURES, Feature, describe, is_in_space, kind_features

KINDS = {"purchase": "customer", "coupon_used": "customer", "support_call": "customer", "mail": "company"}
ALL = [*FEATURES, *kind_features(KINDS)]


@pytest.mark.parametrize("feature", ALL, ids=lambda feature: feature.name)
def test_each_feature_is_reported_in_words(feature: Feature) -> None:
    assert feature.block in BLOCKS and feature.unit and feature.label and feature.low_label
    assert feature.direction in (-1, 0, 1) and feature.requires and feature.formula
    assert not re.search(r"[_\d]", feature.label + feature.low_label), "words, not names or figures"
    found = describe(feature.name)
    assert all(getattr(found, part) == getattr(feature, part) for part in ("name", "block", "unit", "skewed"))


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


def test_attributes_of_customers_and_needs_only_describe() -> None:
    for name, block in (
        ("demographic: age = 45-54", "demographic"),
        ("missing: age", "missing"),
        ("needs: tea", "needs"),
    ):
        assert describe(name).block == block and not is_in_space(name)
