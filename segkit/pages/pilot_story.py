"""What is said of a pilot and of its read-out: sentences and tables, computed from the design and the outcome."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from segkit.numbers import by_unit, count, interval, number, share
from segkit.small_groups import shown as shown_count
from segkit.vocabulary import EVERYONE

WHAT_NEXT = {
    "scale": "Scale step by step, and keep a small holdout.",
    "go on": "Go on with more customers until the return is settled.",
    "stop": "Stop contacting this segment this way.",
    "cannot tell": "Claim nothing. Try a larger effect, more customers or more weeks.",
}


def readout_headline(experiment: pd.DataFrame) -> str:
    """The verdicts of a read-out in a sentence."""
    rows = experiment[experiment["segment"] != EVERYONE]
    said = []
    for verdict in ("scale", "go on", "stop"):
        held = rows[rows["verdict"] == verdict]
        if len(held):
            said.append(f"{verdict} in {', '.join(f'{r.name_} ({r.segment})' for r in _named(held))}")
    unknown = int((rows["verdict"] == "cannot tell").sum())
    if not said and len(rows) == 1:
        return "The pilot cannot tell: treated and held out differ by no more than chance."
    if not said:
        several = f"in none of the {len(rows)} segments"
        return f"The pilot cannot tell: {several} do treated and held out differ by more than chance."
    rest = f"; {unknown} {'segment' if unknown == 1 else 'segments'} cannot tell" if unknown else ""
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}{rest}."


def experiment_shown(table: pd.DataFrame) -> pd.DataFrame:
    """A read-out as text, a row a segment."""
    form = by_unit(table["unit"].iloc[0]) if len(table) else number
    rows = table.to_dict("records")
    shown = pd.DataFrame(
        {
            "Segment": [r["name"] if r["segment"] == EVERYONE else f"{r['segment']} {r['name']}" for r in rows],
            "Treated / held out": [f"{count(r['treated'])} / {count(r['control'])}" for r in rows],
            "Treated": [form(r["treated_mean"]) for r in rows],
            "Held out": [form(r["control_mean"]) for r in rows],
            "Lift [95 %]": [interval(r["lift"], r["lift_low"], r["lift_high"], form=form) for r in rows],
            "Return in all [95 %]": [
                interval(r["return_total"], r["return_total_low"], r["return_total_high"], form=number) for r in rows
            ],
            "Return per unit spent [95 %]": [
                interval(r["roi"], r["roi_low"], r["roi_high"], form=number) for r in rows
            ],
            "Verdict": [r["verdict"] for r in rows],
        }
    )
    empty = [name for name in shown.columns if (shown[name] == "–").all()]
    return shown.drop(columns=empty)


def pilot_in_words(facts: Mapping[str, Any]) -> str:
    """How many were treated and held out, and which change the pilot was made to see."""
    treated, control = (sum(one[arm] for one in facts["power"]) for arm in ("treatment", "control"))
    least = [share(one["smallest_share"]) + f" in {one['segment']}" for one in facts["power"] if one["smallest_share"]]
    seen = f" It was made to see a change of {', '.join(least)}; a smaller one it may well miss." if least else ""
    return f"{count(treated)} customers were treated and {count(control)} held out, by lot, before it began.{seen}"


def what_next(table: pd.DataFrame) -> list[str]:
    """What to do in each segment, and why."""
    rows = table[table["segment"] != EVERYONE].to_dict("records")
    return [
        f"{r['name']} ({r['segment']}): {r['verdict']}, as {r['reason']}. {WHAT_NEXT.get(r['verdict'], '')}".strip()
        for r in rows
    ]


def forgotten_said(facts: Mapping[str, Any]) -> list[str]:
    """How many customers were forgotten since the draw, where any were."""
    many = facts.get("forgotten", 0)
    if not many:
        return []
    who = "customer was" if many == 1 else "customers were"
    return [
        f"{count(many)} {who} forgotten since the draw, on request, and counted in no figure here. Everyone else is "
        "read as they were drawn."
    ]


def qini_said(order: Mapping[str, Any] | None, *, unit: str) -> str:
    """Whether choosing whom to contact pays."""
    if order is None:
        return "Whether some customers gain more than others cannot be known: there are too few in the strata."
    shown = interval(order["value"], order["low"], order["high"], form=by_unit(unit))
    if order["low"] > 0:
        return f"Contact the most promising first: the order gains more than contact by lot (Qini {shown})."
    return (
        f"Within the pilot no order of customers was better than by lot (Qini {shown}): "
        f"decide by segment, not by "
        f"customer."
    )


def pilot_said(facts: Mapping[str, Any]) -> list[str]:
    """A design in sentences: who, how long, what it can show, what was left out, and what return can be stated."""
    treated = sum(one["treatment"] for one in facts["power"])
    control = sum(one["control"] for one in facts["power"])
    said = [
        f"{count(treated)} to treat, {count(control)} held out; {facts['kpi']} counted {facts['start']} to "
        f"{facts['end']}."
    ]
    for one in facts["power"]:
        effect = by_unit(facts["unit"])(one["smallest_effect"])
        said.append(
            f"{one['segment']} {one['name']}: {one['treatment']} treated, {one['control']} held out; sees a "
            f"change of {effect} per "
            f"customer ({share(one['smallest_share'])}) or more, in 80 of 100 pilots."
            + (f" A contact pays from {by_unit(facts['unit'])(one['break_even'])}." if one["break_even"] else "")
        )
    said += [f"Left out: {shown_count(n)} ({reason})." for reason, n in facts["left_out"].items() if n]
    worst = facts["imbalance"]
    said.append(
        f"Largest difference before: {abs(worst['difference']):.2f} standard deviations ({worst['segment']}, "
        f"{worst['column']}); chance "
        f"alone stays below {worst['chance']:.2f} in 95 of 100 draws. The read-out adjusts for it."
    )
    expected = facts["expected"]
    if expected["value"] is None:
        said.append(f"Targets are ranked by value at stake; {expected['reason']}.")
    else:
        said.append(
            f"Expected return {interval(expected['value'], expected['low'], expected['high'], form=number)}, "
            f"{expected['reason']}."
        )
    return said


def _named(rows: pd.DataFrame) -> Any:
    return rows.rename(columns={"name": "name_"}).itertuples(index=False)
