"""Executed notebooks to pages: no code unless asked for, nothing loaded from anywhere, one look.

A page reads whole without its script. Where it holds a table to sort or a map to touch, a small script is put into it,
and for a map the library Bokeh too.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from traitlets.config import Config

from segkit import __version__, templates
from segkit.data.store import Run
from segkit.pages.look import bokeh_script, script, stylesheet
from segkit.pages.steps import OVERVIEW, Step

CONTENTS, SCRIPTS = "<!-- contents -->", "<!-- scripts -->"  # of the template, filled in when the body is known
LEAST_HEADINGS = 3  # of a page that gets a list of contents
SCRIPT_MARKS = {"sort": 'class="sk-sort"', "map": 'class="sk-map"'}  # script -> what needs it
HIDDEN_TAGS = ("parameters", "injected-parameters", "hide")  # cells that are for the machine


def render_run(run: Run, *, steps: Sequence[Step], show_code: bool = False) -> list[Path]:
    """Write a page for each executed notebook of a run, with links between them.

    Takes  a run whose notebooks/ hold executed copies; the steps of the chain
    Gives  the paths of the pages, in the order of the links: the overview first
    """
    present = [step for step in steps if (run.path / "notebooks" / f"{step.name}.ipynb").is_file()]
    ordered = [step for step in present if step.name == OVERVIEW] + [step for step in present if step.name != OVERVIEW]
    foot = _foot(run.parameters())
    written = []
    for step in ordered:
        links = [{"href": other.page, "label": other.label, "current": other == step} for other in ordered]
        notebook = nbformat.read(run.path / "notebooks" / f"{step.name}.ipynb", as_version=4)
        text = render_notebook(notebook, title=step.title, links=links, foot=foot, show_code=show_code)
        written.append(run.write_text(text, step.page))
    return written


def render_notebook(
    notebook: nbformat.NotebookNode, *, title: str, links: Sequence[dict[str, Any]], foot: str, show_code: bool = False
) -> str:
    """One page as a whole HTML document.

    Takes  an executed notebook, left as it is; the links of the navigation: href, label, current
    Gives  HTML that stands alone: style inside, figures inside, and a script only where something can be touched

    Parameters
    ----------
    show_code : keep the code cells (never the parameters cell)
    """
    page = {"title": title, "pages": list(links), "foot": foot, "css": stylesheet("views") + stylesheet("page")}
    exporter = HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(Path(__file__).parent)],
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
    return body.replace(CONTENTS, _contents(body), 1).replace(SCRIPTS, _scripts(body), 1)


def _contents(body: str) -> Markup:
    """The headings of a page as a list of links; nothing for a page with fewer than three."""
    found = re.findall(r'<h2[^>]*? id="([^"]+)"[^>]*>(.*?)</h2>', body, flags=re.DOTALL)
    if len(found) < LEAST_HEADINGS:
        return Markup()
    return templates.html("page", "contents", links=[(name, Markup(words).striptags()) for name, words in found])


def _scripts(body: str) -> Markup:
    """What the page needs to be touched: nothing, the small script, or Bokeh and the small script."""
    needed = [name for name, mark in SCRIPT_MARKS.items() if mark in body]
    scripts = [bokeh_script()] if "map" in needed else []
    return templates.html("page", "scripts", scripts=scripts + [script(name) for name in needed])


def _foot(parameters: dict[str, Any]) -> str:
    """What the pages were made from; no clock, so that the same run gives the same page."""
    return templates.text("page", "foot", parameters=parameters, version=__version__)
