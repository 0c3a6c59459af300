"""What leaves a run: lists of customers for other tools, and customers who asked to be erased."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from segkit import erasure
from segkit.data.runs import Run
from segkit.export import export
from segkit.notebook.parameters import find_path
from segkit.notebook.results import Result, text_result


def export_segments(run: Run, *, to: str, out: str | Path, **options: Any) -> Result:
    """Export the customers of a run with their segments; customers who may not be contacted are left out where needed.

    Parameters
    ----------
    run
        A finished run.
    to
        Name of a target, such as "csv", "parquet", "hubspot" or "klaviyo", or the YAML file of one.
    out
        A folder or a file; for a table the URL of a database.
    **options
        ``segments`` (ids; all by default), ``pilots`` (folders whose control groups are left out), ``country_code`` and
        the others of ``segkit export``; ``dry_run=True`` writes nothing.

    Returns
    -------
    Result
        What was written, or would be; ``table`` holds a line of it a row.

    Raises
    ------
    InputError
        The target cannot be filled from this source, or ``out`` cannot be written; nothing was changed.

    Examples
    --------
    >>> from segkit.notebook.example import example_run, temporary_folder
    >>> done = export_segments(Run(example_run()), to="csv", out=temporary_folder() / "list", segments=("S01",))
    >>> done.metrics["export.left_out"]
    0
    """
    done = export.export_segments(run.path, to=to, out=str(out), **options)
    first, *lines = str(done).splitlines()
    figures = {"export.rows": len(done.rows), "export.left_out": sum(done.left_out.values())}
    return text_result(headline=first, bullets=[line.strip() for line in lines], metrics=figures)


def erase(customers: Collection[str], *, reports: str | Path = "reports") -> Result:
    """Erase customers from all runs, pilots and live states below a folder, and exclude them from later runs.

    Parameters
    ----------
    customers
        Their ids, as in the source.
    reports
        The folder of runs; a relative path starts as in ``load_run``.

    Returns
    -------
    Result
        What was done, without ids; ``table`` holds a line of it a row.

    Raises
    ------
    InputError
        A customer is not found anywhere; nothing was changed.

    Examples
    --------
    >>> from segkit.notebook.example import example_run
    >>> erase(["nobody"], reports=example_run().parent)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    segkit.errors.InputError: nobody: not found in any run, ...
    """
    lines = erasure.erase(customers, reports=find_path(reports))
    return text_result(pd.DataFrame({"text": lines}), bullets=lines)
