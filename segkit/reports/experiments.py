"""Plots and text of the page Measure, and the page of a read-out."""

from collections.abc import Mapping
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
from segkit.experiments.design import SHOWN_WEEKS
from segkit.experiments.estimate import KPIS
from segkit.experiments.observational import LEADING_KPIS
from segkit.experiments.pilot import find_pilot, load_pilot, to_rounded_json
from segkit.experiments.readout import Readout, experiment_from_readout, read_out, read_outcomes, readout_json
from segkit.format import (
    FLOOR,
    MISSING,
    capitalized,
    count,
    formatter_for,
    hidden_segments,
    interval,
    is_few,
    is_missing,
    number,
    percent,
    score,
    share_of,
)
from segkit.reports.html import figure_facts, table_facts
from segkit.reports.theme import (
    ACCENT,
    FAINT,
    INK,
    QUIET,
    SOFT,
    WARN,
    label_left,
    one_panel,
    segment_style,
    style,
    stylesheet,
)
from segkit.reports.wording import Wording, mark, ranged, segment_name
from segkit.templates import text
from segkit.vocabulary import EVERYONE

VERDICT_COLOURS = {"scale": ACCENT, "go on": ACCENT, "stop": WARN, "cannot tell": QUIET}
MAX_EFFECT_SHARE = 1.0  # of an effect that is drawn in full; a larger one runs off the picture, as its number says
UNIT_TITLES = {"money": "money per customer", "orders": "orders per customer", "share": "share of customers"}
KPI_TITLES = {  # of starting values, in their order
    "active rate": "Active customers",
    "orders per customer": "Orders per customer",
    "spend per customer": "Spend per customer",
    "value of an order": "Average order value",
    "margin": "Margin",
    "came back": "Returned",
}
SEGMENT_FACTS = {"spend per customer": "spend_now"}  # KPI -> the column of the table segments that it is
BALANCE_TITLES = {"pre": "KPI over the history", "recent": "Recent KPI", "steady": "Active days"}


def plot_candidates(table: pd.DataFrame) -> Figure:
    """Plot the smallest relative effect a pilot in each segment can detect, with what its history reached.

    `table`: rows of ``pilots``: segment, name, smallest_share, reachable (shares of the starting value; may be null).
    """
    ordered = table.sort_values(["smallest_share", "segment"], na_position="last")
    place = np.arange(len(ordered))[::-1]
    with style():
        figure, axes = one_panel(height=1.0 + 0.34 * len(ordered))
        drawn = ordered["smallest_share"].clip(upper=MAX_EFFECT_SHARE).fillna(0)
        axes.barh(place, drawn, height=0.56, color=SOFT, label="smallest change that a test can detect")
        for y, end, value in zip(place, drawn, ordered["smallest_share"], strict=True):
            effect_text = "too few customers" if pd.isna(value) else percent(value)
            axes.annotate(effect_text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
        has_reachable = ordered["reachable"].notna()
        reached = ordered.loc[has_reachable, "reachable"]
        axes.plot(reached, place[has_reachable.to_numpy()], "D", color=ACCENT, markersize=5,
                  label="past change without a campaign")  # fmt: skip
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.set_xlim(0, max(float(drawn.max()), float(ordered["reachable"].max() or 0), 0.1) * 1.15)
        axes.set_xlabel("Change per customer")
        words = ordered["name"].map(capitalized)
        label_left(axes, place=place, words=words)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
    return figure


def plot_lifts(table: pd.DataFrame, *, break_even: float | None = None) -> Figure:
    """Plot the lift of each segment with simultaneous 95 % intervals, and the lift that would pay for it.

    Parameters
    ----------
    table
        Rows of ``experiment``: segment, name, lift, lift_low, lift_high, unit, verdict.
    break_even
        Lift per customer that pays for a contact; None where its price is not known.
    """
    place = np.arange(len(table))[::-1]
    with style():
        figure, axes = one_panel(height=1.0 + 0.42 * len(table))
        axes.axvline(0, color=INK, linewidth=0.9)
        if break_even:
            axes.axvline(break_even, color=WARN, linewidth=1.1, linestyle=(0, (4, 3)), label="pays for the contact")
            axes.legend(loc="lower right", fontsize=8)
        for y, row in zip(place, table.to_dict("records"), strict=True):
            colour = VERDICT_COLOURS.get(row["verdict"], QUIET)
            axes.plot([row["lift_low"], row["lift_high"]], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            marker = "D" if row["segment"] == "all" else segment_style(row["segment"])[1]
            axes.plot([row["lift"]], [y], marker, color=colour, markersize=7)
            end = (row["lift_high"], y)
            axes.annotate(
                row["verdict"], end, (7, 0), textcoords="offset points", va="center", fontsize=8, color=colour
            )
        label_left(
            axes, place=place, words=table["segment"].where(table["segment"] != "all", "") + "  " + table["name"]
        )
        axes.margins(x=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        as_share = table["unit"].iloc[0] == "share"
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value) if as_share else number(value)))
        axes.set_xlabel(f"Treated minus holdout, {UNIT_TITLES[table['unit'].iloc[0]]}")
    return figure


