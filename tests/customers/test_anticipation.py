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
    leading_need,
    learn_space,
    map_colours,
    value_outcomes,
)
from segkit.customers.category_mix import mix_shares
from segkit.customers.features import CustomerData, Outcomes
from segkit.customers.needs import Needs
from segkit.segments.fit import FitData, fit_needs
from segkit.segments.scoring import adjusted_r2
from segkit.tables import check

Plant = Callable[..., tuple]


def as_bytes(space: Space) -> dict[str, object]:
    values = {field.name: getattr(space, field.name) for field in fields(space)}
    return {name: v.tobytes() if isinstance(v, np.ndarray) else v for name, v in values.items()}


def needs_of(windows: FitData) -> Needs:
    """The planted needs, each of its three things; bread, which all buy, may be one of its own."""
    found = fit_needs(windows, bags=6)
    assert found is not None and len(found.ids) in (4, 5)
    return found


def planted_of(needs: Needs) -> dict[str, str]:
    """The planted need behind each id, by the first word of its things."""
    return {need: name.split()[0] for need, name in zip(needs.ids, needs.names, strict=True)}


def test_expected_spend_and_needs_follow_what_was_planted(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    needs = needs_of(windows)
    expected = anticipate(learn_space(windows.then, windows.outcomes, needs=needs), windows.now)
    assert expected.outcomes.index.equals(windows.now.features.index)
    spent = np.log1p(windows.now.features["spend"])
    assert expected.outcomes["spend"].corr(spent) > 0.9
    assert expected.needs.columns.tolist() == list(needs.ids)
    planted = np.array(["bake", "grill", "clean", "dine"])[need]
    assert (leading_need(expected).map(planted_of(needs)) == planted).mean() > 0.9
    assert adjusted_r2(need, expected.axes.to_numpy())[0] > 0.4


def test_the_first_axis_is_expected_spend_alone_and_each_need_has_one(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.outcomes, needs=needs_of(windows))
    expected = anticipate(space, windows.now)
    assert expected.axes.columns.tolist() == [f"axis_{i + 1}" for i in range(1 + len(space.needs))]
    assert expected.axes["axis_1"].corr(expected.outcomes["spend"]) == pytest.approx(1)
    then = anticipate(space, windows.then).axes
    assert then["axis_1"].std(ddof=0) == pytest.approx(1) and abs(then["axis_1"].mean()) < 1e-6
    assert then.iloc[:, 1:].var(ddof=0).sum() == pytest.approx(1), "what for weighs as much as how much"
    for axis, need in zip(expected.axes.columns[1:], space.needs, strict=True):
        assert expected.axes[axis].corr(expected.needs[need]) == pytest.approx(1)


def test_without_needs_the_axes_are_habits_in_both_directions(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.outcomes)
    axes = anticipate(space, windows.now).axes.to_numpy()
    assert space.needs == () and axes.shape[1] % 2 == 1 and axes.shape[1] >= 3
    np.testing.assert_allclose(axes[:, 1::2], -axes[:, 2::2], atol=1e-6)
    assert axes[:, 1:].std(axis=0).min() > 0


def test_same_seed_gives_the_same_bytes(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    assert as_bytes(learn_space(windows.then, windows.outcomes, seed=3)) == as_bytes(
        learn_space(windows.then, windows.outcomes, seed=3)
    )


def test_customers_are_unchanged(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    before, weights = windows.now.features.copy(), windows.now.weights.toarray()
    anticipate(learn_space(windows.then, windows.outcomes, needs=needs_of(windows)), windows.now)
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
    needs = needs_of(windows)
    space = balanced_space(windows.now, needs=needs)
    expected = anticipate(space, windows.now)
    assert space.outcome_names == () and space.needs == needs.ids
    assert expected.outcomes.shape == (240, 0) and expected.needs.shape == (240, len(needs.ids))
    assert np.isfinite(expected.axes.to_numpy()).all() and adjusted_r2(need, expected.axes.to_numpy())[0] > 0.4


def test_without_categories_or_money_the_space_predicts_activity(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    now = type(windows.now)(features=windows.now.features[["active_days", "recency_days"]], weights=None, categories=())
    outcomes = Outcomes(totals=windows.outcomes.totals[["active_days", "orders"]] * [1, 0], weights=None, categories=())
    expected = anticipate(learn_space(now, outcomes), now)
    assert expected.outcomes.columns.tolist() == ["active_days"] and expected.needs.empty
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


def test_free_text_categories_are_read_by_their_words(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    names = windows.then.categories
    spread = sparse.csr_array(np.kron(np.eye(len(names)), np.eye(1, 50)))  # hundreds of names of the same things
    texts = tuple(f"{name.split()[0]} {'abcdefghij'[i % 10]}x" for name in names for i in range(50))
    windows = FitData(
        now=CustomerData(windows.now.features, windows.now.weights @ spread, texts),
        then=CustomerData(windows.then.features, windows.then.weights @ spread, texts),
        outcomes=Outcomes(windows.outcomes.totals, windows.outcomes.weights @ spread, texts),
    )
    space = learn_space(windows.then, windows.outcomes)
    assert space.words and "bake" in space.terms


def test_planted_habits_are_predicted_with_an_interval_around_the_r2(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    table = forecast_accuracy(windows.then, windows.outcomes, needs=needs_of(windows), folds=3).set_index("name")
    assert table.index.tolist() == ["spend", "orders", "need"]
    assert (table["r2"] > 0.3).all() and ((table["low"] < table["r2"]) & (table["r2"] < table["high"])).all()


def test_shuffled_outcomes_cannot_be_predicted(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    order = np.random.default_rng(5).permutation(len(windows.outcomes.totals))
    outcomes = windows.outcomes.select(order)
    shuffled = Outcomes(outcomes.totals.set_axis(windows.outcomes.totals.index), outcomes.weights, outcomes.categories)
    found = forecast_accuracy(windows.then, shuffled, needs=needs_of(windows), folds=3)
    assert len(found) == 3 and (found["r2"].abs() < 0.1).all()


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


def test_axes_are_how_much_and_the_needs_by_name_and_their_shares_sum_to_one(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    needs = needs_of(windows)
    expected = anticipate(learn_space(windows.then, windows.outcomes, needs=needs), windows.now)
    names = dict(zip(needs.ids, needs.names, strict=True))
    table = describe_axes(expected, names=names)
    assert table["axis"].tolist() == [name.replace("_", " ") for name in expected.axes]
    assert table["name"].tolist() == ["how much: expected spend", *needs.names]
    assert abs(table["share"].sum() - 1) < 1e-9
    habits = describe_axes(anticipate(learn_space(windows.then, windows.outcomes), windows.now), names={})
    assert set(habits["name"]) == {"how much: expected spend", "a habit"}
    assert describe_axes(anticipate(balanced_space(windows.now), windows.now), names={})["name"].iloc[0] == "how much"


def test_small_maps_show_spend_and_the_leading_need(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    needs = needs_of(windows)
    expected = anticipate(learn_space(windows.then, windows.outcomes, needs=needs), windows.now)
    values = map_colours(expected, windows.now, names=planted_of(needs))
    assert values.index.equals(windows.now.features.index)
    assert values.columns.tolist() == ["likely spend", "leading need"]
    assert values["likely spend"].min() >= 1, "money, not its logarithm"
    assert (values["leading need"] == np.array(["bake", "grill", "clean", "dine"])[need]).mean() > 0.9
    without = anticipate(learn_space(windows.then, windows.outcomes), windows.now)
    assert map_colours(without, windows.now, names={}).columns.tolist() == ["likely spend"]
