"""segkit: customer micro-segments from raw events, personas, and the proof that they hold.

These names are all that an analyst needs; each is loaded when it is first used, so that ``import segkit`` is fast.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"
_HOMES = {  # name -> module that defines it
    "start": "segkit.notebook.session",
    "load_run": "segkit.notebook.runs",
    "list_runs": "segkit.notebook.run_list",
    "example_run": "segkit.notebook.example",
    "Period": "segkit.period",
    "Source": "segkit.data.spec",
    "open_source": "segkit.data.sources",
    "check": "segkit.notebook.profiling",
    "Customers": "segkit.notebook.profiling",
    "load_customers": "segkit.notebook.profiling",
    "profile": "segkit.notebook.profiling",
    "find_needs": "segkit.notebook.profiling",
    "embed": "segkit.notebook.segmenting",
    "search": "segkit.notebook.segmenting",
    "segment": "segkit.notebook.segmenting",
    "assign": "segkit.notebook.refreshing",
    "recut": "segkit.notebook.runs",
    "validate": "segkit.notebook.proving",
    "compare": "segkit.notebook.runs",
    "write_personas": "segkit.notebook.describing",
    "write_copy": "segkit.notebook.describing",
    "predict": "segkit.notebook.forecasting",
    "next_offers": "segkit.notebook.forecasting",
    "measure": "segkit.notebook.experimenting",
    "design_pilot": "segkit.notebook.experimenting",
    "read_out": "segkit.notebook.experimenting",
    "compare_runs": "segkit.notebook.refreshing",
    "export_segments": "segkit.notebook.runs",
    "Live": "segkit.live.engine",
    "erase": "segkit.notebook.runs",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"segkit has no '{name}'. There are {', '.join(_HOMES)}.")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    """List the names of the door."""
    return sorted(__all__)
