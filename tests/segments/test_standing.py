"""A run under the previous segments: customers assigned again, nothing learnt, the proof named by its date."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.anticipation import anticipate
from segkit.data.runs import Run, open_run
from segkit.errors import InputError, RunError
from segkit.segments.clustering import Budget
from segkit.segments.fit import FitData, fit_segments
from segkit.segments.lineage import (
    Overrides,
    Reassignment,
    add_previous_proof,
    assign_with_previous_model,
    first_ledger_rows,
    fitted_as_of,
    load_kept_run,
    previous_proof_metrics,
    reassigned_model_arrays,
)
from segkit.segments.model import assign_points, assign_segments, model_from_arrays, model_to_arrays

NONE = Overrides(rename={}, merge={}, pin=())
THEN, NOW = "2024-05-01", "2024-06-01"


@pytest.fixture(scope="module")
def windows(planted_windows: Callable) -> FitData:
    return planted_windows()[0]


@pytest.fixture(scope="module")
def previous(windows: FitData, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which segments were found, on the customers of one date."""
    run = open_run(tmp_path_factory.mktemp("carried") / "then", as_of=THEN, source_name="made")
    fit = fit_segments(windows, budget=Budget(min_segments=3, max_segments=4), n_subsamples=3)
    expected = anticipate(fit.model.space, windows.now)
    points = np.random.default_rng(1).normal(size=(len(fit.axes), 2))
    placed = assign_points(fit.model, fit.axes).assign(core=fit.core(), x=points[:, 0], y=points[:, 1])
    run.write(placed, "assignments")
    run.write(expected.axes, "anticipation")
    run.write(first_ledger_rows(fit, as_of=THEN), "ledger")
    ids = list(fit.model.segments)
    table = pd.DataFrame({"segment": ids, "name": [f"Name {s}" for s in ids], "stability": 0.7, "verdict": "natural"})
    table.assign(stability_low=0.6, stability_high=0.8).to_parquet(run.path / "tables" / "segments.parquet")
    run.record_metrics({"forward.spend_r2": 0.5, "stability.ari_mean": 0.6, "forecast.spend": 3.0})
    arrays, meta = model_to_arrays(fit.model)
    run.save_model(arrays, meta=meta | {"lookback_days": 182})
    return run


@pytest.fixture
def kept(previous: Run, windows: FitData) -> Reassignment:
    return assign_with_previous_model(previous, windows.now, overrides=NONE, as_of=NOW)


def test_the_same_customers_stay_where_they_were(kept: Reassignment, previous: Run) -> None:
    before = previous.table("assignments").set_index("customer_id")
    assert (kept.moves["cause"] == "stayed").all()
    pd.testing.assert_frame_equal(kept.coords, before[["x", "y"]], check_exact=False, atol=1e-6)
    pd.testing.assert_series_equal(kept.core, before["core"], check_names=False)


def test_customers_of_another_date_are_placed_by_the_same_model(previous: Run, windows: FitData) -> None:
    assert windows.then is not None
    some = windows.then.select(np.arange(100))
    kept = assign_with_previous_model(previous, some, overrides=NONE, as_of=NOW)
    home = previous.table("assignments").set_index("customer_id")["segment"]
    pd.testing.assert_frame_equal(
        kept.assigned, assign_segments(model_from_arrays(*previous.load_model()), some, previous_segment=home)
    )
    assert kept.coords.index.equals(some.features.index) and kept.coords.notna().all().all()
    assert (kept.moves["cause"] == "left").sum() == len(windows.now.features) - 100


def test_the_ledger_goes_on_and_the_model_knows_when_it_was_found(kept: Reassignment, previous: Run) -> None:
    new = kept.ledger[kept.ledger["as_of"] == NOW]
    assert set(new["event"]) == {"same"} and len(kept.ledger) == len(previous.table("ledger")) + len(new)
    assert new["customers_after"].sum() == len(kept.assigned)
    arrays, meta = reassigned_model_arrays(kept, previous)
    assert meta["fitted_as_of"] == THEN == fitted_as_of(previous) and meta["lookback_days"] == 182
    assert model_from_arrays(arrays, meta).segments == kept.model.segments


def test_proof_is_that_of_the_day_on_which_the_segments_were_found(kept: Reassignment, previous: Run) -> None:
    ids = sorted(set(kept.model.segments), reverse=True)
    table = add_previous_proof(pd.DataFrame({"segment": ids, "verdict": "not tested", "stability": np.nan}), previous)
    assert (table["verdict"] == "natural").all() and (table["stability"] == 0.7).all()
    texts = previous_proof_metrics(previous, fitted_as_of=THEN)
    assert texts == {"forward.spend_r2": 0.5, "stability.ari_mean": 0.6, "segments.found_as_of": THEN}


def test_what_a_person_merged_or_renamed_since_holds(previous: Run, windows: FitData) -> None:
    ids = sorted(set(model_from_arrays(*previous.load_model()).segments))
    merged = Overrides(rename={ids[0]: "Tea"}, merge={ids[1]: ids[0]}, pin=(ids[2],))
    kept = assign_with_previous_model(previous, windows.now, overrides=merged, as_of=NOW)
    assert ids[1] not in set(kept.assigned["segment"]) and kept.names[ids[0]] == "Tea"
    with pytest.raises(InputError, match=r"\['S99'\] are no segments"):
        assign_with_previous_model(previous, windows.now, overrides=Overrides(rename={"S99": "Tea"}), as_of=NOW)


def test_nobody_in_the_lookback_is_reported(previous: Run, windows: FitData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nobody did anything in the lookback"):
        assign_with_previous_model(previous, windows.now.select(np.zeros(0, dtype=int)), overrides=NONE, as_of=NOW)


def test_the_run_whose_segments_stand_must_be_named_and_whole(previous: Run, tmp_path: Path) -> None:
    run = open_run(tmp_path / "now", as_of=NOW, source_name="made")
    with pytest.raises(RunError, match="no run is given"):
        load_kept_run("", of=run)
    with pytest.raises(RunError, match="has no days, features, predictability, map, frontier, so its"):
        load_kept_run(str(previous.path), of=run)
