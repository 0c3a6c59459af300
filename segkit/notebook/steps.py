"""The notebooks of the chain: where they are, what they are run with, and their execution in one kernel."""

import ast
import asyncio
import difflib
import json
import math
import os
import re
import shutil
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
from jupyter_core.utils import ensure_event_loop, run_sync
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm
from tqdm.notebook import tqdm as notebook_tqdm

from segkit.data import sources
from segkit.data.alone import CUSTOMERS_ONLY
from segkit.data.paths import HOME, find_path
from segkit.data.runs import Run
from segkit.errors import InputError, RunError, SegkitError
from segkit.period import Period
from segkit.tables import notebooks, read_by, written_by

SEGMENTS = "03_segments"
OVERVIEW = "00_overview"  # runs last, rendered as index.html
CUSTOMERS = "00_customers"  # the only notebook of a run on a table of customers alone, rendered as index.html
DECIDES = ("06_measure", "07_refresh")  # 07 decides on the segments of the last run and reads 06
KEEP = "keep_segments"  # parameter of the notebooks up to the segments
NOTEBOOK_NAME = re.compile(r"\d{2}_\w+")


@dataclass(frozen=True)
class Step:
    """One notebook of the chain.

    Parameters
    ----------
    name
        Such as ``03_segments``.
    path
        The ``.ipynb`` file.
    title
        Its first heading.
    parameters
        Name -> default, as declared in the parameters cell.
    """

    name: str
    path: Path
    title: str
    parameters: dict[str, Any]

    @property
    def reads(self) -> tuple[str, ...]:
        """Tables that it reads from other notebooks."""
        return tuple(table.name for table in read_by(self.name) if self.name != table.writers[0])

    @property
    def writes(self) -> tuple[str, ...]:
        """Tables that it writes, optional ones included."""
        return tuple(table.name for table in written_by(self.name))

    @property
    def page(self) -> str:
        """File name of the rendered page."""
        return "index.html" if self.name in (OVERVIEW, CUSTOMERS) else f"{self.name}.html"

    @property
    def label(self) -> str:
        """Short name for links: ``03_segments`` is "Segments"."""
        return self.name.split("_", 1)[1].replace("_", " ").capitalize()


def find_steps(*, notebooks_dir: Path | None = None, customers_only: bool = False) -> list[Step]:
    """Find the notebooks of a folder in the order they run: as ``tables.yaml`` declares, others before the overview.

    Parameters
    ----------
    notebooks_dir
        None is the current folder if it contains the chain (as in JupyterLab), otherwise that of the repository.
    customers_only
        Find the one notebook for a table of customers alone instead.

    Raises
    ------
    RunError
        The folder contains no notebook of the chain.
    """
    folder = notebooks_dir or _default_folder()
    found = sorted(path.stem for path in folder.glob("*.ipynb") if NOTEBOOK_NAME.fullmatch(path.stem))
    names = [name for name in found if (name == CUSTOMERS) == customers_only]
    if not names:
        raise RunError(
            f"{folder}: no notebooks such as 01_profile.ipynb found. Run segkit from a clone of its repository."
        )
    place = {name: number for number, name in enumerate(notebooks())}
    ordered = sorted(names, key=lambda name: place.get(name, place[OVERVIEW] - 0.5))
    return [_read_step(folder / f"{name}.ipynb") for name in ordered]


def kept_order(steps: Sequence[Step]) -> list[Step]:
    """Order the steps of a run that keeps the segments of the last one.

    Those that lead to the decision come right after the segments; the others run only if the segments are kept.

    Raises
    ------
    RunError
        None of the notebooks decides.
    """
    first = [step for step in steps if step.name in DECIDES]
    if not first:
        raise RunError(f"{steps[0].path.parent}: no {' or '.join(DECIDES)} for use with --auto. Run without it.")
    leading = [step for step in steps if OVERVIEW < step.name <= SEGMENTS]
    return leading + first + [step for step in steps if step not in (*leading, *first)]


def choose_steps(steps: Sequence[Step], chosen: str | None) -> list[Step]:
    """Choose steps by number: "03", "01-04" or "01,03"; None is all of them.

    Raises
    ------
    InputError
        The choice is not of this form, or there is no such step.
    """
    if not chosen:
        return list(steps)
    numbers: set[str] = set()
    for part in chosen.split(","):
        ends = re.fullmatch(r"\s*(\d{1,2})(?:\s*-\s*(\d{1,2}))?\s*", part)
        if not ends:
            raise InputError(f"--steps {chosen}: not of the form 01-04, 03 or 01,03. Give the numbers of notebooks.")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        numbers |= {f"{number:02d}" for number in range(first, last + 1)}
    found = [step for step in steps if step.name[:2] in numbers]
    if not found:
        raise InputError(f"--steps {chosen}: no such step. Choose from {', '.join(step.name for step in steps)}.")
    return found


