"""Execute notebooks by papermill in one warm kernel: starting a kernel and importing cost more than most notebooks."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

from segkit.data.store import Run
from segkit.errors import InputError, SegkitError
from segkit.pages.steps import Step

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
