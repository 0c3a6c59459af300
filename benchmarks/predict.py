"""Forecasts beside their rivals, out of time: who comes back, how many orders, how much spend, on two retailers.

usage: python benchmarks/predict.py [--data DIR] [--only NAME]
DIR holds online_retail.parquet (../shared/data by default); without it that set is left out, and said so.
"""

import argparse
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from segments import HOME, SETS, load

from segkit.actions.predict_backtest import drift_figures, leads_shown, score_trials, trials_of
from segkit.actions.predict_known import lessons_of
from segkit.customers.features import customer_signals
from segkit.segments.past import past_of

SHOWN = ("label", "value", "low", "high", "lead", "lead_low", "lead_high", "verdict")


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
        as_of = origin + timedelta(days=horizon)  # what came is judged: the forecast is of one horizon before
        span = {"as_of": as_of, "lookback_days": lookback, "horizon_days": horizon, "kinds": opened.kinds}
        now, past = customer_signals(days, **span_of(span)), past_of(days, **span)
        lessons = lessons_of(days, past, now, **span, origins=1)
        start = time.process_time()
        trials = trials_of(lessons)
        learnt = time.process_time() - start
        scores = leads_shown(score_trials(trials))
        customers = int(scores["customers"].iloc[0])
        print(f"\n{name}, as of {origin}, {lookback} / {horizon} days, {customers:,} customers, {learnt:.1f} CPU-s to learn")
        for figure, value in drift_figures(trials).items():
            print(f"{figure} {value:.3f}", end="; ")
        for (target, measure), rows in scores.groupby(["target", "measure"], sort=False):
            print(f"\n{target} {measure}\n{table(rows)}")


def span_of(span: dict[str, object]) -> dict[str, object]:
    return {name: span[name] for name in ("as_of", "lookback_days", "kinds")}


def table(rows: pd.DataFrame) -> str:
    return rows[list(SHOWN)].round(4).to_string(index=False)


if __name__ == "__main__":
    main()
