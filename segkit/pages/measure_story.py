"""What the pages of measuring say: sentences and tables of baseline, pilots, read-outs and associations, computed from
the run.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from segkit.actions.kpi import KPIS
from segkit.actions.measure import EVERYONE, LEADING
from segkit.numbers import count, interval, is_missing, number, score, share

ASSOCIATION_CAPTION = (
    "Differences per customer over the horizon, with 95 % intervals, each by itself. Unlike before: the largest "
    "difference before "
    "the campaign, in standard deviations, as they are and matched."
)
KPI_NOTE = "The figure to move is {kpi}. Another: `-p kpi orders`. To draw a pilot: `segkit pilot RUN --segment ID`."
NO_PILOT = (
    "No pilot was given, so nothing is known of what contact brings, and no return is stated anywhere in this "
    "report. Draw one with "
    "`segkit pilot`; when its window is over, `segkit readout` reads it, and `-p pilot FOLDER` shows it here."
)
FORMS: dict[str, Callable[[Any], str]] = {"share": share, "money": number, "orders": number}
BASELINE_HEADINGS = (
    "active rate",
    "orders per customer",
    "spend per customer",
    "value of an order",
    "margin",
    "came back",
)
WHAT_NEXT = {
    "scale": "Scale step by step, and keep a small holdout.",
    "go on": "Go on with more customers until the return is settled.",
    "stop": "Stop contacting this segment this way.",
    "cannot tell": "Claim nothing. Try a larger effect, more customers or more weeks.",
}


def form_of(unit: str) -> Callable[[Any], str]:
    """How numbers of a unit are written."""
    return FORMS.get(unit, number)


def measure_headline(candidates: pd.DataFrame, experiment: pd.DataFrame, *, horizon_days: int) -> str:
    """What it would take to know, or what a pilot showed, in a sentence."""
    read = experiment[~experiment["verdict"].isin(["not read yet"]) & (experiment["segment"] != EVERYONE)]
    if len(read):
        return readout_headline(read)
    ready = int(candidates["weeks_needed"].notna().sum())
    best = candidates.loc[candidates["smallest_share"].idxmin()] if candidates["smallest_share"].notna().any() else None
    if best is None:
        return "No segment can carry a pilot yet: the history is too short to size one."
    able = f"{ready} of {len(candidates)} segments" if ready else f"None of the {len(candidates)} segments"
    return (
        f"Nothing has been tried yet. {able} could show, alone and within the weeks tried, the change that its "
        f"own history shows as "
        f"reachable. In {horizon_days} days the sharpest pilot, {best['name']} ({best['segment']}), shows a change of "
        f"{share(best['smallest_share'])} or more."
    )


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


def measure_tiles(baseline: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The leading KPIs of all customers, with their ranges."""
    everyone = baseline[baseline["segment"] == EVERYONE].set_index("kpi")
    tiles = []
    for kpi in LEADING.values():
        if kpi in everyone.index:
            row, form = everyone.loc[kpi], form_of(everyone.loc[kpi, "unit"])
            tiles.append((f"{kpi.capitalize()}, one horizon", form(row["value"]), _between(row, form=form)))
    return tiles


def dated(baseline: pd.DataFrame) -> str:
    """From when to when the baseline is."""
    return f"Per customer, {baseline['start'].min()} to {baseline['end'].max()} (last day)."


def kpi_words(kpi: str) -> str:
    """A KPI in words."""
    return KPIS[kpi].words


def balance_shown(balance: pd.DataFrame) -> pd.DataFrame:
    """How alike those who were sent a campaign and the others were, before and after matching."""
    words = {"pre": "the KPI over the lookback", "recent": "the KPI lately", "steady": "active days"}
    return pd.DataFrame(
        {
            "Campaign": balance["campaign"],
            "Of the time before": balance["column"].map(words),
            "As they are": [score(value) for value in balance["before"]],
            "Matched": [score(value) for value in balance["after"]],
        }
    )


def baseline_wide(baseline: pd.DataFrame, *, names: Mapping[str, str]) -> pd.DataFrame:
    """The baseline with a row a segment and a column a KPI, each with its interval; the share of responses is told
    apart.
    """
    shown = baseline[baseline["kpi"].isin(BASELINE_HEADINGS)]
    cells = [
        interval(r["value"], r["value_low"], r["value_high"], form=form_of(r["unit"])) for r in shown.to_dict("records")
    ]
    wide = shown.assign(shown=cells).pivot(index="segment", columns="kpi", values="shown")
    wide = wide.reindex(columns=[kpi for kpi in BASELINE_HEADINGS if kpi in wide.columns])
    order = [EVERYONE, *(one for one in wide.index if one != EVERYONE)]
    wide = wide.reindex(order).rename(columns=lambda kpi: kpi[0].upper() + kpi[1:])
    first = [_called(one, names=names) for one in wide.index]
    return wide.reset_index(drop=True).assign(Segment=first)[["Segment", *wide.columns]]


