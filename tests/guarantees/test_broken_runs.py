"""A broken run folder, or one of another version, ends a command in one message; no number is read from it."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from segkit.cli import main
from segkit.data.io import read_json, write_json
from segkit.data.runs import latest_finished_run, load_run, open_run
from segkit.errors import RunError
from segkit.notebook.chain import run_chain
from segkit.notebook.run_list import write_runs_page
from segkit.segments.model import model_from_arrays, model_to_arrays
from tests.guarantees.hashing import hashes
from tests.live.live_runs import random_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "something else": lambda content: b"\x89PNG\r\n" + bytes(range(256)) * 4,
    "a few bytes changed": lambda content: _flipped(content, at=len(content) // 3),
}
READ = {  # command -> what it reads of a run
    "export": ("run.json", "tables/assignments.parquet", "tables/segments.parquet"),
    "place": ("run.json", "model/arrays.npz", "model/model.json"),
    "pilot": ("run.json", "tables/days.parquet", "tables/segments.parquet"),
    "live": ("run.json", "model/arrays.npz", "tables/days.parquet", "tables/day_orders.parquet"),
}
EVERYDAY = {("export", "tables/assignments.parquet"), ("live", "model/arrays.npz"), ("live", "tables/days.parquet")}
CASES = [
    pytest.param(command, file, marks=[] if (command, file) in EVERYDAY else pytest.mark.slow)
    for command, files in READ.items()
    for file in files
]


def _flipped(content: bytes, *, at: int) -> bytes:
    return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + 8]) + content[at + 8 :]


def answer(command: str, run: Path, *, source: Path, folder: Path) -> Result:
    """Run a command that reads a run."""
    largest = ""
    if command == "pilot" and (run / "tables" / "assignments.parquet").is_file():
        largest = pd.read_parquet(run / "tables" / "assignments.parquet")["segment"].value_counts().idxmax()
    more = {
        "export": ["--to", "csv", "--out", folder / "out"],
        "place": [source, "--out", folder / "placed.csv"],
        "pilot": ["--segment", largest, "--out", folder / "pilot"],
        "live": ["--state", folder / "state.sqlite"],
    }
    return CliRunner().invoke(main, [command, str(run), *map(str, more[command])], input="")


def is_refused(result: Result) -> bool:
    return result.exit_code == 2 and result.stderr.count("\n") == 1 and "Traceback" not in result.stderr


@pytest.fixture
def copy(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the good run, to be spoilt."""
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


@pytest.mark.parametrize(("command", "file"), CASES)
def test_a_spoilt_file_is_named_and_nothing_comes_of_it(
    copy: Path, made_up_company: Path, tmp_path: Path, command: str, file: str
) -> None:
    whole = (copy / file).read_bytes()
    for how, spoil in SPOILT.items():
        if file.endswith(".json") and how == "a few bytes changed":
            continue  # a digit for a digit is no fault that a text can show
        (copy / file).write_bytes(spoil(whole))
        result = answer(command, copy, source=made_up_company, folder=tmp_path)
        assert is_refused(result) and file in result.stderr, (how, result.stderr)
    assert not [name for name in ("out", "placed.csv", "pilot") if (tmp_path / name).exists()]


@pytest.mark.parametrize("content", ["[1]", "null", "{}", '{"parameters": 3}', "[" * 20_000, '{"a": 1', "\ufeff{}"])
def test_a_record_that_is_not_a_mapping_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content, encoding="utf-8")
    result = answer("export", tmp_path / "run", source=tmp_path, folder=tmp_path)
    assert is_refused(result) and "run.json" in result.stderr


