"""The same input gives the same output, byte for byte, whatever happens at and after `as_of`."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import load_run
from segkit.notebook.steps import ONE_THREAD, kernel_environment
from tests.guarantees.hashing import results

AS_OF = pd.Timestamp("2025-03-01")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery


def with_a_future(company: Path, folder: Path) -> Path:
    """The same shop, its lines in another order, with events at and after `as_of` added."""
    shutil.copytree(company.parent, folder)
    events = pd.read_parquet(folder / "events.parquet")
    known = events[events["event"] == "purchase"].iloc[:300].copy()
    known["at"] = AS_OF + pd.to_timedelta(np.arange(300) // 2, unit="h")  # from its first moment on
    known["order"] = [f"later-{i}" for i in range(300)]
    known[["amount", "category"]] = 99_999.0, "a category of tomorrow"
    continued = events[events["event"] == "purchase"].iloc[-200:].assign(at=AS_OF, category=None)  # of old orders
    new = known.iloc[:50].assign(customer=[f"kestrel-new-{i}" for i in range(50)])
    more = pd.concat([events, known, continued, new, known.assign(event="feedback", order=None)], ignore_index=True)
    more.sample(frac=1, random_state=1).to_parquet(folder / "events.parquet", index=False)
    return folder / company.name


@pytest.mark.slow
def test_run_repeats_byte_by_byte_whatever_happens_from_as_of_on(
    whole_run: Path, made_up_company: Path, tmp_path: Path
) -> None:
    source = with_a_future(made_up_company, tmp_path / "company")
    answer = CliRunner().invoke(main, ["run", "--source", str(source), "--out", str(tmp_path / "run")])
    assert answer.exit_code == 0, answer.output
    first, again = results(whole_run), results(tmp_path / "run")
    assert [name for name in first if first[name] != again.get(name)] == [] and set(first) == set(again)
    fingerprints = [load_run(run).record()["source"]["fingerprint"] for run in (whole_run, tmp_path / "run")]
    assert fingerprints[0] != fingerprints[1]


def test_settings_of_threads_do_not_reach_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ONE_THREAD, "PYTHONHASHSEED"):
        monkeypatch.setenv(name, "2")
    environment = kernel_environment()
    assert {environment[name] for name in ONE_THREAD} == {"1"} and environment["PYTHONHASHSEED"] == "0"


def test_no_table_of_a_run_knows_of_a_day_at_or_after_as_of(whole_run: Path) -> None:
    run = load_run(whole_run)
    for table in ("days", "day_orders", "day_categories", "day_channels"):
        days = pd.to_datetime(run.table(table)["day"])
        assert len(days) and days.max() < AS_OF, table
