"""The door of segkit: few names, each with an example, and notebooks that stand on it."""

import ast
import statistics
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import segkit
from segkit.data import runs
from segkit.data.paths import HOME, find_path
from segkit.errors import InputError
from segkit.notebook import profiling
from segkit.notebook.example import example_run
from segkit.notebook.results import Result, caption_of, figure_result, table_result, text_result
from segkit.notebook.runs import Run
from segkit.vocabulary import describe

MAX_IMPORT_LINES, MAX_MEDIAN_LINES, MIN_WORDS_PER_LINE = 6, 4, 7
NOTEBOOKS = [path for path in sorted((HOME / "notebooks").glob("**/*.ipynb")) if "checkpoints" not in str(path)]


def _cells(path: Path) -> tuple[list[str], list[str]]:
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return code, [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def _lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(HOME)))
def test_notebook_reads_as_a_story(path: Path) -> None:
    code, prose = _cells(path)
    imports = [line for source in code for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert imports[0] == "import segkit" and len(imports) <= MAX_IMPORT_LINES
    assert statistics.median(_lines(source) for source in code) <= MAX_MEDIAN_LINES
    words = sum(len(text.split()) for text in prose)
    assert words >= MIN_WORDS_PER_LINE * sum(_lines(source) for source in code)
    assert sum("Change this and look again" in text for text in prose) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(HOME)))
def test_each_chapter_ends_in_something_to_look_at(path: Path) -> None:
    chapters: dict[str, str] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            chapters[cell.source.splitlines()[0]] = ""
        elif cell.cell_type == "code" and chapters:
            chapters[list(chapters)[-1]] = cell.source
    for heading, source in chapters.items():
        last = ast.parse(source).body[-1:]
        assert last and isinstance(last[0], ast.Expr), f"{heading}: the last line of its last cell shows nothing"


def test_result_shows_its_table_its_figure_or_a_note_where_it_is_empty() -> None:
    table = pd.DataFrame({"month": ["May"], "orders": [12]})
    assert "<table" in Result(table)._repr_html_() and "customer" not in repr(Result(table))
    with pytest.raises(InputError, match="no figure"):
        Result(table).plot()
    empty = table_result(pd.DataFrame(), name="rules")
    assert caption_of("rules")["empty"] in empty._repr_html_()
    assert (
        caption_of("predictability")["empty"]
        in figure_result(table.head(0), lambda: None, name="predictability")._repr_html_()
    )
    answer = text_result(headline="Yes.", bullets=["a & b"])
    assert answer.table["text"].tolist() == ["Yes.", "a & b"] and "a &amp; b" in answer._repr_html_()


def test_segments_are_looked_at_one_by_one_side_by_side_and_in_another_number() -> None:
    run = segkit.load_run(example_run())
    first, second = run.segments.ids[:2]
    own = run.segments[first]
    assert len(own.customers) == run.segments.table.set_index("segment").loc[first, "customers"]
    assert own.customers["confidence"].is_monotonic_decreasing and own.name in own.profile()._repr_html_()
    assert own.plot("active_days").axes and run.segments.plot().axes
    assert own.table.equals(own.profile().table) and own.metrics["customers"] == len(own.customers)
    signals = run.table("signals").query("segment == @first")
    labels = [label.get_text() for label in own.plot().axes[0].get_yticklabels()]
    assert describe(signals.loc[signals["effect"].abs().idxmax(), "feature"]).label in labels
    both = run.compare(first, second).table
    assert set(both["about"]) >= {"forecast", "habits", "needs"} and both.loc[0, "all"] == len(run.segments.assigned)
    again = run.segments.recut(len(run.segments.table)).table
    assert again["name"].is_unique and again["revenue_share"].sum() == pytest.approx(1)
    with pytest.raises(InputError, match="there is no S99. There are S01"):
        run.segments["S99"]
    with pytest.raises(InputError, match="there is no 'colour'"):
        run.segments.plot("colour")


def test_what_was_read_with_the_customers_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    customers = segkit.load_customers(segkit.load_run(example_run()))
    read = profiling._read(customers.run, customers.source)
    asked = []
    monkeypatch.setattr(profiling, "_read", lambda *_: asked.append(1) or read)
    found = [segkit.profile(each) for each in (customers, replace(customers, read=read))]
    assert asked == [1], "customers of a run that is there came without their source"
    pd.testing.assert_frame_equal(found[0].table, found[1].table)


def test_one_rule_for_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_path("notebooks") == HOME / "notebooks" and find_path("new") == tmp_path / "new"
    (tmp_path / "notebooks").mkdir()
    assert find_path("notebooks") == tmp_path / "notebooks"
    monkeypatch.chdir(HOME / "notebooks")
    assert find_path("reports/new") == HOME / "reports/new" and find_path(tmp_path) == tmp_path


def test_a_run_of_the_door_is_a_run() -> None:
    assert (
        isinstance(segkit.load_run(example_run()), runs.Run) and "made by" in Run(example_run())._repr_html_().lower()
    )
