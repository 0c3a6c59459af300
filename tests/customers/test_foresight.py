"""Foresight: how much could be foreseen of customers the map was not learnt from."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from segkit.customers.anticipation import (
    anticipate,
    describe_axes,
    forecast_accuracy,
    forecast_accuracy_metrics,
    learn_space,
    map_colours,
)
from segkit.customers.features import Outcomes
from segkit.tables import check

Plant = Callable[..., tuple]


def test_planted_habits_are_foreseen_with_an_interval_around_the_figure(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    table = forecast_accuracy(windows.then, windows.came, folds=3).set_index("name")
    assert table.index.tolist() == ["spend", "orders", "mix"]
    assert (table["r2"] > 0.3).all() and ((table["low"] < table["r2"]) & (table["r2"] < table["high"])).all()


def test_a_shuffled_future_cannot_be_foreseen(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    order = np.random.default_rng(5).permutation(len(windows.came.totals))
    came = windows.came.rows(order)
    shuffled = Outcomes(came.totals.set_axis(windows.came.totals.index), came.weights, came.categories)
    assert (forecast_accuracy(windows.then, shuffled, folds=3)["r2"].abs() < 0.1).all()


def test_same_seed_same_figures_another_seed_others(planted_windows: Plant) -> None:
    windows, _ = planted_windows(120)
    first, again, other = (forecast_accuracy(windows.then, windows.came, folds=2, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_short_history_gives_an_empty_table_of_the_same_columns(planted_windows: Plant) -> None:
    windows, _ = planted_windows(120)
    empty = forecast_accuracy(None, None)
    assert empty.empty and forecast_accuracy_metrics(empty) == {}
    assert empty.dtypes.to_dict() == forecast_accuracy(windows.then, windows.came, folds=2).dtypes.to_dict()
    check(empty, name="predictability")


def test_figures_are_flat_names_with_their_interval() -> None:
    table = pd.DataFrame({"name": ["spend"], "r2": [0.5], "low": [0.4], "high": [0.6]})
    assert forecast_accuracy_metrics(table) == {
        "predictability.spend_r2": 0.5,
        "predictability.spend_r2.low": 0.4,
        "predictability.spend_r2.high": 0.6,
    }


def test_each_axis_is_told_by_both_ends_and_shares_sum_to_one(planted_windows: Plant) -> None:
    windows, _ = planted_windows()
    space = learn_space(windows.then, windows.came)
    words = describe_axes(anticipate(space, windows.now))
    assert words["axis"].tolist() == [name.replace("_", " ") for name in anticipate(space, windows.now).axes]
    assert abs(words["share"].sum() - 1) < 1e-9 and (words[["high", "low"]].map(len) > 0).all().all()


def test_small_maps_show_spend_and_the_main_need(planted_windows: Plant) -> None:
    windows, need = planted_windows()
    expected = anticipate(learn_space(windows.then, windows.came), windows.now)
    values = map_colours(expected, windows.now)
    assert values.index.equals(windows.now.features.index)
    assert values.columns.tolist() == ["expected spend (log)", "main need"]
    told = values["main need"].str.split().str[0]
    known = told != "other"
    assert (told[known] == np.array(["bake", "grill", "clean", "dine"])[need][known]).mean() > 0.8
