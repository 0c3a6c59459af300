"""The registry of tables: every table of a run is declared, and notebooks read and write what is declared."""

import ast
import json
from pathlib import Path

import click
import nbformat
import numpy as np
import pandas as pd
import pytest

from segkit import tables
from segkit.cli import main
from segkit.data.paths import HOME
from segkit.data.runs import load_run
from segkit.errors import SchemaError
from segkit.notebook.steps import find_steps

NOTEBOOKS = sorted((HOME / "notebooks").glob("**/[0-9][0-9]_*.ipynb"))
PEOPLE = {"people", "start"}  # read in JupyterLab


@pytest.mark.parametrize("table", tables.tables().values(), ids=lambda table: table.name)
def test_every_column_has_a_meaning_and_a_unit(table: tables.Table) -> None:
    assert table.row and table.columns and set(table.key) <= {column.name for column in table.columns}
    for column in table.columns:
        assert column.type in tables.TYPES and column.unit, column.name
        assert column.meaning.endswith("."), column.name
    assert len({column.name for column in table.columns}) == len(table.columns)


def test_writers_and_readers_exist() -> None:
    steps = {step.name for alone in (False, True) for step in find_steps(customers_only=alone)}
    commands = {f"segkit {name}" for name in main.list_commands(click.Context(main))}
    assert set(tables.notebooks()) == steps
    for table in tables.tables().values():
        assert table.readers, table.name
        assert {*table.writers, *table.last_run} <= steps | {tables.KEPT_SEGMENTS}, table.name
        assert set(table.readers) <= steps | commands | PEOPLE, table.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: "/".join(path.parts[-2:]))
def test_notebooks_read_and_write_what_is_declared(path: Path) -> None:
    key = path.stem
    reads, writes = ({name for name in _named(path, method=method)} for method in ("table", "write"))
    assert writes <= {table.name for table in tables.written_by(key)}
    assert reads <= {table.name for table in tables.tables().values() if key in (*table.readers, *table.writers)}


def test_every_table_of_a_run_is_declared_and_passes(whole_run: Path) -> None:
    run = load_run(whole_run)
    record = run.record()["tables"]
    assert set(record) <= set(tables.tables())
    required = {name for name, table in tables.tables().items() if not table.optional}
    assert required <= set(record)
    for name, step in record.items():
        assert step == tables.writer_of(name), name
        table = run.table(name)
        tables.check(table, name=name)
        assert all(tables.tables()[name].column(column) for column in table.columns), name


def test_the_list_of_notebooks_is_current() -> None:
    text = (HOME / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert tables.list_of_notebooks() in text, (
        "notebooks/README.md differs; put this there:\n" + tables.list_of_notebooks()
    )


def test_old_names_are_gone_and_new_names_exist() -> None:
    for name, columns in tables.OLD_COLUMNS.items():
        table = tables.tables()[tables.OLD_TABLES.get(name, name)]
        declared = {column.name for column in table.columns}
        assert set(columns.values()) <= declared or table.column("*"), name
        assert not set(columns) & declared, name
    assert not set(tables.OLD_TABLES) & set(tables.tables())
    assert set(tables.OLD_TABLES.values()) <= set(tables.tables())


def test_a_table_that_does_not_fit_is_refused_by_column() -> None:
    row = {"target": "active", "group": 1, "customers": 9, "predicted": 0.5, "observed": 0.4, "low": 0.3, "high": 0.5}
    good = pd.DataFrame([row])
    tables.check(good, name="calibration")
    for bad, words in (
        (good.drop(columns="low"), "column 'low' is missing"),
        (good.assign(extra=1.0), "column 'extra' is not one of its columns"),
        (good.assign(target="clicks"), "column 'target' fails isin"),
        (good.assign(target=1), "column 'target' fails text"),
        (good.assign(customers=np.array([-1])), "column 'customers' fails"),
        (pd.concat([good, good]), "calibration: column 'target' fails multiple_fields_uniqueness"),
    ):
        with pytest.raises(SchemaError, match=words.replace("(", r"\(")):
            tables.check(bad.reset_index(drop=True), name="calibration")


def test_titles_and_needed_tables_are_in_order() -> None:
    assert list(tables.titles("lifecycle")) == ["stage", "meaning", "customers", "share"]
    assert tables.needed_of_last_run("07_refresh") == ("features", "assignments", "segments", "ledger")


def _named(path: Path, *, method: str) -> list[str]:
    """The names in run.table("...") and run.write(..., "...") of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    tree = ast.parse("\n".join(line for line in code.splitlines() if not line.startswith("%")))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    own = [call for call in calls if call.func.attr == method and ast.unparse(call.func.value) == "run"]
    return [part.value for call in own for part in call.args if isinstance(part, ast.Constant)]


def test_the_question_of_a_notebook_is_worded_once() -> None:
    start, readme = ((HOME / name).read_text(encoding="utf-8") for name in ("notebooks/start.ipynb", "README.md"))
    for name, notebook in tables.notebooks().items():
        title = nbformat.read(HOME / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source.splitlines()[0]
        question = notebook.question[:1].upper() + notebook.question[1:]
        assert title == f"# {notebook.label}: {notebook.question}"
        assert f"| `{name}` | {question} |" in readme and f"| [{name}]({name}.ipynb) | {question} |" in start
