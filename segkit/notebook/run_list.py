"""The runs there are: a list of them, and the page of all runs of a source."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from segkit.data import runs
from segkit.data.io import write_bytes
from segkit.data.paths import HOME, find_path
from segkit.errors import SegkitError
from segkit.notebook.results import Result, table_result, text_result
from segkit.refresh.trend import HISTORY, run_history, segment_history
from segkit.reports.runs import MARKER, MOST_RUNS, runs_page

PAGE = "index.html"
NUMBERS = [name for name in HISTORY if name not in ("as_of", "folder", "verdict", "kpi", "held")]
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
        if run.record().get("outcome") == "done" and run.record().get("format") in runs.READABLE:
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
        The page; None where no run has segments, or where the folder holds an ``index.html`` of somebody else, which is
        left alone.
    """
    page, source = newest.path.parent / PAGE, newest.parameters()["source_name"]
    whole = _whole_runs(page.parent, source=source)[-MOST_RUNS:]
    if not whole or (page.exists() and not page.read_bytes().startswith(MARKER.encode())):
        return None
    text = runs_page(
        run_history(whole),
        segment_history(whole),
        source=source,
        currency=runs.open_run_source(newest).currency,
        horizon_days=[run.period.horizon_days for run in whole],
    )
    write_bytes(page, text.encode("utf-8"))
    return page


def _whole_runs(root: Path, *, source: str) -> list[runs.Run]:
    """List the finished runs of a source that the page can show, the earliest first; broken ones are left out."""
    found = []
    for record in sorted(root.glob("*/run.json")):
        try:
            run = runs.load_run(record.parent)
            is_done = run.record().get("outcome") == "done" and run.parameters().get("source_name") == source
            if is_done and run.has("segments") and run.has("kpis"):
                segment_history([run]), run_history([run])[NUMBERS].astype(float)  # all that the page reads
                found.append((run.period.as_of, run))
        except (SegkitError, KeyError, TypeError, ValueError):  # cut off, or changed by hand
            continue
    return [run for _, run in sorted(found, key=lambda pair: pair[0])]
