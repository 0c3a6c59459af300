"""Ids and names survive a month of new data: two runs of the real chain, the second with the first as previous."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import Run, load_run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of the notebook machinery
MONTHS = ("2017-11-01", "2017-12-01")
MIN_SURVIVING_SHARE = 0.75  # of the ids; benchmarks/README has the measured shares


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Complete Journey as of two months; the second run finds the first."""
    folder = tmp_path_factory.mktemp("months")
    for month in MONTHS:
        answer = CliRunner().invoke(main, ["run", "--as-of", month, "--steps", "01-03", "--out", str(folder / month)])
        assert answer.exit_code == 0, answer.output
    return [load_run(folder / month) for month in MONTHS]


def test_most_ids_survive_and_a_surviving_segment_keeps_its_name(runs: list[Run]) -> None:
    before, after = (run.table("segments").set_index("segment") for run in runs)
    surviving = before.index.intersection(after.index)
    assert Path(runs[1].record()["previous"]).name == MONTHS[0]
    assert len(surviving) >= MIN_SURVIVING_SHARE * len(before)
    kept = [table.loc[surviving, ["level", "need"]].fillna("") for table in (before, after)]
    alike = (kept[0] == kept[1]).all(axis=1)
    assert alike.mean() >= MIN_SURVIVING_SHARE
    assert (before.loc[surviving, "name"] == after.loc[surviving, "name"])[alike].all(), "one level and need, one name"


def test_the_ledger_has_every_segment_and_moves_has_every_customer(runs: list[Run]) -> None:
    ledger, moves = runs[1].table("ledger"), runs[1].table("moves")
    new = ledger[ledger["as_of"] == MONTHS[1]]
    assert set(new["segment"]) == {s for run in runs for s in run.table("segments")["segment"]}
    assert set(moves["customer_id"]) == {c for run in runs for c in run.table("assignments")["customer_id"]}
    in_both = moves[["before", "standing"]].notna().all(axis=1)
    assert (moves["before"] == moves["standing"])[in_both].mean() > 0.6, "most are where they were under the old model"
