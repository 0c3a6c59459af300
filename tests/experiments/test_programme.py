"""The programme against its holdout: what is counted, what is said when little is known, and a planted lift."""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days, load_days
from segkit.data.holdout import Holdout
from segkit.data.runs import Run
from segkit.experiments.programme import lift_over_holdout, measure_programme
from segkit.period import Period
from segkit.reports.programme import describe_programme
from segkit.reports.wording import Wording

PERIOD = Period(date(2024, 10, 1), lookback_days=91, horizon_days=45)
HOLDOUT = Holdout(0.3, start=date(2024, 7, 1), end=date(2025, 6, 30))


@pytest.fixture
def days(shop_run: Run) -> Days:
    return load_days(shop_run)


def _measure(days: Days, **changes: object) -> pd.DataFrame:
    return measure_programme(days, **{"holdout": HOLDOUT, "kpi": "spend", "period": PERIOD} | changes)


def test_each_full_horizon_has_a_row_and_pseudonyms_change_nothing(days: Days) -> None:
    table = _measure(days)
    assert table["window"].tolist() == ["1", "2", "all"]
    assert table["start"].tolist() == ["2024-07-01", "2024-08-15", "2024-07-01"]
    assert table["end"].tolist() == ["2024-08-14", "2024-09-28", "2024-09-28"]
    assert (
        (table["verdict"] == "cannot tell").all() and (table["lift_low"] < 0).all() and (table["held_out"] > 20).all()
    )
    hidden = Days(rows=days.rows.mutate(customer_id=days.rows.customer_id.concat("-x")), categories=None)
    known = days.rows.customer_id.execute().unique()
    pd.testing.assert_frame_equal(_measure(hidden, source_ids=pd.Series(known, index=known + "-x")), table)


def test_what_is_not_known_yet_has_its_own_verdict(days: Days) -> None:
    words = Wording(PERIOD, currency="EUR")
    assert _measure(days, holdout=None).empty
    for holdout, verdict, sentence in (
        (Holdout(0.3, start=date(2024, 9, 1), end=HOLDOUT.end), "too early", "The first result comes after 15 October"),
        (Holdout(0.3, start=date(2024, 11, 1), end=HOLDOUT.end), "too early", "will be held out of every export"),
        (Holdout(0.01, start=HOLDOUT.start, end=HOLDOUT.end), "too few", "at least 20 are needed"),
        (HOLDOUT, "cannot tell", "differ by no more than chance"),
    ):
        table = _measure(days, holdout=holdout)
        assert table["verdict"].iloc[-1] == verdict
        assert sentence in describe_programme(table, words=words)[0]


def test_a_planted_lift_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(3)
    before = rng.gamma(2, 50, 20_000)
    held = rng.random(len(before)) < 0.03
    spent = before * rng.lognormal(0, 0.4, len(before)) + np.where(held, 0, 10.0)
    found = lift_over_holdout(spent, held=held, covariate_values=before[:, None])
    assert abs(found.lift - 10) < 3 * found.se and found.lift > 3 * found.se


def test_the_spread_of_all_others_counts_where_the_few_look_alike() -> None:
    rng = np.random.default_rng(4)
    held = np.arange(5_000) < 150
    spent = np.where(rng.random(len(held)) < 0.02, 1000.0, 10.0)
    spent[held] = 10.0  # by chance, none of those who spend most
    found = lift_over_holdout(spent, held=held, covariate_values=np.empty((len(held), 0)))
    assert found.se == pytest.approx(spent[~held].std() * (1 / 150 + 1 / 4850) ** 0.5, rel=1e-6)


def test_customers_of_a_later_day_do_not_count(make_days: Callable[..., Days]) -> None:
    early = [(f"c{n}", "2024-05-01", "purchase", 10.0, None) for n in range(300)]
    late = [(f"d{n}", "2024-07-05", "purchase", 10.0, None) for n in range(300)]
    table = _measure(make_days(early + late, kinds={"purchase": "customer"}), period=PERIOD)
    assert table["customers"].iloc[0] + table["held_out"].iloc[0] == 300
    assert timedelta(days=44) == date.fromisoformat(table["end"][0]) - date.fromisoformat(table["start"][0])
