"""Pages: self-contained, without code, the same bytes for the same notebook."""

import re
from pathlib import Path

import nbformat
import pytest

from segkit.data.runs import open_run
from segkit.notebook.pages import render_notebook, render_run
from segkit.notebook.steps import find_steps

LINKS = [
    {"href": "index.html", "label": "Overview", "current": False},
    {"href": "a.html", "label": "A&B", "current": True},
]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of nbconvert


def _notebook() -> nbformat.NotebookNode:
    show = nbformat.v4.new_output("display_data", {"text/html": "<p>shown</p>", "text/plain": "<HTML>"})
    last = nbformat.v4.new_output("execute_result", {"text/html": "<p>last line</p>", "text/plain": "<Result>"})
    warn = nbformat.v4.new_output("stream", name="stderr", text="a warning")
    cells = [
        nbformat.v4.new_markdown_cell("# A question?\n\nSome *words*."),
        nbformat.v4.new_code_cell("secret_parameter = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("secret_parameter = 2", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell("show(it)", outputs=[show, warn, last], execution_count=3),
        nbformat.v4.new_code_cell("nothing = 1"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return nbformat.v4.new_notebook(cells=cells)


def test_page_is_self_contained_and_shows_no_code() -> None:
    notebook = _notebook()
    page = render_notebook(notebook, title="A <question>?", links=LINKS, foot="Source s · seed 7")
    assert page == render_notebook(_notebook(), title="A <question>?", links=LINKS, foot="Source s · seed 7")
    assert notebook == _notebook(), "the notebook is not changed"
    assert page.startswith("<!DOCTYPE html>") and '<html lang="en">' in page
    assert (
        "<title>A &lt;question&gt;?</title>" in page
        and "<p>shown</p>" in page
        and "<p>last line</p>" in page
        and "Source s · seed 7" in page
    )
    for absent in (
        "secret_parameter",
        "show(it)",
        "nothing = 1",
        "a warning",
        "In [",
        "<script",
        "http://",
        "https://",
        "@import",
    ):
        assert absent not in page
    assert re.search(r'<a aria-current="page" href="a.html">A&amp;B</a>', page) and 'href="#content"' in page
    assert len(page) < 40_000


def test_code_is_shown_on_request_but_never_the_parameters() -> None:
    page = render_notebook(_notebook(), title="A", links=LINKS, foot="", show_code=True)
    assert "nothing" in page and "secret_parameter" not in page


def test_pages_link_to_each_other_with_the_overview_first(make_notebook: object, tmp_path: Path) -> None:
    folder = make_notebook("01_profile").parent
    make_notebook("00_overview")
    run = open_run(tmp_path / "run", source="s", source_name="shop", as_of="2024-01-01", seed=7)
    (run.path / "notebooks").mkdir()
    for path in folder.glob("*.ipynb"):
        (run.path / "notebooks" / path.name).write_bytes(path.read_bytes())
    written = render_run(run, steps=find_steps(notebooks_dir=folder))
    assert [path.name for path in written] == ["index.html", "01_profile.html"]
    for path in written:
        page = path.read_text()
        assert re.findall(r'<li><a [^>]*href="(.*?)"', page) == ["index.html", "01_profile.html"]
        assert "Source shop · as of 2024-01-01 · seed 7 · made by segkit" in page
