"""What a notebook works with: the open run, its parameters, and how results are displayed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display
from markupsafe import Markup
from matplotlib.figure import Figure

from segkit import format as fmt
from segkit import templates
from segkit.data import runs
from segkit.data.alone import refuse_customers_only
from segkit.data.paths import find_path
from segkit.data.runs import KEPT, open_run
from segkit.errors import InputError, RunError
from segkit.notebook import steps as steps_module
from segkit.notebook.runs import Run
from segkit.notebook.steps import CUSTOMERS, KEEP, OVERVIEW, Step, missing_steps, resolve, source_path
from segkit.reports import html
from segkit.reports import personas as personas_report
from segkit.reports.html import segment_table_html
from segkit.reports.map import CIRCLE_FEATURES, NEEDS_PREFIX
from segkit.reports.page_files import stylesheet
from segkit.reports.segments import format_baselines
from segkit.reports.theme import segment_styles
from segkit.texts import page_language, speak


def show_note(text: str, *, warn: bool = False) -> None:
    """Display a remark in a quiet box; warn makes it stand out."""
    _display(templates.html("_macros", "note", text=text, warn=warn))


def _display(markup: Markup) -> None:
    display(HTML(str(markup)))


TABLE_RENDERERS = {  # columns that tell a table of the contract from any other -> how it shows itself
    ("segment", "name", "verdict", "spend_next", "action"): lambda table: segment_table_html(table),
    ("segment", "name", "size"): lambda table: personas_report.persona_cards_html(table),
    ("baseline", "label", "spend_r2", "need_r2", "active_r2"): lambda table: _render_baselines(table),
}
DEFAULTS = {  # of the parameters that every notebook declares
    "run_dir": "reports/lab",
    "source": "complete_journey",
    "data_dir": "",
    "as_of": "",
    "lookback_days": 182,
    "horizon_days": 91,
    "seed": 7,
}
MAX_CIRCLED_NEEDS = 3  # of those who were circled
WIDGETS_MISSING = (
    "The map to circle customers in needs the extra 'widgets': run pip install -e '.[widgets]' in the repository, then "
    "restart the kernel."
)


def register() -> None:
    """Let the tables segments, personas and baselines, and figures, show themselves richly in this kernel."""
    shell = get_ipython()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(pd.DataFrame, table_repr)
    formatter.for_type(Figure, lambda figure: str(html.figure_html(figure, alt="Figure drawn in this notebook")))


def table_repr(table: pd.DataFrame) -> str | None:
    """How a table shows itself: those of the contract as on the pages, any other as pandas would."""
    for columns, show in TABLE_RENDERERS.items():
        if set(columns) <= set(table.columns) and len(table):
            try:
                return str(show(table))
            except (KeyError, TypeError, ValueError):  # a table half changed by hand: show what is in it
                break
    return table._repr_html_()


def explore(run: runs.Run) -> Any:
    """Show the map on live data: circle customers, and read next to it what they have in common.

    Parameters
    ----------
    run
        A run that holds segments.

    Returns
    -------
    ipywidgets.HBox or None
        None, with a note, where the extra ``widgets`` is not installed.
    """
    try:
        from ipywidgets import HBox, Output
        from jscatter import Scatter
    except ImportError:
        show_note(WIDGETS_MISSING, warn=True)
        return None
    placed = run.table("assignments")
    segments = run.table("segments")
    names = segments.set_index("segment")["name"]
    features = run.table("features").set_index("customer_id").reindex(placed["customer_id"])
    colours = {segment: colour for segment, (colour, _) in segment_styles(segments).items()}
    scatter = Scatter(data=placed, x="x", y="y", width=640, height=480).color(by="segment", map=colours)
    output = Output()

    def show_circled(change: dict[str, Any]) -> None:
        output.clear_output(wait=True)
        with output:
            display(HTML(circle_html(placed.iloc[list(change["new"])], features=features, names=names)))

    scatter.widget.observe(show_circled, names=["selection"])
    show_circled({"new": []})
    return HBox([scatter.show(), output])


def circle_html(circled: pd.DataFrame, *, features: pd.DataFrame, names: pd.Series) -> str:
    """Describe what circled customers have in common, compared with all customers.

    Parameters
    ----------
    circled
        Rows of the table assignments.
    features
        By customer_id, of everyone on the map.
    names
        Of segments, by id.
    """
    if circled.empty:
        return str(templates.html("_macros", "note", text="Hold Shift and draw around customers to read them."))
    inside = features.loc[circled["customer_id"]]
    rows = [
        (words, form, inside[n].mean(), features[n].mean())
        for n, (words, form) in CIRCLE_FEATURES.items()
        if n in features
    ]
    needs = [n for n in features.columns if str(n).startswith(NEEDS_PREFIX)]
    lead = (inside[needs].mean() - features[needs].mean()).sort_values(ascending=False, kind="stable")
    rows += [
        (f"buy: {n.removeprefix(NEEDS_PREFIX)}", "share", inside[n].mean(), features[n].mean())
        for n in lead[lead > 0].index[:MAX_CIRCLED_NEEDS]
    ]
    shown = [(words, *(html.VALUE_FORMATS[form](value) for value in values)) for words, form, *values in rows]
    table = pd.DataFrame(shown, columns=["mean", "circled", "all"])
    parts = circled["segment"].value_counts(normalize=True).head(3)
    segment_shares = ", ".join(f"{names.get(segment, segment)} {fmt.share(part)}" for segment, part in parts.items())
    return str(html.table_html(table, caption=f"{fmt.count(len(circled))} customers: {segment_shares}"))


def _render_baselines(table: pd.DataFrame) -> Markup:
    columns = {"label": "Segmentation", "segments": "Segments", "spend": "Spend"}
    columns |= {"need": "Need", "mix": "Mix", "active": "Active"}
    return html.table_html(format_baselines(table), columns=columns, caption="Adjusted R² in the period that followed.")


def start(step: str, parameters: Mapping[str, Any]) -> Run:
    """Open the run folder for a notebook, show its place in the chain, and run earlier notebooks when it needs them.

    Parameters
    ----------
    step
        Name of the notebook, such as "03_segments".
    parameters
        Those that every notebook declares, usually ``globals()``: ``run_dir``, ``source``, ``data_dir``, ``as_of`` (ISO
        date, exclusive; empty for the source's own), ``lookback_days``, ``horizon_days`` and ``seed``; one that is
        missing has its default, others are ignored. A relative ``source`` or ``run_dir`` starts at the current folder
        if something is there, else at the repository. In a scratch run
        ``keep_segments`` keeps the segments of the run ``previous``.

    Returns
    -------
    Run
        To read and to write; ``run.parameters()`` holds them resolved: ``as_of`` is never empty.

    Raises
    ------
    InputError
        A parameter or the source cannot be used.
    RunError
        The run is finished, and so read-only.

    Examples
    --------
    >>> made = segkit.load_run(segkit.example_run())
    >>> given = {"source": made.parameters()["source"], "run_dir": str(made.path.with_name("lab"))}
    >>> run = segkit.start("01_profile", given)  # doctest: +ELLIPSIS
    <IPython.core.display.HTML object>...
    >>> run.period.as_of.isoformat()
    '2025-03-01'
    """
    given = {**DEFAULTS, **{name: parameters[name] for name in DEFAULTS if name in parameters}}
    path = find_path(given.pop("run_dir"))
    wanted = {**given, "source": source_path(given["source"])}
    run = _open_in_chain(path, step=step, wanted=wanted)
    if run is None:
        run = _open_scratch(path, step=step, wanted=wanted, parameters=parameters)
        _show("style", css=stylesheet("views"))
        _catch_up(run, step=step, steps=_steps(run, step=step))
    speak(page_language(step, language=run.language), names=run.language)
    _show("header", **_place(step, steps=_steps(run, step=step)))
    register()
    return run


def _open_in_chain(path: Path, *, step: str, wanted: dict[str, Any]) -> Run | None:
    """Open the run that `segkit run` is building, whose parameters are resolved; None for any other."""
    if not (path / "run.json").is_file() or runs.load_run(path).record().get("outcome") != "building":
        return None
    parameters = runs.load_run(path).parameters()
    differing = sorted(name for name, value in wanted.items() if parameters.get(name) != value)
    if differing:
        raise RunError(
            f"{path.name}: this run is being built with another {', '.join(differing)}. Give another run_dir."
        )
    return Run(path, step)


def _open_scratch(path: Path, *, step: str, wanted: dict[str, Any], parameters: Mapping[str, Any]) -> Run:
    """Open a run of the lab; the notebooks up to the segments say whether it keeps those of an earlier run."""
    keep, previous = parameters.get(KEEP), parameters.get("previous", "")
    if keep and not previous:
        raise InputError(f"{KEEP}: no run is given. Give the run whose segments are kept as previous.")
    kept = {} if keep is None else {"previous": str(find_path(previous).resolve()) if keep else ""}
    run = Run(open_run(path, step=step, **resolve(**wanted), **kept).path, step)
    if keep is not None and bool(run.kept) != keep:
        run.update(acted=KEPT if keep else "")
    return run


def _steps(run: Run, *, step: str) -> list[Step]:
    """List the notebooks in the order in which this run has them; for a table of customers alone there is one."""
    if step == CUSTOMERS:
        return steps_module.find_steps(customers_only=True)
    refuse_customers_only(run, what=f"the notebook {step}")
    return steps_module.kept_order(steps_module.find_steps()) if run.kept else steps_module.find_steps()


def _catch_up(run: Run, *, step: str, steps: list[Step]) -> None:
    """Run the notebooks before this one whose tables are missing from a scratch run."""
    names = [other.name for other in steps]
    if step not in names:
        raise RunError(f"'{step}' is not a notebook of the chain. There are {', '.join(names)}.")
    needed = missing_steps(run, steps=steps[: names.index(step)])
    if needed:
        from segkit.notebook.steps import run_notebooks

        _show("catching_up", steps=[other.name for other in needed])
        run_notebooks(needed, run=run, parameters={**run.parameters(), KEEP: bool(run.kept)})


def _place(step: str, *, steps: list[Step]) -> dict[str, Any]:
    """Which step of how many, what it reads and writes, where the neighbours are."""
    names = [other.name for other in steps]
    place = names.index(step)
    return {
        "place": place + 1 if step not in (OVERVIEW, CUSTOMERS) else None,
        "steps": len(steps),
        "reads": steps[place].reads,
        "writes": steps[place].writes,
        "before": names[place - 1] if place else "",
        "after": names[place + 1] if place + 1 < len(steps) else "",
    }


def _show(macro: str, **facts: Any) -> None:
    display(HTML(str(templates.html("page", macro, **facts))))
