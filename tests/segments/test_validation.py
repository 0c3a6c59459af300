"""Forward validity: judged in a period the segments never saw, beside the rivals, or null with the reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from segkit.customers.days import Days, build_days
from segkit.customers.features import CustomerData, Outcomes, customer_outcomes
from segkit.data.sources import connect, open_source, read_events
from segkit.data.synth import write_scenario
from segkit.period import Period
from segkit.segments.ablation import ablation
from segkit.segments.clustering import Budget
from segkit.segments.fit import FitData, build_fit_data, build_training_windows, fit_segments
from segkit.segments.scoring import MEASURES, adjusted_r2, scoring_outcomes
from segkit.segments.validation import (
    backtest,
    baseline_table,
    earlier_fit,
    reason_without_backtest,
    validation_metrics,
)
from segkit.tables import check

AS_OF, HORIZON = date(2025, 3, 1), 91
ORIGIN = AS_OF - timedelta(days=HORIZON)
PERIOD = Period(AS_OF, lookback_days=182, horizon_days=HORIZON)
BUDGET = Budget(min_segments=6, max_segments=7, smallest_share=0.0)
KINDS = {"purchase": "customer", "feedback": "customer", "email_sent": "company"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Days]:
    """The days of made-up customers, and those of a world in which each has the future of another."""
    folder = tmp_path_factory.mktemp("world")
    source = Path(write_scenario("retail", customers=300, out=str(folder)))
    events = pd.read_parquet(folder / "events.parquet")
    customers = np.sort(events["customer"].unique())
    swapped = dict(zip(customers, np.random.default_rng(4).permutation(customers), strict=True))
    after = events["at"] >= pd.Timestamp(ORIGIN)
    events["customer"] = events["customer"].where(~after, events["customer"].map(swapped))
    other = tmp_path_factory.mktemp("other")
    events.to_parquet(other / "events.parquet", index=False)
    made = {"as it is": str(folder), "shuffled": str(other)}
    text = source.read_text(encoding="utf-8")
    (other / source.name).write_text(text, encoding="utf-8")
    (other / "customers.csv").write_bytes((folder / "customers.csv").read_bytes())
    return {
        name: build_days(read_events(open_source(f"{path}/{source.name}"), con=connect()), kinds=KINDS)
        for name, path in made.items()
    }


@pytest.mark.slow
def test_a_shuffled_future_leaves_the_segments_and_takes_the_predictability(world: dict[str, Days]) -> None:
    fits, r2 = {}, {}
    for name, days in world.items():
        windows = build_fit_data(days, period=PERIOD.one_horizon_back(), kinds=KINDS)
        fits[name] = fit_segments(windows, budget=BUDGET, n_subsamples=2)
        observed = customer_outcomes(days, start=ORIGIN, horizon_days=HORIZON, index=windows.now.features.index)
        truth = scoring_outcomes(observed, needs=fits[name].needs).values
        r2[name] = {m: adjusted_r2(fits[name].segment_number[rows], values)[0] for m, (rows, values) in truth.items()}
    one, other = fits["as it is"], fits["shuffled"]
    assert one.segment_number.tobytes() == other.segment_number.tobytes()
    assert one.axes.to_numpy().tobytes() == other.axes.to_numpy().tobytes()
    assert one.model.bag_centres.tobytes() == other.model.bag_centres.tobytes()
    limits = {"spend": 0.2, "active": 0.15, "need": 0.08, "mix": 0.06}  # four to seven segments of fourteen needs
    assert all(r2["as it is"][measure] > limits[measure] for measure in MEASURES)
    assert all(abs(r2["shuffled"][measure]) < 0.06 for measure in MEASURES)


@pytest.fixture(scope="module")
def compared(world: dict[str, Days]) -> pd.DataFrame:
    """Nobody knows anything of a future that is another's: so every rival scores about zero, and ours too."""
    customers = build_fit_data(world["shuffled"], period=PERIOD.one_horizon_back(), kinds=KINDS).now.features.index
    rng = np.random.default_rng(0)
    groups = {
        "demographic": pd.Series(rng.choice(["old", "young"], len(customers)), index=customers).iloc[:200],
        "survey": pd.Series("yes", index=customers[:3]),
    }
    past = build_training_windows(world["shuffled"], period=PERIOD, kinds=KINDS)
    earlier, today = (earlier_fit(past, budget=Budget(k, k, smallest_share=0.0)) for k in (6, 7))
    found = backtest(past, earlier=earlier, today=today, groups=groups, labels={"survey": "asked"})
    assert found is not None
    return found


def test_backtest_scorers_ours_and_baselines_in_a_period_they_never_saw(compared: pd.DataFrame) -> None:
    assert set(compared["baseline"]) == {
        "ours",
        "as_today",
        "rfm11",
        "rfm25",
        "rfm125",
        "kmeans",
        "kmeans_space",
        "latent_classes",
        "tree",
        "demographic",
    }
    assert set(compared["measure"]) == set(MEASURES)
    assert compared["r2"].abs().max() < 0.12 and (compared["lead_low"] < 0.05).all()
    assert ((compared["low"] < compared["r2"]) & (compared["r2"] < compared["high"])).all()
    known = compared[compared["baseline"] == "demographic"]
    assert known["customers"].max() == 200 and known["segments"].max() == 2


