"""Another budget on a finished run: at once, with the ids that carry on, and without writing anything."""

import time
from pathlib import Path

import pandas as pd
import pytest

from segkit.data.runs import Run, load_run
from segkit.errors import BudgetError
from segkit.segments.recut import recut


@pytest.fixture(scope="module")
def run(whole_run: Path) -> Run:
    return load_run(whole_run)


def test_the_budget_of_the_run_gives_the_cuts_it_was_chosen_from(run: Run) -> None:
    found = recut(run)
    scores = ["segments", "spend_r2", "need_r2", "mix_r2", "stability", "smallest_share"]
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
