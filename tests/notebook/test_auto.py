"""Automatic runs: what each decision leads to, and when a full run is needed."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from segkit.data.runs import Run, open_run
from segkit.errors import InputError, RunError
from segkit.notebook.chain import dry_run, first_steps, refit_reason, remaining_steps, write_pilots
from segkit.notebook.steps import find_steps, kept_order
from segkit.refresh.decisions import DECISIONS

MADE_WITH = {"source": "a.yaml", "source_name": "a", "as_of": "2024-06-01", "lookback_days": 182, "previous": ""}


@pytest.fixture
def decided(tmp_path: Path) -> Callable[[str], Run]:
    """A function that makes a run with a decision."""

    def make(decision: str) -> Run:
        run = open_run(tmp_path / decision, outcome="building", as_of="2024-06-01")
        row = {"as_of": "2024-06-01", "since": "2024-05-01", "scope": "run", "segment": "all", "decision": decision}
        table = pd.DataFrame([row | {"reason": "Because of this."}]).reindex(columns=DECISIONS)
        texts = {"measure": "", "acted": ""}
        numbers = {name: float for name in ("value", "low", "high", "limit")}
        run.write(table.fillna(texts).astype(numbers), "decisions")
        return run

    return make


def _next(run: Run) -> list[str]:
    return [step.name for step in remaining_steps(run, every=find_steps())]


def test_the_decision_comes_first_and_the_other_notebooks_follow_when_segments_are_kept(
    decided: Callable[[str], Run],
) -> None:
    first = ["01_profile", "02_embed", "03_segments", "06_measure", "07_refresh"]
    assert [step.name for step in first_steps(find_steps())] == first
    assert _next(decided("keep")) == ["05_predict", "04_personas", "00_overview"]


def test_a_refit_starts_again_with_every_step(decided: Callable[[str], Run], capsys: pytest.CaptureFixture) -> None:
    run = decided("refit")
    assert _next(run) == [step.name for step in find_steps()]
    assert not run.has("decisions") and run.record()["acted"] == "refitted" and run.record()["tables"] == {}
    assert (
        "refit all steps, as the segments of 2024-05-01 are no longer valid: Because of this."
        in capsys.readouterr().err
    )


def test_data_that_looks_broken_stops_the_run_with_status_2(decided: Callable[[str], Run]) -> None:
    words = "the report of 2024-05-01 is still the latest. Because of this. Check the data"
    with pytest.raises(InputError, match=words) as caught:
        _next(decided("look"))
    assert caught.value.status == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lookback_days": 90}, "the last run had different parameters: lookback_days"),
        ({"segments_max": 14}, "the last run had different parameters: segments_max"),
        ({"as_of": "2024-05-01", "source": "b.yaml"}, "has no days, features"),
    ],
)
def test_other_parameters_than_those_of_the_last_run_need_a_full_run(changed: dict, words: str, tmp_path: Path) -> None:
    open_run(tmp_path / "then", **{**MADE_WITH, **changed})
    assert words in refit_reason(str(tmp_path / "then"), made_with=MADE_WITH)


def test_a_dry_run_without_an_earlier_run_describes_a_full_run(tmp_path: Path) -> None:
    described = dry_run(MADE_WITH, previous="", root=tmp_path)
    assert described == "A full run would be made: there is no earlier run of this source."
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_notebook_that_decides_is_refused(make_notebook: Callable[..., Path]) -> None:
    folder = make_notebook("01_first", "1").parent
    with pytest.raises(RunError, match="no 06_measure or 07_refresh for use with --auto"):
        kept_order(find_steps(notebooks_dir=folder))


def test_a_run_without_a_decision_to_start_a_pilot_writes_none(decided: Callable[[str], Run], tmp_path: Path) -> None:
    write_pilots(decided("keep"), place=tmp_path / "run")
    assert not (tmp_path / "pilots").exists()
