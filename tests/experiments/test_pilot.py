"""Pilots: who is drawn, what is refused, and that a frozen design cannot change."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.io import write_json
from segkit.data.runs import Run, load_run
from segkit.errors import InputError, RunError
from segkit.experiments.design import lifts_from_readout
from segkit.experiments.pilot import Pilot, design_pilot, find_pilot, load_pilot, write_pilot
from segkit.reports.pilots import describe_pilot

BOTH = ("S01", "S02")


def lifts(folder: Path, **changes: Any) -> str:
    """A read-out that measured a lift of 8 in S01 and of 2 in S02."""
    rows = [
        {"segment": "S01", "lift": 8.0, "low": 4.0, "high": 12.0, "se": 2.0, "df": 90.0},
        {"segment": "S02", "lift": 2.0, "low": -1.0, "high": 5.0, "se": 1.5, "df": 90.0},
    ]
    write_json(folder / "readout.json", {"kpi": "spend", "window_days": 91, "segments": rows, **changes})
    return str(folder)


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture
def pilot(shop_run: Run) -> Pilot:
    return design_pilot(shop_run, segments=BOTH, contact_cost=0.5, margin=0.3)


def test_everyone_who_may_be_contacted_is_in_one_arm_and_no_other(pilot: Pilot, shop: Path) -> None:
    people = pd.read_csv(shop / "people.csv").set_index("who")["may_mail"]
    consenting = {who for who, consent in people.items() if consent == "yes" and not who.startswith("s03")}
    assert set(pilot.units.index) == consenting and "s01-000" not in consenting  # whose consent is missing
    assert pilot.facts["left_out"]["no consent"] == 220 - len(consenting)
    assert set(pilot.targets["customer_id"]) == set(pilot.units.index[pilot.units["arm"] == "treatment"])


def test_files_are_the_same_bytes_again_and_another_seed_draws_others(shop_run: Run, tmp_path: Path) -> None:
    for name in ("first", "again"):
        write_pilot(design_pilot(shop_run, segments=BOTH), tmp_path / name)
    write_pilot(design_pilot(shop_run, segments=BOTH, seed=8), tmp_path / "other")
    assert files(tmp_path / "first") == files(tmp_path / "again")
    assert files(tmp_path / "first")["treatment.csv"] != files(tmp_path / "other")["treatment.csv"]
    assert set(files(tmp_path / "first")) == {
        ".gitignore",
        "control.csv",
        "pilot.json",
        "targets.csv",
        "treatment.csv",
        "units.parquet",
    }


def test_design_states_its_power_and_that_no_return_is_known(pilot: Pilot) -> None:
    power = {one["segment"]: one for one in pilot.facts["power"]}
    assert power["S01"]["break_even"] == pytest.approx(0.5 / 0.3)
    assert 0 < power["S01"]["smallest_effect"] and power["S01"]["sd_left"] < power["S01"]["sd"]
    assert pilot.facts["expected"]["value"] is None and "earlier read-out" in pilot.facts["expected"]["reason"]
    assert pilot.targets["expected_return"].isna().all()
    assert pilot.targets["value_at_stake"].is_monotonic_decreasing
    assert (pilot.facts["start"], pilot.facts["end"]) == ("2024-10-01", "2024-12-30")
    assert not pilot.facts["imbalance"]["beyond_chance"]


def test_more_segments_at_once_need_larger_effects(shop_run: Run, pilot: Pilot) -> None:
    alone = design_pilot(shop_run, segments=("S01",))
    assert alone.facts["power"][0]["smallest_effect"] < pilot.facts["power"][0]["smallest_effect"]


def test_joined_segments_are_one_group_that_detects_less_and_may_have_a_small_part(shop_run: Run) -> None:
    both = design_pilot(shop_run, segments=("S01", "S02", "S03"), join=True)
    (power,) = both.facts["power"]
    assert both.facts["segments"] == ["S01+S02+S03"] and power["name"] == "Early, Late and Few"
    assert power["treatment"] + power["control"] == len(both.units) > 200
    alone = design_pilot(shop_run, segments=("S01", "S02")).facts["power"]
    assert power["smallest_effect"] < min(one["smallest_effect"] for one in alone)
    with pytest.raises(InputError, match="the opportunities of this run are none"):
        design_pilot(shop_run, opportunity="A01")


def test_a_pilot_of_an_opportunity_draws_only_customers_it_concerns(shop: Path, tmp_path: Path) -> None:
    run = load_run(shutil.copytree(shop / "run", tmp_path / "run"))
    actions = pd.DataFrame([("A01", "S01 S02", "cross_need", "N01"), ("A02", "S02", "none", None)])
    actions.columns = ["action", "joined", "type", "need"]
    concerned = [f"s01-{n:03d}" for n in range(20, 120)] + [f"s02-{n:03d}" for n in range(50)]
    actions.to_parquet(run.path / "tables" / "actions.parquet")
    table = pd.DataFrame({"customer_id": concerned, "actions": "A01 A03"})
    table.to_parquet(run.path / "tables" / "action_customers.parquet")
    made = design_pilot(run, opportunity="A01")
    assert set(made.units.index) < set(concerned) and len(made.units) == 135, "one in ten gave no consent"
    assert made.facts["left_out"]["A01 does not concern them"] == 220 - 150
    assert made.facts["action"] == {"id": "A01", "type": "cross_need", "need": "N01"}
    assert "Left out: 70 customers (A01 does not concern them)." in describe_pilot(made.facts)
    assert len(design_pilot(run, opportunity="A02").units) == 90  # nothing stands out, so it concerns all of them
    with pytest.raises(InputError, match="--opportunity A09: the opportunities of this run are A01, A02"):
        design_pilot(run, opportunity="A09")


def test_a_budget_reduces_all_shares_alike_at_random(shop_run: Run) -> None:
    made = design_pilot(shop_run, segments=BOTH, budget=30.0, contact_cost=0.5)
    counts = made.units.groupby(["segment", "arm"]).size()
    assert abs(len(made.targets) - 60) <= 8, "eight strata, rounded at random"
    shares = counts.xs("treatment", level="arm") / made.units.groupby("segment").size()
    assert shares["S01"] == pytest.approx(shares["S02"], abs=0.06)


def test_with_a_readout_the_segment_that_paid_comes_first_and_one_that_did_not_is_left_out(
    shop_run: Run, tmp_path: Path
) -> None:
    measured = {"segments": BOTH, "lift_from": lifts(tmp_path), "share_control": 0.3}
    made = design_pilot(shop_run, contact_cost=0.5, margin=0.5, **measured)
    assert made.targets["segment"].is_monotonic_increasing  # S01 first
    counts = made.targets["segment"].value_counts()
    assert made.targets["expected_return"].iloc[0] == pytest.approx(8 * 0.5 - 0.5)
    expected = made.facts["expected"]
    assert expected["value"] == pytest.approx(counts["S01"] * 3.5 + counts["S02"] * 0.5)
    assert expected["low"] < expected["value"] < expected["high"]
    dear = design_pilot(shop_run, contact_cost=1.5, margin=0.5, **measured)
    assert set(dear.units["segment"]) == {"S01"} and dear.facts["segments"] == ["S01"]


def test_customers_of_another_pilot_are_left_out(shop_run: Run, pilot: Pilot, tmp_path: Path) -> None:
    write_pilot(pilot, tmp_path / "running")
    with pytest.raises(InputError, match="S01: 0 of 120 customers can be in the pilot"):
        design_pilot(shop_run, segments=("S01",), exclude=(str(tmp_path / "running"),))
    taken = pd.DataFrame({"customer_id": pilot.units.index[:10]})
    taken.to_csv(tmp_path / "taken.csv", index=False)
    made = design_pilot(shop_run, segments=BOTH, exclude=(str(tmp_path / "taken.csv"),))
    assert not set(taken["customer_id"]) & set(made.units.index)
    assert made.facts["left_out"]["in another pilot"] == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"segments": ("S09",)}, "--segment S09: the segments of this run are S01, S02, S03"),
        ({"segments": ("S03",)}, "S03: 27 of 30 customers can be in the pilot, so its smaller arm has 13"),
        ({"kpi": "clicks"}, "--kpi clicks: there is no such KPI"),
        ({"share_control": 1.0}, "Without a control group no effect can be measured"),
        ({"share_control": 0.05}, "each arm needs 20"),
        ({"contact_cost": -1.0}, "--contact-cost -1.0: below zero or not a number"),
        ({"budget": 100.0}, "--budget: it needs --contact-cost"),
        ({"budget": -5.0}, "--budget -5.0: not above zero"),
        ({"budget": 5.0, "contact_cost": 1.0}, "each arm needs 20"),
        ({"start": "2024-09-01"}, "outcomes would be known already"),
        ({"start": "20241201"}, "--start '20241201' is not a date"),
        ({"weeks": 30}, "a window of 210 days needs 420 days of history, and there are"),
        ({"weeks": 0}, "--weeks 0: give at least 1"),
        ({"exclude": ("nowhere.csv",)}, "--exclude nowhere.csv"),
        ({"lift_from": "nowhere"}, "--lift-from nowhere: no readout.json found"),
    ],
)
def test_bad_input_is_named(shop_run: Run, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        design_pilot(shop_run, **{"segments": BOTH, **options})


def test_a_readout_of_another_kpi_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it measured orders, but the KPI of this pilot is spend"):
        lifts_from_readout(lifts(tmp_path, kpi="orders"), kpi="spend")


def test_a_design_is_never_overwritten_and_no_file_is_half_written(pilot: Pilot, tmp_path: Path) -> None:
    write_pilot(pilot, tmp_path / "mine")
    before = files(tmp_path / "mine")
    with pytest.raises(RunError, match="a design is never overwritten"):
        write_pilot(pilot, tmp_path / "mine")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("mine")
    with pytest.raises(RunError, match="the folder holds something else"):
        write_pilot(pilot, tmp_path / "letters")
    assert files(tmp_path / "mine") == before and sorted(p.name for p in tmp_path.iterdir()) == ["letters", "mine"]


ALTERED = [
    ("treatment.csv", lambda t, c: (t.iloc[:0], c), "no customer is treated, so nothing was tried"),
    ("control.csv", lambda t, c: (t, c.iloc[:0]), "no customer is held out, so there is nothing to compare with"),
    ("both", lambda t, c: (t, pd.concat([c, t.iloc[:3]])), "3 customers are in both"),
    ("segment", lambda t, c: (t[t["segment"] == "S01"], c), "Treatment now depends on the segment"),
    ("swapped", None, "2 customers are not in the arm they were drawn for"),
]


@pytest.mark.parametrize(("name", "change", "words"), ALTERED, ids=[one[0] for one in ALTERED])
def test_files_that_are_not_as_drawn_are_refused(
    pilot: Pilot, tmp_path: Path, name: str, change: Any, words: str
) -> None:
    folder = write_pilot(pilot, tmp_path / "mine")
    tables = [pd.read_csv(folder / f"{arm}.csv") for arm in ("treatment", "control")]
    if change is None:
        mine = pilot.units[pilot.units["stratum"] == "S01/1"]
        one, other = (mine.index[mine["arm"] == arm][0] for arm in ("treatment", "control"))
        swapped = {one: other, other: one}
        changed = [table.replace({"customer_id": swapped}) for table in tables]
    else:
        changed = change(*tables)
    for arm, table in zip(("treatment", "control"), changed, strict=True):
        table.to_csv(folder / f"{arm}.csv", index=False)
    with pytest.raises(InputError, match=words):
        load_pilot(folder)


def test_frozen_units_that_were_changed_are_refused(pilot: Pilot, tmp_path: Path) -> None:
    folder = write_pilot(pilot, tmp_path / "mine")
    units = pd.read_parquet(folder / "units.parquet")
    units.assign(pre=0.0).to_parquet(folder / "units.parquet", index=False)
    with pytest.raises(RunError, match="it was changed after the draw"):
        load_pilot(folder)
    with pytest.raises(RunError, match="so it is no pilot"):
        load_pilot(tmp_path)


def test_the_only_pilot_of_a_run_is_found(shop: Path, pilot: Pilot, tmp_path: Path) -> None:
    shutil.copytree(shop / "run", tmp_path / "run")
    with pytest.raises(RunError, match="the pilots drawn from this run are: none"):
        find_pilot(tmp_path / "run")
    write_pilot(pilot, tmp_path / "pilots" / "one")
    assert find_pilot(tmp_path / "run").name == "one" == find_pilot(tmp_path / "pilots" / "one").name
    write_pilot(pilot, tmp_path / "pilots" / "two")
    with pytest.raises(RunError, match="one, two. Choose one with --pilot"):
        find_pilot(tmp_path / "run")
    assert find_pilot(tmp_path / "run", pilot=str(tmp_path / "pilots" / "two")).name == "two"
    other = pd.read_parquet(tmp_path / "run" / "tables" / "assignments.parquet").iloc[:50]
    other.to_parquet(tmp_path / "run" / "tables" / "assignments.parquet")
    with pytest.raises(RunError, match="it was drawn from another run"):
        find_pilot(tmp_path / "run", pilot=str(tmp_path / "pilots" / "two"))


def test_command_writes_the_files_and_describes_them(shop: Path, tmp_path: Path) -> None:
    given = ["pilot", str(shop / "run"), "--segment", "S01", "--out", str(tmp_path / "mine")]
    answer = CliRunner().invoke(main, given)
    assert answer.exit_code == 0, answer.output
    assert (
        answer.stdout.splitlines()[-1] == str(tmp_path / "mine")
        and "No return is forecast" in answer.stdout
        and (tmp_path / "mine" / "plan.html").is_file()
    )
    again = CliRunner().invoke(main, given)
    assert (again.exit_code, again.stdout) == (2, "") and again.stderr.count("\n") == 1
    bad = CliRunner().invoke(main, ["pilot", str(shop / "run"), "--segment", "S01", "--contact-cost", "-1"])
    assert bad.exit_code == 2 and "below zero or not a number" in bad.stderr
