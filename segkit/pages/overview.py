"""What the overview says, computed from a run: what was found, how sure, what to do first, what changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segkit.data.store import Run
from segkit.numbers import count, fine, is_missing, joined, number, score, share
from segkit.pages.story import figure
from segkit.small_groups import FEW_WORDS, hidden, is_few, shown
from segkit.tables import notebooks

MANY = 3  # segments named in a headline
FIRST = 3  # actions
HOLD = ("natural", "reproducible")  # verdicts of segments that come back
RIVALS = {"rfm25": "recency and frequency", "kmeans": "KMeans on behaviour", "demographic": "demographics"}
EVENTS = {  # of the ledger -> words, of one and of several
    "born": ("is new", "are new"),
    "split": ("split", "split"),
    "merged": ("was merged", "were merged"),
    "died": ("is gone", "are gone"),
}


@dataclass(frozen=True)
class FirstAction:
    """One thing to do first: the segment (a row of the segment table), why it, how large, what to do, what backs it."""

    row: Mapping[str, Any]
    why: str
    size: str
    do: str
    proof: str


def held(run: Run, name: str) -> pd.DataFrame | None:
    """A table of a run that not every run has; None where it is missing."""
    return run.table(name) if run.has(name) else None


def expected_spend(run: Run) -> pd.Series | None:
    """What each customer is expected to spend, by customer_id; None where the run holds no forecast."""
    forecast = held(run, "predictions")
    if forecast is None or "spend_mean" not in forecast:
        return None
    return forecast.set_index("customer_id")["spend_mean"]


def overview_headline(segments: pd.DataFrame) -> str:
    """What was found, in one sentence."""
    total = f"{len(segments)} segments describe {count(segments['customers'].sum())} customers"
    if segments["revenue_share"].notna().any():
        top = segments["revenue_share"].nlargest(MANY)
        total += f"; {len(top)} of them carry {share(top.sum())} of revenue"
    cooling = int((segments["spend_next_high"] < segments["spend_now"]).sum())
    return f"{total}; {cooling} {'is' if cooling == 1 else 'are'} cooling." if cooling else f"{total}."


def overview_tiles(
    segments: pd.DataFrame, *, kpis: pd.DataFrame, summary: Mapping[str, Any], horizon_days: int | None = None
) -> list[tuple[str, str, str]]:
    """Customers, revenue, what is expected next, and how far to trust it."""
    known = kpis.set_index("kpi")
    tiles = [("Customers", count(segments["customers"].sum()), "active in the lookback")]
    if segments["revenue"].notna().any():
        tiles.append(("Revenue", number(segments["revenue"].sum()), "in the lookback, net of returns"))
    if not is_missing(summary.get("forecast.spend")):
        tiles.append(_foretold(segments, summary=summary, horizon_days=horizon_days))
    elif segments["spend_next"].notna().any():
        tiles.append(_expected(segments, horizon_days=horizon_days))
    elif "active rate" in known.index:
        tiles.append(("Active lately", share(known.loc["active rate", "value"]), "of all known, in the last horizon"))
    tested = segments[segments["verdict"] != "not tested"]
    if len(tested):
        held = int(tested["verdict"].isin(HOLD).sum())
        agreed = summary.get("stability.ari_mean")
        note = "come back when all is repeated on other customers"
        note += f" (agreement {score(agreed)} of 1)" if agreed is not None else ""
        tiles.append(("How far to trust them", f"{held} of {len(tested)}", note))
    return tiles


def trust(summary: Mapping[str, Any]) -> str:
    """How good the segments are at telling apart who will spend what, in one sentence a marketer reads."""
    leads: dict[str, list[str]] = {"better than": [], "as well as": [], "less well than": []}
    measure = "active" if is_missing(summary.get("forward.spend_r2")) else "spend"
    for name, words in RIVALS.items():
        low, high = (summary.get(f"forward.{name}.{measure}_lead.{part}") for part in ("low", "high"))
        if not is_missing(low) and not is_missing(high):
            leads["better than" if low > 0 else "less well than" if high < 0 else "as well as"].append(words)
    told = [f"{how} {joined(names)}" for how, names in leads.items() if names]
    if not told:
        reason = summary.get("forward.reason") or "it was not tested"
        return f"Whether they tell apart who will do what is not known yet: {reason}."
    who = "who will spend how much" if measure == "spend" else "who will come back"
    return f"Tested on months they had not seen, the segments tell apart {who} {', '.join(told)}."


def first_actions(segments: pd.DataFrame, *, horizon_days: int | None = None, most: int = FIRST) -> list[FirstAction]:
    """What to do first: segments that surely spend less come first, then those with most money in them.

    Takes  the table segments; unstable segments are left out; no kind of action comes twice while others are left
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
    return [_first(row, horizon_days=horizon_days) for row in ranked.head(most).to_dict("records")]


