"""The page of the forecast: what is not known is stated, offers that do not stand out are not sold as such."""

import numpy as np
import pandas as pd
import pytest

from segkit.forecast.segments import SEGMENT_COLUMNS, YEAR_VALUE, Prediction
from segkit.forecast.tested import TESTED_AT
from segkit.period import Period
from segkit.reports import forecast as forecast_report
from segkit.reports.html import figure_html
from segkit.reports.order_dates import describe_next_orders
from segkit.reports.wording import Wording

NO_TABLE = pd.DataFrame()
WORDS = Wording(Period.parse("2018-01-01", lookback_days=182, horizon_days=91), currency="USD", labels={"RUM": "rum"})


@pytest.fixture
def found() -> Prediction:
    """A forecast of three segments, by BG/NBD for spend."""
    sums = pd.DataFrame({"segment": ["all", "S01", "S02", "S13"], "customers": [120, 60, 40, 20]})
    sums = sums.reindex(columns=["segment", "customers", *SEGMENT_COLUMNS, *YEAR_VALUE])
    sums = sums.fillna({name: 0.5 for name in SEGMENT_COLUMNS}).assign(spend=[400.0, 100, 250, 50])
    sums[YEAR_VALUE] = 900.0, 800.0, 1000.0
    scored = [("active", m, f) for m in ("auc", "ece", "brier") for f in ("model", "last")]
    scored += [("spend", m, f) for m in ("mae", "total", "coverage") for f in ("model", "last")]
    backtest = pd.DataFrame(scored, columns=["target", "measure", "forecaster"])
    backtest = backtest.assign(
        label=backtest["forecaster"].map({"model": "the forecast", "last": "the last period repeated"})
    )
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
    table = forecast_report.format_segments(found, segments, words=WORDS)
    assert table["name"].iloc[0] == "All customers"
    assert "Big &lt;b&gt;baskets&lt;/b&gt;" in table["name"].iloc[1], "the largest spend follows"
    assert not found.segments.empty and table["spend"].iloc[0] == "$400", "no range without width"
    assert 'data-fact="S02.spend_next"' in table["spend_each"].iloc[1] and "data-fact" not in table["spend"].iloc[1]
    answer = forecast_report.forecast_headline(found, segments, words=WORDS)
    assert (
        "of 120 customers will be active" in answer and answer.startswith("January to March 2018") and "$400" in answer
    )


def test_a_baseline_that_states_it_and_a_season_are_reported(found: Prediction) -> None:
    texts = forecast_report.describe_backtest(found, words=WORDS)
    assert "we use a simpler method, the last period repeated, which our own forecast did not beat" in " ".join(texts)
    assert any("moved: 90% in one quarter, 70% in the next" in text for text in texts) and texts[-1] == "No one knows."
    still = found.metrics | {"forecast.drift.active.low": -0.3, "forecast.drift.active.high": 0.1}
    assert "The return rate was steady" in forecast_report._describe_base_rate(still, words=WORDS)[0]


def test_a_back_test_of_an_earlier_run_has_its_date(found: Prediction) -> None:
    today, dated = {TESTED_AT: "2018-01-01"}, {"forecast.dates.customers": 50, "forecast.dates.reason": None}
    assert forecast_report.describe_tested(found.metrics, words=WORDS) == []
    assert forecast_report.describe_tested(today, words=WORDS) == []
    earlier = forecast_report.describe_tested({TESTED_AT: "2017-12-01"}, words=WORDS)[0]
    assert "The back-test is from 1 December 2017." in earlier and "The forecast itself is new." in earlier
    for part in ("off", "off.low", "off.high", "usual_off", "inside"):
        dated[f"forecast.dates.{part}"] = 0.5
    for at, words in (
        ("2018-01-01", "One quarter ago such"),
        ("2017-12-01", "One quarter before 1 December 2017, "),
    ):
        texts = describe_next_orders(dated | {"forecast.dates.tested_at": at}, customers=90, words=WORDS)
        assert words in texts[0]
    refused = dated | {"forecast.dates.tested_at": "2017-12-01", "forecast.dates.reason": "no orders"}
    assert "no orders (tested on 1 December 2017)." in describe_next_orders(refused, customers=90, words=WORDS)[0]


def test_offers_that_do_not_stand_out_are_not_sold_as_such(found: Prediction, segments: pd.DataFrame) -> None:
    table = forecast_report.format_offers(found, segments, words=WORDS)
    assert table[["segment", "category", "kind"]].values.tolist() == [["S01", "Tea", "Cross-sell"]]
    others = len(segments) - 1
    assert forecast_report.describe_offers(table, segments).endswith(f"for the other {others} segments.")
    assert forecast_report.format_offers(found, segments, words=WORDS, never={"TEA"}).empty


def test_without_a_forecast_the_page_states_why(found: Prediction, segments: pd.DataFrame) -> None:
    empty = found.segments.assign(**dict.fromkeys([*SEGMENT_COLUMNS, *YEAR_VALUE], np.nan))
    nothing = Prediction(
        found.customers[:0], empty, found.backtest[:0], NO_TABLE, NO_TABLE, found.offers[:0], {}, ("Why.",), {}
    )
    assert (
        forecast_report.forecast_headline(nothing, segments, words=WORDS)
        == "Why."
        == forecast_report.describe_backtest(nothing, words=WORDS)[0]
    )
    assert len(forecast_report.forecast_tiles(nothing, words=WORDS)) == 1
    assert forecast_report.describe_category_accuracy(nothing, words=WORDS) == []
    for format_table in (forecast_report.format_segments, forecast_report.format_offers):
        assert "name" in format_table(nothing, segments, words=WORDS)
    for format_table in (forecast_report.format_backtest, forecast_report.format_categories):
        assert format_table(nothing, words=WORDS).empty
    table = forecast_report.segments_to_plot(nothing, segments)
    figure_html(forecast_report.plot_expected_segments(table, words=WORDS), alt="no forecast")


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
    drawn = [figure_html(forecast_report.plot_calibration(table, words=WORDS), alt="accuracy") for _ in range(2)]
    assert drawn[0] == drawn[1]
    pd.testing.assert_frame_equal(table, before)
    rows = forecast_report.segments_to_plot(found, segments)
    assert len(forecast_report.plot_expected_segments(rows, words=WORDS).axes) == 2
    assert rows["spend_each"].tolist() == [6.25, 2.5, 100 / 60]
