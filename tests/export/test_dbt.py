"""The model of a run as a dbt model: rendered as dbt does, it gives every customer the segment of the run."""

import shutil
from pathlib import Path

import duckdb
import jinja2
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import load_run, open_run_source
from segkit.data.sources import connect, read_events
from segkit.errors import InputError
from segkit.export.dbt import export_dbt

EVIL = "{{ env_var('HOME') }} {% raw %} {# gone #} {"


def _render(text: str) -> str:
    """Render Jinja as dbt does; what it does not know fails."""
    given = {"config": lambda **_: "", "source": lambda _, table: table, "ref": lambda table: table}
    return jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(given)


def test_the_model_gives_every_customer_the_segment_of_the_run_and_its_tests_hold(
    whole_run: Path, tmp_path: Path
) -> None:
    command = ["export", str(whole_run), "--to", "dbt", "--from", "events", "--out", str(tmp_path / "segkit")]
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == 0 and "dbt build --select segkit_placed" in answer.stdout
    run, con = load_run(whole_run), duckdb.connect()
    con.register("segkit_events", read_events(open_run_source(run), con=connect()).drop("day", "hour").to_pyarrow())
    found = con.execute(_render((tmp_path / "segkit" / "segkit_placed.sql").read_text("utf-8"))).fetch_df()
    found, batch = (each.set_index("customer_id").sort_index() for each in (found, run.table("assignments")))
    pd.testing.assert_frame_equal(found, batch[list(found.columns)], check_dtype=False)
    schema = yaml.safe_load((tmp_path / "segkit" / "schema.yml").read_text("utf-8"))
    columns = {column["name"]: column for column in schema["models"][0]["columns"]}
    assert [*columns] == ["customer_id", *found.columns] and columns["customer_id"]["data_tests"] == [
        "unique",
        "not_null",
    ]
    for name in found:
        values = columns[name]["data_tests"][-1]["accepted_values"]["arguments"]["values"]
        assert set(found[name].dropna()) <= set(values)
    assert schema["sources"][0]["tables"][0]["columns"][0]["name"] == "customer_id"


def test_names_that_hold_jinja_are_not_run(whole_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole_run, tmp_path / "run")
    table = pd.read_parquet(run / "tables" / "segments.parquet")
    table.assign(name=[f"{EVIL}{i}" for i in range(len(table))]).to_parquet(run / "tables" / "segments.parquet")
    export_dbt(run, out=str(tmp_path / "out"), start="features")
    schema = yaml.safe_load((tmp_path / "out" / "schema.yml").read_text("utf-8"))
    assert f"S01 {EVIL}0, " in _render(schema["models"][0]["columns"][1]["description"]) and "sources" not in schema
    assert "ref('segkit_features')" in (tmp_path / "out" / "segkit_placed.sql").read_text("utf-8")


def test_a_schema_of_somebody_else_and_a_file_are_refused(whole_run: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.yml").write_text("version: 2\n")
    with pytest.raises(InputError, match=r"it has a schema\.yml that no export wrote. Give another folder"):
        export_dbt(whole_run, out=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["schema.yml"]
    with pytest.raises(InputError, match="a dbt model is a folder of two files"):
        export_dbt(whole_run, out=str(tmp_path / "place.sql"))
    for _ in range(2):
        export_dbt(whole_run, out=str(tmp_path / "own"), dialect="spark")
    assert "pre_hook=['set spark." in (tmp_path / "own" / "segkit_placed.sql").read_text("utf-8")
