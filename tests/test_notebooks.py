"""The notebook chain end to end on a made-up shop: what a run holds, that it repeats, and what it refuses."""

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import papermill
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.paths import HOME
from segkit.data.runs import Run, load_run
from segkit.notebook.steps import find_steps
from segkit.segments.model import assign_points, model_from_arrays
from segkit.tables import check
from tests.guarantees.hashing import hashes

FIGURES = (
    "forward.spend_r2",
    "forward.need_r2",
    "forward.mix_r2",
    "forward.active_r2",
    "forward.rfm25.spend_r2",
    "forward.kmeans.mix_r2",
    "stability.ari_mean",
    "structure.ari",
)
SHORT = {"as_of": "2024-08-01", "lookback_days": 182, "horizon_days": 91}  # 213 days of history: no learning window
STEPS = [step.name for step in find_steps()]
MAIN_TABLE = {
    "01_profile": "features",
    "02_embed": "anticipation",
    "03_segments": "assignments",
    "04_personas": "personas",
    "05_predict": "predictions",
    "06_measure": "starting_values",
    "07_refresh": "decisions",
}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery


@pytest.fixture(scope="module")
def run(whole_run: Path) -> Run:
    return load_run(whole_run)


@pytest.fixture
def report(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the good run, to run into again."""
    return Path(shutil.copytree(whole_run, tmp_path / "reports" / "run"))


def test_budget_is_kept(run: Run) -> None:
    segments = run.table("segments")
    assert 12 <= len(segments) <= 20
    assert segments["customers"].min() >= 20 and segments["customer_share"].min() >= 0.01
    assert run.table("frontier")["chosen"].sum() == 1


def test_headline_numbers_are_there_with_their_range(run: Run) -> None:
    summary = run.summary()
    for name in FIGURES:
        assert summary[f"{name}.low"] <= summary[name] <= summary[f"{name}.high"], name
    assert summary["segments.count"] == len(run.table("segments")) and summary["forward.reason"] is None
    assert list(summary) == sorted(summary) and not any(isinstance(v, dict | list) for v in summary.values())


def test_planted_needs_are_better_predicted_than_by_demographics(run: Run) -> None:
    summary = run.summary()
    assert summary["forward.spend_r2.low"] > 0.3 and summary["forward.mix_r2.low"] > 0.1
    assert abs(summary["forward.demographic.mix_r2"]) < 0.05, "the profile of the made-up shop knows nothing"
    assert summary["forward.demographic.need_lead.low"] > 0 and summary["forward.need_r2.low"] > 0.1


def test_every_table_fits_its_schema_and_is_known_by_its_maker(run: Run) -> None:
    names = sorted(path.stem for path in (run.path / "tables").glob("*.parquet"))
    assert set(names) == set(run.record()["tables"])
    assert set(names) >= {"assignments", "segments", "baselines", "personas", "facts", "signals", "frontier", "kpis"}
    for name in names:
        check(run.table(name), name=name)


def test_record_states_what_the_run_was_made_from(run: Run) -> None:
    record = run.record()
    assert record["outcome"] == "done" and set(record["steps"]) == set(STEPS)
    assert record["parameters"]["as_of"] == "2025-03-01" and re.fullmatch(
        "[0-9a-f]{64}", record["source"]["fingerprint"]
    )
    assert {"python", "segkit", "numpy"} <= set(record["versions"]) and record["seed"] == 7


def test_model_places_the_customers_as_the_run_did(run: Run) -> None:
    model = model_from_arrays(*run.load_model())
    assignments = run.table("assignments").set_index("customer_id")
    axes = run.table("anticipation").set_index("customer_id").filter(regex=r"^axis_\d+$")
    placed = assign_points(model, axes)
    columns = ["segment", "macro_segment", "confidence"]
    pd.testing.assert_frame_equal(placed[columns], assignments.loc[placed.index, columns])
    assert not [path for path in run.path.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "segments_mni", "5"], "Did you mean segments_min"),
        (["-p", "segments_min", "many"], "is not of type int"),
        (["-p", "keep_segments", "true"], "Give --auto instead"),
        (["--as-of", "2023-12-31"], "2023-12-31"),
        (["--as-of", "2024-01-01"], "2024-01-01"),
        (["--as-of", "yesterday"], "'yesterday' is not a date"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--source", "nowhere.yaml"], "nowhere.yaml"),
        (["--steps", "09"], "no such step"),
        (["--previous", "nowhere"], "not a run folder"),
    ],
)
def test_bad_input_is_reported_in_a_line_and_the_good_report_stays(
    report: Path, made_up_company: Path, arguments: list[str], words: str
) -> None:
    before = hashes(report.parent)
    answer = CliRunner().invoke(main, ["run", "--source", str(made_up_company), "--out", str(report), *arguments])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert words in answer.stderr and answer.stderr.count("\n") == 1 and "Traceback" not in answer.stderr
    assert hashes(report.parent) == before


def test_a_missing_table_of_the_source_is_named_and_the_good_report_stays(
    report: Path, made_up_company: Path, tmp_path: Path
) -> None:
    (tmp_path / "source.yaml").write_bytes(made_up_company.read_bytes())
    before = hashes(report.parent)
    answer = CliRunner().invoke(main, ["run", "--source", str(tmp_path / "source.yaml"), "--out", str(report)])
    assert answer.exit_code == 2 and "events.parquet" in answer.stderr and answer.stderr.count("\n") == 1
    assert hashes(report.parent) == before


@pytest.mark.slow
def test_customers_who_are_all_alike_fail_late_and_the_good_report_stays(report: Path, tmp_path: Path) -> None:
    before = hashes(report)
    days = pd.date_range("2024-01-03", "2025-01-01", freq="9D").strftime("%Y-%m-%d")
    rows = [(f"c{i:03d}", day, 10.0) for i in range(120) for day in days]
    pd.DataFrame(rows, columns=["who", "day", "paid"]).to_csv(tmp_path / "alike.csv", index=False)
    columns = "{customer_id: who, timestamp: day, amount: paid}"
    source = f"name: alike\ntimezone: UTC\nevents:\n  - path: alike.csv\n    columns: {columns}\n"
    (tmp_path / "source.yaml").write_text(source)
    answer = CliRunner().invoke(main, ["run", "--source", str(tmp_path / "source.yaml"), "--out", str(report)])
    last = answer.stderr.splitlines()[-1]
    assert answer.exit_code == 2 and "different forecasts" in last and "Traceback" not in answer.stderr
    failed = report.with_name("run.failed")
    assert (failed / "notebooks" / "03_segments.ipynb").is_file() and hashes(report) == before


ALONE = ["02_embed", *(STEPS if "SEGKIT_EXAMPLES" in os.environ else ["00_overview"])]  # the last needs all others


@pytest.mark.parametrize("step", [ALONE[0], *(pytest.param(step, marks=pytest.mark.slow) for step in ALONE[1:])])
def test_notebook_runs_alone_by_plain_papermill_catching_up(made_up_company: Path, tmp_path: Path, step: str) -> None:
    scratch = tmp_path / "lab"
    given = {"source": str(made_up_company), "run_dir": str(scratch), **SHORT}
    executed = papermill.execute_notebook(
        HOME / "notebooks" / f"{step}.ipynb", tmp_path / "seen.ipynb", given, cwd=tmp_path, progress_bar=False
    )
    made = load_run(scratch)
    before = STEPS if step == "00_overview" else STEPS[: STEPS.index(step)]
    assert set(made.record()["steps"]) == set(before) - {"00_overview"} and made.record()["outcome"] == "scratch"
    assert step not in MAIN_TABLE or made.has(MAIN_TABLE[step])
    text_found = [o["text"] for cell in executed.cells for o in cell.get("outputs", []) if o.get("name") == "stderr"]
    assert not [text for text in text_found if "Warning" in text]
    if made.has("segments"):
        assert made.summary()["forward.spend_r2"] is None and "needs 364 days" in made.summary()["forward.reason"]
        assert made.table("assignments")["customer_id"].is_unique


def test_declared_parameters_are_kept_with_the_executed_notebook(run: Run) -> None:
    notebook = json.loads((run.path / "notebooks" / "03_segments.ipynb").read_text(encoding="utf-8"))
    injected = [c for c in notebook["cells"] if "injected-parameters" in c["metadata"].get("tags", [])]
    assert len(injected) == 1 and "2025-03-01" in "".join(injected[0]["source"])
