"""Render the executed notebooks of a run as pages."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from traitlets.config import Config

from segkit import __version__, templates
from segkit.data.alone import CUSTOMERS_ONLY
from segkit.data.runs import Run
from segkit.notebook.lacking import adapt_words, lacking, without_lacking
from segkit.notebook.steps import OVERVIEW, Step
from segkit.notebook.translating import title_of, translate_notebook, translate_script
from segkit.period import Period
from segkit.reports.agreement import check_agreement
from segkit.reports.page_files import bokeh_script, script, stylesheet
from segkit.texts import ENGLISH, page_language, phrase, speaking, spoken

CONTENTS, SCRIPTS = "<!-- contents -->", "<!-- scripts -->"  # places in the template, filled once the body is known
MIN_HEADINGS = 3  # on a page with a table of contents
SCRIPT_MARKERS = {  # script -> what needs it
    "sort": 'class="sk-sort"',
    "compare": 'class="sk-segments"',
    "map": 'class="sk-map"',
    "cards": 'class="sk-more"',
}
HIDDEN_TAGS = ("parameters", "injected-parameters", "hide")  # cells that no reader needs


def render_run(run: Run, *, steps: Sequence[Step], show_code: bool = False, among_runs: bool = False) -> list[Path]:
    """Write a page for each executed notebook of a run, with links between them.

    Parameters
    ----------
    run
        Its folder ``notebooks`` holds the executed copies.
    steps
        Steps of the chain; those without an executed copy are left out.
    show_code
        Show the code cells.
    among_runs
        Link to the page of all runs next to the run.

    Returns
    -------
    list[Path]
        Paths of the pages in the order of the links, the overview first.

    Raises
    ------
    RunError
        Two pages differ in what they show of a segment.
    """
    present = [step for step in steps if (run.path / "notebooks" / f"{step.name}.ipynb").is_file()]
    ordered = [step for step in present if step.name == OVERVIEW] + [step for step in present if step.name != OVERVIEW]
    language, lacks, written = run.language, lacking(run), []
    for step in ordered:
        with speaking(page_language(step.name, language=language)):
            links = [{"href": other.page, "label": phrase(other.label), "current": other == step} for other in ordered]
            links += [{"href": "../index.html", "label": phrase("All runs"), "current": False}] if among_runs else []
            page = _render_step(run, step, links=links, lacks=lacks, show_code=show_code)
            written.append((spoken(), run.write_text(page, step.page)))
    for each in sorted({ENGLISH, language}):  # figures and names are written as their language does
        check_agreement({path.name: path.read_text(encoding="utf-8") for of, path in written if of == each})
    return [path for _, path in written]


def _render_step(
    run: Run, step: Step, *, links: Sequence[dict[str, Any]], lacks: Sequence[str], show_code: bool
) -> str:
    notebook = nbformat.read(run.path / "notebooks" / f"{step.name}.ipynb", as_version=4)
    notebook = without_lacking(notebook, step=step.name, lacks=lacks)
    notebook = adapt_words(translate_notebook(notebook, step=step.name), lacks=lacks)
    title = title_of(notebook, default=step.title)
    return render_notebook(notebook, title=title, links=links, foot=_foot(run.parameters()), show_code=show_code)


def render_notebook(
    notebook: nbformat.NotebookNode, *, title: str, links: Sequence[dict[str, Any]], foot: str, show_code: bool = False
) -> str:
    """Render an executed notebook as a self-contained HTML document.

    Parameters
    ----------
    notebook
        The executed notebook; it is not changed.
    links
        Navigation: ``href``, ``label`` and ``current`` of each page.
    foot
        The line at the bottom of the page.
    show_code
        Show the code cells; the parameters cell is always hidden.

    Returns
    -------
    str
        HTML with its styles and figures inside, and with scripts only if a part of it is interactive.
    """
    page = {"title": title, "pages": list(links), "foot": foot, "css": stylesheet("views") + stylesheet("page")}
    page |= {"language": spoken(), "skip": phrase("To the content"), "menu": phrase("Pages of this report")}
    exporter = HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(Path(__file__).parents[1] / "reports")],
        config=Config({"TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": list(HIDDEN_TAGS)}}),
        exclude_input=not show_code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        widget_renderer_url="",
    )
    exporter.anchor_link_text = ""
    body, _ = exporter.from_notebook_node(notebook, resources={"segkit": page})
    return body.replace(CONTENTS, _table_of_contents(body), 1).replace(SCRIPTS, _scripts(body), 1)


def _table_of_contents(body: str) -> Markup:
    """Link to the headings of a page; short pages get no table of contents."""
    found = re.findall(r'<h2[^>]*? id="([^"]+)"[^>]*>(.*?)</h2>', body, flags=re.DOTALL)
    if len(found) < MIN_HEADINGS:
        return Markup()
    return templates.html("page", "contents", links=[(name, Markup(words).striptags()) for name, words in found])


def _scripts(body: str) -> Markup:
    """Render the scripts of the interactive parts of a page; most pages have none."""
    needed = [name for name, mark in SCRIPT_MARKERS.items() if mark in body]
    scripts = [bokeh_script()] if "map" in needed else []
    return templates.html("page", "scripts", scripts=scripts + [translate_script(script(name)) for name in needed])


def _foot(parameters: dict[str, Any]) -> str:
    """Describe what the pages were made from, without a time of day: the same run gives the same page."""
    days = [parameters.get(name) for name in ("lookback_days", "horizon_days")]
    whole = "as_of" in parameters and None not in days and not parameters.get(CUSTOMERS_ONLY)
    period = Period.parse(parameters["as_of"], lookback_days=days[0], horizon_days=days[1]) if whole else None
    return templates.text("page", "foot", parameters=parameters, period=period, version=__version__)