def check_names(names: Iterable[str], *, steps: Sequence[Step]) -> None:
    """Refuse a parameter that no notebook declares; papermill itself only warns and uses the default.

    Raises
    ------
    InputError
        A parameter is not declared; the message names similar ones.
    """
    declared = sorted({name for step in steps for name in step.parameters})
    for name in names:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Choose from {', '.join(declared)}."
            raise InputError(f"-p {name}: no notebook declares this parameter. {hint}")


def _default_folder() -> Path:
    here = Path.cwd()
    return here if any(here.glob("01_*.ipynb")) else HOME / "notebooks"


@cache
def _read_step(path: Path) -> Step:
    """Read a notebook as JSON: every kernel reads all of them, and nbformat takes seconds to import."""
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
    """Read name -> default from the cell tagged ``parameters``, which has one literal per line."""
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", []):
            body = ast.parse("".join(cell["source"])).body
            assignments = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign)]
            return {_target(node): ast.literal_eval(node.value) for node in assignments if node.value is not None}
    return {}


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return ast.unparse(target)


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
    others |= {CUSTOMERS_ONLY: True} if opened.customers_only else {}
    con = sources.connect()
    day = as_of or sources.default_as_of(opened, con=con)
    period = Period.parse(day, lookback_days=lookback_days, horizon_days=horizon_days)
    sources.refuse_as_of(opened, con=con, period=period)
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


OWN_OPTIONS = ("source", "data_dir", "as_of", "lookback_days", "horizon_days", "seed", "previous", "run_dir", "engine")


def convert_parameters(parameters: Mapping[str, Any], *, steps: Sequence[Step]) -> dict[str, Any]:
    """Check the parameters of ``-p`` against the notebooks and convert each to the type of its default."""
    own = sorted(set(parameters) & set(OWN_OPTIONS))
    if own:
        option = "out" if own[0] == "run_dir" else own[0].replace("_dir", "").replace("_", "-")
        raise InputError(f"-p {own[0]}: all notebooks share this parameter. Give it as --{option}.")
    if KEEP in parameters:
        raise InputError(f"-p {KEEP}: segkit run decides this by itself. Give --auto instead.")
    check_names(parameters, steps=steps)
    defaults = {name: value for step in steps for name, value in step.parameters.items()}
    return {name: _convert_value(value, name=name, default=defaults[name]) for name, value in parameters.items()}


def _convert_value(value: Any, *, name: str, default: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"-p {name}: '{value}' is not a finite number. Give a value like the default, {default!r}.")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, str) and not isinstance(value, bool):
        return str(value)
    if default is not None and type(value) is not type(default):
        raise InputError(
            f"-p {name}: '{value}' is not of type {type(default).__name__}. Give a value like the default, {default!r}."
        )
    return value


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
        wrote += [table.name for table in written_by(step.name) if wrote and not table.optional]
        return bool(wrote) and all(run.has(table) for table in wrote)
    return all(run.has(table) for table in wrote)


START_TIMEOUT = 120  # seconds for a kernel to start on a busy machine, and for code outside notebooks
MEGABYTE = 2**20
# with small matrices, threads of linear algebra mostly wait for each other: ten times slower on a busy machine;
# and their number changes the last digits of sums
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")
IN_LAB = "JPY_SESSION_NAME"  # set by JupyterLab for its kernels, not by papermill
ENGINE = "segkit-warm"  # name of the papermill engine below
KERNEL_OPTIONS = ["--HistoryManager.enabled=False", "--log-level=ERROR"]
# the next notebook starts without variables; what is loaded by now stays, so the collector need not look at it again
CLEAN = (
    "get_ipython().reset(new_session=True)\n"
    "import gc; gc.collect(); gc.freeze(); gc.set_threshold(10_000, 20, 20); del gc"
)


class WarmEngine(Engine):
    """A papermill engine that uses a running kernel and does not stop it."""

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
        """Execute a notebook in the given kernel."""
        client = PapermillNotebookClient(
            nb_man, km=kernel, kernel_name=kernel_name, timeout=None, on_cell_executed=on_cell
        )
        try:
            client.execute()
        except KeyboardInterrupt:
            _cancel_tasks()
            raise
        finally:
            if client.kc is not None:
                client.kc.stop_channels()


def _cancel_tasks() -> None:
    """End what an interrupted notebook left waiting; it would report the end of its kernel as an error."""
    loop = ensure_event_loop()
    if loop.is_running():  # of JupyterLab, which goes on
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


papermill_engines.register(ENGINE, WarmEngine)


