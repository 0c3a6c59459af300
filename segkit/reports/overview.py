"""The overview page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.data.runs import Run
from segkit.format import (
    FLOOR,
    TOO_FEW_TEXT,
    count,
    is_few,
    is_missing,
    number,
    score,
    share,
    small_score,
    suppressed_cells,
)
from segkit.reports.html import shown_row, shown_rows, way
from segkit.reports.segments import format_metric
from segkit.segments.scoring import lead_verdict
from segkit.segments.validation import BASELINE_LABELS
from segkit.tables import notebooks
from segkit.templates import text

FEW_LISTED = 3  # segments named in a headline
MAX_FIRST_ACTIONS = 3  # actions
STABLE_VERDICTS = ("natural", "reproducible")  # verdicts of segments that come back
OWN_BASELINES = ("as_today", "last_run")  # segments made as ours are; they are no other segmentation
EVENTS = ("born", "split", "merged", "died")  # of the ledger, in the order they are shown
TRENDS = {"down": "Cooling", "up": "Warming", "level": "Steady", "": "Large"}


@dataclass(frozen=True)
class FirstAction:
    """One thing to do first: the segment (a row of the segment table), why, how large, what to do, and the evidence."""

    row: Mapping[str, Any]
    why: str
    size: str
    action: str
    proof: str


@dataclass(frozen=True)
class Comparison:
    """Compare with all other segmentations on one measure: how many are beaten, and how the strongest is.

    Parameters
    ----------
    measure
        spend, need or active.
    counts
        Others by verdict: ahead, level, behind.
    strongest
        Label of the one that explains most.
    lead
        Verdict against the strongest.
    """

    measure: str
    counts: Mapping[str, int]
    strongest: str
    lead: str

    @property
    def others(self) -> int:
        """Return how many are compared with."""
        return sum(self.counts.values())


def optional_table(run: Run, name: str) -> pd.DataFrame | None:
    """Read a table that not every run has; None where it is missing."""
    return run.table(name) if run.has(name) else None


def expected_spend(run: Run) -> pd.Series | None:
    """Read what each customer is expected to spend, by customer_id; None where the run holds no forecast."""
    forecast = optional_table(run, "predictions")
    if forecast is None or "spend_mean" not in forecast:
        return None
    return forecast.set_index("customer_id")["spend_mean"]


def overview_headline(segments: pd.DataFrame) -> str:
    """Summarise the segments in a sentence."""
    top = segments["revenue_share"].dropna().astype(float).nlargest(FEW_LISTED)
    return text(
        "overview",
        "headline",
        segments=len(segments),
        customers=segments["customers"].sum(),
        top=len(top),
        top_share=top.sum(),
        cooling=int((segments["spend_next_high"] < segments["spend_now"]).sum()),
    )


def overview_tiles(
    segments: pd.DataFrame, *, kpis: pd.DataFrame, summary: Mapping[str, Any], horizon_days: int | None = None
) -> list[tuple[str, str, str]]:
    """Collect customers, revenue, what is expected next, and how far to trust it."""
    kpi_rows = kpis.set_index("kpi")
    tiles = [("Customers", count(segments["customers"].sum()), "active in the lookback")]
    if segments["revenue"].notna().any():
        tiles.append(("Revenue", number(segments["revenue"].sum()), "in the lookback, net of returns"))
    expected = _expected_spend(segments, summary=summary)
    if expected is not None:
        tiles.append(_expected_tile(segments, expected=expected, horizon_days=horizon_days))
    elif "active rate" in kpi_rows.index:
        tiles.append(
            ("Active recently", share(kpi_rows.loc["active rate", "value"]), "of all known, in the last horizon")
        )
    tested = segments[segments["verdict"] != "not tested"]
    if len(tested):
        stable_count = int(tested["verdict"].isin(STABLE_VERDICTS).sum())
        note = text("overview", "stable_note", agreement=summary.get("stability.ari_mean"))
        tiles.append(("How far to trust them", f"{stable_count} of {len(tested)}", note))
    return tiles


def describe_accuracy(summary: Mapping[str, Any]) -> str:
    """Describe for a marketer how well the segments predict, against the strongest other, and whether they are groups.

    No choice of others is named: the strongest leaves none out.
    """
    compared = _compare_with_others(summary)
    sentences = [text("overview", "trust", compared=compared, reason=summary.get("forward.reason"))]
    if not is_missing(summary.get("structure.found")):
        sentences.append(text("overview", "verdict", found=summary["structure.found"]))
    return " ".join(sentences)


def choose_first_actions(
    segments: pd.DataFrame, *, horizon_days: int | None = None, most: int = MAX_FIRST_ACTIONS
) -> list[FirstAction]:
    """Choose what to do first: declining segments, then the most valuable ones.

    `segments`: the table ``segments``; unstable segments are left out, and no kind of action is repeated while others
    are left.
    """
    table = segments[(segments["verdict"] != "unstable") & ~segments["customers"].map(is_few)]
    loss = ((table["spend_now"] - table["spend_next"]) * table["customers"]).where(
        table["spend_next_high"] < table["spend_now"], 0.0
    )
    worth = (table["spend_next"] * table["customers"]).fillna(table["customers"] / 1e6)
    ranked = table.assign(_loss=loss.fillna(0.0), _worth=worth)
    ranked = ranked.sort_values(["_loss", "_worth", "segment"], ascending=[False, False, True])
    kinds = ranked["action"].str.partition(":")[0]
    ranked = ranked.assign(_again=kinds.groupby(kinds).cumcount()).sort_values("_again", kind="stable")
    return [_first_action(row, horizon_days=horizon_days) for row in ranked.head(most).to_dict("records")]


def describe_changes(segments: pd.DataFrame, *, ledger: pd.DataFrame, moves: pd.DataFrame, as_of: str) -> list[str]:
    """Describe what changed since the last run, one sentence each: segments, customers, and why.

    Parameters
    ----------
    ledger, moves
        None where the run has none.
    as_of
        Date of this run; the previous one is the last date in the ledger before it.
    """
    before = ledger.loc[ledger["as_of"] < as_of, "as_of"].max() if ledger is not None else None
    if is_missing(before):
        return [text("overview", "first_run")]
    rows = ledger[ledger["as_of"] == as_of]
    names = segments.set_index("segment")["name"]
    sentences = [text("overview", "same", segments=(rows["event"] == "same").sum(), since=before)]
    for event in EVENTS:
        found = sorted(rows.loc[rows["event"] == event, "segment"].unique())
        if found:
            known = [f"{names[s]} ({s})" if s in names.index else s for s in found]
            sentences.append(text("overview", "became", names=known, event=event))
    return [*sentences, *(_describe_moves(moves) if moves is not None else [])]


def describe_customer_changes(changes: pd.DataFrame | None, *, most: int = 3) -> list[str]:
    """Describe what changed for customers who moved in one sentence; nothing where too few have a change in common.

    `changes`: the table ``customer_changes``; None where the run has none. `most`: needs that are named.
    """
    if changes is None:
        return []
    levels = {way: int(changes.loc[changes["change"] == way, "customers"].sum()) for way in ("up", "down")}
    needs = changes[~changes["change"].isin(levels)]
    needs = needs.sort_values(["customers", "words"], ascending=[False, True]).head(most + 1)
    found = [(size, f"moved {way} a level") for way, size in levels.items()]
    found += list(zip(needs["customers"], needs["words"], strict=True))
    named = [(size, words) for size, words in found if size >= FLOOR]
    return [text("overview", "changed", named=named)] if named else []


def list_pages(made: Iterable[str]) -> list[tuple[str, str, str]]:
    """List the other pages and what each answers: (page, name, question).

    `made`: the notebooks that a run holds tables of.
    """
    return [(f"{step}.html", one.label, one.question) for step, one in notebooks().items() if step in set(made)]


def describe_evidence(summary: Mapping[str, Any]) -> list[str]:
    """Describe structure, predictability, baselines, stability and noise, one sentence each."""
    found, noise = summary.get("segments.found_as_of"), summary.get("segments.noise_share")
    sentences = [text("overview", "found_as_of", found=found)] if found else []
    if not is_missing(summary.get("structure.found")):
        scores = {name: summary.get(f"structure.{name}") for name in ("ari", "reference_ari")}
        sentences.append(text("overview", "structure", found=summary["structure.found"], **scores))
    sentences.append(_describe_predictability(summary))
    sentences += [text("overview", "rival", compared=one) for one in _compare_with_others(summary)]
    agreement = format_metric(summary, "stability.ari_mean") if summary.get("stability.ari_mean") is not None else ""
    sentences.append(text("overview", "stability", agreement=agreement))
    if noise is not None:
        agreement = format_metric(summary, "segments.hdbscan_ari")
        sentences.append(text("overview", "noise", share_left=noise, agreement=agreement))
    return sentences


def _expected_spend(segments: pd.DataFrame, *, summary: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Sum the expected spend of all customers with its interval; None where it is not known.

    The interval of the forecast covers chance and season. That of the segments assumes independent errors.
    """
    if not is_missing(summary.get("forecast.spend")):
        return tuple(summary[f"forecast.spend{part}"] for part in ("", ".low", ".high"))
    if segments["spend_next"].isna().all():
        return None
    total = float((segments["spend_next"] * segments["customers"]).sum())
    halves = (segments["spend_next_high"] - segments["spend_next_low"]) / 2 * segments["customers"]
    half = np.sqrt((halves**2).sum())
    return total, total - half, total + half


