"""The file in which an analyst names needs: written with what segkit guesses, read by the next run."""

import re
from pathlib import Path

import pandas as pd
from pydantic import Field

from segkit.data.alone import refuse_customers_only
from segkit.data.io import write_bytes
from segkit.data.runs import Run
from segkit.data.yaml_models import Text, YamlModel, parse_yaml, read_utf8
from segkit.errors import InputError, RunError
from segkit.personas.naming import label
from segkit.personas.never_offer import labels_of_things

FILE_NAME = "needs.yaml"  # in the folder above a run
EXAMPLES = 6  # things that a guess is shown with
HEAD = """\
# Names of needs, for all runs in this folder. A line that begins with # is a guess of segkit: to give a need a name of
# your own, take the # away and change the name. The next run uses it, and it stays.
names:
"""


class NeedNames(YamlModel):
    """Names that an analyst gave, by need id."""

    names: dict[Text, Text] = Field({}, description="a name for each id, e.g. {N03: Afternoon tea}")


def read_need_names(path: str | Path) -> dict[str, str]:
    """Read the names of a file by need id; there are none without a file. Raises `SourceError`: not such a file."""
    file = Path(path)
    return dict(parse_yaml(read_utf8(file), NeedNames, label=file.name).names) if file.is_file() else {}


def give_names(named: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Replace the names of needs by those that an analyst gave; those of needs that are gone are ignored.

    Parameters
    ----------
    named
        name and named_by, by need.
    names
        Name by need id.

    Raises
    ------
    InputError
        Two needs would have the same name.
    """
    known = {need: name for need, name in names.items() if need in named.index}
    table = named.copy()
    table.loc[list(known), "name"] = list(known.values())
    table.loc[list(known), "named_by"] = "analyst"
    double = table["name"].str.casefold().duplicated(keep=False)
    if double.any():
        listed = ", ".join(table.index[double])
        raise InputError(
            f"names of needs: {listed} would all be called {table.loc[double, 'name'].iloc[0]!r}. "
            f"Give each need a name of its own."
        )
    return table


def write_need_names(run: Run, *, path: str | Path | None = None) -> Path:
    """Write the file of a run's needs: guesses behind a #, names that were given as they are.

    Parameters
    ----------
    run
        A finished run.
    path
        Where to write; by default next to the run. Names that are already there stay.

    Raises
    ------
    RunError
        The run has no needs.
    """
    refuse_customers_only(run, what="a file of needs")
    if not run.has("needs"):
        raise RunError(f"{run.path.name}: this run found no needs, so there is nothing to name. See 01_profile.html.")
    file = Path(path) if path else run.path.parent / FILE_NAME
    given = read_need_names(file)
    needs, things = run.table("needs"), run.table("need_things")
    labels = labels_of_things(run)
    lines = [HEAD]
    for row in needs.to_dict("records"):
        own = things[things["need"] == row["need"]].head(EXAMPLES)["thing"]
        lines.append(f"  # {', '.join(label(thing, labels=labels) for thing in own)}\n")
        name = given.pop(row["need"], None)
        lines.append(f"  {'# ' if name is None else ''}{row['need']}: {_quoted(name or row['name'])}\n")
    if given:
        lines.append("  # needs that this run no longer has\n")
        lines += [f"  {need}: {_quoted(name)}\n" for need, name in given.items()]
    write_bytes(file, "".join(lines).encode())
    return file


def _quoted(name: str) -> str:
    """Write a name as a YAML string, in quotes unless it consists of words."""
    if re.fullmatch(r"[^\W\d][\w ,&'-]*", name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
