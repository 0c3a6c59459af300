"""A run is compared with the previous one: moves, drift, decisions and the log; unusable runs are refused."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.customers.days import load_days
from segkit.customers.features import CustomerData, Customers, customers_at
from segkit.data.runs import Run, open_run
from segkit.errors import RunError
from segkit.refresh.monitor import (
    Refresh,
    compare_runs,
    count_flow,
    find_standing,
    load_previous_run,
    persona_changes,
    segment_names,
)
from segkit.reports import refresh as refresh_report
from segkit.reports.wording import Wording, day_text
from segkit.segments.clustering import Budget
from segkit.segments.fit import FitData, fit_segments
from segkit.segments.lineage import assign_under_model, first_ledger_rows, fitted_as_of
from segkit.segments.model import assign_points, model_from_arrays, model_to_arrays
from segkit.tables import check
from tests.shop import predicted_spend

THEN, NOW = date(2024, 9, 1), date(2024, 10, 1)
KINDS = {"purchase": "customer", "mail_sent": "company", "coupon_used": "customer"}
NAMED = ["segment", "name", "need_name", "action", "customers"]


def _customers(shop_run: Run, day: date) -> Customers:
    return customers_at(load_days(shop_run), period=replace(shop_run.period, as_of=day), kinds=KINDS)


@pytest.fixture(scope="module")
def fitted(shop: Path):  # noqa: ANN201  a fit and its signals
    signals = _customers(Run(shop / "run"), THEN).data
    windows = FitData(now=signals, then=None, outcomes=None)
    return fit_segments(windows, budget=Budget(min_segments=3, max_segments=4), n_subsamples=3), signals


@pytest.fixture
def earlier(shop_run: Run, fitted, tmp_path: Path) -> Run:  # noqa: ANN001
    """The shop's run of a month before: its segments, as they were found then."""
    fit, signals = fitted
    run = open_run(tmp_path / "then", outcome="building", **(shop_run.parameters() | {"as_of": THEN.isoformat()}))
    placed = assign_points(fit.model, fit.axes)
    run.write(placed.assign(core=True, x=0.0, y=0.0), "assignments")
    run.write(signals.features, "features")
    run.write(first_ledger_rows(fit, as_of=THEN.isoformat()), "ledger")
    ids = sorted(set(fit.model.segments))
    table = pd.DataFrame(
        {"segment": ids, "name": [f"Name {s}" for s in ids], "need": None, "need_name": "tea", "action": "Ask why"}
    )
    table = table.assign(customers=placed["segment"].value_counts().reindex(ids, fill_value=0).to_numpy())
    table.to_parquet(run.path / "tables" / "segments.parquet")
    predicted_spend(table, each=50.0, half=10.0).to_parquet(run.path / "tables" / "predicted_segments.parquet")
    run.save_model(*model_to_arrays(fit.model)[:1], meta=model_to_arrays(fit.model)[1])
    return run


@pytest.fixture
def refreshed(shop_run: Run, earlier: Run) -> Refresh:
    return _refresh(shop_run, earlier)


def _refresh(run: Run, previous: Run | None) -> Refresh:
    customers = _customers(run, NOW)
    signals = customers.data
    standing = previous.load_model() if previous else None
    after = run.table("assignments") if standing is None else _placed_as(previous, signals)
    found = find_standing(customers, signals.features, previous=previous)
    return compare_runs(run, previous, customers.days, found, assignments=after)


def _placed_as(previous: Run, signals: CustomerData) -> pd.DataFrame:
    segment = previous.table("assignments").set_index("customer_id")["segment"]
    return assign_under_model(
        model_from_arrays(*previous.load_model()), signals, previous_segment=segment
    ).reset_index()


def test_everyone_is_assigned_again_and_counted_once(refreshed: Refresh, shop_run: Run) -> None:
    now = _customers(shop_run, NOW).index
    assert refreshed.standing.placed.index.equals(now) and refreshed.moves["customer_id"].is_unique
    assert refreshed.flow["customers"].sum() == len(refreshed.moves)
    assert not refreshed.moves["cause"].isin(["definition", "both"]).any(), "the definition is the same"


def test_the_log_grows_by_the_run_and_its_segments(refreshed: Refresh, shop_run: Run, earlier: Run) -> None:
    check(refreshed.decisions, name="decisions")
    check(refreshed.flow, name="flow")
    for name in ("drift", "checks", "forecast_accuracy"):
        check(getattr(refreshed.standing, name), name=name)
    check(refreshed.standing.tests, name="decision_tests")
    assert refreshed.added["scope"].value_counts()["run"] == 1 and (refreshed.added["as_of"] == NOW.isoformat()).all()
    before = refreshed.decisions.assign(as_of="2024-08-01")
    earlier.write(before, "decisions")
    log = _refresh(shop_run, earlier).decisions
    pd.testing.assert_frame_equal(log.head(len(before)), before)
    assert len(log) > len(before) and set(log["as_of"]) == {"2024-08-01", NOW.isoformat()}


