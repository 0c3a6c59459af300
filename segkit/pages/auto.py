"""A run that acts by itself: keep the standing segments and go on with them, find them anew, or stop and have a look.

The refresh comes first, as it is cheap: everyone is placed under the segments of the last run, and the decision is made
(`07_refresh`). What it says is done, and written into the column `acted` of the log. What only such runs need is
imported where it is needed: it is slow, and every run passes here.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from segkit.data.store import Run, empty_run, load_run, open_run
from segkit.errors import InputError
from segkit.pages.steps import DECIDES, Step, standing_steps
from segkit.tables import KEEPS, needed_of_last_run

DRY_RUN = "dry-run"
MAY_DIFFER = ("source", "data_dir", "as_of", "source_fingerprint", "previous", "engine", "pilot", "overrides")
NOT_GIVEN = object()  # a parameter that may also be None
KEPT, REFITTED = "kept", "refitted"


def cannot_stand(previous: str, *, made_with: Mapping[str, Any]) -> str:
    """Why the segments of the last run cannot go on, so that they have to be found anew; "" where they can.

    Takes  path of the last run, or ""; the parameters of the new one
    """
    if not previous:
        return "there is no earlier run of this source"
    previous_run = load_run(previous)
    before = previous_run.parameters()
    names = {*before, *made_with} - set(MAY_DIFFER)
    others = sorted(name for name in names if before.get(name, NOT_GIVEN) != made_with.get(name, NOT_GIVEN))
    if others:
        return f"the last run had another {', '.join(others)}"
    missing = [name for name in needed_of_last_run(KEEPS) if not previous_run.has(name)]
    if missing:
        return f"the last run ({previous_run.path.name}) holds no {', '.join(missing)}"
    return ""


def then_what(run: Run, *, standing: Sequence[Step], every: Sequence[Step]) -> list[Step]:
    """What to run once the decision is made: the rest under the standing segments, or everything.

    Takes  run: refreshed as far as the decision; standing, every: the steps of a refreshed and of a full run

    Raises
    ------
    InputError : the data looks broken
    """
    from segkit.actions.decide import KEEP, LOOK

    row = decision_of(run)
    since, reason = row["since"], row["reason"]
    if row["decision"] == LOOK:
        raise InputError(
            f"the data looks broken, so nothing was changed, and the report of {since} stays. {reason} "
            f"Look at the feed; where the data is right after all, run without --auto."
        )
    if row["decision"] == KEEP:
        tell(f"keep the segments of {since}: {reason}")
        return list(standing[_decided_at(standing) :])
    tell(f"refit, in full, as the segments of {since} no longer fit: {reason}")
    empty_run(run)
    run.update(acted=REFITTED)
    return list(every)


def first_steps(standing: Sequence[Step]) -> list[Step]:
    """The steps of a refreshed run up to the decision."""
    return list(standing[: _decided_at(standing)])


def decision_of(run: Run) -> dict[str, Any]:
    """The decision on the run: a row of the table decisions."""
    rows = new_decisions(run)
    return rows[rows["scope"] == "run"].iloc[0].to_dict()


def new_decisions(run: Run) -> pd.DataFrame:
    """The rows that a run added to the log."""
    log = run.table("decisions")
    return log[log["as_of"] == run.parameters()["as_of"]]


def refresh(run: Run, *, every: Sequence[Step], notebooks_dir: Path | None = None) -> None:
    """Go on with the segments of the last run, decide, and do what was decided.

    Takes  a run to build; the steps of a full run

    Raises
    ------
    InputError : the data looks broken
    """
    from segkit.pages.kernel import run_notebooks

    standing = standing_steps(notebooks_dir=notebooks_dir)
    run.update(acted=KEPT)
    then = partial(then_what, run, standing=standing, every=every)
    run_notebooks(first_steps(standing), run=run, parameters=run.parameters(), then=then)


def only_say(made_with: Mapping[str, Any], *, previous: str, root: Path, notebooks_dir: Path | None = None) -> str:
    """What a run would decide and do; all that is made for it is made in a folder that is removed.

    Takes  parameters of the run; path of the last run, or ""; the folder of the runs, where overrides.yaml is
    Gives  text, a line a decision
    """
    why = cannot_stand(previous, made_with=made_with)
    if why:
        return f"A full run would be made: {why}."
    from segkit.actions.decide import KEEP, LOOK
    from segkit.pages.kernel import run_notebooks

    steps = first_steps(standing_steps(notebooks_dir=notebooks_dir))
    parent = root if root.is_dir() else Path(previous).parent  # where the list of the forgotten and overrides.yaml are
    with TemporaryDirectory(prefix=".dry-run-", dir=parent) as folder:
        run = open_run(folder, outcome="building", **made_with)
        run_notebooks(steps, run=run, parameters=run.parameters())
        rows = new_decisions(run).to_dict("records")
    does = {KEEP: "the segments would be kept, and everyone placed anew", LOOK: "nothing would be changed"}
    lines = [f"{row['scope']} {row['segment']}: {row['decision']}. {row['reason']}" for row in rows]
    return "\n".join([*lines, f"So {does.get(rows[0]['decision'], 'a full run would be made')}. Nothing was written."])


def write_pilots(run: Run, *, place: Path) -> None:
    """Write, never send, the files of the pilots that a run decided, beside the place where it will stand; `acted` says
    which. One that exists is left as it is.

    Takes  an unfinished run that is whole but for this; the folder it will have
    """
    from segkit.actions.decide_campaigns import PILOT
    from segkit.actions.kpi import main_kpi
    from segkit.actions.pilot import design_pilot
    from segkit.actions.pilot_files import write_pilot
    from segkit.customers.days import load_days

    log, asked = run.table("decisions"), new_decisions(run)
    asked = asked[asked["decision"] == PILOT]
    if asked.empty:
        return
    kpi = main_kpi(load_days(run))
    for number, segment in asked["segment"].items():
        folder = place.parent / "pilots" / "-".join([place.name, segment, kpi])
        try:
            write_pilot(design_pilot(run, segments=(segment,), kpi=kpi), folder)
            acted = f"files written to pilots/{folder.name}"
        except InputError as error:
            acted = f"no files: {error}"
        log.loc[number, "acted"] = acted
        tell(f"pilot in {segment}: {acted}")
    Run(run.path, DECIDES[-1]).write(log, "decisions")


def tell(words: str) -> None:
    """A line for whoever watches the run, beside its progress."""
    print(f"segkit: {words}", file=sys.stderr, flush=True)


def _decided_at(standing: Sequence[Step]) -> int:
    """How many steps of a refreshed run there are up to the decision."""
    return max(number for number, step in enumerate(standing) if step.name in DECIDES) + 1
