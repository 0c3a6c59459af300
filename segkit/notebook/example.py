"""A small made-up run, for examples and for a first look where there is no run yet."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from segkit.data.runs import Run, open_run
from segkit.data.synth import write_scenario

CUSTOMERS = 260
SEGMENTS = (4, 4)


@cache
def temporary_folder() -> Path:
    """Make a folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="segkit-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def example_source() -> Path:
    """Write a made-up shop of 260 customers, once in a process, and give the path of its YAML file."""
    return Path(write_scenario("retail", customers=CUSTOMERS, out=str(temporary_folder() / "shop")))


@cache
def example_run() -> Path:
    """Make a run of that shop with four segments, once in a process, and give its folder.

    It holds what 01_profile, 02_embed and 03_segments write, without the proof. The folder is removed when Python ends.

    Examples
    --------
    >>> segkit.load_run(segkit.example_run()).segments.table["customers"].sum()
    np.int64(251)
    """
    from segkit.notebook.profiling import find_needs, load_customers, profile
    from segkit.notebook.segmenting import embed, search, segment
    from segkit.notebook.steps import resolve

    given = {"data_dir": "", "as_of": "", "lookback_days": 182, "horizon_days": 91, "seed": 7}
    made_with = resolve(source=str(example_source()), **given)
    run = open_run(temporary_folder() / "reports" / "example", step="01_profile", **made_with)
    customers = load_customers(run, engine="duckdb")
    needs = find_needs(customers)
    for result in (needs, profile(customers, needs=needs)):
        result.save(run)
    run = Run(run.path, "02_embed")
    embed(customers).save(run)
    run = Run(run.path, "03_segments")
    segment(search(load_customers(run), segments=SEGMENTS)).save(run)
    run.update(outcome="done")
    return run.path
