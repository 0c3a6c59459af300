"""Every table that passes from one step to the next: its columns, types and units.

A table is checked once, when it is written to a run folder. Columns beyond the named ones are allowed where a
schema says so (features differ by what the data carries); a missing or mistyped one is refused by name.
Shares are 0-1, money is in the currency of the source, days are local dates, scores are written with their interval
(`_low`, `_high`: 95 %).
"""

import pandas as pd
import pandera.pandas as pa

from segkit.errors import SchemaError
from segkit.schema_columns import NOT_NEGATIVE, SEGMENT_ID, SHARE
from segkit.schema_columns import number as _number
from segkit.schema_columns import ranged as _ranged
from segkit.schema_columns import scores as _scores
from segkit.schema_columns import text as _text
from segkit.schema_columns import whole as _whole
from segkit.schema_predict import FORECAST

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    **FORECAST,
    "features": pa.DataFrameSchema({"customer_id": _text(unique=True)}, strict=False),
    "anticipation": pa.DataFrameSchema({"customer_id": _text(unique=True), "axis_1": _number()}, strict=False),
    "dormant": pa.DataFrameSchema(
        {
            "customer_id": _text(unique=True),
            "last_day": pa.Column("datetime64[us]", coerce=True),
            "silent_days": _whole(NOT_NEGATIVE),
        },
        strict=False,
    ),
    "assignments": pa.DataFrameSchema(
        {
            "customer_id": _text(unique=True),
            "segment": _text(SEGMENT_ID),
            "macro_segment": _text(),
            "confidence": _number(SHARE),
            "core": pa.Column(bool),
            "x": _number(),
            "y": _number(),
        },
        strict=True,
        ordered=True,
    ),
    "segments": pa.DataFrameSchema(
        {
            "segment": _text(SEGMENT_ID, unique=True),
            "name": _text(unique=True),
            "macro_segment": _text(),
            "customers": _whole(NOT_NEGATIVE),
            "customer_share": _number(SHARE),
            "revenue": _number(nullable=True),
            "revenue_share": _number(nullable=True),
            "margin": _number(nullable=True),
            "orders": _whole(NOT_NEGATIVE),
            **_ranged("stability", SHARE),
            "verdict": _text(pa.Check.isin(["natural", "reproducible", "constructed", "unstable", "not tested"])),
            **_ranged("active_share_next", SHARE),
            **_ranged("spend_next"),
            "spend_now": _number(nullable=True),
            "need": _text(),
            "action": _text(),
        },
        strict=False,
    ),
    "rivals": pa.DataFrameSchema(
        {
            "rival": _text(unique=True),
            "label": _text(),
            "segments": _whole(NOT_NEGATIVE),
            "customers": _whole(NOT_NEGATIVE),
            **_scores("spend", "mix", "active"),
            "verdict": _text(),
        },
        strict=False,
    ),
    "blocks": pa.DataFrameSchema(
        {
            "block": _text(),
            "label": _text(),
            "measure": _text(pa.Check.isin(["spend", "mix", "active"])),
            "customers": _whole(NOT_NEGATIVE),
            **{f"alone_{part}": _number(nullable=True) for part in ("r2", "low", "high")},
            **_ranged("adds"),
        },
        strict=True,
        unique=["block", "measure"],
    ),
    "frontier": pa.DataFrameSchema(
        {
            "segments": _whole(NOT_NEGATIVE),
            "spend_r2": _number(nullable=True),
            "mix_r2": _number(nullable=True),
            "stability": _number(nullable=True),
            "smallest_share": _number(SHARE),
            "chosen": pa.Column(bool),
        },
        strict=False,
    ),
    "activity": pa.DataFrameSchema(
        {
            "month": pa.Column("datetime64[us]", coerce=True),
            "event": _text(),
            "events": _whole(NOT_NEGATIVE),
            "customers": _whole(NOT_NEGATIVE),
        },
        strict=True,
    ),
    "profile": pa.DataFrameSchema(
        {"section": _text(), "item": _text(), "value": _number(nullable=True), "unit": _text(), "words": _text()},
        strict=True,
    ),
    "kpis": pa.DataFrameSchema(
        {
            "kpi": _text(unique=True),
            **_ranged("value"),
            "unit": _text(),
            "start": _text(),
            "end": _text(),
        },
        strict=False,
    ),
    "signals": pa.DataFrameSchema(
        {
            "segment": _text(SEGMENT_ID),
            "feature": _text(),
            "words": _text(),
            "unit": _text(),
            "value": _number(),
            "others": _number(),
            **_ranged("effect"),
        },
        strict=False,
    ),
    "personas": pa.DataFrameSchema(
        {"segment": _text(SEGMENT_ID, unique=True), "name": _text(unique=True)}, strict=False
    ),
    "rules": pa.DataFrameSchema(
        {
            "segment": _text(SEGMENT_ID),
            "condition": _whole(NOT_NEGATIVE),
            "item": _text(),
            "words": _text(),
            "unit": _text(),
            "at_least": _number(nullable=True),
            "below": _number(nullable=True),
            "good": pa.Column(bool, coerce=True),
            **_ranged("precision", SHARE),
            **_ranged("recall", SHARE),
        },
        strict=True,
        unique=["segment", "condition"],
    ),
    "points": pa.DataFrameSchema(
        {"score": _text(), "words": _text(), "item": _text(), "at_least": _number(), "points": _whole()}, strict=True
    ),
    "copy": pa.DataFrameSchema(
        {
            "segment": _text(SEGMENT_ID),
            "slot": _text(),
            "tone": _text(),
            "text": _text(),
            "writer": _text(pa.Check.isin(["template", "model"])),
            "why": _text(),
            "forms": _text(),
        },
        strict=True,
        unique=["segment", "slot"],
    ),
    "sides": pa.DataFrameSchema(
        {"grouping": _text(), "reading": _text(), **_ranged("wrong", SHARE), "fewer_wrong": _number(nullable=True)},
        strict=False,
    ),
    "gaps": pa.DataFrameSchema({"segment": _text(SEGMENT_ID), "term": _text(), **_ranged("gap")}, strict=False),
    "topics": pa.DataFrameSchema(
        {"segment": _text(SEGMENT_ID), "topic": _text(), "share": _number(SHARE)}, strict=False
    ),
    "ledger": pa.DataFrameSchema(
        {
            "as_of": _text(),
            "segment": _text(SEGMENT_ID),
            "event": _text(pa.Check.isin(["born", "same", "split", "merged", "died"])),
            "other": _text(),
            "overlap": _number(SHARE, nullable=True),
            "customers_before": _whole(NOT_NEGATIVE),
            "customers_after": _whole(NOT_NEGATIVE),
        },
        strict=True,
    ),
    "moves": pa.DataFrameSchema(
        {
            "customer_id": _text(unique=True),
            "before": _text(SEGMENT_ID, nullable=True),
            "standing": _text(SEGMENT_ID, nullable=True),
            "after": _text(SEGMENT_ID, nullable=True),
            "cause": _text(),
        },
        strict=True,
    ),
    "baseline": pa.DataFrameSchema(
        {
            "segment": _text(),
            "kpi": _text(),
            **_ranged("value"),
            "unit": _text(),
            "customers": _whole(NOT_NEGATIVE),
            "start": _text(),
            "end": _text(),
        },
        strict=True,
        unique=["segment", "kpi"],
    ),
    "experiment": pa.DataFrameSchema(
        {
            "segment": _text(unique=True),
            "kpi": _text(),
            "treated": _whole(NOT_NEGATIVE),
            "control": _whole(NOT_NEGATIVE),
            **_ranged("lift"),
            **_ranged("return_total"),
            "verdict": _text(pa.Check.isin(["scale", "go on", "stop", "cannot tell", "not read yet"])),
        },
        strict=False,
    ),
    "decisions": pa.DataFrameSchema(
        {
            **{name: _text() for name in ("as_of", "since", "segment", "decision", "measure", "reason", "acted")},
            "scope": _text(pa.Check.isin(["run", "segment", "campaign"])),
            **{name: _number(nullable=True) for name in ("value", "low", "high", "limit")},
        },
        strict=True,
        unique=["as_of", "scope", "segment", "decision"],
    ),
    "facts": pa.DataFrameSchema(
        {
            "fact": _text(unique=True),
            "segment": _text(),
            "value": _number(nullable=True),
            "text": _text(nullable=True),
            "unit": _text(),
            "how": _text(),
        },
        strict=True,
    ),
}


