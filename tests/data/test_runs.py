"""Run folders: byte-equal, checked, read-only once finished, and swapped in whole."""

import datetime
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segkit.data.runs import Run, latest_finished_run, load_run, open_run, publish_run, save_failed_run, stage_run
from segkit.errors import RunError, SchemaError

PARAMETERS = {"source": "small", "as_of": "2024-03-01", "lookback_days": 20, "horizon_days": 10, "seed": 7}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "lab", step="01_profile", **PARAMETERS)


def test_table_comes_back_as_it_was_written(run: Run) -> None:
    table = pd.DataFrame({"day": [datetime.date(2024, 1, 1), None], "share": [0.5, np.nan], "name": ["é", None]})
    before = table.copy()
    run.write(table, name="anything")
    pd.testing.assert_frame_equal(run.table("anything"), before)
    pd.testing.assert_frame_equal(table, before)


def test_named_index_becomes_a_column_and_an_unnamed_one_is_dropped(run: Run) -> None:
    run.write(pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="customer_id")), name="keyed")
    run.write(pd.DataFrame({"a": [1, 2]}, index=[7, 9]), name="bare")
    assert list(run.table("keyed").columns) == ["customer_id", "a"]
    pd.testing.assert_frame_equal(run.table("bare"), pd.DataFrame({"a": [1, 2]}))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(allow_nan=False) | st.none(), max_size=15))
def test_same_table_gives_the_same_bytes(run: Run, values: list[float | None]) -> None:
    table = pd.DataFrame({"value": pd.array(values, dtype="Float64"), "text": [str(value) for value in values]})
    written = []
    for name in ("first", "second"):
        run.write(table.copy(), name=name)
        written.append((run.path / "tables" / f"{name}.parquet").read_bytes())
    assert written[0] == written[1]


def test_model_comes_back_and_gives_the_same_bytes(run: Run) -> None:
    arrays = {"centres": np.arange(6.0).reshape(2, 3), "names": np.array(["S01", "S02"]), "one": np.array(3)}
    run.save_model(arrays, meta={"kind": "nearest"})
    first = (run.path / "model" / "arrays.npz").read_bytes()
    run.save_model(dict(reversed(arrays.items())), meta={"kind": "nearest"})
    loaded, meta = run.load_model()
    assert (run.path / "model" / "arrays.npz").read_bytes() == first
    assert meta == {"kind": "nearest"}
    assert all(
        np.array_equal(loaded[name], array) and loaded[name].shape == array.shape for name, array in arrays.items()
    )


def test_summary_holds_plain_numbers_sorted_and_merged(run: Run) -> None:
    run.record_metrics({"segments.count": np.int64(16), "forward.spend_r2": 0.12345678, "forward.mix_r2": float("nan")})
    run.record_metrics(
        {"as_of": datetime.date(2024, 3, 1), "known": np.bool_(True), "forward.mix_r2.low": None, "huge": np.inf}
    )
    text = (run.path / "summary.json").read_text()
    expected = {
        "as_of": "2024-03-01",
        "forward.mix_r2": None,
        "forward.mix_r2.low": None,
        "forward.spend_r2": 0.123457,
        "huge": None,
        "known": True,
        "segments.count": 16,
    }
    assert list(json.loads(text)) == sorted(expected) and json.loads(text) == run.summary() == expected


def test_other_parameters_empty_a_scratch_run_and_the_same_keep_it(run: Run) -> None:
    run.write(pd.DataFrame({"a": [1]}), name="numbers")
    run.record_metrics({"a": 1})
    assert open_run(run.path, step="02_embed", **PARAMETERS).has("numbers")
    other = open_run(run.path, step="02_embed", **{**PARAMETERS, "seed": 8})
    assert not other.has("numbers") and other.summary() == {} and other.parameters()["seed"] == 8


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda run: run.table("segments"), r"no table 'segments' \(it holds none\). Run 03_segments on this run"),
        (lambda run: run.table("segmnts"), "No notebook writes it: check the name"),
        (lambda run: run.table("../x"), "not a table name"),
        (lambda run: run.record_metrics({"Spend R2": 1}), r"summary: \['Spend R2'\] are not flat names"),
        (lambda run: run.load_model(), "there is no model. Run 03_segments"),
        (lambda run: run.save_model({"a": np.array([None])}), r"the arrays \['a'\] hold Python objects"),
        (lambda run: load_run(run.path / "none"), "not a run folder"),
        (lambda run: open_run(run.path.parent, step="x"), "files but no run.json"),
        (lambda run: run.write(pd.DataFrame({"segment": ["S01"]}), name="segments"), "segments"),
    ],
)
def test_errors_report_what_was_found_and_what_to_do(run: Run, wrong: object, words: str) -> None:
    with pytest.raises((RunError, SchemaError), match=words):
        wrong(run)


