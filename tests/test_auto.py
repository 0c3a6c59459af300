"""Automatic runs on the real chain: keep, look, dry run; and the accuracy of the last run's forecasts."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from segkit.cli import main
from segkit.data.runs import Run, load_run
from segkit.notebook.run_list import write_runs_page
from segkit.reports.wording import day_text
from tests.test_notebooks import hashes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of the notebook machinery
THEN, NOW, SILENT = "2025-03-01", "2025-03-29", "2025-05-15"
WEEKS_4 = pd.Timedelta(days=28)
PAGES = ("01_profile", "02_embed", "03_segments", "04_personas", "05_predict", "06_measure", "07_refresh")


@pytest.fixture(scope="module")
def home(whole_run: Path, made_up_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the made-up shop as of 1 March, and its source with the last four weeks repeated after it."""
    home = tmp_path_factory.mktemp("auto")
    shutil.copytree(whole_run, home / "reports" / THEN)
    shutil.copytree(made_up_company.parent, home / "source")
    events = pd.read_parquet(home / "source" / "events.parquet")
    events = events[events["at"] < pd.Timestamp(THEN)]
    more = events[events["at"] >= pd.Timestamp(THEN) - WEEKS_4]
    renamed = {name: more[name] + "-again" for name in more.columns if name == "order"}
    pd.concat([events, more.assign(at=more["at"] + WEEKS_4, **renamed)]).to_parquet(
        home / "source" / "events.parquet", index=False
    )
    return home


def _run(home: Path, as_of: str, *options: str) -> Result:
    asked = ["--as-of", as_of, "--out", str(home / "reports" / as_of), *options]
    return CliRunner().invoke(main, ["run", "--source", str(home / "source" / "source.yaml"), *asked])


@pytest.fixture(scope="module")
def described(home: Path) -> Result:
    """The answer of --dry-run, before the automatic run."""
    before = hashes(home)
    answer = _run(home, NOW, "--dry-run")
    assert hashes(home) == before, "a dry run writes nothing"
    return answer


@pytest.fixture(scope="module")
def auto(home: Path, described: Result) -> tuple[Run, Result]:
    answer = _run(home, NOW, "--auto")
    assert answer.exit_code == 0, answer.output
    return load_run(home / "reports" / NOW), answer


def test_a_dry_run_describes_what_auto_then_decides(described: Result, auto: tuple[Run, Result]) -> None:
    log = auto[0].table("decisions")
    rows = log[log["as_of"] == NOW]
    assert described.exit_code == 0 and "Nothing was written." in described.stdout
    for row in rows.to_dict("records"):
        assert f"{row['scope']} {row['segment']}: {row['decision']}. {row['reason']}" in described.stdout


def test_a_run_that_keeps_the_segments_is_complete(home: Path, auto: tuple[Run, Result]) -> None:
    run, answer = auto
    before = load_run(home / "reports" / THEN)
    assert f"keep the segments of {THEN}" in answer.stderr and answer.stdout.splitlines()[-1].endswith("index.html")
    assert set(run.table("segments")["segment"]) == set(before.table("segments")["segment"])
    assert run.load_model()[1]["fitted_as_of"] == THEN and run.record()["acted"] == "kept"
    assert run.table("assignments")["customer_id"].tolist() == sorted(run.table("features")["customer_id"])
    assert run.summary()["segments.found_as_of"] == THEN and run.summary()["forward.reason"] is None
    pages = {path.name for path in run.path.glob("*.html")}
    assert pages == {"index.html", *(f"{name}.html" for name in PAGES)}
    assert "The segments are those of" in (run.path / "03_segments.html").read_text()
    assert "The map and the test below were made on" in (run.path / "02_embed.html").read_text()
    assert "Only events since" in (run.path / "01_profile.html").read_text(), "history was not aggregated again"


def test_the_back_test_of_the_forecast_is_that_of_the_run_it_was_made_in_with_its_date(
    home: Path, auto: tuple[Run, Result]
) -> None:
    run, before = auto[0], load_run(home / "reports" / THEN)
    assert run.summary()["forecast.tested_at"] == before.summary()["forecast.tested_at"] == THEN
    for name in ("prediction_backtest", "calibration", "forecast_errors"):
        pd.testing.assert_frame_equal(run.table(name), before.table(name))
    assert run.summary()["forecast.active.auc"] == before.summary()["forecast.active.auc"]
    assert not run.table("predictions").equals(before.table("predictions")), "the forecast itself is new"
    assert f"The back-test is from {day_text(THEN)}." in (run.path / "05_predict.html").read_text()
    assert "The back-test is from" not in (before.path / "05_predict.html").read_text()


def test_all_runs_have_a_page_that_is_never_written_over_one_of_somebody_else(
    home: Path, auto: tuple[Run, Result]
) -> None:
    page = write_runs_page(auto[0])
    assert page == home / "reports" / "index.html" and f'href="./{THEN}/index.html"' in page.read_text()
    before = page.read_bytes()
    assert write_runs_page(auto[0]) == page and page.read_bytes() == before
    page.write_text("mine")
    assert write_runs_page(auto[0]) is None and page.read_text() == "mine"
    page.unlink()


def test_actions_are_logged_and_pilots_are_written_once(home: Path, auto: tuple[Run, Result]) -> None:
    log = auto[0].table("decisions")
    new = log[log["as_of"] == NOW].set_index("scope")
    assert new.loc[["run"], "acted"].tolist() == ["kept"]
    pilots = new[new["decision"] == "start a pilot"]
    for row in pilots.to_dict("records"):
        assert row["acted"].startswith(("files written to pilots/", "no files: "))
        if row["acted"].startswith("files"):
            folder = home / "reports" / "pilots" / row["acted"].rpartition("/")[2]
            assert (folder / "treatment.csv").is_file() and (folder / "pilot.json").is_file()


def test_forecasts_of_the_last_run_are_compared_with_observed_outcomes(home: Path, auto: tuple[Run, Result]) -> None:
    run, before = auto[0], load_run(home / "reports" / THEN)
    table, expected = run.table("forecast_accuracy"), before.table("predicted_segments").set_index("segment")
    assert set(table["kpi"]) == {"spend", "orders"} and (table["part"] == round(28 / 91, 6)).all()
    row = table[(table["segment"] == "all") & (table["kpi"] == "spend")].iloc[0]
    assert row["predicted"] == pytest.approx(expected.loc["all", "spend"] / expected.loc["all", "customers"] * 28 / 91)
    days = run.table("days")
    days = days[(pd.to_datetime(days["day"]) >= THEN) & (pd.to_datetime(days["until"]) < NOW)]
    known = days["customer_id"].isin(before.table("assignments")["customer_id"])
    money = days[known][["amount", "other_amount"]].sum().sum() - days[known]["return_amount"].sum()
    assert row["observed"] == pytest.approx(float(money) / len(before.table("assignments")))


def test_data_that_looks_broken_stops_the_run_and_changes_nothing(home: Path, auto: tuple[Run, Result]) -> None:
    before = hashes(home / "reports" / NOW)
    answer = _run(home, SILENT, "--auto")
    assert answer.exit_code == 2 and "the data looks broken, so nothing was changed" in answer.stderr
    assert f"the report of {NOW} is still the latest" in answer.stderr and "hold 0 events of customers" in answer.stderr
    assert hashes(home / "reports" / NOW) == before and not (home / "reports" / SILENT).exists()
