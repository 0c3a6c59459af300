"""What is said of a pilot and of its read-out: sentences and tables, computed from the design and the outcome."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from segkit.numbers import by_unit, count, interval, number
from segkit.templates import text
from segkit.vocabulary import EVERYONE


def readout_headline(experiment: pd.DataFrame) -> str:
    """The verdicts of a read-out in a sentence."""
    rows = experiment[experiment["segment"] != EVERYONE]
    found = {verdict: rows[rows["verdict"] == verdict].to_dict("records") for verdict in ("scale", "go on", "stop")}
    found = {verdict: segments for verdict, segments in found.items() if segments}
    unknown = int((rows["verdict"] == "cannot tell").sum())
    return text("pilot", "readout_headline", found=found, segments=len(rows), unknown=unknown)


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
    seen = [one for one in facts["power"] if one["smallest_share"]]
    return text("pilot", "arms", treated=treated, control=control, seen=seen)


def what_next(table: pd.DataFrame) -> list[str]:
    """What to do in each segment, and why."""
    rows = table[table["segment"] != EVERYONE].to_dict("records")
    return [text("pilot", "what_next", row=row) for row in rows]


def forgotten_said(facts: Mapping[str, Any]) -> list[str]:
    """How many customers were forgotten since the draw, where any were."""
    customers = facts.get("forgotten", 0)
    return [text("pilot", "forgotten", customers=customers)] if customers else []


def qini_said(order: Mapping[str, Any] | None, *, unit: str) -> str:
    """Whether choosing whom to contact pays."""
    if order is None:
        return text("pilot", "order", qini="", pays=False)
    shown = interval(order["value"], order["low"], order["high"], form=by_unit(unit))
    return text("pilot", "order", qini=shown, pays=order["low"] > 0)


def pilot_said(facts: Mapping[str, Any]) -> list[str]:
    """A design in sentences: who, how long, what it can show, what was left out, and what return can be stated."""
    treated = sum(one["treatment"] for one in facts["power"])
    control = sum(one["control"] for one in facts["power"])
    form = by_unit(facts["unit"])
    sentences = [text("pilot", "design", treated=treated, control=control, facts=facts)]
    for one in facts["power"]:
        break_even = form(one["break_even"]) if one["break_even"] else ""
        sentences.append(text("pilot", "power", row=one, effect=form(one["smallest_effect"]), break_even=break_even))
    sentences += [text("pilot", "left_out", customers=n, reason=reason) for reason, n in facts["left_out"].items() if n]
    sentences.append(text("pilot", "imbalance", worst=facts["imbalance"]))
    return [*sentences, text("pilot", "expected", expected=facts["expected"])]