def plot_qini(curve: pd.DataFrame, *, unit: str) -> Figure:
    """Plot the gain of contacting the most promising customers first, compared with a random choice.

    `curve`: share (contacted), gain and by_lot (random choice), per customer of all.
    """
    with style():
        figure, axes = one_panel(height=3.0)
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.plot(curve["share"], curve["by_lot"], color=QUIET, linestyle=(0, (4, 3)), label="at random")
        axes.plot(curve["share"], curve["gain"], color=ACCENT, linewidth=2, label="the most promising first")
        axes.legend(loc="upper left", fontsize=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: percent(value) if unit == "share" else number(value))
        )
        axes.set_xlim(0, 1)
        axes.set(xlabel="Share of customers contacted", ylabel="")
        axes.set_title(f"Gain, {UNIT_TITLES[unit]} (of all customers)")
    return figure


def plot_associations(table: pd.DataFrame) -> Figure:
    """Plot contacted minus other customers: as they are (pale), and matched on the time before (dark).

    `table`: rows of ``association``: campaign, unit, difference and matched with _low and _high.
    """
    place = np.arange(len(table))[::-1]
    with style():
        figure, axes = one_panel(height=1.0 + 0.5 * len(table))
        axes.axvline(0, color=INK, linewidth=0.9)
        for name, shift, colour, label in (
            ("difference", 0.14, SOFT, "as observed"),
            ("matched", -0.14, ACCENT, "matched"),
        ):
            for y, row in zip(place, table.to_dict("records"), strict=True):
                axes.plot([row[f"{name}_low"], row[f"{name}_high"]], [y + shift] * 2, color=colour, linewidth=2)
            axes.plot(table[name], place + shift, "o", color=colour, markersize=6, label=label)
        label_left(axes, place=place, words=table["campaign"].map(capitalized))
        axes.legend(loc="best", fontsize=8)
        axes.set_xlabel(f"Received it minus did not, {UNIT_TITLES[table['unit'].iloc[0]]}")
        as_share = table["unit"].iloc[0] == "share"
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value) if as_share else number(value)))
    return figure


def readout_headline(experiment: pd.DataFrame) -> str:
    """Summarise the verdicts of a read-out in a sentence."""
    rows = experiment[experiment["segment"] != EVERYONE]
    found = {verdict: rows[rows["verdict"] == verdict].to_dict("records") for verdict in ("scale", "go on", "stop")}
    found = {verdict: segments for verdict, segments in found.items() if segments}
    unknown = int((rows["verdict"] == "cannot tell").sum())
    return text("pilot", "readout_headline", found=found, segments=len(rows), unknown=unknown)


