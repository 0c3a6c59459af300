"""The period of a run: its derived days, and what it refuses."""

from datetime import date
from pathlib import Path

import pytest

from segkit.data.runs import open_run
from segkit.errors import InputError
from segkit.period import Period

PERIOD = Period(date(2024, 7, 1), lookback_days=182, horizon_days=91)


def test_spans_are_half_open_and_meet_at_as_of() -> None:
    assert (PERIOD.lookback_start, PERIOD.last_day) == (date(2024, 1, 1), date(2024, 6, 30))
    assert (PERIOD.last_horizon_start, PERIOD.horizon_end) == (date(2024, 4, 1), date(2024, 9, 30))
    assert (PERIOD.recent_days, PERIOD.recent_start) == (60, date(2024, 5, 2))


def test_one_horizon_back_predicts_the_last_horizon() -> None:
    back = PERIOD.one_horizon_back()
    assert (back.as_of, back.horizon_end) == (PERIOD.last_horizon_start, PERIOD.as_of)
    assert (back.lookback_days, back.horizon_days) == (PERIOD.lookback_days, PERIOD.horizon_days)


def test_a_lookback_of_one_day_has_a_recent_day() -> None:
    assert Period(date(2024, 7, 1), lookback_days=1, horizon_days=1).recent_days == 1


@pytest.mark.parametrize("name", ["lookback_days", "horizon_days"])
def test_days_below_one_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0: give a whole number of days of at least 1"):
        Period(date(2024, 7, 1), **{"lookback_days": 7, "horizon_days": 7, name: 0})


@pytest.mark.parametrize("text", ["soon", "20250201", "2025-W05-6", "2025-2-1", " 2025-02-01", ""])
def test_a_text_that_is_not_a_date_as_dates_are_ordered_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a date. Write it as YYYY-MM-DD"):
        Period.parse(text, lookback_days=182, horizon_days=91)


def test_a_run_has_the_period_it_was_made_with(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", as_of="2024-07-01", lookback_days=182, horizon_days=91)
    assert run.period == PERIOD
