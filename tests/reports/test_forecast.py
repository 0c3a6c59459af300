"""The page of the forecast: what is not known is said, offers that do not stand out are not sold as such."""

import numpy as np
import pandas as pd
import pytest

from segkit.forecast.segments import SEGMENT_COLUMNS, Prediction
from segkit.reports import forecast as forecast_report
from segkit.reports.html import figure_html

NO_TABLE = pd.DataFrame()


@pytest.fixture
def found() -> Prediction:
    """A forecast of three segments, told by BG/NBD for spend."""
    sums = pd.DataFrame({"segment": ["all", "S01", "S02", "S13"], "customers": [120, 60, 40, 20]})
    sums = sums.reindex(columns=["segment", "customers", *SEGMENT_COLUMNS, "value_12m"])
    sums = sums.fillna({name: 0.5 for name in SEGMENT_COLUMNS}).assign(spend=[400.0, 100, 250, 50], value_12m=900.0)
    scored = [("active", m, f) for m in ("auc", "ece", "brier") for f in ("model", "last")]
    scored += [("spend", m, f) for m in ("mae", "total", "coverage") for f in ("model", "last")]
    backtest = pd.DataFrame(scored, columns=["target", "measure", "forecaster"])
    backtest = backtest.assign(label=backtest["forecaster"].map({"model": "the forecast", "last": "last period again"}))
    backtest = backtest.assign(value=0.2, low=0.1, high=0.3, verdict="level", chosen=backtest["forecaster"] == "last")
    offers = {"asked": 30, "share": 0.5, "share_low": 0.4, "share_high": 0.6, "reach": 25}
    offers = pd.DataFrame(
        [
            offers | {"segment": s, "kind": "cross-sell", "term": t, "others": o, "more": o < 0.2}
            for s, t, o in (("S01", "TEA", 0.1), ("S01", "RUM", 0.45), ("S02", "RUM", 0.45))
        ]  # fmt: skip
    )
    drift = {"learnt": 0.9, "observed": 0.7, ".low": -0.3, ".high": -0.1}
    figures = {f"forecast.drift.active{'_' * (k[0] != '.')}{k}": v for k, v in drift.items()} | {
        "forecast.drift.active": -0.2
    }
    people = pd.DataFrame({"value_12m": np.arange(10.0), "new_category": ["TEA"] * 6 + [None] * 4}).assign(
        new_category_chance=0.25
    )
    return Prediction(
        customers=people,
        segments=sums,
        backtest=backtest,
        calibration=NO_TABLE,
        drivers=NO_TABLE,
        offers=offers,
        chosen={"active": "model", "spend": "last"},
        reasons=("No one knows.",),
        metrics=figures,
    )


def test_everyone_comes_first_and_every_figure_has_its_range(found: Prediction, segments: pd.DataFrame) -> None:
    table = forecast_report.format_segments(found, segments)
    assert table["name"].tolist()[:2] == ["Everyone", "Big <b>baskets</b>"], "the largest spend follows"
    assert table[["active_share", "orders", "spend", "move_share"]].map(lambda text: "[" in text).all().all()
    answer = forecast_report.forecast_headline(found, horizon_days=91)
    assert "50" in answer and "of 120 customers" in answer and "400" in answer


def test_a_baseline_that_states_it_and_a_season_are_reported(found: Prediction) -> None:
    texts = forecast_report.describe_backtest(found)
    assert any("said here by last period again, which the forecast did not beat" in text for text in texts)
    assert any("The base rate moved" in text and "70" in text for text in texts) and texts[-1] == "No one knows."
    still = found.metrics | {"forecast.drift.active.low": -0.3, "forecast.drift.active.high": 0.1}
    calm = forecast_report._describe_base_rate(still)
    assert "did not" in calm[0] and "move" in calm[0]


def test_offers_that_do_not_stand_out_are_not_sold_as_such(found: Prediction, segments: pd.DataFrame) -> None:
    table = forecast_report.format_offers(found, segments).set_index("segment")
    assert table.loc["S01", "cross_sell"].startswith("tea") and "rum" not in table.loc["S01", "cross_sell"]
    assert table.loc["S02", "cross_sell"].startswith("no more than other customers: rum")


def test_without_a_forecast_the_page_states_why(found: Prediction, segments: pd.DataFrame) -> None:
    empty = found.segments.assign(**dict.fromkeys([*SEGMENT_COLUMNS, "value_12m"], np.nan))
    nothing = Prediction(
        found.customers[:0], empty, found.backtest[:0], NO_TABLE, NO_TABLE, found.offers[:0], {}, ("Why.",), {}
    )
    assert (
        forecast_report.forecast_headline(nothing, horizon_days=91)
        == "Why."
        == forecast_report.describe_backtest(nothing)[0]
    )
    assert len(forecast_report.forecast_tiles(nothing, horizon_days=91)) == 1
    assert (
        "not told" in forecast_report.describe_value(nothing)[0]
        and forecast_report.describe_category_accuracy(nothing) == []
    )
    for shown in (forecast_report.format_segments(nothing, segments), forecast_report.format_offers(nothing, segments)):
        assert "name" in shown
    assert forecast_report.format_backtest(nothing).empty and forecast_report.format_categories(nothing).empty
    figure_html(
        forecast_report.plot_expected_segments(forecast_report.segments_to_plot(nothing, segments)), alt="no forecast"
    )


def test_pictures_are_drawn_from_unchanged_tables(found: Prediction, segments: pd.DataFrame) -> None:
    points = {
        "target": ["active"] * 2,
        "predicted": [0.2, 0.9],
        "observed": [0.3, 0.8],
        "low": [0.2, 0.7],
        "high": [0.4, 0.9],
    }
    table = pd.DataFrame(points)
    before = table.copy()
    drawn = [figure_html(forecast_report.plot_calibration(table), alt="promises") for _ in range(2)]
    assert drawn[0] == drawn[1]
    pd.testing.assert_frame_equal(table, before)
    rows = forecast_report.segments_to_plot(found, segments)
    assert len(forecast_report.plot_expected_segments(rows).axes) == 2
    assert rows["spend_each"].tolist() == [6.25, 2.5, 100 / 60]
