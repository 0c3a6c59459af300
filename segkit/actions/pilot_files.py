"""The folder of a pilot: treatment.csv, control.csv, targets.csv, the frozen units, and pilot.json with the design.

Written beside its place and swapped in when whole. A design that exists is never written over: what was promised
before the outcome must be what is read after it.
"""

import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from segkit.actions.holdout import CONTROL, TREATMENT
from segkit.actions.pilot import FORM, Pilot
from segkit.actions.targets import read_ids
from segkit.data.aside import build_aside, swap_in
from segkit.data.plain import plain, read_json, write_bytes, write_json
from segkit.data.spreadsheet import as_given, harmless, quoting_of
from segkit.data.store import Run, load_run
from segkit.errors import InputError, RunError

UNITS, TARGETS = "units.parquet", "targets.csv"


def write_pilot(pilot: Pilot, out: str | Path) -> Path:
    """Keep a design in a folder of its own; gives the folder.

    Takes  a design; a folder that is missing or empty

    Raises
    ------
    RunError : the folder holds something
    """
    out = Path(out)
    if (out / "pilot.json").is_file():
        raise RunError(f"{out}: a pilot is frozen there, and a design is never written over. Give another --out.")
    if out.is_dir() and any(out.iterdir()):
        raise RunError(f"{out}: the folder holds something else. Give another --out.")
    with build_aside(out) as building:
        hashes = {}
        for name, content in _files(pilot).items():
            write_bytes(building / name, content)
            hashes[name] = sha256(content).hexdigest()
        write_json(building / "pilot.json", as_plain({**pilot.facts, "files": hashes}))
        swap_in(building, out)
    return out


def load_pilot(folder: str | Path) -> Pilot:
    """A pilot as it was frozen, held against the files that are there now.

    Raises
    ------
    RunError : not a pilot, or its frozen units were changed
    InputError : treatment.csv and control.csv are not what was drawn
    """
    folder = Path(folder)
    if not (folder / "pilot.json").is_file():
        raise RunError(f"{folder}: no pilot.json there, so it is no pilot. `segkit pilot` makes one.")
    facts = read_json(folder / "pilot.json")
    if facts.get("form") != FORM or not (folder / UNITS).is_file():
        raise RunError(f"{folder}: this pilot was made by another version, or its {UNITS} is missing. Make a new one.")
    content = (folder / UNITS).read_bytes()
    if sha256(content).hexdigest() != facts["files"][UNITS]:
        raise RunError(f"{folder / UNITS}: it was changed after the draw. A design that was changed proves nothing.")
    units = pd.read_parquet(io.BytesIO(content)).set_index("customer_id")
    refuse_altered(folder, units=units)
    targets = None
    if (folder / TARGETS).is_file():
        targets = pd.read_csv(folder / TARGETS, converters={"customer_id": as_given})
    return Pilot(facts=facts, units=units, targets=pd.DataFrame() if targets is None else targets)


def default_place(run: Run, *, segments: tuple[str, ...], kpi: str) -> Path:
    """Where a pilot goes when nothing is said: pilots/ beside the run, as a finished run is read-only."""
    return run.path.resolve().parent / "pilots" / "-".join([run.path.resolve().name, *sorted(segments), kpi])


def find_pilot(run_dir: str | Path, *, pilot: str = "") -> Path:
    """The pilot meant: the folder given, the run's folder where it is a pilot itself, or the only one drawn from the
    run.

    Raises
    ------
    RunError : none was drawn from this run, or several
    """
    run_dir = Path(run_dir)
    if not pilot and (run_dir / "pilot.json").is_file():
        return run_dir
    run = load_run(run_dir)
    drawn = (
        sha256((run.path / "tables" / "assignments.parquet").read_bytes()).hexdigest() if run.has("assignments") else ""
    )
    places = (
        [Path(pilot)]
        if pilot
        else sorted(p.parent for p in (run.path.resolve().parent / "pilots").glob("*/pilot.json"))
    )
    if pilot and not (places[0] / "pilot.json").is_file():
        raise RunError(f"--pilot {pilot}: no pilot.json there, so it is no pilot. `segkit pilot` makes one.")
    drawn = {
        drawn,
        *run.record().get("forgotten", {}).get("assignments", []),
    }  # as they were before some were forgotten
    mine = [place for place in places if read_json(place / "pilot.json")["run"]["assignments"] in drawn]
    if pilot and not mine:
        raise RunError(
            f"--pilot {pilot}: it was drawn from another run than {run_dir}. Give the run it was drawn from."
        )
    if len(mine) != 1:
        there = ", ".join(place.name for place in mine) or "none"
        raise RunError(f"{run_dir}: the pilots drawn from this run are: {there}. Say which with --pilot DIR.")
    return mine[0]


