"""Broken data is found in the last two weeks; the previous forecast is compared with what customers did."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from segkit.customers.days import Days, load_days
from segkit.data.runs import Run, open_run
from segkit.period import Period
from segkit.refresh.monitor import NEW_CATEGORIES, NEW_CUSTOMERS, check_data, compare_with_forecast, failed_checks
from tests.shop import predicted_spend

AS_OF = date(2024, 6, 30)
KINDS = {"purchase": "customer", "mail_sent": "company"}
Make = Callable[..., Days]


def _events(until: int, *, category: str = "tea", who: str = "c") -> list[tuple]:
    """Twenty customers who buy every day up to so many days ago, for 280 days; a mail a day to each."""
    rows = []
    for ago in range(until, 281):
        day = (AS_OF - timedelta(days=ago)).isoformat()
        late = ago <= 14
        rows += [(f"{who if late else 'c'}{ago % 20}", day, "purchase", 5.0, category if late else "tea")]
        rows += [(f"c{ago % 20}", day, "mail_sent", None, None)]
    return rows


def _checks(days: Days) -> pd.DataFrame:
    return check_data(days, period=Period(AS_OF, lookback_days=182, horizon_days=91), kinds=KINDS)


def test_steady_data_is_not_broken(make_days: Make) -> None:
    checks = _checks(make_days(_events(1), kinds=KINDS))
    assert failed_checks(checks) == [] and set(checks["check"]) == {"events", "kind", "share"}
    assert checks.set_index("item").loc["events", ["last", "least", "most"]].tolist() == [14, 14, 14]


def test_events_that_stop_are_reported(make_days: Make) -> None:
    sentences = failed_checks(_checks(make_days(_events(15), kinds=KINDS)))
    assert sentences[0].startswith("The last 14 days hold 0 events of customers") and len(sentences) == 3


def test_one_kind_of_event_that_stops_is_reported(make_days: Make) -> None:
    rows = [row for row in _events(1) if row[2] == "purchase" or row[1] < "2024-06-16"]
    assert [words for words in failed_checks(_checks(make_days(rows, kinds=KINDS))) if "mail sent" in words]


def test_renumbered_categories_and_customers_are_reported(make_days: Make) -> None:
    found = _checks(make_days(_events(1, category="T-1", who="new-"), kinds=KINDS)).set_index("item")["broken"]
    assert found[NEW_CATEGORIES] and found[NEW_CUSTOMERS] and not found["events"]


def test_events_at_or_after_as_of_change_nothing(make_days: Make) -> None:
    more = [*_events(1), ("c1", "2024-07-01", "purchase", 9.0, "later")]
    pd.testing.assert_frame_equal(_checks(make_days(more, kinds=KINDS)), _checks(make_days(_events(1), kinds=KINDS)))


def test_too_short_a_history_is_not_checked(make_days: Make) -> None:
    rows = [row for row in _events(1) if row[1] >= "2024-05-20"]
    assert _checks(make_days(rows, kinds=KINDS)).empty


@pytest.fixture
def september_run(shop_run: Run, tmp_path: Path) -> Run:
    """The shop's run of September, whose forecast for S02 is too high."""
    parameters = shop_run.parameters() | {"as_of": "2024-09-01"}
    run = open_run(tmp_path / "then", step="03_segments", outcome="building", **parameters)
    run.write(shop_run.table("assignments"), "assignments")
    predicted = predicted_spend(shop_run.table("segments"), each=[80.0, 800.0, 80.0], half=4.0)
    predicted.to_parquet(run.path / "tables" / "predicted_segments.parquet")
    return run


def test_a_forecast_is_compared_for_the_part_of_the_horizon_that_passed(shop_run: Run, september_run: Run) -> None:
    table = compare_with_forecast(load_days(shop_run), previous=september_run, as_of=date(2024, 10, 1)).set_index(
        "segment"
    )
    assert table.index.tolist()[0] == "all" and (table["kpi"] == "spend").all() and (table["days"] == 30).all()
    assert table.loc["S02", "predicted"] == pytest.approx(800 * 30 / september_run.parameters()["horizon_days"])
    assert table.loc["S02", "verdict"] == "short" and table.loc["S02", "against_all_high"] < 0


def test_less_than_a_week_is_not_compared(shop_run: Run, september_run: Run) -> None:
    assert compare_with_forecast(load_days(shop_run), previous=september_run, as_of=date(2024, 9, 5)).empty
