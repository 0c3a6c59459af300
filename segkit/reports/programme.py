"""What the whole programme brought against its holdout, in words and as a table."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pandas as pd

from segkit.experiments.programme import EARLY, FEW
from segkit.format import between, count, day, signed_percent, spread
from segkit.period import dates_text
from segkit.reports.wording import Wording, ranged
from segkit.templates import sentence, text
from segkit.vocabulary import EVERYONE


def describe_programme(table: pd.DataFrame, *, words: Wording) -> tuple[str, list[str], str]:
    """Describe what the programme brought: the answer, a sentence for each horizon of several, and how it is counted.

    `table`: the table ``programme``; empty without a holdout, of which nothing is said.
    """
    if table.empty:
        return "", [], ""
    rows = table.to_dict("records")
    whole = rows[-1]
    begun = date.fromisoformat(whole["start"]) < words.period.as_of
    facts = {"row": whole, "start": _day(whole["start"]), "end": _day(whole["end"]), "begun": begun}
    answer = text("overview", "programme", **facts, **_amounts(whole, words=words))
    if whole["verdict"] in (EARLY, FEW):
        return answer, [], ""
    parts = [row for row in rows if row["window"] != EVERYONE and len(rows) > 1]
    each = [
        text("overview", "programme_part", row=row, dates=_dates(row), **_amounts(row, words=words)) for row in parts
    ]
    return answer, each, text("overview", "programme_note", row=whole, parts=len(parts))


def describe_pooled(table: pd.DataFrame | None) -> list[str]:
    """Describe what earlier tests of each type of action brought, a sentence each; none without a test.

    `table`: the table ``pooled``, or None.
    """
    rows = [] if table is None else table.to_dict("records")
    return [
        sentence(
            "actions",
            "tested_kind",
            row=row,
            kind=sentence("actions", f"kinds.{row['type']}"),
            kpi=sentence("actions", f"kpi.{row['kpi']}"),
            effects=between(row["effect_low"], row["effect_high"], form=signed_percent),
        )
        for row in rows
    ]


def format_programme(table: pd.DataFrame, *, words: Wording) -> pd.DataFrame:
    """Format the table ``programme`` as text, a row for each horizon and one for all of them."""
    rows = table.to_dict("records")
    form = words.form(table["unit"].iloc[0])
    return pd.DataFrame(
        {
            "Time": ["All together" if r["window"] == EVERYONE else _dates(r) for r in rows],
            "May be contacted / held out": [f"{count(r['customers'])} / {count(r['held_out'])}" for r in rows],
            "May be contacted, each": [form(r["mean"]) for r in rows],
            "Held out, each": [form(r["held_out_mean"]) for r in rows],
            "Difference, each": [ranged(r["lift"], r["lift_low"], r["lift_high"], form=form) for r in rows],
            "Difference, in all": [
                ranged(r["total"], r["total_low"], r["total_high"], form=_total_form(r, words=words)) for r in rows
            ],
            "Detectable, each": [form(r["smallest_effect"]) for r in rows],
            "Verdict": [r["verdict"].capitalize() for r in rows],
        }
    )


def _amounts(row: Mapping[str, Any], *, words: Wording) -> dict[str, str]:
    """Write the difference, per customer and in all, and the smallest one that would show; both without their sign."""
    form, sign = words.form(row["unit"]), -1 if row["verdict"] == "loss" else 1
    lift = [sign * row[name] for name in ("lift", "lift_low", "lift_high")]
    total = [sign * row[name] for name in ("total", "total_low", "total_high")]
    return {
        "each": spread(lift[0], min(lift), max(lift), form=form),
        "total": spread(total[0], min(total), max(total), form=_total_form(row, words=words)),
        "smallest": form(row["smallest_effect"]),
    }


def _total_form(row: Mapping[str, Any], *, words: Wording) -> Any:
    return words.form("money") if row["unit"] == "money" else count


def _day(text: str) -> str:
    return day(date.fromisoformat(text))


def _dates(row: Mapping[str, Any]) -> str:
    return dates_text(date.fromisoformat(row["start"]), date.fromisoformat(row["end"]) + timedelta(days=1))
