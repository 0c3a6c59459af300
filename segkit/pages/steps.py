"""The notebooks of the chain: where they are, in which order they run, what each declares."""

import ast
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from segkit.errors import InputError, RunError
from segkit.tables import STANDING, read_by, written_by

OVERVIEW = "00_overview"  # runs last and is rendered as index.html
DECIDES = ("06_measure", "07_refresh")  # what the decision on the last run's segments reads, and the decision
NOTEBOOK_NAME = re.compile(r"\d{2}_\w+")
HOME = Path(__file__).resolve().parents[2]  # the repository: segkit is installed in place


@dataclass(frozen=True)
class Step:
    """One notebook of the chain.

    Parameters
    ----------
    name : such as 03_segments; path : the .ipynb file; title : its first heading
    parameters : name -> default, as the parameters cell declares them
    """

    name: str
    path: Path
    title: str
    parameters: dict[str, Any]

    @property
    def key(self) -> str:
        """What `segkit.tables` calls it: a notebook of the folder standing/ goes with that folder."""
        return f"{STANDING}/{self.name}" if self.path.parent.name == STANDING else self.name

    @property
    def reads(self) -> tuple[str, ...]:
        """Tables that it reads and does not write itself."""
        return tuple(table.name for table in read_by(self.key) if self.key not in table.writers)

    @property
    def writes(self) -> tuple[str, ...]:
        """Tables that it writes; those that not every run holds are among them."""
        return tuple(table.name for table in written_by(self.key))

    @property
    def page(self) -> str:
        """The file name of the rendered page."""
        return "index.html" if self.name == OVERVIEW else f"{self.name}.html"

    @property
    def label(self) -> str:
        """The short name for links and progress: 03_segments is Segments."""
        return self.name.split("_", 1)[1].replace("_", " ").capitalize()


def find_steps(*, notebooks_dir: Path | None = None) -> list[Step]:
    """The notebooks of a folder in the order they run: by number, the overview last.

    Takes  a folder; None is the current one when it holds the chain (JupyterLab), else the repository's

    Raises
    ------
    RunError : the folder holds no notebook of the chain
    """
    folder = notebooks_dir or _default_folder()
    names = sorted(path.stem for path in folder.glob("*.ipynb") if NOTEBOOK_NAME.fullmatch(path.stem))
    if not names:
        raise RunError(f"{folder}: no notebooks such as 01_profile.ipynb in it. Run from a clone of the repository.")
    ordered = [name for name in names if name != OVERVIEW] + [name for name in names if name == OVERVIEW]
    return [_read_step(folder / f"{name}.ipynb") for name in ordered]


def standing_steps(*, notebooks_dir: Path | None = None) -> list[Step]:
    """The notebooks that run where the segments of the last run stand, in their order.

    Those of the folder standing/ come first, each in place of the one of its name and all before it; then what the
    decision reads, and the decision; what is written only where the segments are kept comes after it.

    Raises
    ------
    RunError : there are no such notebooks
    """
    every = find_steps(notebooks_dir=notebooks_dir)
    folder = every[0].path.parent / STANDING
    own = [_read_step(path) for path in sorted(folder.glob("*.ipynb")) if NOTEBOOK_NAME.fullmatch(path.stem)]
    if not own:
        raise RunError(f"{folder}: no notebooks there that go on with the last run. Run without --auto and --dry-run.")
    after = [step for step in every if step.name > own[-1].name or step.name == OVERVIEW]
    first = [step for step in after if step.name in DECIDES]
    return own + first + [step for step in after if step not in first]


def choose_steps(steps: Sequence[Step], chosen: str | None) -> list[Step]:
    """The steps a choice names: "03", "01-04", "01,03"; None is all of them.

    Raises
    ------
    InputError : the choice names no step, or is not written so
    """
    if not chosen:
        return list(steps)
    numbers: set[str] = set()
    for part in chosen.split(","):
        ends = re.fullmatch(r"\s*(\d{1,2})(?:\s*-\s*(\d{1,2}))?\s*", part)
        if not ends:
            raise InputError(f"--steps {chosen}: not of the form 01-04, 03 or 01,03.")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        numbers |= {f"{number:02d}" for number in range(first, last + 1)}
    found = [step for step in steps if step.name[:2] in numbers]
    if not found:
        raise InputError(f"--steps {chosen}: no such step. There are {', '.join(step.name for step in steps)}.")
    return found


def check_names(names: Iterable[str], *, steps: Sequence[Step]) -> None:
    """Refuse a parameter that no notebook declares: papermill alone would only warn and use the default.

    Raises
    ------
    InputError : names the parameter and the nearest ones that exist
    """
    declared = sorted({name for step in steps for name in step.parameters})
    for name in names:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(declared)}."
            raise InputError(f"-p {name}: no notebook declares this parameter. {hint}")


def _default_folder() -> Path:
    here = Path.cwd()
    return here if any(here.glob("01_*.ipynb")) else HOME / "notebooks"


@cache
def _read_step(path: Path) -> Step:
    """A notebook as the JSON it is: every kernel reads all of them, and nbformat takes seconds to import."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    heading = re.search(r"^# +(.+)$", "\n".join(texts), flags=re.MULTILINE)
    return Step(
        name=path.stem,
        path=path,
        title=heading[1].strip() if heading else path.stem,
        parameters=_parameters(cells),
    )


def _parameters(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Name -> default of the cell tagged parameters: one literal per line (STYLE, Notebooks 2)."""
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", []):
            body = ast.parse("".join(cell["source"])).body
            assignments = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign)]
            return {_target(node): ast.literal_eval(node.value) for node in assignments if node.value is not None}
    return {}


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return ast.unparse(target)
