"""Everyone with an event of their own in the lookback is in exactly one segment."""

from pathlib import Path

import pandas as pd
import pytest

from segkit.data.runs import Run, load_run

AS_OF = pd.Timestamp("2025-03-01")
LOOKBACK_DAYS = 182
OWN = ("purchase", "feedback")


@pytest.fixture(scope="module")
def run(whole_run: Path) -> Run:
    return load_run(whole_run)


@pytest.fixture(scope="module")
def own_events(made_up_company: Path) -> pd.DataFrame:
    """What customers themselves did before `as_of`."""
    events = pd.read_parquet(made_up_company.parent / "events.parquet")
    return events[events["event"].isin(OWN) & (events["at"] < AS_OF)]


def test_everyone_active_in_the_lookback_is_assigned_exactly_once(run: Run, own_events: pd.DataFrame) -> None:
    recent = own_events[own_events["at"] >= AS_OF - pd.Timedelta(days=LOOKBACK_DAYS)]
    assignments = run.table("assignments")
    assert assignments["customer_id"].is_unique
    assert assignments[["segment", "macro_segment", "confidence"]].notna().all(axis=None)
    assert set(assignments["customer_id"]) == set(recent["customer"])
    assert set(run.table("dormant")["customer_id"]) == set(own_events["customer"]) - set(recent["customer"])


def test_segments_add_up_to_everyone_and_all_revenue(run: Run) -> None:
    segments, assignments = run.table("segments"), run.table("assignments")
    assert segments["customer_share"].sum() == pytest.approx(1) and segments["revenue_share"].sum() == pytest.approx(1)
    counted = assignments["segment"].value_counts().sort_index()
    assert segments.set_index("segment")["customers"].sort_index().to_dict() == counted.to_dict()
    spend = run.table("features").set_index("customer_id")["spend"]
    assert segments["revenue"].sum() == pytest.approx(spend.sum(), abs=1)
    macro = assignments.groupby("segment")["macro_segment"].nunique()
    assert (macro == 1).all(), "micro nests in macro"


@pytest.mark.parametrize("table", ["predictions", "features", "anticipation", "map"])
def test_other_tables_of_customers_hold_each_once_too(run: Run, table: str) -> None:
    rows = run.table(table)
    assert rows["customer_id"].is_unique
    assert set(rows["customer_id"]) >= set(run.table("assignments")["customer_id"])
