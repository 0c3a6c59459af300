"""What the pages of measuring say: sentences and tables of baseline, pilots, read-outs and associations, computed from
the run.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from segkit.actions.kpi import KPIS
from segkit.actions.measure import LEADING
from segkit.actions.power import SHOWN_WEEKS
from segkit.numbers import NOTHING, by_unit, count, interval, is_missing, number, score, share
from segkit.pages.pilot_story import readout_headline
from segkit.small_groups import FLOOR, is_few
from segkit.templates import text
from segkit.vocabulary import EVERYONE

ASSOCIATION_CAPTION = (
    "Differences per customer over the horizon, with 95 % intervals, each by itself. Unlike before: the largest "
    "difference before "
    "the campaign, in standard deviations, as they are and matched."
)
KPI_NOTE = "The figure to move is {kpi}. Another: -p kpi orders. To draw a pilot: segkit pilot RUN --segment ID."
NO_PILOT = (
    "No pilot was given, so nothing is known of what contact brings, and no return is stated anywhere in this "
    "report. Draw one with "
    "segkit pilot; when its window is over, segkit readout reads it, and -p pilot FOLDER shows it here."
)
BASELINE_HEADINGS = (
    "active rate",
    "orders per customer",
    "spend per customer",
    "value of an order",
    "margin",
    "came back",
)


def measure_headline(candidates: pd.DataFrame, experiment: pd.DataFrame, *, horizon_days: int) -> str:
    """What it would take to know, or what a pilot showed, in a sentence."""
    read = experiment[~experiment["verdict"].isin(["not read yet"]) & (experiment["segment"] != EVERYONE)]
    if len(read):
        return readout_headline(read)
    alone = candidates[candidates["segment"] != EVERYONE]
    known = alone["smallest_share"].notna().any()
    best = alone.loc[alone["smallest_share"].idxmin()].to_dict() if known else None
    together = candidates.set_index("segment")["smallest_share"].get(EVERYONE)
    return text("measure", "headline", best=best, together=together, horizon_days=horizon_days)


def measure_tiles(baseline: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The leading KPIs of all customers, with their ranges."""
    everyone = baseline[baseline["segment"] == EVERYONE].set_index("kpi")
    tiles = []
    for kpi in LEADING.values():
        if kpi in everyone.index:
            row, form = everyone.loc[kpi], by_unit(everyone.loc[kpi, "unit"])
            tiles.append((f"{kpi.capitalize()}, one horizon", form(row["value"]), _between(row, form=form)))
    return tiles


def dated(baseline: pd.DataFrame) -> str:
    """From when to when the baseline is."""
    return text("measure", "dated", start=baseline["start"].min(), end=baseline["end"].max())


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
    shown = baseline[baseline["kpi"].isin(BASELINE_HEADINGS) & ~baseline["customers"].map(is_few)]
    cells = [
        interval(r["value"], r["value_low"], r["value_high"], form=by_unit(r["unit"])) for r in shown.to_dict("records")
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
    rows = rows[rows["customers"] >= FLOOR]
    return [text("measure", "response", row=row) for row in rows.to_dict("records")]


def key_results_shown(table: pd.DataFrame, *, names: Mapping[str, str], kpi: str) -> pd.DataFrame:
    """Key results of one KPI as text: baseline, what the windows of the past ran between, reachable, target."""
    rows = table[table["kpi"] == kpi].copy()
    rows = rows.assign(order=rows["segment"] != EVERYONE).sort_values(["order", "segment"])
    form = by_unit(rows["unit"].iloc[0]) if len(rows) else number
    return pd.DataFrame(
        {
            "Segment": [_called(one, names=names) for one in rows["segment"]],
            "Baseline": rows["starting_value"].map(form),
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
    form = by_unit(ordered["unit"].iloc[0]) if len(ordered) else number
    return pd.DataFrame(
        {
            "Segment": [
                _called(row["segment"], names={row["segment"]: row["name"]}) for row in ordered.to_dict("records")
            ],
            "Customers": ordered["customers"].map(count),
            "Baseline": ordered["mean"].map(form),
            "Smallest effect seen": [
                f"{form(e)} ({share(s)})"
                for e, s in zip(ordered["smallest_effect"], ordered["smallest_share"], strict=True)
            ],
            **{f"In {weeks} weeks": ordered[f"share_{weeks}"].map(share) for weeks in SHOWN_WEEKS},
            "Reached before": [NOTHING if is_missing(value) else f"+{share(value)}" for value in ordered["reachable"]],
            "Weeks to show that": [_weeks(row) for row in ordered.to_dict("records")],
        }
    )


def associations_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Campaigns as association, as text."""
    form = by_unit(table["unit"].iloc[0]) if len(table) else number
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


def _weeks(row: Mapping[str, Any]) -> str:
    """Weeks needed, or the customers it would take instead."""
    if not is_missing(row["weeks_needed"]):
        return f"{int(row['weeks_needed'])}"
    return NOTHING if is_missing(row["size_needed"]) else f"needs {number(row['size_needed'])} customers"


def _between(row: Mapping[str, Any], *, form: Callable[[Any], str]) -> str:
    return f"{form(row['value_low'])} to {form(row['value_high'])}"
