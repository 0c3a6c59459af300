"""An experiment made anywhere: its table is read, its effects are those of plain formulas, and its guards hold."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from statsmodels.regression.linear_model import OLS

from segkit.cli import main
from segkit.experiments.arms import read_experiment
from segkit.experiments.effects import NO_VERDICT, estimate_effects, find_policy, measure_effects
from segkit.experiments.estimate import Price
from segkit.experiments.trust import check_experiment
from segkit.reports.arms import effects_headline
from segkit.reports.arms_readout import EFFECT_COLUMNS
from segkit.templates import text
from segkit.texts import languages, speaking

CUSTOMERS = 6_000
VOUCHER = r"$\voucher$ <b>"  # no formula, and no tag
LIFT = {"No mail": 0.0, "Letter": 0.06, "Voucher": 0.12}


def _mail(customers: int = CUSTOMERS, *, seed: int = 4) -> pd.DataFrame:
    """A mail test with three arms: visits rise by 6 and 12 points, and only in the city."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"customer_id": [f"{n:06d}" for n in range(customers)]})
    table["spend_before"] = rng.gamma(2.0, 40.0, customers).round(2)
    table["place"] = rng.choice(["city", "town"], customers)
    table["arm"] = rng.permutation(np.resize(list(LIFT), customers))
    lift = table["arm"].map(LIFT) * np.where(table["place"] == "city", 2, 0)
    table["visit"] = (rng.random(customers) < 0.1 + table["spend_before"] / 800 + lift).astype(int)
    table["spend"] = np.where(rng.random(customers) < 0.3, rng.gamma(2, 10, customers), 0).round(2) * table["visit"]
    table["unsubscribed"] = (rng.random(customers) < 0.01 + 0.05 * (table["arm"] == "Voucher")).astype(int)
    return table


def _run(table: pd.DataFrame, folder: Path, *options: str) -> tuple[int, str, dict]:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "mail.csv", index=False)
    found = CliRunner().invoke(main, ["readout", "--arms", str(folder / "mail.csv"), *options])
    written = folder / "readout" / "readout.json"
    return found.exit_code, found.output, json.loads(written.read_text()) if written.is_file() else {}


def test_a_mail_test_is_read_out_with_its_planted_lifts(tmp_path: Path) -> None:
    status, output, content = _run(_mail(), tmp_path, "--kpi", "visit", "--kpi", "spend", "--segment-by", "place",
                                   "--guard", "unsubscribed", "--language", "de")  # fmt: skip
    assert (
        status == 0 and "„Voucher“ wirkt: visit steigt" in output and "Nebenwirkung unsubscribed: schlechter" in output
    )
    effects = pd.read_parquet(tmp_path / "readout" / "effects.parquet")
    assert list(effects) == EFFECT_COLUMNS
    rows = effects[effects["kpi"] == "visit"].set_index(["arm", "segment"])
    for (arm, place), row in rows.iterrows():
        true = LIFT[arm] * {"all": 1, "city": 2, "town": 0}[place]
        assert row["lift_low"] < true < row["lift_high"], (arm, place)
    assert rows.loc[("Voucher", "city"), "verdict"] == "go on"
    assert set(rows.xs("town", level="segment")["verdict"]) == {"cannot tell"}
    assert [check["passed"] for check in content["checks"]] == [True, True]
    assert content["policy"]["arms"]["city"] == "Voucher" and content["covariates"] == ["spend_before"]
    page = (tmp_path / "readout" / "readout.html").read_text()
    assert page.index("wirkt") < page.index("<svg") and "000123" not in page


