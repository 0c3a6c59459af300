"""Fixtures of the whole suite: made-up tables and a tiny chain of notebooks. Each test gets its own copy."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

PARAMETERS = """\
source = "complete_journey"  # where the events come from
data_dir = ""  # folder of its files
as_of = ""  # ISO date
lookback_days = 182  # days that features see
horizon_days = 91  # days that are foreseen
seed = 7  # of every random choice
run_dir = "reports/lab"  # where the tables go"""
SETUP = """\
import pandas as pd
from segkit.pages.report import start
from segkit.pages import views
run = start("{step}", run_dir=run_dir, source=source, data_dir=data_dir, as_of=as_of,
            lookback_days=lookback_days, horizon_days=horizon_days, seed=seed)"""


@pytest.fixture(scope="session")
def write_notebook() -> Callable[..., Path]:
    """A function that writes a small notebook of the chain into <folder>/notebooks and gives its path."""

    def write(folder: Path, step: str, *code: str, parameters: str = PARAMETERS, text: str = "What is it?") -> Path:
        cells = [
            nbformat.v4.new_markdown_cell(f"# {step[3:].capitalize()}: {text}"),
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(SETUP.format(step=step)),
            *(nbformat.v4.new_code_cell(one) for one in code),
        ]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = folder / "notebooks" / f"{step}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
        return path

    return write


@pytest.fixture
def make_notebook(write_notebook: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """The same into tmp_path."""
    return partial(write_notebook, tmp_path)


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of twelve purchase lines by three customers: its YAML file, to read only."""
    folder = tmp_path_factory.mktemp("source")
    days = pd.date_range("2024-01-01", periods=12, freq="7D")
    lines = pd.DataFrame({"who": ["ann", "bob", "eve"] * 4, "when": days.astype(str), "paid": np.arange(12) + 1.5})
    lines.to_csv(folder / "lines.csv", index=False)
    yaml = folder / "small.yaml"
    yaml.write_text(
        "name: small\ntimezone: UTC\nkinds: {purchase: customer}\n"
        "events:\n  - path: lines.csv\n    columns: {customer_id: who, timestamp: when, amount: paid}\n",
        encoding="utf-8",
    )
    return yaml


@pytest.fixture
def segments() -> pd.DataFrame:
    """Three segments with every column a page can count on."""
    return pd.DataFrame(
        {
            "segment": ["S01", "S02", "S13"],
            "name": ["Fresh & early", "Big <b>baskets</b>", "Fading"],
            "macro_segment": ["Families", "Families", "Others"],
            "customers": [6, 4, 2],
            "customer_share": [0.5, 1 / 3, 1 / 6],
            "revenue": [600.0, 1200.0, 200.0],
            "revenue_share": [0.3, 0.6, 0.1],
            "margin": [np.nan] * 3,
            "orders": [12, 30, 3],
            "stability": [0.8, 0.55, np.nan],
            "stability_low": [0.7, 0.5, np.nan],
            "stability_high": [0.9, 0.6, np.nan],
            "verdict": ["reproducible", "constructed", "not tested"],
            "active_share_next": [0.9, 0.8, 0.2],
            "active_share_next_low": [0.8, 0.7, 0.1],
            "active_share_next_high": [1.0, 0.9, 0.3],
            "spend_next": [100.0, 310.0, 40.0],
            "spend_next_low": [90.0, 305.0, 30.0],
            "spend_next_high": [110.0, 320.0, 50.0],
            "spend_now": [100.0, 300.0, 100.0],
            "need": ["fruit, bread", "a full pantry", "one thing, quickly"],
            "action": ["Offer the fresh box", "Offer delivery", "Ask why"],
        }
    )


@pytest.fixture
def assignments(segments: pd.DataFrame) -> pd.DataFrame:
    """Twelve customers in three segments on a plane."""
    of = np.repeat(segments["segment"].to_numpy(), segments["customers"])
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "customer_id": [f"c{number:02d}" for number in range(len(of))],
            "segment": of,
            "macro_segment": "Families",
            "confidence": 0.8,
            "core": [True, False] * 6,
            "x": rng.normal(size=len(of)),
            "y": rng.normal(size=len(of)),
        }
    )