def format_experiment(table: pd.DataFrame) -> pd.DataFrame:
    """Format a read-out as text, one row per segment."""
    form = formatter_for(table["unit"].iloc[0]) if len(table) else number
    rows = table.to_dict("records")
    shown = pd.DataFrame(
        {
            "Segment": [segment_name(r["segment"], names={r["segment"]: r["name"]}) for r in rows],
            "Treated / holdout": [f"{count(r['treated'])} / {count(r['control'])}" for r in rows],
            "Treated": [form(r["treated_mean"]) for r in rows],
            "Holdout": [form(r["control_mean"]) for r in rows],
            "Lift": [ranged(r["lift"], r["lift_low"], r["lift_high"], form=form) for r in rows],
            "Total return": [
                ranged(r["return_total"], r["return_total_low"], r["return_total_high"], form=number) for r in rows
            ],
            "Return per unit spent": [ranged(r["roi"], r["roi_low"], r["roi_high"], form=number) for r in rows],
            "Verdict": [r["verdict"] for r in rows],
        }
    )
    empty = [name for name in shown.columns if all(Markup(value).striptags() == MISSING for value in shown[name])]
    return shown.drop(columns=empty)


def describe_arms(facts: Mapping[str, Any]) -> str:
    """Describe the arms: customers treated and held out, and the change the pilot was designed to detect."""
    treated, control = (sum(one[arm] for one in facts["power"]) for arm in ("treatment", "control"))
    seen = [one for one in facts["power"] if one["smallest_share"]]
    return text("pilot", "arms", treated=treated, control=control, seen=seen)


def next_steps(table: pd.DataFrame) -> list[str]:
    """List what to do in each segment, and why."""
    rows = table[table["segment"] != EVERYONE].to_dict("records")
    return [text("pilot", "what_next", row=row) for row in rows]


def describe_erased(facts: Mapping[str, Any]) -> list[str]:
    """Report how many customers were erased since randomisation, where any were."""
    customers = facts.get("forgotten", 0)
    return [text("pilot", "forgotten", customers=customers)] if customers else []


def describe_qini(order: Mapping[str, Any] | None, *, unit: str) -> str:
    """Describe whether choosing which customers to contact pays."""
    if order is None:
        return text("pilot", "order", qini="", pays=False)
    shown = interval(order["value"], order["low"], order["high"], form=formatter_for(unit))
    return text("pilot", "order", qini=shown, pays=order["low"] > 0)


def describe_pilot(facts: Mapping[str, Any]) -> list[str]:
    """Describe a design: customers, length, detectable change, exclusions, and what return can be stated."""
    treated = sum(one["treatment"] for one in facts["power"])
    control = sum(one["control"] for one in facts["power"])
    form = formatter_for(facts["unit"])
    sentences = [text("pilot", "design", treated=treated, control=control, facts=facts)]
    for one in facts["power"]:
        break_even = form(one["break_even"]) if one["break_even"] else ""
        sentences.append(text("pilot", "power", row=one, effect=form(one["smallest_effect"]), break_even=break_even))
    sentences += [text("pilot", "left_out", customers=n, reason=reason) for reason, n in facts["left_out"].items() if n]
    sentences.append(text("pilot", "imbalance", worst=facts["imbalance"]))
    return [*sentences, text("pilot", "expected", expected=facts["expected"])]


def measure_headline(candidates: pd.DataFrame, experiment: pd.DataFrame, *, horizon_days: int) -> str:
    """Summarise what a pilot would take, or what one showed, in a sentence."""
    read = experiment[~experiment["verdict"].isin(["not read yet"]) & (experiment["segment"] != EVERYONE)]
    if len(read):
        return readout_headline(read)
    alone = candidates[candidates["segment"] != EVERYONE]
    known = alone["smallest_share"].notna().any()
    best = alone.loc[alone["smallest_share"].idxmin()].to_dict() if known else None
    together = candidates.set_index("segment")["smallest_share"].get(EVERYONE)
    return text("measure", "headline", best=best, together=together, horizon_days=horizon_days)


def measure_tiles(baseline: pd.DataFrame, *, words: Wording) -> list[tuple[str, str, str]]:
    """Collect the leading KPIs of all customers, with their intervals."""
    everyone = baseline[baseline["segment"] == EVERYONE].set_index("kpi")
    tiles = []
    for kpi in LEADING_KPIS.values():
        if kpi in everyone.index:
            row, form = everyone.loc[kpi], words.form(everyone.loc[kpi, "unit"])
            note = text("measure", "tile", row=row, form=form, dates=words.period.last_dates)
            tiles.append((KPI_TITLES[kpi], form(row["value"]), note))
    return tiles


