"""Steps of the chain: order, parameters, tables read and written, choices."""

from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.errors import InputError, RunError
from segkit.notebook.steps import Step, check_names, choose_steps, find_steps


@pytest.fixture
def steps(make_notebook: Callable[..., Path]) -> list[Step]:
    make_notebook("00_overview", 'run.table("segments")')
    make_notebook(
        "03_segments", "%time\nother.table('x')", 'run.write(f({"a": [1]}), name="segments")\nrun.write(b, "rivals")'
    )
    return find_steps(notebooks_dir=make_notebook("01_profile", "not python at all !").parent)


def test_overview_runs_last_and_is_the_index(steps: list[Step]) -> None:
    assert [(step.name, step.page, step.label) for step in steps] == [
        ("01_profile", "01_profile.html", "Profile"),
        ("03_segments", "03_segments.html", "Segments"),
        ("00_overview", "index.html", "Overview"),
    ]


def test_step_knows_its_title_parameters_and_tables(steps: list[Step]) -> None:
    segments, overview = steps[1], steps[2]
    assert segments.title == "Segments: What is it?"
    assert segments.parameters["lookback_days"] == 182 and segments.parameters["run_dir"] == "reports/lab"
    assert {"segments", "baselines"} <= set(segments.writes) and "map" in segments.reads
    assert "segments" in overview.reads and overview.writes == ()


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (None, ["01_profile", "03_segments", "00_overview"]),
        ("03", ["03_segments"]),
        ("1-4", ["01_profile", "03_segments"]),
        ("00,03", ["03_segments", "00_overview"]),
    ],
)
def test_choice_of_steps(steps: list[Step], chosen: str | None, names: list[str]) -> None:
    assert [step.name for step in choose_steps(steps, chosen)] == names


@pytest.mark.parametrize(
    ("chosen", "words"), [("soon", "not of the form"), ("07", "no such step. Choose from 01_profile")]
)
def test_choice_that_names_no_step_is_refused(steps: list[Step], chosen: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_steps(steps, chosen)


def test_unknown_parameter_is_refused_with_the_nearest_name(steps: list[Step]) -> None:
    check_names(["seed"], steps=steps)
    with pytest.raises(
        InputError, match="-p lookback: no notebook declares this parameter. Did you mean lookback_days"
    ):
        check_names(["lookback"], steps=steps)


def test_folder_without_notebooks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no notebooks such as 01_profile.ipynb"):
        find_steps(notebooks_dir=tmp_path)
