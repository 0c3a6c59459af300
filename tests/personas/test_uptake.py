"""Effects of what customers take up: found where they are planted, and nowhere else."""

import numpy as np
import pandas as pd
import pytest

from segkit.personas.offerable import best_channel, best_moment, never_offered_share, out_of_season
from segkit.personas.returns import customer_states, value_of_return
from segkit.personas.uptake import CROSS_NEED, effect_of_uptake, estimate_uptakes, light_use, shrink
from tests.personas.planted import planted_cohort, planted_needs

WORLDS = 8


def _estimates(gain: float) -> tuple[pd.DataFrame, list[float]]:
    """Estimate several planted worlds; return all estimates, and the true gain of those who took up N01."""
    found, needs, truth = [], planted_needs(), []
    for seed in range(WORLDS):
        cohort, more = planted_cohort(gain=gain, seed=seed)
        limits = light_use(cohort.amounts(needs), cohort.level)
        raw = estimate_uptakes(cohort, needs, limits=limits)
        found.append(shrink(raw).assign(world=seed, raw=raw["effect"], z=raw["effect"] / raw["se"], se=raw["se"]))
        open_ = cohort.amounts(needs)[:, 0] < limits["M1"][0]
        taken = open_ & (cohort.window.weights.toarray()[:, 0] >= limits["M1"][0]) & (cohort.segment == "S01")
        truth.append(float(more[taken].mean()))
    return pd.concat(found, ignore_index=True), truth


def test_a_planted_effect_is_found_where_it_is() -> None:
    found, truth = _estimates(gain=120.0)
    target = (found["type"] == CROSS_NEED) & (found["need"] == "N01") & (found["segment"] == "S01")
    own, others = found[target].set_index("world"), found[~target]
    assert ((own["raw"] - truth).abs() < 2 * own["se"]).sum() >= WORLDS - 1
    assert own["raw"].mean() == pytest.approx(np.mean(truth), rel=0.25)
    assert own["chance"].mean() > 0.8 > 0.6 > others["chance"].mean()
    assert (own["effect"] < own["raw"]).all()  # shrunk, as the best of many estimates


def test_where_nothing_is_planted_chances_are_even_although_customers_swing_back() -> None:
    found, _ = _estimates(gain=0.0)
    assert abs(found["z"].mean()) < 0.25 and found["z"].std() == pytest.approx(1.0, abs=0.15)
    assert found["chance"].mean() == pytest.approx(0.5, abs=0.07)
    assert (found["effect"].abs() / found["typical"]).mean() < 0.03


def test_likeness_before_is_no_effect() -> None:
    rng = np.random.default_rng(3)
    size = rng.gamma(5.0, 20.0, 600)
    taken = rng.random(600) < size / size.max()  # large customers take it up
    effect, se = effect_of_uptake(size + rng.normal(0, 5, 600), taken, size[:, None])
    assert abs(effect) < 2.5 * se < 3


def test_noise_does_not_win() -> None:
    found = pd.DataFrame({
        "type": CROSS_NEED, "need": [f"N{i:02d}" for i in range(20)], "segment": "S01", "typical": 100.0,
        "effect": [60.0, 20.0, *([1.0, -1.0] * 9)], "se": [60.0, 4.0, *([3.0] * 18)],
    })  # fmt: skip
    after = shrink(found)
    assert after["effect"].idxmax() == 1 and after["chance"].idxmax() == 1
    assert (after["effect_low"] < after["effect"]).all() and after.loc[0, "effect"] < 10


def test_a_return_is_worth_what_those_who_stayed_away_would_bring() -> None:
    rng = np.random.default_rng(5)
    spend = np.where(np.arange(800) % 2 == 0, 20.0, 200.0)
    features = pd.DataFrame({"spend": spend, "stage_lapsed": 1.0})
    bought = rng.random(800) < np.where(spend > 100, 0.9, 0.2)
    found = value_of_return(features, np.where(bought, spend, 0.0), state=np.ones(800, dtype=bool))
    assert found.share == pytest.approx(bought.mean()) and found.low < found.value < found.high
    assert found.value < 60 < spend[bought].mean()  # mostly small customers stayed away
    assert value_of_return(features, np.zeros(800), state=np.ones(800, dtype=bool)) is None


def test_each_customer_is_in_one_state() -> None:
    stages = pd.DataFrame({
        "stage_new": [1, 0, 0, 0, 0, 0], "stage_lapsed": [0, 1, 1, 0, 0, 1], "stage_cooling": [0, 0, 0, 1, 1, 0],
        "orders": [1, 1, 5, 5, 5, 1],
    }, dtype=float)  # fmt: skip
    segment, level = (
        np.array(["S02", "S02", "S03", "S01", "S03", "S03"]),
        np.array(["M2", "M2", "M2", "M1", "M2", "M2"]),
    )
    states = customer_states(stages, segment=segment, level=level, once=["S02"], top=["M1"])
    assert {name: np.flatnonzero(who).tolist() for name, who in states.items()} == {
        "onboard": [0], "second_purchase": [1], "protect": [3], "win_back": [2, 5],
    }  # fmt: skip


def test_seasons_need_a_year_to_be_known() -> None:
    december = np.r_[np.zeros(48), np.ones(4)][:, None]
    steady = np.ones((52, 1))
    assert out_of_season(np.hstack([december, steady]), horizon_days=91).tolist() == [True, False]
    assert out_of_season(np.roll(december, -44, axis=0), horizon_days=91).tolist() == [False]  # a year ago it was soon
    assert out_of_season(december[26:], horizon_days=91).tolist() == [True]


def test_goods_that_are_never_offered_are_known_from_the_table_or_the_lexicon() -> None:
    things = pd.DataFrame(
        {"thing": ["BEERS/ALES", "CIGARETTES", "BREAD"], "need": ["N1", "N1", "N2"], "weight": [0.5, 0.5, 1.0]}
    )
    assert never_offered_share(things, labels={}).to_dict() == {"N1": 1.0, "N2": 0.0}
    marked = never_offered_share(things.assign(never_offer=[False, False, True]), labels={})
    assert marked.to_dict() == {"N1": 0.0, "N2": 1.0}


def test_moment_and_channel_are_named_only_where_they_differ_clearly() -> None:
    rng = np.random.default_rng(1)
    members = np.arange(200) < 100
    features = pd.DataFrame(
        {"saturday_share": rng.random(200) * 0.2 + 0.2 * members, "channel_web_share": rng.random(200)}
    )
    assert best_moment(features, members) == "saturday"
    assert best_channel(features, members) is None
