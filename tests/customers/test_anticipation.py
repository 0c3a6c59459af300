"""The anticipation space: learnt one horizon back, applied to any date."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.anticipation import Space, anticipate, balanced_space, learn_space, value_outcomes
from segkit.customers.category_mix import mix_shares
from segkit.customers.features import Outcomes
from segkit.segments.scoring import adjusted_r2

Plant = Callable[..., tuple]


def as_bytes(space: Space) -> dict[str, object]:
    values = {field.name: getattr(space, field.name) for field in fields(space)}
    return {name: v.tobytes() if isinstance(v, np.ndarray) else v for name, v in values.items()}


def test_expected_spend_and_mix_follow_what_was_planted(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    expected = anticipate(learn_space(windows.then, windows.came), windows.now)
    assert expected.outcomes.index.equals(windows.now.features.index)
    spent = np.log1p(windows.now.features["spend"])
    assert expected.outcomes["spend"].corr(spent) > 0.9
    best = expected.mix.idxmax(axis=1).str.split().str[0]
    assert (best == np.array(["bake", "grill", "clean", "dine"])[need]).mean() > 0.95
    assert adjusted_r2(need, expected.axes.to_numpy())[0] > 0.5


def test_same_seed_gives_the_same_bytes(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    assert as_bytes(learn_space(windows.then, windows.came, seed=3)) == as_bytes(
        learn_space(windows.then, windows.came, seed=3)
    )


def test_larger_value_weight_gives_spend_more_of_the_axes(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    r2 = []
    for weight in (0.1, 3.0):
        expected = anticipate(learn_space(windows.then, windows.came, value_weight=weight, axes=1), windows.now)
        r2.append(expected.axes["axis_1"].corr(expected.outcomes["spend"]) ** 2)
    assert r2[0] < 0.5 < r2[1]


def test_axes_are_as_many_as_asked_and_signals_are_not_changed(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    before, weights = windows.now.features.copy(), windows.now.weights.toarray()
    for count in (1, 2, 4):
        axes = anticipate(learn_space(windows.then, windows.came, axes=count), windows.now).axes
        assert axes.columns.tolist() == [f"axis_{i + 1}" for i in range(count)]
    pd.testing.assert_frame_equal(windows.now.features, before)
    np.testing.assert_array_equal(windows.now.weights.toarray(), weights)


def test_order_of_customers_and_extra_columns_do_not_matter(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.came)
    shuffled = windows.now.rows(np.random.default_rng(0).permutation(len(windows.now.features)))
    wider = shuffled.features.assign(spend_of_tomorrow=1.0)
    again = anticipate(space, type(shuffled)(wider, shuffled.weights, shuffled.categories))
    expected = anticipate(space, windows.now)
    pd.testing.assert_frame_equal(again.axes.loc[expected.axes.index], expected.axes)


def test_one_giant_customer_does_not_leave_the_space(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.came)
    giant = windows.now.rows(np.array([0]))
    giant = type(giant)(features=giant.features * 1e9, weights=giant.weights, categories=giant.categories)
    usual = anticipate(space, windows.now).axes.abs().max().max()
    assert anticipate(space, giant).axes.abs().max().max() < 10 * usual


def test_balanced_space_foresees_nothing_and_still_places_everyone(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    space = balanced_space(windows.now)
    expected = anticipate(space, windows.now)
    assert space.outcome_names == () and space.mix_terms == ()
    assert expected.outcomes.shape == (240, 0) and expected.mix.shape == (240, 0)
    assert np.isfinite(expected.axes.to_numpy()).all() and adjusted_r2(need, expected.axes.to_numpy())[0] > 0.2


def test_sources_without_categories_or_money_have_a_space_of_activity(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    now = type(windows.now)(features=windows.now.features[["active_days", "recency_days"]], weights=None, categories=())
    came = Outcomes(totals=windows.came.totals[["active_days", "orders"]] * [1, 0], weights=None, categories=())
    expected = anticipate(learn_space(now, came), now)
    assert expected.outcomes.columns.tolist() == ["active_days"] and expected.mix.empty
    assert np.isfinite(expected.axes.to_numpy()).all()


def test_value_outcomes_are_logs_of_what_there_is_and_never_of_less_than_nothing() -> None:
    totals = pd.DataFrame({"orders": [0.0, 2.0], "active_days": [1.0, 2.0], "spend": [-5.0, np.e - 1]})
    names, values = value_outcomes(Outcomes(totals=totals, weights=None, categories=()))
    assert names == ["spend", "orders"]
    np.testing.assert_allclose(values, [[0.0, 0.0], [1.0, np.log(3)]])
    nothing = totals.assign(orders=0.0, spend=0.0)
    assert value_outcomes(Outcomes(totals=nothing, weights=None, categories=()))[0] == ["active_days"]


def test_mix_shares_are_square_roots_that_sum_to_one_for_those_who_bought() -> None:
    amounts = sparse.csr_array(np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]))
    shares, bought = mix_shares(amounts, ["a", "b", "c"], terms=["b", "a"])
    assert bought.tolist() == [True, False, False]
    np.testing.assert_allclose(shares, [[np.sqrt(0.75), 0.5], [0, 0], [0, 0]])


@pytest.mark.parametrize("words", [False, True])
def test_free_text_categories_are_foreseen_by_their_words(planted_windows: Plant, words: bool) -> None:
    windows, _ = planted_windows()
    names = windows.then.categories
    if words:  # six hundred names of the same things
        spread = sparse.csr_array(np.kron(np.eye(len(names)), np.eye(1, 50)))
        names = tuple(f"{name.split()[0]} {'abcdefghij'[i % 10]}x" for name in names for i in range(50))
        windows = type(windows)(
            now=type(windows.now)(windows.now.features, windows.now.weights @ spread, names),
            then=type(windows.now)(windows.then.features, windows.then.weights @ spread, names),
            came=Outcomes(windows.came.totals, windows.came.weights @ spread, names),
        )
    space = learn_space(windows.then, windows.came)
    assert space.words is words and (("bake" in space.mix_terms) is words)
