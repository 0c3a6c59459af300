"""Know the notebooks of the chain, and run one in a warm kernel."""

import ast
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from IPython import get_ipython
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm
from tqdm.notebook import tqdm as notebook_tqdm

from segkit.data.runs import Run
from segkit.errors import InputError, RunError, SegkitError
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


START_TIMEOUT = 120  # seconds a kernel may take to start on a busy machine
MEGABYTE = 2**20
# matrices here are small: threads of the linear algebra wait for each other, ten times as long on a busy machine
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
IN_LAB = "JPY_SESSION_NAME"  # JupyterLab sets it for the kernels of its notebooks; papermill does not
ENGINE = "segkit-warm"  # the name papermill knows the engine below by
KERNEL_OPTIONS = ["--HistoryManager.enabled=False", "--log-level=ERROR"]
CLEAN = "get_ipython().reset(new_session=True)"  # what one notebook defines, the next does not see


class WarmEngine(Engine):
    """A papermill engine that uses a kernel it is given, and leaves it running."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        kernel: AsyncKernelManager,
        on_cell: Callable,
        **_: Any,
    ) -> None:
        client = PapermillNotebookClient(
            nb_man, km=kernel, kernel_name=kernel_name, timeout=None, on_cell_executed=on_cell
        )
        try:
            client.execute()
        finally:
            if client.kc is not None:
                client.kc.stop_channels()


papermill_engines.register(ENGINE, WarmEngine)


def run_notebooks(
    steps: Sequence[Step],
    *,
    run: Run,
    parameters: Mapping[str, Any],
    then: Callable[[], Sequence[Step]] | None = None,
) -> None:
    """Execute notebooks in turn into a run folder: notebooks/<step>.ipynb, and their cost in run.json.

    Takes  steps in order; a run to write to; parameters, of which each notebook gets those it declares

    Parameters
    ----------
    then : says, once they are done, which further steps to run

    Raises
    ------
    InputError : a notebook raised one: its message alone
    SegkitError : a notebook failed otherwise, or the kernel died; the executed part is kept
    """
    (run.path / "notebooks").mkdir(exist_ok=True)
    given = {**parameters, "run_dir": str(run.path)}
    with _warm_kernel(cwd=steps[-1].path.parent) as kernel:
        with _progress(steps) as bar:
            _in_turn(steps, run=run, kernel=kernel, parameters=given, bar=bar)
        more = then() if then else []
        if more:
            with _progress(more) as bar:
                _in_turn(more, run=run, kernel=kernel, parameters=given, bar=bar)


def _in_turn(
    steps: Sequence[Step], *, run: Run, kernel: AsyncKernelManager, parameters: Mapping[str, Any], bar: tqdm
) -> None:
    for step in steps:
        bar.set_description(step.name)
        before = _cost(kernel)
        _execute(step, run=run, kernel=kernel, parameters=parameters, bar=bar)
        spent = _spent(before, _cost(kernel))
        run.update(steps={**run.record().get("steps", {}), step.name: spent})
        if bar.disable:  # no terminal: a line a step instead of a bar
            print(f"{step.name}  {spent['seconds']:.0f} s", file=sys.stderr, flush=True)


def input_error_names() -> set[str]:
    """The class names of the errors that a user can mend, as a notebook's output spells them."""
    family, open_classes = set(), [InputError]
    while open_classes:
        one = open_classes.pop()
        family.add(one.__name__)
        open_classes += one.__subclasses__()
    return family


def _execute(step: Step, *, run: Run, kernel: AsyncKernelManager, parameters: Mapping[str, Any], bar: tqdm) -> None:
    _clean(kernel)
    try:
        papermill.execute_notebook(
            step.path,
            run.path / "notebooks" / f"{step.name}.ipynb",
            parameters={name: value for name, value in parameters.items() if name in step.parameters},
            kernel_name="python3",
            language="python",
            engine_name=ENGINE,
            kernel=kernel,
            on_cell=lambda **_: bar.update(),
            progress_bar=False,
            request_save_on_cell_execute=False,  # a failing notebook is written all the same
            cwd=step.path.parent,
        )
    except PapermillExecutionError as error:
        message = str(error.evalue).strip()
        if error.ename in input_error_names():
            raise InputError(message) from error
        first_line = message.splitlines()[0] if message else "no message"
        raise SegkitError(f"{step.name}: {error.ename} in cell {error.cell_index + 1}: {first_line}") from error
    except DeadKernelError as error:
        raise SegkitError(
            f"{step.name}: the kernel died; most often memory ran out. Try fewer customers or days."
        ) from error


@contextmanager
def _warm_kernel(*, cwd: Path) -> Iterator[AsyncKernelManager]:
    """A kernel of this very Python, shut down at the end however it comes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segkit" / "numba"
    environment = {"NUMBA_CACHE_DIR": str(cache), **ONE_THREAD, **os.environ, "PYTHONHASHSEED": "0"}
    kernel = AsyncKernelManager(kernel_name="python3")
    kernel.kernel_spec.argv[0] = sys.executable
    start = run_sync(kernel.start_kernel)
    start(env=environment, cwd=str(cwd), extra_arguments=KERNEL_OPTIONS)
    try:
        yield kernel
    finally:
        run_sync(kernel.shutdown_kernel)(now=True)


def _clean(kernel: AsyncKernelManager) -> None:
    """Empty the namespace of a kernel that may have run another notebook."""
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_TIMEOUT)
        client.execute_interactive(CLEAN, silent=True, store_history=False, timeout=START_TIMEOUT)
    finally:
        client.stop_channels()


@contextmanager
def _progress(steps: Sequence[Step]) -> Iterator[tqdm]:
    """A bar that counts code cells: a widget in JupyterLab, else on stderr, silent where that is not a terminal."""
    notebooks = [nbformat.read(step.path, as_version=4) for step in steps]
    cells = sum(cell.cell_type == "code" for notebook in notebooks for cell in notebook.cells)
    form = "{desc:<14} {bar:30} {n_fmt}/{total_fmt} cells  {elapsed}"
    total = cells + len(steps)  # papermill injects a cell of parameters into each
    if IN_LAB in os.environ and get_ipython() is not None:
        with notebook_tqdm(total=total) as bar:
            yield bar
        return
    with tqdm(total=total, disable=None, file=sys.stderr, bar_format=form) as bar:
        yield bar


def _cost(kernel: AsyncKernelManager) -> dict[str, float]:
    """Wall and CPU seconds so far, of the kernel and its children, and its peak memory in MB (null where unknown)."""
    process = psutil.Process(kernel.provisioner.pid)
    times = process.cpu_times()
    cpu = times.user + times.system + times.children_user + times.children_system
    return {"seconds": time.perf_counter(), "cpu_seconds": cpu, "peak_memory_mb": _peak_memory(process.pid)}


def _spent(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    differences = {name: round(after[name] - before[name], 2) for name in ("seconds", "cpu_seconds")}
    return {**differences, "peak_memory_mb": after["peak_memory_mb"]}


def _peak_memory(pid: int) -> float | None:
    """The largest resident memory of a process since the last call, in MB; only Linux tells."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return None
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # starts the peak anew (proc(5))
    except OSError:
        pass  # not allowed in some containers: the peak is then that of the chain so far
    return round(peak * 1024 / MEGABYTE, 1)
