"""The space of expected outcomes: learnt one horizon back, applied at any date."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.anticipation import (
    Space,
    anticipate,
    balanced_space,
    describe_axes,
    forecast_accuracy,
    forecast_accuracy_metrics,
    learn_space,
    map_colours,
    value_outcomes,
)
from segkit.customers.category_mix import mix_shares
from segkit.customers.features import Outcomes
from segkit.segments.scoring import adjusted_r2
from segkit.tables import check

Plant = Callable[..., tuple]


def as_bytes(space: Space) -> dict[str, object]:
    values = {field.name: getattr(space, field.name) for field in fields(space)}
    return {name: v.tobytes() if isinstance(v, np.ndarray) else v for name, v in values.items()}


def test_expected_spend_and_mix_follow_what_was_planted(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    expected = anticipate(learn_space(windows.then, windows.outcomes), windows.now)
    assert expected.outcomes.index.equals(windows.now.features.index)
    spent = np.log1p(windows.now.features["spend"])
    assert expected.outcomes["spend"].corr(spent) > 0.9
    likely = expected.mix.idxmax(axis=1).str.split().str[0]
    assert (likely == np.array(["bake", "grill", "clean", "dine"])[need]).mean() > 0.95
    assert adjusted_r2(need, expected.axes.to_numpy())[0] > 0.5


def test_same_seed_gives_the_same_bytes(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    assert as_bytes(learn_space(windows.then, windows.outcomes, seed=3)) == as_bytes(
        learn_space(windows.then, windows.outcomes, seed=3)
    )


def test_larger_value_weight_gives_spend_more_of_the_axes(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    r2 = []
    for weight in (0.1, 3.0):
        expected = anticipate(learn_space(windows.then, windows.outcomes, value_weight=weight, axes=1), windows.now)
        r2.append(expected.axes["axis_1"].corr(expected.outcomes["spend"]) ** 2)
    assert r2[0] < 0.5 < r2[1]


def test_the_number_of_axes_is_as_given_and_customers_are_unchanged(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    before, weights = windows.now.features.copy(), windows.now.weights.toarray()
    for count in (1, 2, 4):
        axes = anticipate(learn_space(windows.then, windows.outcomes, axes=count), windows.now).axes
        assert axes.columns.tolist() == [f"axis_{i + 1}" for i in range(count)]
    pd.testing.assert_frame_equal(windows.now.features, before)
    np.testing.assert_array_equal(windows.now.weights.toarray(), weights)


def test_order_of_customers_and_extra_columns_do_not_matter(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.outcomes)
    shuffled = windows.now.select(np.random.default_rng(0).permutation(len(windows.now.features)))
    wider = shuffled.features.assign(spend_of_tomorrow=1.0)
    again = anticipate(space, type(shuffled)(wider, shuffled.weights, shuffled.categories))
    expected = anticipate(space, windows.now)
    pd.testing.assert_frame_equal(again.axes.loc[expected.axes.index], expected.axes)


def test_a_giant_customer_is_placed_near_the_others(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.outcomes)
    giant = windows.now.select(np.array([0]))
    giant = type(giant)(features=giant.features * 1e9, weights=giant.weights, categories=giant.categories)
    usual = anticipate(space, windows.now).axes.abs().max().max()
    assert anticipate(space, giant).axes.abs().max().max() < 10 * usual


def test_a_balanced_space_predicts_nothing_and_places_everyone(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    space = balanced_space(windows.now)
    expected = anticipate(space, windows.now)
    assert space.outcome_names == () and space.mix_terms == ()
    assert expected.outcomes.shape == (240, 0) and expected.mix.shape == (240, 0)
    assert np.isfinite(expected.axes.to_numpy()).all() and adjusted_r2(need, expected.axes.to_numpy())[0] > 0.2


def test_without_categories_or_money_the_space_predicts_activity(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    now = type(windows.now)(features=windows.now.features[["active_days", "recency_days"]], weights=None, categories=())
    outcomes = Outcomes(totals=windows.outcomes.totals[["active_days", "orders"]] * [1, 0], weights=None, categories=())
    expected = anticipate(learn_space(now, outcomes), now)
    assert expected.outcomes.columns.tolist() == ["active_days"] and expected.mix.empty
    assert np.isfinite(expected.axes.to_numpy()).all()


def test_value_outcomes_are_logs_of_available_totals_and_not_negative() -> None:
    totals = pd.DataFrame({"orders": [0.0, 2.0], "active_days": [1.0, 2.0], "spend": [-5.0, np.e - 1]})
    names, values = value_outcomes(Outcomes(totals=totals, weights=None, categories=()))
    assert names == ["spend", "orders"]
    np.testing.assert_allclose(values, [[0.0, 0.0], [1.0, np.log(3)]])
    nothing = totals.assign(orders=0.0, spend=0.0)
    assert value_outcomes(Outcomes(totals=nothing, weights=None, categories=()))[0] == ["active_days"]


def test_mix_shares_of_buyers_are_square_roots_of_shares() -> None:
    amounts = sparse.csr_array(np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]))
    shares, bought = mix_shares(amounts, ["a", "b", "c"], terms=["b", "a"])
    assert bought.tolist() == [True, False, False]
    np.testing.assert_allclose(shares, [[np.sqrt(0.75), 0.5], [0, 0], [0, 0]])


@pytest.mark.parametrize("words", [False, True])
def test_free_text_categories_are_predicted_by_their_words(planted_windows: Plant, words: bool) -> None:
    windows, _ = planted_windows()
    names = windows.then.categories
    if words:  # six hundred names of the same things
        spread = sparse.csr_array(np.kron(np.eye(len(names)), np.eye(1, 50)))
        names = tuple(f"{name.split()[0]} {'abcdefghij'[i % 10]}x" for name in names for i in range(50))
        windows = type(windows)(
            now=type(windows.now)(windows.now.features, windows.now.weights @ spread, names),
            then=type(windows.now)(windows.then.features, windows.then.weights @ spread, names),
            outcomes=Outcomes(windows.outcomes.totals, windows.outcomes.weights @ spread, names),
        )
    space = learn_space(windows.then, windows.outcomes)
    assert space.words is words and (("bake" in space.mix_terms) is words)


def test_planted_habits_are_predicted_with_an_interval_around_the_r2(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    table = forecast_accuracy(windows.then, windows.outcomes, folds=3).set_index("name")
    assert table.index.tolist() == ["spend", "orders", "mix"]
    assert (table["r2"] > 0.3).all() and ((table["low"] < table["r2"]) & (table["r2"] < table["high"])).all()


def test_shuffled_outcomes_cannot_be_predicted(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    order = np.random.default_rng(5).permutation(len(windows.outcomes.totals))
    outcomes = windows.outcomes.select(order)
    shuffled = Outcomes(outcomes.totals.set_axis(windows.outcomes.totals.index), outcomes.weights, outcomes.categories)
    assert (forecast_accuracy(windows.then, shuffled, folds=3)["r2"].abs() < 0.1).all()


def test_the_seed_decides_the_accuracy(planted_windows: Plant) -> None:
    windows, _ = planted_windows(120)
    first, again, other = (forecast_accuracy(windows.then, windows.outcomes, folds=2, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_without_history_accuracy_is_an_empty_table_with_the_same_columns(planted_windows: Plant) -> None:
    windows, _ = planted_windows(120)
    empty = forecast_accuracy(None, None)
    assert empty.empty and forecast_accuracy_metrics(empty) == {}
    assert empty.dtypes.to_dict() == forecast_accuracy(windows.then, windows.outcomes, folds=2).dtypes.to_dict()
    check(empty, name="predictability")


def test_accuracy_metrics_are_flat_names_with_intervals() -> None:
    table = pd.DataFrame({"name": ["spend"], "r2": [0.5], "low": [0.4], "high": [0.6]})
    assert forecast_accuracy_metrics(table) == {
        "predictability.spend_r2": 0.5,
        "predictability.spend_r2.low": 0.4,
        "predictability.spend_r2.high": 0.6,
    }


def test_each_axis_has_two_described_ends_and_shares_sum_to_one(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.outcomes)
    table = describe_axes(anticipate(space, windows.now))
    assert table["axis"].tolist() == [name.replace("_", " ") for name in anticipate(space, windows.now).axes]
    assert abs(table["share"].sum() - 1) < 1e-9 and (table[["high", "low"]].map(len) > 0).all().all()


def test_small_maps_show_spend_and_the_main_need(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    expected = anticipate(learn_space(windows.then, windows.outcomes), windows.now)
    values = map_colours(expected, windows.now)
    assert values.index.equals(windows.now.features.index)
    assert values.columns.tolist() == ["expected spend (log)", "main need"]
    shown = values["main need"].str.split().str[0]
    frequent = shown != "other"
    assert (shown[frequent] == np.array(["bake", "grill", "clean", "dine"])[need][frequent]).mean() > 0.8
