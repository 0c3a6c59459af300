"""The overview page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
    hidden_segments,
    is_missing,
    money,
    percent,
    score,
    share,
    small_score,
)
from segkit.period import Period
from segkit.personas.actions import LEAST_PRIZE
from segkit.reports.forecast import dormant_total
from segkit.reports.html import way
from segkit.reports.segments import format_metric
from segkit.segments.moves import customers_of_both, moves_by_cause
from segkit.segments.scoring import lead_verdict
from segkit.segments.validation import BASELINE_LABELS, IN_PART, NONE, STABLE_VERDICTS, reappears_in_part
from segkit.tables import notebooks
from segkit.templates import text
from segkit.texts import phrase

OWN_BASELINES = ("as_today", "last_run")  # segments made as ours are; they are no other segmentation
EVENTS = ("born", "split", "merged", "died")  # of the ledger, in the order they are shown
WIDE = 0.5  # of a forecast: a range that reaches further to each side is called wide
MANY_MOVE = 0.5  # of customers who may change segment: more is said at the top
MOST_ACTIONS = 3  # opportunities on the overview


@dataclass(frozen=True)
class Comparison:
    """Compare with all other segmentations on one measure: how many are beaten, and how the strongest is.

    Parameters
    ----------
    measure
        spend, active_days (where there is no money), need or active.
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


def overview_headline(segments: pd.DataFrame, *, summary: Mapping[str, Any] | None = None) -> str:
    """Summarise the segments in two sentences: how many there are, and how much the most valuable level brings in.

    `summary`: of the run, where it is proved; segments that do not hold are said to be none.
    """
    top = segments[segments["macro_segment"] == min(segments["macro_segment"], key=lambda macro: (len(macro), macro))]
    has_level = "level" in top and len(top) < len(segments)
    if set(top["segment"]) & hidden_segments(segments):  # a sum would give the small one away
        has_level = False
    return text(
        "overview",
        "headline",
        segments=len(segments),
        customers=segments["customers"].sum(),
        level=top["level"].iloc[0] if has_level else "",
        share=top["customer_share"].sum(),
        revenue=float(top["revenue_share"].sum()) if segments["revenue_share"].notna().all() else None,
        nothing=_nothing_holds(summary or {}),
        tried=(summary or {}).get("segments.tried"),
        predicts=_predicts(summary or {}),
        declining=int(sum(way(row) == "down" for row in segments.to_dict("records"))),
    )


def overview_tiles(
    segments: pd.DataFrame,
    *,
    kpis: pd.DataFrame,
    summary: Mapping[str, Any],
    period: Period,
    currency: str = "",
    silent: int = 0,
    returns: bool = True,
) -> list[tuple[str, str, str]]:
    """Collect customers, revenue, what is expected next, and whether the segments are groups or cuts.

    Parameters
    ----------
    silent
        Customers without an event of their own in the lookback.
    returns
        Customers can return things, so that revenue is net of them.
    """
    kpi_rows, tile = kpis.set_index("kpi"), partial(text, "overview", currency=currency, period=period)
    known = {
        "silent": silent,
        "brings": dormant_total(summary, "spend"),
        "cancelled": summary.get("forecast.cancelled"),
    }
    tiles = [(tile("customers_label"), count(segments["customers"].sum()), tile("customers_note", **known))]
    if segments["revenue"].notna().any():
        revenue = money(segments["revenue"].sum(), currency=currency)
        tiles.append((tile("revenue_label"), revenue, tile("revenue_note", returns=returns)))
    expected = _expected_spend(segments, summary=summary)
    if expected is not None:
        total, low, high = expected
        known = segments["spend_now"].notna().all()
        now = (segments["spend_now"] * segments["customers"]).sum() if known else None
        note = tile("expected_note", low=low, high=high, now=now)
        tiles.append((tile("expected_label"), money(total, currency=currency), note))
    elif "active rate" in kpi_rows.index:
        tiles.append((tile("active_label"), percent(kpi_rows.loc["active rate", "value"]), tile("active_note")))
    return [*tiles, *_verdict_tile(segments, summary=summary)]