def starting_caption(*, words: Wording) -> str:
    """Name the dates that the starting values cover."""
    return text("measure", "dated", dates=words.period.last_dates)


def pilot_note(kpi: str, *, measured: pd.Series) -> str:
    """Say how to set up a pilot, and how to plan for another KPI of those that are measured."""
    known = [name for name in ("orders", "spend", "active") if LEADING_KPIS[name] in set(measured)]
    others = [name for name in known if name != kpi]
    return text("measure", "pilot_note", kpi=KPIS[kpi].label, other=next(iter(others), ""))


def no_pilot_note() -> str:
    """Say how to test a campaign."""
    return text("measure", "no_pilot")


def format_balance(balance: pd.DataFrame) -> pd.DataFrame:
    """Format how similar contacted and other customers were, before and after matching."""
    return pd.DataFrame(
        {
            "Campaign": balance["campaign"].map(capitalized),
            "Before the campaign": balance["column"].map(BALANCE_TITLES),
            "As observed": [score(value) for value in balance["before"]],
            "Matched": [score(value) for value in balance["after"]],
        }
    )


def format_baseline_by_segment(baseline: pd.DataFrame, *, names: Mapping[str, str], words: Wording) -> pd.DataFrame:
    """Format the starting values, a row per segment, a column per KPI with its interval, without responses."""
    sizes = baseline[baseline["segment"] != EVERYONE].groupby("segment", as_index=False)["customers"].max()
    hides = baseline["customers"].map(is_few) | baseline["segment"].isin(hidden_segments(sizes))
    shown = baseline[baseline["kpi"].isin(list(KPI_TITLES)) & ~hides]
    cells = [_starting_value(row, words=words) for row in shown.to_dict("records")]
    wide = shown.assign(shown=cells).pivot(index="segment", columns="kpi", values="shown")
    wide = wide.reindex(columns=[kpi for kpi in KPI_TITLES if kpi in wide.columns])
    order = [EVERYONE, *(one for one in wide.index if one != EVERYONE)]
    wide = wide.reindex(order).rename(columns=KPI_TITLES)
    first = [segment_name(one, names=names) for one in wide.index]
    return wide.reset_index(drop=True).assign(Segment=first)[["Segment", *wide.columns]]


def _starting_value(row: Mapping[str, Any], *, words: Wording) -> Markup | str:
    fact = f"{row['segment']}.{SEGMENT_FACTS[row['kpi']]}" if row["kpi"] in SEGMENT_FACTS else ""
    fact = "" if row["segment"] == EVERYONE else fact
    own_share = row["unit"] == "share" and row["segment"] != EVERYONE and not fact
    form = partial(share_of, customers=row["customers"]) if own_share else words.form(row["unit"])
    return ranged(row["value"], row["value_low"], row["value_high"], form=form, fact=fact)


def describe_responses(baseline: pd.DataFrame) -> list[str]:
    """Describe each response rate of all customers in a sentence."""
    rows = baseline[(baseline["segment"] == EVERYONE) & baseline["kpi"].str.startswith("response")]
    rows = rows[rows["customers"] >= FLOOR]
    return [text("measure", "response", row=row) for row in rows.to_dict("records")]


def format_key_results(table: pd.DataFrame, *, names: Mapping[str, str], kpi: str, words: Wording) -> pd.DataFrame:
    """Format the key results of one KPI: starting value, range of past windows, reachable, target."""
    rows = table[table["kpi"] == kpi].copy()
    rows = rows.assign(order=rows["segment"] != EVERYONE).sort_values(["order", "segment"])
    form = words.form(rows["unit"].iloc[0]) if len(rows) else number
    windows = zip(rows["lowest"], rows["highest"], strict=True)
    return pd.DataFrame(
        {
            "Segment": [segment_name(one, names=names) for one in rows["segment"]],
            "Starting value": rows["starting_value"].map(form),
            "Lowest to highest four weeks, against their mean": [
                f"{signed(low - 1)} to {signed(high - 1)}" for low, high in windows
            ],
            "Within reach": rows["reachable"].map(signed),
            "Proposed target": rows["target"].map(form),
        }
    )


