"""Pages that speak only of what is there: without money, purchases, habits, or segments that hold."""

import re
from collections.abc import Sequence
from copy import deepcopy

import nbformat

from segkit.customers.features import are_one_time
from segkit.data.alone import is_customers_only
from segkit.data.runs import Run, open_run_source
from segkit.refresh.revenue import TABLE as REVENUE_TABLE
from segkit.texts import has_texts, load_texts
from segkit.vocabulary import NONE

SEGMENTS, MONEY, PURCHASES, HABITS, STEPS = "segments", "money", "purchases", "habits", "steps"
HOLDOUT, REVENUE, JOURNEYS, PREVIOUS = "holdout", "revenue", "journeys", "previous"
LEFT_OUT = {  # what is lacking -> step -> headings of the chapters that have nothing to show
    SEGMENTS: {
        "00_overview": ("## Segments by value and need", "## Opportunities", "## Map of customers"),
        "00_customers": (
            "## Segments",
            "## Map of customers",
            "## Who they are",
            "## Side by side",
            "## Stability",
            "## Compared with your current segments",
        ),
        "03_segments": ("## Segments by value and need", "## Map of customers"),
        "04_personas": (
            "## Opportunities",
            "## Segments vs. demographics",
            "## What each segment comes for",
            "## Who they are",
            "## Rules for a CRM",
        ),
    },
    MONEY: {},
    PURCHASES: {"05_predict": ("## When customers buy next",)},
    HOLDOUT: {
        "00_overview": ("## What contact brought",),
        "06_measure": ("## The programme against its holdout",),
    },
    REVENUE: {"07_refresh": ("## Why did revenue move?",)},
    STEPS: {"01_profile": ("## Steps",)},
    JOURNEYS: {"05_predict": ("## Journeys",)},
    PREVIOUS: {
        "07_refresh": (
            "## Customers who moved",
            "## Forecast accuracy: predicted vs. actual",
            "## Changes by segment",
            "## Keep or refit?",
            "## Changes in habits and segment sizes",
            "## Decision log",
        )
    },
    HABITS: {"01_profile": ("## Customer lifecycle",), "05_predict": ("## Churn drivers",)},
}


def lacking(run: Run) -> tuple[str, ...]:
    """List what a run lacks of what its pages usually speak of."""
    if is_customers_only(run):  # its page speaks of nothing that could be lacking, but for segments
        return (SEGMENTS,) if run.summary().get("segments.verdict") == NONE else ()
    lacks = {
        SEGMENTS: run.summary().get("segments.verdict") == NONE,
        MONEY: run.has("segments") and bool(run.table("segments")["revenue"].isna().all()),
        PURCHASES: run.has("segments") and "purchase" not in open_run_source(run).needs.kinds,
    }
    lacks[HOLDOUT] = not any(run.has(name) and len(run.table(name)) for name in ("programme", "pooled"))
    lacks[REVENUE] = not (run.has(REVENUE_TABLE) and len(run.table(REVENUE_TABLE)))
    lacks[STEPS] = not run.has("steps")
    lacks[JOURNEYS] = not run.has("journeys")
    lacks[PREVIOUS] = not run.parameters().get("previous")
    lacks[HABITS] = run.has("features") and are_one_time(run.table("features"))
    return tuple(name for name, lacks_it in lacks.items() if lacks_it)


def without_lacking(notebook: nbformat.NotebookNode, *, step: str, lacks: Sequence[str]) -> nbformat.NotebookNode:
    """Return a notebook without the chapters that have nothing to show.

    Parameters
    ----------
    notebook
        As executed, in English; it is not changed.
    step
        Its name, such as ``00_overview``.
    lacks
        Of ``lacking``.
    """
    left_out = {heading for name in lacks for heading in LEFT_OUT[name].get(step, ())}
    made, inside = deepcopy(notebook), False
    kept = []
    for cell in made.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            inside = cell.source.partition("\n")[0] in left_out
        kept += [] if inside else [cell]
    made.cells = kept
    return made


def adapt_words(notebook: nbformat.NotebookNode, *, lacks: Sequence[str]) -> nbformat.NotebookNode:
    """Return a notebook whose words, and those of what its cells show, speak only of what is there.

    The phrases are those of ``lacking.yaml`` in the language that is spoken.
    """
    if not lacks or not has_texts("lacking"):
        return notebook
    texts, made = load_texts("lacking"), deepcopy(notebook)
    phrases = [pair for name in lacks for pair in texts.get(name, {}).items()]
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = _replace(cell.source, phrases)
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output["data"]["text/html"] = _replace(output["data"]["text/html"], phrases)
    return made


def _replace(text: str, phrases: Sequence[tuple[str, str]]) -> str:
    for phrase, instead in phrases:
        text = re.sub(r"\s+".join(map(re.escape, phrase.split())), lambda _, words=instead: words, text)
    return text