def test_a_run_of_another_format_is_refused_with_both_formats(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", source="shop", as_of="2024-01-01")
    run.update(format=99, outcome="done")
    result = answer("export", run.path, source=tmp_path, folder=tmp_path)
    assert (
        is_refused(result)
        and "its format is 99, and this segkit reads 2 and 3: another version made it" in result.stderr
    )
    with pytest.raises(RunError, match="another version made it"):
        latest_finished_run(tmp_path, before="2024-02-01")


def test_a_run_of_an_older_format_is_refused_with_the_names_that_changed(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", source="shop", as_of="2024-01-01")
    run.update(format=1, outcome="done", tables={"calibration": "05_predict"})
    words = "names differ: in calibration promised is predicted, came is observed"
    with pytest.raises(RunError, match=words):
        latest_finished_run(tmp_path, before="2024-02-01")


def test_a_model_of_another_version_is_refused_with_what_it_lacks(
    copy: Path, made_up_company: Path, tmp_path: Path
) -> None:
    meta = read_json(copy / "model" / "model.json")
    write_json(copy / "model" / "model.json", {name: value for name, value in meta.items() if name != "segments"})
    result = answer("live", copy, source=made_up_company, folder=tmp_path)
    assert is_refused(result) and "there is no segments in it, so another version of segkit made it" in result.stderr


def test_a_model_that_somebody_changed_is_refused(tmp_path: Path) -> None:
    model = random_model(["orders", "recency_days"], seed=1)
    arrays, meta = model_to_arrays(model)
    model_from_arrays(arrays, meta)
    changed: list[dict[str, Any]] = [{"segments": [*meta["segments"], "S99"]}, {"macro": [1] * len(meta["macro"])}]
    changed += [{"segments": meta["segments"] * 2}, {"space_features": "orders"}, {"space_words": None}, {"need": {}}]
    for name, array in arrays.items():
        changed += [{name: array[:-1]}, {name: array[None]}, {name: array.astype("U8")}, {name: None}]
        if array.dtype.kind == "f":
            changed += [{name: np.full_like(array, value)} for value in (np.nan, np.inf)]
    changed += [{"bag_segment": arrays["bag_segment"] + 99}, {"level": arrays["level"] - 1}]
    for change in changed:
        with pytest.raises(RunError, match=r"model/arrays.npz and model.json: .* somebody changed"):
            model_from_arrays({**arrays, **change}, {**meta, **change})


@pytest.mark.slow
def test_a_broken_previous_run_ends_the_chain_and_the_report_is_unchanged(
    copy: Path, made_up_company: Path, tmp_path: Path
) -> None:
    before, good = tmp_path / "before", hashes(copy)
    shutil.copytree(copy, before)
    (before / "model" / "arrays.npz").write_bytes(b"PK")
    record = read_json(before / "run.json")
    earlier = {**record["parameters"], "as_of": "2025-02-01"}
    write_json(before / "run.json", {**record, "parameters": earlier})
    given = ["run", "--source", str(made_up_company), "--out", str(copy), "--previous", str(before), "--steps", "03"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 2 and "arrays.npz" in result.stderr.splitlines()[-1], result.output
    assert "Traceback" not in result.stderr and hashes(copy) == good
    (before / "run.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        run_chain(source=str(made_up_company), out=copy, previous=str(before))


def test_dates_decide_which_run_is_the_latest_and_no_clock_does(tmp_path: Path) -> None:
    for as_of, modified in (("2024-01-01", 4e9), ("2024-02-01", 1.0), ("2024-03-01", 2e9)):  # a clock set back
        run = open_run(tmp_path / as_of, source="shop", as_of=as_of)
        run.update(outcome="done")
        os.utime(run.path / "run.json", (modified, modified))
        os.utime(run.path, (modified, modified))
    assert latest_finished_run(tmp_path, before="2024-03-01") == tmp_path / "2024-02-01"


@pytest.mark.parametrize("broken", ["no mapping", "a number for a date", "text for days", "cut off", "words"])
def test_the_page_of_all_runs_leaves_out_what_it_cannot_read(whole_run: Path, tmp_path: Path, broken: str) -> None:
    good, other = (Path(shutil.copytree(whole_run, tmp_path / name)) for name in ("2025-03-01", "other"))
    record = read_json(good / "run.json")
    wrong = {"a number for a date": {"as_of": 5}, "text for days": {"horizon_days": "x"}}.get(broken, {})
    write_json(other / "run.json", {**record, "parameters": {**record["parameters"], **wrong}})
    if broken == "no mapping":
        (other / "run.json").write_text("[1]")
    elif broken == "cut off":
        (other / "tables" / "segments.parquet").write_bytes(b"PAR1")
    elif broken == "words":
        write_json(other / "summary.json", {"stability.ari_mean": "<script>"})
    page = write_runs_page(load_run(good)).read_text(encoding="utf-8")
    assert re.findall(r'href="([^"#]+)"', page) == ["./2025-03-01/index.html"]
