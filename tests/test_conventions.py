"""The conventions of the house, as tests: floors, signatures, docstrings, sizes, and the shape of notebooks."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import nbformat
import papermill
import pytest

from segkit.notebook.steps import CUSTOMERS, find_steps

HOME = Path(__file__).parents[1]
MODULES = sorted((HOME / "segkit").rglob("*.py"))
NOTEBOOKS = sorted((HOME / "notebooks").glob("**/[0-9][0-9]_*.ipynb"))
FLOORS = {  # a part of the package imports its own floor and those below; all else is the ground floor
    "data": 1,
    "customers": 2,
    "segments": 3,
    "experiments": 4,
    "personas": 5,
    "forecast": 5,
    "refresh": 6,
    "export": 7,
    "live": 7,
    "reports": 8,
    "assist": 9,
    "notebook": 10,
    "erasure": 10,
    "cli": 11,
    "__main__": 12,
}
SHARED = {"source", "as_of", "lookback_days", "horizon_days", "seed", "run_dir", "data_dir"}
MOST_LINES = 600
MOST_BODY = 40  # lines of a function without its docstring; about 25 is the aim
MOST_CELLS, MOST_CELL_LINES = 32, 15
FEWEST_WORDS = 7  # of text for each line of code
MOST_IMPORTS = 6
MOST_MEDIAN_LINES = 4  # of a code cell
WRITING = {"save", "write", "record_metrics", "update"}  # calls that show nothing
LOOK_AGAIN = "change this and look again"
FORBIDDEN = (
    "np.random.seed",
    "date.today(",
    "datetime.now(",
    "pickle.load",
    "joblib.load",
    "allow_pickle=True",
)


def _name(path: Path) -> str:
    return str(path.relative_to(HOME))


def _functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def _working_lines(source: str) -> list[str]:
    """The lines of a cell without blank ones and imports, which the setup cell holds all of."""
    return [line for line in source.splitlines() if line.strip() and not line.startswith(("import ", "from "))]


def _floor(module: str) -> int:
    part = module.split(".")[1] if "." in module else ""
    return FLOORS.get(part, 0)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_is_short_described_and_stands_on_lower_floors(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    module = ".".join(path.relative_to(HOME).with_suffix("").parts)
    assert ast.get_docstring(tree), "a module says in a docstring what it is for"
    assert len(text.splitlines()) <= MOST_LINES, "split the module by idea"
    assert not [word for word in FORBIDDEN if word in text]
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{one.name}" for one in node.names if node.module == "segkit")}
    above = [name for name in imported if name.startswith("segkit.") and _floor(name) > _floor(module)]
    assert not above, f"{module} imports from floors above its own"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_options_are_keyword_only_and_typed(path: Path) -> None:
    for function in _functions(path):
        arguments = function.args
        assert not arguments.defaults, f"{function.name}: a parameter with a default is keyword-only"
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        bare = [one.arg for one in named if one.annotation is None and one.arg not in ("self", "cls")]
        assert not bare and function.returns is not None, f"{function.name}: types on every signature"
        first = function.body[1:] if ast.get_docstring(function) else function.body
        lines = first[-1].end_lineno - first[0].lineno + 1 if first else 0
        assert lines <= MOST_BODY, f"{function.name}: {lines} lines; move parts to helpers below it"


def test_scripts_and_data_files_are_packaged() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"segkit": "segkit.cli:main"}
    endings = {pattern.rsplit(".", 1)[-1] for pattern in project["tool"]["setuptools"]["package-data"]["segkit"]}
    held = {path.suffix[1:] for path in (HOME / "segkit").rglob("*") if path.is_file()} - {"py", "pyc"}
    assert held <= endings


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
def test_notebook_is_short_and_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lines = [len(_working_lines(cell.source)) for cell in code]
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert len(notebook.cells) <= MOST_CELLS
    assert max(lines) <= MOST_CELL_LINES
    assert not [cell for cell in code if cell.outputs or cell.execution_count], "outputs are stripped: run nbstripout"
    tree = ast.parse("\n".join(cell.source for cell in code if not cell.source.startswith("%")))
    work = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.While | ast.Lambda)
    ]
    assert not work, "work belongs in segkit, with a test"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
def test_notebook_explains_more_than_it_computes(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = [_code_lines(cell.source) for cell in cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell]
    assert len(re.findall(r"\w[\w'-]*", text)) >= FEWEST_WORDS * len(lines), "explain more, or compute less"
    assert len([line for line in lines if line.startswith(("import ", "from "))]) <= MOST_IMPORTS
    assert median(len(cell) for cell in code) <= MOST_MEDIAN_LINES, "split the cells, or move work to segkit"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
def test_each_section_of_a_notebook_ends_in_something_shown(path: Path) -> None:
    for title, code in _sections(nbformat.read(path, as_version=4).cells):
        if not code:
            assert title.startswith("Limits"), f"{title}: a section shows something"
            continue
        last = ast.parse(code[-1]).body[-1]
        assert isinstance(last, ast.Expr), f"{title}: the last line is a result to look at"
        called = last.value.func if isinstance(last.value, ast.Call) else None
        assert getattr(called, "attr", "") not in WRITING, f"{title}: nothing is shown after writing"


@pytest.mark.parametrize("path", [one for one in NOTEBOOKS if re.match(r"0[1-7]_", one.name)], ids=_name)
def test_notebook_invites_the_reader_to_change_something(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert len([cell for cell in cells if LOOK_AGAIN in cell.source.lower()]) >= 2


def _code_lines(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]


def _sections(cells: list[nbformat.NotebookNode]) -> list[tuple[str, list[str]]]:
    """The title of each H2 with the code under it."""
    found: list[tuple[str, list[str]]] = []
    for cell in cells:
        if cell.cell_type == "markdown" and (title := re.search(r"^## +(.+)$", cell.source, flags=re.MULTILINE)):
            found.append((title[1], []))
        elif cell.cell_type == "code" and found:
            found[-1][1].append(cell.source)
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
def test_notebook_parameters_are_plain_and_papermill_sees_each(path: Path) -> None:
    steps = find_steps(notebooks_dir=path.parent, customers_only=path.stem == CUSTOMERS)
    step = next(one for one in steps if one.path == path)
    seen = papermill.inspect_notebook(path)
    assert set(step.parameters) >= SHARED
    assert set(seen) == set(step.parameters), "papermill sees every parameter"
    assert all(parameter["help"] for parameter in seen.values()), "each parameter has a trailing comment as help"
    assert all(type(value) in (int, float, str, bool, list) for value in step.parameters.values())
    assert (step.parameters["run_dir"], step.parameters["lookback_days"], step.parameters["horizon_days"]) == (
        "reports/lab",
        182,
        91,
    )


def test_files_are_small_and_hold_no_address_of_this_machine() -> None:
    kept = [
        path for folder in ("segkit", "notebooks", "tests") for path in (HOME / folder).rglob("*") if path.is_file()
    ]
    source = [path for path in kept if "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts]
    assert not [_name(path) for path in source if path.stat().st_size > 500_000]
    assert not [_name(path) for path in source if str(HOME) in path.read_text(encoding="utf-8", errors="ignore")]
