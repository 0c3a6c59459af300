"""Fixtures of the whole suite: made-up tables and a tiny chain of notebooks. Each test gets its own copy."""

import fcntl
import os
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import ibis
import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse

from segkit.cli import main
from segkit.customers.days import Days, build_days
from segkit.customers.features import CustomerData, Outcomes
from segkit.data.synth import write_scenario
from segkit.segments.fit import FitData
from tests.engines import postgres, spark  # noqa: F401  fixtures of the whole suite
from tests.shop import shop, shop_run  # noqa: F401
from tests.webhooks import webhook  # noqa: F401

NEEDS = ("bake", "grill", "clean", "dine")  # planted by `planted_windows`
ITEMS_OF_A_NEED = 3
PARAMETERS = """\
source = "complete_journey"  # where the events come from
data_dir = ""  # folder of its files
as_of = ""  # ISO date
lookback_days = 182  # days that features see
horizon_days = 91  # days to predict
seed = 7  # of every random choice
run_dir = "reports/lab"  # where the tables go"""
SETUP = """\
import pandas as pd
from segkit.notebook.session import start
from segkit.notebook import session
run = start("{step}", globals())"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="Run the tests that take a minute or more too.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes a minute or more; runs with --slow or CI=true only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or os.environ.get("CI") == "true":
        return
    skip = pytest.mark.skip(reason="takes a minute or more: run with --slow or CI=true")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def planted_windows() -> Callable[..., tuple[FitData, np.ndarray]]:
    """A function that plants needs in customers: their windows, and the number of the need of each.

    A customer buys the things of their need, then and now alike; how often differs from customer to customer.
    """

    def plant(customers: int = 240, *, needs: int = len(NEEDS), seed: int = 1) -> tuple[FitData, np.ndarray]:
        rng = np.random.default_rng(seed)
        need = np.arange(customers) % needs
        rate = rng.lognormal(2.0 + 0.3 * need, 0.4)
        index = pd.Index([f"c{i:04d}" for i in range(customers)], name="customer_id")
        then, now, observed = (_spell(rng.poisson(rate), need=need, index=index, rng=rng) for _ in range(3))
        return FitData(now=_as_signals(now), then=_as_signals(then), outcomes=_as_outcomes(observed)), need

    return plant


def _spell(orders: np.ndarray, *, need: np.ndarray, index: pd.Index, rng: np.random.Generator) -> dict[str, Any]:
    """What customers bought in one window: orders, lines by category, money."""
    names = [f"{name} {item}" for name in NEEDS for item in range(ITEMS_OF_A_NEED)] + ["milk", "bread"]
    chances = np.full((len(orders), len(names)), 0.15 / len(names))
    own = need[:, None] * ITEMS_OF_A_NEED + np.arange(ITEMS_OF_A_NEED)
    chances[np.arange(len(orders))[:, None], own] += 0.85 / ITEMS_OF_A_NEED
    lines = np.array([rng.multinomial(3 * n, p) for n, p in zip(orders, chances, strict=True)])
    return {"orders": orders, "lines": lines, "names": tuple(names), "index": index, "spend": lines.sum(axis=1) * 4.0}


def _as_signals(spell: dict[str, Any]) -> CustomerData:
    orders = spell["orders"].astype(float)
    columns = {"orders": orders, "spend": spell["spend"], "active_days": orders, "recency_days": 90 / (1 + orders)}
    features = pd.DataFrame(columns, index=spell["index"])
    return CustomerData(features=features, weights=sparse.csr_array(4.0 * spell["lines"]), categories=spell["names"])


def _as_outcomes(spell: dict[str, Any]) -> Outcomes:
    orders = spell["orders"].astype(float)
    totals = pd.DataFrame({"orders": orders, "active_days": orders, "spend": spell["spend"]}, index=spell["index"])
    return Outcomes(totals=totals, weights=sparse.csr_array(4.0 * spell["lines"]), categories=spell["names"])


@pytest.fixture(scope="session")
def made_up_company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of a made-up shop of 800 customers, whose ids are words found nowhere else; to read only."""
    return _made_once("company", _make_company, tmp_path_factory) / "source.yaml"


@pytest.fixture(scope="session")
def whole_run(made_up_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the real chain on the made-up shop, made once through the command line; to read only."""

    def make(folder: Path) -> None:
        answer = CliRunner().invoke(main, ["run", "--source", str(made_up_company), "--out", str(folder / "run")])
        assert answer.exit_code == 0, answer.output
        assert answer.stdout.splitlines()[-1] == str(folder / "run" / "index.html")

    return _made_once("whole", make, tmp_path_factory) / "run"


def _made_once(name: str, make: Callable[[Path], None], factory: pytest.TempPathFactory) -> Path:
    """A folder that is filled once, even where several workers of pytest-xdist ask for it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / f"{name}.made").is_file():
            folder.mkdir(exist_ok=True)
            make(folder)
            (shared / f"{name}.made").touch()
    return folder


def _make_company(folder: Path) -> None:
    write_scenario("retail", customers=800, out=str(folder))
    for name, column in (("events", "customer"), ("truth", "customer_id")):
        table = pd.read_parquet(folder / f"{name}.parquet")
        table[column] = "kestrel-" + table[column] + "-quill"
        table.to_parquet(folder / f"{name}.parquet", index=False)
    people = pd.read_csv(folder / "customers.csv")
    people.assign(id="kestrel-" + people["id"] + "-quill").to_csv(folder / "customers.csv", index=False)


@pytest.fixture
def make_days() -> Callable[..., Days]:
    """A function that turns a few events, (customer, local day, event, amount, category), into days."""

    def make(events: list[tuple[str, str, str, float | None, str | None]], *, kinds: dict[str, str]) -> Days:
        return build_days(_as_events(events), kinds=kinds)

    return make


@pytest.fixture
def make_events() -> Callable[..., Any]:
    """The same events as the contract has them, an Ibis table."""
    return _as_events


def _as_events(events: list[tuple[str, str, str, float | None, str | None]]) -> Any:
    table = pd.DataFrame(events, columns=["customer_id", "day", "event", "amount", "category"])
    table = table.astype({"amount": float, "category": object})
    table["day"] = pd.to_datetime(table["day"])
    table["timestamp"], table["hour"] = table["day"] + pd.Timedelta(hours=9), 9
    held = ibis.memtable(table)
    return held.mutate(day=held.day.date(), amount=held.amount.cast("decimal(18, 4)"))


@pytest.fixture
def midyear() -> date:
    """An `as_of` in the middle of a month."""
    return date(2024, 6, 15)


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
            "customers": [60, 40, 20],
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
            "need": ["N01", "N02", None],
            "need_name": ["fruit, bread", "a full pantry", "one thing, quickly"],
            "action": ["Offer the fresh box", "Offer delivery", "Ask why"],
        }
    )


@pytest.fixture
def assignments(segments: pd.DataFrame) -> pd.DataFrame:
    """Twelve customers in three segments on a plane: a tenth of them."""
    of = np.repeat(segments["segment"].to_numpy(), segments["customers"] // 10)
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "customer_id": [f"c{number:02d}" for number in range(len(of))],
            "segment": of,
            "macro_segment": "Families",
            "need": None,
            "confidence": 0.8,
            "core": [True, False] * 6,
            "x": rng.normal(size=len(of)),
            "y": rng.normal(size=len(of)),
        }
    )