def test_a_source_gives_its_table_of_customers_with_the_arm(tmp_path: Path) -> None:
    _mail().rename(columns={"customer_id": "Kunde"}).to_parquet(tmp_path / "people.parquet")
    con = duckdb.connect(str(tmp_path / "shop.duckdb"))
    con.execute(f"create table people as from '{tmp_path}/people.parquet'")
    con.close()
    text = "name: shop\ntimezone: UTC\n{events}customers:\n  {place}\n  columns: {{customer_id: Kunde, place: place}}\n"
    text += "  roles: {{place: geographic}}\n"
    events = "events:\n  - {path: events.csv, columns: {customer_id: who, timestamp: at}}\n"
    (tmp_path / "events.csv").write_text("who,at\n000001,2024-01-01\n")
    tables = []
    for name, place in (
        ("file", "path: people.parquet"),
        ("database", "database: duckdb://shop.duckdb\n  table: people"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text.format(events=events, place=place))
        found = read_experiment(tmp_path / f"{name}.yaml", kpis=["visit"], segments="place")
        assert found.control == "No mail" and len(found.arm) == CUSTOMERS
        tables.append(estimate_effects(found)[0])
    pd.testing.assert_frame_equal(*tables)
    (tmp_path / "none.yaml").write_text("name: shop\ntimezone: UTC\n" + events)
    status = CliRunner().invoke(main, ["readout", "--arms", str(tmp_path / "none.yaml")])
    assert status.exit_code == 2 and "this source has no table of customers" in status.output


def test_an_adjusted_lift_is_that_of_least_squares_with_products(tmp_path: Path) -> None:
    table = _mail()[lambda t: t["arm"] != "Letter"].drop(columns=["customer_id", "place"])
    table.to_csv(tmp_path / "two.csv", index=False)
    found, pairs = estimate_effects(read_experiment(tmp_path / "two.csv", kpis=["visit"]))
    treated = (table["arm"] == "Voucher").to_numpy(float)
    past = (table["spend_before"] - table["spend_before"].mean()).to_numpy()
    fit = OLS(table["visit"].to_numpy(float), np.column_stack([np.ones(len(past)), treated, past, treated * past]))
    expected = fit.fit(cov_type="HC3")
    row = found.iloc[0]
    assert row["lift"] == pytest.approx(expected.params[1]) and pairs.empty
    half = (row["lift_high"] - row["lift_low"]) / 2
    assert half == pytest.approx(1.96 * expected.bse[1], rel=0.01), "one interval is not widened"


def _drop_controls(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(table.index[table["arm"] == "No mail"][:200])


def _lose_visits(table: pd.DataFrame) -> pd.DataFrame:
    lost = (table["arm"] == "Voucher") & (table.index % 5 == 0)
    return table.assign(visit=table["visit"].mask(lost).astype("Int64"))


def _date_early(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(sent_on="2024-03-01", bought_on=np.where(table.index % 9 == 0, "2024-02-01", "2024-03-05"))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_drop_controls, "split"),
        (_lose_visits, "losses"),
        (lambda t: t.assign(spend_before=t["spend_before"] + 40 * (t["arm"] == "Voucher")), "balance"),
        (_date_early, "dates"),
        (lambda t: t.assign(price_test=np.where(t["arm"] == "Letter", "new", "control")), "other_test"),
    ],
)
def test_a_guard_that_fails_withholds_the_verdict(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str
) -> None:
    change(_mail()).to_csv(tmp_path / "mail.csv", index=False)
    experiment = read_experiment(tmp_path / "mail.csv", kpis=["visit"], arm="arm")
    found = measure_effects(experiment)
    assert {check.name for check in found.checks if not check.passed} == {name}
    assert set(found.table["verdict"]) == {NO_VERDICT} and found.pairs.empty and not found.orders
    assert effects_headline(found).startswith("No verdict: ")
    for language in languages():
        with speaking(language):
            assert all(len(text("arms", "check", one=check)) > 40 for check in found.checks)