def test_finished_run_is_read_only(run: Run) -> None:
    run.update(outcome="done")
    for write in (
        lambda: run.write(pd.DataFrame({"a": [1]}), name="a"),
        lambda: run.record_metrics({"a": 1}),
        lambda: run.save_model({"a": np.array([1])}),
        lambda: open_run(run.path, **PARAMETERS),
    ):
        with pytest.raises(RunError, match="finished, and so read-only"):
            write()


def test_finished_run_is_published_and_a_failed_one_is_moved_away(tmp_path: Path) -> None:
    out = tmp_path / "2024-03-01"
    for seed in (1, 2):
        with stage_run(out) as building:
            open_run(building, outcome="building", **{**PARAMETERS, "seed": seed}).update(outcome="done")
            publish_run(building, out)
    with stage_run(out) as building:
        open_run(building, outcome="building", **PARAMETERS)
        failed = save_failed_run(building, out)
    assert load_run(out).parameters()["seed"] == 2 and failed.name == "2024-03-01.failed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2024-03-01", "2024-03-01.failed"]


def test_folder_is_locked_by_one_run_at_a_time_and_freed_by_an_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with stage_run(out), pytest.raises(RunError, match="another `segkit run`"), stage_run(out):
        pass
    with pytest.raises(ZeroDivisionError), stage_run(out):
        raise ZeroDivisionError
    with stage_run(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_removed_and_the_good_run_is_restored(tmp_path: Path) -> None:
    open_run(tmp_path / "out.replaced", **PARAMETERS)
    (tmp_path / "out.building-1").mkdir()
    with stage_run(tmp_path / "out") as building:
        assert sorted(path.name for path in tmp_path.glob("out*")) == ["out", building.name]


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="no run.json, so it is something else"), stage_run(tmp_path / "mine"):
        pass


@pytest.mark.parametrize(
    ("record", "file", "message"),
    [
        ('{"parameters": {"lr": 0.1}}', "weights.bin", "its run.json is not that of a run"),
        ("", "notes.txt", r"1 files in it are no part .* \(notes.txt\)"),
        ("", "tables/mine/assignments.parquet", r"\(tables/mine/assignments.parquet\)"),
        ("", "board.html", r"\(board.html\)"),
    ],
)
def test_a_folder_with_files_of_the_user_is_never_replaced(
    record: str, file: str, message: str, tmp_path: Path
) -> None:
    open_run(tmp_path / "run", **PARAMETERS).update(outcome="done")
    if record:
        (tmp_path / "run" / "run.json").write_text(record, encoding="utf-8")
    (tmp_path / "run" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "run" / file).write_text("years of work", encoding="utf-8")
    with pytest.raises(RunError, match=message), stage_run(tmp_path / "run"):
        pass
    with stage_run(tmp_path / "run", copied=True):  # some steps run again, in a copy of the folder
        assert (tmp_path / "run" / file).read_text(encoding="utf-8") == "years of work"


def test_a_folder_above_a_run_is_never_read_as_a_column(tmp_path: Path) -> None:
    run = open_run(tmp_path / "customer_id=zz" / "day=2025-03-01" / "run", step="01_profile", **PARAMETERS)
    table = pd.DataFrame({"customer_id": ["a", "b"], "segment": ["S01", "S02"]})
    run.write(table, "a")
    pd.testing.assert_frame_equal(run.table("a"), table)
    pd.testing.assert_frame_equal(run.scan("a").to_pandas(), table)


def test_latest_good_is_strictly_earlier_and_finished(tmp_path: Path) -> None:
    for as_of, outcome in (
        ("2024-01-01", "done"),
        ("2024-02-01", "done"),
        ("2024-03-01", "done"),
        ("2024-02-15", "failed"),
    ):
        open_run(tmp_path / as_of, **{**PARAMETERS, "as_of": as_of}).update(outcome=outcome)
    assert latest_finished_run(tmp_path, before="2024-03-01") == tmp_path / "2024-02-01"
    assert latest_finished_run(tmp_path, before="2024-01-01") is None
    assert latest_finished_run(tmp_path / "none", before="2024-01-01") is None