def _expected_tile(
    segments: pd.DataFrame, *, expected: tuple[float, float, float], horizon_days: int | None
) -> tuple[str, str, str]:
    total, low, high = expected
    known = segments["spend_now"].notna().all()
    now = (segments["spend_now"] * segments["customers"]).sum() if known else None
    note = text("overview", "expected_note", low=low, high=high, now=now, horizon_days=horizon_days)
    return text("overview", "expected_label", horizon_days=horizon_days), number(total), note


def _first_action(row: Mapping[str, Any], *, horizon_days: int | None) -> FirstAction:
    trend = way(row)
    change = {"down": "less", "up": "more"}.get(trend, "") if trend and row["spend_now"] > 0 else ""
    return FirstAction(
        row=shown_row(row),
        why=TRENDS[trend],
        size=text("overview", "size", row=row, change=change, horizon_days=horizon_days),
        action=_sentence(row["action"]),
        proof=text("overview", "proof", row=row),
    )


def _describe_moves(moves: pd.DataFrame) -> list[str]:
    """Describe how many customers stayed, changed themselves, or were moved by the new definition."""
    both = moves[~moves["cause"].isin(("joined", "left"))]
    if both.empty:
        return []
    counts = both["cause"].value_counts().reindex(["stayed", "customer", "definition", "both"], fill_value=0)
    few = zip(counts.items(), suppressed_cells(counts), strict=True)
    part = {cause: TOO_FEW_TEXT if hide else share(size / len(both)) for (cause, size), hide in few}
    joined, left = ((moves["cause"] == cause).sum() for cause in ("joined", "left"))
    return [
        text("overview", "moved", customers=len(both), part=part),
        text("overview", "joined_left", joined=joined, left=left),
    ]


