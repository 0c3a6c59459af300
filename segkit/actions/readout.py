"""The read-out of a pilot: lift and return by segment with intervals that hold together, a verdict each, and whom to
contact.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segkit.actions.kpi import COVARIATES, KPIS
from segkit.actions.lift import Lift, lifts_of
from segkit.actions.pilot import Pilot
from segkit.actions.uplift import Qini, qini
from segkit.actions.verdict import Price, price_of, returns_of, verdict_of
from segkit.data.plain import read_json
from segkit.errors import RunError
from segkit.stats import least_squares

EXPERIMENT = (
    "segment",
    "name",
    "kpi",
    "unit",
    "start",
    "end",
    "treated",
    "control",
    "treated_mean",
    "control_mean",
    "lift",
    "lift_low",
    "lift_high",
    "return_total",
    "return_total_low",
    "return_total_high",
    "roi",
    "roi_low",
    "roi_high",
    "verdict",
    "reason",
)


@dataclass(frozen=True)
class Readout:
    """What a pilot brought. `experiment`: a row for each segment, "all" last; `lifts`: the same with errors; `qini`:
    None where it cannot be known; `price`: of a contact and a unit.
    """

    experiment: pd.DataFrame
    lifts: tuple[Lift, ...]
    qini: Qini | None
    price: Price
    facts: dict[str, Any]


def read_out(
    pilot: Pilot, values: pd.Series, *, contact_cost: float | None = None, margin: float | None = None
) -> Readout:
    """Compare treated and held out by the draw, whoever was reached in the end.

    Takes  a pilot; values: the KPI of each of its customers over the window
    Gives  Readout

    Parameters
    ----------
    contact_cost, margin : None is what the pilot was designed with

    Raises
    ------
    InputError : a cost or margin that makes no sense
    """
    kpi = pilot.facts["kpi"]
    cost = pilot.facts["contact_cost"] if contact_cost is None else contact_cost
    price = price_of(cost, pilot.facts["margin"] if margin is None else margin, kpi=kpi)
    lifts = lifts_of(pilot.units, values, columns=COVARIATES)
    order = qini(pilot.units, adjusted(pilot.units, values), seed=int(pilot.facts["seed"]))
    table = _experiment(pilot, lifts, price=price)
    return Readout(experiment=table, lifts=tuple(lifts), qini=order, price=price, facts=pilot.facts)


def adjusted(units: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Outcomes less what the past foretold of them, within each segment and arm's own mean left in (CUPED)."""
    found = values.reindex(units.index).astype(float).copy()
    for _, rows in units.groupby("segment"):
        treated = (rows["arm"] == "treatment").to_numpy(dtype=float)
        covariate_values = rows[list(COVARIATES)].to_numpy(dtype=float)
        covariate_values = covariate_values - covariate_values.mean(axis=0)
        found[rows.index] -= (
            covariate_values @ least_squares(found[rows.index].to_numpy(), treated, covariate_values).slopes[2:]
        )
    return found


def readout_json(found: Readout, *, about: dict[str, Any]) -> dict[str, Any]:
    """All of a read-out as JSON holds it: what a later pilot takes its expected return from.

    Takes  about: what the outcomes were read from
    """
    facts = found.facts
    rows = found.experiment.to_dict("records")
    segments = [{**asdict(one), **row} for one, row in zip(found.lifts, rows, strict=True)]
    order = found.qini
    return {
        "kpi": facts["kpi"],
        "unit": facts["unit"],
        "start": facts["start"],
        "end": facts["end"],
        "window_days": facts["window_days"],
        "run": facts["run"],
        "contact_cost": found.price.contact_cost,
        "margin": found.price.margin,
        "outcomes": about,
        "segments": segments,
        "qini": None if order is None else {"value": order.value, "low": order.low, "high": order.high},
        "curve": [] if order is None else order.curve.to_dict("records"),
    }


def experiment_of(content: dict[str, Any]) -> pd.DataFrame:
    """The table experiment from a readout.json."""
    return empty_experiment(content["segments"])


def experiment_at(folder: str | Path | None) -> pd.DataFrame:
    """The table experiment of a pilot's folder: its read-out, or its design where that is not in yet; empty without
    one.

    Raises
    ------
    RunError : the folder holds no pilot
    """
    if folder is None:
        return empty_experiment([])
    folder = Path(folder)
    if not (folder / "pilot.json").is_file():
        raise RunError(f"{folder}: no pilot.json there, so it is no pilot. `segkit pilot` makes one.")
    result = folder / "readout" / "readout.json"
    return experiment_of(read_json(result)) if result.is_file() else not_read_yet(read_json(folder / "pilot.json"))


def not_read_yet(facts: dict[str, Any]) -> pd.DataFrame:
    """The table experiment of a pilot whose outcome is not in: the design, and nothing claimed."""
    rows = [
        {
            "segment": one["segment"],
            "name": one["name"],
            "kpi": facts["kpi"],
            "unit": facts["unit"],
            "start": facts["start"],
            "end": facts["end"],
            "treated": one["treatment"],
            "control": one["control"],
            "verdict": "not read yet",
            "reason": f"its window runs to {facts['end']}",
        }
        for one in facts["power"]
    ]
    return empty_experiment(rows)


def empty_experiment(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The columns of the table experiment, typed, with the rows given (none: no pilot)."""
    table = pd.DataFrame(rows, columns=list(EXPERIMENT))
    text = ("segment", "name", "kpi", "unit", "start", "end", "verdict", "reason")
    kinds = {
        name: object if name in text else "int64" if name in ("treated", "control") else float for name in EXPERIMENT
    }
    return table.astype(kinds)


def _experiment(pilot: Pilot, lifts: list[Lift], *, price: Price) -> pd.DataFrame:
    names = {one["segment"]: one["name"] for one in pilot.facts["power"]} | {"all": "all segments together"}
    table = pd.DataFrame([asdict(one) for one in lifts]).rename(columns={"low": "lift_low", "high": "lift_high"})
    back = returns_of(lifts, price=price).rename(columns=lambda name: name.replace("total", "return_total"))
    verdicts = [verdict_of(one, price=price) for one in lifts]
    table = table.merge(back, on="segment").assign(
        name=table["segment"].map(names),
        kpi=pilot.facts["kpi"],
        unit=KPIS[pilot.facts["kpi"]].unit,
        start=pilot.facts["start"],
        end=pilot.facts["end"],
        verdict=[verdict for verdict, _ in verdicts],
        reason=[reason for _, reason in verdicts],
    )
    return table[list(EXPERIMENT)]
