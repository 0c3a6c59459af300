"""For JupyterLab: results that show themselves, the map to circle in on live data, and the runs there are."""

from pathlib import Path
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display
from markupsafe import Markup

from segkit import numbers, templates
from segkit.data.store import Run, load_run
from segkit.pages import cards, html, views
from segkit.pages.lasso import NEEDS, TOLD
from segkit.pages.look import look, stylesheet
from segkit.pages.segment_table import segment_table_html
from segkit.pages.steps import HOME
from segkit.pages.story import rivals_shown

SHOWN = {  # columns that tell a table of the contract from any other -> how it shows itself
    ("segment", "name", "verdict", "spend_next", "action"): lambda table: segment_table_html(table),
    ("segment", "name", "story"): lambda table: cards.persona_cards_html(table),
    ("baseline", "label", "spend_r2", "mix_r2", "active_r2"): lambda table: _rivals_html(table),
}
NEEDS_TOLD = 3  # of those who were circled
MISSING = "The map to circle in needs the extra 'widgets': pip install 'segkit[widgets]', then start the kernel anew."


def register() -> None:
    """From now on the tables segments, personas and rivals, and a Run, show themselves richly in this kernel."""
    shell = get_ipython()
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(pd.DataFrame, table_repr)
    formatter.for_type(Run, run_repr)


def table_repr(table: pd.DataFrame) -> str | None:
    """How a table shows itself: those of the contract as on the pages, any other as pandas would."""
    for columns, show in SHOWN.items():
        if set(columns) <= set(table.columns) and len(table):
            try:
                return str(show(table))
            except (KeyError, TypeError, ValueError):  # a table half changed by hand: show what is in it
                break
    return table._repr_html_()


def run_repr(run: Run) -> str:
    """How a run shows itself: what it was made from, and its tables by the notebook that made them."""
    made = run.parameters()
    tables = pd.DataFrame(sorted(run.record().get("tables", {}).items()), columns=["table", "made by"])
    grouped = tables.groupby("made by")["table"].agg(", ".join).reset_index() if len(tables) else tables
    words = f"Run {run.path.name}: {made.get('source_name', '')}, as of {made.get('as_of', '')}"
    return str(html.table_html(grouped, caption=words))


def runs(*, reports: str = "reports") -> None:
    """Display the finished runs there are, the latest first.

    Takes  the folder of runs; a relative path starts at the repository
    """
    found = [load_run(path.parent) for path in sorted((HOME / reports).glob("**/run.json"))]
    rows = [
        (run.parameters().get("source_name", ""), run.parameters().get("as_of", ""), _from_home(run.path))
        for run in found
        if run.record().get("outcome") == "done"
    ]
    if not rows:
        views.note("There is no finished run yet: run a notebook, or `segkit run` in a terminal.")
        return
    table = pd.DataFrame(rows, columns=["source", "as of", "folder"])
    views.table(table.sort_values(["as of", "source"], ascending=[False, True]), caption="Finished runs.")


def open_lab(*, run_dir: str = "reports/lab") -> Run | None:
    """Open a run to look at, finished or scratch, with tables that show themselves; None and a word if there is none.

    Takes  its folder; a relative path starts at the repository
    """
    display(HTML(str(templates.html("page", "style", css=stylesheet("views")))))
    register()
    if not (HOME / run_dir / "run.json").is_file():
        views.note(f"There is no run in {run_dir} yet: open 03_segments and run it, or name another folder.")
        return None
    return load_run(HOME / run_dir)


def explore(run: Run) -> Any:
    """The map on live data: circle customers, and read beside it what they have in common.

    Takes  a run that holds segments
    Gives  a widget; None, with a word, where the extra `widgets` is not installed
    """
    try:
        from ipywidgets import HBox, Output
        from jscatter import Scatter
    except ImportError:
        views.note(MISSING, warn=True)
        return None
    placed = run.table("assignments")
    names = run.table("segments").set_index("segment")["name"]
    features = run.table("features").set_index("customer_id").reindex(placed["customer_id"])
    colours = {segment: look(segment)[0] for segment in sorted(placed["segment"].unique())}
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
    """What circled customers have in common, beside everyone.

    Takes  rows of assignments

    Parameters
    ----------
    features : by customer_id, of everyone on the map
    names : of segments, by id
    """
    if circled.empty:
        return str(templates.html("_macros", "note", text="Hold Shift and draw around customers to read them."))
    inside = features.loc[circled["customer_id"]]
    rows = [(words, form, inside[n].mean(), features[n].mean()) for n, (words, form) in TOLD.items() if n in features]
    needs = [n for n in features.columns if str(n).startswith(NEEDS)]
    lead = (inside[needs].mean() - features[needs].mean()).sort_values(ascending=False, kind="stable")
    rows += [
        (f"buy: {n.removeprefix(NEEDS)}", "share", inside[n].mean(), features[n].mean())
        for n in lead[lead > 0].index[:NEEDS_TOLD]
    ]
    shown = [(words, *(html.FORMATS[form](value) for value in values)) for words, form, *values in rows]
    table = pd.DataFrame(shown, columns=["mean", "circled", "all"])
    parts = circled["segment"].value_counts(normalize=True).head(3)
    segment_shares = ", ".join(
        f"{names.get(segment, segment)} {numbers.share(part)}" for segment, part in parts.items()
    )
    return str(html.table_html(table, caption=f"{numbers.count(len(circled))} customers: {segment_shares}"))


def _rivals_html(table: pd.DataFrame) -> Markup:
    columns = {"label": "Segmentation", "segments": "Segments", "spend": "Spend", "mix": "Mix", "active": "Active"}
    return html.table_html(rivals_shown(table), columns=columns, caption="Adjusted R² in the period that followed.")


def _from_home(path: Path) -> str:
    return str(path.relative_to(HOME)) if path.is_relative_to(HOME) else str(path)