def test_a_first_run_has_tables_without_rows(shop_run: Run) -> None:
    first = _refresh(shop_run, None)
    standing = first.standing
    tables = [standing.drift, standing.checks, standing.forecast_accuracy, standing.tests, first.flow]
    assert all(table.empty for table in [*tables, first.decisions, persona_changes(shop_run, None)])
    assert first.figures["refresh.decision"] is None and "first run" in refresh_report.FIRST_RUN


def test_missing_events_lead_to_a_review_without_a_pilot(shop_run: Run, earlier: Run) -> None:
    now = _customers(shop_run, NOW)
    period = replace(now.period, as_of=NOW + timedelta(days=110))  # the shop's year ends on its last day
    standing = find_standing(replace(now, period=period), now.data.features, previous=earlier)
    after = _placed_as(earlier, now.data)
    found = compare_runs(shop_run, earlier, now.days, standing, assignments=after)
    assert found.standing.decision == "look" and "hold 0 events of customers" in found.standing.reason
    assert not (found.added["scope"] == "campaign").any()


def test_the_page_describes_moves_and_next_steps(refreshed: Refresh, shop_run: Run, earlier: Run) -> None:
    names = segment_names(shop_run, earlier)
    found = refreshed.standing
    assert day_text(found.since) in refresh_report.refresh_headline(found, refreshed.moves, found.drift)
    assert refresh_report.list_next_steps(found, refreshed.added, names=names, acted="kept")[0].endswith(
        "assigned all customers again."
    )
    assert refresh_report.describe_moves(refreshed.moves, names=names)[0].endswith(".")
    for shown in (
        refresh_report.format_tests(found.tests),
        refresh_report.format_accuracy(found.forecast_accuracy, names=names, words=Wording(shop_run.period)),
        refresh_report.format_decision_log(refreshed.decisions),
    ):
        assert len(shown) and not shown.isna().any().any()
    attention = refresh_report.format_segment_decisions(refreshed.added, names=names)
    assert "keep" not in set(attention["Decision"].str.lower())
    assert refresh_report.describe_kept(refreshed.added).startswith("Keep ") or len(attention)


def test_the_age_of_a_model_counts_from_its_fit(earlier: Run) -> None:
    assert fitted_as_of(earlier) == THEN.isoformat()
    arrays, meta = earlier.load_model()
    earlier.save_model(arrays, meta=meta | {"fitted_as_of": "2024-07-01"})
    assert fitted_as_of(earlier) == "2024-07-01"


def test_a_flow_counts_customers_who_joined_and_left() -> None:
    columns = ["customer_id", "before", "standing", "after", "cause"]
    moves = pd.DataFrame([("a", None, "S01", "S01", "joined"), ("b", "S01", None, None, "left")], columns=columns)
    assert count_flow(moves)["customers"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run.update(parameters=run.parameters() | {"source_name": "other"}), "is of the source 'other'"),
        (lambda run: run.update(parameters=run.parameters() | {"as_of": NOW.isoformat()}), "not before 2024-10-01"),
        (lambda run: (run.path / "tables" / "features.parquet").unlink(), "has no features"),
    ],
)
def test_an_unusable_previous_run_is_refused(shop_run: Run, earlier: Run, change: object, words: str) -> None:
    change(earlier)
    with pytest.raises(RunError, match=words):
        load_previous_run(str(earlier.path), of=shop_run)


def test_persona_changes_are_reported_where_intervals_do_not_overlap(tmp_path: Path) -> None:
    runs = []
    for place, need, spend, as_of in (("then", "tea", 50.0, "2024-09-01"), ("now", "wine", 90.0, "2024-10-01")):
        run = open_run(tmp_path / place, outcome="building", as_of=as_of)
        (run.path / "tables").mkdir()
        table = pd.DataFrame(
            [["S01", "Tea lovers", need, "Ask", 40], ["S02", "Others", "all", "Wait", 60]], columns=NAMED
        )
        (table if place == "then" else table.iloc[:1]).to_parquet(run.path / "tables" / "segments.parquet")
        base = pd.DataFrame({"segment": ["S01"], "kpi": ["spend per customer"], "value": [spend], "unit": ["money"]})
        base.assign(value_low=spend - 5, value_high=spend + 5).to_parquet(
            run.path / "tables" / "starting_values.parquet"
        )
        entries = [(as_of, "S01", "same", "S01", 0.9, 40, 40), (as_of, "S02", "died", "", np.nan, 60, 0)]
        columns = ["as_of", "segment", "event", "other", "overlap", "customers_before", "customers_after"]
        pd.DataFrame(entries, columns=columns).to_parquet(run.path / "tables" / "ledger.parquet")
        runs.append(run)
    changes = persona_changes(runs[1], runs[0])
    check(changes, name="persona_changes")
    words = changes.set_index("segment")["words"]
    assert "New need: wine (before: tea)." in words["S01"]
    assert words["S01"].startswith("Spend per customer rose from 50 (45–55) to 90 (85–95).")
    assert words["S02"].startswith("It is gone")