def changes(segments: pd.DataFrame, *, ledger: pd.DataFrame, moves: pd.DataFrame, as_of: str) -> list[str]:
    """What changed since the last run, a sentence each: of segments, of customers, and why.

    Takes  the table segments; ledger and moves, or None where the run has none

    Parameters
    ----------
    as_of : date of this run; the one before is the last date in the ledger
    """
    before = ledger.loc[ledger["as_of"] < as_of, "as_of"].max() if ledger is not None else None
    if is_missing(before):
        return ["This is the first run of this source: the next one will say what changed."]
    rows = ledger[ledger["as_of"] == as_of]
    names = segments.set_index("segment")["name"]
    told = [f"{count((rows['event'] == 'same').sum())} segments carry on from {before}."]
    for event, words in EVENTS.items():
        found = sorted(rows.loc[rows["event"] == event, "segment"].unique())
        if found:
            listed = joined([f"{names[s]} ({s})" if s in names.index else s for s in found])
            told.append(f"{listed} {words[len(found) > 1]}.")
    return [*told, *(_moved(moves) if moves is not None else [])]


def where_to_read(made: Iterable[str]) -> list[tuple[str, str, str]]:
    """The other pages and what each answers: (page, name, question).

    Takes  the notebooks that a run holds tables of
    """
    return [(f"{step}.html", one.label, one.question) for step, one in notebooks().items() if step in set(made)]


def how_sure(summary: Mapping[str, Any]) -> list[str]:
    """One sentence each on foresight, rivals, stability and the map's noise."""
    found = summary.get("segments.found_as_of")
    told = [f"The proof is of {found}, when the segments were found: they were kept since." if found else ""]
    told += [_foresight(summary), *(_rival(summary, name=n, words=w) for n, w in RIVALS.items())]
    told += [_stability(summary), _structure(summary)]
    noise = summary.get("segments.noise_share")
    if noise is not None:
        told.append(
            f"HDBSCAN left {share(noise)} of customers as noise; everyone was placed with the nearest segment. "
            f"What was found and what was placed agree at {figure(summary, 'segments.hdbscan_ari')} "
            f"(adjusted Rand index)."
        )
    return [sentence for sentence in told if sentence]


def _expected(segments: pd.DataFrame, *, horizon_days: int | None) -> tuple[str, str, str]:
    """Expected spend of all, with the range that holds if the errors of segments are not of one mind."""
    each, size = segments["spend_next"], segments["customers"]
    half = np.sqrt((((segments["spend_next_high"] - segments["spend_next_low"]) / 2 * size) ** 2).sum())
    total = float((each * size).sum())
    label = f"Expected, next {horizon_days} days" if horizon_days else "Expected next horizon"
    note = f"{number(total - half)} to {number(total + half)}"
    if segments["spend_now"].notna().all():
        note += f"; in the last {horizon_days or 'as many'} days it was {number((segments['spend_now'] * size).sum())}"
    return label, number(total), note


def _foretold(segments: pd.DataFrame, *, summary: Mapping[str, Any], horizon_days: int | None) -> tuple[str, str, str]:
    """Expected spend of all as the forecast has it, chance and season in its range."""
    label = f"Expected, next {horizon_days} days" if horizon_days else "Expected next horizon"
    note = f"{number(summary['forecast.spend.low'])} to {number(summary['forecast.spend.high'])}"
    if segments["spend_now"].notna().all():
        now = (segments["spend_now"] * segments["customers"]).sum()
        note += f"; in the last {horizon_days or 'as many'} days it was {number(now)}"
    return label, number(summary["forecast.spend"]), note