def format_candidates(table: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format candidate pilots, the most sensitive first."""
    shown = table[~table["segment"].isin(hidden_segments(table))]
    ordered = shown.sort_values(["smallest_share", "segment"], na_position="last")
    form = words.form(ordered["unit"].iloc[0]) if len(ordered) else number
    named = [segment_name(r["segment"], names={r["segment"]: r["name"]}) for r in ordered.to_dict("records")]
    effects = zip(ordered["smallest_effect"], ordered["smallest_share"], strict=True)
    return pd.DataFrame(
        {
            "Segment": named,
            "Customers": mark(ordered, ordered["customers"].map(count), "customers"),
            "Now, per customer": ordered["mean"].map(form),
            "Smallest detectable change": [f"{percent(s)} ({form(e)})" for e, s in effects],
            **{f"In {weeks} weeks": ordered[f"share_{weeks}"].map(percent) for weeks in SHOWN_WEEKS},
            "Past change": [MISSING if is_missing(value) else signed(value) for value in ordered["reachable"]],
            "Weeks to detect that": [_format_weeks(row) for row in ordered.to_dict("records")],
        }
    )


def format_associations(table: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format campaigns that were not randomised, as association."""
    form = words.form(table["unit"].iloc[0]) if len(table) else number
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "Campaign": [capitalized(r["campaign"]) for r in rows],
            "Received it / did not": [f"{count(r['sent'])} / {count(r['others'])}" for r in rows],
            "Difference, as observed": [
                ranged(r["difference"], r["difference_low"], r["difference_high"], form=form) for r in rows
            ],
            "Difference, matched": [ranged(r["matched"], r["matched_low"], r["matched_high"], form=form) for r in rows],
            "Matched customers": [count(r["matched_sent"]) for r in rows],
            "Largest difference before": [f"{r['worst_before']:.2f} → {r['worst_after']:.2f}" for r in rows],
            "Comparable": ["yes" if r["alike"] else "no, do not use" for r in rows],
        }
    )


def signed(value: float) -> str:
    """Format a change as a percentage with its sign.

    >>> signed(0.02), signed(-0.08), signed(0.001)
    ('+2%', '−8%', '+0.1%')
    """
    return percent(value) if value < 0 else f"+{percent(value)}"


def _format_weeks(row: Mapping[str, Any]) -> str:
    """Format the weeks needed, or the customers it would take instead."""
    if not is_missing(row["weeks_needed"]):
        return f"{int(row['weeks_needed'])}"
    size = row["size_needed"]
    return MISSING if is_missing(size) else f"needs {count(float(f'{size:.2g}'))} customers"


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
    found = read_out(design, values, contact_cost=contact_cost, margin=margin)
    content = to_rounded_json(readout_json(found, about=about))
    target = Path(out) if out else place / "readout"
    with stage_run(target, marker="readout.json") as building:
        write_json(building / "readout.json", content)
        write_bytes(building / "readout.html", render_readout(found, content=content).encode("utf-8"))
        publish_run(building, target)
    table = experiment_from_readout(content)
    sentences = [readout_headline(table), *next_steps(table)]
    sentences.append(describe_qini(content["qini"], unit=content["unit"]))
    return target / "readout.html", sentences + describe_erased(found.facts)


def render_readout(found: Readout, *, content: Mapping[str, Any]) -> str:
    """Render the page of a read-out as a whole HTML document.

    It shows the answer, the picture, the table, what to do, which customers to contact, and limits.
    """
    table, facts, curve = found.experiment, found.facts, pd.DataFrame(content["curve"])
    page = templates.html(
        "readout",
        "page",
        words={
            "headline": readout_headline(table),
            "pilot": describe_arms(facts),
            "what_next": next_steps(table),
            "order": describe_qini(content["qini"], unit=facts["unit"]),
            "forgotten": describe_erased(facts),
        },
        facts=facts,
        lifts=figure_facts(plot_lifts(table, break_even=found.price.break_even)),
        experiment=table_facts(format_experiment(table)),
        price=found.price,
        order=figure_facts(plot_qini(curve, unit=facts["unit"])) if content["qini"] is not None else None,
        version=__version__,
        css=stylesheet("views") + stylesheet("page"),
    )
    return str(page)
