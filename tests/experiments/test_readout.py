"""Read-outs: the verdict on a pilot without effect and one with effect, and which outcomes are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import Run
from segkit.errors import InputError, RunError
from segkit.experiments.pilot import Pilot, design_pilot, write_pilot
from segkit.experiments.readout import load_experiment, read_out, read_outcomes
from segkit.reports.experiments import measure_headline
from segkit.reports.pilots import readout_headline
from segkit.tables import check

BOTH = ("S01", "S02")


@pytest.fixture
def pilot(shop_run: Run) -> Pilot:
    return design_pilot(shop_run, segments=BOTH, contact_cost=0.5, margin=0.3)


@pytest.fixture
def folder(pilot: Pilot, tmp_path: Path) -> Path:
    return write_pilot(pilot, tmp_path / "pilot")


@pytest.fixture
def give(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a table of outcomes and gives its path."""

    def write(table: pd.DataFrame) -> str:
        table.to_csv(tmp_path / "outcomes.csv", index=False)
        return str(tmp_path / "outcomes.csv")

    return write


def spent(pilot: Pilot, *, added: float = 0.0) -> pd.DataFrame:
    """Spend by customer as it might come back from a till, with some added for those treated."""
    rng = np.random.default_rng(3)
    noise = rng.lognormal(2, 0.5, len(pilot.units))
    treated = pilot.units["arm"] == "treatment"
    return pd.DataFrame({"customer_id": pilot.units.index, "spend": pilot.units["recent"] + noise + added * treated})


def test_a_pilot_without_effect_has_no_verdict(shop: Path, folder: Path) -> None:
    answer = CliRunner().invoke(main, ["readout", str(folder), str(shop / "source.yaml")])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("No clear effect") and answer.stdout.splitlines()[-1].endswith("readout.html")
    experiment = load_experiment(folder)
    check(experiment, name="experiment")
    assert experiment["segment"].tolist() == ["S01", "S02", "all"] and set(experiment["verdict"]) == {"cannot tell"}
    assert (experiment["lift_low"] < 0).all() and (experiment["lift_high"] > 0).all()


def test_a_pilot_that_worked_is_to_be_scaled_and_its_page_loads_nothing(
    pilot: Pilot, folder: Path, give: Callable[..., str]
) -> None:
    given = ["readout", str(folder), give(spent(pilot, added=40.0))]
    answer = CliRunner().invoke(main, given)
    assert answer.exit_code == 0 and answer.stdout.startswith("Scale the campaign in Early (S01) and Late (S02)."), (
        answer.output
    )
    written = {name: (folder / "readout" / name).read_bytes() for name in ("readout.json", "readout.html")}
    page = written["readout.html"].decode()
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "") and 'lang="en"' in page
    assert not [customer for customer in pilot.units.index if customer in page]
    content = json.loads(written["readout.json"])
    assert {one["verdict"] for one in content["segments"]} == {"scale"} and content["outcomes"]["how"] == "file"
    assert CliRunner().invoke(main, given).exit_code == 0, "the same outcomes may be read again"
    assert written == {name: (folder / "readout" / name).read_bytes() for name in written}


def test_events_and_values_of_the_same_window_agree(shop: Path, pilot: Pilot, give: Callable[..., str]) -> None:
    index, facts = pilot.units.index, pilot.facts
    by_source, _ = read_outcomes(str(shop / "source.yaml"), facts=facts, index=index)
    raw = pd.read_csv(shop / "events.csv").rename(
        columns={"who": "customer_id", "at": "timestamp", "kind": "event", "number": "order_id", "paid": "amount"}
    )
    by_file, _ = read_outcomes(give(raw.drop(columns="leaflet")), facts=facts, index=index)
    values = by_source.rename_axis("customer_id").reset_index()
    by_value, _ = read_outcomes(give(values), facts=facts, index=index)
    pd.testing.assert_series_equal(by_source, by_file)
    np.testing.assert_allclose(by_source, by_value)