def _first(row: Mapping[str, Any], *, horizon_days: int | None) -> FirstAction:
    size = f"{count(row['customers'])} customers"
    if not is_missing(row["revenue_share"]):
        size += f", {share(row['revenue_share'])} of revenue"
    firm = "The segment was not tested."
    if not is_missing(row["stability"]):
        firm = f"The segment is {row['verdict']} (comes back in refits: {score(row['stability'])} of 1)."
    return FirstAction(
        row=row,
        why=_trend(row),
        size=f"{size}. {_outlook(row, horizon_days=horizon_days)}".strip(),
        do=_sentence(row["action"]),
        proof=f"{firm} Whether this pays is not known: try it on part of them.",
    )


def _trend(row: Mapping[str, Any]) -> str:
    now, low, high = row["spend_now"], row["spend_next_low"], row["spend_next_high"]
    if is_missing(now) or is_missing(low) or is_missing(high):
        return "Large"
    return "Cooling" if high < now else "Warming" if low > now else "Steady"


def _outlook(row: Mapping[str, Any], *, horizon_days: int | None) -> str:
    """What one of them is expected to spend, against lately, and what that makes for all of them."""
    now, then, low, high = (row[f"spend_{name}"] for name in ("now", "next", "next_low", "next_high"))
    if is_missing(then):
        return ""
    ahead = f"in {horizon_days} days" if horizon_days else "in the next horizon"
    each = f"{number(then)} each {ahead} ({number(low)} to {number(high)})" if not is_missing(low) else number(then)
    if is_missing(now) or is_missing(low) or low <= now <= high or now <= 0:
        return f"Expected to spend {each}, about as lately: {number(then * row['customers'])} in all."
    less = "less" if high < now else "more"
    return (
        f"Expected to spend {share(abs(then / now - 1))} {less} than lately: {each} instead of {number(now)}; "
        f"{number(abs(then - now) * row['customers'])} {less} in all."
    )


def _moved(moves: pd.DataFrame) -> list[str]:
    """How many customers stayed, moved of themselves, or were moved by the new definition."""
    both = moves[~moves["cause"].isin(("joined", "left"))]
    if both.empty:
        return []
    counts = both["cause"].value_counts().reindex(["stayed", "customer", "definition", "both"], fill_value=0)
    few = zip(counts.items(), hidden(counts), strict=True)
    part = {cause: FEW_WORDS if hide else share(size / len(both)) for (cause, size), hide in few}
    newly, left = (shown((moves["cause"] == cause).sum()) for cause in ("joined", "left"))
    return [
        f"Of {count(len(both))} customers in both runs, {part['stayed']} stayed where they were, {part['customer']} "
        f"moved because they changed, {part['definition']} because the definition did, {part['both']} because of both.",
        f"{newly} customers joined, {left} are no longer active.",
    ]


def _foresight(summary: Mapping[str, Any]) -> str:
    value = summary.get("forward.spend_r2")
    if value is None:
        return f"Whether they foresee anything is not known: {summary.get('forward.reason') or 'it was not tested'}."
    spend = figure(summary, "forward.spend_r2")
    mix = (
        f", and {figure(summary, 'forward.mix_r2', form=fine)} of what is bought"
        if summary.get("forward.mix_r2") is not None
        else ""
    )
    told = f"Segments made one horizon ago explain {spend} of the differences in what was spent since{mix}"
    return f"{told} (adjusted R², 95 %)."


def _rival(summary: Mapping[str, Any], *, name: str, words: str) -> str:
    told = []
    for measure, of in (("spend", "spend"), ("mix", "what is bought")):
        low, high = (summary.get(f"forward.{name}.{measure}_lead.{part}") for part in ("low", "high"))
        if not is_missing(low) and not is_missing(high):
            told.append(f"{'ahead' if low > 0 else 'behind' if high < 0 else 'level'} on {of}")
    return f"Against {words}: {', '.join(told)}." if told else ""


def _stability(summary: Mapping[str, Any]) -> str:
    if summary.get("stability.ari_mean") is None:
        return "Stability was not tested."
    return (
        f"Refitted on four fifths of the customers, the segments agree at {figure(summary, 'stability.ari_mean')} "
        f"(adjusted Rand index: 1 is the same, 0 is chance)."
    )


def _structure(summary: Mapping[str, Any]) -> str:
    found, reference = summary.get("structure.found"), summary.get("structure.reference_ari")
    if found is None:
        return ""
    against = f"the same search on shuffled customers without structure reaches {score(reference)} (95th percentile)"
    if found:
        return f"There is structure: {against}, and these segments come back more surely."
    return f"No structure beyond chance: {against}. The segments are useful cuts through a continuum, not groups apart."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
