"""Drivers, offers, next categories and moves: counted by hand where that is possible."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.features import CustomerData, Outcomes
from segkit.forecast.model import TrainingSet
from segkit.forecast.offers import (
    DRIVERS,
    OFFERS,
    category_accuracy,
    churn_drivers,
    learn_categories,
    move_chances,
    next_categories,
    next_offers,
)
from segkit.period import Period
from segkit.tables import check
from tests.forecast.training import known, lessons, two_segments

Plant = Callable[..., tuple]
PERIOD = Period(date(2024, 6, 1), lookback_days=182, horizon_days=91)


def simple(*, before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> TrainingSet:
    """Customers who bought some categories before, and some after."""
    index = pd.Index([f"c{i:03d}" for i in range(len(before))], name="customer_id")
    columns = {name: np.arange(len(before)) % 7 + 1.0 for name in ("orders", "spend", "active_days", "recency_days")}
    signals = CustomerData(pd.DataFrame(columns, index=index), sparse.csr_array(before.astype(float)), names)
    active = after.any(axis=1).astype(float)
    totals = pd.DataFrame({"orders": active, "spend": after.sum(axis=1), "active_days": active}, index=index)
    return TrainingSet(known(signals), Outcomes(totals, sparse.csr_array(after.astype(float)), names))


@pytest.fixture
def shop() -> tuple[TrainingSet, pd.Series]:
    """Sixty customers in two segments: tea is taken up by the first only; all buy more bread than before."""
    before, after = np.zeros((60, 2)), np.zeros((60, 2))
    before[:, 0], after[:, 0] = 1.0, 5.0
    after[:24, 1] = 1.0
    before[57:, 1] = 1.0
    lesson = simple(before=before, after=after, names=("bread", "tea"))
    lesson.snapshot.signals.weights[59, 1] = 1.0
    return lesson, pd.Series(["S01"] * 30 + ["S02"] * 30, index=lesson.snapshot.index)


def test_offers_are_shares_of_those_who_could_take_them(shop: tuple[TrainingSet, pd.Series]) -> None:
    lesson, segment = shop
    many = lesson.snapshot.signals.weights.toarray()
    many[30:50, 1] = 1.0
    then = replace(lesson.snapshot, signals=replace(lesson.snapshot.signals, weights=sparse.csr_array(many)))
    table = next_offers(
        replace(lesson, snapshot=then), segment, now=lesson.snapshot.signals, segment_now=segment, period=PERIOD
    ).set_index(["segment", "kind", "term"])
    tea = table.loc[("S01", "cross-sell", "tea")]
    assert (tea["asked"], tea["share"], tea["reach"]) == (30, 0.8, 30) and tea["share_low"] < 0.8 < tea["share_high"]
    assert np.isnan(tea["others"]) and not tea["more"], "elsewhere ten could take it, too few to tell"
    assert table.loc[("S02", "up-sell", "bread"), "share"] == 1
    assert ("S02", "cross-sell", "tea") not in table.index, "seven without it are too few to tell"
    check(table.reset_index(), name="offers")


def test_of_many_terms_those_high_by_chance_are_not_called_more() -> None:
    rng = np.random.default_rng(5)
    after = (rng.random((600, 80)) < 0.1).astype(float)
    after[:100, 0] = rng.random(100) < 0.5
    lesson = simple(before=np.eye(600, 80), after=after, names=tuple(f"t{i:02d}" for i in range(80)))
    before = lesson.snapshot.signals.weights.toarray()
    before[300:325] = 1.0
    signals = replace(lesson.snapshot.signals, weights=sparse.csr_array(before))
    lesson = replace(lesson, snapshot=replace(lesson.snapshot, signals=signals))
    segment = pd.Series(np.repeat(["S01", "S02", "S03"], [100, 250, 250]), index=lesson.snapshot.index)
    table = next_offers(lesson, segment, now=signals, segment_now=segment, period=PERIOD)
    more = table[table["more"]]
    assert more[["segment", "term"]].to_numpy().tolist() == [["S01", "t00"]]


def test_a_source_without_categories_has_no_offers(shop: tuple[TrainingSet, pd.Series]) -> None:
    lesson, segment = shop
    bare = replace(lesson.snapshot.signals, weights=None, categories=())
    none = replace(lesson, snapshot=replace(lesson.snapshot, signals=bare))
    assert list(next_offers(none, segment, now=bare, segment_now=segment, period=PERIOD).columns) == OFFERS
    assert learn_categories(none, chance=np.full(60, 0.5), segment=segment.to_numpy()) is None
    told = next_categories(None, bare, chance=np.full(60, 0.5), segment=segment.to_numpy())
    assert told.isna().all().all() and len(told) == 60


def test_what_goes_with_churn_is_found_and_chance_is_not_told() -> None:
    rng = np.random.default_rng(1)
    lesson = simple(before=np.ones((400, 1)), after=np.ones((400, 1)), names=("bread",))
    habit, noise = rng.random(400), rng.random((400, 3))
    features = pd.DataFrame({"recency_days": habit, "orders": noise[:, 0], "spend": noise[:, 1]}, lesson.snapshot.index)
    days = (rng.random(400) < np.where(habit > 0.5, 0.5, 0.9)).astype(float)
    totals = lesson.outcomes.totals.assign(active_days=days)
    told = replace(
        lesson,
        then=replace(lesson.snapshot, signals=replace(lesson.snapshot.signals, features=features)),
        outcomes=replace(lesson.outcomes, totals=totals),
    )
    table = churn_drivers(told, pd.Series("S01", index=lesson.snapshot.index))
    check(table, name="drivers")
    assert table["feature"].tolist() == ["recency_days"] * 2 and table["segment"].tolist() == ["S01", "all"]
    assert (table["effect_low"] > 0).all()
    assert (table["effect"] - (table["lost_above"] - table["lost_below"])).abs().max() < 1e-8


def test_where_nobody_is_lost_there_are_no_drivers(shop: tuple[TrainingSet, pd.Series]) -> None:
    table = churn_drivers(*shop)
    assert table.empty and list(table.columns) == DRIVERS


def test_next_categories_are_likely_and_new_ones_are_new(planted_windows: Plant) -> None:
    windows, need = planted_windows(400)
    lesson, _ = lessons(windows)
    segment = np.where(need < 2, "S01", "S02")
    model = learn_categories(lesson, chance=np.full(400, 0.8), segment=segment)
    told = next_categories(model, windows.now, chance=np.full(400, 0.8), segment=segment)
    chances = told.filter(like="_chance")
    assert ((chances >= 0) & (chances <= 1) | chances.isna()).all().all()
    assert (told["next_category_chance"] >= told["next_category_2_chance"]).all()
    names = list(windows.now.categories)
    bought = windows.now.weights.toarray() > 0
    rows = told["new_category"].notna().to_numpy()
    new = [names.index(name) for name in told["new_category"][rows]]
    assert not bought[np.flatnonzero(rows), new].any()
    own = told["next_category"].str.split().str[0].to_numpy()
    assert (own == np.array(["bake", "grill", "clean", "dine"])[need]).mean() > 0.9, "their need is foretold"
    hits = category_accuracy(model, lesson, chance=np.full(400, 0.8), segment=segment)
    assert hits["forecast.next_category_hits"] > 0.9


def test_near_the_border_more_move(planted_windows: Plant) -> None:
    windows, _ = planted_windows(400)
    model, segment = two_segments(windows.now)
    chance, figures = move_chances(model, windows.then, windows.now)
    assert chance.between(0, 1).all() and 0 < figures["forecast.moved_share"] < 1
    assert chance.mean() == pytest.approx(figures["forecast.moved_share"], abs=0.1)
    assert 0.5 < figures["forecast.moved_auc"] <= 1
    still, figures = move_chances(model, windows.now, windows.now)
    assert figures == {"forecast.moved_share": 0.0} and (still == 0).all()
    half = windows.now.rows(np.arange(200))
    assert move_chances(model, windows.now, half)[1]["forecast.moved_share"] >= 0.5, "who fell silent has moved"