def responses_said(baseline: pd.DataFrame) -> list[str]:
    """A sentence for each response of all customers."""
    rows = baseline[(baseline["segment"] == EVERYONE) & baseline["kpi"].str.startswith("response")]
    return [
        f"{r['kpi'].removeprefix('response: ').capitalize()}: "
        f"{interval(r['value'], r['value_low'], r['value_high'], form=share)} of the {count(r['customers'])} "
        f"customers it was sent to."
        for r in rows.to_dict("records")
    ]


def key_results_shown(table: pd.DataFrame, *, names: Mapping[str, str], kpi: str) -> pd.DataFrame:
    """Key results of one KPI as text: baseline, what the windows of the past ran between, reachable, target."""
    rows = table[table["kpi"] == kpi].copy()
    rows = rows.assign(order=rows["segment"] != EVERYONE).sort_values(["order", "segment"])
    form = form_of(rows["unit"].iloc[0]) if len(rows) else number
    return pd.DataFrame(
        {
            "Segment": [_called(one, names=names) for one in rows["segment"]],
            "Baseline": rows["baseline"].map(form),
            "Windows of its past, least to most (1 is their mean)": [
                f"{low:.2f} to {high:.2f}" for low, high in zip(rows["lowest"], rows["highest"], strict=True)
            ],
            "Reachable": [f"+{share(value)}" for value in rows["reachable"]],
            "Proposed key result": rows["target"].map(form),
        }
    )


def candidates_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Candidate pilots as text, the sharpest first."""
    ordered = table.sort_values(["smallest_share", "segment"], na_position="last")
    form = form_of(ordered["unit"].iloc[0]) if len(ordered) else number
    return pd.DataFrame(
        {
            "Segment": ordered["segment"] + " " + ordered["name"],
            "Customers": ordered["customers"].map(count),
            "Baseline": ordered["mean"].map(form),
            "Smallest effect seen": [
                f"{form(e)} ({share(s)})"
                for e, s in zip(ordered["smallest_effect"], ordered["smallest_share"], strict=True)
            ],
            "Reached before": [f"+{share(value)}" for value in ordered["reachable"]],
            "Customers that would take": ordered["size_needed"].map(count),
            "Weeks needed": ["more than tried" if is_missing(w) else f"{int(w)}" for w in ordered["weeks_needed"]],
        }
    )


def experiment_shown(table: pd.DataFrame) -> pd.DataFrame:
    """A read-out as text, a row a segment."""
    form = form_of(table["unit"].iloc[0]) if len(table) else number
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


def what_next(table: pd.DataFrame) -> list[str]:
    """What to do in each segment, and why."""
    rows = table[table["segment"] != EVERYONE].to_dict("records")
    return [
        f"{r['name']} ({r['segment']}): {r['verdict']}, as {r['reason']}. {WHAT_NEXT.get(r['verdict'], '')}".strip()
        for r in rows
    ]


def qini_said(order: Mapping[str, Any] | None, *, unit: str) -> str:
    """Whether choosing whom to contact pays."""
    if order is None:
        return "Whether some customers gain more than others cannot be known: there are too few in the strata."
    shown = interval(order["value"], order["low"], order["high"], form=form_of(unit))
    if order["low"] > 0:
        return f"Contact the most promising first: the order gains more than contact by lot (Qini {shown})."
    return (
        f"Within the pilot no order of customers was better than by lot (Qini {shown}, which holds zero): "
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
        effect = form_of(facts["unit"])(one["smallest_effect"])
        said.append(
            f"{one['segment']} {one['name']}: {one['treatment']} treated, {one['control']} held out; sees a "
            f"change of {effect} per "
            f"customer ({share(one['smallest_share'])}) or more, in 80 of 100 pilots."
            + (f" A contact pays from {form_of(facts['unit'])(one['break_even'])}." if one["break_even"] else "")
        )
    said += [f"Left out: {count(n)} ({reason})." for reason, n in facts["left_out"].items() if n]
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


def associations_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Campaigns as association, as text."""
    form = form_of(table["unit"].iloc[0]) if len(table) else number
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "Campaign": [r["campaign"] for r in rows],
            "Sent to / not": [f"{count(r['sent'])} / {count(r['others'])}" for r in rows],
            "As they are [95 %]": [
                interval(r["difference"], r["difference_low"], r["difference_high"], form=form) for r in rows
            ],
            "Matched [95 %]": [interval(r["matched"], r["matched_low"], r["matched_high"], form=form) for r in rows],
            "Could be matched": [count(r["matched_sent"]) for r in rows],
            "Unlike before, at worst": [f"{r['worst_before']:.2f} → {r['worst_after']:.2f}" for r in rows],
            "Alike after matching": ["yes" if r["alike"] else "no: read nothing into it" for r in rows],
        }
    )


def _called(segment: str, *, names: Mapping[str, str]) -> str:
    return "All customers" if segment == EVERYONE else f"{segment} {names.get(segment, '')}".strip()


def _between(row: Mapping[str, Any], *, form: Callable[[Any], str]) -> str:
    return f"{form(row['value_low'])} to {form(row['value_high'])}"


def _named(rows: pd.DataFrame) -> Any:
    return rows.rename(columns={"name": "name_"}).itertuples(index=False)
