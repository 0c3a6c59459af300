"""Pages of a pilot: the plan before it, and the read-out after it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit import __version__, templates
from segkit.data.io import write_bytes, write_json
from segkit.data.runs import publish_run, stage_run
from segkit.experiments.design import CONTROL, TREATMENT, arms_of
from segkit.experiments.estimate import KPIS, Price
from segkit.experiments.pilot import Pilot, find_pilot, load_pilot, to_rounded_json, write_pilot
from segkit.experiments.pilot_arms import ArmsReadout, arms_readout_json, read_out_arms
from segkit.experiments.readout import Readout, experiment_from_readout, read_out, read_outcomes, readout_json
from segkit.format import MISSING, capitalized, count, formatter_for, is_missing, money, number, percent, spread
from segkit.period import dates_text
from segkit.reports.arms import effects_headline, effects_json, render_effects
from segkit.reports.html import figure_facts, table_facts
from segkit.reports.page_files import stylesheet
from segkit.reports.theme import (
    ACCENT,
    FAINT,
    INK,
    QUIET,
    SOFT,
    WARN,
    label_left,
    one_panel,
    style,
)
from segkit.reports.wording import day_text, ranged, segment_name
from segkit.templates import text
from segkit.vocabulary import EVERYONE

VERDICT_COLOURS = {"scale": ACCENT, "go on": ACCENT, "stop": WARN, "cannot tell": QUIET}
UNIT_TITLES = {"money": "per customer", "orders": "orders per customer", "share": "share of customers"}
BALANCE_TITLES = {"pre": "KPI over the whole history", "recent": "Recent KPI", "steady": "Active days"}
MAX_SEGMENTS_NAMED = 2  # in a sentence; of more the range is given


def form_of(table: pd.DataFrame) -> Callable[[Any], str]:
    """Return the formatter of the figures of a read-out: amounts carry their currency."""
    if table.empty:
        return number
    currency = table["currency"].iloc[0] if "currency" in table else ""
    return formatter_for(table["unit"].iloc[0], currency="" if is_missing(currency) else currency)


def plot_lifts(table: pd.DataFrame, *, break_even: float | None = None) -> Figure:
    """Plot the lift of each segment with simultaneous 95 % intervals, and the lift that would pay for it.

    Parameters
    ----------
    table
        Rows of ``experiment``: segment, name, lift, lift_low, lift_high, unit, currency, verdict.
    break_even
        Lift per customer that pays for a contact; None where its price is not known.
    """
    place, form = np.arange(len(table))[::-1], form_of(table)
    with style():
        figure, axes = one_panel(height=1.0 + 0.42 * len(table))
        axes.axvline(0, color=INK, linewidth=0.9)
        if break_even:
            axes.axvline(break_even, color=WARN, linewidth=1.1, linestyle=(0, (4, 3)), label="pays for the contact")
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
        for y, row in zip(place, table.to_dict("records"), strict=True):
            colour = VERDICT_COLOURS.get(row["verdict"], QUIET)
            axes.plot([row["lift_low"], row["lift_high"]], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([row["lift"]], [y], "D" if row["segment"] == EVERYONE else "o", color=colour, markersize=7)
            end = (row["lift_high"], y)
            axes.annotate(
                row["verdict"], end, (7, 0), textcoords="offset points", va="center", fontsize=8, color=colour
            )
        label_left(axes, place=place, words=pd.Series([_called(row) for row in table.to_dict("records")]))
        axes.margins(x=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.set_xlabel(f"Treated minus holdout, {UNIT_TITLES[table['unit'].iloc[0]]}")
    return figure


def plot_qini(curve: pd.DataFrame, *, unit: str, currency: str = "") -> Figure:
    """Plot the gain of contacting the most promising customers first, compared with a random choice.

    `curve`: share (contacted), gain and by_lot (random choice), per customer of all.
    """
    form = formatter_for(unit, currency=currency)
    with style():
        figure, axes = one_panel(height=3.0)
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.plot(curve["share"], curve["by_lot"], color=QUIET, linestyle=(0, (4, 3)), label="at random")
        axes.plot(curve["share"], curve["gain"], color=ACCENT, linewidth=2, label="the most promising first")
        axes.legend(loc="upper left", fontsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.set_xlim(0, 1)
        axes.set(xlabel="Share of customers contacted", ylabel="")
        axes.set_title(f"Gain, {UNIT_TITLES[unit]} of the test")
    return figure


def plot_power(power: list[Mapping[str, Any]], *, form: Callable[[Any], str]) -> Figure:
    """Plot the smallest change that a pilot can detect in each segment, and the change that pays for the contact.

    `power`: of pilot.json; name, smallest_effect and smallest_share, break_even (each may be null).
    """
    place = np.arange(len(power))[::-1]
    with style():
        figure, axes = one_panel(height=1.2 + 0.42 * len(power))
        ends = [0.0 if is_missing(row["smallest_effect"]) else float(row["smallest_effect"]) for row in power]
        axes.barh(place, ends, height=0.5, color=SOFT, label="smallest change that the test can detect")
        for y, end, row in zip(place, ends, power, strict=True):
            axes.annotate(
                _change(row, form=form), (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        if power[0]["break_even"]:
            even = float(power[0]["break_even"])
            axes.axvline(even, color=WARN, linewidth=1.1, linestyle=(0, (4, 3)), label="pays for the contact")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
        axes.set_xlim(0, max(*ends, float(power[0]["break_even"] or 0), 1e-9) * 1.2)
        axes.set_xlabel("Change per customer")
        label_left(axes, place=place, words=pd.Series([_called(row) for row in power]))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
    return figure


def readout_headline(experiment: pd.DataFrame) -> str:
    """Summarise the verdicts of a read-out in a sentence, and the lift over all of its customers."""
    rows = experiment[experiment["segment"] != EVERYONE]
    found = {
        verdict: [_called(row) for row in rows[rows["verdict"] == verdict].to_dict("records")]
        for verdict in ("scale", "go on", "stop")
    }
    whole = experiment.iloc[-1]  # all segments, or the only one
    return text(
        "pilot",
        "readout_headline",
        found={verdict: segments for verdict, segments in found.items() if segments},
        segments=len(rows),
        unknown=int((rows["verdict"] == "cannot tell").sum()),
        lift=spread(whole["lift"], whole["lift_low"], whole["lift_high"], form=form_of(experiment)),
    )


def format_experiment(table: pd.DataFrame) -> pd.DataFrame:
    """Format a read-out as text, one row per segment."""
    form, rows = form_of(table), table.to_dict("records")
    currency = table["currency"].iloc[0] if len(table) and not is_missing(table["currency"].iloc[0]) else ""
    amount = partial(money, currency=currency)
    per = f"Net return per {amount(1).removesuffix('.00')} spent" if currency else "Net return per unit spent"
    shown = pd.DataFrame(
        {
            "Segment": [
                "All segments"
                if r["segment"] == EVERYONE
                else segment_name(r["segment"], names={r["segment"]: r["name"]})
                for r in rows
            ],
            "Arm": [MISSING if r.get("arm", TREATMENT) == TREATMENT else r["arm"] for r in rows],
            "Treated / holdout": [f"{count(r['treated'])} / {count(r['control'])}" for r in rows],
            "Treated": [form(r["treated_mean"]) for r in rows],
            "Holdout": [form(r["control_mean"]) for r in rows],
            "Lift": [ranged(r["lift"], r["lift_low"], r["lift_high"], form=form) for r in rows],
            "Net return": [
                ranged(r["return_total"], r["return_total_low"], r["return_total_high"], form=amount) for r in rows
            ],
            per: [ranged(r["roi"], r["roi_low"], r["roi_high"], form=amount) for r in rows],
            "Verdict": [r["verdict"].capitalize() for r in rows],
        }
    )
    empty = [name for name in shown.columns if all(Markup(value).striptags() == MISSING for value in shown[name])]
    return shown.drop(columns=empty)


def describe_arms(facts: Mapping[str, Any]) -> str:
    """Describe the arms: customers treated and held out, and the change the pilot was designed to detect."""
    treated, control = sum(_sizes(facts).values()), _control_size(facts)
    seen = sorted((one for one in facts["power"] if one["smallest_share"]), key=lambda one: one["smallest_share"])
    return text("pilot", "arms", treated=treated, control=control, seen=seen, most=MAX_SEGMENTS_NAMED)


def next_steps(table: pd.DataFrame) -> list[str]:
    """List what to do in each segment, and why."""
    rows = table[table["segment"] != EVERYONE].to_dict("records")
    return [text("pilot", "what_next", row=row) for row in rows]


def describe_erased(facts: Mapping[str, Any]) -> list[str]:
    """Report how many customers were erased since randomisation, where any were."""
    customers = facts.get("forgotten", 0)
    return [text("pilot", "forgotten", customers=customers)] if customers else []


def describe_qini(order: Mapping[str, Any] | None, *, unit: str, currency: str = "") -> str:
    """Describe whether choosing which customers to contact pays."""
    if order is None:
        return text("pilot", "order", qini="", pays=False)
    shown = spread(order["value"], order["low"], order["high"], form=formatter_for(unit, currency=currency))
    return text("pilot", "order", qini=shown, pays=order["low"] > 0)


def describe_pilot(facts: Mapping[str, Any]) -> list[str]:
    """Describe a design: customers, length, detectable change, exclusions, and what return can be stated."""
    form = formatter_for(facts["unit"], currency=facts.get("currency", ""))
    sentences = [_describe_design(facts)]
    for one in facts["power"]:
        break_even = form(one["break_even"]) if one["break_even"] else ""
        change = _change(one, form=form)
        total = _total_change(one, facts=facts)
        sentences.append(text("pilot", "power", row=one, change=change, break_even=break_even, total=total))
    return [*sentences, *_describe_draw(facts), _describe_return(facts)]


def write_planned_pilot(pilot: Pilot, folder: str | Path) -> Path:
    """Write the files of a pilot and its plan, plan.html, into a folder of its own and return the folder.

    Raises `RunError`: the folder is not empty.
    """
    return write_pilot(pilot, folder, pages={"plan.html": render_plan(pilot.facts)})


def render_plan(facts: Mapping[str, Any]) -> str:
    """Render the plan of a pilot as a whole HTML document: what is done, what it can show, how sure, next steps."""
    currency = facts.get("currency", "")
    form, rows = formatter_for(facts["unit"], currency=currency), facts["power"]
    price = Price(facts["contact_cost"], facts["margin"])
    columns = {
        "Segment": [segment_name(r["segment"], names={r["segment"]: r["name"]}) for r in rows],
        "Arm": [r.get("arm", "") for r in rows],
        "Contact": [count(r["treatment"]) for r in rows],
        "Leave alone": [count(r["control"]) for r in rows],
        "Before, per customer": [form(r["baseline_mean"]) for r in rows],
        "Smallest detectable change": [_change(r, form=form) for r in rows],
        "Over all contacted": [_total_change(r, facts=facts) for r in rows],
    }
    if len(arms_of(facts)) == 1:
        columns.pop("Arm")
    if price.is_complete:
        net = [_net_return(r, price=price) for r in rows]
        columns["A contact pays from"] = [form(price.break_even)] * len(rows)
        columns["Net return at that change"] = [money(value, currency=currency) for value in net]
    page = templates.html(
        "plan",
        "page",
        facts=facts,
        kpi=_kpi(facts),
        dates=_dates(facts),
        start=day_text(facts["start"]),
        end=day_text(facts["end"]),
        words={"headline": _describe_design(facts), "sure": [*_describe_draw(facts), _describe_return(facts)]},
        sizes=_sizes(facts),
        control=_control_size(facts),
        power=figure_facts(plot_power(rows, form=form)),
        arms=table_facts(pd.DataFrame(columns)),
        version=__version__,
        css=stylesheet("views") + stylesheet("page"),
    )
    return str(page)


def run_readout(
    run_dir: str,
    outcomes: str,
    *,
    pilot: str = "",
    data_dir: str = "",
    contact_cost: float | None = None,
    margin: float | None = None,
    out: str | None = None,
) -> tuple[Path, list[str]]:
    """Read out a pilot and write readout.json and readout.html.

    Parameters
    ----------
    run_dir
        The run the pilot was drawn from, or the pilot's own folder.
    pilot
        Folder of the pilot; empty finds the only one that was drawn from the run.
    contact_cost, margin
        None takes what the pilot was designed with.
    out
        Folder to write to; None is ``readout/`` in the pilot's folder.

    Returns
    -------
    tuple
        Path of the page, and its sentences.

    Raises
    ------
    InputError
        The outcomes, the files of the pilot, a cost or a margin cannot be used; nothing was written.
    """
    place = find_pilot(run_dir, pilot=pilot)
    design = load_pilot(place)
    values, about = read_outcomes(outcomes, facts=design.facts, index=design.units.index, data_dir=data_dir)
    read = _read_out_arms if len(design.arms) > 1 else _read_out_one
    content, page, sentences = read(design, values, about=about, contact_cost=contact_cost, margin=margin)
    target = Path(out) if out else place / "readout"
    with stage_run(target, marker="readout.json") as building:
        write_json(building / "readout.json", content)
        write_bytes(building / "readout.html", page.encode("utf-8"))
        publish_run(building, target)
    return target / "readout.html", sentences + describe_erased(design.facts)


def _read_out_one(
    design: Pilot, values: pd.Series, *, about: dict[str, Any], **prices: float | None
) -> tuple[dict[str, Any], str, list[str]]:
    """Read out a pilot with one arm: its content, its page and its sentences."""
    found = read_out(design, values, **prices)
    content = to_rounded_json(readout_json(found, about=about))
    table = experiment_from_readout(content)
    sentences = [readout_headline(table), *next_steps(table)]
    sentences.append(describe_qini(content["qini"], unit=content["unit"], currency=content["currency"]))
    return content, render_readout(found, content=content), sentences


def _read_out_arms(
    design: Pilot, values: pd.Series, *, about: dict[str, Any], **prices: float | None
) -> tuple[dict[str, Any], str, list[str]]:
    """Read out a pilot with several arms: its content, its page and its sentences."""
    found = read_out_arms(design, values, **prices)
    content = to_rounded_json(arms_content(found, about=about))
    currency = content["currency"]
    experiment = replace(found.effects.experiment, label=f"{_kpi(found.facts)}, {_dates(found.facts)}")
    checks = tuple(replace(one, facts=_with_titles(one.facts)) for one in found.effects.checks)
    effects = replace(found.effects, experiment=experiment, checks=checks)
    names = {one["segment"]: one["name"] for one in found.facts["power"]}
    page = render_effects(effects, names=names, price=found.price, currency=currency)
    headline = effects_headline(effects, currency=currency)
    return content, page, [headline, *next_steps(experiment_from_readout(content))]


def _with_titles(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a check with the title of the column that they are about."""
    return {**facts, **({"column": BALANCE_TITLES.get(facts["column"], facts["column"])} if "column" in facts else {})}