def _describe_predictability(summary: Mapping[str, Any]) -> str:
    shown = _measures(summary) or (["mix"] if not is_missing(summary.get("forward.mix_r2")) else [])
    forms = {"spend": score, "active": score}
    scores = {m: format_metric(summary, f"forward.{m}_r2", form=forms.get(m, small_score)) for m in shown}
    return text("overview", "foresight", scores=scores, reason=summary.get("forward.reason"))


def _measures(summary: Mapping[str, Any]) -> list[str]:
    """List what is spoken of: spend, or who is active where there is no money; and needs where there are any."""
    known = [m for m in ("spend", "active", "need") if not is_missing(summary.get(f"forward.{m}_r2"))]
    return [m for m in known if not (m == "active" and "spend" in known)]


def _compare_with_others(summary: Mapping[str, Any]) -> list[Comparison]:
    """Compare with all other segmentations, measure by measure; a measure without any is left out."""
    found = []
    for measure in _measures(summary):
        start, end = "forward.", f".{measure}_r2"
        names = [key[len(start) : -len(end)] for key in summary if key.startswith(start) and key.endswith(end)]
        leads = {name: _lead(summary, name=name, measure=measure) for name in names if name not in OWN_BASELINES}
        leads = {name: lead for name, lead in leads.items() if lead}
        if leads:
            top = max(leads, key=lambda name: (summary[f"{start}{name}{end}"], name))
            counts = {lead: sum(one == lead for one in leads.values()) for lead in ("ahead", "level", "behind")}
            found.append(Comparison(measure, counts, BASELINE_LABELS.get(top, top.replace("_", " ")), leads[top]))
    return found


def _lead(summary: Mapping[str, Any], *, name: str, measure: str) -> str:
    """Return ahead, level or behind; empty where it was not measured."""
    low, high = (summary.get(f"forward.{name}.{measure}_lead.{part}") for part in ("low", "high"))
    if is_missing(low) or is_missing(high):
        return ""
    return lead_verdict(low, high)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}".rstrip(".") + "."


def render_first_actions(actions: Iterable[FirstAction], *, cards: str = "") -> Markup:
    """Render what to do first, one numbered card each.

    `cards`: page that holds a card for each segment; a name links to its own.
    """
    return templates.html("overview", "first", actions=actions, cards=cards)


def render_segment_summaries(segments: pd.DataFrame, *, cards: str = "") -> Markup:
    """Render each segment as a small card, largest revenue first: name, size and need."""
    return templates.html("overview", "minis", rows=shown_rows(segments), cards=cards)


def render_links(links: Iterable[tuple[str, str, str]]) -> Markup:
    """Render links to the other pages: (page, its name, what it answers) each."""
    return templates.html("overview", "links", links=links)
