"""The tables of the forecast: columns, types and units; `segkit.schema` holds all tables."""

import pandera.pandas as pa

from segkit.schema_columns import NOT_NEGATIVE, SEGMENT_ID, SHARE, number, ranged, text, whole

FORECAST: dict[str, pa.DataFrameSchema] = {
    "predictions": pa.DataFrameSchema(
        {
            "customer_id": text(unique=True),
            **{name: number(SHARE, nullable=True) for name in ("active_chance", "move_chance", "next_category_chance")},
            **ranged("orders", NOT_NEGATIVE),
            **{f"spend_{of}": number(NOT_NEGATIVE, nullable=True) for of in ("mean", "median", "low", "high")},
            "value_12m": number(NOT_NEGATIVE, nullable=True),
            "next_category": text(nullable=True),
        },
        strict=False,
    ),
    "predicted_segments": pa.DataFrameSchema(
        {
            "segment": text(unique=True),
            "customers": whole(NOT_NEGATIVE),
            **ranged("active_share", SHARE),
            **ranged("move_share", SHARE),
            **ranged("orders", NOT_NEGATIVE),
            **ranged("spend", NOT_NEGATIVE),
        },
        strict=False,
    ),
    "prediction_backtest": pa.DataFrameSchema(
        {
            "target": text(pa.Check.isin(["active", "orders", "spend"])),
            "measure": text(pa.Check.isin(["auc", "ece", "brier", "mae", "total", "coverage"])),
            "forecaster": text(),
            **{name: number(nullable=True) for name in ("value", "low", "high")},
            **ranged("lead"),
        },
        strict=False,
        unique=["target", "measure", "forecaster"],
    ),
    "drivers": pa.DataFrameSchema(
        {"segment": text(), "feature": text(), "lost_above": number(SHARE), "lost_below": number(SHARE)}
        | ranged("effect"),
        strict=False,
    ),
    "offers": pa.DataFrameSchema(
        {"segment": text(SEGMENT_ID), "kind": text(pa.Check.isin(["cross-sell", "up-sell"])), "term": text()}
        | ranged("share", SHARE)
        | {"more": pa.Column(bool, coerce=True)},
        strict=False,
        unique=["segment", "kind", "term"],
    ),
}
