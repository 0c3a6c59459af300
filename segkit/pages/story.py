"""Sentences that a page says of its run: computed from the tables, so that next week's run does not make them false."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from segkit.numbers import count, fine, interval, is_missing, number, score, share
from segkit.vocabulary import BLOCKS

LEDGER_HEADINGS = {
    "segment": "Segment",
    "name": "Name",
    "event": "What became of it",
    "other": "From or into",
    "overlap": "Overlap",
    "customers_after": "Customers",
}
MANY = 3  # segments named in a headline
CAUSES = {
    "stayed": "stayed where they were",
    "customer": "moved: they changed",
    "definition": "moved: the definition changed",
    "both": "moved: both changed",
    "joined": "not there at the last run",
    "left": "no longer active",
}


def overview_headline(segments: pd.DataFrame) -> str:
    """What was found, in one sentence."""
    total = f"{len(segments)} segments describe {count(segments['customers'].sum())} customers"
    if segments["revenue_share"].notna().any():
        top = segments["revenue_share"].nlargest(MANY)
        total += f"; {len(top)} of them carry {share(top.sum())} of revenue"
    cooling = int((segments["spend_next_high"] < segments["spend_now"]).sum())
    return f"{total}; {cooling} {'is' if cooling == 1 else 'are'} cooling." if cooling else f"{total}."


def how_sure(summary: Mapping[str, Any]) -> list[str]:
    """One sentence each on foresight, rivals, stability and the map's noise."""
    told = [
        _foresight(summary),
        *(_rival(summary, name=n, words=w) for n, w in RIVALS.items()),
        _stability(summary),
        _structure(summary),
    ]
    noise = summary.get("segments.noise_share")
    if noise is not None:
        told.append(
            f"HDBSCAN left {share(noise)} of customers as noise; everyone was placed with the nearest segment. "
            f"What was found and what was placed agree at {_range(summary, 'segments.hdbscan_ari')} "
            f"(adjusted Rand index)."
        )
    return [sentence for sentence in told if sentence]


def do_first(segments: pd.DataFrame, *, most: int = 3) -> list[str]:
    """The actions with most money in them: the largest expected change of spend, and how firm it is."""
    table = segments[segments["verdict"] != "unstable"]
    change = (table["spend_next"] - table["spend_now"]) * table["customers"]
    if change.notna().any():
        order = change.abs().sort_values(ascending=False, kind="stable").index[:most]
    else:
        order = table["customers"].sort_values(ascending=False, kind="stable").index[:most]
    return [_action(row) for row in table.loc[order].to_dict("records")]


RIVALS = {"rfm25": "recency and frequency", "kmeans": "KMeans on behaviour", "demographic": "demographics"}


def _foresight(summary: Mapping[str, Any]) -> str:
    value = summary.get("forward.spend_r2")
    if value is None:
        return f"Whether they foresee anything is not known: {summary.get('forward.reason') or 'it was not tested'}."
    spend = _range(summary, "forward.spend_r2")
    mix = (
        f", and {_range(summary, 'forward.mix_r2', form=fine)} of what is bought"
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
        f"Refitted on four fifths of the customers, the segments agree at {_range(summary, 'stability.ari_mean')} "
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


def _range(summary: Mapping[str, Any], name: str, *, form: Callable[[float], str] = score) -> str:
    return interval(summary[name], summary.get(f"{name}.low"), summary.get(f"{name}.high"), form=form)


def _action(row: Mapping[str, Any]) -> str:
    size = f"{count(row['customers'])} customers"
    if is_missing(row["spend_next"]):
        return f"{row['name']}: {row['action']} ({size})."
    spend = interval(row["spend_next"], row["spend_next_low"], row["spend_next_high"], form=number)
    return f"{row['name']}: {row['action']} ({size}; expected spend each {spend}, now {number(row['spend_now'])})."


def overview_tiles(
    segments: pd.DataFrame, *, kpis: pd.DataFrame, summary: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Customers, revenue, what is expected next, and how far to trust it."""
    figure = kpis.set_index("kpi")
    tiles = [("Customers", count(segments["customers"].sum()), "active in the lookback")]
    if segments["revenue"].notna().any():
        tiles.append(("Revenue", number(segments["revenue"].sum()), "in the lookback, net of returns"))
    if segments["spend_next"].notna().any():
        low, middle, high = ((segments[f"spend_next{p}"] * segments["customers"]).sum() for p in ("_low", "", "_high"))
        tiles.append(
            ("Expected next horizon", number(middle), f"{number(low)} to {number(high)}, if segments do as before")
        )
    elif "active rate" in figure.index:
        tiles.append(("Active lately", share(figure.loc["active rate", "value"]), "of all known, in the last horizon"))
    if summary.get("stability.ari_mean") is not None:
        tiles.append(("Stability", score(summary["stability.ari_mean"]), "agreement of refits; 1 is the same"))
    return tiles


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
    told = []
    for measure, of in (("spend", "how much is spent"), ("mix", "what is bought")):
        name = f"blocks.needs_or_demographics.{measure}"
        if summary.get(f"{name}_lead") is None:
            why = summary.get(f"{name}.reason") or summary.get("blocks.reason") or "it was not tested"
            told.append(f"Needs or demographics, for {of}: cannot tell ({why}).")
        else:
            told.append(
                f"Needs or demographics, for {of}: {summary[name]} (lead in R² {_range(summary, f'{name}_lead')})."
            )
    return told


def ledger_shown(ledger: pd.DataFrame, segments: pd.DataFrame, *, as_of: str) -> pd.DataFrame:
    """The ledger's rows of one run, with the names of the segments that are there."""
    rows = ledger[ledger["as_of"] == as_of].sort_values("segment", ignore_index=True)
    rows = rows.assign(
        name=rows["segment"].map(segments.set_index("segment")["name"]).fillna(""), overlap=rows["overlap"].map(score)
    )
    return rows[list(LEDGER_HEADINGS)].rename(columns=LEDGER_HEADINGS)


def moves_shown(moves: pd.DataFrame) -> pd.DataFrame:
    """How many customers stayed, moved because they changed, or because the definition did."""
    counts = moves["cause"].value_counts().reindex(CAUSES, fill_value=0)
    table = counts.rename_axis("cause").rename("customers").reset_index()
    table["share"] = (table["customers"] / max(len(moves), 1)).map(share)
    table["cause"] = table["cause"].map(CAUSES)
    return table.rename(columns=str.capitalize)


def foresight_headline(table: pd.DataFrame) -> str:
    """What can be foreseen, in one sentence."""
    if table.empty:
        return "Nothing could be learnt about the future: history is too short. The map shows balanced behaviour."
    told = [f"{interval(r.r2, r.low, r.high, form=share)} of {r.outcome}" for r in table.itertuples()]
    return f"Of the differences between customers, habits foretell {', '.join(told)}."


def rivals_shown(rivals: pd.DataFrame) -> pd.DataFrame:
    """The rivals with each score and its interval as text."""
    shown = {
        m: [
            interval(v, low, high, form=fine if m == "mix" else score)
            for v, low, high in zip(rivals[f"{m}_r2"], rivals[f"{m}_low"], rivals[f"{m}_high"], strict=True)
        ]
        for m in ("spend", "mix", "active")
    }
    return rivals.assign(**shown)


def _form(unit: str) -> Any:
    return {"share": share, "customers": count, "rows": count}.get(unit, number)