def arms_content(found: ArmsReadout, *, about: dict[str, Any]) -> dict[str, Any]:
    """Collect the read-out of a pilot with several arms for JSON."""
    currency, fingerprint = found.facts.get("currency", ""), about["fingerprint"]
    effects = effects_json(found.effects, price=found.price, currency=currency, planned=None, fingerprint=fingerprint)
    return arms_readout_json(found, about=about, effects=effects)


def render_readout(found: Readout, *, content: Mapping[str, Any]) -> str:
    """Render the page of a read-out as a whole HTML document.

    It shows the answer, the picture, the table, how sure it is, what to do, and which customers to contact.
    """
    table, facts, curve = found.experiment, found.facts, pd.DataFrame(content["curve"])
    currency = content["currency"]
    page = templates.html(
        "readout",
        "page",
        words={
            "headline": readout_headline(table),
            "pilot": describe_arms(facts),
            "what_next": next_steps(table),
            "order": describe_qini(content["qini"], unit=facts["unit"], currency=currency),
            "forgotten": describe_erased(facts),
        },
        facts=facts,
        kpi=_kpi(facts),
        dates=_dates(facts),
        lifts=figure_facts(plot_lifts(table, break_even=found.price.break_even)),
        experiment=table_facts(format_experiment(table)),
        price=found.price,
        cost=money(found.price.contact_cost, currency=currency),
        margin=money(found.price.margin, currency=currency),
        order=figure_facts(plot_qini(curve, unit=facts["unit"], currency=currency)) if content["qini"] else None,
        version=__version__,
        css=stylesheet("views") + stylesheet("page"),
    )
    return str(page)


