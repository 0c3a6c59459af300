"""Run the chain of notebooks into a run folder: built aside, rendered, and swapped in when whole."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from segkit import __version__
from segkit.data.aside import build_aside, keep_failed, latest_good, prune, swap_in
from segkit.data.engine import check_engine
from segkit.data.store import Run, load_run, open_run
from segkit.data.veil import find_key, key_name, make_key
from segkit.errors import InputError, RunError, SegkitError
from segkit.pages import auto
from segkit.pages.render import render_run
from segkit.pages.report import missing_steps, resolve, source_path
from segkit.pages.steps import HOME, OVERVIEW, Step, check_names, choose_steps, find_steps
from segkit.tables import required_by

OWN_OPTIONS = ("source", "data_dir", "as_of", "lookback_days", "horizon_days", "seed", "previous", "run_dir", "engine")
KEY_PACKAGES = (
    "duckdb",
    "hdbscan",
    "ibis-framework",
    "numba",
    "numpy",
    "pandas",
    "papermill",
    "pyarrow",
    "scikit-learn",
    "umap-learn",
)


def run_chain(
    *,
    source: str = "complete_journey",
    data_dir: str = "",
    as_of: str = "",
    lookback_days: int = 182,
    horizon_days: int = 91,
    seed: int = 7,
    out: str | Path | None = None,
    steps: str | None = None,
    previous: str | None = None,
    engine: str = "duckdb",
    pseudonymise: bool = False,
    mode: str = "",
    keep: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    show_code: bool = False,
    notebooks_dir: Path | None = None,
) -> Path | str:
    """Run the notebooks on a source and render their pages; the last good run survives any failure.

    Takes  a source and windows, as segkit.pages.report.start does
    Gives  the path of index.html, or of the last page when the overview was not among the steps; with "dry-run" what
           would be decided, as text

    Parameters
    ----------
    out : the run folder; None is reports/<name of the source>/<as_of>
    steps : "01-04", "03" or "01,03": only these, and what they need that is missing; None is all
    previous : a finished run to compare with; None is the latest good one with an earlier as_of; "none" for none
    engine : where days and features are computed; see segkit.data.engine.open_engine
    pseudonymise : customers are shown by keyed hashes in all tables; the key is made beside the runs if there is none
    mode : "auto" goes on with the segments of the last run where they still fit; "dry-run" only says so
    keep : of the finished runs of the source in this folder only so many stay, the newest; None is all
    parameters : further ones, each declared by at least one notebook
    show_code : keep the code in the pages

    Raises
    ------
    InputError : something given cannot be used, or with "auto" the data looks broken; nothing was changed
    SegkitError : a notebook failed; its executed part is in <out>.failed
    """
    every = find_steps(notebooks_dir=notebooks_dir)
    chosen = choose_steps(every, steps)
    extra = _typed(parameters or {}, steps=every)
    check_engine(engine)
    windows = {"lookback_days": lookback_days, "horizon_days": horizon_days, "seed": seed}
    wanted = resolve(source=source_path(source), data_dir=_folder(data_dir), as_of=as_of, **windows)
    place = Path(out).resolve() if out else HOME / "reports" / wanted["source_name"] / wanted["as_of"]
    before = _previous(previous, root=place.parent, of=wanted)
    key = (find_key if mode == auto.DRY_RUN else make_key)(place.parent) if pseudonymise else ""
    hashed = {"pseudonyms": key_name(key)} if pseudonymise else {}
    _refuse_other_ids(before, pseudonyms=hashed.get("pseudonyms", ""))
    made_with = {**wanted, "previous": before, "engine": engine or "duckdb", **hashed, **extra}
    if mode == auto.DRY_RUN:
        return auto.only_say(made_with, previous=before, root=place.parent, notebooks_dir=notebooks_dir)
    why = auto.cannot_stand(before, made_with=made_with) if mode else ""
    with build_aside(place) as building:
        run = _begin(building, place=place, made_with=made_with, reuse=steps is not None)
        try:
            if mode and not why:
                auto.refresh(run, every=every, notebooks_dir=notebooks_dir)
            else:
                if mode:
                    auto.tell(f"a full run: {why}.")
                _make(run, chosen=chosen, every=every)
            if mode:
                auto.write_pilots(run, place=place)
            render_run(run, steps=every, show_code=show_code)
            run.update(outcome="done")
        except (SegkitError, KeyboardInterrupt) as error:
            run.update(outcome="failed", failure=str(error) or "interrupted")
            failed = keep_failed(building, place)
            if isinstance(error, SegkitError) and not isinstance(error, InputError):
                raise SegkitError(f"{error}. The notebook as far as it came: {failed / 'notebooks'}") from error
            raise
        swap_in(building, place)
    if keep:
        _prune(place, keep=keep)
    pages = [place / step.page for step in [*every[-1:], *reversed(every)] if (place / step.page).is_file()]
    return pages[0]


def _prune(place: Path, *, keep: int) -> None:
    """Remove older runs; what goes wrong there takes nothing from the run that has just been made."""
    try:
        gone, busy = prune(place, keep=keep)
    except (OSError, RunError) as error:
        auto.tell(f"--keep {keep}: older runs could not be removed ({error}). The new run is whole.")
        return
    if gone:
        auto.tell(f"--keep {keep}: removed {', '.join(gone)}.")
    if busy:
        auto.tell(f"--keep {keep}: {', '.join(busy)} stayed, as a process is at work there.")


def _make(run: Run, *, chosen: Sequence[Step], every: Sequence[Step]) -> None:
    from segkit.pages.kernel import run_notebooks  # papermill is slow to import: bad input is told before

    run_notebooks(_plan(run, chosen=chosen, every=every), run=run, parameters=run.parameters())


def _plan(run: Run, *, chosen: Sequence[Step], every: Sequence[Step]) -> list[Step]:
    """The chosen steps, those before them that are missing, and the overview when all that it reads will be there."""
    last = max(every.index(step) for step in chosen)
    needed = missing_steps(run, steps=[step for step in every[:last] if step not in chosen])
    planned = [step for step in every if step in chosen or step in needed]
    lacking = {table for step in every if step not in planned for table in step.writes if not run.has(table)}
    made = {table for step in planned for table in step.writes}
    overview = [step for step in every if step.name == OVERVIEW and step not in planned]
    return planned + [step for step in overview if not (lacking - made) & set(required_by(step.key))]


def _begin(building: Path, *, place: Path, made_with: dict[str, Any], reuse: bool) -> Run:
    """The run to build: empty, or a copy of the good one where only some steps run again on the same inputs."""
    if reuse and (place / "run.json").is_file():
        earlier_run = load_run(place)
        if earlier_run.record().get("outcome") == "done" and earlier_run.parameters() == made_with:
            shutil.copytree(place, building, dirs_exist_ok=True)
            Run(building).update(outcome="building")
    run = open_run(building, outcome="building", **made_with)
    source = {"name": made_with["source_name"], "fingerprint": made_with["source_fingerprint"]}
    run.update(
        source=source,
        seed=made_with["seed"],
        previous=made_with["previous"] or None,
        versions=_versions(),
        commit=_commit(),
    )
    return run


def _typed(parameters: Mapping[str, Any], *, steps: Sequence[Step]) -> dict[str, Any]:
    """Parameters of -p as the notebooks declare them: known, not an option of its own, of the type of the default."""
    own = sorted(set(parameters) & set(OWN_OPTIONS))
    if own:
        option = "out" if own[0] == "run_dir" else own[0].replace("_dir", "").replace("_", "-")
        raise InputError(f"-p {own[0]}: every notebook shares it. Give it as --{option}.")
    check_names(parameters, steps=steps)
    defaults = {name: value for step in steps for name, value in step.parameters.items()}
    return {name: _as_type(value, name=name, default=defaults[name]) for name, value in parameters.items()}


def _as_type(value: Any, *, name: str, default: Any) -> Any:
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, str) and not isinstance(value, bool):
        return str(value)
    if default is not None and type(value) is not type(default):
        raise InputError(
            f"-p {name}: '{value}' is not of type {type(default).__name__}, as the default {default!r} is."
        )
    return value


def _folder(data_dir: str) -> str:
    if data_dir and not Path(data_dir).is_dir():
        raise InputError(f"--data {data_dir}: there is no such folder.")
    return str(Path(data_dir).resolve()) if data_dir else ""


def _previous(previous: str | None, *, root: Path, of: Mapping[str, Any]) -> str:
    """The path of the run to compare with, or "" for none: finished, of the same source, strictly earlier."""
    if previous == "none":
        return ""
    if previous is None:
        found = latest_good(root, before=of["as_of"], source=of["source_name"])
        return str(found) if found else ""
    run = load_run(previous)
    parameters = run.parameters()
    if run.record().get("outcome") != "done":
        raise RunError(f"--previous {previous}: this run is not finished. Give a finished one, or none.")
    if parameters.get("source_name") != of["source_name"]:
        raise RunError(
            f"--previous {previous}: it is of the source '{parameters.get('source_name')}', this run of "
            f"'{of['source_name']}'. Give a run of the same source, or none."
        )
    if parameters.get("as_of", "") >= of["as_of"]:
        raise RunError(
            f"--previous {previous}: it is as of {parameters.get('as_of')}, not before {of['as_of']}. Give an earlier one, "
            f"or none."
        )
    return str(run.path.resolve())


def _refuse_other_ids(previous: str, *, pseudonyms: str) -> None:
    """Customers are told again by their ids: a run cannot go on from one that shows them otherwise."""
    if previous and load_run(previous).parameters().get("pseudonyms", "") != pseudonyms:
        raise RunError(
            f"{previous}: the run before shows customers by other ids (--pseudonymise, or another key), so nobody "
            "could be told again. Run as it was made, or begin anew with --previous none in another --out."
        )


def _versions() -> dict[str, str]:
    found = {"python": python_version(), "segkit": __version__}
    for name in KEY_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    if not (HOME / ".git").exists():
        return None
    answer = subprocess.run(["git", "-C", str(HOME), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None
