"""Uplift: an order that is better than random is found if there is one, and only then."""

import numpy as np
import pandas as pd
import pytest

from segkit.experiments import readout
from segkit.experiments.design import TREATMENT, draw_treatment, strata_of
from segkit.experiments.readout import GRID, compute_qini


def pilot(seed: int, *, differs: float, size: int = 600) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    index = pd.Index([f"c{i:04d}" for i in range(size)], name="customer_id")
    segment = pd.Series(np.resize(["S01", "S02", "S03"], size), index=index)
    stratum = strata_of(segment, pd.Series(rng.lognormal(3, 1, size), index=index))
    arm = draw_treatment(stratum, treated_share=dict.fromkeys(("S01", "S02", "S03"), 0.5), seed=seed, salt="x")
    gain = segment.map({"S01": differs, "S02": 0.0, "S03": -differs})
    y = pd.Series(rng.lognormal(1, 1, size), index=index) + gain * (arm == TREATMENT)
    return pd.DataFrame({"segment": segment, "stratum": stratum, "arm": arm}), y


def test_customers_who_gain_are_ranked_first() -> None:
    units, y = pilot(1, differs=4.0)
    found = compute_qini(units, y)
    assert found is not None and 0 < found.low < found.value < found.high
    middle = found.curve[found.curve["share"].between(0.25, 0.55)]
    assert (middle["gain"] > middle["by_lot"]).all() and len(found.curve) == len(GRID)


def test_without_a_difference_no_order_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout, "RESAMPLES", 60)
    found = [compute_qini(*pilot(seed, differs=0.0)) for seed in range(12)]
    assert np.mean([one.low > 0 for one in found]) < 0.1
    assert abs(np.mean([one.value for one in found])) < 0.15


def test_the_same_seed_gives_the_same_and_row_order_does_not_matter() -> None:
    units, y = pilot(2, differs=1.0)
    first, again = compute_qini(units, y, seed=3), compute_qini(units.iloc[::-1], y, seed=3)
    pd.testing.assert_frame_equal(first.curve, again.curve)
    assert (first.low, first.high) == (again.low, again.high)
    assert compute_qini(units, y, seed=4).low != first.low


@pytest.mark.parametrize("arm", [TREATMENT, "control"])
def test_without_one_of_the_arms_nothing_is_known(arm: str) -> None:
    units, y = pilot(3, differs=0.0, size=60)
    assert compute_qini(units.assign(arm=arm), y) is None