def _called(row: Mapping[str, Any]) -> str:
    """Write the name of a segment with its id, after the arm where there are several."""
    arm = "" if row.get("arm", TREATMENT) == TREATMENT else f"{row['arm']}: "
    if row["segment"] == EVERYONE:
        return arm + capitalized(row["name"])
    return arm + (f"{row['name']} ({row['segment']})" if row["name"] else row["segment"])


def _change(row: Mapping[str, Any], *, form: Callable[[Any], str]) -> str:
    """Write the smallest change that a pilot can detect, also as a share of the mean before."""
    part = "" if is_missing(row["smallest_share"]) else f" ({percent(row['smallest_share'])})"
    return form(row["smallest_effect"]) + part


def _total_change(row: Mapping[str, Any], *, facts: Mapping[str, Any]) -> str:
    """Write what the smallest change that can be detected comes to over all who are contacted; "" if unknown."""
    if is_missing(row["smallest_effect"]):
        return ""
    total = row["treatment"] * row["smallest_effect"]
    return money(total, currency=facts.get("currency", "")) if facts["unit"] == "money" else number(total)


def _net_return(row: Mapping[str, Any], *, price: Price) -> float:
    """Return what the contacts in a segment earn after their cost, at the smallest change that can be detected."""
    return row["treatment"] * (row["smallest_effect"] * price.margin - price.contact_cost)


