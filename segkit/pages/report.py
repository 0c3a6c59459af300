"""What each notebook calls first: open the run, say where in the story it stands, and make what it needs."""

from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from segkit import templates
from segkit.data import sources
from segkit.data.store import Run, load_run, open_run
from segkit.errors import RunError
from segkit.pages import lab
from segkit.pages import steps as chain
from segkit.pages.look import stylesheet
from segkit.pages.steps import HOME, OVERVIEW, Step
from segkit.period import Period
from segkit.tables import written_by


def start(
    step: str,
    *,
    run_dir: str = "reports/lab",
    source: str = "complete_journey",
    as_of: str = "",
    lookback_days: int = 182,
    horizon_days: int = 91,
    seed: int = 7,
    data_dir: str = "",
    standing: bool = False,
) -> Run:
    """Open the run folder for a notebook, show its place in the chain, and run earlier notebooks when it needs them.

    Takes  the name of the notebook, such as "03_segments", and the parameters every notebook declares
    Gives  Run, ready to be read and written; run.parameters() holds them resolved: as_of is never empty

    Parameters
    ----------
    run_dir : a relative path starts at the repository, wherever the notebook runs
    source : complete_journey, or the path of a YAML file
    as_of : ISO date, exclusive; empty for the source's own
    lookback_days, horizon_days : days that features see; days that are foreseen
    seed : of every random choice
    data_dir : where the files of the source are; empty for beside its YAML
    standing : the notebook is one that goes on with the segments of the last run

    Raises
    ------
    InputError : a parameter or the source cannot be used
    RunError : the run is finished, and so read-only
    """
    windows = {"lookback_days": lookback_days, "horizon_days": horizon_days, "seed": seed}
    wanted = {"source": source_path(source), "data_dir": data_dir, "as_of": as_of, **windows}
    steps = chain.standing_steps() if standing else chain.find_steps()
    run = _open_in_chain(HOME / run_dir, step=step, wanted=wanted)
    if run is None:
        wanted = resolve(**wanted)
        run = open_run(HOME / run_dir, step=step, **wanted)
        _show("style", css=stylesheet("views"))
        _catch_up(run, step=step, steps=steps)
    _show("header", **_place(step, steps=steps))
    lab.register()
    return run


def resolve(
    *, source: str, data_dir: str, as_of: str, lookback_days: int, horizon_days: int, **others: Any
) -> dict[str, Any]:
    """The parameters as they are recorded: the source found and read, its bytes known, as_of a date.

    Raises
    ------
    SourceError : the source cannot be read
    InputError : as_of is not an ISO date, or a window is not a positive number of days
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


def source_path(source: str) -> str:
    """A YAML file by its full path, from the current folder or else from the repository; a name as it is."""
    if not source.endswith((".yaml", ".yml")):
        return source
    found = [folder / source for folder in (Path.cwd(), HOME) if (folder / source).is_file()]
    return str(found[0].resolve()) if found else source


def missing_steps(run: Run, *, steps: list[Step]) -> list[Step]:
    """Those of the steps whose tables the run does not hold, and all that come after the first such step."""
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


def _open_in_chain(path: Path, *, step: str, wanted: dict[str, Any]) -> Run | None:
    """The run that `segkit run` is building, which has been resolved already; None for any other."""
    if not (path / "run.json").is_file() or load_run(path).record().get("outcome") != "building":
        return None
    parameters = load_run(path).parameters()
    differing = sorted(name for name, value in wanted.items() if parameters.get(name) != value)
    if differing:
        raise RunError(
            f"{path.name}: this run is being built with another {', '.join(differing)}. Give another run_dir."
        )
    return Run(path, step)


def _catch_up(run: Run, *, step: str, steps: list[Step]) -> None:
    """Run the notebooks before this one whose tables are missing from a scratch run."""
    names = [other.name for other in steps]
    if step not in names:
        raise RunError(f"'{step}' is not a notebook of the chain. There are {', '.join(names)}.")
    needed = missing_steps(run, steps=steps[: names.index(step)])
    if needed:
        from segkit.pages.kernel import run_notebooks  # papermill is slow to import, and rarely needed here

        _show("catching_up", steps=[other.name for other in needed])
        run_notebooks(needed, run=run, parameters=run.parameters())


def _place(step: str, *, steps: list[Step]) -> dict[str, Any]:
    """Which step of how many, what it reads and writes, where the neighbours are."""
    names = [other.name for other in steps]
    place = names.index(step)
    return {
        "place": place + 1 if step != OVERVIEW else None,
        "steps": len(steps),
        "reads": steps[place].reads,
        "writes": steps[place].writes,
        "before": names[place - 1] if place else "",
        "after": names[place + 1] if place + 1 < len(steps) else "",
    }


def _show(macro: str, **facts: Any) -> None:
    display(HTML(str(templates.html("page", macro, **facts))))
