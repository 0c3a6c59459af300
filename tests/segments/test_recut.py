"""Another budget on a finished run: at once, with the ids that carry on, and without writing anything."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.runs import Run, load_run, open_run
from segkit.errors import BudgetError, RunError
from segkit.segments.recut import recut


@pytest.fixture(scope="module")
def run(whole_run: Path) -> Run:
    return load_run(whole_run)


def test_the_budget_of_the_run_gives_the_cuts_it_was_chosen_from(run: Run) -> None:
    found = recut(run)
    scores = ["segments", "spend_r2", "mix_r2", "stability", "smallest_share"]
    pd.testing.assert_frame_equal(found.frontier[["family", *scores]], run.table("frontier")[["family", *scores]])
    if found.frontier["chosen"].equals(run.table("frontier")["chosen"]):
        assert (found.assignments["segment"] == found.assignments["before"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 13])
def test_another_budget_places_everyone_in_under_a_second(run: Run, count: int) -> None:
    start = time.process_time()
    found = recut(run, segments_min=count, segments_max=count)
    assert time.process_time() - start < 1.0
    assert len(found.segments) == found.assignments["segment"].nunique() == count
    assert found.segments["customers"].sum() == len(run.table("assignments"))
    assert found.segments["customer_share"].min() >= 0.01 and found.segments["segment"].is_unique
    held = set(run.table("segments")["segment"])
    assert held & set(found.segments["segment"]), "what carries on keeps its id"
    new = [int(s[1:]) for s in found.segments["segment"] if s not in held]
    assert not new or min(new) > max(int(s[1:]) for s in run.table("ledger")["segment"])


def test_a_budget_that_cannot_be_met_is_reported_and_the_run_stays(run: Run) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.path.rglob("*"))
    with pytest.raises(BudgetError, match=r"12 segments of at least 20\.0% are more than everyone"):
        recut(run, smallest_share=0.2)
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in run.path.rglob("*"))


def test_bags_of_another_model_are_refused(run: Run, tmp_path: Path) -> None:
    other = open_run(tmp_path / "run", step="03_segments")
    for name in ("anticipation", "assignments", "ledger"):
        other.write(run.table(name), name)
    bags = run.table("subsamples").set_index("customer_id")
    other.write(bags.mask(bags == 0, np.int16(99)).astype("int16"), "subsamples")
    arrays, meta = run.load_model()
    other.save_model(arrays, meta=meta)
    with pytest.raises(RunError, match=r"subsamples: the table does not belong to the model"):
        recut(other)
