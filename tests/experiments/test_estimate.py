"""Lift: it equals the known effect, and its intervals hold as often as stated."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.errors import InputError
from segkit.experiments.design import (
    CONTROL,
    TREATMENT,
    Spread,
    draw_treatment,
    imbalance,
    size_needed,
    smallest_effect,
    strata_of,
)
from segkit.experiments.estimate import (
    Lift,
    Price,
    estimate_lift,
    estimate_lifts,
    price_of,
    returns_of,
    verdict_of,
    with_simultaneous_intervals,
)

COLUMNS = ("pre",)


def made_up(seed: int, *, size: int = 120, lifts: tuple[float, ...] = (0.0, 0.5)) -> tuple[pd.DataFrame, pd.Series]:
    """Heavy-tailed spend of two segments, predicted in part by earlier spend; treated by the product's draw."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"c{i:04d}" for i in range(size * len(lifts))], name="customer_id")
    segment = pd.Series(np.repeat([f"S0{i + 1}" for i in range(len(lifts))], size), index=index)
    pre = pd.Series(rng.lognormal(3, 1, len(index)), index=index)
    stratum = strata_of(segment, pre)
    arm = draw_treatment(stratum, treated_share=dict.fromkeys(segment.unique(), 0.5), seed=seed, salt="2024")
    added = segment.map(dict(zip(sorted(segment.unique()), lifts, strict=True))) * 20.0
    spend = pre * rng.lognormal(0, 0.4, len(index)) + rng.lognormal(2, 1, len(index)) + added * (arm == TREATMENT)
    return pd.DataFrame({"segment": segment, "stratum": stratum, "arm": arm, "pre": pre}), spend


def test_lift_without_covariates_is_the_difference_of_means() -> None:
    values = np.array([1.0, 3.0, 2.0, 6.0, 4.0, 8.0])
    treated = np.array([False, False, False, True, True, True])
    found = estimate_lift(values, treated=treated, covariate_values=np.empty((6, 0)))
    assert (found.treated, found.control) == (3, 3)
    assert found.lift == pytest.approx(4.0) and found.control_mean == pytest.approx(2.0)
    assert found.df == pytest.approx(25 / 8.5)  # Welch's, of spreads 1 and 4
    assert found.se > np.sqrt(1 / 3 + 4 / 3) and found.explained == 0


def test_covariates_reduce_the_standard_error() -> None:
    units, spend = made_up(1, size=300, lifts=(0.5,))
    with_past = estimate_lifts(units, spend, columns=COLUMNS)[0]
    without = estimate_lifts(units, spend, columns=())[0]
    assert with_past.se < 0.8 * without.se and with_past.explained > 0.4
    assert abs(with_past.lift - 10) < 3 * with_past.se


def test_more_segments_widen_each_interval_and_all_is_one_more() -> None:
    units, spend = made_up(2)
    both = estimate_lifts(units, spend, columns=COLUMNS)
    alone = estimate_lifts(units[units["segment"] == "S01"], spend, columns=COLUMNS)
    assert [one.segment for one in both] == ["S01", "S02", "all"] and [one.segment for one in alone] == ["S01"]
    assert both[0].lift == alone[0].lift and both[0].high - both[0].low > alone[0].high - alone[0].low
    assert both[2].lift == pytest.approx((both[0].lift + both[1].lift) / 2)


def test_where_nothing_varies_there_is_no_interval_and_no_verdict() -> None:
    flat = estimate_lift(np.ones(40), treated=np.arange(40) % 2 == 0, covariate_values=np.ones((40, 1)))
    zero = with_simultaneous_intervals(
        [estimate_lift(np.zeros(40), treated=np.arange(40) % 2 == 0, covariate_values=np.ones((40, 1)))]
    )[0]
    assert np.isnan(zero.se) and verdict_of(zero, price=Price(1.0, 1.0))[0] == "cannot tell"
    assert flat.se > 0, "all are active: known well, but not without error"


def test_intervals_hold_together_and_a_false_scale_is_rare() -> None:
    covered, false = [], []
    for seed in range(60):
        units, spend = made_up(seed, size=80)
        lifts = estimate_lifts(units, spend, columns=COLUMNS)
        true_lift = {"S01": 0.0, "S02": 10.0, "all": 5.0}
        covered.append(all(one.low <= true_lift[one.segment] <= one.high for one in lifts))
        even = [verdict_of(one, price=Price(true_lift[one.segment], 1.0))[0] for one in lifts]
        false.append("scale" in even)
    assert np.mean(covered) >= 0.95 and np.mean(false) <= 0.05


