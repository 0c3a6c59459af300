"""Plots and text of the page Measure."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.experiments.design import SHOWN_WEEKS
from segkit.experiments.estimate import KPIS, LEADING_KPIS
from segkit.experiments.observational import MAX_AUC
from segkit.format import (
    FLOOR,
    MISSING,
    capitalized,
    count,
    hidden_segments,
    is_few,
    is_missing,
    number,
    percent,
    score,
    share_of,
    spread,
)
from segkit.reports.pilots import BALANCE_TITLES, UNIT_TITLES, readout_headline
from segkit.reports.theme import (
    ACCENT,
    INK,
    SOFT,
    label_left,
    one_panel,
    style,
)
from segkit.reports.wording import Wording, mark, ranged, segment_name
from segkit.templates import text
from segkit.vocabulary import EVERYONE

MAX_EFFECT_SHARE = 1.0  # of an effect that is drawn in full; a larger one runs off the picture, as its number says
LEAST_SHARE = 0.001  # of a change that is written in full
KPI_TITLES = {  # of starting values, in their order
    "active rate": "Active customers",
    "orders per customer": "Orders per customer",
    "spend per customer": "Spend per customer",
    "value of an order": "Average order value",
    "margin": "Margin",
}
SEGMENT_FACTS = {"spend per customer": "spend_now"}  # KPI -> the column of the table segments that it is


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
        last = max(float(drawn.max()), float(ordered["reachable"].max() or 0), 0.1) * 1.15
        near = ordered["reachable"].where(ordered["reachable"].between(drawn - 0.01 * last, drawn + 0.08 * last))
        ends = drawn.where(near.isna(), np.maximum(drawn, near) + 0.01 * last)  # not under a diamond
        for y, end, value in zip(place, ends, ordered["smallest_share"], strict=True):
            effect_text = "cannot be sized" if pd.isna(value) else _detectable(value)
            axes.annotate(effect_text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
        has_reachable = ordered["reachable"].notna()
        reached = ordered.loc[has_reachable, "reachable"]
        axes.plot(reached, place[has_reachable.to_numpy()], "D", color=ACCENT, markersize=5, clip_on=False,
                  label="change it has reached before, without a campaign")  # fmt: skip
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        axes.set_xlim(-0.015 * last, last)
        axes.set_xlabel("Change per customer")
        words = ordered["name"].map(capitalized)
        label_left(axes, place=place, words=words)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
    return figure


def plot_associations(table: pd.DataFrame, *, words: Wording) -> Figure:
    """Plot contacted minus other customers: as they are (pale), and matched on the time before (dark).

    `table`: rows of ``association`` that can be compared: campaign, unit, difference and matched with _low and _high.
    """
    place, form = np.arange(len(table))[::-1], words.form(table["unit"].iloc[0])
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
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    return figure


def describe_associations(table: pd.DataFrame, *, words: Wording) -> str:
    """Summarise what campaigns without a holdout show: how many can be compared, and whether a difference is left."""
    alike = table[table["alike"].astype(bool)]
    clear = alike[(alike["matched_low"] > 0) | (alike["matched_high"] < 0)]
    return text(
        "measure",
        "associations",
        campaigns=len(table),
        alike=len(alike),
        apart=[capitalized(r["campaign"]) for r in table[table["auc"] >= MAX_AUC].to_dict("records")],
        clear=[
            (
                capitalized(r["campaign"]),
                spread(r["matched"], r["matched_low"], r["matched_high"], form=words.form(r["unit"])),
            )
            for r in clear.to_dict("records")
        ],
    )


def measure_headline(candidates: pd.DataFrame, experiment: pd.DataFrame, *, horizon_days: int) -> str:
    """Summarise what a pilot would take, or what one showed, in a sentence."""
    read = experiment[~experiment["verdict"].isin(["not read yet"])]
    if len(read):
        return readout_headline(read)
    alone = candidates[candidates["segment"] != EVERYONE]
    varied = alone[alone["smallest_share"] >= LEAST_SHARE]  # where all pay the same, no test says anything of others
    best = varied.loc[varied["smallest_share"].idxmin()].to_dict() if len(varied) else None
    together = candidates.set_index("segment")["smallest_share"].get(EVERYONE)
    sized = candidates[(candidates["smallest_share"] >= LEAST_SHARE) & candidates["reachable"].notna()]
    shows = sized.loc[sized["smallest_share"] <= sized["reachable"], "segment"].tolist()
    facts = {"sized": int((sized["segment"] != EVERYONE).sum()), "all_shows": EVERYONE in shows}
    facts["shows"] = len(shows) - facts["all_shows"]
    return text("measure", "headline", best=best, together=together, weeks=round(horizon_days / 7), **facts)


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


def format_candidates(table: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format candidate pilots, the most sensitive first."""
    whole = round(words.period.horizon_days / 7)
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
            **{
                f"Detectable in {weeks} weeks": ordered[f"share_{weeks}"].map(_detectable)
                for weeks in SHOWN_WEEKS
                if weeks != whole
            },
            f"Detectable in {whole} weeks": [f"{_detectable(s)} ({form(e)})" for e, s in effects],
            "Reached before": [MISSING if is_missing(value) else signed(value) for value in ordered["reachable"]],
            "Weeks to detect that": ordered["weeks_needed"].map(number),
            f"Customers to detect that in {whole} weeks": ordered["size_needed"].map(_two_digits),
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
                "cannot tell"
                if is_missing(r["difference"])
                else ranged(r["difference"], r["difference_low"], r["difference_high"], form=form)
                for r in rows
            ],
            "Difference, matched": [
                ranged(r["matched"], r["matched_low"], r["matched_high"], form=form) if r["alike"] else "cannot tell"
                for r in rows
            ],
            "Matched customers": [
                f"{count(r['matched_sent'])} ({percent(r['matched_sent'] / r['sent'])})" for r in rows
            ],
            "Separated before, AUC": [score(r["auc"]) for r in rows],
            "Hidden cause needed": [_hidden_cause(r) for r in rows],
            "Largest difference before, in standard deviations": [
                f"{r['worst_before']:.2f} → {r['worst_after']:.2f}" for r in rows
            ],
            "Comparable": ["yes" if r["alike"] else "no" for r in rows],
        }
    )


def _hidden_cause(row: Mapping[str, Any]) -> str:
    """Write how strong a hidden cause must be to explain a difference away; a dash where none is left to explain."""
    if not row["alike"] or is_missing(row["e_value"]) or row["e_value"] <= 1:
        return MISSING
    return f"{row['e_value']:.1f} times"


def signed(value: float | None) -> str:
    """Format a change as a percentage with its sign.

    >>> signed(0.02), signed(-0.08), signed(0.001), signed(0.0), signed(None)
    ('+2%', '−8%', '+0.1%', '0%', '–')
    """
    return percent(value) if is_missing(value) or value <= 0 else f"+{percent(value)}"


def _detectable(share: float | None) -> str:
    """Format the smallest change that a test can detect; where customers all pay the same, it is nearly none.

    >>> _detectable(0.12), _detectable(0.00001), _detectable(None)
    ('12%', '<0.1%', '–')
    """
    return percent(share) if is_missing(share) or share >= LEAST_SHARE else f"<{percent(LEAST_SHARE)}"


def _two_digits(size: float | None) -> str:
    """Format customers needed, which are known to two digits at most.

    >>> _two_digits(1438.0), _two_digits(None)
    ('1,400', '–')
    """
    return MISSING if is_missing(size) else count(float(f"{size:.2g}"))
