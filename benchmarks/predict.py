"""Forecasts compared with baselines, out of time: who comes back, how many orders, how much spend, on two retailers.

usage: python benchmarks/predict.py [--data DIR] [--only NAME]
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
"""

import argparse
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from segments import HOME, SETS, load

from segkit.customers.features import customers_at
from segkit.forecast.backtest import backtest_origins, base_rate_metrics, score_forecasters, with_lead_verdicts
from segkit.forecast.model import make_training_sets
from segkit.period import Period
from segkit.segments.fit import build_training_windows

COLUMNS = {  # target, measure -> heading; a lead is by how much the forecast is better, with its 95 % interval
    ("active", "auc"): "AUC",
    ("active", "ece"): "ECE",
    ("active", "brier"): "Brier",
    ("orders", "mae"): "MAE of orders",
    ("spend", "mae"): "MAE of spend",
    ("orders", "coverage"): "orders in range",
    ("spend", "coverage"): "spend in range",
    ("orders", "total"): "sum of orders off",
    ("spend", "total"): "sum of spend off",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(HOME.parent / "shared" / "data"))
    parser.add_argument("--only", default=None)
    given = parser.parse_args()
    for name, (source, origin, lookback, horizon) in SETS.items():
        if given.only and given.only != name:
            continue
        data = None if name == "complete_journey" else given.data
        if data and not (Path(data) / f"{name}.parquet").is_file():
            print(f"{name}: left out, no {name}.parquet in {data}")
            continue
        days, opened, _ = load(source, data)
        as_of = origin + timedelta(days=horizon)  # what was observed is scored: the forecast is of one horizon before
        asked = {"period": Period(as_of, lookback_days=lookback, horizon_days=horizon), "kinds": opened.kinds}
        lessons = make_training_sets(customers_at(days, **asked), build_training_windows(days, **asked), origins=1)
        start = time.process_time()
        trials = backtest_origins(lessons)
        learnt = time.process_time() - start
        scores = with_lead_verdicts(score_forecasters(trials))
        customers = int(scores["customers"].iloc[0])
        print(f"\n{name}, as of {origin}, {lookback} / {horizon} days, {customers:,} customers, {learnt:.1f} CPU-s\n")
        print(markdown(scores))
        moved = base_rate_metrics(trials)
        for figure in ("active", "active_learnt", "active_observed", "spend_learnt", "spend_observed"):
            low, high = (moved[f"forecast.drift.{figure}.{end}"] for end in ("low", "high"))
            print(f"- drift, {figure}: {moved[f'forecast.drift.{figure}']:.3f} [{low:.3f}, {high:.3f}]")


def markdown(scores: pd.DataFrame) -> str:
    """A row for each forecaster; where it is a rival, the lead over it below its score."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for label, rows in scores.groupby("label", sort=False):
        by = rows.assign(measure_name=rows["measure"]).set_index(["target", "measure"])
        cells = [cell(by.loc[key]) if key in by.index else "" for key in COLUMNS]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(row: pd.Series) -> str:
    form = "{:.3f}" if abs(row["value"]) < 2 else "{:.2f}" if abs(row["value"]) < 20 else "{:.1f}"
    if pd.isna(row["lead"]) or row["measure_name"] in ("total", "coverage"):
        return form.format(row["value"])
    lead = " ".join(
        ["lead", form.format(row["lead"]), f"[{form.format(row['lead_low'])}, {form.format(row['lead_high'])}]"]
    )
    return f"{form.format(row['value'])}<br>{lead}"


if __name__ == "__main__":
    main()
