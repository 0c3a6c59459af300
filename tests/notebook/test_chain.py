"""The chain: a run is complete or not published, in one kernel, and each notebook also runs by itself."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
import pytest

from segkit.data.runs import load_run, open_run, stage_run
from segkit.errors import InputError, RunError, SchemaError, SegkitError
from segkit.notebook.chain import run_chain
from segkit.notebook.session import start
from segkit.notebook.steps import input_error_names
from tests.guarantees.hashing import hashes

WRITE = 'run.write(pd.DataFrame({"value": [1, 2]}), name="numbers")'
READ = 'leaked = "value" in globals()\nvalue = run.table("numbers")["value"].sum()\nvalue'
KEEP = 'run.record_metrics({"numbers.sum": float(value), "leaked": leaked})'
WINDOWS = {"lookback_days": 20, "horizon_days": 10}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery


@pytest.fixture(scope="module")
def good(write_notebook: Callable[..., Path], small_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small notebooks and their run, made once and copied by the tests."""
    home = tmp_path_factory.mktemp("good")
    write_notebook(home, "01_first", "value = 7", WRITE)
    write_notebook(home, "02_second", READ, KEEP)
    write_notebook(home, "00_overview", "run.summary()")
    run_chain(source=str(small_source), out=home / "out", notebooks_dir=home / "notebooks", **WINDOWS)
    return home


@pytest.fixture
def small_chain(good: Path, small_source: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that runs the notebooks again over a copy of the good run, tmp_path/out; keywords change the run."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)

    def run(**options: Any) -> Path:
        given = {"source": str(small_source), "out": tmp_path / "out", **WINDOWS, **options}
        return run_chain(notebooks_dir=tmp_path / "notebooks", **given)

    return run


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_one_message_and_leaves_the_report(
    good: Path, small_source: Path, write_notebook: Callable[..., Path], tmp_path: Path, sign: signal.Signals
) -> None:
    shutil.copytree(good / "out", tmp_path / "out")
    write_notebook(
        tmp_path, "01_first", f"open({str(tmp_path / 'begun')!r}, 'w').close()", "import time; time.sleep(99)"
    )
    (tmp_path / "2023.building-99").mkdir(), (tmp_path / ".2023.lock").touch()  # of a killed run of another month
    given = {"source": str(small_source), "out": str(tmp_path / "out"), "notebooks_dir": tmp_path / "notebooks"}
    code = "from pathlib import PosixPath; from segkit.cli import run_guarded; "
    code += f"from segkit.notebook.chain import run_chain; run_guarded(run_chain, debug=False, **{given | WINDOWS!r})"
    before = hashes(tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a shell
    )
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(sign)
    messages = process.communicate()[1]
    assert process.returncode == 1 and messages == "segkit: interrupted\n", messages
    assert hashes(tmp_path / "out") == before
    names = {path.name for path in tmp_path.iterdir()} - {"begun", "notebooks"}
    assert names == {"out", "out.failed"} and load_run(tmp_path / "out.failed").record()["failure"] == "interrupted"


def test_chain_writes_tables_pages_and_a_record(good: Path) -> None:
    run = load_run(good / "out")
    record = run.record()
    assert sorted(path.name for path in run.path.glob("*.html")) == ["01_first.html", "02_second.html", "index.html"]
    assert run.summary() == {"leaked": False, "numbers.sum": 3.0}
    assert record["outcome"] == "done" and record["previous"] is None and record["source"]["name"] == "small"
    assert record["parameters"]["as_of"] == "2024-03-19" and record["tables"] == {"numbers": "01_first"}
    assert list(record["steps"]) == ["00_overview", "01_first", "02_second"]
    assert set(record["steps"]["01_first"]) == {"seconds", "cpu_seconds", "peak_memory_mb"}
    assert sorted(path.name for path in good.iterdir()) == ["notebooks", "out"], "no staging folder remains"


def test_run_again_gives_the_same_bytes(small_chain: Callable[..., Path], good: Path, tmp_path: Path) -> None:
    assert small_chain() == tmp_path / "out" / "index.html"
    for name in ("tables/numbers.parquet", "summary.json", "index.html", "02_second.html"):
        assert (tmp_path / "out" / name).read_bytes() == (good / "out" / name).read_bytes()


def test_failure_leaves_the_good_run_and_keeps_the_notebook(
    small_chain: Callable[..., Path], make_notebook: Callable[..., Path], good: Path, tmp_path: Path
) -> None:
    make_notebook("02_second", "1 / 0")
    words = r"02_second: ZeroDivisionError in cell 5: division by zero. The executed part .*out.failed"
    with pytest.raises(SegkitError, match=words) as caught:
        small_chain()
    assert caught.value.status == 1
    assert [path.read_bytes() for path in files(tmp_path / "out")] == [
        path.read_bytes() for path in files(good / "out")
    ]
    failed = nbformat.read(tmp_path / "out.failed" / "notebooks" / "02_second.ipynb", as_version=4)
    assert "ZeroDivisionError" in {one.get("ename") for cell in failed.cells for one in cell.get("outputs", [])}
    assert load_run(tmp_path / "out.failed").record()["outcome"] == "failed"


def test_input_error_in_a_notebook_ends_with_its_message_alone(
    small_chain: Callable[..., Path], make_notebook: Callable[..., Path], tmp_path: Path
) -> None:
    make_notebook("02_second", 'from segkit.errors import SchemaError\nraise SchemaError("numbers: a null. Fill it.")')
    with pytest.raises(InputError, match=r"^numbers: a null\. Fill it\.$") as caught:
        small_chain()
    assert caught.value.status == 2 and load_run(tmp_path / "out").record()["outcome"] == "done"


@pytest.mark.slow
def test_chosen_steps_reuse_the_good_run_only_with_equal_parameters(
    small_chain: Callable[..., Path], tmp_path: Path
) -> None:
    notebook = tmp_path / "out" / "notebooks" / "01_first.ipynb"
    before = notebook.read_bytes()
    small_chain(steps="02")
    assert notebook.read_bytes() == before, "the first step was not run again"
    small_chain(steps="02", seed=8)
    assert notebook.read_bytes() != before, "another seed runs the first step again"
    assert load_run(tmp_path / "out").parameters()["seed"] == 8


def test_parameters_are_checked_before_anything_runs(small_chain: Callable[..., Path], tmp_path: Path) -> None:
    for parameters, words in (
        ({"lookback_day": 3}, "no notebook declares this parameter. Did you mean lookback_days"),
        ({"seed": 3}, "all notebooks share this parameter. Give it as --seed"),
    ):
        with pytest.raises(InputError, match=words):
            small_chain(parameters=parameters)
    for options, words in (
        ({"as_of": "soon"}, "as_of 'soon' is not a date"),
        ({"steps": "09"}, "no such step. Choose from 01_first, 02_second, 00_overview"),
        ({"data_dir": "nowhere"}, "--data nowhere: no such folder"),
        ({"previous": str(tmp_path)}, "not a run folder"),
    ):
        with pytest.raises(InputError, match=words):
            small_chain(**options)
    assert [path.name for path in tmp_path.glob("out*")] == ["out"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source_name": "another"}, "its source is 'another', not 'small'"),
        ({"as_of": "2024-03-19"}, "its as_of 2024-03-19 is not before 2024-03-19"),
    ],
)
def test_an_unusable_previous_run_is_refused_before_anything_runs(
    small_chain: Callable[..., Path], tmp_path: Path, changed: dict, words: str
) -> None:
    other = open_run(tmp_path / "other", **({"source_name": "small", "as_of": "2024-03-01"} | changed))
    other.update(outcome="done")
    with pytest.raises(InputError, match=words):
        small_chain(previous=str(other.path))


