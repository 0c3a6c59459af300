"""What a run is made with: where paths start, the source and its date; and which notebooks it still lacks.

Nothing slow is imported here: the command line starts with it.
"""

from pathlib import Path
from typing import Any

from segkit.data import sources
from segkit.data.runs import Run
from segkit.notebook.steps import HOME, Step
from segkit.period import Period
from segkit.tables import written_by


def find_path(path: str | Path) -> Path:
    """Find where a relative path starts, in a notebook and on the command line: one rule.

    It starts at the current folder if something is there; else at the repository if something is there. What does not
    exist yet starts at the repository where the current folder lies in it, else at the current folder.
    """
    here, there = Path.cwd() / path, HOME / path
    if here.exists() or not (there.exists() or Path.cwd().is_relative_to(HOME)):
        return here
    return there


def source_path(source: str) -> str:
    """Find the YAML file of a source by the rule of ``find_path``; a name stays as it is."""
    if not source.endswith((".yaml", ".yml")):
        return source
    found = find_path(source)
    return str(found.resolve()) if found.is_file() else source


def resolve(
    *, source: str, data_dir: str, as_of: str, lookback_days: int, horizon_days: int, **others: Any
) -> dict[str, Any]:
    """Resolve parameters as they are recorded: the source found and read, its bytes known, as_of a date.

    Raises
    ------
    SourceError
        The source cannot be read.
    InputError
        ``as_of`` is not an ISO date, or a window is not a positive number of days.
    """
    opened = sources.open_source(source, data_dir=data_dir or None)
    con = sources.connect()
    day = as_of or sources.default_as_of(opened, con=con)
    period = Period.parse(day, lookback_days=lookback_days, horizon_days=horizon_days)
    sources.refuse_as_of(opened, con=con, as_of=period.as_of)
    fingerprint = sources.fingerprint(opened)
    return {
        "source": source,
        "data_dir": data_dir,
        "as_of": day,
        "lookback_days": lookback_days,
        "horizon_days": horizon_days,
        **others,
        "source_name": opened.name,
        "source_fingerprint": fingerprint,
    }


def missing_steps(run: Run, *, steps: list[Step]) -> list[Step]:
    """List the steps whose tables the run does not hold, and all that come after the first such step."""
    for position, step in enumerate(steps):
        if not _is_made(run, step=step):
            return steps[position:]
    return []


def _is_made(run: Run, *, step: Step) -> bool:
    """Whether a notebook has run to its end, and what it wrote is still there."""
    record = run.record()
    wrote = [table for table, by in record.get("tables", {}).items() if by == step.name]
    if step.name not in record.get("steps", {}):  # run by hand, perhaps not to its end
        wrote += [table.name for table in written_by(step.key) if wrote and not table.optional]
        return bool(wrote) and all(run.has(table) for table in wrote)
    return all(run.has(table) for table in wrote)