def _verdict_tile(segments: pd.DataFrame, *, summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Say whether the segments are groups or cuts, with the reason; how many come back where that was not tested."""
    tested = segments[segments["verdict"] != "not tested"]
    stable = {"stable": int(tested["verdict"].isin(STABLE_VERDICTS).sum()), "tested": len(tested)}
    if _nothing_holds(summary):
        stable["tested"] = summary.get("segments.tried") or len(tested)
    found = summary.get("structure.found")
    if is_missing(found):
        if tested.empty:
            return []
        return [
            (
                text("overview", "stable_label"),
                phrase("{some} of {all}").format(some=stable["stable"], all=stable["tested"]),
                text("overview", "stable_note"),
            )
        ]
    held = {"found": found, "nothing": _nothing_holds(summary), "in_part": reappears_in_part(segments)}
    value = text("overview", "verdict_value", **held)
    note = text("overview", "verdict_note", **held, **stable, predicts=_predicts(summary))
    return [(text("overview", "verdict_label"), value, note)]


def _nothing_holds(summary: Mapping[str, Any]) -> bool:
    return summary.get("segments.verdict") == NONE


def _predicts(summary: Mapping[str, Any]) -> bool:
    """Return whether the segments that were tried explained anything of what came later."""
    return any((summary.get(f"forward.{measure}_r2.low") or 0) > 0 for measure in ("spend", "need"))


def describe_accuracy(summary: Mapping[str, Any], *, period: Period) -> str:
    """Describe for a marketer how well the segments predict, against the strongest other segmentation.

    No choice of others is named: the strongest leaves none out.
    """
    compared = _compare_with_others(summary)
    nothing, reason = _nothing_holds(summary), summary.get("forward.reason")
    facts = {"compared": compared, "nothing": nothing, "reason": reason, "period": period}
    return text("overview", "trust", **facts, predicts=_predicts(summary), wide=_is_forecast_wide(summary))


def describe_unrest(run: Run) -> str:
    """Warn where more than half of the customers may change segment, as Predict shows it; else ""."""
    if not run.has("predicted_segments"):
        return ""
    table = run.table("predicted_segments").set_index("segment")
    share_moving = table.loc["all", "move_share"] if "all" in table.index else None
    if is_missing(share_moving) or share_moving <= MANY_MOVE:
        return ""
    return " " + text("overview", "may_move", share=share_moving, period=run.period).strip()


def _is_forecast_wide(summary: Mapping[str, Any]) -> bool:
    """Return whether the back-test leaves a forecast that no budget can rest on."""
    if is_missing(summary.get("forecast.spend")) or not summary.get("forecast.origins"):
        return False
    half = (summary["forecast.spend.high"] - summary["forecast.spend.low"]) / 2
    return bool(half > WIDE * summary["forecast.spend"])


def best_actions(actions: pd.DataFrame, *, most: int = MOST_ACTIONS) -> pd.DataFrame:
    """Choose the first opportunities of the table for the overview, but no two for the same need in the same way.

    Where none has a prize, ideas stand in their place, at least one of them such that a test can prove it, where there
    is one.
    """
    table = actions[actions["prize"].notna()]
    if table.empty:
        different = actions[~actions.duplicated(["type", "need"])]
        testable = different[different["command"].notna()].head(1).index
        first = different.index[:most]
        table = different.loc[first if set(testable) <= set(first) else first[: most - 1].append(testable)]
    return table[~table.duplicated(["type", "need"])].head(most)


def describe_no_opportunity(
    shown: pd.DataFrame, *, summary: Mapping[str, Any], period: Period, currency: str
) -> str | None:
    """Say that no opportunity is large enough, and what to do instead; None where one is."""
    if shown["prize"].notna().any():
        return None
    least = summary.get("actions.least")
    amount = None if is_missing(least) or not least else money(float(f"{least:.1e}"), currency=currency)
    stretch = templates.sentence("actions", "a_stretch", days=period.horizon_days)
    base = amount and money(least / LEAST_PRIZE, currency=currency)
    facts = {"least": amount, "base": base, "last": period.last_dates, "stretch": stretch, "share": share(LEAST_PRIZE)}
    return text("overview", "no_opportunity", **facts, ideas=len(shown))


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
    found = [(size, phrase(f"moved {way} a level")) for way, size in levels.items()]
    found += list(zip(needs["customers"], needs["words"], strict=True))
    named = [(size, words) for size, words in found if size >= FLOOR]
    return [text("overview", "changed", named=named)] if named else []


def list_pages(made: Iterable[str]) -> list[tuple[str, str, str]]:
    """List the other pages and what each answers: (page, name, question).

    `made`: the notebooks that a run holds tables of.
    """
    return [
        (f"{step}.html", phrase(one.label), phrase(one.question))
        for step, one in notebooks().items()
        if step in set(made)
    ]


def describe_evidence(summary: Mapping[str, Any]) -> list[str]:
    """Describe structure, what is explained, every other segmentation, stability and noise, one sentence each."""
    found, noise = summary.get("segments.found_as_of"), summary.get("segments.noise_share")
    sentences = [text("overview", "found_as_of", found=found)] if found else []
    if not is_missing(summary.get("structure.found")):
        scores = {name: summary.get(f"structure.{name}") for name in ("ari", "reference_ari")}
        held = {"found": summary["structure.found"], "nothing": _nothing_holds(summary)}
        held["in_part"] = summary.get("segments.verdict") == IN_PART
        sentences.append(text("overview", "structure", **held, **scores))
    sentences.append(_describe_predictability(summary))
    sentences += [text("overview", "rival", label=label, leads=leads) for label, leads in _each_other(summary)]
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


def _describe_moves(moves: pd.DataFrame) -> list[str]:
    """Describe how many customers stayed, changed themselves, or were moved by the new definition."""
    both = moves[~moves["cause"].isin(("joined", "left"))]
    if both.empty:
        return []
    by_cause = moves_by_cause(moves)
    part = {
        cause: phrase(TOO_FEW_TEXT) if row["hidden"] else share(row["customers"] / len(both))
        for cause, row in by_cause.head(4).to_dict("index").items()
    }
    return [
        text("overview", "moved", customers=customers_of_both(moves), part=part),
        text("overview", "joined_left", joined=by_cause["shown"]["joined"], left=by_cause["shown"]["left"]),
    ]


def _describe_predictability(summary: Mapping[str, Any]) -> str:
    shown = _measures(summary) or (["mix"] if not is_missing(summary.get("forward.mix_r2")) else [])
    forms = {"spend": score, "active": score}
    scores = {
        _named(m, summary): format_metric(summary, f"forward.{m}_r2", form=forms.get(m, small_score)) for m in shown
    }
    return text("overview", "foresight", scores=scores, reason=summary.get("forward.reason"))


def _measures(summary: Mapping[str, Any]) -> list[str]:
    """List what is spoken of: spend, or who is active where there is no money; and needs where there are any."""
    known = [m for m in ("spend", "active", "need") if not is_missing(summary.get(f"forward.{m}_r2"))]
    return [m for m in known if not (m == "active" and "spend" in known)]


def _named(measure: str, summary: Mapping[str, Any]) -> str:
    """Name what a measure is of: that of spend is of active days where there is no money."""
    return summary.get("forward.spend_of") or measure if measure == "spend" else measure


def _compare_with_others(summary: Mapping[str, Any]) -> list[Comparison]:
    """Compare with all other segmentations, measure by measure; a measure without any is left out."""
    found = []
    for measure in _measures(summary):
        leads = {name: _lead(summary, name=name, measure=measure) for name in _others(summary, measure=measure)}
        leads = {name: lead for name, lead in leads.items() if lead}
        if leads:
            top = max(leads, key=lambda name: (summary[f"forward.{name}.{measure}_r2"], name))
            counts = {lead: sum(one == lead for one in leads.values()) for lead in ("ahead", "level", "behind")}
            found.append(Comparison(_named(measure, summary), counts, _label_of(top), leads[top]))
    return found


def _each_other(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """List every other segmentation with the verdict against it on each measure."""
    measures, found = _measures(summary), {}
    for measure in measures:
        for name in _others(summary, measure=measure):
            lead = _lead(summary, name=name, measure=measure)
            if lead:
                found.setdefault(name, {})[_named(measure, summary)] = lead
    return [(_label_of(name), leads) for name, leads in found.items()]


def _label_of(name: str) -> str:
    return phrase(BASELINE_LABELS.get(name, name.replace("_", " ")))


def _others(summary: Mapping[str, Any], *, measure: str) -> list[str]:
    start, end = "forward.", f".{measure}_r2"
    names = [key[len(start) : -len(end)] for key in summary if key.startswith(start) and key.endswith(end)]
    return [name for name in names if name not in OWN_BASELINES]


def _lead(summary: Mapping[str, Any], *, name: str, measure: str) -> str:
    """Return ahead, level or behind; empty where it was not measured."""
    low, high = (summary.get(f"forward.{name}.{measure}_lead.{part}") for part in ("low", "high"))
    if is_missing(low) or is_missing(high):
        return ""
    return lead_verdict(low, high)


def render_links(links: Iterable[tuple[str, str, str]]) -> Markup:
    """Render links to the other pages: (page, its name, what it answers) each."""
    return templates.html("overview", "links", links=links)
