"""Remove customers from the folder of a pilot; what was drawn of the others stays as it was drawn."""

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from segkit.actions.pilot_files import TARGETS, UNITS
from segkit.actions.targets import PILOT_FILES
from segkit.data.plain import read_json, write_bytes, write_json
from segkit.data.purge import customers_in, without

FILES = (*PILOT_FILES, TARGETS, UNITS)


def in_pilot(folder: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers who are in a file of a pilot."""
    return set().union(*(customers_in(folder / name, ids) for name in FILES if (folder / name).is_file()))


def purge_pilot(folder: Path, ids: Collection[str]) -> int:
    """Remove customers from a pilot, and note in pilot.json how many were forgotten since the draw.

    Takes  the folder of a pilot
    Gives  how many were found

    The hash of the units is renewed only where they were as they were drawn: a design that somebody changed stays one
    that no read-out takes. What was begun and broken off can be done again.
    """
    facts = read_json(folder / "pilot.json")
    theirs = in_pilot(folder, ids)
    noted = facts.get("forgetting", {"customers": 0, "units": ""})
    if not theirs and not noted["customers"]:
        return 0
    files = {name: without(folder / name, ids) for name in FILES if (folder / name).is_file()}
    hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
    units = folder / UNITS
    drawn = units.is_file() and sha256(units.read_bytes()).hexdigest() in (facts["files"].get(UNITS), noted["units"])
    noted = {"customers": max(noted["customers"], len(theirs)), "units": hashes[UNITS] if drawn else ""}
    write_json(folder / "pilot.json", {**facts, "forgetting": noted})
    for name, content in files.items():
        write_bytes(folder / name, content)
    if not drawn:
        hashes[UNITS] = facts["files"].get(UNITS, "")
    count = facts.get("forgotten", 0) + noted["customers"]
    done = {name: value for name, value in facts.items() if name != "forgetting"}
    write_json(folder / "pilot.json", {**done, "files": {**facts["files"], **hashes}, "forgotten": count})
    return noted["customers"]
