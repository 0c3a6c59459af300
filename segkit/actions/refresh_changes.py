"""What changed in each persona since the last run: size, main figure, need, signs, next action."""

import numpy as np
import pandas as pd

from segkit.data.store import Run
from segkit.numbers import by_unit, interval
from segkit.small_groups import shown

SIGNS = 4  # of the strongest that are compared; far ones change places by chance
FIGURES = ("spend per customer", "active rate")  # of the baseline, the first that is known
CHANGES = [
    "segment",
    "name",
    "became",
    "customers_before",
    "customers_after",
    "kpi",
    *(f"{side}{part}" for side in ("kpi_before", "kpi_after") for part in ("", "_low", "_high")),
    "words",
]


def persona_changes(run: Run, previous: Run | None) -> pd.DataFrame:
    """Each segment of this run beside the last, and those that are gone.

    Takes  two runs with segments, needs, signals and ledger, and starting_values where measured; None at a first run
    Gives  segment, name, became (of the ledger), customers and the main figure with its 95 % interval then and now
           (null where a run lacks them), words: what changed, in sentences
    """
    if previous is None:
        return pd.DataFrame([], columns=CHANGES)
    before, after = (one.table("segments").set_index("segment") for one in (previous, run))
    ledger = run.table("ledger")
    became = ledger[ledger["as_of"] == run.parameters()["as_of"]].drop_duplicates("segment").set_index("segment")
    figures = [_baseline(one) for one in (previous, run)]
    signs = [_signs(one) for one in (previous, run)]
    rows = []
    for segment in sorted({*before.index, *after.index}):
        then, now = (_row(table, segment) for table in (before, after))
        row = {"segment": segment, "name": (now or then)["name"], "became": _became(became, segment, now=now)}
        row["customers_before"], row["customers_after"] = ((one or {}).get("customers", 0) for one in (then, now))
        kpis = [_row(table, segment) for table in figures]
        row["kpi"] = next((one["kpi"] for one in reversed(kpis) if one), "")
        for side, one in zip(("kpi_before", "kpi_after"), kpis, strict=True):
            same = one if one and one["kpi"] == row["kpi"] else {}
            row |= {f"{side}{part}": same.get(f"value{part}", np.nan) for part in ("", "_low", "_high")}
        words = _words(then, now, kpis, [one.get(segment, []) for one in signs])
        rows.append(row | {"words": words})
    return pd.DataFrame(rows, columns=CHANGES)


def _row(table: pd.DataFrame, segment: str) -> dict | None:
    return table.loc[segment].to_dict() if segment in table.index else None


def _became(became: pd.DataFrame, segment: str, *, now: dict | None) -> str:
    if segment in became.index:
        return str(became.loc[segment, "event"])
    return "same" if now else "died"


def _baseline(run: Run) -> pd.DataFrame:
    """The main figure of each segment, where it was measured."""
    if not run.has("starting_values"):
        return pd.DataFrame(columns=["kpi", "value", "value_low", "value_high", "unit"])
    table = run.table("starting_values")
    kpi = next((name for name in FIGURES if (table["kpi"] == name).any()), "")
    return table[table["kpi"] == kpi].set_index("segment")


def _signs(run: Run) -> dict[str, list[str]]:
    """The strongest signs of each segment, in words."""
    table = run.table("signals") if run.has("signals") else pd.DataFrame(columns=["segment", "words"])
    return {str(name): rows["words"].tolist() for name, rows in table.groupby("segment")}


def _words(then: dict | None, now: dict | None, kpis: list[dict | None], signs: list[list[str]]) -> str:
    if now is None:
        return f"It is gone; it held {shown(then['customers'])} customers."
    if then is None:
        return f"It is new, with {shown(now['customers'])} customers."
    sentences = []
    if then["name"] != now["name"]:
        sentences.append(f"It was called {then['name']}.")
    for column, words in (("need", "Its need was: {}."), ("action", "Next action was: {}.")):
        if column in then and then[column] != now.get(column):
            sentences.append(words.format(str(then[column]).rstrip(".")))
    new_signs = [word for word in signs[1][:SIGNS] if word not in signs[0][: 2 * SIGNS]]
    went = [word for word in signs[0][:SIGNS] if word not in signs[1][: 2 * SIGNS]]
    sentences += [f"New sign: {', '.join(new_signs)}."] if new_signs else []
    sentences += [f"No longer a sign: {', '.join(went)}."] if went else []
    sentences += _moved(*kpis)
    return " ".join(sentences) or "As before."


def _moved(then: dict | None, now: dict | None) -> list[str]:
    """The main figure, where the two intervals do not touch."""
    if not then or not now or then["kpi"] != now["kpi"]:
        return []
    if then["value_low"] <= now["value_high"] and now["value_low"] <= then["value_high"]:
        return []
    form = by_unit(now["unit"])
    ranges = [interval(one["value"], one["value_low"], one["value_high"], form=form) for one in (now, then)]
    way = "up" if now["value"] > then["value"] else "down"
    return [f"{now['kpi'].capitalize()} went {way}: {ranges[0]}, was {ranges[1]}."]