def check(table: pd.DataFrame, *, name: str) -> None:
    """Hold a table against its schema; tables without one need only distinct text column names.

    Takes  any table about to be written
    Gives  nothing: the table is fit to be written as it is

    Raises
    ------
    SchemaError : names the table, the column, what was found and how often
    """
    repeated = sorted({str(c) for c in table.columns[table.columns.duplicated()]})
    if repeated or not all(isinstance(c, str) for c in table.columns):
        raise SchemaError(f"{name}: column names must be distinct text; repeated: {repeated}.")
    if name not in SCHEMAS:
        return
    try:
        SCHEMAS[name].validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise SchemaError(_first_failure(error.failure_cases, name=name, rows=len(table))) from None


def _first_failure(cases: pd.DataFrame, *, name: str, rows: int) -> str:
    """One sentence for the first column that fails: which, what was found, in how many rows."""
    first = cases.iloc[0]
    if first["check"] in ("column_in_dataframe", "column_in_schema"):
        state = "is missing" if first["check"] == "column_in_dataframe" else "is not one of its columns"
        return f"{name}: column '{first['failure_case']}' {state}."
    column = first["column"] if isinstance(first["column"], str) else first["failure_case"]
    same = cases[(cases["column"] == first["column"]) & (cases["check"] == first["check"])]
    found = sorted({str(v) for v in same["failure_case"]})[:3]
    return f"{name}: column '{column}' fails {first['check']}: found {found} ({len(same):,} of {rows:,} rows)."