def test_a_run_of_another_source_in_the_same_folder_is_not_the_previous_one(
    small_chain: Callable[..., Path], tmp_path: Path
) -> None:
    open_run(tmp_path / "other", source_name="another", as_of="2024-03-01").update(outcome="done")
    small_chain()
    assert load_run(tmp_path / "out").record()["previous"] is None


def test_two_runs_at_once_in_one_folder_are_refused(small_chain: Callable[..., Path], tmp_path: Path) -> None:
    with stage_run(tmp_path / "out"), pytest.raises(RunError, match="another `segkit run` is building this run"):
        small_chain()


@pytest.mark.slow
def test_notebook_alone_catches_up_and_follows_its_parameters(
    small_chain: Callable[..., Path], small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "notebooks")
    lab = tmp_path / "lab"
    given = {"run_dir": str(lab), "source": str(small_source), "lookback_days": 20}
    run = start("02_second", given)
    assert run.table("numbers")["value"].sum() == 3 and run.record()["outcome"] == "scratch"
    first = run.record()["steps"]
    assert start("02_second", given).record()["steps"] == first
    given = {"source": str(small_source), "run_dir": str(lab), "lookback_days": 30}
    papermill.execute_notebook("02_second.ipynb", tmp_path / "seen.ipynb", given, progress_bar=False)
    assert load_run(lab).parameters()["lookback_days"] == 30 and load_run(lab).record()["steps"] != first
    assert load_run(lab).summary() == {"leaked": False, "numbers.sum": 3.0}


def test_finished_run_is_read_only_for_a_notebook(small_chain: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="finished, and so read-only"):
        open_run(tmp_path / "out", step="01_first")
    with pytest.raises(RunError, match="finished, and so read-only"):
        load_run(tmp_path / "out").write(pd.DataFrame({"value": [1]}), name="numbers")


def test_every_error_a_user_can_fix_is_known_by_name() -> None:
    assert {"InputError", "SourceError", "SchemaError", "BudgetError", "RunError"} <= input_error_names()
    assert SchemaError.__name__ in input_error_names() and "SegkitError" not in input_error_names()


def files(folder: Path) -> list[Path]:
    """Every file of a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