def run_notebooks(
    steps: Sequence[Step],
    *,
    run: Run,
    parameters: Mapping[str, Any],
    then: Callable[[], Sequence[Step]] | None = None,
    last: str = "",
) -> bool:
    """Execute notebooks in turn; the copies go to the folder ``notebooks`` of the run, their cost to ``run.json``.

    Parameters
    ----------
    steps
        In the order they run.
    run
        The run to write to.
    parameters
        Each notebook receives those it declares.
    then
        Called when all steps are done; returns the steps to run next.
    last
        Code that the kernel runs at the end, as it has loaded by then what the code needs.

    Returns
    -------
    bool
        Whether it ran the last code without an error.

    Raises
    ------
    InputError
        A notebook raised it; the message is passed on unchanged.
    SegkitError
        A notebook failed for another reason, or the kernel died; the executed part remains in the run.
    """
    (run.path / "notebooks").mkdir(exist_ok=True)
    given = {**parameters, "run_dir": str(run.path)}
    with _warm_kernel(cwd=steps[-1].path.parent) as kernel:
        with _progress(steps) as bar:
            _execute_all(steps, run=run, kernel=kernel, parameters=given, bar=bar)
        more = then() if then else []
        if more:
            with _progress(more) as bar:
                _execute_all(more, run=run, kernel=kernel, parameters=given, bar=bar)
        try:
            return bool(last) and _run_code(kernel, last)
        except (RuntimeError, TimeoutError):  # the kernel died or hangs, and the notebooks are done
            return False


def _execute_all(
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
    """List the class names of the errors that a user can fix, as they appear in the output of a notebook."""
    names, classes = set(), [InputError]
    while classes:
        found = classes.pop()
        names.add(found.__name__)
        classes += found.__subclasses__()
    return names


def _execute(step: Step, *, run: Run, kernel: AsyncKernelManager, parameters: Mapping[str, Any], bar: tqdm) -> None:
    _run_code(kernel, CLEAN)
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
            request_save_on_cell_execute=False,  # a failed notebook is still written at the end
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
            f"{step.name}: the kernel died, most often because memory ran out. Use fewer customers or days."
        ) from error


def kernel_environment() -> dict[str, str]:
    """Return the environment of a kernel: that of this process, but for what changes results."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segkit" / "numba"
    return {"NUMBA_CACHE_DIR": str(cache), **os.environ, **ONE_THREAD, "PYTHONHASHSEED": "0"}


@contextmanager
def _warm_kernel(*, cwd: Path) -> Iterator[AsyncKernelManager]:
    """Start a kernel of the current Python and shut it down at the end.

    Its connection file is in a folder of this process, where the next run removes it if this one is killed.
    """
    folder = sources.own_folder()
    folder.mkdir(mode=0o700)
    try:
        kernel = AsyncKernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
        kernel.kernel_spec.argv[0] = sys.executable
        try:
            start = run_sync(kernel.start_kernel)
            start(env=kernel_environment(), cwd=str(cwd), extra_arguments=KERNEL_OPTIONS)
            yield kernel
        finally:
            if kernel.has_kernel:
                run_sync(kernel.shutdown_kernel)(now=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_code(kernel: AsyncKernelManager, code: str) -> bool:
    """Run code outside any notebook; return whether it ended without an error."""
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_TIMEOUT)
        options = {"silent": True, "store_history": False, "timeout": START_TIMEOUT}
        reply = client.execute_interactive(code, **options, output_hook=lambda message: None)
        return reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()


@contextmanager
def _progress(steps: Sequence[Step]) -> Iterator[tqdm]:
    """Show a progress bar of code cells: a widget in JupyterLab, otherwise on stderr if that is a terminal."""
    notebooks = [nbformat.read(step.path, as_version=4) for step in steps]
    cells = sum(cell.cell_type == "code" for notebook in notebooks for cell in notebook.cells)
    form = "{desc:<14} {bar:30} {n_fmt}/{total_fmt} cells  {elapsed}"
    total = cells + len(steps)  # papermill adds a cell of parameters to each
    if IN_LAB in os.environ and get_ipython() is not None:
        with notebook_tqdm(total=total) as bar:
            yield bar
        return
    with tqdm(total=total, disable=None, file=sys.stderr, bar_format=form) as bar:
        yield bar


def _cost(kernel: AsyncKernelManager) -> dict[str, float]:
    """Measure wall and CPU seconds of the kernel and its children, and its peak memory in MB (None if unknown)."""
    process = psutil.Process(kernel.provisioner.pid)
    times = process.cpu_times()
    cpu = times.user + times.system + times.children_user + times.children_system
    return {"seconds": time.perf_counter(), "cpu_seconds": cpu, "peak_memory_mb": _peak_memory(process.pid)}


def _spent(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    differences = {name: round(after[name] - before[name], 2) for name in ("seconds", "cpu_seconds")}
    return {**differences, "peak_memory_mb": after["peak_memory_mb"]}


def _peak_memory(pid: int) -> float | None:
    """Read the peak resident memory of a process since the last call, in MB; only on Linux."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return None
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the peak (proc(5))
    except OSError:
        pass  # not allowed in some containers: the peak then counts from the start of the chain
    return round(peak * 1024 / MEGABYTE, 1)