def test_row_order_does_not_matter_and_a_price_given_later_counts(pilot: Pilot) -> None:
    values = spent(pilot, added=5.0).set_index("customer_id")["spend"]
    first = read_out(pilot, values).experiment
    pd.testing.assert_frame_equal(first, read_out(pilot, values.iloc[::-1]).experiment)
    dear = read_out(pilot, values, contact_cost=50.0).experiment
    assert set(dear["verdict"]) == {"stop"} and (dear["return_total"] < first["return_total"]).all()
    with pytest.raises(InputError, match="below zero or not a number"):
        read_out(pilot, values, contact_cost=-1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="spend"), "there is no outcome. Give a column 'spend'"),
        (lambda t: t.drop(columns="customer_id"), "no column customer_id, only"),
        (lambda t: t.assign(spend=0.0), "no outcome: spend is zero for every customer"),
        (lambda t: t.iloc[5:], "no outcome for 5 of the"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "2 rows repeat a customer"),
        (lambda t: t.assign(spend="much"), "values of spend are not numbers"),
        (lambda t: t.assign(day="2024-09-30"), "rows are dated before the treatment began on 2024-10-01"),
        (lambda t: t.assign(day="2025-02-01"), "rows are dated after the window ended on 2024-12-30"),
        (lambda t: t.assign(day="then"), "values of day are not dates"),
        (
            lambda t: t.assign(timestamp="2024-09-01", amount=1.0),
            "the outcomes end on 2024-09-01, before the treatment",
        ),
        (lambda t: t.assign(timestamp="2024-11-01", amount=1.0), "An early look finds effects"),
        (
            lambda t: t.assign(timestamp="2024-12-30", amount=1.0, customer_id="x-" + t["customer_id"]),
            "did anything from 2024-10-01 on. Check that the customer ids",
        ),
    ],
)
def test_outcomes_that_cannot_be_used_are_named_and_nothing_is_written(
    pilot: Pilot, folder: Path, give: Callable[..., str], change: Callable[..., pd.DataFrame], words: str
) -> None:
    answer = CliRunner().invoke(main, ["readout", str(folder), give(change(spent(pilot)))])
    assert (answer.exit_code, answer.stdout) == (2, "") and words in answer.stderr and answer.stderr.count("\n") == 1
    assert not [path.name for path in folder.iterdir() if "readout" in path.name]


@pytest.mark.parametrize("outcomes", ["nowhere.csv", "nowhere.yaml"])
def test_missing_outcomes_are_named(folder: Path, outcomes: str) -> None:
    answer = CliRunner().invoke(main, ["readout", str(folder), outcomes])
    assert answer.exit_code == 2 and f"{outcomes}: no such" in answer.stderr


def test_a_pilot_not_read_yet_shows_its_design_and_no_pilot_an_empty_table(folder: Path, tmp_path: Path) -> None:
    waiting, none = load_experiment(folder), load_experiment(None)
    for table in (waiting, none):
        check(table, name="experiment")
    assert set(waiting["verdict"]) == {"not read yet"} and waiting["lift"].isna().all() and none.empty
    with pytest.raises(RunError, match="so it is no pilot"):
        load_experiment(tmp_path / "nowhere")


@pytest.mark.slow
def test_shares_and_orders_are_read_out(shop: Path, shop_run: Run, tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    for kpi in ("active", "orders"):
        made[kpi] = design_pilot(shop_run, segments=BOTH, kpi=kpi, weeks=8)
        values, _ = read_outcomes(str(shop / "source.yaml"), facts=made[kpi].facts, index=made[kpi].units.index)
        table = read_out(made[kpi], values).experiment
        assert table["lift"].abs().max() < 3 and table["return_total"].isna().all()
    assert set(values) > {0.0} and made["active"].facts["unit"] == "share"


def test_the_answer_gives_the_lift_over_all_segments(pilot: Pilot) -> None:
    values = spent(pilot, added=40.0).set_index("customer_id")["spend"]
    table = read_out(pilot, values).experiment.assign(currency="USD")
    lift = f"${table.set_index('segment').loc['all', 'lift']:.0f}"
    for answer in (readout_headline(table), measure_headline(table.assign(smallest_share=0.1), table, horizon_days=91)):
        assert f"Over all segments, the difference is {lift}" in answer
