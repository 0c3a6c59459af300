"""Small and odd sources of every kind, and the whole chain in this process: no kernel, the same cells."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import yaml
from hypothesis import strategies as st

from segkit.data.runs import Run
from segkit.notebook.chain import run_chain
from segkit.notebook.steps import Step

FIRST = datetime(2024, 1, 1)
COLUMNS = ("order_id", "item", "category", "quantity", "amount", "discount", "channel", "text")
AMOUNTS = ("plain", "constant", "zero", "huge", "tiny", "refunds only", "some refunds", "mostly missing")
CATEGORIES = ("few", "constant", "one each", "many", "lists", "mostly missing")
KINDS = ("one", "visits too", "cancels", "one event of a kind", "uses", "company only")
TIMES = ("spread", "weekly", "growing", "future", "two days", "one hour", "one day")
PEOPLE = ("", "some", "constant", "one each", "not ours")
IDS = ("plain", "numbers", "spaces", "odd")


@dataclass(frozen=True)
class Odd:
    """What a source is like; the same description makes the same files."""

    customers: int
    events: float
    days: int
    columns: tuple[str, ...]
    amounts: str
    categories: str
    kinds: str
    times: str
    people: str
    ids: str
    once: bool
    windows: tuple[int, int]
    seed: int


odd_sources = st.builds(
    Odd,
    customers=st.one_of(st.integers(130, 250), st.integers(3, 90), st.integers(90, 130)),
    events=st.sampled_from([5, 2, 15, 1]),
    days=st.sampled_from([400, 600, 200, 380, 450, 60, 10, 1]),
    columns=st.tuples(*(st.sampled_from([name, ""]) for name in COLUMNS)).map(lambda names: tuple(filter(None, names))),
    amounts=st.sampled_from(AMOUNTS),
    categories=st.sampled_from(CATEGORIES),
    kinds=st.sampled_from(KINDS),
    times=st.sampled_from((*TIMES, "spread", "spread")),
    people=st.sampled_from(PEOPLE),
    ids=st.sampled_from(IDS),
    once=st.sampled_from([False, False, False, True]),
    windows=st.sampled_from([(182, 91), (30, 14), (90, 30), (182, 91), (7, 7), (400, 200), (1, 1)]),
    seed=st.integers(0, 9),
)


def write_odd(odd: Odd, folder: Path) -> Path:
    """Write the files of a source; return the path of its YAML file."""
    rng = np.random.default_rng(odd.seed)
    counts = np.ones(odd.customers, int) if odd.once else rng.poisson(odd.events, odd.customers) + 1
    who = np.repeat(np.arange(odd.customers), counts)
    events = pd.DataFrame({"customer_id": _ids(who, odd), "timestamp": _times(len(who), odd, rng=rng)})
    events["event"] = _kinds(len(who), odd, rng=rng)
    for name in odd.columns:
        events[name] = _column(name, who, odd, rng=rng)
    if "amount" in events:
        events.loc[events["amount"] < 0, "event"] = "return"
        events["amount"] = events["amount"].abs()
    folder.mkdir(parents=True, exist_ok=True)
    events.to_csv(folder / "events.csv", index=False)
    kinds = {kind: "company" if odd.kinds == "company only" else "customer" for kind in events["event"].unique()}
    source: dict[str, Any] = {"name": "odd", "timezone": "UTC", "kinds": kinds}
    columns = {name: name for name in events.columns}
    source["events"] = [{"path": "events.csv", "columns": columns}]
    if odd.kinds == "uses" and "page_view" in kinds:
        source["needs"] = ["page_view"]
    if odd.people:
        _people(odd, rng=rng).to_csv(folder / "people.csv", index=False)
        roles = {"age": "demographic", "town": "geographic", "mood": "survey"}
        own = {"customer_id": "who"} | {name: name for name in roles}
        source["customers"] = {"path": "people.csv", "columns": own, "roles": roles}
    (folder / "source.yaml").write_text(yaml.safe_dump(source, sort_keys=False), encoding="utf-8")
    return folder / "source.yaml"


def _ids(who: np.ndarray, odd: Odd) -> list[str]:
    form = {"plain": "c{:03d}", "numbers": "{:d}", "spaces": " c {:d} ", "odd": 'Zoë, "{:d}" <b>=1'}[odd.ids]
    return [form.format(number) for number in who]


def _times(count: int, odd: Odd, *, rng: np.random.Generator) -> list[str]:
    share = rng.random(count)
    day = {
        "one day": np.zeros(count),
        "one hour": np.zeros(count),
        "two days": np.where(share < 0.5, 0, max(odd.days - 1, 1)),
        "weekly": np.floor(share * odd.days / 7) * 7,
        "growing": np.floor(np.sqrt(share) * odd.days),
    }.get(odd.times, np.floor(share * odd.days))
    first = datetime(2099, 1, 1) if odd.times == "future" else FIRST
    hours = np.zeros(count) if odd.times == "one hour" else rng.random(count) * 24
    made = [first + timedelta(days=int(d), seconds=int(h * 3600)) for d, h in zip(day, hours, strict=True)]
    return [each.isoformat(sep=" ") for each in made]


def _kinds(count: int, odd: Odd, *, rng: np.random.Generator) -> np.ndarray:
    names = {
        "visits too": ["purchase", "visit", "cart"],
        "cancels": ["purchase", "cancel"],
        "uses": ["page_view", "click"],
        "company only": ["mail"],
    }
    if odd.kinds == "one event of a kind":
        return np.array(["purchase"] * (count - 1) + ["complaint"], dtype=object)
    return rng.choice(np.array(names.get(odd.kinds, ["purchase"]), dtype=object), count)


def _column(name: str, who: np.ndarray, odd: Odd, *, rng: np.random.Generator) -> Any:
    count = len(who)
    if name == "amount":
        return _amounts(count, odd, rng=rng)
    if name == "discount":
        return np.abs(_amounts(count, odd, rng=rng))
    if name in ("category", "item"):
        return _things(who, odd, rng=rng)
    if name == "quantity":
        return rng.integers(1, 4, count)
    if name == "order_id":
        return [f"o{number}" for number in rng.integers(0, max(count // 2, 1), count)]
    if name == "channel":
        return rng.choice(["web", "store"], count)
    return rng.choice(["", "good", "never again, too late", "汤"], count)


def _amounts(count: int, odd: Odd, *, rng: np.random.Generator) -> np.ndarray:
    plain = np.round(rng.lognormal(3, 1, count), 2)
    return {
        "constant": np.full(count, 9.99),
        "zero": np.zeros(count),
        "huge": np.round(plain * 1e9, 2),
        "tiny": np.round(plain * 1e-4, 4),
        "refunds only": -plain,
        "some refunds": np.where(rng.random(count) < 0.3, -plain, plain),
        "mostly missing": np.where(rng.random(count) < 0.9, np.nan, plain),
    }.get(odd.amounts, plain)


def _things(who: np.ndarray, odd: Odd, *, rng: np.random.Generator) -> list[str | None]:
    few, count = np.array(["bread", "tea", "wine", "soap", "l'eau <i>"]), len(who)
    if odd.categories == "constant":
        return ["bread"] * count
    if odd.categories == "one each":
        return [f"thing {number}" for number in range(count)]
    if odd.categories == "many":
        return [f"thing {number}" for number in rng.integers(0, 300, count)]
    if odd.categories == "mostly missing":
        return [str(rng.choice(few)) if rng.random() < 0.05 else None for _ in range(count)]
    own = np.where(rng.random(count) < 0.8, who % len(few), rng.integers(0, len(few), count))
    if odd.categories == "lists":
        return [f"{few[number]}|{few[(number + 1) % len(few)]}" for number in own]
    return few[own].tolist()


def _people(odd: Odd, *, rng: np.random.Generator) -> pd.DataFrame:
    if odd.people == "not ours":
        return pd.DataFrame({"who": ["nobody"], "age": [30], "town": ["x"], "mood": ["good"]})
    who, count = _ids(np.arange(odd.customers), odd), odd.customers
    town = {"constant": ["x"] * count, "one each": [f"t{n}" for n in range(count)]}
    made = pd.DataFrame({"who": who, "age": rng.integers(18, 90, count), "mood": rng.choice(["good", "bad"], count)})
    made["town"] = town.get(odd.people) or rng.choice(["north", "south"], count)
    if odd.people == "constant":
        made["age"], made["mood"] = 40, None
    return made.iloc[: max(count // 2, 1)] if odd.people == "some" else made


def run_here(source: Path, out: Path, **options: Any) -> Run:
    """Run the whole chain on a source in this process; raises what a cell raises, and what showing its result does."""
    import segkit.notebook.steps as steps

    before, steps.run_notebooks = steps.run_notebooks, _run_cells
    try:
        return Run(run_chain(source=str(source), out=out, previous="none", **options).parent)
    finally:
        steps.run_notebooks = before


def _run_cells(
    steps: Sequence[Step],
    *,
    run: Run,
    parameters: Mapping[str, Any],
    then: Callable[[], Sequence[Step]] | None = None,
    last: str = "",
) -> None:
    (run.path / "notebooks").mkdir(exist_ok=True)
    for step in steps:
        notebook = nbformat.read(step.path, as_version=4)
        scope = {"__name__": step.name, **step.parameters}
        scope |= {name: parameters[name] for name in step.parameters if name in parameters}
        scope["run_dir"] = str(run.path)
        for cell in notebook.cells:
            if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
                shown = _run_cell(cell.source, scope)
                cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": shown})] if shown else []
        nbformat.write(notebook, run.path / "notebooks" / f"{step.name}.ipynb")
    more = then() if then else []
    if more:
        _run_cells(more, run=run, parameters=parameters)


def _run_cell(source: str, scope: dict[str, Any]) -> str:
    """Run a cell; return how its last expression shows itself."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, type_ignores=[]), "cell", "exec"), scope)
    value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
    show = getattr(value, "_repr_html_", None)
    return str(show()) if show else ""