@pytest.mark.parametrize(
    ("low", "high", "price", "verdict"),
    [
        (1, 3, Price(0.1, 0.25), "scale"),
        (1, 3, Price(0.5, 0.25), "go on"),
        (1, 3, Price(), "go on"),
        (1, 3, Price(1.0, 0.25), "stop"),
        (-3, -1, Price(), "stop"),
        (-1, 3, Price(0.1, 0.25), "cannot tell"),
        (-1, 3, Price(1.0, 0.25), "stop"),
        (-1, 3, Price(), "cannot tell"),
    ],
)
def test_verdict_follows_the_rule(low: float, high: float, price: Price, verdict: str) -> None:
    one = Lift("S01", 50, 50, 2, 1, (low + high) / 2, 0.5, 98, 0.2, low=low, high=high)
    assert verdict_of(one, price=price)[0] == verdict
    returns = returns_of([one], price=price).iloc[0]
    assert np.isnan(returns["total"]) != price.is_complete


@pytest.mark.parametrize(
    ("cost", "margin", "kpi", "words"),
    [
        (-1.0, 0.2, "spend", "--contact-cost -1.0: below zero or not a number"),
        (float("inf"), 0.2, "spend", "--contact-cost inf: below zero or not a number"),
        (1.0, 0.0, "spend", "--margin 0.0: not above zero"),
        (1.0, 25.0, "spend", "For 25 % give 0.25"),
    ],
)
def test_an_impossible_price_is_refused(cost: float, margin: float, kpi: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        price_of(cost, margin, kpi=kpi)
    assert price_of(1.0, 25.0, kpi="orders").break_even == pytest.approx(0.04)


def test_a_larger_pilot_sees_less_and_more_segments_need_more() -> None:
    spread = Spread("S01", 200, 100.0, 60.0, 50.0)
    small = smallest_effect(spread, treated=50, control=50)
    assert smallest_effect(spread, treated=200, control=200) == pytest.approx(small / 2, rel=0.02)
    assert smallest_effect(spread, treated=50, control=50, comparisons=3) > small
    assert size_needed(spread, effect=small) == pytest.approx(100, abs=4)
    assert size_needed(spread, effect=0.0) is None and np.isnan(smallest_effect(spread, treated=1, control=9))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.floats(0.1, 0.9), st.randoms(use_true_random=False))
def test_draw_does_not_depend_on_the_order_of_rows_and_keeps_shares(n: int, share: float, random: object) -> None:
    index = pd.Index([f"c{i}" for i in range(n)])
    segment = pd.Series("S01", index=index)
    stratum = strata_of(segment, pd.Series(np.arange(n) // 3, index=index, dtype=float))
    order = list(index)
    random.shuffle(order)
    given_ = {"treated_share": {"S01": share}, "seed": 7, "salt": "x"}
    first, again = draw_treatment(stratum, **given_), draw_treatment(stratum[order], **given_)
    pd.testing.assert_series_equal(first, again[index])
    counts = first.groupby(stratum).agg(lambda arms: (arms == TREATMENT).sum())
    assert (abs(counts - share * stratum.value_counts()) < 1).all()


def test_another_seed_or_start_draws_other_customers_and_equal_values_share_a_stratum() -> None:
    units, _ = made_up(3)
    again = [
        draw_treatment(units["stratum"], treated_share={"S01": 0.5, "S02": 0.5}, seed=seed, salt=salt)
        for seed, salt in ((1, "a"), (2, "a"), (1, "b"))
    ]
    assert not again[0].equals(again[1]) and not again[0].equals(again[2])
    tied = strata_of(pd.Series("S01", index=range(100)), pd.Series(5.0, index=range(100)))
    assert set(tied) == {"S01/1"}


def test_imbalance_is_compared_with_chance() -> None:
    units, _ = made_up(4)
    fair = imbalance(units, columns=COLUMNS)
    assert (fair["difference"].abs() < fair["chance"]).all()
    units["arm"] = np.where(units["pre"] > units["pre"].median(), TREATMENT, CONTROL)
    assert (imbalance(units, columns=COLUMNS)["difference"] > fair["chance"]).all()