def test_a_look_before_the_end_is_wider_and_households_count_once(tmp_path: Path) -> None:
    table = _mail().assign(address=lambda t: t.index // 3)
    table.to_csv(tmp_path / "mail.csv", index=False)
    experiment = read_experiment(tmp_path / "mail.csv", kpis=["visit"])
    check = next(one for one in check_experiment(experiment) if one.name == "households")
    assert not check.passed and not check.withholds("visit"), "an effect that is diluted is still one"
    end, look = (estimate_effects(experiment, planned=planned)[0].iloc[0] for planned in (None, 9_000))
    assert look["lift_high"] - look["lift_low"] > 1.2 * (end["lift_high"] - end["lift_low"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t[t["arm"] != "No mail"], [], "which arm is the control"),
        (lambda t: t.assign(arm="Letter"), [], "everyone is in arm 'Letter'"),
        (lambda t: pd.concat([t[t["arm"] == "No mail"], t[t["arm"] == "Letter"][:3]]), [], r"'Letter' \(3\)"),
        (lambda t: t.assign(visit=1, spend=5, unsubscribed=0), [], "same value for every customer"),
        (lambda t: t.assign(spend=t["spend"].astype(str).where(t.index != 7, "a lot")), [], "not numbers.*'a lot'"),
        (lambda t: pd.concat([t, t[:9].assign(arm="Voucher")]), [], "customers are in more than one arm"),
        (lambda t: pd.concat([t, t.assign(arm=t["arm"].to_numpy()[::-1])]), [], "drawn for each row"),
        (lambda t: pd.concat([t, t]), [], "sum of each outcome"),
        (lambda t: t, ["--kpi", "sales"], "--kpi sales: mail.csv has no such column"),
        (lambda t: t, ["--kpi", "visit", "--before", "visit"], "measured before or after"),
        (lambda t: t, ["--control", "Nobody"], "--control Nobody: there is no such arm"),
        (lambda t: t, ["--split", "Letter", "0.5"], "give each arm a share"),
        (lambda t: t, ["--split", "Letter", "nan", "--split", "No mail", "1"], "give each arm a share"),
        (lambda t: t[["customer_id", "arm"]], [], "which columns are outcomes"),
        (lambda t: t[:0], [], "no rows"),
    ],
)
def test_a_table_that_cannot_be_read_out_ends_in_one_message(
    tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], options: list[str], message: str
) -> None:
    status, output, content = _run(change(_mail(900)), tmp_path, *options)
    assert status == 2 and re.search(message, output) and len(output.strip().splitlines()) == 1, output
    assert not content and [path.name for path in tmp_path.iterdir()] == ["mail.csv"]


def test_arms_of_numbers_small_arms_and_folders_of_others(tmp_path: Path) -> None:
    table = _mail(2_000)
    table["arm"] = table["arm"].replace({"Voucher": VOUCHER})
    flags = table.assign(arm=(table["arm"] == VOUCHER).astype(int), random=1, opinion="text " + table["customer_id"])
    split = ("--split", "0", "2", "--split", "1", "1")
    status, output, content = _run(flags, tmp_path, "--kpi", "visit", *split, "--look", "5000")
    assert "interim look" in (tmp_path / "readout" / "readout.html").read_text()
    assert status == 0 and (content["control"], content["arms"]) == ("0", ["1"]) and "Arm 1 works" in output
    made = [path.read_bytes() for path in sorted((tmp_path / "readout").iterdir())]
    assert _run(flags, tmp_path, "--kpi", "visit", *split, "--look", "5000")[0] == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "readout").iterdir())] == made, "same input, same bytes"
    few = pd.concat([table[table["arm"] != "Letter"], table[table["arm"] == "Letter"][:3]])
    _, _, content = _run(few, tmp_path / "few", "--kpi", "visit")
    assert content["arms"] == [VOUCHER] and "<b>" not in (tmp_path / "few/readout/readout.html").read_text()
    assert "small_arm" in [note["name"] for note in content["notes"]]
    (tmp_path / "few" / "readout" / "notes.txt").write_text("mine")
    status, output, _ = _run(few, tmp_path / "few", "--kpi", "visit")
    assert status != 0 and (tmp_path / "few" / "readout" / "notes.txt").read_text() == "mine"
    table.to_csv(tmp_path / "other.csv", index=False)
    found = CliRunner().invoke(main, ["readout", "--arms", str(tmp_path / "other.csv")])
    assert found.exit_code == 2 and "read-out of mail.csv" in found.output


def test_scale_needs_a_price_and_the_policy_is_valued_on_others(tmp_path: Path) -> None:
    table = _mail(seed=8)
    table.to_csv(tmp_path / "mail.csv", index=False)
    experiment = read_experiment(tmp_path / "mail.csv", kpis=["spend"], segments="place")
    cheap, dear = (
        estimate_effects(experiment, price=Price(contact_cost=cost, margin=0.5))[0].query("arm == 'Voucher'")
        for cost in (0.01, 5.0)
    )
    assert cheap["verdict"].iloc[0] == "scale" and dear["verdict"].iloc[0] == "stop"
    shuffled = pd.Series(np.random.default_rng(1).permutation(experiment.arm), name="arm")
    values = [
        find_policy(
            type(experiment)(
                **{**vars(experiment), "arm": shuffled.sample(frac=1, random_state=n).reset_index(drop=True)}
            ),
            outcome=experiment.outcomes[0],
            price=Price(),
        ).value.value
        for n in range(8)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 8**0.5 + 1e-9, "without an effect, no policy has a value"
