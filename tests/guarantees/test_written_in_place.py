"""Files are written in the folder that was asked for, whatever a name contains."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.runs import Run, open_run
from segkit.data.sources import open_source
from segkit.errors import InputError, RunError, SourceError
from segkit.export.export import write_files
from segkit.export.target import read_target

OUTSIDE = (
    "../x",
    "../../x",
    "/tmp/x",
    "a/b",
    "..",
    ".",
    "x/../../y",
    "~/x",
    "a\\..\\b",
    "a\x00b",
    "",
    " ",
    "a b",
    "%2e%2e/x",
    "x\n",
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "inside" / "run", step="01_profile", source="shop", as_of="2024-01-01")


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_name_of_a_source_is_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    written = name.replace("\\", "\\\\").replace("\x00", "\\0").replace("\n", "\\n")
    yaml = f'name: "{written}"\ntimezone: UTC\nevents: {{path: a.csv, columns: {{customer_id: a, timestamp: b}}}}\n'
    (tmp_path / "shop.yaml").write_text(yaml, encoding="utf-8")
    with pytest.raises(SourceError, match=r"becomes a folder name|the key 'name' is missing"):
        open_source(str(tmp_path / "shop.yaml"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_table_a_figure_and_an_array_stay_in_their_run(run: Run, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError):
        run.write(pd.DataFrame({"a": [1]}), name)
    with pytest.raises(RunError):
        run.record_metrics({name: 1})
    with pytest.raises(KeyError):
        run.load_model(part=name or "?")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name.strip() and name not in ("a b", "%2e%2e/x", "x\n")])
def test_a_file_of_a_target_is_written_in_the_folder_of_the_export(tmp_path: Path, name: str) -> None:
    written = name.replace("\\", "\\\\").replace("\x00", "\\0")
    (tmp_path / "own.yaml").write_text(f'name: own\nfile: "{written}"\ncolumns: {{Group: segment}}\n', encoding="utf-8")
    with pytest.raises(InputError, match="must be a plain file name"):
        read_target(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize("segment", ["../../x", "/tmp/x", "a/b", "a\x00b"])
def test_an_id_of_a_segment_does_not_lead_out_of_the_folder(tmp_path: Path, segment: str) -> None:
    (tmp_path / "own.yaml").write_text('name: own\nfile: "{segment}.csv"\ncolumns: {Group: segment}\n')
    target, rows = read_target(str(tmp_path / "own.yaml")), pd.DataFrame({"Group": [segment]})
    with pytest.raises(InputError, match="cannot be part of a file name"):
        write_files(rows, pd.Series([segment]), target=target, out=tmp_path / "inside" / "a")
    (tmp_path / "own.yaml").write_text(
        'name: own\nfile: "{segment}{0}{segment.__class__}.csv"\ncolumns: {Group: segment}\n'
    )
    target = read_target(str(tmp_path / "own.yaml"))
    made = write_files(rows, pd.Series(["S01"]), target=target, out=tmp_path / "inside" / "a")
    assert [path.name for path, _ in made] == ["S01{0}{segment.__class__}.csv"], "names are filled in, nothing else"


@pytest.mark.parametrize(
    "more", ["max_rows: many", "max_rows: -1", "max_megabytes: .inf", "max_rows: true", "encoding: 7", "name: [a]"]
)
def test_values_of_a_target_have_the_right_type(tmp_path: Path, more: str) -> None:
    text = "name: own\ncolumns: {Group: segment}\n"
    text = text.replace("name: own\n", "") if more.startswith("name") else text
    (tmp_path / "own.yaml").write_text(text + more + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected a (text|number)"):
        read_target(str(tmp_path / "own.yaml"))


def test_a_model_keeps_its_parts_in_its_folder(run: Run, tmp_path: Path) -> None:
    run.save_model({"../../../x": np.array([1.0])})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert sorted(path.name for path in (run.path / "model").iterdir()) == ["arrays.npz", "model.json"]
