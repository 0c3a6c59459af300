"""Read out a pilot with several treatment arms: each against the control, and against each other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segkit.data.arm_columns import BINARY, COUNT, MONEY
from segkit.experiments.arms import Experiment, Outcome
from segkit.experiments.design import CONTROL
from segkit.experiments.effects import NO_VERDICT, Effects, measure_effects
from segkit.experiments.estimate import COVARIATES, KPIS, Lift, Price, returns_of
from segkit.experiments.pilot import Pilot
from segkit.vocabulary import EVERYONE

KIND_OF_UNIT = {"money": MONEY, "orders": COUNT, "share": BINARY}


@dataclass(frozen=True)
class ArmsReadout:
    """The result of a pilot with several arms.

    `rows`: a row per segment and arm as in the table ``experiment``, with errors; `price`: of a contact and a unit.
    """

    effects: Effects
    rows: list[dict[str, Any]]
    price: Price
    facts: dict[str, Any]


def read_out_arms(
    pilot: Pilot, values: pd.Series, *, contact_cost: float | None = None, margin: float | None = None
) -> ArmsReadout:
    """Compare each arm with the control, and the arms with each other, by the draw, with simultaneous intervals.

    Parameters
    ----------
    values
        The KPI of each customer over the window.
    contact_cost, margin
        None is what the pilot was designed with.

    Raises
    ------
    InputError
        A cost or margin cannot be used.
    """
    facts, price = pilot.facts, pilot.price(contact_cost=contact_cost, margin=margin)
    sizes = pilot.units["arm"].value_counts(normalize=True)
    effects = measure_effects(
        _experiment_of(pilot, values), price=price, split=sizes.to_dict(), seed=int(facts["seed"])
    )
    return ArmsReadout(effects=effects, rows=_rows(effects, facts=facts, price=price), price=price, facts=facts)


def _experiment_of(pilot: Pilot, values: pd.Series) -> Experiment:
    """Write a pilot as an experiment; its only segment is everyone."""
    units, kpi = pilot.units, pilot.facts["kpi"]
    several = units["segment"].nunique() > 1
    return Experiment(
        label="",
        arm=units["arm"],
        segment=units["segment"] if several else pd.Series(EVERYONE, index=units.index, name="segment"),
        values=values.reindex(units.index).astype(float).to_frame(kpi),
        before=units[list(COVARIATES)],
        control=CONTROL,
        arms=tuple(sorted(pilot.arms)),
        outcomes=(Outcome(kpi, kind=KIND_OF_UNIT[KPIS[kpi].unit]),),
    )


def _rows(effects: Effects, *, facts: dict[str, Any], price: Price) -> list[dict[str, Any]]:
    """Write effects as rows of the table ``experiment``: by segment, then arm, all customers last."""
    names = {one["segment"]: one["name"] for one in facts["power"]} | {EVERYONE: "all segments together"}
    only = facts["segments"][0] if len(facts["segments"]) == 1 else EVERYONE
    table = effects.table.assign(segment=effects.table["segment"].replace(EVERYONE, only))
    order = table["segment"].eq(EVERYONE)
    table = table.assign(last=order).sort_values(["last", "segment", "arm"], ignore_index=True).drop(columns="last")
    means = {"customers": "treated", "control_customers": "control", "mean": "treated_mean"}
    rows = []
    for row in table.rename(columns=means).to_dict("records"):
        lift = Lift(**{name: row[name] for name in ("segment", *means.values(), "control_mean", "lift", "se", "df")},
                    explained=np.nan, low=row["lift_low"], high=row["lift_high"])  # fmt: skip
        returns = returns_of([lift], price=price).iloc[0].to_dict()
        about = {name: facts[name] for name in ("kpi", "unit", "start", "end")}
        settled = {"verdict": "cannot tell"} if row["verdict"] == NO_VERDICT else {}
        rows.append(
            {name.replace("total", "return_total"): value for name, value in returns.items()}
            | {**row, **about, "currency": facts.get("currency", ""), "name": names[row["segment"]], **settled}
        )
    return rows


def arms_readout_json(found: ArmsReadout, *, about: dict[str, Any], effects: dict[str, Any]) -> dict[str, Any]:
    """Collect a read-out for JSON: what that of a pilot with one arm has, and `effects`, that of the arms."""
    facts = found.facts
    names = ("kpi", "unit", "start", "end", "window_days", "run")
    own = {name: facts[name] for name in names} | {"action": facts.get("action", {}), "outcomes": about}
    return effects | own | {"segments": found.rows, "curve": []}
