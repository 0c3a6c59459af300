"""The runs of a source one after the other: headline numbers, forecasts against what came, segments through time."""

from collections.abc import Sequence

import pandas as pd

from segkit.customers.days import Days, load_days
from segkit.data.runs import Run
from segkit.experiments.estimate import kpi_values
from segkit.format import hidden_segments
from segkit.period import Period
from segkit.vocabulary import EVERYONE

KPI_COLUMNS = {  # column of the history -> KPI of a run
    "revenue": "revenue, net of returns",
    "orders_each": "orders per active customer",
    "active_share": "active rate",
}
RANGED = ("expected", "active_share", "stability")  # columns with _low and _high
HISTORY = [
    *("as_of", "folder", "customers", "revenue", "orders_each", "segments", "verdict", "kpi", "actual", "held"),
    *(f"{name}{end}" for name in RANGED for end in ("", "_low", "_high")),
]


def run_history(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the headline numbers of runs, and what came of their forecasts.

    Parameters
    ----------
    runs
        Finished runs of one source, the earliest first. The days of the last one say what came after the others.

    Returns
    -------
    DataFrame
        A row for each run, in their order: ``as_of, folder, customers`` (with a segment), ``revenue`` (of the last
        horizon), ``orders_each, active_share, segments, stability, verdict``; ``kpi`` (spend, or orders where there is
        no money), ``expected`` (of the customers with a segment in the next horizon, 95 % range), ``actual`` (of the
        same customers; missing until the horizon is over) and ``held`` (actual within the range). Numbers that a run
        lacks are missing.
    """
    newest = runs[-1]
    days = load_days(newest)
    rows = [_headline_numbers(run) | _forecast(run, days=days, newest=newest) for run in runs]
    return pd.DataFrame(rows).reindex(columns=HISTORY)


def segment_history(runs: Sequence[Run]) -> pd.DataFrame:
    """Collect the share of customers in each segment of each run.

    Returns
    -------
    DataFrame
        ``as_of, segment, name, customers, customer_share``; the share is missing where the page of the run hides it.
    """
    parts = []
    for run in runs:
        table = run.table("segments")[["segment", "name", "customers", "customer_share"]]
        hidden = table["segment"].isin(hidden_segments(table))
        table = table.assign(as_of=run.parameters()["as_of"])
        parts.append(table.assign(customer_share=table["customer_share"].mask(hidden)))
    return pd.concat(parts, ignore_index=True)[["as_of", "segment", "name", "customers", "customer_share"]]


def _headline_numbers(run: Run) -> dict[str, object]:
    segments, summary = run.table("segments"), run.summary()
    kpis = run.table("kpis").set_index("kpi")
    row = {"as_of": run.parameters()["as_of"], "folder": run.path.name, "customers": int(segments["customers"].sum())}
    for name, kpi in KPI_COLUMNS.items():
        if kpi in kpis.index:
            row |= {name: kpis.loc[kpi, "value"]}
            row |= {f"{name}{end}": kpis.loc[kpi, f"value{end}"] for end in ("_low", "_high")}
    row |= {
        f"stability{end}": summary.get(f"stability.ari_mean{end.replace('_', '.')}") for end in ("", "_low", "_high")
    }
    return row | {"segments": len(segments), "verdict": summary.get("segments.verdict")}


def _forecast(run: Run, *, days: Days, newest: Run) -> dict[str, object]:
    """Read the forecast of a run for all its customers, and sum what they did once its horizon is over."""
    if not run.has("predicted_segments"):
        return {}
    whole = run.table("predicted_segments").set_index("segment").loc[EVERYONE]
    kpi = next((name for name in ("spend", "orders") if pd.notna(whole.get(name))), None)
    if kpi is None:
        return {}
    row = {"kpi": kpi, **{f"expected{end}": whole[f"{kpi}{end}"] for end in ("", "_low", "_high")}}
    period = run.period
    same_ids = run.parameters().get("pseudonyms", "") == newest.parameters().get("pseudonyms", "")
    if not same_ids or period.horizon_end > newest.period.as_of:
        return row
    actual = _observed(days, run=run, kpi=kpi, period=period)
    return row | {"actual": actual, "held": bool(whole[f"{kpi}_low"] <= actual <= whole[f"{kpi}_high"])}


def _observed(days: Days, *, run: Run, kpi: str, period: Period) -> float:
    customers = pd.Index(run.table("assignments")["customer_id"], name="customer_id")
    values = kpi_values(days, kpi=kpi, start=period.as_of, window_days=period.horizon_days, index=customers)
    return float(values.sum())
