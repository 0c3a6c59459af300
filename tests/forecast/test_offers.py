"""Churn drivers, offers, next categories and moves, counted by hand where possible."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.features import CustomerData, Outcomes
from segkit.forecast.drivers import DRIVERS, churn_drivers
from segkit.forecast.model import TrainingSet
from segkit.forecast.offers import (
    OFFERS,
    category_accuracy,
    category_rules,
    learn_categories,
    move_chances,
    next_categories,
    next_offers,
)
from segkit.period import Period
from segkit.tables import check
from tests.forecast.training import make_training, snapshot_of, two_segments

Plant = Callable[..., tuple]
PERIOD = Period(date(2024, 6, 1), lookback_days=182, horizon_days=91)


def simple(*, before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> TrainingSet:
    """Customers who bought some categories before, and some after."""
    index = pd.Index([f"c{i:03d}" for i in range(len(before))], name="customer_id")
    columns = {name: np.arange(len(before)) % 7 + 1.0 for name in ("orders", "spend", "active_days", "recency_days")}
    data = CustomerData(pd.DataFrame(columns, index=index), sparse.csr_array(before.astype(float)), names)
    active = after.any(axis=1).astype(float)
    totals = pd.DataFrame({"orders": active, "spend": after.sum(axis=1), "active_days": active}, index=index)
    return TrainingSet(snapshot_of(data), Outcomes(totals, sparse.csr_array(after.astype(float)), names))


@pytest.fixture
def shop() -> tuple[TrainingSet, pd.Series]:
    """Sixty customers in two segments: only the first takes up tea; all buy more bread."""
    before, after = np.zeros((60, 2)), np.zeros((60, 2))
    before[:, 0], after[:, 0] = 1.0, 5.0
    after[:24, 1] = 1.0
    before[57:, 1] = 1.0
    training = simple(before=before, after=after, names=("bread", "tea"))
    training.snapshot.data.weights[59, 1] = 1.0
    return training, pd.Series(["S01"] * 30 + ["S02"] * 30, index=training.snapshot.index)


def test_what_is_never_offered_is_neither_offered_nor_predicted(shop: tuple[TrainingSet, pd.Series]) -> None:
    training, segment = shop
    many = training.snapshot.data.weights.toarray()
    many[30:50, 1] = 1.0
    then = replace(training.snapshot, data=replace(training.snapshot.data, weights=sparse.csr_array(many)))
    training = replace(training, snapshot=then)
    options = {"now": then.data, "segment_now": segment, "period": PERIOD}
    assert set(next_offers(training, segment, **options)["term"]) == {"bread", "tea"}
    assert set(next_offers(training, segment, **options, never=frozenset(["tea"]))["term"]) == {"bread"}
    assert next_offers(training, segment, **options, never=frozenset(["bread", "tea"])).empty
    chance = np.full(len(segment), 0.5)
    assert learn_categories(training, chance=chance, segment=segment.to_numpy(), never=frozenset(["tea"])) is None


def test_offer_shares_count_only_customers_who_could_take_them(shop: tuple[TrainingSet, pd.Series]) -> None:
    training, segment = shop
    many = training.snapshot.data.weights.toarray()
    many[30:50, 1] = 1.0
    then = replace(training.snapshot, data=replace(training.snapshot.data, weights=sparse.csr_array(many)))
    table = next_offers(
        replace(training, snapshot=then), segment, now=training.snapshot.data, segment_now=segment, period=PERIOD
    ).set_index(["segment", "kind", "term"])
    tea = table.loc[("S01", "cross-sell", "tea")]
    assert (tea["asked"], tea["share"], tea["reach"]) == (30, 0.8, 30) and tea["share_low"] < 0.8 < tea["share_high"]
    assert np.isnan(tea["others"]) and not tea["more"], "ten other customers could take it: too few"
    assert table.loc[("S02", "up-sell", "bread"), "share"] == 1
    assert ("S02", "cross-sell", "tea") not in table.index, "seven without it are too few"
    check(table.reset_index(), name="offers")


def test_terms_high_by_chance_are_not_more() -> None:
    rng = np.random.default_rng(5)
    after = (rng.random((600, 80)) < 0.1).astype(float)
    after[:100, 0] = rng.random(100) < 0.5
    training = simple(before=np.eye(600, 80), after=after, names=tuple(f"t{i:02d}" for i in range(80)))
    before = training.snapshot.data.weights.toarray()
    before[300:325] = 1.0
    data = replace(training.snapshot.data, weights=sparse.csr_array(before))
    training = replace(training, snapshot=replace(training.snapshot, data=data))
    segment = pd.Series(np.repeat(["S01", "S02", "S03"], [100, 250, 250]), index=training.snapshot.index)
    table = next_offers(training, segment, now=data, segment_now=segment, period=PERIOD)
    more = table[table["more"]]
    assert more[["segment", "term"]].to_numpy().tolist() == [["S01", "t00"]]


def test_a_source_without_categories_has_no_offers(shop: tuple[TrainingSet, pd.Series]) -> None:
    training, segment = shop
    poor = replace(training.snapshot.data, weights=None, categories=())
    none = replace(training, snapshot=replace(training.snapshot, data=poor))
    assert list(next_offers(none, segment, now=poor, segment_now=segment, period=PERIOD).columns) == OFFERS
    assert learn_categories(none, chance=np.full(60, 0.5), segment=segment.to_numpy()) is None
    found = next_categories(None, poor, chance=np.full(60, 0.5), segment=segment.to_numpy())
    assert found.isna().all().all() and len(found) == 60


def test_a_churn_driver_is_found_given_silence_and_what_only_follows_from_silence_is_not() -> None:
    rng = np.random.default_rng(3)
    training = simple(before=np.ones((1200, 1)), after=np.ones((1200, 1)), names=("bread",))
    silent, habit, noise = rng.uniform(1, 90, 1200), rng.random(1200), rng.random((1200, 2))
    columns = {"recency_days": silent, "orders": 100 - silent + noise[:, 0], "categories": habit, "spend": noise[:, 1]}
    features = pd.DataFrame(columns, training.snapshot.index)
    stays = 0.95 - silent / 150 - 0.2 * (habit < 0.5)
    totals = training.outcomes.totals.assign(active_days=(rng.random(1200) < stays).astype(float))
    found = replace(
        training,
        snapshot=replace(training.snapshot, data=replace(training.snapshot.data, features=features)),
        outcomes=replace(training.outcomes, totals=totals),
    )
    table = churn_drivers(found, pd.Series("S01", index=training.snapshot.index))
    check(table, name="drivers")
    assert table["feature"].tolist() == ["categories"] * 2 and table["segment"].tolist() == ["S01", "all"]
    assert ((table["effect_low"] < -0.2) & (table["effect_high"] > -0.2)).all()
    assert (table["effect"] - (table["lost_above"] - table["lost_below"])).abs().max() < 1e-8


def test_without_lost_customers_there_are_no_drivers(shop: tuple[TrainingSet, pd.Series]) -> None:
    table = churn_drivers(*shop)
    assert table.empty and list(table.columns) == DRIVERS


def test_the_most_popular_category_is_named_unless_a_prediction_is_ahead(planted_windows: Plant) -> None:
    windows, need = planted_windows(400)
    training, _ = make_training(windows)
    segment = np.where(need < 2, "S01", "S02")
    model = learn_categories(training, chance=np.full(400, 0.8), segment=segment)
    options = {"chance": np.full(400, 0.8), "segment": segment}
    rules = category_rules({})
    assert rules == {"next": "favourite", "new": "popular"}
    found = next_categories(model, windows.now, **options, rules=rules)
    known = np.isin(windows.now.categories, model.terms)
    bought, names = windows.now.weights.toarray()[:, known], np.array(windows.now.categories)[known]
    popular = (bought > 0).sum(axis=0)
    lacking = np.where(bought > 0, -1, popular)
    rows = found["new_category"].notna().to_numpy()
    chosen = [popular[names == name][0] for name in found["new_category"][rows]]
    assert chosen == lacking.max(axis=1)[rows].tolist()
    favourite = [list(names).index(name) for name in found["next_category"]]
    assert (bought[np.arange(len(bought)), favourite] == bought.max(axis=1)).all()
    figures = category_accuracy(model, training, **options)
    for name in ("next", "new"):
        ahead = figures[f"forecast.{name}_category_hits.lead.low"] > 0
        assert (figures[f"forecast.{name}_category_hits.rule"] == "model") == ahead


def test_next_categories_are_likely_and_new_ones_are_new(planted_windows: Plant) -> None:
    windows, need = planted_windows(400)
    training, _ = make_training(windows)
    segment = np.where(need < 2, "S01", "S02")
    model = learn_categories(training, chance=np.full(400, 0.8), segment=segment)
    found = next_categories(model, windows.now, chance=np.full(400, 0.8), segment=segment)
    chances = found.filter(like="_chance")
    assert ((chances >= 0) & (chances <= 1) | chances.isna()).all().all()
    assert (found["next_category_chance"] >= found["next_category_2_chance"]).all()
    names = list(windows.now.categories)
    bought = windows.now.weights.toarray() > 0
    rows = found["new_category"].notna().to_numpy()
    new = [names.index(name) for name in found["new_category"][rows]]
    assert not bought[np.flatnonzero(rows), new].any()
    own = found["next_category"].str.split().str[0].to_numpy()
    assert (own == np.array(["bake", "grill", "clean", "dine"])[need]).mean() > 0.9, "their need is predicted"
    hits = category_accuracy(model, training, chance=np.full(400, 0.8), segment=segment)
    assert hits["forecast.next_category_hits"] > 0.9


def test_more_customers_move_near_the_border(planted_windows: Plant) -> None:
    windows, _ = planted_windows(400)
    model, segment = two_segments(windows.now)
    chance, figures = move_chances(model, windows.then, windows.now)
    assert chance.between(0, 1).all() and 0 < figures["forecast.moved_share"] < 1
    assert chance.mean() == pytest.approx(figures["forecast.moved_share"], abs=0.1)
    assert 0.5 < figures["forecast.moved_auc"] <= 1
    still, figures = move_chances(model, windows.now, windows.now)
    assert figures == {"forecast.moved_share": 0.0} and (still == 0).all()
    half = windows.now.select(np.arange(200))
    assert move_chances(model, windows.now, half)[1]["forecast.moved_share"] >= 0.5, "inactive customers have moved"