def refuse_altered(folder: Path, *, units: pd.DataFrame) -> None:
    """Stop when the files of a pilot no longer say what was drawn.

    Raises
    ------
    InputError : no treated, no control, a customer in both, a treatment that depends on the segment, or others than
    drawn
    """
    now = {}
    for arm in (TREATMENT, CONTROL):
        path = folder / f"{arm}.csv"
        if not path.is_file():
            raise InputError(f"{path}: there is no {arm} file. Put back the one that was drawn.")
        now[arm] = pd.Index(read_ids(path)["customer_id"])
        if now[arm].empty:
            who = (
                "treated, so nothing was tried" if arm == TREATMENT else "held out, so there is nothing to compare with"
            )
            raise InputError(f"{path.name}: no customer is {who}. Put back the file that was drawn.")
    both = now[TREATMENT].intersection(now[CONTROL]).sort_values()
    if len(both):
        raise InputError(
            f"treatment.csv and control.csv: {len(both)} customers are in both, '{both[0]}' first. Put back the "
            f"drawn files."
        )
    arm = pd.concat([pd.Series(name, index=ids.unique(), dtype=object) for name, ids in now.items()])
    _refuse_other_counts(arm, units=units)
    moved = int((arm.reindex(units.index) != units["arm"]).sum()) + int((~arm.index.isin(units.index)).sum())
    if moved:
        raise InputError(
            f"treatment.csv, control.csv: {moved} customers are not in the arm they were drawn for. Read a "
            f"pilot out by its "
            f"draw, whoever was reached in the end: put back the files as they were written."
        )


def as_plain(value: Any) -> Any:
    """What JSON can hold, at any depth: floats rounded, what is not a number null."""
    if isinstance(value, dict):
        return {str(name): as_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(one) for one in value]
    return plain(value)


def _refuse_other_counts(arm: pd.Series, *, units: pd.DataFrame) -> None:
    """Treated and control by stratum must be as drawn: a treatment that depends on the segment is no experiment."""
    stratum = units["stratum"].reindex(arm.index)
    for name, drawn in units.groupby("stratum")["arm"]:
        in_stratum = arm[stratum == name]
        counts = [(int((in_stratum == one).sum()), int((drawn == one).sum())) for one in (TREATMENT, CONTROL)]
        if any(now != then for now, then in counts):
            raise InputError(
                f"treatment.csv, control.csv: in stratum {name} {counts[0][0]} are treated and {counts[1][0]} "
                f"held out; drawn "
                f"were {counts[0][1]} and {counts[1][1]}. Treatment now depends on the segment, so a difference proves "
                f"nothing: put back the files as they were written."
            )


def _files(pilot: Pilot) -> dict[str, bytes]:
    """The tables of a pilot as bytes, sorted by customer."""
    units = pilot.units.rename_axis("customer_id").reset_index().sort_values("customer_id", ignore_index=True)
    files = {}
    for arm in (TREATMENT, CONTROL):
        rows = units.loc[units["arm"] == arm, ["customer_id", "segment"]]
        files[f"{arm}.csv"] = _csv(rows)
    files[TARGETS] = _csv(pilot.targets)
    buffer = io.BytesIO()
    units.to_parquet(buffer, index=False, compression="zstd")
    files[UNITS] = buffer.getvalue()
    return files


def _csv(rows: pd.DataFrame) -> bytes:
    """A table that people open in a spreadsheet."""
    words = rows.assign(customer_id=rows["customer_id"].map(harmless)) if "customer_id" in rows else rows
    return words.to_csv(index=False, lineterminator="\n", quoting=quoting_of(words)).encode("utf-8")