def test_table_of_baselines_has_a_row_each_and_a_sentence(compared: pd.DataFrame) -> None:
    table = baseline_table(compared)
    check(table, name="baselines")
    assert len(table) == 10 and table["baseline"].is_unique and table["verdict"].ne("").all()
    assert table.set_index("baseline").loc["ours", "verdict"] == "these segments"
    words = set(" ".join(table.loc[table["baseline"] != "ours", "verdict"]).replace(",", "").split())
    assert words <= {"ahead", "behind", "level", "on", *MEASURES}


def test_a_measure_that_the_source_lacks_is_null(compared: pd.DataFrame) -> None:
    table = baseline_table(compared[compared["measure"] != "mix"])
    check(table, name="baselines")
    assert table["mix_r2"].isna().all() and not table["verdict"].str.contains("mix").any()


@pytest.fixture(scope="module")
def mixed() -> FitData:
    """Customers of several needs of six things each, in shares of their own, before and after alike."""
    rng = np.random.default_rng(2)
    shares, inside = rng.dirichlet(np.full(8, 0.15), 500), rng.dirichlet(np.ones(6), 8)
    chance, rate = (shares[:, :, None] * inside).reshape(500, -1), rng.lognormal(2.0, 0.5, 500)
    names = tuple(f"need{k} thing{i}" for k in range(8) for i in range(6))
    index = pd.Index([f"c{i:04d}" for i in range(500)], name="customer_id")

    def spell() -> CustomerData:
        orders = rng.poisson(rate)
        lines = np.array([rng.multinomial(3 * n, p) for n, p in zip(orders, chance, strict=True)])
        columns = {"orders": orders, "spend": 4.0 * lines.sum(axis=1), "active_days": orders}
        features = pd.DataFrame(columns, index=index).astype(float)
        return CustomerData(features.assign(recency_days=90 / (1 + orders)), sparse.csr_array(4.0 * lines), names)

    now, then, later = spell(), spell(), spell()
    totals = later.features.drop(columns="recency_days")
    return FitData(now=now, then=then, outcomes=Outcomes(totals, later.weights, names))


def test_what_hdbscan_decides_is_measured_against_none_and_against_shuffled_needs(mixed: FitData) -> None:
    budget = Budget(min_segments=12, max_segments=16, smallest_share=0.0, families=("2 levels",))
    fit = fit_segments(mixed, budget=budget, n_subsamples=2, bags=6)
    table = ablation(mixed, fit)
    check(table, name="ablation")
    assert table["needs"].tolist() == ["UMAP and HDBSCAN", "average linkage", "shuffled"]
    rows = table.set_index("needs")
    assert rows.loc["UMAP and HDBSCAN", "ari"] == 1.0 and rows.loc["shuffled", "ari"] < 0.7
    chosen = fit.frontier[fit.frontier["chosen"]].iloc[0]
    for measure in ("spend_r2", "need_r2", "mix_r2"):
        assert rows.loc["UMAP and HDBSCAN", measure] == pytest.approx(chosen[measure])
    assert rows["need_r2"].idxmin() == "shuffled" and rows["need_r2"].iloc[0] > rows["need_r2"].iloc[2] + 0.1
    assert table.equals(ablation(mixed, fit)) and ablation(replace(mixed, then=None, outcomes=None), fit) is None
    assert ablation(mixed, replace(fit, needs=None)) is None


def test_proof_figures_are_flat_with_intervals_and_leads(compared: pd.DataFrame) -> None:
    figures = validation_metrics(compared, reason="")
    names = [f"forward.{m}_r2" for m in MEASURES] + [
        f"forward.{name}" for name in ("rfm25.spend_r2", "kmeans.mix_r2", "tree.need_r2", "latent_classes.spend_r2")
    ]
    for name in [*names, "forward.rfm25.spend_lead"]:
        assert figures[f"{name}.low"] <= figures[name] <= figures[f"{name}.high"]
    assert figures["forward.reason"] is None and "forward.ours.spend_r2" not in figures


def test_without_history_the_proof_is_null_with_the_reason() -> None:
    figures = validation_metrics(None, reason="the proof needs 364 days")
    assert figures.pop("forward.reason") == "the proof needs 364 days"
    assert set(figures) == {f"forward.{m}_r2{part}" for m in MEASURES for part in ("", ".low", ".high")}
    assert set(figures.values()) == {None}


@pytest.mark.parametrize(("lookback", "days_needed"), [(60, 0), (200, 240)])
def test_too_short_a_history_is_reported_in_days(make_days: Callable, lookback: int, days_needed: int) -> None:
    start = date(2024, 1, 1)
    events = [("a", (start + timedelta(days=d)).isoformat(), "purchase", 1.0, "tea") for d in range(100)]
    days = make_days(events, kinds={"purchase": "customer"})
    period = Period(date(2024, 4, 10), lookback_days=lookback, horizon_days=20)
    reason = reason_without_backtest(days, period=period)
    words = [f"needs {days_needed} days", "there are 100"] if days_needed else ["customers were active then"]
    assert all(each in reason for each in words)
    if days_needed:
        past = build_training_windows(days, period=period, kinds={"purchase": "customer"})
        assert earlier_fit(past) is None and backtest(past, earlier=None) is None