def _sizes(facts: Mapping[str, Any]) -> dict[str, int]:
    """Count the customers of each treatment arm."""
    arms = arms_of(facts)
    return {arm: sum(one["treatment"] for one in facts["power"] if one.get("arm", arms[0]) == arm) for arm in arms}


def _control_size(facts: Mapping[str, Any]) -> int:
    """Count the customers of the control group, which all arms of a segment share."""
    return sum({one["segment"]: one[CONTROL] for one in facts["power"]}.values())


def _kpi(facts: Mapping[str, Any]) -> str:
    """Write the KPI of a pilot in short."""
    return KPIS[facts["kpi"]].label.partition(",")[0]


def _dates(facts: Mapping[str, Any]) -> str:
    """Write the window in which outcomes are counted."""
    return dates_text(date.fromisoformat(facts["start"]), date.fromisoformat(facts["end"]) + timedelta(days=1))


def _describe_design(facts: Mapping[str, Any]) -> str:
    sizes, control = _sizes(facts), _control_size(facts)
    return text("pilot", "design", sizes=sizes, control=control, kpi=_kpi(facts), dates=_dates(facts))


def _describe_draw(facts: Mapping[str, Any]) -> list[str]:
    """Describe who is left out, and how alike the two groups are before the pilot."""
    left_out = [text("pilot", "left_out", customers=n, reason=why) for why, n in facts["left_out"].items() if n]
    worst = facts["imbalance"]
    title = BALANCE_TITLES.get(worst["column"], worst["column"])
    return [*left_out, text("pilot", "imbalance", worst=worst, title=title)]


def _describe_return(facts: Mapping[str, Any]) -> str:
    form = partial(money, currency=facts.get("currency", ""))
    return text("pilot", "expected", expected=facts["expected"], form=form)
