"""The past, made once: as it is read back it is as it was made, and a sample of it depends on nobody else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import Days
from segkit.data.runs import open_run
from segkit.period import Period
from segkit.segments.fit import (
    TrainingWindows,
    build_fit_data,
    build_training_windows,
    read_training_windows,
    write_training_windows,
)
from segkit.stats import hash_sample

KINDS = {"purchase": "customer"}
AS_OF = date(2024, 6, 3)
PERIOD = Period(AS_OF, lookback_days=60, horizon_days=20)


@pytest.fixture
def days(make_days: Callable[..., Days]) -> Days:
    """Thirty customers over half a year."""
    rng = np.random.default_rng(3)
    start = date(2024, 1, 1)
    events = [
        (f"c{i:02d}", str(start + timedelta(days=int(d))), "purchase", float(rng.integers(1, 9)), f"k{(i + d) % 4}")
        for i in range(30)
        for d in range(i % 5, 170, 4 + i % 9)
    ]
    return make_days(events, kinds=KINDS)


def equal(one: TrainingWindows, other: TrainingWindows) -> bool:
    """The same features, totals, amounts and names at both moments."""
    for a, b in zip(vars(one).values(), vars(other).values(), strict=True):
        pd.testing.assert_frame_equal(a.customers.features, b.customers.features)
        pd.testing.assert_frame_equal(a.outcomes.totals, b.outcomes.totals)
        for of, to in ((a.customers, b.customers), (a.outcomes, b.outcomes)):
            assert of.categories == to.categories
            np.testing.assert_array_equal(of.weights.toarray(), to.weights.toarray())
    return True


def test_what_is_read_back_is_what_was_made(days: Days, tmp_path: Path) -> None:
    made = build_training_windows(days, period=PERIOD, kinds=KINDS)
    run = open_run(tmp_path / "run", step="02_embed")
    write_training_windows(run, made)
    assert equal(made, read_training_windows(run))


def test_each_moment_is_the_window_of_its_date(days: Days) -> None:
    past = build_training_windows(days, period=PERIOD, kinds=KINDS)
    now, earlier = (build_fit_data(days, period=each, kinds=KINDS) for each in (PERIOD, PERIOD.one_horizon_back()))
    pd.testing.assert_frame_equal(past.fit_data(now.now).then.features, now.then.features)
    pd.testing.assert_frame_equal(past.earlier_fit_data().now.features, earlier.now.features)
    pd.testing.assert_frame_equal(past.earlier_fit_data().outcomes.totals, earlier.outcomes.totals)


def test_where_history_is_short_there_is_no_past(days: Days, tmp_path: Path) -> None:
    none = build_training_windows(days, period=replace(PERIOD, as_of=date(2024, 3, 1)), kinds=KINDS)
    assert none == TrainingWindows(None, None) and none.earlier_fit_data() is None
    one = build_training_windows(days, period=replace(PERIOD, as_of=date(2024, 3, 25)), kinds=KINDS)
    assert one.last is not None and one.before is None and one.earlier_fit_data() is None
    run = open_run(tmp_path / "run", step="02_embed")
    write_training_windows(run, none)
    assert read_training_windows(run) == none


def test_a_sample_keeps_whole_customers_and_does_not_depend_on_the_others(days: Days) -> None:
    whole, few = (build_training_windows(days, period=PERIOD, kinds=KINDS, max_customers=most) for most in (99, 12))
    kept = few.last.customers.features
    assert len(kept) == 12
    pd.testing.assert_frame_equal(kept, whole.last.customers.features.loc[kept.index])
    pd.testing.assert_frame_equal(few.last.outcomes.totals, whole.last.outcomes.totals.loc[kept.index])
    ids = list(whole.last.customers.features.index)
    inside = [i for i, c in zip(ids, hash_sample(ids, most=12), strict=True) if c]
    assert inside == list(kept.index)
    fewer = [i for i in ids if i in inside or i > "c05"]
    assert [i for i, c in zip(fewer, hash_sample(fewer, most=12), strict=True) if c] == inside
