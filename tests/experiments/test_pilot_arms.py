"""Pilots with several treatment arms: who is drawn, what they can show, and their read-out."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import Run, load_run
from segkit.erasure import erase_from_pilot
from segkit.errors import InputError
from segkit.experiments.design import draw_treatment, lifts_from_readout
from segkit.experiments.pilot import design_pilot, load_pilot, write_pilot
from segkit.experiments.readout import load_experiment
from segkit.period import Period
from segkit.refresh.decisions import decide_campaigns
from segkit.tables import check

BOTH, ARMS = ("S01", "S02"), ("app", "mail")
PERIOD = Period(date(2024, 10, 1), lookback_days=91, horizon_days=45)


@pytest.fixture
def folder(shop_run: Run, tmp_path: Path) -> Path:
    designed = design_pilot(shop_run, segments=BOTH, join=True, arms=ARMS, contact_cost=0.5, margin=0.3)
    return write_pilot(designed, tmp_path / "pilot")


def _outcomes(folder: Path, *, app: float, mail: float) -> str:
    """Write what customers spent, with something added in each arm."""
    units = load_pilot(folder).units
    added = units["arm"].map({"app": app, "mail": mail, "control": 0.0})
    spend = units["recent"] + np.random.default_rng(3).lognormal(2, 0.5, len(units)) + added
    path = folder.with_name("outcomes.csv")
    spend.rename("spend").rename_axis("customer_id").reset_index().to_csv(path, index=False)
    return str(path)


def test_arms_share_the_treated_equally_in_each_stratum() -> None:
    stratum = pd.Series(["S01/1"] * 300 + ["S02/1"] * 60, index=[f"c{n}" for n in range(360)])
    shares = {"S01": 0.6, "S02": 0.6}
    arm = draw_treatment(stratum, treated_share=shares, seed=7, salt="x", arms=("a", "b", "c"))
    counts = pd.crosstab(stratum, arm)
    assert (counts.loc["S01/1", ["a", "b", "c"]] == 60).all() and (counts.loc["S02/1", ["a", "b", "c"]] == 12).all()
    one = draw_treatment(stratum, treated_share=shares, seed=7, salt="x")
    assert ((one == "treatment") == (arm != "control")).all(), "the same customers, whatever the arms"


def test_each_arm_has_its_file_its_power_and_what_that_is_in_money(shop: Path, tmp_path: Path) -> None:
    given = ["pilot", str(shop / "run"), "--segment", "S01", "--segment", "S02", "--join", "--arms", "mail,app"]
    answer = CliRunner().invoke(main, [*given, "--out", str(tmp_path / "mine")])
    assert answer.exit_code == 0, answer.output
    facts = json.loads((tmp_path / "mine" / "pilot.json").read_text())
    assert facts["arms"] == ["mail", "app"] and facts["share_control"] == 0.41
    ids = {name: set(pd.read_csv(tmp_path / "mine" / f"{name}.csv")["customer_id"]) for name in (*ARMS, "control")}
    assert not ids["app"] & ids["mail"] and not ids["control"] & (ids["app"] | ids["mail"])
    power = {one["arm"]: one for one in facts["power"]}
    assert {arm: one["treatment"] for arm, one in power.items()} == {arm: len(ids[arm]) for arm in ARMS}
    assert {one["control"] for one in power.values()} == {len(ids["control"])}
    alone = design_pilot_of(shop, arms=()).facts["power"][0]
    assert all(one["smallest_effect"] > alone["smallest_effect"] for one in power.values())
    assert "customers with mail" in answer.stdout and "S01+S02), app: " in answer.stdout
    assert answer.stdout.count("over all contacted") == 2
    plan = (tmp_path / "mine" / "plan.html").read_text()
    assert "customers in mail.csv with mail" in plan and "app.csv" in plan and "treatment.csv" not in plan


def design_pilot_of(shop: Path, **options: Any) -> Any:
    return design_pilot(load_run(shop / "run"), segments=BOTH, join=True, **options)


def test_a_readout_has_a_verdict_for_each_arm_and_the_arms_against_each_other(folder: Path) -> None:
    answer = CliRunner().invoke(main, ["readout", str(folder), _outcomes(folder, app=0.0, mail=12.0)])
    assert answer.exit_code == 0 and answer.stdout.startswith("Scale mail"), answer.output
    experiment = load_experiment(folder)
    check(experiment, name="experiment")
    rows = experiment.set_index("arm")
    assert rows["verdict"].to_dict() == {"app": "stop", "mail": "scale"}
    assert rows.loc["mail", "lift_low"] < 12 < rows.loc["mail", "lift_high"] and set(experiment["segment"]) == {
        "S01+S02"
    }
    content = json.loads((folder / "readout" / "readout.json").read_text())
    (pair,) = content["pairs"]
    assert (pair["arm"], pair["against"]) == ("app", "mail") and pair["lift_high"] < 0
    page = (folder / "readout" / "readout.html").read_text()
    assert "mail does better than app" in page and "How the table was read" not in page
    assert lifts_from_readout(folder, kpi="spend", arm="mail").loc["S01+S02", "se"] > 0
    with pytest.raises(InputError, match=r"it measured app, mail. Name the arm to repeat with --arms"):
        lifts_from_readout(folder, kpi="spend")


def test_erased_customers_are_in_no_file_of_any_arm_and_the_readout_goes_on(folder: Path) -> None:
    gone = pd.read_csv(folder / "app.csv")["customer_id"].iloc[0]
    outcomes = _outcomes(folder, app=0.0, mail=12.0)
    assert erase_from_pilot(folder, {gone}) == 1
    assert gone not in {one for path in folder.glob("*.csv") for one in pd.read_csv(path)["customer_id"]}
    answer = CliRunner().invoke(main, ["readout", str(folder), outcomes])
    assert answer.exit_code == 0 and "erased on request" in answer.stdout


def test_of_two_arms_that_pay_in_a_segment_the_better_one_is_decided(folder: Path) -> None:
    CliRunner().invoke(main, ["readout", str(folder), _outcomes(folder, app=9.0, mail=20.0)])
    experiment = load_experiment(folder)
    assert set(experiment["verdict"]) == {"scale"}
    nothing = pd.DataFrame(columns=["segment", "decision", "as_of", "customers", "weeks_needed"])
    found = decide_campaigns(
        nothing, pilots=nothing, experiment=experiment, log=nothing, kpi="spend", period=PERIOD, reachable=False
    )
    assert found["decision"].tolist() == ["scale"] and found["reason"].iloc[0].startswith("mail: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arms": ("mail", "Mail")}, "an arm is named twice"),
        ({"arms": ("mail", "control")}, "'control' cannot be the name of an arm"),
        ({"arms": ("mail", "../app")}, "cannot be the name of an arm"),
        ({"arms": ("mail", "")}, "'' cannot be the name of an arm"),
        ({"arms": tuple("abcdefghi")}, "9 arms, and 8 at most"),
        ({"arms": tuple("abcdef")}, "each arm needs 20"),
        ({"arms": ARMS, "lift_from": "x"}, "cannot say what each of 2 arms will bring"),
        ({"arms": ARMS, "kpi": "orders", "margin": 2.0}, "a return is computed of spend only"),
    ],
)
def test_arms_that_cannot_be_are_refused_in_a_sentence(shop_run: Run, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        design_pilot(shop_run, segments=BOTH, **options)
    assert "\n" not in str(refused.value)
