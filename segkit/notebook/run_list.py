"""The runs there are: a list of them, and the page of all runs of a source."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from segkit.data import runs
from segkit.data.io import write_bytes
from segkit.notebook.results import Result, table_result, text_result
from segkit.notebook.steps import HOME, find_path
from segkit.refresh.trend import run_history, segment_history
from segkit.reports.runs import MARKER, MOST_RUNS, runs_page

PAGE = "index.html"
NO_RUN = "There is no finished run yet: make one with `segkit run`. Until then, `.latest` is a made-up shop."


@dataclass(frozen=True, repr=False, eq=False)
class RunList(Result):
    """The finished runs there are, the latest first."""

    @property
    def latest(self) -> str:
        """The folder of the latest one; where there is none, of a made-up run."""
        if self.table.empty:
            from segkit.notebook.example import example_run

            return str(example_run())
        return str(self.table["folder"].iloc[0])


def list_runs(*, reports: str | Path = "reports") -> RunList:
    """List the finished runs, the latest first.

    Parameters
    ----------
    reports
        The folder of runs; a relative path starts as in ``load_run``.

    Examples
    --------
    >>> segkit.list_runs(reports=segkit.example_run().parent).table[["source", "as of"]].to_dict("records")
    [{'source': 'synth_retail', 'as of': '2025-03-01'}]
    """
    rows = []
    for path in sorted(find_path(reports).glob("**/run.json")):
        run = runs.Run(path.parent)
        if run.record().get("outcome") == "done" and run.record().get("format") == runs.FORMAT:
            made = run.parameters()
            rows.append((made.get("source_name", ""), made.get("as_of", ""), _shorten(run.path)))
    table = pd.DataFrame(rows, columns=["source", "as of", "folder"])
    table = table.sort_values(["as of", "source", "folder"], ascending=[False, True, True], ignore_index=True)
    if table.empty:
        return RunList(table, html=text_result(note=NO_RUN).html)
    return RunList(table, html=table_result(table, name="runs").html)


def _shorten(path: Path) -> str:
    return str(path.relative_to(HOME)) if path.is_relative_to(HOME) else str(path)


def write_runs_page(newest: runs.Run) -> Path | None:
    """Write ``index.html`` next to the runs of a source: forecasts and actuals, numbers of runs, segments over time.

    Parameters
    ----------
    newest
        A finished run; the page is written to the folder around it, about all finished runs there of its source.

    Returns
    -------
    Path or None
        The page; None where the folder holds an ``index.html`` of somebody else, which is left alone.
    """
    page, source = newest.path.parent / PAGE, newest.parameters()["source_name"]
    if page.exists() and not page.read_bytes().startswith(MARKER.encode()):
        return None
    found = [runs.load_run(path) for _, path in runs.finished_runs(page.parent, source=source)]
    whole = [run for run in found if run.has("segments") and run.has("kpis")][-MOST_RUNS:]
    text = runs_page(
        run_history(whole),
        segment_history(whole),
        source=source,
        currency=runs.open_run_source(newest).currency,
        horizon_days=[run.period.horizon_days for run in whole],
    )
    write_bytes(page, text.encode("utf-8"))
    return page
