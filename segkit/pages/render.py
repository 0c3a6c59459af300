"""Executed notebooks to pages: no code unless asked for, no script, nothing loaded from anywhere, one look."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import HTMLExporter
from traitlets.config import Config

from segkit import __version__
from segkit.data.store import Run
from segkit.pages.look import stylesheet
from segkit.pages.steps import OVERVIEW, Step

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
    Gives  HTML that stands alone: style inside, figures inside, no script

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
    return body


def _foot(parameters: dict[str, Any]) -> str:
    """What the pages were made from; no clock, so that the same run gives the same page."""
    names = {"as_of": "as of", "lookback_days": "lookback days", "horizon_days": "horizon days", "seed": "seed"}
    parts = [f"Source {parameters.get('source_name', parameters.get('source', ''))}"]
    parts += [f"{words} {parameters[name]}" for name, words in names.items() if name in parameters]
    return " · ".join(parts) + f" · made by segkit {__version__}"
