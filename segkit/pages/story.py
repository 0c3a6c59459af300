"""Sentences that a page says of its run: computed from the tables, so that next week's run does not make them false."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from segkit.numbers import NOTHING, count, fine, interval, number, score, share
from segkit.small_groups import hidden, shown, shown_counts
from segkit.tables import titles
from segkit.templates import text
from segkit.vocabulary import BLOCKS

CAUSES = {
    "stayed": "stayed where they were",
    "customer": "moved: they changed",
    "definition": "moved: the definition changed",
    "both": "moved: both changed",
    "joined": "not there at the last run",
    "left": "no longer active",
}


def profile_tiles(profile: pd.DataFrame, kpis: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The size of the data, and how alive it is."""
    value, figure = profile.set_index("item")["value"], kpis.set_index("kpi")
    active = interval(*figure.loc["active rate", ["value", "value_low", "value_high"]], form=share)
    return [
        ("Customers", count(value["customers with events of their own"]), "before as_of"),
        ("To be segmented", count(value["active in the lookback"]), "active in the lookback"),
        ("History", count(value["days of history"]), "days"),
        ("Active lately", active, "of all known, in the last horizon"),
    ]


def baseline_shown(kpis: pd.DataFrame) -> pd.DataFrame:
    """The KPI baseline with each value and its interval as text."""
    shown = [interval(r.value, r.value_low, r.value_high, form=_form(r.unit)) for r in kpis.itertuples()]
    return kpis.assign(shown=shown)


def profile_shown(profile: pd.DataFrame) -> pd.DataFrame:
    """The profile with each value as text in the form of its unit."""
    return profile.assign(shown=[_form(r.unit)(r.value) for r in profile.itertuples()])


def shares_shown(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Shares with their intervals as text: for each name the columns <name>, <name>_low and <name>_high in one."""
    parts = {name: table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False) for name in names}
    return table.assign(**{name: [interval(*row, form=share) for row in rows] for name, rows in parts.items()})


def lifecycle_shown(lifecycle: pd.DataFrame) -> pd.DataFrame:
    """Customers by stage, counts and shares as text; small groups are hidden."""
    hides = hidden(lifecycle["customers"])
    table = shares_shown(lifecycle, "share")
    return table.assign(customers=shown_counts(lifecycle["customers"]), share=table["share"].mask(hides, NOTHING))


def traits_shown(traits: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """What sets segments apart beside their habits, with names, and each figure as text in the form of its unit."""
    rows = traits.merge(segments[["segment", "name"]], on="segment")
    forms = [_form(unit) for unit in rows["unit"]]
    return rows.assign(
        kind=rows["block"].map(BLOCKS),
        value=[form(value) for form, value in zip(forms, rows["value"], strict=True)],
        others=[form(value) for form, value in zip(forms, rows["others"], strict=True)],
        effect=[interval(r.effect, r.effect_low, r.effect_high) for r in rows.itertuples()],
    )


def needs_or_demographics(summary: Mapping[str, Any]) -> list[str]:
    """Whether needs or demographics foretell more, for each measure, with the lead and its interval."""
    sentences = []
    for measure, of in (("spend", "how much is spent"), ("mix", "what is bought")):
        name = f"blocks.needs_or_demographics.{measure}"
        known = summary.get(f"{name}_lead") is not None
        sentences.append(
            text(
                "segments",
                "needs_or_demographics",
                of=of,
                verdict=summary[name] if known else "",
                lead=figure(summary, f"{name}_lead") if known else "",
                reason=summary.get(f"{name}.reason") or summary.get("blocks.reason"),
            )
        )
    return sentences


def ledger_shown(ledger: pd.DataFrame, segments: pd.DataFrame, *, as_of: str) -> pd.DataFrame:
    """The ledger's rows of one run, with the names of the segments that are there."""
    rows = ledger[ledger["as_of"] == as_of].sort_values("segment", ignore_index=True)
    rows = rows.assign(
        name=rows["segment"].map(segments.set_index("segment")["name"]).fillna(""),
        overlap=rows["overlap"].map(score),
        customers_after=rows["customers_after"].map(shown),
    )
    headings = titles("ledger")
    return rows[list(headings)].rename(columns=headings)


def moves_shown(moves: pd.DataFrame) -> pd.DataFrame:
    """How many customers stayed, moved because they changed, or because the definition did."""
    counts = moves["cause"].value_counts().reindex(CAUSES, fill_value=0)
    table = counts.rename_axis("cause").rename("customers").reset_index()
    parts = (table["customers"] / max(len(moves), 1)).map(share)
    table["share"] = parts.mask(hidden(counts), NOTHING)
    table["customers"] = shown_counts(counts)
    table["cause"] = table["cause"].map(CAUSES)
    return table.rename(columns=str.capitalize)


def carried_said(moves: pd.DataFrame, *, since: str, found: str, reread_reason: str) -> list[str]:
    """What a run under standing segments did, a sentence each.

    Takes  moves of its customers; since: date of the last run; found: date on which the segments were found; anew: why
           all of history was read again, or ""
    """
    both = moves[~moves["cause"].isin(("joined", "left"))]
    stayed = (both["cause"] == "stayed").mean() if len(both) else None
    return [
        text("segments", "standing", found=found),
        text("segments", "stayed", customers=len(both), part=stayed),
        text("segments", "read_again", since=since, reason=reread_reason),
    ]


def foresight_headline(table: pd.DataFrame) -> str:
    """What can be foreseen, in one sentence."""
    return text("segments", "foresight", outcomes=table.to_dict("records"))


def rivals_shown(baselines: pd.DataFrame) -> pd.DataFrame:
    """The rivals with each score and its interval as text."""
    shown = {
        m: [
            interval(v, low, high, form=fine if m == "mix" else score)
            for v, low, high in zip(baselines[f"{m}_r2"], baselines[f"{m}_low"], baselines[f"{m}_high"], strict=True)
        ]
        for m in ("spend", "mix", "active")
    }
    return baselines.assign(**shown)


def figure(summary: Mapping[str, Any], name: str, *, form: Callable[[float], str] = score) -> str:
    """A headline number with its interval, as text."""
    return interval(summary[name], summary.get(f"{name}.low"), summary.get(f"{name}.high"), form=form)


def _form(unit: str) -> Any:
    return {"share": share, "customers": count, "rows": count}.get(unit, number)
